//! `pointsman check`: everything that a start or a reload would say about the files, without a server.
//!
//! Prints every finding with its place; when nothing is wrong, for each steered name the worst-case time from a failure
//! to clients, so that intervals, counts and TTLs can be judged before the night when they matter.

use crate::config::{Loaded, Place};
use crate::control::load;
use crate::model::{Diagnostic, Location};
use crate::{api, steering, tls};
use std::io::Write;
use std::path::PathBuf;

/// What to check and how to print it.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// The config.
    pub config: PathBuf,
    /// Print JSON.
    pub json: bool,
}

/// Checks and prints; true when the config may be served.
///
/// # Errors
/// When the output cannot be written.
pub fn check(options: &CheckOptions, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<bool> {
    let (findings, loaded) = match load(&options.config) {
        Ok(loaded) => judge_files(loaded),
        Err(findings) => (findings, None),
    };
    if options.json {
        let names: Vec<serde_json::Value> = loaded.iter().flat_map(worst_cases).collect();
        let report = serde_json::json!({ "ok": loaded.is_some(), "findings": findings, "names": names });
        writeln!(out, "{report:#}")?;
        return Ok(loaded.is_some());
    }
    for finding in &findings {
        writeln!(err, "{finding}")?;
    }
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let warnings = findings.len() - errors;
    let Some(loaded) = loaded else {
        writeln!(
            err,
            "{}: {}, {}; it would not be served",
            options.config.display(),
            count(errors, "error"),
            count(warnings, "warning")
        )?;
        return Ok(false);
    };
    print_summary(&loaded, warnings, out)?;
    Ok(true)
}

/// Looks inside the files of the API and of encrypted DNS as a start does; what is wrong with them is an error, since the start would fail.
fn judge_files(loaded: Loaded) -> (Vec<Diagnostic>, Option<Loaded>) {
    let (api, places) = (&loaded.config.api, &loaded.places);
    let mut errors = Vec::new();
    if let Some(path) = &api.token_file
        && let Err(fault) = api::check_token_file(path, &loaded.config.fleet.feeds())
    {
        let message = format!("the token-file {} cannot be used: {}", path.display(), fault.what);
        let mut finding = places.put(&Place::TokenFile, Diagnostic::error(None, message));
        if let Some((line, column)) = fault.at {
            let file = path.display().to_string();
            finding = finding.related(Location { file, line, column }, "it is wrong here");
        }
        errors.push(finding);
    }
    if let Some(files) = &api.tls
        && let Err(fault) = tls::read(&files.cert, &files.key)
    {
        let place = match fault.part {
            tls::Part::Certificate => Place::TlsCert,
            tls::Part::Key => Place::TlsKey,
        };
        errors.push(places.put(&place, Diagnostic::error(None, fault.to_string())));
    }
    if let Some(listen) = &loaded.config.dns.encrypted
        && let Err(fault) = tls::read(&listen.files.cert, &listen.files.key)
    {
        let place = match fault.part {
            tls::Part::Certificate => Place::DnsTlsCert,
            tls::Part::Key => Place::DnsTlsKey,
        };
        errors.push(places.put(&place, Diagnostic::error(None, fault.to_string())));
    }
    let is_fine = errors.is_empty();
    errors.extend(loaded.warnings.iter().cloned());
    (errors, is_fine.then_some(loaded))
}

/// The worst case of every application, as JSON.
fn worst_cases(loaded: &Loaded) -> Vec<serde_json::Value> {
    let apps = loaded.config.fleet.apps.values();
    apps.map(|app| serde_json::json!({ "app": app.id, "names": loaded.config.fleet.names_of.get(&app.id), "worst_case": steering::worst_case(app) })).collect()
}

/// What would be served, and how long a failure takes to reach clients at the worst.
fn print_summary(loaded: &Loaded, warnings: usize, out: &mut dyn Write) -> std::io::Result<()> {
    let fleet = &loaded.config.fleet;
    for app in fleet.apps.values() {
        let names: Vec<String> = fleet.names_of.get(&app.id).into_iter().flatten().map(ToString::to_string).collect();
        writeln!(
            out,
            "{} ({}, {}): {}",
            app.id,
            app.failover.as_str(),
            names.join(" "),
            steering::worst_case(app).formula
        )?;
    }
    let rrsets: usize = loaded.zones.iter().map(|zone| zone.rrset_count()).sum();
    writeln!(
        out,
        "ok: {} with {}, {}, {}, {}",
        count(loaded.zones.len(), "zone"),
        count(rrsets, "RRset"),
        count(fleet.apps.len(), "application"),
        count(fleet.names.len(), "steered name"),
        count(warnings, "warning")
    )
}

/// `1 zone`, `2 zones`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
