//! What readers are shown: the published view as JSON. Pure: a view and a reading of the clocks in, values out.

use super::probes;
use crate::control::{Alert, AlertKey, Published, Serving};
use crate::health::TargetStatus;
use crate::model::{Decision, Endpoint, HealthSource, Name, Now, Observed, RegionHealth, RegionId, SteeredName};
use crate::role::{self, Proposal};
use crate::steering::{AlertKind, Explanation};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Most alerts that the status lists; a bad night with 100,000 names must stay readable. The metrics have them all.
const ALERTS_SHOWN_MAX: usize = 100;

/// `GET /v1/status`.
pub(super) fn status(view: &Published) -> Value {
    let away = |name: &Name| view.state.name(name).is_some_and(|known| known.active != known.home);
    let names = &view.config.fleet.names;
    let alerts: Vec<&Alert> = view.alerts.values().map(Arc::as_ref).take(ALERTS_SHOWN_MAX).collect();
    json!({
        "node": view.config.node.name,
        "version": env!("CARGO_PKG_VERSION"),
        "generation": view.generation,
        "seq": view.seq,
        "hash": view.head,
        "serving": serving(&view.serving),
        "names": {
            "total": names.len(),
            "away_from_home": names.keys().filter(|name| away(name)).count(),
            "fail_open": view.decisions.values().filter(|decision| decision.reason.is_fail_open()).count(),
        },
        "proposals_open": view.state.proposals().count(),
        "alerts": alerts,
        "alerts_total": view.alerts.len(),
        "evacuated": view.state.evacuated().collect::<Vec<_>>(),
    })
}

/// Which config is served.
fn serving(serving: &Serving) -> Value {
    match serving {
        Serving::Current => json!({ "state": "current", "errors": [] }),
        Serving::LastGood { errors } => json!({ "state": "last-good", "errors": errors }),
        Serving::AnswerOnly { why } => json!({ "state": "answer-only", "errors": [], "why": why }),
    }
}

/// Why the node is not ready; none when it is.
pub(super) fn not_ready(view: &Published) -> Option<String> {
    let refused = AlertKey {
        alert: AlertKind::ReloadRefused,
        name: None,
    };
    match &*view.serving {
        Serving::Current => view.alerts.get(&refused).map(|alert| alert.message.clone()),
        Serving::LastGood { errors } => Some(format!(
            "the last accepted config is served instead of today's; mend what is wrong and reload: {}",
            errors.join("; ")
        )),
        Serving::AnswerOnly { why } => Some(format!("answering only, no change is taken: {why}")),
    }
}

/// One item of `GET /v1/names`.
pub(super) fn name(view: &Published, now: Now, steered: &SteeredName) -> Value {
    let known = view.state.name(&steered.name);
    let (mut roles, mut health) = (Map::new(), Map::new());
    for region in &steered.order {
        roles.insert(region.to_string(), region_role(view, steered, region));
        health.insert(region.to_string(), region_health(view, now, steered, region));
    }
    json!({
        "name": steered.name,
        "app": steered.app.id,
        "paired": steered.paired,
        "failover": steered.app.failover.as_str(),
        "active": known.map(|known| &known.active),
        "home": known.map(|known| &known.home),
        "version": known.map(|known| known.version),
        "roles": roles,
        "health": health,
        "answer": view.decisions.get(&steered.name).map(|decision| answer(decision)),
        "generation": view.generation,
        "seq": view.seq,
        "proposal": known.and_then(|known| known.proposal),
    })
}

/// Role and marks of a region at a name.
fn region_role(view: &Published, steered: &SteeredName, region: &RegionId) -> Value {
    let known = view.state.name(&steered.name);
    let is_active = known.is_some_and(|known| known.active == *region);
    json!({
        "role": if is_active { "active" } else { "passive" },
        "drained": known.is_some_and(|known| known.drained.contains(region)),
        "evacuated": view.state.evacuated_by(region).is_some(),
        "left": known.is_some_and(|known| known.left.contains(region)),
        "stays": known.is_some_and(|known| known.stays.as_ref() == Some(region)),
    })
}

/// What the probes say of a region.
fn region_health(view: &Published, now: Now, steered: &SteeredName, region: &RegionId) -> Value {
    let status = view.health.region(&steered.app.id, region);
    json!({
        "health": status.map_or(RegionHealth::Unknown, |status| status.health),
        "reason": status.map_or("not probed", |status| &status.reason),
        "age_seconds": status.and_then(|status| Some(now.mono.since(status.evidence_at?).as_secs_f64())),
        "observed": status.map_or(Observed::None, |status| status.observed),
    })
}

/// What a decision answers.
fn answer(decision: &Decision) -> Value {
    json!({
        "region": decision.region,
        "reason": decision.reason,
        "ttl": decision.ttl,
        "records": decision.answer.records(),
    })
}

/// A decision of a dry run: the name with what it answers.
pub(super) fn decision(decision: &Decision) -> Value {
    json!({
        "name": decision.name,
        "region": decision.region,
        "reason": decision.reason,
        "ttl": decision.ttl,
        "records": decision.answer.records(),
    })
}

/// One item of `GET /v1/proposals`, with each gate's present word.
pub(super) fn proposal(view: &Published, now: Now, proposal: &Proposal) -> Value {
    let gates = view
        .config
        .fleet
        .names
        .get(&proposal.name)
        .map(|steered| role::gates(&view.state, steered, &proposal.to, &view.health, now));
    let mut value = json!(proposal);
    if let Value::Object(fields) = &mut value {
        fields.insert("gates".to_owned(), json!(gates.unwrap_or_default()));
    }
    value
}

/// `GET /v1/names/{name}/explain`: the explanation, its text, and the probes of each region.
pub(super) fn explanation(view: &Published, now: Now, explanation: &Explanation) -> Value {
    let targets = view.health.targets(&explanation.app);
    let mut value = json!(explanation);
    if let Some(regions) = value.get_mut("regions").and_then(Value::as_array_mut) {
        for (shown, region) in regions.iter_mut().zip(&explanation.regions) {
            let probes = targets.iter().filter(|one| one.target.region == region.region);
            let probes: Vec<Value> = probes.map(|one| probes::view(now, one)).collect();
            if let Value::Object(fields) = shown {
                fields.insert("probes".to_owned(), probes.into());
            }
        }
    }
    if let Value::Object(fields) = &mut value {
        fields.insert("text".to_owned(), text(&targets, now, explanation).into());
    }
    value
}

/// The explanation's text, with what each probe last said below its endpoint.
fn text(targets: &[TargetStatus<'_>], now: Now, explanation: &Explanation) -> String {
    explanation.text(&|region, endpoint| {
        let of = targets
            .iter()
            .filter(|one| one.target.region == *region && one.target.endpoint == *endpoint);
        let lines: Vec<String> = of.map(|one| probes::line(now, one, targets)).collect();
        match endpoint {
            Endpoint::Host(_) if lines.is_empty() => vec!["no look-up has given an address yet, so there is nothing to probe".to_owned()],
            _ => lines,
        }
    })
}
