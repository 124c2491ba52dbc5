//! One probe at one address: the counters, the verdict and its freshness.
//!
//! The state diagram stands in the module's head. `unknown` is one state with one rule, whether nothing
//! was heard yet or the evidence went stale; the verdict from before stays visible in the latter case.
//! Failures counted while `unknown` stay counted when the first success comes, since only `rise`
//! successes in a row clear the count.

use super::TargetStatus;
use crate::model::{Failure, Mono, Observed, Outcome, ProbeSpec, ProbeTarget, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// The last run of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// When it ended.
    pub at: Mono,
    /// How long it took.
    pub took: Duration,
    /// Whether it passed.
    pub result: Result<(), Failure>,
    /// What a run that passed saw, in words; may be empty.
    pub note: String,
    /// Numbers taken from the answer, by name.
    pub values: Vec<(Arc<str>, f64)>,
}

/// State of one probe at one address.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// Which probe, where.
    pub target: Arc<ProbeTarget>,
    /// Outcomes from before this are not of this cell.
    pub born: Mono,
    /// The verdict now.
    pub verdict: Verdict,
    /// Since when.
    pub since: Mono,
    /// While the evidence is stale: what the verdict was.
    pub stale: Option<Verdict>,
    /// Failures counted, at most `fall`.
    pub failures: u32,
    /// Successes in a row, at most `rise`.
    pub successes: u32,
    /// The last outcome.
    pub last: Option<Run>,
    /// What the application last said it is, and when.
    pub said: Option<(Observed, Mono)>,
}

impl Cell {
    /// A cell that knows nothing.
    pub fn new(target: ProbeTarget, now: Mono) -> Cell {
        Cell {
            target: Arc::new(target),
            born: now,
            verdict: Verdict::Unknown,
            since: now,
            stale: None,
            failures: 0,
            successes: 0,
            last: None,
            said: None,
        }
    }

    /// Whether an outcome that ended at `at` is new and of this cell.
    pub fn accepts(&self, at: Mono) -> bool {
        at >= self.born && self.last.as_ref().is_none_or(|last| at > last.at)
    }

    /// Counts an outcome; the caller asked [`Cell::accepts`].
    pub fn observe(&mut self, spec: &ProbeSpec, outcome: &Outcome, now: Mono) {
        // One from the future would stay fresh for too long.
        let at = outcome.at.min(now);
        self.expire(spec, at);
        let before = self.verdict;
        self.count(spec, outcome.result.is_ok());
        if self.verdict != before {
            self.since = now;
        }
        self.stale = None;
        self.last = Some(Run {
            at,
            took: outcome.took,
            result: outcome.result.clone(),
            note: outcome.note.clone(),
            values: outcome.values.clone(),
        });
        // A run that could not ask does not unsay what was said before; it ages.
        if let Some(observed) = outcome.observed {
            self.said = (observed != Observed::None).then_some((observed, at));
        }
        self.expire(spec, now);
    }

    /// The counters: the rules of the module's head.
    fn count(&mut self, spec: &ProbeSpec, passed: bool) {
        if passed {
            self.successes = self.successes.saturating_add(1).min(spec.rise.max(1));
            let risen = self.successes >= spec.rise;
            if risen {
                self.failures = 0;
            }
            if risen || self.verdict == Verdict::Unknown {
                self.verdict = Verdict::Healthy;
            }
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1).min(spec.fall.max(1));
            if self.failures >= spec.fall {
                self.verdict = Verdict::Unhealthy;
            }
        }
    }

    /// Lets go of what is not fresh at `now`.
    pub fn expire(&mut self, spec: &ProbeSpec, now: Mono) {
        if self.said.is_some_and(|(_, at)| now >= at.plus(spec.stale_after)) {
            self.said = None;
        }
        let over = |last: &Run| now >= last.at.plus(spec.stale_after);
        if self.stale.is_none() && self.last.as_ref().is_some_and(over) {
            if self.verdict != Verdict::Unknown {
                self.since = now;
            }
            self.stale = Some(self.verdict);
            self.verdict = Verdict::Unknown;
            self.failures = 0;
            self.successes = 0;
        }
    }

    /// When something of it goes stale next.
    pub fn due(&self, spec: &ProbeSpec) -> Option<Mono> {
        let verdict = self.last.as_ref().filter(|_| self.stale.is_none()).map(|last| last.at);
        let said = self.said.map(|(_, at)| at);
        let oldest = match (verdict, said) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        oldest.map(|at| at.plus(spec.stale_after))
    }

    /// What the application says it is, as far as that is fresh (by the last [`Cell::expire`]).
    pub fn observed(&self) -> Observed {
        self.said.map_or(Observed::None, |(observed, _)| observed)
    }

    /// The last failure, if the last run failed.
    pub fn failure(&self) -> Option<&Failure> {
        self.last.as_ref()?.result.as_ref().err()
    }

    /// Why the verdict is what it is, in words.
    pub fn message(&self) -> String {
        match (self.stale, &self.last) {
            (Some(Verdict::Unknown), _) => "no fresh evidence".to_owned(),
            (Some(verdict), _) => format!("no fresh evidence, was {}", verdict.as_str()),
            (None, None) => "no evidence yet".to_owned(),
            (None, Some(run)) => match &run.result {
                Ok(()) => "passes".to_owned(),
                Err(failure) => failure.message.clone(),
            },
        }
    }

    /// For display.
    pub fn status<'a>(&'a self, spec: &ProbeSpec) -> TargetStatus<'a> {
        TargetStatus {
            target: &self.target,
            kind: spec.kind.as_str(),
            counting: !spec.monitoring_only,
            verdict: self.verdict,
            stale_verdict: self.stale,
            since: self.since,
            failures: self.failures,
            fall: spec.fall,
            successes: self.successes,
            rise: spec.rise,
            last: self.last.as_ref(),
            observed: self.observed(),
        }
    }
}
