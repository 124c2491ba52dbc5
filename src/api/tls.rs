//! TLS of the API: HTTP/1.1 over the certificate of the config, which follows its files.

use super::StartError;
use crate::config::TlsFiles;
use crate::tls::{Certificates, Faults};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Reads both files, and again whenever they change; what is wrong with them then stands in `faults`.
pub(super) async fn load(files: &TlsFiles, faults: &Faults) -> Result<(TlsAcceptor, Arc<Certificates>), StartError> {
    let (cert, key) = (files.cert.clone(), files.key.clone());
    let loaded = tokio::task::spawn_blocking(move || Certificates::load(&cert, &key)).await;
    let certificates = loaded.map_err(|error| StartError::Provider(error.to_string()))??;
    let config = certificates
        .server_config(&[b"http/1.1"])
        .map_err(|error| StartError::Provider(error.to_string()))?;
    certificates.follow(faults, None);
    Ok((TlsAcceptor::from(Arc::new(config)), certificates))
}
