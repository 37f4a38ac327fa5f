//! One start of a job: plan, recover, run, wind up.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use fail::fail_point;
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::worker::Worker;
use tokio::runtime::Runtime;

use super::beat;
use super::commit::{CommitThread, OnCommit};
use super::config::JobConfig;
use super::shutdown::Shutdown;
use super::worker::{self, Program};
use crate::error::{Error, Result};
use crate::event_time::WatermarkBoard;
use crate::exchange::KeyGroups;
use crate::operators::context::{JobContext, Plan, Running, Settled, lock};
use crate::operators::control::CommitMessage;
use crate::operators::hub::SourceHub;
use crate::operators::{event_time_step, panic_error};
use crate::sink::{CommitPermit, Committer};
use crate::snapshot::{Identity, Recovered, Store};
use crate::source::{Enumerator, KnownSplits, SourceContext};
use crate::state::codec;
use crate::vocabulary::{Epoch, EventTime, Incarnation, SplitId, StepName};

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
    /// Set once this start has committed anything.
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
    store: Arc<Store>,
    runtime: Runtime,
    committers: BTreeMap<StepName, Box<dyn Committer>>,
    commits: mpsc::Sender<CommitMessage>,
    messages: mpsc::Receiver<CommitMessage>,
}

impl Attempt<'_> {
    /// Runs the job once, from the last committed epoch to its end.
    pub(super) fn run(&self) -> Result<Summary> {
        let plan = self.plan()?;
        let Prepared { context, store, runtime, committers, commits, messages } = self.prepare(&plan)?;
        self.drive(&context, &store, committers, commits, messages)?;
        runtime.shutdown_timeout(Duration::from_secs(1));
        self.progress.store(context.clock.committed() >= context.first_epoch, Ordering::SeqCst);
        match context.take_failure() {
            Some(error) => Err(error),
            None => Ok(Summary {
                input_ended: !context.clock.stopping(),
                committed: Some(context.clock.committed()),
                incarnation: context.incarnation,
            }),
        }
    }

    /// Opens the state, the sources and the sinks, in this order: each needs what the one before knows.
    fn prepare(&self, plan: &Plan) -> Result<Prepared> {
        let identity = Identity { job: self.config.name.clone(), key_groups: self.config.key_groups };
        let (store, recovered) = Store::open(&self.config.state, &identity)?;
        fail_point!("recover::before-sources");
        let store = Arc::new(store);
        // The lock is held until after that: another process may be waiting to make the folder its own.
        self.prepare_with(plan, &store, &recovered).inspect_err(|_| store.take_back())
    }

    fn prepare_with(&self, plan: &Plan, store: &Arc<Store>, recovered: &Recovered) -> Result<Prepared> {
        let groups = KeyGroups::new(recovered.key_groups)?;
        groups.check_workers(self.config.workers)?;
        store.register_steps(&plan.steps, self.config.allow_dropped_state)?;
        let runtime = tokio_runtime()?;
        let (hubs, sources) = self.open_sources(plan, store, recovered, groups, &runtime)?;
        let (commits, messages) = channel();
        let running = Running { store: Arc::clone(store), hubs, commits: commits.clone() };
        let context = Arc::new(JobContext::new(self.settled(groups, recovered), Some(running)));
        fail_point!("recover::before-sinks");
        let committers = recover_sinks(plan, &context, recovered, store)?;
        for OpenSource { step, enumerator, known } in sources {
            let hub = context.running.as_ref().and_then(|running| running.hubs.get(&step)).map(Arc::clone);
            if let Some(hub) = hub {
                runtime.spawn(hub.run(Arc::clone(&context), enumerator, known));
            }
        }
        Ok(Prepared { context, store: Arc::clone(store), runtime, committers, commits, messages })
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
            let enumerator = runtime.block_on(source.open(context)).map_err(|error| error.in_step(step.as_str()))?;
            let hub = SourceHub::new(step.clone(), self.config.workers, WatermarkBoard::restore(watermarks));
            hubs.insert(step.clone(), Arc::new(hub));
            sources.push(OpenSource { step: step.clone(), enumerator, known });
        }
        Ok((hubs, sources))
    }

    /// Runs the threads of the job until all are done, or until a stop has taken too long: then threads that are stuck in
    /// a sink or on a disk are left to the end of the process, and the job has failed.
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
        let folding = Arc::clone(store);
        let (workers, program) = (self.config.workers, Arc::clone(self.program));
        let mut threads = Threads::new(context);
        threads.start("commit", move |_| commit.run(&messages))?;
        threads.start("fold", move |_| fold_loop(&folding, &folds))?;
        threads.start("workers", move |context| {
            run_workers(workers, context, program);
            // The commit thread is gone only where the job has failed.
            let _ = commits.send(CommitMessage::Finish);
            Ok(())
        })?;
        threads.beat(self.config, self.stop);
        Ok(())
    }
}

/// The threads of a running job.
struct Threads<'a> {
    context: &'a Arc<JobContext>,
    started: Vec<thread::JoinHandle<()>>,
    /// Each thread holds one end: when all are gone, so are the threads.
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl<'a> Threads<'a> {
    fn new(context: &'a Arc<JobContext>) -> Self {
        let (alive, ended) = channel();
        Self { context, started: Vec::new(), alive, ended }
    }

    /// Starts a thread whose error or panic fails the job.
    fn start<F>(&mut self, name: &'static str, body: F) -> Result<()>
    where
        F: FnOnce(&Arc<JobContext>) -> Result<()> + Send + 'static,
    {
        let (context, alive) = (Arc::clone(self.context), self.alive.clone());
        let thread = thread::Builder::new().name(format!("shardflow-{name}")).spawn(move || {
            fail_with(&context, name, || body(&context));
            drop(alive);
        });
        let failed = |error| Error::internal(format!("could not start the {name} thread")).caused_by(error);
        self.started.push(thread.map_err(failed)?);
        Ok(())
    }

    /// Beats until the threads have ended, and sees them go: what they held is free then.
    fn beat(self, config: &JobConfig, stop: &[Shutdown]) {
        drop(self.alive);
        if beat::run(self.context, config, stop, &self.ended) {
            for thread in self.started {
                // It has caught its own panics.
                let _ = thread.join();
            }
        }
    }
}

fn run_workers(workers: usize, context: &Arc<JobContext>, program: Program) {
    let shared = Arc::clone(context);
    let config = timely::Config::process(workers);
    match timely::execute(config, move |worker| worker::run(worker, &shared, &program)) {
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

fn tokio_runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        // Sources wait far more than they compute; the workers have the cores.
        .worker_threads(2)
        .thread_name("shardflow-io")
        .enable_all()
        .build()
        .map_err(|error| Error::internal("could not start the I/O runtime").caused_by(error))
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
    while folds.recv().is_ok() {
        while folds.try_recv().is_ok() {}
        store.fold_if_due()?;
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
        let named = |error: Error| error.in_step(step.as_str());
        let mut committer = open(&context.sink_context(step)).map_err(named)?;
        committer.recover(permit.as_ref(), handles).map_err(named)?;
        fail_point!("recover::after-sink");
        committers.insert(step.clone(), committer);
    }
    if let Some(committed) = recovered.committed {
        store.acknowledge(committed)?;
    }
    fail_point!("recover::after-acknowledge");
    Ok(committers)
}
