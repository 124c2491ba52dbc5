//! What goes in and out of the writer: requests' receipts, dry runs, errors, events, alerts and the published view.

use crate::config::Config;
use crate::health::{Book, Told};
use crate::ledger::{Entry, Hash};
use crate::model::{Actor, AppId, Decision, Diagnostic, Draft, Endpoint, Generation, Name, NameMap, RegionHealth, RegionId, Seq, Wall};
use crate::role::{Denied, State, Watch};
use crate::steering::AlertKind;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// What readers see: one consistent moment. Cloning the parts is cheap; the whole is replaced at each publish.
#[derive(Clone)]
pub struct Published {
    /// Number of this snapshot, from 1 at each start.
    pub generation: Generation,
    /// The last ledger entry that it contains.
    pub seq: Seq,
    /// The hash of that entry.
    pub head: Hash,
    /// The accepted config.
    pub config: Arc<Config>,
    /// Roles, marks and proposals.
    pub state: State,
    /// What the probes said.
    pub health: Book,
    /// What the policies are waiting for.
    pub watch: Arc<Watch>,
    /// What every steered name answers, and why.
    pub decisions: NameMap<Arc<Decision>>,
    /// Every alert that lasts.
    pub alerts: imbl::OrdMap<AlertKey, Arc<Alert>>,
    /// Which config is served, and whether changes are taken.
    pub serving: Arc<Serving>,
}

/// Which config is served, and whether changes are taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Serving {
    /// Today's config.
    Current,
    /// The last accepted config, because today's has these errors, or could not be recorded.
    LastGood {
        /// The errors, as printed.
        errors: Vec<String>,
    },
    /// The last published roles, and no change is taken.
    AnswerOnly {
        /// Why.
        why: String,
    },
}

/// Identity of an alert: its kind and the name it is about, if any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AlertKey {
    /// What kind.
    pub alert: AlertKind,
    /// The steered name; none for alerts about the node.
    pub name: Option<Name>,
}

/// An alert that lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its identity.
    #[serde(flatten)]
    pub key: AlertKey,
    /// What a person should know.
    pub message: String,
    /// Since when.
    pub since: Wall,
}

/// Which part of the history.
#[derive(Debug, Clone)]
pub struct HistoryRequest {
    /// The application.
    pub app: AppId,
    /// Only this region.
    pub region: Option<RegionId>,
    /// Only this endpoint.
    pub endpoint: Option<Endpoint>,
    /// How far back.
    pub within: Duration,
    /// How many targets are left out at the beginning.
    pub skip: usize,
    /// Most targets.
    pub limit: usize,
}

/// A part of the history.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// One a probe at an address.
    pub items: Vec<Told>,
    /// Whether there are more.
    pub more: bool,
}

/// Proof of a change: it is durable and this node answers accordingly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Whether anything changed; a switch to the region that is active already changes nothing.
    pub changed: bool,
    /// The last ledger entry of the change, else the present head.
    pub seq: Seq,
    /// The hash of that entry.
    pub hash: Hash,
    /// The snapshot that contains it.
    pub generation: Generation,
    /// What whoever asked should know although it was done; at most [`WARNINGS_MAX`].
    #[serde(skip)]
    pub warnings: Vec<Diagnostic>,
}

/// Most warnings that one answer carries or a reload logs: thousands of applications may share one.
pub const WARNINGS_MAX: usize = 100;

/// At most [`WARNINGS_MAX`] warnings, the last one saying how many there are besides.
pub(super) fn bounded(mut warnings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if warnings.len() > WARNINGS_MAX {
        let left = warnings.len() - (WARNINGS_MAX - 1);
        warnings.truncate(WARNINGS_MAX - 1);
        warnings.push(Diagnostic::warning(None, format!("{left} more warnings")));
    }
    warnings
}

/// What a change would do.
#[derive(Debug, Clone)]
pub struct DryRun {
    /// What would be recorded.
    pub drafts: Vec<Draft>,
    /// What the names concerned answer now.
    pub before: Vec<Arc<Decision>>,
    /// What they would answer.
    pub after: Vec<Arc<Decision>>,
    /// What the change's receipt would warn of.
    pub warnings: Vec<Diagnostic>,
}

/// A reload on command.
#[derive(Debug, Clone)]
pub struct ReloadRequest {
    /// Whether to pass the guard of `reload-max-removed`.
    pub force: bool,
    /// Why.
    pub reason: String,
    /// Who.
    pub actor: Actor,
    /// The client's id of the request.
    pub request_id: Option<String>,
}

/// Why a change was not made. Nothing was recorded then.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The gates or the command's own form said no.
    #[error("the change was denied")]
    Denied(Denied),
    /// The config or a zone has errors; nothing was taken.
    #[error("{} in the config or its zones; nothing was changed", count_errors(.0))]
    Diagnostics(Vec<Diagnostic>),
    /// Keys that only a restart can change.
    #[error("a restart is needed to change {}; nothing was changed", .0.join(", "))]
    NeedsRestart(Vec<String>),
    /// The config contradicts the roles.
    #[error("the config contradicts the ledger in {}; nothing was changed", count(.0.len(), "place"))]
    Conflict(Vec<Diagnostic>),
    /// The request's id was used for another request.
    #[error("request_id {id:?} was used for another request ({used}); nothing was changed. Give a new request an id of its own")]
    Reused {
        /// The id.
        id: String,
        /// What for.
        used: String,
    },
    /// The reload would remove too much.
    #[error("{0}")]
    Guard(String),
    /// The change could not be recorded, or this node takes none.
    #[error("{0}")]
    Unavailable(String),
}

/// `3 errors`, `1 error`.
fn count_errors(diagnostics: &[Diagnostic]) -> String {
    count(diagnostics.iter().filter(|one| one.is_error()).count(), "error")
}

/// `3 places`, `1 place`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Something happened: one message on `/v1/events`.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Number of the event on this node since its start.
    pub id: u64,
    /// When.
    pub time: Wall,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What an event says.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Happening {
    /// A ledger entry was recorded and is in force.
    Entry {
        /// The entry.
        entry: Arc<Entry>,
    },
    /// A name answers otherwise than before.
    Answer {
        /// The snapshot that does so first.
        generation: Generation,
        /// The decision.
        decision: Arc<Decision>,
    },
    /// The health of a region for an application changed.
    Health {
        /// The application.
        app: AppId,
        /// The region.
        region: RegionId,
        /// Before.
        from: RegionHealth,
        /// Now.
        to: RegionHealth,
        /// Why.
        reason: String,
    },
    /// An alert was raised or is over.
    Alert {
        /// The alert.
        #[serde(flatten)]
        alert: Arc<Alert>,
        /// Whether it lasts.
        raised: bool,
    },
}

impl Happening {
    /// The `event:` field of the server-sent event.
    pub fn kind(&self) -> &'static str {
        match self {
            Happening::Entry { .. } => "entry",
            Happening::Answer { .. } => "answer",
            Happening::Health { .. } => "health",
            Happening::Alert { .. } => "alert",
        }
    }
}
