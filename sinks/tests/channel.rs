//! The channel sink through its port, and in a job.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test may stop at what must not happen"
)]

use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use shardflow::sink::{Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::testing::sink::{Driver, Promise, conforms, permit};
use shardflow::testing::{Collected, Feed};
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, ErrorKind, Job, lines};
use shardflow_sinks::channel::Handed;
use shardflow_sinks::{ChannelSink, Receiver, channel};
use tokio::runtime::Runtime;

/// A channel, and what has come out of it.
struct Place {
    sink: ChannelSink<u64>,
    receiver: Mutex<Receiver<u64>>,
    seen: Mutex<Vec<Handed<u64>>>,
}

impl Place {
    fn new() -> Self {
        let (sink, receiver) = channel(100_000);
        Self { sink, receiver: Mutex::new(receiver), seen: Mutex::default() }
    }

    fn numbers(&self) -> Vec<u64> {
        let (mut receiver, mut seen) = (self.receiver.lock().unwrap(), self.seen.lock().unwrap());
        seen.extend(std::iter::from_fn(|| receiver.try_recv()));
        seen.iter().map(|handed| handed.record).collect()
    }

    fn job(&self, promise: Promise) -> Driver<'_, u64> {
        Driver::new(promise, Box::new(self.sink.clone()), |number| number, || self.numbers())
    }
}

fn context(io: &Runtime) -> SinkContext {
    SinkContext {
        job: "job".to_owned(),
        step: "ours".into(),
        incarnation: Incarnation::new(1),
        committed: None,
        workers: 1,
        folder: std::env::temp_dir(),
        runtime: io.handle().clone(),
    }
}

fn handle(writer: &mut dyn SinkWriter<u64>, epoch: u64, numbers: std::ops::Range<u64>) -> StagedHandle {
    numbers.for_each(|number| writer.stage(&number).unwrap());
    let epoch = Epoch::new(epoch);
    match writer.prepare(epoch).unwrap() {
        Some(Prepared::Staged(handle)) => StagedHandle { epoch, worker: 0, handle },
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_conforms_at_least_once() {
    let sink = |place: &Place| Box::new(place.sink.clone()) as Box<dyn Sink<u64>>;
    conforms(Promise::OnceUntilACrash, Place::new, sink, |number| number, Place::numbers);
}

#[test]
fn within_one_start_each_record_is_handed_over_once_and_not_before_its_commit() {
    let place = Place::new();
    let mut job = place.job(Promise::ExactlyOnce);
    job.start(2);
    for _ in 0..5 {
        job.stage(0, 3);
        job.stage(1, 3);
        job.prepare();
        job.persist();
        job.commit();
        job.commit();
        job.assert_all_visible();
    }
    job.finish();
}

#[test]
fn what_a_crash_leaves_unclear_is_handed_over_again_at_the_same_place() {
    let place = Place::new();
    let mut job = place.job(Promise::AtLeastOnce);
    job.start(2);
    job.stage(0, 3);
    job.stage(1, 2);
    job.prepare();
    job.persist();
    job.commit();
    job.start(1);
    place.numbers();
    let seen = place.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 10);
    assert_eq!(seen[..5], seen[5..]);
    assert!(seen.iter().all(|handed| handed.step == seen[0].step));
    let places: Vec<_> = seen[..5].iter().map(|handed| (handed.epoch.number(), handed.worker, handed.index)).collect();
    assert_eq!(places, [(1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 1, 0), (1, 1, 1)]);
}

#[test]
fn two_steps_that_share_a_channel_have_places_of_their_own() {
    let io = Runtime::new().unwrap();
    let (sink, mut receiver) = channel::<u64>(100);
    let steps = ["ours", "theirs"];
    // Both end the same epochs on the same worker, and are handed over again after a crash.
    for _start in 0..2 {
        for (step, first) in steps.into_iter().zip([0, 10]) {
            let context = SinkContext { step: step.into(), ..context(&io) };
            let mut committer = Sink::<u64>::committer(&sink, &context).unwrap();
            let mut writer = sink.writer(&context, 0).unwrap();
            let handles = [handle(&mut *writer, 1, first..first + 3), handle(&mut *writer, 2, first + 3..first + 5)];
            committer.recover(Some(&permit(Epoch::new(2))), &handles).unwrap();
        }
    }
    let handed: Vec<Handed<u64>> = std::iter::from_fn(|| receiver.try_recv()).collect();
    assert_eq!(handed.len(), 20);
    let mut seen = std::collections::BTreeMap::new();
    for handed in &handed {
        let (step, epoch, worker, index) = handed.place();
        let first = seen.entry((step.clone(), epoch, worker, index)).or_insert(handed.record);
        assert_eq!(*first, handed.record, "two records have one place: {handed:?}");
    }
    let of =
        |step: &str| seen.iter().filter(|(place, _)| place.0.as_str() == step).map(|(_, n)| *n).collect::<Vec<_>>();
    assert_eq!((of("ours"), of("theirs")), (vec![0, 1, 2, 3, 4], vec![10, 11, 12, 13, 14]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_receiver_that_remembers_places_sees_each_record_once(steps in prop::collection::vec(0u8..7, 1..40)) {
        let place = Place::new();
        let mut job = place.job(Promise::AtLeastOnce);
        job.start(2);
        for step in steps {
            match step {
                0 => job.stage(0, 3),
                1 => job.stage(1, 2),
                2 => job.prepare(),
                3 => job.persist(),
                4 => job.commit(),
                5 => { job.commit(); job.acknowledge(); }
                _ => job.start(usize::from(step) % 3 + 1),
            }
        }
        job.replay(0);
        job.finish();
        place.numbers();
        let seen = place.seen.lock().unwrap().clone();
        let mut seen: Vec<_> = seen.iter().map(|handed| (handed.place(), handed.record)).collect();
        seen.sort_unstable();
        seen.dedup();
        let mut numbers: Vec<u64> = seen.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..job.records()).collect::<Vec<_>>());
    }
}

#[test]
fn a_slow_receiver_is_waited_for_and_gets_everything_in_order() {
    let io = Runtime::new().unwrap();
    let (sink, mut receiver) = channel::<u64>(2);
    let context = context(&io);
    let mut committer = Sink::<u64>::committer(&sink, &context).unwrap();
    let mut writer = sink.writer(&context, 0).unwrap();
    let handles = [handle(&mut *writer, 1, 0..50), handle(&mut *writer, 2, 50..100)];
    let reading = thread::spawn(move || (0..100).map(|_| receiver.recv().unwrap().record).collect::<Vec<_>>());
    committer.commit(&permit(Epoch::new(2)), &handles).unwrap();
    assert_eq!(reading.join().unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn only_permitted_epochs_are_handed_over_and_a_damaged_handle_hands_over_nothing() {
    let io = Runtime::new().unwrap();
    let (sink, mut receiver) = channel::<u64>(10);
    let context = context(&io);
    let mut committer = Sink::<u64>::committer(&sink, &context).unwrap();
    let mut writer = sink.writer(&context, 0).unwrap();
    let mut handles = [handle(&mut *writer, 1, 0..1), handle(&mut *writer, 2, 1..2)];
    committer.commit(&permit(Epoch::new(1)), &handles).unwrap();
    assert_eq!(receiver.try_recv().map(|handed| handed.record), Some(0));
    assert_eq!(receiver.try_recv(), None);
    handles[1].handle[8] ^= 1;
    let error = committer.commit(&permit(Epoch::new(2)), &handles).unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::State, Some("ours")));
    assert_eq!(receiver.try_recv(), None);
}

#[test]
fn a_job_that_ends_waits_for_its_receiver_only_so_long_and_the_next_start_hands_over_the_rest() {
    let io = Runtime::new().unwrap();
    let (sink, mut receiver) = channel::<u64>(2);
    let sink = sink.patience(Duration::from_millis(50));
    let context = context(&io);
    let mut committer = Sink::<u64>::committer(&sink, &context).unwrap();
    let mut writer = sink.writer(&context, 0).unwrap();
    let handles = [handle(&mut *writer, 1, 0..5)];
    // The channel is full and its receiver sleeps: while the writer lives the commit waits, however short the patience.
    let (begun, together) = (Instant::now(), Arc::new(Barrier::new(2)));
    let dropping = Arc::clone(&together);
    let ending = thread::spawn(move || {
        dropping.wait();
        thread::sleep(Duration::from_millis(300));
        drop(writer);
    });
    together.wait();
    let error = committer.commit(&permit(Epoch::new(1)), &handles).unwrap_err();
    ending.join().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("ours")));
    assert!(error.to_string().contains("has taken nothing for 50ms"), "{error}");
    drop(committer);
    let mut committer = Sink::<u64>::committer(&sink, &context).unwrap();
    let reading = thread::spawn(move || (0..7).map(|_| receiver.recv().unwrap().record).collect::<Vec<_>>());
    committer.recover(Some(&permit(Epoch::new(1))), &handles).unwrap();
    assert_eq!(reading.join().unwrap(), [0, 1, 0, 1, 2, 3, 4]);
}

#[test]
fn a_receiver_that_is_dropped_stops_the_job_at_every_step() {
    let io = Runtime::new().unwrap();
    let (sink, receiver) = channel::<u64>(1);
    let context = context(&io);
    let mut committer = Sink::<u64>::committer(&sink, &context).unwrap();
    let mut writer = sink.writer(&context, 0).unwrap();
    let handles = [handle(&mut *writer, 1, 0..5)];
    // It is dropped while the commit waits for it.
    let leaving = thread::spawn(move || {
        let mut receiver = receiver;
        receiver.recv().unwrap();
        drop(receiver);
    });
    let committing = committer.commit(&permit(Epoch::new(1)), &handles).unwrap_err();
    leaving.join().unwrap();
    let staging = writer.stage(&7).unwrap_err();
    let starting = Sink::<u64>::committer(&sink, &context).err().unwrap();
    for error in [committing, staging, starting] {
        assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("ours")), "a restart cannot help");
        assert!(error.to_string().contains("receiver is dropped"), "{error}");
    }
}

#[test]
fn a_job_that_is_told_to_goes_on_without_its_receiver() {
    let (sink, receiver) = channel::<u64>(1);
    drop(receiver);
    let sink = sink.drop_unreceived();
    let mut job = Driver::new(Promise::AtLeastOnce, Box::new(sink), |number| number, Vec::new);
    job.try_start(1).unwrap();
    job.stage(0, 100);
    job.prepare();
    job.persist();
    job.try_commit().unwrap();
}

/// Runs a job over these lines.
fn run(feed: &Feed, sink: ChannelSink<String>, state: &std::path::Path) -> shardflow::Result<shardflow::Summary> {
    let feed = feed.clone();
    Job::named("texts").workers(2).state(state).run(move |flow| {
        let (texts, rejected) = flow.source("texts", feed.clone()).decode(lines());
        rejected.sink("rejected", Collected::new());
        texts.sink("ours", sink.clone());
    })
}

fn feed() -> Feed {
    let feed = Feed::new();
    for number in 0..1_000 {
        feed.push(&format!("split-{}", number % 3), number.to_string());
    }
    feed.close();
    feed
}

#[test]
fn a_thread_receives_what_a_job_commits_and_sees_its_end() {
    let state = tempfile::tempdir().unwrap();
    let (sink, mut receiver) = channel(3);
    let reading = thread::spawn(move || receiver.records().collect::<Vec<String>>());
    run(&feed(), sink, state.path()).unwrap();
    let mut numbers: Vec<u64> = reading.join().unwrap().iter().map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn asynchronous_code_receives_as_well() {
    let state = tempfile::tempdir().unwrap();
    let (sink, mut receiver) = channel(3);
    let io = Runtime::new().unwrap();
    let reading = io.spawn(async move {
        let mut count = 0;
        while receiver.recv_async().await.is_some() {
            count += 1;
        }
        count
    });
    run(&feed(), sink, state.path()).unwrap();
    assert_eq!(io.block_on(reading).unwrap(), 1_000);
}

#[test]
fn a_job_whose_receiver_is_dropped_ends_with_the_word_and_the_next_one_hands_over_what_was_left() {
    let state = tempfile::tempdir().unwrap();
    let (sink, receiver) = channel(3);
    let leaving = thread::spawn(move || {
        let mut receiver = receiver;
        receiver.recv().map(|handed| handed.record)
    });
    let error = run(&feed(), sink, state.path()).unwrap_err();
    assert!(error.to_string().contains("receiver is dropped"), "{error}");
    let mut numbers: Vec<String> = leaving.join().unwrap().into_iter().collect();
    let (sink, mut receiver) = channel(3);
    let reading = thread::spawn(move || receiver.records().collect::<Vec<String>>());
    run(&feed(), sink, state.path()).unwrap();
    numbers.extend(reading.join().unwrap());
    let mut numbers: Vec<u64> = numbers.iter().map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
}

#[test]
fn a_job_whose_receiver_sleeps_ends_all_the_same() {
    let state = tempfile::tempdir().unwrap();
    let (sink, receiver) = channel(3);
    let error = run(&feed(), sink.patience(Duration::from_millis(50)), state.path()).unwrap_err();
    assert!(error.to_string().contains("has taken nothing"), "{error}");
    drop(receiver);
}
