//! A committer for sinks that keep nothing: they look at results, and there is nothing to make visible.

use shardflow::Result;
use shardflow::sink::{CommitPermit, Committer, StagedHandle};

/// Commits nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nothing;

impl Committer for Nothing {
    fn recover(&mut self, _permit: Option<&CommitPermit>, _handles: &[StagedHandle]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _permit: &CommitPermit, _handles: &[StagedHandle]) -> Result<()> {
        Ok(())
    }
}
