//! Limits and engine against a reference that nobody would run.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Parser;
use compact_str::CompactString;
use shardflow::JobArgs;

use super::*;
use crate::made::clock::Clock;
use crate::made::flows;
use crate::made::records::{Maker, Records, Spec};
use crate::made::run::Work;

fn reference_windows<K: MadeKey>(records: &Arc<Records>, size: u64, slide: u64) -> Tally {
    let maker = Maker::<K>::new(Arc::clone(records));
    let mut windows: BTreeMap<(u64, K), (u64, u64)> = BTreeMap::new();
    for n in 0..records.count() {
        let used = maker.make(n);
        let mut start = used.at / slide * slide;
        while start + size > used.at {
            let (count, sum) = windows.entry((start, used.account.clone())).or_default();
            *count += 1;
            *sum += used.qty;
            start -= slide;
        }
    }
    let mut tally = Tally::default();
    for ((start, key), (count, sum)) in windows {
        tally.window(key.route(), start, count, sum);
    }
    tally
}

fn reference_counts(records: &Arc<Records>) -> Tally {
    let maker = Maker::<u64>::new(Arc::clone(records));
    let (mut counts, mut tally) = (BTreeMap::<u64, u64>::new(), Tally::default());
    for n in 0..records.count() {
        let key = maker.make(n).account;
        let count = counts.entry(key).or_default();
        *count += 1;
        tally.running(key, *count);
    }
    tally
}

fn by_engine(work: Work, records: &Arc<Records>, workers: usize) -> Tally {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        job: JobArgs,
    }
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let flags = ["made", "--epoch", "20ms", "--state", state.to_str().unwrap(), "--workers", &workers.to_string()];
    flows::run(work, records, Flags::parse_from(flags).job, &Clock::default()).unwrap()
}

fn all_agree(work: Work, expected: Tally, records: &Arc<Records>) {
    assert!(expected.rows > 0);
    for threads in [1, 2] {
        let clock = Clock::default();
        assert_eq!(plain::run(work, records, threads, &clock).unwrap(), expected, "{work:?}, {threads} threads");
        assert_eq!(timely::run(work, records, threads, &clock).unwrap(), expected, "{work:?}, {threads} workers");
        assert!(!clock.taken().0.is_zero());
        assert_eq!(by_engine(work, records, threads), expected, "{work:?}, engine on {threads}");
    }
}

#[test]
fn engine_and_limits_compute_what_the_reference_does() {
    // More than a minute, and keys so few and so many that windows are full and empty.
    for (records, keys, skew) in [(1_200_000, 3, Some(1.1)), (60_000, 50_000, None)] {
        let records = Arc::new(Records::new(Spec { records, keys, skew }));
        all_agree(Work::Strings, reference_windows::<CompactString>(&records, 60_000, 60_000), &records);
        all_agree(Work::Ints, reference_windows::<u64>(&records, 60_000, 60_000), &records);
        all_agree(Work::Running, reference_counts(&records), &records);
    }
}

#[test]
fn overlapping_windows_share_panes_and_come_out_the_same() {
    let records = Arc::new(Records::new(Spec { records: 400_000, keys: 5, skew: None }));
    all_agree(Work::Sliding, reference_windows::<CompactString>(&records, 60_000, 5_000), &records);
}
