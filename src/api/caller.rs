//! Who is at the other end: what a connection knows of its peer, and what that peer may do.

use crate::ledger::Hash;
use crate::model::Actor;

/// What a connection knows of its peer, before any header was read.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// A TCP connection, in plain or over TLS.
    Tcp {
        /// Our end of it.
        local: std::net::SocketAddr,
        /// Whether it is TLS.
        tls: bool,
    },
    /// A process on this machine, by the Unix socket.
    Unix {
        /// Its uid.
        uid: u32,
        /// The name of that user.
        user: Option<String>,
        /// Whether it may change things: root, the server's own user, or a member of the socket's group.
        may_change: bool,
    },
}

/// Who asks, as far as it is proven.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Caller {
    /// For the record.
    actor: Actor,
    /// Whether it may change things.
    may_change: bool,
    /// The hash of the token that it came with.
    token: Option<Hash>,
}

impl Caller {
    /// A caller.
    pub fn new(actor: Actor, may_change: bool) -> Caller {
        Caller {
            actor,
            may_change,
            token: None,
        }
    }

    /// With the hash of its token.
    pub fn with_token(mut self, token: &str) -> Caller {
        self.token = Some(Hash::of(token.as_bytes()));
        self
    }

    /// The hash of the token that it came with.
    pub fn token(&self) -> Option<Hash> {
        self.token
    }

    /// For the record.
    pub fn actor(&self) -> Actor {
        self.actor.clone()
    }

    /// Whether it may change things.
    pub fn may_change(&self) -> bool {
        self.may_change
    }
}
