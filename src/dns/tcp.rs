//! DNS over TCP (RFC 7766): an accept loop an address, a task a connection, two-octet lengths.
//!
//! A connection's queries are answered in order as they arrive; all complete ones that were read together
//! go out together. Bounded: connections in all, time until the next complete query, time until a client
//! has taken its answers, octets buffered. Accept errors (no descriptors left) pause the loop.

use super::lane::wall_seconds;
use super::stats::{Counted, LaneStats};
use crate::answer::{Ctx, Out, Outcome, STREAM_OCTETS_MAX, Snapshot, Transport, respond};
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// Connections served at once; further ones are closed.
const CONNECTIONS_MAX: usize = 2000;
/// How long a connection may go without a complete query (RFC 7766 §6.2.3: seconds).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to accept what it asked for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause of an accept loop after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Octets read at once.
const READ_OCTETS: usize = 4096;
/// Octets of answers after which they are sent, even if more queries are at hand.
const WRITE_OCTETS: usize = 64 * 1024;

/// What all connections share.
#[derive(Clone)]
pub(super) struct Shared {
    /// Where the snapshot comes from.
    source: Arc<ArcSwap<Snapshot>>,
    /// The counters of TCP.
    stats: Arc<LaneStats>,
    /// Room for connections.
    room: Arc<Semaphore>,
    /// Counted up with each answer.
    rotation: Arc<AtomicU32>,
    /// Whether to stop.
    stopping: watch::Receiver<bool>,
    /// Held by every task; the channel closes when the last is gone.
    _alive: mpsc::Sender<()>,
}

impl Shared {
    /// For one server.
    pub(super) fn new(
        source: Arc<ArcSwap<Snapshot>>,
        stats: Arc<LaneStats>,
        stopping: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) -> Shared {
        Shared {
            source,
            stats,
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            rotation: Arc::new(AtomicU32::new(0)),
            stopping,
            _alive: alive,
        }
    }
}

/// Takes connections until told to stop.
pub(super) async fn accept(listener: TcpListener, shared: Shared) {
    let mut stopping = shared.stopping.clone();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match shared.room.clone().try_acquire_owned() {
                Ok(permit) => {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        serve(stream, peer, &shared).await;
                        drop((permit, shared));
                    });
                }
                Err(_) => shared.stats.dropped(Counted::TcpFull),
            },
            Err(error) => {
                tracing::warn!(%error, "accepting a TCP connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection until it ends, errs, idles or the server stops.
async fn serve(mut stream: TcpStream, peer: SocketAddr, shared: &Shared) {
    // Answers are whole when they are written; waiting for more octets would only delay them.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection {
        ctx: Ctx {
            peer,
            local: stream.local_addr().ok().map(|address| address.ip()),
            transport: Transport::Tcp,
            size_max: STREAM_OCTETS_MAX,
            wall_seconds: 0,
            rotation: 0,
            keepalive_tenths: Some((IDLE_TIMEOUT.as_millis() / 100) as u16),
            cookies: None,
        },
        input: Vec::new(),
        output: Vec::new(),
    };
    let mut stopping = shared.stopping.clone();
    let mut deadline = Instant::now() + IDLE_TIMEOUT;
    loop {
        let answered = connection.answer(shared);
        if !connection.output.is_empty() {
            match timeout(WRITE_TIMEOUT, stream.write_all(&connection.output)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => return shared.stats.dropped(Counted::TcpTimeout),
            }
            connection.output.clear();
        }
        match answered {
            Answered::More => continue,
            Answered::All => deadline = Instant::now() + IDLE_TIMEOUT,
            Answered::None => {}
        }
        let read = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            read = timeout_at(deadline, connection.read(&mut stream)) => read,
        };
        match read {
            Ok(Ok(octets)) if octets > 0 => {}
            Ok(_) => return,
            Err(_) => return shared.stats.dropped(Counted::TcpTimeout),
        }
    }
}

/// What became of the queries at hand.
enum Answered {
    /// There was no complete one.
    None,
    /// All complete ones are answered.
    All,
    /// The output is full; there may be more.
    More,
}

/// A connection's buffers.
struct Connection {
    /// What `respond` is told.
    ctx: Ctx,
    /// Octets read and not yet answered.
    input: Vec<u8>,
    /// Answers with their lengths.
    output: Vec<u8>,
}

impl Connection {
    /// Reads some octets; 0 at the end. Cancel safe: what was read is kept.
    async fn read(&mut self, stream: &mut TcpStream) -> std::io::Result<usize> {
        self.input.reserve(READ_OCTETS);
        stream.read_buf(&mut self.input).await
    }

    /// Answers every complete query at hand, until the output is full.
    fn answer(&mut self, shared: &Shared) -> Answered {
        let mut answered = Answered::None;
        let mut used = 0;
        let snapshot = shared.source.load();
        let mut table = None;
        while let Some(query) = frame(self.input.get(used..).unwrap_or(&[])) {
            if self.output.len() > WRITE_OCTETS {
                answered = Answered::More;
                break;
            }
            used += 2 + query.len();
            answered = Answered::All;
            let table = table.get_or_insert_with(|| shared.stats.table(None, snapshot.steered()));
            self.ctx.rotation = shared.rotation.fetch_add(1, Ordering::Relaxed);
            self.ctx.wall_seconds = wall_seconds();
            self.ctx.cookies = snapshot.service().cookies;
            shared.stats.received(1);
            match answer_into(&mut self.output, &snapshot, query, &self.ctx) {
                Outcome::Reply(reply) => shared.stats.replied(&reply, table),
                Outcome::Drop(reason) => shared.stats.dropped(reason.into()),
            }
        }
        self.input.drain(..used);
        answered
    }
}

/// Answers a query at the end of `output`, its length first. Room for an ordinary answer is tried first:
/// making 64 KiB ready for each would cost more than the answer.
fn answer_into(output: &mut Vec<u8>, snapshot: &Snapshot, query: &[u8], ctx: &Ctx) -> Outcome {
    let start = output.len();
    for size_max in [READ_OCTETS, STREAM_OCTETS_MAX] {
        output.resize(start + 2 + size_max, 0);
        let (length, room) = output.split_at_mut(start + 2);
        let outcome = respond(snapshot, query, &Ctx { size_max, ..*ctx }, &mut Out::new(room));
        let is_truncated = room.get(2).is_some_and(|flags| flags & 0x02 != 0);
        let Outcome::Reply(reply) = outcome else {
            output.truncate(start);
            return outcome;
        };
        if is_truncated && size_max < STREAM_OCTETS_MAX {
            output.truncate(start);
            continue;
        }
        if let Some(length) = length.get_mut(start..) {
            length.copy_from_slice(&(reply.len as u16).to_be_bytes());
        }
        output.truncate(start + 2 + reply.len);
        return outcome;
    }
    Outcome::Drop(crate::answer::DropReason::NoRoom)
}

/// The first query in `octets`, if it is complete.
fn frame(octets: &[u8]) -> Option<&[u8]> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
