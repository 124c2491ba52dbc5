//! `kind = "mysql"`: MySQL and MariaDB: logs in, asks whether the server is read-only or a replica, and how far behind.
//!
//! Writable and no replica is `active`; a replica, or read-only, is `passive`. A replica that was stopped and not reset
//! is still one: who promotes it resets it (`RESET REPLICA ALL`). Each run logs in anew, as the clients of the
//! application do. `wire` speaks the protocol.
//!
//! **Lag.** `lag-seconds` is what the server calls seconds behind its source, and 0 when it has executed all that it has
//! received: a replica whose source is gone must not look sick for that when it is needed. Whether both of its threads
//! run is `replicating`. With several sources the one furthest behind counts.

use super::files::Files;
use super::secure::{Secure, connect, password};
use super::tls::Trust;
use super::words::failure;
use super::{Found, Kind, RunFuture, Stage};
use crate::model::{Exposed, FailReason, Failure, MysqlProbe, Observed, ProbeTarget, fact_number, show_duration};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::{Asked, Rows, Wire};

mod wire;

/// Most octets that are read from a server in one run.
const OCTETS_MAX: usize = 1 << 20;
/// Whether it can be written to; `super_read_only` of MySQL turns `read_only` on too.
const READ_ONLY: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'innodb_read_only')";

/// One probe at one address.
pub(super) struct Mysql {
    /// Where to.
    peer: SocketAddr,
    /// How to log in and what to ask.
    probe: MysqlProbe,
    /// After how long the server gives up our query.
    timeout: Duration,
    /// Reads the password.
    files: Arc<Files>,
    /// TLS; none: in the clear.
    secure: Option<Secure>,
}

impl Mysql {
    /// The probe at its target.
    pub fn new(probe: &MysqlProbe, target: &ProbeTarget, timeout: Duration, trust: &Arc<Trust>) -> Mysql {
        Mysql {
            peer: SocketAddr::new(target.address, probe.port),
            probe: probe.clone(),
            timeout,
            files: Arc::clone(&trust.files),
            secure: probe.tls.as_ref().map(|options| Secure::new(options, target, trust)),
        }
    }

    /// One run.
    async fn check(&self, stage: &Stage) -> Found {
        let mut seen = Learnt::default();
        let result = self.ask(stage, &mut seen).await.map(|()| seen.note.clone());
        Found {
            result,
            observed: seen.observed,
            exposed: seen.exposed,
        }
    }

    /// Connects, and goes over to TLS where that is wanted.
    async fn ask(&self, stage: &Stage, seen: &mut Learnt) -> Result<(), Failure> {
        let password = match &self.probe.password_file {
            Some(path) => password(path, &self.files, stage).await?,
            None => Vec::new(),
        };
        let stream = connect(self.peer, OCTETS_MAX, stage).await?;
        stage.set("no greeting");
        let mut wire = Wire::new(stream);
        let greeting = wire.greeting().await?;
        let Some(secure) = &self.secure else {
            stage.set("no login");
            wire.log_in(&greeting, &self.probe.user, &password, false).await?;
            return self.talk(&mut wire, greeting.is_mariadb, stage, seen).await;
        };
        if !greeting.offers_tls {
            return Err(failure(FailReason::Tls, "the server does not offer TLS"));
        }
        wire.ask_for_tls().await?;
        let (stream, sequence) = wire.into_parts();
        let stream = secure.handshake(stream, &[], stage).await?;
        stage.set("no login");
        let mut wire = Wire::resume(stream, sequence);
        wire.log_in(&greeting, &self.probe.user, &password, true).await?;
        self.talk(&mut wire, greeting.is_mariadb, stage, seen).await
    }

    /// Asks; what was learnt about the role stays known when a later step fails.
    async fn talk<S>(&self, wire: &mut Wire<S>, is_mariadb: bool, stage: &Stage, seen: &mut Learnt) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stage.set("no answer to the query");
        let variables = wire.query(READ_ONLY).await.map_err(Asked::words)?;
        let read_only = is_read_only(&variables)?;
        if read_only {
            seen.observed = Some(Observed::Passive);
        }
        let replication = replication(wire).await?;
        seen.replication(&replication, read_only);
        if let Some(query) = &self.probe.query {
            let limit = match is_mariadb {
                true => format!("SET SESSION max_statement_time = {}", self.timeout.as_secs_f64()),
                false => format!("SET SESSION max_execution_time = {}", self.timeout.as_millis().max(1)),
            };
            // A server that does not know it has no limit but ours.
            match wire.query(&limit).await {
                Ok(_) | Err(Asked::Refused(_)) => {}
                Err(error) => return Err(error.words()),
            }
            let rows = wire.query(query).await.map_err(Asked::words)?;
            if let Some(Some(first)) = rows.rows.first().and_then(|row| row.first()) {
                seen.exposed.fact("result", first.clone());
            }
        }
        wire.quit().await;
        Ok(())
    }
}

impl Kind for Mysql {
    fn run<'a>(&'a mut self, stage: &'a Stage) -> RunFuture<'a> {
        Box::pin(self.check(stage))
    }
}

/// Whether any of the variables says so; newer MariaDB has more words than ON for it.
fn is_read_only(variables: &Rows) -> Result<bool, Failure> {
    let mut values = variables.rows.iter().filter_map(|row| row.get(1)?.as_deref()).peekable();
    if values.peek().is_none() {
        return Err(failure(FailReason::Protocol, "the server does not say whether it is read-only"));
    }
    Ok(values.any(|value| value != "OFF"))
}

/// One row a source, in the words of MySQL 8.0.22 and MariaDB 10.5 and later, or else in those before them.
async fn replication<S>(wire: &mut Wire<S>) -> Result<Rows, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut answer = wire.query("SHOW REPLICA STATUS").await;
    if matches!(&answer, Err(Asked::Refused(said)) if said.is_syntax()) {
        answer = wire.query("SHOW SLAVE STATUS").await;
    }
    answer.map_err(|error| match error {
        Asked::Refused(said) if said.is_denied() => {
            failure(FailReason::Auth, format!("the replication status is not shown: {}", said.text))
        }
        other => other.words(),
    })
}

/// What a run has learnt so far.
#[derive(Default)]
struct Learnt {
    /// Primary or replica.
    observed: Option<Observed>,
    /// Lag and result.
    exposed: Exposed,
    /// In words.
    note: String,
}

impl Learnt {
    /// What the status of replication says.
    fn replication(&mut self, status: &Rows, read_only: bool) {
        if status.rows.is_empty() {
            self.observed = Some(if read_only { Observed::Passive } else { Observed::Active });
            self.exposed.fact("lag-seconds", 0);
            self.note = if read_only { "no replica, read-only" } else { "primary" }.to_owned();
            return;
        }
        self.observed = Some(Observed::Passive);
        let sources: Vec<Source> = status.rows.iter().map(|row| Source::of(status, row)).collect();
        let lags: Option<Vec<f64>> = sources.iter().map(|source| source.lag).collect();
        let lag = lags.and_then(|lags| lags.into_iter().reduce(f64::max));
        self.note = "replica".to_owned();
        match lag {
            Some(seconds) => {
                self.exposed.fact("lag-seconds", fact_number(seconds));
                let shown = show_duration(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
                self.note.push_str(&format!(", {shown} behind"));
            }
            None => self.note.push_str(", not known how far behind"),
        }
        let (receives, executes) = (sources.iter().all(|one| one.receives), sources.iter().all(|one| one.executes));
        self.exposed.fact("replicating", receives && executes);
        if !receives {
            self.note.push_str(", without a connection to its source");
        }
        if !executes {
            self.note.push_str(", executes nothing");
        }
    }
}

/// What a replica says about one source.
struct Source {
    /// Whether it is connected to it.
    receives: bool,
    /// Whether it executes what it received.
    executes: bool,
    /// Seconds behind it; none: not known.
    lag: Option<f64>,
}

impl Source {
    /// From a row of the status: each field under its new name, its old one.
    fn of(status: &Rows, row: &[Option<String>]) -> Source {
        let field = |names: [&str; 2]| names.iter().find_map(|name| status.field(row, name));
        let runs = |names| field(names) == Some("Yes");
        let receives = runs(["Replica_IO_Running", "Slave_IO_Running"]);
        let executes = runs(["Replica_SQL_Running", "Slave_SQL_Running"]);
        let received = (
            field(["Source_Log_File", "Master_Log_File"]),
            field(["Read_Source_Log_Pos", "Read_Master_Log_Pos"]),
        );
        let executed = (
            field(["Relay_Source_Log_File", "Relay_Master_Log_File"]),
            field(["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"]),
        );
        let said = field(["Seconds_Behind_Source", "Seconds_Behind_Master"]).and_then(|text| text.parse::<f64>().ok());
        // NULL while it is not connected, also when nothing of what came is left to execute.
        let caught_up = executes && received.0.is_some() && received.1.is_some() && received == executed;
        Source {
            receives,
            executes,
            lag: said.or(caught_up.then_some(0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status as a server shows it.
    fn status(fields: &[(&str, Option<&str>)]) -> Rows {
        Rows {
            names: fields.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rows: vec![fields.iter().map(|(_, value)| value.map(str::to_owned)).collect()],
        }
    }

    fn learnt(status: &Rows, read_only: bool) -> (Option<Observed>, Vec<(&'static str, f64)>, String) {
        let mut seen = Learnt::default();
        seen.replication(status, read_only);
        (seen.observed, seen.exposed.numbers().collect(), seen.note)
    }

    #[test]
    fn the_words_of_mysql_and_of_mariadb_say_the_same() {
        let new = status(&[
            ("Replica_IO_Running", Some("Yes")),
            ("Replica_SQL_Running", Some("Yes")),
            ("Seconds_Behind_Source", Some("7")),
        ]);
        let old = status(&[
            ("Slave_IO_Running", Some("Yes")),
            ("Slave_SQL_Running", Some("Yes")),
            ("Seconds_Behind_Master", Some("7")),
        ]);
        for status in [new, old] {
            let expected = (Some(Observed::Passive), vec![("lag-seconds", 7.0)], "replica, 7s behind".to_owned());
            assert_eq!(learnt(&status, true), expected);
        }
        let none = Rows::default();
        let active = (Some(Observed::Active), vec![("lag-seconds", 0.0)], "primary".to_owned());
        assert_eq!(learnt(&none, false), active);
        let passive = (
            Some(Observed::Passive),
            vec![("lag-seconds", 0.0)],
            "no replica, read-only".to_owned(),
        );
        assert_eq!(learnt(&none, true), passive);
    }

    #[test]
    fn a_replica_that_lost_its_source_is_behind_only_by_what_it_has_not_executed() {
        let lost = |read: &'static str, executed: &'static str, sql: &'static str| {
            status(&[
                ("Replica_IO_Running", Some("Connecting")),
                ("Replica_SQL_Running", Some(sql)),
                ("Seconds_Behind_Source", None),
                ("Source_Log_File", Some("bin.000007")),
                ("Relay_Source_Log_File", Some("bin.000007")),
                ("Read_Source_Log_Pos", Some(read)),
                ("Exec_Source_Log_Pos", Some(executed)),
            ])
        };
        let (_, values, note) = learnt(&lost("500", "500", "Yes"), false);
        assert_eq!(values, [("lag-seconds", 0.0)]);
        assert_eq!(note, "replica, 0s behind, without a connection to its source");
        let (_, values, note) = learnt(&lost("500", "400", "Yes"), false);
        assert!(values.is_empty());
        assert_eq!(note, "replica, not known how far behind, without a connection to its source");
        let (observed, values, note) = learnt(&lost("500", "500", "No"), false);
        assert!(values.is_empty());
        assert_eq!(observed, Some(Observed::Passive), "stopped, and still a replica");
        assert_eq!(
            note,
            "replica, not known how far behind, without a connection to its source, executes nothing"
        );
    }

    #[test]
    fn the_source_furthest_behind_counts() {
        let mut two = status(&[
            ("Replica_IO_Running", Some("Yes")),
            ("Replica_SQL_Running", Some("Yes")),
            ("Seconds_Behind_Source", Some("3")),
        ]);
        two.rows
            .push(vec![Some("Yes".to_owned()), Some("Yes".to_owned()), Some("90".to_owned())]);
        assert_eq!(learnt(&two, true).1, [("lag-seconds", 90.0)]);
        two.rows.push(vec![Some("Yes".to_owned()), Some("No".to_owned()), None]);
        assert!(learnt(&two, true).1.is_empty());
    }
}
