//! The server's own certificate: a PEM chain and its key, read from files and read again when the files change.
//!
//! A [`Certificates`] is shared by every TLS listener of the node that shows this certificate (the API, encrypted DNS). A
//! handshake takes whatever is current with one atomic load and never touches a file; [`Certificates::follow`] looks at the
//! files every [`LOOK_INTERVAL`] and swaps the new pair in. Connections that are open keep what they were made with.
//!
//! ```text
//! files unchanged ──▶ nothing
//! changed, chain and key go together ──▶ swapped in, INFO
//! changed, broken ──▶ the present pair stays; WARN once the same fault was seen at two looks in a row
//! broken at the start ──▶ an error for the API; encrypted DNS begins without, and shows the pair once it is good
//! ```
//! What is wrong at present stands in [`Faults`], for an alert that lasts as long.
//!
//! The second look is for renewals that write two files one after the other: between the two they do not go together.
//!
//! Deliberately absent: getting certificates (ACME), client certificates, and any wish of a protocol beyond its ALPN words.

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How often the files are looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Most octets of either file: a chain has a few kilobytes, and a path set by mistake may lead to something endless.
const FILE_OCTETS_MAX: u64 = 1 << 20;

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The certificate chain.
    Certificate,
    /// The private key.
    Key,
}

/// Why a pair of files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the TLS file {} cannot be used: {what}", path.display())]
pub struct TlsError {
    /// The file at fault; the key where the two do not go together.
    pub part: Part,
    /// Its path.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
}

/// What is wrong with certificates that are followed; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<BTreeMap<PathBuf, String>>>);

impl Faults {
    /// All of it in words; none where every certificate can be used.
    pub fn told(&self) -> Option<String> {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told: Vec<&str> = faults.values().map(String::as_str).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// What is wrong, or no longer, with the certificate in a file.
    fn set(&self, cert: &Path, fault: Option<String>) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => drop(faults.insert(cert.to_owned(), fault)),
            None => drop(faults.remove(cert)),
        }
    }
}

/// What a file looked like: another inode, size or time means that it is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    octets: u64,
    modified: (i64, i64),
}

/// Both files; none where one cannot be looked at.
type Stamps = [Option<Stamp>; 2];

/// A certificate that follows its files.
#[derive(Debug)]
pub struct Certificates {
    cert: PathBuf,
    key: PathBuf,
    /// None until the files were read well for the first time.
    current: ArcSwapOption<CertifiedKey>,
    /// The state of the files that `current` was read from.
    seen: Mutex<Stamps>,
}

impl Certificates {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read, is not PEM, or the two do not go together.
    pub fn load(cert: &Path, key: &Path) -> Result<Arc<Certificates>, TlsError> {
        // Before reading: a change in between is then seen at the next look.
        let seen = stamps(cert, key);
        let pair = read(cert, key)?;
        Ok(Arc::new(Certificates {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: ArcSwapOption::from_pointee(pair),
            seen: Mutex::new(seen),
        }))
    }

    /// Reads both files; where they cannot be used, handshakes fail until a later look finds that they can. For who has more to
    /// serve than TLS and must not stay away because of it.
    pub fn load_or_wait(cert: &Path, key: &Path) -> (Arc<Certificates>, Option<TlsError>) {
        let error = match Certificates::load(cert, key) {
            Ok(loaded) => return (loaded, None),
            Err(error) => error,
        };
        let waiting = Certificates {
            cert: cert.to_owned(),
            key: key.to_owned(),
            current: ArcSwapOption::empty(),
            seen: Mutex::new([None; 2]),
        };
        (Arc::new(waiting), Some(error))
    }

    /// Reads the files again if they changed since they were last read well; tells whether they were replaced.
    ///
    /// # Errors
    /// As [`Certificates::load`]; the present pair stays then, and the next call tries again.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let found = stamps(&self.cert, &self.key);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found && self.current.load().is_some() {
            return Ok(false);
        }
        self.current.store(Some(Arc::new(read(&self.cert, &self.key)?)));
        *seen = found;
        Ok(true)
    }

    /// Looks at the files again and again, as long as anybody holds the certificate, and keeps `faults` on what is wrong with them, from what
    /// was found at the start on. Needs a tokio runtime.
    pub fn follow(self: &Arc<Self>, faults: &Faults, at_start: Option<TlsError>) {
        let certificates = Arc::downgrade(self);
        let mut fault = Fault::new(faults.clone());
        if let Some(error) = at_start {
            fault.at_start(&self.cert, error);
        }
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                let Some(found) = look(&certificates).await else { return };
                fault.tell(found);
            }
        });
    }

    /// Whether the certificate is valid for a host name.
    pub fn cover(&self, host: &str) -> bool {
        let current = self.current.load();
        let Some(leaf) = current.as_ref().and_then(|pair| pair.cert.first()) else {
            return false;
        };
        let (Ok(leaf), Ok(name)) = (ParsedCertificate::try_from(leaf), ServerName::try_from(host)) else {
            return false;
        };
        rustls::client::verify_server_name(&leaf, &name).is_ok()
    }

    /// TLS 1.2 and 1.3 with this certificate, offering these protocols by ALPN, without client certificates.
    ///
    /// # Errors
    /// When the provider lacks what the protocol versions need; ring does not.
    pub fn server_config(self: &Arc<Self>, alpn: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    /// One certificate for every name that a client asks for; none as long as there is none, which ends the handshake with an alert.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// One look, off the runtime's threads; none when nobody holds the certificate any more.
async fn look(certificates: &Weak<Certificates>) -> Option<(PathBuf, Result<bool, TlsError>)> {
    let certificates = certificates.upgrade()?;
    let looked = tokio::task::spawn_blocking(move || (certificates.cert.clone(), certificates.reload_if_changed()));
    looked.await.ok()
}

/// The fault of the last look.
#[derive(Debug)]
struct Fault {
    last: Option<TlsError>,
    is_told: bool,
    faults: Faults,
}

impl Fault {
    /// Nothing is wrong yet.
    fn new(faults: Faults) -> Fault {
        Fault {
            last: None,
            is_told: false,
            faults,
        }
    }

    /// There is no certificate to begin with; the log was told so.
    fn at_start(&mut self, cert: &Path, error: TlsError) {
        let told = format!("encrypted DNS is not answered until its certificate can be used: {error}");
        self.faults.set(cert, Some(told));
        (self.last, self.is_told) = (Some(error), true);
    }

    /// Tells what a look found: a replacement, or a fault that stays.
    fn tell(&mut self, (path, found): (PathBuf, Result<bool, TlsError>)) {
        match found {
            Ok(replaced) => {
                if replaced {
                    tracing::info!(path = %path.display(), "the certificate was replaced");
                }
                (self.last, self.is_told) = (None, false);
                self.faults.set(&path, None);
            }
            Err(error) if self.last.as_ref() == Some(&error) => {
                if !self.is_told {
                    let told = format!("the new certificate is not used, what was shown before stays: {error}");
                    tracing::warn!("{told}");
                    self.faults.set(&path, Some(told));
                }
                self.is_told = true;
            }
            Err(error) => (self.last, self.is_told) = (Some(error), false),
        }
    }
}

/// Reads both files as one certificate with its key, without keeping it: what `check` wants to know.
///
/// # Errors
/// As [`Certificates::load`].
pub fn read(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let fault = |part, what| TlsError {
        part,
        path: match part {
            Part::Certificate => cert.to_owned(),
            Part::Key => key.to_owned(),
        },
        what,
    };
    let open = |part, path| read_bounded(path).map_err(|error| fault(part, error.to_string()));
    let (cert_pem, key_pem) = (open(Part::Certificate, cert)?, open(Part::Key, key)?);
    let chain = CertificateDer::pem_slice_iter(&cert_pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| fault(Part::Certificate, format!("it is no PEM certificate chain: {error}")))?;
    let Some(leaf) = chain.first() else {
        return Err(fault(Part::Certificate, "it has no `BEGIN CERTIFICATE`".to_owned()));
    };
    ParsedCertificate::try_from(leaf)
        .map_err(|error| fault(Part::Certificate, format!("its first certificate cannot be read: {error}")))?;
    let key_der = PrivateKeyDer::from_pem_slice(&key_pem);
    let key_der = key_der.map_err(|error| fault(Part::Key, format!("it has no private key in PEM: {error}")))?;
    CertifiedKey::from_der(chain, key_der, &provider()).map_err(|error| {
        let what = match error {
            rustls::Error::InconsistentKeys(_) => format!("it is not the key of the certificate in {}", cert.display()),
            other => format!("its key cannot be used: {other}"),
        };
        fault(Part::Key, what)
    })
}

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads a file that may not be larger than [`FILE_OCTETS_MAX`].
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut octets = Vec::new();
    std::fs::File::open(path)?.take(FILE_OCTETS_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_OCTETS_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_OCTETS_MAX} octets")));
    }
    Ok(octets)
}

/// What both files look like now.
fn stamps(cert: &Path, key: &Path) -> Stamps {
    [cert, key].map(|path| {
        let file = std::fs::metadata(path).ok()?;
        Some(Stamp {
            inode: file.ino(),
            octets: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::generate_simple_self_signed;
    use std::fs;

    /// A folder with a pair for a name.
    fn folder(host: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let (cert_pem, key_pem) = pair(host);
        fs::write(&cert, cert_pem).unwrap();
        fs::write(&key, key_pem).unwrap();
        (folder, cert, key)
    }

    /// Certificate and key in PEM.
    fn pair(host: &str) -> (String, String) {
        let made = generate_simple_self_signed([host.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// Replaces a file as renewals do, so that its inode changes whatever the clock says.
    fn replace(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, path).unwrap();
    }

    #[test]
    fn a_changed_pair_is_taken_and_an_unchanged_one_is_not_read() {
        let (_folder, cert, key) = folder("old.example");
        let certificates = Certificates::load(&cert, &key).unwrap();
        assert_eq!(certificates.reload_if_changed(), Ok(false));
        assert!(certificates.cover("old.example") && !certificates.cover("new.example"));
        let (cert_pem, key_pem) = pair("new.example");
        replace(&cert, &cert_pem);
        replace(&key, &key_pem);
        assert_eq!(certificates.reload_if_changed(), Ok(true));
        assert!(certificates.cover("new.example") && !certificates.cover("old.example"));
        assert_eq!(certificates.reload_if_changed(), Ok(false));
    }

    #[test]
    fn between_the_two_files_of_a_renewal_the_old_pair_stays() {
        let (_folder, cert, key) = folder("old.example");
        let certificates = Certificates::load(&cert, &key).unwrap();
        let (cert_pem, key_pem) = pair("new.example");
        replace(&cert, &cert_pem);
        let error = certificates.reload_if_changed().unwrap_err();
        assert_eq!(error.part, Part::Key);
        assert!(error.what.contains("not the key of the certificate in"), "{error}");
        assert!(certificates.cover("old.example"));
        replace(&key, &key_pem);
        assert_eq!(certificates.reload_if_changed(), Ok(true));
        assert!(certificates.cover("new.example"));
    }

    #[test]
    fn each_fault_names_its_file() {
        let (_folder, cert, key) = folder("a.example");
        let (cert_pem, key_pem) = pair("b.example");
        let cases: [(&Path, &str, Part, &str); 6] = [
            (&cert, "", Part::Certificate, "it has no `BEGIN CERTIFICATE`"),
            (&cert, &key_pem, Part::Certificate, "it has no `BEGIN CERTIFICATE`"),
            (
                &cert,
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                Part::Certificate,
                "its first certificate cannot be read",
            ),
            (&cert, &cert_pem, Part::Key, "it is not the key of the certificate in"),
            (&key, "nothing", Part::Key, "it has no private key in PEM"),
            (&key, &key_pem, Part::Key, "it is not the key of the certificate in"),
        ];
        for (path, text, part, what) in cases {
            let before = fs::read_to_string(path).unwrap();
            fs::write(path, text).unwrap();
            let error = read(&cert, &key).unwrap_err();
            assert_eq!((error.part, error.what.contains(what)), (part, true), "{error}");
            fs::write(path, before).unwrap();
        }
        fs::remove_file(&key).unwrap();
        let error = read(&cert, &key).unwrap_err();
        assert_eq!((error.part, &error.path), (Part::Key, &key));
    }

    #[test]
    fn a_fault_is_told_when_it_stays_and_once() {
        let error = TlsError {
            part: Part::Key,
            path: "key.pem".into(),
            what: "gone".into(),
        };
        let faults = Faults::default();
        let mut fault = Fault::new(faults.clone());
        fault.tell(("cert.pem".into(), Err(error.clone())));
        assert!(!fault.is_told && faults.told().is_none());
        fault.tell(("cert.pem".into(), Err(error.clone())));
        assert!(fault.is_told && faults.told().is_some_and(|told| told.contains("gone")));
        fault.tell(("cert.pem".into(), Ok(true)));
        assert!(!fault.is_told && fault.last.is_none() && faults.told().is_none());
        // At a start it is told at once, and another fault in its stead changes nothing until it stays.
        let mut other = Fault::new(faults.clone());
        other.at_start(Path::new("other.pem"), error.clone());
        let found = TlsError {
            what: "empty".into(),
            ..error
        };
        other.tell(("other.pem".into(), Err(found)));
        assert!(faults.told().is_some_and(|told| told.contains("encrypted DNS is not answered")));
        other.tell(("other.pem".into(), Ok(true)));
        assert_eq!(faults.told(), None);
    }
}
