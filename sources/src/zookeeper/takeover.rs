//! Reads what a topology left behind, once it is sure that the topology is no longer at it.
//!
//! The nodes carry no time and no owner. A topology that lives shows itself by writing: an observer compares what it saw
//! at the beginning of the watch with what it sees until its end, on its own clock. Time in which ZooKeeper could not be
//! reached does not count, since nobody could write then either.

use std::collections::BTreeMap;
use std::time::Duration;

use shardflow::retry::{Backoff, Clock, Failed};
use shardflow::{Error, Result};
use tokio::time::timeout;

use super::nodes::{Paths, SHARD_LIST, read_list, read_state};
use super::plan::TakenOver;
use super::session::{Failure, Found, Session};
use super::{SpoutNodes, TakeOver};

/// How often the watch looks, unless it is very short: a topology that lives is refused at once when it is seen.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the topology left behind of `stream` (its name, not its ARN); `None` where the settings say not to look.
///
/// # Errors
/// [`ErrorKind::Config`](shardflow::ErrorKind::Config): there is nothing at that path, a node is malformed, the topology
/// still writes, or the server refuses. [`ErrorKind::Source`](shardflow::ErrorKind::Source): ZooKeeper could not be
/// reached.
pub(crate) async fn take_over<C: Clock>(settings: &SpoutNodes, stream: &str, clock: &C) -> Result<Option<TakenOver>> {
    if settings.take_over == TakeOver::No {
        return Ok(None);
    }
    let paths = settings.paths(stream)?;
    let mut observer = Observer { settings, paths, clock, session: None, failed: false };
    let mut seen = observer.look().await?;
    // What is malformed, the user should not learn after the watch.
    let mut taken = seen.taken(&observer.paths)?;
    if settings.take_over == TakeOver::WhenIdle {
        seen = observer.watch(seen).await?;
        taken = seen.taken(&observer.paths)?;
    }
    tracing::info!(
        nodes = observer.paths.root(),
        checkpoints = taken.states.values().flatten().count(),
        "took over the checkpoints of a topology"
    );
    Ok(Some(taken))
}

/// All nodes of one topology and stream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    list: Option<Found>,
    states: BTreeMap<String, Found>,
}

impl Seen {
    /// Reads them.
    fn taken(&self, paths: &Paths) -> Result<TakenOver> {
        let list = self.list.as_ref().map(|found| {
            let shards = read_list(&found.standing.data);
            shards.map_err(|malformed| malformed_at(&paths.shard_list(), malformed))
        });
        let list = list.transpose()?.map(|shards| shards.into_iter().collect());
        let mut states = BTreeMap::new();
        for (shard, found) in &self.states {
            let checkpoint = read_state(&found.standing.data);
            let checkpoint = checkpoint.map_err(|malformed| malformed_at(&paths.state(shard), malformed))?;
            states.insert(shard.clone(), checkpoint);
        }
        Ok(TakenOver { list, states })
    }

    /// The path of a node that was written, created or deleted between this and `later`.
    fn moved(&self, later: &Self, paths: &Paths) -> Option<String> {
        let changed = |found: Option<&Found>| found.map(|found| found.changed);
        if changed(self.list.as_ref()) != changed(later.list.as_ref()) {
            return Some(paths.shard_list());
        }
        let mut shards = self.states.keys().chain(later.states.keys());
        let moved = shards.find(|shard| changed(self.states.get(*shard)) != changed(later.states.get(*shard)));
        moved.map(|shard| paths.state(shard))
    }
}

fn malformed_at(path: &str, malformed: super::nodes::Malformed) -> Error {
    Error::config(format!("could not read the node \"{path}\"")).caused_by(malformed)
}

struct Observer<'a, C> {
    settings: &'a SpoutNodes,
    paths: Paths,
    clock: &'a C,
    session: Option<Session>,
    /// Whether a look has failed since the watch began.
    failed: bool,
}

impl<C: Clock> Observer<'_, C> {
    /// Watches until nothing has moved for the watch time. Gives what was seen last.
    async fn watch(&mut self, first: Seen) -> Result<Seen> {
        let watch_time = self.settings.watch_time;
        tracing::info!(nodes = self.paths.root(), ?watch_time, "watching whether the topology still writes");
        let mut since = self.clock.now();
        self.failed = false;
        loop {
            let left = watch_time.saturating_sub(self.clock.now().saturating_duration_since(since));
            if left.is_zero() {
                return Ok(first);
            }
            self.clock.sleep(left.min(LOOK_EVERY)).await;
            let seen = self.look().await?;
            if let Some(path) = first.moved(&seen, &self.paths) {
                return Err(self.alive(&path));
            }
            if std::mem::take(&mut self.failed) {
                since = self.clock.now();
            }
        }
    }

    fn alive(&self, path: &str) -> Error {
        let topology = &self.settings.topology;
        Error::config(format!(
            "could not take over topology \"{topology}\": it is still running, since the node \"{path}\" changes; stop it, \
             or take over by force"
        ))
    }

    /// Reads all nodes, trying for as long as the settings allow.
    async fn look(&mut self) -> Result<Seen> {
        let time = self.settings.connect_timeout;
        let (mut backoff, mut last) = (Backoff::new(Duration::MAX), None);
        let attempts = async {
            loop {
                match self.try_look().await {
                    Ok(seen) => return Ok::<_, Failure>(seen),
                    Err(Failure::Lost(text)) => {
                        self.session = None;
                        self.failed = true;
                        last = Some(text);
                        let wait = backoff.failed(Failed::Transient, self.clock.now(), rand::random());
                        self.clock.sleep(wait.unwrap_or_default()).await;
                    }
                    Err(refused @ Failure::Refused(_)) => return Err(refused),
                }
            }
        };
        let answer = timeout(time, attempts).await;
        let subject = format!("could not read the nodes of topology \"{}\"", self.settings.topology);
        match answer {
            Ok(Ok(seen)) => seen.ok_or_else(|| self.nothing_there()),
            Ok(Err(refused)) => Err(Error::config(subject).caused_by(refused)),
            Err(_) => {
                let error = Error::source(format!("{subject} within {time:?}"));
                Err(match last {
                    Some(text) => error.caused_by(text),
                    None => error,
                })
            }
        }
    }

    fn nothing_there(&self) -> Error {
        let (topology, root, servers) = (&self.settings.topology, self.paths.root(), &self.settings.connect);
        Error::config(format!(
            "could not take over topology \"{topology}\": there is no node \"{root}\" at \"{servers}\"; are the prefix, the \
             topology's name and the stream's name those of the spout?"
        ))
    }

    /// Reads all nodes once; `None` where the node above them does not exist.
    async fn try_look(&mut self) -> Result<Option<Seen>, Failure> {
        if self.session.is_none() {
            self.session = Some(Session::open(self.settings).await?);
        }
        let Some(session) = &self.session else { return Ok(None) };
        session.catch_up(self.paths.root()).await?;
        let Some(children) = session.children(self.paths.root()).await? else { return Ok(None) };
        let mut states = BTreeMap::new();
        for shard in children.into_iter().filter(|name| name != SHARD_LIST) {
            if let Some(found) = session.read(&self.paths.state(&shard)).await? {
                states.insert(shard, found);
            }
        }
        Ok(Some(Seen { list: session.read(&self.paths.shard_list()).await?, states }))
    }
}

#[cfg(test)]
#[path = "takeover_tests.rs"]
mod tests;
