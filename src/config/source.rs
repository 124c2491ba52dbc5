//! Text with positions, and the list of findings about it.
//!
//! Owns the way from a byte offset to `file:line:column` (both from 1, columns in characters) and the
//! collector that every reader and check of this module writes to. Findings keep the order in which they
//! were made until [`Findings::finish`] sorts them by place. Deliberately absent: any rule about the
//! content.

use crate::model::{Diagnostic, Location};

/// Octets of the text that something covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Span {
    /// First octet.
    pub(super) start: usize,
    /// Octet after the last.
    pub(super) end: usize,
}

impl From<std::ops::Range<usize>> for Span {
    fn from(range: std::ops::Range<usize>) -> Span {
        Span {
            start: range.start,
            end: range.end,
        }
    }
}

/// A value and where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct At<T> {
    /// The value.
    pub(super) value: T,
    /// Its place.
    pub(super) span: Span,
}

impl<T> At<T> {
    /// Puts a value and its place together.
    pub(super) fn new(value: T, span: Span) -> At<T> {
        At { value, span }
    }
}

/// A text and where its lines begin.
#[derive(Debug)]
pub(super) struct SourceText {
    /// The file as the user named it.
    pub(super) path: String,
    /// The whole text.
    pub(super) text: String,
    /// Offset of the first octet of each line.
    line_starts: Vec<usize>,
}

impl SourceText {
    /// Indexes the lines of a text.
    pub(super) fn new(path: &str, text: String) -> SourceText {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        SourceText {
            path: path.to_owned(),
            text,
            line_starts,
        }
    }

    /// The line (from 0) that an offset lies in; offsets past the end lie in the last.
    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Offset at which a line (from 0) begins.
    fn start_of(&self, line: usize) -> usize {
        self.line_starts.get(line).copied().unwrap_or(self.text.len())
    }

    /// A line (from 0) without its end.
    fn line(&self, line: usize) -> &str {
        let whole = self.text.get(self.start_of(line)..self.start_of(line + 1)).unwrap_or("");
        whole.trim_end_matches(['\n', '\r'])
    }

    /// The place of an offset.
    pub(super) fn locate(&self, offset: usize) -> Location {
        let line = self.line_of(offset);
        let before = self.text.as_bytes().get(self.start_of(line)..offset.min(self.text.len()));
        // Octets that continue a UTF-8 character are no columns of their own.
        let characters = before.unwrap_or(&[]).iter().filter(|byte| (**byte & 0xc0) != 0x80);
        Location {
            file: self.path.clone(),
            line: line + 1,
            column: characters.count() + 1,
        }
    }

    /// The line of an offset for people; none where it is empty or the offset stands too far right to be shown.
    pub(super) fn snippet(&self, offset: usize) -> Option<String> {
        let line = self.line(self.line_of(offset));
        let is_shown = !line.trim().is_empty() && self.locate(offset).column <= SNIPPET_CHARACTERS_MAX;
        is_shown.then(|| line.chars().take(SNIPPET_CHARACTERS_MAX).collect())
    }

    /// Where the key or table header at `offset` was first written in its own table, for TOML's `duplicate key`.
    pub(super) fn earlier_definition(&self, span: Span) -> Option<Location> {
        let at = self.line_of(span.start);
        let mine = self.line(at).trim();
        if mine.starts_with('[') {
            let earlier = (0..at).find(|line| self.line(*line).trim().starts_with(header_of(mine)))?;
            return Some(self.locate(self.start_of(earlier)));
        }
        let key = self.text.get(span.start..span.end)?;
        let same_table = (0..at).rev().take_while(|line| !self.line(*line).trim_start().starts_with('['));
        let mut defines = same_table.filter(|line| {
            let rest = self.line(*line).trim_start().strip_prefix(key);
            rest.is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
        });
        let earlier = defines.next()?;
        let indent = self.line(earlier).len() - self.line(earlier).trim_start().len();
        Some(self.locate(self.start_of(earlier) + indent))
    }
}

/// The table header at the start of a line, up to its last bracket.
fn header_of(line: &str) -> &str {
    let end = line.find(']').map_or(line.len(), |at| at + 1);
    line.get(..end).unwrap_or(line)
}

/// Longest line that is shown whole; longer ones are cut, a config line of a megabyte helps nobody.
const SNIPPET_CHARACTERS_MAX: usize = 200;

/// Collects findings about one text.
pub(super) struct Findings<'s> {
    /// The text.
    source: &'s SourceText,
    /// What was found so far.
    list: Vec<Diagnostic>,
    /// Whether the text is broken TOML, so that parts of it may be lost.
    broken: bool,
}

impl<'s> Findings<'s> {
    /// Nothing found yet.
    pub(super) fn new(source: &'s SourceText) -> Findings<'s> {
        Findings {
            source,
            list: Vec::new(),
            broken: false,
        }
    }

    /// From now on nothing is reported as absent: what is not there may have been lost to a syntax error.
    pub(super) fn text_is_broken(&mut self) {
        self.broken = true;
    }

    /// Adds an error about something that is not there.
    pub(super) fn absent(&mut self, span: Span, message: impl Into<String>) -> Note<'_> {
        if self.broken {
            return Note {
                source: self.source,
                finding: None,
            };
        }
        self.error(span, message)
    }

    /// Adds an error; hints and second places are added to what is returned.
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) -> Note<'_> {
        self.push(span, Diagnostic::error(None, message))
    }

    /// Adds a warning.
    pub(super) fn warning(&mut self, span: Span, message: impl Into<String>) -> Note<'_> {
        self.push(span, Diagnostic::warning(None, message))
    }

    /// Gives a finding its place and its snippet, and adds it.
    pub(super) fn push(&mut self, span: Span, mut finding: Diagnostic) -> Note<'_> {
        finding.snippet = self.source.snippet(span.start).or(finding.snippet);
        finding.at = Some(self.source.locate(span.start));
        self.list.push(finding);
        Note {
            source: self.source,
            finding: self.list.last_mut(),
        }
    }

    /// The place of a span.
    pub(super) fn locate(&self, span: Span) -> Location {
        self.source.locate(span.start)
    }

    /// Everything found, in the order of the text; one finding is told once.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|one, other| one.at.cmp(&other.at));
        self.list.dedup();
        self.list
    }
}

/// The finding just added.
pub(super) struct Note<'f> {
    /// For the places of second labels.
    source: &'f SourceText,
    /// The finding.
    finding: Option<&'f mut Diagnostic>,
}

impl Note<'_> {
    /// Says what to do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(finding) = self.finding.as_mut() {
            finding.hint = Some(hint.into());
        }
        self
    }

    /// Leaves out the line, because it holds a secret.
    pub(super) fn without_snippet(mut self) -> Self {
        if let Some(finding) = self.finding.as_mut() {
            finding.snippet = None;
        }
        self
    }

    /// Shows a second place of the same text.
    pub(super) fn related(mut self, span: Span, label: &str) -> Self {
        let at = self.source.locate(span.start);
        if let Some(finding) = self.finding.as_mut() {
            finding.related = Some((at, label.to_owned()));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let source = SourceText::new("f", "a\nbüc = 1\n".to_owned());
        let place = |offset| {
            let at = source.locate(offset);
            (at.line, at.column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(2), (2, 1));
        assert_eq!(place(5), (2, 3), "ü is one column");
        assert_eq!(place(9_999).0, 3, "past the end is the last line");
    }

    #[test]
    fn earlier_definitions_are_looked_for_in_the_same_table_only() {
        let text = "[a]\nx = 1\n[b]\ny = 1\ny = 2\nx = 3\n[a]\n";
        let source = SourceText::new("f", text.to_owned());
        let line = |needle: &str, nth: usize| {
            let (start, found) = text.match_indices(needle).nth(nth).unwrap();
            source.earlier_definition((start..start + found.len()).into()).map(|at| at.line)
        };
        assert_eq!(line("y", 1), Some(4));
        assert_eq!(line("x", 1), None);
        assert_eq!(line("a", 1), Some(1));
    }
}
