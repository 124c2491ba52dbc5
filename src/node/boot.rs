//! From files to a state that can be served: which config, which roles, and what has to be recorded first.
//!
//! ```text
//! today's config right, and fits the roles ──▶ today's
//! else the last accepted set (data-dir/last-good) ──▶ that, every error printed, alert `config-rejected`
//! else ──▶ exit 1
//! ledger corrupt ──▶ exit 1 naming the entry; with --answer-only the last published roles
//! ```
//! What cannot be recorded at start (disk full) does not keep known names from being answered: the config that needs no
//! new entry is served then, with the alert.

use super::serve::ServeOptions;
use crate::config::{self, Config, Loaded};
use crate::control::{self, Serving, WARNINGS_MAX, load_noting, restore_roles};
use crate::health::Book;
use crate::ledger::{Entry, Hash};
use crate::model::{Actor, Body, Diagnostic, Draft, Now, Seq, Severity};
use crate::role::{self, State};
use crate::store::{self, Appender, FileStore, LedgerReader, StoreError};
use crate::telemetry::{Clock, chain};
use crate::zone::Zone;
use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a node starts with.
pub(super) struct Boot {
    pub config: Arc<Config>,
    pub zones: Vec<Arc<Zone>>,
    pub state: State,
    pub head: Hash,
    pub hashes: BTreeMap<Seq, Hash>,
    pub health: Book,
    pub appender: Option<Appender>,
    pub ledger: LedgerReader,
    pub serving: Serving,
    /// Why the start could not be recorded, if it could not.
    pub unrecorded: Option<String>,
    /// The files of the config, and of today's where that is another one, for `reload-on-change`.
    pub files: BTreeSet<PathBuf>,
}

/// The roles as replayed, and the store they came from.
struct Roles {
    state: State,
    head: Hash,
    hashes: BTreeMap<Seq, Hash>,
}

/// A set that may be served.
struct Offer {
    loaded: Loaded,
    drafts: Vec<Draft>,
    serving: Serving,
}

/// Reads everything that a start needs.
///
/// # Errors
/// When no config can be served, the data dir cannot be used, or the ledger is corrupt.
pub(super) fn boot(options: &ServeOptions, clock: &Clock) -> anyhow::Result<Boot> {
    let mut read = BTreeSet::new();
    let today = load_noting(&options.config, &mut read);
    match &today {
        Ok(loaded) => print_findings(&loaded.warnings),
        Err(findings) => print_findings(findings),
    }
    let data_dir = data_dir(options, &today)?;
    if options.answer_only {
        return answer_only(options, today, read, &data_dir, clock);
    }
    let now = clock.now();
    let mut roles = Roles {
        state: State::new(),
        head: Hash::GENESIS,
        hashes: BTreeMap::new(),
    };
    let stamp = now.wall.to_string();
    let (mut store, report) = match FileStore::open(&data_dir, &stamp, &mut |entry| roles.replay(&entry, now)) {
        Ok(opened) => opened,
        Err(error @ StoreError::Corrupt { .. }) => bail!(
            "{}\nThe file was not touched. Put {} back from a backup (verify it with: pointsman ledger verify --data-dir {}), or answer with the \
             last published roles and no changes meanwhile: pointsman serve --config {} --answer-only",
            chain(&error),
            store::ledger_path(&data_dir).display(),
            data_dir.display(),
            options.config.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("opening the data dir {}", data_dir.display())),
    };
    if let Some(torn) = &report.torn {
        tracing::warn!(octets = torn.octets, kept = %torn.path.display(), "the last line of the ledger was torn by a crash; it was never acknowledged, was cut off and kept aside");
    }
    if let Some(why) = &report.unkept {
        tracing::error!(
            "the last line of the ledger was torn by a crash and stays there; nothing is recorded until it can be kept aside: {why}"
        );
    }
    let offers = offers(options, today, &data_dir, &roles.state)?;
    let (offer, unrecorded) = record_first(&mut store, &mut roles, offers, now)?;
    let health = restore_health(&data_dir, &offer.loaded.config, now);
    let ledger = store.reader();
    read.extend(offer.loaded.files.iter().map(|(path, _)| path.clone()));
    let appender = Appender::start(store).context("starting the ledger's I/O thread")?;
    if offer.serving == Serving::Current {
        let sha256 = store::sha256_of_files(&offer.loaded.files);
        appender.save_last_good(offer.loaded.files, sha256);
    }
    Ok(Boot {
        config: Arc::new(offer.loaded.config),
        zones: offer.loaded.zones,
        state: roles.state,
        head: roles.head,
        hashes: roles.hashes,
        health,
        appender: Some(appender),
        ledger,
        serving: offer.serving,
        unrecorded,
        files: read,
    })
}

/// Logs every error, and warnings until there are too many to read; `pointsman check` lists them all.
pub(super) fn print_findings(findings: &[Diagnostic]) {
    let (errors, warnings): (Vec<_>, Vec<_>) = findings.iter().partition(|finding| finding.severity == Severity::Error);
    for error in errors {
        tracing::error!("{error}");
    }
    for warning in warnings.iter().take(WARNINGS_MAX) {
        tracing::warn!("{warning}");
    }
    if warnings.len() > WARNINGS_MAX {
        tracing::warn!(
            count = warnings.len(),
            "more warnings than are logged: pointsman check lists them all"
        );
    }
}

/// The data dir: today's config names it; a config too broken to name it falls back to the default.
fn data_dir(options: &ServeOptions, today: &Result<Loaded, Vec<Diagnostic>>) -> anyhow::Result<PathBuf> {
    if let Ok(loaded) = today {
        return Ok(loaded.config.node.data_dir.clone());
    }
    let path = options.config.display().to_string();
    let text = std::fs::read_to_string(&options.config).unwrap_or_default();
    config::data_dir_hint(&path, &text).with_context(|| {
        format!("{path} cannot be served, and it does not say where its data dir is, so that the last accepted config could be served instead; the errors stand above")
    })
}

impl Roles {
    /// Folds one entry of the ledger; cooldowns go on over a restart by the wall clock.
    fn replay(&mut self, entry: &Entry, now: Now) {
        let at = Now {
            mono: now.mono_at(entry.time),
            wall: entry.time,
        };
        self.state.apply(entry.seq, at, &entry.draft);
        self.head = entry.hash;
        if entry.draft.request_id.is_some() {
            self.hashes.insert(entry.seq, entry.hash);
        }
    }
}

/// What may be served, best first.
fn offers(options: &ServeOptions, today: Result<Loaded, Vec<Diagnostic>>, data_dir: &Path, state: &State) -> anyhow::Result<Vec<Offer>> {
    let last_good = load_last_good(data_dir);
    let old = last_good.as_ref().ok().map(|loaded| loaded.config.fleet.clone());
    let mut offers = Vec::new();
    let mut errors = Vec::new();
    match today {
        Err(findings) => errors = findings.iter().filter(|one| one.is_error()).map(ToString::to_string).collect(),
        Ok(loaded) => match role::reconcile_from(state, old.as_ref(), &loaded.config.fleet) {
            Ok(drafts) => offers.push(Offer {
                loaded,
                drafts,
                serving: Serving::Current,
            }),
            Err(conflicts) => {
                let findings = control::placed(&loaded.config, &loaded.places, conflicts);
                tracing::error!("the config contradicts the ledger");
                print_findings(&findings);
                errors = findings.iter().map(ToString::to_string).collect();
            }
        },
    }
    match last_good {
        Ok(loaded) => {
            if let Ok(drafts) = role::reconcile_from(state, None, &loaded.config.fleet) {
                offers.push(Offer {
                    loaded,
                    drafts,
                    serving: Serving::LastGood { errors },
                });
            }
        }
        Err(reason) if offers.is_empty() => bail!(
            "{} cannot be served, and there is no last accepted config to fall back to: {reason}. Correct the errors above (pointsman check --config {0} lists them again)",
            options.config.display()
        ),
        Err(_) => {}
    }
    if offers.is_empty() {
        bail!(
            "neither {} nor the last accepted config in {} fits the roles in the ledger",
            options.config.display(),
            data_dir.display()
        );
    }
    Ok(offers)
}

/// Loads the last accepted set from the data dir.
fn load_last_good(data_dir: &Path) -> Result<Loaded, String> {
    let set = store::read_last_good(data_dir).map_err(|error| chain(&error))?;
    let Some(path) = set.files.first().map(|(path, _)| path.clone()) else {
        return Err("the copy is empty".to_owned());
    };
    let mut read = |wanted: &Path, _folder: Option<&Path>| {
        let found = set.files.iter().find(|(path, _)| path == wanted);
        found
            .map(|(_, bytes)| bytes.clone())
            .ok_or_else(|| "not in the last accepted copy".to_owned())
    };
    config::load(&path.display().to_string(), &mut read)
        .map_err(|findings| findings.first().map_or_else(|| "it has errors".to_owned(), ToString::to_string))
}

/// Records the start and what the first possible offer needs; gives the offer that is served, and why its start could not be
/// recorded, if it could not.
///
/// # Errors
/// When no offer can be served without an entry and none can be recorded.
fn record_first(store: &mut FileStore, roles: &mut Roles, offers: Vec<Offer>, now: Now) -> anyhow::Result<(Offer, Option<String>)> {
    let mut failure = None;
    for mut offer in offers {
        if let (Some(error), Serving::LastGood { errors }) = (&failure, &mut offer.serving) {
            errors.push(format!(
                "today's config needs new entries, and the ledger cannot be written: {}",
                chain(error)
            ));
        }
        let drafts = start_drafts(&mut offer, &roles.state);
        // Without new names or a new config only the start itself goes unrecorded.
        let needs_entry = drafts.len() > 1;
        match record(store, roles, drafts, now) {
            Ok(()) => return Ok((offer, None)),
            Err(error) if needs_entry => {
                tracing::error!(
                    "the ledger cannot be written, so a config that needs new entries cannot be served: {}",
                    chain(&error)
                );
                failure = Some(error);
            }
            Err(error) => {
                let why = chain(&error);
                tracing::error!("the ledger cannot be written; answering goes on, changes will be refused: {why}");
                let unrecorded =
                    format!("the ledger cannot be written, so nothing changes; this is over with the next entry that is recorded: {why}");
                return Ok((offer, Some(unrecorded)));
            }
        }
    }
    match failure {
        Some(error) => Err(error).context("nothing can be served without writing to the ledger first"),
        None => bail!("nothing can be served"),
    }
}

/// The start, what the config needs, and the config itself where it is another one.
fn start_drafts(offer: &mut Offer, state: &State) -> Vec<Draft> {
    let node = offer.loaded.config.node.name.clone();
    let by_node = |reason: &str, body| Draft {
        actor: Actor::Node,
        reason: reason.to_owned(),
        request_id: None,
        body,
    };
    let mut drafts = vec![by_node(
        "start",
        Body::Started {
            node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    )];
    drafts.append(&mut offer.drafts);
    let sha256 = store::sha256_of_files(&offer.loaded.files);
    if state.config_sha256() != Some(sha256.as_str()) {
        drafts.push(by_node("start", Body::ConfigAccepted { sha256, forced: false }));
    }
    drafts
}

/// Appends drafts and applies them.
fn record(store: &mut FileStore, roles: &mut Roles, drafts: Vec<Draft>, now: Now) -> Result<(), StoreError> {
    let (mut state, mut head, mut lines) = (roles.state.clone(), roles.head, Vec::new());
    for draft in drafts {
        let seq = state.seq().next();
        // A line too long for the ledger is refused like a full disk: nothing is recorded.
        let (line, hash) = crate::ledger::encode(seq, now.wall, &draft, head).map_err(|error| StoreError::Content {
            path: store::ledger_path(store.data_dir()),
            what: error.to_string(),
        })?;
        lines.extend_from_slice(&line);
        state.apply(seq, now, &draft);
        head = hash;
    }
    store.append(&lines)?;
    roles.state = state;
    roles.head = head;
    Ok(())
}

/// Health as it was saved, as far as it is fresh; what cannot be read is unknown.
fn restore_health(data_dir: &Path, config: &Config, now: Now) -> Book {
    let mut health = Book::new();
    health.suspect_above(config.node.suspect_self_above);
    health.reconfigure(&config.fleet, now);
    match store::read_health(data_dir) {
        Ok(Some(saved)) => {
            health.restore(&saved, now);
        }
        Ok(None) => {}
        Err(error) => tracing::warn!("the saved health cannot be read and starts unknown: {}", chain(&error)),
    }
    health
}

/// The last published roles, without the ledger; every change will be refused.
fn answer_only(
    options: &ServeOptions,
    today: Result<Loaded, Vec<Diagnostic>>,
    mut read: BTreeSet<PathBuf>,
    data_dir: &Path,
    clock: &Clock,
) -> anyhow::Result<Boot> {
    let now = clock.now();
    let saved = store::read_roles(data_dir).with_context(|| format!("reading the last published roles in {}", data_dir.display()))?;
    let mut state = restore_roles(&saved, now).map_err(|error| anyhow::anyhow!("the last published roles cannot be read: {error}"))?;
    let (loaded, drafts) = fitting(options, today, data_dir, &state)?;
    // Names without a role yet are answered as a new name would be; nothing of it is recorded.
    for draft in drafts {
        state.apply(state.seq().next(), now, &draft);
    }
    let health = restore_health(data_dir, &loaded.config, now);
    read.extend(loaded.files.iter().map(|(path, _)| path.clone()));
    Ok(Boot {
        config: Arc::new(loaded.config),
        zones: loaded.zones,
        state,
        head: Hash::GENESIS,
        hashes: BTreeMap::new(),
        health,
        appender: None,
        ledger: LedgerReader::of(data_dir),
        serving: Serving::AnswerOnly {
            why: "it was started with --answer-only".to_owned(),
        },
        unrecorded: None,
        files: read,
    })
}

/// The config to answer from without the ledger, and what is new in it: today's, else the last accepted one, if they fit the roles. A
/// name whose active region is no longer configured would have nothing to answer.
fn fitting(
    options: &ServeOptions,
    today: Result<Loaded, Vec<Diagnostic>>,
    data_dir: &Path,
    state: &State,
) -> anyhow::Result<(Loaded, Vec<Draft>)> {
    let today = match today {
        Ok(loaded) => match role::reconcile(state, &loaded.config.fleet) {
            Ok(drafts) => return Ok((loaded, drafts)),
            Err(conflicts) => {
                tracing::error!("the config contradicts the last published roles");
                print_findings(&control::placed(&loaded.config, &loaded.places, conflicts));
                Some(loaded)
            }
        },
        Err(_) => None,
    };
    let last_good = load_last_good(data_dir).map(|loaded| (role::reconcile(state, &loaded.config.fleet), loaded));
    match (last_good, today) {
        (Ok((Ok(drafts), loaded)), _) => Ok((loaded, drafts)),
        // Neither fits: most names can be answered all the same.
        (_, Some(loaded)) | (Ok((Err(_), loaded)), None) => Ok((loaded, Vec::new())),
        (Err(reason), None) => bail!(
            "{} cannot be served and the last accepted config neither: {reason}",
            options.config.display()
        ),
    }
}
