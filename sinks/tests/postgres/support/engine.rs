//! The engine's side of a sink of one worker, record by record, and the tables that tests write to.

use serde::Serialize;
use shardflow::sink::{Prepared, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::testing::sink::permit;
use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, Error};
use shardflow_sinks::{PostgresSink, postgres};
use tokio::runtime::Runtime;

use shardflow_stand_ins::postgres::Database;

/// A database in which each write to the table is counted, so that an upsert cannot hide a second one.
pub(crate) fn counting() -> Option<Database> {
    let db = Database::fresh()?;
    db.run(
        "CREATE TABLE numbers (n bigint PRIMARY KEY, text text NOT NULL);
         CREATE TABLE writes (n bigint NOT NULL);
         CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO writes VALUES (NEW.n); RETURN NULL; END $$;
         CREATE TRIGGER log_write AFTER INSERT OR UPDATE ON numbers FOR EACH ROW EXECUTE FUNCTION log_write()",
    );
    Some(db)
}

pub(crate) fn numbers(db: &Database) -> PostgresSink<u64> {
    let sink = postgres(db.address()).table("numbers").column("n", |n: &u64| n);
    sink.value("text", |n| format!("number\t{n}"))
}

pub(crate) fn writes(db: &Database) -> Vec<u64> {
    db.numbers("SELECT n FROM writes")
}

/// A record, and the table for it.
#[derive(Serialize)]
pub(crate) struct Price {
    pub(crate) item: String,
    pub(crate) version: i64,
    pub(crate) cents: Option<i64>,
}

pub(crate) fn price(item: &str, version: i64, cents: i64) -> Price {
    Price { item: item.to_owned(), version, cents: Some(cents) }
}

pub(crate) fn prices(db: &Database) -> PostgresSink<Price> {
    db.run("CREATE TABLE prices (item text NOT NULL, version bigint NOT NULL, cents integer, UNIQUE (item))");
    postgres(db.address()).table("prices").fields(["item", "version", "cents"])
}

/// Plays the engine to a sink of one worker, record by record.
pub(crate) struct Engine<T: 'static> {
    pub(crate) runtime: Runtime,
    pub(crate) sink: Box<dyn Sink<T>>,
    pub(crate) context: SinkContext,
    writer: Option<Box<dyn SinkWriter<T>>>,
    committer: Option<Box<dyn shardflow::sink::Committer>>,
    pub(crate) epoch: Epoch,
}

impl<T: 'static> Engine<T> {
    pub(crate) fn new(sink: impl Sink<T>) -> Self {
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

    pub(crate) fn start(&mut self) -> Result<(), Error> {
        let incarnation = Incarnation::new(self.context.incarnation.number() + 1);
        self.context = SinkContext { incarnation, runtime: self.runtime.handle().clone(), ..self.context.clone() };
        let mut committer = self.sink.committer(&self.context)?;
        committer.recover(self.context.committed.map(permit).as_ref(), &[])?;
        self.committer = Some(committer);
        self.writer = Some(self.sink.writer(&self.context, 0)?);
        Ok(())
    }

    /// Stages records and closes their epoch: the handles that would be durable now.
    pub(crate) fn stage(&mut self, records: &[T]) -> Result<Vec<StagedHandle>, Error> {
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

    pub(crate) fn commit(&mut self, handles: &[StagedHandle]) -> Result<(), Error> {
        self.committer.as_mut().unwrap().commit(&permit(self.context.committed.unwrap()), handles)
    }

    /// An epoch of these records.
    pub(crate) fn write(&mut self, records: &[T]) -> Result<(), Error> {
        let handles = self.stage(records)?;
        self.commit(&handles)
    }
}
