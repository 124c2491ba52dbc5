//! How many connections each client has: nobody from outside may take every place.
//!
//! A client is an IPv4 address or an IPv6 network of 64 bits, since whoever has one address of such a network has all of
//! them. Loopback is left out: behind it stand all users and proxies of this machine, and the whole number bounds them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most connections of one client at a time: a quarter of all.
const CONNECTIONS_MAX: usize = super::TCP_CONNECTIONS_MAX / 4;

/// The clients that are connected, with what they have. Bounded by the number of connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Clients,
    client: Option<IpAddr>,
}

impl Clients {
    /// A place for one more connection from an address; none when its client has as many as it may.
    pub fn admit(&self, address: IpAddr) -> Option<Place> {
        let client = client_of(address);
        if let Some(client) = client {
            let mut counts = self.counts();
            let count = counts.entry(client).or_default();
            if *count >= CONNECTIONS_MAX {
                return None;
            }
            *count += 1;
        }
        Some(Place {
            clients: self.clone(),
            client,
        })
    }

    /// The counts; right also after a panic elsewhere.
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut counts = self.clients.counts();
        if let Some(count) = counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&client);
            }
        }
    }
}

/// The client behind an address; none for this machine itself.
fn client_of(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Some(IpAddr::V6(Ipv6Addr::from(network)))
        }
        address => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_at_most_its_share_and_gives_it_back() {
        let clients = Clients::default();
        let admit = |address: &str| clients.admit(address.parse().unwrap());
        let mut places: Vec<Place> = (0..CONNECTIONS_MAX).map(|_| admit("192.0.2.1").unwrap()).collect();
        assert!(admit("192.0.2.1").is_none());
        assert!(admit("::ffff:192.0.2.1").is_none(), "the same address in its other form");
        assert!(admit("192.0.2.2").is_some());
        places.pop();
        assert!(admit("192.0.2.1").is_some());
        drop(places);
        assert!(clients.counts().is_empty());
    }

    #[test]
    fn a_network_of_64_bits_is_one_client_and_loopback_is_none() {
        let clients = Clients::default();
        let admit = |address: &str| clients.admit(address.parse().unwrap());
        let places: Vec<Place> = (0..CONNECTIONS_MAX)
            .map(|host| admit(&format!("2001:db8::{:x}", host + 1)).unwrap())
            .collect();
        assert!(admit("2001:db8::ffff:1").is_none());
        assert!(admit("2001:db8:0:1::1").is_some());
        let local: Vec<Place> = (0..2 * CONNECTIONS_MAX).map(|_| admit("127.0.0.1").unwrap()).collect();
        assert!(admit("::1").is_some());
        drop((places, local));
        assert!(clients.counts().is_empty());
    }
}
