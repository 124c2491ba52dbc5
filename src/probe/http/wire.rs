//! A connection, whatever version of HTTP it speaks: idle between runs, or with an answer under way.

use super::super::connect::{Allowance, Stream};
use super::super::words::failure;
use super::one::{self, One};
use super::request::Ask;
use super::two::{self, Two};
use super::{BROKEN_OFF, DRAIN, IDLE_OCTETS_MAX};
use crate::model::{FailReason, Failure};
use bytes::Bytes;
use h2::RecvStream;
use hyper::body::Incoming;
use hyper::http::response::Parts;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// A connection without a request.
pub(super) enum Idle {
    /// HTTP/1.1: the bare stream.
    One(Stream),
    /// HTTP/2.
    Two(Two),
}

impl Idle {
    /// HTTP/2 over a stream.
    pub async fn two(stream: Stream) -> Result<Idle, Failure> {
        Two::begin(stream).await.map(Idle::Two)
    }

    /// Ready when it is of no more use.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Idle::One(stream) => stream.poll_lost(cx),
            Idle::Two(two) => two.poll_lost(cx),
        }
    }

    /// How much may still come over it.
    fn allowance(&self) -> &Allowance {
        match self {
            Idle::One(stream) => stream.allowance(),
            Idle::Two(two) => &two.allowance,
        }
    }

    /// Whether it is of no more use, as far as is known now.
    pub async fn is_lost(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_lost(cx).is_ready())).await
    }
}

/// An answer whose head has come.
pub(super) struct Answer {
    /// Status and header fields.
    pub head: Parts,
    /// The connection, and the body that comes over it.
    wire: Wire,
}

/// A connection with a body under way.
enum Wire {
    /// HTTP/1.1.
    One(One, Incoming),
    /// HTTP/2.
    Two(Two, RecvStream),
}

/// Sends a request and waits for the head of the answer; only so many octets may come for it.
pub(super) async fn send(idle: Idle, ask: &Ask, octets_max: usize) -> Result<Answer, Failure> {
    match idle {
        Idle::One(stream) => {
            let request = ask.one()?;
            stream.allowance().grant(octets_max);
            let mut one = One::begin(stream).await?;
            let (head, body) = one.send(request).await.map_err(|error| one::words(&error))?.into_parts();
            let wire = Wire::One(one, body);
            Ok(Answer { head, wire })
        }
        Idle::Two(mut two) => {
            let request = ask.two()?;
            two.allowance.grant(octets_max);
            let answer = two.send(request, ask.body.clone()).await;
            let (head, body) = answer.map_err(|error| two::words(&error))?.into_parts();
            let wire = Wire::Two(two, body);
            Ok(Answer { head, wire })
        }
    }
}

impl Answer {
    /// The next octets of the body; none at its end.
    async fn chunk(&mut self) -> Option<Result<Bytes, Failure>> {
        let chunk = match &mut self.wire {
            Wire::One(one, body) => one.chunk(body).await?.map_err(|error| one::words(&error)),
            Wire::Two(two, body) => two.chunk(body).await?.map_err(|error| two::words(&error)),
        };
        Some(chunk.map_err(|found| match found.reason {
            FailReason::Connect => failure(FailReason::Protocol, BROKEN_OFF),
            _ => found,
        }))
    }

    /// The body, as far as it is allowed to go.
    pub async fn body(&mut self, octets_max: usize) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await.transpose()? {
            if body.len() + chunk.len() > octets_max {
                let message = format!("body is longer than {octets_max} octets");
                return Err(failure(FailReason::Content, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The first octets of a body, as far as they come in a moment.
    pub async fn glimpse(&mut self, octets_max: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        let reading = async {
            while let Some(Ok(chunk)) = self.chunk().await {
                seen.extend_from_slice(&chunk);
                if seen.len() >= octets_max {
                    break;
                }
            }
        };
        // What has come by then is enough.
        let _ = tokio::time::timeout(DRAIN, reading).await;
        seen
    }

    /// Reads the rest of a body that nothing is expected of, for a moment and up to the limit; tells whether it ended.
    pub async fn drain(&mut self, octets_max: usize) -> Result<bool, Failure> {
        let rest = async {
            let mut left = octets_max;
            while let Some(chunk) = self.chunk().await.transpose()? {
                match left.checked_sub(chunk.len()) {
                    Some(fewer) => left = fewer,
                    None => return Ok(false),
                }
            }
            Ok(true)
        };
        tokio::time::timeout(DRAIN, rest).await.unwrap_or(Ok(false))
    }

    /// The connection after the end of the body, where it can be used again; little may come over it until then.
    pub async fn end(self) -> Option<Idle> {
        let idle = match self.wire {
            Wire::One(one, body) => {
                drop(body);
                one.end().await.map(Idle::One)
            }
            Wire::Two(two, body) => {
                drop(body);
                two.end().await.map(Idle::Two)
            }
        };
        idle.inspect(|idle| idle.allowance().grant(IDLE_OCTETS_MAX))
    }
}
