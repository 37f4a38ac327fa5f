//! SIGINT and SIGTERM: the first asks for a last commit, the second ends the process whatever it is doing.

use std::time::Duration;

use rustix::process::Signal;
use shardflow_examples::metering::reference::Reference;

use crate::books::Books;
use crate::process::{Launch, Place, Process, SEMANTICS};

/// Bounds every stop that is not held up.
const SOON: Duration = Duration::from_secs(20);

fn place(seed: u64) -> (Place, Books) {
    let place = Place::with_input(200_000, seed);
    let reference = Reference::compute(&place.path("in"), &SEMANTICS).unwrap();
    let books = Books::new(reference, place.path("out"));
    (place, books)
}

fn job(place: &Place, workers: usize, points: &str) -> Launch {
    place.job(&SEMANTICS, workers).args(["--in-flight-bytes", "1MiB"]).points(points)
}

fn finish(place: &Place, books: &mut Books, workers: usize) {
    place.job(&SEMANTICS, workers).succeed();
    books.hold();
}

#[test]
fn the_first_signal_commits_a_last_epoch_and_the_next_start_goes_on() {
    for (signal, seed) in [(Signal::INT, 21), (Signal::TERM, 22)] {
        let (place, mut books) = place(seed);
        // So slow that it is far from its end.
        let job = job(&place, 2, "commit::before-durable=sleep(200)").start();
        books.witness.wait_for_more(&place.path("out"));
        job.signal(signal);
        let ended = job.end(SOON);
        assert!(ended.status.success(), "{ended:?}");
        assert!(ended.stderr.last().unwrap().contains("the next start goes on from here"), "{ended:?}");
        assert!(books.hold_so_far() > 0, "it read on to the end");
        finish(&place, &mut books, 3);
    }
}

/// Stopped after each epoch, it still gets to its end.
#[test]
fn stops_add_up_to_a_whole_run() {
    let (place, mut books) = place(23);
    for workers in [1, 4, 2] {
        let job = job(&place, workers, "commit::before-durable=sleep(100)").start();
        books.witness.wait_for_more(&place.path("out"));
        job.signal(Signal::TERM);
        let ended = job.end(SOON);
        assert!(ended.status.success(), "{ended:?}");
        assert!(crate::books::leftovers(&place.path("out")).is_empty(), "a stop leaves something staged behind");
        books.hold_so_far();
    }
    finish(&place, &mut books, 2);
}

/// A job that is held up in its commit and has been asked to stop.
fn stuck(place: &Place, point: &str, first: Signal, stop_timeout: &str) -> Process {
    let mut job = job(place, 2, point).args(["--stop-timeout", stop_timeout]).start();
    job.says("stalled at");
    job.signal(first);
    job.says("asked to stop");
    job
}

#[test]
fn the_second_signal_exits_at_once_even_out_of_a_stuck_commit() {
    let (int, term) = (Signal::INT, Signal::TERM);
    let (place, mut books) = place(24);
    for (first, second, code) in [(int, int, 130), (term, term, 143), (int, term, 143), (term, int, 130)] {
        let job = stuck(&place, "commit::before-durable=stall(2)", first, "10m");
        job.signal(second);
        let ended = job.end(SOON);
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        books.hold_so_far();
    }
    finish(&place, &mut books, 3);
}

#[test]
fn a_stop_that_cannot_commit_ends_in_time_and_says_so() {
    for (point, seed) in [
        ("commit::after-durable=stall(2)", 25),
        ("sink-files::before-rename=stall(3)", 26),
        ("sink-files::after-stage=stall(3000)", 27),
        ("commit::before-close=stall(1)", 29),
    ] {
        let (place, mut books) = place(seed);
        let ended = stuck(&place, point, Signal::TERM, "1s").end(SOON);
        assert_eq!(ended.status.code(), Some(1), "{point}: {ended:?}");
        let last = ended.stderr.last().unwrap();
        assert_eq!(last, "metering: could not commit the last epoch within 1s", "{point}");
        books.hold_so_far();
        finish(&place, &mut books, 3);
    }
}

#[test]
fn a_stop_does_not_wait_for_the_next_restart() {
    let (place, mut books) = place(28);
    let mut job = job(&place, 2, "sink-files::before-rename=return").args(["--restart", "on-failure:3,1h"]).start();
    job.says("starts again");
    job.signal(Signal::TERM);
    let ended = job.end(SOON);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.last().unwrap().contains("stopped before renaming"), "{ended:?}");
    finish(&place, &mut books, 3);
}
