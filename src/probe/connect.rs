//! Connections of the kinds that speak over a stream: TCP, and TLS on top of it.
//!
//! A [`Stream`] is all that is kept between two runs: no task stands behind it and no buffer of ours, so that ten
//! thousand of them are cheap. [`Stream::poll_lost`] tells whether the peer has given it up.

use super::Stage;
use super::tls::SecureWith;
use super::words::{CLOSED, failure, failure_in_chain, io_failure};
use crate::model::{FailReason, Failure};
use rustls_pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection to an endpoint, over which only so many octets are taken in.
#[derive(Debug)]
pub(super) enum Stream {
    /// TCP as it is.
    Plain(Metered),
    /// TLS over TCP; in a box, since it is large.
    Tls(Box<TlsStream<Metered>>),
}

/// TCP of which only so many octets are taken in, whatever is done with them: counted below TLS, since what TLS says about
/// itself (tickets, updates of keys) never comes out of it.
#[derive(Debug)]
pub(super) struct Metered {
    /// The connection.
    stream: TcpStream,
    /// How much may still come.
    allowance: Allowance,
}

/// How many octets may still come over a stream; shared with whoever grants more.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// From now on this many may come.
    pub fn grant(&self, octets: usize) {
        self.0.store(octets, Ordering::Relaxed);
    }

    /// How many may still come.
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens a TCP connection.
///
/// # Errors
/// In words of the network.
pub(super) async fn open(peer: SocketAddr, stage: &Stage) -> Result<TcpStream, Failure> {
    stage.set("no connection");
    let stream = TcpStream::connect(peer).await.map_err(|error| io_failure(&error))?;
    // Questions are short and sent whole; waiting for more to send would only delay them. Where it cannot be set, they are
    // delayed.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Shakes hands over TLS with the server called `host`, a name or an address.
///
/// # Errors
/// What was wrong with the certificate, the alert of the server, or that it does not speak TLS.
pub(super) async fn secure<S>(stream: S, with: &SecureWith, host: &str, stage: &Stage) -> Result<TlsStream<S>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stage.set("no TLS handshake");
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| failure(FailReason::Internal, format!("no certificate can be valid for {host}")))?;
    let connector = TlsConnector::from(with.config.clone());
    connector.connect(name, stream).await.map_err(|error| {
        match failure_in_chain(&error, host) {
            // TCP has no such end while connecting: it is the handshake's.
            Some(found) if found.message == CLOSED => failure(FailReason::Tls, "connection closed during the TLS handshake"),
            Some(found) => found,
            None => io_failure(&error),
        }
    })
}

impl Stream {
    /// How much may still come.
    pub fn allowance(&self) -> &Allowance {
        match self {
            Stream::Plain(stream) => &stream.allowance,
            Stream::Tls(stream) => &stream.get_ref().0.allowance,
        }
    }

    /// The protocol that was agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Ready when an idle connection is of no more use: it ended, broke, or the peer says something unasked.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut octet = [0; 1];
        // What TLS says below the application (tickets, key updates) is taken in here and is no reason to give up, up to a point.
        ready!(Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut octet))).unwrap_or_default();
        Poll::Ready(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Metered {
    /// A connection over which this many octets may come.
    pub fn new(stream: TcpStream, octets: usize) -> Metered {
        let allowance = Allowance::default();
        allowance.grant(octets);
        Metered { stream, allowance }
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let metered = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut metered.stream).poll_read(cx, buf))?;
        let came = buf.filled().len() - before;
        // Whoever reads is the only one who takes away.
        let left = metered.allowance.left().checked_sub(came);
        metered.allowance.grant(left.unwrap_or_default());
        match left {
            Some(_) => Poll::Ready(Ok(())),
            None => Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into())),
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
