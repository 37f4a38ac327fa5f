//! The job on an embedded Kinesis, while records are put, a shard is split and two are merged: SIGKILL at random times and
//! at named points, another number of workers at each start, and in the end every id that was put is in the results once.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use shardflow_examples::metering::demo::audit::Audit;
use shardflow_examples::metering::demo::embedded::{Embedded, REGION, Stream};
use shardflow_examples::metering::demo::producer::{Producer, SharedLedger, put_markers};
use shardflow_examples::metering::reference::Semantics;
use shardflow_examples::metering::workload::{Spec, Workload};
use shardflow_stand_ins::kill::{KilledAt, killed_at};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::books::{Witness, leftovers};
use crate::process::{Launch, PATIENCE, Place, Process, pause};
use crate::random::seed;

/// Records of one phase; there is one start of the job in each.
const RECORDS: u64 = 3_000;
/// Records put a second.
const RATE: u64 = 3_000;
/// Event time of one phase, in milliseconds.
const SPAN: u64 = 15_000;
const SEMANTICS: Semantics = Semantics { window: 5_000, lag: 3_000, grace: 1_000, dedupe: 86_400_000 };

/// What happens while the records of a phase are put.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// SIGKILL at a random time.
    Kill,
    /// SIGKILL at a named point.
    Point(KilledAt),
    /// A shard is split, then SIGKILL at a random time.
    Split,
    /// Two shards are merged, then SIGKILL at a random time.
    Merge,
    /// SIGINT at a random time.
    Stop,
    /// A start that finds no Kinesis, then one that is killed.
    WrongAddress,
}

const PHASES: [Phase; 9] = [
    Phase::Kill,
    Phase::Point(killed_at("commit::after-durable", &[1])),
    Phase::Split,
    Phase::Point(killed_at("commit::after-sink", &[1])),
    Phase::WrongAddress,
    Phase::Merge,
    Phase::Stop,
    Phase::Point(killed_at("recover::after-sink", &[2])),
    Phase::Kill,
];

struct Scenario {
    runtime: Runtime,
    server: Embedded,
    stream: Stream,
    ledger: SharedLedger,
    place: Place,
    witness: Witness,
    random: ChaCha8Rng,
    phases: u64,
    semantics: Semantics,
    duplicates: f64,
}

impl Scenario {
    fn new(seed: u64, semantics: Semantics, duplicates: f64) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Embedded::start()).unwrap();
        let stream = runtime.block_on(Stream::create(server.client(), "usage", 4)).unwrap();
        let random = ChaCha8Rng::seed_from_u64(seed);
        let (ledger, place, witness) = (SharedLedger::new(), Place::empty(), Witness::default());
        Self { runtime, server, stream, ledger, place, witness, random, phases: 0, semantics, duplicates }
    }

    /// Begins to put the records of the next phase, whose event time goes on where the last one's ended.
    fn produce(&mut self) -> JoinHandle<anyhow::Result<()>> {
        let seed = self.random.random();
        let spec = Spec {
            start: 1_700_000_000_000 + self.phases * SPAN,
            span: SPAN,
            disorder: 2_000,
            duplicates: self.duplicates,
            late: 0.01,
            bad: 0.01,
            behind: 30_000..=60_000,
            warmup: 500,
            ..Spec::new(RECORDS, seed)
        };
        self.phases += 1;
        let workload = Workload::new(spec).unwrap();
        let producer = Producer::new(self.stream.clone(), workload, self.ledger.clone(), seed);
        self.runtime.spawn(producer.run(RATE))
    }

    fn job(&mut self, endpoint: &str) -> Launch {
        let workers = self.random.random_range(1..=4_u32).to_string();
        Launch::new(&["run", "--source", "kinesis:usage", "--epoch-ms", "20", "--workers", &workers])
            .args(["--endpoint", endpoint])
            .folders(&self.place)
            .semantics(&self.semantics)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", REGION)
            .env("SHARDFLOW_LOG", "warn")
    }

    fn start(&mut self) -> Process {
        let endpoint = self.server.endpoint().to_owned();
        self.job(&endpoint).start()
    }

    /// Until the next crash: long enough to read something, most of the time.
    fn live(&mut self) {
        let until = Instant::now() + Duration::from_millis(self.random.random_range(50..900));
        while Instant::now() < until {
            self.witness.look(&self.place.path("out"));
            pause();
        }
    }

    fn kill(&mut self, job: Process) {
        self.live();
        let ended = job.kill();
        assert_eq!(ended.status.signal(), Some(9), "it ended before it was killed: {ended:?}");
    }

    fn phase(&mut self, phase: Phase) {
        println!("{phase:?}");
        let producer = self.produce();
        match phase {
            Phase::Kill => {
                let job = self.start();
                self.kill(job);
            }
            Phase::Point(point) => {
                let endpoint = self.server.endpoint().to_owned();
                point.each().for_each(|kill| self.job(&endpoint).die_at(kill));
            }
            Phase::Split | Phase::Merge => {
                let job = self.start();
                self.live();
                self.runtime.block_on(async {
                    let shards = self.stream.open_shards().await.unwrap();
                    if let Phase::Split = phase {
                        self.stream.split(&shards[0]).await.unwrap();
                    } else {
                        self.stream.merge(&shards[shards.len() - 2], &shards[shards.len() - 1]).await.unwrap();
                    }
                });
                self.kill(job);
            }
            Phase::Stop => {
                let job = self.start();
                self.live();
                job.signal(Signal::INT);
                let ended = job.end(PATIENCE);
                assert!(ended.status.success(), "{ended:?}");
            }
            Phase::WrongAddress => {
                let ended = self.job("http://127.0.0.1:1").end_within(PATIENCE);
                assert_eq!(ended.status.code(), Some(1), "{ended:?}");
                assert!(ended.stderr.last().unwrap().contains("http://127.0.0.1:1"), "{ended:?}");
                let job = self.start();
                self.kill(job);
            }
        }
        self.runtime.block_on(producer).unwrap().unwrap();
        self.witness.compare(&self.place.path("out"));
    }

    fn audit(&self) -> Audit {
        Audit::of(&self.ledger.open(), &self.place.path("out"), &self.semantics).unwrap()
    }

    /// Closes every window and waits until all is there.
    fn finish(&mut self) {
        let at = self.ledger.open().latest() + 3_600_000;
        self.runtime.block_on(put_markers(&self.stream, at)).unwrap();
        let mut job = self.start();
        let deadline = Instant::now() + PATIENCE;
        let out = self.place.path("out");
        // Each time that something new is visible it may have been the last.
        while self.witness.look(&out) == 0 || !self.audit().holds() {
            assert!(job.runs(), "the job ended by itself: {:?}", job.kill());
            assert!(Instant::now() < deadline, "{}", self.audit());
            pause();
        }
        job.signal(Signal::TERM);
        let ended = job.end(PATIENCE);
        assert!(ended.status.success(), "{ended:?}");
    }
}

/// Goes through all phases; gives the audit, which holds.
fn survive(test: &str, semantics: Semantics, duplicates: f64) -> Audit {
    let mut scenario = Scenario::new(seed(test), semantics, duplicates);
    for phase in PHASES {
        scenario.phase(phase);
    }
    assert_eq!(scenario.ledger.open().retried(), 0, "the stand-in refused records");
    scenario.finish();
    let audit = scenario.audit();
    println!("{audit}");
    assert!(audit.holds(), "{audit}");
    assert_eq!(audit.sent, RECORDS * PHASES.len() as u64);
    assert!(audit.late > 20 && audit.rejected > 50, "{audit}");
    scenario.witness.compare(&scenario.place.path("out"));
    assert!(leftovers(&scenario.place.path("out")).is_empty());
    audit
}

/// How often the job is killed while its stream is resharded.
const RESHARDS: u64 = 20;

/// Splits and merges in turn, each with SIGKILL in its middle: the stream takes 100 ms for it. Without dedupe, so that
/// nothing hides a record that is read twice.
#[test]
fn sigkill_in_the_middle_of_a_split_and_of_a_merge_twenty_times_changes_no_charge() {
    let mut scenario = Scenario::new(seed("reshards"), Semantics { dedupe: 0, ..SEMANTICS }, 0.0);
    for reshard in 0..RESHARDS {
        let producer = scenario.produce();
        let job = scenario.start();
        scenario.live();
        let (stream, merges) = (scenario.stream.clone(), reshard % 2 == 1);
        let resharded = scenario.runtime.spawn(async move {
            let shards = stream.open_shards().await.unwrap();
            let at = reshard as usize / 2 % (shards.len() - 1);
            if merges { stream.merge(&shards[at], &shards[at + 1]).await } else { stream.split(&shards[at]).await }
        });
        let until = Instant::now() + Duration::from_millis(scenario.random.random_range(0..110));
        while Instant::now() < until {
            pause();
        }
        let ended = job.kill();
        assert_eq!(ended.status.signal(), Some(9), "it ended before it was killed: {ended:?}");
        scenario.runtime.block_on(resharded).unwrap().unwrap();
        scenario.runtime.block_on(producer).unwrap().unwrap();
        scenario.witness.compare(&scenario.place.path("out"));
    }
    scenario.finish();
    let audit = scenario.audit();
    println!("{audit}");
    assert!(audit.holds() && audit.sent == RECORDS * RESHARDS, "{audit}");
}

#[test]
fn a_stream_that_is_resharded_while_the_job_is_killed_is_read_exactly_once() {
    assert!(survive("kinesis", SEMANTICS, 0.05).copies > 100);
}

/// Without dedupe nothing hides a record that is read twice.
#[test]
fn so_is_one_whose_copies_would_count() {
    survive("kinesis without dedupe", Semantics { dedupe: 0, ..SEMANTICS }, 0.0);
}
