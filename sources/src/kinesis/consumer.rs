//! The registered consumer that subscriptions of enhanced fan-out belong to.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ConsumerStatus;
use shardflow::retry::Failed;
use shardflow_aws::failure::{Failure, Remedy};

/// The ARN of the consumer of this name, once it is active: registers it where there is none. To be called again while
/// the failure says that it may pass: a consumer that was just registered is active a few seconds later.
pub(crate) async fn active(sdk: &Client, stream_arn: &str, name: &str) -> Result<String, Failure> {
    let described = sdk.describe_stream_consumer().stream_arn(stream_arn).consumer_name(name).send().await;
    match described.map_err(|error| Failure::of(&error)) {
        Ok(answer) => {
            let description = answer.consumer_description.ok_or_else(|| waiting("the answer does not describe it"))?;
            match description.consumer_status {
                ConsumerStatus::Active => Ok(description.consumer_arn),
                status => Err(waiting(&format!("it is {status}"))),
            }
        }
        Err(failure) if failure.remedy == Remedy::Missing => {
            let registered = sdk.register_stream_consumer().stream_arn(stream_arn).consumer_name(name).send().await;
            registered.map_err(|error| Failure::of(&error))?;
            tracing::info!(consumer = name, stream = stream_arn, "consumer registered for enhanced fan-out");
            Err(waiting("it was just registered"))
        }
        Err(failure) => Err(failure),
    }
}

/// Takes the consumer of this name off the stream. `Ok(false)`: there was none.
pub(crate) async fn deregister(sdk: &Client, stream_arn: &str, name: &str) -> Result<bool, Failure> {
    let call = sdk.deregister_stream_consumer().stream_arn(stream_arn).consumer_name(name).send().await;
    match call.map_err(|error| Failure::of(&error)) {
        Ok(_) => Ok(true),
        Err(failure) if failure.remedy == Remedy::Missing => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn waiting(text: &str) -> Failure {
    Failure { remedy: Remedy::Retry(Failed::Transient), text: text.to_owned() }
}
