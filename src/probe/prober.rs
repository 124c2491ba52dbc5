//! The set of tasks: exactly what the config and the addresses of host names ask for.
//!
//! A target is what [`ProbeTarget`] says together with its [`ProbeSpec`]: if either changes, the old task is
//! stopped and a new one starts. One task a target, asleep between runs on one timer wheel: measured, 2 KiB
//! each, and 30 KiB where http keeps a connection, so ten thousand targets take 20 MiB to 300 MiB; each kept
//! connection also needs a descriptor. The first runs of many new targets are spread, a millisecond each, over at most
//! one interval; a few start at once, since the first knowledge matters most.

use super::lookup::{self, HostKey, Lookup, SystemLookup};
use super::task::{self, Common, Gate, Random};
use super::tls::Trust;
use super::{Kind, ProbeEvent, kind};
use crate::model::{App, Endpoint, Fleet, Mono, ProbeSpec, ProbeTarget};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Most runs under way at the same time; further ones wait. Bounds descriptors and memory.
const RUNS_MAX: usize = 1024;
/// Most programs under way at the same time.
const PROGRAMS_MAX: usize = 64;
/// Least delay before a first run, so that its outcome is later than the config in every book.
const FIRST_RUN_AFTER: Duration = Duration::from_millis(20);
/// What each new target adds to the time over which first runs are spread.
const SPREAD_PER_TARGET: Duration = Duration::from_millis(1);

/// Runs the probes of a fleet. Dropping it stops them all.
pub struct Prober {
    /// What the tasks share.
    shared: Arc<Shared>,
}

/// State shared with the tasks that look names up.
pub(super) struct Shared {
    /// What every task needs.
    pub common: Arc<Common>,
    /// Whom probes trust.
    trust: Arc<Trust>,
    /// Where addresses come from.
    lookup: Arc<dyn Lookup>,
    /// Makes the kinds.
    kinds: Kinds,
    /// Where tasks run.
    runtime: Handle,
    /// What runs now.
    set: Mutex<Set>,
}

/// Makes a kind at a target; tests make up others.
pub(super) type Kinds = Box<dyn Fn(&ProbeSpec, &ProbeTarget, &Arc<Trust>) -> Box<dyn Kind> + Send + Sync>;

/// What runs now.
#[derive(Default)]
struct Set {
    /// The config.
    fleet: Fleet,
    /// One task a target.
    targets: HashMap<ProbeTarget, (ProbeSpec, Task)>,
    /// One task a host name, with the interval of its look-ups and what it last resolved to.
    hosts: BTreeMap<HostKey, (Duration, Vec<IpAddr>, Task)>,
}

/// A task that can be stopped. Once `stop` returned, nothing more comes from it.
struct Task {
    /// What its events pass.
    gate: Arc<Gate>,
    /// Ends it.
    abort: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.gate.shut();
        self.abort.abort();
    }
}

impl Prober {
    /// A prober without probes, on the current tokio runtime. `origin` is what
    /// [`crate::model::Mono::ORIGIN`] is on this process' clock.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(events: mpsc::Sender<ProbeEvent>, origin: std::time::Instant) -> Prober {
        Prober::start_with(events, origin, Arc::new(SystemLookup))
    }

    /// The same with another source of addresses.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_with(events: mpsc::Sender<ProbeEvent>, origin: std::time::Instant, lookup: Arc<dyn Lookup>) -> Prober {
        Prober::assemble(events, origin, lookup, Box::new(kind))
    }

    /// The same with other kinds.
    pub(super) fn assemble(events: mpsc::Sender<ProbeEvent>, origin: std::time::Instant, lookup: Arc<dyn Lookup>, kinds: Kinds) -> Prober {
        let common = Common {
            events,
            origin: origin.into(),
            runs: Semaphore::new(RUNS_MAX),
            programs: Semaphore::new(PROGRAMS_MAX),
        };
        let shared = Shared {
            common: Arc::new(common),
            trust: Arc::default(),
            lookup,
            kinds,
            runtime: Handle::current(),
            set: Mutex::default(),
        };
        Prober { shared: Arc::new(shared) }
    }

    /// Makes the running probes those of `fleet`: new ones start, unchanged ones go on undisturbed, the rest
    /// stop. When this returns, nothing more is sent by probes that are gone; read the clock then for
    /// `health::Book::reconfigure`, and what they sent before is told apart from the new by its time.
    pub fn configure(&self, fleet: &Fleet) {
        let mut set = self.shared.set();
        self.shared.trust.renew();
        set.fleet = fleet.clone();
        self.shared.set_hosts(&mut set);
        self.shared.set_targets(&mut set);
    }

    /// The clock that outcomes are stamped with.
    pub fn now(&self) -> Mono {
        self.shared.common.mono(Instant::now())
    }

    /// How many probes at how many addresses run.
    pub fn targets(&self) -> usize {
        self.shared.set().targets.len()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let mut set = self.shared.set();
        set.fleet = Fleet::default();
        set.hosts.clear();
        set.targets.clear();
    }
}

impl Shared {
    /// What runs now.
    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the addresses of a host name; false when it is not looked after any more.
    pub fn resolved(&self, key: &HostKey, addresses: &[IpAddr]) -> bool {
        let mut set = self.set();
        let Some((_, known, _)) = set.hosts.get_mut(key) else {
            return false;
        };
        known.clear();
        known.extend_from_slice(addresses);
        self.set_targets(&mut set);
        true
    }

    /// Makes the look-ups what the config says.
    fn set_hosts(self: &Arc<Self>, set: &mut Set) {
        let wanted: BTreeMap<HostKey, Duration> = set.fleet.apps.values().flat_map(|app| hosts(app)).collect();
        set.hosts.retain(|key, _| wanted.contains_key(key));
        for (key, interval) in wanted {
            if set.hosts.get(&key).is_some_and(|(known, _, _)| *known == interval) {
                continue;
            }
            // Another interval is another task; the addresses stay.
            let addresses = set.hosts.remove(&key).map(|(_, addresses, _)| addresses).unwrap_or_default();
            let gate = Arc::new(Gate::default());
            let watch = lookup::watch(
                Arc::downgrade(self),
                Arc::clone(&gate),
                Arc::clone(&self.lookup),
                key.clone(),
                interval,
            );
            let abort = self.runtime.spawn(watch).abort_handle();
            set.hosts.insert(key, (interval, addresses, Task { gate, abort }));
        }
    }

    /// Makes the probes what the config and the addresses say.
    fn set_targets(&self, set: &mut Set) {
        let wanted = wanted(set);
        set.targets.retain(|target, (spec, _)| wanted.get(target) == Some(spec));
        let mut new: Vec<(ProbeTarget, ProbeSpec)> = wanted.into_iter().filter(|(target, _)| !set.targets.contains_key(target)).collect();
        // So that an application's probes do not stand beside each other in time.
        let mut random = Random::new();
        let spread = SPREAD_PER_TARGET.saturating_mul(u32::try_from(new.len()).unwrap_or(u32::MAX));
        for (target, spec) in new.drain(..) {
            let delay = FIRST_RUN_AFTER + spread.min(spec.interval).mul_f64(random.unit());
            let gate = Arc::new(Gate::default());
            let kind = (self.kinds)(&spec, &target, &self.trust);
            let watch = task::watch(
                Arc::clone(&self.common),
                Arc::clone(&gate),
                spec.clone(),
                target.clone(),
                kind,
                delay,
            );
            let abort = self.runtime.spawn(watch).abort_handle();
            set.targets.insert(target, (spec, Task { gate, abort }));
        }
    }
}

/// Host names of an application with the interval of their look-ups: that of its most frequent probe.
fn hosts(app: &App) -> Vec<(HostKey, Duration)> {
    let Some(interval) = app.probes.iter().map(|spec| spec.interval).min() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (region, endpoints) in &app.endpoints {
        for endpoint in endpoints {
            if let Endpoint::Host(host) = endpoint {
                let key = HostKey {
                    app: app.id.clone(),
                    region: region.clone(),
                    host: host.clone(),
                };
                found.push((key, interval));
            }
        }
    }
    found
}

/// Every target of the config at the addresses known now.
fn wanted(set: &Set) -> HashMap<ProbeTarget, ProbeSpec> {
    let mut wanted = HashMap::new();
    for app in set.fleet.apps.values() {
        for (region, endpoints) in app.endpoints.iter().filter(|(region, _)| app.regions.contains(region)) {
            for endpoint in endpoints {
                let addresses: BTreeSet<IpAddr> = match endpoint {
                    Endpoint::Address(address) => BTreeSet::from([*address]),
                    Endpoint::Host(host) => {
                        let key = HostKey {
                            app: app.id.clone(),
                            region: region.clone(),
                            host: host.clone(),
                        };
                        set.hosts
                            .get(&key)
                            .map(|(_, addresses, _)| addresses.iter().copied().collect())
                            .unwrap_or_default()
                    }
                };
                for (address, (probe, spec)) in addresses
                    .iter()
                    .flat_map(|address| app.probes.iter().enumerate().map(move |one| (address, one)))
                {
                    let target = ProbeTarget {
                        app: app.id.clone(),
                        region: region.clone(),
                        endpoint: endpoint.clone(),
                        address: *address,
                        probe,
                    };
                    wanted.insert(target, spec.clone());
                }
            }
        }
    }
    wanted
}
