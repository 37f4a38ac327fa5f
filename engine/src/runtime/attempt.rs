//! One start of a job: plan, recover, run, wind up.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::worker::Worker;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::beat;
use super::commit::{CommitThread, OnCommit};
use super::config::JobConfig;
use super::shutdown::Shutdown;
use super::worker::{self, Program};
use crate::error::{Error, Result};
use crate::event_time::WatermarkBoard;
use crate::exchange::KeyGroups;
use crate::metrics::SnapshotMetrics;
use crate::operators::context::{JobContext, Plan, Running, Settled, lock};
use crate::operators::control::CommitMessage;
use crate::operators::hub::SourceHub;
use crate::operators::{event_time_step, in_step, panic_error};
use crate::sink::{CommitPermit, Committer};
use crate::snapshot::{Identity, Recovered, Store};
use crate::source::{Enumerator, KnownSplits, SourceContext};
use crate::state::codec;
use crate::vocabulary::{Epoch, EventTime, Incarnation, SplitId, StepName};

/// The number of a job's first start.
const FIRST: Incarnation = Incarnation::new(1);

/// How a job came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Whether the input ended. Else the job was asked to stop, and can go on from where it is.
    pub input_ended: bool,
    /// The last committed epoch; `None` where nothing was ever committed.
    pub committed: Option<Epoch>,
    /// How many times the job has been started, this time included.
    pub incarnation: Incarnation,
}

/// Everything a start needs.
pub(super) struct Attempt<'a> {
    pub(super) config: &'a JobConfig,
    pub(super) program: &'a Program,
    pub(super) stop: &'a [Shutdown],
    pub(super) on_commit: Option<OnCommit>,
    /// Set once this start has committed any record or result.
    pub(super) progress: &'a AtomicBool,
}

/// The sources as their operators see them.
type Hubs = HashMap<StepName, Arc<SourceHub>>;

/// A source that is open and not yet running.
struct OpenSource {
    step: StepName,
    enumerator: Box<dyn Enumerator>,
    known: KnownSplits,
}

/// A start with everything open and nothing read.
struct Prepared {
    context: Arc<JobContext>,
    runtime: Runtime,
    committers: BTreeMap<StepName, Box<dyn Committer>>,
    commits: mpsc::Sender<CommitMessage>,
    messages: mpsc::Receiver<CommitMessage>,
}

impl Attempt<'_> {
    /// Runs the job once, from the last committed epoch to its end.
    pub(super) fn run(&self) -> Result<Summary> {
        let plan = self.plan()?;
        let missing = !self.config.state.exists();
        let identity = Identity { job: self.config.name.clone(), key_groups: self.config.key_groups };
        let (store, recovered) = Store::open(&self.config.state, &identity)?;
        let store = Arc::new(store);
        let prepared = self.prepare(&plan, &store, &recovered).inspect_err(|_| {
            // A job that could not start leaves no trace, where nothing but this attempt has ever been in the folder:
            // another one may have made it and run between the look and the lock, and would have taken the first number.
            if missing && recovered.incarnation == FIRST {
                let _ = std::fs::remove_dir_all(&self.config.state);
            }
        })?;
        let Prepared { context, runtime, committers, commits, messages } = prepared;
        self.drive(&context, &store, committers, commits, messages)?;
        runtime.shutdown_timeout(Duration::from_secs(1));
        self.progress.store(context.progressed(), Ordering::SeqCst);
        match context.take_failure() {
            Some(error) => Err(error),
            None => Ok(Summary {
                input_ended: !context.clock.stopping(),
                committed: Some(context.clock.committed()),
                incarnation: context.incarnation,
            }),
        }
    }

    /// Opens the sources and the sinks on the opened state, in this order: each needs what the one before knows.
    fn prepare(&self, plan: &Plan, store: &Arc<Store>, recovered: &Recovered) -> Result<Prepared> {
        let groups = KeyGroups::new(recovered.key_groups)?;
        groups.check_workers(self.config.workers)?;
        store.register_steps(&plan.steps, self.config.allow_dropped_state)?;
        let runtime = tokio_runtime()?;
        let (hubs, sources) = self.open_sources(plan, store, recovered, groups, &runtime)?;
        let (commits, messages) = channel();
        let running = Running { store: Arc::clone(store), hubs, commits: commits.clone() };
        let context = Arc::new(JobContext::new(self.settled(groups, recovered), Some(running)));
        let committers = recover_sinks(plan, &context, recovered, store)?;
        for OpenSource { step, enumerator, known } in sources {
            let hub = context.running.as_ref().and_then(|running| running.hubs.get(&step)).map(Arc::clone);
            if let Some(hub) = hub {
                let task = runtime.spawn(hub.run(Arc::clone(&context), enumerator, known));
                runtime.spawn(watch(task, step, Arc::clone(&context)));
            }
        }
        Ok(Prepared { context, runtime, committers, commits, messages })
    }

    fn settled(&self, groups: KeyGroups, recovered: &Recovered) -> Settled {
        Settled {
            job: self.config.name.clone(),
            workers: self.config.workers,
            groups,
            secret: recovered.secret,
            incarnation: recovered.incarnation,
            committed: recovered.committed,
            max_open_epochs: self.config.max_open_epochs as u64,
            in_flight_bytes: self.config.in_flight_bytes,
        }
    }

    /// Builds the program on nothing, to learn its steps and find its mistakes before anything is touched.
    fn plan(&self) -> Result<Plan> {
        let recovered = Recovered {
            committed: None,
            incarnation: Incarnation::default(),
            key_groups: self.config.key_groups,
            secret: [0; 16],
            steps: Vec::new(),
            handles: BTreeMap::new(),
        };
        let groups = KeyGroups::new(self.config.key_groups)?;
        let context = Arc::new(JobContext::new(self.settled(groups, &recovered), None));
        let allocator = Allocator::Thread(timely::communication::allocator::thread::Thread::default());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, None);
        worker::build(&mut worker, &context, self.program);
        if let Some(error) = context.take_failure() {
            return Err(error);
        }
        let mut plan = std::mem::take(&mut *lock(&context.plan));
        match plan.error.take() {
            Some(error) => Err(error),
            None if plan.sources.is_empty() => Err(Error::config("the program has no source")),
            None => Ok(plan),
        }
    }

    fn open_sources(
        &self,
        plan: &Plan,
        store: &Store,
        recovered: &Recovered,
        groups: KeyGroups,
        runtime: &Runtime,
    ) -> Result<(Hubs, Vec<OpenSource>)> {
        let mut hubs = HashMap::new();
        let mut sources = Vec::new();
        for (step, source) in &plan.sources {
            let known = restore_splits(store, step, groups)?;
            let watermarks = restore_watermarks(store, &event_time_step(step), groups)?;
            let context = SourceContext {
                job: self.config.name.clone(),
                step: step.clone(),
                runtime: runtime.handle().clone(),
                first_start: known.is_empty() && recovered.committed.is_none(),
                known: known.clone(),
            };
            let enumerator = in_step(step, || runtime.block_on(source.open(context)))?;
            let hub = SourceHub::new(step.clone(), self.config.workers, WatermarkBoard::restore(watermarks));
            hubs.insert(step.clone(), Arc::new(hub));
            sources.push(OpenSource { step: step.clone(), enumerator, known });
        }
        Ok((hubs, sources))
    }

    /// Runs the threads of the job until all are done.
    fn drive(
        &self,
        context: &Arc<JobContext>,
        store: &Arc<Store>,
        committers: BTreeMap<StepName, Box<dyn Committer>>,
        commits: mpsc::Sender<CommitMessage>,
        messages: mpsc::Receiver<CommitMessage>,
    ) -> Result<()> {
        let (fold, folds) = channel();
        let commit = CommitThread::new(context, store, committers, self.on_commit.clone(), fold)?;
        let (done, beat_done) = channel();
        thread::scope(|scope| {
            named(scope, "commit", move || fail_with(context, "commit", move || commit.run(&messages)))?;
            named(scope, "fold", move || fail_with(context, "fold", move || fold_loop(store, &folds)))?;
            named(scope, "beat", move || beat::run(context, self.config, self.stop, &beat_done))?;
            self.run_workers(context);
            // The commit thread is gone only where the job has failed.
            let _ = commits.send(CommitMessage::Finish);
            drop(done);
            Ok(())
        })
    }

    fn run_workers(&self, context: &Arc<JobContext>) {
        let (shared, program) = (Arc::clone(context), Arc::clone(self.program));
        let config = timely::Config::process(self.config.workers);
        let guards = timely::execute(config, move |worker| worker::run(worker, &shared, &program));
        match guards {
            Ok(guards) => {
                for outcome in guards.join() {
                    if let Err(message) = outcome {
                        context.fail(Error::internal(format!("a worker died: {message}")));
                    }
                }
            }
            Err(message) => context.fail(Error::internal(format!("could not start the workers: {message}"))),
        }
    }
}

fn tokio_runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        // Sources wait far more than they compute; the workers have the cores.
        .worker_threads(2)
        .thread_name("shardflow-io")
        .enable_all()
        .build()
        .map_err(|error| Error::internal("could not start the I/O runtime").caused_by(error))
}

fn named<'scope, F>(scope: &'scope thread::Scope<'scope, '_>, name: &str, body: F) -> Result<()>
where
    F: FnOnce() + Send + 'scope,
{
    let spawned = thread::Builder::new().name(format!("shardflow-{name}")).spawn_scoped(scope, body);
    spawned
        .map(|_handle| ())
        .map_err(|error| Error::internal(format!("could not start the {name} thread")).caused_by(error))
}

/// Fails the job if a source's task panics: without it no split would ever be found, and the job would wait for ever.
async fn watch(task: JoinHandle<()>, step: StepName, context: Arc<JobContext>) {
    if let Err(error) = task.await
        && let Ok(panic) = error.try_into_panic()
    {
        context.fail(panic_error(panic.as_ref()).in_step(step.as_str()));
    }
}

/// Runs a thread's body; an error or a panic fails the job.
fn fail_with(context: &JobContext, thread: &str, body: impl FnOnce() -> Result<()>) {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => context.fail(error),
        Err(panic) => context.fail(panic_error(panic.as_ref()).in_step(format!("the {thread} thread"))),
    }
}

/// Folds changelogs into the base after commits, beside them.
fn fold_loop(store: &Store, folds: &mpsc::Receiver<()>) -> Result<()> {
    let size = SnapshotMetrics::register().store_bytes;
    while folds.recv().is_ok() {
        while folds.try_recv().is_ok() {}
        store.fold_if_due()?;
        let stats = store.stats();
        size.set(stats.base_bytes.saturating_add(stats.changelog_bytes) as f64);
    }
    Ok(())
}

fn restore_splits(store: &Store, step: &StepName, groups: KeyGroups) -> Result<KnownSplits> {
    let mut known = KnownSplits::new();
    store.restore(step, 0..groups.count(), &mut |_group, _table, key, value| {
        known.insert(split_id(key)?, codec::decode(value)?);
        Ok(())
    })?;
    Ok(known)
}

fn restore_watermarks(store: &Store, step: &StepName, groups: KeyGroups) -> Result<HashMap<SplitId, EventTime>> {
    let mut watermarks = HashMap::new();
    store.restore(step, 0..groups.count(), &mut |_group, _table, key, value| {
        watermarks.insert(split_id(key)?, codec::decode(value)?);
        Ok(())
    })?;
    Ok(watermarks)
}

fn split_id(key: &[u8]) -> Result<SplitId> {
    let text =
        std::str::from_utf8(key).map_err(|error| Error::state("a stored split name is damaged").caused_by(error))?;
    Ok(SplitId::new(text))
}

/// Opens every sink's committer and has it commit again what the last start may not have come to.
fn recover_sinks(
    plan: &Plan,
    context: &JobContext,
    recovered: &Recovered,
    store: &Store,
) -> Result<BTreeMap<StepName, Box<dyn Committer>>> {
    let permit = recovered.committed.map(CommitPermit::granted);
    let mut committers = BTreeMap::new();
    for (step, open) in &plan.sinks {
        let handles = recovered.handles.get(step).map(Vec::as_slice).unwrap_or_default();
        let mut committer = in_step(step, || open(&context.sink_context(step)))?;
        in_step(step, || committer.recover(permit.as_ref(), handles))?;
        committers.insert(step.clone(), committer);
    }
    if let Some(committed) = recovered.committed {
        store.acknowledge(committed)?;
    }
    Ok(committers)
}
