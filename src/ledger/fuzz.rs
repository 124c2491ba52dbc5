//! The fuzz body of ledger lines: a plain function, reached by a fuzzer and by a seeded smoke test.

use super::{decode, scan};

/// Feeds arbitrary octets to the reader.
///
/// # Panics
/// When a line is taken that is not its own re-encoding, or a scan in pieces differs from one in a whole.
#[doc(hidden)]
pub fn fuzz_line(octets: &[u8]) {
    if let Ok(entry) = decode(octets) {
        assert_eq!(entry.line().as_deref(), Ok(octets), "a line that was taken re-encodes to itself");
    }
    let mut count = 0u64;
    let whole = scan(octets, |entry| {
        count += 1;
        assert_eq!(entry.seq.0, count, "entries count from 1 without gaps");
    });
    let mut scanner = super::Scanner::new();
    let pieces = octets
        .chunks(7)
        .try_for_each(|piece| scanner.feed(piece, &mut |_, _| {}))
        .and_then(|()| scanner.finish());
    assert_eq!(whole, pieces, "a scan in pieces finds what a scan in a whole finds");
}
