//! Addresses of host names, asked of the system's resolvers: those of `/etc/resolv.conf`, with the TTL of what they say.
//!
//! A stub (RFC 1123 section 6.1.3.1): it follows aliases only as far as the answer goes and asks nobody but the servers
//! of the file, in their order, each for a moment, the whole list twice. A server that fails or refuses is passed over; one
//! that says the name does not exist is believed. The file is read at each look-up, so that a change of it needs no restart.
//! Deliberately absent: search lists and `/etc/hosts`, since clients are sent to the name and will ask the DNS; a cache,
//! since who asks keeps what he got for its TTL.

use super::Stage;
use super::lookup::{Addresses, Lookup, LookupFuture};
use super::query::Query;
use crate::model::{Name, rcode};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Where the system's resolvers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Longest time for which one server is waited for, whatever the file says: the next may be better.
const SERVER_TIME_MAX: Duration = Duration::from_secs(2);
/// How often the whole list is gone through where the file does not say.
const ATTEMPTS: u32 = 2;
/// Most of each that a file may ask for.
const SERVERS_MAX: usize = 8;
/// Most look-ups under way; further ones wait, so that a start with many host names floods no resolver.
const LOOKUPS_MAX: usize = 64;
/// Longest chain of aliases in one answer.
const CHAIN_MAX: usize = 16;

/// Asks the system's resolvers, or such as it is told.
#[derive(Debug, Clone)]
pub struct Resolver {
    /// Whom to ask.
    source: Source,
    /// Bounds the look-ups under way.
    places: Arc<Semaphore>,
}

/// Whom to ask.
#[derive(Debug, Clone)]
enum Source {
    /// Those in this file at the time.
    File(PathBuf),
    /// These.
    Servers(Servers),
}

/// Whom to ask, and how patiently.
#[derive(Debug, Clone, PartialEq)]
struct Servers {
    /// In the order of asking; never empty.
    list: Vec<SocketAddr>,
    /// How long each is waited for.
    patience: Duration,
    /// How often the list is gone through.
    attempts: u32,
}

/// What one question of a family brought: addresses and their TTL, or that there are none.
type Records = Vec<(IpAddr, u32)>;

impl Resolver {
    /// The system's resolvers.
    pub fn system() -> Resolver {
        Resolver::from(Source::File(PathBuf::from(RESOLV_CONF)))
    }

    /// Those in another file of the same form.
    pub fn of_file(path: PathBuf) -> Resolver {
        Resolver::from(Source::File(path))
    }

    /// These servers, for `patience` each.
    pub fn of(list: Vec<SocketAddr>, patience: Duration) -> Resolver {
        Resolver::from(Source::Servers(Servers {
            list,
            patience,
            attempts: ATTEMPTS,
        }))
    }

    /// With its own bound.
    fn from(source: Source) -> Resolver {
        Resolver {
            source,
            places: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        }
    }

    /// Whom to ask now.
    async fn servers(&self) -> io::Result<Servers> {
        match &self.source {
            Source::Servers(servers) => Ok(servers.clone()),
            Source::File(path) => match tokio::fs::read(path).await {
                Ok(text) => Ok(read_conf(&String::from_utf8_lossy(&text))),
                // As the system does it: without the file the resolver is on this machine.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(read_conf("")),
                Err(error) => Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))),
            },
        }
    }

    /// Both families, beside each other.
    async fn look_up(self, host: Name) -> io::Result<Addresses> {
        let _place = self.places.acquire().await;
        let servers = self.servers().await?;
        let (v4, v6) = tokio::join!(ask(&servers, &host, RecordType::A), ask(&servers, &host, RecordType::AAAA));
        let ttls = v4.iter().chain(&v6).flatten().map(|(_, ttl)| *ttl);
        let ttl = Duration::from_secs(u64::from(ttls.min().unwrap_or_default()));
        let only = |records: &Records| records.iter().map(|(address, _)| *address).collect();
        match (&v4, &v6) {
            (Err(error), Err(_)) => Err(io::Error::new(error.kind(), error.to_string())),
            _ => Ok(Addresses {
                v4: v4.as_ref().ok().map(only),
                v6: v6.as_ref().ok().map(only),
                ttl,
            }),
        }
    }
}

impl Lookup for Resolver {
    fn addresses(&self, host: &Name) -> LookupFuture {
        let below = |name: &str| Name::parse(name).is_ok_and(|name| host.is_at_or_below(&name));
        // RFC 6761 sections 6.3 and 6.4: both are never asked for.
        if below("localhost.") {
            let loopback = Addresses {
                v4: Some(vec![Ipv4Addr::LOCALHOST.into()]),
                v6: Some(vec![Ipv6Addr::LOCALHOST.into()]),
                ttl: Duration::MAX,
            };
            return Box::pin(async { Ok(loopback) });
        }
        if below("invalid.") {
            return Box::pin(async { Err(not_there()) });
        }
        Box::pin(self.clone().look_up(host.clone()))
    }
}

/// The name does not exist.
fn not_there() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name does not exist (NXDOMAIN)")
}

/// Asks one server after the other until one answers.
async fn ask(servers: &Servers, host: &Name, kind: RecordType) -> io::Result<Records> {
    let mut last = io::Error::other("no resolver is configured");
    for server in (0..servers.attempts).flat_map(|_| &servers.list) {
        let query = Query::new(host, kind).map_err(|failure| io::Error::other(failure.message))?;
        let stage = Stage::new();
        match tokio::time::timeout(servers.patience, query.ask(*server, &stage)).await {
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{} from {server}", stage.missing().0)),
            Ok(Err(failure)) => last = io::Error::other(format!("{} from {server}", failure.message)),
            Ok(Ok(answer)) => match answer.metadata.response_code {
                ResponseCode::NoError => return Ok(records(&answer, kind)),
                ResponseCode::NXDomain => return Err(not_there()),
                code => {
                    let name = u8::try_from(u16::from(code)).map_or_else(|_| code.to_string().into(), rcode::name);
                    last = io::Error::other(format!("{name} from {server}"));
                }
            },
        }
    }
    Err(last)
}

/// The addresses at the end of the chain of aliases (RFC 1034 section 5.3.3), each with the least TTL on the way to it.
fn records(answer: &Message, kind: RecordType) -> Records {
    let Some(mut owner) = answer.queries.first().map(|query| query.name.clone()) else {
        return Records::new();
    };
    let mut ttl = u32::MAX;
    for _ in 0..CHAIN_MAX {
        let here = || answer.answers.iter().filter(|record| record.name.eq_ignore_root_case(&owner));
        let found: Records = here()
            .filter(|record| record.record_type() == kind)
            .filter_map(|record| match &record.data {
                RData::A(address) => Some((address.0.into(), ttl.min(record.ttl))),
                RData::AAAA(address) => Some((address.0.into(), ttl.min(record.ttl))),
                _ => None,
            })
            .collect();
        let alias = here().find_map(|record| match &record.data {
            RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        match alias {
            Some((target, limit)) if found.is_empty() => {
                ttl = ttl.min(limit);
                owner = target;
            }
            _ => return found,
        }
    }
    Records::new()
}

/// Reads a file of the form of resolv.conf(5): what is not understood is passed over, as everybody does.
fn read_conf(text: &str) -> Servers {
    let mut servers = Servers {
        list: Vec::new(),
        patience: SERVER_TIME_MAX,
        attempts: ATTEMPTS,
    };
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => servers.list.extend(words.next().and_then(server)),
            Some("options") => {
                for option in words {
                    match option.split_once(':').map(|(key, number)| (key, number.parse::<u32>())) {
                        Some(("timeout", Ok(seconds @ 1..))) => {
                            servers.patience = Duration::from_secs(u64::from(seconds)).min(SERVER_TIME_MAX);
                        }
                        Some(("attempts", Ok(attempts @ 1..))) => servers.attempts = attempts.min(5),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    servers.list.truncate(SERVERS_MAX);
    if servers.list.is_empty() {
        servers.list.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
    }
    servers
}

/// An address of a server; one of a link needs its scope as a number (RFC 4007 section 11).
fn server(text: &str) -> Option<SocketAddr> {
    if let Some((address, scope)) = text.split_once('%') {
        return Some(SocketAddrV6::new(address.parse().ok()?, 53, 0, scope.parse().ok()?).into());
    }
    Some(SocketAddr::new(text.parse().ok()?, 53))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read_as_others_read_it() {
        let conf = read_conf(
            "# made by hand\nsearch example.net\nnameserver 192.0.2.53 ; ours\nnameserver nonsense\nnameserver 2001:db8::53\n\
             nameserver fe80::1%2\noptions ndots:2 timeout:1 attempts:3 rotate\n",
        );
        let list: Vec<String> = conf.list.iter().map(ToString::to_string).collect();
        assert_eq!(list, ["192.0.2.53:53", "[2001:db8::53]:53", "[fe80::1%2]:53"]);
        assert_eq!((conf.patience, conf.attempts), (Duration::from_secs(1), 3));
        let none = read_conf("options timeout:30 attempts:0 timeout:x\n");
        assert_eq!(none.list, [SocketAddr::from(([127, 0, 0, 1], 53))]);
        assert_eq!((none.patience, none.attempts), (SERVER_TIME_MAX, ATTEMPTS));
    }
}
