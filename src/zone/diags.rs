//! Findings of one load: collected with compact places, made readable at the end in one pass over the text.

use super::Place;
use super::read::ERRORS_MAX;
use crate::model::{Diagnostic, Location};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The text of a file: the main one is the caller's, included ones are kept.
#[derive(Clone)]
pub(super) enum Text<'s> {
    /// Borrowed from the caller.
    Main(&'s [u8]),
    /// Read by an `$INCLUDE`.
    Included(Rc<Vec<u8>>),
}

impl Text<'_> {
    /// Its octets.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Text::Main(bytes) => bytes,
            Text::Included(bytes) => bytes,
        }
    }
}

/// A finding whose places are still compact.
struct Pending {
    /// The finding, its places empty.
    diagnostic: Diagnostic,
    /// Where.
    at: Option<Place>,
    /// The second place with its label.
    related: Option<(Place, String)>,
}

/// Longest snippet, characters: a line of a zone file may be megabytes long.
const SNIPPET_CHARS_MAX: usize = 200;

/// All findings so far.
#[derive(Default)]
pub(super) struct Diags {
    /// Errors, at most [`ERRORS_MAX`].
    errors: Vec<Pending>,
    /// Warnings, at most [`ERRORS_MAX`].
    warnings: Vec<Pending>,
    /// Warnings beyond.
    warnings_left_out: usize,
}

impl Diags {
    /// Notes an error.
    pub(super) fn error(&mut self, at: Option<Place>, message: impl Into<String>, hint: &str) {
        self.push(Diagnostic::error(None, message), at, None, hint);
    }

    /// Notes an error with a second place.
    pub(super) fn error_with(&mut self, at: Place, message: impl Into<String>, related: (Place, &str), hint: &str) {
        self.push(
            Diagnostic::error(None, message),
            Some(at),
            Some((related.0, related.1.to_string())),
            hint,
        );
    }

    /// Notes a warning, with a second place where there is one.
    pub(super) fn warning(&mut self, at: Place, message: impl Into<String>, related: Option<(Place, &str)>, hint: &str) {
        if self.warnings.len() >= ERRORS_MAX {
            self.warnings_left_out += 1;
            return;
        }
        let related = related.map(|(place, label)| (place, label.to_string()));
        self.push(Diagnostic::warning(None, message), Some(at), related, hint);
    }

    /// Notes a finding.
    fn push(&mut self, diagnostic: Diagnostic, at: Option<Place>, related: Option<(Place, String)>, hint: &str) {
        let list = if diagnostic.is_error() {
            &mut self.errors
        } else {
            &mut self.warnings
        };
        if list.len() < ERRORS_MAX {
            let diagnostic = if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) };
            list.push(Pending { diagnostic, at, related });
        }
    }

    /// Whether an error was found.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether as many errors were found as are shown.
    pub(super) fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    /// Makes all findings readable: errors, and warnings.
    pub(super) fn finish(mut self, files: &[(String, Text<'_>)]) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        if self.is_full()
            && let Some(last) = self.errors.last_mut()
        {
            let note = format!("only the first {ERRORS_MAX} errors are shown");
            last.diagnostic.hint = Some(match last.diagnostic.hint.take() {
                Some(hint) => format!("{hint}; {note}"),
                None => note,
            });
        }
        let wanted = self.errors.iter().chain(&self.warnings).filter_map(|pending| pending.at);
        let lines = snippets(wanted, files);
        let readable = |list: Vec<Pending>| -> Vec<Diagnostic> {
            let each = list.into_iter().map(|pending| {
                let mut diagnostic = pending.diagnostic;
                diagnostic.at = pending.at.and_then(|place| locate(place, files));
                diagnostic.snippet = pending.at.and_then(|place| lines.get(&(place.file, place.line)).cloned());
                diagnostic.related = pending.related.and_then(|(place, label)| Some((locate(place, files)?, label)));
                diagnostic
            });
            each.collect()
        };
        let errors = readable(self.errors);
        let mut warnings = readable(self.warnings);
        if self.warnings_left_out > 0 {
            warnings.push(Diagnostic::warning(
                None,
                format!("{} more warnings are not shown", self.warnings_left_out),
            ));
        }
        (errors, warnings)
    }
}

/// A place as people read it.
fn locate(place: Place, files: &[(String, Text<'_>)]) -> Option<Location> {
    let (file, _) = files.get(usize::from(place.file))?;
    Some(Location {
        file: file.clone(),
        line: place.line as usize,
        column: usize::from(place.column),
    })
}

/// The lines that the places stand in, found in one pass over each file.
fn snippets(places: impl Iterator<Item = Place>, files: &[(String, Text<'_>)]) -> BTreeMap<(u16, u32), String> {
    let mut found: BTreeMap<(u16, u32), String> = places.map(|place| ((place.file, place.line), String::new())).collect();
    for (index, (_, text)) in (0u16..).zip(files) {
        let mut wanted = found.range_mut((index, 0)..=(index, u32::MAX)).peekable();
        if wanted.peek().is_none() {
            continue;
        }
        let mut next = wanted.next();
        for (number, line) in (1u32..).zip(text.bytes().split(|&byte| byte == b'\n')) {
            let Some(((_, wanted_line), slot)) = &mut next else { break };
            if *wanted_line == number {
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
                **slot = line
                    .chars()
                    .take(SNIPPET_CHARS_MAX)
                    .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
                    .collect();
                next = wanted.next();
            }
        }
    }
    found
}
