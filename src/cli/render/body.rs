//! What an entry of the ledger says, in a sentence.
//!
//! Made from JSON, not from the library's own type, so that an entry of a newer server can be listed too.

use super::{clean, count, is_set, list, text};
use serde_json::Value;

/// One sentence.
pub(in super::super) fn sentence(body: &Value) -> String {
    let [kind, name, region, node] = ["kind", "name", "region", "node"].map(|key| text(body, key));
    match kind.as_str() {
        "started" => format!("{node} started, version {}", text(body, "version")),
        "stopped" => format!("{node} stopped"),
        "config-accepted" => {
            let sha256 = text(body, "sha256");
            format!(
                "config {} accepted{}",
                sha256.get(..12).unwrap_or(&sha256),
                if is_set(body, "forced") { ", forced" } else { "" }
            )
        }
        "name-added" => format!("{name} added, {} is active", text(body, "active")),
        "name-retired" => format!("{name} retired"),
        "region-removed" => format!("{region} taken from {name}"),
        "switched" | "moved" => {
            let mut out = movement(body);
            if let Some(id) = body.get("proposal").and_then(Value::as_u64) {
                out.push_str(&format!(", proposal {id} approved"));
            }
            if is_set(body, "left") {
                out.push_str(&format!(", {} is marked left", text(body, "from")));
            }
            out + &overridden(body)
        }
        "evacuated" => {
            let mut out = format!("{region} evacuated, {} moved", count(list(body, "moves").len(), "name"));
            let stay = list(body, "stay").len();
            if stay > 0 {
                out.push_str(&format!(", {stay} stayed"));
            }
            out + &overridden(body)
        }
        "restored" => format!("{region} restored"),
        "drained" => format!("{region} drained for {name}"),
        "undrained" => format!("{region} no longer drained for {name}"),
        "proposal-opened" => format!(
            "proposal {} opened: {name} from {} to {}",
            text(body, "id"),
            text(body, "from"),
            text(body, "to")
        ),
        "proposal-ended" => format!("proposal {} for {name} ended: {}", text(body, "id"), text(body, "end")),
        _ => clean(&body.to_string()),
    }
}

/// `failover of shop.example.net. from iad to fra`.
pub(super) fn movement(change: &Value) -> String {
    // The kind of a move stands under `move`, since `kind` is the entry's own.
    let kind = match text(change, "move") {
        kind if kind.is_empty() => "move".to_owned(),
        kind => kind,
    };
    format!(
        "{kind} of {} from {} to {}",
        text(change, "name"),
        text(change, "from"),
        text(change, "to")
    )
}

/// Which gates were overridden.
fn overridden(body: &Value) -> String {
    match list(body, "overridden") {
        [] => String::new(),
        gates => {
            // Without a list of its own it is all that moved.
            let of = match list(body, "forced").len() {
                0 => String::new(),
                names => format!(" for {names} of them"),
            };
            format!(", overriding {}{of}", super::join(gates, ", "))
        }
    }
}

/// The steered names that an entry is about.
pub(in super::super) fn body_names(body: &Value) -> Vec<String> {
    let own = body.get("name").and_then(Value::as_str).map(str::to_owned);
    let moved = list(body, "moves")
        .iter()
        .filter_map(|change| change.get("name")?.as_str())
        .map(str::to_owned);
    own.into_iter().chain(moved).collect()
}
