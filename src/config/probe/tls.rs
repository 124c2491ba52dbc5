//! Reads the keys of `kind = "tls"`.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value::{self, Bad};
use super::{Read, expect, file, optional, or_default, port, secure};
use crate::model::{ProbeKind, TlsOptions, TlsProbe};
use toml::de::DeValue;

/// Reads the keys of `kind = "tls"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.tls");
    let port = table.value(findings, "port", port);
    let server_name = table.value(findings, "server-name", secure::server_name);
    let ca = table.value(findings, "ca", file);
    let identity = secure::identity(table, findings);
    let alpn = table.array(findings, "alpn", "an array of names of protocols", protocol);
    let (port, server_name, ca, alpn) = (
        or_default(table, "port", port, 443),
        optional(table, "server-name", server_name),
        optional(table, "ca", ca),
        or_default(table, "alpn", alpn, Vec::new()),
    );
    let mut expects = Vec::new();
    if let Some((entries, span)) = table.table(findings, "expect") {
        let mut inner = Table::new(entries, span, "probe.tls.expect");
        expect::certificate_days(&mut inner, findings, &mut expects);
        expect::fact(&mut inner, findings, "chain-length", &mut expects);
        expect::fact(&mut inner, findings, "alpn", &mut expects);
        if alpn.as_ref().is_some_and(Vec::is_empty) && entries.contains_key("alpn") {
            findings
                .error(inner.key_span("alpn"), "`alpn` can never hold: no protocol is offered")
                .hint("write alpn = [\"h2\"] beside `expect`");
        }
        inner.finish(findings);
    }
    let wrong = table.is_bad("expect");
    let kind = ProbeKind::Tls(Box::new(TlsProbe {
        port: port?,
        options: TlsOptions {
            ca: ca?,
            server_name: server_name?,
        },
        identity: identity?,
        alpn: alpn?.into_iter().map(|protocol| protocol.value).collect(),
    }));
    (!wrong).then(|| Read {
        expect: expects,
        ..Read::plain(kind)
    })
}

/// Reads the name of a protocol (RFC 7301 section 3.1): 1 to 255 octets.
fn protocol(value: &DeValue<'_>) -> Result<String, Bad> {
    match value::filled_text(value)? {
        name if name.len() > 255 => Err(Bad::new("must have at most 255 octets")),
        name => Ok(name),
    }
}
