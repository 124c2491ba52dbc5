//! Every kind of probe against real little servers and against hostile ones: the exact class, the exact
//! message, in bounded time.

mod asking;
mod dns;
mod exec;
mod grpc;
mod handshake;
mod hostile;
mod http;
mod icmp;
mod mysql;
mod nginx;
mod postgres;
mod prober;
mod resolver;
mod smtp;
mod tcp;
mod tls;

use pointsman::model::{AppId, Endpoint, FailReason, Observed, ProbeKind, ProbeSpec, ProbeTarget, RegionId};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a probe may run in these tests unless said otherwise.
const LIMIT: Duration = Duration::from_secs(5);

/// A probe of a kind with this time limit.
fn spec(kind: ProbeKind, timeout: Duration) -> ProbeSpec {
    ProbeSpec {
        interval: timeout * 2,
        timeout,
        stale_after: timeout * 9,
        ..ProbeSpec::new(kind)
    }
}

/// A target at an address.
fn target(address: &str) -> ProbeTarget {
    let address = address.parse().unwrap();
    ProbeTarget {
        app: AppId::new("shop"),
        region: RegionId::new("iad"),
        endpoint: Endpoint::Address(address),
        address,
        probe: 0,
    }
}

/// What a run found, made easy to compare.
#[derive(Debug, PartialEq)]
struct Seen {
    reason: Option<FailReason>,
    message: String,
    observed: Option<Observed>,
    note: String,
    values: Vec<(String, f64)>,
}

/// Runs a probe once; it must end in time whatever the peer does.
async fn run(kind: ProbeKind, address: &str, limit: Duration) -> Seen {
    run_spec(&spec(kind, limit), address).await
}

/// Runs a probe with all that is expected of its answer.
async fn run_spec(spec: &ProbeSpec, address: &str) -> Seen {
    let (began, limit) = (Instant::now(), spec.timeout);
    let outcome = pointsman::probe::run_once(spec, &target(address), began).await;
    assert!(
        began.elapsed() < limit + Duration::from_secs(2),
        "took {:?} of {limit:?}",
        began.elapsed()
    );
    let (reason, message) = match outcome.result {
        Ok(()) => (None, String::new()),
        Err(failure) => (Some(failure.reason), failure.message),
    };
    assert!(message.chars().count() <= 301, "{message}");
    Seen {
        reason,
        message,
        observed: outcome.observed,
        note: outcome.note,
        values: outcome
            .values
            .into_iter()
            .map(|(name, number)| (name.to_string(), number))
            .collect(),
    }
}

/// Asserts a pass.
#[track_caller]
fn passes(seen: &Seen) {
    assert_eq!((seen.reason, seen.message.as_str()), (None, ""));
}

/// Asserts a failure of exactly this class and message.
#[track_caller]
fn fails(seen: &Seen, reason: FailReason, message: &str) {
    assert_eq!((seen.reason, seen.message.as_str()), (Some(reason), message));
}

/// A TCP server on a free port of loopback that serves every connection with `serve`; gone when the runtime is.
async fn server<F, Work>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Work + Send + Sync + 'static,
    Work: Future<Output = ()> + Send + 'static,
{
    server_on("127.0.0.1:0", serve).await
}

/// The same on a given address.
async fn server_on<F, Work>(address: &str, serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Work + Send + Sync + 'static,
    Work: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serve = Arc::clone(&serve);
            tokio::spawn(async move { serve(stream).await });
        }
    });
    address
}

/// A port on which nothing listens.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// Reads until the blank line after the header fields.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Sends one octet after the other, for ever, every 50 ms.
async fn trickle(stream: &mut TcpStream, bytes: &[u8]) {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for byte in bytes.iter().cycle() {
        tick.tick().await;
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
}

/// Sends for ever, as fast as it goes.
async fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    while stream.write_all(bytes).await.is_ok() {}
}

/// Keeps a connection open until the other side closes it.
async fn hold(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}
