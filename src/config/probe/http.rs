//! Reads the keys of `kind = "http"`, also https.

use super::super::source::Findings;
use super::super::table::{Table, shorten};
use super::super::value::{self, Bad};
use super::expect::{self, Sources};
use super::{Read, file, is_token, optional, or_default, secure};
use crate::model::{Expect, HttpProbe, HttpVersion, ProbeKind, Source};
use toml::de::DeValue;

/// Octets of a body that are read where nothing is said.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most octets of the body of a request.
const REQUEST_BODY_BYTES_MAX: usize = 64 * 1024;
/// The words of `http-version`.
const VERSIONS: &[(&str, HttpVersion)] = &[("auto", HttpVersion::Auto), ("1.1", HttpVersion::One), ("2", HttpVersion::Two)];
/// Where a role or a value may stand.
const SOURCES: Sources = Sources {
    headers: true,
    status: true,
};

/// Reads the keys of `kind = "http"`.
pub(super) fn read(table: &mut Table<'_>, findings: &mut Findings<'_>) -> Option<Read> {
    table.allow("probe.http");
    let url = table.required(findings, "url", "url = \"https://shop.example.net/healthz\"", url);
    let method = table.value(findings, "method", method);
    let headers = read_headers(table, findings);
    let body = read_body(table, findings, method.as_ref().map(|method| method.value.as_str()));
    let version = table.value(findings, "http-version", |value| value::word(value, VERSIONS));
    let redirects = table.value(findings, "redirects", |value| {
        let count = value::number(value, 0, 10)?;
        Ok(u8::try_from(count).unwrap_or(u8::MAX))
    });
    let secure = url.as_ref().map(|url| url.value.scheme() == "https");
    let expect = read_http_expect(table, findings, secure);
    let body_bytes_max = table.value(findings, "body-bytes-max", |value| {
        let octets = value::number(value, 1, 16 * 1024 * 1024)?;
        Ok(usize::try_from(octets).unwrap_or(BODY_BYTES_MAX))
    });
    let ca = table.value(findings, "ca", file);
    let identity = secure::identity(table, findings);
    if secure == Some(false) {
        let given = [("ca", ca.is_some()), ("client-cert", matches!(identity, Some(Some(_))))];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            findings
                .error(table.key_span(key), format!("`{key}` is of no use with an http:// URL"))
                .hint("write an https:// URL");
        }
    }
    let role = expect::role(table, findings, "probe.http.role", SOURCES);
    let values = expect::values(table, findings, "probe.http.value", SOURCES, &["status", "certificate-days"]);
    let (method, body_bytes_max, ca) = (
        or_default(table, "method", method, "GET".to_owned()),
        or_default(table, "body-bytes-max", body_bytes_max, BODY_BYTES_MAX),
        optional(table, "ca", ca),
    );
    let (version, redirects) = (
        or_default(table, "http-version", version, HttpVersion::Auto),
        or_default(table, "redirects", redirects, 0),
    );
    let (url, (status, expect), role, values) = (url?.value, expect?, role?, values?);
    let method = method?;
    let sources = expect
        .iter()
        .map(|expect| &expect.source)
        .chain(role.iter().map(|role| &role.source));
    let looks = sources.chain(values.iter().map(|value| &value.source)).any(Source::needs_body);
    if method == "HEAD" && looks {
        let span = table.key_span("method");
        findings
            .error(span, "an answer to HEAD has no body to look at")
            .hint("use GET, or expect only a status and headers");
    }
    let kind = ProbeKind::Http(Box::new(HttpProbe {
        url,
        method,
        headers: headers?,
        body: body?,
        version: version?,
        redirects: redirects?,
        status,
        body_bytes_max: body_bytes_max?,
        ca: ca?,
        identity: identity?,
    }));
    Some(Read {
        kind,
        expect,
        role,
        values,
    })
}

/// Reads `body`, the one of the request; the outer `None` where it was reported.
fn read_body(table: &mut Table<'_>, findings: &mut Findings<'_>, method: Option<&str>) -> Option<Option<String>> {
    let body = table.value(findings, "body", |value| match value::filled_text(value)? {
        text if text.len() > REQUEST_BODY_BYTES_MAX => Err(Bad::new(format!("must have at most {REQUEST_BODY_BYTES_MAX} octets")).secret()),
        text => Ok(text),
    });
    if body.is_some() && !table.is_bad("method") {
        let span = table.key_span("body");
        let why = match method {
            None => "`body` is sent with a method that is named: a GET has none by default".to_owned(),
            // RFC 9110 sections 9.3.2 and 9.3.8.
            Some("HEAD" | "TRACE") => format!("a {} request has no body", method.unwrap_or_default()),
            Some(_) => return optional(table, "body", body),
        };
        findings.error(span, why).without_snippet().hint("for example method = \"POST\"");
        return None;
    }
    optional(table, "body", body)
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
        return Err(Bad::new("must not hold a user or a password")
            .hint("it would be shown; let the health page need none")
            .secret());
    }
    if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err(wrong("it names no host and port to ask".to_owned()));
    }
    Ok(url)
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
        if ["content-length", "transfer-encoding"]
            .iter()
            .any(|own| name.get_ref().eq_ignore_ascii_case(own))
        {
            findings
                .error(name.span().into(), format!("the header `{shown}` comes from the body that is sent"))
                .hint("leave it out");
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

/// Status codes as inclusive ranges, and what else is expected.
type HttpExpect = (Vec<(u16, u16)>, Vec<Expect>);

/// Reads `expect` of an http probe; `secure` says whether its URL is an https one, where that is known.
fn read_http_expect(table: &mut Table<'_>, findings: &mut Findings<'_>, secure: Option<bool>) -> Option<HttpExpect> {
    let (mut ranges, mut expects) = (vec![(200, 299)], Vec::new());
    let Some((entries, span)) = table.table(findings, "expect") else {
        return (!table.is_bad("expect")).then_some((ranges, expects));
    };
    let mut inner = Table::new(entries, span, "probe.http.expect");
    if let Some(status) = inner.array(findings, "status", "an array of status codes", status) {
        if status.value.is_empty() {
            findings.error(status.span, "`status` must not be empty: nothing could pass");
        }
        ranges = status.value.into_iter().map(|status| status.value).collect();
    }
    if let Some(tests) = inner.value(findings, "body", expect::body) {
        let (source, tests) = (Source::Body, tests.value);
        expects.push(Expect { source, tests });
    }
    if let Some((fields, _)) = inner.table(findings, "headers") {
        expects.extend(expect::table_of_tests(fields, findings, expect::header_source));
    }
    if let Some((pointers, _)) = inner.table(findings, "json") {
        expects.extend(expect::table_of_tests(pointers, findings, expect::json_source));
    }
    let whole = !inner.is_bad("body");
    if expect::certificate_days(&mut inner, findings, &mut expects) && secure == Some(false) {
        findings
            .error(
                inner.key_span("certificate-days"),
                "`certificate-days` can never hold: there is no certificate with an http:// URL",
            )
            .hint("write an https:// URL");
    }
    inner.finish(findings);
    whole.then_some((ranges, expects))
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
