//! One start of a job: plan, recover, run, wind up.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fail::fail_point;
use siphasher::sip::SipHasher24;
use tokio::runtime::Runtime;

use super::beat;
use super::commit::{CommitThread, OnCommit};
use super::config::{JobConfig, Restart};
use super::identity::check_identity;
use super::plan::{plan, settled};
use super::recover::{check_handles, recover_sinks, restore_splits, restore_watermarks};
use super::shutdown::Shutdown;
use super::threads::Threads;
use super::worker::{self, Program};
use crate::error::{Error, Result};
use crate::event_time::WatermarkBoard;
use crate::exchange::KeyGroups;
use crate::metrics::SnapshotMetrics;
use crate::operators::context::{JobContext, Plan, Running};
use crate::operators::control::CommitMessage;
use crate::operators::hub::SourceHub;
use crate::operators::{event_time_step, naming_panics, panic_error};
use crate::sink::Committer;
use crate::snapshot::{Identity, Recovered, Store};
use crate::source::{Enumerator, Follower, KnownSplits, SourceContext};
use crate::vocabulary::{Epoch, Incarnation, SourceId, StepName};

/// How long the sources' tasks may take to end. What they are in the midst of is read again.
const IO_PATIENCE: Duration = Duration::from_secs(1);

/// How long a failed job waits for its threads where nothing depends on them: for what a worker has in hand, or a sink.
const STUCK: Duration = Duration::from_secs(2);

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
}

/// The sources as their operators see them.
type Hubs = HashMap<StepName, Arc<SourceHub>>;

/// Who follows what is committed of the sources.
type Followers = BTreeMap<StepName, Box<dyn Follower>>;

/// A source that is open and not yet running.
struct OpenSource {
    step: StepName,
    enumerator: Box<dyn Enumerator>,
    known: KnownSplits,
}

/// A start with everything open and nothing read.
struct Prepared {
    context: Arc<JobContext>,
    committers: BTreeMap<StepName, Box<dyn Committer>>,
    followers: Followers,
    commits: mpsc::Sender<CommitMessage>,
    messages: mpsc::Receiver<CommitMessage>,
}

/// How a start came to its end.
pub(super) struct End {
    pub(super) outcome: Result<Summary>,
    /// Whether records were read and committed.
    pub(super) progressed: bool,
    /// Whether something did not come back and still holds the state folder: no other start of this process can have it.
    pub(super) left_behind: bool,
}

impl Attempt<'_> {
    /// Runs the job once, from the last committed epoch to its end.
    pub(super) fn run(&self) -> End {
        let refused = |error| End { outcome: Err(error), progressed: false, left_behind: false };
        let identity = Identity { job: self.config.name.clone(), key_groups: self.config.key_groups };
        let opened = plan(self.config, self.program)
            .and_then(|(plan, _)| Ok((plan, Store::open(&self.config.state, &identity)?)));
        let (plan, (store, recovered)) = match opened {
            Ok(opened) => opened,
            Err(error) => return refused(error),
        };
        fail_point!("recover::before-sources");
        let store = Arc::new(store);
        let prepared = tokio_runtime().and_then(|runtime| match self.prepare(&plan, &store, &recovered, &runtime) {
            Ok(prepared) => Ok((prepared, runtime)),
            Err(error) => {
                runtime.shutdown_timeout(IO_PATIENCE);
                Err(error)
            }
        });
        match prepared {
            Ok((prepared, runtime)) => {
                let context = self.drive(&store, prepared);
                runtime.shutdown_timeout(IO_PATIENCE);
                let outcome = context.take_failure().map_or_else(|| Ok(summary(&context)), Err);
                let progressed = context.progress.made.load(Ordering::SeqCst);
                drop(context);
                End { outcome, progressed, left_behind: Arc::into_inner(store).is_none() }
            }
            Err(error) => {
                let left_behind = Arc::into_inner(store).map(Store::take_back).is_none();
                End { outcome: Err(error), progressed: false, left_behind }
            }
        }
    }

    /// Opens the sources and the sinks, in this order: each needs what the one before knows.
    fn prepare(&self, plan: &Plan, store: &Arc<Store>, recovered: &Recovered, runtime: &Runtime) -> Result<Prepared> {
        let groups = KeyGroups::new(recovered.key_groups)?;
        if self.config.key_groups != recovered.key_groups {
            let (kept, ignored) = (recovered.key_groups, self.config.key_groups);
            tracing::warn!(kept, ignored, "the number of key groups was fixed at the job's first start");
        }
        groups.check_workers(self.config.workers)?;
        check_handles(plan, recovered)?;
        store.register_steps(&plan.steps, self.config.allow_dropped_state)?;
        let (hubs, mut sources) = self.open_sources(plan, store, recovered, groups, runtime)?;
        let followers = followers(&mut sources, &hubs)?;
        let (commits, messages) = channel();
        let (io, sinks) = (runtime.handle().clone(), self.config.state.join("sinks"));
        let running = Running { store: Arc::clone(store), hubs, commits: commits.clone(), runtime: io, sinks };
        let context = Arc::new(JobContext::new(settled(self.config, groups, recovered), Some(running)));
        fail_point!("recover::before-sinks");
        let committers = recover_sinks(plan, &context, recovered, store)?;
        for OpenSource { step, enumerator, known } in sources {
            let hub = context.running.as_ref().and_then(|running| running.hubs.get(&step)).map(Arc::clone);
            if let Some(hub) = hub {
                let run = hub.run(Arc::clone(&context), enumerator, known);
                runtime.spawn(supervise(Arc::clone(&context), step, run));
            }
        }
        Ok(Prepared { context, committers, followers, commits, messages })
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
            let (known, stored) = restore_splits(store, step, groups)?;
            let allow = self.config.allow_changed_source;
            let (named, new_identity) = naming_panics(step.as_str(), || {
                let named = source.identity();
                check_identity(stored.as_deref(), named.clone(), allow).map(|new| (named, new))
            })?;
            let watermarks = restore_watermarks(store, &event_time_step(step), groups)?;
            let context = SourceContext {
                job: self.config.name.clone(),
                step: step.clone(),
                runtime: runtime.handle().clone(),
                first_start: known.is_empty(),
                known: known.clone(),
                incarnation: recovered.incarnation,
                state_id: state_id(recovered.secret),
            };
            let enumerator = naming_panics(step.as_str(), || runtime.block_on(source.open(context)))?;
            let input = naming_panics(step.as_str(), || Ok(enumerator.input()))?;
            let input = input.unwrap_or_else(|| SourceId::new(named));
            let board = WatermarkBoard::restore(watermarks);
            let hub = SourceHub::new(step.clone(), input, self.config.workers, board, new_identity);
            hubs.insert(step.clone(), Arc::new(hub));
            sources.push(OpenSource { step: step.clone(), enumerator, known });
        }
        Ok((hubs, sources))
    }

    /// Runs the threads of the job until all are done, or until one of them hangs in a job that has failed.
    fn drive(&self, store: &Arc<Store>, prepared: Prepared) -> Arc<JobContext> {
        let Prepared { context, committers, followers, commits, messages } = prepared;
        let finish = commits.clone();
        let mut threads = Threads::new(&context);
        if let Err(error) = self.spawn(&mut threads, &context, store, (committers, followers), commits, messages) {
            context.fail(error);
            // The commit thread may wait for workers that were never started. It is gone only where the job has failed.
            let _ = finish.send(CommitMessage::Finish);
        }
        // Where the job is to start again, what a sink or the disk is in the midst of is worth waiting for.
        let patience = match self.config.restart {
            Restart::Never => STUCK,
            Restart::OnFailure { .. } => self.config.stop_timeout,
        };
        threads.join(|| if self.stop.iter().any(Shutdown::requested) { STUCK } else { patience });
        context
    }

    fn spawn(
        &self,
        threads: &mut Threads,
        context: &Arc<JobContext>,
        store: &Arc<Store>,
        (committers, followers): (BTreeMap<StepName, Box<dyn Committer>>, Followers),
        commits: mpsc::Sender<CommitMessage>,
        messages: mpsc::Receiver<CommitMessage>,
    ) -> Result<()> {
        let (fold, folds) = channel();
        let commit = CommitThread::new(context, store, committers, followers, self.on_commit.clone(), fold)?;
        let done = Arc::new(AtomicBool::new(false));
        let (shared, beat_done, stopping) = (Arc::clone(context), Arc::clone(&done), Arc::clone(store));
        threads.spawn("commit", move || {
            let outcome = commit.run(&messages);
            stopping.stop_folding();
            // Not before: a last commit, or a sink that closes, may hang too.
            done.store(true, Ordering::SeqCst);
            shared.wake_beat();
            outcome
        })?;
        let store = Arc::clone(store);
        threads.spawn("fold", move || fold_loop(&store, &folds))?;
        let (shared, config, stop) = (Arc::clone(context), self.config.clone(), self.stop.to_vec());
        threads.spawn("beat", move || beat::run(&shared, &config, &stop, &beat_done))?;
        let (shared, program, workers) = (Arc::clone(context), Arc::clone(self.program), self.config.workers);
        threads.spawn("workers", move || {
            run_workers(&shared, &program, workers);
            // The commit thread is gone only where the job has failed.
            let _ = commits.send(CommitMessage::Finish);
            Ok(())
        })
    }
}

/// Asks each source who follows what is committed of it.
fn followers(sources: &mut [OpenSource], hubs: &Hubs) -> Result<Followers> {
    let mut followers = Followers::new();
    for OpenSource { step, enumerator, .. } in sources {
        if let Some(follower) = naming_panics(step.as_str(), || Ok(enumerator.follower()))? {
            if let Some(hub) = hubs.get(step) {
                hub.set_followed();
            }
            followers.insert(step.clone(), follower);
        }
    }
    Ok(followers)
}

/// A name for the state folder that says nothing about its secret.
fn state_id(secret: [u8; 16]) -> String {
    let hash = SipHasher24::new_with_key(&secret).hash(b"the name of the state folder");
    format!("{hash:016x}")
}

fn run_workers(context: &Arc<JobContext>, program: &Program, workers: usize) {
    let (shared, program) = (Arc::clone(context), Arc::clone(program));
    let guards =
        timely::execute(timely::Config::process(workers), move |worker| worker::run(worker, &shared, &program));
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

fn summary(context: &JobContext) -> Summary {
    let durable = context.progress.durable.load(Ordering::SeqCst);
    Summary {
        input_ended: context.progress.complete.load(Ordering::SeqCst),
        committed: Some(Epoch::new(durable)).filter(|_| durable > 0).or(context.committed),
        incarnation: context.incarnation,
    }
}

/// Runs a source's task. A panic in it fails the job: without the task no split would ever be found or end again.
async fn supervise(context: Arc<JobContext>, step: StepName, run: impl Future<Output = ()> + Send + 'static) {
    if let Err(ended) = tokio::spawn(run).await
        && let Ok(panic) = ended.try_into_panic()
    {
        context.fail(panic_error(panic.as_ref()).in_step(step.as_str()));
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

/// Folds changelogs into the base after commits, beside them.
fn fold_loop(store: &Store, folds: &mpsc::Receiver<()>) -> Result<()> {
    let metrics = SnapshotMetrics::register();
    while folds.recv().is_ok() {
        while folds.try_recv().is_ok() {}
        store.fold_if_due()?;
        let stats = store.stats();
        metrics.store_bytes.set(stats.base_bytes.saturating_add(stats.changelog_bytes) as f64);
    }
    Ok(())
}
