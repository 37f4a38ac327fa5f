//! Which shards to open, and from where: a child not before its parents have been read to their end. Pure.

use std::collections::BTreeMap;

use crate::stream::Shard;

/// The shards of a stream that is being followed.
#[derive(Debug, Default)]
pub(super) struct Following {
    shards: BTreeMap<String, Followed>,
}

#[derive(Debug)]
struct Followed {
    parents: Vec<String>,
    /// Whether it was there when the following began, so that it begins where the listener wished.
    from_start: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    BeingRead,
    Ended,
}

/// A shard to open now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) shard: String,
    /// From where the listener wished; otherwise from its beginning, since all of it is new.
    pub(super) from_start: bool,
}

impl Following {
    /// The shards as the following begins. `only_new`: what they hold already is not wanted, so closed ones have ended.
    pub(super) fn first_listing(&mut self, listed: &[Shard], only_new: bool) {
        for shard in listed {
            let state = if only_new && !shard.is_open() { State::Ended } else { State::Waiting };
            self.add(shard, true, state);
        }
    }

    /// The shards as they are listed later.
    pub(super) fn later_listing(&mut self, listed: &[Shard]) {
        for shard in listed.iter().filter(|shard| !self.shards.contains_key(&shard.id)).collect::<Vec<_>>() {
            self.add(shard, false, State::Waiting);
        }
    }

    fn add(&mut self, shard: &Shard, from_start: bool, state: State) {
        self.shards.insert(shard.id.clone(), Followed { parents: shard.parents.clone(), from_start, state });
    }

    /// A shard has been read to its end.
    pub(super) fn ended(&mut self, shard: &str) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.state = State::Ended;
        }
    }

    /// The shards whose parents have all ended, or have expired, or are not followed. Each is given once.
    pub(super) fn take_ready(&mut self) -> Vec<Ready> {
        let has_ended = |id: &String| self.shards.get(id).is_none_or(|parent| parent.state == State::Ended);
        let is_ready = |shard: &Followed| shard.state == State::Waiting && shard.parents.iter().all(has_ended);
        let ready: Vec<String> =
            self.shards.iter().filter(|(_, shard)| is_ready(shard)).map(|(id, _)| id.clone()).collect();
        let mut taken = Vec::with_capacity(ready.len());
        for id in ready {
            if let Some(shard) = self.shards.get_mut(&id) {
                shard.state = State::BeingRead;
                taken.push(Ready { shard: id, from_start: shard.from_start });
            }
        }
        taken
    }

    pub(super) fn all_ended(&self) -> bool {
        self.shards.values().all(|shard| shard.state == State::Ended)
    }

    pub(super) fn being_read(&self) -> usize {
        self.shards.values().filter(|shard| shard.state == State::BeingRead).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::shards::tests::shard;

    fn ids(ready: &[Ready]) -> Vec<(&str, bool)> {
        ready.iter().map(|ready| (ready.shard.as_str(), ready.from_start)).collect()
    }

    #[test]
    fn children_wait_for_all_their_parents() {
        let mut following = Following::default();
        let listed = [
            shard("a", &["expired"], 0, 9, false),
            shard("b", &[], 10, 19, false),
            shard("c", &["a", "b"], 0, 19, true),
        ];
        following.first_listing(&listed, false);
        assert_eq!(ids(&following.take_ready()), [("a", true), ("b", true)]);
        assert!(following.take_ready().is_empty());
        following.ended("a");
        assert!(following.take_ready().is_empty());
        following.ended("b");
        assert_eq!(ids(&following.take_ready()), [("c", true)]);
        assert_eq!((following.being_read(), following.all_ended()), (1, false));
        following.ended("c");
        assert!(following.all_ended());
    }

    #[test]
    fn who_wants_only_what_is_new_begins_with_the_open_shards_and_reads_later_ones_whole() {
        let mut following = Following::default();
        let old = [shard("a", &[], 0, 9, false), shard("b", &["a"], 0, 9, true)];
        following.first_listing(&old, true);
        assert_eq!(ids(&following.take_ready()), [("b", true)]);
        following.later_listing(&[old[1].clone(), shard("c", &["b"], 0, 9, true)]);
        assert!(following.take_ready().is_empty());
        following.ended("b");
        assert_eq!(ids(&following.take_ready()), [("c", false)]);
    }
}
