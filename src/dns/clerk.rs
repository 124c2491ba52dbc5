//! Answers for the transports on tokio, QUIC and HTTPS: one query in, one answer out, counted.
//!
//! Unlike a lane it is shared by many threads, so it counts with locked instructions, and an answer is a buffer of its own,
//! because the connection keeps it until the client has it. Beside the cryptography around it neither is felt.

use super::clock::wall_seconds;
use super::lane::QUERY_OCTETS_MAX;
use super::stats::{AnswerTable, LaneStats};
use crate::answer::{Ctx, DropReason, Out, Outcome, STREAM_OCTETS_MAX, Snapshot, Transport, respond};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

thread_local! {
    /// Room for the longest answer, once a thread.
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; STREAM_OCTETS_MAX].into());
}

/// Who answers the queries of one transport.
#[derive(Debug)]
pub(super) struct Clerk {
    /// Where the snapshot comes from.
    source: Arc<ArcSwap<Snapshot>>,
    /// The counters.
    pub(super) stats: Arc<LaneStats>,
    /// The counters by name, for the names that were asked last.
    table: ArcSwapOption<AnswerTable>,
    /// Counted up with each answer.
    rotation: AtomicU32,
    /// QUIC or HTTPS.
    transport: Transport,
}

impl Clerk {
    /// For one transport.
    pub(super) fn new(source: Arc<ArcSwap<Snapshot>>, stats: Arc<LaneStats>, transport: Transport) -> Clerk {
        Clerk {
            source,
            stats,
            table: ArcSwapOption::empty(),
            rotation: AtomicU32::new(0),
            transport,
        }
    }

    /// Answers a query.
    ///
    /// # Errors
    /// When it is no query, and nothing is to be sent.
    pub(super) fn answer(&self, query: &[u8], peer: SocketAddr, local: Option<IpAddr>) -> Result<Bytes, DropReason> {
        let snapshot = self.source.load();
        let query = query.get(..QUERY_OCTETS_MAX).unwrap_or(query);
        let ctx = Ctx {
            peer,
            local,
            transport: self.transport,
            size_max: STREAM_OCTETS_MAX,
            wall_seconds: wall_seconds(),
            rotation: self.rotation.fetch_add(1, Ordering::Relaxed),
            keepalive_tenths: None,
            cookies: snapshot.service().cookies,
        };
        self.stats.received(1);
        ROOM.with_borrow_mut(|room| {
            let mut out = Out::new(room);
            match respond(&snapshot, query, &ctx, &mut out) {
                Outcome::Reply(reply) => {
                    self.stats.replied(&reply, &self.table(&snapshot));
                    Ok(Bytes::copy_from_slice(out.response(reply.len)))
                }
                Outcome::Drop(reason) => {
                    self.stats.dropped(reason.into());
                    Err(reason)
                }
            }
        })
    }

    /// The counters for the names of a snapshot.
    fn table(&self, snapshot: &Snapshot) -> Arc<AnswerTable> {
        let current = self.table.load_full();
        let table = self.stats.table(current.clone(), snapshot.steered());
        if !current.is_some_and(|current| Arc::ptr_eq(&current, &table)) {
            self.table.store(Some(table.clone()));
        }
        table
    }
}
