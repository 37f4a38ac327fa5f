//! Reaches the stream at the start, within a bounded time, and says clearly what is wrong where it cannot.

use std::time::Duration;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::types::StreamStatus;
use shardflow::metrics::RetryMetrics;
use shardflow::retry::Failed;
use shardflow::{Error, ErrorKind, Result};
use shardflow_aws::config::Given;
use shardflow_aws::connect::Opening;
use shardflow_aws::failure::{Failure, Remedy};

use super::ProducerSettings;
use super::edge::{Service, Stream};
use super::shards::ShardMap;

/// How long a connection may take to come about.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

/// The stream, after a first successful call, and its shards where they have to be known.
///
/// # Errors
/// [`ErrorKind::Config`]: a bad name, region or endpoint, no credentials, or the service refuses (no such stream, no permission).
/// [`ErrorKind::Sink`]: it could not be reached.
pub(super) async fn connect(settings: &ProducerSettings) -> Result<(Stream, Option<ShardMap>)> {
    let given = &settings.stream;
    let StreamName { name, arn } = StreamName::parse(given).ok_or_else(|| {
        Error::config(format!("could not read stream \"{given}\": that is neither a stream's name nor its ARN"))
    })?;
    let opening = Opening::new(ErrorKind::Sink, format!("stream \"{given}\""), settings.connect_timeout);
    let (config, place) = opening.configure(settings.given(arn.as_deref())).await?;
    let timeouts =
        TimeoutConfig::builder().connect_timeout(TCP_TIMEOUT).operation_attempt_timeout(settings.call_timeout);
    let config = aws_sdk_kinesis::config::Builder::from(&config)
        // Retries are ours: the SDK's would send a whole call again where some of its records were refused.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build());
    let sdk = aws_sdk_kinesis::Client::from_conf(config.build());
    let stream = Stream { sdk, description: format!("stream \"{name}\" at {place}"), name, arn };
    let metrics = RetryMetrics::unseen();
    opening.repeat(&stream.description, &metrics, || stream.is_there()).await?;
    if settings.aggregation.is_none() {
        return Ok((stream, None));
    }
    let subject = format!("the shards of {}", stream.description);
    let shards = opening.repeat(&subject, &metrics, || stream.shards()).await?;
    Ok((stream, Some(shards)))
}

impl ProducerSettings {
    /// Where records go, as far as it is known before anything is reached: `stream "usage" at region eu-west-1`. What is no
    /// stream's name is not shown: it might be anything.
    pub(crate) fn place(&self) -> String {
        match StreamName::parse(&self.stream) {
            Some(StreamName { name, arn }) => self.given(arn.as_deref()).locate(&format!("stream \"{name}\"")),
            None => "a stream without a name that it can have".to_owned(),
        }
    }

    fn given<'a>(&'a self, arn: Option<&'a str>) -> Given<'a> {
        Given {
            service: "Kinesis",
            config: self.sdk_config.as_ref(),
            endpoint: self.endpoint.as_deref(),
            region: self.region.as_deref(),
            otherwise: arn.and_then(|arn| arn.split(':').nth(3)),
        }
    }
}

impl Stream {
    /// Whether the stream takes records, as far as this program may know: one that may only put is not told, and finds out.
    async fn is_there(&self) -> Result<(), Failure> {
        let call = self.sdk.describe_stream_summary().stream_name(&self.name).set_stream_arn(self.arn.clone());
        let answer = match call.send().await.map_err(|error| Failure::of(&error)) {
            Ok(answer) => answer,
            Err(failure) if failure.text.starts_with("AccessDenied") => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let no = |remedy, text: &str| Err(Failure { remedy, text: text.to_owned() });
        match answer.stream_description_summary().map(|summary| summary.stream_status()) {
            Some(StreamStatus::Creating) => no(Remedy::Retry(Failed::Transient), "the stream is still being created"),
            Some(StreamStatus::Deleting) => no(Remedy::None, "the stream is being deleted"),
            Some(_) => Ok(()),
            None => no(Remedy::Retry(Failed::Transient), "the answer to DescribeStreamSummary has no summary"),
        }
    }
}

/// A stream's name, and its ARN where the user gave one.
#[derive(Debug, PartialEq, Eq)]
struct StreamName {
    name: String,
    arn: Option<String>,
}

impl StreamName {
    /// Reads `usage` or `arn:aws:kinesis:eu-west-1:123456789012:stream/usage`.
    fn parse(text: &str) -> Option<Self> {
        let (name, arn) = match text.strip_prefix("arn:") {
            None => (text, None),
            Some(rest) => {
                let parts: Vec<&str> = rest.splitn(5, ':').collect();
                let [_partition, "kinesis", region, _account, resource] = parts.as_slice() else { return None };
                if region.is_empty() {
                    return None;
                }
                (resource.strip_prefix("stream/")?, Some(text.to_owned()))
            }
        };
        let is_name = (1..=128).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        is_name.then(|| Self { name: name.to_owned(), arn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_are_told_apart_and_what_is_neither_is_refused() {
        let name = |text: &str| StreamName::parse(text).map(|stream| (stream.name, stream.arn));
        assert_eq!(name("usage.v2_x-y"), Some(("usage.v2_x-y".to_owned(), None)));
        let arn = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/usage";
        assert_eq!(name(arn), Some(("usage".to_owned(), Some(arn.to_owned()))));
        for bad in
            ["", "a b", "a/b", "arn:aws:s3:::bucket", "arn:aws:kinesis:r:1:table/x", "arn:aws:kinesis::1:stream/x"]
        {
            assert_eq!(name(bad), None, "{bad}");
        }
    }
}
