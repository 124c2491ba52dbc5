//! Record data in wire form against the table: does it hold what its type says, where do fields end,
//! where are names in it.
//!
//! Used on data written as `\# length hex` (RFC 3597 §5) of known types, before printing, and by
//! everyone who wants the names in record data.

use super::svcb;
use super::table::{Field, fields};
use crate::model::{NAME_OCTETS_MAX, Rtype};
use std::ops::Range;

/// Checks data of a type against the table; unknown types hold anything.
///
/// # Errors
/// Says what is wrong.
pub(super) fn check(rtype: Rtype, wire: &[u8]) -> Result<(), String> {
    if wire.len() > usize::from(u16::MAX) {
        return Err("the record's data has more than 65535 octets".into());
    }
    let Some(fields) = fields(rtype) else { return Ok(()) };
    let mut at = 0;
    for &field in fields {
        at = take(field, wire, at)?;
    }
    if at != wire.len() {
        return Err(format!("{} octets are left over behind the record's data", wire.len() - at));
    }
    check_digest(rtype, wire)
}

/// DS and its kin: the length of the digest is that of its algorithm (RFC 4034 §5.1.4, RFC 4509, RFC 6605).
/// ZONEMD likewise, and never below 12 octets (RFC 8976 §2.2.4).
pub(super) fn check_digest(rtype: Rtype, wire: &[u8]) -> Result<(), String> {
    let (algorithm, digest) = match (rtype, wire) {
        (Rtype::DS | Rtype::CDS | Rtype::DLV, [_, _, _, algorithm, digest @ ..]) => (*algorithm, digest.len()),
        (Rtype::ZONEMD, [_, _, _, _, _, algorithm, digest @ ..]) => (*algorithm, digest.len()),
        _ => return Ok(()),
    };
    let wanted = match (rtype, algorithm) {
        (Rtype::ZONEMD, 1) => 48,
        (Rtype::ZONEMD, 2) => 64,
        (Rtype::ZONEMD, _) if digest < 12 => 12,
        (Rtype::ZONEMD, _) => digest,
        (_, 1) => 20,
        (_, 2 | 3) => 32,
        (_, 4) => 48,
        _ => digest,
    };
    if wanted == digest {
        return Ok(());
    }
    Err(format!(
        "the digest has {digest} octets; digest algorithm {algorithm} gives {wanted}"
    ))
}

/// Where the field that starts at `at` ends.
///
/// # Errors
/// When the data ends before, or the field cannot hold what is there.
pub(super) fn take(field: Field, wire: &[u8], at: usize) -> Result<usize, &'static str> {
    let rest = wire.get(at..).ok_or(SHORT)?;
    let len = match field {
        Field::Name => name(rest)?,
        Field::U8 | Field::Algorithm => fixed(rest, 1)?,
        Field::U16 | Field::CertType | Field::Type => fixed(rest, 2)?,
        Field::A | Field::U32 | Field::Period | Field::Timestamp => fixed(rest, 4)?,
        Field::Eui48 => fixed(rest, 6)?,
        Field::Locator64 | Field::Eui64 => fixed(rest, 8)?,
        Field::Aaaa => fixed(rest, 16)?,
        Field::Text | Field::Salt => text(rest)?,
        Field::OptionalText if rest.is_empty() => 0,
        Field::OptionalText => text(rest)?,
        Field::Texts => texts(rest)?,
        Field::LongText | Field::OptionalBase64 | Field::Opaque => rest.len(),
        Field::Hex | Field::Base64 | Field::Nsap if rest.is_empty() => return Err(SHORT),
        Field::Hex | Field::Base64 | Field::Nsap => rest.len(),
        Field::Tag => text_of(rest, 1, u8::is_ascii_alphanumeric)?,
        Field::Digits => text_of(rest, 4, u8::is_ascii_digit)?,
        Field::Hash32 => text_of(rest, 1, |_| true)?,
        Field::Bitmap => bitmap(rest)?,
        Field::OldBitmap => match rest {
            [first, ..] if rest.len() <= 16 && first & 0x80 == 0 && rest.last() != Some(&0) => rest.len(),
            _ => return Err("the type bit map is not in its shortest form"),
        },
        Field::Services => match rest {
            [_, bits @ ..] if bits.len() <= 8192 => rest.len(),
            _ => return Err("the port bit map does not fit"),
        },
        Field::Place => match fixed(rest, 16)? {
            _ if rest.first() != Some(&0) => return Err("LOC has a version other than 0"),
            len => len,
        },
        Field::Prefixes => prefixes(rest)?,
        Field::Gateway => match wire.get(1) {
            Some(0) => 0,
            Some(1) => fixed(rest, 4)?,
            Some(2) => fixed(rest, 16)?,
            Some(3) => name(rest)?,
            _ => return Err("the gateway type is none of 0 to 3"),
        },
        Field::SvcParams => svcb::check(rest)?,
    };
    Ok(at + len)
}

/// Said where data ends too early.
const SHORT: &str = "the record's data is too short for its type";

/// A field of `len` octets.
fn fixed(rest: &[u8], len: usize) -> Result<usize, &'static str> {
    if rest.len() < len { Err(SHORT) } else { Ok(len) }
}

/// Octets of the uncompressed name at the start.
fn name(rest: &[u8]) -> Result<usize, &'static str> {
    let mut at = 0;
    loop {
        match *rest.get(at).ok_or(SHORT)? {
            0 if at < NAME_OCTETS_MAX => return Ok(at + 1),
            len @ 1..=63 if at < NAME_OCTETS_MAX => at += 1 + usize::from(len),
            _ => return Err("a name in the record's data is compressed or too long"),
        }
    }
}

/// Octets of the character string at the start, its length octet included.
fn text(rest: &[u8]) -> Result<usize, &'static str> {
    let len = usize::from(*rest.first().ok_or(SHORT)?);
    fixed(rest, 1 + len)
}

/// As [`text`], with at least `min` octets, each of the given kind.
fn text_of(rest: &[u8], min: usize, kind: impl Fn(&u8) -> bool) -> Result<usize, &'static str> {
    let len = text(rest)?;
    let octets = rest.get(1..len).ok_or(SHORT)?;
    if octets.len() < min || !octets.iter().all(kind) {
        return Err("a string holds other characters, or fewer, than its field allows");
    }
    Ok(len)
}

/// One or more character strings up to the end.
fn texts(rest: &[u8]) -> Result<usize, &'static str> {
    let mut at = 0;
    loop {
        at += text(rest.get(at..).ok_or(SHORT)?)?;
        if at == rest.len() {
            return Ok(at);
        }
    }
}

/// Windows in rising order, each 1 to 32 octets without a zero at the end (RFC 4034 §4.1.2).
fn bitmap(rest: &[u8]) -> Result<usize, &'static str> {
    const BAD: &str = "the type bit map is malformed";
    let (mut left, mut previous) = (rest, None);
    while let [window, len, more @ ..] = left {
        let (bits, after) = more.split_at_checked(usize::from(*len)).ok_or(BAD)?;
        if !(1..=32).contains(len) || bits.last() == Some(&0) || previous.is_some_and(|previous| previous >= *window) {
            return Err(BAD);
        }
        previous = Some(*window);
        left = after;
    }
    if left.is_empty() { Ok(rest.len()) } else { Err(BAD) }
}

/// APL items up to the end (RFC 3123 §4).
fn prefixes(rest: &[u8]) -> Result<usize, &'static str> {
    const BAD: &str = "an address prefix is malformed";
    let mut left = rest;
    while let [high, low, prefix, flags, more @ ..] = left {
        let (address, after) = more.split_at_checked(usize::from(flags & 0x7f)).ok_or(BAD)?;
        let (bits_max, octets_max) = match u16::from_be_bytes([*high, *low]) {
            1 => (32, 4),
            2 => (128, 16),
            _ => (255, 127),
        };
        if *prefix > bits_max || address.len() > octets_max || address.last() == Some(&0) {
            return Err(BAD);
        }
        left = after;
    }
    if left.is_empty() { Ok(rest.len()) } else { Err(BAD) }
}

/// Where the names in data of a type are, whatever they may be used for. Stops at what is malformed.
pub(super) fn names(rtype: Rtype, wire: &[u8]) -> Vec<Range<usize>> {
    let (mut at, mut found) = (0, Vec::new());
    for &field in fields(rtype).unwrap_or_default() {
        let Ok(end) = take(field, wire, at) else { break };
        if field == Field::Name {
            found.push(at..end);
        }
        at = end;
    }
    found
}

/// Where the names in record data are that a response may compress and whose senders did so from the
/// start: those of the types of RFC 1035 only (RFC 3597 §4).
pub fn compressible_names(rtype: Rtype, rdata: &[u8]) -> impl Iterator<Item = Range<usize>> + use<> {
    let found = match rtype {
        Rtype::NS
        | Rtype::MD
        | Rtype::MF
        | Rtype::CNAME
        | Rtype::SOA
        | Rtype::MB
        | Rtype::MG
        | Rtype::MR
        | Rtype::PTR
        | Rtype::MINFO
        | Rtype::MX => names(rtype, rdata),
        _ => Vec::new(),
    };
    found.into_iter()
}

/// The data in the form in which duplicates are equal: names in lower case (RFC 4034 §6.2).
pub(super) fn canonical(rtype: Rtype, wire: &[u8]) -> Vec<u8> {
    let mut bytes = wire.to_vec();
    for range in names(rtype, wire) {
        bytes.get_mut(range).unwrap_or_default().make_ascii_lowercase();
    }
    bytes
}
