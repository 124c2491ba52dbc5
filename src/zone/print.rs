//! Record data from wire form to presentation form, such that reading it gives the same octets back.
//!
//! Names are printed whole, with their final dot. What has no exact presentation form (malformed data,
//! odd but legal encodings) is printed as `\# length hex` (RFC 3597 §5).

use super::table::{Field, fields};
use super::{base, forms, svcb, text, wire};
use crate::model::{Name, Rtype};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Prints data of a type in presentation form.
pub fn print_rdata(rtype: Rtype, rdata: &[u8]) -> String {
    known(rtype, rdata).unwrap_or_else(|| generic(rdata))
}

/// The form of RFC 3597 §5.
fn generic(rdata: &[u8]) -> String {
    let mut out = format!("\\# {}", rdata.len());
    if !rdata.is_empty() {
        out.push(' ');
        base::print_hex(rdata, &mut out);
    }
    out
}

/// The type's own form, if the data has one.
fn known(rtype: Rtype, rdata: &[u8]) -> Option<String> {
    wire::check(rtype, rdata).ok()?;
    let (mut at, mut out) = (0, String::new());
    for &field in fields(rtype)? {
        let end = wire::take(field, rdata, at).ok()?;
        let octets = rdata.get(at..end)?;
        let gap = match field {
            Field::SvcParams => false, // puts a blank before each
            Field::OptionalText | Field::OptionalBase64 | Field::Bitmap => !octets.is_empty(),
            _ => true,
        };
        if gap && !out.is_empty() {
            out.push(' ');
        }
        let gateway_type = rdata.get(1).copied().unwrap_or_default();
        print(field, octets, gateway_type, &mut out)?;
        at = end;
    }
    Some(out)
}

/// Appends one field; none when it has no exact form.
fn print(field: Field, octets: &[u8], gateway_type: u8, out: &mut String) -> Option<()> {
    match field {
        Field::Name => write!(out, "{}", Name::from_wire(octets).ok()?).ok()?,
        Field::A => write!(out, "{}", Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)).ok()?,
        Field::Aaaa => write!(out, "{}", Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)).ok()?,
        Field::U8 | Field::U16 | Field::U32 | Field::Period | Field::Algorithm | Field::CertType => {
            write!(out, "{}", value(octets)).ok()?;
        }
        Field::Timestamp => forms::print_timestamp(value(octets), out),
        Field::Type => write!(out, "{}", Rtype(value(octets) as u16)).ok()?,
        Field::Text | Field::Digits | Field::Texts | Field::OptionalText => print_strings(octets, out),
        Field::LongText => text::print(octets, out),
        Field::Tag => out.push_str(std::str::from_utf8(octets.get(1..)?).ok()?),
        Field::Hex => base::print_hex(octets, out),
        Field::Salt if octets == [0] => out.push('-'),
        Field::Salt => base::print_hex(octets.get(1..)?, out),
        Field::Hash32 => base::print_32(octets.get(1..)?, out),
        Field::Base64 | Field::OptionalBase64 => base::print_64(octets, out),
        Field::Bitmap => print_bitmap(octets, out),
        Field::OldBitmap => print_types(0, octets, out),
        Field::Services => forms::print_services(octets, out)?,
        Field::Place => forms::print_place(octets, out)?,
        Field::Prefixes => forms::print_prefixes(octets, out)?,
        Field::Nsap => {
            out.push_str("0x");
            base::print_hex(octets, out);
        }
        Field::Locator64 => {
            let groups = octets.chunks_exact(2).map(|pair| format!("{:04x}", value(pair)));
            out.push_str(&groups.collect::<Vec<_>>().join(":"));
        }
        Field::Eui48 | Field::Eui64 => {
            let groups = octets.iter().map(|octet| format!("{octet:02x}"));
            out.push_str(&groups.collect::<Vec<_>>().join("-"));
        }
        Field::Gateway => match gateway_type {
            0 => out.push('.'),
            1 => print(Field::A, octets, 0, out)?,
            2 => print(Field::Aaaa, octets, 0, out)?,
            _ => print(Field::Name, octets, 0, out)?,
        },
        Field::SvcParams => svcb::print(octets, out),
        Field::Opaque => return None,
    }
    Some(())
}

/// A number in network order.
fn value(octets: &[u8]) -> u32 {
    octets.iter().fold(0, |value, &octet| value << 8 | u32::from(octet))
}

/// Prints character strings up to the end.
fn print_strings(octets: &[u8], out: &mut String) {
    let mut rest = octets;
    while let [len, more @ ..] = rest {
        let (string, after) = more.split_at_checked(usize::from(*len)).unwrap_or((more, &[]));
        if rest.len() < octets.len() {
            out.push(' ');
        }
        text::print(string, out);
        rest = after;
    }
}

/// Prints the types of bit map windows.
fn print_bitmap(octets: &[u8], out: &mut String) {
    let mut rest = octets;
    while let [window, len, more @ ..] = rest {
        let (bits, after) = more.split_at_checked(usize::from(*len)).unwrap_or((more, &[]));
        if rest.len() < octets.len() {
            out.push(' ');
        }
        print_types(u16::from(*window) << 8, bits, out);
        rest = after;
    }
}

/// Prints the types of one window.
fn print_types(base: u16, bits: &[u8], out: &mut String) {
    let mut first = true;
    for (offset, octet) in (0u16..).zip(bits) {
        for bit in (0..8).filter(|bit| octet & (0x80 >> bit) != 0) {
            if !first {
                out.push(' ');
            }
            first = false;
            let _ = write!(out, "{}", Rtype(base + offset * 8 + bit));
        }
    }
}
