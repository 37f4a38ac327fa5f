//! The sink with its settings, and what it opens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use shardflow::sink::{Committer, Sink, SinkContext, SinkWriter};
use shardflow::{Error, Record, Result};
use tokio::sync::Semaphore;

use super::bucket::Bucket;
use super::committer::ObjectCommitter;
use super::folder::Folder;
use super::format::FileFormat;
use super::keys::Keys;
use super::metrics::ShippingMetrics;
use super::names::LOCK;
use super::packer::{Packer, Partition};
use super::settings::{Absent, Rejected, Settings};
use super::shape;
use super::shipper::{Shipper, Shipping};
use super::start;
use super::target::{Located, Target};
use super::upload::Uploads;
use super::writer::Spooler;
use crate::format::Ndjson;

/// Writes each committed record to objects below `url`, exactly once: NDJSON, a record a line.
///
/// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`. Credentials, regions and endpoints
/// come from the environment, as the clouds' own tools have it, or from the settings.
///
/// # Examples
/// ```
/// use shardflow_sinks::{Ndjson, ObjectSink, objects};
/// use std::time::Duration;
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Charge {
///     day: String,
///     cents: u64,
/// }
/// let charges: ObjectSink<Charge, _> = objects("s3://billing/charges")
///     .format(Ndjson.gzip())
///     .partition_by(|charge: &Charge| format!("day={}", charge.day))
///     .roll_bytes(256 << 20)
///     .roll_after(Duration::from_secs(300));
/// assert!(format!("{charges:?}").contains("s3://billing/charges"));
/// ```
pub fn objects<T: Record>(url: impl Into<String>) -> ObjectSink<T> {
    ObjectSink::to(Target::Url(Located { url: url.into(), ..Located::default() }))
}

/// As [`objects`], to a store of the user's own, below `prefix`.
///
/// Give it no retries of its own, or few: this sink waits failures out itself. Its `Display` must stay the same between starts
/// and name no secret: it tells where a set belongs that a crash has interrupted.
///
/// # Examples
/// ```
/// use shardflow::testing::sink::{Driver, Promise};
/// use shardflow_sinks::objects_in;
/// use std::sync::Arc;
///
/// let store = Arc::new(object_store::memory::InMemory::new());
/// let sink = objects_in::<u64>(store, "numbers").roll_after(std::time::Duration::ZERO);
/// let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, Vec::new);
/// job.try_start(1)?;
/// # Ok::<(), shardflow::Error>(())
/// ```
pub fn objects_in<T: Record>(store: Arc<dyn ObjectStore>, prefix: impl Into<String>) -> ObjectSink<T> {
    ObjectSink::to(Target::Store { store, multipart: None, prefix: prefix.into() })
}

/// Objects in a store. Made by [`objects`] and [`objects_in`].
pub struct ObjectSink<T, F = Ndjson> {
    target: Target,
    format: F,
    partition: Option<Partition<T>>,
    settings: Settings,
}

impl<T> ObjectSink<T> {
    fn to(target: Target) -> Self {
        Self { target, format: Ndjson, partition: None, settings: Settings::default() }
    }
}

impl<T, F: Clone> Clone for ObjectSink<T, F> {
    fn clone(&self) -> Self {
        let (target, format, partition) = (self.target.clone(), self.format.clone(), self.partition.clone());
        Self { target, format, partition, settings: self.settings.clone() }
    }
}

impl<T, F: fmt::Debug> fmt::Debug for ObjectSink<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSink")
            .field("target", &self.target)
            .field("format", &self.format)
            .field("is_partitioned", &self.partition.is_some())
            .field("settings", &self.settings)
            .finish()
    }
}

impl<T: Record, F> ObjectSink<T, F> {
    /// Writes files of another format; NDJSON by default.
    #[must_use]
    pub fn format<G: FileFormat<T>>(self, format: G) -> ObjectSink<T, G> {
        let Self { target, format: _, partition, settings } = self;
        ObjectSink { target, format, partition, settings }
    }

    /// Puts each record into the folder that `partition` names, `day=2026-11-27/hour=3` say; by default there is none.
    ///
    /// At most 700 bytes, each folder at most 200, and not beginning with `_`; what stores do not take is percent-encoded. A
    /// spool file becomes one object for each partition in it: with many partitions, let it grow large.
    #[must_use]
    pub fn partition_by(mut self, partition: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        self.partition = Some(Arc::new(partition));
        self
    }

    /// Ships a worker's spool file once it has this many bytes, as they are spooled: about as many as the records have in
    /// memory. At least 1; default 128 MiB.
    #[must_use]
    pub fn roll_bytes(mut self, bytes: u64) -> Self {
        self.settings.roll_bytes = bytes;
        self
    }

    /// Ships a worker's spool file once it has this many records. At least 1; default: no such limit.
    #[must_use]
    pub fn roll_records(mut self, records: u64) -> Self {
        self.settings.roll_records = records;
        self
    }

    /// Ships a worker's spool file with the first epoch that closes this long after it was begun; default 1 min.
    ///
    /// Zero: each epoch becomes objects of its own, and its commit ends when they are visible.
    #[must_use]
    pub fn roll_after(mut self, time: Duration) -> Self {
        self.settings.roll_after = time;
        self
    }

    /// Writes records that cannot be written into objects under `_rejected/`, each as JSON with the reason. Without this such
    /// a record stops the job.
    #[must_use]
    pub fn keep_rejected(mut self) -> Self {
        self.settings.rejected = Rejected::Keep;
        self
    }

    /// Goes on where the store cannot refuse a second object of one name. See the module about what that means.
    #[must_use]
    pub fn without_put_if_absent(mut self) -> Self {
        self.settings.absent = Absent::Looked;
        self
    }

    /// How many committed bytes may wait to be shipped before commits wait, which slows the sources; default 1 GiB.
    #[must_use]
    pub fn unshipped_bytes(mut self, bytes: u64) -> Self {
        self.settings.unshipped_bytes = bytes;
        self
    }

    /// How many objects and parts are on their way at a time, each in memory; at least 1, default 4.
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.settings.concurrency = calls;
        self
    }

    /// Objects larger than this go in parts of this many bytes (more where there would be more than 10,000 parts); default
    /// 8 MiB. Stores want at least 5 MiB.
    #[must_use]
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.settings.part_bytes = bytes;
        self
    }

    /// After how long of nothing but failures other than throttling the job fails; 5 min by default.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.settings.give_up_after = time;
        self
    }

    /// Takes the time for [`ObjectSink::roll_after`] from `now`, which must not go back. For tests.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.settings.clock = Arc::new(now);
        self
    }

    /// Another endpoint than the cloud's own: a URL. Only with a URL.
    #[must_use]
    pub fn endpoint(self, url: impl Into<String>) -> Self {
        self.located(|located| located.endpoint = Some(url.into()))
    }

    /// The AWS region, instead of that of the environment. Only with `s3://`.
    #[must_use]
    pub fn region(self, name: impl Into<String>) -> Self {
        self.located(|located| located.region = Some(name.into()))
    }

    /// An AWS configuration of the user's own: credentials, region, endpoint. Only with `s3://`.
    #[must_use]
    pub fn sdk_config(self, config: SdkConfig) -> Self {
        self.located(|located| located.sdk_config = Some(config))
    }

    /// An option of the store, by its name in the crate `object_store`: `google_service_account_path`,
    /// `azure_storage_account_name`, `aws_access_key_id`. Only with a URL. Values are shown nowhere.
    #[must_use]
    pub fn option(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.located(|located| located.options.push((name.into(), value.into())))
    }

    /// The interface of the user's own store to single parts: a part that fails is then sent again alone. Only with
    /// [`objects_in`].
    #[must_use]
    pub fn multipart_store(mut self, store: Arc<dyn MultipartStore>) -> Self {
        if let Target::Store { multipart, .. } = &mut self.target {
            *multipart = Some(store);
        }
        self
    }

    fn located(mut self, set: impl FnOnce(&mut Located)) -> Self {
        if let Target::Url(located) = &mut self.target {
            set(located);
        }
        self
    }
}

impl<T: Record, F: FileFormat<T>> ObjectSink<T, F> {
    fn open(&self, context: &SinkContext) -> Result<ObjectCommitter> {
        let Settings { give_up_after, concurrency, part_bytes, absent, rejected, roll_after, .. } = self.settings;
        self.settings.check()?;
        drop(self.format.encoder()?);
        let folder = Folder::at(context.folder.clone());
        folder.create()?;
        let lock = folder.lock(LOCK)?;
        let opened = context.runtime.block_on(self.target.open(part_bytes))?;
        let keys = Keys::new(opened.prefix, &context.job, &context.step);
        let mut bucket = Bucket {
            store: opened.store,
            multipart: opened.multipart,
            place: opened.place,
            refuses: false,
            describes: false,
            give_up_after,
            permits: Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS))),
        };
        context.runtime.block_on(start::probe(&mut bucket, &keys, absent))?;
        let packer = Packer {
            folder: folder.clone(),
            keys: keys.clone(),
            place: bucket.place.clone(),
            format: self.format.clone(),
            partition: self.partition.clone(),
            rejected,
            shape: shape::of::<T>(),
            job: context.job.clone(),
            step: context.step.to_string(),
        };
        let shipper = Shipper::start(Shipping {
            folder: folder.clone(),
            step: context.step.clone(),
            packing: Box::new(packer),
            uploads: Uploads { bucket: bucket.clone(), part_bytes, concurrency },
            runtime: context.runtime.clone(),
            metrics: ShippingMetrics::register(context.step.as_str()),
        })?;
        Ok(ObjectCommitter {
            shipper,
            folder,
            step: context.step.to_string(),
            incarnation: context.incarnation.number(),
            committed: context.committed,
            unshipped_bytes: if roll_after.is_zero() { 0 } else { self.settings.unshipped_bytes.max(1) },
            bucket,
            keys,
            leftovers: opened.leftovers,
            runtime: context.runtime.clone(),
            held: BTreeMap::new(),
            mark: None,
            _lock: lock,
        })
    }
}

impl<T: Record, F: FileFormat<T>> Sink<T> for ObjectSink<T, F> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let committer = self.open(context).map_err(|error| error.in_step(context.step.as_str()))?;
        Ok(Box::new(committer))
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        let number = u32::try_from(worker)
            .map_err(|cause| Error::config(format!("worker {worker} is too many")).caused_by(cause))?;
        let (folder, step) = (Folder::at(context.folder.clone()), context.step.as_str());
        let (shape, settings) = (shape::of::<T>(), self.settings.clone());
        Ok(Box::new(Spooler::new(folder, step, context.incarnation.number(), number, shape, settings)))
    }
}
