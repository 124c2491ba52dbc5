//! Tests over real sockets on loopback.

use super::lane::Lane;
use super::stats::LaneStats;
use super::*;
use crate::answer::{Snapshot, SteeredInput, Transport};
use crate::model::{Answer, AppId, Decision, Name, Reason, RegionId};
use crate::zone;
use arc_swap::ArcSwap;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

/// A steered name answered from a region.
fn steered(region: &str, last: u8) -> SteeredInput {
    let answer = Answer::Addresses {
        v4: vec![[192, 0, 2, last].into()],
        v6: Vec::new(),
    };
    let name = Name::parse("app.example.").unwrap();
    SteeredInput {
        name: name.clone(),
        ttl: 30,
        regions: vec![(RegionId::new("iad"), answer.clone()), (RegionId::new("fra"), answer.clone())],
        decision: Arc::new(Decision {
            name,
            app: AppId::new("app"),
            active: RegionId::new(region),
            region: Some(RegionId::new(region)),
            answer,
            ttl: 30,
            reason: Reason::Healthy,
        }),
        note: None,
    }
}

/// A small zone with a steered name.
fn snapshot() -> Snapshot {
    let source = zone::Source {
        path: "example.zone".into(),
        text: b"$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\nwww CNAME app\nbig TXT \"0\"\n".to_vec(),
    };
    let apex = Name::parse("example.").unwrap();
    let zone = zone::read(&source, &apex, &mut |_, _| Err(String::new())).unwrap().zone;
    Snapshot::build(&[Arc::new(zone)], &[steered("iad", 10)], 5)
}

/// A query for type A.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet[..2].copy_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(Name::parse(name).unwrap().wire());
    packet.extend_from_slice(&[0, 1, 0, 1]);
    packet
}

/// A running server with what it answers from.
struct Fixture {
    running: Running,
    source: Arc<ArcSwap<Snapshot>>,
    stats: Arc<Stats>,
}

fn start(listen: &str, workers: usize) -> Fixture {
    let bound = Server::bind(&[listen.parse().unwrap()], workers).unwrap();
    let source = Arc::new(ArcSwap::from_pointee(snapshot()));
    let stats = Arc::new(Stats::new());
    let running = bound.start(source.clone(), stats.clone()).unwrap();
    Fixture { running, source, stats }
}

/// Asks over UDP from a connected socket, which takes a reply from the address asked only.
fn ask(at: SocketAddr, packet: &[u8]) -> Vec<u8> {
    let any = if at.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect(at).unwrap();
    socket.send(packet).unwrap();
    let mut room = [0; 2000];
    let len = socket.recv(&mut room).unwrap();
    room[..len].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_come_from_the_address_that_was_asked() {
    let fixture = start("0.0.0.0:0", 2);
    let port = fixture.running.addresses()[0].port();
    for host in ["127.0.0.1", "127.0.0.2", "127.1.2.3"] {
        let response = ask(SocketAddr::new(host.parse().unwrap(), port), &query(7, "www.example."));
        assert_eq!((&response[..2], response[7]), (&[0, 7][..], 2));
    }
    fixture.running.stop().await;
    let fixture = start("[::]:0", 1);
    let port = fixture.running.addresses()[0].port();
    assert_eq!(ask(format!("[::1]:{port}").parse().unwrap(), &query(8, "app.example."))[7], 1);
    assert!(UdpSocket::bind(("0.0.0.0", port)).is_ok(), "V6ONLY leaves IPv4 alone");
    fixture.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_pipelines_in_order_and_counts() {
    let fixture = start("127.0.0.1:0", 1);
    let at = fixture.running.addresses()[0];
    let (source, stats) = (fixture.source.clone(), fixture.stats.clone());
    let exchange = move || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut octets = Vec::new();
        for id in 0..500_u16 {
            let packet = query(id, if id % 2 == 0 { "app.example." } else { "nx.example." });
            octets.extend_from_slice(&(packet.len() as u16).to_be_bytes());
            octets.extend_from_slice(&packet);
        }
        // In two parts that cut a query in two.
        let (first, second) = octets.split_at(1001);
        stream.write_all(first).unwrap();
        stream.write_all(second).unwrap();
        for id in 0..500_u16 {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut response = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut response).unwrap();
            assert_eq!(response[..2], id.to_be_bytes());
        }
    };
    tokio::task::spawn_blocking(exchange).await.unwrap();
    let name = Name::parse("app.example.").unwrap();
    let count = |stats: &Stats, region: &str| {
        stats
            .answers()
            .get(&(name.clone(), Some(RegionId::new(region))))
            .copied()
            .unwrap_or(0)
    };
    assert_eq!(count(&stats, "iad"), 250);
    assert_eq!(stats.responses(), [(0, 250), (3, 250)]);
    assert_eq!(stats.queries()[..2], [(Transport::Udp, 0), (Transport::Tcp, 500)]);

    // A switch is answered and counted at once, and a reload (other tables) loses no counts.
    source.store(Arc::new(source.load().with(&[steered("fra", 20)])));
    assert_eq!(ask(at, &query(1, "app.example.")).last(), Some(&20));
    source.store(Arc::new(snapshot()));
    assert_eq!(ask(at, &query(2, "app.example.")).last(), Some(&10));
    assert_eq!((count(&stats, "fra"), count(&stats, "iad")), (1, 251));
    assert_eq!((count(&stats, "fra"), count(&stats, "iad")), (1, 251), "reading changes nothing");
    fixture.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named_with_its_holder_and_free_again_after_stop() {
    let fixture = start("127.0.0.1:0", 2);
    let at = fixture.running.addresses()[0];
    let error = Server::bind(&[at], 1).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BindError::InUse { address, .. } if address == at), "{text}");
    assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
    fixture.running.stop().await;
    let again = Server::bind(&[at], 1).unwrap();
    assert_eq!(again.addresses(), [at]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_client_that_sends_half_a_query_does_not_delay_the_stop() {
    let fixture = start("127.0.0.1:0", 1);
    let mut stream = TcpStream::connect(fixture.running.addresses()[0]).unwrap();
    stream.write_all(&[0, 30, 1]).unwrap();
    let begin = std::time::Instant::now();
    fixture.running.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_portable_lane_answers_octet_for_octet_as_the_batches_do() {
    let source = Arc::new(ArcSwap::from_pointee(snapshot()));
    let answers = [true, false].map(|batches| {
        let bound = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let socket = Arc::new(socket2::Socket::from(bound));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stats = Arc::new(LaneStats::new(Transport::Udp));
        let lane = Lane {
            socket: socket.clone(),
            address,
            source: source.clone(),
            stats,
            is_stopping: is_stopping.clone(),
        };
        let thread = std::thread::spawn(move || if batches { lane.run() } else { lane.run_single() });
        let mut packets: Vec<Vec<u8>> = ["app.example.", "www.example.", "nx.example.", "other."]
            .iter()
            .map(|name| query(9, name))
            .collect();
        packets.push(vec![1; 12]); // FORMERR
        packets.push(query(9, "app.example.")[..20].to_vec());
        packets.push(vec![0; 5000]); // longer than is looked at
        let answers: Vec<Vec<u8>> = packets.iter().map(|packet| ask(address, packet)).collect();
        is_stopping.store(true, Ordering::Release);
        let _ = socket.shutdown(std::net::Shutdown::Both);
        thread.join().unwrap();
        answers
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_burst_larger_than_a_batch_is_answered_whole() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(async { start("127.0.0.1:0", 1) });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect(fixture.running.addresses()[0]).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for id in 0..100_u16 {
        socket.send(&query(id, "www.example.")).unwrap();
    }
    for _ in 0..100 {
        let mut room = [0; 512];
        let len = socket.recv(&mut room).unwrap();
        assert_eq!(room[7], 2, "{:?}", &room[..len]);
        ids.insert(u16::from_be_bytes([room[0], room[1]]));
    }
    assert_eq!(ids.len(), 100);
    runtime.block_on(fixture.running.stop());
}
