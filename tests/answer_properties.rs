//! Properties of `respond` over randomly made zones: decoded, it says what the reference look-up says with
//! the steered data laid over; it fits its size or sets TC; no bytes make it panic or answer an answer.

mod answer_support;

use answer_support::*;
use pointsman::answer::{Snapshot, SteeredInput, Transport, fuzz_respond};
use pointsman::model::{Answer, Name, Rtype, rcode};
use pointsman::zone::{Answered, Lookup, Outcome, RrSet, Zone, ZoneSet, lookup};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Random numbers from a seed (splitmix64): one number shrinks to one world.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const APEXES: [&str; 4] = ["example.", "a.example.", "b.a.example.", "x.c.example."];

/// A name at or below `apex`, from few labels, so that names meet.
fn some_name(dice: &mut Dice, apex: &str) -> String {
    let mut name = apex.to_owned();
    for _ in 0..dice.below(4) {
        let label = dice.pick(&["a", "b", "c", "x", "*", "A", "long-label-to-fill-the-message", "s1"]);
        name = format!("{label}.{name}");
    }
    name
}

/// A random zone; none when the dice made one that the reader refuses.
fn some_zone(dice: &mut Dice, apex: &str, children: &[&str]) -> Option<Arc<Zone>> {
    let mut text = format!(
        "$TTL 300\n{apex} 900 SOA ns.{apex} host.{apex} 1 2 3 4 {}\n{apex} NS ns.{apex}\n",
        dice.below(2000)
    );
    if dice.one_in(12) {
        text = text.replace(&format!("ns.{apex}"), "ns.other.test.");
        let target = some_name(dice, "example.");
        text.push_str(&format!("{apex} DNAME {target}\n"));
        return try_zone(apex, &text).ok();
    }
    text.push_str(&format!("ns.{apex} A 192.0.2.53\n"));
    let mut taken: BTreeSet<String> = [apex.to_lowercase()].into();
    let mut hidden: Vec<String> = Vec::new();
    for child in children.iter().filter(|child| **child != apex && child.ends_with(apex)) {
        // A parent either delegates to the child or knows nothing of it; its own data below the child's apex is out of reach.
        if dice.one_in(2) && Name::parse(child).unwrap().parent() == Some(Name::parse(apex).unwrap()) {
            text.push_str(&format!("{child} NS ns.{child}\nns.{child} A 192.0.2.3\n{child} NS ns.{apex}\n"));
        }
    }
    for _ in 0..dice.below(14) {
        let name = some_name(dice, apex);
        let below_child = |child: &str| child != apex && child.ends_with(apex) && name.to_lowercase().ends_with(child);
        if children.iter().any(|child| below_child(child)) {
            continue;
        }
        if !taken.insert(name.to_lowercase()) || name.contains("s1.") {
            continue;
        }
        match dice.below(10) {
            0..=2 => {
                let anchor = dice.pick(&["example.", "example.", "other.test."]);
                let below = if dice.one_in(3) { anchor } else { apex };
                text.push_str(&format!("{name} 60 CNAME {}\n", some_name(dice, below)));
            }
            3 if !name.starts_with('*') => {
                text.push_str(&format!("{name} 70 DNAME {}\n", some_name(dice, apex)));
                hidden.push(name);
            }
            4 if !name.starts_with('*') && !name.contains("*.") => {
                text.push_str(&format!("{name} NS ns.{apex}\n{name} NS ns.{name}\nns.{name} 30 A 192.0.2.1\n"));
                if dice.one_in(2) {
                    text.push_str(&format!(
                        "{name} NS ns.other.test.\nns.{name} AAAA 2001:db8::1\n{name} DS 1 8 2 {}\n",
                        "ab".repeat(32)
                    ));
                }
            }
            _ => {
                for _ in 0..1 + dice.below(3) {
                    let target = some_name(dice, apex);
                    let record = match dice.below(6) {
                        0 => format!("AAAA 2001:db8::{}", dice.below(3)),
                        1 => format!("MX 10 {target}"),
                        2 => format!("TXT \"{}\"", "t".repeat(dice.below(250))),
                        3 => format!("SRV 1 2 3 {target}"),
                        _ => format!("A 192.0.2.{}", dice.below(3)),
                    };
                    text.push_str(&format!("{name} {record}\n"));
                    for number in 0..dice.below(40) * dice.below(2) * dice.below(2) {
                        text.push_str(&format!("{name} TXT \"number {number} of many that fill the answer\"\n"));
                    }
                }
            }
        }
    }
    try_zone(apex, &text).ok()
}

/// What a steered name may answer.
fn some_answer(dice: &mut Dice, apex: &str) -> Answer {
    match dice.below(6) {
        0 => Answer::Host(Name::parse(&some_name(dice, apex)).unwrap()),
        1 => Answer::Servfail,
        _ => {
            let v4 = (0..dice.below(4)).map(|n| format!("198.51.100.{n}"));
            let v6 = (0..dice.below(3)).map(|n| format!("2001:db8:5::{n}"));
            let all: Vec<String> = v4.chain(v6).collect();
            addresses(&all.iter().map(String::as_str).collect::<Vec<_>>())
        }
    }
}

/// Zones, steered names, and the zones with the steered data laid over.
struct World {
    zones: Vec<Arc<Zone>>,
    steered: BTreeMap<Name, SteeredInput>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let mut zones = Vec::new();
        let apexes: Vec<&str> = APEXES.into_iter().filter(|apex| *apex == "example." || dice.one_in(2)).collect();
        for apex in &apexes {
            zones.push(
                (0..200)
                    .find_map(|_| some_zone(&mut dice, apex, &apexes))
                    .expect("one of many zones is sound"),
            );
        }
        let mut world = World {
            zones,
            steered: BTreeMap::new(),
        };
        for _ in 0..dice.below(6) {
            world.steer(&mut dice);
        }
        world
    }

    /// Adds a steered name where one may be.
    fn steer(&mut self, dice: &mut Dice) {
        let name = Name::parse(&format!("s1.{}", some_name(dice, "example."))).unwrap().to_lowercase();
        let name = if dice.one_in(6) {
            Name::parse(dice.pick(&APEXES)).unwrap()
        } else {
            name
        };
        let set = ZoneSet::new(self.zones.iter().cloned());
        let Some(zone) = set.closest(&name) else { return };
        let seen = lookup(&set, &name, Rtype::A);
        let is_redirected = seen.answer.iter().any(|set| matches!(set.rtype, Rtype::DNAME));
        let taken = zone.node(&name).is_some_and(|node| {
            node.rrsets
                .iter()
                .any(|set| matches!(set.rtype, Rtype::A | Rtype::AAAA | Rtype::CNAME))
        });
        if name.is_wildcard() || seen.outcome == Outcome::Referral || is_redirected || taken {
            return;
        }
        let mut answer = some_answer(dice, &zone.apex().to_string());
        let alone = zone.node(&name).is_none();
        if matches!(answer, Answer::Host(_)) && !alone {
            answer = addresses(&["198.51.100.9"]);
        }
        let regions = [("iad", some_answer(dice, "example.")), ("fra", answer.clone())];
        let ttl = 1 + dice.below(100) as u32;
        self.steered
            .insert(name.clone(), steered(&name.to_string(), ttl, &regions, Some("fra"), answer));
    }

    fn snapshot(&self, seed: u64) -> Snapshot {
        Snapshot::build(&self.zones, &self.steered.values().cloned().collect::<Vec<_>>(), seed)
    }

    /// For the message of a failed test.
    fn show(&self) -> String {
        let zones = self.zones.iter().map(|zone| {
            let nodes = zone
                .nodes()
                .map(|(name, node)| format!("  {name} {:.200}\n", format!("{:?}", node.rrsets)))
                .collect::<String>();
            format!("zone {}\n{nodes}", zone.apex())
        });
        let steered = self
            .steered
            .values()
            .map(|input| format!("steered {} {:?}\n", input.name, input.decision.answer));
        zones.chain(steered).collect()
    }

    /// The zones as the reference sees them.
    fn overlaid(&self) -> ZoneSet {
        let set = ZoneSet::new(self.zones.iter().cloned());
        let mut zones: BTreeMap<Name, Zone> = self.zones.iter().map(|zone| (zone.apex().clone(), (**zone).clone())).collect();
        for (name, input) in &self.steered {
            let zone = zones.get_mut(set.closest(name).unwrap().apex()).unwrap();
            *zone = zone.with_rrsets(name, laid(&input.decision.answer, input.ttl));
        }
        ZoneSet::new(zones.into_values().map(Arc::new))
    }

    /// What `respond` should say.
    fn expected(&self, reference: &ZoneSet, qname: &Name, qtype: Rtype) -> Lookup {
        let mut expected = lookup(reference, qname, qtype);
        let last = expected.answer.iter().rev().find(|set| set.rtype == Rtype::CNAME);
        let last = last
            .filter(|_| !matches!(qtype, Rtype::CNAME | Rtype::ANY))
            .map_or(qname.clone(), |set| Name::from_wire(&set.rdatas[0]).unwrap());
        let same_zone = reference.zone_of(qname, qtype).map(Zone::apex) == reference.closest(&last).map(Zone::apex);
        let Some(input) = self.steered.get(&last).filter(|_| same_zone) else {
            return expected;
        };
        let is_decided = matches!(qtype, Rtype::A | Rtype::AAAA | Rtype::CNAME | Rtype::ANY);
        if input.decision.answer == Answer::Servfail && is_decided && expected.outcome != Outcome::ChainEnds {
            expected.rcode = rcode::SERVFAIL;
            expected.aa = false;
            expected.answer.clear();
            expected.authority.clear();
        }
        if expected.outcome == Outcome::NoData {
            for soa in &mut expected.authority {
                soa.ttl = soa.ttl.min(input.ttl); // a negative answer at a steered name lives no longer than the name
            }
        }
        expected
    }
}

/// An answer as the RRsets it stands for.
fn laid(answer: &Answer, ttl: u32) -> Vec<RrSet> {
    match answer {
        Answer::Addresses { v4, v6 } => vec![
            RrSet::new(Rtype::A, ttl, v4.iter().map(|ip| ip.octets())),
            RrSet::new(Rtype::AAAA, ttl, v6.iter().map(|ip| ip.octets())),
        ],
        Answer::Host(name) => vec![RrSet::new(Rtype::CNAME, ttl, [name.wire()])],
        Answer::Servfail => Vec::new(),
    }
}

/// The records of reference RRsets as a decoder gives them.
fn records(sets: &[Answered]) -> Vec<Record> {
    let record = |set: &Answered, rdata: &[u8]| Record {
        owner: set.owner.to_lowercase(),
        rtype: set.rtype,
        ttl: set.ttl,
        rdata: plain_rdata(set.rtype, rdata),
    };
    sets.iter()
        .flat_map(|set| set.rdatas.iter().map(move |rdata| record(set, rdata)))
        .collect()
}

/// Asks one question over both transports and compares.
fn check(world: &World, snapshot: &Snapshot, reference: &ZoneSet, qname: &Name, qtype: Rtype, edns: Edns) {
    let packet = query(qname, qtype.0, edns);
    let expected = world.expected(reference, qname, qtype);
    let whole = ask(snapshot, &packet, Transport::Tcp);
    let place = || format!("{qname} {qtype}\n{}", world.show());
    assert_eq!(whole.rcode, u16::from(expected.rcode), "{}", place());
    assert_eq!(whole.aa(), expected.aa, "{}", place());
    assert!(!whole.tc(), "{}", place());
    assert_eq!(whole.question, [qname.wire(), &qtype.0.to_be_bytes(), &[0, 1]].concat());
    assert_eq!(whole.edns.is_some(), edns.is_some());
    assert_eq!(rrsets(&whole.answer), rrsets(&records(&expected.answer)), "{}", place());
    assert_eq!(sorted(&whole.authority), sorted(&records(&expected.authority)), "{}", place());
    assert_eq!(sorted(&whole.additional), sorted(&records(&expected.additional)), "{}", place());

    let small = ask(snapshot, &packet, Transport::Udp);
    let limit = edns.map_or(512, |(size, _)| usize::from(size).clamp(512, 1232));
    assert!(small.len <= limit, "{}: {} > {limit}", place(), small.len);
    if whole.len <= limit {
        assert_eq!(small, whole, "{}", place());
    } else {
        // Whole RRsets are left out, with TC unless it is glue of which some is there.
        let (few, all) = (rrsets(&small.answer), rrsets(&whole.answer));
        assert_eq!(few[..], all[..few.len()], "{}", place());
        let glue_only = small.answer == whole.answer && small.authority == whole.authority;
        assert!(small.tc() || glue_only, "{}", place());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn respond_says_what_the_reference_says(seed: u64) {
        let world = World::new(seed);
        let snapshot = world.snapshot(seed);
        let reference = world.overlaid();
        let mut dice = Dice(!seed);
        let types = [Rtype::A, Rtype::AAAA, Rtype::TXT, Rtype::MX, Rtype::SRV, Rtype::CNAME, Rtype::DNAME, Rtype::NS, Rtype::DS, Rtype::SOA, Rtype::ANY, Rtype(999)];
        let mut names: Vec<Name> = (0..40).map(|_| Name::parse(&some_name(&mut dice, "example.")).unwrap()).collect();
        names.extend(world.zones.iter().flat_map(|zone| zone.nodes().map(|(name, _)| name.clone()).collect::<Vec<_>>()));
        names.extend(world.steered.keys().cloned());
        names.push(Name::root());
        for name in &names {
            let qtype = types[dice.below(types.len())];
            let edns = [None, Some((0, false)), Some((512, true)), Some((1000, false)), Some((4096, true))][dice.below(5)];
            check(&world, &snapshot, &reference, name, qtype, edns);
            check(&world, &snapshot, &reference, name, Rtype::A, None);
            if let Ok(below) = name.child(b"q") {
                check(&world, &snapshot, &reference, &below, qtype, edns);
            }
        }
    }

    #[test]
    fn with_equals_a_fresh_build(seed: u64) {
        let mut world = World::new(seed);
        let mut snapshot = world.snapshot(seed);
        let mut dice = Dice(seed ^ 0x55);
        for _ in 0..5 {
            let keys: Vec<Name> = world.steered.keys().cloned().collect();
            let Some(name) = keys.get(dice.below(keys.len().max(1))).cloned() else { break };
            let old = &world.steered[&name];
            let regions: Vec<(&str, Answer)> = old.regions.iter().map(|(region, answer)| (region.as_str(), answer.clone())).collect();
            let mut answer = if dice.one_in(2) { regions[0].1.clone() } else { some_answer(&mut dice, "example.") };
            if matches!(answer, Answer::Host(_)) {
                answer = Answer::Servfail;
            }
            let changed = steered(&name.to_string(), old.ttl, &regions, Some(regions[dice.below(2)].0), answer);
            snapshot = snapshot.with(std::slice::from_ref(&changed));
            world.steered.insert(name, changed);
            let fresh = world.snapshot(seed);
            prop_assert_eq!(snapshot.rrset_count(), fresh.rrset_count());
            for key in &keys {
                for qtype in [Rtype::A, Rtype::AAAA, Rtype::CNAME, Rtype::ANY, Rtype::TXT] {
                    let packet = query(key, qtype.0, None);
                    prop_assert_eq!(ask_raw(&snapshot, &packet, Transport::Tcp), ask_raw(&fresh, &packet, Transport::Tcp));
                }
            }
        }
    }

    #[test]
    fn no_packet_panics_or_makes_an_answer_to_an_answer(seed: u64, random in prop::collection::vec(any::<u8>(), 0..80)) {
        let world = World::new(seed % 64);
        let snapshot = world.snapshot(seed);
        fuzz_respond(&snapshot, &random);
        let mut dice = Dice(seed);
        for _ in 0..200 {
            let name = Name::parse(&some_name(&mut dice, "example.")).unwrap();
            let mut packet = query(&name, [1, 28, 255, 5, 43, 252][dice.below(6)], if dice.one_in(2) { Some((1232, true)) } else { None });
            for _ in 0..dice.below(4) {
                let at = dice.below(packet.len());
                packet[at] = dice.next() as u8;
            }
            if dice.one_in(4) {
                packet.truncate(dice.below(packet.len() + 1));
            }
            if dice.one_in(4) {
                packet.extend_from_slice(&random);
            }
            fuzz_respond(&snapshot, &packet);
        }
    }
}
