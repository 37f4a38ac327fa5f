//! Measures what flows through each open shard, by reading what arrived in it a moment ago.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shardflow::{Error, Result};

use super::Load;
use crate::kpl;
use crate::stream::call::each;
use crate::stream::cursor::{At, Cursor, Raw};
use crate::stream::{HashRange, Shard, Stream, hash_of};

/// How many shards are measured at once. Each may give 2 MB a second.
const AT_ONCE: usize = 16;

/// The longest time to look back on. Measuring reads every byte of it.
const LONGEST: Duration = Duration::from_secs(600);

impl Stream {
    /// Measures what arrived in each open shard of `shards` within the last `time`, in the order in which they are listed.
    /// It reads all of it once: other readers of the stream share its throughput.
    ///
    /// # Errors
    /// `time` is longer than 10 minutes, or a shard cannot be read.
    pub async fn sample(&self, shards: &[Shard], time: Duration) -> Result<Vec<Load>> {
        if time > LONGEST {
            return Err(Error::config(format!("could not measure the last {time:?}: {LONGEST:?} is the longest")));
        }
        let until = Timestamp::now();
        let from = until - SignedDuration::from_millis(i64::try_from(time.as_millis()).unwrap_or(0));
        let open: Vec<Shard> = shards.iter().filter(|shard| shard.is_open()).cloned().collect();
        if time.is_zero() {
            return Ok(vec![Load::default(); open.len()]);
        }
        let measure = |shard: Shard| {
            let stream = self.clone();
            async move { stream.measure(&shard, from, until, time).await }
        };
        each(open, AT_ONCE, measure).await
    }

    async fn measure(&self, shard: &Shard, from: Timestamp, until: Timestamp, time: Duration) -> Result<Load> {
        let mut cursor = Cursor::new(self, &shard.id, At::Time(from));
        let mut load = Load::new(time);
        loop {
            let page = cursor.next(None).await?;
            let is_over = page.is_the_end_for_now() || page.behind == Some(0);
            let came_later = page.records.last().is_some_and(|last| last.arrived.is_some_and(|at| at > until));
            weigh_within(&mut load, shard.range, &page.records, from..=until);
            if is_over || came_later {
                return Ok(load);
            }
        }
    }
}

/// Counts the records that arrived within `times`, and those of which nobody knows when they did.
fn weigh_within(load: &mut Load, range: HashRange, records: &[Raw], times: RangeInclusive<Timestamp>) {
    for record in records.iter().filter(|record| record.arrived.is_none_or(|at| times.contains(&at))) {
        weigh(load, range, record);
    }
}

/// Counts a record where its hash key lies, those of an aggregate each where its own does: after a split the producer
/// library would pack them by the new shards.
fn weigh(load: &mut Load, range: HashRange, record: &Raw) {
    let mut add = |hash: Option<u128>, bytes: usize| match hash.filter(|hash| range.contains(*hash)) {
        Some(hash) => load.add(hash, bytes as u64),
        None => load.add_elsewhere(bytes as u64),
    };
    match kpl::open(&record.data) {
        Ok(aggregate) => {
            for inner in aggregate.records {
                let given = inner.explicit_hash_key.as_deref().and_then(|hash| hash.parse().ok());
                let hash = given.unwrap_or_else(|| hash_of(&inner.partition_key));
                add(Some(hash), inner.data.len() + inner.partition_key.len());
            }
        }
        Err(_) => {
            let key = record.partition_key.as_deref();
            add(key.map(hash_of), record.data.len() + key.map_or(0, str::len));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::tail::tests::aggregate;

    fn raw(key: Option<&str>, data: &[u8], arrived: Option<i64>) -> Raw {
        Raw {
            sequence: "1".to_owned(),
            partition_key: key.map(ToOwned::to_owned),
            arrived: arrived.map(second),
            data: data.to_vec(),
        }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn weighed(range: HashRange, key: Option<&str>, data: &[u8]) -> Load {
        let mut load = Load::default();
        weigh(&mut load, range, &raw(key, data, None));
        load
    }

    fn expected(seen: &[(u128, u64)], elsewhere: u64) -> Load {
        let mut load = Load::default();
        seen.iter().for_each(|(hash, bytes)| load.add(*hash, *bytes));
        load.add_elsewhere(elsewhere);
        load
    }

    #[test]
    fn what_arrived_before_the_time_that_is_measured_or_after_it_does_not_count() {
        let arrivals = [Some(9), Some(10), None, Some(15), Some(20), Some(21)];
        let records: Vec<Raw> = (0..).zip(arrivals).map(|(n, at)| raw(Some("a"), &vec![0; 1 << n], at)).collect();
        let mut load = Load::default();
        weigh_within(&mut load, HashRange::ALL, &records, second(10)..=second(20));
        assert_eq!(load, expected(&[(hash_of("a"), 4 + 2 + 4 + 8 + 16)], 0));
    }

    #[test]
    fn a_record_counts_where_its_key_hashes_with_its_key() {
        assert_eq!(weighed(HashRange::ALL, Some("a"), b"123"), expected(&[(hash_of("a"), 4)], 0));
    }

    #[test]
    fn a_record_whose_key_hashes_elsewhere_or_that_has_none_counts_evenly() {
        let range = HashRange::new(0, 9).unwrap();
        assert_eq!(weighed(range, Some("a"), b"123"), expected(&[], 4));
        assert_eq!(weighed(range, None, b"123"), expected(&[], 3));
    }

    #[test]
    fn records_in_an_aggregate_count_each_for_itself_by_the_hash_key_they_were_given() {
        let load = weighed(HashRange::ALL, Some("whatever"), &aggregate());
        assert_eq!(load, expected(&[(hash_of("a"), 4), (7, 4)], 0));
    }
}
