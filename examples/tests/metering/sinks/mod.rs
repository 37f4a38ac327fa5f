//! The job with its results in services, all at once, killed at every named point of a commit and of a recovery, and at random:
//! each service ends with what the reference says, and streams hold it at least once.

mod archive;
mod found;
mod services;

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shardflow_examples::metering::reference::Reference;
use shardflow_stand_ins::kill::{KilledAt, killed_at, kills};

use crate::process::{PATIENCE, SEMANTICS, pause};
use crate::random::seed;
use services::Services;

/// Where the starts before the last die, one after the other: in commits, in the recovery of an epoch that is durable and not yet
/// visible, in commits again, and at the end.
const POINTS: [KilledAt; 13] = [
    killed_at("commit::before-flush", &[2]),
    killed_at("commit::after-flush", &[1, 4]),
    killed_at("commit::before-durable", &[1]),
    killed_at("commit::after-durable", &[1]),
    killed_at("recover::before-sources", &[1]),
    killed_at("recover::before-sinks", &[1]),
    killed_at("recover::after-sink", &[4]),
    killed_at("recover::after-acknowledge", &[1]),
    killed_at("commit::after-sink", &[5]),
    killed_at("recover::after-sink", &[9]),
    killed_at("commit::after-visible", &[1]),
    killed_at("commit::after-acknowledge", &[1]),
    killed_at("commit::before-close", &[1]),
];

/// How often the job is killed at random at most.
const KILLS: usize = 12;

/// No more kills after so long: what is left is done without.
const KILLING: Duration = Duration::from_secs(40);

fn reference(services: &Services) -> Reference {
    let reference = Reference::compute(&services.place.path("in"), &SEMANTICS).unwrap();
    assert!(reference.charges.len() > 1_000 && !reference.late.is_empty() && !reference.rejected.is_empty());
    reference
}

#[test]
fn every_service_ends_with_what_the_reference_says_though_the_job_is_killed() {
    let Some(services) = Services::start(30_000, 21) else { return };
    let reference = reference(&services);
    for (kill, workers) in kills(&POINTS).zip([1, 2, 3].into_iter().cycle()) {
        services.job(workers).die_at(kill);
        services.hold_so_far(&reference);
    }
    services.job(2).succeed();
    services.hold(&reference);
}

/// Kills a start at any moment, or if it `waits` soon after it has committed something. Gives whether it was the kill that
/// ended it.
fn killed_at_random(services: &Services, waits: bool, random: &mut ChaCha8Rng) -> bool {
    let (workers, life) = (random.random_range(1..=3), Duration::from_millis(random.random_range(1..300)));
    let (before, deadline) = (services.committed(), Instant::now() + PATIENCE);
    let mut job = services.job(workers).start();
    while waits && job.runs() && services.committed() == before {
        assert!(Instant::now() < deadline, "nothing became visible: {:?}", job.kill());
        pause();
    }
    let until = Instant::now() + life;
    while job.runs() && Instant::now() < until {
        pause();
    }
    let ended = job.kill();
    println!("{workers} workers, {life:?} from {}: {}", if waits { "a commit" } else { "the start" }, ended.status);
    assert!(ended.status.signal() == Some(9) || ended.status.success(), "{ended:?}");
    ended.status.signal().is_some()
}

#[test]
fn so_it_does_though_it_is_killed_at_random() {
    let seed = seed("services");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let Some(services) = Services::start(30_000, seed) else { return };
    let reference = reference(&services);
    let (begun, mut kills, mut progressed) = (Instant::now(), 0, 0);
    while kills < KILLS && begun.elapsed() < KILLING {
        let before = services.committed();
        if !killed_at_random(&services, kills % 2 == 1, &mut random) {
            break;
        }
        services.hold_so_far(&reference);
        kills += 1;
        progressed += usize::from(services.committed() > before);
    }
    println!("{kills} kills, {progressed} of them after a commit");
    assert!(
        progressed >= 2,
        "too small an input for this machine: {progressed} of {kills} kills struck after a commit"
    );
    services.job(random.random_range(1..=3)).succeed();
    services.hold(&reference);
}
