//! Look-ups of host names that fail: counted, and told by one alert for as long as any does.

use super::writer::Writer;
use crate::model::{AppId, Endpoint, Fleet, Name, RegionId};
use crate::steering::AlertKind;

/// A host name that is an endpoint, and where.
pub(super) type Lookup = (AppId, RegionId, Name);

impl Writer {
    /// Counts a failed look-up, and keeps the alert on all that fail what they are.
    pub(super) fn note_lookup(&mut self, app: AppId, region: RegionId, host: Name, error: Option<String>) {
        if error.is_some() {
            self.metrics.lookup_failed(app.as_str(), region.as_str());
        }
        let key = (app, region, host);
        match error.filter(|_| is_looked_up(&self.config.fleet, &key)) {
            Some(error) => drop(self.lookups.insert(key, error)),
            None => drop(self.lookups.remove(&key)),
        }
        self.alert_of_lookups();
    }

    /// Forgets look-ups that the config no longer asks for.
    pub(super) fn forget_lookups(&mut self) {
        self.lookups.retain(|key, _| is_looked_up(&self.config.fleet, key));
    }

    /// Raises or ends the alert on look-ups.
    pub(super) fn alert_of_lookups(&mut self) {
        let message = self.lookups.iter().next().map(|((app, region, host), error)| {
            let more = match self.lookups.len() {
                1 => String::new(),
                count => format!(", and {} more fail", count - 1),
            };
            format!("the look-up of {host} ({app} in {region}) fails: {error}; the last addresses are kept{more}")
        });
        self.node_alert(AlertKind::LookupFailing, message);
    }
}

/// Whether a look-up is asked for by the config.
fn is_looked_up(fleet: &Fleet, (app, region, host): &Lookup) -> bool {
    let app = fleet.apps.get(app);
    // Without probes nobody looks the host name up.
    app.is_some_and(|app| !app.probes.is_empty() && app.endpoints_of(region).contains(&Endpoint::Host(host.clone())))
}
