//! TCP from outside, by clients that mean ill or are merely odd: RFC 7766, 7828, and what a flood may cost.

mod support;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::{PATIENCE, PLAIN, Site, query, resident, try_ask, wait_for};

/// Longest time until a client that makes the server wait is cut, with what a busy machine adds.
const CUT_TIME_MAX: Duration = Duration::from_secs(12);

/// A connection to the site.
fn connect(site: &Site) -> TcpStream {
    let stream = TcpStream::connect(site.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A message with its length.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut octets = (message.len() as u16).to_be_bytes().to_vec();
    octets.extend_from_slice(message);
    octets
}

/// An A query with its length.
fn ask_shop() -> Vec<u8> {
    framed(&query("shop.example.net.", RecordType::A))
}

/// The next message.
fn receive(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    Message::from_vec(&message).unwrap()
}

/// Whether the server ended the connection.
fn is_ended(read: std::io::Result<usize>) -> bool {
    match read {
        Ok(octets) => octets == 0,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    }
}

#[test]
fn odd_clients_are_answered_as_the_rfcs_say() {
    let site = Site::new(PLAIN);
    let _server = site.serve();

    // RFC 7766 §6.2.4: who sends no more may still want his answers.
    let mut half_closed = connect(&site);
    half_closed.write_all(&[ask_shop(), ask_shop()].concat()).unwrap();
    half_closed.shutdown(Shutdown::Write).unwrap();
    for _ in 0..2 {
        assert_eq!(receive(&mut half_closed).answers.len(), 1);
    }
    assert!(is_ended(half_closed.read(&mut [0])));

    // A message without octets is no DNS message.
    let mut empty = connect(&site);
    empty.write_all(&[ask_shop(), vec![0, 0], ask_shop()].concat()).unwrap();
    assert_eq!(receive(&mut empty).answers.len(), 1, "what came before it is answered");
    assert!(is_ended(empty.read(&mut [0])));

    // The longest message there is: FORMERR, and the connection is good for more.
    let mut giant = connect(&site);
    let mut message = query("shop.example.net.", RecordType::A);
    message.resize(65_535, 0);
    for _ in 0..3 {
        giant.write_all(&[framed(&message), ask_shop()].concat()).unwrap();
        assert_eq!(receive(&mut giant).metadata.response_code, ResponseCode::FormErr);
        assert_eq!(receive(&mut giant).answers.len(), 1);
    }

    // Octet by octet.
    let mut pieces = connect(&site);
    pieces.set_nodelay(true).unwrap();
    for octet in ask_shop() {
        pieces.write_all(&[octet]).unwrap();
    }
    assert_eq!(receive(&mut pieces).answers.len(), 1);

    // Answers are no queries; the connection goes on.
    let mut answer = query("shop.example.net.", RecordType::A);
    answer[2] |= 0x80;
    pieces.write_all(&[framed(&answer), ask_shop()].concat()).unwrap();
    assert_eq!(receive(&mut pieces).answers.len(), 1);
}

/// Answers that could not be sent die with their connection, over TCP and TLS alike: the lane makes the next one's in the same place.
#[test]
fn answers_to_a_client_that_is_gone_go_to_nobody_else() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    let gone = framed(&query("gone.example.net.", RecordType::A));
    for _ in 0..200 {
        let mut stream = connect(&site);
        stream.write_all(&gone).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream); // a reset, while its query is perhaps not even read
        let mut next = connect(&site);
        next.write_all(&ask_shop()).unwrap();
        let answer = receive(&mut next);
        assert_eq!(answer.queries[0].name().to_string(), "shop.example.net.");
    }
}

/// Whoever writes first and reads later gets every answer, without the server's waiting for him to fall silent.
#[test]
fn a_client_that_reads_late_gets_every_answer() {
    let site = Site::new(PLAIN);
    let text = format!("\"{}\" ", "t".repeat(250)).repeat(4);
    site.write_zone(&format!("{}big IN TXT {text}\n", support::ZONE));
    let _server = site.serve();
    let mut stream = connect(&site);
    let ask = framed(&query("big.example.net.", RecordType::TXT));
    let mut writer = stream.try_clone().unwrap();
    let many = 60_000;
    let (told, full) = std::sync::mpsc::channel();
    let writing = std::thread::spawn(move || {
        let batch = ask.repeat(100);
        writer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut written = 0;
        let whole = batch.len() * many / 100;
        while written < whole {
            let at = written % batch.len();
            match writer.write(&batch[at..]) {
                Ok(octets) => written += octets,
                // Everything on the way is full: now the other side may begin to read.
                Err(_) => drop(told.send(())),
            }
        }
        drop(told);
    });
    let _ = full.recv();
    let begin = Instant::now();
    for _ in 0..many {
        receive(&mut stream);
    }
    writing.join().unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(9),
        "answers came only after silence: {:?}",
        begin.elapsed()
    );
}

/// RFC 7766 §6.2.4: a client that sends its last query and the end of its stream in one is answered and sees the end at once.
#[test]
fn an_end_that_comes_with_the_last_query_is_seen() {
    let site = Site::new(PLAIN);
    let _server = site.serve();
    let begin = Instant::now();
    for _ in 0..50 {
        let mut stream = connect(&site);
        stream.write_all(&ask_shop()).unwrap();
        receive(&mut stream); // so that it is known to the poll
        stream.write_all(&ask_shop()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        receive(&mut stream);
        assert!(is_ended(stream.read(&mut [0])));
        assert!(begin.elapsed() < Duration::from_secs(9), "an end is seen after silence only");
    }
}

#[test]
fn slow_clients_are_cut_and_udp_feels_nothing() {
    let site = Site::new(PLAIN);
    let server = site.serve();

    // An octet a second: the query must be whole in time, whatever trickles.
    let mut trickling = connect(&site);
    trickling.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    trickling.set_nodelay(true).unwrap();
    // Half a query, then silence.
    let mut silent = connect(&site);
    silent.write_all(&ask_shop()[..9]).unwrap();
    // Never reads: writes until nobody takes it any more.
    let mut deaf = connect(&site);
    deaf.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let queries = ask_shop().repeat(500);

    let begin = Instant::now();
    let (mut octets, mut is_trickling_cut, mut is_deaf_cut) = (ask_shop().into_iter(), false, false);
    while !(is_trickling_cut && is_deaf_cut) {
        assert!(
            begin.elapsed() < CUT_TIME_MAX,
            "trickling cut: {is_trickling_cut}, deaf cut: {is_deaf_cut}"
        );
        if !is_deaf_cut {
            is_deaf_cut = deaf
                .write_all(&queries)
                .is_err_and(|error| !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        }
        if !is_trickling_cut && (begin.elapsed().as_secs() as usize) >= ask_shop().len() - octets.len() {
            let octet = octets.next().expect("it is cut before it has sent a whole query");
            is_trickling_cut = trickling.write_all(&[octet]).is_err();
        }
        if !is_trickling_cut {
            trickling.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            is_trickling_cut = is_ended(trickling.read(&mut [0]));
        }
        let asked = Instant::now();
        assert!(try_ask(site.dns, "shop.example.net.", RecordType::A).is_some());
        assert!(asked.elapsed() < Duration::from_secs(1));
    }
    assert!(is_ended(silent.read(&mut [0])));
    assert!(begin.elapsed() > Duration::from_secs(3), "a slow client has a chance");
    assert!(site.dropped("tcp-timeout") >= 3);
    assert!(resident(server.child.id()) < 100 << 20);
}

#[test]
fn a_flood_of_connections_leaves_room_for_others() {
    // The server inherits the limit, so that there is one to run into.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let many = usize::try_from(hard / 2).unwrap().min(10_000);
    let site = Site::new(PLAIN);
    let server = site.serve();
    let before = resident(server.child.id());

    // From one address: an eighth of the places.
    let from = |address: Ipv4Addr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(address), 0).into())?;
        socket.connect_timeout(&site.dns.into(), PATIENCE)?;
        std::io::Result::Ok(TcpStream::from(socket))
    };
    let mut flood: Vec<TcpStream> = (0..many / 8 + 50).filter_map(|_| from(Ipv4Addr::new(127, 0, 9, 9)).ok()).collect();
    wait_for("the client's share to be used up", || {
        (site.dropped("tcp-full") >= 50).then_some(())
    });
    // From everywhere: all places, and then the idle ones go.
    for n in 0..many {
        let address = Ipv4Addr::new(127, 1, (n / 200 % 250) as u8, (n % 200) as u8 + 1);
        match from(address) {
            Ok(mut stream) => {
                let _ = stream.write_all(&ask_shop()[..1 + n % 6]);
                flood.push(stream);
            }
            // Our own descriptors are used up; the server's are what matters.
            Err(_) => break,
        }
        if n % 500 == 0 {
            assert!(try_ask(site.dns, "shop.example.net.", RecordType::A).is_some());
        }
    }
    flood.truncate(flood.len().saturating_sub(20));
    let grown = resident(server.child.id()).saturating_sub(before);
    assert!(grown < 64 << 20, "{} connections cost {grown} octets", flood.len());
    // Another client is served, at the latest when idle ones have made room.
    wait_for("another client to be served", || {
        let mut other = from(Ipv4Addr::new(127, 77, 0, 1)).ok()?;
        other.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        other.write_all(&ask_shop()).ok()?;
        (other.read(&mut [0; 512]).ok()? > 2).then_some(())
    });
    assert!(try_ask(site.dns, "shop.example.net.", RecordType::A).is_some());
    site.cli_code(0, &["status"]);
}

/// Out of descriptors: UDP answers on, the log says it once, and once there are some again TCP answers too.
#[test]
fn without_descriptors_udp_answers_and_the_log_is_not_filled() {
    let site = Site::new(PLAIN);
    let mut server = site.spawn_limited(120);
    server.wait_ready();
    let said = |what: &str| site.log().matches(what).count();
    let (no_tcp, no_api) = ("connections cannot be accepted", "the API cannot take a connection");
    let mut taken: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(site.api).unwrap()).collect();
    wait_for("the API to be out of descriptors", || (said(no_api) > 0).then_some(()));
    let mut waiting: Vec<TcpStream> = (0..30).map(|_| connect(&site)).collect();
    wait_for("TCP to be out of descriptors", || (said(no_tcp) > 0).then_some(()));
    // One place after the other becomes free and is taken at once: the log need not tell each time.
    for _ in 0..5 {
        drop(taken.remove(0));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            assert!(try_ask(site.dns, "shop.example.net.", RecordType::A).is_some());
        }
    }
    assert_eq!((said(no_tcp), said(no_api)), (1, 1), "{}", site.log());
    drop(taken);
    for stream in &mut waiting {
        // Those that were ended to make room say so.
        let _ = stream.write_all(&ask_shop());
    }
    drop(waiting);
    wait_for("TCP to be answered again", || {
        let mut stream = TcpStream::connect(site.dns).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(&ask_shop()).ok()?;
        (stream.read(&mut [0; 512]).ok()? > 2).then_some(())
    });
    site.cli_code(0, &["status"]);
}
