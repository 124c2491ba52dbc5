//! Words of record data: the cursor over an entry's tokens, and the forms that every field shares:
//! escapes, numbers, times with units, names.

use super::lex::Token;
use crate::model::{LABEL_OCTETS_MAX, NAME_OCTETS_MAX, NameError};

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Which token of the entry; one behind the last means the entry ends too early.
    pub token: usize,
    /// What.
    pub message: String,
}

/// The tokens of an entry, taken one after the other.
pub(super) struct Words<'t> {
    /// The text that the tokens point into.
    text: &'t [u8],
    /// All tokens of the entry.
    tokens: &'t [Token],
    /// The next one.
    next: usize,
    /// What `@` and relative names stand on, in wire form.
    origin: &'t [u8],
}

impl<'t> Words<'t> {
    /// Starts at the token `next`.
    pub(super) fn new(text: &'t [u8], tokens: &'t [Token], next: usize, origin: &'t [u8]) -> Words<'t> {
        Words {
            text,
            tokens,
            next,
            origin,
        }
    }

    /// Index of the next token.
    pub(super) fn position(&self) -> usize {
        self.next
    }

    /// Whether no token is left.
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.tokens.len()
    }

    /// The next word with its escapes and whether it was quoted; the cursor stays.
    pub(super) fn peek(&self) -> Option<(&'t [u8], bool)> {
        self.tokens.get(self.next).map(|token| (token.bytes(self.text), token.quoted))
    }

    /// Takes the next word with its escapes and whether it was quoted.
    pub(super) fn next_raw(&mut self) -> Option<(&'t [u8], bool)> {
        let word = self.peek()?;
        self.next += 1;
        Some(word)
    }

    /// Takes the next word, which must not be quoted: names, numbers, addresses, mnemonics.
    pub(super) fn bare(&mut self, what: &str) -> Result<&'t [u8], Fault> {
        match self.next_raw() {
            None => Err(self.missing(what)),
            Some((_, true)) => Err(self.fault_before(format!("{what} is expected here, without quotes"))),
            Some((word, false)) if has_raw_quote(word) => Err(self.wrong(what, word)),
            Some((word, false)) => Ok(word),
        }
    }

    /// Takes the next word as text, which holds ASCII only.
    pub(super) fn ascii(&mut self, what: &str) -> Result<&'t str, Fault> {
        let word = self.bare(what)?;
        match std::str::from_utf8(word) {
            Ok(word) if word.is_ascii() => Ok(word),
            _ => Err(self.wrong(what, word)),
        }
    }

    /// Takes a number up to `max`.
    pub(super) fn number(&mut self, what: &str, max: u32) -> Result<u32, Fault> {
        let word = self.bare(what)?;
        number(word).filter(|&value| value <= max).ok_or_else(|| self.wrong(what, word))
    }

    /// Takes a name and appends its wire form.
    pub(super) fn name(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let word = self.bare("a domain name")?;
        push_name(word, self.origin, out).map_err(|error| self.fault_before(error.to_string()))
    }

    /// Takes a number or one of the mnemonics.
    pub(super) fn mnemonic<N: Copy + Into<u32>>(&mut self, what: &str, table: &[(&str, N)], max: u32) -> Result<u32, Fault> {
        let word = self.bare(what)?;
        let known = table
            .iter()
            .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word))
            .map(|(_, value)| (*value).into());
        known
            .or_else(|| number(word).filter(|&value| value <= max))
            .ok_or_else(|| self.wrong(what, word))
    }

    /// Takes all words that are left, joined: base 64 and hexadecimal may be broken by blanks.
    pub(super) fn rest(&mut self, what: &str) -> Result<Vec<u8>, Fault> {
        let mut all = Vec::new();
        while !self.is_empty() {
            all.extend_from_slice(self.bare(what)?);
        }
        Ok(all)
    }

    /// A fault at the word taken last.
    pub(super) fn fault_before(&self, message: impl Into<String>) -> Fault {
        self.fault_at(self.next.saturating_sub(1), message)
    }

    /// A fault at a given token.
    pub(super) fn fault_at(&self, token: usize, message: impl Into<String>) -> Fault {
        Fault {
            token,
            message: message.into(),
        }
    }

    /// The word taken last is not what its field holds.
    pub(super) fn wrong(&self, what: &str, word: &[u8]) -> Fault {
        self.fault_before(format!("{what} is expected, not {:?}", String::from_utf8_lossy(word)))
    }

    /// The entry ends where a word is expected.
    pub(super) fn missing(&self, what: &str) -> Fault {
        self.fault_at(self.next, format!("{what} is missing at the end of the record"))
    }
}

/// Reads decimal digits, nothing else, up to `u32::MAX`.
pub(super) fn number(word: &[u8]) -> Option<u32> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u32, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Reads seconds, as a number or with units in any case: `300`, `1h30m`, `2w`. A number without unit
/// behind one with a unit is refused, as Knot and BIND do.
pub(super) fn period(word: &[u8]) -> Option<u32> {
    if let Some(seconds) = number(word) {
        return Some(seconds);
    }
    let mut total = 0u32;
    let mut rest = word;
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (count, unit) = rest.split_at_checked(digits)?;
        let (unit, after) = unit.split_first()?;
        let seconds = match unit.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number(count)?.checked_mul(seconds)?)?;
        rest = after;
    }
    (!word.is_empty()).then_some(total)
}

/// The octet that an escape stands for and how many octets follow the backslash (RFC 1035 §5.1).
fn escaped(after: &[u8]) -> Option<(u8, usize)> {
    match after {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            let value = u32::from(a - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0');
            u8::try_from(value).ok().map(|octet| (octet, 3))
        }
        [b'0'..=b'9', ..] | [] => None,
        [octet, ..] => Some((*octet, 1)),
    }
}

/// Whether a word is of the form `key="value"`, which only service parameters may have; the tokenizer lets no other quote
/// through without a backslash.
pub(super) fn has_raw_quote(word: &[u8]) -> bool {
    word.windows(2).any(|pair| pair == b"=\"")
}

/// Resolves the escapes of a string.
///
/// # Errors
/// On a malformed escape, or a quote without a backslash.
pub(super) fn unescape(word: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'\\' {
            let (octet, len) = escaped(after).ok_or("a backslash must be followed by one character or by three digits from 000 to 255")?;
            out.push(octet);
            rest = after.get(len..).unwrap_or_default();
        } else if *byte == b'"' {
            return Err("a quote stands inside a word: quote the whole word, or write the quote as \\\"");
        } else {
            out.push(*byte);
        }
    }
    Ok(out)
}

/// Appends a string in quotes with escapes.
pub(super) fn print(octets: &[u8], out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(octet));
            }
            0x20..=0x7e => out.push(char::from(octet)),
            _ => {
                let _ = write!(out, "\\{octet:03}");
            }
        }
    }
    out.push('"');
}

/// Appends the wire form of a name in presentation form; `@` is the origin, a name without a final
/// dot is put before it.
///
/// # Errors
/// See [`NameError`]; `out` then holds what was read so far.
pub(super) fn push_name(word: &[u8], origin: &[u8], out: &mut Vec<u8>) -> Result<(), NameError> {
    match word {
        b"" => return Err(NameError::Empty),
        b"@" => {
            out.extend_from_slice(origin);
            return Ok(());
        }
        b"." => {
            out.push(0);
            return Ok(());
        }
        _ => {}
    }
    let start = out.len();
    let mut length_at = start;
    out.push(0);
    let mut rest = word;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'.' => {
                close_label(out, length_at)?;
                length_at = out.len();
                out.push(0);
            }
            b'\\' => {
                let (octet, len) = escaped(after).ok_or(NameError::BadEscape)?;
                out.push(octet);
                rest = after.get(len..).unwrap_or_default();
            }
            _ => out.push(*byte),
        }
    }
    if out.len() > length_at + 1 {
        close_label(out, length_at)?;
        out.extend_from_slice(origin);
    }
    if out.len() - start > NAME_OCTETS_MAX {
        Err(NameError::TooLong)
    } else {
        Ok(())
    }
}

/// Writes the length octet of the label that was just appended.
fn close_label(out: &mut [u8], length_at: usize) -> Result<(), NameError> {
    let len = out.len() - length_at - 1;
    match (len, out.get_mut(length_at)) {
        (0, _) => Err(NameError::EmptyLabel),
        (1..=LABEL_OCTETS_MAX, Some(slot)) => {
            *slot = len as u8;
            Ok(())
        }
        _ => Err(NameError::LabelTooLong(len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;
    use proptest::prelude::*;

    #[test]
    fn periods_have_units() {
        let cases: [(&str, Option<u32>); 13] = [
            ("0", Some(0)),
            ("300", Some(300)),
            ("1h30m", Some(5_400)),
            ("2W", Some(1_209_600)),
            ("1w2d3h4m5s", Some(788_645)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("8000w", None),
            ("1h30", None),
            ("h", None),
            ("1y", None),
            ("-1", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(period(text.as_bytes()), seconds, "{text}");
        }
    }

    #[test]
    fn names_stand_on_the_origin() {
        let origin = Name::parse("example.net.").unwrap();
        let read = |text: &str| {
            let mut out = Vec::new();
            push_name(text.as_bytes(), origin.wire(), &mut out).map(|()| Name::from_wire(&out).unwrap().to_string())
        };
        assert_eq!(read("@").unwrap(), "example.net.");
        assert_eq!(read("a.b").unwrap(), "a.b.example.net.");
        assert_eq!(read("a.").unwrap(), "a.");
        assert_eq!(read(".").unwrap(), ".");
        assert_eq!(read("a\\.b\\046c").unwrap(), "a\\.b\\.c.example.net.");
        assert_eq!(read("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(read(".a"), Err(NameError::EmptyLabel));
        assert_eq!(read("\\256"), Err(NameError::BadEscape));
        assert_eq!(read(&"a".repeat(64)), Err(NameError::LabelTooLong(64)));
        let label = "a".repeat(63);
        assert_eq!(
            read(&format!("{label}.{label}.{label}.{}", "b".repeat(50))),
            Err(NameError::TooLong)
        );
        assert!(read(&format!("{label}.{label}.{label}.{}", "b".repeat(49))).is_ok());
    }

    proptest! {
        #[test]
        fn absolute_names_read_as_the_model_reads_them(text in "[a-c.\\\\0-9]{0,12}") {
            let mut out = Vec::new();
            let ours = push_name(text.as_bytes(), &[0], &mut out);
            match Name::parse(&text) {
                Ok(name) => {
                    prop_assert!(ours.is_ok());
                    prop_assert_eq!(name.wire(), out.as_slice());
                }
                Err(_) => prop_assert!(ours.is_err()),
            }
        }

        #[test]
        fn strings_print_and_read_back(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut text = String::new();
            print(&octets, &mut text);
            let inner = text.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            prop_assert_eq!(unescape(inner.as_bytes()).unwrap(), octets);
        }
    }
}
