//! Look-ups of host names, asked of little DNS servers that say what they are told.

use super::*;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name as Owner, RData, Record, RecordType};
use pointsman::model::Name;
use pointsman::probe::{Addresses, Lookup, Resolver};
use std::net::IpAddr;
use tokio::net::UdpSocket;

/// What a server does with a query; none: nothing.
type Behaviour = fn(&Message, bool) -> Option<Message>;

/// A DNS server over UDP and TCP.
async fn dns_server(behave: Behaviour) -> SocketAddr {
    // Both transports at one port: another one is tried where somebody else has it.
    let (socket, listener) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            break (socket, listener);
        }
    };
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
            if let Some(answer) = behave(&Message::from_vec(&buffer[..count]).unwrap(), false) {
                let _ = socket.send_to(&answer.to_vec().unwrap(), peer).await;
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            if let Some(answer) = behave(&Message::from_vec(&query).unwrap(), true) {
                let bytes = answer.to_vec().unwrap();
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    address
}

/// An answer to a query with a code.
fn answer(query: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.response_code = code;
    answer.add_queries(query.queries.clone());
    answer
}

fn owner(name: &str) -> Owner {
    Owner::from_ascii(name).unwrap()
}

/// An alias of 60 s to a name with an address of each family, of 300 s and 45 s, among records of others.
fn chain(query: &Message, _tcp: bool) -> Option<Message> {
    let mut answer = answer(query, ResponseCode::NoError);
    let real = owner("real.example.com.");
    answer.add_answer(Record::from_rdata(owner("other.example.com."), 1, RData::A(A::new(192, 0, 2, 66))));
    answer.add_answer(match query.queries[0].query_type {
        RecordType::A => Record::from_rdata(real.clone(), 300, RData::A(A::new(192, 0, 2, 1))),
        _ => Record::from_rdata(real.clone(), 45, RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))),
    });
    answer.add_answer(Record::from_rdata(query.queries[0].name.clone(), 60, RData::CNAME(CNAME(real))));
    Some(answer)
}

fn refused(query: &Message, _tcp: bool) -> Option<Message> {
    Some(answer(query, ResponseCode::Refused))
}

fn not_there(query: &Message, _tcp: bool) -> Option<Message> {
    Some(answer(query, ResponseCode::NXDomain))
}

fn silent(_query: &Message, _tcp: bool) -> Option<Message> {
    None
}

/// IPv4 only; says nothing at all when asked for IPv6, as some load balancers do.
fn half(query: &Message, tcp: bool) -> Option<Message> {
    (query.queries[0].query_type == RecordType::A).then(|| chain(query, tcp)).flatten()
}

/// Truncated over UDP.
fn long(query: &Message, tcp: bool) -> Option<Message> {
    if tcp {
        return chain(query, tcp);
    }
    let mut answer = answer(query, ResponseCode::NoError);
    answer.metadata.truncation = true;
    Some(answer)
}

/// An alias that leads round in a circle.
fn circle(query: &Message, _tcp: bool) -> Option<Message> {
    let mut answer = answer(query, ResponseCode::NoError);
    let name = query.queries[0].name.clone();
    answer.add_answer(Record::from_rdata(name.clone(), 60, RData::CNAME(CNAME(name))));
    Some(answer)
}

/// Asks servers that behave like this, in this order.
async fn look_up(servers: &[Behaviour]) -> std::io::Result<Addresses> {
    let mut list = Vec::new();
    for behave in servers {
        list.push(dns_server(*behave).await);
    }
    let resolver = Resolver::of(list, Duration::from_millis(200));
    resolver.addresses(&Name::parse("lb.example.com.").unwrap()).await
}

fn addresses(texts: &[&str]) -> Option<Vec<IpAddr>> {
    Some(texts.iter().map(|text| text.parse().unwrap()).collect())
}

#[tokio::test]
async fn aliases_are_followed_and_the_least_ttl_counts() {
    let found = look_up(&[chain]).await.unwrap();
    let expected = Addresses {
        v4: addresses(&["192.0.2.1"]),
        v6: addresses(&["2001:db8::1"]),
        ttl: Duration::from_secs(45),
    };
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_server_that_fails_is_passed_over() {
    for first in [refused as Behaviour, silent] {
        assert_eq!(look_up(&[first, chain]).await.unwrap().v4, addresses(&["192.0.2.1"]));
    }
    let error = look_up(&[silent, refused]).await.unwrap_err().to_string();
    assert!(error.starts_with("REFUSED from 127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_believed() {
    let error = look_up(&[not_there, chain]).await.unwrap_err();
    assert_eq!(error.to_string(), "the name does not exist (NXDOMAIN)");
}

#[tokio::test]
async fn one_family_that_fails_leaves_the_other() {
    let found = look_up(&[half]).await.unwrap();
    assert_eq!(
        (found.v4, found.v6, found.ttl),
        (addresses(&["192.0.2.1"]), None, Duration::from_secs(60))
    );
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp() {
    assert_eq!(look_up(&[long]).await.unwrap().v6, addresses(&["2001:db8::1"]));
}

#[tokio::test]
async fn a_circle_of_aliases_is_no_address() {
    assert_eq!(look_up(&[circle]).await.unwrap().v4, addresses(&[]));
}
