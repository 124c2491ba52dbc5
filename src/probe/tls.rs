//! Whom the probes trust: the system's certificates or those of a file, read once and shared by all.
//!
//! A file is read again when it changes (time, size or number of its inode), the system's at each new
//! config. Sessions are not resumed, since that would skip the verification that is being tested.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Trusted certificates by where they come from.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// What was read, by file; none: the system's.
    read: Mutex<HashMap<Option<PathBuf>, Read>>,
    /// For plain http, made once.
    nobody: OnceLock<ClientConfig>,
    /// Counts the configs, so that the system's certificates are read again at each.
    round: std::sync::atomic::AtomicU64,
}

/// Certificates that were read, and from what state of their source.
#[derive(Debug, Clone)]
struct Read {
    /// The state.
    stamp: u64,
    /// The verifier over them.
    verifier: Arc<WebPkiServerVerifier>,
}

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    /// The file cannot be read as certificates.
    #[error("CA file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The file, or the system, has no certificate.
    #[error("no trusted certificate in {0}")]
    Empty(String),
    /// The certificates cannot be used.
    #[error("trusted certificates cannot be used: {0}")]
    Unusable(String),
}

impl Trust {
    /// Forgets the system's certificates: they are read again when next needed.
    pub fn renew(&self) {
        self.round.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    /// A number that changes when the certificates may have changed.
    pub fn stamp(&self, ca: Option<&Path>) -> u64 {
        let mut hasher = DefaultHasher::new();
        match ca {
            None => self.round.load(std::sync::atomic::Ordering::Relaxed).hash(&mut hasher),
            Some(path) => match std::fs::metadata(path) {
                Ok(file) => (file.mtime(), file.mtime_nsec(), file.len(), file.ino()).hash(&mut hasher),
                Err(_) => 0.hash(&mut hasher),
            },
        }
        hasher.finish()
    }

    /// TLS that trusts these certificates for the host name that is connected to.
    pub fn config(&self, ca: Option<&Path>) -> Result<ClientConfig, TrustError> {
        let verifier = self.verifier(ca)?;
        finish(verifier)
    }

    /// TLS that trusts these certificates for `address`, wherever the connection goes. HTTP/1.1 only: over
    /// HTTP/2 the authority would be where the connection goes.
    pub fn config_for(&self, ca: Option<&Path>, address: IpAddr) -> Result<ClientConfig, TrustError> {
        let verifier = self.verifier(ca)?;
        let name = ServerName::IpAddress(address.into());
        let mut config = finish(Arc::new(Fixed { verifier, name }))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// TLS that trusts nobody, for plain http: nothing is read for it.
    pub fn nobody(&self) -> Result<ClientConfig, TrustError> {
        if let Some(config) = self.nobody.get() {
            return Ok(config.clone());
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        Ok(self.nobody.get_or_init(|| config).clone())
    }

    /// The verifier over the certificates of a file or of the system.
    fn verifier(&self, ca: Option<&Path>) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
        let stamp = self.stamp(ca);
        let key = ca.map(Path::to_path_buf);
        // Held while reading, so that a thousand probes that start together read once.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.get(&key).filter(|known| known.stamp == stamp) {
            return Ok(Arc::clone(&known.verifier));
        }
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                let broken = |source| TrustError::File {
                    path: path.to_path_buf(),
                    source,
                };
                let found = CertificateDer::pem_file_iter(path).map_err(broken)?;
                let found: Vec<CertificateDer<'static>> = found.collect::<Result<_, _>>().map_err(broken)?;
                for one in found {
                    roots.add(one).map_err(unusable)?;
                }
            }
            // A system has hundreds, and a broken one among them is not this probe's business.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            let source = ca.map_or_else(|| "the system's store".to_owned(), |path| path.display().to_string());
            return Err(TrustError::Empty(source));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(unusable)?;
        read.insert(
            key,
            Read {
                stamp,
                verifier: Arc::clone(&verifier),
            },
        );
        Ok(verifier)
    }
}

/// A config over a verifier: HTTP/2 or HTTP/1.1, no session resumed.
fn finish(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientConfig, TrustError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What went wrong while putting certificates to use.
fn unusable(error: impl std::fmt::Display) -> TrustError {
    TrustError::Unusable(error.to_string())
}

/// Verifies as `verifier` does, for a fixed name: that of the URL where the connection goes elsewhere.
#[derive(Debug)]
struct Fixed {
    /// Does the work.
    verifier: Arc<WebPkiServerVerifier>,
    /// The name that the certificate must have.
    name: ServerName<'static>,
}

impl ServerCertVerifier for Fixed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
