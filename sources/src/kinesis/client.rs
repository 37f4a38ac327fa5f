//! The calls this source makes, with the SDK's types left behind.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::primitives::event_stream::EventReceiver;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{
    ChildShard, HashKeyRange, ShardIteratorType, StartingPosition, StreamStatus, SubscribeToShardEventStream,
};
use shardflow::retry::Failed;
use shardflow_aws::failure::{Failure, Remedy};

use super::lineage::Shard;

/// The calls that reading a shard takes.
pub(crate) trait ShardApi: Clone + Send + Sync + 'static {
    /// What a subscription gives.
    type Events: Events;

    /// A fresh iterator.
    fn iterator(&self, shard: &str, from: &ReadFrom) -> impl Future<Output = Result<String, Failure>> + Send;
    /// What lies at an iterator: up to `most` records, or as many as the service gives at a time.
    fn records(&self, iterator: &str, most: Option<i32>) -> impl Future<Output = Result<Fetched, Failure>> + Send;
    /// A subscription of the consumer of this ARN.
    fn subscribe(
        &self,
        consumer: &str,
        shard: &str,
        from: &ReadFrom,
    ) -> impl Future<Output = Result<Self::Events, Failure>> + Send;
    /// The stream, and where it is, for error texts.
    fn describe(&self) -> &str;
}

/// The events of one subscription.
pub(crate) trait Events: Send + 'static {
    /// The next event; `None` where the service has ended the subscription, as it does after five minutes.
    fn next(&mut self) -> impl Future<Output = Result<Option<Fetched>, Failure>> + Send;
}

/// Where a call asks for records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// At the oldest record that is kept.
    TrimHorizon,
    /// At the first record that arrived at or after this time, in milliseconds since 1970.
    Time(u64),
    /// At the record of this sequence number.
    At(String),
    /// After it.
    After(String),
}

impl fmt::Display for ReadFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrimHorizon => f.write_str("trim-horizon"),
            Self::Time(millis) => write!(f, "at:{millis}"),
            Self::At(sequence) => write!(f, "at-record:{sequence}"),
            Self::After(sequence) => write!(f, "after:{sequence}"),
        }
    }
}

/// The answer of one GetRecords call, or one event of a subscription.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fetched {
    pub(crate) records: Vec<Record>,
    /// Where to go on: the next iterator, or the sequence number to subscribe again after. `None`: the shard is closed and
    /// has been read to its end.
    pub(crate) next: Option<String>,
    pub(crate) millis_behind: Option<u64>,
    /// At the end of a closed shard: those that took over its keys.
    pub(crate) children: Vec<Shard>,
    /// Whether an end is not to be believed yet: see [`is_doubtful`](Self::is_doubtful).
    pub(crate) doubted: bool,
}

impl Fetched {
    /// Whether this is the end of a closed shard.
    pub(crate) fn is_the_end(&self) -> bool {
        self.next.is_none() && !self.doubted
    }

    /// Whether this may be the end of a closed shard, or an answer that lost what belongs in it: an end names the children.
    /// To take the one for the other would be to read the shard never again.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.next.is_none() && self.children.is_empty()
    }

    /// Whether there is nothing to read now. An empty page alone does not say so: a sparse shard gives many of them on
    /// the way to its next record, with a time behind the end that is not 0.
    pub(crate) fn is_the_end_for_now(&self) -> bool {
        self.records.is_empty() && self.millis_behind.unwrap_or(0) == 0
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sequence: String,
    pub(crate) data: Vec<u8>,
    /// When the service says it arrived, in milliseconds since 1970.
    pub(crate) arrived: Option<i64>,
    /// A stream may be told to do without.
    pub(crate) partition_key: Option<String>,
}

impl Record {
    fn of(record: aws_sdk_kinesis::types::Record) -> Self {
        Self {
            arrived: record.approximate_arrival_timestamp.and_then(|time| time.to_millis().ok()),
            sequence: record.sequence_number,
            data: record.data.into_inner(),
            partition_key: record.partition_key,
        }
    }
}

/// A stream's name, and its ARN where the user gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamName {
    pub(crate) name: String,
    pub(crate) arn: Option<String>,
}

impl StreamName {
    /// Reads `usage` or `arn:aws:kinesis:eu-west-1:123456789012:stream/usage`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, arn) = match text.strip_prefix("arn:") {
            None => (text, None),
            Some(rest) => {
                let parts: Vec<&str> = rest.splitn(5, ':').collect();
                let [_partition, "kinesis", region, _account, resource] = parts.as_slice() else { return None };
                if region.is_empty() {
                    return None;
                }
                (resource.strip_prefix("stream/")?, Some(text.to_owned()))
            }
        };
        let is_name = (1..=128).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        is_name.then(|| Self { name: name.to_owned(), arn })
    }

    /// The region that an ARN names.
    pub(crate) fn region(&self) -> Option<&str> {
        self.arn.as_deref()?.split(':').nth(3)
    }
}

/// One stream, reached through the SDK.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) sdk: aws_sdk_kinesis::Client,
    pub(crate) stream: StreamName,
    /// `stream "usage" at http://…`
    pub(crate) description: String,
}

/// What a start has to know of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Its ARN, as the service has it.
    pub(crate) arn: String,
    /// For how long it keeps its records.
    pub(crate) retention: Duration,
}

impl Client {
    /// What the stream is, if it is there and can be read.
    pub(crate) async fn summary(&self) -> Result<Summary, Failure> {
        let call = self.sdk.describe_stream_summary().stream_name(&self.stream.name);
        let answer = call.set_stream_arn(self.stream.arn.clone()).send().await;
        let answer = answer.map_err(|error| Failure::of(&error))?;
        let summary = answer.stream_description_summary.ok_or_else(|| absent("DescribeStreamSummary", "summary"))?;
        match summary.stream_status {
            StreamStatus::Creating => Err(Failure {
                remedy: Remedy::Retry(Failed::Transient),
                text: "the stream is still being created".to_owned(),
            }),
            StreamStatus::Deleting => {
                Err(Failure { remedy: Remedy::None, text: "the stream is being deleted".to_owned() })
            }
            _ => {
                // No stream keeps its records for less than a day; the SDK makes a 0 of what is not said.
                let hours = u64::try_from(summary.retention_period_hours).unwrap_or(0).max(24);
                Ok(Summary { arn: summary.stream_arn, retention: Duration::from_secs(hours.saturating_mul(3_600)) })
            }
        }
    }

    /// All shards that the stream lists now, page by page.
    pub(crate) async fn shards(&self) -> Result<Vec<Shard>, Failure> {
        let mut shards = Vec::new();
        let mut token = None;
        loop {
            // A token stands for the stream, and naming the stream beside it is an error; its ARN is not.
            let name = token.is_none().then(|| self.stream.name.clone());
            let call = self.sdk.list_shards().set_stream_name(name).set_next_token(token);
            let answer = call.set_stream_arn(self.stream.arn.clone()).send().await;
            let answer = answer.map_err(|error| Failure::of(&error))?;
            for shard in answer.shards() {
                let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
                let parents = parents.into_iter().flatten().map(ToOwned::to_owned).collect();
                let hash_range = shard.hash_key_range().and_then(hash_range);
                shards.push(Shard { id: shard.shard_id().to_owned(), parents, hash_range });
            }
            token = answer.next_token().map(ToOwned::to_owned);
            if token.is_none() {
                return Ok(shards);
            }
        }
    }
}

/// The hash keys of a shard, both ends included; `None` where they are no numbers.
fn hash_range(range: &HashKeyRange) -> Option<(u128, u128)> {
    Some((range.starting_hash_key().parse().ok()?, range.ending_hash_key().parse().ok()?))
}

fn child(child: ChildShard) -> Shard {
    let hash_range = child.hash_key_range.as_ref().and_then(hash_range);
    Shard { id: child.shard_id, parents: child.parent_shards, hash_range }
}

fn absent(operation: &str, what: &str) -> Failure {
    Failure { remedy: Remedy::Retry(Failed::Transient), text: format!("the answer to {operation} has no {what}") }
}

fn time(millis: u64) -> DateTime {
    DateTime::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

impl ShardApi for Client {
    type Events = Subscription;

    async fn iterator(&self, shard: &str, from: &ReadFrom) -> Result<String, Failure> {
        let call = self.sdk.get_shard_iterator().shard_id(shard).stream_name(&self.stream.name);
        let call = call.set_stream_arn(self.stream.arn.clone());
        let call = match from {
            ReadFrom::TrimHorizon => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
            ReadFrom::Time(millis) => call.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(time(*millis)),
            ReadFrom::At(sequence) => {
                call.shard_iterator_type(ShardIteratorType::AtSequenceNumber).starting_sequence_number(sequence)
            }
            ReadFrom::After(sequence) => {
                call.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(sequence)
            }
        };
        let answer = call.send().await.map_err(|error| Failure::of(&error))?;
        answer.shard_iterator.ok_or_else(|| absent("GetShardIterator", "iterator"))
    }

    async fn records(&self, iterator: &str, most: Option<i32>) -> Result<Fetched, Failure> {
        let call = self.sdk.get_records().shard_iterator(iterator).set_stream_arn(self.stream.arn.clone());
        let answer = call.set_limit(most).send().await.map_err(|error| Failure::of(&error))?;
        Ok(Fetched {
            records: answer.records.into_iter().map(Record::of).collect(),
            next: answer.next_shard_iterator,
            doubted: false,
            children: answer.child_shards.into_iter().flatten().map(child).collect(),
            millis_behind: answer.millis_behind_latest.and_then(|millis| u64::try_from(millis).ok()),
        })
    }

    async fn subscribe(&self, consumer: &str, shard: &str, from: &ReadFrom) -> Result<Subscription, Failure> {
        let start = StartingPosition::builder();
        let start = match from {
            ReadFrom::TrimHorizon => start.r#type(ShardIteratorType::TrimHorizon),
            ReadFrom::Time(millis) => start.r#type(ShardIteratorType::AtTimestamp).timestamp(time(*millis)),
            ReadFrom::At(sequence) => start.r#type(ShardIteratorType::AtSequenceNumber).sequence_number(sequence),
            ReadFrom::After(sequence) => start.r#type(ShardIteratorType::AfterSequenceNumber).sequence_number(sequence),
        };
        let start = start.build().map_err(|error| Failure { remedy: Remedy::None, text: error.to_string() })?;
        let call = self.sdk.subscribe_to_shard().consumer_arn(consumer).shard_id(shard).starting_position(start);
        let answer = call.send().await.map_err(|error| Failure::of(&error))?;
        Ok(Subscription(answer.event_stream))
    }

    fn describe(&self) -> &str {
        &self.description
    }
}

/// The code of an error that came as an event: the SDK keeps none beside the variant.
fn code(error: &SubscribeToShardEventStreamError) -> &str {
    use SubscribeToShardEventStreamError as Event;
    match error {
        Event::ResourceNotFoundException(_) => "ResourceNotFoundException",
        Event::ResourceInUseException(_) => "ResourceInUseException",
        Event::KmsDisabledException(_) => "KMSDisabledException",
        Event::KmsInvalidStateException(_) => "KMSInvalidStateException",
        Event::KmsAccessDeniedException(_) => "KMSAccessDeniedException",
        Event::KmsNotFoundException(_) => "KMSNotFoundException",
        Event::KmsOptInRequired(_) => "KMSOptInRequired",
        Event::KmsThrottlingException(_) => "KMSThrottlingException",
        Event::InternalFailureException(_) => "InternalFailureException",
        other => other.code().unwrap_or("UnknownError"),
    }
}

/// A subscription through the SDK.
pub(crate) struct Subscription(EventReceiver<SubscribeToShardEventStream, SubscribeToShardEventStreamError>);

impl Events for Subscription {
    async fn next(&mut self) -> Result<Option<Fetched>, Failure> {
        loop {
            let event = match self.0.recv().await {
                Ok(None) => return Ok(None),
                Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => event,
                // An event of a kind that this version does not know.
                Ok(Some(_)) => continue,
                Err(SdkError::ServiceError(service)) => {
                    return Err(Failure::of_event(code(service.err()), service.err().message()));
                }
                // A connection that broke, a frame that cannot be read: what came before it counts.
                Err(error) => return Err(Failure::of_network(&error)),
            };
            let children: Vec<Shard> = event.child_shards.into_iter().flatten().map(child).collect();
            // The SDK makes an empty text of a null. Children come with the end of the shard and at no other time.
            let ended = event.continuation_sequence_number.is_empty() || !children.is_empty();
            return Ok(Some(Fetched {
                records: event.records.into_iter().map(Record::of).collect(),
                next: (!ended).then_some(event.continuation_sequence_number),
                doubted: false,
                children,
                millis_behind: u64::try_from(event.millis_behind_latest).ok(),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_are_told_apart() {
        let plain = StreamName::parse("usage.v2_x-y").unwrap();
        assert_eq!((plain.name.as_str(), plain.arn.as_deref(), plain.region()), ("usage.v2_x-y", None, None));
        let arn = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/usage";
        let by_arn = StreamName::parse(arn).unwrap();
        assert_eq!((by_arn.name.as_str(), by_arn.arn.as_deref()), ("usage", Some(arn)));
        assert_eq!(by_arn.region(), Some("cn-north-1"));
    }

    #[test]
    fn what_is_neither_is_refused() {
        let long = "x".repeat(129);
        for bad in [
            "",
            "a b",
            "a/b",
            "arn:aws:s3:::bucket",
            "arn:aws:kinesis:r:1:table/x",
            "arn:aws:kinesis::1:stream/x",
            &long,
        ] {
            assert_eq!(StreamName::parse(bad), None, "{bad}");
        }
    }
}
