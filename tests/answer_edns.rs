//! EDNS and its options, each case named after the RFC and section that asks for it.

mod answer_support;

use answer_support::*;
use pointsman::answer::{
    CookieSecrets, Ctx, DropReason, Out, Outcome, PADDED_OCTETS, Service, Settings, Snapshot, SteeredInput, Transport, respond,
    respond_shortly,
};
use pointsman::model::{Decision, Name, Prefix, PrefixSet, Reason, rcode};
use proptest::prelude::*;
use std::sync::Arc;

const NSID: u16 = 3;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;
const ERROR: u16 = 15;

const TEXT: &str = "$TTL 300\nexample. SOA ns.example. h.example. 1 2 3 4 5\nexample. NS ns.example.\nns.example. A 192.0.2.1\n\
    www.example. CNAME app.example.\nbig.example. TXT";

/// A zone with a steered name that has a note, an identifier, and a zone for some only.
fn snapshot() -> Snapshot {
    let long = format!("{} \"{}\" \"{}\" \"{}\"\n", TEXT, "x".repeat(255), "y".repeat(255), "z".repeat(255));
    let mut app = steered("app.example.", 30, &[], None, addresses(&["192.0.2.10", "2001:db8::10"]));
    app.decision = decided(&app, Reason::AllDownActive);
    let inner = zone(
        "inner.",
        "inner. 60 SOA ns.inner. h.inner. 1 2 3 4 5\ninner. 60 NS ns.inner.\nns.inner. 60 A 192.0.2.9\n",
    );
    let settings = Settings {
        service: Service {
            nsid: b"ns1.fra".to_vec(),
            ..Service::default()
        },
        access: vec![(
            Name::parse("inner.").unwrap(),
            PrefixSet::new(&[Prefix::parse("198.51.100.0/24").unwrap(), Prefix::parse("2001:db8::/32").unwrap()]),
        )],
    };
    Snapshot::build_with(&[zone("example.", &long), inner], &[app], 7, settings)
}

/// The decision of an input with another reason.
fn decided(input: &SteeredInput, reason: Reason) -> Arc<Decision> {
    Arc::new(Decision {
        reason,
        ..Decision::clone(&input.decision)
    })
}

/// A query in bytes with whatever stands behind the question, and the count of additional records.
fn raw(additional: u16, behind: &[u8]) -> Vec<u8> {
    let mut packet = query(&Name::parse("ns.example.").unwrap(), 1, None);
    packet[10..12].copy_from_slice(&additional.to_be_bytes());
    packet.extend_from_slice(behind);
    packet
}

/// An OPT record: UDP size, version, flags, data.
fn opt(size: u16, version: u8, flags: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 41];
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(&[0, version]);
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn udp(packet: &[u8]) -> Response {
    ask(&snapshot(), packet, Transport::Udp)
}

#[test]
fn rfc6891_7_without_opt_there_is_none_in_the_response() {
    let response = udp(&raw(0, &[]));
    assert_eq!((response.rcode, response.edns), (0, None));
}

#[test]
fn rfc6891_6_1_1_with_opt_there_is_one_in_the_response_also_in_errors() {
    let asked = opt(1232, 0, 0, &[]);
    assert_eq!(udp(&raw(1, &asked)).edns, Some((1232, 0, 0)));
    for (qname, expected) in [("nx.example.", 3), ("other.", 5), ("example.", 0)] {
        let packet = query(&Name::parse(qname).unwrap(), 1, Some((512, false)));
        let response = udp(&packet);
        assert_eq!((response.rcode, response.edns), (expected, Some((1232, 0, 0))), "{qname}");
    }
}

#[test]
fn rfc6891_6_1_1_two_opts_are_a_format_error() {
    let two = [opt(1232, 0, 0, &[]), opt(1232, 0, 0, &[])].concat();
    assert_eq!(udp(&raw(2, &two)).rcode, u16::from(rcode::FORMERR));
}

#[test]
fn rfc6891_6_1_1_opt_may_stand_anywhere_in_the_additional_section() {
    let other = [&[0u8][..], &[0, 16, 0, 1, 0, 0, 0, 0, 0, 2, 1, b'x']].concat();
    for behind in [
        [other.clone(), opt(1232, 0, 0, &[])].concat(),
        [opt(1232, 0, 0, &[]), other].concat(),
    ] {
        let response = udp(&raw(2, &behind));
        assert_eq!((response.rcode, response.edns), (0, Some((1232, 0, 0))));
    }
}

#[test]
fn rfc6891_6_1_2_an_owner_other_than_the_root_is_a_format_error() {
    let named = [&[1, b'a'][..], &opt(1232, 0, 0, &[])].concat();
    assert_eq!(udp(&raw(1, &named)).rcode, u16::from(rcode::FORMERR));
}

#[test]
fn rfc6891_6_1_2_unknown_options_are_ignored_and_not_echoed() {
    let data = [option(65_001, b"whatever"), option(100, &[])].concat();
    let response = udp(&raw(1, &opt(1232, 0, 0, &data)));
    assert_eq!(
        (response.rcode, response.options.as_slice(), response.answer.len()),
        (0, &[][..], 1)
    );
}

#[test]
fn rfc6891_6_1_2_options_that_do_not_fill_their_data_are_a_format_error() {
    for data in [&[0, 3][..], &[0, 3, 0], &[0, 3, 0, 1], &[0, 3, 0, 0, 0], &[0, 10, 0, 8, 1, 2, 3]] {
        assert_eq!(udp(&raw(1, &opt(1232, 0, 0, data))).rcode, u16::from(rcode::FORMERR), "{data:?}");
    }
}

#[test]
fn rfc6891_6_1_2_a_truncated_opt_is_a_format_error() {
    let whole = opt(1232, 0, 0, &option(NSID, &[]));
    for octets in 0..whole.len() {
        assert_eq!(udp(&raw(1, &whole[..octets])).rcode, u16::from(rcode::FORMERR), "{octets} octets");
    }
    assert_eq!(udp(&raw(1, &whole)).rcode, 0);
}

#[test]
fn rfc6891_6_1_3_another_version_is_answered_with_badvers_and_ours_and_no_data() {
    for version in [1, 2, 100, 255] {
        let data = option(COOKIE, &[1; 8]);
        let response = udp(&raw(1, &opt(1232, version, 0, &data)));
        assert_eq!((response.rcode, response.edns), (16, Some((1232, 0, 0))), "version {version}");
        assert!(response.answer.is_empty() && response.options.is_empty());
        // Malformed options of a version that nobody knows are not ours to judge: still BADVERS when they can be skipped.
        assert_eq!(udp(&raw(1, &opt(1232, version, 0, &option(COOKIE, &[1; 3])))).rcode, 16);
    }
}

#[test]
fn rfc6891_6_1_4_unknown_flags_are_ignored_and_cleared_and_do_is_echoed() {
    for (asked, echoed) in [(0x8000, 0x8000), (0x4000, 0), (0x7fff, 0), (0xffff, 0x8000)] {
        let response = udp(&raw(1, &opt(1232, 0, asked, &[])));
        assert_eq!((response.rcode, response.edns), (0, Some((1232, 0, echoed))), "{asked:04x}");
    }
}

#[test]
fn rfc6891_6_2_3_sizes_below_512_are_512_and_ours_is_1232() {
    for (size, fits) in [
        (0, 512),
        (100, 512),
        (511, 512),
        (512, 512),
        (900, 900),
        (1232, 1232),
        (4096, 1232),
        (65_535, 1232),
    ] {
        let packet = query(&Name::parse("big.example.").unwrap(), 16, Some((size, false)));
        let response = udp(&packet);
        assert!(response.len <= fits, "{size}: {} octets", response.len);
        assert_eq!(response.tc(), fits < 800, "{size}");
    }
}

#[test]
fn rfc5001_2_1_the_identifier_is_given_to_whoever_asks() {
    let response = udp(&query_options("ns.example.", &[(NSID, &[])]));
    assert_eq!(response.option(NSID), Some(&b"ns1.fra"[..]));
    assert_eq!(udp(&query_options("ns.example.", &[])).option(NSID), None);
    let anonymous = Snapshot::build(&[zone("example.", &format!("{TEXT} \"x\"\n"))], &[], 1);
    let response = ask(&anonymous, &query_options("ns.example.", &[(NSID, &[])]), Transport::Udp);
    assert_eq!(response.option(NSID), None);
}

#[test]
fn rfc7873_5_2_1_without_the_option_there_is_no_cookie() {
    assert_eq!(udp(&query_options("ns.example.", &[])).option(COOKIE), None);
}

#[test]
fn rfc7873_5_2_2_a_malformed_cookie_is_a_format_error() {
    for octets in [0, 1, 7, 9, 15, 41, 100] {
        let response = udp(&query_options("ns.example.", &[(COOKIE, &vec![1; octets])]));
        assert_eq!((response.rcode, response.answer.len()), (1, 0), "{octets} octets");
        assert!(response.edns.is_some());
    }
}

#[test]
fn rfc7873_5_2_3_a_client_cookie_is_answered_with_a_server_cookie_that_is_good_from_then_on() {
    let snapshot = snapshot();
    for qname in ["ns.example.", "nx.example.", "other.", "app.example."] {
        let first = ask(&snapshot, &query_options(qname, &[(COOKIE, b"clientck")]), Transport::Udp);
        let cookie = first.option(COOKIE).expect("a cookie").to_vec();
        assert_eq!((cookie.len(), &cookie[..8]), (24, &b"clientck"[..]));
        let again = query_options(qname, &[(COOKIE, &cookie)]);
        let (reply, bytes) = ask_raw(&snapshot, &again, Transport::Udp).unwrap();
        assert!(reply.is_known);
        let again = Response::decode(&bytes).unwrap();
        assert_eq!((again.rcode, again.option(COOKIE)), (first.rcode, Some(&cookie[..])));
        assert_eq!(again.answer, first.answer);
    }
}

#[test]
fn rfc7873_5_2_4_a_bad_server_cookie_is_answered_as_if_there_were_none() {
    let snapshot = snapshot();
    for option in [vec![9; 16], vec![9; 24], vec![9; 40], [&b"clientck"[..], &[1; 16]].concat()] {
        let packet = query_options("ns.example.", &[(COOKIE, &option)]);
        let (reply, bytes) = ask_raw(&snapshot, &packet, Transport::Udp).unwrap();
        let response = Response::decode(&bytes).unwrap();
        assert_eq!((reply.is_known, response.rcode, response.answer.len()), (false, 0, 1));
        let fresh = response.option(COOKIE).unwrap();
        assert_eq!((fresh.len(), &fresh[..8]), (24, &option[..8]));
    }
}

#[test]
fn rfc7873_5_4_a_query_without_a_question_asks_for_a_cookie() {
    let snapshot = snapshot();
    let bare = |value: &[u8]| {
        let mut packet = vec![0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        packet.extend(opt(1232, 0, 0, &option(COOKIE, value)));
        packet
    };
    let response = ask(&snapshot, &bare(b"clientck"), Transport::Udp);
    assert_eq!((response.rcode, response.question.len()), (0, 0));
    let cookie = response.option(COOKIE).unwrap().to_vec();
    assert_eq!(ask(&snapshot, &bare(&cookie), Transport::Udp).rcode, 0);
    let response = ask(&snapshot, &bare(&[3; 24]), Transport::Udp);
    assert_eq!(
        (response.rcode, response.option(COOKIE).unwrap().len()),
        (u16::from(rcode::BADCOOKIE), 24)
    );
    let mut without = bare(b"clientck");
    without.truncate(12);
    without[11] = 0;
    assert_eq!(ask(&snapshot, &without, Transport::Udp).rcode, 1, "nothing is asked at all");
    let none = Ctx {
        cookies: None,
        ..ctx(Transport::Udp, 0)
    };
    assert_eq!(
        ask_with(&snapshot, &bare(b"clientck"), &none).rcode,
        1,
        "who gives no cookies knows no such query"
    );
}

#[test]
fn rfc7873_without_secrets_the_option_is_unknown_and_ignored() {
    let none = Ctx {
        cookies: None,
        ..ctx(Transport::Udp, 0)
    };
    for octets in [3, 8, 24] {
        let response = ask_with(&snapshot(), &query_options("ns.example.", &[(COOKIE, &vec![1; octets])]), &none);
        assert_eq!((response.rcode, response.answer.len(), response.option(COOKIE)), (0, 1, None));
    }
}

#[test]
fn rfc9018_5_a_secret_is_rolled_over_without_refusing_good_cookies() {
    let snapshot = snapshot();
    let with = |current: u8, other: Option<u8>| Ctx {
        cookies: Some(CookieSecrets::new([current; 16], other.map(|other| [other; 16]))),
        ..ctx(Transport::Udp, 0)
    };
    let ask_cookie = |value: &[u8], ctx: &Ctx| {
        let response = ask_with(&snapshot, &query_options("ns.example.", &[(COOKIE, value)]), ctx);
        response.option(COOKIE).unwrap().to_vec()
    };
    let is_known = |value: &[u8], ctx: &Ctx| {
        let mut room = vec![0; 1232];
        let packet = query_options("ns.example.", &[(COOKIE, value)]);
        let outcome = pointsman::answer::respond(&snapshot, &packet, ctx, &mut Out::new(&mut room));
        matches!(outcome, Outcome::Reply(reply) if reply.is_known)
    };
    let old = ask_cookie(b"clientck", &with(1, None));
    assert!(is_known(&old, &with(1, Some(2))), "the next secret is known first");
    assert!(is_known(&old, &with(2, Some(1))), "then it makes the cookies");
    let new = ask_cookie(&old, &with(2, Some(1)));
    assert_ne!(new, old);
    assert!(is_known(&new, &with(1, Some(2))), "a node that is not so far accepts them");
    assert!(!is_known(&old, &with(2, None)), "at last the old one is gone");
}

#[test]
fn rfc7873_5_2_3_a_short_response_is_badcookie_to_who_knows_cookies_and_tc_to_who_does_not() {
    let short = |packet: &[u8]| {
        let mut room = vec![0xaa; 1232];
        let Outcome::Reply(reply) = respond_shortly(packet, &ctx(Transport::Udp, 0), &mut Out::new(&mut room)) else {
            panic!("no response");
        };
        assert!(reply.len <= packet.len() + 32);
        Response::decode(&room[..reply.len]).unwrap()
    };
    let response = short(&query_options("app.example.", &[(COOKIE, b"clientck")]));
    assert_eq!((response.rcode, response.tc(), response.answer.len()), (23, false, 0));
    assert_eq!(response.option(COOKIE).unwrap().len(), 24);
    for packet in [raw(0, &[]), query_options("app.example.", &[(NSID, &[])])] {
        let response = short(&packet);
        assert_eq!(
            (response.rcode, response.tc(), response.answer.len(), response.options.len()),
            (0, true, 0, 0)
        );
        assert!(!response.question.is_empty());
    }
}

#[test]
fn rfc7828_3_2_keepalive_is_said_over_streams_to_clients_that_know_it() {
    let snapshot = snapshot();
    let asked = query_options("ns.example.", &[(KEEPALIVE, &[])]);
    for (transport, said) in [
        (Transport::Udp, None),
        (Transport::Tcp, Some(&[0, 100][..])),
        (Transport::Tls, Some(&[0, 100][..])),
        (Transport::Https, None),
    ] {
        // Even if a caller gives it over UDP, where RFC 7828 §3.2.1 forbids it.
        let ctx = Ctx {
            keepalive_tenths: Some(100),
            ..ctx(transport, 0)
        };
        assert_eq!(ask_with(&snapshot, &asked, &ctx).option(KEEPALIVE), said, "{transport:?}");
        assert_eq!(
            ask_with(&snapshot, &query_options("ns.example.", &[]), &ctx).option(KEEPALIVE),
            None
        );
    }
    // RFC 9250 §5.5.2: over QUIC it is an error that ends the connection.
    let quic = respond(&snapshot, &asked, &ctx(Transport::Quic, 0), &mut Out::new(&mut [0; 512]));
    assert_eq!(quic, Outcome::Drop(DropReason::Forbidden));
}

#[test]
fn rfc8467_4_1_encrypted_responses_to_padded_queries_are_padded_to_468() {
    let snapshot = snapshot();
    let padded = |qname| query_options(qname, &[(PADDING, &[0; 20]), (COOKIE, b"clientck"), (NSID, &[])]);
    for transport in [Transport::Tls, Transport::Quic, Transport::Https] {
        for qname in ["ns.example.", "nx.example.", "other.", "app.example."] {
            let response = ask(&snapshot, &padded(qname), transport);
            assert_eq!(response.len % PADDED_OCTETS, 0, "{qname}: {} octets", response.len);
            assert!(response.option(PADDING).unwrap().iter().all(|octet| *octet == 0));
            assert_eq!(response.options.last().unwrap().0, PADDING);
        }
        let response = ask(&snapshot, &query_options("ns.example.", &[]), transport);
        assert_eq!(response.option(PADDING), None, "who does not pad wants none (RFC 7830 §4)");
    }
    for transport in [Transport::Udp, Transport::Tcp] {
        assert_eq!(
            ask(&snapshot, &padded("ns.example."), transport).option(PADDING),
            None,
            "{transport:?}"
        );
    }
}

#[test]
fn rfc8914_2_errors_are_explained_to_clients_with_edns() {
    let snapshot = snapshot();
    let explained = |qname: &str, qtype| {
        let packet = query(&Name::parse(qname).unwrap(), qtype, Some((1232, false)));
        let response = ask(&snapshot, &packet, Transport::Udp);
        let bare = ask(&snapshot, &query(&Name::parse(qname).unwrap(), qtype, None), Transport::Udp);
        assert_eq!(
            (bare.rcode, bare.answer.len(), bare.edns),
            (response.rcode, response.answer.len(), None)
        );
        response.option(ERROR).map(|value| {
            let text = String::from_utf8(value[2..].to_vec()).unwrap();
            (u16::from_be_bytes([value[0], value[1]]), text)
        })
    };
    let text = "all-down-active: the active region is unhealthy, all of it is answered";
    let all_down = Some((0, text.to_owned()));
    assert_eq!(explained("app.example.", 1), all_down);
    assert_eq!(explained("www.example.", 1), all_down, "through an alias too");
    assert_eq!(explained("app.example.", 16), None, "what the zone file says needs no word");
    assert_eq!(explained("ns.example.", 1), None);
    assert_eq!(explained("other.", 1), Some((20, String::new())), "Not Authoritative");
    assert_eq!(explained("example.", 252), Some((21, String::new())), "Not Supported");
    assert_eq!(explained("ns.inner.", 1), Some((18, String::new())), "Prohibited");
}

#[test]
fn rfc8914_2_what_is_as_it_should_be_needs_no_word_and_what_nobody_knows_does() {
    let explained = |reason, is_probed, not_ready: Option<&str>| {
        let mut app = steered("app.example.", 30, &[], None, addresses(&["192.0.2.10"]));
        app.decision = decided(&app, reason);
        app.is_probed = is_probed;
        let settings = Settings {
            service: Service {
                not_ready: not_ready.map(str::to_owned),
                ..Service::default()
            },
            ..Settings::default()
        };
        let snapshot = Snapshot::build_with(&[zone("example.", &format!("{TEXT} \"x\"\n"))], &[app], 1, settings);
        let unchanged = ask(&snapshot, &query_options("ns.example.", &[]), Transport::Udp);
        assert_eq!(unchanged.option(ERROR), None, "a name that nobody steers");
        let response = ask(&snapshot, &query_options("app.example.", &[]), Transport::Udp);
        response
            .option(ERROR)
            .map(|value| (value[1], String::from_utf8(value[2..].to_vec()).unwrap()))
    };
    for reason in [Reason::Healthy, Reason::Degraded] {
        assert_eq!(explained(reason, true, None), None);
    }
    assert_eq!(explained(Reason::Unknown, false, None), None, "nothing is ever known of it");
    for (reason, begins) in [
        (Reason::Unknown, "unknown: "),
        (Reason::WaitingToMove, "waiting-to-move: "),
        (Reason::AllDownAll, "all-down-all: "),
        (Reason::AllDownInstead, "all-down-instead: "),
        (Reason::AllDownServfail, "all-down-servfail: "),
    ] {
        let (code, text) = explained(reason, true, Some("answer-only")).unwrap();
        assert!(code == 0 && text.starts_with(begins), "{text}");
    }
    let mut moved = steered("app.example.", 30, &[], None, addresses(&["192.0.2.10"]));
    moved.decision = Arc::new(Decision {
        is_home_drained: true,
        ..Decision::clone(&moved.decision)
    });
    let snapshot = Snapshot::build(&[zone("example.", &format!("{TEXT} \"x\"\n"))], &[moved], 1);
    let response = ask(&snapshot, &query_options("app.example.", &[]), Transport::Udp);
    assert!(response.option(ERROR).unwrap().starts_with(b"\0\0drained: "));
    assert_eq!(
        explained(Reason::Healthy, true, Some("answer-only")),
        Some((14, "answer-only".to_owned())),
        "Not Ready"
    );
}

#[test]
fn an_access_list_refuses_whom_it_does_not_have_and_leaves_other_zones_alone() {
    let snapshot = snapshot();
    for (peer, rcode) in [
        ("198.51.100.7:5353", 0),
        ("198.51.101.7:5353", 5),
        ("[2001:db8::7]:5353", 0),
        ("[2001:db9::7]:5353", 5),
    ] {
        let ctx = Ctx {
            peer: peer.parse().unwrap(),
            ..ctx(Transport::Udp, 0)
        };
        for qname in ["ns.inner.", "inner."] {
            let response = ask_with(&snapshot, &query(&Name::parse(qname).unwrap(), 2, None), &ctx);
            assert_eq!((response.rcode, response.aa()), (rcode, rcode == 0), "{qname} for {peer}");
        }
        let response = ask_with(&snapshot, &query(&Name::parse("nx.inner.").unwrap(), 1, None), &ctx);
        assert_eq!(response.rcode, if rcode == 0 { 3 } else { 5 }, "nothing is told about what exists");
        assert_eq!(
            ask_with(&snapshot, &query(&Name::parse("ns.example.").unwrap(), 1, None), &ctx).rcode,
            0
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Notes and identifiers never make an answer truncated or larger than it may be, and no option changes a record.
    #[test]
    fn options_change_no_record_and_fit(
        nsid_octets in 0usize..400,
        records in 1usize..80,
        size in 0u16..2000,
        asked in prop::collection::vec((prop::sample::select(vec![NSID, COOKIE, KEEPALIVE, PADDING, ERROR, 77]), prop::collection::vec(any::<u8>(), 0..45)), 0..5),
        transport in prop::sample::select(vec![Transport::Udp, Transport::Tcp, Transport::Tls]),
    ) {
        let list: Vec<String> = (0..records).map(|number| format!("192.0.2.{number}")).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let zone = zone("example.", &format!("{TEXT} \"x\"\n"));
        let plain = steered("app.example.", 30, &[], None, addresses(&list));
        let mut noted = plain.clone();
        noted.decision = decided(&noted, Reason::AllDownInstead);
        let settings = |nsid: &[u8]| Settings {
            service: Service { nsid: nsid.to_vec(), ..Service::default() },
            ..Settings::default()
        };
        let without = Snapshot::build_with(std::slice::from_ref(&zone), &[plain], 1, settings(b""));
        let with = Snapshot::build_with(&[zone], &[noted], 1, settings(&vec![b'n'; nsid_octets]));
        let options: Vec<(u16, &[u8])> = asked.iter().map(|(code, value)| (*code, value.as_slice())).collect();
        let mut packet = query_options("app.example.", &options);
        let at = 12 + 13 + 4 + 3;
        packet[at..at + 2].copy_from_slice(&size.to_be_bytes());
        let (one, other) = (ask(&without, &packet, transport), ask(&with, &packet, transport));
        prop_assert_eq!((one.rcode, one.tc(), &one.answer), (other.rcode, other.tc(), &other.answer));
        if transport == Transport::Udp {
            prop_assert!(other.len <= usize::from(size).clamp(512, 1232), "{} octets", other.len);
        }
    }
}
