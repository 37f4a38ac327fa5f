//! One worker: builds the dataflow, and steps it until the job ends, stops or fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use timely::dataflow::operators::{Concatenate, Leave};
use timely::worker::Worker;

use crate::flow::{Flow, Graph};
use crate::operators::context::JobContext;
use crate::operators::{Time, commit, panic_error};

/// A user's program.
pub(super) type Program = Arc<dyn Fn(&Flow<'_>) + Send + Sync>;

/// How long an idle worker sleeps at most before it looks whether the job has failed or stopped elsewhere.
const LOOK: Duration = Duration::from_millis(100);

/// Builds the program's dataflow: the streaming region, timed by (epoch, event time), nested in a scope timed by epoch, in
/// which the commit sees whole epochs. Of a plan it gives the steps.
pub(super) fn build(worker: &mut Worker, context: &Arc<JobContext>, program: &Program) -> Graph {
    let sender = context.running.as_ref().map(|running| running.commits.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        worker.dataflow::<u64, _, _>(|outer| {
            let (control, graph) = outer.scoped::<Time, _, _>("streaming", |region| {
                let flow = Flow::new(region, Arc::clone(context));
                program(&flow);
                let (control, graph) = flow.finish();
                (control.into_iter().map(|stream| stream.leave(outer)).collect::<Vec<_>>(), graph)
            });
            commit(context, outer.concatenate(control), sender);
            graph
        })
    }));
    outcome.unwrap_or_else(|panic| {
        context.fail(panic_error(panic.as_ref()).in_step("the program's construction"));
        Graph::default()
    })
}

/// Builds and runs. A panic outside the operators' own guards (a user's `Drop`, say) fails the job at once: the other
/// workers would wait for this one for ever.
pub(super) fn run(worker: &mut Worker, context: &Arc<JobContext>, program: &Program) {
    build(worker, context, program);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| step(worker, context))) {
        context.fail(panic_error(panic.as_ref()).in_step(format!("worker {}", worker.index())));
        drop_dataflows(worker);
    }
}

fn step(worker: &mut Worker, context: &JobContext) {
    while worker.has_dataflows() {
        if context.failed() || context.clock.stopped() {
            drop_dataflows(worker);
            return;
        }
        worker.step_or_park(Some(LOOK));
    }
}

fn drop_dataflows(worker: &mut Worker) {
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}
