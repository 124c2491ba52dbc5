//! Aligned tables and colour.

use anstyle::{AnsiColor, Style};

/// How a text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Not at all.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Of little weight.
    Dim,
    /// A heading.
    Strong,
}

/// The text in its colour.
pub(super) fn paint(tone: Tone, text: &str) -> String {
    let style = match tone {
        Tone::Plain => return text.to_owned(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Warn => AnsiColor::Yellow.on_default(),
        Tone::Bad => AnsiColor::Red.on_default().bold(),
        Tone::Dim => Style::new().dimmed(),
        Tone::Strong => Style::new().bold(),
    };
    format!("{style}{text}{style:#}")
}

/// The tone of a health.
pub(super) fn health_tone(health: &str) -> Tone {
    match health {
        "healthy" => Tone::Good,
        "degraded" => Tone::Warn,
        "unhealthy" => Tone::Bad,
        _ => Tone::Dim,
    }
}

/// One cell.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub fn new(tone: Tone, text: impl Into<String>) -> Cell {
        Cell { text: text.into(), tone }
    }

    /// A cell without a tone.
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell::new(Tone::Plain, text)
    }
}

/// A table with two spaces between its columns; the last column is not filled up. Columns that are empty throughout are left out.
pub(super) fn table(heads: &[&str], rows: &[Vec<Cell>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let shown: Vec<(usize, &str, usize)> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| (column, *head, width(column)))
        .filter(|(_, _, width)| *width > 0)
        .map(|(column, head, width)| (column, head, width.max(head.chars().count())))
        .collect();
    let head: Vec<Cell> = heads.iter().map(|head| Cell::new(Tone::Strong, *head)).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut gap = 0;
        for (column, _, width) in &shown {
            let Some(cell) = row.get(*column) else { continue };
            if !cell.text.is_empty() {
                text.push_str(&" ".repeat(gap));
                text.push_str(&paint(cell.tone, &cell.text));
                gap = 0;
            }
            gap += width - cell.text.chars().count().min(*width) + 2;
        }
        text.push('\n');
    }
    text
}
