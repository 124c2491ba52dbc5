//! Deciding and publishing: from roles and health to the snapshot that lanes and readers hold.
//!
//! Only names that something touched are decided again, only decisions that differ are compiled again, and
//! both maps share their structure with the snapshot before: a publish does not grow with the number of names.
//! Order: first the answers (what resolvers get), then the view (what operators see), then the metrics.

use super::alerts::Alerts;
use super::types::{Published, Serving};
use crate::answer::{Settings, Snapshot, SteeredInput};
use crate::config::Config;
use crate::health::Book;
use crate::ledger::Hash;
use crate::model::{Decision, Fleet, Generation, Name, Now};
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
    decisions: imbl::OrdMap<Name, Arc<Decision>>,
    generation: Generation,
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
        }
    }

    /// The decision on a name that readers see now.
    pub fn decision(&self, name: &Name) -> Option<&Arc<Decision>> {
        self.decisions.get(name)
    }

    /// The number of the last snapshot.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Decides the names again; gives the decisions that differ from the present ones.
    pub fn decide<'n>(
        &self,
        names: impl Iterator<Item = &'n Name>,
        fleet: &Fleet,
        state: &State,
        health: &Book,
        now: Now,
    ) -> Vec<Arc<Decision>> {
        names
            .filter_map(|name| fleet.names.get(name))
            .map(|steered| steering::decide(steered, state, health, now))
            .filter(|decision| self.decisions.get(&decision.name).is_none_or(|present| **present != *decision))
            .map(Arc::new)
            .collect()
    }

    /// Takes a new set of zones and names: the answers were compiled beforehand, off this task.
    pub fn replace(&mut self, answers: Arc<Snapshot>, decisions: imbl::OrdMap<Name, Arc<Decision>>) {
        self.answers = answers;
        self.decisions = decisions;
    }

    /// Publishes the changed decisions and the present state as the next generation.
    pub fn publish(&mut self, changed: &[Arc<Decision>], moment: &Moment<'_>) -> Generation {
        if !changed.is_empty() {
            let inputs: Vec<SteeredInput> = changed
                .iter()
                .filter_map(|decision| steered_input(&moment.config.fleet, decision.clone()))
                .collect();
            self.answers = Arc::new(self.answers.with(&inputs));
            for decision in changed {
                self.decisions.insert(decision.name.clone(), decision.clone());
            }
        }
        self.generation = self.generation.next();
        self.lanes.store(self.answers.clone());
        self.view.store(Arc::new(Published {
            generation: self.generation,
            seq: moment.state.seq(),
            head: moment.head,
            config: moment.config.clone(),
            state: moment.state.clone(),
            health: moment.health.clone(),
            watch: Arc::new(moment.watch.clone()),
            decisions: self.decisions.clone(),
            alerts: moment.alerts.current(),
            serving: moment.serving.clone(),
        }));
        self.generation
    }

    /// Shows readers the latest evidence between two publishes: ages and last outcomes change although no verdict does.
    /// The lanes and the generation stay, and the cost is the same for any number of names.
    pub fn show_health(&self, health: &Book) {
        let present = Published::clone(&self.view.load());
        self.view.store(Arc::new(Published {
            health: health.clone(),
            ..present
        }));
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
) -> (Snapshot, imbl::OrdMap<Name, Arc<Decision>>) {
    let decisions: imbl::OrdMap<Name, Arc<Decision>> = fleet
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
