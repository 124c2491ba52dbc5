//! NSD and Knot from Debian, started on loopback over given zones.

use super::answer_support::Response;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a peer to answer its zones.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running peer; killed when dropped.
pub struct Peer {
    /// For messages.
    pub name: &'static str,
    /// The process.
    child: Child,
    /// Its port.
    port: u16,
    /// Our socket, connected to it.
    socket: UdpSocket,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts NSD over zone files `(apex, path)`.
    pub fn nsd(folder: &Path, zones: &[(String, String)]) -> Peer {
        Peer::nsd_with(folder, zones, "")
    }

    /// The same with further lines of its section `server`.
    pub fn nsd_with(folder: &Path, zones: &[(String, String)], server: &str) -> Peer {
        let port = free_port();
        let at = folder.display();
        let mut config = format!(
            "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n \
             pidfile: \"{at}/nsd.pid\"\n xfrdfile: \"{at}/xfrd.state\"\n zonelistfile: \"{at}/zone.list\"\n logfile: \"{at}/nsd.log\"\n \
             xfrdir: \"{at}\"\n cookie-secret-file: \"{at}/cookies\"\n{server}remote-control:\n control-enable: no\n"
        );
        for (apex, path) in zones {
            config.push_str(&format!("zone:\n name: \"{apex}\"\n zonefile: \"{path}\"\n"));
        }
        let path = folder.join("nsd.conf");
        std::fs::write(&path, config).unwrap();
        Peer::start("nsd", "nsd", Command::new("/usr/sbin/nsd").arg("-d").arg("-c").arg(path), port)
    }

    /// Starts Knot over zone files `(apex, path)`.
    pub fn knot(folder: &Path, zones: &[(String, String)]) -> Peer {
        Peer::knot_with(folder, zones, "", "")
    }

    /// The same with a section more, and further lines of the template of all zones.
    pub fn knot_with(folder: &Path, zones: &[(String, String)], section: &str, template: &str) -> Peer {
        let port = free_port();
        let at = folder.display();
        let mut config = format!(
            "server:\n  listen: 127.0.0.1@{port}\n  rundir: \"{at}\"\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  udp-max-payload: 1232\n\
             database:\n  storage: \"{at}/knot\"\nlog:\n  - target: \"{at}/knot.log\"\n    any: warning\n\
             {section}template:\n  - id: default\n    storage: \"{at}\"\n    zonefile-sync: -1\n    journal-content: none\n    semantic-checks: off\n{template}zone:\n"
        );
        for (apex, path) in zones {
            config.push_str(&format!("  - domain: \"{apex}\"\n    file: \"{path}\"\n"));
        }
        let path = folder.join("knot.conf");
        std::fs::write(&path, config).unwrap();
        Peer::start("knot", "knot", Command::new("/usr/sbin/knotd").arg("-c").arg(path), port)
    }

    /// Starts the program.
    fn start(name: &'static str, package: &str, command: &mut Command, port: u16) -> Peer {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot run {name} ({error}): apt-get install {package}"));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        Peer { name, child, port, socket }
    }

    /// Waits until the peer answers the question with NOERROR.
    pub fn wait_for(&self, packet: &[u8]) {
        let begin = Instant::now();
        while begin.elapsed() < START_TIMEOUT {
            if self
                .exchange(packet, Duration::from_millis(100))
                .is_some_and(|bytes| bytes[3] & 0x0f == 0)
            {
                return;
            }
        }
        panic!("{} does not answer its zones", self.name);
    }

    /// Asks over UDP; none when nothing comes back in time.
    pub fn exchange(&self, packet: &[u8], wait: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let begin = Instant::now();
        let mut room = vec![0; 65_535];
        // Until the peer listens, the kernel reports its refusal for the packet before.
        if self.socket.send(packet).is_err() {
            return None;
        }
        while begin.elapsed() < wait {
            if let Ok(len) = self.socket.recv(&mut room) {
                // Late answers to an earlier question are passed over.
                if room[..2] == packet[..2] {
                    room.truncate(len);
                    return Some(room);
                }
            }
        }
        None
    }

    /// Asks over TCP.
    pub fn exchange_tcp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(&(packet.len() as u16).to_be_bytes()).ok()?;
        stream.write_all(packet).ok()?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Asks and decodes; asks again when an answer got lost.
    pub fn ask(&self, packet: &[u8]) -> Option<Response> {
        let bytes = (0..3).find_map(|_| self.exchange(packet, Duration::from_secs(1)))?;
        Some(Response::decode(&bytes).unwrap_or_else(|error| panic!("{}: {error}: {bytes:02x?}", self.name)))
    }
}

/// A port that is free for UDP and TCP now.
fn free_port() -> u16 {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
