//! TLS of the API: certificate and key from PEM files, read once at the start.

use super::StartError;
use crate::config::TlsFiles;
use rustls::ServerConfig;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The names of our certificate.
pub(super) struct Names(CertificateDer<'static>);

impl Names {
    /// Whether the certificate is valid for a host name.
    pub fn cover(&self, host: &str) -> bool {
        let (Ok(certificate), Ok(name)) = (ParsedCertificate::try_from(&self.0), ServerName::try_from(host)) else {
            return false;
        };
        rustls::client::verify_server_name(&certificate, &name).is_ok()
    }
}

/// Reads both files.
pub(super) async fn load(files: &TlsFiles) -> Result<(TlsAcceptor, Names), StartError> {
    let (cert, key) = (read(&files.cert).await?, read(&files.key).await?);
    let fault = |path: &Path, what: String| StartError::Tls {
        path: path.to_owned(),
        what,
    };
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&cert).collect();
    let chain = chain.map_err(|error| fault(&files.cert, format!("it is no PEM certificate chain: {error}")))?;
    let leaf = chain
        .first()
        .cloned()
        .ok_or_else(|| fault(&files.cert, "it has no `BEGIN CERTIFICATE`".to_owned()))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| fault(&files.key, format!("it has no private key in PEM: {error}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, key))
        .map_err(|error| {
            fault(
                &files.key,
                format!("it does not go with the certificate {}: {error}", files.cert.display()),
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), Names(leaf)))
}

/// Reads one file.
async fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    tokio::fs::read(path).await.map_err(|error| StartError::Tls {
        path: path.to_owned(),
        what: error.to_string(),
    })
}
