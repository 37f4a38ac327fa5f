//! Writes each committed record to a local file exactly once.
//!
//! *Enters*: records, worker by worker. *Leaves*: files that appear complete, by rename, when their epoch is committed,
//! and never change again. *Survives a crash*: everything committed, nothing else. A reader may list the folder at any
//! time and read every name that does not begin with a dot.
//!
//! # Staging
//! A worker writes to hidden files in the final folder. When its epoch closes, it hands over their names and lengths and
//! has them flushed to disk; once the engine's durable batch names the epoch, the committer renames them. The names hold
//! incarnation and epoch, a pair that only grows, so no replay can meet a name of the attempt it repeats.
//!
//! # Holding a file open over epochs
//! With [`FileSink::roll_after`] a file collects several epochs before it becomes visible. After each commit its hidden
//! name tells how many of its bytes are committed, so what a crash leaves can be cut to exactly that and published.
//!
//! # On recovery
//! | found | done |
//! |---|---|
//! | a committed handle, its file staged | published, cut to the committed length |
//! | a committed handle, its visible file in place | nothing: it was published before the crash |
//! | a committed handle, neither file, but the folder's mark is at or past its epoch | nothing: a reader took it |
//! | a committed handle, neither file, no such mark | an error: it was removed from outside |
//! | a held file without a handle | published, cut to the length in its name |
//! | any other staged file of this job and step | removed |
//! | output beyond the last committed epoch | an error: the state is older than its output, going on would repeat it |
//!
//! Readers may move or delete visible files: the mark, an empty hidden file renamed at each commit, remembers.
//!
//! # What it does not promise
//! It trusts the file system to keep what `fsync` confirmed. It is for file systems of one machine: on network ones,
//! rename and locks may mean less.

mod committer;
mod handle;
mod names;
mod writer;

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardflow::sink::{Committer, Sink, SinkContext, SinkWriter};
use shardflow::{Error, Result};

use crate::folder::Folder;
use crate::format::{Format, Lines, Ndjson};
use committer::FileCommitter;
use names::Names;
use writer::FileWriter;

/// Writes each committed record to files in `dir`, exactly once: NDJSON, a record a line.
///
/// # Examples
/// ```
/// use shardflow::testing::sink::{Driver, Promise};
/// use shardflow_sinks::files;
///
/// let out = tempfile::tempdir()?;
/// let visible = || {
///     let files = std::fs::read_dir(out.path()).into_iter().flatten().flatten().map(|file| file.path());
///     let shown = files.filter(|path| path.extension().is_some_and(|ending| ending == "ndjson"));
///     shown.flat_map(|path| std::fs::read_to_string(path).into_iter()).collect::<String>().lines().flat_map(str::parse).collect()
/// };
/// let mut job = Driver::new(Promise::ExactlyOnce, Box::new(files(out.path())), |number| number, visible);
/// job.start(1);
/// job.stage(0, 3);
/// job.prepare();
/// job.persist();
/// assert!(job.visible().is_empty());
/// job.commit();
/// assert_eq!(job.visible(), [0, 1, 2]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn files(dir: impl Into<PathBuf>) -> FileSink {
    FileSink {
        dir: dir.into(),
        prefix: PathBuf::new(),
        roll_bytes: 128 << 20,
        roll_after: Duration::ZERO,
        clock: Arc::new(Instant::now),
        format: Ndjson,
    }
}

/// Files in a folder of a local file system. Made by [`files`].
#[derive(Clone)]
pub struct FileSink<F = Ndjson> {
    dir: PathBuf,
    prefix: PathBuf,
    roll_bytes: u64,
    roll_after: Duration,
    clock: Clock,
    format: F,
}

type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

impl<F> FileSink<F> {
    /// Puts the files in this sub-folder: a relative path without `..`. Default: in the folder itself.
    #[must_use]
    pub fn prefix(mut self, folder: impl Into<PathBuf>) -> Self {
        self.prefix = folder.into();
        self
    }

    /// Ends a file once it has this many bytes, at the end of a record. At least 1; default 128 MiB.
    #[must_use]
    pub fn roll_bytes(mut self, bytes: u64) -> Self {
        self.roll_bytes = bytes;
        self
    }

    /// Ends a file with the first epoch that closes this long after the file was created.
    ///
    /// Default zero: what an epoch wrote is visible as soon as the epoch is committed. A longer time gives fewer, larger
    /// files and later results; committed records stay out of sight until then, or until the job ends or starts again. They
    /// lie in this folder alone: after a crash, start once with the same folder before another is given.
    #[must_use]
    pub fn roll_after(mut self, time: Duration) -> Self {
        self.roll_after = time;
        self
    }

    /// Takes the time for [`FileSink::roll_after`] from `now`, which must not go back. For tests.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(now);
        self
    }

    /// Writes text instead, a record a line, to files that end in `.txt`. Records are strings then.
    #[must_use]
    pub fn lines(self) -> FileSink<Lines> {
        let Self { dir, prefix, roll_bytes, roll_after, clock, format: _ } = self;
        FileSink { dir, prefix, roll_bytes, roll_after, clock, format: Lines }
    }

    fn place(&self, context: &SinkContext, ending: &'static str) -> Result<Place> {
        if self.roll_bytes == 0 {
            return Err(Error::config("roll_bytes must be at least 1").in_step(context.step.as_str()));
        }
        if self.prefix.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            let prefix = self.prefix.display();
            let message = format!("prefix \"{prefix}\" must be a folder inside the output folder");
            return Err(Error::config(message).in_step(context.step.as_str()));
        }
        Ok(Place {
            folder: Folder::at(join(&self.dir, &self.prefix)),
            names: Names::new(&context.job, context.step.as_str(), ending),
            step: context.step.as_str().to_owned(),
            incarnation: context.incarnation.number(),
        })
    }
}

/// `dir/prefix`, without the trailing slash that joining an empty prefix leaves.
fn join(dir: &Path, prefix: &Path) -> PathBuf {
    let path: PathBuf = dir.components().chain(prefix.components()).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

/// Where one step of one start of a job writes, and how it names what it writes.
#[derive(Debug, Clone)]
struct Place {
    folder: Folder,
    names: Names,
    step: String,
    incarnation: u64,
}

impl<F> fmt::Debug for FileSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink")
            .field("dir", &self.dir)
            .field("prefix", &self.prefix)
            .field("roll_bytes", &self.roll_bytes)
            .field("roll_after", &self.roll_after)
            .finish_non_exhaustive()
    }
}

impl<T, F: Format<T>> Sink<T> for FileSink<F> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let place = self.place(context, F::ENDING)?;
        let step = place.step.clone();
        let committer = FileCommitter::open(place, context.committed).map_err(|error| error.in_step(step))?;
        Ok(Box::new(committer))
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        let place = self.place(context, F::ENDING)?;
        let worker = u32::try_from(worker)
            .map_err(|cause| Error::config(format!("worker {worker} is too many")).caused_by(cause))?;
        Ok(Box::new(FileWriter::new(self, place, worker)))
    }

    fn describe(&self) -> String {
        format!("files in \"{}\"", join(&self.dir, &self.prefix).display())
    }
}
