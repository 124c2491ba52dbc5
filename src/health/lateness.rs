//! How often this node itself was late for its probes, and whether that goes on.
//!
//! One stop (a paused VM, SIGSTOP) makes a burst of late runs and is over; a machine without enough CPU makes them again and again.
//! So late runs are counted in the ten-second slots of the last minute, and it *goes on* when three slots have some.

use crate::model::{Mono, show_duration};
use std::time::Duration;

/// Slots looked at.
const SLOTS: usize = 6;
/// Length of a slot, seconds.
const SLOT_SECONDS: u64 = 10;
/// Slots with late runs from which on it goes on.
const SLOTS_WITH_MIN: usize = 3;

/// Late runs of the last minute.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lateness {
    /// By slot; the number of a slot is its time over its length.
    counts: [u32; SLOTS],
    /// The last slot with a late run.
    slot: u64,
}

impl Lateness {
    /// One more.
    pub fn note(&mut self, now: Mono) {
        let slot = slot_of(now);
        for gone in (self.slot.saturating_add(1)..=slot).take(SLOTS) {
            self.put(gone, 0);
        }
        self.slot = self.slot.max(slot);
        self.put(slot, self.of(slot).saturating_add(1));
    }

    /// In words, while it goes on.
    pub fn goes_on(&self, now: Mono) -> Option<String> {
        let first = slot_of(now).saturating_sub(SLOTS as u64 - 1);
        let counts = (first.max(self.slot.saturating_sub(SLOTS as u64 - 1))..=self.slot).map(|slot| self.of(slot));
        let with = counts.clone().filter(|count| *count > 0).count();
        let minute = show_duration(Duration::from_secs(SLOT_SECONDS * SLOTS as u64));
        (with >= SLOTS_WITH_MIN).then(|| {
            format!(
                "this node itself was late for {} runs of probes in the last {minute}; they are not counted as failures: it lacks CPU, or it is \
                 being stopped",
                counts.sum::<u32>()
            )
        })
    }

    /// The count of a slot.
    fn of(&self, slot: u64) -> u32 {
        self.counts.get((slot % SLOTS as u64) as usize).copied().unwrap_or_default()
    }

    /// Sets the count of a slot.
    fn put(&mut self, slot: u64, to: u32) {
        if let Some(count) = self.counts.get_mut((slot % SLOTS as u64) as usize) {
            *count = to;
        }
    }
}

/// The number of the slot of a time.
fn slot_of(at: Mono) -> u64 {
    at.since(Mono::ORIGIN.minus(Duration::MAX)).as_secs() / SLOT_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_late_runs_is_over_and_late_runs_again_and_again_go_on_for_a_minute_at_most() {
        let mut lateness = Lateness::default();
        let at = |seconds| Mono::ORIGIN.plus(Duration::from_secs(seconds));
        assert_eq!(lateness.goes_on(at(0)), None);
        for _ in 0..1_000 {
            lateness.note(at(5));
        }
        assert_eq!(lateness.goes_on(at(6)), None, "one stop");
        lateness.note(at(15));
        assert_eq!(lateness.goes_on(at(15)), None);
        lateness.note(at(25));
        assert!(lateness.goes_on(at(25)).is_some_and(|words| words.contains("late for 1002 runs")));
        assert!(lateness.goes_on(at(59)).is_some());
        assert_eq!(lateness.goes_on(at(60)), None, "the burst is a minute old");
        lateness.note(at(500));
        assert_eq!(lateness.goes_on(at(500)), None);
        lateness.note(at(400));
        assert_eq!(lateness.goes_on(at(500)), None, "a clock that went back breaks nothing");
    }
}
