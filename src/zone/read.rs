//! Master file entries: directives, owners, TTLs, classes, types (RFC 1035 §5.1, RFC 2308 §4).
//!
//! Every entry is read for itself: an error in one is noted and the next is read, until
//! [`ERRORS_MAX`] are found. Records go into flat tables with their octets in two arenas; `build` makes
//! the zone of them.
//!
//! Where servers differ: an owner may not be left out right behind `$INCLUDE` (BIND takes the owner before,
//! NSD the file's last); a TTL that is given nowhere is 3600 with a warning, as NSD and Knot do; without
//! `$TTL` a missing TTL is the last one stated (RFC 1035 §5.1), also with a warning. `$TTL` of an included
//! file stays in force behind it, `$ORIGIN` does not, as everywhere.

use super::diags::{Diags, Text};
use super::lex::{Lexer, Spot, Token};
use super::table::is_data;
use super::text::{Words, has_raw_quote, number, period, push_name};
use super::{Broken, Loaded, Part, Place, Source, build, encode};
use crate::model::{CLASS_IN, Diagnostic, Name, Rtype, TTL_MAX, parse_labels};

/// Most errors that one load reports, and most warnings.
pub const ERRORS_MAX: usize = 100;
/// Most files inside one another: the zone file and ten levels of `$INCLUDE`.
pub const INCLUDE_DEPTH_MAX: usize = 10;
/// The TTL of records when none is stated anywhere, seconds: what NSD and Knot take.
const TTL_FALLBACK: u32 = 3_600;
/// Longest text of one file: spans are 32 bits wide.
const TEXT_OCTETS_MAX: usize = u32::MAX as usize - 1;

/// Reads a zone file. `include` gets the path as written and the path of the file that it is written
/// in, and gives the file or says why not.
///
/// # Errors
/// Every error found, at most [`ERRORS_MAX`], in the order of the text, those of the whole zone last.
pub fn read(
    source: &Source,
    apex: &Name,
    include: &mut dyn FnMut(&str, &str) -> Result<Source, String>,
) -> Result<Loaded, Vec<Diagnostic>> {
    read_or_part(source, apex, include).map_err(|broken| broken.errors)
}

/// As [`read()`]; where the file has errors, what could be read all the same comes with them.
///
/// # Errors
/// As [`read()`].
pub fn read_or_part(source: &Source, apex: &Name, include: &mut dyn FnMut(&str, &str) -> Result<Source, String>) -> Result<Loaded, Broken> {
    let mut reader = Reader {
        apex,
        include,
        files: vec![(source.path.clone(), Text::Main(&source.text))],
        open: vec![source.path.clone()],
        diags: Diags::default(),
        records: Records::default(),
        default_ttl: None,
        last_ttl: None,
        ttl_warned: false,
    };
    reader.file(0, apex.wire().to_vec(), None);
    let Reader {
        files, mut diags, records, ..
    } = reader;
    let names: Vec<String> = files.iter().map(|(path, _)| path.clone()).collect();
    let zone = build::zone(apex, &records, names, &mut diags);
    drop(records);
    let failed = diags.has_errors();
    let (errors, warnings) = diags.finish(&files);
    match zone {
        Ok(zone) if !failed => Ok(Loaded { zone, warnings }),
        Ok(zone) => Err(Broken {
            errors,
            part: Part(Box::new(zone)),
        }),
        Err(part) => Err(Broken { errors, part }),
    }
}

/// One record, its octets in the arenas.
#[derive(Clone, Copy)]
pub(super) struct Record {
    /// Offset of its data.
    start: u32,
    /// Octets of its data.
    len: u16,
    /// Its type.
    pub rtype: Rtype,
    /// Its TTL.
    pub ttl: u32,
    /// Where it stands.
    pub at: Place,
}

/// One owner as written; the records that follow it are its own.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    /// Offset of its wire form.
    start: u32,
    /// Octets of its wire form.
    len: u8,
    /// Index of its first record; they end where the next owner's start.
    pub first: u32,
}

/// Everything that was read, flat. A million records are a few blocks of memory.
#[derive(Default)]
pub(super) struct Records {
    /// Records in the order of the text.
    pub records: Vec<Record>,
    /// Owners in the order of the text; one that comes again is listed again.
    pub owners: Vec<Owner>,
    /// Wire forms of owners.
    name_octets: Vec<u8>,
    /// Record data.
    data_octets: Vec<u8>,
}

impl Records {
    /// Wire form of an owner.
    pub(super) fn name(&self, owner: &Owner) -> &[u8] {
        self.name_octets
            .get(owner.start as usize..owner.start as usize + usize::from(owner.len))
            .unwrap_or_default()
    }

    /// Data of a record.
    pub(super) fn data(&self, record: &Record) -> &[u8] {
        self.data_octets
            .get(record.start as usize..record.start as usize + usize::from(record.len))
            .unwrap_or_default()
    }

    /// Adds an owner, unless it is the one before.
    fn own(&mut self, name: &[u8]) {
        if self.owners.last().is_some_and(|owner| self.name(owner) == name) {
            return;
        }
        self.owners.push(Owner {
            start: self.name_octets.len() as u32, // the caller bounds the arenas
            len: name.len() as u8,                // at most 255
            first: self.records.len() as u32,
        });
        self.name_octets.extend_from_slice(name);
    }
}

/// Why an entry is not taken, and where.
struct Wrong {
    /// The place.
    spot: Spot,
    /// What.
    message: String,
    /// What to do, empty if nothing is to be said.
    hint: &'static str,
}

/// The state of a load.
struct Reader<'s, 'i> {
    /// The zone's apex.
    apex: &'s Name,
    /// Gives included files.
    include: &'i mut dyn FnMut(&str, &str) -> Result<Source, String>,
    /// All files so far with their text.
    files: Vec<(String, Text<'s>)>,
    /// Paths of the files that are being read, outermost first.
    open: Vec<String>,
    /// Findings.
    diags: Diags,
    /// Records.
    records: Records,
    /// What `$TTL` said.
    default_ttl: Option<u32>,
    /// The last TTL stated at a record.
    last_ttl: Option<u32>,
    /// Whether a missing TTL was warned of; once is enough.
    ttl_warned: bool,
}

/// The state of one file.
struct File {
    /// Its index.
    index: u16,
    /// What relative names stand on, wire form.
    origin: Vec<u8>,
    /// The last owner, wire form.
    owner: Option<Vec<u8>>,
    /// Whether an `$INCLUDE` came after the last owner.
    owner_unsure: bool,
    /// Room for a name.
    scratch: Vec<u8>,
}

impl Reader<'_, '_> {
    /// Reads one file to its end.
    fn file(&mut self, index: u16, origin: Vec<u8>, owner: Option<Vec<u8>>) {
        let Some((_, text)) = self.files.get(usize::from(index)) else {
            return;
        };
        let text = text.clone();
        let text = text.bytes();
        let mut file = File {
            index,
            origin,
            owner,
            owner_unsure: false,
            scratch: Vec::new(),
        };
        let start = Spot {
            offset: 0,
            line: 1,
            line_start: 0,
        };
        if text.len() > TEXT_OCTETS_MAX {
            self.diags.error(
                Some(place(index, start, text)),
                "the file is larger than 4 GiB",
                "split it with $INCLUDE",
            );
            return;
        }
        if text.starts_with(b"\xef\xbb\xbf") {
            self.diags.error(
                Some(place(index, start, text)),
                "the file starts with a byte order mark, which would become part of the first name",
                "save it as UTF-8 without byte order mark",
            );
        }
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        while !self.diags.is_full() {
            match lexer.next_entry(&mut tokens) {
                Ok(None) => break,
                Ok(Some(indented)) => {
                    if let Err(wrong) = self.entry(&mut file, text, &tokens, indented) {
                        self.diags.error(Some(place(index, wrong.spot, text)), wrong.message, wrong.hint);
                    }
                }
                Err(fault) => self.diags.error(Some(place(index, fault.spot, text)), fault.message, fault.hint),
            }
        }
    }

    /// Reads one entry: a directive or a record.
    fn entry(&mut self, file: &mut File, text: &[u8], tokens: &[Token], indented: bool) -> Result<(), Wrong> {
        let Some(first) = tokens.first() else { return Ok(()) };
        if !indented && !first.quoted && first.bytes(text).first() == Some(&b'$') {
            return self.directive(file, text, tokens, first);
        }
        let mut next = 0;
        if indented {
            self.inherit_owner(file, first)?;
        } else {
            next = 1;
            self.set_owner(file, text, first)?;
        }
        self.record(file, text, tokens, next)
    }

    /// Takes the owner of an entry that names it.
    fn set_owner(&mut self, file: &mut File, text: &[u8], token: &Token) -> Result<(), Wrong> {
        if token.quoted {
            return Err(wrong(
                token,
                "the owner name stands in quotes",
                "write it without; escape blanks as \\032",
            ));
        }
        if has_raw_quote(token.bytes(text)) {
            return Err(wrong(token, "a quote stands inside the owner name", "write it as \\\""));
        }
        file.scratch.clear();
        push_name(token.bytes(text), &file.origin, &mut file.scratch).map_err(|error| {
            file.owner = None;
            wrong(token, error.to_string(), "")
        })?;
        if file.owner.as_deref() != Some(&file.scratch) {
            let owner = file.owner.get_or_insert_default();
            owner.clear();
            owner.extend_from_slice(&file.scratch);
        }
        file.owner_unsure = false;
        if is_at_or_below(&file.scratch, self.apex) {
            return Ok(());
        }
        let shown = Name::from_wire(&file.scratch).map(|name| name.to_string()).unwrap_or_default();
        Err(wrong(
            token,
            format!("{shown} lies outside the zone {}", self.apex),
            "a name without a final dot is put before the origin; check the dot and $ORIGIN",
        ))
    }

    /// Checks that an entry without owner has one before it.
    fn inherit_owner(&self, file: &File, token: &Token) -> Result<(), Wrong> {
        match &file.owner {
            None => Err(wrong(
                token,
                "the line starts with a blank, but there is no valid owner name before it",
                "write the owner name, @ for the origin",
            )),
            Some(_) if file.owner_unsure => Err(wrong(
                token,
                "the owner name is left out right behind $INCLUDE, where servers differ about it",
                "write the owner name",
            )),
            Some(owner) if !is_at_or_below(owner, self.apex) => {
                Err(wrong(token, "the owner name before this line lies outside the zone", ""))
            }
            Some(_) => Ok(()),
        }
    }

    /// Reads what follows the owner and notes the record.
    fn record(&mut self, file: &mut File, text: &[u8], tokens: &[Token], next: usize) -> Result<(), Wrong> {
        let (ttl, rtype, next) = self.head(text, tokens, next)?;
        let start = self.records.data_octets.len();
        let mut words = Words::new(text, tokens, next, &file.origin);
        if let Err(fault) = encode::rdata(rtype, &mut words, &mut self.records.data_octets) {
            self.records.data_octets.truncate(start);
            return Err(at_token(tokens, fault.token, fault.message, ""));
        }
        let at = tokens.first().map_or(Place::NONE, |token| place(file.index, token.spot(), text));
        let (Ok(start), true) = (u32::try_from(start), self.records.name_octets.len() < TEXT_OCTETS_MAX) else {
            return Err(at_token(
                tokens,
                0,
                "the zone is larger than this server can hold (4 GiB of data)".into(),
                "",
            ));
        };
        let ttl = match ttl.or(self.default_ttl) {
            Some(ttl) => ttl,
            None => {
                let (ttl, from) = self
                    .last_ttl
                    .map_or((TTL_FALLBACK, "a fallback"), |ttl| (ttl, "the last one stated"));
                let message = format!("no TTL is given and no $TTL before it; {ttl} is taken, {from}");
                if !std::mem::replace(&mut self.ttl_warned, true) {
                    self.diags.warning(at, message, None, "put a $TTL at the top of the file");
                }
                ttl
            }
        };
        if let Some(owner) = &file.owner {
            self.records.own(owner);
        }
        self.records.records.push(Record {
            start,
            len: (self.records.data_octets.len() - start as usize) as u16, // encode::rdata bounds it
            rtype,
            ttl,
            at,
        });
        Ok(())
    }

    /// Reads TTL and class in either order, each at most once, and the type. Gives the index of the first word of the data.
    fn head(&mut self, text: &[u8], tokens: &[Token], mut next: usize) -> Result<(Option<u32>, Rtype, usize), Wrong> {
        let (mut ttl, mut class) = (None, false);
        loop {
            let Some(token) = tokens.get(next) else {
                return Err(at_token(tokens, next, "the record ends before its type".into(), ""));
            };
            let word = token.bytes(text);
            next += 1;
            if token.quoted {
                return Err(wrong(token, "a record type is expected here, without quotes", ""));
            }
            if word.first().is_some_and(u8::is_ascii_digit) && ttl.is_none() {
                ttl = Some(ttl_of(token, word)?);
                self.last_ttl = ttl;
                continue;
            }
            let word = std::str::from_utf8(word).unwrap_or_default();
            if let Some(code) = class_of(word).filter(|_| !class) {
                if code != CLASS_IN {
                    return Err(wrong(token, "only class IN is served", "remove the record"));
                }
                class = true;
                continue;
            }
            let Some(rtype) = Rtype::parse(word) else {
                let shown = String::from_utf8_lossy(token.bytes(text)).into_owned();
                return Err(wrong(
                    token,
                    format!("{shown:?} is no record type"),
                    "a record is: owner [TTL] [IN] type data; unknown types are written TYPE123 \\# length hex",
                ));
            };
            if !is_data(rtype) {
                return Err(wrong(
                    token,
                    format!("{rtype} is no type that a zone can hold"),
                    "remove the record",
                ));
            }
            return Ok((ttl, rtype, next));
        }
    }

    /// Reads a directive.
    fn directive(&mut self, file: &mut File, text: &[u8], tokens: &[Token], first: &Token) -> Result<(), Wrong> {
        let word = first.bytes(text).to_ascii_uppercase();
        let (most, result) = match word.as_slice() {
            b"$ORIGIN" => (2, self.origin(file, text, tokens)),
            b"$TTL" => (2, self.ttl(text, tokens)),
            b"$INCLUDE" => (3, Ok(())),
            b"$GENERATE" => {
                return Err(wrong(
                    first,
                    "$GENERATE is not supported",
                    "write the records out (named-compilezone does it), they are read fast",
                ));
            }
            _ => {
                return Err(wrong(
                    first,
                    "the directive is unknown",
                    "known are $ORIGIN, $TTL and $INCLUDE; escape a name's dollar as \\$",
                ));
            }
        };
        result?;
        if let Some(token) = tokens.get(most) {
            return Err(wrong(token, "this is one word too many for the directive", ""));
        }
        if word == b"$INCLUDE" {
            self.include(file, text, tokens)
        } else {
            Ok(())
        }
    }

    /// `$ORIGIN name`.
    fn origin(&mut self, file: &mut File, text: &[u8], tokens: &[Token]) -> Result<(), Wrong> {
        file.origin = name_of(text, tokens, 1, &file.origin)?;
        Ok(())
    }

    /// `$TTL period`.
    fn ttl(&mut self, text: &[u8], tokens: &[Token]) -> Result<(), Wrong> {
        let Some(token) = tokens.get(1) else {
            return Err(at_token(tokens, 1, "a TTL is missing behind $TTL".into(), ""));
        };
        self.default_ttl = Some(ttl_of(token, token.bytes(text))?);
        Ok(())
    }

    /// `$INCLUDE path [origin]`: reads the file here; this file's origin stays as it is.
    fn include(&mut self, file: &mut File, text: &[u8], tokens: &[Token]) -> Result<(), Wrong> {
        let Some(token) = tokens.get(1) else {
            return Err(at_token(tokens, 1, "a path is missing behind $INCLUDE".into(), ""));
        };
        let path = super::text::unescape(token.bytes(text)).map_err(|error| wrong(token, error, ""))?;
        let path = String::from_utf8(path).map_err(|_| wrong(token, "the path is not UTF-8", ""))?;
        let origin = if tokens.len() > 2 {
            name_of(text, tokens, 2, &file.origin)?
        } else {
            file.origin.clone()
        };
        if self.open.len() > INCLUDE_DEPTH_MAX {
            return Err(wrong(
                token,
                format!("$INCLUDE goes deeper than {INCLUDE_DEPTH_MAX} levels"),
                "does a file include itself?",
            ));
        }
        let from = self.open.last().cloned().unwrap_or_default();
        let source = (self.include)(&path, &from).map_err(|error| wrong(token, format!("{path:?} cannot be included: {error}"), ""))?;
        if self.open.contains(&source.path) {
            return Err(wrong(token, format!("{} includes itself", source.path), "remove the $INCLUDE"));
        }
        let Some(index) = u16::try_from(self.files.len()).ok().filter(|&index| index < u16::MAX) else {
            return Err(wrong(token, "the zone has more than 65534 files", ""));
        };
        self.files.push((source.path.clone(), Text::Included(source.text.into())));
        self.open.push(source.path);
        self.file(index, origin, file.owner.clone());
        self.open.pop();
        file.owner_unsure = true;
        Ok(())
    }
}

/// Whether the wire name is `apex` or lies below it; cheap enough for every record.
fn is_at_or_below(wire: &[u8], apex: &Name) -> bool {
    let apex = apex.wire();
    let Some(head) = wire.len().checked_sub(apex.len()) else {
        return false;
    };
    let mut at = 0;
    while at < head {
        at += 1 + wire.get(at).copied().map_or(usize::MAX / 2, usize::from);
    }
    at == head && wire.get(head..).is_some_and(|tail| tail.eq_ignore_ascii_case(apex))
}

/// A class by mnemonic or as `CLASS123` (RFC 3597 §5).
fn class_of(word: &str) -> Option<u16> {
    for (name, code) in [("IN", 1), ("CS", 2), ("CH", 3), ("HS", 4), ("NONE", 254)] {
        if word.eq_ignore_ascii_case(name) {
            return Some(code);
        }
    }
    let (head, digits) = word.split_at_checked(5)?;
    let code = number(digits.as_bytes()).filter(|_| head.eq_ignore_ascii_case("CLASS"))?;
    u16::try_from(code).ok()
}

/// Reads a TTL (RFC 2181 §8).
fn ttl_of(token: &Token, word: &[u8]) -> Result<u32, Wrong> {
    match period(word).filter(|_| !token.quoted) {
        Some(ttl) if ttl <= TTL_MAX => Ok(ttl),
        Some(_) => Err(wrong(
            token,
            "the TTL is larger than 2147483647 (RFC 2181 section 8)",
            "a week is 1w",
        )),
        None => Err(wrong(
            token,
            format!("{:?} is no TTL", String::from_utf8_lossy(word)),
            "a TTL is seconds up to 2147483647, or numbers with the units s, m, h, d, w (1h30m)",
        )),
    }
}

/// Reads the name that a directive takes. It is absolute, as NSD and Knot want it: a missing dot there moves half a zone.
fn name_of(text: &[u8], tokens: &[Token], index: usize, origin: &[u8]) -> Result<Vec<u8>, Wrong> {
    let mut out = Vec::new();
    match Words::new(text, tokens, index, origin).name(&mut out) {
        Ok(()) => {
            let absolute = |word: &[u8]| parse_labels(word).is_ok_and(|(_, absolute)| absolute);
            let token = tokens.get(index).filter(|token| !absolute(token.bytes(text)));
            match token {
                None => Ok(out),
                Some(token) => Err(wrong(token, "the origin is not absolute", "end it with a dot")),
            }
        }
        Err(fault) => Err(at_token(tokens, fault.token, fault.message, "")),
    }
}

/// Something wrong at a token.
fn wrong(token: &Token, message: impl Into<String>, hint: &'static str) -> Wrong {
    Wrong {
        spot: token.spot(),
        message: message.into(),
        hint,
    }
}

/// Something wrong at the token of that index, or at the end of the entry when there is none.
fn at_token(tokens: &[Token], index: usize, message: String, hint: &'static str) -> Wrong {
    let spot = match (tokens.get(index), tokens.last()) {
        (Some(token), _) => token.spot(),
        (None, Some(last)) => Spot {
            offset: last.end + u32::from(last.quoted),
            ..last.spot()
        },
        (None, None) => Spot {
            offset: 0,
            line: 1,
            line_start: 0,
        },
    };
    Wrong { spot, message, hint }
}

/// A spot in the compact form.
fn place(file: u16, spot: Spot, text: &[u8]) -> Place {
    Place {
        file,
        line: spot.line,
        column: u16::try_from(spot.column(text)).unwrap_or(u16::MAX),
    }
}
