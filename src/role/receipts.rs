//! Request ids and what each was used for: a repeated request is answered as the first was, another one under the same id
//! is told so.
//!
//! Folded from the entries alone, so a restart forgets nothing. What a request asked for is read back from the entry that
//! it made: what it was about, the reason, the gates that were overridden. Two requests are *the same* if either would have
//! made this entry, so a gate named in vain or an `expect` left out makes no other request. Who asks does not count: a client
//! that repeats its request may come another way (socket, token).

use super::command::Command;
use crate::model::{Body, Draft, Gate, Name, RegionId, Seq};
use imbl::{OrdMap, Vector};
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How many request ids are remembered, so that a repeated command answers as the first did.
pub const RECEIPTS_MAX: usize = 10_000;

/// The last [`RECEIPTS_MAX`] request ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Receipts {
    /// What each id was used for.
    uses: OrdMap<Arc<str>, Arc<Used>>,
    /// The same ids, oldest first.
    order: Vector<Arc<str>>,
}

/// What a request id was used for.
#[derive(Debug, Clone, PartialEq)]
pub struct Used {
    /// The entry that the request made.
    pub seq: Seq,
    /// What it asked for.
    asked: Asked,
    /// Its reason, as a number: ten thousand reasons need not be kept to see that another one is given.
    reason: u64,
}

/// What a request asked for, as its entry tells.
#[derive(Debug, Clone, PartialEq)]
enum Asked {
    Switch {
        name: Name,
        from: RegionId,
        to: RegionId,
        overridden: Vec<Gate>,
    },
    Evacuate {
        region: RegionId,
        stay: Vec<Name>,
        overridden: Vec<Gate>,
    },
    Restore(RegionId),
    Drain(Name, RegionId),
    Undrain(Name, RegionId),
    Approve(u64),
    Reject(u64),
    Reload {
        forced: bool,
    },
    /// No request makes such an entry.
    Nothing,
}

impl Receipts {
    /// What an id was used for, if it is remembered.
    pub fn find(&self, request_id: &str) -> Option<&Used> {
        self.uses.get(request_id).map(Arc::as_ref)
    }

    /// Remembers the id of an entry, if it has one, and forgets the oldest beyond the bound.
    pub fn remember(&mut self, seq: Seq, draft: &Draft) {
        let Some(id) = &draft.request_id else { return };
        let id: Arc<str> = id.as_str().into();
        let used = Used {
            seq,
            asked: Asked::of(&draft.body),
            reason: fingerprint(&draft.reason),
        };
        if self.uses.insert(id.clone(), Arc::new(used)).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > RECEIPTS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.uses.remove(&oldest);
            }
        }
    }
}

impl Used {
    /// Whether a command for this reason is the same request again.
    pub fn is_same(&self, command: &Command, reason: &str) -> bool {
        self.reason == fingerprint(reason) && self.asked.fits(command)
    }

    /// Whether a reload for this reason is the same request again.
    pub fn is_same_reload(&self, forced: bool, reason: &str) -> bool {
        self.reason == fingerprint(reason) && self.asked == Asked::Reload { forced }
    }
}

impl fmt::Display for Used {
    /// `switch of shop.example.net. to fra, seq 12`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.asked {
            Asked::Switch { name, to, .. } => write!(f, "switch of {name} to {to}"),
            Asked::Evacuate { region, .. } => write!(f, "evacuate of {region}"),
            Asked::Restore(region) => write!(f, "restore of {region}"),
            Asked::Drain(name, region) => write!(f, "drain of {region} for {name}"),
            Asked::Undrain(name, region) => write!(f, "undrain of {region} for {name}"),
            Asked::Approve(id) => write!(f, "approve of proposal {id}"),
            Asked::Reject(id) => write!(f, "reject of proposal {id}"),
            Asked::Reload { forced: true } => f.write_str("reload with force"),
            Asked::Reload { forced: false } => f.write_str("reload"),
            Asked::Nothing => f.write_str("another entry"),
        }?;
        write!(f, ", seq {}", self.seq)
    }
}

impl Asked {
    /// What was asked for, from what was recorded.
    fn of(body: &Body) -> Asked {
        match body.clone() {
            Body::Switched { proposal: Some(id), .. } => Asked::Approve(id),
            Body::Switched { change, overridden, .. } => Asked::Switch {
                name: change.name,
                from: change.from,
                to: change.to,
                overridden,
            },
            Body::Evacuated {
                region, stay, overridden, ..
            } => Asked::Evacuate { region, stay, overridden },
            Body::Restored { region } => Asked::Restore(region),
            Body::Drained { name, region } => Asked::Drain(name, region),
            Body::Undrained { name, region } => Asked::Undrain(name, region),
            Body::ProposalEnded { id, .. } => Asked::Reject(id),
            Body::ConfigAccepted { forced, .. } => Asked::Reload { forced },
            Body::Started { .. }
            | Body::Stopped { .. }
            | Body::NameAdded { .. }
            | Body::NameRetired { .. }
            | Body::RegionRemoved { .. }
            | Body::Moved { .. }
            | Body::ProposalOpened { .. } => Asked::Nothing,
        }
    }

    /// Whether a command asks for this.
    fn fits(&self, command: &Command) -> bool {
        let allowed = |overridden: &[Gate], overrides: &BTreeSet<Gate>| overridden.iter().all(|gate| overrides.contains(gate));
        match (self, command) {
            (
                Asked::Switch {
                    name,
                    from,
                    to,
                    overridden,
                },
                Command::Switch {
                    name: asked_name,
                    to: asked_to,
                    expect,
                    overrides,
                    ..
                },
            ) => {
                (name, to) == (asked_name, asked_to)
                    && expect.as_ref().is_none_or(|expect| expect == from)
                    && allowed(overridden, overrides)
            }
            (
                Asked::Evacuate { region, stay, overridden },
                Command::Evacuate {
                    region: asked,
                    leave,
                    overrides,
                },
            ) => region == asked && stay.iter().all(|name| leave.contains(name)) && allowed(overridden, overrides),
            (Asked::Restore(region), Command::Restore { region: asked }) => region == asked,
            (Asked::Drain(name, region), Command::Drain { name: of, region: asked })
            | (Asked::Undrain(name, region), Command::Undrain { name: of, region: asked }) => (name, region) == (of, asked),
            (Asked::Approve(id), Command::Approve { id: asked }) | (Asked::Reject(id), Command::Reject { id: asked }) => id == asked,
            _ => false,
        }
    }
}

/// A reason as a number; blanks around it were never recorded.
fn fingerprint(reason: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    reason.trim().hash(&mut hasher);
    hasher.finish()
}
