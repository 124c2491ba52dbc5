//! The http kind over plain connections; `tls` has the rest.

use super::*;
use pointsman::model::{Expect, HttpProbe, RoleRule, Source, Test};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A GET that expects 200.
pub(crate) fn get(url: &str) -> HttpProbe {
    // As the program does at its start.
    let _ = rustls::crypto::ring::default_provider().install_default();
    HttpProbe {
        status: vec![(200, 200)],
        ..HttpProbe::new(url.parse().unwrap())
    }
}

/// A probe with what is expected of its answer.
fn expecting(probe: &HttpProbe, source: Source, test: Test) -> ProbeSpec {
    ProbeSpec {
        expect: vec![Expect { source, tests: vec![test] }],
        ..spec(ProbeKind::Http(Box::new(probe.clone())), LIMIT)
    }
}

/// A probe that looks for text in the body.
pub(crate) fn containing(probe: &HttpProbe, text: &str) -> ProbeSpec {
    expecting(probe, Source::Body, Test::Contains(text.to_owned()))
}

/// A probe that looks at a JSON pointer.
fn pointing(probe: &HttpProbe, pointer: &str, value: serde_json::Value) -> ProbeSpec {
    expecting(probe, Source::Json(pointer.to_owned()), Test::Is(value))
}

/// The URL of a server by a name that exists nowhere: the connection goes to the target's address.
fn url(server: SocketAddr) -> String {
    format!("http://shop.invalid:{}/healthz?full=1", server.port())
}

async fn probe(probe: HttpProbe) -> Seen {
    run(ProbeKind::Http(Box::new(probe)), "127.0.0.1", LIMIT).await
}

async fn probe_within(probe: HttpProbe, limit: Duration) -> Seen {
    run(ProbeKind::Http(Box::new(probe)), "127.0.0.1", limit).await
}

/// A server that gives every request the same answer on kept connections.
async fn answering(status: &'static str, body: &'static str) -> SocketAddr {
    server(move |mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

/// A server that reads the request, sends this and closes.
async fn saying(answer: &'static [u8]) -> SocketAddr {
    server(move |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(answer).await;
    })
    .await
}

#[tokio::test]
async fn status_sets_and_ranges_decide() {
    let (ok, gone) = (answering("200 OK", "").await, answering("503 Gone Fishing", "").await);
    passes(&probe(get(&url(ok))).await);
    fails(&probe(get(&url(gone))).await, FailReason::Status, "HTTP 503, expected 200");
    let mut ranges = get(&url(gone));
    ranges.status = vec![(200, 299), (301, 301)];
    fails(
        &probe(ranges.clone()).await,
        FailReason::Status,
        "HTTP 503, expected 200-299 or 301",
    );
    ranges.status.push((500, 599));
    passes(&probe(ranges).await);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let there = saying(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n").await;
    fails(&probe(get(&url(there))).await, FailReason::Status, "HTTP 302, expected 200");
}

#[tokio::test]
async fn method_path_headers_and_host_are_sent_as_configured() {
    let (tx, mut rx) = tokio::sync::mpsc::channel(8);
    let there = server(move |mut stream| {
        let tx = tx.clone();
        async move {
            tx.send(read_head(&mut stream).await).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let mut asked = get(&url(there));
    asked.method = "HEAD".to_owned();
    asked.headers = vec![("X-Probe".to_owned(), "yes".to_owned())];
    passes(&probe(asked).await);
    let head = rx.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("head /healthz?full=1 http/1.1\r\n"), "{head}");
    for line in [
        &format!("host: shop.invalid:{}", there.port()),
        "x-probe: yes",
        "user-agent: pointsman/0.1.0",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
    // A URL whose host is an address: the connection still goes to the target's, Host is the URL's.
    passes(&probe(get(&format!("http://192.0.2.1:{}/", there.port()))).await);
    let head = rx.recv().await.unwrap().to_ascii_lowercase();
    assert!(head.contains(&format!("\r\nhost: 192.0.2.1:{}\r\n", there.port())), "{head}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_our_own_failure_and_keeps_secrets() {
    let mut broken = get("http://shop.invalid/");
    broken.headers = vec![("Authorization".to_owned(), "Bearer s3cret\n".to_owned())];
    fails(&probe(broken).await, FailReason::Internal, "header Authorization cannot be sent");
    let mut broken = get("http://shop.invalid/");
    broken.method = "GET IT".to_owned();
    fails(&probe(broken).await, FailReason::Internal, "no HTTP method: GET IT");
    let secret = get(&format!("http://user:s3cret@shop.invalid:{}/?token=s3cret", closed_port().await));
    fails(&probe(secret).await, FailReason::Connect, "connection refused");
}

#[tokio::test]
async fn the_body_is_searched_and_json_compared() {
    let there = answering("200 OK", r#"{"status":"ok","db":{"lag":1.0,"ready":true},"list":[null]}"#).await;
    let asked = get(&url(there));
    passes(&run_spec(&containing(&asked, "\"ready\":true"), "127.0.0.1").await);
    let seen = run_spec(&containing(&asked, "all good"), "127.0.0.1").await;
    fails(&seen, FailReason::Content, "body does not contain \"all good\"");
    let cases = [
        ("/status", json!("ok"), None),
        ("/db/lag", json!(1), None),
        ("/list/0", json!(null), None),
        ("/status", json!("fine"), Some("/status is \"ok\", expected \"fine\"")),
        ("/db/ready", json!("true"), Some("/db/ready is true, expected \"true\"")),
        ("/db/role", json!("primary"), Some("/db/role is missing, expected \"primary\"")),
        ("/list/0/x", json!(null), Some("/list/0/x is missing, expected null")),
    ];
    for (pointer, expected, message) in cases {
        let seen = run_spec(&pointing(&asked, pointer, expected), "127.0.0.1").await;
        match message {
            None => passes(&seen),
            Some(message) => fails(&seen, FailReason::Content, message),
        }
    }
    let html = get(&url(answering("200 OK", "<html>").await));
    let seen = run_spec(&pointing(&html, "/status", json!("ok")), "127.0.0.1").await;
    fails(&seen, FailReason::Content, "body is no JSON (line 1, column 1)");
}

#[tokio::test]
async fn the_role_is_read_also_from_an_answer_that_fails() {
    let rule = RoleRule {
        source: Source::Json("/database/role".to_owned()),
        active: vec![Test::Is(json!("primary"))],
        passive: vec![Test::Is(json!("standby"))],
    };
    let with_role = |probe| ProbeSpec {
        role: Some(rule.clone()),
        ..spec(ProbeKind::Http(Box::new(probe)), LIMIT)
    };
    let cases = [
        ("200 OK", r#"{"database":{"role":"primary"}}"#, None, Some(Observed::Active)),
        ("200 OK", r#"{"database":{"role":"standby"}}"#, None, Some(Observed::Passive)),
        ("200 OK", r#"{"database":{"role":"starting"}}"#, None, Some(Observed::None)),
        ("200 OK", r#"{}"#, None, Some(Observed::None)),
        ("200 OK", "not json", None, None),
        (
            "503 No",
            r#"{"database":{"role":"standby"}}"#,
            Some("HTTP 503, expected 200; body says \"{\"database\":{\"role\":\"standby\"}}\""),
            Some(Observed::Passive),
        ),
    ];
    for (status, body, message, observed) in cases {
        let seen = run_spec(&with_role(get(&url(answering(status, body).await))), "127.0.0.1").await;
        assert_eq!(seen.observed, observed, "{body}");
        match message {
            None => passes(&seen),
            Some(message) => fails(&seen, FailReason::Status, message),
        }
    }
    let asked = get(&format!("http://shop.invalid:{}/", closed_port().await));
    assert_eq!(run_spec(&with_role(asked), "127.0.0.1").await.observed, None);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let endless = server(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        flood(&mut stream, &[b'x'; 8192]).await;
    })
    .await;
    passes(&probe(get(&url(endless))).await);
    let looked_at = containing(&get(&url(endless)), "ok");
    fails(
        &run_spec(&looked_at, "127.0.0.1").await,
        FailReason::Content,
        "body is longer than 65536 octets",
    );
    let slow = server(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        trickle(&mut stream, b"ok ").await;
    })
    .await;
    passes(&probe(get(&url(slow))).await);
    let mut looked_at = containing(&get(&url(slow)), "never");
    looked_at.timeout = Duration::from_millis(400);
    let seen = run_spec(&looked_at, "127.0.0.1").await;
    fails(&seen, FailReason::Timeout, "no complete body within 400ms");
}

#[tokio::test]
async fn hostile_servers_are_bounded() {
    let limit = Duration::from_millis(300);
    let silent = server(|mut stream| async move { hold(&mut stream).await }).await;
    fails(
        &probe_within(get(&url(silent)), limit).await,
        FailReason::Timeout,
        "no answer within 300ms",
    );
    let slow = server(|mut stream| async move { trickle(&mut stream, b"HTTP/1.1 200 OK\r\nX: ").await }).await;
    fails(
        &probe_within(get(&url(slow)), limit).await,
        FailReason::Timeout,
        "no answer within 300ms",
    );
    let garbage = saying(b"\x00\xff\x13\x37 garbage\r\n\r\n").await;
    fails(
        &probe(get(&url(garbage))).await,
        FailReason::Protocol,
        "the answer is no valid HTTP",
    );
    let ssh = saying(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    fails(&probe(get(&url(ssh))).await, FailReason::Protocol, "the answer is no valid HTTP");
    let closing = saying(b"HTTP/1.1 200 OK\r\nContent-").await;
    let broken_off = "connection closed before the answer was complete";
    fails(&probe(get(&url(closing))).await, FailReason::Protocol, broken_off);
    let nothing = saying(b"").await;
    fails(&probe(get(&url(nothing))).await, FailReason::Protocol, broken_off);
    let half = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let half = get(&url(half));
    fails(&probe(half.clone()).await, FailReason::Protocol, broken_off);
    let looked_at = run_spec(&containing(&half, "half"), "127.0.0.1").await;
    fails(&looked_at, FailReason::Protocol, broken_off);
    let huge = server(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await.unwrap();
        flood(&mut stream, &[b'x'; 8192]).await;
    })
    .await;
    fails(
        &probe(get(&url(huge))).await,
        FailReason::Protocol,
        "the header fields of the answer are too large",
    );
    let many = server(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        flood(&mut stream, &b"A: b\r\n".repeat(100)).await;
    })
    .await;
    fails(
        &probe(get(&url(many))).await,
        FailReason::Protocol,
        "the header fields of the answer are too large",
    );
    let reset = server(|mut stream| async move {
        read_head(&mut stream).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    fails(&probe(get(&url(reset))).await, FailReason::Connect, "connection reset by the peer");
}

#[tokio::test]
async fn connections_are_kept_between_runs_and_made_anew_after_a_failure() {
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (made, asked) = (Arc::clone(&connections), Arc::clone(&requests));
    let there = server(move |mut stream| {
        made.fetch_add(1, Ordering::SeqCst);
        let asked = Arc::clone(&asked);
        async move {
            while !read_head(&mut stream).await.is_empty() {
                let status = if asked.fetch_add(1, Ordering::SeqCst) == 4 {
                    "500 Oops"
                } else {
                    "200 OK"
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let mut watched = prober::Watched::new(ProbeKind::Http(Box::new(get(&url(there)))));
    for run in 0..8 {
        assert_eq!(watched.outcome().await.result.is_ok(), run != 4);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2, "one until the failure, one after it");
}
