//! The I/O thread: appends first, everything lazy after.
//!
//! The writer hands over one append at a time (it puts everything that waits into it: group commit) and any number
//! of lazy things, of which the newest wins, so nothing here queues without bound: saved health and roles,
//! the last accepted config, and lines for the health log, which are coalesced over a second.

use super::copies::{self, HealthLog};
use super::{FileStore, StoreError};
use crate::health::{Change, ChangeKind, Saved};
use crate::model::Wall;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long changes of health are collected before they are written.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// How often lazy copies are written at most.
const COPY_EVERY: Duration = Duration::from_secs(1);
/// Most octets of health log that wait; a storm beyond that is only counted.
const LOG_WAITING_MAX: usize = 1 << 20;

/// Where the outcome of an append goes.
type Done = oneshot::Sender<Result<(), StoreError>>;

/// What waits for the thread.
#[derive(Default)]
struct Work {
    append: Option<(Vec<u8>, Done)>,
    health: Option<Saved>,
    roles: Option<Box<dyn FnOnce() -> Vec<u8> + Send>>,
    last_good: Option<(Vec<(PathBuf, Vec<u8>)>, String)>,
    log: String,
    log_lost: usize,
    closing: bool,
}

impl Work {
    /// Whether anything lazy waits.
    fn is_lazy(&self) -> bool {
        self.health.is_some() || self.roles.is_some() || self.last_good.is_some() || !self.log.is_empty()
    }
}

/// What writer and thread share.
#[derive(Default)]
struct Desk {
    work: Mutex<Work>,
    bell: Condvar,
}

impl Desk {
    /// The work; what waits is right also after a panic elsewhere.
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's side of the I/O thread.
pub struct Appender {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Appender {
    /// Starts the thread over an opened store.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: FileStore) -> std::io::Result<Appender> {
        let desk = Arc::new(Desk::default());
        let shared = desk.clone();
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || Thread::new(store, shared).run())?;
        Ok(Appender {
            desk,
            thread: Some(thread),
        })
    }

    /// Appends complete lines; the receiver gets the outcome once they are durable or are not. One at a time: the outcome
    /// of the one before must have come.
    pub fn append(&self, lines: Vec<u8>) -> oneshot::Receiver<Result<(), StoreError>> {
        let (done, outcome) = oneshot::channel();
        self.desk.work().append = Some((lines, done));
        self.desk.bell.notify_one();
        outcome
    }

    /// Saves the verdicts, soon.
    pub fn save_health(&self, saved: Saved) {
        self.desk.work().health = Some(saved);
        self.desk.bell.notify_one();
    }

    /// Saves the published roles for `--answer-only`, soon; they are put into words on the thread, not by the caller.
    pub fn save_roles(&self, words: impl FnOnce() -> Vec<u8> + Send + 'static) {
        self.desk.work().roles = Some(Box::new(words));
        self.desk.bell.notify_one();
    }

    /// Keeps a copy of an accepted config with its zones, soon.
    pub fn save_last_good(&self, files: Vec<(PathBuf, Vec<u8>)>, sha256: String) {
        self.desk.work().last_good = Some((files, sha256));
        self.desk.bell.notify_one();
    }

    /// Notes changes of verdicts in the health log, soon.
    pub fn log_health(&self, wall: Wall, changes: &[Change]) {
        let mut work = self.desk.work();
        for change in changes {
            if work.log.len() > LOG_WAITING_MAX {
                work.log_lost += 1;
            } else {
                let line = log_line(wall, change);
                work.log.push_str(&line);
                work.log.push('\n');
            }
        }
        drop(work);
        self.desk.bell.notify_one();
    }

    /// Writes what still waits and ends the thread; the data dir is unlocked then.
    pub async fn close(mut self) {
        self.ring_out();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Tells the thread to end.
    fn ring_out(&self) {
        self.desk.work().closing = true;
        self.desk.bell.notify_one();
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.ring_out();
    }
}

/// The thread's side.
struct Thread {
    store: FileStore,
    desk: Arc<Desk>,
    health_log: HealthLog,
    /// When lazy things may be written again.
    lazy_at: Instant,
    /// Whether the last lazy write failed: told once, not each second.
    complained: bool,
}

impl Thread {
    /// Nothing written yet.
    fn new(store: FileStore, desk: Arc<Desk>) -> Thread {
        let health_log = HealthLog::new(store.data_dir());
        Thread {
            store,
            desk,
            health_log,
            lazy_at: Instant::now(),
            complained: false,
        }
    }

    /// Until it is told to close and nothing waits.
    fn run(mut self) {
        let desk = self.desk.clone();
        loop {
            let mut work = desk.work();
            let now = Instant::now();
            if let Some((lines, done)) = work.append.take() {
                drop(work);
                let outcome = self.store.append(&lines);
                // Nobody waiting is no error: the entry stands.
                let _ = done.send(outcome);
            } else if work.is_lazy() && (work.closing || now >= self.lazy_at) {
                let closing = work.closing;
                // No append waits (see above), so only `closing` has to stay behind.
                let lazy = std::mem::replace(
                    &mut *work,
                    Work {
                        closing,
                        ..Work::default()
                    },
                );
                drop(work);
                self.write_lazy(lazy);
                self.lazy_at = Instant::now() + LOG_EVERY.min(COPY_EVERY);
            } else if work.closing {
                return;
            } else if work.is_lazy() {
                let wait = self.lazy_at.saturating_duration_since(now);
                drop(desk.bell.wait_timeout(work, wait));
            } else {
                drop(desk.bell.wait(work));
            }
        }
    }

    /// Writes the lazy things; a failure loses nothing that matters and is told once.
    fn write_lazy(&mut self, lazy: Work) {
        let data_dir = self.store.data_dir().to_owned();
        let mut outcome = Ok(());
        if let Some((files, sha256)) = lazy.last_good {
            outcome = outcome.and(copies::write_last_good(&data_dir, &files, &sha256));
        }
        if let Some(words) = lazy.roles {
            outcome = outcome.and(copies::write_roles(&data_dir, &words()));
        }
        if let Some(saved) = lazy.health {
            outcome = outcome.and(copies::write_health(&data_dir, &saved));
        }
        if !lazy.log.is_empty() {
            let lost = (lazy.log_lost > 0)
                .then(|| format!("{{\"lost\":{}}}\n", lazy.log_lost))
                .unwrap_or_default();
            outcome = outcome.and(self.health_log.write(&(lazy.log + &lost)));
        }
        match outcome {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!(
                    source = std::error::Error::source(&error).map(tracing::field::display),
                    "{error}; answering goes on, it is tried again"
                );
            }
            Err(_) => {}
        }
    }
}

/// A change of a verdict as a line of JSON.
fn log_line(wall: Wall, change: &Change) -> String {
    let what = match &change.what {
        ChangeKind::Probe { target, from, to, message } => serde_json::json!({
            "probe": target.probe, "endpoint": target.endpoint, "address": target.address, "from": from, "to": to, "message": message
        }),
        ChangeKind::Endpoint { endpoint, from, to } => serde_json::json!({ "endpoint": endpoint, "from": from, "to": to }),
        ChangeKind::Region { from, to } => serde_json::json!({ "from": from, "to": to }),
        ChangeKind::Observed { from, to } => serde_json::json!({ "observed-from": from, "observed-to": to }),
    };
    serde_json::json!({ "time": wall, "app": change.app, "region": change.region, "what": what }).to_string()
}
