//! The sink operator: stages records of the open epoch, and hands over a handle when it closes.
//!
//! *Enters*: results. *Leaves*: nothing; handles, to the commit. *Survives a crash*: what was staged in committed epochs.

use std::sync::Arc;

use super::context::JobContext;
use super::control::Control;
use super::stateful::{EpochLogic, Intake, Made, stateful};
use super::{Flowing, SplitMessage};
use crate::error::Result;
use crate::metrics::SinkMetrics;
use crate::sink::SinkWriter;
use crate::vocabulary::{Epoch, Event, EventTime, StepName};

/// Hands the records of one container to a writer.
pub(crate) type Unpack<D, T> = fn(Vec<D>, &mut dyn SinkWriter<T>) -> Result<()>;

/// Stages the values of a timed stream.
pub(crate) fn by_value<T: 'static>(events: Vec<Event<T>>, writer: &mut dyn SinkWriter<T>) -> Result<()> {
    events.iter().try_for_each(|event| writer.stage(&event.value))
}

/// Stages the records of a stream that has no event time yet.
pub(crate) fn by_split<T: 'static>(
    messages: Vec<SplitMessage<Vec<Event<T>>>>,
    writer: &mut dyn SinkWriter<T>,
) -> Result<()> {
    for message in messages {
        if let SplitMessage::Records { batch, .. } = message {
            by_value(batch, writer)?;
        }
    }
    Ok(())
}

/// Stages what a decoder rejected.
pub(crate) fn from_rejects<T: 'static>(
    messages: Vec<SplitMessage<Vec<T>>>,
    writer: &mut dyn SinkWriter<T>,
) -> Result<()> {
    for message in messages {
        if let SplitMessage::Records { batch, .. } = message {
            batch.iter().try_for_each(|record| writer.stage(record))?;
        }
    }
    Ok(())
}

/// Builds the sink operator. Gives its control parts. A plan has no writer.
pub(crate) fn sink<'scope, D: 'static, T: 'static>(
    context: &Arc<JobContext>,
    worker: usize,
    stream: Flowing<'scope, D>,
    step: &StepName,
    writer: Option<Box<dyn SinkWriter<T>>>,
    unpack: Unpack<D, T>,
) -> Flowing<'scope, Control> {
    let metrics = SinkMetrics::register(step, worker);
    let logic = SinkLogic { step: step.clone(), worker: worker as u32, writer, open: None, unpack, metrics };
    stateful(context, step, stream, Intake::in_place(), logic).2
}

struct SinkLogic<D, T: 'static> {
    step: StepName,
    worker: u32,
    writer: Option<Box<dyn SinkWriter<T>>>,
    /// The epoch that the writer was last told of.
    open: Option<Epoch>,
    unpack: Unpack<D, T>,
    metrics: SinkMetrics,
}

impl<D: 'static, T: 'static> EpochLogic for SinkLogic<D, T> {
    type In = D;
    type Out = ();
    type Side = ();

    fn begin(&mut self, epoch: Epoch) {
        if self.open.replace(epoch) != Some(epoch)
            && let Some(writer) = &mut self.writer
        {
            writer.begin(epoch);
        }
    }

    fn batch(&mut self, records: Vec<D>, _made: &mut Made<(), ()>) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        (self.unpack)(records, writer.as_mut())?;
        self.metrics.in_flight_bytes.set(writer.in_flight() as f64);
        Ok(())
    }

    fn left(&self, taken: usize, _made: &Made<(), ()>) -> usize {
        // What is staged has left the stream.
        taken
    }

    fn advance(&mut self, _watermark: Option<EventTime>, _fired: &mut Vec<(EventTime, Vec<()>)>) -> Result<()> {
        Ok(())
    }

    fn close(&mut self, epoch: Epoch, parts: &mut Vec<Control>) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if let Some(prepared) = writer.prepare(epoch)? {
            parts.push(Control::Staged { step: self.step.clone(), worker: self.worker, prepared });
        }
        self.metrics.in_flight_bytes.set(writer.in_flight() as f64);
        Ok(())
    }

    fn hold(&self, _watermark: EventTime) -> Option<EventTime> {
        None
    }
}
