//! Decides which records go when, together with which. Pure: time and chance are handed in.
//!
//! Records wait in lanes. Where order is kept, a lane is held from the moment an entry of it goes until that entry is in the
//! stream or has come to its end, so no record goes while an earlier one of its lane may still have to be sent again. A lane
//! is a hash key; where records are packed it is the shard that they are predicted to lie in. Before the prediction changes,
//! everything on its way comes back: then all that waits is laid into new lanes in the order it was put.
//!
//! A call goes when the oldest record has lingered long enough, when there is enough for a full call, when somebody waits (a
//! flush, or a put that finds no room), or with what is to be sent again, as soon as that may go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardflow_aws::kpl::UserRecord;
use smallvec::SmallVec;

use super::eras::Eras;
use super::health::Health;
use super::item::{Call, Entry, Item, LaneId, Settled, Ticket};
use super::lanes::{Lane, Lanes};
use super::pace::Pace;
use super::pack::{Aggregation, fit};
use super::placing::Placing;
use super::record::bytes;
use super::shards::ShardMap;

/// About what a record takes in an aggregate beside its data and key: enough to see without packing it that a lane is not full.
const MOST_AROUND: usize = 16;

/// Throttled entries of a shard beside which new ones still go to it: one that came a moment too early stops nothing.
const MOST_THROTTLED: usize = 2;

/// What the scheduler keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Stream records in a call.
    pub(super) call_records: usize,
    /// Bytes in a call. A larger record goes alone.
    pub(super) call_bytes: usize,
    /// What a stream record may weigh.
    pub(super) record_bytes: usize,
    /// Calls under way.
    pub(super) calls: usize,
    /// How long a record waits for others to go with.
    pub(super) linger: Duration,
    /// After how long of nothing but failures other than throttling a record is given up.
    pub(super) give_up_after: Duration,
    /// How fast packed records go to a shard, in percent of what it takes.
    pub(super) shard_percent: u32,
}

/// How records are packed, and the shards they are packed for.
#[derive(Debug)]
pub(super) struct Packed<R> {
    pub(super) most: Aggregation,
    pub(super) placing: Placing<R>,
    pub(super) pace: Pace,
    /// Bytes in the lanes that had to wait for their shards, at the last step.
    blocked_bytes: usize,
}

impl<R> Packed<R> {
    /// How many go into one stream record now.
    fn most(&self) -> Aggregation {
        let records = if self.placing.is_blind() { 1 } else { self.most.records };
        Aggregation { records, ..self.most }
    }
}

/// What is to be done now.
#[derive(Debug)]
pub(super) struct Step<R> {
    /// Calls to be made.
    pub(super) calls: Vec<Call<R>>,
    /// Records at their end.
    pub(super) settled: Vec<Settled<R>>,
    /// The shards are to be listed.
    pub(super) lists: bool,
    /// When to look again, if nothing happens before.
    pub(super) wake: Option<Instant>,
    /// Everything is done, and nothing more comes.
    pub(super) is_done: bool,
    /// A shard by which it shows that the stream does not place records by their hash keys: shards are predicted no more.
    pub(super) unpredictable: Option<Arc<str>>,
}

/// All records of a producer, from put to settled.
#[derive(Debug)]
pub(super) struct Scheduler<R> {
    pub(super) limits: Limits,
    is_ordered: bool,
    pub(super) packed: Option<Packed<R>>,
    pub(super) lanes: Lanes<R>,
    /// What is to be sent again, by the time from which on it may go.
    pub(super) again: BTreeMap<(Instant, u64), Entry<R>>,
    pub(super) eras: Eras,
    pub(super) health: Health,
    pub(super) under_way: usize,
    next_number: u64,
    /// Puts that wait for room.
    pressing: usize,
    is_closing: bool,
}

impl<R> Scheduler<R> {
    /// With `aggregation`, records are packed for the shards of the map.
    pub(super) fn new(limits: Limits, is_ordered: bool, aggregation: Option<(Aggregation, ShardMap)>) -> Self {
        let packed = aggregation.map(|(most, map)| Packed {
            most,
            placing: Placing::new(map),
            pace: Pace::new(limits.shard_percent),
            blocked_bytes: 0,
        });
        Self {
            limits,
            is_ordered,
            packed,
            lanes: Lanes::new(is_ordered),
            again: BTreeMap::new(),
            eras: Eras::default(),
            health: Health::new(),
            under_way: 0,
            next_number: 0,
            pressing: 0,
            is_closing: false,
        }
    }

    /// Whether it matters where records lie among the hash keys.
    pub(super) fn places(&self) -> bool {
        self.is_ordered || self.packed.is_some()
    }

    /// Takes a record of this hash key, which is any where it [does not matter](Self::places). Gives whether
    /// [`step`](Self::step) is to be called before it was going to be.
    pub(super) fn put(&mut self, record: UserRecord, hash: u128, now: Instant, reply: R) -> bool {
        let (number, era) = (self.next_number, self.eras.add());
        self.next_number = number.saturating_add(1);
        let had_none = self.lanes.ready_lanes() == 0;
        let ticket = Ticket { number, era, put_at: now, hash, maybe_there: false, reply };
        let is_first = self.lay(Item { record, ticket });
        let looks = match &self.packed {
            // Each lane has its own time, which its first record sets.
            Some(packed) => is_first || self.is_enough(packed),
            None => had_none || self.is_due(now),
        };
        looks && self.under_way < self.limits.calls
    }

    /// Lays a record into its lane. Gives whether it is the first there.
    pub(super) fn lay(&mut self, item: Item<R>) -> bool {
        let lane = match &self.packed {
            Some(packed) => packed.placing.predict(item.ticket.hash).0,
            None if self.is_ordered => item.ticket.hash,
            None => 0,
        };
        self.lanes.push(lane, item)
    }

    /// What was put until now goes at once. Gives the number that [`has_settled`](Self::has_settled) is to be asked with.
    pub(super) fn hurry(&mut self) -> u64 {
        self.eras.end()
    }

    /// Whether all has come to its end that was put before [`hurry`](Self::hurry) gave this number.
    pub(super) fn has_settled(&self, before: u64) -> bool {
        self.eras.are_over(before)
    }

    /// A put waits for room, or does so no more.
    pub(super) fn press(&mut self, begins: bool) {
        self.pressing = if begins { self.pressing.saturating_add(1) } else { self.pressing.saturating_sub(1) };
    }

    /// Nothing more comes.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// A new listing of the shards; `None` where there is none to be had.
    pub(super) fn listed(&mut self, map: Option<ShardMap>) {
        if let Some(packed) = &mut self.packed {
            packed.placing.listed(map);
        }
    }

    /// What is to be done at `now`.
    pub(super) fn step(&mut self, now: Instant) -> Step<R> {
        let mut settled = Vec::new();
        let unpredictable = self.replace_lanes(&mut settled);
        let mut calls = Vec::new();
        while self.may_call(now)
            && let Some(call) = self.next_call(now)
        {
            self.under_way = self.under_way.saturating_add(1);
            calls.push(call);
        }
        // Behind the calls: however little patience there is, one goes now and then to see whether the service is back.
        settled.extend(self.give_up(now));
        let placing = self.packed.as_mut().map(|packed| &mut packed.placing);
        let mut lists = false;
        if let Some(placing) = placing
            && placing.lists_at(now).is_some_and(|at| at <= now)
        {
            placing.asked(now);
            lists = true;
        }
        let is_done = self.is_closing && self.eras.is_empty();
        let blocked = self.blocked_bytes(now);
        if let Some(packed) = &mut self.packed {
            packed.blocked_bytes = blocked;
        }
        Step { calls, settled, lists, wake: self.wake(now), is_done, unpredictable }
    }

    /// The lanes from which something may go, but for those of shards that have refused several entries: these go first.
    fn free_lanes(&self) -> Vec<LaneId> {
        let mut waiting: BTreeMap<LaneId, usize> = BTreeMap::new();
        self.again.values().for_each(|entry| *waiting.entry(entry.lane).or_default() += 1);
        let mut lanes = self.lanes.ready();
        lanes.retain(|id| waiting.get(id).is_none_or(|entries| *entries <= MOST_THROTTLED));
        lanes
    }

    /// Bytes in the lanes that have to wait for their shards.
    fn blocked_bytes(&self, now: Instant) -> usize {
        let Some(packed) = &self.packed else { return 0 };
        let free = self.free_lanes().into_iter().filter(|id| packed.pace.next(*id, now).is_none());
        let bytes: usize = free.filter_map(|id| self.lanes.ready_lane(id)).map(Lane::bytes).sum();
        self.lanes.ready_bytes().saturating_sub(bytes)
    }

    fn is_stale(&self) -> bool {
        self.packed.as_ref().is_some_and(|packed| packed.placing.is_stale())
    }

    fn may_call(&self, now: Instant) -> bool {
        !self.is_stale() && self.health.admits(now, self.under_way, self.limits.calls)
    }

    /// When time alone changes what is to be done.
    fn wake(&self, now: Instant) -> Option<Instant> {
        if let Some(packed) = self.packed.as_ref().filter(|packed| packed.placing.is_stale()) {
            return packed.placing.lists_at(now);
        }
        let again = self.again.first_key_value().map(|((at, _), _)| *at);
        let lists = self.packed.as_ref().and_then(|packed| packed.placing.lists_at(now));
        let first = again.into_iter().chain(lists).chain(self.lane_goes(now)).min()?;
        let not_before = self.health.not_before().unwrap_or(first);
        self.health.admits(not_before.max(now), self.under_way, self.limits.calls).then(|| first.max(not_before))
    }

    /// When the first lane may go for which nothing else has to happen.
    fn lane_goes(&self, now: Instant) -> Option<Instant> {
        let all = self.all_is_due();
        let due = |lane: &Lane<R>| {
            let first = lane.first()?;
            let is_due = all || self.lane_is_due(lane, now);
            Some(if is_due { now } else { first.ticket.put_at + self.limits.linger })
        };
        let Some(packed) = &self.packed else { return due(self.lanes.oldest()?.1) };
        let goes = |id: LaneId| {
            let due = due(self.lanes.ready_lane(id)?)?;
            Some(match packed.pace.next(id, now) {
                // Once none waits for its shard, whoever waits for room makes all go.
                Some(at) if self.pressing > 0 => at,
                Some(at) => at.max(due),
                None => due,
            })
        };
        self.free_lanes().into_iter().filter_map(goes).min()
    }

    /// Lays everything into new lanes, where there is a new listing and nothing is on its way. Gives the shard by which it shows
    /// that shards cannot be predicted.
    fn replace_lanes(&mut self, settled: &mut Vec<Settled<R>>) -> Option<Arc<str>> {
        if self.under_way > 0 {
            return None;
        }
        let resolved = self.packed.as_mut()?.placing.resolve()?;
        for (item, placed) in resolved.placed {
            self.eras.remove(item.ticket.era);
            settled.push(item.settled(super::item::Fate::Placed(placed)));
        }
        if let Some(packed) = &mut self.packed {
            packed.pace.forget();
        }
        let mut waiting = self.lanes.take_all();
        waiting.extend(std::mem::take(&mut self.again).into_values().flat_map(|entry| entry.items));
        waiting.extend(resolved.again);
        waiting.sort_unstable_by_key(|item| item.ticket.number);
        for item in waiting {
            self.lay(item);
        }
        resolved.unpredictable
    }

    /// Whether the first record of a lane has waited for as long as it should.
    fn lane_is_due(&self, lane: &Lane<R>, now: Instant) -> bool {
        let Some(Item { ticket, .. }) = lane.first() else { return false };
        ticket.era < self.eras.now() || ticket.put_at + self.limits.linger <= now
    }

    /// Whether everything that may go is to go, whatever it has waited.
    fn all_is_due(&self) -> bool {
        let is_enough = match &self.packed {
            // Whoever waits for room gets it from what is under way, or from shards that take no more just now.
            Some(packed) => self.is_enough(packed) || (self.pressing > 0 && self.goes_only_if_pressed(packed)),
            None => {
                let records = if self.is_ordered { self.lanes.ready_lanes() } else { self.lanes.ready_records() };
                let is_full = records >= self.limits.call_records || self.lanes.ready_bytes() >= self.limits.call_bytes;
                is_full || self.pressing > 0
            }
        };
        is_enough || self.is_closing
    }

    /// Whether there is enough for a full call in the lanes that need not wait. How many entries it will make is not known; its
    /// bytes tell soon enough.
    fn is_enough(&self, packed: &Packed<R>) -> bool {
        self.lanes.ready_bytes().saturating_sub(packed.blocked_bytes) >= self.limits.call_bytes
    }

    /// Whether nothing is on its way, and nothing waits for its shard.
    fn goes_only_if_pressed(&self, packed: &Packed<R>) -> bool {
        self.under_way == 0 && self.again.is_empty() && packed.blocked_bytes == 0
    }

    fn is_due(&self, now: Instant) -> bool {
        let oldest = self.lanes.oldest();
        oldest.is_some_and(|(_, lane)| self.all_is_due() || self.lane_is_due(lane, now))
    }

    /// The next call that is to be made, if there is one.
    fn next_call(&mut self, now: Instant) -> Option<Call<R>> {
        let mut load = Load::new(self.limits);
        while let Some(first) = self.again.first_entry()
            && first.key().0 <= now
            && load.room.admit(first.get().bytes, first.get().most_beside)
        {
            load.entries.push(first.remove());
        }
        if load.entries.is_empty() && !self.is_due(now) {
            return None;
        }
        match &self.packed {
            Some(packed) => self.load_packed(packed.most(), now, &mut load),
            None => self.load_plain(&mut load),
        }
        (!load.entries.is_empty()).then_some(Call { entries: load.entries, begun: now })
    }

    fn load_plain(&mut self, load: &mut Load<R>) {
        // Where order is kept, no two of a lane go together.
        let most = if self.is_ordered { 1 } else { usize::MAX };
        while let Some((id, lane)) = self.lanes.oldest() {
            let weights = lane.waiting().take(most).map(|item| bytes(&item.record));
            let count = weights.take_while(|weight| load.room.admit(*weight, usize::MAX)).count();
            if count == 0 {
                break;
            }
            load.entries.reserve(count);
            self.lanes.cut(id, count, |item| load.entries.push(Entry::plain(id, item)));
        }
    }

    fn load_packed(&mut self, most: Aggregation, now: Instant, load: &mut Load<R>) {
        let all = self.all_is_due();
        for id in self.free_lanes() {
            while let Some(lane) = self.lanes.ready_lane(id) {
                let goes = all || self.lane_is_due(lane, now);
                let Some(Packed { pace, .. }) = &mut self.packed else { return };
                if pace.next(id, now).is_some() || (!goes && !may_be_full(lane, most)) {
                    break;
                }
                let records = lane.waiting().map(|item| &item.record);
                let (count, weight, is_aggregate) = fit(records, most, self.limits.record_bytes);
                // What would not fill an aggregate waits for more.
                if !goes && count == lane.len() && count < most.records {
                    break;
                }
                if !load.room.has(weight, usize::MAX) {
                    return;
                }
                if !pace.spend(id, weight, now) {
                    break;
                }
                load.room.admit(weight, usize::MAX);
                let entry = self.packed(id, count, weight, is_aggregate);
                load.entries.push(entry);
            }
        }
    }

    /// Cuts an entry from the lane of a shard.
    fn packed(&mut self, lane: LaneId, count: usize, bytes: usize, is_aggregate: bool) -> Entry<R> {
        let mut items = SmallVec::with_capacity(count);
        self.lanes.cut(lane, count, |item| items.push(item));
        let mut entry = Entry::new(lane, items, bytes, is_aggregate);
        entry.predicted = self.packed.as_ref().and_then(|packed| packed.placing.predict(entry.hash()).1);
        entry
    }
}

/// Whether a lane may hold enough for an aggregate, as far as can be told without packing it.
fn may_be_full<R>(lane: &Lane<R>, most: Aggregation) -> bool {
    let at_most = lane.bytes().saturating_add(lane.len().saturating_mul(MOST_AROUND));
    at_most >= most.bytes || lane.len() >= most.records
}

/// A call that is being filled.
struct Load<R> {
    entries: Vec<Entry<R>>,
    room: Room,
}

impl<R> Load<R> {
    fn new(limits: Limits) -> Self {
        let room = Room { records: 0, most_records: limits.call_records, bytes: 0, most_bytes: limits.call_bytes };
        Self { entries: Vec::new(), room }
    }
}

/// What a call has of its limits, and how much of them is taken.
struct Room {
    records: usize,
    most_records: usize,
    bytes: usize,
    most_bytes: usize,
}

impl Room {
    /// Whether there is room for a stream record of so many bytes, beside which only so many may be.
    fn has(&self, bytes: usize, most_beside: usize) -> bool {
        let has_records = self.records < self.most_records.min(most_beside.max(1));
        self.records == 0 || (has_records && self.bytes.saturating_add(bytes) <= self.most_bytes)
    }

    /// Takes that room, if there is.
    fn admit(&mut self, bytes: usize, most_beside: usize) -> bool {
        let has = self.has(bytes, most_beside);
        if has {
            self.records = self.records.saturating_add(1);
            self.most_records = self.most_records.min(most_beside.max(1));
            self.bytes = self.bytes.saturating_add(bytes);
        }
        has
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
