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
pub(super) struct Stream {
    /// The connection.
    link: Link,
    /// How much may still come.
    allowance: Allowance,
}

/// With or without TLS.
#[derive(Debug)]
enum Link {
    /// TCP as it is.
    Plain(TcpStream),
    /// TLS over TCP; in a box, since it is large.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How many octets may still come over a stream; shared with whoever grants more.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// From now on this many may come.
    pub fn grant(&self, octets: usize) {
        self.0.store(octets, Ordering::Relaxed);
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
    /// TCP as it is.
    pub fn plain(stream: TcpStream) -> Stream {
        Stream::of(Link::Plain(stream))
    }

    /// TLS over TCP.
    pub fn tls(stream: TlsStream<TcpStream>) -> Stream {
        Stream::of(Link::Tls(Box::new(stream)))
    }

    /// Over which nothing may come yet.
    fn of(link: Link) -> Stream {
        let allowance = Allowance::default();
        Stream { link, allowance }
    }

    /// How much may still come.
    pub fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// The protocol that was agreed on by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.link {
            Link::Plain(_) => None,
            Link::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Ready when an idle connection is of no more use: it ended, broke, or the peer says something unasked.
    pub fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut octet = [0; 1];
        // What TLS says below the application (tickets, key updates) is taken in here and is no reason to give up.
        ready!(Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut octet))).unwrap_or_default();
        Poll::Ready(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let before = buf.filled().len();
        ready!(match &mut stream.link {
            Link::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        let came = buf.filled().len() - before;
        // Whoever reads is the only one who takes away.
        match stream.allowance.0.load(Ordering::Relaxed).checked_sub(came) {
            Some(left) => stream.allowance.grant(left),
            None => return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into())),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().link {
            Link::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Link::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().link {
            Link::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Link::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().link {
            Link::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Link::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
