//! The zone reader against three others: NSD, BIND and ldns read the same files.
//!
//! Record sets: each oracle prints the zone as it understood it; our reader reads that print, and must get the same
//! records as from the file itself. ldns prints every type as `\# length hex` (RFC 3597 §5), so its octets are
//! compared without any form of ours in between.
//!
//! Accepting and refusing: what NSD and BIND take we take; what we refuse at least one of them refuses, but for a list
//! of cases with the reason for each.
//!
//! The programs come from Debian; a missing one fails the test with the package to install.

use pointsman::model::{Diagnostic, Name};
use pointsman::zone::{Source, print_rdata, read};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

/// SOA and NS of the zone `e.`, before every other line.
const HEAD: &str = "$ORIGIN e.\n$TTL 300\n@ SOA ns.x. h\\.m.x. 2024010101 1h 15m 1w 5m\n@ NS ns.x.\n";

/// Runs an oracle.
fn run(program: &str, package: &str, args: &[&str], file: &Path) -> Output {
    // Debian keeps some of them where only root looks.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("env")
        .arg(format!("PATH={path}"))
        .arg(program)
        .args(args)
        .arg(file)
        .output();
    match output {
        Ok(output) if output.status.code() != Some(127) => output,
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{program}: {error}"),
        _ => panic!("{program} is missing; install it with: apt-get install {package}"),
    }
}

/// What an oracle says to a file: the zone as it understood it, or its complaint.
fn nsd(file: &Path) -> Result<String, String> {
    let output = run("nsd-checkzone", "nsd", &["-p", "e"], file);
    verdict(&output)
}

/// See [`nsd`].
fn bind(file: &Path) -> Result<String, String> {
    // -q: nothing but the dump on standard output.
    let output = run("named-checkzone", "bind9-utils", &["-q", "-D", "e"], file);
    verdict(&output)
}

/// See [`nsd`]. `-U` with a type that no record here has: all types are printed as unknown ones.
fn ldns(file: &Path) -> Result<String, String> {
    let output = run("ldns-read-zone", "ldnsutils", &["-U", "NXT"], file);
    verdict(&output)
}

/// The output, by the exit code.
fn verdict(output: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Every record as `owner ttl type data`, names in lower case; or the errors.
fn records(text: &[u8]) -> Result<BTreeSet<String>, Vec<Diagnostic>> {
    let source = Source {
        path: "e.zone".into(),
        text: text.to_vec(),
    };
    let loaded = read(&source, &Name::parse("e.").unwrap(), &mut |_, _| Err("no includes here".into()))?;
    let mut all = BTreeSet::new();
    for (name, node) in loaded.zone.nodes() {
        for rrset in &node.rrsets {
            for rdata in &rrset.rdata {
                all.insert(format!(
                    "{} {} {} {}",
                    name.to_lowercase(),
                    rrset.ttl,
                    rrset.rtype,
                    print_rdata(rrset.rtype, rdata)
                ));
            }
        }
    }
    Ok(all)
}

/// Findings as text.
fn show(found: &[Diagnostic]) -> String {
    found.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

/// Writes a zone file.
fn write(folder: &tempfile::TempDir, text: &[u8]) -> std::path::PathBuf {
    let file = folder.path().join("e.zone");
    std::fs::write(&file, text).unwrap();
    file
}

/// Compares our records with those of an oracle.
fn compare(oracle: &str, ours: &BTreeSet<String>, printed: Result<String, String>) {
    let printed = printed.unwrap_or_else(|error| panic!("{oracle} refuses the zone:\n{error}"));
    let theirs = records(printed.as_bytes()).unwrap_or_else(|errors| panic!("the print of {oracle} does not read:\n{}", show(&errors)));
    let missing: Vec<&String> = ours.difference(&theirs).collect();
    let extra: Vec<&String> = theirs.difference(ours).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "only ours: {missing:#?}\nonly {oracle}: {extra:#?}"
    );
}

/// Lines that every oracle reads, with the letters of those that do not know the type or form: n NSD, b BIND, l ldns.
const LINES: &[(&str, &str)] = &[
    ("@ A 192.0.2.1", ""),
    ("@ 300 IN AAAA 2001:DB8::1", ""),
    ("a IN 1h30m A 192.0.2.2", "l"),
    ("  AAAA ::ffff:192.0.2.3", ""),
    ("*.w 2w TXT wild", ""),
    ("b.*.w TXT below", ""),
    ("txt TXT a \"b c\" \"x;(\\\"\\\\\" \\000\\255 (", ""),
    ("  \"more\" ; comment", ""),
    ("  )", ""),
    ("esc\\.aped\\032\\@ TXT \"\"", ""),
    ("md MD a.x.", "b"),
    ("mf MF a.x.", "b"),
    ("c CNAME a", ""),
    ("mb MB a.x.", ""),
    ("mg MG a.x.", ""),
    ("mr MR a.x.", ""),
    ("wks WKS 192.0.2.1 6 25 53 80", ""),
    ("ptr PTR a.x.", ""),
    ("hinfo HINFO PC \"a b\"", ""),
    ("minfo MINFO a.x. b.x.", ""),
    ("mx MX 10 mail.x.", ""),
    ("rp RP a.x. .", ""),
    ("afsdb AFSDB 1 a.x.", ""),
    ("x25 X25 311061700956", ""),
    ("isdn ISDN 150862028003217 004", ""),
    ("rt RT 2 a.x.", ""),
    ("nsap NSAP 0x47.0005.80.005a00", ""),
    ("px PX 10 a.x. b.x.", ""),
    ("key KEY 256 3 8 AQID", ""),
    ("loc LOC 42 21 54 N 71 06 18 W -24m 30m", ""),
    ("loc2 LOC 52 14 05.123 N 0 8 50 E 10.25m 1m 2000m 0.05m", ""),
    ("_s._tcp SRV 1 2 443 a.x.", ""),
    ("naptr NAPTR 100 50 \"s\" \"z3950+I2L+I2C\" \"\" _z3950._tcp.x.", ""),
    ("kx KX 1 a.x.", ""),
    ("cert CERT PKIX 1 RSASHA256 AQID", ""),
    ("dname DNAME t.x.", ""),
    ("apl APL 1:192.0.2.0/24 !2:2001:db8::/32 1:0.0.0.0/0", ""),
    ("del NS ns.del", ""),
    ("del DS 60485 8 1 2BB183AF5F22588179A53B0A98631FAD1A292118", ""),
    ("ns.del A 192.0.2.9", ""),
    ("sshfp SSHFP 2 1 123456789abcdef67890123456789abcdef67890", ""),
    ("ipsec IPSECKEY 10 1 2 192.0.2.1 AQID", ""),
    ("ipsec IPSECKEY 10 2 2 2001:db8::1 AQID", ""),
    ("ipsec IPSECKEY 10 3 2 gw.x. AQID", ""),
    ("ipsec IPSECKEY 10 0 2 . AQID", ""),
    ("sig RRSIG A 13 2 300 20240101000000 20230101000000 1 e. AQID", ""),
    ("nsec NSEC nsec2 A MX RRSIG NSEC TYPE1234", ""),
    ("dnskey DNSKEY 257 3 13 AQ ID", ""),
    ("dhcid DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=", ""),
    (
        "2t7b4g4vsa5smi47k61mv5bv1a22bojr NSEC3 1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s MX RRSIG",
        "",
    ),
    ("@ NSEC3PARAM 1 0 12 -", ""),
    (
        "tlsa TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "",
    ),
    (
        "smimea SMIMEA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "",
    ),
    ("@ CDS 0 0 0 00", ""),
    ("@ CDNSKEY 0 3 0 AA==", ""),
    ("pgp OPENPGPKEY AQID", ""),
    ("@ CSYNC 66 3 A NS AAAA", ""),
    (
        "svcb SVCB 1 . port=443 alpn=\"h2,h3\" mandatory=port,alpn ipv6hint=2001:db8::1 ipv4hint=192.0.2.1,192.0.2.2 key667=\"a b\" ech=AQID",
        "",
    ),
    ("alias HTTPS 0 svc.x.", ""),
    ("spf SPF \"v=spf1 -all\"", ""),
    ("nid NID 10 14:4fff:ff20:ee64", ""),
    ("l32 L32 10 10.1.2.0", ""),
    ("l64 L64 10 2001:0db8:1140:1000", ""),
    ("lp LP 10 l64.x.", ""),
    ("eui EUI48 00-00-5e-00-53-2a", ""),
    ("eui EUI64 00-00-5e-ef-10-00-00-2a", ""),
    ("uri URI 10 1 \"ftp://ftp1.example.com/public\"", ""),
    ("caa CAA 0 issue \"ca.example; a=b\"", ""),
    ("caa CAA 128 tbs \"\"", ""),
    ("avc AVC \"app-name:WOLFGANG\"", "l"),
    ("dlv DLV 1 8 1 2BB183AF5F22588179A53B0A98631FAD1A292118", ""),
    ("unknown TYPE65280 \\# 3 01 02 03", ""),
    ("unknown TYPE65281 \\# 0", ""),
    ("generic A \\# 4 c0000201", ""),
    ("generic CLASS1 TYPE28 \\# 16 20010db8000000000000000000000001", ""),
    ("generic MX \\# 5 000a 0161 00", ""),
    ("null NULL \\# 3 00ff10", ""),
    ("$ORIGIN sub.e.", ""),
    ("$TTL 1d", ""),
    ("@ A 192.0.2.77", ""),
    ("deep.er A 192.0.2.78", ""),
    ("back.e. A 192.0.2.79", ""),
];

/// The zone of the lines that an oracle knows.
fn zone_for(letter: char) -> String {
    let lines = LINES
        .iter()
        .filter(|(_, not)| !not.contains(letter))
        .map(|(line, _)| format!("{line}\n"));
    format!("{HEAD}{}", lines.collect::<String>())
}

#[test]
fn all_oracles_read_the_same_records() {
    type Oracle = fn(&Path) -> Result<String, String>;
    let oracles: [(char, &str, Oracle); 3] = [('n', "NSD", nsd), ('b', "BIND", bind), ('l', "ldns", ldns)];
    for (letter, title, oracle) in oracles {
        let folder = tempfile::tempdir().unwrap();
        let text = zone_for(letter);
        let file = write(&folder, text.as_bytes());
        let ours = records(text.as_bytes()).unwrap_or_else(|errors| panic!("{}", show(&errors)));
        assert!(ours.len() > 60, "the zone of {title} has only {} records", ours.len());
        compare(title, &ours, oracle(&file));
    }
}

/// Lines that we take, and NSD and BIND. ldns does too, but for a TTL behind the class and `$ttl` in lower case.
const GOOD: &[&str] = &[
    "a TXT \"\"",
    "a IN 5 TXT x",
    "a 5 IN TXT x",
    "a 0 TXT x",
    "a 2147483647 TXT x",
    "a tXt x",
    "a TXT a ( b\n c )",
    "a TXT ( b ; c )\n )",
    "\\097 TXT x",
    "a\\.b TXT x",
    "a TYPE1 192.0.2.1",
    "a A \\# 4 c0000201",
    "a NS b.",
    "a NS b.a\nb.a A 192.0.2.1",
    "a NS .",
    "a MX 0 .",
    "a DNAME b.\na TXT x",
    "@ DNAME b.",
    "a CNAME b\na RRSIG A 13 2 300 20240101000000 20230101000000 1 e. AQID",
    "*.a CNAME b",
    "a.*.b TXT x",
    "a DNSKEY 256 3 RSASHA256 AQ==",
    "a A 192.0.2.1 ; comment",
    "a TXT x;comment",
    "\n\n  \n;\na TXT x\n\n",
    "a TXT x\r\nb TXT y\r\n",
    "$ttl 5\na TXT x",
    "a TXT x ; no final newline",
];

/// Lines that we refuse and at least one oracle too.
const BAD: &[&str] = &[
    "a..b TXT x",
    ".a TXT x",
    "a\\256 TXT x",
    "a TXT \\256",
    "a TXT \"open",
    "a TXT ( open",
    "a TXT ( x ( y ) )",
    "a TXT x ) y",
    "a TXT",
    "a",
    "a BOGUS x",
    "a A 192.0.2.1 more",
    "a A 192.0.2.01",
    "a A 192.0.2.256",
    "a A 192.0.2",
    "a A \"192.0.2.1\"",
    "a AAAA ::g",
    "a NS \"b.x.\"",
    "a CH A 192.0.2.1",
    "a 1h30 TXT x",
    "a 4294967296 TXT x",
    "a 5 5 TXT x",
    "a HINFO x",
    "a X25 12",
    "a CAA 0 is_sue x",
    "a DS 1 8 1 00",
    "a DNSKEY 256 3 8 AR==",
    "a DNSKEY 256 3 8 AQ=",
    "a LOC 90 1 0 N 0 E 0m",
    "a APL 1:192.0.2.0/33",
    "a A \\# 3 c00002",
    "a A \\# 4 c00002",
    "a TYPE65280 x",
    "a TYPE251 \\# 0",
    "a SVCB 1 . alpn=h2 alpn=h3",
    "a SVCB 1 . mandatory=alpn",
    "a SVCB 1 . no-default-alpn",
    "a SVCB 1 . \"alpn=h2\"",
    "a ZONEMD 1 1 1 00",
    "a EUI48 00-00-5e-00-53",
    "a NSEC3 1 0 1 a0 w A",
    "x.f. TXT x",
    "$GENERATE 1-2 a$ A 192.0.2.1",
    "$BOGUS x",
    "$ORIGIN a",
    "$INCLUDE nosuch",
    "@ SOA ns.x. h.x. 2 3600 900 604800 300",
    "a SOA ns.x. h.x. 2 3600 900 604800 300",
    "a CNAME b\na TXT x",
    "a CNAME b\na CNAME c",
    "a DNAME b.\na DNAME c.",
    "a DNAME b.\na CNAME c.",
    "a DNAME b.\nx.a TXT x",
    "*.a NS b.",
    "@ NS b",
    "( a TXT x )",
    "a\rb TXT x",
    "a TXT x\ry",
];

/// Lines that we refuse though the three take them, with the reason.
const STRICTER: &[(&str, &str)] = &[
    ("a 2147483648 TXT x", "RFC 2181 section 8"),
    ("a NS b.a", "Knot wants glue"),
    ("a NS b\nb CNAME c", "RFC 2181 section 10.3, and Knot wants an address"),
    ("a NS x.\na DNAME y.", "Knot: NS beside DNAME"),
    ("*.a DNAME b.", "RFC 6672 section 3.3: what it means is not defined"),
    ("a TXT \"x\"\"y\"", "Knot wants a blank between strings"),
    ("a TXT a=\"b\"", "Knot refuses it, and NSD and BIND read different strings"),
];

/// Whether each oracle takes a zone.
fn takers(file: &Path) -> [bool; 3] {
    [nsd(file).is_ok(), bind(file).is_ok(), ldns(file).is_ok()]
}

#[test]
fn what_all_take_is_taken_and_what_is_refused_is_refused_elsewhere_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let stricter = STRICTER.iter().map(|(lines, _)| *lines);
    let cases = GOOD
        .iter()
        .map(|lines| (*lines, 'g'))
        .chain(BAD.iter().map(|lines| (*lines, 'b')))
        .chain(stricter.map(|lines| (lines, 's')));
    for (lines, list) in cases {
        let text = format!("{HEAD}{lines}");
        let file = write(&folder, text.as_bytes());
        let theirs = takers(&file);
        let ours = records(text.as_bytes()).is_ok();
        let fits = match list {
            'g' => ours && theirs[..2] == [true; 2],
            'b' => !ours && theirs != [true; 3],
            _ => !ours && theirs[..2] == [true; 2],
        };
        if !fits {
            wrong.push(format!("{list} {lines:?}: ours {ours}, NSD, BIND, ldns {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn octets_above_127_and_limits_are_read_as_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let label = "l".repeat(63);
    let mut text = format!("{HEAD}{label}.{label}.{label}.{} TXT {}\n", "m".repeat(59), "s".repeat(255)).into_bytes();
    text.extend_from_slice(b"high TXT \"\xc3\xa4\xff\" \xe2\x82\xac\n");
    let many: String = (0..300).map(|index| format!("many TXT {index}\n")).collect();
    text.extend_from_slice(many.as_bytes());
    let file = write(&folder, &text);
    let ours = records(&text).unwrap_or_else(|errors| panic!("{}", show(&errors)));
    compare("NSD", &ours, nsd(&file));
    compare("BIND", &ours, bind(&file));
    for lines in [
        format!("{label}l TXT x"),
        format!("a TXT {}", "s".repeat(256)),
        format!("{label}.{label}.{label}.{} TXT x", "m".repeat(60)),
    ] {
        let text = format!("{HEAD}{lines}");
        let file = write(&folder, text.as_bytes());
        assert!(
            records(text.as_bytes()).is_err() && nsd(&file).is_err() && bind(&file).is_err(),
            "{lines}"
        );
    }
}
