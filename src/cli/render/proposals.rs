//! `proposals`: grouped by the region that is sick, with what was seen and each gate's word.

use super::change::gate_words;
use super::table::{Tone, health_tone, paint};
use super::{age, count, list, text};
use serde_json::Value;
use std::collections::BTreeMap;

/// All open proposals.
pub(in super::super) fn proposals(items: &[Value]) -> String {
    if items.is_empty() {
        return "no open proposals\n".to_owned();
    }
    let mut groups: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for item in items {
        groups.entry(text(item, "from")).or_default().push(item);
    }
    let mut out = String::new();
    for (region, items) in groups {
        out.push_str(&format!(
            "{}: {}\n",
            paint(Tone::Strong, &format!("away from {region}")),
            count(items.len(), "proposal")
        ));
        for item in &items {
            out.push_str(&proposal(item));
        }
        let ids: Vec<String> = items.iter().map(|item| text(item, "id")).collect();
        out.push_str(&format!("  pointsman approve {} --reason TEXT\n\n", ids.join(" ")));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// One proposal.
fn proposal(item: &Value) -> String {
    let [id, name, from, to, version, opened] = ["id", "name", "from", "to", "version", "opened"].map(|key| text(item, key));
    let mut out = format!(
        "  {}  {name}  {from} to {to}  (opened {opened}, version {version})\n",
        paint(Tone::Strong, &id)
    );
    let Some(evidence) = item.get("evidence") else { return out };
    for seen in list(evidence, "regions") {
        let health = text(seen, "health");
        let age = match seen.get("age_ms").and_then(Value::as_f64) {
            Some(age_ms) => format!("evidence {} old", age(age_ms / 1000.0)),
            None => "no evidence".to_owned(),
        };
        let says = match text(seen, "observed").as_str() {
            "" | "none" => String::new(),
            observed => format!("; says it is {observed}"),
        };
        let reason = match text(seen, "reason") {
            none if none.is_empty() => none,
            reason => format!(": {reason}"),
        };
        out.push_str(&format!(
            "      {}  {}{reason}; {age}{says}\n",
            text(seen, "region"),
            paint(health_tone(&health), &health)
        ));
    }
    // What the gates say now: the region may have been promoted, or have become sick, since the proposal was opened.
    out.push_str(&match list(item, "gates") {
        [] => gate_words(list(evidence, "gates"), "      "),
        now => gate_words(now, "      "),
    });
    out
}
