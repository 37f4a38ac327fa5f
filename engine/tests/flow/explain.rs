//! What a program consists of, told without running it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shardflow::sink::{
    BatchWriter, Batching, Committer, Refused, Sink, SinkContext, SinkWriter, Version, Written, at_least_once,
};
use shardflow::source::{BoxFuture, Enumerator, Source, SourceContext};
use shardflow::testing::{Collected, Feed};
use shardflow::{
    Error, ErrorKind, EventTime, Flow, Job, KeyContext, KeyedLogic, Lag, Record, Result, hours, json, lines, millis,
    minutes, seconds, sliding, tumbling,
};
use tempfile::tempdir;

use crate::support::{Reading, lag};

/// Sends letters, to somewhere that nobody is to know.
#[derive(Clone)]
struct Mail;

impl BatchWriter<String> for Mail {
    type Entry = String;

    fn limits(&self) -> Batching {
        Batching { records: 1, bytes: 1 }
    }

    fn entry(&self, record: &String, _version: Version) -> Result<String, Refused> {
        Ok(record.clone())
    }

    fn bytes(&self, entry: &String) -> usize {
        entry.len()
    }

    fn text(&self, entry: &String) -> String {
        entry.clone()
    }

    fn write<'a>(&'a self, _letters: &'a [String]) -> BoxFuture<'a, Written> {
        Box::pin(std::future::ready(Written::All))
    }

    fn describe(&self) -> String {
        "letters".to_owned()
    }
}

/// Passes readings on.
struct Pass;

impl KeyedLogic<String, Reading> for Pass {
    type State = u64;
    type Out = Reading;

    fn on_record(&self, reading: Reading, key: &mut KeyContext<'_, String, u64, Reading>) {
        key.emit(reading);
    }
}

fn key(reading: &Reading) -> String {
    reading.key.clone()
}

/// A program with every kind of step.
fn everything(flow: &Flow<'_>) {
    let (readings, rejected) = flow.source("readings", Feed::new()).decode(json::<Reading>());
    rejected.map(|rejected| rejected.error).sink("rejected", at_least_once(Mail).rejected_to(Collected::new()));
    let (others, _dropped) = flow.source("others", Feed::new()).decode(json::<Reading>());
    let readings = readings.filter(|reading| reading.value > 0).event_time(Reading::time, lag(5_000));
    let others = others.event_time(Reading::time, Lag::of(millis(1_500)).idle_after(minutes(2)));
    let (small, large) = readings.union(others).split(|reading| reading.value < 100);
    small
        .key_by(key)
        .dedupe("once", |reading| reading.id, hours(24))
        .window(tumbling(minutes(1)).grace(hours(1)))
        .late_to("late", Collected::new())
        .count("totals")
        .map(|total| total.value)
        .sink("charges", Collected::new());
    let windows = large.clone().key_by(key).window(sliding(seconds(60), seconds(5)).grace(seconds(0)));
    windows.discard_late().sum("sums", |reading| reading.value).map(|sum| sum.value).sink("sums-out", Collected::new());
    large.clone().key_by(key).running().count("counts").map(|count| count.value).sink("counts-out", Collected::new());
    large.key_by(key).process("own", Pass).sink("own-out", Collected::new());
}

const EVERYTHING: &str = r#"job "everything": 3 workers, 64 key groups, epochs of 1m 30s
1. source "readings", keeps positions: feed
2. decode from 1
3. rejected from 2
4. map #1 from 3
5. sink "rejected" from 4: letters; refused records: Collected
6. source "others", keeps positions: feed
7. decode from 6
8. rejected from 7, dropped
9. filter #2 from 2
10. event time from 9, keeps watermarks: lag 5s, no split is ever idle
11. event time from 7, keeps watermarks: lag 1s 500ms, a split is idle after 2m
12. union from 10 and 11
13. split #3 from 12
14. others of split #3 from 13
15. key_by #4 from 13
16. dedupe "once" from 15, exchanged by key, keeps state: horizon 24h
17. window "totals" from 16, keeps state: size 1m, grace 1h
18. late from 17
19. sink "late" from 18: Collected
20. map #5 from 17
21. sink "charges" from 20: Collected
22. key_by #6 from 14
23. window "sums" from 22, exchanged by key, keeps state: size 1m, slide 5s, grace 0s
24. late from 23, dropped
25. map #7 from 23
26. sink "sums-out" from 25: Collected
27. key_by #8 from 14
28. running "counts" from 27, exchanged by key, keeps state
29. map #9 from 28
30. sink "counts-out" from 29: Collected
31. key_by #10 from 14
32. process "own" from 31, exchanged by key, keeps state
33. sink "own-out" from 32: Collected"#;

fn of_three(state: &std::path::Path) -> Job {
    let args = shardflow::JobArgs { key_groups: Some(64), ..shardflow::JobArgs::default() };
    Job::named("everything").workers(3).epoch(seconds(90)).state(state).args(args)
}

#[test]
fn a_program_is_told_step_by_step_and_the_same_each_time() {
    let dir = tempdir().unwrap();
    let state = dir.path().join("state");
    let job = of_three(&state);
    let text = job.explain(everything).unwrap();
    assert_eq!(text, EVERYTHING);
    assert_eq!(job.explain(everything).unwrap(), text);
    assert!(!state.exists(), "an explanation leaves no trace");
}

#[test]
fn a_program_that_does_not_start_is_not_explained() {
    let dir = tempdir().unwrap();
    let refused = |job: &Job, program: fn(&Flow<'_>)| {
        let told = job.explain(program).unwrap_err();
        let said = job.clone().run(program).unwrap_err();
        assert_eq!((told.kind(), told.to_string()), (said.kind(), said.to_string()));
        told
    };
    let job = of_three(&dir.path().join("state"));
    let twice =
        refused(&job, |flow| flow.source("letters", Feed::new()).decode(lines()).0.sink("letters", Collected::new()));
    assert!(twice.to_string().starts_with("two steps are named \"letters\""), "{twice}");
    assert!(refused(&job, |_flow| {}).to_string().contains("no source"));
    let windows = refused(&job, |flow| {
        let readings =
            flow.source("readings", Feed::new()).decode(json::<Reading>()).0.event_time(Reading::time, lag(0));
        let windows = readings.key_by(key).window(sliding(seconds(1), seconds(2)).grace(seconds(0)));
        windows.discard_late().count("totals").map(|total| total.value).sink("out", Collected::new());
    });
    assert!(windows.to_string().starts_with("step \"totals\": window slide \"2s\" is greater"), "{windows}");
    let panic = refused(&job, |_flow| panic!("no account 7"));
    assert_eq!((panic.kind(), panic.to_string().contains("no account 7")), (ErrorKind::User, true), "{panic}");
    assert!(refused(&job.clone().workers(65), everything).to_string().contains("--workers \"65\""));
}

/// A source and a sink that tell how often they are asked, and can do nothing else.
#[derive(Clone, Default)]
struct Asked {
    asked: Arc<AtomicUsize>,
    panics: bool,
}

impl Asked {
    fn say(&self) -> String {
        assert!(!self.panics, "nothing to say");
        self.asked.fetch_add(1, Ordering::SeqCst);
        "two\nlines".to_owned()
    }
}

impl Source for Asked {
    fn identity(&self) -> String {
        self.say()
    }

    fn open(&self, _context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        Box::pin(async { Err(Error::config("it cannot be opened")) })
    }
}

impl<T: Record> Sink<T> for Asked {
    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer>> {
        Err(Error::config("it cannot be opened"))
    }

    fn writer(&self, _context: &SinkContext, _worker: usize) -> Result<Box<dyn SinkWriter<T>>> {
        Err(Error::config("it cannot be opened"))
    }

    fn describe(&self) -> String {
        self.say()
    }
}

fn copies(source: Asked, sink: Asked) -> impl Fn(&Flow<'_>) + Send + Sync {
    move |flow| {
        let (letters, _rejected) = flow.source("letters", source.clone()).decode(lines());
        letters.event_time(|_| EventTime::MIN, lag(0)).sink("copies", sink.clone());
    }
}

#[test]
fn sources_and_sinks_are_asked_and_not_opened() {
    let dir = tempdir().unwrap();
    let job = of_three(&dir.path().join("state"));
    let (source, sink) = (Asked::default(), Asked::default());
    let text = job.explain(copies(source.clone(), sink.clone())).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.ends_with("5. sink \"copies\" from 4: two\\nlines"), "{text}");
    // A start does without: what a sink says of itself cannot stop it.
    let silent = Asked { panics: true, ..Asked::default() };
    let error = job.clone().run(copies(source.clone(), silent.clone())).unwrap_err();
    assert!(error.to_string().contains("it cannot be opened"), "{error}");
    assert_eq!((source.asked.load(Ordering::SeqCst), sink.asked.load(Ordering::SeqCst)), (2, 1));
    let error = job.explain(copies(source, silent)).unwrap_err();
    assert_eq!(error.to_string(), "step \"copies\": panicked: nothing to say");
}
