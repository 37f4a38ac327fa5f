//! What a step's windows are may change between starts; what was emitted stays so.

use shardflow::testing::{Collected, Feed};
use shardflow::{EventTime, Flow, Job, Lag, lines, millis, tumbling};

fn program(
    feed: &Feed,
    (counts, late): &(Collected<(u64, u64)>, Collected<String>),
    grace: u64,
) -> impl Fn(&Flow<'_>) + Send + Sync + 'static {
    let (feed, counts, late) = (feed.clone(), counts.clone(), late.clone());
    move |flow| {
        let (records, rejected) = flow.source("records", feed.clone()).decode(lines());
        rejected.sink("rejected", Collected::new());
        records
            .event_time(|line: &String| EventTime::from_millis(line.parse().unwrap()), Lag::of(millis(0)))
            .key_by(|_| 0)
            .window(tumbling(millis(10)).grace(millis(grace)))
            .late_to("late", late.clone())
            .count("counts")
            .map(|result| (result.window.start().as_millis(), result.value))
            .sink("results", counts.clone());
    }
}

#[test]
fn a_longer_grace_does_not_open_again_what_was_emitted() {
    let (feed, sinks, state) = (Feed::new(), (Collected::new(), Collected::new()), tempfile::tempdir().unwrap());
    let job = || Job::named("grace").workers(2).state(state.path()).epoch(millis(10));
    ["1", "35"].iter().for_each(|line| feed.push("split", line));
    let first = job();
    let (stopper, counts) = (first.stopper(), sinks.0.clone());
    let first = first.on_commit(move |_| {
        if !counts.values().is_empty() {
            stopper.request();
        }
    });
    first.run(program(&feed, &sinks, 0)).unwrap();
    assert_eq!(sinks.0.values(), [(0, 1)]);

    // Within the new grace, and of a window that is out already; the one after it was never opened.
    ["3", "13"].iter().for_each(|line| feed.push("split", line));
    feed.close();
    job().run(program(&feed, &sinks, 1_000)).unwrap();
    let mut counts = sinks.0.values();
    counts.sort_unstable();
    assert_eq!(counts, [(0, 1), (10, 1), (30, 1)]);
    assert_eq!(sinks.1.values(), ["3"]);
}
