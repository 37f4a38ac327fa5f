//! What a program consists of, a line a step, for people to read. Pure.
//!
//! *Enters*: the steps, in the order of the program, while it is planned. *Leaves*: the text of [`Job::explain`](crate::Job::explain).

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use crate::operators::KeyedFlow;
use crate::vocabulary::StepName;

/// Where records leave the program.
const SINK: &str = "sink";

/// The number of a step: what a stream carries of where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct NodeId(usize);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.saturating_add(1).fmt(f)
    }
}

/// A step.
#[derive(Debug)]
pub(crate) struct Node {
    kind: String,
    name: Option<StepName>,
    inputs: Vec<NodeId>,
    /// Whether its records come from all workers, each to the worker of its key.
    is_exchanged: bool,
    keeps: Option<&'static str>,
    detail: String,
}

impl Node {
    /// A step of this kind: `window`, or `map #1` where the user gives it no name.
    pub(crate) fn new(kind: impl Into<String>) -> Self {
        let kind = kind.into();
        Self { kind, name: None, inputs: Vec::new(), is_exchanged: false, keeps: None, detail: String::new() }
    }

    /// A sink.
    pub(crate) fn sink() -> Self {
        Self::new(SINK)
    }

    /// A step that keeps something by key. Records that are not on the worker of their key yet are sent there.
    pub(crate) fn keyed<K, T>(kind: &str, name: &StepName, records: &KeyedFlow<'_, K, T>) -> Self {
        let is_exchanged = matches!(records, KeyedFlow::Apart { .. });
        Self { is_exchanged, ..Self::new(kind).named(name).keeping("state") }
    }

    pub(crate) fn named(mut self, name: &StepName) -> Self {
        self.name = Some(name.clone());
        self
    }

    /// It takes the records of this step; of several, where it is called several times.
    pub(crate) fn from(mut self, input: NodeId) -> Self {
        self.inputs.push(input);
        self
    }

    /// What a snapshot holds of it.
    pub(crate) fn keeping(mut self, what: &'static str) -> Self {
        self.keeps = Some(what);
        self
    }

    /// What else there is to say.
    pub(crate) fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = text.into();
        self
    }
}

/// The steps of a program.
#[derive(Debug, Default)]
pub(crate) struct Graph(Vec<Node>);

impl Graph {
    /// Takes in the next step.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        self.0.push(node);
        NodeId(self.0.len().saturating_sub(1))
    }

    /// Says of the step of this name what is known only once the program is whole.
    pub(crate) fn describe(&mut self, step: &StepName, text: String) {
        if let Some(node) = self.0.iter_mut().find(|node| node.name.as_ref() == Some(step)) {
            node.detail = text;
        }
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken: BTreeSet<NodeId> = self.0.iter().flat_map(|node| node.inputs.iter().copied()).collect();
        for (number, node) in self.0.iter().enumerate().map(|(index, node)| (NodeId(index), node)) {
            let Node { kind, name, inputs, is_exchanged, keeps, detail } = node;
            write!(f, "\n{number}. {kind}")?;
            name.iter().try_for_each(|name| write!(f, " \"{name}\""))?;
            for (index, input) in inputs.iter().enumerate() {
                write!(f, "{}{input}", if index == 0 { " from " } else { " and " })?;
            }
            if *is_exchanged {
                f.write_str(", exchanged by key")?;
            }
            keeps.iter().try_for_each(|what| write!(f, ", keeps {what}"))?;
            if kind != SINK && !taken.contains(&number) {
                f.write_str(", dropped")?;
            }
            if !detail.is_empty() {
                f.write_str(": ")?;
                write_in_a_line(f, detail)?;
            }
        }
        Ok(())
    }
}

/// What sources and sinks say of themselves is theirs; a step has one line whatever it is.
fn write_in_a_line(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars().try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_a_line_with_its_number_and_those_it_takes_from() {
        let mut graph = Graph::default();
        let (left, right) = (StepName::new("left"), StepName::new("right"));
        let left = graph.add(Node::new("source").named(&left).keeping("positions").detail("feed"));
        let right = graph.add(Node::new("source").named(&right).keeping("positions"));
        let both = graph.add(Node::new("union").from(left).from(right));
        let counts = StepName::new("counts");
        let counts = Node::new("running").named(&counts).from(both).keeping("state");
        let counts = graph.add(Node { is_exchanged: true, ..counts });
        graph.add(Node::sink().named(&StepName::new("out")).from(counts));
        graph.describe(&StepName::new("right"), "kinesis:usage".to_owned());
        graph.describe(&StepName::new("nobody"), "lost".to_owned());
        assert_eq!(
            graph.to_string(),
            "\n1. source \"left\", keeps positions: feed\
             \n2. source \"right\", keeps positions: kinesis:usage\
             \n3. union from 1 and 2\
             \n4. running \"counts\" from 3, exchanged by key, keeps state\
             \n5. sink \"out\" from 4"
        );
    }

    #[test]
    fn what_nobody_takes_is_dropped() {
        let mut graph = Graph::default();
        let decoded = graph.add(Node::new("decode"));
        graph.add(Node::new("rejected").from(decoded));
        assert_eq!(graph.to_string(), "\n1. decode\n2. rejected from 1, dropped");
    }

    #[test]
    fn no_description_has_a_line_of_its_own() {
        let mut graph = Graph::default();
        graph.add(Node::sink().detail("a\nb\u{1b}[31m ä"));
        assert_eq!(graph.to_string(), "\n1. sink: a\\nb\\u{1b}[31m ä");
    }

    #[test]
    fn a_program_without_steps_has_no_lines() {
        assert_eq!(Graph::default().to_string(), "");
    }
}
