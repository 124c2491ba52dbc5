//! The fold: entries → roles, homes, marks, proposals, receipts.
//!
//! A [`State`] is made of persistent maps, so a clone costs O(1) and readers keep the one they have.
//! Whatever is needed to judge the next command stands in the entries themselves; replaying the ledger from
//! its first entry gives the same state (promise 7 rests on that). `apply` cannot fail: an entry that makes no
//! sense here (a move of a name that is not there) changes as much as makes sense. It was refused before it
//! was written, so in debug builds such an entry is an assertion.
//!
//! *Version*: the `Seq` of the last entry that changed the name's roles, that is: which region is active, or which
//! regions have a role at all (`name-added`, a move, `region-removed`). Marks stand beside a role and are no part of it
//!, so `drain`, `undrain` and an `evacuate` that moves nothing leave the version alone: a mark
//! that matters to a pending change is caught by the gates, which are all tested again.

use super::receipts::{Receipts, Used};
use crate::model::{Body, Draft, Evidence, Finder, Fleet, Gate, Mono, Move, Name, NameMap, Now, ProposalEnd, RegionId, Seq};
use imbl::OrdMap;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Everything that was decided. A fold over the ledger; a clone costs O(1).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The last entry applied.
    seq: Seq,
    /// The steered names that are configured.
    names: NameMap<Arc<NameState>>,
    /// Regions with the region's mark, with the entry that set it.
    evacuated: OrdMap<RegionId, Seq>,
    /// The open proposals.
    proposals: OrdMap<u64, Arc<Proposal>>,
    /// The highest proposal number ever given.
    proposal_last: u64,
    /// Request ids and what each was used for.
    receipts: Receipts,
    /// SHA-256 of the config accepted last.
    config_sha256: Option<Arc<str>>,
}

/// What was decided for one steered name.
#[derive(Debug, Clone, PartialEq)]
pub struct NameState {
    /// The active region; every other one of its regions is passive.
    pub active: RegionId,
    /// The region that the last operator's `switch` or `approve` chose.
    pub home: RegionId,
    /// The last entry that changed its roles; see the head of this file.
    pub version: Seq,
    /// Regions with the name's own mark (`drain`).
    pub drained: BTreeSet<RegionId>,
    /// Regions that a one-way policy left.
    pub left: BTreeSet<RegionId>,
    /// The evacuated region in which it stays by `--leave`, until it moves: for it that region counts as not drained.
    pub stays: Option<RegionId>,
    /// When it last moved; none: never since it was added.
    pub moved_at: Option<Mono>,
    /// The region left by the last move: going straight back there is exempt from the cooldown.
    pub came_from: Option<RegionId>,
    /// Set by `reject`.
    pub muted: Option<Muted>,
    /// Its open proposal.
    pub proposal: Option<u64>,
    /// Who overrode which gates and why, where its last move was made only because of that.
    pub overrode: Option<Arc<str>>,
}

/// No proposal opens for this name until the version or the verdict on the active region changes. A verdict that
/// began after `at` is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Muted {
    /// The version at the rejection.
    pub version: Seq,
    /// When it was rejected.
    pub at: Mono,
}

/// A change that waits for an operator's approval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proposal {
    /// Its number, unique in the ledger.
    pub id: u64,
    /// The steered name.
    pub name: Name,
    /// The version of the name that it was made against.
    pub version: Seq,
    /// The active region.
    pub from: RegionId,
    /// The candidate.
    pub to: RegionId,
    /// What was seen.
    pub evidence: Evidence,
    /// The entry that opened it.
    pub seq: Seq,
    /// When it was opened, on this process' clocks.
    #[serde(serialize_with = "wall_of")]
    pub opened: Now,
}

/// Shows the wall clock of a reading.
fn wall_of<S: serde::Serializer>(now: &Now, serializer: S) -> Result<S::Ok, S::Error> {
    now.wall.serialize(serializer)
}

impl State {
    /// The state before the first entry.
    pub fn new() -> State {
        State::default()
    }

    /// The last entry applied.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// What was decided for a name; none when it is not in the ledger.
    pub fn name(&self, name: &Name) -> Option<&NameState> {
        self.names.get(name).map(Arc::as_ref)
    }

    /// Every name in canonical order.
    pub fn names(&self) -> impl Iterator<Item = (&Name, &NameState)> {
        self.names.iter().map(|(name, state)| (name, state.as_ref()))
    }

    /// The regions with the region's mark.
    pub fn evacuated(&self) -> impl Iterator<Item = &RegionId> {
        self.evacuated.keys()
    }

    /// The entry that evacuated a region, while its mark stands.
    pub fn evacuated_by(&self, region: &RegionId) -> Option<Seq> {
        self.evacuated.get(region).copied()
    }

    /// Whether a region must not become active at a name: by the name's own mark, or by the region's (unless it stays there).
    pub fn is_drained(&self, name: &Name, region: &RegionId) -> bool {
        match self.name(name) {
            Some(known) => self.is_drained_at(known, region),
            None => self.evacuated.contains_key(region),
        }
    }

    /// The same, for who has found the name already.
    pub fn is_drained_at(&self, known: &NameState, region: &RegionId) -> bool {
        known.drained.contains(region) || (self.evacuated.contains_key(region) && known.stays.as_ref() != Some(region))
    }

    /// Finds so many names, in canonical order best, from this one on.
    pub fn finder<'m>(
        &'m self,
        wanted: usize,
        first: Option<&Name>,
    ) -> Finder<impl Fn(&Name) -> Option<&'m NameState>, impl Iterator<Item = (&'m Name, &'m NameState)>> {
        let entries = |first: &Name| self.names.iter_from(first).map(|(name, known)| (name, known.as_ref()));
        Finder::new((wanted, first), self.names.len(), |name| self.name(name), entries)
    }

    /// The open proposals by number.
    pub fn proposals(&self) -> impl Iterator<Item = &Proposal> {
        self.proposals.values().map(Arc::as_ref)
    }

    /// An open proposal.
    pub fn proposal(&self, id: u64) -> Option<&Proposal> {
        self.proposals.get(&id).map(Arc::as_ref)
    }

    /// The highest proposal number ever given; 0: none.
    pub fn proposal_last(&self) -> u64 {
        self.proposal_last
    }

    /// What a request id was used for, if it is among the last [`RECEIPTS_MAX`](super::RECEIPTS_MAX).
    pub fn receipt(&self, request_id: &str) -> Option<&Used> {
        self.receipts.find(request_id)
    }

    /// SHA-256 of the config accepted last.
    pub fn config_sha256(&self) -> Option<&str> {
        self.config_sha256.as_deref()
    }

    /// Folds one entry in. `at` is when it was recorded, on this process' clocks: a replay maps the recorded wall time
    /// with [`Now::mono_at`], so that a cooldown goes on over a restart.
    pub fn apply(&mut self, seq: Seq, at: Now, draft: &Draft) {
        debug_assert!(seq > self.seq, "entry {seq} after entry {}", self.seq);
        debug_assert!(
            self.makes_sense(&draft.body),
            "entry {seq} does not fit the state: {:?}",
            draft.body
        );
        self.fold_unchecked(seq, at, draft);
        debug_assert!(
            self.holds_one_active(&draft.body),
            "entry {seq} breaks one-active: {:?}",
            draft.body
        );
    }

    /// [`State::apply`] without the assertion of promise 2: what `handle` tries a batch with before it judges the result.
    pub(super) fn fold_unchecked(&mut self, seq: Seq, at: Now, draft: &Draft) {
        self.seq = seq;
        self.receipts.remember(seq, draft);
        match &draft.body {
            Body::Started { .. } | Body::Stopped { .. } => {}
            Body::ConfigAccepted { sha256, .. } => self.config_sha256 = Some(sha256.as_str().into()),
            Body::NameAdded { name, active, home } => self.add(seq, name, active, home.as_ref()),
            Body::NameRetired { name } => self.retire(name),
            Body::RegionRemoved { name, region } => self.remove_region(seq, name, region),
            Body::Switched {
                change,
                overridden,
                proposal,
                ..
            } => self.switch(seq, at, change, overrode(seq, draft, overridden), *proposal),
            Body::Moved { change, left, .. } => {
                // A policy passes every gate.
                self.shift(seq, at, change, None);
                if *left {
                    self.edit(&change.name, |name| {
                        name.left.insert(change.from.clone());
                    });
                }
            }
            Body::Evacuated {
                region,
                moves,
                stay,
                overridden,
                forced,
                ..
            } => {
                self.evacuated.entry(region.clone()).or_insert(seq);
                self.shift_all(seq, at, moves, forced, &overrode(seq, draft, overridden));
                for name in stay {
                    self.edit(name, |name| name.stays = Some(region.clone()));
                }
            }
            Body::Restored { region } => self.restore(region),
            Body::Drained { name, region } => self.edit(name, |name| {
                name.drained.insert(region.clone());
            }),
            Body::Undrained { name, region } => self.undrain(name, region),
            Body::ProposalOpened {
                id,
                name,
                version,
                from,
                to,
                evidence,
            } => self.open(Proposal {
                id: *id,
                name: name.clone(),
                version: *version,
                from: from.clone(),
                to: to.clone(),
                evidence: evidence.clone(),
                seq,
                opened: at,
            }),
            Body::ProposalEnded { id, name, end } => self.end(at, *id, name, *end),
        }
    }

    /// Whether an entry fits the state before it: moves start where the name is, a name has at most one open proposal, numbers are new.
    fn makes_sense(&self, body: &Body) -> bool {
        let starts_right = |change: &Move| self.name(&change.name).is_some_and(|known| known.active == change.from);
        let proposal_is_new = match body {
            Body::ProposalOpened { id, name, .. } => {
                *id > self.proposal_last && self.name(name).is_some_and(|known| known.proposal.is_none())
            }
            _ => true,
        };
        body.moves().iter().all(starts_right) && proposal_is_new
    }

    /// Promise 2 for the names that an entry touched: one region is active by construction; it must not be drained.
    fn holds_one_active(&self, body: &Body) -> bool {
        let named = match body {
            Body::NameAdded { name, .. } | Body::RegionRemoved { name, .. } | Body::Drained { name, .. } => Some(name),
            _ => None,
        };
        let fine = |name: &Name| self.name(name).is_some_and(|known| !self.is_drained(name, &known.active));
        let evacuation = match body {
            Body::Evacuated { region, .. } => self
                .names()
                .all(|(name, known)| known.active != *region || !self.is_drained(name, region)),
            _ => true,
        };
        named.into_iter().all(fine) && body.moves().iter().all(|change| fine(&change.name)) && evacuation
    }

    /// Changes one name; nothing when it is not there.
    fn edit(&mut self, name: &Name, change: impl FnOnce(&mut NameState)) {
        if let Some(known) = self.names.get_mut(name) {
            change(Arc::make_mut(known));
        }
    }

    /// A name appears: it starts anew, whatever it was before.
    fn add(&mut self, seq: Seq, name: &Name, active: &RegionId, home: Option<&RegionId>) {
        let fresh = NameState {
            active: active.clone(),
            home: home.unwrap_or(active).clone(),
            version: seq,
            drained: BTreeSet::new(),
            left: BTreeSet::new(),
            stays: None,
            moved_at: None,
            came_from: None,
            muted: None,
            proposal: None,
            overrode: None,
        };
        self.names.insert(name.to_lowercase(), Arc::new(fresh));
    }

    /// A name goes, with its marks and its proposal.
    fn retire(&mut self, name: &Name) {
        if let Some(id) = self.names.remove(name).and_then(|known| known.proposal) {
            self.proposals.remove(&id);
        }
    }

    /// A passive region goes from a name, with its marks; home falls back to the active region.
    fn remove_region(&mut self, seq: Seq, name: &Name, region: &RegionId) {
        self.edit(name, |known| {
            known.drained.remove(region);
            known.left.remove(region);
            if known.home == *region {
                known.home = known.active.clone();
            }
            if known.came_from.as_ref() == Some(region) {
                known.came_from = None;
            }
            known.version = seq;
            known.muted = None;
        });
    }

    /// An operator's switch: the choice is home from now on, no longer *left*, and ends the proposal that it approves.
    fn switch(&mut self, seq: Seq, at: Now, change: &Move, overrode: Option<Arc<str>>, proposal: Option<u64>) {
        self.shift(seq, at, change, overrode);
        self.edit(&change.name, |known| {
            known.home = known.active.clone();
            known.left.remove(&change.to);
        });
        if let Some(id) = proposal {
            self.end(at, id, &change.name, ProposalEnd::Approved);
        }
    }

    /// The active region of a name changes, by an override or without.
    fn shift(&mut self, seq: Seq, at: Now, change: &Move, overrode: Option<Arc<str>>) {
        self.edit(&change.name, |known| known.shift(seq, at, &change.to, overrode));
    }

    /// The active regions of many names change; of those in `forced`, or of all where it has none, by an override.
    fn shift_all(&mut self, seq: Seq, at: Now, moves: &[Move], forced: &[Name], overrode: &Option<Arc<str>>) {
        let changed = |known: &Arc<NameState>, change: &Move| {
            let is_forced = forced.is_empty() || forced.binary_search(&change.name).is_ok();
            let mut known = NameState::clone(known);
            known.shift(seq, at, &change.to, overrode.clone().filter(|_| is_forced));
            Arc::new(known)
        };
        self.names.change_many(moves, |change| &change.name, changed);
    }

    /// The region's mark goes, with the *left* marks of that region and the leave to stay there.
    fn restore(&mut self, region: &RegionId) {
        self.evacuated.remove(region);
        let names: Vec<Name> = self
            .names
            .iter()
            .filter(|(_, known)| known.left.contains(region) || known.stays.as_ref() == Some(region))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.edit(&name, |known| {
                known.left.remove(region);
                known.stays.take_if(|stays| stays == region);
            });
        }
    }

    /// The name's own mark on a region and its *left* mark go.
    fn undrain(&mut self, name: &Name, region: &RegionId) {
        self.edit(name, |known| {
            known.drained.remove(region);
            known.left.remove(region);
        });
    }

    /// Whether any name has a *left* mark on a region.
    pub fn is_left_anywhere(&self, region: &RegionId) -> bool {
        self.names().any(|(_, known)| known.left.contains(region))
    }

    /// A proposal opens.
    fn open(&mut self, proposal: Proposal) {
        self.proposal_last = self.proposal_last.max(proposal.id);
        self.edit(&proposal.name, |known| known.proposal = Some(proposal.id));
        self.proposals.insert(proposal.id, Arc::new(proposal));
    }

    /// A proposal ends; a rejection mutes the name.
    fn end(&mut self, at: Now, id: u64, name: &Name, end: ProposalEnd) {
        self.proposals.remove(&id);
        self.edit(name, |known| {
            known.proposal.take_if(|open| *open == id);
            if end == ProposalEnd::Rejected {
                known.muted = Some(Muted {
                    version: known.version,
                    at: at.mono,
                });
            }
        });
    }
}

impl NameState {
    /// The active region changes, by an override or without.
    fn shift(&mut self, seq: Seq, at: Now, to: &RegionId, overrode: Option<Arc<str>>) {
        self.came_from = Some(std::mem::replace(&mut self.active, to.clone()));
        self.version = seq;
        self.moved_at = Some(at.mono);
        self.stays = None;
        self.muted = None;
        self.overrode = overrode;
    }
}

/// What is kept of an override, in words; none where no gate was overridden.
fn overrode(seq: Seq, draft: &Draft, overridden: &[Gate]) -> Option<Arc<str>> {
    let gates: Vec<&str> = overridden.iter().map(|gate| gate.as_str()).collect();
    let words = || format!("{} overrode {} (seq {seq}): {}", draft.actor, gates.join(", "), draft.reason);
    (!gates.is_empty()).then(|| words().into())
}

/// The names whose decision, gates or policy an entry may change: what to decide again and what to
/// [`touch`](super::Watch::touch) after it was applied. A region's mark concerns every name that has the region. Each name once, in
/// canonical order.
pub fn affected(fleet: &Fleet, body: &Body) -> Vec<Name> {
    match body {
        Body::Started { .. } | Body::Stopped { .. } | Body::ConfigAccepted { .. } => Vec::new(),
        Body::NameAdded { name, .. }
        | Body::NameRetired { name }
        | Body::RegionRemoved { name, .. }
        | Body::Drained { name, .. }
        | Body::Undrained { name, .. }
        | Body::ProposalOpened { name, .. }
        | Body::ProposalEnded { name, .. } => vec![name.clone()],
        Body::Switched { change, .. } | Body::Moved { change, .. } => vec![change.name.clone()],
        Body::Evacuated { region, .. } | Body::Restored { region } => fleet
            .names
            .values()
            .filter(|steered| steered.order.contains(region))
            .map(|steered| steered.name.clone())
            .collect(),
    }
}

/// The same of several entries, each name once, in canonical order.
pub fn affected_by<'b>(fleet: &Fleet, bodies: impl Iterator<Item = &'b Body>) -> Vec<Name> {
    let mut bodies = bodies.peekable();
    let Some(first) = bodies.next() else { return Vec::new() };
    let mut names = affected(fleet, first);
    if bodies.peek().is_some() {
        names.extend(bodies.flat_map(|body| affected(fleet, body)));
        names.sort();
        names.dedup();
    }
    names
}
