//! How many octets a datagram can draw: every kind of answer of a rich world is asked for, and none draws more than the
//! README says. Who forges sources multiplies by these factors at most, before the rate limit.

mod answer_support;
#[path = "answer_support/zones.rs"]
#[allow(dead_code)] // its odd packets are for others
mod zones;

use answer_support::*;
use pointsman::answer::{Out, Outcome, Settings, Snapshot, Transport, respond_shortly};
use pointsman::model::{Decision, Name, Reason, Rtype};
use std::sync::Arc;

/// The smallest query with EDNS: header, root, type and class, OPT.
const QUERY_OCTETS_MIN: usize = 12 + 1 + 4 + 11;

/// The rich world with a steered name whose answer is as large as one can expect.
fn snapshot() -> (Snapshot, Vec<Name>) {
    let zones: Vec<_> = zones::rich().iter().map(|(apex, text)| zone(apex, text)).collect();
    let list = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::1", "2001:db8::2"];
    let mut app = steered("app.rich.test.", 30, &[], None, addresses(&list));
    app.decision = Arc::new(Decision {
        reason: Reason::AllDownAll, // with the longest of notes
        ..Decision::clone(&app.decision)
    });
    let mut names: Vec<Name> = zones
        .iter()
        .flat_map(|zone| zone.nodes().map(|(name, _)| name.clone()).collect::<Vec<_>>())
        .collect();
    names.push(app.name.clone());
    let made_up: Vec<Name> = names.iter().filter_map(|name| name.child(b"x").ok()).collect();
    names.extend(made_up);
    let settings = Settings {
        service: pointsman::answer::Service {
            nsid: vec![b'n'; 128],
            ..Default::default()
        },
        ..Settings::default()
    };
    (Snapshot::build_with(&zones, &[app], 1, settings), names)
}

#[test]
fn no_datagram_draws_more_than_the_readme_says() {
    let (snapshot, names) = snapshot();
    let (mut most, mut errors, mut negatives, mut steered) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
    for name in &names {
        for qtype in [1_u16, 28, 2, 5, 6, 15, 16, 33, 39, 43, 257, 255, 252, 999] {
            for edns in [None, Some((512, false)), Some((1232, true)), Some((65_535, true))] {
                let packet = query(name, qtype, edns);
                let (reply, bytes) = ask_raw(&snapshot, &packet, Transport::Udp).unwrap();
                let cap = if edns.is_none_or(|(size, _)| size == 512) { 512 } else { 1232 };
                assert!(bytes.len() <= cap, "{name} {qtype}: {} octets", bytes.len());
                let factor = bytes.len() as f64 / packet.len() as f64;
                most = most.max(factor);
                let response = Response::decode(&bytes).unwrap();
                let is_negative = response.answer.is_empty() && response.authority.iter().any(|record| record.rtype == Rtype::SOA);
                let kind = match reply.rcode {
                    0 | 3 if is_negative => &mut negatives,
                    0 if reply.steered.is_some() => &mut steered,
                    0 | 3 | 6 => &mut most, // with records
                    _ => &mut errors,
                };
                *kind = kind.max(factor);
            }
        }
    }
    println!("most {most:.1}, errors {errors:.2}, negatives {negatives:.1}, steered {steered:.1}");
    assert!(most <= 1232.0 / QUERY_OCTETS_MIN as f64, "the cap over the smallest query: {most}");
    assert!(most > 15.0, "the world does hold large sets, or this test tests nothing");
    assert!(errors <= 1.2, "an error is hardly larger than what it answers: {errors}");
    assert!(negatives <= 4.0, "{negatives}");
    assert!(steered <= 8.0, "four addresses and a note: {steered}");
}

#[test]
fn rfc8482_any_draws_one_rrset_and_no_more() {
    let (snapshot, names) = snapshot();
    for name in &names {
        let any = ask(&snapshot, &query(name, 255, Some((1232, false))), Transport::Udp);
        assert!(
            rrsets(&any.answer).iter().filter(|set| set[0].owner == *name).count() <= 1,
            "{name}"
        );
    }
}

#[test]
fn a_short_answer_is_at_most_a_server_cookie_larger_than_its_query() {
    let (_, names) = snapshot();
    let mut room = vec![0; 1232];
    for name in &names {
        let plain = query(name, 1, None);
        let cookie = {
            let mut packet = query(name, 1, Some((1232, true)));
            let at = packet.len() - 2;
            packet.splice(at.., [0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
            packet
        };
        for (packet, more) in [(plain, 0), (query(name, 255, Some((1232, true))), 0), (cookie, 16)] {
            let outcome = respond_shortly(&packet, &ctx(Transport::Udp, 0), &mut Out::new(&mut room));
            let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
            assert!(reply.len <= packet.len() + more, "{name}: {} for {}", reply.len, packet.len());
        }
    }
}
