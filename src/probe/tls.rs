//! Whom the probes trust: the system's certificates or those of a file, read once and shared by all.
//!
//! A file is read again when it changes (time, size or number of its inode), the system's at each new
//! config. Sessions are not resumed, since that would skip the verification that is being tested.

use super::Stage;
use super::files::Files;
use super::words::failure;
use crate::model::{FailReason, Failure, Identity};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the system keeps its certificates, for those who must name a file.
const SYSTEM: &str = "/etc/ssl/certs";

/// Trusted certificates by where they come from.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// What was read, by file; none: the system's.
    read: Mutex<HashMap<Option<PathBuf>, Read>>,
    /// What was made of them.
    made: Mutex<HashMap<Wanted, SecureWith>>,
    /// Through what the files are read.
    pub files: Arc<Files>,
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

/// What a probe wants of TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    /// Certificates to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// What to show of ourselves.
    pub identity: Option<Identity>,
    /// Protocols to offer by ALPN, the best first.
    pub alpn: Vec<Vec<u8>>,
}

/// TLS, ready to be used.
#[derive(Debug, Clone)]
pub(super) struct SecureWith {
    /// How.
    pub config: Arc<ClientConfig>,
    /// The state of the files that it was made of.
    pub stamp: u64,
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
        source: pem::Error,
    },
    /// The file, or the system, has no certificate.
    #[error("no trusted certificate in {0}")]
    Empty(String),
    /// What is shown of ourselves cannot be used.
    #[error("{0}")]
    Identity(#[from] crate::tls::TlsError),
    /// The certificates cannot be used.
    #[error("trusted certificates cannot be used: {0}")]
    Unusable(String),
}

impl Trust {
    /// Forgets the system's certificates: they are read again when next needed.
    pub fn renew(&self) {
        self.round.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // What no probe wants any more must not stay.
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A number that changes when the files behind it may have changed.
    fn stamp(&self, wanted: &Wanted) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.stamp_of(wanted.ca.as_deref()).hash(&mut hasher);
        if let Some(identity) = &wanted.identity {
            hash_state(&identity.cert, &mut hasher);
            hash_state(&identity.key, &mut hasher);
        }
        hasher.finish()
    }

    /// The same for the trusted certificates alone.
    fn stamp_of(&self, ca: Option<&Path>) -> u64 {
        let mut hasher = DefaultHasher::new();
        match ca {
            None => self.round.load(std::sync::atomic::Ordering::Relaxed).hash(&mut hasher),
            Some(path) => hash_state(path, &mut hasher),
        }
        hasher.finish()
    }

    /// TLS as wanted, and a number that changes when it may have to be made anew. Made once for all that want the same.
    ///
    /// # Errors
    /// When there is nobody to trust, or a file cannot be used.
    pub async fn secure(self: &Arc<Self>, wanted: &Wanted, stage: &Stage) -> Result<SecureWith, Failure> {
        // Without files of its own nothing has to be asked to know that nothing changed.
        if wanted.ca.is_none()
            && wanted.identity.is_none()
            && let Some(known) = self.known(wanted, self.stamp(wanted))
        {
            return Ok(known);
        }
        let file = wanted.identity.as_ref().map(|identity| identity.key.as_path());
        let file = file.or(wanted.ca.as_deref()).unwrap_or(Path::new(SYSTEM));
        let (trust, own) = (Arc::clone(self), wanted.clone());
        let made = self.files.off(file, stage, move || trust.look(&own)).await;
        let ours = |error: &dyn std::fmt::Display| failure(FailReason::Internal, error.to_string());
        made.map_err(|error| ours(&error))?.map_err(|error| ours(&error))
    }

    /// The same, where it may take as long as files do. One thread a file is here, so a thousand probes that start together
    /// make it once; no lock is held meanwhile, since who takes it must not wait for files.
    fn look(&self, wanted: &Wanted) -> Result<SecureWith, TrustError> {
        let stamp = self.stamp(wanted);
        if let Some(known) = self.known(wanted, stamp) {
            return Ok(known);
        }
        let config = Arc::new(finish(self.verifier(wanted.ca.as_deref())?, wanted)?);
        let new = SecureWith { config, stamp };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(wanted.clone(), new.clone());
        Ok(new)
    }

    /// What was made of this state of the files.
    fn known(&self, wanted: &Wanted, stamp: u64) -> Option<SecureWith> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get(wanted).filter(|known| known.stamp == stamp).cloned()
    }

    /// The verifier over the certificates of a file or of the system.
    fn verifier(&self, ca: Option<&Path>) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
        let stamp = self.stamp_of(ca);
        let key = ca.map(Path::to_path_buf);
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known.filter(|known| known.stamp == stamp) {
            return Ok(known.verifier);
        }
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                let broken = |source| TrustError::File {
                    path: path.to_path_buf(),
                    source,
                };
                let file = super::files::open(path).map_err(|error| broken(pem::Error::Io(error)))?;
                let found = CertificateDer::pem_reader_iter(std::io::BufReader::new(file));
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
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(
            key,
            Read {
                stamp,
                verifier: Arc::clone(&verifier),
            },
        );
        Ok(verifier)
    }
}

/// Puts into a hash what tells that a file was changed.
fn hash_state(path: &Path, hasher: &mut DefaultHasher) {
    match std::fs::metadata(path) {
        Ok(file) => (file.mtime(), file.mtime_nsec(), file.len(), file.ino()).hash(hasher),
        Err(_) => 0.hash(hasher),
    }
}

/// A config over a verifier; no session is resumed.
fn finish(verifier: Arc<WebPkiServerVerifier>, wanted: &Wanted) -> Result<ClientConfig, TrustError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
    let builder = builder.with_webpki_verifier(verifier);
    let mut config = match &wanted.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let pair = crate::tls::read(&identity.cert, &identity.key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
    };
    config.alpn_protocols.clone_from(&wanted.alpn);
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What went wrong while putting certificates to use.
fn unusable(error: impl std::fmt::Display) -> TrustError {
    TrustError::Unusable(error.to_string())
}
