//! The command line: a client of the API, and the way into the server itself.
//!
//! ```text
//! args ──▶ read, change, watch ──▶ client ──▶ connect ──▶ socket, TCP, TLS
//!     └──▶ ledger (a server's, or the files of a data dir)
//!     └──▶ local: serve, check, demo (module node)
//!                     render: JSON ──▶ text, pure
//! ```
//!
//! Invariants
//! - Exit codes: 0 done and visible, 1 failed, 2 usage, 3 refused by a gate (a dry run too), 4 nobody reachable.
//! - Every change carries a reason and a request id of 128 random bits, the same for every try.
//! - Standard output carries what was asked for, standard error all else; `--json` prints the API's JSON.
//!
//! Deliberately absent: any decision. What may be done, and what is answered, the server says.

mod args;
mod change;
mod client;
mod connect;
mod ledger;
mod local;
mod outcome;
mod probe;
mod read;
mod render;
#[cfg(test)]
mod tests;
mod watch;

use crate::node::DemoOptions;
use args::{Cli, Verb};
use clap::{CommandFactory, Parser};
use client::{Answer, Client};
use outcome::{Failure, Outcome, finish, say};
use serde_json::Value;
use std::process::ExitCode;

/// Runs the command line of this process.
pub async fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help for people who asked is no error; a closed output is nobody's.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    finish(perform(cli).await)
}

/// Every verb as it is typed, those of `ledger` with their first word.
pub fn verbs() -> Vec<String> {
    let mut verbs = Vec::new();
    for verb in Cli::command().get_subcommands() {
        let name = verb.get_name();
        if verb.has_subcommands() {
            verbs.extend(verb.get_subcommands().map(|below| format!("{name} {}", below.get_name())));
        } else {
            verbs.push(name.to_owned());
        }
    }
    verbs
}

/// Does what was asked.
async fn perform(cli: Cli) -> Outcome {
    let client = || Client::new(&cli.connection);
    match cli.verb {
        Verb::Serve { config, answer_only } => local::serve(config, answer_only).await,
        Verb::Check { config, json } => local::check(config, json),
        Verb::Demo {
            dir,
            dns_port,
            api_port,
            web_port,
        } => {
            local::demo(DemoOptions {
                dir,
                dns_port,
                api_port,
                web_port,
            })
            .await
        }
        Verb::Status { name: None, json } => read::overview(&client()?, json).await,
        Verb::Status { name: Some(name), json } => read::name(&client()?, &name, json).await,
        Verb::Explain { name, json } => read::explain(&client()?, &name, json).await,
        Verb::Probe(args) => probe::probe(client, args).await,
        Verb::History {
            name,
            region,
            endpoint,
            hours,
            json,
        } => {
            let part = [("region", region), ("endpoint", endpoint), ("hours", Some(hours.to_string()))];
            read::history(&client()?, &name, part, json).await
        }
        Verb::Proposals { json } => read::proposals(&client()?, json).await,
        Verb::Switch(args) => change::switch(&client()?, args).await,
        Verb::Evacuate(args) => change::evacuate(&client()?, args).await,
        Verb::Restore { region, why } => change::restore(&client()?, &region, why).await,
        Verb::Drain(args) => change::drain(&client()?, "drain", args).await,
        Verb::Undrain(args) => change::drain(&client()?, "undrain", args).await,
        Verb::Reload { force, why } => change::reload(&client()?, force, why).await,
        Verb::Approve { proposals, dry_run } => change::proposals(&client()?, "approve", proposals, dry_run).await,
        Verb::Reject { proposals } => change::proposals(&client()?, "reject", proposals, false).await,
        Verb::Ledger(verb) => ledger::perform(&cli.connection, verb).await,
        Verb::Watch { json } => watch::watch(&client()?, json).await,
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "pointsman", &mut script);
            say(&String::from_utf8_lossy(&script))
        }
    }
}

/// The JSON of a good answer; of any other the error.
fn accept(answer: Answer) -> Outcome<Value> {
    if answer.status.is_success() {
        return match answer.body {
            Value::Null => Err(Failure::failed(format!(
                "{} answered {} without JSON: is it a pointsman server?",
                answer.server, answer.status
            ))),
            body => Ok(body),
        };
    }
    Err(Failure::failed(explain_error(&answer)))
}

/// An error answer in words.
fn explain_error(answer: &Answer) -> String {
    let hint = match answer.status.as_u16() {
        _ if answer.uncertain => &format!("\n{}", client::UNCERTAIN),
        401 => "\nGive a token with --token-file or POINTSMAN_TOKEN.",
        403 => "\nThis token, or this user, may not do that.",
        _ => "",
    };
    if answer.body.is_null() {
        return format!("{} answered {}{hint}", answer.server, answer.status);
    }
    format!("{}{hint}", render::error(&answer.body).trim_end())
}

/// Prints JSON for scripts.
fn say_json(value: &Value) -> Outcome {
    say(&format!("{value:#}\n"))
}
