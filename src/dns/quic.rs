//! DNS over QUIC (RFC 9250): a connection a client, a stream a query.
//!
//! Bounded: connections in all, by client and by neighbourhood; time of a handshake, of a query's arrival, of an answer's
//! departure and between queries; streams a connection; octets in flight. When places run short, or many of one network's are
//! taken, a client has to prove its address first (RFC 9000 §8.1.2), so that forged packets take none; when there are none
//! left, whoever has been silent longest makes room (`sitting`).
//!
//! Why this is built on quinn and not on hickory-server's DoQ listener, which is built on quinn too: that one waits for each
//! handshake to end before it looks at the next client, five seconds for one packet that nobody follows up, so that a packet
//! in five seconds keeps everybody out; it takes connections without limit; it gives up a connection's last answer at its
//! hundredth query; and it encodes every answer a second time. None of it can be changed from outside.
//!
//! Deliberately absent: 0-RTT (RFC 9250 §4.5 allows it for queries, and replays of them would be answered), zone transfer.

use super::clerk::Clerk;
use super::lane::QUERY_OCTETS_MAX;
use super::sitting::{Place, Sitter, Sitting};
use super::stats::Counted;
use crate::answer::DropReason;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest time for a handshake, a query's arrival, an answer's departure.
const STEP_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection may go without a query.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// Queries of one connection that are worked on at once.
const STREAMS_MAX: u32 = 100;
/// Octets of one stream, and of all streams of a connection, that a client may send ahead.
const RECEIVE_WINDOWS: (u32, u32) = (8 * 1024, 64 * 1024);
/// Octets of answers that are kept for a connection.
const SEND_WINDOW: u64 = 256 * 1024;
/// Clients that may wait for their handshake to be looked at, and octets kept for one of them and for all.
const INCOMING_MAX: (usize, u64, u64) = (1024, 16 * 1024, 4 << 20);

/// DOQ_NO_ERROR and DOQ_PROTOCOL_ERROR (RFC 9250 §4.3).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);

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
    loop {
        let incoming = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
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
            Ok(place) => drop(tokio::spawn(sit(incoming, place, quic.clone()))),
            Err(_) => {
                quic.clerk.stats.dropped(Counted::TcpFull);
                incoming.refuse();
            }
        }
    }
    endpoint.close(NO_ERROR, b"");
    endpoint.wait_idle().await;
}

/// Serves a connection until it ends or its place is given to another; the place is given back when it ends.
async fn sit(incoming: Incoming, place: Place, quic: Arc<Quic>) {
    tokio::select! {
        () = place.is_to_leave() => quic.clerk.stats.dropped(Counted::TcpFull),
        () = serve(incoming, place.sitter(), quic.clone()) => {}
    }
}

/// Serves a connection.
async fn serve(incoming: Incoming, sitter: Arc<Sitter>, quic: Arc<Quic>) {
    let Ok(connecting) = incoming.accept() else { return };
    let connection = match timeout(STEP_TIME_MAX, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return,
        Err(_) => return quic.clerk.stats.dropped(Counted::TcpTimeout),
    };
    let local = connection.local_ip();
    let mut queries = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = queries.join_next() => {}
            stream = timeout(IDLE_TIME_MAX, connection.accept_bi()) => match stream {
                Ok(Ok((send, receive))) => {
                    sitter.note();
                    let (quic, connection) = (quic.clone(), connection.clone());
                    queries.spawn(async move {
                        let exchanged = timeout(STEP_TIME_MAX * 2, exchange(send, receive, &quic, &connection, local));
                        if exchanged.await.is_err() {
                            quic.clerk.stats.dropped(Counted::TcpTimeout);
                        }
                    });
                }
                Ok(Err(_)) => return,
                Err(_) if queries.is_empty() => return connection.close(NO_ERROR, b""),
                Err(_) => {}
            },
        }
    }
}

/// One query and its answer. A stream that errs has gone, and there is nobody to tell.
async fn exchange(mut send: SendStream, mut receive: RecvStream, quic: &Quic, connection: &Connection, local: Option<IpAddr>) {
    let mut length = [0; 2];
    if receive.read_exact(&mut length).await.is_err() {
        return;
    }
    // As over TCP: no sound query is longer than what is looked at.
    let length = usize::from(u16::from_be_bytes(length)).min(QUERY_OCTETS_MAX);
    let mut query = vec![0; length];
    if receive.read_exact(&mut query).await.is_err() {
        return;
    }
    // RFC 9250 §4.2.1: the message ID is 0; whoever sends another does not speak this protocol.
    if query.get(..2).is_some_and(|id| id != [0, 0]) {
        quic.clerk.stats.dropped(Counted::Forbidden);
        return connection.close(PROTOCOL_ERROR, b"the message ID must be 0");
    }
    match quic.clerk.answer(&query, connection.remote_address(), local) {
        Ok(answer) => {
            let length = (answer.len() as u16).to_be_bytes(); // at most 65,535
            let chunks = &mut [bytes::Bytes::copy_from_slice(&length), answer];
            if send.write_all_chunks(chunks).await.is_ok() {
                let _ = send.finish();
                // Until the client has it, the stream counts against its share.
                let _ = send.stopped().await;
            }
        }
        Err(DropReason::Forbidden) => connection.close(PROTOCOL_ERROR, b"edns-tcp-keepalive is not for QUIC"),
        Err(_) => connection.close(PROTOCOL_ERROR, b"not a query"),
    }
}
