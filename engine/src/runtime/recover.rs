//! What a start takes over from the last one: the sources' positions and watermarks, and the sinks' handles.

use std::collections::{BTreeMap, HashMap};

use fail::fail_point;

use crate::error::{Error, Result};
use crate::exchange::KeyGroups;
use crate::operators::context::{JobContext, Plan, PlannedSink};
use crate::operators::{IDENTITY, naming_panics};
use crate::sink::{CommitPermit, Committer};
use crate::snapshot::{Recovered, Store};
use crate::source::KnownSplits;
use crate::state::codec;
use crate::vocabulary::{EventTime, SplitId, StepName};

/// The splits of a source, and which input they are of, where that is stored.
pub(super) fn restore_splits(
    store: &Store,
    step: &StepName,
    groups: KeyGroups,
) -> Result<(KnownSplits, Option<String>)> {
    let (mut known, mut identity) = (KnownSplits::new(), None);
    store.restore(step, 0..groups.count(), &mut |_group, table, key, value| {
        if table == IDENTITY {
            identity = Some(codec::decode(value)?);
        } else {
            known.insert(split_id(key)?, codec::decode(value)?);
        }
        Ok(())
    })?;
    // Without a position there is nothing that could be of another input.
    identity = identity.filter(|_| !known.is_empty());
    Ok((known, identity))
}

/// The watermarks of a source's splits.
pub(super) fn restore_watermarks(
    store: &Store,
    step: &StepName,
    groups: KeyGroups,
) -> Result<HashMap<SplitId, EventTime>> {
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

/// Refuses a program that lacks a sink whose committed results may not be visible yet: nobody would ever show them.
pub(super) fn check_handles(plan: &Plan, recovered: &Recovered) -> Result<()> {
    let known = |step: &StepName| plan.sinks.iter().any(|sink| sink.step == *step);
    match recovered.handles.keys().find(|step| !known(step)) {
        None => Ok(()),
        Some(step) => Err(Error::state(format!(
            "sink \"{step}\" has committed results that may not be visible yet, and this program has no such sink: \
             run the program that has it once more"
        ))),
    }
}

/// Opens every sink's committer and has it commit again what the last start may not have come to.
pub(super) fn recover_sinks(
    plan: &Plan,
    context: &JobContext,
    recovered: &Recovered,
    store: &Store,
) -> Result<BTreeMap<StepName, Box<dyn Committer>>> {
    let permit = recovered.committed.map(CommitPermit::granted);
    let mut committers = BTreeMap::new();
    for PlannedSink { step, open, .. } in &plan.sinks {
        let handles = recovered.handles.get(step).map(Vec::as_slice).unwrap_or_default();
        let committer = naming_panics(step.as_str(), || {
            let running = context.running.as_ref();
            let running = running.ok_or_else(|| Error::internal("sinks are recovered by a job that runs"))?;
            let mut committer = open(&context.sink_context(running, step))?;
            committer.recover(permit.as_ref(), handles)?;
            Ok(committer)
        })?;
        fail_point!("recover::after-sink");
        committers.insert(step.clone(), committer);
    }
    if let Some(committed) = recovered.committed {
        store.acknowledge(committed)?;
    }
    fail_point!("recover::after-acknowledge");
    Ok(committers)
}
