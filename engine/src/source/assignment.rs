//! Which worker reads which split. Pure: measured loads in, placements and moves out.
//!
//! A split's load is the bytes a second that it gave of late, and a little for being there at all, so that quiet splits are
//! spread by their number. A new split goes to the worker with the least load. From time to time loads are compared, and
//! where one worker has far more than another, a split moves: worth it only where it brings the two closer by a good part
//! of the mean, since a move interrupts the split's reading for a moment.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::vocabulary::SplitId;

/// The load of a split that gives nothing, in bytes a second.
const QUIET: f64 = 4_096.0;

/// By how much of the mean load a move must bring two workers closer.
const WORTHWHILE: f64 = 0.2;

/// How much the newest measurement counts.
const NEWEST: f64 = 0.5;

/// The most moves at a time: loads are measured anew before the next.
const MOST_MOVES: usize = 4;

/// The load of one split over time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    bytes_per_second: Option<f64>,
}

impl Load {
    /// Takes in that `bytes` were read in `time`.
    pub fn measured(&mut self, bytes: u64, time: Duration) {
        let newest = bytes as f64 / time.as_secs_f64().max(0.001);
        let before = self.bytes_per_second.unwrap_or(newest);
        self.bytes_per_second = Some(before + NEWEST * (newest - before));
    }

    /// In bytes a second; `None` before the first measurement.
    #[must_use]
    pub fn bytes_per_second(&self) -> Option<f64> {
        self.bytes_per_second
    }
}

/// A split on its worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// The worker's number.
    pub worker: usize,
    /// Its load.
    pub load: Load,
}

/// A split that is to be read by another worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which one.
    pub split: SplitId,
    /// The worker that reads it.
    pub from: usize,
    /// The worker that is to.
    pub to: usize,
}

/// The worker for a new split: the one with the least load, the first of equals.
#[must_use]
pub fn worker_for_new(placed: &BTreeMap<SplitId, Placed>, workers: usize) -> usize {
    let loads = loads(placed, workers);
    (0..workers).min_by(|a, b| at(&loads, *a).total_cmp(&at(&loads, *b))).unwrap_or(0)
}

/// The moves that bring the workers' loads closer to one another. Only splits that were measured and give something move:
/// of the others nothing is gained.
#[must_use]
pub fn moves(placed: &BTreeMap<SplitId, Placed>, workers: usize) -> Vec<Move> {
    let mut placed = placed.clone();
    let mut moves = Vec::new();
    while moves.len() < MOST_MOVES {
        let Some(next) = best(&placed, workers) else { break };
        if let Some(split) = placed.get_mut(&next.split) {
            split.worker = next.to;
        }
        // One move a split: a second would undo the first.
        if moves.iter().any(|earlier: &Move| earlier.split == next.split) {
            break;
        }
        moves.push(next);
    }
    moves
}

/// The move from the worker with the most to the one with the least that brings them closest, if it is worth it.
fn best(placed: &BTreeMap<SplitId, Placed>, workers: usize) -> Option<Move> {
    let loads = loads(placed, workers);
    let by_load = |a: &usize, b: &usize| at(&loads, *a).total_cmp(&at(&loads, *b));
    let from = (0..workers).max_by(by_load)?;
    let to = (0..workers).min_by(by_load)?;
    let mean = loads.iter().sum::<f64>() / loads.len() as f64;
    let difference = at(&loads, from) - at(&loads, to);
    let closer = |load: f64| difference - (difference - 2.0 * load).abs();
    let candidates = placed.iter().filter(|(_, split)| split.worker == from);
    let candidates = candidates.filter_map(|(id, split)| {
        let rate = split.load.bytes_per_second.filter(|rate| *rate > 0.0)?;
        Some((id, closer(rate + QUIET)))
    });
    let (split, gained) = candidates.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (gained > mean * WORTHWHILE).then(|| Move { split: split.clone(), from, to })
}

/// The load of each worker. A split that was not measured yet counts as the mean of those that were.
fn loads(placed: &BTreeMap<SplitId, Placed>, workers: usize) -> Vec<f64> {
    let measured: Vec<f64> = placed.values().filter_map(|split| split.load.bytes_per_second).collect();
    let mean = measured.iter().sum::<f64>() / measured.len().max(1) as f64;
    let mut loads = vec![0.0; workers];
    for split in placed.values() {
        if let Some(load) = loads.get_mut(split.worker) {
            *load += split.load.bytes_per_second.unwrap_or(mean) + QUIET;
        }
    }
    loads
}

fn at(loads: &[f64], worker: usize) -> f64 {
    loads.get(worker).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placed(splits: &[(usize, u64)]) -> BTreeMap<SplitId, Placed> {
        let one = |(index, (worker, bytes)): (usize, &(usize, u64))| {
            let mut load = Load::default();
            load.measured(*bytes, Duration::from_secs(1));
            (SplitId::new(format!("split-{index:03}")), Placed { worker: *worker, load })
        };
        splits.iter().enumerate().map(one).collect()
    }

    fn apply(placed: &mut BTreeMap<SplitId, Placed>, moves: &[Move]) {
        for Move { split, from, to } in moves {
            let split = placed.get_mut(split).unwrap();
            assert_eq!(split.worker, *from);
            split.worker = *to;
        }
    }

    #[test]
    fn a_new_split_goes_where_the_least_is_read() {
        assert_eq!(worker_for_new(&placed(&[(0, 1_000_000), (1, 10), (1, 10), (1, 10)]), 2), 1);
        assert_eq!(worker_for_new(&placed(&[(0, 0), (1, 0), (1, 0)]), 3), 2);
        assert_eq!(worker_for_new(&BTreeMap::new(), 2), 0);
        let unmeasured = Placed { worker: 0, load: Load::default() };
        let mut some = placed(&[(0, 1_000_000), (1, 1_000_000)]);
        some.insert(SplitId::new("new"), unmeasured);
        assert_eq!(worker_for_new(&some, 2), 1, "the one that was just placed counts as the others do");
    }

    #[test]
    fn a_worker_with_the_hot_splits_gives_one_away() {
        let uneven = placed(&[(0, 1_000_000), (0, 900_000), (1, 1_000), (1, 1_000)]);
        assert_eq!(moves(&uneven, 2).len(), 1);
        let better = Move { split: SplitId::new("split-001"), from: 0, to: 1 };
        assert_eq!(moves(&uneven, 2)[0], better, "the one that leaves them closest");
    }

    #[test]
    fn what_cannot_get_better_stays() {
        assert_eq!(moves(&placed(&[(0, 1_000_000), (1, 10)]), 2), [], "one hot split is as hot elsewhere");
        assert_eq!(moves(&placed(&[(0, 100_000), (0, 100_000), (1, 180_000)]), 2), [], "not worth a move");
        assert_eq!(moves(&placed(&[(0, 0), (0, 0), (0, 0)]), 2), [], "nothing is read");
        assert_eq!(moves(&placed(&[(0, 1_000_000), (0, 1_000_000)]), 1), []);
    }

    #[test]
    fn a_load_follows_what_is_measured() {
        let mut load = Load::default();
        load.measured(1_000, Duration::from_secs(1));
        assert_eq!(load.bytes_per_second(), Some(1_000.0));
        load.measured(0, Duration::from_secs(1));
        assert_eq!(load.bytes_per_second(), Some(500.0));
    }

    proptest! {
        #[test]
        fn moves_only_ever_even_out_and_come_to_an_end(
            splits in proptest::collection::vec((0usize..4, 0u64..5_000_000), 0..40),
        ) {
            let spread = |placed: &BTreeMap<SplitId, Placed>| {
                let loads = loads(placed, 4);
                let sum_of_squares: f64 = loads.iter().map(|load| load * load).sum();
                sum_of_squares
            };
            let mut placed = placed(&splits);
            for round in 0.. {
                let moves = moves(&placed, 4);
                if moves.is_empty() {
                    break;
                }
                prop_assert!(round < 100, "it never settles");
                let before = spread(&placed);
                apply(&mut placed, &moves);
                prop_assert!(spread(&placed) < before);
            }
        }
    }
}
