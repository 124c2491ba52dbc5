//! Reads the keys of `kind = "tcp"`.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value;
use super::{Read, optional, port};
use crate::model::{ProbeKind, TcpProbe};
use toml::de::DeValue;

/// Reads the keys of `kind = "tcp"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.tcp");
    let port = table.required(findings, "port", "port = 443", port);
    let octets = |value: &DeValue<'_>| value::filled_text(value).map(String::into_bytes);
    let send = table.value(findings, "send", octets);
    let expect = table.value(findings, "expect", octets);
    let (send, expect) = (optional(table, "send", send), optional(table, "expect", expect));
    Some(Read::plain(ProbeKind::Tcp(TcpProbe {
        port: port?.value,
        send: send?,
        expect: expect?,
    })))
}
