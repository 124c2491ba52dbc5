//! The rules between keys, one function a rule, named after it.
//!
//! Every rule sees the whole [`Spec`] and reports every place that breaks it. A rule stays silent where
//! what it needs was reported already, so that one mistake is one finding. Rules that need the content of
//! zones stand in `load` and `zone`.

use super::build;
use super::encrypted::{encrypted_transports_do_not_collide, encrypted_transports_have_a_certificate};
use super::keys::nearest;
use super::probe::ProbeEntry;
use super::source::{At, Findings};
use super::spec::{AppSpec, Spec};
use super::table::shorten;
use crate::model::{Endpoint, Failover, JITTER, Name, Require, WhenAllDown, show_duration};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Runs every rule.
pub(super) fn run(spec: &Spec, findings: &mut Findings<'_>) {
    zones_are_distinct(spec, findings);
    steered_names_are_distinct(spec, findings);
    steered_names_lie_in_a_zone(spec, findings);
    host_endpoints_do_not_lead_back(spec, findings);
    apex_needs_addresses(spec, findings);
    listeners_do_not_collide(spec, findings);
    encrypted_transports_do_not_collide(spec, findings);
    encrypted_transports_have_a_certificate(spec, findings);
    api_beyond_loopback_is_guarded(spec, findings);
    for app in &spec.apps {
        regions_are_declared(spec, app, findings);
        app_has_distinct_regions(app, findings);
        one_region_cannot_fail_over(app, findings);
        endpoints_and_paired_are_of_the_apps_regions(app, findings);
        every_region_has_endpoints(app, findings);
        endpoints_are_distinct(app, findings);
        host_endpoint_stands_alone(app, findings);
        address_families_are_alike(app, findings);
        when_all_down_fits(app, findings);
        require_is_reachable(app, findings);
        policy_has_its_evidence(app, findings);
        ttl_is_sensible(app, findings);
        failback_delay_covers_a_rise(app, findings);
        for probe in &app.probes {
            run_probe(probe, findings);
        }
    }
}

/// No zone stands twice.
fn zones_are_distinct(spec: &Spec, findings: &mut Findings<'_>) {
    let mut first: HashMap<&Name, &At<Name>> = HashMap::new();
    for name in spec.zones.iter().filter_map(|zone| zone.name.as_ref()) {
        match first.get(&name.value) {
            Some(earlier) => drop(
                findings
                    .error(name.span, format!("the zone {} stands twice", name.value))
                    .related(earlier.span, "first defined here"),
            ),
            None => drop(first.insert(&name.value, name)),
        }
    }
}

/// A name is steered once: two applications could answer it differently.
fn steered_names_are_distinct(spec: &Spec, findings: &mut Findings<'_>) {
    let mut first: HashMap<&Name, &At<Name>> = HashMap::new();
    for name in spec.apps.iter().flat_map(AppSpec::names) {
        match first.get(&name.value) {
            Some(earlier) => drop(
                findings
                    .error(name.span, format!("{} is steered twice", name.value))
                    .related(earlier.span, "first steered here"),
            ),
            None => drop(first.insert(&name.value, name)),
        }
    }
}

/// A steered name lies in a zone of this server, and is no wildcard.
fn steered_names_lie_in_a_zone(spec: &Spec, findings: &mut Findings<'_>) {
    let apexes: BTreeSet<&Name> = spec
        .zones
        .iter()
        .filter_map(|zone| zone.name.as_ref())
        .map(|name| &name.value)
        .collect();
    let unreadable = spec.zones.iter().any(|zone| zone.name.is_none());
    for name in spec.apps.iter().flat_map(AppSpec::names) {
        if name.value.is_wildcard() {
            let note = findings.error(name.span, format!("a steered name may not be a wildcard: {}", name.value));
            note.hint("steer a plain name and put `*.… CNAME` onto it in the zone file");
        }
        if zone_of(&apexes, &name.value).is_some() || unreadable {
            continue;
        }
        let note = findings.absent(name.span, format!("{} lies in no zone of this server", name.value));
        match apexes.len() {
            0 => note.hint("add a [[zone]] with its name and file"),
            _ => {
                let shown: Vec<String> = apexes.iter().take(5).map(ToString::to_string).collect();
                let more = if apexes.len() > 5 { ", …" } else { "" };
                note.hint(format!("the zones are {}{more}", shown.join(", ")))
            }
        };
    }
}

/// The zone that a name lies in: the one with the longest apex.
pub(super) fn zone_of<'n>(apexes: &BTreeSet<&'n Name>, name: &Name) -> Option<&'n Name> {
    let above = std::iter::successors(Some(name.clone()), Name::parent);
    above.into_iter().find_map(|name| apexes.get(&name).copied())
}

/// Host names that an application may answer with, and where they are written.
fn hosts_of(app: &AppSpec) -> impl Iterator<Item = (&Name, super::source::Span)> {
    let endpoints = app.endpoints.iter().flat_map(|(_, endpoints)| &endpoints.value);
    let hosts = endpoints.filter_map(|endpoint| match &endpoint.value {
        Endpoint::Host(name) => Some((name, endpoint.span)),
        Endpoint::Address(_) => None,
    });
    let last_resort = app.when_all_down.iter().filter_map(|answer| match &answer.value {
        WhenAllDown::Host(name) => Some((name, answer.span)),
        _ => None,
    });
    hosts.chain(last_resort)
}

/// Whether an answer of the application can be a CNAME.
pub(super) fn cname_is_possible(app: &AppSpec) -> bool {
    hosts_of(app).next().is_some()
}

/// A host name as endpoint does not lead back to the name that it answers: resolvers would turn in circles.
fn host_endpoints_do_not_lead_back(spec: &Spec, findings: &mut Findings<'_>) {
    let apps_by_name = spec
        .apps
        .iter()
        .enumerate()
        .flat_map(|(index, app)| app.names().map(move |name| (&name.value, index)));
    let apps_by_name: HashMap<&Name, usize> = apps_by_name.collect();
    let leads_to = |name: &Name| apps_by_name.get(name).and_then(|index| Some((*index, spec.apps.get(*index)?)));
    for (index, app) in spec.apps.iter().enumerate() {
        for (host, span) in hosts_of(app) {
            let mut seen = BTreeSet::new();
            let mut open: Vec<&Name> = vec![host];
            while let Some(name) = open.pop() {
                let Some((next, target)) = leads_to(name) else { continue };
                if next == index {
                    findings
                        .error(span, format!("the endpoint {host} leads back to this application"))
                        .hint("an endpoint is where the application runs, not a name that is steered by it");
                    break;
                }
                if seen.insert(next) {
                    open.extend(hosts_of(target).map(|(host, _)| host));
                }
            }
        }
    }
}

/// No two sockets want the same address; an empty list would serve nobody.
fn listeners_do_not_collide(spec: &Spec, findings: &mut Findings<'_>) {
    let Some(listen) = &spec.dns.listen else { return };
    let mut first: BTreeMap<SocketAddr, &At<SocketAddr>> = BTreeMap::new();
    for address in &listen.value {
        // Port 0 is another port each time.
        let earlier = first.get(&address.value).filter(|_| address.value.port() != 0);
        match earlier {
            Some(earlier) => {
                let note = findings.error(address.span, format!("{} stands twice", address.value));
                note.related(earlier.span, "first here");
            }
            None => drop(first.insert(address.value, address)),
        }
        if address.value.ip().is_multicast() {
            findings.error(address.span, "DNS is not served on a multicast address");
        }
    }
    // DNS listens on TCP too.
    let api = spec
        .api
        .listen
        .as_ref()
        .map_or_else(build::default_api_listen, |listen| listen.value);
    let same = |dns: &&At<SocketAddr>| {
        let covers = dns.value.ip() == api.ip() || dns.value.ip().is_unspecified() && dns.value.is_ipv4() == api.is_ipv4();
        covers && dns.value.port() == api.port() && api.port() != 0
    };
    if let Some(dns) = listen.value.iter().find(same) {
        let message = format!("DNS over TCP cannot listen where the API does, {api}");
        match &spec.api.listen {
            Some(api) => findings.error(dns.span, message).related(api.span, "the API is here"),
            None => findings.error(dns.span, message).hint("that is its default; set `listen` in [api]"),
        };
    }
    if listen.value.is_empty() {
        findings.error(listen.span, "`listen` must name at least one address");
    }
}

/// Beyond loopback the API needs tokens, and TLS or the operator's word that he does without.
fn api_beyond_loopback_is_guarded(spec: &Spec, findings: &mut Findings<'_>) {
    let api = &spec.api;
    let Some(listen) = api.listen.as_ref().filter(|listen| !listen.value.ip().is_loopback()) else {
        return;
    };
    if api.token_file.is_none() {
        findings
            .absent(listen.span, "an API beyond loopback needs `token-file`")
            .hint("everybody who reaches it could move traffic; or listen on 127.0.0.1");
    }
    let plaintext = api.allow_plaintext.as_ref().is_some_and(|allow| allow.value);
    if api.tls.is_none() && !api.tls_bad && !plaintext {
        findings
            .absent(listen.span, "an API beyond loopback needs `tls`")
            .hint("tls = { cert = \"…\", key = \"…\" }, or allow-plaintext = true behind a proxy that does TLS");
    }
}

/// Every region of an application is declared, so that a slip of the pen makes no new region.
fn regions_are_declared(spec: &Spec, app: &AppSpec, findings: &mut Findings<'_>) {
    let declared: BTreeSet<&str> = spec.regions.iter().map(|region| region.id.value.as_str()).collect();
    for region in app.region_ids().iter().filter(|region| !declared.contains(region.value.as_str())) {
        let shown = shorten(&region.value);
        let note = findings.absent(region.span, format!("the region `{shown}` is not declared"));
        match nearest(&region.value, declared.iter().copied()) {
            Some(near) => note.hint(format!("did you mean \"{near}\"?")),
            None => note.hint(format!("add [region.{shown}]")),
        };
    }
}

/// An application has a region, and none twice.
fn app_has_distinct_regions(app: &AppSpec, findings: &mut Findings<'_>) {
    let Some(regions) = &app.regions else { return };
    if regions.value.is_empty() {
        findings.error(regions.span, "`regions` must name at least one region");
    }
    let mut first: BTreeMap<&str, &At<String>> = BTreeMap::new();
    for region in &regions.value {
        match first.get(region.value.as_str()) {
            Some(earlier) => drop(
                findings
                    .error(region.span, format!("the region `{}` stands twice", shorten(&region.value)))
                    .related(earlier.span, "first here"),
            ),
            None => drop(first.insert(&region.value, region)),
        }
    }
}

/// With one region there is nowhere to go.
fn one_region_cannot_fail_over(app: &AppSpec, findings: &mut Findings<'_>) {
    if let Some(regions) = app.regions.as_ref().filter(|regions| regions.value.len() == 1) {
        findings.warning(regions.span, format!("`{}` has one region and cannot fail over", app.id.value));
    }
}

/// What is said a region is said of a region of the application.
fn endpoints_and_paired_are_of_the_apps_regions(app: &AppSpec, findings: &mut Findings<'_>) {
    let Some(regions) = &app.regions else { return };
    let known: BTreeSet<&str> = regions.value.iter().map(|region| region.value.as_str()).collect();
    let endpoints = app.endpoints.iter().map(|(region, _)| (region, "endpoints"));
    let paired = app.paired.iter().map(|(region, _)| (region, "a paired name"));
    for (region, what) in endpoints.chain(paired).filter(|(region, _)| !known.contains(region.value.as_str())) {
        let message = format!("{what} for `{}`, which is not in `regions`", shorten(&region.value));
        let note = findings.error(region.span, message).related(regions.span, "regions are here");
        if let Some(near) = nearest(&region.value, known.iter().copied()) {
            note.hint(format!("did you mean \"{near}\"?"));
        }
    }
}

/// A region without endpoints would answer nothing once it is active.
fn every_region_has_endpoints(app: &AppSpec, findings: &mut Findings<'_>) {
    let has = |region: &str| app.endpoints.iter().find(|(id, _)| id.value == region);
    if app.endpoints.is_empty() {
        // The table itself is missing or unreadable, which was reported.
        return;
    }
    for region in app.region_ids() {
        let shown = shorten(&region.value);
        match has(&region.value) {
            None => drop(
                findings
                    .absent(region.span, format!("the region `{shown}` has no endpoints"))
                    .hint(format!("add {shown} = [\"…\"] below [app.{}.endpoints]", app.id.value)),
            ),
            Some((id, endpoints)) if endpoints.value.is_empty() && !app.endpoints_bad.contains(&id.value) => {
                findings.error(endpoints.span, format!("the region `{shown}` has no endpoints"));
            }
            Some(_) => {}
        }
    }
}

/// An endpoint stands once in a region; in two regions it is probably a slip, and one failure for both.
fn endpoints_are_distinct(app: &AppSpec, findings: &mut Findings<'_>) {
    let mut first: BTreeMap<&Endpoint, (&str, &At<Endpoint>)> = BTreeMap::new();
    let all = app
        .endpoints
        .iter()
        .flat_map(|(region, endpoints)| endpoints.value.iter().map(move |endpoint| (region.value.as_str(), endpoint)));
    for (region, endpoint) in all {
        match first.get(&endpoint.value) {
            Some((other, earlier)) if *other == region => {
                findings
                    .error(endpoint.span, format!("the endpoint {} stands twice", endpoint.value))
                    .related(earlier.span, "first here");
            }
            Some((_, earlier)) => {
                let message = format!("the endpoint {} is in two regions and fails in both at once", endpoint.value);
                findings.warning(endpoint.span, message).related(earlier.span, "also here");
            }
            None => drop(first.insert(&endpoint.value, (region, endpoint))),
        }
    }
}

/// A host name is its region's only endpoint: a CNAME stands alone (RFC 1034 section 3.6.2).
fn host_endpoint_stands_alone(app: &AppSpec, findings: &mut Findings<'_>) {
    for (region, endpoints) in app.endpoints.iter().filter(|(_, endpoints)| endpoints.value.len() > 1) {
        let host = endpoints.value.iter().find(|endpoint| matches!(endpoint.value, Endpoint::Host(_)));
        if let Some(host) = host {
            let message = format!("the host name {} must be the only endpoint of `{}`", host.value, region.value);
            findings
                .error(host.span, message)
                .hint("a host name is answered as a CNAME, which stands alone");
        }
    }
}

/// The families of the addresses of a region: IPv4, IPv6.
fn families(endpoints: &[At<Endpoint>]) -> (bool, bool) {
    let has = |wanted: fn(&IpAddr) -> bool| {
        endpoints
            .iter()
            .any(|endpoint| matches!(&endpoint.value, Endpoint::Address(address) if wanted(address)))
    };
    (has(IpAddr::is_ipv4), has(IpAddr::is_ipv6))
}

/// Regions of unlike families lose the clients of one family at a switch.
fn address_families_are_alike(app: &AppSpec, findings: &mut Findings<'_>) {
    let readable = app
        .endpoints
        .iter()
        .filter(|(region, _)| !app.endpoints_bad.contains(&region.value));
    let regions: Vec<_> = readable
        .map(|(region, endpoints)| (region, endpoints, families(&endpoints.value)))
        .collect();
    let mut addressed = regions.iter().filter(|(_, _, families)| *families != (false, false));
    let Some((first, first_endpoints, wanted)) = addressed.next() else {
        return;
    };
    for (region, endpoints, families) in addressed.filter(|(_, _, families)| families != wanted) {
        let (lacking, in_region) = match (wanted.0 && !families.0, wanted.1 && !families.1) {
            (true, _) => ("IPv4", &region.value),
            (_, true) => ("IPv6", &region.value),
            _ if !wanted.0 => ("IPv4", &first.value),
            _ => ("IPv6", &first.value),
        };
        let message = format!(
            "the regions `{}` and `{}` have addresses of unlike families: {lacking} answers NODATA while `{in_region}` is active",
            first.value, region.value
        );
        findings
            .warning(endpoints.span, message)
            .related(first_endpoints.span, "the other region is here");
    }
}

/// The apex has SOA and NS, so it cannot be a CNAME (RFC 1034 section 3.6.2).
fn apex_needs_addresses(spec: &Spec, findings: &mut Findings<'_>) {
    let apexes = spec.zones.iter().filter_map(|zone| zone.name.as_ref());
    let apexes: HashMap<&Name, &At<Name>> = apexes.map(|name| (&name.value, name)).collect();
    for app in spec.apps.iter().filter(|app| cname_is_possible(app)) {
        let Some(zone) = app.names().find_map(|name| apexes.get(&name.value)) else {
            continue;
        };
        for (host, span) in hosts_of(app) {
            let message = format!(
                "{} is the apex of a zone and takes addresses only, not the host name {host}",
                zone.value
            );
            findings.error(span, message).related(zone.span, "the zone is here");
        }
    }
}

/// `all` joins addresses of several regions, which host names cannot; under `manual` it is no more than `active`.
fn when_all_down_fits(app: &AppSpec, findings: &mut Findings<'_>) {
    let Some(answer) = app.when_all_down.as_ref().filter(|answer| answer.value == WhenAllDown::All) else {
        return;
    };
    let host = app
        .endpoints
        .iter()
        .flat_map(|(_, endpoints)| &endpoints.value)
        .find(|endpoint| matches!(endpoint.value, Endpoint::Host(_)));
    if let Some(host) = host {
        let note = findings.error(answer.span, "`when-all-down = \"all\"` needs addresses in every region");
        note.related(host.span, "a host name is here")
            .hint("a CNAME cannot be joined with anything else");
    }
    if app.policy() == Failover::Manual {
        let note = findings.warning(
            answer.span,
            "`when-all-down = \"all\"` is the same as \"active\" under `failover = \"manual\"`",
        );
        note.hint("only regions that the policy may move to by itself are joined, and `manual` moves to none");
    }
}

/// More probes cannot be required than count.
fn require_is_reachable(app: &AppSpec, findings: &mut Findings<'_>) {
    let Some(require) = app.require.as_ref().filter(|_| !app.probes_bad) else {
        return;
    };
    let counting = app.counting_probes();
    if let Require::AtLeast(wanted) = require.value
        && wanted > counting
    {
        let message = format!(
            "`require = {wanted}` can never be met: {counting} of {} probes count",
            app.probes.len()
        );
        findings.absent(require.span, message);
    }
}

/// A policy that moves by itself needs probes; `follow` needs one that says which region is active.
fn policy_has_its_evidence(app: &AppSpec, findings: &mut Findings<'_>) {
    let Some(failover) = app
        .failover
        .as_ref()
        .filter(|failover| failover.value != Failover::Manual && !app.probes_bad)
    else {
        return;
    };
    let word = failover.value.as_str();
    if app.counting_probes() == 0 {
        let message = format!("`failover = \"{word}\"` needs a probe that counts");
        findings.absent(failover.span, message).hint(format!(
            "add [[app.{}.probe]], or let operators decide: failover = \"manual\"",
            app.id.value
        ));
    } else if failover.value == Failover::Follow && !app.probes.iter().any(ProbeEntry::may_report_role) {
        let note = findings.absent(
            failover.span,
            "`failover = \"follow\"` needs a probe that says which region is active",
        );
        note.hint("an http probe with `role`, a postgres probe, or a feed with `role`");
    }
}

/// TTLs that work against what the server is for.
fn ttl_is_sensible(app: &AppSpec, findings: &mut Findings<'_>) {
    let Some(ttl) = &app.ttl else { return };
    let cooldown = app.cooldown.as_ref().map_or(build::COOLDOWN, |cooldown| cooldown.value);
    let shown = show_duration(Duration::from_secs(ttl.value.into()));
    match ttl.value {
        ..5 => {
            let note = findings.warning(ttl.span, format!("a TTL of {shown} makes clients ask all the time"));
            note.hint("many resolvers keep answers for at least 5s whatever the TTL says");
        }
        86_401.. => {
            findings.warning(
                ttl.span,
                format!("with a TTL of {shown}, clients stay with a lost region that long"),
            );
        }
        _ if Duration::from_secs(ttl.value.into()) > cooldown && app.policy() != Failover::Manual => {
            let message = format!(
                "a TTL of {shown} is longer than the cooldown of {}: a second move may come before clients saw the first",
                show_duration(cooldown)
            );
            findings.warning(ttl.span, message);
        }
        _ => {}
    }
}

/// Home should stay healthy longer than one lucky streak before traffic goes back.
fn failback_delay_covers_a_rise(app: &AppSpec, findings: &mut Findings<'_>) {
    let Some(delay) = app.failback_delay.as_ref().filter(|_| app.policy() == Failover::Automatic) else {
        return;
    };
    let counting = app.probes.iter().filter(|probe| !probe.monitoring_only());
    let longest = counting.map(|probe| probe.interval().saturating_mul(probe.rise())).max();
    if let Some(longest) = longest.filter(|longest| delay.value < *longest) {
        let message = format!(
            "`failback-delay` of {} is shorter than one recovery takes to be seen (rise × interval, {}): names may swing to and fro",
            show_duration(delay.value),
            show_duration(longest)
        );
        findings.warning(delay.span, message);
    }
}

/// The rules over one probe.
pub(super) fn run_probe(probe: &ProbeEntry, findings: &mut Findings<'_>) {
    timeout_is_shorter_than_interval(probe, findings);
    recheck_interval_is_between(probe, findings);
    stale_after_outlasts_an_outcome(probe, findings);
}

/// Runs of one probe do not overlap.
fn timeout_is_shorter_than_interval(probe: &ProbeEntry, findings: &mut Findings<'_>) {
    let (timeout, interval) = (probe.timeout(), probe.interval());
    if timeout < interval {
        return;
    }
    let place = probe
        .timeout
        .as_ref()
        .map(|at| at.span)
        .or(probe.interval.as_ref().map(|at| at.span))
        .unwrap_or(probe.span);
    let message = format!(
        "the timeout of {} must be shorter than the interval of {}",
        show_duration(timeout),
        show_duration(interval)
    );
    let note = findings.error(place, message);
    match (&probe.timeout, &probe.interval) {
        (Some(_), Some(interval)) => note.related(interval.span, "the interval is here"),
        (None, Some(_)) => note.hint("the default timeout is 2s"),
        _ => note.hint("the default interval is 5s"),
    };
}

/// Runs after a failure follow faster than the others, and not before the one before is over: the worst case counts on it.
fn recheck_interval_is_between(probe: &ProbeEntry, findings: &mut Findings<'_>) {
    let Some(recheck) = &probe.recheck_interval else { return };
    let shown = show_duration(recheck.value);
    let (timeout, interval) = (probe.timeout(), probe.interval());
    if recheck.value > interval {
        let message = format!(
            "the recheck-interval of {shown} must not be longer than the interval of {}",
            show_duration(interval)
        );
        let note = findings.error(recheck.span, message);
        match &probe.interval {
            Some(interval) => note.related(interval.span, "the interval is here"),
            None => note.hint("the default interval is 5s"),
        };
    } else if recheck.value < timeout {
        let message = format!(
            "the recheck-interval of {shown} must not be shorter than the timeout of {}: a run that hangs would not be over",
            show_duration(timeout)
        );
        let note = findings.error(recheck.span, message);
        match &probe.timeout {
            Some(timeout) => note.related(timeout.span, "the timeout is here"),
            None => note.hint("the default timeout is 2s; write a shorter one beside it"),
        };
    }
}

/// Evidence lives at least until the next outcome can be there; else `fall` could never be counted to.
fn stale_after_outlasts_an_outcome(probe: &ProbeEntry, findings: &mut Findings<'_>) {
    let Some(stale_after) = &probe.stale_after else { return };
    let least = probe.interval().saturating_add(probe.timeout());
    let with_jitter = probe.interval().mul_f64(1.0 + JITTER).saturating_add(probe.timeout());
    if stale_after.value < least {
        let message = format!(
            "`stale-after` of {} is shorter than interval + timeout, {}: the verdict would be unknown between any two outcomes",
            show_duration(stale_after.value),
            show_duration(least)
        );
        findings.error(stale_after.span, message);
    } else if stale_after.value < with_jitter {
        let message = format!(
            "`stale-after` of {} is shorter than interval × {} + timeout, {}: the verdict will be unknown now and then",
            show_duration(stale_after.value),
            1.0 + JITTER,
            show_duration(with_jitter)
        );
        findings.warning(stale_after.span, message);
    }
}
