//! The grammar of the command line: verbs, flags and what their values may look like.
//!
//! What can be judged without a server is judged here, so that it ends with exit code 2 before anything is sent: a missing or empty reason,
//! a name that is none, a gate that nobody may override. Deliberately absent: verbs whose time has not come.

use crate::ledger::Receipt;
use crate::model::{Gate, Name};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use std::net::IpAddr;
use std::path::PathBuf;

/// DNS-based traffic steering for disaster recovery.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, about, disable_help_subcommand = true, max_term_width = 120)]
#[command(after_help = "Exit codes: 0 done and visible, 1 failed, 2 usage, 3 refused by a gate (a dry run too), 4 nobody reachable.")]
pub(super) struct Cli {
    /// Where the servers are.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where the servers are, and how to show them who asks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct Connection {
    /// A server, as URL or path of its socket; repeat for more, they are tried in turn [default: the socket, then http://127.0.0.1:8053]
    #[arg(long, global = true, env = "POINTSMAN_SERVER", value_delimiter = ',', value_name = "URL")]
    pub server: Vec<String>,
    /// File with the token (or its text in POINTSMAN_TOKEN)
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// PEM file of certificates to trust instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run the server
    Serve {
        /// The config
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Answer with the last published roles and refuse every change, whatever the ledger looks like
        #[arg(long)]
        answer_only: bool,
    },
    /// Check config and zones offline: everything a start or a reload would say
    Check {
        /// The config
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What is answered now, by which region, and how healthy the regions are
    Status {
        /// Only this name, with all its regions
        #[arg(value_parser = name)]
        name: Option<Name>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Why a name is answered as it is, and what each gate says about a switch
    Explain {
        /// The name
        #[arg(value_parser = name)]
        name: Name,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Run the probes of a name once, now, or try one that is not configured yet; nothing counts towards health
    Probe(ProbeArgs),
    /// What the probes of a name observed in the last hours: verdict changes, and how long runs took
    History {
        /// The name
        #[arg(value_parser = name)]
        name: Name,
        /// Only this region
        #[arg(long)]
        region: Option<String>,
        /// Only this endpoint, as configured
        #[arg(long)]
        endpoint: Option<String>,
        /// How far back; up to 1 hour in finer steps
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=24))]
        hours: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a region active for a name
    Switch(SwitchArgs),
    /// Move every name out of a region, and keep names from moving in
    Evacuate(EvacuateArgs),
    /// End an evacuation: clears the region's mark and every "left" mark of it, moves nothing
    Restore {
        /// The region
        region: String,
        #[command(flatten)]
        why: Why,
    },
    /// Keep a region from being chosen for a name
    Drain(DrainArgs),
    /// Let a region be chosen for a name again
    Undrain(DrainArgs),
    /// Read config and zones again: whole or not at all
    Reload {
        /// Pass the guard against removing too much at once
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Changes that wait for an operator, with their evidence
    Proposals {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Do what proposals say; every gate is tested again
    Approve {
        #[command(flatten)]
        proposals: ProposalArgs,
        /// Show what would happen, change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Close proposals; the name stays quiet until something about it changes
    Reject {
        #[command(flatten)]
        proposals: ProposalArgs,
    },
    /// The record of every decision
    #[command(subcommand)]
    Ledger(LedgerVerb),
    /// Print what happens, as it happens, one line an event
    Watch {
        /// Print each event as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Two little regions and a real server on this machine, and what to type next
    Demo {
        /// Folder for config, zone and data [default: a new one among the temporary files]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Port of the DNS server [default: 5300, or a free one]
        #[arg(long, value_name = "PORT")]
        dns_port: Option<u16>,
        /// Port of the API [default: 8053, or a free one]
        #[arg(long, value_name = "PORT")]
        api_port: Option<u16>,
        /// Port of the regions' web servers [default: 8080, or a free one]
        #[arg(long, value_name = "PORT")]
        web_port: Option<u16>,
    },
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The reason of a change, and how its result is shown.
#[derive(Debug, Args)]
pub(super) struct Why {
    /// Why; recorded for ever
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Print the receipt as JSON
    #[arg(long)]
    pub json: bool,
}

/// `switch`.
#[derive(Debug, Args)]
pub(super) struct SwitchArgs {
    /// The name
    #[arg(value_parser = name)]
    pub name: Name,
    /// The region that shall be active
    #[arg(long, value_name = "REGION")]
    pub to: String,
    #[command(flatten)]
    pub why: Why,
    /// Refuse unless this region is active now
    #[arg(long, value_name = "REGION")]
    pub expect: Option<String>,
    /// Refuse unless this is the name's version (as `explain` shows it)
    #[arg(long, value_name = "SEQ")]
    pub expect_seq: Option<u64>,
    /// Show the answers before and after, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go ahead although this gate says no: target-healthy, target-writable or cooldown; recorded; may repeat
    #[arg(long = "override", value_name = "GATE", value_parser = gate)]
    pub overrides: Vec<Gate>,
}

/// `evacuate`.
#[derive(Debug, Args)]
pub(super) struct EvacuateArgs {
    /// The region
    pub region: String,
    #[command(flatten)]
    pub why: Why,
    /// This name may stay when no other region can take it; may repeat
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub leave: Vec<Name>,
    /// Show what would move where, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go ahead although this gate says no: target-healthy, target-writable or cooldown; recorded; may repeat
    #[arg(long = "override", value_name = "GATE", value_parser = gate)]
    pub overrides: Vec<Gate>,
}

/// `drain` and `undrain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// The name
    #[arg(value_parser = name)]
    pub name: Name,
    /// The region
    pub region: String,
    #[command(flatten)]
    pub why: Why,
    /// Show what would happen, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `probe`.
#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// The name: its server runs the probes; with --config they run from here
    #[arg(value_parser = name)]
    pub name: Option<Name>,
    /// Run the probes of this config from here, without a server
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Try an http or https probe that is not configured yet, from here
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "name"])]
    pub url: Option<String>,
    /// A key of the probe as in `[[app.ID.probe]]`, TOML; repeat for more: --with 'kind = "tcp"' --with 'port = 443'
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["config", "name"])]
    pub with: Vec<String>,
    /// Where to send it; default: where the host of the URL leads
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `approve` and `reject`.
#[derive(Debug, Args)]
pub(super) struct ProposalArgs {
    /// Numbers of the proposals
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<u64>,
    #[command(flatten)]
    pub why: Why,
}

/// The verbs on the ledger.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerVerb {
    /// List entries, the latest unless told otherwise
    Log {
        #[command(flatten)]
        source: Source,
        /// Begin after this entry
        #[arg(long, value_name = "SEQ")]
        after: Option<u64>,
        /// Most entries to list
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One entry with all its evidence
    Show {
        /// Its number
        seq: u64,
        #[command(flatten)]
        source: Source,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the whole chain of hashes
    Verify {
        #[command(flatten)]
        source: Source,
        /// A receipt, as a change printed it: also finds a missing end
        #[arg(long, value_name = "SEQ:HASH")]
        expect: Option<Receipt>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every entry as it is written, one line each
    Export {
        #[command(flatten)]
        source: Source,
    },
}

/// Where the ledger is read.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Read the files of this data dir, without a server
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// A name with or without its final dot, in any case.
fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).map(|name| name.to_lowercase()).map_err(|error| error.to_string())
}

/// A reason that says something.
fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it must say why".to_owned()),
        said => Ok(said.to_owned()),
    }
}

/// A gate that may be overridden.
fn gate(text: &str) -> Result<Gate, String> {
    match Gate::parse(text) {
        Some(gate) if gate.is_overridable() => Ok(gate),
        Some(gate) => Err(format!("nobody may override {gate}")),
        None => {
            let known: Vec<&str> = Gate::ALL
                .into_iter()
                .filter(|gate| gate.is_overridable())
                .map(Gate::as_str)
                .collect();
            Err(format!("no such gate; those that may be overridden: {}", known.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The exit code that clap gives these words, 0 when they parse.
    fn exit(words: &str) -> i32 {
        let split = words.split(' ').map(|word| word.replace('_', " "));
        Cli::try_parse_from(std::iter::once("pointsman".to_owned()).chain(split)).map_or_else(|error| error.exit_code(), |_| 0)
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_change_without_a_reason_is_a_usage_error() {
        for change in [
            "switch a.b --to fra",
            "evacuate fra",
            "restore fra",
            "drain a.b fra",
            "undrain a.b fra",
            "reload",
            "approve 1",
            "reject 1",
        ] {
            assert_eq!(exit(change), 2, "{change}");
            assert_eq!(exit(&format!("{change} --reason _")), 2, "{change} with an empty reason");
            assert_eq!(exit(&format!("{change} --reason iad_is_down")), 0, "{change}");
        }
    }

    #[test]
    fn only_gates_that_may_be_overridden_are_taken() {
        for (gate, code) in [
            ("target-healthy", 0),
            ("target-writable", 0),
            ("cooldown", 0),
            ("one-active", 2),
            ("expect", 2),
            ("nonsense", 2),
        ] {
            assert_eq!(exit(&format!("switch a.b --to fra --reason x --override {gate}")), code, "{gate}");
        }
    }

    #[test]
    fn names_are_taken_in_any_case_with_or_without_the_final_dot() {
        for text in ["Shop.Example.NET", "shop.example.net."] {
            assert_eq!(name(text).unwrap().to_string(), "shop.example.net.");
        }
        assert_eq!(exit("explain a..b"), 2);
    }

    #[test]
    fn servers_may_be_given_before_and_after_the_verb_and_repeat() {
        for words in [
            "--server http://a:1 --server http://b:2 status",
            "status --server http://a:1,http://b:2",
        ] {
            let cli = Cli::try_parse_from(std::iter::once("pointsman").chain(words.split(' '))).unwrap();
            assert_eq!(cli.connection.server, ["http://a:1", "http://b:2"]);
        }
    }

    #[test]
    fn rolling_back_is_not_offered() {
        assert_eq!(exit("ledger rollback 1"), 2);
    }
}
