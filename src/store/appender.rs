//! The I/O threads: one appends to the ledger, one writes everything lazy, so that a slow copy never delays an append.
//!
//! Everything that waits for the ledger goes out in one write and one fdatasync (group commit). The queue is bounded; the
//! writer is expected to have one append on its way and to collect meanwhile. When the thread ends for whatever reason, the
//! receivers that still wait fail at once, which their owner reads as [`StoreError::Gone`].

use super::lazy::Desk;
use super::{FileStore, StoreError};
use crate::health::{Change, Saved};
use crate::model::Wall;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::oneshot;

/// Most appends that wait.
const APPENDS_WAITING_MAX: usize = 64;

/// What came of an append: when it was durable.
type Outcome = Result<Instant, StoreError>;

/// Lines that are to become durable, and where the outcome goes.
type Append = (Vec<u8>, oneshot::Sender<Outcome>);

/// The writer's side of the I/O threads.
#[derive(Debug)]
pub struct Appender {
    /// To the thread of the ledger; its end is the thread's end.
    appends: Option<SyncSender<Append>>,
    /// What the lazy thread finds.
    desk: Arc<Desk>,
    /// The thread of the ledger; it waits for the lazy one before it gives up the lock.
    thread: Option<JoinHandle<()>>,
}

impl Appender {
    /// Starts the threads over an opened store.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: FileStore) -> std::io::Result<Appender> {
        let (appends, queue) = sync_channel(APPENDS_WAITING_MAX);
        let desk = Arc::new(Desk::new(store.data_dir()));
        let lazy_desk = desk.clone();
        let lazy = std::thread::Builder::new()
            .name("lazy-files".to_owned())
            .spawn(move || lazy_desk.run())?;
        let mut appender = Appender {
            appends: Some(appends),
            desk: desk.clone(),
            thread: None,
        };
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            let mut store = store;
            run(&mut store, &queue);
            desk.close();
            // A panic there has been told by the panic handler; the ledger is not concerned.
            let _ = lazy.join();
        })?;
        appender.thread = Some(thread);
        Ok(appender)
    }

    /// Appends complete lines; the receiver gets the outcome once they are durable or are not.
    pub fn append(&self, lines: Vec<u8>) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        let refused = match &self.appends {
            Some(appends) => appends.try_send((lines, done)).err(),
            None => None,
        };
        // Whoever does not wait any more needs no answer; a thread that is gone drops `done`, which the receiver sees.
        if let Some(TrySendError::Full((_, done))) = refused {
            let _ = done.send(Err(StoreError::Busy));
        }
        outcome
    }

    /// Saves the verdicts, soon; they are put together on the thread, not by the caller.
    pub fn save_health(&self, make: impl FnOnce() -> Saved + Send + 'static) {
        self.desk.save_health(Box::new(make));
    }

    /// Saves the published roles for `--answer-only`, soon; they are put into words on the thread, not by the caller.
    pub fn save_roles(&self, words: impl FnOnce() -> Vec<u8> + Send + 'static) {
        self.desk.save_roles(Box::new(words));
    }

    /// Keeps a copy of an accepted config with its zones, soon.
    pub fn save_last_good(&self, files: Vec<(PathBuf, Vec<u8>)>, sha256: String) {
        self.desk.save_last_good(files, sha256);
    }

    /// Notes changes of verdicts in the health log, soon.
    pub fn log_health(&self, wall: Wall, changes: &[Change]) {
        self.desk.log_health(wall, changes);
    }

    /// Writes what still waits and ends the threads; the data dir is unlocked then.
    pub async fn close(mut self) {
        self.appends = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been told by the panic handler.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        // The ledger's thread sees its queue end and closes the lazy one; this is for a start that failed half-way.
        self.appends = None;
        self.desk.close();
    }
}

/// Appends until the queue ends.
fn run(store: &mut FileStore, queue: &Receiver<Append>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        group.extend(queue.try_iter());
        let outcome = match group.as_slice() {
            [(lines, _)] => append(store, lines),
            _ => append(store, &group.iter().flat_map(|(lines, _)| lines).copied().collect::<Vec<u8>>()),
        };
        match outcome {
            // One that does not continue the ledger must not take those before it along; nothing was written yet.
            Err(StoreError::NotNext { .. }) if group.len() > 1 => {
                for (lines, done) in group {
                    // Nobody waiting is no error: the entry stands. So below.
                    let _ = done.send(append(store, &lines));
                }
            }
            outcome => tell(group, outcome),
        }
    }
}

/// Appends lines and looks at the clock.
fn append(store: &mut FileStore, lines: &[u8]) -> Outcome {
    store.append(lines).map(|()| Instant::now())
}

/// Tells a whole group what came of it: the first gets the error itself, the rest that they were in one write with it.
fn tell(group: Vec<Append>, outcome: Outcome) {
    let done_at = outcome.as_ref().ok().copied();
    let mut outcome = Some(outcome);
    for (_, done) in group {
        let rest = || done_at.ok_or(StoreError::Together);
        let _ = done.send(outcome.take().unwrap_or_else(rest));
    }
}
