//! Why a region's health is what it is, in words.

use super::*;
use crate::health::cell::INHERITED;

/// Most different failures that a reason names.
const REASONS_MAX: usize = 2;
/// Most characters of one failure in a reason.
const REASON_CHARS_MAX: usize = 160;
/// Most failing endpoints that are looked at for a reason.
const REASON_ENDPOINTS_MAX: usize = 16;

impl RegionBook {
    /// Why the health is what it is, in words that name the failing probes.
    pub(super) fn reason(&self, app: &App) -> String {
        let reason = self.reason_shown(app);
        match self.status.unconfirmed {
            Some(_) => format!("{reason}; not confirmed since this machine was suspended"),
            None => reason,
        }
    }

    /// Why the health is what is shown.
    fn reason_shown(&self, app: &App) -> String {
        let all = self.endpoints.len();
        let (healthy, unhealthy) = (self.tally.shown.healthy, self.tally.shown.unhealthy);
        if !self.probed {
            return match app.probes.is_empty() {
                true => "not probed".to_owned(),
                false => "not probed: every probe is monitoring-only and none counts".to_owned(),
            };
        }
        if healthy == all {
            return format!("{healthy} of {all} {} healthy", endpoints(all));
        }
        let mut parts = Vec::new();
        if unhealthy > 0 {
            let verb = if unhealthy == 1 { "fails" } else { "fail" };
            let told = self.failures(app);
            let colon = if told.is_empty() { "" } else { ": " };
            parts.push(format!("{unhealthy} of {all} {} {verb}{colon}{told}", endpoints(all)));
        }
        let unresolved: Vec<&Endpoint> = self.unresolved().collect();
        let unknown = all.saturating_sub(healthy + unhealthy + unresolved.len());
        if unknown > 0 && self.tally.frozen > 0 {
            parts.push(format!("{unknown} of {all} {} not known: the prober is suspected", endpoints(all)));
        } else if unknown > 0 {
            parts.push(format!("no fresh evidence from {unknown} of {all} {}", endpoints(all)));
        }
        if let Some(why) = self.status.cannot_run.as_ref().filter(|_| unknown > 0) {
            parts.push(format!("a probe cannot run: {why}"));
        }
        // A host name is its region's only endpoint.
        for host in unresolved.into_iter().take(REASONS_MAX) {
            parts.push(format!(
                "no look-up of {host} has given an address yet, so there is nothing to probe"
            ));
        }
        parts.join("; ")
    }

    /// While the region is unhealthy: since when the last of its counting probes that are cut off is.
    pub(super) fn cut_since(&self, app: &App) -> Option<Mono> {
        let counts = |cell: &&Cell| app.probes.get(cell.target.probe).is_some_and(|spec| !spec.monitoring_only);
        let cut = self.cells().filter(counts).filter_map(|cell| cell.voice.cut_since()).max();
        cut.filter(|_| self.status.health == RegionHealth::Unhealthy)
    }

    /// The first counting probe that cannot run on this node, and why.
    pub(super) fn cannot_run(&self, app: &App) -> Option<String> {
        self.cells().find_map(|cell| {
            let spec = app.probes.get(cell.target.probe).filter(|spec| !spec.monitoring_only)?;
            Some(format!("{}: {}", spec.kind.as_str(), shorten(cell.cannot_run()?)))
        })
    }

    /// The host names that have no address yet.
    pub(super) fn unresolved(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .iter()
            .filter(|book| book.addresses.is_empty())
            .map(|book| &book.endpoint)
    }

    /// The different failures of the unhealthy endpoints, the first ones in the order of the config.
    pub(super) fn failures(&self, app: &App) -> String {
        let mut told: Vec<String> = Vec::new();
        let sick = self.status.endpoints.iter().zip(&self.endpoints);
        let sick = sick
            .filter(|(status, _)| status.verdict == Verdict::Unhealthy)
            .map(|(_, book)| book);
        let cells = sick
            .take(REASON_ENDPOINTS_MAX)
            .flat_map(|book| book.addresses.iter().flat_map(|one| &one.cells));
        for cell in cells.filter(|cell| cell.verdict == Verdict::Unhealthy) {
            let Some(spec) = app.probes.get(cell.target.probe).filter(|spec| !spec.monitoring_only) else {
                continue;
            };
            let message = match (&cell.last, cell.failure()) {
                (_, Some(failure)) => &failure.message,
                (None, None) => INHERITED,
                // An unhealthy probe whose last run passed is on its way up.
                (Some(_), None) => "recovering",
            };
            let message = shorten(message);
            let kind = spec.kind.as_str();
            let alike = app.probes.iter().filter(|other| other.kind.as_str() == kind).count();
            let words = match alike {
                1 => format!("{kind}: {message}"),
                _ => format!("{kind} (probe {}): {message}", cell.target.probe + 1),
            };
            if told.contains(&words) {
                continue;
            }
            if told.len() == REASONS_MAX {
                told.push("and more".to_owned());
                break;
            }
            told.push(words);
        }
        told.join(", ")
    }
}

/// The noun, by number.
fn endpoints(count: usize) -> &'static str {
    if count == 1 { "endpoint" } else { "endpoints" }
}

/// At most [`REASON_CHARS_MAX`] characters.
fn shorten(message: &str) -> String {
    match message.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or(message)),
        None => message.to_owned(),
    }
}
