//! A front for the embedded stand-in that takes records of up to 10 MiB, and calls of up to 10 MiB, as AWS does since October 2025:
//! the stand-in's server refuses records of more than 1 MiB and calls of more than 5 MiB.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrokinesis::store::Store;
use serde_json::{Value, json};

/// The stream's largest record, and the largest call.
const CALL: usize = 10 << 20;

#[derive(Clone)]
struct Front {
    store: Store,
    record_bytes: usize,
}

/// Starts one whose stream is set to take records of so many bytes. Gives its endpoint; it ends with the test's runtime.
pub(crate) async fn front(store: &Store, record_bytes: usize) -> String {
    let front = Front { store: store.clone(), record_bytes };
    let app = Router::new().route("/", post(answer)).layer(DefaultBodyLimit::disable()).with_state(front);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    endpoint
}

async fn answer(State(front): State<Front>, headers: HeaderMap, body: Bytes) -> Response {
    let operation = headers["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    match operation {
        "PutRecords" => put_records(&front, &body).await,
        "DescribeStreamSummary" => {
            let answer = ferrokinesis::actions::describe_stream_summary::execute(&front.store, body).await;
            ok(answer.unwrap().unwrap())
        }
        other => panic!("the front does not know {other}"),
    }
}

async fn put_records(front: &Front, body: &Value) -> Response {
    let records = body["Records"].as_array().unwrap();
    let weight = |record: &Value| {
        STANDARD.decode(record["Data"].as_str().unwrap()).unwrap().len()
            + record["PartitionKey"].as_str().unwrap().len()
    };
    let weights: Vec<usize> = records.iter().map(weight).collect();
    if records.len() > 500 || weights.iter().sum::<usize>() > CALL {
        return refused("InvalidArgumentException", "Records size exceeds 10 MiB limit");
    }
    if weights.iter().any(|weight| *weight > front.record_bytes) {
        return refused("ValidationException", "a record is larger than the stream takes");
    }
    let mut taken = Vec::new();
    for record in records {
        let mut record = record.clone();
        record["StreamName"] = body["StreamName"].clone();
        let answer = ferrokinesis::actions::put_record::execute(&front.store, record).await;
        taken.push(answer.unwrap().unwrap());
    }
    ok(json!({"FailedRecordCount": 0, "Records": taken}))
}

fn ok(body: Value) -> Response {
    ([("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

fn refused(code: &str, message: &str) -> Response {
    let body = json!({"__type": code, "message": message}).to_string();
    (StatusCode::BAD_REQUEST, [("content-type", "application/x-amz-json-1.1")], body).into_response()
}
