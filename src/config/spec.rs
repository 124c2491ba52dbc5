//! What the config says, typed and with places, before any rule looks at it.
//!
//! Reading never stops: what cannot be read is reported and left out here, so that the checks still see
//! the rest. A field is `None` when it is absent or was reported; defaults come in only when the
//! [`Config`](super::Config) is built. Deliberately absent: rules that look at two things at once (`checks`).

use super::encrypted::{self, EncryptedSpec};
use super::probe::{ProbeEntry, read_probe};
use super::service::{self, ServiceSpec};
use super::source::{At, Findings, SourceText, Span};
use super::table::{Table, read_elements, shorten};
use super::value::{self, Bad};
use crate::model::{Endpoint, Failover, Name, Prefix, Require, WhenAllDown};
use std::net::SocketAddr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Spec {
    /// `[node]`.
    pub(super) node: NodeSpec,
    /// `[dns]`.
    pub(super) dns: DnsSpec,
    /// `[api]`.
    pub(super) api: ApiSpec,
    /// Every `[[zone]]`.
    pub(super) zones: Vec<ZoneSpec>,
    /// Every `[region.…]`.
    pub(super) regions: Vec<RegionSpec>,
    /// Every `[app.…]`.
    pub(super) apps: Vec<AppSpec>,
}

/// `[node]`.
#[derive(Debug, Default)]
pub(super) struct NodeSpec {
    /// `name`.
    pub(super) name: Option<At<String>>,
    /// `data-dir`.
    pub(super) data_dir: Option<At<String>>,
    /// `reload-max-removed`, percent.
    pub(super) reload_max_removed: Option<At<u8>>,
    /// `reload-on-change`.
    pub(super) reload_on_change: Option<At<bool>>,
    /// `suspect-self-above`, percent.
    pub(super) suspect_self_above: Option<At<u8>>,
}

/// `[dns]`.
#[derive(Debug, Default)]
pub(super) struct DnsSpec {
    /// `listen`.
    pub(super) listen: Option<At<Vec<At<SocketAddr>>>>,
    /// `workers`.
    pub(super) workers: Option<At<u64>>,
    /// What is read in `service`.
    pub(super) service: ServiceSpec,
    /// The encrypted transports.
    pub(super) encrypted: EncryptedSpec,
}

/// `[api]`.
#[derive(Debug, Default)]
pub(super) struct ApiSpec {
    /// `listen`.
    pub(super) listen: Option<At<SocketAddr>>,
    /// `socket`.
    pub(super) socket: Option<At<String>>,
    /// `token-file`.
    pub(super) token_file: Option<At<String>>,
    /// `tls`, certificate and key; true when it was there but wrong.
    pub(super) tls: Option<(At<String>, At<String>)>,
    /// Whether `tls` was there but wrong, so that nobody is told to add it.
    pub(super) tls_bad: bool,
    /// `allow-plaintext`.
    pub(super) allow_plaintext: Option<At<bool>>,
    /// `metrics-names-max`.
    pub(super) metrics_names_max: Option<At<u64>>,
}

/// One `[[zone]]`.
#[derive(Debug)]
pub(super) struct ZoneSpec {
    /// `name`, in lower case.
    pub(super) name: Option<At<Name>>,
    /// `file`.
    pub(super) file: Option<At<String>>,
    /// `allow-query`.
    pub(super) allow_query: Option<At<Vec<At<Prefix>>>>,
}

/// One `[region.…]`.
#[derive(Debug)]
pub(super) struct RegionSpec {
    /// Its key.
    pub(super) id: At<String>,
    /// `title`.
    pub(super) title: Option<At<String>>,
}

/// A region and its endpoints, each with its place.
pub(super) type RegionEndpoints = (At<String>, At<Vec<At<Endpoint>>>);

/// One `[app.…]`.
#[derive(Debug)]
pub(super) struct AppSpec {
    /// Its key.
    pub(super) id: At<String>,
    /// `name`, in lower case.
    pub(super) name: Option<At<Name>>,
    /// `regions`; none when absent or unreadable.
    pub(super) regions: Option<At<Vec<At<String>>>>,
    /// `ttl`, seconds.
    pub(super) ttl: Option<At<u32>>,
    /// `failover`.
    pub(super) failover: Option<At<Failover>>,
    /// `failover-delay`.
    pub(super) failover_delay: Option<At<Duration>>,
    /// `failback-delay`.
    pub(super) failback_delay: Option<At<Duration>>,
    /// `cooldown`.
    pub(super) cooldown: Option<At<Duration>>,
    /// `when-all-down`.
    pub(super) when_all_down: Option<At<WhenAllDown>>,
    /// `require`.
    pub(super) require: Option<At<Require>>,
    /// `paired`: region and name.
    pub(super) paired: Vec<(At<String>, At<Name>)>,
    /// `endpoints`: region and endpoints.
    pub(super) endpoints: Vec<RegionEndpoints>,
    /// Regions whose endpoints were there but wrong in part, so that nobody is told to add them.
    pub(super) endpoints_bad: Vec<String>,
    /// Every `[[app.….probe]]`.
    pub(super) probes: Vec<ProbeEntry>,
    /// Whether a probe, or `probe` itself, could not be read: rules that count probes then stay silent.
    pub(super) probes_bad: bool,
}

impl AppSpec {
    /// Every steered name with the region that it prefers, the main name first.
    pub(super) fn names(&self) -> impl Iterator<Item = &At<Name>> {
        self.name.iter().chain(self.paired.iter().map(|(_, name)| name))
    }

    /// Its regions in order; empty when they could not be read.
    pub(super) fn region_ids(&self) -> &[At<String>] {
        self.regions.as_ref().map_or(&[], |regions| &regions.value)
    }

    /// Who moves the active region, with the default.
    pub(super) fn policy(&self) -> Failover {
        self.failover.as_ref().map_or(Failover::Manual, |failover| failover.value)
    }

    /// Number of probes that count towards health.
    pub(super) fn counting_probes(&self) -> usize {
        self.probes.iter().filter(|probe| !probe.monitoring_only()).count()
    }
}

/// Parses the text; every syntax error is reported, and what can be read all the same is.
fn parse<'s>(source: &'s SourceText, findings: &mut Findings<'_>) -> Spanned<DeTable<'s>> {
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    for error in &errors {
        let span: Span = error.span().unwrap_or(0..0).into();
        let message = error.message().trim().replace('\n', "; ");
        let duplicate = message == "duplicate key";
        if !duplicate {
            findings.text_is_broken();
        }
        let mut finding = crate::model::Diagnostic::error(None, format!("TOML: {message}"));
        if let Some(earlier) = duplicate.then(|| source.earlier_definition(span)).flatten() {
            finding = finding.related(earlier, "first defined here");
        }
        findings.push(span, finding);
    }
    root
}

/// Reads a text that is the keys of one probe and nothing else.
pub(super) fn read_lone_probe(source: &SourceText, findings: &mut Findings<'_>) -> Option<ProbeEntry> {
    let root = parse(source, findings);
    read_probe(root.get_ref(), Span::default(), findings)
}

/// Reads the text into a [`Spec`]; everything wrong goes to `findings`. None when it is of another version.
pub(super) fn read(source: &SourceText, findings: &mut Findings<'_>) -> Option<Spec> {
    let root = parse(source, findings);
    let mut table = Table::new(root.get_ref(), Span::default(), "");
    let version = table.required(findings, "version", "version = 1", |value| match value {
        DeValue::Integer(number) => Ok(shorten(&number.to_string())),
        other => Err(Bad::kind("the number 1", other)),
    });
    if let Some(version) = version.filter(|version| version.value != "1") {
        let message = format!(
            "version {} of the config format is not known; this server reads version 1",
            version.value
        );
        findings.error(version.span, message);
        return None;
    }
    let spec = Spec {
        node: read_node(&mut table, findings),
        dns: read_dns(&mut table, findings),
        api: read_api(&mut table, findings),
        zones: read_zones(&mut table, findings),
        regions: read_regions(&mut table, findings),
        apps: read_apps(&mut table, findings),
    };
    table.finish(findings);
    Some(spec)
}

/// Reads `[node]`.
fn read_node(root: &mut Table<'_>, findings: &mut Findings<'_>) -> NodeSpec {
    let Some((entries, span)) = root.table(findings, "node") else {
        if !root.is_bad("node") {
            root.missing(findings, "node", "[node] with name = \"ns1\" and data-dir = \"/var/lib/pointsman\"");
        }
        return NodeSpec::default();
    };
    let mut table = Table::new(entries, span, "node");
    let spec = NodeSpec {
        name: table.required(findings, "name", "name = \"ns1\"", node_name),
        data_dir: table.required(findings, "data-dir", "data-dir = \"/var/lib/pointsman\"", value::path),
        reload_max_removed: table.value(findings, "reload-max-removed", value::percent),
        reload_on_change: table.value(findings, "reload-on-change", value::boolean),
        suspect_self_above: table.value(findings, "suspect-self-above", value::percent_from_half),
    };
    table.finish(findings);
    spec
}

/// The name of a node: it stands in ledger entries and in metrics.
fn node_name(value: &DeValue<'_>) -> Result<String, Bad> {
    let name = value::filled_text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match name.chars().all(allowed) && name.len() <= 255 {
        true => Ok(name),
        false => Err(Bad::new("must consist of letters, digits, `.`, `-` and `_`")),
    }
}

/// Reads `[dns]`.
fn read_dns(root: &mut Table<'_>, findings: &mut Findings<'_>) -> DnsSpec {
    let Some((entries, span)) = root.table(findings, "dns") else {
        return DnsSpec::default();
    };
    let mut table = Table::new(entries, span, "dns");
    let spec = DnsSpec {
        listen: table.array(findings, "listen", "an array of addresses with ports", value::socket_address),
        workers: table.value(findings, "workers", |value| value::number(value, 0, 1024)),
        service: service::read(&mut table, findings),
        encrypted: encrypted::read(&mut table, findings),
    };
    table.finish(findings);
    spec
}

/// Reads `[api]`.
fn read_api(root: &mut Table<'_>, findings: &mut Findings<'_>) -> ApiSpec {
    let Some((entries, span)) = root.table(findings, "api") else {
        return ApiSpec::default();
    };
    let mut table = Table::new(entries, span, "api");
    let tls = table.table(findings, "tls").map(|(entries, span)| {
        let mut tls = Table::new(entries, span, "api.tls");
        let cert = tls.required(findings, "cert", "cert = \"api.crt\"", value::path);
        let key = tls.required(findings, "key", "key = \"api.key\"", value::path);
        tls.finish(findings);
        cert.zip(key)
    });
    let spec = ApiSpec {
        listen: table.value(findings, "listen", value::socket_address),
        socket: table.value(findings, "socket", value::path),
        token_file: table.value(findings, "token-file", value::path),
        tls_bad: tls == Some(None) || table.is_bad("tls"),
        tls: tls.flatten(),
        allow_plaintext: table.value(findings, "allow-plaintext", value::boolean),
        metrics_names_max: table.value(findings, "metrics-names-max", |value| value::number(value, 0, 1_000_000)),
    };
    table.finish(findings);
    spec
}

/// Reads every `[[zone]]`.
fn read_zones(root: &mut Table<'_>, findings: &mut Findings<'_>) -> Vec<ZoneSpec> {
    let mut zones = Vec::new();
    for (entries, span) in root.tables(findings, "zone") {
        let mut table = Table::new(entries, span, "zone");
        zones.push(ZoneSpec {
            name: table.required(findings, "name", "name = \"example.net.\"", value::name),
            file: table.required(findings, "file", "file = \"../zones/example.net.zone\"", value::path),
            allow_query: table.array(findings, "allow-query", "an array of networks", service::prefix),
        });
        table.finish(findings);
    }
    zones
}

/// Reads every `[region.…]`.
fn read_regions(root: &mut Table<'_>, findings: &mut Findings<'_>) -> Vec<RegionSpec> {
    let mut regions = Vec::new();
    for (id, entries) in named_tables(root, findings, "region") {
        let mut table = Table::new(entries, id.span, "region");
        let title = table.value(findings, "title", value::filled_text);
        table.finish(findings);
        regions.push(RegionSpec { id, title });
    }
    regions
}

/// The tables below `[key.…]` with their identifiers, in the order of the text.
fn named_tables<'a>(root: &mut Table<'a>, findings: &mut Findings<'_>, key: &'static str) -> Vec<(At<String>, &'a DeTable<'a>)> {
    let Some((entries, _)) = root.table(findings, key) else {
        return Vec::new();
    };
    let mut tables = Vec::new();
    for (id, value) in entries {
        let span = id.span().into();
        let shown = shorten(id.get_ref());
        if let Err(bad) = value::check_id(id.get_ref()) {
            bad.report(
                findings,
                span,
                &format!("the identifier `{shown}` of a{} {key}", if key == "app" { "n" } else { "" }),
            );
        }
        match value.get_ref().as_table() {
            Some(table) => tables.push((At::new(id.get_ref().to_string(), span), table)),
            None => Bad::kind("a table", value.get_ref()).hint(format!("write [{key}.{shown}]")).report(
                findings,
                span,
                &format!("`{key}.{shown}`"),
            ),
        }
    }
    tables.sort_by_key(|(id, _)| id.span);
    tables
}

/// Reads every `[app.…]`.
fn read_apps(root: &mut Table<'_>, findings: &mut Findings<'_>) -> Vec<AppSpec> {
    let named = named_tables(root, findings, "app");
    named.into_iter().map(|(id, entries)| read_app(id, entries, findings)).collect()
}

/// Reads one `[app.…]`.
fn read_app(id: At<String>, entries: &DeTable<'_>, findings: &mut Findings<'_>) -> AppSpec {
    let mut table = Table::new(entries, id.span, "app");
    let name = table.required(findings, "name", "name = \"shop.example.net.\"", value::host_name);
    let regions = table.array(findings, "regions", "an array of regions", value::filled_text);
    if regions.is_none() && !table.is_bad("regions") {
        table.missing(findings, "regions", "regions = [\"iad\", \"fra\"]");
    }
    let (endpoints, endpoints_bad) = read_endpoints(&mut table, findings);
    let probe_tables = table.tables(findings, "probe");
    let probes: Vec<Option<ProbeEntry>> = probe_tables
        .into_iter()
        .map(|(entries, span)| read_probe(entries, span, findings))
        .collect();
    let spec = AppSpec {
        name,
        regions,
        ttl: table.value(findings, "ttl", value::ttl),
        failover: table.value(findings, "failover", |value| value::word(value, &FAILOVERS)),
        failover_delay: table.value(findings, "failover-delay", value::duration),
        failback_delay: table.value(findings, "failback-delay", value::duration),
        cooldown: table.value(findings, "cooldown", value::duration),
        when_all_down: table.value(findings, "when-all-down", when_all_down),
        require: table.value(findings, "require", require),
        paired: read_paired(&mut table, findings),
        endpoints,
        endpoints_bad,
        probes_bad: table.is_bad("probe") || probes.iter().any(Option::is_none),
        probes: probes.into_iter().flatten().collect(),
        id,
    };
    table.finish(findings);
    spec
}

/// The policies by their words.
const FAILOVERS: [(&str, Failover); 4] = [
    ("manual", Failover::Manual),
    ("one-way", Failover::OneWay),
    ("automatic", Failover::Automatic),
    ("follow", Failover::Follow),
];

/// Reads `[app.….paired]`.
fn read_paired(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Vec<(At<String>, At<Name>)> {
    let Some((entries, _)) = table.table(findings, "paired") else {
        return Vec::new();
    };
    let mut paired = Vec::new();
    for (region, value) in in_text_order(entries) {
        match value::host_name(value.get_ref()) {
            Ok(name) => paired.push((region, At::new(name, value.span().into()))),
            Err(bad) => bad.report(
                findings,
                value.span().into(),
                &format!("the paired name of `{}`", shorten(&region.value)),
            ),
        }
    }
    paired
}

/// Endpoints by region, and the regions of which some were wrong.
type Endpoints = (Vec<RegionEndpoints>, Vec<String>);

/// Reads `[app.….endpoints]`. A region takes an array, or one endpoint without brackets.
fn read_endpoints(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Endpoints {
    let Some((entries, _)) = table.table(findings, "endpoints") else {
        if !table.is_bad("endpoints") {
            table.missing(findings, "endpoints", "[app.shop.endpoints] with iad = [\"192.0.2.10\"]");
        }
        return (Vec::new(), Vec::new());
    };
    let (mut endpoints, mut bad_regions) = (Vec::new(), Vec::new());
    for (region, value) in in_text_order(entries) {
        let elements: &[Spanned<DeValue<'_>>] = match value.get_ref() {
            DeValue::Array(elements) => elements,
            _ => std::slice::from_ref(value),
        };
        let what = format!("an endpoint of `{}`", shorten(&region.value));
        let read = read_elements(findings, elements, &what, &mut value::endpoint);
        if read.len() < elements.len() {
            bad_regions.push(region.value.clone());
        }
        endpoints.push((region, At::new(read, value.span().into())));
    }
    (endpoints, bad_regions)
}

/// The entries of a table whose keys the operator chooses, in the order of the text.
fn in_text_order<'t, 'a>(entries: &'t DeTable<'a>) -> Vec<(At<String>, &'t Spanned<DeValue<'a>>)> {
    let entries = entries
        .iter()
        .map(|(key, value)| (At::new(key.get_ref().to_string(), key.span().into()), value));
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|(key, _)| key.span);
    entries
}

/// Reads `when-all-down`: a word, addresses, or a host name.
fn when_all_down(value: &DeValue<'_>) -> Result<WhenAllDown, Bad> {
    let words = ["active", "all", "servfail"];
    let instead = "or an address, an array of addresses, or a host name with a dot";
    match value {
        DeValue::String(text) => match text.as_ref() {
            "active" => Ok(WhenAllDown::Active),
            "all" => Ok(WhenAllDown::All),
            "servfail" => Ok(WhenAllDown::Servfail),
            other if !other.contains(['.', ':']) => Err(value::not_one_of(other, &words).or_hint(instead)),
            _ => match value::endpoint(value)? {
                Endpoint::Address(address) => Ok(WhenAllDown::Addresses(vec![address])),
                Endpoint::Host(name) => Ok(WhenAllDown::Host(name)),
            },
        },
        DeValue::Array(elements) => {
            let read: Result<Vec<Endpoint>, Bad> = elements.iter().map(|element| value::endpoint(element.get_ref())).collect();
            let mut addresses = Vec::new();
            for endpoint in read? {
                match endpoint {
                    Endpoint::Address(address) if addresses.contains(&address) => return Err(Bad::new(format!("has {address} twice"))),
                    Endpoint::Address(address) => addresses.push(address),
                    Endpoint::Host(name) if elements.len() == 1 => return Ok(WhenAllDown::Host(name)),
                    Endpoint::Host(_) => return Err(Bad::new("must be addresses or one host name, not both")),
                }
            }
            match addresses.is_empty() {
                true => Err(Bad::new("must not be empty").hint("\"servfail\" answers nothing on purpose")),
                false => Ok(WhenAllDown::Addresses(addresses)),
            }
        }
        other => Err(Bad::kind("a word, addresses or a host name", other).hint(format!("{}, {instead}", words.join(", ")))),
    }
}

/// Reads `require`: `"all"` or a number.
fn require(value: &DeValue<'_>) -> Result<Require, Bad> {
    match value {
        DeValue::String(text) if text == "all" => Ok(Require::All),
        DeValue::Integer(_) => {
            let number = value::number(value, 1, 1_000)?;
            // At most 1000, so it always fits.
            Ok(Require::AtLeast(usize::try_from(number).unwrap_or(usize::MAX)))
        }
        DeValue::String(text) => {
            Err(Bad::new(format!("must be \"all\" or a number, `{}` is neither", shorten(text))).hint("a number stands without quotes"))
        }
        other => Err(Bad::kind("\"all\" or a number", other)),
    }
}
