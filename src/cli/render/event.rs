//! `watch`: one line an event.

use super::table::{Tone, health_tone, paint};
use super::{actor, is_set, join, list, plain, sentence, text};
use serde_json::Value;

/// One event as a line, without a line feed.
pub(in super::super) fn event(kind: &str, data: &Value) -> String {
    let kind = if kind.is_empty() || kind == "message" {
        text(data, "event")
    } else {
        super::clean(kind)
    };
    let time = paint(Tone::Dim, &text(data, "time"));
    let said = match kind.as_str() {
        "entry" => entry(data.get("entry").unwrap_or(data)),
        "answer" => answer(data.get("decision").unwrap_or(data)),
        "health" => {
            let [app, region, from, to, reason] = ["app", "region", "from", "to", "reason"].map(|key| text(data, key));
            let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
            format!("{app} {region}  {from} to {}{reason}", paint(health_tone(&to), &to))
        }
        "alert" => {
            let [alert, name, message] = ["alert", "name", "message"].map(|key| text(data, key));
            let about = if name.is_empty() { alert } else { format!("{alert} {name}") };
            if is_set(data, "raised") {
                format!("{}  {message}", paint(Tone::Bad, &about))
            } else {
                format!("{}  over: {message}", paint(Tone::Good, &about))
            }
        }
        "missed" => format!(
            "{} events passed while this client was busy; what was recorded stands in the ledger",
            text(data, "missed")
        ),
        _ => plain(data),
    };
    format!("{time}  {:<7} {said}", kind)
}

/// An entry of the ledger.
fn entry(entry: &Value) -> String {
    format!(
        "{}  {}  by {}: {}",
        text(entry, "seq"),
        sentence(entry.get("body").unwrap_or(&Value::Null)),
        actor(entry.get("actor").unwrap_or(&Value::Null)),
        text(entry, "reason")
    )
}

/// A new answer. The records are a list, or sorted by kind as a decision has them.
fn answer(decision: &Value) -> String {
    let records = match decision.get("answer") {
        _ if !list(decision, "records").is_empty() => join(list(decision, "records"), " "),
        Some(Value::Object(kinds)) => {
            let addresses = kinds.get("addresses").unwrap_or(&Value::Null);
            let both = [list(addresses, "v4"), list(addresses, "v6")].concat();
            kinds.get("host").map_or_else(|| join(&both, " "), plain)
        }
        Some(other) => plain(other).to_uppercase(),
        None => String::new(),
    };
    let [name, region, reason, ttl] = ["name", "region", "reason", "ttl"].map(|key| text(decision, key));
    let region = if region.is_empty() { region } else { format!("{region}, ") };
    format!("{}  {records} ({region}{reason}), TTL {ttl}s", paint(Tone::Strong, &name))
}
