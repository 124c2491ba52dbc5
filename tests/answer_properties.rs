//! Properties of `respond` over randomly made zones: decoded, it says what the reference look-up says with
//! the steered data laid over; it fits its size or sets TC; no bytes make it panic or answer an answer.

mod answer_support;
#[path = "answer_support/worlds.rs"]
mod worlds;

use answer_support::*;
use pointsman::answer::fuzz::fuzz_respond;
use pointsman::answer::{Snapshot, SteeredInput, Transport};
use pointsman::model::{Answer, Name, Rtype, rcode};
use pointsman::zone::{Answered, Lookup, Outcome, RrSet, Zone, ZoneSet, lookup};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use worlds::{Dice, World, some_answer, some_name};

/// What the reference look-up says of a world.
trait Reference {
    /// The zones as the reference sees them.
    fn overlaid(&self) -> ZoneSet;

    /// What `respond` should say.
    fn expected(&self, reference: &ZoneSet, qname: &Name, qtype: Rtype) -> Lookup;
}

impl Reference for World {
    fn overlaid(&self) -> ZoneSet {
        let set = ZoneSet::new(self.zones.iter().cloned());
        let mut zones: BTreeMap<Name, Zone> = self.zones.iter().map(|zone| (zone.apex().clone(), (**zone).clone())).collect();
        for (name, input) in &self.steered {
            let zone = zones.get_mut(set.closest(name).unwrap().apex()).unwrap();
            *zone = zone.with_rrsets(name, laid(&input.decision.answer, input.ttl));
        }
        ZoneSet::new(zones.into_values().map(Arc::new))
    }

    fn expected(&self, reference: &ZoneSet, qname: &Name, qtype: Rtype) -> Lookup {
        let mut expected = lookup(reference, qname, qtype);
        // A question for CNAME ends at the first one; one for ANY goes on only where a DNAME made it.
        let is_made = |cname: &Answered| {
            let mut dnames = expected.answer.iter().filter(|set| set.rtype == Rtype::DNAME);
            dnames.any(|dname| cname.owner.is_below(&dname.owner))
        };
        let is_followed = |set: &&Answered| match qtype {
            Rtype::CNAME => false,
            Rtype::ANY => set.rtype == Rtype::CNAME && is_made(set),
            _ => set.rtype == Rtype::CNAME,
        };
        let last = expected.answer.iter().rev().find(is_followed);
        let last = last.map_or(qname.clone(), |set| Name::from_wire(&set.rdatas[0]).unwrap());
        let same_zone = reference.zone_of(qname, qtype).map(Zone::apex) == reference.closest(&last).map(Zone::apex);
        let Some(input) = self.steered.get(&last).filter(|_| same_zone) else {
            return expected;
        };
        let is_decided = matches!(qtype, Rtype::A | Rtype::AAAA | Rtype::CNAME | Rtype::ANY);
        if *input.decision.answer == Answer::Servfail && is_decided && expected.outcome != Outcome::ChainEnds {
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

/// Questions for ANY go on past a DNAME, and end at any other alias.
#[test]
fn any_past_a_dname_meets_a_steered_name_without_an_answer() {
    let text = "$TTL 300\n@ SOA ns host 1 2 3 4 300\n@ NS ns\nns A 192.0.2.1\ndn DNAME under\nx.under TXT \"beside\"\nwww CNAME x.under\n";
    let zones = vec![zone("example.", text)];
    let name = |text: &str| Name::parse(text).unwrap();
    let region = [("iad", addresses(&["192.0.2.10"])), ("fra", addresses(&["192.0.2.20"]))];
    let input = steered("x.under.example.", 30, &region, None, Answer::Servfail);
    let world = World {
        zones,
        steered: BTreeMap::from([(name("x.under.example."), input)]),
    };
    let (snapshot, reference) = (world.snapshot(1), world.overlaid());
    for asked in ["x.dn.example.", "www.example.", "x.under.example."] {
        for qtype in [Rtype::ANY, Rtype::A, Rtype::CNAME, Rtype::TXT] {
            check(&world, &snapshot, &reference, &name(asked), qtype, None);
        }
    }
    let past = ask(&snapshot, &query(&name("x.dn.example."), Rtype::ANY.0, None), Transport::Udp);
    assert_eq!(past.rcode, u16::from(rcode::SERVFAIL));
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
            let regions: Vec<(&str, Answer)> = old.regions.iter().map(|(region, answer)| (region.as_str(), Answer::clone(answer))).collect();
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

    /// Many decisions at once, in whatever order and with repeats, come to the same as one after the other; of one name the last counts.
    #[test]
    fn decisions_at_once_are_decisions_one_after_the_other(
        changes in prop::collection::vec((0..110_usize, any::<bool>()), 0..150),
        is_sorted in any::<bool>(),
    ) {
        let regions = [("iad", addresses(&["192.0.2.1"])), ("fra", addresses(&["192.0.2.2"]))];
        let app = |number: usize, is_fra: bool| {
            let (region, answer) = regions[usize::from(is_fra)].clone();
            steered(&format!("app{number:03}.example."), 30, &regions, Some(region), answer)
        };
        let all: Vec<SteeredInput> = (0..100).map(|number| app(number, false)).collect();
        let zone = zone("example.", "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.53\n");
        let before = Snapshot::build(&[zone], &all, 1);
        let mut changes = changes;
        if is_sorted {
            changes.sort();
        }
        // Some of no name that is steered here.
        let decisions: Vec<_> = changes.iter().map(|(number, is_fra)| app(*number, *is_fra).decision).collect();
        let at_once = before.decided(&decisions);
        let one_by_one = decisions.iter().fold(before.clone(), |snapshot, decision| snapshot.decided([decision]));
        for input in &all {
            let packet = query(&input.name, 1, None);
            let last = decisions.iter().rev().find(|decision| decision.name == input.name);
            let is_fra = last.is_some_and(|last| *last.answer == regions[1].1);
            prop_assert_eq!(ask_raw(&at_once, &packet, Transport::Tcp), ask_raw(&one_by_one, &packet, Transport::Tcp));
            let answer = ask(&at_once, &packet, Transport::Tcp).answer;
            prop_assert_eq!(answer[0].rdata[3], if is_fra { 2 } else { 1 }, "{}", input.name);
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
