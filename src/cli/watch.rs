//! `watch`: the server's events, one line each, for as long as anybody looks.
//!
//! A lost connection is opened again, to whichever server answers, after a growing pause; what happened meanwhile is not repeated,
//! and that is said. When no server answers at the beginning, or one refuses, the command ends.

use super::client::{Answer, Client};
use super::outcome::{Failure, Outcome, complain, say};
use super::{explain_error, render};
use anyhow::anyhow;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// First and longest pause before the next try.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A stream that is silent for this long is taken for dead: servers send a comment far more often.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// Most octets of one event.
const EVENT_OCTETS_MAX: usize = 64 << 20;
/// Most octets of an error.
const ERROR_OCTETS_MAX: usize = 1 << 20;

/// Watches until it is ended.
pub(super) async fn watch(client: &Client, json: bool) -> Outcome {
    let mut pause = PAUSE_FIRST;
    let mut connected_once = false;
    loop {
        match client.listen("/v1/events").await {
            Ok((status, body, server)) if status.is_success() => {
                complain(&format!(
                    "watching {server}{}\n",
                    if connected_once {
                        " again; what happened meanwhile stands in the ledger"
                    } else {
                        ""
                    }
                ));
                connected_once = true;
                let (heard, lost) = follow(body, json).await?;
                if heard {
                    pause = PAUSE_FIRST;
                }
                complain(&format!("{server}: {lost:#}\n"));
            }
            Ok((status, body, server)) => return Err(rejected(status, body, server).await),
            Err(failure) if !connected_once => return Err(failure),
            Err(failure) => failure.print(),
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Prints events until the stream ends; whether anything was heard, and why it ended.
async fn follow(mut body: Incoming, json: bool) -> Outcome<(bool, anyhow::Error)> {
    let mut events = Events::default();
    let mut heard = false;
    loop {
        let octets = match timeout(SILENCE_MAX, body.frame()).await {
            Err(_) => return Ok((heard, anyhow!("silent for {SILENCE_MAX:?}"))),
            Ok(None) => return Ok((heard, anyhow!("the server ended the stream"))),
            Ok(Some(Err(error))) => return Ok((heard, anyhow!("connection lost: {error}"))),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        heard |= !octets.is_empty();
        let Ok(complete) = events.feed(&octets) else {
            return Ok((heard, anyhow!("an event without end")));
        };
        for (kind, data) in complete {
            if json {
                say(&format!("{data}\n"))?;
            } else {
                let value = serde_json::from_str(&data).unwrap_or(Value::String(data));
                say(&format!("{}\n", render::event(&kind, &value)))?;
            }
        }
    }
}

/// The failure of a stream that was not granted.
async fn rejected(status: StatusCode, body: Incoming, server: String) -> Failure {
    let body = match timeout(Duration::from_secs(10), Limited::new(body, ERROR_OCTETS_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    Failure::failed(explain_error(&Answer {
        status,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        server,
        uncertain: false,
    }))
}

/// Cuts a stream of octets into server-sent events (WHATWG HTML, section 9.2.6). Ids and retry times are not used.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The beginning of a line.
    line: Vec<u8>,
    /// Whether the last octet was a carriage return, whose line feed, if any, belongs to it.
    after_return: bool,
    /// The type of the event so far.
    kind: String,
    /// Its data lines so far.
    data: Option<String>,
}

/// An event that is longer than any server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Takes the next octets, gives the events that are complete: type and data.
    pub fn feed(&mut self, octets: &[u8]) -> Result<Vec<(String, String)>, TooLong> {
        let mut complete = Vec::new();
        for &octet in octets {
            let follows_return = std::mem::replace(&mut self.after_return, octet == b'\r');
            match octet {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => complete.extend(self.end_line()),
                _ => self.line.push(octet),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > EVENT_OCTETS_MAX {
                return Err(TooLong);
            }
        }
        Ok(complete)
    }

    /// A line is complete; an empty one ends an event.
    fn end_line(&mut self) -> Option<(String, String)> {
        let octets = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&octets);
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            return self.data.take().map(|data| (kind, data));
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, &mut self.data) {
            ("event", _) => self.kind = value.to_owned(),
            ("data", Some(data)) => {
                data.push('\n');
                data.push_str(value);
            }
            ("data", none) => *none = Some(value.to_owned()),
            // Comments have an empty field name; other fields are not used.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_the_octets_are_cut() {
        let stream = b": hello\n\nevent: entry\nid: 1\ndata: {\"a\":\ndata:1}\n\r\nevent: alert\r\ndata: x\r\n\r\ndata: last\rdata: y\r\r";
        let expected = [("entry", "{\"a\":\n1}"), ("alert", "x"), ("", "last\ny")]
            .map(|(kind, data)| (kind.to_owned(), data.to_owned()))
            .to_vec();
        for size in 1..stream.len() {
            let mut events = Events::default();
            let found: Vec<_> = stream.chunks(size).flat_map(|piece| events.feed(piece).unwrap()).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_that_did_not_end_is_not_shown() {
        assert_eq!(Events::default().feed(b"event: entry\ndata: {}\n"), Ok(Vec::new()));
    }
}
