//! A RocksDB that can write no more stops the job with an error that says so, and the last committed epoch stands.
//!
//! The disk is made full by the limit on the size of a file (`ulimit -f`), which concerns a whole process: the job runs in
//! a child. The child's results go to a file, and the job goes on from there in the test itself.

use std::path::PathBuf;
use std::process::Command;

use shardflow::ErrorKind;
use tempfile::tempdir;

use crate::support::billing::{Billing, Inputs, Shape};
use crate::support::reference::expected;
use crate::support::source::Pace;
use crate::support::{child_arguments, expect_passed, job, reading, run, start_watched};

const SHAPE: Shape = Shape { lag: 0, horizon: 1_000_000, size: 10, slide: 10, grace: 0 };
const FOLDER: &str = "STORE_LOST_FOLDER";

/// In blocks of 512 bytes: the log of RocksDB grows beyond it after some hundred epochs, and before it is folded.
const FILE_SIZE: u64 = 512;

/// Keys so long that the log grows fast.
fn inputs() -> Inputs {
    let record = |number: u64| reading(&format!("{:0>900}", number % 97), number, number, 1).bytes();
    Inputs::from([("s".to_owned(), (0..4_000).map(record).collect())])
}

fn billing(pace: &std::sync::Arc<Pace>) -> Billing {
    let billing = Billing::new(SHAPE, pace);
    billing.push(&inputs());
    billing.source.feed.close();
    billing
}

#[test]
fn a_disk_that_is_full_stops_the_job_and_the_last_commit_stands() {
    let folder = tempdir().unwrap();
    // Ignored, the signal becomes an error of the write.
    let limited = format!("trap '' XFSZ; ulimit -f {FILE_SIZE}; exec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.arg("-c").arg(limited).arg(std::env::current_exe().unwrap());
    command.args(child_arguments("store_lost::until_the_disk_is_full")).env(FOLDER, folder.path());
    expect_passed(command);

    let billing = billing(&Pace::unlimited());
    billing.rows.load(&folder.path().join("rows"));
    let before = billing.rows.len();
    run(job("full", &folder.path().join("state"), 3), billing.program()).unwrap();
    let expected = expected(&inputs(), &SHAPE);
    assert!(before > 0 && before < expected.rows.len(), "{before} of {} rows", expected.rows.len());
    assert_eq!(billing.outcome().rows, expected.rows);
}

#[test]
#[ignore = "run by a_disk_that_is_full_stops_the_job_and_the_last_commit_stands"]
fn until_the_disk_is_full() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let pace = Pace::stopped();
    let billing = billing(&pace);
    let job = job("full", &folder.join("state"), 2);
    let error = start_watched(job, move |_| pace.grant(2), billing.program()).failure();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    let text = error.to_string();
    assert!(text.contains("could not commit epoch ") && text.contains("File too large"), "{text}");
    billing.rows.save(&folder.join("rows"));
}
