//! Commands about names that are not steered here are answered beside the writer: the name that may have been meant is looked for
//! among all there are, and everybody's commands would wait meanwhile.
//!
//! The writer judges the name again, by the config that is in force when the command's turn comes.

use super::{Handle, Serving, SubmitError};
use crate::model::Name;
use crate::role::{self, Command, Denied, Request};

/// Every name that a command mentions.
fn names(command: &Command) -> impl Iterator<Item = &Name> {
    let leave = match command {
        Command::Evacuate { leave, .. } => Some(leave),
        _ => None,
    };
    command.name().into_iter().chain(leave.into_iter().flatten())
}

impl Handle {
    /// Why a command about a name that is not in the published config is denied; none when there is nothing to say.
    pub(super) async fn unknown_name(&self, request: &Request) -> Option<SubmitError> {
        let published = self.published();
        // A request that was carried out has its receipt, also when its name is gone by now.
        let is_known = |id: &str| published.state.receipt(id).is_some();
        if request.request_id.as_deref().is_some_and(is_known) || matches!(*published.serving, Serving::AnswerOnly { .. }) {
            return None;
        }
        let fleet = &published.config.fleet;
        let unknown = names(&request.command).find(|name| !fleet.names.contains_key(*name))?.clone();
        self.inner.metrics.switched(request.command.verb(), "failed");
        let asked = unknown.clone();
        let config = published.config.clone();
        let denied = tokio::task::spawn_blocking(move || role::no_such_name(&config.fleet, &unknown)).await;
        // Without a thread to look on there is no hint.
        let denied = denied.unwrap_or_else(|_| Denied::NotFound(format!("there is no steered name {asked}")));
        Some(SubmitError::Denied(denied))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Inner, Published};
    use super::*;
    use crate::health::Book;
    use crate::ledger::Hash;
    use crate::model::{Actor, Generation, NameMap, RegionId};
    use crate::role::{State, Watch, fixture};
    use crate::store::LedgerReader;
    use crate::telemetry::{Clock, DnsCounters, Metrics};
    use arc_swap::ArcSwap;
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use tokio::sync::{broadcast, mpsc};

    /// A handle whose writer is gone: what gets as far as that is answered by "the server is stopping".
    fn without_writer(state: State) -> Handle {
        let text = "version = 1\n[node]\nname = \"n\"\ndata-dir = \"d\"\n";
        let loaded = crate::config::load("c.toml", &mut |_, _| Ok(text.as_bytes().to_vec()));
        let mut config = loaded.unwrap().config;
        config.fleet = fixture::fleet(vec![fixture::app("shop", &["iad", "fra"])]);
        let published = Published {
            generation: Generation(0),
            seq: state.seq(),
            head: Hash::GENESIS,
            config: Arc::new(config),
            state,
            health: Book::new(),
            watch: Arc::new(Watch::new()),
            decisions: NameMap::new(),
            alerts: imbl::OrdMap::new(),
            serving: Arc::new(Serving::Current),
        };
        let inner = Inner {
            reloads: crate::control::turns::Turns::new(),
            messages: mpsc::channel(1).0,
            view: Arc::new(ArcSwap::from_pointee(published)),
            events: broadcast::channel(1).0,
            clock: Arc::new(Clock::new()),
            metrics: Arc::new(Metrics::new().unwrap()),
            ledger: LedgerReader::of(std::path::Path::new("d")),
            config_path: "c.toml".into(),
            files: Default::default(),
            hash_seed: 1,
            kit: crate::probe::Kit::default(),
            dns_counters: Box::new(DnsCounters::default),
        };
        Handle { inner: Arc::new(inner) }
    }

    /// A request with an id.
    fn request(command: Command) -> Request {
        Request {
            actor: Actor::Local { claimed: None },
            reason: "test".to_owned(),
            request_id: Some("1".to_owned()),
            command,
        }
    }

    /// A switch of a name.
    fn switch(name: &str) -> Command {
        Command::Switch {
            name: fixture::name(name),
            to: RegionId::new("fra"),
            expect: None,
            expect_seq: None,
            overrides: BTreeSet::new(),
        }
    }

    #[tokio::test]
    async fn a_mistyped_name_is_told_without_the_writer() {
        let handle = without_writer(State::new());
        let evacuate = Command::Evacuate {
            region: RegionId::new("iad"),
            leave: BTreeSet::from([fixture::name("shpo.example.net.")]),
            overrides: BTreeSet::new(),
        };
        for command in [switch("shpo.example.net."), evacuate] {
            let Err(SubmitError::Denied(denied)) = handle.submit(request(command)).await else {
                panic!("it was not denied")
            };
            let denied = denied.to_string();
            let told = "there is no steered name shpo.example.net.; did you mean shop.example.net.?";
            assert!(denied.contains(told), "{denied}");
        }
        assert!(handle.metrics().unwrap().contains(r#"outcome="failed"} 1"#));
        let asked = handle.submit(request(switch("shop.example.net."))).await.unwrap_err().to_string();
        assert!(asked.contains("stopping"), "{asked}");
    }

    #[tokio::test]
    async fn a_request_that_was_carried_out_has_its_receipt_when_its_name_is_gone() {
        let fleet = fixture::fleet(vec![fixture::app("gone", &["iad", "fra"])]);
        let mut state = fixture::state(&fleet);
        let mut health = fixture::Health::default();
        let gone = fleet.names.values().next().unwrap();
        health.set(&gone.app, "fra", crate::model::RegionHealth::Healthy, fixture::start());
        let asked = request(switch("gone.example.net."));
        let drafts = role::handle(&state, &fleet, &health, fixture::at(100), &asked).unwrap();
        for draft in drafts {
            state.apply(state.seq().next(), fixture::at(100), &draft);
        }
        let passed_on = without_writer(state).submit(asked).await.unwrap_err().to_string();
        assert!(passed_on.contains("stopping"), "it is the writer who has the receipt: {passed_on}");
    }
}
