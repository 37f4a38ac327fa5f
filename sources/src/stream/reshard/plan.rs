//! Which shards to split and merge, in which order, and what comes of it. Pure.
//!
//! A plan speaks of ranges, not of ids: the open shards' ranges are the whole space without overlap, so a range names one of
//! them, even one that an earlier step of the plan is to make and that has no id yet.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;

use shardflow::{Error, Result};

use super::Load;
use crate::stream::{HashRange, Shard};

/// The most shards a plan may aim at: the most that AWS lets a stream have without asking.
const MOST_SHARDS: usize = 10_000;

/// How far from its place a border of even shards may be and still count as in place, as a part of a shard's width.
/// Streams are created with borders that are rounded in one way or another; a shard of a few hash keys is no use to anyone.
const TOLERANCE: u128 = 1_000;

/// What a reshard is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// So many splits, each of the shard that is hottest by then, where its measured bytes are halved.
    SplitHottest(usize),
    /// So many merges, each of the two neighbours that together are coldest by then.
    MergeColdest(usize),
    /// So many shards of even ranges.
    ToCount(usize),
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Split the shard of this range; the second half begins at `at`.
    Split {
        /// The shard.
        range: HashRange,
        /// The first hash key of the second half.
        at: u128,
    },
    /// Merge the shards of these ranges, which are neighbours.
    Merge {
        /// The shard of the lower hash keys.
        left: HashRange,
        /// The shard of the higher ones.
        right: HashRange,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Split { range, at } => write!(f, "split {range} at {at}"),
            Self::Merge { left, right } => write!(f, "merge {left} and {right}"),
        }
    }
}

/// An open shard, or one that a plan is to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its id, where it exists.
    pub shard: Option<String>,
    /// Its hash keys.
    pub range: HashRange,
    /// What flows through it; of a shard to be made, what flows through its hash keys now.
    pub load: Load,
}

/// What to do, from what, to what.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The open shards, by hash key.
    pub before: Vec<Piece>,
    /// The calls, in order.
    pub steps: Vec<Step>,
    /// The shards that will be open afterwards, by hash key.
    pub after: Vec<Piece>,
}

impl Plan {
    /// A plan for a stream's shards, of which the open ones count. `loads` are what was measured of those, in the same order.
    ///
    /// # Errors
    /// The open shards are not the whole space (the stream is being resharded), or there is not enough to split or merge.
    pub fn new(shards: &[Shard], loads: Vec<Load>, goal: Goal) -> Result<Self> {
        let open = shards.iter().filter(|shard| shard.is_open());
        let piece = |(shard, load): (&Shard, Load)| Piece { shard: Some(shard.id.clone()), range: shard.range, load };
        let mut pieces: Vec<Piece> =
            open.zip(loads.into_iter().chain(std::iter::repeat_with(Load::default))).map(piece).collect();
        pieces.sort_by_key(|piece| piece.range);
        if !is_whole(&pieces) {
            return Err(Error::config(
                "could not plan: the open shards are not all hash keys once; is it being resharded?",
            ));
        }
        let mut board = Board { pieces: pieces.clone(), steps: Vec::new() };
        match goal {
            Goal::SplitHottest(count) => board.split_hottest(count)?,
            Goal::MergeColdest(count) => board.merge_coldest(count)?,
            Goal::ToCount(count) => board.even_out(count)?,
        }
        let tells_hot_from_cold = pieces.iter().any(|piece| piece.load.bytes() > 0);
        // A quiet stream has no hottest shard; its coldest may be merged all the same.
        if !tells_hot_from_cold && matches!(goal, Goal::SplitHottest(_)) {
            return Err(Error::config(
                "could not plan: nothing was measured in any shard, so none is the hottest; measure for longer, or see whether \
                 this machine's clock is right",
            ));
        }
        Ok(Self { before: pieces, steps: board.steps, after: board.pieces })
    }
}

/// Whether the ranges are all hash keys, each once.
fn is_whole(pieces: &[Piece]) -> bool {
    let begins = pieces.first().is_some_and(|piece| piece.range.start() == 0);
    let ends = pieces.last().is_some_and(|piece| piece.range.end() == u128::MAX);
    let follow = pieces.windows(2).all(|pair| matches!(pair, [left, right] if left.range.is_followed_by(right.range)));
    begins && ends && follow
}

/// Where even shards begin, the first one aside.
struct Borders {
    /// There already.
    wanted: BTreeSet<u128>,
    /// To be made by splits.
    missing: BTreeSet<u128>,
}

/// The shards as the steps so far would leave them.
struct Board {
    pieces: Vec<Piece>,
    steps: Vec<Step>,
}

impl Board {
    fn split_hottest(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            // Among equals the widest, which has the most to give, then the first.
            let splittable = self.pieces.iter().enumerate().filter_map(|(place, piece)| {
                let at = piece.load.halving_point(piece.range)?;
                Some((piece.load.bytes(), piece.range.end() - piece.range.start(), Reverse(place), at))
            });
            let Some((_, _, Reverse(place), at)) = splittable.max() else {
                return Err(Error::config("could not plan: no shard's range is wide enough to be split"));
            };
            self.split(place, at);
            self.within_bounds()?;
        }
        Ok(())
    }

    fn merge_coldest(&mut self, count: usize) -> Result<()> {
        if count >= self.pieces.len() {
            let shards = self.pieces.len();
            return Err(Error::config(format!("could not plan {count} merges: there are only {shards} open shards")));
        }
        for _ in 0..count {
            let pairs = self.pieces.windows(2).enumerate().filter_map(|(place, pair)| {
                let [left, right] = pair else { return None };
                let width = right.range.end() - left.range.start();
                Some((left.load.bytes() + right.load.bytes(), width, place))
            });
            if let Some((_, _, place)) = pairs.min() {
                self.merge(place);
            }
        }
        Ok(())
    }

    /// Splits where a border is missing and merges where one is too many. Splits go first as long as there is never more
    /// than one shard above the larger of the two counts, so that the stream never has fewer than the smaller; the widest
    /// shard is split and the narrowest pair is merged, so that none has to carry much more than its share meanwhile.
    fn even_out(&mut self, count: usize) -> Result<()> {
        if !(1..=MOST_SHARDS).contains(&count) {
            return Err(Error::config(format!("could not plan {count} shards: 1 to {MOST_SHARDS} are possible")));
        }
        let most = self.pieces.len().max(count) + 1;
        let Borders { mut wanted, mut missing } = self.borders(count);
        loop {
            let split = if self.pieces.len() < most { self.widest_split(&missing) } else { None };
            if let Some((place, at)) = split {
                self.split(place, at);
                missing.remove(&at);
                wanted.insert(at);
            } else if let Some(place) = self.narrowest_merge(&wanted) {
                self.merge(place);
            } else {
                return Ok(());
            }
        }
    }

    /// The borders of `count` even shards: an existing one where there is one near.
    fn borders(&self, count: usize) -> Borders {
        let mut borders = Borders { wanted: BTreeSet::new(), missing: BTreeSet::new() };
        for at in (1..count).map(|number| border(number, count)) {
            let starts = self.pieces.iter().skip(1).map(|piece| piece.range.start());
            match starts.min_by_key(|start| start.abs_diff(at)).filter(|start| is_near(*start, at, count)) {
                Some(near) => borders.wanted.insert(near),
                None => borders.missing.insert(at),
            };
        }
        borders
    }

    /// The place of the widest shard in which a border is missing, with that border.
    fn widest_split(&self, missing: &BTreeSet<u128>) -> Option<(usize, u128)> {
        let splits = missing.iter().filter_map(|at| {
            let place = self.pieces.partition_point(|piece| piece.range.end() < *at);
            let range = self.pieces.get(place)?.range;
            Some((range.end() - range.start(), Reverse(place), Reverse(*at)))
        });
        splits.max().map(|(_, Reverse(place), Reverse(at))| (place, at))
    }

    /// The place of the first of the two shards that together are narrowest, among those with no wanted border between.
    fn narrowest_merge(&self, wanted: &BTreeSet<u128>) -> Option<usize> {
        let pairs = self.pieces.windows(2).enumerate().filter_map(|(place, pair)| {
            let [left, right] = pair else { return None };
            let width = right.range.end() - left.range.start();
            (!wanted.contains(&right.range.start())).then_some((width, place))
        });
        pairs.min().map(|(_, place)| place)
    }

    fn split(&mut self, place: usize, at: u128) {
        let Some(piece) = self.pieces.get(place) else { return };
        let range = piece.range;
        let Some((left, right)) = range.split_at(at) else { return };
        let (left_load, right_load) = piece.load.clone().cut(range, at);
        let halves = [(left, left_load), (right, right_load)].map(|(range, load)| Piece { shard: None, range, load });
        self.pieces.splice(place..=place, halves);
        self.steps.push(Step::Split { range, at });
    }

    /// Merges the piece at `place` with the next.
    fn merge(&mut self, place: usize) {
        let Some([left, right]) = self.pieces.get(place..place + 2) else { return };
        let Some(range) = left.range.joined_with(right.range) else { return };
        self.steps.push(Step::Merge { left: left.range, right: right.range });
        let load = left.load.clone().and(right.load.clone());
        self.pieces.splice(place..place + 2, [Piece { shard: None, range, load }]);
    }

    fn within_bounds(&self) -> Result<()> {
        if self.pieces.len() > MOST_SHARDS {
            return Err(Error::config(format!("could not plan more than {MOST_SHARDS} shards")));
        }
        Ok(())
    }
}

/// How wide each of `count` even shards is, the last one a little wider.
fn width(count: usize) -> u128 {
    // 2^128 does not fit; what this is short of it by is far below the tolerance.
    u128::MAX / count as u128
}

/// The first hash key of the shard of this number among `count` even ones, as AWS cuts them: 2^128 / count, rounded down,
/// times the number.
fn border(number: usize, count: usize) -> u128 {
    let count = count as u128;
    // 2^128 / count = (2^128 - 1) / count, but for powers of two, where it is one more.
    let even = if count.is_power_of_two() && count > 1 { u128::MAX / count + 1 } else { u128::MAX / count };
    even * number as u128
}

/// Whether two places are the same for all that matters.
fn is_near(one: u128, other: u128, count: usize) -> bool {
    one.abs_diff(other) <= width(count) / TOLERANCE
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
