//! What one commit made visible, in a small JSON file, for readers that do not list.
//!
//! A reader takes the objects that manifests name, and no others: an object without one was never committed, or its manifest
//! is still on its way. Fields may be added within a version; what a reader must not misunderstand makes a new one.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shardflow::{Epoch, Error, Result};

/// What kind of file it is.
const FORMAT: &str = "shardflow-files";
/// The newest version that this program knows.
const VERSION: u32 = 1;

/// The objects of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// The job that committed them.
    pub job: String,
    /// The sink's step in it.
    pub step: String,
    /// The start that committed them.
    pub incarnation: u64,
    /// The epochs that are committed with them.
    pub epochs: EpochRange,
    /// The objects.
    pub files: Vec<ManifestFile>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its key, from the bucket's root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// How many records are in it.
    pub records: u64,
    /// Its CRC-32 (IEEE), of all its bytes.
    pub crc32: Crc32,
    /// The values of its partition by key; `None`: null.
    pub partition: BTreeMap<String, Option<String>>,
    /// The epochs that wrote to it.
    pub epochs: EpochRange,
}

/// Epochs from `first` through `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRange {
    /// The first.
    pub first: Epoch,
    /// The last.
    pub last: Epoch,
}

/// A CRC-32 (IEEE), written as eight hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Crc32(pub u32);

/// What is read first: whether the rest can be understood.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Manifest {
    /// The manifest of a commit. Its files are in the order of their paths, so that the same commit gives the same bytes.
    #[must_use]
    pub fn new(job: &str, step: &str, incarnation: u64, epochs: EpochRange, mut files: Vec<ManifestFile>) -> Self {
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let (format, job, step) = (FORMAT.to_owned(), job.to_owned(), step.to_owned());
        Self { format, version: VERSION, job, step, incarnation, epochs, files }
    }

    /// As it is stored.
    ///
    /// # Errors
    /// None that is known: an error is a bug.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec_pretty(self);
        let mut json = json.map_err(|cause| Error::internal("could not encode a manifest").caused_by(cause))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// It is no manifest, is damaged, or of a newer version.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let refuse = |why: String| Error::sink(format!("could not read a manifest of {} bytes: {why}", json.len()));
        let head: Head = serde_json::from_slice(json).map_err(|cause| refuse(cause.to_string()))?;
        if head.format != FORMAT {
            return Err(refuse(format!("its format is \"{}\" and not \"{FORMAT}\"", head.format)));
        }
        if head.version == 0 || head.version > VERSION {
            return Err(refuse(format!("version {} is newer than this program's {VERSION}", head.version)));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|cause| refuse(cause.to_string()))?;
        let ranges = manifest.files.iter().map(|file| file.epochs).chain([manifest.epochs]);
        if let Some(range) = ranges.into_iter().find(|range| range.last < range.first) {
            return Err(refuse(format!("epochs {} through {} cannot be", range.first, range.last)));
        }
        Ok(manifest)
    }
}

impl fmt::Display for Crc32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for Crc32 {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Crc32 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let is_hex = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sum = u32::from_str_radix(&text, 16).ok().filter(|_| is_hex);
        sum.map(Self).ok_or_else(|| serde::de::Error::custom("a CRC-32 is eight hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: u64, last: u64) -> EpochRange {
        EpochRange { first: Epoch::new(first), last: Epoch::new(last) }
    }

    fn sample() -> Manifest {
        let file = |path: &str, account: Option<&str>| ManifestFile {
            path: path.to_owned(),
            bytes: 1 << 40,
            records: 12,
            crc32: Crc32(0x0bf4_3926),
            partition: BTreeMap::from([
                ("account".to_owned(), account.map(str::to_owned)),
                ("dt".to_owned(), Some("2026-01-01".to_owned())),
            ]),
            epochs: range(121, 123),
        };
        let files = vec![
            file(
                "charges/dt=2026-01-01/account=b%2Fc/metering.charges-i00002-e0000000121-w01-p000.parquet",
                Some("b/c"),
            ),
            file(
                "charges/dt=2026-01-01/account=__HIVE_DEFAULT_PARTITION__/metering.charges-i00002-e0000000121-w00-p000.parquet",
                None,
            ),
        ];
        Manifest::new("metering", "charges", 2, range(120, 123), files)
    }

    /// Such files lie in users' buckets: they stay readable, and are still what we write.
    #[test]
    fn version_1_stays_readable() {
        let stored = include_bytes!("../../tests/fixtures/manifest-v1.json");
        assert_eq!(Manifest::from_json(stored).unwrap(), sample());
        assert_eq!(
            String::from_utf8(sample().to_json().unwrap()).unwrap(),
            String::from_utf8(stored.to_vec()).unwrap()
        );
    }

    #[test]
    fn fields_that_were_added_do_not_disturb() {
        let mut json: serde_json::Value = serde_json::from_slice(&sample().to_json().unwrap()).unwrap();
        json["added"] = 1.into();
        json["files"][0]["added"] = 1.into();
        assert_eq!(Manifest::from_json(json.to_string().as_bytes()).unwrap(), sample());
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_the_reason() {
        let good = String::from_utf8(sample().to_json().unwrap()).unwrap();
        for (bad, why) in [
            (String::new(), "EOF"),
            ("{}".to_owned(), "missing field `format`"),
            (good.replace(FORMAT, "delta"), "\"delta\""),
            (good.replace("\"version\": 1", "\"version\": 2"), "version 2 is newer"),
            (good.replace("0bf43926", "bf43926"), "eight hexadecimal digits"),
            (good.replace("0bf43926", "+bf43926"), "eight hexadecimal digits"),
            (good.replace("\"first\": 120", "\"first\": 124"), "epochs 124 through 123"),
            (good.replace("\"records\": 12", "\"records\": -12"), "invalid value"),
            (good.chars().take(good.len() / 2).collect(), "EOF"),
        ] {
            let error = Manifest::from_json(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_manifest_comes_back_as_it_was(
            job in ".{0,8}", step in ".{0,8}", incarnation: u64, first in 0u64..9, more in 0u64..9,
            files in proptest::collection::vec(
                (".{1,9}", any::<u64>(), any::<u64>(), any::<u32>(), proptest::collection::btree_map(".{0,4}", proptest::option::of(".{0,4}"), 0..3)),
                0..4,
            ),
        ) {
            let epochs = range(first, first + more);
            let file = |(path, bytes, records, sum, partition)| ManifestFile { path, bytes, records, crc32: Crc32(sum), partition, epochs };
            let manifest = Manifest::new(&job, &step, incarnation, epochs, files.into_iter().map(file).collect());
            prop_assert_eq!(Manifest::from_json(&manifest.to_json().unwrap()).unwrap(), manifest);
        }
    }
}
