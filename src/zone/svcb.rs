//! The parameters of SVCB and HTTPS records (RFC 9460 §2.1, §7, appendix A): read, checked, printed.
//!
//! A parameter may be written by its name or as `keyNNNNN`, in any order; on the wire they rise.

use super::base;
use super::table::SVC_KEYS;
use super::text::{self, Fault};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// `mandatory`.
const MANDATORY: u16 = 0;
/// `alpn`.
const ALPN: u16 = 1;
/// `no-default-alpn`.
const NO_DEFAULT_ALPN: u16 = 2;
/// `port`.
const PORT: u16 = 3;
/// `ipv4hint`.
const IPV4_HINT: u16 = 4;
/// `ech`.
const ECH: u16 = 5;
/// `ipv6hint`.
const IPV6_HINT: u16 = 6;
/// `ohttp`.
const OHTTP: u16 = 8;

/// Reads the parameters that are left and appends them in wire form.
///
/// # Errors
/// At the word that is wrong.
pub(super) fn read(words: &mut text::Words<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut params: Vec<(u16, Vec<u8>)> = Vec::new();
    let first = words.position();
    while let Some((word, quoted)) = words.next_raw() {
        let fault = |message: String| words.fault_before(message);
        if quoted {
            return Err(fault("a parameter is quoted as a whole; quote only its value".into()));
        }
        let (name, value) = match word.iter().position(|&byte| byte == b'=') {
            Some(at) => (word.get(..at).unwrap_or_default(), Some(word.get(at + 1..).unwrap_or_default())),
            None => (word, None),
        };
        let (key, by_number) = key_of(name).ok_or_else(|| fault(format!("{:?} is no service parameter", String::from_utf8_lossy(name))))?;
        if params.iter().any(|(other, _)| *other == key) {
            return Err(fault(format!("the parameter {} is given twice", key_name(key))));
        }
        let value = match value {
            Some(value) => {
                let bare = value
                    .strip_prefix(b"\"")
                    .and_then(|value| value.strip_suffix(b"\""))
                    .unwrap_or(value);
                Some(text::unescape(bare).map_err(|error| fault(error.into()))?)
            }
            None => None,
        };
        let wire = if by_number {
            Ok(value.unwrap_or_default())
        } else {
            value_of(key, value.as_deref())
        };
        let wire = wire.map_err(fault)?;
        if wire.len() > usize::from(u16::MAX) {
            return Err(words.fault_before("the parameter's value is too long"));
        }
        params.push((key, wire));
    }
    params.sort();
    let start = out.len();
    for (key, value) in &params {
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        out.extend_from_slice(value);
    }
    check(out.get(start..).unwrap_or_default()).map_err(|error| words.fault_at(first, error))?;
    Ok(())
}

/// The number of a parameter and whether it was written as a number.
fn key_of(name: &[u8]) -> Option<(u16, bool)> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    if let Some((_, key)) = SVC_KEYS.iter().find(|(known, _)| *known == name) {
        return Some((*key, false));
    }
    let digits = name.strip_prefix("key")?;
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, true))
}

/// The name of a parameter.
fn key_name(key: u16) -> String {
    match SVC_KEYS.iter().find(|(_, known)| *known == key) {
        Some((name, _)) => (*name).to_string(),
        None => format!("key{key}"),
    }
}

/// A value in wire form.
fn value_of(key: u16, value: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let name = key_name(key);
    if matches!(key, NO_DEFAULT_ALPN | OHTTP) {
        return match value {
            None => Ok(Vec::new()),
            Some(_) => Err(format!("the parameter {name} takes no value")),
        };
    }
    let value = value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("the parameter {name} needs a value"))?;
    let words = || std::str::from_utf8(value).unwrap_or("\u{fffd}").split(',');
    let wrong = |word: &str| format!("{word:?} is no value of the parameter {name}");
    let mut out = Vec::new();
    match key {
        MANDATORY => {
            let mut keys = Vec::new();
            for word in words() {
                keys.push(key_of(word.as_bytes()).ok_or_else(|| wrong(word))?.0);
            }
            keys.sort_unstable();
            keys.iter().for_each(|key| out.extend_from_slice(&key.to_be_bytes()));
        }
        ALPN => {
            for id in split_list(value).ok_or_else(|| "the list of protocols is malformed".to_string())? {
                let len = u8::try_from(id.len()).ok().filter(|&len| len > 0);
                out.push(len.ok_or_else(|| "a protocol of alpn has 1 to 255 octets".to_string())?);
                out.extend_from_slice(&id);
            }
        }
        PORT => {
            let word = String::from_utf8_lossy(value);
            let port = text::number(value).and_then(|port| u16::try_from(port).ok());
            out.extend_from_slice(&port.ok_or_else(|| wrong(&word))?.to_be_bytes());
        }
        IPV4_HINT => {
            for word in words() {
                out.extend_from_slice(&word.parse::<Ipv4Addr>().map_err(|_| wrong(word))?.octets());
            }
        }
        IPV6_HINT => {
            for word in words() {
                out.extend_from_slice(&word.parse::<Ipv6Addr>().map_err(|_| wrong(word))?.octets());
            }
        }
        ECH => base::read_64(value, &mut out).map_err(str::to_string)?,
        _ => out.extend_from_slice(value),
    }
    Ok(out)
}

/// Splits a list at its commas; `\,` and `\\` stand for themselves (RFC 9460 appendix A.1).
fn split_list(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut items, mut item) = (Vec::new(), Vec::new());
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b',' => items.push(std::mem::take(&mut item)),
            b'\\' => item.push(*bytes.next().filter(|byte| matches!(byte, b',' | b'\\'))?),
            _ => item.push(byte),
        }
    }
    items.push(item);
    Some(items)
}

/// Cuts the first parameter off.
fn split_first(wire: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [key_high, key_low, len_high, len_low, rest @ ..] = wire else {
        return None;
    };
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*len_high, *len_low])))?;
    Some((u16::from_be_bytes([*key_high, *key_low]), value, rest))
}

/// The keys that `mandatory` lists.
fn keys_in(value: &[u8]) -> impl Iterator<Item = u16> {
    value
        .chunks_exact(2)
        .filter_map(|pair| <[u8; 2]>::try_from(pair).ok())
        .map(u16::from_be_bytes)
}

/// Checks all parameters up to the end of the data and gives their length.
///
/// # Errors
/// Says what is wrong (RFC 9460 §2.2, §7, §8).
pub(super) fn check(wire: &[u8]) -> Result<usize, &'static str> {
    let (mut rest, mut keys, mut mandatory) = (wire, Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (key, value, more) = split_first(rest).ok_or("the service parameters are cut off")?;
        if keys.last().is_some_and(|&last| last >= key) {
            return Err("the service parameters do not rise");
        }
        if key == u16::MAX {
            return Err("key65535 is reserved");
        }
        check_value(key, value)?;
        if key == MANDATORY {
            mandatory = keys_in(value).collect();
        }
        keys.push(key);
        rest = more;
    }
    if mandatory.iter().any(|key| !keys.contains(key)) {
        return Err("a mandatory parameter is missing");
    }
    if keys.contains(&NO_DEFAULT_ALPN) && !keys.contains(&ALPN) {
        return Err("no-default-alpn needs alpn (RFC 9460 section 7.1.1)");
    }
    Ok(wire.len())
}

/// Checks one value.
fn check_value(key: u16, value: &[u8]) -> Result<(), &'static str> {
    let good = match key {
        MANDATORY => {
            let keys: Vec<u16> = keys_in(value).collect();
            !keys.is_empty() && value.len().is_multiple_of(2) && !keys.contains(&MANDATORY) && keys.is_sorted_by(|a, b| a < b)
        }
        ALPN => {
            let mut rest = value;
            while let [len, more @ ..] = rest {
                match more.split_at_checked(usize::from(*len)) {
                    Some((_, after)) if *len > 0 => rest = after,
                    _ => break,
                }
            }
            rest.is_empty() && !value.is_empty()
        }
        NO_DEFAULT_ALPN | OHTTP => value.is_empty(),
        PORT => value.len() == 2,
        IPV4_HINT => !value.is_empty() && value.len().is_multiple_of(4),
        IPV6_HINT => !value.is_empty() && value.len().is_multiple_of(16),
        ECH => !value.is_empty(),
        _ => true,
    };
    if good {
        Ok(())
    } else {
        Err("a service parameter has a value that is none of its kind")
    }
}

/// Prints checked parameters, a blank before each.
pub(super) fn print(wire: &[u8], out: &mut String) {
    let mut rest = wire;
    while let Some((key, value, more)) = split_first(rest) {
        let _ = write!(out, " {}", key_name(key));
        match key {
            MANDATORY => {
                let keys = keys_in(value).map(key_name);
                let _ = write!(out, "={}", keys.collect::<Vec<_>>().join(","));
            }
            ALPN => {
                let mut list = Vec::new();
                let mut ids = value;
                while let [len, more @ ..] = ids {
                    let (id, after) = more.split_at_checked(usize::from(*len)).unwrap_or((more, &[]));
                    if !list.is_empty() {
                        list.push(b',');
                    }
                    for &byte in id {
                        if matches!(byte, b',' | b'\\') {
                            list.push(b'\\');
                        }
                        list.push(byte);
                    }
                    ids = after;
                }
                out.push('=');
                text::print(&list, out);
            }
            PORT => {
                let port = value.iter().fold(0u16, |port, &byte| port << 8 | u16::from(byte));
                let _ = write!(out, "={port}");
            }
            IPV4_HINT => {
                let hints = value.chunks_exact(4).filter_map(|octets| <[u8; 4]>::try_from(octets).ok());
                let _ = write!(
                    out,
                    "={}",
                    hints.map(|octets| Ipv4Addr::from(octets).to_string()).collect::<Vec<_>>().join(",")
                );
            }
            IPV6_HINT => {
                let hints = value.chunks_exact(16).filter_map(|octets| <[u8; 16]>::try_from(octets).ok());
                let _ = write!(
                    out,
                    "={}",
                    hints.map(|octets| Ipv6Addr::from(octets).to_string()).collect::<Vec<_>>().join(",")
                );
            }
            ECH => {
                out.push('=');
                base::print_64(value, out);
            }
            _ if value.is_empty() => {}
            _ => {
                out.push('=');
                text::print(value, out);
            }
        }
        rest = more;
    }
}
