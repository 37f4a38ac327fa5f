//! Records with event time.

use std::rc::Rc;

use timely::dataflow::operators::Concat;

use super::graph::{Node, NodeId};
use super::{Inner, KeyedStream};
use crate::operators::{self, Flowing, KeyedFlow, by_value};
use crate::sink::Sink;
use crate::vocabulary::{Event, Key, Record};

/// A stream of records with event time.
///
/// Cloning it gives a second stream of the same records.
#[must_use = "records without a sink are dropped"]
pub struct Stream<'scope, T> {
    pub(super) inner: Rc<Inner<'scope>>,
    pub(super) node: NodeId,
    pub(super) stream: Flowing<'scope, Event<T>>,
}

impl<T: Clone + 'static> Clone for Stream<'_, T> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner), node: self.node, stream: self.stream.clone() }
    }
}

impl<'scope, T: 'static> Stream<'scope, T> {
    /// Makes one record of each, at the same event time.
    pub fn map<U: 'static>(self, logic: impl Fn(T) -> U + Send + Sync + 'static) -> Stream<'scope, U> {
        let map = move |Event { at, watermark, value }| Event { at, watermark, value: logic(value) };
        self.per_container("map", move |events| events.into_iter().map(&map).collect())
    }

    /// Keeps the records for which `logic` is true.
    pub fn filter(self, logic: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.per_container("filter", move |mut events| {
            events.retain(|event| logic(&event.value));
            events
        })
    }

    /// Makes any number of records of each, at the same event time.
    pub fn flat_map<U: 'static, I: IntoIterator<Item = U>>(
        self,
        logic: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> Stream<'scope, U> {
        self.per_container("flat_map", move |events| {
            let mut made = Vec::with_capacity(events.len());
            for Event { at, watermark, value } in events {
                made.extend(logic(value).into_iter().map(|value| Event { at, watermark, value }));
            }
            made
        })
    }

    /// Looks at each record.
    pub fn inspect(self, logic: impl Fn(&T) + Send + Sync + 'static) -> Self {
        self.per_container("inspect", move |events| {
            events.iter().for_each(|event| logic(&event.value));
            events
        })
    }

    /// The records of both streams.
    pub fn union(self, other: Self) -> Self {
        let node = self.inner.node(|| Node::new("union").from(self.node).from(other.node));
        Self { inner: self.inner, node, stream: self.stream.concat(other.stream) }
    }

    /// Splits by `predicate`: the records for which it is true, and all others.
    pub fn split(self, predicate: impl Fn(&T) -> bool + Send + Sync + 'static) -> (Self, Self) {
        let name = self.inner.unnamed("split");
        let node = self.inner.node(|| Node::new(&name).from(self.node));
        let others = self.inner.node(|| Node::new(format!("others of {name}")).from(node));
        let each = move |event: &Event<T>| predicate(&event.value);
        let (matching, other) = operators::split(&self.inner.context, name, self.stream, each);
        let matching = Self { inner: Rc::clone(&self.inner), node, stream: matching };
        (matching, Self { inner: self.inner, node: others, stream: other })
    }

    /// Keys each record. Records of one key meet on one worker, in the order in which their split delivered them.
    pub fn key_by<K: Key>(self, selector: impl Fn(&T) -> K + Send + Sync + 'static) -> KeyedStream<'scope, K, T>
    where
        T: Record,
    {
        let name = self.inner.unnamed("key_by");
        let node = self.inner.node(|| Node::new(&name).from(self.node));
        let stream = KeyedFlow::Apart { name, stream: self.stream, selector: Box::new(selector) };
        KeyedStream { inner: self.inner, node, stream }
    }

    /// Writes each record to `sink`.
    pub fn sink(self, name: &str, sink: impl Sink<T>) {
        self.inner.sink(name, (self.stream, self.node), sink, by_value);
    }

    fn per_container<U: 'static>(
        self,
        operation: &str,
        logic: impl Fn(Vec<Event<T>>) -> Vec<Event<U>> + 'static,
    ) -> Stream<'scope, U> {
        let name = self.inner.unnamed(operation);
        let node = self.inner.node(|| Node::new(&name).from(self.node));
        let stream = operators::unary(&self.inner.context, name, self.stream, move |events| Ok(logic(events)));
        Stream { inner: self.inner, node, stream }
    }
}
