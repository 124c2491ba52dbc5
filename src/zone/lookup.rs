//! What is answered, as data: RFC 1034 §4.3.2 with wildcards (RFC 4592), DNAME (RFC 6672), negative answers
//! (RFC 2308) and DS at zone cuts (RFC 4035 §3.1.4.1).
//!
//! The reference: each step follows the text of the RFCs, takes binary searches and copies, and knows no
//! shortcuts. Decisions where the RFCs leave room:
//!
//! - A chain of CNAME and DNAME is followed inside the zone of the question only and ends at its edge, with
//!   the alias and NOERROR, also when the target's zone is served here. At most [`ALIASES_MAX`] aliases are
//!   followed (as in Knot), and none twice; a loop ends with NOERROR and the chain so far.
//! - The response code is that of the chain's end (RFC 6604 §3); AA speaks of the chain's first name.
//! - `ANY` gives one RRset, that of the lowest type at the name (RFC 8482 §4.1, the subset that NSD and Knot
//!   choose too); an alias itself is not followed.
//! - Positive answers carry nothing in authority and additional; a referral carries NS records and as glue every
//!   address that the zone holds for them.
//!
//! Deliberately absent: DNSSEC records added by the DO bit, sizes, the question's case.

use super::{RrSet, Zone};
use crate::model::{Name, Rtype, rcode};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most aliases that one answer follows.
pub const ALIASES_MAX: usize = 5;
/// Response code of a DNAME whose target would be too long (RFC 6672 §2.2).
const YXDOMAIN: u8 = 6;

/// The zones that are served together.
#[derive(Debug, Clone, Default)]
pub struct ZoneSet {
    /// Zones by apex.
    zones: Vec<Arc<Zone>>,
}

impl ZoneSet {
    /// Puts zones together; of two with one apex the later wins.
    pub fn new(zones: impl IntoIterator<Item = Arc<Zone>>) -> ZoneSet {
        let mut set = ZoneSet::default();
        for zone in zones {
            set.zones.retain(|other| other.apex() != zone.apex());
            set.zones.push(zone);
        }
        set.zones.sort_by(|a, b| a.apex().cmp(b.apex()));
        set
    }

    /// The zones in canonical order of their apexes.
    pub fn zones(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.zones.iter()
    }

    /// The zone with the longest apex at or above a name.
    pub fn closest(&self, name: &Name) -> Option<&Zone> {
        let at_or_above = self.zones.iter().filter(|zone| name.is_at_or_below(zone.apex()));
        at_or_above.max_by_key(|zone| zone.apex().label_count()).map(|zone| &**zone)
    }

    /// The zone that answers a question. DS at an apex is the parent's (RFC 4035 §3.1.4.1), where it is served.
    pub fn zone_of(&self, qname: &Name, qtype: Rtype) -> Option<&Zone> {
        let zone = self.closest(qname)?;
        if qtype == Rtype::DS
            && qname == zone.apex()
            && let Some(above) = qname.parent()
        {
            return self.closest(&above).or(Some(zone));
        }
        Some(zone)
    }
}

/// RRset of an answer; the owner is the question's name where it was synthesized from a wildcard or DNAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Its owner.
    pub owner: Name,
    /// Its type.
    pub rtype: Rtype,
    /// Its TTL.
    pub ttl: u32,
    /// Its data in wire form.
    pub rdatas: Vec<Box<[u8]>>,
}

impl Answered {
    /// An RRset of the zone under the owner that it is answered with.
    fn new(owner: &Name, rrset: &RrSet) -> Answered {
        Answered {
            owner: owner.clone(),
            rtype: rrset.rtype,
            ttl: rrset.ttl,
            rdatas: rrset.rdata.iter().map(Box::from).collect(),
        }
    }
}

/// What kind of answer it is, told by the last name of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Data.
    Answer,
    /// The name exists, the type does not (RFC 2308 §2.2).
    NoData,
    /// The name does not exist.
    NxDomain,
    /// The name lies below a zone cut.
    Referral,
    /// The chain left the zone, went in a circle or became too long: the client goes on.
    ChainEnds,
    /// A DNAME would give a name longer than 255 octets.
    TooLong,
    /// No zone holds the name.
    Refused,
}

/// An answer as data, without header bits other than AA, without the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The kind of answer.
    pub outcome: Outcome,
    /// The response code.
    pub rcode: u8,
    /// Whether the answer is authoritative.
    pub aa: bool,
    /// Answer section in the order of the chain.
    pub answer: Vec<Answered>,
    /// Authority section: NS of a referral, SOA of a negative answer.
    pub authority: Vec<Answered>,
    /// Additional section: glue.
    pub additional: Vec<Answered>,
}

/// Answers a question from the zones.
pub fn lookup(zones: &ZoneSet, qname: &Name, qtype: Rtype) -> Lookup {
    let mut lookup = Lookup {
        outcome: Outcome::Refused,
        rcode: rcode::REFUSED,
        aa: false,
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
    };
    let Some(zone) = zones.zone_of(qname, qtype) else { return lookup };
    lookup.outcome = follow(zone, qname, qtype, &mut lookup);
    lookup.rcode = match lookup.outcome {
        Outcome::NxDomain => rcode::NXDOMAIN,
        Outcome::TooLong => YXDOMAIN,
        _ => rcode::NOERROR,
    };
    lookup.aa = lookup.outcome != Outcome::Referral || !lookup.answer.is_empty();
    if matches!(lookup.outcome, Outcome::NoData | Outcome::NxDomain) {
        lookup.authority.extend(negative_soa(zone));
    }
    lookup
}

/// The SOA record as negative answers carry it (RFC 2308 §3).
fn negative_soa(zone: &Zone) -> Option<Answered> {
    let (apex, node) = zone.entry(zone.apex())?;
    let mut soa = Answered::new(apex, node.rrset(Rtype::SOA)?);
    soa.ttl = zone.soa().negative_ttl();
    Some(soa)
}

/// Where one name of the chain leads.
enum Step {
    /// The chain ends so.
    End(Outcome),
    /// An alias was answered; the chain goes on here.
    Alias(Name),
}

/// Follows the chain from the question's name on, filling the sections.
fn follow(zone: &Zone, qname: &Name, qtype: Rtype, lookup: &mut Lookup) -> Outcome {
    let mut seen = BTreeSet::new();
    let mut name = qname.clone();
    loop {
        // Only an alias leads to a second round: a name seen before is a loop, one outside is the edge.
        if !seen.insert(name.clone()) || !name.is_at_or_below(zone.apex()) {
            return Outcome::ChainEnds;
        }
        if seen.len() > ALIASES_MAX && is_alias(zone, &name, qtype) {
            return Outcome::ChainEnds;
        }
        match step(zone, &name, qtype, lookup) {
            Step::End(outcome) => return outcome,
            Step::Alias(target) => name = target,
        }
    }
}

/// Whether a name leads to another one.
fn is_alias(zone: &Zone, name: &Name, qtype: Rtype) -> bool {
    let mut scratch = Lookup {
        outcome: Outcome::Answer,
        rcode: 0,
        aa: true,
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
    };
    matches!(step(zone, name, qtype, &mut scratch), Step::Alias(_) | Step::End(Outcome::TooLong))
}

/// RFC 1034 §4.3.2 step 3 for one name: walks down from the apex, label by label.
fn step(zone: &Zone, name: &Name, qtype: Rtype, lookup: &mut Lookup) -> Step {
    let mut closest = zone.apex().clone();
    for above in path(zone.apex(), name) {
        if !zone.exists(&above) {
            return wildcard(zone, &closest, name, qtype, lookup); // step 3c
        }
        let node = zone.node(&above);
        let is_name = above == *name;
        // Step 3b: a cut, unless DS is asked at the cut itself, which is the parent's.
        if above != *zone.apex()
            && let Some(ns) = node.and_then(|node| node.rrset(Rtype::NS))
            && !(is_name && qtype == Rtype::DS)
        {
            refer(zone, &above, ns, lookup);
            return Step::End(Outcome::Referral);
        }
        // RFC 6672 §3.2: a DNAME stands for the names below it, not for its own.
        if !is_name && let Some(dname) = node.and_then(|node| node.rrset(Rtype::DNAME)) {
            return substitute(zone, &above, dname, name, qtype, lookup);
        }
        closest = above;
    }
    match zone.node(name) {
        Some(node) => answer_from(&node.rrsets, name, qtype, lookup), // step 3a
        None => Step::End(Outcome::NoData),                           // an empty non-terminal
    }
}

/// The names from the apex down to `name`, both included.
fn path(apex: &Name, name: &Name) -> Vec<Name> {
    let mut path = vec![name.clone()];
    while let Some(above) = path.last().filter(|last| *last != apex).and_then(Name::parent) {
        path.push(above);
    }
    path.reverse();
    path
}

/// RFC 4592 §3.3: the wildcard below the closest encloser answers, if it exists.
fn wildcard(zone: &Zone, closest: &Name, name: &Name, qtype: Rtype, lookup: &mut Lookup) -> Step {
    let source = closest.child(b"*").ok().filter(|source| zone.exists(source));
    match source.map(|source| zone.node(&source)) {
        Some(Some(node)) => answer_from(&node.rrsets, name, qtype, lookup),
        Some(None) => Step::End(Outcome::NoData), // RFC 4592 §4.9: the wildcard is an empty non-terminal
        None => Step::End(Outcome::NxDomain),
    }
}

/// Answers from the RRsets of the name, or of the wildcard that stands for it.
fn answer_from(rrsets: &[RrSet], name: &Name, qtype: Rtype, lookup: &mut Lookup) -> Step {
    let chosen = match qtype {
        Rtype::ANY => rrsets.first(),
        _ => rrsets.iter().find(|rrset| rrset.rtype == qtype),
    };
    if let Some(rrset) = chosen {
        lookup.answer.push(Answered::new(name, rrset));
        return Step::End(Outcome::Answer);
    }
    match rrsets.iter().find(|rrset| rrset.rtype == Rtype::CNAME) {
        Some(cname) => {
            lookup.answer.push(Answered::new(name, cname));
            match cname.rdata.first().and_then(|rdata| Name::from_wire(rdata).ok()) {
                Some(target) => Step::Alias(target),
                None => Step::End(Outcome::ChainEnds), // not reached: CNAME data is checked when it is read
            }
        }
        None => Step::End(Outcome::NoData),
    }
}

/// RFC 6672 §2.2: answers the DNAME and the CNAME that it makes for the name.
///
/// As in NSD and Knot: a DNAME that redirected an earlier name of the chain is not answered twice, and the CNAME
/// that was made answers a question for CNAME.
fn substitute(zone: &Zone, owner: &Name, dname: &RrSet, name: &Name, qtype: Rtype, lookup: &mut Lookup) -> Step {
    let owner_as_written = zone.entry(owner).map_or(owner, |(written, _)| written);
    let answered = Answered::new(owner_as_written, dname);
    if !lookup.answer.contains(&answered) {
        lookup.answer.push(answered);
    }
    let target = dname.rdata.first().and_then(|rdata| Name::from_wire(rdata).ok());
    let kept = name.label_count() - owner.label_count(); // the name lies below the owner
    let labels: Vec<&[u8]> = name.labels().take(kept).chain(target.iter().flat_map(Name::labels)).collect();
    match Name::from_labels(&labels) {
        Err(_) => Step::End(Outcome::TooLong),
        Ok(target) => {
            lookup.answer.push(Answered {
                owner: name.clone(),
                rtype: Rtype::CNAME,
                ttl: dname.ttl, // RFC 6672 §3.1
                rdatas: vec![target.wire().into()],
            });
            if qtype == Rtype::CNAME {
                Step::End(Outcome::Answer)
            } else {
                Step::Alias(target)
            }
        }
    }
}

/// A referral: the cut's NS records and the addresses of those servers that the zone holds.
fn refer(zone: &Zone, cut: &Name, ns: &RrSet, lookup: &mut Lookup) {
    let owner = zone.entry(cut).map_or(cut, |(written, _)| written);
    lookup.authority.push(Answered::new(owner, ns));
    let mut seen = BTreeSet::new();
    for rdata in &ns.rdata {
        let entry = Name::from_wire(rdata).ok().and_then(|server| zone.entry(&server));
        let Some((server, node)) = entry.filter(|(server, _)| seen.insert(server.clone())) else {
            continue;
        };
        let addresses = [Rtype::A, Rtype::AAAA].into_iter().filter_map(|rtype| node.rrset(rtype));
        lookup.additional.extend(addresses.map(|rrset| Answered::new(server, rrset)));
    }
}
