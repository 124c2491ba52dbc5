//! One request and its response (RFC 8484 §4, §5; RFC 9110 for the status codes).
//!
//! | what is wrong | status |
//! |---|---|
//! | another path | 404 |
//! | another method than GET, HEAD, POST | 405, with `Allow` |
//! | GET without `dns`, or with two, or one that is no base64url (RFC 4648 §5, without padding) | 400 |
//! | a message that is no query: less than a header, or a response | 400 |
//! | a client that does not accept `application/dns-message` | 406 |
//! | a body that does not come in time | 408 |
//! | a body, or a query in the path, longer than any sound query | 413, 414 |
//! | POST of another media type | 415 |
//!
//! Whatever DNS has to say, also FORMERR and REFUSED, is a 200 with a DNS message (RFC 8484 §4.2.1).

use super::age;
use crate::dns::clerk::Clerk;
use crate::dns::lane::QUERY_OCTETS_MAX;
use crate::dns::sitting::{Kept, Share};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, StatusCode};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// What is sent back.
pub(super) type Response = hyper::Response<Bytes>;

/// The media type of DNS messages (RFC 8484 §6).
const DNS_MESSAGE: &str = "application/dns-message";
/// Longest time for a body to arrive.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// Octets of a body that are read, most of them for nothing.
const BODY_OCTETS_MAX: usize = 128 * 1024;
/// Characters of the longest query in base64url.
const ENCODED_MAX: usize = QUERY_OCTETS_MAX.div_ceil(3) * 4;

/// Why a request is not answered with a DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault(StatusCode, &'static str);

/// Answers a request, on the account of its connection.
pub(super) async fn exchange(
    clerk: &Clerk,
    path: &str,
    share: &Share,
    request: Request<Incoming>,
    peer: SocketAddr,
    local: Option<IpAddr>,
) -> Response {
    let (head, body) = request.into_parts();
    let (wanted, is_head) = (query_of(path, &head), head.method == Method::HEAD);
    // Not kept while body and room are waited for: the heads of a hundred such requests are more than all that is counted of a connection.
    drop(head);
    // A body that is of no use is read too: curl, for one, takes an answer before the end of its request for a fault.
    let mut kept = share.keep();
    let body = timeout(BODY_TIME_MAX, read(body, &mut kept)).await;
    let query = match wanted {
        Ok(Wanted::Body) => body.unwrap_or(Err(Fault(StatusCode::REQUEST_TIMEOUT, "the body takes too long"))),
        Ok(Wanted::Query(query)) => Ok(query),
        Err(fault) => Err(fault),
    };
    let answer = match query {
        Ok(query) => {
            kept.set(query.len());
            let answer = share.answer(|| clerk.answer(&query, peer, local)).await;
            answer.map_err(|_| Fault(StatusCode::BAD_REQUEST, "that is no DNS query"))
        }
        Err(fault) => Err(fault),
    };
    let mut response = match answer {
        Ok(answer) => whole(answer),
        Err(fault) => refused(fault),
    };
    if is_head {
        // RFC 9110 §9.3.2: the length that GET would have, and no content; HTTP/2 does not take it away by itself.
        let content = std::mem::take(response.body_mut());
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    }
    response
}

/// Where the DNS message of a request is.
enum Wanted {
    /// In the URI; this is it.
    Query(Vec<u8>),
    /// In the body.
    Body,
}

/// The DNS message of a request, or that its body is one.
fn query_of(path: &str, head: &Parts) -> Result<Wanted, Fault> {
    if head.uri.path() != path {
        return Err(Fault(StatusCode::NOT_FOUND, "there is nothing here"));
    }
    let is_post = match head.method {
        Method::GET | Method::HEAD => false,
        Method::POST => true,
        _ => return Err(Fault(StatusCode::METHOD_NOT_ALLOWED, "GET or POST")),
    };
    if !accepts(&head.headers) {
        return Err(Fault(StatusCode::NOT_ACCEPTABLE, "there is only application/dns-message"));
    }
    if !is_post {
        return query_in(head.uri.query().unwrap_or_default()).map(Wanted::Query);
    }
    let media_type = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !is_media_type(media_type, DNS_MESSAGE) {
        return Err(Fault(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be application/dns-message",
        ));
    }
    Ok(Wanted::Body)
}

/// Reads a body. Of one that is too long no more is kept, and what comes after [`BODY_OCTETS_MAX`] is left unread.
async fn read(mut body: Incoming, account: &mut Kept) -> Result<Vec<u8>, Fault> {
    let (mut kept, mut octets) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault(StatusCode::BAD_REQUEST, "the body broke off"))?;
        let data = frame.into_data().unwrap_or_default();
        octets += data.len();
        if octets <= QUERY_OCTETS_MAX {
            kept.extend_from_slice(&data);
            account.set(kept.len());
        }
        if octets > BODY_OCTETS_MAX {
            break;
        }
    }
    match octets > QUERY_OCTETS_MAX {
        true => Err(Fault(StatusCode::PAYLOAD_TOO_LARGE, "no query is that long")),
        false => Ok(kept),
    }
}

/// The DNS message in the query of a URI: the variable `dns` (RFC 8484 §4.1). Others are left alone.
fn query_in(query: &str) -> Result<Vec<u8>, Fault> {
    const BAD: Fault = Fault(
        StatusCode::BAD_REQUEST,
        "one `dns` with a query in base64url, without padding, is needed",
    );
    let mut found = query.split('&').filter_map(|pair| pair.strip_prefix("dns="));
    let (Some(encoded), None) = (found.next(), found.next()) else {
        return Err(BAD);
    };
    if encoded.len() > ENCODED_MAX {
        return Err(Fault(StatusCode::URI_TOO_LONG, "no query is that long"));
    }
    decode(encoded.as_bytes()).ok_or(BAD)
}

/// Reads base64url without padding (RFC 4648 §5); the bits left over must be 0 (§3.5), so that one query has one URI.
fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(encoded.len() / 4 * 3 + 2);
    for group in encoded.chunks(4) {
        let mut bits: u32 = 0;
        for character in group {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let whole = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None, // 6 bits are no octet
        };
        let bits = bits << (6 * (4 - group.len()));
        let [_, group @ ..] = bits.to_be_bytes();
        let (kept, left) = group.split_at_checked(whole)?;
        if left.iter().any(|octet| *octet != 0) {
            return None;
        }
        octets.extend_from_slice(kept);
    }
    Some(octets)
}

/// Whether the client takes what there is; who says nothing takes everything. Of the ranges that fit the most specific decides (RFC 9110
/// §12.5.1), and of several that are equally so one that is welcome.
fn accepts(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    let ranges = values.flat_map(|value| value.as_bytes().split(|octet| *octet == b','));
    let fitting = ranges.filter_map(|range| {
        let ranges = ["*/*", "application/*", DNS_MESSAGE];
        let specific = ranges.iter().position(|wanted| is_media_type(range, wanted))?;
        Some((specific, !is_unwelcome(range)))
    });
    fitting.max().is_some_and(|(_, is_welcome)| is_welcome)
}

/// Whether a media range has the weight 0, which says "not this" (RFC 9110 §12.4.2).
fn is_unwelcome(range: &[u8]) -> bool {
    let mut parameters = range.split(|octet| *octet == b';').skip(1).map(<[u8]>::trim_ascii);
    parameters.any(|parameter| match parameter {
        [b'q' | b'Q', b'=', b'0'] => true,
        [b'q' | b'Q', b'=', b'0', b'.', digits @ ..] => digits.iter().all(|digit| *digit == b'0'),
        _ => false,
    })
}

/// Whether a media type, its parameters left off, is this one.
fn is_media_type(text: &[u8], wanted: &str) -> bool {
    let text = text.split(|octet| *octet == b';').next().unwrap_or_default().trim_ascii();
    text.eq_ignore_ascii_case(wanted.as_bytes())
}

/// A DNS message, and how long it may be kept (RFC 8484 §5.1).
fn whole(answer: Bytes) -> Response {
    let age = match age::seconds(&answer) {
        Some(seconds) => Cow::from(format!("max-age={seconds}")),
        None => Cow::from("no-store"),
    };
    let mut response = Response::new(answer);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
    if let Ok(age) = HeaderValue::from_str(&age) {
        headers.insert(CACHE_CONTROL, age);
    }
    response
}

/// What is wrong, for people.
fn refused(Fault(status, why): Fault) -> Response {
    let mut response = Response::new(Bytes::from(format!("{why}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_read_strictly() {
        // RFC 4648 §10, without padding.
        for (encoded, octets) in [("", ""), ("Zg", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmE", "fooba")] {
            assert_eq!(decode(encoded.as_bytes()).as_deref(), Some(octets.as_bytes()), "{encoded}");
        }
        assert_eq!(decode(b"-_8").as_deref(), Some(&[0xfb, 0xff][..]));
        for wrong in ["Z", "Zg==", "Zh", "Zm9v+", "Zm 9v", "Zm9vYm/", "Zm9vY"] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_query_is_the_one_dns_variable() {
        assert_eq!(query_in("dns=Zm8").as_deref(), Ok(&b"fo"[..]));
        assert_eq!(query_in("ct&dns=Zm8&x=1").as_deref(), Ok(&b"fo"[..]));
        for query in ["", "dn=Zm8", "xdns=Zm8", "dns=Zm8&dns=Zm8", "dns=Zm8="] {
            assert_eq!(query_in(query).unwrap_err().0, StatusCode::BAD_REQUEST, "{query}");
        }
        let long = format!("dns={}", "A".repeat(ENCODED_MAX + 1));
        assert_eq!(query_in(&long).unwrap_err().0, StatusCode::URI_TOO_LONG);
    }

    /// Whether a request with these Accept headers is answered.
    fn accept(values: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        accepts(&headers)
    }

    #[test]
    fn media_types_are_compared_without_parameters_and_case() {
        assert!(accept(&[]));
        assert!(accept(&["application/dns-message"]));
        assert!(accept(&["text/html, Application/DNS-Message;q=0.9"]));
        assert!(accept(&["text/html", "*/*"]));
        assert!(!accept(&["text/html, application/json"]));
        assert!(is_media_type(b"application/dns-message; charset=x", DNS_MESSAGE));
        assert!(!is_media_type(b"", DNS_MESSAGE));
    }

    #[test]
    fn a_weight_of_nothing_is_a_refusal_and_the_most_specific_range_decides() {
        for refusal in ["q=0", "q=0.", "Q=0.0", " q=0.000 ", "x=y; q=0"] {
            let range: &'static str = format!("application/dns-message;{refusal}").leak();
            assert!(!accept(&[range]), "{refusal}");
            assert!(!accept(&["*/*", range]) && !accept(&[range, "application/*"]), "{refusal}");
        }
        for welcome in ["q=0.001", "q=1", "q=1.000", "q", "xq=0"] {
            let range: &'static str = format!("application/dns-message;{welcome}").leak();
            assert!(accept(&[range]) && accept(&["*/*;q=0, application/*;q=0", range]), "{welcome}");
        }
        assert!(!accept(&["*/*;q=0"]) && !accept(&["application/*;q=0, */*"]));
        assert!(accept(&["*/*;q=0, application/*"]) && accept(&["text/html;q=0, */*;q=0.1"]));
    }
}
