//! `GET /v1/apps/{app}/history`: what the probes of an application observed in the last hours.
//!
//! The one reading route that asks the writer: histories are its own and in no snapshot, so that keeping them costs a publish nothing.

use super::Api;
use super::error::ApiError;
use super::read::{LIMIT, LIMIT_MAX, aside};
use crate::config::Config;
use crate::control::{HistoryPage, HistoryRequest};
use crate::health::Told;
use crate::model::{AppId, Endpoint, Mono, Now, RegionId, Wall};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Most hours that are kept, and the default.
const HOURS_MAX: u32 = 24;

/// Which part of the history.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Only this region.
    region: Option<String>,
    /// Only this endpoint, as configured.
    endpoint: Option<String>,
    /// How far back.
    hours: Option<u32>,
    /// The number that `next` gave.
    after: Option<usize>,
    /// Most items.
    limit: Option<usize>,
}

/// `GET /v1/apps/{app}/history`.
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Part>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(app) = path.map_err(|error| ApiError::malformed(format!("the path is not understood: {}", error.body_text())))?;
    let Query(part) = query.map_err(|error| {
        let known = "`region`, `endpoint`, `hours`, `after` and `limit` may be given";
        ApiError::malformed(format!("the query is not understood, {known}: {}", error.body_text()))
    })?;
    let view = api.handle.published();
    let (config, asked) = (view.config.clone(), app.clone());
    let request = aside(move || request(&config, &asked, &part)).await??;
    let (skip, hours) = (request.skip, request.within.as_secs() / 3600);
    let page = api.handle.history(request).await?;
    Ok(Json(show(&view.config, &app, hours, skip, &page, api.handle.now())))
}

/// What is asked of the writer.
fn request(config: &Config, app: &str, part: &Part) -> Result<HistoryRequest, ApiError> {
    let known = config.fleet.apps.get(&AppId::new(app)).ok_or_else(|| {
        let hint = crate::role::nearest(app, config.fleet.apps.keys().map(ToString::to_string));
        ApiError::not_found(format!("there is no application {app:?}{hint}"))
    })?;
    let region = part.region.as_deref().map(RegionId::new);
    if let Some(region) = region.as_ref().filter(|region| !known.regions.contains(region)) {
        let hint = crate::role::nearest(region.as_str(), known.regions.iter().map(ToString::to_string));
        return Err(ApiError::not_found(format!("{app} has no region {:?}{hint}", region.as_str())));
    }
    let endpoint = part.endpoint.as_deref().map(|text| {
        serde_json::from_value::<Endpoint>(text.into()).map_err(|error| {
            ApiError::malformed(format!(
                "`endpoint` is {text:?}, which is neither an address nor a host name: {error}"
            ))
        })
    });
    let hours = part.hours.unwrap_or(HOURS_MAX);
    if hours == 0 || hours > HOURS_MAX {
        return Err(ApiError::malformed(format!(
            "`hours` is {hours}; from 1 to {HOURS_MAX} hours are kept"
        )));
    }
    Ok(HistoryRequest {
        app: known.id.clone(),
        region,
        endpoint: endpoint.transpose()?,
        within: Duration::from_secs(u64::from(hours) * 3600),
        skip: part.after.unwrap_or(0),
        limit: part.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX),
    })
}

/// The body.
fn show(config: &Config, app: &str, hours: u64, skip: usize, page: &HistoryPage, now: Now) -> Value {
    let items: Vec<Value> = page.items.iter().map(|told| show_target(config, told, now)).collect();
    let mut body = json!({ "app": app, "hours": hours, "items": items });
    if let (true, Value::Object(fields)) = (page.more, &mut body) {
        fields.insert("next".to_owned(), (skip + page.items.len()).into());
    }
    body
}

/// One probe at one address.
fn show_target(config: &Config, told: &Told, now: Now) -> Value {
    let target = &told.target;
    let app = config.fleet.apps.get(&target.app);
    let kind = app.and_then(|app| app.probes.get(target.probe)).map(|spec| spec.kind.as_str());
    let changes: Vec<Value> = told
        .changes
        .iter()
        .map(|note| json!({ "time": wall_of(note.at, now), "verdict": note.verdict, "message": note.message }))
        .collect();
    let seconds = |us: u32| f64::from(us) / 1e6;
    let runs: Vec<Value> = told
        .buckets
        .iter()
        .map(|(at, bucket)| {
            json!({
                "time": wall_of(*at, now),
                "passed": bucket.passed,
                "failed": bucket.failed,
                "least_seconds": seconds(bucket.least_us),
                "mean_seconds": seconds(bucket.mean_us),
                "p99_seconds": seconds(bucket.p99_us),
                "most_seconds": seconds(bucket.most_us),
            })
        })
        .collect();
    json!({
        "region": target.region,
        "endpoint": target.endpoint,
        "address": target.address,
        "probe": target.probe + 1,
        "kind": kind,
        "changes": changes,
        "bucket_seconds": told.bucket.as_secs(),
        "runs": runs,
    })
}

/// A reading of the monotonic clock on the wall, as far as the wall clock did not step since.
fn wall_of(at: Mono, now: Now) -> Wall {
    let age = u64::try_from(now.mono.since(at).as_millis()).unwrap_or(u64::MAX);
    Wall(now.wall.0.saturating_sub(age))
}
