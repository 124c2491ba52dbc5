//! A stream whose peer must take what is sent: one that lets writes wait and takes less than [`TAKEN_LEAST`] octets in
//! [`WRITE_PATIENCE`] ends the connection, so that nobody keeps a large response in memory by taking an octet now and then.
//!
//! Reads need no such limit here: heads and bodies have their own, and a follower of the events says nothing for hours.

use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The time in which a peer that lets writes wait must take [`TAKEN_LEAST`].
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// Some 9 kB/s: no line that an operator works over is slower.
const TAKEN_LEAST: usize = 256 * 1024;

/// A stream with that limit.
pub(super) struct Patient<S> {
    stream: S,
    /// The time in which the peer must take the least.
    patience: Duration,
    /// Runs from a write that has to wait until everything is written, and anew each time the least was taken.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Octets taken meanwhile.
    taken: usize,
}

impl<S> Patient<S> {
    /// Limits a stream.
    pub fn new(stream: S) -> Patient<S> {
        Patient::with_patience(stream, WRITE_PATIENCE)
    }

    /// Limits a stream otherwise than usual.
    fn with_patience(stream: S, patience: Duration) -> Patient<S> {
        Patient {
            stream,
            patience,
            stalled: None,
            taken: 0,
        }
    }

    /// Counts what a write took.
    fn count(&mut self, result: Poll<Result<usize>>, context: &mut Context<'_>) -> Poll<Result<usize>> {
        if let Poll::Ready(Ok(octets)) = result {
            self.taken = self.taken.saturating_add(octets);
            if self.taken >= TAKEN_LEAST {
                self.stalled = None;
            }
        }
        self.limit(result, context)
    }

    /// Ends the count: everything is written.
    fn rest<T>(&mut self, result: Poll<Result<T>>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if result.is_ready() {
            self.stalled = None;
        }
        self.limit(result, context)
    }

    /// Passes a result on, or ends the wait when it was too long.
    fn limit<T>(&mut self, result: Poll<Result<T>>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if result.is_ready() {
            return result;
        }
        if self.stalled.is_none() {
            self.taken = 0;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, octets);
        self.count(result, context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.count(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.rest(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.rest(result, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut patient = Patient::with_patience(ours, Duration::from_millis(100));
        let reader = tokio::spawn(async move {
            let mut taken = [0; 64];
            theirs.read_exact(&mut taken).await.unwrap();
            theirs
        });
        patient.write_all(&[0; 64]).await.unwrap();
        let _theirs = reader.await.unwrap();
        let error = patient.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_an_octet_now_and_then_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut patient = Patient::new(ours);
        tokio::spawn(async move {
            let mut now_and_then = tokio::time::interval(WRITE_PATIENCE / 2);
            loop {
                now_and_then.tick().await;
                if theirs.read_u8().await.is_err() {
                    return;
                }
            }
        });
        let written = tokio::time::timeout(WRITE_PATIENCE * 3, patient.write_all(&[0; 64])).await;
        assert_eq!(written.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
