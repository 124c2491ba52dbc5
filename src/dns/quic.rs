//! DNS over QUIC (RFC 9250): a connection a client, a stream a query.
//!
//! Bounded: connections in all, by client and by neighbourhood; time of a handshake, of a query's arrival, of an answer's
//! departure and between answers; streams a connection; octets of answers and of half queries that are kept, for one connection and for all (`sitting`). When places run short, or many of one network's are
//! taken, a client has to prove its address first (RFC 9000 §8.1.2), so that forged packets take none; when there are none
//! left, whoever has been silent longest makes room (`sitting`), and is told so: DOQ_EXCESSIVE_LOAD. A stream that brings no query keeps
//! no place.
//!
//! At a stop queries that have arrived are answered and the answers acknowledged, within [`STOP_TIME_MAX`]; nothing else is waited for.
//!
//! Why this is built on quinn and not on hickory-server's DoQ listener, which is built on quinn too: that one waits for each
//! handshake to end before it looks at the next client, five seconds for one packet that nobody follows up, so that a packet
//! in five seconds keeps everybody out; it takes connections without limit; it gives up a connection's last answer at its
//! hundredth query; and it encodes every answer a second time. None of it can be changed from outside.
//!
//! Deliberately absent: 0-RTT (RFC 9250 §4.5 allows it for queries, and replays of them would be answered), zone transfer.

use super::bind::QUIC_CONNECTIONS_MAX;
use super::clerk::Clerk;
use super::pieces::Pieces;
use super::sitting::{KEPT_OCTETS_MAX, Kept, Place, Share, Sitting};
use super::stats::Counted;
use crate::answer::DropReason;
use bytes::Bytes;
use futures_util::FutureExt;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ReadError, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest time for a handshake, a query's arrival, an answer's departure; also beyond the idle time for a query that came just before.
const STEP_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may go without an answer.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a stop waits for clients that are still taking their answers.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);
/// How long it waits for the packets that say good-bye. Their clients may be gone, which nobody tells.
const GOOD_BYE: Duration = Duration::from_millis(200);
/// Queries of one connection that are worked on at once.
const STREAMS_MAX: u32 = 100;
/// Octets of one stream, and of all streams of a connection, that a client may send ahead. They are taken at once, whatever their order, and
/// what waits for others is counted by `sitting`; until then, all connections together have no more room than for answers. A hundred
/// queries in the air take some ten thousand octets.
const RECEIVE_WINDOWS: (u32, u32) = (8 * 1024, 16 * 1024);
const _: () = assert!(RECEIVE_WINDOWS.1 as usize * QUIC_CONNECTIONS_MAX <= KEPT_OCTETS_MAX);
/// Octets of answers that are sent ahead of a client's acknowledgements; what waits for that is counted by `sitting`.
const SEND_WINDOW: u64 = 256 * 1024;
/// Clients that may wait for their handshake to be looked at, and octets kept for one of them and for all.
const INCOMING_MAX: (usize, u64, u64) = (1024, 16 * 1024, 4 << 20);

/// DOQ_NO_ERROR, DOQ_PROTOCOL_ERROR and DOQ_EXCESSIVE_LOAD (RFC 9250 §4.3).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// How QUIC is spoken.
///
/// # Errors
/// When TLS cannot be spoken inside QUIC.
pub(super) fn server_config(tls: rustls::ServerConfig) -> io::Result<ServerConfig> {
    let crypto = QuicServerConfig::try_from(Arc::new(tls)).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport.stream_receive_window(VarInt::from_u32(RECEIVE_WINDOWS.0));
    transport.receive_window(VarInt::from_u32(RECEIVE_WINDOWS.1));
    transport.send_window(SEND_WINDOW);
    transport.max_idle_timeout(Some(IdleTimeout::try_from(IDLE_TIME_MAX).map_err(io::Error::other)?));
    transport.datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    // Whom `allow-query` admits is settled by the address that the handshake proved: from another one, which nobody has proved,
    // no query is taken. A resolver that changes its address connects again.
    config.migration(false);
    config.max_incoming(INCOMING_MAX.0);
    config.incoming_buffer_size(INCOMING_MAX.1);
    config.incoming_buffer_size_total(INCOMING_MAX.2);
    Ok(config)
}

/// What all connections share.
pub(super) struct Quic {
    /// Who answers.
    pub(super) clerk: Clerk,
    /// The places.
    pub(super) sitting: Arc<Sitting>,
}

/// Serves a socket until told to stop. Needs a tokio runtime.
///
/// # Errors
/// When the socket cannot be handed to the runtime.
pub(super) fn start(socket: UdpSocket, config: ServerConfig, quic: Arc<Quic>, stopping: watch::Receiver<bool>) -> io::Result<()> {
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(quinn::TokioRuntime))?;
    tokio::spawn(accept(endpoint, quic, stopping));
    Ok(())
}

/// Takes connections. Each shakes hands in a task of its own, so that none waits for another.
async fn accept(endpoint: Endpoint, quic: Arc<Quic>, mut stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        let client = incoming.remote_address().ip();
        if quic.sitting.must_prove(client) && !incoming.remote_address_validated() && incoming.may_retry() {
            // Fails only where it may not be asked.
            let _ = incoming.retry();
            continue;
        }
        match quic.sitting.take(client) {
            Ok(place) => drop(connections.spawn(sit(incoming, place, quic.clone(), stopping.clone()))),
            Err(_) => {
                quic.clerk.stats.dropped(Counted::TcpFull);
                incoming.refuse();
            }
        }
    }
    endpoint.set_server_config(None);
    while connections.join_next().await.is_some() {}
    endpoint.close(NO_ERROR, b"");
    let _ = timeout(GOOD_BYE, endpoint.wait_idle()).await;
}

/// Serves a connection until it ends or its place is taken from it; the place is given back when it ends.
async fn sit(incoming: Incoming, place: Place, quic: Arc<Quic>, stopping: watch::Receiver<bool>) {
    let known = OnceLock::new();
    tokio::select! {
        why = place.is_to_leave() => {
            quic.clerk.stats.dropped(why);
            if let Some(connection) = known.get() {
                connection.close(EXCESSIVE_LOAD, b"");
            }
        }
        () = serve(incoming, &known, place.share(), quic.clone(), stopping) => {}
    }
}

/// Serves a connection, and makes it known once hands are shaken.
async fn serve(incoming: Incoming, known: &OnceLock<Connection>, share: Share, quic: Arc<Quic>, mut stopping: watch::Receiver<bool>) {
    let Ok(connecting) = incoming.accept() else { return };
    let connection = tokio::select! {
        // Nobody was promised an answer yet.
        _ = stopping.wait_for(|stop| *stop) => return,
        shaken = timeout(STEP_TIME_MAX, connecting) => match shaken {
            Ok(Ok(connection)) => connection,
            Ok(Err(_)) => return,
            Err(_) => return quic.clerk.stats.dropped(Counted::TcpTimeout),
        },
    };
    let _ = known.set(connection.clone());
    let guest = Arc::new(Guest {
        local: connection.local_ip(),
        connection: connection.clone(),
        share: share.clone(),
        quic,
        stopping: stopping.clone(),
    });
    let mut queries = JoinSet::new();
    loop {
        let patience = if queries.is_empty() {
            IDLE_TIME_MAX
        } else {
            IDLE_TIME_MAX + STEP_TIME_MAX
        };
        let patience = patience.saturating_sub(share.silence());
        if patience.is_zero() {
            if !queries.is_empty() {
                guest.quic.clerk.stats.dropped(Counted::TcpTimeout);
            }
            return connection.close(NO_ERROR, b"");
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(_) = queries.join_next() => {}
            stream = timeout(patience, connection.accept_bi()) => match stream {
                Ok(Ok((send, receive))) => drop(queries.spawn(exchange(send, receive, guest.clone()))),
                Ok(Err(_)) => return,
                Err(_) => {}
            },
        }
    }
    while let Some(Ok((send, receive))) = connection.accept_bi().now_or_never() {
        queries.spawn(exchange(send, receive, guest.clone()));
    }
    let _ = timeout(STOP_TIME_MAX, async { while queries.join_next().await.is_some() {} }).await;
    connection.close(NO_ERROR, b"");
}

/// What is known of a connection while it lasts.
struct Guest {
    connection: Connection,
    /// Where it was connected to, if that is known.
    local: Option<IpAddr>,
    share: Share,
    quic: Arc<Quic>,
    stopping: watch::Receiver<bool>,
}

impl Guest {
    /// Ends the connection of somebody who does not speak this protocol.
    fn reproach(&self, why: &'static str) {
        self.quic.clerk.stats.dropped(Counted::Forbidden);
        self.connection.close(PROTOCOL_ERROR, why.as_bytes());
    }

    /// Gives a stream up: a stream that is merely left looks finished, which is an error of the other side's (RFC 9250 §4.3.3).
    fn give_up(&self, send: &mut SendStream) {
        self.quic.clerk.stats.dropped(Counted::TcpTimeout);
        // Fails only where the stream is gone already.
        let _ = send.reset(EXCESSIVE_LOAD);
    }
}

/// One query and its answer. A stream that errs has gone, and there is nobody to tell.
async fn exchange(mut send: SendStream, mut receive: RecvStream, guest: Arc<Guest>) {
    let mut stopping = guest.stopping.clone();
    let query = tokio::select! {
        biased;
        query = timeout(STEP_TIME_MAX, read(&mut receive, &guest.share)) => query,
        // It has not arrived, so it is not in hand.
        _ = stopping.wait_for(|stop| *stop) => return drop(send.reset(NO_ERROR)),
    };
    let query = match query {
        Ok(Ok(query)) => query,
        Ok(Err(Unread::Gone)) => return drop(send.reset(NO_ERROR)),
        Ok(Err(Unread::Wrong(why))) => return guest.reproach(why),
        Err(_) => return guest.give_up(&mut send),
    };
    if timeout(STEP_TIME_MAX, answer(&query.octets, &mut send, &guest)).await.is_err() {
        guest.give_up(&mut send);
    }
}

/// Answers a query and waits until the client has the answer: until then it counts against the client's share.
async fn answer(query: &[u8], send: &mut SendStream, guest: &Guest) {
    let peer = guest.connection.remote_address();
    match guest.share.answer(|| guest.quic.clerk.answer(query, peer, guest.local)).await {
        Ok(answer) => {
            let length = (answer.len() as u16).to_be_bytes(); // at most 65,535
            let chunks = &mut [Bytes::copy_from_slice(&length), answer];
            if send.write_all_chunks(chunks).await.is_ok() {
                let _ = send.finish();
                let _ = send.stopped().await;
            }
        }
        Err(DropReason::Forbidden) => guest.reproach("edns-tcp-keepalive is not for QUIC"),
        Err(_) => guest.reproach("not a query"),
    }
}

/// A query, on the account of its connection.
struct Query {
    octets: Vec<u8>,
    _kept: Kept,
}

/// Why there is no query.
enum Unread {
    /// The client, or the connection, has gone.
    Gone,
    /// The stream does not carry one message and its end (RFC 9250 §4.2, §4.3.3).
    Wrong(&'static str),
}

/// Reads a stream to its end (RFC 9250 §4.2: a server may wait for that): a length and so many octets, taken in the order in which they come.
async fn read(receive: &mut RecvStream, share: &Share) -> Result<Query, Unread> {
    let (mut pieces, mut kept) = (Pieces::default(), share.keep());
    while let Some(chunk) = receive.read_chunk(usize::MAX, false).await? {
        pieces.add(chunk.offset, &chunk.bytes);
        kept.set(pieces.octets_kept());
        if pieces.is_too_much() {
            return Err(Unread::Wrong("more than one message in a stream"));
        }
    }
    let octets = pieces.message().ok_or(Unread::Wrong("the stream ended before its message"))?;
    // RFC 9250 §4.2.1: the message ID is 0; whoever sends another does not speak this protocol.
    if octets.get(..2).is_some_and(|id| id != [0, 0]) {
        return Err(Unread::Wrong("the message ID must be 0"));
    }
    Ok(Query { octets, _kept: kept })
}

impl From<ReadError> for Unread {
    fn from(_: ReadError) -> Unread {
        Unread::Gone
    }
}
