//! The verbs that only look: `status`, `explain`, `history`, `proposals`.

use super::client::{Client, segment};
use super::outcome::{Outcome, say};
use super::{accept, render, say_json};
use crate::model::Name;
use serde_json::Value;

/// Names fetched at a time.
const PAGE: usize = 1000;

/// `status`: the node, every name, open proposals and alerts.
pub(super) async fn overview(client: &Client, json: bool) -> Outcome {
    let mut status = accept(client.get("/v1/status").await?)?;
    let names = all_names(client).await?;
    if json {
        if let Some(members) = status.as_object_mut() {
            members.insert("items".to_owned(), Value::Array(names));
        }
        return say_json(&status);
    }
    // Counted in the status: asked for only where there are any.
    let open = status.get("proposals_open").and_then(Value::as_u64).unwrap_or(0);
    let proposals = if open > 0 {
        accept(client.get("/v1/proposals").await?)?
    } else {
        Value::Null
    };
    say(&render::overview(&status, &names, render::list(&proposals, "items")))
}

/// Every steered name, page by page.
pub(super) async fn all_names(client: &Client) -> Outcome<Vec<Value>> {
    let mut names = Vec::new();
    let mut path = format!("/v1/names?limit={PAGE}");
    loop {
        let page = accept(client.get(&path).await?)?;
        let items = render::list(&page, "items");
        names.extend(items.iter().cloned());
        match page.get("next").map(render::plain) {
            // A page without anything new would be asked for without end.
            Some(next) if !next.is_empty() && !items.is_empty() => path = format!("/v1/names?limit={PAGE}&after={}", segment(&next)),
            _ => return Ok(names),
        }
    }
}

/// The path of a name.
pub(super) fn path_of(name: &str, rest: &str) -> String {
    format!("/v1/names/{}{rest}", segment(name))
}

/// `status NAME`.
pub(super) async fn name(client: &Client, name: &Name, json: bool) -> Outcome {
    let item = accept(client.get(&path_of(&name.to_string(), "")).await?)?;
    if json { say_json(&item) } else { say(&render::name(&item)) }
}

/// `explain NAME`: the server's own words.
pub(super) async fn explain(client: &Client, name: &Name, json: bool) -> Outcome {
    let explanation = accept(client.get(&path_of(&name.to_string(), "/explain")).await?)?;
    match explanation.get("text").and_then(Value::as_str) {
        Some(text) if !json => say(&render::clean_lines(text)),
        _ => say_json(&explanation),
    }
}

/// `history NAME`: of the application that the name belongs to.
pub(super) async fn history(client: &Client, name: &Name, part: [(&str, Option<String>); 3], json: bool) -> Outcome {
    let item = accept(client.get(&path_of(&name.to_string(), "")).await?)?;
    let mut path = format!("/v1/apps/{}/history?limit={PAGE}", segment(&render::text(&item, "app")));
    for (key, value) in part.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        path.push_str(&format!("&{key}={}", segment(value)));
    }
    let body = accept(client.get(&path).await?)?;
    if json { say_json(&body) } else { say(&render::history(&body)) }
}

/// `proposals`.
pub(super) async fn proposals(client: &Client, json: bool) -> Outcome {
    let page = accept(client.get("/v1/proposals").await?)?;
    if json {
        say_json(&page)
    } else {
        say(&render::proposals(render::list(&page, "items")))
    }
}
