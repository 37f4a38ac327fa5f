//! One PutRecords call, and what its answer means for each of its records.

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use shardflow::retry::Failed;
use shardflow_aws::failure::{Failure, Remedy, may_have_happened};

use super::queue::Waiting;
use crate::stream::Stream;

/// The answer about a call's records.
#[derive(Debug)]
pub(super) enum Answer {
    /// One fate a record, in order: it was taken, or it was not.
    Each(Vec<Result<(), Failure>>),
    /// None was taken, as far as is known.
    None {
        failure: Failure,
        /// The call may have been carried out nevertheless: its answer was lost.
        may_be_there: bool,
    },
}

/// Sends records.
pub(super) async fn send(stream: &Stream, batch: &[Waiting]) -> Answer {
    let mut entries = Vec::with_capacity(batch.len());
    for Waiting { record, .. } in batch {
        let entry = PutRecordsRequestEntry::builder().partition_key(record.partition_key());
        let entry = entry.set_explicit_hash_key(record.explicit_hash_key().map(ToOwned::to_owned));
        match entry.data(Blob::new(record.data())).build() {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                let failure = Failure { remedy: Remedy::None, text: error.to_string() };
                return Answer::None { failure, may_be_there: false };
            }
        }
    }
    let call = stream.sdk().put_records().stream_name(stream.name()).set_stream_arn(stream.given_arn());
    match call.set_records(Some(entries)).send().await {
        Ok(answer) if answer.records().len() == batch.len() => {
            Answer::Each(answer.records().iter().map(fate).collect())
        }
        // Nobody can tell which of the records the answer is about.
        Ok(answer) => Answer::None {
            failure: Failure {
                remedy: Remedy::Retry(Failed::Transient),
                text: format!("the answer is about {} records and not {}", answer.records().len(), batch.len()),
            },
            may_be_there: true,
        },
        Err(error) => Answer::None { may_be_there: may_have_happened(&error), failure: Failure::of(&error) },
    }
}

fn fate(entry: &PutRecordsResultEntry) -> Result<(), Failure> {
    match entry.error_code() {
        None => Ok(()),
        Some(code) => Err(Failure::of_code(code, entry.error_message().unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate_of(code: Option<&str>) -> Result<(), Remedy> {
        let entry = PutRecordsResultEntry::builder().set_error_code(code.map(ToOwned::to_owned)).build();
        fate(&entry).map_err(|failure| failure.remedy)
    }

    #[test]
    fn each_record_has_its_fate() {
        assert_eq!(fate_of(None), Ok(()));
        let throttled = Err(Remedy::Retry(Failed::Throttled));
        assert_eq!(fate_of(Some("ProvisionedThroughputExceededException")), throttled);
        assert_eq!(fate_of(Some("InternalFailure")), Err(Remedy::Retry(Failed::Transient)));
        assert_eq!(fate_of(Some("KMSAccessDeniedException")), Err(Remedy::None));
    }
}
