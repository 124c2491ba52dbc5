//! What a reload changes: keys that need a restart, answers that would go, serials that were forgotten.
//!
//! All pure comparisons of two checked sets. Deliberately absent: roles. Whether a region or a name may go
//! is asked of `role::reconcile`.

use super::Config;
use crate::model::{Diagnostic, EncryptedListen, Endpoint, Fleet, Name, Rtype, Serial, SteeredName};
use crate::zone::Zone;
use foldhash::fast::FixedState;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
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
    pub outline: &'s Outline,
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
pub fn removal(old: Served<'_>, new: &[Arc<Zone>], new_served: Served<'_>) -> Removal {
    let new_zones: BTreeMap<&Name, &Zone> = new.iter().map(|zone| (zone.apex(), zone.as_ref())).collect();
    // Without new apexes inside it, an old zone's names are looked for in their own zone at once.
    let (old_outlines, new_outlines) = (&old.outline.0, &new_served.outline.0);
    let same_apexes = new.len() == old_outlines.len() && old_outlines.iter().all(|zone| new_zones.contains_key(&zone.apex));
    let kept_in_zone = |name: &Name, rtype: Rtype, apex: &Name| {
        let zone = match same_apexes {
            true => new_zones.get(apex),
            false => std::iter::successors(Some(name.clone()), Name::parent).find_map(|above| new_zones.get(&above)),
        };
        has(zone, name, rtype)
    };
    let kept_steered = |name: &Name, rtype: Rtype| {
        let steered = new_served.fleet.names.get(name);
        steered.is_some_and(|steered| steered_types(steered).any(|one| one == rtype))
    };
    let mut removal = Removal {
        before: 0,
        removed: Vec::new(),
    };
    for zone in old_outlines {
        removal.before += zone.rrset_count;
        let is_untouched = |other: &&ZoneOutline| other.apex == zone.apex && other.content == zone.content;
        if same_apexes && new_outlines.iter().any(|other| is_untouched(&other)) {
            continue;
        }
        for (name, rtype) in zone.rrsets() {
            if !kept_in_zone(&name, rtype, &zone.apex) && !kept_steered(&name, rtype) {
                removal.removed.push((name, rtype));
            }
        }
    }
    for steered in old.fleet.names.values() {
        for rtype in steered_types(steered) {
            removal.before += 1;
            let name = &steered.name;
            let zone = std::iter::successors(Some(name.clone()), Name::parent).find_map(|above| new_zones.get(&above));
            if !kept_steered(name, rtype) && !has(zone, name, rtype) {
                removal.removed.push((name.clone(), rtype));
            }
        }
    }
    removal
}

/// Whether a zone has an RRset.
fn has(zone: Option<&&Zone>, name: &Name, rtype: Rtype) -> bool {
    zone.and_then(|zone| zone.node(name))
        .is_some_and(|node| node.rrset(rtype).is_some())
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
pub fn forgotten_serials(old: &Outline, new: &[Arc<Zone>], new_outline: &Outline) -> Vec<Diagnostic> {
    let old: BTreeMap<&Name, &ZoneOutline> = old.0.iter().map(|zone| (&zone.apex, zone)).collect();
    let changed = new.iter().zip(&new_outline.0).filter_map(|(zone, after)| {
        let before = old.get(zone.apex())?;
        let is_forgotten = !after.serial.is_after(before.serial) && before.content != after.content;
        is_forgotten.then_some((before.serial, zone))
    });
    let finding = |(before, after): (Serial, &Arc<Zone>)| {
        let at = after
            .node(after.apex())
            .and_then(|node| node.rrset(Rtype::SOA))
            .and_then(|soa| after.location(soa.at));
        let message = format!(
            "the zone {} changed, but its serial did not grow: {} after {before}",
            after.apex(),
            after.soa().serial
        );
        Diagnostic::warning(at, message).hint("raise the serial with every change")
    };
    changed.map(finding).collect()
}

/// What the next reload compares with: of each zone its serial, a digest of its content, and which RRsets it has. A zone
/// that was compiled is needed for nothing else, and a million names take a seventh of the memory so.
#[derive(Debug, Clone, Default)]
pub struct Outline(Vec<ZoneOutline>);

/// The outline of one zone.
#[derive(Debug, Clone)]
struct ZoneOutline {
    apex: Name,
    serial: Serial,
    /// Digest of names, types, TTLs and data, wherever they stand in their files. Nobody gains by a collision: a warning
    /// about a serial would be missing.
    content: u64,
    rrset_count: usize,
    /// For each name its wire form, the number of its types, and they.
    rrsets: Box<[u8]>,
}

impl Outline {
    /// The outline of zones, in their order.
    pub fn of(zones: &[Arc<Zone>]) -> Outline {
        Outline(zones.iter().map(|zone| ZoneOutline::of(zone)).collect())
    }
}

impl ZoneOutline {
    /// The outline of a zone.
    fn of(zone: &Zone) -> ZoneOutline {
        let mut hasher = FixedState::default().build_hasher();
        let mut rrsets = Vec::with_capacity(zone.nodes().len() * 24);
        for (name, node) in zone.nodes() {
            name.hash(&mut hasher);
            rrsets.extend_from_slice(name.wire());
            rrsets.extend_from_slice(&(node.rrsets.len() as u16).to_be_bytes()); // there are no more types than that
            for set in &node.rrsets {
                rrsets.extend_from_slice(&set.rtype.0.to_be_bytes());
                hasher.write_u64(u64::from(set.rtype.0) << 32 | u64::from(set.ttl));
                set.rdata.iter().for_each(|rdata| {
                    hasher.write_usize(rdata.len());
                    hasher.write(rdata);
                });
            }
        }
        ZoneOutline {
            apex: zone.apex().clone(),
            serial: zone.soa().serial,
            content: hasher.finish(),
            rrset_count: zone.rrset_count(),
            rrsets: rrsets.into(),
        }
    }

    /// Its RRsets.
    fn rrsets(&self) -> impl Iterator<Item = (Name, Rtype)> + '_ {
        let mut rest = &self.rrsets[..];
        let nodes = std::iter::from_fn(move || {
            let octets = name_octets(rest);
            let (name, after) = rest.split_at_checked(octets)?;
            let (count, after) = after.split_first_chunk::<2>()?;
            let (types, after) = after.split_at_checked(2 * usize::from(u16::from_be_bytes(*count)))?;
            rest = after;
            Some((Name::from_wire(name).ok()?, types))
        });
        nodes.flat_map(|(name, types)| {
            let types = types.chunks_exact(2).filter_map(|octets| octets.first_chunk::<2>());
            types.map(move |octets| (name.clone(), Rtype(u16::from_be_bytes(*octets))))
        })
    }
}

/// Octets of the wire name that some octets begin with.
fn name_octets(octets: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&len @ 1..) = octets.get(at) {
        at += 1 + usize::from(len);
    }
    at + 1
}
