//! What is told of latencies.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Microseconds up to an hour, in three digits; longer ones count as an hour.
pub(super) fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("1 µs to an hour at 3 digits is valid");
    histogram.auto(false);
    histogram
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// Half of all are no longer.
    pub(crate) p50: f64,
    /// 99 in 100.
    pub(crate) p99: f64,
    /// 999 in 1,000.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl Quantiles {
    /// Of a histogram in microseconds.
    pub(super) fn of(micros: &Histogram<u64>) -> Self {
        let millis = |quantile: f64| micros.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: millis(0.5), p99: millis(0.99), p999: millis(0.999), max: micros.max() as f64 / 1e3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds_and_exact_to_a_thousandth() {
        let mut micros = histogram();
        (1..=1_000).for_each(|latency| micros.saturating_record(latency * 10));
        let quantiles = Quantiles::of(&micros);
        for (figure, expected) in
            [(quantiles.p50, 5.0), (quantiles.p99, 9.9), (quantiles.p999, 9.99), (quantiles.max, 10.0)]
        {
            assert!((figure - expected).abs() < 0.01, "{quantiles:?}");
        }
    }
}
