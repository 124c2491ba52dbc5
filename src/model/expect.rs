//! What is expected of an answer: one small language for every kind of probe.
//!
//! A probe's kind puts what it saw into an [`Exposed`]: facts under fixed names (`status`, `lag-seconds`), header
//! fields, a body. A [`Source`] points at one value in it; an [`Expect`] is a source with tests that must all hold;
//! a [`RoleRule`] tells from a source which role the application says it has; a [`ValueRule`] takes a number out of it.
//!
//! ```text
//! expect = { status = [200], headers = { server = "nginx" }, json = { "/lag" = { le = 30 }, "/state" = "ok" } }
//! ```
//!
//! Everything here is a pure function of what was seen. Deliberately absent: reading (`config`), how an answer is
//! had (`probe`), counting (`health`).

use super::{FailReason, Failure, Observed};
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Most octets that a compiled pattern may take; a larger one is an error of the config.
const PATTERN_OCTETS_MAX: usize = 256 * 1024;
/// Most characters of a found value in a message.
const SHOWN_CHARS_MAX: usize = 60;

/// What a run of a probe saw, for the rules over it.
#[derive(Debug, Default)]
pub struct Exposed {
    /// Facts of the kind, by name.
    facts: Vec<(&'static str, Value)>,
    /// Header fields, names in lower case.
    headers: Vec<(String, String)>,
    /// The body, or why there is none although it was asked for.
    body: Option<Result<Vec<u8>, Failure>>,
    /// The body as JSON, parsed when first asked for.
    json: OnceLock<Result<Value, Failure>>,
}

impl Exposed {
    /// Adds a fact.
    pub fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    /// Adds a header field.
    pub fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }

    /// Sets the body, or why it could not be had.
    pub fn set_body(&mut self, body: Result<Vec<u8>, Failure>) {
        self.body = Some(body);
    }

    /// The body, if there is one.
    pub fn body(&self) -> Option<&[u8]> {
        self.body.as_ref()?.as_ref().ok().map(Vec::as_slice)
    }

    /// Facts that are measured: reported as values under their own names. A status is a code and no such number.
    pub fn numbers(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let measured = self.facts.iter().filter(|(name, _)| *name != "status");
        measured.filter_map(|(name, value)| Some((*name, value.as_f64()?)))
    }

    /// The value at a source; none where there is nothing.
    ///
    /// # Errors
    /// When the body is needed and could not be had, or is no JSON.
    fn value(&self, source: &Source) -> Result<Option<Cow<'_, Value>>, Failure> {
        match source {
            Source::Fact(name) => Ok(self
                .facts
                .iter()
                .find(|(fact, _)| fact == name)
                .map(|(_, value)| Cow::Borrowed(value))),
            Source::Header(name) => {
                let found: Vec<&str> = self
                    .headers
                    .iter()
                    .filter(|(field, _)| field == name)
                    .map(|(_, value)| value.as_str())
                    .collect();
                // Several fields of one name are one list (RFC 9110 section 5.3).
                Ok((!found.is_empty()).then(|| Cow::Owned(Value::String(found.join(", ")))))
            }
            Source::Body => match &self.body {
                Some(Ok(body)) => Ok(Some(Cow::Owned(Value::String(String::from_utf8_lossy(body).into_owned())))),
                Some(Err(failure)) => Err(failure.clone()),
                None => Ok(None),
            },
            Source::Json(pointer) => match self.json.get_or_init(|| self.parse()) {
                Ok(body) => Ok(body.pointer(pointer).map(Cow::Borrowed)),
                Err(failure) => Err(failure.clone()),
            },
        }
    }

    /// The body as JSON.
    fn parse(&self) -> Result<Value, Failure> {
        match &self.body {
            Some(Ok(body)) => serde_json::from_slice(body).map_err(|error| {
                let place = format!("body is no JSON (line {}, column {})", error.line(), error.column());
                content(place)
            }),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(content("there is no body to look at".to_owned())),
        }
    }
}

/// Where in an answer a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A fact of the kind, such as `status`, `certificate-days`, `lag-seconds`.
    Fact(&'static str),
    /// A header field, its name in lower case.
    Header(String),
    /// The whole body as text.
    Body,
    /// A JSON pointer (RFC 6901) into the body.
    Json(String),
}

impl Source {
    /// Whether the body must be read for it.
    pub fn needs_body(&self) -> bool {
        matches!(self, Source::Body | Source::Json(_))
    }

    /// Whether what stands there is text whatever it means; so is the `result` of a query.
    fn is_written(&self) -> bool {
        matches!(self, Source::Body | Source::Header(_) | Source::Fact("result"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Fact(name) => f.write_str(name),
            Source::Header(name) => write!(f, "header {name}"),
            Source::Body => f.write_str("body"),
            Source::Json(pointer) if pointer.is_empty() => f.write_str("the JSON body"),
            Source::Json(pointer) => f.write_str(pointer),
        }
    }
}

/// A test of one value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equal; numbers by value, so that `1` is `1.0`. In a header field or a body, text of a number is that number.
    Is(Value),
    /// Not equal, and present.
    IsNot(Value),
    /// A number less than this.
    Below(f64),
    /// A number of at most this.
    AtMost(f64),
    /// A number greater than this.
    Above(f64),
    /// A number of at least this.
    AtLeast(f64),
    /// Text that contains this.
    Contains(String),
    /// Text in which the pattern matches somewhere.
    Matches(Pattern),
}

impl Test {
    /// Whether the value passes; `written` says that it is text whatever it means, as a header field is.
    pub fn holds(&self, value: &Value, written: bool) -> bool {
        let same = if written { same_as_written } else { same };
        match self {
            Test::Is(expected) => same(value, expected),
            Test::IsNot(unwanted) => !same(value, unwanted),
            Test::Below(limit) => number(value).is_some_and(|number| number < *limit),
            Test::AtMost(limit) => number(value).is_some_and(|number| number <= *limit),
            Test::Above(limit) => number(value).is_some_and(|number| number > *limit),
            Test::AtLeast(limit) => number(value).is_some_and(|number| number >= *limit),
            Test::Contains(part) => text(value).contains(part.as_str()),
            Test::Matches(pattern) => pattern.matches(text(value).as_bytes()),
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Test::Is(value) => f.write_str(&clip(&value.to_string())),
            Test::IsNot(value) => write!(f, "anything but {}", clip(&value.to_string())),
            Test::Below(limit) => write!(f, "less than {limit}"),
            Test::AtMost(limit) => write!(f, "at most {limit}"),
            Test::Above(limit) => write!(f, "more than {limit}"),
            Test::AtLeast(limit) => write!(f, "at least {limit}"),
            Test::Contains(part) => write!(f, "it to contain {:?}", clip(part)),
            Test::Matches(pattern) => write!(f, "a match of /{}/", clip(&pattern.text)),
        }
    }
}

/// A regular expression, compiled once and bounded in size; it matches in time linear in the text.
#[derive(Clone)]
pub struct Pattern {
    /// As written.
    text: String,
    /// Compiled.
    regex: Arc<Regex>,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// In words, when it is no regular expression or larger than allowed when compiled.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let built = RegexBuilder::new(text).size_limit(PATTERN_OCTETS_MAX).build();
        let regex = built.map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("is too large: more than {} KiB when compiled", PATTERN_OCTETS_MAX / 1024),
            // The library draws a picture over several lines; the last one says what is wrong.
            other => {
                let words = other.to_string();
                let last = words.lines().last().unwrap_or_default().trim();
                format!("is no regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
            }
        })?;
        let text = text.to_owned();
        Ok(Pattern {
            text,
            regex: Arc::new(regex),
        })
    }

    /// Whether it matches anywhere in the text.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}

/// Tests of one value in an answer; all must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect {
    /// Where it stands.
    pub source: Source,
    /// What it must be.
    pub tests: Vec<Test>,
}

impl Expect {
    /// Whether the answer is as expected.
    ///
    /// # Errors
    /// The first test that fails, in words.
    pub fn check(&self, exposed: &Exposed) -> Result<(), Failure> {
        let found = exposed.value(&self.source)?;
        for test in &self.tests {
            if found.as_deref().is_some_and(|value| test.holds(value, self.source.is_written())) {
                continue;
            }
            return Err(content(match (&self.source, &found, test) {
                // A whole body is not shown: it may be long.
                (Source::Body, _, Test::Contains(part)) => format!("body does not contain {:?}", clip(part)),
                (Source::Body, _, Test::Matches(pattern)) => format!("body does not match /{}/", clip(&pattern.text)),
                (source, Some(value), test) => format!("{source} is {}, expected {test}", clip(&value.to_string())),
                (source, None, test) => format!("{source} is missing, expected {test}"),
            }));
        }
        Ok(())
    }
}

/// Where an application says which role it has itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleRule {
    /// Where the word stands.
    pub source: Source,
    /// What it is when the application is active.
    pub active: Vec<Test>,
    /// What it is when the application is passive.
    pub passive: Vec<Test>,
}

impl RoleRule {
    /// What the application says; neither word, or none, is `none`. Nothing when it could not be asked.
    pub fn observe(&self, exposed: &Exposed) -> Option<Observed> {
        let found = exposed.value(&self.source).ok()?;
        let all = |tests: &[Test]| {
            found
                .as_deref()
                .is_some_and(|value| tests.iter().all(|test| test.holds(value, self.source.is_written())))
        };
        Some(match (all(&self.active), all(&self.passive)) {
            (true, false) => Observed::Active,
            (false, true) => Observed::Passive,
            // Words that both fit say nothing.
            _ => Observed::None,
        })
    }
}

/// A number taken from an answer under a name, for gates and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueRule {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub source: Source,
}

impl ValueRule {
    /// The number, where there is one.
    pub fn number(&self, exposed: &Exposed) -> Option<f64> {
        number(exposed.value(&self.source).ok()??.as_ref())
    }
}

/// Why no value can pass all the tests; none where one can, as far as is easily seen.
pub fn contradiction(tests: &[Test]) -> Option<String> {
    for test in tests {
        if let Test::Is(value) = test
            && let Some(other) = tests.iter().find(|other| !other.holds(value, true))
        {
            return Some(format!("a value that is {test} cannot be {other}"));
        }
    }
    let (mut least, mut most) = ((f64::NEG_INFINITY, true), (f64::INFINITY, true));
    for test in tests {
        match test {
            Test::Above(limit) if *limit >= least.0 => least = (*limit, false),
            Test::AtLeast(limit) if *limit > least.0 => least = (*limit, true),
            Test::Below(limit) if *limit <= most.0 => most = (*limit, false),
            Test::AtMost(limit) if *limit < most.0 => most = (*limit, true),
            _ => {}
        }
    }
    let empty = least.0 > most.0 || (least.0 == most.0 && !(least.1 && most.1));
    empty.then(|| "no number is within these limits".to_owned())
}

/// Equality of JSON values; numbers by value, so that `1` is `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// Equality where what was found is text whatever it means: a number or a boolean is looked for in it.
fn same_as_written(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::String(text), Value::Number(wanted)) => text.trim().parse::<f64>().ok().is_some_and(|found| Some(found) == wanted.as_f64()),
        (Value::String(text), Value::Bool(wanted)) => text.trim() == wanted.to_string(),
        (Value::String(text), Value::String(wanted)) => text.trim() == wanted.trim(),
        _ => same(found, wanted),
    }
}

/// The number that a value is, or that its text is.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok().filter(|number| number.is_finite()),
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value as text: a string without its quotes, the rest as JSON.
fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// A number as a fact; what JSON cannot write is none.
pub fn fact_number(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// A failure of what was expected.
fn content(message: String) -> Failure {
    Failure {
        reason: FailReason::Content,
        message: clip_to(&message, 300),
    }
}

/// Text for a message, cut short.
fn clip(text: &str) -> String {
    clip_to(text, SHOWN_CHARS_MAX)
}

/// One line of at most `chars_max` characters.
fn clip_to(text: &str, chars_max: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn exposed() -> Exposed {
        let mut exposed = Exposed::default();
        exposed.fact("status", 200);
        exposed.fact("lag-seconds", 12.5);
        exposed.header("X-Load", " 0.75 ");
        exposed.header("Via", "a");
        exposed.header("via", "b");
        exposed.set_body(Ok(br#"{"db": {"role": "primary"}, "n": 3, "ok": true}"#.to_vec()));
        exposed
    }

    fn check(source: Source, test: Test) -> Result<(), String> {
        let expect = Expect { source, tests: vec![test] };
        expect.check(&exposed()).map_err(|failure| failure.message)
    }

    #[test]
    fn every_source_and_every_test_says_what_it_found() {
        let json = |pointer: &str| Source::Json(pointer.to_owned());
        let header = |name: &str| Source::Header(name.to_owned());
        let pattern = |text| Test::Matches(Pattern::new(text).unwrap());
        let cases = [
            (Source::Fact("status"), Test::Is(json!(200)), Ok(())),
            (Source::Fact("lag-seconds"), Test::AtMost(12.5), Ok(())),
            (
                Source::Fact("lag-seconds"),
                Test::Below(12.5),
                Err("lag-seconds is 12.5, expected less than 12.5"),
            ),
            (
                Source::Fact("lag-bytes"),
                Test::Below(1.0),
                Err("lag-bytes is missing, expected less than 1"),
            ),
            (header("x-load"), Test::Below(0.8), Ok(())),
            (header("x-load"), Test::Is(json!(0.75)), Ok(())),
            (header("via"), Test::Is(json!("a, b")), Ok(())),
            (
                header("none"),
                Test::IsNot(json!("a")),
                Err("header none is missing, expected anything but \"a\""),
            ),
            (json("/db/role"), Test::Is(json!("primary")), Ok(())),
            (
                json("/db/role"),
                Test::Is(json!("standby")),
                Err("/db/role is \"primary\", expected \"standby\""),
            ),
            (json("/n"), Test::Is(json!(3.0)), Ok(())),
            (json("/ok"), Test::Is(json!(true)), Ok(())),
            (json("/n"), pattern("^[0-9]$"), Ok(())),
            (Source::Body, Test::Contains("primary".to_owned()), Ok(())),
            (
                Source::Body,
                Test::Contains("absent".to_owned()),
                Err("body does not contain \"absent\""),
            ),
            (Source::Body, pattern("role\": *\"prim"), Ok(())),
            (Source::Body, pattern("^ok$"), Err("body does not match /^ok$/")),
        ];
        for (source, test, expected) in cases {
            let shown = format!("{source} {test}");
            assert_eq!(check(source, test), expected.map_err(str::to_owned), "{shown}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_or_could_not_be_had_says_so() {
        let expect = Expect {
            source: Source::Json("/a".to_owned()),
            tests: vec![Test::Is(json!(1))],
        };
        let mut broken = Exposed::default();
        broken.set_body(Ok(b"<html>".to_vec()));
        assert_eq!(expect.check(&broken).unwrap_err().message, "body is no JSON (line 1, column 1)");
        let mut absent = Exposed::default();
        absent.set_body(Err(content("body is longer than 5 octets".to_owned())));
        assert_eq!(expect.check(&absent).unwrap_err().message, "body is longer than 5 octets");
        assert_eq!(
            expect.check(&Exposed::default()).unwrap_err().message,
            "there is no body to look at"
        );
    }

    #[test]
    fn a_role_is_said_by_any_source_and_only_when_one_word_fits() {
        let rule = |active: Test, passive: Test| RoleRule {
            source: Source::Fact("lag-seconds"),
            active: vec![active],
            passive: vec![passive],
        };
        let saw = exposed();
        assert_eq!(rule(Test::Above(1.0), Test::AtMost(1.0)).observe(&saw), Some(Observed::Active));
        assert_eq!(rule(Test::AtMost(1.0), Test::Above(1.0)).observe(&saw), Some(Observed::Passive));
        assert_eq!(rule(Test::Above(1.0), Test::Above(2.0)).observe(&saw), Some(Observed::None));
        let json = RoleRule {
            source: Source::Json("/x".to_owned()),
            active: vec![],
            passive: vec![],
        };
        assert_eq!(json.observe(&Exposed::default()), None, "could not be asked");
    }

    #[test]
    fn patterns_are_bounded_and_say_what_is_wrong() {
        assert!(Pattern::new("(a{1000}){1000}").unwrap_err().starts_with("is too large"));
        assert_eq!(Pattern::new("a(").unwrap_err(), "is no regular expression: unclosed group");
    }

    #[test]
    fn tests_that_no_value_passes_are_found() {
        for tests in [
            vec![Test::Below(1.0), Test::Above(1.0)],
            vec![Test::AtMost(1.0), Test::Above(1.0)],
            vec![Test::Is(json!("a")), Test::Is(json!("b"))],
            vec![Test::Is(json!(5)), Test::Below(5.0)],
            vec![Test::Is(json!("abc")), Test::Contains("x".to_owned())],
        ] {
            assert!(contradiction(&tests).is_some(), "{tests:?}");
        }
        for tests in [
            vec![],
            vec![Test::AtMost(1.0), Test::AtLeast(1.0)],
            vec![Test::Is(json!(5)), Test::Above(4.0)],
        ] {
            assert_eq!(contradiction(&tests), None, "{tests:?}");
        }
    }

    proptest! {
        /// What is called a contradiction passes for no number.
        #[test]
        fn contradictions_hold_for_no_number(limits in proptest::collection::vec((0_u8..4, -3_i32..3), 0..4), at in -4_i32..4) {
            let tests: Vec<Test> = limits.iter().map(|(kind, limit)| match kind {
                0 => Test::Below(f64::from(*limit)),
                1 => Test::AtMost(f64::from(*limit)),
                2 => Test::Above(f64::from(*limit)),
                _ => Test::AtLeast(f64::from(*limit)),
            }).collect();
            let passes = |half: f64| tests.iter().all(|test| test.holds(&json!(f64::from(at) + half), false));
            if contradiction(&tests).is_some() {
                prop_assert!(!passes(0.0) && !passes(0.5));
            }
        }
    }
}
