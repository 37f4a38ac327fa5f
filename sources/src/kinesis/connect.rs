//! Reaches the stream at the start, within a bounded time, and says clearly what is wrong where it cannot.

use std::future::Future;
use std::time::Duration;

use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use shardflow::metrics::SourceMetrics;
use shardflow::{Error, Result};
use tokio::time::{Instant, timeout_at};

use super::client::{Client, StreamName, Summary};
use super::consumer;
use super::shard::Way;
use super::{Kinesis, ReadMode};
use crate::aws::config::{Given, credentials, is_url};
use crate::aws::failure::Failure;
use crate::aws::retry::{Retries, WallClock};

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
    let bounds = Bounds::new(settings);
    let (client, summary) = bounds.reach(metrics).await?;
    let way = bounds.way(&client, &summary, metrics).await?;
    Ok(Connected { client, summary, way })
}

/// A client for the stream, after its first successful call.
///
/// # Errors
/// As of [`connect`].
pub(crate) async fn reach(settings: &Kinesis, metrics: &SourceMetrics) -> Result<Client> {
    Bounds::new(settings).reach(metrics).await.map(|(client, _)| client)
}
/// The time that reaching the stream may take, and what to say when it is over.
struct Bounds<'a> {
    settings: &'a Kinesis,
    /// How long that is.
    time: Duration,
    deadline: Instant,
}

impl<'a> Bounds<'a> {
    fn new(settings: &'a Kinesis) -> Self {
        let time = settings.connect_timeout.min(Duration::from_secs(3600));
        Self { settings, time, deadline: Instant::now() + time }
    }

    /// `stream "usage" at http://…`, as far as the settings tell.
    fn subject(&self) -> String {
        let place = self.settings.endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("stream \"{}\"{place}", self.settings.stream)
    }

    fn refused(&self, why: &str) -> Error {
        Error::config(format!("could not open {}: {why}", self.subject()))
    }

    async fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T> {
        timeout_at(self.deadline, work).await.map_err(|_| {
            let time = self.time;
            Error::source(format!("could not open {}: {what} took longer than {time:?}", self.subject()))
        })
    }

    /// A client, and what the stream is.
    async fn reach(&self, metrics: &SourceMetrics) -> Result<(Client, Summary)> {
        let settings = self.settings;
        let stream = StreamName::parse(&settings.stream).ok_or_else(|| {
            let given = &settings.stream;
            Error::config(format!("could not read stream \"{given}\": that is neither a stream's name nor its ARN"))
        })?;
        if let Some(endpoint) = settings.endpoint.as_deref().filter(|endpoint| !is_url(endpoint)) {
            return Err(Error::config(format!(
                "could not use the endpoint \"{endpoint}\": it must begin with http:// or https:// and name a host"
            )));
        }
        let given = Given {
            config: settings.sdk_config.as_ref(),
            endpoint: settings.endpoint.as_deref(),
            region: settings.region.as_deref(),
            otherwise: stream.region(),
        };
        let config = self.within("finding the AWS configuration", given.load()).await?;
        let region = config.region().map(ToString::to_string).ok_or_else(|| self.refused("no AWS region is set"))?;
        self.within("getting AWS credentials", credentials(&config)).await?.map_err(|text| self.refused(&text))?;
        let sdk = aws_sdk_kinesis::Client::from_conf(
            aws_sdk_kinesis::config::Builder::from(&config)
                // Retries are ours: the SDK's would hide throttling from the pacing and end too soon.
                .retry_config(RetryConfig::disabled())
                .timeout_config(
                    TimeoutConfig::builder()
                        .connect_timeout(TCP_TIMEOUT)
                        .operation_attempt_timeout(CALL_TIMEOUT)
                        .build(),
                )
                .build(),
        );
        let place = config.endpoint_url().map_or_else(|| format!("region {region}"), ToOwned::to_owned);
        let client = Client { sdk, description: format!("stream \"{}\" at {place}", stream.name), stream };
        let summary = self.repeat(&client.description, metrics, || client.summary()).await?;
        Ok((client, summary))
    }

    /// How the shards are read. Registers the consumer, or finds it.
    async fn way(&self, client: &Client, summary: &Summary, metrics: &SourceMetrics) -> Result<Way> {
        let (consumer, or_poll) = match &self.settings.read_mode {
            ReadMode::Polling => return Ok(Way::Polling),
            ReadMode::FanOut { consumer } => (consumer, false),
            ReadMode::Automatic { consumer } => (consumer, true),
        };
        let subject = format!("consumer \"{consumer}\" of {}", client.description);
        let look = || consumer::active(&client.sdk, &summary.arn, consumer);
        // Too many at a time, and too many in all, are one answer: it is given time to be the former.
        let patient =
            Bounds { settings: self.settings, time: CONSUMER_TIMEOUT, deadline: Instant::now() + CONSUMER_TIMEOUT };
        match patient.repeat(&subject, metrics, look).await {
            Ok(arn) => Ok(Way::FanOut { consumer: arn.into(), or_poll }),
            Err(error) if or_poll => {
                tracing::warn!(consumer, stream = client.description, %error, "fan-out is refused: the shards are polled");
                Ok(Way::Polling)
            }
            Err(error) => Err(error),
        }
    }

    /// Calls until there is an answer, the failure cannot pass, or the time is over.
    async fn repeat<T, F>(&self, subject: &str, metrics: &SourceMetrics, mut call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut last = None;
        let attempts = async {
            let mut retries = Retries::new(Duration::MAX, &WallClock, metrics, format!("reach {subject}"));
            loop {
                let failure = match call().await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                if failure.remedy.is_final_at_start() {
                    return Err(Error::config(format!("could not open {subject}")).caused_by(failure));
                }
                last = Some(failure.clone());
                retries
                    .wait_out(failure)
                    .await
                    .map_err(|failure| Error::source(format!("could not open {subject}")).caused_by(failure))?;
            }
        };
        let answer = timeout_at(self.deadline, attempts).await;
        answer.unwrap_or_else(|_| {
            let time = self.time;
            let error = Error::source(format!("could not reach {subject} within {time:?}"));
            Err(match last {
                Some(failure) => error.caused_by(failure),
                None => error,
            })
        })
    }
}
