//! Reads `tls`, `ca` and `server-name` of the kinds that speak TLS when they are told to, and what a probe shows of itself.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value::{self, Bad};
use super::{file, optional, or_default};
use crate::model::{Identity, TlsOptions};
use std::net::IpAddr;
use toml::de::DeValue;

/// Reads them; the words of `tls` with what each means. TLS is verified or not spoken at all: one that is used where it
/// is offered protects from nobody.
pub(super) fn read<T: Copy>(
    table: &mut Table<'_>,
    findings: &mut Findings<'_>,
    words: &[(&str, Option<T>)],
) -> Option<Option<(T, TlsOptions)>> {
    let tls = table.value(findings, "tls", |value| value::word(value, words));
    let ca = table.value(findings, "ca", file);
    let server_name = table.value(findings, "server-name", server_name);
    let tls = or_default(table, "tls", tls, None);
    if matches!(tls, Some(None)) {
        let on: Vec<String> = words
            .iter()
            .filter(|(_, on)| on.is_some())
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let given = [("ca", ca.is_some()), ("server-name", server_name.is_some())];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            findings
                .error(table.key_span(key), format!("`{key}` is of no use without TLS"))
                .hint(format!("write tls = {}", on.join(" or ")));
        }
    }
    let (ca, server_name) = (optional(table, "ca", ca), optional(table, "server-name", server_name));
    let (tls, ca, server_name) = (tls?, ca?, server_name?);
    Some(tls.map(|tls| (tls, TlsOptions { ca, server_name })))
}

/// Reads `client-cert` and `client-key`: both or neither. The outer `None` where something was reported.
pub(super) fn identity(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Option<Identity>> {
    let cert = table.value(findings, "client-cert", file);
    let key = table.value(findings, "client-key", file);
    if table.is_bad("client-cert") || table.is_bad("client-key") {
        return None;
    }
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let (cert, key) = (cert.value, key.value);
            Some(Some(Identity { cert, key }))
        }
        (None, None) => Some(None),
        (cert, _) => {
            let (given, absent) = if cert.is_some() {
                ("client-cert", "client-key")
            } else {
                ("client-key", "client-cert")
            };
            findings
                .error(table.key_span(given), format!("`{given}` is of no use without `{absent}`"))
                .hint(format!("write {absent} = \"client.pem\" too; both may be the same file"));
            None
        }
    }
}

/// Reads `server-name`: an address or a host name, kept as certificates have it, without the final dot.
pub(super) fn server_name(value: &DeValue<'_>) -> Result<String, Bad> {
    if let Ok(address) = value::text(value)?.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let name = value::host_name(value)?;
    match name.is_wildcard() {
        true => Err(Bad::new("must not be a wildcard")),
        false => Ok(name.to_string().trim_end_matches('.').to_owned()),
    }
}
