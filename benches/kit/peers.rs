//! The servers that are measured: how each is told to serve one zone on one port with one worker.
//!
//! The zone has twenty names with A and AAAA, and one that fails over: in pointsman and gdnsd a health-checked name, elsewhere
//! a plain A record. A server whose program is not installed is left out.

use super::load::{Expect, Query};
use super::proc::{SERVER_CPU, Server, find};
use super::site;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// From a server's port to that of its API, of DNS over TLS, and of DNS over HTTPS.
pub const API: u16 = 1;
pub const TLS: u16 = 2;
pub const HTTPS: u16 = 3;
/// The zone.
pub const ZONE: &str = "bench.example.";

/// A server that can be started.
pub struct Peer {
    /// Its command, staying in the foreground.
    pub command: Vec<String>,
    /// Its version.
    pub version: String,
}

/// Records of the zone; `steered` where the name that fails over is a plain record.
fn zone(steered: bool) -> String {
    let mut text = format!(
        "$ORIGIN {ZONE}\n$TTL 300\n@ 3600 IN SOA ns1 admin 1 7200 900 1209600 30\n@ 3600 IN NS ns1\n@ 3600 IN NS ns2\nns1 3600 IN A 192.0.2.53\nns2 3600 IN A 192.0.2.54\n"
    );
    for number in 0..20 {
        let _ = writeln!(
            text,
            "host{number:02} IN A 192.0.2.{}\nhost{number:02} IN AAAA 2001:db8::{number}",
            number + 1
        );
    }
    if steered {
        text.push_str("hostfo 30 IN A 127.0.0.1\n");
    }
    text
}

/// What is asked: names of one length, so that all queries have one.
pub fn queries(kind: &str) -> Vec<Query> {
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let (flags, options) = if kind == "DO+cookie" { (0x8000, &cookie[..]) } else { (0, &[][..]) };
    let mut all = Vec::new();
    for number in 0..2000u32 {
        // A fixed walk through the names that looks like none.
        let pick = number.wrapping_mul(2_654_435_761) >> 8;
        let (host, qtype) = (format!("host{:02}.{ZONE}", pick % 20), if pick & 32 == 0 { 1 } else { 28 });
        all.push(match (kind, number % 10) {
            ("steered", _) => Query::new(&format!("hostfo.{ZONE}"), 1, flags, options, Expect::Answer),
            ("mixed", 0) => Query::new(&format!("none{:02}.{ZONE}", pick % 100), 1, flags, options, Expect::Nxdomain),
            ("mixed", 1) => Query::new(&host, 16, flags, options, Expect::Nodata),
            _ => Query::new(&host, qtype, flags, options, Expect::Answer),
        });
    }
    all
}

/// Starts a server in its folder and waits until it answers rightly; says what is wrong otherwise.
pub fn start(name: &str, peer: &Peer, dir: &Path, port: u16) -> Option<Server> {
    let log = dir.join("log");
    let mut server = Server::start(&peer.command, Some(SERVER_CPU), &log).ok()?;
    for kind in ["hit", "steered"] {
        let query = &queries(kind)[0];
        let query = if name == "echo" { query.unchecked() } else { query.clone() };
        if site::wait_for_answer(&mut server, site::local(port), &query).is_none() {
            let log = fs::read_to_string(&log).unwrap_or_default();
            eprintln!("{name} does not answer as it should: {}", log.lines().last().unwrap_or_default());
            return None;
        }
    }
    Some(server)
}

/// Writes a server's files into a folder; none where it is not installed.
pub fn prepare(name: &str, dir: &Path, port: u16) -> Option<Peer> {
    match name {
        "echo" => Some(Peer {
            command: vec![own_program(), "--echo".into(), port.to_string()],
            version: "recvmmsg, sendmmsg".into(),
        }),
        "pointsman" => Some(pointsman(dir, port, "", "")),
        "nsd" => nsd(dir, port),
        "knot" => knot(dir, port),
        "gdnsd" => gdnsd(dir, port),
        "pdns" => pdns(dir, port),
        "bind" => bind(dir, port),
        "dnsdist" => dnsdist(dir, port),
        _ => None,
    }
}

/// This bench's own program.
fn own_program() -> String {
    std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default()
}

/// What a program says of its version: the first word with a digit and a dot.
fn version(program: &str, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else {
        return "?".into();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit());
    text.split(|part: char| part.is_whitespace() || part == ',')
        .find(is_version)
        .unwrap_or("?")
        .to_owned()
}

/// Our own; `dns` is what else stands in its `[dns]`, `more` what follows in its config. The name that fails over is probed at the
/// server's own port.
pub fn pointsman(dir: &Path, port: u16, dns: &str, more: &str) -> Peer {
    fs::write(dir.join("bench.zone"), zone(false)).unwrap();
    let config = format!(
        "version = 1\n[node]\nname = \"bench\"\ndata-dir = \"data\"\n[dns]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 1\n{dns}[api]\nlisten = \"127.0.0.1:{}\"\n\
         [[zone]]\nname = \"{ZONE}\"\nfile = \"bench.zone\"\n[region.one]\ntitle = \"one\"\n[region.two]\ntitle = \"two\"\n\
         [app.fo]\nname = \"hostfo.{ZONE}\"\nregions = [\"one\", \"two\"]\nfailover = \"automatic\"\ncooldown = \"0s\"\n\
         [app.fo.endpoints]\none = [\"127.0.0.1\"]\ntwo = [\"127.0.0.2\"]\n\
         [[app.fo.probe]]\nkind = \"tcp\"\nport = {port}\ninterval = \"2s\"\ntimeout = \"1s\"\n{more}",
        port + API
    );
    fs::write(dir.join("pointsman.toml"), config).unwrap();
    let program = env!("CARGO_BIN_EXE_pointsman");
    Peer {
        command: vec![
            program.into(),
            "serve".into(),
            "--config".into(),
            dir.join("pointsman.toml").display().to_string(),
        ],
        version: version(program, "--version"),
    }
}

fn nsd(dir: &Path, port: u16) -> Option<Peer> {
    fs::write(dir.join("bench.zone"), zone(true)).unwrap();
    nsd_of(dir, port, ZONE, &dir.join("bench.zone"))
}

/// NSD with one zone from a file.
pub fn nsd_of(dir: &Path, port: u16, apex: &str, file: &Path) -> Option<Peer> {
    let program = find("nsd")?;
    let (d, file) = (dir.display(), file.display());
    let config = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n reuseport: yes\n tcp-count: 500\n username: \"\"\n chroot: \"\"\n zonesdir: \"{d}\"\n database: \"\"\n \
         pidfile: \"{d}/nsd.pid\"\n zonelistfile: \"{d}/zone.list\"\n xfrdfile: \"{d}/xfrd.state\"\n xfrdir: \"{d}\"\n cookie-secret-file: \"{d}/cookie\"\n \
         minimal-responses: yes\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n verbosity: 0\nremote-control:\n control-enable: no\nzone:\n name: {apex}\n zonefile: {file}\n"
    );
    fs::write(dir.join("nsd.conf"), config).unwrap();
    Some(Peer {
        version: version(&program, "-v"),
        command: vec![program, "-d".into(), "-c".into(), dir.join("nsd.conf").display().to_string()],
    })
}

fn knot(dir: &Path, port: u16) -> Option<Peer> {
    fs::write(dir.join("bench.zone"), zone(true)).unwrap();
    knot_of(dir, port, ZONE, &dir.join("bench.zone"))
}

/// Knot with one zone from a file.
pub fn knot_of(dir: &Path, port: u16, apex: &str, file: &Path) -> Option<Peer> {
    let program = find("knotd")?;
    let (d, file) = (dir.display(), file.display());
    let config = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {d}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\nlog:\n  - target: stderr\n    any: error\n\
         database:\n  storage: {d}\nzone:\n  - domain: {apex}\n    file: {file}\n    zonefile-sync: -1\n    journal-content: none\n"
    );
    fs::write(dir.join("knot.conf"), config).unwrap();
    Some(Peer {
        version: version(&program, "-V"),
        command: vec![program, "-c".into(), dir.join("knot.conf").display().to_string()],
    })
}

fn gdnsd(dir: &Path, port: u16) -> Option<Peer> {
    let program = find("gdnsd")?;
    let d = dir.display();
    fs::create_dir_all(dir.join("zones")).unwrap();
    fs::write(
        dir.join("zones").join(ZONE.trim_end_matches('.')),
        zone(false) + "hostfo 30 DYNA simplefo!fo\n",
    )
    .unwrap();
    let config = format!(
        "options => {{ listen => 127.0.0.1, dns_port => {port}, udp_threads => 1, tcp_threads => 1, udp_rcvbuf => 1048576, udp_sndbuf => 1048576, run_dir => {d}/run, state_dir => {d}/state }}\n\
         service_types => {{ self => {{ plugin => tcp_connect, port => {port}, interval => 2, timeout => 1, up_thresh => 1, ok_thresh => 1, down_thresh => 1 }} }}\n\
         plugins => {{ simplefo => {{ fo => {{ primary => 127.0.0.1, secondary => 127.0.0.2, service_types => self }} }} }}\n"
    );
    fs::write(dir.join("config"), config).unwrap();
    Some(Peer {
        version: version(&program, "-V"),
        command: vec![program, "-c".into(), dir.display().to_string(), "start".into()],
    })
}

fn pdns(dir: &Path, port: u16) -> Option<Peer> {
    let program = find("pdns_server")?;
    let d = dir.display();
    fs::write(dir.join("bench.zone"), zone(true)).unwrap();
    fs::write(
        dir.join("named.conf"),
        format!(
            "zone \"{}\" {{ type master; file \"{d}/bench.zone\"; }};\n",
            ZONE.trim_end_matches('.')
        ),
    )
    .unwrap();
    let config = format!(
        "launch=bind\nbind-config={d}/named.conf\nlocal-address=127.0.0.1\nlocal-port={port}\nsocket-dir={d}\nsetuid=\nsetgid=\nreceiver-threads=1\ndistributor-threads=1\nreuseport=yes\n\
         cache-ttl=60\nquery-cache-ttl=60\nnegquery-cache-ttl=60\ndisable-axfr=yes\ndisable-syslog=yes\nloglevel=3\nsecurity-poll-suffix=\n"
    );
    fs::write(dir.join("pdns.conf"), config).unwrap();
    Some(Peer {
        version: version(&program, "--version"),
        command: vec![program, format!("--config-dir={d}")],
    })
}

/// BIND; over TLS and HTTPS with the certificate that [`certificate`] left.
fn bind(dir: &Path, port: u16) -> Option<Peer> {
    let program = find("named")?;
    let d = dir.display();
    fs::write(dir.join("bench.zone"), zone(true)).unwrap();
    let config = format!(
        "tls bench {{ cert-file \"{d}/cert.pem\"; key-file \"{d}/key.pem\"; }};\nhttp bench {{ endpoints {{ \"/dns-query\"; }}; listener-clients 10000; streams-per-connection 1000; }};\n\
         options {{ directory \"{d}\"; pid-file none; session-keyfile none; recursion no; minimal-responses yes; tcp-clients 10000; listen-on-v6 {{ none; }};\n\
         listen-on port {port} {{ 127.0.0.1; }};\nlisten-on port {} tls bench {{ 127.0.0.1; }};\nlisten-on port {} tls bench http bench {{ 127.0.0.1; }};\n}};\n\
         controls {{ }};\nzone \"{}\" {{ type primary; file \"{d}/bench.zone\"; }};\n",
        port + TLS,
        port + HTTPS,
        ZONE.trim_end_matches('.')
    );
    fs::write(dir.join("named.conf"), config).unwrap();
    let command = [
        program.as_str(),
        "-g",
        "-n",
        "1",
        "-c",
        &dir.join("named.conf").display().to_string(),
    ]
    .map(str::to_owned);
    Some(Peer {
        version: version(&program, "-v"),
        command: command.into(),
    })
}

/// dnsdist in front of a server at its port for an API, with a cache, which is the best that it can do.
fn dnsdist(dir: &Path, port: u16) -> Option<Peer> {
    let program = find("dnsdist")?;
    let d = dir.display();
    let config = format!(
        "setLocal(\"127.0.0.1:{port}\", {{maxInFlight=1000}})\naddTLSLocal(\"127.0.0.1:{}\", \"{d}/cert.pem\", \"{d}/key.pem\", {{maxInFlight=1000}})\n\
         addDOHLocal(\"127.0.0.1:{}\", \"{d}/cert.pem\", \"{d}/key.pem\", \"/dns-query\")\nnewServer({{address=\"127.0.0.1:{}\", useClientSubnet=false}})\n\
         setMaxTCPClientThreads(1)\ngetPool(\"\"):setCache(newPacketCache(10000))\n",
        port + TLS,
        port + HTTPS,
        port + API
    );
    fs::write(dir.join("dnsdist.conf"), config).unwrap();
    let command = [
        program.as_str(),
        "--supervised",
        "--disable-syslog",
        "-C",
        &dir.join("dnsdist.conf").display().to_string(),
    ];
    Some(Peer {
        version: version(&program, "--version"),
        command: command.map(str::to_owned).into(),
    })
}

/// Leaves a certificate of its own for 127.0.0.1 and its key in a folder: `cert.pem` and `key.pem`.
pub fn certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}
