//! Which call is which, and what each must look like.

use std::io::Read;

use axum::body::Bytes;
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::answers::Refusal;
use super::{Answered, Flavour, Shared, text};

/// What a bulk call's query may have.
pub(crate) const BULK_PARAMETERS: &[&str] = &[
    "filter_path",
    "pipeline",
    "require_alias",
    "require_data_stream",
    "refresh",
    "routing",
    "timeout",
    "wait_for_active_shards",
    "_source",
    "_source_includes",
    "_source_excludes",
    "pretty",
    "human",
    "error_trace",
];

const OTHER_PARAMETERS: &[&str] = &[
    "ignore_unavailable",
    "allow_no_indices",
    "filter_path",
    "pretty",
    "human",
    "error_trace",
    "expand_wildcards",
    "timeout",
];

/// Answers a call.
pub(crate) fn route(shared: &Shared, parts: &Parts, body: &Bytes) -> Result<Answered, Refusal> {
    let path = parts.uri.path().to_owned();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let method = &parts.method;
    may_call(shared, parts, &segments)?;
    if let (&Method::POST | &Method::PUT, ["_bulk"]) = (method, &segments[..]) {
        return shared.bulk(parts, body, None);
    }
    if let (&Method::POST | &Method::PUT, [index, "_bulk"]) = (method, &segments[..]) {
        return shared.bulk(parts, body, Some(index));
    }
    known(&query(parts), parts, OTHER_PARAMETERS)?;
    let value = match decoded(parts, body)?.0 {
        body if body.is_empty() => Value::Null,
        body => serde_json::from_slice(&body)
            .map_err(|error| Refusal::new(400, "json_parse_exception", error.to_string()))?,
    };
    let mut cluster = shared.cluster.lock().unwrap();
    let done = json!({"acknowledged": true});
    let read = method == Method::GET || method == Method::HEAD;
    match &segments[..] {
        [] if read => Ok(Answered::ok(greeting(shared.nature.flavour))),
        ["_resolve", "index", name] if read || method == Method::POST => cluster.resolve(name).map(Answered::ok),
        ["_ingest", "pipeline", id] if read => {
            let (status, value) = cluster.pipelines(&decoded_segment(id));
            Ok(Answered { status, value, header: None })
        }
        ["_ingest", "pipeline", id] if method == Method::PUT => {
            if !value["processors"].is_array() {
                return Err(Refusal::new(400, "parse_exception", "[processors] required property is missing"));
            }
            cluster.create_pipeline(&decoded_segment(id));
            Ok(Answered::ok(done))
        }
        ["_data_stream", name] if method == Method::PUT => {
            cluster.create_stream(name);
            Ok(Answered::ok(done))
        }
        ["_aliases"] if method == Method::POST => {
            for action in value["actions"].as_array().into_iter().flatten() {
                let add = &action["add"];
                cluster.alias(add["alias"].as_str().unwrap(), add["index"].as_str().unwrap());
            }
            Ok(Answered::ok(done))
        }
        [index] if method == Method::PUT => {
            cluster.create(index, &value["mappings"]);
            Ok(Answered::ok(json!({"acknowledged": true, "shards_acknowledged": true, "index": index})))
        }
        [index] if method == Method::DELETE && cluster.remove(index) => Ok(Answered::ok(done)),
        [index] if read => cluster.resolve(index).map(Answered::ok),
        [index, "_refresh"] if method == Method::POST => {
            cluster.resolve(index).map(|_| Answered::ok(json!({"_shards": {"total": 2}})))
        }
        [index, "_count"] if read || method == Method::POST => {
            let lenient = query(parts).iter().any(|(name, value)| name == "ignore_unavailable" && value == "true");
            if !lenient && !index.contains('*') {
                cluster.resolve(index)?;
            }
            Ok(Answered::ok(json!({"count": cluster.count(index), "_shards": {"total": 1}})))
        }
        [index, "_doc", id] if read => {
            let id = decoded_segment(id);
            let found = cluster.index(index).and_then(|index| index.get(&id));
            Ok(match found {
                Some((version, seq_no, source)) => {
                    Answered::ok(json!({"_index": index, "_id": id, "_version": version,
                    "_seq_no": seq_no, "_primary_term": 1, "found": true, "_source": source}))
                }
                None => {
                    Answered { status: 404, value: json!({"_index": index, "_id": id, "found": false}), header: None }
                }
            })
        }
        _ => Err(Refusal::new(400, "", format!("no handler found for uri [{path}] and method [{method}]"))),
    }
}

/// Whether this caller may make this call.
fn may_call(shared: &Shared, parts: &Parts, segments: &[&str]) -> Result<(), Refusal> {
    let accepts = &shared.nature.accepts;
    let given = text(&parts.headers, AUTHORIZATION.as_str()).unwrap_or_default();
    if !accepts.is_empty() && !accepts.iter().any(|accepted| accepted == given) {
        // Worse than a server is: it says back what it was given.
        let reason = format!("unable to authenticate with [{given}] for REST request [{}]", parts.uri.path());
        return Err(Refusal::new(401, "security_exception", reason));
    }
    if shared.nature.may_only_write && segments.last() != Some(&"_bulk") {
        let reason = format!("action [{}] is unauthorized for this login", parts.uri.path());
        return Err(Refusal::new(403, "security_exception", reason));
    }
    Ok(())
}

fn greeting(flavour: Flavour) -> Value {
    match flavour {
        Flavour::OpenSearch => json!({
            "name": "stub", "cluster_name": "stub", "cluster_uuid": "2cYEOPMaT02sZPoYXmh8Vw",
            "version": {"distribution": "opensearch", "number": "3.3.0", "build_type": "tar", "build_hash": "0", "build_snapshot": false,
                "lucene_version": "10.3.0", "minimum_wire_compatibility_version": "2.19.0", "minimum_index_compatibility_version": "2.0.0"},
            "tagline": "The OpenSearch Project: https://opensearch.org/",
        }),
        Flavour::Elasticsearch => json!({
            "name": "stub", "cluster_name": "stub", "cluster_uuid": "2cYEOPMaT02sZPoYXmh8Vw",
            "version": {"number": "9.2.1", "build_flavor": "default", "build_type": "tar", "build_hash": "0", "build_snapshot": false,
                "lucene_version": "10.3.0", "minimum_wire_compatibility_version": "8.19.0", "minimum_index_compatibility_version": "8.0.0"},
            "tagline": "You Know, for Search",
        }),
    }
}

/// The query, decoded.
pub(crate) fn query(parts: &Parts) -> Vec<(String, String)> {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    url::form_urlencoded::parse(query).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

fn decoded_segment(segment: &str) -> String {
    let pair = format!("x={}", segment.replace('+', "%2B"));
    let decoded = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned());
    decoded.unwrap_or_default()
}

/// Refuses a query with something in it that is not known.
pub(crate) fn known(query: &[(String, String)], parts: &Parts, known: &[&str]) -> Result<(), Refusal> {
    let unknown = query.iter().find(|(name, _)| !known.contains(&name.as_str()));
    unknown.map_or(Ok(()), |(name, _)| {
        let reason = format!("request [{}] contains unrecognized parameter: [{name}]", parts.uri.path());
        Err(Refusal::new(400, "illegal_argument_exception", reason))
    })
}

/// Refuses what is not NDJSON, or JSON, which both servers take for it.
pub(crate) fn content_type(flavour: Flavour, parts: &Parts) -> Result<(), Refusal> {
    let given = text(&parts.headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = given.split(';').next().unwrap_or_default().trim();
    let is_taken = match kind {
        "application/x-ndjson" | "application/json" => true,
        "application/vnd.elasticsearch+x-ndjson" | "application/vnd.elasticsearch+json" => {
            flavour == Flavour::Elasticsearch
        }
        _ => false,
    };
    if is_taken {
        Ok(())
    } else {
        Err(Refusal::new(406, "", format!("Content-Type header [{given}] is not supported")))
    }
}

/// The body as it was before it was compressed, and whether it was.
pub(crate) fn decoded(parts: &Parts, body: &Bytes) -> Result<(Vec<u8>, bool), Refusal> {
    match text(&parts.headers, CONTENT_ENCODING.as_str()) {
        None | Some("identity") => Ok((body.to_vec(), false)),
        Some("gzip") => {
            let mut decoded = Vec::new();
            let read = GzDecoder::new(body.as_ref()).read_to_end(&mut decoded);
            read.map_err(|error| Refusal::new(400, "parse_exception", format!("not gzip: {error}")))?;
            Ok((decoded, true))
        }
        Some(other) => Err(Refusal::new(400, "parse_exception", format!("unknown encoding [{other}]"))),
    }
}
