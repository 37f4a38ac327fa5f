//! The process's side: takes the marker at the start, then commits epochs, each call in one transaction, however often it
//! takes.

use fail::fail_point;
use shardflow::metrics::DeliveryMetrics;
use shardflow::retry::WallClock;
use shardflow::sink::{CommitPermit, Committer, SinkContext, StagedHandle};
use shardflow::{Epoch, Error, Result};
use tokio::runtime::Handle as Runtime;

use super::Settings;
use super::handle::Handle;
use super::link::{Committed, Link};
use super::marker::Start;
use super::open;
use super::session::{self, Server, Session};
use super::transaction::{self, Staged, Target};

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

impl RowCommitter {
    /// Connects, makes the tables that are the sink's own, and checks that rows can be written.
    pub(super) fn open(settings: Settings, context: &SinkContext) -> Result<Self> {
        let Settings { dsn, password, columns, target, give_up_after, call_timeout } = settings;
        let server = Server::new(dsn, password, call_timeout, session::settings(call_timeout))?;
        let metrics = DeliveryMetrics::register(&context.step, 0);
        let mut link = Link::new(server, metrics, WallClock, give_up_after);
        let attempted = format!("open table \"{}\"", target.table);
        let opening = link.repeat(&attempted, true, async |session: &mut Session, _: &mut Option<Committed>| {
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
        let taking =
            self.link.repeat(&attempted, false, async |session: &mut Session, in_doubt: &mut Option<Committed>| {
                transaction::take_over(session, owner, &mut start, in_doubt).await
            });
        self.runtime.block_on(taking)
    }

    fn commit_staged(&mut self, staged: &[Staged]) -> Result<()> {
        let Some(last) = staged.iter().map(|one| one.epoch).max() else { return Ok(()) };
        let target = &self.target;
        let attempted = format!("commit epoch {last} to table \"{}\"", target.table);
        let committing =
            self.link.repeat(&attempted, false, async |session: &mut Session, in_doubt: &mut Option<Committed>| {
                transaction::commit(session, target, staged, in_doubt).await
            });
        let done = self.runtime.block_on(committing)?;
        self.done = Some(last);
        done.tell(&self.link.metrics, &self.step, &self.target.table);
        Ok(())
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
