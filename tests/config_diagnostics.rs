//! Golden tests: each `tests/config/NAME.toml` is a config with something wrong, `NAME.out` what is said about it.
//!
//! A file is named after the rule that it breaks. `UPDATE_GOLDEN=1` rewrites what is said; read the difference
//! before it is committed.

use pointsman::config;
use pointsman::model::Diagnostic;
use std::path::{Path, PathBuf};

/// Reads a file below the tests, as the shell does: never outside the folder given.
fn read_file(path: &Path, inside: Option<&Path>) -> Result<Vec<u8>, String> {
    if let Some(folder) = inside {
        let real = path.canonicalize().map_err(|_| "no such file".to_owned())?;
        assert!(real.starts_with(folder.canonicalize().unwrap()), "{}", path.display());
    }
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => error.to_string(),
    })
}

/// The configs of the folder in the order of their names.
fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir("tests/config")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.retain(|path| path.extension().is_some_and(|ext| ext == "toml"));
    cases.sort();
    cases
}

/// What is said about a config.
fn findings(path: &Path) -> Vec<Diagnostic> {
    match config::load(path.to_str().unwrap(), &mut read_file) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    }
}

#[test]
fn what_is_said_is_what_was_agreed() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in cases() {
        let said: String = findings(&path).iter().map(|finding| format!("{finding}\n\n")).collect();
        let golden = path.with_extension("out");
        if update {
            std::fs::write(&golden, &said).unwrap();
        }
        let agreed = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != agreed {
            wrong.push(format!("{}\n--- agreed\n{agreed}--- said\n{said}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_case_breaks_something_and_every_place_is_shown() {
    let cases = cases();
    assert!(cases.len() > 40);
    for path in cases {
        let findings = findings(&path);
        assert!(!findings.is_empty(), "{} breaks nothing", path.display());
        for finding in findings {
            let at = finding.at.as_ref().unwrap_or_else(|| panic!("{finding} has no place"));
            let text = std::fs::read(&at.file).unwrap();
            let text = String::from_utf8_lossy(&text);
            let line = text.lines().nth(at.line - 1).unwrap_or_default();
            assert!(at.column <= line.chars().count() + 1, "{finding}");
            // A domain name at the end keeps its dot.
            let last = finding.message.split(' ').next_back().unwrap_or_default();
            assert!(
                !last.ends_with('.') || last.trim_end_matches('.').contains('.'),
                "a message ends without a dot: {finding}"
            );
        }
    }
}

/// A place in a config for a key of the reference, with a value of a type that no key takes.
fn misuse(path: &str) -> String {
    let base = "version = 1\n[node]\nname = \"n\"\ndata-dir = \"d\"\n";
    let wrong = "1979-05-27";
    let parts: Vec<&str> = path.split('.').collect();
    match parts[..] {
        ["version"] => base.replace("version = 1", &format!("version = {wrong}")),
        ["node"] => format!("version = 1\nnode = {wrong}\n"),
        [top] => format!("{top} = {wrong}\n{base}"),
        ["node", key] => format!("version = 1\n[node]\n{key} = {wrong}\n"),
        ["zone", key] => format!("{base}[[zone]]\n{key} = {wrong}\n"),
        ["region", key] => format!("{base}[region.iad]\n{key} = {wrong}\n"),
        ["app", key] => format!("{base}[app.shop]\n{key} = {wrong}\n"),
        ["probe", key] => format!("{base}[[app.shop.probe]]\n{key} = {wrong}\n"),
        ["probe", kind, key] => format!("{base}[[app.shop.probe]]\nkind = \"{kind}\"\n{key} = {wrong}\n"),
        ["probe", kind, table, key] => format!("{base}[[app.shop.probe]]\nkind = \"{kind}\"\n{table} = {{ {key} = {wrong} }}\n"),
        [table, key] => format!("{base}[{table}]\n{key} = {wrong}\n"),
        [table, inner, key] => format!("{base}[{table}]\n{inner} = {{ {key} = {wrong} }}\n"),
        _ => panic!("{path} is deeper than any key"),
    }
}

#[test]
fn every_key_of_the_reference_is_read_where_it_says() {
    for (path, _) in config::KEYS {
        let text = misuse(path);
        let (_, findings) = config::parse("misuse.toml", &text);
        let line = text.lines().position(|line| line.contains("1979")).unwrap() + 1;
        let at_value =
            |finding: &&Diagnostic| finding.at.as_ref().is_some_and(|at| at.line == line) && finding.message.contains(", not a date");
        let said = findings.iter().find(at_value).unwrap_or_else(|| panic!("{path}: {findings:#?}"));
        let key = path.rsplit('.').next().unwrap();
        assert!(said.message.contains(key), "{path}: {said}");
        assert!(
            !findings.iter().any(|finding| finding.message.starts_with("unknown key")),
            "{path}: {findings:#?}"
        );
    }
}

#[test]
fn secrets_are_not_repeated() {
    for path in cases() {
        for finding in findings(&path) {
            assert!(
                !finding.to_string().contains("secret@") && !finding.to_string().contains("\"secret\""),
                "{finding}"
            );
        }
    }
}
