//! Reads the body of a `_bulk` call, line by line, as strictly as the servers' parser.

use serde_json::{Map, Value};

use super::answers::Refusal;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Index,
    Create,
    Delete,
}

impl Op {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionType {
    Internal,
    External,
    ExternalGte,
}

/// One action with its document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) op: Op,
    pub(crate) index: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) version: Option<i64>,
    pub(crate) version_type: VersionType,
    pub(crate) requires_alias: bool,
    /// As it came: a document that is no JSON is that document's error.
    pub(crate) source: Vec<u8>,
}

fn illegal(reason: impl Into<String>) -> Refusal {
    Refusal::new(400, "illegal_argument_exception", reason)
}

/// The actions of a call, or what is wrong with all of it.
pub(crate) fn parse(body: &[u8], index: Option<&str>, requires_alias: bool) -> Result<Vec<Request>, Refusal> {
    if body.is_empty() {
        return Err(Refusal::new(400, "parse_exception", "request body is required"));
    }
    if body.last() != Some(&b'\n') {
        return Err(illegal("The bulk request must be terminated by a newline [\\n]"));
    }
    let mut lines = (1_usize..).zip(body[..body.len() - 1].split(|byte| *byte == b'\n'));
    let mut requests = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let mut request = action(number, line, index, requires_alias)?;
        if request.op != Op::Delete {
            let Some((_, source)) = lines.next() else {
                return Err(illegal("The bulk request must be terminated by a newline [\\n]"));
            };
            request.source = source.strip_suffix(b"\r").unwrap_or(source).to_vec();
        }
        requests.push(request);
    }
    validated(requests)
}

fn action(line: usize, text: &[u8], index: Option<&str>, requires_alias: bool) -> Result<Request, Refusal> {
    let malformed = |what: String| illegal(format!("Malformed action/metadata line [{line}], {what}"));
    let value: Value = serde_json::from_slice(text)
        .map_err(|error| Refusal::new(400, "json_parse_exception", format!("line [{line}]: {error}")))?;
    let Value::Object(action) = value else {
        return Err(malformed("expected START_OBJECT but found [another]".to_owned()));
    };
    let mut fields = action.into_iter();
    let (Some((name, metadata)), None) = (fields.next(), fields.next()) else {
        return Err(malformed("expected FIELD_NAME but found [END_OBJECT], or more than one action".to_owned()));
    };
    let op = match name.as_str() {
        "index" => Op::Index,
        "create" => Op::Create,
        "delete" => Op::Delete,
        // The servers know it; nothing that is tested here sends it.
        "update" => return Err(malformed("update is not played by this stand-in".to_owned())),
        other => {
            return Err(malformed(format!(
                "expected field [create], [delete], [index] or [update] but found [{other}]"
            )));
        }
    };
    let Value::Object(metadata) = metadata else {
        return Err(malformed("expected START_OBJECT or END_OBJECT but found [another]".to_owned()));
    };
    let mut request = Request {
        op,
        index: index.map(str::to_owned),
        id: None,
        version: None,
        version_type: VersionType::Internal,
        requires_alias,
        source: Vec::new(),
    };
    fill(&mut request, metadata, line)?;
    Ok(request)
}

fn fill(request: &mut Request, metadata: Map<String, Value>, line: usize) -> Result<(), Refusal> {
    for (field, value) in metadata {
        if matches!(value, Value::Array(_) | Value::Object(_)) {
            let found = if value.is_array() { "START_ARRAY" } else { "START_OBJECT" };
            return Err(illegal(format!(
                "Malformed action/metadata line [{line}], expected a simple value for field [{field}] but found [{found}]"
            )));
        }
        if value.is_null() {
            continue;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match field.as_str() {
            "_index" => request.index = Some(text),
            "_id" => request.id = Some(text),
            "version" => {
                request.version = Some(text.parse().map_err(|_| illegal(format!("For input string: \"{text}\"")))?)
            }
            "version_type" => {
                request.version_type = match text.as_str() {
                    "internal" => VersionType::Internal,
                    "external" => VersionType::External,
                    "external_gte" => VersionType::ExternalGte,
                    _ => return Err(illegal(format!("No version type match [{text}]"))),
                }
            }
            "op_type" if text == "create" => request.op = Op::Create,
            "require_alias" => request.requires_alias = text == "true",
            // Known, and of no meaning here.
            "op_type" | "routing" | "pipeline" | "if_seq_no" | "if_primary_term" | "dynamic_templates" => {}
            _ => return Err(illegal(format!("Action/metadata line [{line}] contains an unknown parameter [{field}]"))),
        }
    }
    Ok(())
}

/// What the servers check of each before they do any.
fn validated(requests: Vec<Request>) -> Result<Vec<Request>, Refusal> {
    let mut wrong = Vec::new();
    if requests.is_empty() {
        wrong.push("no requests added".to_owned());
    }
    for request in &requests {
        let Request { op, id, version, version_type, .. } = request;
        if request.index.is_none() {
            wrong.push("index is missing".to_owned());
        }
        match id.as_deref().map(str::len) {
            None if *op == Op::Delete => wrong.push("id is missing".to_owned()),
            Some(0) => wrong.push("if _id is specified it must not be empty".to_owned()),
            Some(length @ 513..) => wrong.push(format!(
                "id [{}] is too long, must be no longer than 512 bytes but was: {length}",
                id.as_deref().unwrap_or_default()
            )),
            _ => {}
        }
        match (op, version_type, version) {
            (Op::Create, VersionType::External | VersionType::ExternalGte, _) => {
                wrong.push("create operations only support internal versioning. use index instead".to_owned());
            }
            (Op::Create, _, Some(_)) => {
                wrong.push("create operations do not support explicit versions. use index instead".to_owned());
            }
            (_, VersionType::Internal, Some(_)) => wrong.push(
                "internal versioning can not be used for optimistic concurrency control. Please use `if_seq_no` and `if_primary_term` instead"
                    .to_owned(),
            ),
            (_, VersionType::External | VersionType::ExternalGte, version) if version.unwrap_or(-3) < 0 => {
                wrong.push(format!("illegal version value [{}] for version type [{version_type:?}]", version.unwrap_or(-3)));
            }
            _ => {}
        }
    }
    if wrong.is_empty() {
        return Ok(requests);
    }
    let wrong: Vec<String> =
        (1..).zip(wrong).map(|(number, what): (usize, String)| format!("{number}: {what};")).collect();
    Err(Refusal::new(400, "action_request_validation_exception", format!("Validation Failed: {}", wrong.join(""))))
}
