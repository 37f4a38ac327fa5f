//! A window that does not say how long it waits for late records.
use shardflow::testing::Feed;
use shardflow::{EventTime, Flow, Lag, lines, minutes, seconds, tumbling};

fn program(flow: &Flow<'_>) {
    let (texts, _rejected) = flow.source("usage", Feed::new()).decode(lines());
    let _counts = texts
        .event_time(|_| EventTime::MIN, Lag::of(seconds(5)))
        .key_by(|text| text.clone())
        .window(tumbling(minutes(1)))
        .discard_late()
        .count("counts");
}

fn main() {
    let _ = program;
}
