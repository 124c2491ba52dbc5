//! `probe`: runs probes once, now: a name's from its server, a config's from here, or one that is not configured yet.

use super::args::ProbeArgs;
use super::client::Client;
use super::outcome::{Failure, Outcome, complain, say};
use super::read::path_of;
use super::{accept, render, say_json};
use crate::node::{ProbePlan, ProbeWhat, plan_probes};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::time::Duration;

/// How often the display moves while a server works.
const TICK: Duration = Duration::from_millis(100);

/// Runs them and shows what they saw; a failure of any is exit code 1.
pub(super) async fn probe(client: impl FnOnce() -> Outcome<Client>, args: ProbeArgs) -> Outcome {
    let json = args.json;
    let items = match local(&args)? {
        Some(what) => here(what).await?,
        None => {
            let name = args
                .name
                .ok_or_else(|| Failure::Usage("give a NAME, --config FILE, --url URL or --with KEY=VALUE".to_owned()))?;
            there(&client()?, &name.to_string()).await?
        }
    };
    let failed = items.iter().filter(|item| item["passed"] == false).count();
    let said = if json {
        say_json(&json!({ "items": items }))
    } else {
        say(&render::probes(&items))
    };
    match failed {
        // What failed stands, whether or not anybody reads it.
        0 => said,
        _ if json => Err(Failure::Told),
        failed => {
            complain(&format!("{failed} of {} failed\n", items.len()));
            Err(Failure::Told)
        }
    }
}

/// What is to be run from here, if anything is.
fn local(args: &ProbeArgs) -> Outcome<Option<ProbeWhat>> {
    if let Some(config) = &args.config {
        let (config, name) = (config.clone(), args.name.clone());
        return Ok(Some(ProbeWhat::Config { config, name }));
    }
    let mut keys = String::new();
    if let Some(url) = &args.url {
        // As a TOML string, whatever is in it.
        keys.push_str(&format!("kind = \"http\"\nurl = {}\n", Value::String(url.clone())));
    }
    for line in &args.with {
        keys.push_str(line);
        keys.push('\n');
    }
    if keys.is_empty() {
        return match args.address {
            Some(_) => Err(Failure::Usage("--address goes with --url or --with".to_owned())),
            None => Ok(None),
        };
    }
    let address = args.address;
    Ok(Some(ProbeWhat::Adhoc { keys, address }))
}

/// Runs probes from this process.
async fn here(what: ProbeWhat) -> Outcome<Vec<Value>> {
    let ProbePlan { planned, lost } = plan_probes(what).await.map_err(Failure::failed)?;
    let bar = ProgressBar::new(planned.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("probing {wide_bar} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    let mut seen = lost;
    crate::node::run_probes(planned, |once| {
        seen.push(once);
        bar.inc(1);
    })
    .await;
    bar.finish_and_clear();
    seen.sort_by(|a, b| (&a.app, &a.region, &a.endpoint, a.address, a.number).cmp(&(&b.app, &b.region, &b.endpoint, b.address, b.number)));
    Ok(seen.iter().map(|once| json!(once)).collect())
}

/// Asks a server to run a name's probes.
async fn there(client: &Client, name: &str) -> Outcome<Vec<Value>> {
    let spinner = ProgressBar::new_spinner().with_message("the server runs the probes");
    spinner.enable_steady_tick(TICK);
    let answer = client.post(&path_of(name, "/probe"), &json!({})).await;
    spinner.finish_and_clear();
    let page = accept(answer?)?;
    Ok(render::list(&page, "items").to_vec())
}
