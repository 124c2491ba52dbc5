//! `history NAME`: for every probe at every address a line of times, and below it when its verdict changed and why.

use super::table::{Tone, health_tone, paint};
use super::{count, list, text};
use serde_json::Value;

/// Marks from fast to slow.
const MARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The history of an application.
pub(in super::super) fn history(body: &Value) -> String {
    let items = list(body, "items");
    let mut out = format!(
        "{}  the last {} h; {}\n",
        paint(Tone::Strong, &text(body, "app")),
        text(body, "hours"),
        count(items.len(), "probe")
    );
    for item in items {
        out.push_str(&target(item));
    }
    if items.is_empty() {
        out.push_str("  nothing was observed since the start\n");
    }
    if body.get("next").is_some() {
        out.push_str("  and more: name a region with --region, or an endpoint with --endpoint\n");
    }
    out
}

/// One probe at one address.
fn target(item: &Value) -> String {
    let [region, endpoint, address, kind, probe] = ["region", "endpoint", "address", "kind", "probe"].map(|key| text(item, key));
    let at = if address == endpoint {
        String::new()
    } else {
        format!(" at {address}")
    };
    let runs = list(item, "runs");
    let sum = |key| runs.iter().filter_map(|run| run.get(key)?.as_u64()).sum::<u64>();
    let (passed, failed) = (sum("passed"), sum("failed"));
    let mut out = format!("\n  {}  {endpoint}{at}  {kind} (probe {probe})\n", paint(Tone::Strong, &region));
    out.push_str(&format!("    {}  {passed} passed, {failed} failed{}\n", line(runs), spread(runs)));
    for change in list(item, "changes") {
        let verdict = text(change, "verdict");
        out.push_str(&format!(
            "    {}  {}  {}\n",
            text(change, "time"),
            paint(health_tone(&verdict), &verdict),
            text(change, "message")
        ));
    }
    out
}

/// One mark a bucket, by its mean between the least and the most of all; a cross where runs only failed.
fn line(runs: &[Value]) -> String {
    let has_passed = |run: &&Value| run.get("passed").and_then(Value::as_u64).unwrap_or(0) > 0;
    let means: Vec<f64> = runs
        .iter()
        .filter(has_passed)
        .filter_map(|run| run.get("mean_seconds")?.as_f64())
        .collect();
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let most = means.iter().copied().fold(0.0, f64::max);
    runs.iter()
        .map(|run| match run.get("mean_seconds").and_then(Value::as_f64) {
            Some(mean) if has_passed(&run) => {
                let share = if most > least { (mean - least) / (most - least) } else { 0.0 };
                // Between 0 and 7 by its making; `as` saturates.
                let place = (share * 7.0).round() as usize;
                MARKS.get(place).copied().unwrap_or('█')
            }
            _ => '×',
        })
        .collect()
}

/// Least, mean and most of all runs that passed.
fn spread(runs: &[Value]) -> String {
    let number = |run: &Value, key: &str| run.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let passed: Vec<&Value> = runs.iter().filter(|run| number(run, "passed") > 0.0).collect();
    let all: f64 = passed.iter().map(|run| number(run, "passed")).sum();
    if all == 0.0 {
        return String::new();
    }
    let least = passed.iter().map(|run| number(run, "least_seconds")).fold(f64::INFINITY, f64::min);
    let most = passed.iter().map(|run| number(run, "most_seconds")).fold(0.0, f64::max);
    let mean = passed
        .iter()
        .map(|run| number(run, "passed") * number(run, "mean_seconds"))
        .sum::<f64>()
        / all;
    let p99 = passed.iter().map(|run| number(run, "p99_seconds")).fold(0.0, f64::max);
    format!("; {} to {}, mean {}, worst p99 {}", took(least), took(most), took(mean), took(p99))
}

/// A time for people: `1.2ms`, `2.05s`.
fn took(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1}ms", seconds * 1e3)
    } else {
        format!("{seconds:.2}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(passed: u64, failed: u64, mean: f64) -> Value {
        json!({ "passed": passed, "failed": failed, "least_seconds": mean / 2.0, "mean_seconds": mean, "p99_seconds": mean, "most_seconds": mean * 2.0 })
    }

    #[test]
    fn a_line_shows_fast_slow_and_failed() {
        assert_eq!(
            line(&[run(1, 0, 0.001), run(1, 0, 0.002), run(0, 3, 0.0), run(1, 0, 0.0015)]),
            "▁█×▅"
        );
        assert_eq!(line(&[run(1, 0, 0.002)]), "▁");
        assert_eq!(line(&[]), "");
    }

    #[test]
    fn a_history_is_readable() {
        let body = json!({ "app": "shop", "hours": 24, "next": 1, "items": [{
            "region": "iad", "endpoint": "192.0.2.10", "address": "192.0.2.10", "probe": 1, "kind": "http", "bucket_seconds": 1800,
            "runs": [run(10, 0, 0.001), run(9, 1, 0.003)],
            "changes": [{ "time": "2026-11-21T03:12:45.120Z", "verdict": "unhealthy", "message": "HTTP 503\u{1b}[2J" }],
        }]});
        let shown = anstream::adapter::strip_str(&history(&body)).to_string();
        assert!(
            shown.contains("iad  192.0.2.10  http (probe 1)\n    ▁█  19 passed, 1 failed; 0.5ms to 6.0ms, mean 1.9ms, worst p99 3.0ms"),
            "{shown}"
        );
        assert!(shown.contains("2026-11-21T03:12:45.120Z  unhealthy  HTTP 503 [2J"), "{shown}");
        assert!(shown.contains("and more"), "{shown}");
        assert!(history(&json!({ "app": "shop", "hours": 1, "items": [] })).contains("nothing was observed"));
        history(&Value::Null);
    }
}
