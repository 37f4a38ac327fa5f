//! One index: documents with versions, and a mapping that grows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Flavour;
use super::answers::{Done, Refusal};
use super::bulk::{Op, Request, VersionType};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Long,
    Double,
    Text,
    Other,
}

#[derive(Debug, Clone, Default)]
pub struct Index {
    pub(crate) fields: BTreeMap<String, Field>,
    /// `"dynamic": "strict"`: fields that are not mapped are refused.
    pub(crate) is_strict: bool,
    documents: BTreeMap<String, Document>,
    next_seq_no: u64,
    /// What every write is refused with.
    pub block: Option<Refusal>,
}

/// A document, or what is remembered of one that is deleted.
#[derive(Debug, Clone)]
struct Document {
    version: i64,
    seq_no: u64,
    source: Option<Value>,
}

impl Index {
    /// An index of these mappings.
    pub(crate) fn mapped(mappings: &Value) -> Self {
        let properties = mappings["properties"].as_object().cloned().unwrap_or_default();
        let field = |kind: &Value| match kind["type"].as_str() {
            Some("long" | "integer") => Field::Long,
            Some("double" | "float") => Field::Double,
            Some("text" | "keyword") => Field::Text,
            _ => Field::Other,
        };
        let fields = properties.iter().map(|(name, kind)| (name.clone(), field(kind))).collect();
        Self { fields, is_strict: mappings["dynamic"] == json!("strict"), ..Self::default() }
    }

    /// The documents that are there, by id: version and source.
    pub fn documents(&self) -> BTreeMap<String, (i64, Value)> {
        let there = self.documents.iter().filter_map(|(id, document)| {
            document.source.clone().map(|source| (id.clone(), (document.version, source)))
        });
        there.collect()
    }

    /// How often a document was written or deleted; what met a later version was neither.
    pub fn writes(&self) -> u64 {
        self.next_seq_no
    }

    pub(crate) fn get(&self, id: &str) -> Option<(i64, u64, Value)> {
        let document = self.documents.get(id)?;
        document.source.clone().map(|source| (document.version, document.seq_no, source))
    }

    /// Forgets what is deleted, as the servers do when `index.gc_deletes` has passed.
    pub fn forget_deletions(&mut self) {
        self.documents.retain(|_, document| document.source.is_some());
    }

    pub(crate) fn apply(&mut self, name: &str, request: &Request, flavour: Flavour) -> Result<Done, Refusal> {
        if let Some(block) = &self.block {
            return Err(block.clone());
        }
        let id = request.id.clone().unwrap_or_else(|| format!("auto-{}", self.next_seq_no));
        let source = match request.op {
            Op::Delete => None,
            Op::Index | Op::Create => Some(self.parsed(&id, &request.source, flavour)?),
        };
        let known = self.documents.get(&id);
        let is_there = known.is_some_and(|document| document.source.is_some());
        // A document that was never there has no version to compare with.
        let version = self.version(&id, known.map(|document| document.version), is_there, request)?;
        let seq_no = self.next_seq_no;
        self.next_seq_no += 1;
        let result = match (request.op, is_there) {
            (Op::Delete, true) => "deleted",
            (Op::Delete, false) => "not_found",
            (_, true) => "updated",
            (_, false) => "created",
        };
        self.documents.insert(id.clone(), Document { version, seq_no, source });
        Ok(Done { index: name.to_owned(), id, version, seq_no, result })
    }

    /// The version that the document gets. (*Versioning* in the documentation of the index API.)
    fn version(&self, id: &str, current: Option<i64>, is_there: bool, request: &Request) -> Result<i64, Refusal> {
        let conflict = |why: String| {
            Err(Refusal::new(409, "version_conflict_engine_exception", format!("[{id}]: version conflict, {why}")))
        };
        let given = request.version.unwrap_or_default();
        match (request.version_type, current) {
            (VersionType::Internal, Some(current)) if request.op == Op::Create && is_there => {
                conflict(format!("document already exists (current version [{current}])"))
            }
            (VersionType::Internal, current) => Ok(current.unwrap_or(0) + 1),
            (VersionType::External, Some(current)) if current >= given => {
                conflict(format!("current version [{current}] is higher or equal to the one provided [{given}]"))
            }
            (VersionType::ExternalGte, Some(current)) if current > given => {
                conflict(format!("current version [{current}] is higher than the one provided [{given}]"))
            }
            (VersionType::External | VersionType::ExternalGte, _) => Ok(given),
        }
    }

    fn parsed(&mut self, id: &str, source: &[u8], flavour: Flavour) -> Result<Value, Refusal> {
        let (kind, at) = match flavour {
            Flavour::OpenSearch => ("mapper_parsing_exception", ""),
            Flavour::Elasticsearch => ("document_parsing_exception", "[1:2] "),
        };
        let parsed: Option<Value> = serde_json::from_slice(source).ok();
        let Some(Value::Object(fields)) = parsed else {
            return Err(Refusal::new(400, kind, format!("{at}failed to parse"))
                .caused_by("not_x_content_exception", "not an object"));
        };
        let mut new = Vec::new();
        for (name, value) in &fields {
            match self.fields.get(name) {
                Some(field) if !field.holds(value) => {
                    let (mapped, shown) =
                        (field.name(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                    let reason = format!(
                        "{at}failed to parse field [{name}] of type [{mapped}] in document with id '{id}'. Preview of field's value: '{shown}'"
                    );
                    let cause = format!("For input string: \"{shown}\"");
                    return Err(Refusal::new(400, kind, reason).caused_by("number_format_exception", cause));
                }
                None if self.is_strict => {
                    let reason = format!(
                        "{at}mapping set to strict, dynamic introduction of [{name}] within [_doc] is not allowed"
                    );
                    return Err(Refusal::new(400, "strict_dynamic_mapping_exception", reason));
                }
                None if !value.is_null() => new.push((name.clone(), Field::guessed(value))),
                _ => {}
            }
        }
        self.fields.extend(new);
        Ok(Value::Object(fields))
    }
}

impl Field {
    /// *Dynamic field mapping*.
    fn guessed(value: &Value) -> Self {
        match value {
            Value::Number(number) if number.is_f64() => Self::Double,
            Value::Number(_) => Self::Long,
            Value::String(_) => Self::Text,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Double => "double",
            Self::Text => "text",
            Self::Other => "object",
        }
    }

    /// Numbers may come as text that is one (`coerce`).
    fn holds(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) => true,
            (Self::Long | Self::Double, Value::Number(_)) => true,
            (Self::Long | Self::Double, Value::String(text)) => text.parse::<f64>().is_ok(),
            (Self::Long | Self::Double, _) => false,
            (Self::Text, value) => !value.is_object(),
            (Self::Other, _) => true,
        }
    }
}
