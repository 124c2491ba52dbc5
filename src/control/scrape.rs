//! The present state as metrics: made from the published snapshot at each scrape, so that metrics never disagree with it.

use super::types::Published;
use crate::model::{AppId, HealthSource, Name, Now, RegionId, SteeredName, Verdict};
use crate::role::State;
use crate::telemetry::{AlertSample, DnsCounters, EndpointSample, NameSample, RegionSample, Scrape, ValueSample};
use std::collections::BTreeSet;

/// Everything that lasts, for one scrape.
pub(super) fn scrape(published: &Published, dns: DnsCounters, now: Now) -> Scrape {
    let fleet = &published.config.fleet;
    let chosen = chosen_names(published);
    let mut scrape = Scrape {
        names_omitted: fleet.names.len() - chosen.len(),
        names: chosen
            .iter()
            .filter_map(|name| name_sample(published, fleet.names.get(*name)?))
            .collect(),
        proposals_open: published.state.proposals().count(),
        ledger_seq: published.seq.0,
        generation: published.generation.0,
        probes_discarded: published.health.discarded().map(|(why, count)| (why.as_str(), count)).collect(),
        dns: DnsCounters {
            answers: dns.answers.into_iter().filter(|(name, ..)| is_chosen(&chosen, name)).collect(),
            ..dns
        },
        ..Scrape::default()
    };
    // Applications of names that have series; a scrape must not grow with a hundred thousand applications.
    let apps: BTreeSet<&AppId> = chosen.iter().filter_map(|name| Some(&fleet.names.get(*name)?.app.id)).collect();
    for app in fleet.apps.values().filter(|app| apps.contains(&app.id)) {
        for region in &app.regions {
            let Some(status) = published.health.region(&app.id, region) else {
                continue;
            };
            let age_seconds = status.evidence_at.map(|at| now.mono.since(at).as_secs_f64());
            scrape.regions.push(RegionSample {
                app: app.id.clone(),
                region: region.clone(),
                health: status.health,
                age_seconds,
            });
            scrape.endpoints.extend(status.endpoints.iter().map(|endpoint| EndpointSample {
                app: app.id.clone(),
                region: region.clone(),
                endpoint: endpoint.endpoint.to_string(),
                up: match endpoint.verdict {
                    Verdict::Healthy => 1.0,
                    Verdict::Unhealthy => 0.0,
                    Verdict::Unknown => -1.0,
                },
            }));
        }
        for status in published.health.targets(&app.id) {
            let run = status.last.filter(|_| status.stale_verdict.is_none());
            scrape
                .values
                .extend(run.iter().flat_map(|run| &run.values).map(|(name, number)| ValueSample {
                    app: app.id.to_string(),
                    region: status.target.region.to_string(),
                    endpoint: status.target.address.to_string(),
                    probe: (status.target.probe + 1).to_string(),
                    value: name.to_string(),
                    number: *number,
                }));
        }
    }
    scrape.alerts = published
        .alerts
        .keys()
        .filter(|key| key.name.as_ref().is_none_or(|name| chosen.contains(name)))
        .map(|key| AlertSample {
            alert: key.alert.as_str(),
            name: key.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        })
        .collect();
    scrape
}

/// The names that get series: the first `metrics-names-max`, then as many that are away from home or have an alert.
fn chosen_names(published: &Published) -> BTreeSet<&Name> {
    let (fleet, max) = (&published.config.fleet, published.config.api.metrics_names_max);
    let mut chosen: BTreeSet<&Name> = fleet.names.keys().take(max).collect();
    if fleet.names.len() > max {
        let with_alert = published.alerts.keys().filter_map(|key| key.name.as_ref());
        let away = published
            .state
            .names()
            .filter(|(_, known)| known.active != known.home)
            .map(|(name, _)| name);
        for name in with_alert.chain(away).filter(|name| fleet.names.contains_key(name)) {
            if chosen.len() >= max.saturating_mul(2) {
                break;
            }
            chosen.insert(name);
        }
    }
    chosen
}

/// Whether a counted name has series.
fn is_chosen(chosen: &BTreeSet<&Name>, name: &str) -> bool {
    Name::parse(name).is_ok_and(|name| chosen.contains(&name))
}

/// Roles and answer of one name.
fn name_sample(published: &Published, steered: &SteeredName) -> Option<NameSample> {
    let known = published.state.name(&steered.name)?;
    let decision = published.decisions.get(&steered.name)?;
    let roles = steered
        .order
        .iter()
        .flat_map(|region| roles_of(&published.state, steered, &known.active, region))
        .collect();
    let answering = steered
        .order
        .iter()
        .map(|region| (region.clone(), decision.region.as_ref() == Some(region)))
        .collect();
    Some(NameSample {
        name: steered.name.clone(),
        roles,
        answering,
        fail_open: decision.reason.is_fail_open(),
    })
}

/// `active` or `passive`, and beside it `drained`.
fn roles_of(state: &State, steered: &SteeredName, active: &RegionId, region: &RegionId) -> Vec<(RegionId, &'static str)> {
    let mut roles = vec![(region.clone(), if region == active { "active" } else { "passive" })];
    if state.is_drained(&steered.name, region) {
        roles.push((region.clone(), "drained"));
    }
    roles
}
