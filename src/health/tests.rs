//! Tests of the module: the rules one by one, the counters against a naive model, and size.

use super::*;
use crate::model::{FailReason, Failover, Failure, Name, PostgresProbe, ProbeKind, ProbeSpec, Require, TcpProbe, Wall, WhenAllDown};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

mod asleep;
mod hearsay;
mod rotation;
mod truth;

/// A probe with the thresholds 3 and 2, stale after 30 s.
fn probe(port: u16) -> ProbeSpec {
    let kind = ProbeKind::Tcp(TcpProbe {
        port,
        send: None,
        expect: None,
    });
    ProbeSpec {
        stale_after: Duration::from_secs(30),
        ..ProbeSpec::new(kind)
    }
}

/// An application `shop` in `iad` and `fra`, each with these endpoints.
fn shop(endpoints: &[&str], probes: Vec<ProbeSpec>) -> App {
    let (iad, fra) = (RegionId::new("iad"), RegionId::new("fra"));
    let parse = |text: &&str| {
        text.parse()
            .map_or_else(|_| Endpoint::Host(Name::parse(text).unwrap()), Endpoint::Address)
    };
    let all: Vec<Endpoint> = endpoints.iter().map(parse).collect();
    App {
        id: AppId::new("shop"),
        name: Name::parse("shop.example.net.").unwrap(),
        regions: vec![iad.clone(), fra.clone()],
        ttl: 30,
        failover: Failover::Manual,
        failover_delay: Duration::ZERO,
        failback_delay: Duration::ZERO,
        cooldown: Duration::ZERO,
        when_all_down: WhenAllDown::Active,
        require: Require::All,
        paired: BTreeMap::new(),
        endpoints: BTreeMap::from([(iad, all.clone()), (fra, all)]),
        probes,
    }
}

/// A fleet of one application.
fn fleet(app: App) -> Fleet {
    Fleet::new(BTreeMap::new(), vec![Arc::new(app)])
}

/// The start of a test.
fn start() -> Now {
    Now {
        mono: Mono::ORIGIN,
        wall: Wall(1_795_252_365_000),
    }
}

/// A book in virtual time.
struct Bench {
    book: Book,
    now: Now,
}

impl Bench {
    fn new(app: App) -> Bench {
        let mut book = Book::new();
        assert_eq!(book.reconfigure(&fleet(app), start()), []);
        Bench { book, now: start() }
    }

    fn after(&mut self, seconds: u64) -> Vec<Change> {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.book.poll(self.now)
    }

    /// One second later, an outcome in `iad`.
    fn outcome(&mut self, address: &str, probe: usize, message: Option<&str>) -> Vec<Change> {
        self.after(1);
        let outcome = outcome(address, probe, self.now.mono, message);
        self.book.observe(&outcome, self.now)
    }

    fn says(&mut self, address: &str, probe: usize, observed: Observed) -> Vec<Change> {
        self.after(1);
        let mut outcome = outcome(address, probe, self.now.mono, None);
        outcome.observed = Some(observed);
        self.book.observe(&outcome, self.now)
    }

    fn iad(&self) -> &RegionStatus {
        self.book.region(&AppId::new("shop"), &RegionId::new("iad")).unwrap()
    }

    fn verdict(&self, address: &str, probe: usize) -> Verdict {
        self.book.target(&target(address, probe)).unwrap().verdict
    }
}

fn target(address: &str, probe: usize) -> ProbeTarget {
    ProbeTarget {
        app: AppId::new("shop"),
        region: RegionId::new("iad"),
        endpoint: Endpoint::Address(address.parse().unwrap()),
        address: address.parse().unwrap(),
        probe,
    }
}

fn outcome(address: &str, probe: usize, at: Mono, message: Option<&str>) -> Outcome {
    let failure = |message: &str| Failure {
        reason: FailReason::Connect,
        message: message.to_owned(),
    };
    let result = message.map_or(Ok(()), |message| Err(failure(message)));
    Outcome::new(target(address, probe), at, Duration::from_millis(3), result)
}

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const REFUSED: Option<&str> = Some("connection refused");

#[test]
fn the_first_success_makes_healthy() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    assert_eq!(bench.iad().health, RegionHealth::Unknown);
    assert_eq!(bench.iad().reason, "no fresh evidence from 1 of 1 endpoint");
    let changes = bench.outcome(A, 0, None);
    let kinds: Vec<&ChangeKind> = changes.iter().map(|change| &change.what).collect();
    assert!(
        matches!(
            kinds[..],
            [
                ChangeKind::Probe { .. },
                ChangeKind::Endpoint { .. },
                ChangeKind::Region {
                    from: RegionHealth::Unknown,
                    to: RegionHealth::Healthy
                }
            ]
        ),
        "{kinds:?}"
    );
    assert_eq!(bench.iad().reason, "1 of 1 endpoint healthy");
    assert_eq!(bench.iad().since, bench.now.mono);
    assert_eq!(bench.iad().evidence_at, Some(bench.now.mono));
}

#[test]
fn fall_failures_before_any_success_make_unhealthy() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    assert_eq!(bench.outcome(A, 0, REFUSED), []);
    assert_eq!(bench.outcome(A, 0, REFUSED), []);
    assert_eq!(bench.outcome(A, 0, REFUSED).len(), 3);
    assert_eq!(bench.iad().health, RegionHealth::Unhealthy);
    assert_eq!(bench.iad().reason, "1 of 1 endpoint fails: tcp: connection refused");
}

#[test]
fn the_failure_counter_leaks_only_by_rise_successes_in_a_row() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    bench.outcome(A, 0, None);
    for failure in 1..=2 {
        bench.outcome(A, 0, REFUSED);
        bench.outcome(A, 0, None);
        assert_eq!(bench.book.target(&target(A, 0)).unwrap().failures, failure);
    }
    assert_eq!(bench.verdict(A, 0), Verdict::Healthy);
    bench.outcome(A, 0, REFUSED);
    assert_eq!(bench.verdict(A, 0), Verdict::Unhealthy, "a failure every second run is no health");
    bench.outcome(A, 0, None);
    bench.outcome(A, 0, REFUSED);
    bench.outcome(A, 0, None);
    assert_eq!(bench.verdict(A, 0), Verdict::Unhealthy);
    assert_eq!(bench.iad().reason, "1 of 1 endpoint fails: tcp: recovering");
    bench.outcome(A, 0, None);
    assert_eq!(bench.verdict(A, 0), Verdict::Healthy);
    assert_eq!(bench.book.target(&target(A, 0)).unwrap().failures, 0);
}

#[test]
fn stale_evidence_is_unknown_and_keeps_the_last_verdict_visible() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    for _ in 0..3 {
        bench.outcome(A, 0, REFUSED);
    }
    let last = bench.now.mono;
    assert_eq!(bench.book.next_due(), Some(last.plus(Duration::from_secs(30))));
    assert_eq!(bench.after(29), []);
    let changes = bench.after(1);
    assert!(matches!(&changes[0].what, ChangeKind::Probe { message, .. } if message == "no fresh evidence, was unhealthy"));
    assert_eq!(bench.iad().health, RegionHealth::Unknown);
    assert_eq!(bench.iad().evidence_at, Some(last));
    assert_eq!(bench.book.next_due(), None);
    let status = bench.book.target(&target(A, 0)).unwrap();
    assert_eq!((status.verdict, status.stale_verdict), (Verdict::Unknown, Some(Verdict::Unhealthy)));
    assert_eq!(status.last.unwrap().at, last);
    bench.outcome(A, 0, None);
    assert_eq!(
        bench.verdict(A, 0),
        Verdict::Healthy,
        "unknown starts anew: the first success decides"
    );
}

#[test]
fn an_outcome_that_comes_too_late_is_stale_at_once() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    bench.after(100);
    let old = outcome(A, 0, Mono::ORIGIN.plus(Duration::from_secs(10)), None);
    assert_eq!(bench.book.observe(&old, bench.now), []);
    let status = bench.book.target(&target(A, 0)).unwrap();
    assert_eq!((status.verdict, status.stale_verdict), (Verdict::Unknown, Some(Verdict::Healthy)));
}

#[test]
fn outcomes_out_of_order_twice_or_of_removed_targets_change_nothing() {
    let mut bench = Bench::new(shop(&[A], vec![probe(80)]));
    bench.after(10);
    let first = outcome(A, 0, bench.now.mono, REFUSED);
    for _ in 0..5 {
        assert_eq!(bench.book.observe(&first, bench.now), []);
    }
    let earlier = outcome(A, 0, bench.now.mono.minus(Duration::from_secs(1)), None);
    assert_eq!(bench.book.observe(&earlier, bench.now), []);
    assert_eq!(bench.book.target(&target(A, 0)).unwrap().failures, 1);
    for unknown in [outcome(B, 0, bench.now.mono, None), outcome(A, 1, bench.now.mono, None)] {
        assert_eq!(bench.book.observe(&unknown, bench.now.plus(Duration::from_secs(1))), []);
    }
    let mut elsewhere = outcome(A, 0, bench.now.plus(Duration::from_secs(1)).mono, None);
    elsewhere.target.app = AppId::new("gone");
    assert_eq!(bench.book.observe(&elsewhere, bench.now.plus(Duration::from_secs(1))), []);
}

#[test]
fn require_counts_the_probes_and_monitoring_only_ones_are_shown_not_counted() {
    let mut silent = probe(4);
    silent.monitoring_only = true;
    let mut app = shop(&[A], vec![probe(1), probe(2), probe(3), silent]);
    app.require = Require::AtLeast(2);
    let mut bench = Bench::new(app.clone());
    bench.outcome(A, 0, None);
    bench.outcome(A, 3, None);
    assert_eq!(
        bench.iad().health,
        RegionHealth::Unknown,
        "one of three is not enough, the fourth does not count"
    );
    bench.outcome(A, 1, None);
    assert_eq!(bench.iad().health, RegionHealth::Healthy);
    for _ in 0..3 {
        bench.outcome(A, 0, REFUSED);
    }
    assert_eq!(bench.iad().health, RegionHealth::Unknown, "one healthy, one unhealthy, one unknown");
    for _ in 0..3 {
        bench.outcome(A, 2, Some("no answer within 2s"));
    }
    assert_eq!(bench.iad().health, RegionHealth::Unhealthy, "two can no longer be reached");
    assert_eq!(
        bench.iad().reason,
        "1 of 1 endpoint fails: tcp (probe 1): connection refused, tcp (probe 3): no answer within 2s"
    );
    app.require = Require::All;
    let mut bench = Bench::new(app);
    for probe in 0..3 {
        assert_eq!(bench.iad().health, RegionHealth::Unknown);
        bench.outcome(A, probe, None);
    }
    for _ in 0..3 {
        bench.outcome(A, 3, REFUSED);
    }
    assert_eq!(bench.verdict(A, 3), Verdict::Unhealthy);
    assert_eq!(bench.iad().health, RegionHealth::Healthy);
    let before = bench.iad().evidence_at;
    bench.outcome(A, 3, REFUSED);
    assert_eq!(bench.iad().evidence_at, before, "only counting probes are evidence");
}

#[test]
fn a_region_is_degraded_when_some_endpoints_are_healthy() {
    let mut bench = Bench::new(shop(&[A, B], vec![probe(80)]));
    bench.outcome(A, 0, None);
    assert_eq!(bench.iad().health, RegionHealth::Degraded, "one healthy, one unknown");
    for _ in 0..3 {
        bench.outcome(B, 0, REFUSED);
    }
    assert_eq!(bench.iad().health, RegionHealth::Degraded);
    assert_eq!(bench.iad().reason, "1 of 2 endpoints fails: tcp: connection refused");
    for _ in 0..3 {
        bench.outcome(A, 0, Some("no answer within 2s"));
    }
    assert_eq!(bench.iad().health, RegionHealth::Unhealthy);
    assert_eq!(
        bench.iad().reason,
        "2 of 2 endpoints fail: tcp: no answer within 2s, tcp: connection refused"
    );
    bench.outcome(A, 0, Some("connection refused"));
    assert_eq!(bench.iad().reason, "2 of 2 endpoints fail: tcp: connection refused");
    let verdicts: Vec<Verdict> = bench.iad().endpoints.iter().map(|one| one.verdict).collect();
    assert_eq!(verdicts, [Verdict::Unhealthy, Verdict::Unhealthy]);
}

#[test]
fn a_region_without_counting_probes_is_not_probed() {
    let mut silent = probe(80);
    silent.monitoring_only = true;
    let monitored = "not probed: every probe is monitoring-only and none counts";
    for (probes, reason) in [(vec![], "not probed"), (vec![silent], monitored)] {
        let mut bench = Bench::new(shop(&[A], probes));
        bench.outcome(A, 0, None);
        assert_eq!((bench.iad().health, bench.iad().reason.as_str()), (RegionHealth::Unknown, reason));
    }
}

#[test]
fn a_host_name_without_an_address_is_named() {
    let bench = Bench::new(shop(&["db.example.com."], vec![probe(80)]));
    assert_eq!(
        bench.iad().reason,
        "no look-up of db.example.com. has given an address yet, so there is nothing to probe"
    );
}

#[test]
fn the_observed_role_is_active_if_one_endpoint_freshly_says_so() {
    let mut bench = Bench::new(shop(&[A, B], vec![probe(80)]));
    bench.says(A, 0, Observed::Passive);
    assert_eq!(bench.iad().observed, Observed::Passive);
    let changes = bench.says(B, 0, Observed::Active);
    let what = ChangeKind::Observed {
        from: Observed::Passive,
        to: Observed::Active,
    };
    assert!(changes.iter().any(|change| change.what == what), "{changes:?}");
    bench.outcome(B, 0, REFUSED);
    assert_eq!(bench.iad().observed, Observed::Active, "a run that could not ask does not unsay it");
    for _ in 0..26 {
        bench.outcome(B, 0, REFUSED);
        bench.says(A, 0, Observed::Passive);
    }
    assert_eq!(bench.iad().observed, Observed::Passive, "said too long ago");
    bench.says(A, 0, Observed::None);
    assert_eq!(bench.iad().observed, Observed::None);
    assert_eq!(bench.iad().observed_since, bench.now.mono);
}

#[test]
fn a_host_name_is_judged_over_its_addresses_and_keeps_them() {
    let host = "lb.example.com.";
    let mut bench = Bench::new(shop(&[host], vec![probe(80)]));
    let (app, iad, endpoint) = (AppId::new("shop"), RegionId::new("iad"), Endpoint::Host(Name::parse(host).unwrap()));
    let addresses: Vec<IpAddr> = [A, B].iter().map(|text| text.parse().unwrap()).collect();
    let send = |bench: &mut Bench, address: &str, message| {
        bench.after(1);
        let mut outcome = outcome(address, 0, bench.now.mono, message);
        outcome.target.endpoint = endpoint.clone();
        bench.book.observe(&outcome, bench.now)
    };
    assert_eq!(send(&mut bench, A, None), [], "not resolved yet");
    bench.book.resolved(&app, &iad, &endpoint, &addresses, bench.now);
    assert_eq!(bench.book.targets(&app).len(), 2);
    for _ in 0..3 {
        send(&mut bench, A, REFUSED);
    }
    assert_eq!(bench.iad().health, RegionHealth::Unknown, "the other is unknown");
    send(&mut bench, B, None);
    assert_eq!(bench.iad().health, RegionHealth::Healthy, "any healthy address");
    let elsewhere = bench.book.region(&app, &RegionId::new("fra")).unwrap();
    assert_eq!(
        elsewhere.health,
        RegionHealth::Unknown,
        "the same host name in another region is another endpoint"
    );
    assert_eq!(bench.book.resolved(&app, &iad, &endpoint, &[], bench.now), [], "a failed look-up");
    assert_eq!(bench.iad().health, RegionHealth::Healthy);
    bench.book.resolved(&app, &iad, &endpoint, &addresses[..1], bench.now);
    assert_eq!(bench.iad().health, RegionHealth::Unhealthy);
    bench.after(100);
    assert_eq!(bench.book.next_due(), None, "nothing of the address that went is left");
}

#[test]
fn reconfiguring_keeps_what_did_not_change() {
    let mut bench = Bench::new(shop(&[A, B], vec![probe(80), probe(81)]));
    for probe in [0, 1] {
        bench.outcome(A, probe, None);
        for _ in 0..3 {
            bench.outcome(B, probe, REFUSED);
        }
    }
    let before = bench.iad().clone();
    let same = bench.book.reconfigure(&fleet(shop(&[A, B], vec![probe(80), probe(81)])), bench.now);
    assert_eq!((same, bench.iad().clone()), (vec![], before.clone()));
    // Probes change places: the cells go with them.
    let swapped = bench.book.reconfigure(&fleet(shop(&[B, A], vec![probe(81), probe(80)])), bench.now);
    assert_eq!((swapped, bench.iad().health), (vec![], RegionHealth::Degraded));
    // What was under way under the old numbers is of the other probe.
    let late = outcome(A, 0, bench.now.mono.minus(Duration::from_millis(1)), REFUSED);
    assert_eq!(bench.book.observe(&late, bench.now), []);
    assert_eq!(bench.book.target(&target(A, 0)).unwrap().failures, 0);
    let kept = bench.book.next_due();
    assert!(kept.is_some());
    // One probe changes: its cells start unknown, and with `all` so do the endpoints that were healthy.
    let mut other = probe(80);
    other.timeout = Duration::from_secs(1);
    let changes = bench
        .book
        .reconfigure(&fleet(shop(&[A, B], vec![other.clone(), probe(81)])), bench.now);
    assert_eq!(bench.iad().health, RegionHealth::Unknown);
    assert!(changes.iter().any(|change| matches!(
        change.what,
        ChangeKind::Region {
            to: RegionHealth::Unknown,
            ..
        }
    )));
    // What came from the older probe is no evidence for the newer.
    let late = outcome(A, 0, bench.now.mono.minus(Duration::from_millis(1)), None);
    assert_eq!(bench.book.observe(&late, bench.now), []);
    assert_eq!(bench.verdict(A, 0), Verdict::Unknown);
    // Gone: nothing is left behind.
    assert_eq!(bench.book.reconfigure(&Fleet::default(), bench.now), []);
    assert_eq!((bench.book.next_due(), bench.book.regions().count()), (None, 0));
}

#[test]
fn saved_health_obeys_the_freshness_rule_by_the_wall_clock() {
    let app = shop(&[A, B], vec![probe(80)]);
    let mut bench = Bench::new(app.clone());
    for _ in 0..3 {
        bench.outcome(A, 0, REFUSED);
    }
    bench.says(B, 0, Observed::Active);
    let text = serde_json::to_string(&bench.book.save(bench.now)).unwrap();
    let saved: Saved = serde_json::from_str(&text).unwrap();
    let again = |seconds: u64, app: &App| {
        // A new process: the monotonic clock starts anew, the wall clock went on.
        let now = Now {
            mono: Mono::ORIGIN,
            wall: bench.now.plus(Duration::from_secs(seconds)).wall,
        };
        let mut book = Book::new();
        book.reconfigure(&fleet(app.clone()), now);
        book.restore(&saved, now);
        Bench { book, now }
    };
    let soon = again(5, &app);
    assert_eq!((soon.iad().health, soon.iad().observed), (RegionHealth::Degraded, Observed::Active));
    assert_eq!(soon.verdict(A, 0), Verdict::Unhealthy);
    assert_eq!(soon.book.save(soon.now).cells.len(), 2);
    let mut late = again(29, &app);
    assert_eq!(late.verdict(A, 0), Verdict::Unknown, "30 s old by now");
    assert_eq!(late.verdict(B, 0), Verdict::Healthy, "29 s old");
    late.after(1);
    assert_eq!((late.iad().health, late.iad().observed), (RegionHealth::Unknown, Observed::None));
    assert_eq!(late.book.target(&target(A, 0)).unwrap().stale_verdict, Some(Verdict::Unhealthy));
    let mut other = probe(80);
    other.fall = 4;
    let changed = again(5, &shop(&[A, B], vec![other]));
    assert_eq!(changed.iad().health, RegionHealth::Unknown, "another probe");
    assert!(changed.book.target(&target(A, 0)).unwrap().last.is_none());
}

#[test]
fn saved_health_from_ahead_of_the_clock_is_of_no_known_age() {
    let app = shop(&[A, B], vec![probe(80)]);
    let mut bench = Bench::new(app.clone());
    for _ in 0..3 {
        bench.outcome(A, 0, REFUSED);
    }
    bench.after(20);
    bench.says(B, 0, Observed::Active);
    let saved = bench.book.save(bench.now);
    let restored = |back_ms: u64| {
        let now = Now {
            mono: Mono::ORIGIN,
            wall: Wall(bench.now.wall.0 - back_ms),
        };
        let mut book = Book::new();
        book.reconfigure(&fleet(app.clone()), now);
        book.restore(&saved, now);
        Bench { book, now }
    };
    let a_little = restored(1_000);
    assert_eq!(
        (a_little.verdict(A, 0), a_little.verdict(B, 0)),
        (Verdict::Unhealthy, Verdict::Healthy)
    );
    // The evidence on A lies before the clock, that on B ahead of it: neither is known to be fresh.
    for back_ms in [3_000, 3_600_000] {
        let back = restored(back_ms);
        assert_eq!((back.iad().health, back.iad().observed), (RegionHealth::Unknown, Observed::None));
        for (address, was) in [(A, Verdict::Unhealthy), (B, Verdict::Healthy)] {
            let status = back.book.target(&target(address, 0)).unwrap();
            assert_eq!((status.verdict, status.stale_verdict), (Verdict::Unknown, Some(was)), "{address}");
        }
    }
}

#[test]
fn saved_host_names_get_their_addresses_back() {
    let app = shop(&["lb.example.com."], vec![probe(80)]);
    let (id, iad) = (AppId::new("shop"), RegionId::new("iad"));
    let endpoint = app.endpoints_of(&iad)[0].clone();
    let mut bench = Bench::new(app.clone());
    bench.book.resolved(&id, &iad, &endpoint, &[A.parse().unwrap()], bench.now);
    bench.after(1);
    let mut passed = outcome(A, 0, bench.now.mono, None);
    passed.target.endpoint = endpoint;
    bench.book.observe(&passed, bench.now);
    let mut book = Book::new();
    book.reconfigure(&fleet(app), start());
    book.restore(&bench.book.save(bench.now), bench.now);
    assert_eq!(book.region(&id, &iad).unwrap().health, RegionHealth::Healthy);
}

#[test]
fn ten_thousand_endpoints_in_a_thousand_applications() {
    let apps = (0..1_000).map(|number| {
        let texts: Vec<String> = (0..5).map(|host| format!("10.{}.{}.{host}", number / 250, number % 250)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut app = shop(&texts, vec![probe(80)]);
        app.id = AppId::new(&format!("app{number}"));
        app.name = Name::parse(&format!("app{number}.example.net.")).unwrap();
        Arc::new(app)
    });
    let fleet = Fleet::new(BTreeMap::new(), apps.collect());
    let mut book = Book::new();
    book.reconfigure(&fleet, start());
    let targets: Vec<ProbeTarget> = fleet
        .apps
        .keys()
        .flat_map(|app| book.targets(app))
        .map(|one| one.target.clone())
        .collect();
    assert_eq!(targets.len(), 10_000);
    let mut changes = 0;
    for round in 1..=4_u64 {
        let now = start().plus(Duration::from_secs(round));
        for target in &targets {
            let mut failed = outcome(A, 0, now.mono, REFUSED);
            failed.target = target.clone();
            changes += book.observe(&failed, now).len();
            // A reader takes a copy for each snapshot.
            std::hint::black_box(book.clone());
        }
    }
    assert_eq!(changes, 10_000 * 2 + 2_000);
    assert!(book.regions().all(|(_, _, status)| status.health == RegionHealth::Unhealthy));
    let stale = book.poll(start().plus(Duration::from_secs(100)));
    assert_eq!(stale.len(), 10_000 * 2 + 2_000);
    assert!(book.regions().all(|(_, _, status)| status.health == RegionHealth::Unknown));
}

/// The rules of one probe, as plainly as they can be written: over the whole history, again each time.
fn model(history: &[(u64, bool)], now: u64, fall: u32, rise: u32, stale_after: u64) -> Verdict {
    let (mut verdict, mut count, mut row, mut last) = (Verdict::Unknown, 0, 0, None);
    for &(at, passed) in history {
        if last.is_some_and(|last| at - last >= stale_after) {
            (verdict, count, row) = (Verdict::Unknown, 0, 0);
        }
        last = Some(at);
        (count, row) = if passed { (count, row + 1) } else { (count + 1, 0) };
        if row >= rise {
            count = 0;
        }
        verdict = match verdict {
            Verdict::Unknown if passed => Verdict::Healthy,
            Verdict::Unhealthy if row >= rise => Verdict::Healthy,
            Verdict::Unhealthy => Verdict::Unhealthy,
            other if count >= fall => {
                let _ = other;
                Verdict::Unhealthy
            }
            other => other,
        };
    }
    if last.is_none_or(|last| now - last >= stale_after) {
        Verdict::Unknown
    } else {
        verdict
    }
}

proptest! {
    #[test]
    fn the_counters_do_what_the_naive_model_does(
        steps in prop::collection::vec((0_u64..40, any::<bool>(), any::<bool>()), 0..60),
        fall in 1_u32..5, rise in 1_u32..5, polls in any::<bool>(),
    ) {
        let mut spec = probe(80);
        (spec.fall, spec.rise) = (fall, rise);
        let mut bench = Bench::new(shop(&[A], vec![spec]));
        let (mut clock, mut history) = (0, Vec::new());
        for (wait, passed, again) in steps {
            clock += if wait < 35 { 1 + wait % 3 } else { wait };
            bench.now = start().plus(Duration::from_secs(clock));
            if polls {
                bench.book.poll(bench.now);
            }
            let result = outcome(A, 0, bench.now.mono, (!passed).then_some("no"));
            bench.book.observe(&result, bench.now);
            if again {
                bench.book.observe(&result, bench.now);
            }
            history.push((clock, passed));
            let expected = model(&history, clock, fall, rise, 30);
            prop_assert_eq!(bench.verdict(A, 0), expected);
            prop_assert_eq!(bench.iad().endpoints[0].verdict, expected);
            prop_assert_eq!(bench.book.next_due(), Some(bench.now.mono.plus(Duration::from_secs(30))));
        }
        bench.after(30);
        prop_assert_eq!(bench.verdict(A, 0), Verdict::Unknown);
        prop_assert_eq!(bench.book.next_due(), None);
    }

    /// The counts kept while outcomes come are those found by counting anew, and saving loses nothing.
    #[test]
    fn what_is_kept_up_to_date_is_what_counting_anew_finds(
        steps in prop::collection::vec((0_usize..3, 0_usize..3, 0_u8..4, 0_u64..12), 0..80), least in 0_usize..3,
    ) {
        let mut silent = probe(3);
        silent.monitoring_only = true;
        silent.kind = ProbeKind::Postgres(PostgresProbe { port: 5432, user: String::new(), password_file: None, database: String::new(), query: None, tls: None });
        let hosts = [A, B, "2001:db8::1"];
        let mut app = shop(&hosts, vec![probe(1), probe(2), silent]);
        app.require = if least == 0 { Require::All } else { Require::AtLeast(least) };
        let mut bench = Bench::new(app.clone());
        for (host, probe, what, wait) in steps {
            bench.after(wait);
            match what {
                0 => bench.outcome(hosts[host], probe, None),
                1 => bench.outcome(hosts[host], probe, REFUSED),
                2 => bench.says(hosts[host], probe, Observed::Active),
                _ => bench.says(hosts[host], probe, Observed::Passive),
            };
            let mut anew = Book::new();
            anew.reconfigure(&fleet(app.clone()), start());
            anew.restore(&bench.book.save(bench.now), bench.now);
            prop_assert_eq!(anew.next_due(), bench.book.next_due());
            let mut other = anew.region(&AppId::new("shop"), &RegionId::new("iad")).unwrap().clone();
            (other.since, other.observed_since) = (bench.iad().since, bench.iad().observed_since);
            (other.cut_since, other.passed_at) = (bench.iad().cut_since, bench.iad().passed_at);
            prop_assert_eq!(&other, bench.iad());
            // A changed `require` of the same effect makes every count anew.
            let mut renewed = bench.book.clone();
            let mut renamed = app.clone();
            renamed.ttl = 31;
            prop_assert_eq!(renewed.reconfigure(&fleet(renamed), bench.now), vec![]);
            prop_assert_eq!(renewed.region(&AppId::new("shop"), &RegionId::new("iad")).unwrap(), bench.iad());
        }
    }
}
