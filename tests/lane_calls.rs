//! What a UDP lane costs beyond answering: it allocates nothing, and it calls the system for batches of packets only. The
//! allocator counts what other threads than the test's own ask for, and strace, where it may look, every call of the lane.

mod answer_support;

use answer_support::*;
use arc_swap::ArcSwap;
use pointsman::answer::{CookieSecrets, Service, Settings, Snapshot};
use pointsman::dns::{Server, Stats};
use pointsman::model::{Name, PrefixSet, RateLimit};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The system's allocator, counting what threads ask of it that did not exempt themselves.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_EXEMPT: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: everything is handed to the system's allocator as it is; counting touches an atomic number and a
// thread-local cell without a destructor, and does not allocate.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !IS_EXEMPT.try_with(Cell::get).unwrap_or(true) {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Queries of every kind, the last always answered.
fn packets() -> Vec<Vec<u8>> {
    let mut packets = vec![vec![0; 5], vec![0xff; 60], vec![0; 12]];
    for name in ["www.example.", "app.example.", "nx.example.", "other.", "x.sub.example."] {
        for edns in [None, Some((1232, true))] {
            packets.push(query(&Name::parse(name).unwrap(), 1, edns));
        }
        packets.push(query_options(name, &[(10, b"clientck"), (3, b""), (12, &[0; 30])]));
    }
    packets.push(query(&Name::parse("www.example.").unwrap(), 28, None));
    packets
}

/// Sends everything so many times, each time until the last answer has come.
fn drive(client: &UdpSocket, packets: &[Vec<u8>], rounds: usize) -> usize {
    let mut room = [0; 2000];
    let mut answered = 0;
    for _ in 0..rounds {
        for packet in packets {
            client.send(packet).unwrap();
        }
        let last = packets.last().unwrap()[..2].to_vec();
        loop {
            let len = client.recv(&mut room).unwrap();
            answered += 1;
            if room[..len].starts_with(&last) {
                break;
            }
        }
    }
    answered
}

/// A lane of a running server: its number as a thread.
fn lane_thread() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut lanes = tasks.filter_map(|task| {
        let task = task.unwrap();
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        (name.trim() == "udp-0").then(|| task.file_name().into_string().unwrap())
    });
    lanes.next().expect("a lane")
}

/// The system calls of a thread while `work` is done, by name; none where strace may not look at it.
fn calls_of(thread: &str, work: impl FnOnce()) -> Option<BTreeMap<String, u64>> {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("calls");
    let mut strace = Command::new("strace")
        .args(["-c", "-p", thread, "-o"])
        .arg(&table)
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace is installed (tests/run.sh)");
    let mut said = BufReader::new(strace.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    if !line.contains("attached") {
        eprintln!("strace may not look at the lane here: {line}");
        let _ = strace.wait();
        return None;
    }
    work();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(strace.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    strace.wait().unwrap();
    let text = std::fs::read_to_string(&table).unwrap();
    let rows = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (calls, name) = (fields.get(3)?.parse().ok()?, *fields.last()?);
        (name != "total").then(|| (name.to_owned(), calls))
    });
    Some(rows.collect())
}

#[test]
fn a_lane_allocates_nothing_and_calls_the_system_for_batches_only() {
    let text = "$TTL 300\nexample. SOA ns.example. h.example. 1 2 3 4 5\nexample. NS ns.example.\nns.example. A 192.0.2.1\nwww.example. CNAME app.example.\n\
        sub.example. NS ns.sub.example.\nns.sub.example. A 192.0.2.3\n";
    let settings = Settings {
        service: Service {
            nsid: b"ns1".to_vec(),
            cookies: Some(CookieSecrets::new([1; 16], None)),
            // So that the limiter works and yet every last answer comes: short ones are answers too.
            rate_limit: Some(RateLimit {
                responses_per_second: 5,
                slip: 1,
                ipv4_prefix: 24,
                ipv6_prefix: 56,
                exempt: PrefixSet::default(),
                table_size: 1000,
            }),
            ..Service::default()
        },
        ..Settings::default()
    };
    let app = steered(
        "app.example.",
        30,
        &[],
        None,
        addresses(&["192.0.2.10", "192.0.2.11", "2001:db8::1"]),
    );
    let snapshot = Snapshot::build_with(&[zone("example.", text)], &[app], 7, settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let bound = Server::bind(&["127.0.0.1:0".parse().unwrap()], 1).unwrap();
    let at = bound.addresses()[0];
    let running = bound
        .start(Arc::new(ArcSwap::from_pointee(snapshot)), Arc::new(Stats::new()))
        .unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.connect(at).unwrap();
    let packets = packets();
    IS_EXEMPT.with(|exempt| exempt.set(true));
    drive(&client, &packets, 5);

    // The first batch made the tables; from then on nothing.
    let before = ALLOCATIONS.load(Relaxed);
    let answered = drive(&client, &packets, 300);
    assert!(answered > 4000, "{answered}");
    assert_eq!(
        ALLOCATIONS.load(Relaxed) - before,
        0,
        "allocations while answering {answered} queries"
    );
    let counted = std::thread::spawn(|| drop(std::hint::black_box(Box::new(1))));
    counted.join().unwrap();
    assert!(ALLOCATIONS.load(Relaxed) > before, "the counter does count other threads");

    let mut sent = 0;
    let calls = calls_of(&lane_thread(), || {
        drive(&client, &packets, 100);
        sent = 100 * packets.len() as u64;
    });
    if let Some(calls) = calls {
        println!("{sent} packets: {calls:?}");
        let others: Vec<&String> = calls
            .keys()
            .filter(|name| !matches!(name.as_str(), "recvmmsg" | "sendmmsg" | "recvmmsg_time64" | "restart_syscall"))
            .collect();
        assert!(others.is_empty(), "{calls:?}");
        let receiving = calls.get("recvmmsg").copied().unwrap_or(0);
        assert!(receiving > 0 && receiving <= sent, "one call a packet at most: {calls:?}");
    }
    drop(running);
}
