//! What can be set, with what holds where nothing is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardflow::{Error, Result};

pub(super) type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// What becomes of a record that the format cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    /// The job stops.
    Stop,
    /// It goes, as JSON with the reason, into an object of its own.
    Keep,
}

/// What a store must do with a second object of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// Refuse it, or the job does not start.
    Required,
    /// Nothing: this sink looks before it writes.
    Looked,
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) roll_bytes: u64,
    pub(super) roll_records: u64,
    pub(super) roll_after: Duration,
    /// Event time that files are divided by, and how late records may be.
    pub(super) roll_window: Option<(Duration, Duration)>,
    pub(super) rejected: Rejected,
    pub(super) absent: Absent,
    /// Committed bytes that may wait to be shipped before a commit waits.
    pub(super) unshipped_bytes: u64,
    /// The most bytes that encoders hold together.
    pub(super) encoding_bytes: usize,
    /// Objects and parts on their way at a time.
    pub(super) concurrency: usize,
    /// Larger objects go in parts of at least so many bytes.
    pub(super) part_bytes: u64,
    pub(super) give_up_after: Duration,
    pub(super) clock: Clock,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            roll_bytes: 128 << 20,
            roll_records: u64::MAX,
            roll_after: Duration::from_secs(60),
            roll_window: None,
            rejected: Rejected::Stop,
            absent: Absent::Required,
            unshipped_bytes: 1 << 30,
            encoding_bytes: 128 << 20,
            concurrency: 4,
            part_bytes: 8 << 20,
            give_up_after: Duration::from_secs(300),
            clock: Arc::new(Instant::now),
        }
    }
}

impl Settings {
    /// # Errors
    /// A number that cannot work.
    pub(super) fn check(&self) -> Result<()> {
        let numbers = [
            ("roll_bytes", self.roll_bytes),
            ("roll_records", self.roll_records),
            ("part_bytes", self.part_bytes),
            ("encoding_bytes", self.encoding_bytes as u64),
            ("concurrency", self.concurrency as u64),
        ];
        match numbers.into_iter().find(|(_, number)| *number == 0) {
            Some((name, _)) => Err(Error::config(format!("{name} must be at least 1"))),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("roll_bytes", &self.roll_bytes)
            .field("roll_records", &self.roll_records)
            .field("roll_after", &self.roll_after)
            .field("roll_window", &self.roll_window)
            .field("rejected", &self.rejected)
            .field("absent", &self.absent)
            .field("unshipped_bytes", &self.unshipped_bytes)
            .field("encoding_bytes", &self.encoding_bytes)
            .field("concurrency", &self.concurrency)
            .field("part_bytes", &self.part_bytes)
            .field("give_up_after", &self.give_up_after)
            .finish_non_exhaustive()
    }
}
