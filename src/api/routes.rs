//! The routes. `openapi` describes each of them; a test compares the two.

use super::error::ApiError;
use super::{Api, change, events, feeds, guard, history, openapi, probes, read};
use axum::Router;
use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode};
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use std::sync::Arc;

/// Every route with its method. One list, so that the description can be compared with it.
pub(super) fn table() -> Vec<(&'static str, Method, MethodRouter<Arc<Api>>)> {
    let read = |path, handler| (path, Method::GET, handler);
    let change = |path, handler| (path, Method::POST, handler);
    vec![
        read("/v1/status", get(read::status)),
        read("/v1/names", get(read::names)),
        read("/v1/names/{name}", get(read::name)),
        read("/v1/names/{name}/explain", get(read::explain)),
        read("/v1/apps/{app}/history", get(history::history)),
        read("/v1/proposals", get(read::proposals)),
        read("/v1/ledger", get(read::ledger)),
        read("/v1/events", get(events::events)),
        read("/livez", get(read::livez)),
        read("/readyz", get(read::readyz)),
        read("/metrics", get(read::metrics)),
        read("/openapi.json", get(openapi::serve)),
        change("/v1/names/{name}/switch", post(change::switch)),
        change("/v1/names/{name}/drain", post(change::drain)),
        change("/v1/names/{name}/undrain", post(change::undrain)),
        change("/v1/names/{name}/probe", post(probes::probe)),
        change("/v1/regions/{region}/evacuate", post(change::evacuate)),
        change("/v1/regions/{region}/restore", post(change::restore)),
        change("/v1/proposals/{id}/approve", post(change::approve)),
        change("/v1/proposals/{id}/reject", post(change::reject)),
        change("/v1/feeds/{id}", post(feeds::post)),
        change("/v1/reload", post(change::reload)),
    ]
}

/// The service: every route behind the guard. A peer must be among the extensions of each request.
pub(super) fn router(api: Arc<Api>) -> Router {
    let routes = table()
        .into_iter()
        .fold(Router::new(), |router, (path, _, handler)| router.route(path, handler));
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(api.clone(), guard::guard))
        .with_state(api)
}

/// 404 for a path that is no route.
async fn unknown_path(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}; /openapi.json lists what there is", uri.path()))
}

/// 405 for a route with another method; axum adds `Allow`.
async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let message = format!(
        "{} takes another method than {method}; see the header Allow, or /openapi.json",
        uri.path()
    );
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
}
