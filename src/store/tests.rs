//! Tests of the store inside one process: the battery that every backend passes, failing disks, copies, readers.
//! What needs processes (kill, full disks, users) stands in `tests/store_durability.rs`.

use super::file::Disk;
use super::reader::Index;
use super::*;
use crate::ledger::{Chain, Entry, Receipt, scan};
use crate::model::{Actor, Body, Draft, Seq, Wall};
use proptest::prelude::*;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

/// The next `count` entries after a head, with their lines.
fn entries_after(mut head: Receipt, count: usize, reason: &str) -> (Vec<Entry>, Vec<u8>) {
    let (mut entries, mut lines) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let draft = Draft {
            actor: Actor::Node,
            reason: reason.to_owned(),
            request_id: None,
            body: Body::Stopped { node: "ns1".into() },
        };
        let (entry, line) = Entry::seal(head, Wall(1_795_252_365_000 + head.seq.0), draft).unwrap();
        head = entry.receipt();
        entries.push(entry);
        lines.extend(line);
    }
    (entries, lines)
}

proptest! {
    #[test]
    fn lines_end_where_their_line_feeds_are(octets in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300)) {
        let simple: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
        prop_assert_eq!(lines_of(&octets).collect::<Vec<_>>(), simple);
    }
}

/// Opens a data dir that is expected to be in order.
fn open(data_dir: &Path) -> (FileStore, Vec<Entry>) {
    let mut entries = Vec::new();
    let (store, report) = FileStore::open(data_dir, "now", &mut |entry| entries.push(entry)).unwrap();
    assert_eq!(report, OpenReport::default());
    (store, entries)
}

/// What every store must do. `open` gives the store over what was appended so far; the one before was dropped.
fn battery(open: &mut dyn FnMut() -> Box<dyn Store>) {
    let mut store = open();
    assert_eq!(store.head(), Receipt::GENESIS);
    assert_eq!(store.entries(Seq(0), 10).unwrap(), vec![]);
    store.append(b"").unwrap();
    let (first, lines) = entries_after(Receipt::GENESIS, 1, "one");
    store.append(&lines).unwrap();
    let (batch, batch_lines) = entries_after(store.head(), 300, "many");
    assert!(
        matches!(store.append(&lines), Err(StoreError::NotNext { .. })),
        "the same entry twice"
    );
    assert!(matches!(store.append(b"{}\n"), Err(StoreError::NotNext { .. })), "no entry");
    let half = &batch_lines[..batch_lines.len() - 1];
    assert!(matches!(store.append(half), Err(StoreError::NotNext { .. })), "an incomplete line");
    assert_eq!(store.head(), first[0].receipt(), "what was refused changed nothing");
    store.append(&batch_lines).unwrap();
    let all: Vec<Entry> = first.into_iter().chain(batch).collect();
    for reopened in [false, true] {
        if reopened {
            drop(store);
            store = open();
        }
        assert_eq!(store.head(), all[300].receipt());
        assert_eq!(store.entries(Seq(0), 1_000).unwrap(), all);
        for (after, limit) in [
            (0, 1),
            (1, 5),
            (63, 2),
            (64, 2),
            (127, 130),
            (300, 5),
            (301, 5),
            (u64::MAX, 5),
            (5, 0),
        ] {
            let wanted: Vec<Entry> = all.iter().filter(|entry| entry.seq.0 > after).take(limit).cloned().collect();
            assert_eq!(store.entries(Seq(after), limit).unwrap(), wanted, "after {after}, at most {limit}");
        }
    }
}

#[test]
fn the_file_store_passes_the_battery() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("made/when/missing");
    battery(&mut || Box::new(open(&data_dir).0));
}

#[test]
fn a_page_is_bounded_by_octets_and_never_empty_while_there_is_more() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let (small, lines) = entries_after(Receipt::GENESIS, 2, "small");
    store.append(&lines).unwrap();
    let (large, lines) = entries_after(store.head(), 2, &"x".repeat(5_000));
    store.append(&lines).unwrap();
    let all: Vec<Entry> = small.into_iter().chain(large).collect();
    for reader in [store.reader(), LedgerReader::of(dir.path())] {
        let (mut seen, mut pages) = (Vec::new(), Vec::new());
        loop {
            let after = seen.last().map_or(Seq(0), |entry: &Entry| entry.seq);
            let page = reader.page(after, 3, 4_000).unwrap();
            pages.push(page.entries.len());
            seen.extend(page.entries);
            if !page.has_more {
                break;
            }
        }
        assert_eq!((&seen, pages), (&all, vec![2, 1, 1]), "a large entry comes alone");
        assert!(!reader.page(Seq(0), 4, usize::MAX).unwrap().has_more);
        assert!(reader.page(Seq(0), 3, usize::MAX).unwrap().has_more);
    }
}

/// What a disk does with the next calls.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// Writes only so many octets.
    Short(u16),
    /// Takes the write and fails the sync.
    Sync(io::ErrorKind),
    /// Writes only so many octets, and cannot be cut.
    ShortAndStuck(u16),
}

/// A disk in memory that fails when told.
#[derive(Debug, Clone)]
struct Faulty(Arc<Mutex<(Vec<u8>, Fault)>>);

impl Disk for Faulty {
    fn write_at(&mut self, octets: &[u8], offset: u64) -> io::Result<()> {
        let (file, fault) = &mut *self.0.lock().unwrap();
        let take = match fault {
            Fault::Short(count) | Fault::ShortAndStuck(count) => usize::from(*count).min(octets.len()),
            _ => octets.len(),
        };
        assert_eq!(offset, file.len() as u64, "writes begin where the durable file ends");
        file.extend_from_slice(&octets[..take]);
        if matches!(fault, Fault::Short(_) | Fault::ShortAndStuck(_)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        match self.0.lock().unwrap().1 {
            Fault::Sync(kind) => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        let (file, fault) = &mut *self.0.lock().unwrap();
        if matches!(fault, Fault::ShortAndStuck(_)) {
            return Err(io::ErrorKind::Other.into());
        }
        file.truncate(usize::try_from(len).unwrap());
        Ok(())
    }
}

/// A fault now and then.
fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        2 => any::<u16>().prop_map(|count| Fault::Short(count % 2_000)),
        1 => Just(Fault::Sync(io::ErrorKind::StorageFull)),
        1 => Just(Fault::Sync(io::ErrorKind::Other)),
        1 => any::<u16>().prop_map(|count| Fault::ShortAndStuck(count % 2_000)),
    ]
}

proptest! {
    #[test]
    fn a_failing_disk_loses_nothing_acknowledged(steps in prop::collection::vec((fault(), 1..6usize), 1..20)) {
        let disk = Faulty(Arc::new(Mutex::new((Vec::new(), Fault::None))));
        let index = Arc::new(Index::default());
        let mut store = FileStore::over(Box::new(disk.clone()), Path::new("/nowhere"), Chain::new(), index);
        let (mut acknowledged, mut is_poisoned) = (Vec::new(), false);
        for (fault, count) in steps {
            disk.0.lock().unwrap().1 = fault;
            let (_, lines) = entries_after(store.head(), count, "a reason");
            let outcome = store.append(&lines);
            let file = disk.0.lock().unwrap().0.clone();
            match outcome {
                Ok(()) => {
                    prop_assert!(!is_poisoned && matches!(fault, Fault::None));
                    acknowledged.extend(lines);
                    prop_assert_eq!(&file, &acknowledged);
                }
                Err(StoreError::Io { .. }) => {
                    prop_assert!(matches!(fault, Fault::Short(_) | Fault::Sync(io::ErrorKind::StorageFull)));
                    prop_assert_eq!(&file, &acknowledged, "a refused write leaves no trace");
                }
                Err(StoreError::Undecided { .. }) => {
                    prop_assert!(!is_poisoned && matches!(fault, Fault::Sync(io::ErrorKind::Other) | Fault::ShortAndStuck(_)));
                    is_poisoned = true;
                }
                Err(StoreError::Poisoned { .. }) => prop_assert!(is_poisoned),
                Err(other) => prop_assert!(false, "{other}"),
            }
            prop_assert!(file.starts_with(&acknowledged));
        }
        // The next start finds a ledger that verifies, whatever happened.
        let file = disk.0.lock().unwrap().0.clone();
        prop_assert!(scan(&file, |_| ()).unwrap().chain.offset() >= acknowledged.len() as u64);
    }
}

#[test]
fn a_torn_last_line_is_cut_off_and_kept_whatever_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let (entries, lines) = entries_after(Receipt::GENESIS, 3, "r");
    store.append(&lines).unwrap();
    drop(store);
    let path = ledger_path(dir.path());
    let begin = lines[..lines.len() - 1].iter().rposition(|octet| *octet == b'\n').unwrap() + 1;
    for end in begin + 1..lines.len() {
        fs::write(&path, &lines[..end]).unwrap();
        let mut read = Vec::new();
        let (mut store, report) = FileStore::open(dir.path(), "2026", &mut |entry| read.push(entry)).unwrap();
        let torn = report.torn.unwrap();
        assert_eq!(fs::read(&torn.path).unwrap(), &lines[begin..end]);
        assert_eq!((torn.octets, fs::read(&path).unwrap().as_slice()), (end - begin, &lines[..begin]));
        assert_eq!(read, entries[..2]);
        store.append(&lines[begin..]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), lines);
    }
    let kept = fs::read_dir(dir.path()).unwrap();
    let kept = kept.filter(|one| one.as_ref().unwrap().file_name().to_string_lossy().starts_with("ledger.torn-"));
    assert_eq!(kept.count(), lines.len() - begin - 1, "none overwrote another");
}

#[test]
fn a_torn_last_line_that_cannot_be_kept_stays_and_nothing_is_recorded_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let (entries, lines) = entries_after(Receipt::GENESIS, 2, "r");
    store.append(&lines).unwrap();
    drop(store);
    let path = ledger_path(dir.path());
    let begin = lines[..lines.len() - 1].iter().rposition(|octet| *octet == b'\n').unwrap() + 1;
    let torn = &lines[..lines.len() - 3];
    fs::write(&path, torn).unwrap();
    // The folder that this stamp names is missing, as if there were no room for the file.
    let (mut read, stamp) = (Vec::new(), "no/room");
    let (mut store, report) = FileStore::open(dir.path(), stamp, &mut |entry| read.push(entry)).unwrap();
    assert!(
        report.torn.is_none() && report.unkept.as_ref().unwrap().contains("torn"),
        "{report:?}"
    );
    assert_eq!((read.as_slice(), store.head()), (&entries[..1], entries[0].receipt()));
    assert_eq!(store.reader().entries(Seq(0), 9).unwrap(), entries[..1]);
    for _ in 0..3 {
        assert!(matches!(store.append(&lines[begin..]), Err(StoreError::Io { .. })));
        assert_eq!(fs::read(&path).unwrap(), torn, "nothing was touched");
    }
    let kept = dir.path().join("ledger.torn-no");
    fs::create_dir(&kept).unwrap();
    store.append(&lines[begin..]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), lines);
    assert_eq!(fs::read(kept.join("room")).unwrap(), &torn[begin..]);
    store.append(b"").unwrap();
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 1, "it is kept once");
}

#[test]
fn copies_of_the_config_are_for_the_servers_own_user() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    drop(FileStore::open(&data_dir, "now", &mut |_| ()).unwrap());
    let files = [(PathBuf::from("c.toml"), b"Authorization = \"Bearer x\"".to_vec())];
    super::copies::write_last_good(&data_dir, &files, &sha256_of_files(&files)).unwrap();
    for path in ["", "last-good", "last-good/0", "last-good/manifest.json"] {
        let path = data_dir.join(path);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
    }
}

#[test]
fn a_corrupt_ledger_is_named_and_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let (_, lines) = entries_after(Receipt::GENESIS, 3, "r");
    store.append(&lines).unwrap();
    drop(store);
    let path = ledger_path(dir.path());
    let ends: Vec<usize> = (0..lines.len()).filter(|at| lines[*at] == b'\n').collect();
    for (at, seq) in [(20, 1), (ends[0] + 20, 2), (ends[1] + 20, 3), (ends[2], 3)] {
        let mut changed = lines.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let error = FileStore::open(dir.path(), "now", &mut |_| ()).unwrap_err();
        let StoreError::Corrupt { source, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(source.seq, Seq(seq), "octet {at}");
        assert_eq!(fs::read(&path).unwrap(), changed);
    }
}

#[test]
fn readers_see_only_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let (entries, lines) = entries_after(Receipt::GENESIS, 2, "r");
    store.append(&lines).unwrap();
    let reader = store.reader();
    // A line on its way to the disk, whole but not durable, as a reader could see it between write and fdatasync.
    let (_, more) = entries_after(store.head(), 1, "r");
    fs::write(ledger_path(dir.path()), [lines.clone(), more.clone()].concat()).unwrap();
    assert_eq!(reader.entries(Seq(0), 10).unwrap(), entries);
    store.append(&more).unwrap();
    assert_eq!(reader.entries(Seq(2), 10).unwrap().len(), 1);
}

#[test]
fn a_reader_without_a_server_learns_places_and_passes_a_torn_line_over() {
    let dir = tempfile::tempdir().unwrap();
    let (entries, lines) = entries_after(Receipt::GENESIS, 200, "r");
    fs::write(ledger_path(dir.path()), &lines[..lines.len() - 5]).unwrap();
    let reader = LedgerReader::of(dir.path());
    for _ in 0..2 {
        assert_eq!(reader.entries(Seq(0), 1_000).unwrap(), entries[..199]);
        assert_eq!(reader.entries(Seq(150), 3).unwrap(), entries[150..153]);
    }
    // Another ledger under the same name: places that were learned hold no longer.
    let (others, lines) = entries_after(Receipt::GENESIS, 150, "a longer reason");
    fs::write(ledger_path(dir.path()), &lines).unwrap();
    assert_eq!(reader.entries(Seq(140), 1_000).unwrap(), others[140..]);
    // Lines swapped: each is an entry, but not the one that should stand there.
    let mut swapped: Vec<&[u8]> = lines.split_inclusive(|octet| *octet == b'\n').collect();
    swapped.swap(3, 4);
    fs::write(ledger_path(dir.path()), swapped.concat()).unwrap();
    let error = reader.entries(Seq(0), 1_000).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { source, .. } if source.seq == Seq(4)),
        "{error}"
    );
}

#[test]
fn a_data_dir_is_held_by_one_server_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = FileStore::open(dir.path(), "now", &mut |_| ()).unwrap_err();
    let wanted = format!("process {}", std::process::id());
    assert!(
        matches!(error, StoreError::Locked { .. }) && error.to_string().contains(&wanted),
        "{error}"
    );
    drop(store);
    open(dir.path());
}

/// A runtime for the little that is asynchronous.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn the_appender_acknowledges_in_order_and_unlocks_when_closed() {
    let dir = tempfile::tempdir().unwrap();
    let appender = Appender::start(open(dir.path()).0).unwrap();
    let (entries, lines) = entries_after(Receipt::GENESIS, 40, "r");
    block_on(async {
        let lines: Vec<&[u8]> = lines.split_inclusive(|octet| *octet == b'\n').collect();
        let waiting: Vec<_> = lines.iter().map(|line| appender.append(line.to_vec())).collect();
        for outcome in waiting {
            outcome.await.unwrap().unwrap();
        }
        let twice = appender.append(lines[0].to_vec()).await.unwrap();
        assert!(matches!(twice, Err(StoreError::NotNext { .. })));
        appender.save_roles(|| b"roles".to_vec());
        appender.save_last_good(vec![("/etc/p.toml".into(), b"version = 1".to_vec())], "wrong".into());
        appender.close().await;
    });
    assert_eq!(read_roles(dir.path()).unwrap(), b"roles", "what waited was written before the end");
    assert!(
        matches!(read_last_good(dir.path()), Err(StoreError::Content { .. })),
        "a wrong hash is found"
    );
    assert_eq!(open(dir.path()).1, entries);
}

#[test]
fn lazy_copies_are_tried_again_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Arc::new(super::lazy::Desk::new(dir.path()));
    // A folder in the way of the temporary file: the write fails until it is gone.
    fs::create_dir(dir.path().join("roles.new")).unwrap();
    let (called, calls) = std::sync::mpsc::channel();
    desk.save_roles(Box::new(move || {
        called.send(()).unwrap();
        b"roles".to_vec()
    }));
    let thread = std::thread::spawn({
        let desk = desk.clone();
        move || desk.run()
    });
    calls.recv().unwrap();
    // The first try has begun. Whether it has ended or not, it cannot have succeeded; the try at closing must.
    while !desk.has_failed() {
        std::thread::yield_now();
    }
    fs::remove_dir(dir.path().join("roles.new")).unwrap();
    desk.close();
    thread.join().unwrap();
    assert_eq!(read_roles(dir.path()).unwrap(), b"roles");
}

#[test]
fn a_last_good_copy_survives_a_crash_between_any_two_steps() {
    let dir = tempfile::tempdir().unwrap();
    let set = |text: &str| vec![("/etc/p.toml".into(), text.as_bytes().to_vec()), ("zone".into(), b"z".to_vec())];
    let write = |text: &str| {
        let files = set(text);
        super::copies::write_last_good(dir.path(), &files, &sha256_of_files(&files)).unwrap();
    };
    let [current, old, new] = ["last-good", "last-good.old", "last-good.new"].map(|name| dir.path().join(name));
    assert!(read_last_good(dir.path()).is_err());
    write("one");
    assert_eq!(read_last_good(dir.path()).unwrap().files, set("one"));
    // Crashed while the new one was written: the current one stands.
    fs::create_dir(&new).unwrap();
    fs::write(new.join("0"), "half").unwrap();
    assert_eq!(read_last_good(dir.path()).unwrap().files, set("one"));
    write("two");
    assert_eq!(read_last_good(dir.path()).unwrap().files, set("two"));
    // Crashed between the renames: the one before is read, also while a third is written over it.
    fs::rename(&current, &old).unwrap();
    assert_eq!(read_last_good(dir.path()).unwrap().files, set("two"));
    write("three");
    assert_eq!(read_last_good(dir.path()).unwrap().files, set("three"));
    assert!(!old.exists() && !new.exists());
    // An octet changed on disk is not served.
    fs::write(current.join("1"), "y").unwrap();
    assert!(matches!(read_last_good(dir.path()), Err(StoreError::Content { .. })));
}

#[test]
fn the_health_log_is_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let log = super::copies::HealthLog::new(dir.path());
    let lines = "x".repeat(1 << 20) + "\n";
    for _ in 0..20 {
        log.write(&lines).unwrap();
    }
    let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(size("health.log") <= 9 << 20 && size("health.log.1") > 8 << 20);
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(files.len(), 2);
}
