//! A record that is to travel to the worker of its key lacks its derives.
use shardflow::testing::Feed;
use shardflow::{EventTime, Flow, Lag, lines, seconds};

#[derive(Clone)]
struct Usage {
    account: String,
}

fn program(flow: &Flow<'_>) {
    let (texts, _rejected) = flow.source("usage", Feed::new()).decode(lines());
    let _keyed = texts
        .map(|account| Usage { account })
        .event_time(|_| EventTime::MIN, Lag::of(seconds(5)))
        .key_by(|usage| usage.account.clone());
}

fn main() {
    let _ = program;
}
