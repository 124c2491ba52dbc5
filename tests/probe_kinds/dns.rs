//! The dns kind, against a server that is made up here.

use super::*;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, TXT};
use hickory_proto::rr::{Name as Domain, RData, Record};
use pointsman::model::{DnsProbe, Name, Rtype, rcode};
use tokio::net::UdpSocket;

fn dns(port: u16, qtype: Rtype, rcode: u8, data: &[&str]) -> ProbeKind {
    ProbeKind::Dns(DnsProbe {
        port,
        qname: Name::parse("Shop.Example.NET.").unwrap(),
        qtype,
        rcode,
        data: data.iter().map(|one| (*one).to_owned()).collect(),
    })
}

/// A server on UDP and TCP of one port; `answer` gives the datagrams for a query, over TCP the first only.
async fn dns_server(answer: impl Fn(&Message, bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> u16 {
    let answer = Arc::new(answer);
    let over_tcp = Arc::clone(&answer);
    let tcp = server(move |mut stream| {
        let answer = Arc::clone(&over_tcp);
        async move {
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            let reply = answer(&Message::from_vec(&query).unwrap(), true).remove(0);
            stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    })
    .await;
    let socket = UdpSocket::bind(tcp).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
            for reply in answer(&Message::from_vec(&buffer[..count]).unwrap(), false) {
                socket.send_to(&reply, peer).await.unwrap();
            }
        }
    });
    tcp.port()
}

/// An answer to a query with these data.
fn reply(query: &Message, code: ResponseCode, data: Vec<RData>) -> Message {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.response_code = code;
    message.add_queries(query.queries.clone());
    let owner = query.queries[0].name.clone();
    message.add_answers(data.into_iter().map(|data| Record::from_rdata(owner.clone(), 30, data)));
    message
}

fn address(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}

#[tokio::test]
async fn rcode_and_data_are_compared() {
    let port = dns_server(|query, _| {
        assert!(query.metadata.recursion_desired);
        assert_eq!(query.max_payload(), 1232);
        vec![reply(query, ResponseCode::NoError, vec![address(1), address(2)]).to_vec().unwrap()]
    })
    .await;
    passes(&run(dns(port, Rtype::A, rcode::NOERROR, &[]), "127.0.0.1", LIMIT).await);
    passes(&run(dns(port, Rtype::A, rcode::NOERROR, &["192.0.2.9", "192.0.2.2"]), "127.0.0.1", LIMIT).await);
    let seen = run(dns(port, Rtype::A, rcode::NOERROR, &["192.0.2.9"]), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Content, "answer is 192.0.2.1 or 192.0.2.2, expected 192.0.2.9");
    let seen = run(dns(port, Rtype::AAAA, rcode::NOERROR, &["2001:db8::1"]), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Content, "answer has no AAAA record, expected 2001:db8::1");
    let seen = run(dns(port, Rtype::A, rcode::NXDOMAIN, &[]), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Status, "answer is NOERROR, expected NXDOMAIN");
}

#[tokio::test]
async fn names_and_texts_compare_by_what_they_say() {
    let port = dns_server(|query, _| {
        let data = match u16::from(query.queries[0].query_type) {
            16 => RData::TXT(TXT::new(vec!["ready to serve".to_owned()])),
            _ => RData::CNAME(hickory_proto::rr::rdata::CNAME(Domain::from_ascii("Fra.Example.net.").unwrap())),
        };
        vec![reply(query, ResponseCode::NoError, vec![data]).to_vec().unwrap()]
    })
    .await;
    passes(&run(dns(port, Rtype::TXT, rcode::NOERROR, &["\"ready to serve\""]), "127.0.0.1", LIMIT).await);
    passes(&run(dns(port, Rtype::CNAME, rcode::NOERROR, &["fra.example.net"]), "127.0.0.1", LIMIT).await);
}

#[tokio::test]
async fn servfail_and_a_closed_port_are_told_apart() {
    let port = dns_server(|query, _| vec![reply(query, ResponseCode::ServFail, vec![]).to_vec().unwrap()]).await;
    let seen = run(dns(port, Rtype::A, rcode::NOERROR, &[]), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Status, "answer is SERVFAIL, expected NOERROR");
    passes(&run(dns(port, Rtype::A, rcode::SERVFAIL, &[]), "127.0.0.1", LIMIT).await);
    let seen = run(dns(closed_port().await, Rtype::A, rcode::NOERROR, &[]), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Connect, "connection refused");
}

#[tokio::test]
async fn truncated_answers_are_asked_again_over_tcp() {
    let port = dns_server(|query, tcp| {
        let mut message = reply(query, ResponseCode::NoError, if tcp { vec![address(1)] } else { vec![] });
        message.metadata.truncation = !tcp;
        vec![message.to_vec().unwrap()]
    })
    .await;
    passes(&run(dns(port, Rtype::A, rcode::NOERROR, &["192.0.2.1"]), "127.0.0.1", LIMIT).await);
}

#[tokio::test]
async fn answers_to_other_questions_are_ignored() {
    let port = dns_server(|query, _| {
        let mut id = reply(query, ResponseCode::NoError, vec![address(9)]);
        id.metadata.id ^= 1;
        let mut name = reply(query, ResponseCode::NoError, vec![address(9)]);
        name.queries[0].name = Domain::from_ascii("other.example.").unwrap();
        let right = reply(query, ResponseCode::NoError, vec![address(1)]);
        [id, name, right].iter().map(|one| one.to_vec().unwrap()).collect()
    })
    .await;
    passes(&run(dns(port, Rtype::A, rcode::NOERROR, &["192.0.2.1"]), "127.0.0.1", LIMIT).await);
    let wrong = dns_server(|query, _| {
        let mut id = reply(query, ResponseCode::NoError, vec![address(1)]);
        id.metadata.id ^= 1;
        vec![id.to_vec().unwrap()]
    })
    .await;
    let seen = run(dns(wrong, Rtype::A, rcode::NOERROR, &[]), "127.0.0.1", Duration::from_millis(300)).await;
    fails(&seen, FailReason::Timeout, "only answers to other questions within 300ms");
}

#[tokio::test]
async fn hostile_servers_are_bounded() {
    let limit = Duration::from_millis(300);
    let silent = dns_server(|_, _| vec![]).await;
    let seen = run(dns(silent, Rtype::A, rcode::NOERROR, &[]), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "no answer within 300ms");
    let garbage = dns_server(|query, _| vec![[&query.metadata.id.to_be_bytes()[..], &[0xff; 40]].concat()]).await;
    let seen = run(dns(garbage, Rtype::A, rcode::NOERROR, &[]), "127.0.0.1", LIMIT).await;
    assert_eq!(seen.reason, Some(FailReason::Protocol));
    assert!(seen.message.starts_with("the answer is no DNS message: "), "{}", seen.message);
    let echo = dns_server(|query, _| vec![query.to_vec().unwrap()]).await;
    let seen = run(dns(echo, Rtype::A, rcode::NOERROR, &[]), "127.0.0.1", LIMIT).await;
    fails(&seen, FailReason::Protocol, "the answer is a query");
    let half = dns_server(|query, tcp| {
        let mut message = reply(query, ResponseCode::NoError, vec![]);
        message.metadata.truncation = true;
        message.metadata.message_type = MessageType::Response;
        let bytes = message.to_vec().unwrap();
        vec![if tcp { bytes[..5].to_vec() } else { bytes }]
    })
    .await;
    let seen = run(dns(half, Rtype::A, rcode::NOERROR, &[]), "127.0.0.1", LIMIT).await;
    assert_eq!(seen.reason, Some(FailReason::Protocol), "{seen:?}");
}
