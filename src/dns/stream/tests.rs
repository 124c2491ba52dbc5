//! What a lane keeps for its clients, and whom it ends when that is too much, over TCP and TLS.

use super::*;
use crate::dns::stats::Stats;
use crate::model::Name;
use crate::tls::Certificates;
use crate::zone;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;

/// What the connections of a lane may have it keep here.
const HELD_MAX: usize = 300_000;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lane that runs.
struct Fixture {
    address: SocketAddr,
    stats: Stats,
    /// How to be a client of TLS, where it is spoken.
    client: Option<Arc<ClientConfig>>,
    is_stopping: Arc<AtomicBool>,
    running: Option<(JoinHandle<()>, Waker)>,
    _folder: tempfile::TempDir,
}

/// A client, whatever it speaks.
trait Client: Read + Write {}
impl<T: Read + Write> Client for T {}

impl Fixture {
    /// Starts a lane whose kernel keeps little, so that the lane has to.
    fn new(is_tls: bool) -> Fixture {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.set_send_buffer_size(4_096).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(128).unwrap();
        listener.set_nonblocking(true).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (server, client) = if is_tls { Some(tls(&folder)).unzip() } else { (None, None) };
        let (stats, is_stopping) = (Stats::new(), Arc::new(AtomicBool::new(false)));
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let (lane, waker) = Lane::new(Parts {
            listeners: vec![listener.into()],
            transport: if is_tls { Transport::Tls } else { Transport::Tcp },
            tls: server,
            room: Room::new(1_000),
            held_max: HELD_MAX,
            complaint: Seldom::default(),
            source: Arc::new(ArcSwap::from_pointee(snapshot())),
            stats: stats.lane(Transport::Tcp),
            is_stopping: is_stopping.clone(),
        })
        .unwrap();
        Fixture {
            address,
            stats,
            client,
            is_stopping,
            running: Some((std::thread::spawn(move || lane.run()), waker)),
            _folder: folder,
        }
    }

    /// A client whose kernel takes little.
    fn connect(&self) -> Box<dyn Client> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        match &self.client {
            None => Box::new(stream),
            Some(config) => {
                let session = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
                Box::new(StreamOwned::new(session, stream))
            }
        }
    }

    /// A client that asks for some 75,000 octets and takes two of them.
    fn holder(&self) -> Box<dyn Client> {
        let mut holder = self.connect();
        holder.write_all(&query(0).repeat(75)).unwrap();
        holder.flush().unwrap();
        // It may be the one that is ended.
        let _ = holder.read_exact(&mut [0; 2]);
        holder
    }

    /// How many connections were ended because too much is kept.
    fn ended(&self) -> u64 {
        let drops = self.stats.drops().into_iter();
        drops
            .filter(|(reason, _)| *reason == Counted::TcpMemory)
            .map(|(_, count)| count)
            .sum()
    }

    /// Waits until more than `before` were ended.
    fn wait_ended(&self, before: u64) {
        let begin = Instant::now();
        while self.ended() <= before {
            assert!(begin.elapsed() < PATIENCE, "nobody is ended");
            std::thread::yield_now();
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        if let Some((thread, waker)) = self.running.take() {
            waker.wake().unwrap();
            thread.join().unwrap();
        }
    }
}

/// Both sides of TLS with a certificate of its own.
fn tls(folder: &tempfile::TempDir) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Certificates::load(&cert, &key).unwrap().server_config(&[]).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    (
        Arc::new(server),
        Arc::new(client.with_root_certificates(roots).with_no_client_auth()),
    )
}

/// A zone with an answer of some 1,000 octets.
fn snapshot() -> Snapshot {
    let text = format!("\"{}\" ", "t".repeat(245)).repeat(4);
    let source = zone::Source {
        path: "example.zone".into(),
        text: format!("$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\nbig TXT {text}\n").into_bytes(),
    };
    let apex = Name::parse("example.").unwrap();
    let zone = zone::read(&source, &apex, &mut |_, _| Err(String::new())).unwrap().zone;
    Snapshot::build(&[Arc::new(zone)], &[], 5)
}

/// A query for it with its length, made longer by padding (RFC 7830).
fn query(padding: u16) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(Name::parse("big.example.").unwrap().wire());
    message.extend_from_slice(&[0, 16, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0]);
    message.extend_from_slice(&(padding + 4).to_be_bytes());
    message.extend_from_slice(&[0, 12]);
    message.extend_from_slice(&padding.to_be_bytes());
    message.resize(message.len() + usize::from(padding), 0);
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// Holders until somebody is ended, then clients with most of a long query until it happens again: those are not the ones that are ended.
fn half_queries_are_no_abuse(is_tls: bool) {
    let lane = Fixture::new(is_tls);
    let mut holders = Vec::new();
    while lane.ended() == 0 {
        assert!(holders.len() < 100, "what is kept for holders is not counted");
        holders.push(lane.holder());
    }
    let before = lane.ended();
    let query = query(3_900);
    let mut innocents: Vec<Box<dyn Client>> = Vec::new();
    for _ in 0..40 {
        let mut innocent = lane.connect();
        innocent.write_all(&query[..3_900]).unwrap();
        innocent.flush().unwrap();
        innocents.push(innocent);
    }
    lane.wait_ended(before);
    for innocent in &mut innocents {
        innocent.write_all(&query[3_900..]).unwrap();
        innocent.flush().unwrap();
        let mut answer = [0; 1_000];
        innocent.read_exact(&mut answer).expect("half a query is no reason to be ended");
    }
    drop(holders);
}

#[test]
fn half_queries_are_no_abuse_over_tcp() {
    half_queries_are_no_abuse(false);
}

#[test]
fn half_queries_are_no_abuse_over_tls() {
    half_queries_are_no_abuse(true);
}

/// The beginning of a record is kept by TLS and by nobody else.
#[test]
fn records_that_are_not_whole_are_counted() {
    let lane = Fixture::new(true);
    // A handshake record of 16,384 octets, but for the last ones.
    let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc][..], &vec![0; 16_000]].concat();
    let mut begun: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(lane.address).unwrap()).collect();
    for stream in &mut begun {
        stream.write_all(&record).unwrap();
    }
    lane.wait_ended(0);
}
