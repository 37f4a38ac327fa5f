//! Which objects one spool file became, in a small JSON file, for readers that do not list.
//!
//! A reader takes the objects that manifests name, and no others: an object without one is part of a set whose manifest is
//! still on its way. Fields may be added within a version; what a reader must not misunderstand makes a new one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shardflow::{Epoch, Error, Result};

/// What kind of file it is.
const FORMAT: &str = "shardflow-objects";
/// The newest version that this program knows.
const VERSION: u32 = 1;

/// The objects of one spool file: all that one worker wrote in some epochs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub(super) format: String,
    pub(super) version: u32,
    /// The job that committed them.
    pub job: String,
    /// The sink's step in it.
    pub step: String,
    /// The start that wrote them.
    pub incarnation: u64,
    /// The worker that wrote them.
    pub worker: u32,
    /// Which of the worker's spool files it was.
    pub serial: u64,
    /// The epochs that are committed with them.
    pub epochs: EpochRange,
    /// Records of these epochs, those included that could not be written.
    pub records: u64,
    /// The objects, by name.
    pub objects: Vec<ManifestObject>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestObject {
    /// Its name, from the bucket's root.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// How many records are in it.
    pub records: u64,
    /// The SHA-256 of its bytes, in lowercase hexadecimal digits.
    pub sha256: String,
    /// The values of its partition by key; `None`: null.
    pub partition: BTreeMap<String, Option<String>>,
}

/// Epochs from `first` through `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRange {
    /// The first.
    pub first: Epoch,
    /// The last.
    pub last: Epoch,
}

/// What is read first: whether the rest can be understood.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Manifest {
    pub(super) fn format() -> (String, u32) {
        (FORMAT.to_owned(), VERSION)
    }

    /// As it is stored: the same set gives the same bytes.
    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec_pretty(self);
        let mut json = json.map_err(|cause| Error::internal("could not encode a manifest").caused_by(cause))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads what is stored under `_manifests/`.
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
        let EpochRange { first, last } = manifest.epochs;
        if last < first { Err(refuse(format!("epochs {first} through {last} cannot be"))) } else { Ok(manifest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let object = |name: &str, account: Option<&str>| ManifestObject {
            name: name.to_owned(),
            bytes: 1 << 40,
            records: 12,
            sha256: "0bf43926".repeat(8),
            partition: BTreeMap::from([
                ("account".to_owned(), account.map(str::to_owned)),
                ("dt".to_owned(), Some("2026-01-01".to_owned())),
            ]),
        };
        let (format, version) = Manifest::format();
        Manifest {
            format,
            version,
            job: "metering".to_owned(),
            step: "charges".to_owned(),
            incarnation: 2,
            worker: 1,
            serial: 4,
            epochs: EpochRange { first: Epoch::new(120), last: Epoch::new(123) },
            records: 25,
            objects: vec![
                object("out/dt=2026-01-01/account=__HIVE_DEFAULT_PARTITION__/x.parquet", None),
                object("out/dt=2026-01-01/account=b%2Fc/x.parquet", Some("b/c")),
            ],
        }
    }

    /// Such files lie in users' buckets: they stay readable, and are still what we write.
    #[test]
    fn version_1_stays_readable() {
        let stored = include_bytes!("../../tests/fixtures/object-manifest-v1.json");
        assert_eq!(String::from_utf8(sample().to_json().unwrap()).unwrap(), String::from_utf8_lossy(stored));
        assert_eq!(Manifest::from_json(stored).unwrap(), sample());
    }

    #[test]
    fn fields_that_were_added_do_not_disturb() {
        let mut json: serde_json::Value = serde_json::from_slice(&sample().to_json().unwrap()).unwrap();
        json["added"] = 1.into();
        json["objects"][0]["added"] = 1.into();
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
            (good.replace("\"first\": 120", "\"first\": 124"), "epochs 124 through 123"),
            (good.replace("\"records\": 12", "\"records\": -12"), "invalid value"),
            (good.chars().take(good.len() / 2).collect(), "EOF"),
        ] {
            let error = Manifest::from_json(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
