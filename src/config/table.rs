//! A TOML table that is read key by key with a finding for everything that is not as it should be.
//!
//! A reader takes the keys it knows; [`Table::finish`] reports the rest as unknown, with the nearest key
//! of the same table or the table where the key belongs. A value of the wrong type is reported where it
//! stands, and reading goes on as if it were absent. Deliberately absent: the meaning of any key.

use super::keys::{KEYS, is_key, keys_below, nearest};
use super::source::{At, Findings, Span};
use super::value::Bad;
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One table being read.
pub(super) struct Table<'a> {
    /// Its keys and values.
    entries: &'a DeTable<'a>,
    /// Where it begins: what a missing key is reported at.
    pub(super) span: Span,
    /// Paths in [`KEYS`] whose keys may stand here.
    paths: Vec<&'static str>,
    /// Keys that were read.
    seen: BTreeSet<&'static str>,
    /// Keys that were there but could not be read, so that they are not reported as missing too.
    bad: BTreeSet<&'static str>,
}

impl<'a> Table<'a> {
    /// A table whose keys are those of `path` in [`KEYS`].
    pub(super) fn new(entries: &'a DeTable<'a>, span: Span, path: &'static str) -> Table<'a> {
        Table {
            entries,
            span,
            paths: vec![path],
            seen: BTreeSet::new(),
            bad: BTreeSet::new(),
        }
    }

    /// Allows the keys of a further path.
    pub(super) fn allow(&mut self, path: &'static str) {
        self.paths.push(path);
    }

    /// The value of a key, and marks the key as read.
    pub(super) fn raw(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(is_key(&self.paths, key), "{key} is missing in KEYS below {:?}", self.paths);
        self.seen.insert(key);
        self.entries.get(key)
    }

    /// Where a key is written, or else the table's own place.
    pub(super) fn key_span(&self, key: &str) -> Span {
        let found = self.entries.get_key_value(key);
        found.map_or(self.span, |(written, _)| written.span().into())
    }

    /// A value read by `read`; a wrong one is reported.
    pub(super) fn value<T>(
        &mut self,
        findings: &mut Findings<'_>,
        key: &'static str,
        read: impl FnOnce(&DeValue<'a>) -> Result<T, Bad>,
    ) -> Option<At<T>> {
        let raw = self.raw(key)?;
        match read(raw.get_ref()) {
            Ok(value) => Some(At::new(value, raw.span().into())),
            Err(bad) => {
                self.bad.insert(key);
                bad.report(findings, raw.span().into(), &format!("`{key}`"));
                None
            }
        }
    }

    /// As [`Table::value`], and a missing key is reported with an example of what to write.
    pub(super) fn required<T>(
        &mut self,
        findings: &mut Findings<'_>,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'a>) -> Result<T, Bad>,
    ) -> Option<At<T>> {
        let value = self.value(findings, key, read);
        if value.is_none() && !self.bad.contains(key) {
            self.missing(findings, key, example);
        }
        value
    }

    /// Reports a key that must be there.
    pub(super) fn missing(&self, findings: &mut Findings<'_>, key: &str, example: &str) {
        // A misspelt key is reported as such, with this key as its hint: one mistake, one error.
        let misspelt = self
            .unread()
            .any(|(written, _)| nearest(written, keys_of(&self.paths)) == Some(key));
        if !misspelt {
            findings
                .absent(self.span, format!("`{key}` is missing"))
                .hint(format!("for example: {example}"));
        }
    }

    /// Every element of an array, each read by `read`; none when the key is absent, no array, or an element is wrong.
    pub(super) fn array<T>(
        &mut self,
        findings: &mut Findings<'_>,
        key: &'static str,
        what: &str,
        mut read: impl FnMut(&DeValue<'a>) -> Result<T, Bad>,
    ) -> Option<At<Vec<At<T>>>> {
        let raw = self.raw(key)?;
        let span = raw.span().into();
        let Some(elements) = raw.get_ref().as_array() else {
            self.bad.insert(key);
            Bad::kind(what, raw.get_ref()).report(findings, span, &format!("`{key}`"));
            return None;
        };
        let values = read_elements(findings, elements, &format!("an element of `{key}`"), &mut read);
        // With a hole in it an array would mislead the rules: a program that is an argument, a region too few.
        if values.len() < elements.len() {
            self.bad.insert(key);
            return None;
        }
        Some(At::new(values, span))
    }

    /// Whether a key was there but could not be read.
    pub(super) fn is_bad(&self, key: &str) -> bool {
        self.bad.contains(key)
    }

    /// A table below this one, `[table.key]` or `key = { … }`.
    pub(super) fn table(&mut self, findings: &mut Findings<'_>, key: &'static str) -> Option<(&'a DeTable<'a>, Span)> {
        let raw = self.raw(key)?;
        let table = raw.get_ref().as_table();
        if table.is_none() {
            self.bad.insert(key);
            Bad::kind("a table", raw.get_ref()).report(findings, raw.span().into(), &format!("`{key}`"));
        }
        Some((table?, self.key_span(key)))
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, findings: &mut Findings<'_>, key: &'static str) -> Vec<(&'a DeTable<'a>, Span)> {
        let Some(raw) = self.raw(key) else { return Vec::new() };
        let Some(elements) = raw.get_ref().as_array() else {
            self.bad.insert(key);
            let bad = Bad::kind("an array of tables", raw.get_ref()).hint("write the header with two brackets: `[[…]]`");
            bad.report(findings, raw.span().into(), &format!("`{key}`"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in elements {
            match element.get_ref().as_table() {
                Some(table) => tables.push((table, element.span().into())),
                None => Bad::kind("a table", element.get_ref()).report(findings, element.span().into(), &format!("an element of `{key}`")),
            }
        }
        tables
    }

    /// Keys that nobody read, in the order of the text.
    fn unread(&self) -> impl Iterator<Item = (&'a str, Span)> {
        let unread = self.entries.iter().filter(|(key, _)| !self.seen.contains(key.get_ref().as_ref()));
        let mut unread: Vec<(&str, Span)> = unread.map(|(key, _)| (key.get_ref().as_ref(), key.span().into())).collect();
        unread.sort_by_key(|(_, span)| *span);
        unread.into_iter()
    }

    /// Reports every key that nobody read.
    pub(super) fn finish(self, findings: &mut Findings<'_>) {
        for (key, span) in self.unread() {
            let note = findings.error(span, format!("unknown key `{}`", shorten(key)));
            if ["password", "secret", "token"].iter().any(|word| key.contains(word)) {
                note.without_snippet()
                    .hint("secrets stand in files of their own, never in the config");
            } else if let Some(near) = nearest(key, keys_of(&self.paths)) {
                note.hint(format!("did you mean `{near}`?"));
            } else if let Some(place) = belongs_to(key) {
                note.hint(format!("`{key}` belongs to {place}"));
            } else {
                let known: Vec<&str> = keys_of(&self.paths).collect();
                note.hint(format!("known here: {}", known.join(", ")));
            }
        }
    }
}

/// The keys of several paths.
fn keys_of(paths: &[&'static str]) -> impl Iterator<Item = &'static str> {
    paths.iter().flat_map(|path| keys_below(path))
}

/// In which table a key stands, for one that stands in the wrong table.
fn belongs_to(key: &str) -> Option<String> {
    let tables = KEYS.iter().filter_map(|(path, _)| path.strip_suffix(key)?.strip_suffix('.'));
    let (mut places, mut kinds) = (Vec::new(), Vec::new());
    let mut inner: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for table in tables {
        match table.split('.').collect::<Vec<_>>()[..] {
            ["zone"] => places.push("[[zone]]".to_owned()),
            ["region"] => places.push("[region.ID]".to_owned()),
            ["app"] => places.push("[app.ID]".to_owned()),
            ["probe"] => places.push("[[app.ID.probe]]".to_owned()),
            ["probe", kind] => kinds.push(kind),
            ["probe", kind, key] => inner.entry(key).or_default().push(kind),
            _ => places.push(format!("[{table}]")),
        }
    }
    for (key, kinds) in inner {
        places.push(format!("`{key}` of a probe of kind {}", any_of(&kinds)));
    }
    if !kinds.is_empty() {
        places.push(format!("a probe of kind {}", any_of(&kinds)));
    }
    (!places.is_empty()).then(|| places.join(" or "))
}

/// `a, b or c`.
fn any_of(words: &[&str]) -> String {
    match words {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => words.concat(),
    }
}

/// Reads every element, reporting the wrong ones.
pub(super) fn read_elements<'a, T>(
    findings: &mut Findings<'_>,
    elements: &[Spanned<DeValue<'a>>],
    what: &str,
    read: &mut dyn FnMut(&DeValue<'a>) -> Result<T, Bad>,
) -> Vec<At<T>> {
    let mut values = Vec::new();
    for element in elements {
        match read(element.get_ref()) {
            Ok(value) => values.push(At::new(value, element.span().into())),
            Err(bad) => bad.report(findings, element.span().into(), what),
        }
    }
    values
}

/// Text of the operator's as it is shown in a message: control characters escaped, cut after 60 characters.
pub(super) fn shorten(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(60)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}
