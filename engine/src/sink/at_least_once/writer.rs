//! One worker's side: records into batches, batches onto their way, and an epoch that waits for all of them.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::batching::Batch;
use super::breaker::Breaker;
use super::delivery::Delivery;
use super::lanes::Lanes;
use super::lingering::Waiting;
use super::outstanding::Outstanding;
use super::rejected::RejectedWriter;
use super::{BatchWriter, Settings, Trouble};
use crate::error::{Error, Outcome, Result};
use crate::metrics::DeliveryMetrics;
use crate::retry::{Clock, WallClock};
use crate::sink::{Prepared, SinkContext, SinkWriter, Version};
use crate::vocabulary::{Epoch, Incarnation, StepName};

/// Batches on their way. They end with the last that needs them, the writer or an epoch that waits: the writer of a job that ends
/// well is dropped before its last epoch is flushed, and a job that has failed must not go on writing.
type Tasks = Arc<Mutex<JoinSet<()>>>;

/// Brings batches on their way.
pub(super) struct Delivering<T, W: BatchWriter<T>, C = WallClock> {
    step: StepName,
    runtime: Handle,
    delivery: Arc<Delivery<W, C>>,
    lanes: Arc<Lanes>,
    tasks: Tasks,
    waiting: Arc<Waiting<W::Entry>>,
    linger: Option<Duration>,
    outstanding: Arc<Outstanding>,
    of: PhantomData<fn(T)>,
}

impl<T, W: BatchWriter<T>, C: Clock> Delivering<T, W, C> {
    pub(super) fn new(context: &SinkContext, worker: usize, to: W, settings: Settings, clock: C) -> Self {
        let most = to.limits().at_most(settings.most);
        let delivery = Delivery {
            to,
            clock,
            give_up_after: settings.give_up_after,
            attempted: format!("write to step \"{}\"", context.step),
            metrics: DeliveryMetrics::register(&context.step, worker),
            breaker: Mutex::new(Breaker::default()),
            admitting: Notify::new(),
        };
        Self {
            step: context.step.clone(),
            runtime: context.runtime.clone(),
            delivery: Arc::new(delivery),
            lanes: Lanes::new(settings.concurrency),
            tasks: Tasks::default(),
            waiting: Waiting::new(most),
            linger: settings.linger,
            outstanding: Arc::default(),
            of: PhantomData,
        }
    }

    /// Brings a batch on its way, once there is a lane for it.
    fn send(&self, batch: Batch<W::Entry>) {
        let lane = self.lanes.take();
        let underway = self.outstanding.batch();
        let delivery = Arc::clone(&self.delivery);
        let deliver = async move {
            delivery.deliver(batch, underway).await;
            drop(lane);
        };
        self.spawn(deliver);
    }

    /// Sees to it that what waits does not wait too long. After [`send`](Self::send), so that no later batch goes before an earlier.
    fn see_to_what_waits(&self) {
        let Some(time) = self.linger else { return };
        self.waiting.time(|number| {
            let (waiting, lanes) = (Arc::clone(&self.waiting), Arc::clone(&self.lanes));
            let (delivery, outstanding) = (Arc::clone(&self.delivery), Arc::clone(&self.outstanding));
            self.spawn(async move {
                delivery.clock.sleep(time).await;
                // It goes on to grow until there is a lane.
                let lane = lanes.taken().await;
                if let Some((batch, underway)) = waiting.cut_lingering(number, &outstanding) {
                    delivery.deliver(batch, underway).await;
                }
                drop(lane);
            })
        });
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime)
    }
}

/// Tells of what could not be written.
fn could_not(step: &StepName, trouble: Trouble) -> Error {
    let outcome = trouble.outcome;
    let error = Error::sink("could not write a batch").caused_by(trouble).in_step(step.as_str());
    if outcome == Outcome::Indeterminate { error.indeterminate() } else { error }
}

/// One worker's writer.
pub(super) struct Writer<T, W: BatchWriter<T>, C = WallClock> {
    delivering: Delivering<T, W, C>,
    rejected: RejectedWriter,
    incarnation: Incarnation,
    /// The open epoch.
    epoch: Epoch,
    /// Records taken in this start.
    taken: u64,
    in_flight: u64,
}

impl<T, W: BatchWriter<T>, C> Writer<T, W, C> {
    pub(super) fn new(delivering: Delivering<T, W, C>, rejected: RejectedWriter, incarnation: Incarnation) -> Self {
        Self { delivering, rejected, incarnation, epoch: Epoch::default(), taken: 0, in_flight: 0 }
    }
}

impl<T: 'static, W: BatchWriter<T>, C: Clock> SinkWriter<T> for Writer<T, W, C> {
    fn begin(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    fn stage(&mut self, record: &T) -> Result<()> {
        let Delivering { delivery, waiting, outstanding, .. } = &self.delivering;
        let version = Version::new(self.incarnation, self.epoch, self.taken);
        self.taken = self.taken.saturating_add(1);
        let entry = match delivery.to.entry(record, version) {
            Ok(entry) => entry,
            Err(refused) => {
                delivery.metrics.refused.increment(1);
                outstanding.refuse([refused]);
                return Ok(());
            }
        };
        let bytes = delivery.to.bytes(&entry);
        self.in_flight = self.in_flight.saturating_add(bytes as u64);
        if let Some(full) = waiting.push(entry, bytes) {
            // The epoch it belongs to will say so too; this is sooner.
            if let Some(failure) = outstanding.failure() {
                return Err(could_not(&self.delivering.step, failure));
            }
            self.delivering.send(full);
        }
        self.delivering.see_to_what_waits();
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Option<Prepared>> {
        if let Some(rest) = self.delivering.waiting.cut() {
            self.delivering.send(rest);
        }
        self.in_flight = 0;
        let outstanding = std::mem::take(&mut self.delivering.outstanding);
        let (step, rejected) = (self.delivering.step.clone(), self.rejected.clone());
        let tasks = Arc::clone(&self.delivering.tasks);
        let flush = move || {
            let refused = outstanding.wait().map_err(|trouble| could_not(&step, trouble))?;
            drop(tasks);
            rejected.settle(&refused, epoch)
        };
        Ok(Some(Prepared::Flush(Box::new(flush))))
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
