//! Hands each committed record to the program's own threads: at least once across a crash, once within one start.
//!
//! *Enters*: records. *Leaves*: the same, at the [`Receiver`], once their epoch is committed; an epoch's records come together,
//! worker by worker, each worker's in their order. *Survives a crash*: the records of committed epochs, which lie in the
//! engine's durable batch until they are handed over.
//!
//! # What is promised
//! Nothing is handed over that a crash could take back. Within one start each record is handed over once. After a crash, or a
//! restart after a failure, the records of the last committed epochs are handed over again, since nobody knows how far they
//! had come; each has the [same place](Handed::place) then, so that whoever must not see it twice can tell. Several steps of a job may
//! share a channel: the step is part of the place.
//!
//! A record is handed over when it is in the channel. A process that is killed takes with it what its receiver has not come to,
//! at most the channel's capacity, and of that nothing comes again whose epoch was committed before the last. Where this matters
//! keep the channel small, or use a sink that writes outside of the process.
//!
//! # Waiting
//! The channel holds so many records; a receiver that is slower than the job slows the job down, through its commits, and
//! nothing queues without bound. While the job runs it waits for its receiver as long as it takes. When the job's writers are
//! gone, since its input has ended, it is told to stop or it has failed, it waits only as long as the receiver takes at least one
//! record in [`patience`](ChannelSink::patience); then it ends with an error, and the next start hands over what is left.
//! So a thread must receive *while* the job runs: a program that first runs the job and then looks into the channel sees the
//! error, unless all of it fits.
//!
//! An epoch's records are held in memory and go through the state folder, in bincode: it is meant for moderate output, like
//! alerts and results, and for types without `#[serde(flatten)]`, `untagged` and `skip_serializing_if`.

mod committer;
mod handle;
mod receiver;
mod start;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shardflow::sink::{Committer, Prepared, Sink, SinkContext, SinkWriter};
use shardflow::{Epoch, Error, Result};
use tokio::sync::mpsc::Sender;
use tokio::sync::{Semaphore, mpsc};

use committer::HandsOver;
use handle::Collected;
use start::{Starts, Writing};

pub use receiver::{Handed, Receiver};

/// A sink and the receiver of what goes into it. It holds `capacity` records, at least 1.
///
/// # Examples
/// ```
/// use shardflow::testing::Feed;
/// use shardflow::{Job, lines};
/// use shardflow_sinks::channel;
///
/// let feed = Feed::new();
/// feed.push("split-0", "a");
/// feed.push("split-0", "b");
/// feed.close();
/// let (sink, mut receiver) = channel(100);
/// let ours = std::thread::spawn(move || receiver.records().collect::<Vec<String>>());
/// let state = tempfile::tempdir()?;
/// Job::named("letters").workers(1).state(state.path()).run(move |flow| {
///     let (letters, rejected) = flow.source("letters", feed.clone()).decode(lines());
///     rejected.sink("rejected", shardflow::testing::Collected::new());
///     letters.sink("seen", sink.clone());
/// })?;
/// assert_eq!(ours.join().expect("it does not panic"), ["a", "b"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn channel<T>(capacity: usize) -> (ChannelSink<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity.clamp(1, Semaphore::MAX_PERMITS));
    let settings = Settings { drops_unreceived: false, patience: Duration::from_secs(10) };
    (ChannelSink { sender, settings, starts: Arc::default() }, Receiver::new(receiver))
}

/// The job's side of a channel. Made by [`channel()`].
pub struct ChannelSink<T> {
    sender: Sender<Handed<T>>,
    settings: Settings,
    starts: Arc<Starts>,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    /// Whether the job goes on without its receiver.
    drops_unreceived: bool,
    patience: Duration,
}

impl<T> ChannelSink<T> {
    /// Goes on when the receiver is dropped, and drops what it would have got; that is said in the log, once, and how much it
    /// was at the end. By default the job stops.
    #[must_use]
    pub fn drop_unreceived(mut self) -> Self {
        self.settings.drops_unreceived = true;
        self
    }

    /// How long a job that ends waits for a receiver that takes nothing; 10 s by default.
    #[must_use]
    pub fn patience(mut self, time: Duration) -> Self {
        self.settings.patience = time;
        self
    }
}

impl<T> Clone for ChannelSink<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), settings: self.settings, starts: Arc::clone(&self.starts) }
    }
}

impl<T> fmt::Debug for ChannelSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelSink")
            .field("capacity", &self.sender.max_capacity())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The receiver is gone, and no restart brings it back.
fn gone(step: &str) -> Error {
    Error::config("could not hand over a record: the channel's receiver is dropped (see drop_unreceived)").in_step(step)
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Sink<T> for ChannelSink<T> {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        if self.sender.is_closed() && !self.settings.drops_unreceived {
            return Err(gone(context.step.as_str()));
        }
        let life = self.starts.begin(&context.step, context.workers);
        let runtime = context.runtime.clone();
        Ok(Box::new(HandsOver::new(context.step.clone(), self.sender.clone(), self.settings, runtime, life)))
    }

    fn writer(&self, context: &SinkContext, _worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Collector {
            step: context.step.as_str().to_owned(),
            receiver: (!self.settings.drops_unreceived).then(|| self.sender.downgrade()),
            collected: Collected::default(),
            _writing: self.starts.writing(&context.step),
            of: PhantomData,
        }))
    }

    fn describe(&self) -> String {
        format!("a channel that holds {} records", self.sender.max_capacity())
    }
}

/// Collects a worker's records of the open epoch.
struct Collector<T> {
    step: String,
    /// To see that the receiver is gone, where that matters.
    receiver: Option<mpsc::WeakSender<Handed<T>>>,
    collected: Collected,
    /// Tells the committer when this writer is gone.
    _writing: Option<Writing>,
    of: PhantomData<fn(T)>,
}

impl<T: Serialize + Send + 'static> SinkWriter<T> for Collector<T> {
    fn stage(&mut self, record: &T) -> Result<()> {
        // The commit would say so too; this is sooner.
        let receiver = self.receiver.as_ref().and_then(mpsc::WeakSender::upgrade);
        if receiver.is_some_and(|sender| sender.is_closed()) {
            return Err(gone(&self.step));
        }
        self.collected.push(record).map_err(|error| error.in_step(&self.step))
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Prepared>> {
        Ok(self.collected.seal().map(Prepared::Staged))
    }

    fn in_flight(&self) -> u64 {
        self.collected.bytes()
    }
}
