//! Where objects go: finds the store that a URL names, with its credentials, from the settings and the environment.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientConfigKey, CredentialProvider, ObjectStore, RetryConfig};
use shardflow::{Error, ErrorKind, Result};
use shardflow_aws::config::Given;
use shardflow_aws::connect::Opening;
use url::Url;

use super::failure::text;

/// How long finding the AWS configuration may take.
const CONFIGURE: Duration = Duration::from_secs(60);

/// The longest that one call may take.
const LONGEST_CALL: Duration = Duration::from_secs(120);

/// The variable that names S3's address alone, as the cloud's own tools have it.
const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";

/// The least part that S3 takes.
const S3_PART: u64 = 5 << 20;

/// What the user gave.
#[derive(Clone)]
pub(super) enum Target {
    Url(Box<Located>),
    Store { store: Arc<dyn ObjectStore>, multipart: Option<Arc<dyn MultipartStore>>, prefix: String },
}

/// A URL and what goes with it.
#[derive(Clone, Default)]
pub(super) struct Located {
    pub(super) url: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) sdk_config: Option<SdkConfig>,
    pub(super) options: Vec<(String, String)>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(located) => {
                let place =
                    parse(&located.url).map_or_else(|_| "not a URL of a store".to_owned(), |url| url.to_string());
                let options: Vec<&String> = located.options.iter().map(|(key, _)| key).collect();
                f.debug_struct("Url").field("place", &place).field("options", &options).finish_non_exhaustive()
            }
            Self::Store { store, prefix, .. } => {
                f.debug_struct("Store").field("store", &store.to_string()).field("prefix", prefix).finish()
            }
        }
    }
}

/// A store that was found.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) multipart: Option<Arc<dyn MultipartStore>>,
    pub(super) prefix: Path,
    /// `s3://bucket`, for the user and for packs.
    pub(super) place: String,
    pub(super) leftovers: Leftovers,
}

/// Where uploads that a crash broke off can be found.
#[derive(Clone)]
pub(super) enum Leftovers {
    /// By asking for them.
    S3(AmazonS3),
    /// As files beside those they were to become.
    Disk(PathBuf),
    /// Not at all.
    Hidden,
}

impl Target {
    /// # Errors
    /// Settings that cannot work, or no credentials.
    pub(super) async fn open(&self, part_bytes: u64) -> Result<Opened> {
        match self {
            Self::Url(located) => located.open(part_bytes).await,
            Self::Store { store, multipart, prefix } => {
                let path = Path::parse(prefix.trim_matches('/'));
                let prefix = path.map_err(|cause| Error::config("could not use the prefix").caused_by(cause))?;
                let place = store.to_string();
                let (store, multipart) = (Arc::clone(store), multipart.clone());
                Ok(Opened { store, multipart, prefix, place, leftovers: Leftovers::Hidden })
            }
        }
    }
}

/// A URL that has neither a user nor a query. Errors do not repeat it: who puts a password there would read it in a log.
fn parse(url: &str) -> Result<Url> {
    let refuse = |why: &str| Error::config(format!("could not use the URL of an object store: {why}"));
    let url = Url::parse(url).map_err(|error| refuse(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(
            "it must have no user, password, query or fragment; give credentials by the environment or `option`",
        ));
    }
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    match url.scheme() {
        "s3" | "gs" | "az" if has_host => Ok(url),
        "file" if !has_host => Ok(url),
        "s3" | "gs" | "az" => Err(refuse("it names no bucket")),
        "file" => Err(refuse("it must be file:///path")),
        _ => Err(refuse("it must begin with s3://, gs://, az:// or file://")),
    }
}

impl Located {
    async fn open(&self, part_bytes: u64) -> Result<Opened> {
        let url = parse(&self.url)?;
        if url.scheme() == "file" {
            return self.disk(&url);
        }
        if part_bytes < S3_PART {
            return Err(Error::config(format!("part_bytes must be at least {S3_PART}: stores take no smaller parts")));
        }
        let prefix = Path::from_url_path(url.path())
            .map_err(|cause| Error::config("could not use the path of the object store's URL").caused_by(cause))?;
        let bucket = url.host_str().unwrap_or_default();
        let place = format!("{}://{bucket}", url.scheme());
        let (store, multipart, leftovers): (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>, _) = match url.scheme() {
            "s3" => {
                let s3 = self.s3(bucket).await?;
                (Arc::new(s3.clone()), Arc::new(s3.clone()), Leftovers::S3(s3))
            }
            "gs" => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                for (key, value) in self.client() {
                    builder = builder.with_config(GoogleConfigKey::Client(key), value);
                }
                for (key, value) in self.keys::<GoogleConfigKey>()? {
                    builder = builder.with_config(key, value);
                }
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint);
                }
                let gs = builder.with_retry(once()).build();
                let gs = Arc::new(gs.map_err(|error| unusable(&place, &error))?);
                (Arc::clone(&gs) as _, gs, Leftovers::Hidden)
            }
            _ => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                for (key, value) in self.client() {
                    builder = builder.with_config(AzureConfigKey::Client(key), value);
                }
                for (key, value) in self.keys::<AzureConfigKey>()? {
                    builder = builder.with_config(key, value);
                }
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                let azure = builder.with_retry(once()).build();
                let azure = Arc::new(azure.map_err(|error| unusable(&place, &error))?);
                (Arc::clone(&azure) as _, azure, Leftovers::Hidden)
            }
        };
        Ok(Opened { store, multipart: Some(multipart), prefix, place, leftovers })
    }

    fn disk(&self, url: &Url) -> Result<Opened> {
        let refuse = |cause: String| Error::config(format!("could not use the folder of \"{url}\": {cause}"));
        let path = url.to_file_path().map_err(|()| refuse("it is no path".to_owned()))?;
        crate::folder::Folder::at(path.clone()).create()?;
        let store = LocalFileSystem::new_with_prefix(&path).map_err(|error| refuse(text(&error)))?.with_fsync(true);
        let (prefix, place) = (Path::default(), format!("file://{}", url.path()));
        Ok(Opened { store: Arc::new(store), multipart: None, prefix, place, leftovers: Leftovers::Disk(path) })
    }

    async fn s3(&self, bucket: &str) -> Result<AmazonS3> {
        let options = self.keys::<AmazonS3ConfigKey>()?;
        let own =
            |key: &AmazonS3ConfigKey| matches!(key, AmazonS3ConfigKey::AccessKeyId | AmazonS3ConfigKey::SkipSignature);
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        let given = self.sdk_config.as_ref().and_then(SdkConfig::endpoint_url).map(ToOwned::to_owned);
        let mut endpoint = self.endpoint.clone().or(given).or_else(|| std::env::var(S3_ENDPOINT).ok());
        if options.iter().any(|(key, _)| own(key)) {
            if let Some(region) = &self.region {
                builder = builder.with_region(region);
            }
        } else {
            let given = Given {
                config: self.sdk_config.as_ref(),
                endpoint: self.endpoint.as_deref(),
                region: self.region.as_deref(),
                otherwise: None,
            };
            let opening = Opening::new(ErrorKind::Sink, format!("bucket \"{bucket}\""), CONFIGURE);
            let (config, _) = opening.configure(given).await?;
            if let Some(region) = config.region() {
                builder = builder.with_region(region.to_string());
            }
            if let Some(provider) = config.credentials_provider() {
                builder = builder.with_credentials(Arc::new(FromSdk(provider)));
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
        let s3 = builder.with_retry(once()).build();
        s3.map_err(|error| unusable(&format!("s3://{bucket}"), &error))
    }

    /// The options, as this kind of store knows them.
    fn keys<K: FromStr>(&self) -> Result<Vec<(K, &str)>> {
        let key = |(key, value): &'_ (String, String)| {
            let parsed = key.to_ascii_lowercase().parse::<K>();
            let unknown =
                || Error::config(format!("could not use the option \"{key}\": this store has none of that name"));
            parsed.map(|key| (key, value.clone())).map_err(|_| unknown())
        };
        let keys: Vec<(K, String)> = self.options.iter().map(key).collect::<Result<_>>()?;
        let values = self.options.iter().map(|(_, value)| value.as_str());
        Ok(keys.into_iter().map(|(key, _)| key).zip(values).collect())
    }

    /// What is set of the HTTP client.
    fn client(&self) -> Vec<(ClientConfigKey, String)> {
        let config = self.sdk_config.as_ref().and_then(SdkConfig::endpoint_url);
        let is_plain = |endpoint: &str| endpoint.starts_with("http://");
        let allows = self.endpoint.as_deref().or(config).is_some_and(is_plain);
        let time = (ClientConfigKey::Timeout, format!("{} seconds", LONGEST_CALL.as_secs()));
        let plain = allows.then(|| (ClientConfigKey::AllowHttp, "true".to_owned()));
        [Some(time), plain].into_iter().flatten().collect()
    }
}

/// Retries are ours: those of the crate would hide how long calls fail.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn unusable(place: &str, error: &object_store::Error) -> Error {
    Error::config(format!("could not use \"{place}\": {}", text(error)))
}

/// The credentials of the AWS SDK, which knows profiles, SSO and processes, and renews what runs out.
#[derive(Debug)]
struct FromSdk(SharedCredentialsProvider);

#[async_trait]
impl CredentialProvider for FromSdk {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let credentials = self.0.provide_credentials().await;
        let credentials = credentials
            .map_err(|error| object_store::Error::Unauthenticated { path: String::new(), source: Box::new(error) })?;
        Ok(Arc::new(AwsCredential {
            key_id: credentials.access_key_id().to_owned(),
            secret_key: credentials.secret_access_key().to_owned(),
            token: credentials.session_token().map(ToOwned::to_owned),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_work_are_refused_without_being_repeated() {
        for url in ["s3://bucket", "s3://bucket/a/b", "gs://b/x", "az://container/x", "file:///tmp/x"] {
            assert!(parse(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "bucket",
            "s3://",
            "s3:///x",
            "ftp://b/x",
            "http://b/x",
            "file://host/x",
            "s3://k:SECRET@b/x",
            "s3://SECRET@b/x",
            "az://c/x?sig=SECRET",
            "s3://b/x#SECRET",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
            let debug = format!("{:?}", Target::Url(Box::new(Located { url: url.to_owned(), ..Located::default() })));
            assert!(!debug.contains("SECRET"), "{debug}");
        }
    }

    #[test]
    fn options_are_shown_by_their_names_alone() {
        let options = vec![("aws_secret_access_key".to_owned(), "SECRET".to_owned())];
        let located = Located { url: "s3://b/x".to_owned(), options, ..Located::default() };
        let debug = format!("{:?}", Target::Url(Box::new(located)));
        assert!(debug.contains("aws_secret_access_key") && !debug.contains("SECRET"), "{debug}");
    }

    #[tokio::test]
    async fn options_that_a_store_does_not_know_are_refused() {
        for url in ["s3://b/x", "gs://b/x", "az://b/x"] {
            let options = vec![("colour".to_owned(), "SECRET".to_owned())];
            let located = Located { url: url.to_owned(), options, ..Located::default() };
            let error = located.open(S3_PART).await.err().unwrap().to_string();
            assert!(error.contains("\"colour\"") && !error.contains("SECRET"), "{error}");
        }
    }
}
