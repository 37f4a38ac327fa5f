//! The commit operator, in the outer scope: collects the parts of each epoch, and says when an epoch is whole.
//!
//! Every worker hands its own parts to the commit thread. The frontier is timely's, so it counts the parts of all workers:
//! when it has passed an epoch on the first worker, every part of it has been handed over everywhere.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::context::JobContext;
use super::control::{CommitMessage, Control};
use super::guard::guarded;
use crate::vocabulary::Epoch;

/// Builds the commit operator over all control streams. Without a sender (in a plan) it does nothing.
pub(crate) fn commit(
    context: &Arc<JobContext>,
    control: Stream<'_, u64, Vec<Control>>,
    sender: Option<Sender<CommitMessage>>,
) {
    let reports = control.scope().index() == 0;
    let mut builder = OperatorBuilder::new("commit".to_owned(), control.scope());
    let mut input = builder.new_input(control, Pipeline);
    let context = Arc::clone(context);
    let mut closed = Some(context.first_epoch);
    builder.build(move |_capabilities| {
        move |frontiers| {
            let Some(sender) = &sender else { return };
            guarded(&context, "commit", || {
                input.for_each(|capability, data| {
                    let epoch = Epoch::new(*capability.stamp().expect_singleton());
                    for part in data.drain(..) {
                        // The thread is gone only when the job has failed.
                        let _ = sender.send(CommitMessage::Part { epoch, part });
                    }
                });
                let Some(frontier) = frontiers.first() else { return Ok(()) };
                let open = frontier.frontier().iter().min().copied().map(Epoch::new);
                if reports && closed.is_some() && (open.is_none() || open > closed) {
                    closed = open;
                    let _ = sender.send(CommitMessage::Closed { open });
                }
                Ok(())
            });
        }
    });
}
