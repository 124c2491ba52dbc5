//! Tidiness as a test: tiers, banned words in the pure tiers, file and function sizes, module docs, and that everything
//! public to users (metrics, alerts, config keys, verbs) stands in the README.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules each module may import. The picture in `src/lib.rs` says the same.
const EDGES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("zone", &["model"]),
    ("health", &["model"]),
    ("both", &[]),
    ("role", &["model", "both"]),
    ("ledger", &["model"]),
    ("config", &["model", "zone"]),
    ("steering", &["model", "role"]),
    ("answer", &["model", "zone"]),
    ("dns", &["model", "answer", "tls", "holder", "precedence", "seldom"]),
    ("probe", &["model", "tls", "precedence"]),
    ("store", &["model", "ledger", "health"]),
    ("telemetry", &["model"]),
    ("tls", &[]),
    ("holder", &[]),
    ("precedence", &[]),
    ("seldom", &[]),
    (
        "control",
        &[
            "model",
            "zone",
            "health",
            "role",
            "ledger",
            "config",
            "steering",
            "answer",
            "probe",
            "store",
            "telemetry",
            "precedence",
            "both",
        ],
    ),
    (
        "api",
        &[
            // `probe` for what is run by hand: it counts for nothing, so the writer is not asked.
            "model", "health", "role", "ledger", "config", "steering", "answer", "probe", "store", "tls", "holder", "seldom", "control",
        ],
    ),
    (
        "node",
        &[
            "model",
            "zone",
            "health",
            "role",
            "ledger",
            "config",
            "steering",
            "answer",
            "dns",
            "probe",
            "store",
            "telemetry",
            "tls",
            "control",
            "api",
        ],
    ),
    (
        "cli",
        &["model", "role", "ledger", "config", "steering", "store", "telemetry", "node", "api"],
    ),
];

/// Modules that are pure functions with time as an argument.
const PURE: &[&str] = &["model", "zone", "health", "role", "ledger", "config", "steering", "answer"];

/// What a pure module must not mention outside its tests.
const BANNED: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime::now",
    "getrandom",
    "Mutex",
    "RwLock",
    "std::thread",
    "println!",
    "eprintln!",
    "std::env",
];

/// Outside crates with one home.
const HOMES: &[(&str, &[&str])] = &[
    ("axum::", &["api"]),
    ("clap::", &["cli"]),
    ("h2::", &["probe"]),
    ("hickory_proto::", &["probe"]),
    ("libc::", &["dns", "telemetry", "precedence"]),
    ("mio::", &["dns"]),
    ("quinn::", &["dns"]),
    ("tokio_postgres::", &["probe"]),
    ("prometheus::", &["telemetry"]),
    ("toml::", &["config", "api"]),
    ("notify::", &["node"]),
];

/// Longest file without and with its tests, and longest function, lines.
const FILE_LINES_MAX: usize = 600;
const FILE_WITH_TESTS_LINES_MAX: usize = 1000;
const FUNCTION_LINES_MAX: usize = 70;

/// A source file: its module, path and text.
struct Source {
    module: String,
    path: PathBuf,
    text: String,
}

impl Source {
    /// The text up to the first test module.
    fn product(&self) -> &str {
        self.text.split("#[cfg(test)]").next().unwrap_or_default()
    }

    /// Whether the whole file is tests.
    fn is_test(&self) -> bool {
        self.path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains("test"))
            || self.path.components().any(|part| part.as_os_str() == "tests")
    }
}

/// Every Rust file below `src`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap();
                let module = relative
                    .components()
                    .next()
                    .unwrap()
                    .as_os_str()
                    .to_string_lossy()
                    .trim_end_matches(".rs")
                    .to_owned();
                found.push(Source {
                    module,
                    text: fs::read_to_string(&path).unwrap(),
                    path,
                });
            }
        }
    }
    assert!(found.len() > 30, "the sources were not found");
    found
}

/// Lines of code, without comments, so that prose may name what code may not.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Fails with every finding at once.
fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn imports_go_downward_only() {
    let edges: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut findings = Vec::new();
    for source in sources() {
        let Some(allowed) = edges.get(source.module.as_str()) else {
            if !["lib", "main"].contains(&source.module.as_str()) {
                findings.push(format!("{}: module {} is not in the table", source.path.display(), source.module));
            }
            continue;
        };
        if source.is_test() {
            continue;
        }
        for (number, line) in code_lines(source.product()) {
            for (other, _) in EDGES {
                let imports = line.contains(&format!("crate::{other}::"))
                    || line.contains(&format!("crate::{other};"))
                    || line.contains(&format!("use crate::{{{other}"));
                if imports && *other != source.module && !allowed.contains(other) {
                    findings.push(format!(
                        "{}:{number}: {} may not import {other}",
                        source.path.display(),
                        source.module
                    ));
                }
            }
        }
    }
    report(findings);
}

#[test]
fn pure_modules_know_no_clock_file_socket_lock_or_chance() {
    let mut findings = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| PURE.contains(&source.module.as_str()) && !source.is_test())
    {
        for (number, line) in code_lines(source.product()) {
            for word in BANNED.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{number}: {word} in a pure module", source.path.display()));
            }
        }
    }
    report(findings);
}

#[test]
fn outside_crates_have_one_home() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (number, line) in code_lines(source.product()) {
            for (word, homes) in HOMES {
                let named = line
                    .match_indices(word)
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'));
                if named && !homes.contains(&source.module.as_str()) {
                    findings.push(format!(
                        "{}:{number}: {word} belongs to {}",
                        source.path.display(),
                        homes.join(", ")
                    ));
                }
            }
        }
    }
    report(findings);
}

#[test]
fn every_file_begins_with_its_purpose() {
    report(
        sources()
            .iter()
            .filter(|source| !source.text.starts_with("//!"))
            .map(|source| format!("{}: no //! at its head", source.path.display()))
            .collect(),
    );
}

#[test]
fn nothing_is_left_to_be_done() {
    let mut findings = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            for word in ["todo!(", "unimplemented!(", "FIXME", "XXX", "#[ignore"]
                .iter()
                .filter(|word| line.contains(**word))
            {
                findings.push(format!("{}:{}: {word}", source.path.display(), number + 1));
            }
        }
    }
    report(findings);
}

#[test]
fn files_and_functions_stay_small() {
    let mut findings = Vec::new();
    for source in sources() {
        let (product, whole) = (source.product().lines().count(), source.text.lines().count());
        if (product > FILE_LINES_MAX && !source.is_test()) || whole > FILE_WITH_TESTS_LINES_MAX {
            findings.push(format!(
                "{}: {product} lines, {whole} with tests; it wants to be two",
                source.path.display()
            ));
        }
        if source.is_test() {
            continue;
        }
        let mut start: Option<(usize, usize, String)> = None;
        for (number, line) in source.product().lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let word = line.trim_start();
            let begins = [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "const fn ",
                "pub const fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "pub(super) async fn ",
                "unsafe fn ",
            ]
            .iter()
            .any(|head| word.starts_with(head));
            if begins && start.is_none() {
                start = Some((number, indent, word.to_owned()));
            }
            if let Some((first, depth, head)) = &start
                && indent == *depth
                && (word == "}" || (number == *first && word.ends_with('}')) || word.ends_with(';') && number == *first)
            {
                if number - first >= FUNCTION_LINES_MAX {
                    findings.push(format!(
                        "{}:{}: {} lines: {head}",
                        source.path.display(),
                        first + 1,
                        number - first + 1
                    ));
                }
                start = None;
            }
        }
    }
    report(findings);
}

/// The README's text.
fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

#[test]
fn every_metric_alert_config_key_and_verb_stands_in_the_readme() {
    let readme = readme();
    let mut findings = Vec::new();
    for (name, _) in pointsman::telemetry::METRICS {
        if !readme.contains(&format!("`{name}")) {
            findings.push(format!("metric {name}"));
        }
    }
    for (key, _) in pointsman::config::KEYS {
        if !readme.contains(&format!("`{key}`")) {
            findings.push(format!("config key {key}"));
        }
    }
    for alert in pointsman::steering::AlertKind::ALL {
        if !readme.contains(&format!("| `{alert}` |")) {
            findings.push(format!("alert {alert}"));
        }
    }
    for verb in pointsman::cli::verbs() {
        if !readme.contains(&format!("`{verb}")) {
            findings.push(format!("verb {verb}"));
        }
    }
    report(
        findings
            .into_iter()
            .map(|finding| format!("not in the README: {finding}"))
            .collect(),
    );
}
