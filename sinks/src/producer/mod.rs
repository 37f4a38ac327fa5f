//! Puts records into an Amazon Kinesis data stream: batched, packed, sent again where need be, with a receipt for each.
//!
//! What enters: records, by [`Producer::put`], from any number of tasks. What leaves: PutRecords calls, and for each record a
//! [`Receipt`]: where it is, or why it is not there. What survives a crash: what the service had taken; a program that must not
//! lose records keeps each until its receipt is there. This is what the Kinesis Producer Library is for Java.
//!
//! # Batches
//! A record waits up to [`linger`](ProducerSettings::linger) for others to go with, less where there is enough for a full call or
//! somebody waits. What is put and not yet in the stream is bounded ([`buffer_bytes`](ProducerSettings::buffer_bytes)): a put
//! waits for room.
//!
//! # Sent again
//! * Of a call that was carried out in part, only the records that were refused go again. Throttling is waited out for as long
//!   as it lasts, other failures that may pass until [`give_up_after`](ProducerSettings::give_up_after); then the receipt says
//!   so. Where nothing else has come back for as long, what has waited for as long without being sent is given up with it.
//! * A call whose answer was lost may have been carried out. Its records go again all the same: a record twice is better than
//!   none. So a record is in the stream at least once, and [`Placed::maybe_repeated`] marks those that may be there twice.
//! * A record that the service would never take (too large, an empty key, a bad hash key) is refused in its receipt and holds up
//!   no other. Where the service refuses a call and does not say for which record, its records go in ever smaller calls until
//!   that is known.
//!
//! # Order
//! By default there is none. With [`ordered`](ProducerSettings::ordered) the records of a partition key (or of an explicit hash
//! key, where they have one) come into the stream in the order they were put: none goes while an earlier one is not
//! acknowledged. A call then holds each key once, so a key gets as many records a second as there are round trips; packed
//! records are far faster, since an aggregate holds many of a key in their order. A record that is refused or given up leaves a
//! gap, and those behind it go on. A call that was given up as lost while the service was still at it can bring a repeated
//! record late.
//!
//! # Aggregates
//! With [`aggregate`](ProducerSettings::aggregate) records are packed in the format of the Kinesis Producer Library, those of one
//! shard together, as the hash of their keys predicts it; each aggregate carries an explicit hash key of that shard. Readers must
//! open them. Where an answer names another shard, the stream has been resharded: the shards are listed anew, at most once a
//! second, nothing goes until then, and a record that lies in a shard which its hash key is not of goes again, because the Kinesis
//! Client Library would drop it there. Where the shards cannot be listed within 10 s, each record goes alone, and they are asked for
//! again each minute. Data that is an aggregate itself is packed as long as a record has room for that, so that readers find it as it was put.
//!
//! Aggregates go to each shard as fast as the service takes them, and no faster ([`rate_limit`](ProducerSettings::rate_limit)): what
//! is refused has been sent for nothing. A shard that has had nothing for a second gets a second's worth at once, and then
//! evenly. One that refuses is let alone for some tens of milliseconds, longer each time, and what was refused goes first.
//! What waits for one shard delays no other, and takes no record of another out of its aggregate.
//!
//! # Rooms
//! `scheduler` decides, with `lanes`, `answers`, `placing`, `pace`, `eras` and `health`; it is pure, and tested with random failures.
//! `pack`, `record` and `body` know the formats and the limits. `driver` makes the calls, through `edge`. The metrics are in [`metrics`].

mod answers;
mod body;
mod connect;
mod driver;
mod edge;
mod eras;
mod health;
mod item;
mod lanes;
pub mod metrics;
mod pace;
mod pack;
mod placing;
mod receipt;
mod record;
mod scheduler;
mod settings;
mod shards;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ::metrics::Label;
use shardflow::retry::{Clock, WallClock};
use shardflow::sink::Trouble;
use shardflow::{Error, Result};
use tokio::task::AbortHandle;

pub use pack::Aggregation;
pub use receipt::{NotPut, Placed, Receipt, RefusedRecord};
pub use record::Record;
pub use settings::ProducerSettings;

use driver::Driver;
use edge::Service;
use metrics::Metrics;
use scheduler::Scheduler;
use shards::ShardMap;
use shared::{Busy, Flush, Shared, Unseen};

/// Puts records into one stream. Cheap to clone: all clones share one buffer and its calls.
///
/// When the last clone is dropped, what was put is still sent as long as the runtime lives; [`close`](Self::close) waits for it.
///
/// # Examples
/// ```no_run
/// use shardflow_sinks::producer::{Producer, ProducerSettings, Record};
///
/// # async fn put() -> shardflow::Result<()> {
/// let producer = Producer::open(ProducerSettings::stream("usage").region("eu-west-1").ordered()).await?;
/// let receipt = producer.put(Record::new("acme", r#"{"n":1}"#)).await;
/// let placed = receipt.await?;
/// assert!(placed.shard.starts_with("shardId-"));
/// producer.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    description: String,
    record_bytes: usize,
    /// Whether it matters where records lie among the hash keys.
    places: bool,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
    driver: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Producer {
    /// Reaches the stream. Must be called on a tokio runtime, which then makes the calls.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](shardflow::ErrorKind::Config): a bad name, region or endpoint, no credentials, or the service
    /// refuses (no such stream, no permission). [`ErrorKind::Sink`](shardflow::ErrorKind::Sink): it could not be reached.
    pub async fn open(settings: ProducerSettings) -> Result<Self> {
        let metrics = Metrics::register(&[Label::new("stream", settings.stream.clone())], None);
        Self::open_counted(&settings, metrics).await
    }

    /// Reaches the stream, and counts with `metrics`.
    pub(crate) async fn open_counted(settings: &ProducerSettings, metrics: Metrics) -> Result<Self> {
        metrics::describe();
        let (stream, shards) = connect::connect(settings).await?;
        let description = stream.description.clone();
        Ok(Self::start(settings, stream, WallClock, shards, description, metrics))
    }

    fn start<S: Service, C: Clock>(
        settings: &ProducerSettings,
        service: S,
        clock: C,
        shards: Option<ShardMap>,
        description: String,
        metrics: Metrics,
    ) -> Self {
        let aggregation = settings.packing().zip(shards);
        let scheduler = Scheduler::new(settings.limits(), settings.is_ordered, aggregation);
        let places = scheduler.places();
        let shared = Arc::new(Shared::new(scheduler, settings.buffer_bytes, metrics));
        let now = clock.clone();
        let driver = Driver::new(Arc::clone(&shared), service, clock, description.clone(), settings.give_up_after);
        let driver = tokio::spawn(driver.run()).abort_handle();
        let record_bytes = settings.record_bytes;
        let handle = Handle { shared, description, record_bytes, places, now: Box::new(move || now.now()), driver };
        Self { handle: Arc::new(handle) }
    }

    /// Puts a record: waits while the buffer is full, and gives a receipt that tells, once awaited, what became of it.
    ///
    /// # Cancel safety
    /// Given up before it is ready, nothing was put.
    pub async fn put(&self, record: Record) -> Receipt {
        let shared = &self.handle.shared;
        if let Err(reason) = record.check(self.handle.record_bytes) {
            return shared.refused(reason, record);
        }
        let hash = self.place(&record);
        let full = match shared.try_put(record, hash, (self.handle.now)()) {
            Ok(receipt) => return receipt,
            Err(Busy::Full(record)) => record,
            Err(Busy::Closed) => return shared.closed(),
        };
        let put = shared.put(full, hash, &self.handle.now).await;
        put.unwrap_or_else(|_| shared.closed())
    }

    /// Puts a record if the buffer has room for it.
    ///
    /// # Errors
    /// The record, where there is no room.
    pub fn try_put(&self, record: Record) -> Result<Receipt, Record> {
        let shared = &self.handle.shared;
        if let Err(reason) = record.check(self.handle.record_bytes) {
            return Ok(shared.refused(reason, record));
        }
        let hash = self.place(&record);
        match shared.try_put(record, hash, (self.handle.now)()) {
            Ok(receipt) => Ok(receipt),
            Err(Busy::Full(record)) => Err(record),
            Err(Busy::Closed) => Ok(shared.closed()),
        }
    }

    /// Where a record lies among the hash keys, which costs the digest of its key; 0 where nobody asks.
    fn place(&self, record: &Record) -> u128 {
        if self.handle.places { record.hash() } else { 0 }
    }

    /// Sends everything that was put until now at once, and waits until all of it is in the stream, refused or given up.
    ///
    /// # Errors
    /// A record was not put, and its receipt had been dropped by then. Each is told of once.
    pub async fn flush(&self) -> Result<()> {
        let is_over = match self.handle.shared.flush() {
            Flush::Over => true,
            Flush::Waits(over) => over.await.is_ok(),
            Flush::Never => false,
        };
        let stream = &self.handle.description;
        if !is_over {
            return Err(Error::sink(format!("could not put all records into {stream}"))
                .caused_by(receipt::stopped())
                .indeterminate());
        }
        match self.handle.shared.unseen() {
            Unseen { first: None, .. } => Ok(()),
            Unseen { first: Some(first), records } => {
                let error = Error::from(first.clone());
                let text =
                    format!("could not put {records} records into {stream}, whose receipts were dropped; the first");
                let told = Error::sink(text).caused_by(first);
                Err(if error.outcome() == shardflow::Outcome::Indeterminate { told.indeterminate() } else { told })
            }
        }
    }

    /// Takes no more records, from no clone, and waits as [`flush`](Self::flush) does.
    ///
    /// # Errors
    /// As of [`flush`](Self::flush).
    pub async fn close(&self) -> Result<()> {
        self.handle.shared.close();
        self.flush().await
    }

    /// What was put until now goes at once. Waits for nothing.
    pub(crate) fn hurry(&self) {
        self.handle.shared.hurry();
    }

    /// Why a record could not be put, if one could not.
    pub(crate) fn failure(&self) -> Option<&Trouble> {
        self.handle.shared.failure()
    }

    /// Ends at once. Records under way may or may not come into the stream.
    pub(crate) fn abort(&self) {
        self.handle.driver.abort();
    }

    /// `stream "usage" at …`
    pub(crate) fn describe(&self) -> &str {
        &self.handle.description
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("stream", &self.handle.description).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "producer_tests.rs"]
mod tests;
