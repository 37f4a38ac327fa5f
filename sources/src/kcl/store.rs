//! What keeping leases needs of a table: to read it, and to change a row that nobody else has changed.

use std::collections::VecDeque;
use std::future::Future;

use shardflow_aws::failure::Failure;
use tokio::task::JoinSet;

use super::row::Lease;

/// How many calls run at a time. A job may have a thousand shards; DynamoDB would throttle them all at once.
const AT_A_TIME: usize = 16;

/// How a write of one row ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// The row is as it was meant to be, by this call or by an earlier one whose answer was lost.
    Done,
    /// Somebody has written in between. What is there now; `None`: nothing.
    Refused(Option<Box<Lease>>),
}

/// A change of one row: from how it was seen to how it is to be. `None` is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) seen: Option<Lease>,
    pub(crate) then: Option<Lease>,
}

/// A lease table.
pub(crate) trait Store: Clone + Send + Sync + 'static {
    /// All leases. Fails with [`Remedy::Missing`](shardflow_aws::failure::Remedy::Missing) where there is no table.
    fn leases(&self) -> impl Future<Output = Result<Vec<Lease>, Failure>> + Send;
    /// Changes a row if it still is as it was seen.
    fn write(&self, change: &Change) -> impl Future<Output = Result<Written, Failure>> + Send;
    /// The table, and where it is, for error texts.
    fn describe(&self) -> &str;
}

/// Writes many rows, a bounded number at a time. Stops with the first failure: where one call does not get through the next
/// would not either, and each would take its time. What was not begun is not in the answer.
pub(crate) async fn write_all<S: Store>(store: &S, changes: Vec<Change>) -> Vec<(Change, Result<Written, Failure>)> {
    let mut waiting = VecDeque::from(changes);
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    loop {
        while running.len() < AT_A_TIME
            && let Some(change) = waiting.pop_front()
        {
            let store = store.clone();
            running.spawn(async move {
                let written = store.write(&change).await;
                (change, written)
            });
        }
        match running.join_next().await {
            None => return done,
            Some(Ok(answer)) => {
                if answer.1.is_err() {
                    waiting.clear();
                }
                done.push(answer);
            }
            Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}
