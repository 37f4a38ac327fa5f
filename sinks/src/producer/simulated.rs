//! A stream that refuses, loses answers and is resharded at random, and a clock that is moved by hand.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shardflow_aws::kpl::open;

use super::super::super::receipt::Placed;
use super::*;

/// What is played.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    pub(super) seed: u64,
    pub(super) is_ordered: bool,
    pub(super) packs: bool,
    pub(super) records: u64,
    pub(super) keys: u64,
    /// Whether the stream places records by their hash keys.
    pub(super) is_by_hash: bool,
}

/// A record that the stream took.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    shard: Arc<str>,
    sequence: u64,
    sub_sequence: Option<u64>,
    id: u64,
}

pub(super) struct Simulation {
    course: Course,
    chance: StdRng,
    scheduler: Scheduler<u64>,
    now: Instant,
    next: u64,
    calls: Vec<Call<u64>>,
    shards: Vec<Shard>,
    is_listing: bool,
    lists_late: bool,
    taken: Vec<Taken>,
    settled: BTreeMap<u64, Fate>,
    /// The last record of each key that is settled.
    settled_of: HashMap<u64, u64>,
    flushes: Vec<(u64, u64)>,
}

impl Simulation {
    pub(super) fn new(course: Course) -> Self {
        let shards = vec![shard("s0", 0, u128::MAX / 2), shard("s1", u128::MAX / 2 + 1, u128::MAX)];
        let map = ShardMap::new(shards.clone()).unwrap();
        let aggregation = course.packs.then_some((Aggregation { bytes: 120, records: 20 }, map));
        let limits = Limits {
            call_records: 7,
            call_bytes: 400,
            calls: 3,
            give_up_after: Duration::from_secs(1 << 40),
            // Of every other course the shards are slow: ten records a second.
            shard_percent: if course.seed.is_multiple_of(2) { 1 } else { LIMITS.shard_percent },
            ..LIMITS
        };
        Self {
            course,
            chance: StdRng::seed_from_u64(course.seed),
            scheduler: Scheduler::new(limits, course.is_ordered, aggregation),
            now: Instant::now(),
            next: 0,
            calls: Vec::new(),
            shards,
            is_listing: false,
            lists_late: false,
            taken: Vec::new(),
            settled: BTreeMap::new(),
            settled_of: HashMap::new(),
            flushes: Vec::new(),
        }
    }

    fn one_in(&mut self, chances: u32) -> bool {
        self.chance.random_range(0..chances) == 0
    }

    fn key(&self, id: u64) -> u64 {
        id % self.course.keys
    }

    /// Plays until everything has come to its end, and checks all of it.
    pub(super) fn run(mut self) {
        for turn in 0_u32.. {
            assert!(turn < 100_000, "it does not end: {:?}", self.course);
            let is_all_put = self.next == self.course.records;
            if is_all_put {
                self.scheduler.close();
            }
            let step = self.scheduler.step(self.now);
            self.settle(step.settled);
            step.calls.into_iter().for_each(|call| self.begin(call));
            self.is_listing |= step.lists;
            if step.is_done {
                break;
            }
            self.turn(is_all_put, step.wake);
        }
        self.check();
    }

    fn turn(&mut self, is_all_put: bool, wake: Option<Instant>) {
        match self.chance.random_range(0..10) {
            0..=3 if !is_all_put => self.put(),
            4..=6 if !self.calls.is_empty() => self.answer(),
            7 if self.is_listing => self.list(),
            8 => self.now += Duration::from_millis(self.chance.random_range(0..80)),
            9 if self.one_in(6) && self.shards.len() < 14 => self.reshard(),
            _ => {
                if let Some(wake) = wake {
                    self.now = self.now.max(wake);
                } else if self.is_listing {
                    self.list();
                } else if !self.calls.is_empty() {
                    self.answer();
                } else if !is_all_put {
                    self.put();
                } else {
                    panic!("nothing can happen any more: {:?}", self.course);
                }
            }
        }
    }

    fn put(&mut self) {
        let id = self.next;
        self.next += 1;
        let key = format!("key-{}", self.key(id));
        // Every 50th is one that the service refuses its call for.
        let text = if id % 50 == 33 { format!("poison {id}") } else { format!("{id}") };
        self.scheduler.put(record(&key, &text), hash_of(&key), self.now, id);
        if self.one_in(20) {
            let before = self.scheduler.hurry();
            self.flushes.push((before, id));
        }
    }

    /// A call begins: within the limits, and where order is kept with no key that is on its way already.
    fn begin(&mut self, call: Call<u64>) {
        let limits = self.scheduler.limits;
        let bytes: usize = call.entries.iter().map(|entry| entry.bytes).sum();
        assert!(!call.entries.is_empty() && call.entries.len() <= limits.call_records);
        assert!(bytes <= limits.call_bytes || call.entries.len() == 1);
        for entry in &call.entries {
            let made = entry.wire();
            assert_eq!(made.data.len() + made.partition_key.len(), entry.bytes);
        }
        self.calls.push(call);
        assert!(self.calls.len() <= limits.calls);
        if self.course.is_ordered {
            let mut keys = HashSet::new();
            for entry in self.calls.iter().flat_map(|call| &call.entries) {
                let of_entry: HashSet<u64> = entry.items.iter().map(|item| self.key(item.ticket.reply)).collect();
                assert!(of_entry.iter().all(|key| keys.insert(*key)), "a key is on its way twice: {:?}", self.course);
            }
        }
    }

    fn answer(&mut self) {
        let call = self.calls.remove(self.chance.random_range(0..self.calls.len()));
        let failure = |failed| Failure { remedy: Remedy::Retry(failed), text: "not now".to_owned() };
        let whole =
            |failed, maybe_there| Answer::Failed { failure: failure(failed), maybe_there, blames_a_record: false };
        let is_poisoned =
            call.entries.iter().any(|entry| entry.items.iter().any(|item| item.record.data.starts_with(b"poison")));
        let answer = if is_poisoned {
            let failure = Failure { remedy: Remedy::None, text: "poisoned".to_owned() };
            Answer::Failed { failure, maybe_there: false, blames_a_record: true }
        } else {
            match self.chance.random_range(0..10) {
                0 => whole(Failed::Throttled, false),
                1 => whole(Failed::Transient, false),
                // All or some of it was done, and the answer is lost.
                2 | 3 => {
                    for entry in &call.entries {
                        if !self.one_in(3) {
                            self.take(entry);
                        }
                    }
                    whole(Failed::Transient, true)
                }
                4..=6 => Answer::Each(
                    call.entries
                        .iter()
                        .map(|entry| match self.chance.random_range(0..3) {
                            0 => Err(failure(Failed::Throttled)),
                            1 => Err(failure(Failed::Transient)),
                            _ => Ok(self.take(entry)),
                        })
                        .collect(),
                ),
                _ => Answer::Each(call.entries.iter().map(|entry| Ok(self.take(entry))).collect()),
            }
        };
        let dice = self.chance.random::<f64>();
        let answered = self.scheduler.answered(call, answer, self.now, dice);
        self.settle(answered.settled);
    }

    /// The stream takes an entry.
    fn take(&mut self, entry: &Entry<u64>) -> At {
        let made = entry.wire();
        let hash = made.explicit_hash_key.as_ref().map_or_else(|| hash_of(made.partition_key), |h| h.parse().unwrap());
        let mut open: Vec<&Shard> = self.shards.iter().filter(|shard| shard.is_open).collect();
        if self.course.is_by_hash {
            open.retain(|shard| shard.range.contains(hash));
        }
        let shard = Arc::clone(&open[self.chance.random_range(0..open.len())].id);
        let sequence = self.taken.last().map_or(0, |taken| taken.sequence + 1);
        let (records, is_aggregate) = match made {
            made if entry.is_aggregate => (open_to(&made.data), true),
            made => (vec![made.data.into_owned()], false),
        };
        for (data, place) in records.iter().zip(0..) {
            let id: u64 = std::str::from_utf8(data).unwrap().parse().unwrap();
            if self.course.is_ordered {
                self.check_order(id, sequence);
            }
            let sub_sequence = is_aggregate.then_some(place);
            self.taken.push(Taken { shard: Arc::clone(&shard), sequence, sub_sequence, id });
        }
        At { shard, sequence: sequence.to_string().into() }
    }

    /// When a record comes into the stream, every one of its key that was put before is there or refused, and none that is
    /// acknowledged comes again.
    fn check_order(&self, id: u64, sequence: u64) {
        let key = self.key(id);
        if let Some(last) = self.settled_of.get(&key) {
            assert!(id > *last, "{id} of key {key} comes after {last} was acknowledged: {:?}", self.course);
        }
        for earlier in (0..id).filter(|earlier| self.key(*earlier) == key && earlier % 50 != 33) {
            let is_there = self.settled.contains_key(&earlier)
                || self.taken.iter().any(|taken| taken.id == earlier && taken.sequence == sequence);
            assert!(is_there, "{id} of key {key} overtakes {earlier}: {:?}", self.course);
        }
    }

    fn list(&mut self) {
        self.is_listing = false;
        // Now and then the service lists what was a while ago, or not at all.
        self.lists_late = !self.lists_late && self.one_in(3);
        let late = self.shards.get(..2).filter(|_| self.lists_late).map(<[_]>::to_vec).and_then(ShardMap::new);
        let map = late.or_else(|| ShardMap::new(self.shards.clone()));
        let is_refused = self.one_in(12);
        self.scheduler.listed(map.filter(|_| !is_refused));
    }

    fn reshard(&mut self) {
        if self.one_in(3) { self.merge() } else { self.split() }
    }

    /// Two neighbours become one shard.
    fn merge(&mut self) {
        let mut open: Vec<usize> = (0..self.shards.len()).filter(|n| self.shards[*n].is_open).collect();
        open.sort_unstable_by_key(|n| self.shards[*n].range.first);
        if open.len() < 2 {
            return;
        }
        let left = self.chance.random_range(0..open.len() - 1);
        let (left, right) = (open[left], open[left + 1]);
        for parent in [left, right] {
            self.shards[parent].is_open = false;
        }
        let (first, last) = (self.shards[left].range.first, self.shards[right].range.last);
        self.shards.push(shard(&format!("s{}", self.shards.len()), first, last));
    }

    fn split(&mut self) {
        let open: Vec<usize> = (0..self.shards.len()).filter(|n| self.shards[*n].is_open).collect();
        let parent = open[self.chance.random_range(0..open.len())];
        let Range { first, last } = self.shards[parent].range;
        let middle = first + (last - first) / 2;
        self.shards[parent].is_open = false;
        for (first, last) in [(first, middle), (middle + 1, last)] {
            self.shards.push(shard(&format!("s{}", self.shards.len()), first, last));
        }
    }

    fn settle(&mut self, settled: Vec<Settled<u64>>) {
        for Settled { reply, fate, .. } in settled {
            let last = self.settled_of.entry(reply % self.course.keys).or_default();
            *last = (*last).max(reply);
            assert!(self.settled.insert(reply, fate).is_none(), "{reply} is settled twice: {:?}", self.course);
        }
        for (before, last) in &self.flushes {
            let is_over = (0..=*last).all(|id| self.settled.contains_key(&id));
            assert_eq!(self.scheduler.has_settled(*before), is_over, "flush after {last}: {:?}", self.course);
        }
    }

    fn check(&self) {
        let course = self.course;
        for id in 0..course.records {
            match (&self.settled[&id], id % 50 == 33) {
                (Fate::Refused(_), true) => {}
                (Fate::Placed(placed), false) => self.check_place(id, placed),
                (fate, _) => panic!("{id} ends as {fate:?}: {course:?}"),
            }
        }
    }

    fn check_place(&self, id: u64, placed: &Placed) {
        let course = self.course;
        let of_id: Vec<&Taken> = self.taken.iter().filter(|taken| taken.id == id).collect();
        let is_there = of_id.iter().any(|taken| {
            taken.shard == placed.shard
                && *taken.sequence.to_string() == *placed.sequence
                && taken.sub_sequence == placed.sub_sequence
        });
        assert!(is_there, "{id} is not at {placed:?} but at {of_id:?}: {course:?}");
        assert_eq!(of_id.len() > 1, placed.maybe_repeated && of_id.len() > 1, "{id}: {course:?}");
        if course.is_by_hash {
            let range = self.shards.iter().find(|shard| shard.id == placed.shard).unwrap().range;
            let hash = hash_of(&format!("key-{}", self.key(id)));
            assert!(range.contains(hash), "{id} lies in a shard that its hash key is not of: {course:?}");
        }
    }
}

fn open_to(data: &[u8]) -> Vec<Vec<u8>> {
    open(data).unwrap().records.into_iter().map(|record| record.data).collect()
}

fn shard(id: &str, first: u128, last: u128) -> Shard {
    Shard { id: id.into(), range: Range { first, last }, is_open: true }
}
