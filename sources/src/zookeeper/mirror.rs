//! The mirror as the job sees it: takes what is committed, and returns at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shardflow::Result;
use shardflow::retry::Clock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::SpoutNodes;
use super::progress::Progress;
use super::scribe::Scribe;
use crate::kinesis::committed::ShardState;

/// What the task is told: the latest commit, and whether it is the last.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) progress: Progress,
    pub(super) stopping: bool,
}

/// What the mirror has done since the job started. For metrics.
#[derive(Debug, Default)]
pub(crate) struct MirrorCounts {
    /// Nodes that were written.
    pub(crate) written: AtomicU64,
    /// Nodes found changed or deleted by somebody else, or malformed. Not 0: the topology may be running.
    pub(crate) foreign_writes: AtomicU64,
    /// Attempts to bring the nodes up to date that failed; all of them are made again.
    pub(crate) failures: AtomicU64,
}

impl MirrorCounts {
    /// One more.
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps the nodes of a topology up to date with what the job commits. Dropping it ends it without a last write.
pub(crate) struct Mirror {
    told: watch::Sender<Told>,
    counts: Arc<MirrorCounts>,
    task: JoinHandle<()>,
    /// How long stopping may take.
    patience: Duration,
}

impl Mirror {
    /// Starts it on `runtime`. Nothing is written, and no server is asked, before the first commit.
    ///
    /// # Errors
    /// The prefix, the topology's or the stream's name cannot be part of a path.
    pub(crate) fn start<C: Clock>(settings: &SpoutNodes, stream: &str, runtime: &Handle, clock: C) -> Result<Self> {
        let counts = Arc::new(MirrorCounts::default());
        let (told, listening) = watch::channel(Told::default());
        let scribe = Scribe::new(settings.clone(), settings.paths(stream)?, Arc::clone(&counts), clock);
        let task = runtime.spawn(scribe.run(listening));
        Ok(Self { told, counts, task, patience: settings.connect_timeout })
    }

    /// Takes what is committed of every shard that the job knows. Only the latest is written.
    pub(crate) fn committed(&self, states: BTreeMap<String, ShardState>) {
        self.told.send_modify(|told| told.progress.take_in(states));
    }

    /// What it has done so far.
    pub(crate) fn counts(&self) -> &Arc<MirrorCounts> {
        &self.counts
    }

    /// Writes the last positions and ends. Where ZooKeeper cannot be reached for the connect timeout, says so and ends: a
    /// spout that resumes then reads again what came since the last write.
    pub(crate) async fn stop(mut self) {
        self.told.send_modify(|told| told.stopping = true);
        let ended = tokio::time::timeout(self.patience, &mut self.task).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!(
                patience = ?self.patience,
                "the last positions could not be written to ZooKeeper: a spout that resumes there reads records again"
            );
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
