//! The file sink through its port: its promise, its names, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may stop at what must not happen")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{hidden, job, names, numbers, shown};
use shardflow::sink::{Sink, SinkWriter};
use shardflow::testing::sink::{Driver, Promise, conforms, context};
use shardflow::{Epoch, ErrorKind};
use shardflow_sinks::{FileSink, files};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn it_conforms() {
    conforms(
        Promise::ExactlyOnce,
        folder,
        |dir| Box::new(files(dir.path())),
        |number| number,
        |dir| numbers(dir.path()),
    );
}

#[test]
fn it_conforms_with_a_file_for_every_few_records() {
    let sink = |dir: &TempDir| Box::new(files(dir.path()).roll_bytes(5)) as Box<dyn Sink<u64>>;
    conforms(Promise::ExactlyOnce, folder, sink, |number| number, |dir| numbers(dir.path()));
}

#[test]
fn it_conforms_with_text() {
    let sink = |dir: &TempDir| Box::new(files(dir.path()).prefix("a/b").lines()) as Box<dyn Sink<String>>;
    conforms(Promise::ExactlyOnce, folder, sink, |number| number.to_string(), |dir| numbers(&dir.path().join("a/b")));
}

#[test]
fn names_tell_incarnation_epoch_worker_and_part() {
    let dir = folder();
    let mut job = job(dir.path(), files(dir.path()).roll_bytes(4));
    job.start(2);
    job.stage(1, 3);
    job.prepare();
    job.persist();
    job.commit();
    let seen: Vec<_> = names(dir.path()).into_iter().filter(|name| !name.ends_with("lock")).collect();
    assert_eq!(
        seen,
        [
            ".conformance.results-i00001-e0000000001.mark",
            "conformance.results-i00001-e0000000001-w01-p000.ndjson",
            "conformance.results-i00001-e0000000001-w01-p001.ndjson",
        ]
    );
}

#[test]
fn nothing_is_opened_while_nothing_is_written() {
    let dir = folder();
    let mut job = job(dir.path(), files(dir.path()));
    job.start(4);
    for _ in 0..10 {
        job.prepare();
        job.persist();
        job.commit();
    }
    assert_eq!(names(dir.path()), [".conformance.results.lock"]);
}

/// A sink that holds files for ten seconds, and its clock in seconds.
fn holding(dir: &Path) -> (FileSink, Arc<AtomicU64>) {
    let (start, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let now = Arc::clone(&seconds);
    let clock = move || start + Duration::from_secs(now.load(Ordering::Relaxed));
    (files(dir).roll_after(Duration::from_secs(10)).clock(clock), seconds)
}

fn epoch(job: &mut Driver<'_, u64>) {
    job.prepare();
    job.persist();
    job.commit();
    job.acknowledge();
}

#[test]
fn a_file_collects_epochs_until_its_time_has_come() {
    let dir = folder();
    let (sink, seconds) = holding(dir.path());
    let mut job = job(dir.path(), sink);
    job.start(1);
    for _ in 0..3 {
        job.stage(0, 2);
        epoch(&mut job);
    }
    assert!(job.visible().is_empty());
    assert_eq!(hidden(dir.path()), [".conformance.results-i00001-w00-s000000-e0000000003-p000-l12.open"]);
    seconds.store(10, Ordering::Relaxed);
    epoch(&mut job);
    job.assert_all_visible();
    assert_eq!(shown(dir.path()).len(), 1);
    assert!(hidden(dir.path()).is_empty());
}

#[test]
fn a_held_file_is_published_without_what_was_not_committed_even_when_no_handle_is_left() {
    let dir = folder();
    let (sink, _) = holding(dir.path());
    let mut job = job(dir.path(), sink);
    job.start(2);
    job.stage(0, 5);
    job.stage(1, 5);
    epoch(&mut job);
    job.stage(0, 5);
    job.prepare();
    job.start(1);
    assert_eq!(numbers(dir.path()).len(), 10);
    assert!(hidden(dir.path()).is_empty());
}

#[test]
fn the_end_of_a_job_publishes_what_is_held() {
    let dir = folder();
    let (sink, _) = holding(dir.path());
    let mut job = job(dir.path(), sink);
    job.start(1);
    job.stage(0, 5);
    epoch(&mut job);
    assert!(job.visible().is_empty());
    job.stage(0, 5);
    job.finish();
    assert_eq!(numbers(dir.path()).len(), 10);
}

#[test]
fn a_reader_may_take_what_is_visible() {
    let dir = folder();
    let take = || shown(dir.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    let mut job = job(dir.path(), files(dir.path()));
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    job.persist();
    job.commit();
    take();
    job.commit();
    job.try_start(1).unwrap();
    assert!(numbers(dir.path()).is_empty());
}

#[test]
fn output_that_vanished_before_it_was_visible_stops_the_start() {
    let dir = folder();
    let mut job = job(dir.path(), files(dir.path()));
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    job.persist();
    hidden(dir.path()).iter().for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
    let error = job.try_start(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sink);
    assert!(error.to_string().contains("committed output of epoch 1 is gone"), "{error}");
    assert_eq!(error.step(), Some("results"));
}

#[test]
fn output_of_another_length_stops_the_start() {
    for change in [0, 3, 11] {
        let dir = folder();
        let mut job = job(dir.path(), files(dir.path()));
        job.start(1);
        job.stage(0, 5);
        job.prepare();
        job.persist();
        let staged = dir.path().join(&hidden(dir.path())[0]);
        fs::OpenOptions::new().write(true).open(&staged).unwrap().set_len(change).unwrap();
        let error = job.try_start(1).unwrap_err().to_string();
        assert!(error.contains(&format!("has {change} bytes where 10 were written")), "{error}");
        assert!(error.contains(staged.to_str().unwrap()), "{error}");
    }
}

#[test]
fn output_newer_than_the_state_stops_the_start_and_nothing_changes() {
    for keep_visible in [true, false] {
        let dir = folder();
        let mut newer = job(dir.path(), files(dir.path()));
        newer.start(1);
        for _ in 0..3 {
            newer.stage(0, 5);
            epoch(&mut newer);
        }
        drop(newer);
        if !keep_visible {
            shown(dir.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        let before = names(dir.path());
        let mut older = job(dir.path(), files(dir.path()));
        let error = older.try_start(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert!(error.to_string().contains("is of epoch 3, but the state has committed nothing"), "{error}");
        assert_eq!(names(dir.path()), before);
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let dir = folder();
    let foreign = [
        "notes.txt",
        ".hidden",
        "conformance.other-i00009-e0000000099-w00-p000.ndjson",
        ".other.results-i00001-w00-s000000.staged",
    ];
    foreign.iter().for_each(|name| fs::write(dir.path().join(name), "1").unwrap());
    fs::create_dir(dir.path().join("folder.ndjson.d")).unwrap();
    let sink = files(dir.path()).prefix("own");
    let own = dir.path().join("own");
    fs::create_dir(&own).unwrap();
    foreign.iter().for_each(|name| fs::write(own.join(name), "1\n").unwrap());
    let mut job = job(dir.path(), sink);
    job.try_start(1).unwrap();
    job.stage(0, 5);
    job.try_start(1).unwrap();
    foreign.iter().for_each(|name| assert!(own.join(name).exists() && dir.path().join(name).exists(), "{name}"));
}

#[test]
fn a_folder_has_one_committer_at_a_time() {
    let dir = folder();
    let sink = files(dir.path());
    let first = Sink::<u64>::committer(&sink, &context("job", "step")).unwrap();
    let error = Sink::<u64>::committer(&sink, &context("job", "step")).err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(Sink::<u64>::committer(&sink, &context("job", "other")).is_ok());
    drop(first);
    assert!(Sink::<u64>::committer(&sink, &context("job", "step")).is_ok());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let dir = folder();
    for (sink, what) in [
        (files(dir.path()).roll_bytes(0), "roll_bytes"),
        (files(dir.path()).prefix("../elsewhere"), "prefix \"../elsewhere\""),
        (files(dir.path()).prefix("/elsewhere"), "prefix \"/elsewhere\""),
    ] {
        let error = Sink::<u64>::committer(&sink, &context("job", "step")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = folder();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Sink::<u64>::committer(&files(file.join("out")), &context("job", "step")).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Sink);
    assert!(error.to_string().contains(file.join("out").to_str().unwrap()), "{error}");
}

#[test]
fn a_folder_that_disappears_is_named() {
    let dir = folder();
    let out = dir.path().join("out");
    let mut job = job(&out, files(&out));
    job.start(1);
    fs::remove_dir_all(&out).unwrap();
    job.stage(0, 5);
    let error = job.try_prepare().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sink);
    assert!(error.to_string().contains(out.to_str().unwrap()), "{error}");
}

/// A record that has no JSON.
struct Broken;

impl serde::Serialize for Broken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeSeq};
        serializer.serialize_seq(None)?.serialize_element(&1)?;
        Err(S::Error::custom("it has no form"))
    }
}

#[test]
fn a_record_without_a_form_names_its_step_and_leaves_nothing_behind() {
    let dir = folder();
    let mut writer: Box<dyn SinkWriter<Broken>> = files(dir.path()).writer(&context("job", "charges"), 0).unwrap();
    let error = writer.stage(&Broken).unwrap_err();
    assert_eq!(error.to_string(), "step \"charges\": could not write a record: it has no form");
    assert_eq!(writer.in_flight(), 0);
    assert!(writer.prepare(Epoch::new(1)).unwrap().is_none());
}

#[test]
fn in_flight_counts_what_is_staged_and_not_prepared() {
    let dir = folder();
    let mut writer: Box<dyn SinkWriter<u64>> = files(dir.path()).writer(&context("job", "charges"), 0).unwrap();
    for number in 0..200_000_u64 {
        writer.stage(&number).unwrap();
    }
    assert_eq!(writer.in_flight(), (0..200_000_u64).map(|number| number.to_string().len() as u64 + 1).sum::<u64>());
    writer.prepare(Epoch::new(1)).unwrap().unwrap();
    assert_eq!(writer.in_flight(), 0);
}
