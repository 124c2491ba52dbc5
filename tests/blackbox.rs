//! The spawned binary from outside: HTTP and CLI in, DNS out. Each test has a server, regions and ports of its own.

mod support;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use std::net::IpAddr;
use support::{PLAIN, Site, file_contains, wait_for};

/// Two regions, manual, with an http probe that knows the database's role.
const MANUAL: &str = r#"
[app.shop]
name = "shop.example.net."
regions = ["iad", "fra"]
ttl = "5s"
cooldown = "0s"
[app.shop.paired]
iad = "iad.shop.example.net."
fra = "fra.shop.example.net."
[app.shop.endpoints]
iad = ["127.0.1.1"]
fra = ["127.0.2.1"]
[[app.shop.probe]]
kind = "http"
url = "http://shop.example.net:{web}/healthz"
interval = "200ms"
timeout = "100ms"
fall = 2
rise = 1
stale-after = "5s"
role = { json = "/database/role", active = "primary", passive = "standby" }
"#;

/// Moves a name whatever its health is.
const FORCE: [&str; 4] = ["--override", "target-healthy", "--reason", "test"];

fn switch(site: &Site, to: &str) -> serde_json::Value {
    let mut arguments = vec!["switch", "shop.example.net", "--to", to, "--json"];
    arguments.extend(FORCE);
    site.json(&arguments)
}

fn health(site: &Site, region: &str) -> String {
    site.name("shop.example.net.")["health"][region]["health"]
        .as_str()
        .or(site.name("shop.example.net.")["health"][region].as_str())
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn the_walk_break_propose_refuse_promote_approve() {
    let site = Site::new(MANUAL);
    let (iad, fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    site.wait_a("shop.example.net.", &["127.0.1.1"]);
    site.wait_a("fra.shop.example.net.", &["127.0.2.1"]);
    wait_for("both regions healthy", || {
        (health(&site, "iad") == "healthy" && health(&site, "fra") == "healthy").then_some(())
    });

    iad.set_broken(true);
    let proposal = wait_for("a proposal for the main name", || {
        let items = site.json(&["proposals", "--json"])["items"].clone();
        items
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["name"] == "shop.example.net.")
            .cloned()
    });
    assert_eq!((proposal["from"].as_str(), proposal["to"].as_str()), (Some("iad"), Some("fra")));
    let id = proposal["id"].to_string();
    // Promise 1: health alone moves nothing under manual; promise 3: and never an empty answer.
    site.wait_a("shop.example.net.", &["127.0.1.1"]);
    assert!(
        site.get("/metrics")
            .unwrap()
            .1
            .contains("pointsman_fail_open{name=\"shop.example.net.\"} 1")
    );

    let refused = site.cli_code(3, &["approve", &id, "--reason", "iad is down"]);
    assert!(refused.contains("target-writable"), "{refused}");
    site.wait_a("shop.example.net.", &["127.0.1.1"]);

    iad.set_primary(false);
    fra.set_primary(true);
    wait_for("fra to be observed active", || {
        let explained = site.cli_code(0, &["explain", "shop.example.net", "--json"]);
        let regions = serde_json::from_str::<serde_json::Value>(&explained).unwrap()["regions"].clone();
        regions
            .as_array()
            .unwrap()
            .iter()
            .any(|region| region["region"] == "fra" && region["observed"] == "active")
            .then_some(())
    });
    site.cli_code(0, &["approve", &id, "--reason", "promoted"]);
    // Promise 4: visible at once, for the name, its alias and its wildcard alias.
    let moved: IpAddr = "127.0.2.1".parse().unwrap();
    for name in ["shop.example.net.", "www.example.net.", "a.b.w.example.net."] {
        assert_eq!(site.a(name), [moved], "{name}");
    }
    let log = site.cli_code(0, &["ledger", "log"]);
    assert!(log.contains("promoted"), "{log}");
    site.cli_code(0, &["ledger", "verify"]);
}

#[test]
fn evidence_looks_as_fresh_as_it_is_while_no_verdict_changes() {
    let site = Site::new(MANUAL);
    let (_iad, _fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    wait_for("both regions healthy", || {
        (health(&site, "iad") == "healthy" && health(&site, "fra") == "healthy").then_some(())
    });
    let age = || site.name("shop.example.net.")["health"]["iad"]["age_seconds"].as_f64().unwrap();
    let mut before = age();
    wait_for("newer evidence", || {
        let now = age();
        let newer = now < before;
        before = now;
        newer.then_some(())
    });
    let explained = site.cli_code(0, &["explain", "shop.example.net"]);
    assert!(explained.contains("        http passed in "), "{explained}");
}

#[test]
fn acknowledged_means_visible_at_once() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    for round in 0..100 {
        let (region, address) = if round % 2 == 0 {
            ("fra", "127.0.2.1")
        } else {
            ("iad", "127.0.1.1")
        };
        let body = format!(r#"{{"to":"{region}","reason":"round {round}","override":["target-healthy"]}}"#);
        let (status, answer) = post(&site, "/v1/names/shop.example.net./switch", &body);
        assert_eq!(status, 200, "{answer}");
        assert_eq!(site.a("shop.example.net."), [address.parse::<IpAddr>().unwrap()], "round {round}");
    }
}

#[test]
fn a_switch_answers_as_it_did_when_it_is_repeated() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    let body = r#"{"to":"fra","reason":"once","override":["target-healthy"],"request_id":"abc"}"#;
    let first = post(&site, "/v1/names/shop.example.net/switch", body);
    assert_eq!(first.0, 200, "{}", first.1);
    switch(&site, "iad");
    let parse = |answer: &str| {
        let value: serde_json::Value = serde_json::from_str(answer).unwrap();
        (value["changed"].clone(), value["seq"].clone(), value["hash"].clone())
    };
    let again = post(&site, "/v1/names/shop.example.net/switch", body);
    assert_eq!(parse(&again.1), parse(&first.1));
    assert_eq!(site.a("shop.example.net."), ["127.0.1.1".parse::<IpAddr>().unwrap()]);
    server.kill();
    let _server = site.serve();
    let after_restart = post(&site, "/v1/names/shop.example.net/switch", body);
    assert_eq!(parse(&after_restart.1), parse(&first.1));
}

#[test]
fn a_stale_expectation_is_refused() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    switch(&site, "fra");
    let mut arguments = vec!["switch", "shop.example.net", "--to", "iad", "--expect", "iad"];
    arguments.extend(FORCE);
    let refused = site.cli_code(3, &arguments);
    assert!(refused.contains("expect"), "{refused}");
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_dry_run_shows_both_answers_and_changes_nothing() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    let before = site.json(&["status", "--json"]);
    let mut arguments = vec!["switch", "shop.example.net", "--to", "fra", "--dry-run"];
    arguments.extend(FORCE);
    let shown = site.cli_code(0, &arguments);
    assert!(shown.contains("127.0.1.1") && shown.contains("127.0.2.1"), "{shown}");
    let refused = site.cli_code(3, &["switch", "shop.example.net", "--to", "fra", "--dry-run", "--reason", "x"]);
    assert!(refused.contains("target-healthy"), "{refused}");
    let after = site.json(&["status", "--json"]);
    assert_eq!(before["seq"], after["seq"]);
    assert_eq!(site.a("shop.example.net."), ["127.0.1.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn evacuate_drains_the_region_for_every_name_and_restore_moves_nothing() {
    let site = Site::new(MANUAL);
    let (_iad, _fra) = (site.region(1, true), site.region(2, true));
    let _server = site.serve();
    wait_for("both healthy", || {
        (health(&site, "iad") == "healthy" && health(&site, "fra") == "healthy").then_some(())
    });
    site.cli_code(0, &["evacuate", "iad", "--reason", "storm"]);
    for name in ["shop.example.net.", "iad.shop.example.net.", "fra.shop.example.net."] {
        assert_eq!(site.a(name), ["127.0.2.1".parse::<IpAddr>().unwrap()], "{name}");
    }
    let refused = site.cli_code(3, &["switch", "shop.example.net", "--to", "iad", "--reason", "back"]);
    assert!(refused.contains("target-not-drained"), "{refused}");
    site.cli_code(0, &["restore", "iad", "--reason", "storm is over"]);
    assert_eq!(site.a("iad.shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
    site.cli_code(0, &["switch", "shop.example.net", "--to", "iad", "--reason", "back"]);
    assert_eq!(site.a("shop.example.net."), ["127.0.1.1".parse::<IpAddr>().unwrap()]);
    let refused = site.cli_code(3, &["drain", "shop.example.net", "iad", "--reason", "x"]);
    assert!(refused.contains("one-active"), "{refused}");
    site.cli_code(0, &["drain", "shop.example.net", "fra", "--reason", "x"]);
    site.cli_code(3, &["switch", "shop.example.net", "--to", "fra", "--reason", "x"]);
    site.cli_code(0, &["undrain", "shop.example.net", "fra", "--reason", "x"]);
    site.cli_code(0, &["switch", "shop.example.net", "--to", "fra", "--reason", "x"]);
}

#[test]
fn an_automatic_name_moves_by_itself_and_home_again() {
    let site = Site::new(&MANUAL.replace(
        "cooldown = \"0s\"",
        "cooldown = \"0s\"\nfailover = \"automatic\"\nfailover-delay = \"0s\"\nfailback-delay = \"500ms\"",
    ));
    let (iad, _fra) = (site.region(1, true), site.region(2, true));
    let _server = site.serve();
    wait_for("both healthy", || {
        (health(&site, "iad") == "healthy" && health(&site, "fra") == "healthy").then_some(())
    });
    iad.set_broken(true);
    site.wait_a("shop.example.net.", &["127.0.2.1"]);
    iad.set_broken(false);
    site.wait_a("shop.example.net.", &["127.0.1.1"]);
    let log = site.cli_code(0, &["ledger", "log"]);
    assert!(
        log.contains("failover") && log.contains("failback") && log.contains("policy"),
        "{log}"
    );
}

#[test]
fn kill_9_loses_nothing_and_the_node_answers_from_its_own_disk() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    let receipt = switch(&site, "fra");
    server.kill();
    let _server = site.serve();
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
    let expect = format!("{}:{}", receipt["seq"], receipt["hash"].as_str().unwrap());
    site.cli_code(0, &["ledger", "verify", "--expect", &expect]);
}

#[test]
fn a_broken_reload_changes_nothing_and_names_every_place() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    site.write_zone("@ IN SOA ns1 hostmaster 1 7200 900 1209600 60\n@ IN NS ns1\nns1 IN A 192.0.2.300\nbad..name IN A 192.0.2.1\n");
    let said = site.cli_code(1, &["reload", "--reason", "test"]);
    assert!(
        said.contains("example.net.zone:3:") && said.contains("example.net.zone:4:"),
        "{said}"
    );
    server.signal(Signal::SIGHUP);
    wait_for("the refusal in the log", || site.log().contains("reload refused").then_some(()));
    assert_eq!(site.a("ns1.example.net."), ["192.0.2.53".parse::<IpAddr>().unwrap()]);
    site.write_zone(&support::ZONE.replace("192.0.2.53", "192.0.2.99"));
    server.signal(Signal::SIGHUP);
    site.wait_a("ns1.example.net.", &["192.0.2.99"]);
}

#[test]
fn a_reload_that_removes_the_active_region_is_refused() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    switch(&site, "fra");
    site.write_config(
        &PLAIN
            .replace(r#"["iad", "fra"]"#, r#"["iad"]"#)
            .replace("fra = [\"127.0.2.1\"]\n", ""),
    );
    let said = site.cli_code(1, &["reload", "--force", "--reason", "test"]);
    assert!(said.contains("fra is active for shop.example.net."), "{said}");
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn names_come_and_go_with_the_config_and_start_anew() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    switch(&site, "fra");
    let second = PLAIN
        .replace("app.shop", "app.mail")
        .replace("shop.example.net.", "mail.example.net.")
        .replace("127.0.", "127.1.");
    site.write_config(&format!("{PLAIN}{second}"));
    site.cli_code(0, &["reload", "--reason", "mail is new"]);
    assert_eq!(site.a("mail.example.net."), ["127.1.1.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        site.a("shop.example.net."),
        ["127.0.2.1".parse::<IpAddr>().unwrap()],
        "a reload moves nothing"
    );
    site.write_config(PLAIN);
    site.cli_code(0, &["reload", "--reason", "mail is gone"]);
    assert_eq!(
        site.ask("mail.example.net.", RecordType::A).metadata.response_code,
        ResponseCode::NXDomain
    );
    let log = site.cli_code(0, &["ledger", "log"]);
    assert!(log.contains("name-added") || log.contains("mail.example.net. added"), "{log}");
}

#[test]
fn a_broken_config_at_start_serves_the_last_accepted_one() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    switch(&site, "fra");
    wait_for("the last accepted copy", || site.data().join("last-good").exists().then_some(()));
    server.kill();
    let good = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(
        site.config(),
        good.replace("regions = [\"iad\", \"fra\"]", "regoins = [\"iad\", \"fra\"]"),
    )
    .unwrap();
    let mut server = site.spawn(&[]);
    server.wait_answering();
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
    let ready = wait_for("readyz", || site.get("/readyz"));
    assert_eq!(ready.0, 503, "{}", ready.1);
    assert!(site.log().contains("regoins"), "{}", site.log());
    assert!(site.get("/metrics").unwrap().1.contains("config-rejected"));
    // Mended and reloaded it is ready again.
    std::fs::write(site.config(), good).unwrap();
    site.cli_code(0, &["reload", "--reason", "mended"]);
    assert_eq!(site.get("/readyz").unwrap().0, 200);
}

#[test]
fn a_broken_config_without_a_copy_ends_with_1() {
    let site = Site::new("[app.shop]\nname = \"shop.example.net.\"\n");
    assert_eq!(site.spawn(&[]).wait_end(), Some(1));
}

#[test]
fn a_corrupt_ledger_ends_with_1_and_answer_only_still_answers() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    switch(&site, "fra");
    switch(&site, "iad");
    switch(&site, "fra");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_end(), Some(0));
    let path = pointsman::store::ledger_path(&site.data());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"to\":\"iad\"", "\"to\":\"fra\"", 1)).unwrap();
    let tampered = std::fs::read(&path).unwrap();
    assert_ne!(tampered, text.as_bytes());
    assert_eq!(site.spawn(&[]).wait_end(), Some(1));
    let log = site.log();
    assert!(log.contains("--answer-only") && log.contains("entry"), "{log}");
    assert_eq!(std::fs::read(&path).unwrap(), tampered, "the file was rewritten");
    let said = site.cli_code(1, &["ledger", "verify", "--data-dir", site.data().to_str().unwrap()]);
    assert!(said.contains("entry"), "{said}");

    let mut server = site.spawn(&["--answer-only"]);
    server.wait_answering();
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
    wait_for("the api", || site.get("/livez"));
    assert_eq!(site.get("/readyz").unwrap().0, 503);
    wait_for("the alert", || {
        (site.json(&["status", "--json"])["alerts"][0]["alert"] == "answer-only").then_some(())
    });
    let mut arguments = vec!["switch", "shop.example.net", "--to", "iad"];
    arguments.extend(FORCE);
    let said = site.cli(&arguments);
    assert!(matches!(said.status.code(), Some(1 | 4)), "{said:?}");
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn answer_only_serves_a_config_that_fits_the_roles() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    switch(&site, "fra");
    wait_for("the last accepted copy", || {
        site.data().join("last-good/manifest.json").exists().then_some(())
    });
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_end(), Some(0));
    std::fs::write(pointsman::store::ledger_path(&site.data()), "no entry\n").unwrap();
    // A new name is answered as a new name would be.
    let cart = PLAIN
        .replace("app.shop", "app.cart")
        .replace("shop.", "cart.")
        .replace("127.0.1.1", "127.0.3.1");
    site.write_config(&format!("{PLAIN}{cart}"));
    let mut server = site.spawn(&["--answer-only"]);
    server.wait_answering();
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(site.a("cart.example.net."), ["127.0.3.1".parse::<IpAddr>().unwrap()]);
    server.kill();
    // The active region is gone from today's config: the last accepted one has what it answered.
    site.write_config(
        &PLAIN
            .replace(r#"["iad", "fra"]"#, r#"["iad"]"#)
            .replace("fra = [\"127.0.2.1\"]\n", ""),
    );
    let mut server = site.spawn(&["--answer-only"]);
    server.wait_answering();
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<IpAddr>().unwrap()]);
    assert!(site.log().contains("fra is active for shop.example.net."), "{}", site.log());
}

#[test]
fn a_second_instance_is_noticed() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    assert_eq!(site.spawn(&[]).wait_end(), Some(1));
    wait_for("the reason", || site.log().contains("lock").then_some(()));
    // Another data dir, the same port.
    let text = std::fs::read_to_string(site.config()).unwrap();
    let other = site.path("other.toml");
    std::fs::write(&other, text.replace("data-dir = \"data\"", "data-dir = \"data2\"")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .arg("serve")
        .arg("--config")
        .arg(other)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&site.dns.to_string()), "{said}");
}

#[test]
fn sigterm_stops_in_order_and_is_recorded() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_end(), Some(0));
    assert!(file_contains(&pointsman::store::ledger_path(&site.data()), "\"stopped\""));
}

#[test]
fn nobody_reachable_is_exit_4_and_usage_is_2() {
    let site = Site::new(PLAIN);
    site.cli_code(4, &["status"]);
    site.cli_code(2, &["switch"]);
    site.cli_code(2, &["no-such-verb"]);
    let mut server = site.serve();
    server.wait_ready();
    let unknown = site.cli_code(1, &["explain", "shup.example.net"]);
    assert!(unknown.contains("shop.example.net."), "{unknown}");
    // Without a reason nothing is asked at all.
    site.cli_code(2, &["switch", "shop.example.net", "--to", "fra"]);
}

#[test]
fn the_unix_socket_serves_the_same_api() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(["status", "--json"])
        .env("POINTSMAN_SOCKET", site.path("api.sock"))
        .env_remove("POINTSMAN_SERVER")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(status["generation"].as_u64().is_some(), "{status}");
}

/// A POST with a JSON body.
fn post(site: &Site, path: &str, body: &str) -> (u16, String) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        site.api,
        body.len()
    );
    support::http(site.api, &request).unwrap()
}
