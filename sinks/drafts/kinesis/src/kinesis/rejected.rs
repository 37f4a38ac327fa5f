//! The rejected output of a sink whose records are visible at once: all that there is to commit.

use shardflow::sink::{CommitPermit, Committer, SinkContext, StagedHandle};
use shardflow::vocabulary::StepName;
use shardflow::{Error, Result};

/// What the rejected output's sink is told.
pub(super) fn refused_context(context: &SinkContext) -> SinkContext {
    let step = StepName::new(format!("{}.refused", context.step));
    let beside = context.folder.parent().unwrap_or(&context.folder);
    SinkContext { folder: beside.join(step.as_file_name()), step, ..context.clone() }
}

/// Commits the rejected output, where there is one.
pub(super) struct RefusedCommitter {
    pub(super) step: StepName,
    pub(super) inner: Option<Box<dyn Committer>>,
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

    fn close(&mut self) -> Result<()> {
        self.inner.as_mut().map_or(Ok(()), |inner| inner.close())
    }
}
