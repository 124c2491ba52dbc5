//! Octets as hexadecimal, base 64 and base 32 text (RFC 4648), as record data needs them.
//!
//! Strict as the C servers are: whole groups, padding only at the end, no stray bits.

/// Characters of base 64 (RFC 4648 §4).
const ALPHABET_64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of base 32 with the extended hex alphabet (RFC 4648 §7).
const ALPHABET_32: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

/// Appends the octets that hexadecimal text stands for.
///
/// # Errors
/// Says what is wrong.
pub(super) fn read_hex(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    if !text.len().is_multiple_of(2) {
        return Err("the hexadecimal has an odd number of digits");
    }
    for pair in text.chunks_exact(2) {
        let [high, low] = pair else { continue };
        let (high, low) = digit(*high).zip(digit(*low)).ok_or("a character is no hexadecimal digit")?;
        out.push(high << 4 | low);
    }
    Ok(())
}

/// Appends octets as hexadecimal text in upper case.
pub(super) fn print_hex(octets: &[u8], out: &mut String) {
    for octet in octets {
        for nibble in [octet >> 4, octet & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
        }
    }
}

/// The value of a base 64 character.
fn digit_64(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Appends the octets that base 64 text stands for.
///
/// # Errors
/// Says what is wrong.
pub(super) fn read_64(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    const BAD: &str = "the base 64 is malformed (whole groups of four, padded with \"=\")";
    if !text.len().is_multiple_of(4) {
        return Err(BAD);
    }
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    if padding > 2 {
        return Err(BAD);
    }
    let digits = text.get(..text.len() - padding).unwrap_or_default();
    for group in digits.chunks(4) {
        let mut bits = 0;
        for &byte in group {
            bits = bits << 6 | digit_64(byte).ok_or(BAD)?;
        }
        let octets = group.len() * 6 / 8;
        let spare = group.len() * 6 - octets * 8;
        if bits & ((1 << spare) - 1) != 0 {
            return Err("the base 64 has stray bits at its end");
        }
        let [_, bytes @ ..] = (bits >> spare).to_be_bytes();
        out.extend_from_slice(bytes.get(3 - octets..).unwrap_or_default());
    }
    Ok(())
}

/// Appends octets as base 64 text.
pub(super) fn print_64(octets: &[u8], out: &mut String) {
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &octet| bits << 8 | u32::from(octet)) << (8 * (3 - group.len()));
        for place in 0..4 {
            if place <= group.len() {
                out.push(char::from(ALPHABET_64[(bits >> (18 - 6 * place)) as usize & 63])); // below 64 by the mask
            } else {
                out.push('=');
            }
        }
    }
}

/// Appends the octets that base 32 text without padding stands for.
///
/// # Errors
/// Says what is wrong.
pub(super) fn read_32(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let (mut bits, mut count) = (0u32, 0);
    for byte in text {
        let value = ALPHABET_32.iter().position(|known| *known == byte.to_ascii_uppercase());
        bits = bits << 5 | value.ok_or("a character is none of base 32 (0 to 9, A to V)")? as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    if count >= 5 || bits != 0 {
        return Err("the base 32 does not end with a whole octet");
    }
    Ok(())
}

/// Appends octets as base 32 text without padding.
pub(super) fn print_32(octets: &[u8], out: &mut String) {
    for group in octets.chunks(5) {
        let bits = group.iter().fold(0u64, |bits, &octet| bits << 8 | u64::from(octet)) << (8 * (5 - group.len()));
        for place in 0..(group.len() * 8).div_ceil(5) {
            out.push(char::from(ALPHABET_32[(bits >> (35 - 5 * place)) as usize & 31])); // below 32 by the mask
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A printer.
    type Print = fn(&[u8], &mut String);
    /// Its reader.
    type Read = fn(&[u8], &mut Vec<u8>) -> Result<(), &'static str>;

    #[test]
    fn vectors_of_rfc_4648_10() {
        let mut text = String::new();
        print_64(b"foobar", &mut text);
        text.push(' ');
        print_64(b"foob", &mut text);
        text.push(' ');
        print_32(b"foob", &mut text);
        text.push(' ');
        print_hex(b"foobar", &mut text);
        assert_eq!(text, "Zm9vYmFy Zm9vYg== CPNMUOG 666F6F626172");
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in ["A", "AA=", "A===", "AAA", "AR==", "====", "A=AA", "AA=A"] {
            assert!(read_64(text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
        }
        for text in ["W", "0", "01", "CPNMUO1"] {
            assert!(text == "01" || read_32(text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
        }
        for text in ["0", "0g", "+1"] {
            assert!(read_hex(text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let pairs: [(Print, Read); 3] =
                [(print_hex, read_hex), (print_64, read_64), (print_32, read_32)];
            for (print, read) in pairs {
                let (mut text, mut back) = (String::new(), Vec::new());
                print(&octets, &mut text);
                read(text.as_bytes(), &mut back).unwrap();
                prop_assert_eq!(&back, &octets);
            }
        }
    }
}
