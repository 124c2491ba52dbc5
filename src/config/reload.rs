//! What a reload may change: keys that need a restart.
//!
//! Deliberately absent: roles. Whether a region or a name may go is asked of `role::reconcile`.

use super::Config;

/// The keys that differ and cannot change while the server runs, because sockets, threads and the lock on
/// the data folder are made from them at start.
pub fn restart_keys(old: &Config, new: &Config) -> Vec<String> {
    let changed = [
        ("node.name", old.node.name != new.node.name),
        ("node.data-dir", old.node.data_dir != new.node.data_dir),
        ("dns.listen", old.dns.listen != new.dns.listen),
        ("dns.workers", old.dns.workers != new.dns.workers),
        ("api.listen", old.api.listen != new.api.listen),
        ("api.socket", old.api.socket != new.api.socket),
        ("api.token-file", old.api.token_file != new.api.token_file),
        ("api.tls", old.api.tls != new.api.tls),
        ("api.allow-plaintext", old.api.allow_plaintext != new.api.allow_plaintext),
        ("api.metrics-names-max", old.api.metrics_names_max != new.api.metrics_names_max),
    ];
    changed
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| key.to_owned())
        .collect()
}
