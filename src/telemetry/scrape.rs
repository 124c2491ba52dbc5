//! What a scrape shows of the present state: plain data made from the published snapshot by `control`.

use crate::model::{AppId, Name, RegionHealth, RegionId};

/// One moment, for the metrics.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// The names that get series; the rest is only counted.
    pub names: Vec<NameSample>,
    /// Number of names without series.
    pub names_omitted: usize,
    /// Every region of every application.
    pub regions: Vec<RegionSample>,
    /// Every endpoint.
    pub endpoints: Vec<EndpointSample>,
    /// Every number that a probe took.
    pub values: Vec<ValueSample>,
    /// Every alert that lasts.
    pub alerts: Vec<AlertSample>,
    /// Open proposals.
    pub proposals_open: usize,
    /// The last ledger entry.
    pub ledger_seq: u64,
    /// The published snapshot.
    pub generation: u64,
    /// Runs of probes that were not counted, by reason.
    pub probes_discarded: Vec<(&'static str, u64)>,
    /// What the DNS side counted.
    pub dns: DnsCounters,
}

/// A steered name.
#[derive(Debug, Clone)]
pub struct NameSample {
    /// The name.
    pub name: Name,
    /// Each region with its role.
    pub roles: Vec<(RegionId, &'static str)>,
    /// Each region, and whether it is the one answered.
    pub answering: Vec<(RegionId, bool)>,
    /// Whether `when-all-down` is at work.
    pub fail_open: bool,
}

/// A region of an application.
#[derive(Debug, Clone)]
pub struct RegionSample {
    /// The application.
    pub app: AppId,
    /// The region.
    pub region: RegionId,
    /// Its health.
    pub health: RegionHealth,
    /// Age of the latest evidence, seconds; none: never any.
    pub age_seconds: Option<f64>,
}

/// An endpoint.
#[derive(Debug, Clone)]
pub struct EndpointSample {
    /// The application.
    pub app: AppId,
    /// The region.
    pub region: RegionId,
    /// The endpoint.
    pub endpoint: String,
    /// 1 healthy, 0 unhealthy, -1 unknown.
    pub up: f64,
}

/// A number that a probe took from its last answer.
#[derive(Debug, Clone)]
pub struct ValueSample {
    /// The application.
    pub app: String,
    /// The region.
    pub region: String,
    /// The address probed.
    pub endpoint: String,
    /// Place of the probe in the application's list, from 1.
    pub probe: String,
    /// Its name.
    pub value: String,
    /// The number.
    pub number: f64,
}

/// An alert.
#[derive(Debug, Clone)]
pub struct AlertSample {
    /// Its kind.
    pub alert: &'static str,
    /// The name it is about, empty for the node.
    pub name: String,
}

/// What the DNS side counted since the start.
#[derive(Debug, Clone, Default)]
pub struct DnsCounters {
    /// Queries by transport.
    pub queries: Vec<(&'static str, u64)>,
    /// Responses by response code.
    pub responses: Vec<(String, u64)>,
    /// Answers with a steered name's data, by name and region (`-` where of several or none).
    pub answers: Vec<(String, String, u64)>,
    /// What got no response, by reason.
    pub drops: Vec<(&'static str, u64)>,
}
