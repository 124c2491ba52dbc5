//! The writer's other half: from what waits to an append, and from a finished append to what readers see.
//!
//! Everything that waits is judged on a tentative copy of the state (`batch`), and its entries go out in one durable write.
//! Nobody but this file replaces the state.

use super::batch::{Batch, warn};
use super::publish::{Moment, Prepared, Replaced};
use super::reload::Candidate;
use super::types::{Happening, Receipt, Serving, SubmitError};
use super::writer::{BATCH_MAX, InFlight, LOGGED_MAX, Message, RETRY, Waiter, Writer};
use crate::both::{MANY_NAMES, both};
use crate::health::Change;
use crate::ledger;
use crate::model::{Body, Decision, Name, Now};
use crate::role;
use crate::steering::{self, AlertKind};
use crate::store::StoreError;
use crate::telemetry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What is left to do for entries that are in force and answered.
pub(super) struct Rest {
    entries: Vec<Arc<ledger::Entry>>,
    names: Vec<Name>,
    changed: Vec<Arc<Decision>>,
    waiters: Vec<Waiter>,
    replaced: Replaced,
}

impl Writer {
    /// Takes everything that waits into one append, unless one is under way.
    pub(super) fn start_append(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let now = self.clock.now();
        let mut batch = Batch::new(&self.state, self.head);
        let mut waiters = Vec::new();
        let mut candidate = None;
        for _ in 0..BATCH_MAX {
            match self.waiting.pop_front() {
                None => break,
                Some(Message::Submit(request, reply)) => waiters.push(self.draft_command(&mut batch, request, reply, now)),
                Some(Message::Refused(reason, error, reply)) => {
                    self.reload_refused(&reason, &error);
                    let _ = reply.send(Err(error));
                }
                // A reload changes what commands are judged by, so it is an append of its own.
                Some(message) if !batch.entries.is_empty() || !waiters.is_empty() => {
                    self.waiting.push_front(message);
                    break;
                }
                Some(Message::Adopt(loaded, request, reply)) => {
                    candidate = self.draft_reload(&mut batch, loaded, &request, reply, &mut waiters, now);
                    break;
                }
                Some(Message::Stop(reply)) => {
                    let _ = reply.send(());
                }
                Some(Message::History(request, reply)) => {
                    let _ = reply.send(self.tell_history(&request));
                }
            }
        }
        if self.takes_changes() && candidate.is_none() && self.retry_at.is_none() {
            for draft in self.watch.poll(&batch.next, &self.config.fleet, &self.health, now) {
                if let Err(error) = batch.add(vec![draft], &self.config.fleet, now) {
                    tracing::error!("a policy's draft was dropped: {error}");
                }
            }
        }
        self.send_append(batch, waiters, candidate);
    }

    /// What is on disk is not what is served: an alert until a reload is accepted.
    pub(super) fn reload_refused(&mut self, reason: &str, error: &SubmitError) {
        let first = match error {
            SubmitError::Diagnostics(findings) => findings.iter().find(|finding| finding.is_error()),
            SubmitError::Conflict(findings) => findings.first(),
            _ => None,
        };
        let first = first.map_or_else(String::new, |finding| format!("; first: {}", finding.headline()));
        let message = format!("the last reload ({reason}) was refused and the config from before is served: {error}{first}");
        self.node_alert(AlertKind::ReloadRefused, Some(message));
    }

    /// Hands the batch to the I/O thread; without entries the replies go out at once.
    fn send_append(&mut self, mut batch: Batch, mut waiters: Vec<Waiter>, candidate: Option<Box<Candidate>>) {
        match &self.appender {
            Some(appender) if !batch.entries.is_empty() => {
                let done = appender.append(std::mem::take(&mut batch.lines));
                // While the disk is at work: what the entries will change, so that nothing is left to compute once they are durable.
                let names = batch.take_touched();
                let (fleet, health, publisher, now) = (&self.config.fleet, &self.health, &self.publisher, self.clock.now());
                let (prepared, ()) = both(
                    names.len(),
                    || {
                        candidate
                            .is_none()
                            .then(|| publisher.prepare(&names, fleet, &batch.next, health, now))
                    },
                    || warn(&mut waiters, &batch.entries, fleet, health, now),
                );
                self.in_flight = Some(InFlight {
                    done,
                    next: batch.next,
                    head: batch.head,
                    entries: batch.entries,
                    waiters,
                    candidate,
                    names,
                    prepared,
                });
            }
            _ => self.reply_all(waiters),
        }
    }

    /// The append ended: in force and told, or nothing happened and told so.
    pub(super) fn finish_append(&mut self, done: Result<Instant, StoreError>) {
        let Some(flight) = self.in_flight.take() else { return };
        let now = self.clock.now();
        match done {
            Ok(durable_at) => {
                self.retry_at = None;
                self.take_entries(flight, durable_at, now);
            }
            Err(error) => self.fail_append(flight, &error, now),
        }
    }

    /// Nothing was recorded: nothing changes.
    fn fail_append(&mut self, flight: InFlight, error: &StoreError, now: Now) {
        let why = crate::telemetry::chain(error);
        let message = match error {
            // After a failed sync nobody can know; to say "nothing changed" would be a guess.
            StoreError::Undecided { .. } => {
                format!("the ledger cannot be written, and whether the change is recorded shows only after a restart: {why}")
            }
            _ => format!("the ledger cannot be written, so nothing changes: {why}"),
        };
        self.retry_at = Some(now.mono.plus(RETRY));
        let over = match error {
            StoreError::Undecided { .. } | StoreError::Poisoned { .. } | StoreError::Gone => {
                "this lasts until a restart: see to the disk, then restart the server"
            }
            _ => "this is over with the next entry that is recorded",
        };
        self.node_alert(AlertKind::CannotRecord, Some(format!("{message}; {over}")));
        for waiter in flight.waiters {
            let outcome = match waiter.outcome {
                // Recorded by an earlier append: a request that was repeated.
                Ok(Some((seq, hash))) if seq <= self.state.seq() => Ok(Some((seq, hash))),
                Ok(Some(_)) => Err(SubmitError::Unavailable(message.clone())),
                // "It is so already" and every refusal were true only with what is not recorded now.
                _ if waiter.rests_on_batch => Err(SubmitError::Unavailable(message.clone())),
                outcome => outcome,
            };
            self.reply(Waiter { outcome, ..waiter });
        }
        self.touch(flight.names.iter());
    }

    /// Durable: the entries come into force, readers see them, then the operators are told, then whoever watches.
    fn take_entries(&mut self, flight: InFlight, durable_at: Instant, now: Now) {
        let InFlight {
            next,
            head,
            entries,
            waiters,
            candidate,
            mut names,
            prepared,
            ..
        } = flight;
        self.state = next;
        self.head = head;
        let turned = candidate.map(|candidate| self.install(*candidate));
        if turned.is_some() {
            names = self.config.fleet.names.keys().cloned().collect();
        }
        let (changed, replaced) = self.answer(&names, prepared, now);
        self.metrics.applied(durable_at.elapsed());
        if let Some(turned) = turned {
            self.end_config_alerts();
            self.tell_changes(&turned, now);
        }
        self.remember(&entries);
        let mut rest = Rest {
            entries,
            names,
            changed,
            waiters,
            replaced,
        };
        // Of many names, alerts and events take longer than all before.
        if rest.names.len() < MANY_NAMES {
            self.tell_entries(rest, now);
        } else {
            // Who asked has what was promised: durable and answered. The replies go out before the rest is begun, see `run`.
            self.reply_all(std::mem::take(&mut rest.waiters));
            self.rest = Some(rest);
        }
    }

    /// Policies, alerts and events of entries that are in force and answered.
    pub(super) fn tell_entries(&mut self, rest: Rest, now: Now) {
        // Of many names, not before whoever asked is told: to write down a hundred thousand roles takes a core for a while.
        self.save_roles();
        self.touch(rest.names.iter());
        for entry in &rest.entries {
            self.announce(entry);
        }
        self.node_alert(AlertKind::CannotRecord, None);
        if self.update_alerts(&rest.names, now) {
            self.publish();
        }
        self.reply_all(rest.waiters);
        self.tell_decisions(&rest.changed);
        put_away(rest.names.len(), rest.replaced);
    }

    /// Publishes what names answer by the present state: as it was prepared, where that still holds.
    fn answer(&mut self, names: &[Name], prepared: Option<Prepared>, now: Now) -> (Vec<Arc<Decision>>, Replaced) {
        let started = Instant::now();
        let taken = prepared.filter(|prepared| self.publisher.take(prepared));
        let changed = taken.map_or_else(|| self.decide(names, now), |prepared| prepared.changed);
        let replaced = self.publish();
        self.metrics.published(started.elapsed());
        (changed, replaced)
    }

    /// Decides names by the present state; what differs is published next.
    fn decide(&mut self, names: &[Name], now: Now) -> Vec<Arc<Decision>> {
        self.publisher.outdate();
        let prepared = self.publisher.prepare(names, &self.config.fleet, &self.state, &self.health, now);
        let is_taken = self.publisher.take(&prepared);
        debug_assert!(is_taken, "nothing changed since it was prepared");
        prepared.changed
    }

    /// Keeps what a repeated request is answered with.
    fn remember(&mut self, entries: &[Arc<ledger::Entry>]) {
        self.hashes.extend(
            entries
                .iter()
                .filter(|entry| entry.draft.request_id.is_some())
                .map(|entry| (entry.seq, entry.hash)),
        );
        while self.hashes.len() > role::RECEIPTS_MAX {
            self.hashes.pop_first();
        }
    }

    /// Hands the roles to their copy on disk.
    pub(super) fn save_roles(&self) {
        if let Some(appender) = &self.appender {
            let state = self.state.clone();
            appender.save_roles(move || super::roles::save(&state));
        }
    }

    /// Takes a new config: health, probes, policies and answers follow. Nothing is published here: the answers were compiled
    /// with the roles of the moment when the files were read, and a switch may have come since. Gives the verdicts that change by
    /// what is looked at, which are told once the names are answered.
    fn install(&mut self, candidate: Candidate) -> Vec<Change> {
        let old = std::mem::replace(&mut self.config, candidate.config);
        // Probes first: outcomes from before this moment belong to the old config and are not counted for the new one.
        self.prober.configure(&self.config.fleet);
        self.health.suspect_above(self.config.node.suspect_self_above);
        let changes = self.health.reconfigure(&self.config.fleet, self.clock.now());
        self.expect_evidence();
        self.history.reconfigure(&old.fleet, &self.config.fleet);
        self.watch.reconfigured(&old.fleet, &self.config.fleet);
        let config = self.config.clone();
        for name in old.fleet.names.keys().filter(|name| !config.fleet.names.contains_key(name)) {
            let turns = self.alerts.clear_name(name);
            self.tell(turns);
        }
        self.metrics.forget_probes();
        for warning in &candidate.warnings {
            tracing::warn!("{warning}");
        }
        self.outline = candidate.outline;
        // A million names are a million pieces of memory to give back: not on this task.
        let zones = candidate.zones;
        tokio::task::spawn_blocking(move || {
            drop(zones);
            telemetry::give_back();
        });
        self.publisher.replace(Arc::new(candidate.answers), candidate.decisions);
        if let Some(appender) = &self.appender {
            appender.save_last_good(candidate.files, candidate.sha256);
        }
        self.serving = Arc::new(Serving::Current);
        changes
    }

    /// Ends what a config that was taken ends. These publish, so they come after the names were decided.
    fn end_config_alerts(&mut self) {
        self.node_alert(AlertKind::ConfigRejected, None);
        self.node_alert(AlertKind::ReloadRefused, None);
        self.forget_lookups();
        self.alert_of_lookups();
    }

    /// Logs and tells an entry that is in force.
    pub(super) fn announce(&mut self, entry: &Arc<ledger::Entry>) {
        let draft = &entry.draft;
        tracing::info!(seq = entry.seq.0, kind = draft.body.kind(), actor = %draft.actor, reason = %draft.reason, "recorded: {}", draft.body);
        let mut moves: BTreeMap<&str, u64> = BTreeMap::new();
        for change in draft.body.moves() {
            *moves.entry(change.kind.as_str()).or_default() += 1;
        }
        for (kind, count) in moves {
            self.metrics.moved(kind, count);
        }
        if matches!(&draft.body, Body::Evacuated { moves, .. } if moves.is_empty()) {
            // Only the mark.
            self.metrics.switched("evacuate", "done");
        }
        self.emit(Happening::Entry { entry: entry.clone() });
    }

    /// Decides the names again, updates their alerts, and publishes.
    pub(super) fn settle(&mut self, names: &[Name], now: Now) {
        let (changed, replaced) = self.answer(names, None, now);
        // Resolvers first: alerts and logs come after the answers are out.
        if self.update_alerts(names, now) {
            self.publish();
        }
        self.tell_decisions(&changed);
        put_away(names.len(), replaced);
    }

    /// Brings the alerts of names up to date.
    pub(super) fn update_alerts(&mut self, names: &[Name], now: Now) -> bool {
        let mut turns = Vec::new();
        let (count, first) = (names.len(), names.first());
        let mut configs = self.config.fleet.finder(count, first);
        let mut states = self.state.finder(count, first);
        let mut decisions = self.publisher.finder(count, first);
        for name in names {
            let wanted = match (configs.find(name), decisions.find(name)) {
                (Some(steered), Some(decision)) => {
                    steering::alerts_known(steered, states.find(name), &self.state, &self.health, now, decision)
                }
                _ => Vec::new(),
            };
            turns.extend(self.alerts.set_for_name(name, wanted, now.wall));
        }
        drop((configs, states, decisions));
        let turned = !turns.is_empty();
        self.tell(turns);
        turned
    }

    /// Says what names answer from now on.
    fn tell_decisions(&mut self, changed: &[Arc<Decision>]) {
        let generation = self.publisher.generation();
        for decision in changed.iter().take(LOGGED_MAX) {
            let records = decision.answer.records().join(" ");
            let region = decision.region.as_ref().map_or("-", |region| region.as_str());
            tracing::info!(name = %decision.name, region, active = %decision.active, reason = decision.reason.code(), ttl = decision.ttl, %records, "answer changed");
        }
        if changed.len() > LOGGED_MAX {
            tracing::info!(count = changed.len() - LOGGED_MAX, "more answers changed at once than are logged");
        }
        for decision in changed {
            self.emit(Happening::Answer {
                generation,
                decision: decision.clone(),
            });
        }
    }

    /// Publishes the present state.
    pub(super) fn publish(&mut self) -> Replaced {
        let moment = Moment {
            config: &self.config,
            state: &self.state,
            head: self.head,
            health: &self.health,
            watch: &self.watch,
            alerts: &self.alerts,
            serving: &self.serving,
        };
        self.publisher.publish(&moment)
    }

    /// Replies to everybody, with the generation that contains their change.
    fn reply_all(&mut self, waiters: Vec<Waiter>) {
        for waiter in waiters {
            self.reply(waiter);
        }
    }

    /// Replies to one; counts what became of it.
    fn reply(&mut self, waiter: Waiter) {
        let generation = self.publisher.generation();
        let result = match waiter.outcome {
            Ok(Some((seq, hash))) => Ok(Receipt {
                changed: true,
                seq,
                hash,
                generation,
                warnings: waiter.warnings,
            }),
            Ok(None) => Ok(Receipt {
                changed: false,
                seq: self.state.seq(),
                hash: self.head,
                generation,
                warnings: waiter.warnings,
            }),
            Err(error) => Err(error),
        };
        let outcome = match &result {
            Ok(receipt) if receipt.changed && !waiter.is_repeated => "done",
            Ok(_) => "unchanged",
            Err(SubmitError::Denied(role::Denied::Refused(_))) => "refused",
            Err(_) => "failed",
        };
        if !(outcome == "done" && matches!(waiter.kind, "switch" | "approve" | "evacuate")) {
            // Counted when it was recorded, see `announce`.
            self.metrics.switched(waiter.kind, outcome);
        }
        // A client that hung up has its answer in the ledger.
        let _ = waiter.reply.send(result);
    }
}

/// Gives back what was published before a change of so many names: where they are many, on another thread.
fn put_away(names: usize, replaced: Replaced) {
    if names >= MANY_NAMES {
        // An evacuation of a hundred thousand names passes through a hundred megabytes; of fewer, the allocator's own reserve is larger.
        tokio::task::spawn_blocking(move || {
            drop(replaced);
            telemetry::give_back();
        });
    }
}
