//! Whoever closes the standard output of a command (`| head`, `| true`) changes neither its verdict nor what it sends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A server that gives every request the same answer and keeps what it was asked.
struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn answering(status: u16, body: &'static str) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Fake {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let asked = fake.asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                asked.lock().unwrap().push(answer(stream.unwrap(), status, body));
            }
        });
        fake
    }
}

/// Answers one request; gives its first line.
fn answer(mut stream: TcpStream, status: u16, body: &str) -> String {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).unwrap();
        if field.trim().is_empty() {
            break;
        }
        if let Some(text) = field.to_lowercase().strip_prefix("content-length: ") {
            length = text.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).unwrap();
    first.trim().to_owned()
}

/// The exit code of a command whose standard output nobody reads: every write to it fails.
fn code(fake: Option<&Fake>, arguments: &[&str]) -> Option<i32> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(ours);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    if let Some(fake) = fake {
        command.env("POINTSMAN_SERVER", format!("http://{}", fake.address));
    }
    let status = command
        .args(arguments)
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .status();
    status.unwrap().code()
}

#[test]
fn a_refusal_stays_a_refusal() {
    let refused = r#"{"code":"refused","message":"no","detail":{"refusals":[{"gate":"cooldown","message":"too soon"}]}}"#;
    let fake = Fake::answering(409, refused);
    let switch = ["switch", "shop.example.net", "--to", "fra", "--reason", "test"];
    assert_eq!(code(Some(&fake), &[&switch[..], &["--json"]].concat()), Some(3));
    let fake = Fake::answering(500, r#"{"code":"internal","message":"no"}"#);
    assert_eq!(code(Some(&fake), &[&switch[..], &["--json"]].concat()), Some(1));
    // A change that was made is made.
    let fake = Fake::answering(200, r#"{"changed":false,"seq":7,"hash":"ab","generation":3}"#);
    assert_eq!(code(Some(&fake), &switch), Some(0));
}

#[test]
fn a_corrupt_ledger_and_a_receipt_that_does_not_hold_fail() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    std::fs::write(pointsman::store::ledger_path(dir.path()), "no entry\n").unwrap();
    assert_eq!(code(None, &["ledger", "verify", "--json", "--data-dir", path]), Some(1));
    std::fs::write(pointsman::store::ledger_path(dir.path()), "").unwrap();
    assert_eq!(code(None, &["ledger", "verify", "--json", "--data-dir", path]), Some(0));
    let receipt = format!("7:{}", "ab".repeat(32));
    let expecting = ["ledger", "verify", "--json", "--data-dir", path, "--expect", &receipt];
    assert_eq!(code(None, &expecting), Some(1));
}

#[test]
fn every_proposal_is_sent() {
    let fake = Fake::answering(200, r#"{"changed":false,"seq":7,"hash":"ab","generation":3}"#);
    assert_eq!(code(Some(&fake), &["approve", "1", "2", "3", "--reason", "test"]), Some(0));
    let asked = fake.asked.lock().unwrap().clone();
    let expected: Vec<String> = (1..=3).map(|id| format!("POST /v1/proposals/{id}/approve HTTP/1.1")).collect();
    assert_eq!(asked, expected);
}
