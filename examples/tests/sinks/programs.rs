//! The small programs, killed at named points of their commits and started again: in the end what they wrote is exact.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use aws_sdk_kinesis::primitives::Blob;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shardflow_stand_ins::ministack::Ministack;
use shardflow_stand_ins::postgres::Database;
use shardflow_stand_ins::sdk::sdk_config;
use shardflow_stand_ins::servers::installed;
use shardflow_stand_ins::stand::{Stand, put, read_stream};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Where the starts before the last die: with nothing committed yet, then in the start that finds an epoch durable and not yet
/// visible, then at the end.
const POINTS: [&str; 9] = [
    "commit::before-flush=kill(1)",
    "commit::after-flush=kill(1)",
    "commit::before-durable=kill(1)",
    "commit::after-durable=kill(1)",
    "recover::before-sinks=kill(1)",
    "recover::after-sink=kill(1)",
    "recover::before-sources=kill(1)",
    "recover::after-acknowledge=kill(1)",
    "commit::before-close=kill(1)",
];

/// A program with its folders.
pub(crate) struct Program {
    folder: TempDir,
    program: &'static str,
    args: Vec<String>,
}

impl Program {
    pub(crate) fn new(program: &'static str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), program, args: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of lines in the input.
    pub(crate) fn lines(self, lines: impl Iterator<Item = String>) -> Self {
        std::fs::create_dir(self.path("in")).unwrap();
        std::fs::write(self.path("in/lines.ndjson"), lines.map(|line| line + "\n").collect::<String>()).unwrap();
        let input = self.path("in").display().to_string();
        self.args(["--input", &input])
    }

    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(str::to_owned));
        self
    }

    pub(crate) fn start(&self, points: &str) -> Output {
        self.command(points).output().unwrap()
    }

    pub(crate) fn command(&self, points: &str) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.args).arg("--state").arg(self.path("state"));
        // Small and many: there are several commits to die in.
        command.args(["--epoch", "10ms", "--in-flight-bytes", "1MiB", "--workers", "2"]);
        let keys = [("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
        command.envs(keys).env("FAILPOINTS", points).env("SHARDFLOW_LOG", "warn").current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    /// Dies at each point, one start after the other; then comes to its end. Gives what the last start printed.
    pub(crate) fn run(&self) -> String {
        for point in POINTS {
            let died = self.start(point);
            assert_eq!(died.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&died.stderr));
        }
        let ended = self.start("");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    }
}

/// Uses of a hundred accounts, and what each comes to: sum and number.
fn usage(field: &'static str, records: u64) -> (impl Iterator<Item = String>, BTreeMap<String, (u64, u64)>) {
    let use_of = |n: u64| (format!("account-{}", n * n % 97), n % 50);
    let mut sums = BTreeMap::new();
    for (account, units) in (0..records).map(use_of) {
        let (sum, count) = sums.entry(account).or_insert((0, 0));
        (*sum, *count) = (*sum + units, *count + 1);
    }
    let line = move |(account, units)| format!(r#"{{"account":"{account}","{field}":{units}}}"#);
    ((0..records).map(use_of).map(line), sums)
}

#[test]
fn bills_in_a_table_of_dynamodb_are_exact() {
    let runtime = Runtime::new().unwrap();
    let Some(server) = runtime.block_on(Ministack::start()) else { return };
    let tables = aws_sdk_dynamodb::Client::new(&sdk_config(&server.endpoint(), None));
    let key = KeySchemaElement::builder().attribute_name("account").key_type(KeyType::Hash).build().unwrap();
    let definition = AttributeDefinition::builder().attribute_name("account").attribute_type(ScalarAttributeType::S);
    let call = tables.create_table().table_name("bills").billing_mode(BillingMode::PayPerRequest).key_schema(key);
    runtime.block_on(call.attribute_definitions(definition.build().unwrap()).send()).unwrap();
    let (lines, sums) = usage("cents", 6_000);
    let program = Program::new(env!("CARGO_BIN_EXE_bills")).lines(lines);
    let program = program.args(["--table", "bills", "--endpoint", &server.endpoint()]);
    program.run();
    let pages = tables.scan().table_name("bills").consistent_read(true).into_paginator().items().send();
    let items = runtime.block_on(pages.collect::<Result<Vec<_>, _>>()).unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    let found: BTreeMap<String, (u64, u64)> = items
        .into_iter()
        .map(|item| {
            let (cents, records) = (item["cents"].as_n().unwrap(), item["records"].as_n().unwrap());
            (item["account"].as_s().unwrap().clone(), (number(cents), number(records)))
        })
        .collect();
    assert_eq!(found, sums);
}

#[test]
fn bills_in_a_table_of_postgres_are_exact() {
    let Some(database) = Database::fresh() else { return };
    database.run(
        "CREATE TABLE bills (account text PRIMARY KEY, cents bigint NOT NULL, charges bigint NOT NULL);
         CREATE TABLE bad_lines (line text, error text)",
    );
    let (lines, sums) = usage("cents", 30_000);
    let bad = std::iter::once("no charge".to_owned());
    let program = Program::new(env!("CARGO_BIN_EXE_postgres")).lines(lines.chain(bad));
    program.args(["--database", &database.address()]).run();
    let rows = database.psql("SELECT account, cents, charges FROM bills");
    let row = |line: &str| {
        let parts: Vec<&str> = line.split('|').collect();
        (parts[0].to_owned(), (parts[1].parse::<u64>().unwrap(), parts[2].parse::<u64>().unwrap()))
    };
    assert_eq!(rows.lines().map(row).collect::<BTreeMap<_, _>>(), sums);
    assert_eq!(database.texts("SELECT line FROM bad_lines"), [Some("no charge".to_owned())]);
}

#[test]
fn an_archive_holds_every_record_once() {
    let line =
        |n: u64| format!(r#"{{"account":"a{}","at":{},"units":{}}}"#, n % 9, 1_767_225_600_000 + n * 7_000, n % 50);
    let program = Program::new(env!("CARGO_BIN_EXE_archive")).lines((0..30_000).map(line));
    let to = format!("file://{}", program.path("archive").display());
    let program = program.args(["--to", &to, "--collect", "0"]);
    program.run();
    let Some(python) = installed("Python with its packages", "readers/bin/python") else { return };
    let read = "import duckdb, sys; print(duckdb.sql(f\"SELECT count(*), sum(units), count(DISTINCT t.at), \
                count(DISTINCT dt) FROM read_parquet('{sys.argv[1]}/dt=*/*.parquet', hive_partitioning = true) AS t\").fetchall())";
    let run = Command::new(python).args(["-B", "-c", read]).arg(program.path("archive")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let units: u64 = (0..30_000).map(|n| n % 50).sum();
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim(), format!("[(30000, {units}, 30000, 3)]"));
}

#[test]
fn totals_are_shown_and_watched() {
    let line = |n: u64| format!(r#"{{"account":"a{}","at":{},"units":1}}"#, n % 9, 1_767_225_600_000 + n * 100);
    let program = Program::new(env!("CARGO_BIN_EXE_watch")).lines((0..9_000).map(line));
    let ended = program.start("");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let rows: Vec<Value> =
        String::from_utf8(ended.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["units"].as_u64().unwrap()).sum::<u64>(), 9_000);
    assert!(String::from_utf8_lossy(&ended.stderr).contains("leads with 67"));
}

#[test]
fn lines_are_put_and_what_is_not_is_told() {
    let runtime = Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::embedded(2));
    let mut command = Command::new(env!("CARGO_BIN_EXE_produce"));
    command.args(["--stream", "usage", "--aggregate", "--endpoint", stand.endpoint()]);
    let keys = [("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
    let piped = command.envs(keys).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = piped.unwrap();
    let mut input = child.stdin.take().unwrap();
    for n in 0..1_000 {
        writeln!(input, "key-{} {n}", n % 7).unwrap();
    }
    writeln!(input, "without-a-blank").unwrap();
    drop(input);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("line 1001: ") && said.contains("1000 lines put, 1 not put"), "{said}");
    let stream = runtime.block_on(read_stream(stand.client(), "usage"));
    let opened = stream.iter().filter_map(|data| shardflow_sources::kpl::open(data).ok());
    let packed: usize = opened.map(|aggregate| aggregate.records.len()).sum();
    let alone = stream.iter().filter(|data| shardflow_sources::kpl::open(data).is_err()).count();
    assert_eq!(packed + alone, 1_000);
}

/// It follows its stream, so it is stopped: by SIGTERM, once all has arrived.
#[test]
fn a_stream_is_copied_at_least_once() {
    let runtime = Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::embedded(1));
    let client = stand.client().clone();
    runtime.block_on(async {
        client.create_stream().stream_name("copy").shard_count(2).send().await.unwrap();
        for n in 0..41_u32 {
            let account = if n % 4 == 0 { "globex" } else { "acme" };
            let data = format!(r#"{{"account":"{account}","units":{n}}}"#);
            client.put_record().stream_name("usage").partition_key("k").data(Blob::new(data)).send().await.unwrap();
        }
        // What is no usage goes to the rejected output.
        put(&client, 0..3).await;
    });
    let program = Program::new(env!("CARGO_BIN_EXE_forward")).args(["--from", "usage", "--to", "copy"]);
    let program = program.args(["--account", "acme", "--endpoint", stand.endpoint()]);
    for point in ["commit::before-durable=kill(1)", "commit::before-durable=kill(2)", "commit::after-visible=kill(1)"] {
        let died = program.start(point);
        assert_eq!(died.status.signal(), Some(9), "{}", String::from_utf8_lossy(&died.stderr));
    }
    let mut follows = program.command("").stderr(Stdio::null()).spawn().unwrap();
    // It is at work once it has copied what came after its start.
    let last = client.put_record().stream_name("usage").partition_key("k");
    runtime.block_on(last.data(Blob::new(r#"{"account":"acme","units":41}"#)).send()).unwrap();
    let units: Vec<u64> = (0..42).filter(|n| n % 4 != 0).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    while copied(&runtime, &client).len() < units.len() {
        assert!(Instant::now() < deadline, "not all was copied");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&follows), Signal::TERM).unwrap();
    assert!(follows.wait().unwrap().success());
    let found: Vec<u64> = copied(&runtime, &client).into_values().collect();
    assert_eq!(found.iter().copied().collect::<BTreeSet<u64>>(), units.iter().copied().collect());
    assert_eq!(found.len(), units.len(), "a record has one place");
}

/// What was copied, by its id.
fn copied(runtime: &Runtime, client: &aws_sdk_kinesis::Client) -> BTreeMap<String, u64> {
    runtime
        .block_on(read_stream(client, "copy"))
        .iter()
        .flat_map(|data| match shardflow_sources::kpl::open(data) {
            Ok(aggregate) => aggregate.records.into_iter().map(|record| record.data).collect(),
            Err(_) => vec![data.clone()],
        })
        .map(|data| {
            let row: Value = serde_json::from_slice(&data).unwrap();
            (row["id"].as_str().unwrap().to_owned(), row["usage"]["units"].as_u64().unwrap())
        })
        .collect()
}
