//! What stands in for Redshift: a PostgreSQL server, on whose connections `COPY … FROM 's3://…'` is run here, with a store in memory for
//! the bucket.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use shardflow::source::BoxFuture;
use shardflow_sinks::redshift::RunCopy;
use shardflow_sinks::{RedshiftSink, redshift};
use tokio_postgres::{Client, Error};

use shardflow_stand_ins::postgres::Database;
use shardflow_stand_ins::redshift::{Connection, Copies, Files, SYSTEM};

/// A cluster with a bucket in memory.
pub(crate) struct Standin {
    pub(crate) db: Database,
    pub(crate) bucket: Arc<InMemory>,
    copies: Arc<Copies>,
}

impl Standin {
    /// `None` where no server is installed.
    pub(crate) fn fresh() -> Option<Self> {
        let db = Database::fresh()?;
        db.run(SYSTEM);
        let bucket = Arc::new(InMemory::new());
        let copies = Arc::new(Copies::new(db.other()));
        Some(Self { db, bucket, copies })
    }

    /// A sink to one of its tables.
    pub(crate) fn table<T>(&self, name: &str) -> RedshiftSink<T> {
        self.table_at(&self.db.address(), name)
    }

    /// As [`table`](Self::table), by way of another address.
    pub(crate) fn table_at<T>(&self, address: &str, name: &str) -> RedshiftSink<T> {
        let bucket: Arc<dyn ObjectStore> = Arc::clone(&self.bucket) as _;
        let sink = redshift(address).table(name).staged_in("s3://staging/red").staging_store(bucket);
        sink.copy_with(self.runs_copies())
    }

    /// What runs the `COPY`s of its sinks.
    pub(crate) fn runs_copies(&self) -> Shared {
        Shared(Arc::clone(&self.copies), Arc::clone(&self.bucket) as _)
    }

    /// From here on it leaves out refused rows without a word.
    pub(crate) fn is_mute(&self) {
        self.copies.be_mute();
    }

    /// The keys that are in the bucket.
    pub(crate) fn keys(&self) -> Vec<String> {
        let found: Vec<_> = self.db.runtime.block_on(self.bucket.list(None).try_collect()).unwrap();
        found.into_iter().map(|meta| meta.location.to_string()).collect()
    }
}

/// For a sink that is cloned.
pub(crate) struct Shared(pub(crate) Arc<Copies>, pub(crate) Arc<dyn ObjectStore>);

impl RunCopy for Shared {
    fn run<'a>(&'a self, client: &'a Client, statement: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        let Self(copies, bucket) = self;
        Box::pin(async move {
            let last = copies.run(statement, &mut On(client), &Staged(&**bucket)).await?;
            client.batch_execute(&last).await
        })
    }
}

/// The sink's own connection.
struct On<'a>(&'a Client);

impl Connection for On<'_> {
    type Lost = Error;

    async fn run(&mut self, sql: &str) -> Result<Result<(), String>, Error> {
        let Err(error) = self.0.batch_execute(sql).await else { return Ok(Ok(())) };
        let said = error.as_db_error().map(|said| said.message().to_owned());
        said.map_or(Err(error), |said| Ok(Err(said)))
    }
}

/// The bucket that the sink stages in.
struct Staged<'a>(&'a dyn ObjectStore);

impl Files for Staged<'_> {
    async fn get(&self, url: &str) -> Option<Vec<u8>> {
        let key = Path::from(url.strip_prefix("s3://staging/")?);
        let found = self.0.get(&key).await.ok()?;
        Some(found.bytes().await.ok()?.to_vec())
    }
}
