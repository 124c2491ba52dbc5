//! `explain NAME`: what is answered, why, what each gate says about a switch to each region, what the policy waits for, and how long
//! the worst case takes (promise 8). One structure for scripts, and its text for people.

use super::decide::{decide, verdict};
use super::{Alert, WorstCase, alerts, worst_case};
use crate::model::{
    AppId, Decision, Endpoint, EndpointStatus, GateWord, HealthSource, Name, Now, Observed, RegionHealth, RegionId, Seq, SteeredName, Wall,
    show_duration,
};
use crate::role::{Proposal, State, Watch, gates};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Everything about one steered name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The name.
    pub name: Name,
    /// Its application.
    pub app: AppId,
    /// The region that it is paired with; none for a main name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paired: Option<RegionId>,
    /// Its policy.
    pub failover: &'static str,
    /// The active region.
    pub active: RegionId,
    /// The region that the last operator chose.
    pub home: RegionId,
    /// The entry that changed its roles last: what `--expect-seq` takes.
    pub version: Seq,
    /// What is answered.
    pub answer: Decision,
    /// The answer's reason in a sentence.
    pub because: &'static str,
    /// The records answered.
    pub records: Vec<String>,
    /// Its regions in order of preference.
    pub regions: Vec<RegionExplanation>,
    /// The open proposal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Proposal>,
    /// What the policy is waiting for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Wait>,
    /// What is worth an alert.
    pub alerts: Vec<Alert>,
    /// How long it may take from a failure to the last client.
    pub worst_case: WorstCase,
}

/// One region of a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RegionExplanation {
    /// The region.
    pub region: RegionId,
    /// `active` or `passive`.
    pub role: &'static str,
    /// Marks: `drained`, `evacuated`, `left`, `stays`.
    pub marks: Vec<&'static str>,
    /// Its health.
    pub health: RegionHealth,
    /// Why.
    pub reason: String,
    /// Since how many seconds its health is what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<f64>,
    /// Age of the latest evidence, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<f64>,
    /// What the application there says it is.
    pub observed: Observed,
    /// Its endpoints with their verdicts.
    pub endpoints: Vec<EndpointStatus>,
    /// What each gate says about a switch there; empty for the active region.
    pub gates: Vec<GateWord>,
}

/// What a policy is waiting for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wait {
    /// Where it will move the name.
    pub to: RegionId,
    /// When.
    pub until: Wall,
    /// In how many seconds.
    pub seconds: f64,
    /// Why, and why not yet.
    pub why: String,
}

/// Explains a name.
pub fn explain(steered: &SteeredName, state: &State, health: &dyn HealthSource, watch: &Watch, now: Now) -> Explanation {
    let decision = decide(steered, state, health, now);
    let known = state.name(&steered.name);
    let regions = steered
        .order
        .iter()
        .map(|region| explain_region(steered, state, health, now, region, &decision));
    Explanation {
        name: steered.name.clone(),
        app: steered.app.id.clone(),
        paired: steered.paired.clone(),
        failover: steered.app.failover.as_str(),
        active: decision.active.clone(),
        home: known.map_or_else(|| decision.active.clone(), |known| known.home.clone()),
        version: known.map_or(Seq::default(), |known| known.version),
        because: decision.reason.sentence(),
        records: decision.answer.records(),
        regions: regions.collect(),
        proposal: known.and_then(|known| state.proposal(known.proposal?)).cloned(),
        waiting: explain_wait(steered, watch, now),
        alerts: alerts(steered, state, health, now, &decision),
        worst_case: worst_case(&steered.app),
        answer: decision,
    }
}

/// What the policy waits for, on the wall clock.
fn explain_wait(steered: &SteeredName, watch: &Watch, now: Now) -> Option<Wait> {
    let waiting = watch.waiting(&steered.name)?;
    let left = waiting.until.since(now.mono);
    Some(Wait {
        to: waiting.to.clone(),
        until: now.plus(left).wall,
        seconds: left.as_secs_f64(),
        why: waiting.why.clone(),
    })
}

/// Explains one region of a name.
fn explain_region(
    steered: &SteeredName,
    state: &State,
    health: &dyn HealthSource,
    now: Now,
    region: &RegionId,
    decision: &Decision,
) -> RegionExplanation {
    let is_active = *region == decision.active;
    let known = state.name(&steered.name);
    let marks = [
        ("drained", known.is_some_and(|known| known.drained.contains(region))),
        ("evacuated", state.evacuated_by(region).is_some()),
        ("left", known.is_some_and(|known| known.left.contains(region))),
        ("stays", known.is_some_and(|known| known.stays.as_ref() == Some(region))),
    ];
    let status = health.region_of(steered, region);
    let endpoints = steered.app.endpoints_of(region).iter().map(|endpoint| EndpointStatus {
        endpoint: endpoint.clone(),
        verdict: verdict(status, endpoint),
    });
    RegionExplanation {
        region: region.clone(),
        role: if is_active { "active" } else { "passive" },
        marks: marks.into_iter().filter(|(_, set)| *set).map(|(mark, _)| mark).collect(),
        health: status.map_or(RegionHealth::Unknown, |status| status.health),
        reason: status.map_or("not probed".to_owned(), |status| status.reason.clone()),
        since_seconds: status.map(|status| now.mono.since(status.since).as_secs_f64()),
        age_seconds: status.and_then(|status| Some(now.mono.since(status.evidence_at?).as_secs_f64())),
        observed: status.map_or(Observed::None, |status| status.observed),
        endpoints: endpoints.collect(),
        gates: if is_active {
            Vec::new()
        } else {
            gates(state, steered, region, health, now)
        },
    }
}

/// Seconds for people.
fn show_seconds(seconds: f64) -> String {
    show_duration(Duration::from_secs(seconds.max(0.0) as u64))
}

impl Explanation {
    /// The text for people; `probes` gives the lines on what the probes last said of an endpoint in a region.
    pub fn text(&self, probes: &dyn Fn(&RegionId, &Endpoint) -> Vec<String>) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text, probes);
        text
    }

    /// Writes the text.
    fn write(&self, f: &mut dyn fmt::Write, probes: &dyn Fn(&RegionId, &Endpoint) -> Vec<String>) -> fmt::Result {
        let paired = self
            .paired
            .as_ref()
            .map_or(String::new(), |region| format!(", paired with {region}"));
        writeln!(f, "{}  ({}{paired}, failover {})", self.name, self.app, self.failover)?;
        writeln!(f, "  answers   {}  TTL {}s", self.records.join(" "), self.answer.ttl)?;
        writeln!(f, "  because   {} ({})", self.because, self.answer.reason.code())?;
        writeln!(f, "  active    {}  (home {}, version {})", self.active, self.home, self.version)?;
        if let Some(proposal) = &self.proposal {
            let (id, from, to) = (proposal.id, &proposal.from, &proposal.to);
            writeln!(f, "  proposal  {id}: {from} to {to}, opened {}", proposal.opened.wall)?;
        }
        if let Some(wait) = &self.waiting {
            writeln!(
                f,
                "  waiting   moves to {} in {}: {}",
                wait.to,
                show_seconds(wait.seconds),
                wait.why
            )?;
        }
        for alert in &self.alerts {
            writeln!(f, "  alert     {}: {}", alert.kind, alert.message)?;
        }
        for region in &self.regions {
            region.write(f, probes)?;
        }
        writeln!(f, "  worst case from failure to the last client: {}", self.worst_case.formula)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, &|_, _| Vec::new())
    }
}

impl RegionExplanation {
    /// Writes the text.
    fn write(&self, f: &mut dyn fmt::Write, probes: &dyn Fn(&RegionId, &Endpoint) -> Vec<String>) -> fmt::Result {
        let marks = self.marks.iter().map(|mark| format!(", {mark}")).collect::<String>();
        let since = self
            .since_seconds
            .map_or(String::new(), |since| format!(" since {}", show_seconds(since)));
        let reason = if self.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", self.reason)
        };
        let age = self
            .age_seconds
            .map_or("no evidence".to_owned(), |age| format!("evidence {} old", show_seconds(age)));
        writeln!(f, "  {}  {}{marks}; {}{since}{reason}; {age}", self.region, self.role, self.health)?;
        if self.observed != Observed::None {
            writeln!(f, "      the application says that it is {}", self.observed.as_str())?;
        }
        for endpoint in &self.endpoints {
            writeln!(f, "      {}  {}", endpoint.endpoint, endpoint.verdict.as_str())?;
            for line in probes(&self.region, &endpoint.endpoint) {
                writeln!(f, "        {line}")?;
            }
        }
        for word in &self.gates {
            let pass = if word.pass { "pass" } else { "FAIL" };
            writeln!(f, "      {pass}  {:<18}  {}", word.gate, word.message)?;
        }
        Ok(())
    }
}
