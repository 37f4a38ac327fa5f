//! What the tests share: records, jobs on a thread of their own, and what to wait for.

pub(crate) mod billing;
pub(crate) mod reference;
pub(crate) mod sink;
pub(crate) mod source;

use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shardflow::exchange::{KeyGroups, stable_hash};
use shardflow::runtime::Shutdown;
use shardflow::testing::Feed;
use shardflow::{Error, EventTime, Flow, Job, Lag, Result, Summary, millis};

/// After this long a wait is a failure: the job hangs. Far beyond what any test takes on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The shortest epoch there can be: tests want many of them.
pub(crate) const EPOCH: Duration = millis(10);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of one test's sink must not hide the message of the test itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A record of the tests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) key: String,
    pub(crate) id: u64,
    pub(crate) at: u64,
    pub(crate) value: u64,
}

pub(crate) fn reading(key: &str, id: u64, at: u64, value: u64) -> Reading {
    Reading { key: key.to_owned(), id, at, value }
}

impl Reading {
    pub(crate) fn time(&self) -> EventTime {
        EventTime::from_millis(self.at)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap()
    }
}

pub(crate) fn push(feed: &Feed, split: &str, records: &[Reading]) {
    records.iter().for_each(|record| feed.push(split, record.bytes()));
}

/// A lag under which no split is ever idle, however slow the machine.
pub(crate) fn lag(bound: u64) -> Lag {
    Lag::of(millis(bound)).never_idle()
}

/// A job with short epochs.
pub(crate) fn job(name: &str, state: &std::path::Path, workers: usize) -> Job {
    Job::named(name).workers(workers).state(state).epoch(EPOCH)
}

#[derive(Default)]
struct Progress {
    commits: u64,
    ended: bool,
}

#[derive(Default)]
struct Watch {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Watch {
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut lock(&self.progress));
        self.changed.notify_all();
    }
}

/// A job on a thread of its own. Dropping it asks the job to stop.
pub(crate) struct Running {
    outcome: Receiver<Result<Summary>>,
    stopper: Shutdown,
    watch: Arc<Watch>,
}

/// Starts a job.
pub(crate) fn start(job: Job, program: impl Fn(&Flow<'_>) + Send + Sync + 'static) -> Running {
    start_watched(job, |_commits| {}, program)
}

/// Starts a job, and tells `hook` of each commit and how many there have been.
pub(crate) fn start_watched(
    job: Job,
    hook: impl Fn(u64) + Send + Sync + 'static,
    program: impl Fn(&Flow<'_>) + Send + Sync + 'static,
) -> Running {
    let watch = Arc::new(Watch::default());
    let (committed, ended) = (Arc::clone(&watch), Arc::clone(&watch));
    let job = job.on_commit(move |_info| {
        let mut count = 0;
        committed.change(|progress| {
            progress.commits += 1;
            count = progress.commits;
        });
        hook(count);
    });
    let stopper = job.stopper();
    let (sender, outcome) = channel();
    thread::spawn(move || {
        let result = job.run(program);
        let _ = sender.send(result);
        ended.change(|progress| progress.ended = true);
    });
    Running { outcome, stopper, watch }
}

impl Running {
    /// Waits until `condition` holds. It is looked at after each commit, when the commit's results are visible.
    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        let mut progress = lock(&self.watch.progress);
        loop {
            let ended = progress.ended;
            // Not under the lock: the condition may look at what a commit's hook holds.
            drop(progress);
            if condition() {
                return;
            }
            assert!(!ended, "the job ended before {what}: {:?}", self.outcome.try_recv());
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {DEADLINE:?} for {what}");
            progress = lock(&self.watch.progress);
            // A commit between the look and the lock is seen at the latest after this wait.
            let wait = left.min(millis(20));
            progress = self.watch.changed.wait_timeout(progress, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many commits there have been.
    pub(crate) fn commits(&self) -> u64 {
        lock(&self.watch.progress).commits
    }

    /// Waits for `count` commits from now.
    pub(crate) fn pass_commits(&self, count: u64) {
        let enough = self.commits() + count;
        self.until("further commits", || self.commits() >= enough);
    }

    /// Waits until the job ends by itself.
    pub(crate) fn end(self) -> Result<Summary> {
        self.outcome.recv_timeout(DEADLINE).expect("the job should end, and hangs")
    }

    /// Waits until the job ends by itself, which it must not do well.
    pub(crate) fn failure(self) -> Error {
        self.end().expect_err("the job should fail")
    }

    /// Asks the job to stop, as SIGTERM does, and waits until it has.
    pub(crate) fn stop(self) -> Result<Summary> {
        self.stopper.request();
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.request();
    }
}

/// Runs a job to its end.
pub(crate) fn run(job: Job, program: impl Fn(&Flow<'_>) + Send + Sync + 'static) -> Result<Summary> {
    start(job, program).end()
}

pub(crate) fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

/// A command that runs one ignored test of this crate in a process of its own: for what concerns a whole process.
pub(crate) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(child_arguments(test));
    command
}

pub(crate) fn child_arguments(test: &str) -> Vec<String> {
    ["--exact", "--ignored", "--nocapture", "--test-threads=1", test].map(str::to_owned).to_vec()
}

/// Runs such a command, which must end well and have run the test.
pub(crate) fn expect_passed(mut command: Command) {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", output.status);
}

/// Waits until `value` has not changed for `still`: there is no event for what does not happen.
pub(crate) fn wait_until_still(still: Duration, mut value: impl FnMut() -> u64) {
    let deadline = Instant::now() + DEADLINE;
    let (mut last, mut since) = (value(), Instant::now());
    while since.elapsed() < still {
        assert!(Instant::now() < deadline, "it goes on and on, and has come to {last}");
        thread::sleep(millis(5));
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// A key of so many digits whose state lies at `worker`, of two.
pub(crate) fn key_of(worker: usize, digits: usize) -> String {
    let groups = KeyGroups::new(256).unwrap();
    let mut keys = (0..).map(|number| format!("{number:0>digits$}"));
    keys.find(|key| groups.worker_of(groups.group_of(stable_hash(key, &mut Vec::new())), 2) == worker).unwrap()
}
