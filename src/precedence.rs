//! Who goes first where threads share a core: the answers.
//!
//! A lane works for microseconds and sleeps; what runs beside it (probes, the writer) works for milliseconds in a storm of
//! probes. Where both are on one core, Linux lets a thread that wakes wait for the one that runs, up to the next tick, unless
//! two things hold, each of which alone does little (a storm of 10,000 runs a second on the lane's core: p99 of an answer
//! 1.1 to 1.3 ms without, 0.1 to 0.3 ms with both):
//!
//! - the lane asked for shorter slices than the others (EEVDF; from Linux 6.12, an older kernel does not look at the wish);
//! - the others offer the core between two pieces of work, for the kernel looks again only when somebody wakes or gives way.
//!
//! Shares stay as they are: no flood of queries takes more of a core from the writer, and no operator waits longer, for a thread
//! gives way only amid long work. (Giving way after each piece was measured too, and made a switch during a flood wait for
//! 200 ms, since who gives way waits for a slice of everybody else's.)
//!
//! `unsafe` for two system calls that no library wraps.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The slice that a lane asks for, nanoseconds: the shortest that Linux grants (it takes 0.1 to 100 ms).
#[cfg(target_os = "linux")]
const SLICE_NANOS: u64 = 100_000;

/// How long a thread is at work before it gives way, and without work until it is rested: the lane's slice.
const SPELL: Duration = Duration::from_micros(100);

thread_local! {
    /// The work of this thread.
    static SPELL_OF_THREAD: Cell<Option<Spell>> = const { Cell::new(None) };
}

/// Pieces of work one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spell {
    /// The end of the first.
    since: Instant,
    /// The end of the latest.
    last: Instant,
}

impl Spell {
    /// A piece is done; the spell it belongs to, none when that was long enough to give way.
    fn after(spell: Option<Spell>, now: Instant) -> Option<Spell> {
        let going_on = spell.filter(|spell| now.saturating_duration_since(spell.last) <= SPELL);
        let since = going_on.map_or(now, |spell| spell.since);
        (now.saturating_duration_since(since) < SPELL).then_some(Spell { since, last: now })
    }
}

/// Asks for short turns for the calling thread, a lane's. A refusal changes nothing and is no news.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn come_first() {
    use std::mem;
    // SAFETY: `sched_attr` is made of integers, for which zero is a value.
    let mut attr: libc::sched_attr = unsafe { mem::zeroed() };
    let octets = mem::size_of_val(&attr) as libc::c_uint;
    // SAFETY: the kernel writes at most `octets` octets to `attr`, which lives through the call; 0 is this thread.
    let read = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, octets, 0) };
    // Threads of a real-time policy have no slices, and must not lose what somebody gave them.
    if read != 0 || !matches!(attr.sched_policy as libc::c_int, libc::SCHED_OTHER | libc::SCHED_BATCH) {
        return;
    }
    attr.sched_runtime = SLICE_NANOS;
    // SAFETY: the kernel reads `attr.size` octets of `attr`, as it set that itself; 0 is this thread.
    let asked = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    tracing::trace!(is_granted = asked == 0, "short turns");
}

/// Nothing to ask for elsewhere.
#[cfg(not(target_os = "linux"))]
pub fn come_first() {}

/// Offers the core to whoever waits for it: to be called after each piece of work of which there may be thousands. Now and then a
/// piece costs nothing but a look at the clock; many in a row give way after 100 µs each time.
pub fn give_way() {
    let spell = Spell::after(SPELL_OF_THREAD.get(), Instant::now());
    SPELL_OF_THREAD.set(spell);
    if spell.is_none() {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_works_on_and_on_gives_way() {
        let begin = Instant::now();
        let at = |micros| begin + Duration::from_micros(micros);
        let run = |ends: &[u64]| {
            let mut spell = None;
            let mut given: Vec<u64> = Vec::new();
            for end in ends {
                spell = Spell::after(spell, at(*end));
                if spell.is_none() {
                    given.push(*end);
                }
            }
            given
        };
        assert_eq!(run(&[0, 40, 80, 120, 160, 200, 240, 280]), [120, 280], "and anew from there");
        assert!(run(&[0, 5_000, 10_000, 15_000]).is_empty(), "one now and then");
        assert!(run(&[0, 60, 170, 230, 340]).is_empty(), "with pauses");
        assert_eq!(run(&[0, 100]), [100]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lane_has_shorter_slices_where_the_kernel_tells_them() {
        let slice = || {
            let text = std::fs::read_to_string("/proc/thread-self/sched").ok()?;
            let line = text.lines().find(|line| line.starts_with("se.slice"))?;
            line.rsplit(' ').next()?.parse::<u64>().ok()
        };
        let told = std::thread::spawn(move || {
            let before = slice();
            come_first();
            (before, slice())
        });
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map_while(|part| part.parse::<u32>().ok());
        let grants = (numbers.next(), numbers.next()) >= (Some(6), Some(12));
        match told.join().unwrap() {
            (Some(_), Some(after)) if grants => assert_eq!(after, SLICE_NANOS),
            (before, after) => eprintln!("SKIPPED: {release} does not tell slices of one's own ({before:?}, {after:?})"),
        }
    }
}
