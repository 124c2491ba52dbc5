//! Who may come in over TCP: a file of hashed tokens.
//!
//! ```toml
//! [[token]]
//! name = "ada"                # goes into the ledger
//! role = "operator"           # or "viewer": reads only; or "feeder": posts to its feeds only
//! # feeds = ["shop-iad"]      # of a feeder
//! sha256 = "…"                # printf %s TOKEN | sha256sum
//! ```
//!
//! The file is read again when it changed. One that cannot be read then changes nothing and is told in the log: a slip of
//! the pen in the night of an incident must not lock everybody out. Tokens are compared by their hashes in constant time,
//! all of them, so that time tells nothing.

use super::StartError;
use crate::ledger::Hash;
use arc_swap::ArcSwap;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// The token file and what it says now.
pub(super) struct Tokens {
    path: PathBuf,
    known: ArcSwap<Known>,
}

/// One state of the file.
struct Known {
    /// Of the file when it was looked at last; none: it was not there.
    stamp: Option<Stamp>,
    tokens: Vec<Token>,
}

/// What changes when a file is written or replaced: inode, length, and both times to the nanosecond.
type Stamp = (u64, u64, i64, i64, i64, i64);

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    /// Every token.
    #[serde(default)]
    token: Vec<Token>,
}

/// One token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    /// Whose it is.
    name: String,
    /// What it may.
    role: Role,
    /// Its hash.
    sha256: Hash,
    /// The feeds that a feeder may post to.
    #[serde(default)]
    feeds: BTreeSet<String>,
}

/// What a token may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Role {
    /// Read.
    Viewer,
    /// Read and change.
    Operator,
    /// Post to its feeds, nothing else.
    Feeder,
}

/// What the holder of a token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum May {
    /// Read.
    Read,
    /// Read and change.
    Change,
    /// Post to these feeds.
    Feed(BTreeSet<String>),
}

impl Tokens {
    /// Opens a token file.
    pub async fn open(path: &Path) -> Result<Tokens, StartError> {
        let fault = |what| StartError::Tokens {
            path: path.to_owned(),
            what,
        };
        let stamp = stamp(path).await;
        let tokens = read(path).await.map_err(|error| fault(error.to_string()))?;
        Ok(Tokens {
            path: path.to_owned(),
            known: ArcSwap::from_pointee(Known { stamp, tokens }),
        })
    }

    /// The name that a token belongs to, and what it may.
    pub async fn find(&self, token: &str) -> Option<(String, May)> {
        self.find_hash(Hash::of(token.as_bytes())).await
    }

    /// Whether the token with this hash may read still.
    pub async fn may_read(&self, hash: Hash) -> bool {
        matches!(self.find_hash(hash).await, Some((_, May::Read | May::Change)))
    }

    /// As [`Tokens::find`], by the token's hash.
    async fn find_hash(&self, hash: Hash) -> Option<(String, May)> {
        self.refresh().await;
        let known = self.known.load();
        let mut found = u64::MAX;
        for (index, one) in (0u64..).zip(&known.tokens) {
            found.conditional_assign(&index, one.sha256.octets().ct_eq(hash.octets()));
        }
        let one = known.tokens.get(usize::try_from(found).ok()?)?;
        let may = match one.role {
            Role::Viewer => May::Read,
            Role::Operator => May::Change,
            Role::Feeder => May::Feed(one.feeds.clone()),
        };
        Some((one.name.clone(), may))
    }

    /// Reads the file again if it changed.
    async fn refresh(&self) {
        let stamp = stamp(&self.path).await;
        let known = self.known.load_full();
        if stamp == known.stamp {
            return;
        }
        let tokens = match read(&self.path).await {
            Ok(tokens) => {
                tracing::info!(path = %self.path.display(), tokens = tokens.len(), "token-file read again");
                tokens
            }
            Err(what) => {
                tracing::error!(path = %self.path.display(), "the token-file changed and cannot be used, the tokens from before stay valid: {what}");
                known.tokens.clone()
            }
        };
        self.known.store(Arc::new(Known { stamp, tokens }));
    }
}

/// The stamp of a file; none when it is not there.
async fn stamp(path: &Path) -> Option<Stamp> {
    let data = tokio::fs::metadata(path).await.ok()?;
    Some((
        data.ino(),
        data.len(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    ))
}

/// Why a token file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFault {
    /// Line and column, where the file can be read that far.
    pub at: Option<(usize, usize)>,
    /// What is wrong. Never a line of the file: a token that was written instead of its hash would be in the log.
    pub what: String,
}

impl std::fmt::Display for TokenFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{} (line {line}, column {column})", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl From<String> for TokenFault {
    fn from(what: String) -> TokenFault {
        TokenFault { at: None, what }
    }
}

/// Whether a token file can be used with a config that has these feeds, for `check`.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check_token_file(path: &Path, feeds: &BTreeSet<String>) -> Result<(), TokenFault> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    for token in parse(&text)? {
        if let Some(lost) = token.feeds.iter().find(|feed| !feeds.contains(*feed)) {
            let at = text.find(&format!("\"{lost}\"")).map(|offset| place(&text, offset));
            let hint = crate::role::nearest(lost, feeds.iter().cloned());
            let what = format!("{:?} is a feeder for {lost:?}, and no probe has that feed{hint}", token.name);
            return Err(TokenFault { at, what });
        }
    }
    Ok(())
}

/// Reads and checks a token file.
async fn read(path: &Path) -> Result<Vec<Token>, TokenFault> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    parse(&text)
}

/// Checks the text of a token file.
fn parse(text: &str) -> Result<Vec<Token>, TokenFault> {
    let file: TokenFile = toml::from_str(text).map_err(|error| TokenFault {
        at: error.span().map(|span| place(text, span.start)),
        what: error.message().to_owned(),
    })?;
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    for token in &file.token {
        if token.name.trim().is_empty() || token.name.contains(char::is_control) {
            return Err(format!("{:?} is no name of a token: it goes into the ledger", token.name).into());
        }
        if !names.insert(token.name.as_str()) {
            return Err(format!("two tokens are named {:?}; names tell in the ledger who it was", token.name).into());
        }
        if (token.role == Role::Feeder) == token.feeds.is_empty() {
            let what = match token.role {
                Role::Feeder => format!("the feeder {:?} has no `feeds` to post to", token.name),
                Role::Viewer | Role::Operator => format!("{:?} has `feeds` and is no feeder: role = \"feeder\"", token.name),
            };
            return Err(what.into());
        }
        if !hashes.insert(token.sha256.octets()) {
            return Err(format!("the token of {:?} is somebody else's too", token.name).into());
        }
    }
    if file.token.is_empty() {
        return Err("it has no [[token]]".to_owned().into());
    }
    Ok(file.token)
}

/// Line and column of an offset, both from 1, the column in characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(line_start..).map_or(0, |line| line.chars().count());
    (before.matches('\n').count() + 1, column + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of the file for a token.
    fn entry(name: &str, role: &str, token: &str) -> String {
        format!(
            "[[token]]\nname = {name:?}\nrole = {role:?}\nsha256 = \"{}\"\n",
            Hash::of(token.as_bytes())
        )
    }

    #[test]
    fn a_token_file_is_whole_or_refused() {
        assert_eq!(
            parse(&(entry("ada", "operator", "a") + &entry("bob", "viewer", "b")))
                .unwrap()
                .len(),
            2
        );
        let wrong = [
            (String::new(), "no [[token]]"),
            (entry("ada", "root", "a"), "unknown variant"),
            (entry("ada", "viewer", "a") + "extra = 1\n", "unknown field"),
            (entry("ada", "viewer", "a") + &entry("ada", "viewer", "b"), "two tokens"),
            (entry("ada", "viewer", "a") + &entry("bob", "viewer", "a"), "somebody else's"),
            (entry(" ", "viewer", "a"), "no name"),
            (
                "[[token]]\nname = \"a\"\nrole = \"viewer\"\nsha256 = \"abc\"\n".to_owned(),
                "64 hexadecimal",
            ),
        ];
        for (text, part) in wrong {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}\nof {text}");
        }
    }

    #[test]
    fn a_fault_has_its_place_and_never_shows_the_line() {
        let text = "[[token]]\nname = \"ada\"\nrole = \"operator\"\nsha256 = \"open-sesame\"\n";
        let fault = parse(text).unwrap_err();
        assert_eq!(fault.at, Some((4, 10)));
        assert!(!fault.to_string().contains("sesame"), "{fault}");
        let fault = parse("[[token]]\nsha256 = open-sesame\n").unwrap_err();
        assert_eq!(fault.at.unwrap().0, 2);
        assert!(!fault.to_string().contains("sesame"), "{fault}");
    }

    #[tokio::test]
    async fn the_file_is_read_again_when_it_changed_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.toml");
        std::fs::write(&path, entry("ada", "operator", "one")).unwrap();
        let tokens = Tokens::open(&path).await.unwrap();
        assert_eq!(tokens.find("one").await, Some(("ada".to_owned(), May::Change)));
        assert_eq!(tokens.find("two").await, None);
        std::fs::write(&path, entry("ada", "viewer", "one") + &entry("bob", "operator", "two")).unwrap();
        assert_eq!(tokens.find("one").await, Some(("ada".to_owned(), May::Read)));
        assert_eq!(tokens.find("two").await, Some(("bob".to_owned(), May::Change)));
        std::fs::write(&path, "[[token").unwrap();
        assert_eq!(tokens.find("two").await, Some(("bob".to_owned(), May::Change)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(tokens.find("two").await, Some(("bob".to_owned(), May::Change)));
        std::fs::write(&path, entry("ada", "viewer", "one")).unwrap();
        assert_eq!(tokens.find("two").await, None);
    }
}
