//! What the server's answer to a `_bulk` call means for each document. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shardflow::Outcome;
use shardflow::retry::Failed;
use shardflow::sink::{EntryOutcome, Trouble};

use super::action::{Action, Guard, Operation};
use super::pipeline;
use crate::http::{Part, one_line};

/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 500;

/// What is asked for of an answer: the rest repeats the call. Goes into `filter_path`.
pub(super) const WANTED: &str =
    "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason";

#[derive(Deserialize)]
struct Bulk {
    errors: bool,
    #[serde(default)]
    items: Vec<BTreeMap<String, Item>>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    error: Option<Value>,
}

/// An error as the server tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// `mapper_parsing_exception`; empty where it is not told.
    pub(super) kind: String,
    /// In one line.
    pub(super) text: String,
    /// The version that is there, where a conflict tells it.
    current: Option<u64>,
}

impl Told {
    /// Of the value of `error`, which is an object or just text.
    fn of(error: &Value) -> Self {
        let field = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let line = |text: &str| one_line(text.as_bytes(), LONGEST_REASON);
        let Some(kind) = field(error, "type") else {
            return Self { text: error.as_str().map(line).unwrap_or_default(), ..Self::default() };
        };
        let mut text = kind.clone();
        let current = field(error, "reason").and_then(|reason| current_version(&reason));
        let cause = error.get("caused_by").and_then(|cause| field(cause, "reason"));
        for part in [field(error, "reason"), cause].into_iter().flatten() {
            if !text.contains(&part) {
                text = format!("{text}: {part}");
            }
        }
        Self { kind, text: line(&text), current }
    }

    /// Of the body of a call that was refused: JSON, or a page of something before the server.
    pub(super) fn of_body(body: &[u8]) -> Self {
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        match parsed.as_ref().and_then(|body| body.get("error").or_else(|| body.get("message"))) {
            Some(error) => Self::of(error),
            None => Self { text: one_line(body, LONGEST_REASON), ..Self::default() },
        }
    }
}

/// The texts of a status and what is told with it.
pub(super) fn with_status(status: u16, told: &Told) -> String {
    match told.text.is_empty() {
        true => format!("HTTP status {status}"),
        false => format!("HTTP status {status}: {}", told.text),
    }
}

fn trouble(may_pass: Option<Failed>, outcome: Outcome, text: String) -> Trouble {
    Trouble { may_pass, outcome, text }
}

/// What a whole call's status means. `None`: the answer tells of each document.
pub(super) fn of_call(status: u16, body: &[u8]) -> Option<Part> {
    if status == 200 {
        return None;
    }
    let told = Told::of_body(body);
    let text = with_status(status, &told);
    let failed = |may_pass, outcome, text| Some(Part::Failed(trouble(may_pass, outcome, text)));
    match status {
        _ if is_without_pipeline(&told) => failed(None, Outcome::Determinate, text),
        // The halves may be taken, and so may all documents but one that cannot be read.
        400 | 413 | 422 => Some(Part::Refused(text)),
        429 => failed(Some(Failed::Throttled), Outcome::Determinate, text),
        403 if is_block(&told) => failed(Some(Failed::Transient), Outcome::Determinate, text),
        401 => failed(None, Outcome::Determinate, format!("the server does not accept the login: {text}")),
        403 => failed(None, Outcome::Determinate, format!("the login has no permission to write: {text}")),
        408 | 425 => failed(Some(Failed::Transient), Outcome::Indeterminate, text),
        500..=599 => failed(Some(Failed::Transient), Outcome::Indeterminate, text),
        300..=399 => failed(None, Outcome::Determinate, format!("it leads elsewhere, which is not followed: {text}")),
        400..=499 => failed(None, Outcome::Determinate, format!("this is no _bulk endpoint: {text}")),
        _ => failed(Some(Failed::Transient), Outcome::Indeterminate, format!("an answer that is none: {text}")),
    }
}

/// A block of an index: a disk that is full, a setting. It is taken away again.
fn is_block(told: &Told) -> bool {
    told.kind == "cluster_block_exception"
}

/// The pipeline that documents go through is gone, which is no document's fault.
fn is_without_pipeline(told: &Told) -> bool {
    pipeline::is_missing(&told.kind, &told.text)
}

/// What became of each action of a call that was answered with 200. `is_fixed`: all documents go to one index.
pub(super) fn of_items(actions: &[Action], body: &[u8], is_fixed: bool) -> Part {
    let unclear = |why: String| {
        Part::Failed(trouble(
            Some(Failed::Transient),
            Outcome::Indeterminate,
            format!("the answer cannot be understood: {why}"),
        ))
    };
    let bulk: Bulk = match serde_json::from_slice(body) {
        Ok(bulk) => bulk,
        Err(error) => return unclear(error.to_string()),
    };
    if bulk.items.len() != actions.len() {
        return unclear(format!("it tells of {} of {} documents", bulk.items.len(), actions.len()));
    }
    let items = bulk.items.into_iter().filter_map(|item| item.into_values().next());
    let each: Vec<EntryOutcome> =
        actions.iter().zip(items).map(|(action, item)| of_item(action, &item, is_fixed)).collect();
    if each.len() != actions.len() {
        return unclear("an item of it is empty".to_owned());
    }
    // A server that says that all is well and then that it is not is none that we know.
    if !bulk.errors && each.iter().any(|outcome| *outcome != EntryOutcome::Written) {
        return unclear("it says that there are no errors, and has some".to_owned());
    }
    Part::Each(each)
}

fn of_item(action: &Action, item: &Item, is_fixed: bool) -> EntryOutcome {
    let told = item.error.as_ref().map(Told::of).unwrap_or_default();
    let text = || with_status(item.status, &told);
    let failed = |may_pass, outcome| EntryOutcome::Failed(trouble(may_pass, outcome, text()));
    match item.status {
        200..=299 => EntryOutcome::Written,
        // What shall be gone was not there.
        404 if action.operation == Operation::Delete && item.error.is_none() => EntryOutcome::Written,
        409 if told.kind == "version_conflict_engine_exception" => conflict(action.guard, &told),
        _ if is_block(&told) => failed(Some(Failed::Transient), Outcome::Determinate),
        429 => failed(Some(Failed::Throttled), Outcome::Determinate),
        _ if is_rejection(&told) => failed(Some(Failed::Throttled), Outcome::Determinate),
        401 | 403 => failed(None, Outcome::Determinate),
        _ if is_without_pipeline(&told) => failed(None, Outcome::Determinate),
        // Not the document's fault where all go there: the index is made again, or the job stops.
        404 if is_fixed && told.kind == "index_not_found_exception" => {
            failed(Some(Failed::Transient), Outcome::Determinate)
        }
        408 => failed(Some(Failed::Transient), Outcome::Indeterminate),
        400..=499 => EntryOutcome::Refused(text()),
        _ => failed(Some(Failed::Transient), Outcome::Indeterminate),
    }
}

/// A later version is there, this one already is, or any is where the first is to stay.
fn conflict(guard: Guard, told: &Told) -> EntryOutcome {
    let Guard::Start { number, later } = guard else { return EntryOutcome::Written };
    let stops = |text: String| EntryOutcome::Failed(trouble(None, Outcome::Determinate, text));
    match told.current {
        // A later start of this job has written, or of another one.
        Some(current) if later.is_some_and(|later| current >= later) => stops(format!(
            "a later start than this one, which is number {number}, has written the document: either this process has lost its \
             place to another, or the index is written by another job or was before the state was emptied, and then it needs a version \
             of the records' own; {}",
            told.text
        )),
        Some(_) => EntryOutcome::Written,
        None => stops(format!("a version conflict that cannot be understood: {}", told.text)),
    }
}

/// `5` of `[id]: version conflict, current version [5] is higher or equal to the one provided [3]`. An id may hold anything, so the
/// last such words count.
fn current_version(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once("current version [")?;
    rest.split_once(']')?.0.parse().ok()
}

/// A queue that is full, or memory that is short.
fn is_rejection(told: &Told) -> bool {
    matches!(
        told.kind.as_str(),
        "es_rejected_execution_exception"
            | "rejected_execution_exception"
            | "open_search_rejected_execution_exception"
            | "circuit_breaking_exception"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::json;
    use shardflow::Epoch;
    use shardflow::sink::Version;
    use shardflow::vocabulary::Incarnation;

    use super::super::action::{Shape, Versions};
    use super::super::target::{Resolved, Target};
    use super::*;

    /// The first record of the second start.
    fn action(own_version: bool, operation: Operation) -> Action {
        let shape = Shape {
            versions: if own_version { Versions::External(Arc::new(|_: &Value| 1)) } else { Versions::OfStarts },
            deleted: (operation == Operation::Delete)
                .then(|| Arc::new(|_: &Value| true) as Arc<dyn Fn(&Value) -> bool + Send + Sync>),
            creates: operation == Operation::Create,
            ..Shape::new(|_: &Value| "a".to_owned())
        };
        let target = Resolved::of(Some(&Target::Index("usage".to_owned())), &shape).unwrap();
        Action::of(&json!({}), Version::new(Incarnation::new(2), Epoch::new(9), 0), &shape, &target).unwrap()
    }

    /// What a status and an error mean for an action.
    fn outcome(action: &Action, status: u16, kind: &str) -> EntryOutcome {
        let mut item = json!({"status": status});
        if !kind.is_empty() {
            item["error"] = json!({"type": kind, "reason": "why"});
        }
        let body = json!({"errors": true, "items": [{ "index": item }]}).to_string();
        match of_items(std::slice::from_ref(action), body.as_bytes(), true) {
            Part::Each(mut each) => each.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn may_pass(outcome: EntryOutcome) -> Option<Failed> {
        match outcome {
            EntryOutcome::Failed(trouble) => trouble.may_pass,
            other => panic!("{other:?}"),
        }
    }

    const CONFLICT: &str = "version_conflict_engine_exception";

    #[test]
    fn a_conflict_is_done_where_a_version_or_the_first_decides() {
        for (own_version, operation) in
            [(true, Operation::Index), (true, Operation::Delete), (false, Operation::Create)]
        {
            assert_eq!(outcome(&action(own_version, operation), 409, CONFLICT), EntryOutcome::Written);
        }
        let other = outcome(&action(true, Operation::Index), 409, "something_else");
        assert!(matches!(other, EntryOutcome::Refused(_)), "{other:?}");
    }

    /// What a conflict with this version means for the second start.
    fn conflict_with(current: &str) -> EntryOutcome {
        // As long as an id can be, and as misleading.
        let id = format!("{} current version [9]", "x".repeat(490));
        let reason =
            format!("[{id}]: version conflict, current version [{current}] is higher or equal to the one provided [1]");
        let guard = action(false, Operation::Index).guard;
        conflict(guard, &Told::of(&json!({"type": CONFLICT, "reason": reason})))
    }

    #[test]
    fn a_conflict_with_a_later_start_stops_the_job_and_one_with_this_or_an_earlier_start_is_done() {
        let version =
            |start, count| Version::new(Incarnation::new(start), Epoch::new(9), count).packed().unwrap().to_string();
        for done in [version(1, 7), version(2, 0), version(2, 99_999), "0".to_owned()] {
            assert_eq!(conflict_with(&done), EntryOutcome::Written, "{done}");
        }
        for later in [version(3, 0), version(900, 1)] {
            let EntryOutcome::Failed(trouble) = conflict_with(&later) else { panic!("{later}") };
            assert!(trouble.may_pass.is_none() && trouble.text.contains("which is number 2"), "{trouble}");
        }
        assert_eq!(may_pass(conflict_with("many")), None);
    }

    #[test]
    fn what_is_deleted_may_be_gone_already() {
        assert_eq!(outcome(&action(true, Operation::Delete), 404, ""), EntryOutcome::Written);
        assert_eq!(outcome(&action(true, Operation::Delete), 200, ""), EntryOutcome::Written);
        let no_index = outcome(&action(true, Operation::Delete), 404, "index_not_found_exception");
        assert_eq!(may_pass(no_index), Some(Failed::Transient));
    }

    #[test]
    fn what_may_pass_is_written_again_and_what_is_wrong_with_a_document_is_refused() {
        let action = action(true, Operation::Index);
        for (status, kind) in [
            (429, "es_rejected_execution_exception"),
            (429, "circuit_breaking_exception"),
            (503, "es_rejected_execution_exception"),
            (429, ""),
        ] {
            assert_eq!(may_pass(outcome(&action, status, kind)), Some(Failed::Throttled), "{status} {kind}");
        }
        for (status, kind) in [
            (503, "unavailable_shards_exception"),
            (500, "i_o_exception"),
            (403, "cluster_block_exception"),
            (429, "cluster_block_exception"),
            (404, "index_not_found_exception"),
        ] {
            assert_eq!(may_pass(outcome(&action, status, kind)), Some(Failed::Transient), "{status} {kind}");
        }
        assert_eq!(may_pass(outcome(&action, 403, "security_exception")), None);
        for kind in ["mapper_parsing_exception", "strict_dynamic_mapping_exception", "invalid_index_name_exception"] {
            let EntryOutcome::Refused(reason) = outcome(&action, 400, kind) else { panic!("{kind}") };
            assert_eq!(reason, format!("HTTP status 400: {kind}: why"));
        }
        // Where each record has an index of its own, a missing one is that record's.
        let body =
            br#"{"errors":true,"items":[{"index":{"status":404,"error":{"type":"index_not_found_exception"}}}]}"#;
        let Part::Each(each) = of_items(&[action], body, false) else { panic!() };
        assert!(matches!(&each[..], [EntryOutcome::Refused(_)]));
    }

    #[test]
    fn a_pipeline_that_is_gone_stops_the_job_and_refuses_no_document() {
        let error = json!({"type": "illegal_argument_exception", "reason": "pipeline with id [geo] does not exist"});
        let item = json!({"errors": true, "items": [{"index": {"status": 400, "error": error}}]}).to_string();
        let Part::Each(each) = of_items(&[action(false, Operation::Index)], item.as_bytes(), true) else { panic!() };
        let [EntryOutcome::Failed(trouble)] = &each[..] else { panic!("{each:?}") };
        assert_eq!((trouble.may_pass, trouble.outcome), (None, Outcome::Determinate));
        let call = json!({"error": error, "status": 400}).to_string();
        let Some(Part::Failed(trouble)) = of_call(400, call.as_bytes()) else { panic!() };
        assert!(trouble.may_pass.is_none() && trouble.text.contains("[geo] does not exist"), "{trouble}");
        // What a pipeline makes of a document may well be that document's fault.
        let refused = outcome(&action(false, Operation::Index), 400, "illegal_argument_exception");
        assert!(matches!(refused, EntryOutcome::Refused(_)), "{refused:?}");
    }

    #[test]
    fn the_cause_of_a_refusal_is_told() {
        let error = json!({"type": "mapper_parsing_exception", "reason": "failed to parse field [n]",
            "caused_by": {"type": "number_format_exception", "reason": "For input string: \"x\""}});
        assert_eq!(
            Told::of(&error).text,
            "mapper_parsing_exception: failed to parse field [n]: For input string: \"x\""
        );
    }

    #[test]
    fn a_call_is_refused_as_a_whole_only_where_its_halves_may_be_taken() {
        let call = |status, body: &str| of_call(status, body.as_bytes()).unwrap();
        assert_eq!(of_call(200, b""), None);
        for status in [400, 413, 422] {
            assert!(matches!(call(status, ""), Part::Refused(_)), "{status}");
        }
        let may_pass = |part| match part {
            Part::Failed(trouble) => (trouble.may_pass, trouble.outcome),
            other => panic!("{other:?}"),
        };
        assert_eq!(may_pass(call(429, "")), (Some(Failed::Throttled), Outcome::Determinate));
        let block = r#"{"error":{"type":"cluster_block_exception","reason":"disk"},"status":403}"#;
        assert_eq!(may_pass(call(403, block)), (Some(Failed::Transient), Outcome::Determinate));
        for status in [401, 403, 404, 405, 406, 301] {
            assert_eq!(may_pass(call(status, "{}")), (None, Outcome::Determinate), "{status}");
        }
        for status in [500, 502, 503, 504, 408] {
            assert_eq!(may_pass(call(status, "<html>")), (Some(Failed::Transient), Outcome::Indeterminate), "{status}");
        }
    }

    #[test]
    fn an_error_that_is_no_object_is_told_all_the_same() {
        let body = r#"{"error":"Content-Type header [] is not supported","status":406}"#;
        assert_eq!(Told::of_body(body.as_bytes()).text, "Content-Type header [] is not supported");
        assert_eq!(Told::of_body(br#"{"message":"forbidden"}"#).text, "forbidden");
        assert_eq!(Told::of_body(b"<html> 503\n").text, "<html> 503");
    }

    #[test]
    fn an_answer_that_does_not_fit_its_call_is_not_trusted() {
        let action = action(true, Operation::Index);
        let no_errors = r#"{"errors":false,"items":[{"index":{"status":400}}]}"#;
        for body in
            ["", "{", "[]", "{}", r#"{"errors":false,"items":[]}"#, r#"{"errors":false,"items":[{}]}"#, no_errors]
        {
            let part = of_items(std::slice::from_ref(&action), body.as_bytes(), true);
            let Part::Failed(trouble) = part else { panic!("{part:?}") };
            assert_eq!(
                (trouble.may_pass, trouble.outcome),
                (Some(Failed::Transient), Outcome::Indeterminate),
                "{body}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_understood_without_a_panic(status: u16, text in ".*", kind in "[a-z_]{0,10}") {
            let _ = of_call(status, text.as_bytes());
            let action = action(false, Operation::Index);
            let _ = of_items(std::slice::from_ref(&action), text.as_bytes(), true);
            let _ = outcome_of(&action, status, &kind);
        }
    }

    fn outcome_of(action: &Action, status: u16, kind: &str) -> Part {
        let body =
            json!({"errors": true, "items": [{"index": {"status": status, "error": {"type": kind}}}]}).to_string();
        of_items(std::slice::from_ref(action), body.as_bytes(), false)
    }
}
