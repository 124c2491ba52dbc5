//! When the probes of an application start: each has a place in the interval and keeps it from run to run. Pure.
//!
//! ```text
//!  one interval, n targets    │ slot 0 │ slot 1 │ slot 2 │ …            slot = interval / n
//!  one slot                   │ start…latest start │ 10 ms kept free │
//! ```
//! Starts are `epoch + phase + k × interval`, each later by a jitter that the slot has room for: up to [`JITTER`] of the
//! interval where targets are few, nothing where they are so many that slots are as narrow as [`GAP`]. So two starts of an
//! application are never closer than `GAP` while that many fit into the interval at all, and evenly apart when they do not;
//! and from one start to the next it is never more than `interval × (1 + JITTER)`, which the worst case counts on.
//! Targets with other intervals share one frame, the greatest common divisor of their intervals: a slot of the frame is
//! used by as many targets of an interval as frames go into it, in turn. Where the divisor is too short for that (7.001 s
//! beside 10 s) no places exist that would never meet, so each interval is dealt by itself.
//!
//! First runs come earlier, since the first knowledge matters most: one each [`GAP`] or, where that would take longer than
//! an interval, in the slots themselves. Where all intervals are alike, the second runs come after the first ones, in the
//! same order, so that the distance holds from the first start on; elsewhere, and when a reload deals anew, from the
//! second or third on.
//! Deliberately absent: randomness (an argument), clocks (durations from the application's epoch).

use crate::model::JITTER;
use std::collections::BTreeMap;
use std::time::Duration;

/// Two starts of an application are this far apart where there is room.
pub(super) const GAP: Duration = Duration::from_millis(10);
/// What share of the best conceivable distance a common frame must reach; else each interval is dealt by itself.
const FRAME_WORTH: u128 = 2;

/// When one target runs, from the epoch of its application on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The first run.
    pub first: Duration,
    /// One planned start; the others are whole intervals from it, also earlier ones.
    pub phase: Duration,
    /// From one planned start to the next.
    pub interval: Duration,
    /// By how much a start may come later than planned.
    pub jitter: Duration,
}

impl Slot {
    /// The next planned start later than `after`, before jitter.
    pub fn next(&self, after: Duration) -> Duration {
        let (phase, interval) = (self.phase.as_nanos(), self.interval.as_nanos().max(1));
        let base = phase % interval;
        let after = after.as_nanos();
        let next = match after.checked_sub(base) {
            None => base,
            Some(over) => base + (over / interval + 1) * interval,
        };
        nanos(next)
    }

    /// How many planned starts lie later than `after` and not later than `until`.
    pub fn between(&self, after: Duration, until: Duration) -> u32 {
        let next = self.next(after);
        match until.checked_sub(next) {
            None => 0,
            Some(over) => {
                u32::try_from(over.as_nanos() / self.interval.as_nanos().max(1)).map_or(u32::MAX, |whole| whole.saturating_add(1))
            }
        }
    }
}

/// The slots of an application's targets; `intervals` has one for each, and the order is theirs. `offset`, from 0 up to 1,
/// tells applications of the same kind apart, so that they do not start in step.
pub(super) fn deal(intervals: &[Duration], offset: f64) -> Vec<Slot> {
    let places = places(intervals);
    let mut order: Vec<usize> = (0..places.len()).collect();
    // Those with short intervals first: theirs are the first to run again.
    order.sort_by_key(|one| places.get(*one).map(|place| (place.interval, place.at)));
    let step = step(intervals, &order);
    let burst = times(step, places.len());
    let mut slots = vec![None; places.len()];
    for (rank, one) in order.into_iter().enumerate() {
        if let (Some(place), Some(slot)) = (places.get(one), slots.get_mut(one)) {
            let room = place.width.saturating_sub(GAP);
            *slot = Some(Slot {
                first: step.mul_f64(offset) + times(step, rank),
                // All of the room, so that applications of one target fill the interval among themselves, and not more, so that
                // a second run never comes before the first ones are over.
                phase: step.mul_f64(offset) + burst + room.mul_f64(offset) + place.at,
                interval: place.interval,
                jitter: place.interval.mul_f64(JITTER).min(room),
            });
        }
    }
    slots.into_iter().flatten().collect()
}

/// How far apart first runs are: [`GAP`], or less, so that each comes within its interval.
fn step(intervals: &[Duration], order: &[usize]) -> Duration {
    let within = order.iter().enumerate().filter_map(|(rank, one)| {
        let interval = intervals.get(*one)?.as_nanos();
        Some(nanos(interval / (rank as u128 + 1)))
    });
    within.min().unwrap_or(GAP).min(GAP)
}

/// Where in the frame one target runs.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// From the begin of the frame in which it runs first.
    at: Duration,
    /// Its interval.
    interval: Duration,
    /// Time that nobody else has.
    width: Duration,
}

/// A place for each target.
fn places(intervals: &[Duration]) -> Vec<Place> {
    let mut groups: BTreeMap<u128, Vec<usize>> = BTreeMap::new();
    for (target, interval) in intervals.iter().enumerate() {
        groups.entry(interval.as_nanos().max(1)).or_default().push(target);
    }
    let mut places = vec![None; intervals.len()];
    let frame = groups.keys().copied().fold(0, gcd);
    if is_worth_it(&groups, frame) {
        fill(&groups, frame, &mut places);
    } else {
        for (interval, targets) in groups {
            fill(&BTreeMap::from([(interval, targets)]), interval, &mut places);
        }
    }
    places.into_iter().flatten().collect()
}

/// Whether the slots of a common frame are wide enough.
fn is_worth_it(groups: &BTreeMap<u128, Vec<usize>>, frame: u128) -> bool {
    let slots: u128 = groups
        .iter()
        .map(|(interval, targets)| slots(*interval, frame, targets.len()))
        .sum();
    let width = frame / slots.max(1);
    // The longest interval that the config allows; so no group counts as nothing.
    let day = Duration::from_secs(86_400).as_nanos();
    let starts: u128 = groups
        .iter()
        .map(|(interval, targets)| targets.len() as u128 * day / interval)
        .sum();
    width >= GAP.as_nanos() || width * FRAME_WORTH >= day / starts.max(1)
}

/// How many slots of a frame the targets of one interval need.
fn slots(interval: u128, frame: u128, targets: usize) -> u128 {
    (targets as u128).div_ceil((interval / frame.max(1)).max(1))
}

/// Deals the slots of one frame.
fn fill(groups: &BTreeMap<u128, Vec<usize>>, frame: u128, places: &mut [Option<Place>]) {
    let total: u128 = groups
        .iter()
        .map(|(interval, targets)| slots(*interval, frame, targets.len()))
        .sum();
    let (width, stride) = (frame / total.max(1), stride(total));
    let mut before = 0;
    for (interval, targets) in groups {
        let count = slots(*interval, frame, targets.len()).max(1);
        let (frames, used) = (interval / frame.max(1), (targets.len() as u128).div_ceil(count).max(1));
        for (rank, target) in (0_u128..).zip(targets) {
            // Neighbours in the config are far apart in time: they may be one machine.
            let slot = (before + rank % count) * stride % total.max(1);
            let turn = (rank / count) * frames / used;
            if let Some(place) = places.get_mut(*target) {
                *place = Some(Place {
                    at: nanos(turn * frame + slot * width),
                    interval: nanos(*interval),
                    width: nanos(width),
                });
            }
        }
        before += count;
    }
}

/// A number near the golden section of `total` that has no divisor with it: its multiples visit every slot.
fn stride(total: u128) -> u128 {
    let mut stride = (total * 618 / 1000).max(1);
    while gcd(stride, total) > 1 {
        stride += 1;
    }
    stride
}

/// Greatest common divisor; of 0 and a number that number.
fn gcd(a: u128, b: u128) -> u128 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A duration of so many nanoseconds.
fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A duration so many times.
fn times(one: Duration, count: usize) -> Duration {
    one.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Every start of the targets up to `until`, in order, when each comes as late as `unit` says.
    fn starts(slots: &[Slot], until: Duration, unit: impl Fn(usize, usize) -> f64) -> Vec<(Duration, usize)> {
        let mut starts = Vec::new();
        for (target, slot) in slots.iter().enumerate() {
            let (mut at, mut run) = (slot.first, 0);
            while at < until {
                starts.push((at, target));
                at = slot.next(at) + slot.jitter.mul_f64(unit(target, run));
                run += 1;
            }
        }
        starts.sort();
        starts
    }

    /// The least distance between two starts not before `from`.
    fn closest(starts: &[(Duration, usize)], from: Duration) -> Duration {
        let later: Vec<Duration> = starts.iter().map(|(at, _)| *at).filter(|at| *at >= from).collect();
        later.windows(2).map(|two| two[1] - two[0]).min().unwrap_or(Duration::MAX)
    }

    /// An even spread of numbers without a generator.
    fn unit(target: usize, run: usize) -> f64 {
        ((target * 7919 + run * 104_729) % 1000) as f64 / 1000.0
    }

    #[test]
    fn a_thousand_targets_at_ten_seconds_start_ten_milliseconds_apart() {
        let slots = deal(&[10 * SECOND; 1000], 0.37);
        let starts = starts(&slots, 60 * SECOND, unit);
        assert_eq!(closest(&starts, Duration::ZERO), GAP);
        assert_eq!(starts.len(), 6000);
        assert!(
            slots
                .iter()
                .all(|slot| slot.first < 10 * SECOND + GAP && slot.jitter == Duration::ZERO)
        );
    }

    #[test]
    fn few_targets_start_at_once_and_have_all_of_the_jitter() {
        let slots = deal(&[10 * SECOND; 4], 0.99);
        assert!(slots.iter().all(|slot| slot.first < 5 * GAP && slot.jitter == SECOND));
    }

    #[test]
    fn those_of_other_intervals_keep_out_of_each_others_way() {
        let mut intervals = vec![5 * SECOND; 200];
        intervals.extend([10 * SECOND; 300]);
        intervals.extend([15 * SECOND; 100]);
        let starts = starts(&deal(&intervals, 0.5), 90 * SECOND, unit);
        assert!(closest(&starts, 15 * SECOND) >= GAP);
        // The ideal share of every interval is used: 76 starts a second need 13 ms each.
        let uneven = deal(&[Duration::from_millis(7001), 10 * SECOND], 0.5);
        assert!(uneven.iter().all(|slot| slot.jitter >= Duration::from_millis(700)));
    }

    #[test]
    fn applications_of_one_target_fill_the_interval_among_themselves() {
        let mut tenths = [0; 10];
        for n in 0..1000 {
            let slot = deal(&[10 * SECOND], f64::from(n) / 1000.0)[0];
            tenths[usize::try_from(slot.next(100 * SECOND).as_millis() % 10_000 / 1000).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (98..=102).contains(count)), "{tenths:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the jitter: never nearer than the gap or the slot, and each wait within its bounds.
        #[test]
        fn starts_of_one_interval_keep_their_distance(
            count in 1_usize..1_500, interval_ms in 100_u64..60_000, offset in 0.0..1.0_f64, seed in 0_usize..1_000
        ) {
            let interval = Duration::from_millis(interval_ms);
            let slots = deal(&vec![interval; count], offset);
            let starts = starts(&slots, interval * 3, |target, run| unit(target + seed, run));
            let slot = interval / u32::try_from(count).unwrap();
            prop_assert!(closest(&starts, Duration::ZERO) + Duration::from_nanos(2) >= slot.min(GAP));
            let mut last = vec![None; count];
            for (at, target) in starts {
                match last[target].replace(at) {
                    None => prop_assert!(at <= interval + GAP),
                    Some(before) => prop_assert!(at - before <= interval.mul_f64(1.0 + JITTER)),
                }
            }
        }

        /// Mixed intervals: every target has a place of its own, and once the first runs are over the distance holds.
        #[test]
        fn starts_of_mixed_intervals_keep_their_distance(
            seconds in prop::collection::vec(prop::sample::select(vec![1_u32, 2, 3, 5, 6, 10, 30]), 1..60), offset in 0.0..1.0_f64
        ) {
            let intervals: Vec<Duration> = seconds.iter().map(|seconds| *seconds * SECOND).collect();
            let slots = deal(&intervals, offset);
            prop_assert_eq!(slots.len(), intervals.len());
            for (slot, interval) in slots.iter().zip(&intervals) {
                prop_assert_eq!(slot.interval, *interval);
                prop_assert!(slot.first <= *interval && slot.jitter <= interval.mul_f64(JITTER));
                prop_assert!(slot.next(slot.first) - slot.first <= *interval);
            }
            let starts = starts(&slots, 90 * SECOND, unit);
            prop_assert!(closest(&starts, 30 * SECOND) >= GAP, "{:?}", closest(&starts, 30 * SECOND));
        }

        /// `next` is the first planned start later than a time, and `between` counts them.
        #[test]
        fn next_and_between_agree(phase in 0_u64..10_000, interval in 1_u64..1_000, after in 0_u64..10_000, more in 0_u64..10_000) {
            let of = Duration::from_millis;
            let slot = Slot { first: of(0), phase: of(phase), interval: of(interval), jitter: of(0) };
            let next = slot.next(of(after));
            prop_assert!(next > of(after) && next <= of(after + interval));
            prop_assert_eq!((next.as_millis() + 10_000 * u128::from(interval) - u128::from(phase)) % u128::from(interval), 0);
            let mut counted = 0;
            let mut at = next;
            while at <= of(after + more) {
                counted += 1;
                at = slot.next(at);
            }
            prop_assert_eq!(slot.between(of(after), of(after + more)), counted);
        }
    }
}
