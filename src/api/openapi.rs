//! `GET /openapi.json`: the API described for machines, OpenAPI 3.1. The text is a file beside this one.

use axum::http::header;
use axum::response::IntoResponse;

/// The description.
pub(super) const TEXT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub(super) async fn serve() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT)
}
