//! Reading a query (RFC 1035 §4.1, RFC 6891 §6): the header, the one question, the OPT record.
//!
//! What is refused here is FORMERR. Strictness is that of NSD and Knot where they agree: exactly one
//! question (none where only a cookie is asked for, RFC 7873 §5.4), no compression in it, one OPT with
//! the root as owner, nothing behind the last record.

use crate::model::NAME_OCTETS_MAX;

/// Octets of a header.
pub(super) const HEADER_OCTETS: usize = 12;
/// Octets of an OPT record without options.
pub(super) const OPT_OCTETS: usize = 11;
/// Smallest size that a UDP client can take (RFC 1035 §4.2.1).
pub(super) const UDP_OCTETS_MIN: usize = 512;
/// Number of the OPT type.
const OPT: u16 = 41;

/// Opcode of an ordinary query.
pub(super) const OPCODE_QUERY: u8 = 0;
/// Opcode of NOTIFY (RFC 1996).
pub(super) const OPCODE_NOTIFY: u8 = 4;

/// The first twelve octets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// QR: it is a response.
    pub(super) is_response: bool,
    /// What is wanted.
    pub(super) opcode: u8,
    /// Counts of the four sections.
    counts: [u16; 4],
}

impl Header {
    /// Reads it; none when there are fewer octets.
    pub(super) fn read(packet: &[u8]) -> Option<Header> {
        let head: &[u8; HEADER_OCTETS] = packet.first_chunk()?;
        let [_, _, flags, _, qd0, qd1, an0, an1, ns0, ns1, ar0, ar1] = *head;
        Some(Header {
            is_response: flags & 0x80 != 0,
            opcode: flags >> 3 & 0x0f,
            counts: [[qd0, qd1], [an0, an1], [ns0, ns1], [ar0, ar1]].map(u16::from_be_bytes),
        })
    }
}

/// A name in lower case, uncompressed, on the stack: what is looked up. Not `Copy`: it is a quarter of a kilobyte, and moving one
/// costs as much as looking it up.
pub(super) struct LowerName {
    /// Its octets, then rubbish.
    bytes: [u8; NAME_OCTETS_MAX],
    /// How many of them, 1 to 255.
    len: u8,
    /// Labels without the root.
    labels: u8,
}

impl LowerName {
    /// The root.
    pub(super) const ROOT: LowerName = LowerName {
        bytes: [0; NAME_OCTETS_MAX],
        len: 1,
        labels: 0,
    };

    /// Takes a complete wire name of any case; none when it is too long for one or not complete.
    pub(super) fn new(wire: &[u8]) -> Option<LowerName> {
        let mut name = LowerName::ROOT;
        name.set(&QueryName {
            wire,
            labels: plain_name(wire)?.1,
        })?;
        Some(name)
    }

    /// Becomes another name, where it lies; none, and nothing changed, when that is too long for one.
    #[inline(always)]
    pub(super) fn set(&mut self, name: &QueryName<'_>) -> Option<()> {
        let len = u8::try_from(name.wire.len()).ok()?;
        let target = self.bytes.get_mut(..name.wire.len())?;
        // Length octets are below 64, so folding the whole does not touch them.
        let ((to, to_rest), (from, from_rest)) = (target.as_chunks_mut(), name.wire.as_chunks());
        for (to, from) in to.iter_mut().zip(from) {
            *to = lower(u64::from_ne_bytes(*from)).to_ne_bytes();
        }
        for (to, from) in to_rest.iter_mut().zip(from_rest) {
            *to = from.to_ascii_lowercase();
        }
        self.len = len;
        self.labels = name.labels;
        Some(())
    }

    /// The wire form.
    #[inline(always)]
    pub(super) fn wire(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[0])
    }

    /// Labels without the root.
    pub(super) fn labels(&self) -> u8 {
        self.labels
    }
}

/// Eight octets, the capital letters of ASCII among them in lower case.
#[inline(always)]
fn lower(octets: u64) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    // Seven bits an octet, so that no sum carries into the next: the eighth says that it is from `A` on, or behind `Z`.
    let low = octets & (EACH * 0x7f);
    let from_a = low + EACH * (0x80 - b'A' as u64);
    let behind_z = low + EACH * (0x7f - b'Z' as u64);
    let is_capital = (from_a ^ behind_z) & !octets & (EACH * 0x80);
    octets | is_capital >> 2
}

/// The name of a question as it was sent: complete, uncompressed, at most 255 octets.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryName<'q> {
    /// Its octets.
    pub(super) wire: &'q [u8],
    /// Labels without the root.
    labels: u8,
}

/// EDNS of a query (RFC 6891 §6.1). Of an option that comes twice the first counts; unknown ones are passed over (§6.1.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Edns<'q> {
    /// Octets the client can take over UDP, as it says.
    pub(super) size: u16,
    /// Version; only 0 exists.
    pub(super) version: u8,
    /// DO: it wants DNSSEC records (RFC 3225); echoed.
    pub(super) dnssec_ok: bool,
    /// Which options it has, of those that mean something by being there: [`NSID`] and its like.
    pub(super) wants: u8,
    /// What its COOKIE option holds (RFC 7873 §4), not yet looked at.
    pub(super) cookie: Option<&'q [u8]>,
}

/// It asks for the name server identifier (RFC 5001 §2.1).
pub(super) const NSID: u8 = 1;
/// It knows edns-tcp-keepalive (RFC 7828 §3.2.1).
pub(super) const KEEPALIVE: u8 = 2;
/// It is padded, and so is the response to be (RFC 7830 §4).
pub(super) const PADDING: u8 = 4;

/// Numbers of options in the IANA registry.
pub(super) mod option {
    /// NSID (RFC 5001).
    pub(crate) const NSID: u16 = 3;
    /// COOKIE (RFC 7873).
    pub(crate) const COOKIE: u16 = 10;
    /// edns-tcp-keepalive (RFC 7828).
    pub(crate) const KEEPALIVE: u16 = 11;
    /// Padding (RFC 7830).
    pub(crate) const PADDING: u16 = 12;
    /// Extended DNS Error (RFC 8914).
    pub(crate) const ERROR: u16 = 15;
}

/// A query that could be read. It is filled where it lies and not handed from function to function: a struct that was just
/// written field by field and is then copied whole waits for its own stores, 5 ns a time, a tenth of a response.
pub(super) struct Query<'q> {
    /// Header and question, to be echoed octet for octet.
    pub(super) head: &'q [u8],
    /// The name asked for.
    pub(super) qname: QueryName<'q>,
    /// The type asked for.
    pub(super) qtype: u16,
    /// The class asked for.
    pub(super) qclass: u16,
    /// EDNS, where used.
    pub(super) edns: Option<Edns<'q>>,
    /// There is no question: it only asks for a server cookie (RFC 7873 §5.4). The name is the root then.
    pub(super) is_cookie_only: bool,
}

/// Why a query could not be read: FORMERR, with what of it is worth echoing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'q> Query<'q> {
    /// A question for the root that nobody asked, to be filled.
    pub(super) fn empty() -> Query<'q> {
        Query {
            head: &[],
            qname: QueryName { wire: &[0], labels: 0 },
            qtype: 0,
            qclass: 0,
            edns: None,
            is_cookie_only: false,
        }
    }

    /// Reads question and records behind the header.
    ///
    /// # Errors
    /// [`Malformed`] stands for FORMERR.
    #[inline(always)]
    pub(super) fn fill(&mut self, packet: &'q [u8], header: Header) -> Result<(), Malformed> {
        let [qd, an, ns, ar] = header.counts;
        if qd == 0 {
            return self.fill_cookie_only(packet, header);
        }
        if qd != 1 {
            return Err(Malformed);
        }
        let rest = packet.get(HEADER_OCTETS..).ok_or(Malformed)?;
        let (name_len, labels) = plain_name(rest).ok_or(Malformed)?;
        let (wire, rest) = rest.split_at_checked(name_len).ok_or(Malformed)?;
        let ([t0, t1, c0, c1], _) = rest.split_first_chunk().ok_or(Malformed)?;
        let head_len = HEADER_OCTETS + name_len + 4;
        let (head, mut rest) = packet.split_at_checked(head_len).ok_or(Malformed)?;
        // A NOTIFY carries the new SOA and an IXFR the old one; both are refused, so they need only be skipped.
        for _ in 0..u32::from(an) + u32::from(ns) {
            rest = Record::read(rest).ok_or(Malformed)?.behind;
        }
        self.head = head;
        self.qname = QueryName { wire, labels };
        self.qtype = u16::from_be_bytes([*t0, *t1]);
        self.qclass = u16::from_be_bytes([*c0, *c1]);
        self.fill_additional(rest, ar)
    }

    /// Reads a query without a question: sound only where it has a COOKIE option (RFC 7873 §5.4).
    fn fill_cookie_only(&mut self, packet: &'q [u8], header: Header) -> Result<(), Malformed> {
        let [_, an, ns, ar] = header.counts;
        let (head, rest) = packet.split_at_checked(HEADER_OCTETS).ok_or(Malformed)?;
        self.head = head;
        self.is_cookie_only = true;
        self.fill_additional(rest, ar)?;
        let asks_for_cookie = self.edns.as_ref().is_some_and(|edns| edns.cookie.is_some());
        if an != 0 || ns != 0 || !asks_for_cookie || header.opcode != OPCODE_QUERY {
            return Err(Malformed);
        }
        Ok(())
    }

    /// Reads the additional section, with which a query ends.
    #[inline(always)]
    fn fill_additional(&mut self, mut rest: &'q [u8], count: u16) -> Result<(), Malformed> {
        for _ in 0..count {
            let record = Record::read(rest).ok_or(Malformed)?;
            rest = record.behind;
            if record.rtype != OPT {
                continue;
            }
            if self.edns.is_some() {
                return Err(Malformed); // RFC 6891 §6.1.1: more than one OPT
            }
            self.edns = Some(read_opt(&record)?);
        }
        if rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Octets and labels of the uncompressed name that `bytes` begin with; none when it is cut short, too
/// long or compressed (in a question there is nothing before it to point to).
#[inline(always)]
fn plain_name(bytes: &[u8]) -> Option<(usize, u8)> {
    let mut at = 0;
    let mut labels = 0;
    loop {
        let len = usize::from(*bytes.get(at)?);
        if len > 63 || at + len >= NAME_OCTETS_MAX {
            return None;
        }
        at += 1 + len;
        if len == 0 {
            return Some((at, labels));
        }
        labels += 1; // at most 127 labels fit into 255 octets
    }
}

/// What is behind the name that `bytes` begin with, compressed or not. Pointers are not followed: the
/// name itself is of no interest, so no loop can be walked into.
#[inline(always)]
fn skip_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (&len, rest) = bytes.split_first()?;
        match len {
            0 => return Some(rest),
            1..=63 => bytes = rest.get(usize::from(len)..)?,
            0xc0..=0xff => return rest.get(1..),
            _ => return None,
        }
    }
}

/// A record of a query, as much of it as anything is wanted of.
struct Record<'q> {
    /// Its owner is the root.
    is_root: bool,
    /// Its type.
    rtype: u16,
    /// Class and TTL, which mean something else in OPT (RFC 6891 §6.1.3).
    class_and_ttl: [u8; 6],
    /// Its data.
    data: &'q [u8],
    /// What is behind it.
    behind: &'q [u8],
}

impl<'q> Record<'q> {
    /// The record that `bytes` begin with; none when it is cut short.
    #[inline(always)]
    fn read(bytes: &'q [u8]) -> Option<Record<'q>> {
        let rest = skip_name(bytes)?;
        let ([t0, t1, c0, c1, l0, l1, l2, l3, len0, len1], rest) = rest.split_first_chunk()?;
        let (data, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([*len0, *len1])))?;
        Some(Record {
            is_root: bytes.first() == Some(&0),
            rtype: u16::from_be_bytes([*t0, *t1]),
            class_and_ttl: [*c0, *c1, *l0, *l1, *l2, *l3],
            data,
            behind,
        })
    }
}

/// What an OPT record says.
///
/// # Errors
/// When its owner is not the root (RFC 6891 §6.1.2), or its options do not fill its data.
#[inline(always)]
fn read_opt<'q>(record: &Record<'q>) -> Result<Edns<'q>, Malformed> {
    if !record.is_root {
        return Err(Malformed);
    }
    let [size0, size1, _extended, version, flags, _] = record.class_and_ttl;
    let mut options = record.data;
    let (mut wants, mut cookie) = (0, None);
    while let Some(([c0, c1, l0, l1], data)) = options.split_first_chunk() {
        let (value, behind) = data
            .split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))
            .ok_or(Malformed)?;
        match u16::from_be_bytes([*c0, *c1]) {
            option::COOKIE => cookie = cookie.or(Some(value)),
            option::NSID => wants |= NSID,
            option::KEEPALIVE => wants |= KEEPALIVE,
            option::PADDING => wants |= PADDING,
            _ => {}
        }
        options = behind;
    }
    if !options.is_empty() {
        return Err(Malformed);
    }
    Ok(Edns {
        size: u16::from_be_bytes([size0, size1]),
        version,
        dnssec_ok: flags & 0x80 != 0,
        wants,
        cookie,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_is_folded_as_ascii_wherever_it_stands() {
        for octet in 0..=u8::MAX {
            for place in 0..8 {
                for others in [0, b'@', b'A', b'[', 0x80, 0xff] {
                    let mut octets = [others; 8];
                    octets[place] = octet;
                    let folded = lower(u64::from_ne_bytes(octets)).to_ne_bytes();
                    assert_eq!(folded, octets.map(|octet| octet.to_ascii_lowercase()), "{octets:?}");
                }
            }
        }
    }
}
