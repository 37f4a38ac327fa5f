//! Which shard a hash key lies in, as far as the last listing tells. Pure.

use std::collections::HashMap;
use std::sync::Arc;

/// The hash keys of a shard, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Range {
    pub(super) const ALL: Self = Self { first: 0, last: u128::MAX };

    pub(super) fn contains(self, hash: u128) -> bool {
        (self.first..=self.last).contains(&hash)
    }
}

/// A shard as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) id: Arc<str>,
    pub(super) range: Range,
    /// Whether it takes records.
    pub(super) is_open: bool,
}

/// The shards of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardMap {
    /// By their first hash keys; at least one.
    open: Vec<(u128, Arc<str>)>,
    all: HashMap<Arc<str>, Range>,
}

impl ShardMap {
    /// `None` where there are hash keys that no open shard takes: it was listed in the middle of a reshard, and the next listing
    /// tells more.
    pub(super) fn new(shards: Vec<Shard>) -> Option<Self> {
        let mut open: Vec<&Shard> = shards.iter().filter(|shard| shard.is_open).collect();
        open.sort_unstable_by_key(|shard| shard.range.first);
        // The first hash key that none takes of those seen; `None`: there is none.
        let mut next = Some(0_u128);
        for shard in &open {
            if next.is_some_and(|next| shard.range.first > next) {
                return None;
            }
            next = next.and_then(|next| Some(shard.range.last.checked_add(1)?.max(next)));
        }
        let open = open.into_iter().map(|shard| (shard.range.first, Arc::clone(&shard.id))).collect();
        let all = shards.iter().map(|shard| (Arc::clone(&shard.id), shard.range)).collect();
        next.is_none().then_some(Self { open, all })
    }

    /// The open shard that takes this hash key: the first hash key of it, and its id.
    pub(super) fn predict(&self, hash: u128) -> Option<(u128, &Arc<str>)> {
        let above = self.open.partition_point(|(first, _)| *first <= hash);
        self.open.get(above.saturating_sub(1)).map(|(first, id)| (*first, id))
    }

    /// The hash keys of a shard, open or closed.
    pub(super) fn range(&self, shard: &str) -> Option<Range> {
        self.all.get(shard).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, first: u128, last: u128, is_open: bool) -> Shard {
        Shard { id: id.into(), range: Range { first, last }, is_open }
    }

    #[test]
    fn a_hash_key_is_predicted_to_lie_in_the_open_shard_that_takes_it() {
        let map = ShardMap::new(vec![
            shard("c", 50, 99, true),
            shard("parent", 0, 99, false),
            shard("b", 0, 49, true),
            shard("d", 100, u128::MAX, true),
        ])
        .unwrap();
        let predicted = |hash| map.predict(hash).map(|(first, id)| (first, id.to_string()));
        for (hash, first, id) in [(0, 0, "b"), (49, 0, "b"), (50, 50, "c"), (99, 50, "c"), (u128::MAX, 100, "d")] {
            assert_eq!(predicted(hash), Some((first, id.to_owned())), "{hash}");
        }
        assert_eq!(map.range("parent"), Some(Range { first: 0, last: 99 }));
        assert_eq!(map.range("other"), None);
    }

    #[test]
    fn where_hash_keys_have_no_open_shard_there_is_no_map() {
        let (low, high) = (|is_open| shard("low", 0, 99, is_open), |is_open| shard("high", 100, u128::MAX, is_open));
        assert_eq!(ShardMap::new(Vec::new()), None);
        for listed in [
            vec![shard("all", 0, u128::MAX, false)],
            vec![low(true), high(false)],
            vec![low(false), high(true)],
            vec![low(true), shard("b", 101, u128::MAX, true)],
        ] {
            assert_eq!(ShardMap::new(listed.clone()), None, "{listed:?}");
        }
        // A parent may still be listed as open beside its children.
        for parent in [shard("p", 0, u128::MAX, true), shard("p", 10, 90, true)] {
            assert!(ShardMap::new(vec![parent, low(true), high(true)]).is_some());
        }
    }
}
