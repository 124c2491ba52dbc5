//! The laws of suspicion, by virtual polls.

use super::*;
use proptest::prelude::*;

const HEALTHY: Verdict = Verdict::Healthy;

/// A poll over probes in regions, each with its cycle in milliseconds.
struct Bench {
    poll: Poll,
    probes: Vec<(RegionId, Voice)>,
    now: Mono,
}

impl Bench {
    fn new(regions: &[&str], cycles_ms: &[u64], above: u8) -> Bench {
        let mut poll = Poll::default();
        poll.suspect_above(above);
        let mut places: Vec<&str> = regions.to_vec();
        places.sort_unstable();
        places.dedup();
        poll.places = places.iter().enumerate().map(|(at, region)| (RegionId::new(region), at)).collect();
        let mut lengths: Vec<u64> = cycles_ms.to_vec();
        lengths.sort_unstable();
        lengths.dedup();
        poll.windows = lengths
            .iter()
            .map(|length| {
                let mut window = Window::new(Duration::from_millis(*length), places.len());
                let expects = |cycle: &u64| (WORD * length).checked_div(*cycle).unwrap_or(WORD).min(WORD);
                window.expected = cycles_ms.iter().map(expects).sum();
                window
            })
            .collect();
        Bench {
            poll,
            probes: regions.iter().map(|region| (RegionId::new(region), Voice::default())).collect(),
            now: Mono::ORIGIN,
        }
    }

    /// After some milliseconds, a word of a probe.
    fn word(&mut self, wait_ms: u64, probe: usize, cut: bool) -> Option<Turn> {
        self.now = self.now.plus(Duration::from_millis(wait_ms));
        let (region, voice) = &mut self.probes[probe];
        *voice = self.poll.hear(region, *voice, HEALTHY, cut, self.now);
        self.poll.weigh(self.now)
    }

    /// Every probe in turn, `gap_ms` apart; what came of it.
    fn round(&mut self, gap_ms: u64, cut: impl Fn(usize) -> bool) -> Vec<Turn> {
        (0..self.probes.len())
            .filter_map(|probe| self.word(gap_ms, probe, cut(probe)))
            .collect()
    }
}

#[test]
fn above_half_is_suspected_and_half_is_not() {
    let mut bench = Bench::new(&["iad", "fra"], &[5_000, 5_000], 50);
    for _ in 0..10 {
        assert_eq!(bench.round(2_000, |_| false), []);
    }
    assert_eq!(bench.round(1_000, |probe| probe == 0), [], "one of two regions");
    assert!(matches!(bench.round(1_000, |_| true)[..], [Turn::Begins(_)]), "the other as well");
    let figures = bench.poll.suspicion().unwrap().figures;
    let expected = Figures {
        heard: 2,
        cut: 2,
        regions: 2,
        regions_cut: 2,
    };
    assert_eq!(figures, expected);
}

#[test]
fn a_share_of_100_percent_suspects_nothing_and_ends_what_is_suspected() {
    let mut bench = Bench::new(&["iad", "fra"], &[5_000, 5_000], 100);
    bench.round(1_000, |_| false);
    assert_eq!(bench.round(1_000, |_| true), []);
    bench.poll.suspect_above(50);
    bench.round(1_000, |_| false);
    assert_eq!(bench.round(1_000, |_| true).len(), 1);
    bench.poll.suspect_above(100);
    assert_eq!(bench.word(1, 0, true), Some(Turn::Ends));
}

#[test]
fn the_loss_of_a_region_is_one_however_many_endpoints_it_holds() {
    let regions: Vec<&str> = (0..40).map(|at| if at < 38 { "iad" } else { "fra" }).collect();
    let mut bench = Bench::new(&regions, &[5_000; 40], 50);
    for _ in 0..3 {
        assert_eq!(bench.round(100, |_| false), []);
    }
    for _ in 0..5 {
        assert_eq!(bench.round(100, |probe| probe < 38), []);
    }
}

#[test]
fn what_is_cut_off_for_long_has_nothing_new_to_say() {
    let regions = ["iad", "iad", "iad", "fra", "fra", "fra"];
    let mut bench = Bench::new(&regions, &[5_000; 6], 50);
    let sick = |probe: usize| probe == 0 || probe == 3;
    for _ in 0..3 {
        bench.round(800, |_| false);
    }
    for _ in 0..20 {
        assert_eq!(bench.round(800, sick), [], "a third");
    }
    assert_eq!(bench.round(800, |probe| sick(probe) || probe == 1), [], "one more of four");
    let heard = bench.poll.windows[0].all;
    assert_eq!(
        (heard.heard, heard.cut),
        (4, 1),
        "the two that are sick for long are on neither side"
    );
}

#[test]
fn the_first_words_after_a_start_are_not_everything() {
    let regions: Vec<&str> = (0..100).map(|at| if at % 2 == 0 { "iad" } else { "fra" }).collect();
    let mut bench = Bench::new(&regions, &[5_000; 100], 50);
    assert_eq!(
        bench.round(10, |probe| probe < 10),
        [],
        "ten of a hundred are down, and are heard first"
    );
}

#[test]
fn fast_probes_are_heard_in_their_own_time_and_slow_ones_can_speak_against_it() {
    let regions: Vec<&str> = (0..22).map(|at| if at % 2 == 0 { "iad" } else { "fra" }).collect();
    let mut cycles = [60_000; 22];
    (cycles[0], cycles[1]) = (1_000, 1_000);
    let mut bench = Bench::new(&regions, &cycles, 50);
    let slow_round = |bench: &mut Bench, cut: bool| -> Vec<Turn> {
        let mut turns = Vec::new();
        for slow in 2..22 {
            for _ in 0..3 {
                turns.extend(bench.word(500, 0, cut));
                turns.extend(bench.word(500, 1, cut));
            }
            turns.extend(bench.word(0, slow, cut));
        }
        turns
    };
    assert_eq!(slow_round(&mut bench, false), []);
    let before = bench.now;
    assert!(matches!(slow_round(&mut bench, true)[..], [Turn::Begins(_), ..]));
    let since = bench.poll.suspicion().unwrap().since.since(before);
    assert!(
        since <= Duration::from_secs(2),
        "two fast probes are enough where nobody speaks against it: {since:?}"
    );
    // The slow ones are reached: only the two fast ones are not, and that is theirs.
    let mut ended = false;
    for slow in 2..22 {
        for _ in 0..3 {
            ended |= bench.word(500, 0, true) == Some(Turn::Ends);
            ended |= bench.word(500, 1, true) == Some(Turn::Ends);
        }
        ended |= bench.word(0, slow, false) == Some(Turn::Ends);
    }
    assert!(ended);
    assert_eq!(bench.poll.suspicion(), None, "and it does not begin again");
}

#[test]
fn it_ends_after_its_window_when_enough_is_reached_again() {
    let mut bench = Bench::new(&["iad", "fra"], &[5_000, 5_000], 50);
    bench.round(1_000, |_| false);
    assert_eq!(bench.round(1_000, |_| true).len(), 1);
    for _ in 0..1_000 {
        assert_eq!(bench.round(2_000, |_| true), [], "nothing is reached: nothing is concluded");
    }
    assert_eq!(bench.word(1_000, 1, false), Some(Turn::Ends), "one of two is half");
    for _ in 0..5 {
        assert_eq!(
            bench.round(2_000, |probe| probe == 0),
            [],
            "and the other one is sick in its own right"
        );
    }
}

#[test]
fn a_region_that_is_reached_for_a_minute_without_a_break_ends_it() {
    let mut bench = Bench::new(&["iad", "fra", "lon"], &[5_000; 3], 50);
    bench.round(1_000, |_| false);
    let lon_lives = |probe: usize| probe < 2;
    assert_eq!(bench.round(1_000, lon_lives).len(), 1);
    let began = bench.now;
    bench.round(1_000, |_| true);
    let broken = bench.now;
    while bench.poll.suspicion().is_some() {
        bench.round(1_000, lon_lives);
        assert!(bench.now.since(began) < Duration::from_secs(100), "it never ends");
    }
    let took = bench.now.since(broken);
    assert!(took >= STANDS_FOR && took < Duration::from_secs(70), "{took:?}");
}

/// Two fast probes and twenty slow ones in two regions; everything is cut off for eight minutes.
fn after_an_outage() -> Bench {
    let regions: Vec<&str> = (0..22).map(|at| if at % 2 == 0 { "iad" } else { "fra" }).collect();
    let mut cycles = [600_000; 22];
    (cycles[0], cycles[1]) = (1_000, 1_000);
    let mut bench = Bench::new(&regions, &cycles, 50);
    let minutes = |bench: &mut Bench, count: u64, cut: bool| {
        for half_minute in 0..count * 2 {
            for _ in 0..30 {
                bench.word(500, 0, cut);
                bench.word(500, 1, cut);
            }
            bench.word(0, 2 + (half_minute as usize % 20), cut);
        }
    };
    minutes(&mut bench, 10, false);
    assert_eq!(bench.poll.suspicion(), None);
    minutes(&mut bench, 8, true);
    assert!(bench.poll.suspicion().is_some());
    bench
}

#[test]
fn the_slow_are_not_waited_for_once_the_fast_are_reached_for_a_minute() {
    let mut bench = after_an_outage();
    let back = bench.now;
    while bench.poll.suspicion().is_some() {
        bench.word(500, 0, false);
        bench.word(500, 1, false);
        assert!(
            bench.now.since(back) < Duration::from_secs(70),
            "what the slow ones said is minutes old"
        );
    }
    assert!(bench.now.since(back) >= STANDS_FOR, "a moment is not enough");
    for _ in 0..600 {
        let turns = (bench.word(500, 0, false), bench.word(500, 1, false));
        assert_eq!(turns, (None, None), "what the slow ones said before does not begin it again");
    }
    bench.word(500, 0, true);
    assert!(
        matches!(bench.word(500, 1, true), Some(Turn::Begins(_))),
        "another outage is another suspicion"
    );
}

#[test]
fn a_moment_in_which_the_fast_are_reached_ends_nothing() {
    let mut bench = after_an_outage();
    for round in 0..600 {
        // Reached for half a minute, then cut off for some seconds.
        let cut = round % 40 >= 30;
        bench.word(500, 0, cut);
        bench.word(500, 1, cut);
        assert!(bench.poll.suspicion().is_some(), "after {round} s");
    }
    // One word of a slow one, and silence about its region: it is of late for two windows only.
    for round in 0..600 {
        if round == 0 {
            bench.word(0, 3, false);
        }
        bench.word(1_000, 0, true);
        assert!(bench.poll.suspicion().is_some(), "after {round} s");
    }
}

proptest! {
    /// The sums kept while words come are those found by looking at every word again.
    #[test]
    fn the_sums_are_those_of_the_words(
        steps in prop::collection::vec((0_u64..900, 0_usize..6, any::<bool>(), 0_u8..20), 1..200), above in 50_u8..=100,
    ) {
        let regions = ["iad", "iad", "fra", "fra", "lon", "lon"];
        let mut bench = Bench::new(&regions, &[1_000, 1_000, 4_000, 4_000, 4_000, 20_000], above);
        let mut gone = [false; 6];
        for (wait, probe, cut, other) in steps {
            if gone[probe] {
                continue;
            }
            bench.word(wait, probe, cut);
            if other == 0 {
                let (region, voice) = bench.probes[probe].clone();
                bench.poll.forget(&region, voice);
                gone[probe] = true;
            }
            let live = || bench.probes.iter().zip(gone).filter(|(_, gone)| !gone).map(|(one, _)| one);
            for window in &bench.poll.windows {
                let counts = |word: &Word| bench.poll.ended_at.is_none_or(|ended| word.at > ended);
                let words = live().filter_map(|(_, voice)| voice.word).filter(counts);
                let heard: Vec<Word> = words.filter(|word| window.slot - window.slot_of(word.at) < SLOTS).collect();
                let cut = heard.iter().filter(|word| word.cut).count();
                prop_assert_eq!((window.all.heard as usize, window.all.cut as usize), (heard.len(), cut));
                prop_assert_eq!(window.regions.iter().map(|count| count.heard).sum::<u32>(), window.all.heard);
            }
            if let Some(present) = &bench.poll.present {
                let number = bench.poll.number;
                let heard = live().filter_map(|(_, voice)| voice.heard).filter(|heard| heard.number == number);
                let of_late = heard.clone().filter(|heard| present.recent.slot - present.recent.slot_of(heard.word.at) < SLOTS);
                prop_assert_eq!(present.recent.all.heard as usize, of_late.count());
                prop_assert_eq!(present.regions.iter().map(|count| count.heard as usize).sum::<usize>(), heard.count());
                prop_assert!(above < 100 && present.began.figures.regions >= 2);
            }
        }
    }
}
