//! Failures in words: one place that turns what went wrong into a class and a sentence.
//!
//! Every message is bounded, on one line, without secrets: the URL, headers, passwords and what was sent
//! are never part of it; what a peer said is cut short and its control characters are taken out.

use crate::model::{FailReason, Failure, Wall};
use nix::errno::Errno;
use std::io;

/// Most characters of a message.
const MESSAGE_CHARS_MAX: usize = 300;

/// The words for a connection that ended in order, too early.
pub(super) const CLOSED: &str = "connection closed by the peer";

/// A failure with its message made safe to show.
pub(super) fn failure(reason: FailReason, message: impl AsRef<str>) -> Failure {
    Failure {
        reason,
        message: clip(message.as_ref(), MESSAGE_CHARS_MAX),
    }
}

/// One line of at most `chars_max` characters, without control characters.
pub(super) fn clip(text: &str, chars_max: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text = text.trim_matches(|c: char| c.is_control() || c.is_whitespace());
    let mut chars = text.chars().map(clean);
    let mut short: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// Octets of a peer for a message, whatever they are.
pub(super) fn clip_bytes(bytes: &[u8], chars_max: usize) -> String {
    // Four octets a character at most; the rest cannot be shown anyway.
    let head = bytes.get(..chars_max.saturating_mul(4)).unwrap_or(bytes);
    clip(&String::from_utf8_lossy(head), chars_max)
}

/// A failure to connect, send or receive.
pub(super) fn io_failure(error: &io::Error) -> Failure {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset by the peer",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => CLOSED,
        io::ErrorKind::TimedOut => return failure(FailReason::Timeout, "the network gave up waiting for the peer"),
        _ => return io_other(error),
    };
    failure(FailReason::Connect, words)
}

/// What has no word of its own. Running out of something is ours, not the peer's.
fn io_other(error: &io::Error) -> Failure {
    let ours = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    if error.raw_os_error().map(Errno::from_raw).is_some_and(|code| ours.contains(&code)) {
        return failure(FailReason::Internal, format!("this node cannot open connections: {error}"));
    }
    failure(FailReason::Connect, format!("connection failed: {error}"))
}

/// A failure of TLS with the server `host`.
pub(super) fn tls_failure(error: &rustls::Error, host: &str) -> Failure {
    use rustls::Error as Tls;
    let words = match error {
        Tls::InvalidCertificate(problem) => certificate_words(problem, host),
        Tls::AlertReceived(alert) => format!("the server ended the TLS handshake with the alert {alert:?}"),
        Tls::InvalidMessage(_) => "the server does not answer with TLS".to_owned(),
        Tls::NoCertificatesPresented => "the server has no certificate".to_owned(),
        other => format!("TLS failed: {other}"),
    };
    failure(FailReason::Tls, words)
}

/// Why a certificate was not accepted.
fn certificate_words(problem: &rustls::CertificateError, host: &str) -> String {
    use rustls::CertificateError as Problem;
    let day = |time: &rustls_pki_types::UnixTime| Wall(time.as_secs().saturating_mul(1000)).to_string();
    let day = |time| day(time).split('T').next().unwrap_or_default().to_owned();
    match problem {
        Problem::Expired => format!("certificate for {host} expired"),
        Problem::ExpiredContext { not_after, .. } => format!("certificate for {host} expired on {}", day(not_after)),
        Problem::NotValidYet => format!("certificate for {host} is not valid yet"),
        Problem::NotValidYetContext { not_before, .. } => format!("certificate for {host} is not valid before {}", day(not_before)),
        Problem::NotValidForName => format!("certificate is not valid for {host}"),
        Problem::NotValidForNameContext { presented, .. } if presented.is_empty() => format!("certificate is not valid for {host}"),
        Problem::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().map(|name| name_of(name)).collect();
            format!("certificate is not valid for {host}, but for {}", names.join(", "))
        }
        Problem::UnknownIssuer => format!("certificate for {host} is signed by an unknown authority, or by itself"),
        Problem::BadSignature => format!("certificate for {host} is not signed by the authority that it names"),
        Problem::Revoked => format!("certificate for {host} is revoked"),
        // The verifier's own faults come as errors behind this one, and only their names say which.
        Problem::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            format!("certificate of {host} is an authority's own (CA:TRUE) and not a server's")
        }
        Problem::BadEncoding => format!("certificate of {host} cannot be read"),
        Problem::UnhandledCriticalExtension => format!("certificate for {host} has a critical extension that is not understood"),
        Problem::InvalidPurpose => format!("certificate for {host} is not meant for servers"),
        other => format!("certificate for {host} is not accepted: {other}"),
    }
}

/// The name in rustls' notation of a presented identifier: `DnsName("a.example")`.
fn name_of(presented: &str) -> &str {
    presented.split('"').nth(1).unwrap_or(presented)
}

/// The failure behind an error of a library, searched through its sources: TLS first, then the network.
pub(super) fn failure_in_chain(error: &(dyn std::error::Error + 'static), host: &str) -> Option<Failure> {
    let mut next = Some(error);
    let mut network = None;
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls_failure(tls, host));
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // `source` of such an error skips the error that it wraps.
            if let Some(found) = io.get_ref().and_then(|inner| failure_in_chain(inner, host)) {
                return Some(found);
            }
            network = Some(io_failure(io));
        }
        next = error.source();
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_bounded_line() {
        assert_eq!(clip(" a\nb\u{1b}[31m\0 ", 300), "a b [31m");
        assert_eq!(clip("äöü", 2), "äö…");
        assert_eq!(clip_bytes(b"caf\xff\n", 10), "caf\u{fffd}");
        let long = failure(FailReason::Status, "x".repeat(100_000));
        assert_eq!(long.message.chars().count(), MESSAGE_CHARS_MAX + 1);
    }

    #[test]
    fn errors_of_the_network_have_their_words() {
        let cases = [
            (io::ErrorKind::ConnectionRefused, FailReason::Connect, "connection refused"),
            (io::ErrorKind::UnexpectedEof, FailReason::Connect, "connection closed by the peer"),
            (
                io::ErrorKind::TimedOut,
                FailReason::Timeout,
                "the network gave up waiting for the peer",
            ),
        ];
        for (kind, reason, message) in cases {
            let wrapped = io::Error::other(io::Error::from(kind));
            let found = failure_in_chain(&wrapped, "x").unwrap();
            assert_eq!((found.reason, found.message.as_str()), (reason, message));
        }
        assert_eq!(io_failure(&io::Error::from_raw_os_error(libc::EMFILE)).reason, FailReason::Internal);
    }
}
