//! Events to whoever follows: numbered from 1 since the start of the node, also by whoever tells that the writer broke.

use super::types::{Event, Happening};
use crate::model::Wall;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::broadcast;

/// Tells events. Every clone counts on.
#[derive(Clone)]
pub(super) struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    /// The number of the last event.
    last: Arc<AtomicU64>,
}

impl Events {
    /// The first to tell anything.
    pub fn new(sender: broadcast::Sender<Arc<Event>>) -> Events {
        Events {
            sender,
            last: Arc::default(),
        }
    }

    /// Tells whoever listens.
    pub fn tell(&self, time: Wall, what: Happening) {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        // Nobody listening is no error.
        let _ = self.sender.send(Arc::new(Event { id, time, what }));
    }
}
