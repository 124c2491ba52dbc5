//! Room for connections: how many there may be in all, of one client, and of one client's neighbourhood.
//!
//! One client is an IPv4 address or an IPv6 /64, which is what one subscriber has; a neighbourhood is a /24 or a /48, which
//! is about what one organisation has. So who wants to fill the server needs connections from several networks. Whoever is
//! inside a full neighbourhood is kept out of connections with it; UDP answers him all the same.
//!
//! The lock is taken when a connection begins and ends, never for a query.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Share of all places that one client may have: an eighth.
const CLIENT_SHARE: usize = 8;
/// Share of all places that one neighbourhood may have: a quarter.
const NEIGHBOURHOOD_SHARE: usize = 4;

/// The places of one transport.
#[derive(Debug)]
pub(in crate::dns) struct Room {
    /// How many there are.
    most: usize,
    /// How many are taken; the same as in `clients`, to be read without its lock.
    taken: AtomicUsize,
    /// Those taken, by client and neighbourhood.
    clients: Mutex<HashMap<Network, usize>>,
}

/// A client or a neighbourhood: the first bits of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Network {
    /// The address, the other bits 0.
    bits: u128,
    /// How many bits count; more than 128 for IPv4, so that families do not meet.
    length: u8,
}

/// Whose share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dns) enum Full {
    /// All places are taken.
    All,
    /// This client, or its neighbourhood, has its share.
    Client,
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub(in crate::dns) struct Seat {
    /// Where.
    room: Arc<Room>,
    /// By whom.
    networks: [Network; 2],
}

impl Room {
    /// So many places.
    pub(in crate::dns) fn new(most: usize) -> Arc<Room> {
        Arc::new(Room {
            most: most.max(1),
            taken: AtomicUsize::new(0),
            clients: Mutex::new(HashMap::new()),
        })
    }

    /// Takes a place.
    ///
    /// # Errors
    /// When there is none for this client.
    pub(in crate::dns) fn take(self: &Arc<Room>, client: IpAddr) -> Result<Seat, Full> {
        let networks = networks(client);
        let mut clients = self.clients();
        if self.taken.load(Ordering::Relaxed) >= self.most {
            return Err(Full::All);
        }
        let shares = [CLIENT_SHARE, NEIGHBOURHOOD_SHARE].map(|share| (self.most / share).max(1));
        let is_full = |(network, share): (&Network, usize)| clients.get(network).is_some_and(|taken| *taken >= share);
        if networks.iter().zip(shares).any(is_full) {
            return Err(Full::Client);
        }
        for network in networks {
            *clients.entry(network).or_default() += 1;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Ok(Seat {
            room: self.clone(),
            networks,
        })
    }

    /// Whether so many places are taken that clients should not sit about: three quarters.
    pub(in crate::dns) fn is_crowded(&self) -> bool {
        self.taken.load(Ordering::Relaxed) * 4 >= self.most * 3
    }

    /// Whether so many places of this client or its neighbourhood are taken that who claims to be it should prove it: an eighth of
    /// its share.
    pub(in crate::dns) fn is_busy(&self, client: IpAddr) -> bool {
        let clients = self.clients();
        let shares = [CLIENT_SHARE, NEIGHBOURHOOD_SHARE].map(|share| (self.most / share / 8).max(1));
        let mut shared = networks(client).into_iter().zip(shares);
        shared.any(|(network, share)| clients.get(&network).is_some_and(|taken| *taken >= share))
    }

    /// The lock; counts are right also after a panic elsewhere.
    fn clients(&self) -> MutexGuard<'_, HashMap<Network, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut clients = self.room.clients();
        for network in self.networks {
            if let Some(taken) = clients.get_mut(&network) {
                *taken -= 1; // what take() added
                if *taken == 0 {
                    clients.remove(&network);
                }
            }
        }
        self.room.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The client and the neighbourhood of an address.
fn networks(address: IpAddr) -> [Network; 2] {
    match address {
        IpAddr::V4(address) => [32, 24].map(|length| Network {
            bits: u128::from(u32::from(address) & (u32::MAX << (32 - length))),
            length: 200 + length as u8,
        }),
        IpAddr::V6(address) => [64, 48].map(|length| Network {
            bits: u128::from(address) & (u128::MAX << (128 - length)),
            length: length as u8,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_a_neighbourhood_and_all_together_have_a_limit() {
        let room = Room::new(64);
        let take = |address: &str| room.take(address.parse().unwrap());
        let mut seats: Vec<Seat> = (0..8).map(|_| take("192.0.2.1").unwrap()).collect();
        assert_eq!(take("192.0.2.1").unwrap_err(), Full::Client);
        seats.extend((0..8).map(|_| take("192.0.2.2").unwrap()));
        assert_eq!(take("192.0.2.3").unwrap_err(), Full::Client, "the /24 has a quarter");
        assert!(!room.is_crowded());
        for network in 1..=6 {
            seats.extend((0..8).map(|_| take(&format!("2001:db8:{network}::1")).unwrap()));
            assert_eq!(
                take(&format!("2001:db8:{network}::ffff")).unwrap_err(),
                if network < 6 { Full::Client } else { Full::All }
            );
        }
        assert!(room.is_crowded());
        assert_eq!(take("198.51.100.1").unwrap_err(), Full::All);
        seats.truncate(8);
        assert!(take("198.51.100.1").is_ok());
        drop(seats);
        assert!(room.clients().is_empty(), "nothing is remembered of who has gone");
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }
}
