//! Puts a workload into a stream at a steady rate, and keeps the [`Ledger`].
//!
//! One request at a time, so that the records of a shard arrive in order. What a request refuses is put again before
//! anything newer; a request whose answer is lost is put again whole, as every producer does, and may put twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shardflow_sources::kpl::{UserRecord, aggregate};
use shardflow_sources::stream::hash_of;
use tokio::time::{Instant, MissedTickBehavior};

use super::embedded::{OpenShard, Stream};
use super::ledger::Ledger;
use crate::metering::decode::now_millis;
use crate::metering::workload::{Draft, Kind, Workload};

/// PutRecords takes 500 records.
const BATCH: usize = 500;
/// How often records are put.
const BEAT: Duration = Duration::from_millis(20);
/// How often a batch is tried. With the backoff below that is about half a minute.
const TRIES: u32 = 12;
/// The account of the markers.
pub const MARKER: &str = "marker";

/// The ledger, shared with whoever looks on.
#[derive(Debug, Clone, Default)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks into it, or writes.
    pub fn open(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producer.
#[derive(Debug)]
pub struct Producer {
    stream: Stream,
    workload: Workload,
    ledger: SharedLedger,
    jitter: ChaCha8Rng,
    packing: Packing,
}

/// How records are put.
#[derive(Debug, Clone, Default)]
enum Packing {
    /// Each by itself.
    #[default]
    Single,
    /// Every second batch aggregated, one stream record a shard, as the Kinesis Producer Library does: by the shards as they
    /// were when the batches began, so that after a reshard aggregates hold records of several shards.
    Aggregated { shards: Vec<OpenShard>, batches: u64 },
}

/// One stream record, and the drafts in it by their places in the batch.
struct Packed {
    key: String,
    data: Vec<u8>,
    drafts: Vec<usize>,
}

impl Producer {
    /// A producer of `workload`; `seed` decides its retries' jitter.
    #[must_use]
    pub fn new(stream: Stream, workload: Workload, ledger: SharedLedger, seed: u64) -> Self {
        Self { stream, workload, ledger, jitter: ChaCha8Rng::seed_from_u64(seed), packing: Packing::Single }
    }

    /// The same, putting every second batch aggregated for the shards that the stream has now.
    ///
    /// # Errors
    /// A call that is refused.
    pub async fn aggregating(mut self) -> Result<Self> {
        self.packing = Packing::Aggregated { shards: self.stream.open_shards().await?, batches: 0 };
        Ok(self)
    }

    /// Puts everything, `rate` records a second. A slow stream delays it and loses nothing.
    ///
    /// # Errors
    /// A batch that was not taken in 12 tries.
    pub async fn run(mut self, rate: u64) -> Result<()> {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let started = Instant::now();
        let mut put = 0_u64;
        loop {
            beat.tick().await;
            let due = started.elapsed().as_micros().saturating_mul(u128::from(rate)) / 1_000_000;
            let due = u64::try_from(due).unwrap_or(u64::MAX);
            while put < due {
                let size = usize::try_from(due - put).unwrap_or(BATCH).min(BATCH);
                let drafts: Vec<Draft> = self.workload.by_ref().take(size).collect();
                if drafts.is_empty() {
                    return Ok(());
                }
                put += drafts.len() as u64;
                self.put(drafts).await?;
            }
        }
    }

    async fn put(&mut self, mut drafts: Vec<Draft>) -> Result<()> {
        for tried in 0..TRIES {
            drafts = self.try_put(drafts).await?;
            if drafts.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(self.backoff(tried)).await;
        }
        bail!("{} records were not taken by stream \"{}\" in {TRIES} tries", drafts.len(), self.stream.name())
    }

    /// Puts the records; gives back those that must be put again.
    async fn try_put(&mut self, drafts: Vec<Draft>) -> Result<Vec<Draft>> {
        let records: Vec<Vec<u8>> = drafts.iter().map(|draft| self.record(draft)).collect();
        let packed = self.pack(&drafts, &records);
        let mut call = self.stream.client().put_records().stream_name(self.stream.name());
        for Packed { key, data, .. } in &packed {
            let entry = PutRecordsRequestEntry::builder().partition_key(key).data(Blob::new(data.clone()));
            call = call.records(entry.build().context("could not build a record")?);
        }
        self.ledger.open().trying(&drafts);
        let answer = call.send().await;
        let mut ledger = self.ledger.open();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                // A refusal (4xx) says that nothing was put; anything else may have put everything.
                let lost = error.raw_response().is_none_or(|response| response.status().is_server_error());
                tracing::debug!(lost, "could not put {} records: {error}", drafts.len());
                for (draft, record) in drafts.iter().zip(&records) {
                    ledger.refused(draft, record, lost);
                }
                return Ok(drafts);
            }
        };
        let mut again = Vec::new();
        for (packed, result) in packed.iter().zip(answer.records()) {
            for (draft, record) in packed.drafts.iter().filter_map(|at| drafts.get(*at).zip(records.get(*at))) {
                if result.error_code().is_some() {
                    ledger.refused(draft, record, false);
                    again.push(*draft);
                } else {
                    ledger.acknowledged(draft, record);
                }
            }
        }
        if answer.records().len() != packed.len() {
            let (name, answered) = (self.stream.name(), answer.records().len());
            bail!("stream \"{name}\" answered for {answered} of {} records", packed.len());
        }
        Ok(again)
    }

    /// The stream records for a batch.
    fn pack(&mut self, drafts: &[Draft], records: &[Vec<u8>]) -> Vec<Packed> {
        let single = |(at, (draft, record)): (usize, (&Draft, &Vec<u8>))| Packed {
            key: draft.account_name(),
            data: record.clone(),
            drafts: vec![at],
        };
        let all = drafts.iter().zip(records).enumerate();
        let Packing::Aggregated { shards, batches } = &mut self.packing else { return all.map(single).collect() };
        *batches += 1;
        if *batches % 2 == 0 {
            return all.map(single).collect();
        }
        let mut by_shard: BTreeMap<usize, (Vec<UserRecord>, Vec<usize>)> = BTreeMap::new();
        for (at, (draft, record)) in all {
            let hash = hash_of(&draft.account_name());
            let shard = shards.iter().position(|shard| (shard.first..=shard.last).contains(&hash)).unwrap_or(0);
            let partition_key = draft.account_name();
            let (users, places) = by_shard.entry(shard).or_default();
            users.push(UserRecord { partition_key, data: record.clone(), ..UserRecord::default() });
            places.push(at);
        }
        let packed = |(users, drafts): (Vec<UserRecord>, Vec<usize>)| Packed {
            key: users.first().map(|user| user.partition_key.clone()).unwrap_or_default(),
            data: aggregate(&users),
            drafts,
        };
        by_shard.into_values().map(packed).collect()
    }

    fn record(&self, draft: &Draft) -> Vec<u8> {
        let put = if matches!(draft.kind, Kind::Bad(_)) { None } else { Some(now_millis()) };
        let mut record = Vec::with_capacity(160);
        self.workload.write_with_put(draft, put, &mut record);
        record
    }

    /// 50 ms, 100 ms, … up to 5 s, and of each a random part: waiting producers must not come back together.
    fn backoff(&mut self, tried: u32) -> Duration {
        let most = 50_u64.saturating_mul(1 << tried.min(10)).min(5_000);
        Duration::from_millis(most / 2 + self.jitter.next_u64() % (most / 2))
    }
}

/// Puts one record far in the future into each open shard, so that every window before it closes. Gives their number.
///
/// # Errors
/// A call that is refused.
pub async fn put_markers(stream: &Stream, at: u64) -> Result<usize> {
    let shards = stream.open_shards().await?;
    for shard in &shards {
        let record =
            format!(r#"{{"id":"{MARKER}-{}","account":"{MARKER}","meter":"{MARKER}","qty":1,"at":{at}}}"#, shard.id);
        let call = stream.client().put_record().stream_name(stream.name()).partition_key(MARKER);
        let call = call.explicit_hash_key(shard.first.to_string()).data(Blob::new(record)).send();
        call.await.with_context(|| format!("could not put a marker into shard \"{}\"", shard.id))?;
    }
    Ok(shards.len())
}
