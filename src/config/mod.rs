//! The config: TOML text and zone files to a checked [`Config`], or every finding with its place.
//!
//! ```text
//! text ──toml──▶ tree ──spec, probe──▶ Spec ──checks──▶ findings
//!                                       │
//!        zone files, $INCLUDEs ──load──▶├──▶ findings of zones and of steered names in them
//!                                       └──build──▶ Config + zones          (only without an error)
//! ```
//!
//! Owns the keys ([`KEYS`]), their defaults and ranges, the rules between them (`checks`, one function a
//! rule), the files that belong to a set ([`load()`]), and what a reload may change ([`restart_keys`],
//! [`removal`], [`forgotten_serials`]). Invariants: nothing stops at the first error; no [`Config`] comes out of a set with an
//! error; the same bytes give the same findings and the same config; no input panics. A folder is never
//! guessed: every path in a config is relative to the config file.
//!
//! Deliberately absent: files, environment and clocks. Reading is a callback, so that the last good copy of
//! a set loads through the same code as today's files do.

mod build;
mod checks;
mod encrypted;
pub mod fuzz;
mod keys;
mod load;
mod places;
mod probe;
mod reload;
mod service;
mod source;
mod spec;
mod table;
mod value;

pub use crate::model::TlsFiles;
pub use keys::KEYS;
pub use load::{Loaded, ReadFile, load};
pub use places::{Place, Places};
pub use reload::{GUARD_RRSETS_MIN, Outline, Removal, Served, forgotten_serials, removal, restart_keys};

use crate::model::{Diagnostic, DnsListen, Fleet, Location, Name, Prefix, ProbeSpec, RateLimit};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A checked config.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// This server.
    pub node: NodeConfig,
    /// Where DNS is served.
    pub dns: DnsListen,
    /// What is added to DNS answers, and how they are bounded.
    pub service: ServiceConfig,
    /// Where the API is served.
    pub api: ApiConfig,
    /// The static zones, in the order of the file.
    pub zones: Vec<ZoneConfig>,
    /// Applications, steered names and regions.
    pub fleet: Fleet,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Name in the ledger and in logs.
    pub name: String,
    /// Folder of ledger, keys, last health and last good config.
    pub data_dir: PathBuf,
    /// Largest share of RRsets that a reload may remove unforced, percent.
    pub reload_max_removed: u8,
    /// Reload when all files have been quiet for 2 s.
    pub reload_on_change: bool,
    /// The share of everything cut off at once above which the prober itself is suspected, percent; 100: never.
    pub suspect_self_above: u8,
}

/// `[dns]`, beyond where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The name server identifier (RFC 5001).
    pub nsid: Option<String>,
    /// Whether DNS cookies are given.
    pub cookies: bool,
    /// Where their secrets stand; none: the node makes one itself.
    pub cookie_secret_file: Option<PathBuf>,
    /// How often one network is answered; none: as often as it asks.
    pub rate_limit: Option<RateLimit>,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// HTTP API, console and metrics.
    pub listen: SocketAddr,
    /// Unix socket for local users.
    pub socket: Option<PathBuf>,
    /// Hashed tokens with their roles.
    pub token_file: Option<PathBuf>,
    /// Certificate and key; none: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Beyond loopback without TLS, on the operator's own word.
    pub allow_plaintext: bool,
    /// Most series with a `name` label.
    pub metrics_names_max: usize,
}

/// One `[[zone]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneConfig {
    /// Its apex, in lower case.
    pub name: Name,
    /// Its master file, as it is handed to the read callback.
    pub file: PathBuf,
    /// Whose queries are answered; none: everybody's.
    pub allow_query: Option<Vec<Prefix>>,
    /// Where the config names the file.
    pub at: Location,
}

/// Reads and checks a config text alone, without its zone files; `path` is how the file is named in findings
/// and what relative paths in it start from. No config comes with an error among the findings.
pub fn parse(path: &str, text: &str) -> (Option<Config>, Vec<Diagnostic>) {
    let source = source::SourceText::new(path, text.to_owned());
    let mut findings = source::Findings::new(&source);
    let spec = spec::read(&source, &mut findings);
    if let Some(spec) = &spec {
        checks::run(spec, &mut findings);
    }
    let findings = findings.finish();
    let config = match findings.iter().any(Diagnostic::is_error) {
        true => None,
        false => spec.and_then(|spec| build::build(&spec, &source)),
    };
    (config, findings)
}

/// Reads the keys of one `[[app.ID.probe]]` alone, as `pointsman probe --with` takes them; `path` names them in findings.
///
/// # Errors
/// Every finding, when at least one is an error.
pub fn parse_probe(path: &str, text: &str) -> Result<ProbeSpec, Vec<Diagnostic>> {
    let source = source::SourceText::new(path, text.to_owned());
    let mut findings = source::Findings::new(&source);
    let entry = spec::read_lone_probe(&source, &mut findings);
    if let Some(entry) = &entry {
        checks::run_probe(entry, &mut findings);
    }
    let findings = findings.finish();
    match entry.and_then(|entry| entry.spec(Path::new(""))) {
        Some(spec) if !findings.iter().any(Diagnostic::is_error) => Ok(spec),
        _ => Err(findings),
    }
}

/// The data dir that a config names, however wrong the rest of it is; none when it names none.
pub fn data_dir_hint(path: &str, text: &str) -> Option<PathBuf> {
    let source = source::SourceText::new(path, text.to_owned());
    let mut findings = source::Findings::new(&source);
    let spec = spec::read(&source, &mut findings)?;
    Some(folder_of(path).join(&spec.node.data_dir.as_ref()?.value))
}

/// The folder that paths in a config are relative to.
fn folder_of(path: &str) -> &Path {
    Path::new(path).parent().unwrap_or(Path::new(""))
}
