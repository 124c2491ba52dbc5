//! Authoritative servers side by side on loopback UDP: what an answer costs, how fast it comes, how many come at most.
//!
//! `cargo bench --bench peers [-- --rounds N --seconds N --json NAME…]`. Peers that are not installed are left out.
//!
//! - `max qps`: closed loop, the better of 64 and 128 queries in flight; `us/q` is the CPU time of all the server's processes
//!   for each answer in that test, `least` that of all rounds, `user` the part of it in user space, by the timer ticks.
//! - `mixed`: 80 % hits, 10 % NXDOMAIN, 10 % NODATA; `steered`: the name that fails over; `DO+cookie`: hits with the DO bit and
//!   a client's cookie.
//! - `@20k`: open loop, 20,000 queries a second on a schedule; p50, p99 and p99.9 in microseconds.
//! - `busy`: the same while 1,000 switches a minute and 10,000 outcomes of probes a second go through pointsman's writer: for pointsman
//!   itself, and for the others with a pointsman on their core that does this and is asked nothing, so that all share it with the same.
//! - `lost`, `wrong`: over all rounds. `noisy`: measurements during which other programs took over 8 % of a CPU in spite of
//!   two tries.
//!
//! On loopback the sender's system call runs the receiver's half of the stack too: a server pays for the delivery of its
//! answers, and not for that of the queries. `echo` does nothing else, so it is the ceiling.

mod kit;

use kit::args::Args;
use kit::load::{Load, Outcome, Pace, Query};
use kit::measure::{Measured, measure};
use kit::peers;
use kit::proc::{self, Server};
use kit::site;
use kit::sys;
use kit::table::Table;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "cargo bench --bench peers [-- --rounds N --seconds N --json --test NAME…]";

/// The servers, the ceiling first.
const NAMES: [&str; 6] = ["echo", "pointsman", "gdnsd", "nsd", "knot", "pdns"];
/// The open loop's rate.
const RATE: u32 = 20_000;
/// Endpoints with a probe each ten times a second: 10,000 outcomes a second.
const PROBED: usize = 1_000;

const COLUMNS: [(&str, usize); 19] = [
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
    ("busy p50", 0),
    ("busy p99", 0),
    ("busy p99.9", 0),
    ("outcomes/s", 0),
    ("lost", 0),
    ("wrong", 0),
    ("noisy", 0),
];

/// A server under test.
struct Subject<'a> {
    name: &'a str,
    server: Server,
    address: SocketAddr,
    args: &'a Args,
}

impl Subject<'_> {
    /// Loads it; counts losses and wrong answers.
    fn measure(&self, kind: &str, pace: Pace, table: &mut Table) -> Measured<Outcome> {
        let mut load = Load::new(self.address, queries(self.name, kind), 8);
        let best = measure(self.args, &self.server, || load.run(self.args.span(), pace));
        table.add(self.name, "lost", best.outcome.lost as f64);
        table.add(self.name, "wrong", best.outcome.wrong as f64);
        table.add(self.name, "noisy", best.noisy());
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
        table.add(name, "us/q", micros(best));
        table.add(name, "user us/q", micros(best) * best.cpu.user_share);
        hits.iter().for_each(|hit| table.add(name, "least us/q", micros(hit)));
        for kind in ["mixed", "steered", "DO+cookie"] {
            let measured = self.measure(kind, Pace::Closed(128), table);
            table.add(name, &format!("{kind} us/q"), micros(&measured));
        }
        let steady = self.measure("hit", Pace::Open(RATE), table);
        table.add(name, "@20k us/q", micros(&steady));
        for (column, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            table.add(name, column, steady.outcome.latency.micros(share));
        }
        table.add(name, "MiB", self.server.memory_kib() / 1024.0);
    }
}

/// What a server is asked; the ceiling's answers are none.
fn queries(name: &str, kind: &str) -> Vec<Query> {
    let queries = peers::queries(kind);
    match name {
        "echo" => queries.iter().map(Query::unchecked).collect(),
        _ => queries,
    }
}

/// CPU time an answer, microseconds.
fn micros(measured: &Measured<Outcome>) -> f64 {
    measured.micros(measured.outcome.answered)
}

/// Latency of a server while pointsman's writer is busy on the same core, with probes and switches; its own where no other is named.
fn busy(args: &Args, other: Option<&Subject>, table: &mut Table) {
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
    let peer = peers::pointsman(folder.path(), dns, "", &more);
    let Some(_server) = peers::start("pointsman", &peer, folder.path(), dns) else {
        return;
    };
    let api = site::local(dns + peers::API);
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
    let (name, address) = other.map_or(("pointsman", site::local(dns)), |other| (other.name, other.address));
    let mut load = Load::new(address, queries(name, "hit"), 8);
    let outcome = load.run(args.span(), Pace::Open(RATE));
    table.add(name, "outcomes/s", (outcomes() - before) / from.elapsed().as_secs_f64());
    table.add(name, "lost", outcome.lost as f64);
    table.add(name, "wrong", outcome.wrong as f64);
    for (column, share) in [("busy p50", 0.5), ("busy p99", 0.99), ("busy p99.9", 0.999)] {
        table.add(name, column, outcome.latency.micros(share));
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
    sys::pin(proc::generator_cpu());
    let mut table = Table::new(&COLUMNS);
    for round in 1..=args.rounds {
        for name in args.of(&NAMES) {
            let (folder, port) = (tempfile::tempdir().unwrap(), site::free_ports());
            let Some(peer) = peers::prepare(name, folder.path(), port) else {
                eprintln!("{name} is not installed and left out");
                continue;
            };
            eprintln!("round {round}: {name} {}", peer.version);
            let Some(server) = peers::start(name, &peer, folder.path(), port) else {
                continue;
            };
            let subject = Subject {
                name,
                server,
                address: site::local(port),
                args: &args,
            };
            subject.run(&mut table);
            let other = Some(subject).filter(|_| name != "pointsman");
            busy(&args, other.as_ref(), &mut table);
        }
    }
    table.print(args.json);
    let wrong = table.figure("pointsman", "wrong").unwrap_or(0.0);
    assert!(wrong == 0.0, "pointsman gave {wrong} wrong answers");
}
