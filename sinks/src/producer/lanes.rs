//! The records that wait, in lanes: each keeps the order of what is put into it. Pure.

use std::collections::{BTreeSet, HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::item::{Item, LaneId, Ticket};
use super::record::bytes;

/// Records of one lane.
#[derive(Debug)]
pub(super) struct Lane<R> {
    waiting: VecDeque<Item<R>>,
    bytes: usize,
    /// One of its entries is on its way, or waits to be sent again, and the next has to wait for that.
    is_held: bool,
}

impl<R> Lane<R> {
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Item<R>> {
        self.waiting.iter()
    }

    pub(super) fn first(&self) -> Option<&Item<R>> {
        self.waiting.front()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// All lanes with something in them, or on its way from them.
#[derive(Debug)]
pub(super) struct Lanes<R> {
    lanes: HashMap<LaneId, Lane<R>, RandomState>,
    /// The lanes from which something may go, by the number of their first record: the oldest first.
    ready: BTreeSet<(u64, LaneId)>,
    ready_bytes: usize,
    ready_records: usize,
    /// Whether a lane is held while an entry of it is on its way.
    holds: bool,
}

impl<R> Lanes<R> {
    pub(super) fn new(holds: bool) -> Self {
        Self { lanes: HashMap::default(), ready: BTreeSet::new(), ready_bytes: 0, ready_records: 0, holds }
    }

    /// Bytes in the lanes from which something may go.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Records in them.
    pub(super) fn ready_records(&self) -> usize {
        self.ready_records
    }

    /// How many there are.
    pub(super) fn ready_lanes(&self) -> usize {
        self.ready.len()
    }

    /// The lane whose first record has waited longest, of those from which something may go.
    pub(super) fn oldest(&self) -> Option<(LaneId, &Lane<R>)> {
        let (_, id) = self.ready.first()?;
        self.lanes.get(id).map(|lane| (*id, lane))
    }

    /// The lanes from which something may go, oldest first.
    pub(super) fn ready(&self) -> Vec<LaneId> {
        self.ready.iter().map(|(_, id)| *id).collect()
    }

    /// A lane from which something may go.
    pub(super) fn ready_lane(&self, id: LaneId) -> Option<&Lane<R>> {
        self.lanes.get(&id).filter(|lane| !lane.is_held && !lane.waiting.is_empty())
    }

    /// Puts a record behind the others of its lane. Gives whether there are none, and nothing holds it.
    pub(super) fn push(&mut self, id: LaneId, item: Item<R>) -> bool {
        let lane = self.lanes.entry(id).or_insert_with(|| Lane { waiting: VecDeque::new(), bytes: 0, is_held: false });
        let weight = bytes(&item.record);
        let is_first = !lane.is_held && lane.waiting.is_empty();
        if !lane.is_held {
            if is_first {
                self.ready.insert((item.ticket.number, id));
            }
            self.ready_bytes = self.ready_bytes.saturating_add(weight);
            self.ready_records = self.ready_records.saturating_add(1);
        }
        lane.bytes = lane.bytes.saturating_add(weight);
        lane.waiting.push_back(item);
        is_first
    }

    /// Takes the first records of a lane, which is then held where lanes are.
    pub(super) fn cut(&mut self, id: LaneId, count: usize, mut take: impl FnMut(Item<R>)) {
        self.leave(id);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        for item in lane.waiting.drain(..count.min(lane.waiting.len())) {
            lane.bytes = lane.bytes.saturating_sub(bytes(&item.record));
            take(item);
        }
        lane.is_held = self.holds;
        self.enter(id);
    }

    /// Takes the first records of every lane, as long as they are of this kind; from one that is held too.
    pub(super) fn take_first(&mut self, is_such: impl Fn(&Ticket<R>) -> bool) -> Vec<Item<R>> {
        let (ids, mut taken) = (self.lanes.keys().copied().collect::<Vec<_>>(), Vec::new());
        for id in ids {
            self.leave(id);
            if let Some(lane) = self.lanes.get_mut(&id) {
                while let Some(item) = lane.waiting.pop_front_if(|item| is_such(&item.ticket)) {
                    lane.bytes = lane.bytes.saturating_sub(bytes(&item.record));
                    taken.push(item);
                }
            }
            self.enter(id);
        }
        taken
    }

    /// Puts records, in their order, before the others of their lane.
    pub(super) fn put_back(&mut self, id: LaneId, items: Vec<Item<R>>) {
        self.leave(id);
        let holds = self.holds;
        let lane = self.lanes.entry(id).or_insert_with(|| Lane { waiting: VecDeque::new(), bytes: 0, is_held: holds });
        for item in items.into_iter().rev() {
            lane.bytes = lane.bytes.saturating_add(bytes(&item.record));
            lane.waiting.push_front(item);
        }
        self.enter(id);
    }

    /// What was on its way from a lane has come to its end.
    pub(super) fn release(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.is_held) {
            lane.is_held = false;
            self.enter(id);
        }
    }

    /// Takes everything, and holds nothing any more.
    pub(super) fn take_all(&mut self) -> Vec<Item<R>> {
        let lanes = std::mem::take(&mut self.lanes);
        *self = Self::new(self.holds);
        lanes.into_values().flat_map(|lane| lane.waiting).collect()
    }

    /// Counts a lane among those from which something may go, if it is one; forgets it where it is empty.
    fn enter(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(&id).filter(|lane| !lane.is_held) else { return };
        match lane.waiting.front() {
            None => drop(self.lanes.remove(&id)),
            Some(first) => {
                self.ready.insert((first.ticket.number, id));
                self.ready_bytes = self.ready_bytes.saturating_add(lane.bytes);
                self.ready_records = self.ready_records.saturating_add(lane.waiting.len());
            }
        }
    }

    /// Counts a lane no more.
    fn leave(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(&id).filter(|lane| !lane.is_held) else { return };
        if let Some(first) = lane.waiting.front() {
            self.ready.remove(&(first.ticket.number, id));
            self.ready_bytes = self.ready_bytes.saturating_sub(lane.bytes);
            self.ready_records = self.ready_records.saturating_sub(lane.waiting.len());
        }
    }
}
