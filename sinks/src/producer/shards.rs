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
    /// `None` where no shard is open: then nothing can be put, and the next listing may tell more.
    pub(super) fn new(shards: Vec<Shard>) -> Option<Self> {
        let open = shards.iter().filter(|shard| shard.is_open);
        let mut open: Vec<(u128, Arc<str>)> = open.map(|shard| (shard.range.first, Arc::clone(&shard.id))).collect();
        open.sort_unstable();
        let all = shards.into_iter().map(|shard| (shard.id, shard.range)).collect();
        (!open.is_empty()).then_some(Self { open, all })
    }

    /// The open shard that takes this hash key: the first hash key of it, and its id. Where the listing has a gap, the one below.
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
            shard("d", 200, u128::MAX, true),
        ])
        .unwrap();
        let predicted = |hash| map.predict(hash).map(|(first, id)| (first, id.to_string()));
        for (hash, first, id) in [(0, 0, "b"), (49, 0, "b"), (50, 50, "c"), (99, 50, "c"), (u128::MAX, 200, "d")] {
            assert_eq!(predicted(hash), Some((first, id.to_owned())), "{hash}");
        }
        // A gap, as no listing should have one.
        assert_eq!(predicted(150), Some((50, "c".to_owned())));
        assert_eq!(map.range("parent"), Some(Range { first: 0, last: 99 }));
        assert_eq!(map.range("other"), None);
    }

    #[test]
    fn without_an_open_shard_there_is_no_map() {
        assert_eq!(ShardMap::new(vec![shard("a", 0, 9, false)]), None);
        assert_eq!(ShardMap::new(Vec::new()), None);
    }
}
