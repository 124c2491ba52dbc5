//! Telemetry: the metrics registry, the logs, and the one place where clocks are read.
//!
//! What lasts (roles, health, alerts) is not kept here a second time: a scrape brings a [`Scrape`] made from the published
//! snapshot, so a metric can never disagree with what is served. Only what is counted (commands, probe runs, reloads,
//! publishes) lives in the registry. Deliberately absent: pushing metrics or alerts anywhere.

mod clock;
mod logs;
mod memory;
mod metrics;
mod scrape;

pub use clock::Clock;
pub use logs::{chain, init_logging};
pub use memory::give_back;
pub use metrics::{METRICS, Metrics};
pub use scrape::{AlertSample, DnsCounters, EndpointSample, NameSample, RegionSample, Scrape, ValueSample};
