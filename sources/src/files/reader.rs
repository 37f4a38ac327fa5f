//! Reads one file: opens it at the first poll, cuts it into lines, closes it at its end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use shardflow::source::{RawBatch, Reader};
use shardflow::{Error, Result};

use super::content::{Content, OpenFiles, is_compressed};
use super::lines::Lines;

/// How much is read at a poll, in bytes: about 2,400 records of 110 bytes, and well below a millisecond of a worker.
/// Measured from 64 KiB to 1 MiB: 20 to 37 million records of 99 bytes a second and thread, with more noise between runs
/// than between sizes; what decodes the records is far slower.
const CHUNK: usize = 256 << 10;

/// How much decompressed content is thrown away at a poll on the way to a stored offset, in bytes: about a millisecond.
const DISCARD: u64 = 1 << 20;

/// The reader of one file.
pub(super) struct FileReader {
    path: PathBuf,
    stage: Stage,
    /// So much of the content has been read or must be discarded before reading.
    offset: u64,
    /// The byte at `offset` is the one before the stored position: it must end a line.
    at_border: bool,
    lines: Lines,
    open_files: Arc<OpenFiles>,
}

enum Stage {
    /// Not open: nothing was read yet, or too many other files are open.
    Closed,
    /// On the way to `offset`: so many bytes remain to be thrown away.
    Discarding(Content, u64),
    Reading(Content),
    Ended,
    /// Kept apart from `Ended`: a split that failed must never look as if it were complete.
    Failed,
}

impl FileReader {
    /// The lines of the file at `path` from byte `offset` of its content on. Does no I/O.
    pub(super) fn new(path: PathBuf, offset: u64, max_record_bytes: usize, open_files: Arc<OpenFiles>) -> Self {
        let lines = Lines::new(offset, max_record_bytes);
        // Begins one byte early, to see that the stored offset follows a line's end.
        let at_border = offset > 0;
        Self { path, stage: Stage::Closed, offset: offset.saturating_sub(1), at_border, lines, open_files }
    }

    /// One bounded piece of work. `None`: there is nothing to hand over yet, go on.
    fn step(&mut self) -> Result<Option<Option<RawBatch>>> {
        match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Closed => {
                let (content, discard) =
                    Content::open(&self.path, self.offset, &self.open_files).map_err(|error| self.explain(error))?;
                self.stage = if discard == 0 { Stage::Reading(content) } else { Stage::Discarding(content, discard) };
                Ok(None)
            }
            Stage::Discarding(mut content, left) => {
                let slice = left.min(DISCARD);
                let done = content.discard(slice).map_err(|error| self.explain(error))?;
                if done < slice {
                    return Err(self.was_changed());
                }
                let left = left.saturating_sub(done);
                self.stage = if left == 0 { Stage::Reading(content) } else { Stage::Discarding(content, left) };
                Ok(None)
            }
            Stage::Reading(content) => self.read(content),
            Stage::Ended => {
                self.stage = Stage::Ended;
                Ok(Some(None))
            }
            Stage::Failed => Err(Error::source(format!("could not go on with file {:?}: it failed before", self.path))),
        }
    }

    fn read(&mut self, mut content: Content) -> Result<Option<Option<RawBatch>>> {
        if self.at_border {
            self.check_border(&mut content)?;
        }
        let read = content.read_into(self.lines.buffer(), CHUNK).map_err(|error| self.explain(error))?;
        self.offset = self.offset.saturating_add(read as u64);
        let ended = read < CHUNK;
        if ended && content.was_cut(self.offset).map_err(|error| self.explain(error))? {
            return Err(self.was_changed());
        }
        let batch = self.lines.cut(ended);
        self.stage = if ended && self.lines.is_drained() {
            Stage::Ended
        } else if content.should_close() {
            Stage::Closed
        } else {
            Stage::Reading(content)
        };
        Ok(batch.map(Some))
    }

    /// The byte before the stored offset ends a line, or it is the content's last.
    fn check_border(&mut self, content: &mut Content) -> Result<()> {
        let mut border = Vec::with_capacity(2);
        content.read_into(&mut border, 1).map_err(|error| self.explain(error))?;
        match border.first() {
            None => return Err(self.was_changed()),
            Some(b'\n') => {}
            Some(_) => {
                if content.discard(1).map_err(|error| self.explain(error))? > 0 {
                    return Err(self.was_changed());
                }
            }
        }
        self.offset = self.offset.saturating_add(1);
        self.at_border = false;
        Ok(())
    }

    fn explain(&self, error: io::Error) -> Error {
        let path = &self.path;
        if self.offset > 0 && error.kind() == io::ErrorKind::UnexpectedEof && !is_compressed(&self.path) {
            return self.was_changed();
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Error::source(format!("could not read file {path:?}: it is cut short or damaged")).caused_by(error)
            }
            io::ErrorKind::NotFound if self.offset > 0 => {
                Error::source(format!("could not go on with file {path:?} at byte {}: it is gone", self.position()))
            }
            _ => Error::source(format!("could not read file {path:?} at byte {}", self.position())).caused_by(error),
        }
    }

    fn was_changed(&self) -> Error {
        Error::source(format!(
            "could not go on with file {:?} at byte {}: it was cut or changed since it was read up to there",
            self.path,
            self.position()
        ))
    }

    /// Where the user would say that it stands.
    fn position(&self) -> u64 {
        if self.at_border { self.offset.saturating_add(1) } else { self.offset }
    }
}

impl Reader for FileReader {
    /// What is in a file is there to be read, also while it is decompressed up to the stored position.
    fn caught_up(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        loop {
            let opening = matches!(self.stage, Stage::Closed);
            match self.step() {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Some(batch)) => return Poll::Ready(Ok(batch)),
                Ok(None) if opening || matches!(self.stage, Stage::Ended) => {}
                Ok(None) => {
                    // There is more to do at once, but the worker's other splits come first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
}
