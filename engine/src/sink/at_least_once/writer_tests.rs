//! The writer over a service that answers when the test says so, on a clock that the test moves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

use super::*;
use crate::retry::Failed;
use crate::sink::{Batching, Refused, RejectedOutput, Written};
use crate::source::BoxFuture;

const LINGER: Duration = Duration::from_secs(1);

/// How long a test waits for a thread of its own before it fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// A clock that stands until it is moved.
#[derive(Clone)]
struct Manual {
    start: Instant,
    passed: watch::Sender<Duration>,
}

impl Clock for Manual {
    fn now(&self) -> Instant {
        self.start + *self.passed.borrow()
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send {
        let mut passed = self.passed.subscribe();
        let until = *self.passed.borrow() + time;
        async move {
            passed.wait_for(|passed| *passed >= until).await.expect("the sleeper holds the clock");
        }
    }
}

/// A call that waits for its answer.
struct Asked {
    entries: Vec<u64>,
    answer: oneshot::Sender<Written>,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Vec<Asked>>>);

impl BatchWriter<u64> for Service {
    type Entry = u64;

    fn limits(&self) -> Batching {
        Batching { records: 2, bytes: 1_000 }
    }

    fn entry(&self, record: &u64, _version: Version) -> Result<u64, Refused> {
        Ok(*record)
    }

    fn bytes(&self, _entry: &u64) -> usize {
        8
    }

    fn text(&self, entry: &u64) -> String {
        entry.to_string()
    }

    fn write<'a>(&'a self, entries: &'a [u64]) -> BoxFuture<'a, Written> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.0.lock().unwrap().push(Asked { entries: entries.to_vec(), answer });
            answered.await.expect("the test answers")
        })
    }
}

/// Tasks run only while the test says so ([`settle`](Self::settle)), on its own thread.
struct Stand {
    runtime: Runtime,
    clock: Manual,
    service: Service,
    writer: Option<Writer<u64, Service, Manual>>,
}

impl Stand {
    fn new(concurrency: usize, linger: Option<Duration>) -> Self {
        let runtime = Builder::new_current_thread().build().unwrap();
        let (clock, service) =
            (Manual { start: Instant::now(), passed: watch::Sender::new(Duration::ZERO) }, Service::default());
        let context =
            SinkContext { runtime: runtime.handle().clone(), ..crate::testing::sink::context("job", "results") };
        let settings = Settings {
            most: Batching { records: usize::MAX, bytes: usize::MAX },
            concurrency: concurrency.try_into().unwrap(),
            give_up_after: Duration::from_secs(3_600),
            linger,
        };
        let delivering = Delivering::new(&context, 0, service.clone(), settings, clock.clone());
        let rejected = RejectedOutput::default().writer(&context, 0).unwrap();
        let writer = Writer::new(delivering, rejected, context.incarnation);
        Self { runtime, clock, service, writer: Some(writer) }
    }

    /// Lets every task go as far as it can.
    fn settle(&self) {
        self.runtime.block_on(async {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        });
    }

    fn pass(&self, time: Duration) {
        self.clock.passed.send_modify(|passed| *passed += time);
        self.settle();
    }

    fn stage(&mut self, record: u64) {
        self.writer.as_mut().unwrap().stage(&record).unwrap();
        self.settle();
    }

    /// What the calls hold that wait for their answers.
    fn asked(&self) -> Vec<Vec<u64>> {
        self.service.0.lock().unwrap().iter().map(|asked| asked.entries.clone()).collect()
    }

    /// Answers all of them alike. Gives what they held.
    fn answer(&self, answer: &Written) -> Vec<Vec<u64>> {
        let all = std::mem::take(&mut *self.service.0.lock().unwrap());
        let held = all.iter().map(|asked| asked.entries.clone()).collect();
        for asked in all {
            asked.answer.send(answer.clone()).expect("the call waits");
        }
        self.settle();
        held
    }
}

fn down() -> Written {
    let text = "the service lies down".to_owned();
    Written::Failed(Trouble { may_pass: Some(Failed::Transient), outcome: Outcome::Determinate, text })
}

#[test]
fn while_a_service_lies_down_one_call_at_a_time_probes_it_and_the_writer_waits() {
    const RECORDS: u64 = 1_000;
    const LANES: usize = 3;
    // Of each lane a batch, and one that finds none: the record after it is not taken.
    const TAKEN: usize = 2 * (LANES + 1);
    let mut stand = Stand::new(LANES, None);
    let mut writer = stand.writer.take().unwrap();
    let staged = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&staged);
    let worker = thread::spawn(move || {
        for record in 0..RECORDS {
            writer.stage(&record).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
        writer.prepare(Epoch::new(1)).unwrap().unwrap().finish().unwrap()
    });
    let begun = Instant::now();
    let waits_for = |what: &str, condition: &dyn Fn() -> bool| {
        while !condition() {
            assert!(begun.elapsed() < DEADLINE, "waited in vain for {what}");
            stand.settle();
        }
    };
    waits_for("the writer to fill its lanes", &|| {
        staged.load(Ordering::SeqCst) == TAKEN && stand.asked().len() == LANES
    });
    // Before it is known that the service is down every batch finds that out for itself.
    for _ in 0..2 {
        assert_eq!(stand.asked().len(), LANES);
        stand.answer(&down());
        stand.pass(Duration::from_secs(5));
    }
    let mut probed = Vec::new();
    for _ in 0..50 {
        let asked = stand.asked();
        assert_eq!(asked.len(), 1, "one call probes the service: {asked:?}");
        probed.extend(asked);
        assert_eq!(staged.load(Ordering::SeqCst), TAKEN, "the writer takes no more");
        stand.answer(&down());
        assert_eq!(stand.asked().len(), 1, "another that has waited probes it now");
        stand.pass(Duration::from_secs(5));
    }
    probed.sort();
    probed.dedup();
    assert!(probed.len() > 1, "it is not always the same batch that is tried: {probed:?}");
    // It is back: the probe's success lets the others go at once, without a wait.
    let mut written = stand.answer(&Written::All);
    waits_for("the others to go on", &|| stand.asked().len() == LANES);
    while !worker.is_finished() {
        written.extend(stand.answer(&Written::All));
        assert!(begun.elapsed() < DEADLINE, "{} of {RECORDS} records were written", written.len() * 2);
    }
    assert_eq!(worker.join().unwrap(), None);
    let mut written: Vec<u64> = written.into_iter().flatten().collect();
    written.sort_unstable();
    assert_eq!(written, (0..RECORDS).collect::<Vec<_>>());
}

#[test]
fn what_has_lingered_is_written_though_nothing_follows() {
    let mut stand = Stand::new(4, Some(LINGER));
    stand.stage(0);
    stand.pass(LINGER - Duration::from_millis(1));
    assert!(stand.asked().is_empty());
    stand.pass(Duration::from_millis(1));
    assert_eq!(stand.answer(&Written::All), [[0]]);
    // So is what comes after it, in the same epoch and in the next.
    for record in [1, 2] {
        stand.stage(record);
        stand.pass(LINGER);
        let prepared = stand.writer.as_mut().unwrap().prepare(Epoch::new(record)).unwrap().unwrap();
        assert_eq!(stand.answer(&Written::All), [[record]]);
        assert_eq!(prepared.finish().unwrap(), None);
    }
}

#[test]
fn an_epoch_waits_for_what_has_lingered() {
    let mut stand = Stand::new(4, Some(LINGER));
    stand.stage(0);
    stand.pass(LINGER);
    let prepared = stand.writer.as_mut().unwrap().prepare(Epoch::new(1)).unwrap().unwrap();
    let failed = Trouble { may_pass: None, outcome: Outcome::Indeterminate, text: "no".to_owned() };
    assert_eq!(stand.answer(&Written::Failed(failed)), [[0]]);
    assert_eq!(prepared.finish().unwrap_err().outcome(), Outcome::Indeterminate);
}

#[test]
fn without_a_linger_a_record_waits_for_the_end_of_its_epoch() {
    let mut stand = Stand::new(4, None);
    stand.stage(0);
    stand.pass(LINGER * 1_000);
    assert!(stand.asked().is_empty());
    let prepared = stand.writer.as_mut().unwrap().prepare(Epoch::new(1)).unwrap().unwrap();
    stand.settle();
    assert_eq!(stand.answer(&Written::All), [[0]]);
    prepared.finish().unwrap();
}

#[test]
fn the_time_of_a_batch_that_was_full_before_it_does_not_cut_the_next() {
    let mut stand = Stand::new(4, Some(LINGER));
    stand.stage(0);
    stand.stage(1);
    stand.pass(LINGER / 2);
    stand.stage(2);
    assert_eq!(stand.answer(&Written::All), [[0, 1]]);
    stand.pass(LINGER / 2);
    assert!(stand.asked().is_empty(), "it lingers for half as long as it may");
    stand.stage(3);
    stand.pass(LINGER / 2);
    assert_eq!(stand.answer(&Written::All), [[2, 3]]);
}

#[test]
fn what_has_lingered_keeps_to_the_lanes_and_to_the_order_and_grows_meanwhile() {
    let mut stand = Stand::new(1, Some(LINGER));
    stand.stage(0);
    stand.pass(LINGER);
    stand.stage(1);
    stand.pass(LINGER);
    stand.stage(2);
    assert_eq!(stand.asked(), [[0]]);
    assert_eq!(stand.answer(&Written::All), [[0]]);
    assert_eq!(stand.answer(&Written::All), [[1, 2]]);
    assert!(stand.asked().is_empty());
}
