//! Reads the keys of `kind = "postgres"`.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value;
use super::{Read, expect, file, optional, or_default, port, secure};
use crate::model::{PostgresProbe, ProbeKind};

/// Reads the keys of `kind = "postgres"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.postgres");
    let port = table.value(findings, "port", port);
    let user = table.required(findings, "user", "user = \"probe\"", value::filled_text);
    let password_file = table.value(findings, "password-file", file);
    let database = table.required(findings, "database", "database = \"shop\"", value::filled_text);
    let query = table.value(findings, "query", value::filled_text);
    let (port, password_file, query) = (
        or_default(table, "port", port, 5432),
        optional(table, "password-file", password_file),
        optional(table, "query", query),
    );
    let tls = secure::read(table, findings, &[("off", None), ("require", Some(()))]);
    let facts = &["lag-bytes", "lag-seconds", "replicating", "result"];
    let expect = expect::facts(table, findings, "probe.postgres.expect", facts);
    let kind = ProbeKind::Postgres(PostgresProbe {
        port: port?,
        user: user?.value,
        password_file: password_file?,
        database: database?.value,
        query: query?,
        tls: tls?.map(|((), options)| options),
    });
    let expect = expect?;
    Some(Read {
        expect,
        ..Read::plain(kind)
    })
}
