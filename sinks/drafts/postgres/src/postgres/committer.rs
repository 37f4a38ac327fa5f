//! The process's side: takes the marker at the start, then commits epochs, each call in one transaction, however often it
//! takes.

use std::time::Duration;

use fail::fail_point;
use shardflow::metrics::DeliveryMetrics;
use shardflow::retry::{Clock, Failed, Failing, Retries, WallClock};
use shardflow::sink::{CommitPermit, Committer, SinkContext, StagedHandle};
use shardflow::{Epoch, Error, Result};
use tokio::runtime::Handle as Runtime;

use super::Settings;
use super::failure::Failure;
use super::handle::Handle;
use super::marker::Start;
use super::open;
use super::session::{Server, Session};
use super::transaction::{self, Committed, Staged, Target};

/// How long the server may be away at the start.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct RowCommitter {
    link: Link<WallClock>,
    runtime: Runtime,
    step: String,
    target: Target,
    /// The last epoch that the engine knows to be committed.
    committed: Option<Epoch>,
    /// Through which epoch this committer has committed: the same handles may come again.
    done: Option<Epoch>,
}

/// A connection that is made again when it breaks.
struct Link<C> {
    server: Server,
    session: Option<Session>,
    metrics: DeliveryMetrics,
    clock: C,
    give_up_after: Duration,
    /// Whether a COMMIT is without an answer.
    in_doubt: bool,
}

impl<C: Clock> Link<C> {
    /// Repeats `work` until it succeeds, fails for good, or has failed for too long. `at_start`: what is wrong with the
    /// settings is not waited for.
    async fn repeat<R>(
        &mut self,
        attempted: &str,
        at_start: bool,
        mut work: impl AsyncFnMut(&mut Session, &mut bool) -> Result<R, Failure>,
    ) -> Result<R> {
        let attempted = format!("{attempted} in {}", self.server.place());
        let give_up_after = if at_start { self.give_up_after.min(STARTS_WITHIN) } else { self.give_up_after };
        let mut retries = Retries::new(give_up_after, &self.clock, &self.metrics.retries, attempted.clone());
        loop {
            let begun = self.clock.now();
            let outcome = self.once(&mut work).await;
            self.metrics.seconds.record(self.clock.now().saturating_duration_since(begun).as_secs_f64());
            let failure = match outcome {
                Ok(answer) => {
                    retries.succeeded();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            if at_start && failure.may_pass().is_none_or(|kind| kind == Failed::Credentials) {
                return Err(match failure {
                    Failure::Stop(error) => error,
                    other => Error::config(format!("could not {attempted}")).caused_by(other.to_string()),
                });
            }
            let waited = retries.wait_out(failure).await;
            waited.map_err(|failure| failure.into_error(&attempted, self.in_doubt))?;
        }
    }

    /// Tries once. A connection on which it failed is not used again.
    async fn once<R>(
        &mut self,
        work: &mut impl AsyncFnMut(&mut Session, &mut bool) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let mut session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => Session::open(&self.server).await?,
        };
        let limit = self.server.call_timeout();
        let outcome = tokio::time::timeout(limit, work(&mut session, &mut self.in_doubt)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Failure::transient(format!("it took longer than {limit:?}"))));
        match &outcome {
            Ok(_) => self.session = Some(session),
            Err(_) => session.cut(),
        }
        outcome
    }
}

impl RowCommitter {
    /// Connects, makes the tables that are the sink's own, and checks that rows can be written.
    pub(super) fn open(settings: Settings, context: &SinkContext) -> Result<Self> {
        let Settings { dsn, password, columns, target, give_up_after, call_timeout } = settings;
        let mut link = Link {
            server: Server::new(dsn, password, call_timeout)?,
            session: None,
            metrics: DeliveryMetrics::register(&context.step, 0),
            clock: WallClock,
            give_up_after,
            in_doubt: false,
        };
        let attempted = format!("open table \"{}\"", target.table);
        let opening = link.repeat(&attempted, true, async |session: &mut Session, _: &mut bool| {
            open::check(&session.client, &target, &columns).await
        });
        let target = context.runtime.block_on(opening)?;
        let step = context.step.as_str().to_owned();
        Ok(Self { link, runtime: context.runtime.clone(), step, target, committed: context.committed, done: None })
    }

    /// What the permit allows and is not done yet, in the order of epochs and workers.
    fn due(&self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<Vec<Staged>> {
        let is_due = |one: &&StagedHandle| one.epoch <= permit.epoch() && Some(one.epoch) > self.done;
        let mut due: Vec<&StagedHandle> = handles.iter().filter(is_due).collect();
        due.sort_by_key(|one| (one.epoch, one.worker));
        let staged = due.into_iter().map(|one| Ok(Staged { epoch: one.epoch, handle: Handle::decode(&one.handle)? }));
        let staged = staged.collect::<Result<Vec<_>>>()?;
        if self.target.rejected.is_none() && staged.iter().any(|one| !one.handle.head.set_aside.is_empty()) {
            return Err(Error::config(
                "its state holds rejected rows that may not be in their table yet, and this program gives it none: run the \
                 program that has it once more",
            ));
        }
        Ok(staged)
    }

    fn take_over(&mut self, first_handle: Option<Epoch>, committed: Option<Epoch>) -> Result<()> {
        let owner = &self.target.owner;
        let attempted = format!("take over the marker in table \"{}\"", owner.table);
        let mut start = Start { committed, first_handle, has_asked: false };
        let taking = self.link.repeat(&attempted, false, async |session: &mut Session, _: &mut bool| {
            transaction::take_over(session, owner, &mut start).await
        });
        self.runtime.block_on(taking)
    }

    fn commit_staged(&mut self, staged: &[Staged]) -> Result<()> {
        let Some(last) = staged.iter().map(|one| one.epoch).max() else { return Ok(()) };
        let target = &self.target;
        let attempted = format!("commit epoch {last} to table \"{}\"", target.table);
        let committing = self.link.repeat(&attempted, false, async |session: &mut Session, in_doubt: &mut bool| {
            transaction::commit(session, target, staged, in_doubt).await
        });
        let done = self.runtime.block_on(committing)?;
        self.done = Some(last);
        self.tell(&done);
        Ok(())
    }

    fn tell(&self, done: &Committed) {
        self.link.metrics.records.increment(done.rows);
        self.link.metrics.bytes.increment(done.bytes);
        self.link.metrics.refused.increment(done.set_aside);
        if let Some(first) = &done.first {
            let (step, table, rows) = (self.step.as_str(), self.target.table.to_string(), done.set_aside);
            tracing::warn!(step, table, rows, first, "rows were refused and set aside");
        }
    }

    fn settle_last_start(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        fail_point!("sink-postgres::before-recovery", |_| Err(Error::sink("stopped before recovering")));
        let staged = permit.map_or(Ok(Vec::new()), |permit| self.due(permit, handles))?;
        let through = permit.map(CommitPermit::epoch).max(self.committed);
        self.take_over(staged.first().map(|one| one.epoch), through)?;
        fail_point!("sink-postgres::after-takeover", |_| Err(Error::sink("stopped after taking over")));
        self.commit_staged(&staged)
    }
}

impl Committer for RowCommitter {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        self.settle_last_start(permit, handles).map_err(|error| error.in_step(&self.step))
    }

    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        let staged = self.due(permit, handles);
        staged.and_then(|staged| self.commit_staged(&staged)).map_err(|error| error.in_step(&self.step))
    }
}
