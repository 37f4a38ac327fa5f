//! Whole runs on generated files against the reference.

use shardflow_examples::metering::output::visible_files;
use shardflow_examples::metering::reference::{Reference, Semantics};

use crate::books::Books;
use crate::process::{PATIENCE, Place, SEMANTICS};

fn check(place: &Place, semantics: &Semantics) {
    Books::new(Reference::compute(&place.path("in"), semantics).unwrap(), place.path("out")).hold();
}

#[test]
fn results_are_those_of_the_reference_with_any_number_of_workers() {
    for (workers, seed) in [(1, 1), (2, 2), (5, 3)] {
        let place = Place::with_input(100_000, seed);
        place.job(&SEMANTICS, workers).succeed();
        check(&place, &SEMANTICS);
    }
}

#[test]
fn other_settings_give_the_references_other_results() {
    let place = Place::with_input(100_000, 4);
    let semantics = Semantics { window: 7_000, lag: 1_000, grace: 3_000, dedupe: 0 };
    place.job(&semantics, 2).succeed();
    check(&place, &semantics);
}

#[test]
fn running_a_finished_job_again_adds_nothing() {
    let place = Place::with_input(50_000, 5);
    place.job(&SEMANTICS, 2).succeed();
    let files = visible_files(&place.path("out")).unwrap();
    place.job(&SEMANTICS, 3).succeed();
    assert_eq!(visible_files(&place.path("out")).unwrap(), files);
    check(&place, &SEMANTICS);
}

/// `2>&1 | head`, or a log on a disk that is full: nobody can read what the job says any more.
#[test]
fn a_log_that_cannot_be_written_does_not_stop_the_job() {
    for (lines, seed) in [(0, 7), (1, 8), (4, 9)] {
        let place = Place::with_input(100_000, seed);
        let job = place.job(&SEMANTICS, 2).env("SHARDFLOW_LOG", "debug").start_heard_for(lines);
        let ended = job.end(PATIENCE);
        assert!(ended.status.success(), "{ended:?}");
        check(&place, &SEMANTICS);
    }
}
