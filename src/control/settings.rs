//! From the config to what the lanes add to answers: cookie secrets from their file, identifier, limits, access lists.
//!
//! Without `cookie-secret-file` a node makes a secret of its own at its first start and keeps it in its data dir, so that cookies
//! outlive a restart. Nodes that share an address need one file in common (RFC 9018 §5).

use super::types::Serving;
use crate::answer::{CookieSecrets, Service, Settings};
use crate::config::Config;
use crate::model::PrefixSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The file of the secret that a node makes itself, in its data dir.
const OWN_SECRET: &str = "cookie-secret";
/// Most octets that are read of a secret file: two lines with comments.
const FILE_OCTETS_MAX: u64 = 64 * 1024;

/// What the config and its secret file come to.
///
/// # Errors
/// In words, when the secret file that the config names cannot be used.
pub fn settings(config: &Config, serving: &Serving) -> Result<Settings, String> {
    let cookies = match (&config.service.cookie_secret_file, config.service.cookies) {
        (_, false) => None,
        (Some(file), true) => Some(read_secrets(file)?),
        (None, true) => own_secret(&config.node.data_dir).or_else(random_secrets),
    };
    Ok(with_secrets(config, serving, cookies))
}

/// As `settings`, for a start, which no secret keeps from answering: should the file be of no use, a secret
/// for this run takes its place.
pub fn settings_at_start(config: &Config, serving: &Serving) -> Settings {
    settings(config, serving).unwrap_or_else(|error| {
        tracing::error!("{error}; until a reload finds a good one, this node makes cookies that no other accepts");
        with_secrets(config, serving, random_secrets())
    })
}

/// The settings with these secrets.
fn with_secrets(config: &Config, serving: &Serving, cookies: Option<CookieSecrets>) -> Settings {
    let service = &config.service;
    let restricted = config
        .zones
        .iter()
        .filter_map(|zone| Some((&zone.name, zone.allow_query.as_ref()?)));
    Settings {
        service: Service {
            nsid: service.nsid.clone().unwrap_or_default().into_bytes(),
            cookies,
            rate_limit: service.rate_limit.clone(),
            not_ready: match serving {
                Serving::AnswerOnly { .. } => Some("answer-only: roles as last published, changes are refused".to_owned()),
                Serving::LastGood { .. } => Some("last-good: the last accepted config is served instead of today's".to_owned()),
                Serving::Current => None,
            },
        },
        access: restricted
            .map(|(apex, prefixes)| (apex.clone(), PrefixSet::new(prefixes)))
            .collect(),
    }
}

/// Reads a secret file: 32 hexadecimal digits a line, the first makes cookies, a second one is accepted too.
pub(super) fn read_secrets(file: &Path) -> Result<CookieSecrets, String> {
    let shown = file.display();
    let read = fs::File::open(file).and_then(|open| {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(open, FILE_OCTETS_MAX), &mut text)?;
        Ok(text)
    });
    let text = read.map_err(|error| format!("the cookie secrets in {shown} cannot be read: {error}"))?;
    let mut secrets = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is a secret and is not shown.
        let secret = hex(line).ok_or_else(|| format!("{shown}:{}: a cookie secret is 32 hexadecimal digits", number + 1))?;
        secrets.push(secret);
    }
    match secrets[..] {
        [current] => Ok(CookieSecrets::new(current, None)),
        [current, other] => Ok(CookieSecrets::new(current, Some(other))),
        _ => Err(format!(
            "{shown}: one or two cookie secrets are needed, not {}: the one in use, then the one before or after it",
            secrets.len()
        )),
    }
}

/// 16 octets from 32 hexadecimal digits.
fn hex(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
    Some(number.to_be_bytes())
}

/// The secret in the data dir, made where there is none; none where the data dir does not let itself be written.
fn own_secret(data_dir: &Path) -> Option<CookieSecrets> {
    let path = data_dir.join(OWN_SECRET);
    if let Ok(secrets) = read_secrets(&path) {
        return Some(secrets);
    }
    let secret = random()?;
    let text: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
    // Written aside and renamed: a torn file would be replaced by another secret at the next start.
    let aside = data_dir.join(format!("{OWN_SECRET}.new"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(&aside)
        .and_then(|mut file| writeln!(file, "{text}"))
        .and_then(|()| fs::rename(&aside, &path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the cookie secret cannot be kept; cookies will not outlive this run");
    }
    Some(CookieSecrets::new(secret, None))
}

/// A secret for this run.
fn random_secrets() -> Option<CookieSecrets> {
    Some(CookieSecrets::new(random()?, None))
}

/// Sixteen octets of the operating system's; none where it has none, and then no cookies are given.
fn random() -> Option<[u8; 16]> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).ok().map(|()| octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_one_or_two_lines_of_hex_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets");
        let one = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        let two = "445536bcd2513298075a5d379663c962";
        let both = CookieSecrets::new(hex(one).unwrap(), hex(two));
        for (text, expected) in [
            (format!("{one}\n"), Ok(CookieSecrets::new(hex(one).unwrap(), None))),
            (format!("# in use, then the next\n{one}\n\n{two}"), Ok(both)),
            (String::new(), Err("one or two")),
            (format!("{one}\n{two}\n{one}\n"), Err("not 3")),
            (format!("{one}\n+{}\n", &two[1..]), Err("secrets:2: a cookie secret is 32")),
            (one[1..].to_owned(), Err("secrets:1:")),
        ] {
            fs::write(&file, &text).unwrap();
            match (read_secrets(&file), expected) {
                (Ok(read), Ok(expected)) => assert!(read == expected, "{text}"),
                (Err(error), Err(part)) => {
                    assert!(error.contains(part), "{error}");
                    assert!(!error.contains(&one[1..9]) && !error.contains(&two[1..9]), "{error}");
                }
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
        assert!(read_secrets(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_node_keeps_the_secret_that_it_made() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = own_secret(folder.path()).unwrap();
        assert!(own_secret(folder.path()) == Some(first));
        let mode = fs::metadata(folder.path().join(OWN_SECRET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert!(own_secret(other.path()) != Some(first));
        assert!(own_secret(Path::new("/proc/none")).is_some(), "a secret for this run");
    }
}
