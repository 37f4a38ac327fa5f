//! One worker's share of a keyed step: its key groups, and how the state of them is restored and handed over.

use std::ops::Range;
use std::sync::Arc;

use super::context::JobContext;
use super::control::Control;
use crate::error::Result;
use crate::metrics::{SnapshotMetrics, StateMetrics};
use crate::snapshot::StepBase;
use crate::state::changelog::{ChangelogWriter, Table};
use crate::vocabulary::{IdNamespace, KeyGroup, StepName};

/// Takes one stored entry: key group, table, key, value.
pub(super) type Visit<'a> = dyn FnMut(KeyGroup, Table, &[u8], &[u8]) -> Result<()> + 'a;

/// What a keyed step is on one worker.
pub(super) struct Share {
    context: Arc<JobContext>,
    name: StepName,
    worker: usize,
    metrics: StateMetrics,
    changed: metrics::Histogram,
}

impl Share {
    /// The share of `worker` in the step `name`.
    pub(super) fn new(context: &Arc<JobContext>, name: &StepName, worker: usize) -> Self {
        Self {
            context: Arc::clone(context),
            name: name.clone(),
            worker,
            metrics: StateMetrics::register(name, worker),
            changed: SnapshotMetrics::register().keys,
        }
    }

    /// The step's name.
    pub(super) fn name(&self) -> &StepName {
        &self.name
    }

    /// What the ids of the step's results are made in.
    pub(super) fn ids(&self) -> IdNamespace {
        IdNamespace::of_step(&self.context.job, self.name.as_str())
    }

    /// The worker's number, as changelogs name it.
    pub(super) fn worker(&self) -> u32 {
        self.worker as u32
    }

    /// The key group of a key with this stable hash.
    pub(super) fn group_of(&self, hash: u64) -> KeyGroup {
        self.context.groups.group_of(hash)
    }

    /// The numbers of this worker's key groups.
    pub(super) fn groups(&self) -> Range<u16> {
        self.context.groups.range_of(self.worker, self.context.workers)
    }

    /// Calls `visit` with each live entry of the snapshot that is this worker's now. A plan has none.
    ///
    /// # Errors
    /// The snapshot cannot be read, or what `visit` says.
    pub(super) fn restore(&self, visit: &mut Visit<'_>) -> Result<()> {
        match &self.context.running {
            Some(running) => running.store.restore(&self.name, self.groups(), visit),
            None => Ok(()),
        }
    }

    /// What the base has of one of its maps, in this worker's key groups. A plan has no base.
    pub(super) fn base(&self, table: Table) -> Option<StepBase> {
        let running = self.context.running.as_ref()?;
        running.store.base_of(&self.name, table, self.groups())
    }

    /// Hands over what changed in an epoch, of a state of so many entries and bytes.
    pub(super) fn hand_over(&self, changes: ChangelogWriter, entries: usize, bytes: usize, parts: &mut Vec<Control>) {
        self.metrics.entries.set(entries as f64);
        self.metrics.bytes.set(bytes as f64);
        self.changed.record(changes.len() as f64);
        parts.extend(changes.finish_in_parts().into_iter().map(|changelog| Control::Changes {
            step: self.name.clone(),
            worker: self.worker(),
            changelog,
        }));
    }
}
