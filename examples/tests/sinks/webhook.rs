//! The example program, as a process of its own that is killed in the midst of its work.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use shardflow_stand_ins::hook::{Hook, status};
use tokio::runtime::Runtime;

#[test]
fn the_example_sends_each_alert_under_its_key_though_it_is_killed() {
    let io = Runtime::new().unwrap();
    let hook = io.block_on(Hook::start());
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("usage");
    std::fs::create_dir(&input).unwrap();
    let mut expected = BTreeMap::new();
    let mut lines = String::new();
    for minute in 0..50_u64 {
        for account in 0..6_u64 {
            let units = minute % 7 * account;
            for part in 0..10 {
                let at = minute * 60_000 + part * 6_000;
                lines += &format!("{{\"account\":\"a{account}\",\"at\":{at},\"units\":{units}}}\n");
            }
            if units * 10 > 100 {
                expected.insert(format!("a{account}/{}", minute * 60_000), units * 10);
            }
        }
    }
    std::fs::write(input.join("usage.ndjson"), lines).unwrap();
    let start = || -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_webhook"));
        command.arg("--input").arg(&input).args(["--limit", "100", "--epoch", "20ms", "--workers", "2"]);
        command.args(["--url", &format!("{}/alerts", hook.endpoint())]).arg("--state").arg(folder.path().join("state"));
        command.arg("--refused").arg(folder.path().join("refused")).env("WEBHOOK_KEY", "a-key");
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for kills_at in [5_u64, 30] {
        let (word, killing) = mpsc::channel();
        let before = hook.got().len() as u64;
        hook.answers(move |got| {
            if got.nth == before + kills_at {
                word.send(()).unwrap();
            }
            status(200, "")
        });
        let mut child = start();
        killing.recv_timeout(Duration::from_secs(120)).expect("so many calls");
        child.kill().unwrap();
        child.wait().unwrap();
        hook.answers(|_| status(200, ""));
    }
    assert!(start().wait().unwrap().success());
    let taken = hook.taken();
    let (mut alerts, mut keys) = (BTreeMap::new(), BTreeMap::new());
    for got in &taken {
        assert!(got.header("x-signature-256").unwrap().starts_with("sha256="));
        let alert = got.json();
        let subject = format!("{}/{}", alert["account"].as_str().unwrap(), alert["minute"]);
        let units = alert["units"].as_u64().unwrap();
        assert_eq!(*alerts.entry(subject.clone()).or_insert(units), units, "a repeat is the same");
        let key = got.header("idempotency-key").unwrap().to_owned();
        assert_eq!(*keys.entry(key).or_insert_with(|| subject.clone()), subject, "a key is one alert's");
    }
    assert_eq!(keys.len(), alerts.len(), "an alert has one key");
    assert_eq!(alerts, expected);
    assert!(taken.len() > expected.len(), "the kills had no effect: {}", taken.len());
}
