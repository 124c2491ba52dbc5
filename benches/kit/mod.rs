//! What the benches share: a checked load generator, servers started and watched from outside,
//! zones and queries, and tables of medians.
//!
//! Everything is on loopback and bounded in time. A server gets CPU 0 and the generator CPU 1, so that what is measured is
//! the server; on one CPU they share it, and the tables say so. Noise only ever adds, so the tables show medians over
//! rounds, and beside them the least.

#![allow(dead_code, reason = "each bench uses its own part")]

pub mod args;
pub mod inputs;
pub mod load;
pub mod measure;
pub mod peers;
pub mod proc;
pub mod site;
pub mod sys;
pub mod table;
