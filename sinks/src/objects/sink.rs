//! The sink with its settings.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use shardflow::{EventTime, Record};

use super::archive::{Archive, Origin};
use super::settings::{Absent, Rejected, Settings};
use super::target::{Located, Target};
use crate::encode::FileFormat;
use crate::format::Ndjson;
use crate::partition::{PartitionBy, PartitionValue, TimeOf, partition_by};

/// Writes each committed record to objects below `url`, exactly once: NDJSON, a record a line, unless
/// [`ObjectSink::format`] says otherwise.
///
/// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`. Credentials, regions and endpoints
/// come from the environment, as the clouds' own tools have it, or from the settings.
///
/// # Examples
/// ```
/// use shardflow::{EventTime, seconds};
/// use shardflow_sinks::{Ndjson, ObjectSink, objects};
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Charge {
///     account: String,
///     cents: u64,
///     at: EventTime,
/// }
/// let charges: ObjectSink<Charge, _> = objects("s3://billing/charges")
///     .partitioned_by("dt={yyyy-MM-dd}/account={account}")
///     .event_time(|charge: &Charge| charge.at)
///     .format(Ndjson.gzip())
///     .roll_bytes(256 << 20)
///     .roll_after(seconds(300));
/// assert!(format!("{charges:?}").contains("s3://billing/charges"));
/// ```
pub fn objects<T: Record>(url: impl Into<String>) -> ObjectSink<T> {
    ObjectSink::to(Target::Url(Box::new(Located { url: url.into(), ..Located::default() })))
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
    pub(super) target: Target,
    pub(super) format: F,
    pub(super) partitions: PartitionBy<T>,
    pub(super) is_partitioned: bool,
    pub(super) time: Option<TimeOf<T>>,
    pub(super) archive: Option<Archive<T>>,
    pub(super) settings: Settings,
}

impl<T: Record> ObjectSink<T> {
    fn to(target: Target) -> Self {
        let partitions = partition_by("").serde_fields();
        let settings = Settings::default();
        Self { target, format: Ndjson, partitions, is_partitioned: false, time: None, archive: None, settings }
    }
}

impl<T, F: Clone> Clone for ObjectSink<T, F> {
    fn clone(&self) -> Self {
        Self {
            target: self.target.clone(),
            format: self.format.clone(),
            partitions: self.partitions.clone(),
            is_partitioned: self.is_partitioned,
            time: self.time.clone(),
            archive: self.archive.clone(),
            settings: self.settings.clone(),
        }
    }
}

impl<T, F: fmt::Debug> fmt::Debug for ObjectSink<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSink")
            .field("target", &self.target)
            .field("format", &self.format)
            .field("partitions", &self.is_partitioned.then_some(&self.partitions))
            .field("archive", &self.archive)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<T: Record, F> ObjectSink<T, F> {
    /// Writes files of another format: `Ndjson.gzip()`, `csv()`, `Avro`, `Parquet`. Default: NDJSON.
    #[must_use]
    pub fn format<G: FileFormat<T>>(self, format: G) -> ObjectSink<T, G> {
        let Self { target, format: _, partitions, is_partitioned, time, archive, settings } = self;
        ObjectSink { target, format, partitions, is_partitioned, time, archive, settings }
    }

    /// Puts each record into the folder that a template gives it, `dt={yyyy-MM-dd}/hour={HH}/account={account}` say; by default
    /// there is none. See [`partition`](crate::partition) for what may stand in it.
    ///
    /// Times are those of [`ObjectSink::event_time`]; other names are fields of the record as serde calls them, or what
    /// [`ObjectSink::partition_field`] says. A spool file becomes one object for each partition in it: with many partitions,
    /// let it grow large. A record without such a folder is one that cannot be written.
    #[must_use]
    pub fn partitioned_by(mut self, template: impl Into<String>) -> Self {
        self.partitions = self.partitions.template(template);
        self.is_partitioned = true;
        self
    }

    /// Where a record's event time is, for [`ObjectSink::partitioned_by`] and [`ObjectSink::roll_window`].
    #[must_use]
    pub fn event_time(mut self, of: impl Fn(&T) -> EventTime + Send + Sync + 'static) -> Self {
        let of: TimeOf<T> = Arc::new(of);
        self.partitions = self.partitions.time(Arc::clone(&of));
        self.time = Some(of);
        self
    }

    /// The time zone that a template's days and hours are told in, by its IANA name; default UTC. Where clocks are put back,
    /// two hours share a folder.
    #[must_use]
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.partitions = self.partitions.time_zone(name);
        self
    }

    /// What a name in the template stands for, where it is no field of the record.
    #[must_use]
    pub fn partition_field(
        mut self,
        name: impl Into<String>,
        of: impl Fn(&T) -> PartitionValue + Send + Sync + 'static,
    ) -> Self {
        self.partitions = self.partitions.field(name, of);
        self
    }

    /// Names objects as the archive of a stream: `usage.shardId-000000000003-<first>-<last>-…`, with the first and last
    /// sequence number in each, and gives each shard objects of its own. By default names tell job, step, epochs and worker.
    ///
    /// For `Sourced` records, `origin` is `Origin::of`. A record without a sequence number is one that cannot be written.
    ///
    /// # Examples
    /// ```
    /// use shardflow::Sourced;
    /// use shardflow_sinks::{ObjectSink, Origin, objects};
    ///
    /// let archive: ObjectSink<Sourced<String>> = objects("s3://archive/usage").archive("usage", Origin::of);
    /// assert!(format!("{archive:?}").contains("usage"));
    /// ```
    #[must_use]
    pub fn archive(
        mut self,
        stream: impl AsRef<str>,
        origin: impl for<'a> Fn(&'a T) -> Origin<'a> + Send + Sync + 'static,
    ) -> Self {
        self.archive = Some(Archive::new(stream.as_ref(), Arc::new(origin)));
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

    /// Gives each span of event time objects of its own, and ships a worker's spool file with the first epoch that closes after
    /// it has seen a record as late as the end of the file's first window, plus `lateness`. A record that comes even later
    /// goes into another object of its window. Needs [`ObjectSink::event_time`]; `span` at least 1 ms, in whole milliseconds.
    /// The other limits hold as well.
    #[must_use]
    pub fn roll_window(mut self, span: Duration, lateness: Duration) -> Self {
        self.settings.roll_window = Some((span, lateness));
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

    /// How many bytes the encoders of a spool file may hold together, at least 1; default 128 MiB. Two spool files are packed at
    /// a time. What is beyond is written early: as smaller row groups of Parquet, or blocks of Avro.
    #[must_use]
    pub fn encoding_bytes(mut self, bytes: usize) -> Self {
        self.settings.encoding_bytes = bytes;
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
