//! The one table of record types: each as the list of fields that its data consists of.
//!
//! Reading (`encode`), checking wire form (`wire`) and printing (`print`) all go by this table, so a
//! type is added in one line here, plus a new [`Field`] where its data holds something unseen before.
//! The types are those that NSD 4.6 reads. Not here: types that only queries use (RFC 6895 §3.1), and
//! types without a presentation form of ours, which are written as RFC 3597 §5 says.

use crate::model::Rtype;

/// One field of a record's data: how it is written and how it lies on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// A domain name (RFC 1035 §3.3).
    Name,
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// A number of 8 bits.
    U8,
    /// A number of 16 bits.
    U16,
    /// A number of 32 bits.
    U32,
    /// Seconds in 32 bits, written as a number or with units (`1h30m`).
    Period,
    /// A time of RRSIG: `YYYYMMDDHHmmSS` or seconds (RFC 4034 §3.2).
    Timestamp,
    /// A DNSSEC algorithm, number or mnemonic (RFC 4034 appendix A.1).
    Algorithm,
    /// A certificate type, number or mnemonic (RFC 4398 §2.1).
    CertType,
    /// A record type.
    Type,
    /// One character string (RFC 1035 §3.3).
    Text,
    /// One character string or none.
    OptionalText,
    /// One or more character strings, up to the end.
    Texts,
    /// Text up to the end of the data, without a length of its own (CAA, URI).
    LongText,
    /// A CAA tag: letters and digits behind a length octet (RFC 8659 §4.1).
    Tag,
    /// An X.121 address: at least four digits as a character string (RFC 1183 §3.1).
    Digits,
    /// Hexadecimal up to the end, at least one octet.
    Hex,
    /// Hexadecimal behind a length octet, `-` when empty (RFC 5155 §3.3).
    Salt,
    /// Base 64 up to the end, at least one octet.
    Base64,
    /// Base 64 up to the end, or nothing.
    OptionalBase64,
    /// Base 32 with the extended hex alphabet behind a length octet (RFC 5155 §3.3).
    Hash32,
    /// A type bit map up to the end (RFC 4034 §4.1.2).
    Bitmap,
    /// The type bit map of NXT (RFC 2535 §5.2).
    OldBitmap,
    /// Protocol and port bit map of WKS (RFC 1035 §3.4.2).
    Services,
    /// All of LOC (RFC 1876).
    Place,
    /// All of APL (RFC 3123).
    Prefixes,
    /// All of NSAP: `0x` and hexadecimal with dots (RFC 1706).
    Nsap,
    /// 64 bits as four groups of hexadecimal (RFC 6742 §2.1.2).
    Locator64,
    /// Six octets with hyphens (RFC 7043 §3.2).
    Eui48,
    /// Eight octets with hyphens (RFC 7043 §4.2).
    Eui64,
    /// The gateway of IPSECKEY, its form told by the data's second octet (RFC 4025 §2.3).
    Gateway,
    /// The parameters of SVCB and HTTPS up to the end (RFC 9460 §2).
    SvcParams,
    /// Anything; written only as RFC 3597 §5 says (NULL).
    Opaque,
}

/// The fields of a type; none for a type that is written as RFC 3597 §5 says only.
pub(super) fn fields(rtype: Rtype) -> Option<&'static [Field]> {
    use Field::*;
    let fields: &'static [Field] = match rtype {
        Rtype::A => &[A],
        Rtype::AAAA => &[Aaaa],
        Rtype::NS | Rtype::MD | Rtype::MF | Rtype::CNAME | Rtype::MB | Rtype::MG | Rtype::MR | Rtype::PTR | Rtype::DNAME => &[Name],
        Rtype::SOA => &[Name, Name, U32, Period, Period, Period, Period],
        Rtype::NULL => &[Opaque],
        Rtype::WKS => &[A, Services],
        Rtype::HINFO => &[Text, Text],
        Rtype::MINFO | Rtype::RP => &[Name, Name],
        Rtype::MX | Rtype::AFSDB | Rtype::RT | Rtype::KX | Rtype::LP => &[U16, Name],
        Rtype::TXT | Rtype::SPF | Rtype::AVC => &[Texts],
        Rtype::X25 => &[Digits],
        Rtype::ISDN => &[Text, OptionalText],
        Rtype::NSAP => &[Nsap],
        Rtype::SIG | Rtype::RRSIG => &[Type, Algorithm, U8, Period, Timestamp, Timestamp, U16, Name, Base64],
        Rtype::KEY => &[U16, U8, Algorithm, OptionalBase64],
        Rtype::DNSKEY | Rtype::CDNSKEY => &[U16, U8, Algorithm, Base64],
        Rtype::PX => &[U16, Name, Name],
        Rtype::LOC => &[Place],
        Rtype::NXT => &[Name, OldBitmap],
        Rtype::SRV => &[U16, U16, U16, Name],
        Rtype::NAPTR => &[U16, U16, Text, Text, Text, Name],
        Rtype::CERT => &[CertType, U16, Algorithm, Base64],
        Rtype::APL => &[Prefixes],
        Rtype::DS | Rtype::CDS | Rtype::DLV => &[U16, Algorithm, U8, Hex],
        Rtype::SSHFP => &[U8, U8, Hex],
        Rtype::IPSECKEY => &[U8, U8, U8, Gateway, OptionalBase64],
        Rtype::NSEC => &[Name, Bitmap],
        Rtype::DHCID | Rtype::OPENPGPKEY => &[Base64],
        Rtype::NSEC3 => &[U8, U8, U16, Salt, Hash32, Bitmap],
        Rtype::NSEC3PARAM => &[U8, U8, U16, Salt],
        Rtype::TLSA | Rtype::SMIMEA => &[U8, U8, U8, Hex],
        Rtype::CSYNC => &[U32, U16, Bitmap],
        Rtype::ZONEMD => &[U32, U8, U8, Hex],
        Rtype::SVCB | Rtype::HTTPS => &[U16, Name, SvcParams],
        Rtype::NID | Rtype::L64 => &[U16, Locator64],
        Rtype::L32 => &[U16, A],
        Rtype::EUI48 => &[Eui48],
        Rtype::EUI64 => &[Eui64],
        Rtype::URI => &[U16, U16, LongText],
        Rtype::CAA => &[U8, Tag, LongText],
        _ => return None,
    };
    Some(fields)
}

/// Every type of the table.
#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = Rtype> {
    (0..=u16::MAX).map(Rtype).filter(|&rtype| fields(rtype).is_some())
}

/// Whether records of the type may stand in a zone: not 0, and none that only queries and messages
/// use (RFC 6895 §3.1: OPT and 128 to 255).
pub(super) fn is_data(rtype: Rtype) -> bool {
    !matches!(rtype.0, 0 | 41 | 128..=255 | 65535)
}

/// DNSSEC algorithms with their mnemonics (RFC 4034 appendix A.1 and the IANA registry).
pub(super) const ALGORITHMS: &[(&str, u8)] = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("ECC", 4),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Certificate types with their mnemonics (RFC 4398 §2.1).
pub(super) const CERT_TYPES: &[(&str, u16)] = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

/// Parameters of SVCB with their names (RFC 9460 §14.3, RFC 9461, RFC 9540).
pub(super) const SVC_KEYS: &[(&str, u16)] = &[
    ("mandatory", 0),
    ("alpn", 1),
    ("no-default-alpn", 2),
    ("port", 3),
    ("ipv4hint", 4),
    ("ech", 5),
    ("ipv6hint", 6),
    ("dohpath", 7),
    ("ohttp", 8),
];

/// Services of WKS by name (RFC 1010, the ones of `/etc/services` that old zones name); any other is
/// written as its port. A pure reader cannot ask the system.
pub(super) const SERVICES: &[(&str, u16)] = &[
    ("echo", 7),
    ("discard", 9),
    ("daytime", 13),
    ("ftp-data", 20),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("time", 37),
    ("nameserver", 42),
    ("whois", 43),
    ("domain", 53),
    ("tftp", 69),
    ("gopher", 70),
    ("finger", 79),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("nntp", 119),
    ("ntp", 123),
    ("imap2", 143),
    ("snmp", 161),
    ("bgp", 179),
    ("irc", 194),
    ("ldap", 389),
    ("https", 443),
    ("imaps", 993),
    ("pop3s", 995),
];
