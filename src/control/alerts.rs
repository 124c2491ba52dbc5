//! Alerts that last: raised, kept with their beginning, and ended.
//!
//! An alert is three things at once: a WARN line with `alert=`, an event, and the metric. This file keeps the
//! book; the writer does the rest with what changed. An alert whose message changes stays the same alert.

use super::types::{Alert, AlertKey};
use crate::model::{Name, Wall};
use crate::steering::{self, AlertKind};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::sync::Arc;

/// An alert that began or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    /// The alert.
    pub alert: Arc<Alert>,
    /// Whether it began.
    pub raised: bool,
}

/// Every alert that lasts.
#[derive(Debug, Clone, Default)]
pub(super) struct Alerts {
    current: imbl::OrdMap<AlertKey, Arc<Alert>>,
    /// The kinds that last for each name, a bit each: most names have none, and are passed over without a search a kind.
    kinds: HashMap<Name, u32, FixedState>,
}

impl Alerts {
    /// What readers see.
    pub fn current(&self) -> imbl::OrdMap<AlertKey, Arc<Alert>> {
        self.current.clone()
    }

    /// Makes `wanted` the whole set of alerts about `name`; gives what began and what ended.
    pub fn set_for_name(&mut self, name: &Name, wanted: Vec<steering::Alert>, wall: Wall) -> Vec<Turn> {
        let mut turns = Vec::new();
        if wanted.is_empty() && self.kinds.is_empty() {
            return turns;
        }
        for key in self.lasting(name) {
            if !wanted.iter().any(|alert| alert.kind == key.alert) {
                turns.extend(self.end(&key));
            }
        }
        for steering::Alert { kind, message } in wanted {
            turns.extend(self.raise(
                AlertKey {
                    alert: kind,
                    name: Some(name.clone()),
                },
                message,
                wall,
            ));
        }
        turns
    }

    /// Ends every alert about a name that is gone.
    pub fn clear_name(&mut self, name: &Name) -> Vec<Turn> {
        let keys = self.lasting(name);
        keys.iter().filter_map(|key| self.end(key)).collect()
    }

    /// The alerts that last for a name, in the order of the kinds.
    fn lasting(&self, name: &Name) -> Vec<AlertKey> {
        let Some(kinds) = self.kinds.get(name) else {
            return Vec::new();
        };
        let lasting = AlertKind::ALL.iter().filter(|kind| kinds & bit(**kind) != 0);
        lasting
            .map(|kind| AlertKey {
                alert: *kind,
                name: Some(name.clone()),
            })
            .collect()
    }

    /// Raises an alert, or gives one that lasts its new message (which is no turn).
    pub fn raise(&mut self, key: AlertKey, message: String, wall: Wall) -> Option<Turn> {
        let since = self.current.get(&key).map(|alert| alert.since);
        let alert = Arc::new(Alert {
            key: key.clone(),
            message,
            since: since.unwrap_or(wall),
        });
        if let Some(name) = &key.name {
            *self.kinds.entry(name.clone()).or_default() |= bit(key.alert);
        }
        self.current.insert(key, alert.clone());
        since.is_none().then_some(Turn { alert, raised: true })
    }

    /// Ends an alert, if it lasts.
    pub fn end(&mut self, key: &AlertKey) -> Option<Turn> {
        let alert = self.current.remove(key)?;
        if let Some(name) = &key.name
            && let Some(kinds) = self.kinds.get_mut(name)
        {
            *kinds &= !bit(key.alert);
            if *kinds == 0 {
                self.kinds.remove(name);
            }
        }
        Some(Turn { alert, raised: false })
    }
}

/// The bit of a kind; there are fewer than 32.
fn bit(kind: AlertKind) -> u32 {
    1 << (kind as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        Name::parse("shop.example.net.").unwrap()
    }

    fn key(alert: AlertKind) -> AlertKey {
        AlertKey { alert, name: Some(name()) }
    }

    fn alert(kind: AlertKind) -> steering::Alert {
        steering::Alert {
            kind,
            message: "why".into(),
        }
    }

    #[test]
    fn an_alert_begins_once_keeps_its_beginning_and_ends_once() {
        let mut alerts = Alerts::default();
        assert!(
            alerts
                .raise(key(AlertKind::NoTarget), "first".into(), Wall(1))
                .is_some_and(|turn| turn.raised)
        );
        assert_eq!(alerts.raise(key(AlertKind::NoTarget), "second".into(), Wall(2)), None);
        let lasting = alerts.current();
        let alert = lasting.get(&key(AlertKind::NoTarget)).unwrap();
        assert_eq!((alert.since, alert.message.as_str()), (Wall(1), "second"));
        assert!(alerts.end(&key(AlertKind::NoTarget)).is_some_and(|turn| !turn.raised));
        assert_eq!(alerts.end(&key(AlertKind::NoTarget)), None);
    }

    #[test]
    fn alerts_of_a_name_are_replaced_as_a_set() {
        let mut alerts = Alerts::default();
        let turns = alerts.set_for_name(&name(), vec![alert(AlertKind::NoTarget), alert(AlertKind::FailOpen)], Wall(1));
        assert_eq!(turns.iter().filter(|turn| turn.raised).count(), 2);
        let turns = alerts.set_for_name(&name(), vec![alert(AlertKind::FailOpen)], Wall(2));
        assert_eq!(turns.len(), 1);
        assert_eq!((turns[0].alert.key.alert, turns[0].raised), (AlertKind::NoTarget, false));
        assert_eq!(alerts.set_for_name(&name(), vec![alert(AlertKind::FailOpen)], Wall(3)), vec![]);
    }
}
