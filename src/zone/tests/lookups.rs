//! The reference lookup, by RFC.

use super::*;
use crate::model::Rtype;
use crate::zone::{Lookup, RrSet, ZoneSet, lookup, print_rdata};
use std::sync::Arc;

/// An answer in short: code, AA, then the sections as `owner ttl type data`.
fn brief(found: &Lookup) -> String {
    let section = |sets: &[super::super::Answered]| -> Vec<String> {
        sets.iter()
            .flat_map(|set| {
                set.rdatas
                    .iter()
                    .map(move |rdata| format!("{} {} {} {}", set.owner, set.ttl, set.rtype, print_rdata(set.rtype, rdata)))
            })
            .collect()
    };
    let mut out = format!("{}{}", crate::model::rcode::name(found.rcode), if found.aa { " aa" } else { "" });
    for (mark, sets) in [("", &found.answer), ("auth ", &found.authority), ("add ", &found.additional)] {
        for record in section(sets) {
            out.push_str(&format!(" | {mark}{record}"));
        }
    }
    out
}

/// Asks a zone of lines behind the head.
fn check(lines: &str, cases: &[(&str, Rtype, &str)]) {
    let zones = ZoneSet::new([Arc::new(zone(lines))]);
    for (qname, qtype, wanted) in cases {
        assert_eq!(brief(&lookup(&zones, &name(qname), *qtype)), *wanted, "{qname} {qtype}");
    }
}

/// SOA of negative answers.
const NEGATIVE: &str = "auth e. 5 SOA ns.x. h.x. 1 2 3 4 5";

#[test]
fn data_nodata_nxdomain_refused() {
    let (nodata, nxdomain) = (format!("NOERROR aa | {NEGATIVE}"), format!("NXDOMAIN aa | {NEGATIVE}"));
    check(
        "A 9 A 192.0.2.1\na TXT x\nx.ent A 192.0.2.2",
        &[
            ("a.e.", Rtype::A, "NOERROR aa | a.e. 9 A 192.0.2.1"),
            ("a.E.", Rtype::MX, &nodata),
            ("a.e.", Rtype::ANY, "NOERROR aa | a.e. 9 A 192.0.2.1"),
            ("ent.e.", Rtype::A, &nodata),
            ("ent.e.", Rtype::ANY, &nodata),
            ("y.ent.e.", Rtype::A, &nxdomain),
            ("b.a.e.", Rtype::A, &nxdomain),
            ("e.", Rtype::SOA, "NOERROR aa | e. 300 SOA ns.x. h.x. 1 2 3 4 5"),
            ("e.", Rtype::DS, &nodata),
            ("f.", Rtype::A, "REFUSED"),
            (".", Rtype::NS, "REFUSED"),
        ],
    );
}

#[test]
fn wildcards_of_rfc_4592_2_2_1() {
    let (nodata, nxdomain) = (format!("NOERROR aa | {NEGATIVE}"), format!("NXDOMAIN aa | {NEGATIVE}"));
    check(
        "* TXT wild\n* MX 10 host1\nsub.* TXT no\nhost1 A 192.0.2.1\n_ssh._tcp.host1 SRV 1 2 3 h.x.\nsubdel NS ns.x.\nx.*.m TXT mid\n*.c CNAME host1\n*.d CNAME q.d",
        &[
            ("host3.e.", Rtype::MX, "NOERROR aa | host3.e. 300 MX 10 host1.e."),
            ("host3.e.", Rtype::A, &nodata),
            ("foo.bar.e.", Rtype::TXT, "NOERROR aa | foo.bar.e. 300 TXT \"wild\""),
            ("host1.e.", Rtype::MX, &nodata),
            ("sub.*.e.", Rtype::MX, &nodata),
            ("_telnet._tcp.host1.e.", Rtype::SRV, &nxdomain),
            ("host.subdel.e.", Rtype::A, "NOERROR | auth subdel.e. 300 NS ns.x."),
            ("ghost.*.e.", Rtype::MX, &nxdomain),
            ("*.e.", Rtype::TXT, "NOERROR aa | *.e. 300 TXT \"wild\""),
            ("y.m.e.", Rtype::TXT, &nodata),
            ("x.y.m.e.", Rtype::TXT, &nodata),
            (
                "y.c.e.",
                Rtype::A,
                "NOERROR aa | y.c.e. 300 CNAME host1.e. | host1.e. 300 A 192.0.2.1",
            ),
            ("y.c.e.", Rtype::CNAME, "NOERROR aa | y.c.e. 300 CNAME host1.e."),
            ("y.d.e.", Rtype::A, "NOERROR aa | y.d.e. 300 CNAME q.d.e. | q.d.e. 300 CNAME q.d.e."),
        ],
    );
}

#[test]
fn referrals_carry_glue_and_hide_what_lies_below() {
    let lines = "d NS ns.D\nd NS ns.o\nd NS ns.x.\nd DS 1 8 1 0000000000000000000000000000000000000000\nns.D A 192.0.2.1\nns.d AAAA ::1\no NS ns.o\nns.o A 192.0.2.2\na CNAME x.d\nt.d TXT hidden\nu NS ns.x.";
    let referral = "auth d.e. 300 NS ns.D.e. | auth d.e. 300 NS ns.o.e. | auth d.e. 300 NS ns.x. | add ns.D.e. 300 A 192.0.2.1 | add ns.D.e. 300 AAAA ::1 | add ns.o.e. 300 A 192.0.2.2";
    let (plain, alias) = (
        format!("NOERROR | {referral}"),
        format!("NOERROR aa | a.e. 300 CNAME x.d.e. | {referral}"),
    );
    check(
        lines,
        &[
            ("d.e.", Rtype::A, &plain),
            ("d.e.", Rtype::NS, &plain),
            ("d.e.", Rtype::ANY, &plain),
            ("t.d.e.", Rtype::TXT, &plain),
            ("ns.d.e.", Rtype::A, &plain),
            ("x.y.d.e.", Rtype::DS, &plain),
            ("a.e.", Rtype::A, &alias),
            (
                "d.e.",
                Rtype::DS,
                "NOERROR aa | d.e. 300 DS 1 8 1 0000000000000000000000000000000000000000",
            ),
            ("u.e.", Rtype::DS, &format!("NOERROR aa | {NEGATIVE}")),
        ],
    );
}

#[test]
fn chains_end_at_the_edge_in_a_circle_and_after_five() {
    let mut lines = String::from("out CNAME a.f.\nloop CNAME pool\npool CNAME loop\nself CNAME self\nnone CNAME nope\n");
    for index in 0..8 {
        lines.push_str(&format!("c{index} CNAME c{}\n", index + 1));
    }
    lines.push_str("c8 A 192.0.2.1\n");
    let zones = ZoneSet::new([Arc::new(zone(&lines))]);
    let ask = |qname: &str| brief(&lookup(&zones, &name(qname), Rtype::A));
    assert_eq!(ask("out.e."), "NOERROR aa | out.e. 300 CNAME a.f.");
    assert_eq!(ask("loop.e."), "NOERROR aa | loop.e. 300 CNAME pool.e. | pool.e. 300 CNAME loop.e.");
    assert_eq!(ask("self.e."), "NOERROR aa | self.e. 300 CNAME self.e.");
    assert_eq!(ask("none.e."), format!("NXDOMAIN aa | none.e. 300 CNAME nope.e. | {NEGATIVE}"));
    assert_eq!(lookup(&zones, &name("c3.e."), Rtype::A).answer.len(), 6);
    let long = lookup(&zones, &name("c2.e."), Rtype::A);
    assert_eq!((long.answer.len(), long.rcode), (5, 0));
    assert!(long.answer.iter().all(|set| set.rtype == Rtype::CNAME));
}

#[test]
fn dname_of_rfc_6672() {
    let long = format!("{0}.{0}.{0}", "l".repeat(60));
    let lines = format!("D DNAME t\nD A 192.0.2.9\nx.t A 192.0.2.1\nc.t CNAME x.d\nfar DNAME {long}\nout DNAME f.\na CNAME y.out\n");
    let owner = format!("{}.far.e.", "q".repeat(63));
    check(
        &lines,
        &[
            ("d.e.", Rtype::A, "NOERROR aa | d.e. 300 A 192.0.2.9"),
            ("d.e.", Rtype::DNAME, "NOERROR aa | d.e. 300 DNAME t.e."),
            (
                "X.d.e.",
                Rtype::A,
                "NOERROR aa | D.e. 300 DNAME t.e. | X.d.e. 300 CNAME X.t.e. | X.t.e. 300 A 192.0.2.1",
            ),
            (
                "n.d.e.",
                Rtype::A,
                &format!("NXDOMAIN aa | D.e. 300 DNAME t.e. | n.d.e. 300 CNAME n.t.e. | {NEGATIVE}"),
            ),
            (
                "a.b.out.e.",
                Rtype::A,
                "NOERROR aa | out.e. 300 DNAME f. | a.b.out.e. 300 CNAME a.b.f.",
            ),
            (
                "a.e.",
                Rtype::A,
                "NOERROR aa | a.e. 300 CNAME y.out.e. | out.e. 300 DNAME f. | y.out.e. 300 CNAME y.f.",
            ),
            (
                &format!("{}.{owner}", "r".repeat(20)),
                Rtype::A,
                &format!("RCODE6 aa | far.e. 300 DNAME {long}.e."),
            ),
        ],
    );
}

#[test]
fn the_closest_zone_answers_and_ds_comes_from_the_parent() {
    let parent = Arc::new(zone("c NS ns.x.\nc DS 1 8 1 0000000000000000000000000000000000000000"));
    let text = "$TTL 7\n@ SOA ns.x. h.x. 9 2 3 4 5\n@ NS ns.x.\na A 192.0.2.1";
    let child = Arc::new(read(&source(text), &name("c.e."), &mut |_, _| Err(String::new())).unwrap().zone);
    let both = ZoneSet::new([parent, child.clone()]);
    let alone = ZoneSet::new([child]);
    let ask = |zones: &ZoneSet, qname: &str, qtype| brief(&lookup(zones, &name(qname), qtype));
    assert_eq!(ask(&both, "a.c.e.", Rtype::A), "NOERROR aa | a.c.e. 7 A 192.0.2.1");
    assert_eq!(ask(&both, "c.e.", Rtype::NS), "NOERROR aa | c.e. 7 NS ns.x.");
    assert_eq!(
        ask(&both, "c.e.", Rtype::DS),
        "NOERROR aa | c.e. 300 DS 1 8 1 0000000000000000000000000000000000000000"
    );
    assert_eq!(ask(&alone, "c.e.", Rtype::DS), "NOERROR aa | auth c.e. 5 SOA ns.x. h.x. 9 2 3 4 5");
}

#[test]
fn rrsets_can_be_laid_over_a_name() {
    let base = zone("a CNAME shop\nshop TXT x\nshop A 192.0.2.1");
    let with = |rrsets| ZoneSet::new([Arc::new(base.with_rrsets(&name("shop.e."), rrsets))]);
    let steered = with(vec![RrSet::new(Rtype::A, 30, [[192, 0, 2, 7]])]);
    assert_eq!(
        brief(&lookup(&steered, &name("a.e."), Rtype::A)),
        "NOERROR aa | a.e. 300 CNAME shop.e. | shop.e. 30 A 192.0.2.7"
    );
    assert_eq!(
        brief(&lookup(&steered, &name("shop.e."), Rtype::TXT)),
        "NOERROR aa | shop.e. 300 TXT \"x\""
    );
    let none = with(vec![RrSet::new(Rtype::A, 30, [[0u8; 4]; 0])]);
    assert_eq!(
        brief(&lookup(&none, &name("shop.e."), Rtype::A)),
        format!("NOERROR aa | {NEGATIVE}")
    );
    let new = ZoneSet::new([Arc::new(base.with_rrsets(&name("x.new.e."), Vec::new()))]);
    assert_eq!(brief(&lookup(&new, &name("new.e."), Rtype::A)), format!("NOERROR aa | {NEGATIVE}"));
}
