//! Names of results: each says of which job, step and start it is, and which epochs are in it. Pure.
//!
//! | name | what it is |
//! |---|---|
//! | `job.step-i00002-e0000000123-w01-p000.parquet` | incarnation, first epoch, worker, part |
//! | `job.step-i00002-e0000000123-0000000130-w01-p000.parquet` | the same, with its last epoch |
//! | `_commits/job.step-i00002-e0000000123-0000000130-p000.json` | the manifest of these epochs |
//!
//! An upload needs its key before it is known when it will be full: then a name has the first epoch alone. Manifests lie in a
//! folder that readers of Hive's form skip.

use shardflow::vocabulary::StepName;
use shardflow::{Epoch, Result};

use super::key::{check_ending, is_known_ending, numbers};

/// The folder of manifests.
const COMMITS: &str = "_commits";

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultName {
    /// The start that wrote it.
    pub incarnation: u64,
    /// The first epoch in it.
    pub first: Epoch,
    /// The last epoch in it, where that was known when it got its name.
    pub last: Option<Epoch>,
    /// The worker that wrote it.
    pub worker: u32,
    /// Its place among the objects of this worker that begin with this epoch.
    pub part: u32,
}

/// The names of one step of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultNames {
    stem: String,
    ending: String,
}

impl ResultNames {
    /// Names for a job and step, as `StepName::as_file_name` gives them, with the ending of the files' format.
    ///
    /// # Errors
    /// An ending that cannot end a name.
    pub fn new(job: &str, step: &str, ending: impl Into<String>) -> Result<Self> {
        let ending = ending.into();
        check_ending(&ending)?;
        Ok(Self { stem: format!("{}.{}", tame(job), tame(step)), ending })
    }

    /// The name.
    #[must_use]
    pub fn render(&self, name: ResultName) -> String {
        self.with_ending(name, &self.ending)
    }

    fn with_ending(&self, name: ResultName, ending: &str) -> String {
        let ResultName { incarnation, first, last, worker, part } = name;
        format!("{}-{}-w{worker:02}-p{part:03}.{ending}", self.stem, epochs(incarnation, first, last))
    }

    /// What `name` says; `None` for every object that this job and step did not write.
    #[must_use]
    pub fn parse(&self, name: &str) -> Option<ResultName> {
        let (text, ending) = name.strip_prefix(self.stem.as_str())?.strip_prefix('-')?.split_once('.')?;
        if ending != self.ending && !is_known_ending(ending) {
            return None;
        }
        let (incarnation, first, last, worker, part) = match text.split('-').count() {
            4 => {
                let [i, e, w, p] = numbers(text, ["i", "e", "w", "p"])?;
                (i, e, None, w, p)
            }
            _ => {
                let [i, e, l, w, p] = numbers(text, ["i", "e", "", "w", "p"])?;
                (i, e, Some(Epoch::new(l)), w, p)
            }
        };
        let (worker, part) = (worker.try_into().ok()?, part.try_into().ok()?);
        let found = ResultName { incarnation, first: Epoch::new(first), last, worker, part };
        // Only what we would write: there is one name for each object.
        (self.with_ending(found, ending) == name && last.is_none_or(|last| last >= found.first)).then_some(found)
    }

    /// The name of the manifest of these epochs, with its folder, below the sink's prefix. `part` tells several of them apart.
    #[must_use]
    pub fn manifest(&self, incarnation: u64, first: Epoch, last: Epoch, part: u32) -> String {
        format!("{COMMITS}/{}-{}-p{part:03}.json", self.stem, epochs(incarnation, first, Some(last)))
    }

    /// The incarnation, first and last epoch of a manifest of this job and step, from its name with its folder.
    #[must_use]
    pub fn parse_manifest(&self, name: &str) -> Option<(u64, Epoch, Epoch, u32)> {
        let found = name.strip_prefix(COMMITS)?.strip_prefix('/')?.strip_prefix(self.stem.as_str())?;
        let found = found.strip_prefix('-')?.strip_suffix(".json")?;
        let [incarnation, first, last, part] = numbers(found, ["i", "e", "", "p"])?;
        let (first, last, part) = (Epoch::new(first), Epoch::new(last), part.try_into().ok()?);
        (self.manifest(incarnation, first, last, part) == name && last >= first).then_some((
            incarnation,
            first,
            last,
            part,
        ))
    }

    /// What all names of this job and step begin with: for listing. Names of other steps may begin with it as well.
    #[must_use]
    pub fn stem(&self) -> &str {
        &self.stem
    }
}

fn epochs(incarnation: u64, first: Epoch, last: Option<Epoch>) -> String {
    let last = last.map_or_else(String::new, |last| format!("-{:010}", last.number()));
    format!("i{incarnation:05}-e{:010}{last}", first.number())
}

/// A name as part of a file's.
pub(super) fn tame(name: &str) -> String {
    StepName::new(name).as_file_name()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(job: &str, step: &str) -> ResultNames {
        ResultNames::new(job, step, "parquet").unwrap()
    }

    fn name(first: u64, last: Option<u64>) -> ResultName {
        ResultName { incarnation: 2, first: Epoch::new(first), last: last.map(Epoch::new), worker: 1, part: 0 }
    }

    #[test]
    fn names_read_as_documented() {
        let names = names("metering", "charges");
        assert_eq!(names.render(name(123, None)), "metering.charges-i00002-e0000000123-w01-p000.parquet");
        assert_eq!(
            names.render(name(123, Some(130))),
            "metering.charges-i00002-e0000000123-0000000130-w01-p000.parquet"
        );
        assert_eq!(
            names.manifest(2, Epoch::new(123), Epoch::new(130), 0),
            "_commits/metering.charges-i00002-e0000000123-0000000130-p000.json"
        );
    }

    #[test]
    fn a_file_of_the_format_before_is_still_ours() {
        let parsed = names("metering", "charges").parse("metering.charges-i00002-e0000000123-w01-p000.ndjson.gz");
        assert_eq!(parsed, Some(name(123, None)));
    }

    #[test]
    fn objects_of_others_are_not_ours() {
        let ours = names("metering", "charges");
        for name in [
            "metering.charges2-i00002-e0000000123-w01-p000.parquet",
            "metering.charges-x-i00002-e0000000123-w01-p000.parquet",
            "metering.charges-i00002-i00002-e0000000123-w01-p000.parquet",
            "metering.charges-i00002-e0000000123-w01-p000-x.parquet",
            "metering.charges-i00002-e+000000123-w01-p000.parquet",
            "metering.charges-i2-e0000000123-w01-p000.parquet",
            "metering.charges-i00002-e-w01-p000.parquet",
            "metering.charges-i00002-e99999999999999999999-w01-p000.parquet",
            "metering.charges-i00002-e0000000123-w99999999999-p000.parquet",
            "metering.charges-i00002-e0000000130-0000000123-w01-p000.parquet",
            "metering.charges-i00002-e0000000123-w01-p000.parquet.crc",
            "metering.charges-i00002-e0000000123-w01-p000.txt",
            "metering.charges-i00002-e0000000123-w01-p000",
            "_commits/metering.charges-i00002-e0000000123-0000000130-p000.json",
            "metering.charges-i00002-e0000000123-0000000130-p000.json",
            "",
        ] {
            assert_eq!(ours.parse(name), None, "{name}");
        }
        for name in [
            "metering.charges-i00002-e0000000123-0000000130-p000.json",
            "_commits/metering.charges2-i00002-e0000000123-0000000130-p000.json",
            "_commits/metering.charges-i00002-e0000000130-0000000123-p000.json",
            "_commits/metering.charges-i00002-e0000000123-p000.json",
        ] {
            assert_eq!(ours.parse_manifest(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_understood_by_its_own_step_and_by_no_other(
            job in ".{0,12}", step in "[a-z.-]{1,12}", other in "[a-z.-]{1,12}", incarnation: u64, worker: u32, part: u32,
            first: u64, more in proptest::option::of(0u64..100),
        ) {
            let first = first.min(u64::MAX - 100);
            let last = more.map(|more| Epoch::new(first + more));
            let name = ResultName { incarnation, first: Epoch::new(first), last, worker, part };
            let ours = names(&job, &step);
            let text = ours.render(name);
            prop_assert!(text.len() < 255 && text.is_ascii() && !text.contains('/'), "{}", text);
            prop_assert_eq!(ours.parse(&text), Some(name));
            let manifest = ours.manifest(incarnation, name.first, last.unwrap_or(name.first), part);
            prop_assert_eq!(
                ours.parse_manifest(&manifest),
                Some((incarnation, name.first, last.unwrap_or(name.first), part))
            );
            for theirs in [names(&job, &format!("{step}2")), names(&format!("{job}2"), &step), names(&job, &other)] {
                if theirs != ours {
                    prop_assert_eq!(theirs.parse(&text), None);
                    prop_assert_eq!(theirs.parse_manifest(&manifest), None);
                }
            }
        }

        #[test]
        fn no_name_makes_the_parser_panic(name in ".*") {
            let ours = names("metering", "charges");
            for name in [name.clone(), format!("metering.charges-{name}.parquet"), format!("_commits/metering.charges-{name}")] {
                let _ = (ours.parse(&name), ours.parse_manifest(&name));
            }
        }
    }
}
