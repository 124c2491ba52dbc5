//! Logs to standard error: for people on a terminal, JSON elsewhere. Filter: `POINTSMAN_LOG`, default `info`.
//!
//! A level alone is the server's own: of the libraries underneath it lets errors through only. TLS, HTTP/2 and QUIC warn of what a client
//! does as often as he does it, so that a few octets each would fill a log with lines, and the disk behind it. A filter that names
//! targets (`info,h2=warn`) is taken as it stands.
//!
//! The lanes never log. A standard error that nobody reads can block whoever writes to it; a closed one is ignored.

use std::error::Error;
use std::io::IsTerminal;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Environment variable with the filter, e.g. `pointsman=debug,info`.
const FILTER_VARIABLE: &str = "POINTSMAN_LOG";
/// The level where none is set.
const LEVEL: LevelFilter = LevelFilter::INFO;

/// Sets the process' logger up; a second call does nothing. An unreadable filter is told and `info` used.
pub fn init_logging() {
    let (filter, complaint) = match std::env::var(FILTER_VARIABLE) {
        Err(_) => (own(LEVEL), None),
        Ok(text) => match filter(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (
                own(LEVEL),
                Some(format!("{FILTER_VARIABLE}={text:?} is no filter ({error}); using \"{LEVEL}\"")),
            ),
        },
    };
    let lines = layer().with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() {
        lines.with_target(false).with_ansi(std::env::var_os("NO_COLOR").is_none()).boxed()
    } else {
        let lines = lines.json().flatten_event(true);
        lines.with_current_span(false).with_span_list(false).boxed()
    };
    let done = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    if let (Ok(()), Some(complaint)) = (done, complaint) {
        tracing::warn!("{complaint}");
    }
}

/// What a filter lets through. A level alone leaves the libraries their errors.
///
/// # Errors
/// When it is neither a level nor a list of `target=level`. A word alone could be a target too, but is a mistyped level, which
/// would leave the log empty.
fn filter(text: &str) -> Result<Targets, String> {
    match text.trim().parse() {
        _ if text.trim().is_empty() => Ok(own(LEVEL)), // as good as not set
        Ok(level) => Ok(own(level)),
        Err(_) if text.contains('=') => text.parse().map_err(|error: ParseError| error.to_string()),
        Err(_) => Err("a level (off, error, warn, info, debug, trace) or a list of target=level is needed".to_owned()),
    }
}

/// The server's own lines to this level, and of the libraries no more than errors.
fn own(level: LevelFilter) -> Targets {
    let of_libraries = level.min(LevelFilter::ERROR);
    Targets::new()
        .with_default(of_libraries)
        .with_target(env!("CARGO_CRATE_NAME"), level)
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
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    /// Which of four events a filter lets through, the server's own in capitals: its info and debug, a library's error and warning.
    fn told(text: &str) -> String {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl Write for Log {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(octets)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let lines = layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter(text).unwrap()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "pointsman::dns", "<I>");
            tracing::debug!(target: "pointsman", "<D>");
            tracing::error!(target: "quinn::endpoint", "<e>");
            tracing::warn!(target: "rustls::common_state", "<w>");
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let marks = ["<I>", "<D>", "<e>", "<w>"].into_iter().filter(|mark| text.contains(mark));
        marks.map(|mark| &mark[1..2]).collect()
    }

    #[test]
    fn a_level_alone_is_the_server_s_own_and_leaves_libraries_their_errors() {
        for (text, expected) in [
            ("info", "Ie"),
            (" INFO ", "Ie"),
            ("", "Ie"),
            ("debug", "IDe"),
            ("error", "e"),
            ("off", ""),
            ("info,rustls=warn", "Iew"),
            ("pointsman=debug,warn", "IDew"),
        ] {
            assert_eq!(told(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for text in ["info,", "loud", "inof", "pointsman=loud", "pointsman=debug=info"] {
            assert!(filter(text).is_err(), "{text:?}: {:?}", filter(text));
        }
    }

    #[test]
    fn causes_are_told_once() {
        assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }
}
