//! DNS over streams: TCP (RFC 7766) and TLS (RFC 7858), on threads of their own.
//!
//! ```text
//!   listener ─accept─▶ room for it? ─▶ connection ─poll says readable─▶ queue ─▶ a turn each, round and round
//!                         │ no                                                    (read once, answer, write once)
//!                         ▼
//!              the longest idle ones go, or the new one does
//! ```
//!
//! A lane is one thread with one poll; every address has a listener in each lane, joined by `SO_REUSEPORT`. TCP and TLS have
//! lanes apart, so that handshakes delay nobody's plain queries, and neither shares anything with UDP but the snapshot.
//! No connection gets more than one read's worth of work before the others have had theirs. All answers to one read go out
//! in one write. Answers are made at once, so those to pipelined queries are in order, which RFC 7766 §6.2.1.1 allows and
//! does not ask for.
//!
//! What a hostile client can do is bounded by [`room`] (places), [`connection`] (time), [`desk`] (memory): where all together have the lane
//! keep too much, those for whom it keeps most are ended. A flood of connections while descriptors run out pauses the accepting instead of
//! spinning.
//!
//! Why TLS is spoken here and not by hickory-server, which has a DoT listener: that one takes any number of connections from
//! anybody, spins when descriptors run out, and encodes every answer a second time; none of it can be changed from outside.

mod connection;
mod desk;
mod pipe;
mod room;
#[cfg(test)]
mod tests;

pub(in crate::dns) use desk::HELD_OCTETS_MAX;
pub(in crate::dns) use room::{Full, Room, Seat};

use super::stats::{Counted, LaneStats};
use crate::answer::{Snapshot, Transport};
use crate::seldom::Seldom;
use arc_swap::ArcSwap;
use connection::{Connection, Turn};
use desk::Desk;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use pipe::Pipe;
use rustls::{ServerConfig, ServerConnection};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Connections accepted before those that there are have their turn.
const ACCEPTS_A_ROUND: usize = 64;
/// Events taken from the poll at once.
const EVENTS_A_ROUND: usize = 512;
/// How often deadlines are looked at.
const SWEEP_PERIOD: Duration = Duration::from_millis(250);
/// Pause of accepting after an error, and of looking for idle connections when there were none.
const PAUSE: Duration = Duration::from_millis(100);
/// Younger connections do not make room for others: they may be about to ask.
const IDLE_TIME_MIN: Duration = Duration::from_millis(500);
/// Share of the connections that go at once when places run out: looking for them costs a walk over all.
const GO_SHARE: usize = 64;
/// How long a stop waits for clients that are still taking their answers.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);
/// The poll's word for "stop"; connections have their number, listeners theirs from the top down.
const STOP: Token = Token(usize::MAX);

/// What a lane is made of.
pub(super) struct Parts {
    /// Listening sockets, not blocking.
    pub(super) listeners: Vec<std::net::TcpListener>,
    /// TCP or TLS.
    pub(super) transport: Transport,
    /// How to speak TLS, where it is spoken.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// The places, which all lanes of a transport share.
    pub(super) room: Arc<Room>,
    /// Octets that the connections of this lane may have it keep.
    pub(super) held_max: usize,
    /// That connections cannot be accepted, which the lanes say together.
    pub(super) complaint: Seldom,
    /// Where the snapshot comes from.
    pub(super) source: Arc<ArcSwap<Snapshot>>,
    /// Counters of this lane.
    pub(super) stats: Arc<LaneStats>,
    /// Whether to stop.
    pub(super) is_stopping: Arc<AtomicBool>,
}

/// A listening socket.
struct Listener {
    /// The socket.
    socket: TcpListener,
    /// Its address, if it is not a wildcard.
    local: Option<IpAddr>,
    /// Whether connections may be waiting.
    is_ready: bool,
}

/// A lane.
pub(super) struct Lane {
    /// Tells what happened.
    poll: Poll,
    /// Where connections come from.
    listeners: Vec<Listener>,
    /// How to speak TLS.
    tls: Option<Arc<ServerConfig>>,
    /// The places.
    room: Arc<Room>,
    /// Where connections are answered.
    desk: Desk,
    /// The connections by their number.
    connections: Vec<Option<Box<Connection>>>,
    /// Numbers without a connection.
    free: Vec<usize>,
    /// Those that have something to do.
    queue: VecDeque<usize>,
    /// Until when nothing is accepted.
    paused_until: Option<Instant>,
    /// Until when no idle connection is looked for.
    none_idle_until: Option<Instant>,
    /// When deadlines are looked at next.
    sweep_at: Instant,
    /// That connections cannot be accepted.
    complaint: Seldom,
    /// Whether to stop.
    is_stopping: Arc<AtomicBool>,
}

impl Lane {
    /// Gets ready to run; the waker wakes it to see that it is to stop.
    ///
    /// # Errors
    /// When there is no descriptor for the poll.
    pub(super) fn new(parts: Parts) -> io::Result<(Lane, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), STOP)?;
        let mut listeners = Vec::new();
        for (index, listener) in parts.listeners.into_iter().enumerate() {
            let local = listener.local_addr()?.ip();
            let mut socket = TcpListener::from_std(listener);
            poll.registry()
                .register(&mut socket, Token(STOP.0 - 1 - index), Interest::READABLE)?;
            listeners.push(Listener {
                socket,
                local: (!local.is_unspecified()).then_some(local),
                is_ready: true,
            });
        }
        let desk = Desk::new(parts.source, parts.stats, parts.transport, parts.held_max);
        let lane = Lane {
            poll,
            listeners,
            tls: parts.tls,
            room: parts.room,
            sweep_at: desk.now,
            desk,
            connections: Vec::new(),
            free: Vec::new(),
            queue: VecDeque::new(),
            paused_until: None,
            none_idle_until: None,
            complaint: parts.complaint,
            is_stopping: parts.is_stopping,
        };
        Ok((lane, waker))
    }

    /// Answers until told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_A_ROUND);
        while !self.is_stopping.load(Ordering::Acquire) {
            self.round(&mut events);
            self.accept();
        }
        self.listeners.clear();
        // What has arrived is answered, and whoever is still taking his answers gets a little time.
        let end = Instant::now() + STOP_TIME_MAX;
        for id in 0..self.connections.len() {
            self.enqueue(id);
        }
        if !self.queue.is_empty() {
            self.round(&mut events);
        }
        while Instant::now() < end && self.finish_all() {
            self.round(&mut events);
        }
    }

    /// Waits for something to happen and gives every connection that has something to do a turn.
    fn round(&mut self, events: &mut Events) {
        match self.poll.poll(events, self.wait_time()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::error!(%error, "waiting for connections failed");
                std::thread::sleep(PAUSE);
            }
        }
        self.desk.wake(self.room.is_crowded());
        for event in events.iter() {
            let Token(id) = event.token();
            match self.listeners.get_mut((STOP.0 - 1).wrapping_sub(id)) {
                Some(listener) => listener.is_ready = true,
                None => {
                    if let Some(connection) = self.connection(id).filter(|_| event.is_read_closed()) {
                        connection.end_is_near();
                    }
                    self.enqueue(id);
                }
            }
        }
        // Those that come back to the queue wait for the next round.
        for _ in 0..self.queue.len() {
            if let Some(id) = self.queue.pop_front() {
                self.turn(id);
            }
        }
        if self.desk.now >= self.sweep_at {
            self.sweep();
        }
    }

    /// How long the poll may wait.
    fn wait_time(&self) -> Option<Duration> {
        let is_accepting = self.paused_until.is_none() && self.listeners.iter().any(|listener| listener.is_ready);
        if is_accepting || !self.queue.is_empty() {
            return Some(Duration::ZERO);
        }
        let has_connections = self.free.len() < self.connections.len();
        let sweep = has_connections.then_some(self.sweep_at);
        let next = sweep.into_iter().chain(self.paused_until).min()?;
        // Rounded up by the poll, so that it does not wake just before.
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// A connection that is there.
    fn connection(&mut self, id: usize) -> Option<&mut Box<Connection>> {
        self.connections.get_mut(id)?.as_mut()
    }

    /// Puts a connection into the queue, once.
    fn enqueue(&mut self, id: usize) {
        if let Some(connection) = self.connection(id)
            && !connection.is_queued
        {
            connection.is_queued = true;
            self.queue.push_back(id);
        }
    }

    /// Gives a connection its turn.
    fn turn(&mut self, id: usize) {
        let Some(connection) = self.connections.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        connection.is_queued = false;
        let turn = connection.turn(&mut self.desk);
        self.after(id, turn);
    }

    /// Does what a turn came to.
    fn after(&mut self, id: usize, turn: Turn) {
        match turn {
            Turn::Again => self.enqueue(id),
            Turn::Wait => self.watch_for_writing(id),
            Turn::Close => self.close(id),
        }
        if self.desk.is_overfull() {
            self.shed();
        }
    }

    /// Ends those for whom most is kept, of two alike the one that was answered longer ago. Not whoever has just had a turn: a query in two
    /// pieces is no abuse.
    fn shed(&mut self) {
        let kept = self.connections.iter().enumerate().filter_map(|(id, connection)| {
            let connection = connection.as_ref()?;
            Some((Reverse(connection.held()), connection.active, id))
        });
        let mut kept: Vec<(Reverse<usize>, Instant, usize)> = kept.collect();
        kept.sort_unstable();
        for (_, _, id) in kept {
            if self.desk.has_room() {
                break;
            }
            self.desk.pen.stats.dropped(Counted::TcpMemory);
            self.close(id);
        }
    }

    /// Has the poll tell when a client takes answers again. Not from the beginning: most never make anybody wait.
    fn watch_for_writing(&mut self, id: usize) {
        let Some(connection) = self.connections.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        if connection.is_blocked() && !connection.is_watched_for_writing {
            let interest = Interest::READABLE | Interest::WRITABLE;
            match self.poll.registry().reregister(connection.stream(), Token(id), interest) {
                Ok(()) => connection.is_watched_for_writing = true,
                Err(_) => self.close(id),
            }
        }
    }

    /// Ends a connection.
    fn close(&mut self, id: usize) {
        if let Some(connection) = self.connections.get_mut(id).and_then(Option::take) {
            connection.close(&mut self.desk);
            self.free.push(id);
        }
    }

    /// Ends the connections whose time is over.
    fn sweep(&mut self) {
        let now = self.desk.now;
        self.sweep_at = now + SWEEP_PERIOD;
        for id in 0..self.connections.len() {
            if self.connection(id).is_some_and(|connection| connection.deadline <= now) {
                self.desk.pen.stats.dropped(Counted::TcpTimeout);
                self.close(id);
            }
        }
    }

    /// Ends every connection that is owed nothing; whether others are left.
    fn finish_all(&mut self) -> bool {
        for id in 0..self.connections.len() {
            if self
                .connection(id)
                .is_some_and(|connection| !connection.is_queued && !connection.is_blocked())
            {
                self.close(id);
            }
        }
        self.free.len() < self.connections.len()
    }
}

/// Accepting.
impl Lane {
    /// Takes the connections that wait, a bounded number.
    fn accept(&mut self) {
        if self.paused_until.is_some_and(|until| self.desk.now < until) {
            return;
        }
        self.paused_until = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_A_ROUND {
                let Some(listener) = self.listeners.get_mut(index).filter(|listener| listener.is_ready) else {
                    break;
                };
                match listener.socket.accept() {
                    Ok((stream, peer)) => {
                        let local = listener.local.or_else(|| Some(stream.local_addr().ok()?.ip()));
                        self.welcome(stream, peer, local);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => listener.is_ready = false,
                    Err(error) => return self.accept_failed(&error),
                }
            }
        }
    }

    /// Begins a connection, if there is a place for it.
    fn welcome(&mut self, stream: mio::net::TcpStream, peer: SocketAddr, local: Option<IpAddr>) {
        let seat = match self.room.take(peer.ip()) {
            Err(Full::All) if self.make_room() => self.room.take(peer.ip()),
            taken => taken,
        };
        let Ok(seat) = seat else {
            // Dropped, and so closed.
            return self.desk.pen.stats.dropped(Counted::TcpFull);
        };
        let tls = match self.tls.clone().map(ServerConnection::new) {
            None => None,
            Some(Ok(tls)) => Some(tls),
            Some(Err(error)) => return tracing::warn!(%error, "TLS cannot begin"),
        };
        let mut connection = Box::new(Connection::new(Pipe::new(stream, tls), peer, local, seat, self.desk.now));
        // The query has often come with the connection: what is done now needs no event.
        let turn = connection.turn(&mut self.desk);
        if turn == Turn::Close {
            return connection.close(&mut self.desk);
        }
        let id = self.free.pop().unwrap_or(self.connections.len());
        if let Err(error) = self.poll.registry().register(connection.stream(), Token(id), Interest::READABLE) {
            tracing::warn!(%error, "a connection cannot be watched");
            connection.close(&mut self.desk);
            return if id < self.connections.len() {
                self.free.push(id)
            };
        }
        match self.connections.get_mut(id) {
            Some(place) => *place = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        self.after(id, turn);
    }

    /// Deals with a failure to accept.
    fn accept_failed(&mut self, error: &io::Error) {
        // About one connection that went away again, not about this socket.
        if matches!(
            error.kind(),
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
        ) {
            return;
        }
        // Mostly no descriptors left: some are made free, and the next try waits.
        self.make_room();
        self.paused_until = Some(self.desk.now + PAUSE);
        self.desk.pen.stats.dropped(Counted::TcpFull);
        if self.complaint.is_due() {
            tracing::warn!(%error, "connections cannot be accepted; trying on");
        }
    }

    /// Ends the connections that have been idle longest, a few of them, and where there are none those that have been at a query
    /// longest; whether there were any.
    fn make_room(&mut self) -> bool {
        let now = self.desk.now;
        if self.none_idle_until.is_some_and(|until| now < until) {
            return false;
        }
        let idle = self.connections.iter().enumerate().filter_map(|(id, connection)| {
            let connection = connection.as_ref().filter(|connection| connection.is_waiting())?;
            let is_old = now.saturating_duration_since(connection.active) >= IDLE_TIME_MIN;
            is_old.then(|| (!connection.is_idle(), connection.active, id))
        });
        let mut idle: Vec<(bool, Instant, usize)> = idle.collect();
        idle.sort_unstable();
        let many = self.connections.len() / GO_SHARE + 1;
        for (_, _, id) in idle.iter().take(many) {
            self.desk.pen.stats.dropped(Counted::TcpFull);
            self.close(*id);
        }
        if idle.is_empty() {
            self.none_idle_until = Some(now + PAUSE);
        }
        !idle.is_empty()
    }
}
