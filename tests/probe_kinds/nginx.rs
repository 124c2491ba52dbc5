//! The http and tls kinds against nginx: TLS, both versions of HTTP, redirects, client certificates, its end.

use super::http::{containing, get};
use super::tls::Authority;
use super::*;
use pointsman::model::{HttpProbe, HttpVersion, Identity, TlsOptions, TlsProbe};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// nginx with a configuration of its own, killed when it goes.
struct Nginx {
    process: Child,
    folder: TempDir,
    authority: Authority,
    clients: Authority,
    /// Ports: TLS, and TLS for known clients.
    ports: [u16; 2],
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Nginx {
    async fn start() -> Nginx {
        let (folder, authority, clients) = (tempfile::tempdir().unwrap(), Authority::new("ours"), Authority::new("clients"));
        let ports = [closed_port().await, closed_port().await];
        let (cert, key) = authority.issue(&["shop.example.net"]);
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("cert.pem"), format!("{}{}", cert.pem(), authority.issuer.pem())).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};\n", path(kind)))
            .concat();
        let [port, known] = ports;
        let (cert, key, ca) = (path("cert.pem"), path("key.pem"), clients.file().display().to_string());
        let config = format!(
            "user root; daemon off; master_process off; pid {pid}; error_log {log};\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; default_type text/plain; server_name_in_redirect off;\n{temporary}\
             ssl_certificate {cert}; ssl_certificate_key {key};\n\
             server {{ listen 127.0.0.1:{port} ssl http2;\n\
             location = /ok {{ return 200 \"$server_protocol $http_host $request_method\"; }}\n\
             location = /old {{ return 301 /ok; }}\n\
             location = /away {{ return 302 https://login.example.net/; }}\n\
             location = /standby {{ return 503 \"db: standby\"; }} }}\n\
             server {{ listen 127.0.0.1:{known} ssl; ssl_client_certificate {ca}; ssl_verify_client on;\n\
             location / {{ return 200 $ssl_client_verify; }} }} }}\n",
            pid = path("pid"),
            log = path("log"),
        );
        std::fs::write(path("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        let known_places = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command
            .env("PATH", known_places)
            .args(["-e", &path("log"), "-p", &path(""), "-c", &path("nginx.conf")]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("nginx is missing: install the Debian package `nginx-light`");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", known)).await.is_err() {
            let log = std::fs::read_to_string(path("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(20), "nginx does not listen: {log}");
            tokio::task::yield_now().await;
        }
        Nginx {
            process,
            folder,
            authority,
            clients,
            ports,
        }
    }

    /// Asks one of its servers for a path.
    fn at(&self, server: usize, path: &str) -> HttpProbe {
        let mut probe = get(&format!("https://shop.example.net:{}{path}", self.ports[server]));
        probe.ca = Some(self.authority.file());
        probe
    }

    /// Who asks, with a certificate of an authority.
    fn identity(&self, issued: &Authority) -> Identity {
        let (cert, key) = issued.issue(&["probe.example.net"]);
        let (cert_file, key_file) = (self.folder.path().join("client.pem"), self.folder.path().join("client.key"));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        Identity {
            cert: cert_file,
            key: key_file,
        }
    }
}

async fn probe(probe: HttpProbe) -> Seen {
    run(ProbeKind::Http(Box::new(probe)), "127.0.0.1", LIMIT).await
}

#[tokio::test]
async fn nginx_is_asked_as_its_clients_ask() {
    let nginx = Nginx::start().await;
    let host = format!("shop.example.net:{}", nginx.ports[0]);
    let mut asked = nginx.at(0, "/ok");
    for (version, said) in [
        (HttpVersion::Auto, "HTTP/2.0"),
        (HttpVersion::Two, "HTTP/2.0"),
        (HttpVersion::One, "HTTP/1.1"),
    ] {
        asked.version = version;
        let seen = run_spec(&containing(&asked, &format!("{said} {host} GET")), "127.0.0.1").await;
        passes(&seen);
        let days = seen.values.iter().find(|(name, _)| name == "certificate-days");
        assert!(days.is_some_and(|(_, days)| *days > 1000.0), "{seen:?}");
    }
    let mut moved = nginx.at(0, "/old");
    let message = "HTTP 301, expected 200; body says \"301 Moved Permanently\"";
    fails(&probe(moved.clone()).await, FailReason::Status, message);
    moved.redirects = 1;
    passes(&run_spec(&containing(&moved, "GET"), "127.0.0.1").await);
    let mut away = nginx.at(0, "/away");
    away.redirects = 1;
    let message = format!("HTTP 302 leads to https://login.example.net, not to https://{host}");
    fails(&probe(away).await, FailReason::Status, &message);
    let message = "HTTP 503, expected 200; body says \"db: standby\"";
    fails(&probe(nginx.at(0, "/standby")).await, FailReason::Status, message);
    let mut old = nginx.at(1, "/");
    (old.version, old.identity) = (HttpVersion::Two, Some(nginx.identity(&nginx.clients)));
    let seen = probe(old).await;
    assert!(matches!(seen.reason, Some(FailReason::Protocol | FailReason::Tls)), "{seen:?}");
}

#[tokio::test]
async fn nginx_wants_to_know_its_clients() {
    let nginx = Nginx::start().await;
    let mut asked = nginx.at(1, "/");
    let message = "HTTP 400, expected 200; body says \"400 No required SSL certificate was sent\"";
    fails(&probe(asked.clone()).await, FailReason::Status, message);
    asked.identity = Some(nginx.identity(&nginx.clients));
    passes(&run_spec(&containing(&asked, "SUCCESS"), "127.0.0.1").await);
    asked.identity = Some(nginx.identity(&Authority::new("strangers")));
    let message = "HTTP 400, expected 200; body says \"400 The SSL certificate error\"";
    fails(&probe(asked.clone()).await, FailReason::Status, message);
    // The files are looked at before each run.
    let mut watched = prober::Watched::new(ProbeKind::Http(Box::new(asked)));
    assert!(watched.outcome().await.result.is_err());
    nginx.identity(&nginx.clients);
    watched.until(|outcome| outcome.result.is_ok()).await;
}

#[tokio::test]
async fn the_end_of_nginx_is_seen_over_a_kept_connection() {
    let mut nginx = Nginx::start().await;
    let tls = TlsProbe {
        port: nginx.ports[0],
        options: TlsOptions {
            ca: Some(nginx.authority.file()),
            server_name: Some("shop.example.net".to_owned()),
        },
        identity: None,
        alpn: vec!["h2".to_owned()],
    };
    let seen = run(ProbeKind::Tls(Box::new(tls)), "127.0.0.1", LIMIT).await;
    passes(&seen);
    assert!(seen.values.contains(&("chain-length".to_owned(), 2.0)), "{seen:?}");
    for version in [HttpVersion::One, HttpVersion::Two] {
        let mut asked = nginx.at(0, "/ok");
        asked.version = version;
        let mut watched = prober::Watched::new(ProbeKind::Http(Box::new(asked)));
        for _ in 0..3 {
            assert_eq!(watched.outcome().await.result, Ok(()));
        }
        if version == HttpVersion::Two {
            nginx.process.kill().unwrap();
            let failed = watched.until(|outcome| outcome.result.is_err()).await;
            let failure = failed.result.unwrap_err();
            assert_eq!(
                (failure.reason, failure.message.as_str()),
                (FailReason::Connect, "connection refused")
            );
        }
    }
}
