//! Sinks of batches: each record is written at least once, whatever the service does.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use shardflow::retry::Failed;
use shardflow::sink::{
    AtLeastOnce, BatchWriter, Batching, EntryOutcome, Refused, Sink, Trouble, Version, Written, at_least_once,
};
use shardflow::source::BoxFuture;
use shardflow::testing::sink::{Driver, Promise, conforms, context};
use shardflow::testing::{Collected, Feed};
use shardflow::{Epoch, ErrorKind, Job, Outcome, lines};
use tokio::sync::Semaphore;

/// Decides what becomes of a call by its number, from 0, and its entries.
type Rule = Arc<dyn Fn(usize, &[u64]) -> Written + Send + Sync>;

/// A service in memory.
#[derive(Clone)]
struct Service {
    rule: Rule,
    calls: Arc<AtomicUsize>,
    written: Arc<Mutex<Vec<u64>>>,
}

impl Service {
    fn new(rule: impl Fn(usize, &[u64]) -> Written + Send + Sync + 'static) -> Self {
        Self { rule: Arc::new(rule), calls: Arc::default(), written: Arc::default() }
    }

    fn good() -> Self {
        Self::new(|_, _| Written::All)
    }

    fn written(&self) -> Vec<u64> {
        self.written.lock().unwrap().clone()
    }
}

impl BatchWriter<u64> for Service {
    type Entry = u64;

    fn limits(&self) -> Batching {
        Batching { records: 10, bytes: 1_000 }
    }

    fn entry(&self, record: &u64, _version: Version) -> Result<u64, Refused> {
        if *record == 13 {
            return Err(Refused { error: "unlucky".to_owned(), record: record.to_string() });
        }
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
            // Others get their turn meanwhile.
            tokio::task::yield_now().await;
            let answer = (self.rule)(self.calls.fetch_add(1, Ordering::SeqCst), entries);
            let mut written = self.written.lock().unwrap();
            match &answer {
                Written::All => written.extend(entries),
                Written::Each(outcomes) => {
                    let taken = entries.iter().zip(outcomes).filter(|(_, outcome)| **outcome == EntryOutcome::Written);
                    written.extend(taken.map(|(entry, _)| *entry));
                }
                // The answer was lost, not the request.
                Written::Failed(trouble) if trouble.outcome == Outcome::Indeterminate => written.extend(entries),
                Written::Failed(_) => {}
            }
            answer
        })
    }
}

fn trouble(may_pass: Option<Failed>, outcome: Outcome) -> Trouble {
    Trouble { may_pass, outcome, text: "the service is tired".to_owned() }
}

fn transient() -> Trouble {
    trouble(Some(Failed::Transient), Outcome::Determinate)
}

fn driver(sink: AtLeastOnce<Service>, service: &Service) -> Driver<'_, u64> {
    Driver::new(Promise::AtLeastOnce, Box::new(sink), |number| number, || service.written())
}

#[test]
fn a_sink_of_batches_conforms() {
    conforms(
        Promise::OnceUntilACrash,
        Service::good,
        // 13 is refused, which is a promise of another kind.
        |service| Box::new(at_least_once(service.clone()).rejected_to(Collected::new())),
        |number| if number < 13 { number } else { number + 1 },
        |service| service.written().into_iter().map(|n| if n < 13 { n } else { n - 1 }).collect(),
    );
}

#[test]
fn it_conforms_while_calls_fail_in_every_way() {
    let faulty = || {
        // Most calls are good: each failure is waited out.
        Service::new(|call, entries| match call % 13 {
            0 => Written::Failed(transient()),
            1 => Written::Failed(trouble(Some(Failed::Throttled), Outcome::Indeterminate)),
            2 => Written::Each(
                (0..entries.len())
                    .map(|n| if n % 2 == 0 { EntryOutcome::Written } else { EntryOutcome::Failed(transient()) })
                    .collect(),
            ),
            _ => Written::All,
        })
    };
    conforms(
        Promise::AtLeastOnce,
        faulty,
        |service| Box::new(at_least_once(service.clone()).batch_records(7).concurrency(3)),
        |number| number + 100,
        |service| service.written().into_iter().map(|n| n - 100).collect(),
    );
}

#[test]
fn what_is_refused_goes_to_the_rejected_output_once_and_does_not_hold_up_the_rest() {
    let service = Service::new(|_, entries| {
        let outcome = |entry: &u64| match entry % 10 {
            5 => EntryOutcome::Refused(format!("{entry} ends in 5")),
            _ => EntryOutcome::Written,
        };
        Written::Each(entries.iter().map(outcome).collect())
    });
    let rejected = Collected::<Refused>::new();
    let sink = at_least_once(service.clone()).rejected_to(rejected.clone());
    let mut job = driver(sink, &service);
    job.start(2);
    for worker in [0, 1] {
        job.stage(worker, 20);
        job.prepare();
        job.persist();
        job.commit();
        // As after a crash in between.
        job.commit();
    }
    let mut refused: Vec<String> =
        rejected.values().into_iter().map(|r| format!("{}: {}", r.record, r.error)).collect();
    refused.sort();
    assert_eq!(refused, ["13: unlucky", "15: 15 ends in 5", "25: 25 ends in 5", "35: 35 ends in 5", "5: 5 ends in 5"]);
    let mut written = service.written();
    written.sort_unstable();
    assert_eq!(written, (0..40).filter(|n| n % 10 != 5 && *n != 13).collect::<Vec<_>>());
}

#[test]
fn without_a_rejected_output_a_refused_record_stops_the_job() {
    let service = Service::good();
    let mut job = driver(at_least_once(service.clone()), &service);
    job.start(1);
    job.stage(0, 20);
    job.prepare();
    let error = job.try_persist().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sink);
    let text = error.to_string();
    assert!(text.contains("unlucky") && text.contains("rejected_to") && text.contains("\"13\""), "{text}");
}

#[test]
fn what_cannot_pass_and_what_lasts_too_long_stop_the_job() {
    for (may_pass, says) in [(None, "the service is tired"), (Some(Failed::Transient), "still, after many attempts")] {
        let service = Service::new(move |_, _| Written::Failed(trouble(may_pass, Outcome::Indeterminate)));
        let sink = at_least_once(service.clone()).give_up_after(Duration::from_millis(1));
        let mut job = driver(sink, &service);
        job.start(1);
        job.stage(0, 5);
        job.prepare();
        let error = job.try_persist().unwrap_err();
        assert_eq!((error.outcome(), error.step()), (Outcome::Indeterminate, Some("results")));
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn what_may_be_written_stays_in_doubt_whatever_later_calls_say() {
    for first in [Outcome::Indeterminate, Outcome::Determinate] {
        for partly in [false, true] {
            let service = Service::new(move |call, entries| match call {
                0 => Written::Failed(trouble(Some(Failed::Transient), first)),
                1 if partly => {
                    let rest = entries.iter().skip(1).map(|_| EntryOutcome::Failed(transient()));
                    Written::Each([EntryOutcome::Written].into_iter().chain(rest).collect())
                }
                _ => Written::Failed(trouble(None, Outcome::Determinate)),
            });
            let mut job = driver(at_least_once(service.clone()), &service);
            job.start(1);
            job.stage(0, 5);
            job.prepare();
            let error = job.try_persist().unwrap_err();
            assert_eq!(error.outcome(), first, "partly: {partly}: {error}");
        }
    }
}

#[test]
fn a_writer_that_panics_stops_the_job_and_is_named() {
    let service = Service::new(|_, _| panic!("a bug of the writer"));
    let mut job = driver(at_least_once(service.clone()), &service);
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    let error = job.try_persist().unwrap_err().to_string();
    assert!(error.contains("step \"results\"") && error.contains("panicked"), "{error}");
}

/// A service that answers only once it is let.
#[derive(Clone)]
struct Gated {
    service: Service,
    gate: Arc<Semaphore>,
    /// Calls that have come.
    come: Arc<AtomicUsize>,
    under_way: Arc<AtomicUsize>,
    most_under_way: Arc<AtomicUsize>,
}

impl Gated {
    fn new(service: Service, gate: &Arc<Semaphore>) -> Self {
        let (come, under_way, most_under_way) = Default::default();
        Self { service, gate: Arc::clone(gate), come, under_way, most_under_way }
    }
}

impl BatchWriter<u64> for Gated {
    type Entry = u64;

    fn limits(&self) -> Batching {
        self.service.limits()
    }

    fn entry(&self, record: &u64, version: Version) -> Result<u64, Refused> {
        self.service.entry(record, version)
    }

    fn bytes(&self, entry: &u64) -> usize {
        self.service.bytes(entry)
    }

    fn text(&self, entry: &u64) -> String {
        self.service.text(entry)
    }

    fn write<'a>(&'a self, entries: &'a [u64]) -> BoxFuture<'a, Written> {
        Box::pin(async move {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
            self.come.fetch_add(1, Ordering::SeqCst);
            drop(self.gate.acquire().await.unwrap());
            let answer = self.service.write(entries).await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}

#[test]
fn as_many_batches_are_on_their_way_as_it_is_told_and_no_more() {
    let (service, gate) = (Service::good(), Arc::new(Semaphore::new(0)));
    let gated = Gated::new(service.clone(), &gate);
    let sink = at_least_once(gated.clone()).batch_records(2).concurrency(3);
    let mut writer = Sink::<u64>::writer(&sink, &context("job", "results"), 0).unwrap();
    let worker = thread::spawn(move || {
        // Without 13, which is refused.
        (100..600).for_each(|number| writer.stage(&number).unwrap());
        writer.prepare(Epoch::new(1)).unwrap().unwrap().finish().unwrap()
    });
    let begun = Instant::now();
    while gated.come.load(Ordering::SeqCst) < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} calls were made", gated.come.load(Ordering::SeqCst));
        thread::yield_now();
    }
    gate.add_permits(3);
    assert_eq!(worker.join().unwrap(), None);
    assert_eq!((gated.come.load(Ordering::SeqCst), gated.most_under_way.load(Ordering::SeqCst)), (250, 3));
    assert_eq!(service.written().len(), 500);
}

/// The writer of a job that ends well goes before its last epoch is flushed.
#[test]
fn an_epoch_is_written_though_its_writer_is_gone() {
    let (service, gate) = (Service::good(), Arc::new(Semaphore::new(0)));
    let sink = at_least_once(Gated::new(service.clone(), &gate));
    let mut writer = Sink::<u64>::writer(&sink, &context("job", "results"), 0).unwrap();
    (0..5).for_each(|number| writer.stage(&number).unwrap());
    let prepared = writer.prepare(Epoch::new(1)).unwrap().unwrap();
    drop(writer);
    gate.add_permits(1);
    assert_eq!(prepared.finish().unwrap(), None);
    assert_eq!(service.written(), [0, 1, 2, 3, 4]);
}

/// A service that is told the version of each record.
#[derive(Clone)]
struct Versioned(Service, Arc<Mutex<Vec<Version>>>);

impl BatchWriter<u64> for Versioned {
    type Entry = u64;

    fn limits(&self) -> Batching {
        self.0.limits()
    }

    fn entry(&self, record: &u64, version: Version) -> Result<u64, Refused> {
        self.1.lock().unwrap().push(version);
        self.0.entry(record, version)
    }

    fn bytes(&self, entry: &u64) -> usize {
        self.0.bytes(entry)
    }

    fn text(&self, entry: &u64) -> String {
        self.0.text(entry)
    }

    fn write<'a>(&'a self, entries: &'a [u64]) -> BoxFuture<'a, Written> {
        self.0.write(entries)
    }
}

/// A split may go to another worker, or its child to one: in a later epoch, with versions that go on.
#[test]
fn versions_grow_from_epoch_to_epoch_at_whichever_worker() {
    let versions = Arc::new(Mutex::new(Vec::new()));
    let sink = at_least_once(Versioned(Service::good(), Arc::clone(&versions)));
    let mut writers = [0, 1].map(|worker| Sink::<u64>::writer(&sink, &context("job", "results"), worker).unwrap());
    for (epoch, worker, count) in [(1, 0, 5), (2, 1, 2), (4, 0, 1), (5, 1, 3)] {
        writers[worker].begin(Epoch::new(epoch));
        (0..count).for_each(|number| writers[worker].stage(&number).unwrap());
    }
    let versions = versions.lock().unwrap();
    assert!(versions.len() == 11 && versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
}

#[test]
fn a_failure_is_known_before_the_epoch_is_over() {
    let service = Service::new(|_, _| Written::Failed(trouble(None, Outcome::Determinate)));
    let mut job = driver(at_least_once(service.clone()).concurrency(1), &service);
    job.start(1);
    // More than are on their way, so that each waits for one that has failed.
    let error = (0..100).find_map(|_| job.try_stage(0, 1).err()).expect("a failure");
    assert!(error.to_string().contains("could not write a batch"), "{error}");
}

#[test]
fn a_program_without_the_rejected_output_does_not_lose_what_was_refused() {
    use shardflow::sink::{Sink, StagedHandle};
    let context = shardflow::testing::sink::context("job", "charges");
    let mut committer = at_least_once(Service::good()).committer(&context).unwrap();
    let permit = shardflow::testing::sink::permit(shardflow::Epoch::new(7));
    committer.recover(Some(&permit), &[]).unwrap();
    let handle = StagedHandle { epoch: shardflow::Epoch::new(7), worker: 0, handle: vec![1] };
    let error = committer.recover(Some(&permit), &[handle]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("step \"charges\""), "{error}");
}

#[derive(Clone)]
struct Texts(Service);

impl BatchWriter<String> for Texts {
    type Entry = u64;

    fn limits(&self) -> Batching {
        self.0.limits()
    }

    fn entry(&self, record: &String, _version: Version) -> Result<u64, Refused> {
        record.parse().map_err(|_| Refused { error: "no number".to_owned(), record: record.clone() })
    }

    fn bytes(&self, entry: &u64) -> usize {
        self.0.bytes(entry)
    }

    fn text(&self, entry: &u64) -> String {
        self.0.text(entry)
    }

    fn write<'a>(&'a self, entries: &'a [u64]) -> BoxFuture<'a, Written> {
        self.0.write(entries)
    }
}

#[test]
fn a_job_writes_all_that_it_has_read() {
    let (feed, service, refused) = (Feed::new(), Service::good(), Collected::<Refused>::new());
    for number in 0..1_000 {
        feed.push(&format!("split-{}", number % 3), number.to_string());
    }
    feed.push("split-0", "x");
    feed.close();
    let state = tempfile::tempdir().unwrap();
    let (source, sinks) = (feed.clone(), (Texts(service.clone()), refused.clone()));
    let job = Job::named("texts").workers(2).state(state.path());
    job.run(move |flow| {
        let (texts, rejected) = flow.source("texts", source.clone()).decode(lines());
        rejected.sink("rejected", Collected::new());
        texts.sink("numbers", at_least_once(sinks.0.clone()).rejected_to(sinks.1.clone()));
    })
    .unwrap();
    let mut written = service.written();
    written.sort_unstable();
    assert_eq!(written, (0..1_000).collect::<Vec<_>>());
    assert_eq!(refused.values(), [Refused { error: "no number".to_owned(), record: "x".to_owned() }]);
}

const CALLS: &str = r#"shardflow_sink_calls_in_flight{step="results",worker="0"}"#;

#[test]
fn what_a_sink_does_is_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let (under_way, scrape) = (Arc::new(AtomicUsize::new(0)), recorder.handle());
    let seen = Arc::clone(&under_way);
    let service = Service::new(move |call, _| {
        let said = scrape.render();
        let calls = said.lines().find_map(|line| line.strip_prefix(CALLS)).map(|calls| calls.trim().parse().unwrap());
        seen.fetch_max(calls.unwrap_or(0), Ordering::SeqCst);
        match call {
            0 => Written::Failed(transient()),
            _ => Written::All,
        }
    });
    let sink = at_least_once(service.clone()).rejected_to(Collected::new());
    metrics::with_local_recorder(&recorder, || {
        let mut job = driver(sink, &service);
        job.start(1);
        job.stage(0, 20);
        job.prepare();
        job.persist();
    });
    let most = under_way.load(Ordering::SeqCst);
    assert!((1..=2).contains(&most), "{most} calls were under way, and there are two batches");
    let said = recorder.handle().render();
    for line in [
        r#"shardflow_sink_records_total{step="results",worker="0"} 19"#,
        r#"shardflow_sink_bytes_total{step="results",worker="0"} 152"#,
        r#"shardflow_sink_refused_total{step="results",worker="0"} 1"#,
        r#"shardflow_sink_retries_total{step="results",cause="failed"} 1"#,
        r#"shardflow_sink_calls_in_flight{step="results",worker="0"} 0"#,
        r#"shardflow_sink_call_seconds_count{step="results",worker="0"} 3"#,
    ] {
        assert!(said.lines().any(|said| said == line), "{line} is not among\n{said}");
    }
}
