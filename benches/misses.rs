//! Misses of the caches in `respond`, counted: names asked all over a million static and a hundred thousand steered ones.
//!
//! `cargo bench --bench misses [-- --json --test KIND…]`. Virtual machines rarely have counters, so it runs itself in valgrind (needed, and
//! nothing else), which simulates the caches: first level 32 KiB for data, 8-way; last level 32 MiB or 1 MiB, 16-way; lines of 64
//! octets, no prefetching. What is counted is the same each time. Some four minutes, nearly all of them for building the snapshot.
//!
//! - `hit`: static names that exist; `missing`: names that do not, beside them; `steered`: health-checked names.
//! - One row for each source file that misses, and for what is called and not ours (`memcpy`, `memcmp`): code is inlined, so lines tell
//!   more than functions. `D1` counts misses of the first level a query, `LL 32M` and `LL 1M` those of the last, reads and writes.
//!
//! Only `counted` is counted, after as many queries of the same kind: building the snapshot does not show, and the caches hold what they
//! hold in operation. No name is asked for twice.

mod kit;

use kit::args::Args;
use kit::inputs;
use kit::proc;
use kit::table::Table;
use pointsman::answer::{Ctx, Out, Outcome, Snapshot, SteeredInput, UDP_OCTETS_MAX, respond};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::process::Command;

const USAGE: &str = "cargo bench --bench misses [-- --json --test KIND…]";

/// Last levels.
const LAST: [(&str, usize); 2] = [("LL 32M", 32 << 20), ("LL 1M", 1 << 20)];
/// Kinds of queries, in the order in which they are asked.
const KINDS: [&str; 3] = ["hit", "missing", "steered"];
/// The word with which it runs itself.
const INSIDE: &str = "inside-valgrind";

/// How many static names and steered ones there are, and how many are asked for.
fn sizes(test: bool) -> (u32, u32, u32) {
    if test { (5_000, 1_000, 500) } else { (1_000_000, 100_000, 50_000) }
}

/// Asks one snapshot.
struct Asker {
    snapshot: Snapshot,
    ctx: Ctx,
    room: [u8; UDP_OCTETS_MAX],
}

/// A kind of queries.
struct Kind {
    /// The query, for a letter and seven digits. Made before anything is counted: to allocate is to tidy up after the build.
    packet: Vec<u8>,
    /// How many numbers there are.
    all: u32,
    /// What comes back.
    rcode: u8,
}

impl Asker {
    /// Asks for so many names, each another one; all must be answered as their kind is.
    #[inline(always)]
    fn ask(&mut self, kind: &mut Kind, numbers: Range<u32>) {
        for number in numbers {
            // A walk that comes to every number once: the factor is prime to ten.
            let mut rest = (u64::from(number) * 2_654_435_761 % u64::from(kind.all)) as u32;
            for digit in kind.packet[14..21].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            match respond(&self.snapshot, &kind.packet, &self.ctx, &mut Out::new(&mut self.room)) {
                Outcome::Reply(reply) => assert_eq!(reply.rcode, kind.rcode),
                Outcome::Drop(reason) => panic!("dropped: {reason:?}"),
            }
        }
    }
}

/// What is counted: a function of its own, by whose name valgrind knows it.
#[inline(never)]
fn counted(asker: &mut Asker, kind: &mut Kind, numbers: Range<u32>) {
    asker.ask(kind, numbers);
}

/// What runs inside valgrind, for one kind.
fn inside(name: &str, test: bool) {
    let (names, steered, queries) = sizes(test);
    let (letter, all, rcode) = match name {
        "hit" => ('n', names, 0),
        "missing" => ('m', names, 3),
        _ => ('s', steered, 0),
    };
    let packet = inputs::query(&format!("{letter}0000000.example."), 1);
    let mut kind = Kind { packet, all, rcode };
    let mut text = "$TTL 300\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n".to_owned();
    for number in 0..names {
        let _ = writeln!(text, "n{number:07} A 192.0.2.4");
    }
    let inputs: Vec<SteeredInput> = (0..steered)
        .map(|number| inputs::steered(&format!("s{number:07}.example."), "iad"))
        .collect();
    let mut asker = Asker {
        snapshot: Snapshot::build(&[inputs::zone(text)], &inputs, 42),
        ctx: inputs::ctx(),
        room: [0; UDP_OCTETS_MAX],
    };
    asker.ask(&mut kind, queries..2 * queries);
    counted(&mut asker, &mut kind, 0..queries);
}

/// Runs this program in valgrind with a last level of so many octets; the profile of one kind of queries.
fn profile(valgrind: &str, kind: &str, octets: usize, test: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("profile");
    let mut command = Command::new(valgrind);
    command.args([
        "--quiet",
        "--tool=callgrind",
        "--cache-sim=yes",
        "--toggle-collect=*misses*counted*",
        "--D1=32768,8,64",
    ]);
    command.arg(format!("--LL={octets},16,64"));
    command.arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(std::env::current_exe().expect("this program")).args([INSIDE, kind]);
    if test {
        command.arg("--test");
    }
    let output = command.output().expect("valgrind");
    assert!(output.status.success(), "valgrind: {}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(file).expect("a profile")
}

/// Misses by place: those of the first level and of the last.
type Misses = BTreeMap<String, [u64; 2]>;

/// Reads a profile (valgrind's manual, "Callgrind Format"): its misses by place, added up.
fn misses(profile: &str) -> Misses {
    let (mut columns, mut all) = (Vec::new(), Misses::new());
    // Names are written once and then stand as numbers: files and functions each have their own.
    let (mut files, mut functions): (HashMap<String, String>, HashMap<String, String>) = Default::default();
    let (mut file, mut function, mut is_call) = (String::new(), String::new(), false);
    for line in profile.lines() {
        if let Some(names) = line.strip_prefix("events: ") {
            columns = names
                .split(' ')
                .map(|name| (name.starts_with("D1m"), name.starts_with("DLm")))
                .collect();
        } else if line.starts_with("calls=") {
            is_call = true; // the next line is what it cost in all: counted where it was
        } else if let Some((key, name)) = line.split_once('=') {
            match key {
                "fl" | "fi" | "fe" => file = known(&mut files, name),
                "cfi" | "cfl" => drop(known(&mut files, name)),
                "fn" => function = known(&mut functions, name),
                "cfn" => drop(known(&mut functions, name)),
                _ => {}
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) && !std::mem::take(&mut is_call) {
            let costs = line.split(' ').skip(1).filter_map(|cost| cost.parse::<u64>().ok());
            for (cost, (is_first, is_last)) in costs.zip(&columns).filter(|(cost, _)| *cost > 0) {
                let place = all.entry(place(&file, &function)).or_default();
                place[0] += if *is_first { cost } else { 0 };
                place[1] += if *is_last { cost } else { 0 };
            }
        }
    }
    all
}

/// The name behind `(number)`, or `(number) name`, which is remembered.
fn known(names: &mut HashMap<String, String>, written: &str) -> String {
    match written.split_once(' ') {
        Some((number, name)) => names.entry(number.to_owned()).insert_entry(name.to_owned()).get().clone(),
        None => names.get(written).cloned().unwrap_or_default(),
    }
}

/// How a place is told: our own files by their names, what of the standard library was inlined by where, everything else by its function.
fn place(file: &str, function: &str) -> String {
    match (file.split_once("src/answer/"), function.split_once("answer::")) {
        (Some((_, ours)), _) => format!("answer/{ours}"),
        (None, Some((_, ours))) => format!("core, in {ours}"),
        (None, None) => function.to_owned(),
    }
}

fn main() {
    let args = Args::read(USAGE);
    if let [INSIDE, kind] = args.chosen.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return inside(kind, args.test);
    }
    let Some(valgrind) = proc::find("valgrind") else {
        eprintln!("valgrind is not installed: nothing is counted");
        return;
    };
    let columns: Vec<(String, usize)> = args
        .of(&KINDS)
        .iter()
        .flat_map(|kind| ["D1", LAST[0].0, LAST[1].0].map(|level| (format!("{kind} {level}"), 2)))
        .collect();
    let columns: Vec<(&str, usize)> = columns.iter().map(|(name, digits)| (name.as_str(), *digits)).collect();
    let mut table = Table::new(&columns);
    let queries = f64::from(sizes(args.test).2);
    for (last, octets) in LAST {
        for kind in args.of(&KINDS) {
            eprintln!("{kind}, {last}");
            let mut misses = misses(&profile(&valgrind, kind, octets, args.test));
            let sum = misses.values().fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
            assert!(sum[0] > 0, "{kind}: nothing was counted");
            misses.insert("all".to_owned(), sum);
            for (place, [first, last_level]) in misses.iter().filter(|(_, [first, _])| *first as f64 > queries / 50.0) {
                table.add(place, &format!("{kind} D1"), *first as f64 / queries);
                table.add(place, &format!("{kind} {last}"), *last_level as f64 / queries);
            }
        }
    }
    table.print(args.json);
}
