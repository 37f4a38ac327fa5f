//! Lives with the Kinesis spout for Storm: takes over the checkpoints that it keeps in ZooKeeper, and keeps them up to date
//! so that it can take them back.
//!
//! What enters: at a job's first start the checkpoints of a topology, later the positions that the job commits. What
//! leaves: where to start each shard, and the same nodes as the spout would write them. What survives a crash: nothing
//! here. The job's own snapshots are the truth and the nodes are a mirror of them, a few seconds behind; ZooKeeper being
//! away never fails the job and never slows it.
//!
//! # Taking over
//! Stop the topology (`storm kill`), then start the job with [`TakeOver::WhenIdle`]: it watches the nodes for
//! [`SpoutNodes::watch_time`] and refuses if one of them changes. A topology that runs but acknowledges nothing writes
//! nothing, so that silence is no proof. Shards with a checkpoint go on after it. Children of a reshard that the spout did
//! not know start at the trim horizon, where the spout would start them at its initial position.
//!
//! # Progress tracking
//! The latest commit is written at most every [`SpoutNodes::mirror_interval`], and when the job stops, by compare-and-set
//! on each node's version and never backwards. What was changed by somebody else is warned of, counted, and by default no
//! longer touched ([`ForeignWrites`]). The shard list names the shards that are not yet read to their end.
//!
//! # Handing back
//! Stop the job, then start the topology. The spout resumes after its checkpoints and reads again what came between the
//! mirror's last write and the job's end. It knows no places inside an aggregated record: that record is read again, and
//! with it up to a commit's worth of records before it. A shard of which nothing was read yet has no checkpoint, and the
//! spout starts it at its initial position: set that to `TRIM_HORIZON` (it is `LATEST` by default), or such a shard's first
//! records are skipped.

mod memory;
mod mirror;
mod nodes;
mod plan;
mod progress;
mod scribe;
mod session;
mod takeover;
#[cfg(test)]
mod testing;

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::counter;
use shardflow::vocabulary::StepName;

use shardflow::Result;

pub(crate) use mirror::Mirror;
pub(crate) use plan::Lineages;
pub(crate) use takeover::take_over;

use nodes::Paths;

/// The names of the metrics of the mirror.
pub mod names {
    /// Counter, labels step: nodes that were written.
    pub const WRITES: &str = "shardflow_spout_writes_total";
    /// Counter, labels step: nodes found changed or deleted by somebody else, or malformed. Not 0: the topology may be
    /// running.
    pub const FOREIGN_WRITES: &str = "shardflow_spout_foreign_writes_total";
    /// Counter, labels step: attempts to bring the nodes up to date that failed; all of them are made again.
    pub const FAILURES: &str = "shardflow_spout_failures_total";
}

/// Publishes what a mirror has done so far, for the source `step`.
pub(crate) fn publish(mirror: &Mirror, step: &StepName) {
    let counts = mirror.counts();
    for (name, count) in [
        (names::WRITES, &counts.written),
        (names::FOREIGN_WRITES, &counts.foreign_writes),
        (names::FAILURES, &counts.failures),
    ] {
        counter!(name, "step" => step.to_string()).absolute(count.load(Ordering::Relaxed));
    }
}

/// Whether a job's first start takes over where a topology stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TakeOver {
    /// It does not: the job starts where its own settings say. A node that is further than the job is left as it is until
    /// the job has passed it.
    #[default]
    No,
    /// It does, unless the topology still writes.
    WhenIdle,
    /// It does, without looking whether the topology still writes: both may then work off the same records.
    Force,
}

/// What the mirror does about a node that somebody else has changed or deleted while the job ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForeignWrites {
    /// Leaves it and the shard list to them until the job's next start. Most likely the topology runs again, and a
    /// checkpoint of the job's would make it skip records.
    #[default]
    StandBack,
    /// Takes what stands there as the new ground and goes on from it, still never backwards.
    Adopt,
}

/// Where a topology with the Kinesis spout keeps its checkpoints, and how to live with it.
///
/// # Examples
/// ```
/// use shardflow_sources::zookeeper::{SpoutNodes, TakeOver};
///
/// let nodes = SpoutNodes::of_topology("metering").connect("zk1:2181,zk2:2181").take_over(TakeOver::WhenIdle);
/// assert_eq!(nodes.topology(), "metering");
/// ```
#[derive(Debug, Clone)]
pub struct SpoutNodes {
    topology: String,
    connect: String,
    prefix: String,
    digest: Option<Digest>,
    session_timeout: Duration,
    connect_timeout: Duration,
    watch_time: Duration,
    mirror_interval: Duration,
    take_over: TakeOver,
    foreign_writes: ForeignWrites,
}

impl SpoutNodes {
    /// The nodes of the topology of this name (`topology.name` in its configuration), on this machine's ZooKeeper.
    #[must_use]
    pub fn of_topology(name: impl Into<String>) -> Self {
        Self {
            topology: name.into(),
            connect: "127.0.0.1:2181".to_owned(),
            prefix: "kinesis_storm_spout".to_owned(),
            digest: None,
            session_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            watch_time: Duration::from_secs(70),
            mirror_interval: Duration::from_secs(5),
            take_over: TakeOver::default(),
            foreign_writes: ForeignWrites::default(),
        }
    }

    /// The servers, as the spout was given them: `host:port`, separated by commas, and where all paths lie below some node
    /// that node's path, as in `zk1:2181,zk2:2181/storm`.
    #[must_use]
    pub fn connect(mut self, servers: impl Into<String>) -> Self {
        self.connect = servers.into();
        self
    }

    /// The spout's ZooKeeper prefix, without a slash before or after it; `kinesis_storm_spout` by default, as in the spout.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// A user and password of ZooKeeper's `digest` scheme, for servers that ask for them. The spout has none.
    #[must_use]
    pub fn digest(mut self, user: impl AsRef<str>, password: impl AsRef<str>) -> Self {
        self.digest = Some(Digest(format!("{}:{}", user.as_ref(), password.as_ref())));
        self
    }

    /// How long the servers keep a session that is silent, and how long one call may take; 10 s by default. Clamped to
    /// 100 ms..=1 h.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout.clamp(Duration::from_millis(100), Duration::from_secs(3600));
        self
    }

    /// How long taking over may take to reach ZooKeeper, and how long a job that stops tries to write its last positions;
    /// 10 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long [`TakeOver::WhenIdle`] watches for signs of life; 70 s by default. A spout writes every 60 s by default:
    /// a time shorter than its own interval (`checkpointIntervalMillis`) would see nothing of it.
    #[must_use]
    pub fn watch_time(mut self, time: Duration) -> Self {
        self.watch_time = time;
        self
    }

    /// The least time between two writes of the mirror; 5 s by default, at least 10 ms.
    #[must_use]
    pub fn mirror_interval(mut self, interval: Duration) -> Self {
        self.mirror_interval = interval.max(Duration::from_millis(10));
        self
    }

    /// Whether the job's first start takes over the checkpoints; [`TakeOver::No`] by default.
    #[must_use]
    pub fn take_over(mut self, take_over: TakeOver) -> Self {
        self.take_over = take_over;
        self
    }

    /// What to do about nodes that somebody else changes; [`ForeignWrites::StandBack`] by default.
    #[must_use]
    pub fn foreign_writes(mut self, foreign_writes: ForeignWrites) -> Self {
        self.foreign_writes = foreign_writes;
        self
    }

    /// Whether it is to say where a first start begins.
    pub(crate) fn takes_over(&self) -> bool {
        self.take_over != TakeOver::No
    }

    /// The topology's name.
    #[must_use]
    pub fn topology(&self) -> &str {
        &self.topology
    }

    /// The paths for `stream`, which is its name and not its ARN.
    fn paths(&self, stream: &str) -> Result<Paths> {
        Paths::new(&self.prefix, &self.topology, stream)
    }
}

/// `user:password`. Never printed.
#[derive(Clone)]
struct Digest(String);

impl Digest {
    fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_printed() {
        let nodes = SpoutNodes::of_topology("t").digest("storm", "hunter2");
        assert!(!format!("{nodes:?}").contains("hunter2"));
    }
}
