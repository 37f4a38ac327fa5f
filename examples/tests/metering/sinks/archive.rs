//! An archive of a stream: what a file does not have, its records have in it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::primitives::Blob;
use rustix::process::Signal;
use serde_json::Value;
use shardflow_examples::metering::demo::embedded::{Embedded, REGION, Stream};
use shardflow_examples::metering::output::read_rows;
use shardflow_stand_ins::kill::{KilledAt, killed_at, kills};
use shardflow_stand_ins::servers::installed;
use tokio::runtime::Runtime;

use crate::process::{Launch, PATIENCE, Place, SEMANTICS, pause};

const RECORDS: u64 = 300;

/// Where the starts before the last die: with what was read staged, and with it committed.
const KILLED_AT: [KilledAt; 2] = [killed_at("commit::before-durable", &[1]), killed_at("commit::after-durable", &[1])];

const READ: &str = r#"
import duckdb, json, sys
names = ['raw', 'split', 'position', 'partition_key', 'arrived_at', 'at']
rows = duckdb.sql(f"""SELECT raw, split, position, partition_key, epoch_ms(arrived_at), epoch_ms(t.at)
    FROM read_parquet('{sys.argv[1]}/dt=*/*/*.parquet', hive_partitioning = true) AS t""").fetchall()
for row in rows:
    print(json.dumps(dict(zip(names, row))))
"#;

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A record of the stream.
#[derive(Debug, PartialEq, Eq)]
struct Put {
    shard: String,
    key: String,
    raw: String,
    at: u64,
}

/// Puts usage, then what is no usage into each shard. Gives the usage by its sequence numbers.
async fn put(stream: &Stream) -> BTreeMap<String, Put> {
    let mut all = BTreeMap::new();
    for n in 0..RECORDS {
        let (key, at) = (format!("key-{}", n % 7), 1_767_225_600_000 + n * 20_000);
        let raw = format!(r#"{{"id":"u-{n}","account":"a{}","meter":"m","qty":{n},"at":{at}}}"#, n % 5);
        let call = stream.client().put_record().stream_name("usage").partition_key(&key);
        let placed = call.data(Blob::new(raw.clone())).send().await.unwrap();
        all.insert(placed.sequence_number, Put { shard: placed.shard_id, key, raw, at });
    }
    for shard in stream.open_shards().await.unwrap() {
        let call = stream.client().put_record().stream_name("usage").partition_key("last").data(Blob::new("last"));
        call.explicit_hash_key(shard.first.to_string()).send().await.unwrap();
    }
    all
}

#[test]
fn an_archive_of_a_stream_tells_each_records_place_key_and_time_of_arrival() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(Embedded::start()).unwrap();
    let stream = runtime.block_on(Stream::create(server.client(), "usage", 2)).unwrap();
    // The stand-in's clock shows whole seconds.
    let begun = now() / 1_000 * 1_000;
    let put = runtime.block_on(put(&stream));
    let arrived = begun..=now();
    let place = Place::empty();
    let archive = place.path("raw");
    let job = || {
        Launch::new(&["run", "--source", "kinesis:usage", "--epoch-ms", "20", "--workers", "2"])
            .args(["--endpoint", server.endpoint()])
            .args(["--sink", &format!("archive=file://{}", archive.display())])
            .folders(&place)
            .semantics(&SEMANTICS)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", REGION)
            .env("SHARDFLOW_LOG", "warn")
    };
    kills(&KILLED_AT).for_each(|kill| job().die_at(kill));
    // The last record of each shard is rejected, visibly: what was before it is committed too.
    let (mut last, deadline) = (job().start(), Instant::now() + PATIENCE);
    while read_rows::<Value>(&place.path("out/rejected")).unwrap().len() < 2 {
        assert!(last.runs() && Instant::now() < deadline, "not all was read: {:?}", last.kill());
        pause();
    }
    last.signal(Signal::TERM);
    let ended = last.end(PATIENCE);
    assert!(ended.status.success(), "{ended:?}");

    let Some(python) = installed("Python with its packages", "readers/bin/python") else { return };
    let run = Command::new(python).args(["-B", "-c", READ]).arg(&archive).env("TZ", "UTC").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let rows: Vec<Value> =
        String::from_utf8(run.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), put.len(), "each record is there once");
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    for row in &rows {
        let found = Put {
            shard: text(row, "split"),
            key: text(row, "partition_key"),
            raw: text(row, "raw"),
            at: row["at"].as_u64().unwrap(),
        };
        assert_eq!(Some(&found), put.get(&text(row, "position")), "{row}");
        assert!(arrived.contains(&row["arrived_at"].as_u64().unwrap()), "{row} arrived within {arrived:?}");
    }
    let places: BTreeSet<String> = rows.iter().map(|row| text(row, "position")).collect();
    assert_eq!(places.len(), put.len());
}
