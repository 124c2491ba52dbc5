//! What probes run by hand saw: a table.

use super::table::{Cell, Tone, table};
use super::{members, plain, text};
use serde_json::Value;

/// One row a run, those that failed in red.
pub(in super::super) fn probes(items: &[Value]) -> String {
    if items.is_empty() {
        return "no probes\n".to_owned();
    }
    let rows: Vec<Vec<Cell>> = items.iter().map(row).collect();
    table(
        &["REGION", "ENDPOINT", "PROBE", "RESULT", "TOOK", "SAYS IT IS", "WHAT IT SAW"],
        &rows,
    )
}

/// One run.
fn row(item: &Value) -> Vec<Cell> {
    let (endpoint, address) = (text(item, "endpoint"), text(item, "address"));
    let place = match address.is_empty() || address == endpoint {
        true => endpoint,
        false => format!("{endpoint} at {address}"),
    };
    let app = text(item, "app");
    let region = match app.as_str() {
        // One that is not configured has neither.
        "none" => "-".to_owned(),
        _ => format!("{app}/{}", text(item, "region")),
    };
    let counting = if item["counting"] == false { " (not counted)" } else { "" };
    let observed = text(item, "observed");
    let values: String = members(item, "values")
        .map(|(name, number)| format!(" {name}={}", plain(number)))
        .collect();
    vec![
        Cell::plain(region),
        Cell::new(Tone::Strong, place),
        Cell::plain(format!("{} {}{counting}", text(item, "number"), text(item, "kind"))),
        match item["passed"].as_bool() {
            Some(true) => Cell::new(Tone::Good, "pass"),
            Some(false) => Cell::new(Tone::Bad, "FAIL"),
            None => Cell::plain("-"),
        },
        Cell::plain(format!("{:.0} ms", item["took_seconds"].as_f64().unwrap_or(0.0) * 1000.0)),
        Cell::plain(if observed == "none" { String::new() } else { observed }),
        Cell::plain(format!("{}{values}", text(item, "message"))),
    ]
}
