//! The little arithmetic behind the figures.

use std::time::Duration;

use crate::child::Usage;

/// The middle one of some values, the lower of two; the default where there are none.
pub(crate) fn median<T: Ord + Copy + Default>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// `part / whole`; 0 where there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// What several runs of one program come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Speed {
    /// Median time.
    pub(crate) elapsed: Duration,
    /// Shortest time.
    pub(crate) best: Duration,
    /// Records a second, by the median time.
    pub(crate) rate: f64,
    /// Processor seconds for a million records, median.
    pub(crate) cpu_per_million: f64,
    /// Greatest peak memory, in bytes. Not the median: a limit must hold each time.
    pub(crate) peak: u64,
}

impl Speed {
    /// Of runs over `records` records each.
    pub(crate) fn of(runs: &[Usage], records: u64) -> Self {
        let elapsed = median(runs.iter().map(|run| run.elapsed));
        let cpu = median(runs.iter().map(|run| run.cpu));
        Self {
            elapsed,
            best: runs.iter().map(|run| run.elapsed).min().unwrap_or_default(),
            rate: ratio(records as f64, elapsed.as_secs_f64()),
            cpu_per_million: ratio(cpu.as_secs_f64(), records as f64 / 1e6),
            peak: runs.iter().map(|run| run.peak).max().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_a_value_that_was_measured() {
        assert_eq!(median([3, 1, 2]), 2);
        assert_eq!(median([4, 1, 3, 2]), 2);
        assert_eq!(median([7]), 7);
        assert_eq!(median(Vec::<u8>::new()), 0);
    }

    #[test]
    fn ratio_to_nothing_is_nothing() {
        assert_eq!((ratio(1.0, 4.0), ratio(1.0, 0.0)), (0.25, 0.0));
    }

    #[test]
    fn speed_takes_median_times_and_the_greatest_memory() {
        let run =
            |seconds, cpu, peak| Usage { elapsed: Duration::from_secs(seconds), cpu: Duration::from_secs(cpu), peak };
        let speed = Speed::of(&[run(9, 4, 70), run(2, 6, 50), run(4, 8, 60)], 2_000_000);
        assert_eq!((speed.elapsed, speed.best), (Duration::from_secs(4), Duration::from_secs(2)));
        assert_eq!((speed.rate, speed.cpu_per_million, speed.peak), (500_000.0, 3.0, 70));
    }
}
