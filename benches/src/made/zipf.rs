//! Keys as unevenly met as words: the key of rank `r` in proportion to `1 / r^s`.

/// The constant of Weyl's sequence in splitmix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Stirs all bits of a number: splitmix64 at step `number`. One to one.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws `count` ranks, 0 the most frequent, of `keys`; by inverting the sum of probabilities, which is exact. The same seed
/// gives the same ranks. An `exponent` of 0 is uniform.
pub(crate) fn ranks(keys: u32, exponent: f64, count: usize, seed: u64) -> Vec<u32> {
    let mut below = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            below += f64::from(rank).powf(-exponent);
            below
        })
        .collect();
    let last = keys.saturating_sub(1);
    let draw = |index: u64| {
        // 53 bits: as many as a float between 0 and 1 has.
        let uniform = (mix(seed ^ mix(index)) >> 11) as f64 / (1_u64 << 53) as f64;
        let rank = sums.partition_point(|sum| *sum <= uniform * below);
        u32::try_from(rank).unwrap_or(last).min(last)
    };
    (0..count as u64).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(exponent: f64) -> Vec<f64> {
        const COUNT: usize = 200_000;
        let mut met = vec![0.0; 100];
        for rank in ranks(100, exponent, COUNT, 7) {
            met[rank as usize] += 1.0 / COUNT as f64;
        }
        met
    }

    #[test]
    fn ranks_are_met_as_often_as_zipf_says() {
        for exponent in [0.0, 1.1, 1.5] {
            let whole: f64 = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for (index, share) in shares(exponent).iter().enumerate() {
                let expected = ((index + 1) as f64).powf(-exponent) / whole;
                // Five standard deviations.
                let allowed = 5.0 * (expected / 200_000.0).sqrt();
                assert!((share - expected).abs() < allowed, "{exponent}: rank {index}: {share} for {expected}");
            }
        }
    }

    #[test]
    fn a_seed_decides() {
        assert_eq!(ranks(1_000, 1.1, 50, 3), ranks(1_000, 1.1, 50, 3));
        assert_ne!(ranks(1_000, 1.1, 50, 3), ranks(1_000, 1.1, 50, 4));
        assert!(ranks(1, 1.5, 20, 3).iter().all(|rank| *rank == 0));
    }

    #[test]
    fn stirring_is_splitmix() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(1), 0x6e78_9e6a_a1b9_65f4);
    }
}
