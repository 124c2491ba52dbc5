//! Health on disk: what is written now and then and read back at the start.
//!
//! Times are wall times, since a monotonic clock does not outlive its process. Evidence read back obeys the
//! same freshness rule as any other: what is too old makes `unknown` with the last verdict visible, never
//! `unhealthy`. Evidence from ahead of the clock says that the clock was set back, or was wrong when this was written: how old any of
//! it is nobody knows then, and all of it is too old. A cell is taken back only by a probe with the same fingerprint; regions count from there,
//! their `since` being the start of this process.

use super::cell::Cell;
use super::{AppBook, Book, Change, Run};
use crate::model::{AppId, Endpoint, Failure, Mono, Now, Observed, ProbeSpec, ProbeTarget, RegionId, Verdict, Wall};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everything worth keeping over a restart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// Form of this document.
    pub version: u32,
    /// Cells with evidence.
    pub cells: Vec<SavedCell>,
}

/// One probe at one address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SavedCell {
    /// The application.
    pub app: AppId,
    /// The region.
    pub region: RegionId,
    /// The endpoint as configured.
    pub endpoint: Endpoint,
    /// The address.
    pub address: IpAddr,
    /// Fingerprint of the probe's config.
    pub probe: String,
    /// The verdict, stale or not.
    pub verdict: Verdict,
    /// Since when.
    pub since: Wall,
    /// Failures counted.
    pub failures: u32,
    /// Successes in a row.
    pub successes: u32,
    /// When the last run ended.
    pub at: Wall,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The last failure; none when the last run passed.
    pub failure: Option<Failure>,
    /// What the application said it is, and when.
    pub said: Option<(Observed, Wall)>,
}

/// The form written by this version.
const VERSION: u32 = 1;
/// How far evidence may be ahead of the clock: one that is kept right goes back by less.
const AHEAD_MAX: Duration = Duration::from_secs(2);

impl Book {
    /// What to write to disk.
    pub fn save(&self, now: Now) -> Saved {
        let mut cells = Vec::new();
        for book in self.apps.values() {
            let prints: Vec<String> = book.app.probes.iter().map(fingerprint).collect();
            for cell in book.regions.iter().flat_map(|(_, region)| region.cells()) {
                if let (Some(print), Some(last)) = (prints.get(cell.target.probe), &cell.last) {
                    cells.push(saved_cell(cell, print, last, now));
                }
            }
        }
        Saved { version: VERSION, cells }
    }

    /// Takes back what was saved, as far as it is of probes that are configured and know nothing newer; call it
    /// after [`Book::reconfigure`]. Host names get their saved addresses.
    pub fn restore(&mut self, saved: &Saved, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        if saved.version != VERSION {
            return changes;
        }
        self.restore_addresses(saved, now, &mut changes);
        let newest = saved.cells.iter().map(|one| one.at).max();
        let is_dated = newest.is_none_or(|newest| newest.since(now.wall) <= AHEAD_MAX);
        for one in &saved.cells {
            let Some(probe) = self.probe_with(&one.app, &one.probe) else {
                continue;
            };
            let target = ProbeTarget {
                app: one.app.clone(),
                region: one.region.clone(),
                endpoint: one.endpoint.clone(),
                address: one.address,
                probe,
            };
            if self.cell(&target).is_some_and(|cell| cell.last.is_none()) {
                self.touch(&target, now.mono, &mut changes, |cell, spec| {
                    restore_cell(cell, spec, one, is_dated, now)
                });
            }
        }
        for book in self.apps.values_mut() {
            let AppBook { app, regions } = Arc::make_mut(book);
            for (_, region) in regions {
                Arc::make_mut(region).doubt(app, now.mono);
            }
        }
        changes
    }

    /// Gives host names without addresses those they had.
    fn restore_addresses(&mut self, saved: &Saved, now: Now, changes: &mut Vec<Change>) {
        let mut hosts = std::collections::BTreeMap::<(&AppId, &RegionId, &Endpoint), Vec<IpAddr>>::new();
        for one in saved.cells.iter().filter(|one| matches!(one.endpoint, Endpoint::Host(_))) {
            hosts.entry((&one.app, &one.region, &one.endpoint)).or_default().push(one.address);
        }
        for ((app, region, endpoint), addresses) in hosts {
            let known = self
                .targets(app)
                .iter()
                .any(|status| status.target.region == *region && status.target.endpoint == *endpoint);
            if !known {
                changes.extend(self.resolved(app, region, endpoint, &addresses, now));
            }
        }
    }

    /// The place of the probe with a fingerprint.
    fn probe_with(&self, app: &AppId, print: &str) -> Option<usize> {
        self.apps.get(app)?.app.probes.iter().position(|spec| fingerprint(spec) == print)
    }
}

/// What is kept of a cell. What is unconfirmed is older than the monotonic clock says.
fn saved_cell(cell: &Cell, print: &str, last: &Run, now: Now) -> SavedCell {
    let slept = cell.unconfirmed.unwrap_or_default();
    SavedCell {
        app: cell.target.app.clone(),
        region: cell.target.region.clone(),
        endpoint: cell.target.endpoint.clone(),
        address: cell.target.address,
        probe: print.to_owned(),
        verdict: cell.stale.unwrap_or(cell.verdict),
        since: wall_at(cell.since, now),
        failures: cell.failures,
        successes: cell.successes,
        at: wall_at(last.at.minus(slept), now),
        took_ms: u64::try_from(last.took.as_millis()).unwrap_or(u64::MAX),
        failure: last.result.as_ref().err().cloned(),
        said: cell.said.map(|(observed, at)| (observed, wall_at(at.minus(slept), now))),
    }
}

/// Puts what was saved into a cell that knows nothing; what is not dated rightly is as old as makes it stale.
fn restore_cell(cell: &mut Cell, spec: &ProbeSpec, saved: &SavedCell, is_dated: bool, now: Now) {
    let mono_at = |wall: Wall| match is_dated {
        true => now.mono_at(wall),
        false => now.mono.minus(spec.stale_after),
    };
    cell.verdict = saved.verdict;
    cell.since = now.mono_at(saved.since);
    cell.failures = saved.failures.min(spec.fall);
    cell.successes = saved.successes.min(spec.rise);
    cell.last = Some(Run {
        at: mono_at(saved.at),
        took: Duration::from_millis(saved.took_ms),
        result: saved.failure.clone().map_or(Ok(()), Err),
        next: None,
        note: String::new(),
        values: Vec::new(),
    });
    cell.said = saved.said.map(|(observed, at)| (observed, mono_at(at)));
    cell.expire(spec, now.mono);
}

/// The wall time of a monotonic reading.
fn wall_at(at: Mono, now: Now) -> Wall {
    let age = u64::try_from(now.mono.since(at).as_millis()).unwrap_or(u64::MAX);
    Wall(now.wall.0.saturating_sub(age))
}

/// Tells probes apart over restarts: FNV-1a of everything configured. Not for secrets nor against malice; a
/// probe that changed, or a version of this program that prints it otherwise, starts `unknown`.
fn fingerprint(spec: &ProbeSpec) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{spec:?}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}
