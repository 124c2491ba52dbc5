//! Who may do what: open loopback, tokens, TLS, and the Unix socket with its file.

mod api_support;
mod support;

use api_support::{Reply, SHOP, ask, connect, exchange, get, request, write_config};
use pointsman::ledger::Hash;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use support::{Site, wait_for};

/// A change that succeeds.
const CHANGE: &str = r#"{"to":"fra","reason":"x","override":["target-healthy"]}"#;
/// Where it is sent.
const PATH: &str = "/v1/names/shop.example.net/switch";
/// Its content type.
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A token file's entry.
fn token(name: &str, role: &str, token: &str) -> String {
    format!(
        "[[token]]\nname = {name:?}\nrole = {role:?}\nsha256 = \"{}\"\n",
        Hash::of(token.as_bytes())
    )
}

/// Actor of the last entry.
fn last_actor(ledger: &Value) -> Value {
    ledger["items"].as_array().unwrap().last().unwrap()["actor"].clone()
}

#[test]
fn on_open_loopback_the_user_is_only_claimed() {
    let site = Site::new(SHOP);
    let _server = site.serve();
    ask(&site, "POST", PATH, &[JSON, ("X-Pointsman-User", "ada")], Some(CHANGE)).expect(200);
    let actor = last_actor(&get(&site, "/v1/ledger").expect(200));
    assert_eq!(actor, json!({ "by": "local", "claimed": "ada" }));
}

#[test]
fn tokens_are_needed_and_viewers_only_read() {
    let site = Site::new("");
    write_config(&site, SHOP, "token-file = \"tokens.toml\"");
    std::fs::write(
        site.path("tokens.toml"),
        token("ada", "operator", "sesame") + &token("bob", "viewer", "look"),
    )
    .unwrap();
    let mut server = site.spawn(&[]);
    server.wait_answering();
    wait_for("the API", || site.get("/livez").filter(|(status, _)| *status == 200));

    for path in ["/v1/status", "/metrics", "/openapi.json", "/v1/events", "/nothing"] {
        let refused = get(&site, path);
        assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
        refused.expect_error(401, "unauthorized");
    }
    let with = |method: &str, path: &str, value: &str, body| ask(&site, method, path, &[JSON, ("Authorization", value)], body);
    for value in [
        "Bearer wrong",
        "Bearer ",
        "Bearer",
        "Basic c2VzYW1l",
        "sesame",
        "Bearer sesame2",
        "Bearer SESAME",
    ] {
        with("GET", "/v1/status", value, None).expect_error(401, "unauthorized");
        with("POST", PATH, value, Some(CHANGE)).expect_error(401, "unauthorized");
    }
    // Supervisors have no token: whether it is ready is told to everybody, why not is told in the log.
    assert_eq!(get(&site, "/readyz").status, 200);
    with("GET", "/v1/status", "bearer look", None).expect(200);
    with("POST", PATH, "Bearer look", Some(CHANGE)).expect_error(403, "forbidden");
    // The header of open loopback means nothing here.
    let headers = [JSON, ("Authorization", "Bearer sesame"), ("X-Pointsman-User", "eve")];
    ask(&site, "POST", PATH, &headers, Some(CHANGE)).expect(200);
    let ledger = with("GET", "/v1/ledger", "Bearer look", None).expect(200);
    assert_eq!(last_actor(&ledger), json!({ "by": "token", "name": "ada" }));

    std::fs::write(site.path("tokens.toml"), token("bob", "operator", "look")).unwrap();
    with("GET", "/v1/status", "Bearer sesame", None).expect_error(401, "unauthorized");
    let back = r#"{"to":"iad","reason":"x","override":["target-healthy"]}"#;
    with("POST", PATH, "Bearer look", Some(back)).expect(200);
    std::fs::write(site.path("tokens.toml"), "[[token]").unwrap();
    with("GET", "/v1/status", "Bearer look", None).expect(200);
    assert!(!site.log().contains("sesame"));
}

#[test]
fn without_a_usable_token_file_the_server_does_not_start() {
    let site = Site::new("");
    write_config(&site, SHOP, "token-file = \"tokens.toml\"");
    assert_ne!(site.spawn(&[]).wait_end(), Some(0));
    std::fs::write(site.path("tokens.toml"), "").unwrap();
    assert_ne!(site.spawn(&[]).wait_end(), Some(0));
    assert!(site.log().contains("tokens.toml"), "{}", site.log());
    assert!(site.log().contains("no [[token]]"), "{}", site.log());
}

/// Writes certificate and key for some names; gives a client that trusts them.
fn certify(site: &Site, names: &[&str]) -> Arc<ClientConfig> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    std::fs::write(site.path("api.crt"), cert.pem()).unwrap();
    std::fs::write(site.path("api.key"), signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    // A resumed session would not look at the certificate again.
    client.resumption = rustls::client::Resumption::disabled();
    Arc::new(client)
}

/// A GET over TLS.
fn get_tls(site: &Site, client: &Arc<ClientConfig>, name: &'static str, host: &str) -> Option<Reply> {
    let connection = ClientConnection::new(client.clone(), ServerName::try_from(name).unwrap()).unwrap();
    let stream = StreamOwned::new(connection, std::net::TcpStream::connect(site.api).ok()?);
    exchange(stream, request("GET", "/v1/status", host, &[], None).as_bytes())
}

#[test]
fn tls_serves_the_names_of_its_certificate_and_nothing_in_plain() {
    let site = Site::new("");
    write_config(&site, SHOP, "tls = { cert = \"api.crt\", key = \"api.key\" }");
    let client = certify(&site, &["localhost", "ns1.example.net"]);
    let mut server = site.spawn(&[]);
    server.wait_answering();
    // One that never finishes its handshake holds nobody up.
    let mut silent = wait_for("the API", || std::net::TcpStream::connect(site.api).ok());
    silent.write_all(b"\x16\x03\x01").unwrap();
    let reply = get_tls(&site, &client, "localhost", "localhost").unwrap();
    assert_eq!(reply.expect(200)["node"], "test");
    let port = site.api.port();
    let named = get_tls(&site, &client, "ns1.example.net", &format!("ns1.example.net:{port}")).unwrap();
    assert_eq!(named.status, 200);
    let foreign = get_tls(&site, &client, "ns1.example.net", "evil.example").unwrap();
    foreign.expect_error(421, "unknown-host");
    let plain = request("GET", "/v1/status", "localhost", &[], None);
    assert!(exchange(connect(site.api), plain.as_bytes()).is_none());
}

#[test]
fn a_key_that_does_not_belong_to_the_certificate_is_told() {
    let site = Site::new("");
    write_config(&site, SHOP, "tls = { cert = \"api.crt\", key = \"api.key\" }");
    certify(&site, &["localhost"]);
    let cert = std::fs::read(site.path("api.crt")).unwrap();
    certify(&site, &["localhost"]);
    std::fs::write(site.path("api.crt"), cert).unwrap();
    assert_ne!(site.spawn(&[]).wait_end(), Some(0));
    assert!(site.log().contains("api.key"), "{}", site.log());
    std::fs::write(site.path("api.crt"), "nothing").unwrap();
    assert_ne!(site.spawn(&[]).wait_end(), Some(0));
    assert!(site.log().contains("BEGIN CERTIFICATE"), "{}", site.log());
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let site = Site::new("");
    write_config(&site, SHOP, "tls = { cert = \"api.crt\", key = \"api.key\" }");
    let old = certify(&site, &["localhost"]);
    let mut server = site.spawn(&[]);
    server.wait_answering();
    wait_for("the API", || get_tls(&site, &old, "localhost", "localhost"));
    std::fs::write(site.path("api.crt"), "half a certificate").unwrap();
    wait_for("the warning", || {
        site.log().contains("the new certificate is not used").then_some(())
    });
    assert_eq!(get_tls(&site, &old, "localhost", "localhost").unwrap().status, 200);
    let new = certify(&site, &["localhost", "ns2.example.net"]);
    let renewed = wait_for("the new certificate", || get_tls(&site, &new, "ns2.example.net", "ns2.example.net"));
    assert_eq!(renewed.status, 200, "its names are known hosts from now on: {renewed:?}");
    assert!(get_tls(&site, &old, "localhost", "localhost").is_none());
}

#[test]
fn a_taken_port_of_the_api_names_who_listens_there() {
    let site = Site::new(SHOP);
    let _other = std::net::TcpListener::bind(site.api).unwrap();
    assert_eq!(site.spawn(&[]).wait_end(), Some(1));
    let holder = format!("cannot listen on {}: ", site.api);
    let pid = format!("(pid {}) listens there", std::process::id());
    assert!(site.log().contains(&holder) && site.log().contains(&pid), "{}", site.log());
}

/// What `check` says of the site's config, and its exit code.
fn check(site: &Site) -> (Option<i32>, String) {
    let output = site.cli(&["check", "--config", site.config().to_str().unwrap()]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn check_looks_inside_the_files_of_the_api() {
    let site = Site::new("");
    write_config(
        &site,
        SHOP,
        "token-file = \"tokens.toml\"\ntls = { cert = \"api.crt\", key = \"api.key\" }",
    );
    let text = std::fs::read_to_string(site.config()).unwrap();
    let line = |key: &str| 1 + text.lines().position(|line| line.starts_with(key)).unwrap();
    let at = |key: &str, column: usize| format!("pointsman.toml:{}:{column}: error: ", line(key));
    let (token, cert, key) = (at("token-file", 14), at("tls", 16), at("tls", 33));

    let (code, said) = check(&site);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!("{token}the token-file ")) && said.contains("No such file"),
        "{said}"
    );
    assert!(said.contains(&cert), "{said}");

    certify(&site, &["localhost"]);
    let old_key = std::fs::read(site.path("api.key")).unwrap();
    certify(&site, &["localhost"]);
    std::fs::write(site.path("api.key"), old_key).unwrap();
    std::fs::write(site.path("tokens.toml"), "[[token]]\nname = \"ada\"\nrole = \"root\"\n").unwrap();
    let (code, said) = check(&site);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&key) && said.contains("it is not the key of the certificate in"),
        "{said}"
    );
    assert!(
        said.contains("unknown variant `root`") && said.contains("it is wrong here: ") && said.contains("tokens.toml:3:8"),
        "{said}"
    );

    certify(&site, &["localhost"]);
    std::fs::write(site.path("tokens.toml"), token_entry()).unwrap();
    let (code, said) = check(&site);
    assert_eq!(code, Some(0), "{said}");
}

/// A token file that is right.
fn token_entry() -> String {
    token("ada", "operator", "sesame")
}

/// A request over the site's socket.
fn over_socket(site: &Site, text: &str) -> Reply {
    let stream = UnixStream::connect(site.path("api.sock")).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    exchange(stream, text.as_bytes()).unwrap()
}

#[test]
fn the_socket_knows_its_peer_and_its_file_comes_and_goes() {
    let site = Site::new(SHOP);
    // What a killed server leaves.
    drop(UnixListener::bind(site.path("api.sock")).unwrap());
    let server = site.serve();
    let mode = std::fs::metadata(site.path("api.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let headers = [JSON, ("X-Pointsman-User", "eve")];
    over_socket(&site, &request("POST", PATH, "whatever.example", &headers, Some(CHANGE))).expect(200);
    let actor = last_actor(&get(&site, "/v1/ledger").expect(200));
    let uid = nix::unistd::geteuid();
    assert_eq!((&actor["by"], &actor["uid"]), (&json!("uid"), &json!(uid.as_raw())));
    let user = nix::unistd::User::from_uid(uid).unwrap().map(|user| user.name);
    assert_eq!(actor["user"].as_str(), user.as_deref());
    // A request without any Host is fine here, HTTP allows it in 1.0.
    assert_eq!(over_socket(&site, "GET /livez HTTP/1.0\r\n\r\n").status, 200);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(server.wait_end(), Some(0));
    assert!(!site.path("api.sock").exists());
}

#[test]
fn a_socket_on_which_somebody_answers_is_not_taken_away() {
    let site = Site::new(SHOP);
    let other = UnixListener::bind(site.path("api.sock")).unwrap();
    assert_ne!(site.spawn(&[]).wait_end(), Some(0));
    let holder = format!("(pid {}) answers there", std::process::id());
    assert!(site.log().contains(&holder), "{}", site.log());
    assert!(site.path("api.sock").exists());
    drop(other);
    std::fs::remove_file(site.path("api.sock")).unwrap();
    std::fs::write(site.path("api.sock"), "precious").unwrap();
    assert_ne!(site.spawn(&[]).wait_end(), Some(0));
    assert_eq!(std::fs::read_to_string(site.path("api.sock")).unwrap(), "precious");
}
