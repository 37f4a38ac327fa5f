//! Which ids have been seen: the memory of a dedupe step, with a horizon that rolls on in event time.
//!
//! *In:* a fingerprint and an event time a record; the watermark, once an epoch. *Out:* [`Seen`]; the ids accepted in an
//! epoch, in chunks by key group and span of event time. *After a crash:* empty, until every stored chunk was restored.
//!
//! An id is a duplicate if one that was accepted lies less than the horizon away from it in event time, before or after.
//! An accepted id is forgotten once the watermark has passed its event time by the horizon: logically at once, so that
//! answers depend on the watermark alone; in memory and on disk some calls later, a little at a time.
//!
//! Ids are known by a fingerprint of 128 bits, keyed with a secret of the job, so that nobody who chooses ids can make two
//! of them collide; among 10^10 ids two collide with a probability of 10^-19.

mod chunks;
mod table;

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip128::{Hasher128, SipHasher24};

use self::chunks::{ChunkKey, Chunks};
use self::table::{ENTRY_BYTES, Entry, Found, SortedTable};
use super::changelog::{ChangelogWriter, Table};
use crate::error::{Error, Result};
use crate::vocabulary::{Epoch, EventTime, KeyGroup};

/// The answer of [`SeenIds::check_and_insert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    /// Not seen within the horizon: accepted.
    First,
    /// Seen within the horizon.
    Duplicate,
}

/// Makes fingerprints of (key, id) with the job's secret.
///
/// # Examples
/// ```
/// use shardflow::state::seen::Fingerprints;
/// let fingerprints = Fingerprints::new(&[7; 16]);
/// assert_eq!(fingerprints.of(b"key", b"id"), fingerprints.of(b"key", b"id"));
/// assert_ne!(fingerprints.of(b"key", b"id"), fingerprints.of(b"ke", b"yid"));
/// ```
#[derive(Clone, Copy)]
pub struct Fingerprints {
    keyed: SipHasher24,
}

impl std::fmt::Debug for Fingerprints {
    // The hasher's state would print the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fingerprints").finish_non_exhaustive()
    }
}

impl Fingerprints {
    /// With the job's secret, the same at every start.
    #[must_use]
    pub fn new(secret: &[u8; 16]) -> Self {
        Self { keyed: SipHasher24::new_with_key(secret) }
    }

    /// SipHash-2-4-128 of the key's length, the key's bytes and the id's bytes.
    #[must_use]
    pub fn of(&self, key: &[u8], id: &[u8]) -> u128 {
        let mut hasher = self.keyed;
        hasher.write(&(key.len() as u64).to_le_bytes());
        hasher.write(key);
        hasher.write(id);
        hasher.finish128().as_u128()
    }
}

/// The ids of one worker's key groups that were accepted within the horizon. About 31 bytes an id.
///
/// # Examples
/// ```
/// use shardflow::state::{Seen, SeenIds};
/// use shardflow::vocabulary::{EventTime, KeyGroup, seconds};
/// let (mut seen, group) = (SeenIds::new(seconds(10)), KeyGroup::new(0));
/// assert_eq!(seen.check_and_insert(group, 42, EventTime::from_millis(5_000), EventTime::MIN), Seen::First);
/// assert_eq!(seen.check_and_insert(group, 42, EventTime::from_millis(14_999), EventTime::MIN), Seen::Duplicate);
/// assert_eq!(seen.check_and_insert(group, 42, EventTime::from_millis(15_000), EventTime::MIN), Seen::First);
/// ```
#[derive(Debug)]
pub struct SeenIds {
    clock: Clock,
    groups: Vec<Group>,
    chunks: Chunks,
    // The group that is swept next.
    sweep: usize,
}

/// The horizon and how far the watermark has come.
#[derive(Debug, Clone, Copy)]
struct Clock {
    horizon: u64,
    bucket: u64,
    watermark: u64,
}

#[derive(Debug, Default)]
struct Group {
    table: SortedTable,
    // Accepted since the last drain.
    fresh: Vec<Entry>,
    // No entry is older: sweeping before this expires would find nothing.
    oldest: u64,
}

/// A horizon is cut into so many buckets: how much longer than the horizon ids stay on disk and, at most, in memory.
const BUCKETS: u64 = 16;
/// Deletes a drain may write beyond twice what it puts: many expire at once when event time jumps.
const SPARE_DELETES: usize = 1024;

impl Clock {
    fn has_expired(self, at: u64) -> bool {
        at.saturating_add(self.horizon) <= self.watermark
    }

    fn bucket_of(self, at: u64) -> u64 {
        at.checked_div(self.bucket).unwrap_or(0)
    }
}

impl SeenIds {
    /// Remembers ids for `horizon` of event time, in whole milliseconds. A zero horizon remembers nothing.
    #[must_use]
    pub fn new(horizon: Duration) -> Self {
        let horizon = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX).min(EventTime::MAX.as_millis());
        let bucket = (horizon / BUCKETS).max(1);
        Self { clock: Clock { horizon, bucket, watermark: 0 }, groups: Vec::new(), chunks: Chunks::default(), sweep: 0 }
    }

    /// Whether `fingerprint` was accepted less than the horizon away from `at`; if not, accepts it.
    ///
    /// `watermark` is that of the record's own split: what has expired by it is forgotten for this record, so that the
    /// answer depends on the split alone and not on how far the others have come.
    #[inline]
    pub fn check_and_insert(
        &mut self,
        group: KeyGroup,
        fingerprint: u128,
        at: EventTime,
        watermark: EventTime,
    ) -> Seen {
        let (at, kept) = (at.as_millis(), self.clock);
        let clock = Clock { watermark: kept.watermark.max(watermark.as_millis()), ..kept };
        let group = self.group(group);
        let place = match group.table.find(fingerprint) {
            Found::Entry(entry) if clock.has_expired(entry.at) => {
                entry.at = entry.at.max(at);
                None
            }
            Found::Entry(entry) if at.abs_diff(entry.at) < clock.horizon => return Seen::Duplicate,
            // Accepted before what is remembered of this id: there is nothing newer to remember.
            Found::Entry(entry) if at < entry.at => return Seen::First,
            Found::Entry(entry) => {
                entry.at = at;
                None
            }
            Found::Place(place) => Some(place),
        };
        // So old that it is forgotten as it comes.
        if clock.has_expired(at) {
            return Seen::First;
        }
        let entry = Entry::new(fingerprint, at);
        if let Some(place) = place {
            group.insert(place, entry, kept);
        }
        group.fresh.push(entry);
        Seen::First
    }

    /// Loads what [`check_and_insert`](Self::check_and_insert) will look at into the cache, and answers nothing.
    ///
    /// With millions of ids each check waits for main memory. Calls of this do not wait for one another, so calling it
    /// for some 32 records and then checking them takes half the time.
    #[inline]
    pub fn prefetch(&self, group: KeyGroup, fingerprint: u128) {
        if let Some(group) = self.groups.get(usize::from(group.number())) {
            std::hint::black_box(group.table.peek(fingerprint));
        }
    }

    fn group(&mut self, group: KeyGroup) -> &mut Group {
        let at = usize::from(group.number());
        if self.groups.len() <= at {
            self.groups.resize_with(at + 1, Group::default);
        }
        self.groups.get_mut(at).expect("the groups were extended to this one")
    }

    /// Moves the watermark on: ids at least the horizon older are forgotten. Frees the memory of a few groups a call, as
    /// many as keep it within a sixteenth of what lies within the horizon.
    pub fn expire(&mut self, watermark: EventTime) {
        let passed = watermark.as_millis().saturating_sub(self.clock.watermark);
        self.clock.watermark = self.clock.watermark.saturating_add(passed);
        let all = self.groups.len();
        let share = u128::from(passed) * all as u128 / u128::from(self.clock.bucket);
        let due = usize::try_from(share).unwrap_or(all).saturating_add(usize::from(passed > 0)).min(all);
        for _ in 0..due {
            self.sweep = if self.sweep.saturating_add(1) < all { self.sweep + 1 } else { 0 };
            let clock = self.clock;
            if let Some(group) = self.groups.get_mut(self.sweep) {
                group.sweep(clock);
            }
        }
    }

    /// Number of ids in memory, expired ones that were not swept yet among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.table.len()).sum()
    }

    /// Whether no id is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in memory, in bytes, without what the next drain will take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.table.bytes()).sum()
    }

    /// Appends the ids accepted since the last call, one chunk per key group and span of event time, and deletes chunks
    /// that have expired. `epoch` and `worker` make the chunks' keys unique: call it at most once for each pair.
    pub fn drain_changes(&mut self, epoch: Epoch, worker: u32, table: Table, changes: &mut ChangelogWriter) {
        let (clock, before) = (self.clock, changes.len());
        let (_, mut value) = std::mem::take(&mut changes.scratch);
        for (group, number) in self.groups.iter_mut().zip(0_u16..) {
            let group_id = KeyGroup::new(number);
            group.fresh.sort_unstable_by_key(|entry| clock.bucket_of(entry.at));
            for run in group.fresh.chunk_by(|a, b| clock.bucket_of(a.at) == clock.bucket_of(b.at)) {
                value.clear();
                run.iter().for_each(|entry| entry.pack(&mut value));
                let bucket = run.first().map_or(0, |entry| clock.bucket_of(entry.at));
                let key = ChunkKey { bucket, epoch, worker };
                changes.put(group_id, table, &key.to_bytes(), &value);
                self.chunks.insert(bucket, key, group_id);
            }
            group.fresh.clear();
        }
        changes.scratch.1 = value;
        let puts = changes.len().saturating_sub(before);
        // The last time in bucket b is (b + 1) * width - 1: it has expired when that plus the horizon is reached.
        let expired = clock.watermark.saturating_add(1).saturating_sub(clock.horizon);
        let limit = puts.saturating_mul(2).saturating_add(SPARE_DELETES);
        self.chunks.take_before(clock.bucket_of(expired), limit, |key, group| {
            changes.delete(group, table, &key.to_bytes());
        });
    }

    /// Puts back one stored chunk. Chunks may come in any order.
    ///
    /// # Errors
    /// The bytes are not those of a chunk.
    pub fn restore(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<()> {
        let key = ChunkKey::from_bytes(key)?;
        let (entries, rest) = value.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            let length = value.len();
            return Err(Error::state(format!(
                "could not read a chunk of seen ids: {length} bytes are no whole entries"
            )));
        }
        let clock = self.clock;
        let slot = self.group(group);
        let mut last = 0;
        for entry in entries.iter().map(Entry::unpack) {
            last = entry.at.max(last);
            if entry.at > EventTime::MAX.as_millis() {
                return Err(Error::state(
                    "could not read a chunk of seen ids: an event time lies beyond the end of time",
                ));
            }
            match slot.table.find(entry.fingerprint()) {
                Found::Entry(same) => same.at = same.at.max(entry.at),
                Found::Place(place) => slot.insert(place, entry, clock),
            }
        }
        self.chunks.insert(clock.bucket_of(last), key, group);
        Ok(())
    }
}

impl Group {
    fn insert(&mut self, place: usize, entry: Entry, clock: Clock) {
        self.oldest = if self.table.len() == 0 { entry.at } else { self.oldest.min(entry.at) };
        self.table.insert(place, entry, |at| !clock.has_expired(at));
    }

    fn sweep(&mut self, clock: Clock) {
        if self.table.len() > 0 && clock.has_expired(self.oldest) {
            self.table.rebuild(0, |at| !clock.has_expired(at));
            // What stays is not older; its exact age would take another pass.
            self.oldest = clock.watermark.saturating_sub(clock.horizon).saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
