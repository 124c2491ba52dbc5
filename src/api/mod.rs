//! The HTTP API: reading, changing and following, over TCP, TLS and a Unix socket.
//!
//! One service stands behind three kinds of listeners (`listen`). A request passes the guard (known `Host`, known caller,
//! no foreign page), then its route. Reading routes answer from the published snapshot and never ask the writer (but for `history`); changing
//! routes hand a request to the writer and answer with its receipt.
//!
//! Invariants: everything that a client can make grow is bounded (connections, heads, bodies, followers of events, ledger
//! readers, the time for each); no request blocks the runtime; whoever is not proven by uid or token is never taken for
//! somebody, only written down as claiming it.
//!
//! Deliberately absent: HTTP/2 (nothing here needs it, and its abuse is a field of its own), cookies and CORS (so no
//! other page can act in a user's name), any decision (that is `role` behind `control`).

mod caller;
mod change;
mod clients;
mod error;
mod events;
mod feeds;
mod guard;
mod history;
mod listen;
mod openapi;
mod patience;
mod probes;
mod read;
mod routes;
mod socket;
mod tls;
mod tokens;
mod view;

pub use tokens::{TokenFault, check_token_file};

use crate::control::Handle;
use listen::Connections;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Most TCP connections at a time.
const TCP_CONNECTIONS_MAX: usize = 256;
/// Most connections on the Unix socket; apart, so that nobody from outside can take the local operator's place.
const UNIX_CONNECTIONS_MAX: usize = 64;
/// Most requests that read the ledger's file at the same time; the others wait for their turn.
const LEDGER_READERS_MAX: usize = 4;
/// How long a stop waits for requests under way.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What every request may use.
pub(crate) struct Api {
    /// The writer and what it published.
    handle: Handle,
    /// The node's name: one of the known hosts. Only a restart changes it.
    node: String,
    /// Where TCP is served.
    listen: SocketAddr,
    /// Who may come in over TCP; none: everybody, as nobody in particular.
    tokens: Option<Arc<tokens::Tokens>>,
    /// Our certificate: its names are known hosts over TLS.
    certificates: Option<Arc<crate::tls::Certificates>>,
    /// Places for followers of the events.
    event_clients: Arc<Semaphore>,
    /// The one place for probes run by hand.
    probing: Semaphore,
    /// Places for readers of the ledger.
    ledger_readers: Arc<Semaphore>,
    /// True from the stop on.
    stopping: watch::Sender<bool>,
}

/// Why the API could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address}: {what}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Who listens there, where that is it, and what to do.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("cannot make the socket {}: {what}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What failed, and what to do.
        what: String,
    },
    /// The token file cannot be read or is wrong.
    #[error("the token-file {} cannot be used: {what}", path.display())]
    Tokens {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The certificate or key cannot be read or do not belong together.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Provider(String),
}

/// A running API. Dropping it without [`Running::stop`] leaves it running.
pub struct Running {
    api: Arc<Api>,
    address: SocketAddr,
    loops: Vec<JoinHandle<()>>,
    socket: Option<socket::Bound>,
}

/// Starts the API on everything that the config names, or on nothing; what is wrong with its certificate later stands in `faults`.
///
/// # Errors
/// See [`StartError`].
pub async fn start(handle: Handle, faults: &crate::tls::Faults) -> Result<Running, StartError> {
    let published = handle.published();
    let (node, config) = (published.config.node.name.clone(), &published.config.api);
    let tokens = match &config.token_file {
        Some(path) => Some(Arc::new(tokens::Tokens::open(path).await?)),
        None => None,
    };
    let (acceptor, certificates) = match &config.tls {
        Some(files) => Some(tls::load(files, faults).await?).unzip(),
        None => (None, None),
    };
    let tcp = listen::bind(config.listen).await?;
    let address = tcp.local_addr().unwrap_or(config.listen);
    let (socket, unix) = match &config.socket {
        Some(path) => Some(socket::bind(path).await?).unzip(),
        None => (None, None),
    };
    let api = Arc::new(Api {
        handle,
        node,
        listen: address,
        tokens,
        certificates,
        event_clients: Arc::new(Semaphore::new(events::CLIENTS_MAX)),
        probing: Semaphore::new(1),
        ledger_readers: Arc::new(Semaphore::new(LEDGER_READERS_MAX)),
        stopping: watch::channel(false).0,
    });
    let router = routes::router(api.clone());
    let connections = |most| Connections::new(router.clone(), api.stopping.subscribe(), most);
    let mut loops = vec![tokio::spawn(connections(TCP_CONNECTIONS_MAX).accept_tcp(tcp, acceptor))];
    tracing::info!(%address, tls = config.tls.is_some(), tokens = config.token_file.is_some(), "serving the API");
    if let (Some(listener), Some(bound)) = (unix, &socket) {
        let group = bound.group();
        loops.push(tokio::spawn(connections(UNIX_CONNECTIONS_MAX).accept_unix(listener, group)));
        tracing::info!(path = %bound.path().display(), "serving the API to local users");
    }
    Ok(Running {
        api,
        address,
        loops,
        socket,
    })
}

impl Running {
    /// Where TCP is served; the real port where the config says 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, waits a little for those under way, and removes the socket.
    pub async fn stop(self) {
        if let Some(socket) = self.socket {
            socket.remove();
        }
        self.api.stopping.send_replace(true);
        for accepting in self.loops {
            // An accept loop ends by itself within `STOP_PATIENCE`; it cannot fail but by a panic, which was logged.
            let _ = accepting.await;
        }
    }
}
