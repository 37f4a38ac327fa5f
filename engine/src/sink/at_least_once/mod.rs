//! Sinks for services that show each record at once and can take nothing back: HTTP, Kinesis, DynamoDB, a search index.
//!
//! *Enters*: records. *Leaves*: batches, several on their way at a time, to the user's [`BatchWriter`]. *Survives a crash*:
//! nothing here; an epoch commits only when all its records are written or among the refused, so a replay writes again what
//! may be missing. Give records an id that a replay repeats, so that whoever reads can drop repeats, or make writing them
//! twice the same as once.
//!
//! A failure that may pass is waited out, with growing waits; throttling for as long as it lasts. When failures go on, one
//! call at a time probes the service ([`breaker`]). Meanwhile the sink takes no more, which slows the sources down and loses
//! nothing. What the service refuses for good goes to the rejected output, with the reason, and does not hold up the rest;
//! without one the job stops.

mod batching;
mod breaker;
mod delivery;
mod lanes;
mod lingering;
mod outstanding;
mod rejected;
mod writer;

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use batching::Batching;
pub use rejected::{RejectedOutput, RejectedWriter};

use super::{Committer, Sink, SinkContext, SinkWriter, Version, name_of};
use crate::error::{Error, Outcome, Result};
use crate::retry::{Failed, Failing, WallClock};
use crate::source::BoxFuture;
use writer::{Delivering, Writer};

/// Where records go, with its settings: what the user gives to [`at_least_once`].
pub trait Destination<T>: Send + Sync + 'static {
    /// What writes there.
    type Writer: BatchWriter<T>;

    /// Checks the settings and connects. Called once a process and start to check, and once a worker.
    ///
    /// # Errors
    /// Settings that cannot work, or a service that is not there: the job does not start.
    fn open<'a>(&'a self, context: &'a SinkContext) -> BoxFuture<'a, Result<Self::Writer>>;

    /// As [`Sink::describe`].
    fn describe(&self) -> String {
        name_of::<Self>()
    }
}

/// A writer that needs no connecting is its own destination.
impl<T, W: BatchWriter<T> + Clone> Destination<T> for W {
    type Writer = W;

    fn open<'a>(&'a self, _context: &'a SinkContext) -> BoxFuture<'a, Result<W>> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }

    fn describe(&self) -> String {
        BatchWriter::describe(self)
    }
}

/// Writes batches of records.
///
/// # Examples
/// ```
/// use shardflow::sink::{BatchWriter, Batching, Refused, Version, Written, at_least_once};
/// use shardflow::source::BoxFuture;
///
/// #[derive(Debug, Clone)]
/// struct Mail;
///
/// impl BatchWriter<String> for Mail {
///     type Entry = String;
///
///     fn limits(&self) -> Batching {
///         Batching { records: 100, bytes: 1 << 20 }
///     }
///
///     fn entry(&self, record: &String, _version: Version) -> Result<String, Refused> {
///         let error = || Refused { error: "an empty letter".to_owned(), record: record.clone() };
///         if record.is_empty() { Err(error()) } else { Ok(record.clone()) }
///     }
///
///     fn bytes(&self, entry: &String) -> usize {
///         entry.len()
///     }
///
///     fn text(&self, entry: &String) -> String {
///         entry.clone()
///     }
///
///     fn write<'a>(&'a self, letters: &'a [String]) -> BoxFuture<'a, Written> {
///         Box::pin(async move {
///             letters.iter().for_each(|letter| println!("{letter}"));
///             Written::All
///         })
///     }
/// }
/// let sink = at_least_once(Mail).concurrency(2);
/// assert!(format!("{sink:?}").contains("concurrency: 2"));
/// ```
pub trait BatchWriter<T>: Send + Sync + 'static {
    /// What a record becomes on its way: the serialized item of a request, say.
    type Entry: Send + Sync + 'static;

    /// The largest batch that the service takes. The user may ask for smaller ones.
    fn limits(&self) -> Batching;

    /// What is to be sent for a record. Runs on the worker's thread. `version` is for services that can keep the later of two
    /// writes under one key.
    ///
    /// # Errors
    /// The record can never be written: it is refused, as the error says.
    fn entry(&self, record: &T, version: Version) -> Result<Self::Entry, Refused>;

    /// How much of a batch an entry takes, in bytes.
    fn bytes(&self, entry: &Self::Entry) -> usize;

    /// The record as the rejected output shows it.
    fn text(&self, entry: &Self::Entry) -> String;

    /// Writes a batch of at least one entry. Called several at a time. It tries once: waiting and trying again is the engine's.
    ///
    /// # Cancel safety
    /// The future is dropped when the job ends with a failure: then the next start writes the batch again.
    fn write<'a>(&'a self, entries: &'a [Self::Entry]) -> BoxFuture<'a, Written>;

    /// As [`Sink::describe`], where the writer is its own [`Destination`].
    fn describe(&self) -> String {
        name_of::<Self>()
    }
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// All entries are written.
    All,
    /// What became of each entry, in the order of the batch.
    Each(Vec<EntryOutcome>),
    /// The call failed as a whole.
    Failed(Trouble),
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryOutcome {
    /// It is written.
    Written,
    /// It is not, or may not be, and is to be sent again. Where that cannot help it stops the job.
    Failed(Trouble),
    /// The service will never take this record, for this reason; the others are none the worse.
    Refused(String),
}

/// Why something was not written, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whether it may pass, and as what; `None`: it stops the job.
    pub may_pass: Option<Failed>,
    /// Whether the records may have been written all the same: the answer was lost, and not necessarily the request.
    pub outcome: Outcome,
    /// In one line, without anything secret.
    pub text: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Trouble {}

impl Failing for Trouble {
    fn may_pass(&self) -> Option<Failed> {
        self.may_pass
    }

    fn given_up(self) -> Self {
        Self { may_pass: None, text: format!("{} (still, after many attempts)", self.text), ..self }
    }

    fn outcome(&self) -> Outcome {
        self.outcome
    }

    fn in_doubt(self) -> Self {
        Self { outcome: Outcome::Indeterminate, ..self }
    }
}

impl Trouble {
    /// Of two the one that says more: what stops the job does, before what may pass, and the first of two alike. In doubt where
    /// either is.
    fn and(self, other: Self) -> Self {
        let in_doubt = [&self, &other].iter().any(|one| one.outcome == Outcome::Indeterminate);
        let says_more = if self.may_pass.is_some() && other.may_pass.is_none() { other } else { self };
        if in_doubt { says_more.in_doubt() } else { says_more }
    }
}

/// A record that a service refused, as the rejected output carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub error: String,
    /// The record, as it was to be written.
    pub record: String,
}

/// A sink of batches, several at a time, each record at least once. Made by [`at_least_once`].
#[derive(Clone)]
pub struct AtLeastOnce<D> {
    destination: D,
    settings: Settings,
    rejected: RejectedOutput,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    most: Batching,
    concurrency: NonZeroUsize,
    give_up_after: Duration,
    /// How long a batch waits for more; `None`: until it is full, or the epoch ends.
    linger: Option<Duration>,
}

/// Writes each record to `destination` at least once: in batches that are cut when they are full, when they
/// have lingered for long enough ([`AtLeastOnce::linger`]), and at each epoch's end.
///
/// See [`BatchWriter`] for an example, and [`AtLeastOnce`] for what can be set.
pub fn at_least_once<D>(destination: D) -> AtLeastOnce<D> {
    let settings = Settings {
        most: Batching { records: usize::MAX, bytes: usize::MAX },
        concurrency: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN),
        give_up_after: Duration::from_secs(300),
        linger: None,
    };
    AtLeastOnce { destination, settings, rejected: RejectedOutput::default() }
}

impl<D> AtLeastOnce<D> {
    /// The most records in a batch, at least 1; by default, and at most, what the service takes.
    #[must_use]
    pub fn batch_records(mut self, records: usize) -> Self {
        self.settings.most.records = records.max(1);
        self
    }

    /// The most bytes in a batch; by default, and at most, what the service takes. A larger record goes alone.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.most.bytes = bytes;
        self
    }

    /// How long a record waits for others to share its batch; by default until the batch is full or the epoch ends. Of use where
    /// epochs are long and records are to be seen sooner. While all that may be are on their way a batch waits longer.
    #[must_use]
    pub fn linger(mut self, time: Duration) -> Self {
        self.settings.linger = Some(time);
        self
    }

    /// How many batches each worker has on their way at a time, at least 1; 4 by default. With more than 1 they may arrive in
    /// another order than they were cut in.
    #[must_use]
    pub fn concurrency(mut self, batches: usize) -> Self {
        self.settings.concurrency = NonZeroUsize::new(batches).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// After how long of nothing but failures other than throttling the job fails; 5 min by default.
    #[must_use]
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.settings.give_up_after = time;
        self
    }

    /// Where records go that the service refuses for good. Without it such a record stops the job. It is opened under the
    /// name of this sink with `.refused` behind it.
    #[must_use]
    pub fn rejected_to(mut self, sink: impl Sink<Refused>) -> Self {
        self.rejected = RejectedOutput::to(sink);
        self
    }
}

impl<D: fmt::Debug> fmt::Debug for AtLeastOnce<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtLeastOnce")
            .field("destination", &self.destination)
            .field("concurrency", &self.settings.concurrency)
            .field("give_up_after", &self.settings.give_up_after)
            .field("linger", &self.settings.linger)
            .field("has_rejected_output", &self.rejected.is_set())
            .finish_non_exhaustive()
    }
}

impl<T: 'static, D: Destination<T>> Sink<T> for AtLeastOnce<D> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        let opened = context.runtime.block_on(self.destination.open(context));
        drop(opened.map_err(|error: Error| error.in_step(context.step.as_str()))?);
        self.rejected.committer(context)
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        let opened = context.runtime.block_on(self.destination.open(context));
        let to = opened.map_err(|error: Error| error.in_step(context.step.as_str()))?;
        let rejected = self.rejected.writer(context, worker)?;
        let delivering = Delivering::new(context, worker, to, self.settings, WallClock);
        Ok(Box::new(Writer::new(delivering, rejected, context.incarnation)))
    }

    fn describe(&self) -> String {
        self.rejected.described_beside(self.destination.describe())
    }
}
