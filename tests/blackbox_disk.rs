//! Disk and files as they go wrong: full, torn, watched for changes.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use support::{PLAIN, Site, wait_for};

fn switch(to: &str) -> [&str; 8] {
    [
        "switch",
        "shop.example.net",
        "--to",
        to,
        "--override",
        "target-healthy",
        "--reason",
        "test",
    ]
}

fn address(text: &str) -> Vec<IpAddr> {
    vec![text.parse().unwrap()]
}

/// A small file system of its own, unmounted at the end; none where this user may not mount.
struct Small<'p>(&'p Path);

impl<'p> Small<'p> {
    fn mount(path: &'p Path) -> Option<Small<'p>> {
        std::fs::create_dir_all(path).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
            .arg(path)
            .output();
        match done {
            Ok(output) if output.status.success() => Some(Small(path)),
            _ => {
                eprintln!("SKIPPED: this user may not mount a tmpfs; run as root to test a full disk");
                None
            }
        }
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// Leaves no octet free.
fn fill(folder: &Path) {
    use std::io::Write;
    let mut filled = 1 << 20;
    while filled > 0 {
        let ballast = folder.join("ballast");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(ballast).unwrap();
        if file.write_all(&vec![0; filled]).is_err() {
            filled /= 2;
        }
    }
}

/// The files in which torn lines are kept.
fn kept_aside(data: &Path) -> Vec<String> {
    std::fs::read_dir(data)
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("ledger.torn"))
        .collect()
}

#[test]
fn a_full_disk_refuses_changes_and_answering_goes_on() {
    let site = Site::new(PLAIN);
    let data = site.data();
    let Some(_small) = Small::mount(&data) else { return };
    let server = site.serve();
    site.cli_code(0, &switch("fra"));
    fill(&data);
    // The last page of the ledger has room for a few lines yet.
    let mut active = "127.0.2.1";
    let said = wait_for("a switch that finds the disk full", || {
        let to = if active == "127.0.2.1" { "iad" } else { "fra" };
        let output = site.cli(&switch(to));
        if output.status.code() == Some(0) {
            active = if to == "iad" { "127.0.1.1" } else { "127.0.2.1" };
            return None;
        }
        assert_eq!(output.status.code(), Some(1));
        Some(String::from_utf8_lossy(&output.stderr).into_owned())
    });
    assert!(said.contains("ledger") && said.contains("nothing changes"), "{said}");
    assert_eq!(site.a("shop.example.net."), address(active), "nothing changed");
    let metrics = site.get("/metrics").unwrap().1;
    assert!(metrics.contains(r#"pointsman_alert{alert="cannot-record",name=""} 1"#), "{metrics}");
    // With room again the next change is made, and the alert is over.
    std::fs::remove_file(data.join("ballast")).unwrap();
    let (to, moved) = if active == "127.0.2.1" {
        ("iad", "127.0.1.1")
    } else {
        ("fra", "127.0.2.1")
    };
    site.cli_code(0, &switch(to));
    assert_eq!(site.a("shop.example.net."), address(moved));
    assert!(!site.get("/metrics").unwrap().1.contains("cannot-record"));
    site.cli_code(0, &["ledger", "verify"]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_end(), Some(0));
}

#[test]
fn a_full_disk_at_start_keeps_nobody_from_answering() {
    let site = Site::new(PLAIN);
    let data = site.data();
    let Some(_small) = Small::mount(&data) else { return };
    let server = site.serve();
    site.cli_code(0, &switch("fra"));
    wait_for("the last accepted copy", || {
        data.join("last-good/manifest.json").exists().then_some(())
    });
    server.kill();
    fill(&data);
    // The last page of the ledger has room for a few starts yet.
    let server = wait_for("a start that cannot be recorded", || {
        let mut server = site.spawn(&[]);
        server.wait_answering();
        assert_eq!(site.a("shop.example.net."), address("127.0.2.1"));
        if site.log().contains("the ledger cannot be written; answering goes on") {
            return Some(server);
        }
        server.kill();
        None
    });
    // It is today's config that is served, and whoever watches learns at once that nothing can be changed.
    wait_for("the node to be ready", || site.get("/readyz").filter(|(status, _)| *status == 200));
    // Those about the node: the override of the switch above is told too, over every start.
    let alerts = || {
        let all = site.json(&["status", "--json"])["alerts"].clone();
        let of_node = all.as_array().unwrap().iter().filter(|alert| alert["name"].is_null());
        Value::from(of_node.cloned().collect::<Vec<_>>())
    };
    let told = wait_for("the alert", || Some(alerts()).filter(|told| !told.as_array().unwrap().is_empty()));
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told[0]["alert"], "cannot-record", "{told}");
    let message = told[0]["message"].as_str().unwrap();
    assert!(message.contains("nothing changes") && message.contains("next entry"), "{message}");
    server.kill();

    // A new config needs an entry, so the one from before is served, and nobody is sent to look for errors in it.
    site.write_config(&PLAIN.replace("\"5s\"", "\"2s\""));
    let mut server = site.spawn(&[]);
    server.wait_answering();
    assert_eq!(site.a("shop.example.net."), address("127.0.2.1"));
    let (_, said) = wait_for("the node not to be ready", || {
        site.get("/readyz").filter(|(status, _)| *status == 503)
    });
    assert!(
        said.contains("the ledger cannot be written") && !said.contains("has errors"),
        "{said}"
    );
    wait_for("both alerts", || {
        let told = alerts().to_string();
        (told.contains("cannot-record") && told.contains("config-rejected")).then_some(())
    });
    std::fs::remove_file(data.join("ballast")).unwrap();
    site.cli_code(0, &["reload", "--reason", "room again"]);
    wait_for("the node to be ready", || site.get("/readyz").filter(|(status, _)| *status == 200));
    assert!(alerts().as_array().unwrap().is_empty(), "{}", alerts());
}

#[test]
fn a_torn_last_line_on_a_full_disk_keeps_nobody_from_answering() {
    let site = Site::new(PLAIN);
    let data = site.data();
    let Some(_small) = Small::mount(&data) else { return };
    let server = site.serve();
    site.cli_code(0, &switch("fra"));
    server.kill();
    let ledger = pointsman::store::ledger_path(&data);
    let torn = br#"{"v":1,"seq":9"#;
    std::fs::write(&ledger, [std::fs::read(&ledger).unwrap().as_slice(), torn].concat()).unwrap();
    fill(&data);
    let mut server = site.spawn(&[]);
    server.wait_answering();
    assert_eq!(site.a("shop.example.net."), address("127.0.2.1"));
    wait_for("the API", || site.get("/livez"));
    let said = site.cli_code(1, &switch("iad"));
    assert!(said.contains("nothing changes") && said.contains("torn"), "{said}");
    assert!(kept_aside(&data).is_empty(), "no empty files are left behind");
    // With room again the line is kept, and the next change is made.
    std::fs::remove_file(data.join("ballast")).unwrap();
    site.cli_code(0, &switch("iad"));
    assert_eq!(site.a("shop.example.net."), address("127.0.1.1"));
    let aside = kept_aside(&data);
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(std::fs::read(data.join(&aside[0])).unwrap(), torn);
    site.cli_code(0, &["ledger", "verify"]);
}

#[test]
fn a_torn_last_line_is_cut_off_and_kept_aside() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    site.cli_code(0, &switch("fra"));
    server.kill();
    let ledger = pointsman::store::ledger_path(&site.data());
    let mut octets = std::fs::read(&ledger).unwrap();
    let whole = octets.len();
    octets.extend_from_slice(br#"{"v":1,"seq":9"#);
    std::fs::write(&ledger, &octets).unwrap();
    let _server = site.serve();
    assert_eq!(site.a("shop.example.net."), address("127.0.2.1"));
    let aside = kept_aside(&site.data());
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(std::fs::read(site.data().join(&aside[0])).unwrap(), &octets[whole..]);
    assert!(site.log().contains("torn"), "{}", site.log());
    site.cli_code(0, &["ledger", "verify", "--data-dir", site.data().to_str().unwrap()]);
}

#[test]
fn files_that_change_are_reloaded_when_they_are_quiet() {
    let site = Site::new(PLAIN);
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(
        site.config(),
        text.replace("data-dir = \"data\"", "data-dir = \"data\"\nreload-on-change = true"),
    )
    .unwrap();
    let _server = site.serve();
    assert_eq!(site.a("ns1.example.net."), address("192.0.2.53"));
    site.write_zone(&support::ZONE.replace("192.0.2.53", "192.0.2.99"));
    site.wait_a("ns1.example.net.", &["192.0.2.99"]);
    // Replaced by renaming, as editors do; and broken: refused, the present one stays.
    std::fs::write(site.path("new"), "broken (").unwrap();
    std::fs::rename(site.path("new"), site.path("example.net.zone")).unwrap();
    wait_for("the refusal", || site.log().contains("reload refused").then_some(()));
    assert_eq!(site.a("ns1.example.net."), address("192.0.2.99"));
    std::fs::write(site.path("new"), support::ZONE.replace("192.0.2.53", "192.0.2.98")).unwrap();
    std::fs::rename(site.path("new"), site.path("example.net.zone")).unwrap();
    site.wait_a("ns1.example.net.", &["192.0.2.98"]);
}

#[test]
fn files_that_a_reload_adds_are_followed_and_a_refusal_is_an_alert() {
    let site = Site::new(PLAIN);
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replace("data-dir = \"data\"", "data-dir = \"data\"\nreload-on-change = true");
    std::fs::write(site.config(), &text).unwrap();
    let _server = site.serve();
    let folder = site.path("more");
    std::fs::create_dir(&folder).unwrap();
    // Another zone in another folder, broken at first: that is refused, alerted, and mended by that file alone.
    let zone = |address: &str| format!("$TTL 60\n@ IN SOA ns1 h 1 2 3 4 5\n@ IN NS ns1\nns1 IN A {address}\n");
    std::fs::write(folder.join("org.zone"), "broken (").unwrap();
    let more = "[[zone]]\nname = \"example.org.\"\nfile = \"more/org.zone\"\n[region.iad]";
    std::fs::write(site.config(), text.replace("[region.iad]", more)).unwrap();
    let is_alerted = || site.get("/v1/status").is_some_and(|(_, status)| status.contains("reload-refused"));
    wait_for("the alert", || is_alerted().then_some(()));
    std::fs::write(folder.join("org.zone"), zone("192.0.2.1")).unwrap();
    site.wait_a("ns1.example.org.", &["192.0.2.1"]);
    // Resolvers first: the alert ends a moment after the answers are out.
    wait_for("the end of the alert", || (!is_alerted()).then_some(()));
    std::fs::write(folder.join("org.zone"), zone("192.0.2.2")).unwrap();
    site.wait_a("ns1.example.org.", &["192.0.2.2"]);
}

#[test]
fn a_folder_that_cannot_be_followed_is_told_and_the_others_are_followed() {
    let site = Site::new(PLAIN);
    let folder = site.path("zones");
    std::fs::create_dir(&folder).unwrap();
    std::fs::rename(site.path("example.net.zone"), folder.join("example.net.zone")).unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replace("\"example.net.zone\"", "\"zones/example.net.zone\"");
    let text = text.replace("data-dir = \"data\"", "data-dir = \"data\"\nreload-on-change = true");
    std::fs::write(site.config(), &text).unwrap();
    let server = site.serve();
    wait_for("the last accepted copy", || {
        site.data().join("last-good/manifest.json").exists().then_some(())
    });
    server.kill();
    // Without its folder the zone comes from the last accepted copy.
    std::fs::remove_dir_all(&folder).unwrap();
    let mut server = site.spawn(&[]);
    server.wait_answering();
    wait_for("the error", || {
        let log = site.log();
        log.lines()
            .any(|line| line.contains("ERROR") && line.contains("not noticed"))
            .then_some(())
    });
    site.write_zone(&support::ZONE.replace("192.0.2.53", "192.0.2.99"));
    std::fs::write(site.config(), text.replace("zones/example", "example")).unwrap();
    site.wait_a("ns1.example.net.", &["192.0.2.99"]);
}

#[test]
fn a_reload_that_empties_too_much_is_refused_unless_forced() {
    let site = Site::new(PLAIN);
    let many: String = (0..40).map(|n| format!("h{n} IN A 192.0.2.{n}\n")).collect();
    site.write_zone(&format!("{}{many}", support::ZONE));
    let _server = site.serve();
    site.write_zone(support::ZONE);
    let said = site.cli_code(1, &["reload", "--reason", "test"]);
    assert!(said.contains("--force") && said.contains("h1.example.net."), "{said}");
    assert_eq!(site.a("h7.example.net."), address("192.0.2.7"));
    site.cli_code(0, &["reload", "--force", "--reason", "meant"]);
    assert_eq!(site.a("h7.example.net."), Vec::<IpAddr>::new());
}
