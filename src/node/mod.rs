//! Wiring: puts the parts together into a running server, an offline check, or a demo.
//!
//! Start-up in this order, so that answers come as early as possible and nothing is half open: config (today's, else the
//! last accepted), data dir (lock, ledger, replay), health from disk, answers compiled, DNS sockets bound, lanes started,
//! then writer, probes and API. Stop in the reverse order: API, probes, writer (records the stop), lanes last.

mod boot;
mod check;
mod demo;
mod descriptors;
mod probe;
mod region;
mod serve;
mod watcher;

pub use check::{CheckOptions, check};
pub use demo::{DemoOptions, demo};
pub use probe::{ProbeError, ProbePlan, ProbeWhat, plan_probes, run_probes};
pub use serve::{ServeOptions, serve};
