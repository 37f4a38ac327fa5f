//! A whole job over the redshift sink, killed by SIGKILL at random moments and, with `--features failpoints`, at named points. In the
//! end each charge is loaded once, the refused ones are in their table, and each total is exact. The bucket is a folder.

use std::time::Duration;

use crate::support::process::Place;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[test]
fn a_job_that_is_killed_at_random_moments_loads_each_charge_once() {
    let seed = std::env::var("SHARDFLOW_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("SHARDFLOW_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let Some(place) = Place::redshift(150_000) else { return };
    let (mut kills, mut between) = (0, 0);
    while kills < 6 {
        // One at any moment, the next soon after the start has loaded something.
        let process = place.start(dice.random_range(1..4), "");
        let was_killed = if kills % 2 == 0 {
            process.killed_after(Duration::from_millis(dice.random_range(50..1_500)))
        } else {
            let count = || place.db.text("SELECT count(*) FROM charges");
            let before = count();
            process.killed_once(|| count() != before, Duration::from_millis(dice.random_range(0..300)))
        };
        if !was_killed {
            place.hold();
            place.reset();
            continue;
        }
        kills += 1;
        let so_far = place.hold_so_far();
        between += u32::from(so_far > 0 && so_far < 150_000);
    }
    place.start(2, "").succeeds();
    place.hold();
    eprintln!("{kills} kills, {between} of them between the first and the last row");
    assert!(between > 0, "no kill struck between the first and the last row");
}

#[cfg(feature = "failpoints")]
mod points {
    use shardflow_stand_ins::kill::{KilledAt, killed_at, kills};

    use super::Place;

    /// Where the first start dies.
    const FIRST: [KilledAt; 9] = [
        killed_at("sink-redshift::after-stage", &[1, 20_000]),
        killed_at("sink-redshift::before-prepare", &[2]),
        killed_at("sink-redshift::before-put", &[2]),
        killed_at("sink-redshift::after-put", &[2]),
        killed_at("sink-redshift::before-begin", &[2]),
        killed_at("sink-redshift::after-lock", &[1, 3]),
        killed_at("sink-redshift::after-copy", &[1, 3]),
        killed_at("sink-redshift::before-commit", &[2]),
        killed_at("sink-redshift::after-commit", &[1, 3]),
    ];

    /// Where a start dies that finds an epoch durable and not visible.
    const DURABLE: [KilledAt; 7] = [
        killed_at("sink-redshift::before-recovery", &[1, 2]),
        killed_at("sink-redshift::after-takeover", &[1, 2]),
        killed_at("sink-redshift::before-begin", &[1]),
        killed_at("sink-redshift::after-lock", &[1]),
        killed_at("sink-redshift::after-copy", &[1]),
        killed_at("sink-redshift::before-commit", &[1]),
        killed_at("sink-redshift::after-commit", &[1, 2]),
    ];

    fn dies_and_goes_on(place: &Place, points: &[KilledAt], before: &[KilledAt]) {
        for kill in kills(points) {
            place.reset();
            kills(before).for_each(|kill| place.dies(3, kill));
            eprintln!("{kill}");
            place.dies(2, kill);
            place.hold_so_far();
            place.start(1, "sink-redshift::before-commit=kill(1)").dies_or_succeeds();
            place.hold_so_far();
            place.start(2, "").succeeds();
            place.hold();
        }
    }

    #[test]
    fn a_job_that_is_killed_at_any_point_loads_each_charge_once() {
        let Some(place) = Place::redshift(100_000) else { return };
        dies_and_goes_on(&place, &FIRST, &[]);
    }

    #[test]
    fn so_does_one_that_is_killed_at_any_point_of_its_recovery() {
        let Some(place) = Place::redshift(100_000) else { return };
        dies_and_goes_on(&place, &DURABLE, &[killed_at("commit::after-durable", &[2])]);
    }
}
