//! Changes: the receipt, what is answered now, a dry run, a refusal, an error.

use super::body::movement;
use super::table::{Tone, paint};
use super::{clean_lines, is_set, join, list, plain, sentence, text};
use crate::model::Gate;
use serde_json::Value;

/// The receipt of a change.
pub(in super::super) fn receipt(receipt: &Value) -> String {
    let proof = format!("{}:{}", text(receipt, "seq"), text(receipt, "hash"));
    if is_set(receipt, "changed") {
        format!("receipt   {proof}  generation {}\n", text(receipt, "generation"))
    } else {
        format!(
            "nothing to change: it is so already\nhead      {proof}  generation {}\n",
            text(receipt, "generation")
        )
    }
}

/// What a name answers now, and where it `moved` how long others may still say otherwise.
pub(in super::super) fn now_answered(item: &Value, moved: bool) -> String {
    let answer = item.get("answer").unwrap_or(&Value::Null);
    let name = paint(Tone::Strong, &text(item, "name"));
    if !moved {
        return format!("{name}  answers {}\n", answer_text(answer));
    }
    format!(
        "{name}  now answers {}; resolvers may keep the old answer for up to {}s\n",
        answer_text(answer),
        text(answer, "ttl"),
    )
}

/// `192.0.2.10 192.0.2.11 (fra, healthy), TTL 30s`.
fn answer_text(answer: &Value) -> String {
    let records = match join(list(answer, "records"), " ") {
        none if none.is_empty() => "nothing".to_owned(),
        records => records,
    };
    let why: Vec<String> = ["region", "reason"]
        .into_iter()
        .map(|key| text(answer, key))
        .filter(|text| !text.is_empty())
        .collect();
    format!("{records} ({}), TTL {}s", why.join(", "), text(answer, "ttl"))
}

/// What a change would do: the entries, each gate's word, the answers before and after.
pub(in super::super) fn dry_run(result: &Value) -> String {
    let would = list(result, "would");
    if would.is_empty() {
        return "dry run: nothing would change, it is so already\n".to_owned();
    }
    let mut out = "dry run, nothing was changed; it would record:\n".to_owned();
    for body in would {
        out.push_str(&format!("  {}\n", sentence(body)));
        for change in list(body, "moves") {
            out.push_str(&format!("    {}\n", movement(change)));
        }
        let gates = body.get("evidence").map_or(&[][..], |evidence| list(evidence, "gates"));
        out.push_str(&gate_words(gates, "    "));
    }
    let (before, after) = (list(result, "before"), list(result, "after"));
    if !after.is_empty() {
        out.push_str("answers\n");
    }
    for answer in after {
        let name = text(answer, "name");
        let then = answer_text(answer);
        out.push_str(&format!("  {}\n", paint(Tone::Strong, &name)));
        match before.iter().find(|before| text(before, "name") == name).map(answer_text) {
            Some(now) if now == then => out.push_str(&format!("    as before  {then}\n")),
            Some(now) => out.push_str(&format!("    before  {now}\n    after   {then}\n")),
            None => out.push_str(&format!("    after   {then}\n")),
        }
    }
    out
}

/// What each gate says, one a line.
pub(super) fn gate_words(gates: &[Value], indent: &str) -> String {
    let line = |word: &Value| {
        let (tone, said) = if is_set(word, "pass") {
            (Tone::Good, "pass")
        } else {
            (Tone::Bad, "FAIL")
        };
        format!(
            "{indent}{}  {:<18}  {}\n",
            paint(tone, said),
            text(word, "gate"),
            text(word, "message")
        )
    };
    gates.iter().map(line).collect()
}

/// Every gate that refused, and what may be done about it. `overrides` says whether the command takes `--override` itself.
pub(in super::super) fn refusal(error: &Value, overrides: bool) -> Option<String> {
    let refusals = list(error.get("detail")?, "refusals");
    if refusals.is_empty() {
        return None;
    }
    let mut out = format!("{}; nothing was changed\n", paint(Tone::Bad, "refused"));
    let mut open: Vec<Gate> = Vec::new();
    let mut closed = false;
    for refusal in refusals {
        let name = match text(refusal, "name") {
            name if name.is_empty() => name,
            name => format!("{name}: "),
        };
        out.push_str(&format!("  {:<18}  {name}{}\n", text(refusal, "gate"), text(refusal, "message")));
        match Gate::parse(&text(refusal, "gate")) {
            Some(gate) if gate.is_overridable() && !open.contains(&gate) => open.push(gate),
            Some(gate) if gate.is_overridable() => {}
            _ => closed = true,
        }
    }
    let flags: Vec<String> = open.iter().map(|gate| format!("--override {gate}")).collect();
    out.push_str(&match (flags.is_empty(), closed, overrides) {
        (true, _, _) => "None of these can be overridden.\n".to_owned(),
        (false, true, _) => format!(
            "Of these only {} could be overridden; the others must be met first.\n",
            names(&open)
        ),
        (false, false, true) => format!("To go ahead all the same, on the record: {}\n", flags.join(" ")),
        (false, false, false) => format!(
            "To go ahead all the same, on the record: pointsman switch NAME --to REGION --reason TEXT {}\n",
            flags.join(" ")
        ),
    });
    Some(out)
}

/// `target-healthy, cooldown`.
fn names(gates: &[Gate]) -> String {
    gates.iter().map(|gate| gate.as_str()).collect::<Vec<_>>().join(", ")
}

/// What the server warns of beside a change that was made, or would be.
pub(in super::super) fn warnings(result: &Value) -> String {
    list(result, "warnings").iter().map(finding).collect()
}

/// An error of the API: its message and every finding.
pub(in super::super) fn error(body: &Value) -> String {
    let mut out = match text(body, "message") {
        none if none.is_empty() => plain(body) + "\n",
        message => message + "\n",
    };
    let findings = body.get("detail").map_or(&[][..], |detail| list(detail, "findings"));
    out.extend(findings.iter().map(finding));
    out
}

/// A finding, as the server puts it for people.
fn finding(finding: &Value) -> String {
    match finding.get("text").and_then(Value::as_str) {
        Some(text) => clean_lines(text),
        None => plain(finding) + "\n",
    }
}
