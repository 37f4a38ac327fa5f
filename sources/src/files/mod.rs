//! Reads the lines of a file, or of every file below a folder, once each and in order.
//!
//! What enters: NDJSON or any other text or bytes that `\n` separates, plain or compressed (gzip by the ending `.gz`,
//! zstd by `.zst`, several members or frames in one file included). What leaves: a record a line, without its `\n` and
//! without a `\r` before it; empty lines are skipped, the last line needs no `\n`, and a UTF-8 byte order mark at the
//! content's beginning is no part of the first line. What survives a crash: the byte offset that the engine stored.
//!
//! A file is one split; its id is its path relative to the given folder, `/` between the parts (for a single file, its
//! name). Names that begin with a dot are skipped, and so is what lies below a folder of such a name. Symbolic links are
//! followed: a file and a link to it in the same folder are two splits, and it is read twice.
//!
//! A file is read as it is found: from its first byte to its end, once. So a file must be whole when it becomes
//! visible: write it under a hidden name and rename it. What is appended later to a file that was read to its end is
//! not seen while the job runs, and the next start refuses a plain file whose length is no longer what it was.
//!
//! # Progress tracking
//! A position is a decimal byte offset into the content (for a compressed file, into the decompressed content): the
//! first byte after the last record that was read, its line's end included.
//!
//! # Resumption
//! A plain file is opened at the offset. A compressed one is decompressed from its beginning and what lies before the
//! offset is thrown away, in slices that never keep a worker for long. An offset beyond the end, or one that does not
//! follow a line's end, means that the file was changed: an error, since going on would lose or invent records. The
//! stored positions are of the path of the first start, symbolic links followed: another one is refused.
//!
//! # Rewinds
//! Reading again from a position gives the same lines as long as the file's content is the same.

mod content;
mod lines;
mod listing;
mod reader;

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shardflow::source::{
    BoxFuture, Discovery, Enumerator, KnownSplits, Position, Reader, Source, SourceContext, Split, SplitStatus,
};
use shardflow::vocabulary::SplitId;
use shardflow::{Error, Result};

use content::OpenFiles;
use listing::Listing;
use reader::FileReader;

/// The default of [`Files::max_record_bytes`]: 16 MiB.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// How many files are kept open at a time: well below the usual limit of 1,024 a process, which sinks and the state
/// need too.
const MAX_OPEN_FILES: usize = 256;

/// How often a bounded source is asked again; its first listing is complete, so the answer never matters.
const BOUNDED_INTERVAL: Duration = Duration::from_secs(3600);

/// Reads the lines of one file, or of every file below a folder.
///
/// # Examples
/// ```
/// use shardflow_sources::Files;
/// use std::time::Duration;
///
/// let once = Files::new("usage/2026-11-01.ndjson.gz");
/// let forever = Files::new("usage").following(Duration::from_secs(1)).max_record_bytes(1 << 20);
/// assert!(!once.is_following());
/// assert!(forever.is_following());
/// ```
#[derive(Debug, Clone)]
pub struct Files {
    path: PathBuf,
    following: Option<Duration>,
    max_record_bytes: usize,
}

impl Files {
    /// The file at `path`, or every file below the folder at `path`. Bounded: it ends when all of them have been read.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), following: None, max_record_bytes: MAX_RECORD_BYTES }
    }

    /// Reads the files that are there at the start, then ends. This is the default.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.following = None;
        self
    }

    /// Never ends: looks for new files every `interval` (at least 1 ms) and reads each as a whole once it is visible.
    #[must_use]
    pub fn following(mut self, interval: Duration) -> Self {
        self.following = Some(interval.max(Duration::from_millis(1)));
        self
    }

    /// The longest line that is a record, in bytes without its line end; 16 MiB by default, at least 1, at most 1 GiB.
    ///
    /// Of a longer line the first bytes (up to 64 KiB) go to the rejected output, and the rest is skipped.
    #[must_use]
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.max_record_bytes = bytes.clamp(1, 1 << 30);
        self
    }

    /// Whether it looks for new files for ever.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.following.is_some()
    }
}

impl Source for Files {
    /// The path as the file system resolves it, so that it does not depend on how or from where it is given.
    fn identity(&self) -> String {
        let absolute = || std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        // What is not there cannot be resolved; opening it says so.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| absolute());
        format!("file:{}", path.display())
    }

    fn open(&self, context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        Box::pin(async move {
            let listing = Listing::of(&self.path)?;
            let (checked, known) = (listing.clone(), context.known.clone());
            let unchanged = context.runtime.spawn_blocking(move || check_unchanged(&checked, &known));
            unchanged.await.map_err(|error| Error::internal("looking at files was cut short").caused_by(error))??;
            let enumerator: Box<dyn Enumerator> = Box::new(FileEnumerator {
                listing,
                following: self.following,
                max_record_bytes: self.max_record_bytes,
                runtime: context.runtime,
                open_files: Arc::new(OpenFiles::new(MAX_OPEN_FILES)),
                skipped: BTreeSet::new(),
            });
            Ok(enumerator)
        })
    }
}

/// Lists the files and opens their readers.
struct FileEnumerator {
    listing: Listing,
    following: Option<Duration>,
    max_record_bytes: usize,
    runtime: tokio::runtime::Handle,
    open_files: Arc<OpenFiles>,
    /// What cannot be read, and was told of.
    skipped: BTreeSet<PathBuf>,
}

impl Enumerator for FileEnumerator {
    fn interval(&self) -> Duration {
        self.following.unwrap_or(BOUNDED_INTERVAL)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let listing = self.listing.clone();
        // A large folder on a slow disk must not hold up the runtime's other tasks.
        let listed = self.runtime.spawn_blocking(move || listing.list());
        let complete = self.following.is_none();
        Box::pin(async move {
            let listed =
                listed.await.map_err(|error| Error::internal("listing files was cut short").caused_by(error))??;
            for path in listed.skipped {
                if self.skipped.insert(path.clone()) {
                    tracing::warn!(?path, "skipped: it is neither a file nor a folder, or a link to nothing");
                }
            }
            let start = Position::new("0");
            let splits = listed.files.into_iter().map(|id| Split::new(id, Vec::new(), start.clone())).collect();
            Ok(Discovery { splits, complete })
        })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let path = self.listing.path_of(split)?;
        let offset = parse_offset(position).ok_or_else(|| {
            Error::source(format!("could not resume file {path:?} at \"{position}\": that is no byte offset"))
        })?;
        Ok(Box::new(FileReader::new(path, offset, self.max_record_bytes, Arc::clone(&self.open_files))))
    }
}

/// Refuses plain files that are not what they were when they were read: a file that has ended must be as long as it was,
/// another at least as long as it was read. A file that is gone after it was read is not missed. Of a compressed file only
/// reading it would tell.
fn check_unchanged(listing: &Listing, known: &KnownSplits) -> Result<()> {
    for (split, record) in known {
        let Ok(path) = listing.path_of(split) else { continue };
        let (Some(read), false) = (parse_offset(&record.position), content::is_compressed(&path)) else { continue };
        let Ok(found) = std::fs::metadata(&path) else { continue };
        let length = found.len();
        let is_whole = match record.status {
            SplitStatus::Ended => length == read,
            SplitStatus::Waiting | SplitStatus::Reading => length >= read,
        };
        if !is_whole {
            return Err(Error::state(format!(
                "could not go on with file {path:?}: it was read to byte {read} and now has {length} bytes; files must not \
                 change"
            )));
        }
    }
    Ok(())
}

/// Strict: what this source printed, and nothing that merely parses.
fn parse_offset(position: &Position) -> Option<u64> {
    let offset: u64 = position.as_str().parse().ok()?;
    (offset.to_string() == position.as_str()).then_some(offset)
}

/// Whether `id` can be joined to a folder without leaving it.
fn stays_below(id: &str) -> bool {
    !id.is_empty() && Path::new(id).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_back_strictly() {
        assert_eq!(parse_offset(&Position::new("1024")), Some(1024));
        for nonsense in ["", "+1", "01", "-1", "1 ", "99999999999999999999999", "after:1"] {
            assert_eq!(parse_offset(&Position::new(nonsense)), None, "{nonsense}");
        }
    }

    #[test]
    fn a_split_id_cannot_leave_its_folder() {
        assert!(stays_below("a/b.ndjson"));
        for bad in ["", "/etc/passwd", "../x", "a/../../x"] {
            assert!(!stays_below(bad), "{bad}");
        }
    }
}
