//! The mysql kind against MariaDB itself, a primary and its replica, against a server of ours that talks as MySQL 8 does,
//! and against hostile ones.

use super::tls::Authority;
use super::*;
use pointsman::model::{Expect, MysqlProbe, Source, Test, TlsOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};

/// A folder for servers of this test; MariaDB refuses to run as root.
struct Home {
    folder: TempDir,
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
    fn new(authority: &Authority) -> Home {
        let folder = tempfile::Builder::new().prefix("my").tempdir_in("/tmp").unwrap();
        let user = nix::unistd::Uid::effective().is_root().then(|| {
            let user = nix::unistd::User::from_name("mysql").unwrap();
            let user = user.expect("the user `mysql` is missing: install the Debian package `mariadb-server`");
            std::os::unix::fs::chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            (user.uid.as_raw(), user.gid.as_raw())
        });
        let home = Home { folder, user };
        let (certificate, key) = authority.issue(&["db.example.net"]);
        home.write("server.crt", &certificate.pem());
        home.write("server.key", &key.serialize_pem());
        home.write("password", "s3cret\n");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A program of MariaDB as the right user; it dies with this thread.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some((user, group)) = self.user {
            command
                .arg(format!("--reuid={user}"))
                .arg(format!("--regid={group}"))
                .arg("--clear-groups");
        }
        command.arg(program).arg("--no-defaults").current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Makes and starts a server on a port of loopback; it need not accept connections yet.
    fn start(&self, name: &str, port: u16, more: &[&str]) -> Server {
        let data = format!("--datadir={}", self.path(name).display());
        let install = self
            .command("mariadb-install-db")
            .args([
                &data,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ])
            .output();
        let install = install.expect("setpriv is missing: install the Debian package `util-linux`");
        assert!(
            install.status.success(),
            "mariadb-install-db, of the Debian package `mariadb-server`: {}{}",
            String::from_utf8_lossy(&install.stdout),
            String::from_utf8_lossy(&install.stderr)
        );
        let mut command = self.command("/usr/sbin/mariadbd");
        command.args([
            &data,
            &format!("--port={port}"),
            &format!("--socket={}", self.path(&format!("{name}.sock")).display()),
        ]);
        command.args([
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0",
        ]);
        command.args(["--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M", "--max-connections=20"]);
        command.arg(format!("--ssl-cert={}", self.path("server.crt").display()));
        command.arg(format!("--ssl-key={}", self.path("server.key").display()));
        Server(command.args(more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Asks a server as its superuser.
    fn ask(&self, name: &str, query: &str) {
        let socket = format!("--socket={}", self.path(&format!("{name}.sock")).display());
        let output = self.command("mariadb").args([&socket, "-u", "root", "-e", query]).output().unwrap();
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn probe(&self, port: u16) -> MysqlProbe {
        MysqlProbe {
            port,
            user: "watcher".to_owned(),
            password_file: Some(self.path("password")),
            query: None,
            tls: None,
        }
    }
}

async fn probe(probe: &MysqlProbe) -> Seen {
    run(ProbeKind::Mysql(probe.clone()), "127.0.0.1", LIMIT).await
}

/// Runs until this is seen.
async fn until<F: Future<Output = Seen>>(run: impl Fn() -> F, holds: impl Fn(&Seen) -> bool) -> Seen {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let seen = run().await;
        if holds(&seen) {
            return seen;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "last seen: {seen:?}");
    }
}

/// Runs a probe whose answer must have this fact.
async fn expecting(probe: &MysqlProbe, fact: &'static str, test: Test) -> Seen {
    let mut spec = spec(ProbeKind::Mysql(probe.clone()), LIMIT);
    spec.expect = vec![Expect {
        source: Source::Fact(fact),
        tests: vec![test],
    }];
    run_spec(&spec, "127.0.0.1").await
}

/// The lag that a run reported.
fn lag(seen: &Seen) -> Option<f64> {
    seen.values.iter().find(|(name, _)| name == "lag-seconds").map(|(_, value)| *value)
}

#[tokio::test]
async fn a_primary_is_active_a_replica_passive_and_each_failure_has_its_class() {
    let authority = Authority::new("ours");
    let home = Home::new(&authority);
    let (port, other) = (closed_port().await, closed_port().await);
    let primary = home.start("first", port, &["--server-id=1", "--log-bin=bin"]);
    let _replica = home.start("second", other, &["--server-id=2", "--read-only=1"]);
    // Nobody may log in yet, which is the sign of life.
    let (asked, replica) = (home.probe(port), home.probe(other));
    for either in [&asked, &replica] {
        until(|| probe(either), |seen| seen.reason == Some(FailReason::Auth)).await;
    }
    let follow = format!("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='copy', MASTER_PASSWORD='copy'");
    home.ask("second", &format!("{follow}, MASTER_USE_GTID=slave_pos; START SLAVE"));
    home.ask(
        "first",
        "CREATE USER copy@'%' IDENTIFIED BY 'copy'; GRANT REPLICATION SLAVE ON *.* TO copy@'%';
         CREATE USER watcher@'%' IDENTIFIED BY 's3cret'; GRANT SLAVE MONITOR ON *.* TO watcher@'%';
         CREATE USER blind@'%' IDENTIFIED BY 's3cret'; CREATE USER open@'%'; GRANT SLAVE MONITOR ON *.* TO open@'%';
         CREATE USER strict@'%' IDENTIFIED BY 's3cret' REQUIRE SSL; GRANT SLAVE MONITOR ON *.* TO strict@'%'",
    );
    // It may have asked before its user was there, and would ask again only after a minute.
    home.ask("second", "STOP SLAVE; START SLAVE");
    let seen = probe(&asked).await;
    passes(&seen);
    assert_eq!((seen.observed, seen.note.as_str()), (Some(Observed::Active), "primary"));
    assert_eq!(lag(&seen), Some(0.0));
    until(|| probe(&replica), |seen| seen.note == "replica, 0s behind").await;
    assert_eq!(probe(&replica).await.observed, Some(Observed::Passive));

    failures(&home, port).await;
    over_tls(&home, port, &authority).await;
    behind(&home, &replica).await;

    // The loss of the primary is no lag of the replica's, and then it is promoted.
    drop(primary);
    let seen = probe(&asked).await;
    fails(&seen, FailReason::Connect, "connection refused");
    assert_eq!(seen.observed, None);
    until(
        || probe(&replica),
        |seen| seen.note == "replica, 0s behind, without a connection to its source",
    )
    .await;
    passes(&expecting(&replica, "lag-seconds", Test::AtMost(0.0)).await);
    let seen = expecting(&replica, "replicating", Test::Is(true.into())).await;
    fails(&seen, FailReason::Content, "replicating is false, expected true");
    home.ask("second", "STOP SLAVE; RESET SLAVE ALL");
    let seen = probe(&replica).await;
    assert_eq!(
        (seen.observed, seen.note.as_str()),
        (Some(Observed::Passive), "no replica, read-only")
    );
    home.ask("second", "SET GLOBAL read_only = 0");
    assert_eq!(probe(&replica).await.observed, Some(Observed::Active));
}

/// Failures that a real server gives.
async fn failures(home: &Home, port: u16) {
    let wrong = MysqlProbe {
        password_file: Some(home.write("wrong", "other")),
        ..home.probe(port)
    };
    let refused = "login refused: Access denied for user 'watcher'@'127.0.0.1' (using password: YES)";
    fails(&probe(&wrong).await, FailReason::Auth, refused);
    let none = MysqlProbe {
        password_file: None,
        ..home.probe(port)
    };
    let refused = "login refused: Access denied for user 'watcher'@'127.0.0.1' (using password: NO)";
    fails(&probe(&none).await, FailReason::Auth, refused);
    let missing = MysqlProbe {
        password_file: Some(home.path("missing")),
        ..home.probe(port)
    };
    let message = format!(
        "password file {}: No such file or directory (os error 2)",
        home.path("missing").display()
    );
    fails(&probe(&missing).await, FailReason::Internal, &message);
    let user = |user: &str| MysqlProbe {
        user: user.to_owned(),
        ..home.probe(port)
    };
    passes(
        &probe(&MysqlProbe {
            password_file: None,
            ..user("open")
        })
        .await,
    );
    let seen = probe(&user("blind")).await;
    let message = "the replication status is not shown: Access denied; you need (at least one of) the SUPER, SLAVE MONITOR privilege(s) for this operation";
    fails(&seen, FailReason::Auth, message);
    assert_eq!(seen.observed, None, "writable, and perhaps a replica");
    let asking = |query: &str| MysqlProbe {
        query: Some(query.to_owned()),
        ..home.probe(port)
    };
    passes(&expecting(&asking("SELECT 42"), "result", Test::Is(42.into())).await);
    let seen = expecting(&asking("SELECT 'down'"), "result", Test::Is("up".into())).await;
    fails(&seen, FailReason::Content, "result is \"down\", expected \"up\"");
    for nothing in ["SELECT NULL", "SELECT 1 FROM dual WHERE false", "SET @a = 1"] {
        let seen = expecting(&asking(nothing), "result", Test::Is(1.into())).await;
        fails(&seen, FailReason::Content, "result is missing, expected 1");
    }
    let seen = probe(&asking("SELECT * FROM shop.orders")).await;
    let message = "SELECT command denied to user 'watcher'@'127.0.0.1' for table `shop`.`orders`";
    fails(&seen, FailReason::Auth, message);
    assert_eq!(seen.observed, Some(Observed::Active), "the role was learnt before");
    let seen = probe(&asking("SELECT no_such_function_()")).await;
    assert_eq!(seen.reason, Some(FailReason::Content), "{seen:?}");
    assert!(seen.message.starts_with("query failed: "), "{seen:?}");
    let slow = ProbeKind::Mysql(asking("SELECT SLEEP(60)"));
    let seen = run(slow, "127.0.0.1", Duration::from_millis(700)).await;
    let given_up = "query failed: Query execution was interrupted (max_statement_time exceeded) (error 1969)";
    assert!(
        seen.message == "no answer to the query within 700ms" || seen.message == given_up,
        "{seen:?}"
    );
}

/// TLS with the server's certificate, and without where the user must have it.
async fn over_tls(home: &Home, port: u16, authority: &Authority) {
    let strict = MysqlProbe {
        user: "strict".to_owned(),
        ..home.probe(port)
    };
    let seen = probe(&strict).await;
    let refused = "login refused: Access denied for user 'strict'@'127.0.0.1' (using password: YES)";
    fails(&seen, FailReason::Auth, refused);
    let tls = |ca: PathBuf, name: Option<&str>| MysqlProbe {
        tls: Some(TlsOptions {
            ca: Some(ca),
            server_name: name.map(str::to_owned),
        }),
        query: Some("SHOW SESSION STATUS LIKE 'Ssl_cipher'".to_owned()),
        ..strict.clone()
    };
    passes(
        &expecting(
            &tls(authority.file(), Some("db.example.net")),
            "result",
            Test::Is("Ssl_cipher".into()),
        )
        .await,
    );
    let seen = probe(&tls(authority.file(), None)).await;
    let message = "certificate is not valid for 127.0.0.1, but for db.example.net";
    fails(&seen, FailReason::Tls, message);
    let seen = probe(&tls(Authority::new("theirs").file(), Some("db.example.net"))).await;
    let message = "certificate for db.example.net is signed by an unknown authority, or by itself";
    fails(&seen, FailReason::Tls, message);
}

/// A replica that is told to wait falls behind, one that executes nothing does not know how far, and both catch up.
async fn behind(home: &Home, replica: &MysqlProbe) {
    home.ask("second", "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=3600; START SLAVE");
    home.ask("first", "CREATE DATABASE IF NOT EXISTS shop");
    // In one run: MariaDB may say 0 s again for a moment while its threads begin.
    let too_late = || expecting(replica, "lag-seconds", Test::AtMost(0.5));
    let seen = until(too_late, |seen| lag(seen).is_some_and(|seconds| seconds >= 1.0)).await;
    assert_eq!((seen.reason, seen.observed), (Some(FailReason::Content), Some(Observed::Passive)));
    assert!(
        seen.message.starts_with("lag-seconds is ") && seen.message.ends_with(", expected at most 0.5"),
        "{seen:?}"
    );
    home.ask("second", "STOP SLAVE SQL_THREAD");
    let seen = expecting(replica, "lag-seconds", Test::AtMost(1e9)).await;
    fails(&seen, FailReason::Content, "lag-seconds is missing, expected at most 1000000000");
    let seen = probe(replica).await;
    assert_eq!(seen.note, "replica, not known how far behind, executes nothing");
    home.ask("second", "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=0; START SLAVE");
    until(|| probe(replica), |seen| seen.note == "replica, 0s behind").await;
}

/// A packet with its header.
fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[sequence], payload].concat()
}

/// What MySQL 8 says first.
fn greeting() -> Vec<u8> {
    let head = b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0\xff\xff\x2d\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0";
    packet(0, &[&head[..], b"caching_sha2_password\0"].concat())
}

/// Reads one packet.
async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = stream.read_u32_le().await.ok()? & 0xff_ffff;
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(payload)
}

/// Text behind its length.
fn text(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// A result in packets.
fn result(columns: &[&str], rows: &[&[&str]]) -> Vec<u8> {
    let end = b"\xfe\0\0\x02\0".to_vec();
    let mut payloads = vec![vec![u8::try_from(columns.len()).unwrap()]];
    for column in columns {
        let name = ["def", "", "", "", column, column].map(text).concat();
        payloads.push([&name[..], b"\x0c\x2d\0\xff\0\0\0\xfd\0\0\0\0\0"].concat());
    }
    payloads.push(end.clone());
    payloads.extend(
        rows.iter()
            .map(|row| row.iter().map(|field| text(field)).collect::<Vec<_>>().concat()),
    );
    payloads.push(end);
    let packets = payloads.iter().zip(1..).map(|(payload, sequence)| packet(sequence, payload));
    packets.collect::<Vec<_>>().concat()
}

/// Answers queries as a replica of an old MySQL does.
async fn old_replica(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    while let Some(query) = read_packet(stream).await {
        let answer = match String::from_utf8_lossy(&query).trim_start_matches('\x03') {
            query if query.starts_with("SHOW GLOBAL VARIABLES") => result(&["Variable_name", "Value"], &[&["read_only", "OFF"]]),
            "SHOW REPLICA STATUS" => packet(1, b"\xff\x28\x04#42000You have an error in your SQL syntax"),
            "SHOW SLAVE STATUS" => result(
                &["Slave_IO_Running", "Slave_SQL_Running", "Seconds_Behind_Master"],
                &[&["Yes", "Yes", "12"]],
            ),
            _ => return,
        };
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn logins_of_mysql_8_pass_by_hash_and_over_tls_by_the_password_itself() {
    let authority = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let asked = |server: SocketAddr| MysqlProbe {
        port: server.port(),
        user: "watcher".to_owned(),
        password_file: Some(password.clone()),
        query: None,
        tls: None,
    };
    // The server remembers the hash.
    let fast = server(|mut stream| async move {
        stream.write_all(&greeting()).await.unwrap();
        let login = read_packet(&mut stream).await.unwrap();
        assert!(login[32..].starts_with(b"watcher\0\x20"), "{login:?}");
        assert!(login.ends_with(b"caching_sha2_password\0"), "{login:?}");
        stream.write_all(&packet(2, b"\x01\x03")).await.unwrap();
        stream.write_all(&packet(3, b"\0\0\0\x02\0\0\0")).await.unwrap();
        old_replica(&mut stream).await;
    })
    .await;
    let seen = probe(&asked(fast)).await;
    passes(&seen);
    assert_eq!(
        (seen.observed, seen.note.as_str()),
        (Some(Observed::Passive), "replica, 12s behind")
    );
    // It does not, and the password goes over TLS only.
    let acceptor = authority.acceptor(&["db.example.net"], &[]);
    let full = server(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            stream.write_all(&greeting()).await.unwrap();
            let first = read_packet(&mut stream).await.unwrap();
            if first.len() > 32 {
                stream.write_all(&packet(2, b"\x01\x04")).await.unwrap();
                assert_eq!(read_packet(&mut stream).await, None, "nothing is sent in the clear");
                return;
            }
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_packet(&mut stream).await.unwrap();
            stream.write_all(&packet(3, b"\x01\x04")).await.unwrap();
            assert_eq!(read_packet(&mut stream).await.unwrap(), b"s3cret\0");
            stream.write_all(&packet(5, b"\0\0\0\x02\0\0\0")).await.unwrap();
            old_replica(&mut stream).await;
        }
    })
    .await;
    let message = "the server wants the password itself, which is sent over TLS only: set tls = \"require\"";
    fails(&probe(&asked(full)).await, FailReason::Auth, message);
    let tls = TlsOptions {
        ca: Some(authority.file()),
        server_name: Some("db.example.net".to_owned()),
    };
    let seen = probe(&MysqlProbe {
        tls: Some(tls),
        ..asked(full)
    })
    .await;
    passes(&seen);
}

fn bare(server: SocketAddr) -> MysqlProbe {
    MysqlProbe {
        port: server.port(),
        user: "watcher".to_owned(),
        password_file: None,
        query: None,
        tls: None,
    }
}

/// A server that greets, takes the login, and then sends this.
async fn after_login(bytes: Vec<u8>) -> SocketAddr {
    server(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(&greeting()).await;
            read_packet(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
            hold(&mut stream).await;
        }
    })
    .await
}

#[tokio::test]
async fn hostile_servers_are_bounded() {
    let limit = Duration::from_millis(300);
    let ask = |server: SocketAddr| async move { run(ProbeKind::Mysql(bare(server)), "127.0.0.1", limit).await };
    let silent = server(|mut stream| async move { hold(&mut stream).await }).await;
    fails(&ask(silent).await, FailReason::Timeout, "no greeting within 300ms");
    let slow = server(|mut stream| async move { trickle(&mut stream, &greeting()).await }).await;
    fails(&ask(slow).await, FailReason::Timeout, "no greeting within 300ms");
    let no = "the server does not speak the MySQL protocol";
    for (first, reason, message) in [
        (b"".to_vec(), FailReason::Connect, "connection closed by the peer".to_owned()),
        (
            greeting()[..40].to_vec(),
            FailReason::Connect,
            "connection closed by the peer".to_owned(),
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            FailReason::Protocol,
            format!("{no}: it announces a packet of 5526600 octets"),
        ),
        (
            packet(0, b"\x09old"),
            FailReason::Protocol,
            format!("{no}: its version is 9, not 10"),
        ),
        (
            packet(0, b"\x0a8.0"),
            FailReason::Protocol,
            format!("{no}: its greeting is cut short"),
        ),
        (packet(0, b""), FailReason::Protocol, format!("{no}: its greeting is empty")),
        (
            packet(7, b"\x0a8.0"),
            FailReason::Protocol,
            format!("{no}: its packets are out of order"),
        ),
        (
            packet(0, b"\xff\x10\x04Too many connections"),
            FailReason::Status,
            "Too many connections".to_owned(),
        ),
        (
            packet(0, b"\xff\x69\x04Host '127.0.0.1' is blocked"),
            FailReason::Auth,
            "login refused: Host '127.0.0.1' is blocked".to_owned(),
        ),
    ] {
        let server = server(move |mut stream| {
            let first = first.clone();
            async move {
                let _ = stream.write_all(&first).await;
            }
        })
        .await;
        fails(&probe(&bare(server)).await, reason, &message);
    }
    let welcome = packet(2, b"\0\0\0\x02\0\0\0");
    let then = |bytes: &[u8]| [&welcome[..], bytes].concat();
    let switch = |sequence| packet(sequence, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0");
    for (bytes, reason, message) in [
        (vec![], FailReason::Timeout, "no login within 300ms".to_owned()),
        (
            packet(2, b"\x07"),
            FailReason::Protocol,
            format!("{no}: its answer to the login is none"),
        ),
        (
            packet(2, b"\xfeclient_ed25519\0abcdefghijklmnopqrst\0"),
            FailReason::Auth,
            "the server wants a login by client_ed25519, which is not spoken".to_owned(),
        ),
        (
            (1..20).map(|round| switch(round * 2)).collect::<Vec<_>>().concat(),
            FailReason::Protocol,
            format!("{no}: it never ends the login"),
        ),
        (then(b""), FailReason::Timeout, "no answer to the query within 300ms".to_owned()),
        (
            then(&packet(1, b"\xfb/etc/passwd")),
            FailReason::Protocol,
            format!("{no}: it asks for a file of ours"),
        ),
        (
            then(&packet(1, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f")),
            FailReason::Protocol,
            format!("{no}: its answer has no columns"),
        ),
        (
            then(&b"\xff\xff\xff\x01"[..]),
            FailReason::Protocol,
            format!("{no}: it announces a packet of 16777215 octets"),
        ),
        (
            then(&result(&["Variable_name", "Value"], &[])),
            FailReason::Protocol,
            "the server does not say whether it is read-only".to_owned(),
        ),
    ] {
        fails(&ask(after_login(bytes).await).await, reason, &message);
    }
    // Rows without an end: their packets count from 0 to 255 again and again.
    let head = result(&["Variable_name", "Value"], &[]);
    let head = head[..head.len() - 9].to_vec();
    let rows: Vec<u8> = (0..=255_u8)
        .flat_map(|at| packet(at.wrapping_add(5), &text("x").repeat(2)))
        .collect();
    let endless = server(move |mut stream| {
        let (head, rows) = (head.clone(), rows.clone());
        async move {
            let _ = stream.write_all(&greeting()).await;
            read_packet(&mut stream).await;
            let _ = stream.write_all(&packet(2, b"\0\0\0\x02\0\0\0")).await;
            read_packet(&mut stream).await;
            let _ = stream.write_all(&head).await;
            flood(&mut stream, &rows).await;
        }
    })
    .await;
    let seen = probe(&bare(endless)).await;
    fails(&seen, FailReason::Protocol, &format!("{no}: more than 1048576 octets"));
}
