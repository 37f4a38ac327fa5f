//! The source operator: reads this worker's splits into the current epoch.
//!
//! *Enters*: opened splits from the hub, beats from the epoch clock. *Leaves*: raw batches by split, and, when an epoch
//! ends, the positions that changed in it. *Survives a crash*: the positions; what was read after them is read again.

use std::sync::Arc;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::scheduling::{Activator, SyncActivator};

use super::context::JobContext;
use super::control::Control;
use super::guard::guarded;
use super::hub::{HubMessage, OpenedSplit, SourceHub};
use super::open_split::{OpenSplit, Polled};
use super::{Flowing, Port, SplitMessage, Time};
use crate::error::Result;
use crate::source::{Forgotten, RawBatch, SplitRecord};
use crate::state::changelog::{ChangelogWriter, Table};
use crate::vocabulary::{Epoch, KeyGroup, SplitId, StepName};

/// Where split records are stored: they belong to no key, so they all lie in the first key group.
pub(crate) const SPLITS: Table = Table(0);
pub(crate) const SPLITS_GROUP: KeyGroup = KeyGroup::new(0);

/// Where it is stored which input the positions are of, under an empty key.
pub(crate) const IDENTITY: Table = Table(1);

/// How much one activation reads before it lets the operators behind it run, in bytes. Large enough that an activation's
/// cost is nothing beside it, small enough that latency and memory stay small.
const ACTIVATION_BYTES: usize = 512 * 1024;

/// How soon to look again when too much is in flight.
const IN_FLIGHT_PAUSE: Duration = Duration::from_millis(1);

type DataOutput = OutputBuilder<Time, CapacityContainerBuilder<Vec<SplitMessage<RawBatch>>>>;
type ControlOutput = OutputBuilder<Time, CapacityContainerBuilder<Vec<Control>>>;

/// Builds the source operator of one worker. Gives its records and its control stream.
pub(crate) fn source<'scope>(
    scope: Scope<'scope, Time>,
    context: &Arc<JobContext>,
    step: &StepName,
    hub: Option<Arc<SourceHub>>,
) -> (Flowing<'scope, SplitMessage<RawBatch>>, Flowing<'scope, Control>) {
    let mut builder = OperatorBuilder::new(format!("source {step}"), scope);
    let (data, records) = builder.new_output();
    let (control, changes) = builder.new_output();
    let info = builder.operator_info();
    let worker = scope.index();
    let sync = scope.worker().sync_activator_for(info.address.to_vec());
    if let Some(hub) = &hub {
        hub.attach(worker, sync.clone());
        context.add_waker(sync.clone());
    }
    let activator = scope.activator_for(info.address);
    let context = Arc::clone(context);
    let step = step.clone();
    builder.build(move |mut capabilities| {
        let control_capability = capabilities.pop();
        let data_capability = capabilities.pop();
        // A plan has no hub: its operator is never run.
        let mut operator = hub.zip(data_capability.zip(control_capability)).map(|(hub, held)| {
            SourceOperator::new(
                Arc::clone(&context),
                step.clone(),
                hub,
                worker,
                held,
                (data, control),
                (activator, sync),
            )
        });
        move |_frontiers| {
            guarded(&context, step.as_str(), || operator.as_mut().map_or(Ok(()), SourceOperator::activate));
        }
    });
    (records, changes)
}

struct SourceOperator {
    context: Arc<JobContext>,
    step: StepName,
    hub: Arc<SourceHub>,
    worker: usize,
    /// Data and control capability, at the open epoch. `None` once the source has ended.
    held: Option<(Capability<Time>, Capability<Time>)>,
    data: DataOutput,
    control: ControlOutput,
    activator: Activator,
    sync: SyncActivator,
    epoch: Epoch,
    splits: Vec<OpenSplit>,
    /// The split to read first at the next activation, so that none starves.
    turn: usize,
    /// Which input it is, until that is stored: with the first epoch, so that no position is ever stored without it.
    identity: Option<String>,
    changes: ChangelogWriter,
    /// The same changes for who follows them, if anybody does.
    followed: Vec<(SplitId, Option<SplitRecord>)>,
    /// Splits to be removed from the snapshot.
    forgetting: Vec<Forgotten>,
    /// Splits that other workers are to go on with.
    releasing: Vec<SplitId>,
    no_more: bool,
}

impl SourceOperator {
    fn new(
        context: Arc<JobContext>,
        step: StepName,
        hub: Arc<SourceHub>,
        worker: usize,
        held: (Capability<Time>, Capability<Time>),
        (data, control): (Port<SplitMessage<RawBatch>>, Port<Control>),
        (activator, sync): (Activator, SyncActivator),
    ) -> Self {
        let epoch = context.first_epoch;
        let identity = hub.new_identity().filter(|_| worker == 0).map(str::to_owned);
        let mut operator = Self {
            context,
            step,
            hub,
            worker,
            held: Some(held),
            data: DataOutput::from(data),
            control: ControlOutput::from(control),
            activator,
            sync,
            epoch,
            splits: Vec::new(),
            turn: 0,
            identity,
            changes: ChangelogWriter::default(),
            followed: Vec::new(),
            forgetting: Vec::new(),
            releasing: Vec::new(),
            no_more: false,
        };
        operator.downgrade();
        operator
    }

    fn activate(&mut self) -> Result<()> {
        if self.held.is_none() {
            return Ok(());
        }
        let current = self.context.clock.current();
        if current > self.epoch {
            self.close_epoch()?;
            self.epoch = current;
            self.downgrade();
        }
        self.take_messages()?;
        self.forget();
        self.release();
        if self.context.may_emit() {
            self.read()?;
        } else if self.context.clock.may_emit() {
            self.activator.activate_after(IN_FLIGHT_PAUSE);
        }
        self.report_behind();
        self.report_idle();
        let ended = self.splits.iter().all(|split| split.reader.is_none());
        if self.no_more && ended && !self.context.clock.stopping() {
            self.close_epoch()?;
            self.held = None;
        }
        Ok(())
    }

    fn downgrade(&mut self) {
        if let Some((data, control)) = &mut self.held {
            let time = Time::new(self.epoch.number(), 0);
            data.downgrade(&time);
            control.downgrade(&time);
        }
    }

    fn take_messages(&mut self) -> Result<()> {
        for message in self.hub.receive(self.worker) {
            match message {
                HubMessage::Register { splits, stored_in } => {
                    for (split, record) in &splits {
                        self.store(split, record)?;
                    }
                    // The hub is gone only when the job is.
                    let _ = stored_in.send(self.epoch);
                }
                HubMessage::Open(opened) => self.open(opened),
                HubMessage::Release(split) => self.releasing.push(split),
                HubMessage::Forget(splits) => self.forgetting.extend(splits),
                HubMessage::NoMore => self.no_more = true,
            }
        }
        Ok(())
    }

    /// Removes splits from the snapshot, here and behind the event-time operator. Each in an epoch after the one in which
    /// the worker that read it stored its end: of two changes in one epoch, on two workers, neither is the later.
    fn forget(&mut self) {
        let epoch = self.epoch;
        let is_due = |gone: &mut Forgotten| gone.ended_in.is_none_or(|ended| ended < epoch);
        let due: Vec<Forgotten> = self.forgetting.extract_if(.., is_due).collect();
        for Forgotten { split, .. } in due {
            self.changes.delete(SPLITS_GROUP, SPLITS, split.as_str().as_bytes());
            if self.hub.followed() {
                self.followed.push((split.clone(), None));
            }
            if self.hub.timed() {
                self.emit(SplitMessage::Forgotten { split });
            }
        }
    }

    fn open(&mut self, opened: OpenedSplit) {
        self.splits.push(OpenSplit::new(&self.step, opened, self.sync.clone()));
    }

    /// Stops reading splits, for other workers to go on with them. One that has ended meanwhile needs nobody any more; one
    /// that may not be read yet waits, since whoever has it next must come after the same epoch.
    fn release(&mut self) {
        let epoch = self.epoch;
        let mut waiting = Vec::new();
        for split in std::mem::take(&mut self.releasing) {
            let found = self.splits.iter_mut().find(|open| *open.id == split && open.reader.is_some());
            match found {
                None => {}
                Some(open) if open.after.is_some_and(|after| epoch <= after) => waiting.push(split),
                Some(open) => {
                    open.reader = None;
                    let (split, record) = (Arc::clone(&open.id), open.record.clone());
                    self.emit(SplitMessage::Released { split, record });
                }
            }
        }
        self.releasing = waiting;
    }

    /// Reads from the splits in turn until the activation's share is used up or none has anything.
    fn read(&mut self) -> Result<()> {
        let mut budget = self.context.readable(ACTIVATION_BYTES);
        let mut records = 0u64;
        let started = self.context.now();
        loop {
            let mut progress = false;
            for offset in 0..self.splits.len() {
                let index = (self.turn.wrapping_add(offset)) % self.splits.len();
                if let Some((count, bytes)) = self.read_split(index)? {
                    progress = true;
                    records = records.saturating_add(count as u64);
                    budget = budget.saturating_sub(bytes.max(1));
                }
                if budget == 0 {
                    self.turn = index.wrapping_add(1);
                    break;
                }
            }
            if budget == 0 {
                self.activator.activate();
                break;
            }
            if !progress {
                break;
            }
        }
        self.splits.retain(|split| split.reader.is_some() || split.changed);
        if records > 0 {
            self.send_control(Control::Read { at: started, records });
        }
        Ok(())
    }

    /// Reads one batch of one split. Gives its records and bytes; `None` where there was nothing to read.
    fn read_split(&mut self, index: usize) -> Result<Option<(usize, usize)>> {
        let Some(split) = self.splits.get_mut(index) else { return Ok(None) };
        let adoptable = split.after.is_none_or(|after| self.epoch > after);
        if !adoptable {
            return Ok(None);
        }
        let message = match split.poll()? {
            Polled::Nothing => return Ok(None),
            Polled::Batch(batch) => {
                SplitMessage::Records { split: Arc::clone(&split.id), at_end: split.is_at_end(), batch }
            }
            Polled::End { children } => {
                let split = Arc::clone(&split.id);
                for (child, record) in self.hub.announce(&split, children) {
                    self.store(&child, &record)?;
                }
                SplitMessage::Ended { split }
            }
        };
        let size = self.emit(message);
        Ok(Some(size))
    }

    fn emit(&mut self, message: SplitMessage<RawBatch>) -> (usize, usize) {
        let size = match &message {
            SplitMessage::Records { batch, .. } => (batch.len(), batch.bytes()),
            SplitMessage::Ended { split } if !self.hub.timed() => {
                self.hub.report_ended(split, self.epoch);
                (0, 0)
            }
            SplitMessage::Released { split, record } if !self.hub.timed() => {
                self.hub.report_released(split, record.clone(), self.epoch);
                (0, 0)
            }
            _ => (0, 0),
        };
        self.context.flight.read(size.0, size.1);
        if let Some((capability, _)) = &self.held {
            self.data.activate().session(capability).give(message);
        }
        size
    }

    /// Sets how far each split is behind its end. At every activation and not with batches alone: the one that is stuck
    /// gives none, and one that has caught up gives none either.
    fn report_behind(&self) {
        self.splits.iter().for_each(OpenSplit::report_behind);
    }

    /// Tells the event-time operator of splits that have had nothing to read for long, while the engine was willing to
    /// read. Each is asked at every activation: what its reader says may change without a batch.
    fn report_idle(&mut self) {
        let Some(limit) = self.hub.idle_after() else { return };
        let now = self.context.now();
        // Silence that backpressure imposed is not the split's.
        let may_emit = self.context.may_emit();
        let mut idle = Vec::new();
        for split in &mut self.splits {
            if split.becomes_idle(now, may_emit, limit) {
                idle.push(Arc::clone(&split.id));
            }
        }
        for split in idle {
            self.emit(SplitMessage::Idle { split });
        }
    }

    /// Hands over the positions that changed in the open epoch.
    fn close_epoch(&mut self) -> Result<()> {
        if let Some(identity) = self.identity.take() {
            self.changes.put_encoded(SPLITS_GROUP, IDENTITY, &[], &identity)?;
        }
        let mut splits = std::mem::take(&mut self.splits);
        for split in &mut splits {
            if std::mem::take(&mut split.changed) {
                self.store(&split.id, &split.record)?;
            }
        }
        self.splits = splits;
        self.splits.retain(|split| split.reader.is_some());
        if let Some(changelog) = std::mem::take(&mut self.changes).finish() {
            let worker = self.worker as u32;
            self.send_control(Control::Changes { step: self.step.clone(), worker, changelog });
        }
        if !self.followed.is_empty() {
            let changes = std::mem::take(&mut self.followed);
            self.send_control(Control::Splits { step: self.step.clone(), changes });
        }
        Ok(())
    }

    fn store(&mut self, split: &SplitId, record: &SplitRecord) -> Result<()> {
        if self.hub.followed() {
            self.followed.push((split.clone(), Some(record.clone())));
        }
        self.changes.put_encoded(SPLITS_GROUP, SPLITS, split.as_str().as_bytes(), record)
    }

    fn send_control(&mut self, part: Control) {
        if let Some((_, capability)) = &self.held {
            self.control.activate().session(capability).give(part);
        }
    }
}
