//! DNS cookies (RFC 7873) with the server cookie that all implementations agree on (RFC 9018): version 1,
//! a time stamp and SipHash-2-4 over client cookie, time stamp and client address.
//!
//! Whoever returns a server cookie of ours has received a packet at the address that the query came from:
//! the address is not forged. Nodes with the same secret accept each other's cookies, also nodes that
//! run another server (BIND, Knot, NSD). Two secrets at a time: the first makes cookies, both are accepted, so that a
//! secret can be rolled over without a moment in which good cookies are refused (RFC 9018 §5).
//!
//! Deliberately absent: where secrets come from (`control`), and what a missing cookie leads to (`dns`).

use std::fmt;
use std::net::IpAddr;

/// Octets of a client cookie (RFC 7873 §4).
const CLIENT_OCTETS: usize = 8;
/// Octets of client and server cookie together (RFC 9018 §4).
pub(super) const COOKIE_OCTETS: usize = 24;
/// Most octets of an option with any kind of server cookie (RFC 7873 §4).
const OPTION_OCTETS_MAX: usize = 40;
/// Fewest octets of an option with any kind of server cookie.
const OPTION_OCTETS_MIN: usize = 16;
/// The only version there is (RFC 9018 §4.1).
const VERSION: u8 = 1;
/// How long a server cookie is good, seconds (RFC 9018 §4.3).
const LIFE_SECONDS: i32 = 3600;
/// How far ahead the clock of the node that made it may be, seconds (RFC 9018 §4.3).
const AHEAD_SECONDS: i32 = 300;
/// From this age on a good cookie is replaced, seconds (RFC 9018 §4.3).
const RENEW_SECONDS: i32 = 1800;

/// The secrets of server cookies. Never shown: its `Debug` says only that there are some.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CookieSecrets {
    /// Makes cookies.
    current: Key,
    /// Accepted too.
    other: Option<Key>,
}

impl CookieSecrets {
    /// Cookies are made with `current`; those made with `other` are accepted too.
    pub fn new(current: [u8; 16], other: Option<[u8; 16]>) -> CookieSecrets {
        CookieSecrets {
            current: Key::new(current),
            other: other.map(Key::new),
        }
    }

    /// Looks at a COOKIE option from `peer` at a time (seconds since 1970); none when its length is one that no
    /// cookie has, which is FORMERR (RFC 7873 §5.2.2).
    pub(super) fn look_at(&self, option: &[u8], peer: IpAddr, now: u64) -> Option<Cookie> {
        let client: [u8; CLIENT_OCTETS] = *option.first_chunk()?;
        let now = now as u32; // the field wraps, and is compared accordingly (RFC 9018 §4.3)
        let proof = match option.len() {
            CLIENT_OCTETS => Proof::None,
            OPTION_OCTETS_MIN..=OPTION_OCTETS_MAX => self.check(option, peer, now),
            _ => return None,
        };
        let response = match (proof, option.first_chunk()) {
            (Proof::Fresh, Some(option)) => *option,
            _ => self.make(client, peer, now),
        };
        Some(Cookie {
            response,
            is_known: matches!(proof, Proof::Fresh | Proof::Good),
            is_bad: matches!(proof, Proof::Bad),
        })
    }

    /// What a server cookie proves.
    fn check(&self, option: &[u8], peer: IpAddr, now: u32) -> Proof {
        let Some((signed, hash)) = split(option) else {
            return Proof::Bad; // of another kind of server, or another version
        };
        let [.., t0, t1, t2, t3] = *signed;
        let age = now.wrapping_sub(u32::from_be_bytes([t0, t1, t2, t3])) as i32;
        if !(-AHEAD_SECONDS..=LIFE_SECONDS).contains(&age) {
            return Proof::Bad;
        }
        let input = Input::new(signed, peer);
        if self.current.hash(&input) == hash {
            return if age < RENEW_SECONDS { Proof::Fresh } else { Proof::Good };
        }
        let other = self.other.is_some_and(|other| other.hash(&input) == hash);
        if other { Proof::Good } else { Proof::Bad }
    }

    /// Client cookie and a server cookie for it.
    fn make(&self, client: [u8; CLIENT_OCTETS], peer: IpAddr, now: u32) -> [u8; COOKIE_OCTETS] {
        let mut cookie = [0; COOKIE_OCTETS];
        let [a, b, c, d, e, f, g, h] = client;
        let [t0, t1, t2, t3] = now.to_be_bytes();
        let signed = [a, b, c, d, e, f, g, h, VERSION, 0, 0, 0, t0, t1, t2, t3];
        let (front, back) = cookie.split_at_mut(SIGNED_OCTETS);
        front.copy_from_slice(&signed);
        back.copy_from_slice(&self.current.hash(&Input::new(&signed, peer)));
        cookie
    }
}

impl fmt::Debug for CookieSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecrets(..)")
    }
}

/// What a COOKIE option was found to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cookie {
    /// What the response's option holds.
    pub(super) response: [u8; COOKIE_OCTETS],
    /// A good server cookie was in it: the client's address is not forged.
    pub(super) is_known: bool,
    /// A server cookie was in it that is not good.
    pub(super) is_bad: bool,
}

/// What a server cookie proves.
#[derive(Debug, Clone, Copy)]
enum Proof {
    /// There was none.
    None,
    /// Not ours, too old, or for another address.
    Bad,
    /// Good, and it is time for another.
    Good,
    /// Good, and may be used on.
    Fresh,
}

/// Octets of client cookie, version, reserved octets and time stamp.
const SIGNED_OCTETS: usize = 16;

/// A cookie's signed octets and its hash; none when it is of another length or version.
fn split(option: &[u8]) -> Option<(&[u8; SIGNED_OCTETS], [u8; 8])> {
    let option: &[u8; COOKIE_OCTETS] = option.try_into().ok()?;
    let (signed, hash) = option.split_first_chunk()?;
    (signed.get(CLIENT_OCTETS) == Some(&VERSION)).then_some(())?;
    Some((signed, hash.try_into().ok()?))
}

/// What is hashed: the signed octets, then the client's address (RFC 9018 §4.4), in words as SipHash takes them.
struct Input {
    /// Whole words; the address of IPv4 fills half of one, which goes into the last.
    words: [u64; 4],
    /// How many of them.
    count: usize,
    /// The last word: what is left over, and the length in octets.
    last: u64,
}

impl Input {
    /// Of a cookie and an address.
    fn new(signed: &[u8; SIGNED_OCTETS], peer: IpAddr) -> Input {
        let [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7] = *signed;
        let first = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let second = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]);
        match peer {
            IpAddr::V4(v4) => Input {
                words: [first, second, 0, 0],
                count: 2,
                last: 20 << 56 | u64::from(u32::from_le_bytes(v4.octets())),
            },
            IpAddr::V6(v6) => {
                let octets = u128::from_le_bytes(v6.octets());
                Input {
                    words: [first, second, octets as u64, (octets >> 64) as u64],
                    count: 4,
                    last: 32 << 56,
                }
            }
        }
    }
}

/// A key of SipHash-2-4.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    /// First half.
    k0: u64,
    /// Second half.
    k1: u64,
}

impl Key {
    /// From its octets.
    fn new(octets: [u8; 16]) -> Key {
        let both = u128::from_le_bytes(octets);
        Key {
            k0: both as u64,
            k1: (both >> 64) as u64,
        }
    }

    /// SipHash-2-4 (Aumasson and Bernstein, 2012): two rounds a word, four at the end.
    fn hash(&self, input: &Input) -> [u8; 8] {
        let mut state = [
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ];
        for word in input.words.iter().take(input.count).chain([&input.last]) {
            state[3] ^= word;
            round(&mut state);
            round(&mut state);
            state[0] ^= word;
        }
        state[2] ^= 0xff;
        for _ in 0..4 {
            round(&mut state);
        }
        state.iter().fold(0, |sum, word| sum ^ word).to_le_bytes()
    }
}

/// One round of SipHash.
fn round([v0, v1, v2, v3]: &mut [u64; 4]) {
    *v0 = v0.wrapping_add(*v1);
    *v1 = v1.rotate_left(13) ^ *v0;
    *v0 = v0.rotate_left(32);
    *v2 = v2.wrapping_add(*v3);
    *v3 = v3.rotate_left(16) ^ *v2;
    *v0 = v0.wrapping_add(*v3);
    *v3 = v3.rotate_left(21) ^ *v0;
    *v2 = v2.wrapping_add(*v1);
    *v1 = v1.rotate_left(17) ^ *v2;
    *v2 = v2.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn secret(text: &str) -> [u8; 16] {
        hex(text).try_into().unwrap()
    }

    /// RFC 9018 appendix A: option, client, time, secrets, response, whether the server cookie was good.
    #[test]
    fn cookies_are_those_of_rfc_9018_appendix_a() {
        const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        const OLD: &str = "dd3bdf9344b678b185a6f5cb60fca715";
        const NEW: &str = "445536bcd2513298075a5d379663c962";
        type Case = (
            &'static str,
            &'static str,
            u64,
            &'static str,
            Option<&'static str>,
            &'static str,
            bool,
        );
        let cases: [Case; 5] = [
            // A.1: learning a server cookie.
            (
                "2464c4abcf10c957",
                "198.51.100.100",
                1559731985,
                SECRET,
                None,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                false,
            ),
            // A.2: renewed after half an hour.
            (
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                "198.51.100.100",
                1559734385,
                SECRET,
                None,
                "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
                true,
            ),
            // A.3: another client, reserved octets that are not zero. The RFC takes it at an age of 112 minutes, against its §4.3.
            (
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1559734700,
                SECRET,
                None,
                "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
                false,
            ),
            // A.3 while the cookie was young: it is taken, and used on.
            (
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1559728000,
                SECRET,
                None,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                true,
            ),
            // A.4: IPv6, with a secret being replaced.
            (
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1559741961,
                NEW,
                Some(OLD),
                "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
                true,
            ),
        ];
        for (option, peer, now, current, other, response, is_known) in cases {
            let secrets = CookieSecrets::new(secret(current), other.map(secret));
            let cookie = secrets.look_at(&hex(option), peer.parse().unwrap(), now).unwrap();
            assert_eq!((cookie.response.to_vec(), cookie.is_known), (hex(response), is_known), "{option}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_client_address_and_hour_only() {
        let secrets = CookieSecrets::new([7; 16], None);
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let made = secrets.look_at(&[3; 8], here, 10_000).unwrap().response;
        let look = |option: &[u8], peer: &str, now| secrets.look_at(option, peer.parse().unwrap(), now).unwrap();
        assert!(look(&made, "192.0.2.1", 10_000).is_known);
        assert_eq!(look(&made, "192.0.2.1", 11_799).response, made, "under half an hour it is used on");
        assert_ne!(look(&made, "192.0.2.1", 11_800).response, made);
        for (peer, now, is_known) in [
            ("192.0.2.1", 13_600, true),
            ("192.0.2.1", 13_601, false),
            ("192.0.2.1", 9_700, true),
            ("192.0.2.1", 9_699, false),
            ("192.0.2.2", 10_000, false),
            ("::ffff:192.0.2.1", 10_000, false),
        ] {
            assert_eq!(look(&made, peer, now).is_known, is_known, "{peer} at {now}");
        }
        for at in 0..made.len() {
            let mut changed = made;
            changed[at] ^= 0x10;
            let cookie = look(&changed, "192.0.2.1", 10_000);
            assert!(cookie.is_bad && !cookie.is_known, "octet {at}");
            assert!(
                look(&cookie.response, "192.0.2.1", 10_000).is_known,
                "the answer to it carries a good one"
            );
        }
        // The time stamp wraps in 2106.
        let late = u64::from(u32::MAX) - 10;
        let made = secrets.look_at(&[3; 8], here, late).unwrap().response;
        assert!(look(&made, "192.0.2.1", late + 100).is_known);
    }

    #[test]
    fn lengths_that_no_cookie_has_are_malformed() {
        let secrets = CookieSecrets::new([7; 16], None);
        for octets in 0..60 {
            let cookie = secrets.look_at(&vec![1; octets], IpAddr::from([192, 0, 2, 1]), 5);
            assert_eq!(cookie.is_some(), octets == 8 || (16..=40).contains(&octets), "{octets}");
            assert!(cookie.is_none_or(|cookie| !cookie.is_known && cookie.is_bad == (octets > 8)));
        }
        assert_eq!(format!("{secrets:?}"), "CookieSecrets(..)");
    }
}
