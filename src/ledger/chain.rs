//! Verification of lines in order: the chain, and a scanner that cuts a stream of octets into lines.

use super::encode::{LineError, decode, skim};
use super::{Entry, Hash, LINE_OCTETS_MAX, Receipt};
use crate::model::Seq;

/// Takes lines one by one and checks that each follows the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The last entry taken.
    head: Receipt,
    /// Octets taken so far: where the next line begins.
    offset: u64,
}

impl Chain {
    /// Before the first entry.
    pub fn new() -> Chain {
        Chain::resume(Receipt::GENESIS, 0)
    }

    /// After an entry that was verified before; `offset` is where the next line begins.
    pub fn resume(head: Receipt, offset: u64) -> Chain {
        Chain { head, offset }
    }

    /// The last entry taken.
    pub fn head(&self) -> Receipt {
        self.head
    }

    /// Where the next line begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next line, line feed included. After an error the chain stands where it stood.
    ///
    /// # Errors
    /// When the line is no entry or not the next one.
    pub fn next(&mut self, line: &[u8]) -> Result<Entry, Corruption> {
        let entry = decode(line).map_err(|error| self.corruption(Fault::Line(error)))?;
        self.step(line, entry.receipt(), entry.prev)?;
        Ok(entry)
    }

    /// Takes a line that this program has just written, on its way to the disk: checks its hash, number and place without
    /// reading its JSON again. For lines from elsewhere use [`Chain::next`].
    ///
    /// # Errors
    /// When the line does not continue the chain; the chain stands where it stood.
    pub fn follow(&mut self, line: &[u8]) -> Result<(), Corruption> {
        let (seq, prev, hash) = skim(line).map_err(|error| self.corruption(Fault::Line(error)))?;
        self.step(line, Receipt { seq, hash }, prev)
    }

    /// Makes a line the head when it is the next one.
    fn step(&mut self, line: &[u8], entry: Receipt, prev: Hash) -> Result<(), Corruption> {
        if entry.seq.0 != self.head.seq.0.saturating_add(1) {
            return Err(self.corruption(Fault::Seq { found: entry.seq }));
        }
        if prev != self.head.hash {
            return Err(self.corruption(Fault::Prev {
                found: prev,
                expected: self.head.hash,
            }));
        }
        self.head = entry;
        self.offset += line.len() as u64;
        Ok(())
    }

    /// A fault at the line that comes next.
    fn corruption(&self, what: Fault) -> Corruption {
        let seq = Seq(self.head.seq.0.saturating_add(1));
        Corruption {
            seq,
            offset: self.offset,
            line: seq.0,
            what,
        }
    }
}

impl Default for Chain {
    fn default() -> Chain {
        Chain::new()
    }
}

/// Verifies a stream of octets that arrives in pieces, in memory of one line.
#[derive(Debug, Clone, Default)]
pub struct Scanner {
    /// The lines so far.
    chain: Chain,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Scanner {
    /// At the beginning of a ledger.
    pub fn new() -> Scanner {
        Scanner::default()
    }

    /// After an entry that was verified before.
    pub fn resume(chain: Chain) -> Scanner {
        Scanner {
            chain,
            partial: Vec::new(),
        }
    }

    /// Takes the next octets; `sink` gets each entry with the offset of its line.
    ///
    /// # Errors
    /// At the first line that does not verify; nothing may be fed after that.
    pub fn feed(&mut self, mut octets: &[u8], sink: &mut dyn FnMut(Entry, u64)) -> Result<(), Corruption> {
        while let Some(end) = octets.iter().position(|&octet| octet == b'\n') {
            let (line, rest) = octets.split_at(end + 1);
            let offset = self.chain.offset;
            let entry = if self.partial.is_empty() {
                self.chain.next(line)?
            } else {
                self.partial.extend_from_slice(line);
                let entry = self.chain.next(&self.partial)?;
                self.partial.clear();
                entry
            };
            sink(entry, offset);
            octets = rest;
        }
        self.partial.extend_from_slice(octets);
        if self.partial.len() > LINE_OCTETS_MAX {
            return Err(self.chain.corruption(Fault::Line(LineError::TooLong)));
        }
        Ok(())
    }

    /// The lines so far.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// At the end: the chain, and the torn tail, empty when the last line is complete.
    ///
    /// # Errors
    /// When the tail cannot be the beginning of a line because a whole entry stands in it: its line feed was changed.
    pub fn finish(self) -> Result<Scan, Corruption> {
        let Scanner { chain, mut partial } = self;
        let last = partial.pop();
        if let Some(last) = last {
            partial.push(b'\n');
            if decode(&partial).is_ok() {
                return Err(chain.corruption(Fault::NoLineFeed { found: last }));
            }
            partial.pop();
            partial.push(last);
        }
        Ok(Scan { chain, torn: partial })
    }
}

/// The result of a whole scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// All complete lines, verified.
    pub chain: Chain,
    /// The incomplete last line: a write that was never acknowledged. Empty when there is none.
    pub torn: Vec<u8>,
}

impl Scan {
    /// Checks a receipt against the ledger; `at` is the hash that the entry of the receipt has in it.
    ///
    /// # Errors
    /// When the entry is missing or another one stands in its place.
    pub fn check(&self, receipt: Receipt, at: Option<Hash>) -> Result<(), ReceiptError> {
        match at {
            _ if receipt == Receipt::GENESIS => Ok(()),
            Some(hash) if hash == receipt.hash => Ok(()),
            Some(found) => Err(ReceiptError::Other { receipt, found }),
            None => Err(ReceiptError::Missing {
                receipt,
                last: self.chain.head.seq,
            }),
        }
    }
}

/// Verifies a whole ledger that lies in memory.
///
/// # Errors
/// At the first line that does not verify.
pub fn scan(octets: &[u8], mut sink: impl FnMut(Entry)) -> Result<Scan, Corruption> {
    let mut scanner = Scanner::new();
    scanner.feed(octets, &mut |entry, _offset| sink(entry))?;
    scanner.finish()
}

/// A place where the ledger was altered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} (line {line}, octet {offset}) is corrupt: {what}")]
pub struct Corruption {
    /// The entry that should stand there.
    pub seq: Seq,
    /// Where its line begins, octets from 0.
    pub offset: u64,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong.
    pub what: Fault,
}

/// What is wrong with a line where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// By itself.
    #[error("{0}")]
    Line(LineError),
    /// It is another entry: lines were removed, repeated or reordered.
    #[error("entry {found} stands in its place: lines were removed, repeated or reordered")]
    Seq {
        /// The entry that stands there.
        found: Seq,
    },
    /// It does not follow the entry before it.
    #[error("it follows an entry with the hash {found}, but the one before it has {expected}: it, or what comes before, was replaced")]
    Prev {
        /// What it says.
        found: Hash,
        /// What the entry before has.
        expected: Hash,
    },
    /// A whole entry is there, with another octet where its line feed was.
    #[error("octet {found:#04x} stands where its line feed was")]
    NoLineFeed {
        /// What stands there.
        found: u8,
    },
}

/// A receipt that the ledger does not honour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The ledger ends before it.
    #[error("entry {} was acknowledged with the hash {}, but the ledger ends at entry {last}: its tail is missing", receipt.seq, receipt.hash)]
    Missing {
        /// The receipt.
        receipt: Receipt,
        /// The last entry there is.
        last: Seq,
    },
    /// The entry has another hash.
    #[error("entry {} was acknowledged with the hash {}, but has {found}: the ledger was rewritten", receipt.seq, receipt.hash)]
    Other {
        /// The receipt.
        receipt: Receipt,
        /// What the entry has.
        found: Hash,
    },
}
