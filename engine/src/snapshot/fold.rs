//! Folds old changelogs into the base, behind the commits.
//!
//! *In:* the oldest changelogs, a bounded number of bytes at once. *Out:* the newest value of each key in the base, and
//! then, in one last durable batch, the record of how far the base is and the deletion of the folded epochs. *After a
//! crash:* the base may hold part of a fold. The changelogs still cover it and are folded again, to the same end.

use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use fail::fail_point;
use rocksdb::{DBPinnableSlice, IngestExternalFileOptions, SstFileWriter, WriteBatch};

use super::decision;
use super::layout;
use super::merge::{self, Addressed, Newest};
use super::records::{self, Folded};
use super::restore::Place;
use super::store::{Store, broken, durable};
use crate::error::{Error, ErrorKind, Result};
use crate::state::frame::Kind;
use crate::vocabulary::Epoch;

/// How many entries are written between two looks at whether to stop.
const LOOK: usize = 1 << 14;

/// What a call of [`Store::fold_if_due`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FoldReport {
    /// Epochs folded; 0 where it was not due.
    pub epochs: u64,
    /// Changelog bytes folded.
    pub changelog_bytes: u64,
    /// Keys written to, or deleted from, the base.
    pub keys: u64,
}

impl Store {
    /// Folds changelogs into the base if there are enough of them, see [`Tuning`](super::Tuning). Call it now and then from
    /// a thread of its own; commits go on meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) or [`ErrorKind::State`](crate::ErrorKind::State): the disk failed or the snapshot is damaged. State is as it was.
    pub fn fold_if_due(&self) -> Result<FoldReport> {
        // A short test would come to no fold otherwise.
        fail_point!("store::fold-at-once", |_| self.fold_all());
        if self.fold_wanted.swap(false, Ordering::SeqCst) {
            return self.fold_all();
        }
        let base = self.base_bytes();
        let due = decision::fold_now(&self.tuning, base, self.inner().sizes());
        self.fold(due)
    }

    /// Folds everything but the newest epoch, due or not.
    ///
    /// # Errors
    /// As for [`fold_if_due`](Self::fold_if_due).
    pub fn fold_all(&self) -> Result<FoldReport> {
        let epochs = self.inner().chain.len();
        self.fold(epochs.saturating_sub(1))
    }

    /// Has a fold that goes on stop where it is, and no other begin: the job is over. What it has written is no matter, see
    /// above.
    pub fn stop_folding(&self) {
        self.fold_stopped.store(true, Ordering::SeqCst);
    }

    fn fold(&self, epochs: usize) -> Result<FoldReport> {
        let mut report = FoldReport::default();
        if epochs == 0 {
            return Ok(report);
        }
        let _changing = self.base.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have folded some of them meanwhile; the newest stays in any case.
        let mut left = epochs.min(self.inner().chain.len().saturating_sub(1));
        while left > 0 {
            let folded = self.fold_slice(left, &mut report)?;
            if folded == 0 {
                break;
            }
            left = left.saturating_sub(folded);
        }
        Ok(report)
    }

    /// Folds as many of the oldest `most` epochs as fit into a slice, and says how many; 0 where it was stopped.
    fn fold_slice(&self, most: usize, report: &mut FoldReport) -> Result<usize> {
        let (epochs, through, places, dropped) = {
            let inner = self.inner();
            let epochs = decision::slice(&self.tuning, inner.chain.iter().take(most).map(|record| record.bytes()));
            let through = inner.chain.iter().take(epochs).next_back().map(|record| record.epoch).unwrap_or_default();
            let places = inner
                .chain
                .iter()
                .take(epochs)
                .flat_map(|record| (0_u32..).zip(&record.logs).map(|(index, log)| (record.epoch, index, *log)));
            let dropped: Vec<u32> = inner.steps.iter().filter(|step| step.dropped).map(|step| step.id).collect();
            (epochs, through, places.collect::<Vec<Place>>(), dropped)
        };
        let logs = places.iter().map(|place| self.changelog(place)).collect::<Result<Vec<DBPinnableSlice<'_>>>>()?;
        let bytes = places.iter().fold(0_u64, |sum, (_, _, log)| sum.saturating_add(log.bytes));
        let sealed = places.iter().zip(&logs).map(|((_, _, log), sealed)| (log.step, &**sealed));
        let changes = merge::newest_wins(sealed, |step, _| !dropped.contains(&step))?;
        // Much is one sorted file, which the database takes in as it is, past its log and its write buffers.
        let filed = bytes >= self.tuning.fold_file;
        if !filed {
            self.write_batch(&changes)?;
        } else if !self.write_file(&changes, through)? {
            return Ok(0);
        }
        self.finish_fold(epochs, through, filed)?;
        report.epochs = report.epochs.saturating_add(epochs as u64);
        report.changelog_bytes = report.changelog_bytes.saturating_add(bytes);
        report.keys = report.keys.saturating_add(changes.len() as u64);
        Ok(epochs)
    }

    /// Gives changes to the base as a file, and says whether all of them were written.
    ///
    /// No log tells of such a file, only the manifest. One that lost its end would lose the file without a trace, so the file says how
    /// far it goes, and so does a record beside that of the fold.
    fn write_file(&self, changes: &Newest<'_>, through: Epoch) -> Result<bool> {
        let failed = |error| broken("could not fold changelogs", error);
        // Beside the database's own files, so that taking it in is a link. One that a crash left may be another name of a file
        // that the database has taken in: writing over it would destroy that.
        let path = self.db.path().join("fold.sst");
        let options = self.tuning.sorted_file();
        remove_if_there(&path)?;
        let mut file = SstFileWriter::create(&options);
        file.open(&path).map_err(failed)?;
        file.put(layout::FILE_MARK, records::seal(Kind::Folded, &Folded { through: Some(through) })?)
            .map_err(failed)?;
        let mut key = Vec::new();
        for (number, Addressed { step, change }) in changes.iter().enumerate() {
            if number % LOOK == 0 && self.fold_stopped.load(Ordering::SeqCst) {
                return Ok(false);
            }
            layout::base(step, change.group, change.table, change.key, &mut key);
            match change.value {
                Some(value) => file.put(&key, value),
                None => file.delete(&key),
            }
            .map_err(failed)?;
        }
        file.finish().map_err(failed)?;
        let mut taking_in = IngestExternalFileOptions::default();
        taking_in.set_move_files(true);
        self.db.ingest_external_file_opts(&taking_in, vec![path]).map_err(failed)?;
        fail_point!("store::mid-fold");
        Ok(true)
    }

    /// Not synced: the sync of the fold's end covers what was written before it.
    fn write_batch(&self, changes: &Newest<'_>) -> Result<()> {
        let (mut writes, mut key) = (WriteBatch::default(), Vec::new());
        for Addressed { step, change } in changes.iter() {
            layout::base(step, change.group, change.table, change.key, &mut key);
            match change.value {
                Some(value) => writes.put(&key, value),
                None => writes.delete(&key),
            }
        }
        self.db.write(writes).map_err(|error| broken("could not fold changelogs", error))?;
        fail_point!("store::mid-fold");
        Ok(())
    }

    /// From here on the base stands for these epochs. Durable, because dropping their files is.
    fn finish_fold(&self, epochs: usize, through: Epoch, filed: bool) -> Result<()> {
        fail_point!("store::before-fold-end");
        let (first, last) = (layout::EPOCHS.0.to_vec(), layout::epoch(through.next()));
        {
            let mut inner = self.inner();
            let folded = Folded { through: Some(through) };
            let mut writes = WriteBatch::default();
            writes.put(layout::FOLDED, records::seal(Kind::Folded, &folded)?);
            if filed {
                writes.put(layout::FILED, records::seal(Kind::Folded, &folded)?);
            }
            writes.delete_range(&first, &last);
            self.db.write_opt(writes, &durable()).map_err(|error| broken("could not end a fold", error))?;
            inner.folded = folded;
            inner.chain.drain(..epochs);
            self.behind.store(decision::is_behind(&self.tuning, inner.sizes()), Ordering::SeqCst);
        }
        fail_point!("store::after-fold-end");
        // Whole files of deleted changelogs go at once, instead of being compacted away.
        let dropped = self.db.delete_file_in_range(first, layout::changelog(through, u32::MAX));
        dropped.map_err(|error| broken("could not drop folded changelogs", error))
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message = format!("could not remove \"{}\"", path.display());
            Err(Error::new(ErrorKind::Store, message).caused_by(error))
        }
        _ => Ok(()),
    }
}
