//! How long a response may be kept by HTTP caches: no longer than by DNS ones (RFC 8484 §5.1).
//!
//! It is the least TTL of the answer and authority sections, a SOA counting with its MINIMUM (RFC 2308 §5). What holds neither, such as
//! REFUSED, is not to be kept.

use crate::model::Rtype;

/// Octets of a header.
const HEADER_OCTETS: usize = 12;

/// The seconds; none where the response is not to be kept, or cannot be read.
pub(super) fn seconds(response: &[u8]) -> Option<u32> {
    let (header, mut rest) = response.split_first_chunk::<HEADER_OCTETS>()?;
    let [_, _, flags, _, qd0, qd1, an0, an1, ns0, ns1, _, _] = *header;
    if flags & 0x02 != 0 {
        return None; // truncated: not an answer
    }
    for _ in 0..u16::from_be_bytes([qd0, qd1]) {
        rest = skip_name(rest)?.get(4..)?;
    }
    let mut least: Option<u32> = None;
    for _ in 0..u32::from(u16::from_be_bytes([an0, an1])) + u32::from(u16::from_be_bytes([ns0, ns1])) {
        let (record, after) = Record::read(rest)?;
        rest = after;
        least = Some(least.map_or(record.age(), |least| least.min(record.age())));
    }
    least
}

/// What is looked at of a record.
struct Record<'r> {
    rtype: Rtype,
    ttl: u32,
    data: &'r [u8],
}

impl Record<'_> {
    /// The record that `octets` begin with, and what is behind it.
    fn read(octets: &[u8]) -> Option<(Record<'_>, &[u8])> {
        let ([t0, t1, _, _, a, b, c, d, l0, l1], rest) = skip_name(octets)?.split_first_chunk()?;
        let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))?;
        let record = Record {
            rtype: Rtype(u16::from_be_bytes([*t0, *t1])),
            ttl: u32::from_be_bytes([*a, *b, *c, *d]),
            data,
        };
        Some((record, rest))
    }

    /// How long it may be kept.
    fn age(&self) -> u32 {
        match (self.rtype, self.data.last_chunk()) {
            (Rtype::SOA, Some(minimum)) => self.ttl.min(u32::from_be_bytes(*minimum)),
            _ => self.ttl,
        }
    }
}

/// What is behind the name that `octets` begin with.
fn skip_name(mut octets: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, rest) = octets.split_first()?;
        match length {
            0 => return Some(rest),
            1..=63 => octets = rest.get(usize::from(length)..)?,
            0xc0.. => return rest.get(1..),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response with records in answer and authority section.
    fn response(counts: [u8; 2], records: &[u8]) -> Vec<u8> {
        let mut octets = vec![0, 0, 0x84, 0, 0, 1, 0, counts[0], 0, counts[1], 0, 0];
        octets.extend_from_slice(&[1, b'a', 0, 0, 1, 0, 1]);
        octets.extend_from_slice(records);
        octets
    }

    /// A record with a TTL.
    fn record(rtype: u8, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut octets = vec![0xc0, 12, 0, rtype, 0, 1];
        octets.extend_from_slice(&ttl.to_be_bytes());
        octets.extend_from_slice(&(data.len() as u16).to_be_bytes());
        octets.extend_from_slice(data);
        octets
    }

    #[test]
    fn the_least_ttl_counts_and_a_soa_with_its_minimum() {
        let (a, b) = (record(1, 300, &[1; 4]), record(1, 30, &[2; 4]));
        assert_eq!(seconds(&response([2, 0], &[a.clone(), b].concat())), Some(30));
        let mut data = vec![0; 22];
        data[18..].copy_from_slice(&60_u32.to_be_bytes());
        assert_eq!(seconds(&response([0, 1], &record(6, 3600, &data))), Some(60));
        assert_eq!(seconds(&response([0, 1], &record(6, 5, &data))), Some(5));
        assert_eq!(seconds(&response([1, 1], &[a.clone(), record(6, 3600, &data)].concat())), Some(60));
        assert_eq!(seconds(&response([0, 0], &[])), None, "an error is not kept");
        let mut truncated = response([1, 0], &a);
        truncated[2] |= 2;
        assert_eq!(seconds(&truncated), None);
        for length in 0..truncated.len() - 4 {
            assert_eq!(seconds(&response([1, 0], &a)[..length]), None);
        }
    }
}
