//! The redshift sink on PostgreSQL, with its `COPY` from S3 replaced: its promise, what is refused, and who may load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::engine::Engine;
use crate::support::pg_proxy::{Fault, PgProxy};
use crate::support::redshift::{Shared, Standin};
use serde::Serialize;
use shardflow::sink::{Sink, SinkContext};
use shardflow::source::BoxFuture;
use shardflow::testing::sink::{Driver, Promise, conforms};
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, ErrorKind, Outcome};
use shardflow_sinks::redshift::RunCopy;
use shardflow_sinks::{RedshiftSink, redshift};
use shardflow_stand_ins::ministack::Ministack;
use shardflow_stand_ins::postgres::{Cluster, Database};
use shardflow_stand_ins::redshift::{Bucket, Redshift};
use shardflow_stand_ins::sdk::sdk_config;
use tokio_postgres::Client;

/// A cluster in which each write to the table is counted, so that an upsert cannot hide a second one.
fn counting() -> Option<Standin> {
    let place = Standin::fresh()?;
    place.db.run(
        "CREATE TABLE numbers (n bigint NOT NULL, word varchar(64) NOT NULL);
         CREATE TABLE writes (n bigint NOT NULL);
         CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO writes VALUES (NEW.n); RETURN NULL; END $$;
         CREATE TRIGGER log_write AFTER INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION log_write()",
    );
    Some(place)
}

fn numbers(place: &Standin) -> RedshiftSink<u64> {
    place.table("numbers").column("n", |n: &u64| n).value("word", |n| format!("number\t{n}\\"))
}

fn writes(place: &Standin) -> Vec<u64> {
    place.db.numbers("SELECT n FROM writes")
}

#[test]
fn it_conforms() {
    let Some(_server) = Cluster::shared() else { return };
    let sink = |place: &Standin| Box::new(numbers(place)) as Box<dyn Sink<u64>>;
    conforms(Promise::ExactlyOnce, || counting().unwrap(), sink, |number| number, writes);
}

#[test]
fn it_conforms_with_upserts() {
    let Some(_server) = Cluster::shared() else { return };
    let sink = |place: &Standin| Box::new(numbers(place).upsert_by(["n"])) as Box<dyn Sink<u64>>;
    conforms(Promise::ExactlyOnce, || counting().unwrap(), sink, |number| number, writes);
}

#[test]
fn it_conforms_while_every_fifth_row_is_refused() {
    let Some(_server) = Cluster::shared() else { return };
    let place = || {
        let place = counting().unwrap();
        place.db.run("ALTER TABLE numbers ADD CHECK (n % 5 <> 3)");
        place
    };
    for upserts in [false, true] {
        let sink = |place: &Standin| {
            let sink = numbers(place).rejected_to_table("rejected");
            Box::new(if upserts { sink.upsert_by(["n"]) } else { sink }) as Box<dyn Sink<u64>>
        };
        let visible = |place: &Standin| {
            let refused = place.db.numbers("SELECT (\"row\"::json)->>'n' FROM rejected");
            assert!(refused.iter().all(|n| n % 5 == 3), "{refused:?}");
            writes(place).into_iter().chain(refused).collect()
        };
        if !upserts {
            conforms(Promise::ExactlyOnce, place, sink, |number| number, visible);
            continue;
        }
        // LIKE takes no CHECK over: the stage refuses by type and NOT NULL alone, as Redshift does.
        let place = || {
            let place = counting().unwrap();
            place.db.run("ALTER TABLE numbers ALTER n TYPE integer");
            place
        };
        let number = |number: u64| if number % 5 == 3 { number + (1 << 40) } else { number };
        let visible = |place: &Standin| {
            let refused = place.db.numbers("SELECT ((\"row\"::json)->>'n')::bigint - (1::bigint << 40) FROM rejected");
            writes(place).into_iter().chain(refused).collect()
        };
        conforms(Promise::ExactlyOnce, place, sink, number, visible);
    }
}

#[derive(Serialize)]
struct Price {
    item: String,
    cents: Option<i64>,
    share: f64,
    tags: Vec<String>,
}

fn price(item: &str, cents: i64) -> Price {
    Price { item: item.to_owned(), cents: Some(cents), share: 0.5, tags: vec!["a\tb".to_owned(), "\"\\".to_owned()] }
}

fn prices(place: &Standin) -> RedshiftSink<Price> {
    place.db.run("CREATE TABLE prices (item varchar(100) NOT NULL, cents integer, share float8, tags json, at date DEFAULT current_date)");
    place.table("prices").fields(["item", "cents", "share", "tags"])
}

#[test]
fn values_arrive_as_they_are() {
    let Some(place) = Standin::fresh() else { return };
    let mut engine = Engine::new(prices(&place));
    engine.start().unwrap();
    let item = "say \"hi\"\\N\n\tä€😀 'x'";
    let none = Price { cents: None, share: f64::NAN, tags: Vec::new(), ..price("none", 0) };
    engine.write(&[price(item, -7), none]).unwrap();
    assert_eq!(place.db.text("SELECT item FROM prices WHERE cents = -7"), item);
    assert_eq!(
        place.db.psql("SELECT cents, share, tags, at = current_date FROM prices WHERE item = 'none'"),
        "|NaN|[]|t"
    );
    assert_eq!(place.db.psql("SELECT tags->>0, tags->>1 FROM prices WHERE cents = -7"), "a\tb|\"\\");
}

#[test]
fn an_upsert_keeps_the_last_record_of_each_key() {
    let Some(place) = Standin::fresh() else { return };
    let mut engine = Engine::new(prices(&place).upsert_by(["item"]));
    engine.start().unwrap();
    engine.write(&[price("a", 10), price("b", 20), price("a", 11), price("c", 30)]).unwrap();
    engine.write(&[price("b", 21), price("b", 22)]).unwrap();
    assert_eq!(place.db.psql("SELECT item || cents FROM prices ORDER BY item"), "a11\nb22\nc30");
    assert_eq!(place.db.psql("SELECT count(*) FROM pg_class WHERE relname = 'shardflow_stage'"), "0");
}

#[test]
fn refused_rows_go_to_their_table_and_the_rest_is_loaded() {
    let Some(place) = Standin::fresh() else { return };
    let mut engine = Engine::new(prices(&place).rejected_to_table("rejected"));
    engine.start().unwrap();
    let long = "x".repeat(101);
    let mut records: Vec<Price> = (0..500).map(|n| price(&n.to_string(), n)).collect();
    records[3].cents = Some(i64::MAX);
    records[250].item.clone_from(&long);
    records[499].cents = Some(i64::MIN);
    records[499].item = "back\\slash 'quoted'".to_owned();
    // What can never be written is known before it is sent.
    records[400].item = "y".repeat(5_000_000);
    engine.write(&records).unwrap();
    assert_eq!(place.db.psql("SELECT count(*) FROM prices"), "496");
    let rejected = "SELECT left(\"row\"::json->>'item', 50) FROM rejected WHERE error NOT LIKE '%bytes%' \
                    ORDER BY \"row\" COLLATE \"C\"";
    assert_eq!(place.db.psql(rejected), format!("3\nback\\slash 'quoted'\n{}", "x".repeat(50)));
    assert_eq!(place.db.psql("SELECT length(\"row\") FROM rejected WHERE error LIKE '%bytes%'"), "60001");
    let error = place.db.text("SELECT error FROM rejected WHERE \"row\" LIKE '%slash%'");
    assert!(
        error.starts_with("column \"some\": ") && error.contains("out of range") && error.ends_with(" [1204]"),
        "{error}"
    );
    assert_eq!(place.db.psql("SELECT count(*) FROM rejected WHERE \"row\" LIKE '%shardflow_row%'"), "0");
    // Nothing of it holds up what follows, and an epoch of refused rows alone is committed too.
    engine.write(&[price("more", 1)]).unwrap();
    engine.write(&[price(&"z".repeat(5_000_000), 1)]).unwrap();
    engine.write(&[price(&long, 1)]).unwrap();
    assert_eq!(place.db.psql("SELECT count(*) FROM prices"), "497");
    assert_eq!(place.db.psql("SELECT count(*) FROM rejected"), "6");
    assert_eq!(place.db.psql("SELECT max(epoch) FROM shardflow_loads"), "4");
}

#[test]
fn without_a_table_for_them_a_refused_row_stops_the_job_and_is_shown() {
    let Some(place) = Standin::fresh() else { return };
    let sink = prices(&place);
    let mut engine = Engine::new(sink.clone());
    engine.start().unwrap();
    let error = engine.write(&[price("good", 1), price("bad", i64::MAX)]).unwrap_err();
    assert_eq!((error.kind(), error.step(), error.outcome()), (ErrorKind::Sink, Some("charges"), Outcome::Determinate));
    let text = error.to_string();
    assert!(
        text.contains("out of range") && text.contains("{\"item\":\"bad\"") && text.contains("rejected_to_table"),
        "{text}"
    );
    assert_eq!(place.db.psql("SELECT count(*) FROM prices"), "0");
    // More of them than the job allows.
    let mut engine = Engine::new(sink.copy_name("two").rejected_to_table("rejected").max_errors(2));
    engine.start().unwrap();
    let bad = |count: i64| (0..count).map(|n| price("bad", i64::MAX - n)).collect::<Vec<_>>();
    engine.write(&bad(2)).unwrap();
    let error = engine.write(&bad(3)).unwrap_err().to_string();
    assert!(error.contains("more than 2 rows were refused"), "{error}");
    assert_eq!(place.db.psql("SELECT count(*) FROM rejected"), "2");
}

#[test]
fn rows_that_are_left_out_without_a_word_are_never_lost() {
    let Some(place) = Standin::fresh() else { return };
    let mut engine = Engine::new(prices(&place).rejected_to_table("rejected").give_up_after(Duration::ZERO));
    engine.start().unwrap();
    place.is_mute();
    let error = engine.write(&[price("good", 1), price("bad", i64::MAX)]).unwrap_err().to_string();
    assert!(error.contains("1 rows were left out, and Redshift does not tell which"), "{error}");
    assert_eq!(place.db.psql("SELECT count(*) FROM prices"), "0");
}

/// Runs a `COPY` by a stand-in, whose own statements are not the sink's.
struct Overheard {
    inner: Shared,
    said: Arc<Mutex<Vec<String>>>,
    runs: Arc<AtomicBool>,
}

impl RunCopy for Overheard {
    fn run<'a>(&'a self, client: &'a Client, statement: &'a str) -> BoxFuture<'a, Result<(), tokio_postgres::Error>> {
        Box::pin(async move {
            self.said.lock().unwrap().push(statement.to_owned());
            self.runs.store(true, Ordering::SeqCst);
            let answer = self.inner.run(client, statement).await;
            self.runs.store(false, Ordering::SeqCst);
            answer
        })
    }
}

/// Redshift cannot be had, so everything that it would be told is held here, in its order.
#[test]
fn a_start_and_a_load_say_these_statements_in_this_order() {
    let Some(place) = Standin::fresh() else { return };
    place.db.run("CREATE TABLE numbers (n bigint NOT NULL, word varchar(64) NOT NULL)");
    let proxy = PgProxy::start(place.db.runtime.handle(), place.db.cluster.port());
    let (said, runs) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let overheard = Overheard { inner: place.runs_copies(), said: Arc::clone(&said), runs: Arc::clone(&runs) };
    let all = Arc::clone(&said);
    proxy.inject(move |message| {
        if message.kind == 'Q' && !runs.load(Ordering::SeqCst) {
            all.lock().unwrap().push(message.sql.clone());
        }
        Fault::Pass
    });
    let sink = place.table_at(&place.db.address_at(proxy.port()), "numbers").copy_with(overheard);
    let sink = sink.column("n", |n: &u64| n).value("word", u64::to_string).upsert_by(["n"]);
    let mut engine = Engine::new(sink.rejected_to_table("rejected"));
    let columns = |table: &str| {
        format!(
            "SELECT column_name, is_nullable, column_default IS NOT NULL FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name = '{table}' ORDER BY ordinal_position"
        )
    };
    let copy = |table: &str, columns: &str, manifest: &str, errors: &str| {
        format!(
            "COPY {table} ({columns}) FROM 's3://staging/red/billing/charges/0000000001-1-load-{manifest}.manifest' \
             IAM_ROLE default FORMAT AS JSON 'auto' GZIP MANIFEST TIMEFORMAT 'auto'{errors}"
        )
    };
    let taken = || std::mem::take(&mut *said.lock().unwrap());
    const LOCK: &str = "LOCK TABLE \"shardflow_loads\"";
    const MARKER: &str =
        "SELECT MAX(incarnation), MAX(epoch) FROM \"shardflow_loads\" WHERE job = 'billing' AND step = 'charges'";

    engine.start().unwrap();
    let start = [
        "SET statement_timeout = 900000",
        &columns("numbers"),
        &columns("shardflow_loads"),
        "CREATE TABLE IF NOT EXISTS \"shardflow_loads\" (job varchar(256) NOT NULL, step varchar(256) NOT NULL, \
         incarnation bigint NOT NULL, epoch bigint, file varchar(2048))",
        &columns("shardflow_loads"),
        &columns("rejected"),
        "CREATE TABLE IF NOT EXISTS \"rejected\" (at timestamp DEFAULT GETDATE(), job varchar(256), step varchar(256), \
         error varchar(65535), \"row\" varchar(65535))",
        &columns("rejected"),
        "BEGIN",
        LOCK,
        MARKER,
        "INSERT INTO \"shardflow_loads\" (job, step, incarnation) VALUES ('billing', 'charges', 1)",
        "COMMIT",
    ];
    assert_eq!(taken(), start);

    // The second is too large for its column.
    engine.write(&[1, u64::MAX]).unwrap();
    let load = [
        "BEGIN",
        LOCK,
        MARKER,
        "CREATE TEMP TABLE shardflow_stage (LIKE \"numbers\" INCLUDING DEFAULTS)",
        "ALTER TABLE shardflow_stage ADD COLUMN shardflow_row varchar(62)",
        &copy("shardflow_stage", "\"n\", \"word\", \"shardflow_row\"", "0", " MAXERROR 100000"),
        "SELECT pg_last_copy_count()",
        "SELECT TRIM(filename), line_number, TRIM(colname), err_code, TRIM(err_reason) FROM stl_load_errors \
         WHERE query = pg_last_copy_id() ORDER BY filename, line_number",
        "DELETE FROM \"numbers\" USING shardflow_stage WHERE \"numbers\".\"n\" = shardflow_stage.\"n\"",
        "INSERT INTO \"numbers\" (\"n\", \"word\") SELECT \"n\", \"word\" FROM (SELECT \"n\", \"word\", ROW_NUMBER() OVER \
         (PARTITION BY \"n\" ORDER BY shardflow_row DESC) AS shardflow_rank FROM shardflow_stage) AS latest \
         WHERE shardflow_rank = 1",
        "DROP TABLE shardflow_stage",
        &copy("\"rejected\"", "\"job\", \"step\", \"error\", \"row\"", "rejected", ""),
        "SELECT pg_last_copy_count()",
        "DELETE FROM \"shardflow_loads\" WHERE job = 'billing' AND step = 'charges'",
        "INSERT INTO \"shardflow_loads\" (job, step, incarnation, epoch, file) VALUES \
         ('billing', 'charges', 1, 1, 's3://staging/red/billing/charges/0000000001-1-0-0.json.gz')",
        "COMMIT",
    ];
    assert_eq!(taken(), load);
    assert_eq!(place.db.psql("SELECT n, word FROM numbers"), "1|1");
    // Handles that come again are found to be loaded by a new committer alone.
    let again = engine.stage(&[2]).unwrap();
    engine.commit(&again).unwrap();
    taken();
    engine.commit(&again).unwrap();
    assert_eq!(taken(), [""; 0]);
}

#[test]
fn a_commit_whose_answer_is_lost_is_settled_by_the_table_of_loads() {
    for fault in [Fault::ResetBefore, Fault::ResetAfter, Fault::ServerHearsLater(Duration::from_millis(300))] {
        let Some(place) = counting() else { return };
        let proxy = PgProxy::start(place.db.runtime.handle(), place.db.cluster.port());
        let sink = place.table_at(&place.db.address_at(proxy.port()), "numbers");
        let sink = sink.column("n", |n: &u64| n).value("word", u64::to_string);
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, || writes(&place));
        job.start(2);
        for which in ["COMMIT", "DELETE", "LOCK"] {
            proxy.once(fault, move |message| message.is(which));
            job.stage(0, 10);
            job.stage(1, 10);
            job.prepare();
            job.persist();
            job.commit();
            job.assert_all_visible();
            job.acknowledge();
        }
        // So is a start.
        job.stage(0, 10);
        job.prepare();
        job.persist();
        proxy.once(fault, |message| message.is("COMMIT"));
        job.start(1);
        job.finish();
        assert_eq!(proxy.faults(), [fault; 4]);
    }
}

#[test]
fn a_commit_without_an_answer_for_good_is_told_as_such() {
    let Some(place) = counting() else { return };
    let proxy = PgProxy::start(place.db.runtime.handle(), place.db.cluster.port());
    let sink = place.table_at(&place.db.address_at(proxy.port()), "numbers").give_up_after(Duration::ZERO);
    let mut engine = Engine::new(sink.column("n", |n: &u64| n).value("word", u64::to_string));
    engine.start().unwrap();
    let handles = engine.stage(&[1]).unwrap();
    proxy.inject(|message| if message.is("LOCK") { Fault::ResetBefore } else { Fault::Pass });
    assert_eq!(engine.commit(&handles).unwrap_err().outcome(), Outcome::Determinate);
    // From the commit on, nothing gets through.
    let cut = AtomicBool::new(false);
    proxy.inject(move |message| match (cut.load(Ordering::Relaxed), message.is("COMMIT")) {
        (true, _) => Fault::ResetBefore,
        (false, true) => {
            cut.store(true, Ordering::Relaxed);
            Fault::ResetAfter
        }
        (false, false) => Fault::Pass,
    });
    assert_eq!(engine.commit(&handles).unwrap_err().outcome(), Outcome::Indeterminate);
    proxy.inject(|_| Fault::Pass);
    engine.commit(&handles).unwrap();
    assert_eq!(writes(&place), [1]);
}

#[test]
fn a_start_without_an_answer_for_good_is_told_as_such() {
    let Some(place) = counting() else { return };
    let proxy = PgProxy::start(place.db.runtime.handle(), place.db.cluster.port());
    let sink = place.table_at(&place.db.address_at(proxy.port()), "numbers").give_up_after(Duration::ZERO);
    let mut engine = Engine::new(sink.column("n", |n: &u64| n).value("word", u64::to_string));
    for (begins, outcome) in [("LOCK", Outcome::Determinate), ("COMMIT", Outcome::Indeterminate)] {
        let cut = AtomicBool::new(false);
        proxy.inject(move |message| match cut.fetch_or(message.is(begins), Ordering::Relaxed) {
            true => Fault::ResetBefore,
            false if message.is(begins) => Fault::ResetAfter,
            false => Fault::Pass,
        });
        assert_eq!(engine.start().unwrap_err().outcome(), outcome);
    }
    proxy.inject(|_| Fault::Pass);
    engine.start().unwrap();
    engine.write(&[1]).unwrap();
    assert_eq!(writes(&place), [1]);
}

#[test]
fn an_older_start_loads_nothing_more_and_an_older_state_does_not_start() {
    let Some(place) = counting() else { return };
    let mut zombie = Engine::new(numbers(&place));
    zombie.start().unwrap();
    zombie.write(&[1, 2]).unwrap();
    let late = zombie.stage(&[3]).unwrap();
    let heir = |incarnation: u64, committed: u64| {
        let mut heir = Engine::new(numbers(&place));
        let committed = (committed > 0).then(|| Epoch::new(committed));
        heir.context = SinkContext { committed, incarnation: Incarnation::new(incarnation - 1), ..heir.context };
        heir.epoch = Epoch::new(2);
        heir
    };
    let mut second = heir(2, 1);
    second.start().unwrap();
    let error = zombie.commit(&late).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("another start of job \"billing\" (incarnation 2, and this is 1)"), "{error}");
    second.write(&[4]).unwrap();
    assert!(zombie.commit(&late).is_err());
    for (incarnation, committed, what) in
        [(3, 1, "rows of epoch 2 are committed"), (2, 2, "has taken over"), (1, 2, "has taken over")]
    {
        let error = heir(incarnation, committed).start().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert_eq!(writes(&place), [1, 2, 4]);
}

#[test]
fn staged_files_are_removed_when_they_are_loaded_and_when_a_crash_has_left_them() {
    let Some(place) = counting() else { return };
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(numbers(&place)), |number| number, || writes(&place));
    job.start(2);
    job.stage(0, 5);
    job.stage(1, 5);
    job.prepare();
    job.persist();
    assert_eq!(place.keys().len(), 2);
    job.commit();
    job.acknowledge();
    assert_eq!(place.keys(), [""; 0]);
    // One that is durable and not loaded, and others that are put and not durable.
    job.stage(0, 5);
    job.prepare();
    job.persist();
    job.stage(0, 5);
    job.prepare();
    job.start(1);
    assert_eq!(place.keys(), [""; 0]);
    job.finish();
    let keeps = Engine::new(numbers(&place).copy_name("other").keep_files());
    let mut keeps = keeps;
    keeps.start().unwrap();
    keeps.write(&[1]).unwrap();
    assert_eq!(place.keys().len(), 2, "{:?}", place.keys());
}

#[test]
fn the_bucket_is_reached_by_a_configuration_of_the_sdk() {
    let Some(db) = Database::fresh() else { return };
    let Some(server) = db.runtime.block_on(Ministack::start()) else { return };
    db.run("CREATE TABLE numbers (n bigint NOT NULL)");
    let bucket = db.runtime.block_on(Bucket::create(&server.endpoint(), "staging"));
    let cluster = Redshift::start(&db, bucket);
    let sink = redshift(db.address_at(cluster.port())).table("numbers").column("n", |n: &u64| n);
    let sink = sink.staged_in("s3://staging/red").staging_sdk_config(sdk_config(&server.endpoint(), None));
    let mut engine = Engine::new(sink);
    engine.start().unwrap();
    engine.write(&[1, 2, 3]).unwrap();
    assert_eq!(db.numbers("SELECT n FROM numbers ORDER BY n"), [1, 2, 3]);
}

#[test]
fn tables_that_do_not_fit_are_refused_at_the_start() {
    let Some(place) = Standin::fresh() else { return };
    place.db.run(
        "CREATE TABLE good (item varchar(10) NOT NULL, cents integer, at date NOT NULL DEFAULT current_date);
         CREATE TABLE needs (item varchar(10), at date NOT NULL); CREATE TABLE no_loads (job varchar(10))",
    );
    let table = |name: &str| place.table(name).column("item", |item: &String| item);
    for (sink, what) in [
        (table("absent"), "\"absent\": it is not there"),
        (table("nowhere.good"), "it is not there"),
        (table("Good"), "names in lower case"),
        (table("good").value("price", String::len), "no column \"price\": it has item, cents, at"),
        (table("needs"), "\"at\" is NOT NULL, has no default and is not written"),
        (table("good").value("cents", String::len).upsert_by(["cents"]), "\"cents\" may be NULL"),
        (table("good").upsert_by(["cents"]), "decides about upserts and is not written"),
        (table("good").loads_table("no_loads"), "\"no_loads\": it has no column \"step\""),
        (table("good").loads_table("nowhere.loads"), "make it once by hand: CREATE TABLE"),
        (table("good").rejected_to_table("good"), "cannot be two things"),
        (table("good").iam_role("me"), "no ARN"),
        (table("good").staged_in("https://x"), "no URL like s3://bucket/prefix"),
        (table("good").max_errors(100_000), "99999 rows at most"),
        (
            table("good").staged_in(format!("s3://staging/{}", "x".repeat(240))),
            "Redshift tells of refused rows by 256 bytes",
        ),
    ] {
        let error = Engine::new(sink).start().unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("charges")), "{error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
    let mut good = Engine::new(table("public.good").upsert_by(["item"]));
    good.start().unwrap();
    good.write(&["a".to_owned()]).unwrap();
    assert_eq!(place.db.psql("SELECT item FROM good"), "a");
}

#[test]
fn no_password_comes_out() {
    let secret = "open-sesame-7712";
    let cluster = redshift(format!("postgres://loader:{secret}@127.0.0.1:1/x"));
    let sink = cluster.table("numbers").column("n", |n: &u64| n).staged_in(format!("s3://key:{secret}@b/x"));
    let said = format!("{cluster:?} {sink:?} {:?}", sink.clone().staged_in("s3://b/x").copy_name("x"));
    let error = Engine::new(sink).start().unwrap_err();
    let unreachable = cluster.table("numbers").column("n", |n: &u64| n).staged_in("s3://b/x").region("eu-west-1");
    let unreachable = unreachable.staging_option("aws_skip_signature", "true").give_up_after(Duration::ZERO);
    let other = Engine::new(unreachable).start().unwrap_err();
    let said = format!("{said} {error} {error:?} {other} {other:?}");
    assert!(!said.contains(secret), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
