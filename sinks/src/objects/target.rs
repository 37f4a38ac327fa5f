//! Where objects go: finds the store that a URL names, with its credentials, from the settings and the environment.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aws_config::SdkConfig;
use object_store::ObjectStore;
use object_store::aws::AmazonS3;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use shardflow::{Error, Result};
use shardflow_aws::config::check_endpoint;
use url::Url;

use super::failure::text;
use super::reach::{Reach, once};

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

impl Located {
    /// What of the URL may be shown.
    fn place(&self) -> String {
        parse(&self.url).map_or_else(|_| "a place that is no URL of a store".to_owned(), |url| url.to_string())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(located) => f.write_str(&located.place()),
            Self::Store { store, prefix, .. } => write!(f, "{store}, below \"{prefix}\""),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(located) => {
                let options: Vec<&String> = located.options.iter().map(|(key, _)| key).collect();
                f.debug_struct("Url")
                    .field("place", &located.place())
                    .field("options", &options)
                    .finish_non_exhaustive()
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
    /// The same, where it can be asked to complete an upload only if there is no object of that name.
    pub(super) absent: Option<Arc<dyn MultipartStore>>,
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
                Ok(Opened { store, multipart, absent: None, prefix, place, leftovers: Leftovers::Hidden })
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
        // Of all stores alike, and before one of them can tell of it.
        if let Some(Err(why)) = self.endpoint.as_deref().map(check_endpoint) {
            return Err(Error::config(format!("could not use the endpoint of \"{place}\": {why}")));
        }
        let mut absent: Option<Arc<dyn MultipartStore>> = None;
        let (store, multipart, leftovers): (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>, _) = match url.scheme() {
            "s3" => {
                let (s3, where_absent) = self.reach().s3_and_where_absent(bucket).await?;
                absent = Some(Arc::new(where_absent));
                (Arc::new(s3.clone()), Arc::new(s3.clone()), Leftovers::S3(s3))
            }
            "gs" => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                for (key, value) in self.reach().client() {
                    builder = builder.with_config(GoogleConfigKey::Client(key), value);
                }
                for (key, value) in self.reach().keys::<GoogleConfigKey>()? {
                    builder = builder.with_config(key, value);
                }
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint);
                }
                let gs = builder.with_retry(once()).build();
                let gs = Arc::new(gs.map_err(|error| self.reach().unusable(&place, &error))?);
                (Arc::clone(&gs) as _, gs, Leftovers::Hidden)
            }
            _ => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                for (key, value) in self.reach().client() {
                    builder = builder.with_config(AzureConfigKey::Client(key), value);
                }
                for (key, value) in self.reach().keys::<AzureConfigKey>()? {
                    builder = builder.with_config(key, value);
                }
                if let Some(endpoint) = &self.endpoint {
                    builder = builder.with_endpoint(endpoint.clone());
                }
                let azure = builder.with_retry(once()).build();
                let azure = Arc::new(azure.map_err(|error| self.reach().unusable(&place, &error))?);
                (Arc::clone(&azure) as _, azure, Leftovers::Hidden)
            }
        };
        Ok(Opened { store, multipart: Some(multipart), absent, prefix, place, leftovers })
    }

    fn disk(&self, url: &Url) -> Result<Opened> {
        let refuse = |cause: String| Error::config(format!("could not use the folder of \"{url}\": {cause}"));
        let path = url.to_file_path().map_err(|()| refuse("it is no path".to_owned()))?;
        crate::folder::Folder::at(path.clone()).create()?;
        let store = LocalFileSystem::new_with_prefix(&path).map_err(|error| refuse(text(&error)))?.with_fsync(true);
        let (prefix, place) = (Path::default(), format!("file://{}", url.path()));
        let (store, leftovers) = (Arc::new(store), Leftovers::Disk(path));
        Ok(Opened { store, multipart: None, absent: None, prefix, place, leftovers })
    }

    fn reach(&self) -> Reach<'_> {
        let Self { url: _, endpoint, region, sdk_config, options } = self;
        let (endpoint, region) = (endpoint.as_deref(), region.as_deref());
        Reach { endpoint, region, sdk_config: sdk_config.as_ref(), options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardflow::ErrorKind;

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
    async fn an_endpoint_with_credentials_is_refused_wherever_it_comes_from_and_not_repeated() {
        let bad = "https://user:SECRET@host";
        let located = |url: &str| Located { url: url.to_owned(), region: Some("r".to_owned()), ..Located::default() };
        let given = |url: &str| Located { endpoint: Some(bad.to_owned()), ..located(url) };
        let sdk_config = aws_config::SdkConfig::builder().endpoint_url(bad).build();
        let options = [("aws_endpoint", bad), ("aws_skip_signature", "true")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        for located in [
            given("s3://b/x"),
            given("gs://b/x"),
            given("az://b/x"),
            Located { sdk_config: Some(sdk_config), ..located("s3://b/x") },
            Located { options, ..located("s3://b/x") },
        ] {
            let error = located.open(S3_PART).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            let error = format!("{error} {error:?}");
            assert!(error.contains("it holds a user name") && !error.contains("SECRET"), "{error}");
        }
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
