//! pointsman: DNS-based traffic steering for disaster recovery.
//!
//! This page is the architecture; it is kept true by `tests/tidy.rs`.

pub mod answer;
pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod dns;
pub mod health;
pub mod ledger;
pub mod model;
pub mod node;
pub mod probe;
pub mod role;
pub mod steering;
pub mod store;
pub mod telemetry;
pub mod zone;
