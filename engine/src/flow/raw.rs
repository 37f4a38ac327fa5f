//! Records before they have event time.

use std::rc::Rc;

use super::graph::{Node, NodeId};
use super::{Inner, Origin, Stream};
use crate::decode::{Decoder, Rejected};
use crate::event_time::Lag;
use crate::operators::{self, Flowing, SplitMessage, by_split, from_rejects};
use crate::sink::Sink;
use crate::source::RawBatch;
use crate::vocabulary::{Event, EventTime, shown};

/// Raw records of a source.
#[must_use = "a source that is not decoded is read and dropped"]
pub struct Raw<'scope> {
    pub(super) inner: Rc<Inner<'scope>>,
    pub(super) node: NodeId,
    pub(super) origin: Origin,
    pub(super) stream: Flowing<'scope, SplitMessage<RawBatch>>,
}

impl<'scope> Raw<'scope> {
    /// Decodes each record. Gives the values, and the records that could not be decoded, each with its reason and place.
    #[must_use = "both the values and the rejected records want a place to go"]
    pub fn decode<D: Decoder>(self, decoder: D) -> (Untimed<'scope, D::Output>, Rejects<'scope, Rejected>) {
        let Origin { step, hub } = &self.origin;
        // Nothing comes where a plan is made.
        let source = hub.as_ref().map_or_else(|| "".into(), |hub| hub.input());
        let (good, bad) = operators::decode(&self.inner.context, step, source, self.stream, decoder);
        let node = self.inner.node(|| Node::new("decode").from(self.node));
        let rejected = self.inner.node(|| Node::new("rejected").from(node));
        let rejects = Rejects { inner: Rc::clone(&self.inner), node: rejected, stream: bad };
        (Untimed { inner: self.inner, node, origin: self.origin, stream: good }, rejects)
    }
}

/// Decoded records that have no event time yet.
#[must_use = "records without a sink are read and dropped"]
pub struct Untimed<'scope, T> {
    inner: Rc<Inner<'scope>>,
    node: NodeId,
    origin: Origin,
    stream: operators::SplitEvents<'scope, T>,
}

impl<'scope, T: Clone + Send + Sync + 'static> Untimed<'scope, T> {
    /// Makes one record of each.
    pub fn map<U: 'static>(self, logic: impl Fn(T) -> U + Send + Sync + 'static) -> Untimed<'scope, U> {
        self.per_batch("map", move |batch| batch.into_iter().map(|event| Event::untimed(logic(event.value))).collect())
    }

    /// Keeps the records for which `logic` is true.
    pub fn filter(self, logic: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.per_batch("filter", move |mut batch| {
            batch.retain(|event| logic(&event.value));
            batch
        })
    }

    /// Makes any number of records of each.
    pub fn flat_map<U: 'static, I: IntoIterator<Item = U>>(
        self,
        logic: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> Untimed<'scope, U> {
        self.per_batch("flat_map", move |batch| {
            batch.into_iter().flat_map(|event| logic(event.value)).map(Event::untimed).collect()
        })
    }

    /// Looks at each record.
    pub fn inspect(self, logic: impl Fn(&T) + Send + Sync + 'static) -> Self {
        self.per_batch("inspect", move |batch| {
            batch.iter().for_each(|event| logic(&event.value));
            batch
        })
    }

    /// Gives each record its event time, and lets time move as far as the slowest split allows, less `lag`.
    pub fn event_time(self, extract: impl Fn(&T) -> EventTime + Send + Sync + 'static, lag: Lag) -> Stream<'scope, T> {
        let Origin { step, hub } = self.origin;
        let context = &self.inner.context;
        let node = self.inner.node(|| {
            let idle = lag.idle_limit().map(|limit| format!("a split is idle after {}", shown(limit)));
            let idle = idle.unwrap_or_else(|| "no split is ever idle".to_owned());
            let detail = format!("lag {}, {idle}", shown(lag.bound()));
            Node::new("event time").from(self.node).keeping("watermarks").detail(detail)
        });
        let (events, control) = operators::event_time(context, &step, hub, self.stream, Box::new(extract), lag);
        self.inner.register_event_time(&step);
        self.inner.add_control(control);
        Stream { inner: self.inner, node, stream: events }
    }

    /// Writes each record to `sink`.
    pub fn sink(self, name: &str, sink: impl Sink<T>) {
        self.inner.sink(name, (self.stream, self.node), sink, by_split);
    }

    fn per_batch<U: 'static>(
        self,
        operation: &str,
        logic: impl Fn(Vec<Event<T>>) -> Vec<Event<U>> + Send + Sync + 'static,
    ) -> Untimed<'scope, U> {
        let name = self.inner.unnamed(operation);
        let node = self.inner.node(|| Node::new(&name).from(self.node));
        let stream = operators::per_batch(&self.inner.context, name, self.stream, move |_split, batch| logic(batch));
        Untimed { inner: self.inner, node, origin: self.origin, stream }
    }
}

/// Records that are on their way out, beside the stream: what a decoder rejected.
#[must_use = "records without a sink are dropped"]
pub struct Rejects<'scope, T> {
    inner: Rc<Inner<'scope>>,
    node: NodeId,
    stream: Flowing<'scope, SplitMessage<Vec<T>>>,
}

impl<'scope, T: Clone + Send + Sync + 'static> Rejects<'scope, T> {
    /// Makes one record of each.
    pub fn map<U: 'static>(self, logic: impl Fn(T) -> U + Send + Sync + 'static) -> Rejects<'scope, U> {
        let name = self.inner.unnamed("map");
        let node = self.inner.node(|| Node::new(&name).from(self.node));
        let each = move |_split: &_, batch: Vec<T>| batch.into_iter().map(&logic).collect();
        let stream = operators::per_batch(&self.inner.context, name, self.stream, each);
        Rejects { inner: self.inner, node, stream }
    }

    /// Writes each record to `sink`.
    pub fn sink(self, name: &str, sink: impl Sink<T>) {
        self.inner.sink(name, (self.stream, self.node), sink, from_rejects);
    }
}
