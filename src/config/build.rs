//! [`Spec`] to [`Config`]: defaults filled in, paths made relative to the config file.
//!
//! Runs only when nothing was found wrong; a part that is missing all the same gives no config instead of
//! a guessed one. Deliberately absent: checks.

use super::source::SourceText;
use super::spec::{ApiSpec, AppSpec, NodeSpec, Spec};
use super::{ApiConfig, Config, NodeConfig, TlsFiles, ZoneConfig, folder_of};
use crate::model::{App, AppId, DnsListen, Fleet, RegionId, Require, WhenAllDown};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// TTL of answers where nothing is said, seconds.
pub(super) const TTL: u32 = 30;
/// `failback-delay` where nothing is said.
pub(super) const FAILBACK_DELAY: Duration = Duration::from_secs(300);
/// `cooldown` where nothing is said.
pub(super) const COOLDOWN: Duration = Duration::from_secs(60);
/// `reload-max-removed` where nothing is said, percent.
const RELOAD_MAX_REMOVED: u8 = 20;
/// `suspect-self-above` where nothing is said, percent.
const SUSPECT_SELF_ABOVE: u8 = 50;
/// `metrics-names-max` where nothing is said.
const METRICS_NAMES_MAX: usize = 1_000;

/// `dns.listen` where nothing is said.
pub(super) fn default_dns_listen() -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 53),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 53),
    ]
}

/// `api.listen` where nothing is said.
pub(super) fn default_api_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8053)
}

/// Builds the config of a spec in which nothing is wrong.
pub(super) fn build(spec: &Spec, source: &SourceText) -> Option<Config> {
    let folder = folder_of(&source.path);
    let zones = spec.zones.iter().map(|zone| {
        let file = zone.file.as_ref()?;
        Some(ZoneConfig {
            name: zone.name.as_ref()?.value.clone(),
            file: folder.join(&file.value),
            allow_query: zone
                .allow_query
                .as_ref()
                .map(|networks| networks.value.iter().map(|one| one.value).collect()),
            at: source.locate(file.span.start),
        })
    });
    let zones: Option<Vec<ZoneConfig>> = zones.collect();
    let regions = spec.regions.iter().map(|region| {
        let id = &region.id.value;
        let title = region.title.as_ref().map_or(id, |title| &title.value);
        (RegionId::new(id), title.clone())
    });
    let regions: BTreeMap<RegionId, String> = regions.collect();
    // One text a region, however many applications name it.
    let ids: Ids<'_> = regions.keys().map(|region| (region.as_str(), region)).collect();
    let apps: Option<Vec<Arc<App>>> = spec.apps.iter().map(|app| build_app(app, folder, &ids).map(Arc::new)).collect();
    let workers = spec.dns.workers.as_ref().map_or(0, |workers| workers.value);
    let listen = spec.dns.listen.as_ref();
    Some(Config {
        node: build_node(&spec.node, folder)?,
        dns: DnsListen {
            listen: listen.map_or_else(default_dns_listen, |listen| listen.value.iter().map(|one| one.value).collect()),
            workers: usize::try_from(workers).ok()?,
            encrypted: spec.dns.encrypted.build(folder),
        },
        service: spec.dns.service.build(&source.path),
        api: build_api(&spec.api, folder)?,
        zones: zones?,
        fleet: Fleet::new(regions.clone(), apps?),
    })
}

/// Builds `[node]`.
fn build_node(spec: &NodeSpec, folder: &Path) -> Option<NodeConfig> {
    Some(NodeConfig {
        name: spec.name.as_ref()?.value.clone(),
        data_dir: folder.join(&spec.data_dir.as_ref()?.value),
        reload_max_removed: spec.reload_max_removed.as_ref().map_or(RELOAD_MAX_REMOVED, |share| share.value),
        reload_on_change: spec.reload_on_change.as_ref().is_some_and(|on| on.value),
        suspect_self_above: spec.suspect_self_above.as_ref().map_or(SUSPECT_SELF_ABOVE, |share| share.value),
    })
}

/// Builds `[api]`.
fn build_api(spec: &ApiSpec, folder: &Path) -> Option<ApiConfig> {
    let metrics_names_max = match &spec.metrics_names_max {
        Some(most) => usize::try_from(most.value).ok()?,
        None => METRICS_NAMES_MAX,
    };
    Some(ApiConfig {
        listen: spec.listen.as_ref().map_or_else(default_api_listen, |listen| listen.value),
        socket: spec.socket.as_ref().map(|socket| folder.join(&socket.value)),
        token_file: spec.token_file.as_ref().map(|file| folder.join(&file.value)),
        tls: spec.tls.as_ref().map(|(cert, key)| TlsFiles {
            cert: folder.join(&cert.value),
            key: folder.join(&key.value),
        }),
        allow_plaintext: spec.allow_plaintext.as_ref().is_some_and(|allow| allow.value),
        metrics_names_max,
    })
}

/// The regions of the config by their text.
type Ids<'r> = HashMap<&'r str, &'r RegionId>;

/// Builds one application.
fn build_app(spec: &AppSpec, folder: &Path, ids: &Ids<'_>) -> Option<App> {
    let id_of = |region: &str| ids.get(region).map_or_else(|| RegionId::new(region), |id| RegionId::clone(id));
    let duration = |written: &Option<super::source::At<Duration>>, default| written.as_ref().map_or(default, |at| at.value);
    let endpoints = spec.endpoints.iter().map(|(region, endpoints)| {
        let endpoints = endpoints.value.iter().map(|endpoint| endpoint.value.clone());
        (id_of(&region.value), endpoints.collect())
    });
    let probes: Option<Vec<_>> = spec.probes.iter().map(|probe| probe.spec(folder)).collect();
    Some(App {
        id: AppId::new(&spec.id.value),
        name: spec.name.as_ref()?.value.clone(),
        regions: spec.region_ids().iter().map(|region| id_of(&region.value)).collect(),
        ttl: spec.ttl.as_ref().map_or(TTL, |ttl| ttl.value),
        failover: spec.policy(),
        failover_delay: duration(&spec.failover_delay, Duration::ZERO),
        failback_delay: duration(&spec.failback_delay, FAILBACK_DELAY),
        cooldown: duration(&spec.cooldown, COOLDOWN),
        when_all_down: spec
            .when_all_down
            .as_ref()
            .map_or(WhenAllDown::Active, |answer| answer.value.clone()),
        require: spec.require.as_ref().map_or(Require::All, |require| require.value),
        paired: spec
            .paired
            .iter()
            .map(|(region, name)| (id_of(&region.value), name.value.clone()))
            .collect(),
        endpoints: endpoints.collect(),
        probes: probes?,
    })
}
