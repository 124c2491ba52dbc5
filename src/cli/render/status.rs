//! `status`: all names in a table, or one name with its regions.

use super::table::{Cell, Tone, health_tone, paint, table};
use super::{age, count, is_set, join, list, members, plain, text};
use serde_json::Value;

/// Records shown in the overview before the rest is only counted.
const RECORDS_SHOWN: usize = 2;

/// The overview: the node, what is served, every name, open proposals, alerts.
pub(in super::super) fn overview(status: &Value, names: &[Value], proposals: &[Value]) -> String {
    let hash = text(status, "hash");
    let mut out = format!(
        "{}  version {}  generation {}  ledger {}:{}\n",
        paint(Tone::Strong, &text(status, "node")),
        text(status, "version"),
        text(status, "generation"),
        text(status, "seq"),
        hash.get(..12).unwrap_or(&hash),
    );
    out.push_str(&serving(status.get("serving").unwrap_or(&Value::Null)));
    let evacuated = list(status, "evacuated");
    if !evacuated.is_empty() {
        out.push_str(&paint(Tone::Warn, &format!("evacuated: {}", join(evacuated, ", "))));
        out.push('\n');
    }
    out.push('\n');
    if names.is_empty() {
        out.push_str("no steered names\n");
    } else {
        let rows: Vec<Vec<Cell>> = names.iter().map(row).collect();
        out.push_str(&table(&["NAME", "ACTIVE", "HEALTH", "OTHERS", "ANSWER", "TTL", "REASON"], &rows));
    }
    if !proposals.is_empty() {
        out.push_str(&format!(
            "\n{} (pointsman proposals)\n",
            paint(Tone::Warn, &count(proposals.len(), "open proposal"))
        ));
        for proposal in proposals {
            let [id, name, from, to] = ["id", "name", "from", "to"].map(|key| text(proposal, key));
            out.push_str(&format!("  {id}  {name}  {from} to {to}\n"));
        }
    }
    let total = status["alerts_total"]
        .as_u64()
        .and_then(|total| usize::try_from(total).ok())
        .unwrap_or(0);
    out.push_str(&alerts(list(status, "alerts"), total));
    out
}

/// What is served, when it is not today's config.
fn serving(serving: &Value) -> String {
    let state = text(serving, "state");
    let what = match state.as_str() {
        "" | "current" => return String::new(),
        "last-good" => "today's config cannot be served; the last accepted one is",
        "answer-only" => "the last published roles are answered and every change is refused",
        other => other,
    };
    let mut out = paint(Tone::Bad, what) + "\n";
    for error in list(serving, "errors").iter().chain(serving.get("why")) {
        for line in plain_lines(error) {
            out.push_str(&format!("  {line}\n"));
        }
    }
    out
}

/// The lines of a text that may have several.
fn plain_lines(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.lines().map(super::clean).collect(),
        other => vec![plain(other)],
    }
}

/// The alerts that last.
fn alerts(alerts: &[Value], total: usize) -> String {
    if alerts.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{}\n", paint(Tone::Bad, &count(total.max(alerts.len()), "alert")));
    for alert in alerts {
        let [kind, name, message, since] = ["alert", "name", "message", "since"].map(|key| text(alert, key));
        let name = if name.is_empty() { name } else { format!("  {name}") };
        let since = if since.is_empty() { since } else { format!(" (since {since})") };
        out.push_str(&format!("  {kind}{name}  {message}{since}\n"));
    }
    if total > alerts.len() {
        out.push_str(&format!(
            "  and {} more (pointsman_alert in the metrics has all)\n",
            total - alerts.len()
        ));
    }
    out
}

/// One name in the overview.
fn row(name: &Value) -> Vec<Cell> {
    let (active, home) = (text(name, "active"), text(name, "home"));
    let away = !home.is_empty() && home != active;
    let others: Vec<String> = members(name, "roles")
        .filter(|(region, _)| **region != active)
        .map(|(region, role)| {
            [region.clone(), health(name, region)]
                .into_iter()
                .chain(marks(role))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    let answer = name.get("answer").unwrap_or(&Value::Null);
    let state = region_health(name, &active);
    vec![
        Cell::new(Tone::Strong, text(name, "name")),
        Cell::new(
            if away { Tone::Warn } else { Tone::Plain },
            if away { format!("{active} (home {home})") } else { active.clone() },
        ),
        Cell::new(health_tone(&state), health(name, &active)),
        Cell::plain(others.join(", ")),
        Cell::plain(records(answer, RECORDS_SHOWN)),
        Cell::plain(ttl(answer)),
        Cell::new(reason_tone(&text(answer, "reason")), text(answer, "reason")),
    ]
}

/// The records of an answer, the first few of them.
fn records(answer: &Value, most: usize) -> String {
    let records = list(answer, "records");
    let (shown, rest) = records.split_at(most.min(records.len()));
    let mut out = if records.is_empty() {
        "nothing".to_owned()
    } else {
        join(shown, " ")
    };
    if !rest.is_empty() {
        out.push_str(&format!(" +{}", rest.len()));
    }
    out
}

/// The TTL with its unit.
fn ttl(answer: &Value) -> String {
    answer.get("ttl").map_or(String::new(), |ttl| format!("{}s", plain(ttl)))
}

/// The tone of an answer's reason.
fn reason_tone(reason: &str) -> Tone {
    match reason {
        "healthy" => Tone::Plain,
        _ if reason.starts_with("all-down") => Tone::Bad,
        _ => Tone::Warn,
    }
}

/// The health of a region for a name: one word.
fn region_health(name: &Value, region: &str) -> String {
    name.get("health")
        .and_then(|health| health.get(region))
        .map_or(String::new(), |health| text(health, "health"))
}

/// The health of a region with the age of its evidence.
fn health(name: &Value, region: &str) -> String {
    let Some(health) = name.get("health").and_then(|health| health.get(region)) else {
        return "unknown".to_owned();
    };
    let state = text(health, "health");
    match health.get("age_seconds").and_then(Value::as_f64) {
        Some(seconds) => format!("{state} {}", age(seconds)),
        None => state,
    }
}

/// The marks of a region.
fn marks(role: &Value) -> Vec<String> {
    ["drained", "evacuated", "left", "stays"]
        .into_iter()
        .filter(|mark| is_set(role, mark))
        .map(str::to_owned)
        .collect()
}

/// One name with all its regions.
pub(in super::super) fn name(item: &Value) -> String {
    let [name, app, active, home, version] = ["name", "app", "active", "home", "version"].map(|key| text(item, key));
    let answer = item.get("answer").unwrap_or(&Value::Null);
    let mut out = format!("{}  ({app})\n", paint(Tone::Strong, &name));
    out.push_str(&format!("  answers   {}  TTL {}\n", records(answer, usize::MAX), ttl(answer)));
    let reason = text(answer, "reason");
    out.push_str(&format!("  because   {}\n", paint(reason_tone(&reason), &reason)));
    out.push_str(&format!("  active    {active}  (home {home}, version {version})\n"));
    match item.get("proposal") {
        None | Some(Value::Null) => {}
        Some(proposal) => {
            let id = proposal.get("id").map_or_else(|| plain(proposal), plain);
            out.push_str(&paint(
                Tone::Warn,
                &format!("  proposal  {id} waits for you (pointsman proposals)\n"),
            ));
        }
    }
    let rows: Vec<Vec<Cell>> = members(item, "roles")
        .map(|(region, role)| region_row(item, region, role))
        .collect();
    let regions = table(&["REGION", "ROLE", "HEALTH", "SAYS IT IS", "MARKS", "REASON"], &rows);
    out.push('\n');
    for line in regions.lines() {
        out.push_str(&format!("  {line}\n"));
    }
    out
}

/// One region of a name.
fn region_row(item: &Value, region: &str, role: &Value) -> Vec<Cell> {
    let known = item.get("health").and_then(|health| health.get(region)).unwrap_or(&Value::Null);
    let observed = text(known, "observed");
    let says = if observed == "none" { String::new() } else { observed };
    let odd = !says.is_empty() && says != text(role, "role");
    vec![
        Cell::new(Tone::Strong, region),
        Cell::plain(text(role, "role")),
        Cell::new(health_tone(&text(known, "health")), health(item, region)),
        Cell::new(if odd { Tone::Bad } else { Tone::Plain }, says),
        Cell::new(Tone::Warn, marks(role).join(", ")),
        Cell::plain(text(known, "reason")),
    ]
}
