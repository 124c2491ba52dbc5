//! What is recorded: the bodies of ledger entries, with their actors and evidence.
//!
//! Roles are a fold over these (`role::State::apply`), so each says all that the fold needs and nothing that
//! has to be looked up. Health is not recorded here; a decision carries the evidence that justified it.
//! Serialisation is part of the ledger's encoding v1: fields are written in the order in which they stand
//! here, and adding one means `skip_serializing_if` and `default`, so that old lines re-encode byte for byte.

use super::{Name, Observed, RegionHealth, RegionId, Seq};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Actor {
    /// A process on the same machine, by the uid of its socket.
    Uid {
        /// Its uid.
        uid: u32,
        /// The name of that user, where there is one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        user: Option<String>,
    },
    /// The holder of a token.
    Token {
        /// The name of the token.
        name: String,
    },
    /// Somebody on open loopback; nobody was authenticated.
    Local {
        /// Who they claim to be.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        claimed: Option<String>,
    },
    /// The failover policy, in the name of the operator who configured it.
    Policy,
    /// The node itself: start, stop, config.
    Node,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Uid { uid, user: Some(user) } => write!(f, "{user} (uid {uid})"),
            Actor::Uid { uid, user: None } => write!(f, "uid {uid}"),
            Actor::Token { name } => write!(f, "{name} (token)"),
            Actor::Local { claimed: Some(user) } => write!(f, "local, claims to be {user}"),
            Actor::Local { claimed: None } => f.write_str("local"),
            Actor::Policy => f.write_str("policy"),
            Actor::Node => f.write_str("node"),
        }
    }
}

/// A rule that a change must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// The change was made against the present state.
    Expect,
    /// Exactly one active region after the whole batch, and it is not drained.
    OneActive,
    /// The target is not drained.
    TargetNotDrained,
    /// The target is freshly healthy or degraded.
    TargetHealthy,
    /// The application at the target says it is active.
    TargetWritable,
    /// The last move is long enough ago.
    Cooldown,
}

impl Gate {
    /// Every gate, in the order in which they are shown.
    pub const ALL: [Gate; 6] = [
        Gate::Expect,
        Gate::OneActive,
        Gate::TargetNotDrained,
        Gate::TargetHealthy,
        Gate::TargetWritable,
        Gate::Cooldown,
    ];

    /// As written in commands and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Gate::Expect => "expect",
            Gate::OneActive => "one-active",
            Gate::TargetNotDrained => "target-not-drained",
            Gate::TargetHealthy => "target-healthy",
            Gate::TargetWritable => "target-writable",
            Gate::Cooldown => "cooldown",
        }
    }

    /// Reads the form that [`Gate::as_str`] gives.
    pub fn parse(text: &str) -> Option<Gate> {
        Gate::ALL.into_iter().find(|gate| gate.as_str() == text)
    }

    /// Whether an operator may override it, by name.
    pub fn is_overridable(self) -> bool {
        matches!(self, Gate::TargetHealthy | Gate::TargetWritable | Gate::Cooldown)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a gate says about a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateWord {
    /// The gate.
    pub gate: Gate,
    /// Whether it lets the change pass.
    pub pass: bool,
    /// Why, in words.
    pub message: String,
}

/// What was seen of a region when something was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionEvidence {
    /// The region.
    pub region: RegionId,
    /// Its health.
    pub health: RegionHealth,
    /// Why, in words.
    pub reason: String,
    /// Age of the latest evidence, milliseconds; none: never any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_ms: Option<u64>,
    /// What the application there said it is.
    pub observed: Observed,
}

/// What justified a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The regions concerned, the one left first.
    pub regions: Vec<RegionEvidence>,
    /// What each gate said.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gates: Vec<GateWord>,
}

/// What kind of a move it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MoveKind {
    /// Planned, the region left was not unhealthy.
    Switchover,
    /// The region left was unhealthy.
    Failover,
    /// Back to home.
    Failback,
}

impl MoveKind {
    /// As written in output and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            MoveKind::Switchover => "switchover",
            MoveKind::Failover => "failover",
            MoveKind::Failback => "failback",
        }
    }
}

/// One name that changes its active region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The steered name, lower case.
    pub name: Name,
    /// The region left.
    pub from: RegionId,
    /// The region that is active from now on.
    pub to: RegionId,
    /// What kind of move it is. Written `move`: a body carries these fields beside its own tag `kind`.
    #[serde(rename = "move")]
    pub kind: MoveKind,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} from {} to {}", self.kind.as_str(), self.name, self.from, self.to)
    }
}

/// How a proposal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProposalEnd {
    /// An operator approved it; written as the `switched` entry that carries its id.
    Approved,
    /// An operator rejected it: the name is mute until its active region's health or its version changes.
    Rejected,
    /// The active region is no longer unhealthy.
    Recovered,
    /// Version, candidate or config changed.
    Superseded,
}

impl ProposalEnd {
    /// As written in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            ProposalEnd::Approved => "approved",
            ProposalEnd::Rejected => "rejected",
            ProposalEnd::Recovered => "recovered",
            ProposalEnd::Superseded => "superseded",
        }
    }
}

/// What happened. Tagged `kind` in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Body {
    /// The node started.
    Started {
        /// Its name.
        node: String,
        /// Version of the program.
        version: String,
    },
    /// The node stopped in an orderly way.
    Stopped {
        /// Its name.
        node: String,
    },
    /// A config with its zones was accepted.
    ConfigAccepted {
        /// SHA-256 over the config and every zone file read, hex.
        sha256: String,
        /// Whether a guard (`reload-max-removed`) was overridden.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        forced: bool,
    },
    /// A steered name appeared.
    NameAdded {
        /// The name.
        name: Name,
        /// Its first active region.
        active: RegionId,
        /// Its home, where that is another region: one that was evacuated when the name appeared.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        home: Option<RegionId>,
    },
    /// A steered name is no longer configured; added again it starts anew.
    NameRetired {
        /// The name.
        name: Name,
    },
    /// A region was taken from a name while passive: its marks go; if it was home, home is the active region.
    RegionRemoved {
        /// The name.
        name: Name,
        /// The region.
        region: RegionId,
    },
    /// An operator switched a name (also: approved a proposal).
    Switched {
        /// The move.
        #[serde(flatten)]
        change: Move,
        /// Gates that failed and were overridden.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        overridden: Vec<Gate>,
        /// The proposal that was approved.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        proposal: Option<u64>,
        /// What justified it.
        evidence: Evidence,
    },
    /// A policy moved a name.
    Moved {
        /// The move.
        #[serde(flatten)]
        change: Move,
        /// Whether the region left is marked *left* (one-way).
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        left: bool,
        /// What justified it.
        evidence: Evidence,
    },
    /// A region was evacuated.
    Evacuated {
        /// The region.
        region: RegionId,
        /// The names that moved.
        moves: Vec<Move>,
        /// Names that stay active there by `--leave`: for them the region counts as not drained until they move.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        stay: Vec<Name>,
        /// Gates that failed and were overridden.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        overridden: Vec<Gate>,
        /// The names that moved only because of that, in canonical order. Empty while `overridden` is not: every one that moved,
        /// which need not be said a hundred thousand times.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        forced: Vec<Name>,
        /// What was seen: the region, then each target.
        evidence: Evidence,
    },
    /// A region's mark and every *left* mark of it were cleared.
    Restored {
        /// The region.
        region: RegionId,
    },
    /// A name's own mark on a region was set.
    Drained {
        /// The name.
        name: Name,
        /// The region.
        region: RegionId,
    },
    /// A name's own mark on a region, and its *left* mark, were cleared.
    Undrained {
        /// The name.
        name: Name,
        /// The region.
        region: RegionId,
    },
    /// A change waits for an operator's approval.
    ProposalOpened {
        /// Its number, unique in the ledger.
        id: u64,
        /// The name.
        name: Name,
        /// The version of the name that it was made against.
        version: Seq,
        /// The active region.
        from: RegionId,
        /// The candidate.
        to: RegionId,
        /// What was seen.
        evidence: Evidence,
    },
    /// A proposal ended otherwise than by approval.
    ProposalEnded {
        /// Its number.
        id: u64,
        /// The name.
        name: Name,
        /// How.
        end: ProposalEnd,
    },
}

impl Body {
    /// The `kind` as written in the ledger.
    pub fn kind(&self) -> &'static str {
        match self {
            Body::Started { .. } => "started",
            Body::Stopped { .. } => "stopped",
            Body::ConfigAccepted { .. } => "config-accepted",
            Body::NameAdded { .. } => "name-added",
            Body::NameRetired { .. } => "name-retired",
            Body::RegionRemoved { .. } => "region-removed",
            Body::Switched { .. } => "switched",
            Body::Moved { .. } => "moved",
            Body::Evacuated { .. } => "evacuated",
            Body::Restored { .. } => "restored",
            Body::Drained { .. } => "drained",
            Body::Undrained { .. } => "undrained",
            Body::ProposalOpened { .. } => "proposal-opened",
            Body::ProposalEnded { .. } => "proposal-ended",
        }
    }

    /// The steered names that it is about. A region's mark concerns every name; those are not listed.
    pub fn names(&self) -> Vec<Name> {
        match self {
            Body::Started { .. } | Body::Stopped { .. } | Body::ConfigAccepted { .. } | Body::Restored { .. } => Vec::new(),
            Body::NameAdded { name, .. }
            | Body::NameRetired { name }
            | Body::RegionRemoved { name, .. }
            | Body::Drained { name, .. }
            | Body::Undrained { name, .. }
            | Body::ProposalOpened { name, .. }
            | Body::ProposalEnded { name, .. } => vec![name.clone()],
            Body::Switched { change, .. } | Body::Moved { change, .. } => vec![change.name.clone()],
            Body::Evacuated { moves, stay, .. } => moves.iter().map(|one| &one.name).chain(stay).cloned().collect(),
        }
    }

    /// The moves that it makes.
    pub fn moves(&self) -> &[Move] {
        match self {
            Body::Switched { change, .. } | Body::Moved { change, .. } => std::slice::from_ref(change),
            Body::Evacuated { moves, .. } => moves,
            _ => &[],
        }
    }
}

impl fmt::Display for Body {
    /// One sentence for logs and lists.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Started { node, version } => write!(f, "{node} started, version {version}"),
            Body::Stopped { node } => write!(f, "{node} stopped"),
            Body::ConfigAccepted { sha256, forced } => {
                write!(
                    f,
                    "config {} accepted{}",
                    sha256.get(..12).unwrap_or(sha256),
                    if *forced { ", forced" } else { "" }
                )
            }
            Body::NameAdded { name, active, .. } => write!(f, "{name} added, {active} is active"),
            Body::NameRetired { name } => write!(f, "{name} retired"),
            Body::RegionRemoved { name, region } => write!(f, "{region} taken from {name}"),
            Body::Switched {
                change,
                proposal: Some(id),
                ..
            } => write!(f, "{change}, proposal {id} approved"),
            Body::Switched { change, .. } => write!(f, "{change}"),
            Body::Moved { change, left: true, .. } => write!(f, "{change}, {} is marked left", change.from),
            Body::Moved { change, .. } => write!(f, "{change}"),
            Body::Evacuated { region, moves, .. } => write!(f, "{region} evacuated, {} names moved", moves.len()),
            Body::Restored { region } => write!(f, "{region} restored"),
            Body::Drained { name, region } => write!(f, "{region} drained for {name}"),
            Body::Undrained { name, region } => write!(f, "{region} no longer drained for {name}"),
            Body::ProposalOpened { id, name, from, to, .. } => write!(f, "proposal {id} opened: {name} from {from} to {to}"),
            Body::ProposalEnded { id, name, end } => write!(f, "proposal {id} for {name} ended: {}", end.as_str()),
        }
    }
}

/// What is to be recorded, before it has a number, a time and a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who.
    pub actor: Actor,
    /// Why, in the operator's words; policies and the node say it themselves. Never empty.
    pub reason: String,
    /// The id that the client gave its request.
    pub request_id: Option<String>,
    /// What.
    pub body: Body,
}
