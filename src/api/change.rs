//! The changing routes: a JSON body and a path become a request for the writer; its receipt or its refusal is the response.
//!
//! Bodies are read whole, bounded in size and time, and unknown fields are refused: a misspelt `expect` that were passed
//! over would be a change without its guard. Each request's outcome is logged.

use super::Api;
use super::caller::Caller;
use super::error::{ApiError, show_finding};
use super::read::name_of;
use super::view;
use crate::control::{Receipt, ReloadRequest, Serving, SubmitError};
use crate::model::{Actor, Diagnostic, Gate, Name, RegionId, Seq};
use crate::role::{Command, Request};
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, FromRequest, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Most octets of a body.
pub(super) const BODY_OCTETS_MAX: usize = 64 * 1024;
/// Longest time for a body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Most characters of a reason.
const REASON_CHARS_MAX: usize = 2_000;
/// Most characters of a request id.
const REQUEST_ID_CHARS_MAX: usize = 128;

/// Body of `switch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwitchBody {
    /// The region that becomes active.
    to: RegionId,
    /// Why.
    reason: String,
    /// The region thought active.
    expect: Option<RegionId>,
    /// The version of the name that was seen.
    expect_seq: Option<u64>,
    /// The client's id of the request.
    request_id: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
    /// Gates to override.
    #[serde(default, rename = "override")]
    overrides: BTreeSet<Gate>,
}

/// Body of `drain` and `undrain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainBody {
    /// The region.
    region: RegionId,
    /// Why.
    reason: String,
    /// The client's id of the request.
    request_id: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// Body of `evacuate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EvacuateBody {
    /// Why.
    reason: String,
    /// Names that may stay.
    #[serde(default)]
    leave: Vec<String>,
    /// Gates to override.
    #[serde(default, rename = "override")]
    overrides: BTreeSet<Gate>,
    /// The client's id of the request.
    request_id: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// Body of `restore`, `approve` and `reject`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlainBody {
    /// Why.
    reason: String,
    /// The client's id of the request.
    request_id: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// Body of `reload`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadBody {
    /// Why.
    reason: String,
    /// Whether to pass the guard of `reload-max-removed`.
    #[serde(default)]
    force: bool,
    /// The client's id of the request.
    request_id: Option<String>,
}

/// A JSON body, read within the bounds.
pub(super) struct Payload<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Payload<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, _state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let message = "a change needs the header `Content-Type: application/json` and a JSON object as its body";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", message));
        }
        let octets = read_body(request.into_body()).await?;
        let value = serde_json::from_slice(&octets);
        value
            .map(Payload)
            .map_err(|error| ApiError::malformed(format!("the body is not what this change takes: {error}; see /openapi.json")))
    }
}

/// Whether the body is declared as JSON; parameters such as `charset` are passed over.
fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = declared.and_then(|text| text.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// Reads a body whole.
async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_TIME_MAX, Limited::new(body, BODY_OCTETS_MAX).collect()).await;
    let slow = |_| {
        let message = format!("the body did not arrive within {} s", BODY_TIME_MAX.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    };
    match read.map_err(slow)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {BODY_OCTETS_MAX} octets, which no change needs");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message))
        }
        Err(error) => Err(ApiError::malformed(format!("the body broke off: {error}"))),
    }
}

/// Who asks, why, and under which id.
struct Meta {
    caller: Caller,
    reason: String,
    request_id: Option<String>,
    dry_run: bool,
}

impl Meta {
    /// Checks what every change carries.
    fn new(caller: Caller, reason: String, request_id: Option<String>, dry_run: bool) -> Result<Meta, ApiError> {
        if reason.trim().is_empty() {
            return Err(ApiError::malformed("`reason` is blank: say why, for the record"));
        }
        let unprintable = |c: char| c.is_control() && c != '\n' && c != '\t';
        if reason.chars().count() > REASON_CHARS_MAX || reason.contains(unprintable) {
            let message = format!("`reason` may have {REASON_CHARS_MAX} characters and no control characters");
            return Err(ApiError::malformed(message));
        }
        if let Some(id) = &request_id
            && (id.is_empty() || id.len() > REQUEST_ID_CHARS_MAX || !id.bytes().all(|octet| octet.is_ascii_graphic()))
        {
            let message = format!("`request_id` is 1 to {REQUEST_ID_CHARS_MAX} printable ASCII characters without spaces");
            return Err(ApiError::malformed(message));
        }
        Ok(Meta {
            caller,
            reason,
            request_id,
            dry_run,
        })
    }
}

/// Submits a command, or says what it would do.
async fn submit(api: &Api, meta: Meta, command: Command) -> Result<Response, ApiError> {
    let verb = command.verb();
    let request = Request {
        actor: meta.caller.actor(),
        reason: meta.reason,
        request_id: meta.request_id,
        command,
    };
    if meta.dry_run {
        return dry_run(api, request).await;
    }
    let (actor, name) = (request.actor.clone(), request.command.name().map(ToString::to_string));
    let outcome = api.handle.submit(request).await;
    log_outcome(verb, name.as_deref(), &actor, &outcome);
    Ok(receipt(&outcome?))
}

/// What a command would do; the answers before and after it.
async fn dry_run(api: &Api, request: Request) -> Result<Response, ApiError> {
    if let Serving::AnswerOnly { why } = &*api.handle.published().serving {
        return Err(ApiError::unavailable(format!("this node only answers and takes no change: {why}")));
    }
    let handle = api.handle.clone();
    let dry = tokio::task::spawn_blocking(move || handle.dry_run(&request)).await;
    let dry = dry.map_err(|error| ApiError::internal(format!("the dry run failed, see the server's log: {error}")))??;
    let body = json!({
        "dry_run": true,
        "would": dry.drafts.iter().map(|draft| &draft.body).collect::<Vec<_>>(),
        "before": dry.before.iter().map(|one| view::decision(one)).collect::<Vec<_>>(),
        "after": dry.after.iter().map(|one| view::decision(one)).collect::<Vec<_>>(),
    });
    Ok(axum::Json(with_warnings(body, &dry.warnings)).into_response())
}

/// The body of a change that was made.
fn receipt(receipt: &Receipt) -> Response {
    axum::Json(with_warnings(json!(receipt), &receipt.warnings)).into_response()
}

/// A body with its warnings, where there are any.
fn with_warnings(mut body: Value, warnings: &[Diagnostic]) -> Value {
    if let (Value::Object(members), false) = (&mut body, warnings.is_empty()) {
        members.insert("warnings".to_owned(), warnings.iter().map(show_finding).collect());
    }
    body
}

/// One line for each change that was asked for. Reasons are in the ledger, not in the log.
fn log_outcome(verb: &str, name: Option<&str>, actor: &Actor, outcome: &Result<Receipt, SubmitError>) {
    let name = name.unwrap_or("-");
    match outcome {
        Ok(receipt) => tracing::info!(verb, name, %actor, changed = receipt.changed, seq = receipt.seq.0, "change accepted"),
        Err(SubmitError::Denied(denied)) => tracing::warn!(verb, name, %actor, "change refused: {denied}"),
        Err(error) => tracing::warn!(verb, name, %actor, "change refused: {error}"),
    }
}

/// `POST /v1/names/{name}/switch`.
pub(super) async fn switch(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    Payload(body): Payload<SwitchBody>,
) -> Result<Response, ApiError> {
    let name = name_of(path)?;
    let meta = Meta::new(caller, body.reason, body.request_id, body.dry_run)?;
    let command = Command::Switch {
        name,
        to: body.to,
        expect: body.expect,
        expect_seq: body.expect_seq.map(Seq),
        overrides: body.overrides,
    };
    submit(&api, meta, command).await
}

/// `POST /v1/names/{name}/drain`.
pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    Payload(body): Payload<DrainBody>,
) -> Result<Response, ApiError> {
    let (name, region) = (name_of(path)?, body.region);
    let meta = Meta::new(caller, body.reason, body.request_id, body.dry_run)?;
    submit(&api, meta, Command::Drain { name, region }).await
}

/// `POST /v1/names/{name}/undrain`.
pub(super) async fn undrain(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    Payload(body): Payload<DrainBody>,
) -> Result<Response, ApiError> {
    let (name, region) = (name_of(path)?, body.region);
    let meta = Meta::new(caller, body.reason, body.request_id, body.dry_run)?;
    submit(&api, meta, Command::Undrain { name, region }).await
}

/// The region in a path.
fn region_of(path: Result<Path<String>, PathRejection>) -> Result<RegionId, ApiError> {
    let Path(text) =
        path.map_err(|error| ApiError::malformed(format!("the region in the path is not understood: {}", error.body_text())))?;
    Ok(RegionId::new(&text))
}

/// `POST /v1/regions/{region}/evacuate`.
pub(super) async fn evacuate(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    Payload(body): Payload<EvacuateBody>,
) -> Result<Response, ApiError> {
    let region = region_of(path)?;
    let meta = Meta::new(caller, body.reason, body.request_id, body.dry_run)?;
    let leave = body.leave.iter().map(|text| match Name::parse(text) {
        Ok(name) => Ok(name.to_lowercase()),
        Err(error) => Err(ApiError::malformed(format!(
            "`leave` has {text:?}, which is no domain name: {error}"
        ))),
    });
    let command = Command::Evacuate {
        region,
        leave: leave.collect::<Result<_, _>>()?,
        overrides: body.overrides,
    };
    submit(&api, meta, command).await
}

/// `POST /v1/regions/{region}/restore`.
pub(super) async fn restore(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    Payload(body): Payload<PlainBody>,
) -> Result<Response, ApiError> {
    let region = region_of(path)?;
    let meta = Meta::new(caller, body.reason, body.request_id, body.dry_run)?;
    submit(&api, meta, Command::Restore { region }).await
}

/// The number of a proposal in a path.
fn id_of(path: Result<Path<String>, PathRejection>) -> Result<u64, ApiError> {
    let text = path.map(|Path(text)| text).unwrap_or_default();
    text.parse()
        .map_err(|_| ApiError::malformed(format!("{text:?} is no number of a proposal; GET /v1/proposals lists them")))
}

/// `POST /v1/proposals/{id}/approve`.
pub(super) async fn approve(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    Payload(body): Payload<PlainBody>,
) -> Result<Response, ApiError> {
    let id = id_of(path)?;
    let meta = Meta::new(caller, body.reason, body.request_id, body.dry_run)?;
    submit(&api, meta, Command::Approve { id }).await
}

/// `POST /v1/proposals/{id}/reject`.
pub(super) async fn reject(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    Payload(body): Payload<PlainBody>,
) -> Result<Response, ApiError> {
    let id = id_of(path)?;
    let meta = Meta::new(caller, body.reason, body.request_id, body.dry_run)?;
    submit(&api, meta, Command::Reject { id }).await
}

/// `POST /v1/reload`.
pub(super) async fn reload(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Payload(body): Payload<ReloadBody>,
) -> Result<Response, ApiError> {
    let meta = Meta::new(caller, body.reason, body.request_id, false)?;
    let request = ReloadRequest {
        force: body.force,
        reason: meta.reason,
        actor: meta.caller.actor(),
        request_id: meta.request_id,
    };
    let actor = request.actor.clone();
    let outcome = api.handle.reload(request).await;
    log_outcome("reload", None, &actor, &outcome);
    Ok(receipt(&outcome?))
}
