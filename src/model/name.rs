//! Domain names in wire form (RFC 1035 §3.1), the one type for names outside the query path.
//!
//! A [`Name`] is absolute, at most 255 octets on the wire, each label 1 to 63 octets, and keeps the
//! case it was written in. Equality, order and hash ignore ASCII case (RFC 4343); the order is the
//! canonical one of RFC 4034 §6.1, so that a sorted map lists a zone as DNSSEC would and every
//! subtree is one contiguous range.
//!
//! Deliberately absent: relative names (the zone reader joins them with its origin before it makes a
//! `Name`), compression (the `answer` module's business), IDNA (operators write A-labels).

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// Most octets of a name on the wire, the root label included (RFC 1035 §2.3.4).
pub const NAME_OCTETS_MAX: usize = 255;
/// Most octets of a label (RFC 1035 §2.3.4).
pub const LABEL_OCTETS_MAX: usize = 63;

/// An absolute domain name in uncompressed wire form.
#[derive(Clone)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// The root, `.`.
    pub fn root() -> Name {
        Name(Arc::new([0]))
    }

    /// Takes a complete, uncompressed wire name.
    ///
    /// # Errors
    /// When a label is longer than 63 octets or a pointer, the name longer than 255 octets, or the
    /// bytes do not end exactly with the root label.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        let mut at = 0;
        loop {
            let len = usize::from(*wire.get(at).ok_or(NameError::Unterminated)?);
            if len > LABEL_OCTETS_MAX {
                return Err(NameError::LabelTooLong(len));
            }
            at += 1 + len;
            if at > NAME_OCTETS_MAX {
                return Err(NameError::TooLong);
            }
            if len == 0 {
                break;
            }
        }
        if at != wire.len() {
            return Err(NameError::Unterminated);
        }
        Ok(Name(wire.into()))
    }

    /// Reads the presentation form (RFC 1035 §5.1, `\X` and `\DDD`), with or without the final dot;
    /// either way the name is absolute.
    ///
    /// # Errors
    /// See [`NameError`]; the empty string is an error, `.` is the root.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let (labels, _absolute) = parse_labels(text.as_bytes())?;
        Name::from_labels(&labels)
    }

    /// Puts labels (without their length octets) together, the root label added.
    ///
    /// # Errors
    /// When a label is empty or too long, or the whole is.
    pub fn from_labels<L: AsRef<[u8]>>(labels: &[L]) -> Result<Name, NameError> {
        let mut wire = Vec::with_capacity(32);
        for label in labels {
            let label = label.as_ref();
            match label.len() {
                0 => return Err(NameError::EmptyLabel),
                len @ 1..=LABEL_OCTETS_MAX => wire.push(len as u8),
                len => return Err(NameError::LabelTooLong(len)),
            }
            wire.extend_from_slice(label);
        }
        wire.push(0);
        if wire.len() > NAME_OCTETS_MAX {
            return Err(NameError::TooLong);
        }
        Ok(Name(wire.into()))
    }

    /// The name in uncompressed wire form, the root label included.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels from left to right, without the root label.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> + Clone {
        Labels(&self.0)
    }

    /// Number of labels, the root label not counted: 0 for the root.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Whether the first label is `*` (RFC 4592 §2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// The name without its first label; none for the root.
    pub fn parent(&self) -> Option<Name> {
        let first = usize::from(*self.0.first()?);
        (first > 0).then(|| Name(self.0.get(1 + first..).unwrap_or(&[0]).into()))
    }

    /// Whether this name is `other` or lies below it.
    pub fn is_at_or_below(&self, other: &Name) -> bool {
        let (mine, theirs) = (self.label_count(), other.label_count());
        if mine < theirs {
            return false;
        }
        let mut rest = Labels(&self.0);
        for _ in 0..mine - theirs {
            rest.next();
        }
        rest.0.eq_ignore_ascii_case(&other.0)
    }

    /// Whether this name lies strictly below `other`.
    pub fn is_below(&self, other: &Name) -> bool {
        self.0.len() > other.0.len() && self.is_at_or_below(other)
    }

    /// The name with `label` put before it.
    ///
    /// # Errors
    /// When the label or the result is too long, or the label empty.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        let mut labels: Vec<&[u8]> = vec![label];
        labels.extend(self.labels());
        Name::from_labels(&labels)
    }

    /// Where each label's length octet stands, and how many labels there are (at most 127).
    fn label_starts(&self) -> ([u8; 128], usize) {
        let (mut starts, mut count, mut at) = ([0; 128], 0, 0);
        while let (Some(&len @ 1..), Some(slot)) = (self.0.get(at), starts.get_mut(count)) {
            *slot = at as u8; // a name has at most 255 octets
            count += 1;
            at += 1 + usize::from(len);
        }
        (starts, count)
    }

    /// The label whose length octet stands there.
    fn label_at(&self, start: u8) -> &[u8] {
        Labels(self.0.get(usize::from(start)..).unwrap_or_default())
            .next()
            .unwrap_or_default()
    }

    /// The name in lower case: the form in which steered names are kept and shown. Length octets
    /// are below `A`, so the whole wire form can be folded at once.
    pub fn to_lowercase(&self) -> Name {
        match self.0.iter().any(u8::is_ascii_uppercase) {
            true => Name(self.0.to_ascii_lowercase().into()),
            false => self.clone(),
        }
    }
}

/// Reads labels of a name in presentation form and whether it ended in a dot. The zone reader joins
/// relative names with its origin. The root is no labels and absolute.
///
/// # Errors
/// See [`NameError`].
pub fn parse_labels(text: &[u8]) -> Result<(Vec<Vec<u8>>, bool), NameError> {
    match text {
        b"" => return Err(NameError::Empty),
        b"." => return Ok((Vec::new(), true)),
        _ => {}
    }
    let mut labels = Vec::new();
    let mut label = Vec::new();
    let mut bytes = text.iter().copied();
    let mut open = true;
    while let Some(byte) = bytes.next() {
        open = byte != b'.';
        match byte {
            b'.' if label.is_empty() => return Err(NameError::EmptyLabel),
            b'.' => labels.push(std::mem::take(&mut label)),
            b'\\' => label.push(unescape(&mut bytes)?),
            _ => label.push(byte),
        }
        if label.len() > LABEL_OCTETS_MAX {
            return Err(NameError::LabelTooLong(label.len()));
        }
    }
    if open {
        labels.push(label);
    }
    Ok((labels, !open))
}

/// The octet that the characters after a backslash stand for (RFC 1035 §5.1).
fn unescape(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit).ok_or(NameError::BadEscape)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

/// Iterator over the labels of a wire name; holds what is left of it.
#[derive(Clone)]
struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        if len == 0 {
            return None;
        }
        let (label, rest) = rest.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(label)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write for the whole: hashers take words, and a name ends itself (the root label), so no length is needed.
        let mut lower = [0; NAME_OCTETS_MAX];
        lower
            .iter_mut()
            .zip(self.0.iter())
            .for_each(|(to, from)| *to = from.to_ascii_lowercase());
        state.write(lower.get(..self.0.len()).unwrap_or(&lower));
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        // The maps share most names; what is one needs no look at its octets.
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        // RFC 4034 §6.1: from the rightmost label on, each as a lower-case octet string. No allocation: zones and the maps of
        // steered names are searched with this.
        let (mine, theirs) = (split_first_label(&self.0), split_first_label(&other.0));
        if let (Some((a, above_a)), Some((b, above_b))) = (mine, theirs)
            && above_a == above_b
        {
            // Of one parent, as most names that meet in a search are: the first labels decide.
            return compare_labels(a, b);
        }
        let ((mine, my_count), (theirs, their_count)) = (self.label_starts(), other.label_starts());
        for (a, b) in mine.iter().take(my_count).rev().zip(theirs.iter().take(their_count).rev()) {
            let order = compare_labels(self.label_at(*a), other.label_at(*b));
            if order != Ordering::Equal {
                return order;
            }
        }
        my_count.cmp(&their_count)
    }
}

/// The first label of a wire name and the name above it; none for the root.
fn split_first_label(wire: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len @ 1.., rest) = wire.split_first()? else { return None };
    rest.split_at_checked(usize::from(len))
}

/// Compares labels as octet strings in lower case, eight octets at a time.
fn compare_labels(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let (word_a, word_b) = (lowercase_word(a), lowercase_word(b));
        if word_a != word_b {
            return word_a.cmp(&word_b);
        }
        match (a.get(8..), b.get(8..)) {
            (Some(rest_a), Some(rest_b)) => (a, b) = (rest_a, rest_b),
            // Equal so far with the shorter one filled up with zeros: it is a prefix of the longer one.
            _ => return a.len().cmp(&b.len()),
        }
    }
}

/// The first eight octets of a label in lower case as one number that orders as they do; zeros where it is shorter.
fn lowercase_word(label: &[u8]) -> u64 {
    let word = match label.first_chunk::<8>() {
        Some(octets) => u64::from_be_bytes(*octets),
        None => label.iter().rev().fold(0, |word, &octet| (word >> 8) | (u64::from(octet) << 56)),
    };
    // Per octet, carries cut off: the high bit of `over_a` says "at least A", that of `over_z` "above Z".
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & LOW;
    let over_a = low + ONES * (0x80 - 0x41);
    let over_z = low + ONES * (0x80 - 0x5b);
    let is_upper = over_a & !over_z & !word & (ONES * 0x80);
    word | (is_upper >> 2)
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether an octet of a label stands for itself in the presentation form.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && !matches!(byte, b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            let mut rest = label;
            while let Some(&byte) = rest.first() {
                // Most names are one run a label: written at once, since ledger, API and logs write names by the hundred thousand.
                let plain = rest.iter().position(|&byte| !is_plain(byte)).unwrap_or(rest.len());
                let (run, after) = rest.split_at(plain.max(1));
                rest = after;
                match (plain, byte) {
                    (0, 0x21..=0x7e) => write!(f, "\\{}", char::from(byte))?,
                    (0, _) => write!(f, "\\{byte:03}")?,
                    // Plain octets are ASCII.
                    _ => f.write_str(std::str::from_utf8(run).unwrap_or_default())?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::parse(text)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Name::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Why bytes or text are no domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given; the root is written `.`.
    #[error("the name is empty (the root is written \".\")")]
    Empty,
    /// Two dots in a row, or a dot at the start.
    #[error("the name has an empty label (two dots in a row, or a dot at the start)")]
    EmptyLabel,
    /// A label of more than 63 octets, or a length octet that is none.
    #[error("a label of the name has {0} octets; at most 63 are allowed (RFC 1035 section 2.3.4)")]
    LabelTooLong(usize),
    /// More than 255 octets on the wire.
    #[error("the name is longer than 255 octets on the wire (RFC 1035 section 2.3.4)")]
    TooLong,
    /// A backslash at the end, or `\DDD` that is not 000 to 255.
    #[error("a backslash must be followed by one character or by three digits from 000 to 255")]
    BadEscape,
    /// Wire bytes that do not end exactly with the root label.
    #[error("the wire form does not end with the root label")]
    Unterminated,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn names_compare_without_case_and_with_or_without_the_final_dot() {
        assert_eq!(name("Shop.Example.NET"), name("shop.example.net."));
        assert_eq!(name("Shop.Example.NET").to_string(), "Shop.Example.NET.");
        assert_eq!(name("Shop.Example.NET").to_lowercase().to_string(), "shop.example.net.");
    }

    #[test]
    fn order_is_the_canonical_one_of_rfc_4034_6_1() {
        let sorted = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            "\\001.z.example",
            "*.z.example",
            "\\200.z.example",
        ];
        for pair in sorted.windows(2) {
            assert!(name(pair[0]) < name(pair[1]), "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn what_has_a_meaning_of_its_own_is_escaped() {
        let odd = Name::from_labels(&[&b"a.b\\c\"\0 \xffz"[..], b";()@$", b"plain", b"_x"]).unwrap();
        assert_eq!(odd.to_string(), r#"a\.b\\c\"\000\032\255z.\;\(\)\@\$.plain._x."#);
        assert_eq!(Name::root().to_string(), ".");
    }

    #[test]
    fn bad_names_are_refused_with_their_reason() {
        let long = "a".repeat(64);
        let cases: [(&str, NameError); 7] = [
            ("", NameError::Empty),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            (&long, NameError::LabelTooLong(64)),
            ("a\\", NameError::BadEscape),
            ("a\\256", NameError::BadEscape),
            ("a\\25", NameError::BadEscape),
        ];
        for (text, error) in cases {
            assert_eq!(Name::parse(text).unwrap_err(), error, "{text}");
        }
        let octets_256 = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(62));
        assert_eq!(Name::parse(&octets_256).unwrap_err(), NameError::TooLong);
        let octets_255 = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!(name(&octets_255).wire().len(), 255);
    }

    #[test]
    fn subdomains_are_told_by_whole_labels() {
        assert!(name("a.example.").is_below(&name("EXAMPLE.")));
        assert!(name("example.").is_at_or_below(&name("example.")));
        assert!(!name("example.").is_below(&name("example.")));
        assert!(!name("aexample.").is_at_or_below(&name("example.")));
        assert!(name("a.").is_below(&Name::root()));
        assert_eq!(name("a.b.").parent(), Some(name("b.")));
        assert_eq!(Name::root().parent(), None);
    }

    /// The order as RFC 4034 §6.1 words it, without any thought for speed.
    fn plain_order(a: &Name, b: &Name) -> Ordering {
        let labels = |name: &Name| {
            let mut labels: Vec<Vec<u8>> = name.labels().map(<[u8]>::to_ascii_lowercase).collect();
            labels.reverse();
            labels
        };
        labels(a).cmp(&labels(b))
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_labels_from_the_right(
            a in prop::collection::vec(prop::collection::vec(prop::sample::select(b"\0\x01@AZaz[`{\x80\xc1\xdb".to_vec()), 1..19), 0..4),
            b in prop::collection::vec(prop::collection::vec(prop::sample::select(b"\0\x01@AZaz[`{\x80\xc1\xdb".to_vec()), 1..19), 0..4),
            shared in 0..4usize,
        ) {
            let a = Name::from_labels(&a).unwrap();
            // Names that share their end are the common case and a way of their own.
            let mut labels: Vec<Vec<u8>> = b;
            labels.extend(a.labels().skip(shared).map(<[u8]>::to_vec));
            let b = Name::from_labels(&labels).unwrap();
            prop_assert_eq!(a.cmp(&b), plain_order(&a, &b));
            prop_assert_eq!(b.cmp(&a), plain_order(&b, &a));
        }

        #[test]
        fn printing_and_reading_gives_the_name_back(labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..8)) {
            let name = Name::from_labels(&labels).unwrap();
            let back = Name::parse(&name.to_string()).unwrap();
            prop_assert_eq!(name.wire(), back.wire());
            let again = Name::from_wire(name.wire()).unwrap();
            prop_assert_eq!(again.wire(), name.wire());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Name::from_wire(&bytes);
            let _ = parse_labels(&bytes);
        }
    }
}
