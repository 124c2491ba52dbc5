//! Networks: address prefixes, sets of them, and how often one network is answered.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, `192.0.2.0/24`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// Its first address.
    address: IpAddr,
    /// Bits that its addresses have in common.
    bits: u8,
}

impl Prefix {
    /// Reads `address/bits` or an address.
    ///
    /// # Errors
    /// In words, continuing "must be …", also when bits behind the prefix are set: that is a typing error somewhere.
    pub fn parse(text: &str) -> Result<Prefix, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| "a network such as 192.0.2.0/24 or 2001:db8::/32".to_owned())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= most && !text.contains("/+"))
                .ok_or_else(|| format!("a network with 0 to {most} bits"))?,
        };
        let prefix = Prefix {
            address: mask(address, bits),
            bits,
        };
        if prefix.address == address {
            Ok(prefix)
        } else {
            Err(format!("a network; {text} has bits set behind its prefix, which is {prefix}"))
        }
    }

    /// The first and the last address, as numbers.
    fn range(self) -> (u128, u128) {
        match self.address {
            IpAddr::V4(v4) => {
                let first = u32::from(v4);
                let rest = u32::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0);
                (u128::from(first), u128::from(first | rest))
            }
            IpAddr::V6(v6) => {
                let first = u128::from(v6);
                (first, first | u128::MAX.checked_shr(u32::from(self.bits)).unwrap_or(0))
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The first address of the network of `bits` bits that an address lies in.
pub fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let rest = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & !rest))
        }
        IpAddr::V6(v6) => {
            let rest = u128::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !rest))
        }
    }
}

/// A set of networks, compiled: a look-up is a binary search, whatever the number of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrefixSet {
    /// Ranges of IPv4 addresses, in order, none touching the next.
    v4: Box<[(u128, u128)]>,
    /// Ranges of IPv6 addresses.
    v6: Box<[(u128, u128)]>,
}

impl PrefixSet {
    /// The set of these networks; they may overlap.
    pub fn new(prefixes: &[Prefix]) -> PrefixSet {
        let of = |is_v4: bool| {
            let family = prefixes.iter().filter(|prefix| prefix.address.is_ipv4() == is_v4);
            merged(family.map(|prefix| prefix.range()).collect())
        };
        PrefixSet {
            v4: of(true),
            v6: of(false),
        }
    }

    /// Whether there is no network in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether an address lies in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ranges, number) = match address {
            IpAddr::V4(v4) => (&self.v4, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (&self.v6, u128::from(v6)),
        };
        let behind = ranges.partition_point(|(first, _)| *first <= number);
        let before = behind.checked_sub(1).and_then(|index| ranges.get(index));
        before.is_some_and(|(_, last)| number <= *last)
    }
}

/// Ranges in order, those that touch joined.
fn merged(mut ranges: Vec<(u128, u128)>) -> Box<[(u128, u128)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

/// How often one network is answered over UDP (response rate limiting, as BIND and NSD have it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Answers of one kind about one thing to one network in a second, at least 1.
    pub responses_per_second: u32,
    /// Of the answers beyond it every so-many-th is sent short (TC, or BADCOOKIE), the others not at all; 0: none, 1: all.
    pub slip: u32,
    /// Bits of an IPv4 client's network.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 client's network.
    pub ipv6_prefix: u8,
    /// Networks without a limit.
    pub exempt: PrefixSet,
    /// Networks and answers remembered at once by a lane.
    pub table_size: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_read_and_print() {
        for (text, shown) in [
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("::1", Some("::1/128")),
            ("::/0", Some("::/0")),
            ("192.0.2.1/24", None),
            ("192.0.2.0/33", None),
            ("192.0.2.0/+8", None),
            ("192.0.2.0/", None),
            ("192.0.2/24", None),
            ("example.net", None),
        ] {
            let read = Prefix::parse(text).map(|prefix| prefix.to_string());
            assert_eq!(read.as_deref().ok(), shown, "{text}: {read:?}");
        }
    }

    /// An address of a small world, so that networks and addresses meet.
    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 2]>().prop_map(|[a, b]| IpAddr::from([10, 0, a & 3, b])),
            any::<u16>().prop_map(|low| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, low & 3, low])),
            any::<u32>().prop_map(|v4| IpAddr::from(v4.to_be_bytes())),
            any::<u128>().prop_map(|v6| IpAddr::from(v6.to_be_bytes())),
        ]
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(
            networks in prop::collection::vec((address(), 0u8..=128), 0..20),
            asked in prop::collection::vec(address(), 20),
        ) {
            let networks: Vec<Prefix> = networks
                .into_iter()
                .map(|(address, bits)| {
                    let bits = if address.is_ipv4() { bits % 33 } else { bits };
                    Prefix { address: mask(address, bits), bits }
                })
                .collect();
            let set = PrefixSet::new(&networks);
            for address in asked {
                let one = networks.iter().any(|network| network.address.is_ipv4() == address.is_ipv4() && mask(address, network.bits) == network.address);
                prop_assert_eq!(set.contains(address), one, "{} in {:?}", address, networks);
            }
        }
    }
}
