//! The policies in time: proposals for people, moves where an operator allowed them (README, "Decisions", rows 2 to 6).
//!
//! A [`Watch`] is no part of the fold: it starts empty, so that every delay starts anew after a restart, and a reload that changes a
//! policy resets that name's. It only offers drafts; the caller records and applies them and [`touch`](Watch::touch)es what they
//! affect. A draft is offered at each [`poll`](Watch::poll) until it was applied, so a failed append loses nothing (row 7).
//!
//! Work is done for touched and due names only: names at rest have no entry here at all.
//!
//! ```text
//! row 3, 5   active region unhealthy ──▶ proposal open ──▶ approved | rejected | recovered | superseded
//! row 4      active region unhealthy, T passes ── failover-delay, cooldown ──▶ move to T
//! row 2      home a healthy candidate that passes ── failback-delay, cooldown ──▶ move home
//! row 6      one other region observed active ── failover-delay, cooldown ──▶ move there
//! ```
//!
//! While the prober itself is suspected to be sick (`HealthSource::suspicion`) nothing is offered at all: no move, no proposal, no end
//! of one. Every delay starts anew afterwards, and what changed meanwhile is looked at then.
//!
//! Likewise while what is known of a region of the name was heard before this machine was suspended, and not confirmed since
//! (`RegionStatus::unconfirmed`): an old verdict moves nothing, and ends nothing.
//!
//! A delay counts from the later of two moments: when this watch first saw its condition hold, and when the verdict (or the
//! observed role) it rests on began; so a break between two polls counts as a break.
//!
//! Choices made here:
//! - Row 4 moves away from a region that was cut off only to one that was reached since then.
//! - A delay concerns its condition alone, not the gates: with failover-delay over, a target that passes at last is moved to at once.
//! - Row 5 proposes the first candidate; row 4 takes the first candidate that passes, which may be another one.
//! - Under `follow` nothing is proposed: its truth is the application, and an operator sees the alerts and can switch.
//! - A proposal outlives a restart if version and candidate are still right and its region is unhealthy by the health that was written
//!   down. A rejection mutes one verdict; the verdict after a restart is another one.

use super::gates::{candidate, cooldown_over_at, describe, evidence, gates, move_kind, policy_passes, policy_target};
use super::state::{NameState, Proposal, State};
use crate::model::{
    Actor, Body, Draft, Failover, Fleet, Gate, HealthSource, Mono, Move, Name, Now, Observed, ProposalEnd, RegionHealth, RegionId,
    RegionStatus, SteeredName, show_duration,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// After how long it is looked again whether a target was reached since the active region was cut off.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// After how long a draft that was offered and not applied is offered again, if nobody polls before.
const OFFER_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The policies of every name, in time.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Names to look at at the next poll.
    touched: BTreeSet<Name>,
    /// Names to look at at a time.
    due: BTreeSet<(Mono, Name)>,
    /// Names for which something was offered at the last look, and looked at again at each poll until nothing is.
    offered: BTreeSet<Name>,
    /// Names with something going on; shared with what readers are shown.
    slots: imbl::OrdMap<Name, Arc<Slot>>,
}

/// What is going on at one name.
#[derive(Debug, Clone, Default)]
struct Slot {
    /// The condition whose delay runs, and since when it was seen to hold.
    holds: Option<(Condition, Mono)>,
    /// When to look again.
    due: Option<Mono>,
    /// What is waited for.
    waiting: Option<Waiting>,
    /// The config of the name changed; its open proposal is to be superseded.
    config_changed: bool,
    /// The proposal that is to be superseded because the config changed.
    outdated: Option<u64>,
}

/// A condition that must hold without a break.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// This active region is unhealthy.
    Failing(RegionId),
    /// This region is active, and home is a healthy candidate.
    Returning(RegionId),
    /// This region alone is observed active, and another is active.
    Following(RegionId),
}

/// What a policy is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Where it will move the name.
    pub to: RegionId,
    /// When, if nothing changes until then.
    pub until: Mono,
    /// Why it will, and why not yet, in words.
    pub why: String,
}

/// The eyes of one look at one name.
struct Sight<'a> {
    /// What was decided.
    state: &'a State,
    /// The name.
    steered: &'a SteeredName,
    /// What was decided for it.
    known: &'a NameState,
    /// What is observed.
    health: &'a dyn HealthSource,
    /// When.
    now: Now,
}

/// What a policy wants of a name, as seen in one look.
struct Want {
    /// What must hold for the delay.
    condition: Condition,
    /// Since when it holds at the earliest, by the verdicts.
    since: Mono,
    /// Where it moves then; none: no region passes the gates now.
    to: Option<RegionId>,
    /// Whether that region has been reached since the active one was cut off.
    heard: bool,
    /// How long the condition must hold.
    delay: Duration,
    /// The delay's name in the config.
    delay_name: &'static str,
    /// Why.
    why: String,
}

impl Watch {
    /// A watch that has seen nothing yet. Touch every name after a start (or use [`Watch::reconfigured`] with an empty old fleet).
    pub fn new() -> Watch {
        Watch::default()
    }

    /// Something about this name changed (a verdict, an entry): look at it at the next poll.
    pub fn touch(&mut self, name: &Name) {
        self.touched.insert(name.clone());
    }

    /// The same for many names, best in canonical order.
    pub fn touch_all<'n>(&mut self, names: impl Iterator<Item = &'n Name>) {
        self.touched.append(&mut names.cloned().collect());
    }

    /// The config changed: names that are new or changed are looked at; where the policy, a delay or the regions changed, delays start
    /// anew, and an open proposal of a changed name is superseded.
    pub fn reconfigured(&mut self, old: &Fleet, new: &Fleet) {
        for (name, steered) in &new.names {
            match old.names.get(name) {
                Some(before) if Arc::ptr_eq(before, steered) || before == steered => {}
                Some(before) => {
                    self.touched.insert(name.clone());
                    let slot = Arc::make_mut(self.slots.entry(name.clone()).or_default());
                    slot.config_changed = true;
                    if policy_of(before) != policy_of(steered) {
                        slot.holds = None;
                    }
                }
                None => {
                    self.touched.insert(name.clone());
                }
            }
        }
        let gone = old.names.keys().filter(|name| !new.names.contains_key(*name));
        self.touched.extend(gone.cloned());
    }

    /// The delays of these names start anew: this machine was suspended for so long that nobody knows whether their conditions held
    /// meanwhile.
    pub fn start_anew<'n>(&mut self, names: impl Iterator<Item = &'n Name>) {
        for name in names {
            if let Some(slot) = self.slots.get_mut(name) {
                Arc::make_mut(slot).holds = None;
            }
            self.touched.insert(name.clone());
        }
    }

    /// When to poll next, if nothing happens before; a moment long past when something was touched.
    pub fn next_due(&self) -> Option<Mono> {
        if !self.touched.is_empty() {
            return Some(Mono::ORIGIN);
        }
        self.due.first().map(|(at, _)| *at)
    }

    /// What a name's policy is waiting for; as of the last poll.
    pub fn waiting(&self, name: &Name) -> Option<&Waiting> {
        self.slots.get(name)?.waiting.as_ref()
    }

    /// A copy that knows of one name alone and will look at it: what it costs does not grow with what waits elsewhere.
    pub fn of_one(&self, name: &Name) -> Watch {
        let slot = self.slots.get(name).cloned();
        Watch {
            touched: BTreeSet::from([name.clone()]),
            due: slot.iter().filter_map(|slot| Some((slot.due?, name.clone()))).collect(),
            offered: BTreeSet::new(),
            slots: slot.into_iter().map(|slot| (name.clone(), slot)).collect(),
        }
    }

    /// What readers need of it, to show and to look again at one name: costs the same however many names wait.
    pub fn shown(&self) -> Watch {
        Watch {
            slots: self.slots.clone(),
            ..Watch::default()
        }
    }

    /// Looks at every touched and due name, and offers what is to be recorded now, in the order of the names. Call it with a state that
    /// holds everything handed to the ledger so far, so that nothing is offered twice while an append is under way.
    pub fn poll(&mut self, state: &State, fleet: &Fleet, health: &dyn HealthSource, now: Now) -> Vec<Draft> {
        let mut names = std::mem::take(&mut self.touched);
        names.append(&mut self.offered);
        while let Some((at, name)) = self.due.pop_first() {
            if at > now.mono {
                self.due.insert((at, name));
                break;
            }
            names.insert(name);
        }
        let mut drafts = Vec::new();
        let mut proposal_last = state.proposal_last();
        let (count, first) = (names.len(), names.first().cloned());
        let (mut configs, mut states) = (fleet.finder(count, first.as_ref()), state.finder(count, first.as_ref()));
        for name in names {
            let mut slot = self.slots.remove(&name).map(Arc::unwrap_or_clone).unwrap_or_default();
            if let Some(at) = slot.due.take() {
                self.due.remove(&(at, name.clone()));
            }
            let (Some(steered), Some(known)) = (configs.find(&name), states.find(&name)) else {
                continue;
            };
            let sight = Sight {
                state,
                steered,
                known,
                health,
                now,
            };
            let offered = look(&sight, &mut slot, &mut proposal_last);
            if !offered.is_empty() {
                slot.due = Some(now.mono.plus(OFFER_AGAIN_AFTER));
                self.offered.insert(name.clone());
            }
            drafts.extend(offered);
            if let Some(at) = slot.due {
                self.due.insert((at, name.clone()));
            }
            if slot.due.is_some() || slot.holds.is_some() || slot.config_changed {
                self.slots.insert(name, Arc::new(slot));
            }
        }
        drafts
    }
}

/// Everything whose change starts the delays anew.
fn policy_of(steered: &SteeredName) -> (Failover, [Duration; 3], &[RegionId]) {
    let app = &steered.app;
    (app.failover, [app.failover_delay, app.failback_delay, app.cooldown], &steered.order)
}

/// Looks at one name: its proposal, then its policy.
fn look(sight: &Sight<'_>, slot: &mut Slot, proposal_last: &mut u64) -> Vec<Draft> {
    if sight.health.suspicion().is_some() || sight.is_unconfirmed() {
        (slot.holds, slot.waiting) = (None, None);
        return Vec::new();
    }
    if std::mem::take(&mut slot.config_changed) {
        slot.outdated = sight.known.proposal;
    }
    slot.waiting = None;
    let Some(want) = sight.want() else {
        slot.holds = None;
        return sight.proposals(slot.outdated, proposal_last);
    };
    let seen = slot.holds.take().filter(|(before, _)| *before == want.condition);
    let seen_since = seen.map_or(sight.now.mono, |(_, at)| at);
    let over_at = seen_since.max(want.since).plus(want.delay);
    if let Some(to) = want.to.clone() {
        let cooled_at = cooldown_over_at(sight.known, sight.steered.app.cooldown).unwrap_or(over_at);
        let until = over_at.max(cooled_at);
        if until <= sight.now.mono && want.heard {
            slot.holds = Some((want.condition, seen_since));
            return vec![sight.moved(&to, &want.why)];
        }
        let until = if want.heard {
            until
        } else {
            until.max(sight.now.mono.plus(LISTEN_AGAIN_AFTER))
        };
        slot.due = Some(until);
        let why = sight.why_wait(&want, over_at, cooled_at);
        slot.waiting = Some(Waiting { to, until, why });
    }
    slot.holds = Some((want.condition, seen_since));
    sight.proposals(slot.outdated, proposal_last)
}

impl Sight<'_> {
    /// The status of a region.
    fn status(&self, region: &RegionId) -> Option<&RegionStatus> {
        self.health.region_of(self.steered, region)
    }

    /// Whether anything known of its regions has not been confirmed since this machine was suspended.
    fn is_unconfirmed(&self) -> bool {
        let is_unconfirmed = |region| self.status(region).is_some_and(|status| status.unconfirmed.is_some());
        self.steered.order.iter().any(is_unconfirmed)
    }

    /// Describes a region.
    fn describe(&self, region: &RegionId) -> String {
        describe(region, self.status(region), self.now)
    }

    /// Whether the active region is unhealthy.
    fn is_failing(&self) -> bool {
        self.status(&self.known.active)
            .is_some_and(|status| status.health == RegionHealth::Unhealthy)
    }

    /// What the name's policy wants now.
    fn want(&self) -> Option<Want> {
        match self.steered.app.failover {
            Failover::Manual => None,
            Failover::OneWay | Failover::Automatic if self.is_failing() => Some(self.failover()),
            Failover::OneWay => None,
            Failover::Automatic => self.failback(),
            Failover::Follow => self.follow(),
        }
    }

    /// Whether a policy may move the name to a region.
    fn passes(&self, to: &RegionId) -> bool {
        policy_passes(self.state, self.steered, to, self.health, self.now)
    }

    /// Row 4: away from an unhealthy region.
    fn failover(&self) -> Want {
        let active = &self.known.active;
        let to = policy_target(self.state, self.steered, self.health, self.now);
        let target = to.as_ref().map(|to| format!("; {}", self.describe(to)));
        Want {
            condition: Condition::Failing(active.clone()),
            since: self.status(active).map_or(self.now.mono, |status| status.since),
            delay: self.steered.app.failover_delay,
            delay_name: "failover-delay",
            why: format!("{}{}", self.describe(active), target.unwrap_or_default()),
            heard: to.as_ref().is_none_or(|to| self.is_heard(to)),
            to,
        }
    }

    /// Whether a region has been reached since the active one was cut off, if it was: before that, its verdict is hearsay, and the
    /// prober may be the one that is cut off (`health`, law 8).
    fn is_heard(&self, to: &RegionId) -> bool {
        let cut_since = self.status(&self.known.active).and_then(|status| status.cut_since);
        let passed_at = self.status(to).and_then(|status| status.passed_at);
        cut_since.is_none_or(|cut| passed_at.is_some_and(|passed| passed > cut))
    }

    /// Row 2: home again.
    fn failback(&self) -> Option<Want> {
        let NameState { active, home, .. } = self.known;
        let status = self.status(home).filter(|status| status.health == RegionHealth::Healthy)?;
        if home == active || self.state.is_drained(&self.steered.name, home) {
            return None;
        }
        Some(Want {
            condition: Condition::Returning(active.clone()),
            to: Some(home.clone()).filter(|home| self.passes(home)),
            heard: true,
            since: status.since,
            delay: self.steered.app.failback_delay,
            delay_name: "failback-delay",
            why: format!("back home: {}", self.describe(home)),
        })
    }

    /// Row 6: where the application says it is.
    fn follow(&self) -> Option<Want> {
        let says = |region: &&RegionId| self.status(region).is_some_and(|status| status.observed == Observed::Active);
        let mut active = self.steered.order.iter().filter(says);
        let (Some(to), None) = (active.next(), active.next()) else {
            return None;
        };
        (*to != self.known.active).then(|| Want {
            condition: Condition::Following(to.clone()),
            to: Some(to.clone()).filter(|to| self.passes(to)),
            heard: true,
            since: self.status(to).map_or(self.now.mono, |status| status.observed_since),
            delay: self.steered.app.failover_delay,
            delay_name: "failover-delay",
            why: format!("the application says that {to} is active, and only {to}"),
        })
    }

    /// Why a move is not made yet.
    fn why_wait(&self, want: &Want, over_at: Mono, cooled_at: Mono) -> String {
        let now = self.now.mono;
        let mut open = Vec::new();
        if over_at > now {
            open.push(format!("{} of {}", want.delay_name, show_duration(want.delay)));
        }
        if !want.heard {
            let to = want.to.as_ref().map_or_else(String::new, ToString::to_string);
            open.push(format!(
                "next word of {to}, which was not reached since the active region was cut off"
            ));
        }
        if cooled_at > now {
            open.push(format!("cooldown of {}", show_duration(self.steered.app.cooldown)));
        }
        format!("{}; waiting for the {}", want.why, open.join(" and the "))
    }

    /// The policy's move.
    fn moved(&self, to: &RegionId, why: &str) -> Draft {
        let words = gates(self.state, self.steered, to, self.health, self.now);
        let active = &self.known.active;
        by_policy(
            why.to_owned(),
            Body::Moved {
                change: Move {
                    name: self.steered.name.clone(),
                    from: active.clone(),
                    to: to.clone(),
                    kind: move_kind(self.known, self.steered, to, self.health),
                },
                left: self.steered.app.failover == Failover::OneWay,
                evidence: evidence(self.steered, &[active, to], words, self.health, self.now),
            },
        )
    }

    /// The candidate to propose: rows 3 and 5.
    fn proposable(&self) -> Option<RegionId> {
        let wanted = match self.steered.app.failover {
            Failover::Follow => false,
            Failover::Manual => self.is_failing(),
            Failover::OneWay | Failover::Automatic => {
                self.is_failing() && policy_target(self.state, self.steered, self.health, self.now).is_none()
            }
        };
        if !wanted {
            return None;
        }
        candidate(self.state, self.steered, self.health, self.now)
    }

    /// Ends the open proposal if it is no longer right, and opens one if one is due.
    fn proposals(&self, outdated: Option<u64>, proposal_last: &mut u64) -> Vec<Draft> {
        let mut drafts = Vec::new();
        if let Some(open) = self.known.proposal.and_then(|id| self.state.proposal(id)) {
            match self.end_of(open, outdated == Some(open.id)) {
                Some(end) => drafts.push(end),
                None => return drafts,
            }
        }
        if let Some(to) = self.proposable().filter(|_| !self.is_muted()) {
            *proposal_last += 1;
            drafts.push(self.open(*proposal_last, to));
        }
        drafts
    }

    /// Whether a rejection still stands: same version (the fold sees to that), same verdict on the active region.
    fn is_muted(&self) -> bool {
        let verdict_since = self.status(&self.known.active).map(|status| status.since);
        match (self.known.muted, verdict_since) {
            (Some(muted), Some(since)) => muted.version == self.known.version && since <= muted.at,
            _ => false,
        }
    }

    /// Why a region is no candidate: its mark, else its health.
    fn why_not(&self, region: &RegionId) -> String {
        let words = gates(self.state, self.steered, region, self.health, self.now);
        let marked = words.into_iter().find(|word| word.gate == Gate::TargetNotDrained && !word.pass);
        match marked {
            Some(word) => word.message,
            None if self.known.left.contains(region) => format!("{region} was left by the policy"),
            None => self.describe(region),
        }
    }

    /// How an open proposal ends now, if it does.
    fn end_of(&self, open: &Proposal, config_changed: bool) -> Option<Draft> {
        let (end, why) = if open.version != self.known.version {
            let why = format!("the roles changed by seq {}", self.known.version);
            (ProposalEnd::Superseded, why)
        } else if config_changed {
            (ProposalEnd::Superseded, "the config of the name changed".to_owned())
        } else if !self.is_failing() {
            (ProposalEnd::Recovered, self.describe(&open.from))
        } else if self.steered.app.failover == Failover::Follow {
            (ProposalEnd::Superseded, "the policy is to follow the application".to_owned())
        } else {
            match candidate(self.state, self.steered, self.health, self.now) {
                Some(to) if to == open.to => return None,
                Some(to) => (ProposalEnd::Superseded, format!("the candidate is {to} now")),
                None => (
                    ProposalEnd::Superseded,
                    format!("there is no candidate any more: {}", self.why_not(&open.to)),
                ),
            }
        };
        Some(by_policy(
            why,
            Body::ProposalEnded {
                id: open.id,
                name: self.steered.name.clone(),
                end,
            },
        ))
    }

    /// A proposal to move to a candidate, with each gate's present word.
    fn open(&self, id: u64, to: RegionId) -> Draft {
        let active = &self.known.active;
        let words = gates(self.state, self.steered, &to, self.health, self.now);
        by_policy(
            format!("{}; {}", self.describe(active), self.describe(&to)),
            Body::ProposalOpened {
                id,
                name: self.steered.name.clone(),
                version: self.known.version,
                from: active.clone(),
                evidence: evidence(self.steered, &[active, &to], words, self.health, self.now),
                to,
            },
        )
    }
}

/// An entry by the policy.
fn by_policy(reason: String, body: Body) -> Draft {
    Draft {
        actor: Actor::Policy,
        reason,
        request_id: None,
        body,
    }
}
