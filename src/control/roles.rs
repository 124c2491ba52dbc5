//! The published roles as a file of their own, for `serve --answer-only`: what a node answers with while its ledger cannot be read.
//!
//! Only what the answers need: active, home, marks. Proposals, versions and history are the ledger's alone.

use crate::model::{Actor, Body, Draft, Evidence, Name, Now, RegionId};
use crate::role::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The roles of every name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Saved {
    names: Vec<SavedName>,
    evacuated: Vec<RegionId>,
}

/// The roles of one name.
#[derive(Debug, Serialize, Deserialize)]
struct SavedName {
    name: Name,
    active: RegionId,
    home: RegionId,
    drained: Vec<RegionId>,
}

/// The file's content for a state.
pub(super) fn save(state: &State) -> Vec<u8> {
    let names = state
        .names()
        .map(|(name, known)| SavedName {
            name: name.clone(),
            active: known.active.clone(),
            home: known.home.clone(),
            drained: known.drained.iter().cloned().collect(),
        })
        .collect();
    let saved = Saved {
        names,
        evacuated: state.evacuated().cloned().collect(),
    };
    // Names and regions are strings: nothing in it can fail to be written.
    serde_json::to_vec(&saved).unwrap_or_default()
}

/// A state with the saved roles; its numbers start anew, because no entry stands behind them.
///
/// # Errors
/// When the file's content cannot be understood.
pub fn restore(json: &[u8], now: Now) -> Result<State, String> {
    let saved: Saved = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut state = State::new();
    let mut apply = |body| {
        let draft = Draft {
            actor: Actor::Node,
            reason: "answer only".to_owned(),
            request_id: None,
            body,
        };
        state.apply(state.seq().next(), now, &draft);
    };
    let mut at_region: BTreeMap<RegionId, Vec<Name>> = BTreeMap::new();
    for one in saved.names {
        at_region.entry(one.active.clone()).or_default().push(one.name.clone());
        apply(Body::NameAdded {
            name: one.name.clone(),
            active: one.active,
            home: Some(one.home),
        });
        for region in one.drained {
            apply(Body::Drained {
                name: one.name.clone(),
                region,
            });
        }
    }
    for region in saved.evacuated {
        // Whoever is active there still was left there on purpose.
        let stay = at_region.remove(&region).unwrap_or_default();
        apply(Body::Evacuated {
            region,
            moves: Vec::new(),
            stay,
            overridden: Vec::new(),
            forced: Vec::new(),
            evidence: Evidence::default(),
        });
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mono, Wall};

    #[test]
    fn roles_and_marks_come_back() {
        let now = Now {
            mono: Mono::ORIGIN,
            wall: Wall(1_000),
        };
        let json = br#"{"names":[{"name":"shop.example.net.","active":"fra","home":"iad","drained":["sin"]}],"evacuated":["iad"]}"#;
        let state = restore(json, now).unwrap();
        let name = Name::parse("shop.example.net.").unwrap();
        let known = state.name(&name).unwrap();
        assert_eq!((known.active.as_str(), known.home.as_str()), ("fra", "iad"));
        assert!(state.is_drained(&name, &RegionId::new("sin")) && state.is_drained(&name, &RegionId::new("iad")));
        assert_eq!(save(&state), json);
        assert!(restore(b"{", now).is_err());
    }
}
