//! A sink that fails or panics, wherever it is called, ends the job with an error that names the sink. The last committed
//! epoch stands.

use shardflow::ErrorKind;
use tempfile::tempdir;

use crate::support::billing::{Billing, Inputs, Shape};
use crate::support::reference::expected;
use crate::support::sink::{How, Place};
use crate::support::source::Pace;
use crate::support::{Reading, job, reading, run, start};

const SHAPE: Shape = Shape { lag: 0, horizon: 100, size: 10, slide: 10, grace: 0 };

fn records(range: std::ops::Range<u64>) -> Vec<Reading> {
    range.map(|number| reading("k", number, number, number)).collect()
}

fn inputs(range: std::ops::Range<u64>) -> Inputs {
    Inputs::from([("s".to_owned(), records(range).iter().map(Reading::bytes).collect())])
}

/// A job that has committed some windows.
fn under_way(state: &std::path::Path) -> (Billing, crate::support::Running) {
    let billing = Billing::new(SHAPE, &Pace::unlimited());
    billing.push(&inputs(0..35));
    let running = start(job("sinks", state, 2), billing.program());
    running.until("some windows", || billing.rows.len() == 3);
    (billing, running)
}

fn ends_exactly_once(billing: &Billing, state: &std::path::Path, case: &str) {
    billing.rows.mend();
    billing.source.feed.close();
    run(job("sinks", state, 3), billing.program()).unwrap();
    assert_eq!(billing.outcome(), expected(&inputs(0..85), &SHAPE), "{case}");
}

#[test]
fn a_sink_that_breaks_at_any_place_ends_the_job_in_its_name_and_loses_nothing() {
    for place in [Place::Stage, Place::Prepare, Place::Flush, Place::Commit] {
        for how in [How::Fail, How::Panic] {
            let case = format!("{how:?} in {place:?}");
            let state = tempdir().unwrap();
            let (billing, running) = under_way(state.path());
            let before = billing.rows.values();
            billing.rows.breaks(place, how, 0);
            billing.push(&inputs(35..85));
            let error = running.failure();
            let (kind, text) = match how {
                How::Fail => (ErrorKind::Sink, format!("step \"rows\": the disk is full in {place:?}")),
                _ => (ErrorKind::User, format!("step \"rows\": panicked: the sink panics in {place:?}")),
            };
            assert_eq!((error.kind(), error.to_string()), (kind, text), "{case}");
            assert_eq!(billing.rows.values(), before, "{case}");
            ends_exactly_once(&billing, state.path(), &case);
        }
    }
}

#[test]
fn a_sink_that_fails_beside_the_commits_ends_a_job_to_which_no_more_records_come() {
    for how in [How::Fail, How::Panic] {
        let state = tempdir().unwrap();
        let (billing, running) = under_way(state.path());
        let before = billing.rows.values();
        billing.rows.breaks(Place::Check, how, 0);
        let error = running.failure();
        assert_eq!(error.step(), Some("rows"), "{error}");
        assert!(error.to_string().ends_with("in Check"), "{error}");
        assert_eq!(billing.rows.values(), before, "{how:?}");
        billing.push(&inputs(35..85));
        ends_exactly_once(&billing, state.path(), "checked");
    }
}

#[test]
fn a_committed_epoch_becomes_visible_at_the_next_start_though_its_sink_failed() {
    let state = tempdir().unwrap();
    let (billing, running) = under_way(state.path());
    billing.rows.breaks(Place::Commit, How::Fail, 0);
    billing.push(&inputs(35..85));
    running.failure();
    // It fails again, before anything is read.
    billing.rows.breaks(Place::Recover, How::Fail, 0);
    let read = billing.source.pace.batches();
    let error = run(job("sinks", state.path(), 1), billing.program()).unwrap_err();
    assert_eq!(error.to_string(), "step \"rows\": the disk is full in Recover");
    assert_eq!((billing.rows.len(), billing.source.pace.batches()), (3, read));
    billing.rows.mend();
    let pace = Pace::stopped();
    let held = Billing { source: crate::support::source::Paced { pace, ..billing.source.clone() }, ..billing.clone() };
    let running = start(job("sinks", state.path(), 1), held.program());
    running.until("the committed window", || held.rows.len() > 3);
    running.stop().unwrap();
    ends_exactly_once(&billing, state.path(), "held");
}

#[test]
fn a_sink_that_panics_while_it_recovers_is_an_error_in_its_name() {
    let state = tempdir().unwrap();
    let (billing, running) = under_way(state.path());
    running.stop().unwrap();
    billing.rows.breaks(Place::Recover, How::Panic, 0);
    let error = run(job("sinks", state.path(), 1), billing.program()).unwrap_err();
    assert_eq!(error.to_string(), "step \"rows\": panicked: the sink panics in Recover");
    billing.push(&inputs(35..85));
    ends_exactly_once(&billing, state.path(), "recovered");
}

#[test]
fn a_sink_that_cannot_close_ends_the_job_with_its_error_after_the_last_commit() {
    for how in [How::Fail, How::Panic] {
        let state = tempdir().unwrap();
        let (billing, running) = under_way(state.path());
        billing.rows.breaks(Place::Close, how, 0);
        billing.push(&inputs(35..85));
        billing.source.feed.close();
        let error = running.failure();
        assert_eq!(error.step(), Some("rows"), "{error}");
        assert!(error.to_string().ends_with("in Close"), "{error}");
        assert_eq!(billing.outcome(), expected(&inputs(0..85), &SHAPE));
        ends_exactly_once(&billing, state.path(), "closed");
    }
}

#[test]
fn a_failure_in_one_sink_shows_nothing_of_the_epoch_in_another() {
    let state = tempdir().unwrap();
    let (billing, running) = under_way(state.path());
    billing.late.breaks(Place::Prepare, How::Fail, 0);
    let late =
        Inputs::from([("s".to_owned(), vec![reading("k", 1_000, 95, 1).bytes(), reading("k", 1_001, 1, 1).bytes()])]);
    billing.push(&late);
    assert_eq!(running.failure().step(), Some("late"));
    assert_eq!((billing.rows.len(), billing.late.len()), (3, 0));
    billing.late.mend();
    billing.source.feed.close();
    run(job("sinks", state.path(), 2), billing.program()).unwrap();
    let mut all = inputs(0..35);
    all.get_mut("s").unwrap().extend(late["s"].clone());
    assert_eq!(billing.outcome(), expected(&all, &SHAPE));
}
