//! Puts records into a stream: in batches as large as the service takes, again where it refuses for now, and with an account
//! of each record at the end.
//!
//! What enters: records, each with a number of the caller's. What leaves: PutRecords calls, and [`Finished`]: how many were
//! put, and the numbers of those that were not. What survives a crash: whatever the service had taken by then; a put that is
//! killed gives no account.
//!
//! # Sent again
//! * A record that the service refused (throttled, failed inside) is not in the stream. It is sent again after a wait that
//!   grows with each refusal; the refused of one call share their wait, so they come back together. Throttling is waited out
//!   for as long as it lasts.
//! * A call whose answer was lost may have been carried out. Its records are sent again all the same, since a record twice is
//!   better than none: [`Tally::maybe_twice`] counts them.
//!
//! # Order
//! PutRecords keeps no order among its records, least of all when it refuses some. With [`PutOptions::ordered`] no record is
//! sent before the last one of its partition key was taken, so a call holds each key once: as fast as there are keys.

mod account;
mod batch;
mod queue;
mod rate;
mod record;

use std::time::{Duration, Instant};

use shardflow::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use account::{Finished, Tally};
pub use record::{PutRecord, Refused};

use super::Stream;
use batch::{Answer, send};
use queue::{Hopeless, Queue, Waiting};
use rate::Rate;

/// How to put.
#[derive(Debug, Clone, PartialEq)]
pub struct PutOptions {
    /// Keep the order of the records of one partition key.
    pub ordered: bool,
    /// Send at most so many records a second; `None`: as many as the stream takes. Sent again counts again.
    pub rate: Option<f64>,
    /// How many calls may be under way at once, 1 to 64.
    pub calls: usize,
}

impl Default for PutOptions {
    fn default() -> Self {
        Self { ordered: false, rate: None, calls: 4 }
    }
}

impl Stream {
    /// Puts all records that come, and ends when no more do, or with the first failure that cannot pass. `told` hears how
    /// far it is after each answer.
    ///
    /// A record that was made for a stream of larger records makes the service refuse the call it is in.
    pub async fn put(
        &self,
        records: mpsc::Receiver<Vec<PutRecord>>,
        options: &PutOptions,
        told: impl FnMut(&Tally),
    ) -> Finished {
        let started = Instant::now();
        let mut putting = Putting {
            stream: self,
            records: Some(records),
            queue: Queue::new(options.ordered),
            rate: options.rate.map(|rate| Rate::new(rate, started)),
            calls: JoinSet::new(),
            calls_at_once: options.calls.clamp(1, 64),
            tally: Tally::default(),
            failure: None,
            told,
        };
        putting.run().await;
        putting.finish(started.elapsed())
    }
}

/// A put under way.
struct Putting<'a, F> {
    stream: &'a Stream,
    /// `None` once all have come, or no more are wanted.
    records: Option<mpsc::Receiver<Vec<PutRecord>>>,
    queue: Queue,
    rate: Option<Rate>,
    calls: JoinSet<(Vec<Waiting>, Answer)>,
    calls_at_once: usize,
    tally: Tally,
    failure: Option<Error>,
    told: F,
}

impl<F: FnMut(&Tally)> Putting<'_, F> {
    async fn run(&mut self) {
        loop {
            self.take_what_is_there();
            let wait = self.send_what_may_go();
            let nothing_left = self.failure.is_some() || (self.records.is_none() && self.queue.is_empty());
            if self.calls.is_empty() && nothing_left {
                return;
            }
            let takes_more = self.records.is_some() && self.queue.has_room();
            tokio::select! {
                Some(answered) = self.calls.join_next() => match answered {
                    Ok((sent, answer)) => self.answered(sent, answer),
                    Err(failed) => self.fail(Error::internal("could not finish a call").caused_by(failed)),
                },
                more = next(&mut self.records), if takes_more => match more {
                    Some(more) => self.queue.add(more),
                    None => self.records = None,
                },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                else => self.fail(Error::internal("could not go on: records wait, and nothing can make them go")),
            }
        }
    }

    /// Takes records that need not be waited for, so that calls are full where there is enough to fill them.
    fn take_what_is_there(&mut self) {
        while self.queue.has_room()
            && let Some(records) = &mut self.records
        {
            match records.try_recv() {
                Ok(more) => self.queue.add(more),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => self.records = None,
            }
        }
    }

    /// Begins calls. Gives how long to wait until another may begin, where that is only a matter of time.
    fn send_what_may_go(&mut self) -> Option<Duration> {
        if self.failure.is_some() {
            return None;
        }
        while self.calls.len() < self.calls_at_once {
            let now = Instant::now();
            let allowed = match &mut self.rate {
                None => usize::MAX,
                Some(rate) => match rate.allows(now, self.queue.len()) {
                    Ok(records) => records,
                    Err(wait) => return (!self.queue.is_empty()).then_some(wait),
                },
            };
            let batch = self.queue.take(now, allowed);
            if batch.is_empty() {
                return self.queue.ready_at().map(|at| at.saturating_duration_since(now));
            }
            if let Some(rate) = &mut self.rate {
                rate.spend(batch.len());
            }
            let stream = self.stream.clone();
            self.calls.spawn(async move {
                let answer = send(&stream, &batch).await;
                (batch, answer)
            });
        }
        None
    }

    fn answered(&mut self, sent: Vec<Waiting>, answer: Answer) {
        let (now, dice, patience) = (Instant::now(), rand::random(), self.stream.patience);
        let keys: Vec<String> = sent.iter().map(|waiting| waiting.record.partition_key().to_owned()).collect();
        let (fates, was_lost) = match answer {
            Answer::Each(fates) => (fates, false),
            Answer::None { failure, may_be_there } => (vec![Err(failure); sent.len()], may_be_there),
        };
        let mut again = Vec::new();
        for (mut waiting, fate) in sent.into_iter().zip(fates) {
            let Err(failure) = fate else {
                self.tally.add(&waiting.record, waiting.may_be_there);
                continue;
            };
            waiting.may_be_there |= was_lost;
            match waiting.failed(&failure, now, dice, patience) {
                Ok(()) => self.tally.sent_again += 1,
                Err(Hopeless) => self.fail(self.stream.could_not("put records into", failure)),
            }
            again.push(waiting);
        }
        self.queue.answered(keys.iter().map(String::as_str), again);
        (self.told)(&self.tally);
    }

    /// The first failure counts. Nothing more is taken or sent; what is under way is waited for.
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
        if let Some(mut records) = self.records.take() {
            // What the caller has handed over belongs into the account.
            records.close();
            while let Ok(more) = records.try_recv() {
                self.queue.add(more);
            }
        }
    }

    fn finish(self, took: Duration) -> Finished {
        Finished::new(self.tally, self.queue.into_rest(), self.failure, took)
    }
}

/// The next records; only called while there may be some.
async fn next(records: &mut Option<mpsc::Receiver<Vec<PutRecord>>>) -> Option<Vec<PutRecord>> {
    match records {
        Some(records) => records.recv().await,
        None => None,
    }
}
