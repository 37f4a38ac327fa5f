//! The object sink on a store that fails in every way: exact results each time.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use crate::common::faulty::{Call, Fault, Faulty};
use crate::common::{assert_manifested, everything, numbers, path};
use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, ObjectStoreExt};
use shardflow::testing::sink::{Driver, Promise};
use shardflow::testing::{Collected, Feed};
use shardflow::{ErrorKind, Job, Outcome, json};
use shardflow_sinks::{ObjectSink, objects_in};

fn sink(store: &Arc<Faulty>) -> ObjectSink<u64> {
    let sink = objects_in(Arc::clone(store) as Arc<dyn ObjectStore>, "out").roll_after(Duration::ZERO);
    sink.multipart_store(Arc::clone(store) as Arc<dyn MultipartStore>)
}

fn job<'a>(store: &'a Arc<Faulty>, sink: ObjectSink<u64>) -> Driver<'a, u64> {
    Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, || numbers(&store.inner))
}

/// Runs two epochs on two workers, and another start.
fn run(job: &mut Driver<'_, u64>) {
    job.start(2);
    for _ in 0..2 {
        job.stage(0, 8);
        job.stage(1, 8);
        job.prepare();
        job.persist();
        job.commit();
        job.assert_all_visible();
        job.acknowledge();
    }
    job.finish();
    job.start(1);
    job.finish();
    assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>());
}

/// Breaks the first call of a kind on each name.
fn first_of(what: &'static str, fault: Fault) -> impl Fn(Call<'_>) -> Fault + Send + Sync {
    let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
    move |call| if call.what == what && seen.lock().unwrap().insert(call.key.to_owned()) { fault } else { Fault::Pass }
}

#[test]
fn every_call_may_fail_before_and_after_its_work() {
    for what in ["put", "get", "list", "create", "part", "complete"] {
        for fault in [Fault::Before, Fault::After] {
            for with_parts in [false, true] {
                let store = Faulty::new(first_of(what, fault));
                let plain = sink(&store).part_bytes(if with_parts { 5 } else { 1 << 20 });
                run(&mut job(&store, plain));
                assert_manifested(&store.inner);
                let (open, may_leak) =
                    (store.open_uploads.load(Ordering::Relaxed), (what, fault) == ("create", Fault::After));
                assert!(open == 0 || may_leak, "{what} {fault:?}: {open} uploads were left");
            }
        }
    }
}

#[test]
fn a_store_without_its_multipart_interface_may_fail_too() {
    for what in ["put", "create", "get"] {
        for fault in [Fault::Before, Fault::After] {
            let store = Faulty::new(first_of(what, fault));
            let sink =
                objects_in(Arc::clone(&store) as Arc<dyn ObjectStore>, "out").roll_after(Duration::ZERO).part_bytes(5);
            run(&mut job(&store, sink));
            assert!(store.faults.load(Ordering::Relaxed) > 0 || what == "get", "{what} never failed");
        }
    }
}

#[test]
fn half_of_the_parts_is_not_an_object_and_a_crash_there_shows_nothing_twice() {
    let is_down = Arc::new(AtomicBool::new(true));
    let (down, parts) = (Arc::clone(&is_down), AtomicU64::new(0));
    let store = Faulty::new(move |call| {
        let is_late = call.what == "part" && parts.fetch_add(1, Ordering::Relaxed) >= 2;
        if is_late && down.load(Ordering::Relaxed) { Fault::Before } else { Fault::Pass }
    });
    let mut job = job(&store, sink(&store).part_bytes(4).give_up_after(Duration::ZERO));
    job.start(1);
    job.stage(0, 20);
    job.prepare();
    job.persist();
    let error = job.try_commit().unwrap_err();
    assert!(error.to_string().contains("could not upload"), "{error}");
    assert!(everything(&store.inner).keys().all(|name| !name.ends_with(".ndjson")));
    assert!(job.try_start(1).is_err(), "the store is down still");
    is_down.store(false, Ordering::Relaxed);
    job.start(1);
    job.finish();
    assert_eq!(store.open_uploads.load(Ordering::Relaxed), 0);
}

#[test]
fn an_object_that_appears_while_another_is_sent_in_parts_is_not_written_over() {
    const NAME: &str = "out/conformance.results-i00001-w00-s000000-f0000000001-e0000000001-p000.ndjson";
    for with_multipart in [true, false] {
        let place = Arc::new(OnceLock::<Arc<Faulty>>::new());
        let theirs = Arc::clone(&place);
        // The name was looked at, and is free, when the upload begins.
        let store = Faulty::new(move |call| {
            if let ("create", Some(store)) = (call.what, theirs.get()) {
                let name = path(call.key);
                futures::executor::block_on(store.inner.put(&name, "theirs".into())).unwrap();
            }
            Fault::Pass
        });
        place.set(Arc::clone(&store)).unwrap();
        let plain = objects_in(Arc::clone(&store) as Arc<dyn ObjectStore>, "out").roll_after(Duration::ZERO);
        let sink = if with_multipart { sink(&store) } else { plain };
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink.part_bytes(4)), |number| number, Vec::new);
        job.try_start(1).unwrap();
        job.stage(0, 20);
        job.prepare();
        job.persist();
        let error = job.try_commit().unwrap_err().to_string();
        assert!(error.contains(NAME) && error.contains("is there already, with 6 bytes"), "{error}");
        assert_eq!(everything(&store.inner)[NAME], b"theirs");
        assert_eq!(store.open_uploads.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_store_that_ignores_put_if_absent_is_found_out() {
    let store = Faulty::ignoring(|_| Fault::Pass);
    let mut refused = job(&store, sink(&store));
    let error = refused.try_start(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("takes a second object of one name"), "{error}");
    for (what, fault) in [("put", Fault::Before), ("put", Fault::After), ("get", Fault::Before), ("none", Fault::Pass)]
    {
        let store = Faulty::ignoring(first_of(what, fault));
        run(&mut job(&store, sink(&store).without_put_if_absent()));
        let store = Faulty::ignoring(first_of(what, fault));
        run(&mut job(&store, sink(&store).without_put_if_absent().part_bytes(5)));
    }
}

#[test]
fn commits_wait_while_too_much_is_unshipped_and_go_on_without_loss() {
    let store = Faulty::new(|_| Fault::Pass);
    let sink = sink(&store).roll_after(Duration::from_secs(3600)).roll_records(1).unshipped_bytes(40);
    let mut job = job(&store, sink);
    job.start(1);
    for epoch in 1..20_u64 {
        job.stage(0, 1);
        job.prepare();
        job.persist();
        job.commit();
        job.acknowledge();
        let shipped = numbers(&store.inner).len() as u64;
        // A spool file of one record has 35 bytes, so that one may be unshipped and two may not.
        assert!(epoch - shipped <= 1, "{} are unshipped", epoch - shipped);
    }
    job.finish();
}

#[test]
fn a_set_that_a_crash_interrupted_is_shipped_as_it_was_by_a_changed_program() {
    let is_down = Arc::new(AtomicBool::new(true));
    let down = Arc::clone(&is_down);
    // One of two partitions gets through.
    let store = Faulty::new(move |call| {
        let breaks = down.load(Ordering::Relaxed) && call.what == "put" && call.key.contains("mod=1");
        if breaks { Fault::Before } else { Fault::Pass }
    });
    let is_new = Arc::new(AtomicBool::new(false));
    let decides = Arc::clone(&is_new);
    let changed = sink(&store)
        .give_up_after(Duration::ZERO)
        .concurrency(1)
        .partitioned_by("mod={mod}")
        .partition_field("mod", move |n| if decides.load(Ordering::Relaxed) { "other".into() } else { (n % 2).into() });
    let mut job = job(&store, changed);
    job.start(1);
    job.stage(0, 10);
    job.prepare();
    job.persist();
    assert!(job.try_commit().is_err());
    let before: Vec<_> = everything(&store.inner).into_keys().filter(|name| name.contains("mod=")).collect();
    assert_eq!(before.len(), 1, "half of the set is there");
    is_down.store(false, Ordering::Relaxed);
    is_new.store(true, Ordering::Relaxed);
    job.start(1);
    assert!(everything(&store.inner).keys().all(|name| !name.contains("other")));
    job.stage(0, 1);
    job.finish();
    assert!(everything(&store.inner).keys().any(|name| name.contains("/mod=other/")));
    assert_manifested(&store.inner);
}

#[test]
fn a_shipment_that_fails_ends_a_job_to_which_no_more_records_come() {
    let (committed, is_committed) = mpsc::channel();
    let is_committed = Mutex::new(is_committed);
    let store = Faulty::new(move |call| {
        if call.what != "put" || !call.key.ends_with(".ndjson") {
            return Fault::Pass;
        }
        // Not before the commit that gave it to be shipped has ended: no later one will have anything for this sink.
        is_committed.lock().unwrap().recv().unwrap();
        Fault::Denied
    });
    let (feed, state) = (Feed::new(), tempfile::tempdir().unwrap());
    (0..3).for_each(|number| feed.push("s", format!("{number}")));
    let job = Job::named("archive").workers(1).state(state.path()).epoch(Duration::from_millis(10));
    let (stopper, commits) = (job.stopper(), AtomicU64::new(0));
    let job = job.on_commit(move |info| {
        if info.records == 3 {
            let _ = committed.send(());
        }
        // Half a minute of epochs without records: it goes on for ever.
        if commits.fetch_add(1, Ordering::Relaxed) > 3_000 {
            stopper.request();
        }
    });
    let (source, out) = (feed.clone(), Arc::clone(&store) as Arc<dyn ObjectStore>);
    let error = job.run(move |flow| {
        let (records, rejected) = flow.source("numbers", source.clone()).decode(json::<u64>());
        rejected.sink("rejected", Collected::new());
        // One spool file of all records. Commits do not wait for it.
        records.sink("archive", objects_in(Arc::clone(&out), "out").roll_records(3));
    });
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("archive")), "{error}");
    assert!(error.to_string().contains("could not upload") && error.to_string().contains(".ndjson"), "{error}");
    assert!(numbers(&store.inner).is_empty());
}

/// How a commit ends whose calls of one kind meet these faults one after the other, the last one for good.
fn outcome(what: &'static str, part_bytes: u64, faults: &'static [Fault]) -> Outcome {
    let calls = AtomicUsize::new(0);
    let store = Faulty::new(move |call| {
        if call.what != what || call.key.contains("_probes") {
            return Fault::Pass;
        }
        let nth = calls.fetch_add(1, Ordering::Relaxed);
        *faults.get(nth).or(faults.last()).unwrap()
    });
    let mut job = job(&store, sink(&store).part_bytes(part_bytes).give_up_after(Duration::ZERO));
    job.start(1);
    job.stage(0, 20);
    job.prepare();
    job.persist();
    job.try_commit().unwrap_err().outcome()
}

#[test]
fn a_failure_is_indeterminate_where_any_attempt_may_have_happened() {
    for (what, part_bytes) in [("put", 1 << 20), ("complete", 4)] {
        let cases: [(&'static [Fault], Outcome); 4] = [
            (&[Fault::Unreached], Outcome::Determinate),
            (&[Fault::Before], Outcome::Indeterminate),
            (&[Fault::Before, Fault::Unreached], Outcome::Indeterminate),
            (&[Fault::Unreached, Fault::Before], Outcome::Indeterminate),
        ];
        for (faults, expected) in cases {
            assert_eq!(outcome(what, part_bytes, faults), expected, "{what} {faults:?}");
        }
    }
    // Parts are not seen before they are completed: whatever became of them, there is no object.
    for what in ["create", "part"] {
        assert_eq!(outcome(what, 4, &[Fault::Before]), Outcome::Determinate, "{what}");
    }
}
