//! `kind = "tls"`: a handshake that is verified, and what the server's certificate says.
//!
//! Nothing is sent over the connection but its end. That end matters: with TLS 1.3 a client's handshake is over before the
//! server has looked at the client's certificate, or missed it, and the refusal comes after (RFC 8446 section 4.4.2.4). So
//! the connection is closed in order and what the server says to that is waited for, a moment.

use super::certificate::Shown;
use super::secure::Secure;
use super::tls::Trust;
use super::words::{failure, failure_in_chain};
use super::{Found, Kind, RunFuture, Stage, connect};
use crate::model::{Exposed, FailReason, Failure, ProbeTarget, TlsProbe};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// How long a refusal is waited for after the handshake, and at most half of the time that is left then.
const REFUSAL_WITHIN: Duration = Duration::from_millis(250);

/// One probe at one address.
pub(super) struct Handshake {
    /// Where to.
    peer: SocketAddr,
    /// How.
    secure: Secure,
    /// Application protocols to offer.
    alpn: Vec<String>,
    /// How long a run may take.
    timeout: Duration,
}

impl Handshake {
    /// The probe at its target.
    pub fn new(probe: &TlsProbe, target: &ProbeTarget, timeout: Duration, trust: &Arc<Trust>) -> Handshake {
        Handshake {
            peer: SocketAddr::new(target.address, probe.port),
            secure: Secure::new(&probe.options, target, trust).showing(probe.identity.clone()),
            alpn: probe.alpn.clone(),
            timeout,
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage, exposed: &mut Exposed) -> Result<String, Failure> {
        let began = Instant::now();
        let stream = connect::open(self.peer, stage).await?;
        let offered: Vec<&[u8]> = self.alpn.iter().map(String::as_bytes).collect();
        let mut stream = self.secure.handshake(stream, &offered, stage).await?;
        let session = stream.get_ref().1;
        let taken = session.alpn_protocol().map(|taken| String::from_utf8_lossy(taken).into_owned());
        let shown = session.peer_certificates().and_then(Shown::of);
        let days = shown.and_then(|shown| shown.days_left());
        if let Some(days) = days {
            exposed.fact("certificate-days", days);
        }
        if let Some(shown) = shown {
            exposed.fact("chain-length", shown.chain);
        }
        match taken {
            Some(taken) => exposed.fact("alpn", taken),
            None if self.alpn.is_empty() => {}
            None => {
                return Err(failure(
                    FailReason::Protocol,
                    "the server speaks none of the protocols that were offered",
                ));
            }
        }
        stage.set("no word after the TLS handshake");
        // Silence is no refusal, so it must be over before the time of the run is.
        let left = self.timeout.saturating_sub(began.elapsed());
        refusal(&mut stream, REFUSAL_WITHIN.min(left / 2)).await?;
        let host = &self.secure.host;
        Ok(match days {
            Some(1) => format!("certificate for {host} has 1 day left"),
            Some(days) => format!("certificate for {host} has {days} days left"),
            None => format!("certificate for {host} is good"),
        })
    }
}

impl Kind for Handshake {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(async move {
            let mut exposed = Exposed::default();
            let result = self.check(stage, &mut exposed).await;
            Found {
                exposed,
                ..Found::of(result)
            }
        })
    }
}

/// Ends the connection in order; an error when the server refuses it instead. Silence, an end without a word, and anything
/// that it has to say are no refusal.
async fn refusal(stream: &mut TlsStream<TcpStream>, within: Duration) -> Result<(), Failure> {
    let end = async {
        stream.shutdown().await?;
        stream.read(&mut [0; 1]).await
    };
    match tokio::time::timeout(within, end).await {
        Ok(Err(error)) => match failure_in_chain(&error, "the server") {
            Some(found) if found.reason == FailReason::Tls => Err(found),
            _ => Ok(()),
        },
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
