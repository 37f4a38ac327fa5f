//! Reaches the stream at the start, within a bounded time, and says clearly what is wrong where it cannot.

use std::time::Duration;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use shardflow::metrics::SourceMetrics;
use shardflow::{Error, ErrorKind, Result};
use shardflow_aws::config::Given;
use shardflow_aws::connect::Opening;

use super::client::{Client, StreamName, Summary};
use super::consumer;
use super::shard::Way;
use super::{Kinesis, ReadMode};

/// How long one call may take. GetRecords may answer with 10 MiB; a call that takes longer than this is lost.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a consumer that was just registered may take to be active.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection may take to come about.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

/// The stream as a start has found it.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) summary: Summary,
    /// How its shards are read.
    pub(super) way: Way,
}

/// Reaches the stream: a client after its first successful calls, and a consumer where fan-out is asked for.
///
/// # Errors
/// [`ErrorKind::Config`](shardflow::ErrorKind::Config): a bad name, region or endpoint, no credentials, or the service
/// refuses (no such stream, no permission). [`ErrorKind::Source`](shardflow::ErrorKind::Source): it could not be reached.
pub(super) async fn connect(settings: &Kinesis, metrics: &SourceMetrics) -> Result<Connected> {
    let (client, summary) = stream(settings, metrics).await?;
    let way = way(settings, &client, &summary, metrics).await?;
    Ok(Connected { client, summary, way })
}

/// A client for the stream, after its first successful call.
///
/// # Errors
/// As of [`connect`].
pub(crate) async fn reach(settings: &Kinesis, metrics: &SourceMetrics) -> Result<Client> {
    stream(settings, metrics).await.map(|(client, _)| client)
}

/// A client, and what the stream is.
async fn stream(settings: &Kinesis, metrics: &SourceMetrics) -> Result<(Client, Summary)> {
    let given = &settings.stream;
    let stream = StreamName::parse(given).ok_or_else(|| {
        Error::config(format!("could not read stream \"{given}\": that is neither a stream's name nor its ARN"))
    })?;
    let opening = Opening::new(ErrorKind::Source, format!("stream \"{given}\""), settings.connect_timeout);
    let given = Given {
        service: "Kinesis",
        config: settings.sdk_config.as_ref(),
        endpoint: settings.endpoint.as_deref(),
        region: settings.region.as_deref(),
        otherwise: stream.region(),
    };
    let (config, place) = opening.configure(given).await?;
    let timeouts = TimeoutConfig::builder().connect_timeout(TCP_TIMEOUT).operation_attempt_timeout(CALL_TIMEOUT);
    let config = aws_sdk_kinesis::config::Builder::from(&config)
        // Retries are ours: the SDK's would hide throttling from the pacing and end too soon.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build());
    let sdk = aws_sdk_kinesis::Client::from_conf(config.build());
    let client = Client { sdk, description: format!("stream \"{}\" at {place}", stream.name), stream };
    let summary = opening.repeat(&client.description, &metrics.retries, || client.summary()).await?;
    Ok((client, summary))
}

/// How the shards are read. Registers the consumer, or finds it.
async fn way(settings: &Kinesis, client: &Client, summary: &Summary, metrics: &SourceMetrics) -> Result<Way> {
    let (consumer, or_poll) = match &settings.read_mode {
        ReadMode::Polling => return Ok(Way::Polling),
        ReadMode::FanOut { consumer } => (consumer, false),
        ReadMode::Automatic { consumer } => (consumer, true),
    };
    let subject = format!("consumer \"{consumer}\" of {}", client.description);
    // Too many at a time, and too many in all, are one answer: it is given time to be the former.
    let opening = Opening::new(ErrorKind::Source, subject.clone(), CONSUMER_TIMEOUT);
    let look = || consumer::active(&client.sdk, &summary.arn, consumer);
    match opening.repeat(&subject, &metrics.retries, look).await {
        Ok(arn) => Ok(Way::FanOut { consumer: arn.into(), or_poll }),
        Err(error) if or_poll => {
            tracing::warn!(consumer, stream = client.description, %error, "fan-out is refused: the shards are polled");
            Ok(Way::Polling)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use aws_config::{Region, SdkConfig};
    use shardflow::vocabulary::StepName;

    use super::*;

    #[tokio::test]
    async fn an_endpoint_with_credentials_is_refused_and_not_repeated() {
        let bad = "https://user:SECRET@127.0.0.1:1";
        let config = SdkConfig::builder().region(Region::new("eu-west-1")).endpoint_url(bad).build();
        let usage = || Kinesis::stream("usage").region("eu-west-1");
        for settings in [usage().endpoint(bad), usage().sdk_config(config)] {
            let metrics = SourceMetrics::register(&StepName::new("usage"));
            let error = connect(&settings, &metrics).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            let error = format!("{error} {error:?}");
            assert!(error.contains("it holds a user name") && !error.contains("SECRET"), "{error}");
        }
    }
}
