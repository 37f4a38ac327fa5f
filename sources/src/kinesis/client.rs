//! The calls this source makes, with the SDK's types left behind.

use std::future::Future;

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{ShardIteratorType, StreamStatus};

use super::backoff::Failed;
use super::failure::{Failure, Remedy};
use super::lineage::Shard;
use super::position::ShardPosition;

/// The calls that reading a shard takes.
pub(super) trait ShardApi: Clone + Send + Sync + 'static {
    /// A fresh iterator at `position`.
    fn iterator(&self, shard: &str, position: &ShardPosition) -> impl Future<Output = Result<String, Failure>> + Send;
    /// A fresh iterator at the record of this number itself.
    fn iterator_at(&self, shard: &str, sequence: &str) -> impl Future<Output = Result<String, Failure>> + Send;
    /// What lies at an iterator: up to `most` records, or as many as the service gives at a time.
    fn records(&self, iterator: &str, most: Option<i32>) -> impl Future<Output = Result<Fetched, Failure>> + Send;
    /// The stream, and where it is, for error texts.
    fn describe(&self) -> &str;
}

/// The answer of one GetRecords call.
#[derive(Debug, Clone, Default)]
pub(super) struct Fetched {
    pub(super) records: Vec<Record>,
    /// `None`: the shard is closed and has been read to its end.
    pub(super) next: Option<String>,
    pub(super) millis_behind: Option<u64>,
    /// At the end of a closed shard: those that took over its keys.
    pub(super) children: Vec<String>,
}

impl Fetched {
    /// Whether there is nothing to read now. An empty page alone does not say so: a sparse shard gives many of them on
    /// the way to its next record, with a time behind the end that is not 0.
    pub(super) fn is_the_end_for_now(&self) -> bool {
        self.records.is_empty() && self.millis_behind.unwrap_or(0) == 0
    }
}

/// One record.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) sequence: String,
    pub(super) data: Vec<u8>,
    /// When the service says it arrived, in milliseconds since 1970.
    pub(super) arrived: Option<i64>,
}

/// A stream's name, and its ARN where the user gave one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamName {
    pub(super) name: String,
    pub(super) arn: Option<String>,
}

impl StreamName {
    /// Reads `usage` or `arn:aws:kinesis:eu-west-1:123456789012:stream/usage`.
    pub(super) fn parse(text: &str) -> Option<Self> {
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
    pub(super) fn region(&self) -> Option<&str> {
        self.arn.as_deref()?.split(':').nth(3)
    }
}

/// One stream, reached through the SDK.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) sdk: aws_sdk_kinesis::Client,
    pub(super) stream: StreamName,
    /// `stream "usage" at http://…`
    pub(super) description: String,
}

impl Client {
    /// Whether the stream is there and can be read.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let call = self.sdk.describe_stream_summary().stream_name(&self.stream.name);
        let answer = call.set_stream_arn(self.stream.arn.clone()).send().await;
        let answer = answer.map_err(|error| Failure::of(&error))?;
        match answer.stream_description_summary().map(|summary| summary.stream_status()) {
            Some(StreamStatus::Creating) => Err(Failure {
                remedy: Remedy::Retry(Failed::Transient),
                text: "the stream is still being created".to_owned(),
            }),
            Some(StreamStatus::Deleting) => {
                Err(Failure { remedy: Remedy::None, text: "the stream is being deleted".to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// All shards that the stream lists now, page by page.
    pub(super) async fn shards(&self) -> Result<Vec<Shard>, Failure> {
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
                shards.push(Shard { id: shard.shard_id().to_owned(), parents });
            }
            token = answer.next_token().map(ToOwned::to_owned);
            if token.is_none() {
                return Ok(shards);
            }
        }
    }
}

type IteratorCall = aws_sdk_kinesis::operation::get_shard_iterator::builders::GetShardIteratorFluentBuilder;

impl Client {
    fn iterator_call(&self, shard: &str) -> IteratorCall {
        let call = self.sdk.get_shard_iterator().shard_id(shard).stream_name(&self.stream.name);
        call.set_stream_arn(self.stream.arn.clone())
    }

    async fn get_iterator(&self, call: IteratorCall) -> Result<String, Failure> {
        let answer = call.send().await.map_err(|error| Failure::of(&error))?;
        answer.shard_iterator.ok_or_else(|| Failure {
            remedy: Remedy::Retry(Failed::Transient),
            text: "the answer to GetShardIterator has no iterator".to_owned(),
        })
    }
}

impl ShardApi for Client {
    async fn iterator(&self, shard: &str, position: &ShardPosition) -> Result<String, Failure> {
        let call = self.iterator_call(shard);
        self.get_iterator(match position {
            ShardPosition::TrimHorizon => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
            ShardPosition::Time(millis) => call
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_millis(i64::try_from(*millis).unwrap_or(i64::MAX))),
            ShardPosition::After(sequence) => {
                call.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(sequence)
            }
        })
        .await
    }

    async fn iterator_at(&self, shard: &str, sequence: &str) -> Result<String, Failure> {
        let call = self.iterator_call(shard).shard_iterator_type(ShardIteratorType::AtSequenceNumber);
        self.get_iterator(call.starting_sequence_number(sequence)).await
    }

    async fn records(&self, iterator: &str, most: Option<i32>) -> Result<Fetched, Failure> {
        let call = self.sdk.get_records().shard_iterator(iterator).set_stream_arn(self.stream.arn.clone());
        let answer = call.set_limit(most).send().await.map_err(|error| Failure::of(&error))?;
        let record = |record: aws_sdk_kinesis::types::Record| Record {
            arrived: record.approximate_arrival_timestamp.and_then(|time| time.to_millis().ok()),
            sequence: record.sequence_number,
            data: record.data.into_inner(),
        };
        Ok(Fetched {
            records: answer.records.into_iter().map(record).collect(),
            next: answer.next_shard_iterator,
            children: answer.child_shards.into_iter().flatten().map(|child| child.shard_id).collect(),
            millis_behind: answer.millis_behind_latest.and_then(|millis| u64::try_from(millis).ok()),
        })
    }

    fn describe(&self) -> &str {
        &self.description
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
