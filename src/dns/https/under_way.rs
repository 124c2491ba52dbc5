//! Answers on their way: how long the oldest of a connection has been under way.
//!
//! HTTP/2 lets a client take one answer and leave another lying (window 0). Each answer therefore carries a ticket that ends with
//! it, so that a connection can be ended for an answer that is not taken, however much is asked for beside it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The requests of a connection that have no answer with the client yet.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<Tickets>);

/// When each began; the oldest first.
#[derive(Debug, Default)]
struct Tickets {
    began: BTreeMap<u64, Instant>,
    next: u64,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Ticket {
    of: Arc<UnderWay>,
    number: u64,
}

/// An answer with its ticket.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) answer: Full<Bytes>,
    pub(super) _ticket: Ticket,
}

impl UnderWay {
    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Ticket {
        let mut tickets = self.tickets();
        let number = tickets.next;
        tickets.next += 1;
        tickets.began.insert(number, Instant::now());
        Ticket { of: self.clone(), number }
    }

    /// How long the oldest has been under way; zero where there is none.
    pub(super) fn oldest(&self) -> Duration {
        self.tickets().began.values().next().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// The lock; a map of times is right also after a panic elsewhere.
    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.tickets().began.remove(&self.number);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.answer).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}
