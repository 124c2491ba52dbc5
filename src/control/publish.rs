//! Deciding and publishing: from roles and health to the snapshot that lanes and readers hold.
//!
//! Only names that something touched are decided again, only decisions that differ are compiled again, and
//! both maps share their structure with the snapshot before: a publish does not grow with the number of names.
//! Order: first the answers (what resolvers get), then the view (what operators see), then the metrics.
//!
//! What an append will change is decided and compiled while the disk is at work ([`Publisher::prepare`]): once it is durable only
//! a pointer is left to store, and of a hundred thousand names whatever the disk was quicker than. Should anything else have changed meanwhile, what
//! was prepared is thrown away and the names are decided anew.

use super::alerts::Alerts;
use super::types::{Published, Serving};
use crate::answer::{Service, Settings, Snapshot, SteeredInput};
use crate::both::both;
use crate::config::Config;
use crate::health::Book;
use crate::ledger::Hash;
use crate::model::{Decision, Finder, Fleet, Generation, Name, NameMap, Now};
use crate::role::{State, Watch};
use crate::steering;
use crate::zone::Zone;
use arc_swap::ArcSwap;
use std::sync::Arc;

/// What is published, and where to.
pub(super) struct Publisher {
    /// What the lanes answer from.
    lanes: Arc<ArcSwap<Snapshot>>,
    /// What readers see.
    view: Arc<ArcSwap<Published>>,
    answers: Arc<Snapshot>,
    decisions: NameMap<Arc<Decision>>,
    generation: Generation,
    /// Counts what decisions rest on: verdicts, answers, the config. What was prepared holds for one count.
    basis: u64,
    /// Everything that lanes ever got.
    #[cfg(test)]
    pub stored: Vec<Arc<Snapshot>>,
}

/// Decisions in the order of their names.
type Decisions = Vec<Arc<Decision>>;

/// What will be published when the append under way is durable.
pub(super) struct Prepared {
    /// What it was made on.
    basis: u64,
    /// The decisions that differ from those present.
    decided: Decisions,
    /// Those of them that answer differently or for another reason: what is told.
    pub changed: Decisions,
    answers: Arc<Snapshot>,
    decisions: NameMap<Arc<Decision>>,
}

/// What was published before: nothing reads it any more, but to give back what a hundred thousand names had takes its time.
pub(super) struct Replaced {
    _answers: Arc<Snapshot>,
    _view: Arc<Published>,
}

/// The writer's state, borrowed for one publish.
pub(super) struct Moment<'a> {
    pub config: &'a Arc<Config>,
    pub state: &'a State,
    pub head: Hash,
    pub health: &'a Book,
    pub watch: &'a Watch,
    pub alerts: &'a Alerts,
    pub serving: &'a Arc<Serving>,
}

impl Publisher {
    /// Starts from what was compiled at start; nothing is published yet.
    pub fn new(lanes: Arc<ArcSwap<Snapshot>>, view: Arc<ArcSwap<Published>>) -> Publisher {
        let (answers, published) = (lanes.load_full(), view.load_full());
        Publisher {
            lanes,
            view,
            answers,
            decisions: published.decisions.clone(),
            generation: published.generation,
            basis: 0,
            #[cfg(test)]
            stored: Vec::new(),
        }
    }

    /// Whether the node adds exactly this to its answers.
    pub fn serves(&self, service: &Service) -> bool {
        **self.answers.service() == *service
    }

    /// Something changed that decisions rest on: what was prepared before does not hold any more.
    pub fn outdate(&mut self) {
        self.basis += 1;
    }

    /// Finds the decisions on so many names, in canonical order best, from this one on.
    #[expect(clippy::type_complexity, reason = "a look-up and an iterator cannot be named otherwise")]
    pub fn finder<'m>(
        &'m self,
        wanted: usize,
        first: Option<&Name>,
    ) -> Finder<impl Fn(&Name) -> Option<&'m Arc<Decision>>, impl Iterator<Item = (&'m Name, &'m Arc<Decision>)>> {
        let all = &self.decisions;
        Finder::new((wanted, first), all.len(), |name| all.get(name), |first| all.iter_from(first))
    }

    /// The number of the last snapshot.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Decides names again by a state, and compiles the decisions that differ from the present ones. Nothing is published.
    pub fn prepare(&self, names: &[Name], fleet: &Fleet, state: &State, health: &Book, now: Now) -> Prepared {
        let (half, rest) = names.split_at(names.len() / 2);
        let decide = |names| self.decide(names, fleet, state, health, now);
        let ((mut decided, mut changed), (more_decided, more_changed)) = both(names.len(), || decide(half), || decide(rest));
        decided.extend(more_decided);
        changed.extend(more_changed);
        let (answers, decisions) = self.with(&decided);
        Prepared {
            basis: self.basis,
            decided,
            changed,
            answers,
            decisions,
        }
    }

    /// Decides names again; gives the decisions that differ from the present ones, and those of them that are told.
    fn decide(&self, names: &[Name], fleet: &Fleet, state: &State, health: &Book, now: Now) -> (Decisions, Decisions) {
        let (count, first) = (names.len(), names.first());
        let (mut configs, mut states) = (fleet.finder(count, first), state.finder(count, first));
        let mut present = self.finder(count, first);
        let (mut decided, mut changed) = (Vec::new(), Vec::new());
        for steered in names.iter().filter_map(|name| configs.find(name)) {
            let decision = steering::decide_known(steered, states.find(&steered.name), state, health, now);
            let present = present.find(&decision.name);
            if present.is_some_and(|present| **present == decision) {
                continue;
            }
            let decision = Arc::new(decision);
            if !present.is_some_and(|present| present.is_told_as(&decision)) {
                changed.push(decision.clone());
            }
            decided.push(decision);
        }
        (decided, changed)
    }

    /// The present answers and decisions with these instead.
    fn with(&self, decided: &[Arc<Decision>]) -> (Arc<Snapshot>, NameMap<Arc<Decision>>) {
        if decided.is_empty() {
            return (self.answers.clone(), self.decisions.clone());
        }
        let compile = || Arc::new(self.answers.decided(decided));
        let list = || {
            let mut decisions = self.decisions.clone();
            decisions.change_many(decided, |decision| &decision.name, |_, decision| decision.clone());
            decisions
        };
        both(decided.len(), compile, list)
    }

    /// Takes what was prepared, to be published next; false when it does not hold any more.
    pub fn take(&mut self, prepared: &Prepared) -> bool {
        if prepared.basis != self.basis {
            return false;
        }
        if !prepared.decided.is_empty() {
            self.answers = prepared.answers.clone();
            self.decisions = prepared.decisions.clone();
            self.outdate();
        }
        true
    }

    /// Takes a new set of zones and names: the answers were compiled beforehand, off this task.
    pub fn replace(&mut self, answers: Arc<Snapshot>, decisions: NameMap<Arc<Decision>>) {
        self.answers = answers;
        self.decisions = decisions;
        self.outdate();
    }

    /// Publishes what was taken and the present state as the next generation; gives what was published before.
    pub fn publish(&mut self, moment: &Moment<'_>) -> Replaced {
        self.generation = self.generation.next();
        let answers = self.lanes.swap(self.answers.clone());
        #[cfg(test)]
        self.stored.push(self.answers.clone());
        let view = self.view.swap(Arc::new(Published {
            generation: self.generation,
            seq: moment.state.seq(),
            head: moment.head,
            config: moment.config.clone(),
            state: moment.state.clone(),
            health: moment.health.clone(),
            watch: Arc::new(moment.watch.shown()),
            decisions: self.decisions.clone(),
            alerts: moment.alerts.current(),
            serving: moment.serving.clone(),
        }));
        Replaced {
            _answers: answers,
            _view: view,
        }
    }

    /// Shows readers the latest evidence between two publishes: ages and last outcomes change although no verdict does.
    /// The lanes and the generation stay, and the cost is the same for any number of names. Gives what was shown before.
    pub fn show_health(&self, health: &Book) -> Arc<Published> {
        let present = Published::clone(&self.view.load());
        self.view.swap(Arc::new(Published {
            health: health.clone(),
            ..present
        }))
    }
}

/// Compiles zones and every steered name from nothing: at start and for a reload, off the writer's task.
pub fn compile(
    fleet: &Fleet,
    zones: &[Arc<Zone>],
    state: &State,
    health: &Book,
    now: Now,
    hash_seed: u64,
    settings: Settings,
) -> (Snapshot, NameMap<Arc<Decision>>) {
    let decisions: NameMap<Arc<Decision>> = fleet
        .names
        .iter()
        .map(|(name, steered)| (name.clone(), Arc::new(steering::decide(steered, state, health, now))))
        .collect();
    let inputs: Vec<SteeredInput> = decisions
        .values()
        .filter_map(|decision| steered_input(fleet, decision.clone()))
        .collect();
    (Snapshot::build_with(zones, &inputs, hash_seed, settings), decisions)
}

/// What `answer` compiles for a name: every region's full answer beside the one decided.
fn steered_input(fleet: &Fleet, decision: Arc<Decision>) -> Option<SteeredInput> {
    let steered = fleet.names.get(&decision.name)?;
    let regions = steered
        .order
        .iter()
        .map(|region| (region.clone(), steering::answer_of(steered, region)))
        .collect();
    Some(SteeredInput {
        name: decision.name.clone(),
        ttl: steered.app.ttl,
        regions,
        decision,
        is_probed: steered.app.probes.iter().any(|probe| !probe.monitoring_only),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::answer::{Ctx, Out, Outcome, Transport, respond};
    use crate::both::MANY_NAMES;
    use crate::model::{Body, Move, MoveKind, RegionId};
    use crate::role::fixture;

    /// What a snapshot answers to an A query for a name.
    pub(in crate::control) fn answer(snapshot: &Snapshot, name: &Name) -> Vec<u8> {
        let mut query = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend_from_slice(name.wire());
        query.extend_from_slice(&[0, 1, 0, 1]);
        let ctx = Ctx {
            peer: ([127, 0, 0, 1], 53).into(),
            local: None,
            transport: Transport::Udp,
            size_max: 512,
            wall_seconds: 0,
            rotation: 0,
            keepalive_tenths: None,
            cookies: None,
        };
        let mut room = [0; 512];
        match respond(snapshot, &query, &ctx, &mut Out::new(&mut room)) {
            Outcome::Reply(reply) => room[..reply.len].to_vec(),
            Outcome::Drop(reason) => panic!("{reason:?}"),
        }
    }

    /// Some config: readers get one, nothing here looks at it.
    fn config() -> Arc<Config> {
        let text = "version = 1\n[node]\nname = \"n\"\ndata-dir = \"d\"\n";
        let loaded = crate::config::load("c.toml", &mut |_, _| Ok(text.as_bytes().to_vec()));
        Arc::new(loaded.unwrap().config)
    }

    /// A fleet of so many names, its zone, and a publisher that answers by a state of it.
    fn published(names: usize) -> (Fleet, Vec<Arc<Zone>>, State, Publisher) {
        let apps = (0..names).map(|number| fixture::app(&format!("app{number:02}"), &["iad", "fra"]));
        let fleet = fixture::fleet(apps.collect());
        let source = crate::zone::Source {
            path: "zone".into(),
            text: b"$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n".to_vec(),
        };
        let zone = crate::zone::read(&source, &fixture::name("example.net."), &mut |_, _| Err(String::new())).unwrap();
        let (zones, state) = (vec![Arc::new(zone.zone)], fixture::state(&fleet));
        let (answers, decisions) = compile(&fleet, &zones, &state, &Book::new(), fixture::start(), 1, Settings::default());
        let answers = Arc::new(answers);
        let publisher = Publisher {
            lanes: Arc::new(ArcSwap::new(answers.clone())),
            view: Arc::new(ArcSwap::from_pointee(Published {
                generation: Generation(0),
                seq: state.seq(),
                head: Hash::GENESIS,
                config: config(),
                state: state.clone(),
                health: Book::new(),
                watch: Arc::new(Watch::new()),
                decisions: decisions.clone(),
                alerts: imbl::OrdMap::new(),
                serving: Arc::new(Serving::Current),
            })),
            answers,
            decisions,
            generation: Generation(0),
            basis: 0,
            stored: Vec::new(),
        };
        (fleet, zones, state, publisher)
    }

    #[test]
    fn what_was_prepared_answers_as_if_compiled_from_nothing() {
        for names in [1, 40, MANY_NAMES] {
            let (fleet, zones, mut state, mut publisher) = published(names);
            let (iad, fra) = (RegionId::new("iad"), RegionId::new("fra"));
            let moves = fleet.names.keys().map(|name| Move {
                name: name.clone(),
                from: iad.clone(),
                to: fra.clone(),
                kind: MoveKind::Switchover,
            });
            let body = Body::Evacuated {
                region: iad.clone(),
                moves: moves.collect(),
                stay: Vec::new(),
                overridden: Vec::new(),
                forced: Vec::new(),
                evidence: crate::model::Evidence::default(),
            };
            state.apply(state.seq().next(), fixture::start(), &fixture::draft(body));
            let all: Vec<Name> = fleet.names.keys().cloned().collect();
            let before = publisher.answers.clone();
            let prepared = publisher.prepare(&all, &fleet, &state, &Book::new(), fixture::start());
            assert_eq!(prepared.changed.len(), names);
            assert!(
                Arc::ptr_eq(&before, &publisher.answers),
                "nothing is answered otherwise before it is taken"
            );
            assert!(publisher.take(&prepared));
            let (answers, decisions) = compile(&fleet, &zones, &state, &Book::new(), fixture::start(), 1, Settings::default());
            assert_eq!(publisher.decisions, decisions);
            for name in &all {
                assert_eq!(answer(&publisher.answers, name), answer(&answers, name), "{name}");
                assert_ne!(answer(&publisher.answers, name), answer(&before, name), "{name}");
            }
            let again = publisher.prepare(&all, &fleet, &state, &Book::new(), fixture::start());
            assert!(again.changed.is_empty());
        }
    }

    #[test]
    fn what_was_prepared_before_something_else_changed_is_not_taken() {
        let (fleet, _, state, mut publisher) = published(2);
        let prepared = publisher.prepare(&[], &fleet, &state, &Book::new(), fixture::start());
        publisher.outdate();
        assert!(!publisher.take(&prepared));
    }
}
