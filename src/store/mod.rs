//! Where the ledger lives, and what else a node keeps on its disk.
//!
//! ```text
//! data-dir/
//!   lock           held while a server runs; holds its process id
//!   ledger.jsonl   the ledger, one line an entry, only ever appended to
//!   ledger.torn-*  a last line that a crash cut short, kept aside
//!   last-good/     the last accepted config with its zones
//!   roles.json     the last published roles, for --answer-only
//!   health.json    the verdicts when they were last saved
//!   health.log     changes of verdicts on this node, rotated
//! ```
//!
//! One file rather than segments: it is small (some hundred octets a change), copied by any backup, and read by any
//! tool. An append is write + fdatasync; when it fails the file is cut back to what was durable, so that a reader
//! never sees half a batch. Only an incomplete last line is ever cut off, at start, and kept aside. The ledger is
//! never rewritten. What is not the ledger is written lazily, replaced by renaming, and may be lost.
//!
//! Deliberately absent: what the entries mean (`role`), who decides to append (`control`).

mod appender;
mod copies;
mod file;
mod lazy;
mod reader;
#[cfg(test)]
mod tests;

pub use appender::Appender;
pub use copies::{LastGood, read_health, read_last_good, read_roles, sha256_of_files};
pub use file::{FileStore, OpenReport, Torn};
pub use reader::{LedgerPage, LedgerReader};

use crate::ledger::{Corruption, Entry, Receipt};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

/// The ledger of a data dir.
pub fn ledger_path(data_dir: &Path) -> PathBuf {
    data_dir.join("ledger.jsonl")
}

/// The lines of a ledger, each with its line feed. An `evacuate` of a hundred thousand names is one line of many megabytes, so the
/// standard library's search looks for its end, which takes several octets at a time.
fn lines_of(mut octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let rest = octets;
        // Reading from memory does not fail.
        let len = octets.skip_until(b'\n').unwrap_or_default();
        rest.get(..len).filter(|line| !line.is_empty())
    })
}

/// A place where lines of the ledger become durable. Every implementation passes the one test battery.
pub trait Store: Send {
    /// Appends complete lines; they are durable when this returns.
    ///
    /// # Errors
    /// When they are not, or do not continue the ledger. The store is as it was before then; after
    /// [`StoreError::Undecided`] nobody knows, and every further append is refused.
    fn append(&mut self, lines: &[u8]) -> Result<(), StoreError>;

    /// The last durable entry.
    fn head(&self) -> Receipt;

    /// Entries after a number, in order, at most `limit`; fewer: there are no more.
    ///
    /// # Errors
    /// When the entries cannot be read.
    fn entries(&self, after: crate::model::Seq, limit: usize) -> Result<Vec<Entry>, StoreError>;
}

/// What went wrong on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder cannot be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another server holds the data dir.
    #[error("the data dir {} is in use by another server{}: its lock is held; stop that one or give this one another data-dir", path.display(), holder(.pid))]
    Locked {
        /// The data dir.
        path: PathBuf,
        /// Who holds it, as far as the lock file says.
        pid: Option<u32>,
    },
    /// A line of the ledger does not verify.
    #[error("the ledger {} is corrupt: {source}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Which entry, and how.
        source: Corruption,
    },
    /// The data dir cannot be used as it is.
    #[error("cannot {what} {}: the data dir must be a folder that the server's user may write to; give it to that user, or set another data-dir", path.display())]
    DataDir {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Lines that do not continue the ledger were refused; nothing was written.
    #[error("refused to write to the ledger {} what does not continue it: {source}", path.display())]
    NotNext {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: Corruption,
    },
    /// A write failed and could not be undone for sure.
    #[error("cannot write to the ledger {}, nor undo the write for sure: the next start shows whether it is recorded; restart the server", path.display())]
    Undecided {
        /// The file.
        path: PathBuf,
        /// Why the write failed.
        #[source]
        source: io::Error,
    },
    /// An earlier append is [`StoreError::Undecided`]; the file may end in half a batch until the next start.
    #[error("an earlier failed write to {} could not be undone; restart the server", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
    /// A saved file holds something else than it should.
    #[error("{} cannot be read back: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The I/O thread is gone.
    #[error("the ledger's I/O thread is gone")]
    Gone,
    /// It was in one write with an append that failed; the error of that one says why.
    #[error("the ledger could not be written: this change was in one write with another, which says why")]
    Together,
    /// More appends wait than any writer should send.
    #[error("too many appends wait for the disk")]
    Busy,
}

/// ` (process 123)`.
fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl StoreError {
    /// An I/O error with its circumstances.
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| StoreError::Io { what, path, source }
    }

    /// The data dir, or what must be in it, cannot be used.
    fn data_dir(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let path = path.to_owned();
        move |source| StoreError::DataDir { what, path, source }
    }
}
