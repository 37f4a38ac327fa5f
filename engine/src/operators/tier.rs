//! Keyed state with the snapshot's base behind it: in memory as far as the job's memory goes, and read back on demand.
//!
//! *Enters*: the keys of a batch, before the batch. *Leaves*: what changed in an epoch. *Survives a crash*: as all state
//! does; a start brings back only what is not folded yet, answers from the base at once, and reads the rest behind.

use std::sync::Arc;
use std::time::Duration;

use super::context::JobContext;
use super::memory::Kept;
use super::share::Share;
use crate::error::Result;
use crate::exchange::stable_hash;
use crate::snapshot::{StepBase, Visit};
use crate::state::changelog::{Change, ChangelogWriter, Table};
use crate::state::{KeyedState, Wanted};
use crate::vocabulary::{Epoch, Key, KeyGroup, State};

/// How long a step reads the base behind a start at the end of an epoch: a tenth of an epoch of the default length.
const WARM_UP: Duration = Duration::from_millis(20);

/// Bytes of the base that are read before the time is looked at.
const WARM_UP_SLICE: usize = 256 << 10;

/// A map of a keyed step on one worker.
pub(super) struct TieredState<K, V> {
    pub(super) state: KeyedState<K, V>,
    context: Arc<JobContext>,
    table: Table,
    /// `None` in a plan.
    base: Option<StepBase>,
    wanted: Wanted,
    /// Where the reading behind a start is; `None` once it is over.
    warming: Option<Option<Vec<u8>>>,
    /// What the job's account of memory knows of this map.
    accounted: Kept,
    pressing: bool,
}

impl<K: Key, V: State> TieredState<K, V> {
    /// The map as the last committed epoch left it. `others` takes the live entries of the step's other maps.
    pub(super) fn restore(
        context: &Arc<JobContext>,
        share: &Share,
        table: Table,
        others: &mut Visit<'_>,
    ) -> Result<Self> {
        let mut state = KeyedState::new();
        let base = share.base(table);
        let mut warming = None;
        if let Some(base) = &base {
            state.restore_over_base(context.committed.unwrap_or_default());
            let mut scratch = Vec::new();
            let partial = base.restore(&mut |of, Change { group, key, value, .. }| match value {
                Some(value) if of == table => state.restore(group, |key| stable_hash(key, &mut scratch), key, value),
                Some(value) => others(group, of, key, value),
                None if of == table => state.restore_removed(key),
                None => Ok(()),
            })?;
            if partial {
                state.rest_in_base();
                warming = Some(None);
            }
        }
        Ok(Self {
            state,
            context: Arc::clone(context),
            table,
            base,
            wanted: Wanted::default(),
            warming,
            accounted: Kept::default(),
            pressing: false,
        })
    }

    /// Brings the entries of these keys into memory. They stay until the next call, or until the epoch is closed.
    pub(super) fn fetch<'a>(&mut self, keys: impl Iterator<Item = (u64, KeyGroup, &'a K)>) -> Result<()>
    where
        K: 'a,
    {
        // What an epoch changes cannot leave before it is over, so it is over sooner where that is too much.
        if self.base.is_some() && (self.make_room() || self.is_long()) && !self.pressing {
            self.press(true);
            self.context.hurry();
        }
        match &self.base {
            Some(base) => self.state.fetch(keys, base, &mut self.wanted),
            None => Ok(()),
        }
    }

    /// Hands over what changed in `epoch`, and then makes room, or reads on behind a start.
    pub(super) fn close(&mut self, epoch: Epoch, changes: &mut ChangelogWriter) -> Result<()> {
        self.state.drain_changes(self.table, changes)?;
        self.state.closed(epoch);
        let Some(base) = &self.base else { return Ok(()) };
        self.state.folded_through(base.folded());
        let over = self.make_room();
        // Where there is nothing to fold, waiting would not help.
        let pressing = over && self.base.as_ref().is_some_and(StepBase::ask_for_fold);
        self.press(pressing);
        self.warm_up()
    }

    /// Lets go of what is above this map's share of the job's memory. Says whether too much is bound: it may not go before
    /// the base has it.
    fn make_room(&mut self) -> bool {
        let allowed = self.account();
        // A twentieth over is no reason to do anything.
        let limit = allowed.saturating_add(allowed / 20);
        if self.accounted.resident > limit && self.accounted.bound < self.accounted.resident {
            if self.state.evict(allowed) > 0 {
                // Memory is full, so the rest of the base would find no place.
                self.warming = None;
            }
            self.account();
        }
        self.accounted.resident > limit || (self.state.is_partial() && self.context.memory.is_bound())
    }

    /// Whether the open epoch should end: state that has no room in memory is waiting for it.
    fn is_long(&self) -> bool {
        self.state.is_partial() && self.context.memory.is_epoch_long()
    }

    /// Tells the job's account what this map keeps. Gives what it may keep.
    fn account(&mut self) -> usize {
        let kept = Kept {
            entries: self.state.len(),
            resident: self.state.resident_bytes(),
            bound: self.state.bound_bytes(),
            changed: self.state.changed_bytes(),
        };
        self.context.memory.account(self.accounted, kept);
        self.accounted = kept;
        self.context.memory.share_of(kept.resident)
    }

    /// The sources wait while this is so.
    fn press(&mut self, pressing: bool) {
        if pressing != std::mem::replace(&mut self.pressing, pressing) {
            self.context.memory.press(pressing);
        }
    }

    fn warm_up(&mut self) -> Result<()> {
        let (mut scratch, started) = (Vec::new(), self.context.now());
        while self.warming.is_some() && self.context.now().saturating_duration_since(started) < WARM_UP {
            self.account();
            let (Some(base), Some(at)) = (&self.base, self.warming.take()) else { return Ok(()) };
            if self.context.memory.is_full() {
                return Ok(());
            }
            let state = &mut self.state;
            let next = base.walk(at, WARM_UP_SLICE, &mut |group, _table, key, value| {
                state.warm(group, |key| stable_hash(key, &mut scratch), key, value)
            })?;
            match next {
                Some(next) => self.warming = Some(Some(next)),
                None => state.all_warm(),
            }
        }
        Ok(())
    }
}

impl<K, V> Drop for TieredState<K, V> {
    fn drop(&mut self) {
        self.context.memory.account(self.accounted, Kept::default());
        if self.pressing {
            self.context.memory.press(false);
        }
    }
}
