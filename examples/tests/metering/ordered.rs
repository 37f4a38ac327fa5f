//! The order of each account's records, checked by a step with state, over splits and merges with SIGKILL in their middle.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use serde::Deserialize;
use shardflow_examples::metering::demo::embedded::{Embedded, REGION, Stream};
use shardflow_examples::metering::output::visible_files;
use tokio::runtime::Runtime;

use crate::process::{Launch, PATIENCE, Place, Process, pause};
use crate::random::seed;

const ACCOUNTS: u64 = 40;
/// Records of each account in a round.
const EACH: u64 = 25;
const ROUNDS: u64 = 20;

#[derive(Deserialize)]
struct Seen {
    account: String,
    n: u64,
    due: u64,
}

struct Scenario {
    runtime: Runtime,
    server: Embedded,
    stream: Stream,
    place: Place,
    random: ChaCha8Rng,
}

impl Scenario {
    fn job(&mut self, fan_out: bool) -> Process {
        let workers = self.random.random_range(1..=4_u32).to_string();
        let launch = Launch::of(
            env!("CARGO_BIN_EXE_ordered"),
            &["--stream", "numbered", "--epoch", "20ms", "--workers", &workers],
        );
        let launch = if fan_out { launch.args(["--consumer", "ordered"]) } else { launch };
        let endpoint = self.server.endpoint().to_owned();
        let launch = launch.args(["--endpoint", &endpoint]).folders(&self.place);
        let launch = launch.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        launch.env("AWS_REGION", REGION).env("SHARDFLOW_LOG", "info").start()
    }

    /// Puts the next records of each account, those of an account in order.
    async fn put(stream: Stream, round: u64) {
        for n in round * EACH..(round + 1) * EACH {
            let entry = |account: u64| {
                let data = format!(r#"{{"account":"account-{account}","n":{n}}}"#);
                let entry = PutRecordsRequestEntry::builder().partition_key(format!("account-{account}"));
                entry.data(Blob::new(data)).build().unwrap()
            };
            let entries = (0..ACCOUNTS).map(entry).collect();
            let call = stream.client().put_records().stream_name("numbered").set_records(Some(entries));
            assert_eq!(call.send().await.unwrap().failed_record_count(), Some(0));
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// Waits for something new to be committed; for two seconds at most, since all may be read already.
    fn wait_for_more(&self, before: usize) {
        let until = Instant::now() + Duration::from_secs(2);
        while self.seen().len() == before && Instant::now() < until {
            pause();
        }
    }

    /// Lets some milliseconds pass.
    fn pass(&mut self, millis: std::ops::Range<u64>) {
        let until = Instant::now() + Duration::from_millis(self.random.random_range(millis));
        while Instant::now() < until {
            pause();
        }
    }

    /// All that is committed.
    fn seen(&self) -> Vec<Seen> {
        let out = self.place.path("out");
        let files = if out.exists() { visible_files(&out).unwrap() } else { Vec::new() };
        let lines = files.iter().map(|file| fs::read_to_string(file).unwrap());
        lines
            .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Seen>>())
            .collect()
    }
}

fn survive(test: &str, fan_out: bool) {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(Embedded::start()).unwrap();
    let stream = runtime.block_on(Stream::create(server.client(), "numbered", 3)).unwrap();
    let random = ChaCha8Rng::seed_from_u64(seed(test));
    let mut scenario = Scenario { runtime, server, stream, place: Place::empty(), random };
    let mut progressed = 0;
    for round in 0..ROUNDS {
        let before = scenario.seen().len();
        let producer = scenario.runtime.spawn(Scenario::put(scenario.stream.clone(), round));
        let mut job = scenario.job(fan_out);
        job.says("split opened");
        scenario.wait_for_more(before);
        scenario.pass(0..100);
        let (stream, merges) = (scenario.stream.clone(), round % 2 == 1);
        let shards = scenario.runtime.block_on(scenario.stream.open_shards()).unwrap();
        let resharded = scenario.runtime.spawn(async move {
            let at = round as usize / 2 % (shards.len() - 1);
            if merges { stream.merge(&shards[at], &shards[at + 1]).await } else { stream.split(&shards[at]).await }
        });
        // The stream takes 100 ms for it.
        scenario.pass(0..110);
        assert_eq!(job.kill().status.signal(), Some(9));
        progressed += usize::from(scenario.seen().len() > before);
        scenario.runtime.block_on(resharded).unwrap().unwrap();
        scenario.runtime.block_on(producer).unwrap();
    }
    assert!(progressed >= ROUNDS as usize / 2, "the job read on in {progressed} rounds only: the others prove nothing");
    let mut job = scenario.job(fan_out);
    // Before that it does not listen for signals yet.
    job.says("split opened");
    let deadline = Instant::now() + PATIENCE;
    let count = (ACCOUNTS * EACH * ROUNDS) as usize;
    while scenario.seen().len() < count {
        assert!(job.runs(), "the job ended by itself: {:?}", job.kill());
        assert!(Instant::now() < deadline, "{} of {count} records came", scenario.seen().len());
        std::thread::sleep(Duration::from_millis(20));
    }
    job.signal(Signal::TERM);
    let ended = job.end(PATIENCE);
    assert!(ended.status.success(), "{ended:?}");
    let mut accounts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for Seen { account, n, due } in scenario.seen() {
        assert_eq!(n, due, "{account}: {n} came where {due} was due");
        accounts.entry(account).or_default().push(n);
    }
    assert_eq!(accounts.len() as u64, ACCOUNTS);
    for (account, mut numbers) in accounts {
        numbers.sort_unstable();
        assert_eq!(numbers, (0..EACH * ROUNDS).collect::<Vec<_>>(), "{account}");
    }
}

#[test]
fn the_order_of_an_account_survives_twenty_reshards_with_sigkill_in_their_middle() {
    survive("ordered", false);
}

#[test]
fn so_it_does_with_fan_out() {
    survive("ordered with fan-out", true);
}
