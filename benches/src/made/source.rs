//! The engine's source of made records: a split a lane, 8 bytes a record.
//!
//! # Progress tracking
//! A position is how many records of its lane were read.
//!
//! # Resumption
//! At the position.
//!
//! # Rewinds
//! The same records in the same order.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, RawBatch, Reader, Source, SourceContext, Split};
use shardflow::vocabulary::SplitId;
use shardflow::{Decoder, Error, Result};

use super::clock::Clock;
use super::records::{LANES, MadeKey, Maker, Records, Use};
use crate::records::batch;

/// Records in a batch: a file's reader delivers about as many.
const BATCH: usize = 4_096;

/// The source.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    records: Arc<Records>,
    clock: Clock,
}

impl Made {
    pub(crate) fn new(records: Arc<Records>, clock: Clock) -> Self {
        Self { records, clock }
    }

    fn reader(&self, lane: u64, next: u64) -> MadeReader {
        MadeReader { source: self.clone(), lane, next }
    }
}

impl Source for Made {
    fn identity(&self) -> String {
        "made".to_owned()
    }

    fn open(&self, _context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        let enumerator = MadeEnumerator(self.clone());
        Box::pin(async move { Ok(Box::new(enumerator) as Box<dyn Enumerator>) })
    }
}

struct MadeEnumerator(Made);

impl Enumerator for MadeEnumerator {
    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let split = |lane: u64| Split::new(SplitId::new(lane.to_string()), Vec::new(), Position::new("0"));
        let splits = (0..LANES).map(split).collect();
        Box::pin(async move { Ok(Discovery { splits, complete: true }) })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let number =
            |text: &str| text.parse().map_err(|error| Error::source(format!("{text:?} is no number")).caused_by(error));
        Ok(Box::new(self.0.reader(number(split.as_str())?, number(position.as_str())?)))
    }
}

struct MadeReader {
    source: Made,
    lane: u64,
    next: u64,
}

impl Reader for MadeReader {
    fn poll_read(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        self.source.clock.begin();
        let batch = batch(self.next, self.source.records.lane(self.lane, self.next).take(BATCH));
        self.next += batch.len() as u64;
        Poll::Ready(Ok(Some(batch).filter(|batch| !batch.is_empty())))
    }
}

/// Makes the record of its number.
pub(crate) struct Making<K: MadeKey>(pub(crate) Maker<K>);

impl<K: MadeKey> Decoder for Making<K> {
    type Output = Use<K>;

    #[inline]
    fn decode(&self, raw: &[u8]) -> Result<Use<K>, String> {
        let number = raw.try_into().map_err(|_| "a record is 8 bytes".to_owned())?;
        Ok(self.0.make(u64::from_le_bytes(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::records::Spec;

    #[test]
    fn a_lane_is_read_to_its_end_from_any_position() {
        let records = Arc::new(Records::new(Spec { records: 80_003, keys: 10, skew: None }));
        let source = Made::new(Arc::clone(&records), Clock::default());
        let making = Making::<u64>(Maker::new(Arc::clone(&records)));
        for first in [0, 5_000] {
            let mut reader = source.reader(2, first);
            let mut met = Vec::new();
            while let Poll::Ready(Ok(Some(batch))) =
                reader.poll_read(&mut Context::from_waker(std::task::Waker::noop()))
            {
                met.extend(batch.records().map(|raw| making.decode(raw).unwrap().at));
                assert_eq!(batch.after().as_str(), (first + met.len() as u64).to_string());
            }
            assert_eq!(met, records.lane(2, first).map(|n| records.get(n).at).collect::<Vec<_>>());
        }
        assert!(making.decode(b"short").is_err());
    }
}
