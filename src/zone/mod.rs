//! Zones: master file text to zone, and lookup as data. Tier 1: pure, imports `model` only.
//!
//! ```text
//! text ─ lex ─▶ words ─ encode (by table) ─▶ records ─ build ─▶ Zone ─ lookup ─▶ Lookup
//!            read: entries, directives, includes      check: rules of the whole zone
//! ```
//!
//! [`read()`] takes a zone file and gives a [`Zone`] or every error of it (at most 100), each with place,
//! snippet and hint. A `Zone` never changes; its nodes lie in canonical order (RFC 4034 §6.1), so each
//! subtree is one contiguous run and a name is found by binary search.
//!
//! [`lookup()`] is the reference for what is answered: slow, obviously right, data only. The compiled
//! answers are tested against it.
//!
//! Where servers differ the reader takes the stricter view (see `check` and `lex`), so a zone that loads
//! here loads elsewhere. Octets above 127 in strings are taken as they are.
//!
//! Deliberately absent: files (includes come through a callback), classes other than IN, `$GENERATE`,
//! DNSSEC validation, answers to what was not asked (the `answer` module composes responses).

mod base;
mod build;
mod check;
mod diags;
mod encode;
mod forms;
pub mod fuzz;
mod lex;
mod lookup;
mod print;
mod read;
mod steered;
mod svcb;
mod table;
mod text;
mod wire;

#[cfg(test)]
mod tests;

pub use lookup::{ALIASES_MAX, Answered, Lookup, Outcome, ZoneSet, lookup};
pub use print::print_rdata;
pub use read::{ERRORS_MAX, INCLUDE_DEPTH_MAX, read, read_or_part};
pub use steered::check_steered;
pub use wire::compressible_names;

use crate::model::{Diagnostic, Location, Name, Rtype, Serial};
use std::fmt;

/// One file of a zone.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path as diagnostics show it.
    pub path: String,
    /// Its octets.
    pub text: Vec<u8>,
}

/// A zone that was read, with what was found on the way.
#[derive(Debug)]
pub struct Loaded {
    /// The zone.
    pub zone: Zone,
    /// Findings that do not keep it from being served, at most [`ERRORS_MAX`].
    pub warnings: Vec<Diagnostic>,
}

/// A zone file with errors.
#[derive(Debug)]
pub struct Broken {
    /// Every error found, at most [`ERRORS_MAX`].
    pub errors: Vec<Diagnostic>,
    /// What could be read all the same.
    pub part: Part,
}

/// What could be read of a zone file with errors: good for finding what else is wrong in the same round, never to be served.
#[derive(Debug)]
pub struct Part(Box<Zone>);

impl Part {
    /// As [`check_steered`]. Only what stands in the file is ever wrong there, never what is missing.
    pub fn check_steered(&self, name: &Name, cname_possible: bool) -> Vec<Diagnostic> {
        check_steered(&self.0, name, cname_possible)
    }
}

/// The zone's SOA record (RFC 1035 §3.3.13); times in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    /// The primary server.
    pub mname: Name,
    /// The mailbox of the person responsible.
    pub rname: Name,
    /// The version of the zone.
    pub serial: Serial,
    /// Time between a secondary's refreshes.
    pub refresh: u32,
    /// Time between its retries.
    pub retry: u32,
    /// Time after which it gives up.
    pub expire: u32,
    /// Time that negative answers are cached, at most (RFC 2308 §4).
    pub minimum: u32,
    /// The record's own TTL.
    pub ttl: u32,
}

impl Soa {
    /// The TTL of the SOA record in negative answers: the lower of its TTL and its minimum field (RFC 2308 §3).
    pub fn negative_ttl(&self) -> u32 {
        self.ttl.min(self.minimum)
    }

    /// Reads the data of an SOA record.
    fn from_rdata(rdata: &[u8], ttl: u32) -> Option<Soa> {
        let names = wire::names(Rtype::SOA, rdata);
        let [mname, rname] = names.as_slice() else { return None };
        let mut numbers = rdata
            .get(rname.end..)?
            .chunks_exact(4)
            .filter_map(|chunk| <[u8; 4]>::try_from(chunk).ok())
            .map(u32::from_be_bytes);
        Some(Soa {
            mname: Name::from_wire(rdata.get(mname.clone())?).ok()?,
            rname: Name::from_wire(rdata.get(rname.clone())?).ok()?,
            serial: Serial(numbers.next()?),
            refresh: numbers.next()?,
            retry: numbers.next()?,
            expire: numbers.next()?,
            minimum: numbers.next()?,
            ttl,
        })
    }
}

/// An authoritative zone: immutable, in canonical order, checked.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The apex.
    apex: Name,
    /// The SOA record.
    soa: Soa,
    /// Names that own records, in canonical order; empty non-terminals are not among them.
    nodes: Vec<(Name, Node)>,
    /// Number of RRsets.
    rrset_count: usize,
    /// Files that it was read from; [`Place`] points here.
    files: Vec<String>,
}

impl Zone {
    /// The apex, in the case of the configuration.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The SOA record.
    pub fn soa(&self) -> &Soa {
        &self.soa
    }

    /// Names that own records in canonical order, in the case of the file; empty non-terminals are not among them.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (&Name, &Node)> + DoubleEndedIterator {
        self.nodes.iter().map(|(name, node)| (name, node))
    }

    /// What stands at a name.
    pub fn node(&self, name: &Name) -> Option<&Node> {
        self.entry(name).map(|(_, node)| node)
    }

    /// A name in the case of the file, with what stands there.
    fn entry(&self, name: &Name) -> Option<&(Name, Node)> {
        let at = self.nodes.binary_search_by(|(other, _)| other.cmp(name)).ok()?;
        self.nodes.get(at)
    }

    /// Whether a name exists: it owns records or lies above one that does (RFC 4592 §2.2.2).
    pub fn exists(&self, name: &Name) -> bool {
        let at = self.nodes.partition_point(|(other, _)| other < name);
        self.nodes.get(at).is_some_and(|(other, _)| other.is_at_or_below(name))
    }

    /// Number of RRsets.
    pub fn rrset_count(&self) -> usize {
        self.rrset_count
    }

    /// A place as people read it; none for RRsets that were laid over the zone.
    pub fn location(&self, place: Place) -> Option<Location> {
        let file = self.files.get(usize::from(place.file))?;
        Some(Location {
            file: file.clone(),
            line: place.line as usize,
            column: usize::from(place.column),
        })
    }

    /// The zone with other RRsets laid over a name: each replaces the one of its type, other types
    /// stay, an empty one removes it. The name exists afterwards even if nothing is left there: so the
    /// server's own decisions (steered names) are brought into the reference lookup. Not checked, and
    /// O(zone): for tests and tools.
    #[must_use]
    pub fn with_rrsets(&self, name: &Name, rrsets: Vec<RrSet>) -> Zone {
        let mut zone = self.clone();
        let at = match zone.nodes.binary_search_by(|(other, _)| other.cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                zone.nodes.insert(at, (name.clone(), Node { rrsets: Vec::new() }));
                at
            }
        };
        if let Some((_, node)) = zone.nodes.get_mut(at) {
            for rrset in rrsets {
                node.rrsets.retain(|other| other.rtype != rrset.rtype);
                if !rrset.rdata.is_empty() {
                    node.rrsets.push(rrset);
                }
            }
            node.rrsets.sort_by_key(|rrset| rrset.rtype);
        }
        zone.rrset_count = zone.nodes.iter().map(|(_, node)| node.rrsets.len()).sum();
        zone
    }
}

/// What stands at one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its RRsets, sorted by type, one a type.
    pub rrsets: Vec<RrSet>,
}

impl Node {
    /// The RRset of a type.
    pub fn rrset(&self, rtype: Rtype) -> Option<&RrSet> {
        self.rrsets.iter().find(|rrset| rrset.rtype == rtype)
    }
}

/// Records of one name and type.
#[derive(Clone, PartialEq, Eq)]
pub struct RrSet {
    /// The type.
    pub rtype: Rtype,
    /// Their TTL, seconds.
    pub ttl: u32,
    /// Their data, without duplicates, in the order of the file.
    pub rdata: Rdatas,
    /// Where the first one stands; [`Zone::location`] makes it readable.
    pub at: Place,
}

impl RrSet {
    /// Records that stand in no file.
    pub fn new<R: AsRef<[u8]>>(rtype: Rtype, ttl: u32, rdata: impl IntoIterator<Item = R>) -> RrSet {
        RrSet {
            rtype,
            ttl,
            rdata: rdata.into_iter().collect(),
            at: Place::NONE,
        }
    }
}

impl fmt::Debug for RrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.ttl, self.rtype)?;
        self.rdata
            .iter()
            .try_for_each(|rdata| write!(f, " [{}]", print_rdata(self.rtype, rdata)))
    }
}

/// The data of an RRset's records in uncompressed wire form, packed into one block: each behind its
/// length in two octets. A zone of a million names has a million of these.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Rdatas(Box<[u8]>);

impl Rdatas {
    /// Each record's data in order.
    pub fn iter(&self) -> RdataIter<'_> {
        RdataIter(&self.0)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first record's data.
    pub fn first(&self) -> Option<&[u8]> {
        self.iter().next()
    }
}

impl<R: AsRef<[u8]>> FromIterator<R> for Rdatas {
    /// Packs data; what is longer than 65535 octets is no record data (RFC 1035 §3.2.1) and is left out.
    fn from_iter<I: IntoIterator<Item = R>>(items: I) -> Rdatas {
        let mut bytes = Vec::new();
        for item in items {
            let item = item.as_ref();
            if let Ok(len) = u16::try_from(item.len()) {
                bytes.extend_from_slice(&len.to_be_bytes());
                bytes.extend_from_slice(item);
            }
        }
        Rdatas(bytes.into())
    }
}

impl<'a> IntoIterator for &'a Rdatas {
    type Item = &'a [u8];
    type IntoIter = RdataIter<'a>;

    fn into_iter(self) -> RdataIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Rdatas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Rdatas {
    /// The data of one record; without the spare room of the general way, as most RRsets have one.
    fn one(item: &[u8]) -> Rdatas {
        let mut bytes = Vec::with_capacity(2 + item.len());
        bytes.extend_from_slice(&(item.len() as u16).to_be_bytes()); // data that was read has at most 65535 octets
        bytes.extend_from_slice(item);
        Rdatas(bytes.into())
    }
}

/// Iterator over packed record data; holds what is left.
#[derive(Debug, Clone)]
pub struct RdataIter<'a>(&'a [u8]);

impl<'a> Iterator for RdataIter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let [high, low, rest @ ..] = self.0 else { return None };
        let (item, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        self.0 = rest;
        Some(item)
    }
}

/// A place in a zone's files, in eight octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Index of the file.
    file: u16,
    /// Line, from 1.
    line: u32,
    /// Column in characters, from 1; 65535 and beyond are one.
    column: u16,
}

impl Place {
    /// In no file.
    pub const NONE: Place = Place {
        file: u16::MAX,
        line: 0,
        column: 0,
    };
}

/// Reads one record's data from presentation form; relative names stand on `origin`.
///
/// # Errors
/// Says what is wrong, with the word's column.
pub fn parse_rdata(rtype: Rtype, text: &str, origin: &Name) -> Result<Box<[u8]>, String> {
    let mut tokens = Vec::new();
    let mut lexer = lex::Lexer::new(text.as_bytes());
    lexer.next_entry(&mut tokens).map_err(|fault| fault.message.to_string())?;
    if !matches!(lexer.next_entry(&mut Vec::new()), Ok(None)) {
        return Err("record data is one line (or several joined by parentheses)".into());
    }
    let mut out = Vec::new();
    let mut words = text::Words::new(text.as_bytes(), &tokens, 0, origin.wire());
    encode::rdata(rtype, &mut words, &mut out).map_err(|fault| fault.message)?;
    Ok(out.into())
}
