//! Reads `[[app.….probe]]`: the common keys, and those of each kind.
//!
//! A kind is one file here, its row in [`KINDS`] and its keys in `KEYS`. What is expected of an answer is read in
//! `expect`, the same way for every kind. Rules over several keys of one probe (time-outs against intervals) stand in
//! `checks`, which get the places from [`ProbeEntry`].

mod dns;
mod exec;
mod expect;
mod feed;
mod grpc;
mod http;
mod icmp;
mod mysql;
mod postgres;
mod secure;
mod smtp;
mod tcp;
mod tls;

use super::source::{At, Findings, Span};
use super::table::Table;
use super::value::{self, Bad};
use crate::model::{Expect, ProbeKind, ProbeSpec, RoleRule, ValueRule};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Shortest interval between two runs of a probe.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest interval between two runs of a probe.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// What is read of one kind: its name and its reader.
type KindReader = (&'static str, fn(&mut Table<'_>, &mut Findings<'_>) -> Option<Read>);

/// The kinds of probes there are.
const KINDS: &[KindReader] = &[
    ("http", http::read),
    ("tls", tls::read),
    ("tcp", tcp::read),
    ("dns", dns::read),
    ("exec", exec::read),
    ("feed", feed::read),
    ("postgres", postgres::read),
    ("mysql", mysql::read),
    ("grpc", grpc::read),
    ("icmp", icmp::read),
    ("smtp", smtp::read),
];

/// What stands in the keys of one kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    /// What it does.
    kind: ProbeKind,
    /// What the answer must be.
    expect: Vec<Expect>,
    /// Where the application says what it is.
    role: Option<RoleRule>,
    /// Numbers to take from the answer.
    values: Vec<ValueRule>,
}

impl Read {
    /// Of a kind whose answer nothing more is expected of.
    fn plain(kind: ProbeKind) -> Read {
        Read {
            kind,
            expect: Vec::new(),
            role: None,
            values: Vec::new(),
        }
    }
}

/// One probe as it is written.
#[derive(Debug)]
pub(super) struct ProbeEntry {
    /// Where it begins.
    pub(super) span: Span,
    /// What it does; none when something of it was reported.
    read: Option<Read>,
    /// `interval`.
    pub(super) interval: Option<At<Duration>>,
    /// `recheck-interval`.
    pub(super) recheck_interval: Option<At<Duration>>,
    /// `timeout`.
    pub(super) timeout: Option<At<Duration>>,
    /// `fall`.
    pub(super) fall: Option<At<u32>>,
    /// `rise`.
    pub(super) rise: Option<At<u32>>,
    /// `stale-after`.
    pub(super) stale_after: Option<At<Duration>>,
    /// `monitoring-only`.
    pub(super) monitoring_only: Option<At<bool>>,
}

impl ProbeEntry {
    /// `interval` with its default.
    pub(super) fn interval(&self) -> Duration {
        self.interval.as_ref().map_or(Duration::from_secs(5), |interval| interval.value)
    }

    /// `timeout` with its default.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout.as_ref().map_or(Duration::from_secs(2), |timeout| timeout.value)
    }

    /// `fall` with its default.
    pub(super) fn fall(&self) -> u32 {
        self.fall.as_ref().map_or(3, |fall| fall.value)
    }

    /// `rise` with its default.
    pub(super) fn rise(&self) -> u32 {
        self.rise.as_ref().map_or(2, |rise| rise.value)
    }

    /// `stale-after` with its default, three times the longest time between two outcomes.
    pub(super) fn stale_after(&self) -> Duration {
        let usual = self.interval().saturating_add(self.timeout()).saturating_mul(3);
        self.stale_after.as_ref().map_or(usual, |stale_after| stale_after.value)
    }

    /// Whether it is shown, not counted.
    pub(super) fn monitoring_only(&self) -> bool {
        self.monitoring_only.as_ref().is_some_and(|only| only.value)
    }

    /// Whether it says what role the application has; a probe that could not be read may have done so.
    pub(super) fn may_report_role(&self) -> bool {
        self.spec(Path::new("")).is_none_or(|spec| spec.reports_role() || spec.is_hearsay())
    }

    /// The probe with its defaults and with paths relative to `folder`.
    pub(super) fn spec(&self, folder: &Path) -> Option<ProbeSpec> {
        let mut read = self.read.clone()?;
        read.kind.relative_to(folder);
        Some(ProbeSpec {
            kind: read.kind,
            interval: self.interval(),
            recheck_interval: self.recheck_interval.as_ref().map(|recheck| recheck.value),
            timeout: self.timeout(),
            fall: self.fall(),
            rise: self.rise(),
            stale_after: self.stale_after(),
            monitoring_only: self.monitoring_only(),
            expect: read.expect,
            role: read.role,
            values: read.values,
        })
    }
}

/// Reads one probe; none when its kind is missing or unknown, which is reported.
pub(super) fn read_probe(entries: &DeTable<'_>, span: Span, findings: &mut Findings<'_>) -> Option<ProbeEntry> {
    let mut table = Table::new(entries, span, "probe");
    let kind = table.required(findings, "kind", "kind = \"http\"", probe_kind);
    let count = |value: &DeValue<'_>| {
        let count = value::number(value, 1, 1_000)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let mut entry = ProbeEntry {
        span,
        read: None,
        interval: table.value(findings, "interval", interval),
        recheck_interval: table.value(findings, "recheck-interval", interval),
        timeout: table.value(findings, "timeout", timeout),
        fall: table.value(findings, "fall", count),
        rise: table.value(findings, "rise", count),
        stale_after: table.value(findings, "stale-after", value::duration),
        monitoring_only: table.value(findings, "monitoring-only", value::boolean),
    };
    // Without its kind nobody can say which of the other keys are wrong.
    let (_, read) = kind?.value;
    entry.read = read(&mut table, findings);
    table.finish(findings);
    Some(entry)
}

/// Reads `kind`.
fn probe_kind(value: &DeValue<'_>) -> Result<KindReader, Bad> {
    let written = value::text(value)?;
    let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    if written == "https" {
        let message = format!("must be one of {}", names.join(", "));
        return Err(Bad::new(message).hint("write kind = \"http\"; an https:// URL makes it so"));
    }
    let found = KINDS.iter().find(|(name, _)| *name == written);
    found.copied().ok_or_else(|| value::not_one_of(&written, &names))
}

/// Reads `interval`.
fn interval(value: &DeValue<'_>) -> Result<Duration, Bad> {
    match value::duration(value)? {
        interval if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => Ok(interval),
        _ => Err(Bad::new("must be from 100ms to 1d")),
    }
}

/// Reads `timeout`.
fn timeout(value: &DeValue<'_>) -> Result<Duration, Bad> {
    match value::duration(value)? {
        Duration::ZERO => Err(Bad::new("must not be 0")),
        timeout => Ok(timeout),
    }
}

/// Reads a port.
fn port(value: &DeValue<'_>) -> Result<u16, Bad> {
    let port = value::number(value, 1, 65_535)?;
    Ok(u16::try_from(port).unwrap_or(u16::MAX))
}

/// Reads a path.
fn file(value: &DeValue<'_>) -> Result<PathBuf, Bad> {
    value::path(value).map(PathBuf::from)
}

/// A part of a probe: the value where it could be read or has a default, `None` where it was reported.
fn or_default<T>(table: &Table<'_>, key: &str, value: Option<At<T>>, default: T) -> Option<T> {
    match value {
        Some(value) => Some(value.value),
        None => (!table.is_bad(key)).then_some(default),
    }
}

/// A part of a probe that may be absent; the outer `None` where it was reported.
fn optional<T>(table: &Table<'_>, key: &str, value: Option<At<T>>) -> Option<Option<T>> {
    or_default(table, key, value.map(|at| At::new(Some(at.value), at.span)), None)
}

/// Whether text is a token of HTTP (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let special = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte))
}
