//! Keyed records without windows: what each key's records have come to so far.

use std::rc::Rc;

use super::graph::{Node, NodeId};
use super::{Inner, Stream};
use crate::operators::{self, Fold, KeyedFlow, RunningResult, RunningStep};
use crate::vocabulary::{Key, Record, State};
use crate::window::aggregate::{self, Aggregate};

/// Keyed records that are aggregated without end. State: one accumulator a key, for ever; what does not fit into the job's
/// memory for state lies on disk and is read back when its key comes again.
#[must_use = "nothing is computed until it is said what"]
pub struct Running<'scope, K, T> {
    pub(super) inner: Rc<Inner<'scope>>,
    pub(super) node: NodeId,
    pub(super) stream: KeyedFlow<'scope, K, T>,
}

impl<'scope, K: Key, T: Record> Running<'scope, K, T> {
    /// Folds the records of each key, in the order in which their split delivered them. Each record gives a result.
    pub fn fold<A: State>(
        self,
        name: &str,
        empty: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&mut A, &T) + Send + Sync + 'static,
    ) -> Stream<'scope, RunningResult<K, A>> {
        self.build(name, Fold::plain(empty, add))
    }

    /// Folds by a built-in or a user's [`Aggregate`]. Each record gives a result.
    pub fn aggregate<G: Aggregate<T>>(self, name: &str, aggregate: G) -> Stream<'scope, RunningResult<K, G::Out>>
    where
        G::Out: Clone + 'static,
    {
        self.build(name, Fold::of(aggregate))
    }

    /// Counts.
    pub fn count(self, name: &str) -> Stream<'scope, RunningResult<K, u64>> {
        self.aggregate(name, aggregate::count())
    }

    /// Sums, exactly: 128 bits never overflow.
    pub fn sum(
        self,
        name: &str,
        value: impl Fn(&T) -> u64 + Send + Sync + 'static,
    ) -> Stream<'scope, RunningResult<K, u128>> {
        self.aggregate(name, aggregate::sum(value))
    }

    fn build<A: State, V: Clone + 'static>(
        self,
        name: &str,
        fold: Fold<A, T, V>,
    ) -> Stream<'scope, RunningResult<K, V>> {
        let Self { inner, node, stream } = self;
        let step = inner.register(name, "running");
        let node = inner.node(|| Node::keyed("running", &step, &stream).from(node));
        let running = RunningStep { name: step.clone(), fold };
        let built = operators::running(&inner.context, inner.scope.index(), stream, running);
        let (stream, _nothing) = inner.stateful(&step, built);
        Stream { inner, node, stream }
    }
}
