//! DNS numbers with their mnemonics: types, classes, response codes, TTL bounds.
//!
//! Only what several modules share. The table that says how each type's data is written stands in `zone`.

use std::fmt;

/// Largest TTL, seconds (RFC 2181 §8).
pub const TTL_MAX: u32 = 0x7fff_ffff;
/// Class IN (RFC 1035 §3.2.4), the only one served.
pub const CLASS_IN: u16 = 1;

/// A resource record type (RFC 1035 §3.2.2 and the IANA registry).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtype(pub u16);

/// Declares mnemonics and the tables between them and their numbers.
macro_rules! rtypes {
    ($($name:ident = $number:literal,)*) => {
        impl Rtype {
            $(#[doc = concat!("Type ", stringify!($name), ", ", $number, ".")] pub const $name: Rtype = Rtype($number);)*

            /// The mnemonic of a known type.
            pub fn mnemonic(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// Reads a mnemonic in any case, or `TYPE123` (RFC 3597 §5).
            pub fn parse(text: &str) -> Option<Rtype> {
                let upper = text.to_ascii_uppercase();
                match upper.as_str() {
                    $(stringify!($name) => return Some(Rtype($number)),)*
                    _ => {}
                }
                let digits = upper.strip_prefix("TYPE")?;
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                digits.parse().ok().map(Rtype)
            }
        }
    };
}

rtypes! {
    A = 1, NS = 2, MD = 3, MF = 4, CNAME = 5, SOA = 6, MB = 7, MG = 8, MR = 9, NULL = 10, WKS = 11,
    PTR = 12, HINFO = 13, MINFO = 14, MX = 15, TXT = 16, RP = 17, AFSDB = 18, X25 = 19, ISDN = 20,
    RT = 21, NSAP = 22, SIG = 24, KEY = 25, PX = 26, AAAA = 28, LOC = 29, NXT = 30, SRV = 33,
    NAPTR = 35, KX = 36, CERT = 37, A6 = 38, DNAME = 39, OPT = 41, APL = 42, DS = 43, SSHFP = 44,
    IPSECKEY = 45, RRSIG = 46, NSEC = 47, DNSKEY = 48, DHCID = 49, NSEC3 = 50, NSEC3PARAM = 51,
    TLSA = 52, SMIMEA = 53, HIP = 55, CDS = 59, CDNSKEY = 60, OPENPGPKEY = 61, CSYNC = 62, ZONEMD = 63,
    SVCB = 64, HTTPS = 65, SPF = 99, NID = 104, L32 = 105, L64 = 106, LP = 107, EUI48 = 108,
    EUI64 = 109, TKEY = 249, TSIG = 250, IXFR = 251, AXFR = 252, MAILB = 253, MAILA = 254, ANY = 255,
    URI = 256, CAA = 257, AVC = 258, DLV = 32769,
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(text) => f.pad(text),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Response codes (RFC 1035 §4.1.1, RFC 6891 §9).
pub mod rcode {
    /// No error.
    pub const NOERROR: u8 = 0;
    /// The query could not be read.
    pub const FORMERR: u8 = 1;
    /// The server could not answer.
    pub const SERVFAIL: u8 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u8 = 3;
    /// The kind of query is not implemented.
    pub const NOTIMP: u8 = 4;
    /// Refused by policy.
    pub const REFUSED: u8 = 5;
    /// EDNS version not supported; its upper bits travel in OPT.
    pub const BADVERS: u8 = 16;
    /// A server cookie that is missing or not good (RFC 7873 §8); in OPT too.
    pub const BADCOOKIE: u8 = 23;

    /// The mnemonic of a code, `RCODE11` for one without.
    pub fn name(code: u8) -> std::borrow::Cow<'static, str> {
        match code {
            NOERROR => "NOERROR".into(),
            FORMERR => "FORMERR".into(),
            SERVFAIL => "SERVFAIL".into(),
            NXDOMAIN => "NXDOMAIN".into(),
            NOTIMP => "NOTIMP".into(),
            REFUSED => "REFUSED".into(),
            BADVERS => "BADVERS".into(),
            BADCOOKIE => "BADCOOKIE".into(),
            _ => format!("RCODE{code}").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_and_print() {
        assert_eq!(Rtype::parse("aaaa"), Some(Rtype::AAAA));
        assert_eq!(Rtype::parse("TYPE1"), Some(Rtype::A));
        assert_eq!(Rtype::parse("type65280"), Some(Rtype(65280)));
        assert_eq!(Rtype::parse("TYPE65536"), None);
        assert_eq!(Rtype::parse("TYPE+1"), None);
        assert_eq!(Rtype::parse("bogus"), None);
        assert_eq!(Rtype(65280).to_string(), "TYPE65280");
        assert_eq!(Rtype::HTTPS.to_string(), "HTTPS");
    }
}
