//! Reads what is expected of an answer: the same small language for every kind of probe.
//!
//! A test is a value, which must be equal, or a table of comparisons that must all hold: `eq`, `ne`, `lt`, `le`, `gt`,
//! `ge` (numbers), `contains`, `matches` (a regular expression). Sources are a JSON pointer, a header field, the body,
//! or a fact of the kind. What no answer could pass is an error.

use super::super::source::{Findings, Span};
use super::super::table::{Table, shorten};
use super::super::value::{self, Bad};
use super::is_token;
use crate::model::{Expect, Pattern, RoleRule, Source, Test, ValueRule, contradiction};
use toml::de::{DeTable, DeValue};

/// The comparisons of a test.
const COMPARISONS: &[&str] = &["eq", "ne", "lt", "le", "gt", "ge", "contains", "matches"];

/// Reads the tests of one value.
pub(super) fn tests(value: &DeValue<'_>) -> Result<Vec<Test>, Bad> {
    let Some(table) = value.as_table() else {
        return value::json(value)
            .map(|value| vec![Test::Is(value)])
            .map_err(|bad| bad.or_hint("or a table of comparisons: { ge = 1, lt = 5 }"));
    };
    let mut tests = Vec::new();
    for (name, value) in table {
        tests.push(comparison(name.get_ref(), value.get_ref())?);
    }
    if tests.is_empty() {
        return Err(Bad::new("must hold a comparison").hint(format!("one of {}", COMPARISONS.join(", "))));
    }
    match contradiction(&tests) {
        Some(why) => Err(Bad::new(format!("can never hold: {why}"))),
        None => Ok(tests),
    }
}

/// One comparison.
fn comparison(name: &str, value: &DeValue<'_>) -> Result<Test, Bad> {
    let of = |bad: Bad| bad.within(&format!("`{name}`"));
    let limit = || limit(value).map_err(of);
    Ok(match name {
        "eq" => Test::Is(value::json(value).map_err(of)?),
        "ne" => Test::IsNot(value::json(value).map_err(of)?),
        "lt" => Test::Below(limit()?),
        "le" => Test::AtMost(limit()?),
        "gt" => Test::Above(limit()?),
        "ge" => Test::AtLeast(limit()?),
        "contains" => Test::Contains(value::filled_text(value).map_err(of)?),
        "matches" => Test::Matches(pattern(value).map_err(of)?),
        _ => {
            let bad = value::not_one_of(name, COMPARISONS);
            return Err(bad.within("a comparison"));
        }
    })
}

/// Reads a number to compare with.
fn limit(value: &DeValue<'_>) -> Result<f64, Bad> {
    value::json(value)
        .ok()
        .and_then(|value| value.as_f64())
        .filter(|limit| limit.is_finite())
        .ok_or_else(|| Bad::kind("a number", value))
}

/// Reads a regular expression.
fn pattern(value: &DeValue<'_>) -> Result<Pattern, Bad> {
    Pattern::new(&value::filled_text(value)?).map_err(Bad::new)
}

/// Reads `body`: text that it must contain, or comparisons.
pub(super) fn body(value: &DeValue<'_>) -> Result<Vec<Test>, Bad> {
    match value.as_table() {
        Some(_) => tests(value),
        None => Ok(vec![Test::Contains(value::filled_text(value)?)]),
    }
}

/// Reads a table of tests by JSON pointer, by header field or by fact; wrong ones are reported.
pub(super) fn table_of_tests(
    entries: &DeTable<'_>,
    findings: &mut Findings<'_>,
    source: impl Fn(&str) -> Result<Source, Bad>,
) -> Vec<Expect> {
    let mut found = Vec::new();
    for (key, value) in entries {
        let shown = shorten(key.get_ref());
        let source = source(key.get_ref()).map_err(|bad| bad.report(findings, key.span().into(), &format!("`{shown}`")));
        let tests = tests(value.get_ref()).map_err(|bad| bad.report(findings, value.span().into(), &format!("the value of `{shown}`")));
        if let (Ok(source), Ok(tests)) = (source, tests) {
            found.push(Expect { source, tests });
        }
    }
    found
}

/// A JSON pointer as a source.
pub(super) fn json_source(written: &str) -> Result<Source, Bad> {
    value::check_json_pointer(written).map(|()| Source::Json(written.to_owned()))
}

/// The name of a header field as a source.
pub(super) fn header_source(written: &str) -> Result<Source, Bad> {
    match is_token(written) {
        true => Ok(Source::Header(written.to_ascii_lowercase())),
        false => Err(Bad::new("is no name of a header")),
    }
}

/// Reads a fact's tests below `expect`, where the kind has that fact.
pub(super) fn fact(inner: &mut Table<'_>, findings: &mut Findings<'_>, name: &'static str, expects: &mut Vec<Expect>) {
    if let Some(tests) = inner.value(findings, name, tests) {
        let tests = tests.value;
        expects.push(Expect {
            source: Source::Fact(name),
            tests,
        });
    }
}

/// Reads the tests of the days that a certificate has left; tells whether there are any.
pub(super) fn certificate_days(inner: &mut Table<'_>, findings: &mut Findings<'_>, expects: &mut Vec<Expect>) -> bool {
    const KEY: &str = "certificate-days";
    let read = |value: &DeValue<'_>| {
        let tests = tests(value)?;
        let never_below_0 = [tests.as_slice(), &[Test::AtLeast(0.0)]].concat();
        match contradiction(&never_below_0) {
            Some(_) => Err(Bad::new(
                "can never hold: a certificate that has run out is not accepted in the first place",
            )),
            None => Ok(tests),
        }
    };
    let found = inner.value(findings, KEY, read).map(|tests| Expect {
        source: Source::Fact(KEY),
        tests: tests.value,
    });
    let any = found.is_some();
    expects.extend(found);
    any
}

/// Reads `expect` of a kind that has nothing but facts; none where it was reported.
pub(super) fn facts(table: &mut Table<'_>, findings: &mut Findings<'_>, path: &'static str, names: &[&'static str]) -> Option<Vec<Expect>> {
    let mut expects = Vec::new();
    let Some((entries, span)) = table.table(findings, "expect") else {
        return (!table.is_bad("expect")).then_some(expects);
    };
    let mut inner = Table::new(entries, span, path);
    for name in names {
        fact(&mut inner, findings, name, &mut expects);
    }
    inner.finish(findings);
    Some(expects)
}

/// What a source may be in the tables `role` and `value`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources {
    /// Whether there are header fields.
    pub(super) headers: bool,
    /// Whether there is a status.
    pub(super) status: bool,
}

impl Sources {
    /// The keys that name a source.
    fn keys(self) -> Vec<&'static str> {
        let mut keys = vec!["json", "body"];
        keys.extend(self.headers.then_some("header"));
        keys.extend(self.status.then_some("status"));
        keys
    }

    /// Reads the one source of a table; none where it was reported.
    fn read(self, inner: &mut Table<'_>, findings: &mut Findings<'_>, span: Span) -> Option<Source> {
        let mut found: Vec<Source> = Vec::new();
        let mut wrong = false;
        for key in self.keys() {
            let source = match key {
                "json" => inner.value(findings, key, |value| json_source(&value::text(value)?)),
                "header" => inner.value(findings, key, |value| header_source(&value::text(value)?)),
                "body" => inner.value(findings, key, |value| only_true(value).map(|()| Source::Body)),
                _ => inner.value(findings, key, |value| only_true(value).map(|()| Source::Fact("status"))),
            };
            wrong |= inner.is_bad(key);
            found.extend(source.map(|source| source.value));
        }
        match (found.len(), wrong) {
            (_, true) => None,
            (1, _) => found.pop(),
            (0, _) => {
                inner.missing(findings, "json", "json = \"/database/role\"");
                None
            }
            _ => {
                findings
                    .error(span, "more than one source is given")
                    .hint(format!("write one of {}", self.keys().join(", ")));
                None
            }
        }
    }
}

/// Reads `body = true`, `status = true`.
fn only_true(value: &DeValue<'_>) -> Result<(), Bad> {
    match value::boolean(value)? {
        true => Ok(()),
        false => Err(Bad::new("must be true, or left out")),
    }
}

/// Reads `role`; the outer `None` where it was reported.
pub(super) fn role(table: &mut Table<'_>, findings: &mut Findings<'_>, path: &'static str, sources: Sources) -> Option<Option<RoleRule>> {
    let Some((entries, span)) = table.table(findings, "role") else {
        return (!table.is_bad("role")).then_some(None);
    };
    let mut inner = Table::new(entries, span, path);
    let source = sources.read(&mut inner, findings, span);
    let active = inner.required(findings, "active", "active = \"primary\"", tests);
    let passive = inner.required(findings, "passive", "passive = \"standby\"", tests);
    inner.finish(findings);
    let (source, active, passive) = (source?, active?, passive?);
    if active.value == passive.value {
        findings
            .error(passive.span, "`passive` is the same word as `active`")
            .related(active.span, "active is here");
    }
    Some(Some(RoleRule {
        source,
        active: active.value,
        passive: passive.value,
    }))
}

/// Reads `value`: a table of sources by the name of the number; none where something was reported. Names that the kind
/// reports by itself are `taken`.
pub(super) fn values(
    table: &mut Table<'_>,
    findings: &mut Findings<'_>,
    path: &'static str,
    sources: Sources,
    taken: &[&str],
) -> Option<Vec<ValueRule>> {
    let Some((entries, _)) = table.table(findings, "value") else {
        return (!table.is_bad("value")).then(Vec::new);
    };
    let mut rules = Vec::new();
    for (name, value) in entries {
        let (shown, span) = (shorten(name.get_ref()), Span::from(name.span()));
        if let Err(bad) = value::check_id(name.get_ref()) {
            bad.report(findings, span, &format!("the name `{shown}`"));
            continue;
        }
        let Some(entries) = value.get_ref().as_table() else {
            Bad::kind("a table", value.get_ref())
                .hint("for example { json = \"/capacity\" }")
                .report(findings, value.span().into(), &format!("`{shown}`"));
            continue;
        };
        if taken.contains(&name.get_ref().as_ref()) {
            findings.error(span, format!("`{shown}` is a value that this kind reports by itself"));
            continue;
        }
        let mut inner = Table::new(entries, span, path);
        let source = sources.read(&mut inner, findings, span);
        inner.finish(findings);
        let name = name.get_ref().to_string();
        rules.extend(source.map(|source| ValueRule { name, source }));
    }
    (rules.len() == entries.len()).then_some(rules)
}
