//! When a batch is full. Pure.

/// The most that a batch may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Records, at least 1.
    pub records: usize,
    /// Bytes, as [`BatchWriter::bytes`](super::BatchWriter::bytes) counts them. A larger record goes alone.
    pub bytes: usize,
}

impl Batching {
    /// The smaller of both, in either respect.
    #[must_use]
    pub fn at_most(self, other: Self) -> Self {
        Self { records: self.records.min(other.records).max(1), bytes: self.bytes.min(other.bytes) }
    }
}

/// Entries on their way together.
#[derive(Debug)]
pub(super) struct Batch<E> {
    pub(super) entries: Vec<E>,
    pub(super) bytes: usize,
}

/// Cuts a row of entries into batches.
#[derive(Debug)]
pub(super) struct Batcher<E> {
    most: Batching,
    next: Batch<E>,
    /// How many were cut. Tells whether a batch is still the one that was seen.
    cut: u64,
}

impl<E> Batcher<E> {
    pub(super) fn new(most: Batching) -> Self {
        Self { most, next: Batch { entries: Vec::new(), bytes: 0 }, cut: 0 }
    }

    /// The number of the batch that waits for more; `None` where none does.
    pub(super) fn waits(&self) -> Option<u64> {
        (!self.next.entries.is_empty()).then_some(self.cut)
    }

    /// Adds an entry of so many bytes. Gives the batch that it does not fit into any more.
    pub(super) fn push(&mut self, entry: E, bytes: usize) -> Option<Batch<E>> {
        let fits =
            self.next.entries.len() < self.most.records && self.next.bytes.saturating_add(bytes) <= self.most.bytes;
        let full = if fits { None } else { self.cut() };
        self.next.entries.push(entry);
        self.next.bytes = self.next.bytes.saturating_add(bytes);
        full
    }

    /// What is left; `None` where nothing is.
    pub(super) fn cut(&mut self) -> Option<Batch<E>> {
        let number = self.waits()?;
        self.cut = number.saturating_add(1);
        Some(std::mem::replace(&mut self.next, Batch { entries: Vec::new(), bytes: 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_keep_the_order_and_the_limits_and_are_no_smaller_than_they_must_be(
            sizes in proptest::collection::vec(0usize..40, 0..200), records in 1usize..20, bytes in 0usize..100,
        ) {
            let most = Batching { records, bytes };
            let mut batcher = Batcher::new(most);
            let mut batches: Vec<Batch<usize>> = sizes.iter().enumerate().filter_map(|(n, size)| batcher.push(n, *size)).collect();
            batches.extend(batcher.cut());
            let seen: Vec<usize> = batches.iter().flat_map(|batch| batch.entries.clone()).collect();
            prop_assert_eq!(seen, (0..sizes.len()).collect::<Vec<_>>());
            for (batch, next) in batches.iter().zip(batches.iter().skip(1).map(Some).chain([None])) {
                let weight: usize = batch.entries.iter().map(|n| sizes[*n]).sum();
                prop_assert_eq!(batch.bytes, weight);
                prop_assert!(batch.entries.len() <= records && (weight <= bytes || batch.entries.len() == 1));
                if let Some(first) = next.map(|next| sizes[next.entries[0]]) {
                    prop_assert!(batch.entries.len() == records || weight + first > bytes, "it had room for one more");
                }
            }
        }
    }
}
