//! The postgres kind against PostgreSQL itself, a primary and its standby, and against hostile servers.

use super::tls::Authority;
use super::*;
use pointsman::model::{Expect, PostgresProbe, Source, Test, TlsOptions};
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

    /// A certificate with its key, of which only the server's user may read the key.
    fn certificate(&self, authority: &Authority) {
        use std::os::unix::fs::PermissionsExt;
        let (certificate, key) = authority.issue(&["db.example.net"]);
        self.write("server.crt", &certificate.pem());
        let key = self.write("server.key", &key.serialize_pem());
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Asks a server on a port of loopback as its superuser.
    fn ask(&self, port: u16, query: &str) {
        let (folder, port) = (self.folder.path().to_str().unwrap(), port.to_string());
        self.call("psql", &["-h", folder, "-p", &port, "-U", "postgres", "-qc", query]);
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
        if self.path("server.crt").exists() {
            let (cert, key) = (self.path("server.crt"), self.path("server.key"));
            command.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", cert.display())]);
            command.args(["-c", &format!("ssl_key_file={}", key.display())]);
        }
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
        tls: None,
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

/// Both databases of a test: the primary's port, the standby's, and the servers.
async fn pair(home: &Home) -> (u16, u16, Server, Server) {
    let superuser = home.write("superuser", "super\n");
    let (first, second) = (home.path("first"), home.path("second"));
    let (data, file) = (first.to_str().unwrap(), superuser.to_str().unwrap());
    let initdb = "-A scram-sha-256 -U postgres --no-sync --no-locale -E UTF8";
    let initdb: Vec<&str> = initdb.split(' ').chain(["-D", data, "--pwfile", file]).collect();
    home.call("initdb", &initdb);
    let (port, other) = (closed_port().await, closed_port().await);
    let primary = home.start(&first, port);
    // The user does not exist yet, which is the sign of life.
    let password = home.write("password", "s3cret\n");
    let asked = postgres(port, Some(&password), None);
    until(&asked, |seen| seen.reason == Some(FailReason::Auth)).await;
    home.ask(port, "CREATE ROLE watcher LOGIN PASSWORD 's3cret'");
    let (folder, number) = (home.folder.path().to_str().unwrap(), port.to_string());
    let backup = ["-h", folder, "-p", &number, "-U", "postgres", "-D", second.to_str().unwrap()];
    home.call("pg_basebackup", &[&backup[..], &["-R", "-c", "fast", "--no-sync"]].concat());
    let standby = home.start(&second, other);
    until(&postgres(other, Some(&password), None), |seen| {
        seen.reason.is_none() && seen.note == "standby, 0s behind"
    })
    .await;
    (port, other, primary, standby)
}

/// A value that a run reported.
fn value(seen: &Seen, name: &str) -> Option<f64> {
    seen.values.iter().find(|(one, _)| one == name).map(|(_, value)| *value)
}

/// Runs a probe whose answer must have this fact.
async fn expecting(probe: &PostgresProbe, fact: &'static str, test: Test) -> Seen {
    let mut spec = spec(ProbeKind::Postgres(probe.clone()), LIMIT);
    spec.expect = vec![Expect {
        source: Source::Fact(fact),
        tests: vec![test],
    }];
    run_spec(&spec, "127.0.0.1").await
}

#[tokio::test]
async fn a_primary_is_active_a_standby_passive_and_each_failure_has_its_class() {
    let home = Home::new();
    let (port, other, primary, _standby) = pair(&home).await;
    let password = home.path("password");
    let asked = postgres(port, Some(&password), None);
    let seen = probe(asked.clone()).await;
    passes(&seen);
    assert_eq!((seen.observed, seen.note.as_str()), (Some(Observed::Active), "primary"));
    assert_eq!((value(&seen, "lag-bytes"), value(&seen, "lag-seconds")), (Some(0.0), Some(0.0)));
    let standby = postgres(other, Some(&password), None);
    let seen = probe(standby.clone()).await;
    assert_eq!(seen.observed, Some(Observed::Passive));
    assert_eq!((value(&seen, "lag-bytes"), value(&seen, "lag-seconds")), (Some(0.0), Some(0.0)));

    failures(&home, port, &password).await;
    results(port, &password).await;
    lag(&home, port, other, &standby).await;

    // The loss of the primary is no lag of the standby's, and then it is promoted.
    drop(primary);
    let seen = probe(asked).await;
    fails(&seen, FailReason::Connect, "connection refused");
    assert_eq!(seen.observed, None);
    until(&standby, |seen| {
        seen.note == "standby, 0s behind, without a connection to its primary"
    })
    .await;
    passes(&expecting(&standby, "lag-seconds", Test::AtMost(0.0)).await);
    let seen = expecting(&standby, "replicating", Test::Is(true.into())).await;
    fails(&seen, FailReason::Content, "replicating is false, expected true");
    home.ask(other, "SELECT pg_promote()");
    until(&standby, |seen| seen.observed == Some(Observed::Active)).await;
}

/// What the operator's own query answers, as expected and otherwise.
async fn results(port: u16, password: &Path) {
    let asked = |query| postgres(port, Some(password), Some(query));
    passes(&expecting(&asked("SELECT 42"), "result", Test::Is(42.into())).await);
    passes(&expecting(&asked("SELECT 42.5"), "result", Test::Above(42.0)).await);
    passes(&expecting(&asked("SELECT 'up'"), "result", Test::Is("up".into())).await);
    let seen = expecting(&asked("SELECT 'down'"), "result", Test::Is("up".into())).await;
    fails(&seen, FailReason::Content, "result is \"down\", expected \"up\"");
    for nothing in ["SELECT NULL", "SELECT 1 WHERE false", "SET work_mem = '1MB'"] {
        let seen = expecting(&asked(nothing), "result", Test::Is(1.into())).await;
        fails(&seen, FailReason::Content, "result is missing, expected 1");
    }
}

/// A standby that receives and does not replay falls behind, and catches up.
async fn lag(home: &Home, port: u16, other: u16, standby: &PostgresProbe) {
    passes(&expecting(standby, "lag-bytes", Test::AtMost(0.0)).await);
    // The first transaction since its start gives it a time to count from.
    home.ask(port, "CREATE TABLE orders_of_today (number int)");
    let first = PostgresProbe {
        query: Some("SELECT 1 / (pg_last_xact_replay_timestamp() IS NOT NULL)::int".to_owned()),
        ..standby.clone()
    };
    until(&first, |seen| seen.reason.is_none()).await;
    home.ask(other, "SELECT pg_wal_replay_pause()");
    home.ask(
        port,
        "CREATE TABLE orders_of_yesterday AS SELECT generate_series(1, 10000) AS number",
    );
    until(standby, |seen| value(seen, "lag-bytes").is_some_and(|octets| octets > 100_000.0)).await;
    let seen = expecting(standby, "lag-bytes", Test::AtMost(1000.0)).await;
    assert_eq!((seen.reason, seen.observed), (Some(FailReason::Content), Some(Observed::Passive)));
    assert!(
        seen.message.starts_with("lag-bytes is ") && seen.message.ends_with(", expected at most 1000"),
        "{seen:?}"
    );
    let first = value(&seen, "lag-seconds").unwrap();
    assert!(first > 0.0, "{seen:?}");
    until(standby, |seen| value(seen, "lag-seconds").is_some_and(|seconds| seconds > first)).await;
    home.ask(other, "SELECT pg_wal_replay_resume()");
    until(standby, |seen| {
        value(seen, "lag-bytes") == Some(0.0) && value(seen, "lag-seconds") == Some(0.0)
    })
    .await;
}

#[tokio::test]
async fn over_tls_the_certificate_is_verified_and_the_login_bound_to_it() {
    let home = Home::new();
    let authority = Authority::new("ours");
    home.certificate(&authority);
    let (port, _, _primary, _standby) = pair(&home).await;
    let password = home.path("password");
    let with = |ca: PathBuf, name: Option<&str>, port| PostgresProbe {
        tls: Some(TlsOptions {
            ca: Some(ca),
            server_name: name.map(str::to_owned),
        }),
        ..postgres(
            port,
            Some(&password),
            Some("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
        )
    };
    let good = with(authority.file(), Some("db.example.net"), port);
    passes(&expecting(&good, "result", Test::Is("t".into())).await);
    // What is not asked for TLS gets none.
    let plain = PostgresProbe { tls: None, ..good.clone() };
    passes(&expecting(&plain, "result", Test::Is("f".into())).await);
    let seen = probe(with(authority.file(), None, port)).await;
    fails(
        &seen,
        FailReason::Tls,
        "certificate is not valid for 127.0.0.1, but for db.example.net",
    );
    let seen = probe(with(Authority::new("theirs").file(), Some("db.example.net"), port)).await;
    let message = "certificate for db.example.net is signed by an unknown authority, or by itself";
    fails(&seen, FailReason::Tls, message);
    let missing = home.path("no-such-ca");
    let seen = probe(with(missing.clone(), Some("db.example.net"), port)).await;
    assert_eq!(seen.reason, Some(FailReason::Internal));
    assert!(seen.message.starts_with(&format!("CA file {}: ", missing.display())), "{seen:?}");

    // Somebody in between with a certificate that is just as good is found out by the database.
    let between = in_between(&authority, port).await;
    let seen = probe(with(authority.file(), Some("db.example.net"), between.port())).await;
    fails(&seen, FailReason::Auth, "login refused: SCRAM channel binding check failed");
}

/// Ends TLS with a certificate of its own and begins it anew with the database.
async fn in_between(authority: &Authority, port: u16) -> SocketAddr {
    let (acceptor, connector) = (authority.acceptor(&["db.example.net"], &[b"postgresql"]), authority.connector());
    server(move |mut client| {
        let (acceptor, connector) = (acceptor.clone(), connector.clone());
        async move {
            let mut request = [0; 8];
            client.read_exact(&mut request).await.unwrap();
            client.write_all(b"S").await.unwrap();
            let mut client = acceptor.accept(client).await.unwrap();
            let mut database = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            database.write_all(&request).await.unwrap();
            assert_eq!(database.read_u8().await.unwrap(), b'S');
            let name = "db.example.net".try_into().unwrap();
            let mut database = connector.connect(name, database).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut database).await;
        }
    })
    .await
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

#[tokio::test]
async fn the_password_itself_is_not_given_to_whoever_asks_for_it_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    // At once, and octet for octet.
    for step in [9, 1] {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let asking = server(move |mut stream| {
            let tell = tell.clone();
            async move {
                let mut startup = [0; 512];
                let count = stream.read(&mut startup).await.unwrap();
                for part in b"R\0\0\0\x08\0\0\0\x03".chunks(step) {
                    stream.set_nodelay(true).unwrap();
                    stream.write_all(part).await.unwrap();
                }
                let mut rest = startup[..count].to_vec();
                // A reset is an end as well.
                let _ = stream.read_to_end(&mut rest).await;
                tell.send(rest).unwrap();
            }
        })
        .await;
        let seen = probe(postgres(asking.port(), Some(&password), None)).await;
        let message = "the server wants the password itself, which is sent over TLS only: set tls = \"require\"";
        fails(&seen, FailReason::Auth, message);
        let sent = told.recv().await.unwrap();
        assert!(!sent.windows(6).any(|six| six == b"secret"), "{}", String::from_utf8_lossy(&sent));
        let length = u32::from_be_bytes(sent[..4].try_into().unwrap());
        assert_eq!(sent.len(), length as usize, "nothing but the startup message");
    }
}

#[tokio::test]
async fn servers_that_do_not_do_tls_are_told_apart() {
    let answer = |bytes: &'static [u8], stays: bool| {
        server(move |mut stream| async move {
            let _ = stream.read(&mut [0; 512]).await;
            let _ = stream.write_all(bytes).await;
            if stays {
                hold(&mut stream).await;
            } else if !bytes.is_empty() {
                // What comes next is taken, so that the end is no reset.
                let _ = stream.read(&mut [0; 512]).await;
            }
        })
    };
    let authority = Authority::new("ours");
    for (bytes, stays, reason, message) in [
        (&b"N"[..], true, FailReason::Tls, "the server does not offer TLS"),
        (b"S", true, FailReason::Timeout, "no TLS handshake within 300ms"),
        (b"S", false, FailReason::Tls, "connection closed during the TLS handshake"),
        (b"SSSSSSSSSSSSS", true, FailReason::Tls, "the server does not answer with TLS"),
        (b"", true, FailReason::Timeout, "no login within 300ms"),
        (b"", false, FailReason::Connect, "connection closed by the peer"),
    ] {
        let tls = Some(TlsOptions {
            ca: Some(authority.file()),
            server_name: None,
        });
        let server = answer(bytes, stays).await;
        let probe = PostgresProbe {
            tls,
            ..postgres(server.port(), None, None)
        };
        let seen = run(ProbeKind::Postgres(probe), "127.0.0.1", Duration::from_millis(300)).await;
        fails(&seen, reason, message);
    }
}
