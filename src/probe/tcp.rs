//! `kind = "tcp"`: connects, sends what is to be sent, waits for what is expected.
//!
//! Without `expect` a connection is enough. What comes back is looked at as it arrives, 64 KiB at most.

use super::words::{failure, io_failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{FailReason, Failure, ProbeTarget, TcpProbe};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most octets in which the expected ones are looked for.
const EXPECT_WITHIN: usize = 65_536;

/// One probe at one address.
pub(super) struct Tcp {
    /// Where to.
    peer: SocketAddr,
    /// What to do there.
    probe: TcpProbe,
}

impl Tcp {
    /// The probe at its target.
    pub fn new(probe: &TcpProbe, target: &ProbeTarget) -> Tcp {
        Tcp {
            peer: SocketAddr::new(target.address, probe.port),
            probe: probe.clone(),
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Result<String, Failure> {
        stage.set("no connection");
        let mut stream = TcpStream::connect(self.peer).await.map_err(|error| io_failure(&error))?;
        stage.set("no answer");
        if let Some(send) = &self.probe.send {
            stream.write_all(send).await.map_err(|error| io_failure(&error))?;
        }
        let Some(expect) = self.probe.expect.as_deref().filter(|expect| !expect.is_empty()) else {
            return Ok("connected".to_owned());
        };
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).await.map_err(|error| io_failure(&error))?;
            stage.set("no expected data");
            // Only the new octets can complete a match.
            let from = seen.len().saturating_sub(expect.len() - 1);
            seen.extend_from_slice(buffer.get(..count).unwrap_or_default());
            seen.truncate(EXPECT_WITHIN);
            if seen.get(from..).is_some_and(|tail| contains(tail, expect)) {
                return Ok("the expected data came".to_owned());
            }
            if count == 0 {
                return Err(failure(FailReason::Content, "connection closed before the expected data came"));
            }
            if seen.len() == EXPECT_WITHIN {
                let message = format!("expected data is not in the first {EXPECT_WITHIN} octets");
                return Err(failure(FailReason::Content, message));
            }
        }
    }
}

impl Kind for Tcp {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(async move { Found::of(self.check(stage).await) })
    }
}

/// Whether `needle`, not empty, is in `hay`.
pub(super) fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len().max(1)).any(|window| window == needle)
}
