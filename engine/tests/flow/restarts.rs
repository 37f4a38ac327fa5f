//! A job that is stopped, or fails, and goes on with another number of workers gives exactly the results of one run.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shardflow::{Epoch, ErrorKind, Result, Summary};
use tempfile::tempdir;

use crate::random::random_shape;
use crate::support::billing::{Billing, Inputs, Shape, random_inputs};
use crate::support::reference::expected;
use crate::support::sink::{How, Place};
use crate::support::source::Pace;
use crate::support::{job, push, reading, run, start, start_watched};

const SEED: u64 = 815;
const CASES: u64 = 12;

/// One of the ways in which a start comes to its end before its input does.
fn interrupted(random: &mut StdRng, billing: &Billing, state: &std::path::Path) -> Result<Summary> {
    let job = job("restarts", state, random.random_range(1..5));
    let (pace, each) = (std::sync::Arc::clone(&billing.source.pace), random.random_range(1..4));
    let place = [Place::Stage, Place::Prepare, Place::Flush, Place::Commit][random.random_range(0..4)];
    match random.random_range(0..4) {
        0 => billing.rows.breaks(place, How::Fail, random.random_range(0..20)),
        1 => billing.rejected.breaks(place, How::Panic, random.random_range(0..4)),
        _ => {}
    }
    let stop_after = random.random_range(1..15);
    let stopper = job.stopper();
    let hook = move |commits| {
        pace.grant(each);
        if commits >= stop_after {
            stopper.request();
        }
    };
    let outcome = start_watched(job, hook, billing.program()).end();
    billing.rows.mend();
    billing.rejected.mend();
    outcome
}

#[test]
fn a_job_that_is_interrupted_many_times_gives_the_results_of_one_run() {
    interrupt_many_times(false, |shape| shape);
}

#[test]
fn a_job_with_overlapping_windows_in_panes_that_is_interrupted_many_times_gives_the_results_of_one_run() {
    interrupt_many_times(true, |shape| Shape { slide: shape.slide.min(shape.size / 2), ..shape });
}

fn interrupt_many_times(aggregated: bool, reshape: impl Fn(Shape) -> Shape) {
    let (mut stops, mut failures) = (0, 0);
    for seed in SEED..SEED + CASES {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = reshape(random_shape(&mut random));
        let inputs = random_inputs(&mut random, &shape, 3, 400);
        let billing = Billing::new(shape, &Pace::stopped()).aggregated(aggregated);
        billing.push(&inputs);
        billing.source.feed.close();
        let state = tempdir().unwrap();
        let mut committed = Epoch::default();
        for start in 1.. {
            assert!(start < 1_000, "seed {seed}: the job never comes to its end");
            match interrupted(&mut random, &billing, state.path()) {
                Ok(summary) => {
                    assert_eq!(summary.incarnation.number(), start, "seed {seed}");
                    assert!(summary.committed >= Some(committed), "seed {seed}: epochs went back");
                    committed = summary.committed.unwrap();
                    if summary.input_ended {
                        break;
                    }
                    stops += 1;
                }
                Err(error) => {
                    assert!([ErrorKind::Sink, ErrorKind::User].contains(&error.kind()), "seed {seed}: {error}");
                    failures += 1;
                }
            }
        }
        assert_eq!(billing.outcome(), expected(&inputs, &shape), "seed {seed}, {shape:?}");
    }
    assert!(stops > CASES && failures > CASES, "{stops} stops and {failures} failures prove nothing");
}

const SHAPE: Shape = Shape { lag: 0, horizon: 100, size: 10, slide: 10, grace: 0 };

#[test]
fn a_bounded_job_that_has_ended_adds_nothing_when_it_is_run_again() {
    let billing = Billing::new(SHAPE, &Pace::unlimited());
    let records: Vec<_> = (0..200).map(|number| reading("a", number, number, 1)).collect();
    push(&billing.source.feed, "s", &records);
    billing.source.feed.close();
    let state = tempdir().unwrap();
    let first = run(job("again", state.path(), 2), billing.program()).unwrap();
    let (outcome, read) = (billing.outcome(), billing.source.pace.batches());
    assert_eq!(outcome.rows.len(), 20);
    let second = run(job("again", state.path(), 3), billing.program()).unwrap();
    assert!(first.input_ended && second.input_ended);
    assert_eq!(second.incarnation.number(), 2);
    assert_eq!(billing.outcome(), outcome);
    assert_eq!(billing.source.pace.batches(), read, "an ended split was read again");
}

#[test]
fn a_stopped_job_resumes_after_what_it_has_read() {
    let billing = Billing::new(SHAPE, &Pace::unlimited());
    let records = |range: std::ops::Range<u64>| range.map(|number| reading("a", number, number, 1)).collect::<Vec<_>>();
    push(&billing.source.feed, "s", &records(0..160));
    let state = tempdir().unwrap();
    let running = start(job("resume", state.path(), 2), billing.program());
    running.until("the first windows", || billing.rows.len() == 15);
    let summary = running.stop().unwrap();
    assert!(!summary.input_ended);
    assert_eq!(billing.source.pace.batches(), 10);
    push(&billing.source.feed, "s", &records(160..320));
    billing.source.feed.close();
    assert!(run(job("resume", state.path(), 1), billing.program()).unwrap().input_ended);
    assert_eq!(billing.source.pace.batches(), 20, "something was read twice, or not at all");
    let inputs = Inputs::from([("s".to_owned(), records(0..320).iter().map(|record| record.bytes()).collect())]);
    assert_eq!(billing.outcome(), expected(&inputs, &SHAPE));
}

#[test]
fn a_child_split_is_read_after_its_parents_also_over_a_restart() {
    let billing = Billing::new(SHAPE, &Pace::unlimited());
    let feed = &billing.source.feed;
    push(feed, "parent", &[reading("a", 1, 5, 1), reading("a", 2, 12, 1)]);
    feed.open("child", &["parent"]);
    push(feed, "child", &[reading("a", 3, 14, 1), reading("a", 4, 21, 1), reading("a", 5, 33, 1)]);
    let state = tempdir().unwrap();
    let running = start(job("child", state.path(), 2), billing.program());
    running.until("the parent's window", || billing.rows.len() == 1);
    running.pass_commits(5);
    assert_eq!(billing.source.pace.batches(), 1, "the child was read before its parent had ended");
    running.stop().unwrap();
    feed.close();
    run(job("child", state.path(), 3), billing.program()).unwrap();
    let row = |start, count| ("a".to_owned(), start, start + 10, count, count);
    assert_eq!(billing.outcome().rows, [row(0, 1), row(10, 2), row(20, 1), row(30, 1)]);
    assert_eq!(billing.outcome().late, []);
}

#[test]
fn an_idle_job_commits_and_stops_promptly() {
    let billing = Billing::new(SHAPE, &Pace::unlimited());
    billing.source.feed.open("s", &[]);
    let state = tempdir().unwrap();
    let running = start(job("quiet", state.path(), 2), billing.program());
    running.pass_commits(3);
    assert!(!running.stop().unwrap().input_ended);
}
