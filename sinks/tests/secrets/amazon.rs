//! A service of Amazon's on loopback, as far as the sinks ask it; and one that says back what it is sent.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use axum::body::Body;
use axum::http::Response;
use serde_json::{Value, json};

use shardflow_stand_ins::hook::{Got, status};

/// The operation that is called.
pub(crate) fn operation(got: &Got) -> &str {
    got.header("x-amz-target").and_then(|target| target.rsplit('.').next()).unwrap_or_default()
}

/// Answers as a service with a stream and a table does, to which everything can be written.
pub(crate) fn works(got: &Got) -> Response<Body> {
    let answer = match operation(got) {
        "DescribeStreamSummary" => json!({"StreamDescriptionSummary": {
            "StreamName": "usage",
            "StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/usage",
            "StreamStatus": "ACTIVE",
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": 1.0,
            "EnhancedMonitoring": [],
            "OpenShardCount": 1,
        }}),
        "PutRecords" => {
            let placed = json!({"SequenceNumber": "1", "ShardId": "shardId-000000000000"});
            json!({"FailedRecordCount": 0, "Records": vec![placed; records(got)]})
        }
        "DescribeTable" => json!({"Table": {
            "TableName": "charges",
            "TableStatus": "ACTIVE",
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        }}),
        "BatchWriteItem" => json!({"UnprocessedItems": {}}),
        _ => json!({}),
    };
    status(200, &answer.to_string())
}

/// How many records a PutRecords call has.
pub(crate) fn records(got: &Got) -> usize {
    got.json()["Records"].as_array().map_or(0, Vec::len)
}

/// What AWS says where a signature is wrong: all that it was sent.
pub(crate) fn said_back(got: &Got) -> String {
    let headers = got.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.to_str().unwrap()));
    let (path, headers, body) = (&got.path, headers.collect::<String>(), String::from_utf8_lossy(&got.body));
    format!(
        "The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for this request \
         should have been\n'POST\n{path}\n\n{headers}\n'\n\nThe String-to-Sign should have been\n'AWS4-HMAC-SHA256\n{body}'"
    )
}

/// A refusal with this code that says everything back.
pub(crate) fn refuses(code: u16, error: &str, got: &Got) -> Response<Body> {
    let answer: Value = json!({"__type": error, "message": said_back(got)});
    status(code, &answer.to_string())
}

/// Credentials for a service at `endpoint`.
pub(crate) fn config(endpoint: &str, [id, secret, token]: [&str; 3]) -> SdkConfig {
    let credentials = Credentials::new(id, secret, Some(token.to_owned()), None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}
