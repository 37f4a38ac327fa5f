//! What a start may use, what it commits again, when to fold: decisions about plain values, without any I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{EpochRecord, Folded, IdentityRecord, Marker, StepInfo, StepRecord};
use super::tuning::Tuning;
use crate::error::{Error, Result};
use crate::sink::StagedHandle;
use crate::vocabulary::{Epoch, StepName};

/// What the file `committed` says.
#[derive(Debug)]
pub(super) enum Witness {
    Missing,
    Damaged(Error),
    Says(Marker),
}

/// Whether the epoch in the database may be used. `accepted` are the epochs that the user accepts though others are lost.
///
/// A marker behind the database is the trace of a kill between the two writes. One ahead of it means that epochs are
/// lost whose results may be visible.
pub(super) fn may_resume(stored: Option<Epoch>, witness: &Witness, accepted: &BTreeSet<Epoch>) -> Result<()> {
    let Some(stored) = stored else {
        return match witness {
            Witness::Says(Marker { epoch: Some(last), .. }) => Err(Error::state(format!(
                "it lost all epochs up to {last}, whose results may be visible: to start from nothing all the same, remove the folder"
            ))),
            _ => Ok(()),
        };
    };
    let error = match witness {
        Witness::Says(Marker { epoch: None, .. }) => return Ok(()),
        Witness::Says(Marker { epoch: Some(last), .. }) if *last <= stored => return Ok(()),
        Witness::Says(Marker { epoch: Some(last), .. }) => {
            Error::state(format!("it lost epochs {} to {last}, whose results may be visible", stored.next()))
        }
        Witness::Missing => {
            Error::state("its file \"committed\" is missing, so nobody can tell whether epochs are lost")
        }
        Witness::Damaged(error) => Error::state("nobody can tell whether epochs are lost").caused_by(error.to_string()),
    };
    if accepted.contains(&stored) {
        return Ok(());
    }
    let advice =
        format!("to go on from epoch {stored} all the same, create the empty file \"accept-epoch-{stored}\" in it");
    Err(Error::state(error.to_string()).caused_by(advice))
}

/// Whether the folder is this job's.
pub(super) fn is_ours(found: &str, wanted: &str) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::state(format!("it belongs to the job \"{found}\", not to \"{wanted}\"")))
}

/// Whether the records of the database fit each other: one job, and a chain of epochs without a gap.
pub(super) fn check_chain(
    identity: &IdentityRecord,
    job: &str,
    steps: &[StepRecord],
    folded: Folded,
    chain: &[EpochRecord],
) -> Result<()> {
    is_ours(&identity.job, job)?;
    if identity.key_groups == 0 {
        return Err(Error::state("it has no key groups"));
    }
    let mut previous = folded.through;
    for record in chain {
        if record.previous != previous || previous.is_some_and(|previous| previous >= record.epoch) {
            let (epoch, named) = (record.epoch, number(record.previous));
            return Err(Error::state(format!(
                "it is damaged, epoch {epoch} follows epoch {named} and epoch {} was found",
                number(previous)
            )));
        }
        if let Some(log) = record.logs.iter().find(|log| steps.iter().all(|step| step.id != log.step)) {
            return Err(Error::state(format!(
                "it is damaged, epoch {} names the unknown step {}",
                record.epoch, log.step
            )));
        }
        previous = Some(record.epoch);
    }
    // A fold leaves the newest epoch alone, so an empty chain under a base means that the chain is lost.
    match (folded.through, chain.is_empty()) {
        (Some(through), true) => Err(Error::state(format!("it is damaged, the epochs after {through} are lost"))),
        _ => Ok(()),
    }
}

fn number(epoch: Option<Epoch>) -> String {
    epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string())
}

/// The handles to commit again: all that no sink has acknowledged, by step, in the order in which they were prepared.
/// What else a sink finds staged was prepared by an epoch that was never committed, and is to be discarded.
pub(super) fn to_commit_again(pending: &[(StepName, StagedHandle)]) -> BTreeMap<StepName, Vec<StagedHandle>> {
    let mut again = BTreeMap::<StepName, Vec<StagedHandle>>::new();
    for (step, handle) in pending {
        again.entry(step.clone()).or_default().push(handle.clone());
    }
    again
}

/// The handles that stay when sinks have acknowledged epochs up to `through`.
pub(super) fn still_pending(pending: &[(StepName, StagedHandle)], through: Epoch) -> Vec<(StepName, StagedHandle)> {
    pending.iter().filter(|(_, handle)| handle.epoch > through).cloned().collect()
}

/// The step list after the program has named its steps, and the numbers of those whose state is deleted.
pub(super) fn plan_steps(
    stored: &[StepRecord],
    wanted: &[StepInfo],
    allow_dropped: bool,
) -> Result<(Vec<StepRecord>, Vec<u32>)> {
    let mut plan = stored.to_vec();
    let mut dropped = Vec::new();
    let mut names = BTreeSet::new();
    for info in wanted {
        if !names.insert(&info.name) {
            return Err(Error::config(format!("could not register step \"{}\": the name is used twice", info.name)));
        }
        match stored.iter().find(|step| !step.dropped && step.info.name == info.name) {
            Some(step) => check_step(&step.info, info)?,
            None => {
                let id = plan.iter().map(|step| step.id).max().map_or(0, |last| last.saturating_add(1));
                plan.push(StepRecord { id, info: info.clone(), dropped: false });
            }
        }
    }
    for step in plan.iter_mut().filter(|step| !step.dropped && !names.contains(&step.info.name)) {
        if !allow_dropped {
            let name = &step.info.name;
            return Err(Error::state(format!(
                "the snapshot holds state of step \"{name}\", which this program does not have: \
                 rename the step back, or let its state be dropped with --allow-dropped-state"
            )));
        }
        step.dropped = true;
        dropped.push(step.id);
    }
    Ok((plan, dropped))
}

fn check_step(stored: &StepInfo, wanted: &StepInfo) -> Result<()> {
    let refuse = |why| Err(Error::state(format!("could not restore step \"{}\": {why}", wanted.name)));
    if stored.kind != wanted.kind {
        let (theirs, ours) = (&stored.kind, &wanted.kind);
        return refuse(format!(
            "its state is of kind \"{theirs}\", this program's step is \"{ours}\": give the step another name, or go back"
        ));
    }
    match (stored.version, wanted.version) {
        (theirs, ours) if theirs > ours => {
            refuse(format!("state version {theirs} is newer than this program's {ours}"))
        }
        (theirs, ours) if theirs < ours => {
            refuse(format!("state version {theirs} is older than this program's {ours}, and nothing migrates it"))
        }
        _ => Ok(()),
    }
}

/// How many of the oldest epochs to fold now; 0: not yet. The newest is never folded, its record is the head of the chain.
pub(super) fn fold_now(tuning: &Tuning, base_bytes: u64, epochs: impl ExactSizeIterator<Item = u64>) -> usize {
    let foldable = epochs.len().saturating_sub(1);
    let bytes = epochs.fold(0_u64, u64::saturating_add);
    let room = (base_bytes / 2).clamp(tuning.fold_least, tuning.fold_most.max(tuning.fold_least));
    if bytes > room || foldable as u64 >= tuning.fold_epochs { foldable } else { 0 }
}

/// Whether what could be folded is more than there should ever be.
pub(super) fn is_behind(tuning: &Tuning, epochs: impl ExactSizeIterator<Item = u64>) -> bool {
    let foldable = epochs.len().saturating_sub(1);
    epochs.take(foldable).fold(0_u64, u64::saturating_add) > tuning.backlog_most
}

/// How many of these epochs, at least one, to fold in one go: as many as fit into a slice.
pub(super) fn slice(tuning: &Tuning, epochs: impl Iterator<Item = u64>) -> usize {
    let mut sum = 0_u64;
    let within = epochs.take_while(|bytes| {
        sum = sum.saturating_add(*bytes);
        sum <= tuning.fold_slice
    });
    within.count().max(1)
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
