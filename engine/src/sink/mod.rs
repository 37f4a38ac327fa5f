//! The port of sinks: stage, prepare, commit; and for services that can only write at once, [`at_least_once`].
//!
//! A [`Sink`] gives each worker a [`SinkWriter`], which stages records out of sight, and the process one [`Committer`],
//! which makes them visible. When an epoch closes the writer *prepares*: it hands over a handle, a few bytes that name
//! what it staged. The handle goes into the epoch's durable batch; only after that may the committer make it visible,
//! and it is handed the same handle again after a crash.
//!
//! # On recovery
//! [`Committer::recover`] gets the handles of the last committed epochs, commits them again (idempotent), and discards
//! whatever else was staged by earlier incarnations.

mod at_least_once;
mod version;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

pub use at_least_once::{
    AtLeastOnce, BatchWriter, Batching, Destination, EntryOutcome, Refused, RejectedOutput, RejectedWriter, Trouble,
    Written, at_least_once,
};
pub use version::Version;

use crate::error::Result;
use crate::vocabulary::{Epoch, Incarnation, StepName};

/// What a sink is told when it is opened.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// The job's name.
    pub job: String,
    /// The sink's name in the flow.
    pub step: StepName,
    /// This start's number; with the epoch it only grows.
    pub incarnation: Incarnation,
    /// The last committed epoch, where there is one. What is visible beyond it was committed by nobody.
    pub committed: Option<Epoch>,
    /// How many workers this start has.
    pub workers: usize,
    /// A folder for what this sink has to keep on this machine between commits, as safe as the state is: beside it. It may
    /// not exist yet; nobody else writes into it.
    pub folder: PathBuf,
    /// Where a sink's I/O runs. Its calls may block on it: they are made on threads that are not its own.
    pub runtime: Handle,
}

/// A kind of sink with its settings: what the user passes to `.sink(name, …)`.
pub trait Sink<T>: Send + Sync + 'static {
    /// Opens the committer, once a process and start, before any writer. Checks settings.
    ///
    /// # Errors
    /// Settings that cannot work: the job does not start.
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>>;

    /// Opens one worker's writer.
    ///
    /// # Errors
    /// As for the committer.
    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>>;

    /// What it writes to, in a line, for [`Job::explain`](crate::Job::explain): `table "charges" at region eu-west-1`. By default
    /// the type's name.
    ///
    /// Nothing secret: no password, no key, no query of a URL. Opens nothing, also where the settings cannot work.
    fn describe(&self) -> String {
        name_of::<Self>()
    }
}

/// A type's name, without where it is and what it is of.
fn name_of<S: ?Sized>() -> String {
    let name = std::any::type_name::<S>();
    let name = name.split_once('<').map_or(name, |(name, _)| name);
    name.rsplit_once("::").map_or(name, |(_, name)| name).to_owned()
}

/// Makes durable what is staged, and gives the handle that names it; `None`: there is nothing to commit. Runs on the commit
/// thread, off the worker's, before the epoch's durable batch is written.
pub type Flush = Box<dyn FnOnce() -> Result<Option<Vec<u8>>> + Send>;

/// What one writer staged in one epoch. Its handle is stored in the snapshot and given to [`Committer::commit`].
pub enum Prepared {
    /// It is durable, or goes with its handle.
    Staged(Vec<u8>),
    /// It is on its way.
    Flush(Flush),
}

impl Prepared {
    /// Makes it durable where it is not yet, and gives its handle; `None`: there is nothing to commit.
    ///
    /// # Errors
    /// What the flush says.
    pub fn finish(self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Staged(handle) => Ok(Some(handle)),
            Self::Flush(flush) => flush(),
        }
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Staged(handle) => f.debug_tuple("Staged").field(&handle.len()).finish(),
            Self::Flush(_) => f.write_str("Flush"),
        }
    }
}

/// Stages one worker's records. A writer is dropped when its job ends, well or not: what it has under way then ends with it.
pub trait SinkWriter<T>: Send + 'static {
    /// What is staged from here on belongs to `epoch`. Called before the first record of an epoch; not for one without records.
    fn begin(&mut self, _epoch: Epoch) {}

    /// Takes a record of the open epoch. May block: that slows the sources and loses nothing.
    ///
    /// # Errors
    /// It stops the job; the last committed epoch stands.
    fn stage(&mut self, record: &T) -> Result<()>;

    /// Ends `epoch`: everything staged since the last call belongs to it. `None`: nothing to commit.
    ///
    /// # Errors
    /// It stops the job; the last committed epoch stands.
    fn prepare(&mut self, epoch: Epoch) -> Result<Option<Prepared>>;

    /// Bytes staged and not yet prepared, for the metrics.
    fn in_flight(&self) -> u64 {
        0
    }
}

/// A handle with where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedHandle {
    /// The epoch in which it was prepared.
    pub epoch: Epoch,
    /// The worker that prepared it.
    pub worker: u32,
    /// What [`SinkWriter::prepare`] gave.
    pub handle: Vec<u8>,
}

/// The right to make epochs up to `epoch` visible. Only the commit protocol can make one, after the durable batch.
#[derive(Debug)]
pub struct CommitPermit {
    epoch: Epoch,
}

impl CommitPermit {
    /// Only for the commit protocol, after the batch that names `epoch` is durable. Tests: `testing::sink::permit`.
    pub(crate) fn granted(epoch: Epoch) -> Self {
        Self { epoch }
    }

    /// The last epoch that may be made visible.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// Makes staged results visible, once a process.
pub trait Committer: Send + 'static {
    /// First call after a start: commits `handles` (of the last committed epochs) again and discards everything else
    /// that earlier incarnations staged.
    ///
    /// # Errors
    /// Staged results that are gone, or visible ones beyond the last committed epoch: the job does not start.
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()>;

    /// Makes the handles visible. Called in epoch order; the same handle may come again after a crash.
    ///
    /// # Errors
    /// It stops the job. The epoch stays committed: the next start commits its handles again.
    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()>;

    /// Tells what has failed beside the commits, in a sink that works beside them. Called with every epoch that closes, also where
    /// this sink has nothing to commit: a job to which no more records come would not learn of it otherwise. It must be quick.
    ///
    /// # Errors
    /// It stops the job, before the epoch is committed.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// Last call when a job ends well: its last epoch is committed and its writers are dropped. A sink that keeps
    /// committed results out of sight over several epochs makes them visible now; without this call, the next start does.
    ///
    /// # Errors
    /// The job ends with the error. Nothing is lost: the next start makes visible what this call could not.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_called_by_its_name_alone() {
        assert_eq!(name_of::<String>(), "String");
        assert_eq!(name_of::<std::collections::BTreeMap<String, Vec<std::path::PathBuf>>>(), "BTreeMap");
        assert_eq!(name_of::<u8>(), "u8");
    }
}
