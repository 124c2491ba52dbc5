//! One region of an application: from the cells to the verdict on each endpoint, the health of the
//! region, its observed role and the reason in words.
//!
//! Counts are kept up to date with each cell that changes, so an outcome that changes no verdict costs the
//! same in a region of ten thousand endpoints as in one of two.

mod tally;
mod words;

use super::cell::Cell;
use super::places::Places;
use super::suspicion::Voice;
use super::{Change, ChangeKind};
use crate::model::{
    App, Confirmed, Endpoint, EndpointStatus, Mono, Observed, ProbeTarget, RegionHealth, RegionId, RegionStatus, Require, Verdict,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tally::{Counts, Tally};

/// One region of an application.
#[derive(Debug, Clone)]
pub(super) struct RegionBook {
    /// What decisions read.
    pub status: RegionStatus,
    /// In the order of the config, as in `status.endpoints`.
    endpoints: Vec<Arc<EndpointBook>>,
    /// Place of each endpoint in `endpoints`.
    places: Places,
    /// Endpoints and cells by what they say.
    tally: Tally,
    /// Whether any probe counts.
    probed: bool,
    /// When this config came.
    configured: Mono,
}

/// One endpoint: an address, or a host name with the addresses it last resolved to.
#[derive(Debug, Clone)]
struct EndpointBook {
    /// As configured.
    endpoint: Endpoint,
    /// Its addresses; a host name has none before its first look-up.
    addresses: Vec<AddressBook>,
    /// The verdict by what is confirmed, as it was counted.
    confirmed: Verdict,
}

/// One address and its cells, in the order of the probes.
#[derive(Debug, Clone)]
struct AddressBook {
    /// The address.
    address: IpAddr,
    /// One a probe.
    cells: Vec<Cell>,
}

impl RegionBook {
    /// The book of a region, with the cells of `old` that go on: `kept` says for each probe which old one it was.
    pub fn new(
        app: &App,
        id: &RegionId,
        old: Option<&RegionBook>,
        kept: &[Option<usize>],
        now: Mono,
        changes: &mut Vec<Change>,
    ) -> RegionBook {
        let mut endpoints = Vec::new();
        for endpoint in app.endpoints_of(id) {
            let before = old.and_then(|old| old.endpoint(endpoint));
            let addresses = match endpoint {
                Endpoint::Address(address) => vec![*address],
                Endpoint::Host(_) => before.map_or_else(Vec::new, |book| book.addresses.iter().map(|one| one.address).collect()),
            };
            let addresses = addresses.into_iter().map(|address| {
                let before = before.and_then(|book| book.addresses.iter().find(|one| one.address == address));
                AddressBook::new(app, id, endpoint, address, before.map(|book| (book, kept)), now)
            });
            endpoints.push(Arc::new(EndpointBook {
                endpoint: endpoint.clone(),
                addresses: addresses.collect(),
                confirmed: Verdict::Unknown,
            }));
        }
        let places = Places::of(endpoints.iter().map(|book| &book.endpoint));
        let unknown = RegionStatus {
            health: RegionHealth::Unknown,
            since: now,
            evidence_at: None,
            reason: String::new(),
            observed: Observed::None,
            observed_since: now,
            endpoints: Vec::new(),
            cut_since: None,
            passed_at: None,
            cannot_run: None,
            unconfirmed: None,
        };
        let mut book = RegionBook {
            status: old.map_or(unknown, |old| old.status.clone()),
            endpoints,
            places,
            tally: Tally::default(),
            probed: app.counting_probes() > 0,
            configured: now,
        };
        book.count_all(app, id, now, changes);
        book
    }

    /// How many addresses its endpoints have.
    pub fn addresses(&self) -> usize {
        self.endpoints.iter().map(|book| book.addresses.len()).sum()
    }

    /// Lets go of every verdict but those of what was sick before `since`: the prober is suspected.
    pub fn freeze(&mut self, app: &App, id: &RegionId, since: Mono, now: Mono, changes: &mut Vec<Change>) {
        for book in &mut self.endpoints {
            for cell in Arc::make_mut(book).addresses.iter_mut().flat_map(|one| &mut one.cells) {
                let from = cell.verdict;
                cell.freeze(since, now);
                if cell.verdict != from {
                    let what = ChangeKind::Probe {
                        target: Arc::clone(&cell.target),
                        from,
                        to: cell.verdict,
                        message: cell.message(),
                    };
                    changes.push(change(&cell.target, what));
                }
            }
        }
        self.count_all(app, id, now, changes);
    }

    /// Lets go of what confirms the verdicts, where it is too old with the time that this machine was suspended. Gives what is
    /// forgotten of the prober.
    pub fn wake(&mut self, app: &App, id: &RegionId, slept: Duration, now: Mono, changes: &mut Vec<Change>) -> Vec<Voice> {
        let mut voices = Vec::new();
        for book in &mut self.endpoints {
            for cell in Arc::make_mut(book).addresses.iter_mut().flat_map(|one| &mut one.cells) {
                let spec = app.probes.get(cell.target.probe);
                voices.extend(spec.and_then(|spec| cell.wake(spec, slept, now)));
            }
        }
        self.count_all(app, id, now, changes);
        voices
    }

    /// All cells, in the order of the config.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.endpoints
            .iter()
            .flat_map(|book| book.addresses.iter().flat_map(|one| &one.cells))
    }

    /// The cell of a target of this region.
    pub fn cell(&self, target: &ProbeTarget) -> Option<&Cell> {
        let book = self.endpoint(&target.endpoint)?;
        let address = book.addresses.iter().find(|one| one.address == target.address)?;
        address.cells.get(target.probe)
    }

    /// The book of an endpoint.
    fn endpoint(&self, endpoint: &Endpoint) -> Option<&EndpointBook> {
        self.endpoints.get(self.places.find(endpoint)?).map(Arc::as_ref)
    }

    /// Changes a cell with `act` and draws the conclusions. Gives the cell's target; none when there is no such cell.
    pub fn touch(
        &mut self,
        app: &App,
        target: &ProbeTarget,
        now: Mono,
        changes: &mut Vec<Change>,
        act: impl FnOnce(&mut Cell),
    ) -> Option<Arc<ProbeTarget>> {
        let place = self.places.find(&target.endpoint)?;
        let counting = app.probes.get(target.probe).is_some_and(|spec| !spec.monitoring_only);
        let book = Arc::make_mut(self.endpoints.get_mut(place)?);
        let address = book.addresses.iter_mut().find(|one| one.address == target.address)?;
        let cell = address.cells.get_mut(target.probe)?;
        let (verdict, observed, failure) = (cell.verdict, cell.observed(), cell.failure().cloned());
        let (frozen, cannot_run) = (cell.frozen, cell.cannot_run().map(str::to_owned));
        let confirmed = (cell.confirmed(), cell.confirmed_observed());
        act(cell);
        let ran_otherwise = cell.cannot_run() != cannot_run.as_deref();
        let told_otherwise =
            ran_otherwise || cell.frozen != frozen || cell.verdict != Verdict::Healthy && cell.failure() != failure.as_ref();
        let (from, to) = (verdict, cell.verdict);
        if from != to {
            let what = ChangeKind::Probe {
                target: Arc::clone(&cell.target),
                from,
                to,
                message: cell.message(),
            };
            changes.push(change(target, what));
        }
        if counting && cell.cannot_run().is_some() != cannot_run.is_some() {
            let what = ChangeKind::CannotRun {
                target: Arc::clone(&cell.target),
                message: cell.cannot_run().map(str::to_owned),
            };
            changes.push(change(target, what));
        }
        match (frozen, cell.frozen) {
            (true, false) => self.tally.frozen = self.tally.frozen.saturating_sub(1),
            (false, true) => self.tally.frozen += 1,
            _ => {}
        }
        let said = (observed, cell.observed());
        let confirms = (confirmed.1, cell.confirmed_observed());
        let concerns_endpoint = from != to || confirmed.0 != cell.confirmed();
        if counting {
            let last = cell.last.as_ref();
            self.status.evidence_at = self.status.evidence_at.max(last.map(|last| last.at));
            let passed = last.filter(|last| last.result.is_ok() && app.shows_reach(target.probe));
            self.status.passed_at = self.status.passed_at.max(passed.map(|last| last.at));
        }
        let touched = Arc::clone(&cell.target);
        self.tally.confirmed.recount(confirms.0, confirms.1);
        if said.0 != said.1 {
            self.tally.shown.recount(said.0, said.1);
            self.conclude_observed(target, now, changes);
        }
        if counting && concerns_endpoint {
            self.conclude_endpoint(app, target, place, now, changes);
        }
        if counting && ran_otherwise {
            self.status.cannot_run = self.cannot_run(app);
        }
        let settled = self.conclude_confirmed(app);
        if settled.is_some() || counting && (from != to || told_otherwise) {
            self.status.reason = self.reason(app);
        }
        changes.extend(settled.map(|what| change(target, what)));
        Some(touched)
    }

    /// What was saved says that it is unhealthy, and nothing of whether the prober was cut off then: as if it had been cut off until
    /// now, so that a policy waits for a word of the region that it would move to (law 8).
    pub fn doubt(&mut self, app: &App, now: Mono) {
        let mut counting = app.probes.iter().filter(|spec| !spec.monitoring_only);
        if self.status.health == RegionHealth::Unhealthy && counting.any(|spec| !spec.is_hearsay()) {
            self.status.cut_since = Some(now);
        }
    }

    /// Takes in the addresses of a host name; gives the cells that went. One that comes goes on from where the best of those before
    /// was, and so from where the endpoint was: names whose addresses change at each look-up would never fail `fall` times in a row.
    pub fn resolved(
        &mut self,
        app: &App,
        id: &RegionId,
        endpoint: &Endpoint,
        addresses: &[IpAddr],
        now: Mono,
        changes: &mut Vec<Change>,
    ) -> Vec<Cell> {
        let Some(book) = self.places.find(endpoint).and_then(|place| self.endpoints.get_mut(place)) else {
            return Vec::new();
        };
        let mut wanted = addresses.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        if book.addresses.iter().map(|one| one.address).eq(wanted.iter().copied()) {
            return Vec::new();
        }
        let book = Arc::make_mut(book);
        let mut old = std::mem::take(&mut book.addresses);
        let best = old.iter().max_by_key(|one| one.standing(app)).cloned();
        for address in wanted {
            match old.iter().position(|one| one.address == address) {
                Some(place) => book.addresses.push(old.swap_remove(place)),
                None => {
                    // Born with the config, not now: the first outcome may have ended before this look-up was taken in.
                    let mut new = AddressBook::new(app, id, endpoint, address, None, self.configured);
                    let from = best.iter().flat_map(|one| &one.cells);
                    new.cells.iter_mut().zip(from).for_each(|(cell, from)| cell.inherit(from));
                    book.addresses.push(new);
                }
            }
        }
        self.count_all(app, id, now, changes);
        old.into_iter().flat_map(|one| one.cells).collect()
    }

    /// Counts everything anew: after the set of cells changed.
    fn count_all(&mut self, app: &App, id: &RegionId, now: Mono, changes: &mut Vec<Change>) {
        let before = std::mem::take(&mut self.status.endpoints);
        self.tally = Tally::default();
        let mut endpoints = Vec::new();
        let mut evidence_at = None;
        for book in &mut self.endpoints {
            let (verdict, confirmed) = book.verdicts(app);
            self.tally.shown.add(verdict, 1);
            self.tally.confirmed.add(confirmed, 1);
            if book.confirmed != confirmed {
                Arc::make_mut(book).confirmed = confirmed;
            }
            for cell in book.addresses.iter().flat_map(|one| &one.cells) {
                self.tally.shown.recount(Observed::None, cell.observed());
                self.tally.confirmed.recount(Observed::None, cell.confirmed_observed());
                self.tally.frozen += usize::from(cell.frozen);
                if app.probes.get(cell.target.probe).is_some_and(|spec| !spec.monitoring_only) {
                    evidence_at = evidence_at.max(cell.heard_at());
                }
            }
            endpoints.push(EndpointStatus {
                endpoint: book.endpoint.clone(),
                verdict,
            });
        }
        let old: BTreeMap<&Endpoint, Verdict> = before.iter().map(|one| (&one.endpoint, one.verdict)).collect();
        for one in &endpoints {
            let from = old.get(&one.endpoint).copied().unwrap_or_default();
            if from != one.verdict {
                let what = ChangeKind::Endpoint {
                    endpoint: one.endpoint.clone(),
                    from,
                    to: one.verdict,
                };
                changes.push(self.change(app, id, what));
            }
        }
        self.status.endpoints = endpoints;
        self.status.evidence_at = evidence_at;
        self.status.cannot_run = self.cannot_run(app);
        let health = self.health(&self.tally.shown);
        if health != self.status.health {
            let from = std::mem::replace(&mut self.status.health, health);
            self.status.since = now;
            self.status.cut_since = self.cut_since(app);
            changes.push(self.change(app, id, ChangeKind::Region { from, to: health }));
        }
        let observed = self.tally.shown.observed();
        if observed != self.status.observed {
            let from = std::mem::replace(&mut self.status.observed, observed);
            self.status.observed_since = now;
            changes.push(self.change(app, id, ChangeKind::Observed { from, to: observed }));
        }
        let settled = self.conclude_confirmed(app);
        changes.extend(settled.map(|what| self.change(app, id, what)));
        self.status.reason = self.reason(app);
    }

    /// A change of this region.
    fn change(&self, app: &App, id: &RegionId, what: ChangeKind) -> Change {
        Change {
            app: app.id.clone(),
            region: id.clone(),
            what,
        }
    }

    /// After the verdict of a counting cell changed: the endpoint, and with it the region.
    fn conclude_endpoint(&mut self, app: &App, target: &ProbeTarget, place: usize, now: Mono, changes: &mut Vec<Change>) {
        let (Some(book), Some(status)) = (self.endpoints.get_mut(place), self.status.endpoints.get_mut(place)) else {
            return;
        };
        let (to, confirmed) = book.verdicts(app);
        if book.confirmed != confirmed {
            self.tally.confirmed.take(book.confirmed, 1);
            self.tally.confirmed.add(confirmed, 1);
            Arc::make_mut(book).confirmed = confirmed;
        }
        let from = std::mem::replace(&mut status.verdict, to);
        if from == to {
            return;
        }
        self.tally.shown.take(from, 1);
        self.tally.shown.add(to, 1);
        let endpoint = status.endpoint.clone();
        changes.push(change(target, ChangeKind::Endpoint { endpoint, from, to }));
        let health = self.health(&self.tally.shown);
        if health != self.status.health {
            let from = std::mem::replace(&mut self.status.health, health);
            self.status.since = now;
            self.status.cut_since = self.cut_since(app);
            changes.push(change(target, ChangeKind::Region { from, to: health }));
        }
    }

    /// After a cell says something else about the role.
    fn conclude_observed(&mut self, target: &ProbeTarget, now: Mono, changes: &mut Vec<Change>) {
        let to = self.tally.shown.observed();
        if to != self.status.observed {
            let from = std::mem::replace(&mut self.status.observed, to);
            self.status.observed_since = now;
            changes.push(change(target, ChangeKind::Observed { from, to }));
        }
    }

    /// Draws what is confirmed from the counts; tells when that begins or ceases to differ from what is shown.
    fn conclude_confirmed(&mut self, app: &App) -> Option<ChangeKind> {
        let confirmed = Confirmed {
            health: self.health(&self.tally.confirmed),
            observed: self.tally.confirmed.observed(),
        };
        let before = self.status.confirmed().health;
        let shown = (self.status.health, self.status.observed);
        let unconfirmed = Some(confirmed).filter(|confirmed| (confirmed.health, confirmed.observed) != shown);
        let was = std::mem::replace(&mut self.status.unconfirmed, unconfirmed);
        // A verdict that was confirmed just now was cut off, if it was, since then.
        if was.is_some() && before != confirmed.health {
            self.status.cut_since = self.cut_since(app);
        }
        let is_confirmed = unconfirmed.is_none();
        (was.is_none() != is_confirmed).then_some(ChangeKind::Confirmed { confirmed: is_confirmed })
    }

    /// All endpoints unhealthy: unhealthy; none healthy and some unknown: unknown; all healthy: healthy; else degraded.
    fn health(&self, counts: &Counts) -> RegionHealth {
        let all = self.endpoints.len();
        match (counts.healthy, counts.unhealthy) {
            _ if !self.probed || all == 0 => RegionHealth::Unknown,
            (_, unhealthy) if unhealthy == all => RegionHealth::Unhealthy,
            (0, _) => RegionHealth::Unknown,
            (healthy, _) if healthy == all => RegionHealth::Healthy,
            _ => RegionHealth::Degraded,
        }
    }
}

impl EndpointBook {
    /// The verdict, and what of it is confirmed.
    fn verdicts(&self, app: &App) -> (Verdict, Verdict) {
        let shown = self.verdict(app, |cell| cell.verdict);
        let is_unconfirmed = |cell: &Cell| cell.unconfirmed.is_some();
        match self.addresses.iter().any(|one| one.cells.iter().any(is_unconfirmed)) {
            true => (shown, self.verdict(app, Cell::confirmed)),
            false => (shown, shown),
        }
    }

    /// Over its addresses: all unhealthy: unhealthy; any healthy: healthy; else unknown.
    fn verdict(&self, app: &App, of: impl Fn(&Cell) -> Verdict) -> Verdict {
        let mut all_unhealthy = !self.addresses.is_empty();
        for address in &self.addresses {
            match address.verdict(app, &of) {
                Verdict::Healthy => return Verdict::Healthy,
                Verdict::Unknown => all_unhealthy = false,
                Verdict::Unhealthy => {}
            }
        }
        if all_unhealthy { Verdict::Unhealthy } else { Verdict::Unknown }
    }
}

impl AddressBook {
    /// Cells for an address; those of `before` whose probe goes on are kept.
    fn new(
        app: &App,
        region: &RegionId,
        endpoint: &Endpoint,
        address: IpAddr,
        before: Option<(&AddressBook, &[Option<usize>])>,
        now: Mono,
    ) -> AddressBook {
        let cells = (0..app.probes.len()).map(|probe| {
            let target = ProbeTarget {
                app: app.id.clone(),
                region: region.clone(),
                endpoint: endpoint.clone(),
                address,
                probe,
            };
            let old = before.and_then(|(book, kept)| book.cells.get((*kept.get(probe)?)?));
            match old {
                // At another place in the list: what still comes under this number from before is of another probe.
                Some(old) => Cell {
                    born: if old.target.probe == probe { old.born } else { now },
                    target: Arc::new(target),
                    ..old.clone()
                },
                None => Cell::new(target, now),
            }
        });
        AddressBook {
            address,
            cells: cells.collect(),
        }
    }

    /// How well it is among the addresses of a name: by its verdict, then by how few failures and how many successes its counting
    /// probes have.
    fn standing(&self, app: &App) -> (u8, Reverse<u32>, u32) {
        let rank = match self.verdict(app, |cell| cell.verdict) {
            Verdict::Unhealthy => 0,
            Verdict::Unknown => 1,
            Verdict::Healthy => 2,
        };
        let cells = || app.probes.iter().zip(&self.cells).filter(|(spec, _)| !spec.monitoring_only);
        let failures = cells().map(|(_, cell)| cell.failures).max().unwrap_or_default();
        let successes = cells().map(|(_, cell)| cell.successes).min().unwrap_or_default();
        (rank, Reverse(failures), successes)
    }

    /// Over the counting probes, by the application's `require`.
    fn verdict(&self, app: &App, of: impl Fn(&Cell) -> Verdict) -> Verdict {
        let (mut healthy, mut unhealthy, mut unknown) = (0, 0, 0);
        for (_, cell) in app.probes.iter().zip(&self.cells).filter(|(spec, _)| !spec.monitoring_only) {
            match of(cell) {
                Verdict::Healthy => healthy += 1,
                Verdict::Unhealthy => unhealthy += 1,
                Verdict::Unknown => unknown += 1,
            }
        }
        match app.require {
            _ if healthy + unhealthy + unknown == 0 => Verdict::Unknown,
            Require::All if unhealthy > 0 => Verdict::Unhealthy,
            Require::All if unknown > 0 => Verdict::Unknown,
            Require::All => Verdict::Healthy,
            Require::AtLeast(least) if healthy >= least => Verdict::Healthy,
            Require::AtLeast(least) if healthy + unknown < least => Verdict::Unhealthy,
            Require::AtLeast(_) => Verdict::Unknown,
        }
    }
}

/// A change in the region of a target.
fn change(target: &ProbeTarget, what: ChangeKind) -> Change {
    Change {
        app: target.app.clone(),
        region: target.region.clone(),
        what,
    }
}
