//! An accumulator that cannot be written to the snapshot.
use shardflow::testing::Feed;
use shardflow::{EventTime, Flow, Lag, lines, minutes, seconds, tumbling};

#[derive(Clone, Default)]
struct Total {
    bytes: usize,
}

fn program(flow: &Flow<'_>) {
    let (texts, _rejected) = flow.source("usage", Feed::new()).decode(lines());
    let _totals = texts
        .event_time(|_| EventTime::MIN, Lag::of(seconds(5)))
        .key_by(|text| text.clone())
        .window(tumbling(minutes(1)).grace(seconds(0)))
        .discard_late()
        .fold("totals", Total::default, |total, text| total.bytes += text.len());
}

fn main() {
    let _ = program;
}
