//! `ledger log` and `ledger show`.

use super::body::movement;
use super::change::gate_words;
use super::table::{Cell, Tone, health_tone, paint, table};
use super::{list, sentence, text};
use serde_json::Value;

/// Entries in a table.
pub(in super::super) fn log(entries: &[Value]) -> String {
    if entries.is_empty() {
        return "no entries\n".to_owned();
    }
    let row = |entry: &Value| {
        vec![
            Cell::new(Tone::Strong, text(entry, "seq")),
            Cell::new(Tone::Dim, text(entry, "time")),
            Cell::plain(actor(entry.get("actor").unwrap_or(&Value::Null))),
            Cell::plain(sentence(entry.get("body").unwrap_or(&Value::Null))),
            Cell::new(Tone::Dim, text(entry, "reason")),
        ]
    };
    let rows: Vec<Vec<Cell>> = entries.iter().map(row).collect();
    table(&["SEQ", "TIME", "WHO", "WHAT", "WHY"], &rows)
}

/// One entry with all it says.
pub(in super::super) fn entry(entry: &Value) -> String {
    let body = entry.get("body").unwrap_or(&Value::Null);
    let mut out = format!(
        "{}  {}\n",
        paint(Tone::Strong, &format!("entry {}", text(entry, "seq"))),
        sentence(body)
    );
    out.push_str(&format!("  time      {}\n", text(entry, "time")));
    out.push_str(&format!("  by        {}\n", actor(entry.get("actor").unwrap_or(&Value::Null))));
    out.push_str(&format!("  reason    {}\n", text(entry, "reason")));
    match text(entry, "request_id") {
        none if none.is_empty() => {}
        id => out.push_str(&format!("  request   {id}\n")),
    }
    for change in list(body, "moves") {
        out.push_str(&format!("  moved     {}\n", movement(change)));
    }
    for name in list(body, "stay") {
        out.push_str(&format!("  stayed    {}\n", super::plain(name)));
    }
    if let Some(evidence) = body.get("evidence") {
        for seen in list(evidence, "regions") {
            let [region, health, reason] = ["region", "health", "reason"].map(|key| text(seen, key));
            let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
            out.push_str(&format!("  seen      {region}  {}{reason}\n", paint(health_tone(&health), &health)));
        }
        out.push_str(&gate_words(list(evidence, "gates"), "  gate      "));
    }
    out.push_str(&format!("  previous  {}\n", text(entry, "prev")));
    out.push_str(&format!("  receipt   {}:{}\n", text(entry, "seq"), text(entry, "hash")));
    out
}

/// Who did it.
pub(in super::super) fn actor(actor: &Value) -> String {
    match text(actor, "by").as_str() {
        "uid" => match text(actor, "user") {
            none if none.is_empty() => format!("uid {}", text(actor, "uid")),
            user => format!("{user} (uid {})", text(actor, "uid")),
        },
        "token" => format!("{} (token)", text(actor, "name")),
        "local" => match text(actor, "claimed") {
            none if none.is_empty() => "local".to_owned(),
            user => format!("local, claims to be {user}"),
        },
        "" => super::plain(actor),
        by => by.to_owned(),
    }
}
