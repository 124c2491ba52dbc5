//! Steering: where roles, marks and health meet, in one documented function: [`decide()`].
//!
//! Owns the decision table, what is said about it to people ([`explain()`]), the worst-case times ([`worst_case`]) and
//! the conditions worth an alert ([`alerts()`]). All of it is a function of its arguments: same inputs, same answer on every node.
//!
//! Deliberately absent: any change of a role (`role` does that, by entries), wire format (`answer`), time of its own.

mod alerts;
mod decide;
mod explain;
mod worst;

#[cfg(test)]
mod tests;

pub use alerts::{Alert, AlertKind, alerts, alerts_known};
pub use decide::{answer_of, decide, decide_known};
pub use explain::{Explanation, RegionExplanation, Wait, explain};
pub use worst::{WorstCase, worst_case};
