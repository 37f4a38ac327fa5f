//! TLS: whose certificates are trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use shardflow::{Error, Result};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Verifies the server's certificate and name, against the certificates of `roots` (PEM) or those that the system trusts.
///
/// # Errors
/// [`ErrorKind::Config`](shardflow::ErrorKind::Config): the file cannot be read, or no certificate is trusted.
pub(super) fn connector(roots: Option<&Path>) -> Result<MakeRustlsConnect> {
    let store = match roots {
        Some(path) => from_file(path)?,
        None => from_system()?,
    };
    // Named, since two providers may be compiled in, and then there is no default.
    let config =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let config = config.map_err(|cause| Error::internal("could not set up TLS").caused_by(cause))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(store).with_no_client_auth()))
}

fn from_file(path: &Path) -> Result<RootCertStore> {
    let refuse = || Error::config(format!("could not read the certificates in \"{}\"", path.display()));
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|cause| refuse().caused_by(cause))? {
        let certificate = certificate.map_err(|cause| refuse().caused_by(cause))?;
        store.add(certificate).map_err(|cause| refuse().caused_by(cause))?;
    }
    if store.is_empty() { Err(refuse().caused_by("there are none")) } else { Ok(store) }
}

fn from_system() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let error = Error::config("could not find the certificates that this system trusts: name a file of them");
        return Err(match found.errors.into_iter().next() {
            Some(cause) => error.caused_by(cause.to_string()),
            None => error,
        });
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        for content in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = connector(Some(&path)).err().unwrap().to_string();
            assert!(error.contains("roots.pem"), "{error}");
        }
    }
}
