//! What goes to a rejected output beside a sink, whose own records are visible when they are written: all that there is to commit.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::sink::{CommitPermit, Committer, Prepared, Refused, Sink, SinkContext, SinkWriter, StagedHandle};
use crate::vocabulary::{Epoch, StepName};

/// The rejected output of a sink, where it has one. For sinks that take refused records out themselves, in place of
/// [`at_least_once`](super::at_least_once()).
///
/// It is opened under the name of the sink's step with `.refused` behind it.
#[derive(Clone, Default)]
pub struct RejectedOutput(Option<Arc<dyn Sink<Refused>>>);

impl RejectedOutput {
    /// Records go to this sink.
    #[must_use]
    pub fn to(sink: impl Sink<Refused>) -> Self {
        Self(Some(Arc::new(sink)))
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// What a sink says of itself that has it ([`Sink::describe`]): `sink`, and where refused records go.
    #[must_use]
    pub fn described_beside(&self, sink: String) -> String {
        match &self.0 {
            Some(rejected) => format!("{sink}; refused records: {}", rejected.describe()),
            None => sink,
        }
    }

    /// The process's side, for a sink that has nothing else to commit.
    ///
    /// # Errors
    /// Those of the rejected output.
    pub fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let inner = self.0.as_ref().map(|sink| sink.committer(&refused(context)));
        Ok(Box::new(RefusedCommitter { step: context.step.clone(), inner: inner.transpose()? }))
    }

    /// A worker's side.
    ///
    /// # Errors
    /// Those of the rejected output.
    pub fn writer(&self, context: &SinkContext, worker: usize) -> Result<RejectedWriter> {
        let inner = self.0.as_ref().map(|sink| sink.writer(&refused(context), worker)).transpose()?;
        Ok(RejectedWriter { step: context.step.clone(), inner: inner.map(|writer| Arc::new(Mutex::new(writer))) })
    }
}

/// A worker's side of a rejected output, or of none. Made by [`RejectedOutput::writer`].
#[derive(Clone)]
pub struct RejectedWriter {
    step: StepName,
    inner: Option<Arc<Mutex<Box<dyn SinkWriter<Refused>>>>>,
}

impl RejectedWriter {
    /// Stages what of an epoch was refused, on the commit thread: only when all answers are there is it known. Gives the
    /// handle that the epoch is committed with.
    ///
    /// # Errors
    /// Those of the rejected output; and, where there is none, the first record that was refused.
    pub fn settle(&self, refused: &[Refused], epoch: Epoch) -> Result<Option<Vec<u8>>> {
        let Some(rejected) = &self.inner else {
            return refused.first().map_or(Ok(None), |refused| Err(stopped_by(&self.step, refused)));
        };
        let mut rejected = rejected.lock().unwrap_or_else(PoisonError::into_inner);
        rejected.begin(epoch);
        refused.iter().try_for_each(|refused| rejected.stage(refused))?;
        rejected.prepare(epoch)?.map_or(Ok(None), Prepared::finish)
    }
}

fn stopped_by(step: &StepName, Refused { error, record }: &Refused) -> Error {
    Error::sink(format!(
        "could not write a record, which is refused: {error}; give the sink a rejected output for such records (rejected_to); \
         it is {}",
        shortened(record)
    ))
    .in_step(step.as_str())
}

/// A record in an error: its beginning.
fn shortened(record: &str) -> String {
    const MOST: usize = 200;
    match record.char_indices().nth(MOST) {
        None => format!("{record:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", record.get(..end).unwrap_or_default(), record.len()),
    }
}

/// What the rejected output's sink is told.
fn refused(context: &SinkContext) -> SinkContext {
    let step = StepName::new(format!("{}.refused", context.step));
    let beside = context.folder.parent().unwrap_or(&context.folder);
    SinkContext { folder: beside.join(step.as_file_name()), step, ..context.clone() }
}

/// Commits the rejected output, where there is one.
struct RefusedCommitter {
    step: StepName,
    inner: Option<Box<dyn Committer>>,
}

impl Committer for RefusedCommitter {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        match &mut self.inner {
            Some(inner) => inner.recover(permit, handles),
            None if handles.is_empty() => Ok(()),
            None => Err(Error::config(
                "its rejected output has committed records that may not be visible yet, and this program gives it none: run the \
                 program that has it once more",
            )
            .in_step(self.step.as_str())),
        }
    }

    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        self.inner.as_mut().map_or(Ok(()), |inner| inner.commit(permit, handles))
    }

    fn check(&mut self) -> Result<()> {
        self.inner.as_mut().map_or(Ok(()), |inner| inner.check())
    }

    fn close(&mut self) -> Result<()> {
        self.inner.as_mut().map_or(Ok(()), |inner| inner.close())
    }
}
