//! One endpoint that is a host name: when it is looked up, and what is kept when that fails.
//!
//! Each answer is good for its TTL and not longer; a failed, empty or overdue look-up keeps the last addresses, of one
//! family where only that one failed, and is told: an alert, and the log once when it starts to fail. Addresses and alert outlive
//! the task: another interval of the probes is another task, and after a restart the addresses are those of saved health. While one look-up hangs no other is begun
//! for the same name.

use super::ProbeEvent;
use super::prober::Shared;
use super::task::{Gate, Random};
use crate::model::{AppId, Endpoint, JITTER, Name, RegionId};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
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

    /// The family that could not be asked for, if one could: whether it is IPv4.
    fn lost(&self) -> Option<bool> {
        match (&self.v4, &self.v6) {
            (None, _) => Some(true),
            (_, None) => Some(false),
            (Some(_), Some(_)) => None,
        }
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
pub(super) async fn watch(mut host: Watched, lookup: Arc<dyn Lookup>, interval: Duration) {
    let mut random = Random::new();
    let retry = interval.clamp(LOOKUP_EVERY_MIN, RETRY_MAX);
    loop {
        let mut looking = lookup.addresses(&host.key.host);
        let found = match tokio::time::timeout(LOOKUP_TIME_MAX, &mut looking).await {
            Ok(found) => found,
            Err(_) => {
                if !host.complain("no answer in time").await {
                    return;
                }
                looking.await
            }
        };
        let Some(wait) = host.take(found, retry).await else {
            return;
        };
        // From the end on: the TTL begins when the answer is there.
        tokio::time::sleep(spread(wait, &mut random)).await;
    }
}

/// A host name that is looked after.
pub(super) struct Watched {
    /// To whom changes are told.
    pub shared: Weak<Shared>,
    /// What its events pass.
    pub gate: Arc<Gate>,
    /// Which endpoint.
    pub key: HostKey,
    /// What it last resolved to.
    pub known: Vec<IpAddr>,
    /// Whether its look-ups fail, as far as the writer was told. Outlives the task: another one tells that they work again.
    pub failing: Arc<AtomicBool>,
    /// What the log was told and is not told again: that there are too many addresses, that those of a family are not known.
    pub said: (bool, bool),
}

impl Watched {
    /// Takes in what was found. How long that is good for; none: nobody looks after the name any more.
    async fn take(&mut self, found: io::Result<Addresses>, retry: Duration) -> Option<Duration> {
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.complain(&error.to_string()).await.then_some(retry),
        };
        let (good_for, lost) = (found.good_for(retry), found.lost());
        let mut addresses = found.merge(&self.known);
        if addresses.is_empty() {
            return self.complain("no address").await.then_some(retry);
        }
        let is_kept = lost.is_some_and(|v4| self.known.iter().any(|address| address.is_ipv4() == v4));
        let goes_on = match lost {
            Some(v4) if is_kept => self.complain(no_answer(v4)).await,
            lost => {
                self.say_unknown(lost);
                self.works().await
            }
        };
        self.cap(&mut addresses);
        (goes_on && self.resolved(addresses).await).then_some(good_for)
    }

    /// Tells of addresses that are not those of before; false when nobody looks after the name any more.
    async fn resolved(&mut self, addresses: Vec<IpAddr>) -> bool {
        let HostKey { app, region, host } = &self.key;
        if addresses == self.known {
            return true;
        }
        tracing::info!(%app, %region, %host, ?addresses, "host name resolved");
        self.known = addresses;
        tell(&self.shared, &self.gate, &self.key, &self.known).await
    }

    /// Leaves out what is too much; the log is told when that begins. A zone must not be able to fill it.
    fn cap(&mut self, addresses: &mut Vec<IpAddr>) -> bool {
        let HostKey { app, region, host } = &self.key;
        let (count, before) = (addresses.len(), self.said.0);
        self.said.0 = count > ADDRESSES_MAX;
        addresses.truncate(ADDRESSES_MAX);
        let begins = self.said.0 && !before;
        if begins {
            tracing::warn!(%app, %region, %host, count, "too many addresses: only the first {ADDRESSES_MAX} are probed");
        }
        begins
    }

    /// Tells the log when it begins that addresses of a family could not be asked for and none are known. No alert: there are
    /// servers that never answer for a family which their names do not have.
    fn say_unknown(&mut self, lost: Option<bool>) {
        let HostKey { app, region, host } = &self.key;
        if let Some(v4) = lost.filter(|_| !self.said.1) {
            tracing::warn!(%app, %region, %host, error = no_answer(v4), "look-up failed for one family, of which no address is known");
        }
        self.said.1 = lost.is_some();
    }

    /// Tells that a look-up failed, the log only when it starts to; false when nobody looks after the name any more.
    async fn complain(&self, error: &str) -> bool {
        let HostKey { app, region, host } = &self.key;
        if !self.failing.swap(true, Ordering::Relaxed) {
            let kept = self.known.len();
            tracing::warn!(%app, %region, %host, error, kept, "look-up failed: the last addresses are kept");
        }
        tell_outcome(&self.shared, &self.gate, &self.key, Some(error.to_owned())).await
    }

    /// Tells that look-ups work, where they did not; false when nobody looks after the name any more.
    async fn works(&self) -> bool {
        let HostKey { app, region, host } = &self.key;
        if !self.failing.load(Ordering::Relaxed) {
            return true;
        }
        tracing::info!(%app, %region, %host, "look-up works again");
        let told = tell_outcome(&self.shared, &self.gate, &self.key, None).await;
        // Only once it was told, so that whoever comes after this task tells it otherwise.
        if told {
            self.failing.store(false, Ordering::Relaxed);
        }
        told
    }
}

/// The words for a family that could not be asked for.
fn no_answer(v4: bool) -> &'static str {
    match v4 {
        true => "no answer about IPv4 addresses",
        false => "no answer about IPv6 addresses",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_addresses_are_told_when_that_begins() {
        let key = HostKey {
            app: AppId::new("shop"),
            region: RegionId::new("iad"),
            host: Name::parse("lb.example.com.").unwrap(),
        };
        let mut host = Watched {
            shared: Weak::new(),
            gate: Arc::default(),
            key,
            known: Vec::new(),
            failing: Arc::default(),
            said: (false, false),
        };
        let mut told = |count: u8| {
            let mut addresses: Vec<IpAddr> = (0..count).map(|last| [192, 0, 2, last].into()).collect();
            let told = host.cap(&mut addresses);
            assert!(addresses.len() <= ADDRESSES_MAX);
            told
        };
        assert_eq!([40, 40, 41, 32, 33].map(&mut told), [true, false, false, false, true]);
    }

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
