//! Health and observed role: what the probes say, kept apart from what was decided.
//!
//! `unknown` is a third state, neither up nor down: it moves nothing and is served. Every verdict has an
//! age; what is not fresh is `unknown`, with the last verdict kept beside it.

use super::{AppId, Endpoint, Mono, ProbeTarget, RegionId, SteeredName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Verdict on one probe or one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Passing.
    Healthy,
    /// Failing.
    Unhealthy,
    /// No fresh evidence.
    #[default]
    Unknown,
}

impl Verdict {
    /// Whether an endpoint with this verdict may be answered while others are sick: `unknown` is not `unhealthy`.
    pub fn is_usable(self) -> bool {
        self != Verdict::Unhealthy
    }

    /// As written in output and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Healthy => "healthy",
            Verdict::Unhealthy => "unhealthy",
            Verdict::Unknown => "unknown",
        }
    }
}

/// Health of a region for an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionHealth {
    /// All endpoints healthy.
    Healthy,
    /// Some healthy, some not.
    Degraded,
    /// All endpoints unhealthy.
    Unhealthy,
    /// None healthy and some unknown; or not probed.
    #[default]
    Unknown,
}

impl RegionHealth {
    /// Every state, in the order of the metrics.
    pub const ALL: [RegionHealth; 4] = [
        RegionHealth::Healthy,
        RegionHealth::Degraded,
        RegionHealth::Unhealthy,
        RegionHealth::Unknown,
    ];

    /// As written in output and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            RegionHealth::Healthy => "healthy",
            RegionHealth::Degraded => "degraded",
            RegionHealth::Unhealthy => "unhealthy",
            RegionHealth::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RegionHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the application in a region itself says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed {
    /// It takes writes.
    Active,
    /// It stands by.
    Passive,
    /// Nothing fresh says so.
    #[default]
    None,
}

impl Observed {
    /// As written in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Observed::Active => "active",
            Observed::Passive => "passive",
            Observed::None => "none",
        }
    }
}

/// Health of one endpoint with the name of what decided it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// The endpoint as configured.
    pub endpoint: Endpoint,
    /// Over its counting probes.
    pub verdict: Verdict,
}

/// Health of a region for an application: everything that a decision may use.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionStatus {
    /// Over its endpoints.
    pub health: RegionHealth,
    /// Since when `health` is what it is.
    pub since: Mono,
    /// When the latest evidence from a counting probe of this region came; none: never.
    pub evidence_at: Option<Mono>,
    /// Why, in words: `2 of 2 endpoints fail: HTTP 503`, `not probed`.
    pub reason: String,
    /// What the application there says it is.
    pub observed: Observed,
    /// Since when `observed` is what it is.
    pub observed_since: Mono,
    /// Its endpoints in the order of the config.
    pub endpoints: Vec<EndpointStatus>,
    /// While it is unhealthy and cut off: since when the last of its probes was.
    pub cut_since: Option<Mono>,
    /// When a counting probe there passed last.
    pub passed_at: Option<Mono>,
    /// Why a counting probe there cannot run on this node, if one cannot: `postgres: password file …`.
    pub cannot_run: Option<String>,
    /// While it rests on what was heard before this machine was suspended: what is known without that. It is shown and answered
    /// as it was, and nothing is decided on it.
    pub unconfirmed: Option<Confirmed>,
}

/// What is known of a region by what was heard since this machine was suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// Its health.
    pub health: RegionHealth,
    /// What the application there says it is.
    pub observed: Observed,
}

impl RegionStatus {
    /// What may be decided on: health and observed role, as far as they were heard since this machine was suspended.
    pub fn confirmed(&self) -> Confirmed {
        self.unconfirmed.unwrap_or(Confirmed {
            health: self.health,
            observed: self.observed,
        })
    }
}

/// Where decisions read health from. `health::Book` is the one real implementation; tests and the
/// simulation make up others.
pub trait HealthSource: Sync {
    /// The status of a region for an application; none when the pair is not configured.
    fn region(&self, app: &AppId, region: &RegionId) -> Option<&RegionStatus>;

    /// The status of a region for the application of a name.
    fn region_of(&self, steered: &SteeredName, region: &RegionId) -> Option<&RegionStatus> {
        self.region(&steered.app.id, region)
    }

    /// Why the prober itself is suspected to be sick, while it is: no policy moves then, and no proposal opens or ends.
    fn suspicion(&self) -> Option<&Suspicion> {
        None
    }
}

/// Why the prober, and not the regions, is thought to be sick: what the words of the probes added up to when that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// Since when.
    pub since: Mono,
    /// Within which time everything was cut off.
    pub within: Duration,
    /// The share above which it is suspected, percent.
    pub above: u8,
    /// What was found.
    pub figures: Figures,
}

/// Words of probes, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Probes that were heard.
    pub heard: u32,
    /// Those of them that were cut off.
    pub cut: u32,
    /// Regions of which anything was heard.
    pub regions: u32,
    /// Those of them that were cut off.
    pub regions_cut: u32,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            heard,
            cut,
            regions,
            regions_cut,
        } = self.figures;
        write!(
            f,
            "{cut} of {heard} probes heard, in {regions_cut} of {regions} regions, were cut off within {}: more than {} % at once",
            super::show_duration(self.within),
            self.above
        )
    }
}

/// Why a run of a probe says nothing of the endpoint and is not counted: the `reason` label of `pointsman_probe_discarded_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discard {
    /// It got no answer while this process itself was late, or was under way while this machine was suspended.
    Late,
    /// The probe could not run on this node.
    CannotRun,
    /// It was cut off while the prober is suspected.
    Suspected,
}

impl Discard {
    /// Every reason, in the order of the counters.
    pub const ALL: [Discard; 3] = [Discard::Late, Discard::CannotRun, Discard::Suspected];

    /// As written in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Discard::Late => "late",
            Discard::CannotRun => "cannot-run",
            Discard::Suspected => "suspected",
        }
    }

    /// Its place in [`Discard::ALL`].
    pub fn place(self) -> usize {
        match self {
            Discard::Late => 0,
            Discard::CannotRun => 1,
            Discard::Suspected => 2,
        }
    }

    /// For people, after what the run said.
    pub fn words(self) -> &'static str {
        match self {
            Discard::Late => "not counted: this node was late or suspended itself",
            Discard::CannotRun => "not counted: the probe cannot run on this node",
            Discard::Suspected => "not counted: the prober is suspected",
        }
    }
}

/// Why a probe failed: the `reason` label of `pointsman_probe_failures_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailReason {
    /// No answer in time.
    Timeout,
    /// Connection refused, reset or unreachable.
    Connect,
    /// TLS failed: certificate or handshake.
    Tls,
    /// The peer broke the protocol.
    Protocol,
    /// A status or exit code that does not pass.
    Status,
    /// Data that is not what was expected.
    Content,
    /// Login refused.
    Auth,
    /// The probe itself could not run (program missing, file unreadable).
    Internal,
}

impl FailReason {
    /// As written in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            FailReason::Timeout => "timeout",
            FailReason::Connect => "connect",
            FailReason::Tls => "tls",
            FailReason::Protocol => "protocol",
            FailReason::Status => "status",
            FailReason::Content => "content",
            FailReason::Auth => "auth",
            FailReason::Internal => "internal",
        }
    }

    /// Whether nothing came back from the endpoint, so that the fault may as well be the prober's own. Any other failure is an answer.
    pub fn is_cut(self) -> bool {
        matches!(self, FailReason::Timeout | FailReason::Connect | FailReason::Internal)
    }
}

/// A failed run of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its class.
    pub reason: FailReason,
    /// What a person understands: `HTTP 503, expected 200`. At most a few hundred characters, no secrets.
    pub message: String,
}

/// One run of a probe against one address.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Which probe, where.
    pub target: ProbeTarget,
    /// When it ended.
    pub at: Mono,
    /// How long it took.
    pub took: Duration,
    /// How much later than planned its timer fired: the prober's own delay, whatever the peer does. What a run waits
    /// for its turn behind other runs is not in it.
    pub late: Duration,
    /// Starts since the run before that did not come when planned, because that run took longer or because too many were
    /// under way. They are not made up for.
    pub overruns: u32,
    /// Whether it passed.
    pub result: Result<(), Failure>,
    /// What the application said it is; none when this probe does not report it or could not.
    pub observed: Option<Observed>,
    /// When it is planned to run next; none where nothing is planned.
    pub next: Option<Mono>,
    /// What a run that passed saw, in words: `HTTP 200`; may be empty.
    pub note: String,
    /// Numbers taken from the answer, by name.
    pub values: Vec<(Arc<str>, f64)>,
}

impl Outcome {
    /// One that says nothing beyond whether the run passed.
    pub fn new(target: ProbeTarget, at: Mono, took: Duration, result: Result<(), Failure>) -> Outcome {
        Outcome {
            target,
            at,
            took,
            late: Duration::ZERO,
            overruns: 0,
            result,
            observed: None,
            next: None,
            note: String::new(),
            values: Vec::new(),
        }
    }
}
