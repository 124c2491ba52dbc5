//! One probe at one address: it waits for its start and for its turn, runs within its limit, and tells the outcome.

use super::judge::{Judged, judge};
use super::limits::{Claim, Limits};
use super::pace::{self, Count};
use super::plan::Slot;
use super::words::failure;
use super::{Found, Kind, ProbeEvent, Stage};
use crate::model::{JITTER, Mono, Outcome, ProbeKind, ProbeSpec, ProbeTarget, show_duration};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

/// Least time from one start to the next when a kept connection is lost, where no `recheck-interval` is given.
const AFTER_LOSS_MIN: Duration = Duration::from_secs(1);

/// What every task shares.
#[derive(Debug)]
pub(super) struct Common {
    /// To the writer; bounded, so that probes wait when it is behind.
    pub events: mpsc::Sender<ProbeEvent>,
    /// What [`Mono::ORIGIN`] is on the clock.
    pub origin: Instant,
    /// What may be used at the same time.
    pub limits: Limits,
}

impl Common {
    /// A reading of the clock as the pure tiers know it.
    pub fn mono(&self, at: Instant) -> Mono {
        Mono::after_origin(at.saturating_duration_since(self.origin))
    }
}

/// Lets events through until it is shut; once shutting returned, none comes.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<bool>);

impl Gate {
    /// No event passes from now on.
    pub fn shut(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Waits for room and sends; false when the gate is shut or the writer is gone.
    pub async fn send(&self, common: &Common, event: ProbeEvent) -> bool {
        let Ok(room) = common.events.reserve().await else {
            return false;
        };
        let shut = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !*shut {
            room.send(event);
        }
        !*shut
    }
}

/// When a task is to run, as last dealt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// What the slot counts from.
    pub epoch: Instant,
    /// Its slot.
    pub slot: Slot,
}

/// A probe at an address, and all that it needs.
pub(super) struct Job {
    /// What every task shares.
    pub common: Arc<Common>,
    /// What its events pass.
    pub gate: Arc<Gate>,
    /// When it runs; dealt anew when targets of its application come or go.
    pub plan: Arc<Mutex<Plan>>,
    /// The probe.
    pub spec: Arc<ProbeSpec>,
    /// The target.
    pub target: ProbeTarget,
    /// With what it asks for its turn.
    pub claim: Claim,
}

/// Runs a probe for ever, first at `first`.
pub(super) async fn watch(job: Job, mut kind: Box<dyn Kind>, first: Instant) {
    let mut random = Random::new();
    let mut count = Count::default();
    let mut kept: Option<OwnedSemaphorePermit> = None;
    let mut missed = 0;
    tokio::time::sleep_until(first).await;
    let mut planned = first;
    loop {
        let late = Instant::now().saturating_duration_since(planned);
        let Some(turn) = job.common.limits.turn(&job.claim, job.connects(&*kind)).await else {
            return;
        };
        crate::precedence::give_way();
        let start = Instant::now();
        let judged = run(&mut *kind, &job.spec).await;
        let end = Instant::now();
        let overruns = missed + job.waited(turn.waited, planned, start);
        drop(turn);
        job.keep_or_release(&mut *kind, &mut kept);
        count.observe(&job.spec, judged.result.is_ok());
        let unit = random.unit();
        let outcome = Outcome {
            late,
            next: Some(job.common.mono(job.next(&count, start, unit).0)),
            overruns,
            ..judged.outcome(job.target.clone(), job.common.mono(end), end.saturating_duration_since(start))
        };
        if !job.gate.send(&job.common, ProbeEvent::Outcome(outcome)).await {
            return;
        }
        (planned, missed) = job.next(&count, start, unit);
        planned = job.sleep(&mut *kind, start, planned, random.unit()).await;
    }
}

impl Job {
    /// Whether the next run will open a connection.
    fn connects(&self, kind: &dyn Kind) -> bool {
        !matches!(self.spec.kind, ProbeKind::Exec(_) | ProbeKind::Dns(_) | ProbeKind::Feed(_)) && !kind.keeps()
    }

    /// How many starts went by in waiting for a turn.
    fn waited(&self, waited: bool, planned: Instant, start: Instant) -> u32 {
        let plan = self.plan();
        let of = |at: Instant| at.saturating_duration_since(plan.epoch);
        u32::from(waited).saturating_add(plan.slot.between(of(planned), of(start)))
    }

    /// Keeps the connection where there is a place for it.
    fn keep_or_release(&self, kind: &mut dyn Kind, place: &mut Option<OwnedSemaphorePermit>) {
        if !kind.keeps() {
            *place = None;
            return;
        }
        if place.is_none() {
            *place = self.common.limits.keep();
        }
        if place.is_none() {
            kind.release();
        }
    }

    /// When to run next, and how many starts were missed.
    fn next(&self, count: &Count, start: Instant, unit: f64) -> (Instant, u32) {
        let plan = self.plan();
        let of = |at: Instant| at.saturating_duration_since(plan.epoch);
        let next = pace::next(&self.spec, &plan.slot, count, of(start), of(Instant::now()), unit);
        (plan.epoch + next.at, next.missed)
    }

    /// Sleeps until `next`, or until a kept connection is lost: then the service may be, and is asked at once. Not sooner
    /// after the last start than probing is allowed to be fast at all, and with a little spread, since a server that
    /// ends loses all of its connections in one moment. Gives the time for which the run was planned in the end.
    async fn sleep(&self, kind: &mut dyn Kind, start: Instant, next: Instant, unit: f64) -> Instant {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(next) => next,
            () = kind.lost() => {
                let pace = self.spec.recheck_interval.unwrap_or(AFTER_LOSS_MIN).min(self.spec.interval);
                let soon = Instant::now().max(start + pace) + pace.mul_f64(JITTER * unit);
                tokio::time::sleep_until(soon.min(next)).await;
                soon.min(next)
            }
        }
    }

    /// When it runs.
    fn plan(&self) -> Plan {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run within its time limit, judged.
pub(super) async fn run(kind: &mut dyn Kind, spec: &ProbeSpec) -> Judged {
    let stage = Stage::new();
    let found = match tokio::time::timeout(spec.timeout, kind.run(&stage)).await {
        Ok(found) => found,
        Err(_) => {
            let (missing, reason) = stage.missing();
            let message = format!("{missing} within {}", show_duration(spec.timeout));
            Found::of(Err(failure(reason, message)))
        }
    };
    judge(spec, found)
}

/// Random numbers for spreading runs in time (xorshift64*); not for secrets.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Seeded by the operating system.
    pub fn new() -> Random {
        let mut seed = [0; 8];
        // Without randomness all probes get the same jitter, which is no reason not to probe.
        let _ = getrandom::fill(&mut seed);
        Random(u64::from_ne_bytes(seed) | 1)
    }

    /// From 0 up to, not including, 1.
    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        // 53 bits fit exactly.
        bits as f64 / (1_u64 << 53) as f64
    }
}
