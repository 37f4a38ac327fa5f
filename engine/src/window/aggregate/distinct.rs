//! How many different values there are, by HyperLogLog.
//!
//! The sketch is `datasketches` (Apache DataSketches for Rust): no unsafe code, a serialized form that is specified and
//! shared with its Java and C++ versions, and an estimate that does not depend on the order of insertion.
//! (`cardinality-estimator` was tried first: it serializes a heap pointer, and its running `f32` sum makes the estimate
//! depend on the order, so that a replay could publish another number.)

use std::cell::Cell;
use std::fmt;

use datasketches::hll::{Coupon, HllSketch, HllType, HllUnion};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Aggregate;
use crate::exchange::stable_hash;

/// 2^12 registers: 3 KiB at most, standard error 1.04 / √4096 = 1.6 %.
const LG_REGISTERS: u8 = 12;

/// Estimates the number of different values. Made by [`distinct`].
#[derive(Debug, Clone, Copy)]
pub struct Distinct<F>(F);

/// About how many different values the records have. The result is a `u64`.
///
/// Up to about 380 different values it is practically exact (each takes 4 bytes); beyond, it is a HyperLogLog of 3 KiB with
/// a standard error of 1.6 %: 95 of 100 results lie within 3.3 % of the truth. The values are hashed by their
/// serialized form, so the result is the same in every process and on every machine, whatever the order.
///
/// # Examples
/// ```
/// use shardflow::window::aggregate::{Aggregate, distinct};
/// struct Visit { user: String }
///
/// let visitors = distinct(|visit: &Visit| visit.user.clone());
/// let mut acc = visitors.empty();
/// for user in ["ann", "bob", "ann"] {
///     visitors.add(&mut acc, &Visit { user: user.into() });
/// }
/// assert_eq!(visitors.finish(acc), 2);
/// ```
#[must_use]
pub fn distinct<In, V: Serialize, F: Fn(&In) -> V + Send + Sync + 'static>(of: F) -> Distinct<F> {
    Distinct(of)
}

impl<In, V: Serialize, F: Fn(&In) -> V + Send + Sync + 'static> Aggregate<In> for Distinct<F> {
    type Acc = DistinctSketch;
    type Out = u64;

    fn empty(&self) -> DistinctSketch {
        DistinctSketch::new()
    }

    #[inline]
    fn add(&self, acc: &mut DistinctSketch, record: &In) {
        acc.insert(&(self.0)(record));
    }

    fn merge(&self, acc: &mut DistinctSketch, other: DistinctSketch) {
        acc.merge(&other);
    }

    fn finish(&self, acc: DistinctSketch) -> u64 {
        acc.estimate()
    }
}

/// What [`distinct`] keeps while a window is open. Serialized as an Apache DataSketches HLL image.
#[derive(Clone, PartialEq)]
pub struct DistinctSketch(HllSketch);

impl DistinctSketch {
    fn new() -> Self {
        Self(HllSketch::new(LG_REGISTERS, HllType::Hll6).expect("12 is within 4 to 21"))
    }

    fn insert<V: Serialize>(&mut self, value: &V) {
        thread_local! {
            static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        // Taken and put back, so that a `Serialize` that itself counts something finds an empty buffer and no borrow.
        let mut scratch = SCRATCH.take();
        let hash = stable_hash(value, &mut scratch);
        SCRATCH.set(scratch);
        self.0.update_with_coupon(Coupon::from_value(hash));
    }

    fn merge(&mut self, other: &Self) {
        let mut union = HllUnion::new(LG_REGISTERS).expect("12 is within 4 to 21");
        union.update(&self.0);
        union.update(&other.0);
        self.0 = union.to_sketch(HllType::Hll6);
    }

    /// About how many different values were inserted. Does not depend on their order.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        // Not `estimate()`, which is a little closer and depends on the order.
        self.0.composite_estimate().round() as u64
    }
}

impl fmt::Debug for DistinctSketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DistinctSketch").field(&self.estimate()).finish()
    }
}

impl Serialize for DistinctSketch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.serialize())
    }
}

impl<'de> Deserialize<'de> for DistinctSketch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Image)
    }
}

struct Image;

impl<'de> Visitor<'de> for Image {
    type Value = DistinctSketch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the image of a HyperLogLog sketch")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<DistinctSketch, E> {
        let sketch = HllSketch::deserialize(bytes).map_err(E::custom)?;
        if sketch.lg_config_k() != LG_REGISTERS {
            return Err(E::custom(format!("a sketch of 2^{} registers, not 2^{LG_REGISTERS}", sketch.lg_config_k())));
        }
        Ok(DistinctSketch(sketch))
    }

    // Text formats have no bytes and write a list of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<DistinctSketch, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::window::aggregate::tests_support::{adding, merging};

    fn users() -> impl Aggregate<u64, Acc = DistinctSketch, Out = u64> {
        distinct(|user: &u64| format!("user-{user}"))
    }

    fn sketch(values: impl IntoIterator<Item = u64>) -> DistinctSketch {
        let mut acc = users().empty();
        values.into_iter().for_each(|value| users().add(&mut acc, &value));
        acc
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn small_sets_are_counted_exactly(values in prop::collection::vec(0_u64..200, 0..500)) {
            let truth = values.iter().collect::<BTreeSet<_>>().len() as u64;
            prop_assert_eq!(adding(&users(), &values), truth);
        }

        #[test]
        fn large_sets_are_estimated_within_five_standard_errors(from in 0_u64..1 << 40, size in 400_u64..20_000) {
            let estimate = sketch(from..from + size).estimate();
            let error = (estimate as f64 - size as f64).abs() / size as f64;
            prop_assert!(error < 5.0 * 1.04 / 64.0, "{size} was estimated as {estimate}");
        }

        #[test]
        fn neither_order_nor_merging_changes_the_estimate(
            mut values in prop::collection::vec(0_u64..5_000, 0..3_000), cut: prop::sample::Index,
        ) {
            let straight = adding(&users(), &values);
            prop_assert_eq!(merging(&users(), &values, cut), straight);
            values.reverse();
            prop_assert_eq!(adding(&users(), &values), straight);
        }

        #[test]
        fn merging_is_associative(sizes in [0_u64..2_000, 0_u64..2_000, 0_u64..2_000]) {
            let [a, b, c] = [sketch(0..sizes[0]), sketch(1_000..1_000 + sizes[1]), sketch(500..500 + sizes[2])];
            let merged = |left: &DistinctSketch, right: &DistinctSketch| {
                let mut left = left.clone();
                left.merge(right);
                left
            };
            prop_assert_eq!(merged(&merged(&a, &b), &c).estimate(), merged(&a, &merged(&b, &c)).estimate());
        }

        #[test]
        fn a_restored_sketch_goes_on_like_the_original(before in 0_u64..2_000, after in 0_u64..2_000) {
            let original = sketch(0..before);
            let bytes = bincode::serialize(&original).unwrap();
            let json = serde_json::to_string(&original).unwrap();
            let mut restored: DistinctSketch = bincode::deserialize(&bytes).unwrap();
            prop_assert_eq!(&restored, &original);
            prop_assert_eq!(&serde_json::from_str::<DistinctSketch>(&json).unwrap(), &original);
            restored.merge(&sketch(before..before + after));
            prop_assert_eq!(restored.estimate(), sketch(0..before + after).estimate());
        }

        #[test]
        fn damaged_bytes_are_an_error_and_never_a_panic(bytes: Vec<u8>, size in 0_u64..1_000, flip: prop::sample::Index) {
            let _ = Image.visit_bytes::<serde_json::Error>(&bytes);
            let mut image = sketch(0..size).0.serialize();
            let at = flip.index(image.len());
            image[at] ^= 0xff;
            if let Ok(damaged) = Image.visit_bytes::<serde_json::Error>(&image) {
                let _ = damaged.estimate();
            }
            image.truncate(at);
            let _ = Image.visit_bytes::<serde_json::Error>(&image);
        }
    }

    // Another value here means that running jobs would count stored and new values differently.
    #[test]
    fn the_estimate_is_the_same_in_every_process() {
        assert_eq!(sketch(0..10_000).estimate(), 10_110);
        assert!(bincode::serialized_size(&sketch(0..10_000)).unwrap() < 3200);
    }
}
