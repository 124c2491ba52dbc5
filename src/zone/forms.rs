//! Presentation forms of single fields that need more than a line: times of RRSIG, WKS, LOC, APL.
//!
//! Each printer gives none for octets that its reader would not give back.

use super::table::SERVICES;
use super::text::{Fault, Words, number};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Days before each month in a year that is no leap year.
const MONTH_DAYS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Whether a year has 366 days.
fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days of a month (0 to 11).
fn month_days(year: u32, month: usize) -> u32 {
    MONTH_DAYS.get(month).copied().unwrap_or(0) + u32::from(month == 1 && is_leap(year))
}

/// Reads `YYYYMMDDHHmmSS`, or seconds since 1970 (RFC 4034 §3.2). Years beyond 2106 wrap, as serial numbers do.
pub(super) fn read_timestamp(words: &mut Words<'_>) -> Result<u32, Fault> {
    const WHAT: &str = "a time as YYYYMMDDHHmmSS";
    let word = words.ascii(WHAT)?;
    if word.len() != 14 {
        return number(word.as_bytes()).ok_or_else(|| words.wrong(WHAT, word.as_bytes()));
    }
    let part = |from: usize, to: usize| word.get(from..to).and_then(|digits| number(digits.as_bytes()));
    let parts = (|| Some([part(0, 4)?, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?]))();
    let Some([year, month, day, hour, minute, second]) = parts else {
        return Err(words.wrong(WHAT, word.as_bytes()));
    };
    let good = year >= 1970 && (1..=12).contains(&month) && day >= 1 && hour < 24 && minute < 60 && second < 60;
    if !good || day > month_days(year, month as usize - 1) {
        return Err(words.wrong(WHAT, word.as_bytes()));
    }
    let year_days: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let days: u64 = year_days + (0..month as usize - 1).map(|month| u64::from(month_days(year, month))).sum::<u64>() + u64::from(day) - 1;
    let seconds = days * 86_400 + u64::from(hour) * 3_600 + u64::from(minute) * 60 + u64::from(second);
    Ok(seconds as u32)
}

/// Prints seconds since 1970 as `YYYYMMDDHHmmSS`.
pub(super) fn print_timestamp(seconds: u32, out: &mut String) {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= 365 + u32::from(is_leap(year)) {
        days -= 365 + u32::from(is_leap(year));
        year += 1;
    }
    let mut month = 0;
    while month < 11 && days >= month_days(year, month) {
        days -= month_days(year, month);
        month += 1;
    }
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let _ = write!(out, "{year:04}{:02}{:02}{hour:02}{minute:02}{second:02}", month + 1, days + 1);
}

/// Reads protocol and services of WKS (RFC 1035 §3.4.2).
pub(super) fn read_services(words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.push(words.mnemonic("a protocol (tcp, udp or a number)", &[("tcp", 6u8), ("udp", 17), ("icmp", 1)], 255)? as u8);
    let mut bits: Vec<u8> = Vec::new();
    while !words.is_empty() {
        let port = words.mnemonic("a port or the name of a service", SERVICES, 65_535)?;
        let octet = (port / 8) as usize;
        if bits.len() <= octet {
            bits.resize(octet + 1, 0);
        }
        if let Some(slot) = bits.get_mut(octet) {
            *slot |= 0x80 >> (port % 8);
        }
    }
    out.extend_from_slice(&bits);
    Ok(())
}

/// Prints protocol and ports of WKS.
pub(super) fn print_services(octets: &[u8], out: &mut String) -> Option<()> {
    let (protocol, bits) = octets.split_first()?;
    if bits.last() == Some(&0) {
        return None;
    }
    let _ = write!(out, "{protocol}");
    for (octet, bits) in bits.iter().enumerate() {
        for bit in (0..8).filter(|bit| bits & (0x80 >> bit) != 0) {
            let _ = write!(out, " {}", octet * 8 + bit);
        }
    }
    Some(())
}

/// Reads a decimal with up to `places` decimal places as an integer of that many places; an `m` may stand at its end.
fn decimal(word: &str, places: usize) -> Option<i64> {
    let (word, sign) = match word.strip_prefix('-') {
        Some(word) => (word, -1),
        None => (word, 1),
    };
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    if part.len() > places || (word.contains('.') && part.is_empty()) || whole.len() > 9 {
        return None;
    }
    let part = format!("{part:0<places$}");
    let part = if places == 0 { 0 } else { number(part.as_bytes())? };
    Some(sign * (i64::from(number(whole.as_bytes())?) * 10i64.pow(places as u32) + i64::from(part)))
}

/// Reads degrees, minutes, seconds and the hemisphere into thousandths of arc seconds from the equator or meridian.
fn read_angle(words: &mut Words<'_>, degrees_max: i64, hemispheres: [&str; 2], what: &str) -> Result<u32, Fault> {
    let mut total = 0;
    for (index, unit) in [3_600_000, 60_000, 1_000].into_iter().enumerate() {
        let word = words.ascii(what)?;
        if let Some(side) = hemispheres
            .iter()
            .position(|side| word.eq_ignore_ascii_case(side))
            .filter(|_| index > 0)
        {
            return Ok(from_origin(total, side));
        }
        let scaled = decimal(word, if index == 2 { 3 } else { 0 });
        let value = scaled.map(|value| if index == 2 { value } else { value * unit });
        let limit = if index == 0 { degrees_max * unit } else { 60 * unit - 1 };
        let value = value.filter(|value| (0..=limit).contains(value) && !word.starts_with('-'));
        total += value.ok_or_else(|| words.wrong(what, word.as_bytes()))?;
        if total > degrees_max * 3_600_000 {
            return Err(words.wrong(what, word.as_bytes()));
        }
    }
    let word = words.ascii(what)?;
    let side = hemispheres.iter().position(|side| word.eq_ignore_ascii_case(side));
    Ok(from_origin(total, side.ok_or_else(|| words.wrong(what, word.as_bytes()))?))
}

/// The wire form of an angle: offset from 2^31 (RFC 1876 §2). Angles are at most 180 degrees, so it fits.
fn from_origin(total: i64, side: usize) -> u32 {
    let signed = if side == 0 { total } else { -total };
    (i64::from(1u32 << 31) + signed) as u32
}

/// Reads metres with an optional `m` as centimetres.
fn metres(words: &mut Words<'_>, what: &str) -> Result<i64, Fault> {
    let word = words.ascii(what)?;
    let bare = word.strip_suffix(['m', 'M']).unwrap_or(word);
    decimal(bare, 2).ok_or_else(|| words.wrong(what, word.as_bytes()))
}

/// Reads all of LOC (RFC 1876 §3).
pub(super) fn read_place(words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let latitude = read_angle(words, 90, ["N", "S"], "a latitude (degrees [minutes [seconds]] N|S)")?;
    let longitude = read_angle(words, 180, ["E", "W"], "a longitude (degrees [minutes [seconds]] E|W)")?;
    let altitude = metres(words, "an altitude in metres")? + 10_000_000;
    let altitude = u32::try_from(altitude).map_err(|_| words.fault_before("the altitude is out of range (-100000.00 to 42849672.95 m)"))?;
    let mut sizes = [0x12, 0x16, 0x13]; // 1 m, 10000 m, 10 m (RFC 1876 §3)
    for size in &mut sizes {
        if words.is_empty() {
            break;
        }
        let centimetres = metres(words, "a size or precision in metres")?;
        *size = exponent_form(centimetres).ok_or_else(|| words.fault_before("a size or precision is from 0 to 90000000.00 m"))?;
    }
    out.push(0);
    out.extend_from_slice(&sizes);
    for value in [latitude, longitude, altitude] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    Ok(())
}

/// Centimetres as one digit and a power of ten, rounded down (RFC 1876 §2).
fn exponent_form(centimetres: i64) -> Option<u8> {
    let (mut digit, mut exponent) = (u64::try_from(centimetres).ok()?, 0);
    while digit > 9 {
        digit /= 10;
        exponent += 1;
    }
    (exponent <= 9).then_some((digit as u8) << 4 | exponent)
}

/// Prints all of LOC; none when a size is not in the form that reading gives, or an angle is out of range.
pub(super) fn print_place(octets: &[u8], out: &mut String) -> Option<()> {
    let [_, size, horizontal, vertical, rest @ ..] = octets else {
        return None;
    };
    let mut angles = rest
        .chunks_exact(4)
        .filter_map(|chunk| <[u8; 4]>::try_from(chunk).ok())
        .map(u32::from_be_bytes);
    for (degrees_max, sides) in [(90, ["N", "S"]), (180, ["E", "W"])] {
        let signed = i64::from(angles.next()?) - i64::from(1u32 << 31);
        let (total, side) = if signed >= 0 { (signed, sides[0]) } else { (-signed, sides[1]) };
        if total > degrees_max * 3_600_000 {
            return None;
        }
        let (degrees, minutes, rest) = (total / 3_600_000, total / 60_000 % 60, total % 60_000);
        let _ = write!(out, "{degrees} {minutes} {}.{:03} {side} ", rest / 1_000, rest % 1_000);
    }
    let altitude = i64::from(angles.next()?) - 10_000_000;
    let sign = if altitude < 0 { "-" } else { "" };
    let _ = write!(out, "{sign}{}.{:02}m", altitude.abs() / 100, altitude.abs() % 100);
    for size in [size, horizontal, vertical] {
        let (digit, exponent) = (i64::from(size >> 4), u32::from(size & 15));
        let centimetres = digit * 10i64.checked_pow(exponent)?;
        if exponent_form(centimetres) != Some(*size) {
            return None;
        }
        let _ = write!(out, " {}.{:02}m", centimetres / 100, centimetres % 100);
    }
    Some(())
}

/// Reads APL items: `[!]family:address/prefix` (RFC 3123 §5). Families are 1 (IPv4) and 2 (IPv6).
pub(super) fn read_prefixes(words: &mut Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    const WHAT: &str = "an address prefix ([!]1:192.0.2.0/24 or [!]2:2001:db8::/32)";
    while !words.is_empty() {
        let word = words.ascii(WHAT)?;
        let (negated, item) = match word.strip_prefix('!') {
            Some(item) => (0x80, item),
            None => (0, word),
        };
        let read = || {
            let (family, rest) = item.split_once(':')?;
            let (address, prefix) = rest.split_once('/')?;
            let (family, bits, octets) = match family {
                "1" => (1u16, 32, address.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
                "2" => (2, 128, address.parse::<Ipv6Addr>().ok()?.octets().to_vec()),
                _ => return None,
            };
            let prefix = number(prefix.as_bytes()).filter(|&prefix| prefix <= bits)?;
            Some((family, prefix as u8, octets))
        };
        let Some((family, prefix, octets)) = read() else {
            return Err(words.wrong(WHAT, word.as_bytes()));
        };
        let len = octets.iter().rposition(|&octet| octet != 0).map_or(0, |last| last + 1);
        out.extend_from_slice(&family.to_be_bytes());
        out.extend_from_slice(&[prefix, negated | len as u8]);
        out.extend(octets.iter().take(len));
    }
    Ok(())
}

/// Prints APL items; none for address families without a presentation form.
pub(super) fn print_prefixes(octets: &[u8], out: &mut String) -> Option<()> {
    let mut rest = octets;
    while let [high, low, prefix, flags, more @ ..] = rest {
        let (part, after) = more.split_at_checked(usize::from(flags & 0x7f))?;
        if rest.len() < octets.len() {
            out.push(' ');
        }
        if flags & 0x80 != 0 {
            out.push('!');
        }
        let mut address = [0; 16];
        address.get_mut(..part.len())?.copy_from_slice(part);
        match [high, low] {
            [0, 1] => {
                let [a, b, c, d, ..] = address;
                let _ = write!(out, "1:{}/{prefix}", Ipv4Addr::new(a, b, c, d));
            }
            [0, 2] => {
                let _ = write!(out, "2:{}/{prefix}", Ipv6Addr::from(address));
            }
            _ => return None,
        }
        rest = after;
    }
    Some(())
}
