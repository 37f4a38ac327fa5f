//! Puts objects into a store, each at most once: an object that is there already is compared, and is ours or an error.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error as StoreError, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};
use sha2::{Digest, Sha256};
use shardflow::metrics::RetryMetrics;
use shardflow::retry::{Retries, WallClock};
use shardflow::sink::Trouble;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure::{fatal, passing, trouble};
use super::pack::{Sum, hex};

/// Metadata that holds an object's SHA-256. A name that Azure takes, too.
const CHECKSUM: &str = "shardflowsha256";

/// A store, and what is known of it.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Where single parts can be sent again.
    pub(super) multipart: Option<Arc<dyn MultipartStore>>,
    /// Whether that refuses to complete an upload where there is an object of its name.
    pub(super) completes_where_absent: bool,
    /// `s3://bucket`.
    pub(super) place: String,
    /// Whether it refuses a second object of one name.
    pub(super) refuses: bool,
    /// Whether it keeps metadata.
    pub(super) describes: bool,
    pub(super) give_up_after: Duration,
    /// One for each call that has an object or a part in memory.
    pub(super) permits: Arc<Semaphore>,
}

/// An object as it should be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) path: Path,
    pub(super) bytes: u64,
    pub(super) sha256: Sum,
}

/// What is under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Ours,
    /// Something else, in words.
    Other(String),
}

impl Bucket {
    pub(super) fn retries(&self, metrics: &RetryMetrics, attempted: String) -> Retries<WallClock> {
        Retries::new(self.give_up_after, &WallClock, metrics, attempted)
    }

    /// The right to have an object or a part in memory.
    pub(super) async fn permit(&self) -> Result<SemaphorePermit<'_>, Trouble> {
        self.permits.acquire().await.map_err(|_| fatal("the sink is closed".to_owned()))
    }

    pub(super) fn attributes(&self, wanted: &Wanted) -> Attributes {
        let mut attributes = Attributes::new();
        if self.describes {
            attributes.insert(Attribute::Metadata(CHECKSUM.into()), hex(&wanted.sha256).into());
        }
        attributes
    }

    /// Puts a whole object, once. `Ok`: it is there.
    ///
    /// # Errors
    /// Something else is there, or it may not be there.
    pub(super) async fn put(&self, wanted: &Wanted, bytes: bytes::Bytes) -> Result<(), Trouble> {
        let mode = if self.refuses {
            PutMode::Create
        } else {
            if self.has(wanted).await? {
                return Ok(());
            }
            PutMode::Overwrite
        };
        let options = PutOptions { mode, attributes: self.attributes(wanted), ..Default::default() };
        match self.store.put_opts(&wanted.path, PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(()),
            Err(error) if is_taken(&error) => is_ours(wanted, self.look(wanted).await?),
            Err(error) => Err(trouble(&error)),
        }
    }

    /// Whether the object is there already, and is as it should be.
    ///
    /// # Errors
    /// Something else is there, or the store does not tell.
    pub(super) async fn has(&self, wanted: &Wanted) -> Result<bool, Trouble> {
        match self.look(wanted).await? {
            Found::Nothing => Ok(false),
            found => is_ours(wanted, found).map(|()| true),
        }
    }

    /// Compares what is under the name with what should be.
    ///
    /// # Errors
    /// The store does not tell.
    pub(super) async fn look(&self, wanted: &Wanted) -> Result<Found, Trouble> {
        let head = GetOptions { head: true, ..Default::default() };
        let found = match self.store.get_opts(&wanted.path, head).await {
            Err(StoreError::NotFound { .. }) => return Ok(Found::Nothing),
            Err(error) => return Err(trouble(&error)),
            Ok(found) => found,
        };
        if found.meta.size != wanted.bytes {
            return Ok(Found::Other(format!("{} bytes where {} are to be", found.meta.size, wanted.bytes)));
        }
        let checksum = found.attributes.get(&Attribute::Metadata(CHECKSUM.into())).map(|value| value.to_string());
        match checksum {
            Some(checksum) if checksum == hex(&wanted.sha256) => Ok(Found::Ours),
            Some(_) => Ok(Found::Other("other content of the same size".to_owned())),
            None => self.read_back(wanted).await,
        }
    }

    async fn read_back(&self, wanted: &Wanted) -> Result<Found, Trouble> {
        let got = match self.store.get(&wanted.path).await {
            Err(StoreError::NotFound { .. }) => return Ok(Found::Nothing),
            Err(error) => return Err(trouble(&error)),
            Ok(got) => got,
        };
        let (mut stream, mut sha256, mut length) = (got.into_stream(), Sha256::new(), 0_u64);
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(|error| trouble(&error))?;
            length = length.saturating_add(bytes.len() as u64);
            sha256.update(&bytes);
        }
        if length != wanted.bytes {
            return Err(passing(format!("an answer of {length} bytes where {} were announced", wanted.bytes)));
        }
        let is_same = sha256.finalize().as_slice() == wanted.sha256;
        Ok(if is_same { Found::Ours } else { Found::Other("other content of the same size".to_owned()) })
    }
}

/// Whether the store refused to write because there is an object of that name, or one is being written.
pub(super) fn is_taken(error: &StoreError) -> bool {
    matches!(error, StoreError::AlreadyExists { .. } | StoreError::Precondition { .. })
}

/// What is there after the store said that something is.
pub(super) fn is_ours(wanted: &Wanted, found: Found) -> Result<(), Trouble> {
    match found {
        Found::Ours => Ok(()),
        // Another writer of the name was under way, and has not come to its end.
        Found::Nothing => Err(passing("the store says that the object exists, and then that it does not".to_owned())),
        Found::Other(what) => Err(fatal(format!(
            "an object of the name \"{}\" is there already, with {what}: another job of this name writes here, or this state is \
             older than its output; use another prefix, or the newer state",
            wanted.path
        ))),
    }
}
