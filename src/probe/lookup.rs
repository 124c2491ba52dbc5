//! One endpoint that is a host name: when it is looked up, and what is kept when that fails.
//!
//! A failed, empty or overdue look-up keeps the last addresses and is logged once when it starts to fail. The
//! system's resolver cannot be interrupted, so while one look-up hangs no other is begun for the same name.

use super::ProbeEvent;
use super::prober::Shared;
use super::task::{Gate, Random};
use crate::model::{AppId, Endpoint, Name, RegionId};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Most addresses of a host name that are probed, the lowest first.
const ADDRESSES_MAX: usize = 32;
/// After this a look-up counts as failed; its answer is still taken when it comes.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);
/// Names are not looked up more often than this, however short the interval of the probes.
const LOOKUP_EVERY_MIN: Duration = Duration::from_secs(1);

/// A look-up under way.
pub type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Where addresses of host names come from.
pub trait Lookup: Send + Sync {
    /// Every address of a host name.
    fn addresses(&self, host: &Name) -> LookupFuture;
}

/// The resolver of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses(&self, host: &Name) -> LookupFuture {
        // RFC 6761 section 6.3: never asked for.
        if Name::parse("localhost.").is_ok_and(|localhost| host.is_at_or_below(&localhost)) {
            return Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]) });
        }
        // With its final dot, so that no search list and no hosts file is tried: clients ask the DNS.
        let host = host.to_string();
        Box::pin(async move { Ok(tokio::net::lookup_host((host.as_str(), 0)).await?.map(|one| one.ip()).collect()) })
    }
}

/// Which endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct HostKey {
    /// The application.
    pub app: AppId,
    /// The region.
    pub region: RegionId,
    /// The host name.
    pub host: Name,
}

impl HostKey {
    /// The endpoint as configured.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Host(self.host.clone())
    }
}

/// Looks a host name up for ever, about every `interval`.
pub(super) async fn watch(shared: Weak<Shared>, gate: Arc<Gate>, lookup: Arc<dyn Lookup>, key: HostKey, interval: Duration) {
    let mut random = Random::new();
    let mut known: Vec<IpAddr> = Vec::new();
    let mut failing = false;
    loop {
        let start = Instant::now();
        let mut looking = lookup.addresses(&key.host);
        let found = match tokio::time::timeout(LOOKUP_TIME_MAX, &mut looking).await {
            Ok(found) => found,
            Err(_) => {
                complain(&mut failing, &key, "no answer in time", known.len());
                looking.await
            }
        };
        match found {
            Ok(addresses) if addresses.is_empty() => complain(&mut failing, &key, "no address", known.len()),
            Err(error) => complain(&mut failing, &key, &error.to_string(), known.len()),
            Ok(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                if addresses.len() > ADDRESSES_MAX {
                    let count = addresses.len();
                    tracing::warn!(app = %key.app, region = %key.region, host = %key.host, count, "too many addresses: only the first {ADDRESSES_MAX} are probed");
                    addresses.truncate(ADDRESSES_MAX);
                }
                if failing {
                    tracing::info!(app = %key.app, region = %key.region, host = %key.host, "look-up works again");
                    failing = false;
                }
                if addresses != known {
                    tracing::info!(app = %key.app, region = %key.region, host = %key.host, ?addresses, "host name resolved");
                    known = addresses;
                    if !tell(&shared, &gate, &key, &known).await {
                        return;
                    }
                }
            }
        }
        let wait = interval.max(LOOKUP_EVERY_MIN).mul_f64(0.9 + 0.2 * random.unit());
        tokio::time::sleep_until(start + wait).await;
    }
}

/// First the writer, then the probes, so that the writer knows the addresses when outcomes come.
async fn tell(shared: &Weak<Shared>, gate: &Gate, key: &HostKey, addresses: &[IpAddr]) -> bool {
    let Some(shared) = shared.upgrade() else {
        return false;
    };
    let event = ProbeEvent::Resolved {
        app: key.app.clone(),
        region: key.region.clone(),
        endpoint: key.endpoint(),
        addresses: addresses.to_vec(),
    };
    gate.send(&shared.common, event).await && shared.resolved(key, addresses)
}

/// Logs when a look-up starts to fail.
fn complain(failing: &mut bool, key: &HostKey, error: &str, kept: usize) {
    if !*failing {
        tracing::warn!(app = %key.app, region = %key.region, host = %key.host, error, kept, "look-up failed: the last addresses are kept");
        *failing = true;
    }
}
