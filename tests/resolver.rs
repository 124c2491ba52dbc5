//! What is between the server and the world: a real resolver (unbound) that follows a switch, and the usual clients (dig, kdig,
//! drill) that read the same answers from us over UDP and TCP, IPv4 and IPv6. Programs of Debian, on loopback only.

mod support;

use pointsman::model::Name;
use pointsman::probe::{Lookup, Resolver};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{Site, free_port, query, wait_for};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

/// Seconds that a resolver may keep an answer with a steered name's data.
const TTL: u32 = 2;

/// Two regions without probes: only what operators do moves the name.
fn app() -> String {
    format!(
        "[app.shop]\nname = \"shop.example.net.\"\nregions = [\"iad\", \"fra\"]\nttl = \"{TTL}s\"\ncooldown = \"2s\"\n\
         [app.shop.endpoints]\niad = [\"127.0.1.1\", \"2001:db8:1::10\"]\nfra = [\"127.0.2.1\", \"2001:db8:2::10\"]\n"
    )
}

fn switch(site: &Site, to: &str) {
    let name = ["switch", "shop.example.net", "--to", to];
    let force = ["--override", "target-healthy", "--override", "cooldown", "--reason", "test"];
    site.cli_code(0, &[&name[..], &force[..]].concat());
}

/// Runs a program of a package; a missing one fails the test with the package's name.
fn run(package: &str, program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program} ({error}): apt-get install {package}"))
}

/// A running unbound that asks the site for `example.net.`; killed when dropped.
struct Unbound {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Unbound {
    /// Starts it; `zone` is the clause that leads it to us, `stub` or `forward`.
    fn start(site: &Site, zone: &str) -> Unbound {
        let dir = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            "server:\n interface: {}\n port: {}\n username: \"\"\n chroot: \"\"\n directory: \"{}\"\n pidfile: \"\"\n use-syslog: no\n \
             do-daemonize: no\n num-threads: 1\n do-not-query-localhost: no\n module-config: \"iterator\"\n do-ip6: no\n access-control: 127.0.0.0/8 allow\n\
             remote-control:\n control-enable: no\n\
             {zone}-zone:\n name: \"example.net.\"\n {zone}-addr: {}@{}\n",
            address.ip(),
            address.port(),
            dir.path().display(),
            site.dns.ip(),
            site.dns.port()
        );
        let path = dir.path().join("unbound.conf");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let program = "/usr/sbin/unbound";
        let child = Command::new(program)
            .arg("-d")
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {program} ({error}): apt-get install unbound"));
        let mut unbound = Unbound { child, address, _dir: dir };
        wait_for("unbound to answer", || {
            if let Some(status) = unbound.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(unbound._dir.path().join("log")).unwrap_or_default();
                panic!("unbound ended with {status}: {log}");
            }
            unbound.ask("ns1.example.net.", RecordType::A)
        });
        unbound
    }

    /// A good answer, none if it does not come in time.
    fn ask(&self, name: &str, kind: RecordType) -> Option<Message> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect(self.address).unwrap();
        let mut packet = query(name, kind);
        packet[2] |= 1; // RD (RFC 1035 section 4.1.1): a resolver refuses to look into its cache for others.
        socket.send(&packet).ok()?;
        let mut room = [0; 4096];
        let length = socket.recv(&mut room).ok()?;
        let answer = Message::from_vec(&room[..length]).unwrap();
        (answer.metadata.response_code == ResponseCode::NoError).then_some(answer)
    }

    /// The address that clients of this resolver get for the name, with its TTL.
    fn address_of(&self, name: &str, kind: RecordType) -> Option<(String, u32)> {
        let answer = self.ask(name, kind)?;
        let found = answer
            .answers
            .iter()
            .find_map(|record| Some((record.data.ip_addr()?.to_string(), record.ttl)));
        found.or_else(|| panic!("{name} {kind} without an address: {answer:?}"))
    }
}

#[test]
fn a_resolver_follows_a_switch_within_the_ttl() {
    for zone in ["stub", "forward"] {
        let site = Site::new(&app());
        let _server = site.serve();
        let unbound = Unbound::start(&site, zone);
        // The name, an alias onto it, and a wildcard's alias.
        let names = ["shop.example.net.", "www.example.net.", "a.b.w.example.net."];
        for (to, v4, v6) in [
            ("iad", "127.0.1.1", "2001:db8:1::10"),
            ("fra", "127.0.2.1", "2001:db8:2::10"),
            ("iad", "127.0.1.1", "2001:db8:1::10"),
        ] {
            switch(&site, to);
            let switched = Instant::now();
            for (kind, expected) in [(RecordType::A, v4), (RecordType::AAAA, v6)] {
                for name in names {
                    wait_for(&format!("{zone}: {name} {kind} {expected}"), || {
                        let (address, ttl) = unbound.address_of(name, kind)?;
                        assert!(ttl <= TTL, "{zone}: {name} {kind} is kept for {ttl} s");
                        (address == expected).then_some(())
                    });
                }
            }
            // Three seconds for a machine that is busy with other tests; without the TTL of ours it would be minutes.
            let took = switched.elapsed();
            assert!(took < Duration::from_secs(u64::from(TTL) + 3), "{zone}: {took:?}");
        }
    }
}

/// The probes' own look-ups of host names, through the same resolver: they see the switch when clients do.
#[test]
fn look_ups_of_the_probes_follow_a_switch_within_the_ttl() {
    let site = Site::new(&app());
    let _server = site.serve();
    let unbound = Unbound::start(&site, "stub");
    let resolver = Resolver::of(vec![unbound.address], Duration::from_secs(2));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The name itself and an alias onto it.
    for (to, v4, v6) in [("iad", "127.0.1.1", "2001:db8:1::10"), ("fra", "127.0.2.1", "2001:db8:2::10")] {
        switch(&site, to);
        for name in ["shop.example.net.", "www.example.net."] {
            wait_for(&format!("{name} at {to}"), || {
                let found = runtime.block_on(resolver.addresses(&Name::parse(name).unwrap())).ok()?;
                assert!(found.ttl <= Duration::from_secs(u64::from(TTL)), "{found:?}");
                let is = |family: Option<Vec<IpAddr>>, address: &str| family == Some(vec![address.parse().unwrap()]);
                (is(found.v4, v4) && is(found.v6, v6)).then_some(())
            });
        }
    }
    let missing = runtime.block_on(resolver.addresses(&Name::parse("no-such-name.example.net.").unwrap()));
    assert_eq!(missing.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_resolver_keeps_no_negative_answer_of_a_steered_name_for_long() {
    let only_v4 = app().replace(", \"2001:db8:1::10\"", "").replace(", \"2001:db8:2::10\"", "");
    let site = Site::new(&only_v4);
    let _server = site.serve();
    let unbound = Unbound::start(&site, "stub");
    let nothing = unbound.ask("shop.example.net.", RecordType::AAAA).unwrap();
    assert!(nothing.answers.is_empty() && !nothing.authorities.is_empty(), "{nothing:?}");
    assert!(nothing.authorities.iter().all(|soa| soa.ttl <= TTL), "{nothing:?}");
    // The family comes with a reload: seen as soon as the old nothing has run out.
    site.write_config(&app());
    site.cli_code(0, &["reload", "--reason", "IPv6 is here"]);
    wait_for("the new family", || {
        let answer = unbound.ask("shop.example.net.", RecordType::AAAA)?;
        (answer.answers.len() == 1).then_some(())
    });
}

/// What the person who debugs sees: cookies that are good at the second question, why an answer is not the home region's, and that
/// the answers of a zone without signatures pass a validating client as what they are.
#[test]
fn dig_shows_cookies_and_why_and_delv_takes_the_answers() {
    let site = Site::new(&app());
    let _server = site.serve();
    let (ip, port) = (format!("@{}", site.dns.ip()), site.dns.port().to_string());
    let dig = |more: &[&str]| {
        let words = [&[&ip[..], "-p", &port, "+nord", "+tries=1", "shop.example.net", "A"], more].concat();
        String::from_utf8_lossy(&run("bind9-dnsutils", "dig", &words).stdout).into_owned()
    };
    let first = dig(&[]);
    let cookie = first
        .lines()
        .find_map(|line| line.strip_prefix("; COOKIE: "))
        .unwrap_or_else(|| panic!("{first}"));
    let (cookie, verdict) = cookie.split_once(' ').unwrap();
    assert_eq!(verdict, "(good)", "{first}");
    let second = dig(&[&format!("+cookie={}", &cookie[..16])]);
    assert!(second.contains("(good)") && !second.contains("EDE"), "{second}");
    // Evacuated, the name answers elsewhere and says why; restored, it stays there, and that needs no word.
    let force = ["--override", "target-healthy", "--reason", "test"];
    site.cli_code(0, &[&["evacuate", "iad"][..], &force].concat());
    let away = dig(&[]);
    assert!(away.contains("127.0.2.1") && away.contains("EDE: 0 (Other): (drained: "), "{away}");
    site.cli_code(0, &["restore", "iad", "--reason", "test"]);
    let restored = dig(&[]);
    assert!(restored.contains("127.0.2.1") && !restored.contains("EDE"), "{restored}");

    let delv = run("bind9-dnsutils", "delv", &[&ip, "-p", &port, "-i", "shop.example.net", "A"]);
    let text = String::from_utf8_lossy(&delv.stdout);
    assert!(
        text.contains("; authoritative") && text.contains("127.0.2.1"),
        "{text}{}",
        String::from_utf8_lossy(&delv.stderr)
    );
}

/// A client program: its package, its name, and how it is asked.
struct Client {
    package: &'static str,
    program: &'static str,
    arguments: fn(&SocketAddr, Ask, &str, &str) -> Vec<String>,
}

/// How a question is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ask {
    /// Over UDP.
    Udp,
    /// Over UDP without EDNS, and a truncated answer is shown as it is.
    UdpOnly,
    /// Over TCP.
    Tcp,
}

/// dig and kdig take the same words.
fn dig_words(server: &SocketAddr, ask: Ask, name: &str, kind: &str) -> Vec<String> {
    let mut words = vec![
        format!("@{}", server.ip()),
        "-p".to_owned(),
        server.port().to_string(),
        "+norecurse".to_owned(),
        "+time=5".to_owned(),
        name.to_owned(),
        kind.to_owned(),
    ];
    match ask {
        Ask::Udp => {}
        Ask::UdpOnly => words.extend(["+ignore", "+noedns"].map(str::to_owned)),
        Ask::Tcp => words.push("+tcp".to_owned()),
    }
    words
}

/// drill's words; `-a` is what the others do unless told otherwise: EDNS, and TCP after a truncated answer.
fn drill_words(server: &SocketAddr, ask: Ask, name: &str, kind: &str) -> Vec<String> {
    let mut words = vec![
        format!("@{}", server.ip()),
        "-p".to_owned(),
        server.port().to_string(),
        "-o".to_owned(),
        "rd".to_owned(),
    ];
    match ask {
        Ask::Udp => words.push("-a".to_owned()),
        Ask::UdpOnly => {}
        Ask::Tcp => words.push("-t".to_owned()),
    }
    words.extend([name.to_owned(), kind.to_owned()]);
    words
}

/// The clients, each in Debian.
const CLIENTS: [Client; 3] = [
    Client {
        package: "bind9-dnsutils",
        program: "dig",
        arguments: dig_words,
    },
    Client {
        package: "knot-dnsutils",
        program: "kdig",
        arguments: dig_words,
    },
    Client {
        package: "ldnsutils",
        program: "drill",
        arguments: drill_words,
    },
];

impl Client {
    /// What the program prints.
    fn text(&self, server: &SocketAddr, ask: Ask, name: &str, kind: &str) -> String {
        let words = (self.arguments)(server, ask, name, kind);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = run(self.package, self.program, &words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{} {words:?}: {text}{}",
            self.program,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// The records of the answer section as `owner TTL type data`, sorted.
    fn records(&self, server: &SocketAddr, ask: Ask, name: &str, kind: &str) -> Vec<String> {
        let text = self.text(server, ask, name, kind);
        let upper = text.to_uppercase();
        let at = upper
            .find(";; ANSWER SECTION:")
            .unwrap_or_else(|| panic!("{}: {text}", self.program));
        let section = text[at..]
            .lines()
            .skip(1)
            .take_while(|line| !line.trim().is_empty() && !line.starts_with(';'));
        let mut records: Vec<String> = section.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        records.sort();
        records
    }
}

/// A server with a large record set, on 127.0.0.1 and, where the machine has it, on [::1].
fn wide_site() -> (Site, Vec<SocketAddr>) {
    let site = Site::new(&app());
    let large: String = (0..40).map(|n| format!("large IN TXT \"{n:02} {}\"\n", "t".repeat(90))).collect();
    site.write_zone(&format!("{}{large}", support::ZONE));
    let mut servers = vec![site.dns];
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, site.dns.port()));
        let config = std::fs::read_to_string(site.config()).unwrap();
        let one = format!("listen = [\"{}\"]", site.dns);
        assert!(config.contains(&one), "{config}");
        let both = format!("listen = [\"{}\", \"{v6}\"]", site.dns);
        std::fs::write(site.config(), config.replace(&one, &both)).unwrap();
        servers.push(v6);
    } else {
        eprintln!("SKIPPED: this machine has no [::1], so nothing is asked over IPv6");
    }
    (site, servers)
}

#[test]
fn the_usual_clients_read_our_answers_over_every_transport() {
    let (site, servers) = wide_site();
    let _server = site.serve();
    for (to, v4, v6) in [("fra", "127.0.2.1", "2001:db8:2::10"), ("iad", "127.0.1.1", "2001:db8:1::10")] {
        switch(&site, to);
        for client in &CLIENTS {
            for server in &servers {
                for ask in [Ask::Udp, Ask::Tcp] {
                    let asked = |name: &str, kind: &str| client.records(server, ask, name, kind);
                    let place = format!("{} {server} {ask:?}", client.program);
                    let shop = format!("shop.example.net. {TTL} IN");
                    assert_eq!(asked("shop.example.net.", "A"), [format!("{shop} A {v4}")], "{place}");
                    assert_eq!(asked("shop.example.net.", "AAAA"), [format!("{shop} AAAA {v6}")], "{place}");
                    assert_eq!(
                        asked("shop.example.net.", "TXT"),
                        ["shop.example.net. 300 IN TXT \"a shop\""],
                        "{place}"
                    );
                    let alias = "www.example.net. 300 IN CNAME shop.example.net.".to_owned();
                    assert_eq!(asked("www.example.net.", "A"), [format!("{shop} A {v4}"), alias], "{place}");
                    let text = client.text(server, ask, "no.example.net.", "A");
                    assert!(text.contains("NXDOMAIN") && text.contains(" aa"), "{place}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_large_answer_is_truncated_over_udp_and_whole_over_tcp() {
    let (site, servers) = wide_site();
    let _server = site.serve();
    for client in &CLIENTS {
        for server in &servers {
            let place = format!("{} {server}", client.program);
            let text = client.text(server, Ask::UdpOnly, "large.example.net.", "TXT");
            let flags = text
                .lines()
                .find(|line| line.to_lowercase().contains("flags:") && line.contains("qr"))
                .unwrap();
            let bits: Vec<&str> = flags.split([' ', ';', ':']).filter(|word| !word.is_empty()).collect();
            assert!(bits.contains(&"tc"), "{place}: {text}");
            // Asked in the usual way each client comes again over TCP by itself.
            for ask in [Ask::Udp, Ask::Tcp] {
                let records = client.records(server, ask, "large.example.net.", "TXT");
                assert_eq!(records.len(), 40, "{place} {ask:?}: {records:?}");
            }
        }
    }
}
