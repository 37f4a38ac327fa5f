//! Plans: what they aim at, and what they may never do.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::stream::shards::tests::shard;

fn load(seen: &[(u128, u64)]) -> Load {
    let mut load = Load::new(Duration::from_secs(1));
    for (hash, bytes) in seen {
        load.add(*hash, *bytes);
    }
    load
}

/// Open shards that begin at these hash keys.
fn shards(starts: &[u128]) -> Vec<Shard> {
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u128::MAX]);
    let shard = |(number, (start, end))| shard(&format!("shard-{number:03}"), &[], start, end, true);
    starts.iter().copied().zip(ends).enumerate().map(shard).collect()
}

fn even(count: usize) -> Vec<Shard> {
    shards(&(0..count).map(|number| border(number, count)).collect::<Vec<_>>())
}

fn none(shards: &[Shard]) -> Vec<Load> {
    vec![Load::default(); shards.len()]
}

fn kinds(plan: &Plan) -> String {
    plan.steps.iter().map(|step| if matches!(step, Step::Split { .. }) { 's' } else { 'm' }).collect()
}

/// Does the steps one by one, as the service would, and gives the ranges open at the end, with the fewest and the most that ever
/// were.
fn done(plan: &Plan) -> (Vec<HashRange>, usize, usize) {
    let mut open: Vec<HashRange> = plan.before.iter().map(|piece| piece.range).collect();
    let (mut fewest, mut most) = (open.len(), open.len());
    for step in &plan.steps {
        match *step {
            Step::Split { range, at } => {
                let place = open.iter().position(|it| *it == range).expect("an open shard is split");
                let (left, right) = range.split_at(at).expect("a place where Kinesis splits");
                open.splice(place..=place, [left, right]);
            }
            Step::Merge { left, right } => {
                let place = open.iter().position(|it| *it == left).expect("an open shard is merged");
                assert_eq!(open.get(place + 1), Some(&right), "with its neighbour");
                open.splice(place..place + 2, [left.joined_with(right).unwrap()]);
            }
        }
        (fewest, most) = (fewest.min(open.len()), most.max(open.len()));
        assert_eq!((open[0].start(), open[open.len() - 1].end()), (0, u128::MAX));
        assert!(open.windows(2).all(|pair| pair[0].is_followed_by(pair[1])), "all hash keys, each once");
    }
    (open, fewest, most)
}

#[test]
fn the_hottest_shard_is_split_where_its_bytes_are_halved() {
    let two = shards(&[0, 1 << 127]);
    let loads = vec![load(&[(5, 10)]), load(&[((1 << 127) + 100, 30), ((1 << 127) + 200, 30)])];
    let plan = Plan::new(&two, loads, Goal::SplitHottest(1)).unwrap();
    assert_eq!(plan.steps, [Step::Split { range: two[1].range, at: (1 << 127) + 150 }]);
    assert_eq!(plan.after.iter().map(|piece| piece.load.bytes()).collect::<Vec<_>>(), [10, 30, 30]);
    assert_eq!(plan.after[0].shard.as_deref(), Some("shard-000"));
    assert_eq!(plan.after[1].shard, None);
}

#[test]
fn a_second_split_goes_to_the_shard_that_is_hottest_by_then() {
    let two = shards(&[0, 1 << 127]);
    let hot: Vec<(u128, u64)> = (1..=8).map(|n| (n * 1_000, 100)).collect();
    let plan = Plan::new(&two, vec![load(&hot), load(&[(1 << 127, 300)])], Goal::SplitHottest(3)).unwrap();
    // 800 and 300: the first in halves, then each half, before 300 is hottest.
    let bytes: Vec<u64> = plan.after.iter().map(|piece| piece.load.bytes()).collect();
    assert_eq!(bytes, [200, 200, 200, 200, 300]);
}

#[test]
fn the_coldest_neighbours_are_merged_and_may_be_merged_again() {
    let four = even(4);
    let loads: Vec<Load> =
        four.iter().zip([90, 2, 1, 50]).map(|(it, bytes)| load(&[(it.range.start(), bytes)])).collect();
    let plan = Plan::new(&four, loads.clone(), Goal::MergeColdest(1)).unwrap();
    assert_eq!(plan.steps, [Step::Merge { left: four[1].range, right: four[2].range }]);
    let plan = Plan::new(&four, loads, Goal::MergeColdest(3)).unwrap();
    assert_eq!(
        plan.after.iter().map(|piece| (piece.range, piece.load.bytes())).collect::<Vec<_>>(),
        [(HashRange::ALL, 143)]
    );
    let error = Plan::new(&four, none(&four), Goal::MergeColdest(4)).unwrap_err().to_string();
    assert_eq!(error, "could not plan 4 merges: there are only 4 open shards");
}

#[test]
fn doubling_splits_each_shard_and_halving_merges_each_pair() {
    for (from, to, expected) in [(1, 2, "s"), (2, 4, "ss"), (3, 6, "sss"), (6, 3, "mmm"), (4, 1, "mmm"), (5, 5, "")] {
        let plan = Plan::new(&even(from), vec![], Goal::ToCount(to)).unwrap();
        assert_eq!(kinds(&plan), expected, "{from} to {to}");
    }
}

#[test]
fn borders_that_are_rounded_otherwise_stay_where_they_are() {
    let third = u128::MAX / 3;
    let crooked = shards(&[0, third + 5, third * 2 - 7]);
    assert!(Plan::new(&crooked, none(&crooked), Goal::ToCount(3)).unwrap().steps.is_empty());
}

#[test]
fn a_stream_in_the_middle_of_a_reshard_has_no_plan() {
    let mut three = even(3);
    three.remove(1);
    assert!(Plan::new(&three, none(&three), Goal::ToCount(2)).is_err());
    assert!(Plan::new(&[], vec![], Goal::SplitHottest(1)).is_err());
    assert!(Plan::new(&even(2), vec![], Goal::ToCount(0)).is_err());
    assert!(Plan::new(&even(2), vec![], Goal::ToCount(MOST_SHARDS + 1)).is_err());
}

#[test]
fn closed_shards_do_not_count() {
    let mut two = even(2);
    two.insert(0, shard("old", &[], 0, u128::MAX, false));
    let loads = vec![load(&[(1, 5)]), load(&[(u128::MAX, 7)])];
    let plan = Plan::new(&two, loads, Goal::MergeColdest(1)).unwrap();
    assert_eq!(plan.before.iter().map(|piece| piece.load.bytes()).collect::<Vec<_>>(), [5, 7]);
}

#[test]
fn aws_borders_are_met_exactly() {
    assert_eq!(border(1, 3), 113_427_455_640_312_821_154_458_202_477_256_070_485);
    assert_eq!(border(2, 3), 226_854_911_280_625_642_308_916_404_954_512_140_970);
    assert_eq!(border(1, 2), 1 << 127);
    assert_eq!(border(3, 4), 3 << 126);
}

fn any_stream() -> impl Strategy<Value = Vec<Shard>> {
    let start = prop_oneof![any::<u128>(), 0u128..50, (u128::MAX - 50)..u128::MAX];
    proptest::collection::btree_set(start, 0..20).prop_map(|mut starts| {
        starts.insert(0);
        shards(&starts.into_iter().collect::<Vec<_>>())
    })
}

fn any_goal() -> impl Strategy<Value = Goal> {
    prop_oneof![
        (0usize..20).prop_map(Goal::SplitHottest),
        (0usize..20).prop_map(Goal::MergeColdest),
        (1usize..40).prop_map(Goal::ToCount),
    ]
}

proptest! {
    #[test]
    fn every_step_can_be_done_and_keeps_all_hash_keys(
        open in any_stream(), goal in any_goal(), seen in proptest::collection::vec((any::<u128>(), 1u64..1_000), 0..60),
    ) {
        let loads: Vec<Load> = open.iter().map(|shard| {
            load(&seen.iter().copied().filter(|(hash, _)| shard.range.contains(*hash)).collect::<Vec<_>>())
        }).collect();
        let Ok(plan) = Plan::new(&open, loads, goal) else {
            prop_assert!(!matches!(goal, Goal::ToCount(_)), "any count can be reached");
            return Ok(());
        };
        let (ranges, fewest, most) = done(&plan);
        prop_assert_eq!(&ranges, &plan.after.iter().map(|piece| piece.range).collect::<Vec<_>>());
        let bytes = |pieces: &[Piece]| pieces.iter().map(|piece| piece.load.bytes()).sum::<u64>();
        prop_assert_eq!(bytes(&plan.before), bytes(&plan.after));
        match goal {
            Goal::SplitHottest(count) => prop_assert_eq!(ranges.len(), open.len() + count),
            Goal::MergeColdest(count) => prop_assert_eq!(ranges.len(), open.len() - count),
            Goal::ToCount(count) => {
                prop_assert_eq!(ranges.len(), count);
                prop_assert!(most <= open.len().max(count) + 1, "{most} shards at once");
                prop_assert!(fewest >= open.len().min(count), "{fewest} shards at a time");
                for range in ranges {
                    let share = range.share() * count as f64;
                    prop_assert!((0.99..1.01).contains(&share), "{share} of an even share");
                }
            }
        }
    }
}
