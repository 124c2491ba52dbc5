//! `evacuate`: every name away from a region, in one entry.
//!
//! It is for the night when a region goes, so it must be quick for a hundred thousand names: each is looked at once, nothing is kept
//! of it but its move, and where there are many their halves are looked at at once.

use super::command::{Denied, Desk, Refusal, refusal, refuse_overrides};
use super::gates::{Best, describe, move_kind_of, region_evidence};
use crate::both::both;
use crate::model::{Body, Evidence, Gate, Move, Name, Observed, RegionEvidence, RegionHealth, RegionId, RegionStatus, SteeredName};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Desk<'_> {
    /// `evacuate`: one entry for the region's mark and every move.
    pub fn evacuate(&self, region: &RegionId, leave: &BTreeSet<Name>, overrides: &BTreeSet<Gate>) -> Result<Option<Body>, Denied> {
        self.find_configured_region(region)?;
        for name in leave {
            self.find(name)?;
        }
        let may_force = overrides.contains(&Gate::TargetHealthy);
        let names = &self.fleet.names;
        let half = names.len() / 2;
        let (mut found, rest) = both(
            names.len(),
            || self.leaving(region, leave, may_force, names.values().take(half)),
            || self.leaving(region, leave, may_force, names.values().skip(half)),
        );
        found.extend(rest);
        found.refusals.splice(0..0, refuse_overrides(overrides, &[]));
        if !found.refusals.is_empty() {
            return Err(Denied::Refused(found.refusals));
        }
        let Leaving {
            moves,
            stay,
            mut forced,
            seen,
            ..
        } = found;
        if self.state.evacuated_by(region).is_some() && moves.is_empty() && stay.is_empty() {
            return Ok(None);
        }
        let overridden = (!forced.is_empty()).then_some(Gate::TargetHealthy).into_iter().collect();
        if forced.len() == moves.len() {
            // All of them: which the entry says shorter.
            forced.clear();
        }
        Ok(Some(Body::Evacuated {
            region: region.clone(),
            moves,
            stay,
            overridden,
            forced,
            evidence: seen,
        }))
    }

    /// What an evacuation comes to for some of the names, which come in canonical order.
    fn leaving<'n>(
        &self,
        region: &RegionId,
        leave: &BTreeSet<Name>,
        may_force: bool,
        names: impl Iterator<Item = &'n Arc<SteeredName>>,
    ) -> Leaving {
        let mut found = Leaving::default();
        let mut names = names.peekable();
        let first = names.peek().map(|steered| &steered.name);
        let mut finder = self.state.finder(self.fleet.names.len(), first);
        for steered in names {
            let Some(known) = finder.find(&steered.name).filter(|known| known.active == *region) else {
                continue;
            };
            let best = Best::of(self.state, steered, known, self.health);
            let open = |other: &&RegionId| *other != region && !self.state.is_drained_at(known, other);
            // What was well before a suspension comes before what was not.
            let fallback = best.any.or_else(|| steered.order.iter().find(open));
            let to = match (best.confirmed, fallback) {
                (Some(to), _) => to,
                (None, Some(to)) if may_force => {
                    found.forced.push(steered.name.clone());
                    to
                }
                _ if leave.contains(&steered.name) => {
                    if known.stays.as_ref() != Some(region) {
                        found.stay.push(steered.name.clone());
                    }
                    continue;
                }
                (None, fallback) => {
                    found.refusals.push(self.no_target(steered, region, fallback.is_some()));
                    continue;
                }
            };
            let status = self.health.region_of(steered, region);
            add_evidence(&mut found.seen, region_seen(region, status), || {
                region_evidence(region, status, self.now)
            });
            let target = self.health.region_of(steered, to);
            add_evidence(&mut found.seen, region_seen(to, target), || region_evidence(to, target, self.now));
            found.moves.push(Move {
                name: steered.name.clone(),
                from: region.clone(),
                to: to.clone(),
                kind: move_kind_of(known, status, to),
            });
        }
        found
    }

    /// Why a name cannot leave a region that is being evacuated, and what would help.
    fn no_target(&self, steered: &SteeredName, region: &RegionId, has_fallback: bool) -> Refusal {
        let others: Vec<String> = steered
            .order
            .iter()
            .filter(|other| *other != region)
            .map(|other| match self.state.is_drained(&steered.name, other) {
                true => format!("{other} is drained"),
                false => describe(other, self.health.region_of(steered, other), self.now),
            })
            .collect();
        let seen = if others.is_empty() {
            "it has no other region".to_owned()
        } else {
            others.join(", ")
        };
        let (gate, way) = match has_fallback {
            true => (Gate::TargetHealthy, format!("override target-healthy, or leave {}", steered.name)),
            false => (Gate::OneActive, format!("only --leave {} helps", steered.name)),
        };
        refusal(gate, format!("no candidate to move to: {seen}; {way}"), Some(steered.name.clone()))
    }
}

/// What an evacuation comes to.
#[derive(Default)]
struct Leaving {
    refusals: Vec<Refusal>,
    moves: Vec<Move>,
    /// Names that stay although they have nowhere to go.
    stay: Vec<Name>,
    /// Names that move to a region that is not known to be well.
    forced: Vec<Name>,
    seen: Evidence,
}

impl Leaving {
    /// What it comes to for more names, which come after those.
    fn extend(&mut self, more: Leaving) {
        self.refusals.extend(more.refusals);
        self.moves.extend(more.moves);
        self.stay.extend(more.stay);
        self.forced.extend(more.forced);
        for seen in more.seen.regions {
            add_evidence(&mut self.seen, (&seen.region.clone(), seen.health, seen.observed), || seen);
        }
    }
}

/// How a region is seen, in short.
fn region_seen<'r>(region: &'r RegionId, status: Option<&RegionStatus>) -> (&'r RegionId, RegionHealth, Observed) {
    let (health, observed) = status.map_or((RegionHealth::Unknown, Observed::None), |status| (status.health, status.observed));
    (region, health, observed)
}

/// Adds what was seen of a region for one more name. Of many names in one region, one sight of each kind is kept: an entry
/// stays small, and an evacuation quick, however many names there are.
fn add_evidence(seen: &mut Evidence, short: (&RegionId, RegionHealth, Observed), whole: impl FnOnce() -> RegionEvidence) {
    let is_alike = |other: &RegionEvidence| (&other.region, other.health, other.observed) == short;
    if !seen.regions.iter().any(is_alike) {
        seen.regions.push(whole());
    }
}
