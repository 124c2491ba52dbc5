//! Reads the keys of `kind = "smtp"`.

use super::super::source::Findings;
use super::super::table::Table;
use super::{Read, expect, or_default, port, secure};
use crate::model::{Expect, ProbeKind, SmtpProbe, SmtpTls, Source};

/// When TLS begins, in words.
const TLS: &[(&str, Option<SmtpTls>)] = &[
    ("off", None),
    ("starttls", Some(SmtpTls::Start)),
    ("implicit", Some(SmtpTls::Implicit)),
];

/// Reads the keys of `kind = "smtp"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.smtp");
    let port = table.value(findings, "port", port);
    let tls = secure::read(table, findings, TLS);
    // RFC 8314 section 3.3 for submission that begins with TLS.
    let usual = match &tls {
        Some(Some((SmtpTls::Implicit, _))) => 465,
        _ => 25,
    };
    let port = or_default(table, "port", port, usual);
    let expect = expect::facts(table, findings, "probe.smtp.expect", &["banner", "certificate-days"]);
    let days = |expect: &Expect| expect.source == Source::Fact("certificate-days");
    if matches!(tls, Some(None)) && expect.iter().flatten().any(days) {
        findings
            .error(table.key_span("expect"), "`certificate-days` is not known without TLS")
            .hint("write tls = \"starttls\" or \"implicit\"");
    }
    let kind = ProbeKind::Smtp(SmtpProbe { port: port?, tls: tls? });
    let expect = expect?;
    Some(Read {
        expect,
        ..Read::plain(kind)
    })
}
