//! The process's side: seals committed spool files, gives them to be shipped, and settles what the last start left.
//!
//! Each step here may be the last before a crash, so each is one rename, and all of them together may be repeated. Removal
//! comes last, after everything that must be kept has its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use fail::fail_point;
use shardflow::sink::{CommitPermit, Committer, StagedHandle};
use shardflow::{Epoch, Error, Result};
use tokio::runtime::Handle as Runtime;
use tracing::info;

use super::bucket::Bucket;
use super::handle::Handle;
use super::keys::Keys;
use super::names::{Extent, FileId, Named};
use super::shipper::{Shipper, Work};
use super::start;
use super::target::Leftovers;
use crate::folder::Folder;

pub(super) struct ObjectCommitter {
    /// First, so that it is dropped before the lock is.
    pub(super) shipper: Shipper,
    pub(super) folder: Folder,
    pub(super) step: String,
    pub(super) incarnation: u64,
    /// The last epoch that the engine knows to be committed.
    pub(super) committed: Option<Epoch>,
    /// Committed bytes that may be unshipped after a commit; 0: all is there when it ends.
    pub(super) unshipped_bytes: u64,
    pub(super) bucket: Bucket,
    pub(super) keys: Keys,
    pub(super) leftovers: Leftovers,
    pub(super) runtime: Runtime,
    /// Committed spool files that are still written to, with what their names say.
    pub(super) held: BTreeMap<FileId, Extent>,
    /// Through which epoch everything was held or sealed, and by which start.
    pub(super) mark: Option<(Epoch, u64)>,
    pub(super) _lock: File,
}

/// What one or more handles say of a spool file: the last one counts.
#[derive(Debug, Clone, Copy)]
struct Due {
    extent: Extent,
    /// Whether its writer goes on with it.
    open: bool,
}

/// What the folder holds.
#[derive(Default)]
struct Found {
    staged: BTreeSet<FileId>,
    held: BTreeMap<FileId, Extent>,
    sealed: BTreeMap<FileId, Extent>,
    packs: BTreeMap<FileId, Extent>,
    packing: Vec<String>,
    marks: BTreeSet<(Epoch, u64)>,
    /// The file of the highest epoch.
    last: Option<(Epoch, String)>,
}

impl ObjectCommitter {
    fn look(&self) -> Result<Found> {
        let mut found = Found::default();
        for name in self.folder.names()? {
            let name = name?;
            let epoch = match Named::parse(&name) {
                None => continue,
                Some(Named::Staged(id)) => {
                    found.staged.insert(id);
                    continue;
                }
                Some(Named::Packing(..)) => {
                    found.packing.push(name);
                    continue;
                }
                Some(Named::Held(id, extent)) => {
                    found.held.insert(id, extent);
                    extent.last
                }
                Some(Named::Sealed(id, extent)) => {
                    found.sealed.insert(id, extent);
                    extent.last
                }
                Some(Named::Pack(id, extent)) => {
                    found.packs.insert(id, extent);
                    extent.last
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

    /// Spooled or shipped beyond the last committed epoch: it was committed by a state that this start does not have.
    fn refuse_what_lies_beyond(&self, found: &Found, through: Option<Epoch>) -> Result<()> {
        if let Some((epoch, name)) = found.last.as_ref().filter(|(epoch, _)| through.is_none_or(|last| *epoch > last)) {
            let path = self.folder.path_of(name);
            let state = through.map_or("has committed nothing".to_owned(), |last| format!("ends at epoch {last}"));
            return Err(Error::state(format!(
                "\"{}\" is of epoch {epoch}, but the state {state}: it is older than its output, and going on would write \
                 results twice; use the newer state",
                path.display()
            )));
        }
        self.runtime.block_on(start::refuse_what_lies_beyond(&self.bucket, &self.keys, through))
    }

    /// Brings one spool file to where its last handle wants it. `end`: its writer is gone, so it is sealed in any case.
    fn settle(&mut self, id: FileId, due: Due, end: bool) -> Result<Option<Work>> {
        let held = self.held.get(&id).copied();
        let from = held.map_or(Named::Staged(id), |extent| Named::Held(id, extent)).render();
        // What is known to be committed is never cut off, even for an older handle.
        let due = held.filter(|held| held.last > due.extent.last).map_or(due, |extent| Due { extent, ..due });
        let Some(length) = self.folder.length(&from)? else {
            return self.check_done(due, &from).map(|()| None);
        };
        if length < due.extent.length || (length > due.extent.length && !due.open) {
            return Err(self.damaged(&from, length, due.extent.length));
        }
        if due.open && !end {
            self.hold(id, due.extent, &from)?;
            return Ok(None);
        }
        if length > due.extent.length {
            self.folder.truncate(&from, due.extent.length)?;
        }
        self.folder.rename(&from, &Named::Sealed(id, due.extent).render())?;
        self.held.remove(&id);
        Ok(Some(Work { id, extent: due.extent, packed: false }))
    }

    /// Writes into the name how much of the file is committed.
    fn hold(&mut self, id: FileId, extent: Extent, from: &str) -> Result<()> {
        if self.held.get(&id).is_some_and(|held| held.last >= extent.last) {
            return Ok(());
        }
        self.folder.rename(from, &Named::Held(id, extent).render())?;
        self.held.insert(id, extent);
        Ok(())
    }

    /// The spool file is gone: right if it was sealed, and perhaps shipped, before.
    fn check_done(&self, due: Due, staged: &str) -> Result<()> {
        if self.mark.is_some_and(|(mark, _)| due.extent.last <= mark) {
            return Ok(());
        }
        Err(Error::sink(format!(
            "committed records of epoch {} are gone: \"{}\" does not exist: something else removed it, or this start was given \
             another folder",
            due.extent.last,
            self.folder.path_of(staged).display(),
        )))
    }

    fn damaged(&self, name: &str, length: u64, expected: u64) -> Error {
        let path = self.folder.path_of(name);
        Error::sink(format!(
            "committed records in \"{}\" have {length} bytes where {expected} were written: something else changed them",
            path.display()
        ))
    }

    /// Settles what handles name, then moves the mark: only from there on a sealed file may be shipped, and so disappear.
    fn settle_all(&mut self, due: &BTreeMap<FileId, Due>, end: bool) -> Result<Vec<Work>> {
        let Some(last) = due.values().map(|due| due.extent.last).max() else { return Ok(Vec::new()) };
        fail_point!("sink-objects::before-rename", |_| Err(Error::sink("stopped before renaming")));
        let mut sealed = Vec::new();
        for (at, (id, due)) in due.iter().enumerate() {
            if at > 0 {
                fail_point!("sink-objects::between-renames", |_| Err(Error::sink("stopped between two renames")));
            }
            sealed.extend(self.settle(*id, *due, end)?);
        }
        fail_point!("sink-objects::after-rename", |_| Err(Error::sink("stopped after renaming")));
        self.move_mark(last)?;
        fail_point!("sink-objects::after-mark", |_| Err(Error::sink("stopped after the mark")));
        self.folder.sync()?;
        Ok(sealed)
    }

    fn move_mark(&mut self, epoch: Epoch) -> Result<()> {
        let name = |(epoch, incarnation)| Named::Mark { incarnation, epoch }.render();
        let to = (epoch, self.incarnation);
        match self.mark {
            Some((mark, _)) if mark >= epoch => return Ok(()),
            Some(mark) => self.folder.rename(&name(mark), &name(to))?,
            None => drop(self.folder.create_file(&name(to))?),
        }
        self.mark = Some(to);
        Ok(())
    }

    /// Seals every held file, cut to what is committed of it.
    fn seal_held(&mut self) -> Result<Vec<Work>> {
        let held: Vec<_> = self.held.iter().map(|(id, extent)| (*id, *extent)).collect();
        let mut sealed = Vec::new();
        for (id, extent) in held {
            sealed.extend(self.settle(id, Due { extent, open: true }, true)?);
        }
        if !sealed.is_empty() {
            self.folder.sync()?;
        }
        Ok(sealed)
    }

    fn settle_last_start(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        let through = permit.map(CommitPermit::epoch).max(self.committed);
        let mut due = permit.map_or(Ok(BTreeMap::new()), |permit| read(permit, handles))?;
        let found = self.look()?;
        self.refuse_what_lies_beyond(&found, through)?;
        // What is sealed or packed already has the name that its handles want. The mark must still pass it before it is shipped.
        let last = due.values().map(|due| due.extent.last).max();
        due.retain(|id, _| !found.sealed.contains_key(id) && !found.packs.contains_key(id));
        self.held = found.held;
        self.mark = found.marks.last().copied();
        for (epoch, incarnation) in found.marks.iter().rev().skip(1) {
            self.folder.remove(&Named::Mark { incarnation: *incarnation, epoch: *epoch }.render())?;
        }
        fail_point!("sink-objects::before-recovery", |_| Err(Error::sink("stopped before recovering")));
        let mut sealed = self.settle_all(&due, true)?;
        last.map_or(Ok(()), |last| self.move_mark(last))?;
        sealed.extend(self.seal_held()?);
        fail_point!("sink-objects::recovery-settled", |_| Err(Error::sink("stopped before removing")));
        for id in found.staged.iter().filter(|id| !due.contains_key(id)) {
            self.folder.remove(&Named::Staged(*id).render())?;
        }
        found.packing.iter().try_for_each(|name| self.folder.remove(name))?;
        let work = |packed| move |(id, extent): (&FileId, &Extent)| Work { id: *id, extent: *extent, packed };
        sealed.extend(found.packs.iter().map(work(true)));
        for (id, extent) in &found.sealed {
            if found.packs.contains_key(id) {
                // Its pack is whole: it was to be removed.
                self.folder.remove(&Named::Sealed(*id, *extent).render())?;
            } else {
                sealed.push(work(false)((id, extent)));
            }
        }
        self.folder.sync()?;
        self.runtime.block_on(start::clear(&self.bucket, &self.keys, &self.leftovers));
        if !sealed.is_empty() {
            info!(step = self.step.as_str(), files = sealed.len(), "ships what earlier starts have committed");
        }
        // In their order, and all of them before anything new.
        sealed.sort_by_key(|work| work.id);
        sealed.into_iter().for_each(|work| self.shipper.ship(work));
        self.shipper.wait(0)
    }

    fn commit_all(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        let sealed = self.settle_all(&read(permit, handles)?, false)?;
        sealed.into_iter().for_each(|work| self.shipper.ship(work));
        self.shipper.wait(self.unshipped_bytes)
    }

    fn ship_everything(&mut self) -> Result<()> {
        self.seal_held()?.into_iter().for_each(|work| self.shipper.ship(work));
        self.shipper.wait(0)
    }
}

/// What the handles of committed epochs say of each spool file. Later epochs come last and win.
fn read(permit: &CommitPermit, handles: &[StagedHandle]) -> Result<BTreeMap<FileId, Due>> {
    let mut due: BTreeMap<FileId, Due> = BTreeMap::new();
    for staged in handles.iter().filter(|staged| staged.epoch <= permit.epoch()) {
        let Handle { incarnation, worker, pieces } = Handle::decode(&staged.handle)?;
        for piece in pieces {
            let id = FileId { incarnation, worker, serial: piece.serial };
            let extent = Extent { first: piece.first, last: staged.epoch, length: piece.length };
            let piece = Due { extent, open: piece.open };
            let known = due.entry(id).or_insert(piece);
            if known.extent.last <= staged.epoch {
                *known = piece;
            }
        }
    }
    Ok(due)
}

impl Committer for ObjectCommitter {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        self.settle_last_start(permit, handles).map_err(|error| error.in_step(&self.step))
    }

    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        self.commit_all(permit, handles).map_err(|error| error.in_step(&self.step))
    }

    fn check(&mut self) -> Result<()> {
        self.shipper.check().map_err(|error| error.in_step(&self.step))
    }

    fn close(&mut self) -> Result<()> {
        self.ship_everything().map_err(|error| error.in_step(&self.step))
    }
}
