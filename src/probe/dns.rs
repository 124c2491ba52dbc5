//! `kind = "dns"`: one query over UDP, again over TCP when the answer is truncated.
//!
//! The socket is connected, so answers from elsewhere never arrive; one with another ID or another
//! question is not an answer to us and is ignored (RFC 5452 section 9.1). hickory reads and writes the
//! messages, nothing else.

use super::words::{clip, failure, io_failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{DnsProbe, FailReason, Failure, ProbeTarget, rcode};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Largest answer that we ask for over UDP.
const UDP_OCTETS_MAX: u16 = 1232;
/// Most different answers that a message names.
const ANSWERS_NAMED_MAX: usize = 4;

/// One probe at one address.
pub(super) struct Dns {
    /// Where to.
    peer: SocketAddr,
    /// What to ask and what to expect.
    probe: DnsProbe,
}

impl Dns {
    /// The probe at its target.
    pub fn new(probe: &DnsProbe, target: &ProbeTarget) -> Dns {
        Dns {
            peer: SocketAddr::new(target.address, probe.port),
            probe: probe.clone(),
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Result<String, Failure> {
        stage.set("no answer");
        let query = self.query()?;
        let bytes = query.to_vec().map_err(|error| internal(&error))?;
        let mut answer = self.ask_udp(&query, &bytes, stage).await?;
        if answer.metadata.truncation {
            stage.set("no answer over TCP");
            answer = self.ask_tcp(&query, &bytes).await?;
        }
        self.judge(&answer)
    }

    /// The question, under a fresh random ID.
    fn query(&self) -> Result<Message, Failure> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|error| internal(&error))?;
        let labels: Vec<&[u8]> = self.probe.qname.labels().collect();
        let mut name = Name::from_labels(labels).map_err(|error| internal(&error))?;
        name.set_fqdn(true);
        let mut message = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name, RecordType::from(self.probe.qtype.0)));
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_OCTETS_MAX);
        message.set_edns(edns);
        Ok(message)
    }

    /// Asks over UDP and waits for the answer to our question.
    async fn ask_udp(&self, query: &Message, bytes: &[u8], stage: &Stage) -> Result<Message, Failure> {
        let any: IpAddr = match self.peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let network = |error| io_failure(&error);
        let socket = UdpSocket::bind((any, 0)).await.map_err(network)?;
        socket.connect(self.peer).await.map_err(network)?;
        socket.send(bytes).await.map_err(network)?;
        let mut buffer = vec![0; 65_535];
        loop {
            let count = socket.recv(&mut buffer).await.map_err(network)?;
            let datagram = buffer.get(..count).unwrap_or_default();
            if let Some(answer) = read(query, datagram)? {
                return Ok(answer);
            }
            stage.set("only answers to other questions");
        }
    }

    /// Asks over TCP.
    async fn ask_tcp(&self, query: &Message, bytes: &[u8]) -> Result<Message, Failure> {
        let network = |error| io_failure(&error);
        let mut stream = TcpStream::connect(self.peer).await.map_err(network)?;
        // Length and message in one segment (RFC 7766 section 8).
        let mut frame = u16::try_from(bytes.len()).map_err(|error| internal(&error))?.to_be_bytes().to_vec();
        frame.extend_from_slice(bytes);
        stream.write_all(&frame).await.map_err(network)?;
        let length = stream.read_u16().await.map_err(network)?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(network)?;
        read(query, &answer)?.ok_or_else(|| failure(FailReason::Protocol, "the answer over TCP is to another question"))
    }

    /// Whether the answer is as expected.
    fn judge(&self, answer: &Message) -> Result<String, Failure> {
        let code = u16::from(answer.metadata.response_code);
        if code != u16::from(self.probe.rcode) {
            let name = u8::try_from(code).map_or_else(|_| format!("RCODE{code}").into(), rcode::name);
            let message = format!("answer is {name}, expected {}", rcode::name(self.probe.rcode));
            return Err(failure(FailReason::Status, message));
        }
        if self.probe.data.is_empty() {
            return Ok(format!("answer is {}", rcode::name(self.probe.rcode)));
        }
        let wanted = RecordType::from(self.probe.qtype.0);
        let records = answer.answers.iter().filter(|record| record.record_type() == wanted);
        let found: Vec<String> = records.map(|record| record.data.to_string()).collect();
        if found.iter().any(|one| self.probe.data.iter().any(|data| alike(one, data))) {
            return Ok(format!("answer is {}", list(&found)));
        }
        let kind = self.probe.qtype;
        let expected = list(&self.probe.data);
        let message = match found.len() {
            0 => format!("answer has no {kind} record, expected {expected}"),
            _ => format!("answer is {}, expected {expected}", list(&found)),
        };
        Err(failure(FailReason::Content, message))
    }
}

impl Kind for Dns {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(async move { Found::of(self.check(stage).await) })
    }
}

/// The message, if it answers our question; an error when it carries our ID and is no answer.
fn read(query: &Message, bytes: &[u8]) -> Result<Option<Message>, Failure> {
    if bytes.get(..2) != Some(query.metadata.id.to_be_bytes().as_slice()) {
        return Ok(None);
    }
    let broken = |error: &dyn std::fmt::Display| failure(FailReason::Protocol, format!("the answer is no DNS message: {error}"));
    let answer = Message::from_vec(bytes).map_err(|error| broken(&error))?;
    if answer.metadata.message_type != MessageType::Response {
        return Err(failure(FailReason::Protocol, "the answer is a query"));
    }
    match (answer.queries.as_slice(), query.queries.as_slice()) {
        // Some servers leave the question out of errors.
        ([], _) if u16::from(answer.metadata.response_code) != 0 => Ok(Some(answer)),
        ([theirs], [ours]) if same_question(theirs, ours) => Ok(Some(answer)),
        _ => Ok(None),
    }
}

/// Whether two questions are the same; names compare without case (RFC 4343).
fn same_question(a: &Query, b: &Query) -> bool {
    a.name.eq_ignore_root_case(&b.name) && a.query_type == b.query_type && a.query_class == DNSClass::IN
}

/// Whether two presentation forms say the same: addresses by value, the rest without case, quotes and final dot.
fn alike(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => plain(a) == plain(b),
    }
}

/// The form in which [`alike`] compares.
fn plain(text: &str) -> String {
    let words = text.split_ascii_whitespace().map(|word| {
        let word = word.replace('"', "").to_ascii_lowercase();
        word.strip_suffix('.').map(str::to_owned).unwrap_or(word)
    });
    words.collect::<Vec<String>>().join(" ")
}

/// Some of the data, for a message.
fn list(data: &[String]) -> String {
    let mut named: Vec<String> = data.iter().take(ANSWERS_NAMED_MAX).map(|one| clip(one, 60)).collect();
    if data.len() > ANSWERS_NAMED_MAX {
        named.push("…".to_owned());
    }
    named.join(" or ")
}

/// The probe could not be run.
fn internal(error: &dyn std::fmt::Display) -> Failure {
    failure(FailReason::Internal, format!("the query cannot be made: {error}"))
}
