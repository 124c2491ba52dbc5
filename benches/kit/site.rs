//! Around a running server: free ports, a folder that goes away, waiting until it answers, its API.

use super::load::Query;
use super::proc::Server;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Longest wait for a server to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ports of one server, one behind the other.
const PORTS: u16 = 4;

/// The first of [`PORTS`] neighbouring ports that are free for UDP and TCP on 127.0.0.1.
pub fn free_ports() -> u16 {
    let is_free = |port: u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
    };
    let start = 28_000 + (std::process::id() as u16 % 1_000) * 4;
    (0..1_000)
        .map(|step| start + PORTS * step)
        .find(|port| (0..PORTS).all(|next| is_free(port + next)))
        .expect("free ports")
}

/// An address of 127.0.0.1.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Waits until a server gives the right answer to a query; how long that took, none when it ended or never did.
pub fn wait_for_answer(server: &mut Server, address: SocketAddr, query: &Query) -> Option<Duration> {
    let start = Instant::now();
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(5))).ok()?;
    let mut answer = [0; 2048];
    while start.elapsed() < PATIENCE && server.is_alive() {
        let sent_at = Instant::now();
        let answered =
            socket.send(&query.packet(7)).is_ok() && socket.recv(&mut answer).is_ok_and(|octets| query.accepts(&answer[..octets]));
        if answered {
            return Some(start.elapsed());
        }
        // Refused at once while nobody listens.
        std::thread::sleep(Duration::from_millis(5).saturating_sub(sent_at.elapsed()));
    }
    None
}

/// Waits until somebody listens; false when the server ended or it took too long.
pub fn wait_for_listener(server: &mut Server, address: SocketAddr) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE && server.is_alive() {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The right answer to a query, asked until it comes.
pub fn ask(address: SocketAddr, query: &Query) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut answer = [0; 2048];
    (0..5).find_map(|_| {
        socket.send(&query.packet(7)).ok()?;
        let octets = socket.recv(&mut answer).ok()?;
        query.accepts(&answer[..octets]).then(|| answer[..octets].to_vec())
    })
}

/// One request on the API; status and body.
pub fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Some((status, body))
}

/// Switches a name; the receipt's status.
pub fn switch(api: SocketAddr, name: &str, to: &str) -> Option<u16> {
    let body = format!(r#"{{"to":"{to}","reason":"bench","override":["target-healthy"]}}"#);
    http(api, "POST", &format!("/v1/names/{name}/switch"), &body).map(|(status, _)| status)
}

/// The samples of a metric whose name and labels start so, summed.
pub fn metric(metrics: &str, start: &str) -> f64 {
    let of = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(start)?.rsplit(' ').next()?.parse::<f64>().ok());
    of.sum()
}

/// Buckets of a histogram: upper bound in seconds and observations up to it.
pub fn buckets(metrics: &str, name: &str) -> Vec<(f64, f64)> {
    let start = format!("{name}_bucket{{le=\"");
    let bucket = |line: &str| {
        let (bound, count) = line.strip_prefix(&start)?.split_once("\"} ")?;
        Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
    };
    metrics.lines().filter_map(bucket).collect()
}

/// The bound that a share of what came between two scrapes stays below, microseconds.
pub fn quantile(before: &[(f64, f64)], after: &[(f64, f64)], share: f64) -> f64 {
    let new: Vec<(f64, f64)> = after
        .iter()
        .enumerate()
        .map(|(index, (bound, count))| (*bound, count - before.get(index).map_or(0.0, |(_, count)| *count)))
        .collect();
    let wanted = new.last().map_or(0.0, |(_, all)| all * share);
    new.iter().find(|(_, count)| *count >= wanted).map_or(0.0, |(bound, _)| bound * 1e6)
}
