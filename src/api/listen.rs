//! The accept loops and the connections, the same for every kind of stream.
//!
//! A handshake, a look into the user database and a request run in the connection's own task, never on the accept path. The
//! number of connections is bounded, in all and a client; one beyond it is closed at once, so that the client can try another node. A head must
//! arrive within [`HEAD_TIME_MAX`], on a kept connection too.

use super::StartError;
use super::caller::Peer;
use super::clients::Clients;
use super::patience::Patient;
use super::socket;
use crate::seldom::Seldom;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Longest time for a request's head to arrive, and for a kept connection to be silent.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Octets of a request's head after which no more is read; hyper looks after each read, so a head may have up to twice as many.
const HEAD_OCTETS_MAX: usize = 16 * 1024;
/// Longest time for a TLS handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the accept loop waits after a failure, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds a TCP listener.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| {
        let what = match (source.kind(), crate::holder::find(address, "tcp")) {
            (std::io::ErrorKind::AddrInUse, Some(holder)) => format!("{holder} listens there; stop it, or set another `listen` in [api]"),
            (std::io::ErrorKind::AddrInUse, None) => {
                "another process listens there (`ss -ltnp` tells root which); stop it, or set another `listen` in [api]".to_owned()
            }
            _ => "set another `listen` in [api]".to_owned(),
        };
        StartError::Listen { address, what, source }
    })
}

/// The connections of one listener.
pub(super) struct Connections {
    router: Router,
    stopping: watch::Receiver<bool>,
    places: Arc<Semaphore>,
    tasks: JoinSet<()>,
    /// That none can be taken, and that there are as many as may be.
    unable: Seldom,
    full: Seldom,
}

impl Connections {
    /// No connections yet, at most `most`.
    pub fn new(router: Router, stopping: watch::Receiver<bool>, most: usize) -> Connections {
        Connections {
            router,
            stopping,
            places: Arc::new(Semaphore::new(most)),
            tasks: JoinSet::new(),
            unable: Seldom::default(),
            full: Seldom::default(),
        }
    }

    /// Accepts TCP connections until the stop.
    pub async fn accept_tcp(mut self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        let clients = Clients::default();
        let crowded = Seldom::default();
        while let Some((stream, peer)) = self.next(|| listener.accept()).await {
            // Dropped, and so closed.
            let Some(place) = clients.admit(peer.ip()) else {
                if crowded.is_due() {
                    tracing::warn!(client = %peer.ip(), "a client has as many connections to the API as it may; further ones are closed");
                }
                continue;
            };
            let (tls, router, stopping) = (tls.clone(), self.router.clone(), self.stopping.clone());
            self.spawn(async move {
                serve_tcp(stream, tls, router, stopping).await;
                drop(place);
            });
        }
        drop(listener);
        self.finish().await;
    }

    /// Accepts connections on the Unix socket until the stop.
    pub async fn accept_unix(mut self, listener: UnixListener, group: u32) {
        while let Some((stream, _)) = self.next(|| listener.accept()).await {
            let (router, stopping) = (self.router.clone(), self.stopping.clone());
            self.spawn(serve_unix(stream, group, router, stopping));
        }
        drop(listener);
        self.finish().await;
    }

    /// The next connection; none at the stop. Clears away ended ones meanwhile.
    async fn next<T, F: Future<Output = std::io::Result<T>>>(&mut self, accept: impl Fn() -> F) -> Option<T> {
        loop {
            tokio::select! {
                () = stopped(&mut self.stopping) => return None,
                Some(_) = self.tasks.join_next() => {}
                accepted = accept() => match accepted {
                    Ok(stream) => return Some(stream),
                    Err(error) => {
                        if self.unable.is_due() {
                            tracing::warn!(%error, "the API cannot take a connection; trying on");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    /// Serves a connection in a task of its own, if there is a place for it.
    fn spawn(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => {
                self.tasks.spawn(async move {
                    let _place = place;
                    connection.await;
                });
            }
            // Dropped, and so closed.
            Err(_) if !self.full.is_due() => {}
            Err(_) => {
                tracing::warn!("the API has as many connections as it takes; further ones are closed");
            }
        }
    }

    /// Waits a little for the requests under way.
    async fn finish(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(super::STOP_PATIENCE, all).await.is_err() {
            tracing::warn!("requests under way were broken off");
            self.tasks.shutdown().await;
        }
    }
}

/// One TCP connection, with its handshake where TLS is spoken.
async fn serve_tcp(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, stopping: watch::Receiver<bool>) {
    // Small responses should not wait for an acknowledgement; without the option they are only slower.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let peer = Peer::Tcp { local, tls: tls.is_some() };
    let Some(acceptor) = tls else {
        return serve(stream, peer, router, stopping).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, peer, router, stopping).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

/// One connection on the Unix socket.
async fn serve_unix(stream: UnixStream, group: u32, router: Router, stopping: watch::Receiver<bool>) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let (uid, gid) = (credentials.uid(), credentials.gid());
    if let Ok(peer) = tokio::task::spawn_blocking(move || socket::peer(uid, gid, group)).await {
        serve(stream, peer, router, stopping).await;
    }
}

/// Requests of one connection, until it ends or the server stops.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_OCTETS_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(?error, "connection to the API ended");
    }
}

/// Returns when the server stops.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone, which is a stop too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
