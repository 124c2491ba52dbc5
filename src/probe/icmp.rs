//! `kind = "icmp"`: one echo request, and how long its answer takes.
//!
//! Over the unprivileged sockets that Linux has for this (`SOCK_DGRAM` of ICMP): the kernel sets the identifier, counts the
//! checksum and hands us only answers to our own. Whether a process may have them is a matter of its group and the sysctl
//! `net.ipv4.ping_group_range`, for IPv6 too. The request carries random octets, so that a late answer to an earlier one,
//! or a forged one, is told apart. That a host answers says nothing about what runs on it.

use super::words::{failure, io_failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{Exposed, FailReason, Failure, IcmpProbe, ProbeTarget, fact_number};
use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// Octets of the head of an echo message: type, code, checksum, identifier, sequence (RFC 792, RFC 4443 section 4).
const HEAD_OCTETS: usize = 8;
/// Octets that tell an answer from another one.
const TOKEN_OCTETS: usize = 16;
/// Where the groups stand that may.
const GROUPS: &str = "net.ipv4.ping_group_range";

/// One probe at one address.
pub(super) struct Icmp {
    /// Where to.
    address: IpAddr,
    /// Octets behind the head.
    payload_octets: usize,
}

impl Icmp {
    /// The probe at its target.
    pub fn new(probe: &IcmpProbe, target: &ProbeTarget) -> Icmp {
        Icmp {
            address: target.address,
            payload_octets: usize::from(probe.payload_octets).max(TOKEN_OCTETS),
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Found {
        let mut exposed = Exposed::default();
        let result = self.ask(stage).await.map(|rtt| {
            exposed.fact("rtt-ms", fact_number(rtt));
            format!("answer in {rtt} ms")
        });
        Found {
            result,
            observed: None,
            exposed,
        }
    }

    /// Asks, and says after how many milliseconds the answer came, to the microsecond.
    async fn ask(&self, stage: &Stage) -> Result<f64, Failure> {
        stage.set("no answer");
        let socket = UdpSocket::from_std(open(self.address)?.into()).map_err(|error| io_failure(&error))?;
        // An echo request is type 8 in ICMP, 128 in ICMPv6; their answers 0 and 129.
        let (request, answer) = match self.address {
            IpAddr::V4(_) => (8, 0),
            IpAddr::V6(_) => (128, 129),
        };
        let mut message = vec![0; HEAD_OCTETS + self.payload_octets];
        let internal = |error: getrandom::Error| failure(FailReason::Internal, format!("no random octets: {error}"));
        let (head, payload) = message.split_at_mut(HEAD_OCTETS);
        if let (Some(kind), Some(token)) = (head.first_mut(), payload.get_mut(..TOKEN_OCTETS)) {
            *kind = request;
            getrandom::fill(token).map_err(internal)?;
        }
        let start = Instant::now();
        socket.send(&message).await.map_err(|error| words(&error))?;
        let mut buffer = vec![0; message.len() + 1];
        loop {
            let count = socket.recv(&mut buffer).await.map_err(|error| words(&error))?;
            let took = start.elapsed();
            let got = buffer.get(..count).unwrap_or_default();
            if got.first() == Some(&answer) && got.get(HEAD_OCTETS..) == message.get(HEAD_OCTETS..) {
                return Ok((took.as_secs_f64() * 1e6).round() / 1e3);
            }
        }
    }
}

impl Kind for Icmp {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(self.check(stage))
    }
}

/// Why this process may not send echo requests; none where it may.
pub(super) fn refusal() -> Option<String> {
    open(Ipv4Addr::LOCALHOST.into()).err().map(|failure| failure.message)
}

/// A socket for echo messages with one address; for reading and writing it is like one of UDP.
fn open(address: IpAddr) -> Result<Socket, Failure> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol));
    let socket = socket.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => failure(FailReason::Internal, forbidden()),
        _ => io_failure(&error),
    })?;
    let connected = socket.connect(&SockAddr::from(SocketAddr::new(address, 0)));
    connected.map_err(|error| words(&error))?;
    Ok(socket)
}

/// What to do about it.
fn forbidden() -> String {
    let group = nix::unistd::getegid();
    format!("this process may not send ICMP: let {GROUPS} cover its group, for example sysctl -w {GROUPS}=\"{group} {group}\"")
}

/// What the network says in place of an answer.
fn words(error: &io::Error) -> Failure {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMSGSIZE) => failure(FailReason::Connect, "the request is too large for the way to the peer"),
        // A host that refuses a protocol or a port, in the words of ICMP.
        Some(Errno::ECONNREFUSED | Errno::ENOPROTOOPT) => failure(FailReason::Connect, "the peer refuses echo requests"),
        _ => io_failure(error),
    }
}
