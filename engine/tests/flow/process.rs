//! A user's own keyed logic: its state and timers, over restarts with other numbers of workers.

use shardflow::testing::{Collected, Feed};
use shardflow::{EventTime, Job, KeyContext, KeyedLogic, Lag, Summary, lines, millis};

/// Sessions: the records of a key until it has been silent for 10 ms of event time.
struct Sessions;

type Session = (String, u64, u64);

impl KeyedLogic<String, (String, u64)> for Sessions {
    type State = (u64, EventTime);
    type Out = Session;

    fn on_record(&self, _record: (String, u64), key: &mut KeyContext<'_, String, Self::State, Session>) {
        let (at, end) = (key.at(), key.at().plus(millis(10)));
        let session = match key.get().copied() {
            // Over, although time has not come so far for all splits.
            Some((count, before)) if before <= at => {
                key.clear_timer(before);
                key.emit((key.key().clone(), before.as_millis(), count));
                (1, end)
            }
            Some((count, before)) => {
                key.clear_timer(before);
                (count + 1, end.max(before))
            }
            None => (1, end),
        };
        if let Some(due) = key.set_timer(session.1) {
            key.set((session.0, due));
        }
    }

    fn on_timer(&self, key: &mut KeyContext<'_, String, Self::State, Session>) {
        let (count, end) = key.remove().unwrap();
        assert_eq!(end, key.at());
        key.emit((key.key().clone(), end.as_millis(), count));
    }
}

fn parse(line: &str) -> (String, u64) {
    let (at, key) = line.split_once(' ').unwrap();
    (key.to_owned(), at.parse().unwrap())
}

fn run<L>(
    job: Job,
    feed: &Feed,
    sink: &Collected<L::Out>,
    lag: u64,
    logic: impl Fn() -> L + Send + Sync + 'static,
) -> Summary
where
    L: KeyedLogic<String, (String, u64)>,
    L::Out: shardflow::Record,
{
    let (feed, sink) = (feed.clone(), sink.clone());
    job.run(move |flow| {
        let (records, rejected) = flow.source("records", feed.clone()).decode(lines());
        rejected.sink("rejected", Collected::new());
        records
            .map(|line| parse(&line))
            .event_time(|(_, at)| EventTime::from_millis(*at), Lag::of(millis(lag)))
            .key_by(|(key, _)| key.clone())
            .process("logic", logic())
            .sink("results", sink.clone());
    })
    .unwrap()
}

fn sorted<T: shardflow::Record + Ord>(sink: &Collected<T>) -> Vec<T> {
    let mut values = sink.values();
    values.sort();
    values
}

#[test]
fn sessions_of_a_users_own_logic_close_when_a_key_is_silent() {
    let feed = Feed::new();
    for line in ["1 a", "5 b", "8 a", "40 c", "41 a", "2 a", "60 b"] {
        feed.push("split", line);
    }
    feed.close();
    let (sink, state) = (Collected::new(), tempfile::tempdir().unwrap());
    run(Job::named("sessions").workers(3).state(state.path()), &feed, &sink, 5, || Sessions);
    let expected = [("a", 18, 2), ("a", 51, 2), ("b", 15, 1), ("b", 70, 1), ("c", 50, 1)];
    let expected = expected.map(|(key, end, count)| (key.to_owned(), end, count));
    assert_eq!(sorted(&sink), expected);
}

/// Four rounds of records; each session begins in one round and goes on in the next.
const ROUNDS: [(u64, usize); 4] = [(1_000, 2), (1_005, 1), (2_000, 4), (2_005, 3)];

#[test]
fn state_and_timers_go_on_after_a_stop_with_another_number_of_workers() {
    let (feed, sink, state) = (Feed::new(), Collected::new(), tempfile::tempdir().unwrap());
    for (at, workers) in ROUNDS {
        for key in 0..50 {
            feed.push(&format!("split-{}", key % 3), format!("{at} k{key}"));
        }
        let job = Job::named("sessions").workers(workers).state(state.path()).epoch(millis(10));
        let stopper = job.stopper();
        let job = job.on_commit(move |info| {
            if info.records == 50 {
                stopper.request();
            }
        });
        assert!(!run(job, &feed, &sink, 5, || Sessions).input_ended);
    }
    feed.close();
    run(Job::named("sessions").workers(2).state(state.path()), &feed, &sink, 5, || Sessions);
    let sessions = |key| [1_015, 2_015].map(|end| (format!("k{key}"), end, 2));
    let mut expected: Vec<Session> = (0..50).flat_map(sessions).collect();
    expected.sort();
    assert_eq!(sorted(&sink), expected);
}

/// Sets its timer again and again.
struct Ticking;

impl KeyedLogic<String, (String, u64)> for Ticking {
    type State = ();
    type Out = u64;

    fn on_record(&self, _record: (String, u64), key: &mut KeyContext<'_, String, (), u64>) {
        key.set_timer(key.at().plus(millis(10)));
        // The past is over: this one is due as soon as any can be.
        key.set_timer(EventTime::MIN);
    }

    fn on_timer(&self, key: &mut KeyContext<'_, String, (), u64>) {
        key.emit(key.at().as_millis());
        key.set_timer(key.at().plus(millis(4)));
        key.set_timer(EventTime::MAX);
    }
}

#[test]
fn a_timer_that_sets_itself_again_ends_with_its_keys_last_one_whatever_the_workers() {
    for workers in [1, 2, 4] {
        let (feed, sink, state) = (Feed::new(), Collected::new(), tempfile::tempdir().unwrap());
        for line in ["100 a", "100 b", "100 c", "500 d"] {
            feed.push("split", line);
        }
        feed.close();
        let job = || Job::named("ticking").workers(workers).state(state.path());
        run(job(), &feed, &sink, 10_000, || Ticking);
        // The lag keeps time at the beginning until the input ends. Each key's timers are set to 0 and to 10 after its record
        // then: 0, 4, 8, … and that last one itself.
        let of = |end: u64| (0..end).step_by(4).chain([end]);
        let mut expected: Vec<u64> = [110, 110, 110, 510].into_iter().flat_map(of).collect();
        expected.sort_unstable();
        assert_eq!(sorted(&sink), expected, "{workers} workers");
        run(job(), &feed, &sink, 10_000, || Ticking);
        assert_eq!(sorted(&sink), expected, "nothing is left behind");
    }
}
