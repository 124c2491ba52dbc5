//! Probes: timers and sockets. What they find goes to the writer, which folds it into health.
//!
//! Owns the runs of every probe at every address, and the look-ups of endpoints that are host names. One
//! task a target sleeps between its runs; [`Prober::configure`] makes the set of tasks what the config says.
//!
//! | file | what |
//! |---|---|
//! | `prober` | the set of tasks = f(config, addresses of host names) |
//! | `plan` | pure: each target's place in the interval |
//! | `pace` | pure: when a target runs next |
//! | `limits` | what may be used at the same time: descriptors, addresses, local ports, programs |
//! | `task` | one target: waits, runs within the time limit, the gate through which outcomes go |
//! | `lookup` | one host name: when to look it up, what to keep when that fails |
//! | `resolver` | addresses of host names, asked of the system's resolvers |
//! | `query` | one DNS question to one server |
//! | `http`, `handshake` (tls), `tcp`, `dns`, `exec`, `postgres`, `mysql`, `grpc`, `icmp`, `smtp` | one kind each, behind the trait `Kind` |
//! | `connect` | TCP and TLS connections of the kinds that speak over a stream |
//! | `certificate` | how long a server's certificate is good for |
//! | `feed` | what others measure, in a file or posted |
//! | `files` | files that are read off the threads that serve, so many at a time |
//! | `once` | probes run by hand, now |
//! | `judge` | what a run saw against what is expected |
//! | `tls` | whom to trust |
//! | `secure` | one connection, bounded, in the clear or over TLS, for the kinds that are not http |
//! | `words` | failures in words |
//!
//! A new kind is its file and its row in the function `kind`. Invariants: a run ends at its time limit whatever the peer
//! does, and what a peer may send is bounded; a probe never runs twice at the same time; nothing a removed
//! probe found is sent after [`Prober::configure`] returned; when the writer is behind, probes wait, so nothing
//! is dropped and nothing piles up. Deliberately absent: verdicts (`health`), counters for metrics.

mod certificate;
mod connect;
mod dns;
mod exec;
mod feed;
mod files;
mod grpc;
mod handshake;
mod http;
mod icmp;
mod judge;
mod limits;
mod lookup;
mod mysql;
pub mod once;
mod pace;
mod plan;
mod postgres;
mod prober;
mod query;
mod resolver;
mod secure;
mod smtp;
mod task;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod words;

use crate::model::{
    AppId, Endpoint, Exposed, FailReason, Failure, Mono, Name, Observed, Outcome, ProbeKind, ProbeSpec, ProbeTarget, RegionId,
};
pub use feed::{FEED_OCTETS_MAX, Feeds};
pub use files::open as open_file;
pub use lookup::{Addresses, Lookup, LookupFuture};
pub use prober::Prober;
pub use resolver::Resolver;
use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tls::Trust;

/// What the prober tells the writer.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbeEvent {
    /// A probe ran.
    Outcome(Outcome),
    /// A host name resolved to other addresses than before; never empty.
    Resolved {
        /// The application.
        app: AppId,
        /// The region.
        region: RegionId,
        /// The endpoint, a host name.
        endpoint: Endpoint,
        /// Its addresses, sorted.
        addresses: Vec<IpAddr>,
    },
    /// A look-up of a host name failed, or works again.
    Lookup {
        /// The application.
        app: AppId,
        /// The region.
        region: RegionId,
        /// The host name.
        host: Name,
        /// Why it failed; none: it works again.
        error: Option<String>,
    },
}

/// What one run found.
#[derive(Debug)]
struct Found {
    /// Whether it passed the kind's own rule, and what it saw in words: `HTTP 200`.
    result: Result<String, Failure>,
    /// What the kind knows by itself about the application's role; none where it does not or could not ask.
    observed: Option<Observed>,
    /// What the rules of the config look at.
    exposed: Exposed,
}

impl Found {
    /// Of a kind that exposes nothing.
    fn of(result: Result<String, Failure>) -> Found {
        Found {
            result,
            observed: None,
            exposed: Exposed::default(),
        }
    }
}

/// How far a run has come, for the message when its time is over: `no connection`, `no answer`, … And whose fault it is then.
#[derive(Debug)]
struct Stage(Mutex<(Cow<'static, str>, FailReason)>);

impl Stage {
    /// Nothing done yet.
    fn new() -> Stage {
        Stage(Mutex::new((Cow::Borrowed("no answer"), FailReason::Timeout)))
    }

    /// What is still missing from now on.
    fn set(&self, missing: &'static str) {
        self.put(Cow::Borrowed(missing), FailReason::Timeout);
    }

    /// The same of what this node must do before it can ask the endpoint.
    fn set_ours(&self, missing: String) {
        self.put(Cow::Owned(missing), FailReason::Internal);
    }

    /// What is missing, and of what class a failure is for that.
    fn put(&self, missing: Cow<'static, str>, reason: FailReason) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (missing, reason);
    }

    /// What is missing, and the class of a failure for that.
    fn missing(&self) -> (Cow<'static, str>, FailReason) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A run under way. Dropping it ends the run and frees all that it holds.
type RunFuture<'a> = Pin<Box<dyn Future<Output = Found> + Send + 'a>>;

/// Resolves when a kept connection is lost.
type LostFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One kind of probe at one address. It may keep things between runs, such as a connection. It need not
/// watch the time: the caller drops the run at its limit.
trait Kind: Send {
    /// One run.
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a>;

    /// Asked between runs: resolves, once, when a connection that is kept gets lost. The caller then runs the probe soon.
    /// Dropped and asked anew as often as the caller likes.
    fn lost(&mut self) -> LostFuture<'_> {
        Box::pin(std::future::pending())
    }

    /// Whether a connection is kept for the next run, so that this one needs no new one.
    fn keeps(&self) -> bool {
        false
    }

    /// Gives up what is kept: there are too many open.
    fn release(&mut self) {}
}

/// What kinds share: whom they trust, how they read files, and what was posted to feeds. Clones share the same.
#[derive(Debug, Clone, Default)]
pub struct Kit {
    /// Trusted certificates, and files.
    trust: Arc<Trust>,
    /// What was posted.
    feeds: Arc<Feeds>,
}

impl Kit {
    /// Where feeds are posted to.
    pub fn feeds(&self) -> &Feeds {
        &self.feeds
    }
}

/// Runs a probe once, now, at one address; a connection is not kept. `origin` as in [`Prober::start`].
pub async fn run_once(spec: &ProbeSpec, target: &ProbeTarget, origin: std::time::Instant) -> Outcome {
    let start = tokio::time::Instant::now();
    let judged = task::run(&mut *kind(spec, target, &Kit::default()), spec).await;
    let end = tokio::time::Instant::now();
    let at = Mono::after_origin(end.saturating_duration_since(origin.into()));
    judged.outcome(target.clone(), at, end.saturating_duration_since(start))
}

/// Why this process may not send echo requests, which probes of kind `icmp` need; none where it may.
pub fn icmp_refusal() -> Option<String> {
    icmp::refusal()
}

/// The table of kinds.
fn kind(spec: &ProbeSpec, target: &ProbeTarget, Kit { trust, feeds }: &Kit) -> Box<dyn Kind> {
    match &spec.kind {
        ProbeKind::Http(probe) => Box::new(http::Http::new(probe, spec.needs_body(), spec.timeout, target, trust)),
        ProbeKind::Tls(probe) => Box::new(handshake::Handshake::new(probe, target, spec.timeout, trust)),
        ProbeKind::Tcp(probe) => Box::new(tcp::Tcp::new(probe, target)),
        ProbeKind::Dns(probe) => Box::new(dns::Dns::new(probe, target)),
        ProbeKind::Exec(probe) => Box::new(exec::Exec::new(probe, spec.needs_body(), target)),
        ProbeKind::Feed(probe) => Box::new(feed::Feed::new(probe, !spec.expect.is_empty(), target, feeds, &trust.files)),
        ProbeKind::Grpc(probe) => Box::new(grpc::Grpc::new(probe, target, spec.timeout, trust)),
        ProbeKind::Mysql(probe) => Box::new(mysql::Mysql::new(probe, target, spec.timeout, trust)),
        ProbeKind::Icmp(probe) => Box::new(icmp::Icmp::new(probe, target)),
        ProbeKind::Smtp(probe) => Box::new(smtp::Smtp::new(probe, target, trust)),
        ProbeKind::Postgres(probe) => Box::new(postgres::Postgres::new(probe, target, spec.timeout, trust)),
    }
}
