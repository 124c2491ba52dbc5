//! HTTP/2 over a stream (RFC 9113).
//!
//! The connection is kept between runs and driven by whoever waits: for an answer, or for its loss. No task stands behind
//! it. It costs some 30 KiB while it is kept, most of it h2's own buffers.

use super::super::connect::{Allowance, Stream};
use super::super::words::{CLOSED, failure, failure_in_chain, io_failure};
use super::{BROKEN_OFF, FIELDS_TOO_LARGE, HEADER_OCTETS_MAX};
use crate::model::{FailReason, Failure};
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Reason, RecvStream};
use hyper::{Request, Response};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Most octets of a body that the server may send ahead of what was read.
const WINDOW: u32 = 64 * 1024;

/// A connection.
pub(super) struct Two {
    /// Takes requests.
    sender: SendRequest<Bytes>,
    /// What moves the octets.
    link: Link,
    /// How much may still come.
    pub allowance: Allowance,
}

/// What moves the octets; none when it is over.
struct Link(Option<Box<Connection<Stream, Bytes>>>);

impl Link {
    /// Ready when the connection is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = &mut self.0 {
            // Why it ended is told to whoever waits for the answer.
            std::task::ready!(Pin::new(connection).poll(cx)).unwrap_or_default();
            self.0 = None;
        }
        Poll::Ready(())
    }

    /// Does work that needs the connection to move.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            let _ = self.poll_over(cx);
            work.as_mut().poll(cx)
        })
        .await
    }
}

impl Two {
    /// Takes a stream into use.
    pub async fn begin(stream: Stream) -> Result<Two, Failure> {
        let mut builder = Builder::new();
        // No pushed answers, and bounds on all that a server may send unasked.
        builder
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        builder.max_header_list_size(u32::try_from(HEADER_OCTETS_MAX).unwrap_or(u32::MAX));
        let allowance = stream.allowance().clone();
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| words(&error))?;
        let link = Link(Some(Box::new(connection)));
        Ok(Two { sender, link, allowance })
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(&mut self, request: Request<()>, body: Bytes) -> Result<Response<RecvStream>, h2::Error> {
        let Two { sender, link, .. } = self;
        link.drive(poll_fn(|cx| sender.poll_ready(cx))).await?;
        let (answer, mut rest) = sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            rest.send_data(body, true)?;
        }
        link.drive(answer).await
    }

    /// The next octets of the body; none at its end.
    pub async fn chunk(&mut self, body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
        let octets = match self.link.drive(body.data()).await? {
            Ok(octets) => octets,
            Err(error) => return Some(Err(error)),
        };
        Some(body.flow_control().release_capacity(octets.len()).map(|()| octets))
    }

    /// The connection, when it can take another request.
    pub async fn end(mut self) -> Option<Two> {
        let Two { sender, link, .. } = &mut self;
        link.drive(poll_fn(|cx| sender.poll_ready(cx))).await.ok()?;
        self.link.0.is_some().then_some(self)
    }

    /// Ready when the connection is over.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.poll_over(cx)
    }
}

/// Class and words of a failure of HTTP/2.
pub(super) fn words(error: &h2::Error) -> Failure {
    if let Some(broken) = error.get_io() {
        let found = failure_in_chain(broken, "the server").unwrap_or_else(|| io_failure(broken));
        return match found.message == CLOSED {
            true => failure(FailReason::Protocol, BROKEN_OFF),
            false => found,
        };
    }
    let reason = error.reason();
    // The code that h2 gives to a list of fields beyond the limit.
    if error.is_library() && error.is_reset() && reason == Some(Reason::REFUSED_STREAM) {
        return failure(FailReason::Protocol, FIELDS_TOO_LARGE);
    }
    let reason = reason.map_or_else(|| error.to_string(), |reason| format!("{reason:?}"));
    let words = match (error.is_remote(), error.is_reset()) {
        (true, true) => format!("the server gave the request up: {reason}"),
        (true, false) => format!("the server ended the HTTP/2 connection: {reason}"),
        (false, _) => "the answer is no valid HTTP/2".to_owned(),
    };
    failure(FailReason::Protocol, words)
}
