//! `ledger log|show|verify|export`: over a server's ledger, or over the file of a data dir without one.
//!
//! Both ways go through the same verifier: lines of the file as they stand, entries of a server as the lines that they are written
//! as. An entry that does not verify ends every verb but `log` and `show` of a server, which has verified them itself.

use super::args::{Connection, LedgerVerb, Source};
use super::client::Client;
use super::outcome::{Failure, Outcome, complain, say, written};
use super::{accept, render, say_json};
use crate::ledger::{Entry, Hash, Receipt, Scan, Scanner};
use crate::store::ledger_path;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Entries asked for at a time.
const PAGE: u64 = 500;
/// Octets read at a time.
const CHUNK_OCTETS: usize = 1 << 20;

/// Does what was asked.
pub(super) async fn perform(connection: &Connection, verb: LedgerVerb) -> Outcome {
    match verb {
        LedgerVerb::Log {
            source,
            after,
            limit,
            json,
        } => {
            let entries = match dir(&source) {
                Some(dir) => log_of_file(&dir, after, limit)?,
                None => log_of_server(&Client::new(connection)?, after, limit).await?,
            };
            if json {
                say_json(&json!({ "items": entries }))
            } else {
                say(&render::log(&entries))
            }
        }
        LedgerVerb::Show { seq, source, json } => {
            let found = match dir(&source) {
                Some(dir) => log_of_file(&dir, Some(seq.saturating_sub(1)), 1)?,
                None => log_of_server(&Client::new(connection)?, Some(seq.saturating_sub(1)), 1).await?,
            };
            let entry = found.first().filter(|entry| entry.get("seq").and_then(Value::as_u64) == Some(seq));
            let entry = entry.ok_or_else(|| Failure::failed(format!("the ledger has no entry {seq}")))?;
            if json { say_json(entry) } else { say(&render::entry(entry)) }
        }
        LedgerVerb::Verify { source, expect, json } => {
            let mut found = None;
            let mut note = |entry: Entry| {
                if expect.is_some_and(|receipt| receipt.seq == entry.seq) {
                    found = Some(entry.hash);
                }
                Ok(())
            };
            let scanned = match dir(&source) {
                Some(dir) => scan_file(&dir, &mut note),
                None => scan_server(&Client::new(connection)?, &mut note).await,
            };
            let scan = match scanned {
                Ok(scan) => scan,
                Err(failure) => {
                    if json && let Failure::Failed(error) = &failure {
                        let _ = say_json(&json!({ "ok": false, "message": format!("{error:#}") }));
                    }
                    return Err(failure);
                }
            };
            report(&scan, expect, found, json)
        }
        LedgerVerb::Export { source } => {
            // Octet for octet, and not line by line: a ledger can be long.
            let mut out = BufWriter::new(std::io::stdout());
            let mut print = |entry: Entry| {
                let line = entry
                    .line()
                    .map_err(|error| Failure::failed(format!("entry {}: {error}", entry.seq)))?;
                written(out.write_all(&line))
            };
            let scanned = match dir(&source) {
                Some(dir) => scan_file(&dir, &mut print),
                None => scan_server(&Client::new(connection)?, &mut print).await,
            };
            // What verified is printed, whatever came after it.
            let flushed = written(out.flush());
            scanned?;
            flushed
        }
    }
}

/// The data dir to read, if any.
fn dir(source: &Source) -> Option<PathBuf> {
    source.data_dir.clone()
}

/// What verification found. The verdict stands, whether or not anybody reads it.
fn report(scan: &Scan, expect: Option<Receipt>, found: Option<Hash>, json: bool) -> Outcome {
    let head = scan.chain.head();
    let wrong = expect.and_then(|receipt| scan.check(receipt, found).err());
    let mut said = Ok(());
    if json {
        let mut report = json!({ "ok": wrong.is_none(), "entries": head.seq.0, "head": head.to_string(), "torn_octets": scan.torn.len() });
        if let (Some(wrong), Some(members)) = (&wrong, report.as_object_mut()) {
            members.insert("message".to_owned(), wrong.to_string().into());
        }
        said = say_json(&report);
    }
    if let Some(wrong) = wrong {
        return Err(Failure::failed(wrong));
    }
    if !scan.torn.is_empty() {
        complain(&format!(
            "the last line is incomplete ({} octets): being written just now, or torn by a crash and never acknowledged; the next start keeps it aside\n",
            scan.torn.len()
        ));
    }
    if json {
        return said;
    }
    let kept = if expect.is_some() { ", the receipt stands in it" } else { "" };
    say(&format!("ok: {} verified{kept}\nhead {head}\n", entries(head.seq.0)))
}

/// `1 entry`, `2 entries`.
fn entries(number: u64) -> String {
    if number == 1 {
        "1 entry".to_owned()
    } else {
        format!("{number} entries")
    }
}

/// Takes an entry; its failure ends the scan.
type Sink<'a> = dyn FnMut(Entry) -> Outcome + Send + 'a;

/// Verifies the ledger of a data dir.
fn scan_file(dir: &Path, sink: &mut Sink<'_>) -> Outcome<Scan> {
    let path = ledger_path(dir);
    let reading = || format!("reading {}", path.display());
    let mut file = File::open(&path).with_context(reading)?;
    let bar = progress(file.metadata().with_context(reading)?.len(), "{bytes}/{total_bytes}");
    let mut scanner = Scanner::new();
    let mut chunk = vec![0; CHUNK_OCTETS];
    let corrupt = |error| Failure::failed(format!("{}: {error}", path.display()));
    loop {
        let octets = file.read(&mut chunk).with_context(reading)?;
        let Some(read) = chunk.get(..octets).filter(|read| !read.is_empty()) else {
            break;
        };
        feed(&mut scanner, read, sink).map_err(|stop| stop.into_failure(corrupt))?;
        bar.inc(octets as u64);
    }
    bar.finish_and_clear();
    scanner.finish().map_err(corrupt)
}

/// Verifies the ledger of a server: each entry as the line that it was written as.
async fn scan_server(client: &Client, sink: &mut Sink<'_>) -> Outcome<Scan> {
    let status = accept(client.get("/v1/status").await?)?;
    let bar = progress(status.get("seq").and_then(Value::as_u64).unwrap_or(0), "{pos}/{len} entries");
    let corrupt = |error| Failure::failed(format!("the server's ledger: {error}"));
    let mut scanner = Scanner::new();
    loop {
        let after = scanner.chain().head().seq.0;
        let page = accept(client.get(&format!("/v1/ledger?after={after}&limit={PAGE}")).await?)?;
        let items = render::list(&page, "items");
        for item in items {
            let line = format!("{item}\n");
            feed(&mut scanner, line.as_bytes(), sink).map_err(|stop| stop.into_failure(corrupt))?;
            bar.inc(1);
        }
        if items.is_empty() {
            break;
        }
    }
    bar.finish_and_clear();
    scanner.finish().map_err(corrupt)
}

/// Why a scan stopped.
enum Stop {
    /// An entry does not verify.
    Corrupt(crate::ledger::Corruption),
    /// The sink had enough.
    Sink(Failure),
}

impl Stop {
    /// As the end of the command.
    fn into_failure(self, corrupt: impl FnOnce(crate::ledger::Corruption) -> Failure) -> Failure {
        match self {
            Stop::Corrupt(error) => corrupt(error),
            Stop::Sink(failure) => failure,
        }
    }
}

/// Feeds octets to a scanner. The entries before a corrupt one reach the sink.
fn feed(scanner: &mut Scanner, octets: &[u8], sink: &mut Sink<'_>) -> Result<(), Stop> {
    let mut taken = Ok(());
    let fed = scanner.feed(octets, &mut |entry, _offset| {
        if taken.is_ok() {
            taken = sink(entry);
        }
    });
    taken.map_err(Stop::Sink)?;
    fed.map_err(Stop::Corrupt)
}

/// A bar on standard error; nothing where that is no terminal.
fn progress(total: u64, counted: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template(&format!("verifying {{wide_bar}} {counted} {{eta}}")) {
        bar.set_style(style);
    }
    bar
}

/// Entries of a data dir: those after `after`, without it the last ones.
fn log_of_file(dir: &Path, after: Option<u64>, limit: u64) -> Outcome<Vec<Value>> {
    let mut kept: VecDeque<Entry> = VecDeque::new();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut keep = |entry: Entry| {
        match after {
            Some(after) if entry.seq.0 <= after || kept.len() >= limit => {}
            Some(_) => kept.push_back(entry),
            None => {
                kept.push_back(entry);
                if kept.len() > limit {
                    kept.pop_front();
                }
            }
        }
        Ok(())
    };
    scan_file(dir, &mut keep)?;
    let show = |entry: &Entry| serde_json::to_value(entry).map_err(|error| Failure::failed(format!("entry {}: {error}", entry.seq)));
    kept.iter().map(show).collect()
}

/// Entries of a server: those after `after`, without it the last ones.
async fn log_of_server(client: &Client, after: Option<u64>, limit: u64) -> Outcome<Vec<Value>> {
    let mut after = match after {
        Some(after) => after,
        None => {
            let status = accept(client.get("/v1/status").await?)?;
            status.get("seq").and_then(Value::as_u64).unwrap_or(0).saturating_sub(limit)
        }
    };
    let mut entries = Vec::new();
    loop {
        let wanted = limit.saturating_sub(entries.len() as u64).min(PAGE);
        if wanted == 0 {
            return Ok(entries);
        }
        let page = accept(client.get(&format!("/v1/ledger?after={after}&limit={wanted}")).await?)?;
        let items = render::list(&page, "items");
        let last = items.last().and_then(|entry| entry.get("seq")).and_then(Value::as_u64);
        entries.extend(items.iter().cloned());
        match last {
            Some(last) if last > after => after = last,
            _ => return Ok(entries),
        }
    }
}
