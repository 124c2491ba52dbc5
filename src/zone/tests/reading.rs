//! Reading: what is taken, what is refused, where errors point, which warnings are given.

use super::*;
use crate::model::{Rtype, Severity};
use crate::zone::{ERRORS_MAX, print_rdata};

/// Every record of a zone as `owner ttl type data`, in order.
fn records(loaded: &Loaded) -> Vec<String> {
    let sets = loaded
        .zone
        .nodes()
        .flat_map(|(name, node)| node.rrsets.iter().map(move |rrset| (name, rrset)));
    sets.flat_map(|(name, rrset)| {
        rrset
            .rdata
            .iter()
            .map(move |rdata| format!("{name} {} {} {}", rrset.ttl, rrset.rtype, print_rdata(rrset.rtype, rdata)))
    })
    .collect()
}

/// Records behind the head.
fn read_records(lines: &str) -> Vec<String> {
    match read_lines(lines) {
        Ok(loaded) => records(&loaded).split_off(2),
        Err(errors) => panic!("{lines}\n{}", show(&errors)),
    }
}

/// Lines behind the head, the place (line counted behind the head) and the start of each error.
fn check_errors(lines: &str, wanted: &[(usize, usize, &str)]) {
    let errors = read_lines(lines).expect_err(lines);
    let found: Vec<String> = errors
        .iter()
        .map(|error| {
            error.at.as_ref().map_or(format!("- {}", error.message), |at| {
                format!("{}:{} {}", at.line - 4, at.column, error.message)
            })
        })
        .collect();
    assert_eq!(found.len(), wanted.len(), "{lines}\n{}", show(&errors));
    for (found, (line, column, message)) in found.iter().zip(wanted) {
        assert!(
            found.starts_with(&format!("{line}:{column} ")) && found.contains(message),
            "{lines}\n{found}\nwanted {line}:{column} {message}"
        );
    }
}

#[test]
fn owners_ttls_and_classes_come_in_every_order() {
    let lines = "a A 192.0.2.1\n  60 A 192.0.2.2\nb IN 1h A 192.0.2.3\nc 1h30m IN A 192.0.2.4\nD.E. CLASS1 a 192.0.2.5\n@ TYPE16 x\n$ORIGIN q.e.\nz.e. AAAA ::1\nw TXT \"\"";
    let loaded = read_lines(lines).unwrap();
    assert_eq!(
        records(&loaded).split_off(2),
        [
            "e. 300 TXT \"x\"",
            "a.e. 60 A 192.0.2.1",
            "a.e. 60 A 192.0.2.2",
            "b.e. 3600 A 192.0.2.3",
            "c.e. 5400 A 192.0.2.4",
            "D.E. 300 A 192.0.2.5",
            "w.q.e. 300 TXT \"\"",
            "z.e. 300 AAAA ::1",
        ]
    );
    assert_eq!(loaded.warnings.len(), 1, "{}", show(&loaded.warnings));
    assert!(
        loaded.warnings[0].message.contains("different TTLs; the lowest, 60"),
        "{}",
        show(&loaded.warnings)
    );
    assert_eq!(loaded.warnings[0].at.as_ref().unwrap().line, 6);
    assert_eq!(loaded.zone.soa().negative_ttl(), 5);
    assert_eq!(loaded.zone.rrset_count(), 9);
}

#[test]
fn parentheses_quotes_escapes_comments_and_line_ends() {
    let lines = "a TXT ( \"x;y\" ; comment\r\n z\\;\\032\\\"\r\n)\r\n;\r\n\r\nb\\.c TXT \"\\000\\255\u{e4}\"";
    assert_eq!(
        read_records(lines),
        ["a.e. 300 TXT \"x;y\" \"z; \\\"\"", "b\\.c.e. 300 TXT \"\\000\\255\\195\\164\""]
    );
}

#[test]
fn octets_above_127_are_taken_as_they_are() {
    let mut text = HEAD.as_bytes().to_vec();
    text.extend_from_slice(b"\xfc TXT \xff\xfe \"\x80\"\n");
    let loaded = read(&Source { path: "t".into(), text }, &name("e."), &mut |_, _| Err(String::new())).unwrap();
    assert_eq!(records(&loaded)[2], "\\252.e. 300 TXT \"\\255\\254\" \"\\128\"");
}

#[test]
fn errors_point_at_the_word_and_reading_goes_on() {
    check_errors(
        "a..b A 192.0.2.1\nx A 192.0.2.256\ny TXT \"open\nz TXT \\256\nü TXT ok nok )\nc MX a b\nd A 192.0.2.1 more\ne\nf BOGUS x\ng 2147483648 A 192.0.2.1\nh CH A 192.0.2.1\no.f. A 192.0.2.1\n  A 192.0.2.2\n",
        &[
            (1, 1, "empty label"),
            (2, 5, "an IPv4 address is expected, not \"192.0.2.256\""),
            (3, 7, "quote is not closed"),
            (4, 7, "backslash"),
            (5, 14, "parenthesis is closed"),
            (6, 6, "a number from 0 to 65535 is expected, not \"a\""),
            (7, 15, "one word too many"),
            (8, 2, "ends before its type"),
            (9, 3, "\"BOGUS\" is no record type"),
            (10, 3, "larger than 2147483647"),
            (11, 3, "only class IN"),
            (12, 1, "o.f. lies outside the zone e."),
            (13, 3, "owner name before this line lies outside"),
        ],
    );
}

#[test]
fn an_open_parenthesis_costs_one_entry() {
    check_errors(
        "a TXT ( x\n  y\nb TXT ( z )\nc BOGUS x",
        &[(1, 7, "not closed"), (4, 3, "no record type")],
    );
    check_errors("a TXT ( x", &[(1, 7, "not closed")]);
}

#[test]
fn limits_of_names_and_strings_are_exact() {
    let (label, string) = ("l".repeat(63), "s".repeat(255));
    let long = |last: usize| format!("{label}.{label}.{label}.{}", "m".repeat(last));
    assert_eq!(read_records(&format!("{label} TXT {string}\n{} TXT x", long(59))).len(), 2);
    check_errors(
        &format!("{label}l TXT x\na TXT {string}s\n{} TXT x", long(60)),
        &[(1, 1, "64 octets"), (2, 7, "256 octets"), (3, 1, "longer than 255")],
    );
}

#[test]
fn bad_data_is_refused() {
    let cases = [
        "a A 192.0.2.01",
        "a A \"192.0.2.1\"",
        "a NS \"ns.x.\"",
        "a AAAA ::g",
        "a TXT",
        "a HINFO x",
        "a CAA 0 is_sue x",
        "a CAA 0 issue",
        "a DS 1 8 1 00",
        "a DS 1 8 2 0",
        "a DNSKEY 256 3 8 AR==",
        "a X25 12",
        "a X25 abcd",
        "a WKS 192.0.2.1 tcp nosuch",
        "a LOC 90 1 0 N 0 E 0m",
        "a LOC 1 60 N 0 E 0m",
        "a LOC 1 N 181 E 0m",
        "a APL 1:192.0.2.0/33",
        "a APL 3:1/2",
        "a NULL x",
        "a TYPE65280 x",
        "a A \\# 3 010203",
        "a A \\# 4 010203",
        "a A \\# 5 0102030405",
        "a MX \\# 3 0001c0",
        "a OPT \\# 0",
        "a TYPE251 \\# 0",
        "a ANY x",
        "a SVCB 1 . alpn=h2 alpn=h3",
        "a SVCB 1 . mandatory=alpn",
        "a SVCB 1 . no-default-alpn",
        "a SVCB 1 . port=65536",
        "a SVCB 1 . alpn=",
        "a SVCB 1 . key65535=x",
        "a SVCB 1 . nosuch=1",
        "a SVCB 1 . \"alpn=h2\"",
        "a SVCB 1 . key3=x",
        "a EUI48 00-00-5e-00-53",
        "a NID 1 0014:4fff:ff20",
        "a IPSECKEY 1 4 2 . AQ==",
        "a IPSECKEY 1 0 2 x AQ==",
        "a RRSIG A 8 2 300 20230230000000 20230101000000 1 e. AQ==",
        "a NSEC3 1 0 1 a0 w A",
        "a NSEC3 1 0 1 a 00 A",
        "a ZONEMD 1 1 1 00",
        "a SSHFP 1 1",
        "a TXT a\"b",
        "a TXT a=\"b\"",
        "a=\"b\" TXT x",
        "a NS b=\"c\"",
        "$ORIGIN @",
        "$ORIGIN a\\.",
        "a TXT \"x\"\"y\"",
        "a 1h30 TXT x",
        "a -1 TXT x",
        "a 5 5 TXT x",
        "a IN IN TXT x",
        "\"a\" TXT x",
        "( a TXT x )",
        "a NSAP 47.0005",
        "a NXT b A TYPE128",
        "a CERT 1 2",
        "$GENERATE 1-2 a$ A 192.0.2.1",
        "$BOGUS",
        "$TTL",
        "$TTL x",
        "$ORIGIN",
        "$ORIGIN a b",
        "$ORIGIN a..b",
        "$ORIGIN a",
        "$INCLUDE",
        "$INCLUDE nosuch",
        "\u{feff}",
    ];
    for case in cases {
        assert!(read_lines(case).is_err(), "{case}");
    }
    let errors = read_lines("$GENERATE 1-2 a$ A 192.0.2.1").unwrap_err();
    assert_eq!(errors[0].message, "$GENERATE is not supported");
}

#[test]
fn rules_of_the_whole_zone() {
    check_errors("@ SOA ns.x. h.x. 2 2 3 4 5", &[(1, 1, "more than one SOA")]);
    check_errors("a SOA ns.x. h.x. 2 2 3 4 5", &[(1, 1, "not the apex")]);
    check_errors(
        "a CNAME b\na TXT x\nb CNAME c\nb CNAME d",
        &[(4, 1, "more than one CNAME"), (1, 1, "a CNAME stands alone")],
    );
    check_errors("a DNAME b.\na DNAME c.\n", &[(2, 1, "more than one DNAME")]);
    check_errors("a DNAME b.\na CNAME c.\n", &[(2, 1, "a CNAME stands alone")]);
    check_errors("a DNAME b.\nx.a A 192.0.2.1\n", &[(2, 1, "below the DNAME")]);
    check_errors("a DNAME b.\na NS c.\n", &[(1, 1, "is delegated")]);
    check_errors("*.a NS b.\n*.b DNAME c.", &[(1, 1, "wildcard"), (2, 1, "wildcard")]);
}

#[test]
fn servers_in_the_zone_have_addresses() {
    check_errors("a NS b.a", &[(1, 1, "b.a.e., which has no address")]);
    check_errors("a NS b", &[(1, 1, "b.e., which has no address")]);
    check_errors("a NS b\nb CNAME c.", &[(1, 1, "which is an alias")]);
    for good in [
        "a NS b.a\nb.a AAAA ::1",
        "a NS b.c\nc NS x.",
        "a NS b.w\n*.w A 192.0.2.1",
        "a NS b.",
    ] {
        assert!(read_lines(good).is_ok(), "{good}");
    }
    let errors = read_text("@ SOA ns h 1 2 3 4 5\n@ NS ns\n").unwrap_err();
    assert!(show(&errors).contains("ns.e., which has no address"), "{}", show(&errors));
}

#[test]
fn a_zone_needs_soa_and_ns_but_an_unread_line_may_be_it() {
    let errors = read_text("a 5 A 192.0.2.1").unwrap_err();
    assert_eq!(errors.len(), 2, "{}", show(&errors));
    let errors = read_text("@ 5 SOA a. b. 1 2 3 4 x\n").unwrap_err();
    assert_eq!(errors.len(), 1, "{}", show(&errors));
    assert!(read_text("").is_err());
}

#[test]
fn duplicates_are_dropped_with_a_warning() {
    let loaded = read_lines("a A 192.0.2.1\nA A 192.0.2.1\nb MX 1 Mail.X.\nb MX 1 mail.x.").unwrap();
    assert_eq!(loaded.warnings.len(), 2, "{}", show(&loaded.warnings));
    assert!(
        loaded
            .warnings
            .iter()
            .all(|warning| warning.severity == Severity::Warning && warning.message.contains("given twice"))
    );
    assert_eq!(loaded.zone.node(&name("b.e.")).unwrap().rrset(Rtype::MX).unwrap().rdata.len(), 1);
}

#[test]
fn missing_ttls_are_filled_and_said() {
    let loaded = read_text("@ SOA ns.x. h.x. 1 2 3 4 5\n@ 77 NS ns.x.\na A 192.0.2.1").unwrap();
    let found = records(&loaded);
    assert!(
        found[0].contains(" 77 NS ") && found[1].contains(" 3600 SOA ") && found[2].contains(" 77 A "),
        "{found:?}"
    );
    assert_eq!(loaded.warnings.len(), 1, "{}", show(&loaded.warnings));
}

#[test]
fn at_most_a_hundred_errors_are_reported() {
    let errors = read_lines(&"a BOGUS\n".repeat(5_000)).unwrap_err();
    assert_eq!(errors.len(), ERRORS_MAX);
    assert!(errors[99].hint.as_ref().unwrap().contains("only the first 100"), "{:?}", errors[99]);
    let loaded = read_lines(&"a TXT x\n".repeat(5_000)).unwrap();
    assert_eq!(loaded.warnings.len(), ERRORS_MAX + 1);
    assert_eq!(loaded.warnings[100].message, "4899 more warnings are not shown");
}

#[test]
fn a_finding_is_shown_with_its_line() {
    let errors = read_lines("www\tA 192.0.2.300 ; web").unwrap_err();
    assert_eq!(
        show(&errors),
        "test.zone:5:7: error: an IPv4 address is expected, not \"192.0.2.300\"\n    | www\tA 192.0.2.300 ; web\n    |    \t  ^"
    );
}

#[test]
fn includes_have_their_own_origin_and_their_errors_their_own_file() {
    let text = format!("{HEAD}a TXT a\n$INCLUDE one sub.e.\nb TXT b\n$INCLUDE two");
    let mut asked = Vec::new();
    let mut include = |path: &str, from: &str| {
        asked.push(format!("{path} from {from}"));
        let text = match path {
            "one" => " TXT inherited\nx TXT x\n$ORIGIN y.sub.e.\n$INCLUDE deep\n$TTL 9\n",
            "deep" => "z TXT z",
            "two" => "c TXT c",
            _ => return Err("no such file".into()),
        };
        Ok(Source {
            path: format!("dir/{path}"),
            text: text.into(),
        })
    };
    let loaded = read(&source(&text), &name("e."), &mut include).unwrap();
    assert_eq!(
        records(&loaded).split_off(2),
        [
            "a.e. 300 TXT \"a\"",
            "a.e. 300 TXT \"inherited\"",
            "b.e. 9 TXT \"b\"",
            "c.e. 9 TXT \"c\"",
            "x.sub.e. 300 TXT \"x\"",
            "z.y.sub.e. 300 TXT \"z\"",
        ]
    );
    assert_eq!(asked, ["one from test.zone", "deep from dir/one", "two from test.zone"]);
    let at = loaded.zone.node(&name("z.y.sub.e.")).unwrap().rrsets[0].at;
    assert_eq!(loaded.zone.location(at).unwrap().to_string(), "dir/deep:1:1");

    let mut broken = |path: &str, _: &str| {
        Ok(Source {
            path: path.into(),
            text: b"\nx A bad".to_vec(),
        })
    };
    let errors = read(&source(&format!("{HEAD}a TXT x\n$INCLUDE sub\n TXT who")), &name("e."), &mut broken).unwrap_err();
    let places: Vec<String> = errors.iter().map(|error| error.at.as_ref().unwrap().to_string()).collect();
    assert_eq!(places, ["sub:2:5", "test.zone:7:2"], "{}", show(&errors));
}

#[test]
fn includes_end() {
    let mut count = 0;
    let mut deeper = |_: &str, _: &str| {
        count += 1;
        Ok(Source {
            path: format!("f{count}"),
            text: b"$INCLUDE next\n".to_vec(),
        })
    };
    let errors = read(&source(&format!("{HEAD}$INCLUDE next")), &name("e."), &mut deeper).unwrap_err();
    assert_eq!((count, errors.len()), (10, 1), "{}", show(&errors));
    assert!(errors[0].message.contains("deeper than 10"), "{}", show(&errors));
    let mut itself = |path: &str, _: &str| {
        Ok(Source {
            path: path.into(),
            text: Vec::new(),
        })
    };
    let errors = read(&source(&format!("{HEAD}$INCLUDE test.zone")), &name("e."), &mut itself).unwrap_err();
    assert!(errors[0].message.contains("includes itself"), "{}", show(&errors));
}
