//! Every route of the API against a running server: shapes, receipts, refusals, pages, events.

mod api_support;
mod support;

use api_support::{SHOP, ask, connect, get, post, request};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use support::{Site, wait_for};

/// Waits until the API says that a region of the shop is as given.
fn wait_health(site: &Site, region: &str, health: &str) {
    wait_for(&format!("{region} to be {health}; log: {}", site.log()), || {
        (site.name("shop.example.net.")["health"][region]["health"] == health).then_some(())
    });
}

/// The keys of an object.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn reading_routes_have_their_shapes() {
    let site = Site::new(SHOP);
    let (_iad, _fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    let status = get(&site, "/v1/status").expect(200);
    let members = [
        "node",
        "version",
        "generation",
        "seq",
        "hash",
        "serving",
        "names",
        "proposals_open",
        "alerts",
        "alerts_total",
        "evacuated",
    ];
    assert_eq!(keys(&status), members);
    assert_eq!(status["serving"], json!({ "state": "current", "errors": [] }));
    assert_eq!(status["names"], json!({ "total": 2, "away_from_home": 0, "fail_open": 0 }));

    let item = get(&site, "/v1/names/shop.example.net.").expect(200);
    for key in [
        "name",
        "app",
        "active",
        "home",
        "version",
        "roles",
        "health",
        "answer",
        "generation",
        "seq",
    ] {
        assert!(item.get(key).is_some(), "{key} in {item}");
    }
    assert_eq!(
        item["answer"],
        json!({ "region": "iad", "reason": "healthy", "ttl": 30, "records": ["127.0.1.1"] })
    );
    assert_eq!(keys(&item["roles"]), ["iad", "fra"]);
    assert_eq!(keys(&item["health"]["iad"]), ["health", "reason", "age_seconds", "observed"]);
    for name in ["shop.example.net", "SHOP.Example.NET.", "%73hop.example.net", "shop%2Eexample.net."] {
        assert_eq!(get(&site, &format!("/v1/names/{name}")).expect(200)["name"], "shop.example.net.");
    }

    let explained = get(&site, "/v1/names/shop.example.net/explain").expect(200);
    let text = explained["text"].as_str().unwrap();
    assert!(text.contains("worst case") && text.contains("        http passed in "), "{text}");
    let probe = &explained["regions"][0]["probes"][0];
    assert_eq!(
        (&probe["kind"], &probe["address"], &probe["result"]),
        (&json!("http"), &json!("127.0.1.1"), &json!("pass"))
    );

    let metrics = get(&site, "/metrics");
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("pointsman_ledger_seq"));
    assert_eq!(get(&site, "/livez").status, 200);
    assert_eq!(get(&site, "/readyz").expect(200), json!({ "ready": true }));
    assert_eq!(get(&site, "/openapi.json").expect(200)["openapi"], "3.1.0");
    assert_eq!(get(&site, "/v1/proposals").expect(200), json!({ "items": [] }));
    assert_eq!(ask(&site, "HEAD", "/v1/status", &[], None).status, 200);

    let lost = get(&site, "/v1/names/shp.example.net").expect_error(404, "not-found");
    assert!(lost["message"].as_str().unwrap().contains("did you mean shop.example.net.?"));
    get(&site, "/v1/names/shp.example.net/explain").expect_error(404, "not-found");
    get(&site, "/v1/nothing").expect_error(404, "not-found");
    for path in [
        "/v1/names/a..b",
        "/v1/names/%ff",
        "/v1/names?limit=x",
        "/v1/names?after=a..b",
        "/v1/names?page=2",
    ] {
        get(&site, path).expect_error(400, "malformed");
    }
    for path in ["/v1/ledger?after=x", "/v1/ledger?limit=-1", "/v1/proposals?after=7"] {
        get(&site, path).expect_error(400, "malformed");
    }
}

#[test]
fn the_history_shows_runs_and_why_verdicts_changed() {
    let site = Site::new(SHOP);
    let (iad, _fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    wait_health(&site, "fra", "healthy");
    iad.set_broken(true);
    wait_health(&site, "iad", "unhealthy");
    let body = get(&site, "/v1/apps/shop/history?region=iad&hours=1").expect(200);
    assert_eq!(keys(&body), ["app", "hours", "items"]);
    let [item] = body["items"].as_array().unwrap().as_slice() else {
        panic!("{body}");
    };
    assert_eq!(
        (&item["region"], &item["endpoint"], &item["kind"]),
        (&json!("iad"), &json!("127.0.1.1"), &json!("http"))
    );
    let verdicts: Vec<&Value> = item["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| &change["verdict"])
        .collect();
    assert_eq!(verdicts, ["healthy", "unhealthy"]);
    assert!(item["changes"][1]["message"].as_str().unwrap().contains("HTTP 503"), "{item}");
    let sum = |key: &str| {
        item["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert!(sum("passed") >= 1 && sum("failed") >= 1, "{item}");
    let run = &item["runs"][0];
    let [least, mean, most] = ["least_seconds", "mean_seconds", "most_seconds"].map(|key| run[key].as_f64().unwrap());
    assert!(least > 0.0 && least <= mean && mean <= most && most < 1.0, "{run}");
    // A page at a time, and both together.
    let first = get(&site, "/v1/apps/shop/history?limit=1").expect(200);
    assert_eq!(
        (&first["items"][0]["region"], &first["next"], &first["hours"]),
        (&json!("fra"), &json!(1), &json!(24))
    );
    let second = get(&site, "/v1/apps/shop/history?limit=1&after=1").expect(200);
    assert_eq!((&second["items"][0]["region"], second.get("next")), (&json!("iad"), None));
    let shown = site.cli_code(0, &["history", "SHOP.example.net", "--region", "iad"]);
    assert!(
        shown.contains("iad  127.0.1.1  http (probe 1)") && shown.contains("unhealthy  HTTP 503"),
        "{shown}"
    );
    assert_eq!(
        site.json(&["history", "shop.example.net", "--json"])["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let lost = get(&site, "/v1/apps/shp/history").expect_error(404, "not-found");
    assert!(lost["message"].as_str().unwrap().contains("did you mean shop?"), "{lost}");
    get(&site, "/v1/apps/shop/history?region=lon").expect_error(404, "not-found");
    for query in ["hours=0", "hours=25", "hours=x", "endpoint=a..b", "page=2", "limit=-1"] {
        get(&site, &format!("/v1/apps/shop/history?{query}")).expect_error(400, "malformed");
    }
}

/// Every item of a list, a page at a time.
fn pages(site: &Site, path: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(site, &format!("{path}?limit={limit}{after}")).expect(200);
        let found = page["items"].as_array().unwrap();
        assert!(found.len() <= limit);
        items.extend(found.iter().cloned());
        match &page["next"] {
            Value::Null => return items,
            Value::String(next) => after = format!("&after={next}"),
            next => after = format!("&after={next}"),
        }
    }
}

#[test]
fn lists_come_in_pages_without_gap_or_repetition() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    for (path, key) in [("/v1/names", "name"), ("/v1/ledger", "seq")] {
        let whole = get(&site, path).expect(200);
        assert!(whole.get("next").is_none());
        let whole: Vec<&Value> = whole["items"].as_array().unwrap().iter().map(|item| &item[key]).collect();
        assert!(whole.len() >= 2);
        for limit in 1..=whole.len() {
            let paged = pages(&site, path, limit);
            assert_eq!(paged.iter().map(|item| &item[key]).collect::<Vec<_>>(), whole, "{path} by {limit}");
        }
    }
    let after_all = get(&site, "/v1/ledger?after=18446744073709551615").expect(200);
    assert_eq!(after_all, json!({ "items": [] }));
}

#[test]
fn a_switch_is_tried_made_repeated_and_refused() {
    let site = Site::new(SHOP);
    let (_iad, fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    wait_health(&site, "fra", "healthy");
    let path = "/v1/names/Shop.example.net/switch";

    let dry = post(&site, path, &json!({ "to": "fra", "reason": "try", "dry_run": true })).expect(200);
    assert_eq!((&dry["dry_run"], &dry["would"][0]["kind"]), (&json!(true), &json!("switched")));
    assert_eq!(dry["before"][0]["records"], json!(["127.0.1.1"]));
    assert_eq!(
        dry["after"],
        json!([{ "name": "shop.example.net.", "region": "fra", "reason": "healthy", "ttl": 30, "records": ["127.0.2.1"] }])
    );
    site.wait_a("shop.example.net.", &["127.0.1.1"]);

    let version = site.name("shop.example.net.")["version"].clone();
    let body = json!({ "to": "fra", "reason": "plan", "expect": "iad", "expect_seq": version, "request_id": "r-1" });
    let receipt = post(&site, path, &body).expect(200);
    assert_eq!(keys(&receipt), ["changed", "seq", "hash", "generation"]);
    assert_eq!(receipt["changed"], true);
    assert_eq!(site.a("shop.example.net."), ["127.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(
        post(&site, path, &body).expect(200)["seq"],
        receipt["seq"],
        "a repeated request is answered as the first"
    );
    let same = post(&site, path, &json!({ "to": "fra", "reason": "again" })).expect(200);
    assert_eq!(same["changed"], false);

    let entry = get(&site, &format!("/v1/ledger?after={}&limit=1", receipt["seq"].as_u64().unwrap() - 1)).expect(200);
    let entry = &entry["items"][0];
    assert_eq!(
        (&entry["hash"], &entry["reason"], &entry["request_id"]),
        (&receipt["hash"], &json!("plan"), &json!("r-1"))
    );
    assert_eq!(entry["actor"], json!({ "by": "local" }));

    let stale = json!({ "to": "iad", "reason": "back", "expect": "iad" });
    let refused = post(&site, path, &stale).expect_error(409, "refused");
    assert_eq!(refused["detail"]["refusals"][0]["gate"], "expect");
    let mut stale = stale;
    stale["dry_run"] = json!(true);
    post(&site, path, &stale).expect_error(409, "refused");
    fra.set_broken(true);
    post(&site, path, &json!({ "to": "mars", "reason": "x" })).expect_error(404, "not-found");
    post(&site, "/v1/names/shp.example.net/switch", &json!({ "to": "iad", "reason": "x" })).expect_error(404, "not-found");
}

#[test]
fn drains_evacuations_and_reloads_work_and_are_refused() {
    let site = Site::new(SHOP);
    let (_iad, _fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    wait_health(&site, "fra", "healthy");
    let (name, why) = ("/v1/names/shop.example.net", "test");
    let drain = |region: &str| json!({ "region": region, "reason": why });
    let refused = post(&site, &format!("{name}/drain"), &drain("iad")).expect_error(409, "refused");
    assert_eq!(refused["detail"]["refusals"][0]["gate"], "one-active");
    assert_eq!(post(&site, &format!("{name}/drain"), &drain("fra")).expect(200)["changed"], true);
    assert_eq!(site.name("shop.example.net.")["roles"]["fra"]["drained"], true);
    post(&site, &format!("{name}/undrain"), &drain("fra")).expect(200);

    // The cart is not probed, so it has no candidate.
    let refused = post(&site, "/v1/regions/iad/evacuate", &json!({ "reason": why })).expect_error(409, "refused");
    assert_eq!(refused["detail"]["refusals"][0]["name"], "cart.example.net.");
    let body = json!({ "reason": why, "leave": ["CART.example.net"] });
    assert_eq!(post(&site, "/v1/regions/iad/evacuate", &body).expect(200)["changed"], true);
    assert_eq!(get(&site, "/v1/status").expect(200)["evacuated"], json!(["iad"]));
    assert_eq!(site.name("shop.example.net.")["active"], "fra");
    post(&site, "/v1/regions/iad/restore", &json!({ "reason": why })).expect(200);
    post(&site, "/v1/regions/mars/restore", &json!({ "reason": why })).expect_error(404, "not-found");

    assert_eq!(keys(&post(&site, "/v1/reload", &json!({ "reason": why })).expect(200)).len(), 4);
    site.write_config(&SHOP.replace("cooldown", "coldown"));
    let broken = post(&site, "/v1/reload", &json!({ "reason": why })).expect_error(422, "invalid-config");
    let finding = &broken["detail"]["findings"][0];
    assert!(finding["text"].as_str().unwrap().contains("pointsman.toml:"), "{finding}");
    assert!(finding["at"]["line"].is_u64() && finding["message"].is_string(), "{finding}");
    site.write_config(SHOP);
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replace("name = \"test\"", "name = \"other\"")).unwrap();
    let restart = post(&site, "/v1/reload", &json!({ "reason": why })).expect_error(409, "needs-restart");
    assert!(
        restart["detail"]["keys"].as_array().is_some_and(|keys| !keys.is_empty()),
        "{restart}"
    );
}

#[test]
fn probes_of_one_kind_are_told_apart() {
    let second = "[[app.shop.probe]]\nkind = \"http\"\nurl = \"http://shop.example.net:{web}/other\"\ninterval = \"1s\"\ntimeout = \"200ms\"\n[app.cart]\n";
    let site = Site::new(&SHOP.replacen("[app.cart]\n", second, 1));
    let _iad = site.region(1, true);
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    let explained = get(&site, "/v1/names/shop.example.net/explain").expect(200);
    let numbers: Vec<&Value> = explained["regions"][0]["probes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["number"])
        .collect();
    assert_eq!(numbers, [&json!(1), &json!(2)]);
    let text = explained["text"].as_str().unwrap();
    assert!(
        text.contains("http (probe 1) passed in ") && text.contains("http (probe 2) passed in "),
        "{text}"
    );
}

#[test]
fn an_evacuation_warns_where_the_application_is_not_active() {
    let role = "role = { json = \"/database/role\", active = \"primary\", passive = \"standby\" }\n[app.shop.paired]\niad = \"iad.example.net.\"\n[app.cart]\n";
    let site = Site::new(&SHOP.replacen("[app.cart]\n", role, 1));
    let (_iad, fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    wait_health(&site, "fra", "healthy");
    wait_for("the role of fra", || {
        (site.name("shop.example.net.")["health"]["fra"]["observed"] == "passive").then_some(())
    });
    let path = "/v1/regions/iad/evacuate";
    let body = |dry: bool| json!({ "reason": "x", "dry_run": dry, "leave": ["cart.example.net"] });
    let tried = post(&site, path, &body(true)).expect(200);
    let warned = tried["warnings"][0]["message"].as_str().unwrap();
    assert!(
        warned.starts_with("the application shop in fra says that it is passive, since "),
        "{tried}"
    );
    assert!(
        warned.ends_with("; iad.example.net., shop.example.net. lead there all the same"),
        "{tried}"
    );
    let said = site.cli(&["evacuate", "iad", "--reason", "x", "--dry-run", "--leave", "cart.example.net"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("says that it is passive") && said.contains("hint: promote shop in fra"),
        "{said}"
    );
    let done = post(&site, path, &body(false)).expect(200);
    assert_eq!(
        (&done["changed"], done["warnings"].as_array().unwrap().len()),
        (&json!(true), 1),
        "{done}"
    );
    // Where the application is active there is nothing to warn of.
    post(&site, "/v1/regions/iad/restore", &json!({ "reason": "x" })).expect(200);
    let back = json!({ "to": "iad", "reason": "x" });
    for name in ["shop", "iad"] {
        post(&site, &format!("/v1/names/{name}.example.net/switch"), &back).expect(200);
    }
    fra.set_primary(true);
    wait_for("the role of fra", || {
        (site.name("shop.example.net.")["health"]["fra"]["observed"] == "active").then_some(())
    });
    let tried = post(&site, path, &body(true)).expect(200);
    assert!(tried.get("warnings").is_none(), "{tried}");
}

#[test]
fn proposals_are_listed_with_their_gates_rejected_and_approved() {
    let site = Site::new(SHOP);
    let (iad, _fra) = (site.region(1, true), site.region(2, false));
    let _server = site.serve();
    wait_health(&site, "iad", "healthy");
    wait_health(&site, "fra", "healthy");
    let open = || {
        wait_for(&format!("a proposal; log: {}", site.log()), || {
            let list = get(&site, "/v1/proposals").expect(200);
            list["items"].as_array().unwrap().first().cloned()
        })
    };
    iad.set_broken(true);
    let first = open();
    assert_eq!(
        (&first["from"], &first["to"], &first["name"]),
        (&json!("iad"), &json!("fra"), &json!("shop.example.net."))
    );
    assert_eq!(first["gates"].as_array().unwrap().len(), 6, "{first}");
    assert!(first["evidence"]["regions"].is_array() && first["opened"].is_string());
    let act = |id: &Value, verb: &str| post(&site, &format!("/v1/proposals/{id}/{verb}"), &json!({ "reason": "test" }));
    act(&first["id"], "reject").expect(200);
    assert_eq!(get(&site, "/v1/proposals").expect(200), json!({ "items": [] }));
    act(&first["id"], "approve").expect_error(409, "refused");
    iad.set_broken(false);
    wait_health(&site, "iad", "healthy");
    iad.set_broken(true);
    let second = open();
    assert_eq!(act(&second["id"], "approve").expect(200)["changed"], true);
    assert_eq!(site.name("shop.example.net.")["active"], "fra");
    act(&json!(999), "approve").expect_error(404, "not-found");
    act(&json!("seven"), "reject").expect_error(400, "malformed");
}

#[test]
fn followers_of_the_events_see_a_switch_and_the_stop() {
    let site = Site::new(SHOP);
    let server = site.serve();
    let mut follower = connect(site.api);
    let text = request("GET", "/v1/events", &site.api.to_string(), &[], None);
    follower.write_all(text.as_bytes()).unwrap();
    let mut lines = BufReader::new(follower).lines().map_while(Result::ok);
    assert!(lines.next().unwrap().contains("200"));
    assert!(lines.any(|line| line == ": events from now on"));
    let body = json!({ "to": "fra", "reason": "watched", "override": ["target-healthy"] });
    let receipt = post(&site, "/v1/names/cart.example.net/switch", &body).expect(200);
    let mut before = String::new();
    let data = lines
        .find(|line| {
            let found = line.starts_with("data:") && before == "event: entry" && line.contains("watched");
            before.clone_from(line);
            found
        })
        .unwrap();
    let event: Value = serde_json::from_str(data.strip_prefix("data:").unwrap()).unwrap();
    assert_eq!(event["entry"]["seq"], receipt["seq"]);
    assert_eq!(event["event"], "entry");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(lines.filter(|line| line.starts_with("event: entry")).count(), 0);
    assert_eq!(server.wait_end(), Some(0));
}

#[test]
fn the_number_of_followers_is_bounded() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    let text = request("GET", "/v1/events", &site.api.to_string(), &[], None);
    let follow = || {
        let mut stream = connect(site.api);
        stream.write_all(text.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        (line.contains(" 200 "), reader)
    };
    let mut followers: Vec<_> = (0..64).map(|_| follow()).collect();
    assert!(followers.iter().all(|(welcome, _)| *welcome));
    get(&site, "/v1/events").expect_error(503, "too-many-clients");
    followers.clear();
    wait_for("a place to be free again", || follow().0.then_some(()));
}

#[test]
fn a_broken_config_at_the_start_is_not_ready_and_says_why() {
    let site = Site::new(SHOP);
    let server = site.serve();
    wait_for("the copy of the accepted config", || {
        site.data().join("last-good/manifest.json").exists().then_some(())
    });
    drop(server);
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replace("cooldown", "coldown")).unwrap();
    let mut server = site.spawn(&[]);
    server.wait_answering();
    let not_ready = wait_for("the API", || site.get("/readyz"));
    assert_eq!(not_ready.0, 503);
    let body = get(&site, "/readyz").expect_error(503, "not-ready");
    assert!(body["message"].as_str().unwrap().contains("coldown"), "{body}");
    assert_eq!(get(&site, "/v1/status").expect(200)["serving"]["state"], "last-good");
    assert_eq!(get(&site, "/livez").status, 200);
}
