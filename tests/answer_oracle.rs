//! The oracle: a slow server on hickory's own message types, made from the zones' records by the plainest reading of the
//! RFCs, which shares no code with the answer path: no index, no pieces, no look-up of ours. Whatever is asked of
//! random worlds, the message that `respond` writes and the one that hickory encodes must say the same.

mod answer_support;
#[path = "answer_support/worlds.rs"]
mod worlds;

use answer_support::*;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use pointsman::answer::Transport;
use pointsman::model::{self, Answer};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use worlds::{Dice, World, some_name};

/// Most aliases that are followed.
const ALIASES_MAX: usize = 5;

/// A name of ours as hickory's.
fn name(ours: &model::Name) -> Name {
    Name::read(&mut BinDecoder::new(ours.wire())).unwrap().to_lowercase()
}

/// Labels of a name; hickory's own count leaves out a `*` in front.
fn count(name: &Name) -> usize {
    name.iter().count()
}

/// A record of ours as hickory's.
fn record(owner: &Name, rtype: u16, ttl: u32, rdata: &[u8]) -> Record {
    let mut wire = vec![0];
    wire.extend_from_slice(&rtype.to_be_bytes());
    wire.extend_from_slice(&[0, 1]);
    wire.extend_from_slice(&ttl.to_be_bytes());
    wire.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
    wire.extend_from_slice(rdata);
    with_owner(&Record::read(&mut BinDecoder::new(&wire)).unwrap(), owner)
}

/// The record with another owner.
fn with_owner(record: &Record, owner: &Name) -> Record {
    let mut record = record.clone();
    record.name = owner.clone();
    record
}

/// A zone: its records by name, and its steered names.
struct OracleZone {
    apex: Name,
    nodes: BTreeMap<Name, Vec<Record>>,
    steered: BTreeMap<Name, (Answer, u32)>,
}

/// What a name leads to in a zone.
enum Found {
    Node(Name),
    Cut(Name),
    Dname(Name),
    Nothing,
}

impl OracleZone {
    /// A name exists when it or anything below it has records (RFC 4592 §2.2.2).
    fn exists(&self, name: &Name) -> bool {
        self.nodes.keys().any(|node| name.zone_of(node))
    }

    /// The records of a type at a name.
    fn set(&self, name: &Name, rtype: RecordType) -> Vec<Record> {
        let records = self.nodes.get(name).into_iter().flatten();
        records.filter(|record| record.record_type() == rtype).cloned().collect()
    }

    /// From the apex down, label by label (RFC 1034 §4.3.2 step 3).
    fn find(&self, name: &Name, qtype: RecordType) -> Found {
        for labels in count(&self.apex)..=count(name) {
            let here = name.trim_to(labels);
            let is_end = here == *name;
            if !self.exists(&here) {
                let wildcard = Name::from_ascii("*").unwrap().append_domain(&here.base_name()).unwrap();
                return if self.exists(&wildcard) {
                    Found::Node(wildcard)
                } else {
                    Found::Nothing
                };
            }
            let wants_parent = is_end && qtype == RecordType::DS;
            if here != self.apex && !self.set(&here, RecordType::NS).is_empty() && !wants_parent {
                return Found::Cut(here);
            }
            if !is_end && !self.set(&here, RecordType::from(39)).is_empty() {
                return Found::Dname(here);
            }
        }
        Found::Node(name.clone())
    }

    /// The SOA of negative answers (RFC 2308 §3).
    fn soa(&self, ttl_max: u32) -> Record {
        let mut soa = self.set(&self.apex, RecordType::SOA).remove(0);
        let RData::SOA(data) = &soa.data else { panic!("no SOA") };
        soa.ttl = soa.ttl.min(data.minimum).min(ttl_max);
        soa
    }

    /// The addresses of a name server as this zone knows them.
    fn glue(&self, server: &Name) -> Vec<Record> {
        if !self.apex.zone_of(server) || self.steered.contains_key(server) {
            return Vec::new();
        }
        let mut from = server.clone();
        if !self.exists(server) {
            let mut encloser = server.base_name();
            while !self.exists(&encloser) {
                encloser = encloser.base_name();
            }
            from = Name::from_ascii("*").unwrap().append_domain(&encloser).unwrap();
        }
        let sets = [RecordType::A, RecordType::AAAA].map(|rtype| self.set(&from, rtype));
        sets.concat().iter().map(|record| with_owner(record, server)).collect()
    }
}

/// A response on its way.
struct Draft<'o> {
    zone: &'o OracleZone,
    qtype: RecordType,
    chain: Vec<Name>,
    message: Message,
}

impl Draft<'_> {
    /// Takes one step from a name; the next name, if there is one.
    fn step(&mut self, name: &Name) -> Option<Name> {
        let zone = self.zone;
        match zone.find(name, self.qtype) {
            Found::Cut(cut) => {
                if self.chain.len() == 1 {
                    self.message.metadata.authoritative = false;
                }
                let servers = zone.set(&cut, RecordType::NS);
                let names: BTreeSet<Name> = servers.iter().filter_map(target).collect();
                self.message.authorities = servers;
                self.message.additionals = names.iter().flat_map(|server| zone.glue(server)).collect();
                None
            }
            Found::Dname(owner) => self.dname(name, &owner),
            Found::Nothing => {
                self.message.metadata.response_code = ResponseCode::NXDomain;
                self.message.authorities = vec![zone.soa(u32::MAX)];
                None
            }
            Found::Node(node) => match zone.steered.get(&node) {
                Some((answer, ttl)) => self.steered(name, &node, answer, *ttl),
                None => self.plain(name, &node, u32::MAX),
            },
        }
    }

    /// Answers from the zone file.
    fn plain(&mut self, name: &Name, node: &Name, negative_ttl_max: u32) -> Option<Name> {
        let alias = self.zone.set(node, RecordType::CNAME);
        let is_alias = !alias.is_empty() && !matches!(self.qtype, RecordType::CNAME | RecordType::ANY);
        if is_alias {
            return self.follow(with_owner(&alias[0], name));
        }
        let rtype = match self.qtype {
            RecordType::ANY => self.lowest(node)?,
            rtype => rtype,
        };
        let set = self.zone.set(node, rtype);
        if set.is_empty() {
            self.message.authorities = vec![self.zone.soa(negative_ttl_max)];
        }
        self.message.answers.extend(set.iter().map(|record| with_owner(record, name)));
        None
    }

    /// The lowest type at a node: what ANY is answered with (RFC 8482 §4.1). Without any there is only the SOA.
    fn lowest(&mut self, node: &Name) -> Option<RecordType> {
        let types = self.zone.nodes.get(node).into_iter().flatten();
        let lowest = types.map(|record| u16::from(record.record_type())).min();
        if lowest.is_none() {
            let ttl_max = self.zone.steered.get(node).map_or(u32::MAX, |(_, ttl)| *ttl);
            self.message.authorities = vec![self.zone.soa(ttl_max)];
        }
        lowest.map(RecordType::from)
    }

    /// Answers as decided.
    fn steered(&mut self, name: &Name, node: &Name, answer: &Answer, ttl: u32) -> Option<Name> {
        let is = |rtype| self.qtype == rtype;
        let is_decided = is(RecordType::A) || is(RecordType::AAAA) || is(RecordType::CNAME) || is(RecordType::ANY);
        let of = |rtype: u16, data: Vec<Vec<u8>>| data.iter().map(|data| record(name, rtype, ttl, data)).collect::<Vec<_>>();
        match answer {
            Answer::Servfail if is_decided => {
                self.message.answers.clear();
                self.message.metadata.authoritative = false;
                self.message.metadata.response_code = ResponseCode::ServFail;
                None
            }
            Answer::Servfail => self.plain(name, node, ttl),
            Answer::Host(host) => {
                let alias = record(name, 5, ttl, host.wire());
                if is(RecordType::CNAME) || is(RecordType::ANY) {
                    self.message.answers.push(alias);
                    return None;
                }
                self.follow(alias)
            }
            Answer::Addresses { v4, v6 } => {
                let v4 = of(1, v4.iter().map(|ip| ip.octets().to_vec()).collect());
                let v6 = of(28, v6.iter().map(|ip| ip.octets().to_vec()).collect());
                let lowest = self
                    .zone
                    .nodes
                    .get(node)
                    .into_iter()
                    .flatten()
                    .map(|record| u16::from(record.record_type()))
                    .min();
                let set = match self.qtype {
                    RecordType::A => v4,
                    RecordType::AAAA => v6,
                    RecordType::ANY if !v4.is_empty() => v4,
                    RecordType::ANY if lowest.is_none_or(|lowest| lowest > 28) => v6,
                    _ => Vec::new(),
                };
                if set.is_empty() {
                    return self.plain(name, node, ttl);
                }
                self.message.answers.extend(set);
                None
            }
        }
    }

    /// Adds an alias and goes on with its target, if it is new and in the zone.
    fn follow(&mut self, alias: Record) -> Option<Name> {
        if self.chain.len() > ALIASES_MAX {
            return None;
        }
        let next = target(&alias)?;
        self.message.answers.push(alias);
        if self.chain.contains(&next) {
            return None;
        }
        self.chain.push(next.clone());
        self.zone.apex.zone_of(&next).then_some(next)
    }

    /// Redirects a name (RFC 6672 §3.2).
    fn dname(&mut self, name: &Name, owner: &Name) -> Option<Name> {
        if self.chain.len() > ALIASES_MAX {
            return None;
        }
        let dname = self.zone.set(owner, RecordType::from(39)).remove(0);
        if !self.message.answers.contains(&dname) {
            self.message.answers.push(dname.clone());
        }
        let kept = count(name) - count(owner);
        let labels: Vec<&[u8]> = name.iter().take(kept).collect();
        let below = Name::from_labels(labels).unwrap();
        let Ok(mut made) = below.append_domain(&target(&dname)?) else {
            self.message.metadata.response_code = ResponseCode::YXDomain;
            return None;
        };
        made.set_fqdn(true);
        let alias = Record::from_rdata(name.clone(), dname.ttl, RData::CNAME(hickory_proto::rr::rdata::CNAME(made)));
        if self.qtype == RecordType::CNAME {
            self.message.answers.push(alias);
            return None;
        }
        self.follow(alias)
    }
}

/// The name that a record leads to. DNAME is not among hickory's types: its data is a name.
fn target(record: &Record) -> Option<Name> {
    match &record.data {
        RData::CNAME(name) => Some(name.0.to_lowercase()),
        RData::NS(name) => Some(name.0.to_lowercase()),
        RData::Unknown { rdata, .. } => Some(Name::read(&mut BinDecoder::new(&rdata.anything)).ok()?.to_lowercase()),
        _ => None,
    }
}

/// Every zone.
struct Oracle(Vec<OracleZone>);

impl Oracle {
    /// Of a world.
    fn new(world: &World) -> Oracle {
        let mut zones: Vec<OracleZone> = Vec::new();
        for zone in &world.zones {
            let mut nodes: BTreeMap<Name, Vec<Record>> = BTreeMap::new();
            for (owner, node) in zone.nodes() {
                let owner = name(owner);
                for set in &node.rrsets {
                    for rdata in &set.rdata {
                        let entry = nodes.entry(owner.clone()).or_default();
                        entry.push(record(&owner, set.rtype.0, set.ttl, rdata));
                    }
                }
            }
            zones.push(OracleZone {
                apex: name(zone.apex()),
                nodes,
                steered: BTreeMap::new(),
            });
        }
        let mut oracle = Oracle(zones);
        for (steered, input) in &world.steered {
            let steered = name(steered);
            let apex = oracle.zone(&steered, false).unwrap().apex.clone();
            let zone = oracle.0.iter_mut().find(|zone| zone.apex == apex).unwrap();
            zone.nodes.entry(steered.clone()).or_default();
            zone.steered.insert(steered, (Answer::clone(&input.decision.answer), input.ttl));
        }
        oracle
    }

    /// The closest zone of a name; `above`: the one above it, if there is one.
    fn zone(&self, name: &Name, above: bool) -> Option<&OracleZone> {
        let mut zones: Vec<&OracleZone> = self.0.iter().filter(|zone| zone.apex.zone_of(name)).collect();
        zones.sort_by_key(|zone| count(&zone.apex));
        let closest = zones.pop()?;
        // DS is asked of the parent (RFC 4035 §3.1.4.1).
        if above && closest.apex == *name {
            zones.pop().or(Some(closest))
        } else {
            Some(closest)
        }
    }

    /// The response to a question, encoded by hickory and decoded again.
    fn respond(&self, qname: &Name, qtype: RecordType) -> Message {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.queries.push(Query::query(qname.clone(), qtype));
        let Some(zone) = self.zone(qname, qtype == RecordType::DS) else {
            message.metadata.response_code = ResponseCode::Refused;
            return message;
        };
        message.metadata.authoritative = true;
        let mut draft = Draft {
            zone,
            qtype,
            chain: vec![qname.clone()],
            message,
        };
        let mut next = Some(qname.clone());
        while let Some(name) = next {
            next = draft.step(&name);
        }
        Message::from_vec(&draft.message.to_vec().unwrap()).unwrap()
    }
}

/// Records as text without order.
fn sorted_text(records: &[Record]) -> Vec<String> {
    let mut text: Vec<String> = records.iter().map(|record| record.to_string().to_lowercase()).collect();
    text.sort();
    text
}

/// An answer section as RRsets in order, each without order.
fn chain_text(records: &[Record]) -> Vec<Vec<String>> {
    let same = |one: &Record, other: &Record| one.name == other.name && one.record_type() == other.record_type();
    records.chunk_by(same).map(sorted_text).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn respond_says_what_the_oracle_says(seed: u64) {
        let world = World::new(seed);
        let (snapshot, oracle) = (world.snapshot(seed), Oracle::new(&world));
        let mut dice = Dice(!seed);
        let mut names: Vec<model::Name> = (0..40).map(|_| model::Name::parse(&some_name(&mut dice, "example.")).unwrap()).collect();
        names.extend(world.zones.iter().flat_map(|zone| zone.nodes().map(|(name, _)| name.clone()).collect::<Vec<_>>()));
        names.extend(world.steered.keys().cloned());
        let below: Vec<model::Name> = names.iter().filter_map(|name| name.child(b"q").ok()).collect();
        names.extend(below);
        names.push(model::Name::root());
        let options: [&[(u16, &[u8])]; 5] = [&[], &[(10, b"clientck")], &[(3, b"")], &[(65_001, b"unknown"), (10, &[1; 24])], &[(12, &[0; 9]), (11, b"")]];
        for asked in &names {
            for qtype in [1_u16, 28, 16, 15, 33, 5, 39, 2, 43, 6, 255, 999] {
                if !dice.one_in(3) {
                    continue;
                }
                let packet = if dice.one_in(2) {
                    query(asked, qtype, None)
                } else {
                    let mut packet = query_options("x.", options[dice.below(options.len())]);
                    packet.splice(12..15, asked.wire().iter().copied());
                    let at = 12 + asked.wire().len();
                    packet[at..at + 2].copy_from_slice(&qtype.to_be_bytes());
                    packet
                };
                let (_, bytes) = ask_raw(&snapshot, &packet, Transport::Tcp).unwrap();
                let ours = Message::from_vec(&bytes).unwrap();
                let expected = oracle.respond(&name(asked), RecordType::from(qtype));
                let place = || format!("{asked} {qtype}\n{}", world.show());
                prop_assert_eq!(ours.metadata.response_code, expected.metadata.response_code, "{}", place());
                prop_assert_eq!(ours.metadata.authoritative, expected.metadata.authoritative, "{}", place());
                prop_assert_eq!(&ours.queries, &expected.queries);
                prop_assert_eq!(chain_text(&ours.answers), chain_text(&expected.answers), "{}", place());
                prop_assert_eq!(sorted_text(&ours.authorities), sorted_text(&expected.authorities), "{}", place());
                prop_assert_eq!(sorted_text(&ours.additionals), sorted_text(&expected.additionals), "{}", place());
                prop_assert_eq!(ours.edns.is_some(), packet[11] == 1);
            }
        }
    }
}
