//! The reader against a scripted service and a clock that waits for nobody.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shardflow::metrics::{RetryMetrics, SourceMetrics};
use shardflow::retry::Failed;
use shardflow::vocabulary::StepName;
use shardflow_aws::failure::{Failure, Remedy};

use super::*;
use crate::kinesis::budget::Budget;
use crate::kinesis::client::{Events, Fetched, ReadFrom, Record};
use crate::kinesis::intake::Intake;
use crate::kinesis::lineage::Shard;
use crate::kinesis::metrics::ShardMetrics;
use crate::kinesis::pacing::{Allowance, IDLE_GAP, Pace};
use crate::kinesis::position::{Sequence, ShardPosition, Standpoint};
use crate::kinesis::said::Said;
use crate::kinesis::shard::{OnExpired, Settings, Way};

/// A clock that jumps: each wait is over at once and remembered.
#[derive(Clone)]
struct Jumping {
    start: Instant,
    passed: Arc<Mutex<Duration>>,
}

impl Clock for Jumping {
    fn now(&self) -> Instant {
        self.start + *self.passed.lock().unwrap()
    }

    /// Far enough from 1970 that a day before it is a time too.
    fn wall_millis(&self) -> u64 {
        1_800_000_000_000 + self.passed.lock().unwrap().as_millis() as u64
    }

    async fn sleep(&self, time: Duration) {
        *self.passed.lock().unwrap() += time;
        tokio::task::yield_now().await;
    }
}

/// What the service is to answer, in order, and what it was asked.
#[derive(Clone)]
struct Script {
    clock: Jumping,
    answers: Arc<Mutex<VecDeque<Result<Fetched, Failure>>>>,
    iterators: Arc<Mutex<Vec<String>>>,
    calls: Arc<Mutex<Vec<(Duration, String)>>>,
    shard_is_gone: Arc<Mutex<bool>>,
    closed: Arc<Mutex<bool>>,
    subscriptions: Arc<Mutex<Vec<String>>>,
    refusals: Arc<Mutex<VecDeque<Failure>>>,
}

impl Script {
    /// Whether an answer ends the shard without naming children. Its script may go on, where that is a broken answer.
    fn note_end(&self, answer: Option<&Result<Fetched, Failure>>) {
        let ends = answer.is_some_and(|answer| {
            answer.as_ref().is_ok_and(|answer| answer.next.is_none() && answer.children.is_empty())
        });
        *self.closed.lock().unwrap() = ends && self.answers.lock().unwrap().is_empty();
    }
}

impl ShardApi for Script {
    type Events = ScriptedEvents;

    async fn iterator(&self, _shard: &str, from: &ReadFrom) -> Result<String, Failure> {
        // The end is asked for once more, which no script has to write down.
        if *self.closed.lock().unwrap() {
            return Ok("the end".to_owned());
        }
        self.iterators.lock().unwrap().push(from.to_string());
        match *self.shard_is_gone.lock().unwrap() {
            true => Err(failure(Remedy::Missing, "ResourceNotFoundException: no such shard")),
            false => Ok(format!("at {from}")),
        }
    }

    async fn records(&self, iterator: &str, _most: Option<i32>) -> Result<Fetched, Failure> {
        if *self.closed.lock().unwrap() {
            return Ok(Fetched::default());
        }
        self.calls.lock().unwrap().push((*self.clock.passed.lock().unwrap(), iterator.to_owned()));
        let answer = self.answers.lock().unwrap().pop_front();
        self.note_end(answer.as_ref());
        answer.unwrap_or_else(|| Err(failure(Remedy::None, "the script is over")))
    }

    /// Each subscription takes the answers of the script as its events; one that is an error breaks it.
    async fn subscribe(&self, consumer: &str, _shard: &str, from: &ReadFrom) -> Result<ScriptedEvents, Failure> {
        self.subscriptions.lock().unwrap().push(format!("{consumer} {from}"));
        match self.refusals.lock().unwrap().pop_front() {
            Some(refusal) => Err(refusal),
            None => Ok(ScriptedEvents(self.clone())),
        }
    }

    fn describe(&self) -> &str {
        "stream \"scripted\""
    }
}

/// The events of a scripted subscription. One whose next place is "over" is no event, but its end by the service.
struct ScriptedEvents(Script);

impl Events for ScriptedEvents {
    async fn next(&mut self) -> Result<Option<Fetched>, Failure> {
        let event = self.0.answers.lock().unwrap().pop_front();
        self.0.note_end(event.as_ref());
        match event {
            Some(Ok(event)) if event.next.as_deref() == Some("over") => Ok(None),
            Some(Ok(event)) if event.next.as_deref() == Some("silence") => std::future::pending().await,
            Some(event) => event.map(Some),
            None => Err(failure(Remedy::None, "the script is over")),
        }
    }
}

fn failure(remedy: Remedy, text: &str) -> Failure {
    Failure { remedy, text: text.to_owned() }
}

fn throttled() -> Result<Fetched, Failure> {
    Err(failure(Remedy::Retry(Failed::Throttled), "slow down"))
}

fn reset() -> Result<Fetched, Failure> {
    Err(failure(Remedy::Retry(Failed::Transient), "connection reset"))
}

fn expired() -> Result<Fetched, Failure> {
    Err(failure(Remedy::NewIterator, "expired"))
}

/// An answer with these records; a closed shard's last one has no next iterator.
fn records(sequences: &[u64], next: Option<&str>) -> Result<Fetched, Failure> {
    let record = |sequence: &u64| Record {
        sequence: sequence.to_string(),
        data: vec![b'x'],
        arrived: None,
        partition_key: None,
    };
    let records = sequences.iter().map(record).collect();
    Ok(Fetched { records, next: next.map(ToOwned::to_owned), millis_behind: Some(7), ..Fetched::default() })
}

fn quiet(next: Option<&str>) -> Result<Fetched, Failure> {
    Ok(Fetched { next: next.map(ToOwned::to_owned), millis_behind: Some(0), ..Fetched::default() })
}

/// An empty page on the way to the next record.
fn quiet_on_the_way() -> Result<Fetched, Failure> {
    Ok(Fetched { next: Some("on the way".to_owned()), millis_behind: Some(60_000), ..Fetched::default() })
}

fn script(answers: impl IntoIterator<Item = Result<Fetched, Failure>>) -> Script {
    let clock = Jumping { start: Instant::now(), passed: Arc::default() };
    let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
    Script {
        clock,
        answers,
        iterators: Arc::default(),
        calls: Arc::default(),
        shard_is_gone: Arc::default(),
        closed: Arc::default(),
        subscriptions: Arc::default(),
        refusals: Arc::default(),
    }
}

fn open(script: &Script, position: ShardPosition) -> ShardReader {
    open_with(script, position, |_| {})
}

/// Opens a reader whose task is changed first. A position after a record is one that an earlier run has stored.
fn open_with(
    script: &Script,
    position: ShardPosition,
    change: impl FnOnce(&mut ShardTask<Script, Jumping>),
) -> ShardReader {
    let resumed = matches!(position, ShardPosition::After(_));
    let make = |out| {
        let mut task = ShardTask {
            api: script.clone(),
            clock: script.clock.clone(),
            shard: "shardId-0".to_owned(),
            intake: Intake::new(Standpoint::new(position), script.clock.wall_millis(), resumed),
            may_be_gone: false,
            settings: Settings {
                way: Way::Polling,
                pace: Pace::new(Allowance::default(), IDLE_GAP),
                give_up_after: Duration::from_secs(300),
                on_expired: OnExpired::GoOn,
                retention: Duration::from_secs(86_400),
            },
            budget: Budget::new(0),
            metrics: SourceMetrics::register(&StepName::new("scripted")),
            shard_metrics: ShardMetrics::register(&StepName::new("scripted"), "shardId-0"),
            standing: Arc::new(Standing::new(IDLE_GAP)),
            out,
        };
        change(&mut task);
        task
    };
    ShardReader::start(make, &Handle::current())
}

/// Reads to the end after record 5; gives the records, how often a position had expired, and what was warned of.
async fn resume(script: &Script, may_be_gone: bool) -> Result<(Vec<String>, u64, Vec<String>)> {
    let said = Said::default();
    let _listening = tracing::subscriber::set_default(said.clone());
    let expired = Arc::new(AtomicU64::new(0));
    let mut reader = open_with(script, ShardPosition::After(Sequence::of("5")), |task| {
        task.may_be_gone = may_be_gone;
        task.metrics.position_expired = metrics::Counter::from_arc(Arc::clone(&expired));
    });
    let (sequences, _) = drain(&mut reader).await?;
    Ok((sequences, expired.load(Ordering::SeqCst), said.warnings()))
}

#[tokio::test]
async fn going_on_after_a_record_sees_it_once_more_and_hands_over_only_what_comes_after_it() {
    let script = script([quiet_on_the_way(), records(&[5, 6, 7], Some("b")), expired(), records(&[8], None)]);
    let (sequences, expired, warnings) = resume(&script, false).await.unwrap();
    assert_eq!(sequences, ["6", "7", "8"]);
    assert_eq!((expired, warnings), (0, vec![]));
    // Once it is proven, it is gone on with as ever.
    assert_eq!(*script.iterators.lock().unwrap(), ["at-record:5", "after:7"]);
}

#[tokio::test]
async fn the_last_record_of_a_shard_seen_once_more_is_nothing_new() {
    for answers in [vec![records(&[5], None)], vec![records(&[5], Some("b")), quiet(None)]] {
        let (sequences, expired, warnings) = resume(&script(answers), false).await.unwrap();
        assert_eq!((sequences, expired, warnings), (vec![], 0, vec![]));
    }
    // Where it is gone too, nobody can tell whether it was the last.
    let (sequences, expired, warnings) = resume(&script([quiet(None)]), false).await.unwrap();
    assert_eq!((sequences, expired, warnings.len()), (vec![], 1, 1));
}

#[tokio::test]
async fn a_position_that_has_expired_is_said_and_counted_and_gone_on_from() {
    let mut left = records(&[8, 9], None).unwrap();
    left.records.iter_mut().for_each(|record| record.arrived = Some(1_793_534_400_250));
    let script = script([quiet_on_the_way(), Ok(left)]);
    let (sequences, expired, warnings) = resume(&script, false).await.unwrap();
    assert_eq!((sequences, expired), (vec!["8".to_owned(), "9".to_owned()], 1));
    assert_eq!(warnings.len(), 1);
    for part in ["shardId-0", "after:5", "2026-11-01T12:00:00.25Z", "LOST"] {
        assert!(warnings[0].contains(part), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_shard_that_is_gone_ends_with_a_warning_if_it_is_not_listed_and_is_an_error_if_it_is() {
    let script = script([]);
    *script.shard_is_gone.lock().unwrap() = true;
    let (sequences, expired, warnings) = resume(&script, true).await.unwrap();
    assert_eq!((sequences, expired, warnings.len()), (vec![], 1, 1));
    assert!(warnings[0].contains("shardId-0") && warnings[0].contains("after:5"), "{warnings:?}");
    let error = resume(&script, false).await.unwrap_err().to_string();
    assert!(error.contains("ResourceNotFoundException"), "{error}");
}

/// Reads to the end: the positions of the records, and after each batch.
async fn drain(reader: &mut ShardReader) -> Result<(Vec<String>, Vec<String>)> {
    let (mut sequences, mut afters) = (Vec::new(), Vec::new());
    while let Some(batch) = poll_fn(|cx| reader.poll_read(cx)).await? {
        sequences.extend((0..batch.len()).map(|index| batch.position(index)));
        afters.push(batch.after().to_string());
    }
    Ok((sequences, afters))
}

#[tokio::test]
async fn a_closed_shard_is_read_to_its_end_and_ends_once() {
    let script = script([records(&[1, 2], Some("b")), quiet(Some("c")), records(&[3], None)]);
    let mut reader = open(&script, ShardPosition::TrimHorizon);
    assert_eq!(reader.millis_behind(), None);
    let (sequences, afters) = drain(&mut reader).await.unwrap();
    assert_eq!(sequences, ["1", "2", "3"]);
    assert_eq!(afters, ["after:2", "after:3"]);
    assert_eq!(reader.millis_behind(), Some(7));
    assert!(poll_fn(|cx| reader.poll_read(cx)).await.unwrap().is_none());
    assert_eq!(*script.iterators.lock().unwrap(), ["trim-horizon"]);
}

/// Whether the reader says that there is nothing to read once its task has made all its calls.
async fn says_that_it_is_caught_up(answers: impl IntoIterator<Item = Result<Fetched, Failure>>) -> bool {
    let hangs = std::iter::once(Err(failure(Remedy::Retry(Failed::Transient), "hang")));
    let script = script(answers.into_iter().chain(hangs));
    let reader = open(&script, ShardPosition::TrimHorizon);
    while script.answers.lock().unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
    reader.caught_up()
}

#[tokio::test]
async fn only_an_empty_answer_at_the_shards_end_means_that_there_is_nothing_to_read() {
    let unsaid = || Ok(Fetched { next: Some("b".to_owned()), ..Fetched::default() });
    assert!(!says_that_it_is_caught_up([]).await, "nothing was said yet");
    assert!(!says_that_it_is_caught_up([quiet_on_the_way(), quiet_on_the_way()]).await, "an empty page on the way");
    assert!(says_that_it_is_caught_up([quiet_on_the_way(), quiet(Some("b"))]).await);
    assert!(says_that_it_is_caught_up([unsaid()]).await);
    assert!(!says_that_it_is_caught_up([quiet(Some("b")), throttled()]).await, "it cannot know while it is throttled");
    assert!(!says_that_it_is_caught_up([quiet(Some("b")), reset()]).await);
    assert!(!says_that_it_is_caught_up([quiet(Some("b")), expired()]).await);
    assert!(!says_that_it_is_caught_up([quiet(Some("b")), records(&[1], Some("c"))]).await);
}

#[tokio::test]
async fn an_expired_iterator_is_renewed_after_the_last_record() {
    let script = script([quiet(Some("b")), expired(), records(&[1, 2], Some("c")), expired(), records(&[3], None)]);
    let (sequences, _) = drain(&mut open(&script, ShardPosition::Time(5))).await.unwrap();
    assert_eq!(sequences, ["1", "2", "3"]);
    assert_eq!(*script.iterators.lock().unwrap(), ["at:5", "at:5", "after:2"]);
}

#[tokio::test]
async fn iterators_that_are_always_expired_end_in_an_error_and_not_in_a_busy_loop() {
    let script = script(std::iter::repeat_with(expired).take(10_000));
    let error = drain(&mut open(&script, ShardPosition::TrimHorizon)).await.unwrap_err().to_string();
    assert!(error.contains("expired") && error.contains("shardId-0"), "{error}");
    assert!(script.calls.lock().unwrap().len() < 200);
}

#[tokio::test]
async fn throttling_is_waited_out_for_hours_without_a_new_iterator_for_each_call() {
    let throttles = std::iter::repeat_with(throttled).take(5_000);
    let script = script(throttles.chain([records(&[1], None)]));
    let (sequences, _) = drain(&mut open(&script, ShardPosition::TrimHorizon)).await.unwrap();
    assert_eq!(sequences, ["1"]);
    let passed = *script.clock.passed.lock().unwrap();
    assert!(passed > Duration::from_secs(3600));
    // They live for five minutes.
    assert!(script.iterators.lock().unwrap().len() as u64 <= passed.as_secs() / 240 + 1);
}

#[tokio::test]
async fn failures_that_last_are_said_once_with_their_end_and_counted_by_cause() {
    let said = Said::default();
    let _listening = tracing::subscriber::set_default(said.clone());
    let throttles = std::iter::repeat_with(throttled).take(50);
    let script = script([reset(), records(&[1], Some("b"))].into_iter().chain(throttles).chain([records(&[2], None)]));
    let counters = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let [throttled, failed, credentials] =
        counters.each_ref().map(|count| metrics::Counter::from_arc(Arc::clone(count)));
    let mut reader = open_with(&script, ShardPosition::TrimHorizon, |task| {
        task.metrics.retries = RetryMetrics { throttled, failed, credentials };
    });
    drain(&mut reader).await.unwrap();
    assert_eq!(counters.map(|count| count.load(Ordering::SeqCst)), [50, 1, 0]);
    let warnings = said.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("shardId-0") && warnings[0].contains("slow down"), "{warnings:?}");
    let again = said.at(tracing::Level::INFO);
    assert!(again.len() == 1 && again[0].contains("succeed again"), "{again:?}");
}

#[tokio::test]
async fn credentials_that_run_out_are_waited_for_and_not_for_ever() {
    let ran_out = || Err(failure(Remedy::Retry(Failed::Credentials), "ExpiredTokenException"));
    let passing = script([ran_out(), ran_out(), records(&[1], None)]);
    assert_eq!(drain(&mut open(&passing, ShardPosition::TrimHorizon)).await.unwrap().0, ["1"]);
    let lasting = script(std::iter::repeat_with(ran_out).take(10_000));
    let error = drain(&mut open(&lasting, ShardPosition::TrimHorizon)).await.unwrap_err().to_string();
    assert!(error.contains("ExpiredTokenException"), "{error}");
}

#[tokio::test]
async fn other_failures_are_retried_and_given_up_on_after_the_set_time() {
    let passing = script([reset(), reset(), records(&[1], None)]);
    assert_eq!(drain(&mut open(&passing, ShardPosition::TrimHorizon)).await.unwrap().0, ["1"]);

    let lasting = script(std::iter::repeat_with(reset).take(10_000));
    let error = drain(&mut open(&lasting, ShardPosition::TrimHorizon)).await.unwrap_err();
    assert_eq!(error.kind(), shardflow::ErrorKind::Source);
    assert!(error.to_string().contains("connection reset"), "{error}");
    let passed = *lasting.clock.passed.lock().unwrap();
    assert!((Duration::from_secs(300)..Duration::from_secs(320)).contains(&passed), "{passed:?}");
}

#[tokio::test]
async fn what_cannot_pass_fails_at_once_after_the_records_before_it() {
    let script = script([records(&[1], Some("b")), Err(failure(Remedy::None, "AccessDeniedException: no"))]);
    let mut reader = open(&script, ShardPosition::TrimHorizon);
    assert!(poll_fn(|cx| reader.poll_read(cx)).await.unwrap().is_some());
    let error = drain(&mut reader).await.unwrap_err().to_string();
    assert_eq!(error, "could not read shard \"shardId-0\" of stream \"scripted\": AccessDeniedException: no");
    let again = drain(&mut reader).await.unwrap_err().to_string();
    assert!(again.contains("its task is gone"), "a failed shard never looks ended: {again}");
}

#[tokio::test]
async fn calls_keep_to_the_pace_and_slow_down_while_it_is_quiet() {
    let script = script([
        records(&[1], Some("b")),
        records(&[2], Some("c")),
        quiet(Some("d")),
        quiet(Some("e")),
        records(&[3], Some("f")),
        quiet(None),
    ]);
    drain(&mut open(&script, ShardPosition::TrimHorizon)).await.unwrap();
    let at: Vec<_> = script.calls.lock().unwrap().iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(at, [0, 200, 400, 700, 1150, 1350]);
}

#[tokio::test]
async fn a_worker_that_does_not_read_stops_the_calls() {
    let script = script((0..100).map(|n| records(&[n], Some("next"))));
    let mut reader = open(&script, ShardPosition::TrimHorizon);
    // The task runs whenever this one yields: it would make all hundred calls if nothing held it.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(script.calls.lock().unwrap().len(), WAITING_BATCHES + 1);
    assert!(poll_fn(|cx| reader.poll_read(cx)).await.unwrap().is_some());
}

#[tokio::test]
async fn shards_that_nobody_reads_hold_no_more_than_the_budget_and_lose_nothing() {
    let large = |sequence: usize, next: Option<&str>| {
        let record =
            Record { sequence: sequence.to_string(), data: vec![b'x'; 4 << 10], arrived: None, partition_key: None };
        Ok(Fetched { records: vec![record; 100], next: next.map(ToOwned::to_owned), ..Fetched::default() })
    };
    let budget = Budget::tiny(1 << 20);
    let scripts: Vec<_> = (0..20).map(|_| script([large(1, Some("b")), large(2, Some("c")), large(3, None)])).collect();
    let start = |script: &Script| open_with(script, ShardPosition::TrimHorizon, |task| task.budget = budget.clone());
    let mut readers: Vec<_> = scripts.iter().map(start).collect();
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let calls: usize = scripts.iter().map(|script| script.calls.lock().unwrap().len()).sum();
    assert!((1..=2).contains(&calls), "{calls} answers of 400 KiB are held");
    let mut left = vec![300; readers.len()];
    while left.iter().any(|left| *left > 0) {
        for (reader, left) in readers.iter_mut().zip(&mut left) {
            let polled = poll_fn(|cx| Poll::Ready(reader.poll_read(cx))).await;
            if let Poll::Ready(Ok(Some(batch))) = polled {
                *left -= batch.len();
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn dropping_the_reader_ends_its_task() {
    let script = script(std::iter::repeat_with(|| quiet(Some("next"))).take(1_000_000));
    let reader = open(&script, ShardPosition::TrimHorizon);
    tokio::task::yield_now().await;
    drop(reader);
    while Arc::strong_count(&script.answers) > 1 {
        tokio::task::yield_now().await;
    }
    assert!(script.answers.lock().unwrap().len() > 900_000);
}

#[tokio::test]
async fn by_default_records_that_expired_unread_stop_the_job() {
    let script = script([records(&[8, 9], None)]);
    let mut reader = open_with(&script, ShardPosition::After(Sequence::of("5")), |task| {
        task.settings.on_expired = OnExpired::default();
    });
    let error = drain(&mut reader).await.unwrap_err();
    assert_eq!(error.kind(), shardflow::ErrorKind::Config, "a restart would not help");
    let error = error.to_string();
    for part in ["shardId-0", "after:5", "may be lost", "GoOn"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn an_iterator_that_grew_old_while_there_was_no_room_is_renewed_before_it_is_used() {
    let script = script([records(&[1], Some("b")), records(&[2], None)]);
    let budget = Budget::tiny(1 << 20);
    let held = budget.reserve(1 << 20).await.unwrap();
    let mut reader = open_with(&script, ShardPosition::TrimHorizon, |task| task.budget = budget.clone());
    while script.iterators.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    *script.clock.passed.lock().unwrap() += Duration::from_secs(290);
    drop(held);
    assert_eq!(drain(&mut reader).await.unwrap().0, ["1", "2"]);
    assert_eq!(*script.iterators.lock().unwrap(), ["trim-horizon", "trim-horizon"]);
}

#[tokio::test]
async fn a_quiet_shard_notes_every_ten_minutes_that_it_is_read_to_its_end() {
    // A call a second, for an hour.
    let quiet = std::iter::repeat_with(|| quiet(Some("next"))).take(3_600);
    let script = script([records(&[1], Some("b"))].into_iter().chain(quiet).chain([records(&[2], None)]));
    let (_, afters) = drain(&mut open(&script, ShardPosition::TrimHorizon)).await.unwrap();
    assert!((7..=8).contains(&afters.len()), "{afters:?}");
    assert!(afters[1].starts_with("after:1;empty:18000006"), "{afters:?}");
    assert_eq!(afters.last().unwrap(), "after:2");
}

/// Opens a reader that subscribes.
fn subscribed(script: &Script, or_poll: bool) -> ShardReader {
    open_with(script, ShardPosition::TrimHorizon, |task| {
        task.settings.way = Way::FanOut { consumer: "ours".into(), or_poll };
    })
}

#[tokio::test]
async fn a_subscription_that_ends_goes_on_where_its_last_event_stopped() {
    let sparse = || Ok(Fetched { next: Some("70".to_owned()), millis_behind: Some(0), ..Fetched::default() });
    let script = script([
        records(&[1, 2], Some("2")),
        sparse(),
        quiet(Some("over")),
        records(&[71], Some("71")),
        reset(),
        records(&[72], None),
    ]);
    assert_eq!(drain(&mut subscribed(&script, false)).await.unwrap().0, ["1", "2", "71", "72"]);
    assert_eq!(*script.subscriptions.lock().unwrap(), ["ours trim-horizon", "ours after:70", "ours after:71"]);
    assert!(script.calls.lock().unwrap().is_empty(), "nothing was polled");
}

#[tokio::test]
async fn a_subscription_is_renewed_before_its_five_minutes_are_over_and_one_that_is_silent_is_replaced() {
    let events = (1..=10).map(|n| records(&[n], Some(Box::leak(n.to_string().into_boxed_str()))));
    let script = script(events.chain([quiet(Some("silence")), records(&[11], None)]));
    let mut reader = subscribed(&script, false);
    let mut seen = 0;
    while let Some(batch) = poll_fn(|cx| reader.poll_read(cx)).await.unwrap() {
        seen += batch.len();
        *script.clock.passed.lock().unwrap() += Duration::from_secs(60);
    }
    assert_eq!(seen, 11);
    let subscriptions = script.subscriptions.lock().unwrap().clone();
    assert!((3..=5).contains(&subscriptions.len()), "{subscriptions:?}");
    assert_eq!(subscriptions.last().unwrap(), "ours after:10");
}

#[tokio::test]
async fn a_subscription_that_is_in_use_or_throttled_is_waited_for() {
    let script = script([records(&[1], None)]);
    let in_use = || failure(Remedy::Retry(Failed::Transient), "ResourceInUseException");
    *script.refusals.lock().unwrap() = [in_use(), failure(Remedy::Retry(Failed::Throttled), "slow"), in_use()].into();
    assert_eq!(drain(&mut subscribed(&script, false)).await.unwrap().0, ["1"]);
    assert_eq!(script.subscriptions.lock().unwrap().len(), 4);
    assert!(*script.clock.passed.lock().unwrap() > Duration::from_millis(300));
}

#[tokio::test]
async fn where_subscriptions_are_refused_the_shard_is_polled_or_the_job_fails_as_it_was_asked_for() {
    let refusal = || failure(Remedy::None, "AccessDeniedException: no");
    let automatic = script([records(&[1], None)]);
    automatic.refusals.lock().unwrap().push_back(refusal());
    assert_eq!(drain(&mut subscribed(&automatic, true)).await.unwrap().0, ["1"]);
    assert_eq!(automatic.calls.lock().unwrap().len(), 1);

    let strict = script([records(&[1], None)]);
    strict.refusals.lock().unwrap().push_back(refusal());
    let error = drain(&mut subscribed(&strict, false)).await.unwrap_err().to_string();
    assert!(error.contains("shardId-0") && error.contains("AccessDeniedException"), "{error}");
}

#[tokio::test]
async fn a_consumer_that_is_taken_away_midway_loses_nothing_where_calls_may_do() {
    let gone = || Err(failure(Remedy::Missing, "ResourceNotFoundException: consumer"));
    let script = script([records(&[1, 2], Some("2")), gone(), records(&[3], None)]);
    assert_eq!(drain(&mut subscribed(&script, true)).await.unwrap().0, ["1", "2", "3"]);
    assert_eq!(*script.iterators.lock().unwrap(), ["after:2"]);
}

#[tokio::test]
async fn the_end_of_a_shard_names_its_children_with_all_their_parents() {
    let child =
        Shard { id: "child".to_owned(), parents: vec!["shardId-0".to_owned(), "other".to_owned()], hash_range: None };
    for way in [Way::Polling, Way::FanOut { consumer: "ours".into(), or_poll: false }] {
        let end = Fetched { children: vec![child.clone()], ..Fetched::default() };
        let script = script([Ok(end)]);
        let mut reader = open_with(&script, ShardPosition::TrimHorizon, |task| task.settings.way = way);
        drain(&mut reader).await.unwrap();
        let children = reader.children();
        assert_eq!(children.len(), 1);
        assert_eq!(children[0].parents, ["shardId-0".into(), "other".into()]);
        assert_eq!((children[0].start.as_str(), children[0].ended), ("trim-horizon", false));
    }
}

#[tokio::test]
async fn an_answer_that_lost_its_next_iterator_does_not_end_the_shard() {
    for way in [Way::Polling, Way::FanOut { consumer: "ours".into(), or_poll: false }] {
        let script = script([
            records(&[1, 2], Some("b")),
            Ok(Fetched::default()),
            records(&[3], Some("c")),
            records(&[4], None),
        ]);
        let mut reader = open_with(&script, ShardPosition::TrimHorizon, |task| task.settings.way = way);
        assert_eq!(drain(&mut reader).await.unwrap().0, ["1", "2", "3", "4"]);
    }
}

#[tokio::test]
async fn a_subscription_that_ends_at_once_again_and_again_is_not_asked_for_without_a_pause() {
    let over = std::iter::repeat_with(|| quiet(Some("over"))).take(20);
    let script = script(over.chain([records(&[1], None)]));
    assert_eq!(drain(&mut subscribed(&script, false)).await.unwrap().0, ["1"]);
    assert!(*script.clock.passed.lock().unwrap() > Duration::from_secs(10));
}
