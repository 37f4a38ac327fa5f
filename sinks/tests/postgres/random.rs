//! The postgres sink on random courses of the protocol, with crashes, other worker counts and connections that end, against
//! a model.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::postgres;
use shardflow_stand_ins::postgres::Database;

#[derive(Debug, Clone)]
enum Step {
    Stage(usize, usize),
    Prepare,
    Persist,
    Commit,
    Acknowledge,
    Disconnect,
    Start(usize),
    Finish(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_usize, 0..6_usize).prop_map(|(worker, count)| Step::Stage(worker, count)),
        4 => Just(Step::Prepare),
        4 => Just(Step::Persist),
        4 => Just(Step::Commit),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::Disconnect),
        1 => (1..5_usize).prop_map(Step::Start),
        1 => (1..5_usize).prop_map(Step::Finish),
    ]
}

#[test]
fn every_course_shows_each_record_once() {
    let Some(db) = Database::fresh() else { return };
    let mut runner = TestRunner::new(ProptestConfig { max_shrink_iters: 60, ..ProptestConfig::with_cases(80) });
    let courses = (prop::collection::vec(step(), 1..60), any::<bool>(), any::<bool>());
    let checked = runner.run(&courses, |(steps, upsert, refuse)| {
        // Each write counts, also one that an upsert would hide.
        db.run(
            "DROP TABLE IF EXISTS numbers, writes, rejected, shardflow_commits;
             CREATE TABLE numbers (n bigint PRIMARY KEY, worker text);
             CREATE TABLE writes (n bigint NOT NULL);
             CREATE TABLE rejected (at timestamptz DEFAULT now(), job text, step text, error text, \"row\" text);
             CREATE OR REPLACE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO writes VALUES (NEW.n); RETURN NULL; END $$;
             CREATE TRIGGER log_write AFTER INSERT OR UPDATE ON numbers FOR EACH ROW EXECUTE FUNCTION log_write()",
        );
        let sink = postgres(db.address()).table("numbers").column("n", |n: &u64| n).value("worker", u64::to_string);
        let sink = if upsert { sink.upsert_by(["n"]) } else { sink };
        if refuse {
            db.run("ALTER TABLE numbers ADD CHECK (n % 7 <> 5)");
        }
        let sink = sink.rejected_to_table("rejected");
        let visible =
            || db.numbers("SELECT n FROM writes UNION ALL SELECT (\"row\"::json->>'n')::bigint FROM rejected");
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, visible);
        job.start(2);
        for step in steps {
            match step {
                Step::Stage(worker, count) => job.stage(worker, count),
                Step::Prepare => job.prepare(),
                Step::Persist => job.persist(),
                Step::Commit => {
                    job.commit();
                    job.assert_all_visible();
                }
                Step::Acknowledge => {
                    job.commit();
                    job.acknowledge();
                }
                Step::Disconnect => db.end_others(),
                Step::Start(workers) => job.start(workers),
                Step::Finish(workers) => {
                    job.finish();
                    job.start(workers);
                }
            }
        }
        job.replay(0);
        job.finish();
        prop_assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>());
        let refused = db.text("SELECT count(*) FROM rejected");
        prop_assert_eq!(refused.parse::<u64>().unwrap(), if refuse { (job.records() + 1) / 7 } else { 0 });
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}\n{runner}"));
}
