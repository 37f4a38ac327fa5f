//! The little arithmetic behind the figures.

use serde::{Deserialize, Serialize};

/// `part / whole`; 0 where there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// What several runs come to: the middle one, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// A value that was measured: the lower of two middle ones.
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
    pub(crate) runs: usize,
}

impl Spread {
    /// Of the values of all runs; zeros where there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        Self { median: at(last / 2), least: at(0), greatest: at(last), runs: values.len() }
    }

    /// Of one run.
    pub(crate) fn once(value: f64) -> Self {
        Self::of([value])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_a_value_that_was_measured() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, greatest: 3.0, runs: 3 });
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]).median, 2.0);
        assert_eq!(Spread::once(7.0), Spread { median: 7.0, least: 7.0, greatest: 7.0, runs: 1 });
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn ratio_to_nothing_is_nothing() {
        assert_eq!((ratio(1.0, 4.0), ratio(1.0, 0.0)), (0.25, 0.0));
    }
}
