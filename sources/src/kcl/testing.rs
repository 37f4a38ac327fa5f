//! A clock that a test moves, and a table in memory whose connections fail as a test wants.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shardflow::metrics::SourceMetrics;
use shardflow::retry::{Clock, Failed};
use shardflow::vocabulary::StepName;
use shardflow_aws::failure::{Failure, Remedy};
use tokio::sync::watch;

use super::keeper::Terms;
use super::row::Lease;
use super::store::{Change, Store, Written};
use crate::kinesis::committed::ShardState;
use crate::kinesis::position::{Sequence, ShardPosition};

pub(super) const FAILOVER: Duration = Duration::from_secs(10);
pub(super) const MIRROR: Duration = Duration::from_secs(5);

/// A clock that stands until it is moved.
#[derive(Clone)]
pub(super) struct Manual {
    start: Instant,
    passed: watch::Sender<Duration>,
}

impl Manual {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), passed: watch::Sender::new(Duration::ZERO) }
    }

    /// Moves it, all at once.
    pub(super) fn jump(&self, time: Duration) {
        self.passed.send_modify(|passed| *passed += time);
    }

    /// Moves it in steps of a tenth of a second, and lets everybody work between them.
    pub(super) async fn pass(&self, time: Duration) {
        let end = *self.passed.borrow() + time;
        while *self.passed.borrow() < end {
            self.jump(Duration::from_millis(100));
            settle().await;
        }
    }
}

impl Clock for Manual {
    fn now(&self) -> Instant {
        self.start + *self.passed.borrow()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        let mut passed = self.passed.subscribe();
        let until = *self.passed.borrow() + time;
        async move {
            passed.wait_for(|passed| *passed >= until).await.expect("a sleeper holds the clock");
        }
    }
}

/// Lets all tasks work that have something to do. On a runtime of one thread, with nothing outside of it.
pub(super) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// How a connection behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    /// Nothing gets through.
    Down,
    /// Everything gets through, and no answer comes back to a write.
    Deaf,
    /// Writes are not permitted.
    Forbidden,
}

/// A table in memory, as one process reaches it.
#[derive(Clone)]
pub(super) struct Memory {
    rows: Arc<Mutex<BTreeMap<String, Lease>>>,
    link: Arc<Mutex<Link>>,
    /// A clock, and how long after the work was done the answer to a write comes.
    slow: Arc<Mutex<Option<(Manual, Duration)>>>,
    /// What was written over this connection.
    written: Arc<Mutex<Vec<Change>>>,
}

impl Memory {
    pub(super) fn new(rows: impl IntoIterator<Item = Lease>) -> Self {
        let rows = rows.into_iter().map(|lease| (lease.key.clone(), lease)).collect();
        let link = Arc::new(Mutex::new(Link::Up));
        Self { rows: Arc::new(Mutex::new(rows)), link, slow: Arc::default(), written: Arc::default() }
    }

    /// A connection of another process.
    pub(super) fn elsewhere(&self) -> Self {
        Self { rows: Arc::clone(&self.rows), ..Self::new([]) }
    }

    pub(super) fn set_link(&self, link: Link) {
        *self.link.lock().unwrap() = link;
    }

    pub(super) fn answer_after(&self, time: Duration, clock: &Manual) {
        *self.slow.lock().unwrap() = Some((clock.clone(), time));
    }

    pub(super) fn row(&self, key: &str) -> Lease {
        self.rows.lock().unwrap()[key].clone()
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.rows.lock().unwrap().keys().cloned().collect()
    }

    /// Somebody else writes, without asking.
    pub(super) fn put(&self, lease: Lease) {
        self.rows.lock().unwrap().insert(lease.key.clone(), lease);
    }

    pub(super) fn delete(&self, key: &str) {
        self.rows.lock().unwrap().remove(key);
    }

    /// The checkpoints written since the last time.
    pub(super) fn checkpoints(&self) -> Vec<String> {
        let written = std::mem::take(&mut *self.written.lock().unwrap());
        let checkpoint = |change: Change| {
            let (seen, then) = (change.seen?, change.then?);
            (seen.checkpoint != then.checkpoint).then(|| format!("{} {}", then.key, then.checkpoint))
        };
        written.into_iter().filter_map(checkpoint).collect()
    }

    fn change(&self, change: &Change) -> Written {
        let key = &change.seen.as_ref().or(change.then.as_ref()).unwrap().key;
        let mut rows = self.rows.lock().unwrap();
        let row = rows.get(key);
        let known = |lease: &Lease| (lease.counter, lease.owner.clone(), lease.checkpoint_owner.clone());
        if row.map(known) != change.seen.as_ref().map(known) {
            return if row == change.then.as_ref() {
                Written::Done
            } else {
                Written::Refused(row.cloned().map(Box::new))
            };
        }
        match &change.then {
            Some(then) => rows.insert(key.clone(), then.clone()),
            None => rows.remove(key),
        };
        self.written.lock().unwrap().push(change.clone());
        Written::Done
    }

    fn link(&self) -> Link {
        *self.link.lock().unwrap()
    }
}

fn unreachable() -> Failure {
    Failure { remedy: Remedy::Retry(Failed::Transient), text: "connection refused".to_owned() }
}

impl Store for Memory {
    async fn leases(&self) -> Result<Vec<Lease>, Failure> {
        tokio::task::yield_now().await;
        match self.link() {
            Link::Down => Err(unreachable()),
            _ => Ok(self.rows.lock().unwrap().values().cloned().collect()),
        }
    }

    async fn write(&self, change: &Change) -> Result<Written, Failure> {
        tokio::task::yield_now().await;
        match self.link() {
            Link::Up => {
                let written = self.change(change);
                let slow = self.slow.lock().unwrap().clone();
                if let Some((clock, time)) = slow {
                    clock.sleep(time).await;
                }
                Ok(written)
            }
            Link::Down => Err(unreachable()),
            Link::Deaf => {
                self.change(change);
                Err(unreachable())
            }
            Link::Forbidden => Err(Failure { remedy: Remedy::None, text: "AccessDeniedException".to_owned() }),
        }
    }

    fn describe(&self) -> &str {
        "lease table \"usage\""
    }
}

pub(super) fn metrics() -> SourceMetrics {
    SourceMetrics::register(&StepName::new("usage"))
}

/// The terms of `owner`, who knows of no dead one but those whose names begin with `dead`.
pub(super) fn terms(owner: &str) -> Terms {
    Terms {
        first_start: false,
        owner: owner.to_owned(),
        failover_time: FAILOVER,
        mirror_interval: MIRROR,
        is_my_predecessor: Arc::new(|owner| owner.starts_with("dead")),
        metrics: metrics(),
    }
}

/// A shard that was read up to this record.
pub(super) fn read_to(number: u64, parents: &[&str]) -> ShardState {
    let position = match number {
        0 => ShardPosition::TrimHorizon,
        number => ShardPosition::After(Sequence { number: number.to_string(), sub: None }),
    };
    let parents = parents.iter().map(ToString::to_string).collect();
    ShardState { position, parents, ..ShardState::default() }
}
