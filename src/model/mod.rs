//! The nouns of the system, shared by every other module. Tier 0: knows nothing of the others.
//!
//! Words are those of RFC 9499 for DNS and of the glossary in the README for the rest. Types here hold
//! no logic beyond their own invariants; whoever needs a rule looks in the pure tiers above.
//! Deliberately absent: I/O, clocks, randomness, locks.

mod app;
mod decision;
mod diag;
mod dns;
mod event;
mod expect;
mod finder;
mod health;
mod ids;
mod name;
mod name_map;
mod prefix;
mod probe;
mod time;

pub use app::{App, DnsListen, EncryptedListen, Endpoint, Failover, Fleet, Require, SteeredName, TlsFiles, WhenAllDown};
pub use decision::{Answer, Decision, Reason};
pub use diag::{Diagnostic, Location, Severity};
pub use dns::{CLASS_IN, Rtype, TTL_MAX, rcode};
pub use event::{Actor, Body, Draft, Evidence, Gate, GateWord, Move, MoveKind, ProposalEnd, RegionEvidence};
pub use expect::{Expect, Exposed, Pattern, RoleRule, Source, Test, ValueRule, contradiction, fact_number};
pub use finder::Finder;
pub use health::{
    Confirmed, Discard, EndpointStatus, FailReason, Failure, Figures, HealthSource, Observed, Outcome, RegionHealth, RegionStatus,
    Suspicion, Verdict,
};
pub use ids::{AppId, Generation, RegionId, Seq, Serial};
pub use name::{LABEL_OCTETS_MAX, NAME_OCTETS_MAX, Name, NameError, parse_labels};
pub use name_map::NameMap;
pub use prefix::{Prefix, PrefixSet, RateLimit, mask};
pub use probe::{
    DnsProbe, ExecProbe, FeedProbe, FeedSource, GrpcProbe, HttpProbe, HttpVersion, IcmpProbe, Identity, JITTER, MysqlProbe, PostgresProbe,
    ProbeKind, ProbeSpec, ProbeTarget, SmtpProbe, SmtpTls, TcpProbe, TlsOptions, TlsProbe,
};
pub use time::{Mono, Now, Wall, show_duration};
