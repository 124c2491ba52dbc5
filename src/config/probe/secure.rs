//! Reads `tls`, `ca` and `server-name` of the kinds that speak TLS when they are told to.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value::{self, Bad};
use super::{file, optional, or_default};
use crate::model::TlsOptions;
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
