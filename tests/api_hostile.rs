//! What the API does with requests that no honest client sends. It answers 4xx or closes, and goes on serving.

mod api_support;
mod support;

use api_support::{SHOP, ask, connect, exchange, get, post, request};
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use support::{Site, wait_for};

/// A change that would succeed if it were honest.
const CHANGE: &str = r#"{"to":"fra","reason":"x","override":["target-healthy"]}"#;
/// Where it is sent.
const PATH: &str = "/v1/names/shop.example.net/switch";
/// Its content type.
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Demands that nothing was changed and that the server still serves.
fn nothing_changed(site: &Site) {
    assert_eq!(site.name("shop.example.net.")["active"], "iad");
}

#[test]
fn only_a_known_host_is_served() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    let port = site.api.port();
    let with = |host: &str| ask(&site, "GET", "/v1/status", &[("Host", host)], None);
    let known = ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "test", "test."];
    for host in known {
        assert_eq!(with(host).status, 200, "{host}");
        assert_eq!(with(&format!("{host}:{port}")).status, 200, "{host}");
    }
    // A tunnel or a mapped port brings another port than ours.
    assert_eq!(with("localhost:9000").status, 200);
    let unknown = ["evil.example", "127.0.0.1.evil.example", "192.0.2.1", "test:x", "testx", ""];
    for host in unknown {
        with(host).expect_error(421, "unknown-host");
    }
    ask(&site, "POST", PATH, &[("Host", "evil.example"), JSON], Some(CHANGE)).expect_error(421, "unknown-host");
    let two = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(connect(site.api), two.as_bytes()).unwrap().status, 421);
    let none = "GET /v1/status HTTP/1.0\r\n\r\n";
    assert_eq!(exchange(connect(site.api), none.as_bytes()).unwrap().status, 421);
    let contradiction = "GET http://evil.example/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(connect(site.api), contradiction.as_bytes()).unwrap().status, 421);
    nothing_changed(&site);
}

#[test]
fn a_foreign_page_changes_nothing() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    let foreign = [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ];
    for header in foreign {
        ask(&site, "POST", PATH, &[JSON, header], Some(CHANGE)).expect_error(403, "foreign-origin");
        // Reading is harmless: without CORS headers the page cannot see the response.
        let read = ask(&site, "GET", "/v1/status", &[header], None);
        assert_eq!(read.status, 200);
        assert!(!read.head.contains("access-control"), "{}", read.head);
    }
    // What a form can send without asking first.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
    ] {
        ask(&site, "POST", PATH, &[("Content-Type", kind)], Some(CHANGE)).expect_error(415, "unsupported-media-type");
    }
    ask(&site, "POST", PATH, &[], Some(CHANGE)).expect_error(415, "unsupported-media-type");
    nothing_changed(&site);
    let own = format!("http://{}", site.api);
    let honest = [
        ("Content-Type", "application/json; charset=utf-8"),
        ("Origin", own.as_str()),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    ask(&site, "POST", PATH, &honest, Some(CHANGE)).expect(200);
}

#[test]
fn malformed_changes_are_refused_and_named() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    let long = "x".repeat(2001);
    let bodies = [
        (json!({ "to": "fra", "reason": "x", "exepct": "iad" }), "exepct"),
        (json!({ "to": "fra" }), "reason"),
        (json!({ "to": "fra", "reason": " \t\n" }), "blank"),
        (json!({ "to": "fra", "reason": "\u{1b}[2J" }), "control"),
        (json!({ "to": "fra", "reason": long }), "2000"),
        (json!({ "to": 7, "reason": "x" }), "string"),
        (json!({ "to": "fra", "reason": "x", "expect_seq": -1 }), "integer"),
        (json!({ "to": "fra", "reason": "x", "override": ["all"] }), "target-healthy"),
        (json!({ "to": "fra", "reason": "x", "request_id": "" }), "request_id"),
        (json!({ "to": "fra", "reason": "x", "request_id": "a b" }), "request_id"),
        (json!([]), "body"),
        (json!(null), "body"),
    ];
    for (body, part) in bodies {
        let error = post(&site, PATH, &body).expect_error(400, "malformed");
        assert!(error["message"].as_str().unwrap().contains(part), "{body}: {error}");
    }
    for text in ["", "{", "{\"to\":\"fra\",\"to\":\"iad\",\"reason\":\"x\"}", "\u{0}", "{}x"] {
        ask(&site, "POST", PATH, &[JSON], Some(text)).expect_error(400, "malformed");
    }
    let deep = "[".repeat(60_000);
    ask(&site, "POST", PATH, &[JSON], Some(&deep)).expect_error(400, "malformed");
    ask(&site, "POST", PATH, &[JSON, ("x-pointsman-user", &long)], Some(CHANGE)).expect_error(400, "malformed");
    for method in ["GET", "DELETE", "PUT", "PATCH"] {
        let wrong = ask(&site, method, PATH, &[JSON], None);
        assert!(wrong.head.contains("allow: post"), "{}", wrong.head);
        wrong.expect_error(405, "method-not-allowed");
    }
    post(&site, "/v1/status", &json!({})).expect_error(405, "method-not-allowed");
    let unprintable = ask(&site, "POST", PATH, &[JSON, ("x-pointsman-user", "a\u{7f}b")], Some(CHANGE));
    assert_eq!(unprintable.status, 400);
    nothing_changed(&site);
}

#[test]
fn bodies_are_read_up_to_64_kib() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    let sized = |octets: usize| {
        let body = json!({ "to": "fra", "reason": "x", "dry_run": true, "override": ["target-healthy"] }).to_string();
        format!("{body}{}", " ".repeat(octets - body.len()))
    };
    assert_eq!(ask(&site, "POST", PATH, &[JSON], Some(&sized(64 * 1024))).status, 200);
    ask(&site, "POST", PATH, &[JSON], Some(&sized(64 * 1024 + 1))).expect_error(413, "too-large");
    // Without a length, in chunks.
    let mut chunked = format!(
        "POST {PATH} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        site.api
    );
    for _ in 0..65 {
        chunked.push_str(&format!("400\r\n{}\r\n", " ".repeat(1024)));
    }
    chunked.push_str("0\r\n\r\n");
    let reply = exchange(connect(site.api), chunked.as_bytes()).unwrap();
    reply.expect_error(413, "too-large");
    nothing_changed(&site);
}

#[test]
fn heads_are_bounded_and_garbage_is_no_request() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    let huge = "x".repeat(100_000);
    assert_eq!(ask(&site, "GET", "/v1/status", &[("X-Huge", &huge)], None).status, 431);
    let many: Vec<(&str, &str)> = (0..200).map(|_| ("X-Many", "x")).collect();
    assert_eq!(ask(&site, "GET", "/v1/status", &many, None).status, 431);
    let long = get(&site, &format!("/{huge}")).status;
    assert!(matches!(long, 414 | 431), "{long}");
    let garbage: [&[u8]; 5] = [
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x00\x00\x00\x00\r\n\r\n",
        b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    ];
    for octets in garbage {
        if let Some(reply) = exchange(connect(site.api), octets) {
            assert!((400..600).contains(&reply.status), "{octets:?}: {reply:?}");
        }
    }
    nothing_changed(&site);
}

#[test]
fn slow_heads_and_bodies_are_given_up() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    let whole = request("POST", PATH, &site.api.to_string(), &[JSON], Some(CHANGE));
    let head = whole.find("\r\n\r\n").unwrap();
    let cuts = [0, 10, head, whole.len() - 1];
    let begun = Instant::now();
    let mut streams: Vec<_> = cuts
        .iter()
        .map(|cut| {
            let mut stream = connect(site.api);
            stream.write_all(&whole.as_bytes()[..*cut]).unwrap();
            stream
        })
        .collect();
    let mut idle = connect(site.api);
    idle.write_all(format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", site.api).as_bytes())
        .unwrap();
    for stream in &mut streams {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let mut answer = String::new();
    let _ = idle.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    nothing_changed(&site);
}

#[test]
fn a_flood_of_connections_leaves_the_socket_to_local_users() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    let mut held: Vec<_> = (0..256).map(|_| connect(site.api)).collect();
    let turned_away = wait_for("a connection to be turned away", || {
        let mut stream = connect(site.api);
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(0) => Some(true),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Some(true),
            _ => {
                held.push(stream);
                None
            }
        }
    });
    assert!(turned_away);
    let text = request("POST", PATH, "anything", &[JSON], Some(CHANGE));
    let stream = UnixStream::connect(site.path("api.sock")).unwrap();
    let reply = exchange(stream, text.as_bytes()).unwrap();
    assert_eq!(reply.expect(200)["changed"], true);
    drop(held);
    wait_for("places to be free again", || {
        site.get("/livez").filter(|(status, _)| *status == 200)
    });
}
