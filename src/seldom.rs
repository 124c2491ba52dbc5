//! What would be said again and again is said once a minute: a flood must not fill the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing is said after it was said.
const SILENCE: Duration = Duration::from_secs(60);

/// One thing to say; clones say it together.
#[derive(Debug, Clone, Default)]
pub struct Seldom(Arc<Mutex<Option<Instant>>>);

impl Seldom {
    /// Whether to say it now: it was not said in the last minute.
    pub fn is_due(&self) -> bool {
        self.is_due_at(Instant::now())
    }

    /// The same at a time.
    fn is_due_at(&self, now: Instant) -> bool {
        // A time is right also after a panic elsewhere.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.is_none_or(|said| now.saturating_duration_since(said) >= SILENCE);
        if is_due {
            *said = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_a_minute() {
        let (seldom, begin) = (Seldom::default(), Instant::now());
        let same = seldom.clone();
        let said: Vec<u64> = (0..200)
            .filter(|second| {
                let one = if second % 2 == 0 { &seldom } else { &same };
                one.is_due_at(begin + Duration::from_secs(*second))
            })
            .collect();
        assert_eq!(said, [0, 60, 120, 180]);
    }
}
