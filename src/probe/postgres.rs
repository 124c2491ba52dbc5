//! `kind = "postgres"`: logs in and asks whether the server is in recovery.
//!
//! A primary is `active`, a standby `passive`; a server that does not answer says nothing. Each run logs in
//! anew, since that is what clients of the application do, and what a full server refuses. The connection is
//! driven inside the run, so nothing of it outlives the time limit; what the server may send is bounded. The
//! server is told to give up the query at the time limit too. TLS is not spoken.

use super::words::{failure, io_failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{Exposed, FailReason, Failure, Observed, PostgresProbe, ProbeTarget};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// Most octets that are read from a server in one run.
const OCTETS_MAX: usize = 1 << 20;
/// Most octets of a password file that are read.
const PASSWORD_OCTETS_MAX: u64 = 4096;

/// One probe at one address.
pub(super) struct Postgres {
    /// Where to.
    peer: SocketAddr,
    /// How to log in and what to ask.
    probe: PostgresProbe,
    /// After how long the server gives up our query.
    timeout: Duration,
}

impl Postgres {
    /// The probe at its target.
    pub fn new(probe: &PostgresProbe, target: &ProbeTarget, timeout: Duration) -> Postgres {
        Postgres {
            peer: SocketAddr::new(target.address, probe.port),
            probe: probe.clone(),
            timeout,
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Found {
        let (mut observed, mut exposed) = (None, Exposed::default());
        let result = self.ask(stage, &mut observed, &mut exposed).await.map(|()| match observed {
            Some(Observed::Active) => "primary".to_owned(),
            _ => "standby".to_owned(),
        });
        Found { result, observed, exposed }
    }

    /// Logs in and asks; what was learnt about the role stays known when a later step fails.
    async fn ask(&self, stage: &Stage, observed: &mut Option<Observed>, exposed: &mut Exposed) -> Result<(), Failure> {
        let mut config = Config::new();
        config
            .user(&self.probe.user)
            .dbname(&self.probe.database)
            .application_name("pointsman");
        if let Some(path) = &self.probe.password_file {
            let unreadable = |error| failure(FailReason::Internal, format!("password file {}: {error}", path.display()));
            config.password(password(path).await.map_err(unreadable)?.trim_ascii_end());
        }
        stage.set("no connection");
        let stream = TcpStream::connect(self.peer).await.map_err(|error| io_failure(&error))?;
        let _ = stream.set_nodelay(true);
        stage.set("no login");
        let stream = Bounded { stream, left: OCTETS_MAX };
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| words(&error))?;
        stage.set("no answer to the query");
        tokio::select! {
            result = self.queries(&client, observed, exposed) => result,
            ended = connection => match ended {
                Err(error) => Err(words(&error)),
                Ok(()) => Err(failure(FailReason::Connect, "connection closed by the peer")),
            },
        }
    }

    /// Whether it is in recovery, then the operator's own query.
    async fn queries(&self, client: &Client, observed: &mut Option<Observed>, exposed: &mut Exposed) -> Result<(), Failure> {
        let limit = self.timeout.as_millis().max(1);
        let ask = format!("SET statement_timeout = {limit}; SELECT pg_catalog.pg_is_in_recovery()");
        let rows = client.simple_query(&ask).await.map_err(|error| words(&error))?;
        let first = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
            _ => None,
        });
        *observed = Some(match first {
            Some("f") => Observed::Active,
            Some("t") => Observed::Passive,
            _ => return Err(failure(FailReason::Protocol, "the server does not say whether it is in recovery")),
        });
        if let Some(query) = &self.probe.query {
            let rows = client.simple_query(query).await.map_err(|error| words(&error))?;
            let first = rows.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten(),
                _ => None,
            });
            if let Some(first) = first {
                exposed.fact("result", first);
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

/// The password in a file, as far as a password may go.
async fn password(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = tokio::fs::File::open(path).await?;
    file.take(PASSWORD_OCTETS_MAX).read_to_end(&mut text).await?;
    Ok(text)
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
    if let Some(found) = source.and_then(|source| super::words::failure_in_chain(source, "")) {
        return match source.and_then(|source| source.downcast_ref::<std::io::Error>()) {
            // What the reader of messages, or our own bound, does not accept.
            Some(io) if matches!(io.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData) => failure(
                FailReason::Protocol,
                format!("the server does not speak the PostgreSQL protocol: {io}"),
            ),
            _ => found,
        };
    }
    let text = error.to_string();
    match source {
        _ if error.is_closed() => failure(FailReason::Connect, "connection closed by the peer"),
        Some(source) if text.starts_with("invalid configuration") || text.starts_with("authentication") => {
            failure(FailReason::Auth, format!("login failed: {source}"))
        }
        Some(source) => failure(FailReason::Protocol, format!("{text}: {source}")),
        None => failure(FailReason::Protocol, text),
    }
}

/// A stream that ends with an error after so many octets read.
struct Bounded {
    /// The connection.
    stream: TcpStream,
    /// What may still be read.
    left: usize,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.left == 0 {
            let kind = std::io::ErrorKind::InvalidData;
            return Poll::Ready(Err(std::io::Error::new(kind, format!("more than {OCTETS_MAX} octets"))));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
