//! A message whose octets come in any order, as those of a QUIC stream do (RFC 9000 §2.2).
//!
//! The transport keeps what lies behind a gap in the packets that brought it: one octet would hold a packet of a thousand for as long as the
//! client likes. So pieces are taken as they come and copied, and each that waits for others is counted with what is kept to know of it.

use super::lane::QUERY_OCTETS_MAX;
use std::collections::BTreeMap;

/// Octets that are kept of a message and its length: as over TCP, no more than any sound query has.
const OCTETS_MAX: usize = 2 + QUERY_OCTETS_MAX;
/// What a piece that waits costs beside its octets, here and in the transport, which remembers where the gaps are.
const PIECE_OCTETS: usize = 128;

/// A length and a message, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The beginning, no more than [`OCTETS_MAX`] of it.
    octets: Vec<u8>,
    /// Octets from the beginning to the first gap.
    end: u64,
    /// What lies behind gaps: from where on, how many octets, and those of them that are kept.
    behind: BTreeMap<u64, (u64, Vec<u8>)>,
    /// Octets of those that are kept.
    behind_octets: usize,
    /// Octets that have come, kept or not.
    all: u64,
}

impl Pieces {
    /// Takes a piece that begins at an offset. No octet comes twice.
    pub(super) fn add(&mut self, offset: u64, piece: &[u8]) {
        let len = piece.len() as u64;
        let room = usize::try_from(offset).map_or(0, |offset| OCTETS_MAX.saturating_sub(offset));
        let kept = piece.get(..room).unwrap_or(piece);
        self.all += len;
        if offset != self.end {
            self.behind_octets += kept.len();
            self.behind.insert(offset, (len, kept.to_vec()));
            return;
        }
        self.octets.extend_from_slice(kept);
        self.end += len;
        while let Some((len, kept)) = self.behind.remove(&self.end) {
            self.behind_octets -= kept.len();
            self.octets.extend_from_slice(&kept);
            self.end += len;
        }
    }

    /// What all this takes.
    pub(super) fn octets_kept(&self) -> usize {
        self.octets.len() + self.behind_octets + self.behind.len() * PIECE_OCTETS
    }

    /// Whether more has come than the length at the beginning says, if that can be said yet.
    pub(super) fn is_too_much(&self) -> bool {
        self.declared().is_some_and(|declared| self.all > declared)
    }

    /// The message, its length left off, when all of it has come and nothing else; of a longer one than any sound query only the beginning.
    pub(super) fn message(mut self) -> Option<Vec<u8>> {
        if self.end != self.all || self.declared() != Some(self.all) {
            return None;
        }
        self.octets.drain(..2);
        Some(self.octets)
    }

    /// How many octets a stream with this beginning has.
    fn declared(&self) -> Option<u64> {
        Some(2 + u64::from(u16::from_be_bytes(*self.octets.first_chunk()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message of so many octets behind its length.
    fn framed(octets: usize) -> Vec<u8> {
        let mut framed = (octets as u16).to_be_bytes().to_vec();
        framed.extend((0..octets).map(|n| (n % 251) as u8));
        framed
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_are_the_message(
            octets in prop_oneof![0..40_usize, 0..9_000_usize],
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            order in prop::collection::vec(any::<u32>(), 41),
        ) {
            let framed = framed(octets);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(framed.len())).chain([0, framed.len()]).collect();
            cuts.sort_unstable();
            cuts.dedup();
            let mut parts: Vec<(usize, &[u8])> = cuts.windows(2).map(|cut| (cut[0], &framed[cut[0]..cut[1]])).collect();
            let mut keys = order.iter();
            parts.sort_by_cached_key(|_| keys.next().copied());
            let mut pieces = Pieces::default();
            for (offset, part) in parts {
                prop_assert!(!pieces.is_too_much());
                pieces.add(offset as u64, part);
                prop_assert!(pieces.octets_kept() <= OCTETS_MAX + 41 * PIECE_OCTETS);
            }
            prop_assert!(pieces.behind.is_empty() && pieces.behind_octets == 0);
            let whole = pieces.message();
            prop_assert_eq!(whole.as_deref(), Some(&framed[2..framed.len().min(OCTETS_MAX)]));
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_no_message() {
        let framed = framed(20);
        let of = |parts: &[(usize, usize)]| {
            let mut pieces = Pieces::default();
            parts
                .iter()
                .for_each(|(start, end)| pieces.add(*start as u64, &framed[*start..*end]));
            pieces
        };
        for parts in [&[][..], &[(0, 1)], &[(0, 21)], &[(2, 22)], &[(0, 9), (10, 22)]] {
            let pieces = of(parts);
            assert!(!pieces.is_too_much(), "{parts:?}");
            assert_eq!(pieces.message(), None, "{parts:?}");
        }
        let mut pieces = of(&[(0, 22)]);
        pieces.add(22, b"x");
        assert!(pieces.is_too_much() && pieces.message().is_none());
        // Also where it cannot be read on yet.
        let mut pieces = of(&[(0, 2)]);
        pieces.add(10, &[0; 21]);
        assert!(pieces.is_too_much());
    }

    #[test]
    fn each_piece_that_waits_is_counted_wherever_it_lies() {
        let mut pieces = Pieces::default();
        for number in 1..=4_000 {
            pieces.add(number * 2, b"x");
        }
        assert!(pieces.octets_kept() >= 4_000 * PIECE_OCTETS);
        for number in 0..=4_000 {
            pieces.add(number * 2 + 1, b"y");
        }
        pieces.add(0, b"z");
        assert_eq!(pieces.octets_kept(), OCTETS_MAX, "nothing waits any more");
    }
}
