//! The API of the spawned binary under nonsense and repetition: JSON, heads, names and queries that are nearly right, octets
//! changed at random, the same request many times. Whatever comes, the server answers with an error of its one form or hangs
//! up, changes nothing, and goes on.

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use support::{PATIENCE, PLAIN, Server, Site};

/// The path of a switch.
const SWITCH: &str = "/v1/names/shop.example.net./switch";

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    /// Its body as JSON.
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Demands an error of the one form; gives its code.
    fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert!(body["detail"].is_object(), "{self:?}");
        body["code"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// Sends octets and reads until the server ends the connection; none when it ends without an answer.
fn raw(site: &Site, octets: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(site.api).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // The server may hang up before it has everything.
    let _ = stream.write_all(octets);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

/// A request with these fields and this body.
fn request(site: &Site, line: &str, fields: &[&str], body: &[u8]) -> Option<Answer> {
    let mut octets = format!("{line} HTTP/1.1\r\nConnection: close\r\n").into_bytes();
    if !fields.iter().any(|field| field.to_ascii_lowercase().starts_with("host:")) {
        octets.extend_from_slice(format!("Host: {}\r\n", site.api).as_bytes());
    }
    for field in fields {
        octets.extend_from_slice(field.as_bytes());
        octets.extend_from_slice(b"\r\n");
    }
    if line.starts_with("POST") && !fields.iter().any(|field| field.starts_with("Transfer-Encoding")) {
        octets.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(body);
    raw(site, &octets)
}

/// A GET.
fn get(site: &Site, path: &str) -> Answer {
    request(site, &format!("GET {path}"), &[], b"").unwrap_or_else(|| panic!("no answer to {path}; log: {}", site.log()))
}

/// A POST of JSON.
fn post(site: &Site, path: &str, body: &str) -> Answer {
    let fields = ["Content-Type: application/json"];
    request(site, &format!("POST {path}"), &fields, body.as_bytes()).unwrap_or_else(|| panic!("no answer to {path}; log: {}", site.log()))
}

/// A switch that would be done.
fn good(to: &str) -> String {
    json!({ "to": to, "reason": "test", "override": ["target-healthy"] }).to_string()
}

/// The last entry of the ledger.
fn seq(site: &Site) -> u64 {
    get(site, "/v1/status").json()["seq"].as_u64().unwrap()
}

/// A site and its server.
fn site() -> Site {
    Site::new(PLAIN)
}

/// Demands that the server runs and serves.
fn alive(site: &Site, server: &mut Server<'_>) {
    assert!(server.child.try_wait().unwrap().is_none(), "the server ended: {}", site.log());
    assert_eq!(get(site, "/livez").status, 200);
    assert!(!site.log().contains("panicked"), "{}", site.log());
}

#[test]
fn a_body_that_is_not_what_a_change_takes_changes_nothing() {
    let site = site();
    let mut server = site.serve();
    let before = seq(&site);
    let deep = "[".repeat(60_000);
    let cases = [
        "",
        "null",
        "[]",
        "7",
        "\"to\"",
        "{",
        "{}",
        "{} {}",
        r#"{"to":"fra"}"#,
        r#"{"reason":"x"}"#,
        r#"{"to":"fra","reason":"x","expcet":"iad"}"#,
        r#"{"to":"fra","reason":"x","reason":"y"}"#,
        r#"{"to":"fra","reason":""}"#,
        r#"{"to":"fra","reason":"  \n "}"#,
        r#"{"to":"fra","reason":7}"#,
        r#"{"to":null,"reason":"x"}"#,
        r#"{"to":["fra"],"reason":"x"}"#,
        r#"{"to":"fra","reason":"x","expect_seq":-1}"#,
        r#"{"to":"fra","reason":"x","expect_seq":1.5}"#,
        r#"{"to":"fra","reason":"x","dry_run":"yes"}"#,
        r#"{"to":"fra","reason":"x","override":"cooldown"}"#,
        r#"{"to":"fra","reason":"x","override":["everything"]}"#,
        r#"{"to":"fra","reason":"x","request_id":""}"#,
        r#"{"to":"fra","reason":"x","request_id":"two words"}"#,
        r#"{"to":"fra","reason":"x"} trailing"#,
        r#"{"to":"fra","reason":"\ud800"}"#,
        &deep,
    ];
    for body in cases {
        let answer = post(&site, SWITCH, body);
        answer.error(400);
    }
    let not_utf8 = request(
        &site,
        &format!("POST {SWITCH}"),
        &["Content-Type: application/json"],
        b"{\"to\":\"fra\",\"reason\":\"\xff\"}",
    );
    not_utf8.unwrap().error(400);
    let long = json!({ "to": "fra", "reason": "x".repeat(50_000) }).to_string();
    post(&site, SWITCH, &long).error(400);
    assert_eq!(seq(&site), before, "something was changed");
    alive(&site, &mut server);
}

#[test]
fn heads_that_are_no_http_are_refused() {
    let site = site();
    let mut server = site.serve();
    let before = seq(&site);
    let host = format!("Host: {}\r\nConnection: close\r\nContent-Type: application/json\r\n", site.api);
    let (body, length) = (good("fra"), good("fra").len());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "a huge field",
            format!("GET /v1/status HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(200_000)).into_bytes(),
        ),
        (
            "many fields",
            format!("GET /v1/status HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(3000)).into_bytes(),
        ),
        (
            "a huge target",
            format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(200_000)).into_bytes(),
        ),
        (
            "HTTP/2 in the clear",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        ),
        ("TLS in the clear", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20)),
        ("zeros", vec![0; 4096]),
        (
            "a space in a field name",
            format!("GET /v1/status HTTP/1.1\r\n{host}A B: c\r\n\r\n").into_bytes(),
        ),
        (
            "a zero in a field",
            format!("GET /v1/status HTTP/1.1\r\n{host}A: \0\r\n\r\n").into_bytes(),
        ),
        // RFC 9112 section 6.3: what could be read as two requests by somebody in between.
        (
            "two lengths",
            format!("POST {SWITCH} HTTP/1.1\r\n{host}Content-Length: {length}\r\nContent-Length: 3\r\n\r\n{body}").into_bytes(),
        ),
        (
            "no number",
            format!("POST {SWITCH} HTTP/1.1\r\n{host}Content-Length: +{length}\r\n\r\n{body}").into_bytes(),
        ),
        (
            "a negative length",
            format!("POST {SWITCH} HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n{body}").into_bytes(),
        ),
        (
            "a length beyond u64",
            format!("POST {SWITCH} HTTP/1.1\r\n{host}Content-Length: 99999999999999999999999\r\n\r\n{body}").into_bytes(),
        ),
        (
            "a broken chunk",
            format!("POST {SWITCH} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n").into_bytes(),
        ),
        (
            "another coding",
            format!("POST {SWITCH} HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n{body}").into_bytes(),
        ),
    ];
    for (what, octets) in cases {
        if let Some(answer) = raw(&site, &octets) {
            assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        }
    }
    assert_eq!(seq(&site), before, "something was changed");
    alive(&site, &mut server);
}

#[test]
fn names_are_taken_in_any_spelling_and_nonsense_is_told() {
    let site = site();
    let mut server = site.serve();
    for name in [
        "shop.example.net.",
        "shop.example.net",
        "SHOP.Example.NET",
        "%73hop.example.net",
        "shop%2Eexample%2Enet%2E",
        "sho%5C112.example.net.",
    ] {
        let answer = get(&site, &format!("/v1/names/{name}"));
        assert_eq!(
            (answer.status, answer.json()["name"].as_str()),
            (200, Some("shop.example.net.")),
            "{name}: {answer:?}"
        );
    }
    let unknown = get(&site, "/v1/names/shpo.example.net");
    assert_eq!(unknown.error(404), "not-found");
    assert!(unknown.body.contains("shop.example.net."), "{unknown:?}");
    let long = "a.".repeat(2_000);
    for name in [
        "a..b",
        "%ff",
        "%00",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%zz",
        "%",
        &"x".repeat(64),
        &long,
        "%F0%9F%92%A9",
    ] {
        let answer = get(&site, &format!("/v1/names/{name}"));
        assert!(matches!(answer.status, 400 | 404), "{name}: {answer:?}");
        answer.error(answer.status);
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/status",
        "/v1/names/",
        "/v1/names/a/b/c",
        "/v1/../livez",
        "/v1/status/",
        "//v1/status",
        "/v1/ledger/1",
    ] {
        get(&site, path).error(404);
    }
    for path in [
        "/v1/proposals/x/approve",
        "/v1/proposals/-1/approve",
        "/v1/proposals/99999999999999999999999/approve",
    ] {
        let answer = post(&site, path, r#"{"reason":"x"}"#);
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        answer.error(answer.status);
    }
    assert_eq!(post(&site, "/v1/proposals/7/approve", r#"{"reason":"x"}"#).error(404), "not-found");
    post(&site, "/v1/regions/nowhere/evacuate", r#"{"reason":"x"}"#).error(404);
    post(&site, "/v1/names/nobody.example.net./drain", r#"{"region":"fra","reason":"x"}"#).error(404);
    alive(&site, &mut server);
}

#[test]
fn pages_are_bounded_and_queries_strict() {
    let site = site();
    let _server = site.serve();
    for path in [
        "/v1/names?limit=x",
        "/v1/names?limit=-1",
        "/v1/names?after=a..b",
        "/v1/names?lmit=1",
        "/v1/ledger?after=x",
        "/v1/ledger?after=-1",
        "/v1/ledger?limit=1&limit=2",
        "/v1/ledger?after=99999999999999999999999",
    ] {
        get(&site, path).error(400);
    }
    for path in [
        "/v1/ledger?after=18446744073709551615",
        "/v1/ledger?after=18446744073709551614&limit=1",
        "/v1/names?limit=18446744073709551615",
        "/v1/names?after=zzz.",
    ] {
        let answer = get(&site, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(
            answer.json()["items"].is_array() && answer.json().get("next").is_none(),
            "{path}: {answer:?}"
        );
    }
    // Page by page every entry comes once, in order.
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = get(&site, &format!("/v1/ledger?limit=1&after={after}")).json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(seen, (1..=seq(&site)).collect::<Vec<_>>());
}

#[test]
fn a_repeated_request_answers_as_the_first_did() {
    let site = site();
    let server = site.serve();
    let body = |to: &str, extra: Value| {
        let mut body = json!({ "to": to, "reason": "test", "override": ["target-healthy"], "request_id": "id-1" });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body.to_string()
    };
    // Tried only: the id is not used up and nothing is recorded.
    let before = seq(&site);
    let tried = post(&site, SWITCH, &body("fra", json!({ "dry_run": true }))).json();
    let records = |when: &str| tried[when][0]["records"].clone();
    assert_eq!(
        (records("before"), records("after"), seq(&site)),
        (json!(["127.0.1.1"]), json!(["127.0.2.1"]), before),
        "{tried}"
    );
    // Many at once: one entry, one receipt.
    let receipts: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| post(&site, SWITCH, &body("fra", json!({}))).json()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let proof = |receipt: &Value| (receipt["changed"].clone(), receipt["seq"].clone(), receipt["hash"].clone());
    assert_eq!(receipts[0]["changed"], json!(true), "{receipts:?}");
    assert!(receipts.iter().all(|receipt| proof(receipt) == proof(&receipts[0])), "{receipts:?}");
    let after = seq(&site);
    // Also when something else has happened since, and after a restart.
    assert_eq!(post(&site, SWITCH, &good("iad")).json()["changed"], json!(true));
    assert_eq!(proof(&post(&site, SWITCH, &body("fra", json!({}))).json()), proof(&receipts[0]));
    server.kill();
    let _server = site.serve();
    assert_eq!(proof(&post(&site, SWITCH, &body("fra", json!({}))).json()), proof(&receipts[0]));
    // Another request under the same id is no repetition.
    let drain = json!({ "region": "fra", "reason": "test", "request_id": "id-1" }).to_string();
    let reload = json!({ "reason": "test", "request_id": "id-1" }).to_string();
    for (path, other) in [
        (SWITCH, body("iad", json!({}))),
        (SWITCH, body("fra", json!({ "reason": "another" }))),
        (SWITCH, body("fra", json!({ "expect": "fra" }))),
        (SWITCH, body("fra", json!({ "override": [] }))),
        ("/v1/names/www.example.net./switch", body("fra", json!({}))),
        ("/v1/names/shop.example.net./drain", drain),
        ("/v1/reload", reload),
    ] {
        let answer = post(&site, path, &other);
        assert_eq!(answer.error(409), "request-id-reused", "{path} {other}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("switch of shop.example.net. to fra, seq "), "{message}");
    }
    let entries = get(&site, &format!("/v1/ledger?after={before}")).json();
    let with_id = entries["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["request_id"] == json!("id-1"))
        .count();
    assert_eq!(with_id, 1, "{entries}");
    assert!(after > before);
    assert_eq!(site.name("shop.example.net.")["active"], json!("iad"));
}

#[test]
fn a_refusal_names_its_gates_and_a_stale_switch_is_one() {
    let site = site();
    let _server = site.serve();
    let before = seq(&site);
    // Nothing is probed: `target-healthy` refuses; the wrong expectation too, both at once.
    for dry_run in [false, true] {
        let answer = post(
            &site,
            SWITCH,
            &json!({ "to": "fra", "reason": "test", "expect": "fra", "expect_seq": 1, "dry_run": dry_run }).to_string(),
        );
        assert_eq!(answer.error(409), "refused");
        let refusals = answer.json()["detail"]["refusals"].clone();
        let gates: Vec<&str> = refusals
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|refusal| refusal["gate"].as_str())
            .collect();
        assert!(gates.contains(&"expect") && gates.contains(&"target-healthy"), "{refusals}");
    }
    let answer = post(
        &site,
        SWITCH,
        &json!({ "to": "fra", "reason": "test", "override": ["one-active"] }).to_string(),
    );
    answer.error(409);
    let answer = post(&site, "/v1/names/shop.example.net./drain", r#"{"region":"iad","reason":"test"}"#);
    assert!(answer.error(409) == "refused" && answer.body.contains("one-active"), "{answer:?}");
    assert_eq!(seq(&site), before);
    let same = post(&site, SWITCH, r#"{"to":"iad","reason":"test"}"#).json();
    assert_eq!((same["changed"].clone(), same["seq"].clone()), (json!(false), json!(before)));
}

#[test]
fn random_octets_do_no_harm() {
    let site = site();
    let mut server = site.serve();
    let before = seq(&site);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        // xorshift64*: the same octets at each run.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let valid = format!(
        "POST {SWITCH} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}",
        site.api
    );
    for round in 0..300 {
        let mut octets = valid.clone().into_bytes();
        for _ in 0..=next() % 6 {
            let place = (next() % octets.len() as u64) as usize;
            match next() % 3 {
                0 => octets[place] = next() as u8,
                1 => octets.truncate(place.max(1)),
                _ => octets.insert(place, next() as u8),
            }
        }
        // Said to be all: a server that waits for more sees the end.
        let mut stream = TcpStream::connect(site.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let status: Option<u16> = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        assert!(
            status.is_none_or(|status| (400..500).contains(&status)),
            "round {round}: {octets:?}\n{answer}"
        );
    }
    assert_eq!(seq(&site), before);
    alive(&site, &mut server);
}

/// Nobody from outside may have more than a quarter of the connections; this machine's own users still come in then.
#[test]
fn a_client_from_outside_has_a_share_of_the_connections() {
    // The address that this machine has outside of loopback; nothing is sent.
    let outside = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.254:9")?;
        socket.local_addr()
    });
    let Some(address) = outside.ok().map(|outside| outside.ip()).filter(|address| !address.is_loopback()) else {
        eprintln!("SKIPPED: this machine has no address but loopback");
        return;
    };
    let site = site();
    let config = std::fs::read_to_string(site.config()).unwrap();
    let listen = format!(
        "listen = \"0.0.0.0:{}\"\nallow-plaintext = true\ntoken-file = \"tokens.toml\"",
        site.api.port()
    );
    std::fs::write(
        site.config(),
        config.replace(&format!("listen = \"{}\"\nsocket", site.api), &(listen + "\nsocket")),
    )
    .unwrap();
    let hash = pointsman::ledger::Hash::of(b"sesame");
    std::fs::write(
        site.path("tokens.toml"),
        format!("[[token]]\nname = \"ada\"\nrole = \"viewer\"\nsha256 = \"{hash}\"\n"),
    )
    .unwrap();
    let mut server = site.spawn(&[]);
    server.wait_answering();
    support::wait_for("the API", || site.get("/livez").filter(|(status, _)| *status == 200));
    // A kept connection that is answered has a place; whatever the answer is.
    let ask = || {
        let mut stream = TcpStream::connect((address, site.api.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        stream.read(&mut [0; 1024]).is_ok_and(|octets| octets > 0).then_some(stream)
    };
    let begin = std::time::Instant::now();
    let admitted: Vec<TcpStream> = (0..100).filter_map(|_| ask()).collect();
    // Kept connections that are silent end after ten seconds.
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(9),
        "this machine is too slow to tell"
    );
    assert_eq!(admitted.len(), 64);
    assert_eq!(get(&site, "/livez").status, 200);
    drop(admitted);
    support::wait_for("a place", &ask);
    alive(&site, &mut server);
}
