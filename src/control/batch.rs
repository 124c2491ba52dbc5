//! From what waits to the entries of one append: each command and each reload judged on a tentative copy of the state.
//!
//! A persistent map makes the copy free. Commands are handled one after the other, so that each sees those before it; what
//! they come to is said to nobody before the append ended (`commit`). Nothing here changes the state in force.

use super::reload::{self, Candidate};
use super::types::{ReloadRequest, Serving, SubmitError, bounded};
use super::writer::{Reply, Waiter, Writer};
use crate::ledger::{self, Hash};
use crate::model::{Body, Diagnostic, Draft, Fleet, HealthSource, Now, Seq};
use crate::role::{self, Judged, Request};
use crate::steering::AlertKind;
use std::sync::Arc;

/// What a command came to, before anything is durable.
type Drafted = Result<Judged, SubmitError>;

/// The last entry of a command, none where nothing changes, or why not.
type Recorded = Result<Option<(Seq, Hash)>, SubmitError>;

/// The entries of one append while it is put together.
pub(super) struct Batch {
    /// The state with the entries applied.
    pub next: role::State,
    /// The hash of the last entry.
    pub head: Hash,
    /// The entries as lines of the ledger.
    pub lines: Vec<u8>,
    /// The entries.
    pub entries: Vec<Arc<ledger::Entry>>,
}

impl Batch {
    /// Adds drafts as the next entries, all or none; gives the number of the last entry.
    pub fn add(&mut self, drafts: Vec<Draft>, now: Now) -> Recorded {
        let mut after = self.next.clone();
        for draft in &drafts {
            after.apply(after.seq().next(), now, draft);
        }
        self.add_judged(Judged { drafts, after }, now)
    }

    /// The same, for drafts that come with the state after them.
    fn add_judged(&mut self, judged: Judged, now: Now) -> Recorded {
        let (mut seq, mut head, mut sealed) = (self.next.seq(), self.head, Vec::new());
        for draft in judged.drafts {
            seq = seq.next();
            let (line, hash) = ledger::encode(seq, now.wall, &draft, head)
                .map_err(|error| SubmitError::Unavailable(format!("the change cannot be recorded: {error}")))?;
            sealed.push((
                Arc::new(ledger::Entry {
                    seq,
                    time: now.wall,
                    draft,
                    prev: head,
                    hash,
                }),
                line,
            ));
            head = hash;
        }
        let last = sealed.last().map(|(entry, _)| (entry.seq, entry.hash));
        for (entry, line) in sealed {
            self.lines.extend_from_slice(&line);
            self.entries.push(entry);
        }
        debug_assert_eq!(judged.after.seq(), seq, "the state is that after the last draft");
        self.next = judged.after;
        self.head = head;
        Ok(last)
    }
}

impl Writer {
    /// Handles one command on the tentative state.
    pub(super) fn draft_command(&mut self, batch: &mut Batch, request: Request, reply: Reply, now: Now) -> Waiter {
        let kind = request.command.verb();
        let rests_on_batch = !batch.entries.is_empty();
        let is_same = |used: &role::Used| used.is_same(&request.command, &request.reason);
        let recorded = self.recorded(batch, request.request_id.as_deref(), is_same);
        let is_repeated = matches!(recorded, Ok(Some(_)));
        let (outcome, warnings) = match recorded {
            Ok(None) => self.draft_new(batch, &request, now),
            recorded => (recorded, Vec::new()),
        };
        Waiter {
            reply,
            outcome,
            is_repeated,
            rests_on_batch,
            warnings,
            kind,
        }
    }

    /// Handles a command that was not given before; what its receipt warns of beside it.
    fn draft_new(&mut self, batch: &mut Batch, request: &Request, now: Now) -> (Recorded, Vec<Diagnostic>) {
        let judged = match self.drafts_of(&batch.next, request, now) {
            Ok(judged) => judged,
            Err(error) => return (Err(error), Vec::new()),
        };
        let warnings = warnings_of(&judged.drafts, &self.config.fleet, &self.health, now);
        (batch.add_judged(judged, now), warnings)
    }

    /// What a request with this id was answered before, also before a restart: the same request is answered so again, another
    /// one is told that the id is taken.
    fn recorded(&self, batch: &Batch, request_id: Option<&str>, is_same: impl Fn(&role::Used) -> bool) -> Recorded {
        let Some((id, used)) = request_id.and_then(|id| Some((id, batch.next.receipt(id)?))) else {
            return Ok(None);
        };
        if !is_same(used) {
            return Err(SubmitError::Reused {
                id: id.to_owned(),
                used: used.to_string(),
            });
        }
        let in_batch = batch.entries.iter().find(|entry| entry.seq == used.seq).map(|entry| entry.hash);
        let hash = in_batch.or_else(|| self.hashes.get(&used.seq).copied());
        Ok(hash.map(|hash| (used.seq, hash)))
    }

    /// What a command would record, or why not.
    fn drafts_of(&self, state: &role::State, request: &Request, now: Now) -> Drafted {
        if let Serving::AnswerOnly { why } = &*self.serving {
            return Err(SubmitError::Unavailable(format!(
                "this node only answers and takes no change: {why}"
            )));
        }
        role::judge(state, &self.config.fleet, &self.health, now, request).map_err(SubmitError::Denied)
    }

    /// Whether the cookie secrets in the file that the config names are others than those in use: they are no part of the
    /// config's SHA-256. Without such a file they are the node's own, and may be random.
    fn has_new_secrets(&self, candidate: &Candidate) -> bool {
        let service = candidate.answers.service();
        candidate.config.service.cookie_secret_file.is_some() && !self.publisher.serves(service)
    }

    /// Judges a loaded config; on yes its entries are in the batch.
    pub(super) fn draft_reload(
        &mut self,
        batch: &mut Batch,
        mut candidate: Box<Candidate>,
        request: &ReloadRequest,
        reply: Reply,
        waiters: &mut Vec<Waiter>,
        now: Now,
    ) -> Option<Box<Candidate>> {
        let is_same = |used: &role::Used| used.is_same_reload(request.force, &request.reason);
        let recorded = self.recorded(batch, request.request_id.as_deref(), is_same);
        let is_repeated = matches!(recorded, Ok(Some(_)));
        let judged = match recorded {
            Ok(None) => self.judge_reload(batch, &mut candidate, request, now),
            recorded => recorded.map(|last| (last, false)),
        };
        let taken = judged.as_ref().is_ok_and(|(_, taken)| *taken);
        let warnings = if judged.is_ok() { candidate.warnings.clone() } else { Vec::new() };
        waiters.push(Waiter {
            reply,
            outcome: judged.map(|(last, _)| last),
            is_repeated,
            // A reload begins its batch, see `start_append`.
            rests_on_batch: false,
            warnings,
            kind: "reload",
        });
        taken.then_some(candidate)
    }

    /// Whether a candidate may be taken, and whether there is anything to take; then its entries are in the batch. What the
    /// comparison with the present config warns of is added to the candidate's own warnings.
    fn judge_reload(
        &mut self,
        batch: &mut Batch,
        candidate: &mut Candidate,
        request: &ReloadRequest,
        now: Now,
    ) -> Result<(Option<(Seq, Hash)>, bool), SubmitError> {
        if let Serving::AnswerOnly { why } = &*self.serving {
            return Err(SubmitError::Unavailable(format!(
                "this node only answers and takes no change: {why}"
            )));
        }
        let mut drafts = match reload::admit(&self.config, &self.outline, &batch.next, candidate, request.force) {
            Ok(drafts) => drafts,
            Err(error) => {
                self.reload_refused(&request.reason, &error);
                return Err(error);
            }
        };
        let compared = reload::compare(&self.config, &self.outline, &batch.next, candidate);
        candidate.warnings = bounded(compared.into_iter().chain(std::mem::take(&mut candidate.warnings)).collect());
        let same = self.state.config_sha256() == Some(candidate.sha256.as_str())
            && *self.serving == Serving::Current
            && !self.has_new_secrets(candidate);
        if same && drafts.is_empty() {
            self.node_alert(AlertKind::ReloadRefused, None);
            return Ok((None, false));
        }
        let body = Body::ConfigAccepted {
            sha256: candidate.sha256.clone(),
            forced: request.force,
        };
        drafts.push(Draft {
            actor: request.actor.clone(),
            reason: request.reason.clone(),
            request_id: request.request_id.clone(),
            body,
        });
        batch.add(drafts, now).map(|last| (last, true))
    }
}

/// What the receipt of a command warns of.
pub(super) fn warnings_of(drafts: &[Draft], fleet: &Fleet, health: &dyn HealthSource, now: Now) -> Vec<Diagnostic> {
    bounded(
        drafts
            .iter()
            .flat_map(|draft| role::warnings(&draft.body, fleet, health, now))
            .collect(),
    )
}
