//! Sockets: UDP, TCP, TLS, QUIC and HTTPS, which hand bytes to `answer::respond` and its bytes back.
//!
//! A *lane* is anything that hands frames to `respond` by way of a `desk::Desk`: here a thread with one UDP socket. Each listen
//! address gets as many lanes as there are workers, their sockets joined by `SO_REUSEPORT`, so that the
//! kernel spreads clients over them. A lane loads the snapshot once a batch, counts in its own memory and
//! never takes a lock for a query. TCP has lanes of its own (`stream`), so that no abuse of it is felt by UDP,
//! and DNS over TLS has others. DNS over QUIC (`quic`, its queries put together in
//! `pieces`) and HTTPS (`https`) run on a tokio runtime apart.
//!
//! Measured and not done, with bare echoes on two cores of one machine (Linux 6.18): io_uring (multishot receives into a ring of buffers,
//! sends submitted in one call) takes 5 to 7 % more CPU a packet than `recvmmsg` and `sendmmsg` when busy, and as much at 20,000
//! packets a second. Steering packets to the lane of the CPU that they came in on (`SO_INCOMING_CPU`, or a classic BPF program
//! on the group of sockets) takes 10 to 15 % more when busy; at 20,000 packets a second it saves up to 40 %, but only where lanes are
//! pinned and each core has its share of the interrupts, which a server cannot know of its machine. Whatever hands frames to
//! `respond` can be a lane, one on AF_XDP too.
//!
//! At start each address is first bound once without `SO_REUSEPORT`: otherwise a second server on the
//! same port would go unnoticed and take half of the queries.
//!
//! Deliberately absent: what is answered (`answer`), socket activation.
//!
//! RFCs: 1035 §4.2, 6891, 7766, 7828, 7858, 8484, 9250.

#[cfg(any(target_os = "linux", target_os = "android"))]
mod batch;
mod bind;
mod clerk;
mod clock;
mod desk;
mod encrypted;
mod https;
mod lane;
mod limit;
mod pieces;
mod quic;
mod sitting;
mod stats;
mod stream;

#[cfg(test)]
mod tests;

pub use bind::{BindError, Bound, Server};
pub use stats::{Counted, Stats};

use crate::answer::Transport;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// How long `stop` waits for clients of QUIC and HTTPS that are still taking their answers.
const STOP_GRACE: std::time::Duration = std::time::Duration::from_secs(3);

/// A server that answers. Dropping it stops it too, without waiting for clients that are still taking their answers.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    addresses: Vec<SocketAddr>,
    /// Told to lanes, which look at it when they wake.
    is_stopping: Arc<AtomicBool>,
    /// The UDP lanes, each with a handle of its socket to wake it by.
    lanes: Vec<(JoinHandle<()>, Arc<socket2::Socket>)>,
    /// The stream lanes, each with what wakes it.
    streams: Vec<(JoinHandle<()>, mio::Waker)>,
    /// Where encrypted DNS is served.
    encrypted_addresses: Vec<(Transport, SocketAddr)>,
    /// What QUIC and HTTPS run on.
    runtime: Option<Runtime>,
}

impl Running {
    /// Where it listens, ports filled in; UDP and TCP alike.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where encrypted DNS is served, ports filled in.
    pub fn encrypted_addresses(&self) -> &[(Transport, SocketAddr)] {
        &self.encrypted_addresses
    }

    /// Stops taking queries, finishes those in hand and returns when all sockets are closed.
    pub async fn stop(mut self) {
        if let Some(runtime) = &self.runtime {
            runtime.stop().await;
        }
        let stopped = tokio::task::spawn_blocking(move || {
            self.stop_lanes();
            for (thread, _) in self.streams.drain(..) {
                join(thread);
            }
        });
        if stopped.await.is_err() {
            tracing::error!("stopping the DNS server failed");
        }
    }

    /// Starts a lane of TCP or TLS.
    fn start_stream_lane(&mut self, parts: stream::Parts) -> Result<(), BindError> {
        let name = format!("{}-{}", parts.transport.as_str(), self.streams.len());
        let (lane, waker) = stream::Lane::new(parts).map_err(BindError::Start)?;
        let thread = spawn(name, move || lane.run())?;
        self.streams.push((thread, waker));
        Ok(())
    }

    /// Wakes every lane and waits for those of UDP; a lane finishes its batch first, which takes microseconds.
    fn stop_lanes(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        for (_, waker) in &self.streams {
            // Fails only where the lane is gone already.
            let _ = waker.wake();
        }
        for (_, socket) in &self.lanes {
            // An unconnected UDP socket says ENOTCONN, and wakes its reader nevertheless.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        for (thread, _) in self.lanes.drain(..) {
            join(thread);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_lanes();
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: that may not be done inside another runtime.
            runtime.tokio.shutdown_background();
        }
    }
}

/// A tokio runtime apart, and the word to stop for all that runs on it.
#[derive(Debug)]
struct Runtime {
    /// The runtime; taken out at the end.
    tokio: tokio::runtime::Runtime,
    /// Told to whatever runs on it, each of which holds a receiver until it has ended.
    stop: watch::Sender<bool>,
}

impl Runtime {
    /// A runtime with so many threads.
    fn new(name: &str, threads: usize) -> std::io::Result<Runtime> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Ok(Runtime {
            tokio: builder.worker_threads(threads).thread_name(name).enable_all().build()?,
            stop: watch::channel(false).0,
        })
    }

    /// Tells when to stop.
    fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Has everything stop, and waits a little until it has.
    async fn stop(&self) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(STOP_GRACE, self.stop.closed()).await;
    }
}

/// Starts a lane's thread.
fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BindError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(BindError::Start)
}

/// Waits for a lane's thread.
fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("?").to_owned();
    if thread.join().is_err() {
        tracing::error!(lane = name, "a lane had panicked");
    }
}
