//! Made-up fleets and health for the unit tests of `role` and `steering`.

use crate::model::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Health as the test says; counts how often it is asked.
#[derive(Default)]
pub(crate) struct Health {
    /// What is said.
    pub regions: BTreeMap<(AppId, RegionId), RegionStatus>,
    /// How often it was asked.
    pub asked: AtomicUsize,
}

impl HealthSource for Health {
    fn region(&self, app: &AppId, region: &RegionId) -> Option<&RegionStatus> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.regions.get(&(app.clone(), region.clone()))
    }
}

impl Health {
    /// Sets every endpoint of a region to what its health says.
    pub(crate) fn set(&mut self, app: &App, region: &str, health: RegionHealth, now: Now) {
        let verdict = match health {
            RegionHealth::Healthy | RegionHealth::Degraded => Verdict::Healthy,
            RegionHealth::Unhealthy => Verdict::Unhealthy,
            RegionHealth::Unknown => Verdict::Unknown,
        };
        let region = RegionId::new(region);
        let endpoints = app.endpoints_of(&region).iter().map(|endpoint| EndpointStatus {
            endpoint: endpoint.clone(),
            verdict,
        });
        let status = RegionStatus {
            health,
            since: now.mono,
            evidence_at: (health != RegionHealth::Unknown).then_some(now.mono),
            reason: if health == RegionHealth::Unhealthy {
                "HTTP 503".to_owned()
            } else {
                String::new()
            },
            observed: Observed::None,
            observed_since: now.mono,
            endpoints: endpoints.collect(),
            cut_since: None,
            passed_at: (health == RegionHealth::Healthy).then_some(now.mono),
            cannot_run: None,
            unconfirmed: None,
        };
        self.regions.insert((app.id.clone(), region), status);
    }
}

/// The start of the tests' time.
pub(crate) fn start() -> Now {
    Now {
        mono: Mono::ORIGIN,
        wall: Wall(1_800_000_000_000),
    }
}

/// Some seconds after the start.
pub(crate) fn at(seconds: u64) -> Now {
    start().plus(Duration::from_secs(seconds))
}

/// A name.
pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A region.
pub(crate) fn region(text: &str) -> RegionId {
    RegionId::new(text)
}

/// A manual application with an endpoint a region, probed every 5 s.
pub(crate) fn app(id: &str, regions: &[&str]) -> App {
    let endpoints = regions.iter().enumerate().map(|(index, one)| {
        let address = std::net::IpAddr::from([192, 0, 2, (index as u8 + 1) * 10]);
        (region(one), vec![Endpoint::Address(address)])
    });
    App {
        id: AppId::new(id),
        name: name(&format!("{id}.example.net.")),
        regions: regions.iter().map(|one| region(one)).collect(),
        ttl: 30,
        failover: Failover::Manual,
        failover_delay: Duration::ZERO,
        failback_delay: Duration::from_secs(300),
        cooldown: Duration::from_secs(60),
        when_all_down: WhenAllDown::Active,
        require: Require::All,
        paired: BTreeMap::new(),
        endpoints: endpoints.collect(),
        probes: vec![ProbeSpec::new(ProbeKind::Tcp(TcpProbe {
            port: 80,
            send: None,
            expect: None,
        }))],
    }
}

/// The fleet of some applications.
pub(crate) fn fleet(apps: Vec<App>) -> Fleet {
    let regions = apps
        .iter()
        .flat_map(|app| &app.regions)
        .map(|one| (one.clone(), String::new()))
        .collect();
    Fleet::new(regions, apps.into_iter().map(Arc::new).collect())
}

/// A draft by an operator.
pub(crate) fn draft(body: Body) -> Draft {
    Draft {
        actor: Actor::Uid { uid: 1000, user: None },
        reason: "test".to_owned(),
        request_id: None,
        body,
    }
}

/// A state with every name of a fleet in it, recorded at the start.
pub(crate) fn state(fleet: &Fleet) -> crate::role::State {
    let mut state = crate::role::State::new();
    for draft in crate::role::reconcile(&state, fleet).unwrap() {
        state.apply(state.seq().next(), start(), &draft);
    }
    state
}
