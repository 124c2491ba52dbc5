//! Compiled answers: zones and decisions in, one immutable [`Snapshot`] out; query bytes in, response bytes out.
//!
//! [`respond()`] is the one function that makes a response, for every transport: header, question, EDNS
//! (RFC 6891) and its options, truncation, FORMERR, BADVERS, NOTIMP, REFUSED and the data. It does not allocate, lock,
//! log, read a clock or panic, and it never answers an answer.
//!
//! ```text
//!  zones ──┐  build   ┌─ World (immutable, shared): index of every visible name, RRsets as wire pieces
//!  steered ┴────────▶ │
//!  decision ─ with ─▶ └─ slots (chunks behind Arc): what each steered name answers now
//! ```
//!
//! How it is laid out, and why:
//! - One hash index over the names of all zones. Only the closest zone's names are entered, empty
//!   non-terminals too, and none that lies below a zone cut or a DNAME: what is hidden need not be
//!   found, the look-up then ends at the cut itself. A hit is one look-up; a miss strips labels to
//!   the closest encloser, which says everything: wildcard, DNAME, referral or NXDOMAIN.
//! - An RRset is compiled to a *piece*: its records in wire form with the compression pointers already
//!   laid for the commonest place (right behind the question, owner = question), and a list of them
//!   for every other place. So joining is a copy, and patching only where a chain, a wildcard or a
//!   negative answer moved the piece.
//! - A steered name is a node that points to a slot. CNAME, DNAME and wildcard chains are joined when
//!   the query arrives, so an alias follows a switch at once and nobody keeps a reverse index.
//! - The program is built for size (`Cargo.toml`), and what a query goes through is one piece all the same: what costs nanoseconds there
//!   is `#[inline(always)]`; without it a hit takes half as long again.
//! - [`Snapshot::with`] copies one chunk of slots and the way to it; its cost does not depend on the
//!   number of names.
//!
//! Deliberately absent: sockets, counters and rate limits (`dns`), the rules of who is active
//! (`steering`), zone transfer (REFUSED), DNSSEC, the additional data that RFC 1034 allows beside
//! positive answers (minimal responses).
//!
//! RFCs: 1034 §4.3.2, 1035 §4, 2181, 2308, 3597, 4343, 4592, 5001, 6672, 6891, 7828, 7830, 7873, 8467, 8482, 8906, 8914, 9018, 9471.

mod build;
mod cookie;
mod follow;
pub mod fuzz;
mod index;
mod message;
mod note;
mod opt;
mod piece;
mod query;
mod respond;
mod steered;
mod table;

pub use cookie::CookieSecrets;
pub use index::{Service, Settings, Snapshot};
pub use opt::PADDED_OCTETS;
pub use respond::{respond, respond_shortly};
pub use steered::{SteeredId, SteeredInput, SteeredNames};

use note::NoteRef;

use std::net::{IpAddr, SocketAddr};

/// Largest UDP response, octets, whatever the client offers: what passes everywhere unfragmented (RFC 9715 §3.1).
pub const UDP_OCTETS_MAX: usize = 1232;
/// Largest response over a stream, octets: what its two-octet length can say.
pub const STREAM_OCTETS_MAX: usize = 65_535;

/// How the query came; the response may differ in size only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram each way: 512 octets, or what EDNS allows.
    Udp,
    /// A stream with two-octet lengths.
    Tcp,
    /// The same inside TLS (RFC 7858).
    Tls,
    /// A QUIC stream a query (RFC 9250).
    Quic,
    /// An HTTP exchange a query, inside TLS (RFC 8484).
    Https,
}

impl Transport {
    /// Every transport, in the order of the metrics.
    pub const ALL: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Quic, Transport::Https];

    /// Whether nobody between the client and here can read along; only there padding hides anything (RFC 8467 §3).
    pub fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Quic | Transport::Https)
    }

    /// As shown in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Quic => "quic",
            Transport::Https => "https",
        }
    }

    /// Whether edns-tcp-keepalive means something on it (RFC 7828 §3.1; RFC 9250 §5.5.2 forbids it on QUIC).
    pub fn has_keepalive(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }
}

/// What a pure function may not fetch itself.
#[derive(Debug, Clone, Copy)]
pub struct Ctx {
    /// Who asks.
    pub peer: SocketAddr,
    /// The address that was asked, where known.
    pub local: Option<IpAddr>,
    /// How the query came.
    pub transport: Transport,
    /// Most octets that may be answered: [`UDP_OCTETS_MAX`] or [`STREAM_OCTETS_MAX`] unless configured lower.
    pub size_max: usize,
    /// Wall clock, seconds since 1970.
    pub wall_seconds: u64,
    /// Where the addresses of a steered name begin; the caller counts it up from answer to answer.
    pub rotation: u32,
    /// How long the connection may be silent, in tenths of a second, to be told to a client that asks (RFC 7828 §3.3.2);
    /// none where there is no connection of that kind.
    pub keepalive_tenths: Option<u16>,
    /// The secrets of DNS cookies ([`Service::cookies`]); none: no cookies are given.
    pub cookies: Option<CookieSecrets>,
}

/// The buffer that a response is written to. It belongs to the caller, so that a lane can hand out the
/// very buffer it will send.
#[derive(Debug)]
pub struct Out<'b> {
    /// The whole buffer; [`Reply::len`] says how much of it is the response.
    bytes: &'b mut [u8],
}

impl<'b> Out<'b> {
    /// Takes a buffer; a response never gets longer than it.
    pub fn new(bytes: &'b mut [u8]) -> Out<'b> {
        Out { bytes }
    }

    /// The first `len` octets: the response, when `len` is [`Reply::len`].
    pub fn response(&self, len: usize) -> &[u8] {
        self.bytes.get(..len).unwrap_or(&[])
    }
}

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is a response in the buffer.
    Reply(Reply),
    /// Nothing is to be sent.
    Drop(DropReason),
}

/// Facts about a response, for sending and for counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Octets of the response.
    pub len: usize,
    /// Its response code, the upper bits from EDNS included.
    pub rcode: u8,
    /// The steered name whose data it carries, directly or through a chain.
    pub steered: Option<Steered>,
    /// What kind of answer it is.
    pub kind: Kind,
    /// What it is about, as a number: answers of one kind about one thing are alike in size and meaning, so that they can be
    /// limited together. The name that answered (the wildcard for what it matches), the cut, or the zone for NXDOMAIN.
    pub about: u32,
    /// The query had a good server cookie: its source address is not forged (RFC 7873).
    pub is_known: bool,
}

impl Reply {
    /// An error about nothing in particular.
    const ERROR: Reply = Reply {
        len: 0,
        rcode: 0,
        steered: None,
        kind: Kind::Error,
        about: 0,
        is_known: false,
    };
}

/// Kinds of answers, as they are limited and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Data.
    Positive,
    /// The name exists and the type does not.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// A delegation.
    Referral,
    /// Nothing of a zone: FORMERR, REFUSED and their like.
    Error,
}

/// Which steered name was answered, and with which region's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steered {
    /// The name.
    pub id: SteeredId,
    /// Index into the regions of the name ([`SteeredNames::regions`]); none where the data is of several regions or of none.
    pub region: Option<u16>,
}

/// Why a packet gets no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Less than a header (RFC 1035 §4.1.1).
    Short,
    /// It is a response itself: answering would let two servers talk for ever.
    Response,
    /// The buffer cannot hold even the question; only a caller's mistake.
    NoRoom,
    /// It has what its transport forbids: edns-tcp-keepalive over QUIC (RFC 9250 §5.5.2), which is to end the connection.
    Forbidden,
}

impl DropReason {
    /// As shown in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Short => "short",
            DropReason::Response => "response",
            DropReason::NoRoom => "no-room",
            DropReason::Forbidden => "forbidden",
        }
    }
}
