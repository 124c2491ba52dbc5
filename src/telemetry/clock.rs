//! The shell's clock: makes [`Now`] pairs and notices when the wall clock steps against the monotonic one, or when this machine was
//! suspended.
//!
//! The monotonic clock stands still during a suspension. Linux has one that does not (`CLOCK_BOOTTIME`); a virtual machine that is
//! paused from outside may see neither go on, and learns of it when its wall clock is set forward. From a clock that was merely
//! wrong that cannot be told apart, so both are taken for time that went by unseen.

use crate::model::{Mono, Now, Wall, show_duration};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the wall clock may drift from the monotonic one between two looks before it counts as a step.
const STEP_MIN: Duration = Duration::from_secs(2);
/// Within which time clocks are read that are compared.
const READ_WITHIN: Duration = Duration::from_millis(100);
/// How often they are read again when that took longer.
const READ_AGAIN_MAX: usize = 10;

/// Reads both clocks. One for the process.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    /// Wall minus monotonic at the last look, milliseconds.
    wall_ms: AtomicI64,
    /// The clock that counts suspensions minus monotonic at the last look, milliseconds.
    boot_ms: AtomicI64,
}

/// That the clocks do not agree with what they said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What happened, in words.
    pub message: String,
    /// The time that went by and that the monotonic clock does not count, if any did.
    pub slept: Option<Duration>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl Clock {
    /// A clock whose monotonic origin is now.
    pub fn new() -> Clock {
        let origin = Instant::now();
        let (wall_ms, boot_ms) = offsets(origin);
        Clock {
            origin,
            wall_ms: AtomicI64::new(wall_ms),
            boot_ms: AtomicI64::new(boot_ms),
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

    /// Whether this machine was suspended or the wall clock stepped since the last call. A clock before 1970 reads as 1970.
    pub fn take_step(&self) -> Option<Step> {
        let (wall_ms, boot_ms) = offsets(self.origin);
        let slept = take(&self.boot_ms, boot_ms).filter(|step| *step > 0);
        let stepped = take(&self.wall_ms, wall_ms);
        let shown = |step: i64| show_duration(Duration::from_millis(step.unsigned_abs()));
        let unconfirmed = "what was heard before is not decided on until it is heard again";
        let message = match (slept, stepped) {
            (None, None) => return None,
            (Some(slept), _) => format!("this machine was suspended for {}; {unconfirmed}", shown(slept)),
            (None, Some(step)) if step > 0 => format!(
                "the wall clock stepped forward by {}, or this machine was paused for as long; {unconfirmed}, and time stamps in the \
                 ledger are affected",
                shown(step)
            ),
            (None, Some(step)) => format!(
                "the wall clock stepped back by {}; delays and ages are not affected, time stamps in the ledger are",
                shown(step)
            ),
        };
        let slept = slept.max(stepped).and_then(|step| u64::try_from(step).ok());
        Some(Step {
            message,
            slept: slept.map(Duration::from_millis),
        })
    }
}

#[cfg(test)]
impl Clock {
    /// As if this machine had been suspended.
    pub(crate) fn sleep_through(&self, time: Duration) {
        let time = i64::try_from(time.as_millis()).unwrap();
        self.boot_ms.fetch_sub(time, Ordering::Relaxed);
    }
}

/// How far an offset went from what it was, if that is a step; what it is from now on is kept then.
fn take(kept: &AtomicI64, now: i64) -> Option<i64> {
    let step = now - kept.load(Ordering::Relaxed);
    if step.unsigned_abs() < STEP_MIN.as_millis() as u64 {
        return None;
    }
    kept.store(now, Ordering::Relaxed);
    Some(step)
}

/// How far the wall clock, and the one that counts suspensions, are ahead of the monotonic one, milliseconds. All are read in one
/// moment: a process that is stopped between two of them would see a step that there was not. On a machine too slow for that
/// the last try stands.
fn offsets(origin: Instant) -> (i64, i64) {
    let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let read = || {
        let before = origin.elapsed();
        let (wall, boot) = (wall(), boot());
        let mono = origin.elapsed();
        let took = mono.saturating_sub(before);
        let (mono, wall) = (milliseconds(mono), i64::try_from(wall.0).unwrap_or(i64::MAX));
        (took, (wall - mono, boot.map_or(0, |boot| milliseconds(boot) - mono)))
    };
    let (mut took, mut found) = read();
    for _ in 0..READ_AGAIN_MAX {
        if took < READ_WITHIN {
            break;
        }
        (took, found) = read();
    }
    found
}

/// The clock that goes on while the machine is suspended, where there is one.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn boot() -> Option<Duration> {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}

/// The clock that goes on while the machine is suspended: none that is known of here, so the wall clock alone tells.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn boot() -> Option<Duration> {
    None
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
    fn a_step_is_told_once_and_only_forward_is_time_that_went_by() {
        let clock = Clock::new();
        assert_eq!(clock.take_step(), None);
        let moved = |offset: &AtomicI64, by: i64| {
            offset.fetch_sub(by, Ordering::Relaxed);
        };
        let is_10_s = |slept: Option<Duration>| slept.is_some_and(|slept| slept.abs_diff(Duration::from_secs(10)) < STEP_MIN);
        moved(&clock.wall_ms, 10_000);
        let forward = clock.take_step().unwrap();
        assert!(
            forward.message.contains("stepped forward by") && is_10_s(forward.slept),
            "{forward:?}"
        );
        assert_eq!(clock.take_step(), None);
        moved(&clock.wall_ms, -10_000);
        let back = clock.take_step().unwrap();
        assert!(back.message.contains("stepped back by") && back.slept.is_none(), "{back:?}");
        moved(&clock.boot_ms, 10_000);
        let suspended = clock.take_step().unwrap();
        assert!(
            suspended.message.contains("was suspended for") && is_10_s(suspended.slept),
            "{suspended:?}"
        );
        moved(&clock.boot_ms, 10_000);
        moved(&clock.wall_ms, 60_000);
        let both = clock.take_step().unwrap().slept.unwrap();
        assert!(both.abs_diff(Duration::from_secs(60)) < STEP_MIN, "the longer of the two: {both:?}");
        assert_eq!(clock.take_step(), None);
    }

    #[test]
    fn monotonic_time_starts_at_the_origin_and_grows() {
        let clock = Clock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(first.mono >= Mono::ORIGIN && second.mono >= first.mono);
    }
}
