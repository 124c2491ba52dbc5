//! The http kind over TLS: whom it trusts, for which name, and what it says otherwise.

use super::http::{containing, get};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// An authority with its certificate in a file.
pub(super) struct Authority {
    pub(super) issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority {
            issuer,
            folder: tempfile::tempdir().unwrap(),
        };
        authority.write(&authority.file());
        authority
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn write(&self, path: &std::path::Path) {
        std::fs::write(path, self.issuer.pem()).unwrap();
    }

    /// A certificate for these names, and its key.
    pub(super) fn issue(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (cert, key)
    }

    /// The server's side of TLS with a certificate for these names.
    pub(super) fn acceptor(&self, names: &[&str], alpn: &[&[u8]]) -> TlsAcceptor {
        let (cert, key) = self.issue(names);
        acceptor(vec![cert.der().clone()], key, alpn)
    }

    /// The client's side, for a server in between.
    pub(super) fn connector(&self) -> tokio_rustls::TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth()).into()
    }

    /// A server with a certificate for these names.
    async fn server(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> SocketAddr {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        tls_server(vec![cert.der().clone()], key, &[b"http/1.1"]).await
    }

    pub(super) fn get(&self, server: SocketAddr) -> HttpsProbe {
        let mut probe = get(&format!("https://shop.example.net:{}/healthz", server.port()));
        probe.ca = Some(self.file());
        probe
    }
}

type HttpsProbe = pointsman::model::HttpProbe;

/// The server's side of TLS.
pub(super) fn acceptor(chain: Vec<rustls_pki_types::CertificateDer<'static>>, key: KeyPair, alpn: &[&[u8]]) -> TlsAcceptor {
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// An HTTPS server.
async fn tls_server(chain: Vec<rustls_pki_types::CertificateDer<'static>>, key: KeyPair, alpn: &[&[u8]]) -> SocketAddr {
    let acceptor = acceptor(chain, key, alpn);
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            assert_eq!(stream.get_ref().1.server_name().unwrap_or("none"), "shop.example.net");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

async fn probe(probe: HttpsProbe) -> Seen {
    run(ProbeKind::Http(Box::new(probe)), "127.0.0.1", LIMIT).await
}

#[tokio::test]
async fn a_certificate_of_the_own_authority_for_the_urls_host_passes() {
    let authority = Authority::new("ours");
    let there = authority.server(&["shop.example.net"], |_| {}).await;
    passes(&probe(authority.get(there)).await);
}

#[tokio::test]
async fn what_tls_says_about_itself_is_bounded_too() {
    let authority = Authority::new("ours");
    let acceptor = authority.acceptor(&["shop.example.net"], &[b"http/1.1"]);
    let mut config = (**acceptor.config()).clone();
    config.enable_secret_extraction = true;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let there = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let (mut stream, session) = stream.into_inner();
            let secrets = session.dangerous_extract_secrets().unwrap();
            for number in secrets.tx.0.. {
                if stream.write_all(&ticket(number, &secrets.tx.1)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let seen = probe(authority.get(there)).await;
    let message = "the server sends more octets than an answer may have";
    fails(&seen, FailReason::Protocol, message);
}

/// A NewSessionTicket (RFC 8446 section 4.6.1) in the record of that number (section 5.2): nothing that an application sees.
fn ticket(number: u64, secrets: &rustls::ConnectionTrafficSecrets) -> Vec<u8> {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
    let rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        panic!("not the cipher that both like best");
    };
    // Lifetime, age, nonce; ticket; extensions.
    let body = [&b"\0\0\x0e\x10\0\0\0\0\x01\0\x3e\x80"[..], &[7; 16_000], b"\0\0"].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let mut record = [&[4], &length[1..], &body, &[22]].concat();
    let sealed = u16::try_from(record.len() + AES_256_GCM.tag_len()).unwrap().to_be_bytes();
    let head = [23, 3, 3, sealed[0], sealed[1]];
    let mut nonce: [u8; NONCE_LEN] = iv.as_ref().try_into().unwrap();
    for (octet, counted) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
        *octet ^= counted;
    }
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(head), &mut record).unwrap();
    [&head[..], &record].concat()
}

#[tokio::test]
async fn certificates_that_are_not_accepted_are_named() {
    let authority = Authority::new("ours");
    let wrong = authority.server(&["other.example.net", "third.example.net"], |_| {}).await;
    let message = "certificate is not valid for shop.example.net, but for other.example.net, third.example.net";
    fails(&probe(authority.get(wrong)).await, FailReason::Tls, message);
    let expired = authority
        .server(&["shop.example.net"], |params| params.not_after = date_time_ymd(2020, 3, 1))
        .await;
    let seen = probe(authority.get(expired)).await;
    assert_eq!(seen.reason, Some(FailReason::Tls));
    let (words, day) = ("certificate for shop.example.net expired ", " days ago, on 2020-03-01");
    assert!(seen.message.starts_with(words) && seen.message.ends_with(day), "{}", seen.message);
    let early = authority
        .server(&["shop.example.net"], |params| params.not_before = date_time_ymd(2100, 1, 1))
        .await;
    let message = "certificate for shop.example.net is not valid before 2100-01-01";
    fails(&probe(authority.get(early)).await, FailReason::Tls, message);
    let own = rcgen::generate_simple_self_signed(vec!["shop.example.net".to_owned()]).unwrap();
    let own = tls_server(vec![own.cert.der().clone()], own.signing_key, &[]).await;
    let message = "certificate for shop.example.net is signed by an unknown authority, or by itself";
    fails(&probe(authority.get(own)).await, FailReason::Tls, message);
    let strange = Authority::new("theirs").server(&["shop.example.net"], |_| {}).await;
    fails(&probe(authority.get(strange)).await, FailReason::Tls, message);
    let unconstrained = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let above = authority.server(&["shop.example.net"], |params| params.is_ca = unconstrained).await;
    let above_message = "certificate of shop.example.net is an authority's own (CA:TRUE) and not a server's";
    fails(&probe(authority.get(above)).await, FailReason::Tls, above_message);
    let forged = Authority::new("ours").server(&["shop.example.net"], |_| {}).await;
    let forged_message = "certificate for shop.example.net is not signed by the authority that it names";
    fails(&probe(authority.get(forged)).await, FailReason::Tls, forged_message);
    let mut system = authority.get(strange);
    system.ca = None;
    let seen = probe(system).await;
    match seen.reason {
        // Where the system trusts nobody at all, the probe says so.
        Some(FailReason::Internal) => assert_eq!(seen.message, "no trusted certificate in the system's store"),
        _ => fails(&seen, FailReason::Tls, message),
    }
}

#[tokio::test]
async fn a_url_with_an_address_is_verified_for_that_address() {
    let authority = Authority::new("ours");
    for (san, message) in [
        ("192.0.2.1", None),
        ("127.0.0.1", Some("certificate is not valid for 192.0.2.1, but for ")),
    ] {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![san.to_owned()])
            .unwrap()
            .signed_by(&key, &authority.issuer)
            .unwrap();
        let acceptor = acceptor(vec![cert.der().clone()], key, &[b"http/1.1"]);
        let there = server(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    assert_eq!(stream.get_ref().1.server_name(), None);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    let _ = stream.flush().await;
                    let _ = stream.read_u8().await;
                }
            }
        })
        .await;
        let mut asked = get(&format!("https://192.0.2.1:{}/", there.port()));
        asked.ca = Some(authority.file());
        let seen = probe(asked).await;
        match message {
            None => passes(&seen),
            Some(message) => {
                assert_eq!(seen.reason, Some(FailReason::Tls));
                assert!(seen.message.starts_with(message), "{}", seen.message);
            }
        }
    }
}

/// A listener that gives out TLS connections.
struct TlsListener {
    listener: tokio::net::TcpListener,
    acceptor: TlsAcceptor,
    accepted: Arc<AtomicUsize>,
}

impl axum::serve::Listener for TlsListener {
    type Io = tokio_rustls::server::TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.listener.accept().await.unwrap();
            self.accepted.fetch_add(1, Ordering::SeqCst);
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_offers_it_and_its_connection_kept() {
    let authority = Authority::new("ours");
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["shop.example.net".to_owned()])
        .unwrap()
        .signed_by(&key, &authority.issuer)
        .unwrap();
    let acceptor = acceptor(vec![cert.der().clone()], key, &[b"h2", b"http/1.1"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let handler = |request: axum::extract::Request| async move { format!("{:?} {}", request.version(), request.uri()) };
    let app = axum::Router::new().fallback(handler);
    let listener = TlsListener {
        listener,
        acceptor,
        accepted: Arc::clone(&accepted),
    };
    tokio::spawn(async move { axum::serve(listener, app).await });
    let seen = format!("HTTP/2.0 https://shop.example.net:{}/healthz", there.port());
    let mut watched = prober::Watched::with(&containing(&authority.get(there), &seen));
    for _ in 0..3 {
        assert_eq!(watched.outcome().await.result, Ok(()));
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_ca_file_is_read_again_when_it_changes() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let there = second.server(&["shop.example.net"], |_| {}).await;
    let mut watched = prober::Watched::new(ProbeKind::Http(Box::new(first.get(there))));
    assert_eq!(watched.outcome().await.result.unwrap_err().reason, FailReason::Tls);
    let fresh = first.folder.path().join("new.pem");
    second.write(&fresh);
    std::fs::rename(&fresh, first.file()).unwrap();
    watched.until(|outcome| outcome.result.is_ok()).await;
    std::fs::write(first.file(), "no certificate").unwrap();
    let message = format!("no trusted certificate in {}", first.file().display());
    let failed = watched.until(|outcome| outcome.result.is_err()).await;
    assert_eq!(failed.result.unwrap_err().message, message);
    std::fs::remove_file(first.file()).unwrap();
    watched
        .until(|outcome| matches!(&outcome.result, Err(failure) if failure.reason == FailReason::Internal && failure.message.contains("CA file")))
        .await;
}

#[tokio::test]
async fn servers_that_do_not_do_tls_are_told_apart() {
    let authority = Authority::new("ours");
    let plain = server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        hold(&mut stream).await;
    })
    .await;
    fails(
        &probe(authority.get(plain)).await,
        FailReason::Tls,
        "the server does not answer with TLS",
    );
    let alert = server(|mut stream| async move {
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.unwrap();
        // Record of type alert: fatal, handshake_failure (RFC 8446 section 6).
        let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]).await;
        hold(&mut stream).await;
    })
    .await;
    let message = "the server ended the TLS handshake with the alert HandshakeFailure";
    fails(&probe(authority.get(alert)).await, FailReason::Tls, message);
    let closing = server(|mut stream| async move {
        let mut hello = [0; 512];
        let _ = stream.read(&mut hello).await;
        let _ = stream.shutdown().await;
        hold(&mut stream).await;
    })
    .await;
    fails(
        &probe(authority.get(closing)).await,
        FailReason::Tls,
        "connection closed during the TLS handshake",
    );
    let silent = server(|mut stream| async move { hold(&mut stream).await }).await;
    let seen = run(
        ProbeKind::Http(Box::new(authority.get(silent))),
        "127.0.0.1",
        Duration::from_millis(300),
    )
    .await;
    fails(&seen, FailReason::Timeout, "no TLS handshake within 300ms");
}
