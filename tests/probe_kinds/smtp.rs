//! The smtp kind against aiosmtpd (Python), with and without TLS, and against servers of our own that behave badly.

use super::grpc::python;
use super::tls::Authority;
use super::*;
use pointsman::model::{Expect, SmtpProbe, SmtpTls, Source, Test, TlsOptions};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Three servers: in the clear with STARTTLS, without it, and one that begins with TLS.
const SERVICE: &str = r#"
import asyncio, ssl, sys
from aiosmtpd.smtp import SMTP
key, cert = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
class Nothing: pass
async def main():
    loop, servers = asyncio.get_running_loop(), []
    async def start(over=None, **more):
        make = lambda: SMTP(Nothing(), hostname="mail.example.net", loop=loop, **more)
        servers.append(await loop.create_server(make, "127.0.0.1", 0, ssl=over))
        return servers[-1].sockets[0].getsockname()[1]
    print(await start(tls_context=context), await start(), await start(over=context), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"#;

/// The servers with their ports; end with the test.
struct Service {
    child: Child,
    ports: Vec<u16>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(authority: &Authority) -> Service {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = authority.issue(&["mail.example.net"]);
        let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(python("smtp", &["aiosmtpd"]));
        command.args(["-c", SERVICE]).arg(key_file).arg(cert_file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Service { child, ports }
    }
}

fn smtp(port: u16) -> SmtpProbe {
    SmtpProbe { port, tls: None }
}

fn secure(port: u16, when: SmtpTls, authority: &Authority, name: Option<&str>) -> SmtpProbe {
    let options = TlsOptions {
        ca: Some(authority.file()),
        server_name: name.map(str::to_owned),
    };
    SmtpProbe {
        tls: Some((when, options)),
        ..smtp(port)
    }
}

async fn probe(probe: SmtpProbe) -> Seen {
    run(ProbeKind::Smtp(probe), "127.0.0.1", LIMIT).await
}

#[tokio::test]
async fn a_mail_server_greets_and_does_tls() {
    let authority = Authority::new("ours");
    let service = Service::start(&authority);
    let [starts, plain, implicit] = service.ports[..] else {
        panic!("three ports, not {:?}", service.ports);
    };
    let name = Some("mail.example.net");
    let seen = probe(smtp(plain)).await;
    passes(&seen);
    assert!(seen.note.starts_with("mail.example.net Python SMTP "), "{seen:?}");
    assert!(seen.values.is_empty(), "{seen:?}");
    for secured in [
        secure(starts, SmtpTls::Start, &authority, name),
        secure(implicit, SmtpTls::Implicit, &authority, name),
    ] {
        let seen = probe(secured).await;
        passes(&seen);
        assert!(
            matches!(&seen.values[..], [(name, days)] if name == "certificate-days" && *days > 365.0),
            "{seen:?}"
        );
    }
    let seen = probe(secure(plain, SmtpTls::Start, &authority, name)).await;
    fails(&seen, FailReason::Tls, "the server does not offer STARTTLS");
    let seen = probe(secure(plain, SmtpTls::Implicit, &authority, name)).await;
    fails(&seen, FailReason::Tls, "the server does not answer with TLS");
    let message = "certificate is not valid for 127.0.0.1, but for mail.example.net";
    for when in [(starts, SmtpTls::Start), (implicit, SmtpTls::Implicit)] {
        fails(&probe(secure(when.0, when.1, &authority, None)).await, FailReason::Tls, message);
    }
    let mut expecting = spec(ProbeKind::Smtp(smtp(plain)), LIMIT);
    expecting.expect = vec![Expect {
        source: Source::Fact("banner"),
        tests: vec![Test::Contains("Postfix".to_owned())],
    }];
    let seen = run_spec(&expecting, "127.0.0.1").await;
    assert_eq!(seen.reason, Some(FailReason::Content));
    assert!(seen.message.starts_with("banner is \"mail.example.net Python SMTP "), "{seen:?}");
}

/// A server that says these, one at once and each further one after a line of ours, and then waits.
async fn saying(lines: &'static [&'static str]) -> SocketAddr {
    server(move |mut stream| async move {
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                let _ = stream.read(&mut [0; 512]).await;
            }
            let _ = stream.write_all(line.as_bytes()).await;
        }
        hold(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn each_answer_has_its_class_and_its_words() {
    passes(
        &probe(smtp(
            saying(&["220-one\r\n220 two\r\n", "250-hello\r\n250 SIZE\r\n", "221 bye\r\n"])
                .await
                .port(),
        ))
        .await,
    );
    // Nor need QUIT be answered, and LF alone ends a line too.
    let seen = probe(smtp(saying(&["220 short\n", "250\n"]).await.port())).await;
    passes(&seen);
    assert_eq!(seen.note, "short");
    let no = "the server does not speak SMTP";
    let limit = Duration::from_millis(300);
    for (lines, reason, message) in [
        (
            &["554 no mail here\r\n"][..],
            FailReason::Status,
            "banner is 554 no mail here, expected 220".to_owned(),
        ),
        (
            &["220 m\r\n", "502 what\r\n"],
            FailReason::Status,
            "answer to EHLO is 502 what, expected 250".to_owned(),
        ),
        (
            &["220 m\r\n", "421 too\u{1b}[31m busy\r\n"],
            FailReason::Status,
            "answer to EHLO is 421 too [31m busy, expected 250".to_owned(),
        ),
        (
            &["HTTP/1.1 400 Bad\r\n\r\n"],
            FailReason::Protocol,
            format!("{no}: HTTP/1.1 400 Bad"),
        ),
        (&["220x\r\n"], FailReason::Protocol, format!("{no}: 220x")),
        (&["999 x\r\n"], FailReason::Protocol, format!("{no}: 999 x")),
        (&["\r\n"], FailReason::Protocol, format!("{no}:")),
        (&[""], FailReason::Timeout, "no banner within 300ms".to_owned()),
        (&["220-more\r\n"], FailReason::Timeout, "no banner within 300ms".to_owned()),
        (&["220 m\r\n"], FailReason::Timeout, "no answer to EHLO within 300ms".to_owned()),
    ] {
        let seen = run(ProbeKind::Smtp(smtp(saying(lines).await.port())), "127.0.0.1", limit).await;
        fails(&seen, reason, &message);
    }
}

#[tokio::test]
async fn tls_begins_with_nothing_said_in_the_clear() {
    let authority = Authority::new("ours");
    let limit = Duration::from_millis(300);
    for (lines, reason, message) in [
        (
            &["220 m\r\n", "250-m\r\n250 starttls\r\n", "220 go\r\n250 injected\r\n"][..],
            FailReason::Protocol,
            "the server goes on in the clear after STARTTLS",
        ),
        (
            &["220 m\r\n", "250-m\r\n250 STARTTLS\r\n", "454 no\r\n"],
            FailReason::Status,
            "answer to STARTTLS is 454 no, expected 220",
        ),
        (
            &["220 m\r\n", "250-m\r\n250 STARTTLS\r\n", "220 go\r\n", "220 not really\r\n"],
            FailReason::Tls,
            "the server does not answer with TLS",
        ),
        (
            &["220 m\r\n", "250-m\r\n250 STARTTLS\r\n", "220 go\r\n"],
            FailReason::Timeout,
            "no TLS handshake within 300ms",
        ),
        // The greeting alone is no offer.
        (
            &["220 m\r\n", "250 STARTTLS\r\n"],
            FailReason::Tls,
            "the server does not offer STARTTLS",
        ),
    ] {
        let port = saying(lines).await.port();
        let kind = ProbeKind::Smtp(secure(port, SmtpTls::Start, &authority, None));
        fails(&run(kind, "127.0.0.1", limit).await, reason, message);
    }
}

#[tokio::test]
async fn hostile_servers_are_bounded() {
    let limit = Duration::from_millis(300);
    fails(&probe(smtp(closed_port().await)).await, FailReason::Connect, "connection refused");
    let slow = server(|mut stream| async move { trickle(&mut stream, b"220-x\r\n").await }).await;
    let seen = run(ProbeKind::Smtp(smtp(slow.port())), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "no banner within 300ms");
    let closing = server(|mut stream| async move {
        let _ = stream.write_all(b"220-half").await;
    })
    .await;
    fails(
        &probe(smtp(closing.port())).await,
        FailReason::Connect,
        "connection closed by the peer",
    );
    let long = server(|mut stream| async move { flood(&mut stream, &[b'2'; 8192]).await }).await;
    let message = "the server does not speak SMTP: a line is longer than 4096 octets";
    fails(&probe(smtp(long.port())).await, FailReason::Protocol, message);
    let many = server(|mut stream| async move { flood(&mut stream, b"220-x\r\n").await }).await;
    fails(
        &probe(smtp(many.port())).await,
        FailReason::Protocol,
        "a reply has more than 128 lines",
    );
}
