//! The verbs that change something: each one request with its reason and id, then its receipt and what is answered now.

use super::args::{DrainArgs, EvacuateArgs, ProposalArgs, SwitchArgs, Why};
use super::client::{self, Client, request_id, segment};
use super::outcome::{Failure, Outcome, complain, say};
use super::read::path_of;
use super::{accept, explain_error, render, say_json};
use serde_json::{Map, Value};

/// Most names whose new answers are printed after a change.
const NAMES_SHOWN_MAX: usize = 100;

/// A change to be sent.
pub(super) struct Change {
    /// Where to.
    path: String,
    /// What, with its reason and request id.
    body: Map<String, Value>,
    /// Whether the verb takes `--override`.
    overrides: bool,
    /// Whether nothing is to be changed.
    dry_run: bool,
    /// Whether to print JSON.
    json: bool,
}

impl Change {
    /// A change with a new request id.
    fn new(path: String, why: Why) -> Outcome<Change> {
        let mut body = Map::new();
        body.insert("reason".to_owned(), why.reason.into());
        body.insert("request_id".to_owned(), request_id()?.into());
        Ok(Change {
            path,
            body,
            overrides: false,
            dry_run: false,
            json: why.json,
        })
    }

    /// With another member of its body.
    fn with(mut self, key: &str, value: impl Into<Value>) -> Change {
        self.body.insert(key.to_owned(), value.into());
        self
    }

    /// Only tried, when `dry_run`.
    fn tried(mut self, dry_run: bool) -> Change {
        if dry_run {
            self.dry_run = true;
            return self.with("dry_run", true);
        }
        self
    }

    /// With these gates overridden.
    fn overriding(mut self, gates: &[crate::model::Gate]) -> Change {
        self.overrides = true;
        if gates.is_empty() {
            return self;
        }
        self.with("override", gates.iter().map(|gate| gate.as_str()).collect::<Vec<_>>())
    }

    /// Sends it and prints what came of it.
    pub async fn send(self, client: &Client) -> Outcome {
        let answer = client.post(&self.path, &Value::Object(self.body)).await?;
        if !answer.status.is_success() {
            if self.json {
                // The verdict stands, whether or not anybody reads the answer.
                let _ = say_json(&answer.body);
            }
            return match render::refusal(&answer.body, self.overrides).filter(|_| answer.status.as_u16() == 409) {
                Some(refusal) => {
                    complain(&refusal);
                    if answer.uncertain {
                        complain(&format!("Another server was asked before. {}\n", client::UNCERTAIN));
                    }
                    Err(Failure::Refused)
                }
                None => Err(Failure::failed(explain_error(&answer))),
            };
        }
        let result = accept(answer)?;
        if self.json {
            return say_json(&result);
        }
        complain(&render::warnings(&result));
        if self.dry_run {
            return say(&render::dry_run(&result));
        }
        tell(client, &result).await
    }
}

/// Prints a receipt and what is answered since.
async fn tell(client: &Client, receipt: &Value) -> Outcome {
    say(&render::receipt(receipt))?;
    // The change is made and proved. What follows is a courtesy: its failure must not look like a failure of the change.
    let changed = receipt.get("changed").and_then(Value::as_bool).unwrap_or(false);
    if changed
        && let Some(seq) = receipt.get("seq").and_then(Value::as_u64)
        && let Err(failure) = tell_effect(client, seq).await
    {
        match failure {
            Failure::Closed => return Err(Failure::Closed),
            other => {
                complain("The change is made; what is answered now could not be shown:\n");
                other.print();
            }
        }
    }
    Ok(())
}

/// Prints the entry and the new answers of its names.
async fn tell_effect(client: &Client, seq: u64) -> Outcome {
    let page = accept(client.get(&format!("/v1/ledger?after={}&limit=1", seq.saturating_sub(1))).await?)?;
    let Some(body) = render::list(&page, "items").first().and_then(|entry| entry.get("body")) else {
        return Ok(());
    };
    say(&format!("recorded  {}\n", render::sentence(body)))?;
    let names = render::body_names(body);
    // Marks and rejections change no answer that resolvers could have kept.
    let moved = body.get("move").is_some() || !render::list(body, "moves").is_empty();
    // One by one over a kept connection: nobody waits for a list of a hundred thousand names to read a hundred lines.
    for name in names.iter().take(NAMES_SHOWN_MAX) {
        say(&render::now_answered(&accept(client.get(&path_of(name, "")).await?)?, moved))?;
    }
    if names.len() > NAMES_SHOWN_MAX {
        say(&format!("and {} more (pointsman status)\n", names.len() - NAMES_SHOWN_MAX))?;
    }
    Ok(())
}

/// `switch`.
pub(super) async fn switch(client: &Client, args: SwitchArgs) -> Outcome {
    let path = path_of(&args.name.to_string(), "/switch");
    let mut change = Change::new(path, args.why)?
        .with("to", args.to)
        .tried(args.dry_run)
        .overriding(&args.overrides);
    if let Some(region) = args.expect {
        change = change.with("expect", region);
    }
    if let Some(seq) = args.expect_seq {
        change = change.with("expect_seq", seq);
    }
    change.send(client).await
}

/// `evacuate`.
pub(super) async fn evacuate(client: &Client, args: EvacuateArgs) -> Outcome {
    let path = format!("/v1/regions/{}/evacuate", segment(&args.region));
    let mut change = Change::new(path, args.why)?.tried(args.dry_run).overriding(&args.overrides);
    if !args.leave.is_empty() {
        change = change.with("leave", args.leave.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    change.send(client).await
}

/// `restore`.
pub(super) async fn restore(client: &Client, region: &str, why: Why) -> Outcome {
    Change::new(format!("/v1/regions/{}/restore", segment(region)), why)?
        .send(client)
        .await
}

/// `drain` and `undrain`.
pub(super) async fn drain(client: &Client, verb: &str, args: DrainArgs) -> Outcome {
    let path = path_of(&args.name.to_string(), &format!("/{verb}"));
    Change::new(path, args.why)?
        .with("region", args.region)
        .tried(args.dry_run)
        .send(client)
        .await
}

/// `reload`.
pub(super) async fn reload(client: &Client, force: bool, why: Why) -> Outcome {
    let change = Change::new("/v1/reload".to_owned(), why)?;
    let change = if force { change.with("force", true) } else { change };
    change.send(client).await
}

/// `approve` and `reject`: one request a proposal; a refusal of one does not keep the others from being tried.
pub(super) async fn proposals(client: &Client, verb: &str, args: ProposalArgs, dry_run: bool) -> Outcome {
    let several = args.ids.len() > 1;
    let (mut worst, mut unread): (Outcome, Outcome) = (Ok(()), Ok(()));
    for id in args.ids {
        if several && !args.why.json {
            // Every proposal is sent, whether or not anybody reads what came of it.
            let _ = say(&format!("proposal {id}\n"));
        }
        let why = Why {
            reason: args.why.reason.clone(),
            json: args.why.json,
        };
        let sent = Change::new(format!("/v1/proposals/{id}/{verb}"), why)?
            .tried(dry_run)
            .send(client)
            .await;
        match sent {
            Ok(()) => {}
            // This one is done; only its receipt found no reader.
            Err(Failure::Closed) => unread = Err(Failure::Closed),
            // Nobody would hear the rest either.
            Err(end @ (Failure::Unreachable(_) | Failure::Usage(_))) => return Err(end),
            Err(failure) if several => {
                failure.print();
                worst = Err(match worst {
                    Err(Failure::Refused) => Failure::Refused,
                    _ if matches!(failure, Failure::Refused) => Failure::Refused,
                    _ => Failure::failed(format!(
                        "some proposals were not {}",
                        if verb == "approve" { "approved" } else { "rejected" }
                    )),
                });
            }
            Err(failure) => return Err(failure),
        }
    }
    worst.and(unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_says_only_what_was_asked() {
        let why = || Why {
            reason: "why".to_owned(),
            json: false,
        };
        let change = Change::new("/x".to_owned(), why()).unwrap().tried(false).overriding(&[]);
        assert_eq!(change.body.keys().collect::<Vec<_>>(), ["reason", "request_id"]);
        let change = Change::new("/x".to_owned(), why())
            .unwrap()
            .tried(true)
            .overriding(&[crate::model::Gate::Cooldown]);
        assert_eq!(change.body.get("override"), Some(&json!(["cooldown"])));
        assert_eq!(change.body.get("dry_run"), Some(&json!(true)));
    }
}
