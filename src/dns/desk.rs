//! The seam between packets and answers: a lane is anything that hands frames to a [`Desk`].
//!
//! A lane owns the way packets come and go: a socket with batch calls (`lane`, `batch`), one with single calls
//! (`lane`), a ring shared with a network card. It needs to do three things, and no more:
//!
//! ```text
//! desk.begin(&snapshot, count)            once a batch: the clock, counters, limits of this snapshot
//! desk.answer(&snapshot, query, …, room)  for each frame: the length of the response in `room`, or none
//! send the responses                      in any order
//! ```
//!
//! Everything that decides whether and how a datagram is answered is in here or below, so all lanes answer alike, octet
//! for octet. Invariants: `answer` neither allocates nor locks nor makes a system call; `begin` reads the clock (no system call where
//! the kernel maps it) and allocates only when a reload brought other names or other limits.

use super::clock;
use super::limit::{Limiter, Verdict};
use super::stats::{AnswerTable, Counted, LaneStats};
use crate::answer::{Ctx, Out, Outcome, Reply, Service, Snapshot, Transport, UDP_OCTETS_MAX, respond, respond_shortly};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a UDP lane keeps from answer to answer.
pub(super) struct Desk {
    /// The address that its queries are sent to.
    address: SocketAddr,
    /// Its counters.
    stats: Arc<LaneStats>,
    /// Its counters of steered answers.
    table: Option<Arc<AnswerTable>>,
    /// Counted up with each answer.
    rotation: u32,
    /// Wall clock, read once a batch.
    wall_seconds: u64,
    /// What the node adds, of the last snapshot.
    service: Option<Arc<Service>>,
    /// Its part of the rate limit.
    limiter: Option<Limiter>,
    /// The limiter's clock, microseconds, read once a batch.
    now_micros: u64,
}

impl Desk {
    /// A desk at an address.
    pub(super) fn new(address: SocketAddr, stats: Arc<LaneStats>) -> Desk {
        Desk {
            address,
            stats,
            table: None,
            rotation: 0,
            wall_seconds: 0,
            service: None,
            limiter: None,
            now_micros: 0,
        }
    }

    /// Begins a batch.
    pub(super) fn begin(&mut self, snapshot: &Snapshot, queries: u64) {
        self.wall_seconds = clock::wall_seconds();
        self.stats.received(queries);
        self.table = Some(self.stats.table(self.table.take(), snapshot.steered()));
        if !self
            .service
            .as_ref()
            .is_some_and(|service| Arc::ptr_eq(service, snapshot.service()))
        {
            self.serve(snapshot.service());
        }
        if self.limiter.is_some() {
            self.now_micros = clock::micros();
        }
    }

    /// Takes other settings; what was counted against the limit stays where the limit did.
    fn serve(&mut self, service: &Arc<Service>) {
        let present = self.limiter.as_ref().map(Limiter::limit);
        if present != service.rate_limit.as_ref() {
            // Without randomness the addresses of the heap will have to do.
            let seed = getrandom::u64().unwrap_or(Arc::as_ptr(service) as u64);
            self.limiter = service.rate_limit.clone().map(|limit| Limiter::new(limit, seed));
        }
        self.service = Some(service.clone());
    }

    /// Answers one query into `room` and counts it; the length, or none where nothing is to be sent.
    pub(super) fn answer(
        &mut self,
        snapshot: &Snapshot,
        query: &[u8],
        peer: SocketAddr,
        local: Option<IpAddr>,
        room: &mut [u8],
    ) -> Option<usize> {
        if peer.port() == 0 {
            self.stats.dropped(Counted::PortZero);
            return None;
        }
        // A source that is this very socket is forged, and the answer would come back as the next query.
        if peer.port() == self.address.port() && local.unwrap_or(self.address.ip()) == peer.ip() {
            self.stats.dropped(Counted::OwnSource);
            return None;
        }
        let ctx = Ctx {
            peer,
            local,
            transport: Transport::Udp,
            size_max: UDP_OCTETS_MAX,
            wall_seconds: self.wall_seconds,
            rotation: self.rotation,
            cookies: snapshot.service().cookies,
            keepalive_tenths: None,
        };
        match respond(snapshot, query, &ctx, &mut Out::new(room)) {
            Outcome::Reply(reply) => self.replied(reply, query, &ctx, room),
            Outcome::Drop(reason) => {
                self.stats.dropped(reason.into());
                None
            }
        }
    }

    /// Holds an answer against the limit and counts it.
    fn replied(&mut self, mut reply: Reply, query: &[u8], ctx: &Ctx, room: &mut [u8]) -> Option<usize> {
        let limiter = self.limiter.as_mut();
        match limiter.map_or(Verdict::Pass, |limiter| limiter.judge(ctx.peer.ip(), &reply, self.now_micros)) {
            Verdict::Pass => {}
            Verdict::Short => match respond_shortly(query, ctx, &mut Out::new(room)) {
                Outcome::Reply(short) => {
                    self.stats.dropped(Counted::RateShort);
                    reply = short;
                }
                Outcome::Drop(_) => return None, // what was answered in full can be answered shortly
            },
            Verdict::Drop => {
                self.stats.dropped(Counted::RateLimited);
                return None;
            }
        }
        self.rotation = self.rotation.wrapping_add(1);
        if let Some(table) = &self.table {
            self.stats.replied(&reply, table);
        }
        Some(reply.len)
    }
}
