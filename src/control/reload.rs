//! Loading a config with its zones for a running node: everything that can be done before the writer is asked.
//!
//! Reading, checking and compiling take seconds for large sets, so they happen on a blocking thread; the writer gets a
//! [`Candidate`] and only decides whether to take it, against the roles of that moment.

use super::publish;
use super::types::{Published, SubmitError};
use crate::answer::Snapshot;
use crate::config::{self, Config, Loaded};
use crate::model::{Decision, Diagnostic, Draft, Name, Now};
use crate::role;
use crate::zone::Zone;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A config that is right in itself, compiled for the roles of the moment when it was loaded.
pub struct Candidate {
    /// The config.
    pub config: Arc<Config>,
    /// Its zones.
    pub zones: Vec<Arc<Zone>>,
    /// Findings that keep nothing from being taken.
    pub warnings: Vec<Diagnostic>,
    /// SHA-256 over every file read, hex.
    pub sha256: String,
    /// Every file read, for the last-good copy.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// The compiled answers and the decisions in them; the writer brings them up to date.
    pub(super) answers: Snapshot,
    pub(super) decisions: imbl::OrdMap<Name, Arc<Decision>>,
}

impl Candidate {
    /// Compiles what was loaded, with the roles and the health that readers see now.
    pub fn compile(loaded: Loaded, published: &Published, now: Now, hash_seed: u64) -> Candidate {
        let config = Arc::new(loaded.config);
        // Names that the ledger does not know yet get the role they will have once `reconcile` is recorded; if it
        // refuses, the writer refuses the candidate for the same reason.
        let mut state = published.state.clone();
        for draft in role::reconcile(&state, &config.fleet).unwrap_or_default() {
            state.apply(state.seq().next(), now, &draft);
        }
        let mut health = published.health.clone();
        health.reconfigure(&config.fleet, now);
        let (answers, decisions) = publish::compile(&config.fleet, &loaded.zones, &state, &health, now, hash_seed);
        Candidate {
            config,
            zones: loaded.zones,
            warnings: loaded.warnings,
            sha256: crate::store::sha256_of_files(&loaded.files),
            files: loaded.files,
            answers,
            decisions,
        }
    }
}

/// Reads and checks a config with its zones from disk.
///
/// # Errors
/// Every finding of every file.
pub fn load(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    let mut loaded = config::load(&path.display().to_string(), &mut |file, folder| read(file, folder))?;
    loaded.warnings.extend(unreadable_files(&loaded.config));
    Ok(loaded)
}

/// Files that the config names and that cannot be read now. Warnings: they may come later, and what needs them says so then;
/// but a probe without its password fails, and that would look like a sick region.
fn unreadable_files(config: &Config) -> Vec<Diagnostic> {
    let mut named: Vec<(String, &Path)> = Vec::new();
    for app in config.fleet.apps.values() {
        for (number, probe) in app.probes.iter().enumerate() {
            let what = |key| format!("`{key}` of probe {} of app.{}", number + 1, app.id);
            named.extend(probe.kind.files().into_iter().map(|(key, file)| (what(key), file)));
        }
    }
    let api = &config.api;
    named.extend(api.token_file.as_deref().map(|file| ("`token-file` of [api]".to_owned(), file)));
    named.extend(api.tls.iter().flat_map(|tls| {
        [
            ("`tls.cert` of [api]".to_owned(), tls.cert.as_path()),
            ("`tls.key` of [api]".to_owned(), tls.key.as_path()),
        ]
    }));
    named
        .into_iter()
        .filter_map(|(what, file)| {
            // A program may be run without being readable.
            let seen = if what.starts_with("`command`") {
                std::fs::metadata(file).map(drop)
            } else {
                std::fs::File::open(file).map(drop)
            };
            let error = seen.err()?;
            Some(Diagnostic::warning(
                None,
                format!("{what}: {} cannot be read: {error}", file.display()),
            ))
        })
        .collect()
}

/// Reads one file; with a folder the file must lie in it once every link is resolved.
fn read(file: &Path, folder: Option<&Path>) -> Result<Vec<u8>, String> {
    if let Some(folder) = folder {
        let (real_file, real_folder) = (file.canonicalize(), folder.canonicalize());
        let inside = real_file
            .as_ref()
            .is_ok_and(|file| real_folder.as_ref().is_ok_and(|folder| file.starts_with(folder)));
        if let Ok(real) = real_file
            && !inside
        {
            return Err(format!("it leads to {}, outside the folder {}", real.display(), folder.display()));
        }
    }
    std::fs::read(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied; the server's user must be able to read it".to_owned(),
        _ => error.to_string(),
    })
}

/// Whether a running node may take the candidate: restart keys, then the roles, then the guard. The drafts are what has to
/// be recorded with it.
///
/// # Errors
/// The first of the three that says no.
pub(super) fn admit(
    old: &Config,
    zones: &[Arc<Zone>],
    state: &role::State,
    candidate: &Candidate,
    force: bool,
) -> Result<Vec<Draft>, SubmitError> {
    let keys = config::restart_keys(old, &candidate.config);
    if !keys.is_empty() {
        return Err(SubmitError::NeedsRestart(keys));
    }
    // Roles before the guard: what no force can pass should be said first.
    let drafts = role::reconcile_from(state, Some(&old.fleet), &candidate.config.fleet).map_err(SubmitError::Conflict)?;
    let served = config::Served { zones, fleet: &old.fleet };
    let removal = config::removal(
        served,
        config::Served {
            zones: &candidate.zones,
            fleet: &candidate.config.fleet,
        },
    );
    let max = candidate.config.node.reload_max_removed.min(old.node.reload_max_removed);
    if !force && removal.exceeds(max) {
        return Err(SubmitError::Guard(format!(
            "{removal}; reload-max-removed allows {max} percent. Nothing was changed; reload with --force if this is meant"
        )));
    }
    Ok(drafts)
}
