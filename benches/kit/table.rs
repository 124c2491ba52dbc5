//! Tables of medians: one row a server, one column a figure, several rounds in each cell.

use std::collections::BTreeMap;

/// Figures by row and column.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<String>,
    columns: Vec<(String, usize)>,
    cells: BTreeMap<(usize, usize), Vec<f64>>,
}

/// How the rounds of a cell become one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// The middle one.
    Median,
    /// The least: noise only adds.
    Least,
    /// The most.
    Most,
    /// All together: counts.
    Sum,
}

impl Fold {
    /// One figure of several.
    pub fn of(self, values: &[f64]) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match self {
            Fold::Sum => sorted.iter().sum(),
            Fold::Least => sorted.first().copied().unwrap_or(f64::NAN),
            Fold::Most => sorted.last().copied().unwrap_or(f64::NAN),
            Fold::Median if sorted.is_empty() => f64::NAN,
            Fold::Median if sorted.len().is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
            Fold::Median => sorted[middle],
        }
    }
}

impl Table {
    /// A table with these columns, each with its digits behind the point.
    pub fn new(columns: &[(&str, usize)]) -> Table {
        Table {
            columns: columns.iter().map(|(name, digits)| ((*name).to_owned(), *digits)).collect(),
            ..Table::default()
        }
    }

    /// Adds a figure of one round.
    pub fn add(&mut self, row: &str, column: &str, value: f64) {
        let row = self.rows.iter().position(|known| known == row).unwrap_or_else(|| {
            self.rows.push(row.to_owned());
            self.rows.len() - 1
        });
        let column = self.columns.iter().position(|(known, _)| known == column);
        self.cells
            .entry((row, column.expect("a column of the table")))
            .or_default()
            .push(value);
    }

    /// One figure of a cell; none where nothing was measured.
    pub fn figure(&self, row: &str, column: &str) -> Option<f64> {
        let row = self.rows.iter().position(|known| known == row)?;
        let column = self.columns.iter().position(|(known, _)| known == column)?;
        Some(fold(&self.columns[column].0).of(self.cells.get(&(row, column))?))
    }

    /// As Markdown, for people and for the README.
    pub fn markdown(&self) -> String {
        let mut lines = vec![
            std::iter::once("")
                .chain(self.columns.iter().map(|(name, _)| name.as_str()))
                .map(str::to_owned)
                .collect(),
        ];
        lines.extend(self.rows.iter().map(|row| {
            let figure = |(name, digits): &(String, usize)| {
                self.figure(row, name)
                    .map_or_else(|| "-".to_owned(), |figure| format!("{figure:.digits$}"))
            };
            std::iter::once(row.clone())
                .chain(self.columns.iter().map(figure))
                .collect::<Vec<String>>()
        }));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            let cells = line.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, width))| {
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
            text.push_str(&format!("| {} |\n", cells.collect::<Vec<_>>().join(" | ")));
            if number == 0 {
                let rule = widths.iter().enumerate().map(|(column, width)| match column {
                    0 => "-".repeat(width + 2),
                    _ => "-".repeat(width + 1) + ":",
                });
                text.push_str(&format!("|{}|\n", rule.collect::<Vec<_>>().join("|")));
            }
        }
        text
    }

    /// As JSON: every figure with every round.
    pub fn json(&self) -> serde_json::Value {
        let row = |(number, row): (usize, &String)| {
            let cells = self.columns.iter().enumerate().filter_map(|(column, (name, _))| {
                let rounds = self.cells.get(&(number, column))?;
                Some((
                    name.clone(),
                    serde_json::json!({ "figure": fold(name).of(rounds), "rounds": rounds }),
                ))
            });
            (row.clone(), serde_json::Value::Object(cells.collect()))
        };
        serde_json::Value::Object(self.rows.iter().enumerate().map(row).collect())
    }

    /// Prints it.
    pub fn print(&self, json: bool) {
        if json {
            println!("{:#}", self.json());
        } else {
            println!("{}", self.markdown());
        }
    }
}

/// How a column's rounds are folded: by its name, so that the table says it.
fn fold(column: &str) -> Fold {
    match column {
        "lost" | "wrong" | "noisy" => Fold::Sum,
        least if least.starts_with("least") => Fold::Least,
        most if most.starts_with("most") => Fold::Most,
        _ => Fold::Median,
    }
}
