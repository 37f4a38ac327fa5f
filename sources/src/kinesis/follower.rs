//! Tells those outside who want to know what the job has committed: a lease table, the nodes of a spout.

use shardflow::Result;
use shardflow::source::{Follower, SplitRecord};
use shardflow::vocabulary::SplitId;
use tokio::runtime::Handle;

use super::committed::Committed;

/// Follows the job's commits for all who are to be told.
pub(crate) struct ShardFollower {
    #[cfg(feature = "zookeeper")]
    pub(crate) step: shardflow::vocabulary::StepName,
    pub(crate) committed: Committed,
    pub(crate) runtime: Handle,
    #[cfg(feature = "kcl")]
    pub(crate) keeper: Option<crate::kcl::Keeper>,
    #[cfg(feature = "zookeeper")]
    pub(crate) mirror: Option<crate::zookeeper::Mirror>,
}

impl Follower for ShardFollower {
    fn may_commit(&mut self) -> Result<()> {
        #[cfg(feature = "kcl")]
        if let Some(keeper) = &self.keeper {
            keeper.may_commit()?;
        }
        Ok(())
    }

    fn committed(&mut self, changes: &[(SplitId, Option<SplitRecord>)]) {
        self.committed.change(changes);
        let states = self.committed.states();
        #[cfg(feature = "kcl")]
        if let Some(keeper) = &self.keeper {
            keeper.committed(states.clone());
        }
        #[cfg(feature = "zookeeper")]
        if let Some(mirror) = &self.mirror {
            mirror.committed(states);
            crate::zookeeper::publish(mirror, &self.step);
        }
    }

    fn close(&mut self) -> Result<()> {
        #[cfg(feature = "zookeeper")]
        if let Some(mirror) = self.mirror.take() {
            self.runtime.block_on(mirror.stop());
        }
        #[cfg(feature = "kcl")]
        if let Some(keeper) = self.keeper.take() {
            self.runtime.block_on(keeper.stop())?;
        }
        Ok(())
    }
}
