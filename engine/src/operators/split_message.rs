//! What travels between a source and the event-time operator: records by split, and what becomes of splits, in order.

use std::sync::Arc;

use crate::source::SplitRecord;
use crate::vocabulary::SplitId;

/// A message from one split of a source. `B` is a batch of records: raw, decoded, mapped.
#[derive(Clone)]
pub(crate) enum SplitMessage<B> {
    /// Records, in the split's order. `at_end`: by the reader's word, there were no more to read for the time being.
    Records { split: Arc<SplitId>, at_end: bool, batch: B },
    /// The split has had nothing to read for a while.
    Idle { split: Arc<SplitId> },
    /// All records of the split are in.
    Ended { split: Arc<SplitId> },
    /// Another worker reads the split from here on, in a later epoch.
    Released { split: Arc<SplitId>, record: SplitRecord },
    /// The split ended in an earlier epoch, and nothing is to be kept of it.
    Forgotten { split: SplitId },
}

impl<B> SplitMessage<B> {
    /// The same message with its batch replaced. A batch that becomes empty goes on: it tells that the split was read.
    pub(crate) fn map_batch<C>(self, logic: impl FnOnce(&Arc<SplitId>, B) -> C) -> SplitMessage<C> {
        match self {
            Self::Records { split, at_end, batch } => {
                let batch = logic(&split, batch);
                SplitMessage::Records { split, at_end, batch }
            }
            Self::Idle { split } => SplitMessage::Idle { split },
            Self::Ended { split } => SplitMessage::Ended { split },
            Self::Released { split, record } => SplitMessage::Released { split, record },
            Self::Forgotten { split } => SplitMessage::Forgotten { split },
        }
    }
}
