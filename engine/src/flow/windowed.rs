//! Records in windows: what they are folded into, and what becomes of those that come too late.

use std::rc::Rc;

use super::graph::{Node, NodeId};
use super::{Inner, Stream};
use serde::Serialize;

use crate::error::Result;
use crate::operators::{self, Fold, KeyedFlow, WindowResult, WindowStep};
use crate::sink::Sink;
use crate::vocabulary::{Key, Record, State, shown};
use crate::window::WindowSpec;
use crate::window::aggregate::{self, Aggregate};

/// Keyed records in windows. What becomes of late ones must be said before they can be folded.
#[must_use = "windows do nothing until they are folded"]
pub struct Windowed<'scope, K, T> {
    pub(super) inner: Rc<Inner<'scope>>,
    pub(super) node: NodeId,
    pub(super) stream: KeyedFlow<'scope, K, T>,
    pub(super) spec: Result<WindowSpec>,
}

type TakeLate<'scope, T> = Box<dyn FnOnce(Stream<'scope, T>) + 'scope>;

impl<'scope, K: Key, T: Record> Windowed<'scope, K, T> {
    /// Writes late records to `sink`, as they came. A record is late when every window it belongs to has been closed.
    pub fn late_to(self, name: &str, sink: impl Sink<T>) -> OnTime<'scope, K, T> {
        let name = name.to_owned();
        self.late_with(move |late| late.sink(&name, sink))
    }

    /// Gives late records to `take`.
    pub fn late_with(self, take: impl FnOnce(Stream<'scope, T>) + 'scope) -> OnTime<'scope, K, T> {
        OnTime { windowed: self, take_late: Box::new(take) }
    }

    /// Drops late records. They are counted in the metric `shardflow_late_total`.
    pub fn discard_late(self) -> OnTime<'scope, K, T> {
        self.late_with(drop)
    }
}

/// Keyed records in windows, with late ones provided for.
#[must_use = "windows do nothing until they are folded"]
pub struct OnTime<'scope, K, T> {
    windowed: Windowed<'scope, K, T>,
    take_late: TakeLate<'scope, T>,
}

impl<'scope, K: Key, T: Record> OnTime<'scope, K, T> {
    /// Folds the records of each key and window, in the order in which their split delivered them. The result comes
    /// once, when event time has passed the window's end plus grace.
    ///
    /// A record is added to each of its windows. Where windows overlap, [`aggregate`](Self::aggregate) adds it only once.
    pub fn fold<A: State>(
        self,
        name: &str,
        empty: impl Fn() -> A + Send + Sync + 'static,
        add: impl Fn(&mut A, &T) + Send + Sync + 'static,
    ) -> Stream<'scope, WindowResult<K, A>> {
        self.build(name, Fold::plain(empty, add))
    }

    /// Folds by a built-in or a user's [`Aggregate`].
    ///
    /// Where windows overlap, a record is added once, to what it shares with the records that count in the same windows
    /// (its pane), and a window is [merged](Aggregate::merge) of its panes when it closes, in the order of time. So it
    /// makes no difference to the work how often windows begin, but the records of a window are taken pane by pane, and only
    /// within one in the order in which their split delivered them.
    pub fn aggregate<G: Aggregate<T>>(self, name: &str, aggregate: G) -> Stream<'scope, WindowResult<K, G::Out>>
    where
        G::Out: Clone + 'static,
    {
        self.build(name, Fold::of(aggregate))
    }

    /// Counts.
    pub fn count(self, name: &str) -> Stream<'scope, WindowResult<K, u64>> {
        self.aggregate(name, aggregate::count())
    }

    /// Sums, exactly: 128 bits never overflow.
    pub fn sum(
        self,
        name: &str,
        value: impl Fn(&T) -> u64 + Send + Sync + 'static,
    ) -> Stream<'scope, WindowResult<K, u128>> {
        self.aggregate(name, aggregate::sum(value))
    }

    /// The least value.
    pub fn min<V: State + Ord>(
        self,
        name: &str,
        value: impl Fn(&T) -> V + Send + Sync + 'static,
    ) -> Stream<'scope, WindowResult<K, Option<V>>> {
        self.aggregate(name, aggregate::min(value))
    }

    /// The greatest value.
    pub fn max<V: State + Ord>(
        self,
        name: &str,
        value: impl Fn(&T) -> V + Send + Sync + 'static,
    ) -> Stream<'scope, WindowResult<K, Option<V>>> {
        self.aggregate(name, aggregate::max(value))
    }

    /// The arithmetic mean.
    pub fn mean(
        self,
        name: &str,
        value: impl Fn(&T) -> f64 + Send + Sync + 'static,
    ) -> Stream<'scope, WindowResult<K, Option<f64>>> {
        self.aggregate(name, aggregate::mean(value))
    }

    /// How many distinct values there are, estimated by HyperLogLog (see [`aggregate::distinct`] for the error).
    pub fn distinct<H: Serialize + 'static>(
        self,
        name: &str,
        value: impl Fn(&T) -> H + Send + Sync + 'static,
    ) -> Stream<'scope, WindowResult<K, u64>> {
        self.aggregate(name, aggregate::distinct(value))
    }

    fn build<A: State, V: Clone + 'static>(
        self,
        name: &str,
        fold: Fold<A, T, V>,
    ) -> Stream<'scope, WindowResult<K, V>> {
        let Self { windowed: Windowed { inner, node, stream, spec }, take_late } = self;
        // Other windows are another step: old and new ones side by side would charge one time twice.
        let kind = spec.as_ref().map_or_else(|_| "windows".to_owned(), |spec| fold.kind(spec));
        let step = inner.register(name, &kind);
        let node = inner.node(|| {
            // Where there is none, the plan ends with what is wrong with it.
            let detail = spec.as_ref().map(detail).unwrap_or_default();
            Node::keyed("window", &step, &stream).from(node).detail(detail)
        });
        let built = spec.and_then(|spec| {
            let window = WindowStep { name: step.clone(), spec, fold };
            operators::window(&inner.context, inner.scope.index(), stream, window)
        });
        let (results, late) = inner.stateful(&step, built);
        let late_node = inner.node(|| Node::new("late").from(node));
        take_late(Stream { inner: Rc::clone(&inner), node: late_node, stream: late });
        Stream { inner, node, stream: results }
    }
}

/// Windows as people describe them.
fn detail(spec: &WindowSpec) -> String {
    let (size, grace) = (shown(spec.size()), shown(spec.grace()));
    match spec.slide() == spec.size() {
        true => format!("size {size}, grace {grace}"),
        false => format!("size {size}, slide {}, grace {grace}", shown(spec.slide())),
    }
}
