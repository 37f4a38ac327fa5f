//! Builds a program on nothing: to learn its steps and find its mistakes before anything is touched, and to explain it.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::communication::allocator::thread::Thread;
use timely::worker::Worker;

use super::config::JobConfig;
use super::memory;
use super::worker::{self, Program};
use crate::error::{Error, Result};
use crate::exchange::KeyGroups;
use crate::flow::Graph;
use crate::operators::context::{JobContext, Plan, PlannedSink, Settled, lock};
use crate::operators::naming_panics;
use crate::snapshot::Recovered;
use crate::vocabulary::{Incarnation, shown};

/// What a start needs of the program, and what people want to see of it.
///
/// # Errors
/// Mistakes of the program.
pub(super) fn plan(config: &JobConfig, program: &Program) -> Result<(Plan, Graph)> {
    let recovered = Recovered {
        committed: None,
        incarnation: Incarnation::default(),
        key_groups: config.key_groups,
        secret: [0; 16],
        steps: Vec::new(),
        handles: BTreeMap::new(),
    };
    let groups = KeyGroups::new(config.key_groups)?;
    let context = Arc::new(JobContext::new(settled(config, groups, &recovered), None));
    let mut worker = Worker::new(WorkerConfig::default(), Allocator::Thread(Thread::default()), None);
    let graph = worker::build(&mut worker, &context, program);
    if let Some(error) = context.take_failure() {
        return Err(error);
    }
    let mut plan = std::mem::take(&mut *lock(&context.plan));
    match plan.error.take() {
        Some(error) => Err(error),
        None if plan.sources.is_empty() => Err(Error::config("the program has no source")),
        None => Ok((plan, graph)),
    }
}

pub(super) fn settled(config: &JobConfig, groups: KeyGroups, recovered: &Recovered) -> Settled {
    Settled {
        job: config.name.clone(),
        workers: config.workers,
        groups,
        secret: recovered.secret,
        incarnation: recovered.incarnation,
        committed: recovered.committed,
        max_open_epochs: config.max_open_epochs as u64,
        in_flight_bytes: config.in_flight_bytes,
        state_memory: config.state_memory.unwrap_or_else(memory::for_state),
        rebalance: config.rebalance,
    }
}

/// The text of [`Job::explain`](super::Job::explain).
///
/// # Errors
/// Mistakes of the program. A panic in what a source or a sink says of itself.
pub(super) fn explain(config: &JobConfig, program: &Program) -> Result<String> {
    let (plan, mut graph) = plan(config, program)?;
    for (step, source) in &plan.sources {
        graph.describe(step, naming_panics(step.as_str(), || Ok(source.identity()))?);
    }
    for PlannedSink { step, describe, .. } in &plan.sinks {
        graph.describe(step, naming_panics(step.as_str(), || Ok(describe()))?);
    }
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (workers, groups) = (counted(config.workers, "worker"), counted(config.key_groups.into(), "key group"));
    let (name, epoch) = (&config.name, shown(config.epoch));
    Ok(format!("job \"{name}\": {workers}, {groups}, epochs of {epoch}{graph}"))
}
