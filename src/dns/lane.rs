//! A UDP lane: one thread, one socket, `respond` in a loop.
//!
//! On Linux it takes and sends batches (`batch`), elsewhere one packet at a time; both ways go through
//! [`Desk`], so they answer alike. The lane sleeps in its receive call. It is woken for stopping by
//! shutting its socket down; should that ever fail, the receive call ends by itself after [`WAKE_AT_LEAST`].

use super::desk::Desk;
use super::stats::{Counted, LaneStats};
use crate::answer::{Snapshot, UDP_OCTETS_MAX};
use arc_swap::ArcSwap;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest time that a lane sleeps without looking whether it is to stop.
pub(super) const WAKE_AT_LEAST: Duration = Duration::from_secs(5);
/// Octets of a query that are looked at. No sound query is longer; one that is gets FORMERR for its missing end.
pub(super) const QUERY_OCTETS_MAX: usize = 4096;
/// Pause after an error of the receive call that is not about one packet, so that it cannot spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// A lane before it runs.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its socket, bound.
    pub(super) socket: Arc<Socket>,
    /// The address it is bound to.
    pub(super) address: SocketAddr,
    /// Where the snapshot comes from.
    pub(super) source: Arc<ArcSwap<Snapshot>>,
    /// Its counters.
    pub(super) stats: Arc<LaneStats>,
    /// Whether to stop.
    pub(super) is_stopping: Arc<AtomicBool>,
}

impl Lane {
    /// Answers until told to stop.
    pub(super) fn run(self) {
        crate::precedence::come_first();
        #[cfg(any(target_os = "linux", target_os = "android"))]
        self.run_batches();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        self.run_single();
    }

    /// Whether to stop.
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Deals with an error of the receive call.
    fn receive_failed(&self, error: &io::Error) {
        match error.kind() {
            // The time-out, a signal, or an ICMP error for an earlier response: no news about this socket.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => {}
            _ if self.is_stopping() => {}
            _ => {
                tracing::warn!(address = %self.address, %error, "receiving failed");
                std::thread::sleep(ERROR_PAUSE);
            }
        }
    }

    /// With `recvmmsg` and `sendmmsg`.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn run_batches(self) {
        let mut batch = super::batch::Batch::new(super::bind::is_wildcard(&self.address));
        let mut desk = Desk::new(self.address, self.stats.clone());
        while !self.is_stopping() {
            let received = match batch.receive(&self.socket) {
                Ok(received) => received,
                Err(error) => {
                    self.receive_failed(&error);
                    continue;
                }
            };
            if self.is_stopping() {
                break; // what was received is the shutdown, read as empty packets
            }
            let snapshot = self.source.load();
            desk.begin(&snapshot, received as u64);
            for index in 0..received {
                batch.answer(index, |query, peer, local, room| desk.answer(&snapshot, query, peer, local, room));
            }
            for _ in 0..batch.send(&self.socket) {
                self.stats.dropped(Counted::SendFailed);
            }
        }
    }

    /// With `recvfrom` and `sendto`: works everywhere. On a wildcard address the kernel chooses the source address.
    #[cfg_attr(any(target_os = "linux", target_os = "android"), allow(dead_code))]
    pub(super) fn run_single(self) {
        let Ok(socket) = self.socket.try_clone().map(std::net::UdpSocket::from) else {
            return;
        };
        let mut desk = Desk::new(self.address, self.stats.clone());
        let mut query = vec![0; QUERY_OCTETS_MAX];
        let mut room = vec![0; UDP_OCTETS_MAX];
        while !self.is_stopping() {
            let (octets, peer) = match socket.recv_from(&mut query) {
                Ok(received) => received,
                Err(error) => {
                    self.receive_failed(&error);
                    continue;
                }
            };
            if self.is_stopping() {
                break;
            }
            let snapshot = self.source.load();
            desk.begin(&snapshot, 1);
            let len = desk.answer(&snapshot, query.get(..octets).unwrap_or(&[]), peer, None, &mut room);
            let response = len.and_then(|len| room.get(..len));
            if response.is_some_and(|response| socket.send_to(response, peer).is_err()) {
                self.stats.dropped(Counted::SendFailed);
            }
        }
    }
}
