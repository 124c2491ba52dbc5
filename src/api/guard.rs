//! What every request must pass before a route sees it: a known `Host`, a known caller, and for a change no foreign page.

use super::Api;
use super::caller::{Caller, Peer};
use super::error::ApiError;
use super::feeds;
use super::tokens::May;
use crate::model::Actor;
use axum::extract::{Extension, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The header in which a client on open loopback says who its user is.
const USER_HEADER: &str = "x-pointsman-user";
/// Most characters of it.
const USER_CHARS_MAX: usize = 64;
/// The only route without a token: a supervisor that may not know one asks it.
const OPEN_ROUTES: [&str; 2] = ["/livez", "/readyz"];

/// Judges a request and lets it through.
pub(super) async fn guard(State(api): State<Arc<Api>>, Extension(peer): Extension<Peer>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let mut response = match admit(&api, &peer, &head).await {
        Ok(caller) => {
            head.extensions.insert(caller);
            next.run(Request::from_parts(head, body)).await
        }
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Every rule in its order.
async fn admit(api: &Api, peer: &Peer, head: &Parts) -> Result<Caller, ApiError> {
    let host = host_of(head);
    if let Peer::Tcp { local, tls } = peer {
        check_host(api, *local, *tls, host)?;
    }
    let is_change = !matches!(head.method, Method::GET | Method::HEAD);
    let caller = identify(api, peer, head).await?;
    if is_change {
        check_origin(&head.headers, host)?;
        if !caller.may_change() {
            let message = match peer {
                Peer::Unix { .. } => "changes over the socket are for root, the server's own user and the members of the socket's group",
                Peer::Tcp { .. } => "this token is a viewer's: changes need one with role = \"operator\"",
            };
            return Err(ApiError::forbidden(message));
        }
    }
    Ok(caller)
}

/// The host that a request is for: of the target (absolute form), else of the header.
fn host_of(head: &Parts) -> Option<&str> {
    let target = head.uri.authority().map(|authority| authority.as_str());
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let named = hosts.next().and_then(|host| host.to_str().ok());
    // Two headers, or a header that contradicts the target, are nobody's honest request.
    match (target, named, hosts.next()) {
        (_, _, Some(_)) => None,
        (Some(target), Some(named), None) if target != named => None,
        (target, named, None) => target.or(named),
    }
}

/// A web page that rebinds its own name to our address is stopped here: its `Host` is its own name.
fn check_host(api: &Api, local: SocketAddr, tls: bool, host: Option<&str>) -> Result<(), ApiError> {
    let known = host.is_some_and(|host| is_known_host(api, local, tls, host));
    if known {
        return Ok(());
    }
    let shown = host.map_or("no single Host".to_owned(), |host| format!("Host {host:?}"));
    let message = format!(
        "{shown} is not known here; use the address that the API listens on, localhost, or the node's name {}",
        api.handle.published().config.node.name
    );
    Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "unknown-host", message))
}

/// Whether a `Host` names this API. Any port will do: a page that rebinds its name cannot choose its name, and a tunnel or a
/// mapped port (`ssh -L 9000:127.0.0.1:8053`) brings another one than ours.
fn is_known_host(api: &Api, local: SocketAddr, tls: bool, host: &str) -> bool {
    let (name, port) = split_host(host);
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address == local.ip().to_canonical()
            || address == api.listen.ip()
            || address.is_loopback() && local.ip().to_canonical().is_loopback();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let node = &api.node;
    name.eq_ignore_ascii_case("localhost")
        || name.eq_ignore_ascii_case(node.strip_suffix('.').unwrap_or(node))
        || tls && api.certificates.as_ref().is_some_and(|ours| ours.cover(name))
}

/// `name:port`, `[address]:port`, each without port too.
fn split_host(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Who asks: the socket's peer, the token's holder, or somebody on open loopback.
async fn identify(api: &Api, peer: &Peer, head: &Parts) -> Result<Caller, ApiError> {
    if let Peer::Unix { uid, user, may_change } = peer {
        let actor = Actor::Uid {
            uid: *uid,
            user: user.clone(),
        };
        return Ok(Caller::new(actor, *may_change));
    }
    let Some(tokens) = &api.tokens else {
        let claimed = claimed_user(&head.headers)?;
        return Ok(Caller::new(Actor::Local { claimed }, true));
    };
    if OPEN_ROUTES.contains(&head.uri.path()) {
        return Ok(Caller::new(Actor::Local { claimed: None }, false));
    }
    let unauthorized = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
    let Some(token) = bearer(&head.headers) else {
        return Err(unauthorized("a token is needed: send the header `Authorization: Bearer TOKEN`"));
    };
    match tokens.find(token).await {
        Some((name, May::Feed(feeds))) => {
            let path = head.uri.path();
            let own = path.strip_prefix(feeds::PREFIX).is_some_and(|id| feeds.contains(id));
            if own && head.method == Method::POST {
                return Ok(Caller::new(Actor::Token { name }, true));
            }
            Err(ApiError::forbidden(
                "this token is a feeder's: it may post to its own feeds and nothing else",
            ))
        }
        Some((name, may)) => Ok(Caller::new(Actor::Token { name }, may == May::Change).with_token(token)),
        None => Err(unauthorized(
            "the token is not in the server's token-file: check it, or have it added",
        )),
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who a client on open loopback claims to be.
fn claimed_user(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(USER_HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| {
        let printable = text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
        printable && !text.trim().is_empty() && text.len() <= USER_CHARS_MAX
    });
    let wrong = || ApiError::malformed(format!("{USER_HEADER} is 1 to {USER_CHARS_MAX} printable ASCII characters"));
    text.map(|text| Some(text.trim().to_owned())).ok_or_else(wrong)
}

/// A change asked for by a page of another origin is refused, whatever the browser's user may do here.
fn check_origin(headers: &HeaderMap, host: Option<&str>) -> Result<(), ApiError> {
    let own = |origin: &str| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| host.is_some_and(|host| rest.eq_ignore_ascii_case(host)))
    };
    let foreign_origin = headers.get_all(header::ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(own));
    let foreign_site = headers
        .get_all("sec-fetch-site")
        .iter()
        .any(|site| site != "same-origin" && site != "none");
    if foreign_origin || foreign_site {
        let message = "a change may not come from a web page of another origin; use the CLI, or a page that this server serves";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_split_from_their_ports() {
        let cases = [
            ("a.example", ("a.example", None)),
            ("a.example:80", ("a.example", Some("80"))),
            ("[::1]", ("[::1]", None)),
            ("[::1]:80", ("[::1]", Some("80"))),
            ("::1", ("::1", None)),
            ("", ("", None)),
            (":", ("", Some(""))),
        ];
        for (host, parts) in cases {
            assert_eq!(split_host(host), parts, "{host}");
        }
    }

    #[test]
    fn only_the_own_origin_may_change() {
        let judge = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            check_origin(&headers.collect(), Some("ns1.example:8053")).is_ok()
        };
        assert!(judge(&[]));
        assert!(judge(&[("origin", "http://ns1.example:8053"), ("sec-fetch-site", "same-origin")]));
        assert!(judge(&[("origin", "https://NS1.example:8053")]));
        assert!(judge(&[("sec-fetch-site", "none")]));
        assert!(!judge(&[("origin", "null")]));
        assert!(!judge(&[("origin", "http://ns1.example")]));
        assert!(!judge(&[("origin", "http://evil.example")]));
        assert!(!judge(&[("origin", "http://ns1.example:8053.evil.example")]));
        assert!(!judge(&[("sec-fetch-site", "cross-site")]));
        assert!(!judge(&[("sec-fetch-site", "same-site")]));
    }
}
