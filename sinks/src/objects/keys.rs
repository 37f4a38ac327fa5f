//! The names of objects: a pure function of what is sealed, so that shipping again gives the same ones.
//!
//! | name, below the prefix | what it is |
//! |---|---|
//! | `dt=2026-01-01/job.step-i00002-w01-s000004-f0000000120-e0000000123-p000.ndjson` | records of partition `dt=2026-01-01`: incarnation, worker, serial, first and last epoch, part |
//! | `dt=2026-01-01/usage.shardId-000000000003-<first>-<last>-i00002-w01-s000004-p000.ndjson` | the same in an archive: stream, shard, first and last sequence number |
//! | `_manifests/job.step-e0000000123-i00002-w01-s000004-f0000000120.json` | which objects one spool file became |
//! | `_rejected/job.step-i00002-w01-s000004-f0000000120-e0000000123-p000.ndjson` | records that could not be written |
//! | `_probes/job.step` | written at a start, to learn whether the store refuses a second object of one name |
//!
//! Hive, Spark, Trino and their like leave names alone that begin with `_`. A manifest's name begins with its last epoch, so
//! that whatever lies beyond an epoch is listed by one call.

use object_store::path::{Path, PathPart};
use shardflow::vocabulary::StepName;
use shardflow::{Epoch, Error, Result};

use super::archive::Range;
use super::names::{Extent, FileId, fields};
use crate::partition::MOST_BYTES;

/// The longest name that stores take, and the longest that this sink gives a file.
const LONGEST: usize = 1024;
const LONGEST_FILE: usize = 255;

/// The names of one step of one job.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Path,
    stem: String,
    /// The stem as it reads in a name.
    shown: String,
    /// What the names of archived records begin with: the stream.
    archive: Option<String>,
}

/// The folders of records that could not be written, and of manifests.
const REJECTED: &str = "_rejected";
const MANIFESTS: &str = "_manifests";

/// Whether an object holds records that could not be written, by its name and that of the manifest beside it: a pack may be of a
/// program that had another prefix.
pub(super) fn is_rejected(object: &str, manifest: &str) -> bool {
    let prefix = |key: &str, folder: &str| {
        let (path, _) = key.rsplit_once('/')?;
        path.strip_suffix(folder).map(ToOwned::to_owned)
    };
    let prefix_of_all = prefix(manifest, MANIFESTS);
    prefix_of_all.is_some() && prefix(object, REJECTED) == prefix_of_all
}

impl Keys {
    pub(super) fn new(prefix: Path, job: &str, step: &StepName) -> Self {
        let stem = format!("{}.{}", StepName::new(job).as_file_name(), step.as_file_name());
        let shown = PathPart::from(stem.as_str()).as_ref().to_owned();
        Self { prefix, stem, shown, archive: None }
    }

    /// With objects that are named as the archive of a stream.
    pub(super) fn archiving(mut self, stream: Option<String>) -> Self {
        self.archive = stream.map(|stream| PathPart::from(stream.as_str()).as_ref().to_owned());
        self
    }

    /// # Errors
    /// The prefix is so long that names could be longer than stores take.
    pub(super) fn check(&self) -> Result<()> {
        let (most, length) = (LONGEST.saturating_sub(MOST_BYTES + LONGEST_FILE + 2), self.prefix.as_ref().len());
        if length <= most {
            return Ok(());
        }
        Err(Error::config(format!("could not use a prefix of {length} bytes: it may have {most}, so that names fit")))
    }

    /// The folder that everything is in.
    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Records of a partition, as [`Partitions`](crate::partition::Partitions) gives it; empty: none.
    pub(super) fn object(&self, partition: &str, id: FileId, extent: Extent, part: u32, ending: &str) -> String {
        self.in_partition(partition, &self.file(id, extent, part, ending))
    }

    /// Records of an archive.
    pub(super) fn archived(
        &self,
        partition: &str,
        range: &Range,
        FileId { incarnation: i, worker: w, serial: s }: FileId,
        part: u32,
        ending: &str,
    ) -> String {
        let stem = range.stem(self.archive.as_deref().unwrap_or_default());
        self.in_partition(partition, &format!("{stem}-i{i:05}-w{w:02}-s{s:06}-p{part:03}.{ending}"))
    }

    /// A partition is in the characters that every store takes already: it is not encoded a second time.
    fn in_partition(&self, partition: &str, file: &str) -> String {
        let file = PathPart::from(file);
        let parts = [self.prefix.as_ref(), partition, file.as_ref()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// The partition of an object of ours.
    pub(super) fn partition_of<'a>(&self, key: &'a str) -> &'a str {
        let below = key.strip_prefix(self.prefix.as_ref()).unwrap_or(key).trim_start_matches('/');
        below.rsplit_once('/').map_or("", |(partition, _)| partition)
    }

    /// Records that the format could not write.
    pub(super) fn rejected(&self, id: FileId, extent: Extent) -> Path {
        self.prefix.clone().join(REJECTED).join(self.file(id, extent, 0, "ndjson"))
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
        self.prefix.clone().join(MANIFESTS)
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

    /// Whether an object was, or was to be, written by this job and step: by its name, or as part of the same archive. Of
    /// that another job may be writing here at the same time; it begins its upload again then.
    pub(super) fn is_ours(&self, path: &Path) -> bool {
        let Some(name) = path.filename().filter(|_| path.prefix_matches(&self.prefix)) else { return false };
        if self.epoch_of_manifest(path).is_some() || *path == self.probe() {
            return true;
        }
        let result = name.strip_prefix(self.shown.as_str()).and_then(|name| name.strip_prefix("-i"));
        let archived = self.archive.as_ref().and_then(|stream| name.strip_prefix(stream.as_str())?.strip_prefix('.'));
        let is_number = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
        result.is_some_and(is_number)
            || archived.is_some_and(|name| name.rsplit_once("-i").is_some_and(|(_, rest)| is_number(rest)))
    }
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
        let object = Path::from(keys.object("day=1", ID, extent(), 0, "ndjson"));
        let name = "metering.charges-i00002-w01-s000004-f0000000120-e0000000123-p000.ndjson";
        assert_eq!(object.as_ref(), format!("out/day=1/{name}"));
        assert_eq!(keys.object("", ID, extent(), 0, "ndjson"), format!("out/{name}"));
        assert_eq!(keys.rejected(ID, extent()).as_ref(), format!("out/_rejected/{name}"));
        for prefix in ["", "out", "a/_rejected", "_rejected/_rejected"] {
            let keys = Keys::new(Path::from(prefix), "job", &"step".into());
            let manifest = keys.manifest(ID, extent());
            assert!(is_rejected(keys.rejected(ID, extent()).as_ref(), manifest.as_ref()), "{prefix}");
            for partition in ["", "p=_rejected"] {
                let object = keys.object(partition, ID, extent(), 0, "ndjson");
                assert!(!is_rejected(&object, manifest.as_ref()), "{object}");
            }
        }
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
        assert!(strange.is_ours(&Path::parse(strange.object("day=1", ID, extent(), 0, "ndjson")).unwrap()));
        assert!(keys.is_ours(&object) && keys.is_ours(&keys.manifest(ID, extent())) && keys.is_ours(&keys.probe()));
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
    fn an_archive_is_named_by_its_records() {
        let keys = keys("charges").archiving(Some("usage".to_owned()));
        let mut range = Range::of("shardId-000000000003");
        range.take("12");
        let name = keys.archived("dt=2026-01-01", &range, ID, 3, "avro");
        let zeros = "0".repeat(54);
        let file = format!("usage.shardId-000000000003-{zeros}12-{zeros}12-i00002-w01-s000004-p003.avro");
        assert_eq!(name, format!("out/dt=2026-01-01/{file}"));
        assert!(keys.is_ours(&Path::from(name.as_str())));
        assert!(keys.is_ours(&Path::from(keys.rejected(ID, extent()).as_ref())));
        for other in ["out/usage.txt", "out/usage2.a-1-1-i1", "usage.a-1-1-i00002-w01-s000004-p003.avro"] {
            assert!(!keys.is_ours(&Path::from(other)), "{other}");
        }
    }

    #[test]
    fn a_prefix_that_leaves_no_room_is_refused() {
        let with = |length| Keys::new(Path::from("x".repeat(length)), "job", &"step".into()).check();
        assert!(with(167).is_ok());
        assert!(with(168).unwrap_err().to_string().contains("168 bytes"));
    }

    proptest! {
        #[test]
        fn a_partition_of_a_template_is_taken_as_it_is(value in ".{0,60}") {
            let by = crate::partition::partition_by("a={a}/b={b}").field("a", |v: &String| v.clone().into());
            let mut partitions = by.field("b", |_| 1_u8.into()).build().unwrap();
            let Ok(partition) = partitions.path(&value) else { return Ok(()) };
            let name = keys("charges").object(partition, ID, extent(), 0, "ndjson");
            let path = Path::parse(&name).unwrap();
            prop_assert_eq!(path.as_ref(), name.as_str());
            prop_assert!(name.len() < LONGEST);
            prop_assert_eq!(keys("charges").partition_of(&name), partition);
            prop_assert!(keys("charges").is_ours(&path) && !keys("charge").is_ours(&path));
        }
    }
}
