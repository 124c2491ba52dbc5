//! A site with every encrypted transport, and its clients.

use super::{PATIENCE, PLAIN, Site, free_port, query};
use hickory_proto::rr::RecordType;
use rustls_pki_types::pem::PemObject;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

/// A site with all transports: one port for TLS and QUIC, one for HTTPS.
pub struct Secure {
    pub site: Site,
    pub tls: SocketAddr,
    pub https: SocketAddr,
}

impl Secure {
    pub fn new() -> Secure {
        let site = Site::new(PLAIN);
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (tls, https) = (local(free_port()), local(free_port()));
        write_certificate(&site, "localhost");
        let keys = format!(
            "workers = 1\ntls-listen = [\"{tls}\"]\nquic-listen = [\"{tls}\"]\nhttps-listen = [\"{https}\"]\ntls = {{ cert = \"dns.crt\", key = \"dns.key\" }}\n"
        );
        let config = std::fs::read_to_string(site.config()).unwrap();
        std::fs::write(site.config(), config.replacen("workers = 1\n", &keys, 1)).unwrap();
        Secure { site, tls, https }
    }

    /// An HTTPS request by curl: status, headers, body.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String, Vec<u8>) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--insecure", "--max-time", "20"])
            .args(arguments)
            .arg(format!("https://{}{path}", self.https))
            .current_dir(self.site.dir.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{path} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // An interim response (100 Continue) comes before the one that counts.
        let mut rest = &output.stdout[..];
        loop {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8_lossy(&rest[..end]).to_ascii_lowercase();
            rest = &rest[end..];
            let status = head.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
            if status >= 200 {
                return (status, head, rest.to_vec());
            }
        }
    }

    /// The path of a query for the steered name.
    pub fn path(&self) -> String {
        format!("/dns-query?dns={}", base64url(&query_zero("shop.example.net.", RecordType::A)))
    }

    /// Whether a client of HTTPS is answered within two seconds.
    pub fn is_answered(&self) -> bool {
        let url = format!("https://{}{}", self.https, self.path());
        let words = ["--silent", "--insecure", "--max-time", "2", "--write-out", "%{http_code}", &url];
        Command::new("curl").args(words).output().unwrap().stdout.ends_with(b"200")
    }

    /// A client of HTTP/2.
    pub async fn http2(&self, builder: h2::client::Builder) -> h2::client::SendRequest<bytes::Bytes> {
        self.http2_from([127, 0, 0, 1], builder).await
    }

    /// A client of HTTP/2 on an address of its own.
    pub async fn http2_from(&self, from: [u8; 4], builder: h2::client::Builder) -> h2::client::SendRequest<bytes::Bytes> {
        let (client, connection) = builder.handshake(self.http2_octets(from).await).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// A connection of HTTP/2 on which nothing has been said yet.
    pub async fn http2_octets(&self, from: [u8; 4]) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let stream = socket.connect(self.https).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.trust(b"h2")));
        connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    /// TLS of a client that trusts the certificate.
    fn trust(&self, alpn: &[u8]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(self.site.path("dns.crt")).unwrap();
        roots.add(rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls
    }

    /// A client of QUIC on an address of its own, which takes so many octets of an answer ahead. Needs a tokio runtime.
    pub fn quic(&self, from: [u8; 4], window: u32) -> quinn::Endpoint {
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(window.into());
        let tls = quinn::crypto::rustls::QuicClientConfig::try_from(Arc::new(self.trust(b"doq"))).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(Arc::new(transport));
        let mut endpoint = quinn::Endpoint::client(SocketAddr::from((from, 0))).unwrap();
        endpoint.set_default_client_config(config);
        endpoint
    }

    /// Gives the zone a name with an answer of some 60,000 octets.
    pub fn write_big(&self) {
        let text = format!("\"{}\" ", "t".repeat(250)).repeat(239);
        self.site.write_zone(&format!("{}big IN TXT {text}\n", super::ZONE));
    }

    /// The answer over TCP, octet for octet.
    pub fn tcp(&self, message: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.site.dns).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(&[&(message.len() as u16).to_be_bytes(), message].concat())
            .unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        answer
    }
}

/// Writes a new certificate as renewals do.
pub fn write_certificate(site: &Site, host: &str) {
    let made = rcgen::generate_simple_self_signed([host.to_owned(), "127.0.0.1".to_owned()]).unwrap();
    for (name, text) in [("dns.crt", made.cert.pem()), ("dns.key", made.signing_key.serialize_pem())] {
        std::fs::write(site.path("new"), text).unwrap();
        std::fs::rename(site.path("new"), site.path(name)).unwrap();
    }
}

/// A query as DoH and DoQ want it: ID 0.
pub fn query_zero(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = query(name, kind);
    message[..2].fill(0);
    message
}

/// Base64url without padding.
pub fn base64url(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in octets.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for n in 0..=group.len() {
            text.push(DIGITS[(bits >> (18 - 6 * n) & 63) as usize] as char);
        }
    }
    text
}
