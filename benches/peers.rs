//! Authoritative servers side by side on loopback UDP: what an answer costs, how fast it comes, how many come at most.
//!
//! `cargo bench --bench peers [-- --rounds N --seconds N --json NAME…]`. Peers that are not installed are left out.
//!
//! - `max qps`: closed loop, the better of 64 and 128 queries in flight; `us/q` is the CPU time of all the server's processes
//!   for each answer in that test, `least` that of all rounds, `user` the part of it in user space, by the timer ticks.
//! - `mixed`: 80 % hits, 10 % NXDOMAIN, 10 % NODATA; `steered`: the name that fails over; `DO+cookie`: hits with the DO bit and
//!   a client's cookie.
//! - `@20k`: open loop, 20,000 queries a second on a schedule; p50, p99 and p99.9 in microseconds.
//! - `TCP qps`: dnsperf over ten connections that stay; `TCP new/s`: a connection for each query, one after the other, and what one
//!   costs the server.
//! - `busy`: the same while 1,000 switches a minute and 10,000 outcomes of probes a second go through the writer.
//! - `lost`, `wrong`: over all rounds. `noisy`: measurements during which other programs took over 8 % of a CPU in spite of
//!   two tries.
//!
//! On loopback the sender's system call runs the receiver's half of the stack too: a server pays for the delivery of its
//! answers, and not for that of the queries. `echo` does nothing else, so it is the ceiling.

mod kit;

use kit::args::Args;
use kit::load::{Load, Outcome, Pace, Query};
use kit::peers::{self, Peer};
use kit::proc::{self, Server};
use kit::site;
use kit::sys;
use kit::table::Table;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "cargo bench --bench peers [-- --rounds N --seconds N --json --test NAME…]";

/// The open loop's rate.
const RATE: u32 = 20_000;
/// Measurements with more of a CPU taken by others are tried again, and told.
const NOISE_MAX: f64 = 0.08;
/// Endpoints with a probe each ten times a second: 10,000 outcomes a second.
const PROBED: usize = 1_000;

const COLUMNS: [(&str, usize); 22] = [
    ("max qps", 0),
    ("us/q", 2),
    ("least us/q", 2),
    ("user us/q", 2),
    ("mixed us/q", 2),
    ("steered us/q", 2),
    ("DO+cookie us/q", 2),
    ("@20k us/q", 2),
    ("p50", 0),
    ("p99", 0),
    ("p99.9", 0),
    ("MiB", 1),
    ("TCP qps", 0),
    ("TCP new/s", 0),
    ("TCP new us", 1),
    ("busy p50", 0),
    ("busy p99", 0),
    ("busy p99.9", 0),
    ("outcomes/s", 0),
    ("lost", 0),
    ("wrong", 0),
    ("noisy", 0),
];

/// One measurement.
struct Measured {
    outcome: Outcome,
    /// CPU a query, microseconds, and its part in user space.
    micros: f64,
    user_micros: f64,
    /// Share of a CPU that others took.
    noise: f64,
}

/// A server under test.
struct Subject<'a> {
    name: &'a str,
    server: Server,
    address: SocketAddr,
    args: &'a Args,
}

impl Subject<'_> {
    /// Loads it, again while others are noisy; counts losses and wrong answers.
    fn measure(&self, kind: &str, pace: Pace, table: &mut Table) -> Measured {
        let queries = peers::queries(kind);
        let queries = if self.name == "echo" {
            queries.iter().map(|query| query.unchecked()).collect()
        } else {
            queries
        };
        let mut load = Load::new(self.address, queries, 8);
        let mut best: Option<Measured> = None;
        for _ in 0..if self.args.test { 1 } else { 2 } {
            if !self.args.test {
                proc::wait_quiet(Duration::from_secs(2));
            }
            let (machine, cpu) = (proc::machine_seconds(), self.server.cpu());
            let outcome = load.run(self.args.span(), pace);
            let cpu = self.server.cpu().since(cpu);
            let others = proc::machine_seconds() - machine - cpu.nanos / 1e9 - outcome.generator_seconds;
            let micros = cpu.nanos / 1e3 / (outcome.answered.max(1) as f64);
            let measured = Measured {
                micros,
                user_micros: micros * cpu.user_share,
                noise: others / self.args.seconds,
                outcome,
            };
            let is_quiet = measured.noise <= NOISE_MAX;
            if best.as_ref().is_none_or(|best| measured.noise < best.noise) {
                best = Some(measured);
            }
            if is_quiet {
                break;
            }
        }
        let best = best.expect("measured at least once");
        table.add(self.name, "lost", best.outcome.lost as f64);
        table.add(self.name, "wrong", best.outcome.wrong as f64);
        table.add(self.name, "noisy", if best.noise > NOISE_MAX { 1.0 } else { 0.0 });
        best
    }

    /// Everything about one server.
    fn run(&self, table: &mut Table) {
        let name = self.name;
        let _warm = Load::new(self.address, peers::queries("hit"), 4).run(self.args.span() / 4, Pace::Closed(64));
        let hits = [64, 128].map(|window| self.measure("hit", Pace::Closed(window), table));
        let [few, many] = &hits;
        let best = if few.outcome.qps > many.outcome.qps { few } else { many };
        table.add(name, "max qps", best.outcome.qps);
        table.add(name, "us/q", best.micros);
        table.add(name, "user us/q", best.user_micros);
        hits.iter().for_each(|hit| table.add(name, "least us/q", hit.micros));
        for kind in ["mixed", "steered", "DO+cookie"] {
            let measured = self.measure(kind, Pace::Closed(128), table);
            table.add(name, &format!("{kind} us/q"), measured.micros);
        }
        let steady = self.measure("hit", Pace::Open(RATE), table);
        table.add(name, "@20k us/q", steady.micros);
        for (column, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            table.add(name, column, steady.outcome.latency.micros(share));
        }
        table.add(name, "MiB", self.server.memory_kib() / 1024.0);
        if name != "echo" {
            self.streams(table);
        }
    }

    /// TCP: connections that stay, by dnsperf where it is installed; and one for each query, one after the other.
    fn streams(&self, table: &mut Table) {
        // dnsperf measures whole seconds: too long to show that it works.
        if let Some(qps) = Some(self).filter(|_| !self.args.test).and_then(Subject::kept_streams) {
            table.add(self.name, "TCP qps", qps);
        }
        let query = &peers::queries("hit")[0];
        let (cpu, start) = (self.server.cpu(), Instant::now());
        let mut done = 0u32;
        while start.elapsed() < self.args.span() {
            match ask_over_tcp(self.address, query) {
                Some(true) => done += 1,
                Some(false) => table.add(self.name, "wrong", 1.0),
                None => table.add(self.name, "lost", 1.0),
            }
        }
        let cpu = self.server.cpu().since(cpu);
        table.add(self.name, "TCP new/s", f64::from(done) / start.elapsed().as_secs_f64());
        table.add(self.name, "TCP new us", cpu.nanos / 1e3 / f64::from(done.max(1)));
    }

    /// What dnsperf reaches over ten connections.
    fn kept_streams(&self) -> Option<f64> {
        let dnsperf = proc::find("dnsperf")?;
        let folder = tempfile::tempdir().ok()?;
        let data = folder.path().join("queries");
        let text: String = (0..20).map(|number| format!("host{number:02}.{} A\n", peers::ZONE)).collect();
        std::fs::write(&data, text).ok()?;
        let mut command = Command::new("taskset");
        command.args(["-c", &generator_cpu().to_string(), &dnsperf, "-m", "tcp", "-s", "127.0.0.1", "-p"]);
        command.arg(self.address.port().to_string()).arg("-d").arg(&data);
        command.args([
            "-l",
            &self.args.seconds.ceil().max(1.0).to_string(),
            "-c",
            "10",
            "-T",
            "1",
            "-q",
            "200",
        ]);
        let output = command.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("Queries per second:"));
        line?.split_whitespace().next()?.parse().ok()
    }
}

/// One query over a connection of its own; whether the answer is right, none when there was none.
fn ask_over_tcp(server: SocketAddr, query: &Query) -> Option<bool> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    // Closed with a reset, or the ports of this side were soon all waiting (RFC 9293 section 3.6.1).
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()?;
    let packet = query.packet(7);
    stream
        .write_all(&[&(packet.len() as u16).to_be_bytes()[..], &packet].concat())
        .ok()?;
    let mut answer = [0; 2048];
    stream.read_exact(&mut answer[..2]).ok()?;
    let octets = usize::from(u16::from_be_bytes([answer[0], answer[1]]));
    let room = answer.get_mut(..octets)?;
    stream.read_exact(room).ok()?;
    Some(query.accepts(room))
}

/// The CPU of the generator: another one than the server's, where there is one.
fn generator_cpu() -> usize {
    usize::from(proc::cpus() > 1)
}

/// Starts a server in a folder and waits until it answers rightly; says what is wrong otherwise.
fn start<'a>(name: &'a str, peer: &Peer, dir: &Path, port: u16, args: &'a Args) -> Option<Subject<'a>> {
    let log = dir.join("log");
    let mut server = Server::start(&peer.command, Some(0), &log).ok()?;
    let address = site::local(port);
    for kind in ["hit", "steered"] {
        let query = &peers::queries(kind)[0];
        let query = if name == "echo" { query.unchecked() } else { query.clone() };
        if site::wait_for_answer(&mut server, address, &query).is_none() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            eprintln!("{name} does not answer as it should: {}", log.lines().last().unwrap_or_default());
            return None;
        }
    }
    Some(Subject {
        name,
        server,
        address,
        args,
    })
}

/// Latency while the writer is busy: probes and switches.
fn busy(args: &Args, table: &mut Table) {
    // The endpoints: addresses of loopback with one listener, which lets every connection in and drops it.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into()).unwrap();
    listener.listen(4096).unwrap(); // it shares the generator's CPU and is slow at times: no reason to turn probes away
    let listener = TcpListener::from(listener);
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        sys::step_back();
        listener.incoming().for_each(drop);
    });
    let mut more = String::new();
    let probed = if args.test { 20 } else { PROBED };
    for app in 0..probed / 20 {
        let addresses = |region: usize| {
            (0..10)
                .map(|number| format!("\"127.{}.{}.{number}\"", region + 10, app + 1))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let _ = write!(
            more,
            "[app.p{app}]\nname = \"p{app}.{}\"\nregions = [\"one\", \"two\"]\ncooldown = \"0s\"\n[app.p{app}.endpoints]\none = [{}]\ntwo = [{}]\n\
             [[app.p{app}.probe]]\nkind = \"tcp\"\nport = {port}\ninterval = \"100ms\"\ntimeout = \"90ms\"\n",
            peers::ZONE,
            addresses(0),
            addresses(1)
        );
    }
    let (folder, dns) = (tempfile::tempdir().unwrap(), site::free_ports());
    let peer = peers::pointsman(folder.path(), dns, &more);
    let Some(subject) = start("pointsman", &peer, folder.path(), dns, args) else {
        return;
    };
    let api = site::local(dns + 1);
    // It listens a moment after the first answers.
    while site::http(api, "GET", "/readyz", "").is_none() {
        std::thread::yield_now();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, apps) = (stop.clone(), probed / 20);
    let switches = std::thread::spawn(move || {
        sys::step_back();
        let mut done = 0;
        while !stopped.load(Ordering::Relaxed) {
            let (name, to) = (
                format!("p{}.{}", done % apps, peers::ZONE),
                if done / apps % 2 == 0 { "two" } else { "one" },
            );
            assert_eq!(site::switch(api, &name, to), Some(200), "a switch under load");
            done += 1;
            std::thread::sleep(Duration::from_millis(60));
        }
    });
    let outcomes =
        || site::http(api, "GET", "/metrics", "").map_or(0.0, |(_, text)| site::metric(&text, "pointsman_probe_duration_seconds_count"));
    let (before, from) = (outcomes(), Instant::now());
    let mut load = Load::new(subject.address, peers::queries("hit"), 8);
    let outcome = load.run(args.span(), Pace::Open(RATE));
    table.add("pointsman", "outcomes/s", (outcomes() - before) / from.elapsed().as_secs_f64());
    table.add("pointsman", "lost", outcome.lost as f64);
    table.add("pointsman", "wrong", outcome.wrong as f64);
    for (column, share) in [("busy p50", 0.5), ("busy p99", 0.99), ("busy p99.9", 0.999)] {
        table.add("pointsman", column, outcome.latency.micros(share));
    }
    stop.store(true, Ordering::Relaxed);
    switches.join().unwrap();
}

/// The ceiling: what comes is sent back, in batches.
fn echo(port: u16) -> ! {
    let socket = UdpSocket::bind(site::local(port)).unwrap();
    let mut packets = sys::Packets::new(true);
    loop {
        if packets.receive(&socket, true).is_ok() {
            packets.send_back(&socket);
        }
    }
}

fn main() {
    let args = Args::read(USAGE);
    if let Some(port) = args.echo {
        echo(port);
    }
    sys::pin(generator_cpu());
    let mut table = Table::new(&COLUMNS);
    for round in 1..=args.rounds {
        for name in peers::NAMES.iter().filter(|name| args.wants(name)) {
            let (folder, port) = (tempfile::tempdir().unwrap(), site::free_ports());
            let Some(peer) = peers::prepare(name, folder.path(), port) else {
                eprintln!("{name} is not installed and left out");
                continue;
            };
            eprintln!("round {round}: {name} {}", peer.version);
            if let Some(subject) = start(name, &peer, folder.path(), port, &args) {
                subject.run(&mut table);
            }
        }
        if args.wants("pointsman") {
            busy(&args, &mut table);
        }
    }
    table.print(args.json);
    let wrong = table.figure("pointsman", "wrong").unwrap_or(0.0);
    assert!(wrong == 0.0, "pointsman gave {wrong} wrong answers");
}
