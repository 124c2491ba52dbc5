//! DNS over TLS, QUIC and HTTPS: their sockets, and what runs behind them.
//!
//! TLS has lanes as TCP has, apart from them. QUIC and HTTPS run on a tokio runtime of their own, so that neither the API nor
//! the writer nor any other transport waits behind a flood of handshakes. All show the same certificate, which follows its files.

use super::bind::{self, BindError, HTTPS_CONNECTIONS_MAX, QUIC_CONNECTIONS_MAX, TLS_CONNECTIONS_MAX, connections_max};
use super::clerk::Clerk;
use super::https::{self, Https};
use super::quic::{self, Quic};
use super::sitting::Sitting;
use super::stats::Stats;
use super::stream::{self, Room};
use super::{Running, Runtime};
use crate::answer::{Snapshot, Transport};
use crate::model::EncryptedListen;
use crate::seldom::Seldom;
use crate::tls::Certificates;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Sockets that are taken; nothing is answered yet.
#[derive(Debug)]
pub(super) struct Encrypted {
    /// Where TLS is served: a listener a lane each.
    tls: Vec<(SocketAddr, Vec<Socket>)>,
    /// Where QUIC is served.
    quic: Vec<(SocketAddr, Socket)>,
    /// Where HTTPS is served.
    https: Vec<(SocketAddr, Socket)>,
    /// The path of HTTPS.
    https_path: String,
    /// What is shown to clients.
    certificates: Arc<Certificates>,
    /// Lanes, and threads of the runtime.
    workers: usize,
}

impl Encrypted {
    /// Takes every address.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(super) fn bind(listen: &EncryptedListen, certificates: Arc<Certificates>, workers: usize) -> Result<Encrypted, BindError> {
        let tls = listen.tls.iter().map(|address| bind::stream_listeners(*address, workers));
        let quic = listen.quic.iter().map(|address| bind::quic_socket(*address));
        let https = listen.https.iter().map(|address| {
            let (address, mut sockets) = bind::stream_listeners(*address, 1)?;
            let socket = sockets.pop().ok_or_else(|| BindError::Start(io::ErrorKind::NotFound.into()))?;
            Ok((address, socket))
        });
        Ok(Encrypted {
            tls: tls.collect::<Result<_, _>>()?,
            quic: quic.collect::<Result<_, _>>()?,
            https: https.collect::<Result<_, BindError>>()?,
            https_path: listen.https_path.clone(),
            certificates,
            workers,
        })
    }

    /// Where they listen, ports filled in.
    pub(super) fn addresses(&self) -> Vec<(Transport, SocketAddr)> {
        let tls = self.tls.iter().map(|(address, _)| (Transport::Tls, *address));
        let quic = self.quic.iter().map(|(address, _)| (Transport::Quic, *address));
        let https = self.https.iter().map(|(address, _)| (Transport::Https, *address));
        tls.chain(quic).chain(https).collect()
    }

    /// Begins to answer.
    ///
    /// # Errors
    /// When a thread cannot be started, or TLS not be spoken.
    pub(super) fn start(mut self, running: &mut Running, source: &Arc<ArcSwap<Snapshot>>, stats: &Stats) -> Result<(), BindError> {
        running.encrypted_addresses = self.addresses();
        if !self.tls.is_empty() {
            self.start_tls(running, source, stats)?;
        }
        if self.quic.is_empty() && self.https.is_empty() {
            return Ok(());
        }
        let runtime = Runtime::new("dns-tls", self.workers).map_err(BindError::Start)?;
        let _inside = runtime.tokio.enter();
        self.start_quic(&runtime, source, stats).map_err(BindError::Start)?;
        self.start_https(&runtime, source, stats).map_err(BindError::Start)?;
        drop(_inside);
        running.runtime = Some(runtime);
        Ok(())
    }

    /// Starts the lanes of TLS.
    fn start_tls(&mut self, running: &mut Running, source: &Arc<ArcSwap<Snapshot>>, stats: &Stats) -> Result<(), BindError> {
        let config = Arc::new(self.server_config(&[b"dot"]).map_err(BindError::Start)?);
        let room = Room::new(connections_max(TLS_CONNECTIONS_MAX));
        let complaint = Seldom::default();
        let listeners = bind::by_lane(std::mem::take(&mut self.tls).into_iter().map(|(_, sockets)| sockets));
        for listeners in listeners {
            running.start_stream_lane(stream::Parts {
                listeners,
                transport: Transport::Tls,
                tls: Some(config.clone()),
                room: room.clone(),
                held_max: stream::HELD_OCTETS_MAX,
                complaint: complaint.clone(),
                source: source.clone(),
                stats: stats.lane(Transport::Tls),
                is_stopping: running.is_stopping.clone(),
            })?;
        }
        Ok(())
    }

    /// Starts QUIC.
    fn start_quic(&mut self, runtime: &Runtime, source: &Arc<ArcSwap<Snapshot>>, stats: &Stats) -> io::Result<()> {
        if self.quic.is_empty() {
            return Ok(());
        }
        let config = quic::server_config(self.server_config(&[b"doq"])?)?;
        let quic = Arc::new(Quic {
            clerk: Clerk::new(source.clone(), stats.lane(Transport::Quic), Transport::Quic),
            sitting: Sitting::new(Room::new(QUIC_CONNECTIONS_MAX)),
        });
        for (_, socket) in self.quic.drain(..) {
            quic::start(socket.into(), config.clone(), quic.clone(), runtime.stopping())?;
        }
        Ok(())
    }

    /// Starts HTTPS.
    fn start_https(&mut self, runtime: &Runtime, source: &Arc<ArcSwap<Snapshot>>, stats: &Stats) -> io::Result<()> {
        let config = self.server_config(&[b"h2", b"http/1.1"])?;
        let https = Arc::new(Https {
            clerk: Clerk::new(source.clone(), stats.lane(Transport::Https), Transport::Https),
            path: self.https_path.clone(),
            sitting: Sitting::new(Room::new(connections_max(HTTPS_CONNECTIONS_MAX))),
            tls: Arc::new(config).into(),
        });
        for (_, socket) in self.https.drain(..) {
            let listener = tokio::net::TcpListener::from_std(socket.into())?;
            tokio::spawn(https::accept(listener, https.clone(), runtime.stopping()));
        }
        Ok(())
    }

    /// TLS with the certificate. Sessions are resumed by tickets, which cost the server no memory (RFC 5077, RFC 8446 §4.6.1).
    fn server_config(&self, alpn: &[&[u8]]) -> io::Result<ServerConfig> {
        let mut config = self.certificates.server_config(alpn).map_err(io::Error::other)?;
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(io::Error::other)?;
        Ok(config)
    }
}
