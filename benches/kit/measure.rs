//! A measurement: tried again while other programs are noisy, with the CPU time that it cost the server.

use super::args::Args;
use super::proc::{self, Cpu, Server};
use std::time::{Duration, Instant};

/// Measurements with more of a CPU taken by others are tried again, and told.
const NOISE_MAX: f64 = 0.08;

/// What came of a load, and at what price.
pub struct Measured<T> {
    /// What came of it.
    pub outcome: T,
    /// CPU time of all the server's processes.
    pub cpu: Cpu,
    /// Share of a CPU that others took.
    noise: f64,
}

impl<T> Measured<T> {
    /// 1 where others took too much, for the column `noisy`.
    pub fn noisy(&self) -> f64 {
        if self.noise > NOISE_MAX { 1.0 } else { 0.0 }
    }

    /// CPU time for each of so many answers, microseconds.
    pub fn micros(&self, answers: u64) -> f64 {
        self.cpu.nanos / 1e3 / (answers.max(1) as f64)
    }
}

/// Loads a server, once more where others were noisy; the quieter one of both.
pub fn measure<T>(args: &Args, server: &Server, mut load: impl FnMut() -> T) -> Measured<T> {
    let mut best: Option<Measured<T>> = None;
    for _ in 0..if args.test { 1 } else { 2 } {
        if !args.test {
            proc::wait_quiet(Duration::from_secs(2));
        }
        let (from, machine, own, cpu) = (Instant::now(), proc::machine_seconds(), proc::own_seconds(), server.cpu());
        let outcome = load();
        let cpu = server.cpu().since(cpu);
        let others = proc::machine_seconds() - machine - cpu.nanos / 1e9 - (proc::own_seconds() - own);
        let noise = others / from.elapsed().as_secs_f64();
        if best.as_ref().is_none_or(|best| noise < best.noise) {
            best = Some(Measured { outcome, cpu, noise });
        }
        if noise <= NOISE_MAX {
            break;
        }
    }
    best.expect("measured at least once")
}
