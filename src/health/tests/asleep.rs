//! After this machine was suspended: what is shown stays, and nothing of it counts before it is heard again.

use super::*;

const HOURS: Duration = Duration::from_secs(3 * 3600);

/// Everything that was shown, without what says that it is unconfirmed.
fn shown(bench: &Bench) -> RegionStatus {
    let mut status = bench.iad().clone();
    (status.unconfirmed, status.reason) = (None, String::new());
    status
}

fn confirmed(bench: &Bench) -> Option<RegionHealth> {
    bench.iad().unconfirmed.map(|confirmed| confirmed.health)
}

/// Two endpoints: one well, which says that it is active, and one sick.
fn degraded() -> Bench {
    let mut bench = Bench::new(shop(&[A, B], vec![probe(80)]));
    for _ in 0..3 {
        bench.says(A, 0, Observed::Active);
        bench.outcome(B, 0, REFUSED);
    }
    bench
}

#[test]
fn a_suspension_changes_nothing_that_is_shown_and_confirms_nothing() {
    let mut bench = degraded();
    let before = shown(&bench);
    let changes = bench.book.wake(HOURS, bench.now);
    let whats: Vec<&ChangeKind> = changes
        .iter()
        .filter(|change| change.region == RegionId::new("iad"))
        .map(|change| &change.what)
        .collect();
    assert_eq!(whats, [&ChangeKind::Confirmed { confirmed: false }]);
    assert_eq!(shown(&bench), before, "answers and proposals rest on this");
    assert_eq!(confirmed(&bench), Some(RegionHealth::Unknown));
    assert_eq!(bench.iad().confirmed().observed, Observed::None);
    assert!(
        bench.iad().reason.ends_with("; not confirmed since this machine was suspended"),
        "{}",
        bench.iad().reason
    );
    let unheard = bench.book.region(&AppId::new("shop"), &RegionId::new("fra")).unwrap();
    assert_eq!(unheard.unconfirmed, None, "of nothing there is nothing to confirm");
}

#[test]
fn the_first_success_or_fall_failures_confirm() {
    let mut bench = degraded();
    bench.book.wake(HOURS, bench.now);
    bench.says(A, 0, Observed::Passive);
    assert_eq!(confirmed(&bench), None, "one is well, and the other one makes no difference");
    assert_eq!(
        (bench.iad().health, bench.iad().observed),
        (RegionHealth::Degraded, Observed::Passive)
    );
    let mut sick = Bench::new(shop(&[A], vec![probe(80)]));
    for _ in 0..5 {
        sick.outcome(A, 0, REFUSED);
    }
    sick.book.wake(HOURS, sick.now);
    for failures in 1..=2 {
        sick.outcome(A, 0, REFUSED);
        assert_eq!(sick.book.target(&target(A, 0)).unwrap().failures, failures, "counted anew");
        assert_eq!(
            (sick.iad().health, confirmed(&sick)),
            (RegionHealth::Unhealthy, Some(RegionHealth::Unknown))
        );
    }
    let changes = sick.outcome(A, 0, REFUSED);
    let settled = |change: &Change| change.what == ChangeKind::Confirmed { confirmed: true };
    assert!(changes.iter().any(settled), "whoever waits must look again: {changes:?}");
    assert_eq!((sick.iad().health, confirmed(&sick)), (RegionHealth::Unhealthy, None));
    assert!(!sick.iad().reason.contains("suspended"));
    sick.book.wake(HOURS, sick.now);
    sick.outcome(A, 0, None);
    assert_eq!(
        (sick.iad().health, confirmed(&sick)),
        (RegionHealth::Healthy, None),
        "as from unknown"
    );
}

#[test]
fn a_cut_is_dated_anew_so_that_a_policy_waits_for_a_word_of_the_target() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    for _ in 0..5 {
        bench.outcome(A, 0, REFUSED);
    }
    let before = bench.iad().cut_since.unwrap();
    bench.book.wake(HOURS, bench.now);
    let woke = bench.now.mono;
    for _ in 0..3 {
        bench.outcome(A, 0, REFUSED);
    }
    let cut = bench.iad().cut_since.unwrap();
    assert!(before < woke && cut > woke, "{before:?} {woke:?} {cut:?}");
}

#[test]
fn a_short_suspension_is_counted_as_age_and_changes_nothing_that_is_fresh() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    bench.outcome(A, 0, None);
    bench.after(9);
    assert_eq!(bench.book.wake(Duration::from_secs(20), bench.now), [], "29 s of 30");
    assert_eq!(bench.book.wake(Duration::from_secs(21), bench.now).len(), 1, "30 s of 30");
}

#[test]
fn short_suspensions_add_up_and_bring_the_end_of_what_is_fresh_nearer() {
    let nap = Duration::from_secs(12);
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    bench.outcome(A, 0, None);
    assert_eq!(bench.book.wake(nap, bench.now), []);
    assert_eq!(bench.book.wake(nap, bench.now), [], "24 s of 30");
    let mut other = bench.book.clone();
    assert_eq!(bench.book.wake(nap, bench.now).len(), 1, "36 s of 30");
    assert_eq!(other.next_due(), Some(bench.now.mono.plus(Duration::from_secs(6))));
    bench.after(6);
    assert!(!other.poll(bench.now).is_empty());
    let status = other.region(&AppId::new("shop"), &RegionId::new("iad")).unwrap();
    assert_eq!(status.health, RegionHealth::Unknown);
}

#[test]
fn what_was_under_way_says_nothing_whatever_it_says() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    bench.outcome(A, 0, REFUSED);
    bench.after(1);
    bench.book.wake(HOURS, bench.now);
    for (took, message, counted) in [(5, None, 0), (5, REFUSED, 0), (0, None, 1)] {
        bench.after(1);
        let mut run = outcome(A, 0, bench.now.mono, message);
        run.took = Duration::from_secs(took);
        bench.book.observe(&run, bench.now);
        let status = bench.book.target(&target(A, 0)).unwrap();
        assert_eq!(status.successes, counted);
        assert_eq!(status.aside.map(|(why, _)| why), (counted == 0).then_some(Discard::Late));
    }
    assert_eq!(bench.verdict(A, 0), Verdict::Healthy);
}

#[test]
fn what_is_never_heard_again_goes_stale_as_ever() {
    let mut bench = degraded();
    bench.book.wake(HOURS, bench.now);
    bench.after(30);
    assert_eq!((bench.iad().health, bench.iad().unconfirmed), (RegionHealth::Unknown, None));
    assert_eq!(bench.book.next_due(), None);
    assert_eq!(bench.book.target(&target(B, 0)).unwrap().stale_verdict, Some(Verdict::Unhealthy));
}

#[test]
fn a_role_from_before_goes_with_the_doubt() {
    let mut bench = degraded();
    bench.book.wake(HOURS, bench.now);
    bench.outcome(A, 0, None);
    assert_eq!(
        (bench.iad().observed, bench.iad().unconfirmed),
        (Observed::None, None),
        "well, but it did not say what it is"
    );
}

#[test]
fn a_restart_does_not_confirm_what_is_saved() {
    let mut bench = degraded();
    bench.book.wake(HOURS, bench.now);
    let saved = bench.book.save(bench.now);
    let mut anew = Book::new();
    anew.reconfigure(&fleet(shop(&[A, B], vec![probe(80)])), bench.now);
    anew.restore(&saved, bench.now);
    let iad = anew.region(&AppId::new("shop"), &RegionId::new("iad")).unwrap();
    assert_eq!((iad.health, iad.observed), (RegionHealth::Unknown, Observed::None));
}

#[test]
fn a_suspicion_on_waking_leaves_the_sick_sick_and_unconfirmed() {
    let mut bench = degraded();
    bench.book.suspect_above(50);
    bench.book.wake(HOURS, bench.now);
    // The network is not up yet: everything is cut off, everywhere.
    for _ in 0..45 {
        bench.after(1); // longer than anything stays fresh
        for (address, region) in [(A, "iad"), (B, "iad"), (A, "fra"), (B, "fra")] {
            let mut cut = outcome(address, 0, bench.now.mono, REFUSED);
            cut.target.region = RegionId::new(region);
            bench.book.observe(&cut, bench.now);
        }
    }
    assert!(bench.book.suspicion().is_some());
    assert_eq!(bench.verdict(A, 0), Verdict::Unknown);
    assert_eq!(bench.verdict(B, 0), Verdict::Unhealthy, "left out of the answer as before");
    let fra = bench.book.region(&AppId::new("shop"), &RegionId::new("fra")).unwrap();
    assert_eq!(fra.health, RegionHealth::Unknown);
}

proptest! {
    /// What is confirmed is kept up to date as counting anew finds it, and a reload in between makes no difference.
    #[test]
    fn what_is_confirmed_is_what_counting_anew_finds(
        steps in prop::collection::vec((0_usize..3, 0_usize..2, 0_u8..6, 0_u64..12), 0..80),
    ) {
        let hosts = [A, B, "2001:db8::1"];
        let app = shop(&hosts, vec![probe(1), probe(2)]);
        let mut bench = Bench::new(app.clone());
        for (host, probe, what, wait) in steps {
            bench.after(wait);
            match what {
                0 | 1 => bench.outcome(hosts[host], probe, None),
                2 => bench.outcome(hosts[host], probe, REFUSED),
                3 => bench.says(hosts[host], probe, Observed::Active),
                4 => bench.says(hosts[host], probe, Observed::Passive),
                _ => bench.book.wake(Duration::from_secs(wait * 4), bench.now),
            };
            let mut renewed = bench.book.clone();
            let mut renamed = app.clone();
            renamed.ttl = 31;
            prop_assert_eq!(renewed.reconfigure(&fleet(renamed), bench.now), vec![]);
            prop_assert_eq!(renewed.region(&AppId::new("shop"), &RegionId::new("iad")).unwrap(), bench.iad());
            let unconfirmed = bench.book.apps.get(&AppId::new("shop")).unwrap().regions[0].1.cells().any(|cell| cell.unconfirmed.is_some());
            prop_assert!(unconfirmed || bench.iad().unconfirmed.is_none());
        }
        bench.after(30);
        prop_assert_eq!(bench.iad().unconfirmed, None);
    }
}
