//! Errors of the API: one shape `{code, message, detail}`, a stable code, and a message that says what, where and what to do.

use crate::control::SubmitError;
use crate::role::Denied;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ApiError {
    /// Status of the response.
    pub status: StatusCode,
    /// Stable, for scripts.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// More, by the code; an object.
    pub detail: Map<String, Value>,
}

impl ApiError {
    /// An error without detail.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            code,
            message: message.into(),
            detail: Map::new(),
        }
    }

    /// 400: the request itself is wrong.
    pub fn malformed(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// 404: no such thing.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// 403: known, but not allowed.
    pub fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 500: a fault of ours.
    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Adds a member to the detail.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> ApiError {
        self.detail.insert(key.to_owned(), value);
        self
    }

    /// The body.
    pub fn body(&self) -> Value {
        json!({ "code": self.code, "message": self.message, "detail": self.detail })
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> ApiError {
        let message = error.to_string();
        let conflict = |code, message| ApiError::new(StatusCode::CONFLICT, code, message);
        match error {
            SubmitError::Denied(Denied::Invalid(message)) => ApiError::malformed(message),
            SubmitError::Denied(Denied::NotFound(message)) => ApiError::not_found(message),
            SubmitError::Denied(denied @ Denied::Refused(_)) => {
                let message = denied.to_string();
                let Denied::Refused(refusals) = denied else {
                    return ApiError::internal(message);
                };
                conflict("refused", message).with("refusals", json!(refusals))
            }
            SubmitError::Diagnostics(findings) => {
                let findings: Vec<Value> = findings.iter().map(show_finding).collect();
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-config", message).with("findings", json!(findings))
            }
            SubmitError::NeedsRestart(keys) => conflict("needs-restart", message).with("keys", json!(keys)),
            SubmitError::Conflict(findings) => {
                let conflicts: Vec<&str> = findings.iter().map(|finding| finding.message.as_str()).collect();
                conflict("conflict", message)
                    .with("conflicts", json!(conflicts))
                    .with("findings", findings.iter().map(show_finding).collect())
            }
            SubmitError::Reused { id, used } => conflict("request-id-reused", message)
                .with("request_id", json!(id))
                .with("used_for", json!(used)),
            SubmitError::Guard(_) => conflict("guard", message),
            SubmitError::Unavailable(_) => ApiError::unavailable(message),
        }
    }
}

/// A finding's fields, and its form for people as `text`.
pub(super) fn show_finding(finding: &crate::model::Diagnostic) -> Value {
    let mut value = json!(finding);
    if let Value::Object(fields) = &mut value {
        fields.insert("text".to_owned(), finding.to_string().into());
    }
    value
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"pointsman\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
