//! Roles: which region is active for each steered name, who may change that, and when a policy does.
//!
//! Owns the fold over the ledger ([`State`]), the gates and commands ([`handle`]), the comparison of config
//! and ledger ([`reconcile()`]) and the policies in time ([`Watch`]). The laws:
//!
//! - [`handle`] and [`Watch::poll`] may refuse or offer and change nothing; [`State::apply`] may not fail and has no effects.
//! - Roles change by entries only; health is an argument here and is never written into the state.
//! - Exactly one region is active for each name after every entry, and it is not drained (promise 2).
//! - Two marks stand apart: a name's own (`drain`) and the region's (`evacuate`); each verb sets and clears only its own.
//!
//! Deliberately absent: clocks, files, the numbering and hashing of entries (`ledger`), what is answered (`steering`).
//!
//! ```text
//! Request ──handle──▶ drafts ─┐                      ┌─▶ State (fold) ──▶ steering::decide
//! config ──reconcile─▶ drafts ─┼─▶ ledger ──▶ apply ──┤
//! health ──Watch::poll▶ drafts ┘                      └─▶ affected() ──▶ Watch::touch
//! ```

mod command;
mod evacuate;
mod gates;
mod nearest;
mod receipts;
mod reconcile;
mod state;
mod warn;
mod watch;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use command::{After, Command, Denied, Refusal, Request, check_one_active, handle, no_such_name, propose};
pub use gates::{candidate, candidates, cooldown_over_at, evidence, gates, is_role_known, move_kind, policy_target};
pub use nearest::nearest;
pub use receipts::{RECEIPTS_MAX, Used};
pub use reconcile::{Conflict, reconcile, reconcile_from};
pub use state::{Muted, NameState, Proposal, State, affected, affected_by};
pub use warn::warnings;
pub use watch::{Waiting, Watch};
