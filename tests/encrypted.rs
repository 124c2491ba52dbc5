//! DNS over TLS, QUIC and HTTPS from outside: RFC 7858, 8467, 8484, 9250, by kdig, curl and aioquic.

mod support;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls_pki_types::pem::PemObject;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{PATIENCE, PLAIN, Site, free_port, query, try_ask, wait_for};

/// A site with all transports: one port for TLS and QUIC, one for HTTPS.
struct Secure {
    site: Site,
    tls: SocketAddr,
    https: SocketAddr,
}

impl Secure {
    fn new() -> Secure {
        let site = Site::new(PLAIN);
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (tls, https) = (local(free_port()), local(free_port()));
        write_certificate(&site, "localhost");
        let keys = format!(
            "workers = 1\ntls-listen = [\"{tls}\"]\nquic-listen = [\"{tls}\"]\nhttps-listen = [\"{https}\"]\ntls = {{ cert = \"dns.crt\", key = \"dns.key\" }}\n"
        );
        let config = std::fs::read_to_string(site.config()).unwrap();
        std::fs::write(site.config(), config.replacen("workers = 1\n", &keys, 1)).unwrap();
        Secure { site, tls, https }
    }

    /// An HTTPS request by curl: status, headers, body.
    fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String, Vec<u8>) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--insecure", "--max-time", "20"])
            .args(arguments)
            .arg(format!("https://{}{path}", self.https))
            .current_dir(self.site.dir.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{path} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // An interim response (100 Continue) comes before the one that counts.
        let mut rest = &output.stdout[..];
        loop {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
            rest = &rest[end..];
            let status = head.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
            if status >= 200 {
                return (status, head, rest.to_vec());
            }
        }
    }

    /// A client of HTTP/2.
    async fn http2(&self, builder: h2::client::Builder) -> h2::client::SendRequest<bytes::Bytes> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(self.site.path("dns.crt")).unwrap();
        roots.add(rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = tokio::net::TcpStream::connect(self.https).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (client, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A drop counter, as a scrape gives it.
    fn dropped(&self, reason: &str) -> u64 {
        let (_, text) = self.site.get("/metrics").unwrap();
        let label = format!("reason=\"{reason}\"");
        let is_it = |line: &&str| line.starts_with("pointsman_dns_drops_total") && line.contains(&label);
        let line = text.lines().find(is_it);
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// The answer over TCP, octet for octet.
    fn tcp(&self, message: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.site.dns).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(&[&(message.len() as u16).to_be_bytes(), message].concat())
            .unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        answer
    }
}

/// Resident memory of a process, octets.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Writes a new certificate as renewals do.
fn write_certificate(site: &Site, host: &str) {
    let made = rcgen::generate_simple_self_signed([host.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    for (name, text) in [("dns.crt", made.cert.pem()), ("dns.key", made.signing_key.serialize_pem())] {
        std::fs::write(site.path("new"), text).unwrap();
        std::fs::rename(site.path("new"), site.path(name)).unwrap();
    }
}

/// A query as DoH and DoQ want it: ID 0.
fn query_zero(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = query(name, kind);
    message[..2].fill(0);
    message
}

/// Base64url without padding.
fn base64url(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for n in 0..=group.len() {
            text.push(DIGITS[(bits >> (18 - 6 * n) & 63) as usize] as char);
        }
    }
    text
}

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

#[test]
fn stalled_handshakes_are_cut_and_delay_nobody() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    let mut stalled: Vec<TcpStream> = (0..200)
        .map(|n| TcpStream::connect(if n % 2 == 0 { secure.tls } else { secure.https }).unwrap())
        .collect();
    for stream in &mut stalled {
        // The beginning of a handshake record, and nothing after it.
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(12))).unwrap();
    }
    let begin = Instant::now();
    let good = base64url(&query_zero("shop.example.net.", RecordType::A));
    assert_eq!(secure.curl(&format!("/dns-query?dns={good}"), &[]).0, 200);
    assert!(try_ask(secure.site.dns, "shop.example.net.", RecordType::A).is_some());
    assert!(begin.elapsed() < Duration::from_secs(4));
    for stream in &mut stalled {
        let mut rest = Vec::new();
        // A reset is an end too; only a time-out is not.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    // Rubbish instead of a handshake ends at once.
    let mut rubbish = TcpStream::connect(secure.tls).unwrap();
    rubbish.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    rubbish.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let ended = rubbish.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
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
    let good = base64url(&query_zero("shop.example.net.", RecordType::A));
    let url = format!("https://{}/dns-query?dns={good}", secure.https);
    let is_answered = || {
        let words = ["--silent", "--insecure", "--max-time", "2", "--write-out", "%{http_code}", &url];
        Command::new("curl").args(words).output().unwrap().stdout.ends_with(b"200")
    };
    assert!(!is_answered(), "there is nothing to show");
    std::fs::write(secure.site.path("dns.key"), &key).unwrap();
    wait_for("the mended certificate", || is_answered().then_some(()));
}

/// Ten thousand clients on addresses of their own that begin a handshake and leave it; every limit is met, nobody else feels it.
#[test]
fn a_flood_of_handshakes_leaves_room_for_others() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let many = usize::try_from(hard / 2).unwrap().min(10_000);
    let secure = Secure::new();
    let server = secure.site.serve();
    let before = resident(server.child.id());
    let good = format!("/dns-query?dns={}", base64url(&query_zero("shop.example.net.", RecordType::A)));
    let mut flood = Vec::new();
    for n in 0..many {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::from(([127, 3, (n / 200) as u8, (n % 200) as u8 + 1], 0));
        socket.bind(&from.into()).unwrap();
        let to = if n % 2 == 0 { secure.tls } else { secure.https };
        // A server that takes no more lets connections wait; that is an end of its flood too.
        if socket.connect_timeout(&to.into(), PATIENCE).is_ok() {
            let mut stream = TcpStream::from(socket);
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1][..n % 7]);
            flood.push(stream);
        }
        if n % 1000 == 0 {
            assert!(try_ask(secure.site.dns, "shop.example.net.", RecordType::A).is_some());
        }
    }
    let grown = resident(server.child.id()).saturating_sub(before);
    assert!(grown < 160 << 20, "{} handshakes cost {grown} octets", flood.len());
    assert!(secure.dropped("tcp-full") > 0, "the limits were met");
    let kdig = || {
        let port = secure.tls.port().to_string();
        let words = [
            "@127.0.0.1",
            "-p",
            &port,
            "+tls",
            "+timeout=2",
            "+retry=0",
            "shop.example.net.",
            "A",
        ];
        let output = Command::new("kdig").args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("status: NOERROR").then_some(())
    };
    wait_for("another client to be served over TLS", kdig);
    let url = format!("https://{}{good}", secure.https);
    let begin = Instant::now();
    wait_for("another client to be served over HTTPS", || {
        let output = Command::new("curl")
            .args(["--silent", "--insecure", "--max-time", "2", "--write-out", "%{http_code}", &url])
            .output();
        output.unwrap().stdout.ends_with(b"200").then_some(())
    });
    // Handshakes time out after five seconds; a newcomer need not wait for that.
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(try_ask(secure.site.dns, "shop.example.net.", RecordType::A).is_some());
    drop(flood);
}

/// Requests that are reset as soon as they are sent (CVE-2023-44487), by the hundred thousand on one connection.
#[test]
fn rapid_resets_end_their_connection_and_nobody_elses() {
    let secure = Secure::new();
    let server = secure.site.serve();
    let good = format!("/dns-query?dns={}", base64url(&query_zero("shop.example.net.", RecordType::A)));
    let before = resident(server.child.id());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let sent = runtime.block_on(async {
        let mut client = secure.http2(h2::client::Builder::new()).await;
        let uri = format!("https://localhost:{}{good}", secure.https.port());
        let mut sent = 0_u32;
        while sent < 100_000 {
            let Ok(ready) = client.ready().await else { break };
            client = ready;
            let request = http::Request::get(&uri).body(()).unwrap();
            let Ok((response, _)) = client.send_request(request, true) else {
                break;
            };
            drop(response); // which resets it
            sent += 1;
        }
        sent
    });
    assert!(sent > 0 && sent < 100_000, "{sent} requests were reset, and still more are taken");
    assert_eq!(secure.curl(&good, &[]).0, 200);
    let grown = resident(server.child.id()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} octets");
}

/// An answer that is not taken (window 0) ends its connection, however busily the client asks for others.
#[test]
fn an_answer_that_is_not_taken_ends_its_connection() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    let good = format!("/dns-query?dns={}", base64url(&query_zero("shop.example.net.", RecordType::A)));
    let uri = format!("https://localhost:{}{good}", secure.https.port());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let took = runtime.block_on(async {
        let mut no_window = h2::client::Builder::new();
        no_window.initial_window_size(0);
        let mut client = secure.http2(no_window).await;
        let request = http::Request::get(&uri).body(()).unwrap();
        let (untaken, _) = client.send_request(request, true).unwrap();
        let untaken = untaken.await.unwrap();
        let begin = Instant::now();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        while begin.elapsed() < PATIENCE {
            second.tick().await;
            let Ok(ready) = client.ready().await else { break };
            client = ready;
            let request = http::Request::head(&uri).body(()).unwrap();
            let Ok((response, _)) = client.send_request(request, true) else {
                break;
            };
            if response.await.is_err() {
                break;
            }
        }
        drop(untaken);
        begin.elapsed()
    });
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(20), "{took:?}");
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
