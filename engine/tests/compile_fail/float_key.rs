//! A float as a key.
use shardflow::testing::Feed;
use shardflow::{EventTime, Flow, Lag, lines, seconds};

fn program(flow: &Flow<'_>) {
    let (texts, _rejected) = flow.source("usage", Feed::new()).decode(lines());
    let _keyed = texts.event_time(|_| EventTime::MIN, Lag::of(seconds(5))).key_by(|text| text.len() as f64);
}

fn main() {
    let _ = program;
}
