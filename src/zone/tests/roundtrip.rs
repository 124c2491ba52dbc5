//! parse(print(x)) == x for every type, and no octets panic.

use super::*;
use crate::model::Rtype;
use crate::zone::table::{fields, known};
use crate::zone::{fuzz::fuzz, parse_rdata, print_rdata, wire};
use proptest::prelude::*;

/// Presentation forms of every type; the second column where the printed form differs.
pub(super) const SAMPLES: &[(&str, &str, &str)] = &[
    ("A", "192.0.2.1", ""),
    ("NS", "ns.e.", ""),
    ("MD", "a.", ""),
    ("MF", "a.", ""),
    ("CNAME", "a\\.b.e.", ""),
    (
        "SOA",
        "ns.e. h\\.m.e. 2024010101 1h 15m 1w 5m",
        "ns.e. h\\.m.e. 2024010101 3600 900 604800 300",
    ),
    ("MB", "a.", ""),
    ("MG", "a.", ""),
    ("MR", "a.", ""),
    ("NULL", "\\# 3 00FF10", ""),
    ("NULL", "\\# 0", ""),
    ("WKS", "192.0.2.1 tcp smtp domain 80", "192.0.2.1 6 25 53 80"),
    ("WKS", "192.0.2.1 17", ""),
    ("PTR", "a.", ""),
    ("HINFO", "PC \"a b\"", "\"PC\" \"a b\""),
    ("MINFO", "a. b.", ""),
    ("MX", "10 mail", "10 mail.e."),
    ("MX", "0 .", ""),
    ("TXT", "a \"b c\" \\034", "\"a\" \"b c\" \"\\\"\""),
    ("RP", "a. .", ""),
    ("AFSDB", "1 a.", ""),
    ("X25", "311061700956", "\"311061700956\""),
    ("ISDN", "150862028003217 004", "\"150862028003217\" \"004\""),
    ("ISDN", "\"150862028003217\"", ""),
    ("RT", "2 a.", ""),
    ("NSAP", "0x47.0005.80.005a00", "0x47000580005A00"),
    ("SIG", "A 8 2 300 20240101000000 20230101000000 1 e. AQID", ""),
    ("KEY", "256 3 RSASHA256 AQID", "256 3 8 AQID"),
    ("KEY", "49152 3 0", ""),
    ("PX", "10 a. b.", ""),
    ("AAAA", "2001:DB8::1", "2001:db8::1"),
    (
        "LOC",
        "42 21 54 N 71 06 18 W -24m 30m",
        "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m",
    ),
    (
        "LOC",
        "52 N 179 59 59.999 E 0",
        "52 0 0.000 N 179 59 59.999 E 0.00m 1.00m 10000.00m 10.00m",
    ),
    (
        "LOC",
        "90 S 180 W 42849672.95m 90000000m 0.05m 0m",
        "90 0 0.000 S 180 0 0.000 W 42849672.95m 90000000.00m 0.05m 0.00m",
    ),
    ("NXT", "a. A MX TYPE127", ""),
    ("SRV", "1 2 443 a.", ""),
    ("NAPTR", "100 50 \"s\" \"z3950+I2L+I2C\" \"\" _z3950._tcp.e.", ""),
    ("KX", "1 a.", ""),
    ("CERT", "PKIX 1 RSASHA256 AQID", "1 1 8 AQID"),
    ("DNAME", "a.", ""),
    ("APL", "1:192.0.2.0/24 !2:2001:db8::/32 1:0.0.0.0/0", ""),
    ("APL", "", ""),
    ("DS", "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118", ""),
    (
        "SSHFP",
        "2 1 123456789abcdef67890123456789abcdef67890",
        "2 1 123456789ABCDEF67890123456789ABCDEF67890",
    ),
    ("IPSECKEY", "10 0 2 . AQID", ""),
    ("IPSECKEY", "10 1 2 192.0.2.1 AQID", ""),
    ("IPSECKEY", "10 2 2 2001:db8::1 AQID", ""),
    ("IPSECKEY", "10 3 0 gw.e.", ""),
    (
        "RRSIG",
        "TYPE65280 13 2 1h 21060207062815 0 1 e. AQID",
        "TYPE65280 13 2 3600 21060207062815 19700101000000 1 e. AQID",
    ),
    ("NSEC", "a. A RRSIG TYPE1234", ""),
    ("NSEC", "a.", ""),
    ("DNSKEY", "257 3 13 AQ ID", "257 3 13 AQID"),
    ("DHCID", "AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=", ""),
    (
        "NSEC3",
        "1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX RRSIG",
        "1 1 12 AABBCCDD 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR MX RRSIG",
    ),
    ("NSEC3", "1 0 0 - 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR", ""),
    ("NSEC3PARAM", "1 0 12 -", ""),
    ("TLSA", "3 1 1 00FF", ""),
    ("SMIMEA", "3 1 1 00FF", ""),
    ("CDS", "0 0 0 00", ""),
    ("CDNSKEY", "0 3 0 AA==", ""),
    ("OPENPGPKEY", "AQID", ""),
    ("CSYNC", "66 3 A NS AAAA", ""),
    ("ZONEMD", "1 1 240 000102030405060708090A0B", ""),
    ("SVCB", "0 a.", ""),
    (
        "SVCB",
        "1 . port=443 alpn=\"h2,f\\\\\\\\oo\\\\,bar\" mandatory=port,alpn ipv6hint=2001:db8::1 ipv4hint=192.0.2.1,192.0.2.2 key667=\"a b\" ech=AQID no-default-alpn dohpath=/q{?dns}",
        "1 . mandatory=alpn,port alpn=\"h2,f\\\\\\\\oo\\\\,bar\" no-default-alpn port=443 ipv4hint=192.0.2.1,192.0.2.2 ech=AQID ipv6hint=2001:db8::1 dohpath=\"/q{?dns}\" key667=\"a b\"",
    ),
    ("HTTPS", "1 svc.e. key3=\\001\\187 ohttp key9", "1 svc.e. port=443 ohttp key9"),
    ("SPF", "\"v=spf1 -all\"", ""),
    ("NID", "10 14:4fff:FF20:ee64", "10 0014:4fff:ff20:ee64"),
    ("L32", "10 10.1.2.0", ""),
    ("L64", "10 2001:0db8:1140:1000", ""),
    ("LP", "10 l64.e.", ""),
    ("EUI48", "00-00-5E-00-53-2a", "00-00-5e-00-53-2a"),
    ("EUI64", "00-00-5e-ef-10-00-00-2a", ""),
    ("URI", "10 1 \"ftp://ftp1.example.com/public\"", ""),
    ("CAA", "0 issue \"ca.example; a=b\"", ""),
    ("CAA", "128 tbs \"\"", ""),
    ("AVC", "\"app-name:WOLFGANG\"", ""),
    ("DLV", "1 8 2 0000000000000000000000000000000000000000000000000000000000000000", ""),
    ("TYPE65280", "\\# 2 ABCD", ""),
    ("HIP", "\\# 0", ""),
];

#[test]
fn every_type_reads_and_prints() {
    for (rtype, text, printed) in SAMPLES {
        let rtype = Rtype::parse(rtype).unwrap();
        let wire = parse_rdata(rtype, text, &name("e.")).unwrap_or_else(|error| panic!("{rtype} {text}: {error}"));
        wire::check(rtype, &wire).unwrap_or_else(|error| panic!("{rtype} {text}: {error}"));
        let again = print_rdata(rtype, &wire);
        assert_eq!(again, if printed.is_empty() { *text } else { *printed }, "{rtype}");
        assert_eq!(parse_rdata(rtype, &again, &name("x.")).as_deref(), Ok(&*wire), "{rtype} {again}");
        // RFC 3597 §5: the same octets, written so.
        let hex: String = wire.iter().map(|octet| format!("{octet:02x}")).collect();
        let generic = format!("\\# {} {hex}", wire.len());
        assert_eq!(
            parse_rdata(rtype, &generic, &name("e.")).as_deref(),
            Ok(&*wire),
            "{rtype} {generic}"
        );
    }
    let missing: Vec<Rtype> = known()
        .filter(|rtype| !SAMPLES.iter().any(|(sample, ..)| Rtype::parse(sample) == Some(*rtype)))
        .collect();
    assert!(missing.is_empty(), "types without a sample: {missing:?}");
}

#[test]
fn cut_or_extended_data_is_refused() {
    for (rtype, text, _) in SAMPLES {
        let rtype = Rtype::parse(rtype).unwrap();
        let wire = parse_rdata(rtype, text, &name("e.")).unwrap();
        for len in 0..wire.len() {
            let cut = &wire[..len];
            let text = print_rdata(rtype, cut);
            match wire::check(rtype, cut) {
                Ok(()) => assert_eq!(parse_rdata(rtype, &text, &name("e.")).as_deref(), Ok(cut), "{rtype} {text}"),
                Err(_) => {
                    assert!(text.starts_with("\\# "), "{rtype} {text}");
                    assert!(parse_rdata(rtype, &text, &name("e.")).is_err(), "{rtype} {text}");
                }
            }
        }
    }
}

/// A zone with every sample, for mutations.
fn rich_zone() -> Vec<u8> {
    let mut text = String::from("$ORIGIN example.net.\n$TTL 1h\n@ SOA ns h ( 1 2 3 4 5 ) ; soa\n@ NS ns\nns A 192.0.2.1\n");
    for (index, (rtype, data, _)) in SAMPLES.iter().enumerate() {
        text.push_str(&format!("n{index} IN {rtype} {data}\n"));
    }
    text.push_str("d NS ns.d\nns.d A 192.0.2.2\n*.w TXT \"x\\000\"\nc.z CNAME z\n$INCLUDE more sub\nz DNAME w.d\n");
    text.into_bytes()
}

#[test]
fn seeded_smoke_run_of_the_fuzz_body() {
    let good = rich_zone();
    fuzz(&good);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let pieces: [&[u8]; 12] = [
        b"(",
        b")",
        b"\"",
        b"\\",
        b"\n",
        b"\r",
        b";",
        b"$INCLUDE x\n",
        b"\\# 2 0102",
        b"\\256",
        b" ",
        b"=",
    ];
    for _ in 0..1_500 {
        let mut bytes = good.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.splice(at..at, pieces[random(pieces.len())].iter().copied())),
                2 => drop(bytes.drain(at..(at + random(40)).min(bytes.len()))),
                _ => bytes.truncate(at.max(1)),
            }
        }
        fuzz(&bytes);
    }
}

proptest! {
    #[test]
    fn any_octets_of_any_type_print_and_read_back(rtype in prop::sample::select(known().collect::<Vec<_>>()), octets in prop::collection::vec(any::<u8>(), 0..60)) {
        let text = print_rdata(rtype, &octets);
        for range in super::super::compressible_names(rtype, &octets) {
            prop_assert!(range.end <= octets.len());
        }
        match wire::check(rtype, &octets) {
            Ok(()) => {
                let back = parse_rdata(rtype, &text, &name("e.")).map(Vec::from);
                prop_assert_eq!(back, Ok(octets), "{}", text);
            }
            Err(_) => prop_assert!(parse_rdata(rtype, &text, &name("e.")).is_err()),
        }
    }

    #[test]
    fn samples_with_changed_octets_print_and_read_back(index in 0..SAMPLES.len(), at in any::<prop::sample::Index>(), octet in any::<u8>()) {
        let (rtype, text, _) = SAMPLES[index];
        let rtype = Rtype::parse(rtype).unwrap();
        let mut octets = parse_rdata(rtype, text, &name("e.")).unwrap().into_vec();
        if !octets.is_empty() {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        let text = print_rdata(rtype, &octets);
        if wire::check(rtype, &octets).is_ok() {
            let back = parse_rdata(rtype, &text, &name("e.")).map(Vec::from);
            prop_assert_eq!(back, Ok(octets), "{}", text);
        }
    }

    #[test]
    fn any_text_of_any_type_is_read_or_refused(rtype in prop::sample::select(known().collect::<Vec<_>>()), text in "[ 0-9a-f.:=,\"\\\\()+mNE-]{0,30}") {
        if let Ok(octets) = parse_rdata(rtype, &text, &name("e.")) {
            prop_assert!(fields(rtype).is_some());
            prop_assert_eq!(wire::check(rtype, &octets), Ok(()));
        }
    }

    #[test]
    fn random_octets_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz(&bytes);
    }
}
