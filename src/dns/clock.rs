//! The clocks of the lanes: read for each batch, so they are the cheap ones where there are any.
//!
//! Linux keeps the time of its last tick (every 1 to 10 ms) where it can be read in a few nanoseconds. That is exact enough
//! for the age of a cookie, which counts seconds, and for a rate limit, whose credit lasts one.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use nix::time::{ClockId, clock_gettime};

    /// Seconds and nanoseconds of a clock; zero where there is no such clock, which no kernel of ours lacks.
    #[expect(clippy::useless_conversion, reason = "the parts are 32 bits wide on some systems")]
    fn read(clock: ClockId) -> (u64, u64) {
        clock_gettime(clock).map_or((0, 0), |time| {
            let part = |part: i64| u64::try_from(part).unwrap_or(0);
            (part(time.tv_sec().into()), part(time.tv_nsec().into()))
        })
    }

    /// Wall clock, seconds since 1970.
    pub(in crate::dns) fn wall_seconds() -> u64 {
        read(ClockId::CLOCK_REALTIME_COARSE).0
    }

    /// Microseconds since some moment in the past; never falls.
    pub(in crate::dns) fn micros() -> u64 {
        let (seconds, nanoseconds) = read(ClockId::CLOCK_MONOTONIC_COARSE);
        seconds * 1_000_000 + nanoseconds / 1_000
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::sync::LazyLock;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    /// When the process first looked.
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

    /// Wall clock, seconds since 1970; 0 before that.
    pub(in crate::dns) fn wall_seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Microseconds since some moment in the past; never falls.
    pub(in crate::dns) fn micros() -> u64 {
        u64::try_from(ORIGIN.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

pub(super) use system::{micros, wall_seconds};
