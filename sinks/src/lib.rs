//! Where results go. Exactly once: [`files()`]. At least once, which an id or a version in each record makes once: [`stdout()`],
//! [`channel()`] and, by features of their own names, `kinesis()`, `dynamodb()`, `opensearch()` and `webhook()`. Your own service takes a
//! `shardflow::sink::BatchWriter` and `at_least_once`.
//!
//! Each sink keeps the engine's three steps: *stage* out of sight, *prepare* a handle for the epoch's durable batch,
//! *commit* once that batch is written. What a crash leaves behind is settled by `recover`, before the next start reads.
//!
//! `producer` (with feature `kinesis`) is a library of its own: it puts records into Kinesis for programs outside of a flow.

pub mod channel;
#[cfg(any(feature = "opensearch", feature = "webhook"))]
mod delivery;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(feature = "objects")]
pub mod encode;
pub mod files;
mod folder;
mod format;
mod frame;
#[cfg(any(feature = "opensearch", feature = "webhook"))]
mod http;
#[cfg(feature = "kinesis")]
pub mod kinesis;
#[cfg(feature = "objects")]
pub mod objects;
#[cfg(feature = "opensearch")]
pub mod opensearch;
#[cfg(feature = "objects")]
pub mod partition;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "kinesis")]
pub mod producer;
#[cfg(feature = "redshift")]
pub mod redshift;
mod stdout;
#[cfg(feature = "webhook")]
pub mod webhook;

pub use channel::{ChannelSink, Receiver, channel};
#[cfg(feature = "dynamodb")]
pub use dynamodb::{DynamoDb, dynamodb};
#[cfg(feature = "avro")]
pub use encode::{Avro, AvroCodec};
#[cfg(feature = "objects")]
pub use encode::{Compression, FileEncoder, FileFormat, csv};
#[cfg(feature = "parquet")]
pub use encode::{Parquet, ParquetCompression};
pub use files::{FileSink, files};
pub use format::{Format, Lines, Ndjson};
#[cfg(feature = "kinesis")]
pub use kinesis::{KinesisSink, kinesis};
#[cfg(feature = "objects")]
pub use objects::{Manifest, ObjectSink, Origin, objects, objects_in};
#[cfg(feature = "opensearch")]
pub use opensearch::{OpenSearch, opensearch};
#[cfg(feature = "objects")]
pub use partition::PartitionValue;
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresSink, postgres};
#[cfg(feature = "kinesis")]
pub use producer::{Producer, ProducerSettings};
#[cfg(feature = "redshift")]
pub use redshift::{Redshift, RedshiftSink, redshift};
pub use stdout::{Stdout, stdout};
#[cfg(feature = "webhook")]
pub use webhook::{Webhook, webhook};
