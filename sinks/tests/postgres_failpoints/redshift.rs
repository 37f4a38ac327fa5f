//! The redshift sink stopped at each of its named points, then started again. Runs with `--features failpoints`.

use crate::support::redshift::Standin;
use fail::FailScenario;
use shardflow::testing::sink::{Driver, Promise};
use shardflow_stand_ins::postgres::Cluster;

/// Runs until the point strikes; what follows in the protocol does not happen.
fn run(job: &mut Driver<'_, u64>) -> shardflow::Result<()> {
    for worker in 0..3 {
        job.try_stage(worker, 3)?;
    }
    job.try_prepare()?;
    job.try_stage(0, 3)?;
    job.try_prepare()?;
    job.try_persist()?;
    job.try_persist()?;
    job.try_commit()
}

/// How the table takes the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Insert,
    Upsert,
    /// Some rows are refused.
    Refuse,
}

fn stopped_at(point: &str, strikes: &str, way: Way) {
    let place = Standin::fresh().unwrap();
    place.db.run(
        "CREATE TABLE numbers (n bigint NOT NULL);
         CREATE TABLE writes (n bigint NOT NULL);
         CREATE TABLE rejected (at timestamp, job text, step text, error text, \"row\" text);
         CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO writes VALUES (NEW.n); RETURN NULL; END $$;
         CREATE TRIGGER log_write AFTER INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION log_write()",
    );
    if way == Way::Refuse {
        place.db.run("ALTER TABLE numbers ADD CHECK (n % 4 <> 1)");
    }
    let sink = place.table("numbers").column("n", |n: &u64| n).rejected_to_table("rejected");
    let sink = if way == Way::Upsert { sink.upsert_by(["n"]) } else { sink };
    let visible =
        || place.db.numbers("SELECT n FROM writes UNION ALL SELECT (\"row\"::json->>'n')::bigint FROM rejected");
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
    if point.contains("recover") || point.contains("takeover") || point.ends_with("begin") || point.ends_with("lock") {
        assert!(again.is_err(), "{point}, {way:?}");
    }
    fail::remove(point);
    job.start(2);
    job.replay(0);
    job.finish();
    assert_eq!(job.visible(), (0..job.records()).collect::<Vec<_>>(), "{point}, {way:?}");
    drop(job);
    let manifests = |key: &String| key.contains("-load-");
    let left: Vec<_> = place.keys().into_iter().filter(|key| !manifests(key)).collect();
    assert_eq!(left, [""; 0], "{point}, {way:?}: left in the bucket");
    scenario.teardown();
}

#[test]
fn each_point_loses_nothing_and_doubles_nothing() {
    let Some(_server) = Cluster::shared() else { return };
    for (point, strikes) in [
        ("sink-redshift::after-stage", "4*off->return"),
        ("sink-redshift::before-prepare", "1*off->return"),
        ("sink-redshift::before-put", "1*off->return"),
        ("sink-redshift::after-put", "1*off->return"),
        ("sink-redshift::before-begin", "return"),
        ("sink-redshift::after-lock", "return"),
        ("sink-redshift::after-copy", "return"),
        ("sink-redshift::before-commit", "return"),
        ("sink-redshift::after-commit", "return"),
        ("sink-redshift::before-recovery", "return"),
        ("sink-redshift::after-takeover", "return"),
    ] {
        for way in [Way::Insert, Way::Upsert, Way::Refuse] {
            stopped_at(point, strikes, way);
        }
    }
}
