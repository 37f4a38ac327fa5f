//! A closure that keeps state of its own, which no snapshot would see.
use std::cell::Cell;
use std::rc::Rc;

use shardflow::testing::Feed;
use shardflow::{Flow, lines};

fn program(flow: &Flow<'_>) {
    let count = Rc::new(Cell::new(0));
    let (texts, _rejected) = flow.source("usage", Feed::new()).decode(lines());
    let _counted = texts.map(move |text| {
        count.set(count.get() + 1);
        (count.get(), text)
    });
}

fn main() {
    let _ = program;
}
