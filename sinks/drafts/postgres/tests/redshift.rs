//! The protocol of Redshift's loads on PostgreSQL, with the COPY replaced: each file's rows are there once.
#![allow(clippy::unwrap_used, reason = "a test may stop at what must not happen")]

mod support;

use shardflow::sink::SinkContext;
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, Error, ErrorKind, Outcome, Result};
use shardflow_sinks::redshift::{Load, StagedFile, load, take_over};
use support::pg_proxy::{Fault, PgProxy};
use support::postgres::Database;
use tokio_postgres::Client;

fn loads(db: &Database, incarnation: u64) -> Load {
    let context = SinkContext {
        job: "it's".to_owned(),
        step: "charges".into(),
        incarnation: Incarnation::new(incarnation),
        committed: None,
        workers: 1,
        folder: "/nowhere".into(),
        runtime: db.runtime.handle().clone(),
    };
    Load::new(&context, "public.charges", ["file"]).unwrap().loads_table("public.loads").unwrap()
}

fn file(name: &str, epoch: u64) -> StagedFile {
    StagedFile { url: format!("s3://b/{name}"), bytes: 1, epoch: Epoch::new(epoch) }
}

/// Stands in for the COPY: a row a file.
async fn copy(client: &Client, files: &[StagedFile]) -> Result<()> {
    for file in files {
        let insert = format!("INSERT INTO charges (file) VALUES ('{}')", file.url);
        client.batch_execute(&insert).await.map_err(|error| Error::sink("could not copy").caused_by(error))?;
    }
    Ok(())
}

fn database() -> Option<Database> {
    let db = Database::fresh()?;
    db.run(&format!("CREATE TABLE charges (file text); {}", loads(&db, 1).create_loads()));
    Some(db)
}

fn charges(db: &Database) -> Vec<String> {
    db.texts("SELECT file FROM charges ORDER BY file").into_iter().flatten().collect()
}

#[test]
fn each_file_is_loaded_once() {
    let Some(db) = database() else { return };
    let (client, first) = (db.other(), loads(&db, 1));
    db.runtime.block_on(async {
        take_over(&client, &first, None, false).await.unwrap();
        let files = [file("a", 1), file("b", 1)];
        assert_eq!(load(&client, &first, &files, copy).await.unwrap(), files);
        assert_eq!(load(&client, &first, &files, copy).await.unwrap(), []);
        let more = [file("b", 1), file("c", 2)];
        assert_eq!(load(&client, &first, &more, copy).await.unwrap(), [file("c", 2)]);
    });
    assert_eq!(charges(&db), ["s3://b/a", "s3://b/b", "s3://b/c"]);
}

#[test]
fn a_copy_that_fails_leaves_no_name_behind() {
    let Some(db) = database() else { return };
    let first = loads(&db, 1);
    let client = db.other();
    let failing = async |client: &Client, files: &[StagedFile]| {
        copy(client, files).await?;
        Err(Error::sink("one bad row too many"))
    };
    db.runtime.block_on(async {
        take_over(&client, &first, None, false).await.unwrap();
        let error = load(&client, &first, &[file("a", 1)], failing).await.unwrap_err();
        assert_eq!(error.to_string(), "one bad row too many");
    });
    drop(client);
    let client = db.other();
    let again = db.runtime.block_on(load(&client, &first, &[file("a", 1)], copy)).unwrap();
    assert_eq!(again, [file("a", 1)]);
    assert_eq!(charges(&db), ["s3://b/a"]);
}

#[test]
fn an_answer_that_is_lost_is_settled_by_the_same_load_again() {
    for fault in [Fault::ResetBefore, Fault::ResetAfter] {
        let Some(db) = database() else { return };
        let first = loads(&db, 1);
        let client = db.other();
        db.runtime.block_on(take_over(&client, &first, None, false)).unwrap();
        let proxy = PgProxy::start(db.runtime.handle(), db.cluster.port());
        proxy.once(fault, |message| message.is("COMMIT"));
        let broken = db.runtime.block_on(async {
            let connected = tokio_postgres::connect(&db.address_at(proxy.port()), tokio_postgres::NoTls).await;
            let (client, connection) = connected.unwrap();
            tokio::spawn(connection);
            load(&client, &first, &[file("a", 1)], copy).await
        });
        assert_eq!(broken.unwrap_err().outcome(), Outcome::Indeterminate);
        let again = db.runtime.block_on(load(&client, &first, &[file("a", 1)], copy)).unwrap();
        assert_eq!(again.len(), if fault == Fault::ResetAfter { 0 } else { 1 });
        assert_eq!(charges(&db), ["s3://b/a"]);
    }
}

#[test]
fn an_older_start_loads_nothing_more_and_an_older_state_does_not_start() {
    let Some(db) = database() else { return };
    let (first, second) = (loads(&db, 1), loads(&db, 2));
    let client = || db.other();
    let (one, two, three, four) = (client(), client(), client(), client());
    db.runtime.block_on(async {
        take_over(&one, &first, None, false).await.unwrap();
        load(&one, &first, &[file("a", 1)], copy).await.unwrap();
        take_over(&two, &second, Some(Epoch::new(1)), false).await.unwrap();
        let error = load(&one, &first, &[file("b", 2)], copy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert!(error.to_string().contains("has taken over"), "{error}");
        drop(one);
        load(&two, &second, &[file("c", 2)], copy).await.unwrap();
        let error = take_over(&three, &loads(&db, 3), Some(Epoch::new(1)), false).await.unwrap_err();
        assert!(error.to_string().contains("rows of epoch 2 are committed"), "{error}");
        drop(three);
        assert!(take_over(&four, &second, Some(Epoch::new(2)), false).await.is_err(), "a twin");
    });
    drop(four);
    let client = db.other();
    db.runtime.block_on(take_over(&client, &second, Some(Epoch::new(2)), true)).unwrap();
    assert_eq!(charges(&db), ["s3://b/a", "s3://b/c"]);
}
