//! TLS on loopback: a certificate made for the test, and an SDK client that trusts it and nothing else.

use std::sync::Arc;

use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rcgen::generate_simple_self_signed;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A self-signed certificate for 127.0.0.1 and localhost, both named in its SAN (rustls looks nowhere else).
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
}

impl Certificate {
    pub(crate) fn for_loopback() -> Self {
        let made = generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        Self { pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
    }

    /// A server side that offers HTTP/2 first, then HTTP/1.1.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain = vec![CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap();
        // Named, since two providers may be compiled in, and then there is no default.
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// What `SdkConfig::builder().http_client(…)` takes.
    pub(crate) fn http_client(&self) -> aws_sdk_kinesis::config::SharedHttpClient {
        let trust = TrustStore::empty().with_pem_certificate(self.pem.as_bytes());
        let context = TlsContext::builder().with_trust_store(trust).build().unwrap();
        let provider = Provider::Rustls(CryptoMode::AwsLc);
        aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(context).build_https()
    }
}
