//! What the operators hand to the commit: changes, handles, and when records were read.

use std::time::Instant;

use crate::sink::Prepared;
use crate::source::SplitRecord;
use crate::vocabulary::{Epoch, SplitId, StepName};

/// One operator's part of an epoch. Travels on the control streams, stamped with the epoch, to the commit operator.
pub(crate) enum Control {
    /// What changed in a step's state: a sealed changelog.
    Changes { step: StepName, worker: u32, changelog: Vec<u8> },
    /// What a sink staged.
    Staged { step: StepName, worker: u32, prepared: Prepared },
    /// What changed of a source's splits, for who follows that; the same is among the changes.
    Splits { step: StepName, changes: Vec<(SplitId, Option<SplitRecord>)> },
    /// Records that were read in the epoch, and when.
    Read { at: Instant, records: u64 },
}

/// What the commit thread is told.
pub(crate) enum CommitMessage {
    /// A part of an epoch.
    Part { epoch: Epoch, part: Control },
    /// Every part of every epoch before `open` has been handed over, on all workers. `None`: the job's input has ended
    /// and nothing is open.
    Closed { open: Option<Epoch> },
    /// The workers are gone.
    Finish,
}
