//! What is written soon but not at once: saved verdicts and roles, the last accepted config, the health log.
//!
//! The newest of each wins, so nothing queues without bound; lines for the log are collected over a second and, in a storm,
//! counted instead of kept. What cannot be written (disk full) stays and is tried again, unless something newer came.

use super::StoreError;
use super::copies::{self, HealthLog};
use crate::health::{Change, ChangeKind, Saved};
use crate::model::Wall;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often things are written at most, and how long changes of health are collected.
const EVERY: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Most octets of health log that wait; a storm beyond that is only counted.
const LOG_WAITING_MAX: usize = 1 << 20;

/// What waits to be written: put together here, where nobody waits for it.
enum Soon<T> {
    /// Not put together yet.
    Later(Box<dyn FnOnce() -> T + Send>),
    /// Put together: a try to write it failed.
    Made(T),
}

impl<T> Soon<T> {
    /// Puts it together.
    fn make(self) -> T {
        match self {
            Soon::Later(make) => make(),
            Soon::Made(made) => made,
        }
    }
}

/// Files under the paths they were read from.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// What waits.
#[derive(Default)]
struct Work {
    /// The verdicts.
    health: Option<Soon<Saved>>,
    /// The roles in words.
    roles: Option<Soon<Vec<u8>>>,
    /// An accepted config: its files and the hash over them.
    last_good: Option<(Files, String)>,
    /// Lines of the health log.
    log: String,
    /// Lines that were not kept.
    log_lost: usize,
    /// Whether the thread is to end once nothing waits.
    closing: bool,
    /// Whether the last try left something: told once, not each time.
    has_failed: bool,
}

impl Work {
    /// Whether anything waits.
    fn is_any(&self) -> bool {
        self.health.is_some() || self.roles.is_some() || self.last_good.is_some() || !self.log.is_empty()
    }

    /// Takes everything that waits.
    fn take(&mut self) -> Work {
        let kept = Work {
            closing: self.closing,
            has_failed: self.has_failed,
            ..Work::default()
        };
        std::mem::replace(self, kept)
    }

    /// Puts back what could not be written, where nothing newer came.
    fn put_back(&mut self, left: Work) {
        self.health = self.health.take().or(left.health);
        self.roles = self.roles.take().or(left.roles);
        self.last_good = self.last_good.take().or(left.last_good);
        self.log_lost += left.log_lost;
    }
}

/// What writer and lazy thread share.
pub(super) struct Desk {
    /// Where the files go.
    data_dir: PathBuf,
    /// What waits.
    work: Mutex<Work>,
    /// Rung when something was added.
    bell: Condvar,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Desk {
    /// Nothing waits.
    pub fn new(data_dir: &Path) -> Desk {
        Desk {
            data_dir: data_dir.to_owned(),
            work: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// The work; what waits is right also after a panic elsewhere.
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`super::Appender::save_health`].
    pub fn save_health(&self, make: Box<dyn FnOnce() -> Saved + Send>) {
        self.work().health = Some(Soon::Later(make));
        self.bell.notify_one();
    }

    /// See [`super::Appender::save_roles`].
    pub fn save_roles(&self, words: Box<dyn FnOnce() -> Vec<u8> + Send>) {
        self.work().roles = Some(Soon::Later(words));
        self.bell.notify_one();
    }

    /// See [`super::Appender::save_last_good`].
    pub fn save_last_good(&self, files: Files, sha256: String) {
        self.work().last_good = Some((files, sha256));
        self.bell.notify_one();
    }

    /// See [`super::Appender::log_health`].
    pub fn log_health(&self, wall: Wall, changes: &[Change]) {
        let mut work = self.work();
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
        self.bell.notify_one();
    }

    /// Lets the thread end once it has tried to write what waits.
    pub fn close(&self) {
        self.work().closing = true;
        self.bell.notify_one();
    }

    /// The thread: until it is told to close.
    pub fn run(&self) {
        let log = HealthLog::new(&self.data_dir);
        let mut next_at = Instant::now();
        loop {
            let mut work = self.work();
            let now = Instant::now();
            if work.is_any() && (work.closing || now >= next_at) {
                let taken = work.take();
                drop(work);
                let (left, outcome) = self.write(taken, &log);
                next_at = Instant::now() + if outcome.is_ok() { EVERY } else { RETRY_AFTER };
                if self.leave(left, outcome) {
                    return;
                }
            } else if work.closing {
                return;
            } else if work.is_any() {
                drop(self.bell.wait_timeout(work, next_at.saturating_duration_since(now)));
            } else {
                drop(self.bell.wait(work));
            }
        }
    }

    /// Puts back what could not be written and tells of the first of several failures; true when that was the last try.
    fn leave(&self, left: Work, outcome: Result<(), StoreError>) -> bool {
        let mut work = self.work();
        let is_last_try = left.closing;
        work.put_back(left);
        let had_failed = std::mem::replace(&mut work.has_failed, outcome.is_err());
        drop(work);
        if let (Err(error), false) = (outcome, had_failed) {
            tracing::warn!(
                source = std::error::Error::source(&error).map(tracing::field::display),
                "{error}; answering goes on, it is tried again"
            );
        }
        is_last_try
    }

    /// Whether the last try left something.
    #[cfg(test)]
    pub fn has_failed(&self) -> bool {
        self.work().has_failed
    }

    /// Writes what was taken; gives what could not be written and the first error.
    fn write(&self, mut work: Work, log: &HealthLog) -> (Work, Result<(), StoreError>) {
        let mut left = Work {
            closing: work.closing,
            ..Work::default()
        };
        let mut outcome = Ok(());
        if let Some((files, sha256)) = work.last_good.take() {
            let done = copies::write_last_good(&self.data_dir, &files, &sha256);
            left.last_good = done.is_err().then_some((files, sha256));
            outcome = outcome.and(done);
        }
        if let Some(roles) = work.roles.take() {
            let words = roles.make();
            let done = copies::write_roles(&self.data_dir, &words);
            left.roles = done.is_err().then_some(Soon::Made(words));
            outcome = outcome.and(done);
        }
        if let Some(saved) = work.health.take() {
            let saved = saved.make();
            let done = copies::write_health(&self.data_dir, &saved);
            left.health = done.is_err().then_some(Soon::Made(saved));
            outcome = outcome.and(done);
        }
        if !work.log.is_empty() {
            if work.log_lost > 0 {
                work.log.push_str(&format!("{{\"lost\":{}}}\n", work.log_lost));
            }
            let done = log.write(&work.log);
            if done.is_err() {
                left.log_lost = work.log_lost + work.log.lines().count();
            }
            outcome = outcome.and(done);
        }
        (left, outcome)
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
        ChangeKind::Confirmed { confirmed } => serde_json::json!({ "confirmed": confirmed }),
        ChangeKind::CannotRun { target, message } => serde_json::json!({
            "probe": target.probe, "endpoint": target.endpoint, "address": target.address, "cannot-run": message
        }),
        ChangeKind::Prober { suspected } => serde_json::json!({ "prober-suspected": suspected }),
    };
    serde_json::json!({ "time": wall, "app": change.app, "region": change.region, "what": what }).to_string()
}
