//! What whoever gave a command should know although no gate kept it from being done.
//!
//! `evacuate` does not ask `target-writable`: on the night when a region goes, that gate would hold back exactly then. So its
//! receipt, and its dry run, say which applications are not active where the names go.

use super::gates::{is_role_known, show_age};
use crate::model::{AppId, Body, Diagnostic, Fleet, HealthSource, Name, Now, Observed, RegionId};
use std::collections::BTreeMap;

/// Most names that one warning lists.
const NAMES_SHOWN_MAX: usize = 3;

/// The warnings of an entry that a command makes.
pub fn warnings(body: &Body, fleet: &Fleet, health: &dyn HealthSource, now: Now) -> Vec<Diagnostic> {
    let Body::Evacuated { moves, .. } = body else {
        return Vec::new();
    };
    // An application's names go the same way for the same reason: one warning for all of them.
    let mut away: BTreeMap<(&AppId, &RegionId), Vec<&Name>> = BTreeMap::new();
    let mut configs = fleet.finder(moves.len(), moves.first().map(|change| &change.name));
    for change in moves {
        if let Some(steered) = configs.find(&change.name).filter(|steered| is_role_known(steered, health)) {
            away.entry((&steered.app.id, &change.to)).or_default().push(&change.name);
        }
    }
    away.into_iter()
        .filter_map(|((app, to), names)| {
            let status = health.region(app, to);
            let says = match status.map_or(Observed::None, |status| status.observed) {
                Observed::Active => return None,
                Observed::Passive => {
                    let since = status.map_or_else(String::new, |status| {
                        format!(", since {}", show_age(now.mono.since(status.observed_since)))
                    });
                    format!("the application {app} in {to} says that it is passive{since}")
                }
                Observed::None => format!("nothing fresh says that the application {app} in {to} is active"),
            };
            let warning = Diagnostic::warning(None, format!("{says}; {} there all the same", lead(&names)));
            Some(warning.hint(format!("promote {app} in {to}: until then it may refuse what clients write")))
        })
        .collect()
}

/// `a., b., c. and 4 more names lead`.
fn lead(names: &[&Name]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN_MAX).map(ToString::to_string).collect();
    match names.len() - shown.len() {
        0 if shown.len() == 1 => format!("{} leads", shown.join(", ")),
        0 => format!("{} lead", shown.join(", ")),
        more => format!("{} and {more} more names lead", shown.join(", ")),
    }
}
