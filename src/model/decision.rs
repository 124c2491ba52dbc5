//! Decisions: for one steered name the region answered, the endpoints, the TTL and the reason.

use super::{AppId, Endpoint, Name, RegionId};
use serde::{Serialize, Serializer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What a steered name answers now, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// The steered name.
    pub name: Name,
    /// Its application.
    pub app: AppId,
    /// The region that is active by decision.
    pub active: RegionId,
    /// The region whose endpoints are answered; none where they are of several regions or of none.
    pub region: Option<RegionId>,
    /// What is answered; that of a whole region is one for all who decide it.
    pub answer: Arc<Answer>,
    /// TTL of the answer, seconds.
    pub ttl: u32,
    /// Why.
    pub reason: Reason,
    /// Its home is another region and drained: what a person who expected the home's data wants to know. Said in DNS
    /// (RFC 8914); the API shows homes and marks themselves.
    #[serde(skip)]
    pub is_home_drained: bool,
}

impl Decision {
    /// Whether people would be told the same of both: all but what only DNS says.
    pub fn is_told_as(&self, other: &Decision) -> bool {
        let Decision {
            name,
            app,
            active,
            region,
            answer,
            ttl,
            reason,
            is_home_drained: _,
        } = self;
        (name, app, active, region) == (&other.name, &other.app, &other.active, &other.region)
            && (answer, ttl, reason) == (&other.answer, &other.ttl, &other.reason)
    }
}

/// The data of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A and AAAA; a family without addresses is NODATA.
    Addresses {
        /// The A records.
        v4: Vec<Ipv4Addr>,
        /// The AAAA records.
        v6: Vec<Ipv6Addr>,
    },
    /// A CNAME.
    Host(Name),
    /// SERVFAIL for A, AAAA, CNAME and ANY.
    Servfail,
}

impl Answer {
    /// Puts an answer together, each address once; a host name stands alone. Of nothing at all it is SERVFAIL, which is retried, rather
    /// than a negative that is cached.
    pub fn of<'e>(endpoints: impl Iterator<Item = &'e Endpoint>) -> Answer {
        let (mut v4, mut v6): (Vec<Ipv4Addr>, Vec<Ipv6Addr>) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            match endpoint {
                Endpoint::Host(name) => return Answer::Host(name.clone()),
                Endpoint::Address(IpAddr::V4(address)) if !v4.contains(address) => v4.push(*address),
                Endpoint::Address(IpAddr::V6(address)) if !v6.contains(address) => v6.push(*address),
                Endpoint::Address(_) => {}
            }
        }
        if v4.is_empty() && v6.is_empty() {
            return Answer::Servfail;
        }
        Answer::Addresses { v4, v6 }
    }

    /// The data as it appears in a zone file, for people and the API: `192.0.2.10`, `shop.example.com.`, `SERVFAIL`.
    pub fn records(&self) -> Vec<String> {
        match self {
            Answer::Addresses { v4, v6 } => v4
                .iter()
                .map(ToString::to_string)
                .chain(v6.iter().map(ToString::to_string))
                .collect(),
            Answer::Host(name) => vec![name.to_string()],
            Answer::Servfail => vec!["SERVFAIL".to_owned()],
        }
    }
}

/// Why an answer is what it is. The code is stable and goes to scripts; the sentence is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The active region is healthy: its endpoints.
    Healthy,
    /// Some of its endpoints are sick and left out.
    Degraded,
    /// Its health is unknown: its endpoints, as decided.
    Unknown,
    /// It is unhealthy and a policy is about to move: all its endpoints until then.
    WaitingToMove,
    /// All down, `when-all-down = "active"`: every endpoint of the active region, sick ones too.
    AllDownActive,
    /// All down, `when-all-down = "all"`.
    AllDownAll,
    /// All down, `when-all-down = "servfail"`.
    AllDownServfail,
    /// All down, `when-all-down` names what to answer instead.
    AllDownInstead,
}

impl Reason {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Healthy => "healthy",
            Reason::Degraded => "degraded",
            Reason::Unknown => "unknown",
            Reason::WaitingToMove => "waiting-to-move",
            Reason::AllDownActive => "all-down-active",
            Reason::AllDownAll => "all-down-all",
            Reason::AllDownServfail => "all-down-servfail",
            Reason::AllDownInstead => "all-down-instead",
        }
    }

    /// A sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Reason::Healthy => "the active region is healthy",
            Reason::Degraded => "the active region is degraded: its sick endpoints are left out",
            Reason::Unknown => "the health of the active region is unknown, which moves nothing",
            Reason::WaitingToMove => "the active region is unhealthy and the policy is about to move",
            Reason::AllDownActive => "the active region is unhealthy and nothing moved: all its endpoints are answered",
            Reason::AllDownAll => "the active region is unhealthy and nothing moved: the endpoints of every permitted region are answered",
            Reason::AllDownServfail => "the active region is unhealthy and nothing moved: SERVFAIL, as configured",
            Reason::AllDownInstead => "the active region is unhealthy and nothing moved: the configured stand-in is answered",
        }
    }

    /// Whether this is `when-all-down` at work: counted by `pointsman_fail_open` and alerted.
    pub fn is_fail_open(self) -> bool {
        matches!(
            self,
            Reason::AllDownActive | Reason::AllDownAll | Reason::AllDownServfail | Reason::AllDownInstead
        )
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}
