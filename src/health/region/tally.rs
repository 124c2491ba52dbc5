//! The counts over a region that are kept up to date with each cell that changes.

use super::{Observed, Verdict};

/// Counts over a region.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// By what is shown.
    pub shown: Counts,
    /// By what is confirmed.
    pub confirmed: Counts,
    /// Cells that are unknown because the prober came under suspicion.
    pub frozen: usize,
}

/// Endpoints and cells by what they say.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Endpoints that are healthy.
    pub healthy: usize,
    /// Endpoints that are unhealthy.
    pub unhealthy: usize,
    /// Cells that freshly say `active`.
    pub active: usize,
    /// Cells that freshly say `passive`.
    pub passive: usize,
}

impl Counts {
    /// Counts endpoints in.
    pub fn add(&mut self, verdict: Verdict, count: usize) {
        match verdict {
            Verdict::Healthy => self.healthy += count,
            Verdict::Unhealthy => self.unhealthy += count,
            Verdict::Unknown => {}
        }
    }

    /// Counts endpoints out.
    pub fn take(&mut self, verdict: Verdict, count: usize) {
        match verdict {
            Verdict::Healthy => self.healthy = self.healthy.saturating_sub(count),
            Verdict::Unhealthy => self.unhealthy = self.unhealthy.saturating_sub(count),
            Verdict::Unknown => {}
        }
    }

    /// Counts a cell that said `from` and says `to`.
    pub fn recount(&mut self, from: Observed, to: Observed) {
        match from {
            Observed::Active => self.active = self.active.saturating_sub(1),
            Observed::Passive => self.passive = self.passive.saturating_sub(1),
            Observed::None => {}
        }
        match to {
            Observed::Active => self.active += 1,
            Observed::Passive => self.passive += 1,
            Observed::None => {}
        }
    }

    /// `active` if one says so, else `passive` if one says so, else `none`.
    pub fn observed(&self) -> Observed {
        match (self.active, self.passive) {
            (0, 0) => Observed::None,
            (0, _) => Observed::Passive,
            _ => Observed::Active,
        }
    }
}
