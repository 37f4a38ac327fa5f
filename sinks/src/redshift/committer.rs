//! The process's side: takes the loads over at the start, then loads epochs, each call in one transaction, however often it
//! takes.

use std::sync::Arc;

use fail::fail_point;
use shardflow::metrics::DeliveryMetrics;
use shardflow::retry::WallClock;
use shardflow::sink::{CommitPermit, Committer, SinkContext, StagedHandle};
use shardflow::{Epoch, Error, Result};
use tokio::runtime::Handle as Runtime;

use super::RunCopy;
use super::handle::Handle;
use super::load::{self, Loader, Staged, Target};
use super::open;
use super::settings::Settings;
use super::sql;
use super::staging::Staging;
use crate::postgres::link::{Committed, Link};
use crate::postgres::marker::Start;
use crate::postgres::session::{Server, Session};

pub(super) struct LoadCommitter {
    link: Link<WallClock>,
    runtime: Runtime,
    step: String,
    target: Target,
    staging: Staging,
    keeps_files: bool,
    run_copy: Arc<dyn RunCopy>,
    /// The last epoch that the engine knows to be committed.
    committed: Option<Epoch>,
    /// Through which epoch this committer has loaded: the same handles may come again.
    done: Option<Epoch>,
}

impl LoadCommitter {
    /// Connects, makes the tables that are the sink's own, and checks that rows can be written.
    pub(super) fn open(settings: Settings, context: &SinkContext) -> Result<Self> {
        let Settings { dsn, password, columns, target, staging, keeps_files, give_up_after, call_timeout, run_copy } =
            settings;
        let server = Server::new(dsn, password, call_timeout, sql::on_connection(call_timeout))?;
        let metrics = DeliveryMetrics::register(&context.step, 0);
        let mut link = Link::new(server, metrics, WallClock, give_up_after);
        let attempted = format!("open table \"{}\"", target.table);
        let opening = link.repeat(&attempted, true, async |session: &mut Session, _: &mut Option<Committed>| {
            open::check(&session.client, &target, &columns).await
        });
        context.runtime.block_on(opening)?;
        Ok(Self {
            link,
            runtime: context.runtime.clone(),
            step: context.step.as_str().to_owned(),
            target,
            staging,
            keeps_files,
            run_copy,
            committed: context.committed,
            done: None,
        })
    }

    /// What the permit allows and is not done yet, in the order of epochs and workers.
    fn due(&self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<Vec<Staged>> {
        let is_due = |one: &&StagedHandle| one.epoch <= permit.epoch() && Some(one.epoch) > self.done;
        let mut due: Vec<&StagedHandle> = handles.iter().filter(is_due).collect();
        due.sort_by_key(|one| (one.epoch, one.worker));
        let staged = due.into_iter().map(|one| Ok(Staged { epoch: one.epoch, handle: Handle::decode(&one.handle)? }));
        let staged = staged.collect::<Result<Vec<_>>>()?;
        if self.target.rejected.is_none() && staged.iter().any(|one| !one.handle.set_aside.is_empty()) {
            return Err(Error::config(
                "its state holds rejected rows that may not be in their table yet, and this program gives it none: run the \
                 program that has it once more",
            ));
        }
        if let Some(other) = staged.iter().find(|one| one.handle.bucket != self.staging.bucket()) {
            let bucket = &other.handle.bucket;
            return Err(Error::config(format!(
                "its state holds rows that are staged in \"{bucket}\": run the program that stages there once more"
            )));
        }
        Ok(staged)
    }

    fn take_over(&mut self, first_handle: Option<Epoch>, committed: Option<Epoch>) -> Result<()> {
        let owner = &self.target.owner;
        let attempted = format!("take over the loads in table \"{}\"", owner.table);
        let mut start = Start { committed, first_handle, has_asked: false };
        let taking =
            self.link.repeat(&attempted, false, async |session: &mut Session, in_doubt: &mut Option<Committed>| {
                load::take_over(session, owner, &mut start, in_doubt).await
            });
        self.runtime.block_on(taking)
    }

    fn load(&mut self, staged: &[Staged]) -> Result<()> {
        let Some(last) = staged.iter().map(|one| one.epoch).max() else { return Ok(()) };
        let (target, staging) = (&self.target, &self.staging);
        let attempted = format!("load epoch {last} into table \"{}\"", target.table);
        let loader = Loader { target, staging, run_copy: &*self.run_copy, clock: &WallClock };
        let loading =
            self.link.repeat(&attempted, false, async |session: &mut Session, in_doubt: &mut Option<Committed>| {
                loader.load(session, staged, in_doubt).await
            });
        let done = self.runtime.block_on(loading)?;
        self.done = Some(last);
        done.tell(&self.link.metrics, &self.step, &target.table);
        if !self.keeps_files {
            let files = staged.iter().flat_map(|one| one.handle.files.iter().map(|file| file.key.clone()));
            let of_load = |what: &str| staging.of_load(target.owner.incarnation, last, what);
            let of_load = ["0.manifest", "rejected.json.gz", "rejected.manifest"].map(of_load);
            self.runtime.block_on(staging.remove(files.chain(of_load)));
        }
        Ok(())
    }

    fn settle_last_start(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        fail_point!("sink-redshift::before-recovery", |_| Err(Error::sink("stopped before recovering")));
        let staged = permit.map_or(Ok(Vec::new()), |permit| self.due(permit, handles))?;
        let through = permit.map(CommitPermit::epoch).max(self.committed);
        self.take_over(staged.first().map(|one| one.epoch), through)?;
        fail_point!("sink-redshift::after-takeover", |_| Err(Error::sink("stopped after taking over")));
        self.load(&staged)?;
        if !self.keeps_files {
            self.runtime.block_on(self.staging.sweep(self.target.owner.incarnation));
        }
        Ok(())
    }
}

impl Committer for LoadCommitter {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        self.settle_last_start(permit, handles).map_err(|error| error.in_step(&self.step))
    }

    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        let staged = self.due(permit, handles);
        staged.and_then(|staged| self.load(&staged)).map_err(|error| error.in_step(&self.step))
    }
}
