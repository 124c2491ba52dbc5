//! The metrics: counted ones in a registry, lasting ones rendered from a [`Scrape`], both as Prometheus' text format 0.0.4.

use super::scrape::Scrape;
use crate::model::{Outcome, RegionHealth};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use std::time::Duration;

/// Every metric with its meaning: the registry, the README and a test go by this table.
pub const METRICS: &[(&str, &str)] = &[
    ("pointsman_dns_queries_total", "Queries received, by transport."),
    ("pointsman_dns_responses_total", "Responses sent, by response code."),
    (
        "pointsman_dns_drops_total",
        "Packets and connections that got no response, or a short one only (`rate-short`), by reason.",
    ),
    (
        "pointsman_answers_total",
        "Answers with a steered name's data, by name and region; region - where of several or of none.",
    ),
    (
        "pointsman_name_role",
        "1 for the role that a region has at a name: active, passive, and beside it drained.",
    ),
    ("pointsman_name_answering", "1 for the region whose endpoints a name answers now."),
    (
        "pointsman_region_health",
        "1 for the health that a region of an application has: healthy, degraded, unhealthy, unknown.",
    ),
    ("pointsman_endpoint_up", "1 healthy, 0 unhealthy, -1 unknown."),
    ("pointsman_probe_duration_seconds", "How long probe runs took."),
    ("pointsman_probe_failures_total", "Failed probe runs, by reason."),
    (
        "pointsman_probe_overruns_total",
        "Starts of probes that did not come when planned: the run before took longer, or too many were under way.",
    ),
    (
        "pointsman_probe_lookups_failed_total",
        "Failed look-ups of host names that are endpoints.",
    ),
    (
        "pointsman_probe_discarded_total",
        "Failed probe runs that say nothing of the endpoint and were not counted, by reason (late, cannot-run, suspected).",
    ),
    (
        "pointsman_probe_value",
        "Numbers that a probe took from the last answer: lag, days of a certificate, load; by name, and by the probe's place from 1.",
    ),
    (
        "pointsman_health_age_seconds",
        "Age of the latest evidence on a region; no series before the first.",
    ),
    (
        "pointsman_switches_total",
        "Commands and moves of roles, by kind and outcome (done, unchanged, refused, failed).",
    ),
    ("pointsman_proposals_open", "Proposals that wait for an operator."),
    ("pointsman_fail_open", "1 while when-all-down decides what a name answers."),
    ("pointsman_ledger_seq", "Number of the last ledger entry."),
    ("pointsman_generation", "Number of the published snapshot since the start."),
    ("pointsman_publish_duration_seconds", "Time from a decision to its publication."),
    (
        "pointsman_apply_duration_seconds",
        "Time from an entry being durable to its answers being out.",
    ),
    ("pointsman_config_reloads_total", "Reloads, by outcome (accepted, refused)."),
    (
        "pointsman_alert",
        "1 while an alert lasts; name is empty for alerts about the node.",
    ),
    (
        "pointsman_names_omitted",
        "Steered names without series of their own (see metrics-names-max).",
    ),
    ("pointsman_build_info", "1, with the version of the program."),
];

/// The meaning of a metric.
fn help(name: &str) -> &'static str {
    METRICS.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help)
}

/// What is counted.
pub struct Metrics {
    registry: Registry,
    probe_duration: HistogramVec,
    probe_failures: IntCounterVec,
    probe_overruns: IntCounterVec,
    lookups_failed: IntCounterVec,
    switches: IntCounterVec,
    reloads: IntCounterVec,
    publish: Histogram,
    apply: Histogram,
}

impl Metrics {
    /// A registry with every counter at zero.
    ///
    /// # Errors
    /// Never, unless two metrics of the table have one name.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let counter = |name: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help(name)), labels);
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let probe_opts = HistogramOpts::new("pointsman_probe_duration_seconds", help("pointsman_probe_duration_seconds")).buckets(buckets);
        let publish_buckets = vec![
            1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5, 2.5,
        ];
        let publish_opts =
            HistogramOpts::new("pointsman_publish_duration_seconds", help("pointsman_publish_duration_seconds")).buckets(publish_buckets);
        let apply_buckets = vec![
            1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0,
        ];
        let apply_opts =
            HistogramOpts::new("pointsman_apply_duration_seconds", help("pointsman_apply_duration_seconds")).buckets(apply_buckets);
        let metrics = Metrics {
            registry: Registry::new(),
            probe_duration: HistogramVec::new(probe_opts, &["app", "region", "endpoint", "kind"])?,
            probe_failures: counter("pointsman_probe_failures_total", &["app", "region", "endpoint", "reason"])?,
            probe_overruns: counter("pointsman_probe_overruns_total", &["app", "region"])?,
            lookups_failed: counter("pointsman_probe_lookups_failed_total", &["app", "region"])?,
            switches: counter("pointsman_switches_total", &["kind", "outcome"])?,
            reloads: counter("pointsman_config_reloads_total", &["outcome"])?,
            publish: Histogram::with_opts(publish_opts)?,
            apply: Histogram::with_opts(apply_opts)?,
        };
        metrics.registry.register(Box::new(metrics.probe_duration.clone()))?;
        metrics.registry.register(Box::new(metrics.probe_failures.clone()))?;
        metrics.registry.register(Box::new(metrics.probe_overruns.clone()))?;
        metrics.registry.register(Box::new(metrics.lookups_failed.clone()))?;
        metrics.registry.register(Box::new(metrics.switches.clone()))?;
        metrics.registry.register(Box::new(metrics.reloads.clone()))?;
        metrics.registry.register(Box::new(metrics.publish.clone()))?;
        metrics.registry.register(Box::new(metrics.apply.clone()))?;
        for outcome in ["accepted", "refused"] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        for kind in ["switchover", "failover", "failback"] {
            metrics.switches.with_label_values(&[kind, "done"]);
        }
        Ok(metrics)
    }

    /// Counts a run of a probe.
    pub fn probe(&self, outcome: &Outcome, kind: &str) {
        let (target, endpoint) = (&outcome.target, outcome.target.endpoint.to_string());
        let labels = [target.app.as_str(), target.region.as_str(), endpoint.as_str()];
        self.probe_duration
            .with_label_values(&[labels[0], labels[1], labels[2], kind])
            .observe(outcome.took.as_secs_f64());
        self.probe_overruns
            .with_label_values(&labels[..2])
            .inc_by(u64::from(outcome.overruns));
        if let Err(failure) = &outcome.result {
            self.probe_failures
                .with_label_values(&[labels[0], labels[1], labels[2], failure.reason.as_str()])
                .inc();
        }
    }

    /// Forgets the series of an endpoint that is no longer probed: counters of what is gone would stay for ever.
    pub fn forget_probes(&self) {
        self.probe_duration.reset();
        self.probe_failures.reset();
        self.lookups_failed.reset();
        self.probe_overruns.reset();
    }

    /// Counts a failed look-up.
    pub fn lookup_failed(&self, app: &str, region: &str) {
        self.lookups_failed.with_label_values(&[app, region]).inc();
    }

    /// Counts a command or a move.
    pub fn switched(&self, kind: &str, outcome: &str) {
        self.switches.with_label_values(&[kind, outcome]).inc();
    }

    /// Counts moves of one kind that were made.
    pub fn moved(&self, kind: &str, count: u64) {
        self.switches.with_label_values(&[kind, "done"]).inc_by(count);
    }

    /// Counts a reload.
    pub fn reloaded(&self, outcome: &str) {
        self.reloads.with_label_values(&[outcome]).inc();
    }

    /// Counts a publish.
    pub fn published(&self, took: Duration) {
        self.publish.observe(took.as_secs_f64());
    }

    /// Counts an append whose answers are out.
    pub fn applied(&self, took: Duration) {
        self.apply.observe(took.as_secs_f64());
    }

    /// Everything, in the text format.
    ///
    /// # Errors
    /// When a label cannot be encoded; never seen.
    pub fn render(&self, scrape: &Scrape) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(lasting(scrape)?);
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// A family of series made for one scrape.
struct Family {
    registry: Registry,
}

impl Family {
    /// Adds a gauge with its series.
    fn gauge(&self, name: &str, labels: &[&str], series: impl Iterator<Item = (Vec<String>, f64)>) -> Result<(), prometheus::Error> {
        let gauge = GaugeVec::new(Opts::new(name, help(name)), labels)?;
        self.registry.register(Box::new(gauge.clone()))?;
        for (values, value) in series {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            gauge.with_label_values(&values).set(value);
        }
        Ok(())
    }

    /// Adds a counter with its series.
    fn counter(&self, name: &str, labels: &[&str], series: impl Iterator<Item = (Vec<String>, u64)>) -> Result<(), prometheus::Error> {
        let counter = IntCounterVec::new(Opts::new(name, help(name)), labels)?;
        self.registry.register(Box::new(counter.clone()))?;
        for (values, value) in series {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            counter.with_label_values(&values).inc_by(value);
        }
        Ok(())
    }
}

/// The families that show what lasts.
fn lasting(scrape: &Scrape) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let family = Family { registry: Registry::new() };
    names(&family, scrape)?;
    health(&family, scrape)?;
    let dns = &scrape.dns;
    family.counter(
        "pointsman_dns_queries_total",
        &["transport"],
        dns.queries.iter().map(|(kind, count)| (vec![(*kind).to_owned()], *count)),
    )?;
    family.counter(
        "pointsman_dns_responses_total",
        &["rcode"],
        dns.responses.iter().map(|(code, count)| (vec![code.clone()], *count)),
    )?;
    family.counter(
        "pointsman_dns_drops_total",
        &["reason"],
        dns.drops.iter().map(|(reason, count)| (vec![(*reason).to_owned()], *count)),
    )?;
    let answers = dns
        .answers
        .iter()
        .map(|(name, region, count)| (vec![name.clone(), region.clone()], *count));
    family.counter("pointsman_answers_total", &["name", "region"], answers)?;
    let discarded = scrape
        .probes_discarded
        .iter()
        .map(|(reason, count)| (vec![(*reason).to_owned()], *count));
    family.counter("pointsman_probe_discarded_total", &["reason"], discarded)?;
    let one = |value: f64| std::iter::once((Vec::new(), value));
    family.gauge("pointsman_proposals_open", &[], one(scrape.proposals_open as f64))?;
    family.gauge("pointsman_ledger_seq", &[], one(scrape.ledger_seq as f64))?;
    family.gauge("pointsman_generation", &[], one(scrape.generation as f64))?;
    family.gauge("pointsman_names_omitted", &[], one(scrape.names_omitted as f64))?;
    family.gauge(
        "pointsman_build_info",
        &["version"],
        std::iter::once((vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)),
    )?;
    let alerts = scrape.alerts.iter().map(|one| (vec![one.alert.to_owned(), one.name.clone()], 1.0));
    family.gauge("pointsman_alert", &["alert", "name"], alerts)?;
    Ok(family.registry.gather())
}

/// Roles and answers of names.
fn names(family: &Family, scrape: &Scrape) -> Result<(), prometheus::Error> {
    let roles = scrape.names.iter().flat_map(|one| {
        one.roles
            .iter()
            .map(|(region, role)| (vec![one.name.to_string(), region.to_string(), (*role).to_owned()], 1.0))
    });
    family.gauge("pointsman_name_role", &["name", "region", "role"], roles)?;
    let answering = scrape.names.iter().flat_map(|one| {
        one.answering
            .iter()
            .map(|(region, yes)| (vec![one.name.to_string(), region.to_string()], f64::from(u8::from(*yes))))
    });
    family.gauge("pointsman_name_answering", &["name", "region"], answering)?;
    let fail_open = scrape
        .names
        .iter()
        .map(|one| (vec![one.name.to_string()], f64::from(u8::from(one.fail_open))));
    family.gauge("pointsman_fail_open", &["name"], fail_open)
}

/// Health of regions and endpoints.
fn health(family: &Family, scrape: &Scrape) -> Result<(), prometheus::Error> {
    let states = scrape.regions.iter().flat_map(|one| {
        RegionHealth::ALL.iter().map(|state| {
            let is = f64::from(u8::from(one.health == *state));
            (vec![one.app.to_string(), one.region.to_string(), state.as_str().to_owned()], is)
        })
    });
    family.gauge("pointsman_region_health", &["app", "region", "state"], states)?;
    let ages = scrape
        .regions
        .iter()
        .filter_map(|one| Some((vec![one.app.to_string(), one.region.to_string()], one.age_seconds?)));
    family.gauge("pointsman_health_age_seconds", &["app", "region"], ages)?;
    let up = scrape
        .endpoints
        .iter()
        .map(|one| (vec![one.app.to_string(), one.region.to_string(), one.endpoint.clone()], one.up));
    family.gauge("pointsman_endpoint_up", &["app", "region", "endpoint"], up)?;
    let values = scrape.values.iter().map(|one| {
        let labels = [&one.app, &one.region, &one.endpoint, &one.probe, &one.value].map(Clone::clone);
        (labels.to_vec(), one.number)
    });
    family.gauge("pointsman_probe_value", &["app", "region", "endpoint", "probe", "value"], values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppId, Endpoint, FailReason, Failure, Mono, Name, ProbeTarget, RegionId};
    use crate::telemetry::{AlertSample, DnsCounters, EndpointSample, NameSample, RegionSample, ValueSample};
    use std::collections::BTreeSet;

    fn full_scrape() -> Scrape {
        let region = RegionId::new("iad");
        Scrape {
            names: vec![NameSample {
                name: Name::parse("shop.example.net.").unwrap(),
                roles: vec![(region.clone(), "active")],
                answering: vec![(region.clone(), true)],
                fail_open: false,
            }],
            regions: vec![RegionSample {
                app: AppId::new("shop"),
                region: region.clone(),
                health: RegionHealth::Healthy,
                age_seconds: Some(0.5),
            }],
            endpoints: vec![EndpointSample {
                app: AppId::new("shop"),
                region,
                endpoint: "192.0.2.1".into(),
                up: 1.0,
            }],
            values: vec![ValueSample {
                app: "shop".into(),
                region: "iad".into(),
                endpoint: "192.0.2.1".into(),
                probe: "1".into(),
                value: "lag-seconds".into(),
                number: 0.5,
            }],
            alerts: vec![AlertSample {
                alert: "no-target",
                name: "a\"b\\c\nd".into(),
            }],
            probes_discarded: vec![("late", 2)],
            dns: DnsCounters {
                queries: vec![("udp", 3)],
                responses: vec![("NOERROR".into(), 3)],
                answers: vec![("shop.example.net.".into(), "iad".into(), 3)],
                drops: vec![("short", 1)],
            },
            ..Scrape::default()
        }
    }

    #[test]
    fn every_metric_of_the_table_is_rendered_and_no_other() {
        let metrics = Metrics::new().unwrap();
        let target = ProbeTarget {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            endpoint: Endpoint::Address("192.0.2.1".parse().unwrap()),
            address: "192.0.2.1".parse().unwrap(),
            probe: 0,
        };
        let failure = Failure {
            reason: FailReason::Timeout,
            message: "no answer".into(),
        };
        metrics.probe(&Outcome::new(target, Mono::ORIGIN, Duration::from_millis(3), Err(failure)), "http");
        metrics.lookup_failed("shop", "iad");
        metrics.published(Duration::from_micros(5));
        let text = metrics.render(&full_scrape()).unwrap();
        let typed: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let known: BTreeSet<&str> = METRICS.iter().map(|(name, _)| *name).collect();
        assert_eq!(typed, known);
        assert_eq!(
            text.lines().filter(|line| line.starts_with("# TYPE ")).count(),
            METRICS.len(),
            "one TYPE a family"
        );
        assert!(text.contains(r#"pointsman_alert{alert="no-target",name="a\"b\\c\nd"} 1"#), "{text}");
        assert!(
            text.contains(r#"pointsman_probe_failures_total{app="shop",endpoint="192.0.2.1",reason="timeout",region="iad"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"pointsman_region_health{app="shop",region="iad",state="unknown"} 0"#));
    }
}
