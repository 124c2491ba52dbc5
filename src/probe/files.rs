//! The files that probes need (feeds, passwords, certificates), read off the threads that serve.
//!
//! A file system that hangs keeps the thread that asks it, whatever is done about it. So at most one thread asks for one
//! file, [`FOLDER_MAX`] for the files of one folder, which mostly hang together, and [`THREADS_MAX`] in all, which leaves the rest
//! of the runtime's threads to others. Whoever waits for one when the time of a run is over could not run: that says nothing
//! of the endpoint. Only regular files are opened, and without waiting: a pipe has no end and no writer.

use super::Stage;
use super::limits::Shared;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Most threads that ask for files at the same time; the runtime has 512 of their kind.
const THREADS_MAX: usize = 128;
/// Most of them in one folder.
const FOLDER_MAX: usize = 4;

/// Reads files, so many at a time.
#[derive(Debug)]
pub(super) struct Files {
    /// Threads in all.
    all: Arc<Semaphore>,
    /// Threads a folder.
    folders: Shared<PathBuf, Semaphore>,
    /// The one thread of a file.
    files: Shared<PathBuf, Semaphore>,
}

impl Default for Files {
    fn default() -> Files {
        Files {
            all: Arc::new(Semaphore::new(THREADS_MAX)),
            folders: Shared::default(),
            files: Shared::default(),
        }
    }
}

impl Files {
    /// The content of a regular file, at most so many octets of it, and when it was written.
    ///
    /// # Errors
    /// Of the file system, and what is no regular file.
    pub async fn read(&self, path: &Path, octets_max: usize, stage: &Stage) -> io::Result<(Vec<u8>, SystemTime)> {
        let own = path.to_owned();
        let read = move || {
            let file = open(&own)?;
            let modified = file.metadata()?.modified()?;
            let mut content = Vec::new();
            file.take(octets_max as u64).read_to_end(&mut content)?;
            Ok((content, modified))
        };
        self.off(path, stage, read).await?
    }

    /// When a file was written.
    ///
    /// # Errors
    /// Of the file system.
    pub async fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        let own = path.to_owned();
        self.off(path, &Stage::new(), move || std::fs::metadata(own)?.modified()).await?
    }

    /// Does work with a file on a thread where it may take long. Dropping this does not end the work; the next work with the
    /// same file waits for it.
    ///
    /// # Errors
    /// When the work panicked, or the runtime ends.
    pub async fn off<T: Send + 'static>(&self, path: &Path, stage: &Stage, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        stage.set_ours(format!("the file {} could not be read", path.display()));
        let places = self.places(path).await.map_err(io::Error::other)?;
        let done = tokio::task::spawn_blocking(move || {
            let _places = places;
            work()
        });
        let done = done.await.map_err(io::Error::other)?;
        stage.set("no answer");
        Ok(done)
    }

    /// A place for one thread. First the narrower limits, so that who waits for one of them does not take the place of others.
    async fn places(&self, path: &Path) -> Result<[OwnedSemaphorePermit; 3], AcquireError> {
        let folder = path.parent().unwrap_or(path).to_owned();
        let file = self.files.entry(&path.to_owned(), || Semaphore::new(1));
        let folder = self.folders.entry(&folder, || Semaphore::new(FOLDER_MAX));
        Ok([
            file.acquire_owned().await?,
            folder.acquire_owned().await?,
            Arc::clone(&self.all).acquire_owned().await?,
        ])
    }
}

/// Opens a regular file. Blocks as long as the file system does.
///
/// # Errors
/// Of the file system, and what is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Found, Kind, RunFuture, task};
    use super::*;
    use crate::model::{FailReason, ProbeKind, ProbeSpec, TcpProbe};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    /// A file system that hangs until this is dropped.
    struct Hanging {
        let_go: Option<mpsc::Sender<()>>,
        waits: Arc<std::sync::Mutex<mpsc::Receiver<()>>>,
        asked: Arc<AtomicUsize>,
    }

    impl Hanging {
        fn new() -> Hanging {
            let (let_go, waits) = mpsc::channel();
            Hanging {
                let_go: Some(let_go),
                waits: Arc::new(std::sync::Mutex::new(waits)),
                asked: Arc::default(),
            }
        }

        /// What asks it.
        fn work(&self) -> impl FnOnce() + Send + 'static {
            let (waits, asked) = (Arc::clone(&self.waits), Arc::clone(&self.asked));
            move || {
                asked.fetch_add(1, Ordering::SeqCst);
                let _ = waits.lock().unwrap().recv();
            }
        }

        /// Waits until so many threads asked; there must not be more.
        async fn asked(&self, threads: usize) {
            while self.asked.load(Ordering::SeqCst) < threads {
                tokio::task::yield_now().await;
            }
            assert_eq!(self.asked.load(Ordering::SeqCst), threads);
        }
    }

    /// A kind that needs a file that hangs.
    struct Needing<'a>(&'a Files, &'a Hanging, PathBuf);

    impl Kind for Needing<'_> {
        fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
            Box::pin(async move {
                self.0.off(&self.2, stage, self.1.work()).await.unwrap();
                Found::of(Ok(String::new()))
            })
        }
    }

    #[tokio::test]
    async fn a_file_that_hangs_takes_one_thread_and_says_nothing_of_the_endpoint() {
        let (files, mut hanging) = (Files::default(), Hanging::new());
        let tcp = TcpProbe {
            port: 1,
            send: None,
            expect: None,
        };
        let spec = ProbeSpec {
            timeout: Duration::from_millis(20),
            ..ProbeSpec::new(ProbeKind::Tcp(tcp))
        };
        let mut run = Needing(&files, &hanging, PathBuf::from("/mnt/hung/password"));
        for _ in 0..20 {
            let failure = task::run(&mut run, &spec).await.result.unwrap_err();
            assert_eq!(failure.reason, FailReason::Internal);
            assert_eq!(failure.message, "the file /mnt/hung/password could not be read within 20ms");
        }
        hanging.asked(1).await;
        // Its folder takes a few more, and other folders are not held up.
        for number in 0..20 {
            run.2 = PathBuf::from(format!("/mnt/hung/{number}"));
            assert!(task::run(&mut run, &spec).await.result.is_err());
        }
        hanging.asked(FOLDER_MAX).await;
        let stage = Stage::new();
        assert_eq!(files.off(Path::new("/etc/other"), &stage, || 7).await.unwrap(), 7);
        assert_eq!(stage.missing(), ("no answer".into(), FailReason::Timeout));
        // When the file system answers again, so do we.
        hanging.let_go = None;
        files.off(Path::new("/mnt/hung/password"), &stage, || ()).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_regular_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (files, stage) = (Files::default(), Stage::new());
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            let error = files.read(path, 10, &stage).await.unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{}", path.display());
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "0123456789abcdef").unwrap();
        let (content, modified) = files.read(&file, 10, &stage).await.unwrap();
        assert_eq!(content, b"0123456789");
        assert_eq!(files.modified(&file).await.unwrap(), modified);
    }
}
