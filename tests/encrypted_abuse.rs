//! Encrypted DNS under attack from outside: handshakes that nobody goes on with, requests that are reset, answers that are not taken.

mod support;

use hickory_proto::rr::RecordType;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use support::secure::{Secure, base64url, query_zero};
use support::{PATIENCE, resident, try_ask, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A runtime for clients of HTTP/2.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn stalled_handshakes_are_cut_and_delay_nobody() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    let mut stalled: Vec<TcpStream> = (0..200)
        .map(|n| TcpStream::connect(if n % 2 == 0 { secure.tls } else { secure.https }).unwrap())
        .collect();
    for stream in &mut stalled {
        // The beginning of a handshake record, and nothing after it.
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(12))).unwrap();
    }
    let begin = Instant::now();
    assert_eq!(secure.curl(&secure.path(), &[]).0, 200);
    assert!(try_ask(secure.site.dns, "shop.example.net.", RecordType::A).is_some());
    assert!(begin.elapsed() < Duration::from_secs(4));
    for stream in &mut stalled {
        let mut rest = Vec::new();
        // A reset is an end too; only a time-out is not.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    // Rubbish instead of a handshake ends at once.
    let mut rubbish = TcpStream::connect(secure.tls).unwrap();
    rubbish.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    rubbish.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let ended = rubbish.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
}

/// Ten thousand clients on addresses of their own that begin a handshake and leave it; every limit is met, nobody else feels it.
#[test]
fn a_flood_of_handshakes_leaves_room_for_others() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let many = usize::try_from(hard / 2).unwrap().min(10_000);
    let secure = Secure::new();
    let server = secure.site.serve();
    let before = resident(server.child.id());
    let mut flood = Vec::new();
    for n in 0..many {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::from(([127, 3, (n / 200) as u8, (n % 200) as u8 + 1], 0));
        socket.bind(&from.into()).unwrap();
        let to = if n % 2 == 0 { secure.tls } else { secure.https };
        // A server that takes no more lets connections wait; that is an end of its flood too.
        if socket.connect_timeout(&to.into(), PATIENCE).is_ok() {
            let mut stream = TcpStream::from(socket);
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1][..n % 7]);
            flood.push(stream);
        }
        if n % 1000 == 0 {
            assert!(try_ask(secure.site.dns, "shop.example.net.", RecordType::A).is_some());
        }
    }
    let grown = resident(server.child.id()).saturating_sub(before);
    assert!(grown < 160 << 20, "{} handshakes cost {grown} octets", flood.len());
    assert!(secure.site.dropped("tcp-full") > 0, "the limits were met");
    let begin = Instant::now();
    wait_for("another client to be served over HTTPS", || secure.is_answered().then_some(()));
    // Handshakes time out after five seconds; a newcomer need not wait for that.
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let kdig = || {
        let port = secure.tls.port().to_string();
        let words = [
            "@127.0.0.1",
            "-p",
            &port,
            "+tls",
            "+timeout=2",
            "+retry=0",
            "shop.example.net.",
            "A",
        ];
        let output = Command::new("kdig").args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("status: NOERROR").then_some(())
    };
    wait_for("another client to be served over TLS", kdig);
    assert!(try_ask(secure.site.dns, "shop.example.net.", RecordType::A).is_some());
    drop(flood);
}

/// Requests that are reset as soon as they are sent (CVE-2023-44487), by the hundred thousand on one connection.
#[test]
fn rapid_resets_end_their_connection_and_nobody_elses() {
    let secure = Secure::new();
    let server = secure.site.serve();
    let before = resident(server.child.id());
    let sent = runtime().block_on(async {
        let mut client = secure.http2(h2::client::Builder::new()).await;
        let uri = format!("https://localhost:{}{}", secure.https.port(), secure.path());
        let mut sent = 0_u32;
        while sent < 100_000 {
            let Ok(ready) = client.ready().await else { break };
            client = ready;
            let request = http::Request::get(&uri).body(()).unwrap();
            let Ok((response, _)) = client.send_request(request, true) else {
                break;
            };
            drop(response); // which resets it
            sent += 1;
        }
        sent
    });
    assert!(sent > 0 && sent < 100_000, "{sent} requests were reset, and still more are taken");
    assert_eq!(secure.curl(&secure.path(), &[]).0, 200);
    let grown = resident(server.child.id()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} octets");
}

/// An answer that is not taken (window 0) ends its connection, however busily the client asks for others.
#[test]
fn an_answer_that_is_not_taken_ends_its_connection() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    let uri = format!("https://localhost:{}{}", secure.https.port(), secure.path());
    let untaken = async |window: u32| {
        let mut no_window = h2::client::Builder::new();
        no_window.initial_window_size(window);
        let mut client = secure.http2(no_window).await;
        let request = http::Request::get(&uri).body(()).unwrap();
        let (untaken, _) = client.send_request(request, true).unwrap();
        let untaken = untaken.await.unwrap();
        let begin = Instant::now();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        while begin.elapsed() < PATIENCE {
            second.tick().await;
            let Ok(ready) = client.ready().await else { break };
            client = ready;
            let request = http::Request::head(&uri).body(()).unwrap();
            let Ok((response, _)) = client.send_request(request, true) else {
                break;
            };
            if response.await.is_err() {
                break;
            }
        }
        drop(untaken);
        begin.elapsed()
    };
    // A window of one octet is no better than none.
    let took = runtime().block_on(async { tokio::join!(untaken(0), untaken(1)) });
    for took in [took.0, took.1] {
        assert!(took > Duration::from_secs(5) && took < Duration::from_secs(20), "{took:?}");
    }
}

/// Of the answers that a client does not take only some are made: there is room for four of the longest.
#[test]
fn answers_that_are_not_taken_are_bounded_in_octets() {
    let secure = Secure::new();
    secure.write_big();
    let _server = secure.site.serve();
    let path = base64url(&query_zero("big.example.net.", RecordType::TXT));
    let uri = format!("https://localhost:{}/dns-query?dns={path}", secure.https.port());
    let made = runtime().block_on(async {
        let mut no_window = h2::client::Builder::new();
        no_window.initial_window_size(0);
        let mut client = secure.http2(no_window).await;
        let mut responses = tokio::task::JoinSet::new();
        for _ in 0..99 {
            client = client.ready().await.unwrap();
            let request = http::Request::get(&uri).body(()).unwrap();
            responses.spawn(client.send_request(request, true).unwrap().0);
        }
        // The heads of those that are made come at once, the others' end with the connection.
        let (mut made, mut kept) = (0, Vec::new());
        while let Some(response) = responses.join_next().await {
            if let Ok(response) = response.unwrap() {
                made += 1;
                kept.push(response);
            }
        }
        made
    });
    assert!(
        (1..=12).contains(&made),
        "{made} answers of 60,000 octets were made for a client that takes none"
    );
}

/// All clients together have room for 64 MiB of answers that they do not take: beyond it some leave at once, not all, and others are
/// answered meanwhile.
#[test]
fn answers_that_many_do_not_take_are_bounded_for_all_together() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    if hard < 10_000 {
        eprintln!("left out: with a limit of {hard} open files there are not places enough; 10,000 are needed");
        return;
    }
    let secure = std::sync::Arc::new(Secure::new());
    secure.write_big();
    let _server = secure.site.serve();
    let path = base64url(&query_zero("big.example.net.", RecordType::TXT));
    let uri = format!("https://localhost:{}/dns-query?dns={path}", secure.https.port());
    // Four answers of 60,000 octets each: 108 MB.
    let runtime = runtime();
    let held: Vec<_> = runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..450_u16 {
            let (secure, uri) = (secure.clone(), uri.clone());
            let from = [127, 0, 1 + (number % 50) as u8, 1];
            clients.spawn(async move {
                let mut no_window = h2::client::Builder::new();
                no_window.initial_window_size(0);
                let mut client = secure.http2_from(from, no_window).await;
                let mut held = Vec::new();
                for _ in 0..4 {
                    client = client.ready().await.ok()?;
                    let request = http::Request::get(&uri).body(()).unwrap();
                    held.push(client.send_request(request, true).ok()?.0.await.ok()?);
                }
                Some((client, held))
            });
        }
        clients.join_all().await.into_iter().flatten().collect()
    });
    assert_eq!(secure.curl(&secure.path(), &[]).0, 200);
    let ended = secure.site.dropped("tcp-memory");
    assert!(
        ended > 0,
        "{} clients hold what they asked for, and nobody had to leave",
        held.len()
    );
    assert!(held.len() > 100 && ended < 300, "{} stay and {ended} had to leave", held.len());
    drop(held);
    // What is gone is counted off: there is room again for as many.
    let again = runtime.block_on(async {
        let mut client = secure.http2(h2::client::Builder::new()).await;
        client = client.ready().await.unwrap();
        let request = http::Request::get(&uri).body(()).unwrap();
        client.send_request(request, true).unwrap().0.await.unwrap().status()
    });
    assert_eq!((again.as_u16(), secure.site.dropped("tcp-memory")), (200, ended));
}

/// Requests with large heads whose bodies never come: the heads are let go at once.
#[test]
fn heads_of_requests_whose_bodies_do_not_come_are_not_kept() {
    let secure = Secure::new();
    let server = secure.site.serve();
    let uri = format!("https://localhost:{}{}", secure.https.port(), secure.path());
    let filler = "x".repeat(14_000);
    let before = resident(server.child.id());
    let grown = runtime().block_on(async {
        let mut held = Vec::new();
        for _ in 0..40 {
            let mut client = secure.http2(h2::client::Builder::new()).await;
            for _ in 0..90 {
                client = client.ready().await.unwrap();
                let head = http::Request::post(&uri).header("content-type", "application/dns-message");
                let request = head.header("x-filler", &filler).body(()).unwrap();
                held.push(client.send_request(request, false).unwrap());
            }
            // An answer to what was sent after them tells that they have arrived.
            client = client.ready().await.unwrap();
            let request = http::Request::get(&uri).body(()).unwrap();
            let answer = client.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        resident(server.child.id()).saturating_sub(before)
    });
    // All of the last second or two are 50 MB.
    assert!(grown < 20 << 20, "{grown} octets for requests that wait for their bodies");
}

/// Out of descriptors: whoever has been silent longest makes room for newcomers, long before its own time is over.
#[test]
fn without_descriptors_silent_connections_make_room_over_https() {
    let secure = Secure::new();
    let mut server = secure.site.spawn_limited(200);
    server.wait_ready();
    let said = |what: &str| secure.site.log().contains(what).then_some(());
    let runtime = runtime();
    let begin = Instant::now();
    // Eight of twelve places.
    let clients = runtime.block_on(async {
        let mut clients = Vec::new();
        for network in 1..=8 {
            clients.push(secure.http2_from([127, 0, network, 1], h2::client::Builder::new()).await);
        }
        clients
    });
    // The API takes what is left, and then a newcomer finds nothing.
    let taken: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(secure.site.api).unwrap()).collect();
    wait_for("the API to be out of descriptors", || said("the API cannot take a connection"));
    let mut newcomers = Vec::new();
    wait_for("HTTPS to be out of descriptors", || {
        newcomers.push(TcpStream::connect(secure.https));
        said("connections for DNS over HTTPS cannot be accepted")
    });
    let ended = async |client: h2::client::SendRequest<bytes::Bytes>| {
        let mut client = client;
        while let Ok(ready) = client.ready().await {
            client = ready;
            tokio::task::yield_now().await;
        }
    };
    let ended = clients.into_iter().map(|client| Box::pin(ended(client)));
    let ended = async { tokio::time::timeout(PATIENCE, futures_util::future::select_all(ended)).await };
    assert!(runtime.block_on(ended).is_ok());
    // Silence alone would end it after ten seconds.
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    drop(taken);
    wait_for("HTTPS to be answered again", || secure.is_answered().then_some(()));
    assert!(secure.site.dropped("tcp-full") > 0);
}

/// A stop waits for nobody who is still shaking hands.
#[test]
fn stalled_handshakes_do_not_delay_a_stop() {
    let secure = Secure::new();
    let server = secure.site.serve();
    let mut stalled: Vec<TcpStream> = [secure.https, secure.tls]
        .map(|address| TcpStream::connect(address).unwrap())
        .into();
    for stream in &mut stalled {
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    }
    // So that the stalled ones are accepted.
    assert!(secure.is_answered());
    let begin = Instant::now();
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(server.wait_end(), Some(0));
    assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
}

/// Whatever clients say wrong, however often, the log has no line of it: a few octets each would fill a disk.
#[test]
fn clients_cannot_fill_the_log() {
    let secure = Secure::new();
    let server = secure.site.serve();
    // Alerts that only warn, before any handshake (RFC 5246 §7.2); the fifth is one too many and ends the connection.
    for address in [secure.tls, secure.https].repeat(5) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[21, 3, 1, 0, 2, 1, 100].repeat(5)).unwrap();
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
    // Acknowledgements of pings that nobody sent (RFC 9113 §6.7), and a ping to see that they were read.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let acknowledgements = [0, 0, 8, 6, 1, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7].repeat(100);
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0], &b"the last"[..]].concat();
    runtime().block_on(async {
        let mut stream = secure.http2_octets([127, 0, 0, 1]).await;
        let frames = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &acknowledgements, &ping].concat();
        stream.write_all(&frames).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(8).any(|octets| octets == b"the last") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the ping is answered");
        }
    });
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.wait_end();
    let log = wait_for("the end of the log", || {
        Some(secure.site.log()).filter(|log| log.contains("stopped"))
    });
    let strange = log.lines().filter(|line| !line.contains("\"target\":\"pointsman::"));
    assert_eq!(strange.count(), 0, "{log}");
}
