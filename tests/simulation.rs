//! A seeded simulation of the pure core: random fleets, outcomes, commands, reloads, restarts and failing appends in virtual time.
//!
//! The promises (see `src/lib.rs`) that the core decides are invariants, checked by the [`World`] after every entry and every moment.
//! A failing run prints its seed; `SIMULATION_SEED=n` runs that one alone, `SIMULATION_RUNS=n` sets how many seeds there are.

mod world;

use pointsman::model::*;
use pointsman::role::{self, Command, Denied, Request};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use world::{ProberFault, World};

/// The regions there are.
const REGIONS: [&str; 4] = ["iad", "fra", "lon", "sin"];

#[test]
fn the_promises_hold_in_random_worlds() {
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let runs = number("SIMULATION_RUNS").unwrap_or(1_000);
    let lanes = 2;
    let total = std::thread::scope(|scope| {
        let lane = |lane: u64| {
            scope.spawn(move || {
                (lane..runs)
                    .step_by(lanes)
                    .fold(Tally::default(), |tally, seed| tally.plus(checked(seed)))
            })
        };
        let handles: Vec<_> = (0..lanes as u64).map(lane).collect();
        handles
            .into_iter()
            .fold(Tally::default(), |tally, handle| tally.plus(handle.join().unwrap()))
    });
    println!("{runs} runs: {total:?}");
    // A simulation in which nothing happens proves nothing.
    for (what, count) in [
        ("switches", total.switches),
        ("refusals", total.refusals),
        ("stale", total.stale),
        ("policy moves", total.moves),
        ("proposals", total.proposals),
        ("evacuations", total.evacuations),
        ("reloads", total.reloads),
        ("rejected reloads", total.rejected),
        ("restarts", total.restarts),
        ("suspicions", total.suspicions),
        ("stops of the prober", total.stalls),
        ("suspensions", total.suspensions),
    ] {
        assert!(runs < 500 || count > runs / 20, "only {count} {what} in {runs} runs");
    }
}

/// A number of the environment.
fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok()?.parse().ok()
}

/// One run; prints the seed if it fails.
fn checked(seed: u64) -> Tally {
    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
        Ok(tally) => tally,
        Err(panic) => {
            eprintln!("the simulation fails: SIMULATION_SEED={seed}");
            std::panic::resume_unwind(panic)
        }
    }
}

/// What happened.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    /// Operators' switches that were done.
    switches: u64,
    /// Commands that a gate refused.
    refusals: u64,
    /// Commands refused because they were made against a state that had passed.
    stale: u64,
    /// Moves by policies.
    moves: u64,
    /// Proposals opened.
    proposals: u64,
    /// Regions evacuated.
    evacuations: u64,
    /// Configs taken.
    reloads: u64,
    /// Configs rejected.
    rejected: u64,
    /// Restarts.
    restarts: u64,
    /// Times that the prober was suspected.
    suspicions: u64,
    /// Times that the whole process was stopped for a while.
    stalls: u64,
    /// Times that the machine was suspended.
    suspensions: u64,
}

impl Tally {
    /// Both together.
    fn plus(self, other: Tally) -> Tally {
        Tally {
            switches: self.switches + other.switches,
            refusals: self.refusals + other.refusals,
            stale: self.stale + other.stale,
            moves: self.moves + other.moves,
            proposals: self.proposals + other.proposals,
            evacuations: self.evacuations + other.evacuations,
            reloads: self.reloads + other.reloads,
            rejected: self.rejected + other.rejected,
            restarts: self.restarts + other.restarts,
            suspicions: self.suspicions + other.suspicions,
            stalls: self.stalls + other.stalls,
            suspensions: self.suspensions + other.suspensions,
        }
    }
}

/// Random numbers from a seed (splitmix64): the same on every machine.
struct Dice(u64);

impl Dice {
    /// The next 64 bits.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..count`.
    fn below(&mut self, count: usize) -> usize {
        (self.roll() % count as u64) as usize
    }

    /// True once in `times`.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of some things.
    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// One random story.
fn run(seed: u64) -> Tally {
    let mut dice = Dice(seed);
    let mut apps: Vec<App> = (0..1 + dice.below(2)).map(|number| random_app(&mut dice, number)).collect();
    let mut world = World::start(fleet(&apps)).unwrap();
    let mut tally = Tally::default();
    if !dice.once_in(4) {
        everything_works(&mut world);
    }
    // What an operator saw some time ago: name, active region, version.
    let mut seen: Option<(Name, RegionId, Seq)> = None;
    for _ in 0..40 {
        match dice.below(25) {
            0..6 => world.pass(Duration::from_millis(dice.below(20_000) as u64)),
            6..12 => misbehave(&mut dice, &mut world),
            12..15 => operate(&mut dice, &mut world, seen.as_ref(), &mut tally),
            15 => {
                let names: Vec<Name> = world.fleet.names.keys().cloned().collect();
                let name = dice.pick(&names).clone();
                let known = world.state.name(&name).unwrap();
                seen = Some((name, known.active.clone(), known.version));
            }
            16 => reload(&mut dice, &mut world, &mut apps, &mut tally),
            17 => {
                let saved = (!dice.once_in(2)).then(|| world.book.save(world.now));
                world.restart(saved);
                tally.restarts += 1;
            }
            18 => {
                world.appends_fail = dice.once_in(2);
                world.settle();
            }
            19..22 => world.prober = random_fault(&mut dice),
            22 => {
                world.stall(Duration::from_secs(4 + dice.below(80) as u64));
                tally.stalls += 1;
            }
            23 => {
                world.suspend(Duration::from_secs(*dice.pick(&[1, 10, 20, 10_000])));
                tally.suspensions += 1;
            }
            _ => approve(&mut dice, &mut world, &mut tally),
        }
        world.check_replay();
    }
    world.appends_fail = false;
    world.settle();
    world.prober = ProberFault::None;
    world.pass(Duration::from_secs(150));
    world.check_replay();
    everything_works(&mut world);
    world.pass(Duration::from_secs(90));
    assert_eq!(world.book.suspicion(), None, "the prober works");
    for (app, region, status) in world.book.regions() {
        assert_eq!(
            status.health,
            RegionHealth::Healthy,
            "verdicts come back: {app} {region} {status:?}"
        );
    }
    world.check_replay();
    tally.suspicions = world.suspicions;
    for record in &world.ledger {
        match &record.draft.body {
            Body::Switched { .. } => tally.switches += 1,
            Body::Moved { .. } => tally.moves += 1,
            Body::ProposalOpened { .. } => tally.proposals += 1,
            Body::Evacuated { .. } => tally.evacuations += 1,
            _ => {}
        }
    }
    tally
}

/// The fleet of some applications.
fn fleet(apps: &[App]) -> Fleet {
    let regions = REGIONS.iter().map(|region| (RegionId::new(region), String::new())).collect();
    Fleet::new(regions, apps.iter().cloned().map(Arc::new).collect())
}

/// A random application; its id and name come from its number.
fn random_app(dice: &mut Dice, number: usize) -> App {
    let mut regions: Vec<&str> = REGIONS.to_vec();
    for at in 0..regions.len() {
        let other = dice.below(regions.len());
        regions.swap(at, other);
    }
    regions.truncate(1 + dice.below(4));
    let mut app = world::app(
        &format!("app{number}"),
        &format!("n{number}.example.net."),
        &regions,
        dice.once_in(2),
    );
    change_policy(dice, &mut app);
    for (index, region) in app.regions.clone().iter().enumerate() {
        let mut more: Vec<Endpoint> = Vec::new();
        if dice.once_in(2) {
            more.push(format!("192.0.2.{}", index * 10 + 11).parse().map(Endpoint::Address).unwrap());
        }
        if dice.once_in(3) {
            more.push(format!("2001:db8::{index}").parse().map(Endpoint::Address).unwrap());
        }
        app.endpoints.get_mut(region).unwrap().extend(more);
        if dice.once_in(3) {
            app.paired
                .insert(region.clone(), Name::parse(&format!("{region}.n{number}.example.net.")).unwrap());
        }
    }
    app
}

/// Random settings.
fn change_policy(dice: &mut Dice, app: &mut App) {
    let seconds = [0, 1, 5, 30];
    let mut wait = || Duration::from_secs(*dice.pick(&seconds));
    (app.failover_delay, app.failback_delay, app.cooldown) = (wait(), wait(), wait());
    let policies = [Failover::Manual, Failover::OneWay, Failover::Automatic, Failover::Follow];
    app.failover = *dice.pick(&policies);
    let all = [
        WhenAllDown::Active,
        WhenAllDown::All,
        WhenAllDown::Servfail,
        WhenAllDown::Addresses(vec!["203.0.113.1".parse().unwrap()]),
        WhenAllDown::Host(Name::parse("sorry.example.org.").unwrap()),
    ];
    app.when_all_down = dice.pick(&all).clone();
    if let Some(probe) = app.probes.first_mut() {
        probe.fall = 1 + dice.below(3) as u32;
        probe.rise = 1 + dice.below(2) as u32;
    }
}

/// Every region is healthy, the active one's application says that it is active.
fn everything_works(world: &mut World) {
    let places: BTreeSet<(AppId, RegionId)> = world.behaviours.keys().map(|one| (one.app.clone(), one.region.clone())).collect();
    for (app, region) in places {
        let first = world.fleet.apps[&app].regions.first() == Some(&region);
        world.behave(&app, &region, None, |behaviour| {
            behaviour.result = Some(Ok(()));
            behaviour.says = Some(if first { Observed::Active } else { Observed::Passive });
        });
    }
}

/// An endpoint or a whole region breaks, mends, falls silent, is promoted or demoted.
fn misbehave(dice: &mut Dice, world: &mut World) {
    let targets: Vec<ProbeTarget> = world.behaviours.keys().cloned().collect();
    let target = dice.pick(&targets).clone();
    let result = [
        Some(Ok(())),
        Some(Ok(())),
        Some(Err("HTTP 503".to_owned())),
        Some(Err("timeout".to_owned())),
        None,
    ];
    let result = dice.pick(&result).clone();
    let says = *dice.pick(&[None, Some(Observed::Active), Some(Observed::Active), Some(Observed::Passive)]);
    let one = dice.once_in(3).then_some(&target.endpoint);
    for _ in 0..1 + dice.below(3) {
        world.pass(Duration::from_millis(1));
        world.behave(&target.app, &target.region, one, |behaviour| {
            behaviour.result = result.clone();
            behaviour.says = says.or(behaviour.says);
        });
    }
}

/// What is wrong with the prober from now on.
fn random_fault(dice: &mut Dice) -> ProberFault {
    match dice.below(6) {
        0 | 1 => ProberFault::None,
        2 | 3 => ProberFault::Cut(REGIONS.iter().map(|region| RegionId::new(region)).collect()),
        4 => {
            let reached = dice.below(REGIONS.len());
            let cut = REGIONS.iter().enumerate().filter(|(at, _)| *at != reached);
            ProberFault::Cut(cut.map(|(_, region)| RegionId::new(region)).collect())
        }
        _ => ProberFault::Loss(10 + dice.below(90) as u64),
    }
}

/// A random command of an operator, perhaps made against what was seen some time ago.
fn operate(dice: &mut Dice, world: &mut World, seen: Option<&(Name, RegionId, Seq)>, tally: &mut Tally) {
    let names: Vec<Name> = world.fleet.names.keys().cloned().collect();
    let region = RegionId::new(REGIONS[dice.below(REGIONS.len())]);
    let mut name = dice.pick(&names).clone();
    let mut overrides = BTreeSet::new();
    let all = dice.once_in(3);
    for gate in Gate::ALL {
        if gate.is_overridable() && all || dice.once_in(40) {
            overrides.insert(gate);
        }
    }
    let (mut expect, mut expect_seq) = (None, None);
    if let Some((seen_name, active, version)) = seen.filter(|_| dice.once_in(2)) {
        (name, expect, expect_seq) = (seen_name.clone(), Some(active.clone()), Some(*version));
    }
    let command = match dice.below(12) {
        0..6 => Command::Switch {
            name: name.clone(),
            to: region.clone(),
            expect,
            expect_seq,
            overrides: overrides.clone(),
        },
        6 => Command::Drain {
            name: name.clone(),
            region: region.clone(),
        },
        7 => Command::Undrain {
            name: name.clone(),
            region: region.clone(),
        },
        8..11 => Command::Restore { region: region.clone() },
        _ => Command::Evacuate {
            region: region.clone(),
            leave: if dice.once_in(2) {
                names.iter().cloned().collect()
            } else {
                BTreeSet::new()
            },
            overrides: overrides.clone(),
        },
    };
    give(world, command, tally);
}

/// Gives a command and checks what came of it.
fn give(world: &mut World, command: Command, tally: &mut Tally) {
    let request = Request {
        actor: Actor::Uid { uid: 1000, user: None },
        reason: "simulation".to_owned(),
        request_id: Some(format!("request-{}", world.ledger.len())),
        command: command.clone(),
    };
    let (before, length) = (world.state.clone(), world.ledger.len());
    match world.command(&request) {
        Ok(0) => assert_eq!(before, world.state, "nothing was to change"),
        Ok(_) => check_done(world, &before, length, &command),
        Err(denied) => {
            assert_eq!(
                (before, length),
                (world.state.clone(), world.ledger.len()),
                "what is refused changes nothing"
            );
            if let Denied::Refused(refusals) = denied {
                assert!(!refusals.is_empty() && refusals.iter().all(|refusal| !refusal.message.is_empty()));
                tally.refusals += 1;
                tally.stale += u64::from(refusals.iter().any(|refusal| refusal.gate == Gate::Expect));
            }
        }
    }
}

/// A command that was done did what it says, and nothing was overridden that may not be.
fn check_done(world: &World, before: &role::State, length: usize, command: &Command) {
    let record = &world.ledger[length];
    let used = world.state.receipt(&format!("request-{length}"));
    assert_eq!(used.map(|used| used.seq), Some(Seq(length as u64 + 1)));
    match (command, &record.draft.body) {
        (
            Command::Switch {
                name,
                to,
                expect,
                expect_seq,
                overrides,
            },
            Body::Switched {
                change,
                overridden,
                evidence,
                ..
            },
        ) => {
            let known = before.name(name).unwrap();
            // Promise 9: compare and set.
            assert!(expect.as_ref().is_none_or(|expect| *expect == known.active) && expect_seq.is_none_or(|seq| seq == known.version));
            assert_eq!((&change.from, &change.to), (&known.active, to));
            let failed: Vec<Gate> = evidence.gates.iter().filter(|word| !word.pass).map(|word| word.gate).collect();
            assert_eq!(*overridden, failed, "exactly the gates that failed are recorded as overridden");
            assert!(failed.iter().all(|gate| gate.is_overridable() && overrides.contains(gate)));
        }
        (Command::Evacuate { region, .. }, Body::Evacuated { moves, stay, .. }) => {
            let here = |name: &Name| before.name(name).is_some_and(|known| known.active == *region);
            assert!(moves.iter().all(|change| change.from == *region && here(&change.name)) && stay.iter().all(here));
        }
        (Command::Restore { .. }, Body::Restored { .. })
        | (Command::Drain { .. }, Body::Drained { .. })
        | (Command::Undrain { .. }, Body::Undrained { .. })
        | (Command::Approve { .. }, Body::Switched { .. })
        | (Command::Reject { .. }, Body::ProposalEnded { .. }) => {}
        (command, body) => panic!("{command:?} made {body:?}"),
    }
}

/// Approves or rejects a proposal that is, was or never was.
fn approve(dice: &mut Dice, world: &mut World, tally: &mut Tally) {
    let id = (world.state.proposal_last() + 1).saturating_sub(dice.below(3) as u64);
    let command = if dice.once_in(3) {
        Command::Reject { id }
    } else {
        Command::Approve { id }
    };
    give(world, command, tally);
}

/// The lowest number that no application has, but for the one at a place; two applications of one name are no config.
fn free_number(apps: &[App], but: Option<usize>) -> usize {
    let taken = |number: usize| {
        let id = AppId::new(&format!("app{number}"));
        apps.iter().enumerate().any(|(at, app)| Some(at) != but && app.id == id)
    };
    (0..).find(|number| !taken(*number)).unwrap_or_default()
}

/// A random change of the config; one that is rejected leaves everything as it was.
fn reload(dice: &mut Dice, world: &mut World, apps: &mut Vec<App>, tally: &mut Tally) {
    let mut changed = apps.clone();
    let at = dice.below(changed.len());
    match dice.below(6) {
        0 | 1 => change_policy(dice, &mut changed[at]),
        2 => {
            let number = free_number(&changed, Some(at));
            changed[at] = random_app(dice, number);
        }
        3 => changed[at].regions.reverse(),
        4 if changed.len() > 1 => {
            changed.remove(at);
        }
        4 => {
            let number = free_number(&changed, None);
            changed.push(random_app(dice, number));
        }
        _ => {
            let app = &mut changed[at];
            let region = dice.pick(&app.regions).clone();
            if app.regions.len() > 1 {
                app.regions.retain(|one| *one != region);
                app.endpoints.remove(&region);
                app.paired.remove(&region);
            }
        }
    }
    let before = (world.state.clone(), world.ledger.len());
    match world.reload(fleet(&changed)) {
        Ok(()) => {
            *apps = changed;
            tally.reloads += 1;
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            assert_eq!(
                before,
                (world.state.clone(), world.ledger.len()),
                "what is rejected changes nothing"
            );
            tally.rejected += 1;
        }
    }
}
