//! What record number `n` is.

use std::sync::Arc;

use compact_str::{CompactString, format_compact};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shardflow::Key;
use xxhash_rust::xxh3::xxh3_64;

use super::zipf::{mix, ranks};

/// Into how many lanes, or splits, the records are dealt: number `n` lies in lane `n % LANES`. Four workers get two each.
pub(crate) const LANES: u64 = 8;
/// How far event time may be out of order, in milliseconds, and so how far a lane's watermark stays behind.
pub(crate) const LAG: u64 = 5_000;
/// Event time of the first record, in milliseconds since 1970: a full minute.
const START: u64 = 1_700_000_040_000;
/// Records in a millisecond of event time, as a power of two: a million in a minute.
const PER_MILLI: u32 = 4;
/// How far a record's time lies behind its turn at most, as a power of two of milliseconds. Less than the lag: none is late.
const DISORDER: u32 = 11;
/// How many keys are drawn where they are skewed; then they come again in the same order.
const DRAWN: usize = 1 << 22;
const SEED: u64 = 7;

/// How many records, and how they fall on keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spec {
    pub(crate) records: u64,
    pub(crate) keys: u32,
    /// Zipf's exponent; `None`: uniform, and no two runs of records alike.
    pub(crate) skew: Option<f64>,
}

/// A record but for its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) key: u32,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// 1 to 1,024.
    pub(crate) qty: u64,
}

/// All records of a run.
#[derive(Debug)]
pub(crate) struct Records {
    spec: Spec,
    drawn: Vec<u32>,
}

impl Records {
    pub(crate) fn new(spec: Spec) -> Self {
        let drawn = spec.skew.map(|exponent| ranks(spec.keys, exponent, DRAWN, SEED)).unwrap_or_default();
        Self { spec, drawn }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.spec.records
    }

    /// Record `n`.
    #[inline]
    pub(crate) fn get(&self, n: u64) -> Numbers {
        let bits = mix(n);
        let key = match self.drawn.get(n as usize % DRAWN) {
            Some(rank) => *rank,
            None => (((bits >> 32) * u64::from(self.spec.keys)) >> 32) as u32,
        };
        let behind = (bits >> 10) & ((1 << DISORDER) - 1);
        Numbers { key, at: START + (n >> PER_MILLI) + (1 << DISORDER) - behind, qty: 1 + (bits & 1023) }
    }

    /// The numbers of the records in `lane`, from its `first` on.
    pub(crate) fn lane(&self, lane: u64, first: u64) -> impl Iterator<Item = u64> + use<> {
        (lane + first * LANES..self.spec.records).step_by(LANES as usize)
    }
}

/// A kind of key.
pub(crate) trait MadeKey: Key + Ord + Serialize + DeserializeOwned {
    /// Keys by their numbers.
    type Table: Send + Sync + 'static;

    /// Made once, before the clock runs.
    fn table(keys: u32) -> Self::Table;

    /// Key `number`.
    fn of(table: &Self::Table, number: u32) -> Self;

    /// A hash: where the limits route it, and its share in a digest.
    fn route(&self) -> u64;
}

impl MadeKey for u64 {
    type Table = ();

    fn table(_keys: u32) {}

    #[inline]
    fn of((): &(), number: u32) -> Self {
        u64::from(number)
    }

    #[inline]
    fn route(&self) -> u64 {
        mix(*self)
    }
}

impl MadeKey for CompactString {
    type Table = Vec<Self>;

    fn table(keys: u32) -> Vec<Self> {
        (0..keys).map(|number| format_compact!("account-{number:07}")).collect()
    }

    #[inline]
    fn of(table: &Vec<Self>, number: u32) -> Self {
        table.get(number as usize).cloned().unwrap_or_default()
    }

    #[inline]
    fn route(&self) -> u64 {
        xxh3_64(self.as_bytes())
    }
}

/// A record as the programs see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Use<K> {
    pub(crate) account: K,
    pub(crate) qty: u64,
    pub(crate) at: u64,
}

/// Makes records with keys.
pub(crate) struct Maker<K: MadeKey> {
    records: Arc<Records>,
    table: K::Table,
}

impl<K: MadeKey> Maker<K> {
    pub(crate) fn new(records: Arc<Records>) -> Self {
        let table = K::table(records.spec.keys);
        Self { records, table }
    }

    /// Record `n`.
    #[inline]
    pub(crate) fn make(&self, n: u64) -> Use<K> {
        let Numbers { key, at, qty } = self.records.get(n);
        Use { account: K::of(&self.table, key), qty, at }
    }

    pub(crate) fn records(&self) -> &Arc<Records> {
        &self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_record_lies_in_one_lane() {
        let records = Records::new(Spec { records: 1_003, keys: 10, skew: None });
        let mut met: Vec<u64> = (0..LANES).flat_map(|lane| records.lane(lane, 0)).collect();
        met.sort_unstable();
        assert_eq!(met, (0..1_003).collect::<Vec<_>>());
        assert_eq!(records.lane(3, 2).next(), Some(3 + 2 * LANES));
    }

    #[test]
    fn no_record_is_later_than_the_lag_and_all_keys_are_met() {
        for skew in [None, Some(1.1)] {
            let records = Records::new(Spec { records: 100_000, keys: 100, skew });
            let mut greatest = 0;
            let mut keys = BTreeSet::new();
            for n in 0..records.count() {
                let Numbers { key, at, qty } = records.get(n);
                assert!(at + LAG > greatest && (1..=1024).contains(&qty));
                greatest = greatest.max(at);
                keys.insert(key);
            }
            assert_eq!((keys.len(), keys.last()), (100, Some(&99)));
        }
    }

    #[test]
    fn names_are_inline() {
        let table = CompactString::table(3);
        assert_eq!(CompactString::of(&table, 2), "account-0000002");
        assert!(!CompactString::of(&table, 2).is_heap_allocated());
    }
}
