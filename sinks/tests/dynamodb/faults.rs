//! Each fault by itself: what it costs, what is told of it, and that the table is right afterwards.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shardflow::sink::{Sink, SinkWriter, at_least_once};
use shardflow::{Error, Outcome};

use crate::stand::{Stand, flush, number, writer};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy, Request};

#[derive(Clone, Serialize, Deserialize)]
struct Numbered {
    id: String,
    number: u64,
}

fn stage(writer: &mut dyn SinkWriter<Numbered>, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| writer.stage(&Numbered { id: format!("record-{number}"), number }).unwrap());
}

fn numbers(stand: &Stand, table: &str) -> Vec<u64> {
    let mut numbers: Vec<_> = stand.scan(table).iter().map(|item| number(item, "number")).collect();
    numbers.sort_unstable();
    numbers
}

/// Both modes, with the call each makes.
fn modes(stand: &Stand, table: &str, proxy: &FaultProxy) -> [(&'static str, Box<dyn Sink<Numbered>>); 2] {
    let to = || stand.to(table, Some(proxy)).call_timeout(Duration::from_millis(1_500));
    let guarded = to().newest_by("version", |record: &Numbered| record.number).calls(3);
    [("PutItem", Box::new(at_least_once(guarded))), ("BatchWriteItem", Box::new(at_least_once(to().put())))]
}

const FAULTS: [Fault; 9] = [
    Fault::Throttle,
    Fault::Refused("RequestLimitExceeded"),
    Fault::Refused("ExpiredTokenException"),
    Fault::Error500,
    Fault::Error503,
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::Truncated,
    Fault::Delay(Duration::from_secs(4)),
];

#[test]
fn every_fault_that_may_pass_is_waited_out() {
    Stand::each(|stand| {
        for fault in FAULTS {
            let (table, proxy) = (stand.table(), stand.proxy());
            for (operation, sink) in modes(stand, &table, &proxy) {
                proxy.inject(move |request| match request.operation == operation && request.nth <= 2 {
                    true => fault,
                    false => Fault::Pass,
                });
                let mut writer = writer(&*sink, &stand.runtime, 1);
                stage(&mut *writer, 0..20);
                flush(&mut *writer).unwrap_or_else(|error| panic!("{operation} {fault:?}: {error}"));
                assert_eq!(numbers(stand, &table), (0..20).collect::<Vec<_>>(), "{operation} {fault:?}");
                assert_eq!(proxy.seen().of(operation, fault), 2, "{operation} {fault:?}");
            }
        }
    });
}

/// The fault happens to the first two calls of an operation.
fn to_the_first_two(operation: &'static str, fault: Fault) -> impl Fn(&Request) -> Fault + Send + Sync + 'static {
    move |request| if request.operation == operation && request.nth <= 2 { fault } else { Fault::Pass }
}

#[test]
fn a_call_that_is_done_and_not_answered_in_time_is_made_again_and_changes_nothing() {
    let fault = Fault::Hold(Duration::from_secs(600));
    Stand::each(|stand| {
        for is_guarded in [true, false] {
            let (table, proxy) = (stand.table(), stand.proxy());
            let [guarded, batches] = modes(stand, &table, &proxy);
            let (operation, sink) = if is_guarded { guarded } else { batches };
            proxy.inject(to_the_first_two(operation, fault));
            let mut writer = writer(&*sink, &stand.runtime, 1);
            stage(&mut *writer, 0..20);
            flush(&mut *writer).unwrap();
            assert_eq!(numbers(stand, &table), (0..20).collect::<Vec<_>>());
            let seen = proxy.seen();
            assert_eq!((seen.of(operation, fault), seen.done(operation, fault)), (2, 2), "{operation}");
            if is_guarded {
                // Made again they find the version that they wrote: each item is written once.
                assert_eq!((seen.calls(operation), seen.done(operation, Fault::Pass)), (22, 18));
            } else {
                assert_eq!((seen.calls(operation), seen.done(operation, Fault::Pass)), (3, 1));
            }
        }
    });
}

#[test]
fn an_answer_that_comes_slowly_is_read_to_its_end_and_one_slower_than_the_patience_is_asked_for_again() {
    Stand::each(|stand| {
        let (table, proxy) = (stand.table(), stand.proxy());
        for (operation, sink) in modes(stand, &table, &proxy) {
            // The start too.
            proxy.inject(|_| Fault::SlowBytes);
            let before = proxy.seen().calls(operation);
            let mut writer = writer(&*sink, &stand.runtime, 1);
            stage(&mut *writer, 0..20);
            flush(&mut *writer).unwrap();
            assert_eq!(numbers(stand, &table), (0..20).collect::<Vec<_>>(), "{operation}");
            let calls = proxy.seen().calls(operation) - before;
            assert_eq!(calls, if operation == "PutItem" { 20 } else { 1 }, "none is made again");
        }
        let (table, proxy) = (stand.table(), stand.proxy());
        proxy.inject(to_the_first_two("BatchWriteItem", Fault::SlowBytes));
        // The answer takes some half a second.
        let sink = at_least_once(stand.to(&table, Some(&proxy)).call_timeout(Duration::from_millis(250)).put());
        let mut writer = writer(&sink, &stand.runtime, 1);
        stage(&mut *writer, 0..20);
        flush(&mut *writer).unwrap();
        assert_eq!(numbers(stand, &table), (0..20).collect::<Vec<_>>());
        let seen = proxy.seen();
        assert_eq!(seen.of("BatchWriteItem", Fault::SlowBytes), 2);
        assert!(seen.done("BatchWriteItem", Fault::SlowBytes) > 0 && seen.calls("BatchWriteItem") >= 3, "{seen}");
    });
}

#[test]
fn what_a_busy_table_puts_off_is_sent_again_until_all_is_written() {
    Stand::each(|stand| {
        let (table, proxy) = (stand.table(), stand.proxy());
        proxy.inject(|request| match request.nth {
            1 => Fault::Unprocessed { every: 1 },
            2..8 => Fault::Unprocessed { every: 2 },
            _ => Fault::Pass,
        });
        let sink = at_least_once(stand.to(&table, Some(&proxy)).put());
        let mut writer = writer(&sink, &stand.runtime, 1);
        stage(&mut *writer, 0..60);
        flush(&mut *writer).unwrap();
        assert_eq!(numbers(stand, &table), (0..60).collect::<Vec<_>>());
        assert_eq!(proxy.seen().faults_of("BatchWriteItem"), 7);
    });
}

/// Writes through a fault that never passes.
fn fails(stand: &Stand, sink: &dyn Sink<Numbered>) -> Error {
    let mut writer = writer(sink, &stand.runtime, 1);
    stage(&mut *writer, 0..3);
    flush(&mut *writer).unwrap_err()
}

#[test]
fn what_cannot_pass_stops_the_job_and_says_whether_it_may_have_happened() {
    Stand::each(|stand| {
        let (table, proxy) = (stand.table(), stand.proxy());
        for (fault, outcome, says) in [
            (Fault::Refused("AccessDeniedException"), Outcome::Determinate, "AccessDeniedException"),
            (Fault::Refused("ResourceNotFoundException"), Outcome::Determinate, "ResourceNotFoundException"),
            (Fault::Error500, Outcome::Indeterminate, "InternalFailure"),
            (Fault::ResetAfter, Outcome::Indeterminate, "still, after many attempts"),
            (Fault::Truncated, Outcome::Indeterminate, "still, after many attempts"),
        ] {
            let is_final = matches!(fault, Fault::Refused(_));
            let to = || stand.to(&table, Some(&proxy));
            let guarded = at_least_once(to().newest_by("version", |record: &Numbered| record.number));
            let sinks: [Box<dyn Sink<Numbered>>; 2] = [
                Box::new(guarded.give_up_after(Duration::from_millis(1))),
                Box::new(at_least_once(to().put()).give_up_after(Duration::from_millis(1))),
            ];
            proxy.inject(move |request| match request.operation.as_str() {
                "DescribeTable" => Fault::Pass,
                _ => fault,
            });
            for sink in sinks {
                let begun = Instant::now();
                let error = fails(stand, &*sink);
                assert_eq!((error.outcome(), error.step()), (outcome, Some("charges")), "{fault:?}: {error}");
                assert!(error.to_string().contains(says), "{fault:?}: {error}");
                assert!(!is_final || begun.elapsed() < Duration::from_secs(5));
                assert!(!error.to_string().contains("SECRET") && !format!("{error:?}").contains("SECRET"), "{error:?}");
            }
        }
    });
}

#[test]
fn a_service_that_is_gone_has_done_nothing() {
    let Some(stand) = Stand::ministack() else { return };
    let (table, proxy) = (stand.table(), stand.proxy());
    let sink = at_least_once(stand.to(&table, Some(&proxy)).put()).give_up_after(Duration::from_millis(1));
    let mut writer = writer(&sink, &stand.runtime, 1);
    // The listener closes with the proxy's task; connections that are open are reset.
    stand.runtime.block_on(async {
        proxy.reset_connections();
        let endpoint = proxy.endpoint().strip_prefix("http://").unwrap().to_owned();
        drop(proxy);
        while tokio::net::TcpStream::connect(&endpoint).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    stage(&mut *writer, 0..3);
    let error = flush(&mut *writer).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Determinate, "{error}");
}

#[test]
fn a_service_that_is_down_is_not_asked_for_every_item() {
    let Some(stand) = Stand::ministack() else { return };
    let (table, proxy) = (stand.table(), stand.proxy());
    proxy.inject(|request| if request.operation == "PutItem" { Fault::Error503 } else { Fault::Pass });
    let to = stand.to(&table, Some(&proxy)).newest_by("version", |record: &Numbered| record.number).calls(4);
    let sink = at_least_once(to).give_up_after(Duration::from_millis(1)).concurrency(1);
    let mut writer = writer(&sink, &stand.runtime, 1);
    stage(&mut *writer, 0..100);
    flush(&mut *writer).unwrap_err();
    // Two attempts of one batch of a hundred, and in each no more calls than go together and their next.
    let calls = proxy.seen().calls("PutItem");
    assert!(calls <= 16, "{calls} calls");
}

#[test]
fn a_table_with_little_capacity_is_written_to_at_the_pace_it_has() {
    let Some(stand) = Stand::ministack() else { return };
    let (table, proxy) = (stand.table(), stand.proxy());
    // 100 items a second, of which 20 may be saved up.
    let bucket = Mutex::new((20.0_f64, Instant::now()));
    proxy.inject(move |request| {
        if request.operation != "PutItem" {
            return Fault::Pass;
        }
        let mut bucket = bucket.lock().unwrap();
        let now = Instant::now();
        let room = f64::min(20.0, bucket.0 + 100.0 * (now - bucket.1).as_secs_f64());
        let (left, fault) = if room >= 1.0 { (room - 1.0, Fault::Pass) } else { (room, Fault::Throttle) };
        *bucket = (left, now);
        fault
    });
    let to = stand.to(&table, Some(&proxy)).newest_by("version", |record: &Numbered| record.number);
    let sink = at_least_once(to);
    let mut writer = writer(&sink, &stand.runtime, 1);
    let begun = Instant::now();
    stage(&mut *writer, 0..1_200);
    flush(&mut *writer).unwrap();
    let (took, throttled) = (begun.elapsed(), proxy.seen().of("PutItem", Fault::Throttle));
    assert_eq!(numbers(&stand, &table).len(), 1_200);
    eprintln!("1,200 items at 100 a second took {took:?}, with {throttled} throttled calls");
    assert!(took < Duration::from_secs(40), "{took:?}");
    assert!(throttled < 400, "{throttled} throttled calls");
}
