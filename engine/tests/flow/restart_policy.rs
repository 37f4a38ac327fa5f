//! The restart policy: in the process, from the last commit, so many times in a row, and only where it may help.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardflow::testing::{Collected, Feed};
use shardflow::{ErrorKind, Restart, hours, lines, millis};
use tempfile::tempdir;

use crate::support::billing::{Billing, Inputs, Shape};
use crate::support::reference::expected;
use crate::support::sink::{How, Place};
use crate::support::source::Pace;
use crate::support::{job, reading, run, start, start_watched};

const SHAPE: Shape = Shape { lag: 0, horizon: 100, size: 10, slide: 10, grace: 0 };

fn on_failure(max: u32) -> Restart {
    Restart::OnFailure { max, backoff: millis(1) }
}

/// Batches of 16 records, of which the first is bad.
fn inputs(batches: u64) -> Inputs {
    let record = |number: u64| match number % 16 {
        0 => b"bad".to_vec(),
        _ => reading("k", number, number, 1).bytes(),
    };
    Inputs::from([("s".to_owned(), (0..batches * 16).map(record).collect())])
}

fn billing(batches: u64, pace: &Arc<Pace>) -> Billing {
    let billing = Billing::new(SHAPE, pace);
    billing.push(&inputs(batches));
    billing.source.feed.close();
    billing
}

#[test]
fn a_failed_job_starts_again_from_its_last_commit() {
    let pace = Pace::stopped();
    let billing = billing(20, &pace);
    let state = tempdir().unwrap();
    billing.rejected.breaks_every(Place::Commit, How::Fail, 2);
    let job = job("policy", state.path(), 2).restart(on_failure(1));
    let summary = start_watched(job, move |_| pace.grant(1), billing.program()).end().unwrap();
    // Each start commits something, so no two failures are in a row.
    let strikes = billing.rejected.strikes();
    assert!(strikes >= 3, "it failed only {strikes} times");
    assert_eq!(summary.incarnation.number(), strikes + 1);
    assert_eq!(billing.outcome(), expected(&inputs(20), &SHAPE));
}

#[test]
fn by_default_the_first_failure_is_the_last() {
    let billing = billing(1, &Pace::unlimited());
    let state = tempdir().unwrap();
    billing.rejected.breaks(Place::Stage, How::Fail, 0);
    let error = run(job("policy", state.path(), 1), billing.program()).unwrap_err();
    assert_eq!((error.step(), billing.rejected.strikes()), (Some("rejected"), 1));
}

#[test]
fn a_job_that_fails_in_a_row_gives_up_with_the_last_error() {
    for how in [How::Fail, How::Panic] {
        let billing = billing(1, &Pace::unlimited());
        let state = tempdir().unwrap();
        billing.rejected.breaks(Place::Stage, how, 0);
        let error = run(job("policy", state.path(), 1).restart(on_failure(3)), billing.program()).unwrap_err();
        assert_eq!(error.step(), Some("rejected"), "{error}");
        assert_eq!(billing.rejected.strikes(), 4, "{how:?}");
        // What was committed stands, and the next start goes on from there.
        billing.rejected.mend();
        let summary = run(job("policy", state.path(), 1), billing.program()).unwrap();
        assert_eq!(summary.incarnation.number(), 5);
        assert_eq!(billing.outcome(), expected(&inputs(1), &SHAPE));
    }
}

#[test]
fn epochs_in_which_nothing_was_committed_do_not_end_a_row_of_failures() {
    let pace = Pace::stopped();
    let billing = billing(1, &pace);
    let state = tempdir().unwrap();
    billing.rejected.breaks(Place::Stage, How::Fail, 0);
    // The record comes only after some empty epochs of each start.
    let grant = move |commits: u64| {
        if commits.is_multiple_of(4) {
            pace.grant(1);
        }
    };
    let job = job("policy", state.path(), 1).restart(on_failure(2));
    let error = start_watched(job, grant, billing.program()).failure();
    assert_eq!(error.step(), Some("rejected"), "{error}");
    assert_eq!(billing.rejected.strikes(), 3);
}

#[test]
fn what_a_restart_cannot_mend_is_not_tried_again() {
    let state = tempdir().unwrap();
    let builds = Arc::new(AtomicU64::new(0));
    let attempt = |name: &'static str, second_step: &'static str| {
        let built = Arc::clone(&builds);
        let feed = Feed::new();
        feed.close();
        let job = job(name, state.path(), 1).restart(Restart::OnFailure { max: 5, backoff: millis(1) });
        let before = builds.load(Ordering::SeqCst);
        let outcome = run(job, move |flow| {
            built.fetch_add(1, Ordering::SeqCst);
            flow.source("first", feed.clone()).decode(lines()).0.sink(second_step, Collected::new());
        });
        (outcome, builds.load(Ordering::SeqCst) - before)
    };
    // Planned once and built once.
    let (outcome, builds) = attempt("one", "sink");
    assert!(outcome.is_ok() && builds == 2, "{outcome:?}, {builds}");
    let (outcome, builds) = attempt("one", "first");
    assert_eq!((outcome.unwrap_err().kind(), builds), (ErrorKind::Config, 1));
    let (outcome, builds) = attempt("two", "sink");
    assert_eq!((outcome.unwrap_err().kind(), builds), (ErrorKind::State, 1));
}

#[test]
fn a_job_that_waits_to_start_again_can_be_stopped() {
    let billing = billing(1, &Pace::unlimited());
    let state = tempdir().unwrap();
    billing.rejected.breaks(Place::Stage, How::Fail, 0);
    let restart = Restart::OnFailure { max: 5, backoff: hours(1) };
    let running = start(job("policy", state.path(), 1).restart(restart), billing.program());
    running.until("the first failure", || billing.rejected.strikes() == 1);
    let error = running.stop().unwrap_err();
    assert_eq!(error.step(), Some("rejected"), "{error}");
}
