//! Time as an argument: [`Now`] is a pair of a monotonic and a wall clock reading.
//!
//! Intervals, delays, ages and cooldowns use [`Mono`]; records and expiry use [`Wall`]. The pure tiers
//! never read a clock: the shell passes `Now` in, a simulation makes it up.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Monotonic time since some origin of this process. Saved state that is older than the process lies
/// before the origin, so the origin is a century after zero (see [`Mono::ORIGIN`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(Duration);

impl Mono {
    /// The reading at the start of the process. Not zero, so that evidence from before a restart has a reading too.
    pub const ORIGIN: Mono = Mono(Duration::from_secs(100 * 365 * 86_400));

    /// The reading `after` the origin.
    pub fn after_origin(after: Duration) -> Mono {
        Mono(Mono::ORIGIN.0 + after)
    }

    /// Time from `earlier` to this reading; zero when `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The reading `delay` later.
    pub fn plus(self, delay: Duration) -> Mono {
        Mono(self.0.saturating_add(delay))
    }

    /// The reading `age` earlier.
    pub fn minus(self, age: Duration) -> Mono {
        Mono(self.0.saturating_sub(age))
    }
}

/// Wall clock time in milliseconds since 1970-01-01T00:00:00Z. May step; never used for order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl Wall {
    /// Time from `earlier` to this reading; zero when the clock stepped back.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Reads the RFC 3339 form that [`fmt::Display`] writes.
    ///
    /// # Errors
    /// When the text is no RFC 3339 time or lies before 1970.
    pub fn parse(text: &str) -> Result<Wall, String> {
        let stamp: jiff::Timestamp = text.parse().map_err(|error| format!("{error}"))?;
        u64::try_from(stamp.as_millisecond())
            .map(Wall)
            .map_err(|_| format!("{text} lies before 1970"))
    }
}

impl fmt::Display for Wall {
    /// RFC 3339 in UTC, always with milliseconds: `2026-11-21T03:12:45.120Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => f.write_str("9999-12-30T22:00:00.000Z"),
        }
    }
}

impl Serialize for Wall {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wall {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Wall, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Wall::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For intervals, delays, ages and cooldowns.
    pub mono: Mono,
    /// For records.
    pub wall: Wall,
}

impl Now {
    /// Both clocks `delay` later: what a simulation steps with.
    pub fn plus(self, delay: Duration) -> Now {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Now {
            mono: self.mono.plus(delay),
            wall: Wall(self.wall.0.saturating_add(millis)),
        }
    }

    /// When something recorded at `wall` happened on the monotonic clock, judged by the wall clock; a
    /// record from the future (the clock was set back) counts as now.
    pub fn mono_at(self, wall: Wall) -> Mono {
        self.mono.minus(self.wall.since(wall))
    }
}

/// A duration as people write it in config and output: `30s`, `1m30s`, `250ms`, `0s`.
pub fn show_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let millis = duration.as_millis();
    let (mut seconds, millis) = (millis / 1000, millis % 1000);
    let mut text = String::new();
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds >= size {
            text.push_str(&format!("{}{unit}", seconds / size));
            seconds %= size;
        }
    }
    match (seconds, millis) {
        (0, 0) => {}
        (_, 0) => text.push_str(&format!("{seconds}s")),
        (0, _) => text.push_str(&format!("{millis}ms")),
        _ => text.push_str(&format!("{seconds}.{millis:03}s").replace("00s", "s").replace("0s", "s")),
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_prints_and_reads_back() {
        let wall = Wall(1_795_252_365_120);
        assert_eq!(wall.to_string(), "2026-11-21T09:12:45.120Z");
        assert_eq!(Wall::parse(&wall.to_string()), Ok(wall));
        assert!(Wall::parse("yesterday").is_err());
        assert!(Wall::parse("1960-01-01T00:00:00Z").is_err());
        assert_eq!(Wall(1_795_252_365_000).to_string(), "2026-11-21T09:12:45.000Z");
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        let cases = [
            (0, "0s"),
            (30_000, "30s"),
            (90_000, "1m30s"),
            (250, "250ms"),
            (1_500, "1.5s"),
            (2_010, "2.01s"),
            (86_400_000, "1d"),
            (60_000, "1m"),
        ];
        for (millis, text) in cases {
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn records_from_the_future_count_as_now() {
        let now = Now {
            mono: Mono::ORIGIN,
            wall: Wall(10_000),
        };
        assert_eq!(now.mono_at(Wall(20_000)), now.mono);
        assert_eq!(now.mono.since(now.mono_at(Wall(4_000))), Duration::from_secs(6));
    }
}
