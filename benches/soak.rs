//! Everything at once, for a time: does it lose answers, grow, or get slow?
//!
//! `cargo bench --bench soak [-- --minutes N --json]`. One server, and against it all the time:
//! - checked queries at a steady rate below saturation, of static and steered names, misses among them;
//! - switches, ten a second; reloads of a changed zone, one a second;
//! - storms of probes: a hundred applications whose endpoints are probed ten times a second, and all fail and recover together
//!   every few seconds;
//! - floods of malformed and mutated packets over UDP;
//! - TCP abuse: connections that say nothing, half a length, half a query, garbage, or do not read what they asked for.
//!
//! Latency and memory are told for each quarter of the time: what gets slower or larger shows. Memory is `MiB` in all (the proportional
//! set size) and `own MiB` without the program's pages, the medians of a quarter's samples.
//!
//! What is kept of the last 10,000 changes is full before the time begins: so many changes with request ids are made first. The last
//! verdicts of each probe are kept too, and full within a minute. So own memory that grew from the second quarter to the last, by
//! a twentieth and by 2 MiB, is held for a leak. How small a leak shows depends on the time: of 10 MiB an hour in 25 minutes, of 60 in four.
//! Nobody scrapes `/metrics` meanwhile, so that nothing may lean on it.
//!
//! It ends with exit code 1 when a query got no answer or a wrong one, a change was not made, memory leaks, or the server ended.

mod kit;

use kit::args::Args;
use kit::load::{Expect, Histogram, Load, Pace, Query};
use kit::peers;
use kit::proc::Server;
use kit::site;
use kit::table::Fold;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const USAGE: &str = "cargo bench --bench soak [-- --minutes N --json --test]";

/// Memory in all, and without the program's pages.
const ALL: usize = 0;
const OWN: usize = 1;
/// Checked queries a second.
const RATE: u32 = 5_000;
/// Malformed packets a second.
const FLOOD: u64 = 2_000;
/// Applications, each with an endpoint in two regions.
const APPS: usize = 100;
/// How much memory may grow from the second quarter to the last, as a share, and in any case, KiB.
const GROWTH_MAX: (f64, f64) = (0.05, 2048.0);
/// Changes before the time begins: more than are remembered, and each name as often to one region as to the other.
const FILLED: u64 = 10_400;

/// What all the troublemakers share.
struct Trouble {
    stop: AtomicBool,
    dns: SocketAddr,
    api: SocketAddr,
    /// Request ids given.
    ids: AtomicU64,
    switches: AtomicU64,
    reloads: AtomicU64,
    failed: AtomicU64,
    packets: AtomicU64,
    connections: AtomicU64,
}

impl Trouble {
    /// Starts one of them.
    fn start(self: &Arc<Trouble>, act: impl Fn(&Trouble, u64) + Send + 'static) -> JoinHandle<()> {
        let trouble = self.clone();
        std::thread::spawn(move || {
            let mut turn = 0;
            while !trouble.stop.load(Ordering::Relaxed) {
                act(&trouble, turn);
                turn += 1;
            }
        })
    }

    /// Counts a change that was made, or not.
    fn count(&self, done: &AtomicU64, status: Option<(u16, String)>) {
        match status {
            Some((200, _)) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            other => {
                eprintln!("a change was not made: {other:?}");
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The config: steered names whose endpoints are probed at one port of many loopback addresses.
fn config(probe_port: u16) -> String {
    let mut text = String::new();
    for app in 0..APPS {
        let _ = write!(
            text,
            "[app.s{app:02}]\nname = \"stee{app:02}.{zone}\"\nregions = [\"one\", \"two\"]\nttl = \"5s\"\ncooldown = \"0s\"\n\
             [app.s{app:02}.endpoints]\none = [\"127.20.{app}.1\"]\ntwo = [\"127.21.{app}.1\"]\n\
             [[app.s{app:02}.probe]]\nkind = \"tcp\"\nport = {probe_port}\ninterval = \"100ms\"\ntimeout = \"90ms\"\n",
            zone = peers::ZONE
        );
    }
    text
}

/// As many changes as are remembered.
fn fill(trouble: &Trouble) {
    (0..FILLED).for_each(|turn| switch(trouble, turn));
}

/// A switch of one name after the other, there and back.
fn switch(trouble: &Trouble, turn: u64) {
    let (name, to) = (
        format!("stee{:02}.{}", turn as usize % APPS, peers::ZONE),
        ["two", "one"][turn as usize / APPS % 2],
    );
    let id = trouble.ids.fetch_add(1, Ordering::Relaxed);
    let body = format!(r#"{{"to":"{to}","reason":"soak","override":["target-healthy","cooldown"],"request_id":"{id}"}}"#);
    let status = site::http(trouble.api, "POST", &format!("/v1/names/{name}/switch"), &body);
    trouble.count(&trouble.switches, status);
}

/// Another zone, and a reload.
fn reload(trouble: &Trouble, zone: &Path, first: &str, turn: u64) {
    let text = first.replacen(" 1 7200 ", &format!(" {} 7200 ", turn + 2), 1) + &format!("more{turn} IN A 192.0.2.77\n");
    std::fs::write(zone, text).unwrap();
    let status = site::http(trouble.api, "POST", "/v1/reload", r#"{"reason":"soak"}"#);
    trouble.count(&trouble.reloads, status);
    std::thread::sleep(Duration::from_secs(1));
}

/// Endpoints that let probes in for a while, and then do not: the port is closed, so each of them fails at once.
fn storm(trouble: &Trouble, port: u16) {
    let until = |seconds: u64| Instant::now() + Duration::from_secs(seconds);
    let (up, listener) = (until(4), TcpListener::bind(("0.0.0.0", port)));
    if let Ok(listener) = listener {
        listener.set_nonblocking(true).unwrap();
        while Instant::now() < up && !trouble.stop.load(Ordering::Relaxed) {
            while listener.accept().is_ok() {}
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let down = until(2);
    while Instant::now() < down && !trouble.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Numbers that look like none, the same in each run.
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A packet that no client should send: a sound query with octets changed, cut short or made longer, or nothing but noise.
fn malformed(number: u64) -> Vec<u8> {
    let mut packet = peers::queries("mixed")[number as usize % 100].packet(number as u16);
    let random = mix(number);
    match random % 4 {
        0 => packet.truncate(random as usize / 7 % packet.len()),
        1 => packet.extend((0..random % 600).map(|at| mix(at) as u8)),
        2 => packet = (0..random % 300).map(|at| mix(number ^ at) as u8).collect(),
        _ => {
            for step in 0..4 {
                let at = mix(number + step) as usize % packet.len();
                packet[at] ^= random.rotate_left(step as u32 * 8) as u8;
            }
        }
    }
    packet
}

/// A tenth of a second of them.
fn flood(trouble: &Trouble, packets: &[Vec<u8>], turn: u64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let count = FLOOD / 10;
    for number in turn * count..(turn + 1) * count {
        let _ = socket.send_to(&packets[number as usize % packets.len()], trouble.dns);
    }
    trouble.packets.fetch_add(count, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
}

/// Some connections, each bad in another way, held for a while.
fn tcp_abuse(trouble: &Trouble, turn: u64) {
    let query = peers::queries("hit")[0].packet(turn as u16);
    let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
    let mut held = Vec::new();
    for number in 0..20 {
        let Ok(mut stream) = TcpStream::connect_timeout(&trouble.dns, Duration::from_secs(1)) else {
            continue;
        };
        let _ = stream.set_nonblocking(true);
        let _ = match number % 5 {
            0 => Ok(0),
            1 => stream.write(&framed[..1]),
            2 => stream.write(&framed[..framed.len() / 2]),
            3 => stream.write(&malformed(turn * 20 + number)),
            // Asks and does not read.
            _ => (0..500).try_fold(0, |sum, _| stream.write(&framed).map(|sent| sum + sent)),
        };
        held.push(stream);
        trouble.connections.fetch_add(1, Ordering::Relaxed);
    }
    std::thread::sleep(Duration::from_millis(500));
    // Some are read from before they go, so that not all of them end in a reset.
    for stream in held.iter_mut().step_by(2) {
        let _ = stream.read(&mut [0; 4096]);
    }
}

/// What is asked all the time: static and steered names, misses among them.
fn queries() -> Vec<Query> {
    let mut all = peers::queries("mixed");
    for number in 0..APPS {
        all.push(Query::new(&format!("stee{number:02}.{}", peers::ZONE), 1, 0, &[], Expect::Answer));
    }
    all
}

/// What is measured.
#[derive(Default)]
struct Report {
    sent: u64,
    lost: u64,
    wrong: u64,
    quarters: [Quarter; 4],
}

/// A quarter of the time.
#[derive(Default)]
struct Quarter {
    latency: Histogram,
    /// Samples of memory, KiB: in all, and without the program's pages.
    memory: [Vec<f64>; 2],
}

impl Report {
    /// A latency of each quarter, microseconds.
    fn micros(&self, share: f64) -> [f64; 4] {
        self.quarters.each_ref().map(|quarter| quarter.latency.micros(share).round())
    }

    /// The memory of each quarter, KiB: in all or the server's own.
    fn memory(&self, which: usize) -> [f64; 4] {
        self.quarters.each_ref().map(|quarter| Fold::Median.of(&quarter.memory[which]))
    }

    /// What came from the second quarter to the last, if it is more than memory moves by itself.
    fn grew(&self) -> Option<f64> {
        let [_, second, _, last] = self.memory(OWN);
        (last > second * (1.0 + GROWTH_MAX.0) && last > second + GROWTH_MAX.1).then_some(last - second)
    }
}

fn main() {
    let args = Args::read(USAGE);
    let (folder, port) = (tempfile::tempdir().unwrap(), site::free_ports());
    let probe_port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let peer = peers::pointsman(folder.path(), port, "", &config(probe_port));
    let zone = folder.path().join("bench.zone");
    let first_zone = std::fs::read_to_string(&zone).unwrap();
    let mut server = Server::start(&peer.command, None, &folder.path().join("log")).unwrap();
    let ready = site::wait_for_answer(&mut server, site::local(port), &peers::queries("hit")[0]);
    assert!(ready.is_some(), "it answers");
    let trouble = Arc::new(Trouble {
        stop: AtomicBool::new(false),
        dns: site::local(port),
        api: site::local(port + 1),
        ids: AtomicU64::new(0),
        switches: AtomicU64::new(0),
        reloads: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        packets: AtomicU64::new(0),
        connections: AtomicU64::new(0),
    });
    while site::http(trouble.api, "GET", "/readyz", "").is_none_or(|(status, _)| status != 200) {
        std::thread::sleep(Duration::from_millis(10));
    }
    if !args.test {
        fill(&trouble);
    }
    let packets: Vec<Vec<u8>> = (0..5_000).map(malformed).collect();
    let threads = [
        trouble.start(|trouble, turn| {
            switch(trouble, turn);
            std::thread::sleep(Duration::from_millis(100));
        }),
        trouble.start(move |trouble, turn| reload(trouble, &zone, &first_zone, turn)),
        trouble.start(move |trouble, _| storm(trouble, probe_port)),
        trouble.start(move |trouble, turn| flood(trouble, &packets, turn)),
        trouble.start(tcp_abuse),
    ];
    let report = watch(&args, &trouble, &mut server);
    trouble.stop.store(true, Ordering::Relaxed);
    let mut sound = true;
    for thread in threads {
        sound &= thread.join().is_ok();
    }
    let sound = tell(&args, &report, &trouble, server.is_alive()) && sound;
    if !sound {
        eprintln!(
            "{}",
            std::fs::read_to_string(folder.path().join("log"))
                .unwrap_or_default()
                .lines()
                .rev()
                .take(5)
                .collect::<Vec<_>>()
                .join("\n")
        );
        drop(server);
        std::process::exit(1);
    }
}

/// Asks all the time, and looks at the memory.
fn watch(args: &Args, trouble: &Trouble, server: &mut Server) -> Report {
    let mut report = Report::default();
    let (start, all) = (Instant::now(), Duration::from_secs_f64(args.minutes * 60.0));
    let slice = Duration::from_secs_f64((args.minutes * 60.0 / 40.0).clamp(0.1, 5.0));
    let mut load = Load::new(trouble.dns, queries(), 8);
    while start.elapsed() < all && server.is_alive() {
        let quarter = (start.elapsed().as_secs_f64() / all.as_secs_f64() * 4.0) as usize;
        let outcome = load.run(slice, Pace::Open(RATE));
        report.sent += outcome.sent;
        report.lost += outcome.lost;
        report.wrong += outcome.wrong;
        let quarter = &mut report.quarters[quarter.min(3)];
        quarter.latency.merge(&outcome.latency);
        quarter.memory[ALL].push(server.memory_kib());
        quarter.memory[OWN].push(server.private_kib());
    }
    report
}

/// Prints what was found; true when all is well.
fn tell(args: &Args, report: &Report, trouble: &Trouble, alive: bool) -> bool {
    // Too short a time is nothing but warming up.
    let grew = report.grew().filter(|_| !args.test);
    let failed = trouble.failed.load(Ordering::Relaxed);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mib = |which| report.memory(which).map(|kib| (kib / 102.4).round() / 10.0);
    let figures = serde_json::json!({
        "minutes": args.minutes, "queries": report.sent, "lost": report.lost, "wrong": report.wrong,
        "p50 us": report.micros(0.5), "p99 us": report.micros(0.99), "p99.9 us": report.micros(0.999),
        "switches": count(&trouble.switches), "reloads": count(&trouble.reloads), "changes not made": failed,
        "malformed packets": count(&trouble.packets), "bad connections": count(&trouble.connections),
        "MiB": mib(ALL), "own MiB": mib(OWN), "leaked KiB": grew, "alive": alive,
    });
    if args.json {
        println!("{figures:#}");
    } else {
        for (what, figure) in figures.as_object().into_iter().flatten() {
            println!("{what:>18}  {figure}");
        }
    }
    alive && grew.is_none() && report.lost == 0 && report.wrong == 0 && failed == 0
}
