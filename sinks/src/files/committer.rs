//! The process's side: makes committed files visible, and settles what the last start left.
//!
//! Each step here may be the last before a crash, so each is one rename, and all of them together may be repeated: a file
//! found under its final name is done. Removal comes last, after everything that must be kept has its final name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use fail::fail_point;
use shardflow::sink::{CommitPermit, Committer, StagedHandle};
use shardflow::{Epoch, Error, Result};
use tracing::info;

use super::Place;
use super::handle::Handle;
use super::names::{Extent, FileId, Named};

pub(super) struct FileCommitter {
    place: Place,
    /// The last epoch that the engine knows to be committed.
    committed: Option<Epoch>,
    /// Committed files that are out of sight, with what their names say. Without it a held file could not be found.
    held: BTreeMap<FileId, Extent>,
    /// The mark in the folder: through which epoch everything was made visible or held, and by which start.
    mark: Option<(Epoch, u64)>,
    _lock: File,
}

/// What one or more handles say of a file: the last one counts.
#[derive(Debug, Clone, Copy)]
struct Due {
    extent: Extent,
    /// Whether its writer goes on with it.
    open: bool,
}

/// What a folder holds of this job and step.
#[derive(Default)]
struct Found {
    staged: BTreeSet<FileId>,
    held: BTreeMap<FileId, Extent>,
    marks: BTreeSet<(Epoch, u64)>,
    /// The file of the highest epoch.
    last: Option<(Epoch, String)>,
}

impl FileCommitter {
    pub(super) fn open(place: Place, committed: Option<Epoch>) -> Result<Self> {
        place.folder.create()?;
        let lock = place.folder.lock(&place.names.lock())?;
        Ok(Self { place, committed, held: BTreeMap::new(), mark: None, _lock: lock })
    }

    /// Lists the folder. `last` is the file that proves how far earlier starts came: visible, held or mark.
    fn look(&self) -> Result<Found> {
        let mut found = Found::default();
        for name in self.place.folder.names()? {
            let name = name?;
            let epoch = match self.place.names.parse(&name) {
                None => continue,
                Some(Named::Staged(id)) => {
                    found.staged.insert(id);
                    continue;
                }
                Some(Named::Visible { epoch, .. }) => epoch,
                Some(Named::Held(id, extent)) => {
                    found.held.insert(id, extent);
                    extent.epoch
                }
                Some(Named::Mark { incarnation, epoch }) => {
                    found.marks.insert((epoch, incarnation));
                    epoch
                }
            };
            if found.last.as_ref().is_none_or(|(last, _)| *last < epoch) {
                found.last = Some((epoch, name));
            }
        }
        Ok(found)
    }

    /// Output beyond the last committed epoch was committed by a state that this start does not have.
    fn refuse_what_lies_beyond(&self, found: &Found, through: Option<Epoch>) -> Result<()> {
        let Some((epoch, name)) = found.last.as_ref().filter(|(epoch, _)| through.is_none_or(|last| *epoch > last))
        else {
            return Ok(());
        };
        let path = self.place.folder.path_of(name);
        let state = through.map_or("has committed nothing".to_owned(), |last| format!("ends at epoch {last}"));
        Err(Error::state(format!(
            "output \"{}\" is of epoch {epoch}, but the state {state}: it is older than its output, and going on would \
             write results twice; use the newer state, or move this output away",
            path.display()
        )))
    }

    /// Brings one file to where its last handle wants it. `end`: its writer is gone, so it becomes visible in any case.
    fn settle(&mut self, id: FileId, due: Due, end: bool) -> Result<()> {
        let from = match self.held.get(&id) {
            Some(extent) => self.place.names.render(Named::Held(id, *extent)),
            None => self.place.names.render(Named::Staged(id)),
        };
        let Some(length) = self.place.folder.length(&from)? else {
            return self.check_done(id, due, &from);
        };
        if length < due.extent.length {
            return Err(self.damaged(&from, length, due.extent.length));
        }
        if due.open && !end { self.hold(id, due.extent, &from) } else { self.publish(id, due, &from, length) }
    }

    /// Writes into the hidden name how much of the file is committed.
    fn hold(&mut self, id: FileId, extent: Extent, from: &str) -> Result<()> {
        if self.held.get(&id).is_some_and(|held| held.epoch >= extent.epoch) {
            return Ok(());
        }
        self.place.folder.rename(from, &self.place.names.render(Named::Held(id, extent)))?;
        self.held.insert(id, extent);
        Ok(())
    }

    fn publish(&mut self, id: FileId, due: Due, from: &str, length: u64) -> Result<()> {
        if length > due.extent.length {
            if !due.open {
                return Err(self.damaged(from, length, due.extent.length));
            }
            self.place.folder.truncate(from, due.extent.length)?;
        }
        let to = self.place.names.visible(id, due.extent);
        if self.place.folder.length(&to)?.is_some() {
            let path = self.place.folder.path_of(&to);
            return Err(Error::sink(format!("could not publish \"{}\": a file of this name exists", path.display())));
        }
        self.place.folder.rename(from, &to)?;
        self.held.remove(&id);
        Ok(())
    }

    /// The staged file is gone: right if it was published before a crash, or settled and then taken by a reader.
    fn check_done(&self, id: FileId, due: Due, staged: &str) -> Result<()> {
        let visible = self.place.names.visible(id, due.extent);
        let length = self.place.folder.length(&visible)?;
        if length == Some(due.extent.length) || self.mark.is_some_and(|(mark, _)| due.extent.epoch <= mark) {
            return Ok(());
        }
        match length {
            Some(length) => Err(self.damaged(&visible, length, due.extent.length)),
            None => Err(Error::sink(format!(
                "committed output of epoch {} is gone: neither \"{}\" nor \"{visible}\" exists: something else removed it, \
                 or this start was given another folder",
                due.extent.epoch,
                self.place.folder.path_of(staged).display(),
            ))),
        }
    }

    fn damaged(&self, name: &str, length: u64, expected: u64) -> Error {
        let path = self.place.folder.path_of(name);
        Error::sink(format!(
            "committed output \"{}\" has {length} bytes where {expected} were written: something else changed it",
            path.display()
        ))
    }

    /// Settles what handles name, then moves the mark: from there on a reader may take what is visible.
    fn settle_all(&mut self, due: &BTreeMap<FileId, Due>, end: bool) -> Result<()> {
        let Some(last) = due.values().map(|due| due.extent.epoch).max() else { return Ok(()) };
        fail_point!("sink-files::before-rename", |_| Err(Error::sink("stopped before renaming")));
        let mut first = true;
        for (id, due) in due {
            if !first {
                fail_point!("sink-files::between-renames", |_| Err(Error::sink("stopped between two renames")));
            }
            first = false;
            self.settle(*id, *due, end)?;
        }
        fail_point!("sink-files::after-rename", |_| Err(Error::sink("stopped after renaming")));
        self.move_mark(last)?;
        fail_point!("sink-files::after-mark", |_| Err(Error::sink("stopped after the mark")));
        self.place.folder.sync()
    }

    fn move_mark(&mut self, epoch: Epoch) -> Result<()> {
        let name = |(epoch, incarnation)| self.place.names.render(Named::Mark { incarnation, epoch });
        let to = (epoch, self.place.incarnation);
        match self.mark {
            Some((mark, _)) if mark >= epoch => return Ok(()),
            Some(mark) => self.place.folder.rename(&name(mark), &name(to))?,
            None => drop(self.place.folder.create_file(&name(to))?),
        }
        self.mark = Some(to);
        Ok(())
    }

    /// Publishes every held file, cut to what is committed of it.
    fn publish_held(&mut self) -> Result<usize> {
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        for (id, extent) in held {
            self.held.insert(id, extent);
            self.settle(id, Due { extent, open: true }, true)?;
        }
        Ok(count)
    }

    fn settle_last_start(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        let through = permit.map(CommitPermit::epoch).max(self.committed);
        let due = permit.map_or(Ok(BTreeMap::new()), |permit| read(permit, handles))?;
        let found = self.look()?;
        self.refuse_what_lies_beyond(&found, through)?;
        self.held = found.held;
        self.mark = found.marks.last().copied();
        for (epoch, incarnation) in found.marks.iter().rev().skip(1) {
            self.place
                .folder
                .remove(&self.place.names.render(Named::Mark { incarnation: *incarnation, epoch: *epoch }))?;
        }
        fail_point!("sink-files::before-recovery", |_| Err(Error::sink("stopped before recovering")));
        self.settle_all(&due, true)?;
        fail_point!("sink-files::recovery-settled", |_| Err(Error::sink("stopped before removing")));
        let held = self.publish_held()?;
        let mut removed = 0_usize;
        for id in found.staged.iter().filter(|id| !due.contains_key(id)) {
            self.place.folder.remove(&self.place.names.render(Named::Staged(*id)))?;
            removed = removed.saturating_add(1);
            fail_point!("sink-files::after-remove", |_| Err(Error::sink("stopped after removing")));
        }
        if held.saturating_add(removed) > 0 {
            self.place.folder.sync()?;
        }
        if held.saturating_add(removed).saturating_add(due.len()) > 0 {
            let step = self.place.step.as_str();
            info!(step, committed = due.len(), held, removed, "settled the output of earlier starts");
        }
        Ok(())
    }
}

/// What the handles of committed epochs say of each file. Later epochs come last and win.
fn read(permit: &CommitPermit, handles: &[StagedHandle]) -> Result<BTreeMap<FileId, Due>> {
    let mut due: BTreeMap<FileId, Due> = BTreeMap::new();
    for staged in handles.iter().filter(|staged| staged.epoch <= permit.epoch()) {
        let Handle { incarnation, worker, pieces } = Handle::decode(&staged.handle)?;
        for piece in pieces {
            let id = FileId { incarnation, worker, serial: piece.serial };
            let extent = Extent { epoch: staged.epoch, part: piece.part, length: piece.length };
            let piece = Due { extent, open: piece.open };
            let last = due.entry(id).or_insert(piece);
            if last.extent.epoch <= staged.epoch {
                *last = piece;
            }
        }
    }
    Ok(due)
}

impl Committer for FileCommitter {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        self.settle_last_start(permit, handles).map_err(|error| error.in_step(&self.place.step))
    }

    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        read(permit, handles)
            .and_then(|due| self.settle_all(&due, false))
            .map_err(|error| error.in_step(&self.place.step))
    }

    fn close(&mut self) -> Result<()> {
        let closed = self.publish_held().and_then(|held| if held > 0 { self.place.folder.sync() } else { Ok(()) });
        closed.map_err(|error| error.in_step(&self.place.step))
    }
}
