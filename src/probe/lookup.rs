//! One endpoint that is a host name: when it is looked up, and what is kept when that fails.
//!
//! Each answer is good for its TTL and not longer; a failed, empty or overdue look-up keeps the last addresses, of one
//! family where only that one failed, and is logged once when it starts to fail. While one look-up hangs no other is begun
//! for the same name.

use super::ProbeEvent;
use super::prober::Shared;
use super::task::{Gate, Random};
use crate::model::{AppId, Endpoint, JITTER, Name, RegionId};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Most addresses of a host name that are probed, the lowest first.
const ADDRESSES_MAX: usize = 32;
/// After this a look-up counts as failed; its answer is still taken when it comes.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);
/// Names are not looked up more often than this, however short the TTL or the interval of the probes.
const LOOKUP_EVERY_MIN: Duration = Duration::from_secs(1);
/// Names are looked up at least this often, however long the TTL: a name that was moved in a hurry is found again.
const LOOKUP_EVERY_MAX: Duration = Duration::from_secs(3600);
/// Longest time until a failed look-up is tried again.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A look-up under way.
pub type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

/// Where addresses of host names come from.
pub trait Lookup: Send + Sync {
    /// Every address of a host name.
    fn addresses(&self, host: &Name) -> LookupFuture;
}

/// What a look-up found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4 addresses; none when they could not be asked for, which is not the same as that there are none.
    pub v4: Option<Vec<IpAddr>>,
    /// The same for IPv6.
    pub v6: Option<Vec<IpAddr>>,
    /// How long this is good for.
    pub ttl: Duration,
}

impl Addresses {
    /// The addresses, sorted, each once; of a family that could not be asked for those of before.
    pub(super) fn merge(self, known: &[IpAddr]) -> Vec<IpAddr> {
        let of = |v4: bool| known.iter().copied().filter(move |address| address.is_ipv4() == v4).collect();
        let mut all: Vec<IpAddr> = self.v4.unwrap_or_else(|| of(true));
        all.extend(self.v6.unwrap_or_else(|| of(false)));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// How long until it is asked for again; `retry` where a family failed.
    fn good_for(&self, retry: Duration) -> Duration {
        let ttl = self.ttl.clamp(LOOKUP_EVERY_MIN, LOOKUP_EVERY_MAX);
        if self.v4.is_some() && self.v6.is_some() {
            ttl
        } else {
            ttl.min(retry)
        }
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

/// Looks a host name up for ever: again when its TTL is over, or about every `interval` while that fails.
pub(super) async fn watch(shared: Weak<Shared>, gate: Arc<Gate>, lookup: Arc<dyn Lookup>, key: HostKey, interval: Duration) {
    let mut random = Random::new();
    let mut known: Vec<IpAddr> = Vec::new();
    let mut failing = false;
    let retry = interval.clamp(LOOKUP_EVERY_MIN, RETRY_MAX);
    loop {
        let mut wait = retry;
        let mut looking = lookup.addresses(&key.host);
        let found = match tokio::time::timeout(LOOKUP_TIME_MAX, &mut looking).await {
            Ok(found) => found,
            Err(_) => {
                if !complain(&shared, &gate, &mut failing, &key, "no answer in time", known.len()).await {
                    return;
                }
                looking.await
            }
        };
        match found {
            Err(error) => {
                if !complain(&shared, &gate, &mut failing, &key, &error.to_string(), known.len()).await {
                    return;
                }
            }
            Ok(found) => {
                let good_for = found.good_for(retry);
                let mut addresses = found.merge(&known);
                if addresses.is_empty() {
                    if !complain(&shared, &gate, &mut failing, &key, "no address", known.len()).await {
                        return;
                    }
                    tokio::time::sleep(spread(wait, &mut random)).await;
                    continue;
                }
                wait = good_for;
                if addresses.len() > ADDRESSES_MAX {
                    let count = addresses.len();
                    tracing::warn!(app = %key.app, region = %key.region, host = %key.host, count, "too many addresses: only the first {ADDRESSES_MAX} are probed");
                    addresses.truncate(ADDRESSES_MAX);
                }
                if failing {
                    tracing::info!(app = %key.app, region = %key.region, host = %key.host, "look-up works again");
                    failing = false;
                    if !tell_outcome(&shared, &gate, &key, None).await {
                        return;
                    }
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
        // From the end on: the TTL begins when the answer is there.
        tokio::time::sleep(spread(wait, &mut random)).await;
    }
}

/// A little longer, so that names which were looked up together do not stay together; never shorter, since until the TTL is
/// over a resolver would but repeat itself.
fn spread(wait: Duration, random: &mut Random) -> Duration {
    wait.mul_f64(1.0 + JITTER * random.unit())
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

/// Tells the writer that a look-up failed, or works again; false when nobody looks after the name any more.
async fn tell_outcome(shared: &Weak<Shared>, gate: &Gate, key: &HostKey, error: Option<String>) -> bool {
    let Some(shared) = shared.upgrade() else {
        return false;
    };
    let event = ProbeEvent::Lookup {
        app: key.app.clone(),
        region: key.region.clone(),
        host: key.host.clone(),
        error,
    };
    gate.send(&shared.common, event).await
}

/// Tells that a look-up failed, the log only when it starts to.
async fn complain(shared: &Weak<Shared>, gate: &Gate, failing: &mut bool, key: &HostKey, error: &str, kept: usize) -> bool {
    if !*failing {
        tracing::warn!(app = %key.app, region = %key.region, host = %key.host, error, kept, "look-up failed: the last addresses are kept");
        *failing = true;
    }
    tell_outcome(shared, gate, key, Some(error.to_owned())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_failed_keeps_its_addresses() {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let known = of(&["192.0.2.1", "2001:db8::1"]);
        let found = |v4: Option<&[&str]>, v6: Option<&[&str]>, seconds| Addresses {
            v4: v4.map(of),
            v6: v6.map(of),
            ttl: Duration::from_secs(seconds),
        };
        let both = found(Some(&["192.0.2.3", "192.0.2.2", "192.0.2.3"]), Some(&[]), 60);
        assert_eq!(both.clone().merge(&known), of(&["192.0.2.2", "192.0.2.3"]));
        let half = found(Some(&["192.0.2.9"]), None, 60);
        assert_eq!(half.clone().merge(&known), of(&["192.0.2.9", "2001:db8::1"]));
        assert_eq!(
            found(None, Some(&["2001:db8::2"]), 60).merge(&known),
            of(&["192.0.2.1", "2001:db8::2"])
        );
        let retry = Duration::from_secs(5);
        assert_eq!((both.good_for(retry), half.good_for(retry)), (Duration::from_secs(60), retry));
        assert_eq!(found(Some(&[]), Some(&[]), 0).good_for(retry), LOOKUP_EVERY_MIN);
        assert_eq!(found(Some(&[]), Some(&[]), 86_400).good_for(retry), LOOKUP_EVERY_MAX);
    }
}
