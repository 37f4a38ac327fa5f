//! How a producer is set up.

use std::fmt;
use std::time::Duration;

use super::pace::whole_part;
use super::pack::Aggregation;
use super::scheduler::Limits;

/// What the service takes in one call.
const MOST_CALL_RECORDS: usize = 500;
const MOST_CALL_BYTES: usize = 10 << 20;

/// The largest record that a stream can be set to take.
const MOST_RECORD_BYTES: usize = 10 << 20;

/// The longest wait for others: beyond it nobody would wait.
const MOST_LINGER: Duration = Duration::from_secs(3_600);

/// Which stream, and how records are put into it. For [`Producer::open`](super::Producer::open).
///
/// Endpoint, region and credentials come from the usual AWS configuration (environment, profile, instance role) unless they are
/// given here.
///
/// # Examples
/// ```
/// use shardflow_sinks::ProducerSettings;
/// use shardflow_sinks::producer::Aggregation;
/// use std::time::Duration;
///
/// let usage = ProducerSettings::stream("usage").region("eu-west-1").ordered().linger(Duration::from_millis(50));
/// let usage = usage.aggregate(Aggregation::default());
/// assert_eq!(usage.name(), "usage");
/// ```
#[derive(Clone)]
pub struct ProducerSettings {
    pub(super) stream: String,
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) sdk_config: Option<aws_config::SdkConfig>,
    pub(super) connect_timeout: Duration,
    pub(super) call_timeout: Duration,
    pub(super) is_ordered: bool,
    pub(super) aggregation: Option<Aggregation>,
    pub(super) linger: Duration,
    pub(super) give_up_after: Duration,
    pub(super) buffer_bytes: usize,
    pub(super) record_bytes: usize,
    pub(super) call_bytes: usize,
    pub(super) call_records: usize,
    pub(super) calls: usize,
    pub(super) shard_percent: u32,
}

impl ProducerSettings {
    /// For the stream of this name, or of this ARN, whose region then is the default.
    #[must_use]
    pub fn stream(name_or_arn: impl Into<String>) -> Self {
        Self {
            stream: name_or_arn.into(),
            endpoint: None,
            region: None,
            sdk_config: None,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            is_ordered: false,
            aggregation: None,
            linger: Duration::from_millis(100),
            give_up_after: Duration::from_secs(300),
            buffer_bytes: 16 << 20,
            record_bytes: 1 << 20,
            call_bytes: 5 << 20,
            call_records: MOST_CALL_RECORDS,
            calls: 8,
            shard_percent: 100,
        }
    }

    /// The stream's name or ARN, as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.stream
    }

    pub(crate) fn of_stream(mut self, name_or_arn: String) -> Self {
        self.stream = name_or_arn;
        self
    }

    /// Another endpoint than that of the region: a URL with `http://` or `https://`, without credentials: errors and the log show
    /// it. One that has some is refused at the start, from wherever it comes.
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

    /// An AWS configuration of one's own (an assumed role, credentials from elsewhere) instead of the usual one. Its settings for
    /// retries and time-outs do not apply.
    #[must_use]
    pub fn sdk_config(mut self, config: aws_config::SdkConfig) -> Self {
        self.sdk_config = Some(config);
        self
    }

    /// How long the start may take to reach the stream, all in all; 10 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one call may take before it is made again; 30 s by default, which is enough for 10 MiB over a slow line. Its
    /// records may be in the stream all the same: their receipts say that they may be repeated.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Keeps the order of the records of one partition key, or of one explicit hash key where they have it. See the module for
    /// what that takes. Off by default.
    #[must_use]
    pub fn ordered(mut self) -> Self {
        self.is_ordered = true;
        self
    }

    /// Packs several records into one stream record, as the Kinesis Producer Library does; whoever reads has to open them, as
    /// shardflow and the Kinesis Client Library do. Off by default.
    #[must_use]
    pub fn aggregate(mut self, aggregation: Aggregation) -> Self {
        self.aggregation = Some(aggregation);
        self
    }

    /// How long a record waits for others to be sent with; 100 ms by default, 1 h at most.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.linger = time.min(MOST_LINGER);
        self
    }

    /// After how long of nothing but failures other than throttling a record is given up, sent or not; 5 min by default.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = time;
        self
    }

    /// How much may be put and not yet be in the stream, in bytes of data and partition keys, plus 256 a record; 16 MiB by default,
    /// at most 2 GiB. A put waits for room. A larger record waits until it is alone.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes.clamp(1, 2 << 30);
        self
    }

    /// What a record may weigh, data and partition key, in bytes; 1 MiB by default, at most 10 MiB, for streams that were set to
    /// take that much. Larger ones are refused.
    #[must_use]
    pub fn record_bytes(mut self, bytes: usize) -> Self {
        self.record_bytes = bytes.clamp(1, MOST_RECORD_BYTES);
        self
    }

    /// What a call may weigh, in bytes; 5 MiB by default, at most 10 MiB, which is what the service takes since October 2025. A
    /// larger record goes alone. Larger calls are fewer, and what is lost with one is more.
    #[must_use]
    pub fn call_bytes(mut self, bytes: usize) -> Self {
        self.call_bytes = bytes.clamp(1, MOST_CALL_BYTES);
        self
    }

    /// How many stream records a call may hold; 500 by default and at most.
    #[must_use]
    pub fn call_records(mut self, records: usize) -> Self {
        self.call_records = records.clamp(1, MOST_CALL_RECORDS);
        self
    }

    /// How many calls may be under way at once; 8 by default, at least 1.
    #[must_use]
    pub fn calls(mut self, calls: usize) -> Self {
        self.calls = calls.max(1);
        self
    }

    /// How fast packed records go to a shard, in percent of what the service takes of it (1,000 records and 1 MiB a
    /// second); 100 by default, at least 1. Less leaves room for others that write to the same shards; more is refused
    /// again and again, unless the stream is no common one. The Kinesis Producer Library calls it `RateLimit`. Records
    /// that are not packed go as they come, since nobody knows their shards.
    #[must_use]
    pub fn rate_limit(mut self, percent: u32) -> Self {
        self.shard_percent = percent.max(1);
        self
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            call_records: self.call_records,
            call_bytes: self.call_bytes,
            record_bytes: self.record_bytes,
            calls: self.calls,
            linger: self.linger,
            give_up_after: self.give_up_after,
            shard_percent: self.shard_percent,
        }
    }

    /// An aggregate is a record of the stream's, and no larger than those may be.
    pub(super) fn packing(&self) -> Option<Aggregation> {
        let Aggregation { bytes, records } = self.aggregation?;
        // Its partition key counts too: 256 characters of up to 4 bytes.
        let bytes = whole_part(bytes.min(self.record_bytes.saturating_sub(1_024)));
        Some(Aggregation { bytes, records: records.max(1) })
    }
}

impl fmt::Debug for ProducerSettings {
    /// Without the AWS configuration, which may hold credentials, and what an endpoint may carry of such.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerSettings")
            .field("stream", &self.stream)
            .field("region", &self.region)
            .field("is_ordered", &self.is_ordered)
            .field("aggregation", &self.aggregation)
            .field("linger", &self.linger)
            .field("give_up_after", &self.give_up_after)
            .field("buffer_bytes", &self.buffer_bytes)
            .field("record_bytes", &self.record_bytes)
            .field("call_bytes", &self.call_bytes)
            .field("calls", &self.calls)
            .field("rate_limit", &self.shard_percent)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_stay_within_what_the_service_takes() {
        let most = ProducerSettings::stream("s").record_bytes(usize::MAX).call_bytes(usize::MAX).call_records(9_999);
        assert_eq!((most.record_bytes, most.call_bytes, most.call_records), (10 << 20, 10 << 20, 500));
        let least = ProducerSettings::stream("s").buffer_bytes(0).calls(0).call_records(0).linger(Duration::MAX);
        assert_eq!((least.buffer_bytes, least.calls, least.call_records), (1, 1, 1));
        assert_eq!(least.linger, MOST_LINGER);
        let packed = ProducerSettings::stream("s").aggregate(Aggregation { bytes: usize::MAX, records: 0 });
        assert_eq!(packed.packing(), Some(Aggregation { bytes: (1 << 20) - 1_024, records: 1 }));
    }

    #[test]
    fn credentials_do_not_get_into_logs() {
        let credentials = aws_sdk_kinesis::config::Credentials::new("AKIDSECRET", "topsecret", None, None, "test");
        let provider = aws_sdk_kinesis::config::SharedCredentialsProvider::new(credentials);
        let config = aws_config::SdkConfig::builder().credentials_provider(provider).build();
        let settings = ProducerSettings::stream("s").sdk_config(config).endpoint("https://user:topsecret@host");
        let shown = format!("{settings:?}");
        assert!(!shown.contains("topsecret") && !shown.contains("AKIDSECRET"), "{shown}");
    }
}
