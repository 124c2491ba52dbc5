//! Tests over real sockets on loopback.

use super::desk::Desk;
use super::lane::Lane;
use super::stats::LaneStats;
use super::*;
use crate::answer::{CookieSecrets, Service, Settings, Snapshot, SteeredInput, Transport};
use crate::model::{Answer, AppId, Decision, Name, Prefix, PrefixSet, RateLimit, Reason, RegionId};
use crate::zone;
use arc_swap::ArcSwap;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

/// A steered name answered from a region.
fn steered(region: &str, last: u8) -> SteeredInput {
    let answer = Arc::new(Answer::Addresses {
        v4: vec![[192, 0, 2, last].into()],
        v6: Vec::new(),
    });
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
            is_home_drained: false,
        }),
        is_probed: true,
    }
}

/// A small zone.
fn zone() -> Arc<zone::Zone> {
    let source = zone::Source {
        path: "example.zone".into(),
        text: b"$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\nwww CNAME app\nbig TXT \"0\"\n".to_vec(),
    };
    let apex = Name::parse("example.").unwrap();
    Arc::new(zone::read(&source, &apex, &mut |_, _| Err(String::new())).unwrap().zone)
}

/// It with a steered name.
fn snapshot() -> Snapshot {
    Snapshot::build(&[zone()], &[steered("iad", 10)], 5)
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

/// A lane on a thread of its own, in one way or the other.
struct OneLane {
    socket: Arc<socket2::Socket>,
    address: SocketAddr,
    is_stopping: Arc<AtomicBool>,
    stats: Arc<LaneStats>,
    thread: JoinHandle<()>,
}

impl OneLane {
    fn start(source: &Arc<ArcSwap<Snapshot>>, batches: bool) -> OneLane {
        let bound = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let socket = Arc::new(socket2::Socket::from(bound));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stats = Arc::new(LaneStats::new(Transport::Udp));
        let lane = Lane {
            socket: socket.clone(),
            address,
            source: source.clone(),
            stats: stats.clone(),
            is_stopping: is_stopping.clone(),
        };
        let thread = std::thread::spawn(move || if batches { lane.run() } else { lane.run_single() });
        OneLane {
            socket,
            address,
            is_stopping,
            stats,
            thread,
        }
    }

    fn stop(self) {
        self.is_stopping.store(true, Ordering::Release);
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        self.thread.join().unwrap();
    }
}

/// Packets of every kind: sound queries with and without EDNS and options, cut, changed and made up.
fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let names = [
        "app.example.",
        "www.example.",
        "nx.example.",
        "other.",
        "example.",
        "x.app.example.",
    ];
    let options = vec![
        None,
        Some(vec![]),
        Some(vec![0, 3, 0, 0]),
        Some([&[0, 10, 0, 8][..], &[7; 8]].concat()),
        Some([&[0, 10, 0, 24][..], &[7; 24]].concat()),
        Some(vec![0, 10, 0, 1, 1]),
    ];
    let sound = (any::<u16>(), prop::sample::select(names.to_vec()), prop::sample::select(options)).prop_map(|(id, name, options)| {
        let mut packet = query(id, name);
        if let Some(options) = options {
            packet[11] = 1;
            packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, options.len() as u8]);
            packet.extend(options);
        }
        packet
    });
    let spoilt = (sound.clone(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(|(mut packet, at, octet, is_cut)| {
        let at = at.index(packet.len());
        if is_cut {
            packet.truncate(at);
        } else {
            packet[at] = octet;
        }
        packet
    });
    let made_up = prop::collection::vec(any::<u8>(), 0..600);
    prop::collection::vec(prop_oneof![4 => sound, 3 => spoilt, 1 => made_up, 1 => Just(vec![0; 5000])], 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Where there are no batch calls the same octets come back: each packet's response, or none to both.
    #[test]
    fn the_portable_lane_answers_octet_for_octet_as_the_batches_do(packets in packets()) {
        let source = Arc::new(ArcSwap::from_pointee(snapshot()));
        let answers = [true, false].map(|batches| {
            let lane = OneLane::start(&source, batches);
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.connect(lane.address).unwrap();
            for packet in &packets {
                client.send(packet).unwrap();
            }
            // The last is always answered: then all before it are.
            client.send(&query(0xffff, "marker.example.")).unwrap();
            let mut answers = Vec::new();
            let mut room = [0; 2000];
            loop {
                let len = client.recv(&mut room).unwrap();
                if room[..len].ends_with(b"marker") || room[..len].windows(6).any(|window| window == b"marker") {
                    break;
                }
                answers.push(room[..len].to_vec());
            }
            let drops: Vec<u64> = Counted::ALL.iter().map(|reason| lane.stats.drops(*reason)).collect();
            lane.stop();
            (answers, drops)
        });
        prop_assert_eq!(&answers[0], &answers[1]);
    }
}

/// A snapshot that answers so often.
fn limited(responses_per_second: u32, exempt: &[&str]) -> Snapshot {
    let settings = Settings {
        service: Service {
            cookies: Some(CookieSecrets::new([5; 16], None)),
            rate_limit: Some(RateLimit {
                responses_per_second,
                slip: 2,
                ipv4_prefix: 24,
                ipv6_prefix: 56,
                exempt: PrefixSet::new(&exempt.iter().map(|text| Prefix::parse(text).unwrap()).collect::<Vec<_>>()),
                table_size: 1000,
            }),
            ..Service::default()
        },
        ..Settings::default()
    };
    Snapshot::build_with(&[zone()], &[steered("iad", 10)], 5, settings)
}

#[test]
fn what_is_asked_too_often_is_answered_shortly_or_not_at_all_and_counted() {
    let source = Arc::new(ArcSwap::from_pointee(limited(10, &[])));
    let lane = OneLane::start(&source, true);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.connect(lane.address).unwrap();
    let mut room = [0; 2000];
    // Each waits for an answer where one is due: whole, whole, …, then none and TC in turns.
    let (mut whole, mut short, mut sent) = (0, 0, 0);
    while short < 5 {
        client.send(&query(sent, "app.example.")).unwrap();
        sent += 1;
        if whole < 10 || (sent - whole) % 2 == 0 {
            let len = client.recv(&mut room).unwrap();
            match room[2] & 2 != 0 {
                true => {
                    short += 1;
                    assert_eq!((len, room[7]), (query(0, "app.example.").len(), 0), "no more than came in");
                }
                false => whole += 1,
            }
        }
        assert!(sent < 2000, "a slow machine gets whole answers in between, but not for ever");
    }
    assert!(whole >= 10);
    assert_eq!(lane.stats.drops(Counted::RateShort), short as u64);
    assert!(lane.stats.drops(Counted::RateLimited) >= 4);

    // The same limit does not hold another name up, nor a client with a good cookie.
    assert_eq!(ask(lane.address, &query(1, "www.example."))[7], 2);
    let mut first = query(1, "app.example.");
    first[11] = 1;
    first.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8]);
    first.extend_from_slice(b"clientck");
    let cookie = loop {
        client.send(&first).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let Ok(len) = client.recv(&mut room) else { continue };
        break room[len - 24..len].to_vec();
    };
    let mut known = query(1, "app.example.");
    known[11] = 1;
    known.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 28, 0, 10, 0, 24]);
    known.extend_from_slice(&cookie);
    for _ in 0..50 {
        assert_eq!(ask(lane.address, &known)[7], 1);
    }

    // A reload to other limits is in force with the next batch.
    source.store(Arc::new(limited(10, &["127.0.0.0/8"])));
    for _ in 0..50 {
        assert_eq!(ask(lane.address, &query(1, "app.example."))[7], 1);
    }
    lane.stop();
}

#[test]
fn forged_sources_that_lead_back_are_dropped_and_counted() {
    let stats = Arc::new(LaneStats::new(Transport::Udp));
    let (snapshot, packet) = (snapshot(), query(1, "app.example."));
    let mut desk = Desk::new("0.0.0.0:53".parse().unwrap(), stats.clone());
    desk.begin(&snapshot, 1);
    let mut room = [0; 1232];
    let mut answer = |peer: &str, local: Option<&str>| {
        let local = local.map(|local| local.parse().unwrap());
        desk.answer(&snapshot, &packet, peer.parse().unwrap(), local, &mut room).is_some()
    };
    assert!(answer("192.0.2.1:53", Some("192.0.2.2")), "another server may ask from its port");
    assert!(answer("192.0.2.2:54", Some("192.0.2.2")), "and this machine from another port");
    assert!(!answer("192.0.2.2:53", Some("192.0.2.2")));
    assert!(!answer("192.0.2.1:0", Some("192.0.2.2")));
    assert_eq!((stats.drops(Counted::OwnSource), stats.drops(Counted::PortZero)), (1, 1));
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
