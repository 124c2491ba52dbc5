//! Tests of the encoding and the chain.

use super::*;
use crate::model::{
    Actor, Body, Evidence, Gate, GateWord, Move, MoveKind, Name, Observed, ProposalEnd, RegionEvidence, RegionHealth, RegionId,
};
use proptest::prelude::*;

/// Any text that JSON must escape somewhere.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{1,20}", any::<String>(), Just("\"\\\u{0}\u{7f}\u{2028}\n\t€𝄞/".to_owned())]
}

fn name() -> impl Strategy<Value = Name> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 1..10), 1..5)
        .prop_map(|labels| Name::from_labels(&labels).unwrap().to_lowercase())
}

fn region() -> impl Strategy<Value = RegionId> {
    "[a-z]{1,8}".prop_map(|text| RegionId::new(&text))
}

fn gate() -> impl Strategy<Value = Gate> {
    prop::sample::select(Gate::ALL.to_vec())
}

fn a_move() -> impl Strategy<Value = Move> {
    let kind = prop::sample::select(vec![MoveKind::Switchover, MoveKind::Failover, MoveKind::Failback]);
    (name(), region(), region(), kind).prop_map(|(name, from, to, kind)| Move { name, from, to, kind })
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let seen = (
        region(),
        prop::sample::select(RegionHealth::ALL.to_vec()),
        text(),
        any::<Option<u64>>(),
        0..3usize,
    )
        .prop_map(|(region, health, reason, age_ms, role)| {
            let observed = [Observed::Active, Observed::Passive, Observed::None][role];
            RegionEvidence {
                region,
                health,
                reason,
                age_ms,
                observed,
            }
        });
    let word = (gate(), any::<bool>(), text()).prop_map(|(gate, pass, message)| GateWord { gate, pass, message });
    (prop::collection::vec(seen, 0..3), prop::collection::vec(word, 0..4)).prop_map(|(regions, gates)| Evidence { regions, gates })
}

fn body() -> impl Strategy<Value = Body> {
    let gates = || prop::collection::vec(gate(), 0..3);
    let end = prop::sample::select(vec![
        ProposalEnd::Approved,
        ProposalEnd::Rejected,
        ProposalEnd::Recovered,
        ProposalEnd::Superseded,
    ]);
    prop_oneof![
        (text(), text()).prop_map(|(node, version)| Body::Started { node, version }),
        text().prop_map(|node| Body::Stopped { node }),
        (text(), any::<bool>()).prop_map(|(sha256, forced)| Body::ConfigAccepted { sha256, forced }),
        (name(), region(), prop::option::of(region())).prop_map(|(name, active, home)| Body::NameAdded { name, active, home }),
        name().prop_map(|name| Body::NameRetired { name }),
        (name(), region()).prop_map(|(name, region)| Body::RegionRemoved { name, region }),
        (a_move(), gates(), any::<Option<u64>>(), evidence()).prop_map(|(change, overridden, proposal, evidence)| Body::Switched {
            change,
            overridden,
            proposal,
            evidence
        }),
        (a_move(), any::<bool>(), evidence()).prop_map(|(change, left, evidence)| Body::Moved { change, left, evidence }),
        (
            region(),
            prop::collection::vec(a_move(), 0..3),
            prop::collection::vec(name(), 0..2),
            gates(),
            prop::collection::vec(name(), 0..2),
            evidence()
        )
            .prop_map(|(region, moves, stay, overridden, forced, evidence)| Body::Evacuated {
                region,
                moves,
                stay,
                overridden,
                forced,
                evidence
            }),
        region().prop_map(|region| Body::Restored { region }),
        (name(), region()).prop_map(|(name, region)| Body::Drained { name, region }),
        (name(), region()).prop_map(|(name, region)| Body::Undrained { name, region }),
        (any::<u64>(), name(), any::<u64>(), region(), region(), evidence()).prop_map(|(id, name, version, from, to, evidence)| {
            Body::ProposalOpened {
                id,
                name,
                version: Seq(version),
                from,
                to,
                evidence,
            }
        }),
        (any::<u64>(), name(), end).prop_map(|(id, name, end)| Body::ProposalEnded { id, name, end }),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let actor = prop_oneof![
        (any::<u32>(), prop::option::of(text())).prop_map(|(uid, user)| Actor::Uid { uid, user }),
        text().prop_map(|name| Actor::Token { name }),
        prop::option::of(text()).prop_map(|claimed| Actor::Local { claimed }),
        Just(Actor::Policy),
        Just(Actor::Node),
    ];
    (actor, text(), prop::option::of(text()), body()).prop_map(|(actor, reason, request_id, body)| Draft {
        actor,
        reason,
        request_id,
        body,
    })
}

/// A ledger of these drafts.
fn ledger(drafts: Vec<Draft>) -> (Vec<u8>, Vec<Entry>) {
    let (mut head, mut octets, mut entries) = (Receipt::GENESIS, Vec::new(), Vec::new());
    for (number, draft) in drafts.into_iter().enumerate() {
        let (entry, line) = Entry::seal(head, Wall(1_795_252_365_000 + number as u64), draft).unwrap();
        head = entry.receipt();
        octets.extend(line);
        entries.push(entry);
    }
    (octets, entries)
}

/// A ledger of three simple entries.
fn three() -> (Vec<u8>, Vec<Entry>) {
    let draft = |region: &str| Draft {
        actor: Actor::Node,
        reason: "r".into(),
        request_id: None,
        body: Body::Restored {
            region: RegionId::new(region),
        },
    };
    ledger(vec![draft("a"), draft("b"), draft("c")])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_written_reads_back_and_is_written_alike(drafts in prop::collection::vec(draft(), 1..5)) {
        let (octets, entries) = ledger(drafts);
        let mut read = Vec::new();
        let scan = scan(&octets, |entry| read.push(entry)).unwrap();
        prop_assert!(scan.torn.is_empty());
        prop_assert_eq!(&read, &entries);
        let again: Vec<u8> = read.iter().flat_map(|entry| entry.line().unwrap()).collect();
        prop_assert_eq!(again, octets);
    }

    #[test]
    fn any_changed_octet_is_found_and_the_entry_named(drafts in prop::collection::vec(draft(), 1..4), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (octets, entries) = ledger(drafts);
        let at = at.index(octets.len());
        let mut changed = octets.clone();
        changed[at] ^= 1 << bit;
        let wanted = 1 + octets[..at].iter().filter(|octet| **octet == b'\n').count() as u64;
        // A changed last line feed leaves a whole entry without its end: corruption too, not a torn write.
        let corruption = scan(&changed, |_| ()).unwrap_err();
        prop_assert_eq!(corruption.seq.0, wanted, "{} of {} entries", corruption, entries.len());
    }

    #[test]
    fn any_removed_or_inserted_octet_is_found(drafts in prop::collection::vec(draft(), 1..4), at in any::<prop::sample::Index>(), octet in any::<Option<u8>>()) {
        let (octets, entries) = ledger(drafts);
        let at = at.index(octets.len());
        let mut changed = octets.clone();
        match octet {
            Some(octet) => changed.insert(at, octet),
            None => { changed.remove(at); }
        }
        // Taking the last line feed away leaves a tail that may be torn; the missing entry is then found by its receipt.
        let verdict = scan(&changed, |_| ());
        let last = entries.last().unwrap().receipt();
        let found = match verdict {
            Err(_) => true,
            Ok(scan) => scan.chain.head() != last || changed == octets,
        };
        prop_assert!(found);
    }

    #[test]
    fn no_octets_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_line(&octets);
    }
}

#[test]
fn removed_reordered_and_repeated_lines_are_found() {
    let (octets, _) = three();
    let lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
    for (order, bad) in [
        (vec![0, 2], 2),
        (vec![1, 2], 1),
        (vec![1, 0, 2], 1),
        (vec![0, 0, 1, 2], 2),
        (vec![0, 2, 1], 2),
    ] {
        let changed: Vec<u8> = order.iter().flat_map(|line| lines[*line].to_vec()).collect();
        assert_eq!(scan(&changed, |_| ()).unwrap_err().seq.0, bad, "{order:?}");
    }
}

#[test]
fn a_last_line_cut_anywhere_is_torn_and_nothing_else() {
    let (octets, entries) = three();
    let begin = octets[..octets.len() - 1].iter().rposition(|octet| *octet == b'\n').unwrap() + 1;
    for end in begin..octets.len() {
        let mut read = Vec::new();
        let scan = scan(&octets[..end], |entry| read.push(entry)).unwrap_or_else(|error| panic!("cut at {end}: {error}"));
        assert_eq!((read.len(), scan.torn.as_slice()), (2, &octets[begin..end]));
        assert_eq!(scan.chain.head(), entries[1].receipt());
    }
}

#[test]
fn a_missing_tail_is_found_against_a_receipt() {
    let (octets, entries) = three();
    let begin = octets[..octets.len() - 1].iter().rposition(|octet| *octet == b'\n').unwrap() + 1;
    let scan = scan(&octets[..begin], |_| ()).unwrap();
    assert!(matches!(scan.check(entries[2].receipt(), None), Err(ReceiptError::Missing { .. })));
    assert!(scan.check(entries[1].receipt(), Some(entries[1].hash)).is_ok());
    assert!(matches!(
        scan.check(entries[1].receipt(), Some(entries[0].hash)),
        Err(ReceiptError::Other { .. })
    ));
}

#[test]
fn a_line_with_other_spelling_is_corrupt_even_with_a_right_hash() {
    let (octets, _) = three();
    let line = String::from_utf8(octets.split_inclusive(|octet| *octet == b'\n').next().unwrap().to_vec()).unwrap();
    let covered = line.split(",\"hash\"").next().unwrap();
    for respelled in [
        covered.replacen("\"seq\":1", "\"seq\": 1", 1),
        covered.replacen("\"reason\":\"r\"", "\"reason\":\"\\u0072\"", 1),
        covered.replacen("\"reason\"", "\"extra\":1,\"reason\"", 1),
    ] {
        assert_ne!(respelled, covered);
        let hash = Hash::of(respelled.as_bytes());
        let forged = format!("{respelled},\"hash\":\"{hash}\"}}\n");
        assert!(decode(forged.as_bytes()).is_err(), "{forged}");
    }
}

#[test]
fn hashes_and_receipts_read_back() {
    let (_, entries) = three();
    let receipt = entries[2].receipt();
    assert_eq!(receipt.to_string().parse::<Receipt>(), Ok(receipt));
    assert!("3:zz".parse::<Receipt>().is_err() && "x:00".parse::<Receipt>().is_err() && "3".parse::<Receipt>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_check_before_a_write_takes_what_the_reader_takes(drafts in prop::collection::vec(draft(), 1..4), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (octets, entries) = ledger(drafts);
        let mut chain = Chain::new();
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            prop_assert_eq!(chain.follow(line), Ok(()));
        }
        prop_assert_eq!(chain.head(), entries.last().unwrap().receipt());
        prop_assert_eq!(chain.offset(), octets.len() as u64);
        let mut changed = octets.clone();
        let at = at.index(octets.len());
        changed[at] ^= 1 << bit;
        let mut chain = Chain::new();
        let refused = changed.split_inclusive(|octet| *octet == b'\n').any(|line| chain.follow(line).is_err());
        prop_assert!(refused, "octet {} of {}", at, octets.len());
    }

    #[test]
    fn no_damaged_ledger_panics(drafts in prop::collection::vec(draft(), 1..4), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let (mut octets, _) = ledger(drafts);
        for (at, octet) in edits {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        fuzz_line(&octets);
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            fuzz_line(line);
        }
    }
}

#[test]
fn the_check_before_a_write_refuses_what_does_not_follow() {
    let (octets, _) = three();
    let lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
    let mut chain = Chain::new();
    assert!(matches!(chain.follow(lines[1]).unwrap_err().what, Fault::Seq { .. }));
    chain.follow(lines[0]).unwrap();
    assert!(matches!(chain.follow(lines[0]).unwrap_err().what, Fault::Seq { .. }));
    let (other, _) = encode(
        Seq(2),
        Wall(0),
        &Draft {
            actor: Actor::Policy,
            reason: "r".into(),
            request_id: None,
            body: Body::Stopped { node: "n".into() },
        },
        Hash::GENESIS,
    )
    .unwrap();
    assert!(matches!(chain.follow(&other).unwrap_err().what, Fault::Prev { .. }));
    assert_eq!(chain.head().seq, Seq(1), "a refused line leaves the chain where it stood");
}
