//! `kind = "smtp"`: the greeting of a mail server, EHLO, and TLS where that is wanted (RFC 5321, RFC 3207).
//!
//! No mail is begun. EHLO gives our own address as a literal (RFC 5321 section 4.1.3), so that nothing of this host's name
//! is told or looked up. QUIT ends the session, so that the server counts no broken one.

use super::certificate::Shown;
use super::secure::{Bounded, Secure, connect};
use super::tls::Trust;
use super::words::{CLOSED, clip_bytes, failure, failure_in_chain, io_failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{Exposed, FailReason, Failure, ProbeTarget, SmtpProbe, SmtpTls};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Most octets that are read from a server in one run, the TLS handshake included.
const OCTETS_MAX: usize = 128 * 1024;
/// Most octets of one line: RFC 5321 section 4.5.3.1.5 has 512.
const LINE_OCTETS_MAX: usize = 4096;
/// Most lines of one reply.
const LINES_MAX: usize = 128;
/// Most characters of a server's words in a message.
const SAID_CHARS_MAX: usize = 120;
/// How long the answer to QUIT is waited for.
const GOODBYE: Duration = Duration::from_millis(100);

/// One probe at one address.
pub(super) struct Smtp {
    /// Where to.
    peer: SocketAddr,
    /// TLS, and whether the session begins with it; none: in the clear.
    secure: Option<(SmtpTls, Secure)>,
}

impl Smtp {
    /// The probe at its target.
    pub fn new(probe: &SmtpProbe, target: &ProbeTarget, trust: &Arc<Trust>) -> Smtp {
        let secure = probe.tls.as_ref();
        Smtp {
            peer: SocketAddr::new(target.address, probe.port),
            secure: secure.map(|(when, options)| (*when, Secure::new(options, target, trust))),
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Found {
        let mut exposed = Exposed::default();
        let result = self.ask(stage, &mut exposed).await;
        Found {
            result,
            observed: None,
            exposed,
        }
    }

    /// The whole session.
    async fn ask(&self, stage: &Stage, exposed: &mut Exposed) -> Result<String, Failure> {
        let stream = connect(self.peer, OCTETS_MAX, stage).await?;
        match &self.secure {
            None => {
                let mut session = Session(BufReader::new(stream));
                let banner = session.banner(stage, exposed).await?;
                session.hello(stage).await?;
                session.quit().await;
                Ok(banner)
            }
            Some((SmtpTls::Implicit, secure)) => {
                let mut session = Session(BufReader::new(shake_hands(secure, stream, stage, exposed).await?));
                let banner = session.banner(stage, exposed).await?;
                session.hello(stage).await?;
                session.quit().await;
                Ok(banner)
            }
            Some((SmtpTls::Start, secure)) => {
                let mut session = Session(BufReader::new(stream));
                let banner = session.banner(stage, exposed).await?;
                let offers = session.hello(stage).await?;
                if !offers.iter().any(|offer| offer.eq_ignore_ascii_case("STARTTLS")) {
                    return Err(failure(FailReason::Tls, "the server does not offer STARTTLS"));
                }
                stage.set("no answer to STARTTLS");
                session.ask("STARTTLS", 220).await?;
                // What came before the handshake came in the clear, from anybody.
                if !session.0.buffer().is_empty() {
                    return Err(failure(FailReason::Protocol, "the server goes on in the clear after STARTTLS"));
                }
                let stream = session.0.into_inner();
                // What was said before the handshake is forgotten (RFC 3207 section 4.2).
                let mut session = Session(BufReader::new(shake_hands(secure, stream, stage, exposed).await?));
                session.hello(stage).await?;
                session.quit().await;
                Ok(banner)
            }
        }
    }
}

impl Kind for Smtp {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(self.check(stage))
    }
}

/// The handshake, and what the certificate says.
async fn shake_hands(
    secure: &Secure,
    stream: Bounded<TcpStream>,
    stage: &Stage,
    exposed: &mut Exposed,
) -> Result<TlsStream<Bounded<TcpStream>>, Failure> {
    let stream = secure.handshake(stream, &[], stage).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(Shown::of);
    if let Some(days) = shown.and_then(|shown| shown.days_left()) {
        exposed.fact("certificate-days", days);
    }
    Ok(stream)
}

/// Where a session can be had over.
trait Line: AsyncRead + AsyncWrite + Unpin {
    /// Our own address.
    fn own_address(&self) -> Option<IpAddr>;
}

impl Line for Bounded<TcpStream> {
    fn own_address(&self) -> Option<IpAddr> {
        Some(self.inner().local_addr().ok()?.ip())
    }
}

impl Line for TlsStream<Bounded<TcpStream>> {
    fn own_address(&self) -> Option<IpAddr> {
        self.get_ref().0.own_address()
    }
}

/// A session under way.
struct Session<S>(BufReader<S>);

impl<S: Line> Session<S> {
    /// The greeting: its first line, which is the name of the server and whatever else it says.
    async fn banner(&mut self, stage: &Stage, exposed: &mut Exposed) -> Result<String, Failure> {
        stage.set("no banner");
        let (code, lines) = self.reply().await?;
        let banner = lines.into_iter().next().unwrap_or_default();
        exposed.fact("banner", banner.as_str());
        // 554: no mail service here; 421: not now (RFC 5321 section 3.1).
        match code {
            220 => Ok(banner),
            _ => Err(failure(FailReason::Status, format!("banner is {code} {banner}, expected 220"))),
        }
    }

    /// EHLO; what the server offers.
    async fn hello(&mut self, stage: &Stage) -> Result<Vec<String>, Failure> {
        stage.set("no answer to EHLO");
        let us = match self.0.get_ref().own_address() {
            Some(IpAddr::V4(address)) => format!("[{address}]"),
            Some(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
            None => "[127.0.0.1]".to_owned(),
        };
        let lines = self.ask(&format!("EHLO {us}"), 250).await?;
        // The first line greets.
        Ok(lines.into_iter().skip(1).collect())
    }

    /// One command, to which this must be the answer.
    async fn ask(&mut self, command: &str, expected: u16) -> Result<Vec<String>, Failure> {
        let line = format!("{command}\r\n");
        self.0.write_all(line.as_bytes()).await.map_err(|error| words(&error))?;
        self.0.flush().await.map_err(|error| words(&error))?;
        let (code, lines) = self.reply().await?;
        if code == expected {
            return Ok(lines);
        }
        let verb = command.split(' ').next().unwrap_or_default();
        let said = lines.first().map(String::as_str).unwrap_or_default();
        Err(failure(
            FailReason::Status,
            format!("answer to {verb} is {code} {said}, expected {expected}"),
        ))
    }

    /// QUIT; its answer is only a courtesy.
    async fn quit(&mut self) {
        let _ = tokio::time::timeout(GOODBYE, self.ask("QUIT", 221)).await;
    }

    /// The code of a reply and the text of its lines (RFC 5321 section 4.2.1).
    async fn reply(&mut self) -> Result<(u16, Vec<String>), Failure> {
        let mut lines = Vec::new();
        while lines.len() < LINES_MAX {
            let line = self.line().await?;
            let (code, rest) = line.split_at_checked(3).unwrap_or((line.as_slice(), &[]));
            let code = std::str::from_utf8(code).ok().and_then(|code| code.parse::<u16>().ok());
            let (Some(code @ 200..=599), None | Some((b' ' | b'-', _))) = (code, rest.split_first()) else {
                let message = format!("the server does not speak SMTP: {}", clip_bytes(&line, 60));
                return Err(failure(FailReason::Protocol, message));
            };
            lines.push(clip_bytes(rest.get(1..).unwrap_or_default(), SAID_CHARS_MAX));
            if rest.first() != Some(&b'-') {
                return Ok((code, lines));
            }
        }
        Err(failure(FailReason::Protocol, format!("a reply has more than {LINES_MAX} lines")))
    }

    /// One line without its end.
    async fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        loop {
            let available = self.0.fill_buf().await.map_err(|error| words(&error))?;
            if available.is_empty() {
                return Err(failure(FailReason::Connect, CLOSED));
            }
            let end = available.iter().position(|octet| *octet == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            line.extend_from_slice(available.get(..taken).unwrap_or_default());
            self.0.consume(taken);
            if line.len() > LINE_OCTETS_MAX {
                let message = format!("the server does not speak SMTP: a line is longer than {LINE_OCTETS_MAX} octets");
                return Err(failure(FailReason::Protocol, message));
            }
            if end.is_some() {
                return Ok(line.trim_ascii_end().to_vec());
            }
        }
    }
}

/// A connection that broke, or our own bound.
fn words(error: &io::Error) -> Failure {
    match failure_in_chain(error, "") {
        Some(found) if found.reason == FailReason::Tls => found,
        _ if error.kind() == io::ErrorKind::InvalidData => failure(FailReason::Protocol, format!("the server sends too much: {error}")),
        _ => io_failure(error),
    }
}
