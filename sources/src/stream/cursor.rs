//! Reads one shard page by page: at the pace that it allows, renewing iterators, waiting failures out.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{self, ShardIteratorType};
use jiff::Timestamp;
use shardflow::retry::{Failed, Retries, WallClock};
use shardflow::{Error, Result};
use shardflow_aws::failure::{Failure, Remedy};

use super::{Stream, timestamp};
use crate::kinesis::pacing::{Allowance, Answer, IDLE_GAP, Pace, wait};

/// Where to read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// With the oldest record that is kept.
    TrimHorizon,
    /// With the records that arrive once the iterator is there.
    Latest,
    /// With the first record that arrived at this time or later.
    Time(Timestamp),
    /// After the record of this number.
    After(String),
}

/// One record, as it lies in its shard.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) sequence: String,
    pub(super) partition_key: Option<String>,
    pub(super) arrived: Option<Timestamp>,
    pub(super) data: Vec<u8>,
}

/// What one GetRecords gave.
#[derive(Debug, Clone, Default)]
pub(super) struct Page {
    pub(super) records: Vec<Raw>,
    /// Milliseconds behind the shard's end.
    pub(super) behind: Option<u64>,
    /// The shard is closed and has been read to its end.
    pub(super) ended: bool,
}

impl Page {
    /// Whether there is nothing more to read now. An empty page alone does not say so: a sparse shard gives many.
    pub(super) fn is_the_end_for_now(&self) -> bool {
        self.ended || (self.records.is_empty() && self.behind.unwrap_or(0) == 0)
    }
}

/// A place in a shard.
pub(super) struct Cursor {
    stream: Stream,
    shard: String,
    at: At,
    iterator: Option<String>,
    pace: Pace,
    last_call: Option<Instant>,
    gap: Duration,
    /// Whether the last call only found that its iterator had expired.
    renewed: bool,
    ended: bool,
    retries: Retries<WallClock>,
}

impl Cursor {
    /// Before the first record from `at` on.
    pub(super) fn new(stream: &Stream, shard: &str, at: At) -> Self {
        let attempted = format!("read shard \"{shard}\" of {}", stream.describe_place());
        let pace = Pace::new(Allowance::default(), IDLE_GAP);
        Self {
            retries: Retries::new(stream.patience, &WallClock, &stream.metrics.retries, attempted),
            stream: stream.clone(),
            shard: shard.to_owned(),
            at,
            iterator: None,
            gap: pace.shortest(),
            pace,
            last_call: None,
            renewed: false,
            ended: false,
        }
    }

    /// Fixes the place: what arrives from now on will be read, even where it is [`At::Latest`].
    pub(super) async fn fix(&mut self) -> Result<()> {
        while self.iterator.is_none() && !self.ended {
            let asked = Timestamp::now();
            match self.fresh_iterator().await {
                Ok(iterator) => {
                    self.retries.succeeded();
                    // Should it expire before a record came, the next one begins where this one did.
                    if self.at == At::Latest {
                        self.at = At::Time(asked);
                    }
                    self.iterator = Some(iterator);
                }
                Err(failure) => self.wait_out(failure).await?,
            }
        }
        Ok(())
    }

    /// The next page, of `most` records where that is given. After the end of a closed shard there is an empty one.
    pub(super) async fn next(&mut self, most: Option<i32>) -> Result<Page> {
        loop {
            if self.ended {
                return Ok(Page { ended: true, behind: Some(0), ..Page::default() });
            }
            tokio::time::sleep(wait(Instant::now(), self.last_call, self.gap)).await;
            self.fix().await?;
            let Some(iterator) = self.iterator.clone() else { continue };
            self.last_call = Some(Instant::now());
            match self.page(iterator, most).await {
                Ok(page) => {
                    self.retries.succeeded();
                    self.renewed = false;
                    let bytes = page.records.iter().map(|record| record.data.len() as u64).sum();
                    let answer = Answer { records: page.records.len(), bytes, millis_behind: page.behind };
                    self.gap = self.pace.gap(self.gap, answer);
                    self.ended = page.ended;
                    if let Some(last) = page.records.last() {
                        self.at = At::After(last.sequence.clone());
                    }
                    return Ok(page);
                }
                Err(failure) => self.page_failed(failure).await?,
            }
        }
    }

    async fn page_failed(&mut self, failure: Failure) -> Result<()> {
        if failure.remedy != Remedy::NewIterator {
            return self.wait_out(failure).await;
        }
        self.iterator = None;
        // Once is what a long pause does. Again at once is a fault, and must not become a busy loop.
        if std::mem::replace(&mut self.renewed, true) {
            return self.wait_out(Failure { remedy: Remedy::Retry(Failed::Transient), ..failure }).await;
        }
        Ok(())
    }

    async fn wait_out(&mut self, failure: Failure) -> Result<()> {
        self.retries.wait_out(failure).await.map_err(|failure| {
            let (shard, place) = (&self.shard, self.stream.describe_place());
            Error::source(format!("could not read shard \"{shard}\" of {place}")).caused_by(failure)
        })
    }

    async fn fresh_iterator(&self) -> Result<String, Failure> {
        let call = self.stream.sdk().get_shard_iterator().shard_id(&self.shard).stream_name(self.stream.name());
        let call = call.set_stream_arn(self.stream.given_arn());
        let call = match &self.at {
            At::TrimHorizon => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
            At::Latest => call.shard_iterator_type(ShardIteratorType::Latest),
            At::Time(time) => call
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                // Before 1970 there are no records, and no times that the service takes.
                .timestamp(DateTime::from_millis(time.as_millisecond().max(0))),
            At::After(sequence) => {
                call.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(sequence)
            }
        };
        let answer = call.send().await.map_err(|error| Failure::of(&error))?;
        answer.shard_iterator.ok_or_else(|| Failure {
            remedy: Remedy::Retry(Failed::Transient),
            text: "the answer to GetShardIterator has no iterator".to_owned(),
        })
    }

    async fn page(&mut self, iterator: String, most: Option<i32>) -> Result<Page, Failure> {
        let call = self.stream.sdk().get_records().shard_iterator(iterator).set_limit(most);
        let answer = call.set_stream_arn(self.stream.given_arn()).send().await;
        let answer = answer.map_err(|error| Failure::of(&error))?;
        let record = |record: types::Record| Raw {
            sequence: record.sequence_number,
            partition_key: record.partition_key,
            arrived: record.approximate_arrival_timestamp.as_ref().and_then(timestamp),
            data: record.data.into_inner(),
        };
        self.iterator = answer.next_shard_iterator;
        Ok(Page {
            records: answer.records.into_iter().map(record).collect(),
            behind: answer.millis_behind_latest.and_then(|millis| u64::try_from(millis).ok()),
            ended: self.iterator.is_none(),
        })
    }
}
