//! Probes on the API: what each last said, for `explain`, and `POST /v1/names/{name}/probe`, which runs them once, now.

use super::Api;
use super::caller::Caller;
use super::change::Payload;
use super::error::ApiError;
use super::read::{find, name_of};
use crate::health::TargetStatus;
use crate::model::{Endpoint, Now, Observed, RegionId, Verdict, show_duration};
use crate::probe::once;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Most runs that one request may ask for.
const RUNS_MAX: usize = 1_000;

/// Body of `probe`: nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeBody {}

/// `POST /v1/names/{name}/probe`: runs every probe of the name's application once, from this node. Nothing of it counts
/// towards health, and nothing is recorded.
pub(super) async fn probe(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    Payload(ProbeBody {}): Payload<ProbeBody>,
) -> Result<Json<Value>, ApiError> {
    let name = name_of(path)?;
    let view = api.handle.published();
    let steered = find(&view, &name).await?;
    // One at a time: what is run by hand must not become a load of its own.
    let Ok(_permit) = api.probing.try_acquire() else {
        let message = "probes are being run for somebody else at this moment; ask again";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "busy", message));
    };
    let (planned, mut seen) = once::plan(&steered.app).await;
    if planned.len() > RUNS_MAX {
        let message = format!("{} probes would run, at most {RUNS_MAX} may be run by hand", planned.len());
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "too-many", message));
    }
    tracing::info!(%name, actor = %caller.actor(), runs = planned.len(), "probes are run by hand");
    once::run(planned, api.handle.kit(), |once| seen.push(once)).await;
    // In the order of the config, however they ended.
    let place = |region: &RegionId| steered.order.iter().position(|other| other == region);
    seen.sort_by(|a, b| (place(&a.region), &a.endpoint, a.address, a.number).cmp(&(place(&b.region), &b.endpoint, b.address, b.number)));
    Ok(Json(json!({ "items": seen })))
}

/// What one probe at one address last said, in a line.
pub(super) fn line(now: Now, status: &TargetStatus<'_>, all: &[TargetStatus<'_>]) -> String {
    // Two probes of one kind are told apart by their numbers, counted in the config.
    let mut others = all.iter().filter(|other| other.target.probe != status.target.probe);
    let number = match others.any(|other| other.kind == status.kind) {
        true => format!(" (probe {})", status.target.probe + 1),
        false => String::new(),
    };
    let at = match &status.target.endpoint {
        Endpoint::Address(_) => String::new(),
        Endpoint::Host(_) => format!(" at {}", status.target.address),
    };
    let counting = if status.counting { "" } else { " (shown, not counted)" };
    let run = status.aside.map(|(_, run)| run).or(status.last);
    let said = match run {
        None => "has not run yet".to_owned(),
        Some(run) => {
            let took = show_duration(Duration::from_millis(
                u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX).max(1),
            ));
            let ago = seconds(now.mono.since(run.at));
            match &run.result {
                Ok(()) if run.note.is_empty() => format!("passed in {took}, {ago} ago"),
                Ok(()) => format!("passed in {took}, {ago} ago: {}", run.note),
                Err(failure) => format!("failed after {took}, {ago} ago: {}", failure.message),
            }
        }
    };
    let values = status.last.map_or(String::new(), |run| {
        let shown = run
            .values
            .iter()
            .map(|(name, number)| format!(" {name}={}", (number * 1000.0).round() / 1000.0));
        shown.collect()
    });
    let count = match (status.verdict, status.failures) {
        (Verdict::Unhealthy, _) => format!("; {} of {} successes in a row to be healthy", status.successes, status.rise),
        (_, 0) => String::new(),
        (_, failures) => format!("; {failures} of {} failures to be unhealthy", status.fall),
    };
    let since = format!("; {} since {}", status.verdict.as_str(), seconds(now.mono.since(status.since)));
    let next = status.next.map_or(String::new(), |next| match next.since(now.mono) {
        Duration::ZERO => "; next run due".to_owned(),
        left => format!("; next run in {}", seconds(left)),
    });
    let aside = status.aside.map_or(String::new(), |(why, _)| format!("; {}", why.words()));
    let was = match (status.verdict, status.stale_verdict) {
        (Verdict::Unknown, Some(was)) if was != Verdict::Unknown => format!(", was {}", was.as_str()),
        _ => String::new(),
    };
    let says = match status.observed {
        Observed::None => String::new(),
        observed => format!("; says {}", observed.as_str()),
    };
    format!(
        "{}{number}{at}{counting} {said}{values}{aside}{says}{since}{was}{count}{next}",
        status.kind
    )
}

/// A time in whole seconds.
fn seconds(time: Duration) -> String {
    show_duration(Duration::from_secs(time.as_secs()))
}

/// One probe at one address.
pub(super) fn view(now: Now, status: &TargetStatus<'_>) -> Value {
    let failure = status.last.and_then(|run| run.result.as_ref().err());
    let aside = status.aside.map(|(why, run)| {
        let failure = run.result.as_ref().err();
        json!({
            "why": why,
            "reason": failure.map(|failure| failure.reason),
            "message": failure.map(|failure| &failure.message),
            "took_seconds": run.took.as_secs_f64(),
            "age_seconds": now.mono.since(run.at).as_secs_f64(),
        })
    });
    let values: serde_json::Map<String, Value> = status
        .last
        .iter()
        .flat_map(|run| &run.values)
        .map(|(name, number)| (name.to_string(), json!(number)))
        .collect();
    json!({
        "kind": status.kind,
        "number": status.target.probe + 1,
        "endpoint": status.target.endpoint,
        "address": status.target.address,
        "counting": status.counting,
        "verdict": status.verdict,
        "stale_verdict": status.stale_verdict,
        "since_seconds": now.mono.since(status.since).as_secs_f64(),
        "failures": status.failures,
        "fall": status.fall,
        "successes": status.successes,
        "rise": status.rise,
        "result": status.last.map(|run| if run.result.is_ok() { "pass" } else { "fail" }),
        "reason": failure.map(|failure| failure.reason),
        "message": failure.map_or_else(|| status.last.map(|run| run.note.as_str()), |failure| Some(failure.message.as_str())),
        "values": values,
        "took_seconds": status.last.map(|run| run.took.as_secs_f64()),
        "age_seconds": status.last.map(|run| now.mono.since(run.at).as_secs_f64()),
        "next_seconds": status.next.map(|next| next.since(now.mono).as_secs_f64()),
        "observed": status.observed,
        "not_counted": aside,
    })
}
