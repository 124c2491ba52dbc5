//! Applications, their steered names, endpoints and probes: what the config says is to be served and watched.
//!
//! These are the nouns that the pure tiers share; `config` checks and builds them, nobody changes them
//! afterwards. An application is a label and a policy; the key of every role is the steered name.

use super::{Answer, AppId, FeedProbe, FeedSource, Finder, Name, ProbeKind, ProbeSpec, RegionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One application.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The key of its config table.
    pub id: AppId,
    /// Its main name, in lower case.
    pub name: Name,
    /// Its regions in order of preference; never empty.
    pub regions: Vec<RegionId>,
    /// TTL of the answers, whole seconds.
    pub ttl: u32,
    /// Who moves the active region.
    pub failover: Failover,
    /// How long a region must be unhealthy before a policy moves away from it.
    pub failover_delay: Duration,
    /// How long home must be healthy before `automatic` moves back.
    pub failback_delay: Duration,
    /// Least time between two moves or switches of a name.
    pub cooldown: Duration,
    /// What is answered when no endpoint of the region is usable.
    pub when_all_down: WhenAllDown,
    /// How many of the counting probes an endpoint must pass.
    pub require: Require,
    /// Its paired names, in lower case: each prefers its region.
    pub paired: BTreeMap<RegionId, Name>,
    /// Its endpoints a region; every region of `regions` has at least one.
    pub endpoints: BTreeMap<RegionId, Vec<Endpoint>>,
    /// Its probes, in the order of the config.
    pub probes: Vec<ProbeSpec>,
}

impl App {
    /// Whether a pass of a probe shows that this node reaches the region: not that of a feed, unless feeds are all there is.
    pub fn shows_reach(&self, probe: usize) -> bool {
        let mut counting = self.probes.iter().filter(|spec| !spec.monitoring_only);
        let is_hearsay = self.probes.get(probe).is_some_and(ProbeSpec::is_hearsay);
        !is_hearsay || counting.all(ProbeSpec::is_hearsay)
    }

    /// Whether any probe says what role the application itself has, so that `target-writable` is a gate.
    pub fn has_role_probe(&self) -> bool {
        self.probes.iter().any(ProbeSpec::reports_role)
    }

    /// Number of probes that count towards health.
    pub fn counting_probes(&self) -> usize {
        self.probes.iter().filter(|probe| !probe.monitoring_only).count()
    }

    /// The endpoints of a region; empty when it is not one of the application's.
    pub fn endpoints_of(&self, region: &RegionId) -> &[Endpoint] {
        self.endpoints.get(region).map_or(&[], Vec::as_slice)
    }
}

/// A steered name: the main name of an application or one of its paired names.
#[derive(Debug, Clone, PartialEq)]
pub struct SteeredName {
    /// The name, in lower case: the key of its role.
    pub name: Name,
    /// The application whose policy, TTL and endpoints it uses.
    pub app: Arc<App>,
    /// The region that a paired name prefers; none for the main name.
    pub paired: Option<RegionId>,
    /// Order of preference: the application's; for a paired name its own region first, then the rest.
    pub order: Vec<RegionId>,
    /// What each region answers when it is answered whole, in the order of the application's regions; one for all its names.
    whole: Arc<[(RegionId, Arc<Answer>)]>,
    /// Where the application stands among those of its fleet.
    place: Place,
}

/// Where an application stands in the order of the ids: a hint for who keeps something in that order. Names that differ only in it are
/// configured alike.
#[derive(Debug, Clone, Copy)]
struct Place(usize);

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl SteeredName {
    /// Every steered name of the application at this place in the order of the ids, the main name first.
    fn of(app: &Arc<App>, place: usize) -> Vec<SteeredName> {
        let place = Place(place);
        let answer = |region: &RegionId| Arc::new(Answer::of(app.endpoints_of(region).iter()));
        let whole: Arc<[_]> = app.regions.iter().map(|region| (region.clone(), answer(region))).collect();
        let main = SteeredName {
            name: app.name.clone(),
            app: app.clone(),
            paired: None,
            order: app.regions.clone(),
            whole: whole.clone(),
            place,
        };
        let paired = app.paired.iter().map(|(region, name)| {
            let mut order = vec![region.clone()];
            order.extend(app.regions.iter().filter(|other| *other != region).cloned());
            SteeredName {
                name: name.clone(),
                app: app.clone(),
                paired: Some(region.clone()),
                order,
                whole: whole.clone(),
                place,
            }
        });
        std::iter::once(main).chain(paired).collect()
    }

    /// Where its application stands in the order of the ids of its fleet.
    pub fn place(&self) -> usize {
        self.place.0
    }

    /// What a region answers when it is answered whole; none when it is not one of the application's.
    pub fn whole(&self, region: &RegionId) -> Option<&Arc<Answer>> {
        let found = self.whole.iter().find(|(other, _)| other == region);
        found.map(|(_, answer)| answer)
    }
}

/// Every application and every steered name that is served: what `role`, `health` and `steering` work on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    /// Applications by their id.
    pub apps: BTreeMap<AppId, Arc<App>>,
    /// Steered names by themselves.
    pub names: BTreeMap<Name, Arc<SteeredName>>,
    /// The names an application steers, main name first.
    pub names_of: BTreeMap<AppId, Vec<Name>>,
    /// Every region of the config with its title; also such as no application uses.
    pub regions: BTreeMap<RegionId, String>,
}

impl Fleet {
    /// Finds so many steered names, in canonical order best, from this one on.
    #[expect(clippy::type_complexity, reason = "a look-up and an iterator cannot be named otherwise")]
    pub fn finder<'m>(
        &'m self,
        wanted: usize,
        first: Option<&Name>,
    ) -> Finder<impl Fn(&Name) -> Option<&'m Arc<SteeredName>>, impl Iterator<Item = (&'m Name, &'m Arc<SteeredName>)>> {
        let names = &self.names;
        Finder::new(
            (wanted, first),
            names.len(),
            |name| names.get(name),
            |first| names.range::<Name, _>(first..),
        )
    }

    /// Puts the fleet together; of two applications with one id the later counts, of two with one name the one with the later id
    /// (the config refuses both before).
    pub fn new(regions: BTreeMap<RegionId, String>, apps: Vec<Arc<App>>) -> Fleet {
        let apps: BTreeMap<AppId, Arc<App>> = apps.into_iter().map(|app| (app.id.clone(), app)).collect();
        let (mut names, mut names_of) = (BTreeMap::new(), BTreeMap::new());
        for (place, app) in apps.values().enumerate() {
            let steered = SteeredName::of(app, place);
            names_of.insert(app.id.clone(), steered.iter().map(|one| one.name.clone()).collect());
            names.extend(steered.into_iter().map(|one| (one.name.clone(), Arc::new(one))));
        }
        Fleet {
            apps,
            names,
            names_of,
            regions,
        }
    }
}

impl Fleet {
    /// Every feed that a probe waits for, by its id.
    pub fn feeds(&self) -> BTreeSet<String> {
        let mut feeds = BTreeSet::new();
        for app in self.apps.values() {
            for probe in &app.probes {
                if let ProbeKind::Feed(FeedProbe {
                    source: FeedSource::Posted(id),
                    ..
                }) = &probe.kind
                {
                    let endpoints = app
                        .regions
                        .iter()
                        .flat_map(|region| app.endpoints_of(region).iter().map(move |one| (region, one)));
                    feeds.extend(endpoints.map(|(region, endpoint)| FeedProbe::at(id, region, endpoint)));
                }
            }
        }
        feeds
    }
}

/// Who moves the active region of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failover {
    /// Only operators; a sick active region opens a proposal.
    Manual,
    /// The policy moves away from a sick region, and never back to one it left.
    OneWay,
    /// The policy moves away and, after `failback-delay`, home again.
    Automatic,
    /// The policy follows the region whose application says it is active.
    Follow,
}

impl Failover {
    /// As written in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Failover::Manual => "manual",
            Failover::OneWay => "one-way",
            Failover::Automatic => "automatic",
            Failover::Follow => "follow",
        }
    }
}

/// What is answered when no endpoint of the active region is usable.
#[derive(Debug, Clone, PartialEq)]
pub enum WhenAllDown {
    /// Every endpoint of the active region, sick ones too.
    Active,
    /// Those and the endpoints of every region that the policy may move to by itself.
    All,
    /// SERVFAIL for A, AAAA, CNAME and ANY.
    Servfail,
    /// These addresses instead.
    Addresses(Vec<IpAddr>),
    /// This host name, as a CNAME.
    Host(Name),
}

/// How many of the counting probes an endpoint must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Require {
    /// All of them.
    All,
    /// This many, at least 1 and at most the number of counting probes.
    AtLeast(usize),
}

/// One endpoint of an application in a region.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// Answered as A or AAAA.
    Address(IpAddr),
    /// Answered as CNAME; its region's only endpoint.
    Host(Name),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Address(address) => address.fmt(f),
            Endpoint::Host(name) => name.fmt(f),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Endpoint, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Endpoint::Address(address)),
            Err(_) => Name::parse(&text).map(Endpoint::Host).map_err(serde::de::Error::custom),
        }
    }
}

/// Where the server listens, and how many lanes it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsListen {
    /// Addresses, UDP and TCP each.
    pub listen: Vec<SocketAddr>,
    /// UDP lanes; 0: one a core.
    pub workers: usize,
    /// The encrypted transports, where there are any.
    pub encrypted: Option<EncryptedListen>,
}

/// Where encrypted DNS is served, and with which certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedListen {
    /// Addresses for DNS over TLS (RFC 7858).
    pub tls: Vec<SocketAddr>,
    /// Addresses for DNS over QUIC (RFC 9250).
    pub quic: Vec<SocketAddr>,
    /// Addresses for DNS over HTTPS (RFC 8484).
    pub https: Vec<SocketAddr>,
    /// The path of DNS over HTTPS.
    pub https_path: String,
    /// Certificate and key.
    pub files: TlsFiles,
}

/// Files with a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}
