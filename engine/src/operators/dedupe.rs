//! The dedupe operator: lets an id pass once within a rolling horizon of event time, per key.
//!
//! *Enters*: keyed records. *Leaves*: those whose id is new. *Survives a crash*: a fingerprint and an event time an id,
//! until the horizon has passed.

use std::sync::Arc;
use std::time::Duration;

use super::context::JobContext;
use super::control::Control;
use super::key_by::{Keyed, KeyedFlow, stateful_by_key};
use super::share::Share;
use super::stateful::{EpochLogic, Made, Outputs};
use crate::error::Result;
use crate::metrics as counters;
use crate::state::changelog::{ChangelogWriter, Table};
use crate::state::codec;
use crate::state::seen::{Fingerprints, Seen, SeenIds};
use crate::vocabulary::{Epoch, Event, EventTime, Key, KeyGroup, Record, StepName};

/// Accepted ids.
const SEEN: Table = Table(0);

/// So many ids are looked up ahead: with millions of ids each look-up waits for main memory, and these wait together.
const LOOK_AHEAD: usize = 32;

/// Reads a record's id, as bytes appended to a buffer.
pub(crate) type WriteId<T> = Box<dyn Fn(&T, &mut Vec<u8>) -> Result<()> + Send + Sync>;

/// What a dedupe step is made of.
pub(crate) struct Dedupe<T> {
    pub(crate) name: StepName,
    pub(crate) id: WriteId<T>,
    pub(crate) horizon: Duration,
}

/// Builds the dedupe operator. Gives first records, nothing, and control parts.
///
/// # Errors
/// State that cannot be restored.
pub(crate) fn dedupe<'scope, K: Key, T: Record>(
    context: &Arc<JobContext>,
    worker: usize,
    flow: KeyedFlow<'scope, K, T>,
    step: Dedupe<T>,
) -> Result<Outputs<'scope, Keyed<K, T>, ()>> {
    let Dedupe { name, id, horizon } = step;
    let share = Share::new(context, &name, worker);
    let mut seen = SeenIds::new(horizon);
    share.restore(&mut |group, _table, key, value| seen.restore(group, key, value))?;
    let logic = DedupeLogic {
        share,
        id,
        seen,
        fingerprints: Fingerprints::new(&context.secret),
        key_bytes: Vec::new(),
        id_bytes: Vec::new(),
        fingerprints_at_hand: Vec::new(),
        duplicates: counters::duplicates(&name),
        marker: std::marker::PhantomData,
    };
    Ok(stateful_by_key(context, &name, flow, logic))
}

struct DedupeLogic<K, T> {
    share: Share,
    id: WriteId<T>,
    seen: SeenIds,
    fingerprints: Fingerprints,
    /// Key and id of the record at hand.
    key_bytes: Vec<u8>,
    id_bytes: Vec<u8>,
    fingerprints_at_hand: Vec<(KeyGroup, u128)>,
    duplicates: metrics::Counter,
    marker: std::marker::PhantomData<fn(K)>,
}

impl<K: Key, T: Record> DedupeLogic<K, T> {
    fn fingerprint(&mut self, keyed: &Keyed<K, T>) -> Result<u128> {
        self.key_bytes.clear();
        self.id_bytes.clear();
        codec::encode_into(&keyed.key, &mut self.key_bytes)?;
        (self.id)(&keyed.event.value, &mut self.id_bytes)?;
        Ok(self.fingerprints.of(&self.key_bytes, &self.id_bytes))
    }
}

impl<K: Key, T: Record> EpochLogic for DedupeLogic<K, T> {
    type In = Keyed<K, T>;
    type Out = Keyed<K, T>;
    type Side = ();

    fn batch(&mut self, mut records: Vec<Keyed<K, T>>, made: &mut Made<Keyed<K, T>, ()>) -> Result<()> {
        let count = records.len();
        let mut fingerprints = std::mem::take(&mut self.fingerprints_at_hand);
        fingerprints.clear();
        for keyed in &records {
            fingerprints.push((self.share.group_of(keyed.hash), self.fingerprint(keyed)?));
        }
        // Hashed before: hashing in between would leave room for two or three look-ups at a time.
        let mut ahead = fingerprints.iter();
        for (group, fingerprint) in ahead.by_ref().take(LOOK_AHEAD) {
            self.seen.prefetch(*group, *fingerprint);
        }
        let mut at_hand = fingerprints.iter();
        records.retain(|keyed| {
            if let Some((group, fingerprint)) = ahead.next() {
                self.seen.prefetch(*group, *fingerprint);
            }
            let Event { at, watermark, .. } = keyed.event;
            let seen = at_hand.next().map(|(group, id)| self.seen.check_and_insert(*group, *id, at, watermark));
            seen == Some(Seen::First)
        });
        self.fingerprints_at_hand = fingerprints;
        self.duplicates.increment(count.saturating_sub(records.len()) as u64);
        made.out = records;
        Ok(())
    }

    fn advance(&mut self, watermark: Option<EventTime>, _fired: &mut Vec<(EventTime, Vec<Keyed<K, T>>)>) -> Result<()> {
        if let Some(watermark) = watermark {
            self.seen.expire(watermark);
        }
        Ok(())
    }

    fn close(&mut self, epoch: Epoch, parts: &mut Vec<Control>) -> Result<()> {
        let mut changes = ChangelogWriter::default();
        self.seen.drain_changes(epoch, self.share.worker(), SEEN, &mut changes);
        self.share.hand_over(changes, self.seen.len(), self.seen.bytes(), parts);
        Ok(())
    }

    fn hold(&self, _watermark: EventTime) -> Option<EventTime> {
        None
    }
}
