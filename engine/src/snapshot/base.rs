//! Reads the base entry by entry, for state that is not all in memory.
//!
//! *In:* the keys that a step misses, or where a walk through its entries is. *Out:* what the base has of them. *After a
//! crash:* a start restores only what changelogs say, and leaves the rest here until it is asked for.
//!
//! None of this waits for a fold: a fold writes only keys that changelogs name, and those are in the step's memory.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rocksdb::ReadOptions;

use super::layout;
use super::merge::{self, Addressed};
use super::restore::ended_well;
use super::store::{Store, broken};
use crate::error::{Error, Result};
use crate::state::{Base, Change, Table, Wanted, keyed};
use crate::vocabulary::{Epoch, KeyGroup, StepName};

/// RocksDB's only column family here.
pub(super) const BASE_FAMILY: &str = "default";

/// One map of a step, as the base has it.
#[derive(Debug)]
pub struct StepBase {
    store: Arc<Store>,
    step: u32,
    table: Table,
    groups: Range<u16>,
}

/// What lies over the base of one map.
pub type VisitChange<'a> = dyn FnMut(Table, Change<'_>) -> Result<()> + 'a;

impl Store {
    /// One map of a step, where the step is registered.
    #[must_use]
    pub fn base_of(self: &Arc<Self>, step: &StepName, table: Table, groups: Range<u16>) -> Option<StepBase> {
        let step = self.inner().step_id(step)?;
        Some(StepBase { store: Arc::clone(self), step, table, groups })
    }
}

impl StepBase {
    /// The last epoch whose changes the base has.
    #[must_use]
    pub fn folded(&self) -> Epoch {
        self.store.inner().folded.through.unwrap_or_default()
    }

    /// Has everything folded once this epoch is over, due or not. Says whether that would bring anything into the base.
    #[must_use]
    pub fn ask_for_fold(&self) -> bool {
        self.store.fold_wanted.store(true, Ordering::SeqCst);
        self.store.inner().chain.len() > 1
    }

    /// Calls `visit` with every live entry of the step's other maps, and with what changelogs say of this one. Says whether
    /// the base has entries of this one.
    ///
    /// # Errors
    /// The snapshot is damaged, or what `visit` says. Part of the entries may have been visited then.
    pub fn restore(&self, visit: &mut VisitChange<'_>) -> Result<bool> {
        let _reading = self.store.base.read().unwrap_or_else(PoisonError::into_inner);
        let places = self.store.places_of(self.step);
        let logs = places.iter().map(|place| self.store.changelog(place)).collect::<Result<Vec<_>>>()?;
        let within = |_, group: KeyGroup| self.groups.contains(&group.number());
        let changes = merge::newest_wins(logs.iter().map(|log| (self.step, &**log)), within)?;
        for Addressed { change, .. } in changes.iter().filter(|addressed| addressed.change.table == self.table) {
            visit(change.table, change)?;
        }
        self.restore_others(changes.iter().filter(|addressed| addressed.change.table != self.table), visit)
    }

    fn restore_others<'a>(
        &self,
        changes: impl Iterator<Item = Addressed<'a>>,
        visit: &mut VisitChange<'_>,
    ) -> Result<bool> {
        let mut found = false;
        let mut put =
            |group, table, key: &[u8], value: &[u8]| visit(table, Change { group, table, key, value: Some(value) });
        let mut overlay = merge::Overlay::new(changes, &mut put);
        let mut reading = ReadOptions::default();
        reading.set_iterate_upper_bound(layout::base_prefix(self.step, u32::from(self.groups.end)));
        let mut iterator = self.store.db.raw_iterator_opt(reading);
        iterator.seek(layout::base_prefix(self.step, u32::from(self.groups.start)));
        let mut beyond = Vec::new();
        while let Some((key, value)) = iterator.item() {
            let (group, table, _) = merge::address(key)?;
            if table == self.table {
                found = true;
                // Over all of this group's, however many there are.
                layout::base(self.step, group, Table(table.0.saturating_add(1)), &[], &mut beyond);
                iterator.seek(&beyond);
            } else {
                overlay.base(key, value)?;
                iterator.next();
            }
        }
        ended_well(&iterator)?;
        overlay.finish()?;
        Ok(found)
    }

    /// Calls `visit` with entries of this map from `from` on, or from the first, until `most` bytes have been read. Gives
    /// where to go on; `None` after the last.
    ///
    /// # Errors
    /// The base is damaged, or what `visit` says.
    pub fn walk(&self, from: Option<Vec<u8>>, most: usize, visit: &mut merge::Visit<'_>) -> Result<Option<Vec<u8>>> {
        let mut iterator = self.store.all_of(self.step, &self.groups);
        iterator.seek(from.unwrap_or_else(|| layout::base_prefix(self.step, u32::from(self.groups.start))));
        let mut read = 0_usize;
        while let Some((at, value)) = iterator.item() {
            if read >= most {
                return Ok(Some(at.to_vec()));
            }
            read = read.saturating_add(at.len()).saturating_add(value.len());
            let (group, table, key) = merge::address(at)?;
            if table == self.table {
                visit(group, table, key, value)?;
            }
            iterator.next();
        }
        ended_well(&iterator)?;
        Ok(None)
    }
}

impl Base for StepBase {
    fn read(&self, wanted: &Wanted, found: &mut keyed::Found<'_>) -> Result<()> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::with_capacity(wanted.len()));
        let mut key = Vec::new();
        for (index, (group, encoded)) in wanted.iter().enumerate() {
            layout::base(self.step, group, self.table, encoded, &mut key);
            spans.push((bytes.len(), bytes.len().saturating_add(key.len()), index));
            bytes.extend_from_slice(&key);
        }
        let at = |start: usize, end: usize| bytes.get(start..end).unwrap_or_default();
        // Neighbours share blocks.
        spans.sort_unstable_by(|a, b| at(a.0, a.1).cmp(at(b.0, b.1)));
        let keys: Vec<&[u8]> = spans.iter().map(|&(start, end, _)| at(start, end)).collect();
        let family = self.store.db.cf_handle(BASE_FAMILY).ok_or_else(|| Error::internal("the store has no base"))?;
        // What memory has no room for is met again too late for its block to be in the cache still.
        let mut reading = ReadOptions::default();
        reading.fill_cache(false);
        let values = self.store.db.batched_multi_get_cf_opt(family, &keys, true, &reading);
        for ((value, key), (_, _, index)) in values.into_iter().zip(keys).zip(spans) {
            let value = value.map_err(|error| broken("could not read state back", error))?;
            if let Some(value) = value {
                let (_, _, key) = merge::address(key)?;
                found(index, key, &value)?;
            }
        }
        Ok(())
    }
}
