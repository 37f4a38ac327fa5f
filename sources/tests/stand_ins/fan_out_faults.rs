//! What an SDK client makes of a fan-out subscription that breaks. The reader of such subscriptions is written from this.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::StalledStreamProtectionConfig;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::subscribe_to_shard::{SubscribeToShardError, SubscribeToShardOutput};
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError as StreamError;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use tokio::sync::Mutex;

use shardflow_stand_ins::fault_proxy::{End, Fault, FaultProxy};
use shardflow_stand_ins::kinesis_local::KinesisLocal;
use shardflow_stand_ins::stand::{Stand, put, quiet};

/// Longer than any stand-in is silent by itself.
const SILENCE: Duration = Duration::from_secs(3);

/// A stream with ten records behind a proxy.
struct Behind {
    stand: Stand,
    proxy: FaultProxy,
    client: Client,
    /// Whether the server opens each subscription with an initial response, as AWS does.
    opens: bool,
    /// The consumers registered so far.
    consumers: Mutex<Vec<String>>,
    /// Ends the server behind.
    _server: Option<KinesisLocal>,
}

impl Behind {
    async fn embedded(tls: bool) -> Self {
        Self::new(Stand::embedded(1).await, tls, None).await
    }

    async fn kinesis_local(tls: bool) -> Option<Self> {
        let server = KinesisLocal::start().await?;
        let stand = Stand::at(server.plain_endpoint(), 1).await;
        Some(Self::new(stand, tls, Some(server)).await)
    }

    async fn new(stand: Stand, tls: bool, server: Option<KinesisLocal>) -> Self {
        put(stand.client(), 0..10).await;
        let endpoint = stand.endpoint();
        let proxy = if tls { FaultProxy::start_tls(endpoint).await } else { FaultProxy::start(endpoint).await };
        let client = Client::new(&quiet(proxy.endpoint(), proxy.certificate()));
        Self { stand, proxy, client, opens: server.is_none(), consumers: Mutex::default(), _server: server }
    }

    /// Subscribes from the oldest record on, and meets the fault.
    async fn subscribe(&self, fault: Fault) -> Result<SubscribeToShardOutput, SdkError<SubscribeToShardError>> {
        self.subscribe_with(&self.client, fault).await
    }

    /// Who subscribes: to kinesis-local, as to AWS, nobody may twice within 5 s.
    async fn consumer(&self) -> String {
        let mut consumers = self.consumers.lock().await;
        if let Some(consumer) = consumers.first().filter(|_| self.opens) {
            return consumer.clone();
        }
        let consumer = self.stand.consumer(&format!("consumer-{}", consumers.len())).await;
        consumers.push(consumer.clone());
        consumer
    }

    async fn subscribe_with(
        &self,
        client: &Client,
        fault: Fault,
    ) -> Result<SubscribeToShardOutput, SdkError<SubscribeToShardError>> {
        let consumer = self.consumer().await;
        self.proxy.inject(move |request| if request.operation == "SubscribeToShard" { fault } else { Fault::Pass });
        let position = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
        let call = client.subscribe_to_shard().consumer_arn(consumer).shard_id("shardId-000000000000");
        call.starting_position(position).send().await
    }

    /// The records that come before the subscription ends, and how it ends.
    async fn read(&self, fault: Fault) -> (usize, Ended) {
        let mut subscription = match self.subscribe(fault).await {
            Ok(subscription) => subscription,
            Err(error) => return (0, Ended::AtSend(error)),
        };
        let mut records = 0;
        loop {
            match tokio::time::timeout(SILENCE, subscription.event_stream.recv()).await {
                Err(_) => return (records, Ended::Silent),
                Ok(Ok(None)) => return (records, Ended::InOrder),
                Ok(Ok(Some(event))) => {
                    let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else { panic!("{event:?}") };
                    records += event.records().len();
                }
                Ok(Err(error)) => return (records, Ended::by(error)),
            }
        }
    }
}

/// How a subscription ends.
#[expect(clippy::large_enum_variant, reason = "a few are made")]
#[derive(Debug)]
enum Ended {
    InOrder,
    Silent,
    /// `DispatchFailure`, of the kind io.
    Io,
    /// `ResponseError`.
    Response,
    Exception(StreamError),
    AtSend(SdkError<SubscribeToShardError>),
}

impl Ended {
    fn by<R: std::fmt::Debug>(error: SdkError<StreamError, R>) -> Self {
        match error {
            SdkError::DispatchFailure(failure) if failure.is_io() => Self::Io,
            SdkError::ResponseError(_) => Self::Response,
            SdkError::ServiceError(error) => Self::Exception(error.into_err()),
            other => panic!("{other:?}"),
        }
    }
}

fn early(after: usize, how: End) -> Fault {
    Fault::EndStreamEarly { after, how }
}

/// Every kind of end, over one front.
async fn each_end_is_seen(behind: &Behind) {
    let (records, ended) = behind.read(early(1, End::Clean)).await;
    assert!(records == 10 && matches!(ended, Ended::InOrder), "{ended:?}");
    let (records, ended) = behind.read(early(1, End::Reset)).await;
    assert!(records == 10 && matches!(ended, Ended::Io), "{ended:?}");
    let (records, ended) = behind.read(early(1, End::MidFrame)).await;
    assert!(records == 10 && matches!(ended, Ended::Response), "{ended:?}");
    // The decoder has taken the 12 bytes and forgets them.
    let (records, ended) = behind.read(early(1, End::AfterPrelude)).await;
    assert!(records == 10 && matches!(ended, Ended::InOrder), "{ended:?}");
    let (records, ended) = behind.read(early(1, End::Silence)).await;
    assert!(records == 10 && matches!(ended, Ended::Silent), "{ended:?}");
}

/// Exceptions come as errors of the service; what tells them apart is the variant, for they have no code.
async fn each_exception_is_seen(behind: &Behind) {
    for (after, of, expected) in [
        (1, "InternalFailureException", StreamError::is_internal_failure_exception as fn(&StreamError) -> bool),
        (0, "ResourceInUseException", StreamError::is_resource_in_use_exception),
    ] {
        let (records, ended) = behind.read(early(after, End::Exception(of))).await;
        let Ended::Exception(error) = ended else { panic!("{ended:?}") };
        assert!(expected(&error) && error.meta().code().is_none());
        assert_eq!(records, 10 * after);
    }
    let (_, ended) = behind.read(early(1, End::Exception("SomethingNew"))).await;
    let Ended::Exception(error) = ended else { panic!("{ended:?}") };
    assert!(error.meta().code().is_none() && error.meta().message().unwrap().contains("SomethingNew"));
}

/// What breaks before the first frame breaks `send()`, which waits for it.
async fn each_failed_start_is_seen(behind: &Behind) {
    for (fault, code) in
        [(Fault::Throttle, "ProvisionedThroughputExceededException"), (Fault::Error500, "InternalFailure")]
    {
        let (_, ended) = behind.read(fault).await;
        let Ended::AtSend(error) = ended else { panic!("{ended:?}") };
        assert_eq!(error.code(), Some(code));
    }
    for fault in [Fault::ResetBefore, Fault::ResetAfter] {
        let (_, ended) = behind.read(fault).await;
        assert!(matches!(ended, Ended::AtSend(SdkError::DispatchFailure(_))), "{ended:?}");
    }
    let (_, ended) = behind.read(Fault::Error503).await;
    let Ended::AtSend(SdkError::ResponseError(error)) = ended else { panic!("{ended:?}") };
    assert_eq!(error.raw().status().as_u16(), 503);
    for fault in [early(0, End::Reset), Fault::ResetMidBody, Fault::Truncated] {
        let (records, ended) = behind.read(fault).await;
        assert_eq!(records, 0);
        match ended {
            Ended::Io | Ended::Response if behind.opens => {}
            // The status is made up: the SDK has let go of the response by then.
            Ended::AtSend(SdkError::ResponseError(error)) if !behind.opens => {
                assert_eq!(error.raw().status().as_u16(), 200)
            }
            ended => panic!("{fault:?}: {ended:?}"),
        }
    }
}

async fn records_come_slowly(behind: &Behind) {
    let mut subscription = behind.subscribe(Fault::SlowBytes).await.unwrap();
    let Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) = subscription.event_stream.recv().await
    else {
        panic!("no event")
    };
    assert_eq!(event.records().len(), 10);
    assert_eq!(behind.proxy.seen().of("SubscribeToShard", Fault::SlowBytes), 1);
}

#[tokio::test]
async fn a_subscription_breaks_over_http1() {
    let behind = Behind::embedded(false).await;
    each_end_is_seen(&behind).await;
    each_exception_is_seen(&behind).await;
    each_failed_start_is_seen(&behind).await;
    records_come_slowly(&behind).await;
}

#[tokio::test]
async fn a_subscription_breaks_over_http2() {
    let behind = Behind::embedded(true).await;
    each_end_is_seen(&behind).await;
    each_exception_is_seen(&behind).await;
    each_failed_start_is_seen(&behind).await;
    records_come_slowly(&behind).await;
}

#[tokio::test]
async fn subscriptions_to_kinesis_local_break_over_http1() {
    let Some(behind) = Behind::kinesis_local(false).await else { return };
    each_end_is_seen(&behind).await;
}

#[tokio::test]
async fn subscriptions_to_kinesis_local_break_over_http2() {
    let Some(behind) = Behind::kinesis_local(true).await else { return };
    each_end_is_seen(&behind).await;
    each_exception_is_seen(&behind).await;
    each_failed_start_is_seen(&behind).await;
}

#[tokio::test]
async fn a_lost_connection_ends_the_subscriptions_on_it() {
    for tls in [false, true] {
        let behind = Behind::embedded(tls).await;
        let mut subscription = behind.subscribe(Fault::Pass).await.unwrap();
        subscription.event_stream.recv().await.unwrap().unwrap();
        behind.proxy.reset_connections();
        let ended = loop {
            if let Err(error) = subscription.event_stream.recv().await {
                break Ended::by(error);
            }
        };
        assert!(matches!(ended, Ended::Io), "{ended:?}");
    }
}

#[tokio::test]
async fn no_timeout_of_the_sdk_ends_a_silent_subscription() {
    let behind = Behind::embedded(false).await;
    let short = Duration::from_millis(300);
    let timeouts =
        TimeoutConfig::builder().read_timeout(short).operation_timeout(short).operation_attempt_timeout(short);
    let stalled = StalledStreamProtectionConfig::enabled().grace_period(short).build();
    let config = quiet(behind.proxy.endpoint(), None).into_builder();
    let config = config.timeout_config(timeouts.build()).stalled_stream_protection(stalled).build();
    let client = Client::new(&config);
    let mut subscription = behind.subscribe_with(&client, early(1, End::Silence)).await.unwrap();
    subscription.event_stream.recv().await.unwrap().unwrap();
    assert!(tokio::time::timeout(SILENCE, subscription.event_stream.recv()).await.is_err());
}

#[tokio::test]
async fn no_timeout_of_the_sdk_ends_a_send_that_waits_for_the_first_frame() {
    let Some(behind) = Behind::kinesis_local(true).await else { return };
    let short = Duration::from_secs(1);
    let timeouts =
        TimeoutConfig::builder().read_timeout(short).operation_timeout(short).operation_attempt_timeout(short);
    let config = quiet(behind.proxy.endpoint(), behind.proxy.certificate()).into_builder();
    let client = Client::new(&config.timeout_config(timeouts.build()).build());
    let sent = behind.subscribe_with(&client, early(0, End::Silence));
    assert!(tokio::time::timeout(SILENCE, sent).await.is_err());
}
