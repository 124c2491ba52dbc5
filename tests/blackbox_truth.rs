//! The truth about the prober, from outside: a process that is stopped, a network that is gone, a probe that cannot run.

mod support;

use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use support::{Region, Site, wait_for};

/// An application that moves at once on the first failure, probed five times a second.
fn eager(failover: &str, probe: &str) -> String {
    format!(
        "[app.shop]\nname = \"shop.example.net.\"\nregions = [\"iad\", \"fra\"]\nttl = \"1s\"\nfailover = \"{failover}\"\nfailback-delay = \"1h\"\n\
         cooldown = \"0s\"\nwhen-all-down = \"servfail\"\n[app.shop.endpoints]\niad = [\"127.0.1.1\"]\nfra = [\"127.0.2.1\"]\n[[app.shop.probe]]\n\
         {probe}\ninterval = \"200ms\"\ntimeout = \"100ms\"\n"
    )
}

/// The health of a region.
fn health(site: &Site, region: &str) -> String {
    let name = site.name("shop.example.net.");
    name["health"][region]["health"].as_str().unwrap_or_default().to_owned()
}

/// Waits for the health of both regions.
fn wait_health(site: &Site, iad: &str, fra: &str) {
    wait_for(&format!("iad {iad} and fra {fra}; log: {}", site.log()), || {
        (health(site, "iad") == iad && health(site, "fra") == fra).then_some(())
    });
}

/// Whether a metric has a value.
fn has_metric(site: &Site, line: &str) -> bool {
    site.get("/metrics").is_some_and(|(_, body)| body.lines().any(|one| one == line))
}

/// The kinds of the entries in the ledger.
fn ledger(site: &Site) -> String {
    site.cli_code(0, &["ledger", "log"])
}

/// Waits until some time has passed.
fn let_pass(time: Duration) {
    let end = Instant::now() + time;
    wait_for("the time to pass", || (Instant::now() >= end).then_some(()));
}

#[test]
fn a_process_that_was_stopped_makes_no_region_sick_and_moves_nothing() {
    let site = Site::new(&eager(
        "automatic",
        "kind = \"http\"\nurl = \"http://shop.example.net:{web}/healthz\"\nfall = 1\nrise = 1\nstale-after = \"2s\"",
    ));
    let _regions = [site.region(1, true), site.region(2, false)];
    let server = site.serve();
    wait_health(&site, "healthy", "healthy");
    let before = ledger(&site);
    // Short stops catch runs under way; the long one outlasts every time limit, and all evidence.
    let stops = (0..20)
        .map(|step| Duration::from_millis(160 + 7 * step))
        .chain([Duration::from_secs(5)]);
    for stop in stops {
        server.signal(Signal::SIGSTOP);
        let_pass(stop);
        server.signal(Signal::SIGCONT);
        let_pass(Duration::from_millis(60));
    }
    wait_health(&site, "healthy", "healthy");
    let log = site.log();
    assert!(!log.contains("to=unhealthy"), "{log}");
    assert_eq!(ledger(&site), before, "nothing moved, nothing was proposed");
    assert_eq!(site.a("shop.example.net."), ["127.0.1.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn a_network_that_is_gone_is_the_probers_fault_and_one_region_that_is_gone_is_not() {
    let site = Site::new(&eager(
        "automatic",
        "kind = \"tcp\"\nport = {web}\nfall = 4\nrise = 1\nstale-after = \"5s\"",
    ));
    let start = |site: &Site| -> [Region; 2] { [site.region(1, true), site.region(2, false)] };
    let regions = start(&site);
    let _server = site.serve();
    wait_health(&site, "healthy", "healthy");
    let before = ledger(&site);
    drop(regions);
    let alert = "pointsman_alert{alert=\"prober-suspected\",name=\"\"} 1";
    wait_for("the prober to be suspected", || has_metric(&site, alert).then_some(()));
    wait_health(&site, "unknown", "unknown");
    wait_for("runs that are not counted", || {
        let line = site.get("/metrics")?.1;
        let count = line.lines().find_map(|line| {
            line.strip_prefix("pointsman_probe_discarded_total{reason=\"suspected\"} ")?
                .parse::<u64>()
                .ok()
        })?;
        (count >= 12).then_some(())
    });
    site.wait_a("shop.example.net.", &["127.0.1.1"]);
    let status = site.cli_code(0, &["status"]);
    assert!(status.contains("2 of 2 probes heard, in 2 of 2 regions, were cut off"), "{status}");
    let explained = site.cli_code(0, &["explain", "shop.example.net"]);
    assert!(
        explained.contains("not counted: the prober is suspected; unknown since ") && explained.contains(", was healthy"),
        "{explained}"
    );
    let refused = site.cli_code(3, &["switch", "shop.example.net", "--to", "fra", "--reason", "test"]);
    assert!(
        refused.contains("target-healthy") && refused.contains("the prober is suspected"),
        "{refused}"
    );
    assert_eq!(ledger(&site), before, "nothing moved, nothing was proposed");
    // The network is back; then one region dies alone.
    let [iad, fra] = start(&site);
    wait_health(&site, "healthy", "healthy");
    wait_for("the suspicion to end", || (!has_metric(&site, alert)).then_some(()));
    assert_eq!(ledger(&site), before);
    drop(iad);
    site.wait_a("shop.example.net.", &["127.0.2.1"]);
    assert!(!has_metric(&site, alert), "one of two regions is never the prober");
    drop(fra);
}

#[test]
fn a_probe_whose_program_is_gone_says_nothing_of_the_region_and_is_named() {
    let site = Site::new("");
    let program = site.path("check.sh");
    std::fs::write(&program, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let probe = format!(
        "kind = \"exec\"\ncommand = [\"{}\", \"{{region}}\"]\nfall = 1\nrise = 1\nstale-after = \"1s\"",
        program.display()
    );
    site.write_config(&eager("manual", &probe).replace("timeout = \"100ms\"", "timeout = \"190ms\""));
    let _server = site.serve();
    wait_health(&site, "healthy", "healthy");
    let before = ledger(&site);
    std::fs::remove_file(&program).unwrap();
    wait_health(&site, "unknown", "unknown");
    wait_for("the alert", || {
        has_metric(&site, "pointsman_alert{alert=\"probe-cannot-run\",name=\"shop.example.net.\"} 1").then_some(())
    });
    let explained = site.cli_code(0, &["explain", "shop.example.net"]);
    assert!(
        explained.contains("a probe of iad cannot run on this node") && explained.contains("check.sh"),
        "{explained}"
    );
    site.wait_a("shop.example.net.", &["127.0.1.1"]);
    assert_eq!(ledger(&site), before, "nothing was proposed");
    assert!(!site.log().contains("to=unhealthy"));
}
