//! Where a server is, and a connection to it: Unix socket, TCP or TLS.
//!
//! One HTTP client over all three: proxies in the environment are not honoured, since they would see, and could answer, what is meant
//! for this machine.

use anyhow::{Context, anyhow, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// The socket of a server on this machine.
pub(super) const SOCKET: &str = "/run/pointsman/api.sock";
/// The address of a server on this machine.
pub(super) const LOOPBACK: &str = "http://127.0.0.1:8053";

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// A Unix socket.
    Socket(PathBuf),
    /// A host and port.
    Remote {
        /// Whether by TLS.
        tls: bool,
        /// Host name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// What comes before `/v1`; empty or with a leading and no final slash.
        prefix: String,
    },
}

impl Server {
    /// Reads `http://HOST[:PORT]`, `https://HOST[:PORT]`, `unix:PATH` or an absolute path.
    pub fn parse(text: &str) -> anyhow::Result<Server> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Server::Socket(PathBuf::from(path)));
        }
        if text.starts_with('/') {
            return Ok(Server::Socket(PathBuf::from(text)));
        }
        let url = url::Url::parse(text).with_context(|| format!("{text:?} is no URL of a server"))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => bail!("{text:?} is no URL of a server: it begins with http://, https:// or unix:"),
        };
        let host = url.host_str().ok_or_else(|| anyhow!("{text:?} names no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| anyhow!("{text:?} has no port"))?;
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            bail!("{text:?} is no URL of a server: it has more than host, port and path");
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Server::Remote {
            tls,
            host,
            port,
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// What the `Host` field says.
    pub fn authority(&self) -> String {
        match self {
            Server::Socket(_) => "localhost".to_owned(),
            Server::Remote { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Server::Remote { host, port, .. } => format!("{host}:{port}"),
        }
    }

    /// The path of a request.
    pub fn path(&self, path: &str) -> String {
        match self {
            Server::Socket(_) => path.to_owned(),
            Server::Remote { prefix, .. } => format!("{prefix}{path}"),
        }
    }

    /// Whether a token may be sent there: nobody on the way can read it.
    pub fn is_private(&self) -> bool {
        match self {
            Server::Socket(_) | Server::Remote { tls: true, .. } => true,
            Server::Remote { host, .. } => host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        }
    }

    /// Whether TLS is needed.
    pub fn is_tls(&self) -> bool {
        matches!(self, Server::Remote { tls: true, .. })
    }

    /// Opens a connection.
    pub async fn connect(&self, tls: Option<&Arc<ClientConfig>>) -> anyhow::Result<Box<dyn Stream>> {
        match self {
            Server::Socket(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Server::Remote {
                host, port, tls: wanted, ..
            } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                if !wanted {
                    return Ok(Box::new(stream));
                }
                let config = tls.ok_or_else(|| anyhow!("TLS was not prepared"))?.clone();
                let name = ServerName::try_from(host.clone()).with_context(|| format!("{host:?} is no name for TLS"))?;
                Ok(Box::new(TlsConnector::from(config).connect(name, stream).await.context("TLS")?))
            }
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Socket(path) => write!(f, "{}", path.display()),
            Server::Remote { tls, prefix, .. } => write!(f, "{}://{}{prefix}", if *tls { "https" } else { "http" }, self.authority()),
        }
    }
}

/// Octets both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// TLS that trusts the certificates of `ca`, without it those of the system.
pub(super) fn tls_config(ca: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let read = || format!("reading the certificates in {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
                roots.add(certificate.with_context(read)?).with_context(read)?;
            }
            if roots.is_empty() {
                bail!("no certificate in {}", path.display());
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                bail!("this system trusts no certificates: name one with --ca");
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS")?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_urls_and_sockets() {
        let cases = [
            ("http://127.0.0.1:8053", "http://127.0.0.1:8053", "127.0.0.1:8053", true),
            ("http://127.0.0.1:8053/", "http://127.0.0.1:8053", "127.0.0.1:8053", true),
            ("http://[::1]:8053", "http://[::1]:8053", "[::1]:8053", true),
            (
                "http://ns1.example.net:8053",
                "http://ns1.example.net:8053",
                "ns1.example.net:8053",
                false,
            ),
            (
                "https://ns1.example.net",
                "https://ns1.example.net:443",
                "ns1.example.net:443",
                true,
            ),
            (
                "https://ns1.example.net/pm/",
                "https://ns1.example.net:443/pm",
                "ns1.example.net:443",
                true,
            ),
            ("unix:/run/a.sock", "/run/a.sock", "localhost", true),
            ("/run/a.sock", "/run/a.sock", "localhost", true),
        ];
        for (text, shown, authority, private) in cases {
            let server = Server::parse(text).unwrap();
            assert_eq!(
                (server.to_string().as_str(), server.authority().as_str(), server.is_private()),
                (shown, authority, private),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in [
            "",
            "127.0.0.1:8053",
            "ftp://a",
            "http://",
            "http://u:p@a",
            "http://a?b",
            "http://a:99999",
        ] {
            assert!(Server::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(
            tls_config(Some(file.path()))
                .unwrap_err()
                .to_string()
                .starts_with("no certificate in")
        );
    }
}
