//! What is computed over the records of a window.
//!
//! Records enter one at a time by [`Aggregate::add`], a result leaves by [`Aggregate::finish`]. In between lives the
//! accumulator, which is state: it is written to the snapshot, restored after a crash and added to from there.
//!
//! All built-in aggregates but [`sum_f64`] and [`mean`] give the same result whatever the order of the records, so a
//! replay gives the same result to the bit. Those two add floating-point numbers, whose last digits depend on the order.
//!
//! Several are computed in one pass by a tuple of them:
//!
//! ```
//! use shardflow::window::aggregate::{Aggregate, count, max, sum};
//! struct Usage { qty: u64 }
//!
//! let totals = (sum(|u: &Usage| u.qty), count(), max(|u: &Usage| u.qty));
//! let mut acc = totals.empty();
//! for qty in [3, 9, 4] {
//!     totals.add(&mut acc, &Usage { qty });
//! }
//! assert_eq!(totals.finish(acc), (16, 3, Some(9)));
//! ```

mod distinct;
mod extreme;
mod total;
mod tuple;

pub use distinct::{Distinct, DistinctSketch, distinct};
pub use extreme::{Max, Min, max, min};
pub use total::{Count, Mean, Sum, SumF64, SumI64, count, mean, sum, sum_f64, sum_i64};

use crate::vocabulary::State;

/// A computation over the records of a window: an accumulator that takes records and gives a result.
///
/// `merge` must be associative and agree with `add`: adding some records to one accumulator and the rest to another and
/// merging the two is the same as adding all of them to one. Overlapping windows rely on it: each keeps no accumulator of
/// its own, but is merged of those of shorter spans, in the order of time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not aggregate `{In}`",
    label = "not an aggregate of `{In}`",
    note = "built-in ones take a closure over the record: `sum(|u: &Usage| u.qty)`"
)]
pub trait Aggregate<In>: Send + Sync + 'static {
    /// What is kept while the window is open.
    type Acc: State;
    /// The result.
    type Out;

    /// The accumulator of no records.
    fn empty(&self) -> Self::Acc;

    /// Takes a record.
    fn add(&self, acc: &mut Self::Acc, record: &In);

    /// Takes all that `other` has taken.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);

    /// The result of what was taken.
    fn finish(&self, acc: Self::Acc) -> Self::Out;
}

#[cfg(test)]
mod tests_support {
    use proptest::sample::Index;

    use super::Aggregate;

    /// The result of all records, added one by one.
    pub(super) fn adding<In, A: Aggregate<In>>(aggregate: &A, records: &[In]) -> A::Out {
        let mut acc = aggregate.empty();
        records.iter().for_each(|record| aggregate.add(&mut acc, record));
        aggregate.finish(acc)
    }

    /// The result of all records, added to two accumulators that are then merged.
    pub(super) fn merging<In, A: Aggregate<In>>(aggregate: &A, records: &[In], cut: Index) -> A::Out {
        let (left, right) = records.split_at(cut.index(records.len() + 1));
        let (mut acc, mut other) = (aggregate.empty(), aggregate.empty());
        left.iter().for_each(|record| aggregate.add(&mut acc, record));
        right.iter().for_each(|record| aggregate.add(&mut other, record));
        aggregate.merge(&mut acc, other);
        aggregate.finish(acc)
    }
}
