//! The reading routes. Nothing here asks the writer: each answers from one published snapshot, or from the ledger's file.

use super::Api;
use super::error::ApiError;
use super::view;
use crate::control::Published;
use crate::model::{Name, Seq, SteeredName};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::error::Error;
use std::ops::Bound;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Most items on a page; a larger `limit` is cut to this.
pub(super) const LIMIT_MAX: usize = 1000;
/// Most octets of ledger entries in one answer, but for a single one that is larger.
const LEDGER_OCTETS_MAX: usize = 8 << 20;
/// Octets of a large body handed out at a time.
const PIECE_OCTETS: usize = 64 * 1024;
/// Items on a page when the client names no limit.
pub(super) const LIMIT: usize = 100;

/// Which page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// The last item seen; the page begins after it.
    after: Option<String>,
    /// Most items.
    limit: Option<usize>,
}

impl Page {
    /// The page of a request's query.
    fn of(query: Result<Query<Page>, QueryRejection>) -> Result<Page, ApiError> {
        let Query(page) = query.map_err(|error| {
            let message = format!(
                "the query is not understood, `after` and `limit` may be given: {}",
                error.body_text()
            );
            ApiError::malformed(message)
        })?;
        Ok(page)
    }

    /// Most items, within the bounds.
    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX)
    }
}

/// A list's body: the items, and where the next page begins if there is one.
fn list<T>(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> Value, show: impl Fn(&T) -> Value) -> Value {
    let more = items.len() > limit;
    items.truncate(limit);
    let mut body = json!({ "items": items.iter().map(show).collect::<Vec<_>>() });
    if let (true, Some(last), Value::Object(fields)) = (more, items.last(), &mut body) {
        fields.insert("next".to_owned(), key(last));
    }
    body
}

/// Runs work that may take long off the runtime's threads.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::internal(format!("the request could not be worked out, see the server's log: {error}")))
}

/// The name in a path, with or without its final dot, in any case.
pub(super) fn name_of(path: Result<Path<String>, PathRejection>) -> Result<Name, ApiError> {
    let Path(text) = path.map_err(|error| ApiError::malformed(format!("the name in the path is not understood: {}", error.body_text())))?;
    let name = Name::parse(&text).map_err(|error| ApiError::malformed(format!("{text:?} is no domain name: {error}")))?;
    Ok(name.to_lowercase())
}

/// The steered name, or 404 with the nearest one.
pub(super) async fn find(view: &Arc<Published>, name: &Name) -> Result<Arc<SteeredName>, ApiError> {
    if let Some(steered) = view.config.fleet.names.get(name) {
        return Ok(steered.clone());
    }
    let (config, name) = (view.config.clone(), name.clone());
    let denied = aside(move || crate::role::no_such_name(&config.fleet, &name)).await?;
    Err(ApiError::not_found(denied.to_string()))
}

/// `GET /v1/status`.
pub(super) async fn status(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    let view = api.handle.published();
    aside(move || Json(view::status(&view))).await
}

/// `GET /v1/names`.
pub(super) async fn names(State(api): State<Arc<Api>>, query: Result<Query<Page>, QueryRejection>) -> Result<Json<Value>, ApiError> {
    let page = Page::of(query)?;
    let after = match &page.after {
        None => Bound::Unbounded,
        Some(text) => Bound::Excluded(
            Name::parse(text).map_err(|error| ApiError::malformed(format!("`after` is {text:?}, which is no domain name: {error}")))?,
        ),
    };
    let (view, now) = (api.handle.published(), api.handle.now());
    aside(move || {
        let names = view.config.fleet.names.range((after, Bound::Unbounded));
        let names: Vec<&Arc<SteeredName>> = names.map(|(_, steered)| steered).take(page.limit() + 1).collect();
        Json(list(
            names,
            page.limit(),
            |steered| json!(steered.name),
            |steered| view::name(&view, now, steered),
        ))
    })
    .await
}

/// `GET /v1/names/{name}`.
pub(super) async fn name(State(api): State<Arc<Api>>, path: Result<Path<String>, PathRejection>) -> Result<Json<Value>, ApiError> {
    let name = name_of(path)?;
    let (view, now) = (api.handle.published(), api.handle.now());
    let steered = find(&view, &name).await?;
    Ok(Json(view::name(&view, now, &steered)))
}

/// `GET /v1/names/{name}/explain`.
pub(super) async fn explain(State(api): State<Arc<Api>>, path: Result<Path<String>, PathRejection>) -> Result<Json<Value>, ApiError> {
    let name = name_of(path)?;
    let view = api.handle.published();
    find(&view, &name).await?;
    // A reload between the two look-ups may have taken the name away.
    let (handle, asked) = (api.handle.clone(), name.clone());
    let explanation = aside(move || handle.explain(&asked)).await?;
    let explanation = explanation.ok_or_else(|| ApiError::not_found(format!("{name} was just retired")))?;
    Ok(Json(view::explanation(&view, api.handle.now(), &explanation)))
}

/// `GET /v1/proposals`: by the region that is left, then by number. The place of an item is `REGION:ID`.
pub(super) async fn proposals(State(api): State<Arc<Api>>, query: Result<Query<Page>, QueryRejection>) -> Result<Json<Value>, ApiError> {
    let page = Page::of(query)?;
    let after = match &page.after {
        None => None,
        Some(text) => {
            let place = text
                .rsplit_once(':')
                .and_then(|(region, id)| Some((region.to_owned(), id.parse::<u64>().ok()?)));
            let wrong = || ApiError::malformed(format!("`after` is {text:?}; take the `next` of the page before, REGION:ID"));
            Some(place.ok_or_else(wrong)?)
        }
    };
    let (view, now) = (api.handle.published(), api.handle.now());
    aside(move || {
        let mut open: Vec<_> = view.state.proposals().collect();
        open.sort_by_key(|one| (one.from.clone(), one.id));
        let seen = |from: &str, id| after.as_ref().is_some_and(|(region, last)| (from, id) <= (region.as_str(), *last));
        let rest = open.into_iter().filter(|one| !seen(one.from.as_str(), one.id));
        // An operator who lists proposals wants all of them, so the page is large when no limit is named.
        let limit = page.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
        let items: Vec<_> = rest.take(limit + 1).collect();
        Json(list(
            items,
            limit,
            |one| json!(format!("{}:{}", one.from, one.id)),
            |one| view::proposal(&view, now, one),
        ))
    })
    .await
}

/// `GET /v1/ledger`.
pub(super) async fn ledger(State(api): State<Arc<Api>>, query: Result<Query<Page>, QueryRejection>) -> Result<Response, ApiError> {
    let page = Page::of(query)?;
    let after = match &page.after {
        None => Seq(0),
        Some(text) => Seq(text.parse().map_err(|_| {
            ApiError::malformed(format!(
                "`after` is {text:?}; it is the number of a ledger entry, 0 for the beginning"
            ))
        })?),
    };
    // Entries may be large; few readers at a time, and few octets for each, bound what is held in memory.
    let permit = api.ledger_readers.clone().acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::unavailable("the server is stopping"))?;
    let reader = api.handle.ledger().clone();
    let body = aside(move || {
        let read = reader.page(after, page.limit(), LEDGER_OCTETS_MAX).map_err(|error| {
            let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
            ApiError::internal(format!(
                "the ledger cannot be read, `pointsman ledger verify` tells where: {error}{cause}"
            ))
        })?;
        let mut body = json!({ "items": read.entries });
        if let (true, Some(last), Value::Object(fields)) = (read.has_more, read.entries.last(), &mut body) {
            fields.insert("next".to_owned(), json!(last.seq));
        }
        Ok::<_, ApiError>(body.to_string())
    })
    .await??;
    let head = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_LENGTH, body.len().to_string()),
    ];
    Ok((head, held(body, permit)).into_response())
}

/// A body that keeps its reader's place until it was sent. It goes out in pieces of their own, so that the whole is not kept in
/// memory, without a place, by the last one.
fn held(text: String, permit: OwnedSemaphorePermit) -> Body {
    let pieces = stream::unfold((text, 0, permit), |(text, at, permit)| async move {
        let end = text.len().min(at + PIECE_OCTETS);
        let piece = text.as_bytes().get(at..end).filter(|piece| !piece.is_empty())?;
        let piece = Bytes::copy_from_slice(piece);
        Some((Ok::<_, Infallible>(piece), (text, end, permit)))
    });
    Body::from_stream(pieces)
}

/// `GET /livez`: the process answers, and a restart would mend nothing.
pub(super) async fn livez(State(api): State<Arc<Api>>) -> Result<&'static str, ApiError> {
    if api.handle.is_writing() {
        return Ok("ok\n");
    }
    let message = "the writer is gone: nothing follows health or takes a change until a restart";
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not-live", message))
}

/// `GET /readyz`: today's config is served and changes are taken.
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    match view::not_ready(&api.handle.published()) {
        None => Ok(Json(json!({ "ready": true }))),
        // Supervisors have no token; whoever has none learns that, not why.
        Some(_) if api.tokens.is_some() => {
            let message = "today's config is not what is served; the log and /v1/status say why";
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", message))
        }
        Some(why) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", why)),
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    let handle = api.handle.clone();
    let text = aside(move || handle.metrics()).await?;
    let text = text.map_err(|error| ApiError::internal(format!("the metrics cannot be written: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn a_body_keeps_its_readers_place_until_it_was_taken() {
        let places = Arc::new(Semaphore::new(1));
        let permit = places.clone().acquire_owned().await.unwrap();
        let text = "x".repeat(PIECE_OCTETS * 3 + 1);
        let mut body = held(text.clone(), permit);
        let mut taken = String::new();
        for _ in 0..4 {
            assert_eq!(places.available_permits(), 0, "after {} octets", taken.len());
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_OCTETS);
            taken.push_str(std::str::from_utf8(&piece).unwrap());
        }
        assert!(body.frame().await.is_none());
        assert_eq!((taken == text, places.available_permits()), (true, 1));
        let permit = places.clone().acquire_owned().await.unwrap();
        drop(held(text, permit));
        assert_eq!(places.available_permits(), 1, "a client that goes gives it back");
    }
}
