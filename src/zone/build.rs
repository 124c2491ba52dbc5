//! From flat records to a zone: owners sorted by a key that compares as octets, records grouped into
//! RRsets, duplicates dropped, one TTL a set.
//!
//! The order of RFC 4034 §6.1 compares labels from the right; each owner gets a key once whose plain octet
//! order is that order, and the sort compares eight octets of it at a time.

use super::check;
use super::diags::Diags;
use super::read::{Record, Records};
use super::wire;
use super::{Node, Part, Rdatas, RrSet, Soa, Zone};
use crate::model::{Name, Rtype, Serial};
use std::collections::HashSet;

/// Makes the zone and checks it; only a part when there is no SOA to build on (which is then noted).
pub(super) fn zone(apex: &Name, records: &Records, files: Vec<String>, diags: &mut Diags) -> Result<Zone, Part> {
    let read_failed = diags.has_errors();
    let nodes = nodes(apex, records, diags);
    let soa = nodes
        .first()
        .filter(|(name, _)| name == apex)
        .and_then(|(_, node)| node.rrset(Rtype::SOA));
    let soa = soa.and_then(|rrset| Soa::from_rdata(rrset.rdata.first()?, rrset.ttl));
    check::zone(apex, &nodes, read_failed, diags);
    let has_soa = soa.is_some();
    let zone = Zone {
        apex: apex.clone(),
        soa: soa.unwrap_or_else(|| no_soa(apex)),
        rrset_count: nodes.iter().map(|(_, node)| node.rrsets.len()).sum(),
        nodes,
        files,
    };
    if has_soa { Ok(zone) } else { Err(Part(Box::new(zone))) }
}

/// Stands in a [`Part`] where the SOA record could not be read; a part is never served.
fn no_soa(apex: &Name) -> Soa {
    Soa {
        mname: apex.clone(),
        rname: apex.clone(),
        serial: Serial(0),
        refresh: 0,
        retry: 0,
        expire: 0,
        minimum: 0,
        ttl: 0,
    }
}

/// An owner with the key that sorts it.
struct Keyed {
    /// The key's first eight octets.
    prefix: u64,
    /// Where the key starts in the arena.
    start: u32,
    /// Octets of the key.
    len: u16,
    /// Index of the owner.
    owner: u32,
}

/// Groups all records by owner, in canonical order.
fn nodes(apex: &Name, records: &Records, diags: &mut Diags) -> Vec<(Name, Node)> {
    let (mut keys, mut order) = (Vec::new(), Vec::with_capacity(records.owners.len()));
    for (index, owner) in records.owners.iter().enumerate() {
        let start = keys.len();
        push_key(records.name(owner), apex, &mut keys);
        let key = keys.get(start..).unwrap_or_default();
        let mut prefix = [0; 8];
        prefix.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        order.push(Keyed {
            prefix: u64::from_be_bytes(prefix),
            start: start as u32,
            len: key.len() as u16, // at most 510: twice a name
            owner: index as u32,
        });
    }
    let key = |keyed: &Keyed| {
        keys.get(keyed.start as usize..keyed.start as usize + usize::from(keyed.len))
            .unwrap_or_default()
    };
    order.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| key(a).cmp(key(b))).then(a.owner.cmp(&b.owner)));

    let mut nodes = Vec::with_capacity(order.len());
    let mut found: Vec<Record> = Vec::new();
    for run in order.chunk_by(|a, b| a.prefix == b.prefix && key(a) == key(b)) {
        let Some(name) = run
            .first()
            .and_then(|keyed| records.owners.get(keyed.owner as usize))
            .map(|owner| records.name(owner))
        else {
            continue;
        };
        let Ok(name) = Name::from_wire(name) else { continue };
        found.clear();
        for keyed in run {
            let first = records.owners.get(keyed.owner as usize).map_or(0, |owner| owner.first as usize);
            let end = records
                .owners
                .get(keyed.owner as usize + 1)
                .map_or(records.records.len(), |owner| owner.first as usize);
            found.extend_from_slice(records.records.get(first..end).unwrap_or_default());
        }
        found.sort_by_key(|record| record.rtype);
        let rrsets = found
            .chunk_by(|a, b| a.rtype == b.rtype)
            .filter_map(|set| rrset(&name, set, records, diags));
        let rrsets = collect_exact(rrsets);
        nodes.push((name, Node { rrsets }));
    }
    nodes.shrink_to_fit();
    nodes
}

/// Collects without spare room: most nodes own one RRset.
fn collect_exact(items: impl Iterator<Item = RrSet>) -> Vec<RrSet> {
    let mut all = Vec::with_capacity(1);
    for item in items {
        if all.len() == all.capacity() {
            all.reserve_exact(1);
        }
        all.push(item);
    }
    all
}

/// Appends the sort key of a name at or below the apex: its labels from the right, in lower case, each
/// closed by 0, with 0 and 1 inside a label written as two octets. The apex' own labels are left out.
fn push_key(name: &[u8], apex: &Name, out: &mut Vec<u8>) {
    let mut starts = [0u8; 128]; // a name has at most 127 labels
    let (mut at, mut count) = (0, 0);
    let end = name.len().saturating_sub(apex.wire().len());
    while at < end && count < starts.len() {
        starts[count] = at as u8; // count is below the length by the condition
        count += 1;
        at += 1 + name.get(at).copied().map_or(0, usize::from);
    }
    for &start in starts.iter().take(count).rev() {
        let start = usize::from(start);
        let len = name.get(start).copied().map_or(0, usize::from);
        for &byte in name.get(start + 1..start + 1 + len).unwrap_or_default() {
            match byte {
                0 => out.extend_from_slice(&[1, 1]),
                1 => out.extend_from_slice(&[1, 2]),
                _ => out.push(byte.to_ascii_lowercase()),
            }
        }
        out.push(0);
    }
}

/// Makes an RRset of the records of one type: duplicates dropped (RFC 2181 §5), the lowest TTL for all (§5.2).
fn rrset(name: &Name, set: &[Record], records: &Records, diags: &mut Diags) -> Option<RrSet> {
    let first = set.first()?;
    if let [record] = set {
        return Some(RrSet {
            rtype: record.rtype,
            ttl: record.ttl,
            rdata: Rdatas::one(records.data(record)),
            at: record.at,
        });
    }
    let rtype = first.rtype;
    let ttl = set.iter().map(|record| record.ttl).min().unwrap_or(first.ttl);
    if let Some(other) = set.iter().find(|record| record.ttl != first.ttl) {
        let message = format!("the {rtype} records of {name} have different TTLs; the lowest, {ttl}, is taken for all");
        diags.warning(
            other.at,
            message,
            Some((first.at, "the first one stands here")),
            "give all records of a name and type one TTL (RFC 2181 section 5.2)",
        );
    }
    let (mut seen, mut kept) = (HashSet::with_capacity(set.len()), Vec::with_capacity(set.len()));
    for record in set {
        let data = records.data(record);
        if seen.insert(wire::canonical(rtype, data)) {
            kept.push(data);
        } else {
            let message = format!("the {rtype} record of {name} is given twice; one is dropped");
            diags.warning(
                record.at,
                message,
                Some((first.at, "the first record of the set stands here")),
                "remove one",
            );
        }
    }
    if kept.len() > 1 && matches!(rtype, Rtype::SOA | Rtype::CNAME | Rtype::DNAME) {
        let second = set
            .iter()
            .skip(1)
            .find(|record| records.data(record) != records.data(first))
            .unwrap_or(first);
        diags.error_with(
            second.at,
            format!("{name} has more than one {rtype} record"),
            (first.at, "the first one stands here"),
            "keep one",
        );
    }
    Some(RrSet {
        rtype,
        ttl,
        rdata: kept.into_iter().collect(),
        at: first.at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_order_names_as_the_model_does(
            a in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, b'A', b'a', b'b', 255]), 1..4), 0..4),
            b in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, b'A', b'a', b'b', 255]), 1..4), 0..4),
        ) {
            let apex = Name::root();
            let (a, b) = (Name::from_labels(&a).unwrap(), Name::from_labels(&b).unwrap());
            let (mut key_a, mut key_b) = (Vec::new(), Vec::new());
            push_key(a.wire(), &apex, &mut key_a);
            push_key(b.wire(), &apex, &mut key_b);
            prop_assert_eq!(key_a.cmp(&key_b), a.cmp(&b));
        }
    }
}
