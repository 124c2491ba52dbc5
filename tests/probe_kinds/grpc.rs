//! The grpc kind against the health service of gRPC itself (Python), and against servers of our own that answer oddly.

use super::tls::Authority;
use super::*;
use ::http::{HeaderMap, Response};
use bytes::Bytes;
use pointsman::model::{GrpcProbe, TlsOptions};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The health service of the reference implementation, in the clear and over TLS, and a server without one.
const SERVICE: &str = r#"
import sys, grpc
from concurrent import futures
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
known = health_pb2.HealthCheckResponse
server = grpc.server(futures.ThreadPoolExecutor(2))
servicer = health.HealthServicer()
for name, status in [("", known.SERVING), ("shop", known.NOT_SERVING), ("new", known.UNKNOWN), ("odd", known.SERVICE_UNKNOWN)]:
    servicer.set(name, status)
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
key, cert = [open(path, "rb").read() for path in sys.argv[1:]]
plain = server.add_insecure_port("127.0.0.1:0")
secure = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
bare = grpc.server(futures.ThreadPoolExecutor(1))
without = bare.add_insecure_port("127.0.0.1:0")
server.start(), bare.start()
print(plain, secure, without, flush=True)
server.wait_for_termination()
"#;

/// A Python with these packages, in an environment of its own below `target`, made when it is missing.
pub(super) fn python(name: &str, packages: &[&str]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/python").join(name);
    let (python, whole) = (folder.join("bin/python"), folder.join("whole"));
    if !whole.exists() {
        let run = |program: &std::path::Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
            let output = output.expect("python3 is missing: install the Debian package `python3-venv`");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        run("python3".as_ref(), &["-m", "venv", "--clear", folder.to_str().unwrap()]);
        run(&python, &[&["-m", "pip", "install", "-q"], packages].concat());
        std::fs::write(whole, "").unwrap();
    }
    python
}

/// The service with the ports that it listens on; ends with the test.
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
        let (cert, key) = authority.issue(&["health.example.net"]);
        let (cert_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(python("grpc", &["grpcio", "grpcio-health-checking"]));
        command.args(["-c", SERVICE]).arg(key_file).arg(cert_file);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ports = line.split_whitespace().map(|port| port.parse().unwrap()).collect();
        Service { child, ports }
    }
}

fn grpc(port: u16, service: &str) -> GrpcProbe {
    GrpcProbe {
        port,
        service: service.to_owned(),
        tls: None,
    }
}

/// Over TLS.
fn secure(port: u16, authority: &Authority, name: Option<&str>) -> GrpcProbe {
    let tls = TlsOptions {
        ca: Some(authority.file()),
        server_name: name.map(str::to_owned),
    };
    GrpcProbe {
        tls: Some(tls),
        ..grpc(port, "")
    }
}

async fn probe(probe: GrpcProbe) -> Seen {
    run(ProbeKind::Grpc(probe), "127.0.0.1", LIMIT).await
}

#[tokio::test]
async fn the_health_service_of_grpc_itself_is_understood() {
    let authority = Authority::new("ours");
    let service = Service::start(&authority);
    let [plain, encrypted, without] = service.ports[..] else {
        panic!("three ports, not {:?}", service.ports);
    };
    let seen = probe(grpc(plain, "")).await;
    passes(&seen);
    assert_eq!((seen.note.as_str(), seen.observed), ("SERVING", None));
    for (name, message) in [
        ("shop", "service `shop` is NOT_SERVING"),
        ("new", "service `new` is UNKNOWN"),
        ("odd", "service `odd` is SERVICE_UNKNOWN"),
        ("other", "service `other` is not known to the health service (NOT_FOUND)"),
    ] {
        fails(&probe(grpc(plain, name)).await, FailReason::Status, message);
    }
    let message = "there is no health service (UNIMPLEMENTED: Method not found!)";
    fails(&probe(grpc(without, "")).await, FailReason::Status, message);
    passes(&probe(secure(encrypted, &authority, Some("health.example.net"))).await);
    let message = "certificate is not valid for 127.0.0.1, but for health.example.net";
    fails(&probe(secure(encrypted, &authority, None)).await, FailReason::Tls, message);
    let theirs = Authority::new("theirs");
    let message = "certificate for health.example.net is signed by an unknown authority, or by itself";
    let seen = probe(secure(encrypted, &theirs, Some("health.example.net"))).await;
    fails(&seen, FailReason::Tls, message);
    // The one way round, and the other.
    let seen = probe(secure(plain, &authority, None)).await;
    assert_eq!(seen.reason, Some(FailReason::Tls), "{seen:?}");
    let seen = run(ProbeKind::Grpc(grpc(encrypted, "")), "127.0.0.1", Duration::from_millis(500)).await;
    assert!(
        matches!(seen.reason, Some(FailReason::Protocol | FailReason::Connect | FailReason::Timeout)),
        "{seen:?}"
    );
}

/// What a server of ours answers: status and content type, fields before the body, the body, trailers.
#[derive(Clone, Copy)]
struct Answer {
    status: u16,
    kind: &'static str,
    fields: &'static [(&'static str, &'static str)],
    body: &'static [u8],
    trailers: &'static [(&'static str, &'static str)],
}

/// As a healthy service answers.
const HEALTHY: Answer = Answer {
    status: 200,
    kind: "application/grpc+proto",
    fields: &[],
    body: b"\0\0\0\0\x02\x08\x01",
    trailers: &[("grpc-status", "0")],
};

/// A server that speaks HTTP/2 and answers everything like this.
async fn answering(answer: Answer) -> SocketAddr {
    server(move |stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else {
            return;
        };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
            assert_eq!(request.headers()["te"], "trailers");
            let mut response = Response::builder().status(answer.status);
            if !answer.kind.is_empty() {
                response = response.header("content-type", answer.kind);
            }
            for (name, value) in answer.fields {
                response = response.header(*name, *value);
            }
            let last = answer.body.is_empty() && answer.trailers.is_empty();
            let mut stream = respond.send_response(response.body(()).unwrap(), last).unwrap();
            if last {
                continue;
            }
            stream
                .send_data(Bytes::from_static(answer.body), answer.trailers.is_empty())
                .unwrap();
            let mut trailers = HeaderMap::new();
            for (name, value) in answer.trailers {
                trailers.insert(*name, value.parse().unwrap());
            }
            if !trailers.is_empty() {
                stream.send_trailers(trailers).unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn each_answer_has_its_class_and_its_words() {
    passes(&probe(grpc(answering(HEALTHY).await.port(), "shop")).await);
    let broken = "the answer is no HealthCheckResponse";
    for (answer, reason, message) in [
        (
            Answer {
                status: 503,
                kind: "text/html",
                body: b"<p>no backend</p>",
                ..HEALTHY
            },
            FailReason::Protocol,
            "the answer is no gRPC: HTTP 503 of content type text/html",
        ),
        (
            Answer { kind: "", ..HEALTHY },
            FailReason::Protocol,
            "the answer is no gRPC: HTTP 200 without a content type",
        ),
        (
            Answer { trailers: &[], ..HEALTHY },
            FailReason::Protocol,
            "the answer has no grpc-status",
        ),
        (
            Answer {
                trailers: &[("grpc-status", "14"), ("grpc-message", "db%3A 50%25 of %C3%A4 %zz")],
                ..HEALTHY
            },
            FailReason::Status,
            "the health service fails (UNAVAILABLE: db: 50% of ä %zz)",
        ),
        (
            Answer {
                fields: &[("grpc-status", "16"), ("grpc-message", "who are you")],
                body: b"",
                trailers: &[],
                ..HEALTHY
            },
            FailReason::Auth,
            "the health service refuses the call (UNAUTHENTICATED: who are you)",
        ),
        (
            Answer {
                trailers: &[("grpc-status", "77")],
                ..HEALTHY
            },
            FailReason::Status,
            "the health service fails (status 77)",
        ),
        (
            Answer {
                body: b"\0\0\0\0\x02\x08\x09",
                ..HEALTHY
            },
            FailReason::Status,
            "the server is in a state with no name, 9",
        ),
        (Answer { body: b"", ..HEALTHY }, FailReason::Protocol, broken),
        (
            Answer {
                body: b"\0\xff\xff\xff\xff\x08\x01",
                ..HEALTHY
            },
            FailReason::Protocol,
            broken,
        ),
        (
            Answer {
                body: b"\x01\0\0\0\x02\x08\x01",
                ..HEALTHY
            },
            FailReason::Protocol,
            "the answer is compressed, which nobody asked for",
        ),
        (
            Answer {
                body: &[b'x'; 20_000],
                ..HEALTHY
            },
            FailReason::Protocol,
            "the answer is longer than 16384 octets",
        ),
    ] {
        fails(&probe(grpc(answering(answer).await.port(), "")).await, reason, message);
    }
}

#[tokio::test]
async fn servers_that_are_no_grpc_are_bounded() {
    let limit = Duration::from_millis(300);
    let closed = closed_port().await;
    fails(&probe(grpc(closed, "")).await, FailReason::Connect, "connection refused");
    let silent = server(|mut stream| async move { hold(&mut stream).await }).await;
    let seen = run(ProbeKind::Grpc(grpc(silent.port(), "")), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "no answer within 300ms");
    // The settings of HTTP/2, octet by octet, for ever.
    let slow = server(|mut stream| async move { trickle(&mut stream, b"\0\0\0\x04\0\0\0\0\0").await }).await;
    let seen = run(ProbeKind::Grpc(grpc(slow.port(), "")), "127.0.0.1", limit).await;
    fails(&seen, FailReason::Timeout, "no answer within 300ms");
    let closing = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let seen = probe(grpc(closing.port(), "")).await;
    assert!(
        ["connection closed by the peer", "connection reset by the peer"].contains(&seen.message.as_str()),
        "{seen:?}"
    );
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"220 mail.example.net ESMTP\r\n",
        &[0xff; 64],
    ] {
        let server = server(move |mut stream| async move {
            let _ = stream.write_all(garbage).await;
            hold(&mut stream).await;
        })
        .await;
        let seen = run(ProbeKind::Grpc(grpc(server.port(), "")), "127.0.0.1", limit).await;
        let message = "the server does not speak HTTP/2: frame with invalid size";
        fails(&seen, FailReason::Protocol, message);
    }
    // Settings for ever, as fast as they go: each is answered, and yet there is an end.
    let endless = server(|mut stream| async move { flood(&mut stream, &b"\0\0\0\x04\0\0\0\0\0".repeat(100)).await }).await;
    let seen = probe(grpc(endless.port(), "")).await;
    let message = "the server sends too much: more than 262144 octets";
    fails(&seen, FailReason::Protocol, message);
}
