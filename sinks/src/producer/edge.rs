//! The two calls a producer makes, with the SDK's types left behind.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;

use aws_sdk_kinesis::config::http::{HttpRequest, HttpResponse};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types;
use aws_sdk_kinesis::types::PutRecordsResultEntry;
use bytes::Bytes;
use foldhash::fast::RandomState;
use shardflow::retry::Failed;
use shardflow_aws::failure::{Failure, Remedy, may_have_happened};

use super::body::{CONTENT_TYPE, body};
use super::item::{Answer, At};
use super::pack::Wire;
use super::shards::{Range, Shard, ShardMap};

/// The service, as a producer sees it.
pub(super) trait Service: Clone + Send + Sync + 'static {
    /// Sends stream records, once.
    fn put(&self, records: Vec<Wire<'_>>) -> impl Future<Output = Answer> + Send;
    /// Lists the shards, once.
    fn shards(&self) -> impl Future<Output = Result<ShardMap, Failure>> + Send;
}

/// One stream, reached through the SDK.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) sdk: aws_sdk_kinesis::Client,
    pub(super) name: String,
    /// Where it was given.
    pub(super) arn: Option<String>,
    /// `stream "usage" at http://…`
    pub(super) description: String,
}

impl Service for Stream {
    async fn put(&self, records: Vec<Wire<'_>>) -> Answer {
        let count = records.len();
        let body = body(&self.name, self.arn.as_deref(), &records);
        // Aggregates are in the body now, and would lie beside it until there is an answer.
        drop(records);
        let call = self.sdk.put_records().stream_name(&self.name).set_stream_arn(self.arn.clone());
        match call.customize().map_request(move |request| with(request, body.clone())).send().await {
            Ok(answer) => each(answer.records(), count),
            Err(error) => Answer::Failed {
                maybe_there: may_have_happened(&error),
                blames_a_record: blames_a_record(&error),
                failure: Failure::of(&error),
            },
        }
    }

    async fn shards(&self) -> Result<ShardMap, Failure> {
        let mut shards = Vec::new();
        let mut token = None;
        loop {
            // A token stands for the stream, and naming the stream beside it is an error; its ARN is not.
            let name = token.is_none().then(|| self.name.clone());
            let call = self.sdk.list_shards().set_stream_name(name).set_next_token(token);
            let answer = call.set_stream_arn(self.arn.clone()).send().await;
            let answer = answer.map_err(|error| Failure::of(&error))?;
            for listed in answer.shards() {
                shards.push(shard(listed)?);
            }
            token = answer.next_token().map(ToOwned::to_owned);
            if token.is_none() {
                break;
            }
        }
        let none = || Failure {
            remedy: Remedy::Retry(Failed::Transient),
            text: "the shards listed do not take all hash keys".to_owned(),
        };
        ShardMap::new(shards).ok_or_else(none)
    }
}

/// The request with this body in place of the SDK's.
///
/// # Errors
/// A later SDK may speak otherwise with the service than the body does.
fn with(mut request: HttpRequest, body: Bytes) -> Result<HttpRequest, io::Error> {
    let headers = request.headers_mut();
    let content_type = headers.get("content-type").unwrap_or_default();
    if content_type != CONTENT_TYPE {
        return Err(io::Error::other(format!("the SDK writes {content_type}, and not {CONTENT_TYPE}")));
    }
    headers.insert("content-length", body.len().to_string());
    *request.body_mut() = body.into();
    Ok(request)
}

fn shard(shard: &types::Shard) -> Result<Shard, Failure> {
    let id: Arc<str> = shard.shard_id().into();
    let range = shard.hash_key_range().and_then(|range| {
        Some(Range { first: range.starting_hash_key().parse().ok()?, last: range.ending_hash_key().parse().ok()? })
    });
    let range = range.ok_or_else(|| Failure {
        remedy: Remedy::Retry(Failed::Transient),
        text: format!("the listing gives no hash key range of \"{id}\""),
    })?;
    let is_open = shard.sequence_number_range().is_none_or(|range| range.ending_sequence_number().is_none());
    Ok(Shard { id, range, is_open })
}

/// The shards that an answer names, each once: its records share them.
#[derive(Default)]
struct Shards<'a>(HashMap<&'a str, Arc<str>, RandomState>);

impl<'a> Shards<'a> {
    fn get(&mut self, id: &'a str) -> Arc<str> {
        Arc::clone(self.0.entry(id).or_insert_with(|| id.into()))
    }
}

/// What an answer says of each of so many records. Where it leaves one out, nobody can tell of any whether it is there.
fn each(entries: &[PutRecordsResultEntry], count: usize) -> Answer {
    let mut shards = Shards::default();
    let fates: Option<Vec<_>> = entries.iter().map(|entry| fate(entry, &mut shards)).collect();
    let text = match fates {
        Some(fates) if fates.len() == count => return Answer::Each(fates),
        Some(fates) => format!("the answer is about {} records and not {count}", fates.len()),
        None => "the answer gives no place of a record, nor why it has none".to_owned(),
    };
    let failure = Failure { remedy: Remedy::Retry(Failed::Transient), text };
    Answer::Failed { failure, maybe_there: true, blames_a_record: false }
}

/// `None`: it says neither that it is there nor that it is not.
fn fate<'a>(entry: &'a PutRecordsResultEntry, shards: &mut Shards<'a>) -> Option<Result<At, Failure>> {
    if let Some(code) = entry.error_code() {
        return Some(Err(Failure::of_code(code, entry.error_message().unwrap_or_default())));
    }
    Some(Ok(At { shard: shards.get(entry.shard_id()?), sequence: entry.sequence_number()?.into() }))
}

/// Whether the service says that something is wrong with the call: one of its records, then.
fn blames_a_record<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    const CODES: [&str; 3] = ["InvalidArgumentException", "ValidationException", "SerializationException"];
    let code = match error {
        SdkError::ServiceError(service) => service.err().code(),
        _ => None,
    };
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    status == Some(413) || (status == Some(400) && code.is_some_and(|code| CODES.contains(&code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(code: Option<&str>, shard: Option<&str>) -> PutRecordsResultEntry {
        let entry = PutRecordsResultEntry::builder().set_error_code(code.map(ToOwned::to_owned));
        entry.set_shard_id(shard.map(ToOwned::to_owned)).sequence_number("7").build()
    }

    #[test]
    fn each_record_has_its_fate() {
        for (code, shard, expected) in [
            (None, Some("s"), Ok(At { shard: "s".into(), sequence: "7".into() })),
            (Some("ProvisionedThroughputExceededException"), None, Err(Remedy::Retry(Failed::Throttled))),
            (Some("InternalFailure"), None, Err(Remedy::Retry(Failed::Transient))),
            (Some("KMSAccessDeniedException"), None, Err(Remedy::None)),
        ] {
            let answer = each(&[entry(code, shard)], 1);
            let Answer::Each(fates) = answer else { panic!("{answer:?}") };
            assert_eq!(
                fates.into_iter().map(|fate| fate.map_err(|failure| failure.remedy)).collect::<Vec<_>>(),
                [expected]
            );
        }
    }

    #[test]
    fn what_an_answer_does_not_tell_of_may_be_there() {
        let there = entry(None, Some("s"));
        for (entries, count) in [(vec![there.clone()], 2), (vec![there, entry(None, None)], 2)] {
            let answer = each(&entries, count);
            assert!(matches!(answer, Answer::Failed { maybe_there: true, .. }), "{answer:?}");
        }
    }

    #[test]
    fn a_body_goes_only_into_a_request_of_its_protocol() {
        let request = |content_type: &'static str| {
            let mut request = HttpRequest::new("theirs".into());
            request.headers_mut().insert("content-type", content_type);
            with(request, Bytes::from_static(b"ours"))
        };
        let sent = request(CONTENT_TYPE).unwrap();
        assert_eq!((sent.body().bytes(), sent.headers().get("content-length")), (Some(&b"ours"[..]), Some("4")));
        assert!(request("application/cbor").unwrap_err().to_string().contains("application/cbor"));
    }

    #[test]
    fn a_listing_tells_open_shards_from_closed_ones() {
        let listed = |last: Option<&str>, first_hash: &str| {
            let numbers = types::SequenceNumberRange::builder().starting_sequence_number("1");
            let numbers = numbers.set_ending_sequence_number(last.map(ToOwned::to_owned)).build().unwrap();
            let range = types::HashKeyRange::builder().starting_hash_key(first_hash).ending_hash_key("9");
            let built = types::Shard::builder().shard_id("s").sequence_number_range(numbers);
            built.hash_key_range(range.build().unwrap()).build().unwrap()
        };
        let read = shard(&listed(None, "3")).unwrap();
        assert_eq!((read.range, read.is_open), (Range { first: 3, last: 9 }, true));
        assert!(!shard(&listed(Some("5"), "3")).unwrap().is_open);
        assert!(shard(&listed(None, "x")).is_err());
    }
}
