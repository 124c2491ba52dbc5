//! Logs to standard error: for people on a terminal, JSON elsewhere. Filter: `POINTSMAN_LOG`, default `info`.
//!
//! The lanes never log. A standard error that nobody reads can block whoever writes to it; a closed one is ignored.

use std::error::Error;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Environment variable with the filter, e.g. `pointsman=debug,info`.
const FILTER_VARIABLE: &str = "POINTSMAN_LOG";

/// Sets the process' logger up; a second call does nothing. An unreadable filter is told and `info` used.
pub fn init_logging() {
    let (filter, complaint) = match std::env::var(FILTER_VARIABLE) {
        Err(_) => (EnvFilter::new("info"), None),
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (
                EnvFilter::new("info"),
                Some(format!("{FILTER_VARIABLE}={text:?} is no filter ({error}); using \"info\"")),
            ),
        },
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = if std::io::stderr().is_terminal() {
        builder
            .with_target(false)
            .with_ansi(std::env::var_os("NO_COLOR").is_none())
            .try_init()
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init()
    };
    if let (Ok(()), Some(complaint)) = (done, complaint) {
        tracing::warn!("{complaint}");
    }
}

/// An error with its causes, once: `cannot write: disk full: No space left on device`.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once() {
        assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }
}
