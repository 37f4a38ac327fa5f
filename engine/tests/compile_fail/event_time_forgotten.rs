//! A key before there is event time.
use shardflow::testing::Feed;
use shardflow::{Flow, lines};

fn program(flow: &Flow<'_>) {
    let (texts, _rejected) = flow.source("usage", Feed::new()).decode(lines());
    let _keyed = texts.key_by(|text| text.clone());
}

fn main() {
    let _ = program;
}
