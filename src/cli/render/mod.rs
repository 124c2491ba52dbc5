//! From the API's JSON to text for people: pure functions, one file a subject.
//!
//! They take what they find and leave out what they do not: an older or newer server is shown as far as it can be. Text of others
//! (reasons, messages, names) is stripped of control characters, so that a ledger entry cannot write to the terminal.
//! Colour is always there; whoever prints takes it away where the output is no terminal.

mod body;
mod change;
mod event;
mod history;
mod ledger;
mod probes;
mod proposals;
mod status;
mod table;
#[cfg(test)]
mod tests;

pub(super) use body::{body_names, sentence};
pub(super) use change::{dry_run, error, now_answered, receipt, refusal, warnings};
pub(super) use event::event;
pub(super) use history::history;
pub(super) use ledger::{actor, entry, log};
pub(super) use probes::probes;
pub(super) use proposals::proposals;
pub(super) use status::{name, overview};

use crate::model::show_duration;
use serde_json::Value;
use std::time::Duration;

/// The text of a member, safe for a terminal; empty when it is missing.
pub(super) fn text(value: &Value, key: &str) -> String {
    plain(value.get(key).unwrap_or(&Value::Null))
}

/// A value as text, safe for a terminal; null is empty.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

/// One line without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Lines without control characters.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

/// The elements of a member.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The members of a member.
fn members<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// Whether a member is true.
pub(super) fn is_set(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// An age in seconds for people.
fn age(seconds: f64) -> String {
    // An age beyond all measure is shown as what fits; `as` saturates.
    show_duration(Duration::from_secs(seconds.max(0.0) as u64))
}

/// `1 name`, `2 names`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// Words of a list, separated by `between`.
fn join(values: &[Value], between: &str) -> String {
    values.iter().map(plain).collect::<Vec<_>>().join(between)
}
