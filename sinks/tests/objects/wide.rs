//! Records so large that objects of few of them go in parts, and a job that writes them through faults.

use object_store::ObjectStore;
use shardflow::testing::sink::Driver;
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy, Plan};

use crate::common::{assert_manifested, everything, lines, visible};

/// How often a call meets a fault on the way.
const RATES: [(Fault, f64); 6] = [
    (Fault::Error503, 0.05),
    (Fault::Error500, 0.05),
    (Fault::ResetBefore, 0.05),
    (Fault::ResetAfter, 0.1),
    (Fault::ResetMidBody, 0.03),
    (Fault::Truncated, 0.03),
];

/// A record of a size that makes large objects of few.
pub(crate) fn wide(number: u64) -> String {
    format!("{number}:{}", "x".repeat(20_000))
}

fn number_of(line: &str) -> u64 {
    line.trim_matches('"').split(':').next().unwrap().parse().unwrap()
}

pub(crate) fn wide_numbers(store: &dyn ObjectStore) -> Vec<u64> {
    let objects = visible(store).into_iter();
    objects
        .flat_map(|(name, bytes)| lines(&name, &bytes).iter().map(|line| number_of(line)).collect::<Vec<_>>())
        .collect()
}

/// Runs some epochs through whatever the proxy does, with a crash after each second one.
fn through(job: &mut Driver<'_, String>, epochs: u64, records: usize) {
    job.start(2);
    for epoch in 0..epochs {
        job.stage(0, records);
        job.stage(1, 3);
        job.prepare();
        job.persist();
        job.commit();
        job.assert_all_visible();
        if epoch % 2 == 1 {
            job.start(1 + (epoch as usize % 3));
        } else {
            job.acknowledge();
        }
    }
    job.replay(0);
    job.finish();
}

/// The same with faults at random, and objects of more than a part: everything is there once.
pub(crate) fn through_faults(job: &mut Driver<'_, String>, proxy: &FaultProxy, store: &dyn ObjectStore) {
    proxy.inject(Plan::random(Plan::seed(), &RATES).rule());
    through(job, 6, 10);
    job.start(1);
    job.stage(0, 600);
    job.finish();
    let seen = proxy.seen();
    eprintln!("{seen}");
    assert!(seen.faults() > 10, "{seen}");
    assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>());
    assert_manifested(store);
    assert_parted(store);
}

pub(crate) fn assert_parted(store: &dyn ObjectStore) {
    let largest = everything(store).into_values().map(|bytes| bytes.len()).max().unwrap();
    assert!(largest > 10 << 20, "{largest} bytes were to go in parts");
}
