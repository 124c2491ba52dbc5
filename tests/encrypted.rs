//! DNS over TLS, QUIC and HTTPS from outside: RFC 7858, 8467, 8484, 9250, by kdig, curl and aioquic.

mod support;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::secure::{Secure, base64url, query_zero, write_certificate};
use support::{query, try_ask, wait_for};

/// Names with every kind of answer.
const ASKED: &[(&str, RecordType)] = &[
    ("shop.example.net.", RecordType::A),
    ("www.example.net.", RecordType::A),
    ("any.w.example.net.", RecordType::A),
    ("shop.example.net.", RecordType::TXT),
    ("shop.example.net.", RecordType::MX),
    ("nx.example.net.", RecordType::A),
    ("x.sub.example.net.", RecordType::A),
    ("example.org.", RecordType::A),
];

#[test]
fn kdig_gets_the_answer_over_every_transport_and_padding_where_it_is_encrypted() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    let kdig = |port: u16, flags: &[&str], name: &str, kind: RecordType| {
        let output = Command::new("kdig")
            .args(["@127.0.0.1", "-p", &port.to_string(), "+nocrypto", "+retry=0", "+time=10"])
            .args(flags)
            .args([name, &kind.to_string()])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{flags:?} {name}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // From the status to the sections, without the ID, the padding and what kdig measured.
    let gist = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.contains("PADDING") && !line.starts_with(";; Received"));
        let lines = lines.filter(|line| !["session", ";; Time", ";; From"].iter().any(|word| line.contains(word)));
        lines.map(|line| line.split("; id:").next().unwrap()).collect::<Vec<_>>().join("\n")
    };
    let help = Command::new("kdig").arg("-h").output().unwrap();
    let has_quic = String::from_utf8_lossy(&help.stdout).contains("quic");
    for (name, kind) in ASKED {
        let plain = gist(&kdig(secure.site.dns.port(), &["+tcp", "+edns"], name, *kind));
        assert!(plain.contains("status: "), "{plain}");
        let mut transports = vec![
            (secure.tls, vec!["+tls", "+padding"]),
            (secure.https, vec!["+https", "+padding"]),
            (secure.https, vec!["+https-get", "+padding"]),
        ];
        if has_quic {
            transports.push((secure.tls, vec!["+quic", "+padding"]));
        }
        for (address, flags) in transports {
            let text = kdig(address.port(), &flags, name, *kind);
            assert_eq!(gist(&text), plain, "{flags:?}");
            assert!(text.contains(";; Received 468 B"), "{flags:?}: {text}");
        }
    }
    let (_, metrics) = secure.site.get("/metrics").unwrap();
    for transport in ["tls", "https"] {
        let counted = metrics
            .lines()
            .any(|line| line.starts_with(&format!("pointsman_dns_queries_total{{transport=\"{transport}\"}}")) && !line.ends_with(" 0"));
        assert!(counted, "{transport} is not counted");
    }
}

#[test]
fn https_answers_are_those_of_tcp_octet_for_octet_and_caches_learn_their_age() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    for version in ["--http1.1", "--http2"] {
        for (name, kind) in ASKED {
            let message = query_zero(name, *kind);
            let expected = secure.tcp(&message);
            std::fs::write(secure.site.path("q"), &message).unwrap();
            let post = ["-H", "content-type: application/dns-message", "--data-binary", "@q", version];
            let (status, head, body) = secure.curl("/dns-query", &post);
            assert_eq!((status, &body), (200, &expected), "POST {name} {version}: {head}");
            let (status, head, body) = secure.curl(&format!("/dns-query?dns={}", base64url(&message)), &[version]);
            assert_eq!((status, &body), (200, &expected), "GET {name} {version}: {head}");
            assert!(head.contains("content-type: application/dns-message\r\n"), "{head}");
            let age = match (*name, *kind) {
                ("example.org.", _) => "no-store",
                ("nx.example.net.", _) => "max-age=60",
                ("shop.example.net.", RecordType::TXT) | ("x.sub.example.net.", _) => "max-age=300",
                _ => "max-age=5",
            };
            assert!(head.contains(&format!("cache-control: {age}\r\n")), "{name} {kind}: {head}");
        }
        let refused = Message::from_vec(
            &secure
                .curl(
                    &format!("/dns-query?dns={}", base64url(&query_zero("example.org.", RecordType::A))),
                    &[version],
                )
                .2,
        );
        assert_eq!(
            refused.unwrap().metadata.response_code,
            ResponseCode::Refused,
            "what DNS refuses is a 200"
        );
    }
}

#[test]
fn https_says_what_is_wrong_by_status() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    let good = base64url(&query_zero("shop.example.net.", RecordType::A));
    std::fs::write(secure.site.path("q"), query_zero("shop.example.net.", RecordType::A)).unwrap();
    std::fs::write(secure.site.path("long"), vec![0; 70_000]).unwrap();
    std::fs::write(secure.site.path("short"), [0; 5]).unwrap();
    let dns = "content-type: application/dns-message";
    let at = |query: &str| format!("/dns-query{query}");
    let cases: &[(u16, String, &[&str])] = &[
        (404, "/".to_owned(), &[]),
        (404, format!("/dns-query/?dns={good}"), &[]),
        (405, at(""), &["-X", "PUT", "--data-binary", "@q"]),
        (405, at(""), &["-X", "DELETE"]),
        (400, at(""), &[]),
        (400, at("?dns="), &[]),
        (400, at("?dns=AAAA"), &[]),
        (400, at(&format!("?dns={good}=")), &[]),
        (400, at(&format!("?dns={good}&dns={good}")), &[]),
        (400, at(""), &["-H", dns, "--data-binary", "@short"]),
        (406, at(&format!("?dns={good}")), &["-H", "accept: application/dns-json"]),
        (413, at(""), &["-H", dns, "-H", "expect:", "--data-binary", "@long"]),
        (414, at(&format!("?dns={}", "A".repeat(6_000))), &[]),
        (415, at(""), &["--data-binary", "@q"]),
        (200, at(&format!("?x=1&dns={good}")), &["-H", "accept: application/dns-message"]),
        (200, at(&format!("?dns={good}")), &["--head"]),
    ];
    for version in ["--http1.1", "--http2"] {
        for (expected, path, arguments) in cases {
            let (status, head, body) = secure.curl(path, &[arguments, &[version][..]].concat());
            assert_eq!(
                status,
                *expected,
                "{path} {arguments:?} {version}: {head}{}",
                String::from_utf8_lossy(&body)
            );
            assert_eq!(head.contains("\r\nallow: get, head, post\r\n"), status == 405, "{head}");
            assert_eq!(head.contains("no-store"), status != 200, "{head}");
        }
    }
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    let is_trusted = || {
        let url = format!(
            "https://{}/dns-query?dns={}",
            secure.https,
            base64url(&query_zero("shop.example.net.", RecordType::A))
        );
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "10", "--output", "/dev/null", "--cacert"])
            .arg(secure.site.path("dns.crt"))
            .arg(url);
        let https = curl.status().unwrap().success();
        let kdig = Command::new("kdig")
            .args([
                "@127.0.0.1",
                "-p",
                &secure.tls.port().to_string(),
                "+tls-hostname=localhost",
                "+retry=0",
                "+time=5",
            ])
            .arg(format!("+tls-ca={}", secure.site.path("dns.crt").display()))
            .arg("shop.example.net.")
            .output()
            .unwrap();
        let tls = String::from_utf8_lossy(&kdig.stdout).contains("status: NOERROR");
        [https, tls]
    };
    assert_eq!(is_trusted(), [true, true]);
    write_certificate(&secure.site, "localhost");
    wait_for("the new certificate", || (is_trusted() == [true, true]).then_some(()));
    // Broken files change nothing.
    let good = std::fs::read(secure.site.path("dns.crt")).unwrap();
    std::fs::write(secure.site.path("dns.crt"), "rubbish").unwrap();
    wait_for("the warning", || {
        secure.site.log().contains("the new certificate is not used").then_some(())
    });
    std::fs::write(secure.site.path("dns.crt"), good).unwrap();
    assert_eq!(is_trusted(), [true, true]);
}

/// What a certificate may be like after a power cut: plain DNS does not wait for it, and encrypted DNS takes it once it is mended.
#[test]
fn a_broken_certificate_keeps_nobody_from_plain_dns() {
    let secure = Secure::new();
    let key = std::fs::read(secure.site.path("dns.key")).unwrap();
    std::fs::write(secure.site.path("dns.key"), &key[..key.len() / 2]).unwrap();
    let _server = secure.site.serve();
    assert!(try_ask(secure.site.dns, "shop.example.net.", RecordType::A).is_some());
    assert!(secure.site.log().contains("dns.key"), "the log names the file");
    assert!(!secure.is_answered(), "there is nothing to show");
    let alert = || {
        let (_, status) = secure.site.get("/v1/status").unwrap();
        status.contains("certificate-unusable").then_some(status)
    };
    let status = wait_for("the alert", alert);
    assert!(status.contains("dns.key"), "{status}");
    std::fs::write(secure.site.path("dns.key"), &key).unwrap();
    wait_for("the mended certificate", || secure.is_answered().then_some(()));
    wait_for("the end of the alert", || alert().is_none().then_some(()));
}

#[test]
fn a_port_in_use_is_named_with_its_holder() {
    let secure = Secure::new();
    let _holder = std::net::TcpListener::bind(secure.tls).unwrap();
    let code = secure.site.spawn(&[]).wait_end();
    assert_eq!(code, Some(1));
    let log = secure.site.log();
    assert!(
        log.contains(&secure.tls.to_string()) && log.contains(&format!("(pid {})", std::process::id())),
        "{log}"
    );
}

/// Python with aioquic, in a folder that stays between runs; none, said aloud, where pip reaches no registry.
fn python() -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("doq-venv");
    let python = venv.join("bin/python");
    let has_aioquic = || {
        Command::new(&python)
            .args(["-c", "import aioquic"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !has_aioquic() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
        assert!(made.unwrap().success(), "python3-venv is needed");
        let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet", "aioquic"]).status();
        if !installed.unwrap().success() || !has_aioquic() {
            eprintln!("SKIPPED: pip cannot install aioquic here, so DoQ is tried by kdig only");
            return None;
        }
    }
    Some(python)
}

#[test]
fn quic_answers_are_those_of_tcp_and_stalled_handshakes_delay_nobody() {
    let Some(python) = python() else { return };
    let secure = Secure::new();
    let _server = secure.site.serve();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doq.py");
    let doq = |verb: &str| {
        let mut command = Command::new(&python);
        command.arg(&script).arg(verb).arg(secure.tls.port().to_string());
        command
    };
    let ask = |messages: &[Vec<u8>]| -> Vec<String> {
        let hex = messages
            .iter()
            .map(|message| message.iter().map(|octet| format!("{octet:02x}")).collect::<String>());
        let output = doq("ask").args(hex).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        text.lines().map(str::to_owned).collect()
    };
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();

    // All at once on one connection, more than hickory-server would answer on one.
    let messages: Vec<Vec<u8>> = ASKED.iter().cycle().take(240).map(|(name, kind)| query_zero(name, *kind)).collect();
    let expected: Vec<String> = messages.iter().map(|message| hex(&secure.tcp(message))).collect();
    assert_eq!(ask(&messages), expected);

    // RFC 9250 §4.2.1: another ID than 0 is a protocol error (2), and so is what is no query.
    assert_eq!(ask(&[query("shop.example.net.", RecordType::A)]), ["none", "closed 2"]);
    assert_eq!(ask(&[vec![0; 4]]), ["none", "closed 2"]);
    // RFC 9250 §5.5.2: so is edns-tcp-keepalive, here behind the head of an OPT record with one empty option.
    let mut keepalive = query_zero("shop.example.net.", RecordType::A);
    keepalive.truncate(12 + "shop.example.net.".len() + 1 + 4);
    keepalive[11] = 1;
    keepalive.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 11, 0, 0]);
    assert_eq!(ask(&[keepalive.clone()]), ["none", "closed 2"]);
    assert_ne!(secure.tcp(&keepalive).len(), 0, "over TCP it is welcome");

    // Clients that begin a handshake and say no more.
    let mut stalling = doq("stall")
        .arg("1000")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    stalling.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let begin = Instant::now();
    assert_eq!(ask(&messages[..1]), expected[..1]);
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    drop(stalling.stdin.take());
    stalling.wait().unwrap();
}
