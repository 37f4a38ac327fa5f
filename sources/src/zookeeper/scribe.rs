//! The mirror's task: brings the nodes up to what was committed last, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shardflow::retry::{Backoff, Clock, Failed};
use tokio::sync::watch;

use super::memory::{Memory, Step, Writer};
use super::mirror::{MirrorCounts, Told};
use super::nodes::{Malformed, Paths, list_towards, state_towards};
use super::progress::Progress;
use super::session::{Failure, Session};
use super::{ForeignWrites, SpoutNodes};

/// How often a node is tried at a time, where somebody else writes it too.
const TRIES: usize = 8;

/// Writes the nodes.
pub(super) struct Scribe<C> {
    settings: SpoutNodes,
    paths: Paths,
    counts: Arc<MirrorCounts>,
    clock: C,
    session: Option<Session>,
    /// What is known of each shard's node.
    states: BTreeMap<String, Memory>,
    /// What is known of the shard list.
    list: Memory,
    backoff: Backoff,
    /// Whether the server's refusal has been told of. It does not pass by itself, so it is told of at once.
    refusal_told: bool,
}

impl<C: Clock> Scribe<C> {
    pub(super) fn new(settings: SpoutNodes, paths: Paths, counts: Arc<MirrorCounts>, clock: C) -> Self {
        let (states, list, backoff) = (BTreeMap::new(), Memory::default(), Backoff::new(Duration::MAX));
        Self { settings, paths, counts, clock, session: None, states, list, backoff, refusal_told: false }
    }

    /// Writes until it is told to stop and has written what it was told last, or nobody tells it anything any more.
    pub(super) async fn run(mut self, mut told: watch::Receiver<Told>) {
        let mut owed = false;
        // Listens to the end alone: what one listener has heard during a pause, it does not hear again after it.
        let mut ending = told.clone();
        loop {
            if !owed && told.changed().await.is_err() {
                return;
            }
            let Told { progress, stopping } = told.borrow_and_update().clone();
            let pause = match self.bring_up(&progress).await {
                Ok(settled) => {
                    owed = !settled;
                    self.succeeded();
                    self.settings.mirror_interval
                }
                Err(failure) => {
                    owed = true;
                    self.failed(&failure)
                }
            };
            if stopping {
                if !owed {
                    return;
                }
                self.clock.sleep(pause).await;
            } else {
                // The end does not wait for the interval.
                tokio::select! {
                    () = self.clock.sleep(pause) => {}
                    _ = ending.wait_for(|told| told.stopping) => {}
                }
            }
        }
    }

    fn succeeded(&mut self) {
        self.refusal_told = false;
        if let Some(lasted) = self.backoff.succeeded(self.clock.now()) {
            tracing::info!(nodes = self.paths.root(), ?lasted, "the nodes in ZooKeeper are up to date again");
        }
    }

    /// How long to wait after `failure`.
    fn failed(&mut self, failure: &Failure) -> Duration {
        MirrorCounts::add(&self.counts.failures);
        let now = self.clock.now();
        let wait = self.backoff.failed(Failed::Transient, now, rand::random());
        let refused = matches!(failure, Failure::Refused(_)) && !std::mem::replace(&mut self.refusal_told, true);
        if self.backoff.is_news(now) || refused {
            tracing::warn!(
                nodes = self.paths.root(),
                %failure,
                "the nodes in ZooKeeper cannot be kept up to date, which does not hold up the job"
            );
        } else {
            tracing::debug!(nodes = self.paths.root(), %failure, ?wait, "a write to ZooKeeper failed, will be tried again");
        }
        wait.unwrap_or(self.settings.mirror_interval)
    }

    /// Brings all nodes up to `progress`. Whether they are; they are not where somebody else is faster.
    async fn bring_up(&mut self, progress: &Progress) -> Result<bool, Failure> {
        if progress.is_empty() {
            return Ok(true);
        }
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.settings).await?,
        };
        let result = self.write(&session, progress).await;
        // After a failure it is not known what the session is still good for.
        self.session = result.is_ok().then_some(session);
        result
    }

    async fn write(&mut self, session: &Session, progress: &Progress) -> Result<bool, Failure> {
        let pen = Pen { session, counts: &self.counts, foreign_writes: self.settings.foreign_writes };
        self.states.retain(|shard, _| progress.knows(shard));
        let (mut settled, mut refused, mut left_alone) = (true, None, false);
        for (shard, checkpoint) in progress.checkpoints() {
            let (path, memory) = (self.paths.state(shard), self.states.entry(shard.to_owned()).or_default());
            match pen.settle(memory, &path, |stands| state_towards(stands, checkpoint)).await {
                Ok(done) => settled &= done,
                // One node that may not be written does not hold up the others.
                Err(Failure::Refused(text)) => refused = Some(Failure::Refused(text)),
                Err(lost) => return Err(lost),
            }
            left_alone |= memory.is_left_alone();
        }
        // After the checkpoints: a shard that is listed without one, the spout starts anew. And not at all where somebody
        // else is at work, whose list it then is.
        if !left_alone && let Some(shards) = progress.to_read() {
            let path = self.paths.shard_list();
            settled &= pen.settle(&mut self.list, &path, |stands| list_towards(stands, &shards)).await?;
        }
        refused.map_or(Ok(settled), Err)
    }
}

/// Writes one node at a time.
struct Pen<'a> {
    session: &'a Session,
    counts: &'a MirrorCounts,
    foreign_writes: ForeignWrites,
}

impl Pen<'_> {
    /// Brings a node to where `towards` says. Whether it is there, or left to somebody else.
    async fn settle(
        &self,
        memory: &mut Memory,
        path: &str,
        towards: impl Fn(Option<&[u8]>) -> Result<Option<Vec<u8>>, Malformed>,
    ) -> Result<bool, Failure> {
        for _ in 0..TRIES {
            match memory.step(&towards) {
                Ok(Step::Nothing) => return Ok(true),
                Ok(Step::Look) => self.look(memory, path).await?,
                Ok(Step::Write(data, version)) => self.write(memory, path, data, version).await?,
                Err(malformed) => {
                    memory.leave_alone();
                    MirrorCounts::add(&self.counts.foreign_writes);
                    tracing::warn!(path, %malformed, "a node in ZooKeeper is not as the spout writes it, and is left as it is");
                }
            }
        }
        Ok(false)
    }

    async fn write(&self, memory: &mut Memory, path: &str, data: Vec<u8>, version: Option<i32>) -> Result<(), Failure> {
        memory.attempts(&data);
        let wrote = match version {
            None => self.session.create(path, &data).await?,
            Some(version) => self.session.replace(path, &data, version).await?,
        };
        let Some(version) = wrote else { return self.look(memory, path).await };
        MirrorCounts::add(&self.counts.written);
        memory.wrote(data, version);
        Ok(())
    }

    async fn look(&self, memory: &mut Memory, path: &str) -> Result<(), Failure> {
        self.session.catch_up(path).await?;
        let found = self.session.read(path).await?.map(|found| found.standing);
        let foreign_writes = self.foreign_writes;
        if memory.saw(found, foreign_writes) == Writer::Foreign {
            MirrorCounts::add(&self.counts.foreign_writes);
            tracing::warn!(
                path,
                ?foreign_writes,
                "somebody else has changed a node that this job keeps up to date: is the topology running?"
            );
        }
        Ok(())
    }
}
