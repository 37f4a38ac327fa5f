//! `shardflow stream describe`, `tail`, `reshard` and `consumers`, as processes.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::emulator::Emulator;

const BOUND: Duration = Duration::from_secs(60);

/// The command, with nothing but test credentials in its environment.
pub(crate) fn shardflow(emulator: &Emulator, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardflow"));
    command.arg("stream").args(arguments).args(["--endpoint", &emulator.endpoint, "--region", "us-east-1"]);
    command.env_clear().env("AWS_EC2_METADATA_DISABLED", "true");
    command.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs it to its end, with this on its standard input.
pub(crate) async fn run(emulator: &Emulator, arguments: &[&str], input: &str) -> Output {
    let mut child = shardflow(emulator, arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may end before it has read everything.
    tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
    tokio::time::timeout(BOUND, child.wait_with_output()).await.expect("it ends").unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it printed, of a command that must succeed.
pub(crate) async fn printed(emulator: &Emulator, arguments: &[&str], input: &str) -> String {
    let output = run(emulator, arguments, input).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub(crate) async fn interrupt(child: &Child) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
}

fn ranges(pieces: &Value) -> BTreeSet<(String, String)> {
    let of = |piece: &Value, name: &str| piece[name].as_str().unwrap().to_owned();
    pieces.as_array().unwrap().iter().map(|it| (of(it, "first_hash_key"), of(it, "last_hash_key"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_what_is_then_done() {
    let emulator = Emulator::start(2).await;
    emulator.put(0..300).await;
    for goal in [["--split-hottest", "2"], ["--to-count", "3"], ["--merge-coldest", "2"]] {
        let arguments = [&["reshard", "usage", "--sample", "5m", "--json"][..], &goal[..]].concat();
        let dry = printed(&emulator, &[&arguments[..], &["--dry-run"]].concat(), "").await;
        let plan: Value = serde_json::from_str(&dry).unwrap();
        let described = async || -> Value {
            let text = printed(&emulator, &["describe", "usage", "--json"], "").await;
            let mut stream: Value = serde_json::from_str(&text).unwrap();
            stream["shards"].as_array_mut().unwrap().retain(|shard| shard["open"] == true);
            stream["shards"].take()
        };
        assert_eq!(ranges(&described().await), ranges(&plan["before"]), "a dry run does nothing");
        let output = run(&emulator, &arguments, "").await;
        let told = text(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert_eq!(text(&output.stdout), dry, "the plan is the one that the dry run showed");
        assert_eq!(told.lines().count(), plan["steps"].as_array().unwrap().len(), "{told}");
        assert_eq!(ranges(&described().await), ranges(&plan["after"]), "{goal:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_described_for_people_and_for_machines() {
    let emulator = Emulator::start(1).await;
    emulator.put(0..3).await;
    let text = printed(&emulator, &["describe", "usage", "--lag"], "").await;
    let end = "340282366920938463463374607431768211455";
    assert!(text.starts_with("stream \"usage\"\n  arn ") && text.contains(end) && text.contains("behind: "), "{text}");
    let json = printed(&emulator, &["describe", "usage", "--json", "--lag"], "").await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"], "ACTIVE");
    assert_eq!(json["shards"][0]["last_hash_key"], end);
    assert_eq!(json["shards"][0]["share_percent"], 100.0);
    assert!(json["shards"][0]["lag"]["oldest_arrival"].is_string(), "{json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_printed_over_a_split_as_objects_a_line() {
    let emulator = Emulator::start(1).await;
    emulator.put(0..40).await;
    let follow = ["tail", "usage", "--from", "trim-horizon", "--json", "--limit", "100"];
    let mut child = shardflow(&emulator, &follow).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen: Vec<Value> = Vec::new();
    let all = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            seen.push(serde_json::from_str(&line).unwrap());
            if seen.len() == 40 {
                emulator.split_at(1 << 127).await;
                emulator.put(40..110).await;
            }
        }
    };
    tokio::time::timeout(BOUND, all).await.expect("it ends by its limit");
    assert!(child.wait().await.unwrap().success());
    assert_eq!(seen.len(), 100);
    let first = &seen[0];
    assert_eq!((&first["shard"], &first["data"]), (&"shardId-000000000000".into(), &"0".into()));
    assert_eq!((&first["partition_key"], &first["sub_sequence"]), (&"key-0".into(), &Value::Null));
    let shards: BTreeSet<&str> = seen.iter().map(|record| record["shard"].as_str().unwrap()).collect();
    assert_eq!(shards.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_read_enough_ends_a_tail_without_a_word() {
    let emulator = Emulator::start(1).await;
    // More than a pipe holds.
    emulator.put(0..3_000).await;
    let mut child = shardflow(&emulator, &["tail", "usage", "--from", "trim-horizon"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains(" shardId-000000000000 ") && first.ends_with(" key-0 0"), "{first}");
    drop(lines);
    let output = tokio::time::timeout(BOUND, child.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_a_tail_well() {
    let emulator = Emulator::start(1).await;
    emulator.put(0..1).await;
    let mut child = shardflow(&emulator, &["tail", "usage", "--from", "trim-horizon"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_u8().await.unwrap();
    interrupt(&child).await;
    let output = tokio::time::timeout(BOUND, child.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_are_registered_listed_and_deregistered() {
    let emulator = Emulator::start(1).await;
    let arn = printed(&emulator, &["consumers", "register", "usage", "billing"], "").await;
    assert!(arn.contains(":stream/usage/consumer/billing:"), "{arn}");
    let listed = printed(&emulator, &["consumers", "list", "usage"], "").await;
    assert!(listed.contains("billing   ACTIVE") && listed.contains(arn.trim()), "{listed}");
    let listed: Value =
        serde_json::from_str(&printed(&emulator, &["consumers", "list", "usage", "--json"], "").await).unwrap();
    assert_eq!(listed[0]["arn"], arn.trim());
    assert_eq!(printed(&emulator, &["consumers", "deregister", "usage", "billing"], "").await, "");
    assert_eq!(printed(&emulator, &["consumers", "list", "usage"], "").await, "no consumers are registered\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_one_line_that_names_the_subject() {
    let emulator = Emulator::start(1).await;
    for (arguments, code, expected) in [
        (&["describe", "nowhere"][..], 1, "shardflow: could not open stream \"nowhere\" at http://"),
        (&["tail", "usage", "--shard", "x"], 1, "shardflow: could not find shard \"x\" of stream \"usage\" at http://"),
        (&["reshard", "usage", "--merge-coldest", "1"], 1, "shardflow: could not plan 1 merges: there are only 1 open"),
        (&["reshard", "usage", "--split-hottest", "1", "--sample", "0s"], 1, "shardflow: could not tell hot from cold"),
        (&["consumers", "deregister", "usage", "x"], 1, "shardflow: could not deregister consumer \"x\" of stream"),
        (&["reshard", "usage"], 2, "error: the following required arguments"),
        (&["put", "usage", "--rate", "fast"], 2, "error: invalid value 'fast'"),
    ] {
        let output = run(&emulator, arguments, "").await;
        let told = text(&output.stderr);
        assert!(told.starts_with(expected), "{arguments:?}: {told}");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), ""), "{arguments:?}");
        assert!(code == 2 || told.lines().count() == 1, "{told}");
    }
}
