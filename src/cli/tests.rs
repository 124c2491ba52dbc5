//! The command line against little HTTP servers that answer as they were told and keep what they were asked.

use super::args::Cli;
use super::client::{Client, Limits, claim, segment};
use super::connect::Server;
use super::outcome::{Failure, Outcome};
use super::{perform, verbs};
use crate::ledger::{Entry, Receipt};
use crate::model::{Actor, Body, Draft, Name, RegionId, Wall};
use clap::Parser;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};

/// A request as it came.
#[derive(Debug, Clone)]
struct Seen {
    /// Method and path.
    line: String,
    /// The other lines of its head, lower case.
    head: String,
    /// Its body.
    body: Value,
}

/// What a server does with a request.
#[derive(Debug, Clone)]
enum Act {
    /// Answers.
    Answer(u16, Value),
    /// Reads it and hangs up.
    HangUp,
}

/// A server that does one act after the other, the last one for ever.
#[derive(Clone)]
struct Fake {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// A server on a free port of loopback.
    async fn start(acts: Vec<Act>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Fake {
            url: format!("http://{}", listener.local_addr().unwrap()),
            seen: Arc::default(),
        };
        let (seen, acts) = (fake.seen.clone(), Arc::new(Mutex::new(VecDeque::from(acts))));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, seen.clone(), acts.clone()));
            }
        });
        fake
    }

    /// A server that answers everything alike.
    async fn answering(status: u16, body: Value) -> Fake {
        Fake::start(vec![Act::Answer(status, body)]).await
    }

    /// What it was asked so far.
    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Takes one request and acts.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Mutex<Vec<Seen>>>, acts: Arc<Mutex<VecDeque<Act>>>) {
    let mut stream = BufReader::new(stream);
    let (mut line, mut head) = (String::new(), String::new());
    stream.read_line(&mut line).await.unwrap();
    loop {
        let mut field = String::new();
        stream.read_line(&mut field).await.unwrap();
        if field.trim().is_empty() {
            break;
        }
        head.push_str(&field.to_lowercase());
    }
    let length = head
        .lines()
        .find_map(|field| field.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    seen.lock().unwrap().push(Seen {
        line: line.trim().to_owned(),
        head,
        body,
    });
    let act = {
        let mut acts = acts.lock().unwrap();
        if acts.len() > 1 { acts.pop_front() } else { acts.front().cloned() }
    };
    if let Some(Act::Answer(status, body)) = act {
        let body = body.to_string();
        let text = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }
}

/// The address of a port at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Runs words; `_` stands for a space inside a word.
async fn run(servers: &[&str], words: &str) -> Outcome {
    let words = words.split(' ').map(|word| word.replace('_', " "));
    let servers = servers.iter().flat_map(|url| ["--server".to_owned(), (*url).to_owned()]);
    let cli = Cli::try_parse_from(std::iter::once("pointsman".to_owned()).chain(servers).chain(words)).unwrap();
    perform(cli).await
}

/// The exit code of an outcome.
fn code(outcome: &Outcome) -> u8 {
    outcome.as_ref().map_or_else(Failure::code, |()| 0)
}

/// A receipt of a change that changed nothing, so that nothing is asked afterwards.
fn unchanged() -> Value {
    json!({ "changed": false, "seq": 7, "hash": "ab", "generation": 3 })
}

const SWITCH: &str = "switch Shop.Example.NET --to fra --reason iad_is_down";

#[tokio::test]
async fn a_change_says_name_target_reason_and_id() {
    let server = Fake::answering(200, unchanged()).await;
    assert_eq!(
        code(&run(&[&server.url], &format!("{SWITCH} --expect iad --override cooldown")).await),
        0
    );
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v1/names/shop.example.net./switch HTTP/1.1");
    assert!(seen.head.contains("content-type: application/json"), "{}", seen.head);
    let id = seen.body["request_id"].as_str().unwrap();
    assert!(id.len() == 32 && id.chars().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    let expected = json!({ "reason": "iad is down", "request_id": id, "to": "fra", "override": ["cooldown"], "expect": "iad" });
    assert_eq!(seen.body, expected);
}

#[tokio::test]
async fn the_next_server_is_asked_when_nobody_listens_or_it_cannot_serve() {
    let busy = Fake::answering(503, json!({ "code": "unavailable", "message": "starting" })).await;
    let good = Fake::answering(200, unchanged()).await;
    assert_eq!(code(&run(&[&nobody().await, &busy.url, &good.url], SWITCH).await), 0);
    let (first, second) = (busy.seen(), good.seen());
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(first[0].body["request_id"], second[0].body["request_id"]);
}

#[tokio::test]
async fn any_other_answer_ends_the_search() {
    for status in [400, 401, 403, 404, 409, 500] {
        let first = Fake::answering(status, json!({ "code": "x", "message": "no" })).await;
        let second = Fake::answering(200, unchanged()).await;
        assert_eq!(code(&run(&[&first.url, &second.url], SWITCH).await), 1, "{status}");
        assert!(second.seen().is_empty(), "{status}");
    }
}

#[tokio::test]
async fn a_refusal_is_3_a_dry_run_too() {
    let refused = json!({ "code": "refused", "message": "no", "detail": { "refusals": [{ "gate": "cooldown", "message": "too soon" }] } });
    let server = Fake::answering(409, refused).await;
    for words in [
        SWITCH.to_owned(),
        format!("{SWITCH} --dry-run"),
        "approve 4 5 --reason x".to_owned(),
    ] {
        assert_eq!(code(&run(&[&server.url], &words).await), 3, "{words}");
    }
    let paths: Vec<String> = server.seen().iter().skip(2).map(|seen| seen.line.clone()).collect();
    assert_eq!(
        paths,
        ["POST /v1/proposals/4/approve HTTP/1.1", "POST /v1/proposals/5/approve HTTP/1.1"]
    );
}

#[tokio::test]
async fn nobody_reachable_is_4_and_unserved_is_1() {
    let (one, two) = (nobody().await, nobody().await);
    assert_eq!(code(&run(&[&one, &two], SWITCH).await), 4);
    assert_eq!(code(&run(&[&one], "status").await), 4);
    assert_eq!(code(&run(&[&one], "watch").await), 4);
    assert_eq!(code(&run(&["unix:/nonexistent/api.sock"], "status").await), 4);
    let busy = Fake::answering(503, json!({ "code": "unavailable", "message": "no changes here" })).await;
    assert_eq!(code(&run(&[&busy.url, &one], SWITCH).await), 1);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_id() {
    let lossy = Fake::start(vec![Act::HangUp, Act::Answer(200, unchanged())]).await;
    assert_eq!(code(&run(&[&lossy.url], SWITCH).await), 0);
    let seen = lossy.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, seen[1].body);

    let mute = Fake::start(vec![Act::HangUp]).await;
    let good = Fake::answering(200, unchanged()).await;
    assert_eq!(code(&run(&[&mute.url, &good.url], SWITCH).await), 0);
    assert_eq!(mute.seen()[0].body, good.seen()[0].body);
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_told() {
    let mute = Fake::start(vec![Act::HangUp]).await;
    let Err(Failure::Unreachable(told)) = run(&[&mute.url], SWITCH).await else {
        panic!("nobody answered")
    };
    assert!(told.contains("may have been made"), "{told}");
    let Err(Failure::Unreachable(told)) = run(&[&mute.url], "status").await else {
        panic!("nobody answered")
    };
    assert!(!told.contains("may have been made"), "{told}");
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_told_beside_what_another_server_says() {
    for (status, round) in [(503, 2), (500, 1)] {
        let mute = Fake::start(vec![Act::HangUp]).await;
        let other = Fake::answering(status, json!({ "code": "unavailable", "message": "nothing changes" })).await;
        let failure = run(&[&mute.url, &other.url], SWITCH).await.unwrap_err();
        assert_eq!((failure.code(), mute.seen().len()), (1, round));
        let told = format!("{failure:?}");
        assert!(told.contains("nothing changes") && told.contains("may have been made"), "{told}");
    }
    // Once the server that was lost says what came of it, nothing is uncertain.
    let mute = Fake::start(vec![Act::HangUp, Act::Answer(500, json!({ "code": "x", "message": "no" }))]).await;
    let told = format!("{:?}", run(&[&mute.url], SWITCH).await.unwrap_err());
    assert!(!told.contains("may have been made"), "{told}");
}

#[tokio::test]
async fn what_follows_a_change_is_asked_where_the_change_was_made() {
    let name =
        json!({ "name": "shop.example.net.", "answer": { "region": "fra", "reason": "healthy", "ttl": 30, "records": ["192.0.2.1"] } });
    let entry = json!({ "items": [{ "seq": 8, "body": { "kind": "switched", "name": "shop.example.net.", "from": "iad", "to": "fra" } }] });
    let receipt = json!({ "changed": true, "seq": 8, "hash": "cd", "generation": 4 });
    let busy = Fake::answering(503, Value::Null).await;
    let good = Fake::start(vec![Act::Answer(200, receipt), Act::Answer(200, entry), Act::Answer(200, name)]).await;
    assert_eq!(code(&run(&[&busy.url, &good.url], SWITCH).await), 0);
    assert_eq!(busy.seen().len(), 1);
    let lines: Vec<String> = good.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines[1..],
        [
            "GET /v1/ledger?after=7&limit=1 HTTP/1.1",
            "GET /v1/names/shop.example.net. HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn a_made_change_is_0_even_if_its_effect_cannot_be_shown() {
    let receipt = json!({ "changed": true, "seq": 8, "hash": "cd", "generation": 4 });
    let server = Fake::start(vec![Act::Answer(200, receipt), Act::Answer(500, Value::Null)]).await;
    assert_eq!(code(&run(&[&server.url], SWITCH).await), 0);
}

#[tokio::test]
async fn names_are_fetched_page_by_page() {
    let status = json!({ "node": "a", "proposals_open": 0, "serving": { "state": "current", "errors": [] } });
    let first = json!({ "items": [{ "name": "a.example." }], "next": "a.example." });
    let second = json!({ "items": [{ "name": "b.example." }] });
    let server = Fake::start([status, first, second].into_iter().map(|body| Act::Answer(200, body)).collect()).await;
    assert_eq!(code(&run(&[&server.url], "status").await), 0);
    let lines: Vec<String> = server.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines[1..],
        [
            "GET /v1/names?limit=1000 HTTP/1.1",
            "GET /v1/names?limit=1000&after=a.example. HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn the_socket_the_token_and_the_claimed_user_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let acts = Arc::new(Mutex::new(VecDeque::from([Act::Answer(200, json!({ "ok": true }))])));
    tokio::spawn({
        let seen = seen.clone();
        async move {
            let (stream, _) = listener.accept().await.unwrap();
            answer(stream, seen, acts).await;
        }
    });
    let limits = Limits {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(5),
    };
    let client = Client::with(
        vec![Server::Socket(path)],
        Some("sesame".to_owned()),
        Some("ada".to_owned()),
        None,
        limits,
    )
    .unwrap();
    assert!(client.get("/v1/status").await.unwrap().status.is_success());
    let head = seen.lock().unwrap()[0].head.clone();
    for field in ["host: localhost", "authorization: bearer sesame", "x-pointsman-user: ada"] {
        assert!(head.contains(field), "{field} in {head}");
    }
}

#[test]
fn no_user_name_keeps_its_owner_from_working() {
    let long = "x".repeat(500);
    for (user, claimed) in [
        ("ada", Some("ada")),
        ("j\u{fc}rgen", Some("jrgen")),
        (" a\tb\u{7f} ", Some("ab")),
        ("\u{65e5}\u{672c}", None),
        ("", None),
        (long.as_str(), Some(&long[..64])),
    ] {
        assert_eq!(claim(user).as_deref(), claimed, "{user:?}");
    }
}

#[tokio::test]
async fn a_token_is_not_sent_in_the_clear() {
    let limits = Limits {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(5),
    };
    let open = vec![Server::parse("http://ns1.example.net:8053").unwrap()];
    let failure = Client::with(open, Some("sesame".to_owned()), None, None, limits).err().unwrap();
    assert_eq!(failure.code(), 2);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let limits = Limits {
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(50),
    };
    let client = Client::with(vec![server], None, None, None, limits).unwrap();
    assert_eq!(client.get("/v1/status").await.unwrap_err().code(), 4);
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_a_failure() {
    let server = Fake::answering(200, Value::Null).await;
    assert_eq!(code(&run(&[&server.url], "proposals").await), 1);
}

#[tokio::test]
async fn a_watch_that_is_refused_ends() {
    let server = Fake::answering(401, json!({ "code": "unauthorized", "message": "a token is needed" })).await;
    let failure = run(&[&server.url], "watch").await.unwrap_err();
    assert_eq!(failure.code(), 1);
    assert!(format!("{failure:?}").contains("--token-file"), "{failure:?}");
}

#[tokio::test]
async fn a_server_with_a_certificate_of_ones_own_ca_is_trusted_by_that_ca_only() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) = (dir.path().join("ca.pem"), dir.path().join("other.pem"));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    std::fs::write(&other, stranger.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::parse(&format!("https://localhost:{}", listener.local_addr().unwrap().port())).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acts = Arc::new(Mutex::new(VecDeque::from([Act::Answer(200, json!({ "ok": true }))])));
            // The client that does not trust us hangs up.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            tokio::spawn(answer(stream, Arc::default(), acts));
        }
    });
    let limits = Limits {
        connect: Duration::from_secs(5),
        answer: Duration::from_secs(5),
    };
    let client = |ca: &Path| Client::with(vec![server.clone()], Some("sesame".to_owned()), None, Some(ca), limits).unwrap();
    assert!(client(&ca).get("/v1/status").await.unwrap().status.is_success());
    let Err(Failure::Unreachable(told)) = client(&other).get("/v1/status").await else {
        panic!("a stranger was trusted")
    };
    assert!(told.contains("certificate"), "{told}");
}

#[test]
fn parts_of_paths_are_escaped() {
    for (text, escaped) in [
        ("shop.example.net.", "shop.example.net."),
        ("a/b?c d%", "a%2Fb%3Fc%20d%25"),
        ("é", "%C3%A9"),
        (r"\046x.", "%5C046x."),
    ] {
        assert_eq!(segment(text), escaped);
    }
}

#[test]
fn every_verb_is_listed() {
    let verbs = verbs();
    for verb in ["serve", "switch", "ledger log", "ledger export", "completions"] {
        assert!(verbs.iter().any(|known| known == verb), "{verb} in {verbs:?}");
    }
    assert!(!verbs.iter().any(|verb| verb.contains("rollback") || verb == "ledger"), "{verbs:?}");
}

/// A ledger of `number` entries as lines.
fn lines(number: usize) -> Vec<(Entry, Vec<u8>)> {
    let mut head = Receipt::GENESIS;
    let mut lines = Vec::new();
    for at in 0..number {
        let body = Body::Drained {
            name: Name::parse("shop.example.net.").unwrap(),
            region: RegionId::new("fra"),
        };
        let actor = Actor::Local {
            claimed: Some("ada".to_owned()),
        };
        let draft = Draft {
            actor,
            reason: format!("é \"quoted\" \\ {at}"),
            request_id: None,
            body,
        };
        let (entry, line) = Entry::seal(head, Wall(1_700_000_000_000 + at as u64), draft).unwrap();
        head = entry.receipt();
        lines.push((entry, line));
    }
    lines
}

/// A data dir with these octets as its ledger.
fn data_dir(octets: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(crate::store::ledger_path(dir.path()), octets).unwrap();
    dir
}

/// Runs a ledger verb on a data dir.
async fn offline(dir: &Path, words: &str) -> Outcome {
    run(&[], &format!("ledger {words} --data-dir {}", dir.display())).await
}

#[tokio::test]
async fn a_ledger_is_verified_without_a_server() {
    let lines = lines(5);
    let whole: Vec<u8> = lines.iter().flat_map(|(_, line)| line.clone()).collect();
    let dir = data_dir(&whole);
    let receipt = lines[2].0.receipt();
    for words in [
        "verify",
        "verify --json",
        "log",
        "log --after 2 --limit 2",
        "show 3",
        "export",
        &format!("verify --expect {receipt}"),
    ] {
        assert_eq!(code(&offline(dir.path(), words).await), 0, "{words}");
    }
    assert_eq!(code(&offline(dir.path(), "show 6").await), 1);
    let cut: Vec<u8> = lines.iter().take(2).flat_map(|(_, line)| line.clone()).collect();
    let failure = offline(data_dir(&cut).path(), &format!("verify --expect {receipt}"))
        .await
        .unwrap_err();
    assert!(format!("{failure:?}").contains("its tail is missing"), "{failure:?}");
    assert_eq!(code(&offline(Path::new("/nonexistent"), "verify").await), 1);
}

#[tokio::test]
async fn a_corrupt_entry_is_named() {
    let mut whole: Vec<u8> = lines(5).iter().flat_map(|(_, line)| line.clone()).collect();
    let third = lines(2).iter().map(|(_, line)| line.len()).sum::<usize>();
    whole[third + 60] ^= 1;
    let failure = offline(data_dir(&whole).path(), "verify").await.unwrap_err();
    assert_eq!(failure.code(), 1);
    assert!(format!("{failure:?}").contains("entry 3 (line 3"), "{failure:?}");
}

#[tokio::test]
async fn a_torn_last_line_is_no_corruption() {
    let mut whole: Vec<u8> = lines(2).iter().flat_map(|(_, line)| line.clone()).collect();
    whole.truncate(whole.len() - 10);
    assert_eq!(code(&offline(data_dir(&whole).path(), "verify").await), 0);
}

#[tokio::test]
async fn a_servers_ledger_is_verified_by_writing_its_entries_again() {
    let entries: Vec<Value> = lines(3).iter().map(|(entry, _)| serde_json::to_value(entry).unwrap()).collect();
    let acts = |entries: &[Value]| {
        let bodies = [
            json!({ "seq": 3 }),
            json!({ "items": &entries[..2], "next": 2 }),
            json!({ "items": &entries[2..] }),
            json!({ "items": [] }),
        ];
        bodies.into_iter().map(|body| Act::Answer(200, body)).collect::<Vec<_>>()
    };
    let server = Fake::start(acts(&entries)).await;
    assert_eq!(code(&run(&[&server.url], "ledger verify").await), 0);
    assert_eq!(server.seen()[2].line, "GET /v1/ledger?after=2&limit=500 HTTP/1.1");

    let mut altered = entries;
    altered[1]["reason"] = "another reason".into();
    let server = Fake::start(acts(&altered)).await;
    let failure = run(&[&server.url], "ledger verify").await.unwrap_err();
    assert!(format!("{failure:?}").contains("entry 2"), "{failure:?}");
}
