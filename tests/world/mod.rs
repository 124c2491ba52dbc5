//! One node's pure core in virtual time: probes that are made up, the health book, the fold, the policies and the decisions.
//!
//! The [`World`] does what the writer does, without threads or files: outcomes → verdicts → policies → entries → fold → decisions. Time jumps
//! from one thing due to the next. After every entry the promises (see `src/lib.rs`) that the core decides are checked.

#![allow(dead_code)] // Each test binary uses its own part of it.

mod promises;

use pointsman::health::{Book, Change, ChangeKind, Saved};
use pointsman::model::*;
use pointsman::role::{self, Denied, Request, State, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where probes begin relative to whole seconds, so that they never end in the same instant as what a scenario injects.
const PHASE: Duration = Duration::from_millis(500);

/// The default of `node.suspect-self-above`.
const SUSPECT_SELF_ABOVE: u8 = 50;

/// How one probed address behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Whether probes pass, or why they fail; none: they bring no outcome at all.
    pub result: Option<Result<(), String>>,
    /// What the application says it is.
    pub says: Option<Observed>,
    /// When the next probe ends.
    next: Mono,
}

/// What is wrong with the prober itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ProberFault {
    /// Nothing.
    #[default]
    None,
    /// It reaches nothing in these regions.
    Cut(BTreeSet<RegionId>),
    /// It loses this share of its runs, percent.
    Loss(u64),
}

/// One recorded entry.
#[derive(Debug, Clone)]
pub struct Record {
    /// When, on the clocks of the process that recorded it.
    pub at: Now,
    /// What.
    pub draft: Draft,
}

/// One node.
pub struct World {
    /// Both clocks.
    pub now: Now,
    /// The config that is served.
    pub fleet: Fleet,
    /// The fold.
    pub state: State,
    /// The policies.
    pub watch: Watch,
    /// The health book.
    pub book: Book,
    /// The ledger.
    pub ledger: Vec<Record>,
    /// The probed addresses.
    pub behaviours: BTreeMap<ProbeTarget, Behaviour>,
    /// Whether appends fail (disk full).
    pub appends_fail: bool,
    /// What is wrong with the prober itself.
    pub prober: ProberFault,
    /// How often the prober came under suspicion.
    pub suspicions: u64,
    /// When this process started or took a config last: delays count from then on at the earliest.
    pub fresh_since: Mono,
    /// When this process started.
    started_at: Mono,
    /// When this machine was suspended last, and for how long.
    pub woke: Option<(Mono, Duration)>,
    /// When what was known of an application became too old with that.
    pub unconfirmed_at: BTreeMap<AppId, Mono>,
    /// Something changed since the promises were checked last.
    changed: bool,
    /// The index into the ledger at which this process started, and its state then: what a replay on the same clocks gives.
    replayed: (usize, State),
}

impl World {
    /// A node that starts with a config and an empty ledger; nothing is known about any region.
    pub fn start(fleet: Fleet) -> Result<World, Vec<String>> {
        let now = Now {
            mono: Mono::ORIGIN,
            wall: Wall(1_800_000_000_000),
        };
        let mut world = World {
            now,
            fleet: Fleet::default(),
            state: State::new(),
            watch: Watch::new(),
            book: Book::new(),
            ledger: Vec::new(),
            behaviours: BTreeMap::new(),
            appends_fail: false,
            prober: ProberFault::None,
            suspicions: 0,
            fresh_since: now.mono,
            started_at: now.mono,
            woke: None,
            unconfirmed_at: BTreeMap::new(),
            changed: true,
            replayed: (0, State::new()),
        };
        world.reload(fleet)?;
        Ok(world)
    }

    /// Takes a config, as the writer does: reconcile, record, then serve it.
    pub fn reload(&mut self, fleet: Fleet) -> Result<(), Vec<String>> {
        let sentences = |conflicts: Vec<role::Conflict>| conflicts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let drafts = role::reconcile_from(&self.state, Some(&self.fleet), &fleet).map_err(sentences)?;
        if self.appends_fail && !drafts.is_empty() {
            return Err(vec!["the entries of the config cannot be recorded".to_owned()]);
        }
        let old = std::mem::replace(&mut self.fleet, fleet);
        self.watch.reconfigured(&old, &self.fleet);
        self.fresh_since = self.now.mono;
        self.changed = true;
        for draft in drafts {
            self.record(draft);
        }
        self.book.suspect_above(SUSPECT_SELF_ABOVE);
        self.book.reconfigure(&self.fleet, self.now);
        self.place_probes();
        self.settle();
        let again = role::reconcile_from(&self.state, Some(&self.fleet), &self.fleet);
        assert_eq!(again, Ok(Vec::new()), "a config that was taken needs nothing more");
        Ok(())
    }

    /// Makes the set of probed addresses a function of the config; those that stay keep their behaviour.
    fn place_probes(&mut self) {
        let mut behaviours = BTreeMap::new();
        for (id, app) in &self.fleet.apps {
            for (region, endpoint) in app
                .endpoints
                .iter()
                .flat_map(|(region, all)| all.iter().map(move |one| (region, one)))
            {
                let Endpoint::Address(address) = endpoint else { continue };
                for probe in 0..app.probes.len() {
                    let target = ProbeTarget {
                        app: id.clone(),
                        region: region.clone(),
                        endpoint: endpoint.clone(),
                        address: *address,
                        probe,
                    };
                    let old = self.behaviours.remove(&target);
                    let fresh = Behaviour {
                        result: None,
                        says: None,
                        next: self.now.mono.plus(PHASE),
                    };
                    behaviours.insert(target, old.unwrap_or(fresh));
                }
            }
        }
        self.behaviours = behaviours;
    }

    /// Stops and starts again at once: the ledger is replayed, delays start anew, the clocks are others. `saved` is the health
    /// that was written down, if any.
    pub fn restart(&mut self, saved: Option<Saved>) {
        let pause = Duration::from_secs(1);
        let wall = self.now.plus(pause).wall;
        let gone = self.now.mono.since(Mono::ORIGIN) + pause;
        // The new process' monotonic clock starts at its origin; what is made up here moves along with it.
        self.now = Now { mono: Mono::ORIGIN, wall };
        self.started_at = self.now.mono;
        self.woke = None;
        self.unconfirmed_at.clear();
        self.fresh_since = self.now.mono;
        self.changed = true;
        for behaviour in self.behaviours.values_mut() {
            behaviour.next = behaviour.next.minus(gone).plus(PHASE).max(Mono::ORIGIN.plus(PHASE));
        }
        self.state = State::new();
        for (index, record) in self.ledger.iter().enumerate() {
            let at = Now {
                mono: self.now.mono_at(record.at.wall),
                wall: record.at.wall,
            };
            self.state.apply(Seq(index as u64 + 1), at, &record.draft);
        }
        self.replayed = (self.ledger.len(), self.state.clone());
        self.watch = Watch::new();
        self.watch.reconfigured(&Fleet::default(), &self.fleet);
        self.book = Book::new();
        self.book.suspect_above(SUSPECT_SELF_ABOVE);
        self.book.reconfigure(&self.fleet, self.now);
        if let Some(saved) = saved {
            self.book.restore(&saved, self.now);
        }
        self.settle();
    }

    /// Lets time pass, jumping from one thing due to the next.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.mono.plus(duration);
        for round in 0.. {
            assert!(round < 1_000_000, "time does not pass: something is always due");
            let probes = self
                .behaviours
                .values()
                .filter(|one| one.result.is_some())
                .map(|one| one.next)
                .min();
            let due = [probes, self.book.next_due(), self.watch.next_due()];
            let next = due.into_iter().flatten().min().unwrap_or(end).clamp(self.now.mono, end);
            self.now = self.now.plus(next.since(self.now.mono));
            self.probe_due();
            let changes = self.book.poll(self.now);
            self.touch(&changes);
            self.settle();
            if next >= end {
                self.changed = true;
                self.settle();
                return;
            }
        }
    }

    /// Every probe that ends now brings its outcome.
    fn probe_due(&mut self) {
        let due: Vec<ProbeTarget> = self
            .behaviours
            .iter()
            .filter(|(_, one)| one.next <= self.now.mono)
            .map(|(target, _)| target.clone())
            .collect();
        for target in due {
            let interval = self.fleet.apps[&target.app].probes[target.probe].interval;
            let behaviour = self.behaviours.get_mut(&target).unwrap();
            behaviour.next = self.now.mono.plus(interval);
            self.observe(&target);
        }
    }

    /// One outcome of a probe, now.
    fn observe(&mut self, target: &ProbeTarget) {
        let behaviour = &self.behaviours[target];
        let Some(result) = behaviour.result.clone() else { return };
        let result = if self.is_lost(target) {
            Err("no answer: the prober is at fault".to_owned())
        } else {
            result
        };
        let reports = self.fleet.apps[&target.app].probes[target.probe].reports_role();
        let failed = |message: String| Failure {
            reason: reason_of(&message),
            message,
        };
        let outcome = Outcome {
            observed: behaviour.says.filter(|_| reports && result.is_ok()),
            ..Outcome::new(target.clone(), self.now.mono, Duration::from_millis(5), result.map_err(failed))
        };
        self.fold(&outcome);
    }

    /// Takes an outcome in, as the writer does.
    fn fold(&mut self, outcome: &Outcome) {
        let mut changes = self.book.poll(self.now);
        let before = self.book.clone();
        changes.extend(self.book.observe(outcome, self.now));
        match (before.suspicion(), self.book.suspicion()) {
            (None, Some(_)) => {
                self.suspicions += 1;
                // One that was reached says something of its own endpoint besides.
                if outcome.result.as_ref().is_err_and(|failure| failure.reason.is_cut()) {
                    self.check_answers_stay(&before);
                }
            }
            // Delays start anew.
            (Some(_), None) => self.fresh_since = self.now.mono,
            _ => {}
        }
        self.touch(&changes);
    }

    /// Whether the prober itself loses the run of a target that ends now.
    fn is_lost(&self, target: &ProbeTarget) -> bool {
        match &self.prober {
            ProberFault::None => false,
            ProberFault::Cut(regions) => regions.contains(&target.region),
            ProberFault::Loss(percent) => {
                let mut mixed = self.now.wall.0;
                for byte in format!("{target:?}").bytes() {
                    mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
                (mixed >> 32) % 100 < *percent
            }
        }
    }

    /// The whole process is stopped and goes on: every run was under way and ends without an answer.
    pub fn stall(&mut self, duration: Duration) {
        let sick = |world: &World| -> BTreeSet<(AppId, RegionId)> {
            let regions = world.book.regions();
            let sick = regions.filter(|(_, _, status)| status.health == RegionHealth::Unhealthy);
            sick.map(|(app, region, _)| (app.clone(), region.clone())).collect()
        };
        let (before, length) = (sick(self), self.ledger.len());
        // A delay that is over on evidence that is fresh still, however long the stop, is over.
        // And where two regions said that they are active, the one that was heard later may be left alone with it.
        let says = |steered: &SteeredName, region: &RegionId| {
            let status = self.book.region(&steered.app.id, region);
            status.is_some_and(|status| status.observed == Observed::Active)
        };
        let is_split = |steered: &SteeredName| steered.order.iter().filter(|region| says(steered, region)).count() > 1;
        let names = self.fleet.names.iter();
        let waiting: BTreeSet<Name> = names
            .filter(|(name, steered)| self.watch.waiting(name).is_some() || is_split(steered))
            .map(|(name, _)| name.clone())
            .collect();
        self.now = self.now.plus(duration);
        let targets: Vec<ProbeTarget> = self.behaviours.keys().cloned().collect();
        for target in targets {
            let behaviour = self.behaviours.get_mut(&target).unwrap();
            behaviour.next = self.now.mono.plus(PHASE);
            if behaviour.result.is_some() {
                let failure = Failure {
                    reason: FailReason::Timeout,
                    message: "no answer within 2s".to_owned(),
                };
                self.fold(&Outcome::new(target, self.now.mono, duration, Err(failure)));
                self.settle();
            }
        }
        let changes = self.book.poll(self.now);
        self.touch(&changes);
        self.settle();
        assert!(sick(self).is_subset(&before), "a stop of the prober made a region sick");
        let is_new = |change: &Move| !waiting.contains(&change.name);
        let moved = self.ledger[length..]
            .iter()
            .find(|record| record.draft.body.moves().iter().any(is_new));
        assert!(moved.is_none(), "a stop of the prober moved something: {moved:?}");
    }

    /// This machine is suspended, or its wall clock is set forward: time goes by that the monotonic clock does not count. Nothing that
    /// is answered changes, and nothing is recorded; what was under way ends afterwards.
    pub fn suspend(&mut self, duration: Duration) {
        let decisions = |world: &World| -> Vec<Decision> { world.fleet.names.keys().map(|name| world.decide(name)).collect() };
        self.settle();
        let (before, length) = (decisions(self), self.ledger.len());
        self.now.wall = Now { ..self.now }.plus(duration).wall;
        self.woke = Some((self.now.mono, duration));
        let changes = self.book.wake(duration, self.now);
        let apps: BTreeSet<&AppId> = changes.iter().map(|change| &change.app).collect();
        for app in apps {
            self.unconfirmed_at.insert(app.clone(), self.now.mono);
            self.watch.start_anew(self.fleet.names_of.get(app).into_iter().flatten());
        }
        self.touch(&changes);
        self.settle();
        let targets: Vec<ProbeTarget> = self.behaviours.keys().cloned().collect();
        for (number, target) in targets.into_iter().enumerate() {
            let failure = Failure {
                reason: FailReason::Connect,
                message: "connection reset".to_owned(),
            };
            let result = if number % 2 == 0 { Ok(()) } else { Err(failure) };
            self.fold(&Outcome::new(target, self.now.mono, Duration::from_secs(1), result));
        }
        self.settle();
        assert_eq!(decisions(self), before, "a suspension changed what is answered");
        assert_eq!(self.ledger.len(), length, "a suspension was recorded: {:?}", self.ledger.last());
    }

    /// Changes how the probed addresses of a region (or one endpoint of it) behave, and lets their probes end now, once.
    pub fn behave(&mut self, app: &AppId, region: &RegionId, endpoint: Option<&Endpoint>, change: impl Fn(&mut Behaviour)) {
        let targets: Vec<ProbeTarget> = self
            .behaviours
            .keys()
            .filter(|target| target.app == *app && target.region == *region && endpoint.is_none_or(|one| target.endpoint == *one))
            .cloned()
            .collect();
        assert!(!targets.is_empty(), "{app} has no probed endpoint {endpoint:?} in {region}");
        for target in targets {
            change(self.behaviours.get_mut(&target).unwrap());
            self.observe(&target);
        }
        self.settle();
    }

    /// The names of an application whose verdicts changed are looked at again.
    fn touch(&mut self, changes: &[Change]) {
        self.changed |= !changes.is_empty();
        if changes.iter().any(|change| matches!(change.what, ChangeKind::Confirmed { .. })) {
            // Delays start anew.
            self.fresh_since = self.now.mono;
        }
        let apps: BTreeSet<&AppId> = changes.iter().map(|change| &change.app).collect();
        for name in apps.into_iter().filter_map(|app| self.fleet.names_of.get(app)).flatten() {
            self.watch.touch(name);
        }
    }

    /// Lets the policies offer and records what they offer, until they rest.
    pub fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 20, "the policies never rest");
            let drafts = self.watch.poll(&self.state, &self.fleet, &self.book, self.now);
            if drafts.is_empty() || self.appends_fail {
                break;
            }
            for draft in drafts {
                self.record(draft);
            }
        }
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.check_decisions();
        if !self.appends_fail {
            self.check_nothing_is_overdue();
        }
    }

    /// An operator's command; the number of entries that it made.
    pub fn command(&mut self, request: &Request) -> Result<usize, Denied> {
        let before = self.state.clone();
        let drafts = role::handle(&self.state, &self.fleet, &self.book, self.now, request)?;
        assert_eq!(before, self.state, "handle changes nothing");
        if self.appends_fail {
            return Err(Denied::Invalid("it cannot be recorded".to_owned()));
        }
        let count = drafts.len();
        for draft in drafts {
            self.record(draft);
        }
        self.settle();
        Ok(count)
    }

    /// Records one entry: append, apply, check, touch.
    fn record(&mut self, draft: Draft) {
        self.changed = true;
        let before = self.state.clone();
        self.ledger.push(Record {
            at: self.now,
            draft: draft.clone(),
        });
        self.state.apply(Seq(self.ledger.len() as u64), self.now, &draft);
        self.check_entry(&before, &draft);
        for name in role::affected(&self.fleet, &draft.body) {
            self.watch.touch(&name);
        }
    }

    /// The decision on a name now.
    pub fn decide(&self, name: &Name) -> Decision {
        pointsman::steering::decide(&self.fleet.names[name], &self.state, &self.book, self.now)
    }
}

/// The class of a failure, by its words.
fn reason_of(message: &str) -> FailReason {
    match message.split([' ', ':']).next() {
        Some("timeout" | "no") => FailReason::Timeout,
        Some("connection") => FailReason::Connect,
        Some("cannot") => FailReason::Internal,
        _ => FailReason::Status,
    }
}

/// An application with one probe, healthy and unhealthy after one outcome each; a role probe where `role` is set.
pub fn app(id: &str, name: &str, regions: &[&str], role: bool) -> App {
    let regions: Vec<RegionId> = regions.iter().map(|region| RegionId::new(region)).collect();
    let endpoints = regions
        .iter()
        .enumerate()
        .map(|(index, region)| {
            let address = std::net::IpAddr::from([192, 0, 2, (index as u8 + 1) * 10]);
            (region.clone(), vec![Endpoint::Address(address)])
        })
        .collect();
    App {
        id: AppId::new(id),
        name: Name::parse(name).unwrap().to_lowercase(),
        regions,
        ttl: 30,
        failover: Failover::Manual,
        failover_delay: Duration::ZERO,
        failback_delay: Duration::from_secs(300),
        cooldown: Duration::from_secs(60),
        when_all_down: WhenAllDown::Active,
        require: Require::All,
        paired: BTreeMap::new(),
        endpoints,
        probes: vec![probe(role)],
    }
}

/// A probe that counts, every 5 s, one outcome enough for a verdict.
pub fn probe(role: bool) -> ProbeSpec {
    let kind = match role {
        true => ProbeKind::Postgres(PostgresProbe {
            port: 5432,
            user: "probe".to_owned(),
            password_file: None,
            database: "shop".to_owned(),
            query: None,
            tls: None,
        }),
        false => ProbeKind::Tcp(TcpProbe {
            port: 80,
            send: None,
            expect: None,
        }),
    };
    ProbeSpec {
        fall: 1,
        rise: 1,
        ..ProbeSpec::new(kind)
    }
}
