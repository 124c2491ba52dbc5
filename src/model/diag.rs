//! Findings about files that people write: where, what, and what to do about it.
//!
//! `config` and `zone` collect every finding of a load; `cli` and the logs print them. Positions count from 1;
//! columns count characters, not octets.

use serde::Serialize;
use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Served nevertheless.
    Warning,
    /// Nothing of the set is taken.
    Error,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Location {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Where; none for findings about the whole set.
    pub at: Option<Location>,
    /// What is wrong, one sentence without a final dot.
    pub message: String,
    /// The line of the file, for people.
    pub snippet: Option<String>,
    /// A second place with its label: `first defined here`.
    pub related: Option<(Location, String)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(at: Option<Location>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            at,
            message: message.into(),
            snippet: None,
            related: None,
            hint: None,
        }
    }

    /// A warning at a place.
    pub fn warning(at: Option<Location>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(at, message)
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn related(mut self, at: Location, label: impl Into<String>) -> Diagnostic {
        self.related = Some((at, label.into()));
        self
    }

    /// Adds the line of the file.
    #[must_use]
    pub fn snippet(mut self, line: impl Into<String>) -> Diagnostic {
        self.snippet = Some(line.into());
        self
    }

    /// `file:line:col: error: message`.
    pub fn headline(&self) -> String {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match &self.at {
            Some(at) => format!("{at}: {word}: {}", self.message),
            None => format!("{word}: {}", self.message),
        }
    }

    /// Whether it keeps the set from being taken.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:col: error: message`, then the snippet with a mark, the second place and the hint, each on its own line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        if let (Some(line), Some(at)) = (&self.snippet, &self.at) {
            let pad: String = line
                .chars()
                .take(at.column.saturating_sub(1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n    | {line}\n    | {pad}^")?;
        }
        if let Some((place, label)) = &self.related {
            write!(f, "\n    = {label}: {place}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n    = hint: {hint}")?;
        }
        Ok(())
    }
}
