//! The ledger as a file: opened with its lock, verified, appended to, cut back when a write fails.
//!
//! ```text
//! open ─▶ ready ──append──▶ write ─▶ fdatasync ─▶ ready, acknowledged
//!                             └── error ──▶ cut back to what was durable, fsync ─▶ ready, refused
//!                                                 └── error, or a disk that lost writes ─▶ poisoned until the next start
//! ```
//! A torn last line that cannot be kept aside (no room) is not cut off either: the ledger can be read, and each append tries again
//! first, so nothing is recorded until it is kept.
//!
//! Invariants: what was acknowledged is never cut off; only lines that continue the chain are written; complete lines are
//! made durable before the store is ready, so that a decision that was replayed cannot vanish with the power.

use super::reader::{Index, LedgerReader};
use super::{Store, StoreError, ledger_path, lines_of};
use crate::ledger::{Chain, Entry, Receipt, Scan, Scanner};
use crate::model::Seq;
use std::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Octets read at once when the ledger is verified.
const READ_OCTETS: usize = 1 << 20;

/// A last line that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// How long it was.
    pub octets: usize,
    /// Where it is kept.
    pub path: PathBuf,
}

/// What opening found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The last line, if a crash had cut it short.
    pub torn: Option<Torn>,
    /// Why such a line could not be kept aside. It still stands in the ledger; nothing is recorded until it is kept.
    pub unkept: Option<String>,
}

/// A torn last line that waits to be kept aside.
#[derive(Debug)]
struct Tail {
    octets: Vec<u8>,
    /// Names the file.
    stamp: String,
}

/// What an append needs of a file. Tests put a failing one in its place.
pub(super) trait Disk: Send + std::fmt::Debug {
    /// Writes all octets at an offset.
    fn write_at(&mut self, octets: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Sets the length and makes it durable.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Disk for File {
    fn write_at(&mut self, octets: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, octets, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.sync_all()
    }
}

/// The ledger file of a data dir, locked for this process.
#[derive(Debug)]
pub struct FileStore {
    /// The data dir.
    data_dir: PathBuf,
    /// The ledger.
    path: PathBuf,
    /// The ledger, open.
    disk: Box<dyn Disk>,
    /// What is durable: its head and its length. The file is never longer, except while it is written.
    durable: Chain,
    /// Whether a failed write could not be undone.
    poisoned: bool,
    /// What stands behind what is durable and is not kept aside yet.
    tail: Option<Tail>,
    /// Shared with the readers.
    index: Arc<Index>,
    /// Held until the store is dropped; none in tests without a data dir.
    _lock: Option<File>,
}

impl FileStore {
    /// Locks the data dir (made when missing), verifies the ledger (made when missing), and gives each entry to `sink`.
    /// `stamp` names the file in which a torn last line is kept.
    ///
    /// # Errors
    /// When the dir cannot be used or is in use, or a complete line does not verify. Nothing was changed then. A torn line that
    /// cannot be kept aside is no error: a full disk keeps nobody from reading the roles.
    pub fn open(data_dir: &Path, stamp: &str, sink: &mut dyn FnMut(Entry)) -> Result<(FileStore, OpenReport), StoreError> {
        make_dir(data_dir)?;
        let lock = lock(data_dir)?;
        let path = ledger_path(data_dir);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::data_dir("open", &path))?;
        // Always, not only when it was made: the start that made it may have crashed before this line.
        sync_dir(data_dir)?;
        let index = Arc::new(Index::default());
        let scan = verify(&path, &mut file, &index, sink)?;
        // Complete lines that a crash left in the page cache alone are in force from now on, so they must stay.
        file.sync_data().map_err(StoreError::io("sync the ledger", &path))?;
        let mut store = FileStore::over(Box::new(file), data_dir, scan.chain, index);
        store._lock = Some(lock);
        let mut report = OpenReport::default();
        if !scan.torn.is_empty() {
            store.tail = Some(Tail {
                octets: scan.torn,
                stamp: stamp.to_owned(),
            });
            match store.set_aside() {
                Ok(torn) => report.torn = torn,
                Err(error) => {
                    let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
                    report.unkept = Some(format!("{error}{cause}"));
                }
            }
        }
        Ok((store, report))
    }

    /// A store over an opened, verified file.
    pub(super) fn over(disk: Box<dyn Disk>, data_dir: &Path, durable: Chain, index: Arc<Index>) -> FileStore {
        index.set_durable(durable.head().seq, durable.offset());
        FileStore {
            data_dir: data_dir.to_owned(),
            path: ledger_path(data_dir),
            disk,
            durable,
            poisoned: false,
            tail: None,
            index,
            _lock: None,
        }
    }

    /// Keeps a torn last line in a file of its own and cuts it off.
    fn set_aside(&mut self) -> Result<Option<Torn>, StoreError> {
        let Some(tail) = &self.tail else { return Ok(None) };
        let (path, mut file) = self.new_torn_file(&tail.stamp)?;
        let kept = file
            .write_all(&tail.octets)
            .and_then(|()| file.sync_all())
            .map_err(StoreError::io("keep the torn line of the ledger in", &path))
            .and_then(|()| sync_dir(&self.data_dir));
        if let Err(error) = kept {
            // The line still stands in the ledger. Half a copy is worth nothing, and each try would leave another one.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let octets = tail.octets.len();
        self.tail = None;
        if let Err(source) = self.cut_back() {
            // Nobody knows how much of it is still there.
            self.poisoned = true;
            return Err(StoreError::io("cut the torn line off the ledger", &self.path)(source));
        }
        Ok(Some(Torn { octets, path }))
    }

    /// A file that did not exist: an earlier torn line is not overwritten.
    fn new_torn_file(&self, stamp: &str) -> Result<(PathBuf, File), StoreError> {
        let mut number = 1u32;
        loop {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let path = self.data_dir.join(format!("ledger.torn-{stamp}{suffix}"));
            match File::create_new(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1_000 => number += 1,
                Err(error) => return Err(StoreError::io("keep the torn line of the ledger in", &path)(error)),
            }
        }
    }

    /// Makes the file as long as what is durable.
    fn cut_back(&mut self) -> io::Result<()> {
        self.disk.cut(self.durable.offset())
    }

    /// Reads the ledger beside this store.
    pub fn reader(&self) -> LedgerReader {
        LedgerReader::beside(self.path.clone(), self.index.clone())
    }

    /// The data dir.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The last durable entry.
    pub fn head(&self) -> Receipt {
        self.durable.head()
    }

    /// Appends complete lines; they are durable when this returns.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub fn append(&mut self, lines: &[u8]) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned { path: self.path.clone() });
        }
        if let Some(torn) = self.set_aside()? {
            tracing::warn!(octets = torn.octets, kept = %torn.path.display(), "the torn last line of the ledger is kept aside now and cut off");
        }
        let mut next = self.durable.clone();
        for line in lines_of(lines) {
            // A line that does not follow would make the whole ledger corrupt at the next start.
            next.follow(line).map_err(|source| StoreError::NotNext {
                path: self.path.clone(),
                source,
            })?;
        }
        if let Err(source) = self.disk.write_at(lines, self.durable.offset()) {
            return Err(self.undo(source, true));
        }
        if let Err(source) = self.disk.sync_data() {
            // No room is told by fdatasync too (delayed allocation). After any other error the kernel may have dropped
            // pages and call the next fdatasync a success, so nothing it says of this file can be trusted any more.
            let is_room = matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            );
            return Err(self.undo(source, is_room));
        }
        self.index.extend(lines, self.durable.offset());
        self.durable = next;
        Ok(())
    }

    /// Takes a failed write back. Half a batch must not stand there when the next one comes: it would be corruption.
    fn undo(&mut self, source: io::Error, can_be_trusted: bool) -> StoreError {
        let path = self.path.clone();
        if self.cut_back().is_ok() && can_be_trusted {
            return StoreError::io("write to the ledger", &path)(source);
        }
        self.poisoned = true;
        StoreError::Undecided { path, source }
    }
}

impl Store for FileStore {
    fn append(&mut self, lines: &[u8]) -> Result<(), StoreError> {
        FileStore::append(self, lines)
    }

    fn head(&self) -> Receipt {
        FileStore::head(self)
    }

    fn entries(&self, after: Seq, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.reader().entries(after, limit)
    }
}

/// Makes the data dir when it is missing, durably.
fn make_dir(data_dir: &Path) -> Result<(), StoreError> {
    if data_dir.is_dir() {
        return Ok(());
    }
    // For the server's own user: copies of configs and keys stand in it.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.map_err(StoreError::data_dir("create", data_dir))?;
    match data_dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Takes the lock of a data dir and leaves this process' id in it.
fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let path = data_dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::data_dir("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The id is for people; without it the message says less.
            let _ = Read::take(file, 32).read_to_string(&mut text);
            return Err(StoreError::Locked {
                path: data_dir.to_owned(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(source)) => {
            return Err(StoreError::Io {
                what: "lock",
                path,
                source,
            });
        }
    }
    // A full disk must not keep the server from answering.
    let _ = file
        .set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    Ok(file)
}

/// Verifies the whole ledger; gives its chain and the torn rest.
fn verify(path: &Path, file: &mut File, index: &Index, sink: &mut dyn FnMut(Entry)) -> Result<Scan, StoreError> {
    let corrupt = |source| StoreError::Corrupt {
        path: path.to_owned(),
        source,
    };
    let mut scanner = Scanner::new();
    let mut chunk = vec![0; READ_OCTETS];
    loop {
        let count = file.read(&mut chunk).map_err(StoreError::io("read the ledger", path))?;
        if count == 0 {
            return scanner.finish().map_err(corrupt);
        }
        let mut take = |entry: Entry, offset: u64| {
            index.note(entry.seq, offset);
            sink(entry);
        };
        scanner.feed(chunk.get(..count).unwrap_or_default(), &mut take).map_err(corrupt)?;
    }
}

/// Makes a new name in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io("sync the folder", dir))
}
