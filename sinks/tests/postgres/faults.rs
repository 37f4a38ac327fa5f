//! The postgres sink over connections that break at a chosen message: each row is there once, whatever was lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::pg_proxy::{Fault, Message, PgProxy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shardflow::testing::sink::{Driver, Promise, conforms};
use shardflow::{ErrorKind, Outcome};
use shardflow_sinks::{PostgresSink, postgres};
use shardflow_stand_ins::postgres::{Cluster, Database};

const TABLES: &str = "
    CREATE TABLE numbers (n bigint PRIMARY KEY, text text);
    CREATE TABLE writes (n bigint NOT NULL);
    CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO writes VALUES (NEW.n); RETURN NULL; END $$;
    CREATE TRIGGER log_write AFTER INSERT OR UPDATE ON numbers FOR EACH ROW EXECUTE FUNCTION log_write()";

/// A database, and a proxy before it.
struct Place {
    proxy: PgProxy,
    db: Database,
}

impl Place {
    fn new() -> Option<Self> {
        let db = Database::fresh()?;
        db.run(TABLES);
        let proxy = PgProxy::start(db.runtime.handle(), db.cluster.port());
        Some(Self { proxy, db })
    }

    fn sink(&self) -> PostgresSink<u64> {
        let sink = postgres(self.db.address_at(self.proxy.port())).table("numbers").column("n", |n: &u64| n);
        // Rows of a size that makes COPY send more than one message.
        sink.value("text", |n| n.to_string().repeat(400))
    }

    fn job(&self, sink: PostgresSink<u64>) -> Driver<'_, u64> {
        Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, || self.writes())
    }

    fn writes(&self) -> Vec<u64> {
        self.db.numbers("SELECT n FROM writes")
    }
}

/// An epoch of 2,000 rows meets this fault once; then another follows without one.
fn survives(place: &Place, sink: PostgresSink<u64>, fault: Fault, which: fn(&Message) -> bool) {
    let mut job = place.job(sink);
    job.start(2);
    for faulty in [true, false] {
        if faulty {
            place.proxy.once(fault, which);
        }
        job.stage(0, 1_000);
        job.stage(1, 1_000);
        job.prepare();
        job.persist();
        job.commit();
        job.assert_all_visible();
        job.acknowledge();
    }
    assert_eq!(place.proxy.faults(), [fault]);
    job.finish();
}

#[test]
fn whatever_message_is_lost_each_row_is_there_once() {
    let Some(_server) = Cluster::shared() else { return };
    type Which = fn(&Message) -> bool;
    let moments: [(&str, Which); 6] = [
        ("the beginning", |message| message.is("BEGIN")),
        ("a part of the rows", Message::is_copy),
        ("the end of the rows", |message| message.kind == 'c'),
        ("a statement's execution", |message| message.kind == 'B'),
        ("the marker", |message| message.kind == 'P' && message.sql.starts_with("UPDATE")),
        ("the commit", |message| message.is("COMMIT")),
    ];
    for upsert in [false, true] {
        for (name, which) in moments {
            for fault in [Fault::ResetBefore, Fault::ResetAfter, Fault::ServerHearsLater(Duration::from_millis(300))] {
                let Some(place) = Place::new() else { return };
                eprintln!("{name}: {fault:?}, upsert: {upsert}");
                let sink = if upsert { place.sink().upsert_by(["n"]) } else { place.sink() };
                survives(&place, sink, fault, which);
            }
        }
    }
}

#[test]
fn a_slow_connection_is_waited_for_and_a_silent_one_is_not() {
    let Some(place) = Place::new() else { return };
    survives(&place, place.sink(), Fault::Delay(Duration::from_millis(500)), |message| message.is("COMMIT"));
    for which in [|message: &Message| message.is("COMMIT"), Message::is_copy] {
        let Some(place) = Place::new() else { return };
        let begun = Instant::now();
        survives(&place, place.sink().call_timeout(Duration::from_secs(1)), Fault::Silence, which);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_start_whose_answers_are_lost_takes_over_all_the_same() {
    let Some(_server) = Cluster::shared() else { return };
    for fault in [Fault::ResetBefore, Fault::ResetAfter] {
        let Some(place) = Place::new() else { return };
        let mut job = place.job(place.sink());
        job.start(1);
        job.stage(0, 10);
        job.prepare();
        job.persist();
        place.proxy.once(fault, |message| message.is("COMMIT"));
        job.start(1);
        job.finish();
        assert_eq!(place.proxy.faults(), [fault]);
        assert_eq!(place.db.text("SELECT (incarnation, epoch) FROM shardflow_commits"), "(2,1)");
    }
}

#[test]
fn a_start_without_an_answer_for_good_is_told_as_such() {
    let Some(_server) = Cluster::shared() else { return };
    for (begins, outcome) in [("COMMIT", Outcome::Indeterminate), ("BEGIN", Outcome::Determinate)] {
        let Some(place) = Place::new() else { return };
        let mut job = place.job(place.sink().give_up_after(Duration::ZERO));
        let cut = AtomicBool::new(false);
        place.proxy.inject(move |message| match cut.fetch_or(message.is(begins), Ordering::Relaxed) {
            true => Fault::ResetBefore,
            false if message.is(begins) => Fault::ResetAfter,
            false => Fault::Pass,
        });
        let error = job.try_start(1).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Sink, outcome), "{error}");
        assert!(error.to_string().contains("could not take over the marker"), "{error}");
        place.proxy.inject(|_| Fault::Pass);
        job.start(1);
        job.finish();
    }
}

#[test]
fn a_commit_without_an_answer_for_good_is_told_as_such_and_settled_by_the_next_start() {
    let Some(_server) = Cluster::shared() else { return };
    for (after, fault) in [(true, Fault::ResetAfter), (false, Fault::ResetBefore)] {
        let Some(place) = Place::new() else { return };
        let mut job = place.job(place.sink().give_up_after(Duration::ZERO));
        job.start(1);
        job.stage(0, 10);
        job.prepare();
        job.persist();
        // From the commit on, nothing gets through.
        let cut = Arc::new(Mutex::new(false));
        place.proxy.inject(move |message| {
            let mut cut = cut.lock().unwrap();
            match (*cut, message.is("COMMIT")) {
                (true, _) => Fault::ResetBefore,
                (false, true) => {
                    *cut = true;
                    fault
                }
                (false, false) => Fault::Pass,
            }
        });
        let error = job.try_commit().unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Sink, Outcome::Indeterminate), "{error}");
        assert!(error.to_string().contains("could not commit epoch 1 to table \"public.numbers\""), "{error}");
        assert_eq!(place.writes().len(), if after { 10 } else { 0 });
        // Without a commit on its way it is certain that nothing happened.
        let error = job.try_commit().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Indeterminate, "the first is still without an answer");
        place.proxy.inject(|_| Fault::Pass);
        job.start(1);
        job.finish();
        assert_eq!(place.writes().len(), 10);
    }
}

#[test]
fn a_failure_before_any_commit_is_determinate() {
    let Some(place) = Place::new() else { return };
    let mut job = place.job(place.sink().give_up_after(Duration::ZERO));
    job.start(1);
    job.stage(0, 10);
    job.prepare();
    job.persist();
    place.proxy.inject(|message| if message.is_copy() { Fault::ResetBefore } else { Fault::Pass });
    let error = job.try_commit().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Sink, Outcome::Determinate), "{error}");
}

#[test]
fn it_conforms_over_connections_that_break_at_random() {
    let seed = std::env::var("SHARDFLOW_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("SHARDFLOW_SEED={seed}");
    let Some(_server) = Cluster::shared() else { return };
    let next = AtomicU64::new(seed);
    let place = || {
        let place = Place::new().unwrap();
        let dice = Mutex::new(StdRng::seed_from_u64(next.fetch_add(1, Ordering::Relaxed)));
        place.proxy.inject(move |message| {
            let mut dice = dice.lock().unwrap();
            let odds = if message.is("COMMIT") { 0.2 } else { 0.005 };
            if !dice.random_bool(odds) {
                return Fault::Pass;
            }
            match dice.random_range(0..4) {
                0 => Fault::ResetBefore,
                1 => Fault::ServerHearsLater(Duration::from_millis(50)),
                2 => Fault::Delay(Duration::from_millis(20)),
                _ => Fault::ResetAfter,
            }
        });
        place
    };
    let faults = Mutex::new(0);
    conforms(
        Promise::ExactlyOnce,
        place,
        // Where the answer that a COPY may begin is lost, nothing more comes until this time is over.
        |place| Box::new(place.sink().call_timeout(Duration::from_secs(2))),
        |number| number,
        |place| {
            let mut faults = faults.lock().unwrap();
            *faults = (*faults).max(place.proxy.faults().len());
            place.writes()
        },
    );
    assert!(*faults.lock().unwrap() > 0, "nothing broke");
}

#[test]
fn a_server_that_ends_its_sessions_or_crashes_is_waited_for() {
    let Some(cluster) = Cluster::own().map(Arc::new) else { return };
    let sessions = |db: &Database| db.end_others();
    let crash = |_: &Database| {
        cluster.crash();
        cluster.restart();
    };
    type Break<'a> = &'a dyn Fn(&Database);
    let breaks: [Break<'_>; 2] = [&sessions, &crash];
    for hit in breaks {
        let db = Database::on(&cluster);
        db.run(TABLES);
        let name = db.name.clone();
        let sink = postgres(db.address()).table("numbers").column("n", |n: &u64| n);
        // A connection of its own each time: the crash takes the one that the database value has.
        let writes = || {
            let text = format!("host=127.0.0.1 port={} user=postgres dbname={name}", cluster.port());
            db.runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&text, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let rows = client.query("SELECT n FROM writes", &[]).await.unwrap();
                rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect()
            })
        };
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, writes);
        job.start(1);
        for _ in 0..3 {
            job.stage(0, 10);
            job.prepare();
            job.persist();
            job.commit();
            hit(&db);
            job.commit();
            job.acknowledge();
            if !job.visible().len().is_multiple_of(10) {
                panic!("half an epoch is visible");
            }
        }
        job.finish();
        assert_eq!(job.visible().len(), 30);
    }
}

#[test]
fn deadlocks_and_serialization_failures_are_tried_again() {
    let Some(place) = Place::new() else { return };
    // Each such error twice, then no more: raised by the server itself, inside the transaction.
    place.db.run(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             CASE nextval('tries')
                 WHEN 1, 4 THEN RAISE EXCEPTION 'circle' USING ERRCODE = '40P01';
                 WHEN 2, 5 THEN RAISE EXCEPTION 'changed' USING ERRCODE = '40001';
                 WHEN 3, 6 THEN RAISE EXCEPTION 'full' USING ERRCODE = '53100';
                 ELSE NULL;
             END CASE;
             RETURN NEW;
         END $$;
         CREATE TRIGGER fail BEFORE INSERT ON numbers FOR EACH STATEMENT EXECUTE FUNCTION fail()",
    );
    let mut job = place.job(place.sink().rejected_to_table("rejected"));
    job.start(1);
    job.stage(0, 10);
    job.finish();
    assert_eq!(place.db.text("SELECT last_value FROM tries"), "7");
    assert_eq!(place.db.text("SELECT count(*) FROM rejected"), "0");
}

#[test]
fn failures_that_cannot_pass_stop_the_job_at_once() {
    let Some(place) = Place::new() else { return };
    let mut job = place.job(place.sink());
    job.start(1);
    job.stage(0, 10);
    job.prepare();
    job.persist();
    place.db.run("ALTER TABLE numbers RENAME COLUMN text TO other");
    let error = job.try_commit().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Sink, Outcome::Determinate));
    assert!(error.to_string().contains("\"text\"") && error.to_string().contains("42703"), "{error}");
    place.db.run("ALTER TABLE numbers RENAME COLUMN other TO text");
    job.start(1);
    job.finish();
}
