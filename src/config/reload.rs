//! What a reload changes: keys that need a restart, answers that would go, serials that were forgotten.
//!
//! All pure comparisons of two checked sets. Deliberately absent: roles. Whether a region or a name may go
//! is asked of `role::reconcile`.

use super::Config;
use crate::model::{Diagnostic, EncryptedListen, Endpoint, Fleet, Name, Rtype, SteeredName};
use crate::zone::Zone;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Below this many RRsets the guard on reloads never triggers: small sets are edited whole.
pub const GUARD_RRSETS_MIN: usize = 10;

/// The keys that differ and cannot change while the server runs, because sockets, threads and the lock on
/// the data folder are made from them at start.
pub fn restart_keys(old: &Config, new: &Config) -> Vec<String> {
    let changed = [
        ("node.name", old.node.name != new.node.name),
        ("node.data-dir", old.node.data_dir != new.node.data_dir),
        ("dns.listen", old.dns.listen != new.dns.listen),
        ("dns.workers", old.dns.workers != new.dns.workers),
        ("dns.tls-listen", encrypted(old, |dns| &dns.tls) != encrypted(new, |dns| &dns.tls)),
        (
            "dns.quic-listen",
            encrypted(old, |dns| &dns.quic) != encrypted(new, |dns| &dns.quic),
        ),
        (
            "dns.https-listen",
            encrypted(old, |dns| &dns.https) != encrypted(new, |dns| &dns.https),
        ),
        (
            "dns.https-path",
            encrypted(old, |dns| &dns.https_path) != encrypted(new, |dns| &dns.https_path),
        ),
        ("dns.tls", encrypted(old, |dns| &dns.files) != encrypted(new, |dns| &dns.files)),
        ("api.listen", old.api.listen != new.api.listen),
        ("api.socket", old.api.socket != new.api.socket),
        ("api.token-file", old.api.token_file != new.api.token_file),
        ("api.tls", old.api.tls != new.api.tls),
        ("api.allow-plaintext", old.api.allow_plaintext != new.api.allow_plaintext),
        ("api.metrics-names-max", old.api.metrics_names_max != new.api.metrics_names_max),
    ];
    changed
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| key.to_owned())
        .collect()
}

/// Something of the encrypted transports.
fn encrypted<'c, T: ?Sized>(config: &'c Config, part: impl Fn(&'c EncryptedListen) -> &'c T) -> Option<&'c T> {
    config.dns.encrypted.as_ref().map(part)
}

/// What is served: static zones and steered names.
#[derive(Clone, Copy)]
pub struct Served<'s> {
    /// The zones.
    pub zones: &'s [Arc<Zone>],
    /// The steered names.
    pub fleet: &'s Fleet,
}

/// The RRsets that a reload takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// RRsets served before, steered ones included.
    pub before: usize,
    /// Those among them that are no more: their name went, or their type is empty now.
    pub removed: Vec<(Name, Rtype)>,
}

impl Removal {
    /// Whether more than the allowed share goes (`reload-max-removed`, percent).
    pub fn exceeds(&self, max_percent: u8) -> bool {
        self.before >= GUARD_RRSETS_MIN && self.removed.len() * 100 > self.before * usize::from(max_percent)
    }
}

impl std::fmt::Display for Removal {
    /// `34 of 120 RRsets would go: a.example.net. A, …` with at most ten of them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<String> = self
            .removed
            .iter()
            .take(10)
            .map(|(name, rtype)| format!("{name} {rtype}"))
            .collect();
        write!(f, "{} of {} RRsets would go", self.removed.len(), self.before)?;
        if !shown.is_empty() {
            write!(f, ": {}", shown.join(", "))?;
        }
        if self.removed.len() > shown.len() {
            f.write_str(", …")
        } else {
            Ok(())
        }
    }
}

/// Compares what is served before and after a reload. A name that moves between a zone file and steering,
/// or from one zone to another, keeps its answer and counts as kept.
pub fn removal(old: Served<'_>, new: Served<'_>) -> Removal {
    let new_zones: BTreeMap<&Name, &Zone> = new.zones.iter().map(|zone| (zone.apex(), zone.as_ref())).collect();
    // Without new apexes inside it, an old zone's names are looked for in their own zone at once.
    let same_apexes = new.zones.len() == old.zones.len() && old.zones.iter().all(|zone| new_zones.contains_key(zone.apex()));
    let kept_in_zone = |name: &Name, rtype: Rtype, apex: Option<&Name>| {
        let zone = match apex.filter(|_| same_apexes) {
            Some(apex) => new_zones.get(apex),
            None => std::iter::successors(Some(name.clone()), Name::parent).find_map(|above| new_zones.get(&above)),
        };
        zone.and_then(|zone| zone.node(name))
            .is_some_and(|node| node.rrset(rtype).is_some())
    };
    let kept_steered = |name: &Name, rtype: Rtype| {
        new.fleet
            .names
            .get(name)
            .is_some_and(|steered| steered_types(steered).any(|one| one == rtype))
    };
    let mut removal = Removal {
        before: 0,
        removed: Vec::new(),
    };
    let mut count = |name: &Name, rtype: Rtype, apex: Option<&Name>| {
        removal.before += 1;
        if !kept_in_zone(name, rtype, apex) && !kept_steered(name, rtype) {
            removal.removed.push((name.clone(), rtype));
        }
    };
    for zone in old.zones {
        for (name, node) in zone.nodes() {
            node.rrsets.iter().for_each(|rrset| count(name, rrset.rtype, Some(zone.apex())));
        }
    }
    for steered in old.fleet.names.values() {
        steered_types(steered).for_each(|rtype| count(&steered.name, rtype, None));
    }
    removal
}

/// The types that a steered name can be answered with, over all its regions.
fn steered_types(steered: &SteeredName) -> impl Iterator<Item = Rtype> {
    let has = |wanted: fn(&Endpoint) -> bool| steered.app.endpoints.values().flatten().any(wanted);
    let types = [
        (
            Rtype::A,
            has(|endpoint| matches!(endpoint, Endpoint::Address(address) if address.is_ipv4())),
        ),
        (
            Rtype::AAAA,
            has(|endpoint| matches!(endpoint, Endpoint::Address(address) if address.is_ipv6())),
        ),
        (Rtype::CNAME, has(|endpoint| matches!(endpoint, Endpoint::Host(_)))),
    ];
    types.into_iter().filter(|(_, possible)| *possible).map(|(rtype, _)| rtype)
}

/// Zones whose content changed under the same or an older serial (RFC 1982): secondaries and people who
/// compare serials would not notice.
pub fn forgotten_serials(old: &[Arc<Zone>], new: &[Arc<Zone>]) -> Vec<Diagnostic> {
    let old: BTreeMap<&Name, &Arc<Zone>> = old.iter().map(|zone| (zone.apex(), zone)).collect();
    let pairs = new.iter().filter_map(|zone| Some((*old.get(zone.apex())?, zone)));
    let forgotten = pairs.filter(|(before, after)| !after.soa().serial.is_after(before.soa().serial) && !same_content(before, after));
    let finding = |(before, after): (&Arc<Zone>, &Arc<Zone>)| {
        let at = after
            .node(after.apex())
            .and_then(|node| node.rrset(Rtype::SOA))
            .and_then(|soa| after.location(soa.at));
        let message = format!(
            "the zone {} changed, but its serial did not grow: {} after {}",
            after.apex(),
            after.soa().serial,
            before.soa().serial
        );
        Diagnostic::warning(at, message).hint("raise the serial with every change")
    };
    forgotten.map(finding).collect()
}

/// Whether two zones hold the same records, wherever they stand in their files.
fn same_content(one: &Zone, other: &Zone) -> bool {
    let same_node = |((name, node), (other_name, other_node)): ((&Name, &crate::zone::Node), (&Name, &crate::zone::Node))| {
        let sets = node.rrsets.iter().zip(&other_node.rrsets);
        let same_sets = |(set, other): (&crate::zone::RrSet, &crate::zone::RrSet)| {
            set.rtype == other.rtype && set.ttl == other.ttl && set.rdata == other.rdata
        };
        name == other_name && node.rrsets.len() == other_node.rrsets.len() && sets.into_iter().all(same_sets)
    };
    one.nodes().len() == other.nodes().len() && one.nodes().zip(other.nodes()).all(same_node)
}
