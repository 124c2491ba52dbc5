//! `pointsman probe`: a name's probes run by its server, a config's from here, and one that is not configured yet.

mod support;

use support::{Site, wait_for};

/// Two regions; one http probe that takes a number from the answer, one tcp probe that is only shown.
const APP: &str = r#"
[app.shop]
name = "shop.example.net."
regions = ["iad", "fra"]
[app.shop.endpoints]
iad = ["127.0.1.1"]
fra = ["127.0.2.1"]
[[app.shop.probe]]
kind = "http"
url = "http://shop.example.net:{web}/healthz"
interval = "10s"
timeout = "1s"
role = { json = "/database/role", active = "primary", passive = "standby" }
value = { answered = { status = true } }
[[app.shop.probe]]
kind = "tcp"
port = 1
monitoring-only = true
interval = "10s"
timeout = "1s"
"#;

fn items(text: &str) -> Vec<serde_json::Value> {
    let page: serde_json::Value = serde_json::from_str(text).unwrap();
    page["items"].as_array().unwrap().clone()
}

#[test]
fn the_server_runs_the_probes_of_a_name_and_health_does_not_change() {
    let site = Site::new(APP);
    let (_iad, fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    let healthy = || site.name("shop.example.net.")["health"]["fra"]["health"] == "healthy";
    wait_for("fra healthy", || healthy().then_some(()));
    fra.set_broken(true);
    // Closed ports make the second probe fail, so the verb ends with 1.
    let seen = items(&site.cli_code(1, &["probe", "SHOP.example.net", "--json"]));
    let rows: Vec<(&str, u64, bool)> = seen
        .iter()
        .map(|one| {
            (
                one["region"].as_str().unwrap(),
                one["number"].as_u64().unwrap(),
                one["passed"] == true,
            )
        })
        .collect();
    assert_eq!(rows, [("iad", 1, true), ("iad", 2, false), ("fra", 1, false), ("fra", 2, false)]);
    assert_eq!(seen[0]["message"], "HTTP 200");
    assert_eq!(seen[0]["observed"], "active");
    assert_eq!(seen[0]["values"]["answered"], 200.0);
    assert_eq!(seen[1]["message"], "connection refused");
    assert_eq!(seen[1]["counting"], false);
    assert!(
        seen[2]["message"].as_str().unwrap().starts_with("HTTP 503, expected 200-299"),
        "{}",
        seen[2]
    );
    assert!(healthy(), "what is run by hand counts for nothing");
    let text = site.cli_code(1, &["probe", "shop.example.net"]);
    assert!(
        text.contains("shop/iad") && text.contains("FAIL") && text.contains("HTTP 200 answered=200"),
        "{text}"
    );
    let unknown = site.cli_code(1, &["probe", "shp.example.net"]);
    assert!(unknown.contains("there is no steered name shp.example.net."), "{unknown}");
    let sample = "pointsman_probe_value{app=\"shop\",endpoint=\"127.0.1.1\",probe=\"1\",region=\"iad\",value=\"answered\"} 200";
    wait_for("the number in the metrics", || {
        site.get("/metrics")?.1.contains(sample).then_some(())
    });
    let explained = site.cli_code(0, &["explain", "shop.example.net"]);
    assert!(
        explained.contains("ago: HTTP 200 answered=200; says active; healthy since "),
        "{explained}"
    );
    assert!(explained.contains("; next run in "), "{explained}");
}

#[test]
fn a_config_and_a_probe_that_is_not_configured_yet_run_without_a_server() {
    let site = Site::new(APP);
    let (iad, _fra) = (site.region(1, true), site.region(2, false));
    let config = site.config();
    let config = config.to_str().unwrap();
    let seen = items(&site.cli_code(1, &["probe", "--config", config, "shop.example.net", "--json"]));
    assert_eq!(seen.iter().filter(|one| one["passed"] == true).count(), 2);
    let absent = site.cli_code(1, &["probe", "--config", config, "none.example.net"]);
    assert!(
        absent.contains("there is no steered name none.example.net. in the config"),
        "{absent}"
    );

    let url = format!("http://shop.example.net:{}/healthz", iad.address.port());
    let adhoc = |code, with: &[&str]| {
        let mut words = vec!["probe", "--url", &url, "--address", "127.0.1.1"];
        with.iter().for_each(|one| words.extend(["--with", one]));
        site.cli_code(code, &words)
    };
    assert!(adhoc(0, &[]).contains("HTTP 200"));
    assert!(adhoc(0, &["expect = { json = { \"/database/role\" = \"primary\" } }"]).contains("pass"));
    let wrong = adhoc(1, &["expect = { json = { \"/database/role\" = \"standby\" } }"]);
    assert!(wrong.contains("/database/role is \"primary\", expected \"standby\""), "{wrong}");
    let broken = adhoc(1, &["timout = \"1s\""]);
    assert!(
        broken.contains("probe:3:1: error: unknown key `timout`") && broken.contains("did you mean `timeout`?"),
        "{broken}"
    );
    let port = format!("port = {}", iad.address.port());
    let tcp = ["probe", "--with", "kind = \"tcp\"", "--with", &port, "--address", "127.0.1.1"];
    assert!(site.cli_code(0, &tcp).contains("connected"));
    assert!(site.cli_code(1, &tcp[..5]).contains("give --address ADDRESS"));
    assert!(
        site.cli_code(2, &["probe"])
            .contains("give a NAME, --config FILE, --url URL or --with KEY=VALUE")
    );
}
