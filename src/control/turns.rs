//! One piece of work at a time, one more in waiting, and a no to everybody else.
//!
//! What is done here reads its input when its turn comes, never before: so the later turn has the later input, and whoever is
//! told no may rely on the one that waits. At most one candidate of a reload exists at any time, however long the disk hangs.
//! The work is a task of its own: a caller that hangs up neither ends it nor gives its turn away.

use std::future::Future;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinError;

/// One under way, one that waits.
const PLACES: usize = 2;

/// Hands out turns.
pub(super) struct Turns {
    places: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

/// Why work was not done.
#[derive(Debug)]
pub(super) enum NoTurn {
    /// One is under way and another waits.
    Full,
    /// It panicked, or the runtime ended.
    Broken(JoinError),
}

impl Turns {
    /// Nobody's turn.
    pub fn new() -> Turns {
        Turns {
            places: Arc::new(Semaphore::new(PLACES)),
            turn: Arc::default(),
        }
    }

    /// Does the work when its turn comes, and goes on with it when nobody waits for it any more.
    ///
    /// # Errors
    /// [`NoTurn`]; when it is full, nothing of the work was begun.
    pub async fn take<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, NoTurn> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| NoTurn::Full)?;
        let turn = self.turn.clone();
        let task = tokio::spawn(async move {
            let _place = place;
            let _turn = turn.lock_owned().await;
            work.await
        });
        task.await.map_err(NoTurn::Broken)
    }
}
