//! What stands in for Redshift: a PostgreSQL server, on which `COPY … FROM 's3://…'` is run here, with a store in memory for the
//! bucket. Refused rows are left out and written down in `stl_load_errors` as Redshift does: outside of the transaction.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flate2::read::GzDecoder;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use shardflow::source::BoxFuture;
use shardflow_sinks::redshift::RunCopy;
use shardflow_sinks::{RedshiftSink, redshift};
use tokio_postgres::{Client, Error};

use shardflow_stand_ins::postgres::Database;

pub(crate) const SYSTEM: &str = "
    CREATE TABLE stl_load_errors (query bigint, filename text, line_number bigint, colname text, err_code int, err_reason text);
    CREATE FUNCTION pg_last_copy_id() RETURNS bigint LANGUAGE sql AS $$ SELECT current_setting('standin.id')::bigint $$;
    CREATE FUNCTION pg_last_copy_count() RETURNS bigint LANGUAGE sql AS $$ SELECT current_setting('standin.count')::bigint $$;
    CREATE FUNCTION getdate() RETURNS timestamp LANGUAGE sql AS $$ SELECT now() AT TIME ZONE 'UTC' $$";

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
        let log = db.other();
        let copies = Arc::new(Copies::new(Arc::clone(&bucket) as _, log));
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
        sink.copy_with(Shared(Arc::clone(&self.copies)))
    }

    /// From here on it leaves out refused rows without a word.
    pub(crate) fn is_mute(&self) {
        self.copies.is_mute.store(true, Ordering::Relaxed);
    }

    /// The keys that are in the bucket.
    pub(crate) fn keys(&self) -> Vec<String> {
        let found: Vec<_> = self.db.runtime.block_on(self.bucket.list(None).try_collect()).unwrap();
        found.into_iter().map(|meta| meta.location.to_string()).collect()
    }
}

/// For a sink that is cloned.
pub(crate) struct Shared(pub(crate) Arc<Copies>);

impl RunCopy for Shared {
    fn run<'a>(&'a self, client: &'a Client, statement: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.0.run(client, Statement::parse(statement)))
    }
}

/// What a `COPY` says.
struct Statement<'a> {
    table: &'a str,
    columns: &'a str,
    manifest: &'a str,
    most_errors: usize,
}

impl<'a> Statement<'a> {
    /// Nothing but what the sink writes.
    fn parse(text: &'a str) -> Self {
        let (table, rest) = text.strip_prefix("COPY ").unwrap().split_once(" (").unwrap();
        let (columns, rest) = rest.split_once(") FROM '").unwrap();
        let (manifest, rest) =
            rest.split_once("' IAM_ROLE default FORMAT AS JSON 'auto' GZIP MANIFEST TIMEFORMAT 'auto'").unwrap();
        let most_errors = rest.strip_prefix(" MAXERROR ").map_or(1, |most| most.parse().unwrap());
        Self { table, columns, manifest, most_errors }
    }
}

/// Runs `COPY` from a bucket.
pub(crate) struct Copies {
    bucket: Arc<dyn ObjectStore>,
    log: Client,
    number: AtomicU64,
    is_mute: AtomicBool,
}

impl Copies {
    /// `log`: a connection of its own, for what Redshift tells of refused rows.
    pub(crate) fn new(bucket: Arc<dyn ObjectStore>, log: Client) -> Self {
        // Another process may have told of others before.
        let number = AtomicU64::new(rand::random::<u64>() >> 2);
        Self { bucket, log, number, is_mute: AtomicBool::new(false) }
    }

    async fn read(&self, url: &str) -> Vec<u8> {
        let key = Path::from(url.strip_prefix("s3://staging/").unwrap());
        self.bucket.get(&key).await.unwrap().bytes().await.unwrap().to_vec()
    }

    async fn run(&self, client: &Client, copy: Statement<'_>) -> Result<(), Error> {
        let Statement { table, columns, manifest, most_errors } = copy;
        let manifest: serde_json::Value = serde_json::from_slice(&self.read(manifest).await).unwrap();
        let insert = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM");
        let all = client.prepare(&format!("{insert} json_populate_recordset(NULL::{table}, $1::text::json)")).await?;
        let (mut count, mut bad) = (0, Vec::new());
        for entry in manifest["entries"].as_array().unwrap() {
            assert_eq!(entry["mandatory"], true);
            let url = entry["url"].as_str().unwrap();
            let mut text = String::new();
            GzDecoder::new(&*self.read(url).await).read_to_string(&mut text).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let whole = 0..lines.len();
            let mut pieces = vec![whole];
            while let Some(piece) = pieces.pop() {
                client.batch_execute("SAVEPOINT piece").await?;
                match client.execute(&all, &[&format!("[{}]", lines[piece.clone()].join(","))]).await {
                    Ok(_) => count += piece.len(),
                    Err(error) => {
                        let said = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
                        client.batch_execute("ROLLBACK TO piece").await?;
                        if piece.len() == 1 {
                            bad.push((url.to_owned(), piece.end as i64, said.message().to_owned()));
                        } else {
                            let middle = piece.start + piece.len() / 2;
                            pieces.extend([middle..piece.end, piece.start..middle]);
                        }
                    }
                }
                client.batch_execute("RELEASE piece").await?;
            }
        }
        let id = self.number.fetch_add(1, Ordering::Relaxed) as i64;
        for (url, line, reason) in bad.iter().filter(|_| !self.is_mute.load(Ordering::Relaxed)) {
            let log = "INSERT INTO stl_load_errors VALUES ($1, $2 || '   ', $3, 'some', 1204, $4 || '  ')";
            self.log.execute(log, &[&id, url, line, reason]).await?;
        }
        if bad.len() >= most_errors {
            let text = format!(
                "Load into table {} failed. Check ''stl_load_errors'' system table for details.",
                table.replace('"', "")
            );
            client
                .batch_execute(&format!("DO $$ BEGIN RAISE EXCEPTION '{text}' USING ERRCODE = 'XX000'; END $$"))
                .await?;
        }
        let told =
            format!("SELECT set_config('standin.id', '{id}', false), set_config('standin.count', '{count}', false)");
        client.batch_execute(&told).await
    }
}
