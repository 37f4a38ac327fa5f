//! Keys of objects: a prefix, folders of partitions, a name. Pure.

use std::fmt;

use shardflow::{Error, Result};

/// The longest prefix, in bytes. With partitions of 600 and names of 400, keys stay within the 1024 that stores take.
const MOST_BYTES: usize = 24 * 8;

/// Where in a bucket objects go: `charges/v1`, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prefix(String);

impl Prefix {
    /// Reads a prefix: folders with slashes between them, a slash at its end may be left out.
    ///
    /// # Errors
    /// A folder without a name, `.` or `..`, a character that stores advise against.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::config(format!("could not use the prefix \"{text}\": {why}")));
        let folders = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::default());
        }
        if folders.len() > MOST_BYTES {
            return refuse("it has more than 192 bytes");
        }
        for folder in folders.split('/') {
            match folder {
                "" => {
                    return refuse("a folder's name is empty: there is no slash at its beginning, and no two in a row");
                }
                "." | ".." => return refuse("it leads elsewhere"),
                _ if folder.chars().any(|c| c.is_control() || "\\{}^%`[]\"<>~#|*?:".contains(c)) => {
                    return refuse("a folder's name has a character that stores advise against");
                }
                _ => {}
            }
        }
        Ok(Self(folders.to_owned()))
    }

    /// The prefix, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of an object. An empty partition is none.
    #[must_use]
    pub fn key(&self, partition: &str, name: &str) -> String {
        let parts = [self.0.as_str(), partition, name];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// The partition and the name in a key; `None`: it is not below this prefix.
    #[must_use]
    pub fn split<'a>(&self, key: &'a str) -> Option<(&'a str, &'a str)> {
        let below = match self.0.as_str() {
            "" => key,
            prefix => key.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        Some(below.rsplit_once('/').unwrap_or(("", below)))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The numbers of `i00002-e0000000123`, each behind its tag and nothing else. A tag may be empty.
pub(super) fn numbers<const N: usize>(text: &str, tags: [&str; N]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split('-');
    for (number, tag) in numbers.iter_mut().zip(tags) {
        let digits = parts.next()?.strip_prefix(tag)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = digits.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Endings of files that this crate writes, whatever format is set now: a file keeps its ending when the format changes.
pub(super) fn is_known_ending(ending: &str) -> bool {
    let (format, compression) = ending.split_once('.').unwrap_or((ending, ""));
    match format {
        "ndjson" | "csv" | "tsv" => matches!(compression, "" | "gz" | "zst" | "sz") && !ending.ends_with('.'),
        "parquet" | "avro" => ending == format,
        _ => false,
    }
}

/// # Errors
/// It cannot end a file's name.
pub(super) fn check_ending(ending: &str) -> Result<()> {
    let is_fine = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if ending.len() <= 32 && ending.split('.').all(is_fine) {
        return Ok(());
    }
    Err(Error::config(format!(
        "could not end names in \"{ending}\": an ending is small letters and digits, with dots between"
    )))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_that_lead_elsewhere_are_refused() {
        for (text, why) in [
            ("/a", "name is empty"),
            ("a//b", "name is empty"),
            ("/", "name is empty"),
            ("a/../b", "leads elsewhere"),
            ("./a", "leads elsewhere"),
            ("a/b#c", "advise against"),
            ("a\nb", "advise against"),
            (&"x".repeat(193), "192 bytes"),
        ] {
            let error = Prefix::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(Prefix::parse("charges/v1/").unwrap().as_str(), "charges/v1");
    }

    #[test]
    fn what_only_begins_alike_is_not_below() {
        let prefix = Prefix::parse("charges").unwrap();
        assert_eq!(prefix.split("charges2/x"), None);
        assert_eq!(prefix.split("charges"), None);
        assert_eq!(prefix.split("charges/x"), Some(("", "x")));
        assert_eq!(prefix.split("charges/a=1/b=2/x"), Some(("a=1/b=2", "x")));
        assert_eq!(Prefix::default().key("", "x"), "x");
    }

    #[test]
    fn endings_are_told_from_other_text() {
        for ending in ["ndjson", "ndjson.gz", "csv.zst", "tsv.sz", "parquet", "avro"] {
            assert!(is_known_ending(ending) && check_ending(ending).is_ok(), "{ending}");
        }
        for ending in ["", "ndjson.", "ndjson.bak", "parquet.gz", "json", "ndjson.gz.gz", ".ndjson"] {
            assert!(!is_known_ending(ending), "{ending}");
        }
        for ending in ["", ".", "a.", "A", "a/b", "a-b", "..", "a b"] {
            assert!(check_ending(ending).is_err(), "{ending}");
        }
    }

    proptest! {
        #[test]
        fn a_key_comes_apart_as_it_was_put_together(
            prefix in "([a-c]{1,3}(/[a-c]{1,3}){0,2})?", partition in "([a-c]=[a-c]{1,3}(/[a-c]=[a-c]){0,2})?", name in "[a-c.]{1,5}",
        ) {
            let prefix = Prefix::parse(&prefix).unwrap();
            let key = prefix.key(&partition, &name);
            prop_assert!(!key.starts_with('/') && !key.contains("//"));
            prop_assert_eq!(prefix.split(&key), Some((partition.as_str(), name.as_str())));
        }
    }
}
