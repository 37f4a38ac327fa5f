//! What a job must have written, and what anybody who looked into its folder has seen of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use shardflow_examples::metering::output::visible_files;
use shardflow_examples::metering::reference::{AuditReport, Reference};

use crate::process::{PATIENCE, pause};

/// The visible files of an output folder, as they were first seen: what is visible is whole and never changes.
#[derive(Default)]
pub(crate) struct Witness {
    seen: BTreeMap<PathBuf, Vec<u8>>,
}

impl Witness {
    /// Looks at the folder; gives how many files are new.
    pub(crate) fn look(&mut self, out: &Path) -> usize {
        let before = self.seen.len();
        let visible = visible_files(out).unwrap();
        assert!(visible.len() >= before, "a visible file is gone again");
        for path in visible {
            let whole = |path: &PathBuf| {
                let bytes = fs::read(path).unwrap();
                assert_eq!(bytes.last(), Some(&b'\n'), "{} became visible before it was whole", path.display());
                bytes
            };
            self.seen.entry(path).or_insert_with_key(whole);
        }
        self.seen.len() - before
    }

    /// Waits until something new is visible: the job is in the middle of its work.
    pub(crate) fn wait_for_more(&mut self, out: &Path) {
        let deadline = Instant::now() + PATIENCE;
        while self.look(out) == 0 {
            assert!(Instant::now() < deadline, "nothing became visible");
            pause();
        }
    }

    /// Looks again at everything that was ever visible.
    pub(crate) fn compare(&mut self, out: &Path) {
        self.look(out);
        for (path, bytes) in &self.seen {
            assert!(fs::read(path).unwrap() == *bytes, "{} has changed", path.display());
        }
    }
}

/// The reference and the witness of one job.
pub(crate) struct Books {
    reference: Reference,
    out: PathBuf,
    pub(crate) witness: Witness,
}

impl Books {
    pub(crate) fn new(reference: Reference, out: PathBuf) -> Self {
        assert!(!reference.charges.is_empty() && !reference.late.is_empty() && !reference.rejected.is_empty());
        assert!(reference.charges.values().any(|total| total.count > 1));
        Self { reference, out, witness: Witness::default() }
    }

    fn report(&mut self) -> AuditReport {
        self.witness.compare(&self.out);
        self.reference.compare(&self.out).unwrap()
    }

    /// What is visible in the middle of the work: some rows may be missing, and that is all. Gives how many are.
    pub(crate) fn hold_so_far(&mut self) -> u64 {
        let report = self.report();
        for differences in [&report.charges, &report.late, &report.rejected] {
            assert_eq!(differences.twice + differences.unexpected + differences.changed, 0, "{report}");
        }
        report.charges.missing + report.late.missing + report.rejected.missing
    }

    /// Everything is there, once, and nothing else lies about.
    pub(crate) fn hold(&mut self) {
        let report = self.report();
        assert!(report.holds(), "{report}");
        assert_eq!(leftovers(&self.out), Vec::<PathBuf>::new());
    }
}

/// Hidden files that a finished job must not leave: all but the locks and the marks.
pub(crate) fn leftovers(out: &Path) -> Vec<PathBuf> {
    let kept = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "lock" || ending == "mark");
    let hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    tree(out).into_keys().filter(|path| hidden(path) && !kept(path)).collect()
}

/// Everything below a folder: files with their bytes, folders without; of a symbolic link, where it leads.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                folders.push(path.clone());
                found.insert(path, None);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
                found.insert(path, Some(target));
            } else {
                found.insert(path.clone(), Some(fs::read(&path).unwrap()));
            }
        }
    }
    found
}
