//! How a store is reached: what the settings say, and for S3 what the AWS SDK finds where they say nothing. For this sink's objects,
//! and for the files that Redshift loads.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::client::ReqwestConnector;
use object_store::{ClientConfigKey, CredentialProvider, RetryConfig};
use shardflow::{Error, ErrorKind, Result};
use shardflow_aws::config::{Given, check_endpoint};
use shardflow_aws::connect::Opening;
use tokio::sync::Mutex;

use super::absent::WhereAbsent;
use super::failure::text;

/// How long finding the AWS configuration may take.
const CONFIGURE: Duration = Duration::from_secs(60);

/// The longest that one call may take.
const LONGEST_CALL: Duration = Duration::from_secs(120);

/// The variable that names S3's address alone, as the cloud's own tools have it.
const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";

/// Credentials are asked for again so long before they run out.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

/// Those that say no end are asked for again after so long, as the SDK's own clients do.
const RENEW_AFTER: Duration = Duration::from_secs(15 * 60);

/// What a user has set of the way to a store. It has no `Debug`: of its options, names alone may be shown.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reach<'a> {
    /// Another endpoint than the cloud's own: a URL.
    pub(crate) endpoint: Option<&'a str>,
    /// The AWS region.
    pub(crate) region: Option<&'a str>,
    /// A configuration of the user's own, instead of what the SDK finds.
    pub(crate) sdk_config: Option<&'a SdkConfig>,
    /// Options of the crate `object_store`, by name.
    pub(crate) options: &'a [(String, String)],
}

impl<'a> Reach<'a> {
    /// A bucket of S3: profiles, SSO, roles and endpoints as the AWS SDK finds them, then the settings, then the options.
    ///
    /// # Errors
    /// Settings that cannot work, no region, no credentials, or a minute is over.
    #[cfg(any(test, feature = "redshift"))]
    pub(crate) async fn s3(self, bucket: &str) -> Result<AmazonS3> {
        let s3 = self.builder(bucket).await?.build();
        s3.map_err(|error| self.unusable(&format!("s3://{bucket}"), &error))
    }

    /// The same, and beside it a client that completes uploads in parts only where there is no object of that name.
    ///
    /// # Errors
    /// As of [`Reach::s3`].
    pub(super) async fn s3_and_where_absent(self, bucket: &str) -> Result<(AmazonS3, AmazonS3)> {
        let builder = self.builder(bucket).await?;
        let absent = builder.clone().with_http_connector(WhereAbsent::<ReqwestConnector>::default());
        let both = builder.build().and_then(|s3| Ok((s3, absent.build()?)));
        both.map_err(|error| self.unusable(&format!("s3://{bucket}"), &error))
    }

    async fn builder(self, bucket: &str) -> Result<AmazonS3Builder> {
        let options = self.keys::<AmazonS3ConfigKey>()?;
        let own =
            |key: &AmazonS3ConfigKey| matches!(key, AmazonS3ConfigKey::AccessKeyId | AmazonS3ConfigKey::SkipSignature);
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        let given = self.endpoint.or_else(|| self.sdk_config?.endpoint_url()).map(ToOwned::to_owned);
        let mut endpoint = given.or_else(|| std::env::var(S3_ENDPOINT).ok());
        if options.iter().any(|(key, _)| own(key)) {
            if let Some(region) = self.region {
                builder = builder.with_region(region);
            }
        } else {
            let Self { endpoint: other, region, sdk_config, options: _ } = self;
            let given = Given { service: "S3", config: sdk_config, endpoint: other, region, otherwise: None };
            let opening = Opening::new(ErrorKind::Sink, format!("bucket \"{bucket}\""), CONFIGURE);
            let (config, _) = opening.configure(given).await?;
            if let Some(region) = config.region() {
                builder = builder.with_region(region.to_string());
            }
            if let Some(provider) = config.credentials_provider() {
                builder = builder.with_credentials(Arc::new(FromSdk::new(provider)));
            }
            endpoint = endpoint.or_else(|| config.endpoint_url().map(ToOwned::to_owned));
        }
        for (key, value) in self.client() {
            builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
        }
        if let Some(endpoint) = endpoint {
            // Who names an address without TLS means it, wherever it is named.
            builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
        }
        for (key, value) in options {
            builder = builder.with_config(key, value);
        }
        if let Some(Err(why)) = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).as_deref().map(check_endpoint) {
            return Err(Error::config(format!("could not use the endpoint of \"s3://{bucket}\": {why}")));
        }
        Ok(builder.with_retry(once()))
    }

    /// The options, as this kind of store knows them.
    pub(super) fn keys<K: FromStr>(self) -> Result<Vec<(K, &'a str)>> {
        let key = |(key, value): &'a (String, String)| {
            let unknown =
                |_| Error::config(format!("could not use the option \"{key}\": this store has none of that name"));
            key.to_ascii_lowercase().parse::<K>().map(|key| (key, value.as_str())).map_err(unknown)
        };
        self.options.iter().map(key).collect()
    }

    /// What is set of the HTTP client.
    pub(super) fn client(self) -> Vec<(ClientConfigKey, String)> {
        let endpoint = self.endpoint.or_else(|| self.sdk_config?.endpoint_url());
        let allows = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let time = (ClientConfigKey::Timeout, format!("{} seconds", LONGEST_CALL.as_secs()));
        let plain = allows.then(|| (ClientConfigKey::AllowHttp, "true".to_owned()));
        [Some(time), plain].into_iter().flatten().collect()
    }

    /// The error of a store that cannot be made so. Some of the crate's repeat the value that is wrong, which may be a secret in
    /// the wrong place.
    pub(super) fn unusable(self, place: &str, error: &object_store::Error) -> Error {
        let mut text = text(error);
        for (_, value) in self.options {
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            if !value.is_empty() {
                text = text.replace(&value, "…");
            }
        }
        Error::config(format!("could not use \"{place}\": {text}"))
    }
}

/// Retries are ours: those of the crate would hide how long calls fail.
pub(super) fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// What became of a call that asked for a change, without what might be secret.
#[cfg(feature = "redshift")]
pub(crate) fn trouble(error: &object_store::Error) -> shardflow::sink::Trouble {
    super::failure::trouble(error)
}

/// The credentials of the AWS SDK, which knows profiles, SSO and processes. The store asks for them with each call and the SDK's
/// providers keep none, so they are kept here until they run out.
struct FromSdk {
    provider: SharedCredentialsProvider,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    credential: Arc<AwsCredential>,
    renewed_at: SystemTime,
}

impl FromSdk {
    fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, kept: Mutex::new(None) }
    }

    async fn at(&self, now: SystemTime) -> object_store::Result<Arc<AwsCredential>> {
        // Held while one call asks, so that the others wait for its answer and do not ask as well.
        let mut kept = self.kept.lock().await;
        if let Some(Kept { credential, .. }) = kept.as_ref().filter(|kept| now < kept.renewed_at) {
            return Ok(Arc::clone(credential));
        }
        let credentials = self.provider.provide_credentials().await;
        let credentials = credentials
            .map_err(|error| object_store::Error::Unauthenticated { path: String::new(), source: Box::new(error) })?;
        let credential = Arc::new(AwsCredential {
            key_id: credentials.access_key_id().to_owned(),
            secret_key: credentials.secret_access_key().to_owned(),
            token: credentials.session_token().map(ToOwned::to_owned),
        });
        let renewed_at = credentials.expiry().and_then(|end| end.checked_sub(RENEW_BEFORE));
        let renewed_at = renewed_at.or_else(|| now.checked_add(RENEW_AFTER)).unwrap_or(now);
        *kept = Some(Kept { credential: Arc::clone(&credential), renewed_at });
        Ok(credential)
    }
}

impl fmt::Debug for FromSdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromSdk").finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialProvider for FromSdk {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.at(SystemTime::now()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use aws_credential_types::Credentials;
    use aws_credential_types::provider::future::ProvideCredentials as Provided;

    use super::*;

    /// Gives others each time, with one end for all.
    #[derive(Debug, Default)]
    struct Counting {
        asked: AtomicU64,
        end: Option<SystemTime>,
    }

    impl ProvideCredentials for Counting {
        fn provide_credentials<'a>(&'a self) -> Provided<'a>
        where
            Self: 'a,
        {
            let key = self.asked.fetch_add(1, Ordering::Relaxed).to_string();
            Provided::ready(Ok(Credentials::new(key, "SECRET", None, self.end, "test")))
        }
    }

    #[tokio::test]
    async fn credentials_are_asked_for_again_shortly_before_they_run_out() {
        let begin = SystemTime::UNIX_EPOCH;
        for (end, renewed_after) in [(Some(3_600), 3_540), (None, 900)] {
            let end = end.map(|seconds| begin + Duration::from_secs(seconds));
            let asked = AtomicU64::new(0);
            let sdk = FromSdk::new(SharedCredentialsProvider::new(Counting { asked, end }));
            for (second, key) in [(0, "0"), (renewed_after - 1, "0"), (renewed_after, "1")] {
                let credential = sdk.at(begin + Duration::from_secs(second)).await.unwrap();
                assert_eq!(credential.key_id, key, "after {second} s");
            }
            assert!(!format!("{sdk:?}").contains("SECRET"));
        }
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_is_not_repeated() {
        for (name, value) in [
            ("timeout", "SECRET"),
            ("allow_http", "SECRET  OF TWO"),
            ("aws_conditional_put", "SECRET"),
            ("aws_server_side_encryption", "SECRET"),
        ] {
            let options = [("aws_skip_signature".to_owned(), "true".to_owned()), (name.to_owned(), value.to_owned())];
            let reach = Reach { region: Some("eu-west-1"), options: &options, ..Reach::default() };
            let error = reach.s3("b").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let error = format!("{error} {error:?}");
            assert!(error.contains("could not use \"s3://b\"") && !error.contains("SECRET"), "{error}");
        }
    }
}
