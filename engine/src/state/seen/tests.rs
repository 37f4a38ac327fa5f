use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::super::changelog::ChangelogReader;
use super::*;
use crate::vocabulary::{hours, millis, seconds};

const GROUPS: u16 = 4;

fn group(id: u128) -> KeyGroup {
    KeyGroup::new((id % u128::from(GROUPS)) as u16)
}

/// Spreads small numbers over all fingerprints.
fn fingerprint(id: u128) -> u128 {
    id.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645)
}

/// What the promise says, written down as plainly as possible.
struct Model {
    horizon: u64,
    watermark: u64,
    accepted: HashMap<u128, u64>,
}

impl Model {
    fn check(&mut self, id: u128, at: u64) -> Seen {
        let (horizon, watermark) = (self.horizon, self.watermark);
        self.accepted.retain(|_, accepted| *accepted + horizon > watermark);
        if self.accepted.get(&id).is_some_and(|accepted| accepted.abs_diff(at) < horizon) {
            return Seen::Duplicate;
        }
        let newest = self.accepted.entry(id).or_insert(at);
        *newest = at.max(*newest);
        Seen::First
    }
}

#[derive(Debug, Clone)]
enum Op {
    Check(u128, u64),
    Expire(u64),
    Drain,
    Restart(u16),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        12 => (0..20_u128, 0..200_u64).prop_map(|(id, at)| Op::Check(id, at)),
        2 => (0..200_u64).prop_map(Op::Expire),
        2 => Just(Op::Drain),
        1 => (0..=GROUPS).prop_map(Op::Restart),
    ];
    proptest::collection::vec(op, 0..120)
}

type Stored = BTreeMap<(KeyGroup, Vec<u8>), Vec<u8>>;

fn drain(seen: &mut SeenIds, epoch: u64, worker: u32, stored: &mut Stored) {
    let mut changes = ChangelogWriter::new();
    seen.drain_changes(Epoch::new(epoch), worker, Table(0), &mut changes);
    let Some(sealed) = changes.finish() else { return };
    for change in ChangelogReader::open(&sealed).unwrap() {
        let change = change.unwrap();
        let key = (change.group, change.key.to_vec());
        match change.value {
            Some(value) => assert!(stored.insert(key, value.to_vec()).is_none(), "a chunk key was used twice"),
            None => assert!(stored.remove(&key).is_some(), "a delete of what was never written"),
        }
    }
}

fn run(ops: Vec<Op>, horizon: u64) -> Result<(), TestCaseError> {
    let mut model = Model { horizon, watermark: 0, accepted: HashMap::new() };
    let (mut workers, mut cut) = ([SeenIds::new(millis(horizon)), SeenIds::new(millis(horizon))], GROUPS);
    let (mut stored, mut epoch) = (Stored::new(), 0);
    for op in ops {
        match op {
            Op::Check(id, at) => {
                let worker = usize::from(group(id).number() >= cut);
                let answer = workers[worker].check_and_insert(
                    group(id),
                    fingerprint(id),
                    EventTime::from_millis(at),
                    EventTime::MIN,
                );
                prop_assert_eq!(answer, model.check(id, at), "id {} at {}", id, at);
            }
            Op::Expire(watermark) => {
                workers.iter_mut().for_each(|seen| seen.expire(EventTime::from_millis(watermark)));
                model.watermark = model.watermark.max(watermark);
            }
            Op::Drain | Op::Restart(_) => {
                epoch += 1;
                (0..).zip(&mut workers).for_each(|(number, seen)| drain(seen, epoch, number, &mut stored));
                let Op::Restart(at) = op else { continue };
                cut = at;
                workers = [SeenIds::new(millis(horizon)), SeenIds::new(millis(horizon))];
                for ((group, key), value) in &stored {
                    workers[usize::from(group.number() >= cut)].restore(*group, key, value).unwrap();
                }
                workers.iter_mut().for_each(|seen| seen.expire(EventTime::from_millis(model.watermark)));
            }
        }
    }
    // When all is over, nothing stays anywhere.
    for (number, seen) in (0..).zip(&mut workers) {
        (0..3).for_each(|_| seen.expire(EventTime::MAX));
        drain(seen, epoch + 1, number, &mut stored);
        drain(seen, epoch + 2, number, &mut stored);
        prop_assert!(seen.is_empty() && seen.chunks.is_empty());
    }
    prop_assert!(stored.is_empty());
    Ok(())
}

proptest! {
    #[test]
    fn it_answers_as_the_model_through_restarts_with_other_workers(ops in ops(), horizon in 0..120_u64) {
        run(ops, horizon)?;
    }

    #[test]
    fn no_stored_bytes_make_it_panic(key: Vec<u8>, value: Vec<u8>) {
        let _ = SeenIds::new(seconds(1)).restore(KeyGroup::new(0), &key, &value);
        let _ = SeenIds::new(seconds(1)).restore(KeyGroup::new(0), &[255; 20], &value);
    }
}

#[test]
fn an_id_returns_after_the_horizon_and_the_newest_time_is_restored() {
    let (mut seen, mut stored) = (SeenIds::new(millis(100)), Stored::new());
    let check =
        |seen: &mut SeenIds, at| seen.check_and_insert(KeyGroup::new(0), 7, EventTime::from_millis(at), EventTime::MIN);
    assert_eq!(check(&mut seen, 1000), Seen::First);
    drain(&mut seen, 1, 0, &mut stored);
    assert_eq!(check(&mut seen, 1100), Seen::First);
    drain(&mut seen, 2, 0, &mut stored);
    let mut restored = SeenIds::new(millis(100));
    // The newer chunk first: the older must not win.
    for ((group, key), value) in stored.iter().rev() {
        restored.restore(*group, key, value).unwrap();
    }
    assert_eq!(check(&mut restored, 1150), Seen::Duplicate);
    assert_eq!(check(&mut restored, 1001), Seen::Duplicate);
    assert_eq!(check(&mut restored, 1000), Seen::First);
}

#[test]
fn another_horizon_keeps_what_lies_within_it_and_deletes_the_rest() {
    let at = EventTime::from_millis;
    let accept = |seen: &mut SeenIds, id: u128, millis| {
        assert_eq!(seen.check_and_insert(group(id), fingerprint(id), at(millis), EventTime::MIN), Seen::First);
    };
    let day = 86_400_000;
    for (before, after) in [(hours(24), hours(1)), (hours(1), hours(24))] {
        let (mut seen, mut stored) = (SeenIds::new(before), Stored::new());
        accept(&mut seen, 1, 9 * day);
        drain(&mut seen, 1, 0, &mut stored);
        accept(&mut seen, 2, 11 * day);
        drain(&mut seen, 2, 0, &mut stored);
        assert_eq!(stored.len(), 2);

        let mut seen = SeenIds::new(after);
        stored.iter().for_each(|((group, key), value)| seen.restore(*group, key, value).unwrap());
        // The first one has expired by either horizon, the second by neither.
        seen.expire(at(11 * day + 1_000_000));
        drain(&mut seen, 3, 0, &mut stored);
        assert_eq!(stored.len(), 1, "from {before:?} to {after:?}");
        let mut again = SeenIds::new(after);
        stored.iter().for_each(|((group, key), value)| again.restore(*group, key, value).unwrap());
        let answer = again.check_and_insert(group(2), fingerprint(2), at(11 * day + 1), EventTime::MIN);
        assert_eq!(answer, Seen::Duplicate);
    }
}

#[test]
fn deletes_of_expired_chunks_are_spread_over_epochs() {
    let (mut seen, mut stored) = (SeenIds::new(millis(16)), Stored::new());
    for epoch in 0..3000_u64 {
        seen.check_and_insert(
            KeyGroup::new(0),
            fingerprint(u128::from(epoch)),
            EventTime::from_millis(epoch / 300),
            EventTime::MIN,
        );
        drain(&mut seen, epoch, 0, &mut stored);
    }
    assert_eq!(stored.len(), 3000);
    seen.expire(EventTime::from_millis(100_000));
    drain(&mut seen, 3000, 0, &mut stored);
    assert_eq!(stored.len(), 3000 - SPARE_DELETES);
    drain(&mut seen, 3001, 0, &mut stored);
    drain(&mut seen, 3002, 0, &mut stored);
    assert!(stored.is_empty());
}

#[test]
fn memory_stays_under_35_bytes_an_id_at_every_size() {
    let (mut seen, mut sizes) = (SeenIds::new(hours(24)), Vec::new());
    for id in 0..400_000_u128 {
        seen.check_and_insert(
            KeyGroup::new((id % 16) as u16),
            fingerprint(id),
            EventTime::from_millis(5),
            EventTime::MIN,
        );
        if id > 100_000 && id % 1000 == 0 {
            sizes.push(seen.bytes() as f64 / seen.len() as f64);
        }
    }
    let most = sizes.iter().fold(0.0, |a: f64, b| a.max(*b));
    let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
    assert!(most < 35.0 && mean < 32.0, "at most {most} and on average {mean} bytes an id");
}

/// Run with `cargo test --release --workspace --lib seen_ids_a_second -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn seen_ids_a_second() {
    const COUNT: u64 = 10_000_000;
    let (mut seen, fingerprints) = (SeenIds::new(hours(24)), Fingerprints::new(&[1; 16]));
    let mut drained = std::time::Duration::ZERO;
    for (pass, expected) in [("first", Seen::First), ("duplicate", Seen::Duplicate)] {
        let start = std::time::Instant::now();
        for batch in 0..COUNT / 32 {
            let batch: [(KeyGroup, u128, EventTime); 32] = std::array::from_fn(|at| {
                let id = batch * 32 + at as u64;
                let fingerprint = fingerprints.of(b"account-000000012/requests", &id.to_le_bytes());
                (KeyGroup::new((fingerprint as u16) % 256), fingerprint, EventTime::from_millis(id / 1000))
            });
            batch.iter().for_each(|(group, fingerprint, _)| seen.prefetch(*group, *fingerprint));
            for (group, fingerprint, at) in batch {
                assert_eq!(seen.check_and_insert(group, fingerprint, at, EventTime::MIN), expected);
            }
            if batch[0].2.as_millis().is_multiple_of(160) {
                let begun = std::time::Instant::now();
                let mut changes = ChangelogWriter::new();
                seen.drain_changes(Epoch::new(batch[0].2.as_millis()), 0, Table(0), &mut changes);
                drained += begun.elapsed();
            }
        }
        let rate = COUNT as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{rate:.2} M {pass} ids/s, fingerprints and drains included");
    }
    println!(
        "{:.0} ms in drains, {:.1} bytes an id",
        drained.as_secs_f64() * 1e3,
        seen.bytes() as f64 / seen.len() as f64
    );
}
