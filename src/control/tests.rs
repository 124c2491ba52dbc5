//! The writer step by step: what waits, an append that ends as the test says, and what was told and published.

use super::batch::Batch;
use super::events::Events;
use super::publish::{Publisher, tests::answer};
use super::reload::{self, Candidate};
use super::types::{Event, Happening, HistoryRequest, Published, Receipt, ReloadRequest, Serving, SubmitError};
use super::writer::{Message, Parts, WAITING_MAX, Writer};
use super::{Surroundings, compile, settings};
use crate::answer::Snapshot;
use crate::config::Outline;
use crate::health::Book;
use crate::ledger::Hash;
use crate::model::{
    Actor, AppId, Body, Draft, Evidence, FailReason, Failure, Gate, Generation, HealthSource, Move, MoveKind, Name, Outcome, ProbeTarget,
    RegionHealth, RegionId,
};
use crate::probe::{ProbeEvent, Prober};
use crate::role::{self, Command, Request, State, Watch};
use crate::steering::AlertKind;
use crate::store::{Appender, FileStore, LedgerReader, StoreError};
use crate::telemetry::DnsCounters;
use crate::telemetry::{Clock, Metrics};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Where a reply arrives.
type Answer = oneshot::Receiver<Result<Receipt, SubmitError>>;

/// A zone with nothing in it but itself.
const ZONE: &str = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n";
/// An application whose name may be switched again at once, without probes.
const CONFIG: &str = r#"
version = 1
[node]
name = "n"
data-dir = "data"
[dns]
listen = ["127.0.0.1:0"]
[api]
listen = "127.0.0.1:0"
[[zone]]
name = "example.net."
file = "zone"
[region.iad]
[region.fra]
[app.shop]
name = "shop.example.net."
regions = ["iad", "fra"]
cooldown = "0s"
[app.shop.endpoints]
iad = ["192.0.2.10"]
fra = ["198.51.100.10"]
"#;

/// A writer on a data dir of its own.
struct Bench {
    folder: tempfile::TempDir,
    writer: Writer,
    lanes: Arc<ArcSwap<Snapshot>>,
    view: Arc<ArcSwap<Published>>,
    events: broadcast::Receiver<Arc<Event>>,
}

/// Everything that a writer is made of, on a data dir of its own.
struct Made {
    folder: tempfile::TempDir,
    parts: Parts,
    lanes: Arc<ArcSwap<Snapshot>>,
    view: Arc<ArcSwap<Published>>,
    ledger: LedgerReader,
}

impl Bench {
    /// A writer that serves a config.
    fn new(config: &str) -> Bench {
        Bench::with(config, &[])
    }

    /// The same, with files beside the config.
    fn with(config: &str, files: &[(&str, &str)]) -> Bench {
        let Made {
            folder,
            parts,
            lanes,
            view,
            ..
        } = make(config, files);
        let (sender, events) = broadcast::channel(64);
        let mut writer = Writer::new(parts, Publisher::new(lanes.clone(), view.clone()), Events::new(sender));
        writer.begin();
        Bench {
            folder,
            writer,
            lanes,
            view,
            events,
        }
    }

    /// Puts a command into the row of what waits.
    fn submit(&mut self, request_id: Option<&str>, command: Command) -> Answer {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            actor: Actor::Uid { uid: 1000, user: None },
            reason: "test".to_owned(),
            request_id: request_id.map(str::to_owned),
            command,
        };
        self.writer.waiting.push_back(Message::Submit(request, reply));
        answer
    }

    /// Loads the files as they are, with the roles of now.
    fn load(&self) -> Box<Candidate> {
        let loaded = reload::load(&self.folder.path().join("c.toml")).unwrap();
        let settings = settings::settings(&loaded.config, &Serving::Current).unwrap();
        let now = self.writer.clock.now();
        Box::new(Candidate::compile(loaded, &self.view.load(), now, 1, settings))
    }

    /// Puts a reload into the row of what waits.
    fn adopt(&mut self, candidate: Box<Candidate>) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.writer.waiting.push_back(Message::Adopt(candidate, reload_request(), reply));
        answer
    }

    /// The append under way ends as the disk says.
    async fn finish(&mut self) {
        let done = (&mut self.writer.in_flight.as_mut().unwrap().done).await.unwrap();
        self.writer.finish_append(done);
    }
}

/// Makes what a writer is made of, for a config and files beside it.
fn make(config: &str, files: &[(&str, &str)]) -> Made {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in files {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    std::fs::write(folder.path().join("zone"), ZONE).unwrap();
    std::fs::write(folder.path().join("c.toml"), config).unwrap();
    let loaded = reload::load(&folder.path().join("c.toml")).unwrap();
    let clock = Arc::new(Clock::new());
    let now = clock.now();
    let (mut store, _) = FileStore::open(&folder.path().join("data"), "now", &mut |_| {}).unwrap();
    let mut batch = Batch::new(&State::new(), Hash::GENESIS);
    let drafts = role::reconcile(&batch.next, &loaded.config.fleet).unwrap();
    batch.add(drafts, &loaded.config.fleet, now).unwrap();
    store.append(&batch.lines).unwrap();
    let mut health = Book::new();
    health.reconfigure(&loaded.config.fleet, now);
    let settings = settings::settings(&loaded.config, &Serving::Current).unwrap();
    let (answers, decisions) = compile(&loaded.config.fleet, &loaded.zones, &batch.next, &health, now, 1, settings);
    let config = Arc::new(loaded.config);
    let lanes = Arc::new(ArcSwap::from_pointee(answers));
    let view = Arc::new(ArcSwap::from_pointee(Published {
        generation: Generation(0),
        seq: batch.next.seq(),
        head: batch.head,
        config: config.clone(),
        state: batch.next.clone(),
        health: health.clone(),
        watch: Arc::new(Watch::new()),
        decisions,
        alerts: imbl::OrdMap::new(),
        serving: Arc::new(Serving::Current),
    }));
    let (outcomes, _) = mpsc::channel(1);
    let ledger = store.reader();
    let parts = Parts {
        unrecorded: None,
        certificate_fault: Box::new(|| None),
        prober: Prober::start(outcomes, clock.origin()),
        clock,
        config,
        outline: Outline::of(&loaded.zones),
        state: batch.next,
        head: batch.head,
        health,
        appender: Some(Appender::start(store).unwrap()),
        metrics: Arc::new(Metrics::new().unwrap()),
        serving: Serving::Current,
        hashes: BTreeMap::new(),
    };
    Made {
        folder,
        parts,
        lanes,
        view,
        ledger,
    }
}

/// The same application with two endpoints in iad and a probe, whose runs the test makes up.
fn probed() -> String {
    CONFIG.replace("[\"192.0.2.10\"]", "[\"192.0.2.10\", \"192.0.2.11\"]")
        + "[[app.shop.probe]]\nkind = \"tcp\"\nport = 80\nfall = 1\nrise = 1\n"
}

/// A switch of the application's name; nothing is known of a region without probes.
fn switch(to: &str, expect: Option<&str>) -> Command {
    Command::Switch {
        name: name(),
        to: RegionId::new(to),
        expect: expect.map(RegionId::new),
        expect_seq: None,
        overrides: BTreeSet::from([Gate::TargetHealthy]),
    }
}

/// A reload.
fn reload_request() -> ReloadRequest {
    ReloadRequest {
        force: false,
        reason: "test".to_owned(),
        actor: Actor::Node,
        request_id: None,
    }
}

/// The application's name.
fn name() -> Name {
    Name::parse("shop.example.net.").unwrap()
}

#[tokio::test]
async fn a_failed_append_takes_along_what_was_judged_on_it() {
    let mut bench = Bench::new(CONFIG);
    let mut first = bench.submit(Some("first"), switch("fra", None));
    bench.writer.start_append();
    bench.finish().await;
    let receipt = first.try_recv().unwrap().unwrap();

    let mut already = bench.submit(None, switch("fra", None));
    let mut back = bench.submit(None, switch("iad", Some("fra")));
    let mut twice = bench.submit(None, switch("iad", None));
    let mut stale = bench.submit(None, switch("iad", Some("fra")));
    let mut refused = bench.submit(None, switch("fra", Some("fra")));
    let mut repeated = bench.submit(Some("first"), switch("fra", None));
    bench.writer.start_append();
    assert!(bench.writer.in_flight.is_some());
    bench.writer.finish_append(Err(StoreError::Gone));

    assert!(!already.try_recv().unwrap().unwrap().changed, "judged before anything else");
    for (what, answer) in [
        ("back", &mut back),
        ("twice", &mut twice),
        ("stale", &mut stale),
        ("refused", &mut refused),
    ] {
        let told = answer.try_recv().unwrap();
        assert!(matches!(told, Err(SubmitError::Unavailable(_))), "{what}: {told:?}");
    }
    let again = repeated.try_recv().unwrap().unwrap();
    assert_eq!((again.changed, again.seq, again.hash), (true, receipt.seq, receipt.hash));
}

#[tokio::test]
async fn a_reload_that_ends_an_alert_answers_no_role_from_before_a_switch() {
    let mut bench = Bench::new(CONFIG);
    let candidate = bench.load();
    let mut switched = bench.submit(None, switch("fra", None));
    bench.writer.start_append();
    bench.finish().await;
    assert!(switched.try_recv().unwrap().unwrap().changed);
    let of_fra = answer(bench.writer.publisher.stored.last().unwrap(), &name());
    bench
        .writer
        .reload_refused("test", &SubmitError::NeedsRestart(vec!["dns.listen".to_owned()]));

    bench.writer.publisher.stored.clear();
    let mut reloaded = bench.adopt(candidate);
    bench.writer.start_append();
    bench.finish().await;
    assert!(reloaded.try_recv().unwrap().unwrap().changed);
    assert!(
        bench.view.load().alerts.keys().all(|key| key.name.is_some()),
        "the node's alert is over"
    );
    let stored = &bench.writer.publisher.stored;
    assert!(!stored.is_empty() && stored.iter().all(|answers| answer(answers, &name()) == of_fra));
}

#[tokio::test]
async fn a_reload_takes_new_cookie_secrets_although_no_other_file_changed() {
    let (one, two) = ("e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962");
    let config = CONFIG.replace("[dns]", "[dns]\ncookie-secret-file = \"secrets\"");
    let mut bench = Bench::with(&config, &[("secrets", one)]);
    let secrets = bench.folder.path().join("secrets");
    // The first one is the first to be recorded at all.
    for (text, is_taken) in [
        (one.to_owned(), true),
        (one.to_owned(), false),
        (format!("{one}\n{two}"), true),
        (format!("# in use\n{one}\n# next\n{two}"), false),
        (format!("{two}\n{one}"), true),
    ] {
        std::fs::write(&secrets, &text).unwrap();
        let candidate = bench.load();
        let mut reloaded = bench.adopt(candidate);
        bench.writer.start_append();
        if is_taken {
            bench.finish().await;
        }
        assert_eq!(reloaded.try_recv().unwrap().unwrap().changed, is_taken, "{text}");
        let served = bench.lanes.load().service().cookies;
        assert!(served == settings::read_secrets(&secrets).ok(), "{text}");
    }
}

#[tokio::test]
async fn a_reload_has_the_counts_of_earlier_ones_added_up_also_where_nobody_scrapes() {
    let Made {
        folder,
        parts,
        lanes,
        view,
        ledger,
    } = make(CONFIG, &[]);
    let (_outcomes, inbox) = mpsc::channel(1);
    let asked = Arc::new(AtomicUsize::new(0));
    let asking = asked.clone();
    let around = Surroundings {
        lanes,
        view,
        ledger,
        config_path: folder.path().join("c.toml"),
        files: BTreeSet::new(),
        hash_seed: 1,
        dns_counters: Box::new(move || {
            asking.fetch_add(1, Ordering::Relaxed);
            DnsCounters::default()
        }),
    };
    let handle = super::start(parts, around, inbox);
    for reloads in 1..=3 {
        handle.reload(reload_request()).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), reloads);
    }
}

#[tokio::test]
async fn reloads_go_one_after_the_other_and_do_not_pile_up() {
    let Made {
        folder,
        parts,
        lanes,
        view,
        ledger,
    } = make(CONFIG, &[]);
    let (_outcomes, inbox) = mpsc::channel(1);
    let around = Surroundings {
        lanes: lanes.clone(),
        view,
        ledger,
        config_path: folder.path().join("c.toml"),
        files: BTreeSet::new(),
        hash_seed: 1,
        dns_counters: Box::new(Default::default),
    };
    let handle = super::start(parts, around, inbox);
    // A load stops at a pipe until somebody writes into it.
    let zone = folder.path().join("zone");
    std::fs::remove_file(&zone).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&zone).status().unwrap().success());
    let mut reloads = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let handle = handle.clone();
        reloads.spawn(async move { handle.reload(reload_request()).await });
    }
    for _ in 0..8 {
        let told = reloads.join_next().await.unwrap().unwrap();
        assert!(matches!(told, Err(SubmitError::Unavailable(_))), "{told:?}");
    }
    for last in [3, 4] {
        let (zone, text) = (zone.clone(), ZONE.replace("192.0.2.1", &format!("192.0.2.{last}")));
        tokio::task::spawn_blocking(move || std::fs::write(zone, text))
            .await
            .unwrap()
            .unwrap();
        let told = reloads.join_next().await.unwrap().unwrap();
        assert!(told.is_ok_and(|receipt| receipt.changed));
        let answered = answer(&lanes.load(), &Name::parse("ns.example.net.").unwrap());
        assert!(answered.ends_with(&[192, 0, 2, last]), "{answered:?}");
    }
    assert!(handle.is_writing());
    handle.stop().await;
    assert!(!handle.is_writing());
}

#[tokio::test]
async fn what_is_left_behind_a_batch_without_entries_is_taken_at_once() {
    let mut bench = Bench::new(CONFIG);
    let mut refused = bench.submit(None, switch("fra", Some("fra")));
    let candidate = bench.load();
    let mut reloaded = bench.adopt(candidate);
    let mut switched = bench.submit(None, switch("fra", None));
    // As the loop does: whatever waits is looked at until an append is under way or it would sleep.
    bench.writer.start_append();
    assert!(matches!(refused.try_recv().unwrap(), Err(SubmitError::Denied(_))));
    assert!(bench.writer.in_flight.is_none());
    assert!(bench.writer.sleep_until().is_zero(), "a reload waits");
    bench.writer.start_append();
    bench.finish().await;
    assert!(reloaded.try_recv().unwrap().unwrap().changed);
    assert!(bench.writer.sleep_until().is_zero(), "a switch waits");
    bench.writer.start_append();
    assert!(!bench.writer.sleep_until().is_zero(), "the append's end wakes the loop");
    bench.finish().await;
    assert!(switched.try_recv().unwrap().unwrap().changed);
    bench.writer.start_append();
    assert!(!bench.writer.sleep_until().is_zero(), "the policies looked, and nothing waits");
}

#[tokio::test]
async fn a_writer_that_breaks_is_told_and_one_that_ends_is_not() {
    let Made { parts, view, .. } = make(CONFIG, &[]);
    let (sender, mut told_events) = broadcast::channel(8);
    let events = Events::new(sender);
    events.tell(
        parts.clock.now().wall,
        Happening::Health {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            from: RegionHealth::Unknown,
            to: RegionHealth::Healthy,
            reason: String::new(),
        },
    );
    super::supervise(tokio::spawn(async {}), view.clone(), parts.clock.clone(), events.clone()).await;
    assert_eq!(told_events.try_recv().unwrap().id, 1);
    assert!(told_events.try_recv().is_err());
    assert!(*view.load().serving == Serving::Current && view.load().alerts.is_empty());
    let broken = tokio::spawn(async { panic!("for the test") });
    super::supervise(broken, view.clone(), parts.clock.clone(), events).await;
    let event = told_events.try_recv().unwrap();
    assert_eq!(event.id, 2, "the numbers go on");
    let Happening::Alert { alert, raised: true } = &event.what else {
        panic!("{event:?}")
    };
    assert!(alert.key.alert == AlertKind::AnswerOnly && alert.message.contains("restart the server"));
    let told = view.load_full();
    assert!(matches!(&*told.serving, Serving::AnswerOnly { why } if why.contains("restart the server")));
    assert!(told.alerts.keys().any(|key| key.alert == AlertKind::AnswerOnly));
}

#[tokio::test]
async fn a_region_of_which_nothing_was_ever_heard_is_alerted_without_any_change() {
    let mut bench = Bench::new(&probed());
    let is_alerted = |bench: &Bench| bench.view.load().alerts.keys().any(|key| key.alert == AlertKind::HealthUnknown);
    let now = bench.writer.clock.now();
    bench.writer.tick(now.plus(Duration::from_secs(5)));
    assert!(!is_alerted(&bench), "it may still come");
    bench.writer.tick(now.plus(Duration::from_secs(3600)));
    assert!(is_alerted(&bench));
    assert!(bench.writer.unheard_until.is_none(), "what comes now is a change");
}

#[tokio::test]
async fn the_alert_on_the_prober_ends_also_where_no_region_is_left_to_tell_of_it() {
    let mut bench = Bench::new(&probed());
    let is_alerted = |bench: &Bench| bench.view.load().alerts.keys().any(|key| key.alert == AlertKind::ProberSuspected);
    bench
        .writer
        .node_alert(AlertKind::ProberSuspected, Some("everything is cut off".to_owned()));
    assert!(is_alerted(&bench));
    let now = bench.writer.clock.now();
    bench.writer.tell_changes(&[], now);
    assert!(!is_alerted(&bench), "nothing is suspected");
}

#[tokio::test]
async fn a_suspension_is_noticed_before_anything_is_decided_on_what_was_known() {
    let mut bench = Bench::new(&probed());
    let (shop, iad) = (AppId::new("shop"), RegionId::new("iad"));
    let targets: Vec<ProbeTarget> = bench.writer.health.targets(&shop).iter().map(|one| one.target.clone()).collect();
    let now = bench.writer.clock.now();
    for target in targets {
        bench
            .writer
            .health
            .observe(&Outcome::new(target, now.mono, Duration::ZERO, Ok(())), now);
    }
    let is_unconfirmed = |bench: &Bench| {
        let view = bench.view.load();
        view.health.region(&shop, &iad).unwrap().unconfirmed.is_some()
    };
    let is_alerted = |bench: &Bench| bench.view.load().alerts.keys().any(|key| key.alert == AlertKind::ClockStepped);
    bench.writer.look_at_clocks();
    assert!(!is_unconfirmed(&bench) && !is_alerted(&bench));
    bench.writer.clock.sleep_through(Duration::from_secs(3 * 3600));
    bench.writer.look_at_clocks();
    assert!(is_unconfirmed(&bench) && is_alerted(&bench));
}

#[tokio::test]
async fn what_a_reload_does_to_verdicts_is_told() {
    let mut bench = Bench::new(&probed());
    let endpoints = bench.writer.config.fleet.apps[&AppId::new("shop")]
        .endpoints_of(&RegionId::new("iad"))
        .to_vec();
    let sick = Failure {
        reason: FailReason::Status,
        message: "HTTP 503".to_owned(),
    };
    for (endpoint, result) in endpoints.into_iter().zip([Ok(()), Err(sick)]) {
        let now = bench.writer.clock.now();
        let crate::model::Endpoint::Address(address) = endpoint else {
            continue;
        };
        let target = ProbeTarget {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            endpoint,
            probe: 0,
            address,
        };
        let outcome = Outcome::new(target, now.mono, Duration::ZERO, result);
        bench.writer.health.observe(&outcome, now);
    }
    while bench.events.try_recv().is_ok() {}
    let config = probed().replace(", \"192.0.2.11\"", "");
    std::fs::write(bench.folder.path().join("c.toml"), config).unwrap();
    let candidate = bench.load();
    let mut reloaded = bench.adopt(candidate);
    bench.writer.start_append();
    bench.finish().await;
    assert!(reloaded.try_recv().unwrap().unwrap().changed);
    let events = std::iter::from_fn(|| bench.events.try_recv().ok());
    let told: Vec<_> = events
        .filter_map(|event| match &event.what {
            Happening::Health { from, to, .. } => Some((*from, *to)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(RegionHealth::Degraded, RegionHealth::Healthy)]);
}

#[test]
fn a_pipe_in_the_place_of_a_password_is_warned_of_and_not_waited_for() {
    let probe = "[[app.shop.probe]]\nkind = \"mysql\"\nuser = \"watcher\"\npassword-file = \"password\"\n";
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    std::fs::write(&config, CONFIG.to_owned() + probe).unwrap();
    std::fs::write(folder.path().join("zone"), ZONE).unwrap();
    nix::unistd::mkfifo(&folder.path().join("password"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // On a thread of its own, so that one which waits for ever fails this test.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(reload::load(&config).map(|loaded| loaded.warnings)));
    let warnings = told.recv_timeout(Duration::from_secs(30)).expect("an end").unwrap();
    let words = "password cannot be read: not a regular file";
    assert!(warnings.iter().any(|one| one.to_string().contains(words)), "{warnings:?}");
}

#[tokio::test]
async fn an_outcome_on_its_way_while_its_endpoint_goes_is_not_counted() {
    let mut bench = Bench::new(&probed());
    let outcome = |last: u8, now: crate::model::Now| {
        let address = std::net::IpAddr::from([192, 0, 2, last]);
        let target = ProbeTarget {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            endpoint: crate::model::Endpoint::Address(address),
            probe: 0,
            address,
        };
        ProbeEvent::Outcome(Outcome::new(target, now.mono, Duration::ZERO, Ok(())))
    };
    let seen = |bench: &Bench, address: &str| {
        let rendered = bench.writer.metrics.render(&Default::default()).unwrap();
        rendered.contains(&format!("endpoint=\"{address}\""))
    };
    let under_way = bench.writer.clock.now();
    std::fs::write(bench.folder.path().join("c.toml"), probed().replace(", \"192.0.2.11\"", "")).unwrap();
    let candidate = bench.load();
    let _reloaded = bench.adopt(candidate);
    bench.writer.start_append();
    bench.finish().await;
    let now = bench.writer.clock.now();
    bench
        .writer
        .fold([outcome(11, under_way), outcome(11, now), outcome(10, now)].into_iter());
    assert!(seen(&bench, "192.0.2.10") && !seen(&bench, "192.0.2.11"));
    assert_eq!(bench.writer.history.targets(), 1);
}

#[tokio::test]
async fn the_alert_on_look_ups_ends_with_the_probes_that_need_them() {
    let named = CONFIG.replace("[\"192.0.2.10\"]", "[\"lb.example.com.\"]");
    let probed = named.clone() + "[[app.shop.probe]]\nkind = \"tcp\"\nport = 80\n";
    let mut bench = Bench::new(&probed);
    let is_alerted = |bench: &Bench| bench.view.load().alerts.keys().any(|key| key.alert == AlertKind::LookupFailing);
    let event = ProbeEvent::Lookup {
        app: AppId::new("shop"),
        region: RegionId::new("iad"),
        host: Name::parse("lb.example.com.").unwrap(),
        error: Some("no answer in time".to_owned()),
    };
    bench.writer.fold([event].into_iter());
    assert!(is_alerted(&bench));
    std::fs::write(bench.folder.path().join("c.toml"), named).unwrap();
    let candidate = bench.load();
    let _reloaded = bench.adopt(candidate);
    bench.writer.start_append();
    bench.finish().await;
    assert!(!is_alerted(&bench));
}

#[tokio::test]
async fn an_override_is_alerted_for_the_name_that_needed_it_until_its_next_move_and_over_a_restart() {
    let other = CONFIG[CONFIG.find("[app.shop]").unwrap()..]
        .replace("shop", "bank")
        .replace("cooldown = \"0s\"\n", "");
    let probed = other + "[[app.bank.probe]]\nkind = \"tcp\"\nport = 9\n";
    let mut bench = Bench::new(&(CONFIG.to_owned() + &probed));
    let now = bench.writer.clock.now();
    let target = ProbeTarget {
        app: AppId::new("bank"),
        ..probe_of("fra", [198, 51, 100, 10])
    };
    let outcome = Outcome::new(target, now.mono, Duration::ZERO, Ok(()));
    bench.writer.health.observe(&outcome, now);
    let evacuate = |region: &str| Command::Evacuate {
        region: RegionId::new(region),
        leave: BTreeSet::new(),
        overrides: BTreeSet::from([Gate::TargetHealthy]),
    };
    let mut done = bench.submit(None, evacuate("iad"));
    bench.writer.start_append();
    let recorded = bench.writer.in_flight.as_ref().unwrap().entries[0].draft.clone();
    bench.finish().await;
    assert!(done.try_recv().unwrap().unwrap().changed);
    let alerted = |writer: &Writer| {
        let current = writer.alerts.current();
        let overrides = current.values().filter(|alert| alert.key.alert == AlertKind::OverrideUsed);
        overrides
            .map(|alert| (alert.key.name.clone().unwrap(), alert.message.clone()))
            .collect::<Vec<_>>()
    };
    let message = format!("uid 1000 overrode target-healthy (seq {}): test", bench.writer.state.seq());
    assert_eq!(
        alerted(&bench.writer),
        [(name(), message.clone())],
        "bank had a healthy region to go to"
    );
    assert!(matches!(&recorded.body, Body::Evacuated { forced, moves, .. } if *forced == [name()] && moves.len() == 2));

    // A start on the same state.
    let Made { parts, view, lanes, .. } = make(CONFIG, &[]);
    let parts = Parts {
        state: bench.writer.state.clone(),
        config: bench.writer.config.clone(),
        ..parts
    };
    let (sender, _) = broadcast::channel(64);
    let mut again = Writer::new(parts, Publisher::new(lanes, view), Events::new(sender));
    again
        .publisher
        .replace(bench.lanes.load_full(), bench.view.load().decisions.clone());
    again.begin();
    assert_eq!(alerted(&again), [(name(), message)], "a restart does not forget it");

    // The policy moves it on.
    let restored = Body::Restored {
        region: RegionId::new("iad"),
    };
    let moved = Body::Moved {
        change: Move {
            name: name(),
            from: RegionId::new("fra"),
            to: RegionId::new("iad"),
            kind: MoveKind::Failover,
        },
        left: false,
        evidence: Evidence::default(),
    };
    let now = bench.writer.clock.now();
    for (body, lasts) in [(restored, true), (moved, false)] {
        let draft = Draft { body, ..recorded.clone() };
        bench.writer.state.apply(bench.writer.state.seq().next(), now, &draft);
        bench.writer.settle(&[name()], now);
        assert_eq!(alerted(&bench.writer).is_empty(), !lasts);
    }
}

#[tokio::test]
async fn what_is_recorded_is_counted_once() {
    let mut bench = Bench::new(CONFIG);
    let drain = || Command::Drain {
        name: name(),
        region: RegionId::new("fra"),
    };
    let evacuate = || Command::Evacuate {
        region: RegionId::new("fra"),
        leave: BTreeSet::new(),
        overrides: BTreeSet::new(),
    };
    for (id, command) in [("one", drain()), ("one", drain()), ("two", evacuate()), ("two", evacuate())] {
        let mut done = bench.submit(Some(id), command);
        bench.writer.start_append();
        if bench.writer.in_flight.is_some() {
            bench.finish().await;
        }
        assert!(done.try_recv().unwrap().unwrap().changed, "{id}");
    }
    let scrape = super::scrape::scrape(&bench.view.load(), DnsCounters::default(), bench.writer.clock.now());
    let text = bench.writer.metrics.render(&scrape).unwrap();
    for kind in ["drain", "evacuate"] {
        for outcome in ["done", "unchanged"] {
            let line = format!("pointsman_switches_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} 1\n");
            assert!(text.contains(&line), "{line}");
        }
    }
}

#[tokio::test]
async fn whoever_moves_very_many_names_is_answered_before_each_was_alerted() {
    let mut config = CONFIG.to_owned();
    for number in 0..crate::both::MANY_NAMES {
        config.push_str(&format!(
            "[app.a{number}]\nname = \"a{number}.example.net.\"\nregions = [\"iad\", \"fra\"]\n[app.a{number}.endpoints]\n\
             iad = [\"192.0.2.10\"]\nfra = [\"198.51.100.10\"]\n"
        ));
    }
    let mut bench = Bench::new(&config);
    let names = bench.writer.config.fleet.names.len();
    let evacuate = Command::Evacuate {
        region: RegionId::new("iad"),
        leave: BTreeSet::new(),
        overrides: BTreeSet::from([Gate::TargetHealthy]),
    };
    let mut done = bench.submit(None, evacuate);
    bench.writer.start_append();
    bench.finish().await;
    assert!(done.try_recv().unwrap().unwrap().changed);
    let fra = answer(&bench.lanes.load(), &name());
    assert!(fra.ends_with(&[198, 51, 100, 10]), "what was acknowledged is answered");
    let alerted = |bench: &Bench| {
        bench
            .view
            .load()
            .alerts
            .keys()
            .filter(|key| key.alert == AlertKind::OverrideUsed)
            .count()
    };
    assert_eq!(alerted(&bench), 0);
    let rest = bench.writer.rest.take().unwrap();
    bench.writer.tell_entries(rest, bench.writer.clock.now());
    assert_eq!(alerted(&bench), names);
    let scrape = super::scrape::scrape(&bench.view.load(), DnsCounters::default(), bench.writer.clock.now());
    let counted = format!("pointsman_switches_total{{kind=\"switchover\",outcome=\"done\"}} {names}\n");
    assert!(
        bench.writer.metrics.render(&scrape).unwrap().contains(&counted),
        "each move is counted"
    );
}

/// Where the only endpoint of a region of `shop` is probed.
fn probe_of(region: &str, address: [u8; 4]) -> ProbeTarget {
    ProbeTarget {
        app: AppId::new("shop"),
        region: RegionId::new(region),
        endpoint: crate::model::Endpoint::Address(address.into()),
        probe: 0,
        address: address.into(),
    }
}

#[tokio::test]
async fn readers_that_ask_without_end_do_not_keep_outcomes_waiting() {
    let Made { parts, view, lanes, .. } = make(&(CONFIG.to_owned() + "[[app.shop.probe]]\nkind = \"tcp\"\nport = 9\n"), &[]);
    let (sender, _events) = broadcast::channel(64);
    let now = parts.clock.now();
    let writer = Writer::new(parts, Publisher::new(lanes, view.clone()), Events::new(sender));
    let (messages, inbox) = mpsc::channel(WAITING_MAX);
    let (outcomes, arriving) = mpsc::channel(1);
    let ask = || {
        let (reply, answer) = oneshot::channel();
        let request = HistoryRequest {
            app: AppId::new("shop"),
            region: None,
            endpoint: None,
            within: Duration::from_secs(3600),
            skip: 0,
            limit: 10,
        };
        assert!(messages.try_send(Message::History(request, reply)).is_ok());
        answer
    };
    let mut asked: Vec<_> = (0..WAITING_MAX).map(|_| ask()).collect();
    let outcome = Outcome::new(probe_of("iad", [192, 0, 2, 10]), now.mono, Duration::ZERO, Ok(()));
    outcomes.try_send(ProbeEvent::Outcome(outcome)).unwrap();
    let running = tokio::spawn(writer.run(inbox, arriving));
    tokio::task::yield_now().await;
    let answered = asked.iter_mut().map(|answer| usize::from(answer.try_recv().is_ok())).sum::<usize>();
    assert!((1..WAITING_MAX).contains(&answered), "some still wait: {answered}");
    let health = view
        .load()
        .health
        .region(&AppId::new("shop"), &RegionId::new("iad"))
        .unwrap()
        .health;
    assert_eq!(health, RegionHealth::Healthy);
    running.abort();
}

#[tokio::test]
async fn the_alert_that_nothing_can_be_recorded_says_when_it_ends() {
    let path = std::path::PathBuf::from("ledger");
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let cases = [
        (
            StoreError::Io {
                what: "write to",
                path: path.clone(),
                source: full(),
            },
            "over with the next entry",
        ),
        (
            StoreError::Undecided {
                path: path.clone(),
                source: full(),
            },
            "lasts until a restart",
        ),
        (StoreError::Poisoned { path }, "lasts until a restart"),
        (StoreError::Gone, "lasts until a restart"),
    ];
    for (error, says) in cases {
        let mut bench = Bench::new(CONFIG);
        let mut refused = bench.submit(None, switch("fra", None));
        bench.writer.start_append();
        bench.writer.finish_append(Err(error));
        let refusal = refused.try_recv().unwrap().unwrap_err().to_string();
        assert!(!refusal.contains(says), "that is no business of whoever asked: {refusal}");
        let alerts = bench.view.load().alerts.clone();
        let alert = alerts.values().find(|alert| alert.key.alert == AlertKind::CannotRecord).unwrap();
        assert!(alert.message.contains(says), "{}", alert.message);
    }
}

#[tokio::test]
async fn a_look_up_that_nothing_asks_for_is_not_alerted() {
    let hosted = CONFIG.replace("fra = [\"198.51.100.10\"]", "fra = [\"fra.example.com\"]");
    let mut bench = Bench::new(&(hosted + "[[app.shop.probe]]\nkind = \"tcp\"\nport = 9\n"));
    let failed = |host: &str| ProbeEvent::Lookup {
        app: AppId::new("shop"),
        region: RegionId::new("fra"),
        host: Name::parse(host).unwrap(),
        error: Some("SERVFAIL".to_owned()),
    };
    let lasts = |bench: &Bench| bench.view.load().alerts.keys().any(|key| key.alert == AlertKind::LookupFailing);
    bench.writer.fold([failed("other.example.com.")].into_iter());
    assert!(!lasts(&bench));
    bench.writer.fold([failed("fra.example.com.")].into_iter());
    assert!(lasts(&bench));
}
