//! One entry to one line and back (the format is on the module's page).
//!
//! [`decode`] trusts nothing: it checks the hash over the octets as they stand, reads them, writes what it
//! read again and compares. Hence a line that it takes has exactly the meaning that it shows.

use super::{Entry, Hash, LINE_OCTETS_MAX, VERSION};
use crate::model::{Actor, Body, Draft, Seq, Wall};
use serde::{Deserialize, Serialize};

/// What stands between the octets covered and the hash.
const HASH_OPEN: &[u8] = b",\"hash\":\"";
/// What stands after the hash.
const HASH_CLOSE: &[u8] = b"\"}\n";
/// Octets of the end of a line that the hash does not cover.
const TAIL_OCTETS: usize = HASH_OPEN.len() + 64 + HASH_CLOSE.len();
/// How every line begins, whatever its version.
const VERSION_OPEN: &[u8] = b"{\"v\":";
/// How a line of this version begins, before its number.
const SEQ_OPEN: &[u8] = b"{\"v\":1,\"seq\":";
/// What stands before the hash of the entry before.
const PREV_OPEN: &[u8] = b",\"prev\":\"";

/// The members of a line in their order, borrowed for writing.
#[derive(Serialize)]
pub(super) struct Members<'a> {
    /// Version of the encoding.
    v: u64,
    /// Number of the entry.
    seq: Seq,
    /// When.
    time: Wall,
    /// Who.
    actor: &'a Actor,
    /// Why.
    reason: &'a str,
    /// The client's id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    /// What.
    body: &'a Body,
    /// Hash of the entry before.
    prev: Hash,
    /// Hash of this one; absent while it is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
}

impl<'a> Members<'a> {
    /// The members of an entry.
    pub(super) fn of(seq: Seq, time: Wall, draft: &'a Draft, prev: Hash, hash: Option<Hash>) -> Members<'a> {
        Members {
            v: VERSION,
            seq,
            time,
            actor: &draft.actor,
            reason: &draft.reason,
            request_id: draft.request_id.as_deref(),
            body: &draft.body,
            prev,
            hash,
        }
    }
}

/// The members of a line, owned, as read. Unknown members are passed over here and found by the comparison.
#[derive(Deserialize)]
struct MembersRead {
    /// Number of the entry.
    seq: Seq,
    /// When.
    time: Wall,
    /// Who.
    actor: Actor,
    /// Why.
    reason: String,
    /// The client's id of the request.
    #[serde(default)]
    request_id: Option<String>,
    /// What.
    body: Body,
    /// Hash of the entry before.
    prev: Hash,
}

/// Writes an entry as its line, line feed included, and gives its hash.
///
/// # Errors
/// When the line would be longer than [`LINE_OCTETS_MAX`].
pub fn encode(seq: Seq, time: Wall, draft: &Draft, prev: Hash) -> Result<(Vec<u8>, Hash), EncodeError> {
    let mut line = covered(seq, time, draft, prev)?;
    let hash = Hash::of(&line);
    line.extend_from_slice(HASH_OPEN);
    line.extend_from_slice(hash.to_string().as_bytes());
    line.extend_from_slice(HASH_CLOSE);
    if line.len() > LINE_OCTETS_MAX {
        return Err(EncodeError::TooLong(line.len()));
    }
    Ok((line, hash))
}

/// The octets of a line that its hash covers.
fn covered(seq: Seq, time: Wall, draft: &Draft, prev: Hash) -> Result<Vec<u8>, EncodeError> {
    let mut octets =
        serde_json::to_vec(&Members::of(seq, time, draft, prev, None)).map_err(|error| EncodeError::Json(error.to_string()))?;
    // The closing brace comes after the hash.
    octets.pop();
    Ok(octets)
}

/// Reads one line, line feed included, and checks everything that can be checked without its neighbours.
///
/// # Errors
/// See [`LineError`].
pub fn decode(line: &[u8]) -> Result<Entry, LineError> {
    if line.len() > LINE_OCTETS_MAX {
        return Err(LineError::TooLong);
    }
    if let Some(version) = version(line).filter(|&version| version != VERSION) {
        return Err(LineError::Version(version));
    }
    let (covered_octets, written) = split(line).ok_or(LineError::NoHash)?;
    let computed = Hash::of(covered_octets);
    if computed != written {
        return Err(LineError::Hash { computed, written });
    }
    let read: MembersRead = serde_json::from_slice(line).map_err(|error| LineError::Json(error.to_string()))?;
    let draft = Draft {
        actor: read.actor,
        reason: read.reason,
        request_id: read.request_id,
        body: read.body,
    };
    let again = covered(read.seq, read.time, &draft, read.prev).map_err(|error| LineError::Json(error.to_string()))?;
    if again != covered_octets {
        let same = again.iter().zip(covered_octets).take_while(|(a, b)| a == b).count();
        return Err(LineError::NotCanonical { at: same });
    }
    Ok(Entry {
        seq: read.seq,
        time: read.time,
        draft,
        prev: read.prev,
        hash: written,
    })
}

/// The version that a line says it has; none when it does not even begin as a line does.
fn version(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(VERSION_OPEN)?;
    let digits = rest.split(|&octet| octet == b',').next()?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Number, hash before and hash of a line that this program has just written: its hash is checked, its JSON not read, so
/// that the check before a write costs little even for an `evacuate` of every name.
///
/// # Errors
/// As [`decode`], as far as that can be seen without reading the JSON.
pub(super) fn skim(line: &[u8]) -> Result<(Seq, Hash, Hash), LineError> {
    let (covered_octets, written) = split(line).ok_or(LineError::NoHash)?;
    let computed = Hash::of(covered_octets);
    if computed != written {
        return Err(LineError::Hash { computed, written });
    }
    let seq = || {
        let rest = covered_octets.strip_prefix(SEQ_OPEN)?;
        let digits = rest.split(|&octet| octet == b',').next()?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    let prev = || {
        let (_, end) = covered_octets.split_at_checked(covered_octets.len().checked_sub(PREV_OPEN.len() + 65)?)?;
        let hash = end.strip_prefix(PREV_OPEN)?.strip_suffix(b"\"")?;
        std::str::from_utf8(hash).ok()?.parse().ok()
    };
    let broken = || LineError::Json("no number or no hash of the entry before stands where it should".to_owned());
    Ok((Seq(seq().ok_or_else(broken)?), prev().ok_or_else(broken)?, written))
}

/// Splits a line into the octets covered and the hash written.
fn split(line: &[u8]) -> Option<(&[u8], Hash)> {
    let (covered, tail) = line.split_at_checked(line.len().checked_sub(TAIL_OCTETS)?)?;
    let hash = tail.strip_prefix(HASH_OPEN)?.strip_suffix(HASH_CLOSE)?;
    let is_canonical = hash.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let hash = std::str::from_utf8(hash).ok()?.parse().ok()?;
    is_canonical.then_some((covered, hash))
}

/// Why a draft cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Longer than [`LINE_OCTETS_MAX`].
    #[error("the entry would take {0} octets; at most {LINE_OCTETS_MAX} are allowed")]
    TooLong(usize),
    /// No number is left.
    #[error("the ledger has no number left for another entry")]
    Full,
    /// The JSON writer refused. None of our types makes it do so.
    #[error("the entry cannot be written as JSON: {0}")]
    Json(String),
}

/// What is wrong with a line by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`LINE_OCTETS_MAX`].
    #[error("the line is longer than {LINE_OCTETS_MAX} octets")]
    TooLong,
    /// Another version of the encoding.
    #[error("the line says that it has version {0} of the encoding; this program reads version {VERSION}")]
    Version(u64),
    /// The end of the line is not that of an entry.
    #[error("the line does not end with the hash of an entry")]
    NoHash,
    /// The octets were changed after they were written.
    #[error("the line was changed: its octets have the hash {computed}, but it says {written}")]
    Hash {
        /// Hash of the octets as they stand.
        computed: Hash,
        /// Hash as it stands in the line.
        written: Hash,
    },
    /// Not the JSON of an entry, though its hash is right.
    #[error("the line is no entry: {0}")]
    Json(String),
    /// Means an entry but is not written as this program writes it.
    #[error("the line is not written as an entry is: it differs from its own re-encoding at octet {at}")]
    NotCanonical {
        /// First octet that differs, from 0.
        at: usize,
    },
}
