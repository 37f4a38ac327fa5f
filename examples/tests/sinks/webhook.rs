//! The program `webhook`, killed in the midst of calls and at named points of its commits: each alert arrives, again under the same
//! key and with the same content.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use shardflow_stand_ins::hook::{Hook, status};
use shardflow_stand_ins::kill::{KilledAt, killed_at};
use tokio::runtime::Runtime;

use crate::programs::Program;

/// The parts of a minute's use of an account.
const PARTS: u64 = 100;

/// Of each part, in the average of a minute.
const LIMIT: u64 = 4;

/// Where starts die, one after the other.
const POINTS: [KilledAt; 11] = [
    killed_at("commit::before-flush", &[1, 2]),
    killed_at("commit::after-flush", &[1, 2]),
    killed_at("commit::before-durable", &[1]),
    killed_at("commit::after-durable", &[1]),
    killed_at("recover::before-sources", &[1]),
    killed_at("recover::before-sinks", &[1]),
    killed_at("recover::after-sink", &[1, 2]),
    killed_at("recover::after-acknowledge", &[1]),
    killed_at("commit::after-visible", &[1]),
    killed_at("commit::after-acknowledge", &[1]),
    killed_at("commit::before-close", &[1]),
];

/// Use of six accounts, in long lines so that there are several epochs, and the alerts that come of it.
fn usage() -> (Vec<String>, BTreeMap<String, u64>) {
    let (note, mut lines, mut alerts) = ("n".repeat(400), Vec::new(), BTreeMap::new());
    for minute in 0..100_u64 {
        for account in 0..6_u64 {
            let units = minute % 7 * account;
            for part in 0..PARTS {
                let at = minute * 60_000 + part * 60_000 / PARTS;
                lines.push(format!(r#"{{"account":"a{account}","at":{at},"units":{units},"note":"{note}"}}"#));
            }
            if units > LIMIT {
                alerts.insert(format!("a{account}/{}", minute * 60_000), units * PARTS);
            }
        }
    }
    (lines, alerts)
}

#[test]
fn the_example_sends_each_alert_under_its_key_though_it_is_killed() {
    let io = Runtime::new().unwrap();
    let hook = io.block_on(Hook::start());
    let (lines, expected) = usage();
    let program = Program::new(env!("CARGO_BIN_EXE_webhook")).lines(lines.into_iter());
    let program = program.args(["--url", &format!("{}/alerts", hook.endpoint()), "--key", "a-key"]);
    let program = program.args(["--limit", &(LIMIT * PARTS).to_string()]);
    hook.answers(|_| status(200, ""));
    for kills_at in [5_u64, 20] {
        let (word, killing) = mpsc::channel();
        let before = hook.got().len() as u64;
        hook.answers(move |got| {
            if got.nth == before + kills_at {
                word.send(()).unwrap();
            }
            status(200, "")
        });
        let mut child = program.command("").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        killing.recv_timeout(Duration::from_secs(120)).expect("so many calls");
        child.kill().unwrap();
        child.wait().unwrap();
        hook.answers(|_| status(200, ""));
    }
    program.dies(&POINTS);
    let ended = program.start("");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
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
