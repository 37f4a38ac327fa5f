//! The body of a PutRecords call, written straight from the records. Pure.
//!
//! The SDK wants entries of its own, which it writes into a body: with many small records that is a sixth of what a call costs
//! the program, in copies of the data and their base64. So it is given a call without entries, and this body in place of its own,
//! before it signs. It is what the SDK would have written: a test compares them.

use bytes::Bytes;

use super::pack::Wire;

/// What the service knows the protocol by: that of the SDK, whose body this one replaces.
pub(super) const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// What an entry has around its data and key, about.
const AROUND: usize = 96;

/// The body of a call with these records, of which there is at least one.
pub(super) fn body(stream: &str, arn: Option<&str>, records: &[Wire<'_>]) -> Bytes {
    let size = |record: &Wire<'_>| record.data.len() / 3 * 4 + record.partition_key.len() + AROUND;
    let mut body = Vec::with_capacity(records.iter().map(size).sum::<usize>() + stream.len() + AROUND);
    let mut separator: &[u8] = b"{\"Records\":[";
    for Wire { partition_key, explicit_hash_key, data } in records {
        body.extend_from_slice(separator);
        body.extend_from_slice(b"{\"Data\":\"");
        base64_simd::STANDARD.encode_append(data, &mut body);
        body.extend_from_slice(b"\"");
        if let Some(hash_key) = explicit_hash_key {
            body.extend_from_slice(b",\"ExplicitHashKey\":");
            text(&mut body, hash_key);
        }
        body.extend_from_slice(b",\"PartitionKey\":");
        text(&mut body, partition_key);
        body.extend_from_slice(b"}");
        separator = b",";
    }
    body.extend_from_slice(b"],\"StreamName\":");
    text(&mut body, stream);
    if let Some(arn) = arn {
        body.extend_from_slice(b",\"StreamARN\":");
        text(&mut body, arn);
    }
    body.extend_from_slice(b"}");
    body.into()
}

/// A string of JSON.
fn text(body: &mut Vec<u8>, text: &str) {
    // Memory takes it, and a string is JSON.
    let _ = serde_json::to_writer(body, text);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_kinesis::primitives::Blob;
    use aws_sdk_kinesis::types::PutRecordsRequestEntry;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The content type and the body that the SDK makes of the same. The call goes nowhere.
    fn by_the_sdk(stream: &str, arn: Option<&str>, records: &[Wire<'_>]) -> (String, Vec<u8>) {
        let config = aws_sdk_kinesis::Config::builder().behavior_version(BehaviorVersion::latest());
        let config = config.region(Region::new("eu-central-1"));
        let config = config.credentials_provider(Credentials::new("id", "secret", None, None, "test"));
        let client = aws_sdk_kinesis::Client::from_conf(config.build());
        let entries = records.iter().map(|Wire { partition_key, explicit_hash_key, data }| {
            let entry = PutRecordsRequestEntry::builder().partition_key(*partition_key).data(Blob::new(data.to_vec()));
            entry.set_explicit_hash_key(explicit_hash_key.as_deref().map(str::to_owned)).build().unwrap()
        });
        let call = client.put_records().stream_name(stream).set_stream_arn(arn.map(str::to_owned));
        let seen = Arc::new(Mutex::new(None));
        let sees = Arc::clone(&seen);
        let call = call.set_records(Some(entries.collect())).customize().map_request(move |request| {
            let of = request.headers().get("content-type").unwrap().to_owned();
            *sees.lock().unwrap() = Some((of, request.body().bytes().unwrap().to_vec()));
            Err::<_, std::io::Error>(std::io::Error::other("it has been seen"))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(call.send()).unwrap_err();
        seen.lock().unwrap().take().unwrap_or_else(|| panic!("{error:?}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_what_the_sdk_would_write(
            stream in "[a-zA-Z0-9_.-]{1,20}",
            arn in proptest::option::of("arn:aws:kinesis:eu-central-1:[0-9]{12}:stream/[a-z]{1,9}"),
            records in proptest::collection::vec(
                (".{1,20}", proptest::option::of("[1-9][0-9]{0,37}"), proptest::collection::vec(any::<u8>(), 0..300)), 1..20,
            ),
        ) {
            let records: Vec<_> = records.iter().map(|(key, hash, data)| Wire {
                partition_key: key,
                explicit_hash_key: hash.as_deref().map(Into::into),
                data: data.into(),
            }).collect();
            let (content_type, theirs) = by_the_sdk(&stream, arn.as_deref(), &records);
            let ours = body(&stream, arn.as_deref(), &records);
            let read = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
            prop_assert_eq!(read(&ours), read(&theirs));
            prop_assert_eq!(content_type, CONTENT_TYPE);
        }
    }
}
