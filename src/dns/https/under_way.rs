//! Answers on their way: how long the oldest of a connection has been under way.
//!
//! HTTP/2 lets a client take one answer and leave another lying (window 0). Each answer therefore carries a ticket that ends with
//! it, so that a connection can be ended for an answer that is not taken, however much is asked for beside it.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// The octets of an answer with their ticket.
struct Answer {
    octets: Bytes,
    _ticket: Ticket,
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

    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.tickets().began.is_empty()
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

impl Ticket {
    /// Has the ticket end with the last octet of an answer: not when the protocol takes the answer over, which it does whole as soon as
    /// the client would take one octet of it.
    pub(super) fn on(self, octets: Bytes) -> Bytes {
        match octets.is_empty() {
            true => octets,
            false => Bytes::from_owner(Answer { octets, _ticket: self }),
        }
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}
