//! Keeps what is logged, so that a test can look for what must not be in it.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Everything that was logged, at any level, by any crate: a line an event or span, which begins with its target and level.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// Keeps what is logged by this process from here on. Once a process.
    pub fn keep() -> Self {
        let log = Self::default();
        tracing::subscriber::set_global_default(Keeper(log.clone())).unwrap();
        log
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

struct Keeper(Log);

impl Keeper {
    fn keep(&self, metadata: Option<&Metadata<'_>>, record: impl FnOnce(&mut dyn Visit)) {
        let mut line = metadata.map(|of| format!("{} {}", of.target(), of.level())).unwrap_or_default();
        record(&mut Line(&mut line));
        line.push('\n');
        self.0.0.lock().unwrap().push_str(&line);
    }
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}").replace('\n', "\\n");
        write!(self.0, " {field}={value}").unwrap();
    }
}

impl Subscriber for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.keep(Some(span.metadata()), |fields| span.record(fields));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.keep(None, |fields| values.record(fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.keep(Some(event.metadata()), |fields| event.record(fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
