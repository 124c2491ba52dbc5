//! Probes run once, now: what `pointsman probe` shows. Nothing of it counts towards health.
//!
//! Owns the list of targets of some applications with their host names looked up, and running them, so many at a time.
//! Deliberately absent: schedules, kept connections, verdicts.

use super::Kit;
use super::judge::Judged;
use super::lookup::Lookup;
use super::resolver::Resolver;
use super::{kind, task};
use crate::model::{
    App, AppId, Endpoint, FailReason, FeedSource, Mono, Name, Observed, Outcome, ProbeKind, ProbeSpec, ProbeTarget, RegionId,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Most runs under way at the same time.
const RUNS_MAX: usize = 32;
/// How long a host name is looked up.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

/// What one run of one probe at one address saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Once {
    /// The application.
    pub app: AppId,
    /// The region.
    pub region: RegionId,
    /// The endpoint as configured.
    pub endpoint: Endpoint,
    /// The address; none when the host name did not resolve.
    pub address: Option<IpAddr>,
    /// Place of the probe in the application's list, from 1.
    pub number: usize,
    /// `http`, `tcp`, …
    pub kind: &'static str,
    /// Whether it counts towards health.
    pub counting: bool,
    /// Whether it passed; none: it cannot be run from here.
    pub passed: Option<bool>,
    /// Class of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<FailReason>,
    /// What it saw, or why it failed.
    pub message: String,
    /// What the application says it is; none where this probe does not report it or could not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// Numbers taken from the answer.
    pub values: BTreeMap<String, f64>,
    /// How long it took.
    pub took_seconds: f64,
}

/// One run to make: the probe and where.
pub struct Planned {
    spec: ProbeSpec,
    target: ProbeTarget,
}

/// What there is to run for an application, and what could not be planned because a host name did not resolve.
pub async fn plan(app: &App) -> (Vec<Planned>, Vec<Once>) {
    let (mut planned, mut lost) = (Vec::new(), Vec::new());
    for region in &app.regions {
        for endpoint in app.endpoints_of(region) {
            let addresses = match endpoint {
                Endpoint::Address(address) => Ok(vec![*address]),
                Endpoint::Host(host) => addresses_of(host).await,
            };
            for (probe, spec) in app.probes.iter().enumerate() {
                let at = |address| ProbeTarget {
                    app: app.id.clone(),
                    region: region.clone(),
                    endpoint: endpoint.clone(),
                    address,
                    probe,
                };
                match &addresses {
                    Ok(addresses) => planned.extend(addresses.iter().map(|address| Planned {
                        spec: spec.clone(),
                        target: at(*address),
                    })),
                    Err(why) => lost.push(unresolved(app, region, endpoint, probe, spec, why)),
                }
            }
        }
    }
    (planned, lost)
}

/// One probe at one address, outside of any config.
pub fn plan_one(spec: ProbeSpec, address: IpAddr) -> Planned {
    let target = ProbeTarget {
        app: AppId::new("none"),
        region: RegionId::new("none"),
        endpoint: Endpoint::Address(address),
        address,
        probe: 0,
    };
    Planned { spec, target }
}

/// Runs what is planned with what was posted and read so far, so many at a time, and tells each run when it is done, in the order in which they end.
pub async fn run(planned: Vec<Planned>, kit: &Kit, mut tell: impl FnMut(Once)) {
    let mut waiting = planned.into_iter();
    let mut running = JoinSet::new();
    for one in waiting.by_ref().take(RUNS_MAX) {
        running.spawn(run_one(one, kit.clone()));
    }
    while let Some(ended) = running.join_next().await {
        // A run that panicked has said so in the log; the others go on.
        if let Ok(once) = ended {
            tell(once);
        }
        if let Some(next) = waiting.next() {
            running.spawn(run_one(next, kit.clone()));
        }
    }
}

/// What can be run without a server, and what cannot, since it is posted to one: told apart from what failed.
pub fn without_server(planned: Vec<Planned>) -> (Vec<Planned>, Vec<Once>) {
    let is_posted = |one: &Planned| matches!(&one.spec.kind, ProbeKind::Feed(feed) if matches!(feed.source, FeedSource::Posted(_)));
    let (posted, rest): (Vec<Planned>, Vec<Planned>) = planned.into_iter().partition(is_posted);
    let not_run = posted.into_iter().map(|Planned { spec, target }| Once {
        passed: None,
        message: "posted to the server; not run from here".to_owned(),
        ..Once::of(&spec, &Outcome::new(target, Mono::ORIGIN, Duration::ZERO, Ok(())))
    });
    (rest, not_run.collect())
}

/// One run.
async fn run_one(one: Planned, kit: Kit) -> Once {
    let Planned { spec, target } = one;
    let start = Instant::now();
    let judged: Judged = task::run(&mut *kind(&spec, &target, &kit), &spec).await;
    let outcome = judged.outcome(target, Mono::ORIGIN, start.elapsed());
    Once::of(&spec, &outcome)
}

impl Once {
    /// An outcome for display.
    fn of(spec: &ProbeSpec, outcome: &Outcome) -> Once {
        let (target, failure) = (&outcome.target, outcome.result.as_ref().err());
        Once {
            app: target.app.clone(),
            region: target.region.clone(),
            endpoint: target.endpoint.clone(),
            address: Some(target.address),
            number: target.probe + 1,
            kind: spec.kind.as_str(),
            counting: !spec.monitoring_only,
            passed: Some(failure.is_none()),
            reason: failure.map(|failure| failure.reason),
            message: failure.map_or_else(|| outcome.note.clone(), |failure| failure.message.clone()),
            observed: outcome.observed,
            values: outcome.values.iter().map(|(name, number)| (name.to_string(), *number)).collect(),
            took_seconds: outcome.took.as_secs_f64(),
        }
    }
}

/// A probe that has no address to run at.
fn unresolved(app: &App, region: &RegionId, endpoint: &Endpoint, probe: usize, spec: &ProbeSpec, why: &str) -> Once {
    Once {
        app: app.id.clone(),
        region: region.clone(),
        endpoint: endpoint.clone(),
        address: None,
        number: probe + 1,
        kind: spec.kind.as_str(),
        counting: !spec.monitoring_only,
        passed: Some(false),
        reason: Some(FailReason::Internal),
        message: format!("the host name did not resolve: {why}"),
        observed: None,
        values: BTreeMap::new(),
        took_seconds: 0.0,
    }
}

/// The addresses of a host name.
pub async fn addresses_of(host: &Name) -> Result<Vec<IpAddr>, String> {
    let found = tokio::time::timeout(LOOKUP_TIME_MAX, Resolver::system().addresses(host)).await;
    match found.map(|found| found.map(|found| found.merge(&[]))) {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err("no address".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
