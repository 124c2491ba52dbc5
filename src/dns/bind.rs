//! Binding: the addresses checked and taken, before anything is answered.

use super::encrypted::Encrypted;
use super::stats::Stats;
use super::stream::{self, Room};
use super::{Running, lane};
use crate::answer::{Snapshot, Transport};
use crate::holder;
use crate::model::EncryptedListen;
use crate::seldom::Seldom;
use crate::tls::Certificates;
use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Octets of socket buffers asked for: bursts of queries wait here while a lane answers the last batch.
/// The kernel gives what it allows.
const SOCKET_BUFFER_OCTETS: usize = 4 << 20;
/// Connections that may wait to be accepted.
const TCP_BACKLOG: i32 = 1024;
/// Octets of answers that the kernel keeps for a connection, at most about twice this; without it a client that never reads
/// could have it keep megabytes.
const TCP_SEND_BUFFER_OCTETS: usize = 128 * 1024;
/// TCP connections at once, where there are descriptors for as many.
const TCP_CONNECTIONS_MAX: usize = 10_000;
/// The same over TLS. A session costs some 20 KiB.
pub(super) const TLS_CONNECTIONS_MAX: usize = 4_000;
/// The same over HTTPS.
pub(super) const HTTPS_CONNECTIONS_MAX: usize = 2_000;
/// The same over QUIC, which takes no descriptors.
pub(super) const QUIC_CONNECTIONS_MAX: usize = 4_000;
/// Tries to find a port that is free for UDP and TCP alike, when any will do.
const PORT_TRIES: usize = 50;

/// Why an address could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error("{address} ({transport}) is in use{}", .holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default())]
    InUse {
        /// The address.
        address: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// The process, where it can be found out.
        holder: Option<String>,
    },
    /// Anything else: no right to the port, no such address.
    #[error("cannot listen at {address} ({transport})")]
    Other {
        /// The address.
        address: SocketAddr,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// A lane's thread or TCP could not be started.
    #[error("cannot start answering")]
    Start(#[source] io::Error),
}

/// Where servers come from.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Takes every address for UDP and TCP; `workers` lanes each, 0 for one a core. Port 0 takes a free one.
    ///
    /// # Errors
    /// When one cannot be had; none is kept then.
    pub fn bind(listen: &[SocketAddr], workers: usize) -> Result<Bound, BindError> {
        let workers = match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        let places = listen.iter().map(|address| Place::bind(*address, workers));
        Ok(Bound {
            places: places.collect::<Result<_, _>>()?,
            workers,
            encrypted: None,
        })
    }
}

/// Addresses that are taken; nothing is answered yet.
#[derive(Debug)]
pub struct Bound {
    /// One an address.
    places: Vec<Place>,
    /// Lanes an address.
    workers: usize,
    /// The encrypted transports.
    encrypted: Option<Encrypted>,
}

/// The sockets of one address.
#[derive(Debug)]
struct Place {
    /// The address, its port filled in.
    address: SocketAddr,
    /// A socket a lane.
    udp: Vec<Socket>,
    /// A listener a lane.
    tcp: Vec<Socket>,
}

impl Place {
    /// Takes an address.
    fn bind(address: SocketAddr, workers: usize) -> Result<Place, BindError> {
        let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match Place::bind_once(address, workers) {
                Err(BindError::InUse { .. }) if tries > 0 => {}
                other => return other,
            }
        }
    }

    /// Takes an address, or a random port for which TCP may prove to be in use.
    fn bind_once(asked: SocketAddr, workers: usize) -> Result<Place, BindError> {
        let probe = udp_socket(asked, false).map_err(|source| error(asked, Transport::Udp, source))?;
        let address = local_address(&probe).unwrap_or(asked);
        let tcp = listeners(address, workers).map_err(|source| error(address, Transport::Tcp, source))?;
        drop(probe);
        let lanes = (0..workers).map(|_| udp_socket(address, true));
        let udp = lanes
            .collect::<Result<_, _>>()
            .map_err(|source| error(address, Transport::Udp, source))?;
        Ok(Place { address, udp, tcp })
    }
}

impl Bound {
    /// Takes the addresses of the encrypted transports too, and shows clients this certificate there.
    ///
    /// # Errors
    /// When one cannot be had; none is kept then.
    pub fn with_encrypted(mut self, listen: &EncryptedListen, certificates: Arc<Certificates>) -> Result<Bound, BindError> {
        self.encrypted = Some(Encrypted::bind(listen, certificates, self.workers)?);
        Ok(self)
    }

    /// Where it will listen, ports filled in.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().map(|place| place.address).collect()
    }

    /// Begins to answer from `source`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(self, source: Arc<ArcSwap<Snapshot>>, stats: Arc<Stats>) -> Result<Running, BindError> {
        let mut running = Running {
            addresses: self.addresses(),
            is_stopping: Arc::new(AtomicBool::new(false)),
            lanes: Vec::new(),
            streams: Vec::new(),
            encrypted_addresses: Vec::new(),
            runtime: None,
        };
        let mut tcp = Vec::new();
        for place in self.places {
            for socket in place.udp {
                let socket = Arc::new(socket);
                let lane = lane::Lane {
                    socket: socket.clone(),
                    address: place.address,
                    source: source.clone(),
                    stats: stats.lane(Transport::Udp),
                    is_stopping: running.is_stopping.clone(),
                };
                let thread = super::spawn(format!("udp-{}", running.lanes.len()), move || lane.run())?;
                running.lanes.push((thread, socket));
            }
            tcp.push(place.tcp);
        }
        let room = Room::new(connections_max(TCP_CONNECTIONS_MAX));
        let complaint = Seldom::default();
        for listeners in by_lane(tcp) {
            running.start_stream_lane(stream::Parts {
                listeners,
                transport: Transport::Tcp,
                tls: None,
                room: room.clone(),
                held_max: stream::HELD_OCTETS_MAX,
                complaint: complaint.clone(),
                source: source.clone(),
                stats: stats.lane(Transport::Tcp),
                is_stopping: running.is_stopping.clone(),
            })?;
        }
        if let Some(encrypted) = self.encrypted {
            encrypted.start(&mut running, &source, &stats)?;
        }
        Ok(running)
    }
}

/// From the listeners of each address to those of each lane.
pub(super) fn by_lane(addresses: impl IntoIterator<Item = Vec<Socket>>) -> Vec<Vec<std::net::TcpListener>> {
    let mut lanes: Vec<Vec<std::net::TcpListener>> = Vec::new();
    for sockets in addresses {
        lanes.resize_with(lanes.len().max(sockets.len()), Vec::new);
        for (lane, socket) in lanes.iter_mut().zip(sockets) {
            lane.push(socket.into());
        }
    }
    lanes
}

/// Listeners of one address for TLS or HTTPS, one a lane; where port 0 was asked for, with the port found.
pub(super) fn stream_listeners(asked: SocketAddr, lanes: usize) -> Result<(SocketAddr, Vec<Socket>), BindError> {
    let failed = |source| error(asked, Transport::Tcp, source);
    let first = tcp_socket(asked, false).map_err(failed)?;
    let address = local_address(&first).unwrap_or(asked);
    drop(first);
    Ok((address, listeners(address, lanes).map_err(failed)?))
}

/// The socket of one address for QUIC.
pub(super) fn quic_socket(asked: SocketAddr) -> Result<(SocketAddr, Socket), BindError> {
    let failed = |source| error(asked, Transport::Udp, source);
    let socket = udp_socket(asked, false).map_err(failed)?;
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_OCTETS);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_OCTETS);
    Ok((local_address(&socket).unwrap_or(asked), socket))
}

/// How many connections there may be over one transport, if `wanted` are: the ledger, the probes and the API need descriptors too,
/// so half of them stay theirs, and the transports share the other half as they share what is wanted.
pub(super) fn connections_max(wanted: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let all = TCP_CONNECTIONS_MAX + TLS_CONNECTIONS_MAX + HTTPS_CONNECTIONS_MAX;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) => share(wanted, all, soft / 2),
        Err(_) => wanted,
    }
}

/// What `wanted` of `all` gets of so many descriptors.
fn share(wanted: usize, all: usize, descriptors: u64) -> usize {
    let part = u128::from(descriptors) * wanted as u128 / all as u128;
    wanted.min(usize::try_from(part).unwrap_or(wanted))
}

/// A bound UDP socket. V6ONLY, so that `[::]` and `0.0.0.0` are two sockets that know their own family.
fn udp_socket(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if is_shared {
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        // Buffers are a wish; the kernel's limit is no reason not to serve.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_OCTETS);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_OCTETS);
        socket.set_read_timeout(Some(lane::WAKE_AT_LEAST))?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if is_wildcard(&address) {
            super::batch::want_local_address(&socket, address)?;
        }
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Listening TCP sockets of one address. The first try is alone at its address, so that another server there is noticed.
fn listeners(address: SocketAddr, lanes: usize) -> io::Result<Vec<Socket>> {
    tcp_socket(address, false)?;
    (0..lanes).map(|_| tcp_socket(address, true)).collect()
}

/// A TCP socket; it listens if it is shared. `SO_REUSEADDR` so that connections of a server just gone do not block the port.
/// Connections inherit the options, which saves each of them the calls.
fn tcp_socket(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if is_shared {
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        // Answers are whole when they are written; waiting for more octets would only delay them.
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let _ = socket.set_send_buffer_size(TCP_SEND_BUFFER_OCTETS);
    }
    socket.bind(&SockAddr::from(address))?;
    if is_shared {
        socket.listen(TCP_BACKLOG)?;
    }
    Ok(socket)
}

/// Where a socket is bound.
fn local_address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

/// Says which address could not be had and, where it is in use, by whom.
fn error(address: SocketAddr, transport: Transport, source: io::Error) -> BindError {
    let transport = transport.as_str();
    if source.kind() == io::ErrorKind::AddrInUse {
        return BindError::InUse {
            address,
            transport,
            holder: holder::find(address, transport),
        };
    }
    BindError::Other {
        address,
        transport,
        source,
    }
}

/// Whether an address means every address of its family.
pub(super) fn is_wildcard(address: &SocketAddr) -> bool {
    address.ip().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_transports_together_take_half_of_the_descriptors() {
        let all = [TCP_CONNECTIONS_MAX, TLS_CONNECTIONS_MAX, HTTPS_CONNECTIONS_MAX];
        let places = |descriptors: u64| -> usize { all.iter().map(|wanted| share(*wanted, all.iter().sum(), descriptors / 2)).sum() };
        assert!(places(4_096) <= 2_048 && places(4_096) > 2_000);
        assert!(places(20_000) <= 10_000);
        assert_eq!(places(1 << 20), all.iter().sum::<usize>(), "more than wanted is of no use");
    }
}
