//! Every file of a sink says in its name whose it is and how far it got, so a folder can be settled without other notes.
//!
//! | name | what it is |
//! |---|---|
//! | `job.step-i00002-e0000000123-w01-p000.ndjson` | visible: incarnation, last epoch, worker, part |
//! | `.job.step-i00002-w01-s000004.staged` | staged: incarnation, worker, serial; nothing of it is known to be committed |
//! | `.job.step-i00002-w01-s000004-e0000000123-p000-l4096.open` | held: the first 4096 bytes are committed |
//! | `.job.step-i00002-e0000000123.mark` | everything up to this epoch was made visible or held |
//! | `.job.step.lock` | locked while a process commits here |
//!
//! A visible file carries its last epoch, not its first: what lies beyond the last committed epoch must show.

use shardflow::Epoch;

const ENDINGS: [&str; 2] = ["ndjson", "txt"];

/// A staged file: which start, which worker, which of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) incarnation: u64,
    pub(super) worker: u32,
    pub(super) serial: u64,
}

/// How much of a file is committed: through which epoch, as which part of it, how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) epoch: Epoch,
    pub(super) part: u32,
    pub(super) length: u64,
}

/// What a file in the folder is, if it belongs to this job and step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Visible { incarnation: u64, epoch: Epoch, worker: u32, part: u32 },
    Staged(FileId),
    Held(FileId, Extent),
    Mark { incarnation: u64, epoch: Epoch },
}

/// The names of one step of one job.
#[derive(Debug, Clone)]
pub(super) struct Names {
    stem: String,
    ending: &'static str,
}

impl Names {
    pub(super) fn new(job: &str, step: &str, ending: &'static str) -> Self {
        Self { stem: format!("{}.{}", tame(job), tame(step)), ending }
    }

    pub(super) fn lock(&self) -> String {
        format!(".{}.lock", self.stem)
    }

    /// The visible name of a committed file.
    pub(super) fn visible(&self, id: FileId, extent: Extent) -> String {
        let FileId { incarnation, worker, .. } = id;
        self.render(Named::Visible { incarnation, epoch: extent.epoch, worker, part: extent.part })
    }

    pub(super) fn render(&self, named: Named) -> String {
        let Self { stem, ending } = self;
        match named {
            Named::Visible { incarnation: i, epoch: e, worker: w, part: p } => {
                format!("{stem}-i{i:05}-e{:010}-w{w:02}-p{p:03}.{ending}", e.number())
            }
            Named::Staged(FileId { incarnation: i, worker: w, serial: s }) => {
                format!(".{stem}-i{i:05}-w{w:02}-s{s:06}.staged")
            }
            Named::Held(FileId { incarnation: i, worker: w, serial: s }, Extent { epoch: e, part: p, length: l }) => {
                format!(".{stem}-i{i:05}-w{w:02}-s{s:06}-e{:010}-p{p:03}-l{l}.open", e.number())
            }
            Named::Mark { incarnation: i, epoch: e } => format!(".{stem}-i{i:05}-e{:010}.mark", e.number()),
        }
    }

    /// What `name` is; `None` for every file that this job and step did not write.
    pub(super) fn parse(&self, name: &str) -> Option<Named> {
        // A visible file keeps its ending when the format changes; a hidden one must be exactly what we would write.
        self.read(name).filter(|named| matches!(named, Named::Visible { .. }) || self.render(*named) == name)
    }

    fn read(&self, name: &str) -> Option<Named> {
        let (hidden, name) = name.strip_prefix('.').map_or((false, name), |rest| (true, rest));
        let (numbers, ending) = name.strip_prefix(self.stem.as_str())?.strip_prefix('-')?.rsplit_once('.')?;
        match (hidden, ending) {
            (false, ending) if ENDINGS.contains(&ending) => {
                let [incarnation, epoch, worker, part] = fields(numbers, ["i", "e", "w", "p"])?;
                let (worker, part) = (worker.try_into().ok()?, part.try_into().ok()?);
                Some(Named::Visible { incarnation, epoch: Epoch::new(epoch), worker, part })
            }
            (true, "staged") => {
                let [incarnation, worker, serial] = fields(numbers, ["i", "w", "s"])?;
                Some(Named::Staged(FileId { incarnation, worker: worker.try_into().ok()?, serial }))
            }
            (true, "open") => {
                let [incarnation, worker, serial, epoch, part, length] =
                    fields(numbers, ["i", "w", "s", "e", "p", "l"])?;
                let id = FileId { incarnation, worker: worker.try_into().ok()?, serial };
                Some(Named::Held(id, Extent { epoch: Epoch::new(epoch), part: part.try_into().ok()?, length }))
            }
            (true, "mark") => {
                let [incarnation, epoch] = fields(numbers, ["i", "e"])?;
                Some(Named::Mark { incarnation, epoch: Epoch::new(epoch) })
            }
            _ => None,
        }
    }
}

/// The numbers of `i00002-e0000000123`, each behind its tag and nothing else.
fn fields<const N: usize>(text: &str, tags: [&str; N]) -> Option<[u64; N]> {
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

/// `name` as part of a file name: letters, digits, `_` and `-`, at most 48 of them. A name that had to change carries its
/// checksum, so that two names never become one.
fn tame(name: &str) -> String {
    let tame = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.len() <= 48 && name.chars().all(tame) {
        return name.to_owned();
    }
    let kept: String = name.chars().take(38).map(|c| if tame(c) { c } else { '_' }).collect();
    format!("{kept}~{:08x}", crc32fast::hash(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(job: &str, step: &str) -> Names {
        Names::new(job, step, "ndjson")
    }

    #[test]
    fn a_visible_name_reads_as_documented() {
        let id = FileId { incarnation: 2, worker: 1, serial: 9 };
        let extent = Extent { epoch: Epoch::new(123), part: 0, length: 77 };
        assert_eq!(
            names("metering", "charges").visible(id, extent),
            "metering.charges-i00002-e0000000123-w01-p000.ndjson"
        );
    }

    #[test]
    fn names_that_would_look_alike_differ() {
        let stems = ["a/b", "a_b", "a.b", "../a", "", "ä", "a b"].map(tame);
        for (at, one) in stems.iter().enumerate() {
            assert!(!one.contains(['/', '.', ' ']), "{one}");
            assert!(stems.iter().skip(at + 1).all(|other| other != one), "{one}");
        }
        assert_ne!(names("a-b", "c").stem, names("a", "b-c").stem);
        assert!(tame(&"x".repeat(300)).len() <= 48);
        assert_ne!(tame(&"x".repeat(300)), tame(&"x".repeat(301)));
    }

    #[test]
    fn files_of_others_are_not_ours() {
        let ours = names("metering", "charges");
        for name in [
            "metering.charges2-i00002-e0000000123-w01-p000.ndjson",
            "metering.charges-i00002-i00002-e0000000123-w01-p000.ndjson",
            "metering.charges-i00002-e0000000123-w01-p000-x.ndjson",
            "metering.charges-i00002-e+000000123-w01-p000.ndjson",
            "metering.charges-i00002-e-w01-p000.ndjson",
            "metering.charges-i00002-e99999999999999999999-w01-p000.ndjson",
            "metering.charges-i00002-e0000000123-w99999999999-p000.ndjson",
            "metering.charges-i00002-e0000000123-w01-p000.csv",
            "metering.charges-i00002-w01-s000001.staged",
            ".metering.charges-i00002-e0000000123-w01-p000.ndjson",
            ".metering.charges.lock",
            ".metering.charges-i2-w01-s000001.staged",
            "notes.txt",
            "",
        ] {
            assert_eq!(ours.parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_understood_by_its_own_step_and_by_no_other(
            job in ".{0,12}", step in "[a-z-]{1,12}", incarnation: u64, worker: u32, serial: u64, epoch: u64, part: u32, length: u64,
        ) {
            let id = FileId { incarnation, worker, serial };
            let epoch = Epoch::new(epoch);
            let (ours, theirs) = (names(&job, &step), names(&job, &format!("{step}2")));
            for named in [
                Named::Visible { incarnation, epoch, worker, part },
                Named::Staged(id),
                Named::Held(id, Extent { epoch, part, length }),
                Named::Mark { incarnation, epoch },
            ] {
                let name = ours.render(named);
                prop_assert!(name.len() < 255, "{}", name);
                prop_assert_eq!(ours.parse(&name), Some(named));
                prop_assert_eq!(theirs.parse(&name), None);
            }
        }

        #[test]
        fn no_name_makes_the_parser_panic(name in ".*") {
            let _ = names("metering", "charges").parse(&name);
            let _ = names("metering", "charges").parse(&format!(".metering.charges-{name}.open"));
        }
    }
}
