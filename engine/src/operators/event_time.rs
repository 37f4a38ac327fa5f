//! The event-time operator: gives each record its event time and its split's watermark, and moves time on.
//!
//! *Enters*: decoded records by split, at `(epoch, 0)`. *Leaves*: records at `(epoch, how far time has come)`. The output
//! is not connected to the input: time before the watermark is over although the input never leaves event time 0.
//! *Survives a crash*: each split's watermark, stored with every epoch that moved it.

use std::collections::HashMap;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::context::JobContext;
use super::control::Control;
use super::guard::guarded;
use super::hub::SourceHub;
use super::source::{SPLITS, SPLITS_GROUP};
use super::{Flowing, Port, SplitEvents, SplitMessage, Time};
use crate::error::Result;
use crate::event_time::{Fruitless, Lag, SplitClock};
use crate::metrics::SplitTimeMetrics;
use crate::source::SplitRecord;
use crate::state::changelog::ChangelogWriter;
use crate::vocabulary::{Epoch, Event, EventTime, SplitId, StepName};

/// Reads a record's event time.
pub(crate) type Extract<T> = Box<dyn Fn(&T) -> EventTime + Send + Sync>;

/// The step under which a source's watermarks are stored.
pub(crate) fn event_time_step(source: &StepName) -> StepName {
    StepName::new(format!("{source}::event-time"))
}

/// Builds the operator behind the source `step`.
pub(crate) fn event_time<'scope, T: 'static>(
    context: &Arc<JobContext>,
    step: &StepName,
    hub: Option<Arc<SourceHub>>,
    stream: SplitEvents<'scope, T>,
    extract: Extract<T>,
    lag: Lag,
) -> (Flowing<'scope, Event<T>>, Flowing<'scope, Control>) {
    let scope = stream.scope();
    let mut builder = OperatorBuilder::new(format!("event time {step}"), scope);
    let mut input = builder.new_input(stream, Pipeline);
    let (data, records) = builder.new_output_connection([]);
    let (control, changes) = builder.new_output_connection([]);
    let address = builder.operator_info().address.to_vec();
    if let Some(hub) = &hub {
        hub.set_timed(lag.idle_limit(), scope.worker().sync_activator_for(address));
    }
    let worker = scope.index() as u32;
    let context = Arc::clone(context);
    let source = step.clone();
    builder.build(move |mut capabilities| {
        let control_capability = capabilities.pop();
        let data_capability = capabilities.pop();
        let mut operator = hub.zip(data_capability.zip(control_capability)).map(|(hub, held)| {
            EventTimeOperator::new(&context, &source, worker, hub, held, (data, control), extract, lag)
        });
        let name = format!("event_time after {source}");
        move |frontiers| {
            let Some(operator) = &mut operator else { return };
            guarded(&context, &name, || {
                let mut outcome = Ok(());
                input.for_each(|capability, data| {
                    let epoch = capability.stamp().expect_singleton().outer;
                    if outcome.is_ok() {
                        outcome = operator.take(Epoch::new(epoch), std::mem::take(data));
                    }
                });
                outcome?;
                let open = frontiers.first().and_then(|input| input.frontier().iter().map(|time| time.outer).min());
                operator.settle(open.map(Epoch::new))
            });
        }
    });
    (records, changes)
}

struct Clocked {
    clock: SplitClock,
    metrics: SplitTimeMetrics,
    idle: bool,
    /// Whether the watermark moved in the open epoch: it is to be stored.
    changed: bool,
    /// Whether the watermark moved since the board was told.
    unpublished: bool,
}

struct EventTimeOperator<T: 'static> {
    context: Arc<JobContext>,
    source: StepName,
    step: StepName,
    worker: u32,
    hub: Arc<SourceHub>,
    extract: Extract<T>,
    lag: Lag,
    /// `None` once the source has ended.
    held: Option<(Capability<Time>, Capability<Time>)>,
    data: OutputBuilder<Time, CapacityContainerBuilder<Vec<Event<T>>>>,
    control: OutputBuilder<Time, CapacityContainerBuilder<Vec<Control>>>,
    clocks: HashMap<Arc<SplitId>, Clocked>,
    /// Splits that are read to their end without anything coming of it.
    fruitless: HashMap<Arc<SplitId>, Fruitless>,
    /// The epoch of the last message.
    epoch: Epoch,
    reached: EventTime,
    changes: ChangelogWriter,
}

impl<T: 'static> EventTimeOperator<T> {
    #[expect(clippy::too_many_arguments, reason = "one call, and each argument is a thing of its own")]
    fn new(
        context: &Arc<JobContext>,
        source: &StepName,
        worker: u32,
        hub: Arc<SourceHub>,
        held: (Capability<Time>, Capability<Time>),
        (data, control): (Port<Event<T>>, Port<Control>),
        extract: Extract<T>,
        lag: Lag,
    ) -> Self {
        let mut operator = Self {
            context: Arc::clone(context),
            source: source.clone(),
            step: event_time_step(source),
            worker,
            hub,
            extract,
            lag,
            held: Some(held),
            data: OutputBuilder::from(data),
            control: OutputBuilder::from(control),
            clocks: HashMap::new(),
            fruitless: HashMap::new(),
            epoch: context.first_epoch,
            reached: EventTime::MIN,
            changes: ChangelogWriter::default(),
        };
        operator.downgrade(context.first_epoch);
        operator
    }

    /// Takes messages of `epoch`. This worker's source sends its epochs in order, so the first message of a later one
    /// ends what is stored with the earlier.
    fn take(&mut self, epoch: Epoch, messages: Vec<SplitMessage<Vec<Event<T>>>>) -> Result<()> {
        if epoch > self.epoch {
            self.hand_over()?;
            self.epoch = epoch;
        }
        for message in messages {
            match message {
                SplitMessage::Records { split, at_end, batch } if batch.is_empty() => self.pass_over(split, at_end),
                SplitMessage::Records { split, batch, .. } => self.stamp(&split, batch),
                SplitMessage::Idle { split } => self.set_idle(&split),
                SplitMessage::Ended { split } => self.end(&split, epoch)?,
                SplitMessage::Released { split, record } => self.release(&split, record, epoch)?,
                SplitMessage::Forgotten { split } => {
                    self.changes.delete(SPLITS_GROUP, SPLITS, split.as_str().as_bytes());
                }
            }
        }
        Ok(())
    }

    fn set_idle(&mut self, split: &SplitId) {
        if let Some(clocked) = self.clocks.get_mut(split) {
            clocked.idle = true;
        }
        self.hub.board().idle(split);
    }

    /// Takes in that a split was read and nothing of it has come so far: all was rejected or filtered out. A split that is
    /// read to its end again and again without anything coming of it is as idle as one of which nothing is read, or time
    /// would wait for it without end.
    fn pass_over(&mut self, split: Arc<SplitId>, at_end: bool) {
        let Some(limit) = self.lag.idle_limit() else { return };
        if !at_end {
            // What it is waited for may lie in what is still to be read.
            self.fruitless.remove(&split);
            return;
        }
        let fruitless = self.fruitless.entry(Arc::clone(&split)).or_default();
        if fruitless.becomes_idle(self.context.now(), limit) {
            self.set_idle(&split);
        }
    }

    fn stamp(&mut self, split: &Arc<SplitId>, mut events: Vec<Event<T>>) {
        self.fruitless.remove(split);
        let clocked = match self.clocks.get_mut(split) {
            Some(clocked) => clocked,
            None => {
                let clock = SplitClock::starting_at(EventTime::MIN, self.lag);
                let metrics = SplitTimeMetrics::register(&self.source, split);
                // Idle until its first record: `wake` below gives it the watermark it starts with.
                self.clocks.entry(Arc::clone(split)).or_insert(Clocked {
                    clock,
                    metrics,
                    idle: true,
                    changed: false,
                    unpublished: false,
                })
            }
        };
        let before = clocked.clock.watermark();
        if std::mem::take(&mut clocked.idle) {
            // Stored with the epoch as any other move: a replay judges the records that follow by the same watermark.
            clocked.clock.raise_to(self.hub.board().wake(split));
        }
        let (clock, extract) = (&mut clocked.clock, &self.extract);
        for event in &mut events {
            event.at = extract(&event.value);
            event.watermark = clock.observe(event.at);
        }
        let moved = clocked.clock.watermark() != before;
        clocked.changed |= moved;
        clocked.unpublished |= moved;
        if let Some((capability, _)) = &self.held {
            let capability = capability.delayed(&Time::new(self.epoch.number(), self.reached.as_millis()));
            self.data.activate().session(&capability).give_container(&mut events);
        }
    }

    fn end(&mut self, split: &Arc<SplitId>, epoch: Epoch) -> Result<()> {
        self.fruitless.remove(split);
        if let Some(clocked) = self.clocks.remove(split) {
            clocked.metrics.ended();
            store(&mut self.changes, split, clocked.clock.watermark())?;
            self.hub.board().advance(split, clocked.clock.watermark());
        } else if let Some(inherited) = self.hub.board().watermark(split).filter(|at| *at > EventTime::MIN) {
            // It ended without a record: its children begin where its parents had come.
            store(&mut self.changes, split, inherited)?;
        }
        self.hub.board().ended(split);
        self.hub.report_ended(split, epoch);
        Ok(())
    }

    /// Takes in that another worker reads the split from here on. It goes on holding time where it has come.
    fn release(&mut self, split: &Arc<SplitId>, record: SplitRecord, epoch: Epoch) -> Result<()> {
        self.fruitless.remove(split);
        if let Some(clocked) = self.clocks.remove(split) {
            if clocked.changed {
                store(&mut self.changes, split, clocked.clock.watermark())?;
            }
            self.hub.board().advance(split, clocked.clock.watermark());
        }
        self.hub.report_released(split, record, epoch);
        Ok(())
    }

    /// Moves time on as far as all splits allow. `open`: the least epoch that may still arrive; `None`: the source has
    /// ended.
    fn settle(&mut self, open: Option<Epoch>) -> Result<()> {
        let Some(open) = open else {
            self.hand_over()?;
            self.held = None;
            return Ok(());
        };
        let news = {
            let mut board = self.hub.board();
            for (split, clocked) in &mut self.clocks {
                if !std::mem::take(&mut clocked.unpublished) {
                    continue;
                }
                board.advance(split, clocked.clock.watermark());
            }
            self.reached = board.reached();
            board.take_news()
        };
        if news {
            self.hub.wake_event_time();
        }
        if open > self.epoch {
            self.hand_over()?;
            self.epoch = open;
        }
        self.downgrade(open);
        Ok(())
    }

    /// `open` is behind only at the beginning, before the source has left epoch 0 for the job's first.
    fn downgrade(&mut self, open: Epoch) {
        if let Some((data, control)) = &mut self.held {
            let epoch = open.number().max(data.time().outer);
            data.downgrade(&Time::new(epoch, self.reached.as_millis()));
            control.downgrade(&Time::new(epoch, 0));
        }
    }

    /// Hands over the watermarks that moved in the epoch that ends.
    fn hand_over(&mut self) -> Result<()> {
        let now = self.context.wall_clock();
        for (split, clocked) in &mut self.clocks {
            // Of every split: the lag of one that stands still grows.
            clocked.metrics.watermark(clocked.clock.watermark(), now);
            if std::mem::take(&mut clocked.changed) {
                store(&mut self.changes, split, clocked.clock.watermark())?;
            }
        }
        let changelog = std::mem::take(&mut self.changes).finish();
        if let (Some(changelog), Some((_, capability))) = (changelog, &self.held) {
            let capability = capability.delayed(&Time::new(self.epoch.number(), 0));
            let part = Control::Changes { step: self.step.clone(), worker: self.worker, changelog };
            self.control.activate().session(&capability).give(part);
        }
        Ok(())
    }
}

fn store(changes: &mut ChangelogWriter, split: &SplitId, watermark: EventTime) -> Result<()> {
    changes.put_encoded(SPLITS_GROUP, SPLITS, split.as_str().as_bytes(), &watermark)
}
