//! What a flush waits for: records are counted in eras, and a flush ends one. Pure.

use std::collections::VecDeque;

/// How many records of each era are on their way.
#[derive(Debug)]
pub(super) struct Eras {
    /// The number of the oldest era in `open`.
    oldest: u64,
    /// The last is the one that records are put into now; never empty.
    open: VecDeque<u64>,
}

impl Default for Eras {
    fn default() -> Self {
        Self { oldest: 0, open: VecDeque::from([0]) }
    }
}

impl Eras {
    /// The era that records are put into now.
    pub(super) fn now(&self) -> u64 {
        self.oldest.saturating_add(self.open.len() as u64).saturating_sub(1)
    }

    /// One more record is on its way; gives its era.
    pub(super) fn add(&mut self) -> u64 {
        if let Some(count) = self.open.back_mut() {
            *count = count.saturating_add(1);
        }
        self.now()
    }

    /// A record of this era has come to its end.
    pub(super) fn remove(&mut self, era: u64) {
        let place = usize::try_from(era.saturating_sub(self.oldest)).unwrap_or(usize::MAX);
        if let Some(count) = self.open.get_mut(place) {
            *count = count.saturating_sub(1);
        }
        while self.open.len() > 1 && self.open.front() == Some(&0) {
            self.open.pop_front();
            self.oldest = self.oldest.saturating_add(1);
        }
    }

    /// Ends the era. Gives the number that [`are_over`](Self::are_over) is to be asked with.
    pub(super) fn end(&mut self) -> u64 {
        if self.open.back().is_some_and(|count| *count > 0) {
            self.open.push_back(0);
        }
        self.now()
    }

    /// Whether all records of the eras before this one have come to their end.
    pub(super) fn are_over(&self, before: u64) -> bool {
        self.oldest >= before
    }

    /// Whether no record is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.open.iter().all(|count| *count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_flush_waits_for_all_that_was_put_before_it_and_for_nothing_else(
            steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..300),
        ) {
            let mut eras = Eras::default();
            let mut under_way: Vec<(usize, u64)> = Vec::new();
            let mut flushes: Vec<(usize, u64)> = Vec::new();
            for (time, (step, pick)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => under_way.push((time, eras.add())),
                    2 if !under_way.is_empty() => {
                        let (_, era) = under_way.remove(pick.index(under_way.len()));
                        eras.remove(era);
                    }
                    _ => flushes.push((time, eras.end())),
                }
                for (at, before) in &flushes {
                    let waits = under_way.iter().any(|(put, _)| put < at);
                    prop_assert_eq!(eras.are_over(*before), !waits);
                }
                prop_assert_eq!(eras.is_empty(), under_way.is_empty());
            }
        }
    }
}
