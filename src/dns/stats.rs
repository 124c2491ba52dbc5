//! Counters of the lanes: each lane writes its own, whoever scrapes sums them up.
//!
//! A lane is the only writer of its counters, so counting is a load and a store without a locked
//! instruction; each lane's block has cache lines of its own. QUIC and HTTPS, which run on tokio, have one
//! block each and add atomically. Answers by steered name are counted by number; the table of names belongs to the snapshot,
//! and when a reload brings another one the lane begins a new table. The lock around the list of
//! tables is taken by a lane at that moment only, never for a query.

use crate::answer::{DropReason, Reply, Steered, SteeredNames, Transport};
use crate::model::{Name, RegionId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Response codes counted one by one; BADCOOKIE is 23, larger ones do not occur.
const RCODES: usize = 24;

/// Why a packet or a connection got no response, or not the one it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Less than a header.
    Short,
    /// A response itself.
    Response,
    /// It would not fit the buffer.
    NoRoom,
    /// It has what its transport forbids.
    Forbidden,
    /// Port 0 as source: nothing can be sent there.
    PortZero,
    /// The socket's own address as source: it is forged.
    OwnSource,
    /// The same answer to the same network too often; nothing was sent.
    RateLimited,
    /// The same, and a short answer was sent instead.
    RateShort,
    /// The kernel did not take the response.
    SendFailed,
    /// A connection closed because there were too many.
    TcpFull,
    /// A connection closed because it was idle or too slow.
    TcpTimeout,
    /// A connection closed because clients together left too many answers untaken.
    TcpMemory,
}

impl Counted {
    /// Every reason, in the order of the counters.
    pub(super) const ALL: [Counted; 12] = [
        Counted::Short,
        Counted::Response,
        Counted::NoRoom,
        Counted::Forbidden,
        Counted::PortZero,
        Counted::OwnSource,
        Counted::RateLimited,
        Counted::RateShort,
        Counted::SendFailed,
        Counted::TcpFull,
        Counted::TcpTimeout,
        Counted::TcpMemory,
    ];

    /// As shown in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Counted::Short => "short",
            Counted::Response => "response",
            Counted::NoRoom => "no-room",
            Counted::Forbidden => "forbidden",
            Counted::PortZero => "port-zero",
            Counted::OwnSource => "own-source",
            Counted::RateLimited => "rate-limited",
            Counted::RateShort => "rate-short",
            Counted::SendFailed => "send-failed",
            Counted::TcpFull => "tcp-full",
            Counted::TcpTimeout => "tcp-timeout",
            Counted::TcpMemory => "tcp-memory",
        }
    }
}

impl From<DropReason> for Counted {
    fn from(reason: DropReason) -> Counted {
        match reason {
            DropReason::Short => Counted::Short,
            DropReason::Response => Counted::Response,
            DropReason::NoRoom => Counted::NoRoom,
            DropReason::Forbidden => Counted::Forbidden,
        }
    }
}

/// The counters of a server.
#[derive(Debug)]
pub struct Stats {
    /// A block a lane.
    lanes: Mutex<Vec<Arc<LaneStats>>>,
    /// Answers of tables that no lane writes any more.
    retired: Mutex<BTreeMap<(Name, Option<RegionId>), u64>>,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats::new()
    }
}

impl Stats {
    /// All zero.
    pub fn new() -> Stats {
        Stats {
            lanes: Mutex::new(Vec::new()),
            retired: Mutex::new(BTreeMap::new()),
        }
    }

    /// A block for a new lane.
    pub(super) fn lane(&self, transport: Transport) -> Arc<LaneStats> {
        let lane = Arc::new(LaneStats::new(transport));
        lock(&self.lanes).push(lane.clone());
        lane
    }

    /// Queries received by transport.
    pub fn queries(&self) -> Vec<(Transport, u64)> {
        let lanes = lock(&self.lanes);
        let of = |transport| {
            let lanes = lanes.iter().filter(|lane| lane.transport == transport);
            (transport, lanes.map(|lane| lane.queries.load(Relaxed)).sum())
        };
        Transport::ALL.into_iter().map(of).collect()
    }

    /// Responses sent by response code; codes that never occurred are left out.
    pub fn responses(&self) -> Vec<(u8, u64)> {
        let lanes = lock(&self.lanes);
        let sum = |code: usize| {
            lanes
                .iter()
                .filter_map(|lane| lane.rcodes.get(code))
                .map(|count| count.load(Relaxed))
                .sum()
        };
        (0..RCODES)
            .map(|code| (code as u8, sum(code)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// What got no response, by reason.
    pub fn drops(&self) -> Vec<(Counted, u64)> {
        let lanes = lock(&self.lanes);
        let sum = |index: usize| {
            lanes
                .iter()
                .filter_map(|lane| lane.drops.get(index))
                .map(|count| count.load(Relaxed))
                .sum()
        };
        Counted::ALL
            .into_iter()
            .enumerate()
            .map(|(index, reason)| (reason, sum(index)))
            .collect()
    }

    /// Answers with a steered name's data, by name and region; no region where the data was of several or of none.
    pub fn answers(&self) -> BTreeMap<(Name, Option<RegionId>), u64> {
        let lanes = lock(&self.lanes);
        let mut retired = lock(&self.retired);
        let mut sums = BTreeMap::new();
        for lane in lanes.iter() {
            let mut tables = lock(&lane.tables);
            let last = tables.len().saturating_sub(1);
            let mut index = 0;
            tables.retain(|table| {
                // Full when nobody else holds it: neither its lane nor a connection that counts into it yet.
                let is_full = index < last && Arc::strong_count(table) == 1;
                index += 1;
                if is_full {
                    table.add_to(&mut retired);
                }
                !is_full
            });
            for table in tables.iter() {
                table.add_to(&mut sums);
            }
        }
        for (key, count) in retired.iter() {
            *sums.entry(key.clone()).or_default() += count;
        }
        sums
    }
}

/// Takes a lock; what it guards is counters, which are right also after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counters of one lane, on cache lines of their own (two, since the prefetcher takes pairs).
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct LaneStats {
    /// Its transport.
    transport: Transport,
    /// Queries received.
    queries: AtomicU64,
    /// Responses by code.
    rcodes: [AtomicU64; RCODES],
    /// No response, by reason.
    drops: [AtomicU64; Counted::ALL.len()],
    /// Answers by steered name; the last is written, the others are full.
    tables: Mutex<Vec<Arc<AnswerTable>>>,
}

impl LaneStats {
    /// All zero.
    pub(super) fn new(transport: Transport) -> LaneStats {
        LaneStats {
            transport,
            queries: AtomicU64::new(0),
            rcodes: std::array::from_fn(|_| AtomicU64::new(0)),
            drops: std::array::from_fn(|_| AtomicU64::new(0)),
            tables: Mutex::new(Vec::new()),
        }
    }

    /// The table for the steered names of a snapshot, a new one if `current` is of others.
    pub(super) fn table(&self, current: Option<Arc<AnswerTable>>, names: &Arc<SteeredNames>) -> Arc<AnswerTable> {
        let is_right = |table: &Arc<AnswerTable>| Arc::ptr_eq(&table.names, names);
        if let Some(table) = current.filter(is_right) {
            return table;
        }
        let mut tables = lock(&self.tables);
        // Other connections of a shared block may have made it already.
        if let Some(table) = tables.last().filter(|table| is_right(table)) {
            return table.clone();
        }
        let table = Arc::new(AnswerTable::new(names.clone()));
        tables.push(table.clone());
        table
    }

    /// Counts received queries.
    pub(super) fn received(&self, count: u64) {
        bump(&self.queries, count, self.transport);
    }

    /// Counts a response.
    pub(super) fn replied(&self, reply: &Reply, table: &AnswerTable) {
        if let Some(count) = self.rcodes.get(usize::from(reply.rcode)) {
            bump(count, 1, self.transport);
        }
        if let Some(count) = reply.steered.and_then(|steered| table.count(steered)) {
            bump(count, 1, self.transport);
        }
    }

    /// How often something got no response for a reason.
    #[cfg(test)]
    pub(super) fn drops(&self, reason: Counted) -> u64 {
        self.drops[reason as usize].load(Relaxed)
    }

    /// Counts what got no response.
    pub(super) fn dropped(&self, reason: Counted) {
        if let Some(count) = self.drops.get(reason as usize) {
            bump(count, 1, self.transport);
        }
    }
}

/// Adds to a counter: without a locked instruction where there is one writer, which a lane is.
fn bump(counter: &AtomicU64, by: u64, transport: Transport) {
    match transport {
        Transport::Udp | Transport::Tcp | Transport::Tls => counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed),
        Transport::Quic | Transport::Https => drop(counter.fetch_add(by, Relaxed)),
    }
}

/// Answers by steered name and region, for the names of one build.
#[derive(Debug)]
pub(super) struct AnswerTable {
    /// The names that the numbers mean.
    names: Arc<SteeredNames>,
    /// Where the counters of each name begin: one for no region, then one a region.
    starts: Box<[u32]>,
    /// The counters.
    counts: Box<[AtomicU64]>,
}

impl AnswerTable {
    /// All zero.
    fn new(names: Arc<SteeredNames>) -> AnswerTable {
        let mut starts = Vec::with_capacity(names.len());
        let mut next = 0;
        for id in names.ids() {
            starts.push(next);
            next += 1 + names.regions(id).len() as u32;
        }
        AnswerTable {
            starts: starts.into(),
            counts: (0..next).map(|_| AtomicU64::new(0)).collect(),
            names,
        }
    }

    /// The counter of an answer.
    fn count(&self, steered: Steered) -> Option<&AtomicU64> {
        let start = *self.starts.get(steered.id.index())? as usize;
        let regions = self.names.regions(steered.id).len();
        let region = steered.region.map_or(0, |region| 1 + usize::from(region));
        self.counts.get(start + if region <= regions { region } else { 0 })
    }

    /// Adds what was counted to sums.
    fn add_to(&self, sums: &mut BTreeMap<(Name, Option<RegionId>), u64>) {
        for (id, start) in self.names.ids().zip(&self.starts) {
            let Some(name) = self.names.name(id) else {
                continue;
            };
            let labels = std::iter::once(None).chain(self.names.regions(id).iter().map(Some));
            for (region, counter) in labels.zip(self.counts.iter().skip(*start as usize)) {
                let count = counter.load(Relaxed);
                if count > 0 {
                    *sums.entry((name.clone(), region.cloned())).or_default() += count;
                }
            }
        }
    }
}
