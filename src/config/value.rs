//! Single values: TOML values to durations, names, addresses and the like, with a reason when they are none.
//!
//! Every function takes a TOML value and gives the typed value or a [`Bad`], whose message continues the
//! sentence that begins with the key: "`ttl` must be …". Nothing here knows where a value stands.

use super::keys::nearest;
use super::source::{Findings, Span};
use super::table::shorten;
use crate::model::{Endpoint, Name, Rtype, TTL_MAX};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use toml::de::DeValue;

/// Why a value is not what it must be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bad {
    /// Continues "`key` …".
    message: String,
    /// What to do.
    hint: Option<String>,
    /// Whether the value holds a secret and is not to be shown.
    secret: bool,
}

impl Bad {
    /// A reason.
    pub(super) fn new(message: impl Into<String>) -> Bad {
        Bad {
            message: message.into(),
            hint: None,
            secret: false,
        }
    }

    /// Keeps the value out of what is printed and logged.
    pub(super) fn secret(mut self) -> Bad {
        self.secret = true;
        self
    }

    /// A value of the wrong TOML type.
    pub(super) fn kind(wanted: &str, value: &DeValue<'_>) -> Bad {
        Bad::new(format!("must be {wanted}, not {}", kind_of(value)))
    }

    /// Says of which part of the value it is.
    pub(super) fn within(mut self, part: &str) -> Bad {
        self.message = format!("is wrong: {part} {}", self.message);
        self
    }

    /// Adds what to do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Bad {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to do where nothing was said yet.
    pub(super) fn or_hint(mut self, hint: &str) -> Bad {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// Makes it a finding about `what`.
    pub(super) fn report(self, findings: &mut Findings<'_>, span: Span, what: &str) {
        let mut note = findings.error(span, format!("{what} {}", self.message));
        if self.secret {
            note = note.without_snippet();
        }
        if let Some(hint) = self.hint {
            note.hint(hint);
        }
    }
}

/// The TOML type with its article.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A string.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, Bad> {
    value.as_str().map(str::to_owned).ok_or_else(|| Bad::kind("a string", value))
}

/// A string that is not empty.
pub(super) fn filled_text(value: &DeValue<'_>) -> Result<String, Bad> {
    match text(value)? {
        text if text.is_empty() => Err(Bad::new("must not be empty")),
        text => Ok(text),
    }
}

/// A string that can be a path: not empty, no NUL.
pub(super) fn path(value: &DeValue<'_>) -> Result<String, Bad> {
    match filled_text(value)? {
        text if text.contains('\0') => Err(Bad::new("must be a path; it contains a NUL")),
        text => Ok(text),
    }
}

/// A boolean.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Bad> {
    let hint = value.as_str().map(|text| format!("without quotes: {}", shorten(text)));
    let bad = Bad::kind("true or false", value);
    value.as_bool().ok_or(match hint {
        Some(hint) => bad.hint(hint),
        None => bad,
    })
}

/// A whole number within bounds.
pub(super) fn number(value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, Bad> {
    let wanted = format!("a number from {least} to {most}");
    let Some(integer) = value.as_integer() else {
        return Err(Bad::kind(&wanted, value));
    };
    let read = u64::from_str_radix(integer.as_str(), integer.radix());
    read.ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Bad::new(format!("must be {wanted}")))
}

/// Longest duration that is taken, a year: longer ones are typing errors, and sums of a few cannot overflow.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// A duration: a string of numbers with units, `250ms`, `30s`, `1m30s`, `1.5s`.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, Bad> {
    let text = match value {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            let hint = format!("write \"{0}s\" for {0} seconds", shorten(number.as_str()));
            return Err(Bad::new("is a duration and needs a unit").hint(hint));
        }
        other => return Err(Bad::kind("a duration", other).hint("a string with a unit: \"30s\"")),
    };
    parse_duration(text)
}

/// Reads the text of a duration.
fn parse_duration(text: &str) -> Result<Duration, Bad> {
    let wrong = || {
        Bad::new(format!("must be a duration, `{}` is none", shorten(text)))
            .hint("numbers with the units ms, s, m, h, d: \"30s\", \"1m30s\"")
    };
    if text.is_empty() {
        return Err(wrong());
    }
    if let Ok(bare) = text.parse::<u64>() {
        return Err(Bad::new("is a duration and needs a unit").hint(format!("write \"{bare}s\" for {bare} seconds")));
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let unit_millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        // Each unit once and in falling order: `30s1m` is more likely a slip than a wish.
        if unit_millis >= last_unit {
            return Err(wrong());
        }
        last_unit = unit_millis;
        let part = decimal_millis(number, unit_millis).ok_or_else(wrong)?;
        millis = millis.saturating_add(part);
        rest = next;
    }
    let duration = Duration::from_millis(millis);
    if duration > DURATION_MAX {
        return Err(Bad::new("is longer than a year"));
    }
    Ok(duration)
}

/// `1.5` of a unit in whole milliseconds; none when it is no number or finer than a millisecond.
fn decimal_millis(number: &str, unit_millis: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits_only = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits_only(whole) || !digits_only(fraction) || fraction.len() > 9 {
        return None;
    }
    // Too many digits are more than a year, which the caller says better than "no duration".
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(unit_millis);
    let scale = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = fraction.parse::<u64>().ok()?.checked_mul(unit_millis)?;
    (fraction % scale == 0).then(|| whole.saturating_add(fraction / scale))
}

/// A TTL: a duration of whole seconds, at least one (0 would forbid every cache, and many treat it as an error).
pub(super) fn ttl(value: &DeValue<'_>) -> Result<u32, Bad> {
    let duration = duration(value)?;
    if duration.is_zero() {
        return Err(Bad::new("must not be 0").hint("resolvers treat 0 in different ways; the least that works everywhere is \"5s\""));
    }
    if duration.subsec_nanos() != 0 {
        return Err(Bad::new("must be whole seconds").hint("a TTL on the wire counts seconds (RFC 2181 section 8)"));
    }
    u32::try_from(duration.as_secs())
        .ok()
        .filter(|ttl| *ttl <= TTL_MAX)
        .ok_or_else(|| Bad::new("is longer than a TTL can be"))
}

/// A share in percent, `"20%"`.
pub(super) fn percent(value: &DeValue<'_>) -> Result<u8, Bad> {
    let hint = "a string with the sign: \"20%\"";
    let Some(text) = value.as_str() else {
        return Err(Bad::kind("a share in percent", value).hint(hint));
    };
    let digits = text
        .strip_suffix('%')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let share = digits.and_then(|digits| digits.parse().ok()).filter(|share| *share <= 100);
    share.ok_or_else(|| Bad::new(format!("must be a share from 0% to 100%, `{}` is none", shorten(text))).hint(hint))
}

/// A share that is at least half, `"50%"`: below it one of two would already be most.
pub(super) fn percent_from_half(value: &DeValue<'_>) -> Result<u8, Bad> {
    let share = percent(value)?;
    if share >= 50 {
        return Ok(share);
    }
    Err(Bad::new(format!("must be a share from 50% to 100%, `{share}%` is none"))
        .hint("half of two regions is one region: less is never \"most\""))
}

/// An address with a port to listen on.
pub(super) fn socket_address(value: &DeValue<'_>) -> Result<SocketAddr, Bad> {
    let text = text(value)?;
    text.parse().map_err(|_| {
        let bad = Bad::new(format!("must be an address with a port, `{}` is none", shorten(&text)));
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => bad.hint(format!("with a port: \"{address}:53\"")),
            Ok(IpAddr::V6(address)) => bad.hint(format!("with a port: \"[{address}]:53\"")),
            Err(_) => bad.hint("for example \"127.0.0.1:5300\" or \"[::1]:5300\""),
        }
    })
}

/// A domain name with or without the final dot, in lower case.
pub(super) fn name(value: &DeValue<'_>) -> Result<Name, Bad> {
    let text = text(value)?;
    let name = Name::parse(&text).map_err(|error| Bad::new(format!("is no domain name: {error}")))?;
    Ok(name.to_lowercase())
}

/// A domain name that people type into programs: letters, digits, `-`, `_`; a leading `*` is for the checks to explain.
pub(super) fn host_name(value: &DeValue<'_>) -> Result<Name, Bad> {
    let written = text(value)?;
    if let Some(scheme) = written.find("://") {
        let scheme = written.get(..scheme).unwrap_or("");
        return Err(Bad::new(format!("must be a name, not a URL ({})", shorten(scheme))));
    }
    let name = name(value)?;
    let odd = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let plain = name.labels().skip(usize::from(name.is_wildcard()));
    let odd = plain.flatten().copied().find(odd);
    match odd {
        None if name.is_root() => Err(Bad::new("must not be the root")),
        None => Ok(name),
        Some(byte) => {
            let shown = char::from(byte).escape_default();
            Err(Bad::new(format!("must be a host name; `{shown}` may not stand in one")))
        }
    }
}

/// An address that traffic can be sent to, or a host name.
pub(super) fn endpoint(value: &DeValue<'_>) -> Result<Endpoint, Bad> {
    let written = text(value)?;
    if let Ok(address) = written.parse::<IpAddr>() {
        return usable_address(address).map(Endpoint::Address);
    }
    if written.parse::<SocketAddr>().is_ok() {
        return Err(Bad::new("must be an address without a port").hint("DNS answers carry no port; a probe has its own"));
    }
    if written.contains('/') {
        return Err(Bad::new(format!(
            "must be an address or a host name, `{}` is none",
            shorten(&written)
        )));
    }
    let name = host_name(value)?;
    // A word without any dot is more likely a mistake than a host; the final dot says that it is meant.
    if name.label_count() < 2 && !written.ends_with('.') {
        return Err(Bad::new(format!(
            "must be an address or a host name with a dot, `{}` is none",
            shorten(&written)
        )));
    }
    let last_is_number = name
        .labels()
        .filter(|label| !label.is_empty())
        .last()
        .is_some_and(|label| label.iter().all(u8::is_ascii_digit));
    match last_is_number {
        true => Err(Bad::new(format!(
            "must be an address or a host name, `{}` is none",
            shorten(&written)
        ))),
        false if name.is_wildcard() => Err(Bad::new("must not be a wildcard")),
        false => Ok(Endpoint::Host(name)),
    }
}

/// Refuses addresses that no client can connect to. Loopback is taken: trials on one machine need it.
pub(super) fn usable_address(address: IpAddr) -> Result<IpAddr, Bad> {
    let what = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => return Err(Bad::new(format!("must not be an IPv4-mapped address, `{address}`")).hint(format!("write \"{v4}\""))),
            None => return Ok(address),
        },
        IpAddr::V4(_) => return Ok(address),
    };
    Err(Bad::new(format!(
        "must be an address that clients can connect to; `{address}` is {what}"
    )))
}

/// Longest identifier, characters.
const ID_CHARACTERS_MAX: usize = 63;

/// Checks an identifier of a region or an application.
pub(super) fn check_id(text: &str) -> Result<(), Bad> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_well && text.chars().all(allowed) && text.len() <= ID_CHARACTERS_MAX {
        return Ok(());
    }
    let bad =
        Bad::new("must consist of lower-case letters, digits, `-` and `_`, begin with a letter or digit, and have at most 63 of them");
    let lower = text.to_ascii_lowercase();
    let fits = lower != text && check_id(&lower).is_ok();
    Err(if fits { bad.hint(format!("write `{lower}`")) } else { bad })
}

/// One of several words.
pub(super) fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Bad> {
    let written = text(value)?;
    if let Some((_, found)) = words.iter().find(|(word, _)| *word == written) {
        return Ok(*found);
    }
    Err(not_one_of(&written, &words.iter().map(|(word, _)| *word).collect::<Vec<_>>()))
}

/// Says which words there are, and which was probably meant.
pub(super) fn not_one_of(written: &str, words: &[&str]) -> Bad {
    let bad = Bad::new(format!(
        "must be one of {}; `{}` is none of them",
        words.join(", "),
        shorten(written)
    ));
    match nearest(written, words.iter().copied()) {
        Some(near) => bad.hint(format!("did you mean \"{near}\"?")),
        None => bad,
    }
}

/// A record type that can be asked for.
pub(super) fn rtype(value: &DeValue<'_>) -> Result<Rtype, Bad> {
    let written = text(value)?;
    let rtype = Rtype::parse(&written).ok_or_else(|| Bad::new(format!("must be a record type, `{}` is none", shorten(&written))))?;
    match rtype {
        Rtype::OPT | Rtype::TKEY | Rtype::TSIG | Rtype::AXFR | Rtype::IXFR | Rtype(0) => {
            Err(Bad::new(format!("cannot be asked for with `{rtype}`")))
        }
        _ => Ok(rtype),
    }
}

/// Response codes by their mnemonic (IANA registry, those that fit the header).
pub(super) fn rcode(value: &DeValue<'_>) -> Result<u8, Bad> {
    let words: [(&str, u8); 11] = [
        ("NOERROR", 0),
        ("FORMERR", 1),
        ("SERVFAIL", 2),
        ("NXDOMAIN", 3),
        ("NOTIMP", 4),
        ("REFUSED", 5),
        ("YXDOMAIN", 6),
        ("YXRRSET", 7),
        ("NXRRSET", 8),
        ("NOTAUTH", 9),
        ("NOTZONE", 10),
    ];
    word(&DeValue::String(text(value)?.to_ascii_uppercase().into()), &words)
}

/// A TOML value as JSON, for comparison with a JSON body.
pub(super) fn json(value: &DeValue<'_>) -> Result<serde_json::Value, Bad> {
    match value {
        DeValue::String(text) => Ok(text.as_ref().into()),
        DeValue::Boolean(value) => Ok((*value).into()),
        DeValue::Integer(integer) => {
            let read = i64::from_str_radix(integer.as_str(), integer.radix());
            read.map(Into::into).map_err(|_| Bad::new("must be a number of 64 bits"))
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            number
                .map(serde_json::Value::Number)
                .ok_or_else(|| Bad::new("must be a number that JSON knows"))
        }
        other => Err(Bad::kind("a string, a number or a boolean", other)),
    }
}

/// A JSON pointer (RFC 6901 section 3): empty, or parts that each begin with `/`; `~` only as `~0` and `~1`.
pub(super) fn check_json_pointer(text: &str) -> Result<(), Bad> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err(Bad::new(format!("must be a JSON pointer, `{}` is none", shorten(text)))
            .hint(format!("it begins with a slash: \"/{}\"", shorten(&text.replace('.', "/")))));
    }
    let mut tildes = text.split('~').skip(1);
    match tildes.all(|after| after.starts_with(['0', '1'])) {
        true => Ok(()),
        false => Err(Bad::new("must be a JSON pointer; `~` is written `~0` in one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let cases: [(&str, Option<u64>); 18] = [
            ("30s", Some(30_000)),
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1_500)),
            ("1d", Some(86_400_000)),
            ("2h5m", Some(7_500_000)),
            ("30", None),
            ("", None),
            ("s", None),
            ("30 s", None),
            ("30s1m", None),
            ("1s1s", None),
            ("-5s", None),
            ("1.5ms", None),
            ("30x", None),
            ("1..5s", None),
            ("99999999999999999999s", None),
        ];
        for (text, millis) in cases {
            let read = duration(&DeValue::String(text.into())).ok();
            assert_eq!(read, millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn durations_read_back_as_they_are_shown() {
        for millis in (0..200_000_000).step_by(99_990) {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&crate::model::show_duration(duration)), Ok(duration), "{millis}");
        }
    }

    #[test]
    fn endpoints_are_addresses_or_host_names() {
        for good in [
            "192.0.2.1",
            "2001:db8::1",
            "127.0.0.1",
            "Lb.Example.NET",
            "lb.example.net.",
            "Localhost.",
        ] {
            assert!(endpoint(&DeValue::String(good.into())).is_ok(), "{good}");
        }
        let bad = [
            "",
            ".",
            "localhost",
            "192.0.2.300",
            "192.0.2.1:80",
            "[::1]:80",
            "http://a.b",
            "a.b/c",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:192.0.2.1",
            "*.example.net",
            "a b.c",
        ];
        for bad in bad {
            assert!(endpoint(&DeValue::String(bad.into())).is_err(), "{bad}");
        }
    }
}
