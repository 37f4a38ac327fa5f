//! Writes each record to an item of a DynamoDB table, so that writing it twice is the same as writing it once.
//!
//! *Enters*: records. *Leaves*: one item a key, an attribute for each of the record's fields. *Survives a crash*: nothing
//! here; the table keeps what it has, and the replay writes again what may be missing. Since writing twice changes nothing, the
//! table ends up as if every record had been written exactly once.
//!
//! # Which mode
//! | mode | for | what a replay does | what a process does that should be dead |
//! |---|---|---|---|
//! | [`newest_by`](DynamoDb::newest_by) | items that change, with a version of the data | nothing | nothing |
//! | [`newest`](DynamoDb::newest) | items that change | goes through their states again | nothing |
//! | [`put`](DynamoDb::put) | items that never change under their key | writes the same again | the same |
//! | [`put_or_delete`](DynamoDb::put_or_delete) | those that are taken away again | see there | see there |
//!
//! *Guarded* writes (`newest`) are one PutItem for each item, with the condition that the table's version of it is absent or
//! earlier; a version that is not later counts as done, since the table has that state already or a later one. *Batches* are
//! BatchWriteItem calls of up to 25 items. They need fewer calls, know no conditions, and have no order among one another: an
//! item that changes under its key could go back to an older state.
//!
//! # Versions
//! Which of two states of an item is the later says the engine by default: a later start of the job comes after every earlier
//! one, in one start a later epoch, and in an epoch each record after those before it. The table ends with what the latest start wrote last; until a
//! replay has caught up it may show an older state than the crashed process had written.
//!
//! Better is a number of the record's own that is a function of the data alone, such as how many records a total counts. Then
//! the state that counts more is the later one, however a replay cuts its epochs, no item ever goes back, and once all is
//! counted every attempt has the same. A number that counts something else (how often a window has fired, say) may stand for
//! another state after a crash: [`Newest::later_starts_win`] puts the number of the start before it. How versions are stored
//! is told at [`ItemVersion`].
//!
//! # Why nothing is added up
//! A counter of DynamoDB's own (`ADD`) would count a record again whenever a call is made again, after a lost answer or a
//! crash. So an aggregate is kept in the job, where it is counted exactly once, and written as an absolute value with its version.
//!
//! # What goes wrong
//! What DynamoDB can never take is refused, item by item, and goes to the rejected output: NaN, numbers of more than 38 digits,
//! a key that is absent, empty, too long or of another type than the table's (or an index's), an item of more than 400 KB, and
//! whatever the service itself calls invalid. Where it does not say which item of a batch that is, the batch is halved until it
//! is alone. A busy table (throttles, unprocessed items) is waited for as long as it lasts, at a [pace](DynamoDb) that is
//! lowered at once and found anew. Other failures that may pass are tried again until nothing else was seen for
//! [`give_up_after`](shardflow::sink::AtLeastOnce::give_up_after). The metrics are in [`metrics`].
//!
//! # Secrets
//! Credentials show in no error, no `Debug`, no rejected output and not in the job's state, also where the service says back
//! all that it was sent, as AWS does where a signature is wrong. The AWS SDK's own log has at `TRACE` whose key it signs with, and
//! each answer as it came (`aws_smithy_runtime`): leave it at `DEBUG` where the log is not to be trusted with them.
//!
//! # What it does not promise
//! A reader may see results before their epoch is committed. One item at a time: there are no transactions over several.

mod attributes;
mod batches;
mod connect;
mod guarded;
mod merge;
pub mod metrics;
mod pace;
mod schema;
mod search;
mod trouble;
mod version;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use shardflow::sink::{Destination, SinkContext};
use shardflow::source::BoxFuture;
use shardflow::{Error, Result};

pub use version::ItemVersion;
pub use writer::{ItemEntry, ItemWriter};

use metrics::ItemMetrics;
use writer::{Guard, Plan, Versions};

/// Writes to the DynamoDB table of this name, or of this ARN, whose region then is the default.
///
/// What it gives becomes a destination with [`newest`](DynamoDb::newest), [`newest_by`](DynamoDb::newest_by),
/// [`put`](DynamoDb::put) or [`put_or_delete`](DynamoDb::put_or_delete).
///
/// # Examples
/// A charge for each account, meter and window. Its total grows as records come in late; how many it counts is its version.
/// ```
/// use serde::{Deserialize, Serialize};
/// use shardflow::sink::{Refused, at_least_once};
/// use shardflow::testing::Collected;
/// # use shardflow_sinks::dynamodb;
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Charge {
///     /// Account and meter.
///     meter: String,
///     /// When its minute begins, in milliseconds since 1970.
///     window: u64,
///     total: u128,
///     /// How many records are in the total.
///     records: u64,
/// }
///
/// let charges = dynamodb("charges").key("meter").sort_key("window").newest_by("records", |charge: &Charge| charge.records);
/// let refused = Collected::<Refused>::new();
/// let sink = at_least_once(charges).rejected_to(refused);
/// assert!(format!("{sink:?}").contains("table: \"charges\""));
/// ```
/// In the job it stands behind the stream of charges: `charges.sink("charges", sink)`.
#[must_use]
pub fn dynamodb(table: impl Into<String>) -> DynamoDb {
    DynamoDb {
        table: table.into(),
        key: String::new(),
        sort_key: None,
        endpoint: None,
        region: None,
        sdk_config: None,
        connect_timeout: Duration::from_secs(30),
        call_timeout: Duration::from_secs(20),
    }
}

/// A table with its settings. Made by [`dynamodb`].
///
/// Endpoint, region and credentials come from the usual AWS configuration (environment, profile, instance role) unless they are
/// given here. What the sink may do in the account: `dynamodb:DescribeTable`, and `dynamodb:PutItem` or
/// `dynamodb:BatchWriteItem`.
///
/// # Pace
/// Records are written as fast as they come until the table is too busy for the first time. From then on each worker keeps a
/// pace, in write units a second: a throttle takes 30 % off it, and without one it rises as CUBIC (RFC 9438) has it, back to
/// where it was within seconds and then ever faster. After a throttle at the very start, when nothing is known of the table,
/// it doubles each second. So a table that takes 10,000 units a second is used within half a minute, wherever the pace was.
/// What was not written is not counted, and however low the pace, a call is tried every 5 s. It needs no setting and shares
/// a table with other workers and jobs.
#[derive(Clone)]
pub struct DynamoDb {
    table: String,
    key: String,
    sort_key: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    sdk_config: Option<aws_config::SdkConfig>,
    connect_timeout: Duration,
    call_timeout: Duration,
}

impl DynamoDb {
    /// The record's field that is the table's partition key: text, a number, or bytes, as the table has it. Needed.
    #[must_use]
    pub fn key(mut self, attribute: impl Into<String>) -> Self {
        self.key = attribute.into();
        self
    }

    /// The record's field that is the table's sort key, where the table has one.
    #[must_use]
    pub fn sort_key(mut self, attribute: impl Into<String>) -> Self {
        self.sort_key = Some(attribute.into());
        self
    }

    /// Another endpoint than that of the region: a URL with `http://` or `https://`.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The AWS region.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// An AWS configuration of one's own (an assumed role, credentials from elsewhere) instead of the usual one.
    /// Its settings for retries and time-outs do not apply.
    #[must_use]
    pub fn sdk_config(mut self, config: aws_config::SdkConfig) -> Self {
        self.sdk_config = Some(config);
        self
    }

    /// How long the start may take to reach the table and find it ready, all in all; 30 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one call may take before it is made again; 20 s by default.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Writes an item where the table has none, or an earlier state of it: that of an earlier start of the job, or of an
    /// earlier record of this start. Which it is says the engine's [`Version`](shardflow::sink::Version), stored in
    /// `attribute`.
    ///
    /// In each epoch the records of one key must come to one worker. They do where the stream is keyed by it or by a part of it,
    /// and where they come from one split at a time, also if that is read by another worker later or has a child. A process that should be dead never gets past a later one. A replay begins with older states than the crashed process
    /// may have written, and until it has caught up the item has those; where that must not be seen, use
    /// [`newest_by`](Self::newest_by).
    ///
    /// The item is replaced as a whole: an attribute that the record does not have is gone. An item of this table that has no
    /// version counts as earlier. Items are not deleted in this mode: with the item its version would be gone, and a late
    /// process could write an older state. Write a state that says so, and let the table's time to live (TTL) take it away.
    pub fn newest<T>(self, attribute: impl Into<String>) -> Newest<T> {
        Newest { table: self, attribute: attribute.into(), versions: Versions::Written, calls: 8 }
    }

    /// As [`newest`](Self::newest), but which state is the later says `version`, of each record. Where the record has a
    /// field named as `attribute`, it must be the same number.
    ///
    /// The best version is a function of the data alone: with it no item ever goes back, and records of one key may come to
    /// several workers.
    ///
    /// # Examples
    /// ```
    /// # use shardflow_sinks::dynamodb;
    /// # struct Charge { revision: u64 }
    /// // A window's revision counts its firings, which another start may cut otherwise.
    /// let charges = dynamodb("charges").key("id").newest_by("version", |charge: &Charge| charge.revision).later_starts_win();
    /// assert!(format!("{charges:?}").contains("later_starts_win: true"));
    /// ```
    pub fn newest_by<T, V: Into<ItemVersion>>(
        self,
        attribute: impl Into<String>,
        version: impl Fn(&T) -> V + Send + Sync + 'static,
    ) -> Newest<T> {
        Newest {
            table: self,
            attribute: attribute.into(),
            versions: Versions::Given(Arc::new(move |record| version(record).into())),
            calls: 8,
        }
    }

    /// Puts each item as it comes, in batches: for items that never change under their key. Of two records of one key the last
    /// of a batch counts, and between batches there is no order.
    pub fn put(self) -> Put {
        Put { table: self }
    }

    /// As [`put`](Self::put), but a record for which `deletes` holds takes the item of its key away.
    ///
    /// To put and then delete the same key, [`concurrency`](shardflow::sink::AtLeastOnce::concurrency) must be 1 and records of
    /// one key must come in order to one worker. A replay puts a deleted item and deletes it again, so it is seen for a
    /// moment; a process that should be dead may put it back for good. Where that matters, use
    /// [`newest_by`](Self::newest_by).
    pub fn put_or_delete<T>(self, deletes: impl Fn(&T) -> bool + Send + Sync + 'static) -> PutOrDelete<T> {
        PutOrDelete { table: self, deletes: Arc::new(deletes) }
    }
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDb")
            .field("table", &self.table)
            .field("key", &self.key)
            .field("sort_key", &self.sort_key)
            .field("region", &self.region)
            .field("has_endpoint", &self.endpoint.is_some())
            .field("has_sdk_config", &self.sdk_config.is_some())
            .finish_non_exhaustive()
    }
}

/// Guarded writes: each item where the table has no later state of it. Made by [`DynamoDb::newest_by`].
pub struct Newest<T> {
    table: DynamoDb,
    attribute: String,
    versions: Versions<T>,
    calls: usize,
}

impl<T> Newest<T> {
    /// Puts the number of the job's start before the version, so that a state of a later start is the later one. For versions
    /// that are no function of the data.
    ///
    /// A process that should be dead never gets past a later one. But a replay begins with older states than the crashed
    /// process may have written, and for that moment the item goes back to them.
    #[must_use]
    pub fn later_starts_win(mut self) -> Self {
        self.versions = match self.versions {
            Versions::Given(version) => Versions::OfStart(version),
            others => others,
        };
        self
    }

    /// How many items each batch on its way writes at a time, at least 1; 8 by default. With the 4 batches that each worker has
    /// on their way these are 32 calls.
    #[must_use]
    pub fn calls(mut self, calls: usize) -> Self {
        self.calls = calls.max(1);
        self
    }
}

impl<T> fmt::Debug for Newest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newest")
            .field("table", &self.table)
            .field("attribute", &self.attribute)
            .field("later_starts_win", &!matches!(self.versions, Versions::Given(_)))
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

/// Puts items in batches. Made by [`DynamoDb::put`].
#[derive(Debug)]
pub struct Put {
    table: DynamoDb,
}

/// Puts and deletes items in batches. Made by [`DynamoDb::put_or_delete`].
pub struct PutOrDelete<T> {
    table: DynamoDb,
    deletes: Arc<dyn Fn(&T) -> bool + Send + Sync>,
}

impl<T> fmt::Debug for PutOrDelete<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutOrDelete").field("table", &self.table).finish_non_exhaustive()
    }
}

async fn open<T>(table: &DynamoDb, plan: Plan<T>, context: &SinkContext) -> Result<ItemWriter<T>> {
    metrics::describe();
    let metrics = ItemMetrics::register(&context.step);
    Ok(ItemWriter::new(connect::connect(table).await?, plan, metrics))
}

impl<T: Serialize + 'static> Destination<T> for Put {
    type Writer = ItemWriter<T>;

    fn open<'a>(&'a self, context: &'a SinkContext) -> BoxFuture<'a, Result<ItemWriter<T>>> {
        Box::pin(open(&self.table, Plan::Put, context))
    }

    fn describe(&self) -> String {
        connect::place(&self.table)
    }
}

impl<T: Serialize + 'static> Destination<T> for PutOrDelete<T> {
    type Writer = ItemWriter<T>;

    fn open<'a>(&'a self, context: &'a SinkContext) -> BoxFuture<'a, Result<ItemWriter<T>>> {
        Box::pin(open(&self.table, Plan::PutOrDelete(Arc::clone(&self.deletes)), context))
    }

    fn describe(&self) -> String {
        connect::place(&self.table)
    }
}

impl<T: Serialize + 'static> Destination<T> for Newest<T> {
    type Writer = ItemWriter<T>;

    fn open<'a>(&'a self, context: &'a SinkContext) -> BoxFuture<'a, Result<ItemWriter<T>>> {
        Box::pin(async move {
            let attribute = &self.attribute;
            let is_key = *attribute == self.table.key || Some(attribute) == self.table.sort_key.as_ref();
            if attribute.is_empty() || is_key {
                let table = &self.table.table;
                return Err(Error::config(format!(
                    "could not store versions in attribute \"{attribute}\" of table \"{table}\": it must have a name that is \
                     none of the key's"
                )));
            }
            let guard = Guard { attribute: attribute.clone(), versions: self.versions.clone(), calls: self.calls };
            open(&self.table, Plan::Newest(guard), context).await
        })
    }

    fn describe(&self) -> String {
        connect::place(&self.table)
    }
}
