//! How soon a probe runs again: at its place in the interval, or faster while its verdict hangs in the air. Pure.
//!
//! A failure may be a lost packet or the end of a region. With `recheck-interval` the runs after the first failure follow
//! at that pace until `fall` failures made the verdict, or `rise` successes in a row took them back; in peace nothing is
//! probed faster than `interval` says. The counters are those of `health` once more, because the prober must know them at
//! the end of a run and not a moment later; what they decide here is only when to look again, never a verdict.

use super::plan::Slot;
use crate::model::{JITTER, ProbeSpec};
use std::time::Duration;

/// What the runs of a target have shown so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Failures, up to `fall`.
    failures: u32,
    /// Successes in a row, up to `rise`.
    successes: u32,
}

impl Count {
    /// Takes in how a run ended.
    pub fn observe(&mut self, spec: &ProbeSpec, passed: bool) {
        if !passed {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1).min(spec.fall.max(1));
            return;
        }
        self.successes = self.successes.saturating_add(1).min(spec.rise.max(1));
        if self.successes >= spec.rise {
            self.failures = 0;
        }
    }

    /// Whether there were failures, and not yet enough of them.
    pub fn is_open(&self, spec: &ProbeSpec) -> bool {
        self.failures > 0 && self.failures < spec.fall
    }
}

/// When a target runs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    /// From the epoch of its application.
    pub at: Duration,
    /// Planned starts that passed because the run before was not over.
    pub missed: u32,
}

/// When a target runs next, whose last run began at `start` and was over at `end`; `unit`, from 0 up to 1, is the jitter.
///
/// Never later than `interval × (1 + JITTER)` after `start`, or at once when the run took longer than that: a start that was
/// missed is made up for by the one that comes now, and further ones by nothing.
pub(super) fn next(spec: &ProbeSpec, slot: &Slot, count: &Count, start: Duration, end: Duration, unit: f64) -> Next {
    if let Some(recheck) = spec.recheck_interval.filter(|_| count.is_open(spec)) {
        let at = start + jittered(recheck, unit);
        return Next {
            at: at.max(end),
            missed: 0,
        };
    }
    let at = slot.next(start) + slot.jitter.mul_f64(unit);
    let missed = if at < end { slot.between(start, end) } else { 0 };
    Next { at: at.max(end), missed }
}

/// A time, longer or shorter by up to [`JITTER`]; `unit` is from 0 up to 1.
fn jittered(time: Duration, unit: f64) -> Duration {
    time.mul_f64(1.0 + JITTER * (2.0 * unit - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProbeKind, TcpProbe};
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn spec(fall: u32, rise: u32, recheck: Option<Duration>) -> ProbeSpec {
        let kind = ProbeKind::Tcp(TcpProbe {
            port: 1,
            send: None,
            expect: None,
        });
        ProbeSpec {
            interval: 10 * SECOND,
            recheck_interval: recheck,
            timeout: SECOND,
            fall,
            rise,
            ..ProbeSpec::new(kind)
        }
    }

    fn slot() -> Slot {
        Slot {
            first: Duration::ZERO,
            phase: 3 * SECOND,
            interval: 10 * SECOND,
            jitter: SECOND,
        }
    }

    #[test]
    fn a_failure_is_looked_at_again_soon_and_a_verdict_at_the_usual_pace() {
        let spec = spec(3, 2, Some(SECOND));
        let mut count = Count::default();
        let (mut at, mut waits) = (3 * SECOND, Vec::new());
        for passed in [true, false, false, false, false, true, true, true] {
            count.observe(&spec, passed);
            let next = next(&spec, &slot(), &count, at, at, 0.5).at;
            waits.push((next - at).as_millis());
            at = next;
        }
        // The first failure, two more after a second each: the verdict. Back to its place, also while it recovers.
        assert_eq!(waits[0..4], [10_500, 1_000, 1_000, 8_000]);
        assert!(waits[4..].iter().all(|wait| *wait == 10_000), "{waits:?}");
    }

    #[test]
    fn successes_that_clear_the_count_end_it_too() {
        let spec = spec(3, 2, Some(SECOND));
        let mut count = Count::default();
        let mut open = Vec::new();
        for passed in [false, true, false, true, true, true] {
            count.observe(&spec, passed);
            open.push(count.is_open(&spec));
        }
        assert_eq!(open, [true, true, true, true, false, false]);
    }

    #[test]
    fn without_the_key_or_with_a_fall_of_one_nothing_is_faster() {
        for spec in [spec(3, 2, None), spec(1, 2, Some(SECOND))] {
            let mut count = Count::default();
            count.observe(&spec, false);
            assert_eq!(next(&spec, &slot(), &count, 3 * SECOND, 4 * SECOND, 0.0).at, 13 * SECOND);
        }
    }

    #[test]
    fn a_start_that_passed_is_counted_and_made_up_for_once() {
        let (spec, count) = (spec(3, 2, None), Count::default());
        let late = next(&spec, &slot(), &count, 3 * SECOND, 34 * SECOND, 0.0);
        assert_eq!(
            late,
            Next {
                at: 34 * SECOND,
                missed: 3
            }
        );
        assert_eq!(next(&spec, &slot(), &count, 34 * SECOND, 35 * SECOND, 0.0).at, 43 * SECOND);
    }

    proptest! {
        /// The bound that the worst case counts on, whatever happened before.
        #[test]
        fn no_wait_is_longer_than_promised(
            runs in prop::collection::vec((any::<bool>(), 0.0..1.0_f64, 0_u64..1_000), 1..40), fall in 1_u32..5, rise in 1_u32..4, recheck in 0_u32..4
        ) {
            let spec = spec(fall, rise, (recheck > 0).then(|| recheck * SECOND));
            let mut count = Count::default();
            let mut start = 7 * SECOND;
            let mut failures = 0;
            for (passed, unit, took) in runs {
                count.observe(&spec, passed);
                failures = if passed { 0 } else { failures + 1 };
                let end = start + Duration::from_millis(took);
                let next = next(&spec, &slot(), &count, start, end, unit);
                let most = if count.is_open(&spec) { spec.recheck_interval.unwrap_or(spec.interval) } else { spec.interval };
                prop_assert!(next.at >= end && next.at - start <= most.mul_f64(1.0 + JITTER), "{:?}", next.at - start);
                prop_assert!(failures < fall || !count.is_open(&spec));
                start = next.at;
            }
        }
    }
}
