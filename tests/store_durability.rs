//! What the store promises against the world outside its process: kill -9, a full disk, a file size limit, another user.
//!
//! The test binary runs itself as the child: [`child`] does one of the [`JOBS`] when the environment names it, on a data
//! dir made by the parent. The child prints `ack SEQ:HASH` for each entry that was acknowledged; the parent believes only that.
//! What the machine does not allow (namespaces, other users) is skipped out loud.

use pointsman::ledger::{Entry, Receipt, scan};
use pointsman::model::{Actor, Body, Draft, Seq, Wall};
use pointsman::store::{Appender, FileStore, LedgerReader, StoreError, ledger_path};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Names the job of the child.
const JOB: &str = "POINTSMAN_TEST_JOB";
/// Names the data dir of the child.
const DIR: &str = "POINTSMAN_TEST_DIR";
/// What a child can do.
const JOBS: &[(&str, Job)] = &[
    ("append-for-ever", append_for_ever),
    ("append-until-refused", append_until_refused),
    ("append-on-a-full-disk", append_on_a_full_disk),
    ("open", open_and_tell),
];

/// Something to do with a data dir.
type Job = fn(&Path);

#[test]
fn child() {
    let Ok(job) = std::env::var(JOB) else { return };
    let dir = std::env::var_os(DIR).expect("the parent names the dir");
    let (_, run) = JOBS.iter().find(|(name, _)| *name == job).expect("a known job");
    run(Path::new(&dir));
}

/// A child with its job, to be started.
fn child_command(job: &str, dir: &Path) -> Command {
    wrapped(&[], job, dir)
}

/// A child started by another program, which runs the rest of its arguments.
fn wrapped(wrapper: &[&str], job: &str, dir: &Path) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut words: Vec<std::ffi::OsString> = wrapper.iter().map(Into::into).collect();
    words.push(binary.into());
    words.extend(["--exact", "child", "--nocapture", "--test-threads=1"].map(Into::into));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(JOB, job).env(DIR, dir).stdout(Stdio::piped());
    command
}

/// Runs a child to its end; gives its standard output and fails with its panic.
fn run(mut command: Command) -> String {
    command.stderr(Stdio::piped());
    let output = loop {
        match command.output() {
            // A child that another test is just starting still holds the copy of the binary open for writing.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            outcome => break outcome.unwrap(),
        }
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

/// The acknowledgements in what a child printed.
fn acknowledged(output: &str) -> Vec<Receipt> {
    output.lines().filter_map(|line| line.strip_prefix("ack ")?.parse().ok()).collect()
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Seeded(u64);

impl Seeded {
    /// The next number below a limit.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// The next `count` entries with reasons of a length, and their lines.
fn entries_after(mut head: Receipt, count: u64, reason_len: u64) -> (Vec<Entry>, Vec<u8>) {
    let (mut entries, mut lines) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let draft = Draft {
            actor: Actor::Node,
            reason: "r".repeat(1 + usize::try_from(reason_len).unwrap()),
            request_id: None,
            body: Body::Stopped { node: "ns1".into() },
        };
        let (entry, line) = Entry::seal(head, Wall(1_795_252_365_000), draft).unwrap();
        head = entry.receipt();
        entries.push(entry);
        lines.extend(line);
    }
    (entries, lines)
}

/// Tells the parent what was acknowledged, at once. Begins with a line feed: the harness may stand in the middle of a line.
fn tell(entries: &[Entry]) {
    let mut out = std::io::stdout().lock();
    for entry in entries {
        write!(out, "\nack {}\n", entry.receipt()).unwrap();
    }
    out.flush().unwrap();
}

/// Opens the store and gives every entry.
fn open(dir: &Path) -> (FileStore, Vec<Entry>, bool) {
    let mut entries = Vec::new();
    let (store, report) = FileStore::open(dir, "now", &mut |entry| entries.push(entry)).unwrap();
    (store, entries, report.torn.is_some())
}

/// Appends batches of all sizes until it is killed, small ones by the appender.
fn append_for_ever(dir: &Path) {
    let (store, entries, was_torn) = open(dir);
    let mut head = store.head();
    let mut seeded = Seeded(head.seq.0);
    println!("\nopened {} {}", entries.len(), was_torn);
    let appender = Appender::start(store).unwrap();
    loop {
        // Some long lines: only while much is copied can a kill tear a write.
        let (count, len) = if seeded.below(5) == 0 {
            (1, 150_000)
        } else {
            (1 + seeded.below(5), seeded.below(1_000))
        };
        let (entries, lines) = entries_after(head, count, len);
        head = entries.last().unwrap().receipt();
        appender.append(lines).blocking_recv().unwrap().unwrap();
        tell(&entries);
    }
}

/// Reads acknowledgements up to a number of them, kills the child with SIGKILL, and gives all that it had printed. With
/// `growing`, it waits further until half a line stands in that file, if it can see that: the child is then in the middle of a write.
fn kill_after(mut child: Child, count: u64, growing: Option<&Path>) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut output, mut seen) = (String::new(), 0);
    while seen <= count {
        let begin = output.len();
        assert!(lines.read_line(&mut output).unwrap() > 0, "the child ended by itself: {output}");
        let is_sign = output[begin..].starts_with("ack ") || output[begin..].starts_with("opened ");
        seen += u64::from(is_sign);
    }
    // The pipe must be emptied meanwhile, or the child would stop at a full one.
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        while lines.read_line(&mut rest).unwrap() > 0 {}
        rest
    });
    if let Some(path) = growing {
        wait_for_half_a_line(path);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What the pipe still held was printed before the end; a last line may be cut.
    output.push_str(&rest.join().unwrap());
    if !output.ends_with('\n') {
        output.truncate(output.rfind('\n').map_or(0, |end| end + 1));
    }
    output
}

/// Waits until a file grows by a part of a long line, or has grown 24 times without being caught at that. Small batches are at
/// most 8 KiB, a long line is 150,000 octets.
fn wait_for_half_a_line(path: &Path) {
    let size = || std::fs::metadata(path).unwrap().len();
    let (mut before, mut steps) = (size(), 0);
    while steps < 24 {
        let now = size();
        if (8 << 10..145_000).contains(&(now - before)) {
            return;
        }
        steps += u32::from(now > before);
        before = now;
    }
}

#[test]
fn kill_9_at_any_moment_loses_nothing_acknowledged() {
    const KILLS: u64 = 200;
    let shm = Path::new("/dev/shm");
    // A kill leaves the page cache alone, so memory will do and is faster.
    let dir = if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    }
    .unwrap();
    let (mut seeded, mut torn, mut kept) = (Seeded(1), 0, 0u64);
    for kill in 0..KILLS {
        if kill % 2 == 0 {
            // Begin anew, so that opening stays quick; every other start finds what a kill left.
            let _ = std::fs::remove_file(ledger_path(dir.path()));
        }
        let child = child_command("append-for-ever", dir.path()).stderr(Stdio::null()).spawn().unwrap();
        let (wanted, path) = (seeded.below(12), ledger_path(dir.path()));
        let output = kill_after(child, wanted, (kill % 2 == 0).then_some(&path));
        torn += u32::from(output.lines().any(|line| line.starts_with("opened ") && line.ends_with("true")));
        let octets = std::fs::read(ledger_path(dir.path())).unwrap();
        let mut hashes = BTreeMap::new();
        let scan = scan(&octets, |entry| {
            hashes.insert(entry.seq, entry.hash);
        });
        let scan = scan.unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        for receipt in acknowledged(&output) {
            kept += 1;
            if let Err(error) = scan.check(receipt, hashes.get(&receipt.seq).copied()) {
                panic!("kill {kill}: {error}");
            }
        }
    }
    assert!(kept > KILLS, "the children did acknowledge: {kept}");
    eprintln!("{KILLS} kills, {kept} acknowledged entries kept, {torn} torn lines cut off");
}

/// Appends until the store refuses; the file must be as it was, and take the next append when there is room again.
fn append_until_refused(dir: &Path) {
    let (mut store, ..) = open(dir);
    let refused = fill(&mut store);
    assert!(matches!(refused, StoreError::Io { .. }), "{refused}");
    assert_in_order(dir, &store);
    // Also a second and a smaller one are refused or taken cleanly, never half.
    for len in [2_000, 500, 1] {
        let (entries, lines) = entries_after(store.head(), 1, len);
        if store.append(&lines).is_ok() {
            tell(&entries);
        }
        assert_in_order(dir, &store);
    }
}

/// Appends until it fails; gives the failure.
fn fill(store: &mut FileStore) -> StoreError {
    loop {
        let (entries, lines) = entries_after(store.head(), 7, 900);
        match store.append(&lines) {
            Ok(()) => tell(&entries),
            Err(error) => return error,
        }
    }
}

/// The file holds what is durable and nothing else.
fn assert_in_order(dir: &Path, store: &FileStore) {
    let octets = std::fs::read(ledger_path(dir)).unwrap();
    let scan = scan(&octets, |_| ()).unwrap();
    assert_eq!((scan.chain.head(), scan.torn.len()), (store.head(), 0));
}

/// Fills a small file system, makes room, and goes on.
fn append_on_a_full_disk(dir: &Path) {
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 64 << 10]).unwrap();
    let (mut store, ..) = open(dir);
    let refused = fill(&mut store);
    let StoreError::Io { source, .. } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert_in_order(dir, &store);
    // A start on the full disk works: nothing needs room that answering needs.
    drop(store);
    let (mut store, entries, was_torn) = open(dir);
    assert!(!entries.is_empty() && !was_torn);
    assert!(fill(&mut store).to_string().contains("cannot write"));
    std::fs::remove_file(ballast).unwrap();
    let (entries, lines) = entries_after(store.head(), 7, 900);
    store.append(&lines).unwrap();
    tell(&entries);
    assert_in_order(dir, &store);
    println!("\ndone");
}

#[test]
fn a_full_disk_refuses_whole_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size=512k tmpfs '{}' && exec \"$@\"", dir.path().display());
    // A mount namespace of the child's own: the mount ends with it.
    let can_mount = Command::new("unshare").args(["-m", "sh", "-c", &script, "sh", "true"]).output();
    if !can_mount.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this machine does not let us mount a small file system (unshare -m, mount)");
        return;
    }
    let output = run(wrapped(
        &["unshare", "-m", "sh", "-c", &script, "sh"],
        "append-on-a-full-disk",
        dir.path(),
    ));
    assert!(
        output.lines().any(|line| line == "done") && !acknowledged(&output).is_empty(),
        "{output}"
    );
}

#[test]
fn a_limit_on_the_file_refuses_whole() {
    let dir = tempfile::tempdir().unwrap();
    // SIGXFSZ would end the child; ignored, it becomes the error EFBIG.
    let output = run(wrapped(
        &["sh", "-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"],
        "append-until-refused",
        dir.path(),
    ));
    let told = acknowledged(&output);
    let (mut store, entries, was_torn) = open(dir.path());
    assert!(!told.is_empty() && !was_torn);
    assert_eq!(
        entries.iter().map(Entry::receipt).collect::<Vec<_>>(),
        told,
        "what was acknowledged and nothing else"
    );
    let (_, lines) = entries_after(store.head(), 1, 10);
    store.append(&lines).unwrap();
}

/// Opens the store and prints what came of it.
fn open_and_tell(dir: &Path) {
    let outcome = FileStore::open(dir, "now", &mut |_| ());
    match outcome {
        Ok(_) => println!("\noutcome: opened"),
        Err(error) => println!(
            "\noutcome: {error}: {}",
            std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
        ),
    }
}

/// What a user who is not root is told about a data dir; none when this process cannot become one.
fn told_to_a_user(dir: &Path) -> Option<String> {
    const NOBODY: u32 = 65_534;
    let mut command = child_command("open", dir);
    if nix::unistd::geteuid().is_root() {
        // The binary itself must be within that user's reach.
        let copy = dir.parent()?.join("binary");
        std::fs::copy(std::env::current_exe().ok()?, &copy).ok()?;
        command = Command::new(&copy);
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command
            .env(JOB, "open")
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .uid(NOBODY)
            .gid(NOBODY);
    }
    let output = run(command);
    output
        .lines()
        .find_map(|line| line.strip_prefix("outcome: "))
        .map(ToOwned::to_owned)
}

#[test]
fn a_data_dir_of_another_user_is_told_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let top = tempfile::tempdir().unwrap();
    let permit = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    permit(top.path(), 0o755);
    let dir = top.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    let data = dir.display().to_string();
    // Readable, not writable.
    permit(&dir, 0o555);
    let told = told_to_a_user(&dir).expect("an outcome");
    assert!(
        told.contains(&format!("cannot open {data}/lock")) && told.contains("may write to") && told.contains("Permission denied"),
        "{told}"
    );
    // Cannot even be made.
    permit(top.path(), 0o555);
    let missing = top.path().join("missing");
    let told = told_to_a_user(&missing).expect("an outcome");
    assert!(
        told.contains(&format!("cannot create {}", missing.display())) && told.contains("Permission denied"),
        "{told}"
    );
    permit(top.path(), 0o755);
    // Writable, but the ledger cannot be read.
    permit(&dir, 0o777);
    std::fs::write(ledger_path(&dir), "").unwrap();
    permit(&ledger_path(&dir), 0o000);
    let told = told_to_a_user(&dir).expect("an outcome");
    assert!(
        told.contains(&format!("cannot open {data}/ledger.jsonl")) && told.contains("Permission denied"),
        "{told}"
    );
    permit(&ledger_path(&dir), 0o666);
    assert_eq!(told_to_a_user(&dir).expect("an outcome"), "opened");
}

#[test]
fn a_data_dir_that_is_a_file_is_told() {
    let dir = tempfile::NamedTempFile::new().unwrap();
    let error = FileStore::open(dir.path(), "now", &mut |_| ()).unwrap_err();
    assert!(
        matches!(error, StoreError::DataDir { .. }) && error.to_string().contains("must be a folder"),
        "{error}"
    );
}

#[test]
fn a_second_process_is_told_which_one_holds_the_data_dir() {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = open(dir.path());
    let output = run(child_command("open", dir.path()));
    let wanted = format!("in use by another server (process {})", std::process::id());
    assert!(output.contains(&wanted), "{output}");
    drop(store);
    assert!(run(child_command("open", dir.path())).contains("outcome: opened"));
}

#[test]
fn a_reader_beside_another_process_follows_what_it_acknowledges() {
    let dir = tempfile::tempdir().unwrap();
    let child = child_command("append-for-ever", dir.path()).stderr(Stdio::null()).spawn().unwrap();
    let reader = LedgerReader::of(dir.path());
    let output = kill_after(child, 20, None);
    let mut read: Vec<Entry> = Vec::new();
    loop {
        let after = read.last().map_or(Seq(0), |entry| entry.seq);
        let page = reader.entries(after, 100).unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    let told = acknowledged(&output);
    assert!(told.len() >= 20);
    assert_eq!(told, read[..told.len()].iter().map(Entry::receipt).collect::<Vec<_>>());
}
