//! Reading entries beside a running writer, or from a data dir without a server.
//!
//! The index remembers where every [`STRIDE`]th entry begins and how far the file is durable: some 16 octets for 64
//! entries, so a ledger of ten million entries costs 2.5 MB.

use super::{StoreError, ledger_path};
use crate::ledger::{Corruption, Entry, Fault, decode};
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
    last: u64,
    durable: u64,
}

impl Index {
    /// What is known; counters are right also after a panic elsewhere.
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry begins at an offset; entries come in order.
    pub fn note(&self, seq: Seq, offset: u64) {
        if (seq.0 - 1).is_multiple_of(STRIDE) {
            self.places().marks.push(offset);
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
        for line in lines.split_inclusive(|&octet| octet == b'\n') {
            if places.last.is_multiple_of(STRIDE) {
                places.marks.push(at);
            }
            places.last += 1;
            at += line.len() as u64;
        }
        places.durable = at;
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

/// Reads the ledger; cheap to clone.
#[derive(Debug, Clone)]
pub struct LedgerReader {
    path: PathBuf,
    /// None: no server is beside; the file is read to its end.
    index: Option<Arc<Index>>,
}

impl LedgerReader {
    /// Beside a running store: sees only durable entries.
    pub(super) fn beside(path: PathBuf, index: Arc<Index>) -> LedgerReader {
        LedgerReader { path, index: Some(index) }
    }

    /// Of a data dir, without a server; a torn last line is passed over.
    pub fn of(data_dir: &Path) -> LedgerReader {
        LedgerReader {
            path: ledger_path(data_dir),
            index: None,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Entries after a number, in order, at most `limit`. Each line is checked by itself; the chain between them is the
    /// business of `ledger verify`.
    ///
    /// # Errors
    /// When the file cannot be read or a line is no entry.
    pub fn entries(&self, after: Seq, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let wanted = after.0.saturating_add(1);
        let (offset, first, end) = self.index.as_ref().map_or((0, 1, u64::MAX), |index| index.begin(wanted));
        let mut file = File::open(&self.path).map_err(StoreError::io("open the ledger", &self.path))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(StoreError::io("read the ledger", &self.path))?;
        let mut lines = BufReader::new(file.take(end.saturating_sub(offset)));
        let (mut line, mut seq, mut at, mut found) = (Vec::new(), first, offset, Vec::new());
        while found.len() < limit {
            line.clear();
            let count = lines
                .read_until(b'\n', &mut line)
                .map_err(StoreError::io("read the ledger", &self.path))?;
            if count == 0 || line.last() != Some(&b'\n') {
                break;
            }
            if seq >= wanted {
                found.push(self.decode(&line, seq, at)?);
            }
            seq += 1;
            at += count as u64;
        }
        Ok(found)
    }

    /// One line as an entry, its fault told with its place.
    fn decode(&self, line: &[u8], seq: u64, offset: u64) -> Result<Entry, StoreError> {
        decode(line).map_err(|error| {
            let source = Corruption {
                seq: Seq(seq),
                offset,
                line: seq,
                what: Fault::Line(error),
            };
            StoreError::Corrupt {
                path: self.path.clone(),
                source,
            }
        })
    }
}
