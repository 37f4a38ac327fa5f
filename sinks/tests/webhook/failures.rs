//! A receiver that is busy, picky, gone or hostile.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use shardflow::sink::Sink;
use shardflow::testing::sink::{Driver, Promise};
use shardflow::{ErrorKind, Outcome};
use shardflow_sinks::webhook;

use crate::{Alert, Place, alert, alerts, numbers, with_refused};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy};
use shardflow_stand_ins::hook::status;

#[test]
fn what_may_pass_is_sent_again_until_it_is_taken() {
    for code in [408, 425, 429, 500, 502, 503, 504] {
        let place = Place::new();
        place.hook.answers(move |got| if got.nth < 3 { status(code, "not now") } else { status(202, "") });
        let mut job = place.job(place.alerts());
        job.start(1);
        job.stage(0, 1);
        job.finish();
        assert_eq!(place.hook.got().len(), 3, "{code}");
    }
}

#[test]
fn retry_after_is_honoured_up_to_a_bound() {
    for (asked, longest, at_least, at_most) in [
        ("1", 60_000, 1_000, 10_000),
        ("3600", 1_000, 1_000, 10_000),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 1_000, 1_000, 10_000),
    ] {
        let place = Place::new();
        place.hook.answers(move |got| match got.nth {
            1 => Response::builder().status(429).header("retry-after", asked).body(Body::empty()).unwrap(),
            _ => status(200, ""),
        });
        let mut job = place.job(place.alerts().longest_pause(Duration::from_millis(longest)));
        job.start(1);
        job.stage(0, 1);
        job.finish();
        let got = place.hook.got();
        let between = got[1].at.duration_since(got[0].at).as_millis();
        assert!((at_least..at_most).contains(&between), "{asked}: {between} ms");
    }
}

#[test]
fn a_record_that_is_refused_goes_to_the_rejected_output_and_the_others_arrive() {
    for records in [1, 8] {
        let place = Place::new();
        place.hook.answers(|got| match numbers(got).contains(&13) {
            true => status(422, "13 is unlucky\r\nvery"),
            false => status(200, ""),
        });
        let (sink, refused) = with_refused(place.alerts().json_array(records));
        let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), alert, Vec::new);
        job.start(1);
        job.stage(0, 40);
        job.prepare();
        job.persist();
        job.try_commit().unwrap();
        let refused = refused.values();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(
            refused[0].error.ends_with("HTTP status 422: 13 is unlucky very") && refused[0].record == "{\"n\":13}",
            "{refused:?}"
        );
        let mut taken = place.numbers();
        taken.sort_unstable();
        assert_eq!(taken, (0..40).filter(|n| *n != 13).collect::<Vec<_>>());
    }
}

#[test]
fn a_conflict_is_a_refusal_unless_it_counts_as_done() {
    for is_done in [false, true] {
        let place = Place::new();
        place.hook.answers(|_| status(409, "seen"));
        let alerts = if is_done { place.alerts().conflict_is_done() } else { place.alerts() };
        let (sink, refused) = with_refused(alerts);
        let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), alert, Vec::new);
        job.start(1);
        job.stage(0, 3);
        job.prepare();
        job.persist();
        job.try_commit().unwrap();
        assert_eq!(refused.values().len(), if is_done { 0 } else { 3 });
    }
}

#[test]
fn a_wrong_login_and_a_redirect_stop_the_job_and_refuse_nothing() {
    for (code, says) in [(401, "does not accept the login"), (407, "does not accept the login"), (302, "not followed")]
    {
        let place = Place::new();
        place.hook.answers(move |_| {
            Response::builder()
                .status(code)
                .header("location", "http://127.0.0.1:1/other")
                .body(Body::from("why"))
                .unwrap()
        });
        let (sink, refused) = with_refused(place.alerts());
        let mut job = place.job(sink);
        job.start(1);
        job.stage(0, 1);
        job.prepare();
        let error = job.try_persist().unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!((error.step(), error.outcome()), (Some("results"), Outcome::Determinate));
        assert_eq!((place.hook.got().len(), refused.values().len()), (1, 0));
    }
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_one_that_breaks_off_after_its_status_is_enough() {
    for (fault, calls) in [
        (Fault::ResetBefore, 2),
        (Fault::ResetAfter, 2),
        (Fault::Delay(Duration::from_millis(700)), 2),
        (Fault::ResetMidBody, 1),
        (Fault::Truncated, 1),
        (Fault::SlowBytes, 1),
    ] {
        let place = Place::new();
        place.hook.answers(|_| status(200, &"thanks ".repeat(100)));
        let proxy = place.io.block_on(FaultProxy::start(place.hook.endpoint()));
        proxy.inject(move |call| if call.nth == 1 { fault } else { Fault::Pass });
        let mut job = place.job(alerts(proxy.endpoint()).call_timeout(Duration::from_millis(600)));
        job.start(1);
        job.stage(0, 1);
        job.finish();
        assert_eq!(proxy.seen().calls("POST"), calls, "{fault:?}");
    }
}

#[test]
fn a_call_that_is_done_and_not_answered_in_time_is_made_again_with_the_same_key() {
    let fault = Fault::Hold(Duration::from_secs(600));
    for records in [1, 8] {
        let place = Place::new();
        let proxy = place.io.block_on(FaultProxy::start(place.hook.endpoint()));
        proxy.inject(move |call| if call.nth == 1 { fault } else { Fault::Pass });
        let sink = alerts(proxy.endpoint()).json_array(records).call_timeout(Duration::from_millis(600));
        let mut job = place.job(sink.concurrency(1));
        job.start(1);
        job.stage(0, 8);
        job.finish();
        let seen = proxy.seen();
        assert_eq!((seen.of("POST", fault), seen.done("POST", fault)), (1, 1));
        // The receiver has taken both calls, and knows the second for the first by its key.
        let taken = place.hook.taken();
        assert_eq!(taken.len() as u64, seen.calls("POST"));
        assert_eq!(taken.len(), 8 / records + 1);
        let call = |nth: usize| (taken[nth].header("idempotency-key").unwrap(), taken[nth].body.clone());
        assert_eq!(call(0), call(1));
        assert_eq!(place.numbers().len(), 8 + records);
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let place = Place::new();
    place.hook.answers(|got| {
        let chunk = || Ok::<_, std::io::Error>(axum::body::Bytes::from(vec![b'x'; 4096]));
        let code = if got.nth == 2 { 400 } else { 200 };
        Response::builder().status(code).body(Body::from_stream(futures::stream::repeat_with(chunk))).unwrap()
    });
    let (sink, refused) = with_refused(place.alerts());
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink.concurrency(1)), alert, Vec::new);
    job.start(1);
    let begun = Instant::now();
    job.stage(0, 3);
    job.prepare();
    job.persist();
    job.try_commit().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let [refused] = &refused.values()[..] else { panic!("one is refused") };
    assert!(refused.error.len() < 400, "{}", refused.error);
}

#[test]
fn what_lasts_too_long_stops_the_job_and_names_the_receiver() {
    let place = Place::new();
    place.hook.answers(|_| status(500, "oops"));
    let mut job = place.job(place.alerts().give_up_after(Duration::from_millis(1)));
    job.start(1);
    job.stage(0, 1);
    job.prepare();
    let error = job.try_persist().unwrap_err();
    let text = error.to_string();
    assert!(text.contains(place.hook.endpoint()) && text.contains("HTTP status 500: oops"), "{text}");
    assert_eq!(error.outcome(), Outcome::Indeterminate);
}

#[test]
fn settings_that_cannot_work_are_refused_at_the_start() {
    let place = Place::new();
    let context = shardflow::sink::SinkContext {
        job: "job".to_owned(),
        step: "alerts".into(),
        incarnation: shardflow::vocabulary::Incarnation::new(1),
        committed: None,
        workers: 1,
        folder: std::env::temp_dir(),
        runtime: place.io.handle().clone(),
    };
    for (sink, says) in [
        (webhook::<Alert>("hooks.example/hunter2"), "URL"),
        (webhook("ftp://hooks.example/hunter2"), "http"),
        (webhook("http://x").header("no name", "x"), "no name"),
        (webhook("http://x").header("X-A", "a\nb"), "X-A"),
        (webhook("http://x").secret_header("X-A", "hunter2\n"), "X-A"),
        (webhook("http://u:hunter2@x").secret_header("Authorization", "hunter2"), "has a login"),
        (webhook("http://x").idempotency_header(""), "name of an HTTP header"),
        (webhook("https://x").root_certificate("no"), "certificate"),
    ] {
        let error = sink.committer(&context).err().expect("it must not start");
        assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("alerts")));
        let text = error.to_string();
        assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
    }
}
