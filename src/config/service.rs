//! What `[dns]` says beyond where it listens: cookies, the server's identifier, rate limits.
//!
//! All of it may change with a reload. Deliberately absent: the content of the secret file, which is no part of the set.

use super::source::{At, Findings};
use super::table::Table;
use super::value::{self, Bad};
use super::{ServiceConfig, folder_of};
use crate::model::{Prefix, PrefixSet, RateLimit};
use toml::de::DeValue;

/// `responses-per-second` where nothing is said, as NSD ships it: a resolver asks for one name once a TTL, so that even the
/// networks of the largest ones stay far below, while a reflected flood goes far above.
const RESPONSES_PER_SECOND: u64 = 200;
/// `slip` where nothing is said: every second one, as in BIND and NSD. Half as many octets as came in leave at most.
const SLIP: u64 = 2;
/// `ipv4-prefix` where nothing is said, as in BIND and NSD.
const IPV4_PREFIX: u64 = 24;
/// `ipv6-prefix` where nothing is said: BIND has 56, NSD 64; who owns a /56 owns the /64s in it.
const IPV6_PREFIX: u64 = 56;
/// `table-size` where nothing is said: 16 octets each.
const TABLE_SIZE: u64 = 65_536;
/// Most octets of an identifier: it has to fit into an answer.
const NSID_OCTETS_MAX: usize = 128;

/// The keys of `[dns]` that are read here.
#[derive(Debug, Default)]
pub(super) struct ServiceSpec {
    /// `nsid`.
    nsid: Option<At<String>>,
    /// `cookies`.
    cookies: Option<At<bool>>,
    /// `cookie-secret-file`.
    pub(super) cookie_secret_file: Option<At<String>>,
    /// `[dns.rate-limit]`.
    rate_limit: RateLimitSpec,
}

/// `[dns.rate-limit]`.
#[derive(Debug, Default)]
struct RateLimitSpec {
    /// `responses-per-second`.
    responses_per_second: Option<At<u64>>,
    /// `slip`.
    slip: Option<At<u64>>,
    /// `ipv4-prefix`.
    ipv4_prefix: Option<At<u64>>,
    /// `ipv6-prefix`.
    ipv6_prefix: Option<At<u64>>,
    /// `exempt`.
    exempt: Option<At<Vec<At<Prefix>>>>,
    /// `table-size`.
    table_size: Option<At<u64>>,
}

/// Reads the keys out of `[dns]`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> ServiceSpec {
    ServiceSpec {
        nsid: table.value(findings, "nsid", nsid),
        cookies: table.value(findings, "cookies", value::boolean),
        cookie_secret_file: table.value(findings, "cookie-secret-file", value::path),
        rate_limit: read_rate_limit(table, findings),
    }
}

/// Reads `[dns.rate-limit]`.
fn read_rate_limit(dns: &mut Table<'_>, findings: &mut Findings<'_>) -> RateLimitSpec {
    let Some((entries, span)) = dns.table(findings, "rate-limit") else {
        return RateLimitSpec::default();
    };
    let mut table = Table::new(entries, span, "dns.rate-limit");
    let spec = RateLimitSpec {
        responses_per_second: table.value(findings, "responses-per-second", |value| value::number(value, 0, 1_000_000)),
        slip: table.value(findings, "slip", |value| value::number(value, 0, 100)),
        ipv4_prefix: table.value(findings, "ipv4-prefix", |value| value::number(value, 1, 32)),
        ipv6_prefix: table.value(findings, "ipv6-prefix", |value| value::number(value, 1, 128)),
        exempt: table.array(findings, "exempt", "an array of networks", prefix),
        table_size: table.value(findings, "table-size", |value| value::number(value, 1_000, 100_000_000)),
    };
    table.finish(findings);
    spec
}

/// A network.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<Prefix, Bad> {
    Prefix::parse(&value::text(value)?).map_err(|wanted| Bad::new(format!("must be {wanted}")))
}

/// The identifier: printable, so that whoever reads it reads the same.
fn nsid(value: &DeValue<'_>) -> Result<String, Bad> {
    let text = value::filled_text(value)?;
    let is_sound = text.len() <= NSID_OCTETS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let bad = || Bad::new(format!("must be at most {NSID_OCTETS_MAX} printable ASCII characters"));
    if is_sound { Ok(text) } else { Err(bad()) }
}

impl ServiceSpec {
    /// With defaults filled in; a path is relative to the config at `config`.
    pub(super) fn build(&self, config: &str) -> ServiceConfig {
        let folder = folder_of(config);
        ServiceConfig {
            nsid: self.nsid.as_ref().map(|nsid| nsid.value.clone()),
            cookies: self.cookies.as_ref().is_none_or(|on| on.value),
            cookie_secret_file: self.cookie_secret_file.as_ref().map(|file| folder.join(&file.value)),
            rate_limit: self.rate_limit.build(),
        }
    }
}

impl RateLimitSpec {
    /// With defaults filled in; none where nothing is limited.
    fn build(&self) -> Option<RateLimit> {
        let number = |written: &Option<At<u64>>, default| written.as_ref().map_or(default, |at| at.value);
        let rate = number(&self.responses_per_second, RESPONSES_PER_SECOND);
        let exempt = match &self.exempt {
            Some(exempt) => exempt.value.iter().map(|prefix| prefix.value).collect(),
            // Nobody reflects at this machine itself, and its own tools may ask as they like.
            None => ["127.0.0.0/8", "::1/128"]
                .iter()
                .filter_map(|text| Prefix::parse(text).ok())
                .collect::<Vec<_>>(),
        };
        // The readers' bounds make every number fit.
        (rate > 0).then(|| RateLimit {
            responses_per_second: rate as u32,
            slip: number(&self.slip, SLIP) as u32,
            ipv4_prefix: number(&self.ipv4_prefix, IPV4_PREFIX) as u8,
            ipv6_prefix: number(&self.ipv6_prefix, IPV6_PREFIX) as u8,
            exempt: PrefixSet::new(&exempt),
            table_size: number(&self.table_size, TABLE_SIZE) as usize,
        })
    }
}
