//! The postgres kind against PostgreSQL itself, a primary and its standby, and against hostile servers.

use super::*;
use pointsman::model::PostgresProbe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A folder for servers of this test, owned by whoever may run them: PostgreSQL refuses to run as root.
struct Home {
    folder: TempDir,
    programs: PathBuf,
    /// User and group to run as, when we are root.
    user: Option<(u32, u32)>,
}

/// A server, killed when it goes.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Home {
    fn new() -> Home {
        let programs = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let programs = programs
            .map(|version| version.path().join("bin"))
            .find(|bin| bin.join("initdb").exists());
        let programs = programs.expect("PostgreSQL is missing: install the Debian package `postgresql`");
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        let user = nix::unistd::Uid::effective().is_root().then(|| {
            let user = nix::unistd::User::from_name("postgres").unwrap();
            let user = user.expect("the user `postgres` is missing: install the Debian package `postgresql`");
            std::os::unix::fs::chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            (user.uid.as_raw(), user.gid.as_raw())
        });
        Home { folder, programs, user }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that the server's user may read.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        if let Some((user, group)) = self.user {
            std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    /// A program of PostgreSQL as the right user; it dies with this thread.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "QUIT"]);
        if let Some((user, group)) = self.user {
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={group}"))
                .arg("--clear-groups");
        }
        command.arg(self.programs.join(program)).current_dir(self.folder.path());
        command.env("PGPASSWORD", "super").env("LC_ALL", "C");
        command
    }

    /// Runs a program to its end.
    fn call(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).stdin(Stdio::null()).output();
        let output = output.expect("setpriv is missing: install the Debian package `util-linux`");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts a server on a port of loopback; it need not accept connections yet.
    fn start(&self, data: &Path, port: u16) -> Server {
        let (sockets, port) = (self.folder.path().display(), port.to_string());
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(data)
            .args(["-p", &port, "-h", "127.0.0.1", "-k", &sockets.to_string()]);
        command.args(["-c", "fsync=off", "-c", "max_connections=20", "-c", "shared_buffers=16MB"]);
        Server(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

fn postgres(port: u16, password: Option<&Path>, query: Option<&str>) -> PostgresProbe {
    PostgresProbe {
        port,
        user: "watcher".to_owned(),
        password_file: password.map(Path::to_path_buf),
        database: "postgres".to_owned(),
        query: query.map(str::to_owned),
    }
}

async fn probe(probe: PostgresProbe) -> Seen {
    run(ProbeKind::Postgres(probe), "127.0.0.1", LIMIT).await
}

/// Probes until this is seen.
async fn until(asked: &PostgresProbe, holds: impl Fn(&Seen) -> bool) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let seen = probe(asked.clone()).await;
        if holds(&seen) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "last seen: {seen:?}");
    }
}

#[tokio::test]
async fn a_primary_is_active_a_standby_passive_and_each_failure_has_its_class() {
    let home = Home::new();
    let password = home.write("password", "s3cret\n");
    let superuser = home.write("superuser", "super\n");
    let (first, second) = (home.path("first"), home.path("second"));
    let initdb = [
        "-D",
        first.to_str().unwrap(),
        "-A",
        "scram-sha-256",
        "-U",
        "postgres",
        "--no-sync",
        "--no-locale",
        "-E",
        "UTF8",
    ];
    home.call("initdb", &[&initdb[..], &["--pwfile", superuser.to_str().unwrap()]].concat());
    let (port, other) = (closed_port().await, closed_port().await);
    let primary = home.start(&first, port);
    // The user does not exist yet, which is the sign of life.
    let asked = postgres(port, Some(&password), None);
    until(&asked, |seen| seen.reason == Some(FailReason::Auth)).await;
    let (text, number) = (home.folder.path().to_str().unwrap(), port.to_string());
    let create = "CREATE ROLE watcher LOGIN PASSWORD 's3cret'";
    home.call("psql", &["-h", text, "-p", &number, "-U", "postgres", "-qc", create]);
    home.call(
        "pg_basebackup",
        &[
            "-h",
            text,
            "-p",
            &number,
            "-U",
            "postgres",
            "-D",
            second.to_str().unwrap(),
            "-R",
            "-c",
            "fast",
            "--no-sync",
        ],
    );
    let _standby = home.start(&second, other);

    let seen = probe(asked.clone()).await;
    passes(&seen);
    assert_eq!(seen.observed, Some(Observed::Active));
    let standby = postgres(other, Some(&password), None);
    until(&standby, |seen| seen.reason.is_none()).await;
    assert_eq!(probe(standby.clone()).await.observed, Some(Observed::Passive));

    failures(&home, port, &password).await;

    // Promotion, then the loss of the primary.
    home.call(
        "psql",
        &["-h", text, "-p", &other.to_string(), "-U", "postgres", "-qc", "SELECT pg_promote()"],
    );
    until(&standby, |seen| seen.observed == Some(Observed::Active)).await;
    drop(primary);
    let seen = probe(asked).await;
    fails(&seen, FailReason::Connect, "connection refused");
    assert_eq!(seen.observed, None);
}

/// Failures that a real server gives.
async fn failures(home: &Home, port: u16, password: &Path) {
    let wrong = home.write("wrong", "other");
    let seen = probe(postgres(port, Some(&wrong), None)).await;
    fails(
        &seen,
        FailReason::Auth,
        "login refused: password authentication failed for user \"watcher\"",
    );
    assert_eq!(seen.observed, None);
    let seen = probe(postgres(port, None, None)).await;
    fails(&seen, FailReason::Auth, "login failed: password missing");
    let missing = home.path("missing");
    let seen = probe(postgres(port, Some(&missing), None)).await;
    let message = format!("password file {}: No such file or directory (os error 2)", missing.display());
    fails(&seen, FailReason::Internal, &message);
    let mut elsewhere = postgres(port, Some(password), None);
    elsewhere.database = "shop".to_owned();
    fails(
        &probe(elsewhere).await,
        FailReason::Auth,
        "login refused: database \"shop\" does not exist",
    );
    passes(&probe(postgres(port, Some(password), Some("SELECT 1"))).await);
    let seen = probe(postgres(port, Some(password), Some("SELECT * FROM orders"))).await;
    fails(
        &seen,
        FailReason::Content,
        "query failed: relation \"orders\" does not exist (SQLSTATE 42P01)",
    );
    assert_eq!(seen.observed, Some(Observed::Active), "the role was learnt before");
    let seen = probe(postgres(port, Some(password), Some("SELECT * FROM pg_authid"))).await;
    fails(&seen, FailReason::Auth, "permission denied for table pg_authid");
    let slow = ProbeKind::Postgres(postgres(port, Some(password), Some("SELECT pg_sleep(60)")));
    let seen = run(slow, "127.0.0.1", Duration::from_millis(700)).await;
    // Whoever is first, the server told to give up or we.
    let given_up = "query failed: canceling statement due to statement timeout (SQLSTATE 57014)";
    assert!(
        seen.message == "no answer to the query within 700ms" || seen.message == given_up,
        "{seen:?}"
    );
}

#[tokio::test]
async fn hostile_servers_are_bounded() {
    let limit = Duration::from_millis(300);
    let silent = server(|mut stream| async move { hold(&mut stream).await }).await;
    let seen = run(ProbeKind::Postgres(postgres(silent.port(), None, None)), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "no login within 300ms");
    let slow = server(|mut stream| async move { trickle(&mut stream, b"S\0\0\0\x09a\0b\0").await }).await;
    let seen = run(ProbeKind::Postgres(postgres(slow.port(), None, None)), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "no login within 300ms");
    let closing = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
    })
    .await;
    fails(
        &probe(postgres(closing.port(), None, None)).await,
        FailReason::Connect,
        "connection closed by the peer",
    );
    let garbage = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        hold(&mut stream).await;
    })
    .await;
    let seen = run(ProbeKind::Postgres(postgres(garbage.port(), None, None)), "127.0.0.1", limit).await;
    assert!(matches!(seen.reason, Some(FailReason::Protocol | FailReason::Timeout)), "{seen:?}");
    let endless = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write_all(b"R\x7f\xff\xff\xff").await;
        flood(&mut stream, &[b'x'; 8192]).await;
    })
    .await;
    let message = "the server does not speak the PostgreSQL protocol: more than 1048576 octets";
    fails(&probe(postgres(endless.port(), None, None)).await, FailReason::Protocol, message);
}
