//! Counts, sums and means.

use super::Aggregate;

/// Counts records. Made by [`count`].
#[derive(Debug, Clone, Copy)]
pub struct Count(());

/// How many records there are. The result is a `u64`.
#[must_use]
pub fn count() -> Count {
    Count(())
}

impl<In> Aggregate<In> for Count {
    type Acc = u64;
    type Out = u64;

    fn empty(&self) -> u64 {
        0
    }

    #[inline]
    fn add(&self, acc: &mut u64, _: &In) {
        *acc = acc.saturating_add(1);
    }

    fn merge(&self, acc: &mut u64, other: u64) {
        *acc = acc.saturating_add(other);
    }

    fn finish(&self, acc: u64) -> u64 {
        acc
    }
}

macro_rules! sum {
    ($(#[$doc:meta])* $name:ident, $(#[$fn_doc:meta])* $function:ident, $from:ty => $acc:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name<F>(F);

        $(#[$fn_doc])*
        #[must_use]
        pub fn $function<In, F: Fn(&In) -> $from + Send + Sync + 'static>(of: F) -> $name<F> {
            $name(of)
        }

        impl<In, F: Fn(&In) -> $from + Send + Sync + 'static> Aggregate<In> for $name<F> {
            type Acc = $acc;
            type Out = $acc;

            fn empty(&self) -> $acc {
                0
            }

            #[inline]
            fn add(&self, acc: &mut $acc, record: &In) {
                // 2^64 greatest numbers fit, so it never saturates.
                *acc = acc.saturating_add(<$acc>::from((self.0)(record)));
            }

            fn merge(&self, acc: &mut $acc, other: $acc) {
                *acc = acc.saturating_add(other);
            }

            fn finish(&self, acc: $acc) -> $acc {
                acc
            }
        }
    };
}

sum! {
    /// Adds unsigned numbers. Made by [`sum`].
    Sum,
    /// The sum of a number of each record. The result is a `u128`, so it never overflows.
    sum, u64 => u128
}

sum! {
    /// Adds signed numbers. Made by [`sum_i64`].
    SumI64,
    /// The sum of a signed number of each record. The result is an `i128`, so it never overflows.
    sum_i64, i64 => i128
}

/// Adds floating-point numbers. Made by [`sum_f64`].
#[derive(Debug, Clone, Copy)]
pub struct SumF64<F>(F);

/// The sum of a floating-point number of each record.
///
/// Its last digits depend on the order of the records, which a replay keeps within a split and not between splits. For
/// money, sum integers ([`sum`], [`sum_i64`]) of the smallest unit.
#[must_use]
pub fn sum_f64<In, F: Fn(&In) -> f64 + Send + Sync + 'static>(of: F) -> SumF64<F> {
    SumF64(of)
}

impl<In, F: Fn(&In) -> f64 + Send + Sync + 'static> Aggregate<In> for SumF64<F> {
    type Acc = f64;
    type Out = f64;

    fn empty(&self) -> f64 {
        0.0
    }

    #[inline]
    fn add(&self, acc: &mut f64, record: &In) {
        *acc += (self.0)(record);
    }

    fn merge(&self, acc: &mut f64, other: f64) {
        *acc += other;
    }

    fn finish(&self, acc: f64) -> f64 {
        acc
    }
}

/// Averages. Made by [`mean`].
#[derive(Debug, Clone, Copy)]
pub struct Mean<F>(F);

/// The mean of a number of each record; `None` of no records. Its last digits depend on the order, as of [`sum_f64`].
#[must_use]
pub fn mean<In, F: Fn(&In) -> f64 + Send + Sync + 'static>(of: F) -> Mean<F> {
    Mean(of)
}

impl<In, F: Fn(&In) -> f64 + Send + Sync + 'static> Aggregate<In> for Mean<F> {
    // Sum and count.
    type Acc = (f64, u64);
    type Out = Option<f64>;

    fn empty(&self) -> (f64, u64) {
        (0.0, 0)
    }

    #[inline]
    fn add(&self, acc: &mut (f64, u64), record: &In) {
        acc.0 += (self.0)(record);
        acc.1 = acc.1.saturating_add(1);
    }

    fn merge(&self, acc: &mut (f64, u64), other: (f64, u64)) {
        acc.0 += other.0;
        acc.1 = acc.1.saturating_add(other.1);
    }

    fn finish(&self, (sum, count): (f64, u64)) -> Option<f64> {
        (count > 0).then(|| sum / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::window::aggregate::tests_support::{adding, merging};

    proptest! {
        #[test]
        fn totals_equal_the_naive_ones_however_they_are_merged(numbers: Vec<u64>, cut: prop::sample::Index) {
            let naive: u128 = numbers.iter().map(|&n| u128::from(n)).sum();
            prop_assert_eq!(adding(&sum(|n: &u64| *n), &numbers), naive);
            prop_assert_eq!(merging(&sum(|n: &u64| *n), &numbers, cut), naive);
            prop_assert_eq!(merging(&count(), &numbers, cut), numbers.len() as u64);
        }

        #[test]
        fn signed_totals_equal_the_naive_ones(numbers: Vec<i64>, cut: prop::sample::Index) {
            let naive: i128 = numbers.iter().map(|&n| i128::from(n)).sum();
            prop_assert_eq!(merging(&sum_i64(|n: &i64| *n), &numbers, cut), naive);
        }

        #[test]
        fn means_and_float_sums_are_the_naive_ones(numbers: Vec<i32>, cut: prop::sample::Index) {
            // Small integers add without rounding, so even these must agree to the bit.
            let naive: f64 = numbers.iter().map(|&n| f64::from(n)).sum();
            prop_assert_eq!(merging(&sum_f64(|n: &i32| f64::from(*n)), &numbers, cut), naive);
            let mean = merging(&mean(|n: &i32| f64::from(*n)), &numbers, cut);
            prop_assert_eq!(mean, (!numbers.is_empty()).then(|| naive / numbers.len() as f64));
        }
    }

    #[test]
    fn a_sum_of_the_greatest_numbers_does_not_overflow() {
        assert_eq!(adding(&sum(|n: &u64| *n), &[u64::MAX, u64::MAX]), 2 * u128::from(u64::MAX));
        assert_eq!(adding(&sum_i64(|n: &i64| *n), &[i64::MIN, i64::MIN]), 2 * i128::from(i64::MIN));
    }
}
