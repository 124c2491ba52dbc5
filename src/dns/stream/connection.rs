//! One connection: queries with two-octet lengths in, answers out (RFC 1035 §4.2.2, RFC 7766, RFC 7858).
//!
//! ```text
//!  send what was left ──blocked──▶ wait (no query is read from a client that does not take its answers)
//!        │ all gone
//!  read once ─▶ answer every whole query ─▶ write once ──blocked──▶ keep the rest, wait
//! ```
//!
//! A connection owns no buffers: it reads into and answers from the lane's, and keeps only what is left over, the beginning of
//! a query or the end of an answer. So an idle connection costs a few hundred octets, and a query allocates nothing.
//!
//! Deadlines, each a defence: a query must be whole [`MESSAGE_TIME_MAX`] after its first octet however slowly it trickles, the
//! first one after the connection began, handshake included; answers must be taken within [`WRITE_TIME_MAX`]; between queries
//! a client may be silent for the lane's idle time (RFC 7766 §6.2.3).

use super::desk::{Desk, Pen, READ_OCTETS, frame};
use super::pipe::{Got, Pipe};
use super::room::Seat;
use crate::answer::{DropReason, Outcome};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Longest time from a query's first octet to its last, and from a connection's beginning to its first query.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest time for a client to take what it asked for.
const WRITE_TIME_MAX: Duration = Duration::from_secs(5);
/// Room that a connection keeps for the beginning of its next query; more is given back.
const KEPT_OCTETS: usize = 512;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its octets.
    pipe: Pipe,
    /// Who asks.
    pub(super) peer: SocketAddr,
    /// Where, if it is known.
    pub(super) local: Option<IpAddr>,
    /// When it is closed unless something happens.
    pub(super) deadline: Instant,
    /// When its last query was answered, or when it began.
    pub(super) active: Instant,
    /// Whether it stands in the lane's queue.
    pub(super) is_queued: bool,
    /// Whether the poll tells when it can be written to.
    pub(super) is_watched_for_writing: bool,
    /// Octets read and not answered yet.
    input: Vec<u8>,
    /// Octets still to be skipped: the end of a query longer than is looked at.
    skip: usize,
    /// Octets of answers that the client has not taken.
    output: Vec<u8>,
    /// How many of them it has.
    sent: usize,
    /// Octets kept for it, as the lane counts them.
    held: usize,
    /// Whether the client was found not to take its answers.
    is_blocked: bool,
    /// Whether the client sends no more (RFC 7766 §6.2.4: it may still want its answers).
    is_read_closed: bool,
    /// Whether the poll told so, and the end has not been read yet.
    is_end_near: bool,
    /// Its place; given back when the connection is dropped.
    _seat: Seat,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more to do now.
    Again,
    /// Nothing to do until the poll tells.
    Wait,
    /// It is over.
    Close,
}

impl Connection {
    /// A connection just accepted.
    pub(super) fn new(pipe: Pipe, peer: SocketAddr, local: Option<IpAddr>, seat: Seat, now: Instant) -> Connection {
        Connection {
            pipe,
            peer,
            local,
            deadline: now + MESSAGE_TIME_MAX,
            active: now,
            is_queued: false,
            is_watched_for_writing: false,
            input: Vec::new(),
            skip: 0,
            output: Vec::new(),
            sent: 0,
            held: 0,
            is_blocked: false,
            is_read_closed: false,
            is_end_near: false,
            _seat: seat,
        }
    }

    /// The socket, for the poll.
    pub(super) fn stream(&mut self) -> &mut mio::net::TcpStream {
        &mut self.pipe.stream
    }

    /// Whether it waits for its client's next query and owes it nothing.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_blocked && self.input.is_empty() && self.skip == 0
    }

    /// Whether the next move is its client's: it is idle, or in the middle of a query.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_blocked && !self.has_query()
    }

    /// Whether its client has not taken all of its answers.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// The poll says that the client sends no more. What it sent is still to be read, and after it the end.
    pub(super) fn end_is_near(&mut self) {
        self.is_end_near = true;
    }

    /// Does a bounded piece of work: at most one read, and the answers to it.
    pub(super) fn turn(&mut self, desk: &mut Desk) -> Turn {
        debug_assert!(
            desk.pen.answers().is_empty(),
            "answers are sent, kept or forgotten in the turn that made them"
        );
        let turn = self.step(desk).unwrap_or(Turn::Close);
        // Whatever a turn came to: its answers are nobody else's.
        desk.pen.clear();
        let held = self.input.capacity() + self.output.capacity() + self.pipe.held();
        desk.held = (desk.held + held).saturating_sub(self.held);
        self.held = held;
        turn
    }

    /// Octets that are kept for it: queries not whole or not answered, answers not taken, what lies in the TLS session.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes leave: what it kept is no longer counted.
    pub(super) fn close(mut self, desk: &mut Desk) {
        desk.held = desk.held.saturating_sub(self.held);
        self.pipe.finish();
    }

    /// The turn itself.
    fn step(&mut self, desk: &mut Desk) -> io::Result<Turn> {
        let was_blocked = std::mem::replace(&mut self.is_blocked, false);
        if !self.send_rest()? {
            return Ok(self.block(was_blocked, desk));
        }
        if was_blocked {
            self.deadline = desk.now + desk.idle_time;
        }
        let kept = self.input.len();
        if let Some(room) = desk.input.get_mut(..kept) {
            room.copy_from_slice(&self.input);
        }
        // Queries left over from a turn that blocked come before new ones.
        let is_read = !self.is_read_closed && !self.has_query();
        let got = match desk.input.get_mut(kept..kept + READ_OCTETS) {
            Some(room) if is_read => self.pipe.read(room)?,
            _ => Got::Nothing,
        };
        let (octets, may_have_more) = match got {
            // The poll tells once: of an end that came with these octets it has told already.
            Got::Octets(octets) => (octets, octets == READ_OCTETS || self.is_end_near || self.pipe.hides_more()),
            // Without a read nobody knows; the poll has perhaps told of it while the client took no answers.
            Got::Nothing => (0, !is_read && !self.is_read_closed),
            Got::Later => (0, true),
            Got::End => (0, false),
        };
        self.is_read_closed |= got == Got::End;
        let answered = self.answer(desk, kept + octets)?;
        if answered.queries > 0 {
            self.active = desk.now;
            self.deadline = desk.now + if self.is_idle() { desk.idle_time } else { MESSAGE_TIME_MAX };
        } else if kept == 0 && !self.input.is_empty() {
            self.deadline = self.deadline.min(desk.now + MESSAGE_TIME_MAX);
        }
        if self.is_blocked {
            return Ok(self.block(false, desk));
        }
        if answered.is_nonsense {
            return Ok(Turn::Close);
        }
        let is_left = may_have_more || self.has_query();
        Ok(match self.is_read_closed {
            _ if is_left => Turn::Again,
            true => Turn::Close,
            false => Turn::Wait,
        })
    }

    /// Answers the whole queries among the first `end` octets of the desk, sends the answers, keeps the rest.
    fn answer(&mut self, desk: &mut Desk, end: usize) -> io::Result<Answered> {
        let mut answered = Answered::default();
        let mut octets = desk.input.get(..end).unwrap_or_default();
        let snapshot = desk.pen.source.load();
        // Nothing has come: leave the counters' table alone.
        if !octets.is_empty() {
            desk.pen.begin(&snapshot, self.peer, self.local);
        }
        loop {
            let skipped = self.skip.min(octets.len());
            self.skip -= skipped;
            octets = octets.get(skipped..).unwrap_or_default();
            let Some((query, beyond)) = frame(octets) else {
                break;
            };
            if desk.pen.is_full() && !self.send(&mut desk.pen)? {
                break;
            }
            let outcome = desk.pen.answer(&snapshot, query);
            answered.queries += 1;
            self.skip = beyond;
            octets = octets.get(2 + query.len()..).unwrap_or_default();
            if outcome == Outcome::Drop(DropReason::Short) {
                answered.is_nonsense = true; // Whoever sends this speaks another protocol.
                break;
            }
        }
        if !self.is_blocked {
            self.send(&mut desk.pen)?;
        }
        self.keep(octets);
        Ok(answered)
    }

    /// Keeps what is left over until the next turn.
    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() && self.input.capacity() > KEPT_OCTETS {
            self.input = Vec::new();
        }
        self.input.clear();
        self.input.extend_from_slice(rest);
    }

    /// Whether a whole query is left over.
    fn has_query(&self) -> bool {
        self.skip == 0 && frame(&self.input).is_some()
    }

    /// Sends answers in one call; whether all are gone. What the client does not take is kept here.
    fn send(&mut self, pen: &mut Pen) -> io::Result<bool> {
        let answers = pen.answers();
        let written = if answers.is_empty() { Ok(0) } else { self.pipe.write(answers) };
        if let Ok(written) = &written {
            self.output.extend_from_slice(answers.get(*written..).unwrap_or_default());
        }
        pen.clear(); // also where nothing can be sent any more
        written?;
        self.is_blocked = !self.output.is_empty() || !self.pipe.flush()?;
        Ok(!self.is_blocked)
    }

    /// Sends what earlier turns left; whether all is gone.
    fn send_rest(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.pipe.write(rest)? {
                0 => return Ok(false),
                written => self.sent += written,
            }
        }
        if !self.output.is_empty() {
            self.output = Vec::new();
            self.sent = 0;
        }
        self.pipe.flush()
    }

    /// The client does not take its answers; its time begins, or goes on running.
    fn block(&mut self, was_blocked: bool, desk: &Desk) -> Turn {
        self.is_blocked = true;
        if !was_blocked {
            self.deadline = desk.now + WRITE_TIME_MAX;
        }
        Turn::Wait
    }
}

/// What was done with the queries at hand.
#[derive(Debug, Clone, Copy, Default)]
struct Answered {
    /// How many were whole.
    queries: usize,
    /// Whether one was no DNS message at all.
    is_nonsense: bool,
}
