//! DNS over HTTPS (RFC 8484): HTTP/1.1 and HTTP/2 inside TLS, one path, GET and POST.
//!
//! ```text
//!  accept ─▶ room? ─▶ handshake ─ALPN─▶ h2 or http/1.1 ─▶ requests (`exchange`) ─▶ the clerk
//! ```
//!
//! Bounded: connections in all, by client and by neighbourhood (`stream::room`); a handshake, and the silence between two
//! requests, in time, whoever trickles included; octets of a head and a body; requests that a connection may have open.
//! A connection that has made no request for [`IDLE_TIME_MAX`] is told to go and, [`GRACE`] later, cut. That also ends one
//! whose client does not take its answers.
//!
//! It stands here and not in `api`, which has axum: this is one function of a request and needs no router, and DNS must not
//! depend on what operators use.

mod age;
mod exchange;

use super::clerk::Clerk;
use super::stats::Counted;
use super::stream::{Full, Room, Seat};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Longest time for a handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may go without a request.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection that was told to go may still finish what it has.
const GRACE: Duration = Duration::from_secs(2);
/// How often a connection's silence is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Octets of a head, after which no more is read.
const HEAD_OCTETS_MAX: usize = 16 * 1024;
/// Requests that an HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 100;
/// Octets of answers that are kept for one HTTP/2 request.
const SEND_OCTETS_MAX: usize = 64 * 1024;
/// Pause of accepting after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Https {
    /// Who answers.
    pub(super) clerk: Clerk,
    /// The one path that answers.
    pub(super) path: String,
    /// The places.
    pub(super) room: Arc<Room>,
    /// TLS.
    pub(super) tls: TlsAcceptor,
    /// When it began; what `Activity` counts from.
    pub(super) begin: Instant,
}

/// Takes connections until told to stop.
pub(super) async fn accept(listener: TcpListener, https: Arc<Https>, stopping: watch::Receiver<bool>) {
    let mut stop = stopping.clone();
    let mut has_failed = false;
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                has_failed = false;
                match https.room.take(peer.ip()) {
                    Ok(seat) => drop(tokio::spawn(serve(stream, peer, seat, https.clone(), stopping.clone()))),
                    // Dropped, and so closed.
                    Err(Full::All | Full::Client) => https.clerk.stats.dropped(Counted::TcpFull),
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(%error, "connections for DNS over HTTPS cannot be accepted; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection; its place is given back when it ends.
async fn serve(stream: TcpStream, peer: SocketAddr, _seat: Seat, https: Arc<Https>, stopping: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok().map(|address| address.ip());
    let stream = match timeout(HANDSHAKE_TIME_MAX, https.tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return https.clerk.stats.dropped(Counted::TcpTimeout),
    };
    let activity = Arc::new(Activity::new(https.begin));
    if is_http2(&stream) {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_OCTETS_MAX as u32)
            .max_send_buf_size(SEND_OCTETS_MAX);
        let service = service(https.clone(), activity.clone(), peer, local);
        let connection = http2.serve_connection(TokioIo::new(stream), service);
        watch_over(connection, |connection| connection.graceful_shutdown(), &activity, &https, stopping).await;
    } else {
        let mut http1 = hyper::server::conn::http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIME_MAX)
            .max_buf_size(HEAD_OCTETS_MAX);
        let service = service(https.clone(), activity.clone(), peer, local);
        let connection = http1.serve_connection(TokioIo::new(stream), service);
        watch_over(connection, |connection| connection.graceful_shutdown(), &activity, &https, stopping).await;
    }
}

/// Whether the client chose HTTP/2. One without ALPN gets HTTP/1.1, as ever.
fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// The service of a connection.
fn service(
    https: Arc<Https>,
    activity: Arc<Activity>,
    peer: SocketAddr,
    local: Option<IpAddr>,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = exchange::Response,
    Error = std::convert::Infallible,
    Future = impl Future<Output = Result<exchange::Response, std::convert::Infallible>> + Send + 'static,
> {
    service_fn(move |request| {
        activity.note();
        let https = https.clone();
        async move { Ok(exchange::exchange(&https.clerk, &https.path, request, peer, local).await) }
    })
}

/// Drives a connection until it ends, has been silent too long, or the server stops.
async fn watch_over<C, E>(
    connection: C,
    mut tell_to_go: impl FnMut(Pin<&mut C>),
    activity: &Activity,
    https: &Https,
    mut stopping: watch::Receiver<bool>,
) where
    C: Future<Output = Result<(), E>>,
{
    let mut connection = pin!(connection);
    let is_silent = async {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if activity.silence() >= IDLE_TIME_MAX {
                return;
            }
        }
    };
    tokio::select! {
        // It ended by itself; how is of no interest to anybody.
        _ = connection.as_mut() => return,
        () = is_silent => https.clerk.stats.dropped(Counted::TcpTimeout),
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    tell_to_go(connection.as_mut());
    let _ = timeout(GRACE, connection).await;
}

/// When a connection made its last request.
struct Activity {
    /// What the count is from.
    begin: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Activity {
    /// Now, for a beginning.
    fn new(begin: Instant) -> Activity {
        let activity = Activity {
            begin,
            last: AtomicU64::new(0),
        };
        activity.note();
        activity
    }

    /// There is a request.
    fn note(&self) {
        self.last.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long there was none.
    fn silence(&self) -> Duration {
        self.begin
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}
