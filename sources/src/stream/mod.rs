//! Operating a stream: looking at it, following it, filling it, resharding it.
//!
//! What enters: a stream's settings, the same that the source takes. What leaves: what the stream is made of
//! ([`Stream::describe`]), its records as they come ([`Stream::tail`]), records put into it ([`Stream::put`]), shards split
//! and merged by what flows through them ([`Stream::sample`], [`Plan`], [`Stream::reshard`]), its fan-out consumers
//! ([`Stream::consumers`]). The command `shardflow stream` is this module with a command line.
//!
//! What survives a crash: nothing is kept here, all of it is in the stream. A put that was cut off may have put some of its
//! records, and says so where it can; a reshard that was cut off has done a beginning of its plan, and a plan made anew from
//! what the stream is then goes on from there.
//!
//! # Rooms
//! * `hash`: hash keys and their ranges; `shards`: what a stream lists, and its lineage.
//! * `describe`, `consumers`: what there is, and its text.
//! * `cursor`, `tail`: reading.
//! * `put`: writing.
//! * `reshard`: measuring, planning, doing.

mod call;
mod consumers;
mod cursor;
mod describe;
mod hash;
mod put;
mod reshard;
mod shards;
mod tail;

use std::time::Duration;

use aws_sdk_kinesis::primitives::DateTime;
use jiff::Timestamp;
use shardflow::Result;
use shardflow::metrics::SourceMetrics;
use shardflow::vocabulary::StepName;

pub use consumers::Consumer;
pub use describe::{Description, Lag, Summary};
pub use hash::HashRange;
pub use put::{Finished, PutOptions, PutRecord, Refused, Tally};
pub use reshard::{Goal, Load, Piece, Plan, Step, Stopped};
pub use shardflow_aws::hash::hash_of;
pub use shards::Shard;
pub use tail::{Begin, Record, Tail, TailOptions};

use crate::kinesis::client::Client;
use crate::kinesis::{Kinesis, connect};

/// How long calls may fail, unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// One stream, reached.
///
/// # Examples
/// ```no_run
/// use shardflow_sources::{Kinesis, stream::Stream};
///
/// # async fn look() -> shardflow::Result<()> {
/// let stream = Stream::open(&Kinesis::stream("usage").region("eu-west-1")).await?;
/// let open = stream.shards().await?.iter().filter(|shard| shard.is_open()).count();
/// assert!(open > 0);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Stream {
    client: Client,
    metrics: SourceMetrics,
    patience: Duration,
}

impl Stream {
    /// Reaches the stream. Of the settings, name, endpoint, region, AWS configuration and the time that reaching it may take
    /// count.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](shardflow::ErrorKind::Config): a bad name, region or endpoint, no credentials, or the service
    /// refuses. [`ErrorKind::Source`](shardflow::ErrorKind::Source): it could not be reached.
    pub async fn open(settings: &Kinesis) -> Result<Self> {
        let metrics = SourceMetrics::register(&StepName::new("stream"));
        let client = connect::reach(settings, &metrics).await?;
        Ok(Self { client, metrics, patience: PATIENCE })
    }

    /// How long a call may go on failing before it is given up; 60 s by default. Throttled reads and puts go on for ever,
    /// because they get somewhere.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// `stream "usage" at http://…`, as errors name it.
    #[must_use]
    pub fn describe_place(&self) -> &str {
        &self.client.description
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.client.stream.name
    }

    fn sdk(&self) -> &aws_sdk_kinesis::Client {
        &self.client.sdk
    }

    /// The ARN, where the stream was given by it.
    fn given_arn(&self) -> Option<String> {
        self.client.stream.arn.clone()
    }
}

/// A time of the SDK's; `None` for one out of all range.
fn timestamp(time: &DateTime) -> Option<Timestamp> {
    time.to_millis().ok().and_then(|millis| Timestamp::from_millisecond(millis).ok())
}
