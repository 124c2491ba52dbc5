//! The decision: for one steered name the endpoints to answer, and why. Total and deterministic.
//!
//! The table of the README, "Decisions" (A is the active region, T a candidate that passes every gate but the cooldown):
//!
//! | health of A | policy | answer |
//! |---|---|---|
//! | healthy, degraded, unknown | any | A's usable endpoints |
//! | unhealthy | manual, follow | `when-all-down` |
//! | unhealthy | one-way, automatic, with a T | all of A's endpoints: the move is under way |
//! | unhealthy | one-way, automatic, without | `when-all-down` |
//!
//! Moving is not decided here: A is what the ledger says. What is answered never depends on a delay either; while a policy waits, A answers.
//!
//! Family rule: sick addresses are left out while a usable one of the same family remains in the region; a family that has none left
//! answers all of its own. So no answer is empty because of health (promise 3).
//!
//! Choices: a name that the ledger does not know yet is decided as it would be added (first region in order without a
//! region's mark). `when-all-down = "all"` cannot mix addresses and a host name in one answer: regions whose form is unlike A's are left out.
//! A region without any endpoint to answer (a config that `config` would have refused) answers SERVFAIL, which is retried, rather than a negative that is cached.

use crate::model::{
    Answer, Decision, Endpoint, Failover, HealthSource, Now, Reason, RegionHealth, RegionId, RegionStatus, SteeredName, Verdict,
    WhenAllDown,
};
use crate::role::{NameState, State, policy_target};
use std::net::IpAddr;
use std::sync::Arc;

/// Decides what a steered name answers now; the table above.
pub fn decide(steered: &SteeredName, state: &State, health: &dyn HealthSource, now: Now) -> Decision {
    decide_known(steered, state.name(&steered.name), state, health, now)
}

/// The same, for who has found already what was decided for the name.
pub fn decide_known(steered: &SteeredName, known: Option<&NameState>, state: &State, health: &dyn HealthSource, now: Now) -> Decision {
    let active = active_of(steered, known, state);
    let status = health.region_of(steered, &active);
    let (answer, region, reason) = match status.map_or(RegionHealth::Unknown, |status| status.health) {
        RegionHealth::Unhealthy => failing(steered, state, health, now, &active),
        RegionHealth::Healthy => (usable(steered, &active, status), Some(active.clone()), Reason::Healthy),
        RegionHealth::Degraded => (usable(steered, &active, status), Some(active.clone()), Reason::Degraded),
        RegionHealth::Unknown => (usable(steered, &active, status), Some(active.clone()), Reason::Unknown),
    };
    let region = region.filter(|_| *answer != Answer::Servfail);
    let is_home_drained = known.is_some_and(|known| known.home != active && state.is_drained_at(known, &known.home));
    Decision {
        is_home_drained,
        name: steered.name.clone(),
        app: steered.app.id.clone(),
        active,
        region,
        answer,
        ttl: steered.app.ttl,
        reason,
    }
}

/// The active region by the ledger; for a name that it does not know yet, the one with which it would start.
fn active_of(steered: &SteeredName, known: Option<&NameState>, state: &State) -> RegionId {
    if let Some(known) = known {
        return known.active.clone();
    }
    let start = steered.order.iter().find(|region| state.evacuated_by(region).is_none());
    let first = start.or(steered.order.first()).cloned();
    first.unwrap_or_else(|| RegionId::new("")) // A name without regions does not get through `config`.
}

/// Everything that a region answers when it is answered whole; for compiling every region's answer beforehand.
pub fn answer_of(steered: &SteeredName, region: &RegionId) -> Arc<Answer> {
    let nothing = || Arc::new(Answer::of(std::iter::empty()));
    steered.whole(region).cloned().unwrap_or_else(nothing)
}

/// The active region is unhealthy: rows 3 to 6.
fn failing(
    steered: &SteeredName,
    state: &State,
    health: &dyn HealthSource,
    now: Now,
    active: &RegionId,
) -> (Arc<Answer>, Option<RegionId>, Reason) {
    let moves = matches!(steered.app.failover, Failover::OneWay | Failover::Automatic);
    if moves && policy_target(state, steered, health, now).is_some() {
        return (answer_of(steered, active), Some(active.clone()), Reason::WaitingToMove);
    }
    match &steered.app.when_all_down {
        WhenAllDown::Active => (answer_of(steered, active), Some(active.clone()), Reason::AllDownActive),
        WhenAllDown::All => {
            let regions = all_down_regions(steered, state, active);
            let endpoints = regions.iter().flat_map(|region| steered.app.endpoints_of(region));
            let region = Some(active.clone()).filter(|_| regions.len() == 1);
            (Arc::new(Answer::of(alike(endpoints))), region, Reason::AllDownAll)
        }
        WhenAllDown::Servfail => (Arc::new(Answer::Servfail), None, Reason::AllDownServfail),
        WhenAllDown::Addresses(addresses) => {
            let instead: Vec<Endpoint> = addresses.iter().copied().map(Endpoint::Address).collect();
            (Arc::new(Answer::of(instead.iter())), None, Reason::AllDownInstead)
        }
        WhenAllDown::Host(host) => (Arc::new(Answer::Host(host.clone())), None, Reason::AllDownInstead),
    }
}

/// The regions of `when-all-down = "all"`: the active one, then every one that the policy may move to by itself: never a drained
/// one, under one-way none that was left, under manual none at all.
fn all_down_regions(steered: &SteeredName, state: &State, active: &RegionId) -> Vec<RegionId> {
    let known = state.name(&steered.name);
    let may_move_to = |region: &&RegionId| match steered.app.failover {
        Failover::Manual => false,
        Failover::OneWay => !known.is_some_and(|known| known.left.contains(*region)),
        Failover::Automatic | Failover::Follow => true,
    };
    let others = steered
        .order
        .iter()
        .filter(|region| *region != active && !state.is_drained(&steered.name, region))
        .filter(may_move_to);
    std::iter::once(active).chain(others).cloned().collect()
}

/// The endpoints of the same form (address or host name) as the first, so that they fit into one answer.
fn alike<'a>(endpoints: impl Iterator<Item = &'a Endpoint>) -> impl Iterator<Item = &'a Endpoint> {
    let mut form = None;
    endpoints.filter(move |endpoint| {
        let is_host = matches!(endpoint, Endpoint::Host(_));
        *form.get_or_insert(is_host) == is_host
    })
}

/// The usable endpoints of a region, by the family rule.
fn usable(steered: &SteeredName, region: &RegionId, status: Option<&RegionStatus>) -> Arc<Answer> {
    let all_are = match status.map_or(RegionHealth::Unknown, |status| status.health) {
        RegionHealth::Healthy => true,
        // What is not probed is not known to be sick.
        RegionHealth::Unknown => steered.app.probes.is_empty(),
        RegionHealth::Degraded | RegionHealth::Unhealthy => false,
    };
    if all_are {
        return answer_of(steered, region);
    }
    let endpoints = steered.app.endpoints_of(region);
    let fine = |endpoint: &Endpoint| verdict(status, endpoint).is_usable();
    if endpoints.iter().all(fine) {
        return answer_of(steered, region);
    }
    let family = |wanted: Family| {
        let of = move |endpoint: &&Endpoint| Family::of(endpoint) == wanted;
        let any = endpoints.iter().filter(of).any(fine);
        endpoints.iter().filter(of).filter(move |endpoint| !any || fine(endpoint))
    };
    let answer = Answer::of(family(Family::Host).chain(family(Family::V4)).chain(family(Family::V6)));
    Arc::new(answer)
}

/// Verdict on an endpoint; `unknown` where there is none.
pub(super) fn verdict(status: Option<&RegionStatus>, endpoint: &Endpoint) -> Verdict {
    status
        .and_then(|status| status.endpoints.iter().find(|one| one.endpoint == *endpoint))
        .map_or(Verdict::Unknown, |one| one.verdict)
}

/// What kind of a record an endpoint is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// A.
    V4,
    /// AAAA.
    V6,
    /// CNAME.
    Host,
}

impl Family {
    /// The family of an endpoint.
    pub(super) fn of(endpoint: &Endpoint) -> Family {
        match endpoint {
            Endpoint::Address(IpAddr::V4(_)) => Family::V4,
            Endpoint::Address(IpAddr::V6(_)) => Family::V6,
            Endpoint::Host(_) => Family::Host,
        }
    }
}
