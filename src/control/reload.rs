//! Loading a config with its zones for a running node: everything that can be done before the writer is asked.
//!
//! Reading, checking and compiling take seconds for large sets, so they happen on a blocking thread; the writer gets a
//! [`Candidate`] and only decides whether to take it, against the roles of that moment.

use super::types::{Published, SubmitError};
use super::{publish, settings};
use crate::answer::{Settings, Snapshot};
use crate::config::{self, Config, Loaded, Outline, Place, Places};
use crate::model::{Decision, Diagnostic, Draft, NameMap, Now, ProbeKind};
use crate::probe::{icmp_refusal, open_file};
use crate::role;
use crate::zone::Zone;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A config that is right in itself, compiled for the roles of the moment when it was loaded.
pub struct Candidate {
    /// The config.
    pub config: Arc<Config>,
    /// Its zones.
    pub zones: Vec<Arc<Zone>>,
    /// What the reload after it compares with.
    pub outline: Outline,
    /// Findings that keep nothing from being taken.
    pub warnings: Vec<Diagnostic>,
    /// SHA-256 over every file read, hex.
    pub sha256: String,
    /// Where the config says what.
    pub places: Places,
    /// Every file read, for the last-good copy.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// The compiled answers and the decisions in them; the writer brings them up to date.
    pub(super) answers: Snapshot,
    pub(super) decisions: NameMap<Arc<Decision>>,
}

impl Candidate {
    /// Compiles what was loaded, with the roles and the health that readers see now.
    pub fn compile(loaded: Loaded, published: &Published, now: Now, hash_seed: u64, settings: Settings) -> Candidate {
        let config = Arc::new(loaded.config);
        // Names that the ledger does not know yet get the role they will have once `reconcile` is recorded; if it
        // refuses, the writer refuses the candidate for the same reason.
        let mut state = published.state.clone();
        for draft in role::reconcile(&state, &config.fleet).unwrap_or_default() {
            state.apply(state.seq().next(), now, &draft);
        }
        let mut health = published.health.clone();
        health.reconfigure(&config.fleet, now);
        let (answers, decisions) = publish::compile(&config.fleet, &loaded.zones, &state, &health, now, hash_seed, settings);
        Candidate {
            config,
            outline: Outline::of(&loaded.zones),
            zones: loaded.zones,
            warnings: loaded.warnings,
            places: loaded.places,
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
    load_noting(path, &mut BTreeSet::new())
}

/// The same; notes every file that was asked for, also where there is a finding: to mend it may be to change any of them.
///
/// # Errors
/// As [`load`].
pub fn load_noting(path: &Path, files: &mut BTreeSet<PathBuf>) -> Result<Loaded, Vec<Diagnostic>> {
    let mut loaded = config::load(&path.display().to_string(), &mut |file, folder| {
        files.insert(file.to_owned());
        read(file, folder)
    })?;
    loaded.warnings.extend(unreadable_files(&loaded.config, &loaded.places));
    loaded.warnings.extend(forbidden_probes(&loaded.config, &loaded.places));
    let secrets = loaded.config.service.cookie_secret_file.as_deref().map(settings::read_secrets);
    if let Some(Err(error)) = secrets {
        // A reload refuses it; a start and a check should not: the set itself is right.
        loaded
            .warnings
            .push(loaded.places.put(&Place::CookieSecretFile, Diagnostic::warning(None, error)));
    }
    Ok(loaded)
}

/// Files that the config names and that cannot be read now. Warnings: they may come later, and what needs them says so then;
/// but a probe without its password fails, and that would look like a sick region.
fn unreadable_files(config: &Config, places: &Places) -> Vec<Diagnostic> {
    let mut named: Vec<(Place, String, &Path)> = Vec::new();
    for app in config.fleet.apps.values() {
        for (number, probe) in app.probes.iter().enumerate() {
            let what = |key| format!("`{key}` of probe {} of app.{}", number + 1, app.id);
            let place = || Place::Probe(app.id.clone(), number);
            named.extend(probe.kind.files().into_iter().map(|(key, file)| (place(), what(key), file)));
        }
    }
    named
        .into_iter()
        .filter_map(|(place, what, file)| {
            // A program may be run without being readable.
            let seen = if what.starts_with("`command`") {
                std::fs::metadata(file).map(drop)
            } else {
                open_file(file).map(drop)
            };
            let error = seen.err()?;
            let message = format!("{what}: {} cannot be read: {error}", file.display());
            Some(places.put(&place, Diagnostic::warning(None, message)))
        })
        .collect()
}

/// Probes of a kind that this process may not run. Warnings: the server may run as somebody else.
fn forbidden_probes(config: &Config, places: &Places) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut refusal = None;
    for app in config.fleet.apps.values() {
        for (number, probe) in app.probes.iter().enumerate() {
            if !matches!(probe.kind, ProbeKind::Icmp(_)) {
                continue;
            }
            if let Some(why) = refusal.get_or_insert_with(icmp_refusal) {
                let message = format!("probe {} of app.{}: {why}", number + 1, app.id);
                found.push(places.put(&Place::Probe(app.id.clone(), number), Diagnostic::warning(None, message)));
            }
        }
    }
    found
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

/// Conflicts of a config with the ledger as findings: each at the `regions` of the application that steers the name, else at
/// the name itself.
pub fn placed(config: &Config, places: &Places, conflicts: Vec<role::Conflict>) -> Vec<Diagnostic> {
    let find = |conflict: role::Conflict| {
        let app = config.fleet.names.get(&conflict.name).map(|steered| steered.app.id.clone());
        let place = app.map_or(Place::Name(conflict.name), Place::Regions);
        places.put(&place, Diagnostic::error(None, conflict.message))
    };
    super::types::bounded(conflicts.into_iter().map(find).collect())
}

/// What a reload should be warned of that shows only beside the present config: serials that did not grow, and names for
/// which every endpoint of the active region is another one (allowed, but clients move and nothing is known of the new ones).
pub(super) fn compare(old: &Config, outline: &Outline, state: &role::State, candidate: &Candidate) -> Vec<Diagnostic> {
    let mut warnings = config::forgotten_serials(outline, &candidate.zones, &candidate.outline);
    for (name, steered) in &candidate.config.fleet.names {
        let (Some(before), Some(known)) = (old.fleet.names.get(name), state.name(name)) else {
            continue;
        };
        let (was, is) = (before.app.endpoints_of(&known.active), steered.app.endpoints_of(&known.active));
        if !was.is_empty() && !is.iter().any(|endpoint| was.contains(endpoint)) {
            let message = format!(
                "every endpoint of {} was replaced, where {name} is active; the new ones start unknown",
                known.active
            );
            let place = Place::Endpoints(steered.app.id.clone(), known.active.clone());
            warnings.push(candidate.places.put(&place, Diagnostic::warning(None, message)));
        }
    }
    warnings
}

/// Whether a running node may take the candidate: restart keys, then the roles, then the guard. The drafts are what has to
/// be recorded with it.
///
/// # Errors
/// The first of the three that says no.
pub(super) fn admit(
    old: &Config,
    outline: &Outline,
    state: &role::State,
    candidate: &Candidate,
    force: bool,
) -> Result<Vec<Draft>, SubmitError> {
    let keys = config::restart_keys(old, &candidate.config);
    if !keys.is_empty() {
        return Err(SubmitError::NeedsRestart(keys));
    }
    // Roles before the guard: what no force can pass should be said first.
    let drafts = role::reconcile_from(state, Some(&old.fleet), &candidate.config.fleet)
        .map_err(|conflicts| SubmitError::Conflict(placed(&candidate.config, &candidate.places, conflicts)))?;
    let before = config::Served {
        outline,
        fleet: &old.fleet,
    };
    let after = config::Served {
        outline: &candidate.outline,
        fleet: &candidate.config.fleet,
    };
    let removal = config::removal(before, &candidate.zones, after);
    let max = candidate.config.node.reload_max_removed.min(old.node.reload_max_removed);
    if !force && removal.exceeds(max) {
        return Err(SubmitError::Guard(format!(
            "{removal}; reload-max-removed allows {max} percent. Nothing was changed; reload with --force if this is meant"
        )));
    }
    Ok(drafts)
}
