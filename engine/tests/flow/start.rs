//! What cannot work is an error at the start, in one line that says what is wrong, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;

use shardflow::testing::{Collected, Feed};
use shardflow::{Error, ErrorKind, Flow, Job, JobArgs, json, lines, millis, sliding, tumbling};
use tempfile::tempdir;

use crate::support::sink::Probe;
use crate::support::{Reading, job, lag, push, reading, run, start};

/// The error of a program that must not start. It leaves no trace.
fn refused(program: impl Fn(&Flow<'_>) + Send + Sync + 'static) -> String {
    let dir = tempdir().unwrap();
    let folder = dir.path().join("state");
    let error = run(job("refused", &folder, 2), program).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!folder.exists(), "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

fn feed() -> Feed {
    let feed = Feed::new();
    feed.push("s", "a");
    feed.close();
    feed
}

/// A program with a source, named `source`, and a sink, named `sink`.
fn copies(source: &'static str, sink: &'static str, feed: Feed) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
    move |flow| {
        flow.source(source, feed.clone()).decode(lines()).0.sink(sink, Collected::new());
    }
}

/// A program that dedupes in the step `dedupe` and counts in the step `window`.
fn counts(
    dedupe: &'static str,
    window: &'static str,
    sink: Probe<u64>,
    feed: Feed,
) -> impl Fn(&Flow<'_>) + Send + Sync {
    move |flow| {
        let (readings, _rejected) = flow.source("readings", feed.clone()).decode(json::<Reading>());
        readings
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.key.clone())
            .dedupe(dedupe, |reading| reading.id, millis(100))
            .window(tumbling(millis(10)).grace(millis(0)))
            .discard_late()
            .count(window)
            .map(|result| result.value)
            .sink("sink", sink.clone());
    }
}

#[test]
fn two_steps_of_one_name_are_refused_by_their_name() {
    let twice = |name: &str| format!("two steps are named \"{name}\": a name is the address of a step's state");
    assert_eq!(refused(copies("letters", "letters", feed())), twice("letters"));
    assert_eq!(refused(counts("readings", "window", Probe::new(), feed())), twice("readings"));
    assert_eq!(refused(counts("step", "step", Probe::new(), feed())), twice("step"));
    assert_eq!(refused(counts("dedupe", "sink", Probe::new(), feed())), twice("sink"));
}

#[test]
fn names_that_cannot_be_addresses_are_refused() {
    assert!(refused(copies("", "sink", feed())).starts_with("step name \"\" is empty"));
    assert!(refused(copies("a::b", "sink", feed())).starts_with("step name \"a::b\""));
    assert!(refused(copies("source", "line\nbreak", feed())).starts_with("step name \"line\\nbreak\""));
}

#[test]
fn a_program_without_a_source_is_refused() {
    assert_eq!(refused(|_flow| {}), "the program has no source");
}

#[test]
fn windows_that_cannot_work_are_refused_in_the_steps_name() {
    let error = refused(|flow| {
        let (readings, _rejected) = flow.source("readings", feed()).decode(json::<Reading>());
        readings
            .event_time(Reading::time, lag(0))
            .key_by(|reading| reading.key.clone())
            .window(sliding(millis(10), millis(20)).grace(millis(0)))
            .discard_late()
            .count("totals")
            .map(|result| result.value)
            .sink("sink", Collected::new());
    });
    assert_eq!(
        error,
        "step \"totals\": window slide \"20ms\" is greater than the size \"10ms\": records between two windows would be lost"
    );
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let dir = tempdir().unwrap();
    let state = dir.path().join("state");
    let refused = |job: Job| {
        let error = run(job, copies("source", "sink", feed())).unwrap_err();
        assert_eq!((error.kind(), state.exists()), (ErrorKind::Config, false), "{error}");
        error.to_string()
    };
    let few_groups = JobArgs { key_groups: Some(4), ..JobArgs::default() };
    let error = refused(job("refused", &state, 5).args(few_groups));
    assert!(error.contains("--workers \"5\"") && error.contains('4'), "{error}");
    assert!(refused(job("refused", &state, 0)).contains("--workers \"0\""));
    assert!(refused(job("../up", &state, 1)).contains("\"../up\""));
    assert!(refused(job("refused", &state, 1).epoch(millis(1))).contains("--epoch"));
    assert!(refused(Job::named("refused")).contains("--state"));
}

/// All files below a folder with their bytes, but the lock's.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => found.extend(contents(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes))),
            false => _ = found.insert(name, fs::read(&path).unwrap()),
        }
    }
    found
}

/// The error of a start that must fail on the state in `folder`, naming it and changing nothing there.
fn refused_state(folder: &Path, job: Job, program: impl Fn(&Flow<'_>) + Send + Sync + 'static) -> Error {
    let before = contents(folder);
    let error = run(job, program).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
    // RocksDB writes a log about each look.
    let of_note = |files: BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
        files.into_iter().filter(|(name, _)| !name.contains("LOG")).collect()
    };
    assert_eq!(of_note(contents(folder)), of_note(before), "{error}");
    error
}

#[test]
fn the_state_folder_of_another_job_is_refused_and_left_alone() {
    let state = tempdir().unwrap();
    run(job("mine", state.path(), 1), copies("source", "sink", feed())).unwrap();
    let error = refused_state(state.path(), job("yours", state.path(), 1), copies("source", "sink", feed()));
    let folder = state.path().display();
    let expected =
        format!("could not open the state folder \"{folder}\": it belongs to the job \"mine\", not to \"yours\"");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn state_of_a_newer_version_is_refused_and_left_alone() {
    let state = tempdir().unwrap();
    run(job("newer", state.path(), 1), copies("source", "sink", feed())).unwrap();
    let file = state.path().join("job");
    let whole = fs::read(&file).unwrap();
    let mut newer = whole.clone();
    newer[5] = 9;
    fs::write(&file, newer).unwrap();
    let error = refused_state(state.path(), job("newer", state.path(), 1), copies("source", "sink", feed()));
    assert!(error.to_string().contains("its format version 9 is newer than this program's 1"), "{error}");
    fs::write(&file, whole).unwrap();
    assert!(run(job("newer", state.path(), 1), copies("source", "sink", feed())).is_ok());
}

#[test]
fn more_workers_than_the_first_start_made_key_groups_are_refused() {
    let state = tempdir().unwrap();
    let few_groups = JobArgs { key_groups: Some(2), ..JobArgs::default() };
    run(job("groups", state.path(), 2).args(few_groups), copies("source", "sink", feed())).unwrap();
    let error = run(job("groups", state.path(), 3), copies("source", "sink", feed())).unwrap_err();
    assert!(error.to_string().contains('3') && error.to_string().contains('2'), "{error}");
    assert!(run(job("groups", state.path(), 1), copies("source", "sink", feed())).is_ok());
}

#[test]
fn a_step_that_lost_its_name_is_refused_unless_its_state_may_be_dropped() {
    let feed = Feed::new();
    push(&feed, "s", &[reading("k", 1, 5, 1)]);
    let state = tempdir().unwrap();
    let sink = Probe::new();
    let running = start(job("renamed", state.path(), 1), counts("seen", "totals", sink.clone(), feed.clone()));
    running.pass_commits(3);
    running.stop().unwrap();
    feed.close();
    let renamed = |window| counts("seen", window, sink.clone(), feed.clone());
    let error = run(job("renamed", state.path(), 1), renamed("sums")).unwrap_err();
    assert!(error.to_string().contains("the snapshot holds state of step \"totals\""), "{error}");
    // A step of another kind cannot take the state over.
    let error = run(job("renamed", state.path(), 1), counts("totals", "seen", sink.clone(), feed.clone())).unwrap_err();
    assert!(error.to_string().contains("its state is of kind"), "{error}");
    run(job("renamed", state.path(), 1).allow_dropped_state(true), renamed("sums")).unwrap();
    assert_eq!(sink.len(), 0, "the dropped window came out all the same");
}

#[test]
fn two_jobs_on_one_state_folder_are_refused_and_the_first_goes_on() {
    let state = tempdir().unwrap();
    let following = Feed::new();
    following.open("s", &[]);
    let running = start(job("twice", state.path(), 1), copies("source", "sink", following.clone()));
    running.pass_commits(1);
    let error = run(job("twice", state.path(), 1), copies("source", "sink", feed())).unwrap_err();
    let folder = state.path().display();
    assert_eq!(error.to_string(), format!("could not open the state folder \"{folder}\": another process uses it"));
    assert_eq!(error.kind(), ErrorKind::State);
    running.pass_commits(3);
    following.close();
    assert!(running.end().unwrap().input_ended);
}

#[test]
fn of_two_jobs_that_start_at_once_the_one_that_is_refused_leaves_the_other_its_state() {
    for round in 0..20 {
        let dir = tempdir().unwrap();
        let folder = dir.path().join("state");
        let at_once = Arc::new(Barrier::new(2));
        let racer = || {
            let (folder, at_once, following) = (folder.clone(), Arc::clone(&at_once), Feed::new());
            following.push("s", "a");
            thread::spawn(move || {
                at_once.wait();
                let running = start(job("race", &folder, 1), copies("source", "sink", following.clone()));
                following.close();
                running.end()
            })
        };
        let racers = [racer(), racer()];
        let outcomes = racers.map(|racer| racer.join().unwrap());
        // One of them, or both, the second after the first.
        let starts = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        assert!(starts > 0, "round {round}: {outcomes:?}");
        let again = run(job("race", &folder, 1), copies("source", "sink", feed())).unwrap();
        assert_eq!(again.incarnation.number(), starts + 1, "round {round}: the state is gone, {outcomes:?}");
    }
}

#[test]
fn a_source_without_a_sink_is_read_to_its_end() {
    let state = tempdir().unwrap();
    let program = |flow: &Flow<'_>| drop(flow.source("source", feed()).decode(lines()));
    assert!(run(job("no-sink", state.path(), 2), program).unwrap().input_ended);
}

#[test]
fn a_source_without_splits_ends_at_once() {
    let state = tempdir().unwrap();
    let empty = Feed::new();
    empty.close();
    assert!(run(job("no-splits", state.path(), 2), copies("source", "sink", empty)).unwrap().input_ended);
}
