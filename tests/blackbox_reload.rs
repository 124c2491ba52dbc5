//! Reloads of the spawned server from outside: what one warns of, what a refused one leaves behind, and where its findings point.

mod api_support;
mod support;

use api_support::{get, post};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::OpenOptionsExt;
use support::{PLAIN, Site, ZONE, wait_for};

/// The alerts of a kind in the status.
fn alerts(site: &Site, kind: &str) -> Vec<Value> {
    let status = get(site, "/v1/status").expect(200);
    let all = status["alerts"].as_array().unwrap();
    all.iter().filter(|alert| alert["alert"] == kind).cloned().collect()
}

/// The level of the first finding in the log that has a text.
fn level(site: &Site, text: &str) -> Option<String> {
    let log = site.log();
    let line = log.lines().find(|line| line.contains("node::boot") && line.contains(text))?;
    let value: Value = serde_json::from_str(line).unwrap();
    Some(value["level"].as_str().unwrap().to_owned())
}

/// The messages of an answer's warnings.
fn warnings(answer: &Value) -> Vec<String> {
    let all = answer["warnings"].as_array().unwrap_or_else(|| panic!("{answer}"));
    all.iter().map(|warning| warning["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_reload_refused_on_sighup_is_an_alert_until_one_is_accepted() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    site.write_config(&PLAIN.replace("\"5s\"", "\"2s\""));
    site.write_zone(&ZONE.replace("192.0.2.53", "192.0.2.300"));
    server.signal(Signal::SIGHUP);
    let ready = wait_for("the node not to be ready", || {
        site.get("/readyz").filter(|(status, _)| *status == 503)
    });
    assert!(ready.1.contains("SIGHUP") && ready.1.contains("example.net.zone:4:"), "{}", ready.1);
    let alert = &alerts(&site, "reload-refused")[0];
    assert!(alert["message"].as_str().unwrap().contains("1 error"), "{alert}");
    let metrics = site.get("/metrics").unwrap().1;
    assert!(
        metrics.contains(r#"pointsman_alert{alert="reload-refused",name=""} 1"#),
        "{metrics}"
    );
    wait_for("the log", || level(&site, "192.0.2.300"));
    assert_eq!(level(&site, "error: ").as_deref(), Some("ERROR"), "{}", site.log());
    assert_eq!(level(&site, "warning: ").as_deref(), Some("WARN"), "{}", site.log());

    site.write_zone(ZONE);
    server.signal(Signal::SIGHUP);
    wait_for("the node to be ready", || site.get("/readyz").filter(|(status, _)| *status == 200));
    assert!(alerts(&site, "reload-refused").is_empty());
    // Put back as it was, nothing needs to be recorded, and the alert is over all the same.
    site.write_config("[app.shop]\n");
    site.cli_code(1, &["reload", "--reason", "test"]);
    assert_eq!(alerts(&site, "reload-refused").len(), 1);
    site.write_config(&PLAIN.replace("\"5s\"", "\"2s\""));
    assert_eq!(site.json(&["reload", "--reason", "test", "--json"])["changed"], false);
    assert!(alerts(&site, "reload-refused").is_empty());
}

#[test]
fn an_accepted_reload_tells_its_warnings_to_whoever_asked() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    let plain = post(&site, "/v1/reload", &json!({ "reason": "test" })).expect(200);
    assert!(plain.get("warnings").is_none(), "{plain}");

    site.write_zone(&ZONE.replace("192.0.2.53", "192.0.2.99"));
    site.write_config(&PLAIN.replace("127.0.1.1", "127.0.1.9"));
    let answer = post(&site, "/v1/reload", &json!({ "reason": "test" })).expect(200);
    assert_eq!(
        warnings(&answer),
        [
            "the zone example.net. changed, but its serial did not grow: 1 after 1",
            "every endpoint of iad was replaced, where shop.example.net. is active; the new ones start unknown"
        ]
    );
    let places: Vec<&Value> = answer["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["at"]["file"])
        .collect();
    assert!(places[0].as_str().unwrap().ends_with("example.net.zone"), "{answer}");
    assert!(places[1].as_str().unwrap().ends_with("pointsman.toml"), "{answer}");
    assert!(answer["warnings"][1]["snippet"].as_str().unwrap().contains("127.0.1.9"), "{answer}");

    site.write_zone(&ZONE.replace("192.0.2.53", "192.0.2.98"));
    let output = site.cli(&["reload", "--reason", "test"]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("receipt"), "{out}{err}");
    assert!(
        err.contains("serial did not grow") && err.contains("hint: raise the serial"),
        "{err}"
    );
}

#[test]
fn a_reload_against_the_roles_points_into_the_config() {
    let paired = "[app.shop.paired]\niad = \"iad.shop.example.net.\"\nfra = \"fra.shop.example.net.\"\n";
    let site = Site::new(&format!("{PLAIN}{paired}"));
    let _server = site.serve();
    let without = PLAIN
        .replace(r#"["iad", "fra"]"#, r#"["fra"]"#)
        .replace("iad = [\"127.0.1.1\"]\n", "");
    site.write_config(&format!("{without}[app.shop.paired]\nfra = \"fra.shop.example.net.\"\n"));
    let refused = post(&site, "/v1/reload", &json!({ "reason": "test", "force": true })).expect_error(409, "conflict");
    let findings = refused["detail"]["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{refused}");
    let message = findings[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("iad is active for shop.example.net. (seq ") && message.ends_with("): switch first"),
        "{message}"
    );
    assert!(
        findings[0]["snippet"].as_str().unwrap().contains("regions = [\"fra\"]"),
        "{refused}"
    );
    let text = std::fs::read_to_string(site.config()).unwrap();
    let line = 1 + text.lines().position(|line| line.starts_with("regions")).unwrap();
    let said = site.cli_code(1, &["reload", "--force", "--reason", "test"]);
    assert!(said.contains(&format!("pointsman.toml:{line}:11: error: iad is active")), "{said}");
    assert!(said.contains("contradicts the ledger in 1 place; nothing was changed"), "{said}");
    // A name that goes altogether contradicts nothing.
    assert_eq!(refused["detail"]["conflicts"].as_array().unwrap().len(), 1);
}

/// On the night the config is broken, and the server is started by hand from its folder: once mended it is taken.
#[test]
fn a_config_named_in_another_way_is_the_same_config() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    // Kept once it is served, which is not waited for.
    let kept = site.data().join("last-good/manifest.json");
    wait_for("the config to be kept", || kept.exists().then_some(()));
    server.kill();
    site.write_config(&PLAIN.replace("cooldown", "cool-down"));
    let relative = site.config().file_name().map(std::path::PathBuf::from).unwrap();
    let mut server = site.spawn_config(&relative, &[]);
    server.wait_answering();
    site.write_config(PLAIN);
    site.cli_code(0, &["reload", "--reason", "mended"]);
    wait_for("today's config", || site.get("/readyz").filter(|(status, _)| *status == 200));
}

#[test]
fn a_file_that_hangs_does_not_keep_the_server_from_stopping() {
    let site = Site::new(PLAIN);
    let server = site.serve();
    let zone = site.path("example.net.zone");
    std::fs::remove_file(&zone).unwrap();
    nix::unistd::mkfifo(&zone, nix::sys::stat::Mode::S_IRWXU).unwrap();
    server.signal(Signal::SIGHUP);
    // Can be opened once somebody reads, who then waits for as long as this is open.
    let mut options = std::fs::File::options();
    options.write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let hanging = wait_for("the reload to read the zone", || options.open(&zone).ok());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait_end(), Some(0));
    drop(hanging);
}
