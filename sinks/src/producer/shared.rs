//! What the handles of a producer and its driver share: the scheduler behind a lock, and the room in the buffer.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use shardflow::sink::Trouble;
use tokio::sync::{Notify, Semaphore, TryAcquireError, oneshot};

use super::answers::Answered;
use super::item::{Answer, Call, Fate, Settled};
use super::metrics::Metrics;
use super::receipt::{NotPut, Receipt, RefusedRecord, Untold, Verdict, closed};
use super::record::Record;
use super::scheduler::{Scheduler, Step};
use super::shards::ShardMap;

/// What a record takes in memory beside its bytes, about: how it is known, and its receipt.
pub(super) const OVERHEAD: usize = 256;

/// How the end of a record is told.
pub(super) type Reply = oneshot::Sender<Verdict>;

pub(super) struct Shared {
    state: Mutex<State>,
    /// Told when the driver is to look before it was going to.
    pub(super) wake: Notify,
    room: Semaphore,
    most_room: u32,
    pub(super) metrics: Metrics,
    /// The first record that could not be put.
    failure: OnceLock<Trouble>,
}

struct State {
    scheduler: Scheduler<Reply>,
    /// Flushes, each with what it waits for.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    /// What went wrong with records whose receipts nobody looks at.
    unseen: Unseen,
    has_ended: bool,
    /// What the records weigh that have not come to their end.
    buffered: usize,
}

#[derive(Debug, Default)]
pub(super) struct Unseen {
    pub(super) records: u64,
    pub(super) first: Option<NotPut>,
}

/// How a flush ends.
pub(super) enum Flush {
    /// Everything has come to its end.
    Over,
    Waits(oneshot::Receiver<()>),
    /// The driver is gone, and records with it.
    Never,
}

/// Why a record is not taken at once.
pub(super) enum Busy {
    /// There is no room for it.
    Full(Record),
    Closed,
}

impl Shared {
    pub(super) fn new(scheduler: Scheduler<Reply>, buffer_bytes: usize, metrics: Metrics) -> Self {
        let most_room = u32::try_from(buffer_bytes).unwrap_or(u32::MAX);
        let state = State { scheduler, waiting: Vec::new(), unseen: Unseen::default(), has_ended: false, buffered: 0 };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            room: Semaphore::new(most_room as usize),
            most_room,
            metrics,
            failure: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weight(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_add(OVERHEAD)).unwrap_or(u32::MAX).min(self.most_room)
    }

    /// Takes a record if there is room for it.
    pub(super) fn try_put(self: &Arc<Self>, record: Record, hash: u128, now: Instant) -> Result<Receipt, Busy> {
        match self.room.try_acquire_many(self.weight(record.bytes())) {
            Ok(room) => {
                room.forget();
                Ok(self.take(record, hash, now))
            }
            Err(TryAcquireError::NoPermits) => Err(Busy::Full(record)),
            Err(TryAcquireError::Closed) => Err(Busy::Closed),
        }
    }

    /// Waits until there is room for a record, and takes it. `now` is asked then.
    pub(super) async fn put(
        self: &Arc<Self>,
        record: Record,
        hash: u128,
        now: impl Fn() -> Instant,
    ) -> Result<Receipt, Busy> {
        let _pressing = Pressing::new(self);
        match self.room.acquire_many(self.weight(record.bytes())).await {
            Ok(room) => {
                room.forget();
                Ok(self.take(record, hash, now()))
            }
            Err(_) => Err(Busy::Closed),
        }
    }

    /// Takes a record for which there is room.
    fn take(self: &Arc<Self>, record: Record, hash: u128, now: Instant) -> Receipt {
        let weight = record.bytes();
        let (reply, verdict) = oneshot::channel();
        let mut state = self.state();
        if state.has_ended || state.scheduler.is_closing() {
            drop(state);
            return self.closed();
        }
        let looks = state.scheduler.put(record.into_inner(), hash, now, reply);
        state.buffered = state.buffered.saturating_add(weight);
        drop(state);
        self.metrics.puts.increment(1);
        self.metrics.buffered.increment(weight as f64);
        if looks {
            self.wake.notify_one();
        }
        Receipt::pending(verdict)
    }

    /// Everything that was put goes at once.
    pub(super) fn hurry(&self) {
        self.state().scheduler.hurry();
        self.wake.notify_one();
    }

    pub(super) fn flush(&self) -> Flush {
        let mut state = self.state();
        let before = state.scheduler.hurry();
        if state.scheduler.has_settled(before) {
            return Flush::Over;
        }
        if state.has_ended {
            return Flush::Never;
        }
        let (over, waits) = oneshot::channel();
        state.waiting.push((before, over));
        drop(state);
        self.wake.notify_one();
        Flush::Waits(waits)
    }

    /// What went wrong unseen since the last call.
    pub(super) fn unseen(&self) -> Unseen {
        std::mem::take(&mut self.state().unseen)
    }

    /// Why a record could not be put, where there is one.
    pub(super) fn failure(&self) -> Option<&Trouble> {
        self.failure.get()
    }

    /// No more records are taken. Those that were are still sent.
    pub(super) fn close(&self) {
        self.room.close();
        self.state().scheduler.close();
        self.wake.notify_one();
    }

    /// See [`Scheduler::step`].
    pub(super) fn step(self: &Arc<Self>, now: Instant) -> Step<Reply> {
        let mut state = self.state();
        let mut step = state.scheduler.step(now);
        let settled = std::mem::take(&mut step.settled);
        self.settle(state, settled, now);
        step
    }

    /// See [`Scheduler::answered`].
    pub(super) fn answered(self: &Arc<Self>, call: Call<Reply>, answer: Answer, now: Instant) -> Answered<Reply> {
        let mut state = self.state();
        let mut answered = state.scheduler.answered(call, answer, now, rand::random());
        let settled = std::mem::take(&mut answered.settled);
        self.settle(state, settled, now);
        answered
    }

    /// See [`Scheduler::listed`].
    pub(super) fn listed(&self, map: Option<ShardMap>) {
        self.state().scheduler.listed(map);
    }

    /// Tells of records at their end, and gives their room to others. Under the lock: a flush must not be over before.
    fn settle(self: &Arc<Self>, mut state: MutexGuard<'_, State>, settled: Vec<Settled<Reply>>, now: Instant) {
        let (mut freed, mut weight, mut lines) = (0_usize, 0_usize, Vec::new());
        for Settled { reply, bytes, put_at, fate } in settled {
            freed = freed.saturating_add(self.weight(bytes) as usize);
            weight = weight.saturating_add(bytes);
            let verdict = match fate {
                Fate::Placed(placed) => {
                    self.metrics.placed(bytes, now.saturating_duration_since(put_at));
                    Ok(placed)
                }
                Fate::Refused(refused) => {
                    self.metrics.refused();
                    Err(Untold::new(NotPut::Refused(refused), self))
                }
                Fate::Failed(trouble) => {
                    self.metrics.failed();
                    self.failure.get_or_init(|| trouble.clone());
                    Err(Untold::new(NotPut::Failed(trouble), self))
                }
            };
            if let Err(Err(untold)) = reply.send(verdict) {
                // Told here: it would take the lock to tell it itself.
                lines.push(state.unseen.add(untold.told()));
            }
        }
        state.buffered = state.buffered.saturating_sub(weight);
        self.metrics.buffered.decrement(weight as f64);
        self.room.add_permits(freed);
        let State { scheduler, waiting, .. } = &mut *state;
        for (_, over) in waiting.extract_if(.., |(before, _)| scheduler.has_settled(*before)) {
            // Whoever waited may be gone.
            let _ = over.send(());
        }
        drop(state);
        lines.iter().for_each(|line| tell(line));
    }

    /// A record that is refused before it is taken.
    pub(super) fn refused(self: &Arc<Self>, reason: String, record: Record) -> Receipt {
        self.metrics.puts.increment(1);
        self.metrics.refused();
        Receipt::known(Untold::new(NotPut::Refused(Box::new(RefusedRecord { reason, record })), self))
    }

    /// A record that comes too late.
    pub(super) fn closed(self: &Arc<Self>) -> Receipt {
        Receipt::known(Untold::new(closed(), self))
    }

    /// Nobody looks at what became of a record.
    pub(super) fn tell_unseen(&self, not_put: NotPut) {
        let line = self.state().unseen.add(not_put);
        tell(&line);
    }

    /// The driver is gone. What has not come to its end never will: its receipts tell so.
    pub(super) fn end(&self) {
        self.room.close();
        let mut state = self.state();
        state.has_ended = true;
        state.waiting.clear();
        drop(state.scheduler.take_all());
        // Those of calls under way too, which end with the driver.
        self.metrics.buffered.decrement(std::mem::take(&mut state.buffered) as f64);
    }
}

/// To the log. Not under the lock: a log may go into the stream by this producer.
fn tell(not_put: &str) {
    tracing::warn!(not_put, "a record was not put, and its receipt was dropped");
}

impl Unseen {
    /// Gives what is to be told of it.
    fn add(&mut self, not_put: NotPut) -> String {
        let line = not_put.to_string();
        self.records = self.records.saturating_add(1);
        self.first.get_or_insert(not_put);
        line
    }
}

/// A put that waits for room. Ends with it, also where the put is given up.
struct Pressing<'a>(&'a Shared);

impl<'a> Pressing<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.state().scheduler.press(true);
        shared.wake.notify_one();
        Self(shared)
    }
}

impl Drop for Pressing<'_> {
    fn drop(&mut self) {
        self.0.state().scheduler.press(false);
    }
}
