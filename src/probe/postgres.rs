//! `kind = "postgres"`: logs in, asks whether the server is in recovery, and how far behind.
//!
//! A primary is `active`, a standby `passive`; a server that does not answer says nothing. Each run logs in
//! anew, since that is what clients of the application do, and what a full server refuses. The connection is
//! driven inside the run, so nothing of it outlives the time limit; what the server may send is bounded. The
//! server is told to give up the query at the time limit too.
//!
//! Over TLS the login is bound to the server's certificate (SCRAM-SHA-256-PLUS with tls-server-end-point, RFC 5929
//! section 4) where the server offers that and the certificate's signature has a hash; where not, plain SCRAM is spoken
//! inside the verified TLS. Without TLS nobody knows who answers: a server that wants the password itself does not get it.
//!
//! **Lag.** `lag-bytes` is what the standby has received, or knows from its primary that there is, and has not replayed.
//! `lag-seconds` is the age of the last transaction that it replayed, and 0 when `lag-bytes` is 0: a standby whose
//! primary is gone has replayed all that it will ever get, and must not look sick for that when it is needed. Whether it
//! still has a connection to its primary is `replicating`. A server that does not know these functions reports none.

use super::files::Files;
use super::secure::{Bounded, Secure, connect, password};
use super::tls::Trust;
use super::words::{CLOSED, failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{Exposed, FailReason, Failure, Observed, PostgresProbe, ProbeTarget, fact_number, show_duration};
use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Most octets that are read from a server in one run.
const OCTETS_MAX: usize = 1 << 20;
/// How far behind a standby is. Only a member of pg_monitor sees what the primary has; GREATEST skips what is NULL.
const LAG: &str = "SELECT octets, \
    CASE WHEN octets = 0 THEN 0 ELSE pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END, \
    streaming FROM (SELECT GREATEST(pg_catalog.pg_wal_lsn_diff(GREATEST(pg_catalog.pg_last_wal_receive_lsn(), \
    (SELECT latest_end_lsn FROM pg_catalog.pg_stat_wal_receiver)), pg_catalog.pg_last_wal_replay_lsn()), 0) AS octets, \
    EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) AS streaming) AS standby";

/// One probe at one address.
pub(super) struct Postgres {
    /// Where to.
    peer: SocketAddr,
    /// How to log in and what to ask.
    probe: PostgresProbe,
    /// After how long the server gives up our query.
    timeout: Duration,
    /// Reads the password.
    files: Arc<Files>,
    /// TLS; none: in the clear.
    secure: Option<Secure>,
}

impl Postgres {
    /// The probe at its target.
    pub fn new(probe: &PostgresProbe, target: &ProbeTarget, timeout: Duration, trust: &Arc<Trust>) -> Postgres {
        Postgres {
            peer: SocketAddr::new(target.address, probe.port),
            probe: probe.clone(),
            timeout,
            files: Arc::clone(&trust.files),
            secure: probe.tls.as_ref().map(|options| Secure::new(options, target, trust)),
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Found {
        let mut seen = Learnt::default();
        let result = self.ask(stage, &mut seen).await.map(|()| seen.note());
        Found {
            result,
            observed: seen.observed,
            exposed: seen.exposed,
        }
    }

    /// Logs in and asks; what was learnt about the role stays known when a later step fails.
    async fn ask(&self, stage: &Stage, seen: &mut Learnt) -> Result<(), Failure> {
        let mut config = Config::new();
        config
            .user(&self.probe.user)
            .dbname(&self.probe.database)
            .application_name("pointsman");
        if let Some(path) = &self.probe.password_file {
            config.password(password(path, &self.files, stage).await?);
        }
        let stream = connect(self.peer, OCTETS_MAX, stage).await?;
        match &self.secure {
            None => {
                config.ssl_mode(SslMode::Disable);
                self.talk(&config, Clear::new(stream), NoTls, stage, seen).await
            }
            Some(secure) => {
                config.ssl_mode(SslMode::Require);
                self.talk(&config, stream, Handshake { secure, stage }, stage, seen).await
            }
        }
    }

    /// Logs in over a connection and asks.
    async fn talk<S, T>(&self, config: &Config, stream: S, tls: T, stage: &Stage, seen: &mut Learnt) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        T: TlsConnect<S>,
    {
        stage.set("no login");
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(|error| words(&error))?;
        stage.set("no answer to the query");
        tokio::select! {
            result = self.queries(&client, seen) => result,
            ended = connection => match ended {
                Err(error) => Err(words(&error)),
                Ok(()) => Err(failure(FailReason::Connect, CLOSED)),
            },
        }
    }

    /// Whether it is in recovery, how far behind, then the operator's own query.
    async fn queries(&self, client: &Client, seen: &mut Learnt) -> Result<(), Failure> {
        let limit = self.timeout.as_millis().max(1);
        let ask = format!("SET statement_timeout = {limit}; SELECT pg_catalog.pg_is_in_recovery()");
        let row = first_row(client, &ask).await.map_err(|error| words(&error))?;
        seen.observed = Some(match row.first().and_then(Option::as_deref) {
            Some("f") => Observed::Active,
            Some("t") => Observed::Passive,
            _ => return Err(failure(FailReason::Protocol, "the server does not say whether it is in recovery")),
        });
        match seen.observed {
            Some(Observed::Passive) => match first_row(client, LAG).await {
                Ok(row) => seen.behind(&row),
                // An older server, or one that is alike: no lag is known there.
                Err(error) if error.as_db_error().is_some() => {}
                Err(error) => return Err(words(&error)),
            },
            _ => seen.at_the_head(),
        }
        if let Some(query) = &self.probe.query {
            let row = first_row(client, query).await.map_err(|error| words(&error))?;
            if let Some(Some(first)) = row.into_iter().next() {
                seen.exposed.fact("result", first);
            }
        }
        Ok(())
    }
}

impl Kind for Postgres {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(self.check(stage))
    }
}

/// What a run has learnt so far.
#[derive(Default)]
struct Learnt {
    /// Primary or standby.
    observed: Option<Observed>,
    /// Lag and result.
    exposed: Exposed,
    /// How far behind a standby is, and whether it has a connection to its primary.
    behind: Option<(Option<f64>, bool)>,
}

impl Learnt {
    /// A primary.
    fn at_the_head(&mut self) {
        self.exposed.fact("lag-bytes", 0);
        self.exposed.fact("lag-seconds", 0);
    }

    /// A standby's answer to [`LAG`].
    fn behind(&mut self, row: &[Option<String>]) {
        let number = |at: usize| row.get(at)?.as_deref()?.parse::<f64>().ok();
        // The clocks of two servers may differ by more than the lag is.
        let seconds = number(1).map(|seconds| seconds.max(0.0));
        if let Some(octets) = number(0) {
            self.exposed.fact("lag-bytes", fact_number(octets));
        }
        if let Some(seconds) = seconds {
            self.exposed.fact("lag-seconds", fact_number(seconds));
        }
        let streaming = row.get(2).is_some_and(|one| one.as_deref() == Some("t"));
        self.exposed.fact("replicating", streaming);
        self.behind = Some((seconds, streaming));
    }

    /// In words.
    fn note(&self) -> String {
        if self.observed != Some(Observed::Passive) {
            return "primary".to_owned();
        }
        let mut note = "standby".to_owned();
        if let Some((seconds, streaming)) = self.behind {
            if let Some(seconds) = seconds {
                let millis = Duration::from_secs_f64(seconds.min(1e9)).as_millis();
                let shown = show_duration(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)));
                note.push_str(&format!(", {shown} behind"));
            }
            if !streaming {
                note.push_str(", without a connection to its primary");
            }
        }
        note
    }
}

/// The columns of the first row of an answer, as text; empty: no row.
async fn first_row(client: &Client, query: &str) -> Result<Vec<Option<String>>, tokio_postgres::Error> {
    let rows = client.simple_query(query).await?;
    let first = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let column = |row: &tokio_postgres::SimpleQueryRow, at| row.try_get(at).ok().flatten().map(str::to_owned);
    Ok(first.map_or_else(Vec::new, |row| (0..row.len()).map(|at| column(row, at)).collect()))
}

/// Class and words of an error, by SQLSTATE where the server gave one.
fn words(error: &tokio_postgres::Error) -> Failure {
    if let Some(said) = error.as_db_error() {
        let (code, text) = (said.code().code(), said.message());
        return match code.get(..2) {
            // Invalid authorization; no such database; no right to it.
            Some("28" | "3D") => failure(FailReason::Auth, format!("login refused: {text}")),
            _ if code == "42501" => failure(FailReason::Auth, text),
            // Starting up, shutting down, too many clients.
            Some("57" | "53") if code != "57014" => failure(FailReason::Status, text),
            _ => failure(FailReason::Content, format!("query failed: {text} (SQLSTATE {code})")),
        };
    }
    let source = std::error::Error::source(error);
    let wrapped = source.and_then(|source| source.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref());
    if let Some(Refused(failure)) = source.and_then(|source| source.downcast_ref()).or(wrapped) {
        return failure.clone();
    }
    if let Some(found) = source.and_then(|source| super::words::failure_in_chain(source, "")) {
        return match source.and_then(|source| source.downcast_ref::<io::Error>()) {
            // What the reader of messages, or our own bound, does not accept.
            Some(io) if matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => failure(
                FailReason::Protocol,
                format!("the server does not speak the PostgreSQL protocol: {io}"),
            ),
            _ => found,
        };
    }
    let text = error.to_string();
    match source {
        // Ours are told above; what is left is that the server declined to start it.
        Some(_) if text.starts_with("error performing TLS") => failure(FailReason::Tls, "the server does not offer TLS"),
        _ if error.is_closed() => failure(FailReason::Connect, CLOSED),
        Some(source) if text.starts_with("invalid configuration") || text.starts_with("authentication") => {
            failure(FailReason::Auth, format!("login failed: {source}"))
        }
        Some(source) => failure(FailReason::Protocol, format!("{text}: {source}")),
        None => failure(FailReason::Protocol, text),
    }
}

/// The connection before TLS.
type Plain = Bounded<TcpStream>;

/// The connection where it stays without TLS, up to the first word of the server about how to log in.
struct Clear {
    /// The connection.
    stream: Plain,
    /// What came first: type, length and kind of the first message.
    head: Vec<u8>,
}

/// Octets of an authentication request up to its kind (PostgreSQL protocol, section "Message Formats").
const REQUEST_OCTETS: usize = 9;

impl Clear {
    /// Of which nothing came yet.
    fn new(stream: Plain) -> Clear {
        let head = Vec::with_capacity(REQUEST_OCTETS);
        Clear { stream, head }
    }

    /// Whether what came first is AuthenticationCleartextPassword. Only the first message can be answered with the password.
    fn is_asked_in_full(&mut self, came: &[u8]) -> bool {
        if self.head.len() == REQUEST_OCTETS {
            return false;
        }
        let missing = REQUEST_OCTETS - self.head.len();
        self.head.extend(came.iter().take(missing));
        self.head.len() == REQUEST_OCTETS && self.head.first() == Some(&b'R') && self.head.ends_with(&[0, 0, 0, 3])
    }
}

impl AsyncRead for Clear {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.is_asked_in_full(buffer.filled().get(before..).unwrap_or_default()) {
            let words = "the server wants the password itself, which is sent over TLS only: set tls = \"require\"";
            return Poll::Ready(Err(io::Error::other(Refused(failure(FailReason::Auth, words)))));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Clear {
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

/// The handshake when the server agreed to one.
struct Handshake<'a> {
    /// How.
    secure: &'a Secure,
    /// How far the run has come.
    stage: &'a Stage,
}

/// What we refused, on its way through the library.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
struct Refused(Failure);

impl<'a> TlsConnect<Plain> for Handshake<'a> {
    type Stream = Encrypted;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, Refused>> + Send + 'a>>;

    fn connect(self, stream: Plain) -> Self::Future {
        Box::pin(async move {
            let stream = self.secure.handshake(stream, &[b"postgresql"], self.stage).await.map_err(Refused)?;
            self.stage.set("no login");
            Ok(Encrypted(stream))
        })
    }
}

/// The connection inside TLS.
struct Encrypted(tokio_rustls::client::TlsStream<Plain>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        let chain = self.0.get_ref().1.peer_certificates();
        let bound = chain.and_then(<[_]>::first).and_then(|certificate| {
            let hash = signature_hash(certificate)?;
            Some(digest(hash, certificate).as_ref().to_vec())
        });
        bound.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// The hash that a certificate is bound by (RFC 5929 section 4.1): that of its signature, SHA-256 for MD5 and SHA-1; none
/// where the signature has none of its own, for which the RFC defines nothing.
fn signature_hash(certificate: &[u8]) -> Option<&'static Algorithm> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { algorithm OBJECT IDENTIFIER, … }, … }
    // (RFC 5280 section 4.1).
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (whole, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(whole, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    match identifier {
        // 1.2.840.113549.1.1: MD5, SHA-1, SHA-256, SHA-384 and SHA-512 with RSA (RFC 4055 section 5).
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4 | 5 | 11] => Some(&SHA256),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12] => Some(&SHA384),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 13] => Some(&SHA512),
        // 1.2.840.10045.4: ECDSA with SHA-1, and with SHA-256, SHA-384 and SHA-512 below 3 (RFC 5758 section 3.2).
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 2] => Some(&SHA256),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3] => Some(&SHA384),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 4] => Some(&SHA512),
        _ => None,
    }
}

/// One element of DER with this tag: its content, and what follows it (X.690 section 8.1).
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    match first {
        0..=0x7f => rest.split_at_checked(usize::from(*first)),
        // Certificates are shorter than 16 MiB, as TLS sends them.
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
            rest.split_at_checked(length)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_bound_by_the_hash_of_their_signature() {
        let cases: [(&rcgen::SignatureAlgorithm, Option<&Algorithm>); 3] = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(&SHA256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(&SHA384)),
            (&rcgen::PKCS_ED25519, None),
        ];
        for (algorithm, hash) in cases {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(vec!["db.example.net".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(signature_hash(certificate.der()), hash);
            // Cut anywhere it is read to no end beyond it.
            for end in 0..certificate.der().len() {
                let _ = signature_hash(&certificate.der()[..end]);
            }
        }
        assert_eq!(signature_hash(&[0x30, 0x83, 0xff, 0xff, 0xff, 0x30]), None);
        assert_eq!(signature_hash(b"no certificate"), None);
    }
}
