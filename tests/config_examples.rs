//! Every shipped config, read and checked as `pointsman check` does.

use pointsman::config;

/// Reads a shipped config and its findings as text.
fn parse(path: &str) -> (Option<config::Config>, String) {
    let text = std::fs::read_to_string(path).unwrap();
    let (config, findings) = config::parse(path, &text);
    let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
    (config, findings.join("\n"))
}

#[test]
fn every_shipped_config_is_clean() {
    for path in ["config/pointsman.toml", "config/minimal.toml", "config/policies.toml"] {
        let (config, findings) = parse(path);
        assert_eq!(findings, "", "{path}");
        assert!(config.is_some(), "{path}");
    }
}
