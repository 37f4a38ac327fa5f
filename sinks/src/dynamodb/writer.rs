//! One worker's side: records into items, batches of them into calls, answers into what became of each record.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use shardflow::retry::{Clock, WallClock};
use shardflow::sink::{BatchWriter, Batching, EntryOutcome, Refused, Version, Written};
use shardflow::source::BoxFuture;

use super::attributes::number::Number;
use super::attributes::{Item, Unfit, item_of, size, text};
use super::connect::Table;
use super::merge::Merged;
use super::metrics::ItemMetrics;
use super::pace::{Pace, Taken, Turn};
use super::schema::Key;
use super::version::ItemVersion;

/// What a BatchWriteItem call takes: 25 items, and 16 MB on the wire, of which the request's own frame is a part.
const BATCH: Batching = Batching { records: 25, bytes: 15 << 20 };

/// Records among which those of one key are merged before they are written one by one.
const GUARDED: Batching = Batching { records: 100, bytes: 4 << 20 };

/// What is counted as one write unit, in bytes.
const UNIT: usize = 1024;

/// How records are written.
pub(super) enum Plan<T> {
    /// In batches.
    Put,
    /// In batches; a record for which this holds takes its item away.
    PutOrDelete(Arc<dyn Fn(&T) -> bool + Send + Sync>),
    /// One by one, each where the table has no later state.
    Newest(Guard<T>),
}

/// What keeps later states from earlier ones.
pub(super) struct Guard<T> {
    /// Where the version is stored.
    pub(super) attribute: String,
    pub(super) versions: Versions<T>,
    /// Calls at a time for each batch.
    pub(super) calls: usize,
}

/// What says which of two states is the later.
pub(super) enum Versions<T> {
    /// When it was written: the later start, and in one start the later record.
    Written,
    /// The record.
    Given(VersionOf<T>),
    /// The start, and in one start the record.
    OfStart(VersionOf<T>),
}

pub(super) type VersionOf<T> = Arc<dyn Fn(&T) -> ItemVersion + Send + Sync>;

impl<T> Clone for Versions<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Written => Self::Written,
            Self::Given(version) => Self::Given(Arc::clone(version)),
            Self::OfStart(version) => Self::OfStart(Arc::clone(version)),
        }
    }
}

impl<T> Guard<T> {
    fn version_of(&self, record: &T, written: Version) -> ItemVersion {
        match &self.versions {
            Versions::Written => written.into(),
            Versions::Given(version) => version(record),
            Versions::OfStart(version) => version(record).of_start(written.incarnation()),
        }
    }

    /// Writes the version into the item.
    fn stamp(&self, item: &mut Item, version: &ItemVersion) -> Result<(), Unfit> {
        let stored = version.stored();
        match item.insert(self.attribute.clone(), stored.clone()) {
            Some(own) if !is_same(&own, &stored) => Err(Unfit::new(format!(
                "the record has it with another value than its version, {version}: store the version under another name"
            ))
            .inside(&self.attribute)),
            _ => Ok(()),
        }
    }
}

fn is_same(one: &AttributeValue, other: &AttributeValue) -> bool {
    match (one, other) {
        (AttributeValue::N(one), AttributeValue::N(other)) => Number::parse(one) == Number::parse(other),
        _ => one == other,
    }
}

/// A record on its way: its item, and what is to be done with it.
#[derive(Debug)]
pub struct ItemEntry {
    /// For a delete the key alone.
    pub(super) item: Item,
    pub(super) is_delete: bool,
    pub(super) key: Key,
    pub(super) version: Option<ItemVersion>,
    pub(super) units: u64,
    bytes: usize,
}

/// Writes items. Made by the destinations of this module.
pub struct ItemWriter<T> {
    pub(super) table: Table,
    pub(super) plan: Plan<T>,
    pub(super) metrics: ItemMetrics,
    pace: Mutex<Pace>,
    /// Held by the one that waits for its turn: calls begin in the order in which they asked.
    turn: tokio::sync::Mutex<()>,
}

impl<T> std::fmt::Debug for ItemWriter<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ItemWriter").field("table", &self.table.name).finish_non_exhaustive()
    }
}

impl<T> ItemWriter<T> {
    pub(super) fn new(table: Table, plan: Plan<T>, metrics: ItemMetrics) -> Self {
        Self { table, plan, metrics, pace: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        // Nothing that could panic runs under it.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many units may be written. Gives what that takes of the pace.
    pub(super) async fn at_pace(&self, units: u64) -> Taken {
        let _turn = self.turn.lock().await;
        loop {
            let turn = self.pace().take(units, WallClock.now());
            match turn {
                Turn::Begin(taken) => return taken,
                Turn::Wait(wait) => WallClock.sleep(wait).await,
            }
        }
    }

    /// Of what a call has taken this part, of 1, was not written.
    pub(super) fn unused(&self, taken: Taken, part: f64) {
        self.pace().unused(taken, part, WallClock.now());
    }

    /// So many units were written.
    pub(super) fn wrote(&self, units: u64) {
        self.pace().written(units, WallClock.now());
    }

    /// The table is too busy.
    pub(super) fn slow_down(&self) {
        let (slower, limit) = {
            let mut pace = self.pace();
            (pace.throttled(WallClock.now()), pace.limit())
        };
        if slower {
            self.metrics.slowed.increment(1);
            tracing::debug!(table = self.table.name, units_per_second = limit, "the table is too busy: writing slower");
        }
    }
}

impl<T: Serialize + 'static> ItemWriter<T> {
    fn made(&self, record: &T, written: Version) -> Result<ItemEntry, Unfit> {
        let mut item = item_of(record)?;
        let (mut is_delete, mut version) = (false, None);
        match &self.plan {
            Plan::Put => {}
            Plan::PutOrDelete(deletes) => is_delete = deletes(record),
            Plan::Newest(guard) => {
                let of_record = guard.version_of(record, written);
                guard.stamp(&mut item, &of_record)?;
                version = Some(of_record);
            }
        }
        if is_delete {
            item = self.table.schema.key_of(&item);
        }
        let key = self.table.schema.check(&item)?;
        let units = size::item(&item).div_ceil(UNIT).max(1) as u64;
        // Around the item stands what is to be done with it, and around its key, in a condition, little else.
        let bytes = size::on_wire(&item).saturating_add(64);
        Ok(ItemEntry { item, is_delete, key, version, units, bytes })
    }
}

impl<T: Serialize + 'static> BatchWriter<T> for ItemWriter<T> {
    type Entry = ItemEntry;

    fn limits(&self) -> Batching {
        if matches!(self.plan, Plan::Newest(_)) { GUARDED } else { BATCH }
    }

    fn entry(&self, record: &T, version: Version) -> Result<ItemEntry, Refused> {
        self.made(record, version).map_err(|unfit| {
            let as_json = serde_json::to_string(record);
            let record = as_json.unwrap_or_else(|error| format!("(it has no JSON either: {error})"));
            Refused { error: unfit.to_string(), record }
        })
    }

    fn bytes(&self, entry: &ItemEntry) -> usize {
        entry.bytes
    }

    fn text(&self, entry: &ItemEntry) -> String {
        text(&entry.item)
    }

    fn write<'a>(&'a self, entries: &'a [ItemEntry]) -> BoxFuture<'a, Written> {
        Box::pin(async move {
            let merged = Merged::of(entries.iter().map(|entry| (&entry.key, &entry.version)));
            let winners: Vec<&ItemEntry> = merged.winners().iter().filter_map(|place| entries.get(*place)).collect();
            let outcomes: Vec<EntryOutcome> = match &self.plan {
                Plan::Newest(guard) => self.write_guarded(guard, &winners).await,
                Plan::Put | Plan::PutOrDelete(_) => self.write_batch(&winners).await,
            };
            Written::Each(merged.spread(&outcomes))
        })
    }
}
