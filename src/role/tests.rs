//! The fold, the last check of one-active, receipts, the cost of names at rest. The rules of commands and policies are
//! told in `tests/scenarios/`, and shaken in `tests/simulation.rs`.

use super::command::check_one_active;
use super::fixture::*;
use super::*;
use crate::model::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A switch by an operator.
fn switched(from: &str, to: &str) -> Body {
    Body::Switched {
        change: Move {
            name: name("shop.example.net."),
            from: region(from),
            to: region(to),
            kind: MoveKind::Switchover,
        },
        overridden: Vec::new(),
        proposal: None,
        evidence: Evidence::default(),
    }
}

/// A request for a switch.
fn request(id: &str, to: &str) -> Request {
    Request {
        actor: Actor::Policy,
        reason: " because \n".to_owned(),
        request_id: Some(id.to_owned()),
        command: Command::Switch {
            name: name("SHOP.example.net"),
            to: region(to),
            expect: None,
            expect_seq: None,
            overrides: BTreeSet::new(),
        },
    }
}

#[test]
fn marks_leave_the_version_alone_and_moves_change_it() {
    let fleet = fleet(vec![app("shop", &["iad", "fra", "lon"])]);
    let mut state = state(&fleet);
    let shop = name("shop.example.net.");
    let mut versions = Vec::new();
    for body in [
        Body::Drained {
            name: shop.clone(),
            region: region("lon"),
        },
        switched("iad", "fra"),
        Body::Evacuated {
            region: region("iad"),
            moves: vec![],
            stay: vec![],
            overridden: vec![],
            forced: Vec::new(),
            evidence: Evidence::default(),
        },
        Body::Undrained {
            name: shop.clone(),
            region: region("lon"),
        },
        Body::Restored { region: region("iad") },
        Body::RegionRemoved {
            name: shop.clone(),
            region: region("lon"),
        },
    ] {
        state.apply(state.seq().next(), start(), &draft(body));
        versions.push(state.name(&shop).unwrap().version.0);
    }
    assert_eq!(versions, [1, 3, 3, 3, 3, 7]);
}

#[test]
fn what_is_asked_in_any_case_is_recorded_in_lower_case_with_the_reason_trimmed() {
    let app = app("shop", &["iad", "fra"]);
    let (fleet, mut health) = (fleet(vec![app.clone()]), Health::default());
    health.set(&app, "fra", RegionHealth::Healthy, start());
    let drafts = handle(&state(&fleet), &fleet, &health, start(), &request("a", "fra")).unwrap();
    assert_eq!(drafts.len(), 1);
    assert_eq!(drafts[0].reason, "because");
    assert_eq!(drafts[0].request_id.as_deref(), Some("a"));
    assert_eq!(drafts[0].body.moves()[0].name.to_string(), "shop.example.net.");
}

/// A feed may say the role without being asked for it; who says that it is passive is not moved to.
#[test]
fn a_role_that_is_said_unasked_closes_the_gate() {
    let mut app = app("shop", &["iad", "fra"]);
    app.probes = vec![ProbeSpec::new(ProbeKind::Feed(FeedProbe {
        source: FeedSource::Posted("shop".to_owned()),
        max_age: std::time::Duration::from_secs(60),
    }))];
    let (fleet, mut health) = (fleet(vec![app.clone()]), Health::default());
    health.set(&app, "fra", RegionHealth::Healthy, start());
    assert!(handle(&state(&fleet), &fleet, &health, start(), &request("a", "fra")).is_ok());
    for (said, passes) in [(Observed::Passive, false), (Observed::Active, true)] {
        let fra = health.regions.get_mut(&(app.id.clone(), RegionId::new("fra"))).unwrap();
        fra.observed = said;
        let judged = handle(&state(&fleet), &fleet, &health, start(), &request("a", "fra"));
        assert_eq!(judged.is_ok(), passes, "{said:?}: {judged:?}");
        let steered = fleet.names.values().next().unwrap();
        let target = policy_target(&state(&fleet), steered, &health, start());
        assert_eq!(target.is_some(), passes, "{said:?}");
        let evacuate = Request {
            command: Command::Evacuate {
                region: RegionId::new("iad"),
                leave: Default::default(),
                overrides: Default::default(),
            },
            ..request("b", "fra")
        };
        let drafts = handle(&state(&fleet), &fleet, &health, start(), &evacuate).unwrap();
        let warned = warnings(&drafts[0].body, &fleet, &health, start());
        assert_eq!(warned.is_empty(), passes, "{said:?}: {warned:?}");
    }
}

/// What was heard before this machine was suspended is answered on, and nothing is decided on it: no switch without an override, no
/// evacuation, and nothing is offered.
#[test]
fn nothing_is_decided_on_what_is_unconfirmed() {
    let mut app = app("shop", &["iad", "fra"]);
    app.failover = Failover::Automatic;
    let (fleet, mut health) = (fleet(vec![app.clone()]), Health::default());
    health.set(&app, "iad", RegionHealth::Unhealthy, start());
    health.set(&app, "fra", RegionHealth::Healthy, start());
    let (state, steered) = (state(&fleet), fleet.names.values().next().unwrap());
    let unconfirmed = |health: &mut Health, region: &str, known: Option<RegionHealth>| {
        let status = health.regions.get_mut(&(app.id.clone(), RegionId::new(region))).unwrap();
        let observed = Observed::None;
        status.unconfirmed = known.map(|health| Confirmed { health, observed });
    };
    let offered = |health: &Health| {
        let mut watch = Watch::new();
        watch.touch(&app.name);
        watch.poll(&state, &fleet, health, start())
    };
    let evacuate = Request {
        command: Command::Evacuate {
            region: RegionId::new("iad"),
            leave: Default::default(),
            overrides: Default::default(),
        },
        ..request("b", "fra")
    };
    assert_eq!(offered(&health).len(), 1);
    for region in ["iad", "fra"] {
        unconfirmed(&mut health, region, Some(RegionHealth::Unknown));
        assert_eq!(offered(&health), [], "{region}");
        assert!(
            policy_target(&state, steered, &health, start()).is_some(),
            "what is answered meanwhile stays"
        );
        let passes = region == "iad";
        let switched = handle(&state, &fleet, &health, start(), &request("a", "fra"));
        assert_eq!(switched.is_ok(), passes, "{switched:?}");
        let evacuated = handle(&state, &fleet, &health, start(), &evacuate);
        assert_eq!(evacuated.is_ok(), passes, "{evacuated:?}");
        unconfirmed(&mut health, region, None);
    }
    // Less than what is shown, and enough for a person.
    unconfirmed(&mut health, "fra", Some(RegionHealth::Degraded));
    assert!(handle(&state, &fleet, &health, start(), &request("a", "fra")).is_ok());
    assert_eq!(offered(&health), []);
}

/// Forced after a suspension, an evacuation goes to what was well before it and not to what was not.
#[test]
fn an_evacuation_that_is_forced_prefers_what_was_well_last() {
    let app = app("shop", &["iad", "fra", "sin"]);
    let (fleet, mut health) = (fleet(vec![app.clone()]), Health::default());
    for (region, was) in [
        ("iad", RegionHealth::Healthy),
        ("fra", RegionHealth::Unhealthy),
        ("sin", RegionHealth::Healthy),
    ] {
        health.set(&app, region, was, start());
        let status = health.regions.get_mut(&(app.id.clone(), RegionId::new(region))).unwrap();
        let (health, observed) = (RegionHealth::Unknown, Observed::None);
        status.unconfirmed = Some(Confirmed { health, observed });
    }
    let evacuate = |overrides: &[Gate]| Request {
        command: Command::Evacuate {
            region: RegionId::new("iad"),
            leave: Default::default(),
            overrides: overrides.iter().copied().collect(),
        },
        ..request("b", "fra")
    };
    assert!(handle(&state(&fleet), &fleet, &health, start(), &evacuate(&[])).is_err());
    let drafts = handle(&state(&fleet), &fleet, &health, start(), &evacuate(&[Gate::TargetHealthy])).unwrap();
    let Body::Evacuated { moves, overridden, .. } = &drafts[0].body else {
        panic!("{drafts:?}");
    };
    assert_eq!(moves[0].to, RegionId::new("sin"));
    assert_eq!(overridden[..], [Gate::TargetHealthy], "on the record all the same");
}

/// A delay does not go on over a suspension, also when nobody polled meanwhile.
#[test]
fn a_delay_starts_anew_after_a_suspension() {
    let mut app = app("shop", &["iad", "fra"]);
    app.failover = Failover::Automatic;
    app.failover_delay = std::time::Duration::from_secs(30);
    let (fleet, mut health) = (fleet(vec![app.clone()]), Health::default());
    health.set(&app, "iad", RegionHealth::Unhealthy, start());
    health.set(&app, "fra", RegionHealth::Healthy, start());
    let state = state(&fleet);
    let mut watch = Watch::new();
    watch.touch(&app.name);
    assert_eq!(watch.poll(&state, &fleet, &health, start()), []);
    assert_eq!(watch.waiting(&app.name).map(|waiting| waiting.until), Some(at(30).mono));
    watch.start_anew([name("other.example.net.")].iter());
    assert_eq!(watch.poll(&state, &fleet, &health, at(10)), []);
    assert_eq!(watch.waiting(&app.name).map(|waiting| waiting.until), Some(at(30).mono));
    watch.start_anew([app.name.clone()].iter());
    assert_eq!(watch.poll(&state, &fleet, &health, at(20)), []);
    assert_eq!(watch.waiting(&app.name).map(|waiting| waiting.until), Some(at(50).mono));
    assert_eq!(watch.poll(&state, &fleet, &health, at(49)), []);
    assert_eq!(watch.poll(&state, &fleet, &health, at(50)).len(), 1);
}

#[test]
fn receipts_are_remembered_up_to_their_bound() {
    let mut state = State::new();
    let count = RECEIPTS_MAX + 5;
    for number in 1..=count {
        let mut draft = draft(Body::Stopped { node: "ns1".to_owned() });
        draft.request_id = Some(format!("request-{number}"));
        state.apply(Seq(number as u64), start(), &draft);
    }
    let seq_of = |number: usize| state.receipt(&format!("request-{number}")).map(|used| used.seq);
    assert_eq!(seq_of(5), None);
    assert_eq!(seq_of(6), Some(Seq(6)));
    assert_eq!(seq_of(count), Some(Seq(count as u64)));
}

#[test]
fn a_request_id_stands_for_one_request() {
    let app = app("shop", &["iad", "fra", "lon"]);
    let (fleet, mut health) = (fleet(vec![app.clone()]), Health::default());
    health.set(&app, "lon", RegionHealth::Healthy, start());
    let shop = || name("shop.example.net.");
    let switch = |to: &str, expect: Option<&str>, overrides: &[Gate]| Command::Switch {
        name: shop(),
        to: region(to),
        expect: expect.map(region),
        expect_seq: None,
        overrides: overrides.iter().copied().collect(),
    };
    let evacuate = |leave: &[&str]| Command::Evacuate {
        region: region("iad"),
        leave: leave.iter().map(|one| name(one)).collect(),
        overrides: BTreeSet::new(),
    };
    let over = &[Gate::TargetHealthy];
    let drain = |region: RegionId| Command::Drain { name: shop(), region };
    // The command of the entry; then others under its id, and whether each is the same request.
    let cases = [
        (
            switch("fra", None, over),
            vec![
                (switch("fra", None, over), true),
                (switch("fra", Some("iad"), &[Gate::TargetHealthy, Gate::Cooldown]), true),
                (switch("lon", None, over), false),
                (switch("fra", Some("lon"), over), false),
                (switch("fra", None, &[]), false),
                (drain(region("fra")), false),
            ],
        ),
        (
            evacuate(&[]),
            vec![
                (evacuate(&["shop.example.net."]), true),
                (Command::Restore { region: region("iad") }, false),
            ],
        ),
        (
            drain(region("fra")),
            vec![
                (drain(region("fra")), true),
                (drain(region("lon")), false),
                (
                    Command::Undrain {
                        name: shop(),
                        region: region("fra"),
                    },
                    false,
                ),
            ],
        ),
    ];
    for (first, repeats) in cases {
        let request = Request {
            command: first,
            ..request("a", "fra")
        };
        let mut state = state(&fleet);
        for draft in handle(&state, &fleet, &health, start(), &request).unwrap() {
            state.apply(state.seq().next(), start(), &draft);
        }
        let used = state.receipt("a").unwrap();
        for (command, same) in repeats {
            assert_eq!(used.is_same(&command, " because"), same, "{used}: {command:?}");
            assert!(!used.is_same(&command, "another reason"));
            assert!(!used.is_same_reload(false, "because"));
        }
    }
}

#[test]
fn the_cooldown_goes_on_over_a_restart() {
    let app = app("shop", &["iad", "fra", "lon"]);
    let (fleet, mut health) = (fleet(vec![app.clone()]), Health::default());
    health.set(&app, "lon", RegionHealth::Healthy, start());
    // Recorded 40 s of wall time ago, by another process.
    let now = Now {
        mono: Mono::ORIGIN,
        wall: Wall(start().wall.0 + 40_000),
    };
    let mut state = state(&fleet);
    let at = Now {
        mono: now.mono_at(start().wall),
        wall: start().wall,
    };
    state.apply(Seq(2), at, &draft(switched("iad", "fra")));
    let Err(Denied::Refused(refusals)) = handle(&state, &fleet, &health, now, &request("a", "lon")) else {
        panic!()
    };
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].message, "the last move was 40s ago: 20s of the cooldown of 1m are left");
    let later = now.plus(std::time::Duration::from_secs(20));
    assert!(handle(&state, &fleet, &health, later, &request("a", "lon")).is_ok());
}

#[test]
fn one_active_is_checked_on_the_state_after_the_whole_batch() {
    let fleet = fleet(vec![app("shop", &["iad", "fra"])]);
    let state = state(&fleet);
    let shop = || name("shop.example.net.");
    let check = |bodies: Vec<Body>| check_one_active(&state, &fleet, start(), &bodies.into_iter().map(draft).collect::<Vec<_>>());
    let drain = |one: &str| Body::Drained {
        name: shop(),
        region: region(one),
    };
    assert!(check(vec![drain("fra")]).is_ok());
    // Each alone would do, but not both together.
    assert!(check(vec![switched("iad", "fra")]).is_ok());
    let Err(Denied::Refused(refusals)) = check(vec![drain("fra"), switched("iad", "fra")]) else {
        panic!()
    };
    assert_eq!(refusals[0].gate, Gate::OneActive);
    assert!(check(vec![drain("iad")]).is_err());
    assert!(
        check(vec![drain("iad"), switched("iad", "fra")]).is_ok(),
        "only the state after the whole batch counts"
    );
    assert!(check(vec![switched("iad", "lon")]).is_err(), "a region that the name does not have");
    let evacuated = Body::Evacuated {
        region: region("iad"),
        moves: vec![],
        stay: vec![],
        overridden: vec![],
        forced: Vec::new(),
        evidence: Evidence::default(),
    };
    assert!(check(vec![evacuated]).is_err(), "an evacuation that leaves a name behind");
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "breaks one-active")]
fn an_entry_that_drains_the_active_region_is_an_assertion() {
    let mut state = state(&fleet(vec![app("shop", &["iad", "fra"])]));
    let drained = Body::Drained {
        name: name("shop.example.net."),
        region: region("iad"),
    };
    state.apply(Seq(2), start(), &draft(drained));
}

#[test]
fn names_at_rest_cost_nothing_however_many() {
    let apps: Vec<App> = (0..10_000).map(|number| app(&format!("a{number}"), &["iad", "fra"])).collect();
    let mut health = Health::default();
    for app in &apps {
        health.set(app, "iad", RegionHealth::Healthy, start());
        health.set(app, "fra", RegionHealth::Healthy, start());
    }
    let sick = apps[7_777].clone();
    let fleet = fleet(apps);
    let state = state(&fleet);
    let mut watch = Watch::new();
    watch.reconfigured(&Fleet::default(), &fleet);
    assert_eq!(watch.next_due(), Some(Mono::ORIGIN));
    assert!(watch.poll(&state, &fleet, &health, start()).is_empty());
    assert_eq!(watch.next_due(), None);
    *health.asked.get_mut() = 0;
    assert!(watch.poll(&state, &fleet, &health, at(3600)).is_empty());
    assert_eq!(*health.asked.get_mut(), 0, "nothing was touched, nothing is looked at");
    health.set(&sick, "iad", RegionHealth::Unhealthy, at(3600));
    watch.touch(&sick.name);
    assert_eq!(watch.poll(&state, &fleet, &health, at(3600)).len(), 1);
    assert!(
        *health.asked.get_mut() < 50,
        "one name was touched, {} looks",
        *health.asked.get_mut()
    );
}

#[test]
fn drafts_are_offered_until_they_are_applied() {
    let apps = [app("shop", &["iad", "fra"]), app("news", &["iad", "fra"])];
    let mut health = Health::default();
    for app in &apps {
        health.set(app, "iad", RegionHealth::Unhealthy, start());
        health.set(app, "fra", RegionHealth::Healthy, start());
    }
    let fleet = fleet(apps.to_vec());
    let mut state = state(&fleet);
    let mut watch = Watch::new();
    watch.reconfigured(&Fleet::default(), &fleet);
    let first = watch.poll(&state, &fleet, &health, at(1));
    let ids: Vec<u64> = first
        .iter()
        .filter_map(|draft| match draft.body {
            Body::ProposalOpened { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    assert_eq!(ids, [1, 2], "one poll numbers its proposals one after another");
    assert_eq!(watch.poll(&state, &fleet, &health, at(1)), first, "again, as nothing was applied");
    assert_eq!(watch.next_due(), Some(at(2).mono), "and by itself a second later");
    state.apply(state.seq().next(), at(1), &first[0]);
    let rest = watch.poll(&state, &fleet, &health, at(1));
    assert_eq!(rest, first[1..]);
    state.apply(state.seq().next(), at(1), &rest[0]);
    assert!(watch.poll(&state, &fleet, &health, at(1)).is_empty());
    // The due times of the offers run out without more of them.
    assert!(watch.poll(&state, &fleet, &health, at(5)).is_empty());
    assert_eq!(watch.next_due(), None);
}

#[test]
fn a_look_at_one_name_sees_what_a_look_at_all_sees_of_it() {
    let mut apps: Vec<App> = (0..500).map(|number| app(&format!("app{number}"), &["iad", "fra"])).collect();
    let mut health = Health::default();
    for app in &mut apps {
        app.failover = Failover::Automatic;
        app.failover_delay = std::time::Duration::from_secs(30);
        health.set(app, "iad", RegionHealth::Unhealthy, start());
        health.set(app, "fra", RegionHealth::Healthy, start());
    }
    let fleet = fleet(apps);
    let state = state(&fleet);
    let (mut watch, names) = (Watch::new(), || fleet.names.keys());
    watch.touch_all(names());
    assert!(watch.poll(&state, &fleet, &health, start()).is_empty());
    // As readers get it: everything was touched again, and nothing looked at since.
    watch.touch_all(names());
    let one = names().nth(250).unwrap();
    *health.asked.get_mut() = 0;
    let mut alone = watch.shown().of_one(one);
    alone.poll(&state, &fleet, &health, at(10));
    assert!(*health.asked.get_mut() < 50, "{} looks for one name", *health.asked.get_mut());
    watch.poll(&state, &fleet, &health, at(10));
    assert_eq!(alone.waiting(one).map(|waiting| waiting.until), Some(at(30).mono));
    assert_eq!(alone.waiting(one), watch.waiting(one));
    let shown = watch.shown();
    assert_eq!(shown.waiting(one), watch.waiting(one));
    assert_eq!(shown.next_due(), None, "what only the writer needs is not shown");
}

#[test]
fn a_break_between_two_polls_is_a_break() {
    let mut shop = app("shop", &["iad", "fra"]);
    shop.failover = Failover::Automatic;
    shop.failover_delay = std::time::Duration::from_secs(30);
    let mut health = Health::default();
    health.set(&shop, "iad", RegionHealth::Unhealthy, start());
    health.set(&shop, "fra", RegionHealth::Healthy, start());
    let fleet = fleet(vec![shop.clone()]);
    let state = state(&fleet);
    let mut watch = Watch::new();
    watch.touch(&shop.name);
    assert!(watch.poll(&state, &fleet, &health, start()).is_empty());
    assert_eq!(watch.waiting(&shop.name).map(|waiting| waiting.until), Some(at(30).mono));
    // It recovered and failed again at 20 s, and nobody looked in between.
    health.set(&shop, "iad", RegionHealth::Unhealthy, at(20));
    assert!(watch.poll(&state, &fleet, &health, at(30)).is_empty());
    assert_eq!(watch.next_due(), Some(at(50).mono));
    assert_eq!(watch.poll(&state, &fleet, &health, at(50)).len(), 1);
}

#[test]
fn regions_that_only_the_config_before_knew_are_recorded_too() {
    let old = fleet(vec![app("shop", &["iad", "fra", "lon"])]);
    let new = fleet(vec![app("shop", &["iad", "fra"])]);
    let state = state(&old);
    assert_eq!(reconcile(&state, &new), Ok(vec![]), "the ledger does not mention lon");
    let drafts = reconcile_from(&state, Some(&old), &new).unwrap();
    assert_eq!(drafts.len(), 1);
    assert!(matches!(&drafts[0].body, Body::RegionRemoved { region, .. } if region.as_str() == "lon"));
    assert_eq!(reconcile_from(&state, Some(&old), &old), Ok(vec![]));
    let errors = reconcile(&state, &fleet(vec![app("shop", &["fra"])])).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["iad is active for shop.example.net. (seq 1): switch first"]);
}

/// Any body about a few names and regions, sensible or not.
fn any_body() -> impl Strategy<Value = Body> {
    let a_name = prop::sample::select(vec!["shop.example.net.", "iad.shop.example.net.", "nobody.example.net."]).prop_map(name);
    let a_region = prop::sample::select(vec!["iad", "fra", "lon"]).prop_map(region);
    (0..11u8, a_name, a_region.clone(), a_region, 0..4u64, any::<bool>()).prop_map(|(kind, name, one, two, id, flag)| {
        let change = Move {
            name: name.clone(),
            from: one.clone(),
            to: two.clone(),
            kind: MoveKind::Failover,
        };
        let evidence = Evidence::default();
        match kind {
            0 => Body::NameAdded {
                name,
                active: one,
                home: flag.then_some(two),
            },
            1 => Body::NameRetired { name },
            2 => Body::RegionRemoved { name, region: one },
            3 => Body::Switched {
                change,
                overridden: vec![],
                proposal: flag.then_some(id),
                evidence,
            },
            4 => Body::Moved {
                change,
                left: flag,
                evidence,
            },
            5 => Body::Evacuated {
                region: one,
                moves: vec![change],
                stay: vec![name],
                overridden: vec![],
                forced: Vec::new(),
                evidence,
            },
            6 => Body::Restored { region: one },
            7 => Body::Drained { name, region: one },
            8 => Body::Undrained { name, region: one },
            9 => Body::ProposalOpened {
                id,
                name,
                version: Seq(id),
                from: one,
                to: two,
                evidence,
            },
            _ => Body::ProposalEnded {
                id,
                name,
                end: ProposalEnd::Rejected,
            },
        }
    })
}

proptest! {
    #[test]
    fn entries_that_make_no_sense_fold_all_the_same(bodies in prop::collection::vec(any_body(), 0..40)) {
        let fold = || {
            let mut state = State::new();
            let mut held = Vec::new();
            for (index, body) in bodies.iter().enumerate() {
                held.push(state.clone());
                state.fold_unchecked(Seq(index as u64 + 1), at(index as u64), &draft(body.clone()));
            }
            (state, held)
        };
        let (state, held) = fold();
        prop_assert_eq!(&state, &fold().0, "the fold is a function");
        if let Some(first) = held.first() {
            prop_assert_eq!(first, &State::new(), "a reader keeps the state it has");
        }
    }
}
