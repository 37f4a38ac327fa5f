//! The postgres sink against a real server: its promise, what it refuses, and who may commit.
#![allow(clippy::unwrap_used, reason = "a test may stop at what must not happen")]

mod support;

use std::time::Duration;

use serde::Serialize;
use shardflow::sink::{Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::testing::sink::{Driver, Promise, conforms, permit};
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, Error, ErrorKind};
use shardflow_sinks::{PostgresSink, postgres};
use support::postgres::{Database, LOCKED};
use tokio::runtime::Runtime;

/// A database in which each write to the table is counted, so that an upsert cannot hide a second one.
fn counting() -> Option<Database> {
    let db = Database::fresh()?;
    db.run(
        "CREATE TABLE numbers (n bigint PRIMARY KEY, text text NOT NULL);
         CREATE TABLE writes (n bigint NOT NULL);
         CREATE FUNCTION count() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO writes VALUES (NEW.n); RETURN NULL; END $$;
         CREATE TRIGGER count AFTER INSERT OR UPDATE ON numbers FOR EACH ROW EXECUTE FUNCTION count()",
    );
    Some(db)
}

fn numbers(db: &Database) -> PostgresSink<u64> {
    let sink = postgres(db.address()).table("numbers").column("n", |n: &u64| n);
    sink.value("text", |n| format!("number\t{n}"))
}

fn writes(db: &Database) -> Vec<u64> {
    db.numbers("SELECT n FROM writes")
}

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
    if Database::fresh().is_none() {
        return;
    }
    let sink = |db: &Database| Box::new(numbers(db)) as Box<dyn Sink<u64>>;
    conforms(Promise::ExactlyOnce, || counting().unwrap(), sink, |number| number, writes);
}

#[test]
fn it_conforms_with_upserts() {
    if Database::fresh().is_none() {
        return;
    }
    let sink = |db: &Database| Box::new(numbers(db).upsert_by(["n"])) as Box<dyn Sink<u64>>;
    conforms(Promise::ExactlyOnce, || counting().unwrap(), sink, |number| number, writes);
}

#[test]
fn it_conforms_while_every_fifth_row_is_refused() {
    if Database::fresh().is_none() {
        return;
    }
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

/// A record, and the table for it.
#[derive(Serialize)]
struct Price {
    item: String,
    version: i64,
    cents: Option<i64>,
}

fn price(item: &str, version: i64, cents: i64) -> Price {
    Price { item: item.to_owned(), version, cents: Some(cents) }
}

fn prices(db: &Database) -> PostgresSink<Price> {
    db.run("CREATE TABLE prices (item text NOT NULL, version bigint NOT NULL, cents integer, UNIQUE (item))");
    postgres(db.address()).table("prices").fields(["item", "version", "cents"])
}

/// Plays the engine to a sink of one worker, record by record.
struct Engine<T: 'static> {
    runtime: Runtime,
    sink: Box<dyn Sink<T>>,
    context: SinkContext,
    writer: Option<Box<dyn SinkWriter<T>>>,
    committer: Option<Box<dyn shardflow::sink::Committer>>,
    epoch: Epoch,
}

impl<T: 'static> Engine<T> {
    fn new(sink: impl Sink<T>) -> Self {
        let runtime = Runtime::new().unwrap();
        let context = SinkContext {
            job: "billing".to_owned(),
            step: "charges".into(),
            incarnation: Incarnation::new(0),
            committed: None,
            workers: 1,
            folder: "/nowhere".into(),
            runtime: runtime.handle().clone(),
        };
        let sink: Box<dyn Sink<T>> = Box::new(sink);
        Self { runtime, sink, context, writer: None, committer: None, epoch: Epoch::new(1) }
    }

    fn start(&mut self) -> Result<(), Error> {
        let incarnation = Incarnation::new(self.context.incarnation.number() + 1);
        self.context = SinkContext { incarnation, runtime: self.runtime.handle().clone(), ..self.context.clone() };
        let mut committer = self.sink.committer(&self.context)?;
        committer.recover(self.context.committed.map(permit).as_ref(), &[])?;
        self.committer = Some(committer);
        self.writer = Some(self.sink.writer(&self.context, 0)?);
        Ok(())
    }

    /// Stages records and closes their epoch: the handles that would be durable now.
    fn stage(&mut self, records: &[T]) -> Result<Vec<StagedHandle>, Error> {
        let writer = self.writer.as_mut().unwrap();
        records.iter().try_for_each(|record| writer.stage(record))?;
        let epoch = self.epoch;
        self.epoch = epoch.next();
        let handle = match writer.prepare(epoch)? {
            None => None,
            Some(Prepared::Staged(handle)) => Some(handle),
            Some(Prepared::Flush(flush)) => flush()?,
        };
        self.context.committed = Some(epoch);
        Ok(handle.map(|handle| StagedHandle { epoch, worker: 0, handle }).into_iter().collect())
    }

    fn commit(&mut self, handles: &[StagedHandle]) -> Result<(), Error> {
        self.committer.as_mut().unwrap().commit(&permit(self.context.committed.unwrap()), handles)
    }

    /// An epoch of these records.
    fn write(&mut self, records: &[T]) -> Result<(), Error> {
        let handles = self.stage(records)?;
        self.commit(&handles)
    }
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
fn rows_that_are_refused_go_to_their_table_and_the_rest_is_written() {
    let Some(db) = Database::fresh() else { return };
    db.run(
        "CREATE TABLE charges (id bigint PRIMARY KEY, account text NOT NULL, cents integer CHECK (cents >= 0), day date);
         CREATE TABLE accounts (name text PRIMARY KEY);
         INSERT INTO accounts VALUES ('a'), ('b');
         ALTER TABLE charges ADD FOREIGN KEY (account) REFERENCES accounts DEFERRABLE INITIALLY DEFERRED;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.id = 50 THEN RAISE EXCEPTION 'no fifty'; END IF; RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON charges FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    type Charge = (i64, Option<String>, i64, String);
    let sink = postgres(db.address()).table("charges").column("id", |c: &Charge| &c.0).column("account", |c| &c.1);
    let sink = sink.column("cents", |c| &c.2).column("day", |c| &c.3).rejected_to_table("public.refused");
    let mut engine = Engine::new(sink);
    engine.start().unwrap();
    let charge = |id: i64| (id, Some("a".to_owned()), id, "2026-11-27".to_owned());
    let mut records: Vec<Charge> = (0..1_000).map(charge).collect();
    let account = |name: &str| Some(name.to_owned());
    records[3].2 = -1;
    records[4].2 = i64::MAX;
    records[500].1 = None;
    records[501].1 = account("nobody");
    records[502].1 = account("a\0b");
    records[998].3 = "yesterday-ish\tor\\so\n".to_owned();
    records[999].0 = 0;
    engine.write(&records).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM charges"), (1_000 - 8).to_string());
    let errors = db.texts("SELECT error FROM refused ORDER BY (\"row\"::json->>'id')::int, error DESC");
    let expected = ["23505", "23514", "22003", "P0001", "23502", "23503", "NUL", "22007"];
    assert_eq!(errors.len(), expected.len(), "{errors:?}");
    for (error, code) in errors.iter().zip(expected) {
        assert!(error.as_ref().unwrap().contains(code), "{error:?} is not {code}");
    }
    let day = "SELECT \"row\"::json->>'day' FROM refused WHERE \"row\"::json->>'id' = '998'";
    assert_eq!(db.text(day), "yesterday-ish\tor\\so\n");
    assert_eq!(
        db.text("SELECT DISTINCT job || '/' || step || '/' || (at > now() - interval '1 h') FROM refused"),
        "billing/charges/true"
    );
    // Nothing of it holds up what follows.
    engine.write(&[charge(2_000)]).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM charges"), (1_000 - 8 + 1).to_string());
}

#[test]
fn an_epoch_of_refused_rows_alone_is_committed_too() {
    let Some(db) = Database::fresh() else { return };
    let mut engine = Engine::new(prices(&db).rejected_to_table("rejected"));
    engine.start().unwrap();
    let all: Vec<Price> = (0..100).map(|n| price(&n.to_string(), 1, i64::MAX)).collect();
    engine.write(&all).unwrap();
    engine.write(&[price("a\0", 1, 1)]).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM rejected"), "101");
    assert_eq!(db.text("SELECT count(*) FROM prices"), "0");
    assert_eq!(db.text("SELECT epoch FROM shardflow_commits"), "2");
}

#[test]
fn without_a_table_for_them_a_refused_row_stops_the_job_and_is_shown() {
    let Some(db) = Database::fresh() else { return };
    let mut engine = Engine::new(prices(&db));
    engine.start().unwrap();
    let handles = engine.stage(&[price("good", 1, 1), price("bad", 1, i64::MAX), price("good too", 1, 2)]).unwrap();
    let error = engine.commit(&handles).unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("charges")));
    let text = error.to_string();
    assert!(text.contains("out of range") && text.contains("\"item\":\"bad\",\"version\":\"1\""), "{text}");
    assert!(text.contains("rejected_to_table"), "{text}");
    assert_eq!(db.text("SELECT count(*) FROM prices"), "0");
    // What can never be written is known before it is sent.
    let error = engine.stage(&[price("a\0b", 1, 1)]).unwrap_err().to_string();
    assert!(error.contains("step \"charges\"") && error.contains("NUL") && error.contains("a\\u0000b"), "{error}");
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

#[test]
fn rejected_rows_in_the_state_are_not_dropped_with_their_table_s_name() {
    let Some(db) = Database::fresh() else { return };
    let sink = prices(&db);
    let mut before = Engine::new(sink.clone().rejected_to_table("rejected"));
    before.start().unwrap();
    let handles = before.stage(&[price("a\0", 1, 1)]).unwrap();
    let context =
        SinkContext { incarnation: Incarnation::new(2), committed: Some(Epoch::new(1)), ..before.context.clone() };
    let mut committer = sink.committer(&context).unwrap();
    let error = committer.recover(Some(&permit(Epoch::new(1))), &handles).unwrap_err();
    assert!(error.to_string().contains("run the program that has it once more"), "{error}");
}

#[test]
fn tables_that_do_not_fit_are_refused_at_the_start() {
    let Some(db) = Database::fresh() else { return };
    db.run(
        "CREATE TABLE good (item text PRIMARY KEY, cents integer, at timestamptz NOT NULL DEFAULT now());
         CREATE TABLE needs (item text, at timestamptz NOT NULL);
         CREATE TABLE made (item text, double integer GENERATED ALWAYS AS (1) STORED, id bigint GENERATED ALWAYS AS IDENTITY);
         CREATE TABLE loose (item text NOT NULL, cents integer);
         CREATE UNIQUE INDEX ON loose (item) WHERE cents > 0;
         CREATE TABLE nullable (item text UNIQUE);
         CREATE UNLOGGED TABLE unlogged (item text);
         CREATE VIEW seen AS SELECT item FROM good;
         CREATE TABLE no_marks (job text);
         CREATE TABLE no_rejects (at timestamptz NOT NULL, job text, step text, error text, \"row\" text);
         CREATE ROLE reader LOGIN;
         GRANT SELECT ON good TO reader",
    );
    let table = |name: &str| postgres(db.address()).table(name).column("item", |item: &String| item);
    let reader = postgres(db.address().replace("user=postgres", "user=reader"));
    let reader = reader.table("good").column("item", |item: &String| item);
    for (sink, what) in [
        (table("absent"), "there is no table \"absent\""),
        (table("nowhere.good"), "there is no table \"nowhere.good\""),
        (table("Good"), "there is no table \"Good\""),
        (
            table("good").value("price", String::len),
            "\"public.good\": it has no column \"price\": it has item, cents, at",
        ),
        (table("needs"), "its column \"at\" is NOT NULL, has no default and is not written"),
        (table("made").value("double", String::len), "\"double\" is generated by the server"),
        (table("made").value("id", String::len), "\"id\" is generated by the server"),
        (table("good").value("cents", String::len).upsert_by(["item", "cents"]), "\"cents\" may be NULL, which a key"),
        (table("loose").upsert_by(["item"]), "no unique index is on exactly its key columns (item)"),
        (table("nullable").upsert_by(["item"]), "\"item\" may be NULL, which a key must not"),
        (table("unlogged"), "UNLOGGED"),
        (table("seen"), "it is no table"),
        (table("good").commits_table("no_marks"), "\"public.no_marks\": it has no column \"step\""),
        (table("good").commits_table("nowhere.marks"), "make it once by hand: CREATE TABLE"),
        (table("good").rejected_to_table("no_rejects"), "\"public.no_rejects\": its column \"at\" is NOT NULL"),
        (table("good").rejected_to_table("good"), "cannot be two things"),
        (reader, "this user may not insert into it"),
    ] {
        let error = Engine::new(sink).start().unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("charges")), "{error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
    let mut good = Engine::new(table("public.good").upsert_by(["item"]));
    good.start().unwrap();
    good.write(&["a".to_owned()]).unwrap();
}

#[test]
fn any_names_are_taken_as_they_stand() {
    let Some(db) = Database::fresh() else { return };
    db.run(
        "CREATE SCHEMA \"Odd.One\"; CREATE TABLE \"Odd.One\".\"say \"\"hi\"\", line 3\" (\"Key\" text PRIMARY KEY, \"a,b\" integer)",
    );
    let table = "\"Odd.One\".\"say \"\"hi\"\", line 3\"";
    let sink = postgres(db.address()).table(table).column("Key", |row: &(String, i64)| &row.0);
    let sink = sink
        .column("a,b", |row| &row.1)
        .rejected_to_table("\"Odd.One\".Rejected")
        .commits_table("\"Odd.One\".\"Marks\"");
    for (sink, epochs) in [(sink.clone(), 1), (sink.copy_name("it's").upsert_by(["Key"]), 2)] {
        let mut engine = Engine::new(sink);
        engine.start().unwrap();
        engine
            .write(&[(format!("x{epochs}"), 1), (format!("y{epochs}"), i64::MAX), (format!("z{epochs}"), 3)])
            .unwrap();
        let count = |table: &str| db.text(&format!("SELECT count(*) FROM \"Odd.One\".{table}"));
        assert_eq!(
            (count("\"say \"\"hi\"\", line 3\""), count("\"Rejected\"")),
            ((2 * epochs).to_string(), epochs.to_string())
        );
    }
}

#[test]
fn a_password_is_asked_for_and_a_wrong_one_is_a_clear_error_at_once() {
    let Some(db) = Database::fresh() else { return };
    let (user, password) = LOCKED;
    db.run(&format!(
        "DROP ROLE IF EXISTS {user}; CREATE ROLE {user} LOGIN PASSWORD '{password}'; \
         CREATE TABLE numbers (n bigint); GRANT ALL ON SCHEMA public TO {user}; GRANT ALL ON numbers TO {user}",
    ));
    let address = db.address().replace("user=postgres", &format!("user={user}"));
    let sink = |server: shardflow_sinks::Postgres| server.table("numbers").column("n", |n: &u64| n);
    let url = format!("postgres://{user}:{password}@localhost:{}/{}", db.cluster.port(), db.name);
    for (number, server) in [
        postgres(&url),
        postgres(&address).password(password),
        postgres(&address).password_from(|| Ok(LOCKED.1.to_owned())),
        postgres(format!("{address} password='{password}'")),
        postgres(format!("{address} password=x sslmode=verify-full"))
            .password(password)
            .root_certificates(db.cluster.certificate()),
        postgres(format!("{url}?sslmode=require&sslrootcert={}", db.cluster.certificate().display())),
    ]
    .into_iter()
    .enumerate()
    {
        let mut engine = Engine::new(sink(server).copy_name(number.to_string()));
        engine.start().unwrap();
        engine.write(&[1]).unwrap();
    }
    for (server, what) in [
        (postgres(&address).password("wrong-4471"), "password authentication failed"),
        (postgres(&address), "password"),
        (postgres(format!("{address} sslmode=require")).password(password), "certificate"),
    ] {
        let error = Engine::new(sink(server)).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(what), "{text}");
        assert!(!text.contains("wrong-4471") && !text.contains(password), "{text}");
    }
}

#[test]
fn a_server_that_is_not_there_is_given_up_on() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sink = postgres(format!("host=127.0.0.1 port={port} user=x dbname=y password=hunter2"));
    let sink = sink.table("numbers").column("n", |n: &u64| n).give_up_after(Duration::ZERO);
    let error = Engine::new(sink).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Sink);
    let text = error.to_string();
    let expected = format!("could not open table \"numbers\" in database \"y\" at 127.0.0.1:{port}: ");
    assert!(text.contains(&expected) && text.contains("still, after many attempts"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
