//! Binding: the addresses checked and taken, before anything is answered.

use super::stats::Stats;
use super::{Running, lane, tcp};
use crate::answer::{Snapshot, Transport};
use crate::holder;
use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{mpsc, watch};

/// Octets of socket buffers asked for: bursts of queries wait here while a lane answers the last batch.
/// The kernel gives what it allows.
const SOCKET_BUFFER_OCTETS: usize = 4 << 20;
/// Connections that may wait to be accepted.
const TCP_BACKLOG: i32 = 1024;
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
        })
    }
}

/// Addresses that are taken; nothing is answered yet.
#[derive(Debug)]
pub struct Bound {
    /// One an address.
    places: Vec<Place>,
}

/// The sockets of one address.
#[derive(Debug)]
struct Place {
    /// The address, its port filled in.
    address: SocketAddr,
    /// A socket a lane.
    udp: Vec<Socket>,
    /// The listener.
    tcp: Socket,
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
        let tcp = tcp_socket(address).map_err(|source| error(address, Transport::Tcp, source))?;
        drop(probe);
        let lanes = (0..workers).map(|_| udp_socket(address, true));
        let udp = lanes
            .collect::<Result<_, _>>()
            .map_err(|source| error(address, Transport::Udp, source))?;
        Ok(Place { address, udp, tcp })
    }
}

impl Bound {
    /// Where it will listen, ports filled in.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().map(|place| place.address).collect()
    }

    /// Begins to answer from `source`. Must be called inside a tokio runtime, which serves TCP.
    ///
    /// # Errors
    /// When a thread cannot be started or there is no runtime.
    pub fn start(self, source: Arc<ArcSwap<Snapshot>>, stats: Arc<Stats>) -> Result<Running, BindError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| BindError::Start(io::Error::other(error)))?;
        let (stop_tcp, stopping) = watch::channel(false);
        let (alive, tcp_alive) = mpsc::channel(1);
        let mut running = Running {
            addresses: self.addresses(),
            is_stopping: Arc::new(AtomicBool::new(false)),
            lanes: Vec::new(),
            stop_tcp,
            tcp_alive,
        };
        let shared = tcp::Shared::new(source.clone(), stats.lane(Transport::Tcp), stopping, alive);
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
                let name = format!("udp-{}", running.lanes.len());
                let thread = std::thread::Builder::new()
                    .name(name)
                    .spawn(move || lane.run())
                    .map_err(BindError::Start)?;
                running.lanes.push((thread, socket));
            }
            let _guard = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(place.tcp.into()).map_err(BindError::Start)?;
            runtime.spawn(tcp::accept(listener, shared.clone()));
        }
        Ok(running)
    }
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

/// A listening TCP socket. `SO_REUSEADDR` so that connections of a server just gone do not block the port.
fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(TCP_BACKLOG)?;
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
