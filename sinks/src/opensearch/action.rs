//! One line of a `_bulk` call, and its document: made once, on the worker's thread. Pure.

use std::sync::Arc;

use serde::Serialize;
use shardflow::sink::{Refused, Version};
use shardflow::vocabulary::Incarnation;

use super::target::Resolved;
use crate::format::{Format, Ndjson};

/// The longest id, in bytes. The server refuses a whole call that holds a longer one.
const LONGEST_ID: usize = 512;

/// Where a document's version comes from, and how the server compares it.
pub(super) enum Versions<T> {
    /// The engine's.
    OfStarts,
    External(VersionOf<T>),
    ExternalOrEqual(VersionOf<T>),
}

/// Whether a record is a deletion.
type IsDeleted<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

pub(super) type VersionOf<T> = Arc<dyn Fn(&T) -> u64 + Send + Sync>;

/// The user's closures: what a record becomes.
pub(super) struct Shape<T> {
    pub(super) id: Arc<dyn Fn(&T) -> String + Send + Sync>,
    pub(super) versions: Versions<T>,
    pub(super) deleted: Option<IsDeleted<T>>,
    /// Writes only what is not there.
    pub(super) creates: bool,
}

impl<T> Shape<T> {
    pub(super) fn new(id: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        Self { id: Arc::new(id), versions: Versions::OfStarts, deleted: None, creates: false }
    }

    /// Whether the user gives the versions.
    pub(super) fn has_own_versions(&self) -> bool {
        !matches!(self.versions, Versions::OfStarts)
    }

    /// The version of a record, and what a conflict with it means.
    ///
    /// # Errors
    /// It has none that the server would take.
    fn version(&self, record: &T, written: Version) -> Result<(u64, Guard), String> {
        let (version, guard) = match &self.versions {
            Versions::OfStarts => {
                let start = written.incarnation();
                let beyond = || {
                    format!(
                        "{written} does not fit into a version: a job has {} starts, and a writer {} records in each",
                        Version::LAST_START,
                        Version::LAST_COUNT
                    )
                };
                let later = Incarnation::new(start.number().saturating_add(1));
                let later = Version::new(later, written.epoch(), 0).packed();
                (written.packed().ok_or_else(beyond)?, Guard::Start { number: start.number(), later })
            }
            Versions::External(version) | Versions::ExternalOrEqual(version) => (version(record), Guard::User),
        };
        match i64::try_from(version) {
            Ok(_) => Ok((version, guard)),
            Err(_) => Err(format!("a version is at most 2^63 - 1, and this one is {version}")),
        }
    }
}

impl<T> Clone for Versions<T> {
    fn clone(&self) -> Self {
        match self {
            Self::OfStarts => Self::OfStarts,
            Self::External(version) => Self::External(Arc::clone(version)),
            Self::ExternalOrEqual(version) => Self::ExternalOrEqual(Arc::clone(version)),
        }
    }
}

impl<T> Clone for Shape<T> {
    fn clone(&self) -> Self {
        let Self { id, versions, deleted, creates } = self;
        Self { id: Arc::clone(id), versions: versions.clone(), deleted: deleted.clone(), creates: *creates }
    }
}

/// What decides where a document is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// The first stays.
    First,
    /// The version that the user gave.
    User,
    /// The engine's version, of the start of this number. Those of later starts are `later` and above.
    Start { number: u64, later: Option<u64> },
}

/// What is to be done with one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Index,
    Create,
    Delete,
}

/// A record on its way: an action and, where it has one, its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Action {
    /// Whole lines.
    lines: Vec<u8>,
    /// Where the document begins.
    document: usize,
    pub(super) operation: Operation,
    pub(super) guard: Guard,
}

/// The metadata that we send.
#[derive(Serialize)]
struct Metadata<'a> {
    _index: &'a str,
    _id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_type: Option<&'static str>,
}

impl Action {
    /// What a record becomes.
    ///
    /// # Errors
    /// It can never be written.
    pub(super) fn of<T: Serialize>(
        record: &T,
        written: Version,
        shape: &Shape<T>,
        target: &Resolved<T>,
    ) -> Result<Self, Refused> {
        let mut document = Vec::new();
        let serialized = Ndjson.write(record, &mut document);
        let refuse =
            |error: String| Refused { error, record: String::from_utf8_lossy(&document).trim_end().to_owned() };
        serialized.map_err(|error| refuse(format!("it cannot be written as JSON: {error}")))?;
        let id = (shape.id)(record);
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(refuse(format!("an id has 1 to {LONGEST_ID} bytes, and this one {}", id.len())));
        }
        let index = target.index(record).map_err(refuse)?;
        let creates = shape.creates || target.is_stream();
        let operation = match &shape.deleted {
            Some(deleted) if deleted(record) => Operation::Delete,
            _ if creates => Operation::Create,
            _ => Operation::Index,
        };
        let version = if creates { None } else { Some(shape.version(record, written).map_err(refuse)?) };
        if operation != Operation::Delete && document.first() != Some(&b'{') {
            return Err(refuse("a document must be an object".to_owned()));
        }
        let version_type = version.map(|_| match shape.versions {
            Versions::OfStarts | Versions::External(_) => "external",
            Versions::ExternalOrEqual(_) => "external_gte",
        });
        let metadata =
            Metadata { _index: &index, _id: &id, version: version.map(|(version, _)| version), version_type };
        let mut lines = format!("{{\"{}\":", operation.name()).into_bytes();
        // Strings and numbers can always be written.
        if let Err(error) = serde_json::to_writer(&mut lines, &metadata) {
            return Err(refuse(format!("its id cannot be written as JSON: {error}")));
        }
        lines.extend_from_slice(b"}\n");
        let start = lines.len();
        if operation != Operation::Delete {
            lines.append(&mut document);
        }
        Ok(Self { lines, document: start, operation, guard: version.map_or(Guard::First, |(_, guard)| guard) })
    }

    /// What goes into the call's body.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The document or, of a deletion, what says that it is one.
    pub(super) fn text(&self) -> String {
        let document = self.lines.get(self.document..).filter(|document| !document.is_empty());
        String::from_utf8_lossy(document.unwrap_or(&self.lines)).trim_end().to_owned()
    }
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use shardflow::Epoch;

    use super::super::target::Target;
    use super::*;

    fn shape() -> Shape<Value> {
        Shape::new(|record: &Value| record["id"].as_str().unwrap_or_default().to_owned())
    }

    /// The third record that the second start writes.
    fn third() -> Version {
        Version::new(Incarnation::new(2), Epoch::new(9), 2)
    }

    fn action(record: &Value, shape: &Shape<Value>, target: Target<Value>) -> Result<Action, Refused> {
        Action::of(record, third(), shape, &Resolved::of(Some(&target), shape).unwrap())
    }

    fn lines(action: &Action) -> &str {
        std::str::from_utf8(action.lines()).unwrap()
    }

    fn index() -> Target<Value> {
        Target::Index("usage".to_owned())
    }

    #[test]
    fn a_record_is_an_action_and_its_document_with_the_engines_version() {
        let record = json!({"id": "a\"\n", "n": 1});
        let action = action(&record, &shape(), index()).unwrap();
        let version = third().packed().unwrap();
        let metadata =
            format!("\"_index\":\"usage\",\"_id\":\"a\\\"\\n\",\"version\":{version},\"version_type\":\"external\"");
        assert_eq!(lines(&action), format!("{{\"index\":{{{metadata}}}}}\n{{\"id\":\"a\\\"\\n\",\"n\":1}}\n"));
        assert_eq!(action.text(), "{\"id\":\"a\\\"\\n\",\"n\":1}");
        let Guard::Start { number: 2, later: Some(later) } = action.guard else { panic!("{:?}", action.guard) };
        assert!(version < later && later <= Version::new(Incarnation::new(3), Epoch::new(9), 0).packed().unwrap());
    }

    #[test]
    fn a_version_of_the_users_takes_the_place_of_the_engines() {
        let version: VersionOf<Value> = Arc::new(|record| record["n"].as_u64().unwrap());
        for (versions, name) in [
            (Versions::External(Arc::clone(&version)), "external"),
            (Versions::ExternalOrEqual(Arc::clone(&version)), "external_gte"),
        ] {
            let action = action(&json!({"id": "a", "n": 7}), &Shape { versions, ..shape() }, index()).unwrap();
            let expected = format!(
                "{{\"index\":{{\"_index\":\"usage\",\"_id\":\"a\",\"version\":7,\"version_type\":\"{name}\"}}}}\n"
            );
            assert!(lines(&action).starts_with(&expected) && action.guard == Guard::User, "{action:?}");
        }
    }

    #[test]
    fn a_deletion_has_no_document_and_keeps_its_version() {
        let version: VersionOf<Value> = Arc::new(|_| 3);
        let deleted: Arc<dyn Fn(&Value) -> bool + Send + Sync> = Arc::new(|record| record["gone"] == json!(true));
        let shape = Shape { versions: Versions::External(version), deleted: Some(deleted), ..shape() };
        let action = action(&json!({"id": "a", "gone": true}), &shape, index()).unwrap();
        let expected =
            "{\"delete\":{\"_index\":\"usage\",\"_id\":\"a\",\"version\":3,\"version_type\":\"external\"}}\n";
        assert_eq!(lines(&action), expected);
        assert_eq!(action.text(), expected.trim_end());
    }

    #[test]
    fn a_data_stream_gets_only_new_documents() {
        let action = action(&json!({"id": "a"}), &shape(), Target::DataStream("logs".to_owned())).unwrap();
        assert_eq!((action.operation, action.guard), (Operation::Create, Guard::First));
        assert!(lines(&action).starts_with("{\"create\":{\"_index\":\"logs\",\"_id\":\"a\"}}\n"));
    }

    #[test]
    fn what_would_make_the_server_refuse_the_whole_call_is_refused_alone() {
        let huge: VersionOf<Value> = Arc::new(|_| 1 << 63);
        let versioned = Shape { versions: Versions::External(huge), ..shape() };
        let chosen = || Target::Chosen(Arc::new(|_: &Value| "Not-Lowercase".to_owned()));
        for (record, shape, target, says) in [
            (json!({"id": ""}), shape(), index(), "1 to 512 bytes"),
            (json!({"id": "x".repeat(513)}), shape(), index(), "1 to 512 bytes"),
            (json!({"id": "a"}), versioned, index(), "9223372036854775808"),
            (json!({"id": "a"}), shape(), chosen(), "lowercase"),
        ] {
            let refused = action(&record, &shape, target).unwrap_err();
            assert!(refused.error.contains(says) && refused.record.contains("\"id\""), "{refused:?}");
        }
        let worn_out = Version::new(Incarnation::new(1), Epoch::new(1), Version::LAST_COUNT + 1);
        let target = Resolved::of(Some(&index()), &shape()).unwrap();
        let refused = Action::of(&json!({"id": "a"}), worn_out, &shape(), &target).unwrap_err();
        assert!(refused.error.contains("does not fit into a version"), "{refused:?}");
        let bare = Shape::new(|_: &u64| "a".to_owned());
        let target = Resolved::of(Some(&Target::Index("usage".to_owned())), &bare).unwrap();
        assert!(Action::of(&5, third(), &bare, &target).unwrap_err().error.contains("object"));
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let version: VersionOf<Value> = Arc::new(|_| 3);
        let versioned = Shape { versions: Versions::External(version), ..shape() };
        let creating = Shape { creates: true, ..versioned.clone() };
        let deleting = Shape { deleted: Some(Arc::new(|_: &Value| true)), ..shape() };
        let stream = || Some(Target::DataStream("logs".to_owned()));
        for (target, shape, says) in [
            (None, shape(), "where documents go"),
            (stream(), versioned, "version"),
            (Some(index()), creating, "version"),
            (stream(), deleting, "delete_if"),
            (Some(Target::Alias("A".to_owned())), shape(), "lowercase"),
            (Some(Target::ByTime("usage".to_owned(), Arc::new(|_| shardflow::EventTime::MIN))), shape(), "no time"),
            (
                Some(Target::ByTime("Usage-{yyyy}".to_owned(), Arc::new(|_| shardflow::EventTime::MIN))),
                shape(),
                "lowercase",
            ),
        ] {
            let error = Resolved::of(target.as_ref(), &shape).map(drop).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
