//! The process's side: what is written is visible already, so only the rejected output has anything to commit.

use crate::error::{Error, Result};
use crate::sink::{CommitPermit, Committer, StagedHandle};
use crate::vocabulary::StepName;

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
