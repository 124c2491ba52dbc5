//! The ledger's encoding v1: bytes in, bytes out. Hash chain, replay, verification.
//!
//! One entry is one line of JSON, its members in this order and without any space:
//!
//! ```text
//! {"v":1,"seq":N,"time":"RFC 3339","actor":{…},"reason":"…"[,"request_id":"…"],"body":{"kind":…},"prev":"HEX","hash":"HEX"}\n
//! ```
//!
//! `hash` is SHA-256 over the octets of the line *as written*, from the opening brace up to, and without,
//! the comma before `"hash"`. `prev` is the hash of the entry before, 64 zeros ([`Hash::GENESIS`]) for
//! entry 1. Since `prev` is among the octets covered, the hash of an entry commits to all before it, and
//! a [`Receipt`] (`SEQ:HASH`) is enough to find any later change, removal, insertion or reordering.
//!
//! Invariants
//! - A line that is not byte-equal to its own re-encoding is corrupt: unknown members, spaces, other
//!   escapes, another order. So one entry has exactly one encoding, and nothing hides in a line.
//! - Entries count from 1 without gaps; the n-th line is entry n.
//! - Only an incomplete last line (no line feed) can be a torn write. A complete line that does not
//!   verify is corruption, the last one too, and names the entry.
//! - `v` comes first, so that a reader can tell a newer encoding (signatures, Merkle roots) from a
//!   broken line before it understands anything else of it.
//!
//! Deliberately absent: files, locks, clocks (see `store`), and any meaning of the bodies (see `role`).

mod chain;
mod encode;
mod fuzz;
#[cfg(test)]
mod tests;

pub use chain::{Chain, Corruption, Fault, ReceiptError, Scan, Scanner, scan};
pub use encode::{EncodeError, LineError, decode, encode};
pub use fuzz::fuzz_line;

use crate::model::{Draft, Seq, Wall};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Version of the encoding that is written.
pub const VERSION: u64 = 1;
/// Most octets of a line, its line feed included. An `evacuate` of 100,000 names takes some 15 MiB.
pub const LINE_OCTETS_MAX: usize = 64 << 20;

/// A SHA-256 hash: of an entry, or of the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first entry has before it.
    pub const GENESIS: Hash = Hash([0; 32]);

    /// The hash of these octets.
    pub fn of(octets: &[u8]) -> Hash {
        let mut hash = [0; 32];
        // A SHA-256 digest has 32 octets; zip copies exactly those.
        for (to, from) in hash.iter_mut().zip(ring::digest::digest(&ring::digest::SHA256, octets).as_ref()) {
            *to = *from;
        }
        Hash(hash)
    }

    /// The 32 octets.
    pub fn octets(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    /// 64 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Hash {
    type Err = HashError;

    /// Reads 64 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Hash, HashError> {
        let mut hash = [0; 32];
        if text.len() != 64 {
            return Err(HashError);
        }
        for (octet, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            for &digit in pair {
                let digit = char::from(digit).to_digit(16).ok_or(HashError)?;
                *octet = *octet << 4 | u8::try_from(digit).map_err(|_| HashError)?;
            }
        }
        Ok(Hash(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Text that is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct HashError;

/// What proves that an entry was acknowledged: kept elsewhere, it finds a missing tail. Also the head of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The entry; 0 for "none yet".
    pub seq: Seq,
    /// Its hash; [`Hash::GENESIS`] for "none yet".
    pub hash: Hash,
}

impl Receipt {
    /// The head of an empty ledger.
    pub const GENESIS: Receipt = Receipt {
        seq: Seq(0),
        hash: Hash::GENESIS,
    };
}

impl fmt::Display for Receipt {
    /// `SEQ:HASH`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Receipt {
    type Err = String;

    /// Reads `SEQ:HASH`.
    fn from_str(text: &str) -> Result<Receipt, String> {
        let (seq, hash) = text.split_once(':').ok_or("a receipt is written SEQ:HASH")?;
        let seq: u64 = seq.parse().map_err(|_| format!("{seq:?} is no number of an entry"))?;
        let hash = hash.parse().map_err(|error: HashError| error.to_string())?;
        Ok(Receipt { seq: Seq(seq), hash })
    }
}

/// One recorded change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 without gaps.
    pub seq: Seq,
    /// When it was recorded, by the wall clock of the node; order is `seq`, never this.
    pub time: Wall,
    /// Who, why and what.
    pub draft: Draft,
    /// Hash of the entry before.
    pub prev: Hash,
    /// Hash of this entry.
    pub hash: Hash,
}

impl Entry {
    /// Seals a draft as the entry after `head`; returns it with its line.
    ///
    /// # Errors
    /// When the line would be longer than [`LINE_OCTETS_MAX`].
    pub fn seal(head: Receipt, time: Wall, draft: Draft) -> Result<(Entry, Vec<u8>), EncodeError> {
        let seq = Seq(head.seq.0.checked_add(1).ok_or(EncodeError::Full)?);
        let (line, hash) = encode(seq, time, &draft, head.hash)?;
        let entry = Entry {
            seq,
            time,
            draft,
            prev: head.hash,
            hash,
        };
        Ok((entry, line))
    }

    /// The line as it stands in the ledger, line feed included: an entry has exactly one.
    ///
    /// # Errors
    /// Never for an entry that was sealed or decoded; see [`encode()`].
    pub fn line(&self) -> Result<Vec<u8>, EncodeError> {
        encode(self.seq, self.time, &self.draft, self.prev).map(|(line, _)| line)
    }

    /// What proves this entry later.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            seq: self.seq,
            hash: self.hash,
        }
    }
}

impl Serialize for Entry {
    /// The members of the line, `hash` included: what the API shows.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        encode::Members::of(self.seq, self.time, &self.draft, self.prev, Some(self.hash)).serialize(serializer)
    }
}
