//! The worst case from a region's failure to the last client's new answer (promise 8), as a formula with its numbers.
//!
//! `interval × (1 + JITTER) × fall + timeout + failover-delay + TTL`, for the slowest counting probe; where it has a
//! recheck-interval, `interval × (1 + JITTER) + recheck-interval × (1 + JITTER) × (fall - 1) + timeout + …`, since only the first
//! failure is waited for at the usual pace. A policy that moves by itself does so only once the target was heard after the first
//! failure, so with a rapid re-check and a short failover-delay it is `interval × (1 + JITTER) × 2 + timeout + TTL` where that is more. A region is given up when all of its endpoints are, and an endpoint when its probes say so. With `require` less than all, the slowest is an upper bound.
//! What a person takes to decide is unknown and shown as its own term; resolvers that stretch TTLs and open connections are not counted.

use crate::model::{App, Failover, JITTER, ProbeSpec, show_duration};
use serde::Serialize;
use std::time::Duration;

/// The worst case, term by term.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorstCase {
    /// From the failure to the verdict; none: nothing is probed, so nobody notices.
    #[serde(serialize_with = "seconds")]
    pub detect: Option<Duration>,
    /// How long a policy waits on top; none under `manual`.
    #[serde(serialize_with = "seconds")]
    pub delay: Option<Duration>,
    /// Whether a person decides in between, who takes as long as it takes.
    pub person: bool,
    /// How long resolvers keep the old answer.
    #[serde(serialize_with = "seconds")]
    pub ttl: Option<Duration>,
    /// The sum of what is known.
    #[serde(serialize_with = "seconds")]
    pub total: Option<Duration>,
    /// The formula with its numbers.
    pub formula: String,
}

/// Durations go to scripts as seconds.
fn seconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

/// How long a probe may take to turn unhealthy.
fn detection(probe: &ProbeSpec) -> Duration {
    let again = probe.recheck_interval.unwrap_or(probe.interval);
    let waits = probe.interval.as_secs_f64() + again.as_secs_f64() * f64::from(probe.fall.saturating_sub(1));
    let waits = Duration::try_from_secs_f64(waits * (1.0 + JITTER)).unwrap_or(Duration::MAX);
    // To the millisecond, so that 5s × 1.1 × 3 is 16.5s to readers too; up, since it is a bound.
    let ms = waits.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX)).saturating_add(probe.timeout)
}

/// The terms of [`detection`] before the timeout: `5s × 1.1 × 3`, `10s × 1.1 + 1s × 1.1 × 2`.
fn waits(probe: &ProbeSpec) -> String {
    let (interval, factor) = (show_duration(probe.interval), 1.0 + JITTER);
    match probe.recheck_interval.filter(|_| probe.fall > 1) {
        Some(recheck) => format!("{interval} × {factor} + {} × {factor} × {}", show_duration(recheck), probe.fall - 1),
        None => format!("{interval} × {factor} × {}", probe.fall),
    }
}

/// Until the target was heard after the first failure.
fn hearing(probe: &ProbeSpec) -> Duration {
    let again = ProbeSpec {
        recheck_interval: None,
        fall: 2,
        ..probe.clone()
    };
    detection(&again)
}

/// The worst case of an application's names.
pub fn worst_case(app: &App) -> WorstCase {
    let ttl = Duration::from_secs(u64::from(app.ttl));
    let person = app.failover == Failover::Manual;
    let delay = (!person).then_some(app.failover_delay);
    let slowest = app
        .probes
        .iter()
        .filter(|probe| !probe.monitoring_only)
        .max_by_key(|probe| detection(probe));
    let detect = slowest.map(detection);
    let moves = matches!(app.failover, Failover::OneWay | Failover::Automatic);
    let until = detect.map(|detect| detect.saturating_add(delay.unwrap_or_default()));
    let hears = slowest.filter(|_| moves).map(hearing).filter(|hears| Some(*hears) > until);
    let total = hears.or(until).map(|until| until.saturating_add(ttl));
    WorstCase {
        detect,
        delay,
        person,
        ttl: Some(ttl),
        total,
        formula: match (slowest, total) {
            (Some(probe), Some(total)) if hears.is_some() => format!(
                "{} × {} × 2 + {} timeout until the target was heard too + {} TTL = {}",
                show_duration(probe.interval),
                1.0 + JITTER,
                show_duration(probe.timeout),
                show_duration(ttl),
                show_duration(total)
            ),
            _ => formula(slowest, delay, ttl, total),
        },
    }
}

/// `5s × 1.1 × 3 + 2s timeout + a person's decision + 30s TTL = 48.5s + a person's decision`
fn formula(slowest: Option<&ProbeSpec>, delay: Option<Duration>, ttl: Duration, total: Option<Duration>) -> String {
    let (Some(probe), Some(total)) = (slowest, total) else {
        return format!("nothing is probed: a person notices and decides, then {} TTL", show_duration(ttl));
    };
    let person = "a person's decision";
    let wait = delay.map_or(person.to_owned(), |delay| format!("{} failover-delay", show_duration(delay)));
    let more = if delay.is_none() { format!(" + {person}") } else { String::new() };
    format!(
        "{} + {} timeout + {wait} + {} TTL = {}{more}",
        waits(probe),
        show_duration(probe.timeout),
        show_duration(ttl),
        show_duration(total),
    )
}
