//! Names of archived records: each says of which shard of a stream it is, and which records are in it. Pure.
//!
//! `stream.shardId-000000000000-<first>-<last>.ndjson.gz`, with both sequence numbers in 56 digits, so that names sort as their
//! records do. The name tells neither job nor start: whoever archives the same records again writes the same object.

use std::cmp::Ordering;
use std::fmt;

use shardflow::{Error, Result};

use super::key::{check_ending, is_known_ending};
use super::names::tame;

/// Digits of a Kinesis sequence number as it is today. The API allows 129.
const DIGITS: usize = 56;
const MOST_DIGITS: usize = 129;

/// A sequence number of Kinesis: a whole number of up to 129 digits, ordered as numbers are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SequenceNumber(String);

impl SequenceNumber {
    /// Reads it. Zeros before it do not count.
    ///
    /// # Errors
    /// It is not a whole number of up to 129 digits.
    pub fn parse(text: &str) -> Result<Self> {
        let digits = text.trim_start_matches('0');
        let digits = if digits.is_empty() && !text.is_empty() { "0" } else { digits };
        if digits.is_empty() || text.len() > MOST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::config(format!(
                "could not read sequence number \"{text}\": it is not a number of up to 129 digits"
            )));
        }
        Ok(Self(digits.to_owned()))
    }

    /// Its digits, without zeros before them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveName {
    /// The shard, as it stands in the name: its id, unless that had to change to be part of one.
    pub shard: String,
    /// The first record in it.
    pub first: SequenceNumber,
    /// The last record in it.
    pub last: SequenceNumber,
}

/// The names of the archive of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveNames {
    stream: String,
    ending: String,
}

impl ArchiveNames {
    /// Names for a stream, with the ending of the files' format.
    ///
    /// # Errors
    /// An ending that cannot end a name.
    pub fn new(stream: &str, ending: impl Into<String>) -> Result<Self> {
        let ending = ending.into();
        check_ending(&ending)?;
        Ok(Self { stream: tame(stream), ending })
    }

    /// A shard as it stands in names.
    #[must_use]
    pub fn shard(id: &str) -> String {
        tame(id)
    }

    /// The name of an object with the records of a shard from `first` through `last`.
    #[must_use]
    pub fn render(&self, shard: &str, first: &SequenceNumber, last: &SequenceNumber) -> String {
        self.with_ending(&tame(shard), first, last, &self.ending)
    }

    fn with_ending(&self, shard: &str, first: &SequenceNumber, last: &SequenceNumber, ending: &str) -> String {
        format!("{}.{shard}-{:0>DIGITS$}-{:0>DIGITS$}.{ending}", self.stream, first.0, last.0)
    }

    /// What `name` says; `None` for every object that is not of this stream's archive.
    #[must_use]
    pub fn parse(&self, name: &str) -> Option<ArchiveName> {
        let (text, ending) = name.strip_prefix(self.stream.as_str())?.strip_prefix('.')?.split_once('.')?;
        if ending != self.ending && !is_known_ending(ending) {
            return None;
        }
        let (text, last) = text.rsplit_once('-')?;
        let (shard, first) = text.rsplit_once('-')?;
        let (first, last) = (SequenceNumber::parse(first).ok()?, SequenceNumber::parse(last).ok()?);
        let is_ours = !shard.is_empty() && first <= last && self.with_ending(shard, &first, &last, ending) == name;
        is_ours.then(|| ArchiveName { shard: shard.to_owned(), first, last })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::objects::{ResultName, ResultNames};

    const FIRST: &str = "49590338271490256608559692538361571095921575989136588898";
    const LAST: &str = "49590338271490256608559692540925702759324208523137515618";

    fn number(text: &str) -> SequenceNumber {
        SequenceNumber::parse(text).unwrap()
    }

    #[test]
    fn names_read_as_documented() {
        let names = ArchiveNames::new("usage", "ndjson.gz").unwrap();
        let name = names.render("shardId-000000000003", &number(FIRST), &number(LAST));
        assert_eq!(name, format!("usage.shardId-000000000003-{FIRST}-{LAST}.ndjson.gz"));
        let parsed = names.parse(&name).unwrap();
        assert_eq!((parsed.shard.as_str(), parsed.first.as_str()), ("shardId-000000000003", FIRST));
    }

    #[test]
    fn numbers_are_ordered_as_numbers() {
        assert!(number("9") < number("10") && number("010") == number("10") && number("0") < number("1"));
        for text in ["", "-1", "+1", "1a", " 1", &"1".repeat(130)] {
            assert!(SequenceNumber::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn objects_of_others_are_not_of_this_archive() {
        let ours = ArchiveNames::new("usage", "ndjson").unwrap();
        let zero = "0".repeat(DIGITS);
        for name in [
            format!("usage2.shardId-0-{FIRST}-{LAST}.ndjson"),
            format!("usage.shardId-0-{LAST}-{FIRST}.ndjson"),
            format!("usage.shardId-0-1-{LAST}.ndjson"),
            format!("usage.-{FIRST}-{LAST}.ndjson"),
            format!("usage.{FIRST}-{LAST}.ndjson"),
            format!("usage.shardId-0-{zero}0-{zero}.ndjson"),
            format!("usage.shardId-0-{FIRST}-{LAST}.ndjson.part"),
            "usage.charges-i00002-e0000000123-w01-p000.ndjson".to_owned(),
        ] {
            assert_eq!(ours.parse(&name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_understood_and_none_is_taken_for_a_result(
            stream in "[a-zA-Z0-9_.-]{1,60}", other in "[a-zA-Z0-9_.-]{1,4}", shard in "(shardId-[0-9]{12}|.{1,20})",
            first in "[1-9][0-9]{0,128}", more in any::<u8>(),
        ) {
            let ours = ArchiveNames::new(&stream, "parquet").unwrap();
            let (first, last) = (number(&first), if more > 9 { number(&first) } else { number(&format!("9{first}")[..first.len().min(128) + 1]) });
            let name = ours.render(&shard, &first, &last);
            prop_assert!(name.is_ascii() && !name.contains('/'), "{}", name);
            let expected = ArchiveName { shard: ArchiveNames::shard(&shard), first: first.clone(), last: last.clone() };
            prop_assert_eq!(ours.parse(&name), (first <= last).then_some(expected));
            let theirs = ArchiveNames::new(&other, "parquet").unwrap();
            if theirs != ours {
                prop_assert_eq!(theirs.parse(&name), None);
            }
            // A job of the stream's name with a step of the shard's.
            let results = ResultNames::new(&stream, &shard, "parquet").unwrap();
            prop_assert_eq!(results.parse(&name), None);
            let result = results.render(ResultName { incarnation: 1, first: shardflow::Epoch::new(2), last: None, worker: 3, part: 4 });
            prop_assert_eq!(ours.parse(&result), None);
        }

        #[test]
        fn names_sort_as_their_records_do(one in "[1-9][0-9]{0,55}", two in "[1-9][0-9]{0,55}") {
            let names = ArchiveNames::new("usage", "avro").unwrap();
            let (one, two) = (number(&one), number(&two));
            let name = |at: &SequenceNumber| names.render("shardId-0", at, at);
            prop_assert_eq!(name(&one).cmp(&name(&two)), one.cmp(&two));
        }
    }
}
