//! Which shard records are packed for, and what to do when they come to lie in another. Pure: time is handed in.
//!
//! An answer that names another shard than predicted says that the stream has been resharded. From then on nothing goes out until
//! the shards have been listed anew, at most once a second. Then each record of such an aggregate is looked at by itself: one
//! whose hash key the shard does take is where it belongs; any other is sent again, to its own shard, because the Kinesis
//! Client Library drops what lies in a shard that its hash key is not of.
//!
//! Where the shards cannot be listed, or the listing does not come to know the shard, nobody can tell. Then each record goes alone,
//! to the shard of its own hash key whichever that is, and the shards are asked for again each minute.
//!
//! A stream may place records by something else than their hash keys. Where an aggregate does not lie where its own hash key says,
//! by a new listing, predictions are of no use: they are not compared with answers any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::item::{At, Entry, Item, LaneId};
use super::receipt::Placed;
use super::shards::{Range, ShardMap};

/// How often the shards are listed at most.
const LISTING_INTERVAL: Duration = Duration::from_secs(1);

/// How often, while records go alone because there is no listing to be had.
const BLIND_INTERVAL: Duration = Duration::from_secs(60);

/// How many listings in a row may not know a shard that an answer named.
const MOST_TRIES: u32 = 5;

/// The shards as they are known, and what waits for knowing them better.
#[derive(Debug)]
pub(super) struct Placing<R> {
    map: ShardMap,
    /// An answer has named another shard than predicted: where, and for which hash key.
    differs: Option<(Arc<str>, u128)>,
    in_doubt: Vec<(Entry<R>, At)>,
    listing: Listing,
    listed_at: Option<Instant>,
    tries: u32,
    is_by_hash: bool,
    /// It is not known where aggregates would come to lie.
    is_blind: bool,
}

#[derive(Debug)]
enum Listing {
    Idle,
    Asked,
    /// `None`: the shards could not be listed.
    Answered(Option<ShardMap>),
}

/// What a new listing says about those in doubt.
#[derive(Debug)]
pub(super) struct Resolved<R> {
    /// They are where they belong.
    pub(super) placed: Vec<(Item<R>, Placed)>,
    /// They are to be sent again.
    pub(super) again: Vec<Item<R>>,
    /// A shard by which it shows that the stream does not place records by their hash keys.
    pub(super) unpredictable: Option<Arc<str>>,
}

impl<R> Placing<R> {
    pub(super) fn new(map: ShardMap) -> Self {
        Self {
            map,
            differs: None,
            in_doubt: Vec::new(),
            listing: Listing::Idle,
            listed_at: None,
            tries: 0,
            is_by_hash: true,
            is_blind: false,
        }
    }

    /// The lane of the shard that this hash key lies in, and the shard.
    pub(super) fn predict(&self, hash: u128) -> (LaneId, Option<Arc<str>>) {
        self.map.predict(hash).map_or((0, None), |(first, id)| (first, Some(Arc::clone(id))))
    }

    /// Whether nothing may go until the shards are known better.
    pub(super) fn is_stale(&self) -> bool {
        self.differs.is_some() || matches!(self.listing, Listing::Answered(_))
    }

    /// Whether each record has to go alone.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// An entry came to lie somewhere. Gives it back unless it is in doubt whether all of it lies where it belongs.
    pub(super) fn landed(&mut self, entry: Entry<R>, at: At) -> Option<(Entry<R>, At)> {
        let is_as_predicted = entry.predicted.as_ref().is_none_or(|shard| *shard == at.shard);
        if is_as_predicted || !self.is_by_hash || self.is_blind {
            return Some((entry, at));
        }
        let own = entry.hash();
        self.differs = Some((Arc::clone(&at.shard), own));
        // It was sent to this hash key, so that is where it is.
        if entry.items.iter().all(|item| item.ticket.hash == own) {
            return Some((entry, at));
        }
        self.in_doubt.push((entry, at));
        None
    }

    /// When the shards are to be listed, where that has not been asked for yet.
    pub(super) fn lists_at(&self, now: Instant) -> Option<Instant> {
        let interval = if self.is_blind { BLIND_INTERVAL } else { LISTING_INTERVAL };
        let is_due = (self.differs.is_some() || self.is_blind) && matches!(self.listing, Listing::Idle);
        is_due.then(|| self.listed_at.map_or(now, |at| (at + interval).max(now)))
    }

    /// It has been asked for.
    pub(super) fn asked(&mut self, now: Instant) {
        self.listing = Listing::Asked;
        self.listed_at = Some(now);
    }

    /// The new listing; `None` where there is none to be had.
    pub(super) fn listed(&mut self, map: Option<ShardMap>) {
        self.listing = Listing::Answered(map);
    }

    /// Decides about those in doubt, where there is a new listing. Only while nothing is on its way.
    pub(super) fn resolve(&mut self) -> Option<Resolved<R>> {
        if !matches!(self.listing, Listing::Answered(_)) {
            return None;
        }
        let Listing::Answered(map) = std::mem::replace(&mut self.listing, Listing::Idle) else { return None };
        let Some(map) = map else {
            self.is_blind = true;
            return Some(self.resolved(|_| None));
        };
        (self.map, self.is_blind) = (map, false);
        let Some((shard, own)) = &self.differs else { return Some(self.resolved(|_| None)) };
        let own_range = self.map.range(shard);
        let is_unknown = own_range.is_none() || self.in_doubt.iter().any(|(_, at)| self.map.range(&at.shard).is_none());
        if is_unknown && self.tries < MOST_TRIES {
            self.tries = self.tries.saturating_add(1);
            return None;
        }
        self.is_blind = is_unknown;
        self.is_by_hash = own_range.is_none_or(|range| range.contains(*own));
        if !self.is_by_hash {
            let shard = Arc::clone(shard);
            return Some(Resolved { unpredictable: Some(shard), ..self.resolved(|_| Some(Range::ALL)) });
        }
        let map = self.map.clone();
        Some(self.resolved(|shard| map.range(shard)))
    }

    /// Nothing is in doubt any more: what lies in a shard outside of its range goes again. Where the range is not known, only what an
    /// aggregate was sent by is where it belongs.
    fn resolved(&mut self, range: impl Fn(&str) -> Option<Range>) -> Resolved<R> {
        (self.differs, self.tries) = (None, 0);
        let mut resolved = Resolved { placed: Vec::new(), again: Vec::new(), unpredictable: None };
        for (entry, at) in std::mem::take(&mut self.in_doubt) {
            let own = Range { first: entry.hash(), last: entry.hash() };
            let range = range(&at.shard).unwrap_or(own);
            for (mut item, placed) in placed(entry, &at) {
                if range.contains(item.ticket.hash) {
                    resolved.placed.push((item, placed));
                } else {
                    item.ticket.maybe_there = true;
                    resolved.again.push(item);
                }
            }
        }
        resolved
    }

    /// Everything that is in doubt, at the producer's end.
    pub(super) fn take_all(&mut self) -> Vec<Entry<R>> {
        std::mem::take(&mut self.in_doubt).into_iter().map(|(entry, _)| entry).collect()
    }
}

/// The records of an entry, with where they are.
pub(super) fn placed<R>(entry: Entry<R>, at: &At) -> impl Iterator<Item = (Item<R>, Placed)> {
    let is_aggregate = entry.is_aggregate;
    entry.items.into_iter().zip(0..).map(move |(item, place)| {
        let placed = Placed {
            shard: Arc::clone(&at.shard),
            sequence: Arc::clone(&at.sequence),
            sub_sequence: is_aggregate.then_some(place),
            maybe_repeated: item.ticket.maybe_there,
        };
        (item, placed)
    })
}

#[cfg(test)]
#[path = "placing_tests.rs"]
mod tests;
