//! The program `forward`, killed at named points of its commits while both of its streams are resharded: nothing is lost, and each
//! key's records keep their order.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use aws_sdk_kinesis::primitives::Blob;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shardflow_examples::metering::demo::embedded::{Embedded, Stream};
use shardflow_stand_ins::kill::{KilledAt, killed_at, kills};
use shardflow_stand_ins::stand::read_stream;
use tokio::runtime::Runtime;

use crate::programs::Program;

/// Records of one round; there is a start of the program in each.
const EACH: u64 = 60;

const KEYS: u64 = 5;

/// Where starts die, a round each.
const KILLED_AT: [KilledAt; 5] = [
    killed_at("commit::before-durable", &[1]),
    killed_at("commit::after-visible", &[1]),
    killed_at("commit::after-durable", &[1]),
    killed_at("commit::before-durable", &[1]),
    killed_at("commit::after-flush", &[1]),
];

/// What happens to a stream.
#[derive(Debug, Clone, Copy)]
enum Reshard {
    Split,
    Merge,
}

use Reshard::{Merge, Split};

/// What happens to the stream that is read, and to the one that is written to, before each start and under the last.
const RESHARDS: [(Reshard, Reshard); 6] =
    [(Split, Split), (Merge, Split), (Split, Merge), (Merge, Merge), (Split, Split), (Merge, Merge)];

struct Streams {
    from: Stream,
    to: Stream,
}

impl Streams {
    /// Puts the records of a round. One of four is of another account, and each round has one that is no usage.
    async fn put(&self, round: u64) {
        for n in round * EACH..(round + 1) * EACH {
            let account = if n % 4 == 0 { "globex" } else { "acme" };
            let data = format!(r#"{{"account":"{account}","units":{n}}}"#);
            self.put_one(&key(n), data).await;
        }
        self.put_one("other", "no usage".to_owned()).await;
    }

    async fn put_one(&self, key: &str, data: String) {
        let call = self.from.client().put_record().stream_name("usage").partition_key(key);
        call.data(Blob::new(data)).send().await.unwrap();
    }

    async fn reshard(&self, (from, to): (Reshard, Reshard)) {
        for (stream, reshard) in [(&self.from, from), (&self.to, to)] {
            let open = stream.open_shards().await.unwrap();
            match reshard {
                Split => stream.split(&open[0]).await.unwrap(),
                Merge => stream.merge(&open[0], &open[1]).await.unwrap(),
            }
        }
    }

    /// What was copied, in the order of the stream: ids, and units. The stand-in lists shards by their
    /// ids, so parents are read before their children.
    async fn copied(&self) -> Vec<(String, u64)> {
        let mut copied = Vec::new();
        for data in read_stream(self.to.client(), "copy").await {
            let records = match shardflow_sources::kpl::open(&data) {
                Ok(aggregate) => aggregate.records.into_iter().map(|record| record.data).collect(),
                Err(_) => vec![data],
            };
            for data in records {
                let row: Value = serde_json::from_slice(&data).unwrap();
                copied.push((row["id"].as_str().unwrap().to_owned(), row["usage"]["units"].as_u64().unwrap()));
            }
        }
        copied
    }
}

fn key(n: u64) -> String {
    format!("key-{}", n % KEYS)
}

/// The units that are to be copied, key by key, in their order.
fn expected(rounds: u64) -> BTreeMap<String, Vec<u64>> {
    let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for n in (0..rounds * EACH).filter(|n| n % 4 != 0) {
        expected.entry(key(n)).or_default().push(n);
    }
    expected
}

/// Each key's records are all there, none before its predecessor was there for the first time.
fn assert_in_order(copied: &[(String, u64)], expected: &BTreeMap<String, Vec<u64>>) {
    let mut due: BTreeMap<String, usize> = BTreeMap::new();
    for (_, units) in copied {
        let (key, place) = (key(*units), expected[&key(*units)].binary_search(units).unwrap());
        let due = due.entry(key.clone()).or_default();
        assert!(place <= *due, "of {key}, {units} comes where {} is due", expected[&key][*due]);
        *due = (*due).max(place + 1);
    }
    assert_eq!(due, expected.iter().map(|(key, units)| (key.clone(), units.len())).collect(), "some are missing");
}

/// It follows its stream, so it is stopped: by SIGTERM, once all has arrived.
#[test]
fn a_stream_is_copied_at_least_once_and_in_order_through_reshards_of_both() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(Embedded::start()).unwrap();
    let create = |name: &'static str| runtime.block_on(Stream::create(server.client(), name, 2)).unwrap();
    let streams = Streams { from: create("usage"), to: create("copy") };
    let program = Program::new(env!("CARGO_BIN_EXE_forward")).args(["--from", "usage", "--to", "copy"]);
    let program = program.args(["--account", "acme", "--endpoint", server.endpoint()]);
    for ((kill, reshard), round) in kills(&KILLED_AT).zip(RESHARDS).zip(0..) {
        runtime.block_on(async {
            streams.put(round).await;
            streams.reshard(reshard).await;
        });
        program.dies_at(kill);
    }
    let rounds = RESHARDS.len() as u64;
    let mut follows = program.command("").stderr(Stdio::null()).spawn().unwrap();
    // Both are resharded once more while it is at work: between two halves of a round.
    runtime.block_on(async {
        streams.put(rounds - 1).await;
        streams.reshard(RESHARDS[RESHARDS.len() - 1]).await;
        streams.put(rounds).await;
    });
    let expected = expected(rounds + 1);
    let count = expected.values().map(Vec::len).sum();
    let deadline = Instant::now() + Duration::from_secs(120);
    let unique = |copied: &[(String, u64)]| copied.iter().cloned().collect::<BTreeMap<String, u64>>();
    while unique(&runtime.block_on(streams.copied())).len() < count {
        assert!(Instant::now() < deadline, "not all was copied");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&follows), Signal::TERM).unwrap();
    assert!(follows.wait().unwrap().success());
    let copied = runtime.block_on(streams.copied());
    assert_in_order(&copied, &expected);
    // A record has one id: what is there twice has the same one.
    let mut units: Vec<u64> = unique(&copied).into_values().collect();
    units.sort_unstable();
    assert_eq!(units, (0..(rounds + 1) * EACH).filter(|n| n % 4 != 0).collect::<Vec<_>>());
}
