//! DNS over QUIC from outside, by clients that mean ill or are merely odd: RFC 9250, and what they may cost.

mod support;

use hickory_proto::rr::RecordType;
use quinn::{Connection, ConnectionError, ReadError, VarInt};
use std::collections::HashSet;
use std::future::Future;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::secure::{Secure, query_zero};
use support::{PATIENCE, wait_for};
use tokio::time::timeout;

/// What a client usually takes of an answer ahead.
const WINDOW: u32 = 1 << 20;
/// DOQ_PROTOCOL_ERROR and DOQ_EXCESSIVE_LOAD (RFC 9250 §4.3).
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// Runs a client.
fn run<T>(client: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap().block_on(client)
}

/// A query with its length.
fn framed(name: &str, kind: RecordType) -> Vec<u8> {
    let message = query_zero(name, kind);
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// The query that everybody asks.
fn shop() -> Vec<u8> {
    framed("shop.example.net.", RecordType::A)
}

/// A connection.
async fn connect(secure: &Secure, endpoint: &quinn::Endpoint) -> Connection {
    let connecting = endpoint.connect(secure.tls, "localhost").unwrap();
    timeout(PATIENCE, connecting).await.unwrap().unwrap()
}

/// Whether a query is answered within two seconds.
async fn is_answered(connection: &Connection) -> bool {
    let ask = async {
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_all(&shop()).await.ok()?;
        send.finish().ok()?;
        receive.read_to_end(70_000).await.ok().filter(|answer| answer.len() > 14)
    };
    timeout(Duration::from_secs(2), ask).await.is_ok_and(|answer| answer.is_some())
}

/// RFC 9250 §4.2, §4.3.3: a stream carries one message and its end; what does not ends its connection, and what is reset before it is a
/// whole query does not. What is more than one is wrong as soon as it is there: a reset behind it may come too late.
#[test]
fn a_stream_that_is_not_one_whole_query_ends_its_connection() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    run(async {
        let endpoint = secure.quic([127, 0, 0, 1], WINDOW);
        let cases: [(&str, Vec<u8>); 6] = [
            ("nothing", Vec::new()),
            ("half a length", vec![0]),
            ("a length alone", vec![0, 33]),
            ("half a query", shop()[..20].to_vec()),
            ("an octet more", [shop(), vec![0]].concat()),
            ("two queries", [shop(), shop()].concat()),
        ];
        for (what, octets) in cases {
            let connection = connect(&secure, &endpoint).await;
            assert!(is_answered(&connection).await, "before {what}");
            if octets.len() < shop().len() {
                let (mut reset, _receive) = connection.open_bi().await.unwrap();
                reset.write_all(&octets).await.unwrap();
                reset.reset(VarInt::from_u32(3)).unwrap();
                assert!(is_answered(&connection).await, "who resets {what} has changed his mind");
            }
            let (mut send, _receive) = connection.open_bi().await.unwrap();
            send.write_all(&octets).await.unwrap();
            send.finish().unwrap();
            let ended = timeout(Duration::from_secs(4), connection.closed()).await;
            let Ok(ConnectionError::ApplicationClosed(close)) = ended else {
                panic!("{what}: {ended:?}");
            };
            assert_eq!(close.error_code, PROTOCOL_ERROR, "{what}: {close:?}");
        }
    });
    assert!(secure.site.dropped("forbidden") >= 6);
}

/// A query that does not come to its end costs its stream and nothing else.
#[test]
fn a_query_that_takes_too_long_is_given_up_and_the_others_are_answered() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    run(async {
        let connection = connect(&secure, &secure.quic([127, 0, 0, 1], WINDOW)).await;
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&shop()[..20]).await.unwrap();
        let ended = timeout(PATIENCE, receive.read_to_end(1)).await.unwrap();
        let reset = quinn::ReadToEndError::Read(ReadError::Reset(EXCESSIVE_LOAD));
        assert_eq!(ended, Err(reset), "an end would look like an answer without octets");
        assert!(is_answered(&connection).await);
    });
}

/// Streams that bring no query do not keep a place, however many there are.
#[test]
fn streams_without_queries_keep_no_place() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    let took = run(async {
        let connection = connect(&secure, &secure.quic([127, 0, 0, 1], WINDOW)).await;
        let begin = Instant::now();
        let mut often = tokio::time::interval(Duration::from_millis(500));
        while begin.elapsed() < PATIENCE {
            often.tick().await;
            let Ok((mut send, _receive)) = connection.open_bi().await else {
                break;
            };
            if send.write_all(&shop()[..20]).await.is_err() {
                break;
            }
            let _ = send.reset(VarInt::from_u32(3));
        }
        begin.elapsed()
    });
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(20), "{took:?}");
}

/// Of the answers that a client does not take only some are made, and the rest of its queries wait until they are given up.
#[test]
fn answers_that_are_not_taken_are_bounded_in_octets() {
    let secure = Secure::new();
    secure.write_big();
    let _server = secure.site.serve();
    run(async {
        let connection = connect(&secure, &secure.quic([127, 0, 0, 1], 1)).await;
        let mut streams = tokio::task::JoinSet::new();
        // Once a stream is given up its room is the next one's, for as long as that still waits.
        let is_any_ended = Arc::new(AtomicBool::new(false));
        for _ in 0..99 {
            let (connection, is_any_ended) = (connection.clone(), is_any_ended.clone());
            streams.spawn(async move {
                let (mut send, mut receive) = connection.open_bi().await.unwrap();
                send.write_all(&framed("big.example.net.", RecordType::TXT)).await.unwrap();
                send.finish().unwrap();
                // The first octet tells that there is an answer.
                let is_begun = matches!(receive.read(&mut [0]).await, Ok(Some(_))) && !is_any_ended.load(Ordering::Relaxed);
                // Nothing more is taken; the end comes all the same.
                let ended = receive.received_reset().await;
                is_any_ended.store(true, Ordering::Relaxed);
                assert!(matches!(ended, Ok(Some(EXCESSIVE_LOAD))), "{ended:?}");
                is_begun
            });
        }
        let mut begun = 0;
        while let Some(stream) = timeout(PATIENCE, streams.join_next()).await.unwrap() {
            begun += usize::from(stream.unwrap());
        }
        assert!(
            (1..=12).contains(&begun),
            "{begun} answers of 60,000 octets were made for a client that takes none"
        );
        assert!(connection.close_reason().is_none());
    });
    assert!(secure.site.dropped("tcp-timeout") >= 80);
}

/// All clients together have room for 64 MiB of answers that they do not take: beyond it some leave, not all, and are told why; others are
/// answered meanwhile.
#[test]
fn answers_that_many_do_not_take_are_bounded_for_all_together() {
    let secure = Secure::new();
    secure.write_big();
    let _server = secure.site.serve();
    run(async {
        let mut connections = Vec::new();
        for number in 0..6 {
            let endpoint = secure.quic([127, 0, 1 + number, 1], 1);
            for _ in 0..60 {
                connections.push(connect(&secure, &endpoint).await);
            }
        }
        // Four answers of 60,000 octets each: 86 MB, for five seconds.
        let begin = Instant::now();
        let mut streams = Vec::new();
        for connection in &connections {
            for _ in 0..4 {
                let Ok((mut send, receive)) = connection.open_bi().await else {
                    break;
                };
                let _ = send.write_all(&framed("big.example.net.", RecordType::TXT)).await;
                let _ = send.finish();
                streams.push((send, receive));
            }
        }
        let closed = connections.iter().map(|connection| Box::pin(connection.closed()));
        let first = timeout(PATIENCE, futures_util::future::select_all(closed)).await.unwrap().0;
        assert!(begin.elapsed() < Duration::from_secs(9), "silence would end it too");
        let ConnectionError::ApplicationClosed(close) = first else {
            panic!("{first}");
        };
        assert_eq!(close.error_code, EXCESSIVE_LOAD, "{close:?}");
        let other = connect(&secure, &secure.quic([127, 0, 9, 9], WINDOW)).await;
        assert!(is_answered(&other).await);
        let is_open = |connection: &&Connection| connection.close_reason().is_none();
        let open = connections.iter().filter(is_open).count();
        assert!(open > 100, "{open} of {} stay", connections.len());
    });
    let ended = secure.site.dropped("tcp-memory");
    assert!((1..250).contains(&ended), "{ended} had to leave");
}

/// A connection stays with the address that its handshake proved.
#[test]
fn queries_from_another_address_than_that_of_the_handshake_are_not_answered() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    run(async {
        let endpoint = secure.quic([127, 0, 0, 1], WINDOW);
        let connection = connect(&secure, &endpoint).await;
        assert!(is_answered(&connection).await);
        for address in ["127.0.0.1:0", "127.0.0.2:0"] {
            let home = endpoint.local_addr().unwrap();
            endpoint.rebind(UdpSocket::bind(address).unwrap()).unwrap();
            assert!(!is_answered(&connection).await, "asked from {address} instead of {home}");
            let other = connect(&secure, &endpoint).await;
            assert!(is_answered(&other).await, "a connection of its own is welcome from there");
        }
    });
}

/// First packets whose handshake nobody goes on with, as forged ones are, take a share of a client's places; after that it has to prove
/// its address, which it can and they cannot.
#[test]
fn many_first_packets_of_a_client_make_it_prove_its_address_and_nobody_else() {
    let secure = Secure::new();
    let _server = secure.site.serve();
    run(async {
        // Packets that quinn makes for a server that is not there.
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        nobody.set_read_timeout(Some(PATIENCE)).unwrap();
        let endpoint = secure.quic([127, 0, 0, 1], WINDOW);
        // Kept, for who is dropped says good-bye with a first packet too.
        let (mut known, mut connecting) = (HashSet::new(), Vec::new());
        let mut first_packet = || loop {
            connecting.push(endpoint.connect(nobody.local_addr().unwrap(), "localhost").unwrap());
            let mut packet = vec![0; 2_000];
            let octets = nobody.recv(&mut packet).unwrap();
            packet.truncate(octets);
            // A long header of type Initial, and the ID that the client chose (RFC 9000 §17.2.2).
            let id = packet[6..6 + usize::from(packet[5])].to_vec();
            if packet[0] & 0xf0 == 0xc0 && octets >= 1_200 && known.insert(id) {
                return packet;
            }
        };
        // Whether it is answered by a Retry (RFC 9000 §17.2.5).
        let mut is_asked = |from: [u8; 4]| {
            let socket = UdpSocket::bind(SocketAddr::from((from, 0))).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(&first_packet(), secure.tls).unwrap();
            let mut answer = [0; 2_000];
            socket.recv(&mut answer).unwrap();
            answer[0] & 0xf0 == 0xf0
        };
        let begin = Instant::now();
        let asked: Vec<bool> = (0..80).map(|_| is_asked([127, 9, 9, 9])).collect();
        let elsewhere = is_asked([127, 8, 8, 8]);
        // Places whose handshake takes too long are free again after five seconds.
        if begin.elapsed() < Duration::from_secs(5) {
            assert_eq!(asked.iter().filter(|asked| **asked).count(), 80 - 62, "{asked:?}");
            assert!(asked[79] && !elsewhere);
        } else {
            eprintln!("SKIPPED: this machine is too slow to take places faster than they are given back");
        }
        let connection = connect(&secure, &secure.quic([127, 9, 9, 9], WINDOW)).await;
        assert!(is_answered(&connection).await, "who can prove the address is served");
    });
}

/// A stop finishes what is in hand, and waits for nobody who was not promised anything.
#[test]
fn a_stop_finishes_the_answers_in_hand() {
    let secure = Secure::new();
    secure.write_big();
    let server = secure.site.serve();
    let expected = secure.tcp(&query_zero("big.example.net.", RecordType::TXT));
    run(async {
        let connection = connect(&secure, &secure.quic([127, 0, 0, 1], 4_096)).await;
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&framed("big.example.net.", RecordType::TXT)).await.unwrap();
        send.finish().unwrap();
        let mut length = [0; 2];
        timeout(PATIENCE, receive.read_exact(&mut length)).await.unwrap().unwrap();
        server.signal(nix::sys::signal::Signal::SIGTERM);
        // HTTPS is told to stop in the same breath as QUIC.
        wait_for("the stop", || TcpStream::connect(secure.https).is_err().then_some(()));
        let rest = timeout(PATIENCE, receive.read_to_end(70_000)).await.unwrap();
        assert!(rest.is_ok_and(|rest| rest == expected), "the answer that was in hand is cut off");
        let ended = timeout(PATIENCE, connection.closed()).await.unwrap();
        let ConnectionError::ApplicationClosed(close) = ended else {
            panic!("{ended}");
        };
        assert_eq!(close.error_code, VarInt::from_u32(0));
    });
    assert_eq!(server.wait_end(), Some(0));
}
