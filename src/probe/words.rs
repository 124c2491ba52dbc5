//! Failures in words: one place that turns what went wrong into a class and a sentence.
//!
//! Every message is bounded, on one line, without secrets: the URL, headers, passwords and what was sent
//! are never part of it; what a peer said is cut short and its control characters are taken out.

use crate::model::{FailReason, Failure, Wall};
use nix::errno::Errno;
use std::io;

/// Most characters of a message.
const MESSAGE_CHARS_MAX: usize = 300;

/// Most characters of what a body says.
const SAYS_CHARS_MAX: usize = 120;
/// Most octets of a body in which that is looked for.
pub(super) const SAYS_OCTETS_MAX: usize = 2048;

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

/// What the body of an answer that failed says, where that is text: its first words, of HTML the title.
pub(super) fn says_of(body: &[u8]) -> Option<String> {
    // A few words in any encoding of characters; a character may be cut at the end.
    let head = body.get(..SAYS_OCTETS_MAX).unwrap_or(body);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    let text = match text.trim_start().starts_with('<') {
        false => text,
        true => {
            let lower = text.to_ascii_lowercase();
            let from = lower.find("<title>")? + "<title>".len();
            let to = from + lower.get(from..)?.find('<')?;
            text.get(from..to)?
        }
    };
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = clean.split_whitespace().collect::<Vec<&str>>().join(" ");
    (!line.is_empty()).then(|| clip(&line, SAYS_CHARS_MAX))
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
        io::ErrorKind::QuotaExceeded => return failure(FailReason::Protocol, "the server sends more octets than an answer may have"),
        io::ErrorKind::TimedOut => return failure(FailReason::Timeout, "the network gave up waiting for the peer"),
        _ => return io_other(error),
    };
    failure(FailReason::Connect, words)
}

/// What has no word of its own. Running out of something is ours, not the peer's: local ports and addresses (EADDRNOTAVAIL)
/// too, and so is what a packet filter of this node forbids (EPERM). EACCES is not: over IPv6 it is also what a filter on the way
/// says (ICMPv6 "administratively prohibited", RFC 4443 section 3.1), for which IPv4 has "host unreachable".
fn io_other(error: &io::Error) -> Failure {
    let ours = [
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOBUFS,
        Errno::ENOMEM,
        Errno::EADDRNOTAVAIL,
        Errno::EPERM,
    ];
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
        Tls::AlertReceived(rustls::AlertDescription::NoApplicationProtocol) => {
            "the server speaks none of the protocols that were offered".to_owned()
        }
        Tls::AlertReceived(rustls::AlertDescription::CertificateRequired) => "the server wants a client certificate".to_owned(),
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
        Problem::ExpiredContext { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            format!("certificate for {host} expired {} ago, on {}", span(ago), day(not_after))
        }
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

/// A length of time in its largest unit: `3 days`.
fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (length, unit) = units.into_iter().find(|(length, _)| seconds >= *length).unwrap_or((1, "second"));
    match seconds / length {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
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
    fn spans_of_time_have_their_largest_unit() {
        for (seconds, words) in [
            (0, "0 seconds"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7_200, "2 hours"),
            (86_399, "23 hours"),
            (86_400, "1 day"),
            (3 * 86_400 + 5, "3 days"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }

    #[test]
    fn what_a_body_says_is_one_line_of_text() {
        for (body, says) in [
            (&b"db: standby\n"[..], Some("db: standby")),
            (b"  two\r\n\tlines \x1b[31m", Some("two lines [31m")),
            (b"", None),
            (b" \n ", None),
            (b"\xff\xfe\x00\x01", None),
            (b"<html><body>maintenance</body></html>", None),
            (b"<!doctype html>\n<TITLE>\n 503 Sorry </TITLE><h1>x</h1>", Some("503 Sorry")),
            (b"<html><title></title>", None),
            (br#"{"db":"down"}"#, Some(r#"{"db":"down"}"#)),
        ] {
            assert_eq!(says_of(body).as_deref(), says, "{}", String::from_utf8_lossy(body));
        }
        let long = says_of("ä".repeat(1000).as_bytes()).unwrap();
        assert_eq!(long.chars().count(), SAYS_CHARS_MAX + 1);
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
        let reason = |code| io_failure(&io::Error::from_raw_os_error(code)).reason;
        for ours in [libc::EMFILE, libc::EADDRNOTAVAIL, libc::EPERM] {
            assert_eq!(reason(ours), FailReason::Internal, "{ours}");
        }
        assert_eq!(reason(libc::EACCES), FailReason::Connect);
    }
}
