//! A source that does what a test tells it, and a job on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shardflow::runtime::Shutdown;
use shardflow::source::{
    BoxFuture, Discovery, Enumerator, KnownSplits, Position, RawBatch, Reader, Source, SourceContext, Split,
};
use shardflow::testing::Collected;
use shardflow::vocabulary::SplitId;
use shardflow::{Error, EventTime, Job, Lag, Result, Summary, lines, millis, tumbling};

/// How long anything may take. Far more than it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// An epoch of the jobs here.
pub(crate) const EPOCH: Duration = Duration::from_millis(20);

/// After how long of silence a split is idle in the jobs here.
pub(crate) const IDLE: Duration = Duration::from_millis(40);

/// One split as the test has it.
#[derive(Clone)]
pub(crate) struct ScriptedSplit {
    pub(crate) parents: Vec<SplitId>,
    /// Each is an event time in milliseconds.
    pub(crate) records: Vec<u64>,
    pub(crate) ended: bool,
    pub(crate) listed: bool,
    /// How many listings are still to omit it.
    pub(crate) omitted: usize,
    pub(crate) caught_up: bool,
    pub(crate) millis_behind: Option<u64>,
    pub(crate) children: Vec<SplitId>,
    waker: Option<Waker>,
}

impl Default for ScriptedSplit {
    fn default() -> Self {
        Self {
            parents: Vec::new(),
            records: Vec::new(),
            ended: false,
            listed: true,
            omitted: 0,
            caught_up: true,
            millis_behind: None,
            children: Vec::new(),
            waker: None,
        }
    }
}

/// What the test wants and what the engine did.
#[derive(Default)]
struct World {
    splits: BTreeMap<SplitId, ScriptedSplit>,
    complete: bool,
    /// Of each start, whether it was told to be the first, and what was known.
    starts: Vec<(bool, KnownSplits)>,
    opened: Vec<SplitId>,
    listings: usize,
}

/// The source.
#[derive(Clone)]
pub(crate) struct Scripted {
    identity: String,
    world: Arc<Mutex<World>>,
}

impl Scripted {
    pub(crate) fn new() -> Self {
        Self { identity: "scripted".to_owned(), world: Arc::default() }
    }

    /// The same splits under another identity.
    pub(crate) fn called(&self, identity: &str) -> Self {
        Self { identity: identity.to_owned(), world: Arc::clone(&self.world) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Changes a split, which is made where there is none.
    pub(crate) fn split(&self, split: &str, change: impl FnOnce(&mut ScriptedSplit)) {
        let mut world = self.world();
        let split = world.splits.entry(SplitId::new(split)).or_default();
        change(split);
        if let Some(waker) = split.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn push(&self, split: &str, records: &[u64]) {
        self.split(split, |split| split.records.extend_from_slice(records));
    }

    pub(crate) fn end(&self, split: &str) {
        self.split(split, |split| split.ended = true);
    }

    /// Ends all splits, and the source.
    pub(crate) fn close(&self) {
        let splits: Vec<_> = self.world().splits.keys().cloned().collect();
        splits.iter().for_each(|split| self.end(split.as_str()));
        self.world().complete = true;
    }

    pub(crate) fn opened(&self) -> Vec<String> {
        self.world().opened.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn starts(&self) -> Vec<(bool, KnownSplits)> {
        self.world().starts.clone()
    }

    pub(crate) fn listings(&self) -> usize {
        self.world().listings
    }
}

impl Source for Scripted {
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn open(&self, context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        self.world().starts.push((context.first_start, context.known));
        let enumerator: Box<dyn Enumerator> = Box::new(self.clone());
        Box::pin(async move { Ok(enumerator) })
    }
}

impl Enumerator for Scripted {
    fn interval(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        let mut world = self.world();
        world.listings += 1;
        let omitted: Vec<SplitId> =
            world.splits.iter().filter(|(_, split)| split.omitted > 0).map(|(id, _)| id.clone()).collect();
        for id in &omitted {
            world.splits.get_mut(id).unwrap().omitted -= 1;
        }
        let listed = world.splits.iter().filter(|(id, split)| split.listed && !omitted.contains(id));
        let split =
            |(id, split): (&SplitId, &ScriptedSplit)| Split::new(id.clone(), split.parents.clone(), Position::new("0"));
        let found = Discovery { splits: listed.map(split).collect(), complete: world.complete };
        Box::pin(async move { Ok(found) })
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        self.world().opened.push(split.clone());
        let next = position.as_str().parse().map_err(|_| Error::source("no position"))?;
        Ok(Box::new(ScriptedReader { source: self.clone(), split: split.clone(), next }))
    }
}

struct ScriptedReader {
    source: Scripted,
    split: SplitId,
    next: usize,
}

impl ScriptedReader {
    fn of<T>(&self, get: impl FnOnce(&ScriptedSplit) -> T) -> T {
        get(&self.source.world().splits[&self.split])
    }
}

impl Reader for ScriptedReader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        let mut world = self.source.world();
        let split = world.splits.get_mut(&self.split).unwrap();
        let rest = &split.records[self.next..];
        if rest.is_empty() && split.ended {
            return Poll::Ready(Ok(None));
        }
        if rest.is_empty() {
            split.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut batch = RawBatch::with_positions(Position::new(split.records.len().to_string()));
        for (index, record) in rest.iter().enumerate() {
            batch.push(record.to_string().as_bytes(), self.next + index);
        }
        self.next = split.records.len();
        Poll::Ready(Ok(Some(batch)))
    }

    fn millis_behind(&self) -> Option<u64> {
        self.of(|split| split.millis_behind)
    }

    fn caught_up(&self) -> bool {
        self.of(|split| split.caught_up)
    }

    fn children(&self) -> Vec<Split> {
        let world = self.source.world();
        let child = |id: &SplitId| Split::new(id.clone(), world.splits[id].parents.clone(), Position::new("0"));
        world.splits[&self.split].children.iter().map(child).collect()
    }
}

/// The least record that the job filters out before it has event time.
pub(crate) const FOREIGN: u64 = 1_000_000;

/// A job that counts the records of each 10 ms of event time, while it runs.
pub(crate) struct Running {
    thread: JoinHandle<Result<Summary>>,
    stopper: Shutdown,
    commits: Arc<AtomicU64>,
    counts: Collected<(u64, u64)>,
    late: Collected<String>,
}

pub(crate) fn job(state: &Path) -> Job {
    Job::named("scripted").workers(2).state(state).epoch(EPOCH)
}

/// Starts `job` on `source`, whose step is called `step`.
pub(crate) fn start(job: Job, step: &'static str, source: &Scripted) -> Running {
    let (counts, late) = (Collected::new(), Collected::new());
    let commits = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&commits);
    let job = job.on_commit(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let stopper = job.stopper();
    let (source, sinks) = (source.clone(), (counts.clone(), late.clone()));
    let thread = thread::spawn(move || {
        job.run(move |flow| {
            let (records, rejected) = flow.source(step, source.clone()).decode(lines());
            rejected.sink("rejected", Collected::new());
            records
                .filter(|record| record.len() < FOREIGN.to_string().len())
                .event_time(
                    |record: &String| EventTime::from_millis(record.parse().unwrap()),
                    Lag::of(millis(0)).idle_after(IDLE),
                )
                .key_by(|_| 0)
                .window(tumbling(millis(10)).grace(millis(0)))
                .late_to("late", sinks.1.clone())
                .count("totals")
                .map(|result| (result.window.start().as_millis(), result.value))
                .sink("counts", sinks.0.clone());
        })
    });
    Running { thread, stopper, commits, counts, late }
}

impl Running {
    /// The windows that have fired, with how many records each counted.
    pub(crate) fn counts(&self) -> Vec<(u64, u64)> {
        let mut counts = self.counts.values();
        counts.sort_unstable();
        counts
    }

    /// Waits until `condition` holds.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(!self.thread.is_finished(), "the job is over before {what}");
            assert!(Instant::now() < deadline, "it never came to {what}; windows: {:?}", self.counts());
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Lets the job go on for as many commits as take several times what makes a split idle.
    pub(crate) fn go_on_for_long(&self) {
        let epochs = 5 * IDLE.as_millis() / EPOCH.as_millis();
        let goal = self.commits.load(Ordering::SeqCst) + epochs as u64;
        self.until("more commits", |job| job.commits.load(Ordering::SeqCst) >= goal);
    }

    /// The job's own end.
    pub(crate) fn join(self) -> Result<Summary> {
        self.thread.join().unwrap()
    }

    /// The windows and the late records of a job whose input ends.
    pub(crate) fn finish(self) -> (Vec<(u64, u64)>, Vec<String>) {
        assert!(self.thread.join().unwrap().unwrap().input_ended);
        let mut counts = self.counts.values();
        counts.sort_unstable();
        (counts, self.late.values())
    }

    /// Asks the job to stop, and waits for its end.
    pub(crate) fn stop(self) {
        self.stopper.request();
        assert!(!self.join().unwrap().input_ended);
    }
}
