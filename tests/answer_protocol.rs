//! Protocol cases of `respond`, named by RFC and section.

mod answer_support;

use answer_support::*;
use pointsman::answer::{Out, Outcome, Snapshot, Transport, respond};
use pointsman::model::{Answer, Name, RegionId, Rtype};

const ZONE: &str = "$TTL 3600\n$ORIGIN example.\n@ 900 SOA ns host 1 2 3 4 300\n@ NS ns\nns A 192.0.2.1\nwww CNAME app\n*.wild CNAME app\ndn DNAME under\n\
    x.under CNAME app\nsub NS ns.sub\nns.sub A 192.0.2.2\napp TXT \"beside\"\nout CNAME www.other.test.\nmail MX 10 ns\nbig TXT \"0\"\n";

/// The zone with one steered name in two regions, `region` answered.
fn snapshot(answer: Answer, region: Option<&str>) -> Snapshot {
    let many: String = (0..50)
        .map(|n| format!("many TXT \"number {n} of quite a few records\"\n"))
        .collect();
    Snapshot::build(&[zone("example.", &format!("{ZONE}{many}"))], &[app(answer, region)], 1)
}

fn iad() -> Answer {
    addresses(&["192.0.2.10", "192.0.2.11", "192.0.2.12", "2001:db8::10"])
}

fn fra() -> Answer {
    addresses(&["198.51.100.10"])
}

fn app(answer: Answer, region: Option<&str>) -> pointsman::answer::SteeredInput {
    steered("app.example.", 30, &[("iad", iad()), ("fra", fra())], region, answer)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The last octets of the A records of an answer.
fn last_octets(response: &Response) -> Vec<u8> {
    response
        .answer
        .iter()
        .filter(|record| record.rtype == Rtype::A)
        .map(|record| record.rdata[3])
        .collect()
}

#[test]
fn aliases_wildcards_and_dnames_onto_a_steered_name_follow_a_switch_at_once() {
    let before = snapshot(iad(), Some("iad"));
    let after = before.with(&[app(fra(), Some("fra"))]);
    for asked in ["app.example.", "www.example.", "any.wild.example.", "x.dn.example."] {
        let packet = query(&name(asked), 1, None);
        assert_eq!(last_octets(&ask(&before, &packet, Transport::Udp)), [10, 11, 12], "{asked}");
        assert_eq!(last_octets(&ask(&after, &packet, Transport::Udp)), [10], "{asked}");
        let (reply, _) = ask_raw(&after, &packet, Transport::Udp).unwrap();
        let steered = reply.steered.expect("a steered answer");
        assert_eq!(after.steered_name(steered.id), Some(&name("app.example.")));
        assert_eq!(
            after.steered().regions(steered.id)[usize::from(steered.region.unwrap())],
            RegionId::new("fra")
        );
    }
}

#[test]
fn addresses_rotate_and_none_is_lost() {
    let snapshot = snapshot(iad(), Some("iad"));
    let packet = query(&name("www.example."), 1, None);
    let mut room = [0; 1232];
    for rotation in [0, 1, 2, 3, u32::MAX] {
        let Outcome::Reply(reply) = respond(&snapshot, &packet, &ctx(Transport::Udp, rotation), &mut Out::new(&mut room)) else {
            panic!("no reply");
        };
        let response = Response::decode(&room[..reply.len]).unwrap();
        let mut expected = [10, 11, 12];
        expected.rotate_left(rotation as usize % 3);
        assert_eq!(last_octets(&response), expected);
    }
}

#[test]
fn servfail_is_for_a_aaaa_cname_and_any_and_other_types_are_still_answered() {
    let snapshot = snapshot(Answer::Servfail, None);
    for asked in ["app.example.", "www.example."] {
        for qtype in [Rtype::A, Rtype::AAAA] {
            let response = ask(&snapshot, &query(&name(asked), qtype.0, None), Transport::Udp);
            assert_eq!((response.rcode, response.answer.len()), (2, 0), "{asked} {qtype}");
        }
    }
    for qtype in [Rtype::CNAME, Rtype::ANY] {
        assert_eq!(
            ask(&snapshot, &query(&name("app.example."), qtype.0, None), Transport::Udp).rcode,
            2
        );
    }
    let text = ask(&snapshot, &query(&name("app.example."), Rtype::TXT.0, None), Transport::Udp);
    assert_eq!((text.rcode, text.answer.len()), (0, 1));
}

#[test]
fn rfc2308_3_negative_ttl_and_at_a_steered_name_at_most_its_own() {
    let snapshot = snapshot(fra(), Some("fra"));
    let soa_ttl = |asked: &str, qtype: Rtype| ask(&snapshot, &query(&name(asked), qtype.0, None), Transport::Udp).authority[0].ttl;
    assert_eq!(soa_ttl("nx.example.", Rtype::A), 300);
    assert_eq!(soa_ttl("app.example.", Rtype::AAAA), 30, "a family without addresses is NODATA");
    assert_eq!(soa_ttl("www.example.", Rtype::AAAA), 30);
    assert_eq!(soa_ttl("app.example.", Rtype::MX), 30);
}

#[test]
fn a_host_name_is_answered_as_cname_and_followed_inside_the_zone() {
    let zone = zone(
        "example.",
        "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns.other.test.\ntarget A 192.0.2.77\n",
    );
    for (host, records) in [("target.example.", 2), ("cdn.other.test.", 1)] {
        let input = steered("app.example.", 30, &[], None, Answer::Host(name(host)));
        let snapshot = Snapshot::build(std::slice::from_ref(&zone), &[input], 1);
        let response = ask(&snapshot, &query(&name("app.example."), 1, None), Transport::Udp);
        assert_eq!((response.rcode, response.answer.len()), (0, records), "{host}");
        assert_eq!(
            ask(&snapshot, &query(&name("app.example."), Rtype::CNAME.0, None), Transport::Udp)
                .answer
                .len(),
            1
        );
    }
}

#[test]
fn rfc4343_and_0x20_the_question_comes_back_octet_for_octet() {
    let snapshot = snapshot(iad(), Some("iad"));
    let packet = query(&name("wWw.ExAmPlE."), 1, Some((1232, false)));
    let (_, bytes) = ask_raw(&snapshot, &packet, Transport::Udp).unwrap();
    assert_eq!(bytes[12..12 + 17], packet[12..12 + 17]);
}

#[test]
fn rfc1035_4_1_1_header_bits() {
    let snapshot = snapshot(iad(), Some("iad"));
    let mut packet = query(&name("app.example."), 1, None);
    packet[2] = 0x03; // TC and RD set by a strange client
    packet[3] = 0xff; // RA, Z, AD, CD and an RCODE
    let (_, bytes) = ask_raw(&snapshot, &packet, Transport::Udp).unwrap();
    assert_eq!(bytes[2], 0x85, "QR, AA and RD");
    assert_eq!(bytes[3], 0x00, "no RA, Z, AD, CD; NOERROR");
}

#[test]
fn rfc6891_edns_version_size_and_flags() {
    let snapshot = snapshot(iad(), Some("iad"));
    let mut packet = query(&name("app.example."), 1, Some((4096, true)));
    let response = ask(&snapshot, &packet, Transport::Udp);
    assert_eq!(response.edns, Some((1232, 0, 0x8000)), "our size, version 0, DO echoed");
    let at = packet.len() - 5; // the version
    packet[at] = 1;
    let response = ask(&snapshot, &packet, Transport::Udp);
    assert_eq!(
        (response.rcode, response.answer.len(), response.edns.map(|edns| edns.1)),
        (16, 0, Some(0))
    );
    assert_eq!(ask(&snapshot, &query(&name("app.example."), 1, None), Transport::Udp).edns, None);
}

#[test]
fn rfc2181_9_what_does_not_fit_is_left_out_whole_with_tc() {
    let snapshot = snapshot(iad(), Some("iad"));
    for edns in [
        None,
        Some((512, false)),
        Some((0, false)),
        Some((1232, false)),
        Some((65_535, true)),
    ] {
        let response = ask(&snapshot, &query(&name("many.example."), Rtype::TXT.0, edns), Transport::Udp);
        assert!(response.tc() && response.answer.is_empty());
    }
    let whole = ask(&snapshot, &query(&name("many.example."), Rtype::TXT.0, None), Transport::Tcp);
    assert_eq!((whole.tc(), whole.answer.len()), (false, 50));
}

#[test]
fn refusals_and_drops() {
    let snapshot = snapshot(iad(), Some("iad"));
    let plain = query(&name("app.example."), 1, None);
    let rcode = |packet: &[u8]| ask_raw(&snapshot, packet, Transport::Udp).map(|(reply, _)| reply.rcode);
    let with = |at: usize, value: u8| {
        let mut packet = plain.clone();
        packet[at] = value;
        packet
    };
    assert_eq!(rcode(&with(2, 0x80)), None, "never an answer to an answer");
    assert_eq!(rcode(&plain[..11]), None, "less than a header");
    assert_eq!(rcode(&plain[..12]), Some(1));
    assert_eq!(rcode(&with(5, 2)), Some(1), "two questions");
    assert_eq!(rcode(&with(2, 4 << 3)), Some(5), "NOTIFY");
    assert_eq!(rcode(&with(2, 5 << 3)), Some(4), "UPDATE");
    assert_eq!(rcode(&with(2, 15 << 3)), Some(4));
    assert_eq!(rcode(&query(&name("other.test."), 1, None)), Some(5), "no zone of ours");
    for qtype in [251, 252] {
        assert_eq!(rcode(&query(&name("example."), qtype, None)), Some(5), "zone transfer");
    }
    assert_eq!(rcode(&query_with(name("app.example.").wire(), 1, 3, None)), Some(5), "class CH");
}

#[test]
fn rfc4035_3_1_4_1_ds_of_a_served_child_is_asked_of_the_parent() {
    let parent = zone(
        "example.",
        &format!(
            "{ZONE}child NS ns.child\nns.child A 192.0.2.9\nchild DS 1 8 2 {}\n",
            "ab".repeat(32)
        ),
    );
    let child = zone("child.example.", "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.9\n");
    let both = Snapshot::build(&[child.clone(), parent], &[], 1);
    let ds = query(&name("child.example."), Rtype::DS.0, None);
    assert_eq!(ask(&both, &ds, Transport::Udp).answer.len(), 1);
    assert_eq!(
        ask(&both, &query(&name("child.example."), Rtype::NS.0, None), Transport::Udp)
            .answer
            .len(),
        1
    );
    let alone = ask(&Snapshot::build(&[child], &[], 1), &ds, Transport::Udp);
    assert_eq!(
        (alone.rcode, alone.answer.len(), alone.authority[0].owner.clone()),
        (0, 0, name("child.example."))
    );
}

#[test]
fn a_record_set_beyond_64_kib_is_truncated_even_over_tcp() {
    let text = "t".repeat(200);
    let records: String = (0..400).map(|n| format!("huge TXT \"{n} {text}\"\n")).collect();
    let snapshot = Snapshot::build(&[zone("example.", &format!("{ZONE}{records}"))], &[], 1);
    let response = ask(&snapshot, &query(&name("huge.example."), Rtype::TXT.0, None), Transport::Tcp);
    assert!(response.tc() && response.answer.is_empty());
}
