//! Commands: what an operator asks for, judged against the present state. [`handle`] may refuse and changes nothing.
//!
//! The order in which a command is judged: is it well formed (`Invalid`), is there such a name, region or proposal
//! (`NotFound`, with the nearest name as a hint), is there anything to change (an empty batch), do the gates let it pass
//! (`Refused`, every gate that failed at once). At last the batch is folded into a copy of the state and *one-active* is
//! checked on the result, so no combination of rules can break promise 2.
//!
//! Choices made here:
//! - An override of a gate that can never be overridden is refused by that gate, also when the gate itself would pass: who
//!   asks for it has misunderstood, and is told before something happens.
//! - `evacuate` asks of each name only that it has a candidate. It is for the night when a region goes; `target-writable` and
//!   `cooldown` would hold back exactly then. What was observed goes into the evidence, the receipt warns of it
//!   ([`warnings`](super::warnings)), and alerts say it at once.
//! - `--leave` permits a name to stay, it does not ask for it: a name that has somewhere to go moves.
//! - An approval of a proposal that ended is refused by `expect`: the approver looked at something that has passed.

use super::gates::{Case, Expected, evidence, move_kind};
use super::nearest::nearest;
use super::state::{NameState, Proposal, State};
use crate::both::both;
use crate::model::{Actor, Body, Draft, Fleet, Gate, HealthSource, Move, Name, Now, ProposalEnd, RegionId, Seq, SteeredName};
use std::collections::BTreeSet;

/// A command with who gives it and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Who.
    pub actor: Actor,
    /// Why; mandatory.
    pub reason: String,
    /// The client's own id of this request.
    pub request_id: Option<String>,
    /// What.
    pub command: Command,
}

/// What an operator may ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make a region active at a name.
    Switch {
        /// The steered name.
        name: Name,
        /// The region.
        to: RegionId,
        /// The region thought active.
        expect: Option<RegionId>,
        /// The version of the name that was seen.
        expect_seq: Option<Seq>,
        /// Gates to override.
        overrides: BTreeSet<Gate>,
    },
    /// Mark a region and move every name away from it.
    Evacuate {
        /// The region.
        region: RegionId,
        /// Names that may stay if they have nowhere to go.
        leave: BTreeSet<Name>,
        /// Gates to override.
        overrides: BTreeSet<Gate>,
    },
    /// Clear a region's mark and every *left* mark of it.
    Restore {
        /// The region.
        region: RegionId,
    },
    /// Set a name's own mark on a region.
    Drain {
        /// The steered name.
        name: Name,
        /// The region.
        region: RegionId,
    },
    /// Clear a name's own mark and its *left* mark on a region.
    Undrain {
        /// The steered name.
        name: Name,
        /// The region.
        region: RegionId,
    },
    /// Do what a proposal says.
    Approve {
        /// Its number.
        id: u64,
    },
    /// End a proposal without doing it.
    Reject {
        /// Its number.
        id: u64,
    },
}

impl Command {
    /// The word for it: of the CLI, the API and the metrics.
    pub fn verb(&self) -> &'static str {
        match self {
            Command::Switch { .. } => "switch",
            Command::Evacuate { .. } => "evacuate",
            Command::Restore { .. } => "restore",
            Command::Drain { .. } => "drain",
            Command::Undrain { .. } => "undrain",
            Command::Approve { .. } => "approve",
            Command::Reject { .. } => "reject",
        }
    }

    /// The steered name that it is about, where it is about one.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Command::Switch { name, .. } | Command::Drain { name, .. } | Command::Undrain { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is not well formed.
    #[error("{0}")]
    Invalid(String),
    /// There is no such name, region or proposal.
    #[error("{0}")]
    NotFound(String),
    /// Gates refused it: every one that failed.
    #[error("{}", show_refusals(.0))]
    Refused(Vec<Refusal>),
}

/// One gate's no.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// The gate.
    pub gate: Gate,
    /// Why.
    pub message: String,
    /// The name concerned, where a command concerns several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

/// `refused: target-healthy: fra is …; cooldown: …`
fn show_refusals(refusals: &[Refusal]) -> String {
    let said = refusals.iter().map(|refusal| match &refusal.name {
        Some(name) => format!("{} ({name}): {}", refusal.gate, refusal.message),
        None => format!("{}: {}", refusal.gate, refusal.message),
    });
    format!("refused: {}", said.collect::<Vec<_>>().join("; "))
}

/// What drafts come to once they are recorded as the next entries.
#[derive(Debug, Clone)]
pub struct After {
    /// The state then.
    pub state: State,
    /// The names whose decision or policy they may change, in canonical order.
    pub touched: Vec<Name>,
}

/// Judges a command. The drafts, if any, are to be recorded in one batch; an empty batch means that everything is so already.
///
/// # Errors
/// [`Denied`], see there; nothing was changed.
pub fn handle(state: &State, fleet: &Fleet, health: &dyn HealthSource, now: Now, request: &Request) -> Result<Vec<Draft>, Denied> {
    let drafts = propose(state, fleet, health, now, request)?;
    check_one_active(state, fleet, now, &drafts)?;
    Ok(drafts)
}

/// All of [`handle`] but its last step, [`check_one_active`], which gives the state too: nothing may be recorded before that.
///
/// # Errors
/// As [`handle`].
pub fn propose(state: &State, fleet: &Fleet, health: &dyn HealthSource, now: Now, request: &Request) -> Result<Vec<Draft>, Denied> {
    if request.reason.trim().is_empty() {
        return Err(Denied::Invalid("a reason is mandatory: say why, for the record".to_owned()));
    }
    let desk = Desk { state, fleet, health, now };
    let body = match &request.command {
        Command::Switch {
            name,
            to,
            expect,
            expect_seq,
            overrides,
        } => {
            let expected = Expected {
                region: expect.clone(),
                version: *expect_seq,
            };
            desk.switch(name, to, &expected, overrides)
        }
        Command::Evacuate { region, leave, overrides } => desk.evacuate(region, leave, overrides),
        Command::Restore { region } => desk.restore(region),
        Command::Drain { name, region } => desk.drain(name, region),
        Command::Undrain { name, region } => desk.undrain(name, region),
        Command::Approve { id } => desk.approve(*id),
        Command::Reject { id } => desk.reject(*id),
    }?;
    let drafts: Vec<Draft> = body
        .map(|body| Draft {
            actor: request.actor.clone(),
            reason: request.reason.trim().to_owned(),
            request_id: request.request_id.clone(),
            body,
        })
        .into_iter()
        .collect();
    Ok(drafts)
}

/// Everything that a command is judged by.
pub(super) struct Desk<'a> {
    /// What was decided.
    pub state: &'a State,
    /// What is configured.
    pub fleet: &'a Fleet,
    /// What is observed.
    pub health: &'a dyn HealthSource,
    /// When.
    pub now: Now,
}

impl Desk<'_> {
    /// `switch`.
    fn switch(&self, name: &Name, to: &RegionId, expected: &Expected, overrides: &BTreeSet<Gate>) -> Result<Option<Body>, Denied> {
        let (steered, known) = self.find(name)?;
        find_region(steered, to)?;
        if known.active == *to {
            return Ok(None);
        }
        self.change(steered, known, to, expected, overrides, None).map(Some)
    }

    /// `approve`: a switch that expects what the proposal was made against; no overrides.
    fn approve(&self, id: u64) -> Result<Option<Body>, Denied> {
        let proposal = self.find_proposal(id)?;
        let (steered, known) = self.find(&proposal.name)?;
        let expected = Expected {
            region: Some(proposal.from.clone()),
            version: Some(proposal.version),
        };
        self.change(steered, known, &proposal.to, &expected, &BTreeSet::new(), Some(id))
            .map(Some)
    }

    /// `reject`.
    fn reject(&self, id: u64) -> Result<Option<Body>, Denied> {
        let proposal = self.find_proposal(id)?;
        Ok(Some(Body::ProposalEnded {
            id,
            name: proposal.name.clone(),
            end: ProposalEnd::Rejected,
        }))
    }

    /// An operator's move of one name, through every gate.
    fn change(
        &self,
        steered: &SteeredName,
        known: &NameState,
        to: &RegionId,
        expected: &Expected,
        overrides: &BTreeSet<Gate>,
        proposal: Option<u64>,
    ) -> Result<Body, Denied> {
        let case = Case {
            state: self.state,
            steered,
            known,
            to,
            health: self.health,
            now: self.now,
            trusts: false,
        };
        let words = case.words(expected);
        let mut refusals: Vec<Refusal> = words
            .iter()
            .filter(|word| !word.pass)
            .filter(|word| !(word.gate.is_overridable() && overrides.contains(&word.gate)))
            .map(|word| refusal(word.gate, word.message.clone(), None))
            .collect();
        refusals.extend(refuse_overrides(overrides, &refusals));
        if !refusals.is_empty() {
            return Err(Denied::Refused(refusals));
        }
        Ok(Body::Switched {
            change: Move {
                name: steered.name.clone(),
                from: known.active.clone(),
                to: to.clone(),
                kind: move_kind(known, steered, to, self.health),
            },
            overridden: words.iter().filter(|word| !word.pass).map(|word| word.gate).collect(),
            proposal,
            evidence: evidence(steered, &[&known.active, to], words, self.health, self.now),
        })
    }

    /// `restore`; also of a region that the config no longer has, as long as it has a mark.
    fn restore(&self, region: &RegionId) -> Result<Option<Body>, Denied> {
        let marked = self.state.evacuated_by(region).is_some() || self.state.is_left_anywhere(region);
        if !marked {
            self.find_configured_region(region)?;
        }
        Ok(marked.then(|| Body::Restored { region: region.clone() }))
    }

    /// `drain`: the active region cannot be drained.
    fn drain(&self, name: &Name, region: &RegionId) -> Result<Option<Body>, Denied> {
        let (steered, known) = self.find(name)?;
        find_region(steered, region)?;
        if known.active == *region {
            let message = format!("{region} is active for {} (seq {}): switch first", steered.name, known.version);
            return Err(Denied::Refused(vec![refusal(Gate::OneActive, message, None)]));
        }
        Ok((!known.drained.contains(region)).then(|| Body::Drained {
            name: steered.name.clone(),
            region: region.clone(),
        }))
    }

    /// `undrain`; clears *left* too.
    fn undrain(&self, name: &Name, region: &RegionId) -> Result<Option<Body>, Denied> {
        let (steered, known) = self.find(name)?;
        find_region(steered, region)?;
        Ok(
            (known.drained.contains(region) || known.left.contains(region)).then(|| Body::Undrained {
                name: steered.name.clone(),
                region: region.clone(),
            }),
        )
    }

    /// A steered name of config and ledger.
    pub fn find(&self, name: &Name) -> Result<(&SteeredName, &NameState), Denied> {
        let found = self
            .fleet
            .names
            .get(name)
            .and_then(|steered| Some((steered.as_ref(), self.state.name(name)?)));
        found.ok_or_else(|| no_such_name(self.fleet, name))
    }

    /// A region of the config.
    pub fn find_configured_region(&self, region: &RegionId) -> Result<(), Denied> {
        if self.fleet.regions.contains_key(region) {
            return Ok(());
        }
        let hint = nearest(region.as_str(), self.fleet.regions.keys().map(ToString::to_string));
        Err(Denied::NotFound(format!("there is no region {region}{hint}")))
    }

    /// An open proposal; one that has ended is a stale approval.
    fn find_proposal(&self, id: u64) -> Result<&Proposal, Denied> {
        match self.state.proposal(id) {
            Some(proposal) => Ok(proposal),
            None if id > 0 && id <= self.state.proposal_last() => Err(Denied::Refused(vec![refusal(
                Gate::Expect,
                format!("proposal {id} is no longer open: look again"),
                None,
            )])),
            None => Err(Denied::NotFound(format!("there is no proposal {id}"))),
        }
    }
}

/// Promise 2 on the state after the whole batch, which it gives: each name that the batch touches has one active region, one
/// that it has, not drained.
///
/// # Errors
/// [`Denied::Refused`] by the gate one-active.
pub fn check_one_active(state: &State, fleet: &Fleet, now: Now, drafts: &[Draft]) -> Result<After, Denied> {
    let names = drafts.iter().map(|draft| draft.body.moves().len()).sum();
    let (touched, after) = both(
        names,
        || super::affected_by(fleet, drafts.iter().map(|draft| &draft.body)),
        || {
            let mut after = state.clone();
            for draft in drafts {
                after.fold_unchecked(after.seq().next(), now, draft);
            }
            after
        },
    );
    let (half, rest) = touched.split_at(touched.len() / 2);
    let (mut broken, more) = both(touched.len(), || broken_of(&after, fleet, half), || broken_of(&after, fleet, rest));
    broken.extend(more);
    if broken.is_empty() {
        Ok(After { state: after, touched })
    } else {
        Err(Denied::Refused(broken))
    }
}

/// The names of these, in canonical order, that have not one active region, one that they have, not drained.
fn broken_of(state: &State, fleet: &Fleet, names: &[Name]) -> Vec<Refusal> {
    let mut states = state.finder(names.len(), names.first());
    let mut configs = fleet.finder(names.len(), names.first());
    let broken = names.iter().filter_map(|name| {
        let steered = configs.find(name)?;
        let known = states.find(name)?;
        let active = &known.active;
        let why = if !steered.order.contains(active) {
            format!("{active} would be active for {name}, which has no such region")
        } else if state.is_drained_at(known, active) {
            format!("{active} would be active for {name} and drained")
        } else {
            return None;
        };
        Some(refusal(Gate::OneActive, why, Some(name.clone())))
    });
    broken.collect()
}

/// Puts a refusal together.
pub(super) fn refusal(gate: Gate, message: String, name: Option<Name>) -> Refusal {
    Refusal { gate, message, name }
}

/// Refuses overrides of gates that can never be overridden, unless those refuse anyway.
pub(super) fn refuse_overrides(overrides: &BTreeSet<Gate>, already: &[Refusal]) -> Vec<Refusal> {
    overrides
        .iter()
        .filter(|gate| !gate.is_overridable() && !already.iter().any(|refusal| refusal.gate == **gate))
        .map(|gate| refusal(*gate, format!("{gate} can never be overridden: {}", why_never(*gate)), None))
        .collect()
}

/// Why a gate can never be overridden, and what to do instead.
fn why_never(gate: Gate) -> &'static str {
    match gate {
        Gate::Expect => "look again and name the state you see",
        Gate::OneActive => "a name without exactly one active region has no right answer",
        Gate::TargetNotDrained => "undrain or restore the region first",
        Gate::TargetHealthy | Gate::TargetWritable | Gate::Cooldown => "",
    }
}

/// There is no such name, and the one that may have been meant. It looks at every name there is: not for the writer's task.
pub fn no_such_name(fleet: &Fleet, name: &Name) -> Denied {
    let name = name.to_lowercase();
    let hint = nearest(&name.to_string(), fleet.names.keys().map(ToString::to_string));
    Denied::NotFound(format!("there is no steered name {name}{hint}"))
}

/// Whether a name has a region.
fn find_region(steered: &SteeredName, region: &RegionId) -> Result<(), Denied> {
    if steered.order.contains(region) {
        return Ok(());
    }
    let all: Vec<String> = steered.order.iter().map(ToString::to_string).collect();
    let hint = nearest(region.as_str(), all.iter().cloned());
    Err(Denied::NotFound(format!(
        "{} has no region {region}, it has {}{hint}",
        steered.name,
        all.join(", ")
    )))
}
