//! The promises (see `src/lib.rs`) that the core decides, as invariants of a [`World`].

use super::World;
use pointsman::health::Book;
use pointsman::model::*;
use pointsman::role::{self, State};
use pointsman::steering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl World {
    /// What is due was done: no proposal is missing or wrong, no policy sits on a move.
    pub(super) fn check_nothing_is_overdue(&self) {
        if self.book.suspicion().is_some() {
            // Nothing is due: what would be waits for the end of the suspicion.
            return;
        }
        for (name, steered) in &self.fleet.names {
            if self.is_unconfirmed(steered) {
                // Nor is anything of this name before its regions are heard again.
                continue;
            }
            let known = self.state.name(name).unwrap();
            let status = self.book.region(&steered.app.id, &known.active).unwrap();
            let sick = status.health == RegionHealth::Unhealthy;
            let candidate = role::candidate(&self.state, steered, &self.book, self.now);
            let target = role::policy_target(&self.state, steered, &self.book, self.now);
            let moves = matches!(steered.app.failover, Failover::OneWay | Failover::Automatic);
            let follows = steered.app.failover == Failover::Follow;
            let may_propose = sick && !follows && !(moves && target.is_some());
            let muted = known
                .muted
                .is_some_and(|muted| muted.version == known.version && status.since <= muted.at);
            match known.proposal.and_then(|id| self.state.proposal(id)) {
                Some(open) => assert!(
                    sick && !follows && open.version == known.version && Some(&open.to) == candidate.as_ref() && open.from == known.active,
                    "a proposal that should have ended: {open:?}"
                ),
                None => assert!(!may_propose || candidate.is_none() || muted, "a proposal for {name} is missing"),
            }
            if let (true, true, Some(target)) = (moves, sick, &target) {
                let since = known.moved_at.unwrap_or(self.fresh_since).max(status.since).max(self.fresh_since);
                let delay = steered.app.failover_delay.max(steered.app.cooldown);
                let passed_at = self.book.region(&steered.app.id, target).unwrap().passed_at;
                // The policy listens four times a second.
                let heard = |passed: Mono| self.now.mono.since(passed) >= Duration::from_millis(250);
                let is_heard = status
                    .cut_since
                    .is_none_or(|cut| passed_at.is_some_and(|passed| passed > cut && heard(passed)));
                assert!(
                    self.now.mono.since(since) < delay || !is_heard,
                    "{name} should have moved to {target}"
                );
                assert!(self.watch.waiting(name).is_some(), "{name} waits for nothing");
            }
        }
    }

    /// Whether anything known of the regions of a name is from before this machine was suspended.
    fn is_unconfirmed(&self, steered: &SteeredName) -> bool {
        let status = |region| self.book.region(&steered.app.id, region);
        steered
            .order
            .iter()
            .any(|region| status(region).is_some_and(|status| status.unconfirmed.is_some()))
    }

    /// When the prober comes under suspicion, no answer loses a record, but for one that was sick and answered because all of its family
    /// were.
    pub(super) fn check_answers_stay(&self, before: &Book) {
        for steered in self.fleet.names.values() {
            let was = steering::decide(steered, &self.state, before, self.now);
            let is = steering::decide(steered, &self.state, &self.book, self.now);
            if matches!(was.reason, Reason::Healthy | Reason::Degraded | Reason::Unknown) {
                let kept = is.answer.records();
                let status = before.region(&steered.app.id, &was.active).unwrap();
                let was_usable = |record: &String| {
                    let one = status.endpoints.iter().find(|one| one.endpoint.to_string() == *record);
                    one.is_some_and(|one| one.verdict.is_usable())
                };
                assert!(
                    was.answer
                        .records()
                        .iter()
                        .all(|record| kept.contains(record) || !was_usable(record)),
                    "{was:?} became {is:?}"
                );
            }
        }
    }

    /// The promises about entries.
    pub(super) fn check_entry(&self, before: &State, draft: &Draft) {
        assert!(!draft.reason.trim().is_empty(), "an entry without a reason: {draft:?}");
        assert!(
            draft.actor != Actor::Policy || self.book.suspicion().is_none(),
            "the prober is suspected, and yet: {draft:?}"
        );
        if let Body::ProposalOpened { name, .. } | Body::ProposalEnded { name, .. } = &draft.body {
            let steered = self.fleet.names.get(name).filter(|_| draft.actor == Actor::Policy);
            assert!(
                steered.is_none_or(|steered| !self.is_unconfirmed(steered)),
                "on what is from before a suspension: {draft:?}"
            );
        }
        for (name, known) in self.state.names() {
            // Promise 2. The config of a name that is being added or retired may not be served yet.
            assert!(
                !self.state.is_drained(name, &known.active),
                "{name}: {} is active and drained after {draft:?}",
                known.active
            );
            if let Some(steered) = self.fleet.names.get(name) {
                assert!(
                    steered.order.contains(&known.active),
                    "{name}: {} is none of its regions",
                    known.active
                );
            }
            if let Some(id) = known.proposal {
                assert_eq!(self.state.proposal(id).map(|open| &open.name), Some(name), "the proposal of {name}");
            }
            // Only an entry that says so moves a name, and the version tells of it.
            let Some(old) = before.name(name) else { continue };
            let moves = draft.body.moves().iter().any(|change| change.name == *name);
            assert_eq!(
                old.active != known.active,
                moves,
                "{name} moved without an entry, or did not: {draft:?}"
            );
            assert_eq!(
                old.active != known.active,
                old.moved_at != known.moved_at || moves,
                "{name}: {draft:?}"
            );
        }
        for change in draft.body.moves() {
            let app = self.fleet.names.get(&change.name).map(|steered| &steered.app);
            if draft.actor == Actor::Policy {
                // Promise 1.
                let failover = app.map(|app| app.failover);
                assert_ne!(failover, Some(Failover::Manual), "a policy moved a manual name: {draft:?}");
                self.check_policy_move(before, change, draft);
            }
        }
        let open: BTreeSet<&Name> = self.state.proposals().map(|open| &open.name).collect();
        assert_eq!(open.len(), self.state.proposals().count(), "two open proposals of one name");
    }

    /// A policy's move passed the gates of an operator's switch and waited for the cooldown.
    pub(super) fn check_policy_move(&self, before: &State, change: &Move, draft: &Draft) {
        let steered = &self.fleet.names[&change.name];
        let known = before.name(&change.name).unwrap();
        for word in role::gates(before, steered, &change.to, &self.book, self.now) {
            assert!(word.pass || word.gate == Gate::Cooldown, "{word:?} in {draft:?}");
        }
        if let Some(moved_at) = known.moved_at {
            assert!(
                self.now.mono.since(moved_at) >= steered.app.cooldown,
                "a move within the cooldown: {draft:?}"
            );
        }
        let sick = self.book.region(&steered.app.id, &change.from).map(|status| status.health) == Some(RegionHealth::Unhealthy);
        assert_eq!(sick, change.kind == MoveKind::Failover, "{draft:?}");
        match steered.app.failover {
            Failover::OneWay => assert!(sick, "one-way moves away from sick regions only: {draft:?}"),
            Failover::Automatic => assert!(sick || change.to == known.home, "automatic moves away or home: {draft:?}"),
            _ => {}
        }
        let status = |region: &RegionId| self.book.region(&steered.app.id, region).unwrap();
        if let Some(cut) = status(&change.from)
            .cut_since
            .filter(|_| sick && steered.app.failover != Failover::Follow)
        {
            assert!(
                status(&change.to).passed_at.is_some_and(|passed| passed > cut),
                "moved on hearsay: {draft:?}"
            );
        }
        let (since, delay) = match steered.app.failover {
            Failover::Follow => {
                let says = |region: &&RegionId| status(region).observed == Observed::Active;
                let saying: Vec<&RegionId> = steered.order.iter().filter(says).collect();
                assert_eq!(saying, [&change.to], "follow goes where the application alone is active: {draft:?}");
                (status(&change.to).observed_since, steered.app.failover_delay)
            }
            _ if sick => (status(&change.from).since, steered.app.failover_delay),
            _ => {
                assert_eq!(status(&change.to).health, RegionHealth::Healthy, "home must be healthy: {draft:?}");
                (status(&change.to).since, steered.app.failback_delay)
            }
        };
        let fresh_since = self.unconfirmed_at.get(&steered.app.id).copied().max(Some(self.started_at));
        let waited = self.now.mono.since(fresh_since.map_or(since, |fresh| fresh.max(since)));
        assert!(waited >= delay, "a move after {waited:?}, before its delay: {draft:?}");
        assert!(!self.is_unconfirmed(steered), "{draft:?}");
        if let Some((woke, slept)) = self.woke {
            let stale_after = steered.app.probes.iter().map(|probe| probe.stale_after).max().unwrap();
            let rests_on = if sick { vec![&change.from, &change.to] } else { vec![&change.to] };
            for region in rests_on {
                let heard_at = status(region).evidence_at;
                assert!(
                    slept < stale_after || heard_at.is_some_and(|at| at > woke),
                    "nothing was heard of {region} since a suspension: {draft:?}"
                );
            }
        }
    }

    /// The promises about answers.
    pub(super) fn check_decisions(&self) {
        for steered in self.fleet.names.values() {
            let decision = steering::decide(steered, &self.state, &self.book, self.now);
            assert_eq!(
                decision,
                steering::decide(steered, &self.state, &self.book, self.now),
                "decide is a function"
            );
            assert_eq!(Some(&decision.active), self.state.name(&steered.name).map(|known| &known.active));
            self.check_answer(steered, &decision);
            let alerts = steering::alerts(steered, &self.state, &self.book, self.now, &decision);
            let said = alerts.iter().any(|alert| alert.kind == steering::AlertKind::FailOpen);
            assert_eq!(said, decision.reason.is_fail_open(), "fail-open is announced: {alerts:?}");
        }
    }

    /// No answer is empty; sick and drained endpoints are in none, but where the reason says so.
    pub(super) fn check_answer(&self, steered: &SteeredName, decision: &Decision) {
        let Answer::Addresses { v4, v6 } = &*decision.answer else { return };
        assert!(!v4.is_empty() || !v6.is_empty(), "an empty answer: {decision:?}");
        if decision.reason == Reason::AllDownInstead {
            return;
        }
        let answered: BTreeSet<Endpoint> = v4
            .iter()
            .map(|ip| Endpoint::Address((*ip).into()))
            .chain(v6.iter().map(|ip| Endpoint::Address((*ip).into())))
            .collect();
        for region in &steered.order {
            let own = steered.app.endpoints_of(region);
            let shared = |one: &&Endpoint| answered.contains(*one) && !steered.app.endpoints_of(&decision.active).contains(one);
            if self.state.is_drained(&steered.name, region) {
                assert_eq!(own.iter().find(shared), None, "{region} is drained: {decision:?}");
            }
            if decision.region.as_ref() == Some(region) && !decision.reason.is_fail_open() && decision.reason != Reason::WaitingToMove {
                let status = self.book.region(&steered.app.id, region);
                let is_usable = |one: &Endpoint| {
                    let found = status.and_then(|status| status.endpoints.iter().find(|other| other.endpoint == *one));
                    found.is_none_or(|found| found.verdict.is_usable())
                };
                let missing = own.iter().find(|one| is_usable(one) && !answered.contains(*one));
                assert_eq!(missing, None, "a usable endpoint is left out: {decision:?}");
                for family_of in own {
                    let same = |other: &&Endpoint| family(other) == family(family_of);
                    assert!(
                        own.iter().filter(same).any(|one| answered.contains(one)),
                        "a family is missing: {decision:?}"
                    );
                }
                for sick in own.iter().filter(|one| answered.contains(*one) && !is_usable(one)) {
                    let same = |other: &&Endpoint| family(other) == family(sick);
                    assert!(
                        !own.iter().filter(same).any(is_usable),
                        "{sick} is sick, others are not: {decision:?}"
                    );
                }
            }
        }
    }

    /// Replaying gives the same state: what this process recorded on its own clocks, and everything on the clocks of a new one.
    pub fn check_replay(&self) {
        let (from, mut state) = (self.replayed.0, self.replayed.1.clone());
        for (index, record) in self.ledger.iter().enumerate().skip(from) {
            state.apply(Seq(index as u64 + 1), record.at, &record.draft);
        }
        assert_eq!(state, self.state, "replay(drafts) == state");
        self.check_against_naive_fold();
    }

    /// Who is active where, and what is drained, told from the ledger a second time and in the simplest way.
    pub(super) fn check_against_naive_fold(&self) {
        let mut active = BTreeMap::<&Name, &RegionId>::new();
        let mut drained = BTreeSet::<(&Name, &RegionId)>::new();
        let mut evacuated = BTreeSet::<&RegionId>::new();
        let mut stays = BTreeMap::<&Name, &RegionId>::new();
        for body in self.ledger.iter().map(|record| &record.draft.body) {
            for change in body.moves() {
                active.insert(&change.name, &change.to);
                stays.remove(&change.name);
            }
            match body {
                Body::NameAdded { name, active: first, .. } => drop(active.insert(name, first)),
                Body::NameRetired { name } => {
                    active.remove(name);
                    stays.remove(name);
                    drained.retain(|(other, _)| *other != name);
                }
                Body::Evacuated { region, stay, .. } => {
                    evacuated.insert(region);
                    stays.extend(stay.iter().map(|name| (name, region)));
                }
                Body::Restored { region } => {
                    evacuated.remove(region);
                    stays.retain(|_, other| *other != region);
                }
                Body::Drained { name, region } => drop(drained.insert((name, region))),
                Body::Undrained { name, region } | Body::RegionRemoved { name, region } => drop(drained.remove(&(name, region))),
                _ => {}
            }
        }
        let known: BTreeMap<&Name, &RegionId> = self.state.names().map(|(name, known)| (name, &known.active)).collect();
        assert_eq!(active, known);
        for (name, steered) in &self.fleet.names {
            for region in &steered.order {
                let by_region = evacuated.contains(region) && stays.get(name) != Some(&region);
                assert_eq!(
                    self.state.is_drained(name, region),
                    by_region || drained.contains(&(name, region)),
                    "{name} {region}"
                );
            }
        }
    }
}

/// 4, 6, or 0 for a host name.
fn family(endpoint: &Endpoint) -> u8 {
    match endpoint {
        Endpoint::Address(address) if address.is_ipv4() => 4,
        Endpoint::Address(_) => 6,
        Endpoint::Host(_) => 0,
    }
}
