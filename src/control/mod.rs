//! The only writer, and the handle through which everybody else asks it or reads what it published.
//!
//! One task owns roles, health and answers (`writer`); it handles commands in order, appends, decides, compiles and
//! publishes. Readers (API, metrics, the UDP lanes) hold snapshots and never wait for it. Dry runs and explanations are
//! computed on a snapshot, so they cost the writer nothing.
//!
//! Deliberately absent: gates and policies (`role`), what is answered (`steering`, `answer`), files (`store`).

mod alerts;
mod batch;
mod commit;
mod events;
mod lookups;
mod publish;
mod reload;
mod roles;
mod scrape;
mod settings;
#[cfg(test)]
mod tests;
mod turns;
mod types;
mod unknown;
mod writer;

pub use publish::compile;
pub use reload::{Candidate, load, load_noting, placed};
pub use roles::restore as restore_roles;
pub use settings::settings_at_start;
pub use types::{
    Alert, AlertKey, DryRun, Event, Happening, HistoryPage, HistoryRequest, Published, Receipt, ReloadRequest, Serving, SubmitError,
    WARNINGS_MAX,
};
pub use writer::Parts;

use crate::answer::Snapshot;
use crate::config::Place;
use crate::model::{Decision, Diagnostic, Name, Now};
use crate::role::{self, Request};
use crate::steering::{self, AlertKind, Explanation};
use crate::store::LedgerReader;
use crate::telemetry::{Clock, DnsCounters, Metrics};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Events kept for a reader that falls behind; one that falls further behind is told how many it missed.
const EVENTS_KEPT: usize = 4096;

/// Asks the writer and reads what it published. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

/// What every clone of the handle shares.
struct Inner {
    messages: mpsc::Sender<writer::Message>,
    view: Arc<ArcSwap<Published>>,
    events: broadcast::Sender<Arc<Event>>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    ledger: LedgerReader,
    config_path: PathBuf,
    /// The files that the present config comes from, and those that a refused one would come from.
    files: watch::Sender<BTreeSet<PathBuf>>,
    hash_seed: u64,
    /// Reloads, one after the other.
    reloads: turns::Turns,
    kit: crate::probe::Kit,
    dns_counters: Box<dyn Fn() -> DnsCounters + Send + Sync>,
}

/// What the handle needs besides what the writer is made of.
pub struct Surroundings {
    /// What the lanes answer from.
    pub lanes: Arc<ArcSwap<Snapshot>>,
    /// The first view; the writer publishes the next ones into it.
    pub view: Arc<ArcSwap<Published>>,
    /// Reads the ledger.
    pub ledger: LedgerReader,
    /// The config that a reload reads.
    pub config_path: PathBuf,
    /// Every file of the config that was read at the start.
    pub files: BTreeSet<PathBuf>,
    /// Seed of the answer index.
    pub hash_seed: u64,
    /// What the DNS side counted; asked at each scrape, and at each reload, which has the counts of earlier loads added up.
    pub dns_counters: Box<dyn Fn() -> DnsCounters + Send + Sync>,
}

/// Starts the writer on the current runtime.
pub fn start(parts: Parts, around: Surroundings, outcomes: mpsc::Receiver<crate::probe::ProbeEvent>) -> Handle {
    let (messages, inbox) = mpsc::channel(writer::WAITING_MAX);
    let (events, _) = broadcast::channel(EVENTS_KEPT);
    let inner = Inner {
        messages,
        view: around.view.clone(),
        events: events.clone(),
        clock: parts.clock.clone(),
        metrics: parts.metrics.clone(),
        ledger: around.ledger,
        config_path: around.config_path,
        files: watch::Sender::new(around.files),
        hash_seed: around.hash_seed,
        reloads: turns::Turns::new(),
        kit: parts.prober.kit(),
        dns_counters: around.dns_counters,
    };
    let publisher = publish::Publisher::new(around.lanes, around.view.clone());
    let events = events::Events::new(events);
    let writer = writer::Writer::new(parts, publisher, events.clone());
    let (running, clock) = (tokio::spawn(writer.run(inbox, outcomes)), inner.clock.clone());
    tokio::spawn(supervise(running, around.view, clock, events));
    Handle { inner: Arc::new(inner) }
}

/// Says so when the writer broke instead of ending: the lanes answer on, but nothing follows health or takes a change any more,
/// and readers must not go on seeing a node that is well. To end the process would cost answers that are still right.
async fn supervise(writer: tokio::task::JoinHandle<()>, view: Arc<ArcSwap<Published>>, clock: Arc<Clock>, events: events::Events) {
    let Err(error) = writer.await else { return };
    let why = format!("the writer broke ({error}), so roles and health stay as they are until a restart; restart the server");
    tracing::error!(alert = AlertKind::AnswerOnly.as_str(), "{why}");
    let key = AlertKey {
        alert: AlertKind::AnswerOnly,
        name: None,
    };
    let alert = Arc::new(Alert {
        key: key.clone(),
        message: why.clone(),
        since: clock.now().wall,
    });
    let present = Published::clone(&view.load());
    view.store(Arc::new(Published {
        alerts: present.alerts.update(key, alert.clone()),
        serving: Arc::new(Serving::AnswerOnly { why }),
        ..present
    }));
    // Whoever follows would take the silence for peace.
    events.tell(alert.since, Happening::Alert { alert, raised: true });
}

impl Handle {
    /// The present view.
    pub fn published(&self) -> Arc<Published> {
        self.inner.view.load_full()
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        self.inner.clock.now()
    }

    /// Whether there is a writer: not after a stop, nor when it broke.
    pub fn is_writing(&self) -> bool {
        !self.inner.messages.is_closed()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.inner.events.subscribe()
    }

    /// The files whose change is a reason to reload: those that the present config was read from, and after a reload that was refused also
    /// those that it would have been read from.
    pub fn files(&self) -> watch::Receiver<BTreeSet<PathBuf>> {
        self.inner.files.subscribe()
    }

    /// Reads the ledger.
    pub fn ledger(&self) -> &LedgerReader {
        &self.inner.ledger
    }

    /// The metrics in Prometheus' text format.
    ///
    /// # Errors
    /// In words, when they cannot be encoded.
    pub fn metrics(&self) -> Result<String, String> {
        let scrape = scrape::scrape(&self.published(), (self.inner.dns_counters)(), self.now());
        self.inner.metrics.render(&scrape).map_err(|error| error.to_string())
    }

    /// Hands what others measured to the probes that wait for it.
    pub fn feed(&self, id: &str, content: Vec<u8>) {
        self.inner.kit.feeds().post(id, content);
    }

    /// What probes that are run by hand share with the others.
    pub fn kit(&self) -> &crate::probe::Kit {
        &self.inner.kit
    }

    /// Asks for a change; returns when it is durable and answered, or refused.
    ///
    /// # Errors
    /// See [`SubmitError`]; nothing was changed then.
    pub async fn submit(&self, request: Request) -> Result<Receipt, SubmitError> {
        if let Some(denied) = self.unknown_name(&request).await {
            return Err(denied);
        }
        let (reply, answer) = oneshot::channel();
        self.ask(writer::Message::Submit(request, reply), answer).await
    }

    /// What a change would do now; changes nothing.
    ///
    /// # Errors
    /// As [`Handle::submit`].
    pub fn dry_run(&self, request: &Request) -> Result<DryRun, SubmitError> {
        let (published, now) = (self.published(), self.now());
        let fleet = &published.config.fleet;
        let drafts = role::handle(&published.state, fleet, &published.health, now, request).map_err(SubmitError::Denied)?;
        let mut after_state = published.state.clone();
        for draft in &drafts {
            after_state.apply(after_state.seq().next(), now, draft);
        }
        let mut names: Vec<Name> = drafts.iter().flat_map(|draft| draft.body.names()).collect();
        names.extend(request.command.name().cloned());
        names.sort();
        names.dedup();
        let before = names.iter().filter_map(|name| published.decisions.get(name).cloned()).collect();
        let after: Vec<Arc<Decision>> = names
            .iter()
            .filter_map(|name| fleet.names.get(name))
            .map(|steered| Arc::new(steering::decide(steered, &after_state, &published.health, now)))
            .collect();
        let warnings = batch::warnings_of(&drafts, fleet, &published.health, now);
        Ok(DryRun {
            drafts,
            before,
            after,
            warnings,
        })
    }

    /// Loads the config again and takes it, whole or not at all. One reload after the other, see `turns`.
    ///
    /// # Errors
    /// See [`SubmitError`]; nothing was changed then.
    pub async fn reload(&self, request: ReloadRequest) -> Result<Receipt, SubmitError> {
        let handle = self.clone();
        let taken = self.inner.reloads.take(async move { handle.load_and_adopt(request).await });
        let result = taken.await.unwrap_or_else(|error| {
            Err(SubmitError::Unavailable(match error {
                turns::NoTurn::Full => {
                    "a reload is under way and another one waits, which will read the files as they are then; this one does nothing"
                        .to_owned()
                }
                turns::NoTurn::Broken(error) => format!("the reload failed: {error}"),
            }))
        });
        self.inner.metrics.reloaded(if result.is_ok() { "accepted" } else { "refused" });
        result
    }

    /// Reads the files and asks the writer to take them.
    async fn load_and_adopt(&self, request: ReloadRequest) -> Result<Receipt, SubmitError> {
        let inner = self.inner.clone();
        let read = Arc::new(Mutex::new(BTreeSet::new()));
        let reading = read.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            // A lane counts answers for the names of one load and begins anew with those of the next. Whoever asks has what is full added
            // up; where nobody scrapes, every reload would leave another table and its names behind.
            drop((inner.dns_counters)());
            let mut read = BTreeSet::new();
            let loaded = reload::load_noting(&inner.config_path, &mut read);
            *reading.lock().unwrap_or_else(PoisonError::into_inner) = read;
            let loaded = loaded.map_err(SubmitError::Diagnostics)?;
            let settings = settings::settings(&loaded.config, &Serving::Current)
                .map_err(|error| Diagnostic::error(None, error))
                .map_err(|error| SubmitError::Diagnostics(vec![loaded.places.put(&Place::CookieSecretFile, error)]))?;
            let published = inner.view.load();
            Ok(Candidate::compile(loaded, &published, inner.clock.now(), inner.hash_seed, settings))
        });
        let loaded = loaded
            .await
            .unwrap_or_else(|error| Err(SubmitError::Unavailable(format!("loading the config failed: {error}"))));
        let (reply, answer) = oneshot::channel();
        let message = match loaded {
            Ok(candidate) => writer::Message::Adopt(Box::new(candidate), request, reply),
            Err(error) => writer::Message::Refused(request.reason, error, reply),
        };
        let result = self.ask(message, answer).await;
        let read = std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner));
        self.inner.files.send_if_modified(|files| {
            let next = if result.is_ok() {
                read
            } else {
                files.union(&read).cloned().collect()
            };
            let is_changed = *files != next;
            *files = next;
            is_changed
        });
        result
    }

    /// Everything about a name; none when it is not steered here.
    pub fn explain(&self, name: &Name) -> Option<Explanation> {
        let (published, now) = (self.published(), self.now());
        let fleet = &published.config.fleet;
        let steered = fleet.names.get(name)?;
        // The published watch may not have been polled since the last change: look now, on a copy of what concerns this name.
        let mut watch = published.watch.of_one(name);
        watch.poll(&published.state, fleet, &published.health, now);
        Some(steering::explain(steered, &published.state, &published.health, &watch, now))
    }

    /// What was observed in the last hours; asked of the writer, so that keeping it costs a publish nothing.
    ///
    /// # Errors
    /// [`SubmitError::Unavailable`] when the server is stopping.
    pub async fn history(&self, request: HistoryRequest) -> Result<HistoryPage, SubmitError> {
        let gone = || SubmitError::Unavailable("the server is stopping".to_owned());
        let (reply, answer) = oneshot::channel();
        let message = writer::Message::History(request, reply);
        self.inner.messages.send(message).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Records the stop, saves what is worth saving, and ends the writer. The lanes answer on until they are stopped.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.inner.messages.send(writer::Message::Stop(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Sends a message and waits for its reply.
    async fn ask(&self, message: writer::Message, answer: oneshot::Receiver<Result<Receipt, SubmitError>>) -> Result<Receipt, SubmitError> {
        let gone = || {
            let why = match &*self.published().serving {
                Serving::AnswerOnly { why } => why.clone(),
                _ => "the server is stopping".to_owned(),
            };
            SubmitError::Unavailable(format!("{why}; whether the change was recorded can be seen in the ledger"))
        };
        self.inner.messages.send(message).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
