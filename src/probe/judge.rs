//! What a run saw against what the config expects of it. Pure: the same for every kind.

use super::Found;
use crate::model::{Failure, Mono, Observed, Outcome, ProbeSpec, ProbeTarget};
use std::sync::Arc;
use std::time::Duration;

/// A run that was judged.
#[derive(Debug)]
pub(super) struct Judged {
    /// Whether it passed.
    pub result: Result<(), Failure>,
    /// What it saw, in words; empty when it failed.
    note: String,
    /// What the application says it is.
    observed: Option<Observed>,
    /// Numbers taken from the answer.
    values: Vec<(Arc<str>, f64)>,
}

impl Judged {
    /// The outcome for the writer.
    pub fn outcome(self, target: ProbeTarget, at: Mono, took: Duration) -> Outcome {
        Outcome {
            observed: self.observed,
            note: self.note,
            values: self.values,
            ..Outcome::new(target, at, took, self.result)
        }
    }
}

/// Judges a run: the kind's own rule first, then every expectation in the order of the config. Role and values are
/// taken also from an answer that fails, since a passive region may well answer with an error and say in it that it
/// stands by.
pub(super) fn judge(spec: &ProbeSpec, found: Found) -> Judged {
    let Found { result, observed, exposed } = found;
    let observed = spec.role.as_ref().and_then(|rule| rule.observe(&exposed)).or(observed);
    let own = exposed.numbers().map(|(name, number)| (Arc::from(name), number));
    let taken = spec
        .values
        .iter()
        .filter_map(|rule| Some((Arc::from(rule.name.as_str()), rule.number(&exposed)?)));
    let values = own.chain(taken).collect();
    let judged = result.and_then(|note| spec.expect.iter().try_for_each(|expect| expect.check(&exposed)).map(|()| note));
    let (result, note) = match judged {
        Ok(note) => (Ok(()), note),
        Err(failure) => (Err(failure), String::new()),
    };
    Judged {
        result,
        note,
        observed,
        values,
    }
}
