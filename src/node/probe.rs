//! Probes run by hand without a server: those of a config, or one that is not configured yet.

use crate::config;
use crate::control::load;
use crate::model::{Diagnostic, Name};
use crate::probe::Kit;
use crate::probe::once::{self, Once, Planned};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Which probes to run.
#[derive(Debug, Clone)]
pub enum ProbeWhat {
    /// Those of a config, of all applications or of that of one name.
    Config {
        /// The config.
        config: PathBuf,
        /// Only this steered name's application.
        name: Option<Name>,
    },
    /// One that is not configured yet.
    Adhoc {
        /// The keys of its `[[app.ID.probe]]`, as TOML.
        keys: String,
        /// Where it is sent; none: where the host of its URL leads.
        address: Option<IpAddr>,
    },
}

/// Why nothing could be run.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The config, or the keys of the probe, have errors.
    #[error("the probe cannot be run:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Diagnostics(Vec<Diagnostic>),
    /// The name is not steered there.
    #[error("there is no steered name {0} in the config")]
    NoSuchName(Name),
    /// Nothing says where to send it.
    #[error("it is not known where to send the probe: give --address ADDRESS")]
    NoAddress,
    /// The host of the URL has no address.
    #[error("{host} does not resolve: {why}; give --address ADDRESS")]
    NotResolved {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
}

/// What will be run, and what has no address to run at.
pub struct ProbePlan {
    /// To run.
    pub planned: Vec<Planned>,
    /// Failed already, or not to be run from here.
    pub lost: Vec<Once>,
}

impl ProbePlan {
    /// Leaves out what only a server can run.
    fn new(planned: Vec<Planned>, mut lost: Vec<Once>) -> ProbePlan {
        let (planned, mut not_run) = once::without_server(planned);
        lost.append(&mut not_run);
        ProbePlan { planned, lost }
    }
}

/// Runs them from this process, and tells each run when it is done.
pub async fn run_probes(planned: Vec<Planned>, tell: impl FnMut(Once)) {
    once::run(planned, &Kit::default(), tell).await;
}

/// Finds out what is to be run.
///
/// # Errors
/// See [`ProbeError`].
pub async fn plan_probes(what: ProbeWhat) -> Result<ProbePlan, ProbeError> {
    match what {
        ProbeWhat::Config { config, name } => of_config(&config, name).await,
        ProbeWhat::Adhoc { keys, address } => adhoc(&keys, address).await,
    }
}

/// The probes of a config.
async fn of_config(path: &Path, name: Option<Name>) -> Result<ProbePlan, ProbeError> {
    let loaded = load(path).map_err(ProbeError::Diagnostics)?;
    let fleet = loaded.config.fleet;
    let apps = match name {
        None => fleet.apps.values().cloned().collect(),
        Some(name) => match fleet.names.get(&name.to_lowercase()) {
            Some(steered) => vec![steered.app.clone()],
            None => return Err(ProbeError::NoSuchName(name)),
        },
    };
    let (mut planned, mut lost) = (Vec::new(), Vec::new());
    for app in apps {
        let (mut some, mut others) = once::plan(&app).await;
        planned.append(&mut some);
        lost.append(&mut others);
    }
    Ok(ProbePlan::new(planned, lost))
}

/// One probe that is not configured yet.
async fn adhoc(keys: &str, address: Option<IpAddr>) -> Result<ProbePlan, ProbeError> {
    let spec = config::parse_probe("probe", keys).map_err(ProbeError::Diagnostics)?;
    let addresses = match (address, spec.kind.url().and_then(url::Url::host)) {
        (Some(address), _) => vec![address],
        (None, Some(url::Host::Ipv4(address))) => vec![address.into()],
        (None, Some(url::Host::Ipv6(address))) => vec![address.into()],
        (None, Some(url::Host::Domain(host))) => {
            let lost = |why: String| ProbeError::NotResolved {
                host: host.to_owned(),
                why,
            };
            let name = Name::parse(host).map_err(|error| lost(error.to_string()))?;
            once::addresses_of(&name).await.map_err(lost)?
        }
        (None, None) => return Err(ProbeError::NoAddress),
    };
    let planned = addresses.into_iter().map(|address| once::plan_one(spec.clone(), address));
    Ok(ProbePlan::new(planned.collect(), Vec::new()))
}
