//! Zones and packets for the differential tests: everything that servers are known to differ in.

use super::answer_support::{query, query_with};
use pointsman::model::Name;

/// Zones as apex and text.
pub fn rich() -> Vec<(String, String)> {
    let long = format!("{0}.{0}.{0}.{1}", "l".repeat(63), "m".repeat(47)); // with .rich.test. 255 octets
    let head = |apex: &str| {
        format!(
            "$TTL 3600\n$ORIGIN {apex}\n@ SOA ns1 host 2026112101 7200 3600 1209600 300\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns1 AAAA 2001:db8::1\nns2 A 192.0.2.2\n"
        )
    };
    let many_a: String = (0..60).map(|n| format!("many A 192.0.2.{n}\n")).collect();
    let many_txt: String = (0..40)
        .map(|n| format!("texts TXT \"text number {n} {}\"\n", "x".repeat(60)))
        .collect();
    let many_types = "types A 192.0.2.9\ntypes AAAA 2001:db8::9\ntypes MX 10 mail\ntypes MX 20 mail.other.test.\ntypes TXT \"hello\"\ntypes CAA 0 issue \"ca.test\"\n\
        types SRV 1 2 3 ns1\ntypes PTR ns1\ntypes HINFO \"a\" \"b\"\ntypes LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m\ntypes NAPTR 1 2 \"u\" \"s\" \"!x!y!\" .\n\
        types RP host ns1\ntypes AFSDB 1 ns1\ntypes SSHFP 1 1 0123456789abcdef0123456789abcdef01234567\ntypes TYPE65280 \\# 3 010203\ntypes TLSA 3 1 1 00ff\n";
    let chain: String = (0..30).map(|n| format!("chain{n} CNAME chain{}\n", n + 1)).collect();
    let rich = format!(
        "{}{many_a}{many_txt}{many_types}{chain}chain30 A 192.0.2.30\n\
        @ MX 10 mail\n@ TXT \"v=spf1 -all\"\nmail A 192.0.2.25\nwww CNAME web\nweb A 192.0.2.80\nweb AAAA 2001:db8::80\n\
        loop1 CNAME loop2\nloop2 CNAME loop3\nloop3 CNAME loop1\nself CNAME self\ndangling CNAME nothing\nnodata CNAME mail\nout CNAME www.example.com.\n\
        toapex CNAME @\ntoroot CNAME .\ntochild CNAME www.child\ntochildnx CNAME nx.child\ntosister CNAME www.sister.test.\ntodeleg CNAME www.sub\n\
        *.wild A 192.0.2.40\n*.wild MX 10 mail\nreal.wild TXT \"real\"\na.b.ent.wild TXT \"deep\"\n*.ent.wild TXT \"ent\"\n\
        *.wc CNAME web\n*.wcloop CNAME x.y.wcloop\n*.wcself CNAME me.wcself\n*.wcout CNAME out\n*.wcnx CNAME nothing\nsub.wc NS ns.sub.wc\nns.sub.wc A 192.0.2.41\n\
        b.*.lit A 192.0.2.42\n*.*.star A 192.0.2.43\n*.*.star TXT \"two\"\n\
        sub NS ns.sub\nsub NS ns1\nsub NS ns.other.test.\nsub DS 1 8 2 {ds}\nns.sub A 192.0.2.50\nns.sub AAAA 2001:db8::50\nx.sub TXT \"occluded\"\nsubsub.sub NS ns.sub\n\
        sib NS ns.sub\nsib NS ns.sib2\nsib2 NS ns.sib2\nns.sib2 A 192.0.2.51\noutside NS ns.example.com.\noutside NS ns.example.org.\n\
        big NS ns1.big\nbig NS ns2.big\nbig NS ns3.big\nbig NS ns4.big\nbig NS ns5.big\nbig NS ns6.big\nbig NS ns7.big\nbig NS ns8.big\n{glue}\
        {huge}wns NS a.wild\n\
        dn DNAME web2\nweb2 A 192.0.2.60\nx.web2 A 192.0.2.61\nx.web2 TXT \"below\"\nc.web2 CNAME x.dn\n*.web2 A 192.0.2.62\ndnout DNAME example.com.\ndnloop DNAME a.dnloop2\ndnloop2 DNAME dnloop\n\
        dnself DNAME dnself2.dnhop\ndnhop DNAME dnwide\n*.dnwide A 192.0.2.63\ndnchild DNAME child\ndnsub DNAME sub\ndnlong DNAME {long}\n\
        viadname CNAME x.dn\nviadname2 CNAME nx.nx.dn\n\
        {long} A 192.0.2.70\ntolong CNAME {long}\n\
        child NS ns.child\nchild NS ns1\nns.child A 192.0.2.90\nchild DS 7 8 2 {ds}\n\
        CaSe A 192.0.2.95\nlower CNAME CASE\n\\000bin TXT \"binary\"\nsp\\032ace A 192.0.2.96\n",
        head("rich.test."),
        ds = "ab".repeat(32),
        huge = (0..10)
            .map(|n| format!("huge NS {}{n}.huge\n{}{n}.huge A 192.0.2.{n}\n", "h".repeat(30), "h".repeat(30)))
            .collect::<String>(),
        glue = (1..=8)
            .map(|n| format!("ns{n}.big A 192.0.2.{n}\nns{n}.big AAAA 2001:db8::{n}\n"))
            .collect::<String>(),
    );
    let child = format!(
        "{}www A 192.0.2.91\n*.w TXT \"w\"\nup CNAME web.rich.test.\n",
        head("child.rich.test.")
    );
    let deep = format!("{}www A 192.0.2.92\n", head("deep.nodeleg.rich.test."));
    let sister = format!("{}www A 192.0.2.93\nback CNAME web.rich.test.\n", head("sister.test."));
    let apex_dname = "$TTL 60\nadn.test. SOA ns1.rich.test. h.rich.test. 1 2 3 4 5\nadn.test. NS ns1.rich.test.\nadn.test. DNAME web2.rich.test.\nadn.test. TXT \"apex\"\n".to_owned();
    let apex_dname_in =
        "$TTL 60\nadi.test. SOA ns1.rich.test. h.rich.test. 1 2 3 4 500\nadi.test. NS ns1.rich.test.\nadi.test. DNAME x.adi2.test.\n"
            .to_owned();
    vec![
        ("rich.test.".into(), rich),
        ("child.rich.test.".into(), child),
        ("deep.nodeleg.rich.test.".into(), deep),
        ("sister.test.".into(), sister),
        ("adn.test.".into(), apex_dname),
        ("adi.test.".into(), apex_dname_in),
    ]
}

/// Packets with something odd about them.
pub fn odd_packets() -> Vec<(String, Vec<u8>)> {
    let name = Name::parse("www.rich.test.").unwrap();
    let plain = query(&name, 1, None);
    let edns = query(&name, 1, Some((1232, false)));
    let opt = &edns[plain.len()..];
    let mut packets: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |what: &str, packet: Vec<u8>| packets.push((what.to_owned(), packet));
    let with = |at: usize, value: u8| {
        let mut packet = plain.clone();
        packet[at] = value;
        packet
    };
    for len in [0, 5, 11, 12, 14, 20, plain.len() - 1] {
        add(&format!("cut to {len}"), plain[..len].to_vec());
    }
    add("response", with(2, 0x81));
    for opcode in [1_u8, 2, 3, 4, 5, 6, 15] {
        add(&format!("opcode {opcode}"), with(2, opcode << 3));
    }
    add("no question", with(5, 0));
    add("two questions announced", with(5, 2));
    let mut two = with(5, 2);
    two.extend_from_slice(&plain[12..]);
    add("two questions", two);
    add("one answer announced", with(7, 1));
    add("one authority announced", with(9, 1));
    add("one additional announced", with(11, 1));
    add("trailing garbage", [&plain[..], &[1, 2, 3]].concat());
    add("flags Z AD CD", with(3, 0x70));
    add("rcode set", with(3, 0x03));
    add("AA TC RA set", [&with(2, 0x07)[..3], &[0x80], &plain[4..]].concat());
    add("question compressed to itself", query_with(&[0xc0, 12], 1, 1, None));
    add(
        "question compressed to the header",
        query_with(&[3, b'w', b'w', b'w', 0xc0, 0], 1, 1, None),
    );
    add("label 64", query_with(&[&[64_u8][..], &[b'a'; 64], &[0]].concat(), 1, 1, None));
    add("label type 0x80", query_with(&[0x80, b'a', 0], 1, 1, None));
    add(
        "name of 256 octets",
        query_with(
            &[
                [63_u8].as_slice(),
                &[b'a'; 63],
                &[63],
                &[b'a'; 63],
                &[63],
                &[b'a'; 63],
                &[62],
                &[b'a'; 62],
                &[0],
            ]
            .concat(),
            1,
            1,
            None,
        ),
    );
    for class in [0_u16, 2, 3, 4, 254, 255, 1000] {
        add(&format!("class {class}"), query_with(name.wire(), 1, class, None));
    }
    for qtype in [0_u16, 41, 249, 250, 251, 252, 253, 254, 128] {
        add(
            &format!("qtype {qtype}"),
            query_with(Name::parse("rich.test.").unwrap().wire(), qtype, 1, None),
        );
    }
    let ar = |count: u8, extra: &[u8]| {
        let mut packet = with(11, count);
        packet.extend_from_slice(extra);
        packet
    };
    add("OPT twice", ar(2, &[opt, opt].concat()));
    add("OPT with an owner", ar(1, &[&[1, b'a'][..], opt].concat()));
    add("OPT version 1", ar(1, &[&opt[..6], &[1], &opt[7..]].concat()));
    add("OPT version 255 with DO", ar(1, &[&opt[..6], &[255, 0x80], &opt[8..]].concat()));
    add(
        "OPT with an unknown option",
        ar(1, &[&opt[..9], &[0, 6, 0xfd, 0xe9, 0, 2, 1, 2]].concat()),
    );
    add(
        "OPT with options cut short",
        ar(1, &[&opt[..9], &[0, 5, 0xfd, 0xe9, 0, 9, 1]].concat()),
    );
    add("OPT longer than the packet", ar(1, &[&opt[..9], &[0, 50]].concat()));
    add("OPT with extended rcode", ar(1, &[&opt[..5], &[7], &opt[6..]].concat()));
    add("OPT with Z bits", ar(1, &[&opt[..7], &[0x7f, 0xff], &opt[9..]].concat()));
    add("an A record as additional", ar(1, &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]));
    add(
        "OPT and an A record",
        ar(2, &[opt, &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]].concat()),
    );
    packets
}
