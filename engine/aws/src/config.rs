//! Finds the AWS configuration, and says what is missing of it.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;

use crate::failure::chain;

/// What a user has set of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// A configuration of the user's own, instead of the usual one.
    pub config: Option<&'a SdkConfig>,
    /// Another endpoint than that of the region: a URL.
    pub endpoint: Option<&'a str>,
    /// The region.
    pub region: Option<&'a str>,
    /// The region where none is set: that of an ARN.
    pub otherwise: Option<&'a str>,
}

impl Given<'_> {
    /// The user's configuration, or the usual one, with what else was set.
    pub async fn load(self) -> SdkConfig {
        let region = |name: &str| Region::new(name.to_owned());
        if let Some(config) = self.config {
            let mut config = config.clone().into_builder();
            if let Some(endpoint) = self.endpoint {
                config = config.endpoint_url(endpoint);
            }
            if let Some(name) = self.region {
                config = config.region(region(name));
            }
            return config.build();
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(name) = self.region.or(self.otherwise) {
            loader = loader.region(region(name));
        }
        if let Some(endpoint) = self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        loader.load().await
    }
}

/// Something after the scheme, and no blanks: what more is wrong with it, the first call tells.
pub fn is_url(endpoint: &str) -> bool {
    let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace))
}

/// Asks for credentials once, since without them the first call would fail with a far less clear error.
///
/// # Errors
/// Why there are none, in one line.
pub async fn credentials(config: &SdkConfig) -> Result<(), String> {
    let Some(provider) = config.credentials_provider() else { return Err("no AWS credentials are set".to_owned()) };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("there are no AWS credentials: {}", chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls() {
        assert!(is_url("http://127.0.0.1:4567") && is_url("https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com"));
        for bad in ["", "localhost:4567", "ftp://x", "http://", "http:///path", "http://a b"] {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
