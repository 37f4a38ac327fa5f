//! Hands over what is committed, and knows when to wait no longer.

use serde::de::DeserializeOwned;
use shardflow::sink::{CommitPermit, Committer, StagedHandle};
use shardflow::vocabulary::StepName;
use shardflow::{Epoch, Error, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::start::Life;
use super::{Handed, Settings, gone, handle};

/// Hands over an epoch's records when it is committed.
pub(super) struct HandsOver<T> {
    step: StepName,
    sender: Sender<Handed<T>>,
    settings: Settings,
    runtime: Handle,
    life: Life,
    /// The last epoch that this start handed over: the engine may ask twice.
    handed: Option<Epoch>,
    /// How many records nobody was there for.
    dropped: u64,
}

impl<T: DeserializeOwned + Send + 'static> HandsOver<T> {
    pub(super) fn new(
        step: StepName,
        sender: Sender<Handed<T>>,
        settings: Settings,
        runtime: Handle,
        life: Life,
    ) -> Self {
        Self { step, sender, settings, runtime, life, handed: None, dropped: 0 }
    }

    fn hand_over_all(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        let new = |epoch| epoch <= permit.epoch() && self.handed.is_none_or(|handed| epoch > handed);
        let mut handles: Vec<&StagedHandle> = handles.iter().filter(|handle| new(handle.epoch)).collect();
        handles.sort_by_key(|handle| (handle.epoch, handle.worker));
        for StagedHandle { epoch, worker, handle } in &handles {
            for (index, record) in (0..).zip(handle::open(handle)?) {
                self.hand_over(Handed { record, step: self.step.clone(), epoch: *epoch, worker: *worker, index })?;
            }
        }
        if let Some(last) = handles.last() {
            self.handed = Some(last.epoch);
        }
        Ok(())
    }

    fn hand_over(&mut self, handed: Handed<T>) -> Result<()> {
        let handed = match self.sender.try_send(handed) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return self.nobody_there(),
            Err(TrySendError::Full(handed)) => handed,
        };
        let (sender, mut life, patience) = (self.sender.clone(), self.life.clone(), self.settings.patience);
        let wait = async move {
            let given_up = async {
                // It fails where the channel has begun another start: then this one is over too.
                let _ = life.wait_for(|writers| *writers == 0).await;
                tokio::time::sleep(patience).await;
            };
            tokio::select! {
                biased;
                permit = sender.reserve() => Some(permit.map(|permit| permit.send(handed))),
                () = given_up => None,
            }
        };
        match self.runtime.block_on(wait) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => self.nobody_there(),
            None => Err(Error::sink(format!(
                "could not hand over a record: the job is ending, and the channel's receiver has taken nothing for {patience:?}; \
                 what is left is handed over by the next start"
            ))),
        }
    }

    fn nobody_there(&mut self) -> Result<()> {
        if !self.settings.drops_unreceived {
            return Err(gone(self.step.as_str()));
        }
        if self.dropped == 0 {
            tracing::warn!(step = %self.step, "a channel's receiver is dropped: its records are dropped from here on");
        }
        self.dropped = self.dropped.saturating_add(1);
        Ok(())
    }
}

impl<T: DeserializeOwned + Send + 'static> Committer for HandsOver<T> {
    fn recover(&mut self, permit: Option<&CommitPermit>, handles: &[StagedHandle]) -> Result<()> {
        permit.map_or(Ok(()), |permit| self.commit(permit, handles))
    }

    fn commit(&mut self, permit: &CommitPermit, handles: &[StagedHandle]) -> Result<()> {
        self.hand_over_all(permit, handles).map_err(|error| error.in_step(self.step.as_str()))
    }

    fn close(&mut self) -> Result<()> {
        if self.dropped > 0 {
            tracing::warn!(step = %self.step, records = self.dropped, "records were dropped, since their receiver was");
        }
        Ok(())
    }
}
