//! Listens to what the code under test logs.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// What was said, each with its level and all its fields.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<Vec<(Level, String)>>>);

impl Said {
    /// What was said as a warning.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.at(Level::WARN)
    }

    /// What was said at this level.
    pub(super) fn at(&self, wanted: Level) -> Vec<String> {
        let said = self.0.lock().unwrap();
        said.iter().filter(|(level, _)| *level == wanted).map(|(_, text)| text.clone()).collect()
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("shardflow")
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}
