//! `kind = "grpc"`: asks `grpc.health.v1.Health/Check` (the gRPC health checking protocol, version 1).
//!
//! One call over a connection of its own, in the clear or over TLS, with HTTP/2 (h2). The two messages are so small that
//! they are written and read here. The connection is driven inside the run, so nothing of it outlives the time limit.
//! Whatever a server sends that is no gRPC is told apart from a service that is not well.

use super::secure::{Secure, connect, host_of};
use super::tls::Trust;
use super::words::{CLOSED, clip, failure, io_failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{FailReason, Failure, GrpcProbe, ProbeTarget};
use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{HeaderMap, Method, Request, Version};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Most octets that are read from a server in one run, the handshakes included.
const OCTETS_MAX: usize = 256 * 1024;
/// Most octets of an answer; two are usual.
const ANSWER_OCTETS_MAX: usize = 16 * 1024;
/// Most octets of the header fields of an answer.
const HEADER_OCTETS_MAX: u32 = 32 * 1024;
/// Most characters of a server's words in a message.
const SAID_CHARS_MAX: usize = 120;

/// One probe at one address.
pub(super) struct Grpc {
    /// Where to.
    peer: SocketAddr,
    /// The service asked for; empty: the server as a whole.
    service: String,
    /// Host and port as the server is addressed.
    authority: String,
    /// When the server may give up.
    timeout: Duration,
    /// TLS; none: in the clear.
    secure: Option<Secure>,
}

impl Grpc {
    /// The probe at its target.
    pub fn new(probe: &GrpcProbe, target: &ProbeTarget, timeout: Duration, trust: &Arc<Trust>) -> Grpc {
        let name = probe.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        let host = host_of(name, target);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Grpc {
            peer: SocketAddr::new(target.address, probe.port),
            service: probe.service.clone(),
            authority: format!("{host}:{}", probe.port),
            timeout,
            secure: probe.tls.as_ref().map(|options| Secure::new(options, target, trust)),
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Result<String, Failure> {
        let stream = connect(self.peer, OCTETS_MAX, stage).await?;
        let Some(secure) = &self.secure else {
            return self.call(stream, stage).await;
        };
        let stream = secure.handshake(stream, &[b"h2"], stage).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(failure(FailReason::Protocol, "the server does not offer HTTP/2 over TLS"));
        }
        self.call(stream, stage).await
    }

    /// The call over a connection.
    async fn call<S>(&self, stream: S, stage: &Stage) -> Result<String, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stage.set("no answer");
        let mut builder = Builder::new();
        builder.enable_push(false).max_header_list_size(HEADER_OCTETS_MAX);
        let (client, connection) = builder.handshake(stream).await.map_err(|error| words(&error))?;
        tokio::select! {
            result = self.ask(client) => result,
            ended = connection => Err(match ended {
                Err(error) => words(&error),
                Ok(()) => failure(FailReason::Connect, CLOSED),
            }),
        }
    }

    /// Sends the request and reads the answer.
    async fn ask(&self, client: SendRequest<Bytes>) -> Result<String, Failure> {
        let mut client = client.ready().await.map_err(|error| words(&error))?;
        let (answer, mut body) = client.send_request(self.request()?, false).map_err(|error| words(&error))?;
        body.send_data(framed(&self.service), true).map_err(|error| words(&error))?;
        let (message, status) = read(answer).await?;
        self.judge(&message, &status)
    }

    /// The request without its body.
    fn request(&self) -> Result<Request<()>, Failure> {
        let scheme = if self.secure.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{}/grpc.health.v1.Health/Check", self.authority);
        // At most 8 digits, so in seconds where milliseconds would be more.
        let millis = self.timeout.as_millis().max(1);
        let timeout = if millis < 100_000_000 {
            format!("{millis}m")
        } else {
            format!("{}S", self.timeout.as_secs())
        };
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout)
            .header("user-agent", concat!("pointsman/", env!("CARGO_PKG_VERSION")));
        let broken = |error| failure(FailReason::Internal, format!("the request cannot be made: {error}"));
        request.body(()).map_err(broken)
    }

    /// First how the call went, then what the service says.
    fn judge(&self, message: &[u8], status: &Status) -> Result<String, Failure> {
        let service = match self.service.as_str() {
            "" => "the server".to_owned(),
            service => format!("service `{}`", clip(service, SAID_CHARS_MAX)),
        };
        match status.code {
            0 => {}
            // NOT_FOUND: the health service does not know the service; UNIMPLEMENTED: there is no health service.
            5 => {
                return Err(failure(
                    FailReason::Status,
                    format!("{service} is not known to the health service ({status})"),
                ));
            }
            12 => return Err(failure(FailReason::Status, format!("there is no health service ({status})"))),
            7 | 16 => return Err(failure(FailReason::Auth, format!("the health service refuses the call ({status})"))),
            _ => return Err(failure(FailReason::Status, format!("the health service fails ({status})"))),
        }
        let wrong = |name: &str| Err(failure(FailReason::Status, format!("{service} is {name}")));
        match serving(message)? {
            0 => wrong("UNKNOWN"),
            1 => Ok("SERVING".to_owned()),
            2 => wrong("NOT_SERVING"),
            3 => wrong("SERVICE_UNKNOWN"),
            other => wrong(&format!("in a state with no name, {other}")),
        }
    }
}

impl Kind for Grpc {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(async move { Found::of(self.check(stage).await) })
    }
}

/// How a call went.
struct Status {
    /// `grpc-status`.
    code: u32,
    /// `grpc-message`, made readable.
    text: String,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        match usize::try_from(self.code).ok().and_then(|code| NAMES.get(code)) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "status {}", self.code)?,
        }
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        Ok(())
    }
}

impl Status {
    /// What header fields or trailers say.
    fn of(fields: &HeaderMap) -> Option<Status> {
        let code = fields.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let text = fields
            .get("grpc-message")
            .map(|text| percent_decoded(text.as_bytes()))
            .unwrap_or_default();
        Some(Status {
            code,
            text: clip(&String::from_utf8_lossy(&text), SAID_CHARS_MAX),
        })
    }
}

/// The message of an answer, empty where there is none, and its status.
async fn read(answer: ResponseFuture) -> Result<(Vec<u8>, Status), Failure> {
    let answer = answer.await.map_err(|error| words(&error))?;
    let kind = answer.headers().get("content-type");
    let kind = kind.map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
    if !kind.as_deref().is_some_and(|kind| kind.starts_with("application/grpc")) {
        return Err(not_grpc(answer.status().as_u16(), kind.as_deref()));
    }
    // An answer without a message may have its status among the header fields.
    if let Some(status) = Status::of(answer.headers()) {
        return Ok((Vec::new(), status));
    }
    let mut body = answer.into_body();
    let mut octets = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|error| words(&error))?;
        let _ = body.flow_control().release_capacity(chunk.len());
        if octets.len() + chunk.len() > ANSWER_OCTETS_MAX {
            let message = format!("the answer is longer than {ANSWER_OCTETS_MAX} octets");
            return Err(failure(FailReason::Protocol, message));
        }
        octets.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.map_err(|error| words(&error))?;
    let status = trailers.as_ref().and_then(Status::of);
    Ok((
        octets,
        status.ok_or_else(|| failure(FailReason::Protocol, "the answer has no grpc-status"))?,
    ))
}

/// An answer of something else, a proxy perhaps.
fn not_grpc(status: u16, kind: Option<&str>) -> Failure {
    let what = match kind {
        Some(kind) => format!("of content type {}", clip(kind, 60)),
        None => "without a content type".to_owned(),
    };
    failure(FailReason::Protocol, format!("the answer is no gRPC: HTTP {status} {what}"))
}

/// A HealthCheckRequest, `string service = 1`, behind the prefix of a message: not compressed, its length.
fn framed(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    // The config bounds the name far below 4 GiB.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// The status of a HealthCheckResponse, `ServingStatus status = 1`, behind its prefix; fields that we do not know are
/// skipped, as protobuf wants it.
fn serving(answer: &[u8]) -> Result<u64, Failure> {
    let broken = || failure(FailReason::Protocol, "the answer is no HealthCheckResponse");
    let (prefix, message) = answer.split_at_checked(5).ok_or_else(broken)?;
    let (compressed, length) = prefix.split_first().ok_or_else(broken)?;
    if *compressed != 0 {
        return Err(failure(FailReason::Protocol, "the answer is compressed, which nobody asked for"));
    }
    let length = length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    if length != message.len() {
        return Err(broken());
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let (tag, after) = varint(rest).ok_or_else(broken)?;
        rest = after;
        let skipped = match tag & 7 {
            0 => {
                let (value, after) = varint(rest).ok_or_else(broken)?;
                rest = after;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => {
                let (length, after) = varint(rest).ok_or_else(broken)?;
                rest = after;
                usize::try_from(length).map_err(|_| broken())?
            }
            5 => 4,
            _ => return Err(broken()),
        };
        rest = rest.get(skipped..).ok_or_else(broken)?;
    }
    Ok(status)
}

/// A number of protobuf: seven bits an octet, the lowest first, ten octets at most.
fn varint(octets: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, octet) in octets.iter().take(10).enumerate() {
        let bits = u64::from(octet & 0x7f);
        value |= bits.checked_shl(u32::try_from(at).ok()? * 7)?;
        if octet & 0x80 == 0 {
            return Some((value, octets.get(at + 1..)?));
        }
    }
    None
}

/// `grpc-message` has octets outside of printable ASCII, and `%`, as `%XX`; what is no such code stays as it is.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(octet) => {
                decoded.push(octet);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// Class and words of an error of HTTP/2.
fn words(error: &h2::Error) -> Failure {
    if let Some(io) = error.get_io() {
        return match io.kind() {
            // Our own bound.
            std::io::ErrorKind::InvalidData => failure(FailReason::Protocol, format!("the server sends too much: {io}")),
            _ => io_failure(io),
        };
    }
    let reason = error.reason().map(|reason| reason.description().to_owned()).unwrap_or_default();
    let message = match () {
        () if error.is_remote() && error.is_go_away() => format!("the server ended the connection: {reason}"),
        () if error.is_remote() => format!("the server ended the call: {reason}"),
        () if error.is_library() => format!("the server does not speak HTTP/2: {reason}"),
        () => format!("no gRPC answer: {error}"),
    };
    failure(FailReason::Protocol, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_protobuf_has_them() {
        assert_eq!(&framed("")[..], b"\0\0\0\0\0");
        assert_eq!(&framed("shop")[..], b"\0\0\0\0\x06\x0a\x04shop");
        let long = framed(&"x".repeat(300));
        assert_eq!(&long[..8], b"\0\0\0\x01\x2f\x0a\xac\x02");
    }

    #[test]
    fn answers_are_read_whatever_else_is_in_them() {
        let cases: [(&[u8], Option<u64>); 12] = [
            (b"\0\0\0\0\x02\x08\x01", Some(1)),
            (b"\0\0\0\0\0", Some(0)),
            // Two fields of later versions before it, one of each further form.
            (b"\0\0\0\0\x08\x12\x01x\x18\x05\x08\x02\x20".as_slice(), None),
            (b"\0\0\0\0\x09\x12\x01x\x18\x05\x08\x02\x20\x07", Some(2)),
            (b"\0\0\0\0\x0f\x11abcdefgh\x15abcd\x08", None),
            (b"\0\0\0\0\x10\x11abcdefgh\x15abcd\x08\x03", Some(3)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x03\x08\x01", None),
            (b"\0\xff\xff\xff\xff\x08\x01", None),
            (b"\0\0\0\0\x0b\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
            (b"\0\0\0\0\x01\x0b", None),
            (b"", None),
        ];
        for (answer, status) in cases {
            assert_eq!(serving(answer).ok(), status, "{answer:?}");
        }
    }

    #[test]
    fn messages_are_made_readable() {
        assert_eq!(percent_decoded(b"50%25 %C3%A4 %zz %"), "50% ä %zz %".as_bytes());
    }
}
