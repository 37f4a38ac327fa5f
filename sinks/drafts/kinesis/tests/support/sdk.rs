//! SDK clients for servers on loopback.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};

use super::tls::Certificate;

/// A configuration with dummy credentials for a stand-in at `endpoint`; `certificate` where it speaks TLS. The SDK's own
/// retries and timeouts are as they are by default.
pub(crate) fn sdk_config(endpoint: &str, certificate: Option<&Certificate>) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials));
    match certificate {
        Some(certificate) => config.http_client(certificate.http_client()).build(),
        None => config.build(),
    }
}
