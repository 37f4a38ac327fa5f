//! The client: no redirects, no retries, bounded times. Retries are the engine's.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Certificate, Client, redirect, retry};
use shardflow::{Error, Result};

/// What is set of the connection.
#[derive(Debug, Clone)]
pub(crate) struct HttpSettings {
    /// The longest that connecting may take, TLS included.
    pub(crate) connect: Duration,
    /// The longest that a call may take, connecting included.
    pub(crate) call: Duration,
    /// Certificates in PEM that are trusted beside those of the system.
    pub(crate) roots: Vec<Vec<u8>>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), call: Duration::from_secs(60), roots: Vec::new() }
    }
}

impl HttpSettings {
    /// A client that sends `headers` with every call.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub(crate) fn client(&self, headers: HeaderMap) -> Result<Client> {
        let mut roots = Vec::new();
        for pem in &self.roots {
            let read = Certificate::from_pem_bundle(pem).ok().filter(|read| !read.is_empty());
            roots.extend(read.ok_or_else(|| Error::config("could not read a root certificate: it is no PEM"))?);
        }
        let builder = Client::builder()
            .user_agent(concat!("shardflow/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .connect_timeout(self.connect)
            .timeout(self.call)
            .tls_certs_merge(roots);
        builder.build().map_err(|error| Error::config("could not make an HTTP client").caused_by(error.without_url()))
    }
}
