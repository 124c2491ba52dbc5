//! Probes of kind `feed`: health and role that others measure, from a file and posted to the API.

mod support;

use serde_json::Value;
use std::path::Path;
use support::{Site, http, wait_for};

/// A region fed by a file and one that is posted to, both probed seldom: news must not wait for the interval.
fn app(dir: &Path) -> String {
    format!(
        r#"
[app.shop]
name = "shop.example.net."
regions = ["iad", "fra"]
[app.shop.endpoints]
iad = ["127.0.1.1"]
fra = ["127.0.2.1"]
[[app.shop.probe]]
kind = "feed"
feed = "shop-{{region}}"
interval = "60s"
timeout = "1s"
fall = 1
rise = 1
[[app.shop.probe]]
kind = "feed"
file = "{}/{{region}}.json"
monitoring-only = true
interval = "60s"
timeout = "1s"
expect = {{ json = {{ "/load" = {{ lt = 5 }} }} }}
value = {{ load = {{ json = "/load" }} }}
"#,
        dir.display()
    )
}

fn post(site: &Site, feed: &str, content: &str) -> (u16, String) {
    let length = content.len();
    let head = format!("POST /v1/feeds/{feed} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n");
    http(site.api, &format!("{head}Content-Length: {length}\r\n\r\n{content}")).unwrap()
}

fn region(site: &Site, region: &str) -> Value {
    let explained = site.json(&["explain", "shop.example.net", "--json"]);
    let regions = explained["regions"].as_array().unwrap().clone();
    regions.into_iter().find(|one| one["region"] == region).unwrap()
}

fn wait_health(site: &Site, which: &str, health: &str) -> Value {
    wait_for(&format!("{which} {health}"), || {
        let found = region(site, which);
        (found["health"] == health).then_some(found)
    })
}

#[test]
fn what_is_posted_counts_at_once_and_silence_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(&app(dir.path()));
    let _server = site.serve();
    let silent = wait_for("the first run", || {
        let found = region(&site, "iad");
        found["probes"][0]["not_counted"].is_object().then_some(found)
    });
    assert_eq!(silent["health"], "unknown", "nothing posted is no sickness");
    assert_eq!(
        silent["probes"][0]["not_counted"]["message"],
        "nothing was posted to the feed shop-iad yet"
    );

    let (status, body) = post(&site, "shop-iad", r#"{"healthy": true, "message": "all well", "role": "active"}"#);
    assert_eq!(status, 200, "{body}");
    let healthy = wait_health(&site, "iad", "healthy");
    assert_eq!(healthy["observed"], "active");
    assert_eq!(healthy["probes"][0]["message"], "all well");
    by_hand(&site);
    post(
        &site,
        "shop-iad",
        r#"{"healthy": false, "message": "replication stopped", "role": "passive"}"#,
    );
    let sick = wait_health(&site, "iad", "unhealthy");
    assert_eq!(sick["observed"], "passive");
    assert!(sick["reason"].as_str().unwrap().contains("replication stopped"), "{sick}");

    let (status, body) = post(&site, "shop-iat", "{}");
    assert_eq!(status, 404);
    assert!(
        body.contains("no probe of the config has the feed shop-iat") && body.contains("shop-iad"),
        "{body}"
    );
    let (status, _) = post(&site, "shop-iad", "[1]");
    assert_eq!(status, 400);
}

/// By hand the server looks at what was posted to iad, and to fra not yet; without the server nobody can.
fn by_hand(site: &Site) {
    let ran = |arguments: &[&str], code: i32| -> Vec<(Value, Value)> {
        let text = site.cli_code(code, &[&["probe", "shop.example.net", "--json"], arguments].concat());
        let page: Value = serde_json::from_str(&text).unwrap();
        let posted = page["items"].as_array().unwrap().iter().filter(|one| one["number"] == 1);
        posted.map(|one| (one["passed"].clone(), one["message"].clone())).collect()
    };
    let iad = (true.into(), "all well".into());
    let fra = (false.into(), "nothing was posted to the feed shop-fra yet".into());
    assert_eq!(ran(&[], 1), [iad, fra]);
    for region in ["iad", "fra"] {
        std::fs::write(site.path(&format!("{region}.json")), r#"{"load": 1}"#).unwrap();
    }
    let files = std::fs::read_to_string(site.config()).unwrap();
    let (head, _) = files.split_once("file = \"/").unwrap();
    let rest = files.split_once("/{region}.json").unwrap().1;
    let local = format!("{head}file = \"{}/{{region}}.json{rest}", site.dir.path().display());
    std::fs::write(site.path("local.toml"), local).unwrap();
    let config = site.path("local.toml");
    let not_run = (Value::Null, Value::from("posted to the server; not run from here"));
    assert_eq!(ran(&["--config", config.to_str().unwrap()], 0), [not_run.clone(), not_run]);
}

#[test]
fn a_file_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(&app(dir.path()));
    let file = dir.path().join("fra.json");
    std::fs::write(&file, r#"{"load": 1.5}"#).unwrap();
    let _server = site.serve();
    let probe = |holds: &dyn Fn(&Value) -> bool| {
        wait_for("the file's word", || {
            let found = region(&site, "fra")["probes"][1].clone();
            holds(&found).then_some(found)
        })
    };
    probe(&|found| found["values"]["load"] == 1.5 && found["result"] == "pass");
    // A new file under the same name, as a writer should do it.
    let new = dir.path().join("new");
    std::fs::write(&new, r#"{"load": 7}"#).unwrap();
    std::fs::rename(&new, &file).unwrap();
    let busy = probe(&|found| found["result"] == "fail");
    assert_eq!(busy["message"], "/load is 7, expected less than 5");
    std::fs::write(&new, "no json").unwrap();
    std::fs::rename(&new, &file).unwrap();
    let broken = probe(&|found| found["not_counted"].is_object());
    let message = broken["not_counted"]["message"].as_str().unwrap();
    assert!(message.ends_with("fra.json is no JSON (line 1, column 2)"), "{message}");
}
