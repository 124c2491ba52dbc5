//! The writer: the one task that changes anything.
//!
//! ```text
//! commands ─▶ waiting ─┐ handle (gates) on a tentative state, all that waits at once
//! reloads  ─▶          ├─▶ drafts ─▶ append (I/O thread, durable), meanwhile decide, compile ─▶ apply ─▶ publish ─▶ acknowledge ─▶ alerts
//! policies ────────────┘
//! outcomes ─▶ health ─▶ decide ─▶ publish                                     (goes on while an append is under way)
//! ```
//!
//! Invariants: at most one append is under way; the state that readers see contains only durable entries;
//! a reply is sent after the publish that contains its change; nothing here blocks on I/O. A failed append
//! changes nothing: its commands are told, its policy moves are offered again after [`RETRY`].
//! Every queue is bounded: when [`WAITING_MAX`] commands wait, further senders wait.

use super::alerts::{Alerts, Turn};
use super::commit::Rest;
use super::events::Events;
use super::lookups::Lookup;
use super::publish::{Prepared, Publisher};
use super::reload::Candidate;
use super::types::{AlertKey, Happening, HistoryPage, HistoryRequest, Receipt, ReloadRequest, Serving, SubmitError};
use crate::config::{Config, Outline};
use crate::health::{Book, Change, ChangeKind, History};
use crate::ledger::{Entry, Hash};
use crate::model::{Actor, AppId, Body, Diagnostic, Draft, HealthSource, Mono, Name, Now, Outcome, ProbeTarget, Seq, Suspicion};
use crate::probe::{ProbeEvent, Prober};
use crate::role::{Request, State, Watch};
use crate::steering::AlertKind;
use crate::store::{Appender, StoreError};
use crate::telemetry::{Clock, Metrics};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Most commands that wait behind an append.
pub const WAITING_MAX: usize = 256;
/// Most commands that go into one append.
pub(super) const BATCH_MAX: usize = 64;
/// Most outcomes folded before commands are looked at again: some 200 µs.
const OUTCOMES_AT_ONCE: usize = 64;
/// Most messages taken before outcomes are looked at, however many wait: whoever asks without end must not make evidence stale.
const MESSAGES_AT_ONCE: usize = 16;
/// Wait before policy moves are tried again after an append failed.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// Longest sleep of the writer, so that clock steps and saved health are looked at now and then.
const TICK: Duration = Duration::from_secs(5);

/// Most lines that one change writes to the log for its names: the ledger and the status say all of them.
pub(super) const LOGGED_MAX: usize = 100;

/// How far behind the evidence that readers see may be, while no verdict changes.
const SHOW_EVERY: Duration = Duration::from_millis(250);

/// Where a reply goes.
pub(super) type Reply = oneshot::Sender<Result<Receipt, SubmitError>>;

/// What the writer is asked for.
pub(super) enum Message {
    /// A command of an operator.
    Submit(Request, Reply),
    /// A loaded and checked config to take.
    Adopt(Box<Candidate>, ReloadRequest, Reply),
    /// A reload for this reason did not get as far as that: its files are wrong.
    Refused(String, SubmitError, Reply),
    /// Tell what was observed in the last hours.
    History(HistoryRequest, oneshot::Sender<HistoryPage>),
    /// Record the stop, save what is worth saving, end.
    Stop(oneshot::Sender<()>),
}

/// A reply that waits for the append under way.
pub(super) struct Waiter {
    pub reply: Reply,
    /// The last of its entries, none where nothing changes, or why not.
    pub outcome: Result<Option<(Seq, Hash)>, SubmitError>,
    /// Whether it was asked for before, under the same id.
    pub is_repeated: bool,
    /// Whether that was judged on entries of the same append: without them it says nothing.
    pub rests_on_batch: bool,
    /// What its receipt warns of.
    pub warnings: Vec<Diagnostic>,
    /// The verb, for the metrics.
    pub kind: &'static str,
}

/// The append under way.
pub(super) struct InFlight {
    pub done: oneshot::Receiver<Result<Instant, StoreError>>,
    /// The state with the entries applied.
    pub next: State,
    pub head: Hash,
    pub entries: Vec<Arc<Entry>>,
    pub waiters: Vec<Waiter>,
    pub candidate: Option<Box<Candidate>>,
    /// The names that the entries concern, and what they will answer; with a candidate neither is known beforehand.
    pub names: Vec<Name>,
    pub prepared: Option<Prepared>,
}

/// Everything that the writer is made of; `node` puts it together.
pub struct Parts {
    /// Both clocks.
    pub clock: Arc<Clock>,
    /// The accepted config.
    pub config: Arc<Config>,
    /// What is in its zones, for the guard of the next reload.
    pub outline: Outline,
    /// The replayed roles.
    pub state: State,
    /// The hash of the last entry.
    pub head: Hash,
    /// Health, already configured and restored.
    pub health: Book,
    /// The I/O thread; none in answer-only mode.
    pub appender: Option<Appender>,
    /// The probes.
    pub prober: Prober,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Which config is served.
    pub serving: Serving,
    /// Hashes of the replayed entries that carry a request id.
    pub hashes: BTreeMap<Seq, Hash>,
    /// Why the start could not be recorded, if it could not.
    pub unrecorded: Option<String>,
    /// What is wrong with the certificates of this node, if anything is; asked again and again.
    pub certificate_fault: Box<dyn Fn() -> Option<String> + Send>,
}

/// The writer.
pub(super) struct Writer {
    pub(super) clock: Arc<Clock>,
    pub(super) config: Arc<Config>,
    pub(super) outline: Outline,
    pub(super) state: State,
    pub(super) head: Hash,
    pub(super) health: Book,
    pub(super) history: History,
    pub(super) watch: Watch,
    pub(super) appender: Option<Appender>,
    pub(super) prober: Prober,
    pub(super) metrics: Arc<Metrics>,
    pub(super) serving: Arc<Serving>,
    pub(super) publisher: Publisher,
    pub(super) alerts: Alerts,
    pub(super) waiting: VecDeque<Message>,
    pub(super) in_flight: Option<InFlight>,
    /// What is left of an append that concerned many names.
    pub(super) rest: Option<Rest>,
    pub(super) retry_at: Option<Mono>,
    pub(super) events: Events,
    /// Look-ups of host names that fail, and why.
    pub(super) lookups: BTreeMap<Lookup, String>,
    /// Until when the first evidence of some region may be waited for without an alert.
    pub(super) unheard_until: Option<Mono>,
    pub(super) health_saved_at: Mono,
    /// When readers were shown the latest evidence.
    pub(super) health_shown_at: Mono,
    /// Whether there is evidence that readers were not shown.
    pub(super) health_unseen: bool,
    /// Hashes of the entries that answered a request with an id, so that a repeated request gets the same receipt.
    pub(super) hashes: BTreeMap<Seq, Hash>,
    /// Why the start could not be recorded; told once.
    unrecorded: Option<String>,
    /// What is wrong with the certificates of this node.
    certificate_fault: Box<dyn Fn() -> Option<String> + Send>,
}

impl Writer {
    /// Puts the writer together.
    pub(super) fn new(parts: Parts, publisher: Publisher, events: Events) -> Writer {
        let now = parts.clock.now();
        Writer {
            clock: parts.clock,
            config: parts.config,
            outline: parts.outline,
            state: parts.state,
            head: parts.head,
            health: parts.health,
            history: History::new(),
            watch: Watch::new(),
            appender: parts.appender,
            prober: parts.prober,
            metrics: parts.metrics,
            serving: Arc::new(parts.serving),
            publisher,
            alerts: Alerts::default(),
            waiting: VecDeque::new(),
            in_flight: None,
            rest: None,
            retry_at: None,
            events,
            lookups: BTreeMap::new(),
            unheard_until: None,
            health_saved_at: now.mono,
            health_shown_at: now.mono,
            health_unseen: false,
            hashes: parts.hashes,
            unrecorded: parts.unrecorded,
            certificate_fault: parts.certificate_fault,
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>, mut outcomes: mpsc::Receiver<ProbeEvent>) {
        self.begin();
        let (mut batch, mut probing, mut taken) = (Vec::new(), true, 0);
        loop {
            self.look_at_clocks();
            self.start_append();
            if taken >= MESSAGES_AT_ONCE {
                taken = 0;
                batch.extend(std::iter::from_fn(|| outcomes.try_recv().ok()).take(OUTCOMES_AT_ONCE));
                self.fold(batch.drain(..));
            }
            let due = self.sleep_until();
            // Commands before outcomes: a storm of outcomes must not delay the operator.
            tokio::select! {
                biased;
                done = wait_for(&mut self.in_flight) => self.finish_append(done),
                message = messages.recv(), if self.waiting.len() < WAITING_MAX => {
                    taken += 1;
                    match message {
                        Some(Message::Stop(reply)) => return self.stop(reply).await,
                        Some(Message::History(request, reply)) => {
                            // Nobody waiting any more is no error.
                            let _ = reply.send(self.tell_history(&request));
                        }
                        Some(message) => self.waiting.push_back(message),
                        None => return,
                    }
                },
                count = outcomes.recv_many(&mut batch, OUTCOMES_AT_ONCE), if probing => {
                    // Zero: the prober is gone; there is nothing to fold any more, but to serve on.
                    (probing, taken) = (count > 0, 0);
                    self.fold(batch.drain(..));
                    crate::precedence::give_way();
                }
                () = tokio::time::sleep(due) => {}
            }
            if let Some(rest) = self.rest.take() {
                // The replies are woken, but on a machine of one core they wait for this task to pause.
                tokio::task::yield_now().await;
                self.tell_entries(rest, self.clock.now());
            }
            // Also before health is saved: its ages are to have the time of a suspension in them.
            self.look_at_clocks();
            self.tick(self.clock.now());
        }
    }

    /// First look at everything: alerts of every name, health that came from disk.
    pub(super) fn begin(&mut self) {
        let now = self.clock.now();
        let names: Vec<Name> = self.config.fleet.names.keys().cloned().collect();
        self.save_roles();
        self.expect_evidence();
        let (rejected, answer_only) = match &*self.serving {
            Serving::Current => (None, None),
            Serving::LastGood { errors } => {
                let message = format!("today's config is not served, the last accepted one is: {}", errors.join("; "));
                (Some(message), None)
            }
            Serving::AnswerOnly { why } => {
                let message = format!("the roles published last are answered and every change is refused: {why}");
                (None, Some(message))
            }
        };
        self.node_alert(AlertKind::ConfigRejected, rejected);
        self.node_alert(AlertKind::AnswerOnly, answer_only);
        let unrecorded = self.unrecorded.take();
        self.node_alert(AlertKind::CannotRecord, unrecorded);
        self.touch(names.iter());
        self.settle(&names, now);
    }

    /// How long nothing is due. The policies count only when they can be polled: otherwise what they offer would keep us awake.
    pub(super) fn sleep_until(&self) -> Duration {
        // What is left when a batch came to no entry: nothing else would wake us for it.
        if self.in_flight.is_none() && !self.waiting.is_empty() {
            return Duration::ZERO;
        }
        let now = self.clock.now().mono;
        let polls = self.takes_changes() && self.in_flight.is_none() && self.retry_at.is_none();
        let dues = [
            self.health.next_due(),
            self.watch.next_due().filter(|_| polls),
            self.retry_at,
            self.health_unseen.then(|| self.health_shown_at.plus(SHOW_EVERY)),
        ];
        dues.into_iter().flatten().map(|due| due.since(now)).min().unwrap_or(TICK).min(TICK)
    }

    /// What time alone brings: stale evidence, saved health, clock steps.
    pub(super) fn tick(&mut self, now: Now) {
        let changes = self.health.poll(now);
        self.take_changes(changes, now);
        if self.retry_at.is_some_and(|at| at <= now.mono) {
            self.retry_at = None;
        }
        if now.mono.since(self.health_saved_at) >= TICK {
            self.health_saved_at = now.mono;
            self.history.expire(now.mono);
            self.look_at_unheard(now);
            if let Some(appender) = &self.appender {
                let health = self.health.clone();
                appender.save_health(move || health.save(now));
            }
        }
        if self.health_unseen && now.mono.since(self.health_shown_at) >= SHOW_EVERY {
            (self.health_unseen, self.health_shown_at) = (false, now.mono);
            let shown = self.publisher.show_health(&self.health);
            // What thousands of outcomes have replaced goes with it, which takes its time.
            tokio::task::spawn_blocking(move || drop(shown));
        }
        self.node_alert(AlertKind::ProberLate, self.health.is_late(now));
        self.node_alert(AlertKind::CertificateUnusable, (self.certificate_fault)());
    }

    /// Notices that this machine was suspended, before anything is decided on what was known before.
    pub(super) fn look_at_clocks(&mut self) {
        let Some(step) = self.clock.take_step() else { return };
        if let Some(slept) = step.slept {
            let now = self.clock.now();
            // Short ones, and a clock that is corrected now and then, change nothing, and delays go on.
            let changes = self.health.wake(slept, now);
            let apps: BTreeSet<&AppId> = changes.iter().map(|change| &change.app).collect();
            let names = apps.into_iter().filter_map(|app| self.config.fleet.names_of.get(app));
            self.watch.start_anew(names.flatten());
            self.take_changes(changes, now);
        }
        self.node_alert(AlertKind::ClockStepped, Some(step.message));
    }

    /// A part of the history.
    pub(super) fn tell_history(&self, request: &HistoryRequest) -> HistoryPage {
        let wanted = |target: &ProbeTarget| {
            request.region.as_ref().is_none_or(|region| *region == target.region)
                && request.endpoint.as_ref().is_none_or(|endpoint| *endpoint == target.endpoint)
        };
        let (page, now) = ((request.skip, request.limit), self.clock.now().mono);
        let (items, more) = self.history.tell(&request.app, wanted, request.within, page, now);
        HistoryPage { items, more }
    }

    /// Folds probe outcomes into health.
    pub(super) fn fold(&mut self, events: impl Iterator<Item = ProbeEvent>) {
        self.look_at_clocks();
        let now = self.clock.now();
        // First what time brought: after a stop of this process nothing may move on evidence that went stale meanwhile.
        let mut changes = self.health.poll(now);
        self.health_unseen = true;
        for event in events {
            match event {
                // One that was on its way while its target went is no more of anybody's.
                ProbeEvent::Outcome(outcome) if !self.health.accepts(&outcome) => {}
                ProbeEvent::Outcome(outcome) => {
                    self.count(&outcome);
                    self.history.ran(&outcome);
                    changes.extend(self.health.observe(&outcome, now));
                }
                ProbeEvent::Resolved {
                    app,
                    region,
                    endpoint,
                    addresses,
                } => {
                    self.history.resolved(&app, &region, &endpoint, &addresses);
                    changes.extend(self.health.resolved(&app, &region, &endpoint, &addresses, now));
                }
                ProbeEvent::Lookup { app, region, host, error } => self.note_lookup(app, region, host, error),
            }
        }
        self.take_changes(changes, now);
    }

    /// Counts a run in the metrics.
    fn count(&self, outcome: &Outcome) {
        let spec = self
            .config
            .fleet
            .apps
            .get(&outcome.target.app)
            .and_then(|app| app.probes.get(outcome.target.probe));
        if let Some(spec) = spec {
            self.metrics.probe(outcome, spec.kind.as_str());
        }
    }

    /// Acts on changed verdicts: records them on this node, tells readers, decides and publishes.
    fn take_changes(&mut self, changes: Vec<Change>, now: Now) {
        if changes.is_empty() {
            return;
        }
        let names = self.tell_changes(&changes, now);
        self.touch(names.iter());
        let names: Vec<Name> = names.into_iter().collect();
        self.settle(&names, now);
    }

    /// Records changed verdicts on this node and tells them; the names that they concern.
    pub(super) fn tell_changes(&mut self, changes: &[Change], now: Now) -> BTreeSet<Name> {
        self.history.changed(changes, now.mono);
        // Whatever changed: with the last region goes whoever could be told that the suspicion is over.
        let suspicion = self.health.suspicion().map(suspected_message);
        self.node_alert(AlertKind::ProberSuspected, suspicion);
        let mut names: BTreeSet<Name> = BTreeSet::new();
        for change in changes {
            if let ChangeKind::Region { from, to } = &change.what {
                let reason = self.region_reason(change);
                tracing::info!(app = %change.app, region = %change.region, %from, %to, %reason, "health changed");
                self.emit(Happening::Health {
                    app: change.app.clone(),
                    region: change.region.clone(),
                    from: *from,
                    to: *to,
                    reason,
                });
            }
            names.extend(self.config.fleet.names_of.get(&change.app).into_iter().flatten().cloned());
        }
        if let Some(appender) = &self.appender
            && !changes.is_empty()
        {
            appender.log_health(now.wall, changes);
        }
        names
    }

    /// From now on evidence is waited for: after a start and a reload.
    pub(super) fn expect_evidence(&mut self) {
        let apps = self.config.fleet.apps.values();
        let patience = apps.flat_map(|app| &app.probes).map(|probe| probe.stale_after).max();
        self.unheard_until = patience.map(|patience| self.clock.now().mono.plus(patience));
    }

    /// Looks at the names of regions of which nothing was ever heard: no change of a verdict says that the patience with them
    /// is over. Once it is over for all of them, every further look comes of a change.
    fn look_at_unheard(&mut self, now: Now) {
        let Some(until) = self.unheard_until else { return };
        if now.mono >= until {
            self.unheard_until = None;
        }
        let unheard = self.health.regions().filter(|(_, _, status)| status.evidence_at.is_none());
        let names: BTreeSet<Name> = unheard
            .filter_map(|(app, _, _)| self.config.fleet.names_of.get(app))
            .flatten()
            .cloned()
            .collect();
        let names: Vec<Name> = names.into_iter().collect();
        if self.update_alerts(&names, now) {
            self.publish();
        }
    }

    /// Makes the policies look at names again.
    pub(super) fn touch<'n>(&mut self, names: impl Iterator<Item = &'n Name>) {
        self.watch.touch_all(names);
    }

    /// Whether changes are taken at all.
    pub(super) fn takes_changes(&self) -> bool {
        self.appender.is_some() && !matches!(*self.serving, Serving::AnswerOnly { .. })
    }

    /// Tells whoever listens.
    pub(super) fn emit(&mut self, what: Happening) {
        self.events.tell(self.clock.now().wall, what);
    }

    /// Raises (with a message) or ends (without) an alert about the node.
    pub(super) fn node_alert(&mut self, alert: AlertKind, message: Option<String>) {
        let key = AlertKey { alert, name: None };
        let turn = match message {
            Some(message) => self.alerts.raise(key, message, self.clock.now().wall),
            None => self.alerts.end(&key),
        };
        if let Some(turn) = turn {
            self.tell(vec![turn]);
            self.publish();
        }
    }

    /// An alert is three things at once: a WARN line, the metric, and an event.
    pub(super) fn tell(&mut self, turns: Vec<Turn>) {
        let unlogged = turns.len().saturating_sub(LOGGED_MAX);
        for (number, Turn { alert, raised }) in turns.into_iter().enumerate() {
            let (kind, name) = (alert.key.alert.as_str(), alert.key.name.as_ref());
            let shown = name.map_or_else(|| "-".to_owned(), ToString::to_string);
            if number >= LOGGED_MAX {
                // Counted below.
            } else if raised {
                tracing::warn!(alert = kind, name = %shown, "{}", alert.message);
            } else {
                tracing::info!(alert = kind, name = %shown, "alert is over");
            }
            self.emit(Happening::Alert { alert, raised });
        }
        if unlogged > 0 {
            tracing::warn!(
                count = unlogged,
                "more alerts began or ended at once than are logged: see the status"
            );
        }
    }

    /// Why a region's health is what it is.
    fn region_reason(&self, change: &Change) -> String {
        self.health
            .region(&change.app, &change.region)
            .map_or_else(String::new, |status| status.reason.clone())
    }

    /// Appends the last entry of this run; a failure is told and keeps nobody from stopping.
    async fn record_stop(&mut self, draft: Draft, now: Now) {
        let Some(appender) = &self.appender else { return };
        let sealed = crate::ledger::encode(self.state.seq().next(), now.wall, &draft, self.head);
        let Ok((line, _)) = sealed else { return };
        if let Err(error) = appender.append(line).await.unwrap_or(Err(StoreError::Gone)) {
            tracing::warn!("the stop could not be recorded: {}", crate::telemetry::chain(&error));
        }
    }

    /// Records the stop, saves health, and ends; what still waits is told.
    async fn stop(mut self, reply: oneshot::Sender<()>) {
        if let Some(flight) = &mut self.in_flight {
            let done = (&mut flight.done).await.unwrap_or(Err(StoreError::Gone));
            self.finish_append(done);
        }
        if let Some(rest) = self.rest.take() {
            self.tell_entries(rest, self.clock.now());
        }
        let waiting = std::mem::take(&mut self.waiting);
        for message in waiting {
            if let Message::Submit(_, reply) | Message::Adopt(_, _, reply) | Message::Refused(_, _, reply) = message {
                let _ = reply.send(Err(SubmitError::Unavailable(
                    "the server is stopping; nothing was changed".to_owned(),
                )));
            }
        }
        self.look_at_clocks();
        let now = self.clock.now();
        if self.takes_changes() {
            let node = self.config.node.name.clone();
            let draft = Draft {
                actor: Actor::Node,
                reason: "stop".to_owned(),
                request_id: None,
                body: Body::Stopped { node },
            };
            self.record_stop(draft, now).await;
        }
        if let Some(appender) = self.appender.take() {
            let health = self.health.clone();
            appender.save_health(move || health.save(now));
            appender.close().await;
        }
        let _ = reply.send(());
    }
}

/// What an operator must know while the prober is suspected.
fn suspected_message(suspicion: &Suspicion) -> String {
    format!(
        "{suspicion}. The prober is suspected rather than the regions: verdicts are unknown with the last ones kept, no policy moves and no \
         proposal opens. Look at this node's own network; switch by hand with --override target-healthy if the regions are down"
    )
}

/// The end of the append under way; never, while there is none.
async fn wait_for(in_flight: &mut Option<InFlight>) -> Result<Instant, StoreError> {
    match in_flight {
        Some(flight) => (&mut flight.done).await.unwrap_or(Err(StoreError::Gone)),
        None => std::future::pending().await,
    }
}
