//! `metering run` as a process on generated files, against the reference: whole runs, and runs that are killed again and
//! again and go on with another number of workers.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shardflow_examples::metering::generate::generate;
use shardflow_examples::metering::output::visible_files;
use shardflow_examples::metering::reference::{Reference, Semantics};
use shardflow_examples::metering::workload::Spec;

const SEMANTICS: Semantics = Semantics { window: 60_000, lag: 5_000, grace: 0, dedupe: 86_400_000 };

/// Starts `metering run` on `dir/in`.
fn start(dir: &Path, semantics: &Semantics, workers: usize) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metering"));
    command.arg("run").arg("--source").arg(format!("file:{}", dir.join("in").display()));
    command.arg("--out").arg(dir.join("out")).arg("--state").arg(dir.join("state"));
    for (flag, value) in [
        ("--workers", workers as u64),
        ("--epoch-ms", 20),
        ("--window-ms", semantics.window),
        ("--lag-ms", semantics.lag),
        ("--grace-ms", semantics.grace),
        ("--dedupe-ms", semantics.dedupe),
    ] {
        command.arg(flag).arg(value.to_string());
    }
    command.env("SHARDFLOW_LOG", "warn").stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the job to end by itself, two minutes at most.
fn finish(mut job: Child) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while job.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            job.kill().unwrap();
        }
        std::thread::yield_now();
    }
    let output = job.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

fn check(dir: &Path, semantics: &Semantics) {
    let reference = Reference::compute(&dir.join("in"), semantics).unwrap();
    assert!(!reference.charges.is_empty() && !reference.late.is_empty() && !reference.rejected.is_empty());
    let report = reference.compare(&dir.join("out")).unwrap();
    assert!(report.holds(), "{report}");
}

fn input(records: u64, seed: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec { lanes: 3, late: 0.005, bad: 0.005, ..Spec::new(records, seed) };
    generate(spec, &dir.path().join("in")).unwrap();
    dir
}

#[test]
fn results_are_those_of_the_reference_with_any_number_of_workers() {
    for (workers, seed) in [(1, 1), (2, 2), (5, 3)] {
        let dir = input(100_000, seed);
        finish(start(dir.path(), &SEMANTICS, workers));
        check(dir.path(), &SEMANTICS);
    }
}

#[test]
fn other_settings_give_the_references_other_results() {
    let dir = input(100_000, 4);
    let semantics = Semantics { window: 7_000, lag: 1_000, grace: 3_000, dedupe: 0 };
    finish(start(dir.path(), &semantics, 2));
    check(dir.path(), &semantics);
}

#[test]
fn running_a_finished_job_again_adds_nothing() {
    let dir = input(50_000, 5);
    finish(start(dir.path(), &SEMANTICS, 2));
    let files = visible_files(&dir.path().join("out")).unwrap();
    finish(start(dir.path(), &SEMANTICS, 3));
    assert_eq!(visible_files(&dir.path().join("out")).unwrap(), files);
    check(dir.path(), &SEMANTICS);
}

#[test]
fn a_job_that_is_killed_again_and_again_gives_the_same_results() {
    let dir = input(1_000_000, 6);
    let out = dir.path().join("out");
    for workers in [2, 1, 4, 3] {
        // Killed as soon as it has made something visible: in the middle of its work, and never before it has begun.
        let before = visible_files(&out).unwrap().len();
        let mut job = start(dir.path(), &SEMANTICS, workers);
        let deadline = Instant::now() + Duration::from_secs(60);
        while visible_files(&out).unwrap().len() == before && job.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "nothing became visible within a minute");
            std::thread::yield_now();
        }
        job.kill().unwrap();
        let output = job.wait_with_output().unwrap();
        assert!(output.status.code().is_none_or(|code| code == 0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    finish(start(dir.path(), &SEMANTICS, 2));
    check(dir.path(), &SEMANTICS);
}
