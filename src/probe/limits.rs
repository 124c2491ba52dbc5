//! What probes may use at the same time: descriptors, programs, the attention of one address, local ports.
//!
//! | of | at most | so that |
//! |---|---|---|
//! | descriptors | what the process may open, less what the server needs ([`Budget`]) | a full table never stops the DNS side |
//! | runs under way | [`RUNS_MAX`], and half of the descriptors | memory is bounded |
//! | runs at one address | [`RUNS_OF_ADDRESS_MAX`] | one address that hangs leaves room for the others, and is not flooded |
//! | new connections to one address | [`CONNECTIONS_A_SECOND`] | local ports do not run out: each stays taken for a minute |
//! | programs | [`PROGRAMS_MAX`], fewer where descriptors are | processes are bounded |
//! | programs of one application | a quarter of those | those of one that hang do not stop the others' |
//!
//! Who is over a limit waits for its turn in the order of asking, one run a target, and counts as an overrun. Kept
//! connections beyond their share are given up after each run. Deliberately absent: whom to probe when (`plan`, `pace`).

use crate::model::AppId;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Most runs under way at the same time.
pub(super) const RUNS_MAX: usize = 4096;
/// Most runs under way at one address.
const RUNS_OF_ADDRESS_MAX: usize = 256;
/// Most programs under way at the same time.
const PROGRAMS_MAX: usize = 128;
/// Descriptors of one program: three pipes and a handle of the process.
const DESCRIPTORS_OF_PROGRAM: usize = 4;
/// Descriptors left to everything but the probes: DNS and API connections, files.
const RESERVE_MAX: usize = 4096;
/// New connections to one address. Linux has 28,232 local ports to a peer by default and keeps each for 60 s after a
/// connection that we closed: 470 a second.
pub(super) const CONNECTIONS_A_SECOND: u32 = 400;

/// How much of each there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Descriptors that the process may open.
    pub descriptors: usize,
    /// Runs under way.
    pub runs: usize,
    /// Connections kept between runs.
    pub kept: usize,
    /// Programs under way.
    pub programs: usize,
    /// Programs of one application under way.
    pub programs_of_app: usize,
}

impl Budget {
    /// What this process may use, by its present soft limit.
    pub fn of_process() -> Budget {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Budget::of(usize::try_from(soft).unwrap_or(usize::MAX))
    }

    /// What a process with so many descriptors may use.
    pub fn of(descriptors: usize) -> Budget {
        let reserve = RESERVE_MAX.min(descriptors / 4);
        let programs = PROGRAMS_MAX.min(descriptors / 32).max(4);
        let rest = descriptors.saturating_sub(reserve + programs * DESCRIPTORS_OF_PROGRAM);
        let runs = RUNS_MAX.min(rest / 2).max(8);
        Budget {
            descriptors,
            runs,
            kept: rest.saturating_sub(runs).min(Semaphore::MAX_PERMITS),
            programs,
            programs_of_app: (programs / 4).max(1),
        }
    }
}

/// The limits of a prober.
#[derive(Debug)]
pub(super) struct Limits {
    /// How much there is.
    pub budget: Budget,
    /// Runs under way.
    runs: Semaphore,
    /// Connections kept.
    kept: Arc<Semaphore>,
    /// Programs under way.
    programs: Semaphore,
    /// The share of each application in the programs.
    apps: Shared<AppId, Semaphore>,
    /// Each address.
    addresses: Shared<IpAddr, Address>,
}

/// What the targets at one address share.
#[derive(Debug)]
pub(super) struct Address {
    /// Runs under way there.
    runs: Semaphore,
    /// When the next connection could begin if they were spread evenly (GCRA).
    next: Mutex<Option<Instant>>,
}

/// Who asks for a turn.
#[derive(Debug)]
pub(super) enum Claim {
    /// A probe over the network.
    Network(Arc<Address>),
    /// A program, with its application's share.
    Program(Arc<Semaphore>),
}

/// A turn; others may run when it goes.
pub(super) struct Turn<'a> {
    /// What is given back.
    _permits: [SemaphorePermit<'a>; 2],
    /// Whether it had to be waited for.
    pub waited: bool,
    /// The same of programs.
    _program: Option<SemaphorePermit<'a>>,
}

impl Limits {
    /// Limits of so much.
    pub fn new(budget: Budget) -> Limits {
        Limits {
            budget,
            runs: Semaphore::new(budget.runs),
            kept: Arc::new(Semaphore::new(budget.kept)),
            programs: Semaphore::new(budget.programs),
            apps: Shared::default(),
            addresses: Shared::default(),
        }
    }

    /// What a probe over the network at an address asks with.
    pub fn network(&self, address: IpAddr) -> Claim {
        Claim::Network(self.addresses.entry(&address, Address::default))
    }

    /// What a program of an application asks with.
    pub fn program(&self, app: &AppId) -> Claim {
        let share = || Semaphore::new(self.budget.programs_of_app);
        Claim::Program(self.apps.entry(app, share))
    }

    /// Waits for the turn of a run; `connects` says that it will open a connection. None: everything is over.
    ///
    /// First the narrower limits, so that who waits for one of them does not take the place of others meanwhile.
    pub async fn turn<'a>(&'a self, claim: &'a Claim, connects: bool) -> Option<Turn<'a>> {
        let mut waited = false;
        let (own, program) = match claim {
            Claim::Program(share) => {
                let own = acquire(share, &mut waited).await?;
                (own, Some(acquire(&self.programs, &mut waited).await?))
            }
            Claim::Network(address) => {
                let own = acquire(&address.runs, &mut waited).await?;
                if connects {
                    waited |= address.wait_to_connect().await;
                }
                (own, None)
            }
        };
        let run = acquire(&self.runs, &mut waited).await?;
        Some(Turn {
            _permits: [own, run],
            waited,
            _program: program,
        })
    }

    /// A place for a kept connection, if there is one left.
    pub fn keep(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.kept).try_acquire_owned().ok()
    }
}

impl Default for Address {
    fn default() -> Address {
        Address {
            runs: Semaphore::new(RUNS_OF_ADDRESS_MAX),
            next: Mutex::default(),
        }
    }
}

impl Address {
    /// Waits until one more connection may be opened; whether that took any time.
    async fn wait_to_connect(&self) -> bool {
        let now = Instant::now();
        let at = self.book(now);
        if at > now {
            tokio::time::sleep_until(at).await;
        }
        at > now
    }

    /// When the connection may be opened that is asked for now: a second's worth of them at once, then evenly.
    fn book(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let even = next.unwrap_or(now).max(now);
        *next = Some(even + Duration::from_secs(1) / CONNECTIONS_A_SECOND);
        even.checked_sub(Duration::from_secs(1)).map_or(now, |early| early.max(now))
    }
}

/// A permit, at once where there is one; none when the semaphore is closed, which nobody does.
async fn acquire<'a>(semaphore: &'a Semaphore, waited: &mut bool) -> Option<SemaphorePermit<'a>> {
    if let Ok(permit) = semaphore.try_acquire() {
        return Some(permit);
    }
    *waited = true;
    semaphore.acquire().await.ok()
}

/// One value a key, as long as somebody has it.
#[derive(Debug)]
pub(super) struct Shared<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Shared(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V> Shared<K, V> {
    /// The value of a key, made where nobody has it.
    pub fn entry(&self, key: &K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(key).and_then(Weak::upgrade) {
            return known;
        }
        // What nobody has goes before the table grows, so that each is looked at but a few times.
        if all.len() == all.capacity() {
            all.retain(|_, value| value.strong_count() > 0);
        }
        let made = Arc::new(make());
        all.insert(key.clone(), Arc::downgrade(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_never_exceeds_the_descriptors() {
        for descriptors in [64, 256, 1024, 4096, 20_000, 65_536, 524_288, usize::MAX] {
            let budget = Budget::of(descriptors);
            let most = budget.runs + budget.kept + budget.programs * DESCRIPTORS_OF_PROGRAM;
            assert!(most <= descriptors, "{budget:?}");
            assert!(budget.runs >= 8 && budget.programs_of_app >= 1 && budget.programs_of_app * 4 <= budget.programs);
        }
        // What a systemd unit of ours gets: ten thousand kept connections, and every run that may be under way.
        let budget = Budget::of(65_536);
        assert!(
            budget.kept > 50_000 && budget.runs == RUNS_MAX && budget.programs == PROGRAMS_MAX,
            "{budget:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn connections_to_one_address_are_bounded_in_each_second() {
        let limits = Limits::new(Budget::of(65_536));
        let claim = limits.network("192.0.2.1".parse().unwrap());
        let begin = Instant::now();
        let mut begun = Vec::new();
        for _ in 0..2_000 {
            drop(limits.turn(&claim, true).await);
            begun.push(begin.elapsed());
        }
        let most = CONNECTIONS_A_SECOND as usize;
        assert!(
            begun[most - 1] < Duration::from_millis(5),
            "a second's worth at once: {:?}",
            begun[most - 1]
        );
        for pair in begun.windows(2 * most + 1) {
            assert!(pair[2 * most] - pair[0] >= Duration::from_millis(990), "{:?}", pair[0]);
        }
        // Others are not held up by it, and neither are runs that open no connection.
        assert!(
            !limits
                .turn(&limits.network("192.0.2.2".parse().unwrap()), true)
                .await
                .unwrap()
                .waited
        );
        assert!(!limits.turn(&claim, false).await.unwrap().waited);
    }

    #[tokio::test]
    async fn one_address_leaves_room_for_the_others() {
        let limits = Limits::new(Budget::of(65_536));
        let claim = limits.network("192.0.2.1".parse().unwrap());
        let mut turns = Vec::new();
        for _ in 0..RUNS_OF_ADDRESS_MAX {
            turns.push(limits.turn(&claim, false).await.unwrap());
        }
        let waiting = tokio::time::timeout(Duration::from_millis(20), limits.turn(&claim, false));
        assert!(waiting.await.is_err());
        assert!(
            !limits
                .turn(&limits.network("192.0.2.2".parse().unwrap()), false)
                .await
                .unwrap()
                .waited
        );
        turns.pop();
        assert!(limits.turn(&claim, false).await.is_some());
    }

    #[tokio::test]
    async fn programs_of_one_application_leave_room_for_those_of_others() {
        let limits = Limits::new(Budget::of(65_536));
        let (one, other) = (limits.program(&AppId::new("one")), limits.program(&AppId::new("other")));
        let mut turns = Vec::new();
        for _ in 0..limits.budget.programs_of_app {
            turns.push(limits.turn(&one, false).await.unwrap());
        }
        let again = limits.program(&AppId::new("one"));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), limits.turn(&again, false))
                .await
                .is_err()
        );
        assert!(!limits.turn(&other, false).await.unwrap().waited);
    }
}
