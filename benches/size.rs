//! Large sets: one million static names against NSD and Knot, and 100,000 steered names.
//!
//! `cargo bench --bench size [-- --rounds N --json static steered]`. Files are written to a temporary folder, about 60 MB.
//!
//! Static, the same zone file for every server: `load s` from the start of the process until it answers the last name rightly,
//! `CPU s` what that took, `MiB` the proportional set size of all its processes a second later, `hit us/q` the CPU time an
//! answer costs when names are asked all over the zone, so that nothing is in the cache.
//!
//! Steered: each name an application of its own with two regions. `switch` is from the request to its receipt, over HTTP;
//! `durable to answered` is the server's own clock, from the end of the fdatasync to the snapshot that the lanes answer from
//! (`pointsman_apply_duration_seconds`, upper bounds of its buckets). After an `evacuate` every name is asked once, and has to
//! be answered from the other region.

mod kit;

use kit::args::Args;
use kit::load::{Expect, Load, Pace, Query};
use kit::peers::{self, Peer};
use kit::proc::{self, Server};
use kit::site;
use kit::table::Table;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const USAGE: &str = "cargo bench --bench size [-- --rounds N --seconds N --json --test static steered]";

/// The static zone.
const APEX: &str = "big.example.";

/// Writes a zone of so many names, one A record each.
fn write_zone(path: &Path, names: usize) {
    let mut text = format!("$ORIGIN {APEX}\n$TTL 300\n@ IN SOA ns1 admin 1 7200 900 1209600 30\n@ IN NS ns1\nns1 IN A 192.0.2.53\n");
    for number in 0..names {
        let [_, _, high, low] = (number as u32).to_be_bytes();
        let _ = writeln!(text, "n{number:07} IN A 192.0.{high}.{low}");
    }
    fs::write(path, text).unwrap();
}

/// The query for one static name.
fn static_query(number: usize) -> Query {
    let [_, _, high, low] = (number as u32).to_be_bytes();
    Query::new(&format!("n{number:07}.{APEX}"), 1, 0, &[], Expect::Address([192, 0, high, low]))
}

/// One million static names.
fn static_names(args: &Args, table: &mut Table) {
    let names = if args.test { 10_000 } else { 1_000_000 };
    let folder = tempfile::tempdir().unwrap();
    let zone = folder.path().join("big.zone");
    write_zone(&zone, names);
    for round in 1..=args.rounds {
        for name in ["pointsman", "nsd", "knot"] {
            let (dir, port) = (tempfile::tempdir().unwrap(), site::free_ports());
            let peer = match name {
                "pointsman" => Some(pointsman(dir.path(), port, APEX, &zone, "")),
                "nsd" => peers::nsd_of(dir.path(), port, APEX, &zone),
                _ => peers::knot_of(dir.path(), port, APEX, &zone),
            };
            let Some(peer) = peer else {
                eprintln!("{name} is not installed and left out");
                continue;
            };
            eprintln!("round {round}: {name} {}, {names} names", peer.version);
            proc::wait_quiet(if args.test { Duration::ZERO } else { Duration::from_secs(10) });
            let mut server = Server::start(&peer.command, None, &dir.path().join("log")).unwrap();
            let address = site::local(port);
            let Some(took) = site::wait_for_answer(&mut server, address, &static_query(names - 1)) else {
                eprintln!(
                    "{name} does not answer: {}",
                    fs::read_to_string(dir.path().join("log")).unwrap_or_default()
                );
                continue;
            };
            table.add(name, "load s", took.as_secs_f64());
            table.add(name, "CPU s", server.cpu().nanos / 1e9);
            // What was needed only for loading is given back by now, by those that give it back.
            std::thread::sleep(Duration::from_secs(1));
            table.add(name, "MiB", server.memory_kib() / 1024.0);
            let queries = (0..100_000)
                .map(|number: usize| static_query(number.wrapping_mul(2_654_435_761) % names))
                .collect();
            let before = server.cpu();
            let outcome = Load::new(address, queries, 8).run(args.span(), Pace::Closed(128));
            let cpu = server.cpu().since(before);
            table.add(name, "hit us/q", cpu.nanos / 1e3 / outcome.answered.max(1) as f64);
            table.add(name, "lost", outcome.lost as f64);
            table.add(name, "wrong", outcome.wrong as f64);
        }
    }
}

/// Pointsman with one zone from a file; `more` is what follows in its config.
fn pointsman(dir: &Path, port: u16, apex: &str, zone: &Path, more: &str) -> Peer {
    let peer = peers::pointsman(dir, port, "", "");
    let config = format!(
        "version = 1\n[node]\nname = \"bench\"\ndata-dir = \"data\"\n[dns]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 1\n[api]\nlisten = \"127.0.0.1:{}\"\n\
         [[zone]]\nname = \"{apex}\"\nfile = \"{}\"\n[region.iad]\ntitle = \"iad\"\n[region.fra]\ntitle = \"fra\"\n{more}",
        port + 1,
        zone.display()
    );
    fs::write(dir.join("pointsman.toml"), config).unwrap();
    peer
}

/// The name of a steered application.
fn steered_name(number: usize) -> String {
    format!("a{number:06}.steer.example.")
}

/// Its query, answered from one region.
fn steered_query(number: usize, region: &str) -> Query {
    let address = if region == "iad" { [192, 0, 2, 1] } else { [198, 51, 100, 1] };
    Query::new(&steered_name(number), 1, 0, &[], Expect::Address(address))
}

/// Starts a server with so many steered names.
fn start_steered(dir: &Path, port: u16, names: usize) -> (Server, Duration) {
    let zone = dir.join("steer.zone");
    fs::write(
        &zone,
        "$ORIGIN steer.example.\n$TTL 300\n@ IN SOA ns1 admin 1 7200 900 1209600 30\n@ IN NS ns1\nns1 IN A 192.0.2.53\n",
    )
    .unwrap();
    let mut more = String::new();
    for number in 0..names {
        let _ = write!(
            more,
            "[app.a{number:06}]\nname = \"{}\"\nregions = [\"iad\", \"fra\"]\ncooldown = \"0s\"\n[app.a{number:06}.endpoints]\niad = [\"192.0.2.1\"]\nfra = [\"198.51.100.1\"]\n",
            steered_name(number)
        );
    }
    let peer = pointsman(dir, port, "steer.example.", &zone, &more);
    let mut server = Server::start(&peer.command, None, &dir.join("log")).unwrap();
    let took = site::wait_for_answer(&mut server, site::local(port), &steered_query(names - 1, "iad"));
    let ready = || site::http(site::local(port + 1), "GET", "/readyz", "").filter(|(status, _)| *status == 200);
    while took.is_some() && ready().is_none() && server.is_alive() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = took.unwrap_or_else(|| panic!("it does not answer: {}", fs::read_to_string(dir.join("log")).unwrap_or_default()));
    (server, took)
}

/// The metrics of a server.
fn metrics(api: SocketAddr) -> String {
    site::http(api, "GET", "/metrics", "").expect("metrics").1
}

/// The histogram from durable to answered.
fn applied(api: SocketAddr) -> Vec<(f64, f64)> {
    site::buckets(&metrics(api), "pointsman_apply_duration_seconds")
}

/// The sum of it, seconds.
fn applied_sum(api: SocketAddr) -> f64 {
    site::metric(&metrics(api), "pointsman_apply_duration_seconds_sum")
}

/// 100,000 steered names.
fn steered_names(args: &Args, table: &mut Table) {
    let names = if args.test { 1_000 } else { 100_000 };
    let row = format!("{names} steered");
    for round in 1..=args.rounds {
        eprintln!("round {round}: {row}");
        let (one_dir, port) = (tempfile::tempdir().unwrap(), site::free_ports());
        let (one, _) = start_steered(one_dir.path(), port, 1);
        std::thread::sleep(Duration::from_secs(1));
        let base = one.memory_kib();
        drop(one);
        let dir = tempfile::tempdir().unwrap();
        let (server, took) = start_steered(dir.path(), port, names);
        let (dns, api) = (site::local(port), site::local(port + 1));
        table.add(&row, "start s", took.as_secs_f64());
        std::thread::sleep(Duration::from_secs(if args.test { 1 } else { 3 }));
        table.add(&row, "MiB", server.memory_kib() / 1024.0);
        table.add(&row, "octets/name", (server.memory_kib() - base) * 1024.0 / names as f64);
        switches(args, table, &row, names, dns, api);
        for (from, to) in [("iad", "fra"), ("fra", "iad")] {
            evacuate(table, &row, (names, from, to), dns, api);
        }
        table.add(&row, "MiB after", server.memory_kib() / 1024.0);
    }
}

/// One name at a time.
fn switches(args: &Args, table: &mut Table, row: &str, names: usize, dns: SocketAddr, api: SocketAddr) {
    let (mut times, before) = (Vec::new(), applied(api));
    for number in 0..if args.test { 20 } else { 1_000 } {
        let name = number * 97 % names;
        for to in ["fra", "iad"] {
            let from = Instant::now();
            assert_eq!(site::switch(api, &steered_name(name), to), Some(200));
            times.push(from.elapsed().as_secs_f64() * 1e3);
            assert!(
                site::ask(dns, &steered_query(name, to)).is_some(),
                "an acknowledged switch is visible at once"
            );
        }
    }
    times.sort_by(f64::total_cmp);
    table.add(row, "switch p50 ms", times[times.len() / 2]);
    table.add(row, "switch p99 ms", times[times.len() * 99 / 100]);
    let after = applied(api);
    table.add(row, "durable to answered p50 us", site::quantile(&before, &after, 0.5));
    table.add(row, "durable to answered p99 us", site::quantile(&before, &after, 0.99));
}

/// All of them at once, from one region to the other, and the mark cleared again.
fn evacuate(table: &mut Table, row: &str, (names, from, to): (usize, &str, &str), dns: SocketAddr, api: SocketAddr) {
    let before = applied_sum(api);
    let start = Instant::now();
    let body = r#"{"reason":"bench","override":["target-healthy"]}"#;
    let (status, answer) = site::http(api, "POST", &format!("/v1/regions/{from}/evacuate"), body).expect("an answer");
    table.add(row, "evacuate ms", start.elapsed().as_secs_f64() * 1e3);
    assert_eq!(status, 200, "{answer}");
    let mut load = Load::new(dns, (0..names).map(|number| steered_query(number, to)).collect(), 8);
    let outcome = load.once(128);
    assert_eq!(
        (outcome.answered, outcome.wrong),
        (names as u64, 0),
        "every name is answered from {to} once that is acknowledged"
    );
    table.add(row, "of it durable to answered ms", (applied_sum(api) - before) * 1e3);
    let (status, answer) = site::http(api, "POST", &format!("/v1/regions/{from}/restore"), r#"{"reason":"bench"}"#).expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

fn main() {
    let args = Args::read(USAGE);
    if args.wants("static") {
        let mut table = Table::new(&[("load s", 2), ("CPU s", 2), ("MiB", 0), ("hit us/q", 2), ("lost", 0), ("wrong", 0)]);
        static_names(&args, &mut table);
        table.print(args.json);
    }
    if args.wants("steered") {
        let mut table = Table::new(&[
            ("start s", 2),
            ("MiB", 0),
            ("octets/name", 0),
            ("switch p50 ms", 2),
            ("switch p99 ms", 2),
            ("durable to answered p50 us", 0),
            ("durable to answered p99 us", 0),
            ("evacuate ms", 0),
            ("of it durable to answered ms", 1),
            ("MiB after", 0),
        ]);
        steered_names(&args, &mut table);
        table.print(args.json);
    }
}
