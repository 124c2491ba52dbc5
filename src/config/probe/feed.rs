//! Reads the keys of `kind = "feed"`.

use super::super::source::Findings;
use super::super::table::{Table, shorten};
use super::super::value::{self, Bad};
use super::expect::{self, Sources};
use super::{Read, file, or_default};
use crate::model::{Expect, FeedProbe, FeedSource, ProbeKind, Source};
use std::time::Duration;
use toml::de::DeValue;

/// Where a role or a value may stand.
const SOURCES: Sources = Sources {
    headers: false,
    status: false,
};

/// Reads the keys of `kind = "feed"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.feed");
    let path = table.value(findings, "file", file);
    let id = table.value(findings, "feed", feed_id);
    let max_age = table.value(findings, "max-age", |value| match value::duration(value)? {
        Duration::ZERO => Err(Bad::new("must not be 0")),
        age => Ok(age),
    });
    let max_age = or_default(table, "max-age", max_age, Duration::from_secs(30));
    let expect = read_expect(table, findings);
    let role = expect::role(table, findings, "probe.feed.role", SOURCES);
    let values = expect::values(table, findings, "probe.feed.value", SOURCES, &["age-seconds"]);
    let source = match (path, id) {
        (Some(path), None) => FeedSource::File(path.value),
        (None, Some(id)) => FeedSource::Posted(id.value),
        (Some(_), Some(id)) => {
            findings
                .error(id.span, "a feed is a `file` or posted to the API, not both")
                .hint("leave `file` or `feed` out");
            return None;
        }
        (None, None) => {
            if !table.is_bad("file") && !table.is_bad("feed") {
                table.missing(findings, "feed", "feed = \"shop-{region}\"");
            }
            return None;
        }
    };
    let kind = ProbeKind::Feed(FeedProbe { source, max_age: max_age? });
    Some(Read {
        kind,
        expect: expect?,
        role: role?,
        values: values?,
    })
}

/// Reads `expect`: JSON pointers and the age.
fn read_expect(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Vec<Expect>> {
    let mut expects = Vec::new();
    let Some((entries, span)) = table.table(findings, "expect") else {
        return (!table.is_bad("expect")).then_some(expects);
    };
    let mut inner = Table::new(entries, span, "probe.feed.expect");
    if let Some(tests) = inner.value(findings, "body", expect::body) {
        let (source, tests) = (Source::Body, tests.value);
        expects.push(Expect { source, tests });
    }
    if let Some((pointers, _)) = inner.table(findings, "json") {
        expects.extend(expect::table_of_tests(pointers, findings, expect::json_source));
    }
    inner.finish(findings);
    Some(expects)
}

/// Reads `feed`: part of a path of the API, so letters, digits, `-`, `_`, `.` and the places to fill in.
fn feed_id(value: &DeValue<'_>) -> Result<String, Bad> {
    let written = value::filled_text(value)?;
    let plain = written.replace("{region}", "").replace("{endpoint}", "");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if written.len() > 128 || !plain.chars().all(fits) {
        let message = format!(
            "must consist of letters, digits, `-`, `_`, `.`, {{region}} and {{endpoint}}, `{}` does not",
            shorten(&written)
        );
        return Err(Bad::new(message));
    }
    Ok(written)
}
