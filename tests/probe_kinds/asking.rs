//! The http kind: what is sent, redirects, versions of HTTP, and connections that are kept.

use super::http::{containing, get};
use super::*;
use pointsman::model::{HttpProbe, HttpVersion};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests that a server got, head and body.
type Heard = Arc<Mutex<Vec<String>>>;

/// A server that answers as `answers` says by path, and keeps what it heard.
async fn listening(answers: &'static [(&'static str, &'static str)]) -> (SocketAddr, Heard, Arc<AtomicUsize>) {
    let (heard, connections) = (Heard::default(), Arc::new(AtomicUsize::new(0)));
    let (told, made) = (Arc::clone(&heard), Arc::clone(&connections));
    let there = server(move |mut stream| {
        made.fetch_add(1, Ordering::SeqCst);
        let told = Arc::clone(&told);
        async move {
            loop {
                let mut request = read_head(&mut stream).await;
                if request.is_empty() {
                    return;
                }
                let length = request.to_ascii_lowercase();
                let length = length
                    .split("content-length: ")
                    .nth(1)
                    .map_or("0", |rest| rest.split("\r\n").next().unwrap());
                let mut body = vec![0; length.parse().unwrap()];
                stream.read_exact(&mut body).await.unwrap();
                request.push_str(&String::from_utf8(body).unwrap());
                let path = request.split(' ').nth(1).unwrap().to_owned();
                told.lock().unwrap().push(request);
                let (_, answer) = answers
                    .iter()
                    .find(|(known, _)| *known == path)
                    .unwrap_or(&("", "404 Not Found\r\n"));
                let close = answer.contains("Connection: close");
                let answer = format!("HTTP/1.1 {answer}Content-Length: 2\r\n\r\nok");
                stream.write_all(answer.as_bytes()).await.unwrap();
                if close {
                    return;
                }
            }
        }
    })
    .await;
    (there, heard, connections)
}

fn at(there: SocketAddr, path: &str) -> HttpProbe {
    get(&format!("http://shop.invalid:{}{path}", there.port()))
}

async fn probe(probe: HttpProbe) -> Seen {
    run(ProbeKind::Http(Box::new(probe)), "127.0.0.1", LIMIT).await
}

/// Request lines that were heard.
fn lines(heard: &Heard) -> Vec<String> {
    let heard = heard.lock().unwrap();
    heard.iter().map(|request| request.lines().next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_body_is_sent_as_it_is_and_nothing_is_added_to_it() {
    let (there, heard, _) = listening(&[("/", "200 OK\r\n")]).await;
    let mut asked = at(there, "/");
    asked.method = "POST".to_owned();
    asked.body = Some("{\"ping\": \"pöng\"}".to_owned());
    asked.headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    passes(&probe(asked.clone()).await);
    let request = heard.lock().unwrap().remove(0);
    let lower = request.to_ascii_lowercase();
    assert!(
        lower.contains("\r\ncontent-length: 17\r\n") && lower.contains("\r\ncontent-type: application/json\r\n"),
        "{request}"
    );
    assert!(request.ends_with("\r\n\r\n{\"ping\": \"pöng\"}"), "{request}");
    // RFC 9110 section 8.6: also an empty POST says its length.
    asked.body = None;
    passes(&probe(asked).await);
    let request = heard.lock().unwrap().remove(0).to_ascii_lowercase();
    assert!(request.contains("\r\ncontent-length: 0\r\n"), "{request}");
    passes(&probe(at(there, "/")).await);
    let request = heard.lock().unwrap().remove(0).to_ascii_lowercase();
    assert!(!request.contains("content-length"), "{request}");
}

#[tokio::test]
async fn redirects_are_followed_when_allowed_and_stay_where_they_are() {
    const ANSWERS: &[(&str, &str)] = &[
        ("/", "302 Found\r\nLocation: /login?next=%2F\r\n"),
        ("/login?next=%2F", "200 OK\r\n"),
        ("/deep/a", "301 Moved\r\nLocation: ../b#top\r\n"),
        ("/b", "308 Permanent Redirect\r\nLocation: /c\r\nConnection: close\r\n"),
        ("/c", "200 OK\r\n"),
        ("/loop", "307 Temporary Redirect\r\nLocation: /loop\r\n"),
        ("/see", "303 See Other\r\nLocation: /c\r\n"),
        ("/bare", "302 Found\r\n"),
        ("/away", "302 Found\r\nLocation: https://login.example.net/?session=s3cret\r\n"),
        ("/mail", "302 Found\r\nLocation: mailto:s3cret@example.net\r\n"),
        ("/bad", "302 Found\r\nLocation: http://[::\r\n"),
        ("/port", "302 Found\r\nLocation: //shop.invalid:1/\r\n"),
    ];
    let (there, heard, connections) = listening(ANSWERS).await;
    let following = |path: &str, redirects: u8| HttpProbe {
        redirects,
        ..at(there, path)
    };
    passes(&probe(following("/", 1)).await);
    assert_eq!(lines(&heard), ["GET / HTTP/1.1", "GET /login?next=%2F HTTP/1.1"]);
    assert_eq!(connections.load(Ordering::SeqCst), 1, "the connection is kept from hop to hop");
    passes(&probe(following("/deep/a", 2)).await);
    assert_eq!(connections.load(Ordering::SeqCst), 3, "one more where the server ended it");
    let origin = format!("http://shop.invalid:{}", there.port());
    for (path, redirects, reason, message) in [
        ("/", 0, FailReason::Status, "HTTP 302, expected 200; body says \"ok\"".to_owned()),
        ("/deep/a", 1, FailReason::Status, "HTTP 308 leads on after 1 redirects".to_owned()),
        ("/loop", 10, FailReason::Status, "HTTP 307 leads on after 10 redirects".to_owned()),
        (
            "/bare",
            3,
            FailReason::Status,
            "HTTP 302, expected 200; body says \"ok\"".to_owned(),
        ),
        (
            "/away",
            3,
            FailReason::Status,
            format!("HTTP 302 leads to https://login.example.net, not to {origin}"),
        ),
        (
            "/mail",
            3,
            FailReason::Status,
            format!("HTTP 302 leads to a mailto URL, not to {origin}"),
        ),
        (
            "/bad",
            3,
            FailReason::Protocol,
            "HTTP 302 leads nowhere: its Location is no URL".to_owned(),
        ),
        (
            "/port",
            3,
            FailReason::Status,
            format!("HTTP 302 leads to http://shop.invalid:1, not to {origin}"),
        ),
    ] {
        fails(&probe(following(path, redirects)).await, reason, &message);
    }
    // An answer that was expected is no redirect.
    let mut expected = following("/away", 3);
    expected.status = vec![(302, 302)];
    passes(&probe(expected).await);
    // What was posted is not posted again after 303.
    heard.lock().unwrap().clear();
    let mut posted = following("/see", 1);
    (posted.method, posted.body) = ("POST".to_owned(), Some("s3cret".to_owned()));
    passes(&probe(posted).await);
    assert_eq!(lines(&heard), ["POST /see HTTP/1.1", "GET /c HTTP/1.1"]);
    assert!(!heard.lock().unwrap()[1].contains("s3cret"));
}

#[tokio::test]
async fn http_2_is_spoken_unasked_where_the_config_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let handler = |request: axum::extract::Request| async move {
        let seen = format!("{:?} {} {}", request.version(), request.method(), request.uri());
        let body = axum::body::to_bytes(request.into_body(), 1024).await.unwrap();
        format!("{seen} {}", String::from_utf8_lossy(&body))
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
    let mut asked = at(there, "/x?y=1");
    asked.version = HttpVersion::Two;
    (asked.method, asked.body) = ("POST".to_owned(), Some("ping".to_owned()));
    // About the connection, and not allowed in HTTP/2.
    asked.headers = vec![
        ("Connection".to_owned(), "close".to_owned()),
        ("Keep-Alive".to_owned(), "1".to_owned()),
    ];
    let seen = format!("HTTP/2.0 POST http://shop.invalid:{}/x?y=1 ping", there.port());
    passes(&run_spec(&containing(&asked, &seen), "127.0.0.1").await);
    asked.version = HttpVersion::Auto;
    passes(&run_spec(&containing(&asked, "HTTP/1.1 POST /x?y=1 ping"), "127.0.0.1").await);
    let (old, _, _) = listening(&[("/", "200 OK\r\n")]).await;
    let mut asked = at(old, "/");
    asked.version = HttpVersion::Two;
    fails(&probe(asked).await, FailReason::Protocol, "the answer is no valid HTTP/2");
}

#[tokio::test]
async fn what_a_failing_answer_says_is_shown_and_what_was_sent_is_not() {
    let cases = [
        ("Content-Length: 12\r\n\r\ndb: standby\n", "; body says \"db: standby\""),
        ("Content-Length: 0\r\n\r\n", ""),
        (
            "Content-Length: 46\r\n\r\n<html><head><title>503 Service Unavailable</tit",
            "; body says \"503 Service Unavailable\"",
        ),
        ("Content-Length: 4\r\n\r\n\u{1}\u{2}\u{3}\u{4}", ""),
        // It never ends, and is not waited for.
        ("\r\nfirst words", "; body says \"first words\""),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz", "; body says \"abc\""),
    ];
    for (rest, says) in cases {
        let there = server(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(format!("HTTP/1.1 503 No\r\n{rest}").as_bytes()).await;
            hold(&mut stream).await;
        })
        .await;
        let mut asked = at(there, "/?token=s3cret");
        asked.headers = vec![("Authorization".to_owned(), "Bearer s3cret".to_owned())];
        fails(&probe(asked).await, FailReason::Status, &format!("HTTP 503, expected 200{says}"));
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_the_moment_of_its_use_is_no_failure() {
    let connections = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&connections);
    let there = server(move |mut stream| {
        let first = made.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            while !read_head(&mut stream).await.is_empty() {
                if first {
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            }
        }
    })
    .await;
    let mut watched = prober::Watched::new(ProbeKind::Http(Box::new(at(there, "/"))));
    for _ in 0..4 {
        assert_eq!(watched.outcome().await.result, Ok(()));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}
