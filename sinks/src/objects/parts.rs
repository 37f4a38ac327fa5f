//! Puts a large object in parts, and completes it once all of them are there, and nothing else is under its name.
//!
//! S3 refuses to complete where there is an object, as it refuses to put one. Elsewhere, and where a start finds that a store
//! ignores the condition, this sink looks right before it completes: between the two calls another process (a zombie, a copy of
//! this job) can still complete an object of its own, which this one then replaces.

use std::sync::Arc;

use fail::fail_point;
use futures::{StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::{Error as StoreError, PutMultipartOptions, PutPayload};
use shardflow::Outcome;
use shardflow::metrics::RetryMetrics;
use shardflow::retry::Failed;
use shardflow::sink::Trouble;

use super::bucket::{Bucket, Found, Wanted, is_ours, is_taken};
use super::failure::{passing, trouble};
use super::pack::{Pack, Packed};

/// The most parts that every store takes: S3's 10,000.
const MOST_PARTS: u64 = 10_000;

/// The largest part where there are no calls to save: as large as memory is reused, since fresh pages cost more than writes.
const ON_DISK: u64 = 1 << 20;

/// An object that goes in parts.
pub(super) struct Parted<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) pack: &'a Arc<Pack>,
    pub(super) object: &'a Packed,
    pub(super) wanted: &'a Wanted,
    /// The least bytes of a part but the last.
    pub(super) part_bytes: u64,
    /// Parts on their way at a time, each in memory.
    pub(super) concurrency: usize,
    pub(super) retries: &'a RetryMetrics,
}

/// How an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Completed,
    /// The object is there by another call, of this process or of one that ships the same.
    There,
    /// Neither the upload nor its object is there: one begins again.
    Gone,
}

impl Parted<'_> {
    /// One attempt at the whole. `Ok`: it is there.
    ///
    /// # Errors
    /// Something else is there, or it may not be there.
    pub(super) async fn put(&self) -> Result<(), Trouble> {
        if self.bucket.has(self.wanted).await? {
            return Ok(());
        }
        match &self.bucket.multipart {
            Some(store) => self.put_with(store.as_ref()).await,
            None => self.put_without(self.length().min(ON_DISK)).await,
        }
    }

    /// Where each part can be sent again by itself.
    async fn put_with(&self, store: &dyn MultipartStore) -> Result<(), Trouble> {
        let path = &self.wanted.path;
        let options = || PutMultipartOptions { attributes: self.bucket.attributes(self.wanted), ..Default::default() };
        // A retry of this call may leave an upload behind that nobody knows of: the next start aborts it.
        let upload = match store.create_multipart_opts(path, options()).await {
            Ok(upload) => upload,
            // Azure's has no place for what describes the object.
            Err(StoreError::NotSupported { .. }) => return self.put_without(self.length()).await,
            Err(error) => return Err(unseen(trouble(&error))),
        };
        let sent: Result<Vec<PartId>, Trouble> = futures::stream::iter((0_usize..).zip(self.starts()))
            .map(|(number, start)| self.send(store, &upload, number, start))
            .buffered(self.concurrency.max(1))
            .try_collect()
            .await;
        let done = match sent {
            Ok(parts) => self.complete(store, &upload, parts).await,
            Err(trouble) => Err(unseen(trouble)),
        };
        if !matches!(done, Ok(Done::Completed)) {
            // The next start aborts it where this fails.
            let _ = store.abort_multipart(path, &upload).await;
        }
        match done? {
            Done::Completed | Done::There => Ok(()),
            Done::Gone => Err(passing("the upload is gone and its object is not there".to_owned())),
        }
    }

    async fn send(
        &self,
        store: &dyn MultipartStore,
        upload: &String,
        number: usize,
        start: u64,
    ) -> Result<PartId, Trouble> {
        fail_point!("sink-objects::before-part", |_| Err(super::failure::fatal("stopped before a part".to_owned())));
        let retries = self.bucket.retries(self.retries, format!("upload part {number} of \"{}\"", self.wanted.path));
        let call = || async {
            let _permit = self.bucket.permit().await?;
            let bytes = self.read(start).await?;
            let put = store.put_part(&self.wanted.path, upload, number, PutPayload::from(bytes)).await;
            put.map_err(|error| trouble(&error))
        };
        retries.run(call).await
    }

    async fn complete(&self, store: &dyn MultipartStore, upload: &String, parts: Vec<PartId>) -> Result<Done, Trouble> {
        fail_point!("sink-objects::before-complete", |_| Err(super::failure::fatal(
            "stopped before completing".to_owned()
        )));
        let retries = self.bucket.retries(self.retries, format!("complete the upload of \"{}\"", self.wanted.path));
        let call = || async {
            if !self.bucket.completes_where_absent && self.bucket.has(self.wanted).await? {
                return Ok(Done::There);
            }
            match store.complete_multipart(&self.wanted.path, upload, parts.clone()).await {
                Ok(_) => Ok(Done::Completed),
                Err(error) => self.settle(&error).await,
            }
        };
        retries.run(call).await
    }

    /// Looks what became of the object whose completion failed: it may be done and the answer lost, by this call or another.
    async fn settle(&self, error: &StoreError) -> Result<Done, Trouble> {
        // The upload was completed or aborted; or its name is taken, or was while this call was under way, for which S3 wants
        // all parts again.
        let is_over = matches!(error, StoreError::NotFound { .. }) || is_taken(error);
        match self.bucket.look(self.wanted).await {
            Ok(Found::Nothing) if is_over => Ok(Done::Gone),
            Err(unknown) if is_over => Err(unknown),
            Ok(Found::Nothing) | Err(_) => Err(trouble(error)),
            Ok(found) => is_ours(self.wanted, found).map(|()| Done::There),
        }
    }

    /// Where a failed part means beginning again: disks, Azure, and stores that were given without their multipart interface.
    async fn put_without(&self, length: u64) -> Result<(), Trouble> {
        let options = PutMultipartOptions { attributes: self.bucket.attributes(self.wanted), ..Default::default() };
        let begun = self.bucket.store.put_multipart_opts(&self.wanted.path, options).await;
        let mut upload = begun.map_err(|error| trouble(&error))?;
        let sent = async {
            let bytes = self.object.bytes;
            for start in (0..bytes.div_ceil(length)).map(|number| number.saturating_mul(length)) {
                let _permit = self.bucket.permit().await?;
                let bytes = read(self.pack, self.object, start, length).await?;
                upload.put_part(PutPayload::from(bytes)).await.map_err(|error| trouble(&error))?;
            }
            fail_point!("sink-objects::before-complete", |_| Err(super::failure::fatal(
                "stopped before completing".to_owned()
            )));
            if self.bucket.has(self.wanted).await? {
                return Ok(Done::There);
            }
            upload.complete().await.map(|_| Done::Completed).map_err(|error| trouble(&error))
        };
        let sent = sent.await;
        if !matches!(sent, Ok(Done::Completed)) {
            let _ = upload.abort().await;
        }
        sent.map(drop)
    }

    /// Where parts begin. All but the last are of one length, as R2 wants it.
    fn starts(&self) -> impl Iterator<Item = u64> + use<> {
        let (length, bytes) = (self.length(), self.object.bytes);
        (0..bytes.div_ceil(length)).map(move |number| number.saturating_mul(length))
    }

    fn length(&self) -> u64 {
        self.part_bytes.max(self.object.bytes.div_ceil(MOST_PARTS)).max(1)
    }

    async fn read(&self, start: u64) -> Result<Vec<u8>, Trouble> {
        read(self.pack, self.object, start, self.length()).await
    }
}

/// Of an upload that was not asked to be completed: there is no object, whatever became of its parts.
fn unseen(trouble: Trouble) -> Trouble {
    Trouble { outcome: Outcome::Determinate, ..trouble }
}

/// Reads from a pack without holding up others.
pub(super) async fn read(pack: &Arc<Pack>, object: &Packed, start: u64, length: u64) -> Result<Vec<u8>, Trouble> {
    let (pack, object) = (Arc::clone(pack), object.clone());
    let read = tokio::task::spawn_blocking(move || pack.read(&object, start, length)).await;
    let read = read.map_err(|error| super::failure::fatal(format!("could not read a pack: {error}")))?;
    read.map_err(|error| Trouble {
        may_pass: Some(Failed::Transient),
        outcome: Outcome::Determinate,
        text: error.to_string(),
    })
}
