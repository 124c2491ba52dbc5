//! The ledger as a file: opened with its lock, verified, appended to, cut back when a write fails.

use super::reader::{Index, LedgerReader};
use super::{Store, StoreError, ledger_path};
use crate::ledger::{Entry, Scanner};
use crate::model::Seq;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
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
}

/// The ledger file of a data dir, locked for this process.
#[derive(Debug)]
pub struct FileStore {
    data_dir: PathBuf,
    path: PathBuf,
    file: File,
    /// Octets that are durable; the file is never longer, except while it is written.
    durable: u64,
    poisoned: bool,
    index: Arc<Index>,
    /// Held until the store is dropped.
    _lock: File,
}

impl FileStore {
    /// Locks the data dir (made when missing), verifies the ledger (made when missing), and gives each entry to `sink`.
    /// `stamp` names the file in which a torn last line is kept.
    ///
    /// # Errors
    /// When the dir cannot be used or is in use, or a complete line does not verify. Nothing was changed then.
    pub fn open(data_dir: &Path, stamp: &str, sink: &mut dyn FnMut(Entry)) -> Result<(FileStore, OpenReport), StoreError> {
        std::fs::create_dir_all(data_dir).map_err(StoreError::io("create the data dir", data_dir))?;
        let lock = lock(data_dir)?;
        let path = ledger_path(data_dir);
        let existed = path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("open the ledger", &path))?;
        if !existed {
            sync_dir(data_dir)?;
        }
        let index = Arc::new(Index::default());
        let (durable, torn) = verify(&path, &mut file, &index, sink)?;
        let mut store = FileStore {
            data_dir: data_dir.to_owned(),
            path,
            file,
            durable,
            poisoned: false,
            index,
            _lock: lock,
        };
        let report = OpenReport {
            torn: store.set_aside(&torn, stamp)?,
        };
        Ok((store, report))
    }

    /// Keeps a torn last line in a file of its own and cuts it off.
    fn set_aside(&mut self, torn: &[u8], stamp: &str) -> Result<Option<Torn>, StoreError> {
        if torn.is_empty() {
            return Ok(None);
        }
        let path = self.data_dir.join(format!("ledger.torn-{stamp}"));
        let mut file = File::create(&path).map_err(StoreError::io("keep the torn line in", &path))?;
        file.write_all(torn)
            .and_then(|()| file.sync_all())
            .map_err(StoreError::io("keep the torn line in", &path))?;
        sync_dir(&self.data_dir)?;
        self.cut_back().map_err(StoreError::io("cut the torn line off", &self.path))?;
        Ok(Some(Torn { octets: torn.len(), path }))
    }

    /// Makes the file as long as what is durable.
    fn cut_back(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.durable)?;
        self.file.sync_all()
    }

    /// Reads the ledger beside this store.
    pub fn reader(&self) -> LedgerReader {
        LedgerReader::beside(self.path.clone(), self.index.clone())
    }

    /// The data dir.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Appends complete lines; they are durable when this returns.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub fn append(&mut self, lines: &[u8]) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned { path: self.path.clone() });
        }
        let written = self
            .file
            .seek(SeekFrom::Start(self.durable))
            .and_then(|_| self.file.write_all(lines))
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Half a batch must not stand there when the next one comes: it would be taken for corruption.
            self.poisoned = self.cut_back().is_err();
            return Err(StoreError::Io {
                what: "write to the ledger",
                path: self.path.clone(),
                source,
            });
        }
        self.index.extend(lines, self.durable);
        self.durable += lines.len() as u64;
        Ok(())
    }
}

impl Store for FileStore {
    fn append(&mut self, lines: &[u8]) -> Result<(), StoreError> {
        FileStore::append(self, lines)
    }

    fn entries(&self, after: Seq, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.reader().entries(after, limit)
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
        .map_err(StoreError::io("open (is the data dir writable for this user?)", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
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
    // The id is for people; a full disk must not keep the server from answering.
    let _ = file
        .set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    Ok(file)
}

/// Verifies the whole ledger; gives the octets of its complete lines and the torn rest.
fn verify(path: &Path, file: &mut File, index: &Arc<Index>, sink: &mut dyn FnMut(Entry)) -> Result<(u64, Vec<u8>), StoreError> {
    let corrupt = |source| StoreError::Corrupt {
        path: path.to_owned(),
        source,
    };
    let mut scanner = Scanner::new();
    let mut chunk = vec![0; READ_OCTETS];
    loop {
        let count = file.read(&mut chunk).map_err(StoreError::io("read the ledger", path))?;
        if count == 0 {
            break;
        }
        let mut take = |entry: Entry, offset: u64| {
            index.note(entry.seq, offset);
            sink(entry);
        };
        scanner.feed(chunk.get(..count).unwrap_or_default(), &mut take).map_err(corrupt)?;
    }
    let scan = scanner.finish().map_err(corrupt)?;
    index.set_durable(scan.chain.head().seq, scan.chain.offset());
    Ok((scan.chain.offset(), scan.torn))
}

/// Makes a new name in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io("sync the folder", dir))
}
