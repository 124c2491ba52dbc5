//! Random worlds from a seed: zones with all that answers are made of, parents and children, steered names among them.

#![allow(dead_code)] // each test binary uses its part

use super::answer_support::*;
use pointsman::answer::{Snapshot, SteeredInput};
use pointsman::model::{Answer, Name, Rtype};
use pointsman::zone::{Outcome, Zone, ZoneSet, lookup};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Random numbers from a seed (splitmix64): one number shrinks to one world.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

pub const APEXES: [&str; 4] = ["example.", "a.example.", "b.a.example.", "x.c.example."];

/// A name at or below `apex`, from few labels, so that names meet.
pub fn some_name(dice: &mut Dice, apex: &str) -> String {
    let mut name = apex.to_owned();
    for _ in 0..dice.below(4) {
        let label = dice.pick(&["a", "b", "c", "x", "*", "A", "long-label-to-fill-the-message", "s1"]);
        name = format!("{label}.{name}");
    }
    name
}

/// A random zone; none when the dice made one that the reader refuses.
pub fn some_zone(dice: &mut Dice, apex: &str, children: &[&str]) -> Option<Arc<Zone>> {
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
pub fn some_answer(dice: &mut Dice, apex: &str) -> Answer {
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
pub struct World {
    pub zones: Vec<Arc<Zone>>,
    pub steered: BTreeMap<Name, SteeredInput>,
}

impl World {
    pub fn new(seed: u64) -> World {
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
    pub fn steer(&mut self, dice: &mut Dice) {
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

    pub fn snapshot(&self, seed: u64) -> Snapshot {
        Snapshot::build(&self.zones, &self.steered.values().cloned().collect::<Vec<_>>(), seed)
    }

    /// For the message of a failed test.
    pub fn show(&self) -> String {
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
}
