//! What a stream is at the moment: its settings, its shards, its consumers, and how far back its records reach.

mod lag;
mod text;

use std::collections::BTreeMap;

use jiff::Timestamp;
use shardflow::Result;
use shardflow_aws::failure::{Failure, Remedy};

pub use lag::Lag;
pub(in crate::stream) use text::{columns, percent};

use super::{Consumer, Shard, Stream, timestamp};

/// What a record may weigh where the stream does not say.
const RECORD_BYTES: usize = 1 << 20;

/// The stream as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `CREATING`, `ACTIVE`, `UPDATING` or `DELETING`.
    pub status: String,
    /// `PROVISIONED` or `ON_DEMAND`.
    pub mode: String,
    /// For how many hours records are kept.
    pub retention_hours: u32,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// `NONE` or `KMS`.
    pub encryption: String,
    /// What a record may weigh with its partition key, in bytes.
    pub record_bytes: usize,
}

/// Everything that [`Stream::describe`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The stream as a whole.
    pub summary: Summary,
    /// Its shards, open and closed, by id.
    pub shards: Vec<Shard>,
    /// The consumers registered for enhanced fan-out, by name.
    pub consumers: Vec<Consumer>,
    /// By shard id, how far back the shard's records reach, where that was asked for.
    pub lags: Option<BTreeMap<String, Lag>>,
}

impl Stream {
    /// The stream as a whole.
    ///
    /// # Errors
    /// The service refuses, or the failure lasts.
    pub async fn summary(&self) -> Result<Summary> {
        self.call("describe", || self.summarised()).await
    }

    pub(super) async fn summarised(&self) -> Result<Summary, Failure> {
        let call = self.sdk().describe_stream_summary().stream_name(self.name());
        let answer = call.set_stream_arn(self.given_arn()).send().await.map_err(|error| Failure::of(&error))?;
        let Some(stream) = answer.stream_description_summary() else {
            let text = "the answer to DescribeStreamSummary has no summary".to_owned();
            return Err(Failure { remedy: Remedy::None, text });
        };
        let kib = stream.max_record_size_in_kib().and_then(|kib| usize::try_from(kib).ok());
        Ok(Summary {
            name: stream.stream_name().to_owned(),
            arn: stream.stream_arn().to_owned(),
            status: stream.stream_status().as_str().to_owned(),
            // Streams of before there were modes are provisioned.
            mode: stream.stream_mode_details().map_or("PROVISIONED", |mode| mode.stream_mode().as_str()).to_owned(),
            retention_hours: u32::try_from(stream.retention_period_hours()).unwrap_or(0),
            created: timestamp(stream.stream_creation_timestamp()),
            encryption: stream.encryption_type().map_or("NONE", |kind| kind.as_str()).to_owned(),
            record_bytes: kib.map_or(RECORD_BYTES, |kib| kib.saturating_mul(1024)),
        })
    }

    /// The ARN, which some calls insist on.
    pub(super) async fn arn(&self) -> Result<String> {
        match self.given_arn() {
            Some(arn) => Ok(arn),
            None => Ok(self.summary().await?.arn),
        }
    }

    /// What the stream is now. `lag` asks each shard how far back its records reach, which takes two reads of each.
    ///
    /// # Errors
    /// The service refuses, or the failure lasts.
    pub async fn describe(&self, lag: bool) -> Result<Description> {
        let summary = self.summary().await?;
        let shards = self.shards().await?;
        let consumers = self.consumers_of(&summary.arn).await?;
        let lags = if lag { Some(self.lags(&shards).await?) } else { None };
        Ok(Description { summary, shards, consumers, lags })
    }
}
