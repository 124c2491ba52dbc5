//! `kind = "exec"`: a program of the operator's; exit code 0, or one of those that the config names, passes.
//!
//! What it writes to its standard output is the body of its answer: for `expect`, `role` and `value`, when it is not longer
//! than 64 KiB, and its last line for people. Standard error is for people only, when the output says nothing.
//!
//! The program gets its argument vector as written, no shell in between; `{address}`, `{region}` and
//! `{endpoint}` in an argument are replaced. It runs in a process group of its own, which is killed whole
//! when the run ends, however it ends: at the time limit, when the probe goes, and also when the program is
//! done, so that it leaves no children behind. The signal is KILL, since a program that has overrun its time
//! was given its chance. A child that makes itself a session of its own escapes; it cannot delay the outcome.

use super::words::{clip_bytes, failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{ExecProbe, Exposed, FailReason, Failure, ProbeTarget};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How much of the end of the output is kept while the program runs.
const OUTPUT_OCTETS_MAX: usize = 8_192;
/// Most octets of the output where it is looked at as a body.
const BODY_OCTETS_MAX: usize = 65_536;
/// Most characters of the output in a message.
const OUTPUT_CHARS_MAX: usize = 200;
/// How long output is waited for after the program ended: one that escaped may hold the pipe open.
const OUTPUT_AFTER_END: Duration = Duration::from_millis(100);

/// One probe at one address.
pub(super) struct Exec {
    /// Program and arguments, filled in.
    command: Vec<String>,
    /// Exit codes that pass.
    exit_codes: Vec<u8>,
    /// Whether anything looks at the output.
    looks: bool,
}

/// Kills the process group when it goes.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // The group may be empty by now: no such process is fine. Its number cannot belong to others yet unless
        // all process ids went round in the moment since its leader was waited for.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

impl Exec {
    /// The probe at its target.
    pub fn new(probe: &ExecProbe, looks: bool, target: &ProbeTarget) -> Exec {
        let places = [
            ("{address}", target.address.to_string()),
            ("{region}", target.region.to_string()),
            ("{endpoint}", target.endpoint.to_string()),
        ];
        let fill = |(place, text): (usize, &String)| match place {
            0 => text.clone(),
            _ => fill(text, &places),
        };
        Exec {
            command: probe.command.iter().enumerate().map(fill).collect(),
            exit_codes: probe.exit_codes.clone(),
            looks,
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Found {
        let mut exposed = Exposed::default();
        let result = self.execute(stage, &mut exposed).await;
        Found {
            result,
            observed: None,
            exposed,
        }
    }

    /// Runs the program to its end.
    async fn execute(&self, stage: &Stage, exposed: &mut Exposed) -> Result<String, Failure> {
        stage.set("program has not ended");
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(failure(FailReason::Internal, "no program is given"));
        };
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What systemd told this process is not meant for its probes.
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID");
        let cannot = |error: std::io::Error| failure(FailReason::Internal, format!("cannot run {program}: {error}"));
        let mut child = command.spawn().map_err(cannot)?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let group = pid.map(|pid| Group(Pid::from_raw(pid)));
        let (mut out, mut err) = (Output::new(if self.looks { BODY_OCTETS_MAX } else { 0 }), Output::new(0));
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let status = {
            let output = async { tokio::join!(out.keep(stdout.as_mut()), err.keep(stderr.as_mut())) };
            tokio::pin!(output);
            let (status, open) = tokio::select! {
                status = child.wait() => (status, true),
                _ = &mut output => (child.wait().await, false),
            };
            // Also those that it left behind, and with them their ends of the pipes.
            drop(group);
            if open {
                let _ = tokio::time::timeout(OUTPUT_AFTER_END, output).await;
            }
            status.map_err(cannot)?
        };
        if let Some(code) = status.code() {
            exposed.fact("exit-code", code);
        }
        let (out_end, err_end) = (last_line(&out.end), last_line(&err.end));
        if self.looks {
            exposed.set_body(out.body());
        }
        self.judge(status, out_end, err_end)
    }

    /// The exit code decides; the last line of the output, else of the errors, says why.
    fn judge(&self, status: ExitStatus, out: Option<String>, err: Option<String>) -> Result<String, Failure> {
        let passes = |code| u8::try_from(code).is_ok_and(|code| self.exit_codes.contains(&code));
        let mut end = match (status.code(), status.signal()) {
            (Some(code), _) if passes(code) => return Ok(out.unwrap_or_else(|| format!("exit code {code}"))),
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => match Signal::try_from(signal) {
                Ok(name) => format!("killed by {name}"),
                Err(_) => format!("killed by signal {signal}"),
            },
            (None, None) => "ended without exit code".to_owned(),
        };
        if self.exit_codes != [0] {
            let codes: Vec<String> = self.exit_codes.iter().map(u8::to_string).collect();
            end.push_str(&format!(", expected {}", codes.join(" or ")));
        }
        let message = match out.or(err) {
            Some(line) => format!("{end}: {line}"),
            None => end,
        };
        Err(failure(FailReason::Status, message))
    }
}

/// What a program writes: all of it as far as it may go, and its end.
struct Output {
    /// From the beginning.
    head: Vec<u8>,
    /// Most octets of the head.
    head_max: usize,
    /// How many octets there were.
    count: usize,
    /// The last ones.
    end: Vec<u8>,
}

impl Output {
    /// Nothing yet.
    fn new(head_max: usize) -> Output {
        Output {
            head: Vec::new(),
            head_max,
            count: 0,
            end: Vec::new(),
        }
    }

    /// Reads to the end.
    async fn keep(&mut self, pipe: Option<&mut (impl AsyncRead + Unpin)>) {
        let Some(pipe) = pipe else {
            return;
        };
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            let new = buffer.get(..count).unwrap_or_default();
            let room = self.head_max.saturating_sub(self.head.len());
            self.head.extend_from_slice(new.get(..room).unwrap_or(new));
            self.count = self.count.saturating_add(count);
            self.end.extend_from_slice(new);
            let over = self.end.len().saturating_sub(OUTPUT_OCTETS_MAX);
            self.end.drain(..over);
        }
    }

    /// All of it.
    fn body(self) -> Result<Vec<u8>, Failure> {
        match self.count > self.head_max {
            true => Err(failure(
                FailReason::Content,
                format!("output is longer than {} octets", self.head_max),
            )),
            false => Ok(self.head),
        }
    }
}

impl Kind for Exec {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(self.check(stage))
    }
}

/// Replaces the placeholders in one pass, so that what was filled in is not filled in again.
fn fill(text: &str, places: &[(&str, String)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, brace) = rest.split_at(at);
        filled.push_str(before);
        match places.iter().find_map(|(name, value)| Some((value, brace.strip_prefix(name)?))) {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = brace.strip_prefix('{').unwrap_or_default();
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// The last line with something on it.
fn last_line(output: &[u8]) -> Option<String> {
    let mut lines = output.split(|byte| *byte == b'\n').rev();
    let line = lines.find(|line| !line.trim_ascii().is_empty())?;
    Some(clip_bytes(line, OUTPUT_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_once() {
        let places = [("{address}", "{region}".to_owned()), ("{region}", "fra".to_owned())];
        let cases = [
            ("{address}", "{region}"),
            ("a{region}b{region}c", "afrabfrac"),
            ("{other} {", "{other} {"),
            ("{{region}}", "{fra}"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(fill(text, &places), expected);
        }
    }

    #[test]
    fn the_last_line_with_something_on_it_counts() {
        assert_eq!(last_line(b"one\ntwo\n \n\n"), Some("two".to_owned()));
        assert_eq!(last_line(b" \n"), None);
    }
}
