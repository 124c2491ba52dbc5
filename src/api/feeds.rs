//! `POST /v1/feeds/{id}`: health and role that others measure, for probes of kind `feed`.
//!
//! A feed is known when a probe of the config names it. Whoever may change things may post to every feed; a token of role
//! `feeder` may post to its own feeds and do nothing else. Nothing here is recorded: it is evidence, not a decision.

use super::Api;
use super::change::Payload;
use super::error::ApiError;
use super::read::aside;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Where feeds are posted to.
pub(super) const PREFIX: &str = "/v1/feeds/";

/// `POST /v1/feeds/{id}`.
pub(super) async fn post(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    Payload(content): Payload<Map<String, Value>>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = path.map_err(|error| ApiError::malformed(format!("the feed in the path is not understood: {}", error.body_text())))?;
    let known = api.handle.published().config.fleet.feeds();
    if !known.contains(&id) {
        let asked = id.clone();
        let hint = aside(move || crate::role::nearest(&asked, known.into_iter())).await?;
        return Err(ApiError::not_found(format!("no probe of the config has the feed {id}{hint}")));
    }
    api.handle.feed(&id, Value::Object(content).to_string().into_bytes());
    Ok(Json(json!({ "feed": id, "taken": true })))
}
