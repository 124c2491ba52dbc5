//! Reads the keys of `kind = "exec"`.

use super::super::source::Findings;
use super::super::table::{Table, shorten};
use super::super::value::{self, Bad};
use super::Read;
use crate::model::{ExecProbe, ProbeKind};

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
    Some(Read::plain(ProbeKind::Exec(ExecProbe { command })))
}
