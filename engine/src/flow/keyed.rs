//! Records with a key: what keyed state is built on.

use std::rc::Rc;
use std::time::Duration;

use super::graph::{Node, NodeId};
use super::{Inner, Running, Stream, Windowed};
use crate::operators::{self, Dedupe, KeyedFlow, KeyedLogic, ProcessStep};
use crate::state::codec;
use crate::vocabulary::{Key, Record, shown};
use crate::window::Windowing;

/// A stream of records with a key each.
#[must_use = "a keyed stream does nothing by itself"]
pub struct KeyedStream<'scope, K, T> {
    pub(super) inner: Rc<Inner<'scope>>,
    pub(super) node: NodeId,
    pub(super) stream: KeyedFlow<'scope, K, T>,
}

impl<'scope, K: Key, T: Record> KeyedStream<'scope, K, T> {
    /// Lets an id pass once per key within `horizon` of event time.
    ///
    /// A record is dropped when one with the same key and id was accepted before it, less than `horizon` away in event
    /// time, and its split's watermark has not passed that one's event time plus `horizon`. State: about 31 bytes an id in
    /// memory, until the watermark has passed its event time plus `horizon`.
    ///
    /// Of an id that is accepted again while it is remembered, only the later event time is remembered from then on: a third
    /// record, near the first one, passes. It takes a `horizon` shorter than the event-time lag, or a gap in the split's
    /// time that is longer than the horizon; in the latter case that third record is later than any other.
    ///
    /// The horizon may change between starts. A longer one remembers from then on: what a shorter one had forgotten stays
    /// forgotten.
    pub fn dedupe<I: Key>(self, name: &str, id: impl Fn(&T) -> I + Send + Sync + 'static, horizon: Duration) -> Self {
        let inner = &self.inner;
        let step = inner.register(name, "dedupe");
        let node = inner.node(|| {
            Node::keyed("dedupe", &step, &self.stream).from(self.node).detail(format!("horizon {}", shown(horizon)))
        });
        let write_id = move |record: &T, bytes: &mut Vec<u8>| codec::encode_into(&id(record), bytes);
        let dedupe = Dedupe { name: step.clone(), id: Box::new(write_id), horizon };
        let built = operators::dedupe(&inner.context, inner.scope.index(), self.stream, dedupe);
        let (stream, _nothing) = inner.stateful(&step, built);
        Self { inner: self.inner, node, stream: KeyedFlow::Together(stream) }
    }

    /// Assigns each record to its windows. Their grace may change between starts, size and slide may not: with others, the
    /// step needs another name.
    pub fn window(self, windows: impl Windowing) -> Windowed<'scope, K, T> {
        Windowed { inner: self.inner, node: self.node, stream: self.stream, spec: windows.spec() }
    }

    /// Aggregates the records of each key without end, in no windows: running counts, totals, bills.
    pub fn running(self) -> Running<'scope, K, T> {
        Running { inner: self.inner, node: self.node, stream: self.stream }
    }

    /// Gives each record to logic of your own, with state and timers a key: for what windows and dedupe do not cover.
    pub fn process<L: KeyedLogic<K, T>>(self, name: &str, logic: L) -> Stream<'scope, L::Out> {
        let inner = &self.inner;
        let step = inner.register(name, "process");
        let node = inner.node(|| Node::keyed("process", &step, &self.stream).from(self.node));
        let process = ProcessStep { name: step.clone(), logic };
        let built = operators::process(&inner.context, inner.scope.index(), self.stream, process);
        let (stream, _nothing) = inner.stateful(&step, built);
        Stream { inner: self.inner, node, stream }
    }
}
