//! `shardflow stream put`, as a process.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::command::{interrupt, printed, run, shardflow, text};
use crate::emulator::Emulator;

/// The first `count` records of the stream, as `tail --json` prints them, by their data.
async fn tailed(emulator: &Emulator, stream: &str, count: usize) -> Vec<(String, String)> {
    let limit = count.to_string();
    let arguments = ["tail", stream, "--from", "trim-horizon", "--json", "--limit", &limit];
    let lines = printed(emulator, &arguments, "").await;
    let of = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        (field("partition_key"), format!("{}{}", field("data"), field("data_base64")))
    };
    let mut records: Vec<_> = lines.lines().map(of).collect();
    records.sort_by(|left, right| left.1.cmp(&right.1));
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_put_by_a_key_in_them_and_what_tail_prints_can_be_put_again() {
    let emulator = Emulator::start(2).await;
    let lines: String =
        (1_000..2_500).map(|n| format!("{{\"n\":{n},\"account\":{{\"id\":\"a-{}\"}}}}\n", n % 7)).collect();
    let output = run(&emulator, &["put", "usage", "--key-field", "account.id"], &lines).await;
    let told = text(&output.stderr);
    assert!(output.status.success() && text(&output.stdout).is_empty(), "{told}");
    assert!(told.starts_with("put 1500 records (") && told.lines().count() == 1, "{told}");
    let records = tailed(&emulator, "usage", 1_500).await;
    let expected: Vec<_> =
        lines.lines().zip(1_000..).map(|(line, n)| (format!("a-{}", n % 7), line.to_owned())).collect();
    assert_eq!(records, expected);

    emulator.client.create_stream().stream_name("copy").shard_count(1).send().await.unwrap();
    let copied =
        printed(&emulator, &["tail", "usage", "--from", "trim-horizon", "--json", "--limit", "1500"], "").await;
    printed(&emulator, &["put", "copy", "--envelope", "--ordered"], &copied).await;
    assert_eq!(tailed(&emulator, "copy", 1_500).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_is_no_text_survives_the_way_there_and_back() {
    let emulator = Emulator::start(1).await;
    let lines = "{\"partition_key\":\"k\",\"data_base64\":\"/wA=\"}\n{\"partition_key\":\"k\",\"data\":{\"n\": 1.0}}";
    printed(&emulator, &["put", "usage", "--envelope", "-"], lines).await;
    let expected = [("k", "/wA="), ("k", "{\"n\": 1.0}")].map(|(key, data)| (key.to_owned(), data.to_owned()));
    assert_eq!(tailed(&emulator, "usage", 2).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_is_named_and_ends_the_put_after_the_lines_before_it() {
    let emulator = Emulator::start(1).await;
    let lines = "{\"k\":1}\n{\"k\":2}\nnot JSON\n{\"k\":4}\n";
    let output = run(&emulator, &["put", "usage", "--key-field", "k"], lines).await;
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let last = told.lines().last().unwrap();
    assert!(last.starts_with("shardflow: could not put line 3 of standard input: it is no JSON: "), "{told}");
    assert!(last.ends_with("; nothing after line 2 of standard input was put"), "{told}");
    assert!(told.starts_with("put 2 records "), "{told}");
    assert_eq!(tailed(&emulator, "usage", 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_are_named_counted_and_skipped_where_that_is_asked_for() {
    let emulator = Emulator::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("usage.ndjson");
    std::fs::write(&path, "{\"k\":1}\n\n{\"k\":3}\n{\"k\":[]}\n").unwrap();
    let path = path.to_str().unwrap();
    let output = run(&emulator, &["put", "usage", "--key-field", "k", "--skip-bad", path], "").await;
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], format!("shardflow: skipped line 2 of \"{path}\": it is blank"));
    assert!(lines[1].starts_with(&format!("shardflow: skipped line 4 of \"{path}\": its field \"k\"")), "{told}");
    assert!(lines[2].starts_with("put 2 records ") && lines[2].ends_with("; 2 bad lines skipped"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_puts_what_was_read_and_says_where_it_ended() {
    let emulator = Emulator::start(1).await;
    let mut child = shardflow(&emulator, &["put", "usage"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    // Lines are put as they come, though no more follow for now.
    assert_eq!(tailed(&emulator, "usage", 2).await.len(), 2);
    interrupt(&child).await;
    let output = child.wait_with_output().await.unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.starts_with("put 2 records "), "{told}");
    assert!(told.ends_with("shardflow: interrupted; nothing after line 2 of standard input was put\n"), "{told}");
    drop(stdin);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_fails_does_not_wait_for_more_lines_and_names_those_that_were_not_put() {
    let emulator = Emulator::start(1).await;
    let mut child = shardflow(&emulator, &["put", "usage"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\n").await.unwrap();
    assert_eq!(tailed(&emulator, "usage", 1).await.len(), 1);
    emulator.client.delete_stream().stream_name("usage").send().await.unwrap();
    let gone = async {
        while emulator.client.describe_stream_summary().stream_name("usage").send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.unwrap();
    stdin.write_all(b"two\nthree\n").await.unwrap();
    let output = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait_with_output()).await;
    let output = output.expect("it ends, though standard input is open").unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("put 1 records ") && lines[0].ends_with("; 2 NOT put"), "{told}");
    assert_eq!(lines[1], "NOT put: line 2 of standard input to line 3 of standard input");
    assert!(lines[2].starts_with("shardflow: could not put records into stream \"usage\" at "), "{told}");
    assert!(lines[2].contains("ResourceNotFoundException"), "{told}");
    drop(stdin);
}
