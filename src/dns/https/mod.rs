//! DNS over HTTPS (RFC 8484): HTTP/1.1 and HTTP/2 inside TLS, one path, GET and POST.
//!
//! ```text
//!  accept ─▶ room? ─▶ handshake ─ALPN─▶ h2 or http/1.1 ─▶ requests (`exchange`) ─▶ the clerk
//! ```
//!
//! Bounded: connections in all, by client and by neighbourhood (`stream::room`); a handshake, and the silence between two
//! requests, in time, whoever trickles included; octets of a head and a body; requests that a connection may have open.
//! A connection that has had no answer for [`IDLE_TIME_MAX`], or whose client does not take an answer for
//! [`ANSWER_TIME_MAX`] whatever else it asks for, is told to go and, [`GRACE`] later, cut. Where every place is taken, or no descriptor is
//! left, whoever has been silent longest makes room for a newcomer, and what is kept for clients is bounded for each and for all (`sitting`).
//!
//! At a stop what is in hand is finished; handshakes, and connections that are owed nothing, are not waited for.
//!
//! It stands here and not in `api`, which has axum: this is one function of a request and needs no router, and DNS must not
//! depend on what operators use.

mod age;
mod exchange;
mod under_way;

use super::clerk::Clerk;
use super::sitting::{Place, Share, Sitting};
use super::stats::Counted;
use super::stream::Full as NoPlace;
use crate::seldom::Seldom;
use bytes::Bytes;
use exchange::BODY_TIME_MAX;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::Future;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use under_way::UnderWay;

/// Longest time for a handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may go without a request.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest time from a request to the moment at which its answer is with the client, or on its way.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(12);
/// How long a connection that was told to go may still finish what it has.
const GRACE: Duration = Duration::from_secs(2);
/// The same at a stop, for one that is owed nothing: as long as saying good-bye takes.
const GOOD_BYE: Duration = Duration::from_millis(200);
/// How often a connection's silence is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Octets of a head, after which no more is read.
const HEAD_OCTETS_MAX: usize = 16 * 1024;
/// Requests that an HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 100;
/// Octets of answers that are kept for one HTTP/2 request.
const SEND_OCTETS_MAX: usize = 64 * 1024;
/// Octets of one HTTP/2 request, and of all of a connection, that a client may send ahead.
const RECEIVE_WINDOWS: (u32, u32) = (16 * 1024, 128 * 1024);
/// Octets that TLS may keep for a connection because the kernel takes no more.
const TLS_OCTETS_MAX: usize = 16 * 1024;
/// Pause of accepting after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
pub(super) struct Https {
    /// Who answers.
    pub(super) clerk: Clerk,
    /// The one path that answers.
    pub(super) path: String,
    /// The places.
    pub(super) sitting: Arc<Sitting>,
    /// TLS.
    pub(super) tls: TlsAcceptor,
}

/// What is known of a connection while it lasts.
#[derive(Clone)]
struct Guest {
    share: Share,
    under_way: Arc<UnderWay>,
}

impl Guest {
    /// Whether it has been answered nothing, or left an answer lying, for too long. A request that is still arriving has its own time.
    fn is_silent(&self) -> bool {
        let patience = if self.under_way.is_empty() {
            IDLE_TIME_MAX
        } else {
            IDLE_TIME_MAX + BODY_TIME_MAX
        };
        self.share.silence() >= patience || self.under_way.oldest() >= ANSWER_TIME_MAX
    }

    /// Whether it has everything that it asked for; what was answered just now may still be on its way.
    fn is_owed_nothing(&self) -> bool {
        self.under_way.is_empty() && self.share.silence() >= LOOK_INTERVAL
    }
}

/// Takes connections until told to stop.
pub(super) async fn accept(listener: TcpListener, https: Arc<Https>, stopping: watch::Receiver<bool>) {
    let mut stop = stopping.clone();
    let complaint = Seldom::default();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match https.sitting.take(peer.ip()) {
                Ok(place) => drop(tokio::spawn(sit(stream, peer, place, https.clone(), stopping.clone()))),
                // Dropped, and so closed.
                Err(NoPlace::All | NoPlace::Client) => https.clerk.stats.dropped(Counted::TcpFull),
            },
            // About one connection that went away again, not about this socket.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                // Mostly no descriptors left: some are made free, and the next try waits.
                https.sitting.make_room();
                https.clerk.stats.dropped(Counted::TcpFull);
                if complaint.is_due() {
                    tracing::warn!(%error, "connections for DNS over HTTPS cannot be accepted; trying on");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection until it ends or its place is given to another; the place is given back when it ends.
async fn sit(stream: TcpStream, peer: SocketAddr, place: Place, https: Arc<Https>, stopping: watch::Receiver<bool>) {
    tokio::select! {
        why = place.is_to_leave() => https.clerk.stats.dropped(why),
        () = serve(stream, peer, place.share(), https.clone(), stopping) => {}
    }
}

/// Serves a connection.
async fn serve(stream: TcpStream, peer: SocketAddr, share: Share, https: Arc<Https>, mut stopping: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok().map(|address| address.ip());
    let handshake = https.tls.accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_OCTETS_MAX)));
    let stream = tokio::select! {
        // Nobody was promised an answer yet.
        _ = stopping.wait_for(|stop| *stop) => return,
        shaken = timeout(HANDSHAKE_TIME_MAX, handshake) => match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return https.clerk.stats.dropped(Counted::TcpTimeout),
        },
    };
    share.note();
    let guest = Guest {
        share,
        under_way: Arc::default(),
    };
    if is_http2(&stream) {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_OCTETS_MAX as u32)
            .max_send_buf_size(SEND_OCTETS_MAX)
            .initial_stream_window_size(RECEIVE_WINDOWS.0)
            .initial_connection_window_size(RECEIVE_WINDOWS.1);
        let service = service(https.clone(), guest.clone(), peer, local);
        let connection = http2.serve_connection(TokioIo::new(stream), service);
        watch_over(connection, |connection| connection.graceful_shutdown(), &guest, &https, stopping).await;
    } else {
        let mut http1 = hyper::server::conn::http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_TIME_MAX)
            .max_buf_size(HEAD_OCTETS_MAX);
        let service = service(https.clone(), guest.clone(), peer, local);
        let connection = http1.serve_connection(TokioIo::new(stream), service);
        watch_over(connection, |connection| connection.graceful_shutdown(), &guest, &https, stopping).await;
    }
}

/// Whether the client chose HTTP/2. One without ALPN gets HTTP/1.1, as ever.
fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// The service of a connection.
fn service(
    https: Arc<Https>,
    guest: Guest,
    peer: SocketAddr,
    local: Option<IpAddr>,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = hyper::Response<Full<Bytes>>,
    Error = std::convert::Infallible,
    Future = impl Future<Output = Result<hyper::Response<Full<Bytes>>, std::convert::Infallible>> + Send + 'static,
> {
    service_fn(move |request| {
        let (https, share, ticket) = (https.clone(), guest.share.clone(), guest.under_way.begin());
        async move {
            let response = exchange::exchange(&https.clerk, &https.path, &share, request, peer, local).await;
            Ok(response.map(|answer| Full::new(ticket.on(answer))))
        }
    })
}

/// Drives a connection until it ends, has been silent too long, or the server stops.
async fn watch_over<C, E>(
    connection: C,
    mut tell_to_go: impl FnMut(Pin<&mut C>),
    guest: &Guest,
    https: &Https,
    mut stopping: watch::Receiver<bool>,
) where
    C: Future<Output = Result<(), E>>,
{
    let mut connection = pin!(connection);
    let is_silent = async {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if guest.is_silent() {
                return;
            }
        }
    };
    let is_stop = tokio::select! {
        // It ended by itself; how is of no interest to anybody.
        _ = connection.as_mut() => return,
        () = is_silent => false,
        _ = stopping.wait_for(|stop| *stop) => true,
    };
    if !is_stop {
        https.clerk.stats.dropped(Counted::TcpTimeout);
    }
    let grace = if is_stop && guest.is_owed_nothing() { GOOD_BYE } else { GRACE };
    tell_to_go(connection.as_mut());
    let _ = timeout(grace, connection).await;
}
