//! One worker's side: lines into a buffer, the buffer into a hidden file, the file's name and length into a handle.
//!
//! *Survives a crash*: what the handle of a committed epoch counts. Everything behind that is cut off or removed.

use std::error::Error as StdError;
use std::fs::File;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fail::fail_point;
use shardflow::sink::{Prepared, SinkWriter};
use shardflow::{Epoch, Error, Result};

use super::handle::{Handle, Piece};
use super::names::{FileId, Named};
use super::{Clock, FileSink, Place};
use crate::format::Format;

/// Bytes collected before they are written: large enough that a system call a buffer costs nothing a record.
const BUFFER: usize = 256 << 10;

pub(super) struct FileWriter<F> {
    place: Place,
    format: F,
    roll_bytes: u64,
    roll_after: Duration,
    clock: Clock,
    worker: u32,
    /// Lines not yet in a file.
    buffer: Vec<u8>,
    /// The file that takes the next buffer; none until there is something to write.
    current: Option<Staged>,
    /// Files that became full in this epoch.
    full: Vec<Staged>,
    /// The next file's number. It never repeats within a start, so neither do staged names.
    next_serial: u64,
    /// Whether this epoch created files: their folder entries must be durable before the epoch is.
    created: bool,
    in_flight: u64,
}

/// A staged file. It is shared with the flush, which runs on the commit thread.
struct Staged {
    file: Arc<File>,
    name: String,
    serial: u64,
    length: u64,
    created: Instant,
    /// Whether it has bytes that no handle counts yet.
    grown: bool,
}

impl<F> FileWriter<F> {
    pub(super) fn new(sink: &FileSink<F>, place: Place, worker: u32) -> Self
    where
        F: Clone,
    {
        Self {
            place,
            format: sink.format.clone(),
            roll_bytes: sink.roll_bytes,
            roll_after: sink.roll_after,
            clock: Arc::clone(&sink.clock),
            worker,
            buffer: Vec::new(),
            current: None,
            full: Vec::new(),
            next_serial: 0,
            created: false,
            in_flight: 0,
        }
    }

    fn failed(&self, cause: Box<dyn StdError + Send + Sync>) -> Error {
        Error::sink("could not write a record").caused_by(cause).in_step(&self.place.step)
    }

    /// Bytes of the current file, written or not.
    fn length(&self) -> u64 {
        let written = self.current.as_ref().map_or(0, |file| file.length);
        written.saturating_add(self.buffer.len() as u64)
    }

    /// Writes the buffer to the current file, which it creates where there is none.
    fn spill(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.current.is_none() {
            self.current = Some(self.create()?);
        }
        let file = self.current.as_mut().expect("a file was created if there was none");
        self.place.folder.write(&file.file, &file.name, &self.buffer)?;
        file.length = file.length.saturating_add(self.buffer.len() as u64);
        file.grown = true;
        self.buffer.clear();
        Ok(())
    }

    fn create(&mut self) -> Result<Staged> {
        let serial = self.next_serial;
        let id = FileId { incarnation: self.place.incarnation, worker: self.worker, serial };
        let name = self.place.names.render(Named::Staged(id));
        let file = Arc::new(self.place.folder.create_file(&name)?);
        self.next_serial = serial.saturating_add(1);
        self.created = true;
        Ok(Staged { file, name, serial, length: 0, created: (self.clock)(), grown: false })
    }

    /// Ends the current file: it becomes visible with the commit of the open epoch.
    fn roll(&mut self) -> Result<()> {
        self.spill()?;
        self.full.extend(self.current.take());
        Ok(())
    }

    /// Ends an epoch: its handle, and what the flush has to make durable.
    fn cut(&mut self) -> Result<Option<Prepared>> {
        self.spill()?;
        self.buffer.shrink_to(2 * BUFFER);
        if let Some(file) = &self.current
            && (self.roll_after.is_zero() || (self.clock)().duration_since(file.created) >= self.roll_after)
        {
            self.roll()?;
        }
        let full = mem::take(&mut self.full);
        let open = self.current.as_mut().and_then(|file| mem::take(&mut file.grown).then_some(&*file));
        let mut pieces = Vec::new();
        let mut files = Vec::new();
        for (part, (file, open)) in
            (0..).zip(full.iter().map(|file| (file, false)).chain(open.map(|file| (file, true))))
        {
            pieces.push(Piece { serial: file.serial, part, length: file.length, open });
            files.push((Arc::clone(&file.file), file.name.clone()));
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        let handle = Handle { incarnation: self.place.incarnation, worker: self.worker, pieces }.encode()?;
        let created = mem::take(&mut self.created);
        let place = self.place.clone();
        let flush = move || {
            let flush = || {
                files.iter().try_for_each(|(file, name)| place.folder.sync_file(file, name))?;
                if created { place.folder.sync() } else { Ok(()) }
            };
            flush().map_err(|error: Error| error.in_step(&place.step))?;
            Ok(Some(handle))
        };
        Ok(Some(Prepared::Flush(Box::new(flush))))
    }
}

impl<T, F: Format<T>> SinkWriter<T> for FileWriter<F> {
    fn stage(&mut self, record: &T) -> Result<()> {
        let start = self.buffer.len();
        if let Err(cause) = self.format.write(record, &mut self.buffer) {
            self.buffer.truncate(start);
            return Err(self.failed(cause));
        }
        let added = self.buffer.len().saturating_sub(start) as u64;
        self.in_flight = self.in_flight.saturating_add(added);
        let done = if self.length() >= self.roll_bytes {
            self.roll()
        } else if self.buffer.len() >= BUFFER {
            self.spill()
        } else {
            Ok(())
        };
        done.map_err(|error| error.in_step(&self.place.step))?;
        fail_point!("sink-files::after-stage", |_| Err(Error::sink("stopped after staging")));
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        fail_point!("sink-files::before-prepare", |_| Err(Error::sink("stopped before preparing")));
        let prepared = self.cut().map_err(|error| error.in_step(&self.place.step))?;
        self.in_flight = 0;
        Ok(prepared)
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }
}
