//! Outcomes to verdicts: what the probes found, folded into the health of endpoints and regions.
//!
//! Owns [`Book`], one cell for each probe at each address, and what follows from the cells: the verdict
//! on each endpoint, the health, observed role and reason of each region.
//!
//! ```text
//!  unknown ──first success──▶ healthy ──`fall` failures──▶ unhealthy ──`rise` successes in a row──▶ healthy
//!     │                       (a failure adds 1; only `rise` successes in a row clear the count)
//!     └──`fall` failures──▶ unhealthy
//!  any ──no outcome for `stale-after`──▶ unknown, the last verdict and its age stay visible; starts anew
//!  healthy, unhealthy just now ──the prober is suspected (`suspicion`)──▶ unknown, likewise
//!  any ──this machine was suspended for too long──▶ the same, unconfirmed ──first success, or `fall` failures anew──▶ as from unknown
//! ```
//!
//! Invariants: an outcome is counted at most once and only in order; an outcome of a probe that is not
//! configured (any more) changes nothing; nor does one that says nothing of the endpoint, such as a run that this node was late
//! for or could not make (`model::Discard`): it is shown and set aside; a failed look-up never empties an endpoint; `unknown` is never
//! turned into `unhealthy` by the passing of time, by a restart or by a reload; the cost of an outcome
//! does not grow with the number of applications, and a clone costs O(1).
//!
//! Deliberately absent: clocks (time is an argument), roles and marks (`role`), what is answered
//! (`steering`), counters for metrics (each outcome carries what telemetry needs), and any way to force a
//! verdict.

mod apps;
mod cell;
mod history;
mod lateness;
mod places;
mod region;
mod saved;
mod suspicion;
#[cfg(test)]
mod tests;

use crate::model::{
    App, AppId, Discard, Endpoint, Fleet, HealthSource, Mono, Now, Observed, Outcome, ProbeTarget, RegionHealth, RegionId, RegionStatus,
    SteeredName, Suspicion, Verdict,
};
use apps::Apps;
use cell::Cell;
pub use cell::Run;
pub use history::{History, Told};
use lateness::Lateness;
use region::RegionBook;
pub use saved::{Saved, SavedCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use suspicion::{Poll, Turn};

/// Everything that the probes found. A clone shares everything and costs O(1), so that readers get one
/// with each snapshot.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// One entry an application.
    apps: Apps,
    /// When the evidence of each cell goes stale, soonest first; cells without fresh evidence are not in it.
    due: imbl::OrdSet<(Mono, Arc<ProbeTarget>)>,
    /// What all probes together say of the prober.
    poll: Arc<Poll>,
    /// Runs that this node was late for.
    lateness: Lateness,
    /// Runs that were not counted, in the order of [`Discard::ALL`].
    discarded: [u64; Discard::ALL.len()],
    /// When this machine was last found to have been suspended.
    woke_at: Option<Mono>,
}

/// One application: its config and the books of its regions.
#[derive(Debug, Clone)]
struct AppBook {
    /// What is configured; the cells of the regions stand in the order of its endpoints and probes.
    app: Arc<App>,
    /// In the order of `app.regions`.
    regions: Vec<(RegionId, Arc<RegionBook>)>,
}

/// One thing that became different.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The application.
    pub app: AppId,
    /// The region.
    pub region: RegionId,
    /// What.
    pub what: ChangeKind,
}

/// What became different, and how.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// The verdict of one probe at one address.
    Probe {
        /// Which.
        target: Arc<ProbeTarget>,
        /// Before.
        from: Verdict,
        /// Now.
        to: Verdict,
        /// Why, in words: the failure, `passes`, or that the evidence is stale.
        message: String,
    },
    /// The verdict on an endpoint.
    Endpoint {
        /// Which.
        endpoint: Endpoint,
        /// Before.
        from: Verdict,
        /// Now.
        to: Verdict,
    },
    /// The health of the region.
    Region {
        /// Before.
        from: RegionHealth,
        /// Now.
        to: RegionHealth,
    },
    /// What the application there says it is.
    Observed {
        /// Before.
        from: Observed,
        /// Now.
        to: Observed,
    },
    /// Whether what is known of the region was heard since this machine was suspended.
    Confirmed {
        /// It was; or it was not, from now on.
        confirmed: bool,
    },
    /// Whether a probe can run on this node.
    CannotRun {
        /// Which.
        target: Arc<ProbeTarget>,
        /// Why not; none: it can again.
        message: Option<String>,
    },
    /// The prober itself: one for each region that it looks at.
    Prober {
        /// Whether it is suspected from now on, or not any more.
        suspected: bool,
    },
}

/// One probe at one address, for display.
#[derive(Debug, Clone)]
pub struct TargetStatus<'a> {
    /// Which probe, where.
    pub target: &'a ProbeTarget,
    /// `http`, `tcp`, …
    pub kind: &'static str,
    /// Whether it counts towards health.
    pub counting: bool,
    /// The verdict now.
    pub verdict: Verdict,
    /// While the evidence is stale: what the verdict was.
    pub stale_verdict: Option<Verdict>,
    /// Since when the verdict is what it is.
    pub since: Mono,
    /// Failures counted; `fall` make it unhealthy.
    pub failures: u32,
    /// The threshold for `failures`.
    pub fall: u32,
    /// Successes in a row, counted up to `rise`.
    pub successes: u32,
    /// The threshold for `successes`.
    pub rise: u32,
    /// The last outcome that counted.
    pub last: Option<&'a Run>,
    /// The last outcome, where it was not counted, and why not.
    pub aside: Option<(Discard, &'a Run)>,
    /// What the application freshly says it is; `none` where this probe does not report it.
    pub observed: Observed,
    /// When it is planned to run next; none before the first outcome and while nothing comes.
    pub next: Option<Mono>,
}

impl Book {
    /// A book without applications.
    pub fn new() -> Book {
        Book::default()
    }

    /// Takes over a new config. Cells of the same application, region, endpoint and address with an
    /// identical probe are kept, also when the probe's place in the list changed; others start `unknown`,
    /// and those no longer configured go.
    ///
    /// `now` must be read after the prober was told of the new config: outcomes that ended before it are
    /// not counted for a cell that starts here, since they may come from an older probe.
    pub fn reconfigure(&mut self, fleet: &Fleet, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut apps = imbl::Vector::new();
        for (id, app) in &fleet.apps {
            let book = match self.apps.get(id) {
                Some(old) if Arc::ptr_eq(&old.app, app) || old.app == *app => Arc::clone(old),
                old => Arc::new(AppBook::new(app, old.map(Arc::as_ref), now.mono, &mut changes)),
            };
            apps.push_back(book);
        }
        self.apps = Apps::new(apps);
        self.recount_due();
        self.recount_poll(fleet);
        if Arc::make_mut(&mut self.poll).end_orphaned(now.mono) {
            self.tell_prober(false, &mut changes);
        }
        changes
    }

    /// The share of everything that is cut off at once above which the prober is suspected, percent; 100: never.
    pub fn suspect_above(&mut self, percent: u8) {
        Arc::make_mut(&mut self.poll).suspect_above(percent);
    }

    /// Finds anew what goes stale when.
    fn recount_due(&mut self) {
        let due = self.apps.values().flat_map(|book| {
            let cells = book.regions.iter().flat_map(|(_, region)| region.cells());
            cells.filter_map(|cell| Some((cell.due(book.app.probes.get(cell.target.probe)?)?, Arc::clone(&cell.target))))
        });
        self.due = due.collect();
    }

    /// Adds up anew what the probes say of the prober.
    fn recount_poll(&mut self, fleet: &Fleet) {
        let counts = |app: &App, probe: usize| app.probes.get(probe).is_some_and(|spec| !spec.monitoring_only);
        let voices = self.apps.values().flat_map(|book| {
            book.regions.iter().flat_map(move |(id, region)| {
                let cells = region.cells().filter(move |cell| counts(&book.app, cell.target.probe));
                cells.map(move |cell| (id, cell.voice))
            })
        });
        let poll = Arc::make_mut(&mut self.poll);
        poll.reconfigure(fleet, voices);
        for book in self.apps.values() {
            let addresses = book.regions.iter().map(|(_, region)| region.addresses()).sum();
            poll.expect(&book.app, 0, addresses);
        }
    }

    /// Takes in the addresses that a host name resolved to: gone ones go, new ones start with what was counted at the best of those
    /// before, `unhealthy` where that was, else `unknown`. An empty list changes nothing, since a failed look-up is not an empty set.
    pub fn resolved(&mut self, app: &AppId, region: &RegionId, endpoint: &Endpoint, addresses: &[IpAddr], now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        if addresses.is_empty() || matches!(endpoint, Endpoint::Address(_)) {
            return changes;
        }
        let (Some(book), due) = (self.apps.get_mut(app), &mut self.due) else {
            return changes;
        };
        let book = Arc::make_mut(book);
        let probes = &book.app.probes;
        if let Some((id, region)) = book.regions.iter_mut().find(|(id, _)| id == region) {
            let before = region.addresses();
            let region = Arc::make_mut(region);
            let gone = region.resolved(&book.app, id, endpoint, addresses, now.mono, &mut changes);
            let poll = Arc::make_mut(&mut self.poll);
            poll.expect(&book.app, before, region.addresses());
            for cell in gone {
                poll.forget(id, cell.voice);
                let at = probes.get(cell.target.probe).and_then(|spec| cell.due(spec));
                if let Some(at) = at {
                    due.remove(&(at, cell.target));
                }
            }
            // Those that were in it are so still: a host name is its region's only endpoint, so these are few.
            let all = region.cells().filter_map(|cell| {
                let at = cell.due(probes.get(cell.target.probe)?)?;
                Some((at, Arc::clone(&cell.target)))
            });
            due.extend(all);
        }
        changes
    }

    /// Whether an outcome is of a target that is configured, and new: [`Book::observe`] takes it in.
    pub fn accepts(&self, outcome: &Outcome) -> bool {
        self.cell_and_spec(&outcome.target)
            .is_some_and(|(cell, _)| cell.accepts(outcome.at))
    }

    /// Takes in one outcome. Ignored are outcomes of targets that are not configured, such as are not later
    /// than the last one counted, and such as ended before the cell began.
    pub fn observe(&mut self, outcome: &Outcome, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some((cell, spec)) = self.cell_and_spec(&outcome.target).filter(|(cell, _)| cell.accepts(outcome.at)) else {
            return changes;
        };
        let (verdict, mut voice) = (cell.confirmed(), cell.voice);
        // Under way before this machine was suspended: it says what was then, or what the suspension did to it.
        let asleep = self.woke_at.is_some_and(|woke| outcome.at.minus(outcome.took) < woke);
        let asleep = asleep.then_some(Discard::Late);
        let mut discard = asleep.or_else(|| cell::discard(spec, outcome, verdict, false));
        if discard != Some(Discard::Late) && !spec.monitoring_only && !spec.is_hearsay() {
            let cut = outcome.result.as_ref().is_err_and(|failure| failure.reason.is_cut());
            let poll = Arc::make_mut(&mut self.poll);
            voice = poll.hear(&outcome.target.region, voice, verdict, cut, outcome.at.min(now.mono));
            match poll.weigh(now.mono) {
                Some(Turn::Begins(since)) => self.freeze(since, now.mono, &mut changes),
                Some(Turn::Ends) => self.tell_prober(false, &mut changes),
                None => {}
            }
        }
        let suspected = self.poll.suspicion().is_some();
        self.touch(&outcome.target, now.mono, &mut changes, |cell, spec| {
            cell.voice = voice;
            discard = asleep.or_else(|| cell::discard(spec, outcome, cell.confirmed(), suspected));
            cell.observe(spec, outcome, discard, now.mono);
        });
        if let Some(why) = discard {
            if let Some(count) = self.discarded.get_mut(why.place()) {
                *count += 1;
            }
            if why == Discard::Late {
                self.lateness.note(now.mono);
            }
        }
        changes
    }

    /// This machine was suspended for `slept`: a time that went by and that `now.mono` does not count. Verdicts, and so the answers,
    /// stay what they were; those that rest on evidence older than `stale-after`, with that time counted, are unconfirmed from now on,
    /// so that nothing is decided on them before they are heard anew ([`RegionStatus::unconfirmed`]). Runs that began before are set
    /// aside when they come.
    pub fn wake(&mut self, slept: Duration, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        self.woke_at = Some(now.mono);
        let poll = Arc::make_mut(&mut self.poll);
        for book in self.apps.values_mut() {
            let AppBook { app, regions } = Arc::make_mut(book);
            for (id, region) in regions {
                for voice in Arc::make_mut(region).wake(app, id, slept, now.mono, &mut changes) {
                    poll.forget(id, voice);
                }
            }
        }
        self.recount_due();
        changes
    }

    /// How many runs were not counted, by reason, since the start.
    pub fn discarded(&self) -> impl Iterator<Item = (Discard, u64)> {
        Discard::ALL.into_iter().zip(self.discarded)
    }

    /// In words, while this node goes on being late for its own probes.
    pub fn is_late(&self, now: Now) -> Option<String> {
        self.lateness.goes_on(now.mono)
    }

    /// The prober is suspected: every verdict goes, but for what was sick before `since`.
    fn freeze(&mut self, since: Mono, now: Mono, changes: &mut Vec<Change>) {
        for book in self.apps.values_mut() {
            let AppBook { app, regions } = Arc::make_mut(book);
            for (id, region) in regions {
                Arc::make_mut(region).freeze(app, id, since, now, changes);
            }
        }
        self.recount_due();
        self.tell_prober(true, changes);
    }

    /// Tells of the prober for every region, so that whoever acts on changes looks at every name.
    fn tell_prober(&self, suspected: bool, changes: &mut Vec<Change>) {
        let all = self.regions().map(|(app, region, _)| Change {
            app: app.clone(),
            region: region.clone(),
            what: ChangeKind::Prober { suspected },
        });
        changes.extend(all);
    }

    /// Lets evidence go stale whose time has come.
    pub fn poll(&mut self, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((due, target)) = self.due.get_min().cloned() {
            if due > now.mono {
                break;
            }
            // Out first, so that this ends even if a cell were still due at the same time afterwards.
            self.due.remove(&(due, Arc::clone(&target)));
            self.touch(&target, now.mono, &mut changes, |cell, spec| cell.expire(spec, now.mono));
        }
        changes
    }

    /// When [`Book::poll`] has something to do next.
    pub fn next_due(&self) -> Option<Mono> {
        self.due.get_min().map(|(at, _)| *at)
    }

    /// Every probe at every address of an application, in the order of the config.
    pub fn targets(&self, app: &AppId) -> Vec<TargetStatus<'_>> {
        let Some(book) = self.apps.get(app) else {
            return Vec::new();
        };
        let cells = book.regions.iter().flat_map(|(_, region)| region.cells());
        cells
            .filter_map(|cell| Some(cell.status(book.app.probes.get(cell.target.probe)?)))
            .collect()
    }

    /// One probe at one address.
    pub fn target(&self, target: &ProbeTarget) -> Option<TargetStatus<'_>> {
        let spec = self.apps.get(&target.app)?.app.probes.get(target.probe)?;
        Some(self.cell(target)?.status(spec))
    }

    /// The status of every region of every application.
    pub fn regions(&self) -> impl Iterator<Item = (&AppId, &RegionId, &RegionStatus)> {
        self.apps
            .values()
            .flat_map(|book| book.regions.iter().map(|(id, region)| (&book.app.id, id, &region.status)))
    }

    /// The cell of a target, for reading.
    fn cell(&self, target: &ProbeTarget) -> Option<&Cell> {
        let book = self.apps.get(&target.app)?;
        let (_, region) = book.regions.iter().find(|(id, _)| *id == target.region)?;
        region.cell(target)
    }

    /// The cell of a target with what is configured, for reading.
    fn cell_and_spec(&self, target: &ProbeTarget) -> Option<(&Cell, &crate::model::ProbeSpec)> {
        let spec = self.apps.get(&target.app)?.app.probes.get(target.probe)?;
        Some((self.cell(target)?, spec))
    }

    /// Changes one cell with `act` and draws every conclusion: due time, endpoint, region, observed role.
    fn touch(&mut self, target: &ProbeTarget, now: Mono, changes: &mut Vec<Change>, act: impl FnOnce(&mut Cell, &crate::model::ProbeSpec)) {
        let Some(book) = self.apps.get_mut(&target.app) else {
            return;
        };
        let book = Arc::make_mut(book);
        let Some(spec) = book.app.probes.get(target.probe) else {
            return;
        };
        let Some((_, region)) = book.regions.iter_mut().find(|(id, _)| *id == target.region) else {
            return;
        };
        let mut moved = (None, None);
        let touched = Arc::make_mut(region).touch(&book.app, target, now, changes, |cell| {
            moved.0 = cell.due(spec);
            act(cell, spec);
            moved.1 = cell.due(spec);
        });
        if let Some(target) = touched {
            if let Some(before) = moved.0 {
                self.due.remove(&(before, Arc::clone(&target)));
            }
            if let Some(after) = moved.1 {
                self.due.insert((after, target));
            }
        }
    }
}

impl HealthSource for Book {
    fn region(&self, app: &AppId, region: &RegionId) -> Option<&RegionStatus> {
        self.apps.get(app)?.status(region)
    }

    fn region_of(&self, steered: &SteeredName, region: &RegionId) -> Option<&RegionStatus> {
        self.apps.of(steered)?.status(region)
    }

    fn suspicion(&self) -> Option<&Suspicion> {
        self.poll.suspicion()
    }
}

impl AppBook {
    /// The status of a region.
    fn status(&self, region: &RegionId) -> Option<&RegionStatus> {
        let (_, region) = self.regions.iter().find(|(id, _)| id == region)?;
        Some(&region.status)
    }

    /// The book of `app`, with the cells of `old` that go on.
    fn new(app: &Arc<App>, old: Option<&AppBook>, now: Mono, changes: &mut Vec<Change>) -> AppBook {
        let kept = old.map_or_else(Vec::new, |old| kept_probes(&old.app, app));
        let regions = app.regions.iter().map(|id| {
            let before = old.and_then(|old| old.regions.iter().find(|(other, _)| other == id));
            let before = before.map(|(_, region)| region.as_ref());
            let region = RegionBook::new(app, id, before, &kept, now, changes);
            (id.clone(), Arc::new(region))
        });
        AppBook {
            app: Arc::clone(app),
            regions: regions.collect(),
        }
    }
}

/// For each probe of `new` the place of the identical probe in `old`, each old one used once.
fn kept_probes(old: &App, new: &App) -> Vec<Option<usize>> {
    let mut used = vec![false; old.probes.len()];
    let find = |spec| {
        let place = old.probes.iter().zip(&used).position(|(other, used)| !used && other == spec)?;
        if let Some(used) = used.get_mut(place) {
            *used = true;
        }
        Some(place)
    };
    new.probes.iter().map(find).collect()
}
