//! Brings one batch to its end: calls, takes the answers apart, waits failures out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::batching::Batch;
use super::breaker::Breaker;
use super::outstanding::Underway;
use super::{BatchWriter, EntryOutcome, Refused, Trouble, Written};
use crate::error::Outcome;
use crate::metrics::DeliveryMetrics;
use crate::retry::{Clock, Retries};

/// What the batches of one sink on one worker share.
pub(super) struct Delivery<W, C> {
    pub(super) to: W,
    pub(super) clock: C,
    pub(super) give_up_after: Duration,
    /// `write to step "charges"`, for the log.
    pub(super) attempted: String,
    pub(super) metrics: DeliveryMetrics,
    pub(super) breaker: Mutex<Breaker>,
    /// Told when the breaker may admit one that it has not admitted before.
    pub(super) admitting: Notify,
}

/// What an answer leaves to do.
#[derive(Debug, PartialEq, Eq)]
struct Left<E> {
    /// Entries to be sent again.
    again: Vec<E>,
    /// Why, and whether any of them may have been written.
    trouble: Option<Trouble>,
    refused: Vec<(E, String)>,
    written: usize,
}

/// Takes an answer apart. Pure.
fn left<E>(entries: Vec<E>, answer: Written) -> Left<E> {
    let (count, mut left) = (entries.len(), Left { again: Vec::new(), trouble: None, refused: Vec::new(), written: 0 });
    match answer {
        Written::All => left.written = count,
        Written::Failed(trouble) => (left.again, left.trouble) = (entries, Some(trouble)),
        Written::Each(outcomes) if outcomes.len() != count => {
            let text = format!("the writer answered for {} of {count} records", outcomes.len());
            left.trouble = Some(Trouble { may_pass: None, outcome: Outcome::Indeterminate, text });
            left.again = entries;
        }
        Written::Each(outcomes) => {
            for (entry, outcome) in entries.into_iter().zip(outcomes) {
                match outcome {
                    EntryOutcome::Written => left.written = left.written.saturating_add(1),
                    EntryOutcome::Refused(reason) => left.refused.push((entry, reason)),
                    EntryOutcome::Failed(trouble) => {
                        left.again.push(entry);
                        left.trouble = Some(match left.trouble.take() {
                            Some(known) => known.and(trouble),
                            None => trouble,
                        });
                    }
                }
            }
        }
    }
    left
}

impl<W, C: Clock> Delivery<W, C> {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn admitted(&self) {
        loop {
            let admitting = self.admitting.notified();
            if self.breaker().admits() {
                return;
            }
            admitting.await;
        }
    }

    /// Writes a batch, however often it takes.
    pub(super) async fn deliver<T>(&self, batch: Batch<W::Entry>, underway: Underway)
    where
        W: BatchWriter<T>,
    {
        let mut entries = batch.entries;
        let mut bytes = batch.bytes;
        let mut retries = Retries::new(self.give_up_after, &self.clock, &self.metrics.retries, self.attempted.clone());
        loop {
            self.admitted().await;
            let call = self.metrics.call();
            let begun = self.clock.now();
            let answer = self.to.write(&entries).await;
            drop(call);
            self.metrics.seconds.record(self.clock.now().saturating_duration_since(begun).as_secs_f64());
            let Left { again, trouble, refused, written } = left(entries, answer);
            if written > 0 || !refused.is_empty() || again.is_empty() {
                if self.breaker().succeeded() {
                    self.admitting.notify_waiters();
                }
            } else {
                self.breaker().failed();
                self.admitting.notify_one();
            }
            let kept: usize = again.iter().map(|entry| self.to.bytes(entry)).sum();
            self.metrics.records.increment(written as u64);
            self.metrics.bytes.increment(bytes.saturating_sub(kept) as u64);
            self.metrics.refused.increment(refused.len() as u64);
            if !refused.is_empty() {
                let told = |(entry, error): (W::Entry, String)| Refused { error, record: self.to.text(&entry) };
                underway.refuse(refused.into_iter().map(told).collect());
            }
            let Some(trouble) = trouble else {
                retries.succeeded();
                return underway.done();
            };
            if written > 0 {
                // The service is there, and gives way.
                retries.progressed();
            }
            if let Err(trouble) = retries.wait_out(trouble).await {
                return underway.failed(trouble);
            }
            (entries, bytes) = (again, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::{Failed, Failing};

    fn trouble(may_pass: Option<Failed>, text: &str) -> Trouble {
        Trouble { may_pass, outcome: Outcome::Determinate, text: text.to_owned() }
    }

    #[test]
    fn each_entry_is_written_refused_or_sent_again() {
        let throttled = trouble(Some(Failed::Throttled), "slow down");
        let answer = Written::Each(vec![
            EntryOutcome::Written,
            EntryOutcome::Failed(throttled.clone()),
            EntryOutcome::Refused("too long".to_owned()),
            EntryOutcome::Failed(trouble(Some(Failed::Transient), "busy")),
        ]);
        let expected = Left {
            again: vec!["b", "d"],
            trouble: Some(throttled),
            refused: vec![("c", "too long".to_owned())],
            written: 1,
        };
        assert_eq!(left(vec!["a", "b", "c", "d"], answer), expected);
    }

    #[test]
    fn what_cannot_pass_counts_more_than_what_may() {
        let (may, cannot) = (trouble(Some(Failed::Transient), "busy"), trouble(None, "no permission"));
        for outcomes in [[may.clone(), cannot.clone()], [cannot.clone(), may.clone()]] {
            let answer = Written::Each(outcomes.map(EntryOutcome::Failed).to_vec());
            assert_eq!(left(vec![1, 2], answer).trouble, Some(cannot.clone()));
        }
    }

    #[test]
    fn what_may_be_written_of_any_entry_is_in_doubt_whichever_of_them_is_told_of() {
        let in_doubt = |trouble: &Trouble| trouble.clone().in_doubt();
        let (may, cannot) = (trouble(Some(Failed::Transient), "busy"), trouble(None, "no permission"));
        for (outcomes, told) in [
            ([may.clone(), in_doubt(&may)], &may),
            ([in_doubt(&may), may.clone()], &may),
            ([in_doubt(&may), cannot.clone()], &cannot),
            ([cannot.clone(), in_doubt(&may)], &cannot),
            ([may.clone(), in_doubt(&cannot)], &cannot),
        ] {
            let answer = Written::Each(outcomes.map(EntryOutcome::Failed).to_vec());
            assert_eq!(left(vec![1, 2], answer).trouble, Some(in_doubt(told)));
        }
        let certain = Written::Each(vec![EntryOutcome::Written, EntryOutcome::Failed(may.clone())]);
        assert_eq!(left(vec![1, 2], certain).trouble, Some(may), "what is written is in no doubt");
    }

    #[test]
    fn an_answer_for_another_number_of_records_cannot_be_trusted() {
        let left = left(vec![1, 2], Written::Each(vec![EntryOutcome::Written]));
        assert_eq!((left.again, left.written), (vec![1, 2], 0));
        let trouble = left.trouble.unwrap();
        assert!(trouble.may_pass.is_none() && trouble.text.contains("1 of 2"));
    }
}
