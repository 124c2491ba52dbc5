//! HTTP/1.1 over a stream.
//!
//! hyper's connection lives only as long as a request: its buffers (16 KiB) are freed when the answer is whole, and the
//! bare stream is kept. It is driven by whoever waits for the answer, so no task stands behind it.

use super::super::connect::Stream;
use super::super::words::{CLOSED, failure, failure_in_chain};
use super::{BROKEN_OFF, FIELDS_TOO_LARGE, HEADER_OCTETS_MAX};
use crate::model::{FailReason, Failure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

/// A connection with a request under way.
pub(super) struct One {
    /// Takes requests.
    sender: SendRequest<Full<Bytes>>,
    /// What moves the octets; none when it is over.
    link: Link,
}

/// What moves the octets.
struct Link(Option<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>);

impl Link {
    /// Does work that needs the connection to move.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if let Some(connection) = &mut self.0
                && connection.poll_without_shutdown(cx).is_ready()
            {
                // Why it ended is told to whoever waits for the answer.
                self.0 = None;
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}

impl One {
    /// Takes a stream into use.
    pub async fn begin(stream: Stream) -> Result<One, Failure> {
        let mut builder = Builder::new();
        builder.max_buf_size(HEADER_OCTETS_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
        let link = Link(Some(Box::new(connection)));
        Ok(One { sender, link })
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.link.drive(self.sender.send_request(request)).await
    }

    /// The next octets of the body; none at its end.
    pub async fn chunk(&mut self, body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
        loop {
            match self.link.drive(body.frame()).await?.map(hyper::body::Frame::into_data) {
                Ok(Ok(octets)) => return Some(Ok(octets)),
                // Trailers are nobody's business here.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The bare stream when the answer was read to its end and the server keeps the connection open.
    pub async fn end(mut self) -> Option<Stream> {
        self.link.drive(self.sender.ready()).await.ok()?;
        let parts = self.link.0?.into_parts();
        // An answer that nobody asked for.
        parts.read_buf.is_empty().then(|| parts.io.into_inner())
    }
}

/// Class and words of a failure of HTTP/1.
pub(super) fn words(error: &hyper::Error) -> Failure {
    if error.is_parse_too_large() {
        return failure(FailReason::Protocol, FIELDS_TOO_LARGE);
    }
    if error.is_parse() || error.is_parse_status() {
        return failure(FailReason::Protocol, "the answer is no valid HTTP");
    }
    // In a body: chunks, and what TLS says about itself.
    let is_bad = |source: &(dyn Error + 'static)| {
        let kind = source.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
    };
    // The handshake is over: the certificate and its name are no more in question.
    match error.source().and_then(|source| failure_in_chain(source, "the server")) {
        Some(found) if found.reason != FailReason::Connect => found,
        _ if error.source().is_some_and(is_bad) => failure(FailReason::Protocol, "the answer is no valid HTTP"),
        Some(found) if found.message != CLOSED => found,
        // Also where the connection was gone before the question was asked.
        Some(_) | None => failure(FailReason::Protocol, BROKEN_OFF),
    }
}
