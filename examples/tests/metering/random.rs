//! SIGKILL at random times, again and again, with another number of workers at each start.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shardflow_examples::metering::output::visible_files;
use shardflow_examples::metering::reference::{Reference, Semantics};

use crate::books::Books;
use crate::process::{Place, SEMANTICS, pause};

const RECORDS: u64 = 400_000;
const KILLS: usize = 8;

/// Another seed each time; `METERING_SEED` repeats one.
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("METERING_SEED").ok();
    let seed = given.map_or_else(|| u64::from(rand::random::<u32>()), |seed| seed.parse().unwrap());
    println!("{test}: METERING_SEED={seed}");
    seed
}

#[derive(Clone, Copy, PartialEq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn ending(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// Packs the files of a folder, each in its place.
    fn pack(self, folder: &Path) {
        for path in visible_files(folder).unwrap() {
            let text = fs::read(&path).unwrap();
            let packed = format!("{}{}", path.display(), self.ending());
            match self {
                Self::Plain => continue,
                Self::Gzip => {
                    let mut file = GzEncoder::new(File::create(packed).unwrap(), flate2::Compression::fast());
                    file.write_all(&text).unwrap();
                    file.finish().unwrap();
                }
                Self::Zstd => fs::write(packed, zstd::encode_all(&text[..], 1).unwrap()).unwrap(),
            }
            fs::remove_file(path).unwrap();
        }
    }

    /// The reference reads plain files; a rejected record names the packed one.
    fn rename(self, reference: &mut Reference) {
        let rejected = std::mem::take(&mut reference.rejected);
        reference.rejected = rejected
            .into_iter()
            .map(|((split, position, raw), times)| ((format!("{split}{}", self.ending()), position, raw), times))
            .collect();
    }
}

/// Lets the job live for a random time and looks at its output meanwhile. Gives whether it was the kill that ended it.
fn live_and_die(place: &Place, semantics: &Semantics, books: &mut Books, random: &mut ChaCha8Rng) -> bool {
    let workers = random.random_range(1..=5);
    // Short lives end in the start, longer ones in the work.
    let most = if random.random_bool(0.25) { 40 } else { 250 };
    let life = Duration::from_millis(random.random_range(1..most));
    let job = place.job(semantics, workers).args(["--in-flight-bytes", "2MiB"]).env("SHARDFLOW_LOG", "warn");
    let (until, job) = (Instant::now() + life, job.start());
    while Instant::now() < until {
        books.witness.look(&place.path("out"));
        pause();
    }
    let ended = job.kill();
    println!("{workers} workers lived for {life:?}: {}", ended.status);
    assert!(ended.status.signal() == Some(9) || ended.status.success(), "{ended:?}");
    books.hold_so_far();
    ended.status.signal().is_some()
}

fn killed_at_random(test: &str, packing: Packing, semantics: Semantics) {
    let seed = seed(test);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let place = Place::with_input(RECORDS, seed);
    let mut reference = Reference::compute(&place.path("in"), &semantics).unwrap();
    packing.rename(&mut reference);
    packing.pack(&place.path("in"));
    let mut books = Books::new(reference, place.path("out"));
    let kills = (0..KILLS).filter(|_| live_and_die(&place, &semantics, &mut books, &mut random)).count();
    println!("{kills} of {KILLS} kills struck");
    assert!(kills > KILLS / 2, "too small an input for this machine: {kills} of {KILLS} kills struck");
    place.job(&semantics, random.random_range(1..=4)).succeed();
    books.hold();
}

#[test]
fn a_job_that_is_killed_at_random_gives_the_same_results() {
    killed_at_random("plain", Packing::Plain, SEMANTICS);
}

#[test]
fn so_does_one_with_grace_on_gzip_files() {
    let semantics = Semantics { window: 7_000, lag: 2_000, grace: 9_000, dedupe: 600_000 };
    killed_at_random("gzip", Packing::Gzip, semantics);
}

#[test]
fn so_does_one_that_counts_copies_on_zstd_files() {
    let semantics = Semantics { window: 60_000, lag: 1_000, grace: 3_000, dedupe: 0 };
    killed_at_random("zstd", Packing::Zstd, semantics);
}
