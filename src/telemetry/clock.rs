//! The shell's clock: makes [`Now`] pairs and notices when the wall clock steps against the monotonic one.

use crate::model::{Mono, Now, Wall};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the wall clock may drift from the monotonic one between two looks before it counts as a step.
const STEP_MIN: Duration = Duration::from_secs(2);

/// Reads both clocks. One for the process.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    wall_origin: Wall,
    /// Wall minus monotonic at the last look, milliseconds against the start.
    offset_ms: AtomicI64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl Clock {
    /// A clock whose monotonic origin is now.
    pub fn new() -> Clock {
        Clock {
            origin: Instant::now(),
            wall_origin: wall(),
            offset_ms: AtomicI64::new(0),
        }
    }

    /// The process' monotonic origin, for those who count from it themselves.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Both readings.
    pub fn now(&self) -> Now {
        Now {
            mono: Mono::after_origin(self.origin.elapsed()),
            wall: wall(),
        }
    }

    /// Whether the wall clock stepped since the last call, in words. A clock before 1970 reads as 1970.
    pub fn take_step(&self) -> Option<String> {
        let elapsed = self.origin.elapsed().as_millis() as i64;
        let offset = wall().0 as i64 - self.wall_origin.0 as i64 - elapsed;
        let before = self.offset_ms.load(Ordering::Relaxed);
        let step = offset - before;
        if step.unsigned_abs() < STEP_MIN.as_millis() as u64 {
            return None;
        }
        self.offset_ms.store(offset, Ordering::Relaxed);
        let direction = if step > 0 { "forward" } else { "back" };
        Some(format!(
            "the wall clock stepped {direction} by {}; delays and ages are not affected, time stamps in the ledger are",
            crate::model::show_duration(Duration::from_millis(step.unsigned_abs()))
        ))
    }
}

/// The wall clock.
fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_once() {
        let clock = Clock::new();
        assert_eq!(clock.take_step(), None);
        clock.offset_ms.store(-10_000, Ordering::Relaxed);
        let told = clock.take_step().unwrap();
        assert!(told.contains("forward by 10") || told.contains("forward by 9."), "{told}");
        assert_eq!(clock.take_step(), None);
    }

    #[test]
    fn monotonic_time_starts_at_the_origin_and_grows() {
        let clock = Clock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.mono >= Mono::ORIGIN && second.mono >= first.mono);
    }
}
