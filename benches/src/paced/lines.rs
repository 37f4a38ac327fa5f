//! A source that delivers usage records when they are due, by the clock, whether or not the job keeps up.
//!
//! Record `n` of all is due `n / rate` seconds after the first look at the source. What is due and not yet read waits, as
//! in a stream: a job that stands still meets all of it afterwards, each record with its own due time.
//!
//! # Progress tracking
//! A position is the number of records of the lane before it.
//!
//! # Resumption
//! At the position; the benchmark never does.
//!
//! # Rewinds
//! The same records in the same order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, RawBatch, Reader, Source, SourceContext, Split};
use shardflow::vocabulary::SplitId;
use shardflow::{Error, Result};
use shardflow_examples::metering::workload::{Spec, Workload};
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::schedule::Schedule;

/// How long a reader waits at least when nothing is due: more often would measure the timer.
const BEAT: Duration = Duration::from_millis(5);
/// How many records are delivered at a time at most, when they have piled up.
const BATCH: usize = 4_096;

/// The records of one split, ready to be sent.
#[derive(Debug, Default)]
struct Lane {
    bytes: Vec<u8>,
    /// Where each ends, and its number among all.
    records: Vec<(usize, u64)>,
}

/// The source.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    lanes: Arc<Vec<Lane>>,
    schedule: Schedule,
}

impl Lines {
    /// The records of `spec`, made at once: only reading is timed.
    ///
    /// # Errors
    /// A spec that makes no sense.
    pub(super) fn new(spec: Spec, schedule: Schedule) -> anyhow::Result<Self> {
        let mut lanes: Vec<Lane> = (0..spec.lanes).map(|_| Lane::default()).collect();
        let mut workload = Workload::new(spec)?;
        let mut number = 0;
        while let Some(draft) = workload.next() {
            if let Some(lane) = lanes.get_mut(draft.lane) {
                workload.write(&draft, &mut lane.bytes);
                lane.records.push((lane.bytes.len(), number));
            }
            number += 1;
        }
        Ok(Self { lanes: Arc::new(lanes), schedule })
    }
}

impl Source for Lines {
    fn identity(&self) -> String {
        "paced".to_owned()
    }

    fn open(&self, context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        let enumerator = LinesEnumerator { source: self.clone(), runtime: context.runtime };
        Box::pin(async move { Ok(Box::new(enumerator) as Box<dyn Enumerator>) })
    }
}

struct LinesEnumerator {
    source: Lines,
    runtime: Handle,
}

impl Enumerator for LinesEnumerator {
    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let split = |lane: usize| Split::new(SplitId::new(lane.to_string()), Vec::new(), Position::new("0"));
        let splits = (0..self.source.lanes.len()).map(split).collect();
        Box::pin(async move { Ok(Discovery { splits, complete: true }) })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        let number = |text: &str| {
            text.parse::<usize>().map_err(|error| Error::source(format!("{text:?} is no number")).caused_by(error))
        };
        let (lane, next) = (number(split.as_str())?, number(position.as_str())?);
        let _entered = self.runtime.enter();
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Ok(Box::new(LinesReader { source: self.source.clone(), lane, next, timer }))
    }
}

struct LinesReader {
    source: Lines,
    lane: usize,
    next: usize,
    timer: Pin<Box<Sleep>>,
}

impl Reader for LinesReader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        let Some(lane) = self.source.lanes.get(self.lane) else { return Poll::Ready(Ok(None)) };
        loop {
            let now = Instant::now();
            let left = lane.records.get(self.next..).unwrap_or_default();
            let Some((_, first)) = left.first() else { return Poll::Ready(Ok(None)) };
            if self.source.schedule.due(*first) <= now {
                let due = left.iter().take(BATCH).take_while(|(_, number)| self.source.schedule.due(*number) <= now);
                let batch = batch(lane, self.next, due.count());
                self.next += batch.len();
                return Poll::Ready(Ok(Some(batch)));
            }
            let wake = self.source.schedule.due(*first).max(now + BEAT);
            self.timer.as_mut().reset(wake.into());
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

fn batch(lane: &Lane, first: usize, count: usize) -> RawBatch {
    let end = |index: usize| lane.records.get(index).map_or(0, |(end, _)| *end);
    let mut start = first.checked_sub(1).map_or(0, end);
    let mut batch = RawBatch::with_positions(Position::new((first + count).to_string()));
    for index in first..first + count {
        batch.push(lane.bytes.get(start..end(index)).unwrap_or_default(), "");
        start = end(index);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut LinesReader) -> Vec<Vec<u8>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut records = Vec::new();
        loop {
            match reader.poll_read(&mut context) {
                Poll::Ready(Ok(Some(batch))) => records.extend(batch.records().map(<[u8]>::to_vec)),
                Poll::Ready(outcome) => {
                    assert!(matches!(outcome, Ok(None)));
                    return records;
                }
                Poll::Pending => std::thread::yield_now(),
            }
        }
    }

    #[tokio::test]
    async fn every_record_is_delivered_once_and_none_before_it_is_due() {
        let spec = Spec { lanes: 2, ..Spec::new(5_000, 3) };
        let source = Lines::new(spec.clone(), Schedule::new(50_000)).unwrap();
        let mut enumerator = LinesEnumerator { source: source.clone(), runtime: Handle::current() };
        assert_eq!(enumerator.discover().await.unwrap().splits.len(), 2);
        let mut read = Vec::new();
        for lane in ["0", "1"] {
            let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
            let lane = lane.parse().unwrap();
            read.extend(all(&mut LinesReader { source: source.clone(), lane, next: 0, timer }));
        }
        assert!(Instant::now() >= source.schedule.due(4_999));
        let mut expected = Vec::new();
        let mut workload = Workload::new(spec).unwrap();
        while let Some(draft) = workload.next() {
            let mut line = Vec::new();
            workload.write(&draft, &mut line);
            expected.push(line);
        }
        read.sort();
        expected.sort();
        assert_eq!(read, expected);
    }
}
