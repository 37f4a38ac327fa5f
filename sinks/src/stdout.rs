//! Prints each committed record to standard output, at least once.
//!
//! *Enters*: records. *Leaves*: their lines, once their epoch is committed; an epoch's lines come together, worker by
//! worker. *Survives a crash*: the lines of committed epochs, which lie in the engine's durable batch until printed. Paper
//! has no rename: after a crash between printing and the engine's note of it, the epoch is printed again.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;

use shardflow::sink::{CommitPermit, Committer, Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::{Epoch, Error, Result};

use crate::format::{Format, Lines, Ndjson};
use crate::frame;

const MAGIC: [u8; 4] = *b"SFou";
const VERSION: u16 = 1;

/// Prints each committed record as a line of JSON to standard output, at least once.
///
/// An epoch's lines are held in memory and go through the state folder, so it is meant for moderate output: a
/// demonstration, a pipe to `jq`. A closed pipe is an error that stops the job; what was not printed is printed by the next start.
///
/// # Examples
/// ```
/// let sink = shardflow_sinks::stdout();
/// assert_eq!(format!("{sink:?}"), "Stdout { to: \"standard output\" }");
/// ```
pub fn stdout() -> Stdout {
    Stdout { to: "standard output", open: Arc::new(|| Box::new(io::stdout())), format: Ndjson }
}

/// Standard output as a sink. Made by [`stdout()`].
#[derive(Clone)]
pub struct Stdout<F = Ndjson> {
    to: &'static str,
    open: Arc<dyn Fn() -> Box<dyn Write + Send> + Send + Sync>,
    format: F,
}

impl<F> Stdout<F> {
    /// Prints to what `open` gives instead, which errors call `name`: standard error, a test's buffer. Opened once a start.
    #[must_use]
    pub fn redirected(
        mut self,
        name: &'static str,
        open: impl Fn() -> Box<dyn Write + Send> + Send + Sync + 'static,
    ) -> Self {
        self.to = name;
        self.open = Arc::new(open);
        self
    }

    /// Prints text instead, a record a line. Records are strings then.
    #[must_use]
    pub fn lines(self) -> Stdout<Lines> {
        Stdout { to: self.to, open: self.open, format: Lines }
    }
}

impl<F> fmt::Debug for Stdout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdout").field("to", &self.to).finish()
    }
}

impl<T, F: Format<T>> Sink<T> for Stdout<F> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let step = context.step.as_str().to_owned();
        Ok(Box::new(Printer { step, to: self.to, out: (self.open)(), printed: None }))
    }

    fn writer(&self, context: &SinkContext, _worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        let step = context.step.as_str().to_owned();
        Ok(Box::new(Collector { step, format: self.format.clone(), lines: Vec::new() }))
    }

    fn describe(&self) -> String {
        self.to.to_owned()
    }
}

/// Collects a worker's lines of the open epoch.
struct Collector<F> {
    step: String,
    format: F,
    lines: Vec<u8>,
}

impl<T, F: Format<T>> SinkWriter<T> for Collector<F> {
    fn stage(&mut self, record: &T) -> Result<()> {
        let start = self.lines.len();
        self.format.write(record, &mut self.lines).map_err(|cause| {
            self.lines.truncate(start);
            Error::sink("could not write a record").caused_by(cause).in_step(&self.step)
        })
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        let lines = mem::take(&mut self.lines);
        Ok((!lines.is_empty()).then(|| Prepared::Staged(frame::seal(MAGIC, VERSION, &lines))))
    }

    fn in_flight(&self) -> u64 {
        self.lines.len() as u64
    }
}

struct Printer {
    step: String,
    to: &'static str,
    out: Box<dyn Write + Send>,
    /// The last epoch this start printed: the engine may ask twice.
    printed: Option<Epoch>,
}

impl Printer {
    fn print(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        let new = |epoch| epoch <= permit.epoch() && self.printed.is_none_or(|printed| epoch > printed);
        let mut handles: Vec<&StagedHandle> = handles.iter().filter(|handle| new(handle.epoch)).collect();
        handles.sort_by_key(|handle| (handle.epoch, handle.worker));
        for handle in &handles {
            let lines = frame::open("a handle of the stdout sink", MAGIC, VERSION, &handle.handle)?;
            self.out.write_all(lines).map_err(|cause| self.failed(cause))?;
        }
        if let Some(last) = handles.last() {
            self.out.flush().map_err(|cause| self.failed(cause))?;
            self.printed = Some(last.epoch);
        }
        Ok(())
    }

    fn failed(&self, cause: io::Error) -> Error {
        Error::sink(format!("could not print to {}", self.to)).caused_by(cause).indeterminate()
    }
}

impl Committer for Printer {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        permit.map_or(Ok(()), |permit| self.commit(permit, handles))
    }

    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        self.print(permit, handles).map_err(|error| error.in_step(&self.step))
    }
}
