//! One DNS question to one server: over UDP, again over TCP when the answer is truncated.
//!
//! The socket is connected, so answers from elsewhere never arrive; one with another ID or another question is not an
//! answer to us and is ignored (RFC 5452 section 9.1). hickory reads and writes the messages, nothing else.

use super::Stage;
use super::words::{failure, io_failure};
use crate::model::{self, FailReason, Failure};
use hickory_proto::op::{Edns, Message, MessageType, OpCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Largest answer that we ask for over UDP.
const UDP_OCTETS_MAX: u16 = 1232;

/// A question, ready to be asked.
pub(super) struct Query {
    /// As hickory knows it.
    message: Message,
    /// On the wire.
    bytes: Vec<u8>,
}

impl Query {
    /// The question, under a fresh random ID.
    ///
    /// # Errors
    /// When there is no randomness; never seen.
    pub fn new(name: &model::Name, kind: RecordType) -> Result<Query, Failure> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|error| internal(&error))?;
        let labels: Vec<&[u8]> = name.labels().collect();
        let mut name = Name::from_labels(labels).map_err(|error| internal(&error))?;
        name.set_fqdn(true);
        let mut message = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(hickory_proto::op::Query::query(name, kind));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_OCTETS_MAX);
        message.set_edns(edns);
        let bytes = message.to_vec().map_err(|error| internal(&error))?;
        Ok(Query { message, bytes })
    }

    /// Asks a server and waits for its answer; the caller watches the time.
    ///
    /// # Errors
    /// When the server cannot be reached, or what it sends under our ID is no DNS message.
    pub async fn ask(&self, peer: SocketAddr, stage: &Stage) -> Result<Message, Failure> {
        stage.set("no answer");
        let answer = self.ask_udp(peer, stage).await?;
        if !answer.metadata.truncation {
            return Ok(answer);
        }
        stage.set("no answer over TCP");
        self.ask_tcp(peer).await
    }

    /// Asks over UDP and waits for the answer to our question.
    async fn ask_udp(&self, peer: SocketAddr, stage: &Stage) -> Result<Message, Failure> {
        let any: IpAddr = match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let network = |error| io_failure(&error);
        let socket = UdpSocket::bind((any, 0)).await.map_err(network)?;
        socket.connect(peer).await.map_err(network)?;
        socket.send(&self.bytes).await.map_err(network)?;
        let mut buffer = vec![0; 65_535];
        loop {
            let count = socket.recv(&mut buffer).await.map_err(network)?;
            let datagram = buffer.get(..count).unwrap_or_default();
            if let Some(answer) = self.read(datagram)? {
                return Ok(answer);
            }
            stage.set("only answers to other questions");
        }
    }

    /// Asks over TCP.
    async fn ask_tcp(&self, peer: SocketAddr) -> Result<Message, Failure> {
        let network = |error| io_failure(&error);
        let mut stream = TcpStream::connect(peer).await.map_err(network)?;
        // Length and message in one segment (RFC 7766 section 8).
        let length = u16::try_from(self.bytes.len()).map_err(|error| internal(&error))?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&self.bytes);
        stream.write_all(&frame).await.map_err(network)?;
        let length = stream.read_u16().await.map_err(network)?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(network)?;
        let answer = self.read(&answer)?;
        answer.ok_or_else(|| failure(FailReason::Protocol, "the answer over TCP is to another question"))
    }

    /// The message, if it answers our question; an error when it carries our ID and is no answer.
    fn read(&self, bytes: &[u8]) -> Result<Option<Message>, Failure> {
        if bytes.get(..2) != Some(self.message.metadata.id.to_be_bytes().as_slice()) {
            return Ok(None);
        }
        let broken = |error: &dyn std::fmt::Display| failure(FailReason::Protocol, format!("the answer is no DNS message: {error}"));
        let answer = Message::from_vec(bytes).map_err(|error| broken(&error))?;
        if answer.metadata.message_type != MessageType::Response {
            return Err(failure(FailReason::Protocol, "the answer is a query"));
        }
        match (answer.queries.as_slice(), self.message.queries.as_slice()) {
            // Some servers leave the question out of errors.
            ([], _) if u16::from(answer.metadata.response_code) != 0 => Ok(Some(answer)),
            ([theirs], [ours]) if same_question(theirs, ours) => Ok(Some(answer)),
            _ => Ok(None),
        }
    }
}

/// Whether two questions are the same; names compare without case (RFC 4343).
fn same_question(a: &hickory_proto::op::Query, b: &hickory_proto::op::Query) -> bool {
    a.name.eq_ignore_root_case(&b.name) && a.query_type == b.query_type && a.query_class == DNSClass::IN
}

/// The question cannot be asked.
fn internal(error: &dyn std::fmt::Display) -> Failure {
    failure(FailReason::Internal, format!("the query cannot be made: {error}"))
}
