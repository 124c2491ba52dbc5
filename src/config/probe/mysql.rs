//! Reads the keys of `kind = "mysql"`.

use super::super::source::Findings;
use super::super::table::Table;
use super::super::value;
use super::{Read, expect, file, optional, or_default, port, secure};
use crate::model::{MysqlProbe, ProbeKind};

/// Reads the keys of `kind = "mysql"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.mysql");
    let port = table.value(findings, "port", port);
    let user = table.required(findings, "user", "user = \"probe\"", value::filled_text);
    let password_file = table.value(findings, "password-file", file);
    let query = table.value(findings, "query", value::filled_text);
    let (port, password_file, query) = (
        or_default(table, "port", port, 3306),
        optional(table, "password-file", password_file),
        optional(table, "query", query),
    );
    let tls = secure::read(table, findings, &[("off", None), ("require", Some(()))]);
    let facts = &["lag-seconds", "replicating", "result"];
    let expect = expect::facts(table, findings, "probe.mysql.expect", facts);
    let kind = ProbeKind::Mysql(MysqlProbe {
        port: port?,
        user: user?.value,
        password_file: password_file?,
        query: query?,
        tls: tls?.map(|((), options)| options),
    });
    let expect = expect?;
    Some(Read {
        expect,
        ..Read::plain(kind)
    })
}
