//! Rules of the whole zone, one function each. Where NSD and Knot differ the stricter wins.
//!
//! All walk the nodes in canonical order, where what lies below a name follows it directly.

use super::diags::Diags;
use super::{Node, Place, RrSet};
use crate::model::{Name, Rtype};

/// Nodes in canonical order.
type Nodes = [(Name, Node)];

/// Runs every check. After errors in reading, nothing is said about what is missing: it may be in a line that was not taken.
pub(super) fn zone(apex: &Name, nodes: &Nodes, read_failed: bool, diags: &mut Diags) {
    soa_only_at_apex(apex, nodes, diags);
    alias_stands_alone(nodes, diags);
    no_wildcard_cut(nodes, diags);
    below_cuts_and_dnames(apex, nodes, diags);
    if !read_failed {
        apex_complete(apex, nodes, diags);
        servers_have_addresses(apex, nodes, diags);
    }
}

/// The apex has an SOA and NS records (RFC 1035 §5.2).
fn apex_complete(apex: &Name, nodes: &Nodes, diags: &mut Diags) {
    let node = find(nodes, apex);
    for (rtype, hint) in [
        (
            Rtype::SOA,
            "every zone file has one, at its apex: @ SOA primary mailbox (serial refresh retry expire minimum)",
        ),
        (Rtype::NS, "list the zone's own servers there: @ NS name"),
    ] {
        if node.and_then(|node| node.rrset(rtype)).is_none() {
            let at = node.and_then(|node| node.rrsets.first()).map(|rrset| rrset.at);
            diags.error(at, format!("the zone {apex} has no {rtype} record at its apex"), hint);
        }
    }
}

/// No SOA below the apex.
fn soa_only_at_apex(apex: &Name, nodes: &Nodes, diags: &mut Diags) {
    for (name, node) in nodes.iter().filter(|(name, _)| name != apex) {
        if let Some(rrset) = node.rrset(Rtype::SOA) {
            diags.error(
                Some(rrset.at),
                format!("{name} has an SOA record but is not the apex, {apex}"),
                "is the file for another zone?",
            );
        }
    }
}

/// CNAME with nothing beside it but DNSSEC's own types (RFC 2181 §10.1, RFC 4034 §3, §4); DNAME not beside
/// CNAME (RFC 6672 §2.4), nor beside NS except at the apex.
fn alias_stands_alone(nodes: &Nodes, diags: &mut Diags) {
    for (name, node) in nodes {
        if let Some(cname) = node.rrset(Rtype::CNAME) {
            let beside = |rrset: &&RrSet| !matches!(rrset.rtype, Rtype::CNAME | Rtype::RRSIG | Rtype::NSEC | Rtype::SIG | Rtype::NXT);
            if let Some(other) = node.rrsets.iter().find(beside) {
                let message = format!("{name} has a CNAME record and a {} record; a CNAME stands alone", other.rtype);
                diags.error_with(
                    cname.at,
                    message,
                    (other.at, "the other record stands here"),
                    "remove one of them (RFC 2181 section 10.1)",
                );
            }
        }
        if let (Some(dname), Some(ns), None) = (node.rrset(Rtype::DNAME), node.rrset(Rtype::NS), node.rrset(Rtype::SOA)) {
            let message = format!("{name} has a DNAME record and is delegated");
            diags.error_with(
                dname.at,
                message,
                (ns.at, "the NS record stands here"),
                "remove one of them (RFC 6672 section 2.4)",
            );
        }
    }
}

/// No NS and no DNAME at a wildcard: what they mean is undefined (RFC 4592 §4.2, §4.4; RFC 6672 §3.3).
fn no_wildcard_cut(nodes: &Nodes, diags: &mut Diags) {
    for (name, node) in nodes.iter().filter(|(name, _)| name.is_wildcard()) {
        for rtype in [Rtype::NS, Rtype::DNAME] {
            if let Some(rrset) = node.rrset(rtype) {
                diags.error(
                    Some(rrset.at),
                    format!("{name} is a wildcard with {rtype} records, whose meaning is undefined"),
                    "name the subdomains one by one (RFC 4592 section 4)",
                );
            }
        }
    }
}

/// Nothing lies below a DNAME (RFC 6672 §2.4). Below a zone cut only addresses (glue) make sense; other data there,
/// or beside the cut's NS, is never answered.
fn below_cuts_and_dnames(apex: &Name, nodes: &Nodes, diags: &mut Diags) {
    let mut dname: Option<(&Name, Place)> = None;
    let mut cut: Option<(&Name, Place)> = None;
    for (name, node) in nodes {
        dname = dname.filter(|(above, _)| name.is_below(above));
        cut = cut.filter(|(above, _)| name.is_below(above));
        if let (Some((above, at)), Some(rrset)) = (dname, node.rrsets.first()) {
            let message = format!("{name} lies below the DNAME record of {above}");
            diags.error_with(
                rrset.at,
                message,
                (at, "the DNAME stands here"),
                "remove it: the DNAME answers for all names below (RFC 6672 section 2.4)",
            );
        }
        let is_cut = cut.is_none() && name != apex && node.rrset(Rtype::NS).is_some();
        if let Some(at) = node.rrset(Rtype::NS).map(|ns| ns.at).filter(|_| is_cut) {
            cut = Some((name, at));
        }
        if let Some((above, at)) = cut {
            let seen = |rrset: &&RrSet| match rrset.rtype {
                Rtype::A | Rtype::AAAA | Rtype::NSEC | Rtype::RRSIG => false,
                Rtype::NS | Rtype::DS => !is_cut,
                _ => true,
            };
            if let Some(rrset) = node.rrsets.iter().find(seen) {
                let message = format!("the {} record of {name} is never answered: {above} is delegated", rrset.rtype);
                diags.warning(
                    rrset.at,
                    message,
                    Some((at, "the delegation stands here")),
                    "move it into the delegated zone",
                );
            }
        }
        if let (None, Some(rrset)) = (dname, node.rrset(Rtype::DNAME)) {
            dname = Some((name, rrset.at));
        }
    }
}

/// Servers named by NS records inside the zone have addresses there (RFC 1034 §4.2.2) and are no aliases
/// (RFC 2181 §10.3). Left alone: names below another delegation, whose addresses are that zone's business. A wildcard may give
/// the address, as in Knot.
fn servers_have_addresses(apex: &Name, nodes: &Nodes, diags: &mut Diags) {
    let mut cut: Option<&Name> = None;
    for (name, node) in nodes {
        cut = cut.filter(|above| name.is_below(above));
        let Some(ns) = node.rrset(Rtype::NS).filter(|_| cut.is_none()) else {
            continue;
        };
        if name != apex {
            cut = Some(name);
        }
        for target in ns
            .rdata
            .iter()
            .filter_map(|rdata| Name::from_wire(rdata).ok())
            .filter(|target| target.is_at_or_below(apex))
        {
            if let Some(cname) = find(nodes, &target).and_then(|node| node.rrset(Rtype::CNAME)) {
                let message = format!("{name} names the server {target}, which is an alias");
                diags.error_with(
                    ns.at,
                    message,
                    (cname.at, "the CNAME stands here"),
                    "name a host with addresses (RFC 2181 section 10.3)",
                );
            } else if !has_address(nodes, &target) && !below_other_cut(apex, nodes, name, &target) {
                diags.error(
                    Some(ns.at),
                    format!("{name} names the server {target}, which has no address in this zone"),
                    "add its A or AAAA record, or correct the name",
                );
            }
        }
    }
}

/// Whether a name, or the wildcard that answers for it, has an address.
fn has_address(nodes: &Nodes, name: &Name) -> bool {
    let with_address = |node: &Node| node.rrset(Rtype::A).or_else(|| node.rrset(Rtype::AAAA)).is_some();
    if let Some(node) = find(nodes, name) {
        return with_address(node);
    }
    let mut above = name.parent();
    while let Some(closest) = above {
        let exists = nodes
            .get(nodes.partition_point(|(other, _)| *other < closest))
            .is_some_and(|(other, _)| other.is_at_or_below(&closest));
        if exists {
            return closest
                .child(b"*")
                .ok()
                .and_then(|wildcard| find(nodes, &wildcard))
                .is_some_and(with_address);
        }
        above = closest.parent();
    }
    false
}

/// Whether a name lies at or below a zone cut other than that of `owner`.
fn below_other_cut(apex: &Name, nodes: &Nodes, owner: &Name, name: &Name) -> bool {
    let mut at = Some(name.clone());
    while let Some(above) = at.filter(|above| above.is_below(apex)) {
        if above != *owner && find(nodes, &above).is_some_and(|node| node.rrset(Rtype::NS).is_some()) {
            return true;
        }
        at = above.parent();
    }
    false
}

/// The node of a name.
fn find<'n>(nodes: &'n Nodes, name: &Name) -> Option<&'n Node> {
    let at = nodes.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
    nodes.get(at).map(|(_, node)| node)
}
