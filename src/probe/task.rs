//! One probe at one address: when it runs, how long it may take, and the gate through which its outcome goes.

use super::judge::{Judged, judge};
use super::words::failure;
use super::{Found, Kind, ProbeEvent, Stage};
use crate::model::{FailReason, JITTER, Mono, Outcome, ProbeKind, ProbeSpec, ProbeTarget, show_duration};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

/// What every task shares.
#[derive(Debug)]
pub(super) struct Common {
    /// To the writer; bounded, so that probes wait when it is behind.
    pub events: mpsc::Sender<ProbeEvent>,
    /// What [`Mono::ORIGIN`] is on the clock.
    pub origin: Instant,
    /// Bounds the runs under way.
    pub runs: Semaphore,
    /// Bounds the programs under way.
    pub programs: Semaphore,
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

/// Runs a probe for ever: first after `delay`, then from start to start an interval with jitter. A run that
/// starts late, because too many are under way, delays the next ones; none is made up for.
pub(super) async fn watch(
    common: Arc<Common>,
    gate: Arc<Gate>,
    spec: ProbeSpec,
    target: ProbeTarget,
    mut kind: Box<dyn Kind>,
    delay: Duration,
) {
    let mut random = Random::new();
    let mut next = Instant::now() + delay;
    loop {
        tokio::time::sleep_until(next).await;
        let late = Instant::now().saturating_duration_since(next);
        // First the narrower one, so that programs that wait do not hold up the other kinds.
        let program = match spec.kind {
            ProbeKind::Exec(_) => common.programs.acquire().await.ok(),
            _ => None,
        };
        let Ok(permit) = common.runs.acquire().await else {
            return;
        };
        let start = Instant::now();
        let judged = run(&mut *kind, &spec).await;
        let end = Instant::now();
        drop((permit, program));
        let outcome = Outcome {
            late,
            ..judged.outcome(target.clone(), common.mono(end), end.saturating_duration_since(start))
        };
        if !gate.send(&common, ProbeEvent::Outcome(outcome)).await {
            return;
        }
        next = (start + jittered(spec.interval, random.unit())).max(Instant::now());
    }
}

/// One run within its time limit, judged.
pub(super) async fn run(kind: &mut dyn Kind, spec: &ProbeSpec) -> Judged {
    let stage = Stage::new();
    let found = match tokio::time::timeout(spec.timeout, kind.run(&stage)).await {
        Ok(found) => found,
        Err(_) => {
            let message = format!("{} within {}", stage.missing(), show_duration(spec.timeout));
            Found::of(Err(failure(FailReason::Timeout, message)))
        }
    };
    judge(spec, found)
}

/// The interval, longer or shorter by up to [`JITTER`]; `unit` is from 0 up to 1.
fn jittered(interval: Duration, unit: f64) -> Duration {
    interval.mul_f64(1.0 + JITTER * (2.0 * unit - 1.0))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_share_and_fills_it() {
        let interval = Duration::from_secs(10);
        let mut random = Random::new();
        let waits: Vec<Duration> = (0..10_000).map(|_| jittered(interval, random.unit())).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(
            *least >= Duration::from_secs(9) && *least < Duration::from_millis(9_010),
            "{least:?}"
        );
        assert!(
            *most <= Duration::from_secs(11) && *most > Duration::from_millis(10_990),
            "{most:?}"
        );
        assert_eq!(jittered(interval, 0.5), interval);
    }
}
