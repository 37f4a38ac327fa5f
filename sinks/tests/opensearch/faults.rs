//! A cluster that is busy, ill or closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shardflow::{ErrorKind, Outcome};

use crate::place::{Place, documents, rejection};
use shardflow_stand_ins::fault_proxy::{self, FaultProxy};
use shardflow_stand_ins::search::{Fault, Refusal};

#[test]
fn throttled_calls_and_documents_are_written_again_for_as_long_as_it_lasts() {
    let place = Place::new();
    place.stub.inject(|call| match call.nth {
        1 | 2 => Fault::Refuse(rejection(), None),
        3..=5 => Fault::Items(Arc::new(|id| (id != "doc/1").then(rejection))),
        _ => Fault::Pass,
    });
    // Throttling does not count against the time after which one gives up.
    let mut job = place.job(place.documents().give_up_after(Duration::from_millis(1)));
    job.start(1);
    job.stage(0, 20);
    job.finish();
    let seen = place.stub.seen();
    // The one that was written the third time is not sent again.
    assert!(seen[..3].iter().all(|call| call.ids.len() == 20) && seen[3].ids.len() == 19, "{seen:?}");
}

#[test]
fn a_server_that_asks_to_wait_is_left_alone_that_long() {
    let place = Place::new();
    place.stub.inject(|call| match call.nth {
        1 => Fault::Refuse(rejection(), Some(("retry-after", "1"))),
        _ => Fault::Pass,
    });
    let mut job = place.job(place.documents());
    job.start(1);
    let begun = Instant::now();
    job.stage(0, 5);
    job.finish();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn an_answer_that_is_lost_or_broken_is_asked_for_again_and_nothing_is_there_twice() {
    for fault in [
        fault_proxy::Fault::Error500,
        fault_proxy::Fault::Error503,
        fault_proxy::Fault::ResetBefore,
        fault_proxy::Fault::ResetAfter,
        fault_proxy::Fault::ResetMidBody,
        fault_proxy::Fault::Truncated,
        fault_proxy::Fault::SlowBytes,
        fault_proxy::Fault::Delay(Duration::from_millis(700)),
    ] {
        let place = Place::new();
        let proxy = place.io.block_on(FaultProxy::start(place.stub.endpoint()));
        proxy.inject(
            move |call| if call.operation == "POST" && call.nth == 1 { fault } else { fault_proxy::Fault::Pass },
        );
        let sink = documents(proxy.endpoint()).call_timeout(Duration::from_millis(600));
        let mut job = place.job(sink);
        job.start(1);
        job.stage(0, 20);
        job.finish();
        assert_eq!(place.numbers().len(), 20, "{fault:?}");
        assert_eq!(proxy.seen().of("POST", fault), 1, "{fault:?}");
        assert!(proxy.seen().calls("POST") == 2 || fault == fault_proxy::Fault::SlowBytes, "{fault:?}");
    }
}

#[test]
fn a_call_that_is_done_and_not_answered_in_time_is_made_again_and_finds_its_documents() {
    let fault = fault_proxy::Fault::Hold(Duration::from_secs(600));
    for own in [true, false] {
        let place = Place::new();
        let proxy = place.io.block_on(FaultProxy::start(place.stub.endpoint()));
        proxy.inject(
            move |call| if call.operation == "POST" && call.nth == 1 { fault } else { fault_proxy::Fault::Pass },
        );
        let sink = documents(proxy.endpoint()).call_timeout(Duration::from_millis(600));
        let (sink, refused) = crate::place::with_refused(if own { sink.version(|doc| doc.n + 1) } else { sink });
        let mut job = place.job(sink);
        job.start(1);
        job.stage(0, 20);
        job.finish();
        assert_eq!((proxy.seen().of("POST", fault), proxy.seen().done("POST", fault)), (1, 1));
        // The same call twice; the second met the first's versions, and changed nothing.
        let seen = place.stub.seen();
        assert_eq!((seen.len(), &seen[0].ids), (2, &seen[1].ids));
        assert_eq!(place.numbers().len(), 20);
        assert_eq!(place.stub.cluster().index("results").unwrap().writes(), 20, "own versions: {own}");
        assert!(refused.values().is_empty());
    }
}

/// The error with which a job stops whose first calls are answered like this.
fn stops(refusal: Refusal) -> shardflow::Error {
    let place = Place::new();
    place.stub.inject(move |_| Fault::Refuse(refusal.clone(), None));
    let mut job = place.job(place.documents().give_up_after(Duration::from_millis(1)));
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    let error = job.try_persist().unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("results")));
    assert!(place.numbers().is_empty());
    error
}

#[test]
fn a_login_that_is_no_longer_good_stops_the_job_with_a_clear_word() {
    let error = stops(Refusal::new(401, "security_exception", "the key has expired"));
    let text = error.to_string();
    assert!(text.contains("does not accept the login") && text.contains("the key has expired"), "{text}");
    let error = stops(Refusal::new(403, "security_exception", "action [indices:data/write/bulk] is unauthorized"));
    assert!(error.to_string().contains("no permission to write"), "{error}");
    assert_eq!(error.outcome(), Outcome::Determinate);
}

#[test]
fn what_lasts_too_long_stops_the_job_and_says_that_it_may_have_been_done() {
    let error = stops(Refusal::new(503, "unavailable_shards_exception", "primary shard is not active"));
    assert_eq!(error.outcome(), Outcome::Indeterminate);
    let text = error.to_string();
    assert!(text.contains("primary shard is not active") && text.contains("after many attempts"), "{text}");
}

#[test]
fn a_full_disk_is_waited_for_and_not_for_ever() {
    let place = Place::new();
    let block = Refusal::new(
        403,
        "cluster_block_exception",
        "index [results] blocked by: [FORBIDDEN/12/index read-only / allow delete (api)];",
    );
    place.stub.cluster().index_mut("results").unwrap().block = Some(block.clone());
    let cluster = place.stub.shared_cluster();
    place.stub.inject(move |call| {
        if call.nth == 2 {
            cluster.lock().unwrap().index_mut("results").unwrap().block = None;
        }
        Fault::Pass
    });
    let mut job = place.job(place.documents());
    job.start(1);
    job.stage(0, 5);
    job.finish();
    let place = Place::new();
    place.stub.cluster().index_mut("results").unwrap().block = Some(block);
    let mut job = place.job(place.documents().give_up_after(Duration::from_millis(1)));
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    let error = job.try_persist().unwrap_err().to_string();
    assert!(error.contains("FORBIDDEN/12"), "{error}");
}

#[test]
fn an_index_that_disappears_stops_the_job_and_refuses_no_record() {
    let place = Place::new();
    let (sink, refused) = crate::place::with_refused(place.documents());
    let mut job = place.job(sink.give_up_after(Duration::from_millis(1)));
    job.start(1);
    {
        let mut cluster = place.stub.cluster();
        cluster.auto_creates = false;
        cluster.remove("results");
    }
    job.stage(0, 5);
    job.prepare();
    let error = job.try_persist().unwrap_err().to_string();
    assert!(error.contains("no such index [results]"), "{error}");
    assert!(refused.values().is_empty());
}
