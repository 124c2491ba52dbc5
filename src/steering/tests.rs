//! Properties of the decision, and the texts for people. The rows of the table are told in `tests/scenarios/`.

use super::*;
use crate::model::*;
use crate::role::fixture::*;
use crate::role::{State, Watch};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// One of a few settings of everything that a decision depends on.
#[derive(Debug, Clone)]
struct Scene {
    /// The policy.
    failover: Failover,
    /// What to do when all is down.
    when_all_down: WhenAllDown,
    /// Verdicts of four endpoints in each of three regions: two of each family.
    verdicts: Vec<Verdict>,
    /// What each application says.
    observed: Vec<Observed>,
    /// The active region, by number.
    active: usize,
    /// Which regions the name has drained, which are evacuated, which were left.
    marks: Vec<(bool, bool, bool)>,
}

/// The regions of a scene.
const REGIONS: [&str; 3] = ["iad", "fra", "lon"];

/// Any scene.
fn scene() -> impl Strategy<Value = Scene> {
    let failover = prop::sample::select(vec![Failover::Manual, Failover::OneWay, Failover::Automatic, Failover::Follow]);
    let when = prop::sample::select(vec![
        WhenAllDown::Active,
        WhenAllDown::All,
        WhenAllDown::Servfail,
        WhenAllDown::Addresses(vec!["203.0.113.1".parse().unwrap(), "2001:db8::99".parse().unwrap()]),
        WhenAllDown::Host(name("sorry.example.org.")),
    ]);
    let verdict = prop::sample::select(vec![Verdict::Healthy, Verdict::Unhealthy, Verdict::Unhealthy, Verdict::Unknown]);
    let observed = prop::sample::select(vec![Observed::Active, Observed::Passive, Observed::None]);
    (
        failover,
        when,
        prop::collection::vec(verdict, 12),
        prop::collection::vec(observed, 3),
        0..3usize,
        prop::collection::vec((prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.2)), 3),
    )
        .prop_map(|(failover, when_all_down, verdicts, observed, active, marks)| Scene {
            failover,
            when_all_down,
            verdicts,
            observed,
            active,
            marks,
        })
}

/// Health of a region, by the rule of the README, "Verdicts".
fn overall(verdicts: &[Verdict]) -> RegionHealth {
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    match (count(Verdict::Healthy), count(Verdict::Unhealthy), count(Verdict::Unknown)) {
        (_, sick, _) if sick == verdicts.len() => RegionHealth::Unhealthy,
        (0, _, _) => RegionHealth::Unknown,
        (well, _, _) if well == verdicts.len() => RegionHealth::Healthy,
        _ => RegionHealth::Degraded,
    }
}

/// Puts a scene up: the fleet with its one name, the state, the health.
fn set_up(scene: &Scene) -> (Fleet, State, Health) {
    let mut app = app("shop", &REGIONS);
    (app.failover, app.when_all_down) = (scene.failover, scene.when_all_down.clone());
    app.cooldown = Duration::ZERO;
    let mut health = Health::default();
    for (index, one) in REGIONS.iter().enumerate() {
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"].map(|text| match text.parse().unwrap() {
            IpAddr::V4(ip) => Endpoint::Address(IpAddr::from([ip.octets()[0], 0, index as u8, ip.octets()[3]])),
            IpAddr::V6(ip) => Endpoint::Address(IpAddr::from(std::net::Ipv6Addr::from_bits(ip.to_bits() + ((index as u128) << 16)))),
        });
        app.endpoints.insert(region(one), addresses.to_vec());
        let verdicts = &scene.verdicts[index * 4..index * 4 + 4];
        health.set(&app, one, overall(verdicts), start());
        let status = health.regions.get_mut(&(app.id.clone(), region(one))).unwrap();
        status.observed = scene.observed[index];
        for (endpoint, verdict) in status.endpoints.iter_mut().zip(verdicts) {
            endpoint.verdict = *verdict;
        }
    }
    let fleet = fleet(vec![app.clone()]);
    let mut state = State::new();
    let active = region(REGIONS[scene.active]);
    let mut record = |body: Body| state.apply(state.seq().next(), start(), &draft(body));
    record(Body::NameAdded {
        name: app.name.clone(),
        active: active.clone(),
        home: None,
    });
    for (one, (drained, evacuated, _)) in REGIONS.iter().zip(&scene.marks) {
        let is_active = region(one) == active;
        if *drained && !is_active {
            record(Body::Drained {
                name: app.name.clone(),
                region: region(one),
            });
        }
        if *evacuated {
            // The active region can be evacuated only with leave to stay.
            let stay = is_active.then(|| app.name.clone()).into_iter().collect();
            record(Body::Evacuated {
                region: region(one),
                moves: vec![],
                stay,
                overridden: vec![],
                forced: Vec::new(),
                evidence: Evidence::default(),
            });
        }
    }
    (fleet, state, health)
}

/// The addresses of an answer as endpoints.
fn answered(answer: &Answer) -> BTreeSet<Endpoint> {
    match answer {
        Answer::Addresses { v4, v6 } => {
            let v4 = v4.iter().map(|ip| Endpoint::Address((*ip).into()));
            v4.chain(v6.iter().map(|ip| Endpoint::Address((*ip).into()))).collect()
        }
        Answer::Host(name) => BTreeSet::from([Endpoint::Host(name.clone())]),
        Answer::Servfail => BTreeSet::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn decide_keeps_its_promises(scene in scene()) {
        let (fleet, state, health) = set_up(&scene);
        let steered = &fleet.names[&name("shop.example.net.")];
        let decision = decide(steered, &state, &health, start());
        prop_assert_eq!(&decision, &decide(steered, &state, &health, start()), "deterministic");
        let active = region(REGIONS[scene.active]);
        prop_assert_eq!(&decision.active, &active, "health moves nothing");
        let all = answered(&decision.answer);
        let fails = decision.reason.is_fail_open();
        let unhealthy = scene.verdicts[scene.active * 4..][..4].iter().all(|verdict| *verdict == Verdict::Unhealthy);
        prop_assert!(*decision.answer == Answer::Servfail || !all.is_empty(), "never empty");
        prop_assert_eq!(fails || decision.reason == Reason::WaitingToMove, unhealthy, "when-all-down exactly when nothing is usable");
        prop_assert_eq!(*decision.answer == Answer::Servfail, fails && scene.when_all_down == WhenAllDown::Servfail);
        for (index, one) in REGIONS.iter().map(|one| region(one)).enumerate() {
            let own = steered.app.endpoints_of(&one);
            let shown: Vec<&Endpoint> = own.iter().filter(|endpoint| all.contains(endpoint)).collect();
            if one != active {
                prop_assert!(shown.is_empty() || decision.reason == Reason::AllDownAll, "another region only under all");
                prop_assert!(shown.is_empty() || scene.failover != Failover::Manual, "all under manual is the active region");
                prop_assert!(shown.is_empty() || !state.is_drained(&steered.name, &one), "never a drained region");
                continue;
            }
            for (at, endpoint) in own.iter().enumerate() {
                let verdicts = &scene.verdicts[index * 4..index * 4 + 4];
                let family = if at < 2 { &verdicts[..2] } else { &verdicts[2..] };
                let family_is_down = family.iter().all(|verdict| *verdict == Verdict::Unhealthy);
                let expected = !unhealthy && (verdicts[at].is_usable() || family_is_down);
                if !unhealthy {
                    prop_assert_eq!(all.contains(endpoint), expected, "{:?} {:?}", endpoint, verdicts);
                }
            }
        }
        let alerts = alerts(steered, &state, &health, start(), &decision);
        prop_assert_eq!(alerts.iter().any(|alert| alert.kind == AlertKind::FailOpen), fails, "it says so");
        let kinds: BTreeSet<AlertKind> = alerts.iter().map(|alert| alert.kind).collect();
        prop_assert_eq!(kinds.len(), alerts.len(), "one alert a kind");
        let explanation = explain(steered, &state, &health, &Watch::new(), start());
        prop_assert!(explanation.to_string().contains(decision.reason.code()));
        prop_assert!(serde_json::to_string(&explanation).is_ok());
    }

    #[test]
    fn a_policy_that_may_move_answers_all_of_a_and_moves(scene in scene()) {
        let (fleet, state, health) = set_up(&scene);
        let steered = &fleet.names[&name("shop.example.net.")];
        let waiting = decide(steered, &state, &health, start()).reason == Reason::WaitingToMove;
        let mut watch = Watch::new();
        watch.touch(&steered.name);
        let drafts = watch.poll(&state, &fleet, &health, start());
        let moved = drafts.iter().any(|draft| draft.body.moves().iter().any(|change| change.kind == MoveKind::Failover));
        let follows = scene.failover == Failover::Follow;
        prop_assert_eq!(waiting, moved && !follows, "the decision and the policy agree on row 4: {:?}", drafts);
        prop_assert!(drafts.len() <= 1);
    }
}

#[test]
fn the_worst_case_is_a_formula_with_numbers() {
    let mut shop = app("shop", &["iad", "fra"]);
    let manual = worst_case(&shop);
    assert_eq!(
        manual.formula,
        "5s × 1.1 × 3 + 2s timeout + a person's decision + 30s TTL = 48.5s + a person's decision"
    );
    assert_eq!(manual.total, Some(Duration::from_millis(48_500)));
    assert!(manual.person);
    shop.failover = Failover::Automatic;
    shop.failover_delay = Duration::from_secs(10);
    let mut slow = shop.probes[0].clone();
    slow.interval = Duration::from_secs(60);
    slow.monitoring_only = true;
    shop.probes.push(slow);
    let automatic = worst_case(&shop);
    assert_eq!(
        automatic.total,
        Some(Duration::from_millis(58_500)),
        "what is only monitored does not count"
    );
    assert_eq!(
        automatic.formula,
        "5s × 1.1 × 3 + 2s timeout + 10s failover-delay + 30s TTL = 58.5s"
    );
    shop.probes[1].monitoring_only = false;
    assert_eq!(worst_case(&shop).detect, Some(Duration::from_secs(200)), "the slowest counts");
    shop.probes.pop();
    shop.probes[0].interval = Duration::from_secs(10);
    shop.probes[0].timeout = Duration::from_secs(1);
    shop.probes[0].recheck_interval = Some(Duration::from_secs(1));
    let rechecked = worst_case(&shop);
    assert_eq!(rechecked.detect, Some(Duration::from_millis(14_200)));
    assert_eq!(
        rechecked.formula,
        "10s × 1.1 + 1s × 1.1 × 2 + 1s timeout + 10s failover-delay + 30s TTL = 54.2s"
    );
    shop.probes[0].fall = 1;
    assert_eq!(
        worst_case(&shop).formula,
        "10s × 1.1 × 2 + 1s timeout until the target was heard too + 30s TTL = 53s",
        "no move on hearsay"
    );
    shop.failover = Failover::Manual;
    assert!(worst_case(&shop).formula.starts_with("10s × 1.1 × 1 + 1s timeout"));
    shop.probes.clear();
    assert_eq!(worst_case(&shop).total, None);
}

#[test]
fn explain_reads_well() {
    let shop = app("shop", &["iad", "fra"]);
    let (fleet, mut health) = (fleet(vec![shop.clone()]), Health::default());
    health.set(&shop, "iad", RegionHealth::Unhealthy, start());
    health.set(&shop, "fra", RegionHealth::Healthy, start());
    let state = state(&fleet);
    let said = explain(&fleet.names[&shop.name], &state, &health, &Watch::new(), at(40)).to_string();
    let expected = "\
shop.example.net.  (shop, failover manual)
  answers   192.0.2.10  TTL 30s
  because   the active region is unhealthy and nothing moved: all its endpoints are answered (all-down-active)
  active    iad  (home iad, version 1)
  alert     fail-open: shop.example.net. answers 192.0.2.10: the active region is unhealthy and nothing moved: all its endpoints are answered
  iad  active; unhealthy since 40s: HTTP 503; evidence 40s old
      192.0.2.10  unhealthy
  fra  passive; healthy since 40s; evidence 40s old
      192.0.2.20  healthy
      pass  expect              iad is active (version 1)
      pass  one-active          fra would be the one active region of shop.example.net.
      pass  target-not-drained  fra is not drained
      pass  target-healthy      fra is healthy since 40s
      pass  target-writable     no probe reports the application's own role
      pass  cooldown            never moved
  worst case from failure to the last client: 5s × 1.1 × 3 + 2s timeout + a person's decision + 30s TTL = 48.5s + a person's decision
";
    assert_eq!(said, expected);
}

#[test]
fn a_name_that_the_ledger_does_not_know_is_decided_as_it_would_be_added() {
    let shop = app("shop", &["iad", "fra"]);
    let fleet = fleet(vec![shop.clone()]);
    let mut state = State::new();
    let health = Health::default();
    let active = |state: &State| decide(&fleet.names[&shop.name], state, &health, start()).active;
    assert_eq!(active(&state).as_str(), "iad");
    let evacuated = |one: &str| Body::Evacuated {
        region: region(one),
        moves: vec![],
        stay: vec![],
        overridden: vec![],
        forced: Vec::new(),
        evidence: Evidence::default(),
    };
    state.apply(Seq(1), start(), &draft(evacuated("iad")));
    assert_eq!(active(&state).as_str(), "fra");
    state.apply(Seq(2), start(), &draft(evacuated("fra")));
    assert_eq!(active(&state).as_str(), "iad");
}

#[test]
fn alert_kinds_are_kebab_case_and_unique() {
    let names: BTreeSet<&str> = AlertKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names.len(), AlertKind::ALL.len());
    assert!(
        names
            .iter()
            .all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
    );
}
