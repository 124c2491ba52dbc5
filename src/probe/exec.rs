//! `kind = "exec"`: a program of the operator's; exit code 0 passes.
//!
//! The program gets its argument vector as written, no shell in between; `{address}`, `{region}` and
//! `{endpoint}` in an argument are replaced. It runs in a process group of its own, which is killed whole
//! when the run ends, however it ends: at the time limit, when the probe goes, and also when the program is
//! done, so that it leaves no children behind. The signal is KILL, since a program that has overrun its time
//! was given its chance. A child that makes itself a session of its own escapes; it cannot delay the outcome.

use super::words::{clip_bytes, failure};
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{ExecProbe, FailReason, Failure, ProbeTarget};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// How much of the end of the output is kept while the program runs.
const OUTPUT_OCTETS_MAX: usize = 8_192;
/// Most characters of the output in a message.
const OUTPUT_CHARS_MAX: usize = 200;
/// How long output is waited for after the program ended: one that escaped may hold the pipe open.
const OUTPUT_AFTER_END: Duration = Duration::from_millis(100);

/// One probe at one address.
pub(super) struct Exec {
    /// Program and arguments, filled in.
    command: Vec<String>,
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
    pub fn new(probe: &ExecProbe, target: &ProbeTarget) -> Exec {
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
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Result<String, Failure> {
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
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let status = {
            let output = async { tokio::join!(keep_end(stdout.as_mut(), &mut out), keep_end(stderr.as_mut(), &mut err)) };
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
        judge(status, &out, &err)
    }
}

impl Kind for Exec {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(async move { Found::of(self.check(stage).await) })
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

/// Reads to the end and keeps the last octets.
async fn keep_end(pipe: Option<&mut (impl AsyncRead + Unpin)>, kept: &mut Vec<u8>) {
    let Some(pipe) = pipe else {
        return;
    };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let over = kept.len().saturating_sub(OUTPUT_OCTETS_MAX);
        kept.drain(..over);
    }
}

/// Exit code 0 passes; otherwise the last line of the output, else of the errors, says why.
fn judge(status: ExitStatus, out: &[u8], err: &[u8]) -> Result<String, Failure> {
    if status.success() {
        return Ok(last_line(out).unwrap_or_else(|| "exit code 0".to_owned()));
    }
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(name) => format!("killed by {name}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => "ended without exit code".to_owned(),
    };
    let message = match last_line(out).or_else(|| last_line(err)) {
        Some(line) => format!("{end}: {line}"),
        None => end,
    };
    Err(failure(FailReason::Status, message))
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
