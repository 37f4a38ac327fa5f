//! What a call looks like.

use std::collections::BTreeSet;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use shardflow_sinks::webhook;

use crate::{Alert, Place, numbers};
use shardflow_stand_ins::hook::status;

#[test]
fn a_call_carries_the_record_its_key_and_the_headers() {
    let place = Place::new();
    let sink = place.alerts().header("X-Tenant", "acme").secret_header("Authorization", "Bearer a-token");
    let mut job = place.job(sink);
    job.start(1);
    job.stage(0, 3);
    job.finish();
    let mut got = place.hook.got();
    got.sort_by_key(|got| got.body.clone());
    assert_eq!(got.len(), 3);
    for (n, got) in got.iter().enumerate() {
        assert_eq!((got.json(), got.path.as_str()), (json!({"n": n}), "/alerts"));
        assert_eq!(got.header("idempotency-key"), Some(format!("alert-{n}").as_str()));
        assert_eq!(got.header("content-type"), Some("application/json"));
        assert_eq!((got.header("x-tenant"), got.header("authorization")), (Some("acme"), Some("Bearer a-token")));
    }
}

#[test]
fn batches_are_arrays_or_lines_within_their_limits() {
    for (lines, content_type) in [(false, "application/json"), (true, "application/x-ndjson")] {
        let place = Place::new();
        let sink = if lines { place.alerts().ndjson(10) } else { place.alerts().json_array(10) };
        let mut job = place.job(sink.body_bytes(50));
        job.start(1);
        job.stage(0, 25);
        job.finish();
        for got in place.hook.got() {
            assert_eq!(got.header("content-type"), Some(content_type));
            assert_eq!(got.header("idempotency-key").unwrap().len(), 64);
            // The brackets of an array are not counted.
            assert!(numbers(&got).len() <= 10 && got.body.len() <= 52, "{got:?}");
        }
    }
}

#[test]
fn a_call_that_is_made_again_has_the_same_key_and_a_call_of_other_records_another() {
    let place = Place::new();
    place.hook.answers(|got| if got.nth % 2 == 1 { status(503, "") } else { status(200, "") });
    let mut job = place.job(place.alerts().json_array(5).concurrency(1));
    job.start(1);
    job.stage(0, 10);
    job.finish();
    let got = place.hook.got();
    assert_eq!(got.len(), 4);
    let key = |call: usize| got[call].header("idempotency-key").unwrap();
    assert_eq!((key(0), key(2)), (key(1), key(3)));
    assert_ne!(key(0), key(2));
}

#[test]
fn a_replay_after_a_crash_has_the_keys_of_the_first_attempt() {
    let place = Place::new();
    let mut job = place.job(place.alerts());
    job.start(2);
    job.stage(0, 20);
    job.prepare();
    job.persist();
    job.stage(1, 20);
    job.prepare();
    job.start(1);
    job.replay(0);
    job.finish();
    let taken = place.hook.taken();
    let of = |n: u64| format!("alert-{n}");
    for got in &taken {
        assert_eq!(got.header("idempotency-key"), Some(of(numbers(got)[0]).as_str()));
    }
    let keys: BTreeSet<_> = taken.iter().map(|got| got.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 40, "a receiver that remembers keys sees each record once");
}

#[test]
fn without_an_id_there_is_no_key_and_its_header_can_be_another() {
    let place = Place::new();
    let plain = webhook::<Alert>(place.hook.endpoint());
    let mut job = place.job(plain);
    job.start(1);
    job.stage(0, 1);
    job.finish();
    assert_eq!(place.hook.got()[0].header("idempotency-key"), None);
    let mut job = place.job(place.alerts().idempotency_header("X-Request-Id"));
    job.start(1);
    job.stage(0, 1);
    job.finish();
    assert_eq!(place.hook.got()[1].header("x-request-id"), Some("alert-0"));
}

#[test]
fn a_signed_body_can_be_checked_by_its_receiver() {
    let place = Place::new();
    let mut job = place.job(place.alerts().json_array(3).hmac_sha256("X-Signature-256", "a-signing-key"));
    job.start(1);
    job.stage(0, 7);
    job.finish();
    let got = place.hook.got();
    assert_eq!(got.len(), 3);
    for got in got {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a-signing-key").unwrap();
        mac.update(&got.body);
        let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(got.header("x-signature-256").unwrap(), format!("sha256={expected}"));
    }
}

#[test]
fn a_login_in_the_url_becomes_basic_auth() {
    let place = Place::new();
    let url = place.hook.endpoint().replace("http://", "http://user:p%40ss@");
    let mut job = place.job(webhook::<Alert>(format!("{url}/a?b=c")));
    job.start(1);
    job.stage(0, 1);
    job.finish();
    let got = &place.hook.got()[0];
    assert_eq!((got.header("authorization"), got.path.as_str()), (Some("Basic dXNlcjpwQHNz"), "/a?b=c"));
}
