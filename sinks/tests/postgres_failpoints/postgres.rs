//! The postgres sink stopped at each of its named points, then started again. Runs with `--features failpoints`.

use fail::FailScenario;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::postgres;
use shardflow_stand_ins::postgres::Database;

/// Runs until the point strikes; what follows in the protocol does not happen.
fn run(job: &mut Driver<'_, u64>) -> shardflow::Result<()> {
    for worker in 0..3 {
        job.try_stage(worker, 3)?;
    }
    job.try_prepare()?;
    job.try_stage(0, 3)?;
    job.try_prepare()?;
    job.persist();
    job.persist();
    job.try_commit()
}

/// How the table takes the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Insert,
    Upsert,
    /// Some rows are refused, and the rest goes in pieces.
    Refuse,
}

fn stopped_at(db: &Database, point: &str, strikes: &str, way: Way) {
    db.run(
        "DROP TABLE IF EXISTS numbers, writes, rejected, shardflow_commits;
         CREATE TABLE numbers (n bigint PRIMARY KEY, more text);
         CREATE TABLE writes (n bigint NOT NULL);
         CREATE TABLE rejected (at timestamptz DEFAULT now(), job text, step text, error text, \"row\" text);
         CREATE OR REPLACE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO writes VALUES (NEW.n); RETURN NULL; END $$;
         CREATE TRIGGER log_write AFTER INSERT OR UPDATE ON numbers FOR EACH ROW EXECUTE FUNCTION log_write()",
    );
    if way == Way::Refuse {
        db.run("ALTER TABLE numbers ADD CHECK (n % 4 <> 1)");
    }
    let sink = postgres(db.address()).table("numbers").column("n", |n: &u64| n).rejected_to_table("rejected");
    let sink = if way == Way::Upsert { sink.upsert_by(["n"]) } else { sink };
    let visible = || db.numbers("SELECT n FROM writes UNION ALL SELECT (\"row\"::json->>'n')::bigint FROM rejected");
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, visible);
    let scenario = FailScenario::setup();
    job.start(3);
    run(&mut job).unwrap();
    fail::cfg(point, strikes).unwrap();
    if point.contains("recover") || point.contains("takeover") {
        // It strikes at the next start, which has an epoch to commit.
        job.stage(0, 3);
        job.prepare();
        job.persist();
    } else {
        let error = run(&mut job).unwrap_err();
        assert!(error.to_string().contains("stopped"), "{point}, {way:?}: {error}");
    }
    // A second start that stops at the same point where it can, and a third that gets through.
    let again = job.try_start(1);
    if strikes == "return" && !point.contains("prepare") && !point.contains("stage") {
        // After a commit that was whole there is nothing left to stop at.
        assert!(again.is_err() || point.ends_with("after-copy") || point.contains("commit"), "{point}, {way:?}");
    }
    fail::remove(point);
    job.start(2);
    job.replay(0);
    job.finish();
    assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>(), "{point}, {way:?}");
    scenario.teardown();
}

#[test]
fn each_point_loses_nothing_and_doubles_nothing() {
    let Some(db) = Database::fresh() else { return };
    for (point, strikes) in [
        ("sink-postgres::after-stage", "4*off->return"),
        ("sink-postgres::before-prepare", "1*off->return"),
        ("sink-postgres::before-prepare", "4*off->return"),
        ("sink-postgres::before-begin", "return"),
        ("sink-postgres::after-lock", "return"),
        ("sink-postgres::after-copy", "return"),
        ("sink-postgres::before-commit", "return"),
        ("sink-postgres::after-commit", "return"),
        ("sink-postgres::before-recovery", "return"),
        ("sink-postgres::after-takeover", "return"),
    ] {
        for way in [Way::Insert, Way::Upsert, Way::Refuse] {
            stopped_at(&db, point, strikes, way);
        }
    }
}
