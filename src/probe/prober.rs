//! The set of tasks: exactly what the config and the addresses of host names ask for.
//!
//! A target is what [`ProbeTarget`] says together with its [`ProbeSpec`]: if either changes, the old task is
//! stopped and a new one starts. One task a target, asleep between runs on one timer wheel. When the targets of an
//! application change, their places in the interval are dealt anew (`plan`), and tasks that go on move there with their
//! next start. Applications that are new at the same time begin one after the other, a millisecond a target and over at
//! most one interval; few begin at once.
//!
//! # A hundred thousand
//!
//! Measured (`cargo bench --bench probes`, one core of a small virtual machine), ten thousand http probes every ten seconds
//! over kept connections take 7 % of a core and 45 MiB, 12 % over new ones, 10 % and 125 MiB over kept TLS, 29 % over new TLS;
//! starts are 1 ms late in the middle, which is the timer's own grain. All of it grows with the number of runs, so a
//! hundred thousand would take some 70 % of a core and 450 MiB, 1.3 GiB over kept TLS: one process could still do it, and
//! these would have to change before it should:
//!
//! - *Series*: a histogram for each endpoint is 1.5 million series, more than a scrape may be long. By application and
//!   region instead, with the endpoints in the API only.
//! - *The writer*: ten thousand outcomes a second through one channel into one task that also switches. Tasks would fold
//!   their own counters and tell what changed a verdict, and otherwise once an interval that an application's evidence is fresh.
//! - *Config*: a reload or a changed address of a host name goes over all targets under one lock (12 ms for ten thousand,
//!   60 ms when all of them are new). By application instead, of which only those that changed are looked at.
//! - *Descriptors and ports*: a hundred thousand kept connections are within what Linux allows (`LimitNOFILE=131072` or more,
//!   and tables of connection tracking on the way), new ones every ten seconds need several source addresses towards
//!   gateways that many endpoints share.
//! - *Memory of TLS*: a kept connection takes 8 KiB; sessions could be resumed instead, which costs a handshake a run.
//! - *Attention*: one process that looks at everything errs about everything at once. Before one grows to that size, several
//!   vantage points share the targets, each a few applications (by the hash that now deals their places).

use super::limits::{Budget, Limits};
use super::lookup::{self, HostKey, Lookup, Watched};
use super::plan::{self, Slot};
use super::resolver::Resolver;
use super::task::{self, Common, Gate, Job, Plan};
use super::{Kind, Kit, ProbeEvent, kind};
use crate::model::{App, AppId, Endpoint, Fleet, Mono, Name, ProbeKind, ProbeSpec, ProbeTarget, RegionId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Least delay before a first run, so that its outcome is later than the config in every book.
const FIRST_RUN_AFTER: Duration = Duration::from_millis(20);
/// By how much each new target delays the first runs of the applications after its own.
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
    /// What they share.
    kit: Kit,
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
pub(super) type Kinds = Box<dyn Fn(&ProbeSpec, &ProbeTarget, &Kit) -> Box<dyn Kind> + Send + Sync>;

/// Every target of each application with its probe.
type Wanted = BTreeMap<AppId, BTreeMap<ProbeTarget, Arc<ProbeSpec>>>;

/// What runs now.
#[derive(Default)]
struct Set {
    /// The config.
    fleet: Fleet,
    /// One task a target.
    targets: HashMap<ProbeTarget, Task>,
    /// What the slots of each application count from, and how many targets they were dealt to.
    dealt: HashMap<AppId, (Instant, usize)>,
    /// One task a host name.
    hosts: BTreeMap<HostKey, Host>,
}

/// A host name that is looked up.
struct Host {
    /// The interval of the probes there.
    interval: Duration,
    /// What it last resolved to.
    addresses: Vec<IpAddr>,
    /// Whether its look-ups fail, as far as was told.
    failing: Arc<AtomicBool>,
    /// Ends it.
    _stop: Stop,
}

/// A target that is being probed.
struct Task {
    /// The probe.
    spec: Arc<ProbeSpec>,
    /// When it runs.
    plan: Arc<Mutex<Plan>>,
    /// Ends it.
    _stop: Stop,
}

/// Stops a task when it goes. Once it is gone, nothing more comes from the task.
struct Stop {
    /// What its events pass.
    gate: Arc<Gate>,
    /// Ends it.
    abort: AbortHandle,
}

impl Drop for Stop {
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
        Prober::start_with(events, origin, Arc::new(Resolver::system()))
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
            limits: Limits::new(Budget::of_process()),
        };
        let shared = Shared {
            common: Arc::new(common),
            kit: Kit::default(),
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
        self.begin(fleet, Vec::new());
    }

    /// The same after a start: host names of endpoints are at the addresses that they last resolved to, until a look-up says
    /// otherwise, so that one which fails takes nothing away.
    pub fn begin(&self, fleet: &Fleet, last: Vec<(AppId, RegionId, Name, Vec<IpAddr>)>) {
        let last = last
            .into_iter()
            .map(|(app, region, host, addresses)| (HostKey { app, region, host }, addresses));
        let mut set = self.shared.set();
        self.shared.kit.trust.renew();
        set.fleet = fleet.clone();
        let known = fleet.feeds();
        self.shared.kit.feeds.keep(|id| known.contains(id));
        self.shared.set_hosts(&mut set, last.collect());
        self.shared.set_targets(&mut set);
        self.shared.warn_of_too_many(&set);
    }

    /// What the kinds share, for those who post to feeds and who run probes by hand.
    pub fn kit(&self) -> Kit {
        self.shared.kit.clone()
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
        set.dealt.clear();
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
        let Some(host) = set.hosts.get_mut(key) else {
            return false;
        };
        host.addresses = addresses.to_vec();
        self.set_targets(&mut set);
        true
    }

    /// Makes the look-ups what the config says; new host names are at their `last` addresses.
    fn set_hosts(self: &Arc<Self>, set: &mut Set, mut last: BTreeMap<HostKey, Vec<IpAddr>>) {
        let wanted: BTreeMap<HostKey, Duration> = set.fleet.apps.values().flat_map(|app| hosts(app)).collect();
        set.hosts.retain(|key, _| wanted.contains_key(key));
        for (key, interval) in wanted {
            if set.hosts.get(&key).is_some_and(|host| host.interval == interval) {
                continue;
            }
            // Another interval is another task; what is known stays.
            let (addresses, failing) = match set.hosts.remove(&key) {
                Some(host) => (host.addresses, host.failing),
                None => (last.remove(&key).unwrap_or_default(), Arc::default()),
            };
            let gate = Arc::new(Gate::default());
            let watched = Watched {
                shared: Arc::downgrade(self),
                gate: Arc::clone(&gate),
                key: key.clone(),
                known: addresses.clone(),
                failing: Arc::clone(&failing),
                said: (false, false),
            };
            let watch = lookup::watch(watched, Arc::clone(&self.lookup), interval);
            let abort = self.runtime.spawn(watch).abort_handle();
            let host = Host {
                interval,
                addresses,
                failing,
                _stop: Stop { gate, abort },
            };
            set.hosts.insert(key, host);
        }
    }

    /// Makes the probes what the config and the addresses say.
    fn set_targets(&self, set: &mut Set) {
        let wanted = wanted(set);
        set.targets.retain(|target, task| {
            let spec = wanted.get(&target.app).and_then(|targets| targets.get(target));
            spec.is_some_and(|spec| *spec == task.spec)
        });
        set.dealt.retain(|app, _| wanted.contains_key(app));
        let is_new = |set: &Set, target: &ProbeTarget| !set.targets.contains_key(target);
        let new: usize = wanted
            .values()
            .flat_map(BTreeMap::keys)
            .filter(|target| is_new(set, target))
            .count();
        let mut before = 0;
        for (app, targets) in wanted {
            let own = targets.keys().filter(|target| is_new(set, target)).count();
            if own > 0 || set.dealt.get(&app).is_none_or(|(_, count)| *count != targets.len()) {
                self.deal(set, &app, targets, own, before as f64 / new.max(1) as f64, before);
            }
            before += own;
        }
    }

    /// Deals the slots of an application's targets, `new` of which start here; `before` targets of other applications
    /// start too, which is this `share` of all.
    fn deal(&self, set: &mut Set, app: &AppId, targets: BTreeMap<ProbeTarget, Arc<ProbeSpec>>, new: usize, share: f64, before: usize) {
        let intervals: Vec<Duration> = targets.values().map(|spec| spec.interval).collect();
        let offset = offset(app);
        let slots = plan::deal(&intervals, offset);
        let begin = Instant::now() + FIRST_RUN_AFTER + delay(&slots, before, share);
        // Those that go on keep what they count from, so that a reload moves them as little as possible.
        let known = set.dealt.get(app).map(|(epoch, _)| *epoch).filter(|_| new < targets.len());
        let epoch = known.unwrap_or(begin);
        set.dealt.insert(app.clone(), (epoch, targets.len()));
        let is_new: Vec<bool> = targets.keys().map(|target| !set.targets.contains_key(target)).collect();
        // Beside others the new ones begin among themselves, not where they would have if all began.
        let fresh: Vec<Duration> = intervals
            .iter()
            .zip(&is_new)
            .filter(|(_, new)| **new)
            .map(|(interval, _)| *interval)
            .collect();
        let mut firsts = plan::deal(&fresh, offset).into_iter().map(|slot| begin + slot.first);
        for (((target, spec), slot), is_new) in targets.into_iter().zip(slots).zip(is_new) {
            let plan = Plan { epoch, slot };
            if is_new {
                let first = firsts.next().unwrap_or(begin);
                let task = self.start(spec, &target, plan, first);
                set.targets.insert(target, task);
            } else if let Some(task) = set.targets.get(&target) {
                *task.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
            }
        }
    }

    /// Starts to probe a target.
    fn start(&self, spec: Arc<ProbeSpec>, target: &ProbeTarget, plan: Plan, first: Instant) -> Task {
        let gate = Arc::new(Gate::default());
        let plan = Arc::new(Mutex::new(plan));
        let limits = &self.common.limits;
        let claim = match spec.kind {
            ProbeKind::Exec(_) => limits.program(&target.app),
            _ => limits.network(target.address),
        };
        let job = Job {
            common: Arc::clone(&self.common),
            gate: Arc::clone(&gate),
            plan: Arc::clone(&plan),
            spec: Arc::clone(&spec),
            target: target.clone(),
            claim,
        };
        let kind = (self.kinds)(&spec, target, &self.kit);
        let abort = self.runtime.spawn(task::watch(job, kind, first)).abort_handle();
        Task {
            spec,
            plan,
            _stop: Stop { gate, abort },
        }
    }

    /// Says when the config asks for more than there is.
    fn warn_of_too_many(&self, set: &Set) {
        let budget = &self.common.limits.budget;
        let keeping = set
            .targets
            .values()
            .filter(|task| matches!(task.spec.kind, ProbeKind::Http(_)))
            .count();
        if keeping > budget.kept {
            tracing::warn!(
                probes = keeping,
                kept = budget.kept,
                descriptors = budget.descriptors,
                "more probes than connections that can be kept: the rest connects anew at each run. Raise the limit of open files \
                 (LimitNOFILE= of the unit, ulimit -n) to {} or more",
                budget.descriptors.saturating_add(keeping - budget.kept)
            );
        }
        // Load by time limits is what hanging targets cause; by intervals alone nothing can be said of how long runs take.
        let hanging: f64 = set
            .targets
            .values()
            .map(|task| task.spec.timeout.as_secs_f64() / task.spec.interval.as_secs_f64())
            .sum();
        if hanging > budget.runs as f64 {
            tracing::warn!(
                runs = hanging.ceil(),
                limit = budget.runs,
                descriptors = budget.descriptors,
                "if every probe ran into its timeout, more runs would be under way than may be: they would start late"
            );
        }
    }
}

/// How much later than others an application begins: after the targets before it, within the interval.
fn delay(slots: &[Slot], before: usize, share: f64) -> Duration {
    let shortest = slots.iter().map(|slot| slot.interval).min().unwrap_or_default();
    let own = slots.iter().map(|slot| slot.first).max().unwrap_or_default();
    let one_by_one = SPREAD_PER_TARGET.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX));
    one_by_one.min(shortest.saturating_sub(own).mul_f64(share.clamp(0.0, 1.0)))
}

/// Tells applications apart, from 0 up to 1: the same at each start, whatever else is configured. FNV-1a, then mixed, since
/// by itself it leaves `shop1` and `shop2` beside each other.
fn offset(app: &AppId) -> f64 {
    let octets = app.as_str().bytes();
    let hash = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = hash ^ (hash >> 33);
    // 53 bits fit exactly.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
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
fn wanted(set: &Set) -> Wanted {
    let mut wanted = Wanted::new();
    for app in set.fleet.apps.values() {
        let specs: Vec<Arc<ProbeSpec>> = app.probes.iter().cloned().map(Arc::new).collect();
        let mut targets = BTreeMap::new();
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
                        let known = set.hosts.get(&key).map(|host| host.addresses.iter().copied().collect());
                        known.unwrap_or_default()
                    }
                };
                for (address, (probe, spec)) in addresses
                    .iter()
                    .flat_map(|address| specs.iter().enumerate().map(move |one| (address, one)))
                {
                    let target = ProbeTarget {
                        app: app.id.clone(),
                        region: region.clone(),
                        endpoint: endpoint.clone(),
                        address: *address,
                        probe,
                    };
                    targets.insert(target, Arc::clone(spec));
                }
            }
        }
        if !targets.is_empty() {
            wanted.insert(app.id.clone(), targets);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_with_like_names_are_told_apart() {
        let mut tenths = [0; 10];
        for n in 0..1000 {
            tenths[(offset(&AppId::new(&format!("shop{n}"))) * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (70..=130).contains(count)), "{tenths:?}");
    }
}
