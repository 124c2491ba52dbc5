//! Config against ledger: what a new config records, and what it may not do (README, "Config against ledger").
//!
//! The key of a role is the steered name in lower case; applications are labels, so renaming one or moving a name to
//! another changes nothing here. The order of a config never moves a name that exists.
//!
//! Choices: a new name whose regions are all evacuated is refused, because it would start with a drained
//! active region (promise 2). An open proposal of a name that goes is ended as superseded first, so that every proposal ends by an entry. A proposal to move to a region that goes is ended by the [`Watch`](super::Watch), as its candidate changed.

use super::state::{NameState, State};
use crate::model::{Actor, Body, Draft, Fleet, Name, ProposalEnd, RegionId, SteeredName};
use std::collections::BTreeSet;

/// Why a config may not be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Conflict {
    /// The name concerned.
    pub name: Name,
    /// Why, and what to do.
    pub message: String,
}

/// The entries that a config needs before it is served, or every reason why it may not be served. Regions taken from a name are found
/// as far as the ledger mentions them; use [`reconcile_from`] where the config before is known.
///
/// # Errors
/// One for each active region that the config removes and for each new name that has nowhere to start.
pub fn reconcile(state: &State, fleet: &Fleet) -> Result<Vec<Draft>, Vec<Conflict>> {
    reconcile_from(state, None, fleet)
}

/// As [`reconcile`], with the config that was served before: every region that it had and the new one lacks is recorded.
///
/// # Errors
/// As [`reconcile`].
pub fn reconcile_from(state: &State, old: Option<&Fleet>, fleet: &Fleet) -> Result<Vec<Draft>, Vec<Conflict>> {
    let (mut drafts, mut errors) = (Vec::new(), Vec::new());
    for (name, known) in state.names() {
        let Some(steered) = fleet.names.get(name) else {
            retire(name, known, &mut drafts);
            continue;
        };
        if !steered.order.contains(&known.active) {
            errors.push(Conflict {
                name: name.clone(),
                message: format!("{} is active for {name} (seq {}): switch first", known.active, known.version),
            });
        }
        for region in gone(known, old.and_then(|old| old.names.get(name)), steered) {
            let reason = format!("{region} is no longer a region of {name}");
            drafts.push(by_node(
                reason,
                Body::RegionRemoved {
                    name: name.clone(),
                    region,
                },
            ));
        }
    }
    for (name, steered) in &fleet.names {
        if state.name(name).is_some() {
            continue;
        }
        match add(state, steered) {
            Ok(draft) => drafts.push(draft),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(drafts) } else { Err(errors) }
}

/// A name goes; its proposal is ended first.
fn retire(name: &Name, known: &NameState, drafts: &mut Vec<Draft>) {
    if let Some(id) = known.proposal {
        let body = Body::ProposalEnded {
            id,
            name: name.clone(),
            end: ProposalEnd::Superseded,
        };
        drafts.push(by_node(format!("{name} is no longer configured"), body));
    }
    drafts.push(by_node(
        format!("{name} is no longer configured"),
        Body::NameRetired { name: name.clone() },
    ));
}

/// The passive regions that a name had, by the ledger or the config before, and has no longer.
fn gone(known: &NameState, old: Option<&std::sync::Arc<SteeredName>>, new: &SteeredName) -> BTreeSet<RegionId> {
    let mentioned = std::iter::once(&known.home)
        .chain(&known.drained)
        .chain(&known.left)
        .chain(&known.came_from);
    let before = old.into_iter().flat_map(|old| &old.order);
    mentioned
        .chain(before)
        .filter(|region| **region != known.active && !new.order.contains(region))
        .cloned()
        .collect()
}

/// A name appears: active is the first region in order without a region's mark, home the first in order.
fn add(state: &State, steered: &SteeredName) -> Result<Draft, Conflict> {
    let name = &steered.name;
    let active = steered.order.iter().find(|region| state.evacuated_by(region).is_none());
    let (Some(active), Some(first)) = (active, steered.order.first()) else {
        return Err(Conflict {
            name: name.clone(),
            message: format!("{name} is new, and every region of it is evacuated: restore one first"),
        });
    };
    let home = Some(first.clone()).filter(|first| first != active);
    let why = match &home {
        Some(home) => format!("{name} is new: {active} is the first in order, as {home} is evacuated"),
        None => format!("{name} is new: {active} is the first in order"),
    };
    let body = Body::NameAdded {
        name: name.clone(),
        active: active.clone(),
        home,
    };
    Ok(by_node(why, body))
}

/// An entry by the node itself.
fn by_node(reason: String, body: Body) -> Draft {
    Draft {
        actor: Actor::Node,
        reason,
        request_id: None,
        body,
    }
}
