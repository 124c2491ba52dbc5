//! The prober over real sockets; its timing and its gate are tested beside it with made-up kinds.

use super::*;
use pointsman::health::{Book, ChangeKind};
use pointsman::model::{App, Endpoint, Failover, Fleet, Name, Now, Outcome, RegionHealth, Require, TcpProbe, Wall, WhenAllDown};
use pointsman::probe::{Addresses, Lookup, LookupFuture, ProbeEvent, Prober, Resolver};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// An application `shop` in `iad` with one endpoint.
fn shop(endpoint: Endpoint, probes: Vec<ProbeSpec>) -> App {
    let iad = RegionId::new("iad");
    App {
        id: AppId::new("shop"),
        name: Name::parse("shop.example.net.").unwrap(),
        regions: vec![iad.clone()],
        ttl: 30,
        failover: Failover::Manual,
        failover_delay: Duration::ZERO,
        failback_delay: Duration::ZERO,
        cooldown: Duration::ZERO,
        when_all_down: WhenAllDown::Active,
        require: Require::All,
        paired: BTreeMap::new(),
        endpoints: BTreeMap::from([(iad, vec![endpoint])]),
        probes,
    }
}

/// A probe that runs about every 20 ms.
fn often(kind: ProbeKind) -> ProbeSpec {
    ProbeSpec {
        interval: Duration::from_millis(20),
        ..spec(kind, LIMIT)
    }
}

/// A prober with one probe at 127.0.0.1.
pub(crate) struct Watched {
    events: mpsc::Receiver<ProbeEvent>,
    _prober: Prober,
}

impl Watched {
    pub(crate) fn new(kind: ProbeKind) -> Watched {
        Watched::with(&often(kind))
    }

    /// With all that is expected of the answer; as often as `new`.
    pub(crate) fn with(spec: &ProbeSpec) -> Watched {
        let spec = ProbeSpec {
            interval: often(spec.kind.clone()).interval,
            ..spec.clone()
        };
        let (tx, events) = mpsc::channel(1);
        let prober = Prober::start(tx, Instant::now());
        let app = shop(Endpoint::Address("127.0.0.1".parse().unwrap()), vec![spec]);
        prober.configure(&Fleet::new(BTreeMap::new(), vec![Arc::new(app)]));
        Watched { events, _prober: prober }
    }

    /// The next outcome.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        match tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await {
            Ok(Some(ProbeEvent::Outcome(outcome))) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// The first outcome for which a condition holds.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Outcome) -> bool) -> Outcome {
        let began = Instant::now();
        loop {
            let outcome = self.outcome().await;
            if holds(&outcome) {
                return outcome;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "last: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn the_verdict_follows_the_service_down_and_up() {
    let up = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&up);
    let there = server(move |mut stream| {
        let state = Arc::clone(&state);
        async move {
            while !read_head(&mut stream).await.is_empty() {
                let status = if state.load(Ordering::SeqCst) {
                    "200 OK"
                } else {
                    "503 Service Unavailable"
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let probe = super::http::get(&format!("http://shop.invalid:{}/", there.port()));
    let app = shop(
        Endpoint::Address("127.0.0.1".parse().unwrap()),
        vec![often(ProbeKind::Http(Box::new(probe)))],
    );
    let fleet = Fleet::new(BTreeMap::new(), vec![Arc::new(app)]);
    let (tx, mut events) = mpsc::channel(1);
    let prober = Prober::start(tx, Instant::now());
    let mut book = Book::new();
    prober.configure(&fleet);
    let wall = Wall(1_795_252_365_000);
    book.reconfigure(&fleet, Now { mono: prober.now(), wall });
    let mut changes = Vec::new();
    let mut failures = 0;
    while changes.len() < 3 {
        let Some(ProbeEvent::Outcome(outcome)) = events.recv().await else {
            panic!("no events any more");
        };
        failures += usize::from(outcome.result.is_err());
        for change in book.observe(&outcome, Now { mono: prober.now(), wall }) {
            if let ChangeKind::Region { to, .. } = change.what {
                changes.push((to, failures));
                up.store(to != RegionHealth::Healthy, Ordering::SeqCst);
            }
        }
    }
    assert_eq!(changes[0], (RegionHealth::Healthy, 0), "the first success");
    assert_eq!(changes[1], (RegionHealth::Unhealthy, 3), "exactly after `fall` failures");
    assert_eq!(changes[2].0, RegionHealth::Healthy);
    assert!(changes[2].1 <= 4, "at most the one that was under way: {changes:?}");
}

/// `lb.example.com.` is at 127.0.0.1 and ::1.
struct Both;

impl Lookup for Both {
    fn addresses(&self, host: &Name) -> LookupFuture {
        assert_eq!(host.to_string(), "lb.example.com.");
        let of = |texts: &[&str]| Some(texts.iter().map(|one| one.parse().unwrap()).collect());
        let both = Addresses {
            v4: of(&["127.0.0.1", "127.0.0.1"]),
            v6: of(&["::1"]),
            ttl: Duration::from_secs(60),
        };
        Box::pin(async move { Ok(both) })
    }
}

#[tokio::test]
async fn a_host_name_is_probed_at_every_address_and_told_first() {
    let open = server(|mut stream| async move { hold(&mut stream).await }).await;
    let tcp = TcpProbe {
        port: open.port(),
        send: None,
        expect: None,
    };
    let (tx, mut events) = mpsc::channel(1);
    let prober = Prober::start_with(tx, Instant::now(), Arc::new(Both));
    let host = Endpoint::Host(Name::parse("lb.example.com.").unwrap());
    let app = shop(host.clone(), vec![often(ProbeKind::Tcp(tcp))]);
    prober.configure(&Fleet::new(BTreeMap::new(), vec![Arc::new(app)]));
    let addresses: Vec<IpAddr> = ["127.0.0.1", "::1"].iter().map(|one| one.parse().unwrap()).collect();
    let told = ProbeEvent::Resolved {
        app: AppId::new("shop"),
        region: RegionId::new("iad"),
        endpoint: host.clone(),
        addresses: addresses.clone(),
    };
    assert_eq!(events.recv().await, Some(told));
    let mut passed = BTreeMap::new();
    while passed.len() < 2 {
        if let Some(ProbeEvent::Outcome(outcome)) = events.recv().await {
            assert_eq!(outcome.target.endpoint, host);
            passed.insert(outcome.target.address, outcome.result.is_ok());
        }
    }
    assert_eq!(passed, BTreeMap::from([(addresses[0], true), (addresses[1], false)]));
}

#[tokio::test]
async fn names_of_special_use_are_never_asked_for() {
    let resolver = Resolver::of(Vec::new(), LIMIT);
    let of = |name: &str| resolver.addresses(&Name::parse(name).unwrap());
    let found = of("db.localhost.").await.unwrap();
    let all: Vec<IpAddr> = found.v4.iter().chain(&found.v6).flatten().copied().collect();
    assert!(all.len() == 2 && all.iter().all(IpAddr::is_loopback), "{all:?}");
    assert_eq!(of("no-such-host.invalid.").await.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(of("elsewhere.example.").await.unwrap_err().to_string(), "no resolver is configured");
}
