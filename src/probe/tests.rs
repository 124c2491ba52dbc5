//! Tests of the prober with kinds and look-ups made up here: which probes run, when, and what is told.

use super::limits::Budget;
use super::prober::Kinds;
use super::*;
use crate::model::{App, ExecProbe, Failover, Fleet, Name, Require, TcpProbe, WhenAllDown};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// A probe told from others by its port.
fn probe(port: u16, interval: Duration) -> ProbeSpec {
    let kind = ProbeKind::Tcp(TcpProbe {
        port,
        send: None,
        expect: None,
    });
    ProbeSpec {
        interval,
        timeout: Duration::from_secs(60),
        stale_after: Duration::from_secs(60),
        ..ProbeSpec::new(kind)
    }
}

/// As often as it goes.
const FAST: Duration = Duration::from_millis(2);

/// A fleet of one application with these endpoints in one region.
fn fleet(id: &str, endpoints: &[&str], probes: Vec<ProbeSpec>) -> Fleet {
    let iad = RegionId::new("iad");
    let parse = |text: &&str| {
        text.parse()
            .map_or_else(|_| Endpoint::Host(Name::parse(text).unwrap()), Endpoint::Address)
    };
    let app = App {
        id: AppId::new(id),
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
        endpoints: BTreeMap::from([(iad, endpoints.iter().map(parse).collect())]),
        probes,
    };
    Fleet::new(BTreeMap::new(), vec![Arc::new(app)])
}

/// What the made-up kinds did.
#[derive(Default)]
struct Ran {
    /// Kinds made, by target and port.
    made: Mutex<HashMap<(String, usize), usize>>,
    /// Runs under way now, and the most there were.
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// Runs begun in all.
    begun: AtomicUsize,
}

/// A kind that counts, and waits to be let go where it is told to.
struct Counting(Arc<Ran>, Option<Arc<Notify>>);

/// Counts a run out, also when it is dropped.
struct UnderWay<'a>(&'a Ran);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Kind for Counting {
    fn run<'a>(&'a mut self, _stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(async move {
            let now = self.0.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            let _under_way = UnderWay(&self.0);
            self.0.most.fetch_max(now, Ordering::SeqCst);
            self.0.begun.fetch_add(1, Ordering::SeqCst);
            match &self.1 {
                Some(go) => go.notified().await,
                None => tokio::task::yield_now().await,
            }
            Found::of(Ok(String::new()))
        })
    }
}

fn counting(ran: &Arc<Ran>, go: Option<&Arc<Notify>>) -> Kinds {
    let (ran, go) = (Arc::clone(ran), go.cloned());
    Box::new(move |_, target, _| {
        let key = (target.address.to_string(), target.probe);
        *ran.made.lock().unwrap().entry(key).or_default() += 1;
        Box::new(Counting(Arc::clone(&ran), go.clone()))
    })
}

/// What a made-up look-up finds; none: never anything.
type Answer = Option<Result<Vec<&'static str>, ()>>;

/// A look-up that says when it is asked, and answers with whatever is put here and this TTL.
#[derive(Clone)]
struct Told(mpsc::UnboundedSender<()>, Arc<Mutex<Answer>>, Duration);

impl Lookup for Told {
    fn addresses(&self, _host: &Name) -> LookupFuture {
        self.0.send(()).unwrap();
        let answer = self.1.lock().unwrap().clone();
        let ttl = self.2;
        Box::pin(async move {
            match answer {
                Some(Ok(texts)) => {
                    let all = texts.iter().map(|text| text.parse().unwrap());
                    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = all.partition(IpAddr::is_ipv4);
                    let (v4, v6) = (Some(v4), Some(v6));
                    Ok(Addresses { v4, v6, ttl })
                }
                Some(Err(())) => Err(std::io::Error::other("the resolver is on fire")),
                None => std::future::pending().await,
            }
        })
    }
}

fn start(capacity: usize, kinds: Kinds) -> (Prober, mpsc::Receiver<ProbeEvent>) {
    let (tx, rx) = mpsc::channel(capacity);
    (Prober::assemble(tx, Instant::now(), Arc::new(Resolver::system()), kinds), rx)
}

/// The next event, which must come.
async fn next(events: &mut mpsc::Receiver<ProbeEvent>) -> ProbeEvent {
    let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await;
    event.expect("an event within 10 s").expect("an open channel")
}

async fn next_outcome(events: &mut mpsc::Receiver<ProbeEvent>) -> Outcome {
    match next(events).await {
        ProbeEvent::Outcome(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_do_not_outlive_deleted_or_edited_ones_and_unchanged_ones_go_on() {
    let ran = Arc::new(Ran::default());
    let (prober, mut events) = start(1, counting(&ran, None));
    let (one, two, three) = (probe(1, FAST), probe(2, FAST), probe(3, FAST));
    prober.configure(&fleet("shop", &["192.0.2.1", "192.0.2.2"], vec![one.clone(), two]));
    assert_eq!(prober.targets(), 4);
    let mut seen = BTreeSet::new();
    while seen.len() < 4 {
        seen.insert(next_outcome(&mut events).await.target);
    }
    // The second probe becomes another one, the second address goes.
    prober.configure(&fleet("shop", &["192.0.2.1"], vec![one, three]));
    let configured = prober.now();
    assert_eq!(prober.targets(), 2);
    // At most what was in the channel already is of before.
    let mut late = 0;
    for _ in 0..200 {
        let outcome = next_outcome(&mut events).await;
        if outcome.target.address.to_string() == "192.0.2.2" || (outcome.target.probe == 1 && outcome.at < configured) {
            late += 1;
        }
    }
    assert!(late <= 1, "{late} outcomes of gone probes");
    let made = ran.made.lock().unwrap().clone();
    assert_eq!(made[&("192.0.2.1".to_owned(), 0)], 1, "unchanged: not disturbed");
    assert_eq!(made[&("192.0.2.1".to_owned(), 1)], 2, "changed: made anew");
    prober.configure(&Fleet::default());
    assert_eq!(prober.targets(), 0);
    let rest = std::iter::from_fn(|| events.try_recv().ok()).count();
    assert!(rest <= 1, "{rest} events after the last probe was gone");
    drop(prober);
    assert_eq!(events.recv().await, None, "no task holds the channel open");
}

#[tokio::test]
async fn when_the_writer_is_behind_probes_wait_and_nothing_is_lost_or_piles_up() {
    let ran = Arc::new(Ran::default());
    let (prober, mut events) = start(3, counting(&ran, None));
    let addresses: Vec<String> = (1..=8).map(|host| format!("192.0.2.{host}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    prober.configure(&fleet("shop", &addresses, vec![probe(1, FAST)]));
    // Nobody reads: three fill the channel, eight hold one each, and then all stands still.
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while ran.begun.load(Ordering::SeqCst) < 11 {
        tick.tick().await;
    }
    for _ in 0..20 {
        tick.tick().await;
        assert_eq!(ran.begun.load(Ordering::SeqCst), 11);
    }
    // Room that was promised to one may be filled a moment after that of another, so whoever is first again comes in between: at
    // most as often as there is room.
    let (mut last, mut read) = (HashMap::new(), 0);
    while read < 11 || (last.len() < 8 && read < 11 + 3) {
        let outcome = next_outcome(&mut events).await;
        assert!(
            last.insert(outcome.target.clone(), outcome.at)
                .is_none_or(|before| before < outcome.at)
        );
        read += 1;
    }
    assert_eq!(last.len(), 8, "each was told");
}

#[tokio::test]
async fn a_probe_never_runs_beside_itself() {
    let (ran, go) = (Arc::new(Ran::default()), Arc::new(Notify::new()));
    let (prober, mut events) = start(8, counting(&ran, Some(&go)));
    prober.configure(&fleet("shop", &["192.0.2.1"], vec![probe(1, FAST)]));
    for runs in 1..=20 {
        // Let go only when it runs; many intervals may have passed by then.
        while ran.begun.load(Ordering::SeqCst) < runs {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        next_outcome(&mut events).await;
    }
    assert_eq!(ran.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn programs_are_bounded_and_do_not_hold_up_other_kinds() {
    let (ran, go) = (Arc::new(Ran::default()), Arc::new(Notify::new()));
    let kinds: Kinds = {
        let (ran, go) = (Arc::clone(&ran), Arc::clone(&go));
        Box::new(move |spec, _, _| match &spec.kind {
            ProbeKind::Exec(_) => Box::new(Counting(Arc::clone(&ran), Some(Arc::clone(&go)))),
            _ => Box::new(Counting(Arc::default(), None)),
        })
    };
    let (prober, mut events) = start(1, kinds);
    let mut program = probe(0, FAST);
    program.kind = ProbeKind::Exec(ExecProbe {
        command: Vec::new(),
        exit_codes: vec![0],
    });
    let addresses: Vec<String> = (1..=200).map(|host| format!("192.0.2.{host}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    prober.configure(&fleet("shop", &addresses, vec![program, probe(1, FAST)]));
    let mut others = BTreeSet::new();
    let share = Budget::of_process().programs_of_app;
    while others.len() < 200 || ran.under_way.load(Ordering::SeqCst) < share {
        let outcome = next_outcome(&mut events).await;
        assert_eq!(outcome.target.probe, 1);
        others.insert(outcome.target.address);
    }
    assert_eq!(ran.most.load(Ordering::SeqCst), share);
}

/// When each run began, by target.
type Begun = Arc<Mutex<Vec<(tokio::time::Instant, ProbeTarget)>>>;

/// A kind that notes when it begins, and takes as long and ends as it is told.
struct Noting {
    begun: Begun,
    target: ProbeTarget,
    takes: Duration,
    passes: bool,
}

impl Kind for Noting {
    fn run<'a>(&'a mut self, _stage: &'a Stage) -> RunFuture<'a> {
        self.begun.lock().unwrap().push((tokio::time::Instant::now(), self.target.clone()));
        let failed = crate::model::Failure {
            reason: crate::model::FailReason::Connect,
            message: "no".into(),
        };
        let result = if self.passes { Ok(String::new()) } else { Err(failed) };
        Box::pin(async move {
            tokio::time::sleep(self.takes).await;
            Found::of(result)
        })
    }
}

/// Kinds that note; what they take and whether they pass depends on the target.
fn noting(begun: &Begun, how: impl Fn(&ProbeTarget) -> (Duration, bool) + Send + Sync + 'static) -> Kinds {
    let begun = Arc::clone(begun);
    Box::new(move |_, target, _| {
        let (takes, passes) = how(target);
        Box::new(Noting {
            begun: Arc::clone(&begun),
            target: target.clone(),
            takes,
            passes,
        })
    })
}

/// So many addresses.
fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|host| format!("10.0.{}.{}", host / 250, host % 250)).collect()
}

/// Lets the prober run for so long in virtual time; gives every outcome.
async fn run_for(time: Duration, events: &mut mpsc::Receiver<ProbeEvent>) -> Vec<Outcome> {
    let end = tokio::time::Instant::now() + time;
    let mut outcomes = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout_at(end, events.recv()).await {
        if let ProbeEvent::Outcome(outcome) = event {
            outcomes.push(outcome);
        }
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn no_two_probes_of_an_application_start_in_the_same_ten_milliseconds() {
    let begun = Begun::default();
    let took = |target: &ProbeTarget| (Duration::from_millis(u64::from(target.address.is_ipv4()) * 37), true);
    let (prober, mut events) = start(64, noting(&begun, took));
    let addresses = addresses(1_000);
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut slow = probe(1, Duration::from_secs(10));
    slow.timeout = Duration::from_secs(2);
    prober.configure(&fleet("shop", &addresses, vec![slow]));
    let outcomes = run_for(Duration::from_secs(61), &mut events).await;
    assert!((6_000..=6_200).contains(&outcomes.len()), "{}", outcomes.len());
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.overruns == 0 && outcome.late < Duration::from_millis(2))
    );
    let mut begun = begun.lock().unwrap().clone();
    begun.sort();
    let closest = begun.windows(2).map(|two| two[1].0 - two[0].0).min().unwrap();
    assert!(closest >= Duration::from_millis(10), "{closest:?}");
    let mut last = HashMap::new();
    for (at, target) in begun {
        if let Some(before) = last.insert(target, at) {
            let wait = at - before;
            assert!(wait >= Duration::from_secs(9) && wait <= Duration::from_secs(11), "{wait:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_takes_too_long_counts_its_overruns_and_others_keep_their_time() {
    let begun = Begun::default();
    // The run of one takes two and a half intervals, which a config does not allow; a writer that is behind does the same.
    let took = |target: &ProbeTarget| match target.address.to_string().as_str() {
        "10.0.0.0" => (Duration::from_secs(25), true),
        _ => (Duration::ZERO, true),
    };
    let (prober, mut events) = start(64, noting(&begun, took));
    prober.configure(&fleet("shop", &["10.0.0.0", "10.0.0.1"], vec![probe(1, Duration::from_secs(10))]));
    let outcomes = run_for(Duration::from_secs(205), &mut events).await;
    let of = |address: &str| {
        outcomes
            .iter()
            .filter(|one| one.target.address.to_string() == address)
            .collect::<Vec<_>>()
    };
    let (slow, quick) = (of("10.0.0.0"), of("10.0.0.1"));
    assert_eq!(slow.len(), 8, "one after the other, and none is made up for");
    let missed: u32 = slow.iter().map(|one| one.overruns).sum();
    assert!((14..=21).contains(&missed), "two or three a run: {missed}");
    assert!(
        (20..=22).contains(&quick.len()) && quick.iter().all(|one| one.overruns == 0),
        "{}",
        quick.len()
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_runs_follow_faster_until_the_verdict() {
    let begun = Begun::default();
    let (prober, mut events) = start(64, noting(&begun, |_| (Duration::ZERO, false)));
    let mut quick = probe(1, Duration::from_secs(10));
    quick.recheck_interval = Some(Duration::from_secs(1));
    prober.configure(&fleet("shop", &["10.0.0.1"], vec![quick]));
    run_for(Duration::from_secs(60), &mut events).await;
    let begun: Vec<tokio::time::Instant> = begun.lock().unwrap().iter().map(|(at, _)| *at).collect();
    let waits: Vec<u128> = begun.windows(2).map(|two| (two[1] - two[0]).as_millis()).collect();
    assert!(waits[..2].iter().all(|wait| (900..=1_101).contains(wait)), "{waits:?}");
    assert!(
        waits[3..].iter().all(|wait| (9_000..=11_001).contains(wait)) && waits.len() <= 9,
        "{waits:?}"
    );
}

/// A kind whose connection gets lost when somebody says so.
struct Connected(Begun, ProbeTarget, Arc<Notify>);

impl Kind for Connected {
    fn run<'a>(&'a mut self, _stage: &'a Stage) -> RunFuture<'a> {
        self.0.lock().unwrap().push((tokio::time::Instant::now(), self.1.clone()));
        Box::pin(async { Found::of(Ok(String::new())) })
    }

    fn lost(&mut self) -> LostFuture<'_> {
        Box::pin(self.2.notified())
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_looked_at_at_once_but_not_over_and_over() {
    let (begun, lost) = (Begun::default(), Arc::new(Notify::new()));
    let kinds: Kinds = {
        let (begun, lost) = (Arc::clone(&begun), Arc::clone(&lost));
        Box::new(move |_, target, _| Box::new(Connected(Arc::clone(&begun), target.clone(), Arc::clone(&lost))))
    };
    let (prober, mut events) = start(64, kinds);
    prober.configure(&fleet("shop", &["10.0.0.1"], vec![probe(1, Duration::from_secs(3600))]));
    run_for(Duration::from_secs(4000), &mut events).await;
    let runs = || begun.lock().unwrap().len();
    let before = runs();
    let at = tokio::time::Instant::now();
    lost.notify_one();
    next_outcome(&mut events).await;
    assert!(at.elapsed() <= Duration::from_millis(101), "{:?}", at.elapsed());
    // Lost at once after each run: one a second, not more.
    for _ in 0..30 {
        lost.notify_one();
        run_for(Duration::from_millis(100), &mut events).await;
    }
    assert!((before + 3..=before + 4).contains(&runs()), "{} after {before}", runs());
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_adds_targets_leaves_the_others_in_their_rhythm() {
    let begun = Begun::default();
    let (prober, mut events) = start(64, noting(&begun, |_| (Duration::ZERO, true)));
    let addresses = addresses(40);
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    for count in [20, 40, 30] {
        prober.configure(&fleet("shop", &addresses[..count], vec![probe(1, Duration::from_secs(10))]));
        assert_eq!(prober.targets(), count);
        let at = tokio::time::Instant::now();
        let outcomes = run_for(Duration::from_secs(35), &mut events).await;
        let new = outcomes
            .iter()
            .filter(|outcome| outcome.target.address.to_string() == format!("10.0.0.{}", count - 1));
        assert!(new.count() >= 3, "{count}");
        if count > 30 {
            let first = begun
                .lock()
                .unwrap()
                .iter()
                .find(|(_, target)| target.address.to_string() == "10.0.0.39")
                .unwrap()
                .0;
            assert!(first - at < Duration::from_millis(500), "new ones begin at once");
        }
    }
    let mut last = HashMap::new();
    let begun = begun.lock().unwrap().clone();
    for (at, target) in &begun {
        if let Some(before) = last.insert(target, *at) {
            assert!(*at - before <= Duration::from_millis(11_001), "{:?}", *at - before);
        }
    }
    let recent: Vec<_> = begun.iter().filter(|(at, _)| at.elapsed() < Duration::from_secs(15)).collect();
    let closest = recent.windows(2).map(|two| two[1].0 - two[0].0).min().unwrap();
    assert!(closest >= Duration::from_millis(10), "{closest:?}");
}

#[tokio::test]
async fn a_failed_lookup_is_not_an_empty_set() {
    let (asked, mut lookups) = mpsc::unbounded_channel();
    let answer = Arc::new(Mutex::new(Some(Ok(vec!["192.0.2.2", "192.0.2.1", "192.0.2.2"]))));
    let lookup = Told(asked, Arc::clone(&answer), Duration::ZERO);
    let (tx, mut events) = mpsc::channel(1);
    let prober = Prober::assemble(tx, Instant::now(), Arc::new(lookup), counting(&Arc::default(), None));
    prober.configure(&fleet("shop", &["lb.example.com."], vec![probe(1, FAST)]));
    let resolved = |addresses: &[&str]| ProbeEvent::Resolved {
        app: AppId::new("shop"),
        region: RegionId::new("iad"),
        endpoint: Endpoint::Host(Name::parse("lb.example.com.").unwrap()),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    };
    assert_eq!(
        next(&mut events).await,
        resolved(&["192.0.2.1", "192.0.2.2"]),
        "first of all, sorted, each once"
    );
    lookups.recv().await.unwrap();
    // While look-ups fail, or find nothing, the probes at the old addresses go on, and each failure is told.
    let mut failures = Vec::new();
    for bad in [Err(()), Ok(vec![])] {
        *answer.lock().unwrap() = Some(bad);
        // The second look-up from here on is certainly a bad one, and over when the third begins.
        for _ in 0..2 {
            while lookups.try_recv().is_err() {
                match next(&mut events).await {
                    ProbeEvent::Outcome(_) => {}
                    ProbeEvent::Lookup { error: Some(error), .. } => failures.push(error),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(prober.targets(), 2);
    }
    assert!(failures.len() >= 2 && failures.contains(&"no address".to_owned()), "{failures:?}");
    *answer.lock().unwrap() = Some(Ok(vec!["2001:db8::1"]));
    let mut works_again = 0;
    loop {
        match next(&mut events).await {
            ProbeEvent::Outcome(_) | ProbeEvent::Lookup { error: Some(_), .. } => {}
            ProbeEvent::Lookup { error: None, .. } => works_again += 1,
            told => {
                assert_eq!(told, resolved(&["2001:db8::1"]));
                assert_eq!(works_again, 1, "told once, before the new addresses");
                break;
            }
        }
    }
    let mut outcomes = 0;
    while outcomes < 10 {
        let outcome = next_outcome(&mut events).await;
        outcomes = if outcome.target.address.is_ipv6() { outcomes + 1 } else { 0 };
    }
    assert_eq!(prober.targets(), 1);
    // A config that does not touch the host name does not look it up anew and keeps its addresses.
    prober.configure(&fleet("shop", &["lb.example.com."], vec![probe(1, FAST), probe(2, FAST)]));
    assert_eq!(prober.targets(), 2);
}

#[tokio::test]
async fn a_reload_between_a_failure_and_its_end_keeps_both() {
    let (asked, _lookups) = mpsc::unbounded_channel();
    let answer = Arc::new(Mutex::new(Some(Err(()))));
    let lookup = Told(asked, Arc::clone(&answer), Duration::ZERO);
    let (tx, mut events) = mpsc::channel(1);
    let prober = Prober::assemble(tx, Instant::now(), Arc::new(lookup), counting(&Arc::default(), None));
    prober.configure(&fleet("shop", &["lb.example.com."], vec![probe(1, FAST)]));
    assert!(matches!(next(&mut events).await, ProbeEvent::Lookup { error: Some(_), .. }));
    // Another interval is another task.
    *answer.lock().unwrap() = Some(Ok(vec!["192.0.2.1"]));
    prober.configure(&fleet("shop", &["lb.example.com."], vec![probe(1, FAST * 2)]));
    loop {
        match next(&mut events).await {
            // One that was on its way.
            ProbeEvent::Lookup { error: Some(_), .. } => {}
            ProbeEvent::Lookup { error: None, .. } => break,
            other => panic!("not told that it works again, but {other:?}"),
        }
    }
}

/// A look-up that gets no answer about IPv6.
struct Half;

impl Lookup for Half {
    fn addresses(&self, _host: &Name) -> LookupFuture {
        let found = Addresses {
            v4: Some(vec!["192.0.2.1".parse().unwrap()]),
            v6: None,
            ttl: Duration::ZERO,
        };
        Box::pin(std::future::ready(Ok(found)))
    }
}

#[tokio::test]
async fn after_a_start_a_family_that_fails_takes_no_addresses_away() {
    let (tx, mut events) = mpsc::channel(1);
    let prober = Prober::assemble(tx, Instant::now(), Arc::new(Half), counting(&Arc::default(), None));
    let (app, region, host) = (AppId::new("shop"), RegionId::new("iad"), Name::parse("lb.example.com.").unwrap());
    let last = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap()).to_vec();
    prober.begin(
        &fleet("shop", &["lb.example.com."], vec![probe(1, FAST)]),
        vec![(app, region, host, last)],
    );
    assert_eq!(prober.targets(), 2, "at once");
    let (mut outcomes, mut told) = (0, 0);
    while outcomes < 10 || told < 2 {
        match next(&mut events).await {
            ProbeEvent::Outcome(outcome) => outcomes += u32::from(outcome.target.address.is_ipv6()),
            ProbeEvent::Lookup { error, .. } => {
                assert_eq!(error.as_deref(), Some("no answer about IPv6 addresses"));
                told += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(prober.targets(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_name_is_looked_up_again_when_its_ttl_is_over() {
    let (asked, mut lookups) = mpsc::unbounded_channel();
    let answer = Arc::new(Mutex::new(Some(Ok(vec!["192.0.2.1"]))));
    let lookup = Told(asked, Arc::clone(&answer), Duration::from_secs(300));
    let (tx, mut events) = mpsc::channel(64);
    let prober = Prober::assemble(tx, Instant::now(), Arc::new(lookup), counting(&Arc::default(), None));
    prober.configure(&fleet("shop", &["lb.example.com."], vec![probe(1, Duration::from_secs(5))]));
    run_for(Duration::from_secs(299), &mut events).await;
    let asked = |lookups: &mut mpsc::UnboundedReceiver<()>| std::iter::from_fn(|| lookups.try_recv().ok()).count();
    assert_eq!(asked(&mut lookups), 1, "the answer is good for 300 s");
    run_for(Duration::from_secs(32), &mut events).await;
    assert_eq!(asked(&mut lookups), 1, "and for little longer");
    // While it fails it is tried about as often as the probes run.
    *answer.lock().unwrap() = Some(Err(()));
    run_for(Duration::from_secs(330), &mut events).await;
    run_for(Duration::from_secs(30), &mut events).await;
    let tries = asked(&mut lookups);
    assert!((5..=20).contains(&tries), "{tries}");
    assert_eq!(prober.targets(), 1);
}

#[tokio::test]
async fn a_lookup_that_hangs_is_not_asked_again() {
    let (asked, mut lookups) = mpsc::unbounded_channel();
    let lookup = Told(asked, Arc::new(Mutex::new(None)), Duration::ZERO);
    let (tx, mut events) = mpsc::channel(64);
    let prober = Prober::assemble(tx, Instant::now(), Arc::new(lookup), counting(&Arc::default(), None));
    prober.configure(&fleet(
        "shop",
        &["lb.example.com.", "192.0.2.1"],
        vec![probe(1, Duration::from_millis(100))],
    ));
    lookups.recv().await.unwrap();
    // Longer than the least time between two look-ups; the other endpoint is probed all the while.
    for _ in 0..15 {
        next_outcome(&mut events).await;
    }
    assert!(lookups.try_recv().is_err());
    assert_eq!(prober.targets(), 1);
}

#[tokio::test(start_paused = true)]
async fn first_runs_come_soon_and_are_spread_when_there_are_many() {
    let hour = Duration::from_secs(3600);
    let (prober, mut events) = start(1024, counting(&Arc::default(), None));
    prober.configure(&fleet("shop", &["192.0.2.1", "192.0.2.2"], vec![probe(1, hour)]));
    assert_eq!(run_for(Duration::from_millis(50), &mut events).await.len(), 2, "a few: at once");
    let addresses = addresses(500);
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    prober.configure(&fleet("shop", &addresses, vec![probe(1, hour)]));
    for _ in 0..5 {
        let count = run_for(Duration::from_secs(1), &mut events).await.len();
        assert!((95..=105).contains(&count), "{count} in a second");
    }
    // Many applications of one probe each begin one after the other, and within an interval however many there are.
    let many = self::addresses(2_000);
    let one = |n: usize, interval| {
        fleet(&format!("app{n}"), &[&many[n]], vec![probe(1, interval)])
            .apps
            .into_values()
            .next()
            .unwrap()
    };
    for (interval, all_within) in [(hour, 2_100), (Duration::from_secs(1), 1_050)] {
        let apps = (0..2_000).map(|n| one(n, interval)).collect();
        prober.configure(&Fleet::new(BTreeMap::new(), apps));
        let mut seen = BTreeSet::new();
        for expected in [900..1_100, 2_000..2_001] {
            let outcomes = run_for(Duration::from_millis(all_within / 2), &mut events).await;
            seen.extend(outcomes.into_iter().map(|outcome| outcome.target));
            assert!(expected.contains(&seen.len()), "{}", seen.len());
        }
    }
}

#[tokio::test]
async fn a_run_ends_at_its_limit_with_what_was_missing() {
    struct Stuck;
    impl Kind for Stuck {
        fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
            stage.set("no sign of life");
            Box::pin(std::future::pending())
        }
    }
    let mut spec = probe(1, FAST);
    spec.timeout = Duration::from_millis(30);
    let found = task::run(&mut Stuck, &spec).await;
    let failure = found.result.unwrap_err();
    assert_eq!(failure.message, "no sign of life within 30ms");
    assert_eq!(failure.reason, crate::model::FailReason::Timeout);
}
