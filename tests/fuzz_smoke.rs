//! Seeded smoke run of every fuzz body over the corpus in `tests/corpus` and random damage to it: what a fuzzer found once is a
//! file there, and stays found. The fuzzer itself is the crate in `fuzz/`.

use std::path::Path;

/// Damaged copies of each file.
const COPIES: u64 = 60;

/// Random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// The files of one body, in the order of their names.
fn corpus(body: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(body);
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus of {body}");
    files
}

/// Damages octets: some changed, cut, doubled, or a piece of another file put in.
fn damage(mut octets: Vec<u8>, other: &[u8], dice: &mut Dice) -> Vec<u8> {
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(octets.len() + 1);
        match dice.below(5) {
            0 if at < octets.len() => octets[at] = dice.next() as u8,
            1 if at < octets.len() => octets[at] ^= 1 << dice.below(8),
            2 => octets.truncate(at),
            3 => {
                let end = at + dice.below(octets.len() - at + 1);
                let piece = octets[at..end].to_vec();
                octets.splice(at..at, piece);
            }
            _ => {
                let from = dice.below(other.len() + 1);
                let piece = other[from..from + dice.below(other.len() - from + 1)].to_vec();
                let end = at + dice.below(octets.len() - at + 1);
                octets.splice(at..end, piece);
            }
        }
        octets.truncate(100_000);
    }
    octets
}

/// Runs a body over its corpus and damage to it.
fn smoke(body: &str, run: fn(&[u8])) {
    let files = corpus(body);
    for (number, (path, octets)) in files.iter().enumerate() {
        let held = |octets: &[u8], what: &dyn Fn() -> String| {
            assert!(
                std::panic::catch_unwind(|| run(octets)).is_ok(),
                "{}: {:?}",
                what(),
                String::from_utf8_lossy(octets)
            );
        };
        held(octets, &|| path.clone());
        for seed in 0..COPIES {
            let mut dice = Dice(seed << 32 | number as u64);
            let other = &files[dice.below(files.len())].1;
            held(&damage(octets.clone(), other, &mut dice), &|| format!("{path}, damage {seed}"));
        }
    }
}

#[test]
fn packets_keep_the_promises_of_the_answer_path() {
    smoke("packet", pointsman::answer::fuzz::fuzz);
}

#[test]
fn zone_files_keep_the_promises_of_the_reader() {
    smoke("zone", pointsman::zone::fuzz::fuzz);
}

#[test]
fn configs_keep_the_promises_of_the_reader() {
    smoke("config", pointsman::config::fuzz::fuzz);
}

#[test]
fn ledger_lines_keep_the_promises_of_the_reader() {
    smoke("ledger", pointsman::ledger::fuzz_line);
}
