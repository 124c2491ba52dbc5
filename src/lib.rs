//! pointsman: DNS-based traffic steering for disaster recovery. This page is the architecture.
//!
//! A pure core in a thin shell. Everything that decides, answers or records is a pure function with time as an argument;
//! sockets, files and timers are a thin shell round it. One task writes, everybody else reads a snapshot.
//!
//! ```text
//!  probes ──outcomes──▶ health ──verdicts─────────┐
//!  operators ─command─▶ role (gates) ─▶ ledger ───┤           control: one task, the only writer
//!  files ───▶ config, zone ───────────────────────┤
//!                                                 ▼
//!                               steering::decide      (pure)
//!                                                 ▼
//!                               answer::compile       (pure) ──▶ ArcSwap<Snapshot>
//!                                                                      │ one load a batch
//!  resolvers ─query bytes─▶ dns (every transport) ─▶ answer::respond(&Snapshot, &[u8], &Ctx, &mut Out) (pure)
//! ```
//!
//! | tier | module | owns |
//! |---|---|---|
//! | T0 | [`model`] | the nouns: names, regions, applications, health, decisions, what is recorded, findings, time |
//! | T0 | [`both`] | two halves of a large piece of work at once |
//! | T1 pure | [`zone`] | master file text → zone; RFC 1034/4592/6672 lookup as data |
//! | T1 pure | [`health`] | outcomes → verdicts: rise, fall, leaky failure counter, age, `unknown` |
//! | T1 pure | [`role`] | commands → drafts or refusals, verdicts and time → moves and proposals, entries → state, the gates |
//! | T1 pure | [`ledger`] | entry encoding v1, hash chain, verification: bytes in, bytes out |
//! | T2 pure | [`config`] | TOML → every finding with file:line:column → `Config` |
//! | T2 pure | [`steering`] | `decide(name, roles, health, now) -> Decision` with its reason; `explain` |
//! | T2 pure | [`answer`] | decisions + zones → compiled wire answers; `respond`: query bytes → response bytes |
//! | T3 shell | [`dns`] | sockets: lanes, which are threads with a loop of their own, for UDP, TCP and TLS; QUIC and HTTPS on tokio |
//! | T3 shell | [`probe`] | http(s), tls, tcp, dns, exec, feed, postgres, mysql, grpc, icmp, smtp: timers and sockets; outcomes go to the writer |
//! | T3 shell | [`store`] | where the ledger lives: a file; the I/O thread with group commit |
//! | T3 shell | [`telemetry`] | metrics registry, logs, the clock |
//! | T3 shell | [`holder`] | who holds a port, for the message of whoever wanted it |
//! | T3 shell | [`precedence`] | who goes first where threads share a core: the answers |
//! | T3 shell | [`seldom`] | what the log says once a minute at most |
//! | T3 shell | [`tls`] | a certificate with its key from files: the server's own, which follows them; those that probes show |
//! | T3 shell | [`control`] | the only writer: takes every event in order, appends, decides, compiles, publishes |
//! | T3 shell | [`api`] | HTTP API over TCP, TLS and a Unix socket; server-sent events; `/metrics` |
//! | T4 | [`node`] | wiring: serve, check, demo |
//! | T4 | [`cli`] | the commands |
//!
//! Imports go downward only; `tests/tidy.rs` holds the table of allowed edges.
//!
//! # What holds everywhere
//!
//! - T0 to T2 know no tokio, no files, no sockets, no clock, no randomness, no locks. So all of it runs in a seeded
//!   simulation in virtual time, under proptest and under a fuzzer.
//! - `answer::respond` owns every response on every transport. Hickory types are used by the dns probe, by look-ups of
//!   host names and as an oracle in the tests, never per query. On the UDP lane nothing allocates, locks or logs.
//! - What can be computed when something changes is computed then. A change to one name recompiles that name; aliases onto
//!   it are joined when they are asked for, so they follow at once. Snapshots share their structure.
//! - Roles are a fold over the ledger. The writer does check → append (durable) → apply → publish → acknowledge. A failed
//!   append changes nothing. What an entry changes is decided and compiled while the disk is at work, and answered only after.
//! - Role, marks and health are separate inputs. They meet in `steering::decide` and are never written over one another.
//! - One home for each outside crate: the HTTP framework only in `api`, clap only in `cli`, hickory only in `probe`.
//!
//! # Promises
//!
//! Each has tests that fail when it is broken.
//!
//! 1. Health alone never moves the active region of a name with `failover = "manual"`.
//! 2. Exactly one active region for each name at every ledger entry.
//! 3. Never an empty answer because of health.
//! 4. Acknowledged means durable and visible: the entry is on disk and this node answers accordingly.
//! 5. Serving does not depend on anything: store, prober, API, disk full, config broken.
//! 6. All or nothing: a config, zone file or reload with an error changes nothing and every error has its place.
//! 7. The record cannot be altered unseen.
//! 8. No second of guessing: `explain` says what is answered, why, what each gate says, and the worst-case time.
//! 9. A stale approval is refused: compare and set, never last writer wins.
//! 10. Refuse, don't crash: no input panics the process.
//!
//! # What is deliberately absent
//!
//! A second answer path, a second writer, a database, a plugin interface, a recursive DNS resolver of our own (endpoints that
//! are host names are asked of the system's resolvers).

pub mod answer;
pub mod api;
pub mod both;
pub mod cli;
pub mod config;
pub mod control;
pub mod dns;
pub mod health;
pub mod holder;
pub mod ledger;
pub mod model;
pub mod node;
pub mod precedence;
pub mod probe;
pub mod role;
pub mod seldom;
pub mod steering;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod zone;
