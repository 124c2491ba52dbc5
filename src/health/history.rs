//! The last 24 hours of every probe at every address: when its verdict changed and why, and how long its runs took.
//!
//! Each target has a fixed budget, whatever its probe does:
//!
//! | what | how much |
//! |---|---|
//! | verdict changes | the last [`CHANGES_MAX`], each with at most [`MESSAGE_OCTETS_MAX`] octets of its reason |
//! | times of runs, last hour | 30 buckets of 2 minutes |
//! | times of runs, last day | 48 buckets of 30 minutes |
//!
//! A bucket that is over keeps counts, least, mean, 99th percentile and most; the present one also a logarithmic histogram, four bins to
//! an octave, so the percentile is right within a quarter. Failed runs are counted; how long they took is not mixed in, since a time limit
//! says nothing of the endpoint. There are at most [`TARGETS_MAX`] targets; those that are gone make room first.
//!
//! Deliberately absent: health (nothing here decides anything), and the disk: a restart begins a new history.

use super::{Change, ChangeKind};
use crate::model::{AppId, Endpoint, Fleet, Mono, Outcome, ProbeTarget, RegionId, Verdict};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

/// Most verdict changes that are kept a target.
pub const CHANGES_MAX: usize = 16;
/// Most octets of a change's reason.
pub const MESSAGE_OCTETS_MAX: usize = 120;
/// Most targets with a history.
pub const TARGETS_MAX: usize = 20_000;
/// What is kept.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Targets after which [`History::expire`] goes on at the next call.
const SWEPT_AT_ONCE: usize = 500;

/// Length and number of the buckets of the last hour.
const FINE: (u64, usize) = (120, 30);
/// Length and number of the buckets of the last day.
const COARSE: (u64, usize) = (1_800, 48);
/// Bins of a histogram: quarters of octaves from 16 µs to 16.8 s; beyond is in the last.
const BINS: usize = 80;
/// The octave of the first bin.
const OCTAVE_MIN: u32 = 4;

/// The histories of all targets.
#[derive(Debug, Default)]
pub struct History {
    /// By application.
    apps: BTreeMap<AppId, HashMap<ProbeTarget, Target>>,
    /// How many targets there are.
    count: usize,
    /// How many of them are gone, at most.
    gone: usize,
    /// The last application whose targets were looked at by [`History::expire`]; none: it begins anew.
    swept: Option<AppId>,
}

/// The history of one target.
#[derive(Debug)]
struct Target {
    /// The last changes, oldest first.
    changes: VecDeque<Note>,
    /// The last hour.
    fine: Series,
    /// The last day.
    coarse: Series,
    /// When something happened last.
    last: Mono,
    /// Whether its host name does not resolve to its address any more.
    is_gone: bool,
}

/// A change of a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: Mono,
    /// To what.
    pub verdict: Verdict,
    /// Why, in words.
    pub message: Box<str>,
}

/// Runs within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Number of the bucket: its beginning over its length.
    slot: u32,
    /// Runs that passed.
    pub passed: u16,
    /// Runs that failed.
    pub failed: u16,
    /// Of those that passed: the shortest, µs.
    pub least_us: u32,
    /// The mean, µs.
    pub mean_us: u32,
    /// What 99 of 100 did not exceed, µs.
    pub p99_us: u32,
    /// The longest, µs.
    pub most_us: u32,
}

/// What is asked for of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Which.
    pub target: ProbeTarget,
    /// Its changes, oldest first.
    pub changes: Vec<Note>,
    /// The length of its buckets.
    pub bucket: Duration,
    /// Its buckets with the time that each began, oldest first; buckets without runs are left out.
    pub buckets: Vec<(Mono, Bucket)>,
}

/// Buckets of one length.
#[derive(Debug)]
struct Series {
    /// Length, seconds.
    length: u64,
    /// Most buckets.
    max: usize,
    /// Those that are over, oldest first.
    over: VecDeque<Bucket>,
    /// The present one.
    open: Box<Open>,
}

/// A bucket that is not over.
#[derive(Debug, Clone)]
struct Open {
    slot: u32,
    passed: u16,
    failed: u16,
    sum_us: u64,
    least_us: u32,
    most_us: u32,
    bins: [u16; BINS],
}

impl History {
    /// A history of nothing.
    pub fn new() -> History {
        History::default()
    }

    /// Takes in a run.
    pub fn ran(&mut self, outcome: &Outcome) {
        if let Some(target) = self.target(&outcome.target) {
            target.last = target.last.max(outcome.at);
            target.is_gone = false;
            let took = outcome.result.is_ok().then_some(outcome.took);
            target.fine.add(outcome.at, took);
            target.coarse.add(outcome.at, took);
        }
    }

    /// Takes in what changed; only verdicts of probes are kept.
    pub fn changed(&mut self, changes: &[Change], now: Mono) {
        for change in changes {
            let ChangeKind::Probe { target, to, message, .. } = &change.what else {
                continue;
            };
            if let Some(target) = self.target(target) {
                target.last = target.last.max(now);
                if target.changes.len() == CHANGES_MAX {
                    target.changes.pop_front();
                }
                target.changes.reserve_exact(1);
                target.changes.push_back(Note {
                    at: now,
                    verdict: *to,
                    message: shorten(message).into(),
                });
            }
        }
    }

    /// Follows a host name to other addresses: what is at none of them stays until its room is needed.
    pub fn resolved(&mut self, app: &AppId, region: &RegionId, endpoint: &Endpoint, addresses: &[IpAddr]) {
        let targets = self.apps.get_mut(app).into_iter().flatten();
        for (target, history) in targets.filter(|(target, _)| target.region == *region && target.endpoint == *endpoint) {
            history.is_gone = !addresses.contains(&target.address);
            self.gone += usize::from(history.is_gone);
        }
    }

    /// Follows a new config: what is not probed any more goes, and what changed its place in the list of probes keeps its history.
    pub fn reconfigure(&mut self, old: &Fleet, new: &Fleet) {
        let before = std::mem::take(&mut self.apps);
        self.count = 0;
        for (id, targets) in before {
            let (Some(was), Some(is)) = (old.apps.get(&id), new.apps.get(&id)) else {
                continue;
            };
            let mut kept = HashMap::new();
            for (mut target, history) in targets {
                let place = was
                    .probes
                    .get(target.probe)
                    .and_then(|spec| is.probes.iter().position(|one| one == spec));
                let Some(place) = place.filter(|_| is.endpoints_of(&target.region).contains(&target.endpoint)) else {
                    continue;
                };
                target.probe = place;
                kept.insert(target, history);
            }
            self.count += kept.len();
            self.apps.insert(id, kept);
        }
    }

    /// Lets go of targets of which nothing was heard for as long as anything is kept: of some hundreds at a call, since the caller has
    /// more urgent things to do.
    pub fn expire(&mut self, now: Mono) {
        let from = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut looked, mut empty) = (0, Vec::new());
        for (app, targets) in self.apps.range_mut((from, Bound::Unbounded)) {
            let before = targets.len();
            targets.retain(|_, target| now.since(target.last) < KEPT);
            self.count -= before - targets.len();
            if targets.is_empty() {
                empty.push(app.clone());
            }
            looked += before;
            if looked >= SWEPT_AT_ONCE {
                self.swept = Some(app.clone());
                break;
            }
        }
        for app in empty {
            self.apps.remove(&app);
        }
    }

    /// How many targets there are.
    pub fn targets(&self) -> usize {
        self.count
    }

    /// The targets of an application that `wanted` says, in their order: at most `limit` after the first `skip`, what happened within
    /// `within`. The second value says whether there are more.
    pub fn tell(
        &self,
        app: &AppId,
        wanted: impl Fn(&ProbeTarget) -> bool,
        within: Duration,
        (skip, limit): (usize, usize),
        now: Mono,
    ) -> (Vec<Told>, bool) {
        let mut found: Vec<(&ProbeTarget, &Target)> = self.apps.get(app).into_iter().flatten().filter(|(one, _)| wanted(one)).collect();
        found.sort_unstable_by_key(|(target, _)| *target);
        let more = found.len() > skip.saturating_add(limit);
        let since = now.minus(within);
        let told = found.into_iter().skip(skip).take(limit).map(|(target, history)| {
            let fine = Duration::from_secs(FINE.0 * FINE.1 as u64);
            let series = if within <= fine { &history.fine } else { &history.coarse };
            Told {
                target: target.clone(),
                changes: history.changes.iter().filter(|note| note.at >= since).cloned().collect(),
                bucket: Duration::from_secs(series.length),
                buckets: series.since(since),
            }
        });
        (told.collect(), more)
    }

    /// The history of a target; none when there is no room for it.
    fn target(&mut self, target: &ProbeTarget) -> Option<&mut Target> {
        let known = self.apps.get(&target.app).is_some_and(|targets| targets.contains_key(target));
        if !known {
            if self.count >= TARGETS_MAX {
                self.make_room();
            }
            if self.count >= TARGETS_MAX {
                return None;
            }
            self.count += 1;
            let app = self.apps.entry(target.app.clone()).or_default();
            app.insert(target.clone(), Target::new());
        }
        self.apps.get_mut(&target.app)?.get_mut(target)
    }

    /// Lets go of what is gone. Looks at all targets only where some are.
    fn make_room(&mut self) {
        if self.gone > 0 {
            self.gone = 0;
            self.retain(|target| !target.is_gone);
        }
    }

    /// Lets go of all other targets.
    fn retain(&mut self, keeps: impl Fn(&Target) -> bool) {
        self.count = 0;
        for targets in self.apps.values_mut() {
            targets.retain(|_, target| keeps(target));
            self.count += targets.len();
        }
        self.apps.retain(|_, targets| !targets.is_empty());
    }
}

impl Target {
    /// One of which nothing is known.
    fn new() -> Target {
        Target {
            changes: VecDeque::new(),
            fine: Series::new(FINE),
            coarse: Series::new(COARSE),
            last: Mono::ORIGIN.minus(Duration::MAX),
            is_gone: false,
        }
    }
}

impl Series {
    /// Without runs.
    fn new((length, max): (u64, usize)) -> Series {
        Series {
            length,
            max,
            over: VecDeque::new(),
            open: Box::new(Open::new(0)),
        }
    }

    /// The bucket of a time.
    fn slot_of(&self, at: Mono) -> u32 {
        u32::try_from(at.since(Mono::ORIGIN.minus(Duration::MAX)).as_secs() / self.length).unwrap_or(u32::MAX)
    }

    /// One more run, with how long it took if it passed. One from before the present bucket is counted there.
    fn add(&mut self, at: Mono, took: Option<Duration>) {
        let slot = self.slot_of(at);
        if slot > self.open.slot {
            if let Some(bucket) = self.open.bucket() {
                if self.over.len() == self.max {
                    self.over.pop_front();
                }
                self.over.reserve_exact(1);
                self.over.push_back(bucket);
            }
            *self.open = Open::new(slot);
        }
        self.open.add(took);
    }

    /// The buckets that were not over at a time, the present one too.
    fn since(&self, since: Mono) -> Vec<(Mono, Bucket)> {
        let first = self.slot_of(since);
        let zero = Mono::ORIGIN.minus(Duration::MAX);
        let begins = |slot: u32| zero.plus(Duration::from_secs(u64::from(slot) * self.length));
        let all = self.over.iter().copied().chain(self.open.bucket());
        all.filter(|bucket| bucket.slot >= first)
            .map(|bucket| (begins(bucket.slot), bucket))
            .collect()
    }
}

impl Open {
    /// Without runs.
    fn new(slot: u32) -> Open {
        Open {
            slot,
            passed: 0,
            failed: 0,
            sum_us: 0,
            least_us: u32::MAX,
            most_us: 0,
            bins: [0; BINS],
        }
    }

    /// One more run.
    fn add(&mut self, took: Option<Duration>) {
        let Some(took) = took else {
            self.failed = self.failed.saturating_add(1);
            return;
        };
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.passed = self.passed.saturating_add(1);
        self.sum_us = self.sum_us.saturating_add(u64::from(us));
        self.least_us = self.least_us.min(us);
        self.most_us = self.most_us.max(us);
        if let Some(bin) = self.bins.get_mut(bin_of(us)) {
            *bin = bin.saturating_add(1);
        }
    }

    /// As it is kept; none without a run.
    fn bucket(&self) -> Option<Bucket> {
        if self.passed == 0 && self.failed == 0 {
            return None;
        }
        let passed = u64::from(self.passed);
        Some(Bucket {
            slot: self.slot,
            passed: self.passed,
            failed: self.failed,
            least_us: if self.passed == 0 { 0 } else { self.least_us },
            mean_us: u32::try_from(self.sum_us.checked_div(passed).unwrap_or_default()).unwrap_or(u32::MAX),
            p99_us: self.p99(),
            most_us: self.most_us,
        })
    }

    /// What 99 of 100 runs did not exceed: the end of the bin that holds it.
    fn p99(&self) -> u32 {
        let passed = u32::from(self.passed);
        let rank = passed - passed / 100;
        let mut seen = 0;
        for (place, count) in self.bins.iter().enumerate() {
            seen += u32::from(*count);
            if seen >= rank {
                return end_of(place).clamp(if passed == 0 { 0 } else { self.least_us }, self.most_us);
            }
        }
        self.most_us
    }
}

/// The bin of a time.
fn bin_of(us: u32) -> usize {
    let octave = us.max(1).ilog2();
    if octave < OCTAVE_MIN {
        return 0;
    }
    let quarter = (us >> (octave - 2)) & 3;
    (((octave - OCTAVE_MIN) * 4 + quarter) as usize).min(BINS - 1)
}

/// The longest time of a bin, µs.
fn end_of(place: usize) -> u32 {
    if place + 1 >= BINS {
        return u32::MAX;
    }
    // Below 80, so it fits.
    let place = place as u32;
    let (octave, quarter) = (place / 4 + OCTAVE_MIN, place % 4);
    (1 << octave) + (quarter + 1) * (1 << (octave - 2)) - 1
}

/// At most [`MESSAGE_OCTETS_MAX`] octets, cut between characters.
fn shorten(message: &str) -> &str {
    let end = (0..=MESSAGE_OCTETS_MAX)
        .rev()
        .find(|end| message.is_char_boundary(*end))
        .unwrap_or(0);
    if message.len() <= MESSAGE_OCTETS_MAX {
        message
    } else {
        message.get(..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FailReason, Failure};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn target(number: usize) -> ProbeTarget {
        let address = std::net::IpAddr::from([10, (number >> 16) as u8, (number >> 8) as u8, number as u8]);
        ProbeTarget {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            endpoint: Endpoint::Address(address),
            address,
            probe: 0,
        }
    }

    fn at(seconds: u64) -> Mono {
        Mono::ORIGIN.plus(Duration::from_secs(seconds))
    }

    fn ran(number: usize, seconds: u64, took_us: Option<u64>) -> Outcome {
        let failure = Failure {
            reason: FailReason::Timeout,
            message: "no".into(),
        };
        let result = took_us.map(|_| ()).ok_or(failure);
        Outcome::new(
            target(number),
            at(seconds),
            Duration::from_micros(took_us.unwrap_or(2_000_000)),
            result,
        )
    }

    fn changed(number: usize, to: Verdict, message: &str) -> Change {
        Change {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            what: ChangeKind::Probe {
                target: Arc::new(target(number)),
                from: Verdict::Unknown,
                to,
                message: message.to_owned(),
            },
        }
    }

    fn tell(history: &History, hours: u64, now: u64) -> Vec<Told> {
        let within = Duration::from_secs(hours * 3600);
        history.tell(&AppId::new("shop"), |_| true, within, (0, 100), at(now)).0
    }

    #[test]
    fn a_day_of_runs_is_kept_in_buckets_and_no_more() {
        let mut history = History::new();
        for second in (0..50 * 3600).step_by(10) {
            history.ran(&ran(1, second, Some(1_000 + second % 100)));
        }
        let now = 50 * 3600;
        let day = &tell(&history, 24, now)[0];
        assert_eq!((day.bucket, day.buckets.len()), (Duration::from_secs(1_800), 48));
        assert!(day.buckets.iter().all(|(_, bucket)| (bucket.passed, bucket.failed) == (180, 0)));
        assert!(
            day.buckets
                .windows(2)
                .all(|pair| pair[1].0.since(pair[0].0) == Duration::from_secs(1_800))
        );
        let hour = &tell(&history, 1, now)[0];
        assert_eq!((hour.bucket, hour.buckets.len()), (Duration::from_secs(120), 30));
        let series = &history.apps[&AppId::new("shop")][&target(1)].coarse;
        assert!(series.over.len() <= COARSE.1 && series.over.capacity() <= COARSE.1 + 1);
    }

    #[test]
    fn failed_runs_are_counted_and_their_time_is_not_mixed_in() {
        let mut history = History::new();
        history.ran(&ran(1, 1, Some(500)));
        history.ran(&ran(1, 2, None));
        let (_, bucket) = tell(&history, 1, 3)[0].buckets[0];
        assert_eq!(
            (bucket.passed, bucket.failed, bucket.least_us, bucket.mean_us, bucket.most_us),
            (1, 1, 500, 500, 500)
        );
        history.ran(&ran(2, 2, None));
        let (_, bucket) = tell(&history, 1, 3)[1].buckets[0];
        assert_eq!(
            (bucket.passed, bucket.failed, bucket.least_us, bucket.p99_us, bucket.most_us),
            (0, 1, 0, 0, 0)
        );
    }

    #[test]
    fn the_last_changes_are_kept_with_their_reasons_cut() {
        let mut history = History::new();
        for number in 0..40_u64 {
            let to = if number % 2 == 0 { Verdict::Healthy } else { Verdict::Unhealthy };
            history.changed(&[changed(1, to, &format!("{number} {}", "ä".repeat(200)))], at(number));
        }
        let told = &tell(&history, 24, 40)[0];
        assert_eq!(told.changes.len(), CHANGES_MAX);
        let first = &told.changes[0];
        assert_eq!((first.at, first.verdict), (at(24), Verdict::Healthy));
        assert!(first.message.starts_with("24 ä") && first.message.len() <= MESSAGE_OCTETS_MAX);
        let within = Duration::from_secs(5);
        let (told, _) = history.tell(&AppId::new("shop"), |_| true, within, (0, 1), at(40));
        assert_eq!(told[0].changes.len(), 5);
    }

    #[test]
    fn targets_are_bounded_and_those_that_are_gone_make_room() {
        let mut history = History::new();
        for number in 0..TARGETS_MAX + 100 {
            history.ran(&ran(number, 1, Some(100)));
        }
        assert_eq!(history.targets(), TARGETS_MAX);
        history.ran(&ran(7, 80_000, Some(100)));
        history.expire(at(KEPT.as_secs() + 2));
        assert_eq!(history.targets(), 1, "only one was heard of");
        let (told, more) = history.tell(&AppId::new("shop"), |_| true, KEPT, (0, 10), at(KEPT.as_secs()));
        assert_eq!((told.len(), more), (1, false));
    }

    #[test]
    fn addresses_that_a_host_name_left_make_room_first() {
        let mut history = History::new();
        let of_host = |number| {
            let mut outcome = ran(number, 1, Some(100));
            outcome.target.endpoint = Endpoint::Host(crate::model::Name::parse("lb.example.com.").unwrap());
            outcome
        };
        history.ran(&ran(1, 1, Some(100)));
        for number in 2..TARGETS_MAX + 100 {
            history.ran(&of_host(number));
        }
        assert_eq!(history.targets(), TARGETS_MAX);
        let is_known = |history: &History, number| {
            let (told, _) = history.tell(&AppId::new("shop"), |_| true, KEPT, (0, TARGETS_MAX), at(2));
            told.iter().any(|one| one.target.address == target(number).address)
        };
        let outcome = of_host(2);
        let left = outcome.target;
        history.resolved(&left.app, &left.region, &left.endpoint, &[target(3).address, target(4).address]);
        assert!(is_known(&history, 2), "as long as there is room");
        // One that is back meanwhile stays.
        history.ran(&of_host(5));
        history.ran(&ran(TARGETS_MAX + 500, 2, Some(100)));
        let known: Vec<usize> = (1..10).filter(|number| is_known(&history, *number)).collect();
        assert_eq!((known, history.targets()), (vec![1, 3, 4, 5], 5));
    }

    #[test]
    fn a_sweep_goes_on_where_the_last_one_ended_and_passes_over_nobody() {
        let mut history = History::new();
        let of_app = |number: usize, seconds| {
            let mut outcome = ran(number, seconds, Some(100));
            outcome.target.app = AppId::new(&format!("app{number:04}"));
            outcome
        };
        for number in 0..1_200 {
            history.ran(&of_app(number, 1));
        }
        history.ran(&of_app(0, 80_000));
        history.ran(&of_app(1_199, 80_000));
        let after = [1_200 - 499, 1_200 - 999, 2, 2];
        for left in after {
            history.expire(at(KEPT.as_secs() + 2));
            assert_eq!(history.targets(), left);
        }
    }

    #[test]
    fn pages_are_told_in_order() {
        let mut history = History::new();
        for number in 0..5 {
            history.ran(&ran(number, 1, Some(100)));
        }
        let page = |skip| {
            let (told, more) = history.tell(&AppId::new("shop"), |one| *one != target(0), KEPT, (skip, 2), at(2));
            (told.into_iter().map(|one| one.target).collect::<Vec<_>>(), more)
        };
        assert_eq!(page(0), (vec![target(1), target(2)], true));
        assert_eq!(page(2), (vec![target(3), target(4)], false));
    }

    proptest! {
        #[test]
        fn the_percentile_is_right_within_a_quarter(times in prop::collection::vec(16_u64..16_000_000, 1..400)) {
            let mut history = History::new();
            for took in &times {
                history.ran(&ran(1, 1, Some(*took)));
            }
            let (_, bucket) = tell(&history, 1, 2)[0].buckets[0];
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let exact = sorted[sorted.len() - sorted.len() / 100 - 1] as f64;
            let found = f64::from(bucket.p99_us);
            prop_assert!(found >= exact && found <= exact * 1.26, "{found} for {exact}");
            prop_assert_eq!((u64::from(bucket.least_us), u64::from(bucket.most_us)), (sorted[0], sorted[sorted.len() - 1]));
            let mean = times.iter().sum::<u64>() / times.len() as u64;
            prop_assert_eq!(u64::from(bucket.mean_us), mean);
        }
    }
}
