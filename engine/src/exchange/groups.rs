//! Hash to key group, key group to worker.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::vocabulary::KeyGroup;

/// The key space cut into a fixed number of groups, dealt to the workers in contiguous ranges.
///
/// The number of groups is fixed at the job's first start; the number of workers may change at every start. A worker
/// owns a contiguous range, so that restoring with another number of workers reads ranges and never single keys.
///
/// # Examples
/// ```
/// use shardflow::exchange::{KeyGroups, stable_hash};
/// let groups = KeyGroups::new(256)?;
/// let group = groups.group_of(stable_hash("acme", &mut Vec::new()));
/// let worker = groups.worker_of(group, 3);
/// assert!(groups.range_of(worker, 3).contains(&group.number()));
/// # Ok::<(), shardflow::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyGroups {
    // Never 0, so that the divisions below cannot fail.
    count: u16,
}

impl KeyGroups {
    /// `count` groups, 1 to 65535. More groups than workers are needed; a few times more keep the shares even.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for 0.
    pub fn new(count: u16) -> Result<Self> {
        if count == 0 {
            return Err(Error::config("key groups \"0\" is out of range: 1 to 65535"));
        }
        Ok(Self { count })
    }

    /// How many groups there are.
    #[must_use]
    pub fn count(self) -> u16 {
        self.count
    }

    /// The group of a key with this [`stable_hash`](super::stable_hash).
    #[inline]
    #[must_use]
    pub fn group_of(self, hash: u64) -> KeyGroup {
        // The remainder is below `count`, which is a u16.
        KeyGroup::new((hash % u64::from(self.count)) as u16)
    }

    /// The worker, 0 to `workers` - 1, that owns the group: group × workers / count.
    #[inline]
    #[must_use]
    pub fn worker_of(self, group: KeyGroup, workers: usize) -> usize {
        usize::from(group.number()).saturating_mul(workers) / usize::from(self.count)
    }

    /// The groups that `worker` owns: exactly those whose [`worker_of`](Self::worker_of) it is. Empty where there is no
    /// such worker.
    #[must_use]
    pub fn range_of(self, worker: usize, workers: usize) -> Range<u16> {
        let first = |worker: usize| {
            let first = worker.saturating_mul(usize::from(self.count)).div_ceil(workers.max(1));
            u16::try_from(first).map_or(self.count, |first| first.min(self.count))
        };
        first(worker)..first(worker.saturating_add(1))
    }

    /// Checks that every worker gets a group.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for no workers at all, and for more workers than groups: some of
    /// them would never see a keyed record.
    pub fn check_workers(self, workers: usize) -> Result<()> {
        if workers == 0 {
            return Err(Error::config("workers \"0\" is out of range: at least 1"));
        }
        if workers > usize::from(self.count) {
            let groups = self.count;
            return Err(Error::config(format!(
                "workers \"{workers}\" are more than the key groups \"{groups}\": a worker without a group has no work"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_group_belongs_to_exactly_the_worker_whose_range_holds_it(count in 1_u16.., workers in 1_usize..200) {
            let groups = KeyGroups::new(count).unwrap();
            let mut next = 0;
            for worker in 0..workers {
                let range = groups.range_of(worker, workers);
                prop_assert_eq!(range.start, next, "ranges are contiguous");
                next = range.end;
                for group in range {
                    prop_assert_eq!(groups.worker_of(KeyGroup::new(group), workers), worker);
                }
            }
            prop_assert_eq!(next, count, "ranges cover all groups");
        }

        #[test]
        fn workers_own_the_same_number_of_groups_give_or_take_one(count in 1_u16.., workers in 1_usize..2000) {
            let groups = KeyGroups::new(count).unwrap();
            let shares: Vec<usize> = (0..workers).map(|worker| groups.range_of(worker, workers).len()).collect();
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{least} to {most}");
        }

        #[test]
        fn every_hash_has_a_group(count in 1_u16.., hash: u64) {
            prop_assert!(KeyGroups::new(count).unwrap().group_of(hash).number() < count);
        }
    }

    #[test]
    fn more_workers_than_groups_is_an_error_at_start() {
        let groups = KeyGroups::new(4).unwrap();
        assert!(groups.check_workers(4).is_ok());
        let error = groups.check_workers(5).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        assert!(error.to_string().contains("workers \"5\" are more than the key groups \"4\""), "{error}");
    }

    #[test]
    fn no_workers_and_no_groups_are_errors_and_never_a_panic() {
        assert!(KeyGroups::new(0).is_err());
        let groups = KeyGroups::new(256).unwrap();
        assert!(groups.check_workers(0).is_err());
        assert_eq!(groups.range_of(0, 0).len() + groups.range_of(usize::MAX, usize::MAX).len(), 256);
        assert_eq!(groups.range_of(7, 7).len(), 0);
    }
}
