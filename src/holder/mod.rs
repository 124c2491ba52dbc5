//! Who holds a port: `/proc/net` gives the socket's inode, `/proc/*/fd` the process that has it open.
//!
//! Only for the error message at start, of every listener of the node; what cannot be read (other systems, other users'
//! processes) is left out.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The process that holds an address over `tcp` or `udp`, as `nsd (pid 4711)`; none when it cannot be found out.
pub fn find(address: SocketAddr, transport: &str) -> Option<String> {
    let inode = ["", "6"].iter().find_map(|family| {
        let table = fs::read_to_string(format!("/proc/net/{transport}{family}")).ok()?;
        table.lines().skip(1).find_map(|line| inode_of(line, address))
    })?;
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()));
        if holds {
            return pid.parse().ok().map(process_named);
        }
    }
    None
}

/// A process as `nsd (pid 4711)`, as far as its program can be found out.
pub fn process_named(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(program) => format!("{} (pid {pid})", program.trim()),
        Err(_) => format!("pid {pid}"),
    }
}

/// The inode in a line of `/proc/net/udp` and its kin, if its local address stands in the way of `address`.
fn inode_of(line: &str, address: SocketAddr) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (ip, port) = fields.get(1)?.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != address.port() {
        return None;
    }
    let ip = parse_ip(ip)?;
    let clashes = ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    // State 0A is LISTEN; UDP sockets show 07. A mere connection from that port holds nothing.
    let holds = matches!(*fields.get(3)?, "0A" | "07");
    if clashes && holds { fields.get(9)?.parse().ok() } else { None }
}

/// An address as the kernel prints it: words of 32 bits in host order, in hexadecimal.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let mut octets = Vec::with_capacity(16);
    for at in (0..text.len()).step_by(8) {
        octets.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    match octets.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?))),
        _ => None,
    }
}
