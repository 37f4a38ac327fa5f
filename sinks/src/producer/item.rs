//! What waits, what goes, and what comes back: the words that the rooms of the scheduler share.

use std::sync::Arc;
use std::time::Instant;

use shardflow::Outcome;
use shardflow::retry::Backoff;
use shardflow::sink::Trouble;
use shardflow_aws::failure::Failure;
use shardflow_aws::kpl::UserRecord;
use smallvec::SmallVec;

use super::pack::{Packing, Wire, wire};
use super::receipt::{Placed, RefusedRecord};
use super::record::{Record, bytes};

/// What a record is known by while it is on its way. `R` is how its end is told.
#[derive(Debug)]
pub(super) struct Ticket<R> {
    /// Counts the records in the order they were put.
    pub(super) number: u64,
    /// The part of the records that a flush waits for.
    pub(super) era: u64,
    pub(super) put_at: Instant,
    /// Where it lies among the hash keys.
    pub(super) hash: u128,
    /// It may be in the stream: an answer about it was lost, or it lies in a wrong shard.
    pub(super) maybe_there: bool,
    pub(super) reply: R,
}

/// A record that waits.
#[derive(Debug)]
pub(super) struct Item<R> {
    pub(super) record: UserRecord,
    pub(super) ticket: Ticket<R>,
}

impl<R> Item<R> {
    pub(super) fn settled(self, fate: Fate) -> Settled<R> {
        Settled { reply: self.ticket.reply, bytes: bytes(&self.record), put_at: self.ticket.put_at, fate }
    }

    /// It goes no more.
    pub(super) fn failed(self, text: String) -> Settled<R> {
        let outcome = if self.ticket.maybe_there { Outcome::Indeterminate } else { Outcome::Determinate };
        self.settled(Fate::Failed(Trouble { may_pass: None, outcome, text }))
    }

    /// The service never takes it.
    pub(super) fn refused(self, reason: String) -> Settled<R> {
        let Ticket { reply, put_at, .. } = self.ticket;
        let record = Record::of(self.record);
        let bytes = record.bytes();
        Settled { reply, bytes, put_at, fate: Fate::Refused(Box::new(RefusedRecord { reason, record })) }
    }
}

/// Records whose order is kept, or that are packed together: one hash key, one shard, or all.
pub(super) type LaneId = u128;

/// One stream record on its way.
#[derive(Debug)]
pub(super) struct Entry<R> {
    pub(super) lane: LaneId,
    /// At least one; most entries have no more.
    pub(super) items: SmallVec<[Item<R>; 1]>,
    /// Whether they go as an aggregate.
    pub(super) is_aggregate: bool,
    /// What counts towards the limit of a call.
    pub(super) bytes: usize,
    /// The shard that it should come to lie in.
    pub(super) predicted: Option<Arc<str>>,
    /// How many may be in a call with it: fewer each time a call with it was refused as a whole, until it is known which of
    /// them is to blame.
    pub(super) most_beside: usize,
    /// Its failures so far. Most have none.
    pub(super) backoff: Option<Box<Backoff>>,
}

impl<R> Entry<R> {
    pub(super) fn new(lane: LaneId, items: SmallVec<[Item<R>; 1]>, bytes: usize, is_aggregate: bool) -> Self {
        Self { lane, items, is_aggregate, bytes, predicted: None, most_beside: usize::MAX, backoff: None }
    }

    /// Of a record that goes as it is.
    pub(super) fn plain(lane: LaneId, item: Item<R>) -> Self {
        let bytes = bytes(&item.record);
        Self::new(lane, SmallVec::from_buf([item]), bytes, false)
    }

    /// The number of its first record.
    pub(super) fn number(&self) -> u64 {
        self.items.first().map_or(0, |item| item.ticket.number)
    }

    /// The place among the hash keys of its first record.
    pub(super) fn hash(&self) -> u128 {
        self.items.first().map_or(0, |item| item.ticket.hash)
    }

    /// What it looks like to the service.
    pub(super) fn wire(&self) -> Wire<'_> {
        let packing = if self.is_aggregate { Packing::Aggregate(self.hash()) } else { Packing::Plain };
        wire(self.items.iter().map(|item| &item.record), packing)
    }
}

/// Entries that go together.
#[derive(Debug)]
pub(super) struct Call<R> {
    pub(super) entries: Vec<Entry<R>>,
    pub(super) begun: Instant,
}

/// Where a stream record came to lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub(super) shard: Arc<str>,
    pub(super) sequence: Arc<str>,
}

/// What a call was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// One fate a stream record, in order.
    Each(Vec<Result<At, Failure>>),
    /// None was taken, as far as is known.
    Failed {
        failure: Failure,
        /// The call may have been carried out nevertheless: its answer was lost.
        maybe_there: bool,
        /// Something is wrong with the call itself, so with one of its records.
        blames_a_record: bool,
    },
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Placed(Placed),
    Refused(Box<RefusedRecord>),
    Failed(Trouble),
}

/// A record at its end.
#[derive(Debug)]
pub(super) struct Settled<R> {
    pub(super) reply: R,
    pub(super) bytes: usize,
    pub(super) put_at: Instant,
    pub(super) fate: Fate,
}
