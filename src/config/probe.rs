//! Reads `[[app.….probe]]`: the common keys, and those of each kind.
//!
//! A kind is one function here, one row in `PROBE_KINDS` and its keys in `KEYS`. Rules over several keys
//! of one probe (time-outs against intervals) stand in `checks`, which get the places from [`ProbeEntry`].

use super::keys::PROBE_KINDS;
use super::source::{At, Findings, Span};
use super::table::{Table, shorten};
use super::value::{self, Bad};
use crate::model::{DnsProbe, ExecProbe, HttpProbe, PostgresProbe, ProbeKind, ProbeSpec, RoleRule, Rtype, TcpProbe, rcode};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Shortest interval between two runs of a probe.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest interval between two runs of a probe.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// Octets of a body that are read where nothing is said.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// One probe as it is written.
#[derive(Debug)]
pub(super) struct ProbeEntry {
    /// Where it begins.
    pub(super) span: Span,
    /// What it does; none when something of it was reported.
    pub(super) kind: Option<ProbeKind>,
    /// `interval`.
    pub(super) interval: Option<At<Duration>>,
    /// `timeout`.
    pub(super) timeout: Option<At<Duration>>,
    /// `fall`.
    pub(super) fall: Option<At<u32>>,
    /// `rise`.
    pub(super) rise: Option<At<u32>>,
    /// `stale-after`.
    pub(super) stale_after: Option<At<Duration>>,
    /// `monitoring-only`.
    pub(super) monitoring_only: Option<At<bool>>,
}

impl ProbeEntry {
    /// `interval` with its default.
    pub(super) fn interval(&self) -> Duration {
        self.interval.as_ref().map_or(Duration::from_secs(5), |interval| interval.value)
    }

    /// `timeout` with its default.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout.as_ref().map_or(Duration::from_secs(2), |timeout| timeout.value)
    }

    /// `fall` with its default.
    pub(super) fn fall(&self) -> u32 {
        self.fall.as_ref().map_or(3, |fall| fall.value)
    }

    /// `rise` with its default.
    pub(super) fn rise(&self) -> u32 {
        self.rise.as_ref().map_or(2, |rise| rise.value)
    }

    /// `stale-after` with its default, three times the longest time between two outcomes.
    pub(super) fn stale_after(&self) -> Duration {
        let usual = self.interval().saturating_add(self.timeout()).saturating_mul(3);
        self.stale_after.as_ref().map_or(usual, |stale_after| stale_after.value)
    }

    /// Whether it is shown, not counted.
    pub(super) fn monitoring_only(&self) -> bool {
        self.monitoring_only.as_ref().is_some_and(|only| only.value)
    }

    /// Whether it says what role the application has; a probe that could not be read may have done so.
    pub(super) fn may_report_role(&self) -> bool {
        self.spec(Path::new("")).is_none_or(|spec| spec.reports_role())
    }

    /// The probe with its defaults and with paths relative to `folder`.
    pub(super) fn spec(&self, folder: &Path) -> Option<ProbeSpec> {
        let mut kind = self.kind.clone()?;
        match &mut kind {
            ProbeKind::Http(http) => http.ca = http.ca.as_ref().map(|ca| folder.join(ca)),
            ProbeKind::Postgres(postgres) => {
                postgres.password_file = postgres.password_file.as_ref().map(|file| folder.join(file));
            }
            ProbeKind::Tcp(_) | ProbeKind::Dns(_) | ProbeKind::Exec(_) => {}
        }
        Some(ProbeSpec {
            kind,
            interval: self.interval(),
            timeout: self.timeout(),
            fall: self.fall(),
            rise: self.rise(),
            stale_after: self.stale_after(),
            monitoring_only: self.monitoring_only(),
        })
    }
}

/// Reads one probe; none when its kind is missing or unknown, which is reported.
pub(super) fn read_probe(entries: &DeTable<'_>, span: Span, findings: &mut Findings<'_>) -> Option<ProbeEntry> {
    let mut table = Table::new(entries, span, "probe");
    let kind = table.required(findings, "kind", "kind = \"http\"", probe_kind);
    let count = |value: &DeValue<'_>| {
        let count = value::number(value, 1, 1_000)?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    };
    let mut entry = ProbeEntry {
        span,
        kind: None,
        interval: table.value(findings, "interval", interval),
        timeout: table.value(findings, "timeout", timeout),
        fall: table.value(findings, "fall", count),
        rise: table.value(findings, "rise", count),
        stale_after: table.value(findings, "stale-after", value::duration),
        monitoring_only: table.value(findings, "monitoring-only", value::boolean),
    };
    // Without its kind nobody can say which of the other keys are wrong.
    let kind = kind?;
    entry.kind = match kind.value {
        "http" => read_http(&mut table, findings),
        "tcp" => read_tcp(&mut table, findings),
        "dns" => read_dns(&mut table, findings),
        "exec" => read_exec(&mut table, findings),
        _ => read_postgres(&mut table, findings),
    };
    table.finish(findings);
    Some(entry)
}

/// Reads `kind`.
fn probe_kind(value: &DeValue<'_>) -> Result<&'static str, Bad> {
    let written = value::text(value)?;
    if written == "https" {
        return Err(Bad::new("must be one of http, tcp, dns, exec, postgres").hint("write kind = \"http\"; an https:// URL makes it so"));
    }
    PROBE_KINDS
        .iter()
        .find(|kind| **kind == written)
        .copied()
        .ok_or_else(|| value::not_one_of(&written, PROBE_KINDS))
}

/// Reads `interval`.
fn interval(value: &DeValue<'_>) -> Result<Duration, Bad> {
    match value::duration(value)? {
        interval if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) => Ok(interval),
        _ => Err(Bad::new("must be from 100ms to 1d")),
    }
}

/// Reads `timeout`.
fn timeout(value: &DeValue<'_>) -> Result<Duration, Bad> {
    match value::duration(value)? {
        Duration::ZERO => Err(Bad::new("must not be 0")),
        timeout => Ok(timeout),
    }
}

/// Reads a port.
fn port(value: &DeValue<'_>) -> Result<u16, Bad> {
    let port = value::number(value, 1, 65_535)?;
    Ok(u16::try_from(port).unwrap_or(u16::MAX))
}

/// Reads a path.
fn file(value: &DeValue<'_>) -> Result<PathBuf, Bad> {
    value::path(value).map(PathBuf::from)
}

/// A part of a probe: the value where it could be read or has a default, `None` where it was reported.
fn or_default<T>(table: &Table<'_>, key: &str, value: Option<At<T>>, default: T) -> Option<T> {
    match value {
        Some(value) => Some(value.value),
        None => (!table.is_bad(key)).then_some(default),
    }
}

/// A part of a probe that may be absent; the outer `None` where it was reported.
fn optional<T>(table: &Table<'_>, key: &str, value: Option<At<T>>) -> Option<Option<T>> {
    or_default(table, key, value.map(|at| At::new(Some(at.value), at.span)), None)
}

/// Reads the keys of `kind = "http"`.
fn read_http(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<ProbeKind> {
    table.allow("probe.http");
    let url = table.required(findings, "url", "url = \"https://shop.example.net/healthz\"", url);
    let method = table.value(findings, "method", method);
    let headers = read_headers(table, findings);
    let expect = read_http_expect(table, findings);
    let body_bytes_max = table.value(findings, "body-bytes-max", |value| {
        let octets = value::number(value, 1, 16 * 1024 * 1024)?;
        Ok(usize::try_from(octets).unwrap_or(BODY_BYTES_MAX))
    });
    let ca = table.value(findings, "ca", file);
    let role = read_role(table, findings);
    let (method, body_bytes_max, ca) = (
        or_default(table, "method", method, "GET".to_owned()),
        or_default(table, "body-bytes-max", body_bytes_max, BODY_BYTES_MAX),
        optional(table, "ca", ca),
    );
    let (url, expect, role) = (url?.value, expect?, role?);
    let method = method?;
    if method == "HEAD" && (expect.body.is_some() || !expect.json.is_empty() || role.is_some()) {
        let span = table.key_span("method");
        findings
            .error(span, "an answer to HEAD has no body to look at")
            .hint("use GET, or expect only a status");
    }
    Some(ProbeKind::Http(Box::new(HttpProbe {
        url,
        method,
        headers: headers?,
        status: expect.status,
        body: expect.body,
        json: expect.json,
        body_bytes_max: body_bytes_max?,
        ca: ca?,
        role,
    })))
}

/// Reads `url`.
fn url(value: &DeValue<'_>) -> Result<url::Url, Bad> {
    let written = value::text(value)?;
    let wrong =
        |why: String| Bad::new(format!("must be an http or https URL: {why}")).hint("for example \"https://shop.example.net/healthz\"");
    let url = url::Url::parse(&written).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("`{}` is neither", shorten(url.scheme()))));
    }
    // A password in the config would be shown by `check`, the API and the logs.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Bad::new("must not hold a user or a password").hint("it would be shown; let the health page need none"));
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err(wrong("it names no host and port to ask".to_owned()));
    }
    Ok(url)
}

/// Whether text is a token of HTTP (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let special = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte))
}

/// Reads `method`.
fn method(value: &DeValue<'_>) -> Result<String, Bad> {
    let written = value::text(value)?;
    match written.as_str() {
        "CONNECT" => Err(Bad::new("must not be CONNECT")),
        _ if !is_token(&written) => Err(Bad::new(format!("must be a request method, `{}` is none", shorten(&written)))),
        _ if written.to_ascii_uppercase() != written => {
            Err(Bad::new("must be in upper case").hint(format!("write \"{}\"", written.to_ascii_uppercase())))
        }
        _ => Ok(written),
    }
}

/// Reads `headers`.
fn read_headers(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Vec<(String, String)>> {
    let Some((entries, _)) = table.table(findings, "headers") else {
        return (!table.is_bad("headers")).then(Vec::new);
    };
    let mut headers = Vec::new();
    for (name, value) in entries {
        let shown = shorten(name.get_ref());
        if !is_token(name.get_ref()) {
            findings.error(name.span().into(), format!("`{shown}` is no name of a header"));
            continue;
        }
        if name.get_ref().eq_ignore_ascii_case("host") {
            findings
                .error(name.span().into(), "the header Host comes from the URL")
                .hint("write the host into `url`; the connection goes to the endpoint's address anyway");
            continue;
        }
        match value::text(value.get_ref()) {
            Ok(text) if text.bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f)) => {
                headers.push((name.get_ref().to_string(), text));
            }
            Ok(_) => Bad::new("holds a control character").report(findings, value.span().into(), &format!("the header `{shown}`")),
            Err(bad) => bad.report(findings, value.span().into(), &format!("the header `{shown}`")),
        }
    }
    (headers.len() == entries.len()).then_some(headers)
}

/// What an HTTP answer must be.
struct HttpExpect {
    /// Status codes, as inclusive ranges.
    status: Vec<(u16, u16)>,
    /// Text in the body.
    body: Option<String>,
    /// JSON pointers and values.
    json: Vec<(String, serde_json::Value)>,
}

/// Reads `expect` of an http probe.
fn read_http_expect(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<HttpExpect> {
    let mut expect = HttpExpect {
        status: vec![(200, 299)],
        body: None,
        json: Vec::new(),
    };
    let Some((entries, span)) = table.table(findings, "expect") else {
        return (!table.is_bad("expect")).then_some(expect);
    };
    let mut inner = Table::new(entries, span, "probe.http.expect");
    let mut whole = true;
    if let Some(status) = inner.array(findings, "status", "an array of status codes", status) {
        if status.value.is_empty() {
            findings.error(status.span, "`status` must not be empty: nothing could pass");
        }
        expect.status = status.value.into_iter().map(|status| status.value).collect();
    }
    let body = inner.value(findings, "body", value::filled_text);
    match optional(&inner, "body", body) {
        Some(body) => expect.body = body,
        None => whole = false,
    }
    if let Some((pointers, _)) = inner.table(findings, "json") {
        for (pointer, value) in pointers {
            if let Err(bad) = value::check_json_pointer(pointer.get_ref()) {
                bad.report(findings, pointer.span().into(), &format!("`{}`", shorten(pointer.get_ref())));
            }
            match value::json(value.get_ref()) {
                Ok(value) => expect.json.push((pointer.get_ref().to_string(), value)),
                Err(bad) => bad.report(
                    findings,
                    value.span().into(),
                    &format!("the value of `{}`", shorten(pointer.get_ref())),
                ),
            }
        }
    }
    inner.finish(findings);
    whole.then_some(expect)
}

/// Reads a status code, `200`, or an inclusive range, `"200-299"`.
fn status(value: &DeValue<'_>) -> Result<(u16, u16), Bad> {
    let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    let wrong = || Bad::new("must be a status code from 100 to 599, or a range of them").hint("for example 200 or \"200-299\"");
    let range = match value {
        DeValue::Integer(number) if number.radix() == 10 => code(number.as_str()).map(|code| (code, code)),
        DeValue::String(text) => match text.split_once('-') {
            Some((first, last)) => code(first).zip(code(last)),
            None => code(text).map(|code| (code, code)),
        },
        _ => None,
    };
    range.filter(|(first, last)| first <= last).ok_or_else(wrong)
}

/// Reads `role` of an http probe; the outer `None` where it was reported.
fn read_role(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Option<RoleRule>> {
    let Some((entries, span)) = table.table(findings, "role") else {
        return (!table.is_bad("role")).then_some(None);
    };
    let mut inner = Table::new(entries, span, "probe.http.role");
    let json = inner.required(findings, "json", "json = \"/database/role\"", |value| {
        let pointer = value::text(value)?;
        value::check_json_pointer(&pointer).map(|()| pointer)
    });
    let active = inner.required(findings, "active", "active = \"primary\"", value::json);
    let passive = inner.required(findings, "passive", "passive = \"standby\"", value::json);
    inner.finish(findings);
    let (json, active, passive) = (json?, active?, passive?);
    if active.value == passive.value {
        findings
            .error(passive.span, "`passive` is the same word as `active`")
            .related(active.span, "active is here");
    }
    Some(Some(RoleRule {
        json: json.value,
        active: active.value,
        passive: passive.value,
    }))
}

/// Reads the keys of `kind = "tcp"`.
fn read_tcp(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<ProbeKind> {
    table.allow("probe.tcp");
    let port = table.required(findings, "port", "port = 443", port);
    let octets = |value: &DeValue<'_>| value::filled_text(value).map(String::into_bytes);
    let send = table.value(findings, "send", octets);
    let expect = table.value(findings, "expect", octets);
    let (send, expect) = (optional(table, "send", send), optional(table, "expect", expect));
    Some(ProbeKind::Tcp(TcpProbe {
        port: port?.value,
        send: send?,
        expect: expect?,
    }))
}

/// Reads the keys of `kind = "dns"`.
fn read_dns(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<ProbeKind> {
    table.allow("probe.dns");
    let port = table.value(findings, "port", port);
    let qname = table.required(findings, "qname", "qname = \"example.net.\"", value::name);
    let qtype = table.value(findings, "qtype", value::rtype);
    let (port, qtype) = (or_default(table, "port", port, 53), or_default(table, "qtype", qtype, Rtype::A));
    let (mut expected_rcode, mut data) = (Some(rcode::NOERROR), Some(Vec::new()));
    if let Some((entries, span)) = table.table(findings, "expect") {
        let mut inner = Table::new(entries, span, "probe.dns.expect");
        let written = inner.value(findings, "rcode", value::rcode);
        expected_rcode = or_default(&inner, "rcode", written, rcode::NOERROR);
        let written = inner.array(findings, "data", "an array of strings", value::filled_text);
        data = or_default(&inner, "data", written, Vec::new()).map(|data| data.into_iter().map(|one| one.value).collect());
        if let (Some(code), Some(data)) = (expected_rcode, &data) {
            if code != rcode::NOERROR && !data.is_empty() {
                findings.error(inner.key_span("data"), "`data` is looked for in answers with NOERROR only");
            }
        }
        inner.finish(findings);
    }
    let expect_is_bad = table.is_bad("expect");
    Some(ProbeKind::Dns(DnsProbe {
        port: port?,
        qname: qname?.value,
        qtype: qtype?,
        rcode: expected_rcode?,
        data: data.filter(|_| !expect_is_bad)?,
    }))
}

/// Reads the keys of `kind = "exec"`.
fn read_exec(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<ProbeKind> {
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
    Some(ProbeKind::Exec(ExecProbe { command }))
}

/// Reads the keys of `kind = "postgres"`.
fn read_postgres(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<ProbeKind> {
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
    Some(ProbeKind::Postgres(PostgresProbe {
        port: port?,
        user: user?.value,
        password_file: password_file?,
        database: database?.value,
        query: query?,
    }))
}
