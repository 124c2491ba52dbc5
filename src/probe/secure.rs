//! One connection of a kind that is not http: of which only so much is read, in the clear or over TLS.
//!
//! TLS is verified as for http: trusted certificates of a file or of the system, valid for the name of the config or
//! else for the endpoint. Nothing is kept between runs. Files of passwords are read here too, at each run, so that a
//! changed password needs no reload.

use super::files::Files;
use super::tls::{Trust, Wanted};
use super::words::failure;
use super::{Stage, connect};
use crate::model::{Endpoint, FailReason, Failure, Identity, ProbeTarget, TlsOptions};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Most octets of a password file that are read.
const PASSWORD_OCTETS_MAX: usize = 4096;

/// How a kind does TLS at one address.
pub(super) struct Secure {
    /// What the config says.
    options: TlsOptions,
    /// What is shown of ourselves.
    identity: Option<Identity>,
    /// Name or address that the certificate must be valid for.
    pub host: String,
    /// Whom to trust; shared by all probes.
    trust: Arc<Trust>,
}

impl Secure {
    /// At its target.
    pub fn new(options: &TlsOptions, target: &ProbeTarget, trust: &Arc<Trust>) -> Secure {
        Secure {
            options: options.clone(),
            identity: None,
            host: host_of(options.server_name.as_deref(), target),
            trust: Arc::clone(trust),
        }
    }

    /// The same, showing who asks.
    pub fn showing(self, identity: Option<Identity>) -> Secure {
        Secure { identity, ..self }
    }

    /// The handshake as a client; the application protocols are offered in this order.
    ///
    /// # Errors
    /// With class and words.
    pub async fn handshake<S>(&self, stream: S, alpn: &[&[u8]], stage: &Stage) -> Result<TlsStream<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let wanted = Wanted {
            ca: self.options.ca.clone(),
            identity: self.identity.clone(),
            alpn: alpn.iter().map(|one| one.to_vec()).collect(),
        };
        let with = self.trust.secure(&wanted, stage).await?;
        connect::secure(stream, &with, &self.host, stage).await
    }
}

/// The name of a server: what the config says, or else the endpoint as configured.
pub(super) fn host_of(server_name: Option<&str>, target: &ProbeTarget) -> String {
    match (server_name, &target.endpoint) {
        (Some(name), _) => name.to_owned(),
        (None, Endpoint::Address(address)) => address.to_string(),
        // Certificates have names without the final dot.
        (None, Endpoint::Host(name)) => name.to_string().trim_end_matches('.').to_owned(),
    }
}

/// Connects; what is sent is sent at once.
///
/// # Errors
/// With class and words.
pub(super) async fn connect(peer: SocketAddr, octets_max: usize, stage: &Stage) -> Result<Bounded<TcpStream>, Failure> {
    let stream = connect::open(peer, stage).await?;
    Ok(Bounded {
        stream,
        left: octets_max,
        octets_max,
    })
}

/// The password in a file, as far as a password may go, without what is blank at its end.
///
/// # Errors
/// With class and words.
pub(super) async fn password(path: &Path, files: &Files, stage: &Stage) -> Result<Vec<u8>, Failure> {
    let read = files.read(path, PASSWORD_OCTETS_MAX, stage).await;
    let (text, _) = read.map_err(|error| failure(FailReason::Internal, format!("password file {}: {error}", path.display())))?;
    Ok(text.trim_ascii_end().to_vec())
}

/// A stream that ends with an error after so many octets read.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    /// The connection.
    stream: S,
    /// What may still be read.
    left: usize,
    /// What could be read at first.
    octets_max: usize,
}

impl<S> Bounded<S> {
    /// The connection.
    pub fn inner(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(too_much(self.octets_max)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A peer that sends more than anybody needs.
pub(super) fn too_much(octets_max: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("more than {octets_max} octets"))
}
