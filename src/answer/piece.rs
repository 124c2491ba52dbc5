//! Pieces: RRsets in wire form, with compression pointers that can be moved.
//!
//! A piece is laid for the place where it is most often needed: its owner is the question and it stands
//! right behind it. There it is copied and nothing else. Everywhere else each [`Fix`] says which pointer
//! must lead where: to the owner, to a suffix of the owner, or to an earlier octet of the piece itself.
//!
//! Names in data are compressed only where RFC 3597 §4 allows it (`zone::compressible_names`).

use super::message::{QNAME_AT, RECORD_OCTETS, record_head};
use crate::model::Rtype;
use crate::zone::compressible_names;
use std::collections::HashMap;

/// First code of [`Fix::code`] that means an offset in the piece.
const LOCAL: u16 = 0x1000;
/// Offsets in a piece that pointers may lead to: these stay below 16 KiB wherever the piece is put.
const LOCAL_OFFSETS: usize = 0x1000;

/// One pointer of a piece, and where it must lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fix {
    /// Offset of the pointer in the piece.
    pub(super) at: u16,
    /// 0: the owner; 1 to 255: its suffix of so many octets; from [`LOCAL`] on: an offset in the piece.
    code: u16,
}

/// Where a pointer must lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// To the owner.
    Owner,
    /// To the suffix of the owner's name that has so many octets.
    Suffix(u8),
    /// To an offset in the piece.
    Local(u16),
}

impl Fix {
    /// A pointer at `at` to `target`.
    fn new(at: usize, target: Target) -> Option<Fix> {
        let code = match target {
            Target::Owner => 0,
            Target::Suffix(octets) => u16::from(octets),
            Target::Local(offset) => LOCAL + offset,
        };
        Some(Fix {
            at: u16::try_from(at).ok()?,
            code,
        })
    }

    /// Where it must lead.
    pub(super) fn target(self) -> Target {
        match self.code {
            0 => Target::Owner,
            LOCAL.. => Target::Local(self.code - LOCAL),
            octets => Target::Suffix(octets as u8), // below 256: no other code is made
        }
    }
}

/// A piece in its arena.
#[derive(Debug, Clone, Copy)]
pub(super) struct PieceRef<'a> {
    /// Records in wire form, laid for an owner of `laid_octets` octets.
    pub(super) bytes: &'a [u8],
    /// Its pointers.
    pub(super) fixes: &'a [Fix],
    /// Number of records.
    pub(super) records: u16,
    /// Octets of the owner it was laid for.
    pub(super) laid_octets: u8,
}

/// Where the last name of a record's data stands and how it is written: for chains, which go on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrittenName {
    /// Offset in the piece.
    pub(super) at: u32,
    /// Octets in full.
    pub(super) plain: u8,
}

/// Writes a piece.
pub(super) struct PieceWriter {
    /// Owner in lower case.
    owner: Vec<u8>,
    /// What has been written.
    bytes: Vec<u8>,
    /// Its pointers.
    fixes: Vec<Fix>,
    /// Records written.
    records: u32,
    /// Suffixes (lower case) that later names may point to; made when the first name is written, for most pieces hold none.
    suffixes: Option<HashMap<Vec<u8>, Target>>,
}

/// A finished piece on its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Piece {
    /// See [`PieceRef::bytes`].
    pub(super) bytes: Vec<u8>,
    /// See [`PieceRef::fixes`].
    pub(super) fixes: Vec<Fix>,
    /// See [`PieceRef::records`].
    pub(super) records: u16,
    /// See [`PieceRef::laid_octets`].
    pub(super) laid_octets: u8,
}

impl Piece {
    /// A view of it.
    pub(super) fn view(&self) -> PieceRef<'_> {
        PieceRef {
            bytes: &self.bytes,
            fixes: &self.fixes,
            records: self.records,
            laid_octets: self.laid_octets,
        }
    }
}

impl PieceWriter {
    /// A piece of records that all belong to `owner` (wire form, any case).
    pub(super) fn new(owner: &[u8]) -> PieceWriter {
        PieceWriter {
            owner: owner.to_ascii_lowercase(),
            bytes: Vec::new(),
            fixes: Vec::new(),
            records: 0,
            suffixes: None,
        }
    }

    /// Begins another piece in the same room.
    pub(super) fn restart(&mut self, owner: &[u8]) {
        self.owner.clear();
        self.owner.extend_from_slice(owner);
        self.owner.make_ascii_lowercase();
        self.bytes.clear();
        self.fixes.clear();
        self.records = 0;
        self.suffixes = None;
    }

    /// Octets written so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Records written so far.
    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// Adds a record of the piece's owner; where the last name of its data was written.
    pub(super) fn record(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8]) -> Option<WrittenName> {
        let start = self.bytes.len();
        self.fix(start, Target::Owner);
        self.bytes.extend_from_slice(&record_head(QNAME_AT as u16, rtype.0, ttl, 0));
        self.data(start + RECORD_OCTETS, rtype, rdata)
    }

    /// Adds a record of another owner, whose name was written in this piece before or ends like the owner: glue.
    pub(super) fn record_of(&mut self, owner: &[u8], rtype: Rtype, ttl: u32, rdata: &[u8]) {
        self.name(owner);
        let start = self.bytes.len();
        let [_, _, head @ ..] = record_head(0, rtype.0, ttl, 0);
        self.bytes.extend_from_slice(&head);
        self.data(start + RECORD_OCTETS - 2, rtype, rdata);
    }

    /// Writes the data of a record, then its length into the two octets before it.
    fn data(&mut self, data_at: usize, rtype: Rtype, rdata: &[u8]) -> Option<WrittenName> {
        let mut copied = 0;
        let mut last = None;
        for range in compressible_names(rtype, rdata) {
            self.bytes.extend_from_slice(rdata.get(copied..range.start).unwrap_or(&[]));
            last = Some(self.name(rdata.get(range.clone()).unwrap_or(&[0])));
            copied = range.end;
        }
        self.bytes.extend_from_slice(rdata.get(copied..).unwrap_or(&[]));
        let octets = (self.bytes.len() - data_at) as u16; // compression only shortens what fitted before
        if let Some(length) = self.bytes.get_mut(data_at - 2..data_at) {
            length.copy_from_slice(&octets.to_be_bytes());
        }
        self.records += 1;
        last
    }

    /// Writes a name, compressed as far as what is known allows; the root is shorter than a pointer.
    fn name(&mut self, name: &[u8]) -> WrittenName {
        let at = self.bytes.len();
        let lower = name.to_ascii_lowercase();
        let suffixes = self.suffixes.get_or_insert_with(|| owner_suffixes(&self.owner));
        let known = suffixes_of(&lower).find_map(|suffix| Some((suffix.len(), *suffixes.get(suffix)?)));
        let plain = name.len() - known.map_or(0, |(octets, _)| octets);
        for suffix in suffixes_of(&lower) {
            let offset = at + lower.len() - suffix.len();
            if offset >= LOCAL_OFFSETS || lower.len() - suffix.len() >= plain {
                break;
            }
            suffixes.entry(suffix.to_vec()).or_insert(Target::Local(offset as u16));
        }
        self.bytes.extend_from_slice(name.get(..plain).unwrap_or(&[]));
        if let Some((_, target)) = known {
            self.fix(at + plain, target);
            self.bytes.extend_from_slice(&[0xc0, 0]);
        }
        WrittenName {
            at: at as u32,
            plain: plain as u8,
        }
    }

    /// Remembers a pointer. Beyond 64 KiB it is lost, and so is the piece: it fits into no message.
    fn fix(&mut self, at: usize, target: Target) {
        self.fixes.extend(Fix::new(at, target));
    }

    /// Lays the pointers for the commonest place and ends the piece.
    pub(super) fn finish(mut self) -> Piece {
        self.lay();
        Piece {
            records: self.records_laid(),
            laid_octets: self.owner.len() as u8,
            bytes: self.bytes,
            fixes: self.fixes,
        }
    }

    /// The piece as it stands, its pointers laid for the commonest place.
    pub(super) fn laid(&mut self) -> PieceRef<'_> {
        self.lay();
        PieceRef {
            records: self.records_laid(),
            laid_octets: self.owner.len() as u8,
            bytes: &self.bytes,
            fixes: &self.fixes,
        }
    }

    /// Its records as a piece counts them. More than 65535 fit into no message.
    fn records_laid(&self) -> u16 {
        u16::try_from(self.records).unwrap_or(u16::MAX)
    }

    /// Lays the pointers for the commonest place.
    fn lay(&mut self) {
        let owner_octets = self.owner.len();
        let start = QNAME_AT + owner_octets + 4;
        for fix in &self.fixes {
            let target = match fix.target() {
                Target::Owner => QNAME_AT,
                Target::Suffix(octets) => QNAME_AT + owner_octets - usize::from(octets),
                Target::Local(offset) => start + usize::from(offset),
            };
            let at = usize::from(fix.at);
            if let Some(pointer) = self.bytes.get_mut(at..at + 2) {
                pointer.copy_from_slice(&(0xc000 | target as u16).to_be_bytes());
            }
        }
    }
}

/// The suffixes of the owner's name, as targets of later names. A wildcard's records are answered for other names, so its
/// own name is no target of pointers in data.
fn owner_suffixes(owner: &[u8]) -> HashMap<Vec<u8>, Target> {
    let above_wildcard = usize::from(owner.starts_with(b"\x01*"));
    suffixes_of(owner)
        .skip(above_wildcard)
        .map(|suffix| (suffix.to_vec(), Target::Suffix(suffix.len() as u8)))
        .collect()
}

/// The suffixes of a wire name from the whole to the last label, without the root.
fn suffixes_of(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |suffix| {
        let len = usize::from(*suffix.first()?);
        suffix.get(1 + len..)
    })
    .take_while(|suffix| suffix.len() > 1)
}
