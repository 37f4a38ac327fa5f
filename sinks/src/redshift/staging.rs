//! Where files are staged: a prefix of a bucket, below it a folder a job and step.
//!
//! Names begin with the incarnation that wrote them, so a start can tell what earlier ones have left behind.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt};
use shardflow::sink::Trouble;
use shardflow::vocabulary::{Incarnation, StepName};
use shardflow::{Epoch, Error, Outcome, Result};

use crate::objects::reach::{self, Reach};

/// A folder in a bucket.
#[derive(Clone)]
pub(super) struct Staging {
    store: Arc<dyn ObjectStore>,
    /// `s3://bucket`.
    bucket: String,
    /// Of this job and step.
    folder: String,
}

impl Staging {
    /// Reads `s3://bucket/prefix`, and finds the way to the bucket unless there is a store.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](shardflow::ErrorKind::Config); [`ErrorKind::Sink`](shardflow::ErrorKind::Sink) where credentials
    /// took too long.
    pub(super) async fn open(
        url: &str,
        store: Option<Arc<dyn ObjectStore>>,
        reach: Reach<'_>,
        job: &str,
        step: &str,
    ) -> Result<Self> {
        let (bucket, prefix) = split(url)?;
        let store = match store {
            Some(store) => store,
            None => Arc::new(reach.s3(&bucket).await?),
        };
        // The store would write a "~" in another way, and Redshift would not find the key.
        let name = |text: &str| StepName::new(text).as_file_name().replace('~', ".");
        let folder = [prefix, name(job), name(step)].into_iter().filter(|part| !part.is_empty());
        Ok(Self { store, bucket: format!("s3://{bucket}"), folder: folder.collect::<Vec<_>>().join("/") })
    }

    /// What of a URL may be shown.
    pub(super) fn shown(url: &str) -> String {
        split(url).map_or_else(
            |_| "not a URL of S3".to_owned(),
            |(bucket, prefix)| {
                if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") }
            },
        )
    }

    /// `s3://bucket`.
    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key of a writer's file.
    pub(super) fn file(&self, incarnation: Incarnation, epoch: Epoch, worker: u32, part: usize) -> String {
        format!("{}/{:010}-{epoch}-{worker}-{part}.json.gz", self.folder, incarnation.number())
    }

    /// The key of what belongs to a load: `what` is its end.
    pub(super) fn of_load(&self, incarnation: Incarnation, last: Epoch, what: &str) -> String {
        format!("{}/{:010}-{last}-load-{what}", self.folder, incarnation.number())
    }

    /// How Redshift names a key.
    pub(super) fn url(&self, key: &str) -> String {
        format!("{}/{key}", self.bucket)
    }

    /// Puts a file in the place of whatever is there: the same one, put by an attempt whose answer was lost.
    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Trouble> {
        let put = self.store.put(&Path::from(key), bytes.into()).await;
        put.map(drop).map_err(|error| self.trouble("put", key, &error))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Bytes, Trouble> {
        let got = async { self.store.get(&Path::from(key)).await?.bytes().await };
        got.await.map_err(|error| self.trouble("read", key, &error))
    }

    /// Removes files, as far as possible: what stays is removed by a later start.
    pub(super) async fn remove(&self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            match self.store.delete(&Path::from(key.as_str())).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => {
                    let trouble = self.trouble("remove", &key, &error);
                    tracing::warn!(%trouble, "a staged file stays behind until the next start");
                }
            }
        }
    }

    /// Removes what earlier starts of this job and step have left behind.
    pub(super) async fn sweep(&self, before: Incarnation) {
        let folder = Path::from(self.folder.as_str());
        let found: Result<Vec<_>, _> = self.store.list(Some(&folder)).try_collect().await;
        match found {
            Ok(found) => {
                let keys = found.into_iter().map(|meta| meta.location.to_string());
                self.remove(keys.filter(|key| is_of_before(key, before))).await;
            }
            Err(error) => {
                let trouble = self.trouble("list", &self.folder, &error);
                tracing::warn!(%trouble, "files of earlier starts stay behind until the next start");
            }
        }
    }

    fn trouble(&self, attempted: &str, key: &str, error: &StoreError) -> Trouble {
        let trouble = reach::trouble(error);
        let text = format!("could not {attempted} \"{}\": {}", self.url(key), trouble.text);
        // Nothing of the bucket counts before a load names it.
        Trouble { outcome: Outcome::Determinate, text, ..trouble }
    }
}

/// Whether a key's name says that an earlier start has written it.
fn is_of_before(key: &str, before: Incarnation) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    let number = name.split_once('-').and_then(|(number, _)| number.parse::<u64>().ok());
    number.is_some_and(|number| number < before.number())
}

/// Splits `s3://bucket/prefix` into the two.
fn split(url: &str) -> Result<(String, String)> {
    let refuse = |why: &str| Error::config(format!("could not use the place where files are staged: {why}"));
    let rest = url.strip_prefix("s3://").ok_or_else(|| refuse("it is no URL like s3://bucket/prefix"))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    let is_tame = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    if bucket.is_empty() || !is_tame(bucket, ".-_") {
        return Err(refuse("its bucket is none"));
    }
    if !is_tame(prefix, "/.-_=") || prefix.split('/').any(|part| matches!(part, "." | "..")) || prefix.contains("//") {
        return Err(refuse("its prefix has other characters than letters, digits, and / . - _ ="));
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    async fn staging(url: &str) -> Staging {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        Staging::open(url, Some(store), Reach::default(), "billing@one", "charges").await.unwrap()
    }

    #[tokio::test]
    async fn each_job_and_step_has_a_folder() {
        let staging = staging("s3://b/red/A.b-c_d=e/").await;
        let key = staging.file(Incarnation::new(3), Epoch::new(7), 1, 0);
        assert!(
            key.starts_with("red/A.b-c_d=e/billing_one.") && key.ends_with("/charges/0000000003-7-1-0.json.gz"),
            "{key}"
        );
        assert_eq!(staging.url("x/y"), "s3://b/x/y");
        assert_eq!(Path::from(key.as_str()).to_string(), key, "no character of a key is written another way");
    }

    #[test]
    fn what_is_no_place_in_s3_is_refused() {
        for url in ["https://b/x", "s3://", "s3://b/../x", "s3://b/a b", "s3://b/a//b", "s3://b?x"] {
            assert!(split(url).is_err(), "{url}");
        }
        assert_eq!(split("s3://b").unwrap(), ("b".to_owned(), String::new()));
        assert_eq!(Staging::shown("s3://b/x/"), "s3://b/x");
    }

    #[tokio::test]
    async fn a_start_removes_what_earlier_ones_have_left_and_nothing_else() {
        let staging = staging("s3://b").await;
        let others = "elsewhere/0000000001-1-0-0.json.gz".to_owned();
        let (one, two) = (Incarnation::new(1), Incarnation::new(2));
        let left = [staging.file(one, Epoch::new(7), 0, 0), staging.of_load(one, Epoch::new(7), "manifest")];
        let ours = staging.file(two, Epoch::new(8), 0, 0);
        for key in left.iter().chain([&ours, &others]) {
            staging.put(key, Bytes::from_static(b"x")).await.unwrap();
        }
        staging.sweep(two).await;
        for key in &left {
            assert_eq!(staging.get(key).await.unwrap_err().may_pass, None);
        }
        staging.get(&ours).await.unwrap();
        staging.get(&others).await.unwrap();
    }
}
