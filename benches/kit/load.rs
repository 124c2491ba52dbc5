//! The load generator: UDP queries in batches from several sockets, every answer checked.
//!
//! Two paces: *closed*, so many queries in flight, finds the most that a server answers; *open*, a fixed schedule, finds its
//! latency, for a late server does not slow the clients down. An answer counts when its id is that of a query in flight, its
//! question is octet for octet the one asked, and response code and answer count are what the query says they must be.
//! All queries of one load have one length, so that a batch goes down the stack as one segmented datagram: the generator
//! must be cheaper than any server.

use super::sys::{self, Packets, SLOTS};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

/// After this a query is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// Ids of a socket.
const IDS: usize = 1 << 16;
/// Octets of a header.
const HEADER: usize = 12;

/// A query and what must come back.
#[derive(Debug, Clone)]
pub struct Query {
    /// The packet; its id is set at each send.
    wire: Vec<u8>,
    /// Octets of header and question.
    question_end: usize,
    /// What must come back.
    expect: Expect,
}

/// What must come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// NOERROR with an answer.
    Answer,
    /// NOERROR with one A record of this address.
    Address([u8; 4]),
    /// NOERROR without.
    Nodata,
    /// NXDOMAIN.
    Nxdomain,
    /// Anything: the echo.
    Anything,
}

impl Query {
    /// A query with EDNS: name in presentation form without escapes, the OPT record's flags, and its options.
    pub fn new(name: &str, qtype: u16, flags: u16, options: &[u8], expect: Expect) -> Query {
        let mut wire = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.trim_end_matches('.').split('.') {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        wire.extend_from_slice(&qtype.to_be_bytes());
        wire.extend_from_slice(&[0, 1]);
        let question_end = wire.len();
        wire.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0]);
        wire.extend_from_slice(&flags.to_be_bytes());
        wire.extend_from_slice(&(options.len() as u16).to_be_bytes());
        wire.extend_from_slice(options);
        Query {
            wire,
            question_end,
            expect,
        }
    }

    /// The same, whatever comes back.
    pub fn unchecked(&self) -> Query {
        Query {
            expect: Expect::Anything,
            ..self.clone()
        }
    }

    /// The packet, with this id.
    pub fn packet(&self, id: u16) -> Vec<u8> {
        let mut wire = self.wire.clone();
        wire[..2].copy_from_slice(&id.to_be_bytes());
        wire
    }

    /// Whether a packet is the right answer.
    pub fn accepts(&self, answer: &[u8]) -> bool {
        let (Some(head), Some(question)) = (answer.get(..HEADER), answer.get(HEADER..self.question_end)) else {
            return false;
        };
        let is_answer = head[2] & 0x80 != 0 && question == &self.wire[HEADER..self.question_end];
        let (truncated, rcode, answers) = (head[2] & 2 != 0, head[3] & 15, u16::from_be_bytes([head[6], head[7]]));
        is_answer
            && match self.expect {
                Expect::Answer => !truncated && rcode == 0 && answers > 0,
                Expect::Address(address) => {
                    // The record's owner is a pointer, so its data stands 12 octets behind the question.
                    let data = answer.get(self.question_end + 12..self.question_end + 16);
                    !truncated && rcode == 0 && answers == 1 && data == Some(&address)
                }
                Expect::Nodata => !truncated && rcode == 0 && answers == 0,
                Expect::Nxdomain => !truncated && rcode == 3 && answers == 0,
                Expect::Anything => true,
            }
    }
}

/// How fast queries are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// So many in flight.
    Closed(usize),
    /// So many a second.
    Open(u32),
}

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Queries sent.
    pub sent: u64,
    /// Right answers.
    pub answered: u64,
    /// Queries without an answer in time.
    pub lost: u64,
    /// Answers that were not right, or to no query in flight.
    pub wrong: u64,
    /// Answers a second.
    pub qps: f64,
    /// Latencies.
    pub latency: Histogram,
}

/// Latencies in steps of under 1.6 %.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Steps of each power of two, as a power of two.
    const STEP_BITS: u32 = 6;

    /// Counts one, nanoseconds.
    fn add(&mut self, nanos: u64) {
        let shift = (64 - (nanos | 1).leading_zeros()).saturating_sub(Histogram::STEP_BITS + 1);
        let index = ((shift as usize) << Histogram::STEP_BITS) + (nanos >> shift) as usize;
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Histogram) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
    }

    /// The latency that a share of the answers stays below, microseconds.
    pub fn micros(&self, share: f64) -> f64 {
        let wanted = (share * self.total as f64) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen > wanted {
                let step = 1usize << Histogram::STEP_BITS;
                let shift = (index / step).saturating_sub(1);
                return ((index - (shift << Histogram::STEP_BITS)) << shift) as f64 / 1e3;
            }
        }
        0.0
    }
}

/// One socket and what is in flight on it.
struct Client {
    socket: UdpSocket,
    /// When each id was sent, and which query it was; nothing in flight: none.
    flights: Vec<Option<(Instant, u32)>>,
    /// The next id.
    head: u16,
    /// The oldest id that may be in flight.
    tail: u16,
    /// How many are in flight.
    in_flight: usize,
    /// Whether the kernel cuts what is sent into packets.
    segments: bool,
}

/// A load ready to run.
pub struct Load {
    queries: Vec<Query>,
    clients: Vec<Client>,
    packets: Packets,
    next: usize,
    room: Vec<u8>,
    turn: usize,
}

impl Load {
    /// Queries against a server from so many source ports.
    pub fn new(server: SocketAddr, queries: Vec<Query>, sockets: usize) -> Load {
        let octets = queries[0].wire.len();
        assert!(
            queries.iter().all(|query| query.wire.len() == octets),
            "all queries of a load have one length"
        );
        let client = |_| {
            let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
            socket.connect(server).unwrap();
            socket.set_nonblocking(true).unwrap();
            let reference = socket2::SockRef::from(&socket);
            let _ = reference.set_recv_buffer_size(4 << 20);
            let _ = reference.set_send_buffer_size(4 << 20);
            let segments = sys::segment(&socket, octets).is_ok();
            Client {
                socket,
                flights: vec![None; IDS],
                head: 0,
                tail: 0,
                in_flight: 0,
                segments,
            }
        };
        Load {
            queries,
            clients: (0..sockets).map(client).collect(),
            packets: Packets::new(false),
            next: 0,
            room: Vec::new(),
            turn: 0,
        }
    }

    /// Asks every query once, so many in flight.
    pub fn once(&mut self, window: usize) -> Outcome {
        let mut outcome = Outcome::default();
        let (all, deadline) = (self.queries.len(), Instant::now() + Duration::from_secs(30));
        while (outcome.sent as usize) < all || self.clients.iter().any(|client| client.in_flight > 0) {
            for index in 0..self.clients.len() {
                self.take(index, &mut outcome);
                let room = (window / self.clients.len()).max(1).saturating_sub(self.clients[index].in_flight);
                outcome.sent += self.send(index, room.min(all - outcome.sent as usize)) as u64;
            }
            if Instant::now() > deadline {
                break;
            }
            self.sweep(Instant::now() - PATIENCE, &mut outcome);
        }
        outcome
    }

    /// Runs for a time on this thread, then waits for what is still in flight. It never sleeps: a sleeping generator would
    /// measure its own waking up.
    pub fn run(&mut self, span: Duration, pace: Pace) -> Outcome {
        let mut outcome = Outcome::default();
        for client in &self.clients {
            // What a program beside this one delays is its reading, not the answer. In the closed loop every nanosecond counts.
            let _ = sys::stamp(&client.socket, matches!(pace, Pace::Open(_)));
        }
        let start = Instant::now();
        let (mut now, mut sweep_at) = (start, start);
        while now < start + span {
            if let Pace::Open(rate) = pace {
                self.send_due(&mut outcome, now - start, rate);
            }
            for index in 0..self.clients.len() {
                self.take(index, &mut outcome);
                if let Pace::Closed(window) = pace {
                    let share = (window / self.clients.len()).max(1);
                    let in_flight = self.clients[index].in_flight;
                    // A quarter of them together, so that batches form.
                    if in_flight <= share - share.div_ceil(4) {
                        outcome.sent += self.send(index, share - in_flight) as u64;
                    }
                }
            }
            now = Instant::now();
            if now > sweep_at {
                self.sweep(now - PATIENCE, &mut outcome);
                sweep_at = now + PATIENCE / 16;
            }
        }
        let in_time = outcome.answered;
        let elapsed = start.elapsed().as_secs_f64();
        let end = Instant::now() + PATIENCE;
        while self.clients.iter().any(|client| client.in_flight > 0) && Instant::now() < end {
            (0..self.clients.len()).for_each(|index| self.take(index, &mut outcome));
        }
        self.sweep(Instant::now(), &mut outcome);
        outcome.qps = in_time as f64 / elapsed;
        outcome
    }

    /// Sends what is due by the schedule.
    fn send_due(&mut self, outcome: &mut Outcome, since: Duration, rate: u32) {
        let due = (since.as_secs_f64() * f64::from(rate)) as u64;
        while outcome.sent < due {
            let each = (due - outcome.sent).div_ceil(self.clients.len() as u64) as usize;
            self.turn = (self.turn + 1) % self.clients.len();
            match self.send(self.turn, each) {
                0 => return,
                sent => outcome.sent += sent as u64,
            }
        }
    }

    /// Sends up to so many queries from one socket; how many the kernel took.
    fn send(&mut self, index: usize, count: usize) -> usize {
        let client = &mut self.clients[index];
        let count = count.min(SLOTS).min(IDS / 2 - client.in_flight.min(IDS / 2));
        let count = if client.segments { count } else { count.min(1) };
        if count == 0 {
            return 0;
        }
        self.room.clear();
        for step in 0..count {
            let query = &self.queries[(self.next + step) % self.queries.len()];
            let at = self.room.len();
            self.room.extend_from_slice(&query.wire);
            self.room[at..at + 2].copy_from_slice(&client.head.wrapping_add(step as u16).to_be_bytes());
        }
        let now = Instant::now();
        if client.socket.send(&self.room).is_err() {
            return 0; // full, or nobody there: seen as losses
        }
        for step in 0..count {
            let query = (self.next + step) % self.queries.len();
            client.flights[usize::from(client.head)] = Some((now, query as u32));
            client.head = client.head.wrapping_add(1);
        }
        client.in_flight += count;
        self.next = (self.next + count) % self.queries.len();
        count
    }

    /// Takes what one socket has received.
    fn take(&mut self, index: usize, outcome: &mut Outcome) {
        let client = &mut self.clients[index];
        if client.in_flight == 0 {
            return;
        }
        let received = self.packets.receive(&client.socket, false).unwrap_or(0);
        let now = Instant::now();
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        for packet in 0..received {
            let answer = self.packets.get(packet);
            let waited = self.packets.arrived(packet).map_or(Duration::ZERO, |at| wall.saturating_sub(at));
            let id = answer.first_chunk::<2>().map_or(0, |id| u16::from_be_bytes(*id));
            let Some((sent_at, query)) = client.flights[usize::from(id)].take() else {
                outcome.wrong += 1;
                continue;
            };
            client.in_flight -= 1;
            if self.queries[query as usize].accepts(answer) {
                outcome.answered += 1;
                outcome.latency.add((now - sent_at).saturating_sub(waited).as_nanos() as u64);
            } else {
                outcome.wrong += 1;
            }
        }
    }

    /// Gives up what was sent before a moment; ids are in the order of sending.
    fn sweep(&mut self, before: Instant, outcome: &mut Outcome) {
        for client in &mut self.clients {
            while client.tail != client.head {
                let flight = &mut client.flights[usize::from(client.tail)];
                if flight.is_some_and(|(sent_at, _)| sent_at > before) {
                    break;
                }
                if flight.take().is_some() {
                    client.in_flight -= 1;
                    outcome.lost += 1;
                }
                client.tail = client.tail.wrapping_add(1);
            }
        }
    }
}
