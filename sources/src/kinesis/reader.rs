//! The worker's end of a shard's task.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use shardflow::retry::Clock;
use shardflow::source::{RawBatch, Reader, Split};
use shardflow::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::client::ShardApi;
use super::shard::{Message, ShardTask};
use super::standing::Standing;

/// How many batches wait between the task and the worker. Besides them the task holds the rest of one answer; what all
/// shards hold together, the budget bounds.
const WAITING_BATCHES: usize = 2;

/// Reads one shard. Dropping it ends its task.
pub(crate) struct ShardReader {
    shard: String,
    messages: mpsc::Receiver<Message>,
    standing: Arc<Standing>,
    task: AbortHandle,
    /// The shards that follow, once the end has been read.
    children: Option<Vec<Split>>,
}

impl ShardReader {
    /// Starts the task that `make` makes, given where to send what it reads, on `runtime`.
    pub(crate) fn start<A: ShardApi, C: Clock>(
        make: impl FnOnce(mpsc::Sender<Message>) -> ShardTask<A, C>,
        runtime: &Handle,
    ) -> Self {
        let (sender, messages) = mpsc::channel(WAITING_BATCHES);
        let task = make(sender);
        let (shard, standing) = (task.shard.clone(), Arc::clone(&task.standing));
        let task = runtime.spawn(task.run()).abort_handle();
        Self { shard, messages, standing, task, children: None }
    }
}

impl Reader for ShardReader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        if self.children.is_some() {
            return Poll::Ready(Ok(None));
        }
        self.messages.poll_recv(cx).map(|message| match message {
            Some(Message::Batch(batch, _share)) => Ok(Some(batch)),
            Some(Message::End(children)) => {
                self.children = Some(children);
                Ok(None)
            }
            Some(Message::Failed(error)) => Err(error),
            None => Err(Error::source(format!("could not go on with shard \"{}\": its task is gone", self.shard))),
        })
    }

    fn millis_behind(&self) -> Option<u64> {
        self.standing.behind()
    }

    fn caught_up(&self) -> bool {
        self.standing.caught_up(Instant::now())
    }

    fn children(&self) -> Vec<Split> {
        self.children.clone().unwrap_or_default()
    }
}

impl Drop for ShardReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
