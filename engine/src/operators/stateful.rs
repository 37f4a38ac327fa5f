//! The frame of every stateful operator: epochs in order, what is early waits, changes are handed over at each close.
//!
//! *Enters*: records of any open epoch. *Leaves*: results, side results (late records), and one control part an epoch.
//! *Survives a crash*: what the logic hands over when an epoch closes.

use std::collections::BTreeMap;
use std::iter::Once;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{ParallelizationContract, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::Antichain;
use timely::progress::frontier::MutableAntichain;

use super::context::JobContext;
use super::control::Control;
use super::guard::guarded;
use super::{Flowing, Port, Time};
use crate::error::Result;
use crate::metrics::{StashMetrics, StepMetrics};
use crate::vocabulary::{Epoch, EventTime, StepName};

/// What a stateful operator does, free of timely.
pub(super) trait EpochLogic: 'static {
    /// A record as it comes in.
    type In: 'static;
    /// A result.
    type Out: 'static;
    /// A side result.
    type Side: 'static;

    /// Records of `epoch` follow.
    fn begin(&mut self, _epoch: Epoch) {}

    /// Takes records of the open epoch.
    fn batch(&mut self, records: Vec<Self::In>, made: &mut Made<Self::Out, Self::Side>) -> Result<()>;

    /// How many of a batch of `taken` records count as having left.
    fn left(&self, _taken: usize, made: &Made<Self::Out, Self::Side>) -> usize {
        made.out.len()
    }

    /// Takes in how far event time has come; `None`: the input has ended. Results are stamped with their event time.
    fn advance(&mut self, watermark: Option<EventTime>, fired: &mut Vec<(EventTime, Vec<Self::Out>)>) -> Result<()>;

    /// Ends the open epoch: hands over what changed in it.
    fn close(&mut self, epoch: Epoch, parts: &mut Vec<Control>) -> Result<()>;

    /// The least event time at which `advance` may yet make a result, when time has come to `watermark`.
    /// `None`: it never makes any.
    fn hold(&self, watermark: EventTime) -> Option<EventTime>;
}

/// What a batch of records makes.
pub(super) struct Made<O, S> {
    pub(super) out: Vec<O>,
    pub(super) side: Vec<S>,
}

/// Results, side results and control parts.
pub(crate) type Outputs<'scope, O, S> = (Flowing<'scope, O>, Flowing<'scope, S>, Flowing<'scope, Control>);

/// How records come into a stateful operator.
pub(super) struct Intake<P, U> {
    pub(super) pact: P,
    /// Takes a container apart into batches of records.
    pub(super) unpack: U,
    /// Whether the records are in the in-flight account until they are processed.
    pub(super) in_flight: bool,
}

impl<R> Intake<Pipeline, fn(Vec<R>) -> Once<Vec<R>>> {
    /// Records of the same worker, in containers as they are.
    pub(super) fn in_place() -> Self {
        Self { pact: Pipeline, unpack: std::iter::once, in_flight: false }
    }
}

/// Builds a stateful operator.
pub(super) fn stateful<'scope, C, L, P, U, B>(
    context: &Arc<JobContext>,
    step: &StepName,
    stream: Flowing<'scope, C>,
    intake: Intake<P, U>,
    logic: L,
) -> Outputs<'scope, L::Out, L::Side>
where
    C: 'static,
    L: EpochLogic,
    P: ParallelizationContract<Time, Vec<C>>,
    U: Fn(Vec<C>) -> B + 'static,
    B: IntoIterator<Item = Vec<L::In>>,
{
    let Intake { pact, unpack, in_flight } = intake;
    let worker = stream.scope().index();
    let mut builder = OperatorBuilder::new(step.to_string(), stream.scope());
    let mut input = builder.new_input(stream, pact);
    let (out, results) = builder.new_output();
    let (side, sides) = builder.new_output();
    // Not connected: the control output moves by epochs alone, by the capability that is held for it.
    let (control, parts) = builder.new_output_connection([(0, Antichain::new())]);
    let context = Arc::clone(context);
    let step = step.clone();
    builder.build(move |capabilities| {
        let mut operator =
            StatefulOperator::new(&context, &step, worker, logic, capabilities, (out, side, control), in_flight);
        move |frontiers| {
            guarded(&context, step.as_str(), || {
                let mut outcome = Ok(());
                input.for_each(|capability, data| {
                    if outcome.is_ok() {
                        let mut batches = unpack(std::mem::take(data)).into_iter();
                        outcome = batches.try_for_each(|records| operator.take(&capability, records));
                    }
                });
                outcome?;
                frontiers.first().map_or(Ok(()), |frontier| operator.settle(frontier))
            });
        }
    });
    (results, sides, parts)
}

type Building<T> = OutputBuilder<Time, CapacityContainerBuilder<Vec<T>>>;

/// A batch that came before its epoch was open, with the right to send its results.
struct Early<I> {
    out: Capability<Time>,
    side: Capability<Time>,
    records: Vec<I>,
}

struct StatefulOperator<L: EpochLogic> {
    context: Arc<JobContext>,
    logic: L,
    out: Building<L::Out>,
    side: Building<L::Side>,
    control: Building<Control>,
    /// For results that time alone brings forth. `None` where there can be none any more.
    hold: Option<Capability<Time>>,
    /// At the open epoch. `None` once the input has ended.
    handing: Option<Capability<Time>>,
    open: u64,
    early: BTreeMap<u64, Vec<Early<L::In>>>,
    watermark: EventTime,
    in_flight: bool,
    metrics: StepMetrics,
    stash: StashMetrics,
}

impl<L: EpochLogic> StatefulOperator<L> {
    fn new(
        context: &Arc<JobContext>,
        step: &StepName,
        worker: usize,
        logic: L,
        capabilities: Vec<Capability<Time>>,
        (out, side, control): (Port<L::Out>, Port<L::Side>, Port<Control>),
        in_flight: bool,
    ) -> Self {
        let mut capabilities = capabilities.into_iter();
        let hold = capabilities.next().filter(|_| logic.hold(EventTime::MIN).is_some());
        let handing = capabilities.nth(1);
        let stash = StashMetrics::register(step, worker);
        // A start before this one in the same process may have ended with a full stash.
        stash.records.set(0.0);
        let mut operator = Self {
            context: Arc::clone(context),
            logic,
            out: OutputBuilder::from(out),
            side: OutputBuilder::from(side),
            control: OutputBuilder::from(control),
            hold,
            handing,
            open: context.first_epoch.number(),
            early: BTreeMap::new(),
            watermark: EventTime::MIN,
            in_flight,
            metrics: StepMetrics::register(step),
            stash,
        };
        operator.downgrade();
        operator
    }

    /// Takes a batch: at once if its epoch is open, else later.
    fn take(&mut self, capability: &InputCapability<Time>, records: Vec<L::In>) -> Result<()> {
        let time = capability.stamp().expect_singleton();
        if time.outer > self.open {
            let (out, side) = (capability.delayed(time, 0), capability.delayed(time, 1));
            self.stash.records.increment(records.len() as f64);
            self.early.entry(time.outer).or_default().push(Early { out, side, records });
            return Ok(());
        }
        let mut made = self.process(records)?;
        self.out.activate().session(capability).give_container(&mut made.out);
        self.side.activate().session(capability).give_container(&mut made.side);
        Ok(())
    }

    fn process(&mut self, records: Vec<L::In>) -> Result<Made<L::Out, L::Side>> {
        let count = records.len();
        let mut made = Made { out: Vec::new(), side: Vec::new() };
        self.logic.begin(Epoch::new(self.open));
        self.logic.batch(records, &mut made)?;
        if self.in_flight {
            self.context.flight.arrived::<L::In>(count);
        }
        self.metrics.batch(count, self.logic.left(count, &made));
        Ok(made)
    }

    /// Closes every epoch that the frontier has passed, in order, and moves time on.
    fn settle(&mut self, frontier: &MutableAntichain<Time>) -> Result<()> {
        loop {
            self.advance(frontier)?;
            let arriving = frontier.frontier().iter().map(|time| time.outer).min();
            if arriving.is_some_and(|epoch| epoch <= self.open) || self.handing.is_none() {
                self.downgrade();
                return Ok(());
            }
            self.close()?;
            let waiting = self.early.keys().next().copied();
            let Some(next) = arriving.into_iter().chain(waiting).min() else {
                self.hold = None;
                self.handing = None;
                return Ok(());
            };
            self.open = next;
            self.downgrade();
            self.open_epoch()?;
        }
    }

    /// Event time has come to the least time of anything that may still arrive, in whatever epoch, and of anything that
    /// waits here: forgetting the latter would fire windows twice.
    fn advance(&mut self, frontier: &MutableAntichain<Time>) -> Result<()> {
        let arriving = frontier.frontier().iter().map(|time| time.inner).min();
        let waiting = self.early.values().flatten().map(|early| early.out.time().inner).min();
        let least = arriving.into_iter().chain(waiting).min().map(EventTime::from_millis);
        if least.is_some_and(|least| least <= self.watermark) || self.handing.is_none() {
            return Ok(());
        }
        let mut fired = Vec::new();
        self.logic.advance(least, &mut fired)?;
        self.send_fired(fired);
        self.watermark = least.unwrap_or(self.watermark);
        Ok(())
    }

    fn send_fired(&mut self, fired: Vec<(EventTime, Vec<L::Out>)>) {
        let Some(hold) = &self.hold else { return };
        for (at, mut results) in fired {
            self.metrics.batch(0, results.len());
            let capability = hold.delayed(&Time::new(self.open, at.as_millis().max(hold.time().inner)));
            self.out.activate().session(&capability).give_container(&mut results);
        }
    }

    fn close(&mut self) -> Result<()> {
        let mut parts = Vec::new();
        self.logic.close(Epoch::new(self.open), &mut parts)?;
        if let Some(handing) = &self.handing {
            self.control.activate().session(handing).give_container(&mut parts);
        }
        Ok(())
    }

    fn open_epoch(&mut self) -> Result<()> {
        for early in self.early.remove(&self.open).unwrap_or_default() {
            self.stash.records.decrement(early.records.len() as f64);
            let mut made = self.process(early.records)?;
            self.out.activate().session(&early.out).give_container(&mut made.out);
            self.side.activate().session(&early.side).give_container(&mut made.side);
        }
        Ok(())
    }

    /// Lets go of what is over: earlier epochs, and event times at which nothing more can come.
    fn downgrade(&mut self) {
        let least = self.logic.hold(self.watermark);
        if let Some(hold) = &mut self.hold {
            let at = least.map_or(hold.time().inner, |least| least.as_millis().max(hold.time().inner));
            hold.downgrade(&Time::new(self.open, at));
        }
        if let Some(handing) = &mut self.handing {
            handing.downgrade(&Time::new(self.open, 0));
        }
    }
}
