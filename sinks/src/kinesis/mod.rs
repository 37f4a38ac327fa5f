//! Writes each record into an Amazon Kinesis data stream, at least once.
//!
//! *Enters*: records. *Leaves*: PutRecords calls of a [`Producer`], one a worker, which batches, packs and sends again. *Survives
//! a crash*: nothing here; an epoch commits only when all its records are in the stream or among the refused, so a replay writes
//! again what may be missing.
//!
//! # Repeats
//! A stream takes nothing back, so a record is visible before its epoch is committed, and twice after a crash, or where the
//! answer to a call was lost. Give each record an id that a replay repeats: a window's result has one of (job, step, key, window)
//! in [`WindowResult::id`](shardflow::WindowResult::id), and a record that was read one of (source, split, position, index) in
//! [`Sourced::id`](shardflow::Sourced::id). A window has one result, so there is no revision in it. All results of a
//! running aggregate's key have one id ([`RunningResult::key_id`](shardflow::RunningResult::key_id)): give them a version too, and have
//! the reader keep the latest. Whoever reads drops repeats by the id; in shardflow:
//!
//! ```text
//! flow.source("charges", Kinesis::stream("charges")).decode(json::<Charge>())…
//!     .key_by(|charge| charge.account.clone())
//!     .dedupe("seen-ids", |charge| charge.id, hours(24))
//! ```
//!
//! # Order
//! With [`KinesisSink::ordered`] the records that one worker writes under one partition key (or explicit hash key) keep their
//! order, whatever fails in between; see [`producer`](crate::producer#order) for what that costs. Records of one key come from one
//! worker where the key of the stream is the key of the flow.
//!
//! # Refused
//! A record that the stream never takes (too large, an empty partition key, a bad hash key, one that cannot be encoded) goes to
//! the rejected output, with the reason, and does not hold up the rest. Without such an output it stops the job.
//!
//! Its data is kept whole: text as it is, all else in base64 after `base64:`, and text that begins so as well; [`data_of`] gives
//! the bytes back. A record that could not be encoded has no data: its partition key, its hash key and the reason are kept, as
//! `(partition key "acme", without data)`.
//!
//! # Secrets
//! Credentials show in no error, no `Debug`, no rejected output and not in the job's state, also where the service says back
//! all that it was sent, as AWS does where a signature is wrong. The AWS SDK's own log has at `TRACE` whose key it signs with, and
//! each answer as it came (`aws_smithy_runtime`): leave it at `DEBUG` where the log is not to be trusted with them.

mod encode;
mod refused;
mod writer;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use metrics::Label;
use shardflow::metrics::DeliveryMetrics;
use shardflow::sink::{Committer, Refused, RejectedOutput, Sink, SinkContext, SinkWriter};
use shardflow::{Error, Result};

pub use encode::{Encoder, Json, With};
pub use refused::data_of;

use crate::producer::metrics::Metrics;
use crate::producer::{Aggregation, Producer, ProducerSettings};
use writer::Writer;

/// Writes to the stream of this name, or of this ARN, whose region then is the default. A partition key makes it a sink.
///
/// # Examples
/// ```
/// use shardflow_sinks::kinesis;
/// use shardflow_sinks::producer::Aggregation;
/// use shardflow::testing::Collected;
///
/// #[derive(serde::Serialize)]
/// struct Charge {
///     account: String,
///     cents: u64,
/// }
/// let charges = kinesis("charges")
///     .partition_key(|charge: &Charge| charge.account.clone())
///     .region("eu-west-1")
///     .ordered()
///     .aggregate(Aggregation::default())
///     .rejected_to(Collected::new());
/// assert!(format!("{charges:?}").contains("charges"));
/// ```
#[must_use]
pub fn kinesis(name_or_arn: impl Into<String>) -> KinesisStream {
    KinesisStream(name_or_arn.into())
}

/// A stream that is written to, still without partition keys. Made by [`kinesis()`].
#[derive(Debug, Clone)]
pub struct KinesisStream(String);

impl KinesisStream {
    /// The partition key of a record: 1 to 256 characters. The data is the record as JSON, unless
    /// [`encoded_by`](KinesisSink::encoded_by) says otherwise.
    pub fn partition_key<T, K: Into<String>>(self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> KinesisSink<T> {
        KinesisSink {
            settings: ProducerSettings::stream(self.0),
            key: Arc::new(move |record| key(record).into()),
            hash_key: None,
            encoder: Json,
            rejected: RejectedOutput::default(),
            of: PhantomData,
        }
    }
}

/// What of a record decides about its place.
type KeyOf<T> = Arc<dyn Fn(&T) -> String + Send + Sync>;
type HashKeyOf<T> = Arc<dyn Fn(&T) -> Option<String> + Send + Sync>;

/// A stream that records are written to, each at least once.
pub struct KinesisSink<T, E = Json> {
    settings: ProducerSettings,
    key: KeyOf<T>,
    hash_key: Option<HashKeyOf<T>>,
    encoder: E,
    rejected: RejectedOutput,
    of: PhantomData<fn(T)>,
}

impl<T, E: Clone> Clone for KinesisSink<T, E> {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            key: Arc::clone(&self.key),
            hash_key: self.hash_key.clone(),
            encoder: self.encoder.clone(),
            rejected: self.rejected.clone(),
            of: PhantomData,
        }
    }
}

impl<T, E> KinesisSink<T, E> {
    /// The explicit hash key of a record, where it has one: a decimal number below 2^128.
    #[must_use]
    pub fn explicit_hash_key(mut self, key: impl Fn(&T) -> Option<String> + Send + Sync + 'static) -> Self {
        self.hash_key = Some(Arc::new(key));
        self
    }

    /// The data of a record, in place of JSON. A record that `encode` fails for is refused.
    #[must_use]
    pub fn encoded_by<B: Into<Vec<u8>>, X: fmt::Display>(
        self,
        encode: impl Fn(&T) -> Result<B, X> + Send + Sync + 'static,
    ) -> KinesisSink<T, With<T>> {
        let Self { settings, key, hash_key, rejected, encoder: _, of } = self;
        KinesisSink { settings, key, hash_key, rejected, encoder: With::new(encode), of }
    }

    /// All that a producer can be set to, at once: see [`ProducerSettings`]. The stream stays the same.
    #[must_use]
    pub fn producer(mut self, set: impl FnOnce(ProducerSettings) -> ProducerSettings) -> Self {
        let stream = self.settings.name().to_owned();
        self.settings = set(self.settings).of_stream(stream);
        self
    }

    /// See [`ProducerSettings::endpoint`].
    #[must_use]
    pub fn endpoint(self, url: impl Into<String>) -> Self {
        self.producer(|settings| settings.endpoint(url))
    }

    /// See [`ProducerSettings::region`].
    #[must_use]
    pub fn region(self, region: impl Into<String>) -> Self {
        self.producer(|settings| settings.region(region))
    }

    /// See [`ProducerSettings::sdk_config`].
    #[must_use]
    pub fn sdk_config(self, config: aws_config::SdkConfig) -> Self {
        self.producer(|settings| settings.sdk_config(config))
    }

    /// Keeps the order of a worker's records of one key: see [`ProducerSettings::ordered`].
    #[must_use]
    pub fn ordered(self) -> Self {
        self.producer(ProducerSettings::ordered)
    }

    /// Packs records: see [`ProducerSettings::aggregate`].
    #[must_use]
    pub fn aggregate(self, aggregation: Aggregation) -> Self {
        self.producer(|settings| settings.aggregate(aggregation))
    }

    /// How long a record waits for others; an epoch's end waits for nothing. See [`ProducerSettings::linger`].
    #[must_use]
    pub fn linger(self, time: Duration) -> Self {
        self.producer(|settings| settings.linger(time))
    }

    /// After how long of nothing but failures other than throttling the job fails; 5 min by default.
    #[must_use]
    pub fn give_up_after(self, time: Duration) -> Self {
        self.producer(|settings| settings.give_up_after(time))
    }

    /// Where records go that the stream refuses for good. Without it such a record stops the job. It is opened under the name of
    /// this sink with `.refused` behind it.
    #[must_use]
    pub fn rejected_to(mut self, sink: impl Sink<Refused>) -> Self {
        self.rejected = RejectedOutput::to(sink);
        self
    }
}

impl<T, E> fmt::Debug for KinesisSink<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisSink")
            .field("producer", &self.settings)
            .field("has_rejected_output", &self.rejected.is_set())
            .finish_non_exhaustive()
    }
}

impl<T, E> KinesisSink<T, E> {
    fn open(&self, context: &SinkContext, metrics: Metrics) -> Result<Producer> {
        let opened = context.runtime.block_on(Producer::open_counted(&self.settings, metrics));
        opened.map_err(|error: Error| error.in_step(context.step.as_str()))
    }

    fn labels(&self, context: &SinkContext) -> Vec<Label> {
        vec![Label::new("stream", self.settings.name().to_owned()), Label::new("step", context.step.to_string())]
    }
}

impl<T: 'static, E: Encoder<T>> Sink<T> for KinesisSink<T, E> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        // Only to see that it can be: the workers have producers of their own.
        let producer = self.open(context, Metrics::register(&self.labels(context), None))?;
        producer.abort();
        self.rejected.committer(context)
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        let mut labels = self.labels(context);
        labels.push(Label::new("worker", worker.to_string()));
        let metrics = Metrics::register(&labels, Some(DeliveryMetrics::register(&context.step, worker)));
        let producer = self.open(context, metrics.clone())?;
        let rejected = self.rejected.writer(context, worker)?;
        Ok(Box::new(Writer::new(self.clone(), context, producer, metrics, rejected)))
    }

    fn describe(&self) -> String {
        self.rejected.described_beside(self.settings.place())
    }
}
