//! Authoritative servers side by side over TCP, DNS over TLS and DNS over HTTPS: how many answers a second, and what one costs.
//!
//! `cargo bench --bench streams [-- --rounds N --seconds N --json --test NAME…]`; a NAME is a server or a transport. Servers that are
//! not installed are left out, and transports whose generator is not.
//!
//! | transport | what is done | generator |
//! |---|---|---|
//! | `tcp` | 20 connections that stay, ten queries in flight on each | dnsperf |
//! | `new` | a connection for each query, eight at a time | this program |
//! | `dot` | as `tcp`, inside TLS | dnsperf |
//! | `doh` | GET over HTTP/2, 20 connections that stay, ten requests in flight on each | h2load (nghttp2-client) |
//!
//! `qps` is the median of the rounds, beside the least and the most; `us/q` the CPU time of all the server's processes for each answer;
//! `lost`: no answer; `wrong`: another response code or status. dnsperf could ask over HTTPS too, but version 2.10 stalls where a
//! connection has several requests open. gdnsd, NSD, Knot and PowerDNS as in Debian 12 speak neither TLS nor HTTPS; dnsdist answers
//! from its cache, in front of Knot, which is not counted.
//!
//! Servers and generator are pinned and noise is told as in the bench `peers`. Measured seconds are whole ones for dnsperf.

mod kit;

use kit::args::Args;
use kit::load::Query;
use kit::measure::measure;
use kit::peers::{self, Peer};
use kit::proc::{self, Server};
use kit::site;
use kit::sys;
use kit::table::Table;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const USAGE: &str = "cargo bench --bench streams [-- --rounds N --seconds N --json --test NAME…]";

/// The servers.
const NAMES: [&str; 7] = ["pointsman", "gdnsd", "nsd", "knot", "pdns", "bind", "dnsdist"];
/// Those of them that speak TLS and HTTPS.
const ENCRYPTED: [&str; 3] = ["pointsman", "bind", "dnsdist"];
const TRANSPORTS: [&str; 4] = ["tcp", "new", "dot", "doh"];

const COLUMNS: [(&str, usize); 7] = [
    ("qps", 0),
    ("least qps", 0),
    ("most qps", 0),
    ("us/q", 1),
    ("lost", 0),
    ("wrong", 0),
    ("noisy", 0),
];

/// Connections of `new` at a time.
const THREADS: u8 = 8;
/// `host00.bench.example. A` in base64url (RFC 8484 §4.1).
const GET: &str = "/dns-query?dns=AAABAAABAAAAAAAABmhvc3QwMAViZW5jaAdleGFtcGxlAAABAAE";

/// What came of a load.
#[derive(Debug, Default)]
struct Outcome {
    /// Right answers.
    answered: u64,
    /// Right answers a second.
    qps: f64,
    /// Queries without an answer.
    lost: u64,
    /// Answers that were not right.
    wrong: u64,
}

/// dnsperf over kept connections, plain or inside TLS; none where it is not installed or does not say what it found.
fn dnsperf(mode: &str, server: SocketAddr, args: &Args) -> Option<Outcome> {
    let folder = tempfile::tempdir().ok()?;
    let data = folder.path().join("queries");
    let text: String = (0..20)
        .map(|number| format!("host{number:02}.{zone} A\nhost{number:02}.{zone} AAAA\n", zone = peers::ZONE))
        .collect();
    fs::write(&data, text).ok()?;
    let mut command = Command::new(proc::find("dnsperf")?);
    command.args(["-m", mode, "-c", "20", "-q", "200", "-T", "1", "-s", "127.0.0.1", "-p"]);
    command.arg(server.port().to_string()).arg("-d").arg(&data);
    // It measures whole seconds: too long to show that it works.
    match args.test {
        true => command.args(["-n", "25"]),
        false => command.args(["-l", &args.seconds.ceil().to_string()]),
    };
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figure = |label: &str| text.split_once(label)?.1.split_whitespace().next()?.parse::<f64>().ok();
    let (completed, answered) = (figure("Queries completed:")?, figure("NOERROR").unwrap_or(0.0));
    Some(Outcome {
        answered: answered as u64,
        qps: figure("Queries per second:")?,
        lost: figure("Queries lost:")? as u64,
        wrong: (completed - answered) as u64,
    })
}

/// h2load over kept connections; none where it is not installed or does not say what it found.
fn h2load(server: SocketAddr, args: &Args) -> Option<Outcome> {
    let mut command = Command::new(proc::find("h2load")?);
    command.args(["-c", "20", "-m", "10", "-D", &format!("{}ms", args.span().as_millis())]);
    let output = command.arg(format!("https://{server}{GET}")).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Figures stand before what they count: `10 succeeded, 2 failed`, of which `errored` got no answer at all.
    let figure = |label: &str| text.split_once(label)?.0.split_whitespace().last()?.parse::<f64>().ok();
    let lost = figure(" errored,")?;
    Some(Outcome {
        answered: figure(" succeeded,")? as u64,
        qps: figure(" req/s,")?,
        lost: lost as u64,
        wrong: (figure(" failed,")? - lost) as u64,
    })
}

/// A connection for each query. Each thread has an address of its own, or all would soon wait for ports whose last connection is
/// not yet forgotten (RFC 9293 §3.6.1): some 14,000 connections a second are the most that one address has ports for.
fn connections(server: SocketAddr, args: &Args) -> Outcome {
    let start = Instant::now();
    let end = start + args.span();
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let from = Ipv4Addr::new(127, 0, 1, number + 1);
            std::thread::spawn(move || {
                let (queries, mut outcome) = (peers::queries("hit"), Outcome::default());
                for query in queries.iter().cycle().take_while(|_| Instant::now() < end) {
                    match ask(from, server, query) {
                        Some(true) => outcome.answered += 1,
                        Some(false) => outcome.wrong += 1,
                        None => outcome.lost += 1,
                    }
                }
                outcome
            })
        })
        .collect();
    let mut sum = Outcome::default();
    for thread in threads {
        let outcome = thread.join().expect("a generator");
        sum.answered += outcome.answered;
        sum.lost += outcome.lost;
        sum.wrong += outcome.wrong;
    }
    sum.qps = sum.answered as f64 / start.elapsed().as_secs_f64();
    sum
}

/// One query over a connection of its own; whether the answer is right, none when there was none.
fn ask(from: Ipv4Addr, server: SocketAddr, query: &Query) -> Option<bool> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    sys::bind_late(&socket).ok()?;
    socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    socket.connect(&server.into()).ok()?;
    let mut stream = TcpStream::from(socket);
    let packet = query.packet(7);
    let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
    stream.write_all(&framed).ok()?;
    let (mut answer, mut octets) = ([0; 2048], 0);
    while octets < 2 || octets < 2 + usize::from(u16::from_be_bytes([answer[0], answer[1]])) {
        match stream.read(&mut answer[octets..]).ok()? {
            0 => return None,
            more => octets += more,
        }
    }
    Some(query.accepts(&answer[2..octets]))
}

/// Writes a server's files; none where it is not installed.
fn prepare(name: &str, dir: &Path, port: u16) -> Option<Peer> {
    peers::certificate(dir);
    if name != "pointsman" {
        return peers::prepare(name, dir, port);
    }
    let encrypted = format!(
        "tls-listen = [\"127.0.0.1:{}\"]\nhttps-listen = [\"127.0.0.1:{}\"]\ntls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n",
        port + peers::TLS,
        port + peers::HTTPS
    );
    Some(peers::pointsman(dir, port, &encrypted, ""))
}

/// Starts what a server asks, if it answers from another one.
fn behind(name: &str, dir: &Path, port: u16) -> Option<Server> {
    if name != "dnsdist" {
        return None;
    }
    let (dir, port) = (dir.join("behind"), port + peers::API);
    fs::create_dir(&dir).ok()?;
    peers::start("knot", &peers::prepare("knot", &dir, port)?, &dir, port)
}

/// Measures one server; what each transport needs that is not there.
fn run(name: &str, server: &mut Server, port: u16, args: &Args, table: &mut Table) {
    let encrypted = ENCRYPTED.contains(&name);
    for transport in args.of(&TRANSPORTS) {
        let (offset, is_offered) = match transport {
            "dot" => (peers::TLS, encrypted),
            "doh" => (peers::HTTPS, encrypted),
            _ => (0, true),
        };
        let address = site::local(port + offset);
        if !is_offered {
            continue;
        }
        let row = format!("{name} {transport}");
        if !site::wait_for_listener(server, address) {
            eprintln!("{row}: nobody listens");
            continue;
        }
        let measured = measure(args, server, || match transport {
            "new" => Some(connections(address, args)),
            "doh" => h2load(address, args),
            mode => dnsperf(mode, address, args),
        });
        let Some(outcome) = &measured.outcome else {
            continue;
        };
        for column in ["qps", "least qps", "most qps"] {
            table.add(&row, column, outcome.qps);
        }
        table.add(&row, "us/q", measured.micros(outcome.answered));
        table.add(&row, "lost", outcome.lost as f64);
        table.add(&row, "wrong", outcome.wrong as f64);
        table.add(&row, "noisy", measured.noisy());
    }
}

fn main() {
    let args = Args::read(USAGE);
    sys::pin(proc::generator_cpu());
    for (tool, what) in [("dnsperf", "tcp and dot are"), ("h2load", "doh is")] {
        if proc::find(tool).is_none() {
            eprintln!("{tool} is not installed: {what} left out");
        }
    }
    let mut table = Table::new(&COLUMNS);
    for round in 1..=args.rounds {
        for name in args.of(&NAMES) {
            let (folder, port) = (tempfile::tempdir().unwrap(), site::free_ports());
            let peer = prepare(name, folder.path(), port);
            let behind = behind(name, folder.path(), port);
            let Some(peer) = peer.filter(|_| name != "dnsdist" || behind.is_some()) else {
                eprintln!("{name} is not installed and left out");
                continue;
            };
            eprintln!("round {round}: {name} {}", peer.version);
            if let Some(mut server) = peers::start(name, &peer, folder.path(), port) {
                run(name, &mut server, port, &args, &mut table);
            }
        }
    }
    table.print(args.json);
    if args.of(&NAMES).contains(&"pointsman") {
        for transport in args.of(&TRANSPORTS) {
            let figure = |column| table.figure(&format!("pointsman {transport}"), column);
            let (qps, bad) = (figure("qps"), figure("lost").unwrap_or(0.0) + figure("wrong").unwrap_or(0.0));
            assert!(
                qps != Some(0.0) && bad == 0.0,
                "pointsman over {transport}: {bad} queries lost or answered wrong"
            );
        }
    }
}
