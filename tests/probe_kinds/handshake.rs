//! The tls kind: whom it trusts, for which name, what it reports, and what a server can refuse.

use super::tls::{Authority, acceptor};
use super::*;
use pointsman::model::{Expect, Identity, Source, Test, TlsOptions, TlsProbe};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls_pki_types::CertificateDer;

/// A server that shakes hands and then does nothing until the client is gone.
async fn shaking(chain: Vec<CertificateDer<'static>>, key: KeyPair, alpn: &[&[u8]]) -> SocketAddr {
    let acceptor = acceptor(chain, key, alpn);
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read_u8().await;
            }
        }
    })
    .await
}

/// A certificate with so many days left, and an hour.
fn lasting(authority: &Authority, days: i64) -> (Vec<CertificateDer<'static>>, KeyPair) {
    let mut params = CertificateParams::new(vec!["shop.example.net".to_owned()]).unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let until = now.checked_add_signed(days * 86_400 + 3_600).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &authority.issuer).unwrap();
    (vec![cert.der().clone(), authority.issuer.der().clone()], key)
}

fn tls(authority: &Authority, there: SocketAddr) -> TlsProbe {
    TlsProbe {
        port: there.port(),
        options: TlsOptions {
            ca: Some(authority.file()),
            server_name: Some("shop.example.net".to_owned()),
        },
        identity: None,
        alpn: Vec::new(),
    }
}

async fn probe(probe: TlsProbe) -> Seen {
    run(ProbeKind::Tls(Box::new(probe)), "127.0.0.1", LIMIT).await
}

#[tokio::test]
async fn the_days_left_and_the_chain_are_reported_and_can_be_expected() {
    let authority = Authority::new("ours");
    let (chain, key) = lasting(&authority, 13);
    let there = shaking(chain, key, &[]).await;
    let seen = probe(tls(&authority, there)).await;
    passes(&seen);
    assert_eq!(seen.note, "certificate for shop.example.net has 13 days left");
    assert_eq!(
        seen.values,
        [("certificate-days".to_owned(), 13.0), ("chain-length".to_owned(), 2.0)]
    );
    let expecting = |fact, test| ProbeSpec {
        expect: vec![Expect {
            source: Source::Fact(fact),
            tests: vec![test],
        }],
        ..spec(ProbeKind::Tls(Box::new(tls(&authority, there))), LIMIT)
    };
    passes(&run_spec(&expecting("certificate-days", Test::AtLeast(13.0)), "127.0.0.1").await);
    let seen = run_spec(&expecting("certificate-days", Test::AtLeast(14.0)), "127.0.0.1").await;
    fails(&seen, FailReason::Content, "certificate-days is 13, expected at least 14");
    let seen = run_spec(&expecting("chain-length", Test::Above(2.0)), "127.0.0.1").await;
    fails(&seen, FailReason::Content, "chain-length is 2, expected more than 2");
}

#[tokio::test]
async fn a_server_that_is_silent_after_the_handshake_passes_whatever_the_time_limit() {
    let authority = Authority::new("ours");
    let (chain, key) = lasting(&authority, 13);
    let acceptor = acceptor(chain, key, &[]);
    let there = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let _held = acceptor.accept(stream).await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    // Beside those that a busy machine makes too late there is one in time; what is too late says so of the handshake.
    let kind = ProbeKind::Tls(Box::new(tls(&authority, there)));
    for attempt in 1.. {
        let seen = run(kind.clone(), "127.0.0.1", Duration::from_millis(200)).await;
        if seen.reason.is_none() {
            break;
        }
        assert!(attempt < 50, "{seen:?}");
    }
}

#[tokio::test]
async fn certificates_that_are_not_accepted_are_named() {
    let authority = Authority::new("ours");
    for (days, ago) in [(-1, "23 hours"), (-2, "1 day"), (-4, "3 days")] {
        let (chain, key) = lasting(&authority, days);
        let there = shaking(chain, key, &[]).await;
        let seen = probe(tls(&authority, there)).await;
        let words = format!("certificate for shop.example.net expired {ago} ago, on ");
        assert!(seen.reason == Some(FailReason::Tls) && seen.message.starts_with(&words), "{seen:?}");
    }
    let (chain, key) = lasting(&authority, 1);
    let there = shaking(chain, key, &[]).await;
    let mut other = tls(&authority, there);
    other.options.server_name = Some("db.example.net".to_owned());
    let message = "certificate is not valid for db.example.net, but for shop.example.net";
    fails(&probe(other.clone()).await, FailReason::Tls, message);
    other.options.server_name = None;
    let message = "certificate is not valid for 127.0.0.1, but for ";
    let seen = probe(other).await;
    assert!(
        seen.reason == Some(FailReason::Tls) && seen.message.starts_with(message),
        "{seen:?}"
    );
    let strange = Authority::new("theirs");
    let message = "certificate for shop.example.net is signed by an unknown authority, or by itself";
    fails(&probe(tls(&strange, there)).await, FailReason::Tls, message);
}

#[tokio::test]
async fn a_protocol_that_is_offered_must_be_taken() {
    let authority = Authority::new("ours");
    let offering = |there, alpn: &[&str]| TlsProbe {
        alpn: alpn.iter().map(|one| (*one).to_owned()).collect(),
        ..tls(&authority, there)
    };
    let (chain, key) = lasting(&authority, 9);
    let there = shaking(chain, key, &[b"h2", b"http/1.1"]).await;
    passes(&probe(offering(there, &["http/1.1"])).await);
    let none = "the server speaks none of the protocols that were offered";
    fails(&probe(offering(there, &["smtp"])).await, FailReason::Tls, none);
    let (chain, key) = lasting(&authority, 9);
    let silent = shaking(chain, key, &[]).await;
    fails(&probe(offering(silent, &["h2"])).await, FailReason::Protocol, none);
    let expecting = |alpn: &str| ProbeSpec {
        expect: vec![Expect {
            source: Source::Fact("alpn"),
            tests: vec![Test::Is(alpn.into())],
        }],
        ..spec(ProbeKind::Tls(Box::new(offering(there, &["http/1.1", "h2"]))), LIMIT)
    };
    passes(&run_spec(&expecting("h2"), "127.0.0.1").await);
    let seen = run_spec(&expecting("http/1.1"), "127.0.0.1").await;
    fails(&seen, FailReason::Content, "alpn is \"h2\", expected \"http/1.1\"");
}

#[tokio::test]
async fn a_server_that_wants_to_know_its_clients_is_told_or_refuses() {
    let authority = Authority::new("ours");
    let clients = Authority::new("clients");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(clients.issuer.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(&provider));
        let (chain, key) = lasting(&authority, 9);
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let config = builder.with_client_cert_verifier(verifier.build().unwrap());
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));
        let there = server(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read_u8().await;
                }
            }
        })
        .await;
        let showing = |issued: Option<&Authority>| {
            let identity = issued.map(|issued| {
                let (cert, key) = issued.issue(&["probe.example.net"]);
                let both = issued.file().with_file_name("client.pem");
                std::fs::write(&both, format!("{}{}", cert.pem(), key.serialize_pem())).unwrap();
                Identity {
                    cert: both.clone(),
                    key: both,
                }
            });
            TlsProbe {
                identity,
                ..tls(&authority, there)
            }
        };
        passes(&probe(showing(Some(&clients))).await);
        let refused = probe(showing(None)).await;
        match refused.message.as_str() {
            "the server wants a client certificate" | "the server ended the TLS handshake with the alert HandshakeFailure" => {}
            other => panic!("{version:?}: {other}"),
        }
        let strange = probe(showing(Some(&authority))).await;
        assert_eq!(strange.reason, Some(FailReason::Tls), "{version:?}");
        let alert = "the server ended the TLS handshake with the alert ";
        assert!(strange.message.starts_with(alert), "{version:?}: {}", strange.message);
    }
    let mut broken = tls(&authority, "127.0.0.1:1".parse().unwrap());
    let file = authority.file();
    broken.identity = Some(Identity {
        cert: file.clone(),
        key: file.clone(),
    });
    let (chain, key) = lasting(&authority, 9);
    let there = shaking(chain, key, &[]).await;
    broken.port = there.port();
    let seen = probe(broken).await;
    let message = format!("the TLS file {} cannot be used: it has no private key in PEM", file.display());
    assert!(
        seen.reason == Some(FailReason::Internal) && seen.message.starts_with(&message),
        "{seen:?}"
    );
}

#[tokio::test]
async fn hostile_servers_are_told_apart_in_time() {
    let authority = Authority::new("ours");
    let within = Duration::from_millis(300);
    let closed: SocketAddr = format!("127.0.0.1:{}", closed_port().await).parse().unwrap();
    fails(&probe(tls(&authority, closed)).await, FailReason::Connect, "connection refused");
    let silent = server(|mut stream| async move { hold(&mut stream).await }).await;
    let seen = run(ProbeKind::Tls(Box::new(tls(&authority, silent))), "127.0.0.1", within).await;
    fails(&seen, FailReason::Timeout, "no TLS handshake within 300ms");
    // A ServerHello that never ends, an octet at a time.
    let slow = server(|mut stream| async move { trickle(&mut stream, &[22, 3, 3, 0, 200, 2, 0, 0, 196, 3]).await }).await;
    let seen = run(ProbeKind::Tls(Box::new(tls(&authority, slow))), "127.0.0.1", within).await;
    fails(&seen, FailReason::Timeout, "no TLS handshake within 300ms");
    let plain = server(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example.net ESMTP\r\n").await;
        hold(&mut stream).await;
    })
    .await;
    fails(
        &probe(tls(&authority, plain)).await,
        FailReason::Tls,
        "the server does not answer with TLS",
    );
    let half = server(|mut stream| async move {
        let mut hello = [0; 2048];
        let _ = stream.read(&mut hello).await;
        let _ = stream.write_all(&[22, 3, 3, 0, 200, 2, 0]).await;
    })
    .await;
    let message = "connection closed during the TLS handshake";
    fails(&probe(tls(&authority, half)).await, FailReason::Tls, message);
    // It keeps the connection open after its end was said: that is no refusal, and is not waited for.
    let (chain, key) = lasting(&authority, 9);
    let acceptor = acceptor(chain, key, &[]);
    let deaf = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let _open = acceptor.accept(stream).await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    passes(&probe(tls(&authority, deaf)).await);
}
