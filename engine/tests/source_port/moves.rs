//! Splits that move between workers while they are read.

use std::cell::Cell;
use std::time::Duration;

use crate::scripted::{Scripted, job, start};

/// How many records a hot split is given at a time.
const CHUNK: u64 = 50;

#[test]
fn splits_that_move_between_workers_lose_and_double_nothing_and_make_no_record_late() {
    let source = Scripted::new();
    // Two workers: the first gets a and c.
    let all = ["a", "b", "c", "d"];
    for split in all {
        source.push(split, &[0]);
        // Or a split that waits for its chunk while this thread does not run would let time pass it by.
        source.split(split, |split| split.caught_up = false);
    }
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()).rebalance(Duration::from_millis(15)), "records", &source);
    running.until("the first read", |_| source.opened().len() == all.len());
    let (time, pushed) = (Cell::new(0), Cell::new(all.len() as u64));
    for (round, hot) in [["a", "c"], ["b", "d"], ["a", "b"], ["c", "d"], ["a", "d"]].iter().enumerate() {
        let (opened, chunks) = (source.opened().len(), Cell::new(0));
        running.until("a move, or enough without one", |_| {
            // The others go along with time, so that it goes on.
            let times: Vec<u64> = (time.get()..time.get() + CHUNK).collect();
            for split in all {
                let times = if hot.contains(&split) { &times[..] } else { &times[times.len() - 1..] };
                source.push(split, times);
                pushed.set(pushed.get() + times.len() as u64);
            }
            time.set(time.get() + CHUNK);
            chunks.set(chunks.get() + 1);
            source.opened().len() > opened || (round > 0 && chunks.get() > 100)
        });
    }
    assert!(source.opened().len() > all.len(), "{:?}", source.opened());
    source.close();
    let (counts, late) = running.finish();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>() + late.len() as u64, pushed.get());
    assert_eq!(late.len(), 0, "{late:?}");
}
