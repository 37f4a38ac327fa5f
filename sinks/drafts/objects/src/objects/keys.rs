//! The names of objects: a pure function of what is sealed, so that shipping again gives the same ones.
//!
//! | name, below the prefix | what it is |
//! |---|---|
//! | `day=1/job.step-i00002-w01-s000004-f0000000120-e0000000123-p000.ndjson` | records of partition `day=1`: incarnation, worker, serial, first and last epoch, part |
//! | `_manifests/job.step-e0000000123-i00002-w01-s000004-f0000000120.json` | which objects one spool file became |
//! | `_rejected/job.step-i00002-w01-s000004-f0000000120-e0000000123-p000.ndjson` | records that the format could not write |
//! | `_probes/job.step` | written at a start, to learn whether the store refuses a second object of one name |
//!
//! Hive, Spark, Trino and their like leave names alone that begin with `_`. A manifest's name begins with its last epoch, so
//! that whatever lies beyond an epoch is listed by one call.

use object_store::path::{Path, PathPart};
use shardflow::Epoch;
use shardflow::vocabulary::StepName;

use super::names::{Extent, FileId, fields};

/// The most bytes of a partition, and of one of its folders: S3 takes names of 1024 bytes, disks folders of 255.
const LONGEST: usize = 700;
const LONGEST_FOLDER: usize = 200;

/// The names of one step of one job.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Path,
    stem: String,
    /// The stem as it reads in a name.
    shown: String,
}

impl Keys {
    pub(super) fn new(prefix: Path, job: &str, step: &StepName) -> Self {
        let stem = format!("{}.{}", StepName::new(job).as_file_name(), step.as_file_name());
        let shown = PathPart::from(stem.as_str()).as_ref().to_owned();
        Self { prefix, stem, shown }
    }

    /// The folder that everything is in.
    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Records of a partition, as [`partition`] gives it.
    pub(super) fn object(&self, partition: &str, id: FileId, extent: Extent, part: u32, ending: &str) -> Path {
        let folder = partition.split('/').filter(|part| !part.is_empty());
        let folder = folder.fold(self.prefix.clone(), |path, part| path.join(PathPart::from(part)));
        folder.join(self.file(id, extent, part, ending))
    }

    /// Records that the format could not write.
    pub(super) fn rejected(&self, id: FileId, extent: Extent) -> Path {
        self.prefix.clone().join("_rejected").join(self.file(id, extent, 0, "ndjson"))
    }

    fn file(
        &self,
        FileId { incarnation: i, worker: w, serial: s }: FileId,
        extent: Extent,
        part: u32,
        ending: &str,
    ) -> String {
        let (first, last) = (extent.first.number(), extent.last.number());
        format!("{}-i{i:05}-w{w:02}-s{s:06}-f{first:010}-e{last:010}-p{part:03}.{ending}", self.stem)
    }

    /// What one spool file became.
    pub(super) fn manifest(&self, FileId { incarnation: i, worker: w, serial: s }: FileId, extent: Extent) -> Path {
        let (first, last) = (extent.first.number(), extent.last.number());
        self.manifests().join(format!("{}-e{last:010}-i{i:05}-w{w:02}-s{s:06}-f{first:010}.json", self.stem))
    }

    /// The folder of all manifests.
    pub(super) fn manifests(&self) -> Path {
        self.prefix.clone().join("_manifests")
    }

    /// What is listed behind the manifests through `epoch`.
    pub(super) fn manifests_through(&self, epoch: Option<Epoch>) -> Path {
        let end = epoch.map_or_else(String::new, |epoch| format!("e{:010}.", epoch.number()));
        self.manifests().join(format!("{}-{end}", self.stem))
    }

    /// The last epoch of a manifest of ours.
    pub(super) fn epoch_of_manifest(&self, path: &Path) -> Option<Epoch> {
        let name = path.filename()?.strip_prefix(self.shown.as_str())?.strip_prefix('-')?.strip_suffix(".json")?;
        let [epoch, ..] = fields(name, ["e", "i", "w", "s", "f"])?;
        Some(Epoch::new(epoch))
    }

    pub(super) fn probe(&self) -> Path {
        self.prefix.clone().join("_probes").join(self.stem.as_str())
    }

    /// Whether an object was, or was to be, shipped by this job and step.
    pub(super) fn is_ours(&self, path: &Path) -> bool {
        let name = path.filename().and_then(|name| name.strip_prefix(self.shown.as_str())?.strip_prefix("-i"));
        let is_below = path.prefix_matches(&self.prefix);
        is_below && name.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    }
}

/// A partition as part of a name: folders, each in the characters that every store takes.
///
/// # Errors
/// Why it cannot be one: the record is refused then.
pub(super) fn partition(text: &str) -> Result<String, String> {
    let mut folders = Vec::new();
    for folder in text.split('/').filter(|folder| !folder.is_empty()) {
        let folder = PathPart::from(folder).as_ref().to_owned();
        if folder.len() > LONGEST_FOLDER {
            return Err(format!("a folder of its partition has more than {LONGEST_FOLDER} bytes"));
        }
        folders.push(folder);
    }
    if folders.first().is_some_and(|first| first.starts_with('_')) {
        return Err("its partition begins with _, as only this sink's own folders do".to_owned());
    }
    // What the store makes of it must be what we make of it: nothing is encoded a second time.
    let partition = text.split('/').filter(|folder| !folder.is_empty()).collect::<Vec<_>>().join("/");
    let length = folders.iter().map(|folder| folder.len().saturating_add(1)).sum::<usize>();
    if length > LONGEST { Err(format!("its partition has more than {LONGEST} bytes")) } else { Ok(partition) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: FileId = FileId { incarnation: 2, worker: 1, serial: 4 };

    fn extent() -> Extent {
        Extent { first: Epoch::new(120), last: Epoch::new(123), length: 4096 }
    }

    fn keys(step: &str) -> Keys {
        Keys::new(Path::from("out"), "metering", &step.into())
    }

    #[test]
    fn names_read_as_documented() {
        let keys = keys("charges");
        let object = keys.object("day=1", ID, extent(), 0, "ndjson");
        let name = "metering.charges-i00002-w01-s000004-f0000000120-e0000000123-p000.ndjson";
        assert_eq!(object.as_ref(), format!("out/day=1/{name}"));
        assert_eq!(keys.object("", ID, extent(), 0, "ndjson").as_ref(), format!("out/{name}"));
        assert_eq!(keys.rejected(ID, extent()).as_ref(), format!("out/_rejected/{name}"));
        let manifest = keys.manifest(ID, extent());
        assert_eq!(
            manifest.as_ref(),
            "out/_manifests/metering.charges-e0000000123-i00002-w01-s000004-f0000000120.json"
        );
        assert_eq!(keys.epoch_of_manifest(&manifest), Some(Epoch::new(123)));
        assert_eq!(super::tests::keys("charge").epoch_of_manifest(&manifest), None);
        let strange = super::tests::keys("a/b ~");
        let manifest = strange.manifest(ID, extent());
        assert_eq!(strange.epoch_of_manifest(&manifest), Some(Epoch::new(123)), "{manifest}");
        assert!(strange.is_ours(&strange.object("day=1", ID, extent(), 0, "ndjson")));
        assert!(keys.is_ours(&object) && !keys.is_ours(&manifest));
    }

    #[test]
    fn what_lies_beyond_an_epoch_is_listed_behind_it() {
        let keys = keys("charges");
        let at = |epoch| keys.manifest(ID, Extent { last: Epoch::new(epoch), ..extent() });
        let through = keys.manifests_through(Some(Epoch::new(123)));
        assert!(at(122) < through && at(123) < through && at(124) > through && at(1 << 33) > through);
        assert!(at(0) > keys.manifests_through(None));
    }

    #[test]
    fn a_partition_stays_inside_the_prefix() {
        let keys = keys("charges");
        for (text, folder) in [
            ("a/b", "a/b/"),
            ("/a//b/", "a/b/"),
            ("../../x", "%2E%2E/%2E%2E/x/"),
            ("a b#1", "a b%231/"),
            ("", ""),
            ("//", ""),
        ] {
            let path = keys.object(&partition(text).unwrap(), ID, extent(), 0, "x");
            assert!(path.as_ref().starts_with(&format!("out/{folder}metering.charges-i")), "{text}: {path}");
        }
        for text in ["_manifests", "_x/y", &"x".repeat(201), &"a/".repeat(400)] {
            assert!(partition(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_partition_gives_a_name_that_every_store_takes_or_a_reason(text in ".{0,300}") {
            if let Ok(partition) = partition(&text) {
                let path = keys("charges").object(&partition, ID, extent(), 0, "ndjson");
                prop_assert!(path.as_ref().len() < 1024);
                prop_assert_eq!(Path::parse(path.as_ref()).unwrap(), path.clone());
                prop_assert!(keys("charges").is_ours(&path) && !keys("charge").is_ours(&path));
            }
        }
    }
}
