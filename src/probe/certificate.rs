//! What a server's certificate says about how long it is good for.
//!
//! Read only after the certificate was verified, so a form that is not understood is no failure: there is then nothing to
//! tell. Only the way to `notAfter` is walked (RFC 5280 section 4.1); everything else of a certificate is rustls' business.

use jiff::civil::DateTime;
use rustls_pki_types::CertificateDer;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// What is kept of the certificates that a server showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    /// The last second in which the server's own certificate is valid, since 1970; none where it could not be read.
    not_after: Option<i64>,
    /// How many certificates it showed, its own included.
    pub chain: usize,
}

impl Shown {
    /// Of a chain, the server's own certificate first.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Shown> {
        Some(Shown {
            not_after: not_after(chain.first()?),
            chain: chain.len(),
        })
    }

    /// Whole days that are left now.
    pub fn days_left(&self) -> Option<i64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some((self.not_after? - i64::try_from(now).ok()?).div_euclid(DAY))
    }
}

/// The last second in which a certificate is valid, since 1970.
fn not_after(der: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let inside = |octets| {
        element(octets)
            .filter(|(tag, _, _)| *tag == SEQUENCE)
            .map(|(_, value, rest)| (value, rest))
    };
    let (certificate, _) = inside(der)?;
    let (mut fields, _) = inside(certificate)?;
    // The version is absent in certificates of version 1.
    if let (VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    // Serial number, algorithm of the signature, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (validity, _) = inside(fields)?;
    let (_, _, rest) = element(validity)?;
    let (tag, written, _) = element(rest)?;
    seconds(tag, written)
}

/// The first element of DER: its tag, its value, and what follows.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = octets.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // The long form: this many octets of length follow (X.690 section 8.1.3.5).
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

/// A time of a certificate (RFC 5280 section 4.1.2.5) in seconds since 1970.
fn seconds(tag: u8, written: &[u8]) -> Option<i64> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(written).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        // Two digits: 50 and more are of the last century.
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |from: usize| rest.get(from..from + 2)?.parse::<i8>().ok();
    let written = DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    Some(written.duration_since(DateTime::new(1970, 1, 1, 0, 0, 0, 0).ok()?).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn made(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["shop.example.net".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_validity_is_read_in_both_forms() {
        // 2049 is written with two digits of the year, 2050 with four.
        for (year, month, day, seconds) in [
            (1999, 12, 31, 946_598_400),
            (2020, 2, 29, 1_582_934_400),
            (2049, 12, 31, 2_524_521_600),
            (2050, 1, 1, 2_524_608_000),
            (9999, 12, 31, 253_402_214_400),
        ] {
            assert_eq!(not_after(&made(year, month, day)), Some(seconds), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn days_left_are_whole_and_below_zero_once_it_is_over() {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        for (left, days) in [(10 * DAY + 60, 10), (60, 0), (-60, -1), (-3 * DAY - 60, -4)] {
            let not_after = Some(now + left);
            assert_eq!(Shown { not_after, chain: 1 }.days_left(), Some(days));
        }
    }

    #[test]
    fn what_is_cut_short_or_changed_anywhere_is_nothing_or_a_time_but_no_panic() {
        let whole = made(2030, 6, 1);
        for end in 0..whole.len() {
            let _ = not_after(&whole[..end]);
            for wrong in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[end] = wrong;
                let _ = not_after(&changed);
            }
        }
        assert_eq!(not_after(&whole[..40]), None);
    }
}
