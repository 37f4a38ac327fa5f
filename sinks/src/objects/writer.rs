//! One worker's side: records into a buffer, the buffer into a spool file, the file's name and length into a handle.
//!
//! *Survives a crash*: what the handle of a committed epoch counts. Everything behind that is cut off or removed.

use std::fs::File;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use fail::fail_point;
use metrics::Gauge;
use shardflow::sink::{Prepared, Refused, SinkWriter};
use shardflow::{Epoch, Error, Record, Result};

use super::handle::{Handle, Piece};
use super::metrics as measured;
use super::names::{FileId, Named};
use super::settings::{Rejected, Settings};
use super::spool::Collect;
use super::windows::Windows;
use crate::folder::Folder;
use crate::partition::TimeOf;

/// Bytes collected before they are written: large enough that a system call a buffer costs nothing a record.
const BUFFER: usize = 256 << 10;

/// Spools records.
pub(super) struct Spooler<T> {
    folder: Folder,
    step: String,
    incarnation: u64,
    worker: u32,
    settings: Settings,
    /// Records not yet in a file.
    collected: Box<dyn Collect<T>>,
    /// The file that takes the next block; none until there is something to write.
    current: Option<Staged>,
    /// Files that became full in this epoch.
    full: Vec<Staged>,
    /// The next file's number. It never repeats within a start, so neither do names.
    next_serial: u64,
    /// Whether this epoch created files: their folder entries must be durable before the epoch is.
    created: bool,
    /// Records in the current file, collected ones included.
    records: u64,
    in_flight: u64,
    /// Where files end by event time: where a record's is, and what the current file holds.
    windows: Option<(TimeOf<T>, Windows)>,
    spooled: Gauge,
}

/// A staged file. It is shared with the flush, which runs on the commit thread.
struct Staged {
    file: Arc<File>,
    name: String,
    serial: u64,
    length: u64,
    created: Instant,
    /// The first epoch that ended with it; none until then.
    first: Option<Epoch>,
    /// Whether it has bytes that no handle counts yet.
    grown: bool,
}

impl<T> Spooler<T> {
    pub(super) fn new(
        folder: Folder,
        step: &str,
        incarnation: u64,
        worker: u32,
        collected: Box<dyn Collect<T>>,
        settings: Settings,
        windows: Option<(TimeOf<T>, Windows)>,
    ) -> Self {
        Self {
            folder,
            step: step.to_owned(),
            incarnation,
            worker,
            settings,
            collected,
            current: None,
            full: Vec::new(),
            next_serial: 0,
            created: false,
            records: 0,
            in_flight: 0,
            windows,
            spooled: measured::spooled(step, worker),
        }
    }

    /// Writes the block to the current file, which it creates where there is none.
    fn spill(&mut self) -> Result<()> {
        if self.collected.len() == 0 {
            return Ok(());
        }
        let is_new = self.current.is_none();
        let mut file = match self.current.take() {
            Some(file) => file,
            None => self.create()?,
        };
        let mut append = |bytes: &[u8]| {
            file.length = file.length.saturating_add(bytes.len() as u64);
            self.folder.write(&file.file, &file.name, bytes)
        };
        let written = self.collected.finish(is_new, &mut append);
        file.grown = true;
        self.spooled.set(file.length as f64);
        self.current = Some(file);
        written
    }

    fn create(&mut self) -> Result<Staged> {
        let serial = self.next_serial;
        let name = Named::Staged(FileId { incarnation: self.incarnation, worker: self.worker, serial }).render();
        let file = Arc::new(self.folder.create_file(&name)?);
        self.next_serial = serial.saturating_add(1);
        self.created = true;
        Ok(Staged { file, name, serial, length: 0, created: (self.settings.clock)(), first: None, grown: false })
    }

    /// Ends the current file: it is sealed with the commit of the open epoch.
    fn roll(&mut self) -> Result<()> {
        self.spill()?;
        self.full.extend(self.current.take());
        self.records = 0;
        if let Some((_, windows)) = &mut self.windows {
            windows.next_file();
        }
        self.spooled.set(0.0);
        Ok(())
    }

    /// After a record of so many bytes.
    fn grown(&mut self, bytes: usize) -> Result<()> {
        self.in_flight = self.in_flight.saturating_add(bytes as u64);
        self.records = self.records.saturating_add(1);
        let collected = self.collected.len();
        let length = self.current.as_ref().map_or(0, |file| file.length).saturating_add(collected as u64);
        if length >= self.settings.roll_bytes || self.records >= self.settings.roll_records {
            self.roll()
        } else if collected >= BUFFER {
            self.spill()
        } else {
            Ok(())
        }
    }

    /// A record has no form: it is spooled as refused, or stops the job.
    fn refuse(&mut self, error: String, record: String) -> Result<()> {
        match self.settings.rejected {
            Rejected::Stop => Err(Error::sink(format!(
                "could not write a record: {error}; give the sink a place for such records (keep_rejected); it is {:?}",
                record.chars().take(200).collect::<String>()
            ))),
            Rejected::Keep => {
                let bytes = self.collected.push_refused(&Refused { error, record });
                let bytes =
                    bytes.map_err(|error| Error::internal(format!("could not spool a refused record: {error}")))?;
                self.grown(bytes)
            }
        }
    }

    /// Ends an epoch: its handle, and what the flush has to make durable.
    fn cut(&mut self, epoch: Epoch) -> Result<Option<Prepared>> {
        self.spill()?;
        if let Some(file) = &self.current {
            let after = self.settings.roll_after;
            let is_old = after.is_zero() || (self.settings.clock)().saturating_duration_since(file.created) >= after;
            if is_old || self.windows.as_ref().is_some_and(|(_, windows)| windows.is_over()) {
                self.roll()?;
            }
        }
        let full = mem::take(&mut self.full);
        let (mut pieces, mut files) = (Vec::new(), Vec::new());
        for mut file in full {
            pieces.push(file.piece(epoch, false));
            files.push((file.file, file.name));
        }
        if let Some(file) = self.current.as_mut().filter(|file| file.grown) {
            file.grown = false;
            pieces.push(file.piece(epoch, true));
            files.push((Arc::clone(&file.file), file.name.clone()));
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        let handle = Handle { incarnation: self.incarnation, worker: self.worker, pieces }.encode()?;
        let created = mem::take(&mut self.created);
        let (folder, step) = (self.folder.clone(), self.step.clone());
        let flush = move || {
            let flush = || {
                files.iter().try_for_each(|(file, name)| folder.sync_file(file, name))?;
                if created { folder.sync() } else { Ok(()) }
            };
            flush().map_err(|error: Error| error.in_step(step))?;
            Ok(Some(handle))
        };
        Ok(Some(Prepared::Flush(Box::new(flush))))
    }
}

impl Staged {
    fn piece(&mut self, epoch: Epoch, open: bool) -> Piece {
        Piece { serial: self.serial, first: *self.first.get_or_insert(epoch), length: self.length, open }
    }
}

impl<T: Record> SinkWriter<T> for Spooler<T> {
    fn stage(&mut self, record: &T) -> Result<()> {
        let staged = match self.collected.push(record) {
            Ok(bytes) => {
                if let Some((time, windows)) = &mut self.windows {
                    windows.saw(time(record));
                }
                self.grown(bytes)
            }
            Err(error) => {
                let text = serde_json::to_string(record).unwrap_or_default();
                self.refuse(error, text)
            }
        };
        staged.map_err(|error| error.in_step(&self.step))?;
        fail_point!("sink-objects::after-stage", |_| Err(Error::sink("stopped after staging")));
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Option<Prepared>> {
        fail_point!("sink-objects::before-prepare", |_| Err(Error::sink("stopped before preparing")));
        let prepared = self.cut(epoch).map_err(|error| error.in_step(&self.step))?;
        self.in_flight = 0;
        Ok(prepared)
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }
}
