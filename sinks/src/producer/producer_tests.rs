//! Handles and driver, with a service in memory and a clock that is moved by hand.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use shardflow::Outcome;
use shardflow::retry::Failed;
use shardflow_aws::failure::{Failure, Remedy};
use shardflow_aws::kpl::UserRecord;
use tokio::sync::{Semaphore, watch};

use super::item::{Answer, At};
use super::pack::Wire;
use super::shards::{Range, Shard};
use super::shared::OVERHEAD;
use super::*;

/// A clock that stands still until it is moved.
#[derive(Clone)]
struct ByHand {
    start: Instant,
    passed: watch::Sender<Duration>,
}

impl ByHand {
    fn new() -> Self {
        Self { start: Instant::now(), passed: watch::Sender::new(Duration::ZERO) }
    }

    fn pass(&self, time: Duration) {
        self.passed.send_modify(|passed| *passed += time);
    }
}

impl Clock for ByHand {
    fn now(&self) -> Instant {
        self.start + *self.passed.borrow()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        let (until, mut passed) = (*self.passed.borrow() + time, self.passed.subscribe());
        async move {
            let _ = passed.wait_for(|passed| *passed >= until).await;
        }
    }
}

/// A service that takes everything, unless it is told how to answer; and each call only once it is let.
#[derive(Clone)]
struct Memory {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    /// Whether it is too busy to list its shards.
    lists_nothing: bool,
    calls: Arc<Mutex<Vec<Vec<UserRecord>>>>,
    lets: Arc<Semaphore>,
}

impl Memory {
    fn new() -> Self {
        Self {
            answers: Arc::default(),
            lists_nothing: false,
            calls: Arc::default(),
            lets: Arc::new(Semaphore::new(1_000)),
        }
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

impl Service for Memory {
    async fn put(&self, records: Vec<Wire<'_>>) -> Answer {
        let count = records.len();
        self.calls.lock().unwrap().push(records.iter().map(Wire::to_record).collect());
        self.lets.acquire().await.unwrap().forget();
        let answer = self.answers.lock().unwrap().pop_front();
        let taken = |n: usize| Ok(At { shard: "s".into(), sequence: n.to_string().into() });
        answer.unwrap_or_else(|| Answer::Each((0..count).map(taken).collect()))
    }

    async fn shards(&self) -> Result<ShardMap, Failure> {
        if self.lists_nothing { Err(throttled()) } else { Ok(one_shard()) }
    }
}

fn one_shard() -> ShardMap {
    let range = Range { first: 0, last: u128::MAX };
    ShardMap::new(vec![Shard { id: "s".into(), range, is_open: true }]).unwrap()
}

fn start(settings: ProducerSettings, service: &Memory, clock: &ByHand) -> Producer {
    let metrics = Metrics::register(&[], None);
    let shards = settings.aggregation.map(|_| one_shard());
    Producer::start(&settings, service.clone(), clock.clone(), shards, "stream \"s\" in memory".to_owned(), metrics)
}

fn settings() -> ProducerSettings {
    ProducerSettings::stream("s")
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it does not come to that");
}

fn throttled() -> Failure {
    Failure { remedy: Remedy::Retry(Failed::Throttled), text: "slow down".to_owned() }
}

fn denied() -> Answer {
    let failure = Failure { remedy: Remedy::None, text: "AccessDeniedException: no".to_owned() };
    Answer::Failed { failure, maybe_there: false, blames_a_record: false }
}

#[tokio::test]
async fn a_record_goes_when_it_has_lingered() {
    let (service, clock) = (Memory::new(), ByHand::new());
    let producer = start(settings(), &service, &clock);
    let receipt = producer.put(Record::new("k", "1")).await;
    // The driver has seen it once it waits for the time to pass.
    until(|| clock.passed.receiver_count() > 0).await;
    clock.pass(Duration::from_millis(99));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(service.calls(), 0);
    clock.pass(Duration::from_millis(1));
    let placed = receipt.await.unwrap();
    assert_eq!(
        (&*placed.shard, &*placed.sequence, placed.sub_sequence, placed.maybe_repeated),
        ("s", "0", None, false)
    );
}

#[tokio::test]
async fn a_put_waits_while_the_buffer_is_full() {
    let (service, clock) = (Memory::new(), ByHand::new());
    service.lets.forget_permits(1_000);
    let producer = start(settings().buffer_bytes(3 * (OVERHEAD + 11)), &service, &clock);
    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.push(producer.put(Record::new("k", vec![0; 10])).await);
    }
    assert!(producer.try_put(Record::new("k", vec![0; 10])).is_err());
    let mut fourth = Box::pin(producer.put(Record::new("k", vec![0; 10])));
    assert!(futures::poll!(&mut fourth).is_pending());
    // Whoever waits makes the others go, though no time has passed.
    until(|| service.calls() == 1).await;
    assert!(futures::poll!(&mut fourth).is_pending());
    service.lets.add_permits(1);
    let fourth = fourth.await;
    for receipt in receipts {
        receipt.await.unwrap();
    }
    service.lets.add_permits(1);
    producer.flush().await.unwrap();
    fourth.await.unwrap();
}

#[tokio::test]
async fn a_record_larger_than_the_buffer_goes_alone_and_a_put_that_is_given_up_leaves_nothing() {
    let (service, clock) = (Memory::new(), ByHand::new());
    let producer = start(settings().buffer_bytes(100), &service, &clock);
    let first = producer.put(Record::new("k", "1")).await;
    {
        let mut given_up = Box::pin(producer.put(Record::new("k", vec![1; 5_000])));
        assert!(futures::poll!(&mut given_up).is_pending());
    }
    clock.pass(Duration::from_millis(100));
    first.await.unwrap();
    let large = producer.put(Record::new("k", vec![2; 5_000])).await;
    producer.flush().await.unwrap();
    large.await.unwrap();
    let sent: Vec<usize> = service.calls.lock().unwrap().iter().flatten().map(|wire| wire.data.len()).collect();
    assert_eq!(sent, [1, 5_000]);
}

#[tokio::test]
async fn refused_records_come_back_with_the_reason_and_hold_up_no_other() {
    let (service, clock) = (Memory::new(), ByHand::new());
    let producer = start(settings().record_bytes(10).ordered(), &service, &clock);
    let bad = [Record::new("", "x"), Record::new("k", "far too large"), Record::new("k", "x").explicit_hash_key("x")];
    let mut receipts = Vec::new();
    for record in bad.clone() {
        receipts.push((record.clone(), producer.put(record).await));
        receipts.push((Record::new("k", "good"), producer.put(Record::new("k", "good")).await));
    }
    producer.flush().await.unwrap();
    for (record, receipt) in receipts {
        match receipt.await {
            Ok(_) => assert_eq!(record.data(), b"good"),
            Err(NotPut::Refused(refused)) => assert!(bad.contains(&refused.record) && refused.record == record),
            Err(failed) => panic!("{failed}"),
        }
    }
}

#[tokio::test]
async fn what_went_wrong_with_dropped_receipts_is_told_by_the_next_flush_once() {
    let (service, clock) = (Memory::new(), ByHand::new());
    let producer = start(settings(), &service, &clock);
    service.answers.lock().unwrap().push_back(denied());
    drop(producer.put(Record::new("k", "1")).await);
    drop(producer.put(Record::new("", "2")).await);
    let error = producer.flush().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Determinate);
    let text = error.to_string();
    assert!(text.contains("2 records into stream \"s\" in memory") && text.contains("0 characters"), "{text}");
    producer.flush().await.unwrap();
    // Also where the receipt was there already when it was dropped.
    service.answers.lock().unwrap().push_back(denied());
    let receipt = producer.put(Record::new("k", "1")).await;
    producer.flush().await.unwrap();
    drop(receipt);
    assert!(producer.close().await.unwrap_err().to_string().contains("AccessDenied"));
}

#[tokio::test]
async fn closing_sends_what_was_put_and_takes_no_more() {
    let (service, clock) = (Memory::new(), ByHand::new());
    let producer = start(settings(), &service, &clock);
    let other = producer.clone();
    let receipt = producer.put(Record::new("k", "1")).await;
    producer.close().await.unwrap();
    receipt.await.unwrap();
    let late = other.put(Record::new("k", "2")).await.await.unwrap_err();
    assert!(
        late.to_string().contains("closed") && matches!(&late, NotPut::Failed(t) if t.outcome == Outcome::Determinate)
    );
    assert!(matches!(other.try_put(Record::new("k", "2")).unwrap().await, Err(NotPut::Failed(_))));
    other.close().await.unwrap();
}

#[tokio::test]
async fn dropping_the_last_handle_sends_what_was_put() {
    let (service, clock) = (Memory::new(), ByHand::new());
    let producer = start(settings(), &service, &clock);
    let receipt = producer.put(Record::new("k", "1")).await;
    drop(producer);
    receipt.await.unwrap();
}

#[tokio::test]
async fn whoever_waits_for_a_producer_that_is_stopped_is_told() {
    let (service, clock) = (Memory::new(), ByHand::new());
    service.lets.forget_permits(1_000);
    let producer = start(settings().buffer_bytes(100), &service, &clock);
    let receipt = producer.put(Record::new("k", "1")).await;
    let (waits, flush) = (producer.clone(), producer.clone());
    let waits = tokio::spawn(async move { waits.put(Record::new("k", vec![0; 90])).await.await });
    let flush = tokio::spawn(async move { flush.flush().await });
    until(|| service.calls() == 1).await;
    producer.abort();
    assert!(matches!(receipt.await, Err(NotPut::Failed(t)) if t.outcome == Outcome::Indeterminate));
    assert!(waits.await.unwrap().is_err());
    // It may have come before or after.
    assert_eq!(flush.await.unwrap().unwrap_err().outcome(), Outcome::Indeterminate);
    assert!(producer.put(Record::new("k", "2")).await.await.is_err());
}

#[test]
fn whoever_puts_into_a_producer_that_never_ran_is_told() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = runtime();
    let (producer, receipt) = first.block_on(async {
        let producer = start(settings(), &Memory::new(), &ByHand::new());
        let receipt = producer.put(Record::new("k", "1")).await;
        (producer, receipt)
    });
    drop(first);
    runtime().block_on(async {
        assert!(receipt.await.is_err() && producer.flush().await.is_err());
        assert!(producer.put(Record::new("k", "2")).await.await.is_err());
    });
}

#[tokio::test]
async fn what_becomes_of_records_is_counted_also_when_the_producer_is_stopped() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counted = recorder.handle();
    let (service, clock) = (Memory::new(), ByHand::new());
    service.lets.forget_permits(1_000);
    let answer = [Ok(At { shard: "s".into(), sequence: "1".into() }), Err(throttled())];
    service.answers.lock().unwrap().push_back(Answer::Each(answer.to_vec()));
    let producer = ::metrics::with_local_recorder(&recorder, || start(settings(), &service, &clock));
    let number = |name: &str| {
        let (text, name) = (counted.render(), format!("shardflow_producer_{name} "));
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |number| number.parse::<f64>().unwrap())
    };
    for data in ["1", "2"] {
        drop(producer.put(Record::new("k", data)).await);
    }
    producer.hurry();
    until(|| service.calls() == 1).await;
    assert_eq!((number("calls_in_flight"), number("buffered_bytes"), number("puts_total")), (1.0, 4.0, 2.0));
    service.lets.add_permits(1);
    until(|| number("records_total") == 1.0).await;
    assert_eq!((number("calls_in_flight"), number("buffered_bytes")), (0.0, 2.0));
    assert_eq!(number("retries_total{cause=\"throttled\"}"), 1.0);
    while service.calls() < 2 {
        clock.pass(Duration::from_millis(50));
        tokio::task::yield_now().await;
    }
    assert_eq!(number("calls_in_flight"), 1.0);
    producer.abort();
    until(|| number("calls_in_flight") == 0.0).await;
    assert_eq!((number("buffered_bytes"), number("stream_records_total")), (0.0, 3.0));
}

#[tokio::test]
async fn while_the_shards_cannot_be_listed_each_record_goes_alone() {
    let (mut service, clock) = (Memory::new(), ByHand::new());
    service.lists_nothing = true;
    let elsewhere = At { shard: "another".into(), sequence: "1".into() };
    service.answers.lock().unwrap().push_back(Answer::Each(vec![Ok(elsewhere)]));
    let producer = start(settings().aggregate(Aggregation::default()), &service, &clock);
    let receipts = [producer.put(Record::new("a", "1")).await, producer.put(Record::new("b", "2")).await];
    let flushing = producer.clone();
    let flushed = tokio::spawn(async move { flushing.flush().await });
    while !flushed.is_finished() {
        clock.pass(Duration::from_millis(50));
        tokio::task::yield_now().await;
        assert!(clock.now() < clock.start + Duration::from_secs(30), "it waits for a listing");
    }
    let mut placed = Vec::new();
    for receipt in receipts {
        let Placed { sub_sequence, maybe_repeated, .. } = receipt.await.unwrap();
        placed.push((sub_sequence, maybe_repeated));
    }
    // The first is where the aggregate was sent to; nobody knows that of the second.
    assert_eq!(placed, [(Some(0), false), (None, true)]);
    let calls = service.calls.lock().unwrap();
    let sent: Vec<&UserRecord> = calls.iter().flatten().collect();
    assert_eq!((sent.len(), &*sent[1].partition_key, &sent[1].data[..]), (2, "b", &b"2"[..]));
}

/// Puts each line of the log into a stream.
struct Logged(Producer);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Logged {
    fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        drop(self.0.try_put(Record::new("log", "a line")));
    }
}

#[test]
fn a_log_may_go_into_the_stream() {
    use tracing_subscriber::layer::SubscriberExt;

    let (told, over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (service, clock) = (Memory::new(), ByHand::new());
            service.answers.lock().unwrap().push_back(denied());
            let producer = start(settings(), &service, &clock);
            let subscriber = tracing_subscriber::registry().with(Logged(producer.clone()));
            let _logged = tracing::subscriber::set_default(subscriber);
            drop(producer.put(Record::new("k", "1")).await);
            drop(producer.put(Record::new("", "2")).await);
            assert!(producer.flush().await.is_err());
            producer.flush().await.unwrap();
            let lines =
                service.calls.lock().unwrap().iter().flatten().filter(|wire| wire.partition_key == "log").count();
            told.send(lines).unwrap();
        });
    });
    // It would wait for itself for ever. Others log too.
    assert!(over.recv_timeout(Duration::from_secs(20)).expect("it waits") >= 2);
}

#[tokio::test]
async fn what_is_put_in_order_and_fails_comes_in_order_and_calls_run_beside_each_other() {
    let (service, clock) = (Memory::new(), ByHand::new());
    service.answers.lock().unwrap().push_back(Answer::Each(vec![Err(throttled())]));
    let producer = start(settings().ordered().call_records(1).calls(2), &service, &clock);
    let mut receipts = Vec::new();
    for (key, data) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")] {
        receipts.push(producer.put(Record::new(key, data)).await);
    }
    let flushing = producer.clone();
    let flushed = tokio::spawn(async move { flushing.flush().await });
    while !flushed.is_finished() {
        clock.pass(Duration::from_millis(50));
        tokio::task::yield_now().await;
    }
    flushed.await.unwrap().unwrap();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let calls = service.calls.lock().unwrap();
    let sent: Vec<&[u8]> = calls.iter().flatten().map(|wire| &wire.data[..]).collect();
    let of_a: Vec<&[u8]> = sent.iter().copied().filter(|data| data.starts_with(b"a")).collect();
    assert_eq!(of_a, [&b"a1"[..], b"a1", b"a2", b"a3"]);
    assert_eq!(sent.len(), 5);
}
