//! The example program, as a process of its own that is killed in the midst of its work.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use shardflow_stand_ins::search::{Fault, Nature, SearchStub};
use tokio::runtime::Runtime;

#[test]
fn the_example_keeps_exact_totals_though_it_is_killed() {
    let io = Runtime::new().unwrap();
    let stub = io.block_on(SearchStub::start(Nature::default()));
    stub.cluster().create(
        "totals",
        &json!({"dynamic": "strict", "properties":
        {"account": {"type": "keyword"}, "units": {"type": "long"}, "records": {"type": "long"}}}),
    );
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("usage");
    std::fs::create_dir(&input).unwrap();
    let (mut units, mut records) = (vec![0_u64; 40], vec![0_u64; 40]);
    for file in 0..4_usize {
        let mut lines = String::new();
        for n in 0..10_000_usize {
            // Each account has its records in one file, so that their order is known.
            let account = (n * 7 % 10) * 4 + file;
            (units[account], records[account]) = (units[account] + n as u64 % 100, records[account] + 1);
            lines += &format!("{{\"account\":\"a{account}\",\"units\":{}}}\n", n % 100);
        }
        std::fs::write(input.join(format!("{file}.ndjson")), lines).unwrap();
    }
    let start = || -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_search"));
        command.arg("--input").arg(&input).args(["--node", stub.endpoint(), "--index", "totals", "--epoch", "20ms"]);
        command.args(["--workers", "2"]).arg("--state").arg(folder.path().join("state"));
        command.arg("--refused").arg(folder.path().join("refused"));
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    for kills_at in [2_u64, 3, 2] {
        let (word, killing) = mpsc::channel();
        let before = stub.seen().len() as u64;
        stub.inject(move |call| {
            if call.nth == before + kills_at {
                word.send(()).unwrap();
            }
            Fault::Pass
        });
        let mut child = start();
        killing.recv_timeout(Duration::from_secs(120)).expect("so many calls");
        child.kill().unwrap();
        child.wait().unwrap();
        stub.inject(|_| Fault::Pass);
    }
    assert!(start().wait().unwrap().success());
    let documents = stub.cluster().documents("totals");
    assert_eq!(documents.len(), 40);
    for account in 0..40_usize {
        let (version, document) = &documents[&format!("a{account}")];
        let (units, records) = (units[account], records[account]);
        assert_eq!(*document, json!({"account": format!("a{account}"), "units": units, "records": records}));
        assert_eq!(u64::try_from(*version).unwrap(), records);
    }
}
