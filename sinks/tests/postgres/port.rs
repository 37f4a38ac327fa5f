//! The postgres sink against a real server: its promise, and who may commit.

use crate::support::engine::{Engine, counting, numbers, price, prices, writes};
use shardflow::sink::{Sink, SinkContext};
use shardflow::testing::sink::{Driver, Promise, conforms, permit};
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, ErrorKind};
use shardflow_sinks::PostgresSink;
use shardflow_stand_ins::postgres::{Cluster, Database};

fn job<'a>(db: &'a Database, sink: PostgresSink<u64>) -> Driver<'a, u64> {
    Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, move || writes(db))
}

fn epoch<T>(job: &mut Driver<'_, T>) {
    job.prepare();
    job.persist();
    job.commit();
    job.acknowledge();
}

#[test]
fn it_conforms() {
    let Some(_server) = Cluster::shared() else { return };
    let sink = |db: &Database| Box::new(numbers(db)) as Box<dyn Sink<u64>>;
    conforms(Promise::ExactlyOnce, || counting().unwrap(), sink, |number| number, writes);
}

#[test]
fn it_conforms_with_upserts() {
    let Some(_server) = Cluster::shared() else { return };
    let sink = |db: &Database| Box::new(numbers(db).upsert_by(["n"])) as Box<dyn Sink<u64>>;
    conforms(Promise::ExactlyOnce, || counting().unwrap(), sink, |number| number, writes);
}

#[test]
fn it_conforms_while_every_fifth_row_is_refused() {
    let Some(_server) = Cluster::shared() else { return };
    let place = || {
        let db = counting().unwrap();
        db.run("ALTER TABLE numbers ADD CHECK (n % 5 <> 3)");
        db
    };
    let sink = |db: &Database| Box::new(numbers(db).rejected_to_table("rejected")) as Box<dyn Sink<u64>>;
    let visible = |db: &Database| {
        let refused = db.numbers("SELECT (\"row\"::json)->>'n' FROM rejected");
        assert!(refused.iter().all(|n| n % 5 == 3), "{refused:?}");
        // Before the first start there is no such table; and the suite looks only afterwards.
        writes(db).into_iter().chain(refused).collect()
    };
    conforms(Promise::ExactlyOnce, place, sink, |number| number, visible);
}

#[test]
fn the_marker_tells_through_which_epoch_and_start_all_is_committed() {
    let Some(db) = counting() else { return };
    let mut job = job(&db, numbers(&db).commits_table("marks"));
    job.start(2);
    let marker = || db.text("SELECT (job, step, incarnation, epoch) FROM marks");
    assert_eq!(marker(), "(conformance,results,1,)");
    job.stage(0, 3);
    epoch(&mut job);
    epoch(&mut job);
    job.stage(1, 3);
    epoch(&mut job);
    assert_eq!(marker(), "(conformance,results,1,3)");
    job.start(1);
    assert_eq!(marker(), "(conformance,results,2,3)");
}

#[test]
fn an_upsert_keeps_the_last_record_of_each_key() {
    let Some(db) = Database::fresh() else { return };
    let mut engine = Engine::new(prices(&db).upsert_by(["item"]));
    engine.start().unwrap();
    engine.write(&[price("a", 1, 10), price("b", 1, 20), price("a", 1, 11), price("c", 1, 30)]).unwrap();
    engine.write(&[price("b", 1, 21), price("b", 1, 22)]).unwrap();
    let rows = db.texts("SELECT item || cents FROM prices ORDER BY item");
    assert_eq!(rows, ["a11", "b22", "c30"].map(|text| Some(text.to_owned())));
}

#[test]
fn a_guarded_upsert_keeps_the_greatest_version_whatever_comes_last() {
    let Some(db) = Database::fresh() else { return };
    let sink = prices(&db).upsert_by(["item"]).guarded_by("version").rejected_to_table("rejected");
    let mut engine = Engine::new(sink);
    engine.start().unwrap();
    engine.write(&[price("a", 5, 10), price("a", 7, 11), price("a", 6, 12), price("b", 3, 20)]).unwrap();
    engine.write(&[price("a", 6, 13), price("b", 4, 21), price("a", 7, 14)]).unwrap();
    let rows = || db.texts("SELECT item || version || '=' || cents FROM prices ORDER BY item");
    assert_eq!(rows(), ["a7=11", "b4=21"].map(|text| Some(text.to_owned())));
    // The same comes out where a refused row makes the others go in pieces.
    let refused = price("b", 9, i64::MAX);
    engine.write(&[price("a", 8, 1), refused, price("a", 9, 2), price("a", 9, 3), price("a", 8, 4)]).unwrap();
    assert_eq!(rows(), ["a9=2", "b4=21"].map(|text| Some(text.to_owned())));
    assert_eq!(db.text("SELECT count(*) FROM rejected"), "1");
}

#[test]
fn an_older_start_that_is_still_alive_commits_nothing_more() {
    let Some(db) = counting() else { return };
    let mut zombie = Engine::new(numbers(&db));
    zombie.start().unwrap();
    zombie.write(&[1, 2]).unwrap();
    let late = zombie.stage(&[3]).unwrap();
    let mut heir = Engine::new(numbers(&db));
    heir.context = SinkContext { committed: Some(Epoch::new(1)), incarnation: Incarnation::new(1), ..heir.context };
    heir.epoch = Epoch::new(2);
    heir.start().unwrap();
    let error = zombie.commit(&late).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("another start of job \"billing\" (incarnation 2, and this is 1)"), "{error}");
    heir.write(&[4]).unwrap();
    assert!(zombie.commit(&late).is_err());
    assert_eq!(writes(&db), [1, 2, 4]);
    // A copy of the state that is started as well, with the same incarnation, and the zombie, started again.
    for incarnation in [1, 0] {
        let mut twin = Engine::new(numbers(&db));
        let committed = Some(Epoch::new(2));
        twin.context = SinkContext { committed, incarnation: Incarnation::new(incarnation), ..twin.context };
        let error = twin.start().unwrap_err().to_string();
        assert!(error.contains("has taken over"), "{error}");
    }
    heir.write(&[5]).unwrap();
    assert_eq!(writes(&db), [1, 2, 4, 5]);
}

#[test]
fn a_zombie_in_the_middle_of_its_commit_is_waited_for() {
    let Some(db) = counting() else { return };
    let mut zombie = Engine::new(numbers(&db));
    zombie.start().unwrap();
    let handles = zombie.stage(&[1, 2]).unwrap();
    let holder = db.other();
    db.runtime.block_on(holder.batch_execute("BEGIN; SELECT FROM shardflow_commits FOR UPDATE")).unwrap();
    let mut heir = Engine::new(numbers(&db));
    heir.context = SinkContext { incarnation: Incarnation::new(1), ..heir.context };
    std::thread::scope(|scope| {
        let late = scope.spawn(|| zombie.commit(&handles));
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while db.text(waiting) != "1" {
            std::thread::yield_now();
        }
        let heir = scope.spawn(|| heir.start());
        while db.text(waiting) != "2" {
            std::thread::yield_now();
        }
        db.runtime.block_on(holder.batch_execute("COMMIT")).unwrap();
        // Whoever comes first, the other finds it out.
        match (late.join().unwrap(), heir.join().unwrap()) {
            (Ok(()), Err(error)) => {
                assert!(error.to_string().contains("rows of epoch 1 are committed"), "{error}");
                assert_eq!(writes(&db), [1, 2]);
            }
            (Err(error), Ok(())) => {
                assert!(error.to_string().contains("has taken over"), "{error}");
                assert!(writes(&db).is_empty());
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn output_newer_than_the_state_stops_the_start_and_nothing_changes() {
    let Some(db) = counting() else { return };
    let mut newer = job(&db, numbers(&db));
    newer.start(1);
    for _ in 0..3 {
        newer.stage(0, 5);
        epoch(&mut newer);
    }
    drop(newer);
    let marker = db.text("SELECT shardflow_commits FROM shardflow_commits");
    let mut older = job(&db, numbers(&db));
    let error = older.try_start(1).unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::State, Some("results")));
    let text = error.to_string();
    assert!(text.contains("rows of epoch 3 are committed"), "{text}");
    assert!(text.contains("the state has committed nothing: it is older than its output"), "{text}");
    assert_eq!(db.text("SELECT shardflow_commits FROM shardflow_commits"), marker);
    // What the error says to do, helps.
    let remedy = text.rsplit(": ").next().unwrap();
    db.run(&format!("TRUNCATE numbers, writes; {remedy}"));
    older.try_start(1).unwrap();
}

#[test]
fn rows_without_a_marker_stop_the_start() {
    let Some(db) = counting() else { return };
    let mut job = job(&db, numbers(&db));
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    job.persist();
    db.run("DELETE FROM shardflow_commits");
    let error = job.try_start(1).unwrap_err();
    assert!(error.to_string().contains("the state holds rows of epoch 1"), "{error}");
}

#[test]
fn a_marker_that_is_taken_away_stops_the_job() {
    let Some(db) = counting() else { return };
    let mut job = job(&db, numbers(&db));
    job.start(1);
    job.stage(0, 5);
    job.prepare();
    job.persist();
    db.run("DELETE FROM shardflow_commits");
    let error = job.try_commit().unwrap_err();
    assert!(error.to_string().contains("is no longer this start's"), "{error}");
    assert!(writes(&db).is_empty());
}

#[test]
fn copies_of_a_job_have_markers_of_their_own() {
    let Some(db) = counting() else { return };
    let engine = |copy: &str| Engine::new(numbers(&db).copy_name(copy));
    let (mut one, mut two) = (engine("one"), engine("two"));
    one.start().unwrap();
    two.start().unwrap();
    one.write(&[1]).unwrap();
    two.write(&[2]).unwrap();
    one.write(&[3]).unwrap();
    assert_eq!(writes(&db), [1, 2, 3]);
    assert_eq!(db.text("SELECT string_agg(job, ' ' ORDER BY job) FROM shardflow_commits"), "billing@one billing@two");
}

#[test]
fn two_steps_of_a_job_may_write_to_one_table() {
    let Some(db) = counting() else { return };
    let (mut one, mut two) = (Engine::new(numbers(&db)), Engine::new(numbers(&db)));
    two.context.step = "others".into();
    for engine in [&mut one, &mut two] {
        engine.start().unwrap();
    }
    one.write(&[1]).unwrap();
    two.write(&[2]).unwrap();
    assert_eq!(writes(&db), [1, 2]);
}

#[test]
fn a_program_with_other_columns_commits_what_the_last_one_staged_as_it_was() {
    let Some(db) = counting() else { return };
    let mut before = Engine::new(numbers(&db));
    before.start().unwrap();
    let handles = before.stage(&[1, 2]).unwrap();
    db.run("ALTER TABLE numbers ADD COLUMN more text");
    let sink = numbers(&db).value("more", |n| n * 2);
    let context =
        SinkContext { incarnation: Incarnation::new(2), committed: Some(Epoch::new(1)), ..before.context.clone() };
    let mut committer = sink.committer(&context).unwrap();
    committer.recover(Some(&permit(Epoch::new(1))), &handles).unwrap();
    assert_eq!(
        db.texts("SELECT n || coalesce(more, '-') FROM numbers"),
        ["1-", "2-"].map(|text| Some(text.to_owned()))
    );
}
