//! One probe at one address: the counters, the verdict and its freshness.
//!
//! The state diagram stands in the module's head. `unknown` is one state with one rule, whether nothing
//! was heard yet, the evidence went stale, or the prober is suspected; the verdict from before stays visible in the latter cases.
//! Failures counted while `unknown` stay counted when the first success comes, since only `rise`
//! successes in a row clear the count.
//!
//! After this machine was suspended the verdict stays what it was, *unconfirmed*, since a clock that was merely set forward looks
//! the same: the first success or `fall` failures from then on decide, as from `unknown`.
//!
//! Runs that say nothing of the endpoint are set aside: shown, not counted, and no evidence, so a verdict that
//! rests on older runs goes stale by itself ([`discard`] says which runs those are).

use super::TargetStatus;
use super::suspicion::Voice;
use crate::model::{Discard, FailReason, Failure, Mono, Observed, Outcome, ProbeSpec, ProbeTarget, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// Said of an address of a host name that goes on from another one.
pub(super) const INHERITED: &str = "not probed yet, as the address before it";

/// The last run of a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// When it ended.
    pub at: Mono,
    /// How long it took.
    pub took: Duration,
    /// Whether it passed.
    pub result: Result<(), Failure>,
    /// When it is planned to run next.
    pub next: Option<Mono>,
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
    /// The last outcome that counted.
    pub last: Option<Run>,
    /// Before that: when the last outcome came at the address of the same host name that it goes on from.
    pub inherited: Option<Mono>,
    /// The last outcome, where it was not counted, and why not.
    pub aside: Option<(Discard, Run)>,
    /// Whether it is `unknown` because the prober came under suspicion.
    pub frozen: bool,
    /// While nothing has confirmed the verdict since this machine was suspended: for how long it was.
    pub unconfirmed: Option<Duration>,
    /// What it said of the prober.
    pub voice: Voice,
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
            inherited: None,
            aside: None,
            frozen: false,
            unconfirmed: None,
            voice: Voice::default(),
            said: None,
        }
    }

    /// Goes on from where this probe was at another address of the same host name: the counts, and that it was unhealthy. That it
    /// was healthy it has to show itself.
    pub fn inherit(&mut self, from: &Cell) {
        if from.stale.is_some() {
            return;
        }
        self.inherited = from.heard_at();
        (self.failures, self.successes) = (from.failures, from.successes);
        if from.verdict == Verdict::Unhealthy {
            (self.verdict, self.since, self.unconfirmed) = (from.verdict, from.since, from.unconfirmed);
        }
    }

    /// When the evidence came that the verdict rests on.
    pub fn heard_at(&self) -> Option<Mono> {
        self.last.as_ref().map(|last| last.at).or(self.inherited)
    }

    /// Whether an outcome that ended at `at` is new and of this cell.
    pub fn accepts(&self, at: Mono) -> bool {
        let is_later = |run: &Run| at > run.at;
        at >= self.born && self.last.as_ref().is_none_or(is_later) && self.aside.as_ref().is_none_or(|(_, run)| is_later(run))
    }

    /// Counts an outcome, or sets it aside for a reason; the caller asked [`Cell::accepts`].
    pub fn observe(&mut self, spec: &ProbeSpec, outcome: &Outcome, discard: Option<Discard>, now: Mono) {
        // One from the future would stay fresh for too long.
        let at = outcome.at.min(now);
        self.expire(spec, at);
        let run = Run {
            at,
            took: outcome.took,
            result: outcome.result.clone(),
            next: outcome.next,
            note: outcome.note.clone(),
            values: outcome.values.clone(),
        };
        if let Some(why) = discard {
            if why == Discard::Suspected && self.verdict == Verdict::Unhealthy {
                self.stay_sick(at);
            }
            self.aside = Some((why, run));
            self.expire(spec, now);
            return;
        }
        let (before, unconfirmed) = (self.verdict, self.unconfirmed);
        self.count(spec, outcome.result.is_ok());
        if self.verdict != before {
            self.since = now;
        }
        if unconfirmed != self.unconfirmed {
            self.said = None;
        }
        (self.stale, self.frozen, self.aside) = (None, false, None);
        self.last = Some(run);
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
            if risen || self.confirmed() == Verdict::Unknown {
                (self.verdict, self.unconfirmed) = (Verdict::Healthy, None);
            }
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1).min(spec.fall.max(1));
            if self.failures >= spec.fall {
                (self.verdict, self.unconfirmed) = (Verdict::Unhealthy, None);
            }
        }
    }

    /// The verdict, as far as it does not rest on what was heard before this machine was suspended.
    pub fn confirmed(&self) -> Verdict {
        match self.unconfirmed {
            Some(_) => Verdict::Unknown,
            None => self.verdict,
        }
    }

    /// What the application says it is, likewise.
    pub fn confirmed_observed(&self) -> Observed {
        match self.unconfirmed {
            Some(_) => Observed::None,
            None => self.observed(),
        }
    }

    /// This machine was suspended for `slept`, which the monotonic clock does not count. What is too old with that is unconfirmed
    /// from now on, and is counted anew. Gives what it said of the prober, if that is as old.
    pub fn wake(&mut self, spec: &ProbeSpec, slept: Duration, now: Mono) -> Option<Voice> {
        let fresh = |at: Mono| now.since(at).saturating_add(slept) < spec.stale_after;
        let ran = self.heard_at().is_some_and(fresh);
        if ran && self.said.is_none_or(|(_, at)| fresh(at)) {
            // The time counts all the same: for when it goes stale, and for the next suspension.
            let ago = |at: Mono| at.minus(slept);
            self.last = self.last.take().map(|last| Run { at: ago(last.at), ..last });
            self.inherited = self.inherited.map(ago);
            self.said = self.said.map(|(observed, at)| (observed, ago(at)));
            return None;
        }
        (self.failures, self.successes) = (0, 0);
        if self.verdict != Verdict::Unknown || self.said.is_some() {
            self.unconfirmed = Some(self.unconfirmed.unwrap_or_default().saturating_add(slept));
        }
        Some(std::mem::take(&mut self.voice))
    }

    /// Lets go of what is not fresh at `now`.
    pub fn expire(&mut self, spec: &ProbeSpec, now: Mono) {
        if self.said.is_some_and(|(_, at)| now >= at.plus(spec.stale_after)) {
            self.said = None;
            self.unconfirmed = self.unconfirmed.filter(|_| self.verdict != Verdict::Unknown);
        }
        let over = |at: Mono| now >= at.plus(spec.stale_after);
        if self.stale.is_none() && self.heard_at().is_some_and(over) {
            if self.verdict != Verdict::Unknown {
                self.since = now;
            }
            self.stale = Some(self.verdict);
            self.forget();
        }
    }

    /// Lets go of the verdict because the prober is suspected. What was known to be sick before everything was cut off since
    /// `since` stays so; what fell since then falls with the suspicion.
    pub fn freeze(&mut self, since: Mono, now: Mono) {
        let fell = self.voice.turned_since(since);
        let was = match (self.verdict, fell) {
            (Verdict::Unhealthy, None) => return,
            // Sick before this machine was suspended, and not well since.
            (Verdict::Unhealthy, _) if self.unconfirmed.is_some() => return,
            (Verdict::Unhealthy, Some(before)) => before,
            (verdict, _) => verdict,
        };
        if self.verdict != Verdict::Unknown {
            self.since = now;
            self.stale = Some(was);
        }
        self.frozen = true;
        self.forget();
    }

    /// Sick before this machine was suspended, and while the prober is suspected no word to the contrary: what is shown does not
    /// go stale, so that the answers stay as they are; its age goes on, so that it confirms nothing.
    fn stay_sick(&mut self, at: Mono) {
        let age = self.heard_at().map(|heard| at.since(heard)).unwrap_or_default();
        self.unconfirmed = self.unconfirmed.map(|slept| slept.saturating_add(age));
        match &mut self.last {
            Some(last) => last.at = at,
            None => self.inherited = Some(at),
        }
    }

    /// Starts anew from `unknown`.
    fn forget(&mut self) {
        self.verdict = Verdict::Unknown;
        self.unconfirmed = None;
        self.failures = 0;
        self.successes = 0;
    }

    /// Why the probe cannot run on this node, if its last run could not.
    pub fn cannot_run(&self) -> Option<&str> {
        match &self.aside {
            Some((Discard::CannotRun, run)) => run.result.as_ref().err().map(|failure| failure.message.as_str()),
            _ => None,
        }
    }

    /// When something of it goes stale next.
    pub fn due(&self, spec: &ProbeSpec) -> Option<Mono> {
        let verdict = self.heard_at().filter(|_| self.stale.is_none());
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
        if self.verdict == Verdict::Unknown
            && let Some(message) = self.cannot_run()
        {
            return format!("the probe cannot run: {message}");
        }
        let why = if self.frozen {
            "the prober is suspected"
        } else {
            "no fresh evidence"
        };
        match (self.stale, &self.last) {
            (Some(Verdict::Unknown), _) => why.to_owned(),
            (Some(verdict), _) => format!("{why}, was {}", verdict.as_str()),
            (None, None) if self.inherited.is_some() => INHERITED.to_owned(),
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
            aside: self.aside.as_ref().map(|(why, run)| (*why, run)),
            observed: self.observed(),
            next: self.last.as_ref().filter(|_| self.stale.is_none()).and_then(|last| last.next),
        }
    }
}

/// Why an outcome says nothing of the endpoint, if it does not.
///
/// - The probe could not run at all (a file gone, out of descriptors): that is this node's fault.
/// - It got no answer in time, and this process was late by more than the time that the answer had: its timer fired late, or the
///   run took half as long again as it may take at most, so that it was stopped on the way (SIGSTOP, a paused VM, no CPU).
/// - Nothing came back while the prober is suspected. What was sick before stays confirmed: that makes nothing worse.
pub(super) fn discard(spec: &ProbeSpec, outcome: &Outcome, verdict: Verdict, suspected: bool) -> Option<Discard> {
    let reason = outcome.result.as_ref().err()?.reason;
    let stopped = outcome.took > spec.timeout.saturating_add(spec.timeout / 2);
    match reason {
        FailReason::Internal => Some(Discard::CannotRun),
        FailReason::Timeout if stopped || outcome.late > spec.timeout => Some(Discard::Late),
        FailReason::Connect if stopped => Some(Discard::Late),
        FailReason::Timeout | FailReason::Connect if suspected && verdict != Verdict::Unhealthy => Some(Discard::Suspected),
        _ => None,
    }
}
