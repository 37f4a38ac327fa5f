//! Names of archived records: each says of which shard of a stream it is, and which records are in it. Pure.
//!
//! `usage.shardId-000000000003-<first>-<last>-i00002-w01-s000004-p000.ndjson.gz`, with both sequence numbers in 56 digits, so
//! that names sort as their records do. What follows them tells objects apart whose ranges are the same: several records may
//! share a sequence number, as those that the KPL has aggregated do.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use shardflow::{Sourced, vocabulary::StepName};

/// Digits of a Kinesis sequence number as it is today. The API allows 129.
const DIGITS: usize = 56;
const MOST_DIGITS: usize = 129;

/// The shard that a record comes from, and its sequence number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The shard's id.
    pub shard: &'a str,
    /// A whole number of up to 129 digits. What stands behind a colon, a sub-sequence number, does not count.
    pub sequence: &'a str,
}

impl Origin<'_> {
    /// Where a source says that it has read the record.
    #[must_use]
    pub fn of<T>(record: &Sourced<T>) -> Origin<'_> {
        Origin { shard: record.split.as_str(), sequence: &record.position }
    }
}

pub(super) type OriginOf<T> = Arc<dyn for<'a> Fn(&'a T) -> Origin<'a> + Send + Sync>;

/// What archived records are of.
pub(super) struct Archive<T> {
    /// The stream, as it stands in names.
    pub(super) stream: String,
    pub(super) origin: OriginOf<T>,
}

impl<T> Archive<T> {
    pub(super) fn new(stream: &str, origin: OriginOf<T>) -> Self {
        Self { stream: tame(stream), origin }
    }
}

impl<T> Clone for Archive<T> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone(), origin: Arc::clone(&self.origin) }
    }
}

impl<T> fmt::Debug for Archive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// A stream or shard as part of a name, of at most 48 characters.
fn tame(name: &str) -> String {
    StepName::new(name).as_file_name()
}

/// The records in an object: the smallest and the greatest sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    shard: String,
    first: String,
    last: String,
}

impl Range {
    /// One without a record yet.
    pub(super) fn of(shard: &str) -> Self {
        Self { shard: tame(shard), first: String::new(), last: String::new() }
    }

    /// Takes a number, as [`digits`] gives it.
    pub(super) fn take(&mut self, number: &str) {
        if self.last.is_empty() || order(number, &self.last) == Ordering::Greater {
            number.clone_into(&mut self.last);
        }
        if self.first.is_empty() || order(number, &self.first) == Ordering::Less {
            number.clone_into(&mut self.first);
        }
    }

    /// What the name of its object begins with.
    pub(super) fn stem(&self, stream: &str) -> String {
        format!("{stream}.{}-{:0>DIGITS$}-{:0>DIGITS$}", self.shard, self.first, self.last)
    }
}

/// A sequence number without zeros before it and without a sub-sequence number.
///
/// # Errors
/// Why it is none.
pub(super) fn digits(text: &str) -> Result<&str, String> {
    let number = text.split_once(':').map_or(text, |(number, _)| number);
    let digits = number.trim_start_matches('0');
    let digits = if digits.is_empty() && !number.is_empty() { "0" } else { digits };
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let shown: String = text.chars().take(MOST_DIGITS).collect();
        return Err(format!("its sequence number \"{shown}\" is no number of up to {MOST_DIGITS} digits"));
    }
    Ok(digits)
}

/// Numbers by their digits.
fn order(one: &str, other: &str) -> Ordering {
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: &str = "49590338271490256608559692538361571095921575989136588898";
    const LAST: &str = "49590338271490256608559692540925702759324208523137515618";

    #[test]
    fn names_read_as_documented() {
        let mut range = Range::of("shardId-000000000003");
        [LAST, FIRST, LAST].into_iter().for_each(|number| range.take(number));
        assert_eq!(range.stem("usage"), format!("usage.shardId-000000000003-{FIRST}-{LAST}"));
    }

    #[test]
    fn what_is_no_sequence_number_is_refused_with_the_reason() {
        assert_eq!((digits("010"), digits("000"), digits("12:3")), (Ok("10"), Ok("0"), Ok("12")));
        for text in ["", "-1", "+1", "1a", " 1", ":1", "trim-horizon", &"1".repeat(130)] {
            assert!(digits(text).unwrap_err().contains("is no number"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_range_has_the_smallest_and_the_greatest_and_names_sort_as_records_do(
            numbers in proptest::collection::vec("[1-9][0-9]{0,37}", 1..9), other in "[1-9][0-9]{0,37}",
        ) {
            let mut range = Range::of("shardId-0");
            numbers.iter().for_each(|number| range.take(digits(number).unwrap()));
            let value = |text: &String| text.parse::<u128>().unwrap();
            prop_assert_eq!(value(&range.first), numbers.iter().map(value).min().unwrap());
            prop_assert_eq!(value(&range.last), numbers.iter().map(value).max().unwrap());
            let mut behind = Range::of("shardId-0");
            behind.take(&other);
            if value(&other) > value(&range.first) {
                prop_assert!(behind.stem("usage") > range.stem("usage"));
            }
        }

        #[test]
        fn every_name_fits_a_disk(stream in ".{0,130}", shard in ".{0,130}", number in "[1-9][0-9]{0,55}") {
            let mut range = Range::of(&shard);
            range.take(&number);
            let stem = range.stem(&tame(&stream));
            // The longest that follows: `-i00002-w01-s000004-p000.ndjson.zst`, with digits to spare.
            prop_assert!(stem.len() + 38 <= 255 && stem.is_ascii() && !stem.contains('/'), "{}", stem);
        }
    }
}
