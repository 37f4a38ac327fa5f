//! The least and the greatest.

use super::Aggregate;
use crate::vocabulary::State;

macro_rules! extreme {
    ($(#[$doc:meta])* $name:ident, $(#[$fn_doc:meta])* $function:ident, $better:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name<F>(F);

        $(#[$fn_doc])*
        #[must_use]
        pub fn $function<In, T: Ord + State, F: Fn(&In) -> T + Send + Sync + 'static>(of: F) -> $name<F> {
            $name(of)
        }

        impl<F> $name<F> {
            fn offer<T: Ord>(acc: &mut Option<T>, new: T) {
                if acc.as_ref().is_none_or(|best| new $better *best) {
                    *acc = Some(new);
                }
            }
        }

        impl<In, T: Ord + State, F: Fn(&In) -> T + Send + Sync + 'static> Aggregate<In> for $name<F> {
            type Acc = Option<T>;
            type Out = Option<T>;

            fn empty(&self) -> Option<T> {
                None
            }

            #[inline]
            fn add(&self, acc: &mut Option<T>, record: &In) {
                Self::offer(acc, (self.0)(record));
            }

            fn merge(&self, acc: &mut Option<T>, other: Option<T>) {
                if let Some(other) = other {
                    Self::offer(acc, other);
                }
            }

            fn finish(&self, acc: Option<T>) -> Option<T> {
                acc
            }
        }
    };
}

extreme! {
    /// Keeps the least. Made by [`min`].
    Min,
    /// The least of a value of each record; `None` of no records. Floats have no total order: use an integer, or a
    /// type of yours that orders them.
    min, <
}

extreme! {
    /// Keeps the greatest. Made by [`max`].
    Max,
    /// The greatest of a value of each record; `None` of no records. Floats have no total order: use an integer, or a
    /// type of yours that orders them.
    max, >
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::window::aggregate::tests_support::merging;

    proptest! {
        #[test]
        fn extremes_equal_the_naive_ones_however_they_are_merged(words: Vec<String>, cut: prop::sample::Index) {
            prop_assert_eq!(merging(&min(|word: &String| word.clone()), &words, cut), words.iter().min().cloned());
            prop_assert_eq!(merging(&max(|word: &String| word.clone()), &words, cut), words.iter().max().cloned());
        }
    }
}
