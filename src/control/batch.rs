//! From what waits to the entries of one append: each command and each reload judged on a tentative copy of the state.
//!
//! A persistent map makes the copy free. Commands are handled one after the other, so that each sees those before it; what
//! they come to is said to nobody before the append ended (`commit`). Nothing here changes the state in force.

use super::reload::{self, Candidate};
use super::types::{ReloadRequest, Serving, SubmitError, bounded};
use super::writer::{Reply, Waiter, Writer};
use crate::both::both;
use crate::health::Book;
use crate::ledger::{self, Hash};
use crate::model::{Body, Diagnostic, Draft, Fleet, HealthSource, Name, Now, Seq};
use crate::role::{self, After, Request};
use crate::steering::AlertKind;
use std::sync::Arc;

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
    /// The names whose decision or policy they may change, those of each entry in canonical order.
    touched: Vec<Name>,
    /// How many entries or commands have put names there: those of one are in order.
    parts: usize,
}

impl Batch {
    /// A batch without entries, on this state and the hash of its last entry.
    pub fn new(state: &role::State, head: Hash) -> Batch {
        Batch {
            next: state.clone(),
            head,
            lines: Vec::new(),
            entries: Vec::new(),
            touched: Vec::new(),
            parts: 0,
        }
    }

    /// The names whose decision or policy the entries may change, each once, in canonical order.
    pub fn take_touched(&mut self) -> Vec<Name> {
        let mut touched = std::mem::take(&mut self.touched);
        if self.parts > 1 {
            touched.sort();
            touched.dedup();
        }
        touched
    }

    /// Adds drafts as the next entries, all or none; gives the number of the last entry.
    pub fn add(&mut self, drafts: Vec<Draft>, fleet: &Fleet, now: Now) -> Recorded {
        let mut state = self.next.clone();
        for draft in &drafts {
            state.apply(state.seq().next(), now, draft);
        }
        let touched = role::affected_by(fleet, drafts.iter().map(|draft| &draft.body));
        let lines = self.encode(&drafts, now)?;
        Ok(self.push(drafts, lines, After { state, touched }, now))
    }

    /// The same for a command's drafts, unless they break promise 2.
    fn add_checked(&mut self, drafts: Vec<Draft>, fleet: &Fleet, now: Now) -> Recorded {
        let names = drafts.iter().map(|draft| draft.body.moves().len()).sum();
        let (lines, after) = both(
            names,
            || self.encode(&drafts, now),
            || role::check_one_active(&self.next, fleet, now, &drafts),
        );
        let after = after.map_err(SubmitError::Denied)?;
        let lines = lines?;
        Ok(self.push(drafts, lines, after, now))
    }

    /// The lines of drafts as the next entries, with their hashes.
    fn encode(&self, drafts: &[Draft], now: Now) -> Result<Vec<(Vec<u8>, Hash)>, SubmitError> {
        let (mut seq, mut head, mut lines) = (self.next.seq(), self.head, Vec::new());
        for draft in drafts {
            seq = seq.next();
            let (line, hash) = ledger::encode(seq, now.wall, draft, head)
                .map_err(|error| SubmitError::Unavailable(format!("the change cannot be recorded: {error}")))?;
            lines.push((line, hash));
            head = hash;
        }
        Ok(lines)
    }

    /// Takes drafts with their lines as the next entries.
    fn push(&mut self, drafts: Vec<Draft>, lines: Vec<(Vec<u8>, Hash)>, after: After, now: Now) -> Option<(Seq, Hash)> {
        let (mut seq, mut last) = (self.next.seq(), None);
        for (draft, (line, hash)) in drafts.into_iter().zip(lines) {
            seq = seq.next();
            match self.lines.is_empty() {
                // An entry of many megabytes is not copied.
                true => self.lines = line,
                false => self.lines.extend_from_slice(&line),
            }
            self.entries.push(Arc::new(ledger::Entry {
                seq,
                time: now.wall,
                draft,
                prev: self.head,
                hash,
            }));
            self.head = hash;
            last = Some((seq, hash));
        }
        debug_assert_eq!(after.state.seq(), seq, "the state is that after the last draft");
        self.next = after.state;
        self.parts += usize::from(!after.touched.is_empty());
        self.touched.extend(after.touched);
        last
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
        let outcome = match recorded {
            Ok(None) => self.draft_new(batch, &request, now),
            recorded => recorded,
        };
        Waiter {
            reply,
            outcome,
            is_repeated,
            rests_on_batch,
            // What there is to say of it is looked for while the disk is at work, see `warn`.
            warnings: Vec::new(),
            kind,
        }
    }

    /// Handles a command that was not given before.
    fn draft_new(&mut self, batch: &mut Batch, request: &Request, now: Now) -> Recorded {
        let drafts = self.drafts_of(&batch.next, request, now)?;
        batch.add_checked(drafts, &self.config.fleet, now)
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

    /// What a command would record, if the state after it is right, or why not.
    fn drafts_of(&self, state: &role::State, request: &Request, now: Now) -> Result<Vec<Draft>, SubmitError> {
        if let Serving::AnswerOnly { why } = &*self.serving {
            return Err(SubmitError::Unavailable(format!(
                "this node only answers and takes no change: {why}"
            )));
        }
        role::propose(state, &self.config.fleet, &self.health, now, request).map_err(SubmitError::Denied)
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
        batch.add(drafts, &candidate.config.fleet, now).map(|last| (last, true))
    }
}

/// Adds to the receipts of commands what they warn of.
pub(super) fn warn(waiters: &mut [Waiter], entries: &[Arc<ledger::Entry>], fleet: &Fleet, health: &Book, now: Now) {
    for waiter in waiters.iter_mut().filter(|waiter| !waiter.is_repeated) {
        let Ok(Some((seq, _))) = waiter.outcome else { continue };
        // A command makes one entry.
        let entry = entries.iter().find(|entry| entry.seq == seq);
        let drafts = entry.map(|entry| std::slice::from_ref(&entry.draft)).unwrap_or_default();
        waiter.warnings.extend(warnings_of(drafts, fleet, health, now));
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
