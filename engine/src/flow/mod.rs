//! The API that users write against: a [`Flow`], and the streams that come out of it.
//!
//! Records come from a source as [`Untimed`]; event time makes them a [`Stream`], a key a [`KeyedStream`], a window a
//! [`Windowed`]. Each type offers only what makes sense on it: there is no `key_by` before there is event time, and no
//! `fold` before it is settled what becomes of late records.
//!
//! A *name* is the first argument of each source, stateful step and sink. It is the address of the step's state: unique
//! in the job, and the same from run to run.

mod graph;
mod keyed;
mod raw;
mod running;
mod stream;
mod windowed;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Scope;

pub(crate) use graph::Graph;
pub use keyed::KeyedStream;
pub use raw::{Raw, Rejects, Untimed};
pub use running::Running;
pub use stream::Stream;
pub use windowed::{OnTime, Windowed};

use graph::{Node, NodeId};

use crate::error::{Error, Result};
use crate::operators::context::{JobContext, PlannedSink, lock};
use crate::operators::control::Control;
use crate::operators::hub::SourceHub;
use crate::operators::{self, Flowing, Outputs, Time, Unpack};
use crate::sink::Sink;
use crate::snapshot::StepInfo;
use crate::source::Source;
use crate::vocabulary::{IdNamespace, StepName};

/// A job's program under construction, on one worker.
///
/// The function that describes a job gets one. It runs once on each worker, and once before that to check the program:
/// it must build the same steps each time.
pub struct Flow<'scope> {
    pub(crate) inner: Rc<Inner<'scope>>,
}

/// What all streams of a flow share.
pub(crate) struct Inner<'scope> {
    pub(crate) scope: Scope<'scope, Time>,
    pub(crate) context: Arc<JobContext>,
    control: RefCell<Vec<Flowing<'scope, Control>>>,
    unnamed: Cell<usize>,
    /// Filled while planning.
    graph: RefCell<Graph>,
}

impl<'scope> Flow<'scope> {
    pub(crate) fn new(scope: Scope<'scope, Time>, context: Arc<JobContext>) -> Self {
        let (control, graph) = (RefCell::default(), RefCell::default());
        Self { inner: Rc::new(Inner { scope, context, control, unnamed: Cell::new(0), graph }) }
    }

    /// The control streams of all steps; and, of a plan, what they are.
    pub(crate) fn finish(self) -> (Vec<Flowing<'scope, Control>>, Graph) {
        (self.inner.control.take(), self.inner.graph.take())
    }

    /// What ids are made in that name the records of a step of this job: of [`process`](KeyedStream::process), or of a `map` that
    /// makes something new. Results of windows and running aggregates bring theirs along.
    ///
    /// An id is repeated by a replay if it is made of what the record is: a key, an event time, the id of the record that it
    /// comes from. It is not if it is made of a random number, the clock, or a counter of the process.
    ///
    /// # Examples
    /// ```
    /// use shardflow::{EventTime, Flow, RecordId, Stream};
    ///
    /// struct Alert { meter: String, silent_since: EventTime }
    ///
    /// fn named(flow: &Flow<'_>, alerts: Stream<'_, Alert>) {
    ///     let ids = flow.ids("silence");
    ///     alerts
    ///         .map(move |alert| {
    ///             let id = ids.id(&(&alert.meter, alert.silent_since)).expect("a text and a time can be written");
    ///             (id, alert.meter)
    ///         })
    ///         .sink("alerts", shardflow::testing::Collected::<(RecordId, String)>::new());
    /// }
    /// ```
    #[must_use]
    pub fn ids(&self, step: &str) -> IdNamespace {
        IdNamespace::of_step(&self.inner.context.job, step)
    }

    /// Reads from `source`. Its raw records must be decoded first.
    pub fn source(&self, name: &str, source: impl Source) -> Raw<'scope> {
        let inner = &self.inner;
        let step = inner.register(name, "source");
        let hub = match &inner.context.running {
            Some(running) => running.hubs.get(&step).map(Arc::clone),
            None => {
                lock(&inner.context.plan).sources.push((step.clone(), Box::new(source)));
                None
            }
        };
        let (records, control) = operators::source(inner.scope, &inner.context, &step, hub.clone());
        inner.add_control(control);
        let node = inner.node(|| Node::new("source").named(&step).keeping("positions"));
        Raw { inner: Rc::clone(inner), node, origin: Origin { step, hub }, stream: records }
    }
}

/// Which source records come from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) step: StepName,
    pub(crate) hub: Option<Arc<SourceHub>>,
}

impl<'scope> Inner<'scope> {
    /// Registers a step in the plan; gives its name. The workers build what the plan has checked.
    fn register(&self, name: &str, kind: &str) -> StepName {
        match self.context.running {
            Some(_) => StepName::new(name),
            None => self.context.register(name, kind, 1),
        }
    }

    /// Registers where a source's watermarks are stored.
    fn register_event_time(&self, source: &StepName) {
        if self.context.running.is_none() {
            let name = operators::event_time_step(source);
            lock(&self.context.plan).steps.push(StepInfo { name, kind: "event-time".to_owned(), version: 1 });
        }
    }

    /// Records a step of the plan; gives what its streams carry of it. On a worker nothing is recorded.
    fn node(&self, node: impl FnOnce() -> Node) -> NodeId {
        match self.context.running {
            Some(_) => NodeId::default(),
            None => self.graph.borrow_mut().add(node()),
        }
    }

    fn add_control(&self, control: Flowing<'scope, Control>) {
        self.control.borrow_mut().push(control);
    }

    /// A name for a step that the user does not name, for error messages and metrics.
    fn unnamed(&self, operation: &str) -> String {
        let number = self.unnamed.get().wrapping_add(1);
        self.unnamed.set(number);
        format!("{operation} #{number}")
    }

    /// Takes in that a step cannot be built: a mistake in the plan, a failure in a running job.
    fn refuse(&self, error: Error) {
        match self.context.running {
            Some(_) => self.context.fail(error),
            None => self.context.refuse(error),
        }
    }

    /// The result of building a step, where it could be built.
    fn built<T>(&self, step: &StepName, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.refuse(error.in_step(step.as_str()))).ok()
    }

    /// The streams of a stateful step, its results and side results. Where it could not be built, nothing comes on them.
    fn stateful<O: 'static, S: 'static>(
        &self,
        step: &StepName,
        built: Result<Outputs<'scope, O, S>>,
    ) -> (Flowing<'scope, O>, Flowing<'scope, S>) {
        match self.built(step, built) {
            Some((results, sides, control)) => {
                self.add_control(control);
                (results, sides)
            }
            None => (operators::nothing(self.scope), operators::nothing(self.scope)),
        }
    }

    /// Ends a stream in a sink.
    fn sink<D: 'static, T: 'static>(
        &self,
        name: &str,
        (stream, node): (Flowing<'scope, D>, NodeId),
        sink: impl Sink<T>,
        unpack: Unpack<D, T>,
    ) {
        let step = self.register(name, "sink");
        self.node(|| Node::sink().named(&step).from(node));
        let worker = self.scope.index();
        let writer = match &self.context.running {
            Some(running) => {
                let context = self.context.sink_context(running, &step);
                self.built(&step, operators::naming_panics(name, || sink.writer(&context, worker)))
            }
            None => {
                lock(&self.context.plan).sinks.push(PlannedSink::new(step.clone(), sink));
                None
            }
        };
        let control = operators::sink(&self.context, worker, stream, &step, writer, unpack);
        self.add_control(control);
    }
}
