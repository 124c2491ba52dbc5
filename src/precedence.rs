//! Who goes first where threads share a core: the answers.
//!
//! A lane works for microseconds and sleeps; what runs beside it (probes, the writer, the API) works for milliseconds in a
//! storm of probes. Where both are on one core, Linux lets a thread that wakes wait for the one that runs, up to the next
//! tick, unless three things hold, each of which alone does little (a storm of 10,000 runs a second on the lane's core: p99
//! 1.1 ms without, 0.07 ms with all three):
//!
//! - the lane asked for shorter slices than the others (EEVDF; from Linux 6.12, an older kernel does not look at the wish);
//! - the others are a little nicer, so that the lane has not used up its share by the answers it just gave;
//! - the others offer the core between two pieces of work, for the kernel looks again only when somebody gives way or wakes.
//!
//! Shares stay fair: beside lanes that are busy all the time a thread of the others still has a quarter of its core.
//!
//! `unsafe` for three system calls that no library wraps.

/// The slice that a lane asks for, nanoseconds: the shortest that Linux grants (it takes 0.1 to 100 ms).
#[cfg(target_os = "linux")]
const SLICE_NANOS: u64 = 100_000;

/// How much nicer the others are: a third of the weight.
#[cfg(target_os = "linux")]
const NICER: libc::c_int = 5;

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

/// Lets the calling thread, and the programs it starts, wait for the lanes on its core.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub fn step_back() {
    // SAFETY: plain numbers; 0 is this thread, of which Linux keeps the niceness by itself. An error, -1, may be a niceness too:
    // then it is one step from what it was, and no harm.
    unsafe {
        let own = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, own + NICER);
    }
}

/// Nothing to ask for elsewhere.
#[cfg(not(target_os = "linux"))]
pub fn come_first() {}

/// Elsewhere niceness is the whole process's.
#[cfg(not(target_os = "linux"))]
pub fn step_back() {}

/// Offers the core to whoever waits for it: after each piece of work of which there may be thousands.
pub fn give_way() {
    std::thread::yield_now();
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn a_thread_that_steps_back_is_nicer_and_no_other() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = stat.rsplit(')').next().unwrap().split_whitespace();
            fields.map(str::to_owned).nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let other = std::thread::spawn(move || {
            super::step_back();
            nice()
        });
        assert_eq!(other.join().unwrap(), (before + super::NICER).min(19));
        assert_eq!(nice(), before);
    }
}
