//! Conditions worth waking somebody, for one steered name, as functions of the present state.
//!
//! An alert lasts as long as its condition; the caller compares with what it raised before. The kinds are a closed
//! set, so that dashboards can list them; those that no pure function can see are raised by the one who sees them.
//! That a name is away from home is no alert: after a failover it is what was decided, and it is shown everywhere.

use super::decide::{Family, verdict};
use crate::model::{
    Decision, Failover, HealthSource, Now, Observed, RegionHealth, RegionId, RegionStatus, SteeredName, Verdict, show_duration,
};
use crate::role::{NameState, State, candidates, is_role_known, policy_target};
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// Declares the kinds with their kebab-case names.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $text:literal,)*) => {
        /// What kind of an alert: the `alert` label of `pointsman_alert`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AlertKind {
            $($(#[$doc])* $kind,)*
        }

        impl AlertKind {
            /// Every kind.
            pub const ALL: &'static [AlertKind] = &[$(AlertKind::$kind),*];

            /// As written in logs, events and metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(AlertKind::$kind => $text,)*
                }
            }
        }
    };
}

kinds! {
    /// The active region is unhealthy and no other region is a candidate.
    NoTarget = "no-target",
    /// The active region is unhealthy, there are candidates, and a gate keeps the policy from moving to any of them.
    MoveBlocked = "move-blocked",
    /// `when-all-down` is at work.
    FailOpen = "fail-open",
    /// Every endpoint of one address family is sick and answered all the same, while another family is fine.
    FamilyDown = "family-down",
    /// A change waits for an operator.
    ProposalOpen = "proposal-open",
    /// The application in the active region says that it is passive.
    ActiveSaysPassive = "active-says-passive",
    /// The application is active in several regions.
    TwoActive = "two-active",
    /// The application is active in no region.
    NoneActive = "none-active",
    /// The application is active in another region than the name, and only there.
    ActiveElsewhere = "active-elsewhere",
    /// Probes of the active region have brought no evidence at all for longer than evidence is fresh.
    HealthUnknown = "health-unknown",
    /// The evidence on the active region is too old.
    HealthStale = "health-stale",
    /// A probe of the application cannot run on this node, so it says nothing of the endpoints.
    ProbeCannotRun = "probe-cannot-run",
    /// Most of everything was cut off at once, so the prober is suspected and no policy moves; raised by the writer.
    ProberSuspected = "prober-suspected",
    /// This node is late for its own probes again and again; raised by the writer.
    ProberLate = "prober-late",
    /// A host name that is an endpoint cannot be looked up; raised by the writer.
    LookupFailing = "lookup-failing",
    /// The name's last move was made only because an operator overrode a gate.
    OverrideUsed = "override-used",
    /// The ledger cannot be written, so nothing changes; moves and proposals are retried. Raised by the writer.
    CannotRecord = "cannot-record",
    /// Today's config was not accepted and an earlier one is served; raised by the writer.
    ConfigRejected = "config-rejected",
    /// The last reload was refused and the config from before is served; raised by the writer.
    ReloadRefused = "reload-refused",
    /// The node was started with `--answer-only`, or its writer broke, and it takes no change; raised by the writer's task.
    AnswerOnly = "answer-only",
    /// A certificate of this node cannot be read from its files; raised by the writer.
    CertificateUnusable = "certificate-unusable",
    /// The wall clock stepped; raised by the writer.
    ClockStepped = "clock-stepped",
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for AlertKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One alert of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// What kind.
    pub kind: AlertKind,
    /// What is the matter, in words.
    pub message: String,
}

/// The alerts of a name now, at most one of a kind, in the order of the kinds.
pub fn alerts(steered: &SteeredName, state: &State, health: &dyn HealthSource, now: Now, decision: &Decision) -> Vec<Alert> {
    alerts_known(steered, state.name(&steered.name), state, health, now, decision)
}

/// The same, for who has found already what was decided for the name.
pub fn alerts_known(
    steered: &SteeredName,
    known: Option<&NameState>,
    state: &State,
    health: &dyn HealthSource,
    now: Now,
    decision: &Decision,
) -> Vec<Alert> {
    let active = health.region_of(steered, &decision.active);
    let mut all: Vec<Alert> = [
        target_alert(steered, state, health, now, decision, active),
        decision.reason.is_fail_open().then(|| Alert {
            kind: AlertKind::FailOpen,
            message: format!(
                "{} answers {}: {}",
                steered.name,
                decision.answer.records().join(" "),
                decision.reason.sentence()
            ),
        }),
        family_alert(steered, decision, active),
        proposal_alert(known, state),
        override_alert(known),
    ]
    .into_iter()
    .flatten()
    .collect();
    all.extend(observed_alerts(steered, health, decision, active));
    all.extend(age_alert(steered, now, decision, active));
    all.extend(cannot_run_alert(steered, health));
    all.sort_by_key(|alert| alert.kind);
    all
}

/// `no-target` and `move-blocked`.
fn target_alert(
    steered: &SteeredName,
    state: &State,
    health: &dyn HealthSource,
    now: Now,
    decision: &Decision,
    active: Option<&RegionStatus>,
) -> Option<Alert> {
    let status = active.filter(|status| status.health == RegionHealth::Unhealthy)?;
    let sick = format!("{} is unhealthy ({})", decision.active, status.reason);
    let found = candidates(state, steered, health, now);
    if found.is_empty() {
        return Some(Alert {
            kind: AlertKind::NoTarget,
            message: format!("{sick} and no other region can take {}", steered.name),
        });
    }
    let moves = matches!(steered.app.failover, Failover::OneWay | Failover::Automatic);
    (moves && policy_target(state, steered, health, now).is_none()).then(|| Alert {
        kind: AlertKind::MoveBlocked,
        message: format!(
            "{sick} and the gates keep {} from moving to {}: see explain",
            steered.name,
            join(&found)
        ),
    })
}

/// `family-down`.
fn family_alert(steered: &SteeredName, decision: &Decision, active: Option<&RegionStatus>) -> Option<Alert> {
    if decision.reason.is_fail_open() || active.is_none_or(|status| status.health == RegionHealth::Unhealthy) {
        return None;
    }
    let endpoints = steered.app.endpoints_of(&decision.active);
    let is_down = |family: Family| {
        let mut of = endpoints.iter().filter(|endpoint| Family::of(endpoint) == family).peekable();
        of.peek().is_some() && of.all(|endpoint| verdict(active, endpoint) == Verdict::Unhealthy)
    };
    let down = match (is_down(Family::V4), is_down(Family::V6)) {
        (true, _) => "IPv4",
        (_, true) => "IPv6",
        _ => return None,
    };
    Some(Alert {
        kind: AlertKind::FamilyDown,
        message: format!(
            "every {down} endpoint in {} is unhealthy; all of them are answered",
            decision.active
        ),
    })
}

/// `proposal-open`.
fn proposal_alert(known: Option<&NameState>, state: &State) -> Option<Alert> {
    let proposal = known?.proposal.and_then(|id| state.proposal(id))?;
    Some(Alert {
        kind: AlertKind::ProposalOpen,
        message: format!(
            "proposal {}: move {} from {} to {}; approve or reject it",
            proposal.id, proposal.name, proposal.from, proposal.to
        ),
    })
}

/// `override-used`.
fn override_alert(known: Option<&NameState>) -> Option<Alert> {
    let overrode = known?.overrode.as_ref()?;
    Some(Alert {
        kind: AlertKind::OverrideUsed,
        message: overrode.to_string(),
    })
}

/// What the application says, against what was decided.
fn observed_alerts(steered: &SteeredName, health: &dyn HealthSource, decision: &Decision, active: Option<&RegionStatus>) -> Vec<Alert> {
    if !is_role_known(steered, health) {
        return Vec::new();
    }
    let status = |region: &RegionId| health.region_of(steered, region);
    let says = |region: &&RegionId| status(region).is_some_and(|status| status.observed == Observed::Active);
    let saying: Vec<RegionId> = steered.order.iter().filter(says).cloned().collect();
    let probed = steered
        .order
        .iter()
        .any(|region| status(region).is_some_and(|status| status.evidence_at.is_some()));
    let mut alerts = Vec::new();
    if active.is_some_and(|status| status.observed == Observed::Passive) {
        alerts.push(Alert {
            kind: AlertKind::ActiveSaysPassive,
            message: format!(
                "{} is active for {}, and its application says that it is passive",
                decision.active, steered.name
            ),
        });
    }
    let (kind, message) = match saying.as_slice() {
        [] if probed => (
            AlertKind::NoneActive,
            format!("no region's application says that it is active for {}", steered.name),
        ),
        [one] if *one != decision.active => (
            AlertKind::ActiveElsewhere,
            format!(
                "the application says that it is active in {one}; {} is answered from {}",
                steered.name, decision.active
            ),
        ),
        [] | [_] => return alerts,
        several => (
            AlertKind::TwoActive,
            format!("the application says that it is active in {}", join(several)),
        ),
    };
    alerts.push(Alert { kind, message });
    alerts
}

/// `health-unknown` and `health-stale`, of the active region.
fn age_alert(steered: &SteeredName, now: Now, decision: &Decision, active: Option<&RegionStatus>) -> Option<Alert> {
    let counting = steered.app.probes.iter().filter(|probe| !probe.monitoring_only);
    let patience = counting.map(|probe| probe.stale_after).max()?;
    let status = active.filter(|status| status.health == RegionHealth::Unknown)?;
    let region = &decision.active;
    match status.evidence_at {
        Some(at) => {
            let age = now.mono.since(at);
            (age >= patience).then(|| Alert {
                kind: AlertKind::HealthStale,
                message: format!("the last evidence on {region} is {} old", show_duration(whole(age))),
            })
        }
        None => (now.mono.since(status.since) >= patience).then(|| Alert {
            kind: AlertKind::HealthUnknown,
            message: format!("there is no evidence on {region} at all: {}", status.reason),
        }),
    }
}

/// `probe-cannot-run`, of any region: a standby that nobody can look at is no standby.
fn cannot_run_alert(steered: &SteeredName, health: &dyn HealthSource) -> Option<Alert> {
    steered.order.iter().find_map(|region| {
        let why = health.region_of(steered, region)?.cannot_run.as_ref()?;
        Some(Alert {
            kind: AlertKind::ProbeCannotRun,
            message: format!("a probe of {region} cannot run on this node, and says nothing of {region}: {why}"),
        })
    })
}

/// To whole seconds.
fn whole(age: Duration) -> Duration {
    Duration::from_secs(age.as_secs())
}

/// Regions in a sentence.
fn join(regions: &[RegionId]) -> String {
    regions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
