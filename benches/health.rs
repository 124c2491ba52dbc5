//! What an outcome costs in the health book with 10,000 probes, and in the history; the memory of a probe's history after a full day.

use pointsman::health::{Book, Change, ChangeKind, History};
use pointsman::model::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The system's allocator, which counts what is in use.
struct Counting;

/// Octets in use.
static USED: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code)]
// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        USED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Probes.
const TARGETS: usize = 10_000;

/// A thousand applications with five endpoints in each of two regions.
fn fleet() -> Fleet {
    let apps = (0..TARGETS / 10).map(|number| {
        let regions = ["iad", "fra"].map(RegionId::new);
        let endpoints = regions.iter().enumerate().map(|(at, region)| {
            let all = (0..5).map(|host| Endpoint::Address([10, number as u8, (number >> 8) as u8, (at * 5 + host) as u8].into()));
            (region.clone(), all.collect())
        });
        Arc::new(App {
            id: AppId::new(&format!("app{number}")),
            name: Name::parse(&format!("app{number}.example.net.")).expect("a name"),
            regions: regions.to_vec(),
            ttl: 30,
            failover: Failover::Manual,
            failover_delay: Duration::ZERO,
            failback_delay: Duration::ZERO,
            cooldown: Duration::ZERO,
            when_all_down: WhenAllDown::Active,
            require: Require::All,
            paired: BTreeMap::new(),
            endpoints: endpoints.collect(),
            probes: vec![probe()],
        })
    });
    Fleet::new(BTreeMap::new(), apps.collect())
}

/// A reading `seconds` after the start.
fn at(seconds: u64) -> Now {
    Now {
        mono: Mono::ORIGIN,
        wall: Wall(1_800_000_000_000),
    }
    .plus(Duration::from_secs(seconds))
}

fn main() {
    let fleet = fleet();
    let mut book = Book::new();
    book.suspect_above(50);
    book.reconfigure(&fleet, at(0));
    let targets: Vec<ProbeTarget> = fleet
        .apps
        .keys()
        .flat_map(|app| book.targets(app))
        .map(|one| one.target.clone())
        .collect();
    let outcomes = |seconds: u64, cut: bool| -> Vec<Outcome> {
        let failure = Failure {
            reason: FailReason::Timeout,
            message: "no answer within 2s".to_owned(),
        };
        let result = if cut { Err(failure) } else { Ok(()) };
        let one = |target: &ProbeTarget| Outcome::new(target.clone(), at(seconds).mono, Duration::from_micros(900), result.clone());
        targets.iter().map(one).collect()
    };
    let mut fold = |round: u64, cut: bool, shared: bool| {
        let all = outcomes(round, cut);
        let start = Instant::now();
        let mut kept = book.clone();
        for (number, outcome) in all.iter().enumerate() {
            black_box(book.observe(outcome, at(round)));
            // A reader takes a copy now and then: four times a second at a thousand outcomes a second.
            if shared && number % 250 == 0 {
                kept = book.clone();
            }
        }
        drop(kept);
        start.elapsed().as_nanos() as usize / TARGETS
    };
    fold(1, false, false);
    let rounds = |fold: &mut dyn FnMut(u64) -> usize, from: u64| (from..from + 20).map(|round| fold(round * 10)).min().unwrap_or(0);
    println!(
        "an outcome that passes:                 {} ns",
        rounds(&mut |round| fold(round, false, false), 1)
    );
    println!(
        "the same, with a copy every 250:        {} ns",
        rounds(&mut |round| fold(round, false, true), 30)
    );
    println!(
        "an outcome while everything is cut off: {} ns",
        rounds(&mut |round| fold(round, true, true), 60)
    );

    let mut history = History::new();
    let before = USED.load(Ordering::Relaxed);
    let mut spent = Duration::ZERO;
    let day = 26 * 3600 / 60;
    for minute in 0..day {
        let all = outcomes(minute * 60, false);
        let start = Instant::now();
        all.iter().for_each(|outcome| history.ran(outcome));
        spent += start.elapsed();
    }
    println!(
        "a run in the history:                   {} ns",
        spent.as_nanos() as usize / (TARGETS * day as usize)
    );
    let used = |history: &History| (USED.load(Ordering::Relaxed) - before) / history.targets().max(1);
    println!("history of a target after a day:        {} octets", used(&history));
    for number in 0..16_u64 {
        let message = "HTTP 503 in 12 ms, body says db: standby; ".repeat(4);
        let changes: Vec<Change> = targets
            .iter()
            .map(|target| Change {
                app: target.app.clone(),
                region: target.region.clone(),
                what: ChangeKind::Probe {
                    target: Arc::new(target.clone()),
                    from: Verdict::Unknown,
                    to: Verdict::Healthy,
                    message: message.clone(),
                },
            })
            .collect();
        history.changed(&changes, at(day * 60 + number).mono);
    }
    println!("the same with 16 changes each:          {} octets", used(&history));
}

/// A probe every 10 s.
fn probe() -> ProbeSpec {
    let tcp = TcpProbe {
        port: 80,
        send: None,
        expect: None,
    };
    ProbeSpec {
        interval: Duration::from_secs(10),
        stale_after: Duration::from_secs(3600),
        ..ProbeSpec::new(ProbeKind::Tcp(tcp))
    }
}
