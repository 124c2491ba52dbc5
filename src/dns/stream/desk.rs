//! Where the connections of a lane are answered, one after the other: the buffers, the counters, the time.

use crate::answer::{Ctx, Out, Outcome, STREAM_OCTETS_MAX, Snapshot, Transport, respond};
use crate::dns::clock::wall_seconds;
use crate::dns::lane::QUERY_OCTETS_MAX;
use crate::dns::stats::{AnswerTable, LaneStats};
use arc_swap::ArcSwap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Octets read at once: some three hundred queries, the most that one connection gets before the next has its turn.
pub(super) const READ_OCTETS: usize = 16 * 1024;
/// Octets that a connection may bring along: the beginning of a query, or what it had read when its client stopped taking answers.
pub(super) const KEPT_OCTETS_MAX: usize = 2 + QUERY_OCTETS_MAX + READ_OCTETS;
/// Octets of answers after which they are sent, even if more queries are at hand.
const WRITE_OCTETS: usize = 64 * 1024;
/// Octets that all connections of a lane may keep back together: answers not taken, queries not whole, what lies in TLS sessions.
pub(in crate::dns) const HELD_OCTETS_MAX: usize = 64 << 20;
/// How long a client may be silent between queries, and when places run short; a resolver finds out by RFC 7828.
const IDLE_TIMES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));

/// The desk of a lane.
#[derive(Debug)]
pub(super) struct Desk {
    /// What is read goes here, behind what the connection brought along.
    pub(super) input: Box<[u8]>,
    /// Where answers are made.
    pub(super) pen: Pen,
    /// The time, as of the last poll.
    pub(super) now: Instant,
    /// How long a client may be silent between queries at present.
    pub(super) idle_time: Duration,
    /// Octets that the connections keep back together.
    pub(super) held: usize,
    /// How many they may.
    held_max: usize,
}

/// The answers of a turn, and whom they are counted by.
#[derive(Debug)]
pub(super) struct Pen {
    /// Where the snapshot comes from.
    pub(super) source: Arc<ArcSwap<Snapshot>>,
    /// The counters.
    pub(super) stats: Arc<LaneStats>,
    /// The counters by name, for the present names.
    table: Option<Arc<AnswerTable>>,
    /// What `respond` is told, but for the client.
    ctx: Ctx,
    /// Answers with their lengths.
    output: Box<[u8]>,
    /// How many octets of them.
    filled: usize,
}

impl Desk {
    /// An empty desk, for connections that may keep back so many octets.
    pub(super) fn new(source: Arc<ArcSwap<Snapshot>>, stats: Arc<LaneStats>, transport: Transport, held_max: usize) -> Desk {
        Desk {
            input: vec![0; KEPT_OCTETS_MAX + READ_OCTETS].into(),
            pen: Pen {
                source,
                stats,
                table: None,
                ctx: Ctx {
                    peer: SocketAddr::from(([0, 0, 0, 0], 0)),
                    local: None,
                    transport,
                    size_max: STREAM_OCTETS_MAX,
                    wall_seconds: 0,
                    rotation: 0,
                    keepalive_tenths: None,
                    cookies: None,
                },
                output: vec![0; WRITE_OCTETS + 2 + STREAM_OCTETS_MAX].into(),
                filled: 0,
            },
            now: Instant::now(),
            idle_time: IDLE_TIMES.0,
            held: 0,
            held_max,
        }
    }

    /// Reads the clocks.
    pub(super) fn wake(&mut self, is_crowded: bool) {
        self.now = Instant::now();
        self.idle_time = if is_crowded { IDLE_TIMES.1 } else { IDLE_TIMES.0 };
        self.pen.ctx.wall_seconds = wall_seconds();
        // At most 10 s, so the tenths fit.
        self.pen.ctx.keepalive_tenths = Some((self.idle_time.as_millis() / 100) as u16);
    }

    /// Whether the connections keep back more than they may.
    pub(super) fn is_overfull(&self) -> bool {
        self.held > self.held_max
    }

    /// Whether they keep back so little again that nobody needs to be ended for a while: looking for whom costs a walk over all.
    pub(super) fn has_room(&self) -> bool {
        self.held <= self.held_max / 8 * 7
    }
}

impl Pen {
    /// Begins the answers to a client.
    pub(super) fn begin(&mut self, snapshot: &Snapshot, peer: SocketAddr, local: Option<IpAddr>) {
        self.ctx.peer = peer;
        self.ctx.local = local;
        self.ctx.cookies = snapshot.service().cookies;
        self.table = Some(self.stats.table(self.table.take(), snapshot.steered()));
    }

    /// Answers a query behind the answers that there are, and counts it.
    pub(super) fn answer(&mut self, snapshot: &Snapshot, query: &[u8]) -> Outcome {
        self.stats.received(1);
        let room = self.output.get_mut(self.filled..).unwrap_or_default();
        let Some((length, room)) = room.split_first_chunk_mut() else {
            return Outcome::Drop(crate::answer::DropReason::NoRoom);
        };
        let outcome = respond(snapshot, query, &self.ctx, &mut Out::new(room));
        match outcome {
            Outcome::Reply(reply) => {
                *length = (reply.len as u16).to_be_bytes(); // at most STREAM_OCTETS_MAX
                self.filled += 2 + reply.len;
                self.ctx.rotation = self.ctx.rotation.wrapping_add(1);
                if let Some(table) = &self.table {
                    self.stats.replied(&reply, table);
                }
            }
            Outcome::Drop(reason) => self.stats.dropped(reason.into()),
        }
        outcome
    }

    /// Whether there may be no room for one more.
    pub(super) fn is_full(&self) -> bool {
        self.filled > WRITE_OCTETS
    }

    /// The answers made.
    pub(super) fn answers(&self) -> &[u8] {
        self.output.get(..self.filled).unwrap_or_default()
    }

    /// Forgets the answers made.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }
}

/// The first query in `octets`, as far as it is looked at, and how many octets of it lie beyond that; none until it is whole
/// so far. A longer query than any sound one is answered as one whose end is missing, which UDP does too, so that nobody makes
/// the server keep 64 KiB for him.
pub(super) fn frame(octets: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = octets.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let looked_at = length.min(QUERY_OCTETS_MAX);
    Some((rest.get(..looked_at)?, length - looked_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_found_once_it_is_whole_and_looked_at_up_to_a_limit() {
        assert_eq!(frame(&[]), None);
        assert_eq!(frame(&[0]), None);
        assert_eq!(frame(&[0, 0]), Some((&[][..], 0)));
        assert_eq!(frame(&[0, 2, 7]), None);
        assert_eq!(frame(&[0, 2, 7, 8, 9]), Some((&[7, 8][..], 0)));
        let mut giant = vec![0xff, 0xff];
        giant.resize(2 + QUERY_OCTETS_MAX - 1, 7);
        assert_eq!(frame(&giant), None);
        giant.push(7);
        let found = frame(&giant).map(|(query, beyond)| (query.len(), beyond));
        assert_eq!(found, Some((QUERY_OCTETS_MAX, 65_535 - QUERY_OCTETS_MAX)));
    }
}
