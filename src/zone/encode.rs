//! Record data from presentation form straight to wire form, field by field of the table.
//!
//! Forms that need more than a line (LOC, APL, WKS, times) stand in `forms`, service parameters in
//! `svcb`. Data of any type may be written as `\# length hex` (RFC 3597 §5); for known types it is then
//! checked against the table.

use super::table::{ALGORITHMS, CERT_TYPES, Field, fields};
use super::text::{self, Fault, Words};
use super::{base, forms, svcb, wire};
use crate::model::Rtype;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Reads the words that are left as data of a type and appends it.
///
/// # Errors
/// At the word that is wrong; `out` then holds what was read so far.
pub(super) fn rdata(rtype: Rtype, words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let (start, first) = (out.len(), words.position());
    if words.peek() == Some((b"\\#", false)) {
        words.next_raw();
        generic(words, out)?;
        return wire::check(rtype, out.get(start..).unwrap_or_default()).map_err(|error| words.fault_at(first, error));
    }
    let Some(fields) = fields(rtype) else {
        return Err(words.fault_at(
            first,
            format!("data of type {rtype} is written as \\# LENGTH HEX (RFC 3597 section 5)"),
        ));
    };
    for &field in fields {
        read(field, words, start, out)?;
    }
    if !words.is_empty() {
        return Err(words.fault_at(words.position(), format!("this is one word too many for type {rtype}")));
    }
    if out.len() - start > usize::from(u16::MAX) {
        return Err(words.fault_at(first, "the record's data has more than 65535 octets"));
    }
    wire::check_digest(rtype, out.get(start..).unwrap_or_default()).map_err(|error| words.fault_before(error))
}

/// Reads length and hexadecimal.
fn generic(words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let length = words.number("the length of the data (0 to 65535)", u32::from(u16::MAX))?;
    let at = words.position().saturating_sub(1);
    let hex = words.rest("hexadecimal")?;
    let start = out.len();
    base::read_hex(&hex, out).map_err(|error| words.fault_before(error))?;
    if out.len() - start == length as usize {
        return Ok(());
    }
    Err(words.fault_at(
        at,
        format!("the length says {length} octets, the hexadecimal gives {}", out.len() - start),
    ))
}

/// Reads one field; the record's data starts at `start` of `out`.
fn read(field: Field, words: &mut Words<'_>, start: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    match field {
        Field::Name => words.name(out)?,
        Field::A | Field::Aaaa => address(field, words, out)?,
        Field::U8 | Field::U16 | Field::U32 | Field::Period | Field::Timestamp | Field::Algorithm | Field::CertType | Field::Type => {
            number(field, words, out)?;
        }
        Field::Text => string(words, out)?,
        Field::OptionalText if words.is_empty() => {}
        Field::OptionalText => string(words, out)?,
        Field::Texts => loop {
            string(words, out)?;
            if words.is_empty() {
                break;
            }
        },
        Field::LongText => {
            let (word, _) = words.next_raw().ok_or_else(|| words.missing("a text"))?;
            out.extend_from_slice(&unescape(words, word)?);
        }
        Field::Tag | Field::Digits => checked_string(field, words, out)?,
        Field::Hex => {
            let hex = some(words, "hexadecimal")?;
            base::read_hex(&hex, out).map_err(|error| words.fault_before(error))?;
        }
        Field::Salt => match words.bare("hexadecimal, or - for none")? {
            b"-" => out.push(0),
            word => counted(words, word, base::read_hex, out)?,
        },
        Field::Hash32 => {
            let word = words.bare("a hash in base 32")?;
            counted(words, word, base::read_32, out)?;
        }
        Field::Base64 => {
            let all = some(words, "base 64")?;
            base::read_64(&all, out).map_err(|error| words.fault_before(error))?;
        }
        Field::OptionalBase64 => {
            let all = words.rest("base 64")?;
            base::read_64(&all, out).map_err(|error| words.fault_before(error))?;
        }
        Field::Bitmap => bitmap(words, out)?,
        Field::OldBitmap => old_bitmap(words, out)?,
        Field::Services => forms::read_services(words, out)?,
        Field::Place => forms::read_place(words, out)?,
        Field::Prefixes => forms::read_prefixes(words, out)?,
        Field::Nsap => {
            let word = words.bare("an NSAP address (0x…)")?;
            let hex = word.strip_prefix(b"0x").or_else(|| word.strip_prefix(b"0X"));
            let hex: Vec<u8> = hex.unwrap_or_default().iter().copied().filter(|&byte| byte != b'.').collect();
            if hex.is_empty() {
                return Err(words.wrong("an NSAP address (0x…)", word));
            }
            base::read_hex(&hex, out).map_err(|error| words.fault_before(error))?;
        }
        Field::Locator64 => groups(words, b':', 4, "four groups of hexadecimal with colons", out)?,
        Field::Eui48 => groups(words, b'-', 6, "six octets in hexadecimal with hyphens", out)?,
        Field::Eui64 => groups(words, b'-', 8, "eight octets in hexadecimal with hyphens", out)?,
        Field::Gateway => gateway(words, start, out)?,
        Field::SvcParams => svcb::read(words, out)?,
        Field::Opaque => {
            return Err(words.fault_at(
                words.position(),
                "data of this type is written as \\# LENGTH HEX (RFC 3597 section 5)",
            ));
        }
    }
    Ok(())
}

/// Reads an address of either family.
fn address(field: Field, words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match field {
        Field::A => {
            let word = words.ascii("an IPv4 address")?;
            let address: Ipv4Addr = word.parse().map_err(|_| words.wrong("an IPv4 address", word.as_bytes()))?;
            out.extend_from_slice(&address.octets());
        }
        _ => {
            let word = words.ascii("an IPv6 address")?;
            let address: Ipv6Addr = word.parse().map_err(|_| words.wrong("an IPv6 address", word.as_bytes()))?;
            out.extend_from_slice(&address.octets());
        }
    }
    Ok(())
}

/// Reads a field that is a number on the wire.
fn number(field: Field, words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match field {
        Field::U8 => out.push(words.number("a number from 0 to 255", 255)? as u8),
        Field::U16 => out.extend_from_slice(&(words.number("a number from 0 to 65535", 65_535)? as u16).to_be_bytes()),
        Field::U32 => out.extend_from_slice(&words.number("a number from 0 to 4294967295", u32::MAX)?.to_be_bytes()),
        Field::Period => {
            let word = words.bare("a time in seconds or with units (1h30m)")?;
            let seconds = text::period(word).ok_or_else(|| words.wrong("a time in seconds or with units (1h30m)", word))?;
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        Field::Timestamp => out.extend_from_slice(&forms::read_timestamp(words)?.to_be_bytes()),
        Field::Algorithm => out.push(words.mnemonic("a DNSSEC algorithm", ALGORITHMS, 255)? as u8),
        Field::CertType => out.extend_from_slice(&(words.mnemonic("a certificate type", CERT_TYPES, 65_535)? as u16).to_be_bytes()),
        _ => out.extend_from_slice(&record_type(words)?.0.to_be_bytes()),
    }
    Ok(())
}

/// Reads a record type by mnemonic or as `TYPE123`.
pub(super) fn record_type(words: &mut Words<'_>) -> Result<Rtype, Fault> {
    let word = words.ascii("a record type")?;
    Rtype::parse(word).ok_or_else(|| words.wrong("a record type", word.as_bytes()))
}

/// Resolves the escapes of the word taken last.
fn unescape(words: &Words<'_>, word: &[u8]) -> Result<Vec<u8>, Fault> {
    text::unescape(word).map_err(|error| words.fault_before(error))
}

/// Appends a character string with its length octet.
fn string(words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let (word, _) = words.next_raw().ok_or_else(|| words.missing("a string"))?;
    let octets = unescape(words, word)?;
    let len = u8::try_from(octets.len()).map_err(|_| {
        words.fault_before(format!(
            "the string has {} octets; at most 255 are allowed: split it into several strings",
            octets.len()
        ))
    })?;
    out.push(len);
    out.extend_from_slice(&octets);
    Ok(())
}

/// Appends a character string whose characters the field restricts.
fn checked_string(field: Field, words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let start = out.len();
    string(words, out)?;
    let what = if field == Field::Tag {
        "a tag has letters and digits only"
    } else {
        "an X.25 address has at least four digits and nothing else"
    };
    match wire::take(field, out, start) {
        Ok(_) => Ok(()),
        Err(_) => Err(words.fault_before(what)),
    }
}

/// Takes all words that are left; at least one must be.
fn some(words: &mut Words<'_>, what: &str) -> Result<Vec<u8>, Fault> {
    let all = words.rest(what)?;
    if all.is_empty() { Err(words.missing(what)) } else { Ok(all) }
}

/// Reads octets in some base, one of the readers of `base`.
type BaseReader = fn(&[u8], &mut Vec<u8>) -> Result<(), &'static str>;

/// Appends octets behind their count.
fn counted(words: &Words<'_>, word: &[u8], read: BaseReader, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut octets = Vec::new();
    read(word, &mut octets).map_err(|error| words.fault_before(error))?;
    match u8::try_from(octets.len()) {
        Ok(len @ 1..) => out.push(len),
        _ => return Err(words.fault_before("between 1 and 255 octets fit here")),
    }
    out.extend_from_slice(&octets);
    Ok(())
}

/// Reads all words as types into bit map windows (RFC 4034 §4.1.2).
fn bitmap(words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut types = Vec::new();
    while !words.is_empty() {
        types.push(record_type(words)?.0);
    }
    types.sort_unstable();
    for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut bits = [0u8; 32];
        let mut used = 0;
        for rtype in window {
            let octet = usize::from(rtype & 0xff) / 8;
            bits[octet] |= 0x80 >> (rtype & 7); // octet is at most 31: (rtype & 255) / 8
            used = octet + 1;
        }
        out.extend(window.first().map(|rtype| (rtype >> 8) as u8));
        out.push(used as u8);
        out.extend(bits.iter().take(used));
    }
    Ok(())
}

/// Reads all words as types 1 to 127 into the bit map of NXT (RFC 2535 §5.2).
fn old_bitmap(words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let (mut bits, mut used) = ([0u8; 16], 0);
    while !words.is_empty() {
        let rtype = record_type(words)?.0;
        let octet = usize::from(rtype / 8);
        match bits.get_mut(octet) {
            Some(slot) if rtype > 0 => *slot |= 0x80 >> (rtype & 7),
            _ => return Err(words.fault_before("NXT holds the types 1 to 127 only")),
        }
        used = used.max(octet + 1);
    }
    if used == 0 {
        return Err(words.missing("a record type"));
    }
    out.extend(bits.iter().take(used));
    Ok(())
}

/// Reads `count` groups of hexadecimal with a separator: two digits each, four when they are four groups of 16 bits.
fn groups(words: &mut Words<'_>, separator: u8, count: usize, what: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
    let word = words.bare(what)?;
    let groups: Vec<&[u8]> = word.split(|&byte| byte == separator).collect();
    if groups.len() != count {
        return Err(words.wrong(what, word));
    }
    for group in groups {
        let wrong = || words.wrong(what, word);
        if separator == b':' {
            let digits = std::str::from_utf8(group)
                .ok()
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let value = digits
                .filter(|digits| (1..=4).contains(&digits.len()))
                .and_then(|digits| u16::from_str_radix(digits, 16).ok());
            out.extend_from_slice(&value.ok_or_else(wrong)?.to_be_bytes());
        } else if group.len() != 2 || base::read_hex(group, out).is_err() {
            return Err(wrong());
        }
    }
    Ok(())
}

/// Reads the gateway of IPSECKEY as the type before it says (RFC 4025 §2.3).
fn gateway(words: &mut Words<'_>, start: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    match out.get(start + 1) {
        Some(0) => match words.bare("the gateway \".\"")? {
            b"." => Ok(()),
            word => Err(words.wrong("the gateway \".\" (gateway type 0 has none)", word)),
        },
        Some(1) => read(Field::A, words, start, out),
        Some(2) => read(Field::Aaaa, words, start, out),
        Some(3) => words.name(out),
        _ => Err(words.fault_at(words.position(), "the gateway type is none of 0 to 3")),
    }
}
