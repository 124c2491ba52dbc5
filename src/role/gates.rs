//! The gates: the rules that a change of the active region must pass, each with its word in people's language.
//!
//! One place judges for everybody: an operator's switch, an approval, a policy's move and `explain` see the same words.
//! Gates are asked all at once, so a refusal names everything that stands in the way.
//!
//! Choices: the *one-active* gate of a switch concerns the state after it; that the target is drained
//! is said once, by `target-not-drained`. Policies wait for the whole cooldown, also on the way back to the region just
//! left: the exemption is for a person who undoes a switch, not for a policy that flaps.

use super::state::{NameState, State};
use crate::model::{
    Confirmed, Evidence, Failover, Gate, GateWord, HealthSource, Mono, MoveKind, Now, Observed, ProbeSpec, RegionEvidence, RegionHealth,
    RegionId, RegionStatus, Seq, SteeredName, show_duration,
};
use std::time::Duration;

/// What the change was made against.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    /// The region that was thought active.
    pub region: Option<RegionId>,
    /// The version that was seen.
    pub version: Option<Seq>,
}

/// One change to judge: a name, where it is, and where it would go.
pub(super) struct Case<'a> {
    /// Everything decided.
    pub state: &'a State,
    /// The name.
    pub steered: &'a SteeredName,
    /// Where it is.
    pub known: &'a NameState,
    /// Where it would go.
    pub to: &'a RegionId,
    /// What is observed.
    pub health: &'a dyn HealthSource,
    /// When.
    pub now: Now,
    /// Whether what was heard before this machine was suspended is as good as what was heard since: for what is answered meanwhile,
    /// which stays as it was.
    pub trusts: bool,
}

/// The gates' words on a switch of a name to a region, every gate in [`Gate::ALL`]'s order; for `explain`. Empty when the
/// name is not in the ledger.
pub fn gates(state: &State, steered: &SteeredName, to: &RegionId, health: &dyn HealthSource, now: Now) -> Vec<GateWord> {
    words_of(state, steered, to, health, now, false)
}

/// The same, for who trusts what was heard before this machine was suspended, or does not.
fn words_of(state: &State, steered: &SteeredName, to: &RegionId, health: &dyn HealthSource, now: Now, trusts: bool) -> Vec<GateWord> {
    let Some(known) = state.name(&steered.name) else {
        return Vec::new();
    };
    let case = Case {
        state,
        steered,
        known,
        to,
        health,
        now,
        trusts,
    };
    case.words(&Expected::default())
}

/// The first candidate of a name (README, "Decisions"): not active, not drained, freshly healthy (else degraded), under
/// one-way not *left*; first in order, healthy before degraded.
pub fn candidate(state: &State, steered: &SteeredName, health: &dyn HealthSource, now: Now) -> Option<RegionId> {
    candidates(state, steered, health, now).into_iter().next()
}

/// Every candidate of a name, best first.
pub fn candidates(state: &State, steered: &SteeredName, health: &dyn HealthSource, _now: Now) -> Vec<RegionId> {
    let known = state.name(&steered.name);
    known.map_or_else(Vec::new, |known| candidates_of(state, steered, known, health))
}

/// The same, for who has found the name already.
fn candidates_of(state: &State, steered: &SteeredName, known: &NameState, health: &dyn HealthSource) -> Vec<RegionId> {
    let (mut healthy, mut degraded) = (Vec::new(), Vec::new());
    for (region, status) in open_regions(state, steered, known, health) {
        match status.health {
            RegionHealth::Healthy => healthy.push(region.clone()),
            RegionHealth::Degraded => degraded.push(region.clone()),
            _ => {}
        }
    }
    healthy.append(&mut degraded);
    healthy
}

/// The regions to which a name may go but for their health, in order, with their statuses; those without any are left out.
fn open_regions<'s>(
    state: &'s State,
    steered: &'s SteeredName,
    known: &'s NameState,
    health: &'s dyn HealthSource,
) -> impl Iterator<Item = (&'s RegionId, &'s RegionStatus)> {
    let one_way = steered.app.failover == Failover::OneWay;
    let is_open = move |region: &&RegionId| {
        **region != known.active && !state.is_drained_at(known, region) && !(one_way && known.left.contains(*region))
    };
    let open = steered.order.iter().filter(is_open);
    open.filter_map(move |region| Some((region, health.region_of(steered, region)?)))
}

/// The best candidates of a name, without a list of them all: an evacuation asks for those of a hundred thousand names.
pub(super) struct Best<'s> {
    /// The first one whose health has been confirmed since this machine was suspended.
    pub confirmed: Option<&'s RegionId>,
    /// The first one.
    pub any: Option<&'s RegionId>,
}

impl<'s> Best<'s> {
    /// Those of a name that was found already.
    pub fn of(state: &'s State, steered: &'s SteeredName, known: &'s NameState, health: &'s dyn HealthSource) -> Best<'s> {
        // By rank.
        let (mut confirmed, mut any): ([Option<&RegionId>; 2], [Option<&RegionId>; 2]) = ([None; 2], [None; 2]);
        for (region, status) in open_regions(state, steered, known, health) {
            let rank = match status.health {
                RegionHealth::Healthy => 0,
                RegionHealth::Degraded => 1,
                _ => continue,
            };
            any[rank].get_or_insert(region);
            if matches!(status.confirmed().health, RegionHealth::Healthy | RegionHealth::Degraded) {
                confirmed[rank].get_or_insert(region);
            }
        }
        let best = |of: [Option<&'s RegionId>; 2]| of.into_iter().flatten().next();
        Best {
            confirmed: best(confirmed),
            any: best(any),
        }
    }
}

/// Where a policy may move a name: the first candidate that passes every gate of an operator's switch without
/// overrides. `expect` is not asked of a policy, and `cooldown` makes it wait instead of refusing it.
pub fn policy_target(state: &State, steered: &SteeredName, health: &dyn HealthSource, now: Now) -> Option<RegionId> {
    candidates(state, steered, health, now)
        .into_iter()
        .find(|to| policy_passes(state, steered, to, health, now))
}

/// Whether a policy may move a name to a region, but for the cooldown. What has not been confirmed since this machine was suspended
/// passes as it did before, so that answers and alerts stay; the watch offers nothing while there is any.
pub(super) fn policy_passes(state: &State, steered: &SteeredName, to: &RegionId, health: &dyn HealthSource, now: Now) -> bool {
    let words = words_of(state, steered, to, health, now, true);
    !words.is_empty() && words.iter().all(|word| word.pass || word.gate == Gate::Cooldown)
}

/// Whether the application's own role is known: a probe reports it, or a feed of any region says it unasked at present.
pub fn is_role_known(steered: &SteeredName, health: &dyn HealthSource) -> bool {
    let says = |region: &RegionId| {
        let status = health.region_of(steered, region);
        status.is_some_and(|status| status.observed != Observed::None)
    };
    // Nothing else can say it: most names need no look at their regions.
    let may_be_said = || steered.app.probes.iter().any(ProbeSpec::is_hearsay);
    steered.app.has_role_probe() || (may_be_said() && steered.order.iter().any(says))
}

/// When the cooldown after the last move of a name is over; none: it never moved.
pub fn cooldown_over_at(known: &NameState, cooldown: Duration) -> Option<Mono> {
    known.moved_at.map(|moved| moved.plus(cooldown))
}

/// What kind of a move it is: `failover` if the active region is unhealthy, else `failback` if the target is home, else `switchover`.
pub fn move_kind(known: &NameState, steered: &SteeredName, to: &RegionId, health: &dyn HealthSource) -> MoveKind {
    move_kind_of(known, health.region_of(steered, &known.active), to)
}

/// The same, given the active region's status.
pub(super) fn move_kind_of(known: &NameState, active: Option<&RegionStatus>, to: &RegionId) -> MoveKind {
    let sick = active.is_some_and(|status| status.health == RegionHealth::Unhealthy);
    match sick {
        true => MoveKind::Failover,
        false if known.home == *to => MoveKind::Failback,
        false => MoveKind::Switchover,
    }
}

/// What is seen of regions of an application, and what the gates said.
pub fn evidence(steered: &SteeredName, regions: &[&RegionId], words: Vec<GateWord>, health: &dyn HealthSource, now: Now) -> Evidence {
    let seen = |region: &&RegionId| region_evidence(region, health.region_of(steered, region), now);
    Evidence {
        regions: regions.iter().map(seen).collect(),
        gates: words,
    }
}

/// What is seen of one region.
pub(super) fn region_evidence(region: &RegionId, status: Option<&RegionStatus>, now: Now) -> RegionEvidence {
    let age = status.and_then(|status| status.evidence_at).map(|at| now.mono.since(at));
    RegionEvidence {
        region: region.clone(),
        health: status.map_or(RegionHealth::Unknown, |status| status.health),
        reason: status.map_or("not probed".to_owned(), |status| status.reason.clone()),
        age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        observed: status.map_or(Observed::None, |status| status.observed),
    }
}

/// Says how a region is: `fra is unhealthy since 40s: HTTP 503`.
pub(crate) fn describe(region: &RegionId, status: Option<&RegionStatus>, now: Now) -> String {
    let Some(status) = status else {
        return format!("{region} is unknown: not probed");
    };
    let since = show_age(now.mono.since(status.since));
    let reason = if status.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", status.reason)
    };
    match (status.health, status.evidence_at) {
        (RegionHealth::Unknown, None) => format!("{region} is unknown{reason}"),
        (health, _) => format!("{region} is {health} since {since}{reason}"),
    }
}

/// An age for people: whole seconds from one second on.
pub(crate) fn show_age(age: Duration) -> String {
    match age.as_secs() {
        0 => show_duration(Duration::from_millis(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))),
        seconds => show_duration(Duration::from_secs(seconds)),
    }
}

impl Case<'_> {
    /// What every gate says, in their order.
    pub(super) fn words(&self, expected: &Expected) -> Vec<GateWord> {
        Gate::ALL
            .into_iter()
            .map(|gate| {
                let said = match gate {
                    Gate::Expect => self.expect(expected),
                    Gate::OneActive => self.one_active(),
                    Gate::TargetNotDrained => self.target_not_drained(),
                    Gate::TargetHealthy => self.target_healthy(),
                    Gate::TargetWritable => self.target_writable(),
                    Gate::Cooldown => self.cooldown(),
                };
                let (pass, message) = match said {
                    Ok(message) => (true, message),
                    Err(message) => (false, message),
                };
                GateWord { gate, pass, message }
            })
            .collect()
    }

    /// The status of the target.
    fn target(&self) -> Option<&RegionStatus> {
        self.health.region_of(self.steered, self.to)
    }

    /// What counts of the target's status.
    fn counts(&self, status: &RegionStatus) -> Confirmed {
        match self.trusts {
            true => Confirmed {
                health: status.health,
                observed: status.observed,
            },
            false => status.confirmed(),
        }
    }

    /// `expect`: the change was made against the present state.
    fn expect(&self, expected: &Expected) -> Result<String, String> {
        let NameState { active, version, .. } = self.known;
        let mut wrong = Vec::new();
        if let Some(region) = expected.region.as_ref().filter(|region| *region != active) {
            wrong.push(format!("{region} was expected to be active"));
        }
        if let Some(seen) = expected.version.filter(|seen| seen != version) {
            wrong.push(format!("version {seen} was expected"));
        }
        if wrong.is_empty() {
            return Ok(format!("{active} is active (version {version})"));
        }
        Err(format!(
            "{}, but {active} is active (version {version}): look again",
            wrong.join(" and ")
        ))
    }

    /// `one-active`: after a switch the target alone is active, if the name has that region at all.
    fn one_active(&self) -> Result<String, String> {
        let (name, to) = (&self.steered.name, self.to);
        if self.steered.order.contains(to) {
            Ok(format!("{to} would be the one active region of {name}"))
        } else {
            Err(format!("{to} is no region of {name}"))
        }
    }

    /// `target-not-drained`, by either mark.
    fn target_not_drained(&self) -> Result<String, String> {
        let (name, to) = (&self.steered.name, self.to);
        if !self.state.is_drained(name, to) {
            return Ok(format!("{to} is not drained"));
        }
        let own = self
            .known
            .drained
            .contains(to)
            .then(|| format!("{to} is drained for {name}: undrain it first"));
        let region = self
            .state
            .evacuated_by(to)
            .map(|seq| format!("{to} is evacuated since seq {seq}: restore it first"));
        Err(own.into_iter().chain(region).collect::<Vec<_>>().join("; "))
    }

    /// `target-healthy`: healthy or degraded, and fresh (what is not fresh is `unknown`).
    fn target_healthy(&self) -> Result<String, String> {
        let status = self.target();
        let said = describe(self.to, status, self.now);
        match status.map(|status| self.counts(status).health) {
            Some(RegionHealth::Healthy | RegionHealth::Degraded) => Ok(said),
            _ => Err(said),
        }
    }

    /// `target-writable`: the application there says it is active; asked only where its role is known.
    fn target_writable(&self) -> Result<String, String> {
        if !is_role_known(self.steered, self.health) {
            return Ok("no probe reports the application's own role".to_owned());
        }
        let to = self.to;
        let since = self
            .target()
            .map_or(Duration::ZERO, |status| self.now.mono.since(status.observed_since));
        match self.target().map_or(Observed::None, |status| self.counts(status).observed) {
            Observed::Active => Ok(format!("the application in {to} says that it is active, since {}", show_age(since))),
            Observed::Passive => Err(format!(
                "the application in {to} says that it is passive, since {}: promote it first",
                show_age(since)
            )),
            Observed::None => Err(format!("nothing fresh says that the application in {to} is active")),
        }
    }

    /// `cooldown` since the last move; straight back is exempt.
    fn cooldown(&self) -> Result<String, String> {
        let cooldown = self.steered.app.cooldown;
        let Some(moved) = self.known.moved_at else {
            return Ok("never moved".to_owned());
        };
        let ago = self.now.mono.since(moved);
        if ago >= cooldown {
            return Ok(format!("the last move was {} ago", show_age(ago)));
        }
        if self.known.came_from.as_ref() == Some(self.to) {
            return Ok(format!("straight back to {}, which was left {} ago", self.to, show_age(ago)));
        }
        let left = show_age(cooldown.saturating_sub(ago));
        Err(format!(
            "the last move was {} ago: {left} of the cooldown of {} are left",
            show_age(ago),
            show_duration(cooldown)
        ))
    }
}
