//! What an answer means for each record of a call: it is in the stream, it is sent again, or it has come to its end. Pure.

use std::time::{Duration, Instant};

use shardflow::retry::{Backoff, Failed, Failing};
use shardflow_aws::failure::Failure;

use super::item::{Answer, Call, Entry, Fate, Item, Settled, Ticket};
use super::pack::fit;
use super::placing::placed;
use super::scheduler::{Packed, Scheduler};

/// The part of the usual wait after which a shard is asked again that has refused an aggregate.
const SHARDS_WAIT: u32 = 4;

/// What an answer leaves.
#[derive(Debug)]
pub(super) struct Answered<R> {
    /// Records at their end.
    pub(super) settled: Vec<Settled<R>>,
    /// Records that are sent again, by cause.
    pub(super) retried: Retried,
    /// Whether to tell of how calls go.
    pub(super) news: Option<News>,
}

/// How often records are sent again, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Retried {
    pub(super) throttled: u64,
    pub(super) failed: u64,
    pub(super) credentials: u64,
}

impl Retried {
    fn add(&mut self, failed: Failed, records: usize) {
        let count = match failed {
            Failed::Throttled => &mut self.throttled,
            Failed::Transient => &mut self.failed,
            Failed::Credentials => &mut self.credentials,
        };
        *count = count.saturating_add(records as u64);
    }
}

/// Calls have failed for a while, or do so no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    Failing(String),
    Well(Duration),
}

impl<R> Scheduler<R> {
    /// A call was answered at `now`. `dice` lies in `[0, 1)`: what failed together waits together.
    pub(super) fn answered(&mut self, call: Call<R>, answer: Answer, now: Instant, dice: f64) -> Answered<R> {
        self.under_way = self.under_way.saturating_sub(1);
        let (begun, settled) = (call.begun, Vec::with_capacity(call.entries.len()));
        let mut answering =
            Answering { scheduler: self, now, dice, settled, retried: Retried::default(), passing: None };
        let is_alive = match answer {
            // A shard that refuses has its own pace: the others go on.
            Answer::Each(fates) => answering.each(call, fates) || answering.is_paced(),
            Answer::Failed { failure, maybe_there, blames_a_record } => {
                answering.whole(call, &failure, maybe_there, blames_a_record)
            }
        };
        let Answering { settled, retried, passing, .. } = answering;
        let news = match passing {
            Some((failed, failure)) if !is_alive => {
                let text = failure.text.clone();
                self.health.failed(failed, failure, begun, now, dice).then_some(News::Failing(text))
            }
            _ if is_alive => self.health.succeeded(now).map(News::Well),
            _ => None,
        };
        Answered { settled, retried, news }
    }

    /// Where the service has been down for long enough, ends what has waited for as long.
    pub(super) fn give_up(&mut self, now: Instant) -> Vec<Settled<R>> {
        let patience = self.limits.give_up_after;
        let Some((since, failure)) = self.health.down_for(patience, now) else { return Vec::new() };
        let text = failure.clone().given_up().text;
        let is_over = |ticket: &Ticket<R>| now.saturating_duration_since(ticket.put_at.max(since)) >= patience;
        let mut over = self.lanes.take_first(is_over);
        let entries = self.again.extract_if(.., |_, entry| entry.items.iter().all(|item| is_over(&item.ticket)));
        for (_, entry) in entries {
            self.lanes.release(entry.lane);
            over.extend(entry.items);
        }
        over.iter().for_each(|item| self.eras.remove(item.ticket.era));
        over.into_iter().map(|item| item.failed(text.clone())).collect()
    }

    /// Everything that has not come to its end, where the producer ends before it does.
    pub(super) fn take_all(&mut self) -> Vec<Item<R>> {
        let mut all = self.lanes.take_all();
        all.extend(std::mem::take(&mut self.again).into_values().flat_map(|entry| entry.items));
        let in_doubt = self.packed.as_mut().map(|packed| packed.placing.take_all());
        all.extend(in_doubt.into_iter().flatten().flat_map(|entry| entry.items));
        all
    }
}

struct Answering<'a, R> {
    scheduler: &'a mut Scheduler<R>,
    now: Instant,
    dice: f64,
    settled: Vec<Settled<R>>,
    retried: Retried,
    /// The last failure that may pass.
    passing: Option<(Failed, Failure)>,
}

impl<R> Answering<'_, R> {
    /// Whether what was missed last was throttled, where shards have a pace.
    fn is_paced(&self) -> bool {
        self.scheduler.packed.is_some() && matches!(self.passing, Some((Failed::Throttled, _)))
    }

    /// Gives whether any was taken.
    fn each(&mut self, call: Call<R>, fates: Vec<Result<super::item::At, Failure>>) -> bool {
        let mut taken = false;
        let mut fates = fates.into_iter();
        for entry in call.entries {
            match fates.next() {
                Some(Ok(at)) => {
                    taken = true;
                    self.landed(entry, at);
                }
                Some(Err(failure)) => self.missed(entry, &failure, false),
                // The edge answers for every record; where it did not, the record may be there.
                None => {
                    let text = "the answer says nothing about the record".to_owned();
                    let remedy = shardflow_aws::failure::Remedy::Retry(Failed::Transient);
                    self.missed(entry, &Failure { remedy, text }, true);
                }
            }
        }
        taken
    }

    /// Gives whether the service has looked at the call.
    fn whole(&mut self, call: Call<R>, failure: &Failure, maybe_there: bool, blames_a_record: bool) -> bool {
        let count = call.entries.len();
        for mut entry in call.entries {
            if !blames_a_record {
                self.missed(entry, failure, maybe_there);
            } else if count == 1 && entry.items.len() <= 1 {
                self.end(entry, |item| item.refused(failure.text.clone()));
            } else if count == 1 {
                self.halve(entry);
            } else {
                // Which of them is to blame shows when each goes with fewer.
                entry.most_beside = (count / 2).max(1);
                self.scheduler.again.insert((self.now, entry.number()), entry);
            }
        }
        blames_a_record
    }

    /// An aggregate is to blame: one half of it goes, and then the other.
    fn halve(&mut self, mut entry: Entry<R>) {
        let half = entry.items.len() / 2;
        let rest = entry.items.drain(half..).collect();
        self.scheduler.lanes.put_back(entry.lane, rest);
        let most = self.scheduler.packed.as_ref().map(|packed| packed.most).unwrap_or_default();
        let record_bytes = self.scheduler.limits.record_bytes;
        let (_, bytes, is_aggregate) = fit(entry.items.iter().map(|item| &item.record), most, record_bytes);
        (entry.bytes, entry.is_aggregate, entry.most_beside) = (bytes, is_aggregate, 1);
        self.scheduler.again.insert((self.now, entry.number()), entry);
    }

    fn landed(&mut self, entry: Entry<R>, at: super::item::At) {
        let landed = match &mut self.scheduler.packed {
            Some(packed) => packed.placing.landed(entry, at),
            None => Some((entry, at)),
        };
        let Some((entry, at)) = landed else { return };
        let lane = entry.lane;
        for (item, placed) in placed(entry, &at) {
            self.scheduler.eras.remove(item.ticket.era);
            self.settled.push(item.settled(Fate::Placed(placed)));
        }
        self.scheduler.lanes.release(lane);
    }

    /// It was not taken, or nobody knows.
    fn missed(&mut self, mut entry: Entry<R>, failure: &Failure, maybe_there: bool) {
        for item in &mut entry.items {
            item.ticket.maybe_there |= maybe_there;
        }
        let Some(kind) = failure.may_pass() else { return self.end(entry, |item| item.failed(failure.text.clone())) };
        self.passing = Some((kind, failure.clone()));
        let patience = self.scheduler.limits.give_up_after;
        let backoff = entry.backoff.get_or_insert_with(|| Box::new(Backoff::new(patience)));
        let Some(mut wait) = backoff.failed(kind, self.now, self.dice) else {
            let text = failure.clone().given_up().text;
            return self.end(entry, |item| item.failed(text.clone()));
        };
        if let Some(Packed { pace, .. }) = self.scheduler.packed.as_mut().filter(|_| kind == Failed::Throttled) {
            // What a shard takes is counted by the second, and nobody else is waited for.
            wait /= SHARDS_WAIT;
            pace.refused(entry.lane, self.now + wait);
        }
        self.retried.add(kind, entry.items.len());
        self.scheduler.again.insert((self.now + wait, entry.number()), entry);
    }

    /// It goes no more.
    fn end(&mut self, entry: Entry<R>, settle: impl Fn(Item<R>) -> Settled<R>) {
        let lane = entry.lane;
        for item in entry.items {
            self.scheduler.eras.remove(item.ticket.era);
            self.settled.push(settle(item));
        }
        self.scheduler.lanes.release(lane);
    }
}
