//! Operators without state: they pass every message on at its own stamp, whatever its epoch.

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::progress::operate::FrontierInterest;

use super::context::JobContext;
use super::guard::guarded;
use super::{Flowing, SplitMessage, Time};
use crate::error::Result;
use crate::vocabulary::SplitId;

/// Applies `logic` to each container. An empty result sends nothing.
pub(crate) fn unary<'scope, A: 'static, B: 'static>(
    context: &Arc<JobContext>,
    name: String,
    stream: Flowing<'scope, A>,
    mut logic: impl FnMut(Vec<A>) -> Result<Vec<B>> + 'static,
) -> Flowing<'scope, B> {
    let mut builder = OperatorBuilder::new(name.clone(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    let (output, result) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<B>>>::from(output);
    builder.set_notify_for(0, FrontierInterest::Never);
    let context = Arc::clone(context);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            guarded(&context, &name, || {
                let mut outcome = Ok(());
                let mut output = output.activate();
                input.for_each(|capability, data| {
                    if outcome.is_ok() {
                        match logic(std::mem::take(data)) {
                            Ok(mut made) => output.session(&capability).give_container(&mut made),
                            Err(error) => outcome = Err(error),
                        }
                    }
                });
                outcome
            });
        }
    });
    result
}

/// Applies `logic` to each batch of records of a split, and passes on what becomes of splits.
pub(crate) fn per_batch<'scope, A: 'static, B: 'static>(
    context: &Arc<JobContext>,
    name: String,
    stream: Flowing<'scope, SplitMessage<Vec<A>>>,
    mut logic: impl FnMut(&Arc<SplitId>, Vec<A>) -> Vec<B> + 'static,
) -> Flowing<'scope, SplitMessage<Vec<B>>> {
    unary(context, name, stream, move |messages| {
        Ok(messages.into_iter().map(|message| message.map_batch(&mut logic)).collect())
    })
}

/// Sends each record to the first stream where `logic` says so, else to the second.
pub(crate) fn split<'scope, A: 'static>(
    context: &Arc<JobContext>,
    name: String,
    stream: Flowing<'scope, A>,
    logic: impl Fn(&A) -> bool + 'static,
) -> (Flowing<'scope, A>, Flowing<'scope, A>) {
    let mut builder = OperatorBuilder::new(name.clone(), stream.scope());
    let mut input = builder.new_input(stream, Pipeline);
    let (yes, matching) = builder.new_output();
    let (no, other) = builder.new_output();
    let mut yes = OutputBuilder::<_, CapacityContainerBuilder<Vec<A>>>::from(yes);
    let mut no = OutputBuilder::<_, CapacityContainerBuilder<Vec<A>>>::from(no);
    builder.set_notify_for(0, FrontierInterest::Never);
    let context = Arc::clone(context);
    builder.build(move |_capabilities| {
        move |_frontiers| {
            guarded(&context, &name, || {
                let (mut yes, mut no) = (yes.activate(), no.activate());
                input.for_each(|capability, data| {
                    let (mut matching, mut other): (Vec<_>, Vec<_>) = data.drain(..).partition(|record| logic(record));
                    yes.session(&capability).give_container(&mut matching);
                    no.session(&capability).give_container(&mut other);
                });
                Ok(())
            });
        }
    });
    (matching, other)
}

/// A stream on which nothing ever comes: what stands in for a step that could not be built, in a job that has failed.
pub(crate) fn nothing<'scope, A: 'static>(scope: Scope<'scope, Time>) -> Flowing<'scope, A> {
    let mut builder = OperatorBuilder::new("nothing".to_owned(), scope);
    let (_output, stream) = builder.new_output();
    builder.build(|_capabilities| |_frontiers| {});
    stream
}
