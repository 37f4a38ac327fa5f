//! The job: a name, its settings, and a program to run.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::args::JobArgs;
use super::attempt::{Attempt, End, Summary};
use super::commit::{CommitInfo, OnCommit};
use super::config::{JobConfig, Restart};
use super::plan;
use super::shutdown::Shutdown;
use super::worker::Program;
use crate::error::Result;
use crate::flow::Flow;

/// A streaming job.
///
/// Settings come from here, then from the environment (`SHARDFLOW_WORKERS`, …), then from flags ([`JobArgs`]); the last
/// one wins.
#[derive(Clone)]
#[must_use = "a job does nothing until it is run"]
pub struct Job {
    config: JobConfig,
    args: Option<JobArgs>,
    on_commit: Option<OnCommit>,
    stopper: Shutdown,
}

impl Job {
    /// A job of this name. Its state folder and its sinks' outputs belong to the name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { config: JobConfig::named(name), args: None, on_commit: None, stopper: Shutdown::manual() }
    }

    /// How many worker threads. See [`JobConfig::workers`].
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// The folder that holds the job's state. One process at a time.
    pub fn state(mut self, dir: impl Into<PathBuf>) -> Self {
        self.config.state = dir.into();
        self
    }

    /// How long an epoch is. See [`JobConfig::epoch`].
    pub fn epoch(mut self, length: Duration) -> Self {
        self.config.epoch = length;
        self
    }

    /// How many epochs may be open before sources wait. See [`JobConfig::max_open_epochs`].
    pub fn max_open_epochs(mut self, epochs: usize) -> Self {
        self.config.max_open_epochs = epochs;
        self
    }

    /// How many bytes of keyed state are kept in memory; what is above that lies on disk. See [`JobConfig::state_memory`].
    pub fn state_memory(mut self, bytes: u64) -> Self {
        self.config.state_memory = Some(bytes);
        self
    }

    /// How many bytes may be on their way between the sources and the keyed steps before sources wait. See [`JobConfig::in_flight_bytes`].
    pub fn in_flight_bytes(mut self, bytes: u64) -> Self {
        self.config.in_flight_bytes = bytes;
        self
    }

    /// How often splits may move to workers that have less to do. See [`JobConfig::rebalance`].
    pub fn rebalance(mut self, interval: Duration) -> Self {
        self.config.rebalance = interval;
        self
    }

    /// What to do after a failure that may pass. See [`JobConfig::restart`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.config.restart = restart;
        self
    }

    /// Lets state of steps that the program no longer has be dropped. Without this it is an error.
    pub fn allow_dropped_state(mut self, allow: bool) -> Self {
        self.config.allow_dropped_state = allow;
        self
    }

    /// Lets a source read another input than the one that its stored positions are of. Without this it is an error. See
    /// [`JobConfig::allow_changed_source`].
    pub fn allow_changed_source(mut self, allow: bool) -> Self {
        self.config.allow_changed_source = allow;
        self
    }

    /// Takes settings from parsed flags; they win over code and environment.
    pub fn args(mut self, args: JobArgs) -> Self {
        self.args = Some(args);
        self
    }

    /// Calls `hook` after each commit, on the commit thread, when its results are visible. It must be quick.
    pub fn on_commit(mut self, hook: impl Fn(&CommitInfo<'_>) + Send + Sync + 'static) -> Self {
        self.on_commit = Some(Arc::new(hook));
        self
    }

    /// What asks this job to stop from within the program, as SIGTERM does from outside.
    #[must_use]
    pub fn stopper(&self) -> Shutdown {
        self.stopper.clone()
    }

    /// What `program` consists of, in the order of its steps, a line each: what each is called, where its records come from,
    /// whether they are exchanged between workers, and what a snapshot holds of it. For people: to see what would run, to
    /// review a change of it. The same program and settings give the same text; the next version of shardflow may give another.
    ///
    /// It builds the program as a start does and opens nothing: no state is touched and nothing is called. Key groups are those of
    /// the settings, which a job that has state already no longer follows. Of sources and sinks there is what they say of
    /// themselves ([`Source::identity`](crate::source::Source::identity), [`Sink::describe`](crate::sink::Sink::describe)),
    /// which is nothing secret.
    ///
    /// # Errors
    /// As [`run`](Self::run), for a mistake in the program or the settings.
    ///
    /// # Examples
    /// ```
    /// use shardflow::testing::{Collected, Feed};
    /// use shardflow::{EventTime, Job, Lag, lines, seconds};
    ///
    /// let job = Job::named("letters").workers(2).state("state");
    /// let text = job.explain(|flow| {
    ///     let (letters, rejected) = flow.source("letters", Feed::new()).decode(lines());
    ///     rejected.sink("rejected", Collected::new());
    ///     let timed = letters.event_time(|_| EventTime::MIN, Lag::of(seconds(5)));
    ///     timed.key_by(|line| line.clone()).running().count("counts").map(|count| count.value).sink("out", Collected::new());
    /// })?;
    /// assert_eq!(
    ///     text,
    ///     r#"job "letters": 2 workers, 256 key groups, epochs of 200ms
    /// 1. source "letters", keeps positions: feed
    /// 2. decode from 1
    /// 3. rejected from 2
    /// 4. sink "rejected" from 3: Collected
    /// 5. event time from 2, keeps watermarks: lag 5s, a split is idle after 30s
    /// 6. key_by #1 from 5
    /// 7. running "counts" from 6, exchanged by key, keeps state
    /// 8. map #2 from 7
    /// 9. sink "out" from 8: Collected"#
    /// );
    /// # Ok::<(), shardflow::Error>(())
    /// ```
    pub fn explain(&self, program: impl Fn(&Flow<'_>) + Send + Sync + 'static) -> Result<String> {
        let args = self.args.clone().map_or_else(JobArgs::from_env, Ok)?;
        let config = self.config.clone().resolve(&args)?;
        let program: Program = Arc::new(program);
        plan::explain(&config, &program)
    }

    /// Runs `program` until its input ends, or until SIGINT or SIGTERM, after a last commit either way.
    ///
    /// `program` is called once to check it and once on each worker; it must build the same steps each time.
    ///
    /// # Errors
    /// A mistake in the program or the settings, before anything is touched; state that cannot be used; a source, a sink or
    /// the program's own code that failed, after the restarts that [`Job::restart`] allows. The last committed epoch
    /// stands, and the next start goes on from there.
    pub fn run(self, program: impl Fn(&Flow<'_>) + Send + Sync + 'static) -> Result<Summary> {
        let args = self.args.map_or_else(JobArgs::from_env, Ok)?;
        let config = self.config.resolve(&args)?;
        #[cfg(feature = "failpoints")]
        super::failpoints::arm()?;
        if let Some(address) = config.metrics {
            super::exporter::serve_metrics(address)?;
        }
        let stop = [self.stopper, Shutdown::on_signals()?];
        let program: Program = Arc::new(program);
        let stopping = || stop.iter().any(Shutdown::requested);
        let mut failures = 0;
        loop {
            let attempt =
                Attempt { config: &config, program: &program, stop: &stop, on_commit: self.on_commit.clone() };
            let End { outcome, progressed, left_behind } = attempt.run();
            let error = match outcome {
                Ok(summary) => return Ok(summary),
                Err(error) => error,
            };
            if progressed {
                failures = 0;
            }
            let backoff = config.restart.backoff(failures, error.kind()).filter(|_| !left_behind);
            let Some(backoff) = backoff else { return Err(error) };
            failures = failures.saturating_add(1);
            tracing::warn!(%error, failures, ?backoff, "the job failed and starts again");
            if !wait(backoff, stopping) {
                return Err(error);
            }
        }
    }
}

/// Waits so long, unless `stopping`. Says whether the time is over.
fn wait(mut left: Duration, stopping: impl Fn() -> bool) -> bool {
    const LOOK: Duration = Duration::from_millis(100);
    while !stopping() {
        if left.is_zero() {
            return true;
        }
        let slice = left.min(LOOK);
        thread::sleep(slice);
        left = left.saturating_sub(slice);
    }
    false
}
