//! Overlapping windows that share panes: what a window counts is what it would count by itself, also over restarts.

use shardflow::testing::{Collected, Feed};
use shardflow::{ErrorKind, EventTime, Flow, Job, Lag, lines, millis, sliding};
use tempfile::tempdir;

use crate::support::sorted;

/// Key, start of the window, count.
type Row = (String, u64, u64);

#[derive(Clone, Default)]
struct Out {
    rows: Collected<Row>,
    late: Collected<String>,
}

/// Counts lines such as `a 12`, by key and in windows of 20 ms every 10 ms. Whether by an aggregate or a fold.
fn program(feed: &Feed, out: &Out, grace: u64, aggregated: bool) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
    let (feed, out) = (feed.clone(), out.clone());
    move |flow| {
        let (lines, rejected) = flow.source("lines", feed.clone()).decode(lines());
        rejected.sink("rejected", Collected::new());
        let on_time = lines
            .event_time(
                |line: &String| EventTime::from_millis(line[2..].parse().unwrap()),
                Lag::of(millis(0)).never_idle(),
            )
            .key_by(|line| line[..1].to_owned())
            .window(sliding(millis(20), millis(10)).grace(millis(grace)))
            .late_to("late", out.late.clone());
        let counts = match aggregated {
            true => on_time.count("counts"),
            false => on_time.fold("counts", || 0, |count, _| *count += 1),
        };
        counts
            .map(|result| (result.key, result.window.start().as_millis(), result.value))
            .sink("rows", out.rows.clone());
    }
}

fn push(feed: &Feed, split: &str, lines: &[&str]) {
    lines.iter().for_each(|line| feed.push(split, line));
}

fn row(key: &str, start: u64, count: u64) -> Row {
    (key.to_owned(), start, count)
}

/// Runs until `rows` results are committed, then stops.
fn run_until(job: Job, rows: usize, out: &Out, program: impl Fn(&Flow<'_>) + Send + Sync + 'static) {
    let (stopper, results) = (job.stopper(), out.rows.clone());
    let job = job.on_commit(move |_| {
        if results.values().len() >= rows {
            stopper.request();
        }
    });
    assert!(!job.run(program).unwrap().input_ended);
}

#[test]
fn windows_that_are_open_at_a_stop_go_on_with_another_number_of_workers() {
    let state = tempdir().unwrap();
    let job = |workers| Job::named("panes").workers(workers).state(state.path()).epoch(millis(10));
    let (feed, out) = (Feed::new(), Out::default());
    // The pane of 11 and 13 counts in [0, 20), which fires, and in [10, 30), which does not.
    push(&feed, "s", &["a 3", "b 11", "a 13", "a 22"]);
    run_until(job(2), 2, &out, program(&feed, &out, 0, true));
    assert_eq!(sorted(out.rows.values()), [row("a", 0, 2), row("b", 0, 1)]);

    push(&feed, "s", &["b 24", "b 31", "c 35"]);
    run_until(job(3), 4, &out, program(&feed, &out, 0, true));
    assert_eq!(sorted(out.rows.values())[1..], [row("a", 10, 2), row("b", 0, 1), row("b", 10, 2)]);

    push(&feed, "s", &["a 39"]);
    feed.close();
    assert!(job(1).run(program(&feed, &out, 0, true)).unwrap().input_ended);
    let expected = [
        row("a", 0, 2),
        row("a", 10, 2),
        row("a", 20, 2),
        row("a", 30, 1),
        row("b", 0, 1),
        row("b", 10, 2),
        row("b", 20, 2),
        row("b", 30, 1),
        row("c", 20, 1),
        row("c", 30, 1),
    ];
    assert_eq!(sorted(out.rows.values()), expected);
    assert_eq!(out.late.values(), Vec::<String>::new());
}

#[test]
fn a_longer_grace_adds_nothing_to_what_was_emitted_but_to_what_was_not() {
    let state = tempdir().unwrap();
    let job = || Job::named("panes").workers(2).state(state.path()).epoch(millis(10));
    let (feed, out) = (Feed::new(), Out::default());
    push(&feed, "s", &["a 5", "a 15", "a 25"]);
    run_until(job(), 1, &out, program(&feed, &out, 0, true));

    // Only in [0, 20), which is out; in [10, 30) too, which is not.
    push(&feed, "s", &["a 7", "a 12"]);
    feed.close();
    job().run(program(&feed, &out, 1_000, true)).unwrap();
    assert_eq!(sorted(out.rows.values()), [row("a", 0, 2), row("a", 10, 3), row("a", 20, 1)]);
    assert_eq!(out.late.values(), ["a 7"]);
}

#[test]
fn a_record_that_is_late_for_its_split_does_not_count_where_another_split_holds_the_window_open() {
    for aggregated in [true, false] {
        let (state, feed, out) = (tempdir().unwrap(), Feed::new(), Out::default());
        // Of the windows of 12, [0, 20) is over for this split, although the other has not even come to it.
        push(&feed, "ahead", &["a 8", "a 21", "a 12", "a 3"]);
        push(&feed, "behind", &["a 1"]);
        feed.close();
        let job = Job::named("panes").workers(2).state(state.path()).epoch(millis(10));
        job.run(program(&feed, &out, 0, aggregated)).unwrap();
        assert_eq!(sorted(out.rows.values()), [row("a", 0, 2), row("a", 10, 2), row("a", 20, 1)]);
        assert_eq!(out.late.values(), ["a 3"]);
    }
}

#[test]
fn windows_in_panes_and_each_by_itself_are_different_state() {
    let state = tempdir().unwrap();
    let job = || Job::named("panes").workers(1).state(state.path()).epoch(millis(10));
    let (feed, out) = (Feed::new(), Out::default());
    push(&feed, "s", &["a 5", "a 25"]);
    run_until(job(), 1, &out, program(&feed, &out, 0, false));
    let error = job().run(program(&feed, &out, 0, true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert_eq!(
        error.to_string(),
        "could not restore step \"counts\": its state is of kind \"windows of 20 ms every 10 ms\", this program's step is \
         \"windows of 20 ms every 10 ms, in panes\": give the step another name, or go back"
    );
    feed.close();
    assert!(job().run(program(&feed, &out, 0, false)).unwrap().input_ended);
    assert_eq!(sorted(out.rows.values()), [row("a", 0, 1), row("a", 10, 1), row("a", 20, 1)]);
}
