//! What the sinks of services that can take nothing back have in common for their users: how many calls at a time, how long to
//! try, how long records wait for one another, where refused records go. The work is the engine's [`at_least_once`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shardflow::Result;
use shardflow::sink::{AtLeastOnce, Committer, Refused, Sink, SinkContext, SinkWriter, at_least_once};

/// What is set of it.
#[derive(Clone, Default)]
pub(crate) struct Delivery {
    pub(crate) concurrency: Option<usize>,
    pub(crate) give_up_after: Option<Duration>,
    pub(crate) linger: Option<Duration>,
    pub(crate) refused: Option<Arc<dyn Sink<Refused>>>,
}

impl Delivery {
    /// A destination with these settings.
    pub(crate) fn of<D>(&self, destination: D) -> AtLeastOnce<D> {
        let mut sink = at_least_once(destination);
        if let Some(batches) = self.concurrency {
            sink = sink.concurrency(batches);
        }
        if let Some(time) = self.give_up_after {
            sink = sink.give_up_after(time);
        }
        if let Some(time) = self.linger {
            sink = sink.linger(time);
        }
        match &self.refused {
            Some(refused) => sink.rejected_to(Shared(Arc::clone(refused))),
            None => sink,
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("concurrency", &self.concurrency)
            .field("give_up_after", &self.give_up_after)
            .field("linger", &self.linger)
            .field("has_rejected_output", &self.refused.is_some())
            .finish()
    }
}

/// A sink that is one of several owners' of the same.
struct Shared(Arc<dyn Sink<Refused>>);

impl Sink<Refused> for Shared {
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer>> {
        self.0.committer(context)
    }

    fn writer(&self, context: &SinkContext, worker: usize) -> Result<Box<dyn SinkWriter<Refused>>> {
        self.0.writer(context, worker)
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

/// The settings, for the `impl` of a sink that has a field `delivery`.
macro_rules! delivery_settings {
    () => {
        /// How many calls each worker has on their way at a time, at least 1; 4 by default. With more than 1 they may arrive
        /// in another order than they were made in.
        #[must_use]
        pub fn concurrency(mut self, calls: usize) -> Self {
            self.delivery.concurrency = Some(calls);
            self
        }

        /// After how long of nothing but failures other than throttling the job fails; 5 min by default.
        #[must_use]
        pub fn give_up_after(mut self, time: Duration) -> Self {
            self.delivery.give_up_after = Some(time);
            self
        }

        /// How long a record waits for others to share its call; by default until the call is full or the epoch ends. Of use
        /// where epochs are long and records are to be seen sooner.
        #[must_use]
        pub fn linger(mut self, time: Duration) -> Self {
            self.delivery.linger = Some(time);
            self
        }

        /// Where records go that are refused for good, each with the reason. Without it such a record stops the job. It is
        /// opened under the name of this sink with `.refused` behind it.
        #[must_use]
        pub fn rejected_to(mut self, sink: impl Sink<Refused>) -> Self {
            self.delivery.refused = Some(Arc::new(sink));
            self
        }
    };
}

pub(crate) use delivery_settings;
