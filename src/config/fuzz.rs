//! Fuzz body of the config reader: a plain function that a fuzzer and the seeded smoke test call.

use super::{load, parse};
use crate::model::Diagnostic;

/// Reads the octets up to the first NUL as a config and the rest as every file that it names, and holds the
/// reader to its promises: no panic, the same findings twice, a config exactly where nothing is an error.
///
/// # Panics
/// When a promise is broken; that is what the fuzzer looks for.
pub fn fuzz(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |octet| *octet == 0);
    let (config_text, zone_text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let text = String::from_utf8_lossy(config_text);
    let (config, findings) = parse("etc/fuzz.toml", &text);
    let wrong = findings.iter().any(Diagnostic::is_error);
    assert_eq!(config.is_none(), wrong, "a config exactly where nothing is wrong: {findings:?}");
    assert_eq!(parse("etc/fuzz.toml", &text), (config, findings.clone()), "the same twice");
    assert!(
        findings
            .iter()
            .all(|finding| finding.at.is_some() && !finding.to_string().is_empty()),
        "each has its place"
    );
    let mut asked = Vec::new();
    let mut read = |path: &std::path::Path, _: Option<&std::path::Path>| {
        asked.push(path.to_owned());
        Ok(if asked.len() == 1 {
            config_text.to_vec()
        } else {
            zone_text.to_vec()
        })
    };
    match load("etc/fuzz.toml", &mut read) {
        Ok(loaded) => {
            assert!(!wrong, "a set is no better than its config");
            assert_eq!(loaded.zones.len(), loaded.config.zones.len(), "one zone an entry");
            assert!(
                loaded.files.iter().map(|(path, _)| path).eq(asked.iter()),
                "what was read is what is kept"
            );
        }
        Err(findings) => assert!(findings.iter().any(Diagnostic::is_error), "refused without a reason"),
    }
    asked.sort();
    assert!(
        asked.windows(2).all(|pair| pair.first() != pair.last()),
        "each file is asked for once"
    );
}
