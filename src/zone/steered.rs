//! Whether a steered name may stand where the configuration puts it.
//!
//! The server decides the A, AAAA and CNAME records of a steered name, so the zone file must not hold
//! them, nor anything that would lead clients past the decision.

use super::{Node, Zone};
use crate::model::{Diagnostic, Name, Rtype};

/// Checks a steered name against its zone. `cname_possible`: some answer of the name can be a CNAME.
/// The places are those of the zone file; the caller adds the place of the configuration.
pub fn check_steered(zone: &Zone, name: &Name, cname_possible: bool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if !name.is_at_or_below(zone.apex()) {
        found
            .push(Diagnostic::error(None, format!("{name} does not lie in the zone {}", zone.apex())).hint("serve the zone that holds it"));
        return found;
    }
    if name.is_wildcard() {
        let message = format!("{name} is a wildcard and cannot be steered");
        found.push(Diagnostic::error(None, message).hint(format!("steer one name and write \"{name} CNAME that-name\" in the zone file")));
    }
    if name == zone.apex() && cname_possible {
        let message = format!("{name} is the apex of its zone and is answered with addresses only; a CNAME cannot stand beside its SOA");
        found.push(Diagnostic::error(None, message).hint("give addresses as endpoints, or steer a name below the apex"));
    }
    placed_in_authority(zone, name, &mut found);
    if let Some(node) = zone.node(name) {
        nothing_beside(zone, name, node, cname_possible, &mut found);
    }
    served_by_nobody_below(zone, name, &mut found);
    found
}

/// The name is not at or below a zone cut, and not below a DNAME.
fn placed_in_authority(zone: &Zone, name: &Name, found: &mut Vec<Diagnostic>) {
    let mut at = Some(name.clone());
    while let Some(above) = at {
        let node = zone.node(&above);
        if above != *zone.apex()
            && let Some(ns) = node.and_then(|node| node.rrset(Rtype::NS))
        {
            let message = format!("{name} lies at or below {above}, which the zone delegates");
            found.push(Diagnostic::error(zone.location(ns.at), message).hint("remove the NS records, or serve the delegated zone here"));
        }
        if above != *name
            && let Some(dname) = node.and_then(|node| node.rrset(Rtype::DNAME))
        {
            let message = format!("{name} lies below the DNAME record of {above}");
            found.push(Diagnostic::error(zone.location(dname.at), message).hint("remove the DNAME, or steer its target"));
        }
        at = if above == *zone.apex() { None } else { above.parent() };
    }
}

/// The zone file holds nothing at the name that the server decides, or that would bypass the decision.
fn nothing_beside(zone: &Zone, name: &Name, node: &Node, cname_possible: bool, found: &mut Vec<Diagnostic>) {
    for rrset in &node.rrsets {
        let at = zone.location(rrset.at);
        let rtype = rrset.rtype;
        if matches!(rtype, Rtype::A | Rtype::AAAA | Rtype::CNAME) {
            let message = format!("{name} is steered, but the zone file has its {rtype} record too");
            found.push(Diagnostic::error(at, message).hint("remove the record, or steer another name"));
        } else if matches!(rtype, Rtype::SVCB | Rtype::HTTPS) && rrset.rdata.iter().any(has_hints) {
            let message = format!("the {rtype} record of the steered name {name} has address hints, which lead clients past the decision");
            found.push(Diagnostic::error(at, message).hint("remove ipv4hint and ipv6hint"));
        } else if cname_possible && name != zone.apex() {
            let message =
                format!("{name} may be answered with a CNAME, and nothing can stand beside that; the zone file has its {rtype} record");
            found.push(Diagnostic::error(at, message).hint("remove the record, or give addresses as endpoints"));
        }
    }
}

/// The steered name is no DNAME's owner: the names below it would go elsewhere than the name itself. A warning.
fn served_by_nobody_below(zone: &Zone, name: &Name, found: &mut Vec<Diagnostic>) {
    if let Some(dname) = zone.node(name).and_then(|node| node.rrset(Rtype::DNAME)) {
        let message = format!("the names below the steered name {name} follow its DNAME record and not the decision");
        found.push(Diagnostic::warning(zone.location(dname.at), message).hint("is the DNAME still wanted?"));
    }
}

/// Whether SVCB data has `ipv4hint` (4) or `ipv6hint` (6) (RFC 9460 §7.3).
fn has_hints(rdata: &[u8]) -> bool {
    let target = super::wire::names(Rtype::SVCB, rdata).into_iter().next();
    let mut rest = target.and_then(|name| rdata.get(name.end..)).unwrap_or_default();
    while let [key_high, key_low, len_high, len_low, more @ ..] = rest {
        if matches!([key_high, key_low], [0, 4 | 6]) {
            return true;
        }
        let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        rest = more.get(len..).unwrap_or_default();
    }
    false
}
