//! What a switch costs over the whole server: from the request to the acknowledgement, from the acknowledgement to the new
//! answer on the wire, and the publish alone, among 100, 1,000 and 10,000 steered names. It must not grow with the names.
//!
//! Not criterion: the unit is a spawned server with its disk, so medians of some hundred switches are printed. With
//! `--test` it runs a few, to show that it works.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use support::Site;

/// A site whose config has `names` applications of two regions each.
fn site(names: usize) -> Site {
    let mut config = String::new();
    for n in 0..names {
        let _ = write!(
            config,
            "[app.a{n}]\nname = \"a{n}.example.net.\"\nregions = [\"iad\", \"fra\"]\nttl = \"30s\"\ncooldown = \"0s\"\n[app.a{n}.endpoints]\niad = [\"127.0.1.1\"]\nfra = [\"127.0.2.1\"]\n"
        );
    }
    Site::new(&config)
}

/// The median.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Sum and count of the publish histogram.
fn publishes(site: &Site) -> (f64, f64) {
    let text = site.get("/metrics").unwrap().1;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap();
    (
        value("pointsman_publish_duration_seconds_sum"),
        value("pointsman_publish_duration_seconds_count"),
    )
}

/// Measures one size.
fn measure(names: usize, switches: usize) {
    let site = site(names);
    let _server = site.serve();
    let name = format!("a{}.example.net.", names / 2);
    let (mut acknowledged, mut answered) = (Vec::new(), Vec::new());
    // The first publish decides every name; it is no switch.
    let before = support::wait_for("the first publish", || Some(publishes(&site)).filter(|(_, count)| *count >= 1.0));
    for n in 0..switches {
        let (to, address) = if n % 2 == 0 { ("fra", "127.0.2.1") } else { ("iad", "127.0.1.1") };
        let address: IpAddr = address.parse().unwrap();
        let body = format!(r#"{{"to":"{to}","reason":"bench","override":["target-healthy"]}}"#);
        let request = format!(
            "POST /v1/names/{name}/switch HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            site.api,
            body.len()
        );
        let start = Instant::now();
        let (status, answer) = support::http(site.api, &request).unwrap();
        assert_eq!(status, 200, "{answer}");
        acknowledged.push(start.elapsed());
        let start = Instant::now();
        assert_eq!(site.a(&name), [address], "an acknowledged switch is visible at once");
        answered.push(start.elapsed());
    }
    let after = publishes(&site);
    let publish = Duration::from_secs_f64((after.0 - before.0) / (after.1 - before.1));
    println!(
        "{names:>7} names   request to acknowledgement {:>9.1?}   acknowledgement to new answer {:>9.1?}   publish {publish:>9.1?}",
        median(acknowledged),
        median(answered)
    );
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    for names in if quick { vec![100] } else { vec![100, 1_000, 10_000] } {
        measure(names, if quick { 10 } else { 400 });
    }
}
