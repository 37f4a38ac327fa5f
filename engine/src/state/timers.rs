//! Event times at which keys want to be looked at again.

use std::collections::HashMap;
use std::time::Duration;

use super::WindowState;
use super::changelog::{ChangelogWriter, Table};
use crate::error::Result;
use crate::vocabulary::{EventTime, Key, KeyGroup, Window};

/// The timers of a step: at most one a key and event time.
///
/// *In:* a key and an event time. *Out:* due timers from [`fire_through`](Self::fire_through), the earliest first; changes
/// from [`drain_changes`](Self::drain_changes), once an epoch. *After a crash:* empty, until [`restore`](Self::restore) was
/// called with every live entry.
///
/// A timer is an empty window that ends at its time, so that there is one order of closing and one stored form.
///
/// # Examples
/// ```
/// use shardflow::state::Timers;
/// use shardflow::vocabulary::{EventTime, KeyGroup};
/// let mut timers = Timers::<String>::new();
/// timers.set(EventTime::from_millis(50), 17, KeyGroup::new(1), &"acct".to_owned());
/// assert!(timers.fire_through(EventTime::from_millis(49)).is_empty());
/// assert_eq!(timers.fire_through(EventTime::from_millis(50)), [(EventTime::from_millis(50), vec!["acct".to_owned()])]);
/// ```
#[derive(Debug)]
pub struct Timers<K> {
    pending: WindowState<K, ()>,
}

impl<K: Key> Default for Timers<K> {
    fn default() -> Self {
        Self::new()
    }
}

fn moment(at: EventTime) -> Window {
    Window::new(at, at)
}

impl<K: Key> Timers<K> {
    /// No timers.
    #[must_use]
    pub fn new() -> Self {
        Self { pending: WindowState::new() }
    }

    /// Sets a timer. Setting it again changes nothing.
    pub fn set(&mut self, at: EventTime, hash: u64, group: KeyGroup, key: &K) {
        self.pending.upsert(moment(at), hash, group, key, || ());
    }

    /// Takes a timer back. Says whether there was one.
    pub fn clear(&mut self, at: EventTime, hash: u64, key: &K) -> bool {
        self.pending.remove(moment(at), hash, key).is_some()
    }

    /// Removes the timers at or before `watermark`, the earliest first. Those of one time come in no particular order.
    pub fn fire_through(&mut self, watermark: EventTime) -> Vec<(EventTime, Vec<K>)> {
        let fired = self.pending.fire_through(watermark, Duration::ZERO).into_iter();
        fired.map(|(window, keys)| (window.end(), keys.into_iter().map(|(key, ())| key).collect())).collect()
    }

    /// The time of each key's last timer.
    #[must_use]
    pub fn last_of_each(&self) -> HashMap<K, EventTime> {
        // Windows come by their ends, so the last one wins.
        self.pending.iter().map(|(window, key, ())| (key.clone(), window.end())).collect()
    }

    /// The time of the timer that is due next.
    #[must_use]
    pub fn earliest(&self) -> Option<EventTime> {
        self.pending.least_end()
    }

    /// Number of timers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes that the timers take in memory, without what keys own on the heap.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// Appends what changed since the last call, and forgets that it changed.
    ///
    /// # Errors
    /// A key cannot be encoded. The job must stop: part of the changes is lost to these timers.
    pub fn drain_changes(&mut self, table: Table, changes: &mut ChangelogWriter) -> Result<()> {
        self.pending.drain_changes(table, changes)
    }

    /// Puts back one timer of the snapshot. `hash_of` computes the hash that `set` will use.
    ///
    /// # Errors
    /// The bytes are not those of a timer of a `K`.
    pub fn restore(
        &mut self,
        group: KeyGroup,
        hash_of: impl FnOnce(&K) -> u64,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        self.pending.restore(group, hash_of, key, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> EventTime {
        EventTime::from_millis(millis)
    }

    #[test]
    fn timers_fire_once_in_order_and_cleared_ones_never() {
        let mut timers = Timers::<u8>::new();
        for (millis, key) in [(30, 1), (10, 2), (30, 1), (10, 3), (20, 4)] {
            timers.set(at(millis), u64::from(key), KeyGroup::new(0), &key);
        }
        assert!(timers.clear(at(20), 4, &4));
        assert!(!timers.clear(at(20), 4, &4));
        assert_eq!((timers.len(), timers.earliest()), (3, Some(at(10))));
        assert_eq!(timers.last_of_each(), [(1, at(30)), (2, at(10)), (3, at(10))].into());
        assert_eq!(timers.fire_through(at(40)), [(at(10), vec![2, 3]), (at(30), vec![1])]);
        assert!(timers.is_empty());
    }
}
