//! Reading entries beside a running writer, or from a data dir without a server.
//!
//! The index remembers where every [`STRIDE`]th entry begins and how far the file is durable: some 16 octets for 64
//! entries, so a ledger of ten million entries costs 2.5 MB. Without a server beside, the index is learned while reading
//! and only complete lines are seen; the last of them may belong to a write that is not acknowledged yet.

use super::{StoreError, ledger_path};
use crate::ledger::{Corruption, Entry, Fault, LINE_OCTETS_MAX, LineError, decode};
use crate::model::Seq;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Every how many entries a place is remembered.
const STRIDE: u64 = 64;

/// Where entries begin, and how far the file is durable.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Places>);

/// What the index knows.
#[derive(Debug, Default)]
struct Places {
    /// Begin of entry 1, 1 + STRIDE, …
    marks: Vec<u64>,
    /// The last durable entry.
    last: u64,
    /// Octets that are durable.
    durable: u64,
}

impl Index {
    /// What is known; counters are right also after a panic elsewhere.
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry begins at an offset; entries come in order.
    pub fn note(&self, seq: Seq, offset: u64) {
        let (slot, rest) = (seq.0.saturating_sub(1) / STRIDE, seq.0.saturating_sub(1) % STRIDE);
        let mut places = self.places();
        // A reader without a server passes the same entries again and again.
        if rest == 0 && places.marks.len() as u64 == slot {
            places.marks.push(offset);
        }
    }

    /// Everything up to here is durable.
    pub fn set_durable(&self, last: Seq, octets: u64) {
        let mut places = self.places();
        places.last = last.0;
        places.durable = octets;
    }

    /// Complete lines became durable at an offset.
    pub fn extend(&self, lines: &[u8], begin: u64) {
        let mut places = self.places();
        let mut at = begin;
        for line in super::lines_of(lines) {
            if places.last.is_multiple_of(STRIDE) {
                places.marks.push(at);
            }
            places.last += 1;
            at += line.len() as u64;
        }
        places.durable = at;
    }

    /// Forgets every place; true if there was one.
    fn forget(&self) -> bool {
        !std::mem::take(&mut self.places().marks).is_empty()
    }

    /// Where to begin reading for an entry: an offset at or before it with that entry's number; and the durable end.
    fn begin(&self, seq: u64) -> (u64, u64, u64) {
        let places = self.places();
        let slot = usize::try_from(seq.saturating_sub(1) / STRIDE).unwrap_or(usize::MAX);
        let slot = slot.min(places.marks.len().saturating_sub(1));
        let offset = places.marks.get(slot).copied().unwrap_or(0);
        (offset, slot as u64 * STRIDE + 1, places.durable)
    }
}

/// Some entries in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether there are more after them.
    pub has_more: bool,
}

/// Reads the ledger; cheap to clone.
#[derive(Debug, Clone)]
pub struct LedgerReader {
    /// The ledger.
    path: PathBuf,
    /// Where entries begin.
    index: Arc<Index>,
    /// Whether a store keeps the index; otherwise the file is read to its end.
    is_beside: bool,
}

impl LedgerReader {
    /// Beside a running store: sees only durable entries.
    pub(super) fn beside(path: PathBuf, index: Arc<Index>) -> LedgerReader {
        LedgerReader {
            path,
            index,
            is_beside: true,
        }
    }

    /// Of a data dir, without a server; a torn last line is passed over.
    pub fn of(data_dir: &Path) -> LedgerReader {
        LedgerReader {
            path: ledger_path(data_dir),
            index: Arc::new(Index::default()),
            is_beside: false,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Entries after a number, in order, at most `limit`; fewer: there are no more. Each line is checked by itself and
    /// against its neighbours in the answer; the whole chain is the business of `ledger verify`. The caller's `limit` bounds
    /// the memory.
    ///
    /// # Errors
    /// When the file cannot be read or a line is not the entry that it should be.
    pub fn entries(&self, after: Seq, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.page(after, limit, usize::MAX).map(|page| page.entries)
    }

    /// As [`LedgerReader::entries`], of which all but the first take at most `octets_max` octets in the file: entries that
    /// move ten thousand names are large.
    ///
    /// # Errors
    /// As [`LedgerReader::entries`].
    pub fn page(&self, after: Seq, limit: usize, octets_max: usize) -> Result<LedgerPage, StoreError> {
        match self.read_page(after, limit, octets_max) {
            // A writer elsewhere may have cut a failed write back since a place was learned: look again from the start.
            Err(StoreError::Corrupt { .. }) if !self.is_beside && self.index.forget() => self.read_page(after, limit, octets_max),
            page => page,
        }
    }

    /// One answer of [`LedgerReader::page`].
    fn read_page(&self, after: Seq, limit: usize, octets_max: usize) -> Result<LedgerPage, StoreError> {
        let wanted = after.0.saturating_add(1);
        let (offset, first, durable) = self.index.begin(wanted);
        let end = if self.is_beside { durable } else { u64::MAX };
        let mut file = File::open(&self.path).map_err(StoreError::io("open the ledger", &self.path))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(StoreError::io("read the ledger", &self.path))?;
        let mut lines = BufReader::new(file.take(end.saturating_sub(offset)));
        let (mut line, mut seq, mut at) = (Vec::new(), first, offset);
        let mut page = LedgerPage::default();
        let mut octets = 0;
        loop {
            line.clear();
            let count = (&mut lines)
                .take(LINE_OCTETS_MAX as u64 + 1)
                .read_until(b'\n', &mut line)
                .map_err(StoreError::io("read the ledger", &self.path))?;
            if count > LINE_OCTETS_MAX {
                return Err(self.corrupt(seq, at, Fault::Line(LineError::TooLong)));
            }
            if line.last() != Some(&b'\n') {
                return Ok(page);
            }
            if !self.is_beside {
                self.index.note(Seq(seq), at);
            }
            if seq >= wanted {
                octets += count;
                if page.entries.len() >= limit || octets > octets_max && !page.entries.is_empty() {
                    page.has_more = true;
                    return Ok(page);
                }
                page.entries.push(self.entry(&line, seq, at, page.entries.last())?);
            }
            seq += 1;
            at += count as u64;
        }
    }

    /// One line as the entry that it should be.
    fn entry(&self, line: &[u8], seq: u64, at: u64, before: Option<&Entry>) -> Result<Entry, StoreError> {
        let entry = decode(line).map_err(|error| self.corrupt(seq, at, Fault::Line(error)))?;
        if entry.seq.0 != seq {
            return Err(self.corrupt(seq, at, Fault::Seq { found: entry.seq }));
        }
        match before {
            Some(before) if before.hash != entry.prev => {
                let (found, expected) = (entry.prev, before.hash);
                Err(self.corrupt(seq, at, Fault::Prev { found, expected }))
            }
            _ => Ok(entry),
        }
    }

    /// What is wrong, with its place.
    fn corrupt(&self, seq: u64, offset: u64, what: Fault) -> StoreError {
        let source = Corruption {
            seq: Seq(seq),
            offset,
            line: seq,
            what,
        };
        StoreError::Corrupt {
            path: self.path.clone(),
            source,
        }
    }
}
