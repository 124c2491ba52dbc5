//! Runs that say nothing of the endpoint, and the freezing of verdicts, on the whole book.

use super::*;

/// An outcome that failed for a reason.
fn failed(address: &str, region: &str, at: Mono, reason: FailReason) -> Outcome {
    let mut outcome = outcome(address, 0, at, Some("it failed"));
    outcome.target.region = RegionId::new(region);
    if let Err(failure) = &mut outcome.result {
        failure.reason = reason;
    }
    outcome
}

/// One second later, everything in both regions.
fn everywhere(bench: &mut Bench, reason: Option<FailReason>) -> Vec<Change> {
    let mut changes = bench.after(1);
    for region in ["iad", "fra"] {
        for address in [A, B] {
            let mut one = failed(address, region, bench.now.mono, reason.unwrap_or(FailReason::Timeout));
            if reason.is_none() {
                one.result = Ok(());
            }
            changes.extend(bench.book.observe(&one, bench.now));
        }
    }
    changes
}

/// A book that suspects, with everything healthy.
fn suspecting() -> Bench {
    let mut bench = Bench::new(shop(&[A, B], vec![probe(80)]));
    bench.book.suspect_above(50);
    everywhere(&mut bench, None);
    bench
}

fn counts(bench: &Bench) -> Vec<u64> {
    bench.book.discarded().map(|(_, count)| count).collect()
}

#[test]
fn a_probe_that_cannot_run_is_no_failure_and_goes_unknown_by_staleness() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    bench.outcome(A, 0, None);
    let evidence = bench.iad().evidence_at;
    let mut told = Vec::new();
    for second in 1..=31 {
        told.extend(bench.after(1));
        let one = failed(A, "iad", bench.now.mono, FailReason::Internal);
        told.extend(bench.book.observe(&one, bench.now));
        let expected = if second < 30 { Verdict::Healthy } else { Verdict::Unknown };
        assert_eq!(bench.verdict(A, 0), expected, "after {second} s");
        assert_eq!(bench.iad().cannot_run.as_deref(), Some("tcp: it failed"));
    }
    assert_eq!((bench.iad().evidence_at, counts(&bench)), (evidence, vec![0, 31, 0]));
    assert!(
        bench.iad().reason.contains("a probe cannot run: tcp: it failed"),
        "{}",
        bench.iad().reason
    );
    let begins = |change: &&Change| matches!(change.what, ChangeKind::CannotRun { .. });
    assert_eq!(told.iter().filter(begins).count(), 1, "told once");
    let status = bench.book.target(&target(A, 0)).unwrap();
    assert_eq!((status.failures, status.stale_verdict), (0, Some(Verdict::Healthy)));
    assert!(matches!(status.aside, Some((Discard::CannotRun, _))));
    let over = bench.outcome(A, 0, None);
    assert!(
        over.iter()
            .any(|change| matches!(change.what, ChangeKind::CannotRun { message: None, .. }))
    );
    assert_eq!((bench.verdict(A, 0), &bench.iad().cannot_run), (Verdict::Healthy, &None));
}

#[test]
fn no_answer_while_this_node_was_late_is_no_failure() {
    let (none, second) = (Duration::ZERO, Duration::from_secs(1));
    // (reason, late, took, counted); the time limit is 2 s.
    let cases = [
        (FailReason::Timeout, none, second * 2, true),
        (FailReason::Timeout, second * 2, second * 2, true),
        (FailReason::Timeout, second * 3, second * 2, false),
        (FailReason::Timeout, none, second * 3, true),
        (FailReason::Timeout, none, second * 60, false),
        (FailReason::Connect, second * 60, second / 100, true),
        (FailReason::Connect, none, second * 60, false),
        (FailReason::Status, second * 60, second * 60, true),
    ];
    for (reason, late, took, counted) in cases {
        let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
        bench.outcome(A, 0, None);
        bench.after(5);
        let mut one = failed(A, "iad", bench.now.mono, reason);
        (one.late, one.took) = (late, took);
        bench.book.observe(&one, bench.now);
        let failures = bench.book.target(&target(A, 0)).unwrap().failures;
        assert_eq!(failures, u32::from(counted), "{reason:?} {late:?} {took:?}");
        assert_eq!(counts(&bench)[0], u64::from(!counted));
    }
}

#[test]
fn a_success_counts_however_late_it_is() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    bench.after(5);
    let mut one = outcome(A, 0, bench.now.mono, None);
    (one.late, one.took) = (Duration::from_secs(60), Duration::from_secs(60));
    bench.book.observe(&one, bench.now);
    assert_eq!(bench.verdict(A, 0), Verdict::Healthy);
}

#[test]
fn being_late_again_and_again_is_told() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    for _ in 0..4 {
        bench.after(10);
        let mut one = failed(A, "iad", bench.now.mono, FailReason::Timeout);
        one.late = Duration::from_secs(60);
        bench.book.observe(&one, bench.now);
    }
    assert!(bench.book.is_late(bench.now).is_some());
    bench.after(60);
    assert_eq!(bench.book.is_late(bench.now), None);
}

#[test]
fn when_everything_is_cut_off_verdicts_are_unknown_with_the_last_ones_kept() {
    let mut bench = suspecting();
    let since = bench.iad().since;
    let changes = everywhere(&mut bench, Some(FailReason::Timeout));
    let said = |change: &&Change| change.what == ChangeKind::Prober { suspected: true };
    assert_eq!(changes.iter().filter(said).count(), 2, "one a region");
    assert!(bench.book.suspicion().is_some());
    assert_eq!(bench.iad().health, RegionHealth::Unknown);
    assert_eq!(bench.iad().reason, "2 of 2 endpoints not known: the prober is suspected");
    assert!(bench.iad().since > since);
    let status = bench.book.target(&target(B, 0)).unwrap();
    assert_eq!((status.verdict, status.stale_verdict), (Verdict::Unknown, Some(Verdict::Healthy)));
    for _ in 0..100 {
        everywhere(&mut bench, Some(FailReason::Connect));
    }
    assert_eq!(bench.verdict(A, 0), Verdict::Unknown);
    let again = everywhere(&mut bench, None);
    assert!(again.iter().any(|change| change.what == ChangeKind::Prober { suspected: false }));
    assert_eq!((bench.book.suspicion(), bench.iad().health), (None, RegionHealth::Healthy));
}

#[test]
fn what_fell_with_everything_is_taken_back_and_what_was_sick_before_is_not() {
    let mut app = shop(&[A, B], vec![probe(80)]);
    app.probes[0].fall = 1;
    let mut bench = Bench::new(app);
    bench.book.suspect_above(50);
    for _ in 0..3 {
        everywhere(&mut bench, None);
    }
    bench.outcome(B, 0, REFUSED);
    for _ in 0..20 {
        bench.after(1);
        for (address, region) in [(A, "iad"), (A, "fra"), (B, "fra")] {
            let mut one = failed(address, region, bench.now.mono, FailReason::Timeout);
            one.result = Ok(());
            bench.book.observe(&one, bench.now);
        }
        bench.outcome(B, 0, REFUSED);
    }
    assert_eq!(bench.iad().health, RegionHealth::Degraded);
    everywhere(&mut bench, Some(FailReason::Timeout));
    assert!(bench.book.suspicion().is_some());
    assert_eq!((bench.verdict(A, 0), bench.verdict(B, 0)), (Verdict::Unknown, Verdict::Unhealthy));
    assert_eq!(
        bench.book.target(&target(A, 0)).unwrap().stale_verdict,
        Some(Verdict::Healthy),
        "as before it fell"
    );
}

#[test]
fn monitoring_only_probes_have_no_word() {
    let mut silent = probe(81);
    silent.monitoring_only = true;
    let mut bench = Bench::new(shop(&[A], vec![probe(80), silent]));
    bench.book.suspect_above(50);
    let send = |bench: &mut Bench, probe: usize, cut: bool| {
        bench.after(1);
        for region in ["iad", "fra"] {
            let mut one = outcome(A, probe, bench.now.mono, cut.then_some("no"));
            one.target.region = RegionId::new(region);
            bench.book.observe(&one, bench.now);
        }
    };
    send(&mut bench, 0, false);
    for _ in 0..5 {
        send(&mut bench, 1, true);
    }
    assert_eq!(bench.book.suspicion(), None);
    send(&mut bench, 0, true);
    assert!(bench.book.suspicion().is_some(), "whatever the silent ones say");
}

#[test]
fn a_suspicion_outlives_a_reload_and_ends_as_ever() {
    let mut bench = suspecting();
    everywhere(&mut bench, Some(FailReason::Timeout));
    let mut app = shop(&[A, B], vec![probe(80)]);
    app.ttl = 31;
    bench.book.reconfigure(&fleet(app), bench.now);
    assert!(bench.book.suspicion().is_some());
    for _ in 0..10 {
        everywhere(&mut bench, Some(FailReason::Timeout));
    }
    assert!(bench.book.suspicion().is_some());
    everywhere(&mut bench, None);
    assert_eq!((bench.book.suspicion(), bench.iad().health), (None, RegionHealth::Healthy));
}

#[test]
fn a_suspicion_ends_with_a_config_in_which_nobody_speaks_or_nothing_is_suspected() {
    let begun = || {
        let mut bench = suspecting();
        everywhere(&mut bench, Some(FailReason::Timeout));
        assert!(bench.book.suspicion().is_some());
        bench
    };
    let mut silent = shop(&[A, B], vec![probe(80)]);
    silent.probes[0].monitoring_only = true;
    let mut loud = shop(&[A, B], vec![probe(80)]);
    loud.ttl = 31;
    for (app, above, ends) in [(silent, 50, true), (loud.clone(), 100, true), (loud, 50, false)] {
        let mut bench = begun();
        bench.book.suspect_above(above);
        let changes = bench.book.reconfigure(&fleet(app), bench.now);
        assert_eq!(bench.book.suspicion().is_none(), ends);
        let told = changes.iter().any(|change| change.what == ChangeKind::Prober { suspected: false });
        assert_eq!(told, ends, "names, alerts and proposals wait for it");
    }
    let mut bench = begun();
    bench.book.reconfigure(&Fleet::default(), bench.now);
    assert_eq!(bench.book.suspicion(), None);
}

#[test]
fn no_word_is_expected_of_feeds() {
    let source = crate::model::FeedSource::Posted("shop".to_owned());
    let max_age = Duration::from_secs(60);
    let feed = ProbeSpec {
        kind: ProbeKind::Feed(crate::model::FeedProbe { source, max_age }),
        ..probe(80)
    };
    // Eight feeds and a probe: were feeds expected to speak, never a quarter of all would.
    let probes: Vec<ProbeSpec> = std::iter::once(probe(80)).chain((0..8).map(|_| feed.clone())).collect();
    let mut bench = Bench::new(shop(&[A, B], probes));
    bench.book.suspect_above(50);
    everywhere(&mut bench, None);
    everywhere(&mut bench, Some(FailReason::Timeout));
    assert!(bench.book.suspicion().is_some());
}
