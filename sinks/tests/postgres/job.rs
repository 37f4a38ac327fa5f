//! A whole job over a real PostgreSQL, killed: by SIGKILL at random moments and, with `--features failpoints`, at each named point
//! of a commit and of a start. In the end each charge is there once, the refused ones too, and each total is exact.

use std::time::Duration;

use crate::support::process::{Place, run_job};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[test]
#[ignore = "what the other tests start as a process of its own"]
fn the_job() {
    run_job();
}

#[test]
fn a_job_that_is_killed_at_random_moments_writes_each_charge_once() {
    let seed = std::env::var("SHARDFLOW_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("SHARDFLOW_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let Some(place) = Place::new(300_000) else { return };
    let (mut kills, mut between) = (0, 0);
    while kills < 10 {
        let time = Duration::from_millis(dice.random_range(30..900));
        if !place.start(dice.random_range(1..4), "").killed_after(time) {
            // It has done all that there was.
            place.hold();
            place.reset();
            continue;
        }
        kills += 1;
        let so_far = place.hold_so_far();
        between += u32::from(so_far > 0 && so_far < 300_000);
    }
    place.start(2, "").succeeds();
    place.hold();
    eprintln!("{kills} kills, {between} of them between the first and the last row");
    assert!(between > 0, "no kill struck between the first and the last row");
    // There is nothing left to do, and a start does nothing.
    place.start(1, "").succeeds();
    place.hold();
}

#[cfg(feature = "failpoints")]
mod points {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use shardflow_stand_ins::kill::{KilledAt, killed_at};

    use super::*;

    /// The start that dies at a point: the first, or one after a start that died with an epoch durable and not visible.
    #[derive(Clone, Copy)]
    enum Start {
        First,
        Durable,
    }

    use Start::{Durable, First};

    /// A point, the times at which it strikes, and in which start.
    const POINTS: [(KilledAt, Start); 18] = [
        (killed_at("sink-postgres::after-stage", &[1, 20_000]), First),
        (killed_at("sink-postgres::before-prepare", &[2]), First),
        (killed_at("sink-postgres::before-begin", &[2]), First),
        (killed_at("sink-postgres::after-lock", &[1]), First),
        (killed_at("sink-postgres::after-copy", &[1, 3]), First),
        (killed_at("sink-postgres::before-commit", &[2]), First),
        (killed_at("sink-postgres::after-commit", &[1, 3]), First),
        (killed_at("commit::after-durable", &[2]), First),
        (killed_at("commit::after-sink", &[2]), First),
        (killed_at("commit::after-visible", &[2]), First),
        (killed_at("sink-postgres::before-recovery", &[1, 2]), Durable),
        (killed_at("sink-postgres::after-takeover", &[1, 2]), Durable),
        (killed_at("sink-postgres::before-begin", &[1]), Durable),
        (killed_at("sink-postgres::after-copy", &[1]), Durable),
        (killed_at("sink-postgres::before-commit", &[1]), Durable),
        (killed_at("sink-postgres::after-commit", &[1, 2]), Durable),
        (killed_at("recover::after-sink", &[1]), Durable),
        (killed_at("recover::after-acknowledge", &[1]), Durable),
    ];

    #[test]
    fn a_job_that_is_killed_at_any_point_writes_each_charge_once() {
        let Some(place) = Place::new(100_000) else { return };
        let mut again =
            ["sink-postgres::after-commit", "sink-postgres::before-commit", "open::after-incarnation"].iter().cycle();
        for (point, start) in POINTS {
            for kill in point.each() {
                place.reset();
                if let Durable = start {
                    killed_at("commit::after-durable", &[2]).each().for_each(|kill| place.dies(3, kill));
                    place.hold_so_far();
                }
                let again = again.next().unwrap();
                eprintln!("{kill}, then {again}");
                place.dies(2, kill);
                place.hold_so_far();
                place.start(1, &format!("{again}=kill(1)")).dies_or_succeeds();
                place.hold_so_far();
                place.start(2, "").succeeds();
                place.hold();
            }
        }
    }

    fn copy(from: &Path, to: &Path) {
        let copied = Command::new("cp").arg("-r").args([from, to]).status().unwrap();
        assert!(copied.success());
    }

    /// A process that stands still is taken for dead; its state is started elsewhere and does all the work. Then it wakes up.
    fn zombie(point: &str) {
        let Some(place) = Place::new(60_000) else { return };
        let (wake, heirs) = (place.path("wake"), place.path("heir"));
        let mut zombie = place.start(2, &format!("{point}=wait({})", wake.display()));
        zombie.says("waits at");
        let before = place.hold_so_far();
        copy(&place.path("state"), &heirs);
        place.start_on("heir", 2, "").succeeds();
        place.hold();
        fs::write(wake, "").unwrap();
        let said = zombie.fails();
        assert!(
            said.contains("another start of job \"billing\" (incarnation 2, and this is 1) has taken over"),
            "{said}"
        );
        place.hold();
        assert!(before < 60_000);
    }

    #[test]
    fn a_zombie_that_wakes_up_before_its_commit_writes_nothing() {
        zombie("sink-postgres::before-begin");
    }

    #[test]
    fn a_zombie_that_stands_still_inside_its_commit_holds_nobody_up_for_long_and_writes_nothing() {
        zombie("sink-postgres::before-commit");
    }
}
