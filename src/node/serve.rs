//! `pointsman serve`: the running server, from its sockets to its orderly end.

use super::boot::{self, Boot};
use super::descriptors;
use super::watcher;
use crate::config::Outline;
use crate::control::{self, Handle, Parts, Published, ReloadRequest, SubmitError, Surroundings};
use crate::health::Book;
use crate::model::{Actor, AppId, Decision, EncryptedListen, Endpoint, Fleet, Generation, Name, NameMap, ProbeTarget, RegionId, rcode};
use crate::probe::{ProbeEvent, Prober};
use crate::telemetry::{self, Clock, DnsCounters, Metrics};
use crate::tls::{Certificates, Faults};
use crate::{api, dns};
use anyhow::Context;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Most outcomes that wait for the writer; the probes wait when it is full.
const OUTCOMES_MAX: usize = 4096;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The config.
    pub config: PathBuf,
    /// Serve the last published roles and refuse every change, whatever the ledger looks like.
    pub answer_only: bool,
}

impl ServeOptions {
    /// With the whole path of the config: the last accepted config remembers its paths, and however this one is named now, they are
    /// to be the same.
    fn absolute(self) -> anyhow::Result<ServeOptions> {
        let config = std::path::absolute(&self.config).context("finding the folder of the config")?;
        Ok(ServeOptions { config, ..self })
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When neither today's config nor the last accepted one can be served, the ledger is corrupt, or a socket is taken.
pub async fn serve(options: ServeOptions) -> anyhow::Result<()> {
    serve_until(options, || {}).await
}

/// Serves until SIGTERM or SIGINT; calls `ready` once everything answers.
///
/// # Errors
/// As [`serve`].
pub async fn serve_until(options: ServeOptions, ready: impl FnOnce()) -> anyhow::Result<()> {
    let options = options.absolute()?;
    // Before anybody asks how many there are.
    descriptors::raise();
    let clock = Arc::new(Clock::new());
    let hash_seed = random_seed();
    // Signals first: one that comes during a long load must not be lost.
    let mut signals = Signals::new().context("installing the signal handlers")?;
    let mut boot = boot::boot(&options, &clock)?;
    let now = clock.now();
    let config = boot.config.clone();
    let fleet = &config.fleet;

    let settings = control::settings_at_start(&boot.config, &boot.serving);
    let (snapshot, decisions) = control::compile(fleet, &boot.zones, &boot.state, &boot.health, now, hash_seed, settings);
    let lanes = Arc::new(ArcSwap::from_pointee(snapshot));
    let stats = Arc::new(dns::Stats::default());
    let bound = dns::Server::bind(&boot.config.dns.listen, boot.config.dns.workers).context("opening the DNS sockets")?;
    let (bound, faults) = with_encrypted(bound, boot.config.dns.encrypted.as_ref())?;
    let server = bound.start(lanes.clone(), stats.clone()).context("starting the DNS server")?;
    say_addresses(&server);

    let outline = give_zones_back(&mut boot);

    let metrics = Arc::new(Metrics::new().context("making the metrics")?);
    let view = Arc::new(ArcSwap::from_pointee(first_view(&boot, decisions)));
    let (outcomes, inbox) = mpsc::channel::<ProbeEvent>(OUTCOMES_MAX);
    let prober = Prober::start(outcomes, clock.origin());
    prober.begin(fleet, last_addresses(fleet, &boot.health));
    let around = Surroundings {
        lanes,
        view,
        ledger: boot.ledger,
        config_path: options.config.clone(),
        files: boot.files,
        hash_seed,
        dns_counters: Box::new(move || counters(&stats)),
    };
    let parts = Parts {
        clock,
        config: boot.config.clone(),
        state: boot.state,
        head: boot.head,
        health: boot.health,
        appender: boot.appender,
        prober,
        metrics,
        serving: boot.serving,
        hashes: boot.hashes,
        unrecorded: boot.unrecorded,
        certificate_fault: asking(faults.clone()),
        outline,
    };
    let handle = control::start(parts, around, inbox);
    let api = api::start(handle.clone(), &faults).await.context("starting the API")?;
    let watch = config.node.reload_on_change.then(|| follow_files(handle.clone()));

    notify_systemd(&[sd_notify::NotifyState::Ready]);
    ready();
    signals.wait_for_stop(&handle).await;
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    if let Some(watch) = watch {
        watch.abort();
    }
    api.stop().await;
    handle.stop().await;
    server.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Reloads when files change; the log says when that is not to be had.
fn follow_files(handle: Handle) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = watcher::run(handle).await {
            tracing::error!("reload-on-change does not work, reload by hand: {error}");
        }
    })
}

/// Tells the log where DNS is answered.
fn say_addresses(server: &dns::Running) {
    for address in server.addresses() {
        tracing::info!(%address, "answering DNS over UDP and TCP");
    }
    for (transport, address) in server.encrypted_addresses() {
        tracing::info!(%address, transport = transport.as_str(), "answering encrypted DNS");
    }
}

/// Takes the sockets of the encrypted transports, with a certificate that follows its files. One that cannot be used, half renewed
/// perhaps when the power went, is no reason not to answer over UDP and TCP; what is wrong with it stands in the faults.
fn with_encrypted(bound: dns::Bound, listen: Option<&EncryptedListen>) -> anyhow::Result<(dns::Bound, Faults)> {
    let faults = Faults::default();
    let Some(listen) = listen else {
        return Ok((bound, faults));
    };
    let (certificates, error) = Certificates::load_or_wait(&listen.files.cert, &listen.files.key);
    if let Some(error) = &error {
        tracing::error!("encrypted DNS is not answered until its certificate can be used, the rest is: {error}");
    }
    certificates.follow(&faults, error);
    let bound = bound
        .with_encrypted(listen, certificates)
        .context("opening the sockets of encrypted DNS")?;
    Ok((bound, faults))
}

/// Asks what is wrong with certificates.
fn asking(faults: Faults) -> Box<dyn Fn() -> Option<String> + Send> {
    Box::new(move || faults.told())
}

/// Where the host names of endpoints were when health was saved.
fn last_addresses(fleet: &Fleet, health: &Book) -> Vec<(AppId, RegionId, Name, Vec<IpAddr>)> {
    let mut found: BTreeMap<(AppId, RegionId, Name), BTreeSet<IpAddr>> = BTreeMap::new();
    for ProbeTarget {
        app,
        region,
        endpoint,
        address,
        ..
    } in fleet.apps.keys().flat_map(|app| health.targets(app)).map(|status| status.target)
    {
        if let Endpoint::Host(host) = endpoint {
            let key = (app.clone(), region.clone(), host.clone());
            found.entry(key).or_default().insert(*address);
        }
    }
    let told = found
        .into_iter()
        .map(|((app, region, host), addresses)| (app, region, host, addresses.into_iter().collect()));
    told.collect()
}

/// What was compiled is needed no more, but for an outline: a million names are some million pieces of memory.
fn give_zones_back(boot: &mut Boot) -> Outline {
    let outline = Outline::of(&boot.zones);
    boot.zones.clear();
    tokio::task::spawn_blocking(telemetry::give_back);
    outline
}

/// What readers see before the writer's first publish.
fn first_view(boot: &Boot, decisions: NameMap<Arc<Decision>>) -> Published {
    Published {
        generation: Generation(0),
        seq: boot.state.seq(),
        head: boot.head,
        config: boot.config.clone(),
        state: boot.state.clone(),
        health: boot.health.clone(),
        watch: Arc::new(crate::role::Watch::new()),
        decisions,
        alerts: imbl::OrdMap::new(),
        serving: Arc::new(boot.serving.clone()),
    }
}

/// The signals that a server obeys.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Installs the handlers.
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Reloads at each SIGHUP, returns at SIGTERM or SIGINT.
    async fn wait_for_stop(&mut self, handle: &Handle) {
        loop {
            tokio::select! {
                _ = self.term.recv() => { tracing::info!("SIGTERM: stopping"); return; }
                _ = self.int.recv() => { tracing::info!("SIGINT: stopping"); return; }
                _ = self.hup.recv() => {
                    let handle = handle.clone();
                    // Apart, so that a stop need not wait for a long load.
                    tokio::spawn(async move {
                        let request = ReloadRequest { force: false, reason: "SIGHUP".to_owned(), actor: Actor::Node, request_id: None };
                        match handle.reload(request).await {
                            Ok(receipt) => tracing::info!(seq = receipt.seq.0, "reloaded on SIGHUP"),
                            Err(error) => log_refusal("SIGHUP", &error),
                        }
                    });
                }
            }
        }
    }
}

/// Says in the log why a reload that nobody waits for was refused; every finding on a line of its own.
pub(super) fn log_refusal(cause: &str, error: &SubmitError) {
    tracing::error!(cause, "reload refused, the present config stays: {error}");
    if let SubmitError::Diagnostics(findings) | SubmitError::Conflict(findings) = error {
        boot::print_findings(findings);
    }
}

/// Tells systemd; without systemd this does nothing.
fn notify_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// What the DNS side counted, for a scrape.
fn counters(stats: &dns::Stats) -> DnsCounters {
    let region = |region: Option<crate::model::RegionId>| region.map_or_else(|| "-".to_owned(), |region| region.to_string());
    DnsCounters {
        queries: stats
            .queries()
            .into_iter()
            .map(|(transport, count)| (transport.as_str(), count))
            .collect(),
        responses: stats
            .responses()
            .into_iter()
            .map(|(code, count)| (rcode::name(code).into_owned(), count))
            .collect(),
        answers: stats
            .answers()
            .into_iter()
            .map(|((name, of), count)| (name.to_string(), region(of), count))
            .collect(),
        drops: stats.drops().into_iter().map(|(reason, count)| (reason.as_str(), count)).collect(),
    }
}

/// A seed for the answer index that nobody outside knows, so that nobody can aim collisions at it.
fn random_seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()) << 32)
}
