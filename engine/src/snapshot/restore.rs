//! Reads state back: the base with the changelogs over it.

use std::ops::Range;
use std::sync::PoisonError;

use rocksdb::{DBPinnableSlice, DBRawIterator, ReadOptions};

use super::layout;
use super::merge::{self, Overlay, Visit};
use super::records::LogEntry;
use super::store::{Store, broken};
use crate::error::{Error, Result};
use crate::state::frame;
use crate::vocabulary::{Epoch, StepName};

/// Where a changelog lies and what it must be.
pub(super) type Place = (Epoch, u32, LogEntry);

impl Store {
    /// Calls `visit` with every live entry of the step in these key groups, by group, table and key. Entries of a step
    /// that was never committed are none. Several threads may restore at once, each its own groups.
    ///
    /// # Errors
    /// The snapshot is damaged, or what `visit` returns. Part of the entries may have been visited then.
    pub fn restore(&self, step: &StepName, groups: Range<u16>, visit: &mut Visit<'_>) -> Result<()> {
        self.restore_step(step, &groups, visit).map_err(|error| {
            let message = format!("could not restore step \"{step}\"");
            Error::new(error.kind(), message).caused_by(error)
        })
    }

    fn restore_step(&self, step: &StepName, groups: &Range<u16>, visit: &mut Visit<'_>) -> Result<()> {
        let _reading = self.base.read().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = self.inner().step_id(step) else { return Ok(()) };
        let places = self.places_of(id);
        let logs = places.iter().map(|place| self.changelog(place)).collect::<Result<Vec<_>>>()?;
        let changes =
            merge::newest_wins(logs.iter().map(|log| (id, &**log)), |_, group| groups.contains(&group.number()))?;
        let mut overlay = Overlay::new(changes.iter(), visit);
        let mut iterator = self.all_of(id, groups);
        iterator.seek(layout::base_prefix(id, u32::from(groups.start)));
        while let Some((key, value)) = iterator.item() {
            overlay.base(key, value)?;
            iterator.next();
        }
        ended_well(&iterator)?;
        overlay.finish()
    }

    /// An iterator over the base for reading a step's entries in these groups one after the other. Not yet anywhere.
    pub(super) fn all_of(&self, step: u32, groups: &Range<u16>) -> DBRawIterator<'_> {
        let mut reading = ReadOptions::default();
        reading.set_iterate_upper_bound(layout::base_prefix(step, u32::from(groups.end)));
        reading.fill_cache(false);
        reading.set_readahead_size(1 << 20);
        self.db.raw_iterator_opt(reading)
    }

    /// The changelogs of a step that are not folded, oldest first.
    pub(super) fn places_of(&self, step: u32) -> Vec<Place> {
        let inner = self.inner();
        let all = inner
            .chain
            .iter()
            .flat_map(|record| (0_u32..).zip(&record.logs).map(|(index, log)| (record.epoch, index, *log)));
        all.filter(|(_, _, log)| log.step == step).collect()
    }

    /// A changelog, proven to be the one that its epoch's record names.
    pub(super) fn changelog(&self, (epoch, index, log): &Place) -> Result<DBPinnableSlice<'_>> {
        let lost =
            |why: &str| Error::state(format!("the snapshot is damaged: changelog {index} of epoch {epoch} {why}"));
        // Read once, so not for the cache.
        let mut reading = ReadOptions::default();
        reading.fill_cache(false);
        let found = self.db.get_pinned_opt(layout::changelog(*epoch, *index), &reading);
        let found =
            found.map_err(|error| broken(format!("could not read changelog {index} of epoch {epoch}"), error))?;
        let found = found.ok_or_else(|| lost("is missing"))?;
        if found.len() as u64 != log.bytes || frame::checksum(&found)? != log.checksum {
            return Err(lost("is another than was committed"));
        }
        Ok(found)
    }
}

/// Without this, a damaged block would look like the end.
pub(super) fn ended_well(iterator: &DBRawIterator<'_>) -> Result<()> {
    iterator.status().map_err(|error| Error::state("the snapshot is damaged").caused_by(error))
}
