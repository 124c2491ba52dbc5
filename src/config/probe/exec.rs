//! Reads the keys of `kind = "exec"`.

use super::super::source::Findings;
use super::super::table::{Table, shorten};
use super::super::value::{self, Bad};
use super::Read;
use super::expect::{self, Sources};
use crate::model::{ExecProbe, Expect, ProbeKind, Source};
use toml::de::DeValue;

/// Where a role or a value may stand: in the output.
const SOURCES: Sources = Sources {
    headers: false,
    status: false,
};

/// Reads the keys of `kind = "exec"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.exec");
    let command = table.array(findings, "command", "an array: the program and its arguments", |value| {
        let argument = value::text(value)?;
        match argument.contains('\0') {
            true => Err(Bad::new("must not contain a NUL")),
            false => Ok(argument),
        }
    });
    let expect = read_expect(table, findings);
    let role = expect::role(table, findings, "probe.exec.role", SOURCES);
    let values = expect::values(table, findings, "probe.exec.value", SOURCES, &["exit-code"]);
    let Some(command) = command else {
        if !table.is_bad("command") {
            table.missing(findings, "command", "command = [\"/usr/local/bin/check-shop\", \"{address}\"]");
        }
        return None;
    };
    match command.value.first() {
        None => drop(findings.error(command.span, "`command` must name a program")),
        // Relative paths would depend on where the server was started, and PATH on by whom.
        Some(program) if !program.value.starts_with('/') => {
            let message = format!("the program `{}` must be an absolute path", shorten(&program.value));
            findings.error(program.span, message).hint("no shell and no PATH are used");
        }
        Some(_) => {}
    }
    let command = command.value.into_iter().map(|argument| argument.value).collect();
    let ((exit_codes, expect), role, values) = (expect?, role?, values?);
    Some(Read {
        kind: ProbeKind::Exec(ExecProbe { command, exit_codes }),
        expect,
        role,
        values,
    })
}

/// Reads `expect`: the exit codes that pass, and what the output must be.
fn read_expect(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<(Vec<u8>, Vec<Expect>)> {
    let (mut codes, mut expects) = (vec![0], Vec::new());
    let Some((entries, span)) = table.table(findings, "expect") else {
        return (!table.is_bad("expect")).then_some((codes, expects));
    };
    let mut inner = Table::new(entries, span, "probe.exec.expect");
    let code = |value: &DeValue<'_>| value::number(value, 0, 255).map(|code| u8::try_from(code).unwrap_or(u8::MAX));
    if let Some(written) = inner.array(findings, "exit-code", "an array of exit codes", code) {
        if written.value.is_empty() {
            findings.error(written.span, "`exit-code` must not be empty: nothing could pass");
        }
        codes = written.value.into_iter().map(|code| code.value).collect();
    }
    if let Some(tests) = inner.value(findings, "body", expect::body) {
        let (source, tests) = (Source::Body, tests.value);
        expects.push(Expect { source, tests });
    }
    if let Some((pointers, _)) = inner.table(findings, "json") {
        expects.extend(expect::table_of_tests(pointers, findings, expect::json_source));
    }
    inner.finish(findings);
    Some((codes, expects))
}
