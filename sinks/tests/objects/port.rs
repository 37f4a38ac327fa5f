//! The object sink through its port: its promise, its names, and what it refuses.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{assert_manifested, everything, files_below, job, lines, numbers, path, visible, wait};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use shardflow::sink::{Sink, SinkContext, SinkWriter};
use shardflow::testing::sink::{Driver, Promise, conforms, permit};
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, ErrorKind};
use shardflow_sinks::{Ndjson, ObjectSink, objects, objects_in};
use tempfile::TempDir;

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// A sink that shows each epoch at once.
fn at_once(store: &Arc<dyn ObjectStore>) -> ObjectSink<u64> {
    objects_in(Arc::clone(store), "out").roll_after(Duration::ZERO)
}

/// A runtime and a folder for what the driver does not play.
struct Place {
    runtime: tokio::runtime::Runtime,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { runtime, folder: tempfile::tempdir().unwrap() }
    }

    fn context(&self, incarnation: u64, committed: Option<u64>) -> SinkContext {
        SinkContext {
            job: "job".to_owned(),
            step: "charges".into(),
            incarnation: Incarnation::new(incarnation),
            committed: committed.map(Epoch::new),
            workers: 1,
            folder: self.folder.path().to_owned(),
            runtime: self.runtime.handle().clone(),
        }
    }

    /// Stages records in one epoch, makes it durable, and commits it where `commit` says so.
    fn epoch<T: 'static>(
        &self,
        sink: &dyn Sink<T>,
        incarnation: u64,
        records: &[T],
        commit: bool,
    ) -> shardflow::Result<()> {
        let epoch = Epoch::new(incarnation);
        let context = self.context(incarnation, incarnation.checked_sub(1).filter(|last| *last > 0));
        let mut committer = sink.committer(&context)?;
        committer.recover(context.committed.map(permit).as_ref(), &[])?;
        let mut writer = sink.writer(&context, 0)?;
        records.iter().try_for_each(|record| writer.stage(record))?;
        let handle = handle(writer.as_mut(), epoch);
        if commit {
            committer.commit(&permit(epoch), &handle)?;
        }
        Ok(())
    }
}

fn handle<T: 'static>(writer: &mut dyn SinkWriter<T>, epoch: Epoch) -> Vec<shardflow::sink::StagedHandle> {
    let handle = match writer.prepare(epoch).unwrap() {
        None => None,
        Some(shardflow::sink::Prepared::Staged(handle)) => Some(handle),
        Some(shardflow::sink::Prepared::Flush(flush)) => flush().unwrap(),
    };
    handle.into_iter().map(|handle| shardflow::sink::StagedHandle { epoch, worker: 0, handle }).collect()
}

#[test]
fn it_conforms_in_memory() {
    let sink = |store: &Arc<dyn ObjectStore>| Box::new(at_once(store)) as Box<dyn Sink<u64>>;
    conforms(Promise::ExactlyOnce, memory, sink, |number| number, |store| numbers(store.as_ref()));
}

#[test]
fn it_conforms_in_memory_in_parts_and_partitions() {
    let sink = |store: &Arc<dyn ObjectStore>| {
        let sink = at_once(store)
            .partitioned_by("mod={mod}")
            .partition_field("mod", |number| (number % 3).into())
            .part_bytes(4)
            .roll_bytes(50);
        Box::new(sink.format(Ndjson.zstd())) as Box<dyn Sink<u64>>
    };
    conforms(Promise::ExactlyOnce, memory, sink, |number| number, |store| numbers(store.as_ref()));
}

fn disk(dir: &Path) -> LocalFileSystem {
    LocalFileSystem::new_with_prefix(dir).unwrap()
}

#[test]
fn it_conforms_on_disk() {
    let url = |dir: &TempDir| format!("file://{}", dir.path().display());
    let sink = |dir: &TempDir| {
        let sink = objects::<u64>(url(dir)).roll_after(Duration::ZERO).format(Ndjson.gzip());
        Box::new(sink.part_bytes(30)) as Box<dyn Sink<u64>>
    };
    conforms(
        Promise::ExactlyOnce,
        || tempfile::tempdir().unwrap(),
        sink,
        |number| number,
        |dir| numbers(&disk(dir.path())),
    );
}

#[test]
fn names_tell_partition_incarnation_worker_and_epochs() {
    let store = memory();
    let mut job = job(
        &store,
        at_once(&store).partitioned_by("parity={parity}").partition_field("parity", |number| (number % 2).into()),
    );
    job.start(2);
    job.stage(1, 3);
    job.prepare();
    job.persist();
    job.commit();
    let names: Vec<_> = everything(store.as_ref()).into_keys().collect();
    assert_eq!(
        names,
        [
            "out/_manifests/conformance.results-e0000000001-i00001-w01-s000000-f0000000001.json",
            "out/_probes/conformance.results",
            "out/parity=0/conformance.results-i00001-w01-s000000-f0000000001-e0000000001-p000.ndjson",
            "out/parity=1/conformance.results-i00001-w01-s000000-f0000000001-e0000000001-p000.ndjson",
        ]
    );
    assert_manifested(store.as_ref());
}

#[test]
fn nothing_is_written_while_nothing_is_staged() {
    let store = memory();
    let mut job = job(&store, at_once(&store));
    job.start(4);
    for _ in 0..10 {
        job.prepare();
        job.persist();
        job.commit();
    }
    assert_eq!(everything(store.as_ref()).len(), 1, "the probe");
}

/// A sink that holds spool files for ten seconds, and its clock in seconds.
fn holding(store: &Arc<dyn ObjectStore>) -> (ObjectSink<u64>, Arc<AtomicU64>) {
    let (start, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let now = Arc::clone(&seconds);
    let clock = move || start + Duration::from_secs(now.load(Ordering::Relaxed));
    (objects_in(Arc::clone(store), "out").roll_after(Duration::from_secs(10)).clock(clock).unshipped_bytes(1), seconds)
}

fn epoch(job: &mut Driver<'_, u64>) {
    job.prepare();
    job.persist();
    job.commit();
    job.acknowledge();
}

#[test]
fn many_epochs_become_few_objects() {
    let store = memory();
    let (sink, seconds) = holding(&store);
    let mut job = job(&store, sink);
    job.start(2);
    for _ in 0..50 {
        job.stage(0, 20);
        job.stage(1, 20);
        epoch(&mut job);
    }
    assert!(job.visible().is_empty());
    seconds.store(10, Ordering::Relaxed);
    epoch(&mut job);
    // One byte may be unshipped, so the commit has waited.
    job.assert_all_visible();
    let names: Vec<_> = visible(store.as_ref()).into_keys().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].contains("-f0000000001-e0000000051-"), "{names:?}");
    assert_manifested(store.as_ref());
}

#[test]
fn a_full_spool_file_is_shipped_by_records_and_by_bytes() {
    // A block of lines has 13 bytes around them, and most numbers here have three.
    for full in [|sink: ObjectSink<u64>| sink.roll_records(10), |sink: ObjectSink<u64>| sink.roll_bytes(13 + 3 * 10)] {
        let store = memory();
        let (sink, _) = holding(&store);
        let mut job = job(&store, full(sink));
        job.start(1);
        job.stage(0, 25);
        epoch(&mut job);
        assert_eq!(visible(store.as_ref()).len(), 2);
        job.stage(0, 9);
        epoch(&mut job);
        assert_eq!(visible(store.as_ref()).len(), 3);
        // The rest waits for more; with a second block and the file's head, the third is full early.
        assert!((26..=30).contains(&numbers(store.as_ref()).len()));
    }
}

#[test]
fn what_is_held_is_shipped_by_the_next_start_without_what_was_not_committed() {
    let store = memory();
    let (sink, _) = holding(&store);
    let mut job = job(&store, sink);
    job.start(4);
    (0..4).for_each(|worker| job.stage(worker, 5));
    epoch(&mut job);
    job.stage(0, 5);
    job.prepare();
    job.start(1);
    assert_eq!(numbers(store.as_ref()).len(), 20);
    job.start(3);
    job.replay(2);
    job.finish();
    assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>());
}

#[test]
fn the_end_of_a_job_ships_what_is_held() {
    let store = memory();
    let (sink, _) = holding(&store);
    let mut job = job(&store, sink);
    job.start(1);
    job.stage(0, 5);
    epoch(&mut job);
    assert!(job.visible().is_empty());
    job.stage(0, 5);
    job.finish();
    assert_eq!(numbers(store.as_ref()).len(), 10);
}

#[test]
fn readers_may_take_what_is_visible() {
    let store = memory();
    let mut job = job(&store, at_once(&store));
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    job.persist();
    job.commit();
    for name in visible(store.as_ref()).into_keys() {
        wait(store.delete(&path(&name))).unwrap();
    }
    job.commit();
    job.try_start(1).unwrap();
    assert!(numbers(store.as_ref()).is_empty());
}

#[test]
fn spooled_records_that_vanish_stop_the_start() {
    let (store, place) = (memory(), Place::new());
    let sink = at_once(&store);
    let context = place.context(1, None);
    let mut committer = Sink::<u64>::committer(&sink, &context).unwrap();
    committer.recover(None, &[]).unwrap();
    let mut writer = sink.writer(&context, 0).unwrap();
    writer.stage(&1).unwrap();
    let handles = handle(writer.as_mut(), Epoch::new(1));
    drop(committer);
    let spooled = files_below(place.folder.path()).into_iter().find(|name| name.ends_with(".staged")).unwrap();
    for (change, expected) in [(Some(20), "have 20 bytes where"), (None, "committed records of epoch 1 are gone")] {
        match change {
            Some(length) => std::fs::OpenOptions::new().write(true).open(&spooled).unwrap().set_len(length).unwrap(),
            None => std::fs::remove_file(&spooled).unwrap(),
        }
        let mut committer = Sink::<u64>::committer(&sink, &place.context(2, Some(1))).unwrap();
        let error = committer.recover(Some(&permit(Epoch::new(1))), &handles).unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("charges")));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn output_newer_than_the_state_stops_the_start_and_nothing_changes() {
    let store = memory();
    let mut newer = job(&store, at_once(&store));
    newer.start(1);
    for _ in 0..3 {
        newer.stage(0, 5);
        epoch(&mut newer);
    }
    drop(newer);
    let before = everything(store.as_ref());
    // Another folder with a state that has committed nothing.
    let mut older = job(&store, at_once(&store));
    let error = older.try_start(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("is of epoch 1, but the state has committed nothing"), "{error}");
    assert_eq!(everything(store.as_ref()), before);
}

#[test]
fn an_object_of_somebody_else_is_not_written_over() {
    for (part_bytes, size) in [(1 << 20, 3), (1 << 20, 10), (4, 3), (4, 10)] {
        let store = memory();
        let mut job = job(&store, at_once(&store).part_bytes(part_bytes));
        job.start(1);
        job.stage(0, 5);
        let name = "out/conformance.results-i00001-w00-s000000-f0000000001-e0000000001-p000.ndjson";
        let theirs = vec![b'7'; size];
        wait(store.put(&path(name), PutPayload::from(theirs.clone()))).unwrap();
        job.try_prepare().unwrap();
        // The driver reads what is visible: here what it finds is not its own.
        wait(store.delete(&path(name))).unwrap();
        job.persist();
        wait(store.put(&path(name), PutPayload::from(theirs.clone()))).unwrap();
        let error = job.try_commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sink);
        assert!(error.to_string().contains(name) && error.to_string().contains("is there already, with"), "{error}");
        assert_eq!(everything(store.as_ref())[name], theirs);
        assert!(job.try_start(1).is_err(), "and so it stays");
        wait(store.delete(&path(name))).unwrap();
        job.start(1);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let (store, place) = (memory(), Place::new());
    for (sink, what) in [
        (at_once(&store).roll_bytes(0), "roll_bytes"),
        (at_once(&store).roll_records(0), "roll_records"),
        (at_once(&store).part_bytes(0), "part_bytes"),
        (at_once(&store).concurrency(0), "concurrency"),
        (objects("ftp://x/y"), "s3://"),
        (objects("s3://x/y").part_bytes(1 << 20), "part_bytes"),
        (objects_in(Arc::clone(&store), "a//b"), "prefix"),
    ] {
        let error = sink.committer(&place.context(1, None)).err().unwrap();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("charges")));
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_folder_has_one_committer_at_a_time() {
    let (store, place) = (memory(), Place::new());
    let sink = at_once(&store);
    let first = sink.committer(&place.context(1, None)).unwrap();
    let error = sink.committer(&place.context(2, None)).err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(first);
    assert!(sink.committer(&place.context(2, None)).is_ok());
}

/// A record that JSON cannot hold where `odd` is not a number, since its key is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Odd {
    keys: std::collections::BTreeMap<(u8, u8), u8>,
    number: u64,
}

fn odd(number: u64, is_odd: bool) -> Odd {
    Odd { keys: is_odd.then_some(((1, 2), 3)).into_iter().collect(), number }
}

fn some_odd() -> [Odd; 4] {
    [odd(1, false), odd(2, true), odd(3, false), odd(4, true)]
}

/// The odd ones are in the rejected object of this start, with the reason, and the others in its object.
fn assert_odd_apart(store: &dyn ObjectStore, start: &str) {
    let all = everything(store);
    let (name, bytes) = all.iter().find(|(name, _)| name.contains("_rejected")).unwrap();
    assert_eq!(*name, format!("out/_rejected/job.charges-{start}-p000.ndjson"));
    assert_eq!(lines(name, bytes).len(), 2);
    assert!(lines(name, bytes)[0].contains("\"error\":\"key must be a string\""), "{:?}", lines(name, bytes));
    let written: Vec<_> = visible(store).iter().flat_map(|(name, bytes)| lines(name, bytes)).collect();
    assert_eq!(written, [r#"{"keys":{},"number":1}"#, r#"{"keys":{},"number":3}"#]);
    assert_manifested(store);
}

#[test]
fn records_that_cannot_be_written_are_kept_apart_or_stop_the_job() {
    let (store, place) = (memory(), Place::new());
    let sink = || objects_in::<Odd>(Arc::clone(&store), "out").roll_after(Duration::ZERO).format(Ndjson.gzip());
    let error = place.epoch(&sink(), 1, &some_odd(), true).unwrap_err();
    assert!(error.to_string().contains("could not write a committed record"), "{error}");
    assert!(visible(store.as_ref()).is_empty());
    // The spooled records wait for a program that keeps such records.
    place.epoch(&sink().keep_rejected(), 2, &[], false).unwrap();
    assert_odd_apart(store.as_ref(), "i00001-w00-s000000-f0000000001-e0000000001");
}

#[test]
fn records_without_a_line_are_kept_apart_or_stop_the_job_before_they_are_committed() {
    let (store, place) = (memory(), Place::new());
    let sink = || objects_in::<Odd>(Arc::clone(&store), "out").roll_after(Duration::ZERO);
    let error = place.epoch(&sink(), 1, &some_odd(), true).unwrap_err();
    let told = "could not write a record: key must be a string; give the sink a place for such records (keep_rejected)";
    assert!(error.to_string().contains(told), "{error}");
    // Nothing is lost: the next start reads them again.
    place.epoch(&sink().keep_rejected(), 2, &some_odd(), true).unwrap();
    assert_odd_apart(store.as_ref(), "i00002-w00-s000000-f0000000002-e0000000002");
}

#[test]
fn a_spool_of_lines_is_shipped_as_it_is_by_a_program_that_would_write_otherwise() {
    let (store, place) = (memory(), Place::new());
    let sink = objects_in::<u64>(Arc::clone(&store), "out").roll_after(Duration::from_secs(3_600));
    place.epoch(&sink, 1, &[1, 2, 3], true).unwrap();
    assert!(visible(store.as_ref()).is_empty());
    // Another format, partitions, and another type of records: the lines are what was committed.
    let other = objects_in::<Odd>(Arc::clone(&store), "out").format(Ndjson.zstd());
    let other = other.partitioned_by("p={p}").partition_field("p", |odd: &Odd| odd.number.into());
    place.epoch(&other, 2, &[], false).unwrap();
    let found = visible(store.as_ref());
    let (name, bytes) = found.first_key_value().unwrap();
    assert_eq!(name, "out/job.charges-i00001-w00-s000000-f0000000001-e0000000001-p000.ndjson");
    assert_eq!((found.len(), lines(name, bytes)), (1, vec!["1".to_owned(), "2".to_owned(), "3".to_owned()]));
    assert_manifested(store.as_ref());
}

#[test]
fn a_partition_that_cannot_be_is_a_rejected_record_and_none_leads_out_of_its_folder() {
    let store = memory();
    let sink = at_once(&store).keep_rejected().partitioned_by("p={p}").partition_field("p", |number| match number {
        0 | 1 => "x".repeat(300).into(),
        2 => "../up".into(),
        3 => "_hidden".into(),
        _ => "ok".into(),
    });
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, Vec::new);
    job.try_start(1).unwrap();
    job.try_stage(0, 5).unwrap();
    job.try_prepare().unwrap();
    job.try_persist().unwrap();
    job.try_commit().unwrap();
    assert_eq!(numbers(store.as_ref()).into_iter().collect::<std::collections::BTreeSet<_>>(), [2, 3, 4].into());
    let folders: Vec<_> =
        visible(store.as_ref()).into_keys().map(|name| name.rsplit_once('/').unwrap().0.to_owned()).collect();
    assert_eq!(folders, ["out/p=.%2E%2Fup", "out/p=_hidden", "out/p=ok"]);
    let all = everything(store.as_ref());
    let (name, bytes) = all.iter().find(|(name, _)| name.contains("_rejected")).unwrap();
    assert_eq!(lines(name, bytes).len(), 2);
    assert!(lines(name, bytes)[0].contains("more than 200 bytes"), "{:?}", lines(name, bytes));
}

#[test]
fn more_partitions_than_are_written_at_a_time_lose_nothing() {
    let store = memory();
    let sink = at_once(&store).partitioned_by("p={p}").partition_field("p", |number| (number % 300).into());
    let mut job = job(&store, sink);
    job.start(1);
    job.stage(0, 900);
    epoch(&mut job);
    job.assert_all_visible();
    let names: Vec<_> = visible(store.as_ref()).into_keys().collect();
    assert!(names.len() > 300 && names.iter().any(|name| name.ends_with("-p002.ndjson")), "{}", names.len());
    assert_manifested(store.as_ref());
}

#[test]
fn a_closure_that_panics_stops_the_job_with_what_it_said() {
    let store = memory();
    let mut job =
        job(&store, at_once(&store).partitioned_by("day={day}").partition_field("day", |_| panic!("no such day")));
    job.start(1);
    job.stage(0, 1);
    job.prepare();
    job.persist();
    let error = job.try_commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("no such day"), "{error}");
}

#[derive(Clone, Serialize, Deserialize)]
struct Before {
    account: u64,
    cents: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Swapped {
    cents: u64,
    account: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Deeper {
    account: u64,
    cents: (u32, u16),
}

#[test]
fn spooled_records_are_not_read_as_another_type() {
    let (store, place) = (memory(), Place::new());
    let held = || Duration::from_secs(3600);
    // Compressed, and so not spooled as it will be in the object.
    let sink = objects_in::<Before>(Arc::clone(&store), "out").roll_after(held()).format(Ndjson.gzip());
    place.epoch(&sink, 1, &[Before { account: 1, cents: 2 }], true).unwrap();
    let swapped = objects_in::<Swapped>(Arc::clone(&store), "out").roll_after(held());
    let error = place.epoch(&swapped, 2, &[], false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("of another type than this program's"), "{error}");
    let deeper = objects_in::<Deeper>(Arc::clone(&store), "out").roll_after(held());
    let error = place.epoch(&deeper, 2, &[], false).unwrap_err();
    assert!(error.to_string().contains("was its type changed?"), "{error}");
    assert!(visible(store.as_ref()).is_empty());
    place.epoch(&sink, 2, &[], false).unwrap();
    let written: Vec<_> = visible(store.as_ref()).iter().flat_map(|(name, bytes)| lines(name, bytes)).collect();
    assert_eq!(written, [r#"{"account":1,"cents":2}"#]);
}

#[test]
fn debug_and_errors_show_no_secret() {
    let place = Place::new();
    let secrets = |sink: ObjectSink<u64>| {
        sink.option("aws_access_key_id", "SECRETKEY")
            .option("aws_secret_access_key", "SECRETSECRET")
            .option("aws_token", "SECRETTOKEN")
    };
    let refused = secrets(objects("s3://bucket/x")).endpoint("http://127.0.0.1:1").region("us-east-1");
    assert!(!format!("{refused:?}").contains("SECRET"), "{refused:?}");
    let error = refused.give_up_after(Duration::ZERO).committer(&place.context(1, None)).err().unwrap();
    assert!(error.to_string().contains("s3://bucket") && !format!("{error:?}").contains("SECRET"), "{error:?}");
    let unknown = secrets(objects("s3://bucket/x")).option("colour", "SECRET");
    let error = unknown.committer(&place.context(1, None)).err().unwrap();
    assert!(error.to_string().contains("colour") && !format!("{error:?}").contains("SECRET"), "{error:?}");
    let url = objects::<u64>("s3://KEY:SECRET@bucket/x");
    let error = url.committer(&place.context(1, None)).err().unwrap();
    assert!(!format!("{url:?} {error:?}").contains("SECRET"), "{url:?} {error:?}");
    // An Azure token is part of every URL that is asked.
    let azure = objects::<u64>("az://container/x")
        .option("azure_storage_account_name", "account")
        .option("azure_storage_sas_key", "sv=2020-01-01&sig=SECRET")
        .endpoint("http://127.0.0.1:1/account");
    let error = azure.clone().give_up_after(Duration::ZERO).committer(&place.context(1, None)).err().unwrap();
    assert!(!format!("{azure:?} {error:?}").contains("SECRET"), "{azure:?} {error:?}");
}
